//! Polling bodies: packets side by side, with [`SEPARATOR`] between them.
//!
//! Text packets stand as they are, which is safe because JSON escapes the separator; binary ones as `b` and base64.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Malformed, Packet, decode};
use crate::proto::ws::{Opcode, frame_length};

/// What stands between two packets of a polling body: the record separator of ASCII.
pub const SEPARATOR: char = '\x1e';

/// Standard base64: written with padding, read with or without. Bits that a careless encoder left behind the last
/// byte do not matter; the reference takes anything at all.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The packets of a polling body, in order. As in the reference, an empty body or an empty piece of it is
/// [`Malformed::Empty`], and nothing is read after the first fault; what came before it counts.
///
/// The body's size is bounded by the caller, and so is the number of packets, at one for every two bytes.
pub fn payload(body: &str) -> Payload<'_> {
    Payload { rest: Some(body) }
}

/// See [`payload`].
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    /// What is not read yet; `None` after the last packet or a fault.
    rest: Option<&'a str>,
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Packet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let (piece, after) = match rest.split_once(SEPARATOR) {
            Some((piece, after)) => (piece, Some(after)),
            None => (rest, None),
        };
        let packet = match piece.strip_prefix('b') {
            Some(base64) => decode_binary(base64),
            None => decode(piece),
        };
        self.rest = after.filter(|_| packet.is_ok());
        Some(packet)
    }
}

fn decode_binary(base64: &str) -> Result<Packet<'_>, Malformed> {
    let decoded = if base64.bytes().any(|byte| byte.is_ascii_whitespace()) {
        // The Java client breaks lines after 76 characters, and ends the last one too.
        BASE64.decode(base64.replace(|c: char| c.is_ascii_whitespace(), ""))
    } else {
        BASE64.decode(base64)
    };
    decoded.map(|bytes| Packet::Binary(Cow::Owned(bytes))).map_err(|_| Malformed::Base64)
}

/// Appends `packet`, the text of one packet, to the polling body that begins at `start` in `out`.
#[inline]
pub fn append_packet(out: &mut Vec<u8>, start: usize, packet: &[u8]) {
    if out.len() > start {
        out.push(SEPARATOR as u8);
    }
    out.extend_from_slice(packet);
}

/// Appends the packets that are in `frames` to the polling body that begins at `start` in `out`.
///
/// `frames` are whole frames that [`ws`](crate::proto::ws) wrote, one after the other: unmasked and never
/// fragmented. A text frame holds a packet's text, a binary frame a binary packet; control frames, which a polling
/// client has no use for, are passed over. A frame that is not whole ends the work.
pub fn append_frames(out: &mut Vec<u8>, start: usize, frames: &[u8]) {
    // A text packet with its separator is never longer than its frame.
    out.reserve(frames.len());
    let mut rest = frames;
    while let Some((frame, after)) = frame_length(rest).and_then(|length| rest.split_at_checked(length)) {
        rest = after;
        let [first, second, ..] = *frame else { break };
        let header = match second & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let payload = frame.get(header..).unwrap_or_default();
        if first & 0x0f == Opcode::Text as u8 {
            append_packet(out, start, payload);
        } else if first & 0x0f == Opcode::Binary as u8 {
            append_packet(out, start, b"");
            write_binary(out, payload);
        }
    }
}

/// Appends a binary packet.
pub(super) fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'b');
    let start = out.len();
    // Base64 is four characters for every three bytes begun.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(bytes, &mut out[start..]);
    debug_assert_eq!(written, Ok(out.len() - start));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::ws;

    fn any_packet() -> impl Strategy<Value = (u8, String, Vec<u8>)> {
        // What a message may hold: anything but the separator, which JSON escapes.
        (0u8..8, "[^\u{1e}]{0,200}", proptest::collection::vec(any::<u8>(), 0..200))
    }

    fn packet((kind, text, bytes): &(u8, String, Vec<u8>)) -> Packet<'_> {
        match kind {
            0 => Packet::Open(text),
            1 => Packet::Close,
            2 => Packet::Ping(text),
            3 => Packet::Pong(text),
            4 => Packet::Message(text),
            5 => Packet::Upgrade,
            6 => Packet::Noop,
            _ => Packet::Binary(Cow::Borrowed(bytes)),
        }
    }

    #[test]
    fn frames_of_every_length_become_packets_behind_what_is_there() {
        for length in [0, 1, 124, 125, 126, 127, 65_535, 65_536] {
            let text = format!("4{}", "x".repeat(length));
            let mut frames = Vec::new();
            ws::write_ping(&mut frames, b"over");
            ws::write_text(&mut frames, &[text.as_bytes()]);
            ws::write_pong(&mut frames, b"");
            ws::write_text(&mut frames, &[b"6"]);
            ws::write_close(&mut frames, 1000, "bye");
            let mut out = b"head".to_vec();
            append_frames(&mut out, 4, &frames);
            assert_eq!(out, format!("head{text}\x1e6").into_bytes());
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_ends_the_work() {
        let mut frames = Vec::new();
        ws::write_text(&mut frames, &[b"4one"]);
        let first = frames.len();
        ws::write_text(&mut frames, &[b"4two"]);
        for cut in first..frames.len() {
            let mut out = Vec::new();
            append_frames(&mut out, 0, &frames[..cut]);
            assert_eq!(out, b"4one");
        }
    }

    proptest! {
        #[test]
        fn packets_are_read_as_they_were_written(packets in proptest::collection::vec(any_packet(), 1..12)) {
            let packets: Vec<Packet<'_>> = packets.iter().map(packet).collect();
            let mut body = Vec::new();
            let mut frames = Vec::new();
            for packet in &packets {
                let mut text = Vec::new();
                packet.write(&mut text);
                append_packet(&mut body, 0, &text);
                match packet {
                    Packet::Binary(bytes) => ws::write_binary(&mut frames, &[bytes]),
                    _ => ws::write_text(&mut frames, &[&text]),
                }
            }
            let mut from_frames = Vec::new();
            append_frames(&mut from_frames, 0, &frames);
            prop_assert_eq!(&body, &from_frames);
            let body = String::from_utf8(body).expect("text");
            let read: Result<Vec<Packet<'_>>, Malformed> = payload(&body).collect();
            prop_assert_eq!(read, Ok(packets));
        }

        #[test]
        fn nothing_panics(text in any::<String>(), frames in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&text);
            prop_assert!(payload(&text).count() <= text.len() + 1);
            let near: String = text.chars().map(|c| ['\x1e', 'b', '4', 'A', '='][c as usize % 5]).collect();
            let pieces = near.split(SEPARATOR).count();
            let read: Vec<_> = payload(&near).collect();
            prop_assert!(read.len() <= pieces);
            prop_assert_eq!(read.len() < pieces || read.last().is_some_and(Result::is_err), read.iter().any(Result::is_err));
            let mut out = Vec::new();
            append_frames(&mut out, 0, &frames);
            prop_assert!(out.len() <= 2 * frames.len());
        }
    }
}
