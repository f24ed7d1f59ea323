//! Messages that were not all written when their client was lost: they are given again, whatever it has said meanwhile.

use std::net::TcpStream;

use serde_json::{Value, json};

use super::name;
use crate::support::broker::TemporaryDirectory;
use crate::support::client::Client;
use crate::support::http::{self, Connection};
use crate::support::mobile::{CHAT, Mobile, say};
use crate::support::polling::Polling;
use crate::support::socketio::Transport;
use crate::support::token::token;
use crate::support::{Broker, each_shard_count, eventually};

/// More than a kernel takes for a client that reads nothing, and no more than is given at once.
const MESSAGES: usize = 90;
const CHARS: usize = 4_000;

/// Says so much to a user who is not there.
fn fill(broker: &Broker, user: &str) -> Vec<Value> {
    let long = "x".repeat(CHARS);
    (0..MESSAGES).map(|_| say(broker.public, "ada", user, &long)).collect()
}

#[track_caller]
fn all_come_again(broker: &Broker, user: &str, said: &[Value]) {
    let mut client = Mobile::chat(broker.public, Transport::WebSocket, user);
    for message in said {
        assert_eq!(client.expect(CHAT, "message:received"), *message);
    }
    client.expect_nothing(CHAT);
}

fn start(shards: &str) -> Broker {
    Broker::start(&[shards, "limits.messages = \"off\"", "limits.control = \"off\""])
}

/// Waits until something can be read, and reads nothing.
fn await_first_byte(stream: &TcpStream) {
    assert!(stream.peek(&mut [0]).unwrap() > 0);
}

#[test]
fn a_websocket_that_does_not_read() {
    each_shard_count(|shards| {
        let broker = start(shards);
        let bob = &*name("bob", Transport::WebSocket);
        let said = fill(&broker, bob);
        let path = "/socket.io/?EIO=4&transport=websocket";
        let stream = http::connect_narrow(broker.public);
        let mut client = Client::over(stream, &broker.public.to_string(), path, &[]).unwrap();
        assert!(client.next_text().starts_with('0'));
        client.text(format!("40{CHAT},{}", json!({ "token": token(bob) })));
        eventually("the client is stuck", || {
            (broker.metric("fanfare_outbox_bytes", &[]) > 0.0).then_some(())
        });
        for _ in 0..3 {
            client.text(format!("42{CHAT},[\"heartbeat\",{{}}]"));
        }
        drop(client);
        broker.wait_for_metric("fanfare_connections", &["app=\"mobile\""], 0.0);
        all_come_again(&broker, bob, &said);
        broker.wait_for_zero();
    });
}

#[test]
fn a_poll_whose_answer_is_not_read() {
    each_shard_count(|shards| {
        let broker = start(shards);
        let bob = &*name("bob", Transport::Polling);
        let said = fill(&broker, bob);
        let mut session = Polling::open(broker.public, "/socket.io/", "");
        let stream = http::connect_narrow(broker.public);
        let peeked = stream.try_clone().unwrap();
        let mut polls = Connection::over(stream, &broker.public.to_string());
        polls.send("GET", &session.path, &[], b"");
        session.send(&format!("40{CHAT},{}", json!({ "token": token(bob) })));
        // The welcome does not wait for the store.
        let welcome = polls.response().text();
        assert!(welcome.contains("chat:connected") && !welcome.contains("message:received"), "{welcome}");
        polls.send("GET", &session.path, &[], b"");
        await_first_byte(&peeked);
        // Comes on another connection.
        session.send(&format!("42{CHAT},[\"heartbeat\",{{}}]"));
        drop((polls, peeked));
        all_come_again(&broker, bob, &said);
        session.post("1");
        broker.wait_for_zero();
    });
}

#[test]
fn a_broker_that_is_killed_before_a_word() {
    let directory = TemporaryDirectory::new();
    let path = format!("store.path = {:?}", directory.path("mobile.db"));
    for transport in [Transport::WebSocket, Transport::Polling] {
        let bob = &*name("bob", transport);
        let mut broker = Broker::start(&[&path]);
        let said = say(broker.public, "ada", bob, "hi");
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.expect(CHAT, "message:received"), said);
        broker.signal(rustix::process::Signal::KILL);
        broker.wait();
        client.cut();
        let broker = Broker::start(&[&path]);
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.expect(CHAT, "message:received"), said);
        client.expect_nothing(CHAT);
    }
}
