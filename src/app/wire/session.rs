//! Wire `session`: `{"message_type":NAME,"chat_session_id":…,"user_id":…,"content":…?,"timestamp":…,"metadata":{…}}`.
//!
//! Times have neither zone nor fraction. What the app says itself is the object behind the name, whole; of what a backend
//! publishes the data is the metadata.

use crate::app::wire::object::put;
use crate::proto::ws;
use crate::room::publication::{Publication, Target};
use crate::time;

const NAME: &[u8] = br#"{"message_type":"#;
const USER: &[u8] = br#","chat_session_id":null,"user_id":"#;
const TIME: &[u8] = br#","timestamp":""#;
const METADATA: &[u8] = br#"","metadata":"#;
const END: &[u8] = b"}";

/// Appends a time: `2025-12-29T10:05:00`.
pub fn write_time(out: &mut Vec<u8>, unix_ms: u64) {
    time::write_seconds(out, unix_ms);
    // The zone.
    out.pop();
}

/// Appends the frame of an event. Clients of this wire are in no room but those in which the app itself speaks.
pub fn write_event(out: &mut Vec<u8>, publication: &Publication) {
    let (event, data) = (publication.event(), publication.data());
    if publication.target == Target::Room {
        return write(out, event, data);
    }
    let (mut user, mut at) = (Vec::new(), Vec::new());
    match publication.target {
        Target::User => put(&mut user, publication.name()),
        Target::Room | Target::Broadcast => put(&mut user, ()),
    }
    write_time(&mut at, publication.received.unix_ms());
    ws::write_text(out, &[NAME, event, USER, &user, TIME, &at, METADATA, data, END]);
}

/// Appends the frame of an answer. The name needs no escapes.
pub fn write_message(out: &mut Vec<u8>, name: &str, object: &[u8]) {
    write(out, format!("\"{name}\"").as_bytes(), object);
}

/// `object` has members.
fn write(out: &mut Vec<u8>, name: &[u8], object: &[u8]) {
    ws::write_text(out, &[NAME, name, b",", object.get(1..).unwrap_or(END)]);
}
