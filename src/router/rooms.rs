//! The router's part of the room tables: which shards are interested, how many events a room has had, the newest of them,
//! and those that are kept for clients that come back.

use slab::Slab;

use crate::hash::SplitTable;
use crate::room::interest::Seats;
use crate::room::latest::Latest;
use crate::room::name::RoomName;
use crate::router::keep::Kept;

const NONE: u32 = u32::MAX;

/// A room as the router knows it.
pub struct RoomEntry {
    /// Its name.
    pub name: RoomName,
    /// Events published to it since start.
    pub offset: u64,
    /// It has had no event with a higher sequence number.
    pub last: u64,
    /// Shards with members, and the room's slot there.
    pub seats: Seats,
    /// For policy `latest`: the newest events.
    pub latest: Latest,
    /// The events kept for clients that come back. A room that has them is not forgotten.
    pub kept: Option<Box<Kept>>,
    /// Neighbours in the list of rooms without members, [`NONE`] at the ends.
    newer: u32,
    older: u32,
    is_listed: bool,
}

impl RoomEntry {
    /// Whether there is a reason to know it besides what it once was.
    pub fn is_needed(&self) -> bool {
        !self.seats.shards().is_empty() || self.kept.is_some()
    }
}

/// All rooms. Bounded by `limits.rooms`: the one without members and kept events that was published longest ago is
/// forgotten.
pub struct Rooms {
    slab: Slab<RoomEntry>,
    index: SplitTable<u32>,
    newest: u32,
    oldest: u32,
    limit: usize,
    /// Rooms with a name outside.
    public: usize,
    evicted: u64,
    /// No forgotten room has had an event that came by here with a higher sequence number.
    forgotten: u64,
}

impl Rooms {
    /// An empty table for at most `limit` rooms without members.
    pub fn new(limit: usize) -> Rooms {
        Rooms {
            slab: Slab::new(),
            index: SplitTable::default(),
            newest: NONE,
            oldest: NONE,
            limit: limit.max(1),
            public: 0,
            evicted: 0,
            forgotten: 0,
        }
    }

    /// How many rooms are known by a name outside.
    pub fn public(&self) -> usize {
        self.public
    }

    /// Rooms forgotten since start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The room's key.
    pub fn find(&self, hash: u64, name: &str) -> Option<u32> {
        let is_it = |key: &u32| self.slab.get(*key as usize).is_some_and(|room| room.name.as_str() == name);
        self.index.find(hash, is_it).copied()
    }

    /// The room with that key.
    pub fn get(&self, key: u32) -> Option<&RoomEntry> {
        self.slab.get(key as usize)
    }

    /// The room with that key.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut RoomEntry> {
        self.slab.get_mut(key as usize)
    }

    /// The room of that name, a new one if there is none; it counts as published now. All events of public rooms and
    /// of everyone's come by here, so that a new one is known to have had none since it was forgotten.
    pub fn touch(&mut self, hash: u64, name: &str) -> u32 {
        match self.find(hash, name) {
            Some(key) => {
                self.refresh(key);
                key
            }
            None => self.insert(RoomName::named(name), self.forgotten),
        }
    }

    /// The room of that name, a new one if there is none; `sequence`: the newest sequence number.
    pub fn find_or_insert(&mut self, name: &RoomName, sequence: u64) -> u32 {
        self.find(name.hash(), name.as_str()).unwrap_or_else(|| {
            // Nobody knows what other internal rooms would have had while nobody was in them.
            let comes_by = name.is_public() || *name == RoomName::everyone();
            self.insert(name.clone(), if comes_by { self.forgotten } else { sequence })
        })
    }

    fn insert(&mut self, name: RoomName, last: u64) -> u32 {
        if self.slab.len() >= self.limit {
            self.evict();
        }
        let hash = name.hash();
        self.public += usize::from(name.is_public());
        let key = self.slab.insert(RoomEntry {
            name,
            offset: 0,
            last,
            seats: Seats::default(),
            latest: Latest::default(),
            kept: None,
            newer: NONE,
            older: NONE,
            is_listed: false,
        }) as u32;
        let slab = &self.slab;
        self.index.insert(hash, key, |key| slab.get(*key as usize).map_or(0, |room| room.name.hash()));
        self.link(key);
        key
    }

    /// A shard has members now.
    pub fn join(&mut self, key: u32, shard: u8, slot: u32) {
        self.unlink(key);
        if let Some(room) = self.get_mut(key) {
            room.seats.insert(shard, slot);
        }
    }

    /// A shard has no members any more.
    pub fn leave(&mut self, key: u32, shard: u8) {
        let Some(room) = self.get_mut(key) else { return };
        room.seats.remove(shard);
        self.let_go(key);
    }

    /// The room's events are kept from now on.
    pub fn keep(&mut self, key: u32, kept: Kept) {
        self.unlink(key);
        if let Some(room) = self.get_mut(key) {
            room.kept = Some(Box::new(kept));
        }
    }

    /// The room's events are kept no longer.
    pub fn give_up(&mut self, key: u32) {
        let Some(room) = self.get_mut(key) else { return };
        room.kept = None;
        self.let_go(key);
    }

    /// A room that is no longer needed may be forgotten; an internal one is, at once.
    fn let_go(&mut self, key: u32) {
        let Some(room) = self.get(key) else { return };
        if room.is_needed() {
            return;
        }
        match room.name.is_public() {
            true => self.link(key),
            false => self.remove(key),
        }
    }

    fn evict(&mut self) {
        // When every room has members the table grows: their number is bounded by the connections' rooms.
        if self.oldest != NONE {
            self.remove(self.oldest);
            self.evicted += 1;
        }
    }

    fn remove(&mut self, key: u32) {
        self.unlink(key);
        let room = self.slab.remove(key as usize);
        self.public -= usize::from(room.name.is_public());
        self.forgotten = self.forgotten.max(room.last);
        self.index.remove(room.name.hash(), |known| *known == key);
    }

    fn refresh(&mut self, key: u32) {
        if self.newest != key && self.get(key).is_some_and(|room| room.is_listed) {
            self.unlink(key);
            self.link(key);
        }
    }

    /// Puts a room without members at the new end of the list.
    fn link(&mut self, key: u32) {
        let newest = self.newest;
        let Some(room) = self.get_mut(key) else { return };
        if std::mem::replace(&mut room.is_listed, true) {
            return;
        }
        (room.newer, room.older) = (NONE, newest);
        match self.get_mut(newest) {
            Some(next) => next.newer = key,
            None => self.oldest = key,
        }
        self.newest = key;
    }

    fn unlink(&mut self, key: u32) {
        let Some(room) = self.get_mut(key) else { return };
        if !std::mem::replace(&mut room.is_listed, false) {
            return;
        }
        let (newer, older) = (room.newer, room.older);
        match self.get_mut(newer) {
            Some(room) => room.older = older,
            None => self.newest = older,
        }
        match self.get_mut(older) {
            Some(room) => room.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::name::hash;

    fn touch(rooms: &mut Rooms, name: &str) -> u32 {
        rooms.touch(hash(name), name)
    }

    #[test]
    fn the_room_without_members_published_longest_ago_is_forgotten() {
        let mut rooms = Rooms::new(3);
        let kept = touch(&mut rooms, "trade:A");
        rooms.join(kept, 0, 7);
        touch(&mut rooms, "trade:B");
        touch(&mut rooms, "trade:C");
        touch(&mut rooms, "trade:B");
        touch(&mut rooms, "trade:D");
        let known = |rooms: &Rooms, name: &str| rooms.find(hash(name), name).is_some();
        assert!(known(&rooms, "trade:A") && known(&rooms, "trade:B") && known(&rooms, "trade:D"));
        assert!(!known(&rooms, "trade:C"));
        rooms.leave(kept, 0);
        touch(&mut rooms, "trade:E");
        assert!(!known(&rooms, "trade:B"));
        assert_eq!((rooms.public(), rooms.evicted()), (3, 2));
    }
}
