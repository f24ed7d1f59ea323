//! The threads of a broker, and the lanes between them. One shard has the router and the listeners in its own loop;
//! several have a thread each, and so have the router and the accept loop.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use mio::net::TcpStream;
use mio::{Poll, Waker};

use crate::accept::{self, Accepted, Acceptor, Shards};
use crate::broker::{StartError, failed};
use crate::mailbox::ToShard;
use crate::metrics::ShardMetrics;
use crate::router::Router;
use crate::run::{
    self, Alarm, Alone, LANE, MioNet, RouterCommand, RouterEnds, RouterLane, ShardLanes, ShardMailbox,
    StoreEnd,
};
use crate::shard::turn::Command;
use crate::shard::{Common, Shard, ShardSettings};
use crate::time::Now;

/// Connections that wait to be looked at by a shard; then accepting waits.
const ACCEPT_QUEUE: usize = 1_024;
/// Commands to the router that wait.
const ROUTER_QUEUE: usize = 256;
/// What shards may have to say to the router at once; what finds no room waits in the shard, which then reads no client.
const CONTROL_LANE: usize = 64 * 1024;
/// What clients may have published that the router has not taken.
const DATA_LANE: usize = 4_096;

/// A thread that takes commands.
pub(super) struct Mailbox<C> {
    /// What it is told.
    pub commands: Sender<C>,
    /// Wakes it.
    pub alarm: Alarm,
}

impl<C> Mailbox<C> {
    /// Sends a command and wakes the thread. To one that has ended, nothing is to be said.
    pub fn send(&self, command: C) {
        let _ = self.commands.send(command);
        self.alarm.ring();
    }
}

/// The mailboxes of all shards.
pub(super) type ShardMailboxes = Arc<[Mailbox<Command<TcpStream>>]>;

/// What all shards are built from.
pub(super) struct Parts {
    /// The configuration.
    pub settings: Arc<ShardSettings>,
    /// What they share.
    pub common: Common,
    /// One block for each shard.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// How long a loaded loop may gather.
    pub pace: Option<Duration>,
}

/// The router, and what its loop waits on.
pub(super) struct Routing {
    /// The router.
    pub router: Router,
    /// Its poll.
    pub poll: Poll,
    /// Wakes it.
    pub alarm: Alarm,
    /// The store, where there is one.
    pub store: Option<StoreEnd>,
}

/// The running threads.
pub(super) struct Threads {
    /// The shards, in order.
    pub shards: Vec<JoinHandle<()>>,
    /// The router and the accept loop, where they are not in the shard's own.
    pub others: Vec<JoinHandle<()>>,
}

/// How to reach them.
pub(super) struct Reach {
    /// The shards, in order.
    pub shards: ShardMailboxes,
    /// The router.
    pub router: Mailbox<RouterCommand>,
    /// The accept thread, where there is one.
    pub accept: Option<AcceptHandle>,
}

/// Ends the accept thread.
pub(super) struct AcceptHandle {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl AcceptHandle {
    /// Ends it; the listeners are closed.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the accept thread could not be woken");
        }
    }
}

impl Parts {
    /// Built on the thread that runs it: a shard holds what must not leave its thread.
    fn shard(&self, id: usize) -> impl FnOnce(&Poll) -> io::Result<Shard<MioNet>> + Send + 'static {
        let (settings, common) = (Arc::clone(&self.settings), self.common.clone());
        let metrics = Arc::clone(&self.metrics[id]);
        move |poll| Ok(Shard::new(id as u8, MioNet::new(poll)?, settings, common, metrics, Now::read()))
    }

    /// Starts the threads.
    pub fn start(
        &self,
        router: Routing,
        ingest: TcpListener,
        acceptor: Acceptor,
    ) -> Result<(Threads, Reach), StartError> {
        match self.metrics.len() {
            1 => self.start_alone(router, ingest, acceptor),
            _ => self.start_sharded(router, ingest, acceptor),
        }
    }

    fn start_alone(
        &self,
        routing: Routing,
        ingest: TcpListener,
        acceptor: Acceptor,
    ) -> Result<(Threads, Reach), StartError> {
        let Routing { mut router, poll, alarm, store } = routing;
        router.listen(ingest, poll.registry()).map_err(failed("the ingest port"))?;
        let (shard_commands, commands) = bounded(ACCEPT_QUEUE);
        let (to_router, router_commands) = bounded(ROUTER_QUEUE);
        let reach = Reach {
            shards: [Mailbox { commands: shard_commands, alarm: alarm.clone() }].into(),
            router: Mailbox { commands: to_router, alarm: alarm.clone() },
            accept: None,
        };
        let (shard, pace) = (self.shard(0), self.pace);
        let thread = spawn("shard-0", move || {
            let shard = shard(&poll)?;
            let alone = Alone { router, acceptor, commands, router_commands, store };
            run::run_alone(poll, &alarm, shard, alone, pace)
        })?;
        Ok((Threads { shards: vec![thread], others: Vec::new() }, reach))
    }

    fn start_sharded(
        &self,
        routing: Routing,
        ingest: TcpListener,
        acceptor: Acceptor,
    ) -> Result<(Threads, Reach), StartError> {
        let Routing { mut router, poll, alarm, store } = routing;
        router.listen(ingest, poll.registry()).map_err(failed("the ingest port"))?;
        let (control_sender, control) = bounded(CONTROL_LANE);
        let (data_sender, data) = bounded(DATA_LANE);
        let (mut mailboxes, mut lanes, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        let all_shards: Arc<OnceLock<Vec<ShardMailbox>>> = Arc::default();
        for id in 0..self.metrics.len() {
            let (poll, shard_alarm) = new_poll()?;
            let (sender, commands) = bounded(ACCEPT_QUEUE);
            let (posts, inbox) = bounded::<ToShard>(LANE);
            let router_waits = Arc::new(AtomicBool::new(false));
            let ends = ShardLanes {
                inbox,
                control: control_sender.clone(),
                data: data_sender.clone(),
                router: alarm.clone(),
                router_waits: Arc::clone(&router_waits),
                shards: Arc::clone(&all_shards),
            };
            lanes.push(RouterLane { inbox: posts, alarm: shard_alarm.clone(), router_waits });
            mailboxes.push(Mailbox { commands: sender, alarm: shard_alarm.clone() });
            let (shard, pace) = (self.shard(id), self.pace);
            threads.push(spawn(&format!("shard-{id}"), move || {
                let shard = shard(&poll)?;
                run::run_shard(poll, &shard_alarm, shard, &commands, &ends, pace)
            })?);
        }
        let (to_router, router_commands) = bounded(ROUTER_QUEUE);
        let shards: ShardMailboxes = mailboxes.into();
        let to_each = |mailbox: &Mailbox<_>| ShardMailbox {
            commands: Sender::clone(&mailbox.commands),
            alarm: mailbox.alarm.clone(),
        };
        // Set once: nobody has a connection yet.
        let _ = all_shards.set(shards.iter().map(to_each).collect());
        let (accept_thread, accept) = self.start_accepting(acceptor, Arc::clone(&shards))?;
        let ends = RouterEnds { commands: router_commands, control, data, store };
        let router_mailbox = Mailbox { commands: to_router, alarm: alarm.clone() };
        let router_thread = spawn("router", move || run::run_router(poll, &alarm, router, &ends, lanes))?;
        let others = vec![accept_thread, router_thread];
        let reach = Reach { shards, router: router_mailbox, accept: Some(accept) };
        Ok((Threads { shards: threads, others }, reach))
    }

    fn start_accepting(
        &self,
        acceptor: Acceptor,
        shards: ShardMailboxes,
    ) -> Result<(JoinHandle<()>, AcceptHandle), StartError> {
        let poll = Poll::new().map_err(failed("the poll of the accept thread"))?;
        let waker =
            Waker::new(poll.registry(), run::WAKER).map_err(failed("the waker of the accept thread"))?;
        let handle = AcceptHandle { stop: Arc::default(), waker };
        let (to_shards, stop) =
            (ToShards { shards, metrics: self.metrics.clone() }, Arc::clone(&handle.stop));
        let thread = spawn("accept", move || accept::run(poll, acceptor, &to_shards, &stop))?;
        Ok((thread, handle))
    }
}

/// Hands new connections to the shards.
struct ToShards {
    shards: ShardMailboxes,
    metrics: Vec<Arc<ShardMetrics>>,
}

impl Shards for ToShards {
    fn count(&self) -> usize {
        self.shards.len()
    }

    fn load(&self, shard: usize) -> u64 {
        self.metrics[shard].sockets.get() + self.shards[shard].commands.len() as u64
    }

    fn hand_over(&self, shard: usize, accepted: Accepted) {
        let mailbox = &self.shards[shard];
        if mailbox.commands.is_full() {
            mailbox.alarm.ring();
        }
        // A shard ends only after this thread.
        let _ = mailbox.commands.send(accepted.into());
    }

    fn wake(&self) {
        for shard in self.shards.iter().filter(|shard| !shard.commands.is_empty()) {
            shard.alarm.ring();
        }
    }
}

/// A poll, and what wakes it.
pub(super) fn new_poll() -> Result<(Poll, Alarm), StartError> {
    let poll = Poll::new().map_err(failed("a poll"))?;
    let alarm = Alarm::new(&poll).map_err(failed("a waker"))?;
    Ok((poll, alarm))
}

/// Starts a thread that the broker cannot do without: if it fails, the process ends, so that whoever supervises it
/// starts a whole one.
pub(super) fn spawn(
    name: &str,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let thread = thread::Builder::new().name(name.to_owned());
    let named = name.to_owned();
    let run = move || {
        if let Err(error) = run() {
            tracing::error!(%error, thread = named, "a thread has failed, the process ends");
            std::process::exit(1);
        }
    };
    thread.spawn(run).map_err(failed(format_args!("the thread {name}")))
}
