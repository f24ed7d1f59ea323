//! Socket.IO protocol version 5: the packets within Engine.IO messages.
//!
//! [`decode`] reads the text of one packet, [`Assembly`] gathers the binary messages that follow some, [`write_head`]
//! and its like write texts. Namespaces and events that exist, sessions, acks that are awaited, and how a text
//! travels are not known here.
//!
//! What is good is what the reference's parser takes, but that numbers must be decimal digits: it also takes white
//! space, an empty text and `0x1` for numbers, as JavaScript does, and nobody sends them.

mod assembly;
mod encode;

use std::fmt;

use crate::proto::json::{JsonError, Parser, Raw};

pub use assembly::{Assembly, placeholders_valid};
pub use encode::{write_connect, write_connect_error, write_head};

/// The namespace of a packet that names none.
pub const MAIN: &str = "/";

/// Event names that no packet may have: they mean something within the peers.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// What a packet is; the values are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Join a namespace; joined.
    Connect = 0,
    /// Leave a namespace; thrown out of it.
    Disconnect = 1,
    /// An event.
    Event = 2,
    /// The answer to an event that had an id.
    Ack = 3,
    /// A namespace was not joined. Only servers send it.
    ConnectError = 4,
    /// An event with attachments.
    BinaryEvent = 5,
    /// An answer with attachments.
    BinaryAck = 6,
}

impl Kind {
    /// The kind of that value, an ASCII digit.
    pub const fn from_digit(digit: u8) -> Option<Kind> {
        Some(match digit {
            b'0' => Kind::Connect,
            b'1' => Kind::Disconnect,
            b'2' => Kind::Event,
            b'3' => Kind::Ack,
            b'4' => Kind::ConnectError,
            b'5' => Kind::BinaryEvent,
            b'6' => Kind::BinaryAck,
            _ => return None,
        })
    }

    /// The value on the wire, an ASCII digit.
    pub const fn digit(self) -> u8 {
        b'0' + self as u8
    }

    /// Whether binary messages may follow the text.
    pub const fn is_binary(self) -> bool {
        matches!(self, Kind::BinaryEvent | Kind::BinaryAck)
    }

    /// Whether it is an event, with or without attachments.
    pub const fn is_event(self) -> bool {
        matches!(self, Kind::Event | Kind::BinaryEvent)
    }

    /// Whether it answers an event, with or without attachments.
    pub const fn is_ack(self) -> bool {
        matches!(self, Kind::Ack | Kind::BinaryAck)
    }
}

/// The text of a packet, read. What may not be in `data` of its kind is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: Kind,
    /// How many binary messages follow; 0 unless [`Kind::is_binary`].
    pub attachments: u32,
    /// Begins with `/` and has no comma. A query in it (`/chat?a=b`) is part of the name: only the protocol before
    /// this one took it off, and the reference does so for those clients alone.
    pub namespace: &'a str,
    /// The id of an event that wants an ack, or of the event that an ack answers. Any kind may carry one.
    pub id: Option<u64>,
    /// An object for [`Kind::Connect`], nothing for [`Kind::Disconnect`], a string or an object for
    /// [`Kind::ConnectError`], else an array, which for events begins with the name: a number, or a string that is
    /// not one of [`RESERVED_EVENTS`]. Placeholders of attachments stand as they were sent.
    ///
    /// Every kind may come without: an event is then none, as in the reference, an ack has no arguments.
    pub data: Option<Raw<'a>>,
}

impl<'a> Packet<'a> {
    /// The name of an event, a string or a number.
    pub fn event(&self) -> Option<Raw<'a>> {
        self.data.filter(|_| self.kind.is_event()).and_then(|data| data.items().next())
    }

    /// What stands behind the name of an event; what an ack answers.
    pub fn arguments(&self) -> impl Iterator<Item = Raw<'a>> {
        let name = usize::from(self.kind.is_event());
        self.data.into_iter().flat_map(Raw::items).skip(name)
    }
}

/// Why a packet is not taken. The reference closes the whole connection for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not begin with a [`Kind`].
    UnknownKind,
    /// The number of attachments is no number, or the hyphen behind it is missing.
    Attachments,
    /// More attachments than allowed.
    TooManyAttachments,
    /// The id is larger than any number here.
    Id,
    /// The payload is not JSON, or nested too deeply.
    Json(JsonError),
    /// The payload is not what this kind of packet carries, or a reserved event name.
    Payload,
    /// A placeholder names an attachment that is not there.
    Placeholder,
}

impl Malformed {
    /// What was wrong, in words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Malformed::UnknownKind => "a Socket.IO packet begins with its kind, 0 to 6",
            Malformed::Attachments => {
                "a binary Socket.IO packet needs its number of attachments and a hyphen behind its kind"
            }
            Malformed::TooManyAttachments => "the Socket.IO packet has too many attachments; send fewer",
            Malformed::Id => "the id of the Socket.IO packet is too large",
            Malformed::Json(JsonError::TooDeep) => "the payload of the Socket.IO packet is nested too deeply",
            Malformed::Json(_) => "the payload of the Socket.IO packet is not JSON",
            Malformed::Payload => {
                "the payload of the Socket.IO packet does not fit its kind: an event is an array that begins with a \
                 name that is not reserved"
            }
            Malformed::Placeholder => {
                "a placeholder names an attachment that the Socket.IO packet does not have"
            }
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Malformed {}

/// Reads the text of one packet: kind, attachments and `-`, namespace and `,`, id, payload, of which all but the
/// kind may be missing. For a packet with attachments an [`Assembly`] is to be begun.
///
/// # Errors
/// The first thing that is wrong with it; the depth limit of JSON is the parser's.
pub fn decode<'a>(text: &'a str, parser: &mut Parser, max_attachments: u32) -> Result<Packet<'a>, Malformed> {
    let kind = text.bytes().next().and_then(Kind::from_digit).ok_or(Malformed::UnknownKind)?;
    let rest = text.get(1..).unwrap_or_default();
    let (attachments, rest) =
        if kind.is_binary() { split_attachments(rest, max_attachments)? } else { (0, rest) };
    let (namespace, rest) = split_namespace(rest);
    let (id, rest) = split_id(rest)?;
    let data = match rest {
        "" => None,
        payload => Some(parser.parse(payload.as_bytes()).map_err(Malformed::Json)?),
    };
    match data {
        Some(data) if !fits(kind, data) => Err(Malformed::Payload),
        _ => Ok(Packet { kind, attachments, namespace, id, data }),
    }
}

/// `2-…` → 2 and what follows.
fn split_attachments(text: &str, max_attachments: u32) -> Result<(u32, &str), Malformed> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').filter(|_| !digits.is_empty()).ok_or(Malformed::Attachments)?;
    match digits.parse() {
        Ok(0) => Err(Malformed::Attachments),
        Ok(count) if count <= max_attachments => Ok((count, rest)),
        _ => Err(Malformed::TooManyAttachments),
    }
}

/// `/name,…` → `/name` and what follows. A name without a comma goes on to the end.
fn split_namespace(text: &str) -> (&str, &str) {
    if text.starts_with('/') { text.split_once(',').unwrap_or((text, "")) } else { (MAIN, text) }
}

fn split_id(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    match split_digits(text) {
        ("", rest) => Ok((None, rest)),
        (digits, rest) => Ok((Some(digits.parse().map_err(|_| Malformed::Id)?), rest)),
    }
}

/// The decimal digits at the front of `text`, and the rest.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Whether a packet of that kind may carry that payload.
fn fits(kind: Kind, data: Raw<'_>) -> bool {
    match kind {
        Kind::Connect => data.is_object(),
        Kind::Disconnect => false,
        Kind::ConnectError => data.is_string() || data.is_object(),
        Kind::Event | Kind::BinaryEvent => data.items().next().is_some_and(is_event_name),
        Kind::Ack | Kind::BinaryAck => data.is_array(),
    }
}

fn is_event_name(name: Raw<'_>) -> bool {
    match name.as_str() {
        Some(name) => !RESERVED_EVENTS.contains(&&*name),
        None => name.is_number(),
    }
}

#[cfg(test)]
mod tests;
