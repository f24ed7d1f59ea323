//! Socket.IO packets (protocol v5): namespaces are connected and left, events go to their sessions.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::app::wire::Object;
use crate::app::{AppOpening, Input, Opening, Session};
use crate::audience::{App, Wire};
use crate::auth::Identity;
use crate::close::{CloseReason, ErrorCode};
use crate::limits::NAME_BYTES;
use crate::mailbox::{Pid, ToRouter};
use crate::proto::json::Raw;
use crate::proto::socketio::{self, Assembly, Kind, Packet};
use crate::room::name::RoomName;
use crate::room::publication::ClientId;
use crate::shard::admit::{NewClient, Refusal, Shown};
use crate::shard::client::Client;
use crate::shard::engine::{Engine, random_bytes};
use crate::shard::line::{LineKey, Way};
use crate::shard::recovery::Recovery;
use crate::shard::rooms::EVERYONE;
use crate::shard::{Net, Shard};
use crate::time::Now;
use crate::users::User;

/// A packet for nobody: the reference closes the connection, too.
const STRANGER: CloseReason = CloseReason::ProtocolError("a packet for a namespace that is not connected");

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    /// `market`.
    Root,
    /// Of the conformance echo application.
    Custom,
    /// `mobile`.
    Chat,
    /// `mobile`.
    Wallet,
}

impl Namespace {
    /// How events are framed in it.
    const fn wire(self, recovers: bool) -> Wire {
        match self {
            Namespace::Root if recovers => Wire::SocketIoOffset,
            Namespace::Root => Wire::SocketIo,
            Namespace::Custom => Wire::SocketIoCustom,
            Namespace::Chat => Wire::SocketIoChat,
            Namespace::Wallet => Wire::SocketIoWallet,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Namespace::Root => "/",
            Namespace::Custom => "/custom",
            Namespace::Chat => "/chat",
            Namespace::Wallet => "/wallet",
        }
    }

    /// Whether a client that is lost may come back for what it has missed. `mobile` has its own ways (`spec/mobile.md`).
    const fn is_recoverable(self) -> bool {
        matches!(self, Namespace::Root)
    }
}

/// What a client that shows a CONNECT brings along.
struct Connecting<'a> {
    namespace: Namespace,
    auth: Option<Raw<'a>>,
    /// It asks for connection state recovery, and may have it.
    recovers: bool,
}

impl<N: Net> Shard<N> {
    /// The text of one Socket.IO packet.
    pub(super) fn socketio_text(&mut self, engine: u32, text: &str, now: Now) {
        let Some(session) = self.engines.get_mut(engine) else { return };
        if session.assembly.is_some() {
            let reason = CloseReason::ProtocolError("text where an attachment was to come");
            return self.reject(engine, reason, now);
        }
        let attachments = self.settings.limits.attachments as u32;
        match socketio::decode(text, &mut self.parser, attachments) {
            Ok(packet) if packet.attachments > 0 => {
                if !session.namespaces.iter().any(|(name, _)| *name == packet.namespace) {
                    return self.reject(engine, STRANGER, now);
                }
                session.assembly = Some(Box::new(Assembly::begin(text, packet.attachments)));
            }
            Ok(packet) => self.socketio_packet(engine, &packet, &[], now),
            Err(error) => self.reject(engine, CloseReason::ProtocolError(error.text()), now),
        }
    }

    /// One attachment.
    pub(super) fn socketio_binary(&mut self, engine: u32, bytes: &[u8], now: Now) {
        let Some(session) = self.engines.get_mut(engine) else { return };
        let Some(assembly) = &mut session.assembly else {
            return self.reject(engine, CloseReason::ProtocolError("an attachment without a packet"), now);
        };
        if !assembly.add(bytes) {
            return;
        }
        let Some(assembly) = session.assembly.take() else { return };
        match assembly.packet(&mut self.parser) {
            Ok(packet) => self.socketio_packet(engine, &packet, assembly.attachments(), now),
            Err(error) => self.reject(engine, CloseReason::ProtocolError(error.text()), now),
        }
    }

    /// A packet that is none of Socket.IO's closes the connection as if the server had wished so; what was queued goes out.
    fn reject(&mut self, engine: u32, reason: CloseReason, now: Now) {
        self.close_line(LineKey::engine(engine), reason, now);
    }

    fn socketio_packet(&mut self, engine: u32, packet: &Packet<'_>, attachments: &[Box<[u8]>], now: Now) {
        if packet.kind == Kind::Connect {
            return self.connect(engine, packet.namespace, packet.data, now);
        }
        let Some(session) = self.engines.get(engine) else { return };
        let client = session.namespaces.iter().find(|(name, _)| *name == packet.namespace);
        let Some((_, client)) = client.copied().filter(|(_, client)| self.is_connected(*client)) else {
            return self.reject(engine, STRANGER, now);
        };
        match packet.kind {
            Kind::Disconnect => {
                if self.allow_control(engine, now) {
                    self.leave_namespace(engine, client);
                }
            }
            Kind::Event | Kind::BinaryEvent => {
                let Some(args) = packet.data else { return };
                self.count_message(client);
                let is_binary = packet.kind == Kind::BinaryEvent;
                self.input(client, Input::Event { args, is_binary, attachments, ack: packet.id }, now);
            }
            // Nothing here asks a client for an acknowledgement.
            Kind::Ack | Kind::BinaryAck => {
                self.allow_control(engine, now);
            }
            Kind::ConnectError | Kind::Connect => {
                self.reject(engine, CloseReason::ProtocolError("errors are the server's to give"), now);
            }
        }
    }

    /// Whether the client's CONNECT has been answered.
    pub(super) fn is_connected(&self, client: u32) -> bool {
        let is_restoring = |recovery: &Recovery| recovery.restoring.is_some();
        self.clients.get(client).is_some_and(|client| !client.recovery.as_deref().is_some_and(is_restoring))
    }

    /// The client leaves a namespace and stays on the connection.
    fn leave_namespace(&mut self, engine: u32, client: u32) {
        self.depart(client, &CloseReason::ClientLeft);
        self.clients.remove(client);
        if let Some(session) = self.engines.get_mut(engine) {
            session.namespaces.retain(|(_, known)| *known != client);
        }
    }

    /// The namespaces that are served, by their names.
    fn namespace(&self, name: &str) -> Option<Namespace> {
        let is_on = |app: App| self.settings.apps[app.index()] && !self.settings.echo;
        match name {
            "/" if self.settings.echo || is_on(App::Market) => Some(Namespace::Root),
            "/custom" if self.settings.echo => Some(Namespace::Custom),
            "/chat" if is_on(App::Mobile) => Some(Namespace::Chat),
            "/wallet" if is_on(App::Mobile) => Some(Namespace::Wallet),
            _ => None,
        }
    }

    /// CONNECT.
    fn connect(&mut self, engine: u32, name: &str, auth: Option<Raw<'_>>, now: Now) {
        if !self.allow_control(engine, now) {
            return;
        }
        if name.len() > NAME_BYTES {
            return self.reject(
                engine,
                CloseReason::ProtocolError("the name of a namespace is too long"),
                now,
            );
        }
        let Some(namespace) = self.namespace(name) else {
            return self.refuse_connect(engine, name, "Invalid namespace", None);
        };
        let Some(session) = self.engines.get(engine) else { return };
        if session.namespaces.iter().any(|(known, _)| *known == namespace.name()) {
            return self.reject(
                engine,
                CloseReason::ProtocolError("the namespace is connected already"),
                now,
            );
        }
        let wants = auth.and_then(|auth| auth.get("recover")).and_then(Raw::as_bool).unwrap_or(false);
        let settings = &self.settings.socketio;
        let recovers = (wants || session.handshake.recover)
            && settings.recovery.is_some()
            && namespace.is_recoverable()
            && settings.recovery_namespaces.iter().any(|known| known == namespace.name());
        let connecting = Connecting { namespace, auth, recovers };
        match self.admit_namespace(engine, &connecting, now) {
            Ok(new) => self.enter_namespace(engine, &connecting, new, now),
            Err(refusal) => {
                self.metrics.handshakes_rejected[refusal.rejection as usize].add(1);
                if let Some(peer) = self.engines.get(engine).map(|session| session.handshake.peer) {
                    self.log_refusal(peer, &refusal, namespace.name(), now);
                }
                let message = format!("{} {}", refusal.status, refusal.message);
                self.refuse_connect(engine, name, &message, Some((refusal.code, refusal.retry_after)));
            }
        }
    }

    /// Who connects, counted; or why not.
    fn admit_namespace(
        &mut self,
        engine: u32,
        connecting: &Connecting<'_>,
        now: Now,
    ) -> Result<NewClient, Refusal> {
        let wire = connecting.namespace.wire(connecting.recovers);
        if self.settings.echo {
            let auth = connecting.auth.map(|auth| String::from_utf8_lossy(auth.bytes()).into());
            let app = AppOpening::Echo { wire, auth: auth.unwrap_or_default() };
            return Ok(NewClient { user: User::anonymous(), identity: None, app });
        }
        let (identity, once) = self.identify_namespace(engine, connecting, now)?;
        let (user, is_counted) = self.count_namespace(engine, wire.app(), identity.as_ref(), now)?;
        // One token for one connection, whatever the number of its namespaces.
        let has_used = |session: &Engine| session.handshake.once.as_deref() == once.as_ref();
        if !self.engines.get(engine).is_some_and(has_used) {
            self.use_token(once, now).inspect_err(|_| {
                if is_counted {
                    user.leave(wire.app());
                }
            })?;
            if let Some(session) = self.engines.get_mut(engine) {
                session.handshake.once = once.map(Box::new);
            }
        }
        let app = match wire.app() {
            App::Mobile => AppOpening::Mobile { wire },
            _ => AppOpening::Market(wire),
        };
        Ok(NewClient { user, identity, app })
    }

    /// Takes a place of the user's for a namespace, if it needs one, and says whether it did. Those of one connection count
    /// once (`spec/decisions.md` 5).
    fn count_namespace(
        &self,
        engine: u32,
        app: App,
        identity: Option<&Identity>,
        now: Now,
    ) -> Result<(Arc<User>, bool), Refusal> {
        let others = self.engines.get(engine).map(Engine::clients).unwrap_or_default();
        let others = others.iter().filter_map(|client| self.clients.get(*client));
        let mut is_known = false;
        for other in others.map(|client| &client.session) {
            if identity.is_some_and(|identity| *other.user().id() == *identity.user) {
                if other.app() == app {
                    return Ok((Arc::clone(other.user()), false));
                }
                is_known = true;
            }
        }
        Ok((self.count_user(app, identity, !is_known, now)?, true))
    }

    /// Gives the place back, if no other namespace of the connection is the same user's.
    pub(in crate::shard) fn leave_user(&self, slot: u32) {
        let Some(client) = self.clients.get(slot) else { return };
        let (user, app) = (client.session.user(), client.session.app());
        if let Way::Engine(engine) = client.way
            && let Some(engine) = self.engines.get(engine)
        {
            let is_same =
                |other: &Client| other.session.app() == app && Arc::ptr_eq(other.session.user(), user);
            let mut others = engine.namespaces.iter().filter(|(_, other)| *other != slot);
            if others.any(|(_, other)| self.clients.get(*other).is_some_and(is_same)) {
                return;
            }
        }
        user.leave(app);
    }

    fn identify_namespace(
        &self,
        engine: u32,
        connecting: &Connecting<'_>,
        now: Now,
    ) -> Result<Shown, Refusal> {
        let shown = connecting.auth.and_then(|auth| auth.get("token")).filter(|token| !token.is_null());
        let token = match shown {
            // What is no text is no token.
            Some(token) => Some(token.as_str().unwrap_or_default()),
            None => self
                .engines
                .get(engine)
                .and_then(|session| session.handshake.token.as_deref())
                .map(Into::into),
        };
        if token.is_none() && self.settings.anonymous && connecting.namespace == Namespace::Root {
            return Ok((None, None));
        }
        self.verify(token.as_deref(), now)
    }

    /// CONNECT_ERROR.
    fn refuse_connect(
        &mut self,
        engine: u32,
        namespace: &str,
        message: &str,
        data: Option<(ErrorCode, Option<Duration>)>,
    ) {
        let data = data.map(|(code, wait)| {
            let mut text = Vec::new();
            Object::write(&mut text, |data| {
                data.put("code", code.as_str());
                if let Some(wait) = wait {
                    data.put("retry_after_ms", crate::app::wait_ms(wait));
                }
            });
            text
        });
        self.push_packet(engine, |out| {
            out.push(b'4');
            socketio::write_connect_error(out, namespace, message, data.as_deref());
        });
    }

    /// A namespace has a client now. One that may come back is let in when the router has answered.
    fn enter_namespace(&mut self, engine: u32, connecting: &Connecting<'_>, new: NewClient, now: Now) {
        let (slot, generation) = self.clients.next_key();
        let id = ClientId { shard: self.id, slot, generation };
        let session = Session::new(Opening {
            user: new.user,
            identity: new.identity,
            connection: Uuid::from_bytes(random_bytes()),
            client: id,
            app: new.app,
        });
        let Some(place) = self.engines.get_mut(engine) else {
            session.user().leave(session.app());
            return;
        };
        place.namespaces.push((connecting.namespace.name(), slot));
        place.connect_by = 0;
        place.line.wire = session.wire();
        let member = |name| connecting.auth.and_then(|auth| auth.get(name)).filter(|value| !value.is_null());
        // Without an offset it has seen no event; with one that is none of ours nobody knows what it has seen.
        let offset = member("offset").map(|offset| offset.as_str().and_then(|text| text.parse().ok()));
        let recovery = connecting.recovers.then(|| Box::new(Recovery::new(random_bytes(), offset.flatten())));
        let recovers = recovery.is_some();
        self.insert_client(Way::Engine(engine), session, recovery);
        if recovers {
            // Known to the router before it looks: what is published to the user from then on comes here.
            let is_known = !matches!(offset, Some(None));
            let pid =
                member("pid").filter(|_| is_known).and_then(Raw::as_str).and_then(|pid| parse_pid(&pid));
            self.keep_users_own(slot);
            self.outgoing.push(ToRouter::Keep { shard: self.id, room: RoomName::everyone() });
            self.outgoing.push(ToRouter::Restore { client: id, pid });
        } else {
            self.add_member(EVERYONE, slot);
            self.confirm_connect(slot, now);
            self.input(slot, Input::Opened { offset: None }, now);
        }
        self.arm_engine(engine, now);
    }

    /// Answers CONNECT. From here on the client is told when its token is over.
    pub(in crate::shard) fn confirm_connect(&mut self, slot: u32, now: Now) {
        let Some(client) = self.clients.get(slot) else { return };
        let Way::Engine(engine) = client.way else { return };
        let Some(namespace) = client.wire.namespace() else { return };
        let sid = client.session.connection_id();
        let pid = client.recovery.as_ref().map(|recovery| write_pid(&recovery.pid));
        self.push_packet(engine, |out| {
            out.push(b'4');
            socketio::write_connect(out, namespace, &sid, pid.as_deref());
        });
        self.arm_engine(engine, now);
    }
}

/// Appends the packet that ends a namespace for good.
pub(super) fn write_disconnect(out: &mut Vec<u8>, namespace: &str) {
    out.push(b'4');
    socketio::write_head(out, Kind::Disconnect, 0, namespace, None);
}

/// A session's secret name as the client knows it.
fn write_pid(pid: &Pid) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pid)
}

fn parse_pid(text: &str) -> Option<Pid> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok()
}
