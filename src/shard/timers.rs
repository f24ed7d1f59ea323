//! Deadlines: one for each connection, the earliest of all that may end it or make it speak.

use std::time::Duration;

use crate::app::Input;
use crate::close::{CloseReason, ErrorCode};
use crate::metrics::Rejection;
use crate::proto::ws;
use crate::shard::admit::Refusal;
use crate::shard::client::Client;
use crate::shard::conn::{Owner, Phase};
use crate::shard::end::LINGER;
use crate::shard::wheel::{self, Tick};
use crate::shard::{Net, Shard};
use crate::time::Now;

/// An idle shard turns at least this often, which is what `/healthz` relies on.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Whose a timer is, as the wheel keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey(u32);

/// Connections and sessions are fewer than this.
const ENGINE: u32 = 1 << 31;

enum TimerOwner {
    Conn(u32),
    Engine(u32),
}

impl TimerKey {
    /// A connection's.
    pub const fn conn(key: u32) -> TimerKey {
        TimerKey(key)
    }

    /// An Engine.IO session's.
    pub const fn engine(slot: u32) -> TimerKey {
        TimerKey(slot | ENGINE)
    }

    /// As the wheel keeps it.
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn owner(self) -> TimerOwner {
        match self.0 & ENGINE {
            0 => TimerOwner::Conn(self.0),
            _ => TimerOwner::Engine(self.0 & !ENGINE),
        }
    }
}

impl<N: Net> Shard<N> {
    /// How long the poll may wait.
    pub fn poll_timeout(&self) -> Duration {
        let longest = match &self.drain {
            Some(_) => Duration::from_millis(wheel::TICK_MS),
            None => LONGEST_WAIT,
        };
        let ticks = self.wheel.next_within(wheel::ticks(longest));
        Duration::from_millis(u64::from(ticks) * wheel::TICK_MS)
    }

    /// Sees to it that the wheel fires for a connection no later than its deadline.
    pub(super) fn arm(&mut self, key: u32, now: Now) {
        let Some(deadline) = self.deadline(key, now) else { return };
        // An answered ping brings the deadline nearer, to a ping interval from then, and that is not told here.
        let soonest = wheel::tick(now.mono).saturating_add(wheel::ticks(self.settings.ping_interval));
        let deadline = deadline.min(soonest);
        let Some(conn) = self.conns.get_mut(key) else { return };
        // A later deadline is found when the armed one fires.
        if conn.armed == 0 || deadline < conn.armed {
            conn.armed = self.wheel.arm(TimerKey::conn(key).0, deadline);
        }
    }

    /// The connection's earliest deadline.
    fn deadline(&self, key: u32, now: Now) -> Option<Tick> {
        let conn = self.conns.get(key)?;
        Some(match &conn.phase {
            Phase::Head(_) | Phase::Body(_) | Phase::Waiting(_) | Phase::Answering(_) => {
                conn.received.saturating_add(wheel::ticks(self.settings.limits.handshake))
            }
            Phase::Lingering { .. } => conn.received.saturating_add(wheel::ticks(LINGER)),
            // A session that still polls waits so long for this WebSocket to take over.
            Phase::WebSocket { owner: Owner::Engine(engine), .. } if self.is_polling(*engine) => {
                conn.received.saturating_add(wheel::ticks(self.settings.socketio.upgrade_timeout))
            }
            // The session has the deadlines.
            Phase::Polling(_) | Phase::WebSocket { owner: Owner::Engine(_), .. } => Tick::MAX,
            Phase::WebSocket { owner: Owner::Client(client), .. } => {
                let client = self.clients.get(*client)?;
                match client.line()?.closing {
                    Some(until) => until,
                    None => self
                        .liveness(client, conn.received)
                        .min(self.token_deadline(client, now))
                        .min(client.session.alarm().map_or(Tick::MAX, wheel::tick_after)),
                }
            }
        })
    }

    /// When the client is to be pinged, or given up.
    fn liveness(&self, client: &Client, received: Tick) -> Tick {
        match client.ping_sent > received {
            true => client.ping_sent.saturating_add(wheel::ticks(self.settings.pong_timeout)),
            false => received.saturating_add(wheel::ticks(self.settings.ping_interval)),
        }
    }

    /// When the token, or the grace after it, is over.
    pub(super) fn token_deadline(&self, client: &Client, now: Now) -> Tick {
        let unix_ms = client.session.token_deadline(self.settings.app.grace);
        let ahead = unix_ms.saturating_mul(1_000_000).saturating_sub(now.unix);
        if ahead == 0 {
            // Due now, not at the next tick, which would be ever the next one.
            return wheel::tick(now.mono);
        }
        match now.mono.checked_add(ahead) {
            Some(mono) if mono / 1_000_000 / wheel::TICK_MS < u64::from(Tick::MAX) => wheel::tick_after(mono),
            _ => Tick::MAX,
        }
    }

    /// Fires what is due.
    pub fn fire_timers(&mut self, now: Now) {
        let tick = wheel::tick(now.mono);
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(tick, &mut fired);
        for bits in fired.drain(..) {
            match TimerKey(bits).owner() {
                TimerOwner::Conn(key) => self.fire_conn(key, tick, now),
                TimerOwner::Engine(engine) => self.fire_engine(engine, tick, now),
            }
        }
        self.fired = fired;
        self.drain_some(now);
    }

    fn fire_conn(&mut self, key: u32, tick: Tick, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        // An entry from before the deadline moved nearer, or of a connection that had this slot.
        if conn.armed == 0 || conn.armed > tick {
            return;
        }
        conn.armed = 0;
        if self.deadline(key, now).is_some_and(|deadline| deadline <= tick) {
            self.due(key, now);
        }
        self.arm(key, now);
    }

    fn fire_engine(&mut self, engine: u32, tick: Tick, now: Now) {
        let Some(session) = self.engines.get_mut(engine) else { return };
        if session.armed == 0 || session.armed > tick {
            return;
        }
        session.armed = 0;
        if self.engine_deadline(engine, now).is_some_and(|deadline| deadline <= tick) {
            self.engine_due(engine, now);
        }
        self.arm_engine(engine, now);
    }

    /// A deadline has come.
    fn due(&mut self, key: u32, now: Now) {
        let Some(conn) = self.conns.get(key) else { return };
        let received = conn.received;
        match &conn.phase {
            // Between two requests there is nothing to be late for.
            Phase::Head(head) if head.is_empty() && conn.was_answered => self.drop_conn(key),
            Phase::Answering(_) => self.drop_conn(key),
            Phase::Head(head) if head.is_empty() || conn.transport.handshaking() => {
                self.metrics.handshakes_rejected[Rejection::Timeout as usize].add(1);
                self.drop_conn(key);
            }
            Phase::Head(_) => {
                self.refuse_head(key, 408, "the request head took too long", Rejection::Timeout, now);
            }
            Phase::Body(_) => {
                let message = "the request body took too long";
                let refusal = Refusal::new(408, ErrorCode::InvalidMessage, message, Rejection::Timeout);
                self.give_up_body(key, &refusal, CloseReason::ConnectionLost, now);
            }
            Phase::Waiting(_) => self.api_overdue(key, now),
            Phase::Lingering { .. } => self.drop_conn(key),
            Phase::WebSocket { owner: Owner::Client(client), .. } => {
                self.client_due(key, *client, received, now);
            }
            Phase::WebSocket { owner: Owner::Engine(engine), .. } => self.end_probe(*engine, now),
            Phase::Polling(_) => {}
        }
    }

    fn client_due(&mut self, key: u32, slot: u32, received: Tick, now: Now) {
        let tick = wheel::tick(now.mono);
        let Some(client) = self.clients.get(slot) else { return };
        if client.is_closing() {
            // It would not take its last bytes.
            return self.lost(key, CloseReason::ConnectionLost);
        }
        let is_alarm = client.session.alarm().is_some_and(|until| until <= now.mono);
        if self.token_deadline(client, now) <= tick {
            self.input(slot, Input::TokenOver, now);
        }
        if is_alarm {
            self.input(slot, Input::Alarm, now);
        }
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.is_closing() || self.liveness_of(slot, received) > tick {
            return;
        }
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.ping_sent > received {
            return self.close(slot, CloseReason::PingTimeout, now);
        }
        client.ping_sent = tick;
        self.push_frames(slot, |out| ws::write_ping(out, b""));
    }

    fn liveness_of(&self, slot: u32, received: Tick) -> Tick {
        self.clients.get(slot).map_or(Tick::MAX, |client| self.liveness(client, received))
    }
}
