//! One who talks: sends with several messages under way, reads what is said to it, and keeps book of what it was told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support;
pub use crate::support::Client;

/// Messages under way at once.
const WINDOW: usize = 8;
/// Of so many messages that come, one is answered with `message:read`.
const READ_EVERY: u64 = 7;

/// When to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// When the broker has gone.
    Never,
    /// When all that was sent is acknowledged; nothing new is said.
    Settled,
}

/// A user over all lives of the broker.
pub struct User {
    pub name: String,
    pub conversation: String,
    /// Messages have the numbers from 0.
    sent: usize,
    /// Numbers not acknowledged, in the order of sending.
    under_way: VecDeque<usize>,
    /// Numbers acknowledged.
    pub acknowledged: Vec<usize>,
    /// Messages of the other that this user was told are read.
    pub viewed: Vec<String>,
    /// How many were sent again.
    pub repeated: usize,
    heard: u64,
}

impl User {
    pub fn new(name: String, conversation: String) -> User {
        User {
            name,
            conversation,
            sent: 0,
            under_way: VecDeque::new(),
            acknowledged: Vec::new(),
            viewed: Vec::new(),
            repeated: 0,
            heard: 0,
        }
    }

    /// Numbers below this one have been sent.
    pub fn sent(&self) -> usize {
        self.sent
    }

    pub fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    pub fn connect(&self, address: SocketAddr) -> Client {
        let bearer = format!("Bearer {}", support::token::token(&self.name));
        Client::open(address, "/ws", &[("Authorization", &bearer)])
    }

    /// Sends first again what was not acknowledged, under the same names, then new messages, until the goal is reached or
    /// the connection ends.
    pub fn talk(&mut self, mut client: Client, goal: Goal, acknowledged: &Sender<()>) {
        self.repeated += self.under_way.len();
        let again: Vec<usize> = self.under_way.iter().copied().collect();
        for number in again {
            if client.try_text(self.message(number)).is_err() {
                return;
            }
        }
        loop {
            while goal == Goal::Never && self.under_way.len() < WINDOW {
                self.under_way.push_back(self.sent);
                self.sent += 1;
                if client.try_text(self.message(self.sent - 1)).is_err() {
                    return self.rest(client, acknowledged);
                }
            }
            if goal == Goal::Settled && self.is_settled() {
                return client.close();
            }
            // What came before the end is read to the end.
            let Ok(message) = client.try_frame() else { return };
            if let Some(answer) = self.hear(message, acknowledged)
                && client.try_text(answer).is_err()
            {
                return self.rest(client, acknowledged);
            }
        }
    }

    /// The broker has gone; what it had said before counts.
    fn rest(&mut self, mut client: Client, acknowledged: &Sender<()>) {
        while let Ok(message) = client.try_frame() {
            self.hear(message, acknowledged);
        }
    }

    fn message(&self, number: usize) -> Value {
        let name = format!("{}-{number}", self.name);
        json!({ "event": "message:send", "data": {
            "conversation_id": self.conversation,
            "type": "text",
            "content": "Are you coming tonight?",
            "client_message_id": name,
            // Histories do not say under which name a message was sent.
            "metadata": { "number": number },
        }})
    }

    /// Takes one message; returns what it is to be answered with.
    fn hear(&mut self, message: Message, acknowledged: &Sender<()>) -> Option<Value> {
        let Message::Text(text) = message else { return None };
        let value: Value = serde_json::from_str(&text).unwrap();
        let data = &value["data"];
        match value["event"].as_str().unwrap() {
            "message:new" if data["message"]["sender_id"] == self.name.as_str() => {
                let number = data["message"]["metadata"]["number"].as_u64().unwrap() as usize;
                // A repetition may be answered behind later messages, and of two connections only one asks.
                let at = self.under_way.iter().position(|under_way| *under_way == number);
                self.under_way.remove(at.unwrap_or_else(|| panic!("acknowledged twice: {text}")));
                self.acknowledged.push(number);
                // The one who counts may have heard enough.
                let _ = acknowledged.send(());
                None
            }
            "message:new" => {
                self.heard += 1;
                let is_read = self.heard.is_multiple_of(READ_EVERY);
                is_read.then(|| {
                    json!({ "event": "message:read", "data": {
                        "conversation_id": self.conversation,
                        "message_id": data["message"]["id"],
                    }})
                })
            }
            "message:viewed" => {
                self.viewed.push(data["message_id"].as_str().unwrap().to_owned());
                None
            }
            "error" => panic!("{}: {text}", self.name),
            _ => None,
        }
    }
}
