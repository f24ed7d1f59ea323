//! What shards and the router say to each other.
//!
//! Each direction has a *control* lane, whose capacity follows from what may be outstanding and which is therefore
//! never full, and a *data* lane, which may be full; nobody ever blocks on it. From the router to a shard both share
//! one FIFO, because a join must take its place among the publications of its room.

pub mod support;

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::audience::App;
use crate::mailbox::support::{SupportNews, SupportWord};
use crate::record::{Answer, Effect, Query, Refusal, Write};
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::{ClientId, Publication};
use crate::time::Now;
use crate::users::{Presence, User};

/// The shard has no members of the room.
pub const NO_SLOT: u32 = u32::MAX;

/// A recoverable session's secret name: whoever shows it gets the session (`spec/market.md`, connection state recovery).
pub type Pid = [u8; 16];

/// From the router to a shard, in one order.
#[derive(Debug)]
pub enum ToShard {
    /// Deliver this. The slots are those of the rooms on this shard; a room that was left meanwhile is not found there.
    Event {
        /// What was published.
        publication: Arc<Publication>,
        /// The event's own room, or [`NO_SLOT`].
        room: u32,
        /// The second room, or [`NO_SLOT`].
        also: u32,
    },
    /// The shard is in the room: what comes from here on is for its members.
    Joined {
        /// The room.
        room: RoomName,
        /// The newest event of each key, where the room's policy is `latest`.
        newest: Vec<Arc<Publication>>,
        /// The router's newest sequence number: what comes from here on has a higher one.
        sequence: u64,
    },
    /// End a user's connections, answer with [`ToRouter::Count`].
    Disconnect {
        /// The user.
        user: SmolStr,
        /// The close code.
        code: u16,
        /// The text of the close frame.
        reason: Box<str>,
        /// What the count is for.
        ticket: u64,
    },
    /// The answer to [`ToRouter::Presence`].
    Presence {
        /// Who asked.
        client: ClientId,
        /// The answer.
        users: Vec<Presence>,
        /// The client's acknowledgement id, as it was asked with.
        ack: Option<u64>,
    },
    /// Nobody listened for what this client sent to backends.
    Unheard {
        /// Who sent it.
        client: ClientId,
    },
    /// The answer to [`ToRouter::Restore`]. If who asked is gone meanwhile, the shard says [`ToRouter::Save`] again.
    Restored {
        /// Who asked.
        client: ClientId,
        /// The session, which is no longer kept; `None`: there is none of that name, or no longer.
        saved: Option<Box<Saved>>,
        /// The router's newest sequence number: a session that begins now begins behind it.
        sequence: u64,
    },
    /// The session of this client has come back with another connection: the client is lost. The shard closes it, which
    /// it tells with [`ToRouter::Save`] or [`ToRouter::Unrecoverable`]; one that is gone already has told.
    Evict {
        /// Who is lost.
        client: ClientId,
    },
    /// The answer to [`ToRouter::Missed`].
    Missed {
        /// Who asked.
        client: ClientId,
        /// What it has missed, by sequence number, ascending; `None`: it cannot be recovered whole.
        events: Option<Vec<Arc<Publication>>>,
        /// The router's newest sequence number.
        sequence: u64,
    },
    /// The store's answer to a client or a request over HTTP.
    Stored {
        /// Whose.
        asker: Asker,
        /// What.
        answer: Box<Result<Answer, Refusal>>,
    },
    /// A counted publication ([`ToRouter::Publish`]) has reached all shards it was for.
    Delivered {
        /// Who published it.
        client: ClientId,
        /// The client's acknowledgement id.
        ack: u64,
        /// Connections it was addressed to.
        count: u64,
    },
    /// Of support sessions.
    Support(SupportWord),
}

/// From a shard to the router.
#[derive(Debug)]
pub enum ToRouter {
    /// The shard has a first member of a room; answered with [`ToShard::Joined`].
    Join {
        /// The shard.
        shard: u8,
        /// The room.
        room: RoomName,
        /// The room's slot on the shard.
        slot: u32,
        /// The policy of its prefix.
        policy: Policy,
    },
    /// The last member has left.
    Leave {
        /// The shard.
        shard: u8,
        /// The room.
        room: RoomName,
    },
    /// The user's first connection on the shard.
    UserUp {
        /// The shard.
        shard: u8,
        /// The user.
        user: Arc<User>,
    },
    /// The user's last connection on the shard is gone.
    UserDown {
        /// The shard.
        shard: u8,
        /// The user.
        user: Arc<User>,
    },
    /// The user's first connection in the app `conversation` on the shard.
    ChatUp {
        /// The shard.
        shard: u8,
        /// The user.
        user: Arc<User>,
        /// What contacts are shown.
        username: Option<SmolStr>,
    },
    /// The user's last connection in the app `conversation` on the shard is gone.
    ChatDown {
        /// The shard.
        shard: u8,
        /// The user.
        user: Arc<User>,
    },
    /// Which of these users are connected?
    Presence {
        /// Who asks.
        client: ClientId,
        /// The users.
        users: Vec<SmolStr>,
        /// The client's acknowledgement id, which comes back with the answer.
        ack: Option<u64>,
    },
    /// How many connections something was addressed to.
    Count {
        /// What it was.
        ticket: u64,
        /// Connections of this shard.
        count: u32,
    },
    /// The shard has a first recoverable member of the room: its events are kept from here on, even if nobody is in it.
    /// A shard says so before, or right after, it joins the room.
    Keep {
        /// The shard.
        shard: u8,
        /// The room.
        room: RoomName,
    },
    /// The shard has no recoverable member any more. [`ToRouter::Leave`] says it too. The events are kept for the
    /// recovery window yet.
    Unkeep {
        /// The shard.
        shard: u8,
        /// The room.
        room: RoomName,
    },
    /// A recoverable client is there, new or restored.
    Recoverable {
        /// Its session's name.
        pid: Pid,
        /// The client.
        client: ClientId,
    },
    /// A recoverable client has ended for good.
    Unrecoverable {
        /// Its session's name.
        pid: Pid,
    },
    /// A recoverable client was lost: it may come back within the recovery window.
    Save(Box<Saved>),
    /// A client has come back with the name of its session; answered with [`ToShard::Restored`]: at once, or, if the
    /// session's client is thought to be there yet, when its shard has given it up ([`ToShard::Evict`]).
    Restore {
        /// Who has come back.
        client: ClientId,
        /// The session's name; `None`: it has none yet, and only wants to know where its offsets begin.
        pid: Option<Pid>,
    },
    /// What has a restored client missed? Answered with [`ToShard::Missed`] at its place among the publications. Asked
    /// after the joins of its rooms, so that nothing falls between the answer and what comes live.
    Missed(Box<MissedQuery>),
    /// A client publishes. Data lane.
    Publish {
        /// What.
        publication: Box<Publication>,
        /// Who wants to know how many it was addressed to, and the acknowledgement id for the answer,
        /// [`ToShard::Delivered`].
        counted: Option<(ClientId, u64)>,
    },
    /// A client tells these users the same, as far as they chat now. Data lane.
    Tell {
        /// What.
        publication: Box<Publication>,
        /// The users.
        users: Vec<SmolStr>,
    },
    /// A client speaks to the backends. Data lane.
    Forward(Box<Forward>),
    /// Of support sessions.
    Support(SupportNews),
}

impl ToRouter {
    /// Whether it belongs on the data lane, which may be full.
    pub const fn is_data(&self) -> bool {
        matches!(self, ToRouter::Publish { .. } | ToRouter::Tell { .. } | ToRouter::Forward(_))
    }
}

/// What a client sends to the backends that listen.
#[derive(Debug)]
pub struct Forward {
    /// Who sent it.
    pub client: ClientId,
    /// Its user.
    pub user: SmolStr,
    /// Its public id.
    pub connection: Uuid,
    /// Its app.
    pub app: App,
    /// The event's name.
    pub event: Box<str>,
    /// The message, valid JSON as it was written.
    pub data: Box<str>,
    /// When it was received.
    pub received: Now,
}

/// A room of a recoverable session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRoom {
    /// The room.
    pub room: RoomName,
    /// The policy of its prefix.
    pub policy: Policy,
    /// The router's sequence number when the client joined: it was told of nothing older, and has missed nothing older.
    pub since: u64,
}

/// What is kept of a lost client that asked for recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The session's secret name.
    pub pid: Pid,
    /// Its user; empty for an anonymous one.
    pub user: SmolStr,
    /// Its app.
    pub app: App,
    /// Its public id, which it keeps.
    pub connection: Uuid,
    /// The rooms it was in.
    pub rooms: Vec<SavedRoom>,
    /// It gets its user's own events.
    pub is_personal: bool,
    /// The router's sequence number when the session began: it has missed nothing older.
    pub since: u64,
    /// Events of policy `latest` had been withheld from it, as it was slow: it needs all the newest ones.
    pub conflated: bool,
}

/// What has a client missed?
#[derive(Clone, Debug)]
pub struct MissedQuery {
    /// Who asks.
    pub client: ClientId,
    /// The sequence number of the last event it had.
    pub after: u64,
    /// Its rooms, the internal ones of its user, of everyone and of its event types included.
    pub rooms: Vec<SavedRoom>,
    /// Its app.
    pub app: App,
    /// Its public id: what it published itself it has not missed.
    pub author: Uuid,
    /// It needs the newest events of `latest` rooms even if they are older than the last it had.
    pub conflated: bool,
    /// Most bytes of events, as [`Publication::size`] counts them; what would be more is not recovered.
    pub max_bytes: usize,
}

/// Who is to get an answer of the store's, which hands it back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A client.
    Client {
        /// Which.
        client: ClientId,
        /// Which of its requests.
        ticket: u64,
    },
    /// A request over HTTP.
    Http {
        /// The shard that has the connection.
        shard: u8,
        /// Its connection there.
        conn: u32,
        /// Which of the shard's requests.
        serial: u32,
    },
    /// The router.
    Router {
        /// Which of its questions.
        ticket: u64,
    },
    /// A worker of the identity provider.
    Login {
        /// Which.
        worker: u8,
        /// Which of its requests.
        ticket: u64,
    },
    /// Nobody waits for an answer.
    Nobody,
}

/// Something asked of the store.
#[derive(Clone, Debug)]
pub struct Request<T> {
    /// Who gets the answer.
    pub asker: Asker,
    /// When it was asked, Unix ms: the time that is stored.
    pub at: u64,
    /// What is asked.
    pub what: T,
}

/// A request of the router's.
#[derive(Debug)]
pub enum ToStore {
    /// A change.
    Write(Request<Write>),
    /// A question.
    Read(Request<Query>),
}

/// From the store to the router, in the order of the commits.
#[derive(Debug)]
pub enum FromStore {
    /// Others are to be told of a change.
    Effect(Effect),
    /// The answer to a request. What it has caused came before.
    Answer {
        /// Whose.
        asker: Asker,
        /// What.
        answer: Box<Result<Answer, Refusal>>,
    },
}
