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
