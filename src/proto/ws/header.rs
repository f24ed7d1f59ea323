//! The header of a client's frame (RFC 6455 §5.2) and the rules that need nothing but the header.
//!
//! tungstenite takes the fields apart. A parser by hand saved 2 ns of the 30 that a small message costs
//! (`benches/codec.rs`): not worth a second one.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{CONTROL_BYTES, Violation};

/// Longest header of a masked frame: two bytes, a 64-bit length, the mask.
pub(super) const HEADER_BYTES: usize = 14;

/// What a frame is (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The message goes on.
    Continuation = 0x0,
    /// A text message, or its beginning.
    Text = 0x1,
    /// A binary message, or its beginning.
    Binary = 0x2,
    /// The end.
    Close = 0x8,
    /// Are you there?
    Ping = 0x9,
    /// I am.
    Pong = 0xa,
}

impl Opcode {
    /// Whether it is one of the frames that may stand between the fragments of a message.
    pub(super) const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A header that kept the rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    pub(super) mask: [u8; 4],
    /// Length of the payload, bytes; the top bit is clear.
    pub(super) payload: u64,
}

/// How many bytes the header has that begins with `bytes`, as far as they tell.
pub(super) fn needed(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        None => 2,
        Some(second) => {
            let length = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            2 + length + if second & 0x80 != 0 { 4 } else { 0 }
        }
    }
}

/// Reads the header at the front of `bytes`: it and its length, or `None` while it is incomplete.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    let Some((header, payload)) =
        FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol("reserved opcode"))?
    else {
        return Ok(None);
    };
    let length = cursor.position() as usize;
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::Protocol("reserved bit set, but no extension was agreed on"));
    }
    let Some(mask) = header.mask else {
        return Err(Violation::Protocol("client frames must be masked"));
    };
    if payload >> 63 != 0 {
        return Err(Violation::Protocol("payload length has its top bit set"));
    }
    if header.len(payload) != length {
        return Err(Violation::Protocol("payload length is not in its shortest form"));
    }
    let opcode = match header.opcode {
        OpCode::Data(Data::Continue) => Opcode::Continuation,
        OpCode::Data(Data::Text) => Opcode::Text,
        OpCode::Data(Data::Binary) => Opcode::Binary,
        OpCode::Control(Control::Close) => Opcode::Close,
        OpCode::Control(Control::Ping) => Opcode::Ping,
        OpCode::Control(Control::Pong) => Opcode::Pong,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(Violation::Protocol("reserved opcode"));
        }
    };
    if opcode.is_control() {
        if !header.is_final {
            return Err(Violation::Protocol("control frames must not be fragmented"));
        }
        if payload > CONTROL_BYTES as u64 {
            return Err(Violation::Protocol("control frames carry at most 125 bytes"));
        }
    }
    Ok(Some((Header { opcode, is_final: header.is_final, mask, payload }, length)))
}
