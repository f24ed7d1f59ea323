//! The lines that a backend is sent (`spec/ingest.md`). Each function appends one line with its line feed.

use std::io::Write;

use uuid::Uuid;

use super::Target;
use crate::audience::App;
use crate::close::ErrorCode;
use crate::proto::json::write_str;

/// Line number `line` was not taken.
pub fn write_error(out: &mut Vec<u8>, line: u64, id: Option<&str>, code: ErrorCode, message: &str) {
    out.extend_from_slice(b"{\"ok\":false,\"line\":");
    write_number(out, line);
    out.extend_from_slice(b",\"id\":");
    match id {
        Some(id) => write_str(out, id),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"error\":{\"code\":\"");
    out.extend_from_slice(code.as_str().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    write_str(out, message);
    out.extend_from_slice(b"}}\n");
}

/// The event with this `id` was accepted as number `offset` of its target and addressed to so many `subscribers`;
/// `duplicate`: it had been before.
pub fn write_ack(
    out: &mut Vec<u8>,
    id: &str,
    target: &Target<'_>,
    offset: u64,
    subscribers: u64,
    duplicate: bool,
) {
    out.extend_from_slice(b"{\"id\":");
    write_str(out, id);
    out.extend_from_slice(b",\"ok\":true,");
    match target {
        Target::Room(name) => {
            out.extend_from_slice(b"\"room\":");
            write_str(out, name);
        }
        Target::User(id) => {
            out.extend_from_slice(b"\"user\":");
            write_str(out, id);
        }
        Target::Broadcast => out.extend_from_slice(b"\"broadcast\":true"),
    }
    out.extend_from_slice(b",\"offset\":");
    write_number(out, offset);
    out.extend_from_slice(b",\"subscribers\":");
    write_number(out, subscribers);
    if duplicate {
        out.extend_from_slice(b",\"duplicate\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// An `auth` or a `listen` was carried out.
pub fn write_ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ok\":true}\n");
}

/// A `ping` was read.
pub fn write_pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"op\":\"pong\"}\n");
}

/// A `disconnect` closed so many connections.
pub fn write_disconnected(out: &mut Vec<u8>, connections: u64) {
    out.extend_from_slice(b"{\"ok\":true,\"connections\":");
    write_number(out, connections);
    out.extend_from_slice(b"}\n");
}

/// So many rooms are known, and so many subscriptions they have together.
pub fn write_rooms(out: &mut Vec<u8>, rooms: u64, subscribers: u64) {
    out.extend_from_slice(b"{\"ok\":true,\"rooms\":");
    write_number(out, rooms);
    out.extend_from_slice(b",\"subscribers\":");
    write_number(out, subscribers);
    out.extend_from_slice(b"}\n");
}

/// A user has so many connections.
pub fn write_presence(out: &mut Vec<u8>, user: &str, connections: u64) {
    out.extend_from_slice(b"{\"ok\":true,\"user\":");
    write_str(out, user);
    out.extend_from_slice(b",\"online\":");
    out.extend_from_slice(if connections > 0 { b"true" } else { b"false" });
    out.extend_from_slice(b",\"connections\":");
    write_number(out, connections);
    out.extend_from_slice(b"}\n");
}

/// A `conversation.create` is durable; `duplicate`: these two had this conversation before.
pub fn write_conversation(out: &mut Vec<u8>, id: Option<&str>, conversation: Uuid, duplicate: bool) {
    write_done(out, id, conversation);
    if duplicate {
        out.extend_from_slice(b",\"duplicate\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// A `conversation.message` is durable; `duplicate`: it had been said before.
pub fn write_message(
    out: &mut Vec<u8>,
    id: Option<&str>,
    conversation: Uuid,
    message: Uuid,
    duplicate: bool,
) {
    write_done(out, id, conversation);
    // Writing into a vector cannot fail.
    let _ = write!(out, ",\"message_id\":\"{message}\"");
    if duplicate {
        out.extend_from_slice(b",\"duplicate\":true");
    }
    out.extend_from_slice(b"}\n");
}

fn write_done(out: &mut Vec<u8>, id: Option<&str>, conversation: Uuid) {
    out.push(b'{');
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        write_str(out, id);
        out.push(b',');
    }
    let _ = write!(out, "\"ok\":true,\"conversation_id\":\"{conversation}\"");
}

/// What a client sent that is meant for backends.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The client's user; `None` if it has not said who it is.
    pub user: Option<&'a str>,
    /// The client's connection.
    pub connection: &'a str,
    /// The client's app.
    pub app: App,
    /// The event's name.
    pub event: &'a str,
    /// The payload: valid JSON. It is written as it stands, but that its line ends become spaces.
    pub data: &'a [u8],
    /// When it came, RFC 3339.
    pub received_at: &'a str,
}

/// A client's event, for the backends that listen.
pub fn write_received(out: &mut Vec<u8>, received: &Received<'_>) {
    out.extend_from_slice(b"{\"from\":{\"user\":");
    match received.user {
        Some(user) => write_str(out, user),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"connection\":");
    write_str(out, received.connection);
    out.extend_from_slice(b",\"app\":\"");
    out.extend_from_slice(received.app.name().as_bytes());
    out.extend_from_slice(b"\"},\"event\":");
    write_str(out, received.event);
    out.extend_from_slice(b",\"data\":");
    let data = out.len();
    out.extend_from_slice(received.data);
    // Within strings they are escaped (RFC 8259 §7), so these can only be white space, and would end the line.
    for byte in &mut out[data..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b",\"received_at\":");
    write_str(out, received.received_at);
    out.extend_from_slice(b"}\n");
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    // Writing into a vector cannot fail.
    let _ = write!(out, "{number}");
}
