//! Server → client: unmasked, never fragmented (RFC 6455 §5.1, §5.6).
//!
//! Headers are written by hand: tungstenite's `FrameHeader::format` writes through `io::Write` in two or three
//! calls, which the event path, with one header for each event, would notice.

use super::{CONTROL_BYTES, Opcode, REASON_BYTES};

/// Longest payload whose length fits the header's second byte (RFC 6455 §5.2).
const SHORT: usize = 125;
/// Longest payload whose length fits the 16-bit field.
const MEDIUM: usize = u16::MAX as usize;

/// Appends one text frame whose payload is `parts`, in order. They must be UTF-8 when put together.
pub fn write_text(out: &mut Vec<u8>, parts: &[&[u8]]) {
    write_frame(out, Opcode::Text, parts);
}

/// Appends one binary frame whose payload is `parts`, in order.
pub fn write_binary(out: &mut Vec<u8>, parts: &[&[u8]]) {
    write_frame(out, Opcode::Binary, parts);
}

/// Appends a ping; `payload` is cut to [`CONTROL_BYTES`].
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Ping, payload);
}

/// Appends a pong; `payload` is cut to [`CONTROL_BYTES`], which that of a decoded ping never exceeds.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Pong, payload);
}

/// Appends a close frame; `reason` is cut to [`REASON_BYTES`] at a character boundary.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
    write_frame(out, Opcode::Close, &[&code.to_be_bytes(), reason.as_bytes()]);
}

/// Appends the header of a final, unmasked frame; `payload_len` bytes must follow.
#[inline]
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    let first = 0x80 | opcode as u8;
    if payload_len <= SHORT {
        out.extend_from_slice(&[first, payload_len as u8]);
    } else if payload_len <= MEDIUM {
        let [high, low] = (payload_len as u16).to_be_bytes();
        out.extend_from_slice(&[first, 126, high, low]);
    } else {
        let mut header = [first, 127, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
        out.extend_from_slice(&header);
    }
}

/// How many bytes [`write_header`] appends for a payload of that length.
#[inline]
pub const fn header_length(payload_len: usize) -> usize {
    if payload_len <= SHORT {
        2
    } else if payload_len <= MEDIUM {
        4
    } else {
        10
    }
}

/// The length, header and payload, of the unmasked frame at the front of `bytes`, however much of its payload
/// is there; `None` while its header is incomplete. For frames this module wrote: nothing is checked.
#[inline]
pub fn frame_length(bytes: &[u8]) -> Option<usize> {
    match (bytes.get(1)? & 0x7f, bytes) {
        (126, [_, _, high, low, ..]) => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        (127, [_, _, a, b, c, d, e, f, g, h, ..]) => {
            let payload = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            Some(usize::try_from(payload).unwrap_or(usize::MAX).saturating_add(10))
        }
        (126 | 127, _) => None,
        (short, _) => Some(2 + usize::from(short)),
    }
}

fn write_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_frame(out, opcode, &[&payload[..payload.len().min(CONTROL_BYTES)]]);
}

fn write_frame(out: &mut Vec<u8>, opcode: Opcode, parts: &[&[u8]]) {
    let payload_len = parts.iter().map(|part| part.len()).sum();
    out.reserve(header_length(payload_len) + payload_len);
    write_header(out, opcode, payload_len);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_has_its_shortest_header_and_frame_length_reads_it_back() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let mut out = Vec::new();
            write_text(&mut out, &[&payload[..length / 2], &payload[length / 2..]]);
            assert_eq!(out.len(), header_length(length) + length);
            assert_eq!(frame_length(&out), Some(out.len()));
            let header = header_length(length);
            assert_eq!(frame_length(&out[..header]), Some(out.len()), "the header alone is enough");
            for cut in 0..header {
                assert_eq!(frame_length(&out[..cut]), None);
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, 1008, &"é".repeat(100));
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xf0]);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    }

    #[test]
    fn control_payloads_are_cut() {
        let mut out = Vec::new();
        write_ping(&mut out, &[7; 200]);
        assert_eq!(frame_length(&out), Some(127));
        out.clear();
        write_pong(&mut out, b"hi");
        assert_eq!(out, [0x8a, 2, b'h', b'i']);
    }
}
