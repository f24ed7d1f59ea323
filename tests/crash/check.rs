//! What a broker says over REST that has just been started, beside what its users were told before.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::support::http::Connection;
use crate::support::{Broker, token};
use crate::talk::User;

/// A message as the history has it.
struct Said {
    id: String,
    sender: String,
    number: usize,
    is_read: bool,
}

/// One conversation.
pub struct History {
    /// Oldest first.
    messages: Vec<Said>,
    /// `unread_count` of each of the pair.
    unread: Vec<u64>,
}

fn get(connection: &mut Connection, user: &User, path: &str) -> Value {
    let bearer = format!("Bearer {}", token::token(&user.name));
    let response = connection.ask("GET", path, &[("Authorization", &bearer)], b"");
    assert_eq!(response.status, 200, "{path}: {response:?}");
    response.json()
}

impl History {
    /// All pages.
    pub fn read(broker: &Broker, pair: &[User]) -> History {
        let mut connection = Connection::open(broker.public);
        let path = format!("/api/v1/conversations/{}/messages?limit=100", pair[0].conversation);
        let (mut messages, mut before) = (Vec::new(), String::new());
        loop {
            let page = get(&mut connection, &pair[0], &format!("{path}{before}"));
            messages.extend(page["messages"].as_array().unwrap().iter().map(Said::of));
            let Some(next) = page["next_before"].as_str() else { break };
            before = format!("&before={next}");
        }
        messages.reverse();
        let unread = pair.iter().map(|user| {
            let list = get(&mut connection, user, "/api/v1/conversations");
            let [only] = &list["conversations"].as_array().unwrap()[..] else { panic!("{list}") };
            assert_eq!(only["id"], user.conversation.as_str());
            only["unread_count"].as_u64().unwrap()
        });
        History { unread: unread.collect(), messages }
    }

    pub fn check(&self, pair: &[User]) {
        let ids: HashSet<&str> = self.messages.iter().map(|said| &*said.id).collect();
        assert_eq!(ids.len(), self.messages.len(), "a message is on two pages");
        for (user, (other, unread)) in pair.iter().zip(pair.iter().rev().zip(&self.unread)) {
            self.check_said(user);
            self.check_read(user, other);
            let is_unread = |said: &&Said| said.sender == other.name && !said.is_read;
            let count = self.messages.iter().filter(is_unread).count() as u64;
            assert_eq!(*unread, count, "unread of {}", user.name);
        }
    }

    /// What a user has sent.
    fn check_said(&self, user: &User) {
        let own = self.messages.iter().filter(|said| said.sender == user.name);
        let numbers: Vec<usize> = own.map(|said| said.number).collect();
        let mut times = HashMap::<usize, u32>::new();
        numbers.iter().for_each(|number| *times.entry(*number).or_default() += 1);
        for number in &user.acknowledged {
            assert_eq!(times.get(number), Some(&1), "{}-{number} was acknowledged", user.name);
        }
        for (number, times) in &times {
            assert!(*number < user.sent() && *times == 1, "{}-{number} is there {times} times", user.name);
        }
        assert!(numbers.is_sorted(), "{}: {numbers:?}", user.name);
        if user.is_settled() {
            assert_eq!(numbers.len(), user.sent(), "{}: all were sent, and acknowledged", user.name);
        }
    }

    /// What a user was told is read, by itself or by the other.
    fn check_read(&self, user: &User, other: &User) {
        let viewed: HashSet<&str> = user.viewed.iter().map(String::as_str).collect();
        let read = self.messages.iter().filter(|said| viewed.contains(&*said.id));
        let mut count = 0;
        for said in read {
            assert!(said.is_read, "{} and {} were told that {} is read", user.name, other.name, said.id);
            count += 1;
        }
        assert_eq!(count, viewed.len(), "a message that was read is there");
    }
}

impl Said {
    fn of(message: &Value) -> Said {
        let text = |key: &str| message[key].as_str().unwrap().to_owned();
        Said {
            id: text("id"),
            sender: text("sender_id"),
            number: message["metadata"]["number"].as_u64().unwrap() as usize,
            is_read: message["is_read"].as_bool().unwrap(),
        }
    }
}
