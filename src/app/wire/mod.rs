//! The wires: how an event, and an answer, is framed for a client.

mod native;
mod object;
mod typed;

pub use object::Object;

use crate::audience::Wire;
use crate::room::publication::Publication;
use crate::time::Now;

/// Appends the WebSocket frame of an event. Done once for each event, shard and wire, whatever the number of subscribers.
pub fn write_event(out: &mut Vec<u8>, wire: Wire, publication: &Publication) {
    match wire {
        Wire::Native => native::write_event(out, publication),
        Wire::Typed => typed::write_event(out, publication),
    }
}

/// Appends the text of an answer, without a WebSocket header.
pub fn write_message(
    out: &mut Vec<u8>,
    wire: Wire,
    now: Now,
    name: &str,
    fill: impl FnOnce(&mut Object<'_>),
) {
    match wire {
        Wire::Native => native::write_message(out, now, name, fill),
        Wire::Typed => typed::write_message(out, name, fill),
    }
}
