//! Handing frames to clients: one event to a few, or a batch to all members of a room.

use crate::app::wire;
use crate::audience::Wire;
use crate::metrics::ShardMetrics;
use crate::room::publication::Publication;
use crate::shard::client::Client;
use crate::shard::engine::Engine;
use crate::shard::fanout::Fanout;
use crate::shard::outbox::{Chunk, TurnMemory};
use crate::shard::slots::Slots;

/// One event for one client. Returns 1 if it is for this client.
pub(super) fn to_client(
    (fanout, engines, metrics): (&mut Fanout, &mut Slots<Engine>, &ShardMetrics),
    client: &mut Client,
    slot: u32,
    publication: &Publication,
    stamp: u32,
    frames: &mut Frames,
) -> u32 {
    let is_excepted = publication.except.is_some_and(|except| client.session.connection() == except);
    if is_excepted
        || publication.app.is_some_and(|app| client.wire.app() != app)
        || std::mem::replace(&mut client.stamp, stamp) == stamp
    {
        return 0;
    }
    let (chunk, length) = frames.of(client.wire, publication, &mut fanout.memory);
    fanout.push(client, slot, engines, chunk, metrics);
    metrics.deliveries[client.wire.index()].add(1);
    metrics.delivered_bytes[client.wire.index()].add(length);
    1
}

/// The frames of one event, made when the first client of a wire needs one.
#[derive(Default)]
pub(super) struct Frames([Option<(u32, u32)>; Wire::COUNT]);

impl Frames {
    /// The frame for a wire, with its length in bytes.
    pub(super) fn of(
        &mut self,
        wire: Wire,
        publication: &Publication,
        memory: &mut TurnMemory,
    ) -> (Chunk, u64) {
        let (start, end) = *self.0[wire.index()].get_or_insert_with(|| {
            let start = memory.bytes.len() as u32;
            wire::write_event(&mut memory.bytes, wire, publication);
            (start, memory.bytes.len() as u32)
        });
        (Chunk::Bytes { start, end }, u64::from(end - start))
    }
}

/// Puts a chunk into the lists of clients; a `stamp` other than 0 passes over those that have it. Returns how many got it.
pub(super) fn hand_out(
    fanout: &mut Fanout,
    (clients, engines): (&mut Slots<Client>, &mut Slots<Engine>),
    slots: &[u32],
    chunk: Chunk,
    stamp: u32,
    metrics: &ShardMetrics,
) -> u64 {
    let mut count = 0;
    for slot in slots {
        let Some(client) = clients.get_mut(*slot) else { continue };
        if stamp != 0 && std::mem::replace(&mut client.stamp, stamp) == stamp {
            continue;
        }
        fanout.push(client, *slot, engines, chunk, metrics);
        count += 1;
    }
    count
}
