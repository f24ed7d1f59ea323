//! The ingest protocol: the lines that backends send, and the lines they are sent (`spec/ingest.md`).
//!
//! [`Splitter`] finds lines in what was read, [`parse`] makes a [`Line`] of each, and the `write_…` functions
//! of [`reply`] write answers. Whether a room's prefix is known, who may do what, and what a line causes is not
//! known here.

pub mod reply;
mod splitter;

use std::borrow::Cow;

use crate::audience::App;
use crate::close::ErrorCode;
use crate::limits::{EVENT_CHARS, NAME_BYTES, TOKEN_BYTES};
use crate::proto::json::{Parser, Raw};
use crate::proto::socketio::RESERVED_EVENTS;

pub use splitter::{Piece, Splitter};

/// Longest `id` of a line, bytes (`spec/ingest.md`).
pub const ID_BYTES: usize = 128;
/// Longest `reason` of a `disconnect`, bytes: a close frame holds 125, two of them are the code (RFC 6455 §5.5).
pub const REASON_BYTES: usize = 123;
/// Most events of one `listen`: far more than all apps together have.
pub const LISTEN_EVENTS: usize = 256;
/// The close code of a `disconnect` that names none: the first of those that are free for applications.
pub const DEFAULT_CLOSE_CODE: u16 = 4000;

/// What a backend asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// Deliver an event.
    Publish(Publish<'a>),
    /// Show that the connection may publish.
    Auth {
        /// As given; whether it is the right one is not known here.
        token: Cow<'a, str>,
    },
    /// From now on, forward what clients send.
    Listen {
        /// Event names, 1 to [`LISTEN_EVENTS`] of them.
        events: Vec<Cow<'a, str>>,
        /// Only what clients of this app send.
        app: Option<App>,
    },
    /// Close a user's connections.
    Disconnect {
        /// Whose.
        user: Cow<'a, str>,
        /// 1000, or 4000–4999.
        code: u16,
        /// At most [`REASON_BYTES`].
        reason: Cow<'a, str>,
    },
    /// Count the rooms.
    Rooms,
    /// Count a user's connections.
    Presence {
        /// Whose.
        user: Cow<'a, str>,
    },
    /// Make a conversation, or find the one these two have.
    ConversationCreate(ConversationCreate<'a>),
    /// Say something in a conversation.
    ConversationMessage(ConversationMessage<'a>),
    /// Answer with a pong.
    Ping,
}

/// A conversation to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationCreate<'a> {
    /// The two, each within the bounds of a user id.
    pub participants: [Cow<'a, str>; 2],
    /// For the acknowledgement; 1 to [`ID_BYTES`] bytes.
    pub id: Option<Cow<'a, str>>,
}

/// A message to say. What it may say depends on its type, which is not known here: those fields are as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationMessage<'a> {
    /// Where.
    pub conversation: Cow<'a, str>,
    /// Its type.
    pub kind: Option<Raw<'a>>,
    /// Its content.
    pub content: Option<Raw<'a>>,
    /// Its metadata.
    pub metadata: Option<Raw<'a>>,
    /// The backend's own name for it.
    pub client_message_id: Option<Raw<'a>>,
    /// For the acknowledgement; 1 to [`ID_BYTES`] bytes.
    pub id: Option<Cow<'a, str>>,
}

/// An event to deliver. Every field is within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish<'a> {
    /// To whom.
    pub target: Target<'a>,
    /// The event's name, the JSON string as it was written.
    pub event: Raw<'a>,
    /// The event's name.
    pub event_name: Cow<'a, str>,
    /// The payload as it was written; `null` if none was.
    pub data: Raw<'a>,
    /// Only to connections of this app.
    pub app: Option<App>,
    /// Asks for an acknowledgement, and makes the line idempotent; 1 to [`ID_BYTES`] bytes.
    pub id: Option<Cow<'a, str>>,
    /// The publisher's clock, Unix time in nanoseconds.
    pub ts: Option<i64>,
    /// The conflation key; `None`: the room and the event.
    pub key: Option<Cow<'a, str>>,
}

/// Who an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The members of a room, by its full name. Never a `user:` room: those are [`Target::User`].
    Room(Cow<'a, str>),
    /// A user's connections.
    User(Cow<'a, str>),
    /// Every connection.
    Broadcast,
}

/// Why a line is not taken. The connection stays open and the other lines count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError<'a> {
    /// The `id` of the line, if it has a good one.
    pub id: Option<Cow<'a, str>>,
    /// The code on the wire.
    pub code: ErrorCode,
    /// What is wrong and what would be right.
    pub message: Cow<'static, str>,
}

/// Reads one line, without its line feed.
pub fn parse<'a>(parser: &mut Parser, line: &'a [u8]) -> Result<Line<'a>, LineError<'a>> {
    let invalid = |id, message| LineError { id, code: ErrorCode::InvalidMessage, message };
    let mut fields = Fields::default();
    match parser.parse_members(line, |key, value| fields.set(&key, value)) {
        Ok(true) => {}
        Ok(false) => {
            return Err(invalid(None, "a line must be a JSON object, for example {\"op\":\"ping\"}".into()));
        }
        Err(error) => return Err(invalid(None, error.explain(line).into())),
    }
    fields.line().map_err(|message| invalid(fields.id().unwrap_or(None), message))
}

/// What is wrong with a field, for people.
type Wrong = Cow<'static, str>;

/// The fields that have a meaning, as they were written. A field that is `null` counts as absent, since many
/// languages write absent values so.
#[derive(Default)]
struct Fields<'a> {
    room: Option<Raw<'a>>,
    user: Option<Raw<'a>>,
    broadcast: Option<Raw<'a>>,
    event: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    app: Option<Raw<'a>>,
    id: Option<Raw<'a>>,
    ts: Option<Raw<'a>>,
    key: Option<Raw<'a>>,
    op: Option<Raw<'a>>,
    token: Option<Raw<'a>>,
    events: Option<Raw<'a>>,
    code: Option<Raw<'a>>,
    reason: Option<Raw<'a>>,
    participants: Option<Raw<'a>>,
    conversation: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    content: Option<Raw<'a>>,
    metadata: Option<Raw<'a>>,
    client_message_id: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    /// Takes one member; of several with one name the last counts.
    fn set(&mut self, key: &str, value: Raw<'a>) {
        let field = match key {
            "room" => &mut self.room,
            "user" => &mut self.user,
            "broadcast" => &mut self.broadcast,
            "event" => &mut self.event,
            "data" => &mut self.data,
            "app" => &mut self.app,
            "id" => &mut self.id,
            "ts" => &mut self.ts,
            "key" => &mut self.key,
            "op" => &mut self.op,
            "token" => &mut self.token,
            "events" => &mut self.events,
            "code" => &mut self.code,
            "reason" => &mut self.reason,
            "participants" => &mut self.participants,
            "conversation_id" => &mut self.conversation,
            "type" => &mut self.kind,
            "content" => &mut self.content,
            "metadata" => &mut self.metadata,
            "client_message_id" => &mut self.client_message_id,
            _ => return,
        };
        *field = (!value.is_null()).then_some(value);
    }

    fn line(&self) -> Result<Line<'a>, Wrong> {
        let Some(op) = self.op else { return self.publish().map(Line::Publish) };
        match op.as_str().as_deref() {
            Some("auth") => Ok(Line::Auth { token: self.token()? }),
            Some("listen") => Ok(Line::Listen { events: self.events()?, app: self.app()? }),
            Some("disconnect") => Ok(Line::Disconnect {
                user: self.one_user()?,
                code: self.close_code()?,
                reason: self.reason()?,
            }),
            Some("rooms") => Ok(Line::Rooms),
            Some("presence") => Ok(Line::Presence { user: self.one_user()? }),
            Some("conversation.create") => self.conversation_create().map(Line::ConversationCreate),
            Some("conversation.message") => self.conversation_message().map(Line::ConversationMessage),
            Some("ping") => Ok(Line::Ping),
            _ => Err("\"op\" must be auth, listen, disconnect, rooms, presence, conversation.create, \
                      conversation.message or ping; leave it out to publish"
                .into()),
        }
    }

    fn publish(&self) -> Result<Publish<'a>, Wrong> {
        let target = self.target()?;
        let (event, event_name) = self.event()?;
        Ok(Publish {
            target,
            event,
            event_name,
            data: self.data.unwrap_or(Raw::NULL),
            app: self.app()?,
            id: self.id()?,
            ts: self.ts()?,
            key: self.key.map(|value| name("\"key\"", value)).transpose()?,
        })
    }

    fn conversation_create(&self) -> Result<ConversationCreate<'a>, Wrong> {
        let wrong = || Wrong::Borrowed("\"participants\" must be an array of two different user ids");
        let mut items = self.participants.filter(|list| list.is_array()).ok_or_else(wrong)?.items();
        let (Some(first), Some(second), None) = (items.next(), items.next(), items.next()) else {
            return Err(wrong());
        };
        let participants = [participant(first)?, participant(second)?];
        if participants[0] == participants[1] {
            return Err(wrong());
        }
        Ok(ConversationCreate { participants, id: self.id()? })
    }

    fn conversation_message(&self) -> Result<ConversationMessage<'a>, Wrong> {
        let wrong = "\"conversation_id\" is missing: name the conversation";
        let conversation = self.conversation.and_then(Raw::as_str).ok_or(Wrong::Borrowed(wrong))?;
        Ok(ConversationMessage {
            conversation,
            kind: self.kind,
            content: self.content,
            metadata: self.metadata,
            client_message_id: self.client_message_id,
            id: self.id()?,
        })
    }

    fn target(&self) -> Result<Target<'a>, Wrong> {
        match (self.room, self.user, self.broadcast) {
            (Some(room), None, None) => room_target(room),
            (None, Some(user), None) => user_id(user).map(Target::User),
            (None, None, Some(flag)) if flag.as_bool() == Some(true) => Ok(Target::Broadcast),
            (None, None, Some(_)) => {
                Err("\"broadcast\" must be true; to reach fewer, name a \"room\" or a \"user\"".into())
            }
            (None, None, None) => Err("no target: name a \"room\", a \"user\", or \"broadcast\":true".into()),
            _ => Err("more than one target: name one of \"room\", \"user\" and \"broadcast\"".into()),
        }
    }

    fn event(&self) -> Result<(Raw<'a>, Cow<'a, str>), Wrong> {
        let wrong = || Wrong::from(format!("\"event\" must be a string of 1 to {EVENT_CHARS} characters"));
        let event = self.event.ok_or_else(wrong)?;
        let name = event.as_str().filter(|name| is_event_name(name)).ok_or_else(wrong)?;
        if RESERVED_EVENTS.contains(&&*name) {
            // Every Socket.IO client that was sent one would take it for a broken packet, and disconnect.
            return Err(Wrong::from(format!(
                "\"event\" is \"{name}\", which Socket.IO keeps for itself: take another"
            )));
        }
        Ok((event, name))
    }

    fn app(&self) -> Result<Option<App>, Wrong> {
        let Some(value) = self.app else { return Ok(None) };
        match value.as_str().and_then(|name| App::from_name(&name)) {
            Some(app) => Ok(Some(app)),
            None => Err(format!("\"app\" must be one of {}", App::ALL.map(App::name).join(", ")).into()),
        }
    }

    fn id(&self) -> Result<Option<Cow<'a, str>>, Wrong> {
        let Some(value) = self.id else { return Ok(None) };
        match value.as_str() {
            Some(id) if (1..=ID_BYTES).contains(&id.len()) => Ok(Some(id)),
            _ => Err(format!("\"id\" must be a string of 1 to {ID_BYTES} bytes").into()),
        }
    }

    fn ts(&self) -> Result<Option<i64>, Wrong> {
        let Some(value) = self.ts else { return Ok(None) };
        let wrong = "\"ts\" must be an integer: Unix time in nanoseconds";
        value.as_i64().map(Some).ok_or(Wrong::Borrowed(wrong))
    }

    fn token(&self) -> Result<Cow<'a, str>, Wrong> {
        let token = self.token.and_then(Raw::as_str);
        token.filter(|token| (1..=TOKEN_BYTES).contains(&token.len())).ok_or_else(|| {
            format!("\"token\" must be a string of 1 to {TOKEN_BYTES} bytes: the value of ingest.token")
                .into()
        })
    }

    fn events(&self) -> Result<Vec<Cow<'a, str>>, Wrong> {
        let wrong = || {
            Wrong::from(format!(
                "\"events\" must be an array of 1 to {LISTEN_EVENTS} event names, \
                 each a string of 1 to {EVENT_CHARS} characters"
            ))
        };
        let items = self.events.filter(|events| events.is_array()).ok_or_else(wrong)?.items();
        let mut events = Vec::new();
        for item in items {
            let event = item.as_str().filter(|name| is_event_name(name)).ok_or_else(wrong)?;
            if events.len() == LISTEN_EVENTS {
                return Err(wrong());
            }
            events.push(event);
        }
        if events.is_empty() { Err(wrong()) } else { Ok(events) }
    }

    fn one_user(&self) -> Result<Cow<'a, str>, Wrong> {
        match self.user {
            Some(user) => user_id(user),
            None => Err("\"user\" is missing: name the user".into()),
        }
    }

    fn close_code(&self) -> Result<u16, Wrong> {
        let Some(value) = self.code else { return Ok(DEFAULT_CLOSE_CODE) };
        match value.as_u64().and_then(|code| u16::try_from(code).ok()) {
            Some(code @ (1000 | 4000..=4999)) => Ok(code),
            _ => Err("\"code\" must be a close code: 1000, or 4000 to 4999".into()),
        }
    }

    fn reason(&self) -> Result<Cow<'a, str>, Wrong> {
        let Some(value) = self.reason else { return Ok(Cow::Borrowed("")) };
        value
            .as_str()
            .filter(|reason| reason.len() <= REASON_BYTES)
            .ok_or_else(|| format!("\"reason\" must be a string of at most {REASON_BYTES} bytes").into())
    }
}

/// `"room":"user:X"` is the user X (decision 11).
fn room_target(room: Raw<'_>) -> Result<Target<'_>, Wrong> {
    const USER_PREFIX: &str = "user:";
    const FIELD: &str = "the user in \"room\"";
    match room.as_str() {
        Some(Cow::Borrowed(text)) if text.starts_with(USER_PREFIX) => {
            checked_name(FIELD, Cow::Borrowed(&text[USER_PREFIX.len()..])).map(Target::User)
        }
        Some(Cow::Owned(text)) if text.starts_with(USER_PREFIX) => {
            checked_name(FIELD, Cow::Owned(text[USER_PREFIX.len()..].to_owned())).map(Target::User)
        }
        Some(text) => checked_name("\"room\"", text).map(Target::Room),
        None => Err(wrong_name("\"room\"")),
    }
}

/// A user id: a string, or an integer, which is then the string of its digits.
fn user_id(user: Raw<'_>) -> Result<Cow<'_, str>, Wrong> {
    named_user("\"user\"", user)
}

/// The same in the list of participants.
fn participant(user: Raw<'_>) -> Result<Cow<'_, str>, Wrong> {
    named_user("each of \"participants\"", user)
}

fn named_user<'a>(field: &str, user: Raw<'a>) -> Result<Cow<'a, str>, Wrong> {
    let digits = user.text().strip_prefix('-').unwrap_or(user.text());
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return checked_name(field, Cow::Borrowed(user.text()));
    }
    match user.as_str() {
        Some(text) => checked_name(field, text),
        None => Err(format!("{}, or an integer", wrong_name(field)).into()),
    }
}

/// The string `value` of `field`, which is a name.
fn name<'a>(field: &str, value: Raw<'a>) -> Result<Cow<'a, str>, Wrong> {
    match value.as_str() {
        Some(text) => checked_name(field, text),
        None => Err(wrong_name(field)),
    }
}

fn checked_name<'a>(field: &str, text: Cow<'a, str>) -> Result<Cow<'a, str>, Wrong> {
    let is_good = (1..=NAME_BYTES).contains(&text.len()) && !has_control(&text);
    if is_good { Ok(text) } else { Err(wrong_name(field)) }
}

fn has_control(text: &str) -> bool {
    // Most names are plain; without an early end the compiler looks at many bytes at once.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(char::is_control)
}

#[cold]
fn wrong_name(field: &str) -> Wrong {
    format!("{field} must be a string of 1 to {NAME_BYTES} bytes without control characters").into()
}

fn is_event_name(name: &str) -> bool {
    // Bytes are at least as many as characters, so most names need no counting.
    !name.is_empty() && (name.len() <= EVENT_CHARS || name.chars().count() <= EVENT_CHARS)
}
