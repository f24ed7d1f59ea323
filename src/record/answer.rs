//! What the store says: the answer to who asked ([`Answer`] or [`Refusal`]), and what others are to be told ([`Effect`]).

use std::fmt;

use smol_str::SmolStr;
use uuid::Uuid;

use super::mobile::{MobileAnswer, MobileEffect};
use super::support::{SupportAnswer, SupportEffect};
use super::{Account, Conversation, Message, Person, Refreshed, TokenFault};

/// The answer to a request that was carried out. What it tells is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing more to say.
    Done,
    /// The conversation of these two.
    Conversation {
        /// As who asked sees it.
        conversation: Box<Conversation>,
        /// Whether it was made now.
        first: bool,
    },
    /// The message is stored.
    Sent {
        /// The message.
        message: Message,
        /// Whether it was stored now. `false`: this is what the first with its `client_message_id` became, and nobody was
        /// told anything.
        first: bool,
    },
    /// Read.
    Viewed {
        /// The conversation.
        conversation: Uuid,
        /// The message.
        message: Uuid,
        /// When.
        viewed_at: u64,
        /// Messages that who asked has not read yet.
        unread: u64,
        /// Whether anything was unread before.
        first: bool,
    },
    /// Gone.
    Deleted {
        /// The conversation.
        conversation: Uuid,
        /// The message.
        message: Uuid,
        /// By whom; `None`: its time was over.
        by: Option<SmolStr>,
        /// When.
        at: u64,
        /// Whether it was deleted now.
        first: bool,
    },
    /// Noted.
    Delivered {
        /// Whether this was the first time, and the sender was told.
        first: bool,
    },
    /// Ephemeral photos were deleted.
    Expired {
        /// How many.
        count: usize,
    },
    /// Who takes part, in the order of their ids.
    Participants([SmolStr; 2]),
    /// Conversations, newest activity first.
    Conversations(Vec<Conversation>),
    /// A page of messages, newest first.
    Messages(Page),
    /// Users.
    Contacts(Vec<SmolStr>),
    /// Messages whose time is over, the oldest first.
    Due(Vec<Uuid>),
    /// The user as he is now, or as he was.
    Account(Box<Account>),
    /// The user that was looked for.
    FoundAccount(Option<Box<Account>>),
    /// Users of the identity provider.
    Accounts(Vec<Account>),
    /// The refresh token is good.
    Refreshed(Box<Refreshed>),
    /// To a request of the app `mobile`.
    Mobile(MobileAnswer),
    /// To a request of the app `support`.
    Support(Box<SupportAnswer>),
}

/// A page of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The messages, newest first.
    pub messages: Vec<Message>,
    /// The `before` of the next page; `None`: there is none.
    pub next_before: Option<Uuid>,
}

/// Why a request was not carried out. Nothing has changed, but where [`TokenFault`] says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such thing.
    NotFound(&'static str),
    /// It exists, and who asks has no part in it.
    Forbidden,
    /// The request makes no sense.
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong, and what would be right.
        error: &'static str,
    },
    /// Another user has this address.
    EmailTaken,
    /// The refresh token is not good.
    Token(TokenFault),
    /// Our fault; the log has the same id.
    Internal {
        /// To be found in the log.
        error_id: Uuid,
    },
    /// The session is closed.
    Closed,
    /// The session has as many participants as it may have.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFound(what) => write!(f, "there is no such {what}"),
            Refusal::Forbidden => f.write_str("you take no part in this conversation"),
            Refusal::Invalid { field, error } => write!(f, "{field}: {error}"),
            Refusal::EmailTaken => f.write_str("another user has this address: use a different one"),
            Refusal::Token(fault) => fault.fmt(f),
            Refusal::Internal { error_id } => {
                write!(f, "the store failed: try again; the log says more beside the id {error_id}")
            }
            Refusal::Closed => f.write_str("the session is closed: open another one"),
            Refusal::Full => f.write_str("the session is full: nobody else can take part in it"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What others are to be told of a change that is durable. Each has all that they need to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Two users have become contacts.
    ConversationNew {
        /// The conversation.
        conversation: Uuid,
        /// The two.
        participants: [SmolStr; 2],
    },
    /// To both participants.
    MessageNew {
        /// The two.
        participants: [SmolStr; 2],
        /// The message.
        message: Message,
        /// Who said it; `None`: a backend.
        sender: Option<Person>,
        /// What each of those who have not read it has unread now.
        unread: Vec<(SmolStr, u64)>,
    },
    /// To both participants.
    Viewed {
        /// The conversation.
        conversation: Uuid,
        /// The two.
        participants: [SmolStr; 2],
        /// The newest message that was read.
        message: Uuid,
        /// By whom.
        by: SmolStr,
        /// When.
        viewed_at: u64,
        /// What the reader has unread now.
        unread: u64,
    },
    /// To both participants.
    Deleted {
        /// The conversation.
        conversation: Uuid,
        /// The two.
        participants: [SmolStr; 2],
        /// The message.
        message: Uuid,
        /// By whom; `None`: its time was over.
        by: Option<SmolStr>,
        /// When.
        at: u64,
        /// What each of those has unread now for whom that changed.
        unread: Vec<(SmolStr, u64)>,
        /// The newest message that remains, where anything changed in what is unread.
        last: Option<Box<Message>>,
    },
    /// To the sender.
    Delivered {
        /// The conversation.
        conversation: Uuid,
        /// The message.
        message: Uuid,
        /// Its sender.
        sender: SmolStr,
        /// When.
        delivered_at: u64,
    },
    /// Of the app `mobile`.
    Mobile(MobileEffect),
    /// Of the app `support`.
    Support(SupportEffect),
}
