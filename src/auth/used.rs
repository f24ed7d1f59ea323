//! Single-use tokens that were used: their ids, until the tokens have ended anyway.
//!
//! Shared by all shards, without a lock. Bounded: beyond [`UsedTokens::MOST`] ids, which is fifteen thousand new
//! connections a second, single-use tokens are refused.

use std::sync::atomic::{AtomicU64, Ordering};

use super::AuthError;

/// A token that opens one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Once {
    /// Its id: 128 random bits.
    pub id: u128,
    /// The first Unix second at which nobody takes it any more, and its id need not be known.
    pub over_at: u64,
}

/// The ids of those that were used.
#[derive(Debug, Default)]
pub struct UsedTokens {
    /// By id, when each is over.
    ids: papaya::HashMap<u128, u64, ahash::RandomState>,
    /// When those that are over were last taken out for want of room, Unix seconds.
    swept_at: AtomicU64,
}

impl UsedTokens {
    /// Most ids that are kept, some 50 bytes each.
    pub const MOST: usize = 1_000_000;

    /// Uses the token; of several who try at once, one may.
    ///
    /// # Errors
    /// It was used before, or there is no room to remember that it is used now.
    pub fn take(&self, once: Once, now_unix_seconds: u64) -> Result<(), AuthError> {
        if self.ids.len() >= UsedTokens::MOST {
            // Once a second at most: it looks at all of them.
            if self.swept_at.fetch_max(now_unix_seconds, Ordering::AcqRel) < now_unix_seconds {
                self.sweep(now_unix_seconds);
            }
            if self.ids.len() >= UsedTokens::MOST {
                return Err(AuthError::Invalid("too many of its kind were used in the last minute"));
            }
        }
        match self.ids.pin().try_insert(once.id, once.over_at) {
            Ok(_) => Ok(()),
            Err(_) => Err(AuthError::Invalid("it opens one connection, and was used already")),
        }
    }

    /// Takes out those that are over. Called now and then by one thread.
    pub fn sweep(&self, now_unix_seconds: u64) {
        self.ids.pin().retain(|_, over_at| *over_at > now_unix_seconds);
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_be_used_once_by_whoever_comes_first() {
        let used = UsedTokens::default();
        let once = Once { id: 7, over_at: 65 };
        let taken: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| used.take(once, 0).is_ok())).collect();
            all.into_iter().map(|one| usize::from(one.join().expect("ended"))).sum()
        });
        assert_eq!(taken, 1);
        assert_eq!(used.take(Once { id: 8, ..once }, 0), Ok(()));
        used.sweep(64);
        assert_eq!(used.len(), 2);
        used.sweep(65);
        assert!(used.is_empty());
    }

    #[test]
    fn when_there_is_no_room_none_is_taken_until_some_are_over() {
        let used = UsedTokens::default();
        for id in 0..UsedTokens::MOST as u128 {
            used.take(Once { id, over_at: 65 }, 0).expect("room");
        }
        let next = Once { id: u128::MAX, over_at: 130 };
        assert!(matches!(used.take(next, 64), Err(AuthError::Invalid(_))));
        assert_eq!(used.len(), UsedTokens::MOST);
        assert_eq!(used.take(next, 65), Ok(()));
        assert_eq!(used.len(), 1);
    }
}
