//! The apps: one [`Session`] for each client, a pure state machine from [`Input`] to [`Output`]s.
//!
//! A session knows its client's identity and what its app's events mean. It knows no sockets, no threads and
//! no clocks: time comes in with the [`Context`], effects go out as values that the shard carries out.

mod account;
mod authenticate;
pub mod conversation;
mod echo;
mod inputs;
mod market;
pub mod mobile;
pub mod outputs;
pub mod rest;
pub mod support;
mod typing;
pub mod wire;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::audience::{App, Wire};
use crate::auth::{Details, Identity, Verifier};
use crate::close::{CloseReason, ErrorCode};
use crate::limits::{self, Limits, NAME_BYTES, Rate};
use crate::proto::json::{Parser, Raw};
use crate::record::Person;
use crate::room::pattern::RoomPatterns;
use crate::room::publication::ClientId;
use crate::settings::FilterSettings;
use crate::time::Now;
use crate::users::{Meter, Presence, User};

pub use account::Labels;
pub use inputs::Input;
pub use outputs::{Asked, Live, Output, Outputs, ReplyTo, StoreRequest};
pub use typing::MOST_STOPS;

/// What sessions need of the configuration. Replaced whole at a reload.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// The room prefixes.
    pub patterns: RoomPatterns,
    /// Control events of one user.
    pub control: Option<Rate>,
    /// Chat messages of one user; each rate holds by itself.
    pub messages: Vec<Rate>,
    /// Changes to typing of one user.
    pub typing: Option<Rate>,
    /// New conversations of one user.
    pub conversations: Option<Rate>,
    /// What is masked in chat messages.
    pub filter: FilterSettings,
    /// Bytes of all last messages that a client is told when it connects; conversations beyond it come without theirs.
    pub unread_bytes: usize,
    /// Bytes of what a client is given at once of messages that waited; the rest follows when these are written.
    pub queued_bytes: usize,
    /// How long a client may go on after its token's time is over.
    pub grace: Duration,
}

impl Default for AppSettings {
    fn default() -> AppSettings {
        let limits = Limits::default();
        AppSettings {
            patterns: RoomPatterns::default(),
            control: limits.control,
            messages: limits.messages,
            typing: limits.typing,
            conversations: limits.conversations,
            filter: FilterSettings::default(),
            unread_bytes: limits.outbox / 2,
            queued_bytes: limits.outbox / 4,
            grace: Duration::from_secs(30),
        }
    }
}

/// All that a session is handed besides its input.
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Now,
    /// The configuration.
    pub settings: &'a AppSettings,
    /// Checks tokens.
    pub verifier: &'a Verifier,
    /// Reads what the client sent.
    pub parser: &'a mut Parser,
    /// Takes the effects.
    pub out: &'a mut Outputs,
    /// The id of the acknowledgement that the input asks for. The session sets it.
    pub ack: Option<u64>,
}

impl Context<'_> {
    /// What a refusal that comes later needs.
    fn asked(&self, event: &'static str) -> Asked {
        Asked { event, ack: self.ack }
    }
}

/// One client's state machine.
#[derive(Debug)]
pub struct Session {
    user: Arc<User>,
    details: Option<Box<Details>>,
    connection: Uuid,
    client: ClientId,
    /// Unix seconds; `u64::MAX` for an anonymous client.
    expires_at: u64,
    state: State,
    wire: Wire,
    /// Refused control events in a row.
    refusals: u8,
    /// `token_expired` has been sent and the grace runs.
    in_grace: bool,
}

/// What is special to an app.
#[derive(Debug)]
enum State {
    Account(Option<Box<Labels>>),
    Market,
    Conversation(Box<conversation::Chat>),
    Mobile(Box<mobile::Mobile>),
    /// The payload of CONNECT.
    Echo(Box<str>),
    Support(Box<support::Support>),
}

/// Who a new client is.
#[derive(Debug)]
pub struct Opening {
    /// Its user, counted.
    pub user: Arc<User>,
    /// What its token says; `None`: anonymous.
    pub identity: Option<Identity>,
    /// Its public id.
    pub connection: Uuid,
    /// Its place.
    pub client: ClientId,
    /// The app's own part of the request.
    pub app: AppOpening,
}

/// What an app takes from the request.
#[derive(Debug)]
pub enum AppOpening {
    /// `account`: the labels in the query.
    Account(Labels),
    /// `market`: the wire is native over `/feed`, else one of Socket.IO.
    Market(Wire),
    /// `conversation`.
    Conversation,
    /// `mobile`.
    Mobile {
        /// Of which namespace.
        wire: Wire,
    },
    /// The echo application of the conformance suites.
    Echo {
        /// One of Socket.IO.
        wire: Wire,
        /// The payload of CONNECT as it was written; empty: none.
        auth: Box<str>,
    },
    /// `support`.
    Support(support::SupportOpening),
}

impl Session {
    /// A session for a client that has been let in.
    pub fn new(opening: Opening) -> Session {
        let (expires_at, details) = match opening.identity {
            Some(identity) => (identity.expires_at, identity.details),
            None => (u64::MAX, None),
        };
        let (state, wire) = match opening.app {
            AppOpening::Account(labels) => (State::Account(labels.into_boxed()), Wire::Typed),
            AppOpening::Market(wire) => (State::Market, wire),
            AppOpening::Conversation => (State::Conversation(Box::default()), Wire::Conversation),
            AppOpening::Mobile { wire } => (State::Mobile(Box::default()), wire),
            AppOpening::Echo { wire, auth } => (State::Echo(auth), wire),
            AppOpening::Support(opening) => (State::Support(Box::new(opening.into())), Wire::Session),
        };
        Session {
            user: opening.user,
            details,
            connection: opening.connection,
            client: opening.client,
            expires_at,
            state,
            wire,
            refusals: 0,
            in_grace: false,
        }
    }

    /// The app.
    pub fn app(&self) -> App {
        self.wire.app()
    }

    /// How events are framed for this client.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// The user.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// What other users are shown, if the token says it.
    pub fn username(&self) -> Option<&str> {
        self.details.as_ref()?.username.as_deref()
    }

    /// The client's place.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The client's public id.
    pub fn connection(&self) -> Uuid {
        self.connection
    }

    /// The client's public id as its clients read it: a Socket.IO `sid` is the 16 bytes in base64url.
    pub fn connection_id(&self) -> String {
        match self.wire.namespace() {
            Some(_) => URL_SAFE_NO_PAD.encode(self.connection.as_bytes()),
            None => self.connection.to_string(),
        }
    }

    fn reply_to(&self, context: &Context<'_>) -> ReplyTo {
        ReplyTo { wire: self.wire, now: context.now, ack: context.ack }
    }

    /// The client's platform, for `/stats` and logs.
    pub fn labels(&self) -> Option<&Labels> {
        let State::Account(labels) = &self.state else { return None };
        labels.as_deref()
    }

    /// Goes on as the client that had this public id, and came back.
    pub fn take_over(&mut self, connection: Uuid) {
        self.connection = connection;
    }

    /// When [`Input::TokenOver`] is due, Unix ms.
    pub fn token_deadline(&self, grace: Duration) -> u64 {
        let grace = if self.in_grace { grace.as_millis() as u64 } else { 0 };
        self.expires_at.saturating_mul(1_000).saturating_add(grace)
    }

    /// Takes one input; the effects are in `context.out`.
    pub fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        context.ack = input.ack();
        match input {
            Input::Text(text) => self.text(text, context),
            Input::Binary => context.out.push(Output::Close(CloseReason::UnsupportedData)),
            Input::TooLarge { bytes } => {
                let message = format!("a message has at most {bytes} bytes");
                self.refuse(context, ErrorCode::MessageTooLarge, &message, None, None);
            }
            Input::TokenOver => self.token_over(context),
            Input::TooManyRooms(asked) => {
                let message = "too many rooms on this connection: leave some first";
                self.refuse(context, ErrorCode::RateLimited, message, Some(asked.event), None);
            }
            Input::Busy(asked) if self.is_settled(asked, context) => {}
            Input::Busy(asked) => {
                let message = "the server is busy: send this again in a moment";
                let wait = Duration::from_millis(100);
                self.refuse(context, ErrorCode::RateLimited, message, Some(asked.event), Some(wait));
            }
            other => match &self.state {
                State::Account(_) => self.account_input(other, context),
                State::Market => self.market_input(other, context),
                State::Conversation(_) => self.conversation_input(other, context),
                State::Mobile(_) => self.mobile_input(other, context),
                State::Echo(auth) => self.echo_input(auth, other, context),
                State::Support(_) => self.support_input(other, context),
            },
        }
    }

    fn text(&mut self, text: &str, context: &mut Context<'_>) {
        match context.parser.parse(text.as_bytes()) {
            Ok(message) if message.is_object() => match &self.state {
                State::Account(_) => self.account_message(message, context),
                State::Market => self.market_message(message, context),
                State::Conversation(_) => self.conversation_message(message, context),
                // Its clients send packets.
                State::Mobile(_) | State::Echo(_) => {}
                State::Support(_) => self.support_message(message, context),
            },
            Ok(_) => self.malformed(context, "a message is a JSON object"),
            Err(error) => self.malformed(context, &error.to_string()),
        }
    }

    /// Answers what is no event at all. It counts as a control event, or its answers would have no bound.
    fn malformed(&mut self, context: &mut Context<'_>, message: &str) {
        if self.allowed(context, None) {
            self.invalid(context, message, None);
        }
    }

    /// Counts a control event; `false`: refused, and the client has been told.
    fn allowed(&mut self, context: &mut Context<'_>, event: Option<&str>) -> bool {
        match self.user.allow(Meter::Control, context.settings.control, context.now.mono) {
            Ok(()) => {
                self.refusals = 0;
                true
            }
            Err(wait) => {
                context.out.count_limit(crate::metrics::LimitKind::Control);
                let message = "too many requests: wait before the next one";
                self.refuse(context, ErrorCode::RateLimited, message, event, Some(wait));
                self.refusals = self.refusals.saturating_add(1);
                if u32::from(self.refusals) >= limits::REFUSALS {
                    context.out.push(Output::Close(CloseReason::Abuse));
                }
                false
            }
        }
    }

    /// Answers with an error, in the words of the client's app.
    fn refuse(
        &self,
        context: &mut Context<'_>,
        code: ErrorCode,
        message: &str,
        event: Option<&str>,
        wait: Option<Duration>,
    ) {
        context.out.count_error(code);
        match self.state {
            State::Account(_) => {
                account::write_error(self.reply_to(context), context, code, message, event, wait)
            }
            State::Market => market::write_error(self.reply_to(context), context, code, message, event, wait),
            State::Conversation(_) => {
                let details = conversation::Details::of_wait(wait);
                conversation::write_error(self.reply_to(context), context, code, message, event, details);
            }
            State::Mobile(_) => {
                let refused = mobile::Refused::new(code, message.to_owned()).after(wait);
                mobile::write_error(self.reply_to(context), context, &refused, event);
            }
            State::Echo(_) => self.echo_error(code, message, wait, context),
            State::Support(_) => self.support_refusal(code, message, event, wait, context),
        }
    }

    /// Answers `INVALID_MESSAGE`.
    fn invalid(&self, context: &mut Context<'_>, message: &str, event: Option<&str>) {
        self.refuse(context, ErrorCode::InvalidMessage, message, event, None);
    }
}

/// A time to wait as `retry_after_ms` says it: rounded up, so that who waits that long is let through.
pub fn wait_ms(wait: Duration) -> u64 {
    wait.as_nanos().div_ceil(1_000_000).max(1) as u64
}

/// A user as others are shown him, as far as his token says.
fn person(user: &str, details: Option<&Details>) -> Person {
    Person {
        id: user.into(),
        username: details.and_then(|details| details.username.as_deref()).map(Into::into),
        avatar_url: details.and_then(|details| details.avatar_url.as_deref()).map(Into::into),
    }
}

/// A string member, or `None` where it is missing or something else.
fn string<'a>(object: Raw<'a>, key: &str) -> Option<Cow<'a, str>> {
    object.get(key).and_then(Raw::as_str)
}

/// A user's id as a client writes it: a string, or an integer, as `sub` may be.
fn user_id(id: Raw<'_>) -> Option<SmolStr> {
    let is_integer = !id.text().is_empty() && id.text().bytes().all(|byte| byte.is_ascii_digit());
    let id = if is_integer { Cow::Borrowed(id.text()) } else { id.as_str()? };
    let is_good = (1..=NAME_BYTES).contains(&id.len()) && !id.chars().any(char::is_control);
    is_good.then(|| SmolStr::new(id))
}

/// The name of a Socket.IO event, and its first argument. `None`: it has no name.
fn packet_event(args: Raw<'_>) -> Option<(Cow<'_, str>, Option<Raw<'_>>)> {
    let mut args = args.items();
    // Socket.IO allows numbers as names; no event here has one.
    let name = args.next().and_then(|name| match name.is_number() {
        true => Some(Cow::Borrowed(name.text())),
        false => name.as_str(),
    })?;
    Some((name, args.next()))
}

#[cfg(test)]
mod tests;
