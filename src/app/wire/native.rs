//! Wire `native`: `{"event":NAME,"data":{…},"timestamp":RFC3339}`.

use crate::app::wire::object::{Object, put};
use crate::proto::ws;
use crate::room::publication::Publication;
use crate::time::{self, Now};

const EVENT: &[u8] = br#"{"event":"#;
const DATA: &[u8] = br#","data":"#;
const TIMESTAMP: &[u8] = br#","timestamp":""#;
const END: &[u8] = br#""}"#;
/// `2025-05-20T14:30:00.000Z`
const TIME_LENGTH: usize = 24;

/// Appends the frame of an event.
pub fn write_event(out: &mut Vec<u8>, publication: &Publication) {
    let (event, data) = (publication.event(), publication.data());
    let fixed = EVENT.len() + DATA.len() + TIMESTAMP.len() + TIME_LENGTH + END.len();
    let length = fixed + event.len() + data.len();
    out.reserve(length + 10);
    ws::write_header(out, ws::Opcode::Text, length);
    for part in [EVENT, event, DATA, data, TIMESTAMP] {
        out.extend_from_slice(part);
    }
    time::write_millis(out, publication.received.unix_ms());
    out.extend_from_slice(END);
}

/// Appends the text of an answer.
pub fn write_message(out: &mut Vec<u8>, now: Now, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(EVENT);
    put(out, name);
    out.extend_from_slice(DATA);
    Object::write(out, fill);
    out.extend_from_slice(TIMESTAMP);
    time::write_millis(out, now.unix_ms());
    out.extend_from_slice(END);
}
