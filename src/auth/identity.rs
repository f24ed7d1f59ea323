//! Who a verified token says its bearer is, and which rooms that opens.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The bearer of a verified token. One per connection, so what is rare is boxed.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The user: 1–128 bytes without control characters.
    pub user: Arc<str>,
    /// When the connection must have a new token, Unix seconds.
    pub expires_at: u64,
    /// What most tokens do not say.
    pub details: Option<Box<Details>>,
}

/// The optional claims.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Shown to other users.
    pub username: Option<Box<str>>,
    /// Shown to other users.
    pub avatar_url: Option<Box<str>>,
    /// Whether the roles name `agent`: may take part in every support session.
    pub agent: bool,
    /// Whether the roles name `admin`: may join every room.
    pub admin: bool,
    /// Rooms that may be joined beyond the defaults.
    pub rooms: Box<[RoomGrant]>,
}

/// An entry of the `rooms` claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomGrant {
    /// This room.
    Room(Box<str>),
    /// Every room of this prefix, which ends with its colon (`news:*` → `news:`).
    Prefix(Box<str>),
}

impl RoomGrant {
    /// Reads an entry. A lone `*` names no prefix and so opens nothing.
    pub(super) fn from_claim(entry: &str) -> RoomGrant {
        match entry.strip_suffix('*') {
            Some(prefix) if prefix.len() > 1 && prefix.ends_with(':') => RoomGrant::Prefix(prefix.into()),
            _ => RoomGrant::Room(entry.into()),
        }
    }

    /// The entry as the claim has it.
    fn to_claim(&self) -> String {
        match self {
            RoomGrant::Room(name) => name.to_string(),
            RoomGrant::Prefix(prefix) => format!("{prefix}*"),
        }
    }

    fn opens(&self, room: &str) -> bool {
        match self {
            RoomGrant::Room(name) => **name == *room,
            RoomGrant::Prefix(prefix) => room.starts_with(&**prefix) && room.len() > prefix.len(),
        }
    }
}

impl Details {
    /// What [`Identity::may_join`] says, for who keeps only the details.
    pub fn may_join(&self, room: &str) -> bool {
        self.admin || self.rooms.iter().any(|grant| grant.opens(room))
    }

    /// The roles that mean something here, as the claim names them.
    pub fn roles(&self) -> Vec<&'static str> {
        let roles = [(self.agent, "agent"), (self.admin, "admin")];
        roles.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
    }
}

impl Details {
    /// The claims that say this, for another token of the same bearer.
    pub fn to_claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        for (name, text) in [("username", &self.username), ("avatar_url", &self.avatar_url)] {
            if let Some(text) = text {
                claims.insert(name.to_owned(), Value::from(&**text));
            }
        }
        let roles = self.roles();
        if !roles.is_empty() {
            claims.insert("roles".to_owned(), Value::from(roles));
        }
        let rooms: Vec<String> = self.rooms.iter().map(RoomGrant::to_claim).collect();
        if !rooms.is_empty() {
            claims.insert("rooms".to_owned(), Value::from(rooms));
        }
        claims
    }
}

impl Identity {
    /// Whether the token itself opens the room: by its `rooms` claim or the role `admin`. What every user may
    /// join, and a user's own rooms, are not its business.
    pub fn may_join(&self, room: &str) -> bool {
        self.details.as_ref().is_some_and(|details| details.may_join(room))
    }

    /// Whether the roles name `admin`.
    pub fn is_admin(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.admin)
    }

    /// Whether the roles name `agent`.
    pub fn is_agent(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.agent)
    }
}
