//! What one client has asked for and was told: all that the model needs to know of it, however its bytes travel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::model::{room_source, type_source, user_source};
use crate::net::Stamp;

/// Something that a client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// It is connected.
    Opened,
    /// It is connected again, and has missed nothing. What it had asked for and was not answered may have been done.
    Recovered {
        joins: Vec<String>,
        leaves: Vec<String>,
    },
    Joined(String),
    Left(String),
    Subscribed(Vec<String>),
    Unsubscribed(String),
    /// An event, with its number.
    Event(u64),
    /// An error, with its code.
    Refused(String),
    /// A close frame, or a packet that says the same.
    Closed(u16),
    Other,
}

/// How the stream of a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After a whole frame.
    Whole,
    /// Inside a frame.
    Torn,
    /// The client stopped looking.
    Ignored,
}

/// Which contract it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Account,
    Market,
}

/// A request that is not answered yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// To be in these sources.
    Join(Vec<String>),
    /// To be in it no more.
    Leave(String),
}

/// The life of one client, as it sees it.
pub struct Log {
    /// The shard that it is on, or was on last.
    pub shard: usize,
    /// `None`: anonymous.
    pub user: Option<String>,
    pub kind: Kind,
    pub is_socketio: bool,
    /// What it was told, with how far the shard had come when it wrote it.
    pub told: Vec<(Item, Stamp)>,
    /// For each room and type: how far the shard had come when the client asked to leave it, in order.
    pub leaves: BTreeMap<String, VecDeque<Stamp>>,
    /// For each room and type that it has ever asked for: how much it had been told each time.
    pub asked: BTreeMap<String, Vec<usize>>,
    /// What is not answered yet, in the order it was asked for.
    pub wants: Vec<Want>,
    /// Acknowledgements that are still to come.
    pub acks: BTreeSet<u64>,
    /// Requests that are to be answered once each.
    pub requests: usize,
    /// Those that subscribe to types.
    pub subscribes: usize,
    /// Messages, which are answered only if they are refused.
    pub messages: usize,
    /// Its events have waited for its socket, or its next poll.
    pub was_blocked: bool,
    /// It has lost its connection, and may have been away.
    pub was_cut: bool,
    /// It has ended, or is ending.
    pub leaving: bool,
    pub end: Option<End>,
}

impl Log {
    pub fn new(shard: usize, user: Option<String>, kind: Kind) -> Log {
        Log {
            shard,
            user,
            kind,
            is_socketio: false,
            told: Vec::new(),
            leaves: BTreeMap::new(),
            asked: BTreeMap::new(),
            wants: Vec::new(),
            acks: BTreeSet::new(),
            requests: 0,
            subscribes: 0,
            messages: 0,
            was_blocked: false,
            was_cut: false,
            leaving: false,
            end: None,
        }
    }

    /// What a room is to this client: its own is its user itself.
    pub fn room_source(&self, room: &str) -> String {
        match (room.strip_prefix("user:"), &self.user) {
            (Some(id), Some(own)) if id == own => user_source(own),
            _ => room_source(room),
        }
    }

    /// What a type is to this client.
    pub fn type_source(&self, name: &str) -> String {
        type_source(name, self.user.as_deref())
    }

    /// Whether all subscriptions are confirmed.
    pub fn is_subscribed(&self) -> bool {
        let done = self.told.iter().filter(|(item, _)| matches!(item, Item::Subscribed(_)));
        done.count() == self.subscribes
    }

    /// Whether it may still ask for something.
    pub fn is_open(&self) -> bool {
        !self.leaving
            && self.end.is_none()
            && !self.told.is_empty()
            && !self.told.iter().rev().any(|(item, _)| matches!(item, Item::Closed(_)))
    }

    /// It asks to be in a source.
    pub fn ask(&mut self, source: &str) {
        self.asked.entry(source.to_owned()).or_default().push(self.told.len());
    }

    /// It is told something.
    pub fn tell(&mut self, item: Item, stamp: Stamp) {
        let answers = |want: &Want| match (want, &item) {
            (Want::Join(sources), Item::Joined(room)) => *sources == [self.room_source(room)],
            (Want::Join(sources), Item::Subscribed(types)) => {
                types.iter().map(|name| self.type_source(name)).eq(sources.iter().cloned())
            }
            (Want::Leave(source), Item::Left(room)) => *source == self.room_source(room),
            (Want::Leave(source), Item::Unsubscribed(name)) => *source == self.type_source(name),
            _ => false,
        };
        if let Some(answered) = self.wants.iter().position(answers) {
            self.wants.remove(answered);
        }
        self.told.push((item, stamp));
    }

    /// It is connected again. Answers that were on their way when it was cut off do not come any more.
    pub fn recover(&mut self, stamp: Stamp) {
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        for want in self.wants.drain(..) {
            match want {
                Want::Join(sources) => joins.extend(sources),
                Want::Leave(source) => leaves.push(source),
            }
        }
        let (done, refused) = self.answered();
        self.requests = done + refused;
        self.messages = 0;
        self.subscribes = self.told.iter().filter(|(item, _)| matches!(item, Item::Subscribed(_))).count();
        self.acks.clear();
        self.was_cut = true;
        self.was_blocked = true;
        self.told.push((Item::Recovered { joins, leaves }, stamp));
    }

    /// How many requests were done, and how many refused.
    pub fn answered(&self) -> (usize, usize) {
        let (mut done, mut refused) = (0, 0);
        for (item, _) in &self.told {
            match item {
                Item::Joined(_) | Item::Left(_) | Item::Subscribed(_) | Item::Unsubscribed(_) => done += 1,
                Item::Refused(_) => refused += 1,
                _ => {}
            }
        }
        (done, refused)
    }

    /// It is gone, and looks at nothing any more.
    pub fn give_up(&mut self) {
        self.leaving = true;
        self.end.get_or_insert(End::Ignored);
    }
}

/// What a message tells, by its name and data.
pub fn item(name: Option<&str>, data: &Value) -> Item {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(number) = data["n"].as_u64().or_else(|| data["message"]["n"].as_u64()) {
        return Item::Event(number);
    }
    match name {
        Some("room_joined") => Item::Joined(text(&data["room"])),
        Some("room_left") => Item::Left(text(&data["room"])),
        Some("subscribed") => {
            Item::Subscribed(data["types"].as_array().expect("a list").iter().map(text).collect())
        }
        Some("unsubscribed") => Item::Unsubscribed(text(&data["type"])),
        Some("error") => Item::Refused(text(&data["code"])),
        Some(_) => Item::Other,
        None => panic!("a message without a name: {data}"),
    }
}
