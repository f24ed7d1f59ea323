//! The source document's own calls, in its order, against `serve --dev`: sign-in, the curl calls with curl's headers, the
//! scripts' WebSockets with a browser's `Origin`, every body with exactly the fields and the order that it shows.

use serde_json::{Value, json};

use super::shape;
use crate::support::http::{Connection, Response};
use crate::support::token::now;
use crate::support::{Broker, Client, each_shard_count, eventually};

/// Where the scripts' page comes from.
const PAGE: &str = "http://localhost:3000";

/// Somebody who has signed in.
struct Person<'a> {
    broker: &'a Broker,
    token: String,
}

/// A request as curl makes it, or, with an origin, as `fetch` does.
#[track_caller]
fn curl(broker: &Broker, token: Option<&str>, method: &str, path: &str, body: Option<&str>) -> Response {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("User-Agent", "curl/8.5.0"), ("Accept", "*/*")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    headers.extend(body.map(|_| ("Content-Type", "application/json")));
    let response = Connection::open(broker.public).ask(method, path, &headers, body.unwrap_or("").as_bytes());
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    response
}

/// "Authentication Flow", step 1.
#[track_caller]
fn sign_in<'a>(broker: &'a Broker, email: &str) -> Person<'a> {
    let body = format!(
        r#"{{
    "email": "{email}",
    "password": "password123"
  }}"#
    );
    let response = curl(broker, None, "POST", "/api/v1/auth/login", Some(&body));
    let answer = response.json();
    assert_eq!((response.status, &answer["token_type"]), (200, &json!("bearer")));
    Person { broker, token: answer["access_token"].as_str().unwrap().to_owned() }
}

impl Person<'_> {
    #[track_caller]
    fn curl(&self, method: &str, path: &str, body: Option<&str>, status: u16) -> Response {
        let path = format!("/api/v1/chat{path}");
        let response = curl(self.broker, Some(&self.token), method, &path, body);
        assert_eq!(response.status, status, "{method} {path}: {}", response.text());
        response
    }

    /// `new WebSocket(…)` of a page.
    #[track_caller]
    fn web_socket(&self, session: &str) -> Client {
        let path = format!("/api/v1/chat/ws/{session}?token={}", self.token);
        Client::open(self.broker.public, &path, &[("Origin", PAGE)])
    }

    /// Who it is: the token's `sub`.
    fn id(&self) -> String {
        let made = self.curl("POST", "/sessions", Some(r#"{"title": "Who am I"}"#), 201).json();
        made["initiator_id"].as_str().unwrap().to_owned()
    }
}

/// `2025-12-29T10:05:00`, in UTC, as Unix seconds.
fn seconds(time: &Value) -> u64 {
    let text = time.as_str().unwrap();
    let part = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
    assert_eq!(text.len(), 19, "{text}");
    let marks: Vec<u8> = [4, 7, 10, 13, 16].iter().map(|at| text.as_bytes()[*at]).collect();
    assert_eq!(marks, b"--T::", "{text}");
    let is_leap =
        |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let (year, month) = (part(0..4), part(5..7));
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let days = years + lengths[..month as usize - 1].iter().sum::<u64>() + part(8..10) - 1;
    days * 86_400 + part(11..13) * 3_600 + part(14..16) * 60 + part(17..19)
}

/// The time is now, in UTC.
#[track_caller]
fn is_now(time: &Value) {
    let (seconds, now) = (seconds(time), now());
    assert!((now.saturating_sub(60)..=now + 1).contains(&seconds), "{time} is not {now}");
}

#[test]
fn the_documents_calls_run_in_order() {
    each_shard_count(|shards| {
        let broker = Broker::start_dev(&[shards]);
        let user = sign_in(&broker, "user@example.com");
        let agent = sign_in(&broker, "agent@example.com");
        let (user_id, agent_id) = (user.id(), agent.id());

        // "Creating a Chat Session".
        let body = r#"{
    "title": "Support Chat",
    "assigned_agent_id": null
  }"#;
        let made = user.curl("POST", "/sessions", Some(body), 201);
        let session = made.json()["id"].as_str().unwrap().to_owned();
        let names = [(session.as_str(), "SESSION"), (user_id.as_str(), "USER"), (agent_id.as_str(), "AGENT")];
        let shape_of = |text: &str| shape(text, &names);
        assert_eq!(
            shape_of(&made.text()),
            r#"{"id":"SESSION","title":"Support Chat","status":"active","initiator_id":"USER","assigned_agent_id":null,"created_at":"TIME","started_at":null,"closed_at":null,"total_messages":0,"unread_count":0}"#
        );
        is_now(&made.json()["created_at"]);

        // "JavaScript/Web Implementation": connect, hear who comes, speak, type, leave.
        let mut user_socket = user.web_socket(&session);
        let joined = r#"{"message_type":"user_joined","chat_session_id":"SESSION","user_id":"USER","timestamp":"TIME","metadata":{"total_users":1}}"#;
        assert_eq!(shape_of(&user_socket.next_text()), joined);
        let mut agent_socket = agent.web_socket(&session);
        let joined = joined.replace("USER", "AGENT").replace(":1}", ":2}");
        assert_eq!(shape_of(&user_socket.next_text()), joined);
        assert_eq!(shape_of(&agent_socket.next_text()), joined);
        user_socket.text(r#"{"message_type":"text","content":"Hello, I need help with my wallet"}"#);
        let said = r#"{"message_type":"message","chat_session_id":"SESSION","user_id":"USER","content":"Hello, I need help with my wallet","timestamp":"TIME","metadata":{"message_id":"ID","reply_to_id":null,"mentions":[]}}"#;
        let frame = user_socket.next();
        is_now(&frame["timestamp"]);
        let message = frame["metadata"]["message_id"].as_str().unwrap().to_owned();
        assert_eq!(shape_of(&agent_socket.next_text()), said);
        let typing = r#"{"message_type":"typing_indicator","chat_session_id":"SESSION","user_id":"USER","timestamp":"TIME","metadata":{"is_typing":true}}"#;
        for is_typing in ["true", "false"] {
            user_socket.text(format!(r#"{{"message_type":"typing","content":"{is_typing}"}}"#));
            assert_eq!(shape_of(&agent_socket.next_text()), typing.replace("true", is_typing));
        }

        // "Getting Message History", when the agent has read it; "Marking Messages as Read".
        let mark = format!(
            r#"{{
    "up_to_message_id": "{message}"
  }}"#
        );
        let path = format!("/sessions/{session}");
        let read = agent.curl("POST", &format!("{path}/mark-read"), Some(&mark), 200);
        assert_eq!(
            shape_of(&read.text()),
            r#"{"success":true,"message":"Messages marked as read","timestamp":"TIME"}"#
        );
        is_now(&read.json()["timestamp"]);
        assert_eq!(user_socket.next()["message_type"], "message_read");
        let history = user.curl("GET", &format!("{path}/messages?limit=50&offset=0"), None, 200);
        assert_eq!(
            shape_of(&history.text()),
            r#"[{"id":"ID","chat_session_id":"SESSION","sender_id":"USER","message_type":"text","content":"Hello, I need help with my wallet","status":"read","created_at":"TIME","read_by_count":1}]"#
        );
        assert_eq!(history.json()[0]["id"], message.as_str());
        user.curl("POST", &format!("{path}/mark-read"), Some(&mark), 200);
        assert_eq!(agent_socket.next()["message_type"], "message_read");

        // "Getting Session Participants".
        let participants = user.curl("GET", &format!("{path}/participants"), None, 200);
        assert_eq!(
            shape_of(&participants.text()),
            r#"[{"id":"ID","user_id":"USER","role":"user","joined_at":"TIME","is_active":true,"last_read_at":"TIME"},{"id":"ID","user_id":"AGENT","role":"agent","joined_at":"TIME","is_active":true,"last_read_at":"TIME"}]"#
        );

        // "WebSocket Message Types".
        agent_socket.text(format!(
            r#"{{"message_type":"text","content":"Hello, how can I help you?","reply_to_id":null,"mentions":["{user_id}","user-id-2"]}}"#
        ));
        assert_eq!(
            shape_of(&user_socket.next_text()),
            r#"{"message_type":"message","chat_session_id":"SESSION","user_id":"AGENT","content":"Hello, how can I help you?","timestamp":"TIME","metadata":{"message_id":"ID","reply_to_id":null,"mentions":["USER"]}}"#
        );
        agent_socket.next();
        user_socket.text(
            r#"{"message_type":"file","content":"Receipt.pdf","file_url":"https://bucket.s3.amazonaws.com/files/receipt.pdf","file_name":"Receipt.pdf","file_size":245000,"file_type":"application/pdf"}"#,
        );
        let file = r#"{"message_type":"message","chat_session_id":"SESSION","user_id":"USER","content":"Receipt.pdf","timestamp":"TIME","metadata":{"message_id":"ID","reply_to_id":null,"mentions":[],"file_url":"https://bucket.s3.amazonaws.com/files/receipt.pdf","file_name":"Receipt.pdf","file_size":245000,"file_type":"application/pdf"}}"#;
        assert_eq!(shape_of(&agent_socket.next_text()), file);
        assert_eq!(shape_of(&user_socket.next_text()), file);
        // As the React Native client sends it, without a size.
        user_socket.text(
            r#"{"message_type":"file","content":"a.png","file_url":"https://a.example/a.png","file_name":"a.png","file_type":"image/png"}"#,
        );
        assert_eq!(agent_socket.next()["metadata"]["file_name"], "a.png");
        user_socket.next();

        // "Check connection stats".
        agent_socket.text(r#"{"message_type": "typing", "content": "true"}"#);
        assert_eq!(user_socket.next()["metadata"]["is_typing"], true);
        let stats = user.curl("GET", "/ws-stats", None, 200);
        assert_eq!(
            shape_of(&stats.text()),
            r#"{"total_sessions":1,"total_connections":2,"average_users_per_session":2.0,"sessions":{"SESSION":{"user_count":2,"typing_count":1}}}"#
        );

        // websocat's Ctrl+C: the connection ends without a word.
        drop(agent_socket);
        assert_eq!(user_socket.next()["metadata"]["is_typing"], false);
        assert_eq!(
            shape_of(&user_socket.next_text()),
            r#"{"message_type":"user_left","chat_session_id":"SESSION","user_id":"AGENT","timestamp":"TIME","metadata":{"total_users":1}}"#
        );

        // "Closing a Chat Session".
        let closed = user.curl("POST", &format!("{path}/close"), None, 200);
        assert_eq!(closed.text(), r#"{"success":true,"message":"Session closed"}"#);
        let last = user_socket.expect_close(1000);
        assert_eq!(last[0]["message_type"], "session_closed");
    });
}

#[test]
fn the_test_script_and_the_pages_of_a_history_run() {
    let broker = Broker::start_dev(&[]);
    let user = sign_in(&broker, "user@example.com");
    let made = user.curl("POST", "/sessions", Some(r#"{"title": "Test Chat"}"#), 201).json();
    let session = made["id"].as_str().unwrap();
    assert_eq!(made["assigned_agent_id"], Value::Null);
    let messages = format!("/sessions/{session}/messages");
    assert_eq!(user.curl("GET", &messages, None, 200).text(), "[]");
    let list = user.curl("GET", &format!("/sessions/{session}/participants"), None, 200).json();
    let keys: Vec<&String> = list[0].as_object().unwrap().keys().collect();
    assert_eq!((list.as_array().unwrap().len(), keys.len()), (1, 6));
    // With a space behind each colon, as it is typed.
    let mut socket =
        Client::open(broker.public, &format!("/api/v1/chat/ws/{session}?token={}", user.token), &[]);
    assert_eq!(socket.next()["message_type"], "user_joined");
    socket.text(r#"{"message_type": "text", "content": "Hello from test"}"#);
    assert_eq!(socket.next()["content"], "Hello from test");
    socket.text(r#"{"message_type": "typing", "content": "true"}"#);
    // "Load next 50 on scroll".
    let page = |offset: u32| user.curl("GET", &format!("{messages}?limit=50&offset={offset}"), None, 200);
    assert_eq!(page(0).json()[0]["content"], "Hello from test");
    assert_eq!(page(50).text(), "[]");
    // Nobody else is told who types; that it has come the statistics say.
    eventually("typing", || {
        let stats = user.curl("GET", "/ws-stats", None, 200).json();
        (stats["sessions"][session]["typing_count"] == 1).then_some(())
    });
}

#[test]
fn a_page_of_another_origin_may_use_fetch() {
    let broker = Broker::start_dev(&[]);
    let user = sign_in(&broker, "user@example.com");
    let mut connection = Connection::open(broker.public);
    let asked = [
        ("Origin", PAGE),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ];
    let allowed = connection.ask("OPTIONS", "/api/v1/chat/sessions", &asked, b"");
    assert!((200..300).contains(&allowed.status), "{allowed:?}");
    // Any: the token stands in a header that is named, and no cookies are sent.
    assert_eq!(allowed.header("access-control-allow-origin"), Some("*"));
    let headers = allowed.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("POST"));
    let bearer = format!("Bearer {}", user.token);
    let headers =
        [("Origin", PAGE), ("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let made = connection.ask("POST", "/api/v1/chat/sessions", &headers, br#"{"title":"New Chat"}"#);
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("access-control-allow-origin"), Some("*"));
}

#[test]
fn errors_have_the_documents_statuses_and_codes() {
    let broker = Broker::start_dev(&[]);
    let user = sign_in(&broker, "user@example.com");
    let agent = sign_in(&broker, "agent@example.com");
    let made = agent.curl("POST", "/sessions", Some(r#"{"title": "An agent's own"}"#), 201).json();
    let foreign = made["id"].as_str().unwrap();
    let bad = Person { broker: &broker, token: "your-jwt-token".to_owned() };
    let messages = |session: &str| format!("/sessions/{session}/messages");
    let answers = [
        user.curl("POST", "/sessions", Some(r#"{"name": "no title"}"#), 400),
        bad.curl("GET", "/sessions", None, 401),
        user.curl("GET", &messages(foreign), None, 403),
        user.curl("GET", &messages("your-session-id"), None, 404),
    ];
    for answer in answers {
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty(), "{}", answer.text());
    }
    // `event.code === 1008`.
    for (person, session) in [(&bad, foreign), (&user, foreign), (&user, "your-chat-session-id")] {
        assert!(person.web_socket(session).expect_close(1008).is_empty());
    }
}
