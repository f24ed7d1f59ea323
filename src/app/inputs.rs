//! What comes to a session.

use crate::app::Asked;
use crate::close::CloseReason;
use crate::proto::json::Raw;
use crate::record::{Answer, Refusal};
use crate::users::Presence;

/// What can happen to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client is connected.
    Opened {
        /// The newest offset, for a client that asked for recovery and begins anew. `None` where its wire has none, and for
        /// a client that was recovered.
        offset: Option<u64>,
    },
    /// A text message.
    Text(&'a str),
    /// A Socket.IO event.
    Event {
        /// The packet's JSON array: the event's name, then its arguments.
        args: Raw<'a>,
        /// Whether it is a BINARY_EVENT.
        is_binary: bool,
        /// Its attachments, in order.
        attachments: &'a [Box<[u8]>],
        /// The id of the acknowledgement that it asks for.
        ack: Option<u64>,
    },
    /// A binary message.
    Binary,
    /// A message over the size limit, which was not read.
    TooLarge {
        /// The limit.
        bytes: usize,
    },
    /// The token's time is over, or the grace after it.
    TokenOver,
    /// The client would be in more rooms than it may.
    TooManyRooms(Asked),
    /// The router's data lane was full, so that what the client asked to publish was not taken.
    Busy(Asked),
    /// Nobody listens for what the client sent to backends.
    Unheard,
    /// The answer to [`Output::Presence`].
    Presence {
        /// Who is there.
        users: &'a [Presence],
        /// As it was asked.
        ack: Option<u64>,
    },
    /// The answer to a counted [`Output::Publish`].
    Delivered {
        /// Connections it was addressed to.
        count: u64,
        /// As it was asked.
        ack: u64,
    },
    /// The answer to [`Output::Store`].
    Stored {
        /// As it was asked.
        ticket: u64,
        /// The store's.
        answer: &'a Result<Answer, Refusal>,
    },
    /// The store's queue was full, so that what the session asked was not taken.
    StoreBusy {
        /// As it was asked.
        ticket: u64,
    },
    /// The client has said something: it has what it was sent and what was written ([`Session::awaits_word`]).
    Heard {
        /// All that it was to be sent is written.
        all: bool,
    },
    /// The answer to [`Output::Written`]; may lead to a question to the store only.
    Written,
    /// [`Session::alarm`] has come.
    Alarm,
    /// The client is gone: nothing reaches it any more, but it may have something to tell others. Comes once, last.
    Gone,
    /// The router counts the client among those of its support session, as one more of its user's.
    Here {
        /// Users who are connected to it.
        users: u64,
    },
    /// The server is about to close the connection.
    Closing(&'a CloseReason),
}

impl Input<'_> {
    /// The id of the acknowledgement that whatever comes of this input answers.
    pub(super) fn ack(&self) -> Option<u64> {
        match self {
            Input::Event { ack, .. } | Input::Presence { ack, .. } => *ack,
            Input::TooManyRooms(asked) | Input::Busy(asked) => asked.ack,
            Input::Delivered { ack, .. } => Some(*ack),
            _ => None,
        }
    }
}
