//! Requests over HTTP beside the sockets: the conversations of a user, and what HTTP itself asks of an API
//! (`spec/conversation.md`, "REST beside it"; `spec/decisions.md` 16).

mod framing;

use serde_json::{Value, json};

use crate::support::chat::{Chat, chat_token};
use crate::support::http::{self, Response};
use crate::support::token::short_token;
use crate::support::{Broker, each_shard_count};

const COLLECTION: &str = "/api/v1/conversations";

fn get(broker: &Broker, user: &str, path: &str) -> Value {
    let response = broker.rest(user, "GET", path, &Value::Null);
    assert_eq!(response.status, 200, "{path}: {response:?}");
    response.json()
}

/// The strings at a pointer of each object.
fn all(list: &Value, pointer: &str) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item.pointer(pointer).unwrap().as_str().unwrap().to_owned())
        .collect()
}

fn bearer(user: &str) -> String {
    format!("Bearer {}", chat_token(user))
}

#[test]
fn a_conversation_is_made_once_whoever_of_the_two_makes_it() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let create =
            |by: &str, with: Value| broker.rest(by, "POST", COLLECTION, &json!({ "participant_id": with }));
        let made = create("ada", json!("17"));
        assert_eq!(made.status, 201);
        for again in [create("ada", json!("17")), create("ada", json!(17)), create("17", json!("ada"))] {
            assert_eq!((again.status, &again.json()["id"]), (200, &made.json()["id"]));
        }
        assert_eq!(create("ada", json!("bob")).status, 201);
        assert_eq!(get(&broker, "ada", COLLECTION)["conversations"].as_array().unwrap().len(), 2);
        assert_eq!(get(&broker, "17", COLLECTION)["conversations"].as_array().unwrap().len(), 1);
        for wrong in [
            json!("ada"),
            json!(""),
            json!(null),
            json!(1.5),
            json!(-1),
            json!([]),
            json!("x".repeat(129)),
            json!("a\u{0}b"),
        ] {
            let response = create("ada", wrong.clone());
            assert_eq!((response.status, response.code().as_str()), (400, "VALIDATION_ERROR"), "{wrong}");
            assert_eq!(response.json()["error"]["details"]["field"], "participant_id", "{wrong}");
        }
    });
}

#[test]
fn conversations_are_listed_in_pages_those_with_the_newest_message_first() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.conversations = \"off\""]);
        let ids: Vec<String> = (0..7).map(|n| broker.conversation("ada", &format!("user-{n}"))).collect();
        let mut publisher = broker.publisher();
        // All said within one second or less: their order must not depend on it.
        for at in [3, 0, 5, 1, 6, 2, 4, 0] {
            let line = json!({ "op": "conversation.message", "conversation_id": ids[at], "type": "system", "content": format!("{at}") });
            assert_eq!(publisher.ask(line)["ok"], true);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let expected: Vec<String> = [0, 4, 2, 6, 1, 5, 3].map(|at| ids[at].clone()).to_vec();
        for limit in [1, 2, 3, 7, 50] {
            let (mut found, mut path) = (Vec::new(), format!("{COLLECTION}?limit={limit}"));
            loop {
                let page = get(&broker, "ada", &path);
                let list = all(&page["conversations"], "/id");
                assert!(list.len() <= limit);
                found.extend(list);
                let Some(next) = page["next_before"].as_str() else { break };
                path = format!("{COLLECTION}?limit={limit}&before={next}");
                assert!(found.len() <= 7, "it has no end");
            }
            assert_eq!(found, expected, "{limit}");
        }
        let first = &get(&broker, "ada", COLLECTION)["conversations"][0];
        assert_eq!((&first["unread_count"], &first["last_message"]["content"]), (&json!(2), &json!("0")));
    });
}

#[test]
fn messages_are_read_in_pages_the_newest_first() {
    each_shard_count(|shards| {
        let chat = Chat::start(&[shards]);
        let mut publisher = chat.broker.publisher();
        for n in 0..120 {
            publisher.send(json!({ "op": "conversation.message", "conversation_id": chat.id, "type": "system", "content": format!("{n}") }));
        }
        (0..120).for_each(|_| assert_eq!(publisher.reply()["ok"], true));
        let messages = format!("{COLLECTION}/{}/messages", chat.id);
        let expected: Vec<String> = (0..120).rev().map(|n| n.to_string()).collect();
        let page = get(&chat.broker, "bob", &messages);
        assert_eq!(all(&page["messages"], "/content"), expected[..50]);
        assert_eq!(page["next_before"], page["messages"][49]["id"]);
        for limit in [7, 40, 100, 1_000] {
            let (mut found, mut path) = (Vec::new(), format!("{messages}?limit={limit}"));
            loop {
                let page = get(&chat.broker, "ada", &path);
                let list = all(&page["messages"], "/content");
                assert!(list.len() <= limit.min(100));
                found.extend(list);
                let Some(next) = page["next_before"].as_str() else { break };
                path = format!("{messages}?limit={limit}&before={next}");
                assert!(found.len() <= 120, "it has no end");
            }
            assert_eq!(found, expected, "{limit}");
        }
        // A page goes on where it ended, whatever was said since or was deleted in between.
        let next = page["next_before"].as_str().unwrap().to_owned();
        let mut ada = chat.ada;
        ada.send("message:delete", json!({ "conversation_id": chat.id, "message_id": next }));
        ada.until_event("message:deleted");
        let page = get(&chat.broker, "bob", &format!("{messages}?before={next}"));
        assert_eq!(all(&page["messages"], "/content"), expected[50..100]);
    });
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = broker.conversation("ada", "bob");
        let messages = format!("{COLLECTION}/{id}/messages");
        let ask = |method: &str, path: &str| broker.rest("ada", method, path, &Value::Null);
        for query in ["limit=0", "limit=-1", "limit=x", "limit=", "limit=1.5"] {
            for path in [COLLECTION, &messages] {
                let response = ask("GET", &format!("{path}?{query}"));
                assert_eq!(
                    (response.status, response.code().as_str()),
                    (400, "VALIDATION_ERROR"),
                    "{path}?{query}"
                );
                assert_eq!(response.json()["error"]["details"]["field"], "limit");
            }
        }
        for path in [COLLECTION, &messages] {
            let response = ask("GET", &format!("{path}?before=yesterday"));
            assert_eq!((response.status, response.code().as_str()), (400, "VALIDATION_ERROR"), "{path}");
            assert_eq!(response.json()["error"]["details"]["field"], "before");
        }
        for (method, path, allow) in [
            ("PUT", COLLECTION, "GET, POST"),
            ("DELETE", COLLECTION, "GET, POST"),
            ("POST", &messages, "GET"),
        ] {
            let response = ask(method, path);
            assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {path}");
            response.code();
        }
        for path in ["/api/v1/conversations/", "/api/v1/conversation", "/api/v1/conversations/x/y", "/api"] {
            assert_eq!(ask("GET", path).status, 404, "{path}");
        }
        assert_eq!(ask("GET", "/api/v1/conversations/conv-uuid-1/messages").code(), "NOT_FOUND");
        let authorization = bearer("ada");
        let post = |content_type: Option<&str>, body: &[u8]| {
            let mut headers = vec![("Authorization", authorization.as_str())];
            headers.extend(content_type.map(|content_type| ("Content-Type", content_type)));
            http::request(broker.public, "POST", COLLECTION, &headers, body)
        };
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(post(content_type, br#"{"participant_id":"bob"}"#).status, 415, "{content_type:?}");
        }
        let json = Some("application/json; charset=utf-8");
        for body in [&b""[..], b"{", b"[]", b"7", b"{\"participant_id\":\"\xff\"}", &b"[".repeat(10_000)] {
            let response = post(json, body);
            assert_eq!(
                (response.status, response.code().as_str()),
                (400, "VALIDATION_ERROR"),
                "{:?}",
                &body[..body.len().min(30)]
            );
        }
        assert_eq!(post(json, br#"{"participant_id":"bob"}"#).status, 200);
        broker.wait_for_zero();
    });
}

#[test]
fn without_a_good_token_nothing_is_told() {
    let broker = Broker::start(&[]);
    let id = broker.conversation("ada", "bob");
    let expired = format!("Bearer {}", short_token("ada", -60));
    for (method, path) in [
        ("GET", COLLECTION.to_owned()),
        ("POST", COLLECTION.to_owned()),
        ("GET", format!("{COLLECTION}/{id}/messages")),
    ] {
        for (header, code) in [
            (None, "AUTH_REQUIRED"),
            (Some("Bearer a.b.c"), "AUTH_REQUIRED"),
            (Some("Basic YTpi"), "AUTH_REQUIRED"),
            (Some(&*expired), "TOKEN_EXPIRED"),
        ] {
            let headers: Vec<(&str, &str)> =
                header.map(|header| ("Authorization", header)).into_iter().collect();
            let response = http::request(broker.public, method, &path, &headers, b"");
            assert_eq!(
                (response.status, response.code().as_str()),
                (401, code),
                "{method} {path} {header:?}"
            );
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        }
        // A token in the query is for sockets.
        let response =
            http::request(broker.public, method, &format!("{path}?token={}", chat_token("ada")), &[], b"");
        assert_eq!(response.status, 401, "{method} {path}");
    }
}

fn cors(response: &Response) -> (Option<&str>, Option<&str>) {
    (response.header("access-control-allow-origin"), response.header("access-control-allow-credentials"))
}

#[test]
fn browsers_are_told_whether_their_page_may() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "allowed_origins = [\"https://app.example\"]"]);
        let authorization = bearer("ada");
        let origin = ("Origin", "https://app.example");
        let yes = (Some("https://app.example"), Some("true"));
        for (path, method) in [
            (COLLECTION, "POST"),
            (COLLECTION, "GET"),
            ("/api/auth/login", "POST"),
            ("/api/websocket/token", "POST"),
        ] {
            let headers = [
                origin,
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", "authorization,content-type"),
            ];
            let response = http::request(broker.public, "OPTIONS", path, &headers, b"");
            assert_eq!((response.status, cors(&response)), (204, yes), "{method} {path}");
            assert!(response.header("access-control-allow-methods").unwrap().contains(method));
            assert_eq!(response.header("access-control-allow-headers"), Some("authorization,content-type"));
            let wrong = [("Origin", "https://evil.example"), headers[1], headers[2]];
            let response = http::request(broker.public, "OPTIONS", path, &wrong, b"");
            assert_eq!((response.status, cors(&response)), (403, (None, None)), "{method} {path}");
        }
        // The answers themselves say so too, those that are errors included.
        let auth = ("Authorization", authorization.as_str());
        for (headers, status) in [(&[origin, auth][..], 200), (&[origin], 401)] {
            let response = http::request(broker.public, "GET", COLLECTION, headers, b"");
            assert_eq!((response.status, cors(&response)), (status, yes));
            assert!(response.header("vary").unwrap().to_ascii_lowercase().contains("origin"));
        }
        let response =
            http::request(broker.public, "GET", COLLECTION, &[("Origin", "https://evil.example"), auth], b"");
        assert_eq!((response.status, response.code().as_str()), (403, "ACCESS_DENIED"));
        assert_eq!(cors(&response), (None, None));
        // A refused page makes no conversation.
        let evil = [("Origin", "https://evil.example"), auth, ("Content-Type", "application/json")];
        let response =
            http::request(broker.public, "POST", COLLECTION, &evil, br#"{"participant_id":"bob"}"#);
        assert_eq!(response.status, 403);
        assert_eq!(get(&broker, "ada", COLLECTION)["conversations"], json!([]));
    });
}
