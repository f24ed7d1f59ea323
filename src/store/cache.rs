//! What need not be looked up again: the participants of conversations, which never change, and people as last stored.
//! One cache for each connection to the database, each with one owner.

use hashlink::LruCache;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::record::Person;

/// Conversations remembered: about 200 bytes each.
const PAIRS: usize = 16_384;
/// People remembered: about 200 bytes each.
const PEOPLE: usize = 16_384;

/// A conversation within the database.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: Uuid,
    /// The two, in order.
    pub users: [SmolStr; 2],
}

impl Pair {
    /// Whether the user takes part.
    pub(super) fn has(&self, user: &str) -> bool {
        self.users.iter().any(|participant| participant == user)
    }
}

/// What one connection remembers.
pub(super) struct Cache {
    pairs: LruCache<Uuid, Pair>,
    people: LruCache<SmolStr, Person>,
}

impl Cache {
    pub(super) fn new() -> Cache {
        Cache { pairs: LruCache::new(PAIRS), people: LruCache::new(PEOPLE) }
    }

    pub(super) fn pair(&mut self, id: Uuid) -> Option<Pair> {
        self.pairs.get(&id).cloned()
    }

    pub(super) fn keep_pair(&mut self, pair: &Pair) {
        self.pairs.insert(pair.id, pair.clone());
    }

    pub(super) fn person(&mut self, id: &str) -> Option<Person> {
        self.people.get(id).cloned()
    }

    pub(super) fn keep_person(&mut self, person: &Person) {
        self.people.insert(person.id.clone(), person.clone());
    }

    /// Forgets all: what was written since has been undone.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.people.clear();
    }
}
