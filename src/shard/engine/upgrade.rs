//! From polling to a WebSocket, without a packet lost, doubled or swapped: the WebSocket is probed while polls go on; when
//! the client says so it takes over the line, and what waited for a poll goes out on it.

use crate::audience::TransportKind;
use crate::close::CloseReason;
use crate::proto::engineio::{self, Handshake, Packet};
use crate::proto::http::Request;
use crate::proto::upgrade;
use crate::proto::ws::{self, Decoder};
use crate::shard::conn::{Owner, Phase, Reply};
use crate::shard::engine::Link;
use crate::shard::engine::request::subprotocol;
use crate::shard::http::Next;
use crate::shard::line::{LineKey, NO_CONN};
use crate::shard::{Net, Shard, wheel};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// Writes the packet that tells the client of its session.
    pub(super) fn write_open(&self, out: &mut Vec<u8>, engine: u32, can_upgrade: bool) {
        let settings = &self.settings.socketio;
        let handshake = Handshake {
            sid: &self.sid(engine),
            can_upgrade,
            ping_interval: settings.ping_interval,
            ping_timeout: settings.ping_timeout,
            max_payload: self.settings.limits.message_size,
        };
        engineio::write_open(out, &handshake);
    }

    /// The connection is a WebSocket of the session's from here on.
    pub(super) fn become_websocket(&mut self, key: u32, engine: u32, now: Now) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.phase = Phase::WebSocket { owner: Owner::Engine(engine), decoder: Decoder::new() };
            conn.received = wheel::tick(now.mono);
        }
        self.arm(key, now);
    }

    /// A WebSocket that wants to take over. One that comes too late, or beside another, is accepted and closed, as the
    /// reference does: browsers show no reason for a refused one.
    pub(super) fn open_probe(&mut self, key: u32, request: &Request<'_>, engine: u32, now: Now) -> Next {
        let upgrade = match upgrade::check(request) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                let refusal = crate::shard::admit::Refusal::upgrade(error);
                self.respond(key, &refusal, &Reply::default(), now);
                return Next::End;
            }
        };
        let mut response = Vec::new();
        upgrade::write_switching(&mut response, &upgrade, subprotocol(request));
        let is_free = matches!(
            self.engines.get(engine).map(|session| session.link),
            Some(Link::Polling { probe: NO_CONN, .. })
        );
        if !is_free {
            ws::write_close(&mut response, 1000, "");
            if self.write_now(key, |out| out.extend_from_slice(&response)) {
                self.linger(key, now);
            }
            return Next::End;
        }
        if let Some(session) = self.engines.get_mut(engine)
            && let Link::Polling { probe, .. } = &mut session.link
        {
            *probe = key;
        }
        self.become_websocket(key, engine, now);
        match self.write_now(key, |out| out.extend_from_slice(&response)) {
            true => Next::Frames,
            false => Next::End,
        }
    }

    /// A packet on a WebSocket that has not taken over yet. False if the WebSocket has ended.
    pub(super) fn probe_packet(&mut self, key: u32, engine: u32, text: &str, now: Now) -> bool {
        match engineio::decode(text) {
            Ok(Packet::Ping("probe")) => {
                if !self.allow_control(engine, now)
                    || !self.write_now(key, |out| ws::write_text(out, &[b"3probe"]))
                {
                    return false;
                }
                let Some(session) = self.engines.get_mut(engine) else { return false };
                match &mut session.link {
                    Link::Polling { probe, is_probed, .. } if *probe == key => *is_probed = true,
                    // The answer found no socket any more: polls go on.
                    _ => return false,
                }
                // A poll that waits for something is ended, so that the client can stop polling.
                if session.line.backlog.is_none() && session.line.queue.is_empty() {
                    self.release_poll(engine, now);
                }
                true
            }
            Ok(Packet::Upgrade) => {
                self.take_over(key, engine, now);
                true
            }
            _ => {
                self.end_probe(engine, now);
                false
            }
        }
    }

    /// Ends an open poll without anything in it.
    fn release_poll(&mut self, engine: u32, now: Now) {
        let Some(session) = self.engines.get_mut(engine) else { return };
        let conn = std::mem::replace(&mut session.line.conn, NO_CONN);
        if conn != NO_CONN {
            session.line.backlog.get_or_insert_default();
            self.answer_poll(conn, b"6", now);
        }
    }

    /// The WebSocket takes over.
    fn take_over(&mut self, key: u32, engine: u32, now: Now) {
        let line = LineKey::engine(engine);
        // What the turn has for the session goes out on the WebSocket at its end, and the poll ends empty.
        self.release_poll(engine, now);
        let Some(session) = self.engines.get_mut(engine) else { return };
        for client in session.clients() {
            if let Some(client) = self.clients.get(client) {
                let connections = &self.metrics.connections[client.session.app().index()];
                connections[TransportKind::Polling as usize].sub(1);
                connections[TransportKind::WebSocket as usize].add(1);
            }
        }
        session.link = Link::WebSocket;
        session.line.conn = key;
        match &mut session.line.backlog {
            Some(backlog) if !backlog.is_drained() => {
                backlog.writable = true;
                self.fanout.dirty.push(line);
            }
            backlog => *backlog = None,
        }
        self.metrics.upgrades.add(1);
    }

    /// Writes something small to a connection at once. False: it does not take it, and is lost.
    pub(in crate::shard) fn write_now(&mut self, key: u32, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let mut bytes = Vec::new();
        write(&mut bytes);
        let written = conn.transport.write(&bytes, &mut self.write_scratch);
        let is_written = written.is_ok_and(|written| written.taken == bytes.len());
        if !is_written {
            self.lost(key, CloseReason::ConnectionLost);
        }
        is_written
    }
}
