//! What the end-to-end tests share: the real binary on free ports, and blocking clients of its three ports.
//!
//! Nothing here knows the broker's code; everything goes over sockets. Every wait has a generous deadline and ends
//! as soon as what it waits for has come.

#![allow(dead_code, clippy::unwrap_used)]

pub mod broker;
pub mod chat;
pub mod client;
pub mod conformance;
pub mod http;
pub mod ingest;
pub mod mobile;
pub mod polling;
pub mod raw;
pub mod socketio;
pub mod tls;
pub mod token;

use std::thread;
use std::time::{Duration, Instant};

pub use broker::Broker;
pub use client::Client;
pub use ingest::Publisher;

/// How long a test waits for something that must come. Only a failing test waits so long.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value; `what` says what did not come.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a test with one shard, where the router lives in the shard, and with three, where it has its own thread.
pub fn each_shard_count(test: impl Fn(&str)) {
    for shards in ["shards = 1", "shards = 3"] {
        eprintln!("with {shards}");
        test(shards);
    }
}

/// A pair name that no other call returns, so that tests on one broker do not meet.
pub fn pair(number: usize) -> String {
    let letter = |n: usize| char::from(b'A' + (n % 26) as u8);
    format!("{}{}{}-USDC", letter(number / 676), letter(number / 26), letter(number))
}
