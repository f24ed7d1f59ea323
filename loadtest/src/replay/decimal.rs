//! Decimal numbers as an exchange writes them: exact, as multiples of 10⁻⁹.

use std::fmt;

/// Digits behind the point. The exchange has 8; the middle of two prices needs
/// one more.
const SCALE: usize = 9;
const ONE: i128 = 1_000_000_000;

/// An exact decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Decimal(i128);

impl Decimal {
    /// Parses a non-negative number that may stand in JSON as it is, such as
    /// `61837.63000000`; `None` for anything else or for more digits than are
    /// kept.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if !digits(whole) || !digits(fraction) || leading_zero || whole.len() > 18 || fraction.len() > SCALE {
            return None;
        }
        let below: i128 = format!("{fraction:0<SCALE$}").parse().ok()?;
        Some(Self(whole.parse::<i128>().ok()? * ONE + below))
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Halfway between two numbers of at most 8 digits, exactly.
    pub fn middle(self, other: Self) -> Self {
        Self((self.0 + other.0) / 2)
    }

    /// The difference; may be negative.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    /// The sum, held at the largest number there is.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Decimal {
    /// Without zeros at the end: `-1.5`, `3`, `0.000000001`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, below) = (self.0.unsigned_abs() / ONE as u128, self.0.unsigned_abs() % ONE as u128);
        let sign = if self.0 < 0 { "-" } else { "" };
        let fraction = format!("{below:0SCALE$}");
        match fraction.trim_end_matches('0') {
            "" => write!(formatter, "{sign}{whole}"),
            fraction => write!(formatter, "{sign}{whole}.{fraction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).expect("a plain number")
    }

    #[test]
    fn arithmetic_is_exact() {
        let (bid, ask) = (decimal("61837.63000000"), decimal("61837.64000001"));
        assert_eq!(bid.middle(ask).to_string(), "61837.635000005");
        assert_eq!(bid.minus(ask).to_string(), "-0.01000001");
        assert_eq!(decimal("0.1").plus(decimal("0.2")).to_string(), "0.3");
        assert_eq!(decimal("10.000").to_string(), "10");
        assert!(decimal("0.00000000").is_zero());
    }

    #[test]
    fn order_is_that_of_numbers() {
        assert!(decimal("9.5") < decimal("10"));
        assert!(decimal("10.1") > decimal("10.09999"));
        assert_eq!(decimal("1.50"), decimal("1.5"));
    }

    #[test]
    fn only_plain_json_numbers_pass() {
        for wrong in ["", ".5", "5.", "01.5", "-1", "1e3", "1.0000000001", "0x1", "1.2.3", " 1", "٣"] {
            assert_eq!(Decimal::parse(wrong), None, "{wrong}");
        }
    }
}
