//! What backends do to conversations: over the ingest port, and over `POST /publish` (`spec/ingest.md`).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::broker::TemporaryDirectory;
use crate::support::chat::Chat;
use crate::support::{Broker, each_shard_count, http};

#[test]
fn a_conversation_is_made_once() {
    each_shard_count(|shards| {
        let directory = TemporaryDirectory::new();
        let store = format!("store.path = {:?}", directory.path("store.db"));
        let broker = Broker::start(&[shards, &store]);
        let mut publisher = broker.publisher();
        let create = |id: &str, a: &str, b: &str| json!({ "op": "conversation.create", "id": id, "participants": [a, b] });
        let made = publisher.ask(create("1", "ada", "bob"));
        assert_eq!(
            (&made["id"], &made["ok"], made.get("duplicate")),
            (&json!("1"), &json!(true), None),
            "{made}"
        );
        let id = made["conversation_id"].as_str().unwrap().to_owned();
        assert!(Uuid::try_parse(&id).is_ok());
        for (a, b) in [("ada", "bob"), ("bob", "ada")] {
            let again = publisher.ask(create("2", a, b));
            assert_eq!(
                (&again["conversation_id"], &again["duplicate"]),
                (&json!(id), &json!(true)),
                "{again}"
            );
        }
        // Without an id there is an answer too, as of every operation.
        let reply = publisher.ask(json!({ "op": "conversation.create", "participants": [12, "13"] }));
        assert_eq!((&reply["ok"], reply.get("id")), (&json!(true), None), "{reply}");
        broker
            .chat("ada")
            .send("message:send", json!({ "conversation_id": id, "content": "a", "type": "text" }));
        drop(broker);
        let broker = Broker::start(&[shards, &store]);
        assert_eq!(broker.conversation("bob", "ada"), id);
        assert_eq!(broker.publisher().ask(create("3", "12", "13"))["duplicate"], true);
    });
}

#[test]
fn a_backend_speaks_to_both() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let mut publisher = chat.broker.publisher();
        chat.bob.ask("conversation:join", chat.here(), "conversation:joined");
        for kind in ["system", "text"] {
            let line = json!({ "op": "conversation.message", "id": kind, "conversation_id": chat.id, "type": kind,
                "content": "what the fuck", "metadata": { "a": 1 } });
            let ack = publisher.ask(line);
            assert_eq!((&ack["ok"], &ack["conversation_id"]), (&json!(true), &json!(chat.id)), "{ack}");
            for client in [&mut chat.ada, &mut chat.bob] {
                let new = client.next();
                assert_eq!(new["event"], "message:new", "{new}");
                let message = &new["data"]["message"];
                assert_eq!((&message["id"], &message["type"]), (&ack["message_id"], &json!(kind)));
                // Nothing is masked: backends know what they say.
                assert_eq!(
                    (&message["content"], &message["metadata"]),
                    (&json!("what the fuck"), &json!({ "a": 1 }))
                );
                assert_eq!(
                    (&message["sender_id"], &new["data"]["sender"]["id"]),
                    (&json!(null), &json!(null))
                );
            }
            // She has not joined.
            assert_eq!(chat.ada.next()["event"], "conversation:unread");
        }
        chat.expect_nothing();
        assert_eq!((chat.broker.unread("ada", &chat.id), chat.broker.unread("bob", &chat.id)), (2, 2));
        // A participant may read and delete it.
        let newest = chat.broker.history("ada", &chat.id)[0]["id"].as_str().unwrap().to_owned();
        let request = chat.at(&newest);
        chat.ada.ask("message:read", request.clone(), "message:viewed");
        chat.bob.until_event("message:viewed");
        chat.bob.send("message:delete", request);
        assert_eq!(chat.ada.next()["event"], "message:deleted");
    });
}

#[test]
fn what_is_wrong_has_a_code_and_the_other_lines_count() {
    each_shard_count(|shards| {
        let chat = Chat::start(&[shards]);
        let mut publisher = chat.broker.publisher();
        let say = |conversation: &str, kind: &str, content: Value| json!({ "op": "conversation.message", "id": "x", "conversation_id": conversation, "type": kind, "content": content });
        let nothing = Uuid::now_v7().to_string();
        let wrong = [
            (json!({ "op": "conversation.create", "participants": ["a"] }), "INVALID_MESSAGE"),
            (json!({ "op": "conversation.create", "participants": ["a", "a"] }), "INVALID_MESSAGE"),
            (json!({ "op": "conversation.create", "participants": ["a", "b", "c"] }), "INVALID_MESSAGE"),
            (json!({ "op": "conversation.create" }), "INVALID_MESSAGE"),
            (json!({ "op": "conversation.message", "content": "a", "type": "text" }), "INVALID_MESSAGE"),
            (say(&nothing, "system", json!("a")), "NOT_FOUND"),
            (say("conv-uuid-1", "system", json!("a")), "NOT_FOUND"),
            (say(&chat.id, "video", json!("a")), "INVALID_MESSAGE_TYPE"),
            (say(&chat.id, "system", json!("")), "VALIDATION_ERROR"),
            (say(&chat.id, "text", json!("x".repeat(2_001))), "VALIDATION_ERROR"),
        ];
        for (line, code) in &wrong {
            let reply = publisher.ask(line);
            assert_eq!(
                (&reply["ok"], &reply["error"]["code"]),
                (&json!(false), &json!(code)),
                "{line}: {reply}"
            );
            assert!(!reply["error"]["message"].as_str().unwrap().is_empty());
        }
        let reply = publisher.ask(say(&chat.id, "system", json!("good")));
        assert_eq!(reply["ok"], true, "{reply}");
    });
}

#[test]
fn replies_of_operations_and_publishes_come_in_the_order_of_their_lines() {
    each_shard_count(|shards| {
        let chat = Chat::start(&[shards]);
        let mut publisher = chat.broker.publisher();
        for n in 0..30 {
            publisher.send(
                json!({ "op": "conversation.message", "id": format!("{n} say"), "conversation_id": chat.id,
                "type": "system", "content": format!("{n}") }),
            );
            publisher
                .send(json!({ "id": format!("{n} publish"), "user": "nobody", "event": "e", "data": n }));
        }
        for n in 0..30 {
            for what in ["say", "publish"] {
                let reply = publisher.reply();
                assert_eq!(
                    (&reply["id"], &reply["ok"]),
                    (&json!(format!("{n} {what}")), &json!(true)),
                    "{reply}"
                );
            }
        }
        let contents: Vec<Value> = chat
            .broker
            .history("ada", &chat.id)
            .iter()
            .rev()
            .map(|message| message["content"].clone())
            .collect();
        assert_eq!(contents, (0..30).map(|n| json!(n.to_string())).collect::<Vec<_>>());
    });
}

#[test]
fn a_senders_name_of_a_message_makes_it_one() {
    let chat = Chat::start(&[]);
    let mut publisher = chat.broker.publisher();
    let line = json!({ "op": "conversation.message", "id": "a", "conversation_id": chat.id, "type": "system", "content": "a" });
    let first = publisher.ask(&line);
    let again = publisher.ask(&line);
    // `id` makes a publish idempotent; `spec/ingest.md` says so of lines with a target only.
    assert_eq!((&first["ok"], &again["ok"]), (&json!(true), &json!(true)), "{again}");
}

#[test]
fn the_same_lines_are_taken_over_http() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        chat.join();
        let lines = [
            json!({ "op": "conversation.create", "id": "1", "participants": ["ada", "bob"] }),
            json!({ "op": "conversation.message", "id": "2", "conversation_id": chat.id, "type": "system", "content": "hi" }),
            json!({ "op": "conversation.message", "id": "3", "conversation_id": "none", "type": "system", "content": "hi" }),
        ];
        let body = lines.map(|line| format!("{line}\n")).concat();
        let response = http::request(chat.broker.admin, "POST", "/publish", &[], body.as_bytes());
        let text = response.text();
        let replies: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((response.status, replies.len()), (200, 4), "{text}");
        assert_eq!(
            (&replies[0]["conversation_id"], &replies[0]["duplicate"]),
            (&json!(chat.id), &json!(true)),
            "{text}"
        );
        assert_eq!((&replies[1]["id"], &replies[1]["ok"]), (&json!("2"), &json!(true)), "{text}");
        assert_eq!(
            (&replies[2]["id"], &replies[2]["error"]["code"]),
            (&json!("3"), &json!("NOT_FOUND")),
            "{text}"
        );
        assert_eq!(chat.ada.next()["data"]["message"]["id"], replies[1]["message_id"]);
        assert_eq!(chat.bob.next()["data"]["message"]["type"], "system");
        chat.expect_nothing();
    });
}

#[test]
fn many_lines_in_one_request_are_answered_in_their_order() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = broker.conversation("ada", "bob");
        let line = |n: usize| json!({ "op": "conversation.message", "id": n.to_string(), "conversation_id": id, "type": "system", "content": n.to_string() });
        let body: String = (0..500).map(|n| format!("{}\n", line(n))).collect();
        let response = http::request(broker.admin, "POST", "/publish", &[], body.as_bytes());
        let text = response.text();
        let replies: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((response.status, replies.len()), (200, 501));
        for (n, reply) in replies[..500].iter().enumerate() {
            assert_eq!((&reply["id"], &reply["ok"]), (&json!(n.to_string()), &json!(true)), "{reply}");
        }
        assert_eq!(broker.unread("ada", &id), 500);
        assert_eq!(broker.history("ada", &id)[0]["id"], replies[499]["message_id"]);
    });
}
