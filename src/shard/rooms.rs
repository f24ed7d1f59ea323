//! The shard's part of the room tables: the rooms with members here, and the joins that wait for the router.

use crate::app::outputs::Joining;
use crate::hash::SplitTable;
use crate::mailbox::ToRouter;
use crate::room::latest::Latest;
use crate::room::members::Members;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::ClientId;
use crate::shard::slots::Slots;

/// The slot of the internal room that every client is in.
pub const EVERYONE: u32 = 0;
/// No batch is open for the room.
pub const NO_BATCH: u32 = u32::MAX;

/// A room with members on this shard, or about to have some.
pub struct LocalRoom {
    /// Its name.
    pub name: RoomName,
    /// What happens to slow subscribers.
    pub policy: Policy,
    /// Whether the router posts to us.
    pub state: RoomState,
    /// The clients in it.
    pub members: Members,
    /// The newest events, for those who join later.
    pub latest: Latest,
    /// The batch that this turn's events of the room are gathered in.
    pub open_batch: u32,
    /// Members that may come back for what they missed: while there are any, the router keeps the room's history.
    keepers: u32,
    /// Clients that are about to be members again: the room is not left while there are any.
    pub held: u32,
}

impl LocalRoom {
    fn new(name: RoomName, policy: Policy, state: RoomState) -> LocalRoom {
        LocalRoom {
            name,
            policy,
            state,
            members: Members::default(),
            latest: Latest::default(),
            open_batch: NO_BATCH,
            keepers: 0,
            held: 0,
        }
    }

    /// A member that may come back is in. Of rooms with policy `latest` only the newest events are ever given.
    pub fn keep(&mut self, shard: u8, outgoing: &mut Vec<ToRouter>) {
        self.keepers += 1;
        if self.keepers == 1 && self.policy == Policy::Every {
            outgoing.push(ToRouter::Keep { shard, room: self.name.clone() });
        }
    }

    /// Whether there are such members.
    pub fn is_kept(&self) -> bool {
        self.keepers > 0
    }

    /// Such a member is out.
    pub fn unkeep(&mut self, shard: u8, outgoing: &mut Vec<ToRouter>) {
        self.keepers -= 1;
        if self.keepers == 0 && self.policy == Policy::Every {
            outgoing.push(ToRouter::Unkeep { shard, room: self.name.clone() });
        }
    }
}

/// Whether the router posts a room's events to this shard.
pub enum RoomState {
    /// Asked; what clients want of the room waits for the answer.
    Joining {
        /// The order in which rooms were asked for, which is the order of the answers.
        order: u64,
        /// In the order they came.
        waiting: Vec<Waiting>,
    },
    /// It does.
    Joined,
}

/// What a client wants of a room that is being joined.
pub struct Waiting {
    /// The client.
    pub client: ClientId,
    /// To be in it, or to be out again.
    pub join: bool,
    /// Sent when it is so.
    pub confirmation: Option<Box<[u8]>>,
}

/// All rooms of a shard.
pub struct LocalRooms {
    slots: Slots<LocalRoom>,
    index: SplitTable<u32>,
    next_order: u64,
}

impl LocalRooms {
    /// The table with the room of everyone in it.
    pub fn new() -> LocalRooms {
        let mut slots = Slots::default();
        let everyone = slots.insert(LocalRoom::new(RoomName::everyone(), Policy::Every, RoomState::Joined));
        debug_assert_eq!(everyone, EVERYONE);
        LocalRooms { slots, index: SplitTable::default(), next_order: 0 }
    }

    /// The slot of a room.
    pub fn find(&self, hash: u64, name: &str) -> Option<u32> {
        let is_it = |slot: &u32| self.slots.get(*slot).is_some_and(|room| room.name.as_str() == name);
        self.index.find(hash, is_it).copied()
    }

    /// The slot, if the room with that hash is still there: a room that was left makes place for another one.
    pub fn check(&self, slot: u32, hash: u64) -> Option<u32> {
        self.slots.get(slot).filter(|room| room.name.hash() == hash).map(|_| slot)
    }

    /// The room in a slot.
    pub fn get(&self, slot: u32) -> Option<&LocalRoom> {
        self.slots.get(slot)
    }

    /// The room in a slot.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut LocalRoom> {
        self.slots.get_mut(slot)
    }

    /// A client that may come back is about to join: the router is to keep the room's history, if it does not yet.
    pub fn keep_soon(&self, shard: u8, joining: &Joining, outgoing: &mut Vec<ToRouter>) {
        let room = self.find(joining.room.hash(), joining.room.as_str()).and_then(|slot| self.get(slot));
        if joining.policy == Policy::Every && room.is_none_or(|room| room.keepers == 0) {
            outgoing.push(ToRouter::Keep { shard, room: joining.room.clone() });
        }
    }

    /// The slot of a room that a client wants to join; a new one is asked for at the router.
    pub fn find_or_join(
        &mut self,
        shard: u8,
        name: &RoomName,
        policy: Policy,
        outgoing: &mut Vec<ToRouter>,
    ) -> u32 {
        if let Some(slot) = self.find(name.hash(), name.as_str()) {
            return slot;
        }
        self.next_order += 1;
        let state = RoomState::Joining { order: self.next_order, waiting: Vec::new() };
        let slot = self.slots.insert(LocalRoom::new(name.clone(), policy, state));
        outgoing.push(ToRouter::Join { shard, room: name.clone(), slot, policy });
        let slots = &self.slots;
        self.index.insert(name.hash(), slot, |slot| slots.get(*slot).map_or(0, |room| room.name.hash()));
        slot
    }

    /// Forgets a room that has been joined and has no members, and tells the router.
    pub fn leave_if_empty(&mut self, shard: u8, slot: u32, outgoing: &mut Vec<ToRouter>) {
        let is_over = |room: &LocalRoom| {
            slot != EVERYONE
                && room.members.is_empty()
                && room.held == 0
                && matches!(room.state, RoomState::Joined)
        };
        if !self.slots.get(slot).is_some_and(is_over) {
            return;
        }
        let Some(room) = self.slots.remove(slot) else { return };
        debug_assert_eq!(room.open_batch, NO_BATCH);
        self.index.remove(room.name.hash(), |known| *known == slot);
        outgoing.push(ToRouter::Leave { shard, room: room.name });
    }

    /// The slots of all rooms, that of everyone included.
    #[cfg(debug_assertions)]
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.slots.keys()
    }

    /// Rooms with a public name.
    pub fn public(&self) -> impl Iterator<Item = &LocalRoom> {
        self.slots
            .keys()
            .filter(|slot| *slot != EVERYONE)
            .filter_map(|slot| self.slots.get(slot))
            .filter(|room| room.name.is_public())
    }

    /// How many rooms there are, without that of everyone.
    pub fn len(&self) -> usize {
        self.slots.len() - 1
    }
}
