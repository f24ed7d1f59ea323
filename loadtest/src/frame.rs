//! WebSocket frames in place (RFC 6455 §5.2): headers of either direction, and
//! the masked frames a client writes. No sockets, no buffers of its own.

/// Opcodes of RFC 6455 §5.2 that are told apart here.
pub const TEXT: u8 = 1;
/// Close, §5.5.1.
pub const CLOSE: u8 = 8;
/// Ping, §5.5.2.
pub const PING: u8 = 9;
/// Pong, §5.5.3.
pub const PONG: u8 = 10;

/// The key every client frame here is masked with. It protects nobody on
/// loopback; it has to be non-zero so that the server does real unmasking.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A parsed frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// First byte without the FIN bit; reserved bits make it larger than 15.
    pub opcode: u8,
    pub fin: bool,
    pub mask: Option<[u8; 4]>,
    /// Bytes of the header, mask included.
    pub length: usize,
    /// Bytes of the payload.
    pub payload: usize,
}

impl Header {
    /// Bytes of header and payload together. A hostile length saturates and so
    /// never fits a buffer.
    #[inline]
    pub fn total(&self) -> usize {
        self.length.saturating_add(self.payload)
    }
}

/// Reads the header at the start of `bytes`; `None` if it is not complete.
#[inline]
pub fn parse_header(bytes: &[u8]) -> Option<Header> {
    let [first, second, ..] = *bytes else { return None };
    let (payload, mut length) = match second & 0x7f {
        126 => (u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        small => (small as usize, 2),
    };
    let mask = if second & 0x80 != 0 {
        length += 4;
        Some(bytes.get(length - 4..length)?.try_into().ok()?)
    } else {
        None
    };
    Some(Header { opcode: first & 0x7f, fin: first & 0x80 != 0, mask, length, payload })
}

/// Appends the unmasked header a server writes for one whole text message.
#[inline]
pub fn push_server_header(out: &mut Vec<u8>, payload: usize) {
    push_header(out, TEXT, payload, 0);
}

/// Appends one whole masked frame, as a client must (§5.3).
pub fn push_client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

fn push_header(out: &mut Vec<u8>, opcode: u8, payload: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    if payload < 126 {
        out.push(mask_bit | payload as u8);
    } else if let Ok(short) = u16::try_from(payload) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(payload as u64).to_be_bytes());
    }
}

/// Removes a mask in place.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Says in words why a peer closed, from the payload of its close frame.
pub fn describe_close(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("close code {code} `{}`", String::from_utf8_lossy(reason))
        }
        _ => "a close frame without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::frame::{
        Frame, FrameHeader,
        coding::{Data, OpCode},
    };

    #[test]
    fn headers_agree_with_tungstenite() {
        for length in [0, 1, 125, 126, 127, 200, 65_535, 65_536, 100_000] {
            let mut server = Vec::new();
            Frame::message(vec![b'x'; length], OpCode::Data(Data::Text), true)
                .format(&mut server)
                .expect("format");
            let header = parse_header(&server).expect("complete");
            assert_eq!((header.opcode, header.fin, header.mask), (TEXT, true, None));
            assert_eq!((header.payload, header.total()), (length, server.len()));
            let mut ours = Vec::new();
            push_server_header(&mut ours, length);
            assert_eq!(ours, server[..header.length]);

            let mut client = Vec::new();
            push_client_frame(&mut client, TEXT, &vec![b'y'; length]);
            let (parsed, payload) =
                FrameHeader::parse(&mut Cursor::new(&client)).expect("valid").expect("complete");
            assert_eq!((parsed.mask, payload as usize), (Some(MASK), length));
            let header = parse_header(&client).expect("complete");
            assert_eq!(header.total(), client.len());
            unmask(&mut client[header.length..], MASK);
            assert!(client[header.length..].iter().all(|byte| *byte == b'y'));
        }
    }

    #[test]
    fn incomplete_headers_wait() {
        for length in [5, 300, 70_000] {
            let mut frame = Vec::new();
            push_client_frame(&mut frame, TEXT, &vec![0; length]);
            let complete = parse_header(&frame).expect("complete").length;
            for cut in 0..complete {
                assert_eq!(parse_header(&frame[..cut]), None, "{cut} of {complete}");
            }
        }
    }

    #[test]
    fn closes_are_described() {
        assert_eq!(describe_close(&[0x03, 0xf5, b's']), "close code 1013 `s`");
        assert_eq!(describe_close(&[]), "a close frame without a code");
    }
}
