//! Which users are connected, on which shards; when they came and went.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::room::interest::Interest;
use crate::time::Now;
use crate::users::{Presence, User};

/// How long a user may be without a connection before it counts as gone: a reconnect within it is silent.
const GRACE: Duration = Duration::from_secs(5);
/// Users whose last presence is remembered after they went.
const REMEMBERED: usize = 100_000;

/// A user who is connected, or has just lost the last connection.
struct Online {
    shards: Interest,
    user: Arc<User>,
    /// Which departure is the latest: a user may come and go several times within the grace.
    departure: u64,
}

/// The presence of all users.
#[derive(Default)]
pub struct Presences {
    online: HashMap<Arc<str>, Online, ahash::RandomState>,
    /// Departures whose grace runs, oldest first.
    leaving: VecDeque<(u64, u64, Arc<str>)>,
    last_seen: HashMap<Arc<str>, u64, ahash::RandomState>,
    seen_order: VecDeque<(Arc<str>, u64)>,
    next_departure: u64,
}

impl Presences {
    /// The shards where a user has connections.
    pub fn shards(&self, user: &str) -> Interest {
        self.online.get(user).map_or(Interest::default(), |online| online.shards)
    }

    /// Users online.
    pub fn len(&self) -> usize {
        self.online.len()
    }

    /// Connections of a user.
    pub fn connections(&self, user: &str) -> u32 {
        self.online.get(user).map_or(0, |online| online.user.connections())
    }

    /// A shard has a first connection of the user. True if the user has come online.
    pub fn up(&mut self, user: &Arc<User>, shard: u8) -> bool {
        match self.online.get_mut(&**user.id()) {
            Some(online) => {
                online.shards.insert(shard);
                // The users' map may have made a new entry meanwhile.
                online.user = Arc::clone(user);
                false
            }
            None => {
                let mut shards = Interest::default();
                shards.insert(shard);
                let online = Online { shards, user: Arc::clone(user), departure: 0 };
                self.online.insert(Arc::clone(user.id()), online);
                true
            }
        }
    }

    /// A shard has no connection of the user any more.
    pub fn down(&mut self, user: &str, shard: u8, now: Now) {
        let Some(online) = self.online.get_mut(user) else { return };
        online.shards.remove(shard);
        if online.shards.is_empty() {
            self.next_departure += 1;
            online.departure = self.next_departure;
            let id = Arc::clone(online.user.id());
            self.leaving.push_back((now.mono + GRACE.as_nanos() as u64, self.next_departure, id));
        }
    }

    /// Takes out a user whose grace is over; called until it gives `None`.
    pub fn next_gone(&mut self, now: Now) -> Option<Arc<str>> {
        while let Some((until, departure, _)) = self.leaving.front() {
            if *until > now.mono {
                return None;
            }
            let departure = *departure;
            let (_, _, id) = self.leaving.pop_front()?;
            let is_gone = |online: &Online| online.departure == departure && online.shards.is_empty();
            if self.online.get(&id).is_some_and(is_gone) {
                self.online.remove(&id);
                self.remember(Arc::clone(&id), now.unix_ms());
                return Some(id);
            }
        }
        None
    }

    /// When the next grace is over, monotonic ns.
    pub fn next_deadline(&self) -> Option<u64> {
        self.leaving.front().map(|(until, _, _)| *until)
    }

    fn remember(&mut self, id: Arc<str>, unix_ms: u64) {
        self.last_seen.insert(Arc::clone(&id), unix_ms);
        self.seen_order.push_back((id, unix_ms));
        if self.seen_order.len() > REMEMBERED
            && let Some((id, since)) = self.seen_order.pop_front()
            && self.last_seen.get(&id) == Some(&since)
        {
            self.last_seen.remove(&id);
        }
    }

    /// What is known of a user.
    pub fn of(&self, user: &Arc<str>) -> Presence {
        Presence {
            user: Arc::clone(user),
            online: self.online.contains_key(user),
            last_seen: self.last_seen.get(user).copied().filter(|_| !self.online.contains_key(user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::App;
    use crate::users::{UserLimits, Users};

    #[test]
    fn a_reconnect_within_the_grace_is_silent() {
        let users = Users::default();
        let limits = UserLimits { connections: 0, connects: None };
        let ada = users.connect(&"ada".into(), App::Market, limits, 0).expect("no limit");
        let (start, mut presences) = (Now::default(), Presences::default());
        assert!(presences.up(&ada, 0));
        presences.down("ada", 0, start);
        assert!(presences.of(ada.id()).online);
        assert!(!presences.up(&ada, 1));
        let later = start.plus(GRACE);
        assert_eq!(presences.next_gone(later), None);
        presences.down("ada", 1, later);
        assert_eq!(presences.next_gone(later), None);
        assert_eq!(presences.next_gone(later.plus(GRACE)).as_deref(), Some("ada"));
        let gone = presences.of(ada.id());
        assert!(!gone.online && gone.last_seen == Some(10_000));
        assert_eq!((presences.len(), presences.next_deadline()), (0, None));
    }
}
