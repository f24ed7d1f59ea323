//! What clients of sessions are refused, and how.

use serde_json::{Value, json};

use super::{BASE, agent_token, ask, call, connect, next, says, session};
use crate::support::token::{short_token, sign, token};
use crate::support::{Broker, Client, each_shard_count, eventually};

#[test]
fn who_may_not_be_there_is_closed_after_the_upgrade() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", None);
        let foreign = sign(json!({ "sub": "ada", "exp": 1 }));
        for (path, what) in [
            (format!("/ws/{id}"), "no token"),
            (format!("/ws/{id}?token=nonsense"), "a bad token"),
            (format!("/ws/{id}?token={foreign}"), "a token whose time is over"),
            (format!("/ws/{id}?token={}", token("eve")), "no participant"),
            (format!("/ws/550e8400-e29b-41d4-a716-446655440000?token={}", token("ada")), "no such session"),
            (format!("/ws/session-id?token={}", token("ada")), "no id"),
            ("/ws?token=nonsense".to_owned(), "a feed with a bad token"),
        ] {
            let mut client = Client::open(broker.public, &format!("{BASE}{path}"), &[]);
            let (code, text, before) = client.closed();
            assert_eq!((code, before.len()), (1008, 0), "{what}: {before:?}");
            assert!(!text.is_empty(), "{what}");
        }
        broker.wait_for_metric("fanfare_connections", &["app=\"support\""], 0.0);
    });
}

#[test]
fn a_token_that_ends_ends_the_connection_without_grace() {
    let broker = Broker::start(&[]);
    let id = session(&broker, "ada", None);
    let path = format!("{BASE}/ws/{id}?token={}", short_token("ada", -3));
    let mut ada = Client::open(broker.public, &path, &[]);
    let before = ada.expect_close(1008);
    let types: Vec<_> = before.iter().map(|frame| frame["message_type"].clone()).collect();
    assert!(types.iter().all(|kind| kind == "user_joined"), "{types:?}");
}

#[test]
fn malformed_messages_are_answered_with_errors() {
    let broker = Broker::start(&[]);
    let id = session(&broker, "ada", None);
    let other = session(&broker, "eve", None);
    let elsewhere =
        call(&broker, "eve", "POST", &format!("/sessions/{other}/messages"), json!({ "content": "x" }), 201);
    let mut ada = connect(&broker, "ada", &id);
    let file = |key: &str, value: Value| {
        let mut message = json!({
            "message_type": "file", "content": "f", "file_url": "https://a.example/f", "file_name": "f",
        });
        message[key] = value;
        message.to_string()
    };
    let text = |key: &str, value: Value| {
        let mut message = json!({ "message_type": "text", "content": "t" });
        message[key] = value;
        message.to_string()
    };
    for (message, code) in [
        ("no JSON".to_owned(), "INVALID_MESSAGE"),
        ("[]".to_owned(), "INVALID_MESSAGE"),
        ("{}".to_owned(), "INVALID_MESSAGE"),
        (text("message_type", json!(7)), "INVALID_MESSAGE"),
        (text("message_type", json!("shout")), "INVALID_MESSAGE_TYPE"),
        (text("content", json!(7)), "VALIDATION_ERROR"),
        (text("content", json!(" \n")), "VALIDATION_ERROR"),
        (text("content", json!("x".repeat(2_001))), "VALIDATION_ERROR"),
        (text("mentions", json!("ada")), "VALIDATION_ERROR"),
        (text("mentions", json!([1])), "VALIDATION_ERROR"),
        (text("reply_to_id", json!(1)), "VALIDATION_ERROR"),
        (text("reply_to_id", json!("nothing")), "NOT_FOUND"),
        (text("reply_to_id", elsewhere["id"].clone()), "NOT_FOUND"),
        (file("file_url", json!("ftp://a.example/f")), "VALIDATION_ERROR"),
        (file("file_url", Value::Null), "VALIDATION_ERROR"),
        (file("file_name", Value::Null), "VALIDATION_ERROR"),
        (file("file_size", json!(10 * 1024 * 1024 + 1)), "VALIDATION_ERROR"),
        (file("file_size", json!(-1)), "VALIDATION_ERROR"),
        (file("file_type", json!(1)), "VALIDATION_ERROR"),
        (json!({ "message_type": "typing", "content": "perhaps" }).to_string(), "VALIDATION_ERROR"),
    ] {
        ada.text(&message);
        let error = next(&mut ada, "error");
        assert_eq!(error["metadata"]["code"], code, "{message}: {error}");
        assert!(!error["metadata"]["message"].as_str().unwrap().is_empty());
        assert_eq!((&error["chat_session_id"], &error["user_id"]), (&json!(id), &json!("ada")));
    }
    // Nothing of it was stored, and the connection goes on.
    for message in [text("content", json!("x".repeat(2_000))), file("file_size", json!(10 * 1024 * 1024))] {
        ada.text(message);
        next(&mut ada, "message");
    }
    let seen = call(&broker, "ada", "GET", &format!("/sessions/{id}"), Value::Null, 200);
    assert_eq!(seen["total_messages"], 2);
    assert_eq!(seen["unread_count"], 0);
}

#[test]
fn messages_and_typing_have_their_rates() {
    let broker = Broker::start(&["limits.messages = [\"3/1h\"]", "limits.typing = \"1/1h\""]);
    let id = session(&broker, "ada", None);
    let mut ada = connect(&broker, "ada", &id);
    for content in ["one", "two"] {
        says(&mut ada, content);
        next(&mut ada, "message");
    }
    let path = format!("/sessions/{id}/messages");
    call(&broker, "ada", "POST", &path, json!({ "content": "three" }), 201);
    next(&mut ada, "message");
    says(&mut ada, "four");
    let error = next(&mut ada, "error")["metadata"].clone();
    assert_eq!(error["code"], "RATE_LIMITED");
    assert!(error["retry_after_ms"].as_u64().unwrap() > 1_000);
    call(&broker, "ada", "POST", &path, json!({ "content": "four" }), 429);
    let typing = |content: &str| json!({ "message_type": "typing", "content": content });
    for content in ["true", "true", "false", "true"] {
        ada.text(typing(content));
    }
    let error = next(&mut ada, "error")["metadata"].clone();
    assert_eq!((&error["code"], &error["request_event"]), (&json!("RATE_LIMITED"), &json!("typing")));
}

#[test]
fn connections_are_counted_per_user_and_session() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (one, two) = (session(&broker, "ada", None), session(&broker, "ada", None));
        let mut clients: Vec<Client> = (0..5).map(|_| connect(&broker, "ada", &one)).collect();
        let path = |id: &str| format!("{BASE}/ws/{id}?token={}", token("ada"));
        let Err(refusal) = Client::try_open(broker.public, &path(&one), &[]) else {
            panic!("the sixth was let in");
        };
        assert_eq!((refusal.status, refusal.code().as_str()), (429, "CONNECTION_LIMIT"));
        assert!(refusal.header("retry-after").is_some());
        // Another session, and the feed, have their own.
        clients.push(connect(&broker, "ada", &two));
        clients.push(Client::open(broker.public, &format!("{BASE}/ws?token={}", token("ada")), &[]));
        clients.remove(0).close();
        broker.wait_for_metric("fanfare_connections", &["app=\"support\""], 6.0);
        clients.push(connect(&broker, "ada", &one));
        assert!(Client::try_open(broker.public, &path(&one), &[]).is_err());
    });
}

#[test]
fn an_agent_for_whom_there_is_no_place_is_told_so() {
    let broker = Broker::start(&[]);
    let id = session(&broker, "ada", None);
    let path = format!("/sessions/{id}/messages");
    let say = |agent: &str| ask(&broker, &agent_token(agent), "POST", &path, json!({ "content": "me too" }));
    for number in 1..64 {
        assert_eq!(say(&format!("agent-{number}")).status, 201);
    }
    let refused = say("gus");
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (403, json!("CONVERSATION_FULL")));
    assert_eq!(refused.json()["detail"], "the session is full: nobody else can take part in it");
    let path = format!("{BASE}/ws/{id}?token={}", agent_token("gus"));
    let (code, text, _) = Client::open(broker.public, &path, &[]).closed();
    assert_eq!((code, text.as_str()), (1008, "the session is full"));
    // From the feed, too. He may look at it, as any agent may.
    let path = format!("{BASE}/ws?token={}", agent_token("gus"));
    let mut gus = Client::open(broker.public, &path, &[]);
    gus.text(json!({ "message_type": "text", "content": "me too", "chat_session_id": id }));
    assert_eq!(next(&mut gus, "error")["metadata"]["code"], "CONVERSATION_FULL");
    assert_eq!(ask(&broker, &agent_token("gus"), "GET", &format!("/sessions/{id}"), Value::Null).status, 200);
    assert_eq!(say("agent-63").status, 201);
}

#[test]
fn a_database_that_fails_ends_who_comes_and_nobody_else() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", None);
        let mut ada = connect(&broker, "ada", &id);
        let database = rusqlite::Connection::open(broker.directory().path("fanfare.db")).unwrap();
        let rename = |from: &str, to: &str| {
            database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
        };
        rename("support_sessions", "elsewhere");
        let path = format!("{BASE}/ws/{id}?token={}", token("ada"));
        let mut client = Client::open(broker.public, &path, &[]);
        assert!(client.expect_close(1011).is_empty());
        let messages = format!("/sessions/{id}/messages");
        for (method, body) in [("GET", Value::Null), ("POST", json!({ "content": "hello?" }))] {
            let answer = call(&broker, "ada", method, &messages, body, 500);
            assert_eq!(answer["error"]["code"], "INTERNAL_ERROR");
            assert_eq!(answer["detail"], answer["error"]["message"]);
            let details = &answer["error"]["details"];
            assert_eq!(details["field"], "error_id");
            let error_id = details["error"].as_str().unwrap();
            eventually("the line in the log", || {
                broker.log().iter().any(|line| line.contains(error_id)).then_some(())
            });
        }
        // Who is there stays, and all goes on when the database does.
        says(&mut ada, "hello?");
        let error = next(&mut ada, "error")["metadata"].clone();
        assert_eq!((&error["code"], error["error_id"].is_string()), (&json!("INTERNAL_ERROR"), true));
        rename("elsewhere", "support_sessions");
        let mut again = connect(&broker, "ada", &id);
        says(&mut ada, "hello!");
        for client in [&mut ada, &mut again] {
            assert_eq!(client.until(|frame| frame["message_type"] == "message")["content"], "hello!");
        }
        let seen = call(&broker, "ada", "GET", &format!("/sessions/{id}"), Value::Null, 200);
        assert_eq!(seen["total_messages"], 1);
    });
}

#[test]
fn the_app_can_be_switched_off() {
    let broker = Broker::start(&["apps.support = false"]);
    let path = format!("{BASE}/ws/550e8400-e29b-41d4-a716-446655440000?token={}", token("ada"));
    let Err(refusal) = Client::try_open(broker.public, &path, &[]) else { panic!("let in") };
    assert_eq!(refusal.status, 404);
    call(&broker, "ada", "GET", "/sessions", Value::Null, 404);
}

#[test]
fn connections_to_all_sessions_together_are_counted_too() {
    let broker = Broker::start(&["shards = 3", "limits.conversations = \"off\""]);
    let sessions: Vec<String> = (0..21).map(|_| session(&broker, "ada", None)).collect();
    let clients: Vec<Client> =
        sessions[..20].iter().flat_map(|id| [id; 5]).map(|id| connect(&broker, "ada", id)).collect();
    for path in [format!("/ws/{}", sessions[20]), "/ws".to_owned()] {
        let path = format!("{BASE}{path}?token={}", token("ada"));
        let Err(refusal) = Client::try_open(broker.public, &path, &[]) else { panic!("let in") };
        assert_eq!((refusal.status, refusal.code().as_str()), (429, "CONNECTION_LIMIT"));
    }
    clients.into_iter().for_each(Client::close);
    broker.wait_for_metric("fanfare_connections", &["app=\"support\""], 0.0);
    connect(&broker, "ada", &sessions[20]);
}
