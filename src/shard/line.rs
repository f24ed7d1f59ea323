//! What is on its way to one socket, and how a client finds its line.

use crate::audience::Wire;
use crate::shard::backlog::Backlog;
use crate::shard::client::Client;
use crate::shard::engine::Engine;
use crate::shard::outbox::Queue;
use crate::shard::slots::Slots;
use crate::shard::wheel::Tick;

/// No connection.
pub const NO_CONN: u32 = u32::MAX;

/// One outgoing line: of a native client, or of an Engine.IO session, whose namespaces share it.
pub struct Line {
    /// The connection that is written to; for a session that polls, the one whose poll is open, or [`NO_CONN`].
    pub conn: u32,
    /// What it is to be sent at the end of this turn.
    pub queue: Queue,
    /// What its socket refused, or what waits for the next poll.
    pub backlog: Option<Box<Backlog>>,
    /// It is being closed: what is queued goes out, nothing more comes in. When it is over even if not all went out.
    pub closing: Option<Tick>,
    /// How newest values are framed that were kept back while the socket was full.
    pub wire: Wire,
    /// Its clients are to be told when nothing is on its way any more.
    pub tells_written: bool,
    /// A client of it has left a room since the last flush, so that what the turn has for it may hold events of that room.
    pub has_left: bool,
    /// Newest values were kept back once, so that what the client has is not all that came before its last offset.
    pub has_conflated: bool,
}

impl Line {
    /// A line to a connection.
    pub fn new(conn: u32, wire: Wire) -> Line {
        Line {
            conn,
            queue: Queue::default(),
            backlog: None,
            closing: None,
            wire,
            tells_written: false,
            has_left: false,
            has_conflated: false,
        }
    }

    /// Bytes held up.
    pub fn held(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }
}

/// The way from a client to its socket.
pub enum Way {
    /// A connection of its own.
    Own(Line),
    /// It is a namespace of that Engine.IO session.
    Engine(u32),
}

/// Where a line is kept: with the client of that slot, or with the Engine.IO session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineKey(u32);

/// Slots are below this, as there are fewer sockets than file descriptors.
const ENGINE: u32 = 1 << 31;

/// What a [`LineKey`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A native client.
    Client(u32),
    /// An Engine.IO session.
    Engine(u32),
}

impl LineKey {
    /// The line of a native client.
    pub const fn client(slot: u32) -> LineKey {
        LineKey(slot)
    }

    /// The line of an Engine.IO session.
    pub const fn engine(slot: u32) -> LineKey {
        LineKey(slot | ENGINE)
    }

    /// What it names.
    pub const fn place(self) -> Place {
        match self.0 & ENGINE {
            0 => Place::Client(self.0),
            _ => Place::Engine(self.0 & !ENGINE),
        }
    }

    /// The line itself, if it is still there.
    pub fn find<'a>(
        self,
        clients: &'a mut Slots<Client>,
        engines: &'a mut Slots<Engine>,
    ) -> Option<&'a mut Line> {
        match self.place() {
            Place::Client(slot) => match &mut clients.get_mut(slot)?.way {
                Way::Own(line) => Some(line),
                Way::Engine(_) => None,
            },
            Place::Engine(slot) => Some(&mut engines.get_mut(slot)?.line),
        }
    }
}
