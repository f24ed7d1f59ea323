//! The events of a room of the last while, for clients that come back (`spec/market.md`, connection state recovery).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{HISTORY_EVENTS, HISTORY_ROOM_BYTES};
use crate::room::pattern::Policy;
use crate::room::publication::Publication;

/// What an event costs besides its text: the publication, the counts of the `Arc`, the place in the ring.
const EVENT_OVERHEAD: usize = size_of::<Publication>() + 3 * size_of::<usize>();

/// How much of a room is kept: whichever is least.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Age, ns, from the time an event was received.
    pub age: u64,
    /// Events.
    pub events: usize,
    /// Bytes of events, as [`Publication::size`] counts them.
    pub bytes: usize,
}

impl Bounds {
    /// The bounds of every room, with the configured age.
    pub const fn new(age: Duration) -> Bounds {
        Bounds { age: age.as_nanos() as u64, events: HISTORY_EVENTS, bytes: HISTORY_ROOM_BYTES }
    }
}

/// The last events of a room, oldest first.
///
/// Every event of the room with a sequence number above `floor` is here, so whoever has had everything up to the floor
/// can be given the rest whole.
#[derive(Debug)]
pub struct History {
    /// By sequence number, strictly ascending.
    events: VecDeque<Arc<Publication>>,
    floor: u64,
    /// The same for events of policy `latest` alone; at most `floor`.
    latest_floor: u64,
    /// The sizes of `events`.
    bytes: usize,
}

impl History {
    /// An empty history of a room that has had no event with a number above `floor`.
    pub const fn new(floor: u64) -> History {
        History { events: VecDeque::new(), floor, latest_floor: floor, bytes: 0 }
    }

    /// Adds the newest event, and gives up what is beyond the bounds.
    pub fn push(&mut self, event: &Arc<Publication>, bounds: &Bounds) {
        debug_assert!(self.events.back().is_none_or(|last| last.sequence < event.sequence));
        self.bytes += event.size();
        self.events.push_back(Arc::clone(event));
        while self.events.len() > bounds.events || self.bytes > bounds.bytes {
            self.give_up_oldest();
        }
        self.give_up_before(event.received.mono.saturating_sub(bounds.age));
    }

    /// Gives up events until the oldest was received at that monotonic time or later.
    pub fn give_up_before(&mut self, mono: u64) {
        while self.events.front().is_some_and(|oldest| oldest.received.mono < mono) {
            self.give_up_oldest();
        }
    }

    /// Gives up the oldest event. Returns whether there was one.
    pub fn give_up_oldest(&mut self) -> bool {
        let Some(oldest) = self.events.pop_front() else { return false };
        self.bytes -= oldest.size();
        self.floor = oldest.sequence;
        if oldest.policy == Policy::Latest {
            self.latest_floor = oldest.sequence;
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        true
    }

    /// The events with a number above `sequence`, ascending; `None` if some of them are not here.
    pub fn after(&self, sequence: u64) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        (self.floor <= sequence).then(|| self.above(sequence))
    }

    /// The events of policy `latest` with a number above `sequence`, ascending; `None` if some of them are not here.
    pub fn latest_after(&self, sequence: u64) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        let is_latest = |event: &&Arc<Publication>| event.policy == Policy::Latest;
        (self.latest_floor <= sequence).then(|| self.above(sequence).filter(is_latest))
    }

    fn above(&self, sequence: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let start = self.events.partition_point(|event| event.sequence <= sequence);
        self.events.range(start..)
    }

    /// Bytes that it occupies, or keeps others from freeing.
    pub fn memory(&self) -> usize {
        self.bytes + self.events.len() * EVENT_OVERHEAD
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::room::publication::{Draft, Target};
    use crate::time::Now;

    const BOUNDS: Bounds = Bounds { age: 50, events: 6, bytes: 100 };

    fn event(sequence: u64, mono: u64, length: usize, policy: Policy) -> Arc<Publication> {
        let draft = Draft {
            target: Target::Room,
            name: "",
            name_hash: 0,
            event: "",
            data: &"x".repeat(length),
            key: None,
            app: None,
            policy,
            ts: None,
            except: None,
        };
        let mut event = Publication::new(&draft, Now { mono, unix: 0 });
        event.sequence = sequence;
        Arc::new(event)
    }

    /// All events ever, and the number of the last one given up.
    #[derive(Default)]
    struct Model {
        events: Vec<Arc<Publication>>,
        given_up: usize,
    }

    impl Model {
        fn kept(&self) -> &[Arc<Publication>] {
            &self.events[self.given_up..]
        }

        fn trim(&mut self, oldest: u64) {
            let is_over = |kept: &[Arc<Publication>]| {
                kept.len() > BOUNDS.events
                    || kept.iter().map(|event| event.size()).sum::<usize>() > BOUNDS.bytes
                    || kept.first().is_some_and(|event| event.received.mono < oldest)
            };
            while is_over(self.kept()) {
                self.given_up += 1;
            }
        }

        /// What a client has missed that had everything up to `sequence`, if all of it is still known.
        fn after(
            &self,
            sequence: u64,
            start: u64,
            counts: impl Fn(&Publication) -> bool,
        ) -> Option<Vec<u64>> {
            let all = self.events.iter().enumerate();
            let missed: Vec<_> =
                all.filter(|(_, event)| event.sequence > sequence && counts(event)).collect();
            let is_whole = sequence >= start && missed.iter().all(|(place, _)| *place >= self.given_up);
            is_whole.then(|| missed.iter().map(|(_, event)| event.sequence).collect())
        }
    }

    fn numbers<'a>(events: Option<impl Iterator<Item = &'a Arc<Publication>>>) -> Option<Vec<u64>> {
        events.map(|events| events.map(|event| event.sequence).collect())
    }

    proptest! {
        /// Steps: 0–2 an event (of policy `latest` if 0), 3 time passes, 4 the oldest is given up.
        #[test]
        fn what_is_given_is_whole(
            start in 0..5_u64,
            steps in prop::collection::vec((0..5_u8, 1..40_u64, 0..45_usize), 1..80),
        ) {
            let (mut history, mut model) = (History::new(start), Model::default());
            let (mut sequence, mut mono) = (start, 0);
            for (what, step, length) in steps {
                match what {
                    0..=2 => {
                        sequence += 1 + step % 3;
                        mono += step / 8;
                        let policy = if what == 0 { Policy::Latest } else { Policy::Every };
                        let event = event(sequence, mono, length, policy);
                        history.push(&event, &BOUNDS);
                        model.events.push(event);
                        model.trim(mono.saturating_sub(BOUNDS.age));
                    }
                    3 => {
                        mono += step;
                        history.give_up_before(mono.saturating_sub(BOUNDS.age));
                        model.trim(mono.saturating_sub(BOUNDS.age));
                    }
                    _ => {
                        let has_some = !model.kept().is_empty();
                        prop_assert_eq!(history.give_up_oldest(), has_some);
                        model.given_up += usize::from(has_some);
                    }
                }
                let bytes: usize = model.kept().iter().map(|event| event.size()).sum();
                prop_assert_eq!(history.memory(), bytes + model.kept().len() * EVENT_OVERHEAD);
                prop_assert_eq!(history.is_empty(), model.kept().is_empty());
                for after in 0..=sequence + 1 {
                    prop_assert_eq!(numbers(history.after(after)), model.after(after, start, |_| true));
                    let is_latest = |event: &Publication| event.policy == Policy::Latest;
                    prop_assert_eq!(numbers(history.latest_after(after)), model.after(after, start, is_latest));
                }
            }
        }
    }
}
