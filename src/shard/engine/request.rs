//! HTTP requests on a session's path: which session they are for, by which transport, and what a browser is told.

use crate::close::ErrorCode;
use crate::metrics::Rejection;
use crate::proto::engineio::{Query, RequestError, TransportName};
use crate::proto::http::Request;
use crate::proto::upgrade;
use crate::shard::admit::{Refusal, token};
use crate::shard::conn::{Cors, Reply};
use crate::shard::engine::{Handshake, Link, Protocol, Whereabouts};
use crate::shard::line::NO_CONN;
use crate::shard::{Net, Shard};
use crate::time::Now;

/// Most sessions of a shard, where the configuration does not limit the connections.
const ENGINES: usize = 1_000_000;

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

impl<N: Net> Shard<N> {
    /// What is served at the path, if it is one of Engine.IO's.
    fn engine_protocol(&self, path: &str) -> Option<Protocol> {
        match path {
            "/socket.io/" if self.settings.serves_socketio() => Some(Protocol::SocketIo),
            "/engine.io/" if self.settings.echo => Some(Protocol::Echo),
            _ => None,
        }
    }

    /// Whether a request is one for a session.
    pub(crate) fn is_engine_path(&self, path: &str) -> bool {
        self.engine_protocol(path).is_some()
    }

    /// A request for a session, or for a new one. `behind` is what has come behind its head.
    pub(in crate::shard) fn engine_request(
        &mut self,
        key: u32,
        request: &Request<'_>,
        behind: &[u8],
        now: Now,
    ) -> Next {
        let Some(protocol) = self.engine_protocol(request.path) else { return Next::End };
        let length = match request.content_length() {
            Ok(length) => length.unwrap_or(0),
            Err(error) => {
                let refusal = Refusal::new(
                    error.status(),
                    ErrorCode::InvalidMessage,
                    error.message(),
                    Rejection::BadRequest,
                );
                return self.refuse(key, request.path, &refusal, Reply::default(), now);
            }
        };
        let mut reply =
            Reply { keep: request.keep_alive() && self.drain.is_none(), cors: self.cors(request) };
        if !self.origin_allowed(key, request) {
            self.metrics.handshakes_rejected[Rejection::Origin as usize].add(1);
            return self.request_error(key, RequestError::Forbidden, reply, length, behind, now);
        }
        if request.method == "OPTIONS" {
            return self.preflight(key, request, reply, length, behind, now);
        }
        let query = match Query::of(request) {
            Ok(query) => query,
            Err(error) => return self.request_error(key, error, reply, length, behind, now),
        };
        let Some(sid) = &query.sid else {
            return match query.transport {
                TransportName::Polling => {
                    self.open_polling(key, request, protocol, reply, length, behind, now)
                }
                TransportName::WebSocket => self.open_websocket(key, request, protocol, now),
            };
        };
        let engine = match self.find_engine(sid) {
            Whereabouts::Here(engine) if !self.is_over(engine) => engine,
            Whereabouts::Elsewhere(shard) => return Next::Elsewhere(shard),
            Whereabouts::Here(_) | Whereabouts::Unknown => {
                return self.request_error(key, RequestError::UnknownSid, reply, length, behind, now);
            }
        };
        let current = match self.is_polling(engine) {
            true => TransportName::Polling,
            false => TransportName::WebSocket,
        };
        if let Err(error) = query.fits(current) {
            return self.request_error(key, error, reply, length, behind, now);
        }
        if query.is_upgrade {
            return self.open_probe(key, request, engine, now);
        }
        match request.method {
            "GET" => self.poll(key, engine, reply, length, behind, now),
            "POST" => {
                if length as usize > self.settings.limits.message_size {
                    // What is too large is not read, so nobody knows where the next request begins.
                    reply.keep = false;
                    return self.plain(key, 413, "", &reply, now);
                }
                if behind.len() < length as usize {
                    return self.await_body(key, engine, request, length as usize, &reply, now);
                }
                self.post(key, engine, request, &behind[..length as usize], &reply, now)
            }
            // As the reference answers what is neither.
            _ => self.skip(self.plain_status(500, &reply), length, behind, key, now),
        }
    }

    /// Whether a session has ended, but for its last words: those are still to be polled.
    fn is_over(&self, engine: u32) -> bool {
        self.engines.get(engine).is_none_or(|engine| {
            engine.line.closing.is_some() && (!engine.is_polling() || engine.line.conn != NO_CONN)
        })
    }

    fn origin_allowed(&self, key: u32, request: &Request<'_>) -> bool {
        let peer = self.conns.get(key).map(|conn| conn.peer);
        let is_proxy =
            peer.is_some_and(|peer| self.settings.trusted_proxies.iter().any(|range| range.contains(peer)));
        let host = request.header("x-forwarded-host").filter(|_| is_proxy);
        upgrade::origin_allowed(request, host, &self.settings.allowed_origins)
    }

    /// What the browser is told of the page's origin.
    fn cors(&self, request: &Request<'_>) -> Cors {
        let allowed = &self.settings.allowed_origins;
        match request.header("origin") {
            None => Cors::Silent,
            Some(_) if allowed.is_empty() => Cors::Silent,
            Some(_) if allowed.iter().any(|origin| origin == "*") => Cors::Any,
            // One that is not allowed is refused before this is said.
            Some(origin) => Cors::Origin(origin.into()),
        }
    }

    /// A browser asks whether its page may send the request it has in mind.
    fn preflight(
        &mut self,
        key: u32,
        request: &Request<'_>,
        reply: Reply,
        length: u64,
        behind: &[u8],
        now: Now,
    ) -> Next {
        let asked = request.header("access-control-request-headers").unwrap_or("Content-Type, Authorization");
        let headers = [
            ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
            ("Access-Control-Allow-Headers", asked),
            ("Access-Control-Max-Age", "600"),
        ];
        let answer = reply.response(204, &headers, b"");
        self.skip((answer, reply.keep), length, behind, key, now)
    }

    /// A request that cannot be served, in the reference's words.
    pub(super) fn request_error(
        &mut self,
        key: u32,
        error: RequestError,
        reply: Reply,
        length: u64,
        behind: &[u8],
        now: Now,
    ) -> Next {
        self.metrics.handshakes_rejected[Rejection::BadRequest as usize].add(1);
        let mut body = Vec::new();
        error.write_body(&mut body, error.message());
        let answer = reply.response(error.status(), &[("Content-Type", "application/json")], &body);
        self.skip((answer, reply.keep), length, behind, key, now)
    }

    /// A refusal of a new session.
    fn refuse(&mut self, key: u32, path: &str, refusal: &Refusal, reply: Reply, now: Now) -> Next {
        self.metrics.handshakes_rejected[refusal.rejection as usize].add(1);
        self.log_refusal(key, refusal, path, now);
        self.respond(key, refusal, &Reply { keep: false, ..reply }, now);
        Next::End
    }

    /// Answers a request whose body, if it has one, is not read: then the connection ends, unless the body is here.
    fn skip(
        &mut self,
        (answer, keep): (Vec<u8>, bool),
        length: u64,
        behind: &[u8],
        key: u32,
        now: Now,
    ) -> Next {
        let keep = keep && behind.len() as u64 >= length;
        match self.answer(key, answer, keep, now) {
            true => Next::Request(length as usize),
            false => Next::End,
        }
    }

    fn plain_status(&self, status: u16, reply: &Reply) -> (Vec<u8>, bool) {
        (reply.response(status, &[], b""), reply.keep)
    }

    /// Answers with a status and a short text.
    pub(super) fn plain(&mut self, key: u32, status: u16, body: &str, reply: &Reply, now: Now) -> Next {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("Content-Type", "text/html")] };
        let answer = reply.response(status, headers, body.as_bytes());
        match self.answer(key, answer, reply.keep, now) {
            true => Next::Request(0),
            false => Next::End,
        }
    }

    /// Whether a new session may be opened, or why not.
    fn admit_session(&mut self, key: u32, request: &Request<'_>, now: Now) -> Result<Handshake, Refusal> {
        if self.drain.is_some() {
            return Err(Refusal::full("the server is going away: connect again"));
        }
        let Some(conn) = self.conns.get(key) else { return Err(Refusal::full("the connection is gone")) };
        // A session that polls has no socket most of the time: sessions are counted too.
        let most = match self.settings.limits.connections {
            0 => ENGINES,
            connections => connections,
        };
        if conn.is_surplus || self.engines.len() >= most {
            return Err(Refusal::full("the server is full: try again later"));
        }
        let peer = self.address_of(conn.peer, request);
        self.limit_address(peer, now)?;
        Ok(Handshake {
            token: token(request).map(|token| token.into()),
            recover: request.query_param("recover").is_some_and(|value| value == "1" || value == "true"),
            peer,
        })
    }

    fn open_polling(
        &mut self,
        key: u32,
        request: &Request<'_>,
        protocol: Protocol,
        reply: Reply,
        length: u64,
        behind: &[u8],
        now: Now,
    ) -> Next {
        let handshake = match self.admit_session(key, request, now) {
            Ok(handshake) => handshake,
            Err(refusal) => return self.refuse(key, request.path, &refusal, reply, now),
        };
        let link = Link::Polling { probe: NO_CONN, is_probed: false, posting: NO_CONN };
        let engine = self.open_engine(NO_CONN, link, protocol, handshake, now);
        let mut open = Vec::new();
        self.write_open(&mut open, engine, true);
        let answer = reply.poll_response(&open);
        self.skip((answer, reply.keep), length, behind, key, now)
    }

    fn open_websocket(&mut self, key: u32, request: &Request<'_>, protocol: Protocol, now: Now) -> Next {
        let upgrade = match upgrade::check(request) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                let refusal = Refusal::upgrade(error);
                return self.refuse(key, request.path, &refusal, Reply::default(), now);
            }
        };
        let handshake = match self.admit_session(key, request, now) {
            Ok(handshake) => handshake,
            Err(refusal) => return self.refuse(key, request.path, &refusal, Reply::default(), now),
        };
        let engine = self.open_engine(key, Link::WebSocket, protocol, handshake, now);
        self.become_websocket(key, engine, now);
        let mut response = Vec::new();
        upgrade::write_switching(&mut response, &upgrade, subprotocol(request));
        self.push_head(crate::shard::line::LineKey::engine(engine), &response);
        let mut open = Vec::new();
        self.write_open(&mut open, engine, false);
        self.push_packet(engine, |out| out.extend_from_slice(&open));
        Next::Frames
    }
}

/// The subprotocol to select: the one that carries a token, if the client offered it.
pub(super) fn subprotocol(request: &Request<'_>) -> Option<&'static str> {
    upgrade::subprotocol_token(request).is_some().then_some(upgrade::BEARER_PROTOCOL)
}

impl Reply {
    /// The response to a poll.
    pub(super) fn poll_response(&self, payload: &[u8]) -> Vec<u8> {
        self.response(
            200,
            &[("Content-Type", "text/plain; charset=UTF-8"), ("Cache-Control", "no-store")],
            payload,
        )
    }
}
