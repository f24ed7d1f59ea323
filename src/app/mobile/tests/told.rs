//! What others are told of changes.

use super::*;
use crate::record::mobile::MobileEffect;

#[test]
fn a_message_is_told_to_all_connections_of_both_users() {
    let now = Now { mono: 0, unix: AT * 1_000_000 };
    let words = |message: PersonalMessage| {
        tell(&MobileEffect::Message(message), now).map(|told| (said(&told), told.message))
    };
    // The recipient's knows its number, so that each connection is sent it once.
    assert_eq!(
        words(message(7, "hi")),
        [
            (format!(r#"publish "bob" "message:received" {}"#, written("hi")), 7),
            (format!(r#"publish "ada" "message:received" {}"#, written("hi")), 0),
        ]
    );
    assert_eq!(
        words(media(8)),
        [
            (format!(r#"publish "ada" "media:received" {}"#, written_media()), 8),
            (format!(r#"publish "bob" "media:received" {}"#, written_media()), 0),
        ]
    );
}
