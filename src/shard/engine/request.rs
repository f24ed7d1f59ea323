//! HTTP requests on a session's path: which session they are for, by which transport, and what a browser is told.

use crate::close::ErrorCode;
use crate::metrics::Rejection;
use crate::proto::engineio::{Query, RequestError, TransportName};
use crate::proto::http::{self, Chunked, Request};
use crate::proto::upgrade;
use crate::shard::admit::{Refusal, token};
use crate::shard::conn::{Cors, NO_ENGINE, Reply};
use crate::shard::engine::{Handshake, Link, Protocol, Whereabouts};
use crate::shard::http::{Exchange, Next};
use crate::shard::line::NO_CONN;
use crate::shard::{Net, Shard};
use crate::time::Now;

/// Most sessions of all shards, where the configuration does not limit the connections.
const ENGINES: usize = 1_000_000;

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
        let length = match request.content_length() {
            Ok(length) => length.unwrap_or(0) as usize,
            Err(_) if request.is_chunked() => return self.chunked_request(key, request, behind, now),
            Err(error) => {
                let message = error.message();
                let refusal =
                    Refusal::new(error.status(), ErrorCode::InvalidMessage, message, Rejection::BadRequest);
                return self.refuse(key, request.path, &refusal, Reply::default(), now);
            }
        };
        self.request_with_body(key, request, behind, length, now)
    }

    /// A request whose body has so many bytes, the first of `behind`.
    fn request_with_body(
        &mut self,
        key: u32,
        request: &Request<'_>,
        behind: &[u8],
        length: usize,
        now: Now,
    ) -> Next {
        let Some(protocol) = self.engine_protocol(request.path) else { return Next::End };
        // Whatever is answered before the body has come whole is the last answer.
        let is_whole = behind.len() >= length;
        let keep = self.may_keep(key, request) && is_whole;
        let is_allowed = self.origin_allowed(key, request);
        let cors = if is_allowed { self.cors(request) } else { Cors::Silent };
        let reply = Reply { is_head: request.method == "HEAD", keep, cors };
        let exchange = Exchange { key, reply, length, behind, now };
        if !is_allowed {
            self.metrics.handshakes_rejected[Rejection::Origin as usize].add(1);
            return self.request_error(RequestError::Forbidden, exchange);
        }
        if request.method == "OPTIONS" {
            return self.preflight(request, exchange);
        }
        match Query::of(request) {
            Err(error) => self.request_error(error, exchange),
            Ok(query) => match &query.sid {
                Some(sid) => self.session_request(request, &query, sid, exchange),
                None if query.is_upgrade => self.open_websocket(key, request, protocol, now),
                None => self.open_polling(request, protocol, exchange),
            },
        }
    }

    /// A request whose body comes in chunks: served when it is whole, as if it had come in one piece.
    fn chunked_request(&mut self, key: u32, request: &Request<'_>, behind: &[u8], now: Now) -> Next {
        match http::read_chunked(behind, self.settings.limits.message_size) {
            Chunked::Whole(body, length) => {
                match self.request_with_body(key, request, &body, body.len(), now) {
                    Next::Request(_) => Next::Request(length),
                    next => next,
                }
            }
            Chunked::Partial => Next::Body { length: behind.len() + 1, engine: NO_ENGINE },
            Chunked::TooLarge => {
                self.answer(key, Reply::default().response(413, &[], b""), false, now);
                Next::End
            }
            Chunked::Malformed => {
                self.answer(key, Reply::default().response(400, &[], b""), false, now);
                Next::End
            }
        }
    }

    /// A request for a session that should be there.
    fn session_request(
        &mut self,
        request: &Request<'_>,
        query: &Query<'_>,
        sid: &str,
        exchange: Exchange<'_>,
    ) -> Next {
        let engine = match self.find_engine(sid) {
            Whereabouts::Here(engine) if !self.is_over(engine) => engine,
            Whereabouts::Elsewhere(shard) => return Next::Elsewhere(shard),
            Whereabouts::Here(_) | Whereabouts::Unknown => {
                return self.request_error(RequestError::UnknownSid, exchange);
            }
        };
        // Last words may still be polled; nothing more is taken.
        let is_closing = self.engines.get(engine).is_none_or(|session| session.line.closing.is_some());
        match request.method {
            _ if !is_closing => {}
            "GET" if !query.is_upgrade => {}
            "POST" if self.awaits_poll(engine) => {
                let answer = exchange.reply.taken();
                return self.settle(answer, exchange);
            }
            _ => return self.request_error(RequestError::UnknownSid, exchange),
        }
        let current = match self.is_polling(engine) {
            true => TransportName::Polling,
            false => TransportName::WebSocket,
        };
        if let Err(error) = query.fits(current) {
            return self.request_error(error, exchange);
        }
        if !is_closing {
            if let Some(session) =
                self.engines.get_mut(engine).filter(|_| request.method == "GET" && !query.is_upgrade)
            {
                session.cut = false;
            }
            self.heard(engine, exchange.now);
        }
        match request.method {
            _ if query.is_upgrade => self.open_probe(exchange.key, request, engine, exchange.now),
            "GET" => self.poll(engine, exchange),
            // What is too large is not read, so nobody knows where the next request begins.
            "POST" if exchange.length > self.settings.limits.message_size => {
                self.status(413, Exchange { reply: Reply { keep: false, ..exchange.reply }, ..exchange })
            }
            "POST" if exchange.behind.len() < exchange.length => self.await_body(engine, request, exchange),
            "POST" => self.post(engine, request, exchange),
            // As the reference answers what is neither.
            _ => self.status(500, exchange),
        }
    }

    /// Whether a session has ended, but for its last words: those are still to be polled.
    fn is_over(&self, engine: u32) -> bool {
        self.engines.get(engine).is_none_or(|engine| {
            engine.line.closing.is_some() && (!engine.is_polling() || engine.line.conn != NO_CONN)
        })
    }

    /// Whether a session that is over waits for a poll to tell the client. What the client posts meanwhile is passed over.
    fn awaits_poll(&self, engine: u32) -> bool {
        self.engines.get(engine).is_some_and(|session| session.is_polling() && !session.leaving)
    }

    /// A request that cannot be served, in the reference's words.
    pub(super) fn request_error(&mut self, error: RequestError, exchange: Exchange<'_>) -> Next {
        self.metrics.handshakes_rejected[Rejection::BadRequest as usize].add(1);
        let mut body = Vec::new();
        error.write_body(&mut body, error.message());
        let headers = [("Content-Type", "application/json")];
        let answer = exchange.reply.response(error.status(), &headers, &body);
        self.settle(answer, exchange)
    }

    /// A refusal of a new session.
    fn refuse(&mut self, key: u32, path: &str, refusal: &Refusal, reply: Reply, now: Now) -> Next {
        self.metrics.handshakes_rejected[refusal.rejection as usize].add(1);
        self.log_refused(key, refusal, path, now);
        self.respond(key, refusal, &Reply { keep: false, ..reply }, now);
        Next::End
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
        let most = most.div_ceil(self.settings.shards);
        if conn.is_surplus || self.engines.len() >= most {
            return Err(Refusal::full("the server is full: try again later"));
        }
        let peer = self.address_of(conn.peer, request);
        self.limit_address(peer, now)?;
        Ok(Handshake {
            token: token(request).map(|token| token.into()),
            recover: request.query_param("recover").is_some_and(|value| value == "1" || value == "true"),
            peer,
            once: None,
        })
    }

    fn open_polling(&mut self, request: &Request<'_>, protocol: Protocol, exchange: Exchange<'_>) -> Next {
        let Exchange { key, now, .. } = exchange;
        let handshake = match self.admit_session(key, request, now) {
            Ok(handshake) => handshake,
            Err(refusal) => return self.refuse(key, request.path, &refusal, exchange.reply, now),
        };
        let link = Link::Polling { probe: NO_CONN, is_probed: false, posting: NO_CONN };
        let engine = self.open_engine(NO_CONN, link, protocol, handshake, now);
        let mut open = Vec::new();
        self.write_open(&mut open, engine, true);
        let answer = exchange.reply.poll_response(&open);
        self.settle(answer, exchange)
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
    /// The response to a post.
    pub(super) fn taken(&self) -> Vec<u8> {
        self.response(200, &[("Content-Type", "text/html")], b"ok")
    }

    /// The response to a poll.
    pub(super) fn poll_response(&self, payload: &[u8]) -> Vec<u8> {
        self.response(
            200,
            &[("Content-Type", "text/plain; charset=UTF-8"), ("Cache-Control", "no-store")],
            payload,
        )
    }
}
