//! Requests over HTTP beside the sockets: signing in, the conversations, messages and wallet of a user.
//!
//! What a path asks for, and what is answered, `app::rest` knows. Here a request is read whole, its origin and its token are
//! checked, and the connection waits for the store or for who signs users in; several requests may follow each other.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::app::rest::login::{self, LoginAnswer};
use crate::app::rest::{Call, Endpoint, Personal, Question, RestAnswer, RestError, Served, support};
use crate::auth::{AuthError, Identity};
use crate::close::ErrorCode;
use crate::limits::BODY_BYTES;
use crate::login::LoginRequest;
use crate::mailbox::support::SupportNews;
use crate::mailbox::{Asker, ToRouter};
use crate::metrics::{LimitKind, Rejection};
use crate::proto::http::{self, Chunked, Request};
use crate::proto::upgrade;
use crate::record::support::Census;
use crate::record::{Answer, Refusal};
use crate::shard::conn::{NO_ENGINE, Phase, Reply, Waiting};
use crate::shard::http::{Exchange, Next};
use crate::shard::{Net, Shard};
use crate::time::Now;
use crate::users::{Meter, User};

/// What a request waits for.
#[derive(Clone)]
pub enum Awaited {
    /// What is somebody's own.
    Personal {
        /// What was asked.
        endpoint: Personal,
        /// Who asked.
        user: Arc<User>,
    },
    /// A token.
    Login,
}

impl<N: Net> Shard<N> {
    /// The endpoint of a request, or what is wrong with its method; `None`: its path is none of these.
    fn endpoint(&self, request: &Request<'_>) -> Option<Result<Endpoint, RestError>> {
        let has_store = self.common.store.is_some();
        let served = Served {
            apps: self.settings.apps.map(|is_on| is_on && has_store),
            login: self.common.login.is_some(),
        };
        Endpoint::find(asked_method(request), request.path, served)
    }

    /// Answers a request to one of these paths; `None`: it is none. `behind` is what has come behind its head.
    pub(super) fn api_request(
        &mut self,
        key: u32,
        request: &Request<'_>,
        behind: &[u8],
        now: Now,
    ) -> Option<Next> {
        let endpoint = self.endpoint(request)?;
        let keep = self.may_keep(key, request);
        let reply = Reply { is_head: request.method == "HEAD", keep, cors: self.cors(request) };
        let exchange = Exchange { key, reply, length: 0, behind, now };
        if !self.origin_allowed(key, request) {
            let message = "this origin is not allowed: add it to allowed_origins";
            let error = RestError::new(403, ErrorCode::AccessDenied, message);
            let exchange = Exchange { reply: Reply { keep: false, ..Reply::default() }, ..exchange };
            self.metrics.handshakes_rejected[Rejection::Origin as usize].add(1);
            return Some(self.api_error(&error, exchange));
        }
        Some(match endpoint {
            // A preflight has no body as a rule; one that it has is not the next request.
            _ if request.method == "OPTIONS" => {
                self.preflight(request, exchange.of_length(body_length(request)))
            }
            Err(error) => self.api_error(&error, exchange.of_length(body_length(request))),
            Ok(_) if !self.has_room_for(key) => {
                let error = RestError::new(
                    503,
                    ErrorCode::ConnectionLimit,
                    "the server has no room: try again later",
                )
                .retry_after(Duration::from_secs(5));
                self.api_error(&error, exchange.of_length(usize::MAX))
            }
            Ok(endpoint) => self.read_body(endpoint, request, exchange),
        })
    }

    /// Waits for the body, which is small; then asks.
    fn read_body(&mut self, endpoint: Endpoint, request: &Request<'_>, exchange: Exchange<'_>) -> Next {
        let behind = exchange.behind;
        let wrong =
            |status, message: &'static str| RestError::new(status, ErrorCode::InvalidMessage, message);
        let too_large = || RestError::new(413, ErrorCode::MessageTooLarge, "a body has at most 65536 bytes");
        // Where a body ends is not known in these cases, so nothing can follow.
        let error = match request.content_length() {
            Ok(length) => {
                let length = length.unwrap_or(0);
                if length <= BODY_BYTES as u64 {
                    let length = length as usize;
                    return match behind.get(..length) {
                        Some(body) => self.ask(endpoint, request, body, Exchange { length, ..exchange }),
                        None => self.await_api_body(&endpoint, request, length, exchange),
                    };
                }
                too_large()
            }
            Err(_) if request.is_chunked() => match http::read_chunked(behind, BODY_BYTES) {
                Chunked::Whole(body, length) => {
                    return self.ask(endpoint, request, &body, Exchange { length, ..exchange });
                }
                Chunked::Partial => {
                    return self.await_api_body(&endpoint, request, behind.len() + 1, exchange);
                }
                Chunked::TooLarge => too_large(),
                Chunked::Malformed => wrong(400, "the chunks of the body are malformed"),
            },
            Err(error) => wrong(error.status(), error.message()),
        };
        self.api_error(&error, exchange.of_length(usize::MAX))
    }

    /// Waits for the body of who may send one.
    fn await_api_body(
        &mut self,
        endpoint: &Endpoint,
        request: &Request<'_>,
        length: usize,
        exchange: Exchange<'_>,
    ) -> Next {
        if matches!(endpoint, Endpoint::Personal(_))
            && let Err(error) = self.bearer(request, exchange.now)
        {
            return self.api_error(&error, exchange.of_length(usize::MAX));
        }
        // Asked once: what follows a first part of the body comes without asking.
        let asks = request.wants_continue() && exchange.behind.is_empty();
        if asks && !self.write_now(exchange.key, |out| http::write_response(out, 100, &[], b"")) {
            return Next::End;
        }
        Next::Body { length, engine: NO_ENGINE }
    }

    fn ask(
        &mut self,
        endpoint: Endpoint,
        request: &Request<'_>,
        body: &[u8],
        exchange: Exchange<'_>,
    ) -> Next {
        let asked = match endpoint {
            Endpoint::Document => {
                let response = json_response(&exchange.reply, 200, &[], self.common.document.as_bytes());
                return self.settle(response, exchange);
            }
            Endpoint::Personal(endpoint) => self.ask_for_user(endpoint, request, body, &exchange),
            Endpoint::Login(endpoint) => self.ask_login(endpoint, request, body, &exchange),
        };
        let awaited = match asked {
            Ok(awaited) => awaited,
            Err(error) => return self.api_error(&error, exchange),
        };
        let Exchange { key, reply, length, .. } = exchange;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.was_answered = true;
            let serial = self.requests;
            conn.phase = Phase::Waiting(Box::new(Waiting { serial, awaited, reply, pending: Vec::new() }));
        }
        Next::Request(length)
    }

    /// The number that the answer comes with.
    fn next_request(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }

    fn ask_for_user(
        &mut self,
        mut endpoint: Personal,
        request: &Request<'_>,
        body: &[u8],
        exchange: &Exchange<'_>,
    ) -> Result<Awaited, RestError> {
        let now = exchange.now;
        let identity = self.bearer(request, now)?;
        let user = self.common.users.user(&identity.user);
        // As many as control events over a socket.
        user.allow(Meter::Requests, self.settings.app.control, now.mono).map_err(|wait| {
            self.metrics.rate_limited[LimitKind::Control as usize].add(1);
            let message = "too many requests: wait before the next one";
            RestError::new(429, ErrorCode::RateLimited, message).retry_after(wait)
        })?;
        let call = Call {
            identity: &identity,
            user: &user,
            query: &|name| request.query_param(name),
            content_type: request.header("content-type"),
            body,
            settings: &self.settings.app,
            now,
        };
        let limit = endpoint.limit();
        let asked = endpoint.request(&call, &mut self.parser).inspect_err(|error| {
            if error.status == 429 {
                self.metrics.rate_limited[limit as usize].add(1);
            }
        })?;
        let (shard, conn, serial) = (self.id, exchange.key, self.next_request());
        match asked {
            Question::Store(what) => self.wish(Asker::Http { shard, conn, serial }, what, now),
            Question::Census => {
                self.outgoing.push(ToRouter::Support(SupportNews::Count { shard, conn, serial }));
            }
        }
        Ok(Awaited::Personal { endpoint, user })
    }

    fn ask_login(
        &mut self,
        endpoint: login::Endpoint,
        request: &Request<'_>,
        body: &[u8],
        exchange: &Exchange<'_>,
    ) -> Result<Awaited, RestError> {
        let bearer = upgrade::bearer_token(request);
        let call = endpoint.call(request.header("content-type"), bearer, body, &mut self.parser)?;
        let serial = self.next_request();
        let (Some(login), Some(conn)) = (&self.common.login, self.conns.get(exchange.key)) else {
            return Err(login::LoginError::Off.to_rest());
        };
        let address = self.address_of(conn.peer, request);
        let ticket = u64::from(exchange.key) << 32 | u64::from(serial);
        let asked = LoginRequest { shard: self.id, ticket, call, address, at: exchange.now };
        login.ask(asked).map_err(|error| error.to_rest())?;
        Ok(Awaited::Login)
    }

    /// Whose token the request shows.
    fn bearer(&self, request: &Request<'_>, now: Now) -> Result<Identity, RestError> {
        upgrade::bearer_token(request)
            .ok_or(AuthError::Missing)
            .and_then(|token| self.settings.verifier.verify(token, now.unix_seconds()))
            .map_err(|error| RestError::new(401, error.code(), error.to_string()))
    }

    /// The store's answer to a request.
    pub(super) fn api_stored(&mut self, key: u32, serial: u32, answer: &Result<Answer, Refusal>, now: Now) {
        let Some(awaited) = self.awaited(key, serial) else { return };
        let settings = &self.settings.app;
        let answer = match awaited {
            Awaited::Personal { endpoint, user } => endpoint.response(answer, &user, settings),
            // The store is asked by others.
            Awaited::Login => return,
        };
        self.api_answer(key, answer, now);
    }

    /// The store did not take a request.
    pub(super) fn api_busy(&mut self, key: u32, serial: u32, now: Now) {
        let settings = &self.settings.app;
        match self.awaited(key, serial) {
            Some(Awaited::Personal { endpoint, user }) => endpoint.not_done(&user, settings),
            Some(Awaited::Login) | None => return,
        }
        self.api_overdue(key, now);
    }

    /// The router's answer to a request.
    pub(super) fn api_census(&mut self, key: u32, serial: u32, census: &Census, now: Now) {
        if let Some(Awaited::Personal { .. }) = self.awaited(key, serial) {
            self.api_answer(key, Ok(support::census(census)), now);
        }
    }

    /// The identity provider's answer to a request.
    pub(super) fn api_login(&mut self, ticket: u64, answer: &LoginAnswer, now: Now) {
        let (key, serial) = ((ticket >> 32) as u32, ticket as u32);
        if let Some(Awaited::Login) = self.awaited(key, serial) {
            self.api_answer(key, login::response(answer), now);
        }
    }

    /// What a connection waits for, if it still waits for this.
    fn awaited(&self, key: u32, serial: u32) -> Option<Awaited> {
        match &self.conns.get(key)?.phase {
            Phase::Waiting(waiting) if waiting.serial == serial => Some(waiting.awaited.clone()),
            _ => None,
        }
    }

    /// A request has waited for too long.
    pub(super) fn api_overdue(&mut self, key: u32, now: Now) {
        let error = RestError::new(503, ErrorCode::RateLimited, "the server is busy: try again in a moment");
        self.api_answer(key, Err(error.retry_after(Duration::from_secs(1))), now);
    }

    /// Answers a request that waits.
    fn api_answer(&mut self, key: u32, answer: Result<RestAnswer, RestError>, now: Now) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Phase::Waiting(waiting) = &mut conn.phase else { return };
        let reply = Reply { keep: waiting.reply.keep && self.drain.is_none(), ..waiting.reply.clone() };
        let pending = std::mem::take(&mut waiting.pending);
        let response = match answer {
            Ok(answer) => json_response(&reply, answer.status, &[], &answer.body),
            Err(error) => error_response(&reply, &error),
        };
        self.answer(key, response, reply.keep, now);
        if !pending.is_empty() {
            self.resume(key, pending);
        }
    }

    fn api_error(&mut self, error: &RestError, exchange: Exchange<'_>) -> Next {
        let response = error_response(&exchange.reply, error);
        self.settle(response, exchange)
    }
}

/// How long a request's body is; more than can be there, where only its end would tell.
pub(super) fn body_length(request: &Request<'_>) -> usize {
    match request.content_length() {
        Ok(length) => length.map_or(0, |length| length as usize),
        Err(_) => usize::MAX,
    }
}

/// The method; that which a browser asks about beforehand.
fn asked_method<'a>(request: &Request<'a>) -> &'a str {
    match request.method {
        "OPTIONS" => request.header("access-control-request-method").unwrap_or("OPTIONS"),
        method => method,
    }
}

/// Answers of these paths are somebody's own: nobody on the way keeps them.
fn json_response(reply: &Reply, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut all = vec![("Content-Type", "application/json"), ("Cache-Control", "no-store")];
    all.extend_from_slice(headers);
    reply.response(status, &all, body)
}

fn error_response(reply: &Reply, error: &RestError) -> Vec<u8> {
    let mut body = Vec::new();
    error.write_body(&mut body);
    let retry = error.retry_after.map(http::retry_after);
    let mut headers: Vec<(&str, Cow<'_, str>)> = Vec::new();
    headers.extend(retry.map(|seconds| ("Retry-After", seconds.into())));
    headers.extend(error.allow.map(|allow| ("Allow", allow.into())));
    headers.extend((error.status == 401).then_some(("WWW-Authenticate", "Bearer".into())));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
    json_response(reply, error.status, &headers, &body)
}
