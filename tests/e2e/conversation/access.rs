//! Only the two who take part may touch a conversation; and what names nothing.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::chat::{Chat, before_marker};
use crate::support::each_shard_count;

/// Every event that names a conversation, with what else it needs.
const EVENTS: [(&str, &str); 7] = [
    ("message:send", ""),
    ("message:read", "message_id"),
    ("message:delete", "message_id"),
    ("typing:start", ""),
    ("typing:stop", ""),
    ("conversation:join", ""),
    ("conversation:leave", ""),
];

fn request(conversation: &str, message: &str) -> Value {
    json!({ "conversation_id": conversation, "message_id": message, "content": "hi", "type": "text" })
}

#[test]
fn a_third_user_is_forbidden_everything() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        chat.join();
        let message = chat.say_text("between us");
        let mut eve = chat.broker.chat("eve");
        // Twice: what is known of the conversation by now must not change the answer.
        for _ in 0..2 {
            for (event, _) in EVENTS {
                let error = eve.chat_refused(event, request(&chat.id, &message), "FORBIDDEN");
                assert_eq!(error["details"]["field"], "conversation_id");
            }
        }
        chat.expect_nothing();
        // Nor is she told anything.
        let typing = chat.here();
        chat.ada.send("typing:start", typing);
        assert_eq!(chat.bob.next()["event"], "typing:indicator");
        chat.say_text("still between us");
        let mut publisher = chat.broker.publisher();
        assert_eq!(before_marker(&mut publisher, &mut eve, "eve", 0), [json!(null); 0]);
        let path = format!("/api/v1/conversations/{}/messages", chat.id);
        let response = chat.broker.rest("eve", "GET", &path, &Value::Null);
        assert_eq!((response.status, response.code().as_str()), (403, "FORBIDDEN"));
        let list = chat.broker.rest("eve", "GET", "/api/v1/conversations", &Value::Null);
        assert_eq!(list.json()["conversations"], json!([]));
        assert_eq!(chat.broker.history("ada", &chat.id).len(), 2);
    });
}

#[test]
fn what_does_not_exist_is_not_found() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let message = chat.say_text("hi");
        for nothing in [&*Uuid::now_v7().to_string(), "conv-uuid-1", "'; DROP TABLE messages; --"] {
            for (event, _) in EVENTS {
                let error = chat.ada.chat_refused(event, request(nothing, &message), "NOT_FOUND");
                assert_eq!(error["details"]["field"], "conversation_id", "{event}");
            }
        }
        for nothing in [&*Uuid::now_v7().to_string(), "msg-uuid-1"] {
            for (event, _) in EVENTS.iter().filter(|(_, more)| !more.is_empty()) {
                let error = chat.ada.chat_refused(event, request(&chat.id, nothing), "NOT_FOUND");
                assert_eq!(error["details"]["field"], "message_id", "{event}");
            }
        }
        // A message of another conversation of hers.
        let other = chat.broker.conversation("ada", "carol");
        chat.ada.chat_refused("message:delete", request(&other, &message), "NOT_FOUND");
        chat.expect_nothing();
        let path = format!("/api/v1/conversations/{}/messages", Uuid::now_v7());
        let response = chat.broker.rest("ada", "GET", &path, &Value::Null);
        assert_eq!((response.status, response.code().as_str()), (404, "NOT_FOUND"));
    });
}

#[test]
fn what_is_missing_is_named() {
    let mut chat = Chat::start(&[]);
    for (event, more) in EVENTS {
        for wrong in [
            json!({}),
            json!({ "conversation_id": "" }),
            json!({ "conversation_id": 7 }),
            json!(null),
            json!([]),
        ] {
            let error = chat.ada.chat_refused(event, wrong, "VALIDATION_ERROR");
            assert_eq!(error["details"]["field"], "conversation_id", "{event}");
        }
        if !more.is_empty() {
            let error = chat.ada.chat_refused(event, chat.here(), "VALIDATION_ERROR");
            assert_eq!(error["details"]["field"], more, "{event}");
        }
    }
    chat.expect_nothing();
}

#[test]
fn what_is_not_understood_is_answered() {
    let mut chat = Chat::start(&[]);
    for text in
        ["", "x", "[]", "{}", r#"{"event":7}"#, r#"{"type":"ping"}"#, r#"{"event":"ping""#, r#"{"event":""}"#]
    {
        chat.ada.text(text);
        let error = chat.ada.next();
        assert_eq!(error["event"], "error", "{text}: {error}");
        assert!(
            matches!(error["data"]["code"].as_str().unwrap(), "INVALID_MESSAGE" | "VALIDATION_ERROR"),
            "{error}"
        );
        assert_eq!(error["data"]["request_event"], json!(null), "{text}: {error}");
    }
    chat.ada.send("message:sent", json!({}));
    let error = chat.ada.next();
    assert_eq!(
        (&error["event"], &error["data"]["request_event"]),
        (&json!("error"), &json!("message:sent")),
        "{error}"
    );
    chat.say_text("and it goes on");
}
