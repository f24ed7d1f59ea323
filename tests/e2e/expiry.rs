//! A token whose time ends while its client is connected: notice, renewal, grace, end (`spec/auth.md`).

use serde_json::json;

use crate::support::token::{now, short_token, sign, token};
use crate::support::{Broker, Client, each_shard_count};

#[test]
fn a_market_client_renews_its_token_and_keeps_its_rooms() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut ada = Client::market_with(broker.public, &short_token("ada-0001", 1));
        ada.join("trade:BTC-USDC");
        let expired = ada.next();
        assert_eq!((&expired["event"], &expired["data"]), (&json!("token_expired"), &json!({})));
        for (token, code) in [
            (token("bob-0001"), "AUTH_REQUIRED"),
            ("nonsense".to_owned(), "AUTH_REQUIRED"),
            ("x".repeat(20_000), "AUTH_REQUIRED"),
            (short_token("ada-0001", -60), "TOKEN_EXPIRED"),
        ] {
            let error = ada.ask("authenticate", json!({ "token": token }), "auth_error");
            assert_eq!(error["code"], code);
            assert!(!error["error"].as_str().unwrap().is_empty());
        }
        for missing in [json!({}), json!({ "token": 7 })] {
            assert_eq!(ada.ask("authenticate", missing, "auth_error")["code"], "AUTH_REQUIRED");
        }
        let renewed =
            ada.ask("authenticate", json!({ "token": short_token("ada-0001", 2) }), "authenticated");
        assert_eq!(renewed["user"]["id"], "ada-0001");
        let mut publisher = broker.publisher();
        publisher.publish(json!({ "room": "trade:BTC-USDC", "event": "t", "data": 1 }));
        assert_eq!(ada.next()["data"], 1);
        // The new token ends too; then one in time, before the end.
        assert_eq!(ada.next()["event"], "token_expired");
        ada.ask("authenticate", json!({ "token": token("ada-0001") }), "authenticated");
        ada.ask("authenticate", json!({ "token": token("ada-0001") }), "authenticated");
        ada.expect_nothing();
    });
}

#[test]
fn the_connection_ends_with_1008_when_the_grace_is_over() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "auth.grace = \"1s\""]);
        let mut ada = Client::market_with(broker.public, &short_token("ada-0001", 1));
        let mut phone = Client::open(broker.public, &format!("/ws?token={}", short_token("1234", 1)), &[]);
        assert_eq!(phone.next(), json!({ "type": "tokenExpired" }));
        assert_eq!(ada.next()["event"], "token_expired");
        // Another user's token does not stop the clock.
        let error = ada.ask("authenticate", json!({ "token": token("bob-0001") }), "auth_error");
        assert_eq!(error["code"], "AUTH_REQUIRED");
        let texts = ada.expect_close(1008);
        assert!(texts.iter().all(|text| text["event"] == "connection:closed"), "{texts:?}");
        phone.expect_close(1008);
        broker.wait_for_metric("fanfare_connections_closed_total", &["reason=\"token_expired\""], 2.0);
        broker.wait_for_zero();
    });
}

#[test]
fn an_account_client_renews_its_token() {
    let broker = Broker::start(&["auth.grace = \"3s\""]);
    let mut phone = Client::open(broker.public, &format!("/ws?token={}", short_token("1234", 0)), &[]);
    assert_eq!(phone.next(), json!({ "type": "tokenExpired" }));
    phone.text(json!({ "type": "authenticate", "token": token("99") }));
    let error = phone.next();
    assert_eq!(error["data"]["code"], "AUTH_REQUIRED", "{error}");
    phone.text(json!({ "type": "authenticate", "token": sign(json!({ "sub": 1234, "exp": now() + 3600 })) }));
    assert_eq!(phone.next()["type"], "authenticated");
    let mut publisher = broker.publisher();
    publisher.publish(json!({ "user": "1234", "event": "e", "data": 1 }));
    assert_eq!(phone.next()["type"], "e");
}

#[test]
fn events_go_on_during_the_grace() {
    let broker = Broker::start(&[]);
    let mut ada = Client::market_with(broker.public, &short_token("ada-0001", 0));
    ada.until_event("token_expired");
    let mut publisher = broker.publisher();
    assert_eq!(publisher.publish(json!({ "user": "ada-0001", "event": "e", "data": 1 }))["subscribers"], 1);
    assert_eq!(ada.next()["event"], "e");
}
