//! How a client comes in: where its token stands, what is refused, and a token that ends.

use serde_json::{Value, json};

use crate::support::chat::{Chat, chat_token, chat_token_for};
use crate::support::http::{self, Response};
use crate::support::token::short_token;
use crate::support::{Broker, Client, each_shard_count};

fn refusal(broker: &Broker, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let response = Client::try_open(broker.public, path, headers).err().expect("a refusal");
    (response.status, response.code())
}

#[test]
fn without_a_good_token_there_is_no_upgrade() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let bearer = |token: &str| format!("Bearer {token}");
        assert_eq!(refusal(&broker, "/ws?app=conversation", &[]), (401, "AUTH_REQUIRED".to_owned()));
        for wrong in ["", "x", "a.b.c"] {
            let (status, code) = refusal(&broker, "/ws", &[("Authorization", &bearer(wrong))]);
            assert_eq!((status, code.as_str()), (401, "AUTH_REQUIRED"), "{wrong}");
        }
        let expired = bearer(&short_token("ada", -60));
        assert_eq!(
            refusal(&broker, "/ws", &[("Authorization", &expired)]),
            (401, "TOKEN_EXPIRED".to_owned())
        );
        broker.wait_for_zero();
    });
}

#[test]
fn a_token_may_stand_in_the_subprotocol_or_with_the_app_in_the_query() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let token = chat_token("ada");
        let protocol = format!("fanfare.bearer, {token}");
        let mut client = Client::open(broker.public, "/ws", &[("Sec-WebSocket-Protocol", &protocol)]);
        assert_eq!(client.response.header("sec-websocket-protocol"), Some("fanfare.bearer"));
        assert_eq!(client.next()["event"], "connection:established");
        let mut client = Client::open(broker.public, &format!("/ws?app=conversation&token={token}"), &[]);
        assert_eq!(client.next()["event"], "connection:established");
        // A token in the query alone is the app account, which is silent.
        let authorization = format!("Bearer {token}");
        let mut phone = Client::open(broker.public, "/ws?app=account", &[("Authorization", &authorization)]);
        phone.text(r#"{"type":"ping"}"#);
        assert_eq!(phone.next()["type"], "pong");
    });
}

#[test]
fn an_app_that_is_switched_off_is_not_found() {
    let broker = Broker::start(&["apps.conversation = false"]);
    let authorization = format!("Bearer {}", chat_token("ada"));
    let response =
        Client::try_open(broker.public, "/ws", &[("Authorization", &authorization)]).err().unwrap();
    assert_eq!(response.status, 404);
    let status = |response: Response| response.status;
    assert_eq!(status(broker.rest("ada", "GET", "/api/v1/conversations", &Value::Null)), 404);
    let reply = broker.publisher().ask(json!({ "op": "conversation.create", "participants": ["a", "b"] }));
    assert_eq!((&reply["ok"], &reply["error"]["code"]), (&json!(false), &json!("NOT_FOUND")), "{reply}");
}

#[test]
fn a_token_that_ends_is_renewed_and_the_connection_keeps_what_it_joined() {
    each_shard_count(|shards| {
        let chat = Chat::start(&[shards]);
        let mut bob = chat.bob;
        bob.ask("conversation:join", json!({ "conversation_id": chat.id }), "conversation:joined");
        let mut ada = Client::chat_with(&chat.broker, &chat_token_for("ada", 2));
        ada.ask("conversation:join", json!({ "conversation_id": chat.id }), "conversation:joined");
        assert_eq!(ada.next()["event"], "token_expired");
        let error = ada.ask("authenticate", json!({ "token": chat_token("eve") }), "auth_error");
        assert!(error["code"].is_string() && error["error"].is_string(), "{error}");
        let error = ada.ask("authenticate", json!({ "token": short_token("ada", -60) }), "auth_error");
        assert_eq!(error["code"], "TOKEN_EXPIRED", "{error}");
        let done = ada.ask("authenticate", json!({ "token": chat_token("ada") }), "authenticated");
        assert_eq!(done["user"]["id"], "ada", "{done}");
        bob.send("typing:start", json!({ "conversation_id": chat.id }));
        assert_eq!(ada.next()["event"], "typing:indicator");
        ada.send("message:send", json!({ "conversation_id": chat.id, "content": "hi", "type": "text" }));
        assert_eq!(ada.next()["event"], "message:new");
    });
}

#[test]
fn who_does_not_renew_is_told_and_closed() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "auth.grace = \"1s\""]);
        let mut ada = Client::chat_with(&broker, &chat_token_for("ada", 1));
        let texts = ada.expect_close(1008);
        let events: Vec<&str> = texts.iter().map(|text| text["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["token_expired", "connection:closed"]);
        assert_eq!(texts[1]["data"]["code"], 1008);
        drop(ada);
        broker.wait_for_zero();
    });
}

#[test]
fn a_backend_closes_and_the_client_is_told() {
    let mut chat = Chat::start(&[]);
    let mut publisher = chat.broker.publisher();
    let reply = publisher.ask(json!({ "op": "disconnect", "user": "ada", "code": 4001, "reason": "bye" }));
    assert_eq!(reply["connections"], 1, "{reply}");
    let texts = chat.ada.expect_close(4001);
    assert_eq!(texts[0]["event"], "connection:closed");
    assert_eq!(texts[0]["data"]["code"], 4001);
}

#[test]
fn a_user_may_be_anybody_a_token_names() {
    let broker = Broker::start(&[]);
    let names = ["0", "жанна", "a\"b\\c", "o'neill; --", &"x".repeat(128)];
    for user in names {
        let id = broker
            .rest("ada", "POST", "/api/v1/conversations", &json!({ "participant_id": user }))
            .json()["id"]
            .clone();
        let mut client = Client::chat_with(&broker, &chat_token_for(user, 60));
        client.send("message:send", json!({ "conversation_id": id, "content": "hi", "type": "text" }));
        let new = client.until_event("message:new");
        assert_eq!(
            (&new["data"]["message"]["sender_id"], &new["data"]["sender"]["username"]),
            (&json!(user), &json!(user))
        );
    }
    let list = broker.rest("ada", "GET", "/api/v1/conversations", &Value::Null).json();
    assert_eq!(list["conversations"].as_array().unwrap().len(), names.len());
}

#[test]
fn a_plain_request_to_the_path_of_the_socket_is_told_to_upgrade() {
    let broker = Broker::start(&[]);
    let authorization = format!("Bearer {}", chat_token("ada"));
    let response = http::request(broker.public, "GET", "/ws", &[("Authorization", &authorization)], b"");
    assert_eq!(response.status, 426, "{response:?}");
}
