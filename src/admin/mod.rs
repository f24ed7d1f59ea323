//! The admin port: metrics, health, statistics, publishing and draining over HTTP (`spec/operations.md`).
//!
//! One thread accepts, one collects latencies every five seconds, and each connection has a short-lived thread
//! of its own, of which there are few: the port is for a scraper, a load balancer and a person. Blocking sockets
//! keep it simple; nothing of it is on the path of an event.
//!
//! It knows the counters and the trait [`Control`], and nothing of shards, the router or the configuration.

mod http;
mod routes;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;

use crate::metrics::latency::{INTERVAL_NS, Latencies, LatencyStore, Timing};
use crate::metrics::{RouterMetrics, ShardMetrics, StoreMetrics};
use crate::time::Now;

use http::{Answer, Connection};
use stats::RateSampler;

/// Most connections at a time: a pair of scrapers, a load balancer, a few people and publishers. Each may hold a
/// body of [`PUBLISH_BYTES`] and its result lines, so this bounds the memory too.
const CONNECTIONS: usize = 16;

/// Largest body of `POST /publish`, bytes: as many lines as a busy publisher sends in a second.
pub const PUBLISH_BYTES: usize = 1024 * 1024;

/// How often latencies are collected and rates computed.
const TICK: Duration = Duration::from_nanos(INTERVAL_NS);

/// How often the accepting thread looks around without being called: it forgets threads that ended, and tries
/// again to accept if that failed for want of file descriptors.
const LOOK_AROUND: Duration = Duration::from_secs(1);

const LISTENER: Token = Token(0);
const STOP: Token = Token(1);

/// What the admin port needs of the broker. Called from several threads at once.
pub trait Control: Send + Sync + 'static {
    /// The counters of each shard, in shard order. The number of shards never changes.
    fn shards(&self) -> &[Arc<ShardMetrics>];

    /// The counters of the router.
    fn router(&self) -> &RouterMetrics;

    /// Gives each shard one of `spares` (as many as there are shards, all empty) and returns what the shards had
    /// recorded. Waits at most a second; a shard that has not answered by then is left out and its answer comes
    /// with a later collection. At most one request may be under way to a shard, so that a stuck shard's mailbox
    /// does not fill. Calls come one at a time.
    fn collect_latencies(&self, spares: Vec<Box<Latencies>>) -> Vec<(usize, Box<Latencies>)>;

    /// What the store counts, and how many requests wait for it; `None`: there is no store.
    fn store(&self) -> Option<(&StoreMetrics, usize)> {
        None
    }

    /// How long each commit of the store has taken since the last call; `None` if it does not say so soon.
    fn commit_times(&self) -> Option<Box<Timing>> {
        None
    }

    /// The rooms with most subscribers over all shards, the largest first, at most `limit`.
    fn top_rooms(&self, limit: usize) -> Vec<(String, u64)>;

    /// Publishes NDJSON lines (`spec/ingest.md`), at most [`PUBLISH_BYTES`], in order, and waits for their
    /// results. The last line needs no newline; empty lines do not count.
    fn publish(&self, lines: Vec<u8>) -> Result<Published, PublishError>;

    /// Starts the graceful shutdown and returns at once. Asking again changes nothing.
    fn drain(&self);

    /// Whether the graceful shutdown has started.
    fn draining(&self) -> bool;
}

/// What became of the lines of one `POST /publish`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The result lines, each with its newline: one for each line that carried an id, and for each error.
    pub lines: Vec<u8>,
    /// Lines in the body.
    pub total: u64,
    /// Lines taken, duplicates included.
    pub accepted: u64,
    /// Lines answered with an error.
    pub rejected: u64,
}

/// Why a body could not be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The shards or the router cannot keep up; nothing was published.
    Overloaded,
    /// The broker is shutting down; nothing was published.
    Draining,
    /// The results did not come in time; some or all lines may have been published.
    TimedOut,
}

/// The settings of the admin port.
pub struct AdminSettings {
    /// The bearer token that every path but `/healthz` and `/readyz` asks for; empty: none is needed.
    pub token: String,
}

/// What the threads of the port share.
struct Shared {
    settings: AdminSettings,
    control: Arc<dyn Control>,
    latencies: Mutex<LatencyStore>,
    rates: Mutex<RateSampler>,
    started: Now,
    stopping: AtomicBool,
    /// Connections that have a thread.
    open: AtomicUsize,
}

impl Shared {
    /// Brings the latencies up to date. Waits for the shards, at most as long as `collect_latencies` does.
    fn collect(&self) -> parking_lot::MutexGuard<'_, LatencyStore> {
        let mut store = self.latencies.lock();
        let collected = self.control.collect_latencies(store.spares());
        store.advance(Now::read().mono);
        for (shard, latencies) in collected {
            store.merge(shard, latencies);
        }
        if let Some(times) = self.control.commit_times() {
            store.merge_commits(&times);
        }
        store
    }
}

/// The running admin port. Dropping it stops it.
pub struct AdminServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    waker: Waker,
    acceptor: Option<JoinHandle<()>>,
    ticker: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Serves `listener` until [`AdminServer::stop`]. Fails if the listener cannot be polled or a thread cannot
    /// be started.
    pub fn start(
        listener: TcpListener,
        settings: AdminSettings,
        control: Arc<dyn Control>,
    ) -> io::Result<AdminServer> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), STOP)?;

        let started = Now::read();
        let shared = Arc::new(Shared {
            settings,
            latencies: Mutex::new(LatencyStore::new(control.shards().len(), started.mono)),
            rates: Mutex::new(RateSampler::new(&*control, started.mono)),
            control,
            started,
            stopping: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        });
        let mut server =
            AdminServer { address, shared: Arc::clone(&shared), waker, acceptor: None, ticker: None };
        let acceptor = Acceptor {
            listener,
            shared: Arc::clone(&shared),
            places: Vec::new(),
            turned_away: VecDeque::new(),
        };
        // If the second thread cannot be started, dropping `server` ends the first.
        server.acceptor = Some(named("admin", move || acceptor.run(poll))?);
        server.ticker = Some(named("admin-ticker", move || tick(&shared))?);
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, lets answers that are being written finish, and ends all its threads.
    pub fn stop(self) {}
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "the admin port ends with a delay: its thread could not be woken");
        }
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn named(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Collects latencies and rates at a steady pace, so that "the last minute" holds whether anybody scrapes or not.
fn tick(shared: &Shared) {
    let mut next = Instant::now() + TICK;
    while !shared.stopping.load(Ordering::Acquire) {
        let now = Instant::now();
        if now < next {
            thread::park_timeout(next - now);
            continue;
        }
        drop(shared.collect());
        shared.rates.lock().sample(&*shared.control, Now::read().mono);
        // After a suspension, missed ticks are not made up for.
        next = (next + TICK).max(now);
    }
}

/// A connection that has a thread. The thread owns the socket.
struct Place {
    stream: Weak<TcpStream>,
    thread: JoinHandle<()>,
}

/// The accepting thread.
struct Acceptor {
    listener: TcpListener,
    shared: Arc<Shared>,
    places: Vec<Place>,
    /// Answered with 503, and kept until the next look around so that the answer arrives.
    turned_away: VecDeque<TcpStream>,
}

impl Acceptor {
    fn run(mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(4);
        while !self.shared.stopping.load(Ordering::Acquire) {
            if let Err(error) = poll.poll(&mut events, Some(LOOK_AROUND))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the admin port stops: waiting for connections failed");
                break;
            }
            if events.is_empty() {
                self.turned_away.clear();
            }
            self.accept();
        }
        for place in &self.places {
            if let Some(stream) = place.stream.upgrade() {
                // Ends the wait for a request; an answer can still be written.
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
        for place in self.places.drain(..) {
            let _ = place.thread.join();
        }
    }

    /// Takes every connection that waits.
    fn accept(&mut self) {
        self.places.retain(|place| !place.thread.is_finished());
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => self.seat(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "the admin port could not accept a connection");
                    return;
                }
            }
        }
    }

    /// Gives a connection a thread, or turns it away.
    fn seat(&mut self, stream: TcpStream, peer: SocketAddr) {
        // Only this thread adds to `open`, so the bound holds.
        if self.shared.open.load(Ordering::Acquire) >= CONNECTIONS {
            self.turn_away(stream);
            return;
        }
        // Answers are written whole: waiting to fill a segment would only delay them.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let place = Arc::downgrade(&stream);
        let taken = Taken::new(&self.shared);
        match named("admin-connection", move || {
            routes::serve(&taken.0, Connection::new(stream), peer, CONNECTIONS / 2);
        }) {
            Ok(thread) => self.places.push(Place { stream: place, thread }),
            Err(error) => tracing::warn!(%error, "the admin port could not start a thread for a connection"),
        }
    }

    /// Says 503 without waiting: the answer fits any fresh socket's buffer.
    fn turn_away(&mut self, stream: TcpStream) {
        let message = format!("{CONNECTIONS} admin connections are open: try again when one has ended");
        let answer = Answer::error(503, "OVERLOADED", &message).with_field("Retry-After", "1");
        if stream.set_nonblocking(true).is_ok()
            && io::Write::write_all(&mut &stream, &answer.encode(false, true)).is_ok()
            && stream.shutdown(Shutdown::Write).is_ok()
        {
            self.turned_away.push_back(stream);
            self.turned_away.drain(..self.turned_away.len().saturating_sub(CONNECTIONS));
        }
    }
}

/// A taken place; given back when the thread ends, however it ends.
struct Taken(Arc<Shared>);

impl Taken {
    fn new(shared: &Arc<Shared>) -> Taken {
        shared.open.fetch_add(1, Ordering::AcqRel);
        Taken(Arc::clone(shared))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
