//! Who is let in: the path, the origin, the token, the limits, in this order; and what a client needs to start.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::support::{Place, SupportOpening};
use crate::app::{AppOpening, Input, Labels, Opening, Session};
use crate::audience::{App, Wire};
use crate::auth::{AuthError, Identity, Once};
use crate::close::{CloseReason, ErrorCode};
use crate::limits::SUPPORT_CONNECTIONS;
use crate::mailbox::ToRouter;
use crate::metrics::{LimitKind, Rejection};
use crate::proto::http::Request;
use crate::proto::upgrade::{self, Upgrade, UpgradeError};
use crate::proto::ws::Decoder;
use crate::room::publication::ClientId;
use crate::shard::client::{Client, NOBODY};
use crate::shard::conn::{Owner, Phase};
use crate::shard::line::{Line, LineKey, Way};
use crate::shard::recovery::Recovery;
use crate::shard::rooms::EVERYONE;
use crate::shard::{Net, Shard, wheel};
use crate::time::Now;
use crate::users::{self, User, UserLimits};

/// Why a request is not let in.
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error code of the body.
    pub code: ErrorCode,
    /// What to do about it.
    pub message: Cow<'static, str>,
    /// For `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The metric label.
    pub rejection: Rejection,
}

impl Refusal {
    /// A refusal without a time to wait.
    pub fn new(
        status: u16,
        code: ErrorCode,
        message: impl Into<Cow<'static, str>>,
        rejection: Rejection,
    ) -> Refusal {
        Refusal { status, code, message: message.into(), retry_after: None, headers: &[], rejection }
    }

    /// A request that cannot become a WebSocket.
    pub fn upgrade(error: UpgradeError) -> Refusal {
        Refusal {
            headers: error.headers(),
            ..Refusal::new(error.status, ErrorCode::InvalidMessage, error.message, Rejection::BadRequest)
        }
    }

    /// A token that is missing or no good.
    pub fn unauthorized(error: &AuthError) -> Refusal {
        let rejection = match error.code() {
            ErrorCode::TokenExpired => Rejection::TokenExpired,
            _ => Rejection::Unauthorized,
        };
        Refusal::new(401, error.code(), error.to_string(), rejection)
    }

    /// Says when to come back.
    pub fn retry_after(mut self, wait: Duration) -> Refusal {
        self.retry_after = Some(wait);
        self
    }
}

/// What a client's token shows: who it is, and whether the token is to be used up. Nobody: an anonymous client.
pub(super) type Shown = (Option<Identity>, Option<Once>);

/// A request that is let in. The user's place is taken.
pub struct Admitted<'a> {
    /// For the answer.
    pub upgrade: Upgrade<'a>,
    /// For the session.
    pub opening: NewClient,
}

/// Who the new client is.
pub struct NewClient {
    /// Its user, counted.
    pub user: Arc<User>,
    /// What its token says; `None`: anonymous.
    pub identity: Option<Identity>,
    /// Its app.
    pub app: AppOpening,
}

impl<N: Net> Shard<N> {
    /// Lets a request in, or says why not.
    pub(super) fn admit<'a>(
        &mut self,
        key: u32,
        request: &Request<'a>,
        now: Now,
    ) -> Result<Admitted<'a>, Refusal> {
        let not_found =
            || Refusal::new(404, ErrorCode::NotFound, "there is nothing at this path", Rejection::NotFound);
        let app = route(request).filter(|app| self.settings.apps[app.index()]).ok_or_else(not_found)?;
        let (peer, is_proxy, is_surplus) = match self.conns.get(key) {
            Some(conn) => (
                conn.peer,
                self.settings.trusted_proxies.iter().any(|range| range.contains(conn.peer)),
                conn.is_surplus,
            ),
            None => return Err(not_found()),
        };
        let host = request.header("x-forwarded-host").filter(|_| is_proxy);
        if !upgrade::origin_allowed(request, host, &self.settings.allowed_origins) {
            let message = "this origin is not allowed: add it to allowed_origins";
            return Err(Refusal::new(403, ErrorCode::AccessDenied, message, Rejection::Origin));
        }
        let upgrade = upgrade::check(request).map_err(Refusal::upgrade)?;
        if self.drain.is_some() {
            return Err(Refusal::full("the server is going away: connect again"));
        }
        if is_surplus {
            return Err(Refusal::full("the server is full: try again later"));
        }
        self.limit_address(self.address_of(peer, request), now)?;
        if app == App::Support {
            let opening = self.admit_to_session(request, now)?;
            return Ok(Admitted { upgrade, opening });
        }
        let labels = labels(app, request)?;
        let (identity, once) = self.identify(app, request, now)?;
        let user = self.count_user(app, identity.as_ref(), true, now)?;
        self.use_token(once, now).inspect_err(|_| user.leave(app))?;
        let app = match app {
            App::Account => AppOpening::Account(labels),
            App::Conversation => AppOpening::Conversation,
            _ => AppOpening::Market(Wire::Native),
        };
        Ok(Admitted { upgrade, opening: NewClient { user, identity, app } })
    }

    /// The client's address: the peer's, or what a trusted proxy says of it.
    pub(super) fn address_of(&self, peer: IpAddr, request: &Request<'_>) -> IpAddr {
        let is_proxy = self.settings.trusted_proxies.iter().any(|range| range.contains(peer));
        forwarded_for(request).filter(|_| is_proxy).unwrap_or(peer)
    }

    /// Counts a new connection against its address.
    pub(super) fn limit_address(&self, address: IpAddr, now: Now) -> Result<(), Refusal> {
        let Some(rate) = self.settings.limits.connects_per_address else { return Ok(()) };
        if self.settings.limits.exempt.iter().any(|range| range.contains(address)) {
            return Ok(());
        }
        self.common.users.connect_from(address, rate, now.mono).map_err(|wait| {
            self.metrics.rate_limited[LimitKind::ConnectsPerAddress as usize].add(1);
            let message = "too many new connections from this address: wait before the next one";
            Refusal::new(429, ErrorCode::RateLimited, message, Rejection::RateLimited).retry_after(wait)
        })
    }

    /// A client of support sessions. A bad token is no refusal here: its clients read the close code (`spec/auth.md`).
    fn admit_to_session(&self, request: &Request<'_>, now: Now) -> Result<NewClient, Refusal> {
        let place = session_of(request.path).unwrap_or(Place::Nowhere);
        let stranger = |error: AuthError| {
            let reason = match error.code() {
                ErrorCode::TokenExpired => CloseReason::TokenExpired,
                _ => CloseReason::Policy("the token is missing or not valid"),
            };
            let opening = SupportOpening { place, seat: None, refused: Some(reason) };
            NewClient { user: User::anonymous(), identity: None, app: AppOpening::Support(opening) }
        };
        let verify =
            |token: Cow<'_, str>| self.settings.verifier.verify_to_connect(&token, now.unix_seconds());
        let (identity, once) = match token(request).ok_or(AuthError::Missing).and_then(verify) {
            Ok(shown) => shown,
            Err(error) => return Ok(stranger(error)),
        };
        let limit = self.settings.limits.connections_per_user;
        let in_all = if limit == 0 { 0 } else { SUPPORT_CONNECTIONS };
        let user = self.count_user_up_to(in_all, App::Support, &identity, true, now)?;
        let session = match place {
            Place::Session(session) => Some(session),
            Place::Nowhere | Place::Feed => None,
        };
        let Some(seat) = self.common.users.seats.take(&identity.user, session, limit) else {
            user.leave(App::Support);
            return Err(self.too_many());
        };
        // After all else has let the client in.
        if let Some(once) = once
            && let Err(error) = self.common.used.take(once, now.unix_seconds())
        {
            user.leave(App::Support);
            return Ok(stranger(error));
        }
        let opening = SupportOpening { place, seat: Some(seat), refused: None };
        Ok(NewClient { user, identity: Some(identity), app: AppOpening::Support(opening) })
    }

    fn identify(&self, app: App, request: &Request<'_>, now: Now) -> Result<Shown, Refusal> {
        let token = token(request);
        if token.is_none() && app == App::Market && self.settings.anonymous {
            return Ok((None, None));
        }
        self.verify(token.as_deref(), now)
    }

    /// Who may connect with a token.
    pub(super) fn verify(&self, token: Option<&str>, now: Now) -> Result<Shown, Refusal> {
        token
            .ok_or(AuthError::Missing)
            .and_then(|token| self.settings.verifier.verify_to_connect(token, now.unix_seconds()))
            .map(|(identity, once)| (Some(identity), once))
            .map_err(|error| Refusal::unauthorized(&error))
    }

    /// Uses a single-use token, after all else has let the client in; if that cannot be, the place that was taken for the
    /// client is to be given back.
    pub(super) fn use_token(&self, once: Option<Once>, now: Now) -> Result<(), Refusal> {
        let Some(once) = once else { return Ok(()) };
        self.common.used.take(once, now.unix_seconds()).map_err(|error| Refusal::unauthorized(&error))
    }

    /// Takes a place of the user's; `is_new`: it is not for a connection that has been counted for another app.
    pub(super) fn count_user(
        &self,
        app: App,
        identity: Option<&Identity>,
        is_new: bool,
        now: Now,
    ) -> Result<Arc<User>, Refusal> {
        let Some(identity) = identity else { return Ok(User::anonymous()) };
        let connections = self.settings.limits.connections_per_user;
        self.count_user_up_to(connections, app, identity, is_new, now)
    }

    fn count_user_up_to(
        &self,
        connections: u32,
        app: App,
        identity: &Identity,
        is_new: bool,
        now: Now,
    ) -> Result<Arc<User>, Refusal> {
        let connects = self.settings.limits.connects_per_user.filter(|_| is_new);
        let limits = UserLimits { connections, connects };
        self.common.users.connect(&identity.user, app, limits, now.mono).map_err(|refusal| match refusal {
            users::Refusal::TooMany => self.too_many(),
            users::Refusal::TooFast(wait) => {
                self.metrics.rate_limited[LimitKind::ConnectsPerUser as usize].add(1);
                let message = "too many new connections of this user: wait before the next one";
                Refusal::new(429, ErrorCode::RateLimited, message, Rejection::RateLimited).retry_after(wait)
            }
        })
    }

    fn too_many(&self) -> Refusal {
        self.metrics.rate_limited[LimitKind::ConnectionsPerUser as usize].add(1);
        let message = "too many connections of this user: close one first";
        Refusal::new(429, ErrorCode::ConnectionLimit, message, Rejection::ConnectionLimit)
            .retry_after(Duration::from_secs(5))
    }

    /// Makes a client of a connection that has been let in; `response` is the answer to its request.
    pub(super) fn open(&mut self, key: u32, new: NewClient, response: &[u8], now: Now) {
        let (slot, generation) = self.clients.next_key();
        let client = ClientId { shard: self.id, slot, generation };
        let session = Session::new(Opening {
            user: new.user,
            identity: new.identity,
            connection: Uuid::now_v7(),
            client,
            app: new.app,
        });
        let line = Line::new(key, session.wire());
        let slot = self.insert_client(Way::Own(line), session, None);
        self.add_member(EVERYONE, slot);
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.phase = Phase::WebSocket { owner: Owner::Client(slot), decoder: Decoder::new() };
        conn.received = wheel::tick(now.mono);
        // Goes out at the end of the turn, after the router has been told of the user: what is published once the client
        // knows that it is connected reaches it.
        self.push_head(LineKey::client(slot), response);
        self.input(slot, Input::Opened { offset: None }, now);
        self.arm(key, now);
    }

    /// Puts a new client among those of its user, and counts it. A client that may come back gets nothing before the router
    /// has answered.
    pub(super) fn insert_client(
        &mut self,
        way: Way,
        session: Session,
        recovery: Option<Box<Recovery>>,
    ) -> u32 {
        let (app, wire, is_anonymous) =
            (session.app().index(), session.wire(), session.user().is_anonymous());
        let slot = self.clients.insert(Client {
            way,
            wire,
            is_personal: recovery.is_none(),
            memberships: Vec::with_capacity(2),
            joining: 0,
            stamp: 0,
            next_of_user: NOBODY,
            ping_sent: 0,
            session,
            recovery,
        });
        if let Some(kind) = self.clients.get(slot).map(|client| self.kind_of(client) as usize) {
            self.metrics.connections[app][kind].add(1);
            self.metrics.connections_opened[app][kind].add(1);
        }
        if !is_anonymous
            && self.local_users.insert(&mut self.clients, slot)
            && let Some(client) = self.clients.get(slot)
        {
            let user = Arc::clone(client.session.user());
            self.outgoing.push(ToRouter::UserUp { shard: self.id, user });
        }
        if self.is_only_chat(slot)
            && let Some(client) = self.clients.get(slot)
        {
            let user = Arc::clone(client.session.user());
            let username = client.session.username().map(SmolStr::new);
            self.outgoing.push(ToRouter::ChatUp { shard: self.id, user, username });
        }
        slot
    }
}

impl<N: Net> Shard<N> {
    /// Whether a client is of the app `conversation`, and its user has no other such client on this shard.
    pub(super) fn is_only_chat(&self, slot: u32) -> bool {
        let Some(client) = self.clients.get(slot) else { return false };
        if client.wire.app() != App::Conversation {
            return false;
        }
        let user = client.session.user();
        let mut at = self.local_users.first(user.hash(), user.id());
        // At most the user's connection limits long.
        while let Some(other) = self.clients.get(at) {
            if at != slot && other.wire.app() == App::Conversation {
                return false;
            }
            at = other.next_of_user;
        }
        true
    }
}

/// Which app serves the path. `/ws` serves two: `spec/README.md` says which.
fn route(request: &Request<'_>) -> Option<App> {
    match request.path {
        "/feed" => Some(App::Market),
        "/ws" => match request.query_param("app").as_deref() {
            Some("account") => Some(App::Account),
            Some("conversation") => Some(App::Conversation),
            Some(_) => None,
            None if upgrade::bearer_token(request).is_some() => Some(App::Conversation),
            None if request.query_param("token").is_some() => Some(App::Account),
            None if token(request).is_some() => Some(App::Conversation),
            None => Some(App::Account),
        },
        path if session_of(path).is_some() => Some(App::Support),
        _ => None,
    }
}

/// What a client of support sessions connects to; `None`: it is no such path.
fn session_of(path: &str) -> Option<Place> {
    let rest = path.strip_prefix("/api/v1/chat/ws")?;
    match rest.strip_prefix('/') {
        Some(id) if !id.contains('/') => {
            // Ids are ours: what is none names nothing.
            Some(Uuid::try_parse(id).map_or(Place::Nowhere, Place::Session))
        }
        None if rest.is_empty() => Some(Place::Feed),
        _ => None,
    }
}

/// The token, wherever it stands (`spec/auth.md`).
pub(super) fn token<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    upgrade::bearer_token(request)
        .map(Cow::Borrowed)
        .or_else(|| request.query_param("token"))
        .or_else(|| upgrade::subprotocol_token(request).map(Cow::Borrowed))
}

/// The last address of all fields `X-Forwarded-For`: the one the trusted proxy saw; those before it, in the same field or in
/// one that the client sent itself, are the client's own word.
fn forwarded_for(request: &Request<'_>) -> Option<IpAddr> {
    request.list("x-forwarded-for").last()?.parse().ok()
}

fn labels(app: App, request: &Request<'_>) -> Result<Labels, Refusal> {
    if app != App::Account {
        return Ok(Labels::default());
    }
    let label = |name| request.query_param(name).filter(|label| !label.is_empty()).map(|label| label.into());
    let labels = Labels { platform: label("platform"), version: label("version"), device: label("device") };
    labels.check().map_err(|name| {
        let message = format!("{name} is longer than 64 characters");
        Refusal::new(400, ErrorCode::InvalidMessage, message, Rejection::BadRequest)
    })?;
    Ok(labels)
}
