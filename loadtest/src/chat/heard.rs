//! The words of a chat connection.

use crate::durable::heard::Words;

/// In front of the number that each message has in its metadata.
pub const NUMBER: &str = r#"{"number":"#;

/// What is told apart.
pub const WORDS: Words = Words {
    message: br#"{"event":"message:new""#,
    receipt: Some(br#"{"event":"message:delivered""#),
    error: br#"{"event":"error""#,
    number: NUMBER.as_bytes(),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Sink;
    use crate::durable::heard::Heard;

    #[test]
    fn messages_are_told_apart() {
        let mut heard = Heard::new(&WORDS);
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
