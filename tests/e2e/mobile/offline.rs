//! What was said to a user who was not there, and devices that come and go.

use std::collections::HashSet;
use std::sync::Barrier;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{everywhere, name};
use crate::support::broker::TemporaryDirectory;
use crate::support::mobile::{CHAT, Mobile, WALLET, get, say};
use crate::support::socketio::Transport;
use crate::support::token::token;
use crate::support::{Broker, each_shard_count, eventually};

/// Nobody could say, or ask, so much otherwise.
const NO_LIMITS: [&str; 2] = ["limits.messages = \"off\"", "limits.control = \"off\""];

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Says numbers from one user to another.
fn count(broker: &Broker, from: &str, to: &str, range: std::ops::Range<usize>) -> Vec<Value> {
    numbers(range).iter().map(|n| say(broker.public, from, to, n)).collect()
}

#[test]
fn what_came_meanwhile_is_given_once_and_in_order() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        count(broker, ada, bob, 0..100);
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.contents(100), numbers(0..100));
        client.expect_nothing(CHAT);
        drop(client);
        let mut client = Mobile::chat(broker.public, transport, bob);
        client.expect_nothing(CHAT);
        // A wallet is no chat: what came while only that was there has not been given.
        client.leave(CHAT);
        client.join(WALLET, bob);
        count(broker, ada, bob, 100..103);
        client.expect_nothing(WALLET);
        client.join(CHAT, bob);
        assert_eq!(client.contents(3), numbers(100..103));
        client.expect_nothing(CHAT);
    });
}

#[test]
fn a_client_that_is_lost_before_any_word_is_given_the_same_again() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let said = count(broker, ada, bob, 0..3);
        for _ in 0..2 {
            let mut client = Mobile::open(broker.public, Transport::WebSocket);
            client.connect(CHAT, json!({ "token": token(bob) })).unwrap();
            client.expect(CHAT, "chat:connected");
            for message in &said {
                assert_eq!(client.expect(CHAT, "message:received"), *message);
            }
            // Whether the broker has found out when the next one comes is all the same.
            client.cut();
        }
        // Any packet that follows is a word.
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.contents(3), numbers(0..3));
        client.leave(CHAT);
        client.join(CHAT, bob);
        client.expect_nothing(CHAT);
        // The same for what came live: it is given again if nothing followed it.
        drop(client);
        let mut client = Mobile::chat(broker.public, Transport::WebSocket, bob);
        client.expect_nothing(CHAT);
        let live = say(broker.public, ada, bob, "live");
        assert_eq!(client.expect(CHAT, "message:received"), live);
        client.cut();
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.expect(CHAT, "message:received"), live);
        client.expect_nothing(CHAT);
    });
}

#[test]
fn two_devices_both_get_everything() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let mut first = Mobile::chat(broker.public, transport, bob);
        let mut second = Mobile::chat(broker.public, transport, bob);
        count(broker, ada, bob, 0..50);
        for device in [&mut first, &mut second] {
            assert_eq!(device.contents(50), numbers(0..50));
        }
        // One of them says that it has it, so that it is not given to one that comes later.
        first.expect_nothing(CHAT);
        let mut third = Mobile::chat(broker.public, transport, bob);
        third.expect_nothing(CHAT);
        drop(first);
        count(broker, ada, bob, 50..60);
        for device in [&mut second, &mut third] {
            assert_eq!(device.contents(10), numbers(50..60));
            device.expect_nothing(CHAT);
        }
        drop((second, third));
        let mut fourth = Mobile::chat(broker.public, transport, bob);
        fourth.expect_nothing(CHAT);
    });
}

#[test]
fn devices_that_come_one_after_the_other_all_get_what_nobody_has_shown_to_have() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        count(broker, ada, bob, 0..100);
        let mut first = Mobile::chat(broker.public, transport, bob);
        assert_eq!(first.contents(100), numbers(0..100));
        // The first is there and quiet: nobody knows whether it got anything.
        count(broker, ada, bob, 100..103);
        let mut second = Mobile::chat(broker.public, transport, bob);
        assert_eq!(second.contents(103), numbers(0..103));
        assert_eq!(first.contents(3), numbers(100..103));
        count(broker, ada, bob, 103..105);
        for device in [&mut first, &mut second] {
            assert_eq!(device.contents(2), numbers(103..105));
            device.expect_nothing(CHAT);
        }
        let mut third = Mobile::chat(broker.public, transport, bob);
        third.expect_nothing(CHAT);
    });
}

#[test]
fn devices_that_come_at_once_both_get_everything() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        count(broker, ada, bob, 0..20);
        let start = Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    let mut device = Mobile::chat(broker.public, Transport::WebSocket, bob);
                    assert_eq!(device.contents(60), numbers(0..60));
                    // Nobody says anything before both have it, as each poll would.
                    start.wait();
                    device.expect_nothing(CHAT);
                });
            }
            start.wait();
            count(broker, ada, bob, 20..60);
            start.wait();
        });
    });
}

#[test]
fn at_most_500_are_given_and_the_history_has_the_rest() {
    let broker = Broker::start(&NO_LIMITS);
    count(&broker, "ada", "bob", 0..510);
    let mut client = Mobile::chat(broker.public, Transport::Polling, "bob");
    assert_eq!(client.contents(500), numbers(0..500));
    client.expect_nothing(CHAT);
    drop(client);
    let mut client = Mobile::chat(broker.public, Transport::WebSocket, "bob");
    client.expect_nothing(CHAT);
    let page = get(broker.public, "bob", "/api/chat/personal/messages?with=ada&limit=10");
    let contents: Vec<&str> =
        page["messages"].as_array().unwrap().iter().rev().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(contents, numbers(500..510));
}

#[test]
fn much_text_is_given_in_parts_to_a_client_that_says_nothing() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let content = |n: usize| format!("{n}:{}", "\u{1}x".repeat(1_900));
        // Six bytes for every other character: four times what is given at once.
        for n in 0..80 {
            say(broker.public, ada, bob, &content(n));
        }
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.contents(80), (0..80).map(content).collect::<Vec<_>>());
        say(broker.public, ada, bob, "live");
        assert_eq!(client.contents(1), ["live"]);
        client.expect_nothing(CHAT);
    });
}

#[test]
fn what_comes_live_reaches_a_device_before_which_more_than_are_given_have_waited() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let content = |n: usize| format!("{n}:{}", "x".repeat(1_500));
        for n in 0..520 {
            say(broker.public, ada, bob, &content(n));
        }
        let mut client = Mobile::chat(broker.public, transport, bob);
        // It has been given nothing but the first part, or not even that.
        say(broker.public, ada, bob, "live");
        assert_eq!(client.contents(500), (0..500).map(content).collect::<Vec<_>>());
        assert_eq!(client.contents(1), ["live"]);
        client.expect_nothing(CHAT);
        drop(client);
        // What the history has is not given later.
        let mut client = Mobile::chat(broker.public, transport, bob);
        client.expect_nothing(CHAT);
    });
}

#[test]
fn what_another_device_shows_to_have_is_given_all_the_same() {
    everywhere(&NO_LIMITS, |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let content = |n: usize| format!("{n}:{}", "x".repeat(3_900));
        let all: Vec<_> = (0..150).map(content).collect();
        for content in &all {
            say(broker.public, ada, bob, content);
        }
        let mut quick = Mobile::chat(broker.public, transport, bob);
        // What it is sent waits for its polls: it is in its first part when the other one has all.
        let mut slow = Mobile::chat(broker.public, Transport::Polling, bob);
        assert_eq!(quick.contents(150), all);
        let live = say(broker.public, ada, bob, "live");
        assert_eq!(quick.expect(CHAT, "message:received"), live);
        quick.expect_nothing(CHAT);
        assert_eq!(slow.contents(150), all);
        assert_eq!(slow.expect(CHAT, "message:received"), live);
        for device in [&mut quick, &mut slow] {
            device.expect_nothing(CHAT);
        }
        let mut third = Mobile::chat(broker.public, transport, bob);
        third.expect_nothing(CHAT);
    });
}

#[test]
fn what_waits_fits_into_whatever_a_client_may_hold_up() {
    everywhere(&[NO_LIMITS[0], NO_LIMITS[1], "limits.outbox = 65536"], |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        // One alone is more than is given at once of others.
        let content = |n: usize| match n % 10 {
            0 => format!("{n}:{}", "\u{1}".repeat(3_900)),
            _ => format!("{n}:{}", "x".repeat(3_500)),
        };
        for n in 0..120 {
            say(broker.public, ada, bob, &content(n));
        }
        let mut client = Mobile::chat(broker.public, transport, bob);
        assert_eq!(client.contents(120), (0..120).map(content).collect::<Vec<_>>());
        client.expect_nothing(CHAT);
    });
}

#[test]
fn a_client_that_is_lost_half_way_is_not_given_all_again() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[NO_LIMITS[0], NO_LIMITS[1], "limits.outbox = 65536", shards]);
        let content = |n: usize| format!("{n}:{}", "x".repeat(1_500));
        let all: Vec<_> = (0..120).map(content).collect();
        for content in &all {
            say(broker.public, "ada", "bob", content);
        }
        let mut client = Mobile::chat(broker.public, Transport::Polling, "bob");
        let mut seen = 0;
        while seen < 60 {
            let event = client.next(CHAT);
            if event[0] == "message:received" {
                assert_eq!(event[1]["content"], all[seen]);
                seen += 1;
                // The next part waits for the next poll.
                eventually("the next part", || {
                    (broker.metric("fanfare_outbox_bytes", &[]) > 0.0).then_some(())
                });
                client.emit(CHAT, "heartbeat", json!({}));
            }
        }
        client.cut();
        let mut client = Mobile::chat(broker.public, Transport::Polling, "bob");
        let first = client.contents(1).remove(0);
        let at = all.iter().position(|content| *content == first).unwrap();
        // What was read of it for the client it may have had, too.
        assert!((20..100).contains(&at), "it begins with {at}");
        assert_eq!(client.contents(all.len() - at - 1), all[at + 1..]);
        client.expect_nothing(CHAT);
    });
}

#[test]
fn what_comes_while_a_client_connects_is_neither_lost_nor_doubled() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[NO_LIMITS[0], NO_LIMITS[1], shards]);
        let total = 200;
        std::thread::scope(|scope| {
            scope.spawn(|| count(&broker, "ada", "bob", 0..total));
            let (mut seen, mut ids) = (Vec::new(), HashSet::new());
            while seen.len() < total {
                // A packet that ended the session would be a word for what has not been read.
                let mut client = Mobile::chat(broker.public, Transport::WebSocket, "bob");
                for _ in 0..5 {
                    for event in client.before_heartbeat(CHAT) {
                        // What came behind the last heartbeat of a client is given again, with the same id.
                        if ids.insert(event[1]["id"].as_str().unwrap().to_owned()) {
                            seen.push(event[1]["content"].as_str().unwrap().to_owned());
                        }
                    }
                }
                client.cut();
            }
            assert_eq!(seen, numbers(0..total));
        });
    });
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let directory = TemporaryDirectory::new();
    let path = format!("store.path = {:?}", directory.path("mobile.db"));
    let mut broker = Broker::start(&[&path]);
    let mut ada = Mobile::chat(broker.public, Transport::WebSocket, "ada");
    let sent = ada.ask(CHAT, "message:send", json!({ "recipientId": "bob", "content": "hi" }));
    let said = say(broker.public, "ada", "bob", "again");
    let mut publisher = broker.publisher();
    let data = json!({ "currency": "BTC", "balance": 1 });
    publisher.publish(json!({ "user": "bob", "event": "balance:updated", "data": data }));
    publisher.publish(json!({ "user": "bob", "event": "transaction:added", "data": { "id": 7 } }));
    broker.signal(Signal::KILL);
    broker.wait();
    let broker = Broker::start(&[&path]);
    let mut bob = Mobile::chat(broker.public, Transport::Polling, "bob");
    assert_eq!(bob.expect(CHAT, "message:received"), sent);
    assert_eq!(bob.expect(CHAT, "message:received"), said);
    bob.expect_nothing(CHAT);
    let balances = get(broker.public, "bob", "/api/wallet/balance");
    assert_eq!(
        (&balances["balances"][0]["currency"], &balances["balances"][0]["balance"]),
        (&json!("BTC"), &json!(1))
    );
    let transactions = get(broker.public, "bob", "/api/wallet/transactions");
    assert_eq!(transactions, json!({ "transactions": [{ "id": 7 }], "nextBefore": null }));
}
