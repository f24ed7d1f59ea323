//! Who is there: comings and goings as contacts are told of them, and statuses.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::chat::{Chat, before_marker};
use crate::support::token::token;
use crate::support::{Broker, Client, each_shard_count};

#[test]
fn the_first_connection_is_told_to_contacts_and_the_last_one_when_it_has_been_gone_for_a_while() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let mut eve = chat.broker.chat("eve");
        // A second connection of his is nothing new, nor that one of two goes.
        let second = chat.broker.chat("bob");
        second.close();
        chat.expect_nothing();
        let gone = Instant::now();
        chat.bob.close();
        let offline = chat.ada.next();
        assert!(gone.elapsed() >= Duration::from_secs(4), "{:?}", gone.elapsed());
        assert_eq!(offline["event"], "user:offline", "{offline}");
        assert_eq!(offline["data"]["user_id"], "bob");
        assert_eq!(offline["data"]["username"], "Bob");
        chat.bob = chat.broker.chat("bob");
        let online = chat.ada.next();
        assert_eq!((&online["event"], &online["data"]["user_id"]), (&json!("user:online"), &json!("bob")));
        // She shares no conversation with either.
        let mut publisher = chat.broker.publisher();
        assert_eq!(before_marker(&mut publisher, &mut eve, "eve", 0), [json!(null); 0]);
    });
}

#[test]
fn a_quick_reconnect_is_silent() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        for _ in 0..3 {
            let old = std::mem::replace(&mut chat.bob, chat.broker.chat("bob"));
            old.close();
        }
        // Without a close, and with nobody there for a moment.
        let port = chat.broker.public;
        let account = Client::account(port, "bob");
        chat.bob = account;
        chat.broker.wait_for_metric("fanfare_connections", &["app=\"conversation\""], 1.0);
        chat.bob = chat.broker.chat("bob");
        // Absence is to be shown: the grace of the connections that ended is over by then.
        std::thread::sleep(Duration::from_millis(6_000));
        assert_eq!(chat.before_ada(), [json!(null); 0]);
    });
}

#[test]
fn a_connection_of_another_app_is_not_there_to_chat() {
    let mut chat = Chat::start(&[]);
    let _account = Client::account(chat.broker.public, "bob");
    let _market = chat.broker.market("bob");
    chat.bob.close();
    assert_eq!(chat.ada.next()["event"], "user:offline");
}

#[test]
fn who_has_no_name_is_told_without_one() {
    let broker = Broker::start(&[]);
    broker.conversation("ada", "bob");
    let mut ada = broker.chat("ada");
    let mut publisher = broker.publisher();
    before_marker(&mut publisher, &mut ada, "ada", 0);
    let _bob = Client::chat_with(&broker, &token("bob"));
    let online = ada.next();
    assert_eq!((&online["event"], &online["data"]["user_id"]), (&json!("user:online"), &json!("bob")));
    assert_eq!(online["data"]["username"], json!(null), "{online}");
}

#[test]
fn a_status_is_told_to_the_user_and_the_contacts() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let mut eve = chat.broker.chat("eve");
        let mut phone = chat.broker.chat("ada");
        for status in ["away", "busy", "offline", "online"] {
            chat.ada.send("user:status", json!({ "status": status }));
            for client in [&mut chat.ada, &mut chat.bob, &mut phone] {
                let told = client.next();
                assert_eq!(told["event"], "user:status_updated", "{told}");
                assert_eq!(
                    (&told["data"]["user_id"], &told["data"]["status"]),
                    (&json!("ada"), &json!(status))
                );
            }
        }
        for wrong in [json!({}), json!({ "status": "dancing" }), json!({ "status": 7 })] {
            let error = chat.ada.chat_refused("user:status", wrong, "VALIDATION_ERROR");
            assert_eq!(error["details"]["field"], "status");
        }
        chat.expect_nothing();
        let mut publisher = chat.broker.publisher();
        assert_eq!(before_marker(&mut publisher, &mut eve, "eve", 0), [json!(null); 0]);
    });
}
