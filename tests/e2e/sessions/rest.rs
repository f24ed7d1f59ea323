//! Sessions over HTTP.

use serde_json::{Value, json};

use super::{agent_token, ask, call, session, shape};
use crate::support::http::{Connection, Response};
use crate::support::token::token;
use crate::support::{Broker, each_shard_count};

/// The body with ids and times as words.
fn shape_of(response: &Response, names: &[(&str, &str)]) -> String {
    shape(&response.text(), names)
}

#[test]
fn bodies_are_those_of_the_document() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let ada = token("ada");
        let create = json!({ "title": "Support Chat", "assigned_agent_id": null });
        let made = ask(&broker, &ada, "POST", "/sessions", create);
        let expected = r#"{"id":"ID","title":"Support Chat","status":"active","initiator_id":"ada","assigned_agent_id":null,"created_at":"TIME","started_at":null,"closed_at":null,"total_messages":0,"unread_count":0}"#;
        assert_eq!((made.status, shape_of(&made, &[])), (201, expected.to_owned()));
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let names = [(id.as_str(), "SESSION")];
        let path = |rest: &str| format!("/sessions/{id}{rest}");
        let said = ask(
            &broker,
            &ada,
            "POST",
            &path("/messages"),
            json!({ "message_type": "text", "content": "Hello, I need help with my wallet" }),
        );
        let message = r#"{"id":"ID","chat_session_id":"SESSION","sender_id":"ada","message_type":"text","content":"Hello, I need help with my wallet","status":"sent","created_at":"TIME","read_by_count":0}"#;
        assert_eq!((said.status, shape_of(&said, &names)), (201, message.to_owned()));
        let gus = agent_token("gus");
        let read =
            ask(&broker, &gus, "POST", &path("/mark-read"), json!({ "up_to_message_id": said.json()["id"] }));
        let expected = r#"{"success":true,"message":"Messages marked as read","timestamp":"TIME"}"#;
        assert_eq!((read.status, shape_of(&read, &names)), (200, expected.to_owned()));
        let again =
            ask(&broker, &gus, "POST", &path("/mark-read"), json!({ "up_to_message_id": said.json()["id"] }));
        assert_eq!(again.text(), read.text());
        let history = ask(&broker, &ada, "GET", &path("/messages?limit=50&offset=0"), Value::Null);
        let expected = message.replace("sent", "read").replace("_count\":0", "_count\":1");
        assert_eq!(shape_of(&history, &names), format!("[{expected}]"));
        let list = ask(&broker, &ada, "GET", &path("/participants"), Value::Null);
        let expected = r#"[{"id":"ID","user_id":"ada","role":"user","joined_at":"TIME","is_active":true,"last_read_at":null},{"id":"ID","user_id":"gus","role":"agent","joined_at":"TIME","is_active":true,"last_read_at":"TIME"}]"#;
        assert_eq!(shape_of(&list, &names), expected);
        let closed = ask(&broker, &gus, "POST", &path("/close"), Value::Null);
        assert_eq!(closed.text(), r#"{"success":true,"message":"Session closed"}"#);
        let seen = ask(&broker, &ada, "GET", &path(""), Value::Null);
        let expected = r#"{"id":"SESSION","title":"Support Chat","status":"closed","initiator_id":"ada","assigned_agent_id":null,"created_at":"TIME","started_at":"TIME","closed_at":"TIME","total_messages":1,"unread_count":0}"#;
        assert_eq!(shape_of(&seen, &names), expected);
    });
}

#[test]
fn pages_count_from_the_newest_and_read_from_the_oldest() {
    let broker = Broker::start(&["limits.messages = \"off\"", "limits.conversations = \"off\""]);
    let id = session(&broker, "ada", Some("gus"));
    let path = format!("/sessions/{id}/messages");
    for number in 0..7 {
        call(&broker, "ada", "POST", &path, json!({ "content": format!("{number}") }), 201);
    }
    let page = |query: &str| -> Vec<u64> {
        let page = call(&broker, "ada", "GET", &format!("{path}{query}"), Value::Null, 200);
        let number = |message: &Value| message["content"].as_str().unwrap().parse().unwrap();
        page.as_array().unwrap().iter().map(number).collect()
    };
    assert_eq!(page(""), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(page("?limit=3"), [4, 5, 6]);
    assert_eq!(page("?limit=3&offset=3"), [1, 2, 3]);
    assert_eq!(page("?limit=3&offset=6"), [0]);
    assert_eq!(page("?limit=100000&offset=7"), [0; 0]);
    assert_eq!(page("?offset=18446744073709551615"), [0; 0]);
    // As the document says of what is too large.
    assert_eq!(page("?limit=99999999999999999999999"), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(page("?offset=99999999999999999999999"), [0; 0]);
    for wrong in
        ["?limit=0", "?limit=x", "?limit=-99999999999999999999999", "?offset=-1", "?offset=x", "?offset=1.5"]
    {
        call(&broker, "ada", "GET", &format!("{path}{wrong}"), Value::Null, 400);
    }
    let seen = ask(&broker, &agent_token("gus"), "GET", &format!("/sessions/{id}"), Value::Null).json();
    assert_eq!((&seen["total_messages"], &seen["unread_count"]), (&json!(7), &json!(7)));
}

#[test]
fn lists_have_own_sessions_and_an_agents_those_of_nobody() {
    let broker = Broker::start(&[]);
    let (one, two) = (session(&broker, "ada", None), session(&broker, "ada", Some("gus")));
    let three = session(&broker, "eve", Some("zoe"));
    call(&broker, "ada", "POST", &format!("/sessions/{two}/close"), Value::Null, 200);
    let ids = |token: &str, query: &str| -> Vec<String> {
        let list = ask(&broker, token, "GET", &format!("/sessions{query}"), Value::Null).json();
        let id = |session: &Value| session["id"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(id).collect()
    };
    let (ada, gus, zoe) = (token("ada"), agent_token("gus"), agent_token("zoe"));
    assert_eq!(ids(&ada, ""), [&*two, &one]);
    assert_eq!(ids(&ada, "?limit=1&offset=1"), [&*one]);
    assert_eq!(ids(&ada, "?status=active"), [&*one]);
    assert_eq!(ids(&ada, "?status=closed"), [&*two]);
    assert_eq!(ids(&gus, ""), [&*two, &one]);
    assert_eq!(ids(&gus, "?status=active"), [&*one]);
    assert_eq!(ids(&zoe, ""), [&*three, &one]);
    assert_eq!(ids(&zoe, "?limit=1"), [&*three]);
    assert_eq!(ids(&token("bob"), ""), [""; 0]);
    call(&broker, "ada", "GET", "/sessions?status=open", Value::Null, 400);
}

#[test]
fn errors_have_a_detail_beside_the_error() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", None);
        let unknown = "550e8400-e29b-41d4-a716-446655440000";
        let message = json!({ "content": "x" });
        let read = json!({ "up_to_message_id": unknown });
        let cases: Vec<(&str, &str, String, Value, u16, &str)> = vec![
            ("eve", "GET", format!("/sessions/{id}"), Value::Null, 403, "FORBIDDEN"),
            ("eve", "GET", format!("/sessions/{id}/messages"), Value::Null, 403, "FORBIDDEN"),
            ("eve", "GET", format!("/sessions/{id}/participants"), Value::Null, 403, "FORBIDDEN"),
            ("eve", "POST", format!("/sessions/{id}/messages"), message.clone(), 403, "FORBIDDEN"),
            ("eve", "POST", format!("/sessions/{id}/mark-read"), read.clone(), 403, "FORBIDDEN"),
            ("eve", "POST", format!("/sessions/{id}/close"), Value::Null, 403, "FORBIDDEN"),
            ("ada", "GET", format!("/sessions/{unknown}"), Value::Null, 404, "NOT_FOUND"),
            ("ada", "GET", "/sessions/nothing".into(), Value::Null, 404, "NOT_FOUND"),
            ("ada", "GET", format!("/sessions/{unknown}/messages"), Value::Null, 404, "NOT_FOUND"),
            ("ada", "POST", format!("/sessions/{unknown}/messages"), message, 404, "NOT_FOUND"),
            ("ada", "POST", format!("/sessions/{id}/mark-read"), read, 404, "NOT_FOUND"),
            ("ada", "POST", format!("/sessions/{id}/mark-read"), json!({}), 400, "VALIDATION_ERROR"),
            ("ada", "POST", "/sessions".into(), json!({}), 400, "VALIDATION_ERROR"),
            ("ada", "POST", "/sessions".into(), json!([]), 400, "VALIDATION_ERROR"),
            ("ada", "POST", "/sessions".into(), json!({ "title": " " }), 400, "VALIDATION_ERROR"),
            (
                "ada",
                "POST",
                "/sessions".into(),
                json!({ "title": "x", "assigned_agent_id": "" }),
                400,
                "VALIDATION_ERROR",
            ),
            ("ada", "POST", format!("/sessions/{id}/messages"), json!({}), 400, "VALIDATION_ERROR"),
            (
                "ada",
                "POST",
                format!("/sessions/{id}/messages"),
                json!({ "message_type": "typing", "content": "true" }),
                400,
                "INVALID_MESSAGE_TYPE",
            ),
            ("ada", "POST", "/block".into(), json!({}), 400, "VALIDATION_ERROR"),
            ("ada", "POST", "/block".into(), json!({ "user_id": "ada" }), 400, "VALIDATION_ERROR"),
            ("ada", "POST", "/unblock".into(), json!({ "user_id": null }), 400, "VALIDATION_ERROR"),
            ("ada", "DELETE", "/sessions".into(), Value::Null, 405, "INVALID_MESSAGE"),
            ("ada", "GET", "/block".into(), Value::Null, 405, "INVALID_MESSAGE"),
        ];
        for (user, method, path, body, status, code) in cases {
            let answer = call(&broker, user, method, &path, body, status);
            assert_eq!(answer["error"]["code"], code, "{method} {path}: {answer}");
            assert_eq!(answer["detail"], answer["error"]["message"], "{method} {path}");
            assert!(!answer["detail"].as_str().unwrap().is_empty());
        }
        let bad = ask(&broker, "nonsense", "GET", "/sessions", Value::Null);
        assert_eq!(bad.status, 401);
        assert!(bad.json()["detail"].is_string());
        let bearer = format!("Bearer {}", token("ada"));
        let mut connection = Connection::open(broker.public);
        let path = "/api/v1/chat/sessions";
        let plain = connection.ask("POST", path, &[("Authorization", bearer.as_str())], b"{\"title\":\"x\"}");
        assert_eq!(plain.status, 415);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        assert_eq!(connection.ask("POST", path, &headers, b"{\"title\":").status, 400);
    });
}

#[test]
fn files_and_replies_stand_in_the_history() {
    let broker = Broker::start(&[]);
    let id = session(&broker, "ada", Some("gus"));
    let path = format!("/sessions/{id}/messages");
    let first =
        call(&broker, "ada", "POST", &path, json!({ "content": "first", "mentions": ["gus", "bob"] }), 201);
    assert_eq!(first["mentions"], json!(["gus"]));
    let file = json!({
        "message_type": "image", "content": "Cat", "file_url": "https://a.example/cat.png", "file_name": "cat.png",
        "file_size": 7, "file_type": "image/png", "reply_to_id": first["id"],
    });
    let mut said = call(&broker, "ada", "POST", &path, file.clone(), 201);
    for (key, value) in file.as_object().unwrap() {
        assert_eq!(said[key], *value, "{key}");
    }
    let history = call(&broker, "ada", "GET", &path, Value::Null, 200);
    said["status"] = history[1]["status"].clone();
    assert_eq!(history[1], said);
    // An integer to JSON Schema, and what is none.
    let sized = |size: Value, status: u16| {
        let mut file = file.clone();
        file["file_size"] = size;
        call(&broker, "ada", "POST", &path, file, status)
    };
    for (size, bytes) in [(json!(1.0), 1), (json!(-0.0), 0), (json!(1.048576e7), 10 * 1024 * 1024)] {
        let said = sized(size, 201);
        assert_eq!(said["file_size"], json!(bytes));
    }
    for size in [json!(1.5), json!(-1), json!("1"), json!(10 * 1024 * 1024 + 1), json!(1e300)] {
        let error = sized(size, 400);
        assert_eq!(error["detail"], "file_size is a whole number of bytes, at most 10485760 (10 MB)");
    }
}
