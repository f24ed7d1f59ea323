//! A slab that grows by chunks, so that at a million entries no turn stalls for a copy of all of them,
//! and whose keys carry a generation, so that a late message cannot meet a newcomer in an old slot.

use slab::Slab;

/// Entries in a chunk.
const CHUNK: usize = 4_096;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: T,
}

/// The slab. Keys are `u32`, dense from 0.
#[derive(Debug)]
pub struct Slots<T> {
    chunks: Vec<Slab<Slot<T>>>,
    /// Chunks with a free slot; the last one is filled first.
    free: Vec<u32>,
    next_generation: u32,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { chunks: Vec::new(), free: Vec::new(), next_generation: 0, len: 0 }
    }
}

impl<T> Slots<T> {
    /// The key that the next [`insert`](Slots::insert) will give, with its generation.
    pub fn next_key(&mut self) -> (u32, u32) {
        let chunk = match self.free.last() {
            Some(chunk) => *chunk as usize,
            None => {
                self.chunks.push(Slab::with_capacity(CHUNK));
                self.free.push((self.chunks.len() - 1) as u32);
                self.chunks.len() - 1
            }
        };
        ((chunk * CHUNK + self.chunks[chunk].vacant_key()) as u32, self.next_generation)
    }

    /// Puts a value in and returns its key.
    pub fn insert(&mut self, value: T) -> u32 {
        let (key, generation) = self.next_key();
        let chunk = key as usize / CHUNK;
        self.chunks[chunk].insert(Slot { generation, value });
        self.next_generation = self.next_generation.wrapping_add(1);
        self.len += 1;
        if self.chunks[chunk].len() == CHUNK {
            self.free.pop();
        }
        key
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: u32) -> Option<T> {
        let chunk = key as usize / CHUNK;
        let slab = self.chunks.get_mut(chunk)?;
        let was_full = slab.len() == CHUNK;
        let slot = slab.try_remove(key as usize % CHUNK)?;
        if was_full {
            self.free.push(chunk as u32);
        }
        self.len -= 1;
        Some(slot.value)
    }

    /// The value at `key`.
    #[inline]
    pub fn get(&self, key: u32) -> Option<&T> {
        Some(&self.chunks.get(key as usize / CHUNK)?.get(key as usize % CHUNK)?.value)
    }

    /// The value at `key`.
    #[inline]
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        Some(&mut self.chunks.get_mut(key as usize / CHUNK)?.get_mut(key as usize % CHUNK)?.value)
    }

    /// The value at `key`, if it still is the one of that generation.
    pub fn get_if(&mut self, key: u32, generation: u32) -> Option<&mut T> {
        let slot = self.chunks.get_mut(key as usize / CHUNK)?.get_mut(key as usize % CHUNK)?;
        (slot.generation == generation).then_some(&mut slot.value)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All keys in use, ascending.
    pub fn keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks
            .iter()
            .enumerate()
            .flat_map(|(index, chunk)| chunk.iter().map(move |(key, _)| (index * CHUNK + key) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_reused_and_generations_tell_them_apart() {
        let mut slots = Slots::default();
        let keys: Vec<u32> = (0..CHUNK as u32 * 2 + 5).map(|value| slots.insert(value)).collect();
        assert_eq!(slots.len(), keys.len());
        let (victim, other) = (keys[17], keys[CHUNK + 3]);
        assert_eq!(slots.remove(victim), Some(17));
        assert_eq!(slots.remove(other), Some(CHUNK as u32 + 3));
        assert_eq!(slots.remove(victim), None);
        assert!(slots.get_if(victim, 17).is_none());
        let (next, generation) = slots.next_key();
        assert_eq!(slots.insert(99), next);
        assert!(next == victim || next == other);
        assert_eq!(slots.get_if(next, generation), Some(&mut 99));
        assert!(slots.get_if(next, generation.wrapping_add(1)).is_none());
        assert_eq!(slots.keys().count(), slots.len());
    }
}
