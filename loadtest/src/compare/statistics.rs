//! Medians, ranges and pair ratios, and whether a ratio meets its target. Pure
//! arithmetic over what the runs gave.

use serde_json::{Value, json};

/// Middle, least and greatest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Summary {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Some(Self { median, least, greatest })
    }

    /// As an object.
    pub fn json(&self) -> Value {
        json!({ "median": self.median, "least": self.least, "greatest": self.greatest })
    }
}

/// `numerators[i] / denominators[i]` for all that have both.
pub fn ratios(numerators: &[f64], denominators: &[f64]) -> Vec<f64> {
    numerators.iter().zip(denominators).map(|(upper, lower)| upper / lower.max(f64::MIN_POSITIVE)).collect()
}

/// How far two runs of the same program lie apart, as a factor of at least 1:
/// the median of the pair ratios, each turned so that it is not below 1.
pub fn spread(same: &[f64]) -> f64 {
    let turned: Vec<f64> = same.iter().map(|ratio| ratio.max(1.0 / ratio)).collect();
    Summary::of(&turned).map_or(1.0, |summary| summary.median)
}

/// Whether a target counts as reached (`spec/performance.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Reached,
    Missed,
    /// There was nothing to compare with.
    NotMeasured,
}

impl Verdict {
    /// For people and for JSON.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Reached => "reached",
            Verdict::Missed => "missed",
            Verdict::NotMeasured => "not measured",
        }
    }
}

/// Judges the median of the pair ratios beside the spread of one program
/// against itself.
pub fn judge(pairs: &[f64], target: f64, spread: f64) -> Verdict {
    match Summary::of(pairs) {
        None => Verdict::NotMeasured,
        Some(ratio) if ratio.median <= target * spread => Verdict::Reached,
        Some(_) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let odd = Summary::of(&[3.0, 1.0, 2.0]).expect("some");
        assert_eq!(odd, Summary { median: 2.0, least: 1.0, greatest: 3.0 });
        assert_eq!(Summary::of(&[4.0, 1.0]).expect("some").median, 2.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_spread_does_not_care_which_run_was_first() {
        assert_eq!(ratios(&[2.0, 3.0], &[1.0, 2.0, 9.0]), [2.0, 1.5]);
        assert_eq!(spread(&[0.5, 1.0, 2.0]), 2.0);
        assert_eq!(spread(&[1.0, 1.0, 1.0]), 1.0);
        assert_eq!(spread(&[]), 1.0);
    }

    #[test]
    fn a_target_is_judged_beside_the_spread() {
        assert_eq!(judge(&[1.04, 1.06, 1.2], 1.05, 1.0), Verdict::Missed);
        assert_eq!(judge(&[1.04, 1.06, 1.2], 1.05, 1.02), Verdict::Reached);
        assert_eq!(judge(&[], 1.05, 1.0), Verdict::NotMeasured);
    }
}
