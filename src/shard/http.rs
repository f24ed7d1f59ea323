//! Answers to plain HTTP requests on the public port, and refusals before the upgrade.

use std::net::IpAddr;
use std::time::Duration;

use crate::close::{CloseReason, ErrorCode};
use crate::metrics::Rejection;
use crate::proto::http::{self, Request};
use crate::proto::upgrade;
use crate::shard::admit::Refusal;
use crate::shard::conn::{Answer, Cors, NO_ENGINE, Phase, Reply};
use crate::shard::wheel;
use crate::shard::{Net, Shard};
use crate::time::Now;
use crate::transport::Flush;

/// How long a client is asked to stay away when the server is full.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);

/// What comes after a request.
pub enum Next {
    /// The next one, behind so many bytes of body.
    Request(usize),
    /// Its body, of so many bytes, for a session.
    Body {
        /// Its length.
        length: usize,
        /// The session.
        engine: u32,
    },
    /// The connection is a WebSocket now.
    Frames,
    /// The connection belongs to another shard.
    Elsewhere(u8),
    /// Nothing: the connection ends.
    End,
}

/// A request, as far as its answer goes.
pub(super) struct Exchange<'a> {
    /// Its connection.
    pub key: u32,
    /// How it is answered.
    pub reply: Reply,
    /// The length of its body.
    pub length: usize,
    /// What has come behind its head.
    pub behind: &'a [u8],
    /// The time of the turn.
    pub now: Now,
}

impl Exchange<'_> {
    /// The same with a body of this length. If it has not come whole, the answer is the last one of its connection, and
    /// says so.
    pub(super) fn of_length(mut self, length: usize) -> Self {
        self.reply.keep &= self.behind.len() >= length;
        self.length = length;
        self
    }
}

impl<N: Net> Shard<N> {
    /// Answers a request. `behind` is what has come behind its head.
    pub(super) fn request(&mut self, key: u32, request: &Request<'_>, behind: &[u8], now: Now) -> Next {
        if self.is_engine_path(request.path) {
            return self.engine_request(key, request, behind, now);
        }
        if let Some(next) = self.page_request(key, request, behind, now) {
            return next;
        }
        if let Some(next) = self.api_request(key, request, behind, now) {
            return next;
        }
        match self.admit(key, request, now) {
            Ok(admitted) => {
                let mut response = Vec::new();
                let protocol =
                    upgrade::subprotocol_token(request).is_some().then_some(upgrade::BEARER_PROTOCOL);
                upgrade::write_switching(&mut response, &admitted.upgrade, protocol);
                self.open(key, admitted.opening, &response, now);
                Next::Frames
            }
            Err(refusal) => {
                self.metrics.handshakes_rejected[refusal.rejection as usize].add(1);
                self.log_refused(key, &refusal, request.path, now);
                // A body would have to be read first; nothing here takes one.
                let has_body = !matches!(request.content_length(), Ok(None | Some(0)));
                let keep = self.may_keep(key, request) && !has_body && refusal.status != 503;
                self.respond(key, &refusal, &Reply { keep, ..Reply::default() }, now);
                if keep { Next::Request(0) } else { Next::End }
            }
        }
    }

    /// Whether another request may follow this one on its connection: the client has asked for it, and the server has room.
    pub(super) fn may_keep(&self, key: u32, request: &Request<'_>) -> bool {
        request.keep_alive() && self.has_room_for(key)
    }

    /// Whether a connection may stay: it is not one beyond the limit, and the server does not drain.
    pub(super) fn has_room_for(&self, key: u32) -> bool {
        self.drain.is_none() && self.conns.get(key).is_some_and(|conn| !conn.is_surplus)
    }

    pub(super) fn origin_allowed(&self, key: u32, request: &Request<'_>) -> bool {
        let peer = self.conns.get(key).map(|conn| conn.peer);
        let is_proxy =
            peer.is_some_and(|peer| self.settings.trusted_proxies.iter().any(|range| range.contains(peer)));
        let host = request.header("x-forwarded-host").filter(|_| is_proxy);
        upgrade::origin_allowed(request, host, &self.settings.allowed_origins)
    }

    /// What the browser is told of the page's origin, which is allowed.
    pub(super) fn cors(&self, request: &Request<'_>) -> Cors {
        let allowed = &self.settings.allowed_origins;
        match request.header("origin") {
            None => Cors::Silent,
            Some(_) if allowed.is_empty() => Cors::Silent,
            Some(_) if allowed.iter().any(|origin| origin == "*") => Cors::Any,
            Some(origin) => Cors::Origin(origin.into()),
        }
    }

    /// A browser asks whether its page may send the request it has in mind.
    pub(super) fn preflight(&mut self, request: &Request<'_>, exchange: Exchange<'_>) -> Next {
        let asked = request.header("access-control-request-headers").unwrap_or("Content-Type, Authorization");
        let headers = [
            ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
            ("Access-Control-Allow-Headers", asked),
            ("Access-Control-Max-Age", "600"),
        ];
        let answer = exchange.reply.response(204, &headers, b"");
        self.settle(answer, exchange)
    }

    /// Answers with a status alone.
    pub(super) fn status(&mut self, status: u16, exchange: Exchange<'_>) -> Next {
        let answer = exchange.reply.response(status, &[], b"");
        self.settle(answer, exchange)
    }

    /// Answers, and goes on behind the body if that is here; a body that was not waited for ends the connection.
    pub(super) fn settle(&mut self, answer: Vec<u8>, exchange: Exchange<'_>) -> Next {
        let keep = exchange.reply.keep && exchange.behind.len() >= exchange.length;
        self.answer(exchange.key, answer, keep, exchange.now);
        if keep { Next::Request(exchange.length) } else { Next::End }
    }

    /// Refuses a head that cannot be read, and ends the connection.
    pub(super) fn refuse_head(
        &mut self,
        key: u32,
        status: u16,
        message: &'static str,
        rejection: Rejection,
        now: Now,
    ) {
        self.metrics.handshakes_rejected[rejection as usize].add(1);
        let refusal = Refusal::new(status, ErrorCode::InvalidMessage, message, rejection);
        self.log_refused(key, &refusal, "", now);
        self.respond(key, &refusal, &Reply::default(), now);
    }

    /// A body that is awaited is awaited no longer: its sender is told why, unless it is a session's.
    pub(super) fn give_up_body(&mut self, key: u32, refusal: &Refusal, reason: CloseReason, now: Now) {
        match self.conns.get(key).map(|conn| &conn.phase) {
            Some(Phase::Body(body)) if body.engine == NO_ENGINE => {
                self.metrics.handshakes_rejected[refusal.rejection as usize].add(1);
                self.respond(key, refusal, &Reply::default(), now);
            }
            _ => self.lost(key, reason),
        }
    }

    /// Writes an error body: `{"error":{"code","message"},"detail"}`.
    pub(super) fn respond(&mut self, key: u32, refusal: &Refusal, reply: &Reply, now: Now) {
        let body = serde_json::json!({
            "error": { "code": refusal.code.as_str(), "message": refusal.message },
            "detail": refusal.message,
        })
        .to_string();
        let retry = refusal.retry_after.map(http::retry_after);
        let mut headers = vec![("Content-Type", "application/json")];
        if let Some(seconds) = &retry {
            headers.push(("Retry-After", seconds));
        }
        headers.extend_from_slice(refusal.headers);
        let response = reply.response(refusal.status, &headers, body.as_bytes());
        self.answer(key, response, reply.keep, now);
    }

    /// Answers a request; what the socket does not take goes out when it can be written to again. If `keep`, requests may
    /// follow.
    pub(super) fn answer(&mut self, key: u32, response: Vec<u8>, keep: bool, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.was_answered = true;
        conn.received = wheel::tick(now.mono);
        conn.phase =
            Phase::Answering(Box::new(Answer { bytes: response, written: 0, keep, pending: Vec::new() }));
        self.go_on_answering(key);
    }

    /// Hands the socket what it has not taken of an answer.
    pub(super) fn go_on_answering(&mut self, key: u32) {
        let now = self.net.now();
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Phase::Answering(answer) = &mut conn.phase else { return };
        while answer.written < answer.bytes.len() {
            match conn.transport.write(&answer.bytes[answer.written..], &mut self.write_scratch) {
                Ok(written) => {
                    answer.written += written.taken;
                    if written.blocked {
                        return self.arm(key, now);
                    }
                }
                Err(_) => return self.drop_conn(key),
            }
        }
        match conn.transport.flush() {
            Ok(Flush::Drained) => {}
            Ok(Flush::Blocked) => return self.arm(key, now),
            Err(_) => return self.drop_conn(key),
        }
        let pending = std::mem::take(&mut answer.pending);
        if !answer.keep || self.drain.is_some() {
            return self.linger(key, now);
        }
        conn.phase = Phase::Head(Vec::new());
        self.arm(key, now);
        if !pending.is_empty() {
            self.resume(key, pending);
        }
    }

    /// One line for a refused request.
    pub(super) fn log_refused(&mut self, key: u32, refusal: &Refusal, path: &str, now: Now) {
        if let Some(peer) = self.conns.get(key).map(|conn| conn.peer) {
            self.log_refusal(peer, refusal, path, now);
        }
    }

    /// One line for whoever was refused, unless there are too many.
    pub(super) fn log_refusal(&mut self, peer: IpAddr, refusal: &Refusal, path: &str, now: Now) {
        let Some(kept_back) = self.log_limit.allow(now) else { return };
        tracing::info!(
            %peer,
            path,
            status = refusal.status,
            code = refusal.code.as_str(),
            kept_back,
            "refused"
        );
    }
}

impl Refusal {
    /// The server has no place, or is going away.
    pub fn full(message: &'static str) -> Refusal {
        Refusal::new(503, ErrorCode::ConnectionLimit, message, Rejection::Overloaded)
            .retry_after(RETRY_WHEN_FULL)
    }
}

impl Reply {
    /// A response, with what a browser and the connection are to be told.
    pub fn response(&self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut all = headers.to_vec();
        match &self.cors {
            Cors::Silent => {}
            Cors::Any => all.push(("Access-Control-Allow-Origin", "*")),
            Cors::Origin(origin) => all.extend([
                ("Access-Control-Allow-Origin", &**origin),
                ("Access-Control-Allow-Credentials", "true"),
                ("Vary", "Origin"),
            ]),
        }
        if !all.iter().any(|(name, _)| *name == "Connection") {
            all.push(("Connection", if self.keep { "keep-alive" } else { "close" }));
        }
        let mut response = Vec::with_capacity(256 + body.len());
        http::write_response(&mut response, status, &all, body);
        if self.is_head {
            response.truncate(response.len() - body.len());
        }
        response
    }
}
