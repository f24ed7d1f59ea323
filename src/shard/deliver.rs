//! What the router posts, carried out; and what a single client is sent.

use std::sync::Arc;

use crate::mailbox::{ToRouter, ToShard};
use crate::proto::ws;
use crate::room::publication::{Publication, Target};
use crate::shard::client::NOBODY;
use crate::shard::fanout::Delivery;
use crate::shard::outbox::Chunk;
use crate::shard::{Net, Shard};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// Takes one message of the router's.
    pub fn deliver(&mut self, message: ToShard, now: Now) {
        match message {
            ToShard::Event { publication, room, also } => self.event(publication, room, also),
            ToShard::Joined { room, newest, .. } => self.joined(&room, newest),
            ToShard::Disconnect { user, code, reason, ticket } => {
                self.disconnect(&user, code, &reason, ticket, now);
            }
            ToShard::Presence { client, users, .. } => {
                self.session_input(client, crate::app::Input::Presence(&users), now);
            }
            ToShard::Unheard { client } => self.session_input(client, crate::app::Input::Unheard, now),
            // Answers to what this shard does not ask.
            ToShard::Restored { .. }
            | ToShard::Evict { .. }
            | ToShard::Missed { .. }
            | ToShard::Delivered { .. } => {}
        }
    }

    fn delivery(&mut self) -> Delivery<'_> {
        Delivery {
            fanout: &mut self.fanout,
            rooms: &mut self.rooms,
            clients: &mut self.clients,
            metrics: &self.metrics,
        }
    }

    fn event(&mut self, publication: Arc<Publication>, room: u32, also: u32) {
        let first = match publication.target {
            Target::User => self.local_users.first(publication.name_hash(), publication.name()),
            Target::Room | Target::Broadcast => NOBODY,
        };
        let count = self.delivery().event(&publication, room, also, first);
        if let Some(ticket) = publication.ticket {
            self.outgoing.push(ToRouter::Count { ticket, count });
        }
        self.fanout.written.push((publication, count));
    }

    /// Hands the open batch of a room to its members. Needed before the membership changes.
    pub(super) fn seal_room(&mut self, room: u32) {
        self.delivery().seal_room(room);
    }

    /// Hands all open batches to their members.
    pub fn seal_all(&mut self) {
        self.delivery().seal_all();
    }

    /// Puts the frames of events, for one client, into its list. Returns whether the client is there.
    pub(super) fn push_events(&mut self, slot: u32, events: &[Arc<Publication>]) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Some(backlog) = &mut client.backlog {
            let replaced = events.iter().map(|event| backlog.mark(event)).sum();
            return self.metrics.events_conflated.add(replaced);
        }
        let wire = client.wire;
        let (batch, length) = self.fanout.batch_of(wire, events);
        self.metrics.deliveries[wire.index()].add(events.len() as u64);
        self.metrics.delivered_bytes[wire.index()].add(length);
        self.fanout.push(client, slot, batch, &self.metrics);
    }

    /// Sends the answer to the upgrade request, ahead of the first frames and in one write with them.
    pub(super) fn push_head(&mut self, slot: u32, response: &[u8]) {
        self.push_bytes(slot, |out| out.extend_from_slice(response), |start, end| Chunk::Head { start, end });
    }

    /// Sends one text frame to a client.
    pub(super) fn push_text(&mut self, slot: u32, text: &[u8]) {
        self.push_frames(slot, |out| ws::write_text(out, &[text]));
    }

    /// Sends frames to a client as they are.
    pub(super) fn push_frames(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.push_bytes(slot, write, |start, end| Chunk::Bytes { start, end });
    }

    fn push_bytes(
        &mut self,
        slot: u32,
        write: impl FnOnce(&mut Vec<u8>),
        chunk: impl FnOnce(u32, u32) -> Chunk,
    ) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let bytes = &mut self.fanout.memory.bytes;
        let start = bytes.len() as u32;
        write(bytes);
        let chunk = chunk(start, bytes.len() as u32);
        self.fanout.push(client, slot, chunk, &self.metrics);
    }
}
