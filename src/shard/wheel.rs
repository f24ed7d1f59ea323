//! A timing wheel: O(1) to arm, O(1) to fire, one tick for all timers of a shard.
//!
//! It holds at most one live entry for each key. A deadline that moves away is not taken out: its entry fires,
//! the owner sees that it is early, and arms it again. So moving a deadline, which every received byte does, is free.

/// Milliseconds in a tick: fine enough for Engine.IO's time-outs.
pub const TICK_MS: u64 = 10;
/// Buckets: 41 s around; a later deadline is met by going round again.
const BUCKETS: usize = 4_096;

/// A point in time, in ticks since the process started. 32 bits last for 497 days.
pub type Tick = u32;

/// The tick that contains a monotonic time in ns.
pub const fn tick(mono: u64) -> Tick {
    (mono / (TICK_MS * 1_000_000)) as Tick
}

/// The first tick not before a monotonic time in ns.
pub const fn tick_after(mono: u64) -> Tick {
    mono.div_ceil(TICK_MS * 1_000_000) as Tick
}

/// Ticks in a duration, rounded up.
pub const fn ticks(duration: std::time::Duration) -> Tick {
    (duration.as_millis() as u64).div_ceil(TICK_MS) as Tick
}

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    buckets: Box<[Vec<u32>]>,
    /// The last tick that has fired.
    now: Tick,
    armed: usize,
}

impl Wheel {
    /// A wheel that starts at `now`.
    pub fn new(now: Tick) -> Wheel {
        Wheel { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), now, armed: 0 }
    }

    /// Arms `key`. Returns the tick at which it will fire: `at`, the next one if `at` is past, or once around the wheel
    /// if `at` is farther than that, and the owner arms it again.
    pub fn arm(&mut self, key: u32, at: Tick) -> Tick {
        let at = at.clamp(self.now.saturating_add(1), self.now.saturating_add(BUCKETS as Tick));
        self.buckets[at as usize % BUCKETS].push(key);
        self.armed += 1;
        at
    }

    /// Takes what has fired up to `now` into `fired`.
    pub fn advance(&mut self, now: Tick, fired: &mut Vec<u32>) {
        if self.armed == 0 {
            self.now = self.now.max(now);
            return;
        }
        // After a long stop every bucket is due once.
        let first = self.now.max(now.saturating_sub(BUCKETS as Tick));
        for at in first..now {
            let bucket = &mut self.buckets[(at + 1) as usize % BUCKETS];
            self.armed -= bucket.len();
            fired.append(bucket);
            if bucket.capacity() > 1_024 {
                bucket.shrink_to(64);
            }
        }
        self.now = self.now.max(now);
    }

    /// Ticks until the next entry may fire, at most `limit`; `limit` if there is none.
    pub fn next_within(&self, limit: Tick) -> Tick {
        if self.armed == 0 {
            return limit;
        }
        (1..limit)
            .find(|ahead| !self.buckets[(self.now + ahead) as usize % BUCKETS].is_empty())
            .unwrap_or(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_the_tick_asked_for_and_once() {
        let mut wheel = Wheel::new(100);
        assert_eq!(wheel.arm(1, 105), 105);
        assert_eq!(wheel.arm(2, 50), 101);
        assert_eq!(wheel.arm(3, 100 + 2 * BUCKETS as Tick), 100 + BUCKETS as Tick);
        assert_eq!(wheel.next_within(1_000), 1);
        let mut fired = Vec::new();
        wheel.advance(104, &mut fired);
        assert_eq!(fired, [2]);
        wheel.advance(105, &mut fired);
        wheel.advance(105, &mut fired);
        assert_eq!(fired, [2, 1]);
        wheel.advance(100 + 10 * BUCKETS as Tick, &mut fired);
        assert_eq!(fired, [2, 1, 3]);
        assert_eq!(wheel.next_within(7), 7);
    }
}
