//! Sessions of the app `support`: what the store keeps of them, is asked, answers and has told (`spec/support.md`).

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: SmolStr,
    /// Whether his token names the role `agent`: he may take part in every session that is not closed.
    pub is_agent: bool,
}

/// What a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who needs help.
    User,
    /// Who gives it.
    Agent,
}

impl Role {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Agent => "agent",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Role> {
        [Role::User, Role::Agent].into_iter().find(|role| role.as_str() == name)
    }
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatType {
    /// Words.
    Text,
    /// A file that was uploaded elsewhere.
    File,
    /// The same, a picture.
    Image,
}

impl ChatType {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChatType::Text => "text",
            ChatType::File => "file",
            ChatType::Image => "image",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<ChatType> {
        [ChatType::Text, ChatType::File, ChatType::Image].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where a file lies, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its http or https address.
    pub url: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its length in bytes, if the sender said it.
    pub size: Option<u64>,
    /// Its media type, if the sender said it.
    pub kind: Option<Arc<str>>,
}

/// What is to be said in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChatMessage {
    /// Its type.
    pub kind: ChatType,
    /// Its content.
    pub content: Arc<str>,
    /// The message of this session that it answers.
    pub reply_to: Option<Uuid>,
    /// Users it names; those who take no part are dropped.
    pub mentions: Vec<SmolStr>,
    /// Of a file or an image.
    pub file: Option<File>,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is stored.
    Sent,
    /// A connection of another participant was sent it.
    Delivered,
    /// Another participant has read it.
    Read,
}

impl Progress {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Progress::Sent => "sent",
            Progress::Delivered => "delivered",
            Progress::Read => "read",
        }
    }
}

/// A stored message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Its id, UUID v7.
    pub id: Uuid,
    /// Where it was said.
    pub session: Uuid,
    /// Who said it.
    pub sender: SmolStr,
    /// What was said; the mentions are those that count.
    pub said: NewChatMessage,
    /// When it was stored.
    pub created_at: u64,
    /// How far it has come.
    pub progress: Progress,
    /// Other participants who have read it.
    pub read_by: u64,
}

/// A session as the one who asks sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatSession {
    /// Its id, UUID v7.
    pub id: Uuid,
    /// What it is about.
    pub title: Arc<str>,
    /// Who made it.
    pub initiator: SmolStr,
    /// The agent it was given to.
    pub assigned_agent: Option<SmolStr>,
    /// When it was made.
    pub created_at: u64,
    /// When an agent first took part: came, or said something.
    pub started_at: Option<u64>,
    /// When it was closed.
    pub closed_at: Option<u64>,
    /// Messages that are there for the one who asks.
    pub total: u64,
    /// Those of others among them that he has not read; 0 for one who takes no part.
    pub unread: u64,
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatParticipant {
    /// The id of his part, UUID v7.
    pub id: Uuid,
    /// Who he is.
    pub user: SmolStr,
    /// What he is.
    pub role: Role,
    /// Since when he takes part.
    pub joined_at: u64,
    /// Whether he still does: until the session is closed.
    pub is_active: bool,
    /// When he last marked messages as read.
    pub last_read_at: Option<u64>,
}

/// A participant, for who passes things on to him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who he is.
    pub user: SmolStr,
    /// The other participants of whom he wants to hear nothing.
    pub blocks: Vec<SmolStr>,
}

/// A change.
#[derive(Clone, Debug)]
pub enum SupportWrite {
    /// Make a session. [`SupportAnswer::Session`].
    Create {
        /// Who asks.
        by: Caller,
        /// What it is about.
        title: Arc<str>,
        /// The agent it is given to, who takes part in it from the start.
        agent: Option<SmolStr>,
    },
    /// Somebody connects to a session, where agents become participants. [`SupportAnswer::Entered`].
    Enter {
        /// Who.
        by: Caller,
        /// Where.
        session: Uuid,
    },
    /// Say something. [`SupportAnswer::Sent`].
    Send {
        /// Who.
        by: Caller,
        /// Where.
        session: Uuid,
        /// What.
        message: NewChatMessage,
    },
    /// Close a session; once more changes nothing. [`SupportAnswer::Closed`].
    Close {
        /// Who.
        by: Caller,
        /// Which.
        session: Uuid,
    },
    /// All messages up to this one are read. [`SupportAnswer::Read`].
    MarkRead {
        /// Who.
        by: Caller,
        /// Where.
        session: Uuid,
        /// The newest that was read.
        message: Uuid,
    },
    /// From now on a user hears nothing of another one. [`SupportAnswer::Done`].
    Block {
        /// Who does not want to hear.
        user: SmolStr,
        /// Of whom.
        blocked: SmolStr,
    },
    /// He hears of him again. [`SupportAnswer::Done`].
    Unblock {
        /// Who.
        user: SmolStr,
        /// Of whom.
        blocked: SmolStr,
    },
    /// A message was sent to a connection of another participant. [`SupportAnswer::Done`].
    Delivered {
        /// Which.
        message: Uuid,
    },
}

/// A question.
#[derive(Clone, Debug)]
pub enum SupportQuery {
    /// The sessions of the one who asks, the newest first; an agent's are also those that nobody was given.
    /// [`SupportAnswer::Sessions`].
    Sessions {
        /// Who asks.
        by: Caller,
        /// Only those that are closed, or that are not.
        closed: Option<bool>,
        /// Sessions of the page, 1 to [`SupportQuery::MOST_OF_PAGE`].
        limit: usize,
        /// Sessions before it.
        offset: u64,
    },
    /// One session. [`SupportAnswer::Session`].
    Session {
        /// Who asks.
        by: Caller,
        /// Which.
        session: Uuid,
    },
    /// What was said, the newest last. [`SupportAnswer::Messages`].
    Messages {
        /// Who asks.
        by: Caller,
        /// Where.
        session: Uuid,
        /// Messages of the page, 1 to [`SupportQuery::MOST_OF_PAGE`].
        limit: usize,
        /// Newer messages than those of the page.
        offset: u64,
    },
    /// Who takes part. [`SupportAnswer::Participants`].
    Participants {
        /// Who asks.
        by: Caller,
        /// Where.
        session: Uuid,
    },
}

impl SupportQuery {
    /// Most rows of a page (`spec/support.md`).
    pub const MOST_OF_PAGE: usize = 200;
}

/// An answer. What it tells is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum SupportAnswer {
    /// Nothing more to say.
    Done,
    /// The session.
    Session(ChatSession),
    /// The sessions.
    Sessions(Vec<ChatSession>),
    /// Who asked takes part.
    Entered {
        /// Nothing can be said any more.
        is_closed: bool,
    },
    /// The message is stored.
    Sent(ChatMessage),
    /// The session is closed.
    Closed,
    /// It is read, since then.
    Read {
        /// When.
        at: u64,
    },
    /// The messages, the newest last.
    Messages(Vec<ChatMessage>),
    /// The participants, in the order in which they came.
    Participants(Vec<ChatParticipant>),
}

/// What others are to be told. Each has all that they need to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum SupportEffect {
    /// Who takes part in a session now.
    Members {
        /// Which.
        session: Uuid,
        /// All of them.
        members: Vec<Member>,
    },
    /// Something was said.
    Message {
        /// Who is told: the participants, but those who want to hear nothing of the sender.
        to: Vec<SmolStr>,
        /// What.
        message: ChatMessage,
    },
    /// Something was read. Of one change there are several where not all know the same messages.
    Read {
        /// Where.
        session: Uuid,
        /// Who is told: other participants, but those who want to hear nothing of the reader.
        to: Vec<SmolStr>,
        /// By whom.
        by: SmolStr,
        /// The newest that was read, of those that all who are told know.
        message: Uuid,
        /// When.
        at: u64,
    },
    /// A session was closed.
    Closed {
        /// Which.
        session: Uuid,
        /// Who is told: all participants.
        to: Vec<SmolStr>,
        /// By whom.
        by: SmolStr,
        /// When.
        at: u64,
    },
    /// A user has begun, or ceased, to want to hear nothing of another one.
    Blocked {
        /// Who.
        user: SmolStr,
        /// Of whom.
        blocked: SmolStr,
        /// He has begun.
        is_blocked: bool,
    },
}

/// Who is connected now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions with connections.
    pub sessions: u64,
    /// Connections to sessions.
    pub connections: u64,
    /// Users of all sessions, each once in each.
    pub users: u64,
    /// The sessions, in the order of their ids; at most [`Census::MOST`].
    pub list: Vec<SessionCensus>,
}

/// Who is connected to one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCensus {
    /// Which.
    pub session: Uuid,
    /// Users with connections.
    pub users: u64,
    /// Users who type.
    pub typing: u64,
}

impl Census {
    /// Sessions that are listed, about 100 bytes each in an answer.
    pub const MOST: usize = 10_000;
}
