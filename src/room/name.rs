//! The name of a room, hashed once.

use std::hash::{Hash, Hasher};

use smol_str::SmolStr;
use uuid::Uuid;

pub use crate::hash::hash;

/// A room's name with its hash. Short names, which most are, lie in the value itself; cloning a long one shares it.
///
/// Besides the rooms that clients and backends name there are internal ones, which no name from
/// outside can reach because names have no control characters (`spec/ingest.md`).
#[derive(Clone, Debug)]
pub struct RoomName {
    hash: u64,
    text: SmolStr,
}

impl RoomName {
    /// A room that clients and backends know by this name.
    pub fn named(text: &str) -> RoomName {
        RoomName { hash: hash(text), text: text.into() }
    }

    /// The internal room of those who watch a user's presence.
    pub fn presence(user: &str) -> RoomName {
        RoomName::named(&format!("\u{2}{user}"))
    }

    /// The internal room of an event type; `user` for the types that are a user's own.
    pub fn event_type(name: &str, user: Option<&str>) -> RoomName {
        match user {
            Some(user) => RoomName::named(&format!("\u{1}{name}:{user}")),
            None => RoomName::named(&format!("\u{1}{name}")),
        }
    }

    /// The internal room of a participant's connections that have joined a conversation.
    pub fn joined(conversation: Uuid, user: &str) -> RoomName {
        RoomName::named(&format!("\u{3}{conversation}:{user}"))
    }

    /// The internal room of a participant's connections to a support session.
    pub fn support(session: Uuid, user: &str) -> RoomName {
        RoomName::named(&format!("\u{4}{session}:{user}"))
    }

    /// The internal room of a user's connections to all of his support sessions at once.
    pub fn support_feed(user: &str) -> RoomName {
        RoomName::named(&format!("\u{5}{user}"))
    }

    /// The internal room of everyone.
    pub fn everyone() -> RoomName {
        RoomName::named("\u{0}")
    }

    /// Whether this is a room that has a name outside.
    pub fn is_public(&self) -> bool {
        !self.text.starts_with(char::is_control)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hash, the same for equal names on all threads of this process.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for RoomName {
    fn eq(&self, other: &RoomName) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for RoomName {}

impl Hash for RoomName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
