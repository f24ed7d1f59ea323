//! The hash of names: one for rooms, users, publish ids and conflation keys; and tables by that hash. Rank 0.

use std::sync::OnceLock;

use hashbrown::HashTable;

/// Hashes a name. The seeds are random for each process, so that nobody outside can choose
/// names that collide; they are the same on every thread, so a hash made by the router serves the shards.
pub fn hash(text: &str) -> u64 {
    static SEEDS: OnceLock<ahash::RandomState> = OnceLock::new();
    SEEDS.get_or_init(ahash::RandomState::new).hash_one(text)
}

/// How many parts a table has. A part of a million entries moves at once when it grows: about 4,000 of them, some 0.1 ms.
const PARTS: usize = 256;

/// A hash table in parts that grow each for itself, so that no turn stalls while all of it moves.
#[derive(Debug)]
pub struct SplitTable<T> {
    parts: Box<[HashTable<T>]>,
    len: usize,
}

impl<T> Default for SplitTable<T> {
    fn default() -> SplitTable<T> {
        SplitTable { parts: (0..PARTS).map(|_| HashTable::new()).collect(), len: 0 }
    }
}

impl<T> SplitTable<T> {
    /// The part an entry belongs to, by bits that the part itself does not look at: it uses the lowest and the 7 highest.
    const fn part(hash: u64) -> usize {
        (hash >> 48) as usize % PARTS
    }

    /// The entry with that hash that `is_it`.
    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts[SplitTable::<T>::part(hash)].find(hash, is_it)
    }

    /// The entry with that hash that `is_it`.
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.parts[SplitTable::<T>::part(hash)].find_mut(hash, is_it)
    }

    /// Adds an entry that is not there; `hash_of` tells the hash of any entry.
    pub fn insert(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        self.parts[SplitTable::<T>::part(hash)].insert_unique(hash, entry, hash_of);
        self.len += 1;
    }

    /// Takes out the entry with that hash that `is_it`.
    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let entry = self.parts[SplitTable::<T>::part(hash)].find_entry(hash, is_it).ok()?;
        self.len -= 1;
        Some(entry.remove().0)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_until_they_are_taken_out() {
        let mut table = SplitTable::default();
        let names: Vec<String> = (0..10_000).map(|number| format!("price:{number}")).collect();
        for name in &names {
            table.insert(hash(name), name.clone(), |name| hash(name));
        }
        assert_eq!(table.len(), names.len());
        for name in &names {
            assert_eq!(table.find(hash(name), |known| known == name), Some(name));
            assert_eq!(table.remove(hash(name), |known| known == name).as_ref(), Some(name));
            assert_eq!(table.remove(hash(name), |known| known == name), None);
        }
        assert!(table.is_empty());
    }
}
