//! What was acknowledged is there after the broker has gone, whether it was asked to go or killed.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::broker::TemporaryDirectory;
use crate::support::chat::Chat;
use crate::support::{Broker, each_shard_count};

#[test]
fn a_killed_broker_has_everything_it_acknowledged() {
    each_shard_count(|shards| {
        let directory = TemporaryDirectory::new();
        let store = format!("store.path = {:?}", directory.path("store.db"));
        let mut chat = Chat::start(&[shards, &store, "limits.messages = \"off\""]);
        let mut said = Vec::new();
        for n in 0..20 {
            let data = json!({
                "conversation_id": chat.id, "content": format!("{n}"), "type": "text", "client_message_id": format!("n-{n}") });
            chat.ada.send("message:send", data);
        }
        for _ in 0..20 {
            said.push(chat.ada.until_event("message:new")["data"]["message"].clone());
        }
        let request = chat.at(said[14]["id"].as_str().unwrap());
        chat.bob.send("message:read", request);
        chat.bob.until_event("message:viewed");
        let request = chat.at(said[3]["id"].as_str().unwrap());
        chat.ada.send("message:delete", request);
        chat.ada.until_event("message:deleted");
        let id = chat.id.clone();
        // Dropping kills it.
        drop(chat);
        let broker = Broker::start(&[shards, &store]);
        assert_eq!(broker.conversation("bob", "ada"), id);
        assert_eq!((broker.unread("bob", &id), broker.unread("ada", &id)), (5, 0));
        let mut history = broker.history("ada", &id);
        history.reverse();
        said.remove(3);
        for message in &mut said[..14] {
            message["is_read"] = json!(true);
        }
        assert_eq!(history, said);
        let mut bob = broker.chat("bob");
        let unread = bob.next();
        assert_eq!(
            (&unread["event"], &unread["data"]["unread_count"]),
            (&json!("conversation:unread"), &json!(5))
        );
        // A name that was used before the restart is still used.
        let mut ada = broker.chat("ada");
        let again =
            json!({ "conversation_id": id, "content": "again", "type": "text", "client_message_id": "n-19" });
        let repeated = ada.ask("message:send", again, "message:new");
        assert_eq!(repeated["message"]["content"], "19");
        assert_eq!(broker.history("ada", &id).len(), 19);
    });
}

#[test]
fn a_broker_that_is_killed_in_the_middle_loses_nothing_it_acknowledged() {
    each_shard_count(|shards| {
        let directory = TemporaryDirectory::new();
        let store = format!("store.path = {:?}", directory.path("store.db"));
        let mut chat = Chat::start(&[shards, &store, "limits.messages = \"off\""]);
        let mut publisher = chat.broker.publisher();
        for n in 0..60 {
            let data = chat.text(&n.to_string());
            chat.ada.send("message:send", data);
            publisher
                .send(json!({ "op": "conversation.message", "id": n.to_string(), "conversation_id": chat.id,
                "type": "system", "content": n.to_string() }));
        }
        let hers = |message: &Value| message["sender_id"] == "ada";
        let mut acknowledged: Vec<Value> = (0..10)
            .map(|_| {
                let new = chat
                    .ada
                    .until(|event| event["event"] == "message:new" && hers(&event["data"]["message"]));
                new["data"]["message"]["id"].clone()
            })
            .collect();
        acknowledged.extend((0..10).map(|_| publisher.reply()["message_id"].clone()));
        chat.broker.signal(Signal::KILL);
        chat.broker.wait();
        let id = chat.id.clone();
        drop(chat);
        let broker = Broker::start(&[shards, &store]);
        let mut history = Vec::new();
        let mut path = format!("/api/v1/conversations/{id}/messages?limit=100");
        loop {
            let page = broker.rest("bob", "GET", &path, &Value::Null).json();
            history.extend(page["messages"].as_array().unwrap().clone());
            let Some(next) = page["next_before"].as_str() else { break };
            path = format!("/api/v1/conversations/{id}/messages?limit=100&before={next}");
        }
        for message in &acknowledged {
            assert!(history.iter().any(|stored| stored["id"] == *message), "{message}");
        }
        // Each of the two said its own in order, so what is there is a beginning of it.
        history.reverse();
        let (own, system): (Vec<Value>, Vec<Value>) = history.iter().cloned().partition(hers);
        for part in [own, system] {
            let contents: Vec<&str> =
                part.iter().map(|message| message["content"].as_str().unwrap()).collect();
            assert_eq!(contents, (0..part.len()).map(|n| n.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(broker.unread("bob", &id), history.len() as u64);
    });
}

#[test]
fn a_drain_tells_the_clients_and_keeps_what_was_sent_before() {
    each_shard_count(|shards| {
        let directory = TemporaryDirectory::new();
        let store = format!("store.path = {:?}", directory.path("store.db"));
        let mut chat = Chat::start(&[shards, &store, "limits.messages = \"off\""]);
        for n in 0..50 {
            let data = chat.text(&format!("{n}"));
            chat.ada.send("message:send", data);
        }
        // Everything is on its way; the first has come.
        chat.ada.until_event("message:new");
        chat.broker.signal(Signal::TERM);
        let texts = chat.ada.expect_close(1001);
        let closed = texts.last().unwrap();
        assert_eq!(
            (&closed["event"], &closed["data"]["reason"], &closed["data"]["code"]),
            (&json!("connection:closed"), &json!("going_away"), &json!(1001))
        );
        assert_eq!(chat.bob.expect_close(1001).last().unwrap()["event"], "connection:closed");
        let acknowledged = 1 + texts.iter().filter(|text| text["event"] == "message:new").count();
        let id = chat.id.clone();
        drop((chat.ada, chat.bob));
        assert_eq!(chat.broker.wait().code(), Some(0));
        drop(chat.broker);
        let broker = Broker::start(&[shards, &store]);
        let history = broker.history("bob", &id);
        // No fewer than were acknowledged, in their order, without a gap.
        assert!(history.len() >= acknowledged, "{} < {acknowledged}", history.len());
        let contents: Vec<&str> =
            history.iter().rev().map(|message| message["content"].as_str().unwrap()).collect();
        assert_eq!(contents, (0..history.len()).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(broker.unread("bob", &id), history.len() as u64);
    });
}

#[test]
fn names_of_users_are_remembered() {
    let directory = TemporaryDirectory::new();
    let store = format!("store.path = {:?}", directory.path("store.db"));
    let mut chat = Chat::start(&[&store]);
    chat.say_text("hi");
    chat.bob.send("message:send", chat.text("hi"));
    chat.bob.until_event("message:delivered");
    drop(chat);
    let broker = Broker::start(&[&store]);
    let list = broker.rest("ada", "GET", "/api/v1/conversations", &Value::Null).json();
    let names: Vec<&Value> = list["conversations"][0]["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|person| &person["username"])
        .collect();
    assert_eq!(names, ["Ada", "Bob"]);
}

#[test]
fn a_store_that_cannot_be_opened_is_told_at_the_start() {
    let directory = TemporaryDirectory::new();
    let text = directory.write("text.db", &"this is no database\n".repeat(1_000));
    for path in [directory.path("nothing/here.db"), text.clone()] {
        let log = Broker::try_start(&[&format!("store.path = {path:?}")]).err().expect("no start");
        assert!(log.contains(&*path.display().to_string()), "{log}");
    }
    // Nor has it been touched.
    assert_eq!(std::fs::read(text).unwrap(), "this is no database\n".repeat(1_000).into_bytes());
}
