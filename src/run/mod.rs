//! The loops that drive shards and the router over real sockets.
//!
//! With one shard, [`run_alone`] drives the router and the listeners in the shard's own loop: an event needs no hop and
//! no wake-up. With more, each shard has [`run_shard`] and the router [`run_router`] on threads of their own. These are
//! the only places that know threads, polls and lanes; shards and router are passive.

mod alone;
mod pace;
mod router;
mod sharded;
mod store;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::limits::TURN_EVENTS;
use crate::router::{BodyResult, Router};
use crate::shard::Net;
use crate::time::Now;
use crate::transport::tls::TlsConfig;

pub use alone::{Alone, run_alone};
pub use router::{RouterEnds, RouterLane, run_router};
pub use sharded::{ShardLanes, ShardMailbox, run_shard};
pub use store::{StoreEnd, StoreLane};

/// The token of the waker.
pub const WAKER: Token = Token(usize::MAX - 1);
/// Socket events taken from the poll at once.
const EVENTS: usize = 1_024;
/// Messages on the lane from the router to a shard: a few turns' worth.
pub const LANE: usize = 16 * TURN_EVENTS;

/// Real sockets.
pub struct MioNet {
    registry: Registry,
}

impl MioNet {
    /// Sockets whose events come from that poll.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new(poll: &Poll) -> io::Result<MioNet> {
        Ok(MioNet { registry: poll.registry().try_clone()? })
    }
}

impl Net for MioNet {
    type Stream = TcpStream;

    fn now(&self) -> Now {
        Now::read()
    }

    fn register(&mut self, stream: &mut TcpStream, key: u32) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(stream, Token(key as usize), interest)
    }

    fn deregister(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.registry.deregister(stream)
    }
}

/// Wakes a loop, once for all that has come since it last looked.
#[derive(Clone)]
pub struct Alarm {
    waker: Arc<Waker>,
    is_rung: Arc<AtomicBool>,
}

impl Alarm {
    /// The alarm of a poll.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new(poll: &Poll) -> io::Result<Alarm> {
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Alarm { waker: Arc::new(waker), is_rung: Arc::default() })
    }

    /// Wakes the loop, unless it has been woken already.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a thread could not be woken");
        }
    }

    /// The loop looks now: what comes after this rings again.
    pub fn reset(&self) {
        self.is_rung.store(false, Ordering::Release);
    }
}

/// What the router is told by the other threads.
pub enum RouterCommand {
    /// Publish the lines of a `POST /publish`.
    Publish {
        /// The lines.
        body: Vec<u8>,
        /// Where the outcome goes.
        reply: Sender<BodyResult>,
    },
    /// Take a new TLS configuration of the ingest port.
    Tls(Option<TlsConfig>),
    /// Take no new publishers.
    StopListening,
    /// All shards have ended: end too.
    End,
}

/// What the poll says of a socket: it can be read, it can be written, the peer will send no more.
fn readiness(event: &Event) -> (bool, bool, bool) {
    (event.is_readable(), event.is_writable(), event.is_read_closed() || event.is_error())
}

/// Waits for the poll; an interrupted wait is a short one.
fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> io::Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Carries out a command; false if the router is to end.
fn router_command(router: &mut Router, command: RouterCommand) -> bool {
    match command {
        RouterCommand::Publish { body, reply } => router.publish_body(body, reply),
        RouterCommand::Tls(tls) => router.set_tls(tls),
        RouterCommand::StopListening => router.stop_listening(),
        RouterCommand::End => return false,
    }
    true
}
