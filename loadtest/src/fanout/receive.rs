//! What is done with each delivery: find its number, judge its order, settle
//! the window, note its latency. This is the driver's hot path: no allocation,
//! one clock reading per read, one histogram entry per run of equal times.

use hdrhistogram::Histogram;

use super::payload::Locator;
use super::sequence::{Expected, Verdict};
use super::window::Window;
use crate::client::Sink;
use crate::clock::Clock;

/// Longest latency that is told apart, ns.
const LONGEST: u64 = 120 * crate::clock::SECOND;

/// Counts over a whole run.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Events received by a connection for the first time.
    pub deliveries: u64,
    /// Events that a later one of the same room overtook or that never came.
    pub skipped: u64,
    /// Of the skipped, those that came late.
    pub reordered: u64,
    pub duplicated: u64,
    /// Messages that are no event of this run.
    pub other: u64,
    /// Events of rooms that the connection had not joined.
    pub misdirected: u64,
}

/// The state that all connections share.
pub struct Receiver {
    pub clock: Clock,
    pub window: Window,
    pub expected: Expected,
    pub counts: Counts,
    pub histogram: Histogram<u64>,
    locator: Locator,
    /// Whose messages are being read.
    pub connection: usize,
    /// When the bytes were read.
    now: u64,
    /// Deliveries in this read whose events were published at the same time.
    same: (u64, u64),
}

impl Receiver {
    /// Nothing received yet.
    pub fn new(clock: Clock, window: Window, expected: Expected) -> Self {
        // The bounds are constants that the histogram accepts.
        let histogram =
            Histogram::new_with_bounds(1, LONGEST, 3).expect("1 ns to 120 s with 3 digits are valid bounds");
        Self {
            clock,
            window,
            expected,
            counts: Counts::default(),
            histogram,
            locator: Locator::default(),
            connection: 0,
            now: 0,
            same: (0, 0),
        }
    }

    /// Notes the latencies that were put together so far. Call it after the
    /// last message of a read.
    #[inline]
    pub fn record(&mut self) {
        let (published, count) = self.same;
        if count > 0 {
            self.histogram.saturating_record_n(self.now.saturating_sub(published).max(1), count);
            self.same.1 = 0;
        }
    }

    /// Everything that is not the next event of a room.
    #[cold]
    fn unusual(&mut self, number: u64, verdict: &Verdict) {
        match verdict {
            Verdict::Next => {}
            Verdict::Ahead(missing) => {
                self.counts.skipped += u64::from(*missing);
                // The skipped ones must not hold up the window for ever.
                let mut at = number;
                for _ in 0..*missing {
                    let Some(previous) = self.window.previous(at) else { break };
                    self.window.settle(previous);
                    at = previous;
                }
            }
            Verdict::Late => {
                self.counts.reordered += 1;
                self.counts.deliveries += 1;
            }
            Verdict::Repeated => self.counts.duplicated += 1,
            Verdict::Stranger => self.counts.misdirected += 1,
        }
    }
}

impl Sink for Receiver {
    #[inline]
    fn arrived(&mut self) {
        self.record();
        self.now = self.clock.now();
    }

    #[inline]
    fn message(&mut self, payload: &[u8]) {
        let Some(number) = self.locator.find(payload) else {
            self.counts.other += 1;
            return;
        };
        let Some(&entry) = self.window.entry(number) else {
            // Of this run but older than the ring, hence complete: a repetition.
            // Else a newest value that the server kept from an earlier run.
            let own = self.window.is_own(number);
            *(if own { &mut self.counts.duplicated } else { &mut self.counts.other }) += 1;
            return;
        };
        let verdict = self.expected.observe(self.connection, entry.room, entry.sequence);
        if !matches!(verdict, Verdict::Next) {
            self.unusual(number, &verdict);
            if !matches!(verdict, Verdict::Ahead(_)) {
                return;
            }
        }
        self.counts.deliveries += 1;
        self.window.settle(number);
        if entry.published != self.same.0 {
            self.record();
            self.same.0 = entry.published;
        }
        self.same.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::payload::Payload;

    /// One connection in room 0, and `events` published to it.
    fn receiver(events: u64) -> (Receiver, Vec<Vec<u8>>) {
        let mut window = Window::new(1_000, 64, 1);
        let mut payload = Payload::new(150);
        let messages = (0..events)
            .filter_map(|_| window.publish(0, 1, 0))
            .map(|number| payload.fill(number, 0).to_vec())
            .collect();
        (Receiver::new(Clock::start(), window, Expected::new(vec![0], 1)), messages)
    }

    fn feed(receiver: &mut Receiver, messages: &[&Vec<u8>]) {
        receiver.arrived();
        messages.iter().for_each(|message| receiver.message(message));
        receiver.record();
    }

    #[test]
    fn in_order_all_is_settled() {
        let (mut receiver, messages) = receiver(10);
        feed(&mut receiver, &messages.iter().collect::<Vec<_>>());
        assert_eq!((receiver.window.outstanding(), receiver.counts.deliveries), (0, 10));
        assert_eq!(receiver.histogram.len(), 10);
        assert_eq!(receiver.expected.behind(0, |room| receiver.window.published_to(room)), 0);
    }

    #[test]
    fn lost_repeated_and_late_are_told_apart() {
        let (mut receiver, m) = receiver(6);
        feed(&mut receiver, &[&m[0], &m[3], &m[3], &m[1], &m[4], &b"{}".to_vec()]);
        let counts = receiver.counts;
        assert_eq!((counts.deliveries, counts.skipped, counts.reordered), (4, 2, 1));
        assert_eq!((counts.duplicated, counts.other, counts.misdirected), (1, 1, 0));
        assert_eq!(receiver.window.outstanding(), 1, "the skipped ones do not hold it up");
        assert_eq!(receiver.expected.behind(0, |room| receiver.window.published_to(room)), 1);
    }
}
