//! The local members of one room, grouped by wire, so that a frame made for a wire meets a plain list of clients.

use std::slice;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Their wire.
    pub wire: Wire,
    /// Their slots, in no order. Never empty.
    pub clients: &'a [u32],
}

/// The members of a room.
#[derive(Debug, Default)]
pub enum Members {
    /// Nobody.
    #[default]
    None,
    /// One client: most rooms are somebody's own, and need no list.
    One(Wire, u32),
    /// Lists by wire, none of them empty.
    Many(Vec<(Wire, Vec<u32>)>),
}

impl Members {
    /// Adds a client that is not a member and returns its position.
    pub fn insert(&mut self, wire: Wire, client: u32) -> u32 {
        match self {
            Members::None => *self = Members::One(wire, client),
            Members::One(first_wire, first) => {
                let (first_wire, first) = (*first_wire, *first);
                *self = Members::Many(vec![(first_wire, vec![first])]);
                return self.insert(wire, client);
            }
            Members::Many(groups) => {
                if let Some((_, clients)) = groups.iter_mut().find(|(known, _)| *known == wire) {
                    clients.push(client);
                    return (clients.len() - 1) as u32;
                }
                groups.push((wire, vec![client]));
            }
        }
        0
    }

    /// Removes the member at `position`. Returns the client that now has that position, if another one moved there.
    pub fn remove(&mut self, wire: Wire, position: u32) -> Option<u32> {
        let Members::Many(groups) = self else {
            *self = Members::None;
            return None;
        };
        let index = groups.iter().position(|(known, _)| *known == wire)?;
        let clients = &mut groups[index].1;
        clients.swap_remove(position as usize);
        let moved = clients.get(position as usize).copied();
        if clients.is_empty() {
            groups.swap_remove(index);
        }
        if groups.is_empty() {
            *self = Members::None;
        }
        moved
    }

    /// The members by wire.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let (one, many) = match self {
            Members::None => (None, &[][..]),
            Members::One(wire, client) => {
                (Some(Group { wire: *wire, clients: slice::from_ref(client) }), &[][..])
            }
            Members::Many(groups) => (None, &groups[..]),
        };
        one.into_iter().chain(many.iter().map(|(wire, clients)| Group { wire: *wire, clients }))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match self {
            Members::None => 0,
            Members::One(..) => 1,
            Members::Many(groups) => groups.iter().map(|(_, clients)| clients.len()).sum(),
        }
    }

    /// Whether nobody is in the room.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Members::None)
    }
}
