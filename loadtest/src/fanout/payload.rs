//! The data that is published, and how its event number is found again in what
//! a subscriber receives, without a JSON parser and whatever the envelope.

use memchr::memmem;

use crate::clock::write_digits;

/// In front of the event's number; nothing else in a message may contain it.
const MARK: &[u8] = br#""n":""#;
/// Digits of the number.
const DIGITS: usize = 16;
/// Digits of the time, Unix ns.
const TIME_DIGITS: usize = 19;

/// Makes the data of one event: a `price_update` with the number and the time
/// at fixed places and padded to a fixed length.
pub struct Payload {
    bytes: Vec<u8>,
    number: usize,
    time: usize,
}

impl Payload {
    /// Data of `length` bytes, or the least possible.
    pub fn new(length: usize) -> Self {
        let number_text = r#"{"n":""#;
        let time_text = format!(r#"{number_text}{}","t":""#, "0".repeat(DIGITS));
        let head = format!("{time_text}{}\"", "0".repeat(TIME_DIGITS));
        let fields = r#","symbol":"BTC-USDC","price":61837.63,"change":-1.27,"volume":18432.50671"#;
        let mut text = head;
        if text.len() + fields.len() + r#","pad":""}"#.len() <= length {
            text.push_str(fields);
        }
        if let Some(pad) = length.checked_sub(text.len() + r#","pad":""}"#.len()) {
            text.push_str(&format!(r#","pad":"{}""#, "x".repeat(pad)));
        }
        text.push('}');
        Self { bytes: text.into_bytes(), number: number_text.len(), time: time_text.len() }
    }

    /// The data of the event with this number and time (Unix ns).
    #[inline]
    pub fn fill(&mut self, number: u64, time: u64) -> &[u8] {
        write_digits(&mut self.bytes[self.number..self.number + DIGITS], number);
        write_digits(&mut self.bytes[self.time..self.time + TIME_DIGITS], time);
        &self.bytes
    }
}

/// Finds the number in a message. It expects it where it was the last time,
/// and searches only if it is not there.
#[derive(Default)]
pub struct Locator {
    offset: usize,
}

impl Locator {
    /// The event number in `message`; `None` if there is none.
    #[inline]
    pub fn find(&mut self, message: &[u8]) -> Option<u64> {
        if let Some(found) = message.get(self.offset..self.offset + MARK.len() + DIGITS)
            && let Some(digits) = found.strip_prefix(MARK)
        {
            return parse_digits(digits);
        }
        self.search(message)
    }

    #[cold]
    fn search(&mut self, message: &[u8]) -> Option<u64> {
        let offset = memmem::find(message, MARK)?;
        let number = parse_digits(message.get(offset + MARK.len()..)?.get(..DIGITS)?)?;
        self.offset = offset;
        Some(number)
    }
}

#[inline]
fn parse_digits(digits: &[u8]) -> Option<u64> {
    let (high, low) = digits.split_at_checked(8)?;
    Some(parse_eight(high.try_into().ok()?)? * 100_000_000 + parse_eight(low.try_into().ok()?)?)
}

/// Eight decimal digits at once: pairs, then fours, then all are combined by
/// one multiplication each.
#[inline]
fn parse_eight(digits: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(digits);
    let value = word.wrapping_sub(0x3030_3030_3030_3030);
    // A byte outside 0..=9 has its high bit set here or after adding 0x76.
    if (value | value.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = (value * 10 + (value >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_of_the_wanted_length() {
        for length in [0, 60, 75, 100, 149, 150, 151, 1_000] {
            let mut payload = Payload::new(length);
            let data = payload.fill(1_723_161_254_347_673, 1_723_161_254_347_673_567).to_vec();
            let value: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
            assert_eq!(value["n"], "1723161254347673");
            assert_eq!(value["t"], "1723161254347673567");
            assert!(length < 75 || data.len() == length, "{length}: {}", data.len());
        }
    }

    #[test]
    fn numbers_are_found_in_any_envelope() {
        let (mut payload, mut locator) = (Payload::new(150), Locator::default());
        for (number, room) in [(0, "a"), (1, "a"), (99_999_999, "long:room"), (9_999_999_999_999_999, "a")] {
            let mut message = format!(r#"42["price_update",{{"room":"{room}","data":"#).into_bytes();
            message.extend_from_slice(payload.fill(number, 5));
            assert_eq!(locator.find(&message), Some(number));
            message.extend_from_slice(b"}]");
            assert_eq!(locator.find(&message), Some(number));
        }
        assert_eq!(locator.find(br#"{"event":"room_joined"}"#), None);
        assert_eq!(locator.find(br#"{"n":"12"}"#), None);
        assert_eq!(locator.find(b""), None);
    }

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(parse_eight(*b"12345678"), Some(12_345_678));
        assert_eq!(parse_eight(*b"00000009"), Some(9));
        for wrong in [b"1234567:", b"/2345678", b"1234 678", b"\xff2345678".first_chunk().expect("eight")] {
            assert_eq!(parse_eight(*wrong), None, "{wrong:?}");
        }
    }
}
