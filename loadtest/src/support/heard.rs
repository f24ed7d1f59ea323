//! What a connection to a session hears, told apart without parsing JSON.

use memchr::memmem;

use crate::client::Sink;

const MESSAGE: &[u8] = br#"{"message_type":"message""#;
const ERROR: &[u8] = br#"{"message_type":"error""#;
/// In front of the number with which the content of each message begins.
const NUMBER: &[u8] = br##""content":"#"##;

/// The text of a message with this number.
pub fn text(number: u64) -> String {
    format!(
        r##"{{"message_type":"text","content":"#{number} I have looked it up: the payment was booked this morning."}}"##
    )
}

/// What one read of one connection gave.
#[derive(Default)]
pub struct Heard {
    /// The numbers of the messages that came.
    pub numbers: Vec<u64>,
    /// The first error, as it came.
    pub error: Option<String>,
}

impl Sink for Heard {
    fn message(&mut self, payload: &[u8]) {
        if payload.starts_with(MESSAGE) {
            match number(payload) {
                Some(number) => self.numbers.push(number),
                None => self.fail(payload),
            }
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
    let start = memmem::find(payload, NUMBER)? + NUMBER.len();
    let digits = payload[start..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let mut heard = Heard::default();
        let sent: serde_json::Value = serde_json::from_str(&text(42)).expect("JSON");
        let content = &sent["content"];
        let came =
            format!(r#"{{"message_type":"message","user_id":"u1","content":{content},"metadata":{{}}}}"#);
        heard.message(came.as_bytes());
        heard.message(br#"{"message_type":"user_joined","metadata":{"total_users":2}}"#);
        assert_eq!((heard.numbers.as_slice(), &heard.error), (&[42][..], &None));
        heard.message(br#"{"message_type":"error","metadata":{"code":"RATE_LIMITED"}}"#);
        heard.message(br#"{"message_type":"message"}"#);
        assert!(heard.error.is_some_and(|error| error.contains("RATE_LIMITED")));
    }
}
