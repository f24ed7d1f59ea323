//! Engine.IO packets in, whatever the transport, and the heartbeat.

use crate::app::Input;
use crate::close::CloseReason;
use crate::limits::Rate;
use crate::metrics::LimitKind;
use crate::proto::engineio::{self, Packet};
use crate::proto::ws::{self, Message};
use crate::shard::engine::{Engine, Link, Protocol};
use crate::shard::line::{LineKey, NO_CONN};
use crate::shard::timers::TimerKey;
use crate::shard::wheel::Tick;
use crate::shard::{Net, Shard, wheel};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// A message on a WebSocket of the session's. False if the connection is closing, or gone.
    pub(in crate::shard) fn engine_message(
        &mut self,
        key: u32,
        engine: u32,
        message: Message<'_>,
        now: Now,
    ) -> bool {
        let Some(session) = self.engines.get(engine) else { return false };
        // A connection that a write has lost may have more in what was read of it.
        if session.line.closing.is_some() || !session.has(key) {
            return false;
        }
        let is_probe = matches!(session.link, Link::Polling { .. });
        if !is_probe {
            self.heard(engine, now);
        }
        match message {
            Message::Text(text) if is_probe => return self.probe_packet(key, engine, text, now),
            Message::Text(text) => match engineio::decode(text) {
                Ok(packet) => self.packet(engine, &packet, now),
                Err(error) => self.fail(engine, CloseReason::ProtocolError(error.text()), now),
            },
            Message::Binary(bytes) if !is_probe => self.binary(engine, bytes, now),
            Message::Ping(payload) => {
                if self.allow_engine_ping(engine, now) {
                    match is_probe {
                        true => {
                            self.write_now(key, |out| ws::write_pong(out, payload));
                        }
                        false => {
                            self.push_to_line(LineKey::engine(engine), |out| ws::write_pong(out, payload))
                        }
                    }
                }
            }
            Message::Pong(_) => {
                self.allow_engine_ping(engine, now);
            }
            Message::Close { code, .. } if !is_probe => {
                self.client_closes(LineKey::engine(engine), code, now);
            }
            Message::Binary(_) | Message::Close { .. } => {
                self.end_probe(engine, now);
                return false;
            }
        }
        self.engines.get(engine).is_some_and(|session| session.line.closing.is_none() && session.has(key))
    }

    /// Something has come of the client, which so has what was written: those of its sessions that wait for that are told.
    pub(super) fn heard(&mut self, engine: u32, now: Now) {
        let Some(session) = self.engines.get(engine) else { return };
        let awaits_word =
            |client: &u32| self.clients.get(*client).is_some_and(|client| client.session.awaits_word());
        let mut clients = session.namespaces.iter().map(|(_, client)| *client).filter(awaits_word);
        // At most one namespace has messages that are given once.
        let Some(client) = clients.next() else { return };
        // Of an answer to a poll that its socket has taken in part nobody knows what the client has.
        if session.cut && matches!(session.link, Link::Polling { .. }) {
            return;
        }
        let line = &session.line;
        let is_held = matches!(session.link, Link::WebSocket)
            && self.conns.get(line.conn).is_none_or(|conn| conn.transport.wants_flush());
        let all = !is_held && line.queue.is_empty() && line.held() == 0;
        self.input(client, Input::Heard { all }, now);
    }

    /// One packet.
    pub(super) fn packet(&mut self, engine: u32, packet: &Packet<'_>, now: Now) {
        let Some(session) = self.engines.get_mut(engine) else { return };
        match packet {
            Packet::Message(text) => match session.protocol {
                Protocol::SocketIo => self.socketio_text(engine, text, now),
                Protocol::Echo => self.push_packet(engine, |out| {
                    out.push(b'4');
                    out.extend_from_slice(text.as_bytes());
                }),
            },
            Packet::Pong(_) => {
                session.ping_sent = 0;
                session.alive = wheel::tick(now.mono);
                self.allow_control(engine, now);
            }
            // In protocol 4 the server pings.
            Packet::Ping(_) => {
                self.fail(engine, CloseReason::ProtocolError("the server pings, the client answers"), now);
            }
            Packet::Close => self.client_closes(LineKey::engine(engine), None, now),
            Packet::Binary(bytes) => self.binary(engine, bytes, now),
            // Without a meaning here, as for the reference.
            Packet::Open(_) | Packet::Upgrade | Packet::Noop => {
                self.allow_control(engine, now);
            }
        }
    }

    /// One binary packet.
    pub(super) fn binary(&mut self, engine: u32, bytes: &[u8], now: Now) {
        match self.engines.get(engine).map(|session| session.protocol) {
            Some(Protocol::SocketIo) => self.socketio_binary(engine, bytes, now),
            Some(Protocol::Echo) => {
                self.push_to_line(LineKey::engine(engine), |out| ws::write_binary(out, &[bytes]));
            }
            None => {}
        }
    }

    /// Counts a WebSocket ping or pong; too many of them end the session.
    fn allow_engine_ping(&mut self, engine: u32, now: Now) -> bool {
        let rate = self.settings.limits.pings;
        let Some(session) = self.engines.get_mut(engine) else { return false };
        let is_allowed = allow(rate, &mut session.pings, now);
        if !is_allowed {
            self.metrics.rate_limited[LimitKind::Pings as usize].add(1);
            self.fail(engine, CloseReason::Abuse, now);
        }
        is_allowed
    }

    /// Counts a packet that is no event: whoever sends them without end is let go.
    pub(super) fn allow_control(&mut self, engine: u32, now: Now) -> bool {
        let rate = self.settings.app.control;
        let Some(session) = self.engines.get_mut(engine) else { return false };
        let is_allowed = allow(rate, &mut session.control, now);
        if !is_allowed {
            self.metrics.rate_limited[LimitKind::Control as usize].add(1);
            self.fail(engine, CloseReason::Abuse, now);
        }
        is_allowed
    }

    /// When a session is to be pinged, or given up, or its token is over.
    pub(in crate::shard) fn engine_deadline(&self, engine: u32, now: Now) -> Option<Tick> {
        let session = self.engines.get(engine)?;
        if let Some(until) = session.line.closing {
            return Some(until);
        }
        let mut deadline = self.heartbeat(session);
        if session.connect_by != 0 {
            deadline = deadline.min(session.connect_by);
        }
        for (_, client) in &session.namespaces {
            deadline = deadline.min(self.namespace_deadline(*client, now));
        }
        Some(deadline)
    }

    /// When a namespace's token is over, or its alarm. Before its CONNECT is answered it is told nothing.
    fn namespace_deadline(&self, client: u32, now: Now) -> Tick {
        match self.clients.get(client).filter(|_| self.is_connected(client)) {
            Some(client) => {
                let alarm = client.session.alarm().map_or(Tick::MAX, wheel::tick_after);
                self.token_deadline(client, now).min(alarm)
            }
            None => Tick::MAX,
        }
    }

    fn heartbeat(&self, session: &Engine) -> Tick {
        let settings = &self.settings.socketio;
        match session.ping_sent {
            0 => session.alive.saturating_add(wheel::ticks(settings.ping_interval)),
            sent => sent.saturating_add(wheel::ticks(settings.ping_timeout)),
        }
    }

    /// Sees to it that the wheel fires for a session no later than its deadline.
    pub(in crate::shard) fn arm_engine(&mut self, engine: u32, now: Now) {
        let Some(deadline) = self.engine_deadline(engine, now) else { return };
        // An answer brings the next ping nearer than the time-out, and that is not told here.
        let soonest =
            wheel::tick(now.mono).saturating_add(wheel::ticks(self.settings.socketio.ping_interval));
        let deadline = deadline.min(soonest);
        let Some(session) = self.engines.get_mut(engine) else { return };
        if session.armed == 0 || deadline < session.armed {
            session.armed = self.wheel.arm(TimerKey::engine(engine).bits(), deadline);
        }
    }

    /// A session's deadline has come.
    pub(in crate::shard) fn engine_due(&mut self, engine: u32, now: Now) {
        let tick = wheel::tick(now.mono);
        let Some(session) = self.engines.get(engine) else { return };
        if session.line.closing.is_some() {
            let (conn, is_polling) = (session.line.conn, session.is_polling());
            if is_polling && conn != NO_CONN {
                // A poll has come at last: it is answered at the end of this turn.
                return;
            }
            // It would not take its last bytes.
            if !is_polling {
                self.drop_conn(conn);
            }
            return self.forget_engine(engine, now);
        }
        if session.connect_by != 0 && session.connect_by <= tick {
            return self.end_engine(engine, CloseReason::HandshakeTimeout, now);
        }
        for client in session.clients() {
            let Some(known) = self.clients.get(client).filter(|_| self.is_connected(client)) else {
                continue;
            };
            let is_alarm = known.session.alarm().is_some_and(|until| until <= now.mono);
            if self.token_deadline(known, now) <= tick {
                self.input(client, Input::TokenOver, now);
            }
            if is_alarm {
                self.input(client, Input::Alarm, now);
            }
        }
        let Some(session) = self.engines.get_mut(engine) else { return };
        if session.line.closing.is_some() {
            return;
        }
        let (is_pinged, alive) = (session.ping_sent != 0, session.alive);
        if self.engines.get(engine).is_some_and(|session| self.heartbeat(session) > tick) {
            return;
        }
        if is_pinged {
            return self.end_engine(engine, CloseReason::PingTimeout, now);
        }
        debug_assert!(alive <= tick);
        if let Some(session) = self.engines.get_mut(engine) {
            session.ping_sent = tick.max(1);
        }
        self.push_packet(engine, |out| out.push(b'2'));
    }
}

/// Counts one against a meter.
fn allow(rate: Option<Rate>, meter: &mut u64, now: Now) -> bool {
    let Some(rate) = rate else { return true };
    match rate.check(*meter, now.mono) {
        Ok(next) => {
            *meter = next;
            true
        }
        Err(_) => false,
    }
}
