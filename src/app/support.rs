//! The app `support` (`spec/support.md`): chat sessions with agents. Wire `session`.
//!
//! A session of the store has participants; a client is connected to one such session, or to all of its user's at once (the
//! feed). It joins the internal room of its user there before it asks the store whether it may: nobody but participants is
//! told anything in these rooms, and nothing is missed in between.

pub(in crate::app) mod content;
pub(in crate::app) mod shapes;
mod tell;
mod typing;

use std::time::Duration;

use uuid::Uuid;

use crate::app::conversation::{Details, Refused};
use crate::app::outputs::Joining;
use crate::app::typing::Typing;
use crate::app::{Context, Input, Live, Output, Session, State, StoreRequest, string, wait_ms};
use crate::close::{CloseReason, ErrorCode};
use crate::limits::STORE_REQUESTS;
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::record::support::{Caller, ChatType, SupportAnswer, SupportWrite};
use crate::record::{Answer, Refusal, Write};
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::users::{Meter, Seat};

pub use tell::{Told, coming, receipt, tell, typing};

use shapes::{Event, put_id};
use typing::Questions;

const UNKNOWN_SESSION: CloseReason = CloseReason::Policy("there is no such session");
const NOT_A_PARTICIPANT: CloseReason = CloseReason::Policy("you take no part in this session");
const FULL: CloseReason = CloseReason::Policy("the session is full");

/// What a client is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A session; whether it is there, the store knows.
    Session(Uuid),
    /// What can be no session.
    Nowhere,
    /// All sessions of the user.
    Feed,
}

/// How a client comes.
#[derive(Debug)]
pub struct SupportOpening {
    /// To what.
    pub place: Place,
    /// Its place among the user's connections there.
    pub seat: Option<Seat>,
    /// Why it may not come, which it is told once it is connected (`spec/auth.md`).
    pub refused: Option<CloseReason>,
}

/// What a session of this app knows besides its user.
#[derive(Debug)]
pub(super) struct Support {
    place: Place,
    seat: Option<Seat>,
    refused: Option<CloseReason>,
    /// The store has said that it may be here, and the router knows of it.
    is_here: bool,
    /// Nothing can be said here any more.
    is_closed: bool,
    /// Requests that the store has not answered; at most [`STORE_REQUESTS`].
    pending: u32,
    /// Requests so far.
    requests: u64,
    typing: Typing<Uuid>,
    questions: Questions,
}

impl From<SupportOpening> for Support {
    fn from(opening: SupportOpening) -> Support {
        Support {
            place: opening.place,
            seat: opening.seat,
            refused: opening.refused,
            is_here: false,
            is_closed: false,
            pending: 0,
            requests: 0,
            typing: Typing::default(),
            questions: Questions::default(),
        }
    }
}

/// What the store was asked for, in the low bits of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Be here.
    Enter,
    /// Say something of this type.
    Send(ChatType),
    /// Type.
    Type,
}

impl Purpose {
    const BITS: u32 = 3;

    const fn bits(self) -> u64 {
        match self {
            Purpose::Enter => 0,
            Purpose::Type => 1,
            Purpose::Send(ChatType::Text) => 2,
            Purpose::Send(ChatType::File) => 3,
            Purpose::Send(ChatType::Image) => 4,
        }
    }

    fn of(ticket: u64) -> Option<Purpose> {
        Some(match ticket & ((1 << Purpose::BITS) - 1) {
            0 => Purpose::Enter,
            1 => Purpose::Type,
            2 => Purpose::Send(ChatType::Text),
            3 => Purpose::Send(ChatType::File),
            4 => Purpose::Send(ChatType::Image),
            _ => return None,
        })
    }

    /// The client's event.
    const fn event(self) -> Option<&'static str> {
        match self {
            Purpose::Enter => None,
            Purpose::Type => Some("typing"),
            Purpose::Send(kind) => Some(kind.as_str()),
        }
    }
}

/// Why the store has not done what was asked for.
pub(in crate::app) fn refused(refusal: &Refusal) -> Refused {
    let (code, field, message) = match refusal {
        Refusal::NotFound("message") => return Refused::not_found("reply_to_id", "message of this session"),
        Refusal::NotFound(_) => return Refused::not_found("chat_session_id", "session"),
        Refusal::Forbidden => {
            (ErrorCode::Forbidden, "chat_session_id", "you take no part in this session".into())
        }
        Refusal::Closed => (ErrorCode::Forbidden, "chat_session_id", refusal.to_string()),
        Refusal::Full => (ErrorCode::ConversationFull, "chat_session_id", refusal.to_string()),
        Refusal::Invalid { field, error } => return Refused::field(field, *error),
        Refusal::Internal { error_id } => {
            let details = Details::ErrorId(*error_id);
            return Refused { code: ErrorCode::InternalError, message: refusal.to_string().into(), details };
        }
        // Of other apps.
        Refusal::EmailTaken | Refusal::Token(_) => {
            (ErrorCode::ValidationError, "message_type", refusal.to_string())
        }
    };
    Refused { code, ..Refused::field(field, message) }
}

impl Session {
    /// What the session of this app knows. `None` for other apps, whose inputs never come here.
    fn support(&mut self) -> Option<&mut Support> {
        match &mut self.state {
            State::Support(support) => Some(support),
            _ => None,
        }
    }

    /// Who asks the store.
    fn caller(&self) -> Caller {
        let is_agent = self.details.as_ref().is_some_and(|details| details.agent);
        Caller { user: self.user.id().clone(), is_agent }
    }

    /// The support session that the client is connected to.
    pub fn support_session(&self) -> Option<Uuid> {
        match &self.state {
            State::Support(support) => match support.place {
                Place::Session(session) => Some(session),
                Place::Nowhere | Place::Feed => None,
            },
            _ => None,
        }
    }

    /// The client is gone: gives its place back, and says which session it is to be counted out of.
    pub fn leave_support(&mut self) -> Option<Uuid> {
        let support = self.support()?;
        support.seat = None;
        let was_here = std::mem::take(&mut support.is_here);
        self.support_session().filter(|_| was_here)
    }

    /// When typing ends by itself, monotonic ns.
    pub(super) fn support_alarm(support: &Support) -> Option<u64> {
        support.typing.deadline()
    }

    pub(super) fn support_input(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        match input {
            Input::Opened { .. } => self.come(context),
            Input::Stored { ticket, answer } => self.support_stored(ticket, answer, context),
            Input::StoreBusy { ticket } => self.support_busy(ticket, context),
            Input::Here { users } => {
                let (Some(session), user, now) = (self.support_session(), self.user.id(), context.now) else {
                    return;
                };
                context.out.reply(self.reply_to(context), "user_joined", |object| {
                    tell::write_coming(session, user, users, now, object);
                });
            }
            Input::Alarm => self.support_typing_over(context),
            Input::Gone => self.support_gone(context),
            // This wire has no word for the others, or they never come.
            _ => {}
        }
    }

    /// The client is connected: says why it may not be, or asks.
    fn come(&mut self, context: &mut Context<'_>) {
        let (user, caller) = (self.user.id().clone(), self.caller());
        let Some(support) = self.support() else { return };
        if let Some(reason) = support.refused.take() {
            return context.out.push(Output::Close(reason));
        }
        let room = match support.place {
            Place::Session(session) => RoomName::support(session, &user),
            Place::Feed => RoomName::support_feed(&user),
            Place::Nowhere => return context.out.push(Output::Close(UNKNOWN_SESSION)),
        };
        let (place, asked) = (support.place, context.asked("connect"));
        let rooms = vec![Joining { room, policy: Policy::Every }];
        context.out.push(Output::Join { rooms, confirmation: 0..0, asked });
        if let Place::Session(session) = place {
            let write = SupportWrite::Enter { by: caller, session };
            let what = StoreRequest::Write(Write::Support(write));
            if self.ask_support(Purpose::Enter, what, context).is_err() {
                context.out.push(Output::Close(CloseReason::Overloaded));
            }
        }
    }

    pub(super) fn support_message(&mut self, message: Raw<'_>, context: &mut Context<'_>) {
        let Some(event) = string(message, "message_type").filter(|event| !event.is_empty()) else {
            let example = "a message has a \"message_type\", for example \
                           {\"message_type\":\"text\",\"content\":\"Hello\"}";
            return self.malformed(context, example);
        };
        let done = self.place_of(message).and_then(|session| match (content::kind(message), &*event) {
            (Some(kind), _) => self.support_send(session, kind, message, context),
            (None, "typing") => self.support_typing(session, message, context),
            (None, _) => Err(content::unknown_type("message_type is text, file, image or typing")),
        });
        match done {
            Err(refused) if refused.code == ErrorCode::RateLimited => {
                self.refuse_support(&refused, Some(&event), context);
            }
            // What makes no sense counts as a control event, or its answers would have no bound.
            Err(refused) if self.allowed(context, Some(&event)) => {
                self.refuse_support(&refused, Some(&event), context);
            }
            _ => {}
        }
    }

    /// The session a message is for: the client's own; one that is connected to all must name it.
    fn place_of(&self, message: Raw<'_>) -> Result<Uuid, Refused> {
        if let Some(session) = self.support_session() {
            return Ok(session);
        }
        let error = "chat_session_id is missing: name the session";
        let id = string(message, "chat_session_id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Refused::field("chat_session_id", error))?;
        Uuid::try_parse(&id).map_err(|_| Refused::not_found("chat_session_id", "session"))
    }

    fn support_send(
        &mut self,
        session: Uuid,
        kind: ChatType,
        message: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let message = content::check(kind, message)?;
        self.user.allow_message(&context.settings.messages, context.now.mono).map_err(|wait| {
            context.out.count_limit(LimitKind::Messages);
            Refused::too_fast("too many messages: wait before the next one", wait)
        })?;
        let write = SupportWrite::Send { by: self.caller(), session, message };
        self.ask_support(Purpose::Send(kind), StoreRequest::Write(Write::Support(write)), context)
            .inspect_err(|_| self.user.give_back_message(&context.settings.messages))
            .map(drop)
    }

    /// Asks the store; returns the ticket.
    fn ask_support(
        &mut self,
        purpose: Purpose,
        what: StoreRequest,
        context: &mut Context<'_>,
    ) -> Result<u64, Refused> {
        let Some(support) = self.support().filter(|support| support.pending < STORE_REQUESTS) else {
            context.out.count_limit(LimitKind::Store);
            return Err(Refused::busy());
        };
        support.pending += 1;
        support.requests += 1;
        let ticket = support.requests << Purpose::BITS | purpose.bits();
        context.out.push(Output::Store { ticket, what });
        Ok(ticket)
    }

    fn support_stored(&mut self, ticket: u64, answer: &Result<Answer, Refusal>, context: &mut Context<'_>) {
        let (Some(purpose), Some(support)) = (Purpose::of(ticket), self.support()) else { return };
        support.pending = support.pending.saturating_sub(1);
        let is_closed = match answer {
            Ok(Answer::Support(answer)) => match **answer {
                SupportAnswer::Entered { is_closed } => is_closed,
                _ => false,
            },
            Ok(_) => false,
            Err(refusal) => {
                support.questions.refused(ticket);
                return self.support_refused(purpose, refusal, context);
            }
        };
        match purpose {
            Purpose::Enter => {
                (support.is_here, support.is_closed) = (true, is_closed);
                context.out.push(Output::Live(Live::Came));
            }
            Purpose::Type => self.may_type(ticket, is_closed, context),
            // What was said all are told, who says it included.
            Purpose::Send(_) => {}
        }
    }

    fn support_refused(&mut self, purpose: Purpose, refusal: &Refusal, context: &mut Context<'_>) {
        if purpose != Purpose::Enter {
            return self.refuse_support(&refused(refusal), purpose.event(), context);
        }
        context.out.push(Output::Close(match refusal {
            Refusal::NotFound(_) => UNKNOWN_SESSION,
            Refusal::Forbidden | Refusal::Closed => NOT_A_PARTICIPANT,
            Refusal::Full => FULL,
            _ => CloseReason::Internal,
        }));
    }

    fn support_busy(&mut self, ticket: u64, context: &mut Context<'_>) {
        let (Some(purpose), Some(support)) = (Purpose::of(ticket), self.support()) else { return };
        support.pending = support.pending.saturating_sub(1);
        support.questions.refused(ticket);
        context.out.count_limit(LimitKind::Store);
        // What came to nothing does not count.
        match purpose {
            Purpose::Enter => return context.out.push(Output::Close(CloseReason::Overloaded)),
            Purpose::Send(_) => self.user.give_back_message(&context.settings.messages),
            Purpose::Type => self.user.give_back(Meter::Typing, context.settings.typing),
        }
        self.refuse_support(&Refused::busy(), purpose.event(), context);
    }

    fn refuse_support(&self, refused: &Refused, event: Option<&str>, context: &mut Context<'_>) {
        context.out.count_error(refused.code);
        self.support_error(refused.code, &refused.message, event, &refused.details, context);
    }

    /// `error`, `metadata {code, message}`, and what else there is to say.
    pub(super) fn support_error(
        &self,
        code: ErrorCode,
        message: &str,
        event: Option<&str>,
        details: &Details,
        context: &mut Context<'_>,
    ) {
        let frame = Event {
            session: self.support_session(),
            user: self.user.id(),
            content: None,
            at: context.now.unix_ms(),
        };
        context.out.reply(self.reply_to(context), "error", |object| {
            frame.write(object, |metadata| {
                metadata.put("code", code.as_str()).put("message", message);
                match details {
                    Details::None => {}
                    Details::Field(field, _) => {
                        metadata.put("field", field);
                    }
                    Details::Wait(wait) => {
                        metadata.put("retry_after_ms", wait_ms(*wait));
                    }
                    Details::ErrorId(id) => put_id(metadata, "error_id", *id),
                }
                if let Some(event) = event {
                    metadata.put("request_event", event);
                }
            });
        });
    }

    /// The same for what all apps refuse.
    pub(super) fn support_refusal(
        &self,
        code: ErrorCode,
        message: &str,
        event: Option<&str>,
        wait: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        self.support_error(code, message, event, &Details::of_wait(wait), context);
    }
}

#[cfg(test)]
mod tests;
