//! Who is let in, what is confirmed, and how connections are counted.

use serde_json::json;

use super::{everywhere, expect_time};
use crate::support::mobile::{CHAT, Mobile, WALLET, rest};
use crate::support::socketio::{Socket, Transport};
use crate::support::token::{short_token, token};
use crate::support::{Broker, eventually};

#[test]
fn a_client_is_welcomed_and_confirmed_in_each_namespace() {
    everywhere(&[], |broker, transport| {
        let mut ada = Mobile::open(broker.public, transport);
        for (namespace, other) in [(CHAT, "bob"), (WALLET, "bob")] {
            let answer = ada.connect(namespace, json!({ "token": token("ada") })).unwrap();
            let welcome = ada.expect(namespace, &format!("{}:connected", &namespace[1..]));
            assert_eq!((&welcome["userId"], &welcome["socketId"]), (&json!("ada"), &answer["sid"]));
            assert!(answer["pid"].is_null(), "recovery is off: {answer}");
            expect_time(&welcome["timestamp"]);
            let register = json!({ "userId": "ada" });
            let registered = ada.request(namespace, "user:register", register, "user:registered");
            assert_eq!(registered, json!({ "userId": "ada", "socketId": answer["sid"] }));
            let error = ada.refused(namespace, "user:register", json!({ "userId": other }));
            assert_eq!(error["code"], "ACCESS_DENIED");
            let error = ada.refused(namespace, "user:register", json!({}));
            assert_eq!(
                (&error["code"], &error["details"]["field"]),
                (&json!("VALIDATION_ERROR"), &json!("userId"))
            );
            let beat = ada.request(namespace, "heartbeat", json!({}), "heartbeat:ack");
            expect_time(&beat["timestamp"]);
            assert_eq!(ada.refused(namespace, "price:subscribe", json!({}))["code"], "INVALID_MESSAGE");
        }
        let error = ada.refused(WALLET, "message:send", json!({ "recipientId": "bob", "content": "hi" }));
        assert_eq!(error["code"], "INVALID_MESSAGE");
    });
}

#[test]
fn a_room_is_known_by_the_other_user_and_by_its_own_id() {
    everywhere(&[], |broker, transport| {
        let mut ada = Mobile::chat(broker.public, transport, "ada");
        for room in ["bob", "ada~bob"] {
            let joined = ada.request(CHAT, "room:join", json!({ "roomId": room }), "room:joined");
            assert_eq!(joined["roomId"], "ada~bob");
            expect_time(&joined["timestamp"]);
        }
        let left = ada.request(CHAT, "room:leave", json!({ "roomId": "bob" }), "room:left");
        assert_eq!(left["roomId"], "ada~bob");
        assert_eq!(ada.refused(CHAT, "room:join", json!({ "roomId": "bob~carol" }))["code"], "ACCESS_DENIED");
        for bad in [json!({}), json!({ "roomId": "" }), json!({ "roomId": "ada" }), json!({ "roomId": [] })] {
            assert_eq!(ada.refused(CHAT, "room:join", bad)["code"], "VALIDATION_ERROR");
        }
    });
}

#[test]
fn a_token_is_needed_and_may_stand_in_the_query() {
    everywhere(&["auth.anonymous = true"], |broker, transport| {
        let mut nobody = Mobile::open(broker.public, transport);
        let refusal = nobody.connect(CHAT, json!({})).unwrap_err();
        assert!(refusal["message"].as_str().unwrap().starts_with("401"), "{refusal}");
        assert_eq!(refusal["data"]["code"], "AUTH_REQUIRED");
        let refusal = nobody.connect(WALLET, json!({ "token": short_token("ada", -60) })).unwrap_err();
        assert_eq!(refusal["data"]["code"], "TOKEN_EXPIRED");
        let more = format!("&token={}", token("ada"));
        let socket = Socket::open_with(broker.public, transport, &more, &[]);
        drop(socket);
    });
}

#[test]
fn a_token_that_ends_is_told_and_may_be_renewed() {
    everywhere(&[], |broker, transport| {
        let mut ada = Mobile::open(broker.public, transport);
        ada.connect(CHAT, json!({ "token": short_token("ada", -3) })).unwrap();
        ada.expect(CHAT, "chat:connected");
        ada.expect(CHAT, "token_expired");
        ada.emit(CHAT, "authenticate", json!({ "token": token("bob") }));
        assert_eq!(ada.expect(CHAT, "auth_error")["code"], "AUTH_REQUIRED");
        ada.emit(CHAT, "authenticate", json!({ "token": token("ada") }));
        assert_eq!(ada.expect(CHAT, "authenticated")["user"]["id"], "ada");
        ada.expect_nothing(CHAT);
    });
}

#[test]
fn namespaces_of_one_connection_count_once() {
    let settings = ["limits.connections_per_user = 1", "limits.connects_per_user = \"3/1m\""];
    everywhere(&settings, |broker, transport| {
        let user = &super::name("ada", transport);
        let mut first = Mobile::enter(broker.public, transport, WALLET, user);
        first.join(CHAT, user);
        let auth = || json!({ "token": token(user) });
        let mut second = Mobile::open(broker.public, transport);
        let refusal = second.connect(CHAT, auth()).unwrap_err();
        assert!(refusal["message"].as_str().unwrap().starts_with("429"), "{refusal}");
        assert_eq!(refusal["data"]["code"], "CONNECTION_LIMIT");
        // The other namespace has the place yet.
        first.leave(WALLET);
        first.expect_nothing(CHAT);
        assert_eq!(second.connect(CHAT, auth()).unwrap_err()["data"]["code"], "CONNECTION_LIMIT");
        first.leave(CHAT);
        eventually("the place is free", || second.connect(CHAT, auth()).ok());
        // That was the second of three; namespaces of one connection are one.
        second.join(WALLET, user);
        second.leave(WALLET);
        second.join(WALLET, user);
    });
}

#[test]
fn an_app_that_is_off_is_not_there() {
    let broker = Broker::start(&["apps.mobile = false"]);
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut ada = Mobile::open(broker.public, transport);
        let refusal = ada.connect(CHAT, json!({ "token": token("ada") })).unwrap_err();
        assert_eq!(refusal["message"], "Invalid namespace");
    }
    assert_eq!(rest(broker.public, "ada", "GET", "/api/wallet/balance", None).status, 404);
    let broker = Broker::start(&["apps.market = false"]);
    let mut ada = Mobile::chat(broker.public, Transport::WebSocket, "ada");
    ada.expect_nothing(CHAT);
    let mut market = Socket::open(broker.public, Transport::WebSocket);
    assert_eq!(market.connect(json!({ "token": token("ada") })).unwrap_err()["message"], "Invalid namespace");
}

#[test]
fn a_backends_disconnect_ends_a_connection_once() {
    everywhere(&[], |broker, transport| {
        let ada = &*super::name("ada", transport);
        let mut first = Mobile::chat(broker.public, transport, ada);
        first.join(WALLET, ada);
        let second = Mobile::enter(broker.public, transport, WALLET, ada);
        let line = json!({ "op": "disconnect", "user": ada, "code": 4001, "reason": "gone" });
        assert_eq!(broker.publisher().ask(line)["connections"], 2);
        // Nothing is left to be told.
        first.cut();
        second.cut();
    });
}

#[test]
fn market_and_mobile_share_a_connection() {
    everywhere(&[], |broker, transport| {
        let ada = &*super::name("ada", transport);
        let mut socket = Socket::market(broker.public, transport, ada);
        socket.send(&format!("40{CHAT},{}", json!({ "token": token(ada) })));
        let answer = socket.packet();
        assert!(answer.starts_with("40/chat,"), "{answer}");
        assert!(socket.packet().starts_with("42/chat,[\"chat:connected\""));
        let mut publisher = broker.publisher();
        let line = json!({ "user": ada, "event": "notification", "data": { "n": 1 } });
        let ack = publisher.publish(line);
        assert_eq!(ack["subscribers"], 2, "each namespace is a subscriber: {ack}");
        let mut packets = [socket.packet(), socket.packet()];
        packets.sort();
        assert_eq!(packets, [r#"42/chat,["notification",{"n":1}]"#, r#"42["notification",{"n":1}]"#]);
        if socket.polls() {
            socket.polling().post("1");
        }
    });
}
