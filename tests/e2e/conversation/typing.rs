//! Typing, joining and leaving.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::chat::Chat;
use crate::support::{Client, each_shard_count};

#[track_caller]
fn expect_typing(client: &mut Client, user: &str, is_typing: bool) {
    let indicator = client.next();
    assert_eq!(indicator["event"], "typing:indicator", "{indicator}");
    assert_eq!(
        (&indicator["data"]["user_id"], &indicator["data"]["is_typing"]),
        (&json!(user), &json!(is_typing))
    );
}

#[test]
fn typing_is_told_to_the_others_connections_that_have_joined() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        let here = chat.here();
        // Nobody has joined; she need not have.
        chat.ada.send("typing:start", here.clone());
        chat.ada.send("typing:stop", here.clone());
        chat.ada.ask("conversation:join", here.clone(), "conversation:joined");
        chat.expect_nothing();
        let mut phone = chat.broker.chat("bob");
        phone.ask("conversation:join", here.clone(), "conversation:joined");
        for is_typing in [true, false, true, false] {
            let event = if is_typing { "typing:start" } else { "typing:stop" };
            // What changes nothing is not told.
            (0..3).for_each(|_| chat.ada.send(event, here.clone()));
            expect_typing(&mut phone, "ada", is_typing);
        }
        chat.expect_nothing();
        phone.until_event("marker");
        // He types on one connection, she sees it; his own other one does not.
        chat.bob.send("typing:start", here.clone());
        expect_typing(&mut chat.ada, "bob", true);
        phone.ask("conversation:leave", here.clone(), "conversation:left");
        chat.bob.send("typing:stop", here.clone());
        expect_typing(&mut chat.ada, "bob", false);
        chat.ada.send("typing:start", here.clone());
        chat.ada.send("typing:stop", here);
        chat.expect_nothing();
        assert_eq!(phone.next()["event"], "marker");
    });
}

#[test]
fn typing_ends_by_itself_after_5_seconds() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        chat.join();
        let began = Instant::now();
        chat.ada.send("typing:start", chat.here());
        expect_typing(&mut chat.bob, "ada", true);
        expect_typing(&mut chat.bob, "ada", false);
        assert!(began.elapsed() >= Duration::from_millis(4_900), "{:?}", began.elapsed());
        chat.expect_nothing();
    });
}

#[test]
fn typing_ends_with_the_connection() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        chat.join();
        let (mut first, mut second) = (chat.broker.chat("ada"), chat.broker.chat("ada"));
        first.send("typing:start", chat.here());
        expect_typing(&mut chat.bob, "ada", true);
        let began = Instant::now();
        first.close();
        expect_typing(&mut chat.bob, "ada", false);
        second.send("typing:start", chat.here());
        expect_typing(&mut chat.bob, "ada", true);
        // Without a close.
        drop(second);
        expect_typing(&mut chat.bob, "ada", false);
        assert!(began.elapsed() < Duration::from_millis(4_500), "it ended by itself");
    });
}

#[test]
fn a_start_with_its_stop_behind_it_is_told_in_order() {
    each_shard_count(|shards| {
        let mut chat = Chat::start(&[shards]);
        chat.bob.ask("conversation:join", chat.here(), "conversation:joined");
        // The store is asked at the first one; the client does not wait.
        let here = chat.here();
        for event in ["typing:start", "typing:stop"].iter().cycle().take(20) {
            chat.ada.send(event, here.clone());
        }
        expect_typing(&mut chat.bob, "ada", true);
        // Some of it may be told as it comes, each start before its stop.
        let mut is_typing = true;
        while is_typing {
            for told in chat.before_bob() {
                assert_eq!(told["data"]["is_typing"], !is_typing, "{told}");
                is_typing = !is_typing;
            }
        }
    });
}

#[test]
fn joining_twice_and_leaving_what_was_not_joined_are_answered() {
    let mut chat = Chat::start(&[]);
    let here = chat.here();
    for (event, answer) in [
        ("conversation:leave", "conversation:left"),
        ("conversation:join", "conversation:joined"),
        ("conversation:join", "conversation:joined"),
        ("conversation:leave", "conversation:left"),
        ("conversation:leave", "conversation:left"),
    ] {
        assert_eq!(chat.ada.ask(event, here.clone(), answer)["conversation_id"], json!(chat.id));
    }
    chat.expect_nothing();
    chat.broker.wait_for_metric("fanfare_connections", &["app=\"conversation\""], 2.0);
    let before: Vec<Value> = chat.before_bob();
    assert!(before.is_empty(), "{before:?}");
}
