//! Message types and their rules, the filter, and photos that do not stay.

use serde_json::{Value, json};

use crate::support::chat::Chat;
use crate::support::{Broker, each_shard_count};

const PHOTO: &str = "https://example.com/a.jpg";

fn message(chat: &Chat, kind: &str, content: &str, metadata: Value) -> Value {
    json!({ "conversation_id": chat.id, "content": content, "type": kind, "metadata": metadata })
}

#[test]
fn every_type_arrives_with_its_metadata() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        for (kind, content, metadata) in [
            ("text", "hi \u{1F600} \"ж\" \\ \n", json!({ "a": [1, 2.5, null], "z": { "y": "x" } })),
            ("text", &*"\u{1F600}".repeat(2_000), json!({})),
            ("photo", PHOTO, json!({ "size": 10_485_760 })),
            ("photo_ephemeral", PHOTO, json!({ "ttl_seconds": 60 })),
            ("location", "", json!({ "latitude": -90, "longitude": 180 })),
            ("gift", "", json!({ "gift_id": "rose" })),
        ] {
            let data = message(&chat, kind, content, metadata.clone());
            let said = chat.say(data);
            assert_eq!(
                (&said["type"], &said["content"], &said["metadata"]),
                (&json!(kind), &json!(content), &metadata)
            );
            assert_eq!(chat.broker.history("bob", &chat.id)[0], said);
        }
        // Where nothing is said of it, a photo is there for 10 s.
        let data = message(&chat, "photo_ephemeral", PHOTO, json!({}));
        assert_eq!(chat.say(data)["metadata"], json!({ "ttl_seconds": 10 }));
    });
}

#[test]
fn what_breaks_a_rule_is_refused_and_the_field_is_named() {
    let mut chat = Chat::start(&["limits.control = \"off\""]);
    let wrong = [
        ("text", json!(""), json!({}), "content"),
        ("text", json!(" \n\t"), json!({}), "content"),
        ("text", json!("ж".repeat(2_001)), json!({}), "content"),
        ("text", json!(null), json!({}), "content"),
        ("text", json!(7), json!({}), "content"),
        ("text", json!("a"), json!([]), "metadata"),
        ("photo", json!("a.jpg"), json!({}), "content"),
        ("photo", json!("ftp://example.com/a.jpg"), json!({}), "content"),
        ("photo", json!(PHOTO), json!({ "size": 10_485_761 }), "metadata.size"),
        ("photo_ephemeral", json!("javascript:alert(1)"), json!({}), "content"),
        ("photo_ephemeral", json!(PHOTO), json!({ "ttl_seconds": 0 }), "metadata.ttl_seconds"),
        ("photo_ephemeral", json!(PHOTO), json!({ "ttl_seconds": 61 }), "metadata.ttl_seconds"),
        ("location", json!(""), json!({ "longitude": 0 }), "metadata.latitude"),
        ("location", json!(""), json!({ "latitude": 91, "longitude": 0 }), "metadata.latitude"),
        ("location", json!(""), json!({ "latitude": 0, "longitude": -180.1 }), "metadata.longitude"),
        ("gift", json!(""), json!({}), "metadata.gift_id"),
    ];
    for (kind, content, metadata, field) in wrong {
        let data =
            json!({ "conversation_id": chat.id, "content": content, "type": kind, "metadata": metadata });
        let error = chat.ada.chat_refused("message:send", data, "VALIDATION_ERROR");
        assert_eq!(error["details"]["field"], field, "{kind} {content} {metadata}");
    }
    for kind in ["system", "video", "", "TEXT"] {
        let data = message(&chat, kind, "a", json!({}));
        let error = chat.ada.chat_refused("message:send", data, "INVALID_MESSAGE_TYPE");
        assert_eq!(error["details"]["field"], "type");
    }
    let named = |name: Value| json!({ "conversation_id": chat.id, "content": "a", "type": "text", "client_message_id": name });
    for name in [json!(""), json!(7), json!("x".repeat(129))] {
        let error = chat.ada.chat_refused("message:send", named(name), "VALIDATION_ERROR");
        assert_eq!(error["details"]["field"], "client_message_id");
    }
    chat.expect_nothing();
    assert!(chat.broker.history("ada", &chat.id).is_empty());
}

#[test]
fn words_and_personal_information_are_masked() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let text = "what the fuck, write to ada@example.com, call +49 30 1234567, pay 4111 1111 1111 1111";
        let said = chat.say(message(&chat, "text", text, json!({ "a": 1 })));
        let content = said["content"].as_str().unwrap();
        for secret in ["fuck", "ada@example", "1234567", "4111 1111"] {
            assert!(!content.contains(secret), "{content}");
        }
        assert!(content.starts_with("what the ") && content.contains("****"), "{content}");
        assert_eq!(said["metadata"], json!({ "a": 1, "filtered": true }));
        assert_eq!(chat.broker.history("ada", &chat.id)[0], said);
        // What is encrypted is none of our business, nor is what is clean changed.
        let said = chat.say(message(&chat, "text", text, json!({ "encrypted": true })));
        assert_eq!((&said["content"], &said["metadata"]), (&json!(text), &json!({ "encrypted": true })));
        let clean = "see you at 10:30, room 1234";
        let said = chat.say(message(&chat, "text", clean, json!({})));
        assert_eq!((&said["content"], &said["metadata"]), (&json!(clean), &json!({})));
        let long = "x".repeat(30_000);
        let said = chat.say(message(&chat, "text", &long, json!({ "encrypted": true })));
        assert_eq!(said["content"], long);
    });
}

#[test]
fn the_filter_can_be_switched_off() {
    let mut chat = Chat::start(&["filter.words = false", "filter.personal_information = false"]);
    let text = "what the fuck, write to ada@example.com";
    let said = chat.say(message(&chat, "text", text, json!({})));
    assert_eq!(said["content"], text);
}

#[test]
fn an_ephemeral_photo_goes_when_its_time_is_over() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let seen = chat.say(message(&chat, "photo_ephemeral", PHOTO, json!({ "ttl_seconds": 1 })));
        let unseen = chat.say(message(&chat, "photo_ephemeral", PHOTO, json!({ "ttl_seconds": 1 })));
        // That its sender reads it changes nothing.
        let request = chat.at(seen["id"].as_str().unwrap());
        chat.ada.send("message:read", request.clone());
        chat.ada.until_event("message:viewed");
        chat.bob.send("message:read", request);
        assert_eq!(chat.bob.next()["event"], "message:viewed");
        assert_eq!(chat.ada.next()["event"], "message:viewed");
        for client in [&mut chat.ada, &mut chat.bob] {
            let deleted = client.next();
            assert_eq!(
                (&deleted["event"], &deleted["data"]["message_id"]),
                (&json!("message:deleted"), &seen["id"])
            );
            assert_eq!(deleted["data"]["deleted_by"], json!(null));
        }
        let left = chat.broker.history("bob", &chat.id);
        assert_eq!(left.iter().find(|message| message["content"] == PHOTO).unwrap()["id"], unseen["id"]);
        assert_eq!(left.iter().filter(|message| message["content"] == PHOTO).count(), 1, "{left:?}");
    });
}

#[test]
fn a_photo_whose_time_ends_while_the_broker_is_down_is_gone_when_it_is_back() {
    let directory = crate::support::broker::TemporaryDirectory::new();
    let store = format!("store.path = {:?}", directory.path("store.db"));
    let mut chat = Chat::start(&[&store]);
    let photo = chat.say(message(&chat, "photo_ephemeral", PHOTO, json!({ "ttl_seconds": 1 })));
    let request = chat.at(photo["id"].as_str().unwrap());
    chat.bob.ask("message:read", request, "message:viewed");
    let id = chat.id.clone();
    drop(chat);
    let broker = Broker::start(&[&store]);
    crate::support::eventually("the end of the photo", || {
        broker.history("bob", &id).iter().all(|message| message["content"] != PHOTO).then_some(())
    });
}
