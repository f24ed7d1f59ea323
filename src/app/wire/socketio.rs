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
        Wire::SocketIoChat => b"42/chat,[",
        Wire::SocketIoWallet => b"42/wallet,[",
        _ => b"42[",
    }
}

/// The namespace as it stands in a packet.
const fn namespace(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::SocketIoCustom => b"/custom,",
        Wire::SocketIoChat => b"/chat,",
        Wire::SocketIoWallet => b"/wallet,",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::pattern::Policy;
    use crate::room::publication::{Draft, Target};
    use crate::time::Now;

    const ALL: [Wire; 5] = [
        Wire::SocketIo,
        Wire::SocketIoOffset,
        Wire::SocketIoCustom,
        Wire::SocketIoChat,
        Wire::SocketIoWallet,
    ];

    fn publication(data: &str, sequence: u64) -> Publication {
        let draft = Draft {
            target: Target::Room,
            name: "price:BTC-USDC",
            name_hash: 0,
            event: r#""price_update""#,
            data,
            key: None,
            app: None,
            policy: Policy::Every,
            ts: None,
            except: None,
        };
        let mut publication = Publication::new(&draft, Now::default());
        publication.sequence = sequence;
        publication
    }

    /// What a frame says, its length checked.
    fn text(frame: &[u8]) -> &str {
        assert_eq!(frame[0], 0x81, "one text frame");
        assert_eq!(ws::frame_length(frame), Some(frame.len()));
        let header = [2, 4, 10].into_iter().find(|header| ws::header_length(frame.len() - header) == *header);
        str::from_utf8(&frame[header.expect("a whole frame")..]).expect("UTF-8")
    }

    fn event(wire: Wire, data: &str, sequence: u64) -> String {
        let mut out = Vec::new();
        write_event(&mut out, wire, &publication(data, sequence));
        text(&out).to_owned()
    }

    #[test]
    fn events_carry_the_data_as_it_was_published() {
        let data = r#"{ "symbol":"BTC-USDC", "price":67000.10 }"#;
        let said = ALL.map(|wire| event(wire, data, 123));
        assert_eq!(said[0], format!(r#"42["price_update",{data}]"#));
        assert_eq!(said[1], format!(r#"42["price_update",{data},"123"]"#));
        assert_eq!(said[2], format!(r#"42/custom,["price_update",{data}]"#));
        assert_eq!(said[3], format!(r#"42/chat,["price_update",{data}]"#));
        assert_eq!(said[4], format!(r#"42/wallet,["price_update",{data}]"#));
        assert_eq!(event(Wire::SocketIo, "1,\"two\"", 0), r#"42["price_update",1,"two"]"#);
    }

    #[test]
    fn events_without_data_have_no_argument() {
        let said = ALL.map(|wire| event(wire, "", u64::MAX));
        assert_eq!(said[0], r#"42["price_update"]"#);
        assert_eq!(said[1], r#"42["price_update","18446744073709551615"]"#);
        assert_eq!(said[2], r#"42/custom,["price_update"]"#);
    }

    #[test]
    fn frames_of_any_length_have_their_header() {
        for length in [0, 90, 102, 103, 104, 105, 126, 65_000, 65_535, 65_536, 70_000] {
            let data = format!("\"{}\"", "x".repeat(length));
            for wire in ALL {
                assert!(event(wire, &data, 10_000).contains(&data));
                let mut out = Vec::new();
                write_message(&mut out, wire, "notification", data.as_bytes(), Some(10_000));
                assert!(text(&out).contains(&data));
                out.clear();
                write_packet(
                    &mut out,
                    wire,
                    Kind::Ack(99),
                    Some(3),
                    &[data.as_bytes(), b",", data.as_bytes()],
                );
                assert!(text(&out).contains(&format!("99[{data},{data}]")));
            }
        }
    }

    #[test]
    fn answers_have_an_offset_where_there_is_one_and_the_wire_has_them() {
        let say = |wire, offset| {
            let mut out = Vec::new();
            write_message(&mut out, wire, "connected", b"{}", offset);
            text(&out).to_owned()
        };
        assert_eq!(say(Wire::SocketIoOffset, Some(0)), r#"42["connected",{},"0"]"#);
        assert_eq!(say(Wire::SocketIoOffset, None), r#"42["connected",{}]"#);
        assert_eq!(say(Wire::SocketIo, Some(7)), r#"42["connected",{}]"#);
        assert_eq!(say(Wire::SocketIoCustom, Some(7)), r#"42/custom,["connected",{}]"#);
    }

    #[test]
    fn packets_say_their_kind_attachments_namespace_and_id() {
        let say = |wire, kind, attachments| {
            let mut out = Vec::new();
            write_packet(&mut out, wire, kind, attachments, &[b"1", b",2"]);
            text(&out).to_owned()
        };
        assert_eq!(say(Wire::SocketIo, Kind::Event, None), "42[1,2]");
        assert_eq!(say(Wire::SocketIo, Kind::Ack(0), None), "430[1,2]");
        assert_eq!(say(Wire::SocketIoOffset, Kind::Ack(789), Some(2)), "462-789[1,2]");
        assert_eq!(say(Wire::SocketIoCustom, Kind::Event, Some(10)), "4510-/custom,[1,2]");
        assert_eq!(say(Wire::SocketIoCustom, Kind::Ack(12), Some(1)), "461-/custom,12[1,2]");
        assert_eq!(say(Wire::SocketIoChat, Kind::Ack(12), None), "43/chat,12[1,2]");
        assert_eq!(say(Wire::SocketIoWallet, Kind::Event, None), "42/wallet,[1,2]");
    }
}
