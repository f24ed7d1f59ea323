//! What a shard is told from outside, and the order of a turn.
//!
//! A turn: the poll's events → commands → what the router posts → sockets that have something → timers →
//! one write for each client that has something. So everything that came in before a turn's end goes out with it,
//! and no client is written to more than once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::net::TcpStream;

use crate::accept::Accepted;
use crate::app::rest::login::LoginAnswer;
use crate::mailbox::ToRouter;
use crate::metrics::latency::Latencies;
use crate::shard::conn::{Conn, Phase};
use crate::shard::wheel;
use crate::shard::{HandedOver, Net, Shard, ShardSettings};
use crate::time::Now;
use crate::transport::{Stream, Transport};

/// What a shard is told by the other threads.
pub enum Command<S: Stream> {
    /// A new connection.
    Accept {
        /// Its socket.
        stream: S,
        /// The other end.
        peer: IpAddr,
        /// There are too many: it is told so.
        is_surplus: bool,
    },
    /// Hand over what was recorded and go on with an empty set.
    Latencies {
        /// The empty set.
        spare: Box<Latencies>,
        /// Where to: the shard and the set.
        reply: Sender<(usize, Box<Latencies>)>,
    },
    /// Name the rooms with most members.
    TopRooms {
        /// How many.
        limit: usize,
        /// Where to.
        reply: Sender<Vec<(String, u64)>>,
    },
    /// A connection that another shard has read a request from that is for a session of this one.
    HandOver(Box<HandedOver<S>>),
    /// The identity provider's answer to a request.
    Login {
        /// The ticket it was asked with.
        ticket: u64,
        /// The answer.
        answer: LoginAnswer,
    },
    /// Take a new configuration.
    Reload(Arc<ShardSettings>),
    /// Close all clients, spread over this time.
    Drain(Duration),
}

impl From<Accepted> for Command<TcpStream> {
    fn from(accepted: Accepted) -> Self {
        let Accepted { stream, peer, is_surplus } = accepted;
        Command::Accept { stream, peer, is_surplus }
    }
}

impl<N: Net> Shard<N> {
    /// Carries out a command.
    pub fn command(&mut self, command: Command<N::Stream>, now: Now) {
        match command {
            Command::Accept { stream, peer, is_surplus } => self.accept(stream, peer, is_surplus, now),
            Command::Latencies { spare, reply } => {
                let filled = self.latencies.swap(spare);
                // Who asked may have given up waiting.
                let _ = reply.send((usize::from(self.id), filled));
            }
            Command::TopRooms { limit, reply } => {
                let _ = reply.send(self.top_rooms(limit));
            }
            Command::HandOver(handed) => self.take_over_conn(*handed, now),
            Command::Login { ticket, answer } => self.api_login(ticket, &answer, now),
            Command::Reload(settings) => {
                self.fanout.set_outbox_limit(settings.limits.outbox);
                self.settings = settings;
            }
            Command::Drain(over) => self.drain(over, now),
        }
    }

    fn accept(&mut self, stream: N::Stream, peer: IpAddr, is_surplus: bool, now: Now) {
        self.metrics.sockets.add(1);
        let transport = match &self.settings.tls {
            None => Ok(Transport::Plain(stream)),
            Some(tls) => tls.accept(stream),
        };
        let Ok(transport) = transport else {
            self.metrics.sockets.sub(1);
            self.common.open_sockets.fetch_sub(1, Ordering::AcqRel);
            return;
        };
        let key = self.conns.insert(Conn {
            transport,
            phase: Phase::Head(Vec::new()),
            peer,
            received: wheel::tick(now.mono),
            armed: 0,
            is_ready: false,
            peer_closed: false,
            is_surplus,
            was_answered: false,
        });
        let registered = match self.conns.get_mut(key) {
            Some(conn) => self.net.register(conn.transport.stream_mut(), key),
            None => return,
        };
        if let Err(error) = registered {
            tracing::warn!(%error, "a connection was let go: the poll does not take it");
            return self.drop_conn(key);
        }
        self.arm(key, now);
        if self.drain.is_some() {
            self.linger(key, now);
        }
    }

    /// What is to be said to the router.
    pub fn outgoing(&mut self) -> &mut Vec<ToRouter> {
        &mut self.outgoing
    }

    /// Says how many messages the router's data lane takes until this is said again.
    pub fn set_data_room(&mut self, room: usize) {
        self.data_room = room;
    }

    /// Whether the turn has taken all the bytes from the router that it may.
    pub fn is_turn_full(&self) -> bool {
        self.fanout.is_full()
    }

    /// Records a turn: when it began, what it found.
    pub fn end_turn(&mut self, began: Now, socket_events: usize) {
        let now = self.net.now();
        self.metrics.turns.add(1);
        self.metrics.loop_events.add(socket_events as u64);
        self.metrics.last_turn.set(now.mono);
        self.metrics.rooms.set(self.rooms.len() as u64);
        self.latencies.loop_turn(now.mono.saturating_sub(began.mono));
        debug_assert!(self.outputs.is_empty());
        #[cfg(debug_assertions)]
        self.sweep_invariants();
    }

    /// The rooms with most members.
    fn top_rooms(&self, limit: usize) -> Vec<(String, u64)> {
        let mut rooms: Vec<(u64, &str)> =
            self.rooms.public().map(|room| (room.members.len() as u64, room.name.as_str())).collect();
        let limit = limit.min(rooms.len());
        if limit > 0 && limit < rooms.len() {
            rooms.select_nth_unstable_by(limit - 1, |a, b| b.cmp(a));
        }
        rooms.truncate(limit);
        rooms.sort_unstable_by(|a, b| b.cmp(a));
        rooms.into_iter().map(|(members, name)| (name.to_owned(), members)).collect()
    }
}
