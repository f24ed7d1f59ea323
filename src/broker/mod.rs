//! The broker: its ports and threads, from the start to the end of the drain.

mod backing;
mod control;
mod ports;
mod settings;
mod threads;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::accept::Acceptor;
use crate::admin::{AdminServer, AdminSettings, Control};
use crate::auth::{UsedTokens, Verifier};
use crate::broker::backing::{Backed, Backing, BackingThreads};
use crate::broker::ports::{Addresses, Ports};
use crate::broker::settings::Tls;
use crate::broker::threads::{Parts, Reach, Routing, Threads};
use crate::config::Config;
use crate::limits::SHARDS;
use crate::metrics::latency::Latencies;
use crate::metrics::{RouterMetrics, ShardMetrics};
use crate::openapi::{self, Served};
use crate::room::pattern::RoomPatterns;
use crate::router::Router;
use crate::run::RouterCommand;
use crate::shard::Common;
use crate::shard::turn::Command;
use crate::time::Now;
use crate::users::Users;

/// How often users and addresses that are no longer needed are taken out.
const SWEEP: Duration = Duration::from_secs(10);

/// Why the broker did not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// An error of the operating system, with what was about to be done.
fn failed(what: impl fmt::Display) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError(format!("{what}: {error}"))
}

/// A shard, and the latencies it recorded.
type Recorded = (usize, Box<Latencies>);

/// What the handles of a running broker share.
struct Inner {
    reach: Reach,
    shard_metrics: Vec<Arc<ShardMetrics>>,
    router_metrics: Arc<RouterMetrics>,
    latencies: (Sender<Recorded>, Receiver<Recorded>),
    /// Whether a shard has been asked for its latencies and has not answered yet.
    asked: Vec<AtomicBool>,
    users: Arc<Users>,
    used: Arc<UsedTokens>,
    /// The store and the identity provider, where they are on.
    backed: Option<Backed>,
    drain_over: Duration,
    draining: AtomicBool,
}

/// A running broker.
pub struct Broker {
    inner: Arc<Inner>,
    addresses: Addresses,
    patterns: RoomPatterns,
    tls: Mutex<Tls>,
    running: Mutex<Option<Running>>,
}

/// What ends with the broker.
struct Running {
    threads: Threads,
    admin: AdminServer,
    backing: Option<BackingThreads>,
}

impl Broker {
    /// Opens the ports and starts the threads.
    ///
    /// # Errors
    /// A port cannot be opened, a certificate cannot be used, or the system has no more threads or descriptors.
    pub fn start(config: &Config, verifier: Arc<Verifier>) -> Result<Broker, StartError> {
        let (tls, patterns) = (Tls::load(config)?, settings::patterns(config)?);
        let ports = Ports::open(config)?;
        let addresses = ports.addresses()?;
        let shards = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from).min(SHARDS),
            shards => shards,
        };
        let (poll, alarm) = threads::new_poll()?;
        let mut backing = Backing::start(config, &verifier, alarm.clone())?;
        let login = backing.as_ref().and_then(|backing| backing.login.clone());
        let served = Served { title: &config.openapi.title, apps: config.apps.on, login: login.is_some() };
        let common = Common {
            store: backing.as_ref().map(|backing| backing.store.clone()),
            document: openapi::document(&served).into(),
            login,
            ..Common::default()
        };
        let limit = ports::connection_limit(config.limits.connections);
        let acceptor = Acceptor::new(ports.public, Arc::clone(&common.open_sockets), limit)
            .map_err(failed("the public listeners"))?;
        let shard_metrics: Vec<Arc<ShardMetrics>> = (0..shards).map(|_| Arc::default()).collect();
        let router_metrics = Arc::new(RouterMetrics::default());
        let mut router_settings = settings::router_settings(config, &patterns, shards, tls.ingest.clone());
        router_settings.keeps = config.apps.on.map(|is_on| is_on && backing.is_some());
        let routing = Routing {
            router: Router::new(router_settings, Arc::clone(&router_metrics), shard_metrics.clone()),
            poll,
            alarm,
            store: backing.as_mut().and_then(|backing| backing.end.take()),
        };
        let (users, used) = (Arc::clone(&common.users), Arc::clone(&common.used));
        let parts = Parts {
            settings: Arc::new(settings::shard_settings(
                config,
                &patterns,
                verifier,
                shards,
                tls.public.clone(),
            )),
            common,
            metrics: shard_metrics.clone(),
            pace: config.fanout.pace,
        };
        let (threads, reach) = parts.start(routing, ports.ingest, acceptor)?;
        let backing = backing.map(|backing| backing.finish(Arc::clone(&reach.shards))).transpose()?;
        let (backed, backing_threads) = backing.unzip();
        let inner = Arc::new(Inner {
            reach,
            shard_metrics,
            router_metrics,
            latencies: bounded(shards),
            asked: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            users,
            used,
            backed,
            drain_over: Duration::from_secs(u64::from(config.drain.seconds)),
            draining: AtomicBool::new(false),
        });
        let admin_settings = AdminSettings { token: config.admin.token.expose().to_owned() };
        let control = Arc::clone(&inner) as Arc<dyn Control>;
        let admin =
            AdminServer::start(ports.admin, admin_settings, control).map_err(failed("the admin port"))?;
        start_sweeping(&inner)?;
        Ok(Broker {
            inner,
            addresses,
            patterns,
            tls: Mutex::new(tls),
            running: Mutex::new(Some(Running { threads, admin, backing: backing_threads })),
        })
    }

    /// Where clients connect.
    pub fn public_addresses(&self) -> &[SocketAddr] {
        &self.addresses.public
    }

    /// Where backends publish.
    pub fn ingest_address(&self) -> SocketAddr {
        self.addresses.ingest
    }

    /// Where metrics and health are served.
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Takes what may change live: keys, certificates, origins, limits. Certificates that cannot be read stay as they
    /// are, which the log says.
    pub fn reload(&self, config: &Config, verifier: Arc<Verifier>) {
        let tls = {
            let mut current = self.tls.lock();
            match Tls::load(config) {
                Ok(tls) => *current = tls,
                Err(error) => tracing::error!(%error, "the certificates stay as they are"),
            }
            current.clone()
        };
        if let Some(backed) = &self.inner.backed {
            backed.reload(config, Arc::clone(&verifier));
        }
        let settings = Arc::new(settings::shard_settings(
            config,
            &self.patterns,
            verifier,
            self.inner.reach.shards.len(),
            tls.public,
        ));
        for shard in &*self.inner.reach.shards {
            shard.send(Command::Reload(Arc::clone(&settings)));
        }
        self.inner.reach.router.send(RouterCommand::Tls(tls.ingest));
    }

    /// Starts the graceful shutdown and returns at once.
    pub fn drain(&self) {
        self.inner.drain();
    }

    /// Waits for the end of the shutdown.
    pub fn wait(&self) {
        let Some(Running { threads, admin, backing }) = self.running.lock().take() else { return };
        join(threads.shards);
        self.inner.reach.router.send(RouterCommand::End);
        join(threads.others);
        // What was asked is committed, also of those who are gone.
        drop(backing);
        admin.stop();
    }
}

impl Inner {
    fn drain(&self) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(accept) = &self.reach.accept {
            accept.stop();
        }
        self.reach.router.send(RouterCommand::StopListening);
        for shard in &*self.reach.shards {
            shard.send(Command::Drain(self.drain_over));
        }
    }
}

/// Takes out users and addresses that are no longer needed, for as long as the broker is there.
fn start_sweeping(inner: &Arc<Inner>) -> Result<(), StartError> {
    let inner = Arc::downgrade(inner);
    threads::spawn("sweep", move || {
        while let Some(inner) = inner.upgrade() {
            inner.users.sweep(crate::time::monotonic());
            inner.used.sweep(Now::read().unix_seconds());
            drop(inner);
            thread::sleep(SWEEP);
        }
        Ok(())
    })?;
    Ok(())
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread has panicked");
        }
    }
}
