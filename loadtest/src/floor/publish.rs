//! One ingest line, read as cheaply as its usual shape allows.

use memchr::{memchr, memrchr};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A published event, as spans of its line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub room: &'a str,
    pub event: &'a str,
    pub data: &'a [u8],
}

/// Any order of keys, for what the fast way does not know.
#[derive(Deserialize)]
struct Slow<'a> {
    room: &'a str,
    event: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<'a> Line<'a> {
    /// Reads `{"room":R,"event":E,"data":D}`; `None` if it is something else.
    /// The floor trusts its publisher: `data` is not validated.
    #[inline]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        Self::fast(line).or_else(|| Self::slow(line))
    }

    fn fast(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(br#"{"room":""#)?;
        let (room, rest) = rest.split_at(memchr(b'"', rest)?);
        let rest = rest.strip_prefix(br#"","event":""#)?;
        let (event, rest) = rest.split_at(memchr(b'"', rest)?);
        let rest = rest.strip_prefix(br#"","data":"#)?;
        let data = &rest[..memrchr(b'}', rest)?];
        // A further key would stand behind an object or array; other data
        // goes the slow way.
        let whole =
            data.first() == Some(&b'{') && data.last() == Some(&b'}') && memchr(b'\\', room).is_none();
        let (room, event) = (std::str::from_utf8(room).ok()?, std::str::from_utf8(event).ok()?);
        whole.then_some(Self { room, event, data })
    }

    #[cold]
    fn slow(line: &'a [u8]) -> Option<Self> {
        let line: Slow = serde_json::from_slice(line).ok()?;
        Some(Self { room: line.room, event: line.event, data: line.data.get().as_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        for line in [
            r#"{"room":"price:BTC-USDC","event":"price_update","data":{"a":{"b":1}}}"#,
            r#"{"event":"price_update","data":{"a":{"b":1}},"room":"price:BTC-USDC"}"#,
            r#"{"room":"price:BTC-USDC","event":"price_update","data":{"a":{"b":1}},"ts":5}"#,
        ] {
            let parsed = Line::parse(line.as_bytes()).expect("a line");
            assert_eq!((parsed.room, parsed.event), ("price:BTC-USDC", "price_update"), "{line}");
            assert_eq!(parsed.data, br#"{"a":{"b":1}}"#, "{line}");
        }
        assert_eq!(Line::parse(b"hello"), None);
        assert_eq!(Line::parse(br#"{"room":"r","event":"e","data":[1]}"#).expect("a line").data, b"[1]");
    }
}
