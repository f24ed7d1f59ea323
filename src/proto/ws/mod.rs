//! WebSocket frames (RFC 6455): [`Decoder`] for client → server, the `write_*` functions for server → client.
//!
//! Knows frames, messages and their rules; must not know sockets, rate limits, JSON or what a message means.
//! No extension is negotiated, so the reserved bits are always a fault.

mod decode;
mod encode;
mod header;

pub use decode::Decoder;
pub use encode::{
    frame_length, header_length, write_binary, write_close, write_header, write_ping, write_pong, write_text,
};
pub use header::Opcode;

/// Longest payload of a control frame, bytes (RFC 6455 §5.5).
pub const CONTROL_BYTES: usize = 125;

/// Longest reason in a close frame, bytes: a control payload less the two of the code (RFC 6455 §5.5.1).
pub const REASON_BYTES: usize = CONTROL_BYTES - 2;

/// One message, reassembled and unmasked. It borrows from the input when it lay whole there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, known to be UTF-8.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload (RFC 6455 §5.5.2).
    Ping(&'a [u8]),
    /// An answer to a ping, or an unasked sign of life (RFC 6455 §5.5.3).
    Pong(&'a [u8]),
    /// The last frame the client sends; to be answered with a close frame unless one was sent before.
    Close {
        /// `None` when the frame had no payload. Otherwise a code that may stand on the wire.
        code: Option<u16>,
        /// At most [`REASON_BYTES`].
        reason: &'a str,
    },
}

/// How a client broke the protocol: the connection fails with [`Violation::code`] (RFC 6455 §7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame that RFC 6455 forbids; the text says which rule, in words for the close frame.
    Protocol(&'static str),
    /// Text, or the reason of a close frame, that is not UTF-8.
    InvalidUtf8,
    /// The announced message is over the size limit.
    TooLarge,
}

impl Violation {
    /// The close code that tells the client (RFC 6455 §7.4.1).
    pub const fn code(self) -> u16 {
        match self {
            Violation::Protocol(_) => 1002,
            Violation::InvalidUtf8 => 1007,
            Violation::TooLarge => 1009,
        }
    }

    /// What was wrong, short enough for a close frame.
    pub const fn text(self) -> &'static str {
        match self {
            Violation::Protocol(rule) => rule,
            Violation::InvalidUtf8 => "text is not UTF-8",
            Violation::TooLarge => "message too large",
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for Violation {}
