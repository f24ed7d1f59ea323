//! The effects of a session, and the texts that go with them in one reusable buffer.

use std::ops::Range;

use smol_str::SmolStr;

use crate::app::wire::{self, Object};
use crate::audience::Wire;
use crate::close::{CloseReason, ErrorCode};
use crate::metrics::LimitKind;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::Publication;
use crate::time::Now;

/// A text in [`Outputs`].
pub type Text = Range<usize>;

/// A room to join, with the policy of its prefix.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The room.
    pub room: RoomName,
    /// What happens to slow subscribers.
    pub policy: Policy,
}

/// One effect.
#[derive(Debug)]
pub enum Output {
    /// Send this text.
    Reply(Text),
    /// Join the rooms; send the confirmation when all are joined, then the newest events of each.
    Join {
        /// The rooms; those that were joined already stay so.
        rooms: Vec<Joining>,
        /// Sent once joined; empty: nothing.
        confirmation: Text,
        /// The client's event that asked, for the refusal.
        event: &'static str,
    },
    /// Leave the room, then send the confirmation.
    Leave {
        /// The room; it need not have been joined.
        room: RoomName,
        /// Sent once left.
        confirmation: Text,
    },
    /// Whether what is published to the user reaches this client, then send the confirmation.
    Personal {
        /// From now on.
        on: bool,
        /// Sent then.
        confirmation: Text,
    },
    /// Publish through the router.
    Publish {
        /// What.
        publication: Publication,
        /// The client's event, for the refusal.
        event: &'static str,
    },
    /// Ask the router which of these users are connected.
    Presence(Vec<SmolStr>),
    /// Hand a message to the backends that listen for it.
    Forward {
        /// The event's name.
        event: Box<str>,
        /// The line's `data`.
        data: Text,
    },
    /// The token's deadline has changed.
    Deadline,
    /// End the connection.
    Close(CloseReason),
}

/// The effects of one input.
#[derive(Debug, Default)]
pub struct Outputs {
    list: Vec<Output>,
    text: Vec<u8>,
    errors: Vec<ErrorCode>,
    limits: Vec<LimitKind>,
    /// Lists that are being carried out: an effect may lead to another input.
    depth: u32,
}

impl Outputs {
    /// Adds an effect.
    pub fn push(&mut self, output: Output) {
        self.list.push(output);
    }

    /// Writes a text in the client's wire and returns its place.
    pub fn compose(&mut self, wire: Wire, now: Now, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> Text {
        let start = self.text.len();
        wire::write_message(&mut self.text, wire, now, name, fill);
        start..self.text.len()
    }

    /// Writes a text by hand and returns its place.
    pub fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Text {
        let start = self.text.len();
        fill(&mut self.text);
        start..self.text.len()
    }

    /// Sends a message.
    pub fn reply(&mut self, wire: Wire, now: Now, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let text = self.compose(wire, now, name, fill);
        self.push(Output::Reply(text));
    }

    /// Counts an error the client was given.
    pub fn count_error(&mut self, code: ErrorCode) {
        self.errors.push(code);
    }

    /// Counts a limit the client has hit.
    pub fn count_limit(&mut self, limit: LimitKind) {
        self.limits.push(limit);
    }

    /// The bytes of a text.
    pub fn text(&self, text: &Text) -> &[u8] {
        &self.text[text.clone()]
    }

    /// Takes the effects; [`give_back`](Outputs::give_back) returns the list's memory.
    pub fn take(&mut self) -> Vec<Output> {
        self.depth += 1;
        std::mem::take(&mut self.list)
    }

    /// Takes an emptied list back; when none is being carried out any more, forgets the texts.
    pub fn give_back(&mut self, list: Vec<Output>) {
        debug_assert!(list.is_empty() && self.list.is_empty());
        self.list = list;
        self.depth -= 1;
        if self.depth == 0 {
            self.text.clear();
        }
    }

    /// Whether nothing waits to be carried out.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.depth == 0
    }

    /// The errors and limits since the last call.
    pub fn take_counts(&mut self, mut error: impl FnMut(ErrorCode), mut limit: impl FnMut(LimitKind)) {
        self.errors.drain(..).for_each(&mut error);
        self.limits.drain(..).for_each(&mut limit);
    }
}
