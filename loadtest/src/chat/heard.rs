//! What a chat connection hears, told apart without parsing JSON.

use memchr::memmem;

use crate::client::Sink;

/// In front of the number that each message has in its metadata.
pub const NUMBER: &str = r#"{"number":"#;

const NEW: &[u8] = br#"{"event":"message:new""#;
const DELIVERED: &[u8] = br#"{"event":"message:delivered""#;
const ERROR: &[u8] = br#"{"event":"error""#;

/// What one read of one connection gave.
#[derive(Default)]
pub struct Heard {
    /// The numbers of the messages that came.
    pub numbers: Vec<u64>,
    pub receipts: u64,
    /// The first error, as it came.
    pub error: Option<String>,
}

impl Sink for Heard {
    fn message(&mut self, payload: &[u8]) {
        if payload.starts_with(NEW) {
            match number(payload) {
                Some(number) => self.numbers.push(number),
                None => self.fail(payload),
            }
        } else if payload.starts_with(DELIVERED) {
            self.receipts += 1;
        } else if payload.starts_with(ERROR) {
            self.fail(payload);
        }
    }
}

impl Heard {
    fn fail(&mut self, payload: &[u8]) {
        self.error.get_or_insert_with(|| String::from_utf8_lossy(payload).into_owned());
    }
}

fn number(payload: &[u8]) -> Option<u64> {
    let start = memmem::find(payload, NUMBER.as_bytes())? + NUMBER.len();
    let digits = payload[start..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let mut heard = Heard::default();
        heard
            .message(br#"{"event":"message:new","data":{"message":{"metadata":{"number":42}},"sender":{}}}"#);
        heard.message(br#"{"event":"message:delivered","data":{}}"#);
        heard.message(br#"{"event":"user:online","data":{}}"#);
        assert_eq!((heard.numbers.as_slice(), heard.receipts, &heard.error), (&[42][..], 1, &None));
        heard.message(br#"{"event":"error","data":{"code":"RATE_LIMITED"}}"#);
        heard.message(br#"{"event":"message:new","data":{}}"#);
        assert!(heard.error.is_some_and(|error| error.contains("RATE_LIMITED")));
    }
}
