//! `GET /ws-stats`: who is connected and types, over all shards, right whatever comes and goes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{agent_token, call, connect, connect_with, feed, next, session};
use crate::support::{Broker, Client, each_shard_count, eventually};

fn stats(broker: &Broker) -> Value {
    call(broker, "ada", "GET", "/ws-stats", Value::Null, 200)
}

#[test]
fn the_numbers_are_those_of_the_document() {
    each_shard_count(|shards| {
        // To look again and again is more than a user may.
        let broker = Broker::start(&[shards, "limits.control = \"off\""]);
        let nobody = json!({ "total_sessions": 0, "total_connections": 0, "average_users_per_session": 0.0, "sessions": {} });
        assert_eq!(stats(&broker), nobody);
        let (one, two) = (session(&broker, "ada", Some("gus")), session(&broker, "eve", None));
        let mut ada = connect(&broker, "ada", &one);
        let gus = connect_with(&broker, &agent_token("gus"), &one);
        let eve = connect(&broker, "eve", &two);
        let second = connect(&broker, "eve", &two);
        // One who is connected to all is connected to none.
        let _all = feed(&broker, "ada");
        ada.text(json!({ "message_type": "typing", "content": "true" }));
        let expected = json!({
            "total_sessions": 2, "total_connections": 4, "average_users_per_session": 1.5,
            "sessions": {
                one.as_str(): { "user_count": 2, "typing_count": 1 },
                two.as_str(): { "user_count": 1, "typing_count": 0 },
            },
        });
        eventually("the numbers", || (stats(&broker) == expected).then_some(()));
        for client in [ada, gus, eve, second] {
            client.close();
        }
        eventually("nobody", || (stats(&broker) == nobody).then_some(()));
    });
}

/// A few random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn the_numbers_are_right_under_churn() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.typing = \"off\"", "limits.control = \"off\""]);
        let users = ["ada", "bob", "cleo"];
        let sessions: Vec<String> = users.iter().map(|user| session(&broker, user, None)).collect();
        let mut dice = Dice(0x2545_F491_4F6C_DD1D);
        let mut open: Vec<(usize, usize, bool, Client)> = Vec::new();
        for _ in 0..150 {
            let at = dice.throw(open.len() + 1);
            match dice.throw(4) {
                0 | 1 => {
                    let (user, place) = (dice.throw(users.len()), dice.throw(sessions.len()));
                    let own = open.iter().filter(|one| one.0 == user && one.1 == place).count();
                    if own < 5 {
                        let client = connect_with(&broker, &agent_token(users[user]), &sessions[place]);
                        open.push((user, place, false, client));
                    }
                }
                2 if at < open.len() => {
                    let (.., client) = open.swap_remove(at);
                    match dice.throw(2) {
                        0 => client.close(),
                        // Without a word.
                        _ => drop(client),
                    }
                    // Its place is free when the server knows that it is gone.
                    eventually("the end", || {
                        (stats(&broker)["total_connections"] == open.len()).then_some(())
                    });
                }
                _ if at < open.len() => {
                    let (_, _, is_typing, client) = &mut open[at];
                    *is_typing = !*is_typing;
                    client.text(json!({ "message_type": "typing", "content": is_typing.to_string() }));
                }
                _ => {}
            }
            // What types for long stops by itself: it is begun anew before it does.
            for (_, _, _, client) in open.iter_mut().filter(|one| one.2) {
                client.text(json!({ "message_type": "typing", "content": "true" }));
            }
        }
        let mut expected: BTreeMap<String, Value> = BTreeMap::new();
        for (place, id) in sessions.iter().enumerate() {
            let mut here: Vec<_> =
                open.iter().filter(|one| one.1 == place).map(|one| (one.0, one.2)).collect();
            let mut typing: Vec<_> = here.iter().filter(|one| one.1).map(|one| one.0).collect();
            here.iter_mut().for_each(|one| one.1 = false);
            here.sort_unstable();
            here.dedup();
            typing.sort_unstable();
            typing.dedup();
            if !here.is_empty() {
                expected
                    .insert(id.clone(), json!({ "user_count": here.len(), "typing_count": typing.len() }));
            }
        }
        eventually("the recount", || {
            for (_, _, _, client) in open.iter_mut().filter(|one| one.2) {
                client.text(json!({ "message_type": "typing", "content": "true" }));
            }
            let stats = stats(&broker);
            let is_right = stats["sessions"] == json!(expected)
                && stats["total_connections"] == open.len()
                && stats["total_sessions"] == expected.len();
            is_right.then_some(())
        });
        for (_, _, _, client) in open {
            client.close();
        }
        eventually("nobody", || (stats(&broker)["total_connections"] == 0).then_some(()));
    });
}

#[test]
fn a_broker_that_drains_lets_all_go() {
    let mut broker = Broker::start(&["shards = 3"]);
    let id = session(&broker, "ada", None);
    let mut clients: Vec<Client> = (0..3).map(|_| connect(&broker, "ada", &id)).collect();
    clients[0].text(json!({ "message_type": "text", "content": "bye" }));
    clients.iter_mut().for_each(|client| drop(next(client, "message")));
    broker.signal(rustix::process::Signal::TERM);
    for mut client in clients {
        client.expect_close(1001);
    }
    assert!(broker.wait().success());
}
