//! How long things take: recorded by each shard without a lock, gathered on the admin thread.
//!
//! A shard owns a [`LatencyRecorder`]. To collect, the admin thread hands it an empty [`Latencies`], the shard
//! swaps it for the filled one and sends that back: O(1) for the shard, whatever was recorded. The admin thread
//! merges it into its [`LatencyStore`], empties it and uses it for the next collection.
//!
//! This file knows neither mailboxes nor clocks: times come in as nanoseconds. How the figures are written is
//! `expose`'s business.

use hdrhistogram::Histogram;

/// Upper bounds of the exposed buckets, nanoseconds: 10 µs to 10 s in steps of 1, 2.5 and 5
/// (`spec/operations.md`). What is above the last counts only as `+Inf`.
pub const BUCKET_BOUNDS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The quantiles exposed for the last minute.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// How long one interval of "the last minute" is. The store must be advanced at least this often.
pub const INTERVAL_NS: u64 = 5_000_000_000;

/// Closed intervals that make up the last minute; the open one comes on top.
const CLOSED_INTERVALS: usize = 12;

/// Longest time told apart from longer ones, nanoseconds: 100 s, ten times the last bucket.
const LONGEST_NS: u64 = 100_000_000_000;

/// Two significant digits: a recorded time is known to 1 part in 128, and a histogram takes 32 KiB,
/// of which a shard touches the few cache lines around its usual latencies.
const SIGNIFICANT_DIGITS: u8 = 2;

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS)
        .expect("1 <= low, high >= 2 * low and at most 5 digits are all that is asked of the bounds")
}

/// Times of one kind: their distribution and their exact sum.
#[derive(Clone, Debug)]
pub struct Timing {
    counts: Histogram<u64>,
    sum_ns: u64,
}

impl Timing {
    /// Nothing recorded yet.
    pub fn new() -> Timing {
        Timing { counts: empty_histogram(), sum_ns: 0 }
    }

    /// Records `nanoseconds`, `times` over. Times above 100 s count as 100 s.
    #[inline]
    pub fn record_n(&mut self, nanoseconds: u64, times: u64) {
        if times == 0 {
            return;
        }
        let nanoseconds = nanoseconds.min(LONGEST_NS);
        self.counts.saturating_record_n(nanoseconds, times);
        self.sum_ns = self.sum_ns.saturating_add(nanoseconds.saturating_mul(times));
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    fn reset(&mut self) {
        self.counts.reset();
        self.sum_ns = 0;
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing::new()
    }
}

/// One shard's times since they were last collected. Large (100 KB): it travels in a box.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From the publisher's line read off the socket to the write to its last subscriber.
    pub fanout: Timing,
    /// From the publisher's `ts` to the write, weighted by the number of members.
    pub end_to_end: Timing,
    /// One turn of the loop, without the wait for events.
    pub loop_turn: Timing,
}

impl Latencies {
    /// An empty set.
    pub fn new() -> Latencies {
        Latencies::default()
    }

    /// Forgets everything recorded, and keeps the memory.
    pub fn reset(&mut self) {
        self.fanout.reset();
        self.end_to_end.reset();
        self.loop_turn.reset();
    }
}

/// What a shard records into. Owned by the shard's thread; no lock, no atomics.
#[derive(Debug, Default)]
pub struct LatencyRecorder {
    current: Box<Latencies>,
}

impl LatencyRecorder {
    /// A recorder with nothing recorded.
    pub fn new() -> LatencyRecorder {
        LatencyRecorder::default()
    }

    /// A publication's last subscriber was written to, `nanoseconds` after its line was read.
    #[inline]
    pub fn fanout(&mut self, nanoseconds: u64) {
        self.current.fanout.record_n(nanoseconds, 1);
    }

    /// A publication was written to `members` connections, `nanoseconds` after its publisher's `ts`.
    /// A publisher whose clock is ahead gives 0.
    #[inline]
    pub fn end_to_end(&mut self, nanoseconds: u64, members: u64) {
        self.current.end_to_end.record_n(nanoseconds, members);
    }

    /// A turn of the loop took `nanoseconds`.
    #[inline]
    pub fn loop_turn(&mut self, nanoseconds: u64) {
        self.current.loop_turn.record_n(nanoseconds, 1);
    }

    /// Hands out what was recorded and goes on with `spare`, which must be empty.
    pub fn swap(&mut self, spare: Box<Latencies>) -> Box<Latencies> {
        std::mem::replace(&mut self.current, spare)
    }
}

/// Counts since the start, by bucket. Every number in it only grows.
#[derive(Clone, Debug, Default)]
pub struct Cumulative {
    /// Times in each bucket alone; the last place is for those above every bound.
    buckets: [u64; BUCKET_BOUNDS.len() + 1],
    sum_ns: u128,
}

impl Cumulative {
    /// Adds what was recorded. A time belongs to a bucket if the upper end of its histogram cell does, so a
    /// bucket may hold up to 0.8 % of its bound too little, and never claims more speed than there was.
    fn add(&mut self, timing: &Timing) {
        for cell in timing.counts.iter_recorded() {
            let upper = cell.value_iterated_to();
            let bucket = BUCKET_BOUNDS.partition_point(|bound| *bound < upper);
            self.buckets[bucket] += cell.count_at_value();
        }
        self.sum_ns += u128::from(timing.sum_ns);
    }

    /// For each of [`BUCKET_BOUNDS`], how many times were at most that long.
    pub fn at_most(&self) -> [u64; BUCKET_BOUNDS.len()] {
        let mut total = 0;
        std::array::from_fn(|bucket| {
            total += self.buckets[bucket];
            total
        })
    }

    /// How many there were in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

/// What was recorded in the last minute: twelve closed intervals of five seconds and the open one.
#[derive(Debug)]
struct Recent {
    intervals: Vec<Histogram<u64>>,
}

impl Recent {
    fn new() -> Recent {
        Recent { intervals: (0..=CLOSED_INTERVALS).map(|_| empty_histogram()).collect() }
    }

    fn add(&mut self, timing: &Timing, open: usize) {
        self.intervals[open].add(&timing.counts).expect("all histograms are made by empty_histogram");
    }

    fn quantiles(&self) -> Option<LastMinute> {
        let mut all = empty_histogram();
        for interval in &self.intervals {
            all.add(interval).expect("all histograms are made by empty_histogram");
        }
        (!all.is_empty()).then(|| LastMinute {
            quantiles: QUANTILES.map(|quantile| all.value_at_quantile(quantile) as f64 / 1e9),
            max: all.max() as f64 / 1e9,
        })
    }
}

/// The distribution of the last minute, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastMinute {
    /// The values at [`QUANTILES`].
    pub quantiles: [f64; QUANTILES.len()],
    /// The longest.
    pub max: f64,
}

/// One kind of time over all shards.
#[derive(Debug)]
pub struct Family {
    cumulative: Cumulative,
    recent: Recent,
}

impl Family {
    fn new() -> Family {
        Family { cumulative: Cumulative::default(), recent: Recent::new() }
    }

    fn merge(&mut self, timing: &Timing, open: usize) {
        self.cumulative.add(timing);
        self.recent.add(timing, open);
    }

    /// Counts since the start.
    pub fn cumulative(&self) -> &Cumulative {
        &self.cumulative
    }

    /// The last minute; `None` if nothing was recorded in it.
    pub fn last_minute(&self) -> Option<LastMinute> {
        self.recent.quantiles()
    }
}

/// Turns of one shard. The distribution of the last minute is kept for all shards together (a histogram for
/// each shard and interval would be 25 MB at 64 shards), the longest turn for each.
#[derive(Clone, Debug, Default)]
struct ShardTurns {
    cumulative: Cumulative,
    longest_ns: [u64; CLOSED_INTERVALS + 1],
}

/// All latencies of the process, on the admin side.
#[derive(Debug)]
pub struct LatencyStore {
    fanout: Family,
    end_to_end: Family,
    loop_turn: Recent,
    commits: Family,
    turns: Vec<ShardTurns>,
    /// The place of the open interval in every ring.
    open: usize,
    /// When the open interval began, monotonic nanoseconds.
    opened_at: u64,
    /// Empty sets, ready to be handed to shards: at most one for each.
    #[expect(clippy::vec_box, reason = "they travel through mailboxes, whose messages are small")]
    spares: Vec<Box<Latencies>>,
}

impl LatencyStore {
    /// A store for so many shards. `now`: monotonic nanoseconds.
    pub fn new(shards: usize, now: u64) -> LatencyStore {
        LatencyStore {
            fanout: Family::new(),
            end_to_end: Family::new(),
            loop_turn: Recent::new(),
            commits: Family::new(),
            turns: vec![ShardTurns::default(); shards],
            open: 0,
            opened_at: now,
            spares: Vec::with_capacity(shards),
        }
    }

    /// One empty set for each shard, to be swapped for the filled ones.
    pub fn spares(&mut self) -> Vec<Box<Latencies>> {
        let mut spares = std::mem::take(&mut self.spares);
        spares.resize_with(self.turns.len(), Box::default);
        spares
    }

    /// Closes intervals that are over, and forgets those older than a minute. `now`: monotonic nanoseconds.
    /// Call it before merging.
    pub fn advance(&mut self, now: u64) {
        let over = now.saturating_sub(self.opened_at) / INTERVAL_NS;
        self.opened_at += over * INTERVAL_NS;
        for _ in 0..over.min(CLOSED_INTERVALS as u64 + 1) {
            self.open = (self.open + 1) % (CLOSED_INTERVALS + 1);
            let shards = [&mut self.fanout.recent, &mut self.end_to_end.recent, &mut self.loop_turn];
            for ring in shards.into_iter().chain([&mut self.commits.recent]) {
                ring.intervals[self.open].reset();
            }
            for shard in &mut self.turns {
                shard.longest_ns[self.open] = 0;
            }
        }
    }

    /// Adds what `shard` recorded, and keeps the emptied set as a spare.
    pub fn merge(&mut self, shard: usize, mut latencies: Box<Latencies>) {
        let Some(turns) = self.turns.get_mut(shard) else {
            debug_assert!(false, "shard {shard} of {}", self.turns.len());
            return;
        };
        turns.cumulative.add(&latencies.loop_turn);
        if latencies.loop_turn.count() > 0 {
            let longest = &mut turns.longest_ns[self.open];
            *longest = (*longest).max(latencies.loop_turn.counts.max());
        }
        self.loop_turn.add(&latencies.loop_turn, self.open);
        self.fanout.merge(&latencies.fanout, self.open);
        self.end_to_end.merge(&latencies.end_to_end, self.open);
        if self.spares.len() < self.turns.len() {
            latencies.reset();
            self.spares.push(latencies);
        }
    }

    /// Adds how long commits of the store have taken.
    pub fn merge_commits(&mut self, commits: &Timing) {
        self.commits.merge(commits, self.open);
    }

    /// Commits of the store.
    pub fn commits(&self) -> &Family {
        &self.commits
    }

    /// From the publisher's line to its last subscriber's write.
    pub fn fanout(&self) -> &Family {
        &self.fanout
    }

    /// From the publisher's `ts` to the write.
    pub fn end_to_end(&self) -> &Family {
        &self.end_to_end
    }

    /// The turns of each shard since the start.
    pub fn loop_turns(&self) -> impl Iterator<Item = &Cumulative> {
        self.turns.iter().map(|turns| &turns.cumulative)
    }

    /// The longest turn of each shard in the last minute, in seconds; 0 if it made none.
    pub fn longest_turns(&self) -> impl Iterator<Item = f64> {
        self.turns.iter().map(|turns| turns.longest_ns.iter().copied().max().unwrap_or(0) as f64 / 1e9)
    }

    /// The turns of all shards in the last minute; `None` if there were none.
    pub fn loop_turn_last_minute(&self) -> Option<LastMinute> {
        self.loop_turn.quantiles()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(times: &[(u64, u64)]) -> Box<Latencies> {
        let mut recorder = LatencyRecorder::new();
        for (nanoseconds, members) in times {
            recorder.end_to_end(*nanoseconds, *members);
            recorder.fanout(*nanoseconds);
            recorder.loop_turn(*nanoseconds);
        }
        recorder.swap(Box::default())
    }

    /// Within what a cell of two digits may be off.
    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected / 100.0
    }

    proptest! {
        #[test]
        fn buckets_agree_with_a_naive_count(
            times in prop::collection::vec((0u64..200_000_000_000, 1u64..1_000), 0..50),
            small in prop::collection::vec((0u64..2_000_000, 1u64..1_000), 0..50),
        ) {
            let times: Vec<_> = times.into_iter().chain(small).collect();
            let mut store = LatencyStore::new(1, 0);
            let (first, second) = times.split_at(times.len() / 2);
            store.merge(0, filled(first));
            store.merge(0, filled(second));
            let found = store.end_to_end().cumulative();

            let total: u64 = times.iter().map(|(_, members)| members).sum();
            prop_assert_eq!(found.count(), total);
            let sum: u128 = times.iter().map(|(ns, n)| u128::from(*ns.min(&LONGEST_NS)) * u128::from(*n)).sum();
            prop_assert_eq!(found.sum_ns, sum);
            for (bound, at_most) in BUCKET_BOUNDS.into_iter().zip(found.at_most()) {
                let within = |limit: u64| -> u64 {
                    times.iter().filter(|(ns, _)| *ns <= limit).map(|(_, members)| members).sum()
                };
                prop_assert!(at_most <= within(bound), "le {bound}: {at_most} > {}", within(bound));
                prop_assert!(at_most >= within(bound - bound / 100), "le {bound}: {at_most}");
            }
        }
    }

    #[test]
    fn cumulative_counts_only_grow_while_the_last_minute_forgets() {
        let mut store = LatencyStore::new(2, 0);
        store.merge(0, filled(&[(2_000_000, 3)]));
        store.merge(1, filled(&[(40_000_000, 1)]));
        let minute = store.end_to_end().last_minute().expect("recorded");
        assert!(close(minute.quantiles[0], 0.002) && close(minute.max, 0.04), "{minute:?}");
        assert!(close(store.longest_turns().last().expect("two shards"), 0.04));

        let mut commits = Timing::new();
        commits.record_n(3_000_000, 1);
        store.merge_commits(&commits);

        store.advance(59_999_999_999);
        store.merge(0, filled(&[(1_000_000, 1)]));
        assert!(close(store.fanout().last_minute().expect("still there").max, 0.04));

        store.advance(65_000_000_000);
        assert!(close(store.fanout().last_minute().expect("the newer one").max, 0.001));
        assert_eq!(store.longest_turns().last(), Some(0.0));

        store.advance(1_000_000_000_000);
        assert_eq!(store.fanout().last_minute(), None);
        assert_eq!(store.loop_turn_last_minute(), None);
        assert_eq!(store.commits().last_minute(), None);
        assert_eq!(store.commits().cumulative().count(), 1);
        assert_eq!(store.fanout().cumulative().count(), 3);
        assert_eq!(store.end_to_end().cumulative().count(), 5);
        let turns: Vec<u64> = store.loop_turns().map(Cumulative::count).collect();
        assert_eq!(turns, [2, 1]);
    }

    #[test]
    fn a_swapped_set_comes_back_empty() {
        let mut store = LatencyStore::new(1, 0);
        store.merge(0, filled(&[(5_000, 2), (300_000_000_000, 1)]));
        let spares = store.spares();
        assert_eq!(spares.len(), 1);
        assert_eq!(spares[0].end_to_end.count(), 0);
        store.merge(0, spares.into_iter().next().expect("one"));
        assert_eq!(store.end_to_end().cumulative().count(), 3);
        assert_eq!(store.end_to_end().cumulative().at_most()[18], 2, "300 s is above every bound");
        assert!((store.end_to_end().cumulative().sum_seconds() - 100.00001).abs() < 1e-9);
    }
}
