//! Fan-out: from an event to the lists of what each client is sent this turn.
//!
//! Work is done once for each event (its frame in each wire that has members), then once for each room and member
//! and turn: a room's frames of one turn form one batch, and each member gets that batch, however many events it holds.
//! A batch is sealed, that is handed to the members, before anything that must come after it: a change of the
//! membership, an event for other members than the batch's, the end of the mailbox.
//!
//! It knows rooms, members and what is on its way. It knows no sockets, sessions' inner life or the router.

mod hand_out;

use std::rc::Rc;
use std::sync::Arc;

use crate::app::{mobile, wire};
use crate::audience::{App, Wire};
use crate::limits::TURN_BYTES;
use crate::metrics::ShardMetrics;
use crate::room::members::Group;
use crate::room::pattern::Policy;
use crate::room::publication::{Publication, Target};
use crate::shard::client::Client;
use crate::shard::engine::Engine;
use crate::shard::fanout::hand_out::{Frames, hand_out, to_client};
use crate::shard::line::{Line, LineKey, Way};
use crate::shard::outbox::{Batch, Chunk, TurnMemory};
use crate::shard::rooms::{EVERYONE, LocalRooms, NO_BATCH};
use crate::shard::slots::Slots;

/// The frames of one room in this turn, not yet handed to its members.
struct OpenBatch {
    room: u32,
    /// A second room whose members get them too.
    also: u32,
    app: Option<App>,
    policy: Policy,
    frames: u32,
    wires: Vec<(Wire, Vec<u8>)>,
    /// For `latest`: the events.
    events: Vec<Arc<Publication>>,
}

/// No second room.
const NO_ROOM: u32 = u32::MAX;

/// What a turn has for its clients.
#[derive(Default)]
pub struct Fanout {
    /// The memory of this turn.
    pub memory: TurnMemory,
    /// Lines with something to be flushed.
    pub dirty: Vec<LineKey>,
    /// Lines whose backlog is over the limit.
    pub overflowed: Vec<LineKey>,
    /// The room whose open batch holds frames with offsets: such frames leave in the order of their offsets, whatever the
    /// room, or a client could not say by one offset what it has.
    ordered: Option<u32>,
    open: Vec<OpenBatch>,
    /// What was delivered in this turn, each with its wire and members, for the latencies.
    pub written: Vec<(Arc<Publication>, u32)>,
    next_stamp: u32,
    /// The last batch that was made for a newcomer, and its wire.
    snapshot: Option<(Wire, u32)>,
    /// Bytes delivered since the last flush, so that a turn's memory stays bounded.
    bytes: usize,
    outbox_limit: usize,
}

impl Fanout {
    /// For clients that may hold up so many bytes each.
    pub fn new(outbox_limit: usize) -> Fanout {
        Fanout { outbox_limit, ..Fanout::default() }
    }

    /// Sets the most bytes a client may hold up.
    pub fn set_outbox_limit(&mut self, bytes: usize) {
        self.outbox_limit = bytes;
    }

    /// Whether frames wait to be handed to the members of a room.
    #[cfg(debug_assertions)]
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether this turn has taken all the bytes it may.
    pub fn is_full(&self) -> bool {
        self.bytes >= TURN_BYTES
    }

    fn stamp(&mut self) -> u32 {
        self.next_stamp = self.next_stamp.wrapping_add(1).max(1);
        self.next_stamp
    }

    /// Puts a chunk into a client's list, or into its backlog while its socket is full.
    #[inline]
    pub fn push(
        &mut self,
        client: &mut Client,
        slot: u32,
        engines: &mut Slots<Engine>,
        chunk: Chunk,
        metrics: &ShardMetrics,
    ) {
        match &mut client.way {
            Way::Own(line) => self.push_line(line, LineKey::client(slot), chunk, metrics),
            Way::Engine(engine) => {
                if let Some(session) = engines.get_mut(*engine) {
                    self.push_line(&mut session.line, LineKey::engine(*engine), chunk, metrics);
                }
            }
        }
    }

    /// Puts a chunk on a line.
    #[inline]
    pub fn push_line(&mut self, line: &mut Line, key: LineKey, chunk: Chunk, metrics: &ShardMetrics) {
        let Some(backlog) = &mut line.backlog else {
            if line.queue.is_empty() {
                self.dirty.push(key);
            }
            return self.memory.push(&mut line.queue, chunk);
        };
        let before = backlog.bytes();
        match chunk {
            Chunk::Bytes { .. } | Chunk::Head { .. } => backlog.hold(self.memory.bytes_of(chunk)),
            Chunk::Batch(index) => metrics.events_conflated.add(backlog.hold_batch(self.memory.batch(index))),
        }
        metrics.outbox_bytes.add((backlog.bytes() - before) as u64);
        if backlog.bytes() > self.outbox_limit {
            self.overflowed.push(key);
        }
    }

    /// A batch of these events for one client, with its length in bytes. Often several join one room in a row: they share it.
    pub fn batch_of(&mut self, wire: Wire, events: &[Arc<Publication>]) -> (Chunk, u64) {
        let memory = &mut self.memory;
        let is_same = |batch: &Batch| {
            batch.events.len() == events.len()
                && batch.events.iter().zip(events).all(|(known, event)| Arc::ptr_eq(known, event))
        };
        let known = self.snapshot.filter(|(of, batch)| *of == wire && is_same(memory.batch(*batch)));
        let (_, batch) = known.unwrap_or_else(|| {
            let mut frames = memory.take_buffer();
            for event in events {
                wire::write_event(&mut frames, wire, event);
            }
            self.bytes += frames.len();
            let events = Rc::new(events.to_vec());
            (wire, memory.add_batch(Batch { bytes: Rc::new(frames), policy: Policy::Latest, events }))
        });
        self.snapshot = Some((wire, batch));
        (Chunk::Batch(batch), self.memory.batch(batch).bytes.len() as u64)
    }

    /// Starts over: everything has been flushed.
    pub fn clear(&mut self) {
        debug_assert!(self.open.is_empty());
        self.memory.clear();
        self.snapshot = None;
        self.bytes = 0;
    }
}

/// The parts of a shard that fan-out works on.
pub struct Delivery<'a> {
    /// What the turn has for its clients.
    pub fanout: &'a mut Fanout,
    /// The rooms.
    pub rooms: &'a mut LocalRooms,
    /// The clients.
    pub clients: &'a mut Slots<Client>,
    /// The Engine.IO sessions.
    pub engines: &'a mut Slots<Engine>,
    /// What is counted.
    pub metrics: &'a ShardMetrics,
}

/// Whether what is published to a user is for this client of the user's. `mobile` has two, each of which gets a part, and
/// gives a message to each once (`spec/mobile.md`).
fn takes(client: &mut Client, publication: &Publication) -> bool {
    match client.wire {
        Wire::SocketIoChat => {
            let is_for = publication.app.is_none_or(|app| app == App::Mobile)
                && !mobile::is_of_wallet(publication.event());
            is_for && (publication.message == 0 || client.session.takes_message(publication.message))
        }
        Wire::SocketIoWallet => mobile::is_of_wallet(publication.event()),
        _ => true,
    }
}

/// Whether an event for `app` is for a group of that wire.
fn is_for(app: Option<App>, group: &Group<'_>) -> bool {
    app.is_none_or(|app| group.wire.app() == app)
}

impl Delivery<'_> {
    /// Delivers an event; the slots are the router's word, `first` is the first client of the user it is for.
    /// Returns how many clients it is for.
    pub fn event(&mut self, publication: &Arc<Publication>, room: u32, also: u32, first: u32) -> u32 {
        self.fanout.bytes += publication.size();
        let also = self.rooms.check(also, publication.also);
        match publication.target {
            Target::Room => {
                let room = self.rooms.check(room, publication.name_hash());
                if publication.name().is_empty() {
                    self.seal_room(EVERYONE);
                }
                self.for_room(room, also, publication)
            }
            Target::Broadcast => {
                // Alerts for everyone and alerts for some are one row of events, but not one batch.
                if self.rooms.get(EVERYONE).is_some_and(|room| room.open_batch == NO_BATCH) {
                    self.seal_all();
                }
                self.for_room(Some(EVERYONE), None, publication)
            }
            Target::User => self.for_user(first, also, publication),
        }
    }

    /// Hands the open batch of a room to its members.
    pub fn seal_room(&mut self, room: u32) {
        // A room may also be the second one of other rooms' batches.
        let concerned = |batch: &OpenBatch| batch.room == room || batch.also == room;
        while let Some(index) = self.fanout.open.iter().position(concerned) {
            self.seal(index);
        }
    }

    /// Hands all open batches to their members.
    pub fn seal_all(&mut self) {
        while let Some(last) = self.fanout.open.len().checked_sub(1) {
            self.seal(last);
        }
    }

    /// Before an event of another room: frames with offsets that wait in a batch go first.
    fn keep_order(&mut self, home: u32) {
        if let Some(ordered) = self.fanout.ordered
            && ordered != home
        {
            self.seal_room(ordered);
        }
    }

    /// An event for the members of a room, and of the room of its type. Returns how many clients it is for.
    fn for_room(&mut self, room: Option<u32>, also: Option<u32>, publication: &Arc<Publication>) -> u32 {
        let home = match (room, also) {
            (None, None) => return 0,
            (Some(room), _) => {
                if publication.policy == Policy::Latest
                    && let Some(room) = self.rooms.get_mut(room)
                {
                    room.latest.put(publication);
                }
                room
            }
            // Nobody is in the event's own room: the room of its type stands in, and the batch has one room only.
            (None, Some(also)) => also,
        };
        let also = also.filter(|also| *also != home).unwrap_or(NO_ROOM);
        self.keep_order(home);
        if publication.except.is_some() || self.is_small(home, also, publication) {
            return self.for_members(home, also, publication);
        }
        self.gather(home, also, publication);
        self.count(home, also, publication)
    }

    /// Whether a batch would cost more than it saves: one or two members, and nothing to be conflated.
    fn is_small(&self, home: u32, also: u32, publication: &Publication) -> bool {
        also == NO_ROOM
            && publication.policy == Policy::Every
            && self.rooms.get(home).is_some_and(|room| room.open_batch == NO_BATCH && room.members.len() <= 2)
    }

    /// How many clients the batch's members are.
    fn count(&mut self, home: u32, also: u32, publication: &Publication) -> u32 {
        let members = |room: u32| {
            self.rooms.get(room).map_or(0, |room| {
                let groups = room.members.groups().filter(|group| is_for(publication.app, group));
                groups.map(|group| group.clients.len()).sum::<usize>() as u32
            })
        };
        if also == NO_ROOM {
            return members(home);
        }
        let (all, others) = (members(home), members(also));
        if all == 0 || others == 0 || publication.ticket.is_none() {
            return all.max(others);
        }
        let stamp = self.fanout.stamp();
        let mut count = 0;
        for room in [home, also] {
            let Some(room) = self.rooms.get(room) else { continue };
            for group in room.members.groups().filter(|group| is_for(publication.app, group)) {
                for slot in group.clients {
                    if let Some(client) = self.clients.get_mut(*slot)
                        && std::mem::replace(&mut client.stamp, stamp) != stamp
                    {
                        count += 1;
                    }
                }
            }
        }
        count
    }

    /// Adds the event's frames to the room's open batch.
    fn gather(&mut self, home: u32, also: u32, publication: &Arc<Publication>) {
        let index = self.open_batch(home, also, publication);
        let batch = &mut self.fanout.open[index];
        batch.frames += 1;
        if batch.policy == Policy::Latest {
            batch.events.push(Arc::clone(publication));
        }
        for room in [home, also] {
            let Some(room) = self.rooms.get(room) else { continue };
            for group in room.members.groups().filter(|group| is_for(publication.app, group)) {
                // Written by the first room's group already, unless only the second room has this wire.
                if !batch.wires.iter().any(|(wire, _)| *wire == group.wire) {
                    // The wire's list of frames starts with this batch, as the members cannot change while it is open.
                    batch.wires.push((group.wire, self.fanout.memory.take_buffer()));
                    if group.wire.has_offset() {
                        self.fanout.ordered = Some(home);
                    }
                }
            }
        }
        for (wire, frames) in &mut batch.wires {
            wire::write_event(frames, *wire, publication);
        }
    }

    /// The room's open batch, if this event may be added to it; else a new one.
    fn open_batch(&mut self, home: u32, also: u32, publication: &Publication) -> usize {
        let open = self.rooms.get(home).map_or(NO_BATCH, |room| room.open_batch);
        if let Some(batch) = self.fanout.open.get(open as usize) {
            let fits = batch.room == home
                && batch.also == also
                && batch.app == publication.app
                && batch.policy == publication.policy;
            if fits {
                return open as usize;
            }
            self.seal(open as usize);
        }
        // Events of this room may stand in the second room's own batch, from when nobody was in this one.
        if let Some(open) = self.rooms.get(also).map(|room| room.open_batch)
            && open != NO_BATCH
        {
            self.seal(open as usize);
        }
        let index = self.fanout.open.len();
        self.fanout.open.push(OpenBatch {
            room: home,
            also,
            app: publication.app,
            policy: publication.policy,
            frames: 0,
            wires: Vec::new(),
            events: Vec::new(),
        });
        if let Some(room) = self.rooms.get_mut(home) {
            room.open_batch = index as u32;
        }
        index
    }

    /// Hands an open batch to the members.
    fn seal(&mut self, index: usize) {
        let batch = self.fanout.open.swap_remove(index);
        if self.fanout.ordered == Some(batch.room) {
            self.fanout.ordered = None;
        }
        if let Some(room) = self.rooms.get_mut(batch.room) {
            room.open_batch = NO_BATCH;
        }
        if let Some(moved) = self.fanout.open.get(index)
            && let Some(room) = self.rooms.get_mut(moved.room)
        {
            room.open_batch = index as u32;
        }
        let events = Rc::new(batch.events);
        let stamp = match batch.also {
            NO_ROOM => 0,
            _ => self.fanout.stamp(),
        };
        for (wire, bytes) in batch.wires {
            let length = bytes.len() as u64;
            let sealed = self.fanout.memory.add_batch(Batch {
                bytes: Rc::new(bytes),
                policy: batch.policy,
                events: Rc::clone(&events),
            });
            let mut members = 0;
            for room in [batch.room, batch.also] {
                let Some(room) = self.rooms.get(room) else { continue };
                let Some(group) = room.members.groups().find(|group| group.wire == wire) else {
                    continue;
                };
                members += hand_out(
                    self.fanout,
                    (self.clients, self.engines),
                    group.clients,
                    Chunk::Batch(sealed),
                    stamp,
                    self.metrics,
                );
            }
            self.metrics.deliveries[wire.index()].add(members * u64::from(batch.frames));
            self.metrics.delivered_bytes[wire.index()].add(members * length);
        }
    }

    /// An event that is handed out by itself, to a few or with one passed over.
    fn for_members(&mut self, home: u32, also: u32, publication: &Arc<Publication>) -> u32 {
        let stamp = self.fanout.stamp();
        let (mut frames, mut count) = (Frames::default(), 0);
        for room in [home, also] {
            let Some(open) = self.rooms.get(room).map(|room| room.open_batch) else { continue };
            if open != NO_BATCH {
                self.seal(open as usize);
            }
            let Some(room) = self.rooms.get(room) else { continue };
            for group in room.members.groups().filter(|group| is_for(publication.app, group)) {
                for slot in group.clients {
                    let Some(client) = self.clients.get_mut(*slot) else { continue };
                    let parts = (&mut *self.fanout, &mut *self.engines, self.metrics);
                    count += to_client(parts, client, *slot, publication, stamp, &mut frames);
                }
            }
        }
        count
    }

    /// An event for a user: its clients here, and those who watch it.
    fn for_user(&mut self, first: u32, also: Option<u32>, publication: &Arc<Publication>) -> u32 {
        self.keep_order(NO_ROOM);
        let stamp = self.fanout.stamp();
        let (mut frames, mut count, mut at) = (Frames::default(), 0, first);
        while let Some(client) = self.clients.get_mut(at) {
            let slot = std::mem::replace(&mut at, client.next_of_user);
            if !takes(client, publication) {
                continue;
            }
            if client.is_personal || client.has_type_of(publication, self.rooms) {
                let parts = (&mut *self.fanout, &mut *self.engines, self.metrics);
                count += to_client(parts, client, slot, publication, stamp, &mut frames);
            }
        }
        let Some(watched) = also.and_then(|room| self.rooms.get(room)) else { return count };
        for slot in watched.members.groups().flat_map(|group| group.clients) {
            let Some(client) = self.clients.get_mut(*slot) else { continue };
            let parts = (&mut *self.fanout, &mut *self.engines, self.metrics);
            count += to_client(parts, client, *slot, publication, stamp, &mut frames);
        }
        count
    }
}
