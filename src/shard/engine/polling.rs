//! Polls and posts. A poll is answered at the end of a turn that has something for the session, with all there is; the
//! packets of a post are taken one after the other, as if they had come over a WebSocket.

use crate::close::CloseReason;
use crate::proto::engineio::{self, Packet};
use crate::proto::http::{self, Request};
use crate::shard::conn::{Body, OpenPoll, Phase, Reply};
use crate::shard::engine::Link;
use crate::shard::flush::Flushed;
use crate::shard::http::{Exchange, Next};
use crate::shard::line::{LineKey, NO_CONN};
use crate::shard::outbox::Queue;
use crate::shard::{Net, Shard, wheel};
use crate::time::Now;

/// Bytes of one answer, as long as there is more than one packet.
const ANSWER_BYTES: usize = 256 * 1024;
/// What ends a poll that has nothing to say.
const NOOP: &[u8] = b"6";
const CLOSE: &[u8] = b"1";
/// Ticks that a poll may come later than the post that followed it.
const OVERTAKEN: wheel::Tick = 5;

impl<N: Net> Shard<N> {
    /// A poll: answered now if there is something to be said, else left open.
    pub(super) fn poll(&mut self, engine: u32, exchange: Exchange<'_>) -> Next {
        let now = exchange.now;
        let Some(session) = self.engines.get_mut(engine) else { return Next::End };
        if session.line.conn != NO_CONN {
            // A second poll at once is a fault of the client's: the first one is told that the session is over.
            self.fail(engine, CloseReason::ProtocolError("two polls at once"), now);
            return self.status(400, exchange);
        }
        let Link::Polling { is_probed, .. } = session.link else { return Next::End };
        let has_something = session.line.backlog.as_ref().is_some_and(|backlog| !backlog.is_drained());
        if is_probed && !has_something {
            // The WebSocket takes over as soon as no poll is open.
            let answer = exchange.reply.poll_response(NOOP);
            return self.settle(answer, exchange);
        }
        session.line.conn = exchange.key;
        match has_something {
            true => self.fanout.dirty.push(LineKey::engine(engine)),
            // What comes now is for this poll.
            false => session.line.backlog = None,
        }
        let Some(conn) = self.conns.get_mut(exchange.key) else { return Next::End };
        // A body that is not here would be read as the next request.
        let body = exchange.behind.len().min(exchange.length);
        let reply = Reply { keep: exchange.reply.keep && body == exchange.length, ..exchange.reply };
        conn.phase = Phase::Polling(Box::new(OpenPoll { engine, reply, pending: Vec::new() }));
        conn.received = wheel::tick(now.mono);
        Next::Request(body)
    }

    /// A poll is open: answers it with what the turn and the backlog have for the session.
    pub(in crate::shard) fn flush_poll(&mut self, engine: u32, queue: Queue, now: Now) -> Flushed {
        let Some(session) = self.engines.get_mut(engine) else { return Flushed::Drained };
        let line = &mut session.line;
        if line.conn == NO_CONN {
            return match line.held() {
                0 if line.closing.is_none() => Flushed::Drained,
                _ => Flushed::Blocked,
            };
        }
        let mut payload = Vec::new();
        match &mut line.backlog {
            None => {
                for chunk in self.fanout.memory.chunks(queue) {
                    engineio::append_frames(&mut payload, 0, self.fanout.memory.bytes_of(chunk));
                }
            }
            Some(backlog) => {
                let refreshed = match line.closing {
                    Some(_) => 0,
                    None => backlog.refresh(line.wire.without_offset(), crate::app::wire::write_event),
                };
                line.has_conflated |= refreshed > 0;
                self.metrics.deliveries[line.wire.index()].add(refreshed);
                let taken = backlog.gather_frames(ANSWER_BYTES, |frames| {
                    engineio::append_frames(&mut payload, 0, frames);
                });
                let replaced = backlog.advance(taken);
                self.metrics.events_conflated.add(replaced);
            }
        }
        if payload.is_empty() {
            // There was something when the poll came, of a room that has been left since: what comes is for this poll.
            line.backlog.take_if(|backlog| backlog.is_drained());
            return Flushed::Drained;
        }
        // From here on what comes waits for the next poll.
        let is_drained = line.backlog.get_or_insert_default().is_drained();
        self.metrics.socket_writes[line.wire.index()].add(1);
        let conn = std::mem::replace(&mut line.conn, NO_CONN);
        self.answer_poll(conn, &payload, now);
        let is_cut = matches!(self.conns.get(conn).map(|conn| &conn.phase), None | Some(Phase::Answering(_)));
        if let Some(session) = self.engines.get_mut(engine) {
            session.cut = is_cut;
        }
        if is_drained { Flushed::Drained } else { Flushed::Blocked }
    }

    /// Answers an open poll. Whether the answer arrives shows when the client polls again, or does not.
    pub(super) fn answer_poll(&mut self, key: u32, payload: &[u8], now: Now) {
        self.answer_held(key, |reply| reply.poll_response(payload), now);
    }

    /// Answers a request that was held open.
    fn answer_held(&mut self, key: u32, response: impl FnOnce(&Reply) -> Vec<u8>, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Phase::Polling(_) = conn.phase else { return };
        let Phase::Polling(poll) = std::mem::replace(&mut conn.phase, Phase::Head(Vec::new())) else {
            return;
        };
        self.answer(key, response(&poll.reply), poll.reply.keep, now);
        if !poll.pending.is_empty() {
            self.resume(key, poll.pending);
        }
    }

    /// A post whose body has not come whole.
    pub(super) fn await_body(&mut self, engine: u32, request: &Request<'_>, exchange: Exchange<'_>) -> Next {
        if !self.begin_post(engine, exchange.key, exchange.now) {
            return self.status(400, exchange);
        }
        if request.wants_continue()
            && !self.write_now(exchange.key, |out| http::write_response(out, 100, &[], b""))
        {
            if let Some(session) = self.engines.get_mut(engine)
                && let Link::Polling { posting, .. } = &mut session.link
            {
                *posting = NO_CONN;
            }
            return Next::End;
        }
        Next::Body { length: exchange.length, engine }
    }

    /// One post at a time, as the reference has it: there is no order between two. False: the session is over.
    fn begin_post(&mut self, engine: u32, key: u32, now: Now) -> bool {
        let Some(session) = self.engines.get_mut(engine) else { return false };
        let Link::Polling { posting, .. } = &mut session.link else { return false };
        if *posting != NO_CONN && *posting != key {
            self.fail(engine, CloseReason::ProtocolError("two posts at once"), now);
            return false;
        }
        *posting = key;
        true
    }

    /// Keeps what has come of a post until the rest is there.
    pub(in crate::shard) fn begin_body(&mut self, key: u32, bytes: Vec<u8>, needed: usize, engine: u32) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.phase = Phase::Body(Box::new(Body { bytes, needed, engine }));
        }
    }

    /// A whole post.
    pub(super) fn post(&mut self, engine: u32, request: &Request<'_>, exchange: Exchange<'_>) -> Next {
        let now = exchange.now;
        if !self.begin_post(engine, exchange.key, now) {
            return self.status(400, exchange);
        }
        if let Some(session) = self.engines.get_mut(engine)
            && let Link::Polling { posting, .. } = &mut session.link
        {
            *posting = NO_CONN;
        }
        let is_binary = request.header("content-type") == Some("application/octet-stream");
        let text = str::from_utf8(&exchange.behind[..exchange.length]).ok().filter(|_| !is_binary);
        if !text.is_some_and(|text| self.take_payload(engine, text, now)) {
            self.fail(engine, CloseReason::ProtocolError("a polling body that cannot be read"), now);
            return self.status(400, exchange);
        }
        if self.engines.get(engine).is_some_and(|session| session.leaving) {
            return self.hold_leave(engine, exchange);
        }
        let answer = exchange.reply.taken();
        self.settle(answer, exchange)
    }

    /// The client leaves, and no poll of it is open. One may have been overtaken by this post, as they come on two
    /// connections: the post is answered when that poll has come and has been told, or after a moment.
    fn hold_leave(&mut self, engine: u32, exchange: Exchange<'_>) -> Next {
        let Some(session) = self.engines.get_mut(engine) else { return Next::End };
        session.line.closing = Some(wheel::tick(exchange.now.mono) + OVERTAKEN);
        session.link = Link::Polling { probe: NO_CONN, is_probed: false, posting: exchange.key };
        self.push_packet(engine, |out| out.extend_from_slice(NOOP));
        self.arm_engine(engine, exchange.now);
        if let Some(conn) = self.conns.get_mut(exchange.key) {
            conn.phase =
                Phase::Polling(Box::new(OpenPoll { engine, reply: exchange.reply, pending: Vec::new() }));
        }
        Next::Request(exchange.length)
    }

    /// Answers the post by which the client has left.
    pub(super) fn answer_leave(&mut self, key: u32, engine: u32, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match &conn.phase {
            Phase::Polling(poll) if poll.engine == engine => {}
            _ => return,
        }
        self.answer_held(key, Reply::taken, now);
    }

    /// Takes the packets of a post. False if one cannot be read.
    fn take_payload(&mut self, engine: u32, text: &str, now: Now) -> bool {
        if self.engines.get(engine).is_none_or(|session| session.line.closing.is_some()) {
            // It is over, and has still to poll why.
            return true;
        }
        for packet in engineio::payload(text) {
            let Ok(packet) = packet else { return false };
            match packet {
                Packet::Close => {
                    self.client_ends(engine, now);
                    return true;
                }
                Packet::Binary(bytes) => self.binary(engine, &bytes, now),
                packet => self.packet(engine, &packet, now),
            }
            if self.engines.get(engine).is_none_or(|session| session.line.closing.is_some()) {
                return true;
            }
        }
        true
    }

    /// The client says that its session is over: its poll, if one is open, ends without a word.
    fn client_ends(&mut self, engine: u32, now: Now) {
        self.begin_end(LineKey::engine(engine), &CloseReason::ClientClosed, now);
        let Some(session) = self.engines.get_mut(engine) else { return };
        let conn = std::mem::replace(&mut session.line.conn, NO_CONN);
        if conn == NO_CONN {
            session.leaving = true;
            return;
        }
        self.answer_poll(conn, NOOP, now);
        self.forget_engine(engine, now);
    }

    /// The client has broken the protocol: its session is over at once, as the reference has it.
    pub(super) fn fail(&mut self, engine: u32, reason: CloseReason, now: Now) {
        // Who is sent away is told so, on any transport.
        if !self.is_polling(engine) || reason == CloseReason::Abuse {
            return self.end_engine(engine, reason, now);
        }
        self.begin_end(LineKey::engine(engine), &reason, now);
        let Some(session) = self.engines.get_mut(engine) else { return };
        let conn = std::mem::replace(&mut session.line.conn, NO_CONN);
        if conn != NO_CONN {
            self.answer_poll(conn, CLOSE, now);
        }
        self.forget_engine(engine, now);
    }
}
