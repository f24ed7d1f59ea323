//! The order book of one pair, kept from differences.

use std::collections::BTreeMap;

use super::decimal::Decimal;

/// Levels that are published of each side.
pub const DEPTH: usize = 20;
/// Levels that are kept of each side; the farthest go first. Differences reach
/// far from the market, and a run may be long.
const KEPT: usize = 10_000;

/// One side's levels: price to the digits of price and amount, as they came.
type Levels = BTreeMap<Decimal, (Box<str>, Box<str>)>;

/// Bids and asks.
#[derive(Default)]
pub struct Book {
    bids: Levels,
    asks: Levels,
}

/// A side of the book.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Bids,
    Asks,
}

impl Book {
    /// Sets the amount at a price; an amount of zero removes the level.
    ///
    /// # Errors
    /// The text that is not a plain decimal number.
    pub fn set<'a>(&mut self, side: Side, price: &'a str, amount: &'a str) -> Result<(), &'a str> {
        let level = Decimal::parse(price).ok_or(price)?;
        let gone = Decimal::parse(amount).ok_or(amount)?.is_zero();
        let levels = match side {
            Side::Bids => &mut self.bids,
            Side::Asks => &mut self.asks,
        };
        if gone {
            levels.remove(&level);
        } else {
            levels.insert(level, (price.into(), amount.into()));
        }
        if levels.len() > KEPT {
            match side {
                Side::Bids => levels.pop_first(),
                Side::Asks => levels.pop_last(),
            };
        }
        Ok(())
    }

    /// Appends the best levels of a side, best first, as a JSON array of
    /// `[price, amount]` with the digits as they came.
    pub fn write(&self, side: Side, out: &mut Vec<u8>) {
        match side {
            Side::Bids => write_levels(self.bids.values().rev(), out),
            Side::Asks => write_levels(self.asks.values(), out),
        }
    }
}

fn write_levels<'a>(levels: impl Iterator<Item = &'a (Box<str>, Box<str>)>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, (price, amount)) in levels.take(DEPTH).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        for part in ["[", price, ",", amount, "]"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(book: &Book, side: Side) -> String {
        let mut out = Vec::new();
        book.write(side, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn best_levels_come_first_and_keep_their_digits() {
        let mut book = Book::default();
        for (price, amount) in [("99.50", "1.000"), ("100.00", "2"), ("9.99", "3"), ("100.0", "4.0")] {
            book.set(Side::Bids, price, amount).expect("numbers");
            book.set(Side::Asks, price, amount).expect("numbers");
        }
        assert_eq!(shown(&book, Side::Bids), "[[100.0,4.0],[99.50,1.000],[9.99,3]]");
        assert_eq!(shown(&book, Side::Asks), "[[9.99,3],[99.50,1.000],[100.0,4.0]]");
        book.set(Side::Bids, "100.000", "0.00000000").expect("numbers");
        assert_eq!(shown(&book, Side::Bids), "[[99.50,1.000],[9.99,3]]");
        assert_eq!(book.set(Side::Bids, "1", "x"), Err("x"));
        assert_eq!(shown(&Book::default(), Side::Asks), "[]");
    }

    #[test]
    fn depth_and_memory_are_bounded() {
        let mut book = Book::default();
        for price in 1..=KEPT + 10 {
            book.set(Side::Bids, &price.to_string(), "1").expect("numbers");
            book.set(Side::Asks, &price.to_string(), "1").expect("numbers");
        }
        assert_eq!((book.bids.len(), book.asks.len()), (KEPT, KEPT));
        assert!(shown(&book, Side::Bids).starts_with(&format!("[[{},1]", KEPT + 10)));
        assert!(shown(&book, Side::Asks).starts_with("[[1,1]"));
        assert_eq!(shown(&book, Side::Asks).matches(",1]").count(), DEPTH);
    }
}
