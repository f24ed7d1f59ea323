//! What the store keeps, is asked and answers, as values: people, conversations, messages, accounts, wallets.
//!
//! The apps read and write these; the store (`store/`) turns them into rows. Nothing here knows databases, JSON, clients
//! or threads. Times are milliseconds since the Unix epoch. `spec/conversation.md` and `spec/auth.md` ("Issuing tokens")
//! give the meaning.

mod account;
mod answer;
pub mod mobile;
mod request;
pub mod support;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

pub use account::{Account, NewAccount, NewRefreshToken, Refreshed, TokenFault, TokenHash};
pub use answer::{Answer, Effect, Page, Refusal};
pub use request::{NewMessage, Query, Write};

/// A user as others are shown him. What a token does not say leaves what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// The user's id, the `sub` of the token.
    pub id: SmolStr,
    /// The newest `username` of his tokens.
    pub username: Option<SmolStr>,
    /// The newest `avatar_url` of his tokens.
    pub avatar_url: Option<SmolStr>,
}

impl Person {
    /// Somebody of whom nothing but the id is known.
    pub fn unknown(id: impl Into<SmolStr>) -> Person {
        Person { id: id.into(), username: None, avatar_url: None }
    }
}

/// The type of a message (`spec/conversation.md`, "Message types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Words.
    Text,
    /// The address of a picture.
    Photo,
    /// The same, gone some seconds after it was seen.
    PhotoEphemeral,
    /// A place.
    Location,
    /// A gift.
    Gift,
    /// From a backend.
    System,
}

impl MessageType {
    /// All of them.
    pub const ALL: [MessageType; 6] = [
        MessageType::Text,
        MessageType::Photo,
        MessageType::PhotoEphemeral,
        MessageType::Location,
        MessageType::Gift,
        MessageType::System,
    ];

    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            MessageType::Text => "text",
            MessageType::Photo => "photo",
            MessageType::PhotoEphemeral => "photo_ephemeral",
            MessageType::Location => "location",
            MessageType::Gift => "gift",
            MessageType::System => "system",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<MessageType> {
        MessageType::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, UUID v7.
    pub id: Uuid,
    /// Where it was said.
    pub conversation: Uuid,
    /// Who said it; `None`: a backend.
    pub sender: Option<SmolStr>,
    /// Its type.
    pub kind: MessageType,
    /// Its content; empty once it is deleted.
    pub content: Arc<str>,
    /// Its metadata, a JSON object as it was written.
    pub metadata: Option<Arc<str>>,
    /// The sender's own name for it.
    pub client_message_id: Option<SmolStr>,
    /// When it was stored.
    pub created_at: u64,
    /// When it last changed.
    pub updated_at: u64,
    /// Whether the recipient has read it. A message of a backend: whether the one who asks has.
    pub is_read: bool,
    /// When it was deleted. Histories have no deleted messages, answers to repeated requests may.
    pub deleted_at: Option<u64>,
}

/// A conversation as one of its two participants sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id, UUID v7.
    pub id: Uuid,
    /// The two, in the order of their ids.
    pub participants: [Person; 2],
    /// When it was made.
    pub created_at: u64,
    /// When the newest message was stored, or the conversation made.
    pub last_activity: u64,
    /// Messages that the one who asks has not read; 0 for a backend.
    pub unread: u64,
    /// The newest message that is not deleted.
    pub last_message: Option<Message>,
    /// Where the list goes on after this conversation.
    pub cursor: Cursor,
}

/// A place in a user's list of conversations. Written and read as text, which means nothing to anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The conversation's last activity when it was listed.
    pub last_activity: u64,
    /// Which of several of the same millisecond.
    pub conversation: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.last_activity, self.conversation)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let (last_activity, conversation) = text.split_once('-').ok_or(BadCursor)?;
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // Beyond what the database counts to.
            true => digits.parse().ok().filter(|number| *number <= i64::MAX as u64).ok_or(BadCursor),
            false => Err(BadCursor),
        };
        Ok(Cursor { last_activity: number(last_activity)?, conversation: number(conversation)? })
    }
}

/// A text that is no [`Cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a place in the list: use the value that the page before gave")
    }
}

impl std::error::Error for BadCursor {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_as_written() {
        let cursor = Cursor { last_activity: 1_747_751_400_123, conversation: 42 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "-", "1", "1-", "-1", "+1-2", "1-2-3", "x-1", "1-99999999999999999999", "1 -2"] {
            assert_eq!(wrong.parse::<Cursor>(), Err(BadCursor), "{wrong}");
        }
    }

    #[test]
    fn message_types_read_back_as_written() {
        for kind in MessageType::ALL {
            assert_eq!(MessageType::named(kind.as_str()), Some(kind));
        }
        assert_eq!(MessageType::named("video"), None);
    }
}
