//! Wires `native` and `conversation`: `{"event":NAME,"data":{…},"timestamp":RFC3339}`.

use crate::proto::ws;
use crate::room::publication::Publication;
use crate::time::{self, Now};

const EVENT: &[u8] = br#"{"event":"#;
const DATA: &[u8] = br#","data":"#;
const TIMESTAMP: &[u8] = br#","timestamp":""#;
const END: &[u8] = br#""}"#;

/// How times are written (`spec/decisions.md` 3).
#[derive(Clone, Copy, Debug)]
pub enum Times {
    /// `2025-05-20T14:30:00.000Z`
    Millis,
    /// `2025-05-20T14:30:00Z`
    Seconds,
}

impl Times {
    const fn length(self) -> usize {
        match self {
            Times::Millis => 24,
            Times::Seconds => 20,
        }
    }

    fn write(self, out: &mut Vec<u8>, unix_ms: u64) {
        match self {
            Times::Millis => time::write_millis(out, unix_ms),
            Times::Seconds => time::write_seconds(out, unix_ms),
        }
    }
}

/// Appends the frame of an event.
pub fn write_event(out: &mut Vec<u8>, times: Times, publication: &Publication) {
    let (event, data) = (publication.event(), publication.data());
    let fixed = EVENT.len() + DATA.len() + TIMESTAMP.len() + times.length() + END.len();
    let length = fixed + event.len() + data.len();
    out.reserve(length + 10);
    ws::write_header(out, ws::Opcode::Text, length);
    for part in [EVENT, event, DATA, data, TIMESTAMP] {
        out.extend_from_slice(part);
    }
    times.write(out, publication.received.unix_ms());
    out.extend_from_slice(END);
}

/// Appends the frame of an answer. The name needs no escapes.
pub fn write_message(out: &mut Vec<u8>, times: Times, now: Now, name: &str, object: &[u8]) {
    let fixed = EVENT.len() + DATA.len() + TIMESTAMP.len() + times.length() + END.len();
    let length = fixed + b"\"\"".len() + name.len() + object.len();
    out.reserve(length + 10);
    ws::write_header(out, ws::Opcode::Text, length);
    for part in [EVENT, b"\"", name.as_bytes(), b"\"", DATA, object, TIMESTAMP] {
        out.extend_from_slice(part);
    }
    times.write(out, now.unix_ms());
    out.extend_from_slice(END);
}
