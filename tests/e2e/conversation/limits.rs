//! Rates, sizes and counts (`spec/limits.md`).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::chat::{Chat, chat_token};
use crate::support::{Broker, Client, each_shard_count, eventually};

#[track_caller]
fn retry_after(error: &Value) -> Duration {
    Duration::from_millis(error["details"]["retry_after_ms"].as_u64().unwrap_or_else(|| panic!("{error}")))
}

#[test]
fn messages_are_limited_for_all_connections_of_a_user_together() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards, "limits.messages = [\"3/1h\", \"100/1d\"]"]);
        chat.join();
        let mut phone = chat.broker.chat("ada");
        for n in 0..3 {
            let data = chat.text(&format!("{n}"));
            let client = if n == 1 { &mut phone } else { &mut chat.ada };
            client.send("message:send", data);
            for client in [&mut chat.ada, &mut phone] {
                assert_eq!(client.next()["event"], "message:new");
                assert_eq!(client.next()["event"], "message:delivered");
            }
        }
        let data = chat.text("too many");
        for client in [&mut chat.ada, &mut phone] {
            let error = client.chat_refused("message:send", data.clone(), "RATE_LIMITED");
            let wait = retry_after(&error);
            assert!(wait > Duration::from_secs(600) && wait <= Duration::from_secs(1_200), "{wait:?}");
        }
        // The rest goes on, and his messages are his.
        chat.bob.send("message:send", data);
        assert_eq!(chat.ada.next()["event"], "message:new");
        assert_eq!(chat.broker.history("bob", &chat.id).len(), 4);
    });
}

#[test]
fn who_waits_as_long_as_told_may_go_on() {
    let mut chat = Chat::start(&["limits.messages = [\"2/1s\"]"]);
    let data = chat.text("hi");
    let error = loop {
        chat.ada.send("message:send", data.clone());
        let answer = chat.ada.until(|message| message["event"] != "message:delivered");
        if answer["event"] == "error" {
            break answer["data"].clone();
        }
    };
    assert_eq!(error["code"], "RATE_LIMITED");
    std::thread::sleep(retry_after(&error));
    chat.ada.send("message:send", data);
    assert_eq!(chat.ada.until(|message| message["event"] != "message:delivered")["event"], "message:new");
}

#[test]
fn what_was_refused_for_another_reason_does_not_count() {
    let mut chat = Chat::start(&["limits.messages = [\"1/1h\"]"]);
    for _ in 0..5 {
        let empty = chat.text("");
        chat.ada.chat_refused("message:send", empty, "VALIDATION_ERROR");
    }
    chat.say_text("the only one");
    let more = chat.text("more");
    chat.ada.chat_refused("message:send", more, "RATE_LIMITED");
}

#[test]
fn changes_to_typing_are_limited_and_a_stop_is_never_refused() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards, "limits.typing = \"2/1h\""]);
        chat.join();
        for _ in 0..2 {
            for event in ["typing:start", "typing:start", "typing:stop", "typing:stop"] {
                chat.ada.send(event, chat.here());
            }
            assert_eq!(chat.bob.next()["data"]["is_typing"], true);
            assert_eq!(chat.bob.next()["data"]["is_typing"], false);
        }
        let here = chat.here();
        let error = chat.ada.chat_refused("typing:start", here.clone(), "RATE_LIMITED");
        assert!(retry_after(&error) > Duration::ZERO);
        chat.ada.send("typing:stop", here);
        chat.expect_nothing();
    });
}

#[test]
fn new_conversations_are_limited_and_known_ones_are_not() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.conversations = \"2/1d\""]);
        let create = |with: &str| {
            broker.rest("ada", "POST", "/api/v1/conversations", &json!({ "participant_id": with }))
        };
        for _ in 0..3 {
            assert!(matches!(create("bob").status, 200 | 201));
        }
        assert_eq!(create("carol").status, 201);
        let response = create("dan");
        assert_eq!((response.status, response.code().as_str()), (429, "RATE_LIMITED"));
        let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait), "{wait}");
        // Others may, and she may write where she is.
        broker.conversation("dan", "ada");
        let list = broker.rest("ada", "GET", "/api/v1/conversations", &Value::Null).json();
        assert_eq!(list["conversations"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn control_events_are_limited_and_repeated_abuse_ends_the_connection() {
    let mut chat = Chat::start(&["limits.control = \"3/1h\""]);
    for _ in 0..3 {
        chat.ada.ask("conversation:leave", chat.here(), "conversation:left");
    }
    for _ in 0..9 {
        chat.ada.chat_refused("conversation:join", chat.here(), "RATE_LIMITED");
    }
    chat.ada.send("conversation:join", chat.here());
    let texts = chat.ada.expect_close(1008);
    assert_eq!(texts.last().unwrap()["event"], "connection:closed", "{texts:?}");
    assert_eq!(texts.last().unwrap()["data"]["code"], 1008);
}

#[test]
fn a_user_has_5_connections() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let mut clients: Vec<Client> = (0..5).map(|_| broker.chat("ada")).collect();
        let authorization = format!("Bearer {}", chat_token("ada"));
        let open = || Client::try_open(broker.public, "/ws", &[("Authorization", &authorization)]);
        let response = open().err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (429, "CONNECTION_LIMIT"));
        assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        // They count for each app; REST is none.
        let _account = Client::account(broker.public, "ada");
        assert_eq!(broker.rest("ada", "GET", "/api/v1/conversations", &Value::Null).status, 200);
        clients.pop().unwrap().close();
        broker.wait_for_metric("fanfare_connections", &["app=\"conversation\""], 4.0);
        assert_eq!(
            open().unwrap_or_else(|refused| panic!("{refused:?}")).next()["event"],
            "connection:established"
        );
    });
}

#[test]
fn new_connections_of_a_user_are_limited() {
    let broker = Broker::start(&["limits.connects_per_user = \"2/1h\""]);
    broker.chat("ada").close();
    broker.chat("ada").close();
    let authorization = format!("Bearer {}", chat_token("ada"));
    let response =
        Client::try_open(broker.public, "/ws", &[("Authorization", &authorization)]).err().unwrap();
    assert_eq!((response.status, response.code().as_str()), (429, "RATE_LIMITED"));
    assert!(response.header("retry-after").is_some());
    broker.chat("bob");
}

#[test]
fn a_message_of_32_kib_is_taken_and_no_larger_one() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let frame = |content: &str| {
            json!({ "event": "message:send", "data": {
                "conversation_id": chat.id, "content": content, "type": "text", "metadata": { "encrypted": true } } })
            .to_string()
        };
        let room = 32_768 - frame("").len();
        let (fits, too_large) = (frame(&"x".repeat(room)), frame(&"x".repeat(room + 1)));
        assert_eq!(fits.len(), 32_768);
        chat.ada.text(fits);
        assert_eq!(chat.bob.next()["data"]["message"]["content"].as_str().unwrap().len(), room);
        chat.ada.until_event("message:delivered");
        chat.ada.text(too_large);
        let texts = chat.ada.expect_close(1009);
        let events: Vec<&str> = texts.iter().map(|text| text["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["error", "connection:closed"]);
        assert_eq!(texts[0]["data"]["code"], "MESSAGE_TOO_LARGE");
        assert_eq!(texts[1]["data"]["code"], 1009);
    });
}

#[test]
fn a_client_that_does_not_wait_for_the_store_is_told_to_slow_down_or_served() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards, "limits.messages = \"off\"", "limits.control = \"off\""]);
        chat.join();
        let began = Instant::now();
        for n in 0..500 {
            let data = chat.text(&format!("{n}"));
            chat.ada.send("message:send", data);
        }
        let (mut said, mut refused) = (0, 0);
        while said + refused < 500 {
            let message = chat.ada.until(|message| message["event"] != "message:delivered");
            match message["event"].as_str().unwrap() {
                "message:new" => said += 1,
                _ => {
                    assert_eq!(message["data"]["code"], "RATE_LIMITED", "{message}");
                    assert!(retry_after(&message["data"]) > Duration::ZERO);
                    refused += 1;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        assert!(said > 0);
        // What was said is there, once; what was refused is not.
        let mut count = 0;
        let mut before = String::new();
        loop {
            let path = format!("/api/v1/conversations/{}/messages?limit=100{before}", chat.id);
            let page = chat.broker.rest("bob", "GET", &path, &Value::Null).json();
            count += page["messages"].as_array().unwrap().len();
            match page["next_before"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        assert_eq!(count, said);
    });
}

#[test]
fn limits_that_are_read_again_count_from_then_on() {
    each_shard_count(|shards| {
        let mut chat =
            Chat::start(&[shards, "limits.messages = [\"1/1h\"]", "limits.conversations = \"1/1d\""]);
        chat.say_text("the only one");
        let data = chat.text("one more");
        chat.ada.chat_refused("message:send", data.clone(), "RATE_LIMITED");
        chat.broker.reload(&["limits.messages = \"off\"", "limits.conversations = \"off\""]);
        // The shards take it up each in its turn.
        eventually("the new limit", || {
            chat.ada.send("message:send", data.clone());
            let answer = chat.ada.until(|message| message["event"] != "message:delivered");
            (answer["event"] == "message:new").then_some(())
        });
        eventually("the other one", || {
            let create = |n: usize| json!({ "participant_id": format!("user-{n}") });
            let made = |n| chat.broker.rest("ada", "POST", "/api/v1/conversations", &create(n)).status == 201;
            (0..3).all(made).then_some(())
        });
    });
}
