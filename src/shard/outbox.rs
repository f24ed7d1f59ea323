//! What is on its way to the clients of a shard.
//!
//! A client that keeps up owns no buffer at all: what a turn has for it is a list of [`Chunk`]s in memory that the
//! turn shares among all clients and forgets when it has flushed them. Only what a socket refused is kept, in the
//! client's [`Backlog`](super::backlog::Backlog), which is bounded.

use std::rc::Rc;
use std::sync::Arc;

use crate::room::pattern::Policy;
use crate::room::publication::Publication;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// Frames of one wire, made once, for all members of a room.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whole frames.
    pub bytes: Rc<Vec<u8>>,
    /// What happens to slow subscribers.
    pub policy: Policy,
    /// For `latest`: the event of each frame.
    pub events: Rc<Vec<Arc<Publication>>>,
}

/// A part of what a client is to be sent this turn.
#[derive(Clone, Copy, Debug)]
pub enum Chunk {
    /// Bytes of the turn's buffer: whole frames for this client alone.
    Bytes {
        /// First byte.
        start: u32,
        /// One past the last.
        end: u32,
    },
    /// A batch of the turn.
    Batch(u32),
    /// Bytes of the turn's buffer that are no frames: the answer to the upgrade request.
    Head {
        /// First byte.
        start: u32,
        /// One past the last.
        end: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Link {
    chunk: Chunk,
    next: u32,
}

/// A client's list of chunks in this turn.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { head: NONE, tail: NONE }
    }
}

impl Queue {
    /// Whether there is nothing for the client this turn.
    pub const fn is_empty(self) -> bool {
        self.head == NONE
    }
}

/// The memory of one turn.
#[derive(Debug, Default)]
pub struct TurnMemory {
    /// Frames that are for one client or a few.
    pub bytes: Vec<u8>,
    batches: Vec<Batch>,
    batch_bytes: usize,
    links: Vec<Link>,
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

/// Bytes of buffers kept for the next turn: what one turn needs, and the bound of what an idle shard holds on to.
const SPARE_BYTES: usize = 1024 * 1024;

impl TurnMemory {
    /// Appends a chunk to a client's list. Neighbouring bytes become one chunk.
    pub fn push(&mut self, queue: &mut Queue, chunk: Chunk) {
        if let (Some(tail), Chunk::Bytes { start, end }) = (self.links.get_mut(queue.tail as usize), chunk)
            && let Chunk::Bytes { end: tail_end, .. } = &mut tail.chunk
            && *tail_end == start
        {
            *tail_end = end;
            return;
        }
        let link = self.links.len() as u32;
        self.links.push(Link { chunk, next: NONE });
        match self.links.get_mut(queue.tail as usize) {
            Some(tail) => tail.next = link,
            None => queue.head = link,
        }
        queue.tail = link;
    }

    /// Adds a batch; its index is good until the turn ends.
    pub fn add_batch(&mut self, batch: Batch) -> u32 {
        self.batch_bytes += batch.bytes.len();
        self.batches.push(batch);
        (self.batches.len() - 1) as u32
    }

    /// Bytes of all frames of this turn.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.batch_bytes
    }

    /// A batch of this turn.
    pub fn batch(&self, index: u32) -> &Batch {
        &self.batches[index as usize]
    }

    /// The chunks of a client, in order.
    pub fn chunks(&self, queue: Queue) -> impl Iterator<Item = Chunk> + '_ {
        let mut next = queue.head;
        std::iter::from_fn(move || {
            let link = self.links.get(next as usize)?;
            next = link.next;
            Some(link.chunk)
        })
    }

    /// The bytes of a chunk.
    pub fn bytes_of(&self, chunk: Chunk) -> &[u8] {
        match chunk {
            Chunk::Bytes { start, end } | Chunk::Head { start, end } => {
                &self.bytes[start as usize..end as usize]
            }
            Chunk::Batch(index) => &self.batch(index).bytes,
        }
    }

    /// An empty buffer for frames.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    /// Forgets everything: no client's list may be used any more.
    pub fn clear(&mut self) {
        self.links.clear();
        self.bytes.clear();
        self.batch_bytes = 0;
        if self.bytes.capacity() > SPARE_BYTES {
            self.bytes = Vec::new();
        }
        for batch in self.batches.drain(..) {
            // A batch that a backlog still holds stays with it.
            if let Ok(mut buffer) = Rc::try_unwrap(batch.bytes)
                && self.spare_bytes + buffer.capacity() <= SPARE_BYTES
            {
                buffer.clear();
                self.spare_bytes += buffer.capacity();
                self.spare.push(buffer);
            }
        }
    }
}
