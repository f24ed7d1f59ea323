//! Repeatable random choices: a small generator, ranks by Zipf's law, shuffles.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose rooms.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same choices.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Puts `items` into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// Ranks `0..n` with probability proportional to `1 / (rank + 1)^s`.
pub struct Zipf {
    /// Sums of the weights up to each rank, scaled to end at 1.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// `s` = 0 is uniform.
    pub fn new(ranks: usize, s: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += (rank as f64).powf(-s);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|weight| *weight /= sum);
        Self { cumulative }
    }

    /// One rank.
    pub fn sample(&self, random: &mut Random) -> usize {
        let point = random.unit();
        let rank = self.cumulative.partition_point(|sum| *sum <= point);
        rank.min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_law() {
        let (zipf, mut random) = (Zipf::new(1000, 1.0), Random::new(1));
        let mut counts = vec![0usize; 1000];
        for _ in 0..200_000 {
            counts[zipf.sample(&mut random)] += 1;
        }
        let harmonic: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 5, 10] {
            let expected = 200_000.0 / harmonic / rank as f64;
            let error = (counts[rank - 1] as f64 - expected).abs() / expected;
            assert!(error < 0.05, "rank {rank}: {} for {expected}", counts[rank - 1]);
        }
    }

    #[test]
    fn without_skew_all_are_equal_and_bounds_hold() {
        let (zipf, mut random) = (Zipf::new(4, 0.0), Random::new(7));
        let mut counts = [0; 4];
        (0..40_000).for_each(|_| counts[zipf.sample(&mut random)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert!((0..1000).all(|_| random.below(3) < 3));
        let mut items: Vec<u32> = (0..100).collect();
        random.shuffle(&mut items);
        assert!(items.windows(2).any(|pair| pair[0] > pair[1]));
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
