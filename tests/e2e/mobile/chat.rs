//! Messages between two users who are there, their history, and typing.

use serde_json::{Value, json};

use super::{everywhere, expect_message, name};
use crate::support::http;
use crate::support::mobile::{CHAT, Mobile, WALLET, get, rest, say};

const MESSAGES: &str = "/api/chat/personal/messages";

#[test]
fn a_message_reaches_all_connections_of_both_users_once() {
    everywhere(&[], |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let open = |user| Mobile::chat(broker.public, transport, user);
        let mut devices = [open(ada), open(ada), open(bob), open(bob)];
        let mut carol = open(&name("carol", transport));
        let data = json!({ "recipientId": bob, "content": "hi \"Bob\"", "clientMessageId": "c1" });
        let sent = devices[0].ask(CHAT, "message:send", data.clone());
        expect_message(&sent, ada, bob, "hi \"Bob\"");
        assert_eq!((&sent["type"], &sent["clientMessageId"]), (&json!("text"), &json!("c1")));
        assert!(sent.get("mediaUrl").is_none());
        for device in &mut devices {
            assert_eq!(device.expect(CHAT, "message:received"), sent);
        }
        // The same name again: the first message is the answer, and nobody is told, who asks no more than others.
        for device in &mut devices[..2] {
            assert_eq!(device.ask(CHAT, "message:send", data.clone()), sent);
            device.emit(CHAT, "message:send", data.clone());
            device.expect_nothing(CHAT);
        }
        let again = rest(broker.public, ada, "POST", MESSAGES, Some(data));
        assert_eq!((again.status, again.json()), (200, sent.clone()));
        let media = json!({ "recipientId": ada, "content": "look", "type": "image", "mediaUrl": "https://example.com/1.png" });
        let response = rest(broker.public, bob, "POST", MESSAGES, Some(media));
        assert_eq!(response.status, 201, "{response:?}");
        let shown = response.json();
        assert_eq!(
            (&shown["type"], &shown["mediaUrl"]),
            (&json!("image"), &json!("https://example.com/1.png"))
        );
        for device in &mut devices {
            assert_eq!(device.before_heartbeat(CHAT), [json!(["media:received", shown])]);
        }
        carol.expect_nothing(CHAT);
    });
}

#[test]
fn what_may_not_be_said_is_refused() {
    everywhere(&["limits.messages = [\"1/1m\"]"], |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let mut client = Mobile::chat(broker.public, transport, ada);
        for (bad, code, field) in [
            (json!({ "content": "hi" }), "VALIDATION_ERROR", "recipientId"),
            (json!({ "recipientId": ada, "content": "hi" }), "VALIDATION_ERROR", "recipientId"),
            (json!({ "recipientId": bob }), "VALIDATION_ERROR", "content"),
            (json!({ "recipientId": bob, "content": "  " }), "VALIDATION_ERROR", "content"),
            (json!({ "recipientId": bob, "content": "hi", "type": "!" }), "INVALID_MESSAGE_TYPE", "type"),
            (json!({ "recipientId": bob, "content": "hi", "mediaUrl": "x" }), "VALIDATION_ERROR", "mediaUrl"),
        ] {
            let error = client.refused(CHAT, "message:send", bad.clone());
            assert_eq!((&error["code"], &error["details"]["field"]), (&json!(code), &json!(field)), "{bad}");
            let response = rest(broker.public, ada, "POST", MESSAGES, Some(bad));
            assert_eq!((response.status, response.code().as_str()), (400, code));
            assert_eq!(response.json()["error"]["details"]["field"], field);
        }
        let good = json!({ "recipientId": bob, "content": "hi" });
        client.ask(CHAT, "message:send", good.clone());
        client.expect(CHAT, "message:received");
        let error = client.refused(CHAT, "message:send", good.clone());
        assert!(
            error["code"] == "RATE_LIMITED" && error["retry_after_ms"].as_u64() > Some(50_000),
            "{error}"
        );
        let response = rest(broker.public, ada, "POST", MESSAGES, Some(good));
        assert_eq!((response.status, response.code().as_str()), (429, "RATE_LIMITED"));
        assert!(response.header("retry-after").is_some());
        client.expect_nothing(CHAT);
    });
}

#[test]
fn requests_over_http_need_a_token_and_the_right_method() {
    everywhere(&[], |broker, _| {
        let paths = [
            "/api/chat/personal/messages?with=bob",
            "/api/chat/personal/conversations",
            "/api/wallet/balance",
            "/api/wallet/transactions",
        ];
        for path in paths {
            let response = http::request(broker.public, "GET", path, &[], b"");
            assert_eq!((response.status, response.code().as_str()), (401, "AUTH_REQUIRED"), "{path}");
            let response = rest(broker.public, "ada", "DELETE", path, None);
            assert_eq!(response.status, 405, "{path}");
        }
        let body = json!({ "recipientId": "bob", "content": "x".repeat(70_000) });
        assert_eq!(rest(broker.public, "ada", "POST", MESSAGES, Some(body)).status, 413);
    });
}

#[test]
fn the_history_is_paged_newest_first() {
    everywhere(&[], |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let carol = &*name("carol", transport);
        let said: Vec<Value> = (0..7)
            .map(|n| {
                let (from, to) = if n % 2 == 0 { (ada, bob) } else { (bob, ada) };
                say(broker.public, from, to, &n.to_string())
            })
            .collect();
        say(broker.public, carol, ada, "from carol");
        let id = |message: &Value| message["id"].as_str().unwrap().to_owned();
        let (mut path, mut seen) = (format!("{MESSAGES}?with={bob}&limit=3"), Vec::new());
        loop {
            let page = get(broker.public, ada, &path);
            seen.extend(page["messages"].as_array().unwrap().clone());
            let Some(before) = page["nextBefore"].as_str() else { break };
            assert_eq!(before, id(seen.last().unwrap()));
            path = format!("{MESSAGES}?with={bob}&limit=3&before={before}");
        }
        seen.reverse();
        assert_eq!(seen, said);
        assert_eq!(get(broker.public, bob, &format!("{MESSAGES}?with={ada}"))["messages"][0], said[6]);
        // Another conversation's message is no place in this one.
        let theirs = get(broker.public, ada, &format!("{MESSAGES}?with={carol}"))["messages"][0].clone();
        let path = format!("{MESSAGES}?with={bob}&before={}", id(&theirs));
        let response = rest(broker.public, ada, "GET", &path, None);
        assert_eq!((response.status, response.code().as_str()), (404, "NOT_FOUND"));
        assert_eq!(get(broker.public, carol, &format!("{MESSAGES}?with={bob}"))["messages"], json!([]));

        let list = get(broker.public, ada, "/api/chat/personal/conversations");
        let expected = json!([
            { "userId": carol, "roomId": theirs["roomId"], "lastMessage": theirs },
            { "userId": bob, "roomId": said[0]["roomId"], "lastMessage": said[6] },
        ]);
        assert_eq!(list, json!({ "conversations": expected, "nextBefore": null }));
        let first = get(broker.public, ada, "/api/chat/personal/conversations?limit=1");
        assert_eq!(first["nextBefore"], theirs["id"]);
        let path = format!("/api/chat/personal/conversations?limit=1&before={}", id(&theirs));
        assert_eq!(get(broker.public, ada, &path)["conversations"][0], expected[1]);
    });
}

#[test]
fn typing_is_told_to_the_other_user() {
    everywhere(&[], |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let room = format!("{ada}~{bob}");
        let mut ada_chat = Mobile::chat(broker.public, transport, ada);
        let mut bob_chat = Mobile::chat(broker.public, transport, bob);
        bob_chat.join(WALLET, bob);
        for to in [json!({ "recipientId": bob }), json!({ "roomId": bob }), json!({ "roomId": room })] {
            for event in ["typing:start", "typing:stop"] {
                let ack = ada_chat.ask(CHAT, event, to.clone());
                assert_eq!((&ack["userId"], &ack["roomId"]), (&json!(ada), &json!(room)));
                assert_eq!(bob_chat.expect(CHAT, event), ack);
            }
        }
        ada_chat.emit(CHAT, "typing:start", json!({ "recipientId": bob }));
        bob_chat.expect(CHAT, "typing:start");
        // Nobody stops it: it ends by itself.
        bob_chat.expect(CHAT, "typing:stop");
        ada_chat.emit(CHAT, "typing:start", json!({ "recipientId": bob }));
        bob_chat.expect(CHAT, "typing:start");
        // It ends with the client too.
        ada_chat.leave(CHAT);
        bob_chat.expect(CHAT, "typing:stop");
        assert_eq!(bob_chat.refused(CHAT, "typing:start", json!({}))["code"], "VALIDATION_ERROR");
        assert_eq!(
            bob_chat.refused(CHAT, "typing:stop", json!({ "roomId": "a~b" }))["code"],
            "ACCESS_DENIED"
        );
        bob_chat.expect_nothing(WALLET);
    });
}

#[test]
fn changes_to_typing_have_a_rate_and_stops_have_none() {
    everywhere(&["limits.typing = \"2/1m\""], |broker, transport| {
        let (ada, bob) = (&*name("ada", transport), &*name("bob", transport));
        let mut client = Mobile::chat(broker.public, transport, ada);
        let to = json!({ "recipientId": bob });
        client.ask(CHAT, "typing:start", to.clone());
        for _ in 0..5 {
            assert!(client.ask(CHAT, "typing:start", to.clone()).get("error").is_none());
        }
        client.ask(CHAT, "typing:stop", to.clone());
        client.ask(CHAT, "typing:start", to.clone());
        client.ask(CHAT, "typing:stop", to.clone());
        assert_eq!(client.refused(CHAT, "typing:start", to.clone())["code"], "RATE_LIMITED");
        assert!(client.ask(CHAT, "typing:stop", to.clone()).get("error").is_none());
    });
}

#[test]
fn backends_reach_the_namespace_that_the_event_is_for() {
    everywhere(&[], |broker, transport| {
        let ada = &*name("ada", transport);
        let mut client = Mobile::chat(broker.public, transport, ada);
        client.join(WALLET, ada);
        let mut publisher = broker.publisher();
        let mut publish = |line: Value| publisher.publish(line)["subscribers"].as_u64().unwrap();
        for (event, namespace) in [
            ("payment:notification", WALLET),
            ("wallet:updated", WALLET),
            ("notification", CHAT),
            ("message:custom", CHAT),
        ] {
            let line = json!({ "user": ada, "event": event, "data": { "n": 1.50 } });
            assert_eq!(publish(line), 1, "{event}");
            assert_eq!(client.expect(namespace, event), json!({ "n": 1.50 }));
        }
        let to_all = |event: &str| json!({ "broadcast": true, "event": event, "data": {} });
        assert_eq!(publish(to_all("maintenance")), 2);
        assert_eq!(publish(to_all("wallet:updated")), 2);
        for namespace in [CHAT, WALLET] {
            client.expect(namespace, "maintenance");
            client.expect(namespace, "wallet:updated");
            client.expect_nothing(namespace);
        }
        let only = |app: &str| json!({ "user": ada, "event": "notification", "app": app, "data": {} });
        assert_eq!(publish(only("market")), 0);
        assert_eq!(publish(only("mobile")), 1);
        client.expect(CHAT, "notification");
    });
}
