//! The events of rooms that clients may want who come back: which rooms, how much of them, for how long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::HISTORY_BYTES;
use crate::room::history::{Bounds, History};
use crate::room::interest::Interest;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::Publication;
use crate::router::Router;
use crate::router::rooms::Rooms;
use crate::time::Now;

/// Rooms looked after in one turn: some 0.1 ms.
const SWEPT: usize = 256;
/// Each room is looked after so many times in a window.
const SWEEPS: u64 = 4;

/// What is kept of one room.
#[derive(Debug)]
pub struct Kept {
    /// Its events.
    pub history: History,
    /// Shards with recoverable members.
    keepers: Interest,
    /// When the last keeper went, monotonic ns.
    idle_since: u64,
    /// It waits in [`Histories::due`].
    is_due: bool,
}

impl Kept {
    /// A room whose events are kept from now on, for nobody yet.
    pub fn new(floor: u64) -> Kept {
        Kept { history: History::new(floor), keepers: Interest::default(), idle_since: 0, is_due: false }
    }
}

/// What is kept of all rooms.
pub struct Histories {
    bounds: Bounds,
    /// Most bytes of all together.
    most_bytes: usize,
    /// Bytes of all together.
    bytes: usize,
    /// Rooms that are kept, and how many may be.
    rooms: usize,
    most_rooms: usize,
    /// When to look after which room, monotonic ns, in about that order: those that have events, or no keeper.
    due: VecDeque<(u64, u32)>,
}

impl Histories {
    /// Histories that go back as far as `window`, of at most so many rooms.
    pub const fn new(window: Duration, most_rooms: usize) -> Histories {
        Histories {
            bounds: Bounds::new(window),
            most_bytes: HISTORY_BYTES,
            bytes: 0,
            rooms: 0,
            most_rooms,
            due: VecDeque::new(),
        }
    }

    /// Another bound for all together.
    #[cfg(test)]
    pub const fn bound(&mut self, most_bytes: usize) {
        self.most_bytes = most_bytes;
    }

    /// Bytes of all of them.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When there is something to look after, monotonic ns.
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.front().map(|(due, _)| *due)
    }

    /// Has a room looked after, a part of the window from now.
    fn look_after(&mut self, key: u32, kept: &mut Kept, mono: u64) {
        if !std::mem::replace(&mut kept.is_due, true) {
            self.due.push_back((mono + self.bounds.age / SWEEPS, key));
        }
    }

    /// Does something to a history, and counts what it then occupies.
    fn change(&mut self, history: &mut History, change: impl FnOnce(&mut History, &Bounds)) {
        self.bytes -= history.memory();
        change(history, &self.bounds);
        self.bytes += history.memory();
    }

    /// Keeps an event of the room. When all rooms together have too much, this one gives up its oldest.
    pub fn push(&mut self, key: u32, kept: &mut Kept, event: &Arc<Publication>) {
        self.change(&mut kept.history, |history, bounds| history.push(event, bounds));
        while self.bytes > self.most_bytes {
            let before = kept.history.memory();
            if !kept.history.give_up_oldest() {
                break;
            }
            self.bytes -= before - kept.history.memory();
        }
        self.look_after(key, kept, event.received.mono);
    }

    /// Looks after the rooms whose time has come: what is too old goes, and the histories of rooms that nobody has kept
    /// for more than a window. They outlive the sessions that were saved when they lost their last keeper.
    pub fn sweep(&mut self, rooms: &mut Rooms, now: Now) {
        for _ in 0..SWEPT {
            let Some((_, key)) = self.due.pop_front_if(|(due, _)| *due <= now.mono) else { return };
            // A room that is kept is not forgotten before it comes by here.
            let Some(kept) = rooms.get_mut(key).and_then(|room| room.kept.as_mut()) else { continue };
            kept.is_due = false;
            let oldest = now.mono.saturating_sub(self.bounds.age);
            self.change(&mut kept.history, |history, _| history.give_up_before(oldest));
            let is_kept = !kept.keepers.is_empty();
            if !is_kept && kept.idle_since + self.bounds.age + self.bounds.age / SWEEPS <= now.mono {
                self.bytes -= kept.history.memory();
                self.rooms -= 1;
                rooms.give_up(key);
            } else if !is_kept || !kept.history.is_empty() {
                self.look_after(key, kept, now.mono);
            }
        }
    }
}

impl Router {
    /// A shard has a first recoverable member of a room. Beyond as many rooms as may be known, nothing is kept: clients
    /// of further ones cannot be recovered.
    pub(super) fn keep(&mut self, shard: u8, room: &RoomName) {
        let Some(recovery) = &mut self.recovery else { return };
        let histories = &mut recovery.histories;
        let key = self.rooms.find(room.hash(), room.as_str());
        let is_kept = key.and_then(|key| self.rooms.get(key)).is_some_and(|room| room.kept.is_some());
        if !is_kept && histories.rooms >= histories.most_rooms {
            return;
        }
        let key = key.unwrap_or_else(|| self.rooms.find_or_insert(room, self.sequence));
        if !is_kept {
            histories.rooms += 1;
            let floor = self.rooms.get(key).map_or(self.sequence, |room| room.last);
            self.rooms.keep(key, Kept::new(floor));
        }
        if let Some(kept) = self.rooms.get_mut(key).and_then(|room| room.kept.as_mut()) {
            kept.keepers.insert(shard);
        }
    }

    /// A shard has no recoverable member of a room any more.
    pub(super) fn unkeep(&mut self, key: u32, shard: u8, now: Now) {
        let Some(recovery) = &mut self.recovery else { return };
        let Some(kept) = self.rooms.get_mut(key).and_then(|room| room.kept.as_mut()) else { return };
        if kept.keepers.rank(shard).is_none() {
            return;
        }
        kept.keepers.remove(shard);
        if kept.keepers.is_empty() {
            kept.idle_since = now.mono;
            recovery.histories.look_after(key, kept, now.mono);
        }
    }

    /// Keeps a publication: as the newest of its room where the policy is `latest`, else in the history of its rooms
    /// that have one.
    pub(super) fn remember(&mut self, event: &Arc<Publication>, home: Option<u32>, also: Option<u32>) {
        for key in home.into_iter().chain(also.filter(|also| home != Some(*also))) {
            let Some(room) = self.rooms.get_mut(key) else { continue };
            room.last = event.sequence;
            if event.policy == Policy::Latest && home == Some(key) {
                room.latest.put(event);
            } else if let (Some(kept), Some(recovery)) = (&mut room.kept, &mut self.recovery) {
                recovery.histories.push(key, kept, event);
            }
        }
    }
}
