//! What shards and the router say to each other of support sessions: who is connected to which, and who types there.

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::record::support::Census;
use crate::room::publication::ClientId;

/// From a shard to the router. Control: each changes a count, so none may be lost.
#[derive(Debug)]
pub enum SupportNews {
    /// A client is connected to a session.
    Came {
        /// Which client.
        client: ClientId,
        /// To which.
        session: Uuid,
        /// Whose it is.
        user: SmolStr,
    },
    /// Such a client is gone.
    Went {
        /// From which.
        session: Uuid,
        /// Whose it was.
        user: SmolStr,
    },
    /// A client has begun, or ceased, to type.
    Types {
        /// Where.
        session: Uuid,
        /// Whose it is.
        user: SmolStr,
        /// It has begun.
        is_typing: bool,
    },
    /// How many are connected? Answered with [`SupportWord::Census`].
    Count {
        /// The shard that has the connection of who asks.
        shard: u8,
        /// Its connection there.
        conn: u32,
        /// Which of the shard's requests.
        serial: u32,
    },
}

/// From the router to a shard.
#[derive(Debug)]
pub enum SupportWord {
    /// A client has come as one more of its user's, so that nobody else is told.
    Here {
        /// Which.
        client: ClientId,
        /// Users connected to its session.
        users: u64,
    },
    /// The session is closed, which all have been told: their connections end.
    Closed {
        /// Which.
        session: Uuid,
        /// Its participants.
        users: Arc<[SmolStr]>,
    },
    /// The answer to [`SupportNews::Count`].
    Census {
        /// As it was asked.
        conn: u32,
        /// As it was asked.
        serial: u32,
        /// The answer.
        census: Census,
    },
}
