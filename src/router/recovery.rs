//! Clients that come back: the sessions that were saved, and what they have missed (`spec/market.md`, connection state
//! recovery).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashTable};

use crate::limits::{SAVED_ROOMS, SAVED_SESSIONS};
use crate::mailbox::{MissedQuery, Pid, Saved, SavedRoom, ToShard};
use crate::room::pattern::Policy;
use crate::room::publication::{ClientId, Publication};
use crate::router::keep::Histories;
use crate::router::living::Living;
use crate::router::{Post, Router};
use crate::time::Now;

/// Sessions that are given up in one turn, at most, because their time is over.
const EXPIRED: usize = 256;

/// What is kept for clients that come back.
pub struct Recovery {
    /// Events.
    pub histories: Histories,
    /// Sessions of lost clients.
    pub sessions: Sessions,
    /// Sessions of clients that are there.
    pub living: Living,
}

impl Recovery {
    /// Recovery within `window`, with the events of at most `rooms` rooms.
    pub fn new(window: Duration, rooms: usize) -> Recovery {
        Recovery {
            histories: Histories::new(window, rooms),
            sessions: Sessions::new(window),
            living: Living::default(),
        }
    }

    /// When there is something to give up, monotonic ns.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadlines = [self.histories.next_deadline(), self.sessions.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

/// A session, and when it was saved.
struct Entry {
    serial: u64,
    /// Until when it may be restored, monotonic ns.
    until: u64,
    saved: Box<Saved>,
}

/// The sessions of lost clients, by their secret names.
pub struct Sessions {
    window: u64,
    /// Most sessions, and most rooms of all of them.
    most: usize,
    most_rooms: usize,
    entries: HashMap<Pid, Entry, ahash::RandomState>,
    /// Rooms of all of them.
    rooms: usize,
    /// As they were saved, oldest first; those that are no longer there, too, but no more of them than of the others.
    order: VecDeque<(u64, u64, Pid)>,
    next_serial: u64,
}

impl Sessions {
    fn new(window: Duration) -> Sessions {
        Sessions::bounded(window, SAVED_SESSIONS, SAVED_ROOMS)
    }

    /// With these bounds: sessions, rooms of all of them.
    pub fn bounded(window: Duration, most: usize, most_rooms: usize) -> Sessions {
        Sessions {
            window: window.as_nanos() as u64,
            most,
            most_rooms,
            entries: HashMap::default(),
            rooms: 0,
            order: VecDeque::new(),
            next_serial: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Places in the order.
    #[cfg(test)]
    pub fn traces(&self) -> usize {
        self.order.len()
    }

    /// When the time of the next one is over, monotonic ns.
    pub fn next_deadline(&self) -> Option<u64> {
        self.order.front().map(|(until, ..)| *until)
    }

    /// Keeps a session for the window; one of the same name is replaced.
    pub fn save(&mut self, saved: Box<Saved>, now: Now) {
        self.remove(&saved.pid);
        self.next_serial += 1;
        let (serial, until, pid) = (self.next_serial, now.mono + self.window, saved.pid);
        self.rooms += saved.rooms.len();
        self.entries.insert(pid, Entry { serial, until, saved });
        self.order.push_back((until, serial, pid));
        while self.entries.len() > self.most || self.rooms > self.most_rooms {
            let Some((_, serial, pid)) = self.order.pop_front() else { break };
            self.give_up(serial, &pid);
        }
        if self.order.len() > 2 * self.entries.len().max(EXPIRED) {
            let entries = &self.entries;
            self.order
                .retain(|(_, serial, pid)| entries.get(pid).is_some_and(|entry| entry.serial == *serial));
        }
    }

    /// Takes out the session of that name, if its time is not over.
    pub fn restore(&mut self, pid: &Pid, now: Now) -> Option<Box<Saved>> {
        self.remove(pid).filter(|entry| now.mono < entry.until).map(|entry| entry.saved)
    }

    /// Gives up sessions whose time is over.
    pub fn expire(&mut self, now: Now) {
        for _ in 0..EXPIRED {
            let Some((_, serial, pid)) = self.order.pop_front_if(|(until, ..)| *until <= now.mono) else {
                return;
            };
            self.give_up(serial, &pid);
        }
    }

    /// Takes out a session, unless it has come and gone since.
    fn give_up(&mut self, serial: u64, pid: &Pid) {
        if self.entries.get(pid).is_some_and(|entry| entry.serial == serial) {
            self.remove(pid);
        }
    }

    fn remove(&mut self, pid: &Pid) -> Option<Entry> {
        let entry = self.entries.remove(pid)?;
        self.rooms -= entry.saved.rooms.len();
        Some(entry)
    }
}

/// What has been found for a client.
struct Found<'a> {
    query: &'a MissedQuery,
    events: Vec<Arc<Publication>>,
    /// The sizes of those that nothing can replace; each counts at most twice, as an event has at most two rooms.
    bytes: usize,
}

impl Found<'_> {
    /// Adds events. Returns whether it can still be all within the bound: so much is said before all is gathered, because
    /// there may be very much.
    fn add<'e>(&mut self, events: impl Iterator<Item = &'e Arc<Publication>>) -> bool {
        for event in events {
            // One that is not for the client may still have replaced one that is.
            if event.policy == Policy::Latest {
                self.events.push(Arc::clone(event));
            } else if self.is_its(event) {
                self.bytes += event.size();
                self.events.push(Arc::clone(event));
            }
        }
        self.bytes <= self.query.max_bytes.saturating_mul(2)
    }

    /// Whether an event is for the client.
    fn is_its(&self, event: &Publication) -> bool {
        event.app.is_none_or(|app| app == self.query.app) && event.except != Some(self.query.author)
    }

    /// Each event for the client once, and of events that replace each other the newest, by sequence number.
    fn finish(mut self) -> Option<Vec<Arc<Publication>>> {
        self.events.sort_unstable_by_key(|event| event.sequence);
        self.events.dedup_by_key(|event| event.sequence);
        let mut newest: HashTable<Arc<Publication>> = HashTable::new();
        let all = std::mem::take(&mut self.events).into_iter().rev();
        let mut events: Vec<_> =
            all.filter(|event| is_newest(&mut newest, event) && self.is_its(event)).collect();
        events.reverse();
        let bytes: usize = events.iter().map(|event| event.size()).sum();
        (bytes <= self.query.max_bytes).then_some(events)
    }
}

/// Whether nothing newer replaces the event; asked from the newest to the oldest.
fn is_newest(newest: &mut HashTable<Arc<Publication>>, event: &Arc<Publication>) -> bool {
    if event.policy == Policy::Every {
        return true;
    }
    let hash = event.slot_hash();
    if newest.find(hash, |newer| newer.replaces(event)).is_some() {
        return false;
    }
    newest.insert_unique(hash, Arc::clone(event), |event| event.slot_hash());
    true
}

/// Answers [`crate::mailbox::ToRouter::Restore`].
fn answer(client: ClientId, saved: Option<Box<Saved>>, sequence: u64, post: &mut impl Post) {
    post.post(client.shard, ToShard::Restored { client, saved, sequence });
}

impl Router {
    /// A recoverable client is there.
    pub(super) fn recoverable(&mut self, pid: Pid, client: ClientId) {
        if let Some(recovery) = &mut self.recovery {
            recovery.living.insert(pid, client);
        }
    }

    /// A recoverable client has ended for good: whoever waits for its session does not get it.
    pub(super) fn unrecoverable(&mut self, pid: &Pid, post: &mut impl Post) {
        if let Some(recovery) = &mut self.recovery
            && let Some(waiting) = recovery.living.remove(pid)
        {
            answer(waiting, None, self.sequence, post);
        }
    }

    /// A recoverable client is lost: its session goes to who waits for it, or is kept.
    pub(super) fn save(&mut self, saved: Box<Saved>, now: Now, post: &mut impl Post) {
        let Some(recovery) = &mut self.recovery else { return };
        match recovery.living.remove(&saved.pid) {
            Some(waiting) => answer(waiting, Some(saved), self.sequence, post),
            None => recovery.sessions.save(saved, now),
        }
    }

    /// A client has come back. If its former connection is thought to be there yet, that one has to go first.
    /// One without a name only asks where its offsets begin.
    pub(super) fn restore(&mut self, client: ClientId, pid: Option<Pid>, now: Now, post: &mut impl Post) {
        let sequence = self.sequence;
        let (Some(recovery), Some(pid)) = (&mut self.recovery, &pid) else {
            return answer(client, None, sequence, post);
        };
        let saved = recovery.sessions.restore(pid, now);
        let Some(living) = recovery.living.find_mut(pid).filter(|_| saved.is_none()) else {
            return answer(client, saved, sequence, post);
        };
        match living.waiting.replace(client) {
            // Who comes last gets it: the others have given up, or are thought to have.
            Some(former) => answer(former, None, sequence, post),
            None => post.post(living.client.shard, ToShard::Evict { client: living.client }),
        }
    }

    /// What a client has missed, by sequence number; `None`: some of it is not known, or it is too much.
    pub(super) fn missed(&self, query: &MissedQuery) -> Option<Vec<Arc<Publication>>> {
        self.recovery.as_ref()?;
        let mut found = Found { query, events: Vec::new(), bytes: 0 };
        for room in &query.rooms {
            if !self.missed_in(room, &mut found)? {
                return None;
            }
        }
        found.finish()
    }

    /// What a client has missed in one room. `None`: some of it is not known. `Some(false)`: it is too much.
    fn missed_in(&self, saved: &SavedRoom, found: &mut Found<'_>) -> Option<bool> {
        let query = found.query;
        let after = query.after.max(saved.since);
        let name = &saved.room;
        let room = self.rooms.find(name.hash(), name.as_str()).and_then(|key| self.rooms.get(key));
        if saved.policy == Policy::Latest {
            let newest = room.map_or(&[][..], |room| room.latest.events());
            // If it has seen nothing since it joined, the newest events of then may have been lost on the way, too.
            let needs_all = query.conflated || query.after <= saved.since;
            return Some(found.add(newest.iter().filter(|event| needs_all || event.sequence > after)));
        }
        let history = &room?.kept.as_ref()?.history;
        // What was withheld from it may be older than the last it had; only rooms of event types have such events.
        if query.conflated && !name.is_public() && !found.add(history.latest_after(saved.since)?) {
            return Some(false);
        }
        Some(found.add(history.after(after)?))
    }
}
