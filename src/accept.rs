//! The public listeners.
//!
//! Nothing is read here: who may stay is decided by the shard when the request has come.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::SockRef;

/// Bytes that may wait in the kernel unsent. Enough for the largest write of a turn to keep the line busy, too little to hide
/// seconds of old prices: what does not fit waits here, where a newer price can take its place.
const UNSENT_BYTES: u32 = 128 * 1024;
/// Connections accepted from a listener at once.
const AT_ONCE: usize = 256;
/// Connections over the limit that are kept long enough to be told so; further ones are let go at once, so that the
/// descriptors reserved for everything else stay free.
const SURPLUS: usize = 128;
/// The token of the listeners in the accept thread's poll.
const LISTENERS: Token = Token(0);
/// How long accepting pauses when the process has no free descriptors.
pub const NO_DESCRIPTORS: Duration = Duration::from_millis(50);

/// A new connection.
pub struct Accepted {
    /// Its socket.
    pub stream: TcpStream,
    /// The other end.
    pub peer: IpAddr,
    /// There are as many as there may be already.
    pub is_surplus: bool,
}

/// The listeners, and how many connections there may be. Driven by the accept thread, or, with one shard, by the
/// shard's own loop, which saves a new connection two changes of thread.
pub struct Acceptor {
    listeners: Vec<TcpListener>,
    /// Open sockets of all shards.
    open_sockets: Arc<AtomicUsize>,
    /// Most of them.
    limit: usize,
    /// Connections may wait that the poll will not report again.
    may_wait: bool,
    /// The last attempt failed, which the log has been told.
    is_failing: bool,
}

impl Acceptor {
    /// Takes the listeners.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new(
        listeners: Vec<std::net::TcpListener>,
        open_sockets: Arc<AtomicUsize>,
        limit: usize,
    ) -> io::Result<Acceptor> {
        let listeners = listeners
            .into_iter()
            .map(|listener| {
                listener.set_nonblocking(true)?;
                Ok(TcpListener::from_std(listener))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Acceptor { listeners, open_sockets, limit, may_wait: false, is_failing: false })
    }

    /// Asks a poll for the events of the listeners, all with one token.
    ///
    /// # Errors
    /// The poll does not take a listener.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.listeners
            .iter_mut()
            .try_for_each(|listener| registry.register(listener, token, Interest::READABLE))
    }

    /// The poll has reported a listener.
    pub fn make_ready(&mut self) {
        self.may_wait = true;
    }

    /// Whether [`accept`](Acceptor::accept) may find connections.
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Closes the listeners.
    pub fn close(&mut self) {
        self.listeners.clear();
        self.may_wait = false;
    }

    /// Accepts what waits, at most 256 connections of each listener, so that those that are there already
    /// get their turn. False: there are no free descriptors; it is of no use to try again at once.
    pub fn accept(&mut self, mut take: impl FnMut(Accepted)) -> bool {
        if !std::mem::take(&mut self.may_wait) {
            return true;
        }
        for listener in &self.listeners {
            for taken in 0.. {
                if taken == AT_ONCE {
                    self.may_wait = true;
                    break;
                }
                let (stream, peer) = match listener.accept() {
                    Ok(accepted) => {
                        self.is_failing = false;
                        accepted
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The peer has given up already.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => {
                        if !std::mem::replace(&mut self.is_failing, true) {
                            tracing::warn!(%error, "a connection could not be accepted, trying again");
                        }
                        self.may_wait = true;
                        return false;
                    }
                };
                let open = self.open_sockets.fetch_add(1, Ordering::AcqRel);
                if open >= self.limit + SURPLUS {
                    self.open_sockets.fetch_sub(1, Ordering::AcqRel);
                    continue;
                }
                set_options(&stream);
                let is_surplus = open >= self.limit;
                take(Accepted { stream, peer: peer.ip().to_canonical(), is_surplus });
            }
        }
        true
    }
}

/// Where the accept thread hands new connections to.
pub trait Shards: Send {
    /// How many shards there are.
    fn count(&self) -> usize;
    /// The sockets of a shard.
    fn load(&self, shard: usize) -> u64;
    /// Hands a connection over. May wait while the shard is busy: those who come next wait in the kernel.
    fn hand_over(&self, shard: usize, accepted: Accepted);
    /// What was handed over may be looked at.
    fn wake(&self);
}

/// The accept thread, for several shards: every new connection goes to the shard with the fewest. Ends when `stop` is
/// set and the poll is woken; then the listeners are closed.
///
/// # Errors
/// The poll failed.
pub fn run(
    mut poll: Poll,
    mut acceptor: Acceptor,
    shards: &impl Shards,
    stop: &AtomicBool,
) -> io::Result<()> {
    acceptor.register(poll.registry(), LISTENERS)?;
    let mut events = Events::with_capacity(64);
    let mut pause = None;
    while !stop.load(Ordering::Acquire) {
        match poll.poll(&mut events, pause) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => acceptor.make_ready(),
        }
        let has_descriptors = acceptor.accept(|accepted| {
            let shard = (0..shards.count()).min_by_key(|shard| shards.load(*shard)).unwrap_or(0);
            shards.hand_over(shard, accepted);
        });
        shards.wake();
        pause = match (has_descriptors, acceptor.may_wait()) {
            (false, _) => Some(NO_DESCRIPTORS),
            (true, true) => Some(Duration::ZERO),
            (true, false) => None,
        };
    }
    Ok(())
}

/// Small frames go out at once, and the kernel does not hoard. A socket that takes neither still works.
fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_over_the_limit_connections_are_let_go_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let open = Arc::new(AtomicUsize::new(0));
        let mut acceptor = Acceptor::new(vec![listener], Arc::clone(&open), 1).expect("an acceptor");
        let (mut clients, mut accepted) = (Vec::new(), Vec::new());
        for _ in 0..SURPLUS + 5 {
            clients.push(std::net::TcpStream::connect(address).expect("connected"));
            acceptor.make_ready();
            assert!(acceptor.accept(|one| accepted.push(one)));
        }
        assert_eq!(accepted.iter().filter(|one| !one.is_surplus).count(), 1);
        assert_eq!((accepted.len(), open.load(Ordering::Acquire)), (1 + SURPLUS, 1 + SURPLUS));
    }
}
