//! The broker: its threads, from the start to the end of the drain.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::net::TcpStream;
use mio::{Poll, Waker};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::accept::{self, Accepted, Acceptor, Shards};
use crate::admin::{self, AdminServer, Control, PublishError, Published};
use crate::app::AppSettings;
use crate::auth::Verifier;
use crate::config::Config;
use crate::limits::SHARDS;
use crate::mailbox::ToShard;
use crate::metrics::latency::Latencies;
use crate::metrics::{RouterMetrics, ShardMetrics};
use crate::room::pattern::{Access, Policy, RoomPatterns};
use crate::router::{BodyResult, Router, RouterSettings};
use crate::settings::{RoomJoin, RoomPolicy, TlsSettings};
use crate::shard::run::{self, Alarm, Alone, LANE, MioNet, RouterCommand, RouterLane, ShardLanes};
use crate::shard::turn::Command;
use crate::shard::{Common, Shard, ShardSettings};
use crate::time::Now;
use crate::transport::tls::{TlsConfig, TlsFiles, TlsService};
use crate::users::Users;

/// Connections that wait to be looked at by a shard; then accepting waits.
const ACCEPT_QUEUE: usize = 1_024;
/// What shards may have to say to the router at once; what finds no room waits in the shard, which then reads no client.
const CONTROL_LANE: usize = 64 * 1024;
/// What clients may have published that the router has not taken.
const DATA_LANE: usize = 4_096;
/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 4_096;
/// Descriptors kept for everything that is not a client: listeners, publishers, admin, files.
const RESERVED_DESCRIPTORS: usize = 256;
/// How often users and addresses that are no longer needed are taken out.
const SWEEP: Duration = Duration::from_secs(10);
/// How long the admin port waits for shards and publishes.
const ANSWER: Duration = Duration::from_secs(1);
const PUBLISH_ANSWER: Duration = Duration::from_secs(8);

/// Why the broker did not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn failed(what: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError(format!("{what}: {error}"))
}

/// A thread that takes commands.
struct Mailbox<C> {
    commands: Sender<C>,
    alarm: Alarm,
}

impl<C> Mailbox<C> {
    /// Sends a command and wakes the thread. False: it has ended.
    fn send(&self, command: C) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.alarm.ring();
        sent
    }
}

/// A shard, and the latencies it recorded.
type Recorded = (usize, Box<Latencies>);

/// What the handles of a running broker share.
struct Inner {
    shards: Vec<Mailbox<Command<TcpStream>>>,
    router: Mailbox<RouterCommand>,
    shard_metrics: Vec<Arc<ShardMetrics>>,
    router_metrics: Arc<RouterMetrics>,
    latencies: (Sender<Recorded>, Receiver<Recorded>),
    /// Whether a shard has been asked for its latencies and has not answered yet.
    asked: Vec<AtomicBool>,
    users: Arc<Users>,
    patterns: RoomPatterns,
    drain_over: Duration,
    draining: AtomicBool,
    /// The accept thread's, where there is one.
    accept: Option<AcceptHandle>,
}

/// Ends the accept thread.
struct AcceptHandle {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

/// A running broker.
pub struct Broker {
    inner: Arc<Inner>,
    public: Vec<SocketAddr>,
    ingest: SocketAddr,
    admin: SocketAddr,
    tls: Mutex<Tls>,
    threads: Mutex<Option<Threads>>,
}

/// The certificates in force.
#[derive(Clone)]
struct Tls {
    public: Option<TlsConfig>,
    ingest: Option<TlsConfig>,
}

struct Threads {
    accept: Option<JoinHandle<io::Result<()>>>,
    shards: Vec<JoinHandle<io::Result<()>>>,
    router: Option<JoinHandle<io::Result<()>>>,
    admin: AdminServer,
}

impl Broker {
    /// Opens the ports and starts the threads.
    ///
    /// # Errors
    /// A port cannot be opened, a certificate cannot be used, or the system has no more threads or descriptors.
    pub fn start(config: Config, verifier: Arc<Verifier>) -> Result<Broker, StartError> {
        crate::time::monotonic();
        let tls = Tls::load(&config)?;
        let patterns = patterns(&config)?;
        let public = config.listen.iter().map(|address| open(*address)).collect::<Result<Vec<_>, _>>()?;
        let ingest = open(config.ingest.listen)?;
        let admin = open(config.admin.listen)?;
        let addresses = public.iter().map(local).collect::<Result<Vec<_>, _>>()?;
        let (ingest_address, admin_address) = (local(&ingest)?, local(&admin)?);
        let shards = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from).min(SHARDS),
            shards => shards,
        };
        let limit = connection_limit(config.limits.connections);
        let users = Arc::new(Users::default());
        let common = Common { users: Arc::clone(&users), open_sockets: Arc::default() };
        let shard_metrics: Vec<Arc<ShardMetrics>> = (0..shards).map(|_| Arc::default()).collect();
        let router_metrics = Arc::new(RouterMetrics::default());
        let settings =
            Arc::new(shard_settings(&config, &patterns, Arc::clone(&verifier), tls.public.clone()));
        let mut router_settings = RouterSettings::new(patterns.clone(), shards, &config.limits);
        router_settings.token = config.ingest.token.expose().to_owned();
        router_settings.max_line = config.ingest.max_line;
        router_settings.tls = tls.ingest.clone();
        let mut router = Router::new(router_settings, Arc::clone(&router_metrics), shard_metrics.clone());
        let pace = config.fanout.pace;
        let acceptor = Acceptor::new(public, Arc::clone(&common.open_sockets), limit)
            .map_err(failed("the public listeners"))?;
        let mut acceptor = Some(acceptor);
        let mut mailboxes = Vec::with_capacity(shards);
        let mut handles = Vec::with_capacity(shards);
        let (router_sender, router_commands) = bounded(256);
        let (router_mailbox, router_handle) = if shards == 1 {
            let (poll, alarm) = new_poll()?;
            router.listen(ingest, poll.registry()).map_err(failed("the ingest port"))?;
            let (sender, commands) = bounded(ACCEPT_QUEUE);
            mailboxes.push(Mailbox { commands: sender, alarm: alarm.clone() });
            let router_mailbox = Mailbox { commands: router_sender, alarm: alarm.clone() };
            let metrics = Arc::clone(&shard_metrics[0]);
            let (settings, common) = (Arc::clone(&settings), common.clone());
            let acceptor = acceptor.take();
            handles.push(spawn("shard-0", move || {
                // Built here: a shard holds what must not leave its thread.
                let net = MioNet::new(&poll)?;
                let shard = Shard::new(0, net, settings, common, metrics, Now::read());
                let Some(acceptor) = acceptor else { return Ok(()) };
                let alone = Alone { router, acceptor, commands, router_commands };
                run::run_alone(poll, &alarm, shard, alone, pace)
            })?);
            (router_mailbox, None)
        } else {
            let (poll, alarm) = new_poll()?;
            router.listen(ingest, poll.registry()).map_err(failed("the ingest port"))?;
            let (control_sender, control) = bounded(CONTROL_LANE);
            let (data_sender, data) = bounded(DATA_LANE);
            let mut lanes = Vec::with_capacity(shards);
            for (id, metrics) in shard_metrics.iter().enumerate() {
                let (poll, shard_alarm) = new_poll()?;
                let (sender, commands) = bounded(ACCEPT_QUEUE);
                let (inbox_sender, inbox) = bounded::<ToShard>(LANE);
                let router_waits = Arc::new(AtomicBool::new(false));
                lanes.push(RouterLane {
                    inbox: inbox_sender,
                    alarm: shard_alarm.clone(),
                    router_waits: Arc::clone(&router_waits),
                });
                let ends = ShardLanes {
                    inbox,
                    control: control_sender.clone(),
                    data: data_sender.clone(),
                    router: alarm.clone(),
                    router_waits,
                };
                mailboxes.push(Mailbox { commands: sender, alarm: shard_alarm.clone() });
                let metrics = Arc::clone(metrics);
                let (settings, common) = (Arc::clone(&settings), common.clone());
                handles.push(spawn(&format!("shard-{id}"), move || {
                    let net = MioNet::new(&poll)?;
                    let shard = Shard::new(id as u8, net, settings, common, metrics, Now::read());
                    run::run_shard(poll, &shard_alarm, shard, &commands, &ends, pace)
                })?);
            }
            let mailbox = Mailbox { commands: router_sender, alarm: alarm.clone() };
            let handle = spawn("router", move || {
                run::run_router(poll, &alarm, router, &router_commands, &control, &data, lanes)
            })?;
            (mailbox, Some(handle))
        };
        let (accept_poll, accept_handle) = match acceptor {
            None => (None, None),
            Some(_) => {
                let poll = Poll::new().map_err(failed("the poll of the accept thread"))?;
                let waker = Waker::new(poll.registry(), run::WAKER)
                    .map_err(failed("the waker of the accept thread"))?;
                (Some(poll), Some(AcceptHandle { stop: Arc::default(), waker }))
            }
        };
        let inner = Arc::new(Inner {
            asked: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            shards: mailboxes,
            router: router_mailbox,
            shard_metrics,
            router_metrics,
            latencies: bounded(shards),
            users,
            patterns,
            drain_over: Duration::from_secs(u64::from(config.drain.seconds)),
            draining: AtomicBool::new(false),
            accept: accept_handle,
        });
        let accept = match (acceptor, accept_poll, &inner.accept) {
            (Some(acceptor), Some(poll), Some(handle)) => {
                let (to_shards, stop) = (ToShards(Arc::clone(&inner)), Arc::clone(&handle.stop));
                Some(spawn("accept", move || accept::run(poll, acceptor, &to_shards, &stop))?)
            }
            _ => None,
        };
        let admin_settings = admin::AdminSettings { token: config.admin.token.expose().to_owned() };
        let admin = AdminServer::start(admin, admin_settings, Arc::clone(&inner) as Arc<dyn Control>)
            .map_err(failed("the admin port"))?;
        let sweeper = Arc::downgrade(&inner);
        spawn("sweep", move || {
            while let Some(inner) = sweeper.upgrade() {
                inner.users.sweep(crate::time::monotonic());
                drop(inner);
                thread::sleep(SWEEP);
            }
            Ok(())
        })?;
        Ok(Broker {
            inner,
            public: addresses,
            ingest: ingest_address,
            admin: admin_address,
            tls: Mutex::new(tls),
            threads: Mutex::new(Some(Threads { accept, shards: handles, router: router_handle, admin })),
        })
    }

    /// Where clients connect.
    pub fn public_addresses(&self) -> &[SocketAddr] {
        &self.public
    }

    /// Where backends publish.
    pub fn ingest_address(&self) -> SocketAddr {
        self.ingest
    }

    /// Where metrics and health are served.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Takes what may change live: keys, certificates, origins, limits. Certificates that cannot be read stay as they are,
    /// which the log says.
    pub fn reload(&self, config: &Config, verifier: Arc<Verifier>) {
        let tls = {
            let mut current = self.tls.lock();
            match Tls::load(config) {
                Ok(tls) => *current = tls,
                Err(error) => tracing::error!(%error, "the certificates stay as they are"),
            }
            current.clone()
        };
        let settings = Arc::new(shard_settings(config, &self.inner.patterns, verifier, tls.public));
        for shard in &self.inner.shards {
            shard.send(Command::Reload(Arc::clone(&settings)));
        }
        self.inner.router.send(RouterCommand::Tls(tls.ingest));
    }

    /// Starts the graceful shutdown and returns at once.
    pub fn drain(&self) {
        self.inner.drain();
    }

    /// Waits for the end of the shutdown.
    pub fn wait(&self) {
        let Some(threads) = self.threads.lock().take() else { return };
        if let Some(accept) = threads.accept {
            join("accept", accept);
        }
        for shard in threads.shards {
            join("shard", shard);
        }
        self.inner.router.send(RouterCommand::End);
        if let Some(router) = threads.router {
            join("router", router);
        }
        threads.admin.stop();
    }
}

impl Inner {
    fn drain(&self) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(accept) = &self.accept {
            accept.stop.store(true, Ordering::Release);
            if let Err(error) = accept.waker.wake() {
                tracing::error!(%error, "the accept thread could not be woken");
            }
        }
        self.router.send(RouterCommand::StopListening);
        for shard in &self.shards {
            shard.send(Command::Drain(self.drain_over));
        }
    }
}

impl Control for Inner {
    fn shards(&self) -> &[Arc<ShardMetrics>] {
        &self.shard_metrics
    }

    fn router(&self) -> &RouterMetrics {
        &self.router_metrics
    }

    fn collect_latencies(&self, spares: Vec<Box<Latencies>>) -> Vec<(usize, Box<Latencies>)> {
        let mut waiting = 0;
        for ((shard, asked), spare) in self.shards.iter().zip(&self.asked).zip(spares) {
            waiting += 1;
            if !asked.swap(true, Ordering::AcqRel) {
                shard.send(Command::Latencies { spare, reply: self.latencies.0.clone() });
            }
        }
        let until = Instant::now() + ANSWER;
        let mut answers = Vec::with_capacity(waiting);
        while answers.len() < waiting {
            let Ok((shard, filled)) = self.latencies.1.recv_deadline(until) else { break };
            self.asked[shard].store(false, Ordering::Release);
            answers.push((shard, filled));
        }
        answers
    }

    fn top_rooms(&self, limit: usize) -> Vec<(String, u64)> {
        let (reply, answers) = bounded(self.shards.len());
        for shard in &self.shards {
            shard.send(Command::TopRooms { limit, reply: reply.clone() });
        }
        drop(reply);
        let until = Instant::now() + ANSWER;
        let mut rooms = std::collections::HashMap::<String, u64>::new();
        while let Ok(answer) = answers.recv_deadline(until) {
            for (room, members) in answer {
                *rooms.entry(room).or_default() += members;
            }
        }
        let mut rooms: Vec<(String, u64)> = rooms.into_iter().collect();
        rooms.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rooms.truncate(limit);
        rooms
    }

    fn publish(&self, body: Vec<u8>) -> Result<Published, PublishError> {
        if self.draining() {
            return Err(PublishError::Draining);
        }
        let (reply, result) = bounded(1);
        let command = RouterCommand::Publish { body, reply };
        self.router.commands.try_send(command).map_err(|_| PublishError::Overloaded)?;
        self.router.alarm.ring();
        let BodyResult { replies, lines, errors } =
            result.recv_timeout(PUBLISH_ANSWER).map_err(|_| PublishError::TimedOut)?;
        Ok(Published { lines: replies, total: lines, accepted: lines - errors, rejected: errors })
    }

    fn drain(&self) {
        Inner::drain(self);
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Hands new connections to the shards.
struct ToShards(Arc<Inner>);

impl Shards for ToShards {
    fn count(&self) -> usize {
        self.0.shards.len()
    }

    fn load(&self, shard: usize) -> u64 {
        self.0.shard_metrics[shard].sockets.get() + self.0.shards[shard].commands.len() as u64
    }

    fn hand_over(&self, shard: usize, accepted: Accepted) {
        let mailbox = &self.0.shards[shard];
        if mailbox.commands.is_full() {
            mailbox.alarm.ring();
        }
        // A shard ends only after this thread.
        let _ = mailbox.commands.send(accepted.into());
    }

    fn wake(&self) {
        for shard in self.0.shards.iter().filter(|shard| !shard.commands.is_empty()) {
            shard.alarm.ring();
        }
    }
}

impl Tls {
    fn load(config: &Config) -> Result<Tls, StartError> {
        Ok(Tls {
            public: load_tls(&config.tls, None, TlsService::Http)?,
            ingest: load_tls(
                &config.ingest.tls.server,
                config.ingest.tls.asks_for_certificates().then(|| config.ingest.tls.client_ca.clone()),
                TlsService::Ingest,
            )?,
        })
    }
}

fn load_tls(
    settings: &TlsSettings,
    client_authorities: Option<std::path::PathBuf>,
    service: TlsService,
) -> Result<Option<TlsConfig>, StartError> {
    if !settings.is_on() {
        return Ok(None);
    }
    let files =
        TlsFiles { certificates: settings.cert.clone(), key: settings.key.clone(), client_authorities };
    TlsConfig::load(files, service).map(Some).map_err(|error| StartError(error.to_string()))
}

fn shard_settings(
    config: &Config,
    patterns: &RoomPatterns,
    verifier: Arc<Verifier>,
    tls: Option<TlsConfig>,
) -> ShardSettings {
    ShardSettings {
        limits: config.limits.clone(),
        apps: config.apps.on,
        allowed_origins: config.allowed_origins.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        app: AppSettings {
            patterns: patterns.clone(),
            control: config.limits.control,
            grace: config.auth.grace,
        },
        verifier,
        anonymous: config.auth.anonymous,
        ping_interval: config.liveness.ping_interval,
        pong_timeout: config.liveness.pong_timeout,
        tls,
    }
}

fn patterns(config: &Config) -> Result<RoomPatterns, StartError> {
    let mut patterns = RoomPatterns::default();
    for room in &config.rooms {
        let policy = match room.policy {
            RoomPolicy::Latest => Policy::Latest,
            RoomPolicy::Every => Policy::Every,
        };
        let access = match room.join {
            RoomJoin::Authenticated => Access::Authenticated,
            RoomJoin::Anonymous => Access::Anonymous,
            RoomJoin::Owner => Access::Owner,
        };
        patterns
            .add(&room.prefix, &room.pattern, policy, access)
            .map_err(|error| StartError(format!("rooms: {error}")))?;
    }
    Ok(patterns)
}

/// Opens a listener. The address may be taken again right after a restart.
fn open(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(failed(format_args!("cannot listen on {address}, is it in use already?")))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(failed("the address of a listener"))
}

fn new_poll() -> Result<(Poll, Alarm), StartError> {
    let poll = Poll::new().map_err(failed("a poll"))?;
    let alarm = Alarm::new(&poll).map_err(failed("a waker"))?;
    Ok((poll, alarm))
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<JoinHandle<io::Result<T>>, StartError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed(format_args!("the thread {name}")))
}

fn join(name: &str, handle: JoinHandle<io::Result<()>>) {
    match handle.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, name, "a thread has failed"),
        Err(_) => tracing::error!(name, "a thread has panicked"),
    }
}

/// Most connections: what is configured, or what the descriptors allow.
fn connection_limit(configured: usize) -> usize {
    let descriptors = raise_descriptor_limit().saturating_sub(RESERVED_DESCRIPTORS).max(1);
    match configured {
        0 => descriptors.min(1_000_000),
        configured => configured.min(descriptors),
    }
}

/// Raises the limit of open files as far as the system lets us, and returns it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let reached = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    reached.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
