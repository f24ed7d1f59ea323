//! The app `conversation` (`spec/conversation.md`): one-to-one chat. Wire `conversation`, times without a fraction.
//!
//! A session checks what a client asks and asks the store; what becomes durable is told to everybody, the asker included,
//! by [`tell`], so a session answers only what nobody else is told. Who may do what the store decides.

mod backend;
pub(in crate::app) mod content;
mod joined;
mod messages;
pub(in crate::app) mod shapes;
mod status;
pub(in crate::app) mod tell;
mod typing;

use std::borrow::Cow;
use std::time::Duration;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::typing::Typing;
use crate::app::{Asked, Context, Input, Output, ReplyTo, Session, State, StoreRequest, string, wait_ms};
use crate::audience::App;
use crate::close::{CloseReason, ErrorCode};
use crate::limits::STORE_REQUESTS;
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::record::{Answer, Query, Refusal};
use crate::users::Meter;

pub use backend::{NotSaid, create, say};
pub use tell::{Delivered, Told, coming, tell};

use joined::Joined;
use status::Status;

/// How long to wait when the store's queue was full.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// What a session of this app knows besides its user.
#[derive(Debug, Default)]
pub(super) struct Chat {
    /// Requests that the store has not answered; at most [`STORE_REQUESTS`].
    pending: u32,
    /// Requests so far.
    requests: u64,
    joined: Joined,
    typing: Typing<(Uuid, SmolStr)>,
}

/// What the store was asked for, in the low bits of a ticket, so that nothing needs to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Unread,
    Send,
    Read,
    Delete,
    Join,
    Leave,
    TypingStart,
    TypingStop,
    Status(Status),
}

impl Purpose {
    const BITS: u32 = 4;

    const fn bits(self) -> u64 {
        match self {
            Purpose::Unread => 0,
            Purpose::Send => 1,
            Purpose::Read => 2,
            Purpose::Delete => 3,
            Purpose::Join => 4,
            Purpose::Leave => 5,
            Purpose::TypingStart => 6,
            Purpose::TypingStop => 7,
            Purpose::Status(status) => 8 + status as u64,
        }
    }

    fn of(ticket: u64) -> Option<Purpose> {
        Some(match ticket & ((1 << Purpose::BITS) - 1) {
            0 => Purpose::Unread,
            1 => Purpose::Send,
            2 => Purpose::Read,
            3 => Purpose::Delete,
            4 => Purpose::Join,
            5 => Purpose::Leave,
            6 => Purpose::TypingStart,
            7 => Purpose::TypingStop,
            status => Purpose::Status(*Status::ALL.get(status.checked_sub(8)? as usize)?),
        })
    }

    /// The client's event.
    const fn event(self) -> Option<&'static str> {
        match self {
            Purpose::Unread => None,
            Purpose::Send => Some("message:send"),
            Purpose::Read => Some("message:read"),
            Purpose::Delete => Some("message:delete"),
            Purpose::Join => Some("conversation:join"),
            Purpose::Leave => Some("conversation:leave"),
            Purpose::TypingStart => Some("typing:start"),
            Purpose::TypingStop => Some("typing:stop"),
            Purpose::Status(_) => Some("user:status"),
        }
    }
}

/// A request that is refused.
#[derive(Clone, Debug)]
pub(in crate::app) struct Refused {
    pub code: ErrorCode,
    pub message: Cow<'static, str>,
    pub details: Details,
}

/// What an error says beyond its message.
#[derive(Clone, Debug)]
pub(in crate::app) enum Details {
    /// Nothing.
    None,
    /// Which field is wrong, and what would be right.
    Field(&'static str, Cow<'static, str>),
    /// When to try again.
    Wait(Duration),
    /// What to look for in the log.
    ErrorId(Uuid),
}

impl Details {
    pub(super) fn of_wait(wait: Option<Duration>) -> Details {
        wait.map_or(Details::None, Details::Wait)
    }
}

impl Refused {
    /// A field that is missing or wrong.
    pub(in crate::app) fn field(field: &'static str, error: impl Into<Cow<'static, str>>) -> Refused {
        let error = error.into();
        let details = Details::Field(field, error.clone());
        Refused { code: ErrorCode::ValidationError, message: error, details }
    }

    /// An id that names nothing.
    pub(in crate::app) fn not_found(field: &'static str, what: &'static str) -> Refused {
        let refused = Refused::field(field, format!("there is no such {what}"));
        Refused { code: ErrorCode::NotFound, ..refused }
    }

    pub(in crate::app) fn too_fast(message: &'static str, wait: Duration) -> Refused {
        Refused { code: ErrorCode::RateLimited, message: message.into(), details: Details::Wait(wait) }
    }

    pub(in crate::app) fn busy() -> Refused {
        Refused::too_fast("the server is busy: send this again in a moment", STORE_WAIT)
    }

    /// What the store refused.
    fn by_store(refusal: &Refusal) -> Refused {
        let (code, details) = match refusal {
            Refusal::NotFound(what) => {
                let field = if *what == "message" { "message_id" } else { "conversation_id" };
                return Refused::not_found(field, what);
            }
            Refusal::Forbidden => {
                let refused = Refused::field("conversation_id", refusal.to_string());
                return Refused { code: ErrorCode::Forbidden, ..refused };
            }
            Refusal::Invalid { field, error } => return Refused::field(field, *error),
            Refusal::EmailTaken | Refusal::Token(_) | Refusal::Closed | Refusal::Full => {
                (ErrorCode::ValidationError, Details::None)
            }
            Refusal::Internal { error_id } => (ErrorCode::InternalError, Details::ErrorId(*error_id)),
        };
        Refused { code, message: refusal.to_string().into(), details }
    }
}

impl Session {
    /// What the session of this app knows. `None` for other apps, whose inputs never come here.
    fn chat(&mut self) -> Option<&mut Chat> {
        match &mut self.state {
            State::Conversation(chat) => Some(chat),
            _ => None,
        }
    }

    /// When [`Input::Alarm`] is due, monotonic ns: typing ends by itself, or the store is to be asked again.
    pub fn alarm(&self) -> Option<u64> {
        match &self.state {
            State::Conversation(chat) => chat.typing.deadline(),
            State::Mobile(mobile) => mobile.alarm(),
            State::Support(support) => Session::support_alarm(support),
            _ => None,
        }
    }

    pub(super) fn conversation_input(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        match input {
            Input::Opened { .. } => self.establish(context),
            Input::Stored { ticket, answer } => self.stored(ticket, answer, context),
            Input::StoreBusy { ticket } => self.store_busy(ticket, context),
            Input::Alarm => self.typing_over(context),
            Input::Gone => self.typing_gone(context),
            Input::Closing(reason) => write_closed(self.reply_to(context), context, reason),
            _ => {}
        }
    }

    pub(super) fn conversation_message(&mut self, message: Raw<'_>, context: &mut Context<'_>) {
        let Some(event) = string(message, "event").filter(|event| !event.is_empty()) else {
            let example = "a message has an \"event\", for example \
                           {\"event\":\"conversation:join\",\"data\":{\"conversation_id\":\"…\"}}";
            return self.malformed(context, example);
        };
        let data = message.get("data").filter(|data| data.is_object()).unwrap_or(Raw::EMPTY_OBJECT);
        let done = match &*event {
            // Messages and changes to typing have rates of their own.
            "message:send" => self.message_send(data, context),
            "typing:start" => self.typing_start(data, context),
            "typing:stop" => self.typing_stop(data, context),
            _ => {
                if self.allowed(context, Some(&event)) {
                    self.control_event(&event, data, context);
                }
                return;
            }
        };
        match done {
            Err(refused) if refused.code == ErrorCode::RateLimited => {
                self.refuse_with(context, &refused, Some(&event));
            }
            // What makes no sense counts as a control event, or its answers would have no bound.
            Err(refused) if self.allowed(context, Some(&event)) => {
                self.refuse_with(context, &refused, Some(&event));
            }
            _ => {}
        }
    }

    fn control_event(&mut self, event: &str, data: Raw<'_>, context: &mut Context<'_>) {
        let done = match event {
            "message:read" => self.message_read(data, context),
            "message:delete" => self.message_delete(data, context),
            "conversation:join" => self.conversation_join(data, context),
            "conversation:leave" => self.conversation_leave(data, context),
            "user:status" => self.user_status(data, context),
            "authenticate" => {
                self.authenticate(string(data, "token").as_deref(), context);
                Ok(())
            }
            _ => return self.invalid(context, "unknown event: see the list of client events", Some(event)),
        };
        if let Err(refused) = done {
            self.refuse_with(context, &refused, Some(event));
        }
    }

    fn refuse_with(&self, context: &mut Context<'_>, refused: &Refused, event: Option<&str>) {
        context.out.count_error(refused.code);
        let details = refused.details.clone();
        write_error(self.reply_to(context), context, refused.code, &refused.message, event, details);
    }

    /// `connection:established`, then what is unread.
    fn establish(&mut self, context: &mut Context<'_>) {
        let now = context.now.unix_ms();
        context.out.reply(self.reply_to(context), "connection:established", |data| {
            data.put("user_id", self.user.id().as_str()).put("connection_id", self.connection_id());
            shapes::put_time(data, "timestamp", now);
        });
        let query = Query::Unread { user: self.user.id().clone(), limit: Query::MOST_UNREAD };
        if let Err(refused) = self.ask(Purpose::Unread, StoreRequest::Query(query), context) {
            self.refuse_with(context, &refused, None);
        }
    }

    /// Asks the store; returns the ticket.
    fn ask(
        &mut self,
        purpose: Purpose,
        what: StoreRequest,
        context: &mut Context<'_>,
    ) -> Result<u64, Refused> {
        let Some(chat) = self.chat().filter(|chat| chat.pending < STORE_REQUESTS) else {
            context.out.count_limit(LimitKind::Store);
            return Err(Refused::busy());
        };
        chat.pending += 1;
        chat.requests += 1;
        let ticket = chat.requests << Purpose::BITS | purpose.bits();
        context.out.push(Output::Store { ticket, what });
        Ok(ticket)
    }

    fn stored(&mut self, ticket: u64, answer: &Result<Answer, Refusal>, context: &mut Context<'_>) {
        let Some(purpose) = self.settle(ticket) else { return };
        let question = self.chat().and_then(|chat| chat.joined.answered(ticket));
        let answer = match answer {
            Ok(answer) => answer,
            Err(refusal) => return self.refuse_with(context, &Refused::by_store(refusal), purpose.event()),
        };
        match (purpose, answer) {
            (Purpose::Unread, Answer::Conversations(list)) => self.tell_unread(list, context),
            (Purpose::Send | Purpose::Read | Purpose::Delete, answer) => self.repeat(answer, context),
            (Purpose::Status(status), Answer::Contacts(contacts)) => {
                self.publish_status(status, contacts, context);
            }
            (_, Answer::Participants(pair)) => {
                let (Some(question), own) = (question, self.user.id().clone()) else { return };
                let other = pair.iter().find(|user| **user != own).cloned();
                let (Some(other), Some(chat)) = (other, self.chat()) else { return };
                chat.joined.remember(question.conversation, other.clone());
                self.take_part(purpose, question.conversation, &other, question.stops, context);
            }
            // The store answers what was asked.
            _ => {}
        }
    }

    /// What was asked of a conversation in which the client has its part.
    fn take_part(
        &mut self,
        purpose: Purpose,
        conversation: Uuid,
        other: &SmolStr,
        stops: bool,
        context: &mut Context<'_>,
    ) {
        match purpose {
            Purpose::Join => self.join_conversation(conversation, context),
            Purpose::Leave => self.leave_conversation(conversation, context),
            Purpose::TypingStart => {
                self.start_typing(conversation, other, context);
                if stops {
                    self.stop_typing(conversation, context);
                }
            }
            // Nothing had begun.
            _ => {}
        }
    }

    fn store_busy(&mut self, ticket: u64, context: &mut Context<'_>) {
        let Some(purpose) = self.settle(ticket) else { return };
        if let Some(chat) = self.chat() {
            chat.joined.answered(ticket);
        }
        // What came to nothing does not count.
        match purpose {
            Purpose::Send => self.user.give_back_message(&context.settings.messages),
            Purpose::TypingStart => self.user.give_back(Meter::Typing, context.settings.typing),
            _ => {}
        }
        context.out.count_limit(LimitKind::Store);
        self.refuse_with(context, &Refused::busy(), purpose.event());
    }

    /// A request has its answer.
    fn settle(&mut self, ticket: u64) -> Option<Purpose> {
        let chat = self.chat()?;
        chat.pending = chat.pending.saturating_sub(1);
        Purpose::of(ticket)
    }

    /// Sees to a publish that was not taken; `false`: the client is to be told.
    pub(super) fn is_settled(&mut self, asked: Asked, context: &mut Context<'_>) -> bool {
        match (self.app(), asked.event) {
            (App::Conversation, "typing:start") => self.take_back_start(asked.ack, context),
            (App::Mobile, "typing:start") => self.take_back_mobile_start(context),
            (App::Conversation, "typing:stop") => {
                self.retry_stop(asked.ack, context);
                return true;
            }
            (App::Mobile, "typing:stop") => {
                self.retry_mobile_stop(asked, context);
                return true;
            }
            _ => {}
        }
        false
    }
}

/// The conversation that a request names.
fn conversation_id(data: Raw<'_>) -> Result<Uuid, Refused> {
    let error = "conversation_id is missing: name the conversation";
    let id = string(data, "conversation_id").filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refused::field("conversation_id", error))?;
    // Ids are ours: what is none names nothing.
    Uuid::try_parse(&id).map_err(|_| Refused::not_found("conversation_id", "conversation"))
}

/// `connection:closed {reason, code, timestamp}` before a close that the server starts.
fn write_closed(to: ReplyTo, context: &mut Context<'_>, reason: &CloseReason) {
    let now = context.now.unix_ms();
    let word = if reason.code() == 1000 { "normal_closure" } else { reason.label() };
    context.out.reply(to, "connection:closed", |data| {
        data.put("reason", word).put("code", reason.code());
        shapes::put_time(data, "timestamp", now);
    });
}

/// `error {code, message, details, request_event}`
pub(super) fn write_error(
    to: ReplyTo,
    context: &mut Context<'_>,
    code: ErrorCode,
    message: &str,
    event: Option<&str>,
    details: Details,
) {
    context.out.reply_error(to, "error", |error| {
        error.put("code", code.as_str()).put("message", message);
        error.object("details", |object| match details {
            Details::None => {}
            Details::Field(field, what) => {
                object.put("field", field).put("error", &*what);
            }
            Details::Wait(wait) => {
                object.put("retry_after_ms", wait_ms(wait));
            }
            Details::ErrorId(id) => shapes::put_id(object, "error_id", id),
        });
        error.put("request_event", event);
    });
}

#[cfg(test)]
mod tests;
