//! What a socket refused, or what waits for the next poll: the bounded backlog of one line.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::audience::Wire;
use crate::proto::ws;
use crate::room::pattern::Policy;
use crate::room::publication::Publication;
use crate::shard::outbox::{Batch, Chunk, TurnMemory};

/// Bytes that a socket refused.
#[derive(Debug)]
struct Held {
    /// A row of whole frames from its first byte; `start` may lie inside one, of which the client has the front.
    bytes: Rc<Vec<u8>>,
    start: usize,
    end: usize,
    /// For frames of a `latest` room: what they carry, so that they can still be replaced.
    events: Option<Rc<Vec<Arc<Publication>>>>,
}

/// What a client with a full socket is still to be sent.
#[derive(Debug, Default)]
pub struct Backlog {
    queue: VecDeque<Held>,
    bytes: usize,
    /// The newest event of each room and key of policy `latest` that came meanwhile.
    stale: HashTable<Arc<Publication>>,
    /// The socket can take bytes again.
    pub writable: bool,
}

/// Bytes gathered for one write of a backlog.
const GATHER: usize = 256 * 1024;

impl Backlog {
    /// Bytes held up.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues bytes of this client alone.
    pub fn hold(&mut self, bytes: &[u8]) {
        self.hold_shared(Rc::new(bytes.to_vec()), 0, bytes.len(), None);
    }

    fn hold_shared(
        &mut self,
        bytes: Rc<Vec<u8>>,
        start: usize,
        end: usize,
        events: Option<Rc<Vec<Arc<Publication>>>>,
    ) {
        if start < end {
            self.bytes += end - start;
            self.queue.push_back(Held { bytes, start, end, events });
        }
    }

    /// Queues a batch, or marks what it carries as stale. Returns how many events this replaced.
    pub fn hold_batch(&mut self, batch: &Batch) -> u64 {
        match batch.policy {
            Policy::Every => {
                self.hold_shared(Rc::clone(&batch.bytes), 0, batch.bytes.len(), None);
                0
            }
            Policy::Latest => batch.events.iter().map(|event| self.mark(event)).sum(),
        }
    }

    /// Keeps the event as the newest of its room and key. Returns 1 if it took the place of an older one.
    pub fn mark(&mut self, event: &Arc<Publication>) -> u64 {
        let entry =
            self.stale.entry(event.slot_hash(), |known| event.replaces(known), |known| known.slot_hash());
        match entry {
            hashbrown::hash_table::Entry::Occupied(mut known) => {
                if known.get().sequence < event.sequence {
                    *known.get_mut() = Arc::clone(event);
                }
                1
            }
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(Arc::clone(event));
                0
            }
        }
    }

    /// Whether newest values are kept back.
    pub fn has_marks(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Keeps only the marks of what the client is still a member of.
    pub fn retain_marks(&mut self, mut is_kept: impl FnMut(&Publication) -> bool) {
        self.stale.retain(|event| is_kept(event));
    }

    /// Forgets all marks: the client ends.
    pub fn forget_marks(&mut self) {
        self.stale.clear();
    }

    /// Keeps what is left of a turn's chunk of which `written` bytes went out. Returns how many events were replaced.
    pub fn keep_chunk(&mut self, memory: &TurnMemory, chunk: Chunk, written: usize) -> u64 {
        match chunk {
            Chunk::Head { .. } => {
                self.hold(&memory.bytes_of(chunk)[written..]);
                0
            }
            Chunk::Bytes { .. } => {
                let bytes = memory.bytes_of(chunk);
                let begun = frame_start(bytes, written);
                let kept = Rc::new(bytes[begun..].to_vec());
                self.hold_shared(kept, written - begun, bytes.len() - begun, None);
                0
            }
            Chunk::Batch(index) => {
                let batch = memory.batch(index);
                let events = (batch.policy == Policy::Latest).then(|| Rc::clone(&batch.events));
                self.keep(&batch.bytes, 0, batch.bytes.len(), written, events)
            }
        }
    }

    /// Keeps frames `start..end` of which `written` bytes went out: what is begun must be ended;
    /// frames of a `latest` room behind that become marks.
    fn keep(
        &mut self,
        bytes: &Rc<Vec<u8>>,
        start: usize,
        end: usize,
        written: usize,
        events: Option<Rc<Vec<Arc<Publication>>>>,
    ) -> u64 {
        let Some(events) = events else {
            self.hold_shared(Rc::clone(bytes), start + written, end, None);
            return 0;
        };
        let (mut at, mut frame, mut replaced) = (start, 0, 0);
        while at < end {
            let next = at + ws::frame_length(&bytes[at..end]).unwrap_or(end - at);
            let sent = start + written;
            if sent > at && sent < next {
                self.hold_shared(Rc::clone(bytes), sent, next, None);
            } else if sent <= at
                && let Some(event) = events.get(frame)
            {
                replaced += self.mark(event);
            }
            at = next;
            frame += 1;
        }
        replaced
    }

    /// The slices of the next write: what is queued, at most 256 KiB.
    pub fn gather(&self, out: &mut Vec<u8>) {
        out.clear();
        for held in &self.queue {
            let room = GATHER - out.len();
            let bytes = &held.bytes[held.start..held.end];
            out.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if out.len() == GATHER {
                break;
            }
        }
    }

    /// Hands over whole frames from the front of the queue, at least one, as many as fit in `most` bytes. Returns their bytes,
    /// to be given to [`advance`](Backlog::advance). For lines whose frames never go out in part.
    pub fn gather_frames(&self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        for held in &self.queue {
            let bytes = &held.bytes[held.start..held.end];
            let mut end = 0;
            while let Some(length) = ws::frame_length(&bytes[end..])
                && end < bytes.len()
                && (taken + end == 0 || taken + end + length <= most)
            {
                end = (end + length).min(bytes.len());
            }
            if end > 0 {
                take(&bytes[..end]);
            }
            taken += end;
            if end < bytes.len() {
                break;
            }
        }
        taken
    }

    /// `written` bytes of the queue went out. Newest values that did not are marks again: something newer may come,
    /// and they must not go out after it.
    pub fn advance(&mut self, written: usize) -> u64 {
        self.skip(written) + self.unqueue_newest()
    }

    fn unqueue_newest(&mut self) -> u64 {
        if self.queue.iter().all(|held| held.events.is_none()) {
            return 0;
        }
        let mut replaced = 0;
        for held in std::mem::take(&mut self.queue) {
            match &held.events {
                None => self.queue.push_back(held),
                Some(events) => {
                    self.bytes -= held.end - held.start;
                    replaced += events.iter().map(|event| self.mark(event)).sum::<u64>();
                }
            }
        }
        replaced
    }

    fn skip(&mut self, mut written: usize) -> u64 {
        self.bytes -= written;
        let mut replaced = 0;
        while written > 0 {
            let Some(front) = self.queue.front_mut() else { break };
            let length = front.end - front.start;
            if written >= length {
                written -= length;
                self.queue.pop_front();
                continue;
            }
            if let Some(events) = front.events.take() {
                // Frames that carry newest values and did not go out whole: end the one that is begun, mark the rest.
                let Some(held) = self.queue.pop_front() else { break };
                self.bytes -= length - written;
                let rest = std::mem::take(&mut self.queue);
                replaced += self.keep(&held.bytes, held.start, held.end, written, Some(events));
                self.queue.extend(rest);
            } else {
                front.start += written;
            }
            break;
        }
        replaced
    }

    /// When the queue is short: turns marks into frames at its end, in the order of publication, as many as the next write
    /// takes. Returns how many.
    pub fn refresh(&mut self, wire: Wire, write: impl Fn(&mut Vec<u8>, Wire, &Publication)) -> u64 {
        if self.stale.is_empty() || self.bytes >= GATHER {
            return 0;
        }
        let mut events: Vec<Arc<Publication>> = self.stale.drain().collect();
        events.sort_unstable_by_key(|event| event.sequence);
        let (mut bytes, mut written) = (Vec::new(), 0);
        for event in &events {
            if self.bytes + bytes.len() >= GATHER {
                break;
            }
            write(&mut bytes, wire, event);
            written += 1;
        }
        // More than the next write takes would only be made to be thrown away.
        for event in events.drain(written..) {
            self.mark(&event);
        }
        let (count, end) = (events.len() as u64, bytes.len());
        self.hold_shared(Rc::new(bytes), 0, end, Some(Rc::new(events)));
        count
    }

    /// Whether everything has gone out.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.stale.is_empty()
    }

    /// Throws away all but the rest of the frame that the client has in part: what a slow consumer still gets.
    pub fn cut_to_frame(&mut self) {
        self.stale.clear();
        let front = self.queue.drain(..).next();
        self.bytes = 0;
        if let Some(held) = front {
            let begun = frame_start(&held.bytes, held.start);
            if begun < held.start {
                let length = ws::frame_length(&held.bytes[begun..held.end]).unwrap_or(usize::MAX);
                let end = held.end.min(begun.saturating_add(length));
                self.hold_shared(held.bytes, held.start, end, None);
            }
        }
    }
}

/// Where the frame that contains byte `at` starts.
fn frame_start(frames: &[u8], at: usize) -> usize {
    let mut start = 0;
    while let Some(length) = ws::frame_length(&frames[start..]) {
        if start + length > at {
            break;
        }
        start += length;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::name;
    use crate::room::publication::{Draft, Target};
    use crate::time::Now;

    fn newest(room: &str, sequence: u64) -> Arc<Publication> {
        let data = format!("\"{}\"", "x".repeat(1_000));
        let draft = Draft {
            target: Target::Room,
            name: room,
            name_hash: name::hash(room),
            event: "\"e\"",
            data: &data,
            key: None,
            app: None,
            policy: Policy::Latest,
            ts: None,
            except: None,
        };
        let mut publication = Publication::new(&draft, Now::default());
        publication.sequence = sequence;
        Arc::new(publication)
    }

    #[test]
    fn of_many_newest_values_only_what_a_write_takes_is_made_into_frames_and_all_go_out_in_order() {
        const MARKS: u64 = 2_000;
        let mut backlog = Backlog::default();
        for number in 0..MARKS {
            backlog.mark(&newest(&format!("price:{number}"), MARKS - number));
        }
        let (mut out, mut count) = (Vec::new(), 0);
        let sequences = std::cell::RefCell::new(Vec::new());
        while !backlog.is_drained() {
            count += backlog.refresh(Wire::Native, |out, wire, event| {
                sequences.borrow_mut().push(event.sequence);
                crate::app::wire::write_event(out, wire, event);
            });
            assert!(backlog.bytes() < GATHER + 2_000, "{}", backlog.bytes());
            backlog.gather(&mut out);
            backlog.advance(backlog.bytes());
        }
        assert_eq!((count, sequences.into_inner()), (MARKS, (1..=MARKS).collect()));
    }
}
