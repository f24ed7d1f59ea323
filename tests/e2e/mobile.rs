//! The app `mobile` (`spec/mobile.md`): the namespaces `/chat` and `/wallet`, and the HTTP API, on each transport and with
//! one shard and three.

mod chat;
mod offline;
mod sessions;
mod unread;
mod wallet;

use serde_json::Value;

use crate::support::socketio::{Transport, each_transport};
use crate::support::{Broker, each_shard_count};

/// Runs a test with one shard and three, on both transports, each with a broker of its own and these settings.
fn everywhere(settings: &[&str], test: impl Fn(&Broker, Transport)) {
    each_shard_count(|shards| {
        let broker = Broker::start(&[&[shards], settings].concat());
        each_transport(|transport| test(&broker, transport));
        broker.wait_for_zero();
    });
}

/// A user's name that no other transport's run has.
fn name(user: &str, transport: Transport) -> String {
    format!("{user}-{transport:?}")
}

/// Asserts that a value is a time in UTC with milliseconds.
#[track_caller]
fn expect_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
}

/// The message that both users see.
#[track_caller]
fn expect_message(message: &Value, from: &str, to: &str, content: &str) {
    let [first, second] = if from < to { [from, to] } else { [to, from] };
    assert_eq!(message["senderId"], from, "{message}");
    assert_eq!(message["recipientId"], to, "{message}");
    assert_eq!(message["roomId"], format!("{first}~{second}"), "{message}");
    assert_eq!(message["content"], content, "{message}");
    assert_eq!(message["id"].as_str().unwrap().len(), 36, "{message}");
    expect_time(&message["createdAt"]);
}
