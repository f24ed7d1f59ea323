//! The app `account`: account updates over the wire `typed` (`spec/account.md`).

use serde_json::{Value, json};

use crate::support::token::{now, sign, token};
use crate::support::{Broker, Client, each_shard_count};

#[test]
fn updates_of_the_user_arrive_and_nobody_elses() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut phones = [broker.account("1234"), broker.account("1234")];
        let (mut other, mut publisher) = (broker.account("12345"), broker.publisher());
        let balance = json!({ "currency": "BTC", "balance": 0.05432, "previous": 0.05, "updatedAt": "2025-05-20T14:30:00Z" });
        let ack = publisher.publish(json!({ "user": "1234", "event": "balanceUpdated", "data": balance }));
        assert_eq!(ack["subscribers"], 2);
        for phone in &mut phones {
            assert_eq!(phone.next(), json!({ "type": "balanceUpdated", "userId": 1234, "data": balance }));
        }
        publisher.publish(
            json!({ "user": "12345", "event": "kycStatusChanged", "data": { "status": "approved" } }),
        );
        assert_eq!(
            other.next(),
            json!({ "type": "kycStatusChanged", "userId": 12345, "data": { "status": "approved" } })
        );
        publisher.publish(
            json!({ "broadcast": true, "event": "serverNotification", "data": { "title": "Maintenance" } }),
        );
        for phone in phones.iter_mut().chain([&mut other]) {
            // Broadcasts carry no user.
            assert_eq!(
                phone.next(),
                json!({ "type": "serverNotification", "data": { "title": "Maintenance" } })
            );
        }
    });
}

#[test]
fn user_ids_are_numbers_only_where_they_are_exact() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.publisher();
    for (user, id) in [
        ("0", json!(0)),
        ("42", json!(42)),
        ("9007199254740991", json!(9007199254740991u64)),
        ("9007199254740992", json!("9007199254740992")),
        ("007", json!("007")),
        ("-1", json!("-1")),
        ("1e3", json!("1e3")),
        ("12 ", json!("12 ")),
        ("ada\"\\", json!("ada\"\\")),
        ("жанна", json!("жанна")),
    ] {
        let mut phone = broker.account(user);
        publisher.publish(json!({ "user": user, "event": "e", "data": {} }));
        assert_eq!(phone.next()["userId"], id, "{user}");
    }
    // A subject that is an integer in the token is the same user.
    let mut phone = Client::open(
        broker.public,
        &format!("/ws?token={}", sign(json!({ "sub": 77, "exp": now() + 60 }))),
        &[],
    );
    publisher.publish(json!({ "user": 77, "event": "e", "data": {} }));
    assert_eq!(phone.next()["userId"], 77);
}

#[test]
fn ping_is_answered_with_the_servers_time() {
    let broker = Broker::start(&[]);
    let mut phone = broker.account("1234");
    for text in [r#"{"type":"ping","timestamp":"2025-05-20T14:30:00Z"}"#, r#"{"type":"ping"}"#] {
        phone.text(text);
        let pong = phone.next();
        assert_eq!((&pong["type"], pong.get("data")), (&json!("pong"), None), "{pong}");
        let timestamp = pong["timestamp"].as_str().unwrap();
        // No fraction (decision 3): 2025-05-20T14:30:00Z
        assert!(timestamp.len() == 20 && timestamp.ends_with('Z'), "{timestamp}");
    }
}

#[test]
fn malformed_and_unknown_messages_are_answered() {
    let broker = Broker::start(&[]);
    let mut phone = broker.account("1234");
    for text in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"event":"ping"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"ping""#,
    ] {
        phone.text(text);
        let error = phone.next();
        assert_eq!(
            (&error["type"], &error["data"]["code"]),
            (&json!("error"), &json!("INVALID_MESSAGE")),
            "{text}: {error}"
        );
        assert!(error["data"]["message"].as_str().unwrap().len() > 5);
    }
    phone.text(r#"{"type":"ping"}"#);
    assert_eq!(phone.next()["type"], "pong");
}

#[test]
fn labels_are_counted_and_bounded() {
    let broker = Broker::start(&[]);
    let token = token("1234");
    let long = "x".repeat(64);
    let path = format!("/ws?token={token}&platform=ios&version=1.0.0&device=iPhone15%2C2");
    let _phone = Client::open(broker.public, &path, &[]);
    let _other = Client::open(broker.public, &format!("/ws?token={token}&platform={long}"), &[]);
    for label in ["platform", "version", "device"] {
        let path = format!("/ws?token={token}&{label}={long}x");
        let response = Client::try_open(broker.public, &path, &[]).err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (400, "INVALID_MESSAGE"), "{label}");
        assert!(response.text().contains(label));
    }
}

#[test]
fn the_silent_connection_gets_nothing_of_rooms() {
    let broker = Broker::start(&[]);
    let (mut phone, mut publisher) = (broker.account("1234"), broker.publisher());
    publisher.publish(json!({ "room": "price:BTC-USDC", "event": "price_update", "data": 1 }));
    publisher.publish(json!({ "user": "1234", "event": "marker", "data": Value::Null }));
    assert_eq!(phone.next()["type"], "marker");
}
