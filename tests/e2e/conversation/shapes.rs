//! The flow of the source document, each event and each error, compared as whole texts: the keys, their order, how times
//! and ids are written.

use serde_json::{Value, json};

use crate::support::chat::{chat_token, chat_token_for, id, shape};
use crate::support::token::token_with;
use crate::support::{Broker, Client, each_shard_count, http};

/// Compares the next text. `names`: ids that are known by now.
#[track_caller]
fn expect(client: &mut Client, event: &str, data: &str, names: &[(&str, &str)]) {
    let text = client.next_text();
    let expected = format!(r#"{{"event":"{event}","data":{data},"timestamp":"<time>"}}"#);
    assert_eq!(shape(&text, names), expected, "{text}");
}

fn error(code: &str, field: &str, message: &str, event: &str) -> String {
    let details = format!(r#"{{"field":"{field}","error":"{message}"}}"#);
    format!(r#"{{"code":"{code}","message":"{message}","details":{details},"request_event":"{event}"}}"#)
}

fn bearer(client_token: &str) -> String {
    format!("Bearer {client_token}")
}

#[test]
fn the_flow_of_the_document() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "auth.grace = \"1s\""]);
        let jane = token_with(
            "user-2",
            json!({ "username": "jane_doe", "avatar_url": "https://example.com/avatar.jpg" }),
        );
        let conversation = broker.conversation("user-1", "user-2");
        let names = [(conversation.as_str(), "C")];
        let here = json!({ "conversation_id": conversation });

        let mut user =
            Client::open(broker.public, "/ws", &[("Authorization", &bearer(&chat_token("user-1")))]);
        let established = r#"{"user_id":"user-1","connection_id":"<id>","timestamp":"<time>"}"#;
        expect(&mut user, "connection:established", established, &names);
        user.ask("user:status", json!({ "status": "away" }), "user:status_updated");
        let mut other = Client::open(broker.public, "/ws", &[("Authorization", &bearer(&jane))]);
        expect(&mut other, "connection:established", &established.replace('1', "2"), &names);
        expect(
            &mut user,
            "user:online",
            r#"{"user_id":"user-2","username":"jane_doe","online_at":"<time>"}"#,
            &names,
        );

        let text = "Hey! How are you?";
        other.send(
            "message:send",
            json!({ "conversation_id": conversation, "content": text, "type": "text", "metadata": {} }),
        );
        let new = r#"{"message":{"id":"<id>","conversation_id":"C","sender_id":"user-2","content":"Hey! How are you?","type":"text","created_at":"<time>","updated_at":"<time>","is_read":false,"metadata":{}},"sender":{"id":"user-2","username":"jane_doe","avatar_url":"https://example.com/avatar.jpg"}}"#;
        expect(&mut user, "message:new", new, &names);
        let last = r#"{"id":"<id>","content":"Hey! How are you?","type":"text","sender_id":"user-2","created_at":"<time>"}"#;
        let unread = format!(r#"{{"conversation_id":"C","unread_count":1,"last_message":{last}}}"#);
        expect(&mut user, "conversation:unread", &unread, &names);
        // In case it was quick, that the first has come is told here.
        let first = other.until(|message| message["event"] != "user:online");
        assert_eq!(first["event"], "message:new");
        let message = id(&first["data"]["message"]);
        let names = [names[0], (message.as_str(), "M")];
        let delivered = r#"{"message_id":"M","conversation_id":"C","delivered_at":"<time>"}"#;
        expect(&mut other, "message:delivered", delivered, &names);

        // What is unread is told to a connection that comes now.
        let mut phone =
            Client::open(broker.public, "/ws", &[("Authorization", &bearer(&chat_token("user-1")))]);
        expect(&mut phone, "connection:established", established, &names);
        expect(&mut phone, "conversation:unread", &unread.replace("<id>", "M"), &names);
        drop(phone);

        for client in [&mut user, &mut other] {
            client.send("conversation:join", here.clone());
            expect(client, "conversation:joined", r#"{"conversation_id":"C","joined_at":"<time>"}"#, &names);
        }
        let at = json!({ "conversation_id": conversation, "message_id": message });
        user.send("message:read", at.clone());
        for client in [&mut user, &mut other] {
            let viewed = r#"{"message_id":"M","conversation_id":"C","viewed_at":"<time>"}"#;
            expect(client, "message:viewed", viewed, &names);
        }
        for is_typing in [true, false] {
            other.send(if is_typing { "typing:start" } else { "typing:stop" }, here.clone());
            let indicator = format!(
                r#"{{"conversation_id":"C","user_id":"user-2","username":"jane_doe","is_typing":{is_typing},"timestamp":"<time>"}}"#
            );
            expect(&mut user, "typing:indicator", &indicator, &names);
        }
        user.send("message:delete", at);
        for client in [&mut user, &mut other] {
            let deleted =
                r#"{"message_id":"M","conversation_id":"C","deleted_by":"user-1","deleted_at":"<time>"}"#;
            expect(client, "message:deleted", deleted, &names);
        }
        other.send("user:status", json!({ "status": "busy" }));
        for client in [&mut user, &mut other] {
            let status = r#"{"user_id":"user-2","status":"busy","timestamp":"<time>"}"#;
            expect(client, "user:status_updated", status, &names);
        }
        user.send("conversation:leave", here);
        expect(&mut user, "conversation:left", r#"{"conversation_id":"C","left_at":"<time>"}"#, &names);
        other.close();
        expect(
            &mut user,
            "user:offline",
            r#"{"user_id":"user-2","username":"jane_doe","offline_at":"<time>"}"#,
            &names,
        );

        broker.publisher().ask(json!({ "op": "disconnect", "user": "user-1", "code": 1000, "reason": "" }));
        expect(
            &mut user,
            "connection:closed",
            r#"{"reason":"normal_closure","code":1000,"timestamp":"<time>"}"#,
            &names,
        );
        user.expect_close(1000);
    });
}

#[test]
fn the_errors_of_the_document() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.messages = [\"1/1d\"]", "limits.message_size = 4096"]);
        let conversation = broker.conversation("ada", "bob");
        let names = [(conversation.as_str(), "C")];
        let say = |content: &str, kind: &str| json!({ "conversation_id": conversation, "content": content, "type": kind });
        let mut ada = broker.chat("ada");

        ada.send("message:send", say("", "text"));
        let empty = error("VALIDATION_ERROR", "content", "content is empty: say something", "message:send");
        expect(&mut ada, "error", &empty, &names);
        ada.send("message:send", say("hi", "video"));
        let kinds = "type is text, photo, photo_ephemeral, location or gift";
        expect(&mut ada, "error", &error("INVALID_MESSAGE_TYPE", "type", kinds, "message:send"), &names);
        ada.send("conversation:join", json!({ "conversation_id": "conv-uuid-1" }));
        let nothing =
            error("NOT_FOUND", "conversation_id", "there is no such conversation", "conversation:join");
        expect(&mut ada, "error", &nothing, &names);
        ada.send("message:read", json!({ "conversation_id": conversation, "message_id": "msg-uuid-1" }));
        let nothing = error("NOT_FOUND", "message_id", "there is no such message", "message:read");
        expect(&mut ada, "error", &nothing, &names);

        let mut eve = broker.chat("eve");
        eve.send("conversation:join", json!({ "conversation_id": conversation }));
        let text = eve.next_text();
        let found: Value = serde_json::from_str(&text).unwrap();
        let message = found["data"]["message"].as_str().unwrap();
        let forbidden = error("FORBIDDEN", "conversation_id", message, "conversation:join");
        assert_eq!(
            shape(&text, &names),
            format!(r#"{{"event":"error","data":{forbidden},"timestamp":"<time>"}}"#)
        );

        ada.send("message:send", say("hi", "text"));
        assert_eq!(ada.next()["event"], "message:new");
        ada.send("message:send", say("hi", "text"));
        let text = ada.next_text();
        let found: Value = serde_json::from_str(&text).unwrap();
        let wait = found["data"]["details"]["retry_after_ms"].as_u64().unwrap();
        let data = format!(
            r#"{{"code":"RATE_LIMITED","message":"too many messages: wait before the next one","details":{{"retry_after_ms":{wait}}},"request_event":"message:send"}}"#
        );
        assert_eq!(
            shape(&text, &names),
            format!(r#"{{"event":"error","data":{data},"timestamp":"<time>"}}"#)
        );

        ada.send("authenticate", json!({ "token": "a.b.c" }));
        let refused = ada.next();
        assert_eq!(
            (&refused["event"], &refused["data"]["code"]),
            (&json!("auth_error"), &json!("UNAUTHORIZED"))
        );
        ada.text("x".repeat(4_097));
        let text = ada.next_text();
        let found: Value = serde_json::from_str(&text).unwrap();
        let message = found["data"]["message"].as_str().unwrap();
        let data = format!(
            r#"{{"code":"MESSAGE_TOO_LARGE","message":"{message}","details":{{}},"request_event":null}}"#
        );
        assert_eq!(
            shape(&text, &names),
            format!(r#"{{"event":"error","data":{data},"timestamp":"<time>"}}"#)
        );
        let text = ada.next_text();
        assert!(text.contains(r#""code":1009,"#), "{text}");
        ada.expect_close(1009);
    });
}

#[test]
fn a_token_that_ends() {
    let broker = Broker::start(&[]);
    let mut ada = Client::chat_with(&broker, &chat_token_for("ada", 1));
    expect(&mut ada, "token_expired", "{}", &[]);
    ada.send("authenticate", json!({ "token": chat_token("ada") }));
    expect(&mut ada, "authenticated", r#"{"user":{"id":"ada","username":"Ada"}}"#, &[]);
}

#[test]
fn answers_over_http() {
    let broker = Broker::start(&[]);
    let create =
        |with: &str| broker.rest("ada", "POST", "/api/v1/conversations", &json!({ "participant_id": with }));
    let made = create("bob");
    let conversation = id(&made.json());
    let names = [(conversation.as_str(), "C")];
    let people =
        r#"[{"id":"ada","username":"Ada","avatar_url":null},{"id":"bob","username":null,"avatar_url":null}]"#;
    let empty = format!(
        r#"{{"id":"C","participants":{people},"created_at":"<time>","updated_at":"<time>","unread_count":0,"last_message":null}}"#
    );
    assert_eq!((made.status, shape(&made.text(), &names)), (201, empty.clone()));
    assert_eq!(made.header("content-type"), Some("application/json"));
    let again = create("bob");
    assert_eq!((again.status, shape(&again.text(), &names)), (200, empty));
    broker.publisher().ask(
        json!({ "op": "conversation.message", "conversation_id": conversation, "type": "system", "content": "hi" }),
    );
    let said = r#"{"id":"<id>","conversation_id":"C","sender_id":null,"content":"hi","type":"system","created_at":"<time>","updated_at":"<time>","is_read":false,"metadata":{}}"#;
    let messages =
        broker.rest("ada", "GET", &format!("/api/v1/conversations/{conversation}/messages"), &Value::Null);
    assert_eq!(shape(&messages.text(), &names), format!(r#"{{"messages":[{said}],"next_before":null}}"#));
    let list = broker.rest("ada", "GET", "/api/v1/conversations", &Value::Null);
    let expected = format!(
        r#"{{"conversations":[{{"id":"C","participants":{people},"created_at":"<time>","updated_at":"<time>","unread_count":1,"last_message":{said}}}],"next_before":null}}"#
    );
    assert_eq!(shape(&list.text(), &names), expected);
    // Errors have the form of decision 16.
    let refused = http::request(broker.public, "GET", "/api/v1/conversations", &[], b"");
    let message = refused.json()["detail"].as_str().unwrap().to_owned();
    let expected =
        format!(r#"{{"error":{{"code":"AUTH_REQUIRED","message":"{message}"}},"detail":"{message}"}}"#);
    assert_eq!((refused.status, refused.text()), (401, expected));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    let refused = create("ada");
    let message = refused.json()["detail"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"error":{{"code":"VALIDATION_ERROR","message":"{message}","details":{{"field":"participant_id","error":"{message}"}}}},"detail":"{message}"}}"#
    );
    assert_eq!((refused.status, refused.text()), (400, expected));
}
