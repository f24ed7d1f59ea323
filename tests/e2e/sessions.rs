//! The app `support`: chat sessions with agents on real sockets (`spec/support.md`), with one shard and with several.

mod document;
mod live;
mod refused;
mod rest;
mod stats;

use serde_json::{Value, json};

use crate::support::http::{Connection, Response};
use crate::support::token::{token, token_with};
use crate::support::{Broker, Client};

const BASE: &str = "/api/v1/chat";

/// A token of an agent.
fn agent_token(user: &str) -> String {
    token_with(user, json!({ "roles": ["agent"] }))
}

/// A request with a token; `Value::Null`: without a body.
#[track_caller]
fn ask(broker: &Broker, token: &str, method: &str, path: &str, body: Value) -> Response {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    if !body.is_null() {
        headers.push(("Content-Type", "application/json"));
    }
    Connection::open(broker.public).ask(method, &format!("{BASE}{path}"), &headers, &bytes)
}

/// The same of a user who is no agent; the answer has this status.
#[track_caller]
fn call(broker: &Broker, user: &str, method: &str, path: &str, body: Value, status: u16) -> Value {
    let response = ask(broker, &token(user), method, path, body);
    assert_eq!(response.status, status, "{}", response.text());
    response.json()
}

/// Makes a session of a user, given to an agent.
#[track_caller]
fn session(broker: &Broker, user: &str, agent: Option<&str>) -> String {
    let body = json!({ "title": "Support Chat", "assigned_agent_id": agent });
    call(broker, user, "POST", "/sessions", body, 201)["id"].as_str().unwrap().to_owned()
}

/// Connects to a session; the user's own coming has been taken.
#[track_caller]
fn connect_with(broker: &Broker, token: &str, session: &str) -> Client {
    let mut client = Client::open(broker.public, &format!("{BASE}/ws/{session}?token={token}"), &[]);
    // What others do at this moment may come before.
    client.until(|frame| frame["message_type"] == "user_joined");
    client
}

#[track_caller]
fn connect(broker: &Broker, user: &str, session: &str) -> Client {
    connect_with(broker, &token(user), session)
}

/// Connects to all sessions of a user, and waits until it is certain that what is said reaches it.
#[track_caller]
fn feed(broker: &Broker, user: &str) -> Client {
    let mut client = Client::open(broker.public, &format!("{BASE}/ws?token={}", token(user)), &[]);
    client.text(json!({ "message_type": "nothing" }));
    assert_eq!(client.next()["message_type"], "error");
    client
}

#[track_caller]
fn says(client: &mut Client, content: &str) {
    client.text(json!({ "message_type": "text", "content": content }));
}

/// The next frame, which has this type.
#[track_caller]
fn next(client: &mut Client, kind: &str) -> Value {
    let frame = client.next();
    assert_eq!(frame["message_type"], kind, "{frame}");
    frame
}

/// The text with ids and times replaced by words, so that it can be compared byte for byte.
fn shape(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (id, name) in names {
        text = text.replace(id, name);
    }
    let mut shape = String::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < text.len() {
        let is = |pattern: &str| {
            text.get(at..at + pattern.len()).is_some_and(|found| {
                found.chars().zip(pattern.chars()).all(|(c, p)| match p {
                    'd' => c.is_ascii_digit(),
                    'x' => c.is_ascii_hexdigit(),
                    p => c == p,
                })
            })
        };
        if is("dddd-dd-ddTdd:dd:dd\"") {
            shape.push_str("TIME");
            at += 19;
        } else if is("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
            shape.push_str("ID");
            at += 36;
        } else {
            shape.push(char::from(bytes[at]));
            at += 1;
        }
    }
    shape
}
