//! Connections of a user to one support session, over all shards (`spec/decisions.md` 5).

use std::fmt;
use std::sync::Arc;

use papaya::{Compute, Operation};
use smol_str::SmolStr;
use uuid::Uuid;

/// A user and the session he is connected to; `None`: all of his sessions.
type Key = (SmolStr, Option<Uuid>);

/// How many connections there are of each.
#[derive(Debug, Default)]
pub struct Seats(papaya::HashMap<Key, u32, ahash::RandomState>);

/// A connection's place. Dropping it gives it back.
pub struct Seat {
    seats: Arc<Seats>,
    key: Key,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.key).finish()
    }
}

impl Seats {
    /// Takes a place; `None`: there are `limit` connections already. `limit` 0 is off.
    pub fn take(self: &Arc<Seats>, user: &str, session: Option<Uuid>, limit: u32) -> Option<Seat> {
        let key = (SmolStr::new(user), session);
        let more = |known: Option<(&Key, &u32)>| match known.map_or(0, |(_, count)| *count) {
            count if limit > 0 && count >= limit => Operation::Abort(()),
            count => Operation::Insert(count + 1),
        };
        match self.0.pin().compute(key.clone(), more) {
            Compute::Aborted(()) => None,
            _ => Some(Seat { seats: Arc::clone(self), key }),
        }
    }

    /// Entries: pairs of users and sessions with connections.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let less = |known: Option<(&Key, &u32)>| match known.map_or(0, |(_, count)| *count) {
            0 | 1 => Operation::<u32, ()>::Remove,
            count => Operation::Insert(count - 1),
        };
        self.seats.0.pin().compute(self.key.clone(), less);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn places_count_per_user_and_session_and_are_given_back() {
        let seats = Arc::new(Seats::default());
        let (one, other) = (Some(Uuid::from_bytes([1; 16])), Some(Uuid::from_bytes([2; 16])));
        let first = seats.take("ada", one, 2);
        let second = seats.take("ada", one, 2);
        assert!(first.is_some() && second.is_some() && seats.take("ada", one, 2).is_none());
        let elsewhere = [seats.take("ada", other, 2), seats.take("bob", one, 2), seats.take("ada", None, 2)];
        assert!(elsewhere.iter().all(Option::is_some));
        drop(first);
        let again = seats.take("ada", one, 2);
        assert!(again.is_some() && seats.take("ada", one, 2).is_none());
        let unlimited: Vec<_> = (0..9).map(|_| seats.take("cleo", one, 0)).collect();
        assert!(unlimited.iter().all(Option::is_some));
        drop((second, again, elsewhere, unlimited));
        assert!(seats.is_empty());
    }

    #[test]
    fn concurrent_comings_and_goings_leave_nothing() {
        let seats = Arc::new(Seats::default());
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let held: Vec<_> = (0..2).filter_map(|_| seats.take("ada", None, 5)).collect();
                        let mine = held.len() as u32;
                        assert!(taken.fetch_add(mine, Ordering::SeqCst) + mine <= 5);
                        taken.fetch_sub(mine, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert!(seats.is_empty());
    }
}
