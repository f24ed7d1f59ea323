//! Which users are connected, on which shards; when they came and went.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::hash::{SplitTable, hash};
use crate::room::interest::Interest;
use crate::time::Now;
use crate::users::{Presence, User};

/// How long a user may be without a connection before it counts as gone: a reconnect within it is silent.
const GRACE: Duration = Duration::from_secs(5);
/// Users whose last presence is remembered after they went.
const REMEMBERED: usize = 100_000;

/// A user who is connected, or has just lost the last connection.
struct Online {
    user: Arc<User>,
    shards: Interest,
    /// Which departure is the latest: a user may come and go several times within the grace.
    departure: u64,
}

/// The presence of all users.
#[derive(Default)]
pub struct Presences {
    online: SplitTable<Online>,
    /// Departures whose grace runs, oldest first.
    leaving: VecDeque<(u64, u64, Arc<User>)>,
    last_seen: HashMap<SmolStr, u64, ahash::RandomState>,
    seen_order: VecDeque<(SmolStr, u64)>,
    next_departure: u64,
}

impl Presences {
    fn find(&self, user: &str) -> Option<&Online> {
        self.online.find(hash(user), |online| online.user.id() == user)
    }

    fn find_mut(&mut self, user: &User) -> Option<&mut Online> {
        self.online.find_mut(user.hash(), |online| online.user.id() == user.id())
    }

    /// The shards where a user has connections.
    pub fn shards(&self, user: &str) -> Interest {
        self.find(user).map_or(Interest::default(), |online| online.shards)
    }

    /// Users online.
    pub fn len(&self) -> usize {
        self.online.len()
    }

    /// Connections of a user.
    pub fn connections(&self, user: &str) -> u32 {
        self.find(user).map_or(0, |online| online.user.connections())
    }

    /// A shard has a first connection of the user. True if the user has come online.
    pub fn up(&mut self, user: &Arc<User>, shard: u8) -> bool {
        if let Some(online) = self.find_mut(user) {
            online.shards.insert(shard);
            // The users' map may have made a new entry meanwhile.
            online.user = Arc::clone(user);
            return false;
        }
        let mut shards = Interest::default();
        shards.insert(shard);
        let online = Online { user: Arc::clone(user), shards, departure: 0 };
        self.online.insert(user.hash(), online, |online| online.user.hash());
        true
    }

    /// A shard has no connection of the user any more.
    pub fn down(&mut self, user: &Arc<User>, shard: u8, now: Now) {
        self.next_departure += 1;
        let departure = self.next_departure;
        let Some(online) = self.find_mut(user) else { return };
        online.shards.remove(shard);
        if online.shards.is_empty() {
            online.departure = departure;
            self.leaving.push_back((now.mono + GRACE.as_nanos() as u64, departure, Arc::clone(user)));
        }
    }

    /// Takes out a user whose grace is over; called until it gives `None`.
    pub fn next_gone(&mut self, now: Now) -> Option<SmolStr> {
        while let Some((until, ..)) = self.leaving.front() {
            if *until > now.mono {
                return None;
            }
            let (_, departure, user) = self.leaving.pop_front()?;
            let is_gone = |online: &Online| {
                online.user.id() == user.id() && online.departure == departure && online.shards.is_empty()
            };
            if self.online.remove(user.hash(), is_gone).is_some() {
                self.remember(user.id().clone(), now.unix_ms());
                return Some(user.id().clone());
            }
        }
        None
    }

    /// When the next grace is over, monotonic ns.
    pub fn next_deadline(&self) -> Option<u64> {
        self.leaving.front().map(|(until, _, _)| *until)
    }

    fn remember(&mut self, id: SmolStr, unix_ms: u64) {
        self.last_seen.insert(id.clone(), unix_ms);
        self.seen_order.push_back((id, unix_ms));
        if self.seen_order.len() > REMEMBERED
            && let Some((id, since)) = self.seen_order.pop_front()
            && self.last_seen.get(&id) == Some(&since)
        {
            self.last_seen.remove(&id);
        }
    }

    /// What is known of a user.
    pub fn of(&self, user: &SmolStr) -> Presence {
        let online = self.find(user).is_some();
        let last_seen = self.last_seen.get(user).copied().filter(|_| !online);
        Presence { user: user.clone(), online, last_seen }
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
        let ada = users.connect("ada", App::Market, limits, 0).expect("no limit");
        let (start, mut presences) = (Now::default(), Presences::default());
        assert!(presences.up(&ada, 0));
        presences.down(&ada, 0, start);
        assert!(presences.of(ada.id()).online);
        assert!(!presences.up(&ada, 1));
        let later = start.plus(GRACE);
        assert_eq!(presences.next_gone(later), None);
        presences.down(&ada, 1, later);
        assert_eq!(presences.next_gone(later), None);
        assert_eq!(presences.next_gone(later.plus(GRACE)).as_deref(), Some("ada"));
        let gone = presences.of(ada.id());
        assert!(!gone.online && gone.last_seen == Some(10_000));
        assert_eq!((presences.len(), presences.next_deadline()), (0, None));
    }
}
