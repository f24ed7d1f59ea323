//! Wire `socketio`: Socket.IO protocol v5 packets as Engine.IO v4 messages, `42["NAME",DATA]`.
//!
//! `4` is Engine.IO's message; then `2` an EVENT, `3` an ACK, `5` a BINARY_EVENT, `6` a BINARY_ACK; the number of
//! attachments and a hyphen where it is binary; the namespace and a comma where it is not `/`; the ack's id; a JSON array.
//! Each packet is a text frame, and each attachment a binary frame behind it.

use crate::audience::Wire;
use crate::proto::ws;
use crate::room::publication::Publication;

/// What kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event.
    Event,
    /// The acknowledgement of the event that carried this id.
    Ack(u64),
}

/// Appends the frame of an event. Without data the event has no argument; the offset is one more argument, a string.
pub fn write_event(out: &mut Vec<u8>, wire: Wire, publication: &Publication) {
    let (event, data) = (publication.event(), publication.data());
    let comma: &[u8] = if data.is_empty() { b"" } else { b"," };
    if wire.has_offset() {
        let offset = Digits::of(publication.sequence);
        ws::write_text(out, &[start(wire), event, comma, data, b",\"", offset.text(), b"\"]"]);
    } else {
        ws::write_text(out, &[start(wire), event, comma, data, b"]"]);
    }
}

/// Appends the frame of the event `name`, which needs no escapes, with one argument; and with the offset where the wire has
/// offsets.
pub fn write_message(out: &mut Vec<u8>, wire: Wire, name: &str, argument: &[u8], offset: Option<u64>) {
    let (start, name) = (start(wire), name.as_bytes());
    match offset.filter(|_| wire.has_offset()) {
        Some(offset) => {
            let offset = Digits::of(offset);
            ws::write_text(out, &[start, b"\"", name, b"\",", argument, b",\"", offset.text(), b"\"]"]);
        }
        None => ws::write_text(out, &[start, b"\"", name, b"\",", argument, b"]"]),
    }
}

/// Appends the frame of a packet. `parts` together are what stands between the brackets of its array; `attachments` is for
/// a binary packet, whose attachments the caller appends.
pub fn write_packet(out: &mut Vec<u8>, wire: Wire, kind: Kind, attachments: Option<usize>, parts: &[&[u8]]) {
    let (digit, id) = match kind {
        Kind::Event => (b'2', None),
        Kind::Ack(id) => (b'3', Some(Digits::of(id))),
    };
    // The binary kinds are three above the others.
    let kind = [b'4', digit + if attachments.is_some() { 3 } else { 0 }];
    let count = attachments.map(|count| Digits::of(count as u64));
    let hyphen: &[u8] = if count.is_some() { b"-" } else { b"" };
    let digits = |number: &'_ Option<Digits>| number.as_ref().map_or(0, |number| number.text().len());
    let namespace = namespace(wire);
    let inside: usize = parts.iter().map(|part| part.len()).sum();
    let head = kind.len() + digits(&count) + hyphen.len() + namespace.len() + digits(&id);
    let length = head + inside + b"[]".len();
    out.reserve(ws::header_length(length) + length);
    ws::write_header(out, ws::Opcode::Text, length);
    out.extend_from_slice(&kind);
    out.extend_from_slice(count.as_ref().map_or(b"", Digits::text));
    out.extend_from_slice(hyphen);
    out.extend_from_slice(namespace);
    out.extend_from_slice(id.as_ref().map_or(b"", Digits::text));
    out.push(b'[');
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b']');
}

/// What an event's packet begins with, bracket included.
const fn start(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::SocketIoCustom => b"42/custom,[",
        _ => b"42[",
    }
}

/// The namespace as it stands in a packet.
const fn namespace(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::SocketIoCustom => b"/custom,",
        _ => b"",
    }
}

/// A number in decimal.
struct Digits {
    /// As many as `u64::MAX` has.
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(mut number: u64) -> Digits {
        let mut digits = Digits { bytes: [0; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.bytes[digits.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
