//! The newest event of each key of a room.

use std::sync::Arc;

use crate::room::publication::Publication;

/// The newest events of one room, one for each key. Bounded by `limits.keys_per_room`, which the router enforces.
#[derive(Debug, Default)]
pub struct Latest {
    // A list: rooms have one to a handful of keys, and comparing hashes in a row beats any map.
    events: Vec<Arc<Publication>>,
}

impl Latest {
    /// Takes over what the router keeps.
    pub fn from_events(events: Vec<Arc<Publication>>) -> Latest {
        Latest { events }
    }

    /// Whether the key is there, or may be added under `max_keys`.
    pub fn has_room(&self, key: &str, max_keys: usize) -> bool {
        self.events.len() < max_keys || self.events.iter().any(|known| known.key() == key.as_bytes())
    }

    /// Makes the event the newest of its key.
    pub fn put(&mut self, event: &Arc<Publication>) {
        match self.events.iter_mut().find(|known| known.same_key(event)) {
            Some(known) => *known = Arc::clone(event),
            None => self.events.push(Arc::clone(event)),
        }
    }

    /// The newest events, in the order their keys appeared.
    pub fn events(&self) -> &[Arc<Publication>] {
        &self.events
    }
}
