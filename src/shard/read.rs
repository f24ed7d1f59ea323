//! From a socket's bytes to a session's inputs.

use crate::app::Input;
use crate::close::CloseReason;
use crate::limits::BODY_BYTES;
use crate::metrics::{LimitKind, Rejection};
use crate::proto::http::{self, HeadError};
use crate::proto::ws::{self, Decoder, Message, Violation};
use crate::shard::client::Client;
use crate::shard::conn::{Owner, Phase};
use crate::shard::http::Next;
use crate::shard::line::LineKey;
use crate::shard::wheel;
use crate::shard::{Net, Shard};
use crate::time::Now;
use crate::transport::{Read, ReadScratch};
use crate::users::Meter;

/// Bytes of a closed connection that are thrown away before it is cut off.
const LINGER_BYTES: usize = 64 * 1024;

/// Bytes of events and answers in a turn; when there are more, they are flushed before the other connections are read. One read
/// adds at most a small multiple of its own size, which is what bounds the turn's memory.
const TURN_REPLIES: usize = 4 * 1024 * 1024;

impl<N: Net> Shard<N> {
    /// The poll's word on a connection.
    pub fn socket_event(&mut self, key: u32, readable: bool, writable: bool, peer_closed: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.peer_closed |= peer_closed;
        if (readable || peer_closed) && !std::mem::replace(&mut conn.is_ready, true) {
            self.ready.push(key);
        }
        if writable {
            self.writable(key);
        }
    }

    /// Reads once from each connection that has something. What is left over comes next turn, so that
    /// no connection keeps the others waiting.
    pub fn read_ready(&mut self, now: Now) {
        self.read_resumed(now);
        let mut ready = std::mem::take(&mut self.ready);
        let mut read = 0;
        while let Some(key) = ready.get(read)
            && self.fanout.memory.size() <= TURN_REPLIES
        {
            read += 1;
            let Some(conn) = self.conns.get_mut(*key) else { continue };
            conn.is_ready = false;
            self.read(*key, now);
        }
        // Those who had to wait come before those of whom something is left.
        ready.drain(..read);
        ready.append(&mut self.ready_next);
        self.ready = ready;
    }

    /// Whether there is something to be read without asking the poll.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.resumed.is_empty()
    }

    fn read(&mut self, key: u32, now: Now) {
        let Some(mut scratch) = self.read_scratch.take() else { return };
        self.read_into(key, &mut scratch, now);
        self.read_scratch = Some(scratch);
    }

    fn read_into(&mut self, key: u32, scratch: &mut ReadScratch, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match conn.transport.read(scratch) {
            Ok(Read::Data { bytes, more }) => {
                // A request and the time after a close have their time from the start, however the bytes trickle.
                let begins = matches!(&conn.phase, Phase::Head(head) if head.is_empty() && conn.was_answered);
                if begins || matches!(conn.phase, Phase::WebSocket { owner: Owner::Client(_), .. }) {
                    conn.received = wheel::tick(now.mono);
                }
                // After the poll has said that the peer closed, it says nothing more: read to the end.
                let again = more || conn.peer_closed;
                self.received(key, bytes, now);
                if again
                    && let Some(conn) = self.conns.get_mut(key)
                    && !std::mem::replace(&mut conn.is_ready, true)
                {
                    self.ready_next.push(key);
                }
            }
            Ok(Read::Blocked) => {}
            // A client that says no more may still wait for its answer.
            Ok(Read::Closed) => match &mut conn.phase {
                Phase::Waiting(waiting) => waiting.reply.keep = false,
                Phase::Answering(answer) => answer.keep = false,
                _ => self.lost(key, CloseReason::ConnectionLost),
            },
            Err(error) => {
                let reason = match error.kind() {
                    std::io::ErrorKind::InvalidData => CloseReason::TlsError,
                    _ => CloseReason::ConnectionLost,
                };
                self.lost(key, reason);
            }
        }
    }

    fn received(&mut self, key: u32, bytes: &mut [u8], now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match &mut conn.phase {
            Phase::Head(head) if head.is_empty() => self.head(key, bytes, now),
            Phase::Head(head) => {
                head.extend_from_slice(bytes);
                let mut head = std::mem::take(head);
                self.head(key, &mut head, now);
            }
            Phase::Body(body) => {
                body.bytes.extend_from_slice(bytes);
                if body.bytes.len() >= body.needed {
                    let mut bytes = std::mem::take(&mut body.bytes);
                    conn.phase = Phase::Head(Vec::new());
                    self.head(key, &mut bytes, now);
                }
            }
            Phase::Polling(_) | Phase::Waiting(_) | Phase::Answering(_) => self.keep_pending(key, bytes),
            Phase::WebSocket { .. } => self.frames(key, bytes, now),
            Phase::Lingering { discarded } => {
                *discarded += bytes.len();
                if *discarded > LINGER_BYTES {
                    self.drop_conn(key);
                }
            }
        }
    }

    /// Keeps what comes behind a request that has not been answered yet.
    fn keep_pending(&mut self, key: u32, bytes: &[u8]) {
        // One whole request, whatever it is for.
        let most = self.settings.limits.request_head + self.settings.limits.message_size.max(BODY_BYTES);
        let Some(conn) = self.conns.get_mut(key) else { return };
        let pending = match &mut conn.phase {
            Phase::Polling(poll) => &mut poll.pending,
            Phase::Waiting(waiting) => &mut waiting.pending,
            Phase::Answering(answer) => &mut answer.pending,
            _ => return,
        };
        if pending.len() + bytes.len() > most {
            return self.lost(key, CloseReason::ProtocolError("too many requests in a row"));
        }
        pending.extend_from_slice(bytes);
    }

    /// A request has been answered, and the next one is here already: it is read before the next turn's sockets.
    pub(super) fn resume(&mut self, key: u32, pending: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match &mut conn.phase {
            Phase::Head(head) => {
                *head = pending;
                self.resumed.push(key);
            }
            // The answer is still on its way.
            Phase::Answering(answer) => answer.pending = pending,
            _ => {}
        }
    }

    /// Reads requests that had to wait for the answers of those before them.
    fn read_resumed(&mut self, now: Now) {
        for key in std::mem::take(&mut self.resumed) {
            if let Some(conn) = self.conns.get_mut(key)
                && let Phase::Head(head) = &mut conn.phase
            {
                let mut bytes = std::mem::take(head);
                self.head(key, &mut bytes, now);
            }
        }
    }

    /// Reads requests; what lies behind one belongs to the next, or to the WebSocket.
    pub(super) fn head(&mut self, key: u32, bytes: &mut [u8], now: Now) {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.is_empty() {
                return;
            }
            let (request, length) = match http::parse_request(rest, self.settings.limits.request_head) {
                Ok(Some(request)) => request,
                Ok(None) => {
                    if let Some(conn) = self.conns.get_mut(key)
                        && let Phase::Head(head) = &mut conn.phase
                    {
                        *head = rest.to_vec();
                    }
                    return;
                }
                Err(error) => {
                    let rejection = match error {
                        HeadError::TooLarge => Rejection::HeadTooLarge,
                        HeadError::Malformed => Rejection::BadRequest,
                    };
                    return self.refuse_head(key, error.status(), error.message(), rejection, now);
                }
            };
            match self.request(key, &request, &rest[length..], now) {
                Next::Request(body) => at += length + body,
                Next::Frames => {
                    at += length;
                    break;
                }
                Next::Body { length: body, engine } => {
                    return self.begin_body(key, rest.to_vec(), length + body, engine);
                }
                Next::Elsewhere(shard) => return self.hand_over(key, shard, rest.to_vec()),
                Next::End => return,
            }
            if !matches!(self.conns.get(key).map(|conn| &conn.phase), Some(Phase::Head(_))) {
                return self.keep_pending(key, &bytes[at.min(bytes.len())..]);
            }
        }
        self.frames(key, &mut bytes[at..], now);
    }

    /// Takes frames off `bytes` until there are no more, or the connection is closing.
    fn frames(&mut self, key: u32, mut bytes: &mut [u8], now: Now) {
        let Some((owner, mut decoder)) = self.take_decoder(key) else { return };
        let limit = self.settings.limits.message_size;
        // Until it finds no more, also on an empty rest: only then it lets go of a message that came in parts.
        loop {
            match decoder.decode(bytes, limit) {
                Ok((_, None)) => break,
                Ok((used, Some(message))) => {
                    let goes_on = match owner {
                        Owner::Client(client) => self.message(client, message, now),
                        Owner::Engine(engine) => self.engine_message(key, engine, message, now),
                    };
                    if !goes_on {
                        return;
                    }
                    bytes = &mut bytes[used..];
                }
                Err(violation) => return self.violation(owner, violation, now),
            }
        }
        if let Some(conn) = self.conns.get_mut(key)
            && let Phase::WebSocket { decoder: place, .. } = &mut conn.phase
        {
            *place = decoder;
        }
    }

    fn take_decoder(&mut self, key: u32) -> Option<(Owner, Decoder)> {
        match &mut self.conns.get_mut(key)?.phase {
            Phase::WebSocket { owner, decoder } => Some((*owner, std::mem::take(decoder))),
            _ => None,
        }
    }

    /// One message. False if the connection is closing, or gone.
    fn message(&mut self, client: u32, message: Message<'_>, now: Now) -> bool {
        if self.clients.get(client).is_none_or(Client::is_closing) {
            return false;
        }
        match message {
            Message::Text(text) => {
                self.count_message(client);
                self.input(client, Input::Text(text), now);
            }
            Message::Binary(_) => {
                self.count_message(client);
                self.input(client, Input::Binary, now);
            }
            Message::Ping(payload) => {
                if self.allow_ping(client, now) {
                    self.push_frames(client, |out| ws::write_pong(out, payload));
                }
            }
            Message::Pong(_) => {
                self.allow_ping(client, now);
                if let Some(client) = self.clients.get_mut(client) {
                    client.ping_sent = 0;
                }
            }
            Message::Close { code, .. } => self.client_closes(LineKey::client(client), code, now),
        }
        self.clients.get(client).is_some_and(|client| !client.is_closing())
    }

    pub(super) fn count_message(&mut self, client: u32) {
        if let Some(client) = self.clients.get(client) {
            self.metrics.messages_received[client.session.app().index()].add(1);
        }
    }

    /// Counts a ping or pong frame; too many of them end the connection.
    fn allow_ping(&mut self, slot: u32, now: Now) -> bool {
        let Some(client) = self.clients.get(slot) else { return false };
        let rate = self.settings.limits.pings;
        if client.session.user().allow(Meter::Pings, rate, now.mono).is_ok() {
            return true;
        }
        self.metrics.rate_limited[LimitKind::Pings as usize].add(1);
        self.close(slot, CloseReason::Abuse, now);
        false
    }

    fn violation(&mut self, owner: Owner, violation: Violation, now: Now) {
        let reason = match violation {
            Violation::Protocol(what) => CloseReason::ProtocolError(what),
            Violation::InvalidUtf8 => CloseReason::InvalidUtf8,
            Violation::TooLarge => CloseReason::MessageTooLarge,
        };
        match owner {
            Owner::Client(client) => {
                if violation == Violation::TooLarge {
                    let bytes = self.settings.limits.message_size;
                    self.input(client, Input::TooLarge { bytes }, now);
                }
                self.close(client, reason, now);
            }
            Owner::Engine(engine) if self.is_polling(engine) => self.end_probe(engine, now),
            Owner::Engine(engine) => self.close_line(LineKey::engine(engine), reason, now),
        }
    }
}
