//! Which shards have members of a room: one bit each.

use crate::limits::SHARDS;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest(u64);

impl Interest {
    /// The first `shards` shards.
    pub const fn all(shards: usize) -> Interest {
        Interest(if shards >= SHARDS { u64::MAX } else { (1 << shards) - 1 })
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: u8) {
        self.0 |= 1 << shard;
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: u8) {
        self.0 &= !(1 << shard);
    }

    /// Whether no shard is interested.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// How many shards of the set come before this one, if it is in the set.
    pub const fn rank(self, shard: u8) -> Option<usize> {
        let bit = 1 << shard;
        match self.0 & bit {
            0 => None,
            _ => Some((self.0 & (bit - 1)).count_ones() as usize),
        }
    }

    /// Those in either set.
    #[must_use]
    pub const fn union(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// The shards, ascending.
    pub fn shards(self) -> impl Iterator<Item = u8> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let shard = rest.trailing_zeros() as u8;
                rest &= rest - 1;
                shard
            })
        })
    }
}

/// Which shards have members of a room, and the slot the room has there, so that a shard need not look it up.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    shards: Interest,
    /// The slot of the only shard.
    one: u32,
    /// The slots of several shards, in the order of the shards.
    #[expect(clippy::box_collection, reason = "one word for the rooms that one shard is in, which are most")]
    many: Option<Box<Vec<u32>>>,
}

impl Seats {
    /// The shards.
    pub const fn shards(&self) -> Interest {
        self.shards
    }

    /// The room's slot on a shard that has members.
    pub fn slot(&self, shard: u8) -> Option<u32> {
        let place = self.shards.rank(shard)?;
        match &self.many {
            None => Some(self.one),
            Some(many) => many.get(place).copied(),
        }
    }

    /// Adds a shard, or gives it another slot.
    pub fn insert(&mut self, shard: u8, slot: u32) {
        let mut slots = self.slots();
        match self.shards.rank(shard) {
            Some(place) => slots[place] = slot,
            None => {
                self.shards.insert(shard);
                slots.insert(self.shards.rank(shard).unwrap_or_default(), slot);
            }
        }
        self.set(slots);
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: u8) {
        if let Some(place) = self.shards.rank(shard) {
            let mut slots = self.slots();
            slots.remove(place);
            self.shards.remove(shard);
            self.set(slots);
        }
    }

    fn slots(&mut self) -> Vec<u32> {
        match self.many.take() {
            Some(many) => *many,
            None if self.shards.is_empty() => Vec::new(),
            None => vec![self.one],
        }
    }

    fn set(&mut self, slots: Vec<u32>) {
        match slots[..] {
            [] => {}
            [one] => self.one = one,
            _ => self.many = Some(Box::new(slots)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_found_by_shard() {
        let mut seats = Seats::default();
        assert_eq!(seats.slot(0), None);
        for (shard, slot) in [(5, 50), (0, 10), (63, 70), (5, 51)] {
            seats.insert(shard, slot);
        }
        assert_eq!([0, 5, 63, 7].map(|shard| seats.slot(shard)), [Some(10), Some(51), Some(70), None]);
        seats.remove(0);
        seats.remove(63);
        assert_eq!([0, 5, 63].map(|shard| seats.slot(shard)), [None, Some(51), None]);
        seats.remove(5);
        assert!(seats.shards().is_empty());
    }
}
