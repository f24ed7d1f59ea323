//! What the router posts, carried out; and what a single client is sent.

use std::sync::Arc;

use crate::app::Input;
use crate::mailbox::{Asker, ToRouter, ToShard};
use crate::room::publication::{Publication, Target};
use crate::shard::client::NOBODY;
use crate::shard::fanout::Delivery;
use crate::shard::line::LineKey;
use crate::shard::outbox::Chunk;
use crate::shard::{Net, Shard};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// Takes one message of the router's.
    pub fn deliver(&mut self, message: ToShard, now: Now) {
        match message {
            ToShard::Event { publication, room, also } => self.event(publication, room, also),
            ToShard::Joined { room, newest, sequence } => {
                self.sequence = sequence;
                self.joined(&room, newest);
            }
            ToShard::Disconnect { user, code, reason, ticket } => {
                self.disconnect(&user, code, &reason, ticket, now);
            }
            ToShard::Presence { client, users, ack } => {
                self.session_input(client, Input::Presence { users: &users, ack }, now);
            }
            ToShard::Delivered { client, ack, count } => {
                self.session_input(client, Input::Delivered { count, ack }, now);
            }
            ToShard::Stored { asker: Asker::Client { client, ticket }, answer } => {
                self.session_input(client, Input::Stored { ticket, answer: &answer }, now);
            }
            ToShard::Stored { asker: Asker::Http { conn, serial, .. }, answer } => {
                self.api_stored(conn, serial, &answer, now);
            }
            // Not a shard's.
            ToShard::Stored { .. } => {}
            ToShard::Restored { client, saved, sequence } => self.restored(client, saved, sequence, now),
            ToShard::Missed { client, events, sequence } => self.missed(client, events, sequence, now),
            ToShard::Unheard { client } => self.session_input(client, Input::Unheard, now),
            ToShard::Evict { client } => self.evict(client, now),
            ToShard::Support(word) => self.support_word(word, now),
        }
    }

    fn delivery(&mut self) -> Delivery<'_> {
        Delivery {
            fanout: &mut self.fanout,
            rooms: &mut self.rooms,
            clients: &mut self.clients,
            engines: &mut self.engines,
            metrics: &self.metrics,
        }
    }

    fn event(&mut self, publication: Arc<Publication>, room: u32, also: u32) {
        let first = match publication.target {
            Target::User => self.local_users.first(publication.name_hash(), publication.name()),
            Target::Room | Target::Broadcast => NOBODY,
        };
        self.sequence = publication.sequence;
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

    /// Puts the newest events of rooms, for one client, into its list. They carry no offset: they are older than what the
    /// client has of other rooms.
    pub(super) fn push_newest(&mut self, slot: u32, events: &[Arc<Publication>]) {
        let Some(client) = self.clients.get(slot) else { return };
        let (wire, key) = (client.wire, client.line_key(slot));
        if let Some(line) = key.find(&mut self.clients, &mut self.engines)
            && let Some(backlog) = &mut line.backlog
        {
            let replaced = events.iter().map(|event| backlog.mark(event)).sum();
            return self.metrics.events_conflated.add(replaced);
        }
        let (batch, length) = self.fanout.batch_of(wire.without_offset(), events);
        self.metrics.deliveries[wire.index()].add(events.len() as u64);
        self.metrics.delivered_bytes[wire.index()].add(length);
        self.push_chunk(key, batch);
    }

    /// Sends the answer to the upgrade request, ahead of the first frames and in one write with them.
    pub(super) fn push_head(&mut self, line: LineKey, response: &[u8]) {
        self.push_bytes(line, |out| out.extend_from_slice(response), |start, end| Chunk::Head { start, end });
    }

    /// Sends frames to a client as they are.
    pub(super) fn push_frames(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(line) = self.clients.get(slot).map(|client| client.line_key(slot)) {
            self.push_to_line(line, write);
        }
    }

    /// Sends frames over a line as they are.
    pub(super) fn push_to_line(&mut self, line: LineKey, write: impl FnOnce(&mut Vec<u8>)) {
        self.push_bytes(line, write, |start, end| Chunk::Bytes { start, end });
    }

    fn push_bytes(
        &mut self,
        line: LineKey,
        write: impl FnOnce(&mut Vec<u8>),
        chunk: impl FnOnce(u32, u32) -> Chunk,
    ) {
        let bytes = &mut self.fanout.memory.bytes;
        let start = bytes.len() as u32;
        write(bytes);
        let chunk = chunk(start, bytes.len() as u32);
        self.push_chunk(line, chunk);
    }

    fn push_chunk(&mut self, key: LineKey, chunk: Chunk) {
        if let Some(line) = key.find(&mut self.clients, &mut self.engines) {
            self.fanout.push_line(line, key, chunk, &self.metrics);
        }
    }
}
