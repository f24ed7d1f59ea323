//! The words of a connection to a session.

use crate::durable::heard::Words;

/// What is told apart. The content of each message begins with its number.
pub const WORDS: Words = Words {
    message: br#"{"message_type":"message""#,
    receipt: None,
    error: br#"{"message_type":"error""#,
    number: br##""content":"#"##,
};

/// The text of a message with this number.
pub fn text(number: u64) -> String {
    format!(
        r##"{{"message_type":"text","content":"#{number} I have looked it up: the payment was booked this morning."}}"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Sink;
    use crate::durable::heard::Heard;

    #[test]
    fn messages_are_told_apart() {
        let mut heard = Heard::new(&WORDS);
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
