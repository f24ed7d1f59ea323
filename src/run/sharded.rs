//! One of several shards on its thread.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::net::TcpStream;
use mio::{Events, Poll};

use crate::limits::TURN_EVENTS;
use crate::mailbox::{ToRouter, ToShard};
use crate::run::pace::Pace;
use crate::run::{Alarm, EVENTS, MioNet, WAKER, readiness, wait};
use crate::shard::Shard;
use crate::shard::turn::Command;
use crate::time::Now;

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
    /// To each shard, this one included: connections whose next request is for a session there.
    pub shards: Arc<OnceLock<Vec<ShardMailbox>>>,
}

/// Where a shard is told things.
#[derive(Clone)]
pub struct ShardMailbox {
    /// What it is told.
    pub commands: Sender<Command<TcpStream>>,
    /// Wakes it.
    pub alarm: Alarm,
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
        let is_busy = (shard.has_ready() || shard.has_wishes()) && unsaid.is_empty()
            || shard.has_overflowed()
            || !lanes.inbox.is_empty();
        let timeout = match is_busy {
            true => Duration::ZERO,
            // What the router has no room for yet is offered again soon.
            false if !unsaid.is_empty() || !shard.handovers().is_empty() => Duration::from_millis(1),
            false => shard.poll_timeout(),
        };
        wait(&mut poll, &mut events, timeout)?;
        let now = Now::read();
        alarm.reset();
        for event in events.iter().filter(|event| event.token() != WAKER) {
            let (readable, writable, peer_closed) = readiness(event);
            shard.socket_event(event.token().0 as u32, readable, writable, peer_closed);
        }
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
        // Who asks for what there is, is known to the router before.
        if unsaid.is_empty() {
            shard.ask_store(now);
        }
        let flow = shard.flush(now);
        say(&mut shard, lanes, &mut unsaid);
        hand_over(&mut shard, lanes);
        pace.turned(left_over, flow);
        shard.end_turn(now, events.iter().count());
        if shard.is_drained() && unsaid.is_empty() {
            return Ok(());
        }
    }
}

/// Hands connections over to the shards they belong to. Where there is no room they wait: two shards that waited for each
/// other would wait for ever.
fn hand_over(shard: &mut Shard<MioNet>, lanes: &ShardLanes) {
    if shard.handovers().is_empty() {
        return;
    }
    let Some(mailboxes) = lanes.shards.get() else { return };
    let (mut kept, mut lost) = (Vec::new(), 0);
    for (to, handed) in shard.handovers().drain(..) {
        match mailboxes[usize::from(to)].commands.try_send(Command::HandOver(handed)) {
            Ok(()) => mailboxes[usize::from(to)].alarm.ring(),
            Err(TrySendError::Full(Command::HandOver(handed))) => kept.push((to, handed)),
            // It has drained already: the connection ends here.
            Err(_) => lost += 1,
        }
    }
    *shard.handovers() = kept;
    shard.forget_sockets(lost);
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
