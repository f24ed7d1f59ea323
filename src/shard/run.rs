//! The loops that drive shards and the router over real sockets.
//!
//! With one shard, [`run_alone`] drives the router in the shard's own loop: an event needs no hop and no wake-up.
//! With more, each shard has [`run_shard`] and the router [`run_router`] on threads of their own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::accept::{Accepted, Acceptor, NO_DESCRIPTORS};
use crate::limits::TURN_EVENTS;
use crate::mailbox::{ToRouter, ToShard};
use crate::router::{BodyResult, Post, Router, TOKENS};
use crate::shard::flush::Flow;
use crate::shard::turn::Command;
use crate::shard::{Net, Shard};
use crate::time::Now;
use crate::transport::tls::TlsConfig;

/// The token of the public listeners, where a shard drives them itself.
const LISTENERS: Token = Token(usize::MAX - 2);
/// The token of the waker.
pub const WAKER: Token = Token(usize::MAX - 1);
/// Socket events taken from the poll at once.
const EVENTS: usize = 1_024;
/// Messages on the lane from the router to a shard: a few turns' worth.
pub const LANE: usize = 16 * TURN_EVENTS;

impl From<Accepted> for Command<TcpStream> {
    fn from(accepted: Accepted) -> Self {
        let Accepted { stream, peer, is_surplus } = accepted;
        Command::Accept { stream, peer, is_surplus }
    }
}

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

/// Decides when a loaded loop waits a moment, so that more comes together for each write.
///
/// A turn waits only if the one before left something unread, or wrote two or more frames to a socket on average,
/// so an idle or lightly loaded loop never does. A wait that gathered nothing was useless, as it is when the
/// publishers themselves wait for what is held back: then the next turns do not wait, ever more of them each time.
struct Pace {
    wait: Option<Duration>,
    is_loaded: bool,
    skip: u32,
    next_skip: u32,
}

/// Most turns without a wait after waits that gathered nothing.
const LONGEST_SKIP: u32 = 64;

impl Pace {
    fn new(wait: Option<Duration>) -> Pace {
        Pace { wait, is_loaded: false, skip: 0, next_skip: 1 }
    }

    /// How long to wait, now that something has come in.
    fn wait(&mut self) -> Option<Duration> {
        if !self.is_loaded {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.wait
    }

    /// What a wait has brought.
    fn waited(&mut self, gathered_more: bool) {
        if gathered_more {
            self.next_skip = 1;
        } else {
            self.skip = self.next_skip;
            self.next_skip = (self.next_skip * 2).min(LONGEST_SKIP);
        }
    }

    /// What a turn has written.
    fn turned(&mut self, left_over: bool, flow: Flow) {
        self.is_loaded = left_over || (flow.clients > 0 && flow.frames >= 2 * flow.clients);
    }
}

/// Hands what the router posts to the shard at hand.
struct Here<'a, N: Net> {
    shard: &'a mut Shard<N>,
    now: Now,
    events: usize,
}

impl<N: Net> Post for Here<'_, N> {
    fn post(&mut self, _: u8, message: ToShard) {
        self.events += usize::from(matches!(message, ToShard::Event { .. }));
        self.shard.deliver(message, self.now);
    }
}

/// What [`run_alone`] drives besides the shard.
pub struct Alone {
    /// The router.
    pub router: Router,
    /// The public listeners.
    pub acceptor: Acceptor,
    /// What the shard is told.
    pub commands: Receiver<Command<TcpStream>>,
    /// What the router is told.
    pub router_commands: Receiver<RouterCommand>,
}

/// One shard, the router and the listeners on one thread. Ends when the shard has drained.
///
/// # Errors
/// The poll failed.
pub fn run_alone(
    mut poll: Poll,
    alarm: &Alarm,
    mut shard: Shard<MioNet>,
    alone: Alone,
    pace: Option<Duration>,
) -> io::Result<()> {
    let Alone { mut router, mut acceptor, commands, router_commands } = alone;
    acceptor.register(poll.registry(), LISTENERS)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut pace = Pace::new(pace);
    let mut accept_pause = Duration::ZERO;
    loop {
        let is_busy = shard.has_ready()
            || shard.has_overflowed()
            || router.has_ready()
            // The flush may have ended clients, of which the router is still to be told.
            || !shard.outgoing().is_empty()
            // Told of by a wake-up that came during a wait for more.
            || !commands.is_empty()
            || !router_commands.is_empty();
        let timeout = match is_busy {
            true => Duration::ZERO,
            false if acceptor.may_wait() => accept_pause,
            false => {
                let timeout = shard.poll_timeout();
                router.next_tick(Now::read()).map_or(timeout, |tick| tick.min(timeout))
            }
        };
        wait(&mut poll, &mut events, timeout)?;
        let now = Now::read();
        alarm.reset();
        dispatch(&poll, &events, &mut shard, Some((&mut router, &mut acceptor)));
        while let Ok(command) = commands.try_recv() {
            if matches!(command, Command::Drain(_)) {
                acceptor.close();
            }
            shard.command(command, now);
        }
        let has_descriptors = acceptor.accept(|accepted| shard.command(accepted.into(), now));
        accept_pause = if has_descriptors { Duration::ZERO } else { NO_DESCRIPTORS };
        router.accept_again(poll.registry());
        while let Ok(command) = router_commands.try_recv() {
            router_command(&mut router, command);
        }
        let mut post = Here { shard: &mut shard, now, events: 0 };
        let mut left_over = router.read_publishers(now, &mut post);
        let gathered = post.events;
        if gathered > 0
            && !left_over
            && let Some(pause) = pace.wait()
        {
            std::thread::sleep(pause);
            wait(&mut poll, &mut events, Duration::ZERO)?;
            alarm.reset();
            dispatch(&poll, &events, &mut shard, Some((&mut router, &mut acceptor)));
            let mut post = Here { shard: &mut shard, now: Now::read(), events: 0 };
            left_over = router.read_publishers(post.now, &mut post);
            pace.waited(post.events > 0);
        }
        shard.seal_all();
        shard.read_ready(now);
        shard.fire_timers(now);
        settle(&mut shard, &mut router, now);
        router.tick(now, &mut Here { shard: &mut shard, now, events: 0 });
        let flow = shard.flush(now);
        pace.turned(left_over, flow);
        shard.end_turn(now, events.iter().count());
        if shard.is_drained() {
            return Ok(());
        }
    }
}

/// Lets the router answer the shard, and the shard the router, until neither has anything to say.
fn settle(shard: &mut Shard<MioNet>, router: &mut Router, now: Now) {
    let mut said = Vec::new();
    while !shard.outgoing().is_empty() {
        std::mem::swap(&mut said, shard.outgoing());
        for message in said.drain(..) {
            router.handle(message, now, &mut Here { shard, now, events: 0 });
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> io::Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

fn dispatch(
    poll: &Poll,
    events: &Events,
    shard: &mut Shard<MioNet>,
    mut others: Option<(&mut Router, &mut Acceptor)>,
) {
    for event in events {
        let token = event.token();
        let (readable, writable) = (event.is_readable(), event.is_writable());
        let peer_closed = event.is_read_closed() || event.is_error();
        if token == WAKER {
            continue;
        }
        if token.0 < TOKENS {
            shard.socket_event(token.0 as u32, readable, writable, peer_closed);
        } else if let Some((router, acceptor)) = &mut others {
            if token == LISTENERS {
                acceptor.make_ready();
                continue;
            }
            router.socket_event(token.0, readable, writable, peer_closed, poll.registry());
        }
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

/// A shard's end of the lanes to and from the router.
pub struct ShardLanes {
    /// From the router.
    pub inbox: Receiver<ToShard>,
    /// To the router: joins, leaves, counts.
    pub control: Sender<ToRouter>,
    /// To the router: what clients publish.
    pub data: Sender<ToRouter>,
    /// Wakes the router.
    pub router: Alarm,
    /// The router waits for room on this shard's lane.
    pub router_waits: Arc<AtomicBool>,
}

/// One of several shards on its thread. Ends when it has drained.
///
/// # Errors
/// The poll failed.
pub fn run_shard(
    mut poll: Poll,
    alarm: &Alarm,
    mut shard: Shard<MioNet>,
    commands: &Receiver<Command<TcpStream>>,
    lanes: &ShardLanes,
    pace: Option<Duration>,
) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    let mut pace = Pace::new(pace);
    let mut unsaid = VecDeque::new();
    loop {
        let is_busy =
            shard.has_ready() && unsaid.is_empty() || shard.has_overflowed() || !lanes.inbox.is_empty();
        let timeout = match is_busy {
            true => Duration::ZERO,
            // What the router has no room for yet is offered again soon.
            false if !unsaid.is_empty() => Duration::from_millis(1),
            false => shard.poll_timeout(),
        };
        wait(&mut poll, &mut events, timeout)?;
        let now = Now::read();
        alarm.reset();
        dispatch(&poll, &events, &mut shard, None);
        while let Ok(command) = commands.try_recv() {
            shard.command(command, now);
        }
        let gathered = take(&mut shard, lanes, now);
        let mut left_over = !lanes.inbox.is_empty();
        if gathered > 0
            && !left_over
            && let Some(pause) = pace.wait()
        {
            std::thread::sleep(pause);
            pace.waited(take(&mut shard, lanes, now) > 0);
            left_over = !lanes.inbox.is_empty();
        }
        shard.seal_all();
        shard.set_data_room(lanes.data.capacity().map_or(0, |most| most - lanes.data.len()));
        // While the router cannot take what is to be said, nobody is given the occasion to make us say more.
        if unsaid.is_empty() {
            shard.read_ready(now);
        }
        shard.fire_timers(now);
        say(&mut shard, lanes, &mut unsaid);
        let flow = shard.flush(now);
        say(&mut shard, lanes, &mut unsaid);
        pace.turned(left_over, flow);
        shard.end_turn(now, events.iter().count());
        if shard.is_drained() && unsaid.is_empty() {
            return Ok(());
        }
    }
}

/// Takes a turn's worth from the router.
fn take(shard: &mut Shard<MioNet>, lanes: &ShardLanes, now: Now) -> usize {
    let mut taken = 0;
    while taken < TURN_EVENTS && !shard.is_turn_full() {
        let Ok(message) = lanes.inbox.try_recv() else { break };
        shard.deliver(message, now);
        taken += 1;
    }
    if taken > 0 && lanes.router_waits.swap(false, Ordering::AcqRel) {
        lanes.router.ring();
    }
    taken
}

/// Says what the shard has to say to the router, in order; what finds no room waits.
fn say(shard: &mut Shard<MioNet>, lanes: &ShardLanes, unsaid: &mut VecDeque<ToRouter>) {
    unsaid.extend(shard.outgoing().drain(..));
    if unsaid.is_empty() {
        return;
    }
    while let Some(message) = unsaid.pop_front() {
        let lane = if message.is_data() { &lanes.data } else { &lanes.control };
        match lane.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(message)) => {
                unsaid.push_front(message);
                break;
            }
            // The router ends after the shards.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
    lanes.router.ring();
}

/// The router's end of the lanes to one shard.
pub struct RouterLane {
    /// To the shard.
    pub inbox: Sender<ToShard>,
    /// Wakes the shard.
    pub alarm: Alarm,
    /// Set while the router waits for room.
    pub router_waits: Arc<AtomicBool>,
}

/// Posts to the shards' lanes; what finds no room waits here, and the publishers are not read meanwhile.
struct Lanes {
    lanes: Vec<RouterLane>,
    pending: Vec<VecDeque<ToShard>>,
    posted: Vec<bool>,
}

impl Post for Lanes {
    fn post(&mut self, shard: u8, message: ToShard) {
        let shard = usize::from(shard);
        self.posted[shard] = true;
        if !self.pending[shard].is_empty() {
            return self.pending[shard].push_back(message);
        }
        if let Err(TrySendError::Full(message)) = self.lanes[shard].inbox.try_send(message) {
            self.pending[shard].push_back(message);
        }
    }
}

impl Lanes {
    /// Posts what waited, wakes the shards. Returns whether nothing waits any more.
    fn flush(&mut self) -> bool {
        let mut is_clear = true;
        for (shard, lane) in self.lanes.iter().enumerate() {
            let pending = &mut self.pending[shard];
            while let Some(message) = pending.pop_front() {
                // Said before looking, so that room made right after the look is told of.
                lane.router_waits.store(true, Ordering::Release);
                if let Err(TrySendError::Full(message)) = lane.inbox.try_send(message) {
                    pending.push_front(message);
                    break;
                }
                self.posted[shard] = true;
            }
            is_clear &= pending.is_empty();
            if std::mem::take(&mut self.posted[shard]) || !pending.is_empty() {
                lane.alarm.ring();
            }
        }
        is_clear
    }
}

/// The router on its own thread. Ends at [`RouterCommand::End`].
///
/// # Errors
/// The poll failed.
pub fn run_router(
    mut poll: Poll,
    alarm: &Alarm,
    mut router: Router,
    commands: &Receiver<RouterCommand>,
    control: &Receiver<ToRouter>,
    data: &Receiver<ToRouter>,
    lanes: Vec<RouterLane>,
) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    let pending = lanes.iter().map(|_| VecDeque::new()).collect();
    let mut lanes = Lanes { posted: vec![false; lanes.len()], pending, lanes };
    let mut is_clear = true;
    loop {
        let now = Now::read();
        let timeout = match is_clear && (router.has_ready() || !data.is_empty()) {
            true => Duration::ZERO,
            false => router.next_tick(now).unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1)),
        };
        wait(&mut poll, &mut events, timeout)?;
        let now = Now::read();
        alarm.reset();
        for event in &events {
            if event.token() != WAKER {
                let peer_closed = event.is_read_closed() || event.is_error();
                router.socket_event(
                    event.token().0,
                    event.is_readable(),
                    event.is_writable(),
                    peer_closed,
                    poll.registry(),
                );
            }
        }
        router.accept_again(poll.registry());
        while let Ok(command) = commands.try_recv() {
            if !router_command(&mut router, command) {
                return Ok(());
            }
        }
        while let Ok(message) = control.try_recv() {
            router.handle(message, now, &mut lanes);
        }
        router.tick(now, &mut lanes);
        if is_clear {
            for message in data.try_iter().take(TURN_EVENTS) {
                router.handle(message, now, &mut lanes);
            }
            router.read_publishers(now, &mut lanes);
        }
        is_clear = lanes.flush();
        router.count_backpressure(!is_clear);
    }
}
