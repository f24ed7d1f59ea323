//! The wires: how an event, an answer and an acknowledgement are framed for a client, WebSocket header included.

mod native;
mod object;
pub mod session;
pub mod socketio;
mod typed;

pub use object::Object;

use native::Times;

use crate::audience::Wire;
use crate::room::publication::Publication;
use crate::time::Now;

/// Appends the WebSocket frame of an event. Done once for each event, shard and wire, whatever the number of subscribers.
pub fn write_event(out: &mut Vec<u8>, wire: Wire, publication: &Publication) {
    match wire {
        Wire::Native => native::write_event(out, Times::Millis, publication),
        Wire::Conversation => native::write_event(out, Times::Seconds, publication),
        Wire::Typed => typed::write_event(out, publication),
        Wire::SocketIo
        | Wire::SocketIoOffset
        | Wire::SocketIoCustom
        | Wire::SocketIoChat
        | Wire::SocketIoWallet => socketio::write_event(out, wire, publication),
        Wire::Session => session::write_event(out, publication),
    }
}

/// Appends the WebSocket frame of an answer: the event `name`, which needs no escapes, with the JSON text `object`.
/// `offset` is written where the wire has offsets.
pub fn write_message(
    out: &mut Vec<u8>,
    wire: Wire,
    now: Now,
    name: &str,
    object: &[u8],
    offset: Option<u64>,
) {
    match wire {
        Wire::Native => native::write_message(out, Times::Millis, now, name, object),
        Wire::Conversation => native::write_message(out, Times::Seconds, now, name, object),
        Wire::Typed => typed::write_message(out, name, object),
        Wire::SocketIo
        | Wire::SocketIoOffset
        | Wire::SocketIoCustom
        | Wire::SocketIoChat
        | Wire::SocketIoWallet => socketio::write_message(out, wire, name, object, offset),
        Wire::Session => session::write_message(out, name, object),
    }
}
