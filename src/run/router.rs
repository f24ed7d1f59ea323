//! The router on its own thread, for several shards.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::{Events, Poll};

use crate::limits::TURN_EVENTS;
use crate::mailbox::{ToRouter, ToShard};
use crate::router::{Post, Router};
use crate::run::{Alarm, EVENTS, RouterCommand, StoreEnd, WAKER, readiness, router_command, wait};
use crate::time::Now;

/// The router's end of the lanes to one shard.
pub struct RouterLane {
    /// To the shard.
    pub inbox: Sender<ToShard>,
    /// Wakes the shard.
    pub alarm: Alarm,
    /// Set while the router waits for room.
    pub router_waits: Arc<AtomicBool>,
}

/// What the router is told.
pub struct RouterEnds {
    /// By the broker.
    pub commands: Receiver<RouterCommand>,
    /// By the shards: joins, leaves, counts.
    pub control: Receiver<ToRouter>,
    /// By clients: what they publish.
    pub data: Receiver<ToRouter>,
    /// By the store, where there is one.
    pub store: Option<StoreEnd>,
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
    ends: &RouterEnds,
    lanes: Vec<RouterLane>,
) -> io::Result<()> {
    let RouterEnds { commands, control, data, store } = ends;
    let mut events = Events::with_capacity(EVENTS);
    let pending = lanes.iter().map(|_| VecDeque::new()).collect();
    let mut lanes = Lanes { posted: vec![false; lanes.len()], pending, lanes };
    let mut is_clear = true;
    loop {
        let now = Now::read();
        let says_more = store.as_ref().is_some_and(|store| !store.lane.is_empty());
        let timeout = match is_clear && (router.has_ready() || !data.is_empty() || says_more) {
            true => Duration::ZERO,
            false => router.next_tick(now).unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1)),
        };
        wait(&mut poll, &mut events, timeout)?;
        let now = Now::read();
        alarm.reset();
        for event in events.iter().filter(|event| event.token() != WAKER) {
            let (readable, writable, peer_closed) = readiness(event);
            router.socket_event(event.token().0, readable, writable, peer_closed, poll.registry());
        }
        router.accept_again(poll.registry());
        while let Ok(command) = commands.try_recv() {
            if !router_command(&mut router, command) {
                return Ok(());
            }
        }
        if is_clear {
            router.read_publishers();
        }
        let said = store.as_ref().map_or(0, StoreEnd::waiting);
        // After reading: whoever knew that he is connected, or has joined, when a line was sent, is known here before it.
        while let Ok(message) = control.try_recv() {
            router.handle(message, now, &mut lanes);
        }
        router.tick(now, &mut lanes);
        if is_clear {
            for message in data.try_iter().take(TURN_EVENTS) {
                router.handle(message, now, &mut lanes);
            }
            if let Some(store) = store {
                store.take(said, &mut router, now, &mut lanes);
            }
            router.publish_lines(now, &mut lanes);
        }
        if let Some(store) = store {
            store.ask(&mut router);
        }
        is_clear = lanes.flush();
        router.count_backpressure(!is_clear);
    }
}
