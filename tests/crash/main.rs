//! The real binary is killed in the middle of chat, again and again, and started again on the same database
//! (`spec/conversation.md`): what was acknowledged is there, once.
//!
//! - Every message whose `message:new` has reached its sender is there exactly once.
//! - A message that was not acknowledged is there once or not at all; sent again under its `client_message_id` it is there once.
//! - A sender's messages are in the order in which they were sent.
//! - What `message:viewed` has said is read stays read.
//! - `unread_count` is what counting the unread messages gives.
//!
//! The moment of each kill is random; the seed is printed. `FANFARE_CRASH_SEED` repeats a run as far as it can be,
//! `FANFARE_CRASH_ROUNDS` makes it longer. A program of its own, so that nothing else runs beside so many connections.

#![allow(clippy::unwrap_used)]

mod check;
mod talk;

#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use check::History;
use support::{Broker, DEADLINE};
use talk::{Client, Goal, User};

const PAIRS: usize = 20;
const ROUNDS: u64 = 20;
/// Messages that are acknowledged in each round before the kill, at least and at most. So many rounds send more than 10,000.
const ACKNOWLEDGED: [u64; 2] = [520, 800];

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// Two for each pair, one behind the other, with their conversations made.
fn users(broker: &Broker) -> Vec<User> {
    let mut publisher = broker.publisher();
    let mut users = Vec::new();
    for pair in 0..PAIRS {
        let [first, second] = ["a", "b"].map(|letter| format!("{letter}{pair}"));
        let line = serde_json::json!({ "op": "conversation.create", "participants": [first, second] });
        let made = publisher.ask(line);
        let conversation = made["conversation_id"].as_str().unwrap_or_else(|| panic!("{made}"));
        users.extend([first, second].map(|name| User::new(name, conversation.to_owned())));
    }
    users
}

/// Everybody talks until `goal` is reached or the broker has gone. Tells what is acknowledged as it comes.
fn talk(broker: &Broker, users: Vec<User>, goal: Goal) -> (Receiver<()>, impl FnOnce() -> Vec<User> + use<>) {
    // All are connected before anybody talks: the kill is to meet no handshake.
    let clients: Vec<Client> = users.iter().map(|user| user.connect(broker.public)).collect();
    let (say, acknowledged) = mpsc::channel();
    let threads: Vec<_> = users
        .into_iter()
        .zip(clients)
        .map(|(mut user, client)| {
            let say = say.clone();
            thread::spawn(move || {
                user.talk(client, goal, &say);
                user
            })
        })
        .collect();
    (acknowledged, || threads.into_iter().map(|thread| thread.join().unwrap()).collect())
}

#[test]
fn what_was_acknowledged_survives_kill_of_the_broker() {
    let seed = number("FANFARE_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9);
    let rounds = number("FANFARE_CRASH_ROUNDS").unwrap_or(ROUNDS);
    println!("FANFARE_CRASH_SEED={seed}");
    let mut random = Random(seed | 1);
    let off = ["limits.messages = \"off\"", "limits.control = \"off\""];
    let mut broker = Broker::start(&off);
    let mut users = users(&broker);
    for round in 0..rounds {
        let least = ACKNOWLEDGED[0] + random.below(ACKNOWLEDGED[1] - ACKNOWLEDGED[0]);
        let (acknowledged, end) = talk(&broker, users, Goal::Never);
        for _ in 0..least {
            acknowledged.recv_timeout(DEADLINE).expect("messages are acknowledged");
        }
        // Anywhere between two commits, or within one.
        thread::sleep(Duration::from_micros(random.below(5_000)));
        broker.kill();
        users = end();
        // With one shard the router lives in it; with more it has a thread.
        broker.start_again(&[["shards = 1", "shards = 3"][(round % 2) as usize]]);
        for pair in users.chunks(2) {
            History::read(&broker, pair).check(pair);
        }
    }
    let (_acknowledged, end) = talk(&broker, users, Goal::Settled);
    users = end();
    for pair in users.chunks(2) {
        assert!(pair.iter().all(User::is_settled));
        History::read(&broker, pair).check(pair);
    }
    let sent: usize = users.iter().map(User::sent).sum();
    let repeated: usize = users.iter().map(|user| user.repeated).sum();
    println!("{sent} messages in {rounds} rounds, {repeated} sent again after a kill");
    assert!(sent as u64 >= rounds * ACKNOWLEDGED[0]);
}
