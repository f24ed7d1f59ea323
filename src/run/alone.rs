//! One shard, the router and the listeners on one thread.

use std::io;
use std::time::Duration;

use crossbeam_channel::Receiver;
use mio::net::TcpStream;
use mio::{Events, Poll, Token};

use crate::accept::{Acceptor, NO_DESCRIPTORS};
use crate::mailbox::ToShard;
use crate::router::{Post, Router, TOKENS};
use crate::run::pace::Pace;
use crate::run::{Alarm, EVENTS, MioNet, RouterCommand, StoreEnd, WAKER, readiness, router_command, wait};
use crate::shard::turn::Command;
use crate::shard::{Net, Shard};
use crate::time::Now;

/// The token of the public listeners.
const LISTENERS: Token = Token(usize::MAX - 2);

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
    /// The store, where there is one.
    pub store: Option<StoreEnd>,
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
    let Alone { mut router, mut acceptor, commands, router_commands, store } = alone;
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
            || shard.has_wishes()
            // Told of by a wake-up that came during a wait for more.
            || !commands.is_empty()
            || !router_commands.is_empty()
            || store.as_ref().is_some_and(|store| !store.lane.is_empty());
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
        dispatch(&poll, &events, &mut shard, &mut router, &mut acceptor);
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
        router.read_publishers();
        let mut left_over = router.publish_lines(now, &mut post);
        let gathered = post.events;
        if gathered > 0
            && !left_over
            && let Some(pause) = pace.wait()
        {
            std::thread::sleep(pause);
            wait(&mut poll, &mut events, Duration::ZERO)?;
            alarm.reset();
            dispatch(&poll, &events, &mut shard, &mut router, &mut acceptor);
            let mut post = Here { shard: &mut shard, now: Now::read(), events: 0 };
            router.read_publishers();
            left_over = router.publish_lines(post.now, &mut post);
            pace.waited(post.events > 0);
        }
        if let Some(store) = &store {
            left_over |= store.take(
                store.waiting(),
                &mut router,
                now,
                &mut Here { shard: &mut shard, now, events: 0 },
            );
        }
        shard.seal_all();
        shard.read_ready(now);
        shard.fire_timers(now);
        settle(&mut shard, &mut router, now);
        shard.ask_store(now);
        router.tick(now, &mut Here { shard: &mut shard, now, events: 0 });
        if let Some(store) = &store {
            store.ask(&mut router);
        }
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

/// Tells everybody what the poll has found.
fn dispatch(
    poll: &Poll,
    events: &Events,
    shard: &mut Shard<MioNet>,
    router: &mut Router,
    acceptor: &mut Acceptor,
) {
    for event in events {
        let (readable, writable, peer_closed) = readiness(event);
        match event.token() {
            WAKER => {}
            LISTENERS => acceptor.make_ready(),
            Token(key) if key < TOKENS => shard.socket_event(key as u32, readable, writable, peer_closed),
            Token(key) => router.socket_event(key, readable, writable, peer_closed, poll.registry()),
        }
    }
}
