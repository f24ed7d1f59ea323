//! The local members of one room, grouped by wire, so that a frame made for a wire meets a plain list of clients.

use crate::audience::Wire;

/// A membership's place, kept by the client so that leaving costs O(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The room's slot on this shard.
    pub room: u32,
    /// The client's index in its wire's list.
    pub position: u32,
}

/// The members of one wire.
#[derive(Debug)]
pub struct Group {
    /// Their wire.
    pub wire: Wire,
    /// Their slots, in no order.
    pub clients: Vec<u32>,
}

/// The members of a room. A group without members is not kept.
#[derive(Debug, Default)]
pub struct Members {
    groups: Vec<Group>,
}

impl Members {
    /// Adds a client that is not a member and returns its position.
    pub fn insert(&mut self, wire: Wire, client: u32) -> u32 {
        let group = match self.groups.iter().position(|group| group.wire == wire) {
            Some(index) => &mut self.groups[index],
            None => {
                self.groups.push(Group { wire, clients: Vec::new() });
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        group.clients.push(client);
        (group.clients.len() - 1) as u32
    }

    /// Removes the member at `position`. Returns the client that now has that position, if another one moved there.
    pub fn remove(&mut self, wire: Wire, position: u32) -> Option<u32> {
        let index = self.groups.iter().position(|group| group.wire == wire)?;
        let clients = &mut self.groups[index].clients;
        clients.swap_remove(position as usize);
        let moved = clients.get(position as usize).copied();
        if clients.is_empty() {
            self.groups.swap_remove(index);
        }
        moved
    }

    /// The members by wire.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.clients.len()).sum()
    }

    /// Whether nobody is in the room.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}
