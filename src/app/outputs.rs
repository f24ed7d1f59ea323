//! The effects of a session, and the texts that go with them in one reusable buffer.

use std::ops::Range;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::wire::socketio::{self, Kind};
use crate::app::wire::{self, Object};
use crate::audience::Wire;
use crate::close::{CloseReason, ErrorCode};
use crate::metrics::LimitKind;
use crate::proto::ws;
use crate::record::{Query, Write};
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::Publication;
use crate::time::Now;

/// A text in [`Outputs`]. What is sent to clients are whole WebSocket frames, headers included, one after another: an
/// answer may be an event and an acknowledgement.
pub type Text = Range<usize>;

/// What a client asked for, for a refusal that comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The client's event.
    pub event: &'static str,
    /// The id of the acknowledgement it asked for.
    pub ack: Option<u64>,
}

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
    /// Send these frames; empty: nothing.
    Reply(Text),
    /// Join the rooms; send the confirmation when all are joined, then the newest events of each.
    Join {
        /// The rooms; those that were joined already stay so.
        rooms: Vec<Joining>,
        /// Sent once joined; empty: nothing.
        confirmation: Text,
        /// For the refusal.
        asked: Asked,
    },
    /// Leave the room, then send the confirmation.
    Leave {
        /// The room; it need not have been joined.
        room: RoomName,
        /// Sent once left; empty: nothing.
        confirmation: Text,
    },
    /// Whether what is published to the user reaches this client, then send the confirmation.
    Personal {
        /// From now on.
        on: bool,
        /// Sent then; empty: nothing.
        confirmation: Text,
    },
    /// Publish through the router.
    Publish {
        /// What.
        publication: Publication,
        /// For the refusal.
        asked: Asked,
        /// Sent once the router's lane has taken it; empty: nothing.
        confirmation: Text,
        /// Answer with [`Input::Delivered`](crate::app::Input::Delivered) when the shards have counted.
        counted: bool,
    },
    /// Publish the same to each of these users.
    Tell {
        /// What; for whom it says itself counts for nothing.
        publication: Publication,
        /// The users.
        users: Vec<SmolStr>,
        /// For the refusal.
        asked: Asked,
    },
    /// Ask the router which of these users are connected.
    Presence {
        /// The users.
        users: Vec<SmolStr>,
        /// The id of the acknowledgement that was asked for, for the answer.
        ack: Option<u64>,
    },
    /// Hand a message to the backends that listen for it.
    Forward {
        /// The event's name.
        event: Box<str>,
        /// The line's `data`: JSON, no frame.
        data: Text,
    },
    /// Ask the store. [`Input::Stored`](crate::app::Input::Stored) answers, or
    /// [`Input::StoreBusy`](crate::app::Input::StoreBusy) at once.
    Store {
        /// For the answer. Only the session knows what it means.
        ticket: u64,
        /// What.
        what: StoreRequest,
    },
    /// Answer with [`Input::Written`](crate::app::Input::Written) when all that the client was to be sent is written to its
    /// socket, or into the answer to its poll.
    Written,
    /// A deadline has changed: the token's, or that of typing.
    Deadline,
    /// End the connection.
    Close(CloseReason),
    /// What the router is to count.
    Live(Live),
}

/// What the router is told of clients of support sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// The client is connected to its session.
    Came,
    /// It has begun to type, or stopped.
    Types {
        /// Where.
        session: Uuid,
        /// It has begun.
        is_typing: bool,
    },
}

/// A request to the store.
#[derive(Clone, Debug)]
pub enum StoreRequest {
    /// A change.
    Write(Write),
    /// A question.
    Query(Query),
}

/// How an answer reaches the client that asked.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo {
    /// The client's wire.
    pub wire: Wire,
    /// The time of this turn.
    pub now: Now,
    /// The id of the acknowledgement that gets the answer too. Only wires of Socket.IO have any.
    pub ack: Option<u64>,
}

/// The effects of one input.
#[derive(Debug, Default)]
pub struct Outputs {
    list: Vec<Output>,
    text: Vec<u8>,
    /// The object of the answer that is being written.
    object: Vec<u8>,
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

    /// Writes an answer in the client's wire, the event and the acknowledgement, and returns its place.
    pub fn compose(&mut self, to: ReplyTo, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> Text {
        self.frames(fill, |out, object| {
            wire::write_message(out, to.wire, to.now, name, object, None);
            write_ack(out, to, &[object]);
        })
    }

    /// Sends an answer.
    pub fn reply(&mut self, to: ReplyTo, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let text = self.compose(to, name, fill);
        self.push(Output::Reply(text));
    }

    /// Sends an error as the event `name`. The acknowledgement gets `{"error":OBJECT}`.
    pub fn reply_error(&mut self, to: ReplyTo, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let text = self.frames(fill, |out, object| {
            wire::write_message(out, to.wire, to.now, name, object, None);
            write_ack_error(out, to, object);
        });
        self.push(Output::Reply(text));
    }

    /// Sends an event with the client's first offset, where its wire has offsets.
    pub fn reply_with_offset(
        &mut self,
        to: ReplyTo,
        name: &str,
        offset: Option<u64>,
        fill: impl FnOnce(&mut Object<'_>),
    ) {
        let text =
            self.frames(fill, |out, object| wire::write_message(out, to.wire, to.now, name, object, offset));
        self.push(Output::Reply(text));
    }

    /// Writes the acknowledgement alone, if the client asked for one, and returns its place. `arguments` is what stands
    /// between its brackets.
    pub fn compose_ack(&mut self, to: ReplyTo, arguments: &[u8]) -> Text {
        self.write(|out| write_ack(out, to, &[arguments]))
    }

    /// The same for an error: `{"error":OBJECT}`.
    pub fn compose_ack_error(&mut self, to: ReplyTo, fill: impl FnOnce(&mut Object<'_>)) -> Text {
        self.frames(fill, |out, object| write_ack_error(out, to, object))
    }

    /// Sends an object as it is, as one text frame.
    pub fn reply_raw(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        let text = self.frames(fill, |out, object| ws::write_text(out, &[object]));
        self.push(Output::Reply(text));
    }

    /// Writes bytes as they are, frames or a backend's data, and returns their place.
    pub fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Text {
        let start = self.text.len();
        fill(&mut self.text);
        start..self.text.len()
    }

    /// Writes an object aside, because a frame's length stands before it, then the frames it is for.
    fn frames(
        &mut self,
        fill: impl FnOnce(&mut Object<'_>),
        frames: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> Text {
        self.object.clear();
        Object::write(&mut self.object, fill);
        let start = self.text.len();
        frames(&mut self.text, &self.object);
        start..self.text.len()
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

fn write_ack(out: &mut Vec<u8>, to: ReplyTo, parts: &[&[u8]]) {
    if let (Some(id), Some(_)) = (to.ack, to.wire.namespace()) {
        socketio::write_packet(out, to.wire, Kind::Ack(id), None, parts);
    }
}

fn write_ack_error(out: &mut Vec<u8>, to: ReplyTo, object: &[u8]) {
    write_ack(out, to, &[b"{\"error\":", object, b"}"]);
}
