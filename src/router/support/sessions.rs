//! Who takes part in the sessions that somebody is connected to, who of them is connected, and who types.
//!
//! The store says who takes part, in the order of its commits, and before it lets anybody in; the shards say who comes and
//! goes. So a session is known here by the time its first client comes, and for a while after the last has gone.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::record::support::{Census, Member, SessionCensus};
use crate::time::Now;

/// How long a session is known to which nobody is connected: much longer than anything is on its way between threads.
const IDLE: Duration = Duration::from_secs(60);
/// Such sessions, about 200 bytes each; beyond it the one that has been idle for longest is forgotten. Nothing is lost with
/// it but that a participant who is connected to all of his sessions at once is told who types.
const MOST_IDLE: usize = 65_536;

/// A session.
#[derive(Default)]
struct Live {
    members: Vec<Member>,
    users: Vec<LiveUser>,
    /// Which entry of the idle list is its own; 0: somebody is connected.
    idle: u64,
}

/// A user who is connected, or types from elsewhere.
struct LiveUser {
    user: SmolStr,
    connections: u32,
    /// His connections that type.
    typing: u32,
}

impl Live {
    fn user(&mut self, user: &SmolStr) -> &mut LiveUser {
        let at = self.users.iter().position(|known| known.user == *user).unwrap_or_else(|| {
            self.users.push(LiveUser { user: user.clone(), connections: 0, typing: 0 });
            self.users.len() - 1
        });
        &mut self.users[at]
    }

    /// Users with connections.
    fn count(&self) -> u64 {
        self.users.iter().filter(|user| user.connections > 0).count() as u64
    }
}

/// All such sessions.
#[derive(Default)]
pub struct SupportSessions {
    live: HashMap<Uuid, Live, ahash::RandomState>,
    /// The same members by user, so that a change of one user's concerns only the sessions in which he takes part.
    parts: BTreeSet<(SmolStr, Uuid)>,
    /// Sessions to which nobody is connected: until when, which, and the number of the entry.
    idle: VecDeque<(u64, Uuid, u64)>,
    entries: u64,
    /// What is connected in all; its list is made when it is asked for.
    sums: Census,
}

impl SupportSessions {
    /// Who takes part in a session, as the store has it now.
    pub fn set_members(&mut self, session: Uuid, members: Vec<Member>, now: Now) {
        let live = self.live.entry(session).or_default();
        let before = std::mem::replace(&mut live.members, members);
        let is_among = |all: &[Member], one: &Member| all.iter().any(|member| member.user == one.user);
        for gone in before.iter().filter(|member| !is_among(&live.members, member)) {
            self.parts.remove(&(gone.user.clone(), session));
        }
        for new in live.members.iter().filter(|member| !is_among(&before, member)) {
            self.parts.insert((new.user.clone(), session));
        }
        if live.users.is_empty() && live.idle == 0 {
            self.rest(session, now);
        }
    }

    /// A user has begun, or ceased, to want to hear nothing of another one.
    pub fn set_blocked(&mut self, user: &SmolStr, blocked: &SmolStr, is_blocked: bool) {
        for (_, session) in self.parts.range((user.clone(), Uuid::nil())..=(user.clone(), Uuid::max())) {
            let Some(live) = self.live.get_mut(session) else { continue };
            if !live.members.iter().any(|member| member.user == *blocked) {
                continue;
            }
            let Some(member) = live.members.iter_mut().find(|member| member.user == *user) else { continue };
            member.blocks.retain(|known| known != blocked);
            member.blocks.extend(is_blocked.then(|| blocked.clone()));
        }
    }

    /// A connection of a user has come: whether it is his first, and how many users there are now.
    pub fn came(&mut self, session: Uuid, user: &SmolStr) -> (bool, u64) {
        let live = self.live.entry(session).or_default();
        live.idle = 0;
        if !live.members.iter().any(|member| member.user == *user) {
            live.members.push(Member { user: user.clone(), blocks: Vec::new() });
            self.parts.insert((user.clone(), session));
        }
        let known = live.user(user);
        known.connections += 1;
        let (is_first, users) = (known.connections == 1, live.count());
        self.sums.connections += 1;
        self.sums.users += u64::from(is_first);
        self.sums.sessions += u64::from(is_first && users == 1);
        (is_first, users)
    }

    /// A connection of a user has gone. How many users there are now, if it was his last.
    pub fn went(&mut self, session: Uuid, user: &SmolStr, now: Now) -> Option<u64> {
        let live = self.live.get_mut(&session)?;
        let known = live.users.iter_mut().find(|known| known.user == *user && known.connections > 0)?;
        known.connections -= 1;
        let was_last = known.connections == 0;
        live.users.retain(|known| known.connections > 0 || known.typing > 0);
        let users = live.count();
        let is_empty = live.users.is_empty();
        self.sums.connections -= 1;
        self.sums.users -= u64::from(was_last);
        self.sums.sessions -= u64::from(was_last && users == 0);
        if is_empty {
            self.rest(session, now);
        }
        was_last.then_some(users)
    }

    /// A connection of a user types, or no more. Whether that changes anything for the user.
    pub fn types(&mut self, session: Uuid, user: &SmolStr, is_typing: bool, now: Now) -> bool {
        let live = self.live.entry(session).or_default();
        if is_typing {
            live.idle = 0;
            let known = live.user(user);
            known.typing += 1;
            return known.typing == 1;
        }
        let known = live.users.iter_mut().find(|known| known.user == *user && known.typing > 0);
        let has_stopped = known.is_some_and(|known| {
            known.typing -= 1;
            known.typing == 0
        });
        live.users.retain(|known| known.connections > 0 || known.typing > 0);
        if live.users.is_empty() && live.idle == 0 {
            self.rest(session, now);
        }
        has_stopped
    }

    /// Everybody who takes part.
    pub fn all(&self, session: Uuid) -> Vec<SmolStr> {
        let members = self.live.get(&session).map(|live| &live.members[..]).unwrap_or_default();
        members.iter().map(|member| member.user.clone()).collect()
    }

    /// The others, but those who want to hear nothing of the user.
    pub fn others(&self, session: Uuid, user: &SmolStr) -> Vec<SmolStr> {
        let members = self.live.get(&session).map(|live| &live.members[..]).unwrap_or_default();
        let hears = |member: &&Member| member.user != *user && !member.blocks.contains(user);
        members.iter().filter(hears).map(|member| member.user.clone()).collect()
    }

    /// Who is connected.
    pub fn census(&self) -> Census {
        let listed = self.live.iter().map(|(session, live)| SessionCensus {
            session: *session,
            users: live.count(),
            typing: live.users.iter().filter(|user| user.typing > 0).count() as u64,
        });
        let mut list: Vec<_> = listed.filter(|one| one.users > 0).take(Census::MOST).collect();
        list.sort_unstable_by_key(|one| one.session);
        Census { list, ..self.sums.clone() }
    }

    /// Nobody is connected to a session.
    fn rest(&mut self, session: Uuid, now: Now) {
        self.entries += 1;
        if let Some(live) = self.live.get_mut(&session) {
            live.idle = self.entries;
        }
        self.idle.push_back((now.plus(IDLE).mono, session, self.entries));
        while let Some((until, session, entry)) = self.idle.front().copied()
            && (until <= now.mono || self.idle.len() > MOST_IDLE)
        {
            self.idle.pop_front();
            if self.live.get(&session).is_some_and(|live| live.idle == entry)
                && let Some(gone) = self.live.remove(&session)
            {
                for member in gone.members {
                    self.parts.remove(&(member.user, session));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
