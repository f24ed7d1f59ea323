//! What shards and the router say to each other.
//!
//! Each direction has a *control* lane, whose capacity follows from what may be outstanding and which is therefore
//! never full, and a *data* lane, which may be full; nobody ever blocks on it. From the router to a shard both share
//! one FIFO, because a join must take its place among the publications of its room.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::audience::App;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::{ClientId, Publication};
use crate::time::Now;
use crate::users::{Presence, User};

/// The shard has no members of the room.
pub const NO_SLOT: u32 = u32::MAX;

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
    },
    /// Nobody listened for what this client sent to backends.
    Unheard {
        /// Who sent it.
        client: ClientId,
    },
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
    /// Which of these users are connected?
    Presence {
        /// Who asks.
        client: ClientId,
        /// The users.
        users: Vec<SmolStr>,
    },
    /// How many connections something was addressed to.
    Count {
        /// What it was.
        ticket: u64,
        /// Connections of this shard.
        count: u32,
    },
    /// A client publishes. Data lane.
    Publish(Box<Publication>),
    /// A client speaks to the backends. Data lane.
    Forward(Box<Forward>),
}

impl ToRouter {
    /// Whether it belongs on the data lane, which may be full.
    pub const fn is_data(&self) -> bool {
        matches!(self, ToRouter::Publish(_) | ToRouter::Forward(_))
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
    pub connection: uuid::Uuid,
    /// Its app.
    pub app: App,
    /// The event's name.
    pub event: Box<str>,
    /// The message, valid JSON as it was written.
    pub data: Box<str>,
    /// When it was received.
    pub received: Now,
}
