//! Messages: said, delivered, read, deleted; and what is unread.

use serde_json::{Value, json};

use crate::support::chat::{Chat, id};
use crate::support::each_shard_count;

fn events(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["event"].as_str().unwrap()).collect()
}

#[test]
fn a_message_reaches_every_connection_of_both_once() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let mut clients = [chat.broker.chat("ada"), chat.broker.chat("bob"), chat.broker.chat("bob")];
        chat.join();
        for n in 0..20 {
            let content = format!("message {n}");
            chat.ada.send("message:send", chat.text(&content));
            let new = chat.ada.next();
            assert_eq!(
                (&new["event"], &new["data"]["message"]["content"]),
                (&json!("message:new"), &json!(content))
            );
            for client in clients.iter_mut().chain([&mut chat.bob]) {
                assert_eq!(client.until_event("message:new")["data"], new["data"]);
            }
            // Once, though two of his connections were sent it, and to both of her connections.
            for client in [&mut chat.ada, &mut clients[0]] {
                let delivered = client.next();
                assert_eq!(delivered["event"], "message:delivered", "{delivered}");
                assert_eq!(delivered["data"]["message_id"], new["data"]["message"]["id"]);
            }
        }
        chat.expect_nothing();
    });
}

#[test]
fn a_message_to_somebody_who_is_away_is_delivered_when_nobody_knows() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let carol = chat.broker.conversation("ada", "carol");
        let text = |content: &str| json!({ "conversation_id": carol, "content": content, "type": "text" });
        for n in 1..=3 {
            chat.ada.send("message:send", text(&format!("{n}")));
            assert_eq!(chat.ada.next()["event"], "message:new");
        }
        assert_eq!(chat.before_ada(), [json!(null); 0]);
        assert_eq!(chat.broker.unread("carol", &carol), 3);
        // She is told when she comes what she has not read.
        let mut client = chat.broker.chat("carol");
        let unread = client.next();
        assert_eq!(unread["event"], "conversation:unread", "{unread}");
        assert_eq!(
            (&unread["data"]["conversation_id"], &unread["data"]["unread_count"]),
            (&json!(carol), &json!(3))
        );
        assert_eq!(unread["data"]["last_message"]["content"], "3");
        assert_eq!(chat.ada.next()["event"], "user:online");
        chat.ada.send("message:send", text("4"));
        assert_eq!(client.next()["event"], "message:new");
        assert_eq!(client.next()["data"]["unread_count"], 4);
    });
}

#[test]
fn unread_is_told_to_who_has_not_joined() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let mut phone = chat.broker.chat("bob");
        for n in 1..=2 {
            let said = chat.text(&format!("{n}"));
            chat.ada.send("message:send", said);
            for client in [&mut chat.bob, &mut phone] {
                assert_eq!(client.next()["event"], "message:new");
                let unread = client.next();
                assert_eq!(
                    (&unread["event"], &unread["data"]["unread_count"]),
                    (&json!("conversation:unread"), &json!(n))
                );
                assert_eq!(unread["data"]["last_message"]["content"], format!("{n}"));
            }
        }
        // One connection that has joined is enough; the count goes on.
        let here = chat.here();
        phone.ask("conversation:join", here.clone(), "conversation:joined");
        chat.ada.send("message:send", chat.text("3"));
        assert_eq!(chat.bob.next()["event"], "message:new");
        assert_eq!(phone.next()["event"], "message:new");
        assert_eq!(chat.before_bob(), [json!(null); 0]);
        phone.until_event("marker");
        phone.ask("conversation:leave", here, "conversation:left");
        chat.ada.send("message:send", chat.text("4"));
        for client in [&mut chat.bob, &mut phone] {
            assert_eq!(client.next()["event"], "message:new");
            assert_eq!(client.next()["data"]["unread_count"], 4);
        }
        // Her own messages are not unread for her.
        assert_eq!(chat.broker.unread("ada", &chat.id), 0);
        assert!(!events(&chat.before_ada()).contains(&"conversation:unread"));
    });
}

#[test]
fn a_connection_that_goes_has_left_what_it_joined() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let mut phone = chat.broker.chat("bob");
        phone.ask("conversation:join", chat.here(), "conversation:joined");
        drop(phone);
        chat.broker.wait_for_metric("fanfare_connections", &["app=\"conversation\""], 2.0);
        chat.ada.send("message:send", chat.text("hi"));
        assert_eq!(chat.bob.next()["event"], "message:new");
        assert_eq!(chat.bob.next()["event"], "conversation:unread");
    });
}

#[test]
fn what_was_read_is_told_to_both_and_counts_all_before_it() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let ids: Vec<String> = (0..4).map(|n| chat.say_text(&format!("{n}"))).collect();
        assert_eq!(chat.broker.unread("bob", &chat.id), 4);
        // To both joined or not.
        let request = chat.at(&ids[2]);
        chat.bob.send("message:read", request.clone());
        for client in [&mut chat.ada, &mut chat.bob] {
            let viewed = client.next();
            assert_eq!(viewed["event"], "message:viewed", "{viewed}");
            assert_eq!(
                (&viewed["data"]["message_id"], &viewed["data"]["conversation_id"]),
                (&json!(ids[2]), &json!(chat.id))
            );
        }
        assert_eq!(chat.broker.unread("bob", &chat.id), 1);
        for reader in ["ada", "bob"] {
            let read: Vec<Value> = chat
                .broker
                .history(reader, &chat.id)
                .iter()
                .rev()
                .map(|message| message["is_read"].clone())
                .collect();
            assert_eq!(read, [true, true, true, false], "{reader}");
        }
        // Once more, and an earlier one: it is answered, and nobody else is told.
        for message in [&ids[2], &ids[0]] {
            let viewed = {
                let at = chat.at(message);
                chat.bob.ask("message:read", at, "message:viewed")
            };
            assert_eq!(viewed["message_id"], **message);
        }
        chat.expect_nothing();
        // It survives a new connection: one remains.
        let mut phone = chat.broker.chat("bob");
        assert_eq!(phone.next()["data"]["unread_count"], 1);
    });
}

#[test]
fn either_deletes_a_message_and_its_content_is_gone() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let ids: Vec<String> = (0..3).map(|n| chat.say_text(&format!("secret {n}"))).collect();
        // The sender, then the recipient (decision 4).
        for (who, message) in [("ada", &ids[0]), ("bob", &ids[2])] {
            let request = chat.at(message);
            let client = if who == "ada" { &mut chat.ada } else { &mut chat.bob };
            client.send("message:delete", request.clone());
            for client in [&mut chat.ada, &mut chat.bob] {
                let deleted = client.next();
                assert_eq!(deleted["event"], "message:deleted", "{deleted}");
                assert_eq!(
                    (&deleted["data"]["message_id"], &deleted["data"]["deleted_by"]),
                    (&json!(message), &json!(who))
                );
            }
            // What is unread has changed, and he has not joined.
            let unread = chat.bob.next();
            assert_eq!(unread["event"], "conversation:unread", "{unread}");
            let client = if who == "ada" { &mut chat.ada } else { &mut chat.bob };
            client.ask("message:delete", request, "message:deleted");
            chat.expect_nothing();
        }
        assert_eq!(chat.broker.unread("bob", &chat.id), 1);
        let left = chat.broker.history("bob", &chat.id);
        let contents: Vec<&str> = left.iter().map(|message| message["content"].as_str().unwrap()).collect();
        assert!(!contents.contains(&"secret 0") && !contents.contains(&"secret 2"), "{contents:?}");
        assert!(contents.contains(&"secret 1"), "{contents:?}");
        let list = chat.broker.rest("bob", "GET", "/api/v1/conversations", &Value::Null).json();
        assert_eq!(list["conversations"][0]["last_message"]["content"], "secret 1", "{list}");
    });
}

#[test]
fn a_repeated_name_of_the_senders_is_the_same_message() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let named = |content: &str, name: &str| json!({ "conversation_id": chat.id, "content": content, "type": "text", "client_message_id": name });
        let (once, again, his) = (named("once", "n-1"), named("again", "n-1"), named("his", "n-1"));
        let first = chat.say(once.clone());
        for data in [once.clone(), again] {
            let repeated = chat.ada.ask("message:send", data, "message:new");
            assert_eq!(repeated["message"], first);
        }
        chat.expect_nothing();
        // Names are each sender's own.
        chat.bob.send("message:send", his);
        let new = chat.ada.until_event("message:new");
        assert_ne!(new["data"]["message"]["id"], first["id"]);
        // And hold after a reconnect, and for two at once.
        let mut phone = chat.broker.chat("ada");
        phone.until_event("conversation:unread");
        let repeated = phone.ask("message:send", once, "message:new");
        assert_eq!(repeated["message"]["id"], first["id"]);
        let twice =
            json!({ "conversation_id": chat.id, "content": "x", "type": "text", "client_message_id": "n-2" });
        chat.ada.send("message:send", twice.clone());
        phone.send("message:send", twice);
        let ids = [&mut chat.ada, &mut phone]
            .map(|client| id(&client.until_event("message:new")["data"]["message"]));
        assert_eq!(ids[0], ids[1]);
        assert_eq!(chat.broker.history("bob", &chat.id).len(), 3);
    });
}

#[test]
fn many_messages_at_once_from_both_come_in_one_order_to_all() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards, "limits.messages = \"off\""]);
        chat.join();
        // Fewer than may wait for the store.
        for n in 0..50 {
            let (hers, his) = (chat.text(&n.to_string()), chat.text(&n.to_string()));
            chat.ada.send("message:send", hers);
            chat.bob.send("message:send", his);
        }
        let [hers, his] = [&mut chat.ada, &mut chat.bob].map(|client| {
            let new = (0..100).map(|_| client.until_event("message:new")["data"]["message"].clone());
            new.collect::<Vec<Value>>()
        });
        assert_eq!(hers, his);
        for name in ["ada", "bob"] {
            let own: Vec<&str> = hers
                .iter()
                .filter(|message| message["sender_id"] == name)
                .map(|message| message["content"].as_str().unwrap())
                .collect();
            assert_eq!(own, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
        }
    });
}
