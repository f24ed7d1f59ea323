//! What the store can be asked: changes ([`Write`]) and questions ([`Query`]).
//!
//! The sender of a request has checked what it says (lengths, types, rates); the store checks who may do it, and what
//! depends on what is stored.

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use super::mobile::{MobileQuery, MobileWrite};
use super::support::{SupportQuery, SupportWrite};
use super::{Cursor, MessageType, NewAccount, NewRefreshToken, Person, TokenHash};
use crate::settings::Secret;

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Its type.
    pub kind: MessageType,
    /// Its content.
    pub content: Arc<str>,
    /// Its metadata, a JSON object; kept as it is written.
    pub metadata: Option<Arc<str>>,
    /// The sender's own name for it: a repeated one stores nothing.
    pub client_message_id: Option<SmolStr>,
    /// How long it is there once it was seen; only for [`MessageType::PhotoEphemeral`].
    pub ttl_seconds: Option<u32>,
}

/// A change.
#[derive(Clone, Debug)]
pub enum Write {
    /// Make a conversation, or find the one these two have. [`Answer::Conversation`](super::Answer::Conversation).
    CreateConversation {
        /// Who asks, one of the two; `None`: a backend.
        by: Option<Person>,
        /// The two.
        participants: [SmolStr; 2],
    },
    /// Say something. [`Answer::Sent`](super::Answer::Sent).
    Send {
        /// Who says it; `None`: a backend.
        by: Option<Person>,
        /// Where.
        conversation: Uuid,
        /// What.
        message: NewMessage,
    },
    /// All messages up to this one are read. [`Answer::Viewed`](super::Answer::Viewed).
    Read {
        /// By whom.
        by: Person,
        /// Where.
        conversation: Uuid,
        /// The newest that was read.
        message: Uuid,
    },
    /// Delete a message; either participant may (`spec/decisions.md` 4). [`Answer::Deleted`](super::Answer::Deleted).
    Delete {
        /// Who wants it gone.
        by: Person,
        /// Where it was said.
        conversation: Uuid,
        /// Which.
        message: Uuid,
    },
    /// A message was sent to a connection of its recipient. [`Answer::Delivered`](super::Answer::Delivered).
    Delivered {
        /// The recipient.
        to: SmolStr,
        /// Where it was said.
        conversation: Uuid,
        /// Which.
        message: Uuid,
    },
    /// Delete ephemeral photos whose time is over. The store asks this of itself; the answer is
    /// [`Answer::Expired`](super::Answer::Expired).
    Expire,
    /// Add a user of the identity provider. [`Answer::Account`](super::Answer::Account).
    AddAccount(NewAccount),
    /// Give a user a new password; all his refresh tokens end. [`Answer::Account`](super::Answer::Account).
    SetPassword {
        /// Whose, in any case of letters.
        email: SmolStr,
        /// The argon2id hash of the new one.
        password_hash: Secret,
    },
    /// Let a user sign in no more, or again. Disabling ends all his refresh tokens.
    /// [`Answer::Account`](super::Answer::Account).
    SetDisabled {
        /// Whose, in any case of letters.
        email: SmolStr,
        /// Whether he is disabled.
        disabled: bool,
    },
    /// Remove a user and his refresh tokens. What he has said remains. [`Answer::Account`](super::Answer::Account).
    RemoveAccount {
        /// Whose, in any case of letters.
        email: SmolStr,
    },
    /// Keep a refresh token. [`Answer::Done`](super::Answer::Done).
    SaveRefreshToken(NewRefreshToken),
    /// A refresh token was presented. [`Answer::Refreshed`](super::Answer::Refreshed).
    UseRefreshToken {
        /// Which.
        token: TokenHash,
        /// With rotation, the token that takes its place, and when that one ends.
        replacement: Option<(TokenHash, u64)>,
    },
    /// End all refresh tokens that came of one sign-in. [`Answer::Done`](super::Answer::Done).
    RevokeFamily {
        /// Which.
        family: Uuid,
    },
    /// A change of the app `mobile`. [`Answer::Mobile`](super::Answer::Mobile).
    Mobile(MobileWrite),
    /// A change of the app `support`. [`Answer::Support`](super::Answer::Support).
    Support(SupportWrite),
}

/// A question.
#[derive(Clone, Debug)]
pub enum Query {
    /// The user's conversations with unread messages, newest activity first.
    /// [`Answer::Conversations`](super::Answer::Conversations).
    Unread {
        /// Who asks.
        user: SmolStr,
        /// Most of them; at most [`Query::MOST_UNREAD`].
        limit: usize,
    },
    /// Users who share a conversation with this one, those of the newest first.
    /// [`Answer::Contacts`](super::Answer::Contacts).
    Contacts {
        /// Who asks.
        user: SmolStr,
        /// Most of them; at most [`Query::MOST_CONTACTS`].
        limit: usize,
    },
    /// Who takes part. [`Answer::Participants`](super::Answer::Participants).
    Participants {
        /// Who asks; `None`: a backend.
        user: Option<SmolStr>,
        /// Where.
        conversation: Uuid,
    },
    /// The user's conversations, newest activity first. [`Answer::Conversations`](super::Answer::Conversations).
    Conversations {
        /// Who asks.
        user: SmolStr,
        /// Conversations of a page, 1 to [`Query::MOST_OF_PAGE`].
        limit: usize,
        /// Where the page before ended.
        before: Option<Cursor>,
    },
    /// What was said, newest first. [`Answer::Messages`](super::Answer::Messages).
    Messages {
        /// Who asks.
        user: SmolStr,
        /// Where.
        conversation: Uuid,
        /// Messages of a page, 1 to [`Query::MOST_OF_PAGE`].
        limit: usize,
        /// The last message of the page before.
        before: Option<Uuid>,
    },
    /// Ephemeral photos whose time is over. [`Answer::Due`](super::Answer::Due).
    Due {
        /// The time by which it is over.
        now: u64,
    },
    /// The user with this address. [`Answer::FoundAccount`](super::Answer::FoundAccount).
    AccountByEmail {
        /// In any case of letters.
        email: SmolStr,
    },
    /// All users of the identity provider, by address. [`Answer::Accounts`](super::Answer::Accounts).
    Accounts {
        /// The address after which to begin; empty: with the first.
        after: SmolStr,
        /// Most of them.
        limit: usize,
    },
    /// A question of the app `mobile`. [`Answer::Mobile`](super::Answer::Mobile).
    Mobile(MobileQuery),
    /// A question of the app `support`. [`Answer::Support`](super::Answer::Support).
    Support(SupportQuery),
}

impl Query {
    /// Most rows of a page.
    pub const MOST_OF_PAGE: usize = 100;
    /// Most conversations that a client is told of when it connects.
    pub const MOST_UNREAD: usize = 1_000;
    /// Most contacts whose comings and goings a user is told of.
    pub const MOST_CONTACTS: usize = 10_000;
}
