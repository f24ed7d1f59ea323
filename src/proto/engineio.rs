//! Engine.IO v4: the packets below Socket.IO, as WebSocket messages and as polling bodies.
//!
//! [`decode`] reads one packet, [`payload`] the packets of a polling body, [`append_frames`] turns WebSocket frames
//! into a polling body, and [`Query`] says what a request asks for. Sessions, timers, upgrades and what a message
//! means are not known here.

mod payload;
mod request;

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::Duration;

use crate::proto::json::write_str;

pub use payload::{Payload, SEPARATOR, append_frames, append_packet, payload};
pub use request::{Query, RequestError, TransportName};

/// The version this module speaks: the value of `EIO` in a query.
pub const VERSION: &str = "4";

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The server's greeting, see [`write_open`].
    Open(&'a str),
    /// The session is over.
    Close,
    /// Are you there? Servers send it; `probe` in it, from a client, asks whether a WebSocket works.
    Ping(&'a str),
    /// I am; with what the ping held.
    Pong(&'a str),
    /// A text message.
    Message(&'a str),
    /// A binary message: a binary WebSocket message as it is, or `b` and base64 in a polling body.
    Binary(Cow<'a, [u8]>),
    /// From now on, this WebSocket is the session's transport.
    Upgrade,
    /// Nothing; it ends a poll that has nothing to tell.
    Noop,
}

/// Why a packet is not taken. The session ends: the reference closes it with `parse error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A packet without a type: an empty message, an empty body, or nothing between two separators.
    Empty,
    /// The first character is no packet type.
    UnknownType,
    /// What follows `b` is not base64.
    Base64,
}

impl Malformed {
    /// What was wrong, in words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Malformed::Empty => "an Engine.IO packet is empty: it begins with its type, 0 to 6",
            Malformed::UnknownType => "an Engine.IO packet begins with its type, 0 to 6",
            Malformed::Base64 => "a binary Engine.IO packet of a polling body is b and then base64",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Malformed {}

/// Reads the packet that a WebSocket text message is.
///
/// As in the reference, what follows the type of a packet that carries nothing is passed over. Unlike it, the `b`
/// form is refused here: a WebSocket has binary messages, and no client sends it so.
///
/// # Errors
/// [`Malformed::Empty`] and [`Malformed::UnknownType`].
pub fn decode(text: &str) -> Result<Packet<'_>, Malformed> {
    let kind = text.as_bytes().first().ok_or(Malformed::Empty)?;
    let data = text.get(1..).unwrap_or_default();
    Ok(match kind {
        b'0' => Packet::Open(data),
        b'1' => Packet::Close,
        b'2' => Packet::Ping(data),
        b'3' => Packet::Pong(data),
        b'4' => Packet::Message(data),
        b'5' => Packet::Upgrade,
        b'6' => Packet::Noop,
        _ => return Err(Malformed::UnknownType),
    })
}

impl Packet<'_> {
    /// Appends the packet as it stands in a polling body, which for all but [`Packet::Binary`] is the text of the
    /// WebSocket message too.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self {
            Packet::Open(data) => (b'0', *data),
            Packet::Close => (b'1', ""),
            Packet::Ping(data) => (b'2', *data),
            Packet::Pong(data) => (b'3', *data),
            Packet::Message(data) => (b'4', *data),
            Packet::Upgrade => (b'5', ""),
            Packet::Noop => (b'6', ""),
            Packet::Binary(bytes) => return payload::write_binary(out, bytes),
        };
        out.push(kind);
        out.extend_from_slice(data.as_bytes());
    }
}

/// What the server tells a client first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The session's id, which is a secret.
    pub sid: &'a str,
    /// Whether the client may go on to a WebSocket: it polls, and upgrades are allowed.
    pub can_upgrade: bool,
    /// How often the server pings; told in milliseconds.
    pub ping_interval: Duration,
    /// How long it then waits for the pong; told in milliseconds.
    pub ping_timeout: Duration,
    /// The longest polling body and the longest message the server takes, bytes.
    pub max_payload: usize,
}

/// Appends the text of the [`Packet::Open`] that says `handshake`, its members in the reference's order.
pub fn write_open(out: &mut Vec<u8>, handshake: &Handshake<'_>) {
    out.extend_from_slice(b"0{\"sid\":");
    write_str(out, handshake.sid);
    out.extend_from_slice(b",\"upgrades\":");
    out.extend_from_slice(if handshake.can_upgrade { b"[\"websocket\"]" } else { b"[]" });
    // Writing into a vector cannot fail.
    let _ = write!(
        out,
        ",\"pingInterval\":{},\"pingTimeout\":{},\"maxPayload\":{}}}",
        handshake.ping_interval.as_millis(),
        handshake.ping_timeout.as_millis(),
        handshake.max_payload
    );
}
