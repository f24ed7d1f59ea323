//! Connection state recovery (`spec/market.md`, `spec/decisions.md` 9): what a client that asked for it leaves behind when
//! its transport is lost, and how it gets its rooms and the events it missed when it comes back.
//!
//! The router keeps what was left and the history of the rooms. A client that comes back is nobody's member until the
//! router has answered twice: with what was saved, and, when its rooms are joined again, with what it missed. The second
//! answer stands among the events of the rooms, so what comes before it is in it, and what comes after it is live.

use std::sync::Arc;

use crate::app::Input;
use crate::app::wire;
use crate::close::CloseReason;
use crate::mailbox::{MissedQuery, Pid, Saved, SavedRoom, ToRouter};
use crate::room;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::{ClientId, Publication};
use crate::shard::client::NOBODY;
use crate::shard::rooms::{EVERYONE, LocalRoom};
use crate::shard::{Net, Shard};
use crate::time::Now;

/// What a client that asked for recovery has besides.
pub struct Recovery {
    /// The session's secret name.
    pub pid: Pid,
    /// The router's sequence number when it was first connected.
    pub born: u64,
    /// Since when it is in each room; a room that is missing here: since it was born.
    pub since: Vec<(u32, u64)>,
    /// It comes back, and the router has yet to say what it missed.
    pub restoring: Option<Restoring>,
}

/// A client between its CONNECT and the answer.
#[derive(Default)]
pub struct Restoring {
    /// The last offset it has; `None`: it has seen no event.
    pub after: Option<u64>,
    /// What it left.
    pub saved: Option<Box<Saved>>,
    /// The rooms it left, held on this shard for it.
    pub rooms: Vec<u32>,
}

impl Recovery {
    /// For a client that has just connected.
    pub fn new(pid: Pid, after: Option<u64>) -> Recovery {
        let restoring = Some(Restoring { after, ..Restoring::default() });
        Recovery { pid, born: 0, since: Vec::new(), restoring }
    }
}

impl<N: Net> Shard<N> {
    /// The router has looked for what the client left.
    pub(super) fn restored(&mut self, id: ClientId, saved: Option<Box<Saved>>, sequence: u64, now: Now) {
        self.sequence = self.sequence.max(sequence);
        let Some(client) = self.clients.get_if(id.slot, id.generation) else {
            // Gone again: it may come back once more.
            if let Some(saved) = saved {
                self.outgoing.push(ToRouter::Save(saved));
            }
            return;
        };
        let is_its = |saved: &Saved| {
            let user = client.session.user();
            let is_same = if user.is_anonymous() { saved.user.is_empty() } else { saved.user == *user.id() };
            is_same && saved.app == client.session.app()
        };
        let after = client.recovery.as_ref().and_then(|recovery| recovery.restoring.as_ref()?.after);
        let is_ahead = after.is_some_and(|after| after > sequence);
        let mut saved = match saved {
            Some(saved) if is_its(&saved) && !is_ahead => saved,
            other => {
                // Somebody else's is not lost to its owner.
                self.outgoing.extend(other.filter(|saved| !is_its(saved)).map(ToRouter::Save));
                return self.begin_anew(id.slot, sequence, now);
            }
        };
        let session = &client.session;
        let patterns = &self.settings.app.patterns;
        // A new token may say less than the old one.
        saved
            .rooms
            .retain(|saved| !saved.room.is_public() || session.may_be_in(saved.room.as_str(), patterns));
        let rooms: Vec<u32> = saved
            .rooms
            .iter()
            .filter(|saved| !is_users_own(saved, session.user().id()) && saved.room != RoomName::everyone())
            .map(|saved| self.rooms.find_or_join(self.id, &saved.room, saved.policy, &mut self.outgoing))
            .collect();
        for room in &rooms {
            if let Some(room) = self.rooms.get_mut(*room) {
                room.held += 1;
            }
        }
        let Some(client) = self.clients.get_mut(id.slot) else { return };
        let Some(restoring) = client.recovery.as_mut().and_then(|recovery| recovery.restoring.as_mut())
        else {
            return;
        };
        self.outgoing.push(ToRouter::Missed(Box::new(MissedQuery {
            client: id,
            after: restoring.after.unwrap_or(saved.since),
            rooms: saved.rooms.clone(),
            app: saved.app,
            author: saved.connection,
            conflated: saved.conflated,
            max_bytes: self.settings.limits.outbox / 2,
        })));
        restoring.rooms = rooms;
        restoring.saved = Some(saved);
    }

    /// The router has gathered what the client missed; `None`: it is no longer all there.
    pub(super) fn missed(
        &mut self,
        id: ClientId,
        events: Option<Vec<Arc<Publication>>>,
        sequence: u64,
        now: Now,
    ) {
        self.sequence = self.sequence.max(sequence);
        if self.clients.get_if(id.slot, id.generation).is_none() {
            return;
        }
        let Some(events) = events else { return self.begin_anew(id.slot, sequence, now) };
        let Some(Restoring { saved: Some(saved), rooms, after }) = self.end_restoring(id.slot) else {
            return self.begin_anew(id.slot, sequence, now);
        };
        self.metrics.recovered.add(1);
        if let Some(client) = self.clients.get_mut(id.slot) {
            client.session.take_over(saved.connection);
            client.is_personal = saved.is_personal;
            if let Some(recovery) = &mut client.recovery {
                recovery.pid = saved.pid;
                recovery.born = saved.since;
            }
        }
        self.keep_users_own(id.slot);
        // What it is given now it may never get: it is as old a member as it was, also of the room of everyone.
        for room in std::iter::once(EVERYONE).chain(rooms) {
            self.add_member(room, id.slot);
            let name = self.rooms.get(room).map(|room| room.name.clone());
            let since = saved.rooms.iter().find(|saved| Some(&saved.room) == name.as_ref());
            if let Some(since) = since.map(|saved| saved.since)
                && let Some(recovery) =
                    self.clients.get_mut(id.slot).and_then(|client| client.recovery.as_mut())
            {
                recovery.since.retain(|(known, _)| *known != room);
                recovery.since.push((room, since));
            }
        }
        let after = after.unwrap_or(saved.since);
        self.announce(id.slot);
        self.confirm_connect(id.slot, now);
        self.input(id.slot, Input::Opened { offset: None }, now);
        let Some(wire) = self.clients.get(id.slot).map(|client| client.wire) else { return };
        let before = self.fanout.memory.bytes.len();
        self.push_frames(id.slot, |out| {
            for event in &events {
                // What was kept back once is older than the client's offset, and must not take it back.
                let is_newer = event.sequence > after;
                let wire = if is_newer { wire } else { wire.without_offset() };
                wire::write_event(out, wire, event);
            }
        });
        let length = self.fanout.memory.bytes.len() - before;
        self.metrics.deliveries[wire.index()].add(events.len() as u64);
        self.metrics.delivered_bytes[wire.index()].add(length as u64);
        if saved.conflated
            && let Some(key) = self.clients.get(id.slot).map(|client| client.line_key(id.slot))
            && let Some(line) = key.find(&mut self.clients, &mut self.engines)
        {
            // Should it be lost before it has them, it needs them again.
            line.has_conflated = true;
        }
    }

    /// A new session for a client that asked for recovery: its offset counts from here.
    fn begin_anew(&mut self, slot: u32, sequence: u64, now: Now) {
        self.leave_restored(slot);
        if let Some(client) = self.clients.get_mut(slot) {
            client.is_personal = true;
            if let Some(recovery) = &mut client.recovery {
                recovery.born = sequence;
            }
        }
        self.add_member(EVERYONE, slot);
        self.keep_users_own(slot);
        self.announce(slot);
        self.confirm_connect(slot, now);
        self.input(slot, Input::Opened { offset: Some(sequence) }, now);
    }

    /// Tells the router whose client this is: if it comes back before its transport is known to be lost, it is found.
    fn announce(&mut self, slot: u32) {
        if let Some(client) = self.clients.get(slot)
            && let Some(recovery) = &client.recovery
        {
            let (pid, client) = (recovery.pid, client.session.client());
            self.outgoing.push(ToRouter::Recoverable { pid, client });
        }
    }

    /// The client has come back over another connection: this one is lost.
    pub(super) fn evict(&mut self, id: ClientId, now: Now) {
        if self.clients.get_if(id.slot, id.generation).is_some() {
            self.close(id.slot, CloseReason::ConnectionLost, now);
        }
    }

    /// Ends the time between CONNECT and its answer; the rooms that were held for the client are no longer.
    fn end_restoring(&mut self, slot: u32) -> Option<Restoring> {
        let restoring = self.clients.get_mut(slot)?.recovery.as_mut()?.restoring.take()?;
        for room in &restoring.rooms {
            if let Some(room) = self.rooms.get_mut(*room) {
                room.held -= 1;
            }
        }
        Some(restoring)
    }

    /// The same for a client that is not restored: nobody may be left in those rooms.
    fn leave_restored(&mut self, slot: u32) -> Option<Restoring> {
        let restoring = self.end_restoring(slot)?;
        for room in &restoring.rooms {
            self.rooms.leave_if_empty(self.id, *room, &mut self.outgoing);
        }
        Some(restoring)
    }

    /// The router is to keep the history of what is published to the client's user.
    pub(super) fn keep_users_own(&mut self, slot: u32) {
        let Some(client) = self.clients.get(slot) else { return };
        let user = client.session.user();
        if !user.is_anonymous() {
            let room = users_own(user.id());
            self.outgoing.push(ToRouter::Keep { shard: self.id, room });
        }
    }

    /// What a client that is about to leave everything leaves to itself, if it may come back.
    pub(super) fn leave_behind(&mut self, slot: u32, reason: &CloseReason) -> Option<Box<Saved>> {
        if let Some(restoring) = self.leave_restored(slot) {
            // The router was asked to keep what is published to everybody before the client was one of them.
            if !self.rooms.get(EVERYONE).is_some_and(LocalRoom::is_kept) {
                self.outgoing.push(ToRouter::Unkeep { shard: self.id, room: RoomName::everyone() });
            }
            return restoring.saved;
        }
        let client = self.clients.get_mut(slot)?;
        let recovery = client.recovery.as_deref()?;
        if !reason.is_recoverable() {
            self.outgoing.push(ToRouter::Unrecoverable { pid: recovery.pid });
            return None;
        }
        let user = client.session.user();
        let mut rooms: Vec<SavedRoom> = client
            .memberships
            .iter()
            .filter_map(|membership| {
                let room = self.rooms.get(membership.room)?;
                let since = recovery.since.iter().find(|(known, _)| *known == membership.room);
                let since = since.map_or(recovery.born, |(_, since)| *since);
                Some(SavedRoom { room: room.name.clone(), policy: room.policy, since })
            })
            .collect();
        if !user.is_anonymous() && client.is_personal {
            rooms.push(SavedRoom { room: users_own(user.id()), policy: Policy::Every, since: recovery.born });
        }
        let mut saved = Saved {
            pid: recovery.pid,
            user: user.id().clone(),
            app: client.session.app(),
            connection: client.session.connection(),
            rooms,
            is_personal: client.is_personal,
            since: recovery.born,
            conflated: false,
        };
        let key = client.line_key(slot);
        if let Some(line) = key.find(&mut self.clients, &mut self.engines) {
            saved.conflated =
                line.has_conflated || line.backlog.as_ref().is_some_and(|backlog| backlog.has_marks());
        }
        Some(Box::new(saved))
    }

    /// The router need not keep the history of a user any more, unless another client of the user counts on it.
    pub(super) fn forget_users_own(&mut self, slot: u32) {
        let Some(client) = self.clients.get(slot).filter(|client| client.recovery.is_some()) else { return };
        let user = client.session.user();
        if user.is_anonymous() || self.has_recoverable(user.hash(), user.id(), slot) {
            return;
        }
        let room = users_own(user.id());
        // Somebody else may watch the user's room, and may come back too.
        let watched = self.rooms.find(room.hash(), room.as_str()).and_then(|room| self.rooms.get(room));
        if !watched.is_some_and(LocalRoom::is_kept) {
            self.outgoing.push(ToRouter::Unkeep { shard: self.id, room });
        }
    }

    /// A room's members no longer need its history. If it is a user's own, the user's clients here may.
    pub(super) fn keep_for_user(&mut self, room: &RoomName) {
        if let Some(user) = room.as_str().strip_prefix("user:")
            && self.has_recoverable(room::name::hash(user), user, NOBODY)
        {
            self.outgoing.push(ToRouter::Keep { shard: self.id, room: room.clone() });
        }
    }

    /// Whether a client of the user, other than this one, may come back.
    fn has_recoverable(&self, hash: u64, user: &str, but: u32) -> bool {
        let mut at = self.local_users.first(hash, user);
        while let Some(client) = self.clients.get(at) {
            if at != but && client.recovery.is_some() {
                return true;
            }
            at = client.next_of_user;
        }
        false
    }
}

/// The room whose history is that of what is published to a user.
fn users_own(user: &str) -> RoomName {
    RoomName::named(&format!("user:{user}"))
}

/// Whether a saved room stands for what is published to the user.
fn is_users_own(saved: &SavedRoom, user: &str) -> bool {
    saved.policy == Policy::Every && saved.room.as_str().strip_prefix("user:") == Some(user)
}
