//! What others are told of changes.

use super::*;
use crate::record::Effect;
use crate::room::name::RoomName;

fn two() -> [SmolStr; 2] {
    ["ada".into(), "bob".into()]
}

/// Each publication, whether a room forbids it, and whether its delivery is to be noted.
fn words(effect: &Effect) -> Vec<(String, Option<RoomName>, Option<Delivered>)> {
    let now = Now { mono: 0, unix: AT * 1_000_000 };
    tell(effect, now).into_iter().map(|told| (said(&told.publication), told.unless, told.delivered)).collect()
}

fn to(user: &str, event: &str, data: &str) -> String {
    format!(r#"publish User "{user}" "{event}" {data}"#)
}

#[test]
fn a_new_message_is_told_to_both_and_counted_for_who_has_not_joined() {
    let effect = Effect::MessageNew {
        participants: two(),
        message: message("hi"),
        sender: Some(Person::unknown("ada")),
        unread: vec![("bob".into(), 3)],
    };
    let data = new_message("hi", "null");
    let delivered = Delivered { conversation: CONVERSATION, message: MESSAGE, to: "bob".into() };
    let marker = RoomName::joined(CONVERSATION, "bob");
    assert!(!marker.is_public());
    let expected = vec![
        (to("ada", "message:new", &data), None, None),
        (to("bob", "message:new", &data), None, Some(delivered)),
        (to("bob", "conversation:unread", &unread(&last_message("hi"))), Some(marker), None),
    ];
    assert_eq!(words(&effect), expected);
}

#[test]
fn a_message_of_a_backend_has_no_sender_to_tell_of_its_delivery() {
    let said = Message { sender: None, kind: MessageType::System, ..message("hi") };
    let effect = Effect::MessageNew { participants: two(), message: said, sender: None, unread: Vec::new() };
    let words = words(&effect);
    assert_eq!(words.len(), 2);
    for (text, unless, delivered) in words {
        assert!(text.ends_with(r#""sender":{"id":null,"username":null,"avatar_url":null}}"#), "{text}");
        assert!(text.contains(r#""sender_id":null,"content":"hi","type":"system""#), "{text}");
        assert_eq!((unless, delivered), (None, None));
    }
}

#[test]
fn views_and_deletions_are_told_to_both_and_deliveries_to_the_sender() {
    let ids = format!(r#""message_id":"{M}","conversation_id":"{C}""#);
    let (conversation, message) = (CONVERSATION, MESSAGE);
    let effect = Effect::Viewed {
        conversation,
        participants: two(),
        message,
        by: "bob".into(),
        viewed_at: AT,
        unread: 0,
    };
    let data = format!(r#"{{{ids},"viewed_at":"{TIME}"}}"#);
    let both = |event: &str, data: &str| ["ada", "bob"].map(|user| (to(user, event, data), None, None));
    assert_eq!(words(&effect), both("message:viewed", &data));
    let deleted = |by: Option<&str>, unread| Effect::Deleted {
        conversation,
        participants: two(),
        message,
        by: by.map(Into::into),
        at: AT,
        unread,
        last: None,
    };
    let data = format!(r#"{{{ids},"deleted_by":null,"deleted_at":"{TIME}"}}"#);
    assert_eq!(words(&deleted(None, Vec::new())), both("message:deleted", &data));
    let said = words(&deleted(Some("ada"), vec![("bob".into(), 3)]));
    let data = format!(r#"{{{ids},"deleted_by":"ada","deleted_at":"{TIME}"}}"#);
    assert_eq!(said[..2], both("message:deleted", &data));
    let marker = RoomName::joined(CONVERSATION, "bob");
    assert_eq!(said[2..], [(to("bob", "conversation:unread", &unread("null")), Some(marker), None)]);
    let effect = Effect::Delivered { conversation, message, sender: "ada".into(), delivered_at: AT };
    let data = format!(r#"{{{ids},"delivered_at":"{TIME}"}}"#);
    assert_eq!(words(&effect), [(to("ada", "message:delivered", &data), None, None)]);
    assert_eq!(words(&Effect::ConversationNew { conversation, participants: two() }), []);
}

#[test]
fn contacts_are_told_who_comes_and_goes() {
    let now = Now { mono: 0, unix: AT * 1_000_000 };
    let words = |username, is_online| {
        let coming = coming("ada", username, is_online, now);
        ["bob", "eve"].map(|contact| said(&coming.to_user(contact)))
    };
    let data = format!(r#"{{"user_id":"ada","username":"Ada","online_at":"{TIME}"}}"#);
    assert_eq!(words(Some("Ada"), true), ["bob", "eve"].map(|user| to(user, "user:online", &data)));
    let data = format!(r#"{{"user_id":"ada","username":null,"offline_at":"{TIME}"}}"#);
    assert_eq!(words(None, false), ["bob", "eve"].map(|user| to(user, "user:offline", &data)));
}
