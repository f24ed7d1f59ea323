//! Wire `typed`: `{"type":NAME,"userId":ID?,"data":{…}}`.

use crate::app::wire::object::put;
use crate::proto::ws;
use crate::room::publication::{Publication, Target};

const TYPE: &[u8] = br#"{"type":"#;
const USER: &[u8] = br#","userId":"#;
const DATA: &[u8] = br#","data":"#;
const END: &[u8] = b"}";

/// Appends the frame of an event. What is published for a user carries the user's id.
pub fn write_event(out: &mut Vec<u8>, publication: &Publication) {
    let (event, data) = (publication.event(), publication.data());
    let mut user = Vec::new();
    if publication.target == Target::User {
        user.extend_from_slice(USER);
        write_user(&mut user, publication.name());
    }
    ws::write_text(out, &[TYPE, event, &user, DATA, data, END]);
}

/// Appends the frame of an answer. The name needs no escapes.
pub fn write_message(out: &mut Vec<u8>, name: &str, object: &[u8]) {
    ws::write_text(out, &[TYPE, b"\"", name.as_bytes(), b"\"", DATA, object, END]);
}

/// A number where the id is a decimal integer below 2^53, which every JSON reader holds exactly; else a string.
fn write_user(out: &mut Vec<u8>, id: &str) {
    match id.parse::<u64>() {
        Ok(number) if number < 1 << 53 && number.to_string() == id => put(out, number),
        _ => put(out, id),
    }
}
