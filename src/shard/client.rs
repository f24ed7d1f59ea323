//! A client: a session and its rooms. And the users of a shard, each with its clients.

use std::sync::Arc;

use crate::app::Session;
use crate::audience::Wire;
use crate::hash::SplitTable;
use crate::room::members::Membership;
use crate::room::publication::{EventType, Publication};
use crate::shard::line::{Line, LineKey, Way};
use crate::shard::recovery::Recovery;
use crate::shard::rooms::LocalRooms;
use crate::shard::slots::Slots;
use crate::shard::wheel::Tick;
use crate::users::User;

/// No client.
pub const NOBODY: u32 = u32::MAX;

/// One client: a native connection, or a namespace of an Engine.IO session.
pub struct Client {
    /// How it is reached.
    pub way: Way,
    /// How its events are framed.
    pub wire: Wire,
    /// What is published to its user reaches it.
    pub is_personal: bool,
    /// Its rooms. The first is the room of everyone.
    pub memberships: Vec<Membership>,
    /// Joins that wait for the router.
    pub joining: u32,
    /// The last event, or batch, that was pushed to it by more ways than one.
    pub stamp: u32,
    /// The next client of the same user on this shard.
    pub next_of_user: u32,
    /// When an unanswered WebSocket ping was sent; 0: none.
    pub ping_sent: Tick,
    /// Its state machine.
    pub session: Session,
    /// It asked for connection state recovery.
    pub recovery: Option<Box<Recovery>>,
}

impl Client {
    /// Whether it is being closed: nothing of what it sends counts any more.
    pub fn is_closing(&self) -> bool {
        self.line().is_some_and(|line| line.closing.is_some())
    }

    /// Its own line, if it is not a namespace of a session.
    pub fn line(&self) -> Option<&Line> {
        match &self.way {
            Way::Own(line) => Some(line),
            Way::Engine(_) => None,
        }
    }

    /// Its own line, if it is not a namespace of a session.
    pub fn line_mut(&mut self) -> Option<&mut Line> {
        match &mut self.way {
            Way::Own(line) => Some(line),
            Way::Engine(_) => None,
        }
    }

    /// Where its line is kept.
    pub fn line_key(&self, slot: u32) -> LineKey {
        match self.way {
            Way::Own(_) => LineKey::client(slot),
            Way::Engine(engine) => LineKey::engine(engine),
        }
    }

    /// Whether an event for the client's user reaches it by the event's type, although it has left the user's room.
    #[cold]
    pub fn has_type_of(&self, publication: &Publication, rooms: &LocalRooms) -> bool {
        let event = str::from_utf8(publication.event()).unwrap_or_default();
        let Some(kind) = EventType::of_event(event.trim_matches('"')) else { return false };
        let room = kind.room(publication.name());
        rooms
            .find(room.hash(), room.as_str())
            .is_some_and(|slot| self.memberships.iter().any(|membership| membership.room == slot))
    }
}

/// The users of a shard: each the head of a list through its clients.
#[derive(Default)]
pub struct LocalUsers {
    table: SplitTable<LocalUser>,
}

struct LocalUser {
    user: Arc<User>,
    first: u32,
}

impl LocalUsers {
    /// The first client of a user, or [`NOBODY`].
    pub fn first(&self, hash: u64, id: &str) -> u32 {
        self.table.find(hash, |known| known.user.id() == id).map_or(NOBODY, |known| known.first)
    }

    /// Puts a client at the head of its user's list. True if it is the first.
    pub fn insert(&mut self, clients: &mut Slots<Client>, slot: u32) -> bool {
        let Some(client) = clients.get_mut(slot) else { return false };
        let user = Arc::clone(client.session.user());
        if let Some(known) = self.table.find_mut(user.hash(), |known| known.user.id() == user.id()) {
            client.next_of_user = std::mem::replace(&mut known.first, slot);
            return false;
        }
        self.table.insert(user.hash(), LocalUser { user, first: slot }, |known| known.user.hash());
        true
    }

    /// Takes a client out of its user's list. True if it was the last.
    pub fn remove(&mut self, clients: &mut Slots<Client>, slot: u32) -> bool {
        let Some(client) = clients.get(slot) else { return false };
        let (user, next) = (Arc::clone(client.session.user()), client.next_of_user);
        let is_it = |known: &LocalUser| known.user.id() == user.id();
        let Some(known) = self.table.find_mut(user.hash(), is_it) else { return false };
        if known.first == slot {
            if next == NOBODY {
                self.table.remove(user.hash(), is_it);
                return true;
            }
            known.first = next;
            return false;
        }
        // At most the user's connection limit long.
        let mut at = known.first;
        while let Some(before) = clients.get_mut(at) {
            if before.next_of_user == slot {
                before.next_of_user = next;
                break;
            }
            at = before.next_of_user;
        }
        false
    }
}
