//! The public listeners: every new connection goes to the shard with the fewest.
//!
//! It reads nothing: who may stay is decided by the shard when the request has come.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

/// Bytes that may wait in the kernel unsent. Enough for the largest write of a turn to keep the line busy, too little to hide
/// seconds of old prices: what does not fit waits here, where a newer price can take its place.
const UNSENT_BYTES: u32 = 128 * 1024;
/// How long accepting pauses when the process has no free descriptors.
const NO_DESCRIPTORS: Duration = Duration::from_millis(50);

/// A new connection.
pub struct Accepted {
    /// Its socket.
    pub stream: TcpStream,
    /// The other end.
    pub peer: IpAddr,
    /// There are as many as there may be already.
    pub is_surplus: bool,
}

/// Where new connections go.
pub trait Shards: Send {
    /// How many shards there are.
    fn count(&self) -> usize;
    /// The sockets of a shard.
    fn load(&self, shard: usize) -> u64;
    /// Hands a connection over. May wait while the shard is busy: those who come next wait in the kernel.
    /// False: the shard has ended.
    fn hand_over(&self, shard: usize, accepted: Accepted) -> bool;
    /// What was handed over may be looked at.
    fn wake(&self);
}

/// The accept loop.
pub struct Acceptor {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// Open sockets of all shards.
    open_sockets: Arc<AtomicUsize>,
    /// Most of them.
    limit: usize,
    stop: Arc<AtomicBool>,
}

impl Acceptor {
    /// Takes the listeners; [`run`](Acceptor::run) begins to accept.
    ///
    /// # Errors
    /// The poll does not take a listener.
    pub fn new(
        poll: Poll,
        listeners: Vec<std::net::TcpListener>,
        open_sockets: Arc<AtomicUsize>,
        limit: usize,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Acceptor> {
        let mut registered = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            listener.set_nonblocking(true)?;
            let mut listener = TcpListener::from_std(listener);
            poll.registry().register(&mut listener, Token(index), Interest::READABLE)?;
            registered.push(listener);
        }
        Ok(Acceptor { poll, listeners: registered, open_sockets, limit, stop })
    }

    /// Accepts until told to stop; then the listeners are closed.
    ///
    /// # Errors
    /// The poll failed.
    pub fn run(mut self, shards: &impl Shards) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut pause = None;
        while !self.stop.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, pause) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            pause = None;
            for listener in &self.listeners {
                if !self.accept_all(listener, shards) {
                    pause = Some(NO_DESCRIPTORS);
                }
            }
            shards.wake();
        }
        Ok(())
    }

    /// Accepts all that wait on a listener. False: there are no descriptors left, and some may still wait.
    fn accept_all(&self, listener: &TcpListener, shards: &impl Shards) -> bool {
        while !self.stop.load(Ordering::Acquire) {
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // The peer has given up already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    return false;
                }
            };
            set_options(&stream);
            let is_surplus = self.open_sockets.fetch_add(1, Ordering::AcqRel) >= self.limit;
            let shard = (0..shards.count()).min_by_key(|shard| shards.load(*shard)).unwrap_or(0);
            let peer = peer.ip().to_canonical();
            if !shards.hand_over(shard, Accepted { stream, peer, is_surplus }) {
                self.open_sockets.fetch_sub(1, Ordering::AcqRel);
            }
        }
        true
    }
}

/// Small frames go out at once, and the kernel does not hoard. A socket that takes neither still works.
fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}
