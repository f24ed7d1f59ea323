//! The app `mobile` (`spec/mobile.md`): messages between two users in the Socket.IO namespace `/chat`, and a user's wallet
//! in `/wallet`. Times with milliseconds.
//!
//! A session checks what a client asks and asks the store. A message that is durable is told to all connections of both
//! users by [`tell`], the sender's included; the sender's acknowledgement is the session's. What backends say of wallets
//! they publish, and `wallet` reads what the store is to keep of it.

pub(in crate::app) mod content;
mod queue;
pub(in crate::app) mod shapes;
mod tell;
mod typing;
mod wallet;

use std::borrow::Cow;
use std::time::Duration;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::typing::Typing;
use crate::app::{
    Context, Input, Output, ReplyTo, Session, State, StoreRequest, packet_event, string, user_id, wait_ms,
};
use crate::audience::Wire;
use crate::close::ErrorCode;
use crate::limits::STORE_REQUESTS;
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::record::mobile::{MobileAnswer, MobileWrite, pair_id, read_pair_id};
use crate::record::{Answer, Refusal, Write};
use crate::time;

pub use tell::tell;
pub use wallet::{NotKept, is_of_wallet, kept};

use content::Fields;
use queue::Queue;

/// The client's event that says something.
const SEND: &str = "message:send";
/// How long to wait when the store's queue was full.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// What a session of this app knows besides its user.
#[derive(Debug, Default)]
pub(super) struct Mobile {
    /// What the store has not answered; at most [`STORE_REQUESTS`].
    pending: Vec<Pending>,
    /// Requests so far.
    requests: u64,
    queue: Queue,
    typing: Typing<SmolStr>,
    /// To whom the input under way starts typing, and to whom it stops: the router may yet refuse to tell them.
    started: Option<SmolStr>,
    stopped: Vec<SmolStr>,
}

/// A request that the store has not answered.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    purpose: Purpose,
    /// The acknowledgement that the client waits for.
    ack: Option<u64>,
}

/// What the store was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// What waits for the user.
    Queue,
    /// [`SEND`]
    Send,
    /// The client has shown to have all up to this message.
    Given(u64),
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::app) struct Refused {
    pub(in crate::app) code: ErrorCode,
    pub(in crate::app) message: Cow<'static, str>,
    /// The field that is wrong.
    pub(in crate::app) field: Option<&'static str>,
    /// When to try again.
    pub(in crate::app) wait: Option<Duration>,
    /// What to look for in the log.
    error_id: Option<Uuid>,
}

impl Refused {
    pub(in crate::app) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refused {
        Refused { code, message: message.into(), field: None, wait: None, error_id: None }
    }

    /// A field that is missing or wrong.
    pub(in crate::app) fn field(field: &'static str, error: &'static str) -> Refused {
        Refused { field: Some(field), ..Refused::new(ErrorCode::ValidationError, error) }
    }

    /// Says when to try again.
    pub(in crate::app) fn after(self, wait: Option<Duration>) -> Refused {
        Refused { wait, ..self }
    }

    fn busy() -> Refused {
        let message = "the server is busy: send this again in a moment";
        Refused::new(ErrorCode::RateLimited, message).after(Some(STORE_WAIT))
    }

    /// What the store refused.
    fn by_store(refusal: &Refusal) -> Refused {
        match refusal {
            Refusal::Invalid { field, error } => Refused::field(field, error),
            Refusal::Internal { error_id } => Refused {
                error_id: Some(*error_id),
                ..Refused::new(ErrorCode::InternalError, refusal.to_string())
            },
            // What only other requests meet.
            _ => Refused::new(ErrorCode::NotFound, refusal.to_string()),
        }
    }
}

impl Mobile {
    /// When typing ends by itself, or the store is to be asked again, monotonic ns.
    pub(super) fn alarm(&self) -> Option<u64> {
        self.typing.deadline().into_iter().chain(self.queue.retry()).min()
    }
}

impl Session {
    /// What the session of this app knows. `None` for other apps, whose inputs never come here.
    fn mobile(&mut self) -> Option<&mut Mobile> {
        match &mut self.state {
            State::Mobile(mobile) => Some(mobile),
            _ => None,
        }
    }

    pub(super) fn mobile_input(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        match input {
            Input::Opened { .. } => self.mobile_opened(context),
            Input::Event { args, is_binary, .. } => self.mobile_packet(args, is_binary, context),
            Input::Stored { ticket, answer } => self.mobile_stored(ticket, answer, context),
            Input::StoreBusy { ticket } => self.mobile_store_busy(ticket, context),
            Input::Heard { all } => self.heard(all, context),
            Input::Written => self.go_on_giving(context),
            Input::Alarm => {
                self.mobile_typing_over(context);
                self.retry_queue(context);
            }
            Input::Gone => {
                self.typing_to_nobody(context);
                self.give_no_more();
            }
            // Clients of Socket.IO are told of a close by its own packets.
            _ => {}
        }
    }

    /// `chat:connected` and what came while the user was not there, or `wallet:connected`.
    fn mobile_opened(&mut self, context: &mut Context<'_>) {
        let is_chat = self.wire == Wire::SocketIoChat;
        let event = if is_chat { "chat:connected" } else { "wallet:connected" };
        context.out.reply(self.reply_to(context), event, |data| {
            data.put("userId", self.user.id().as_str()).put("socketId", self.connection_id());
            data.put("timestamp", time::millis(context.now.unix_ms()));
        });
        if is_chat {
            self.ask_queue(context);
        }
    }

    /// A Socket.IO packet's array.
    fn mobile_packet(&mut self, args: Raw<'_>, is_binary: bool, context: &mut Context<'_>) {
        let Some((event, data)) = packet_event(args) else {
            return self.malformed(context, "an event has a name, for example [\"heartbeat\",{}]");
        };
        let data = data.filter(|data| data.is_object()).unwrap_or(Raw::EMPTY_OBJECT);
        if is_binary {
            if self.allowed(context, Some(&event)) {
                self.invalid(context, "this server takes no binary data: send JSON", Some(&event));
            }
            return;
        }
        let is_chat = self.wire == Wire::SocketIoChat;
        let done = match &*event {
            // Messages and changes to typing have rates of their own.
            SEND if is_chat => self.mobile_send(data, context),
            "typing:start" if is_chat => self.mobile_typing_start(data, context),
            "typing:stop" if is_chat => self.mobile_typing_stop(data, context),
            _ => {
                if self.allowed(context, Some(&event)) {
                    self.mobile_control(&event, data, is_chat, context);
                }
                return;
            }
        };
        match done {
            Err(refused) if refused.code == ErrorCode::RateLimited => {
                self.refuse_mobile(context, &refused, Some(&event));
            }
            // What makes no sense counts as a control event, or its answers would have no bound.
            Err(refused) if self.allowed(context, Some(&event)) => {
                self.refuse_mobile(context, &refused, Some(&event));
            }
            _ => {}
        }
    }

    fn mobile_control(&mut self, event: &str, data: Raw<'_>, is_chat: bool, context: &mut Context<'_>) {
        let done = match event {
            "user:register" => self.register(data, context),
            "room:join" if is_chat => self.confirm_room("room:joined", data, context),
            "room:leave" if is_chat => self.confirm_room("room:left", data, context),
            "heartbeat" => {
                let now = context.now.unix_ms();
                context.out.reply(self.reply_to(context), "heartbeat:ack", |data| {
                    data.put("timestamp", time::millis(now));
                });
                Ok(())
            }
            "authenticate" => {
                self.authenticate(string(data, "token").as_deref(), context);
                Ok(())
            }
            _ => {
                let message = "unknown event in this namespace: see the list of client events";
                Err(Refused::new(ErrorCode::InvalidMessage, message))
            }
        };
        if let Err(refused) = done {
            self.refuse_mobile(context, &refused, Some(event));
        }
    }

    /// `user:register {userId}`: who connected is known by the token, so that this only confirms it.
    fn register(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let id = data.get("userId").and_then(user_id);
        let id = id.ok_or_else(|| Refused::field("userId", "userId is missing: say who you are"))?;
        if id != *self.user.id() {
            let message = "this is not the user of the token: register the user who signed in";
            let refused = Refused::new(ErrorCode::AccessDenied, message);
            return Err(Refused { field: Some("userId"), ..refused });
        }
        context.out.reply(self.reply_to(context), "user:registered", |data| {
            data.put("userId", id.as_str()).put("socketId", self.connection_id());
        });
        Ok(())
    }

    /// `room:join {roomId}`, `room:leave {roomId}`: what two users say to each other reaches all their connections, so that
    /// a room need only exist.
    fn confirm_room(
        &mut self,
        event: &'static str,
        data: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let other = self.other_of_room(data)?;
        let room = pair_id(self.user.id(), &other);
        let now = context.now.unix_ms();
        context.out.reply(self.reply_to(context), event, |data| {
            data.put("roomId", &room).put("timestamp", time::millis(now));
        });
        Ok(())
    }

    /// The other user of the room that `roomId` names: by that user's id, or by the pair's.
    fn other_of_room(&self, data: Raw<'_>) -> Result<SmolStr, Refused> {
        let own = self.user.id();
        let missing = "roomId is missing: it is the other user's id, or a roomId of the history";
        let room = match data.get("roomId") {
            // A pair's id is longer than a user's.
            Some(room) if room.is_string() => room.as_str().map(SmolStr::new),
            room => room.and_then(user_id),
        };
        let room = room.filter(|room| !room.is_empty()).ok_or_else(|| Refused::field("roomId", missing))?;
        let other = match read_pair_id(&room) {
            Some([first, second]) if first == *own => second,
            Some([first, second]) if second == *own => first,
            Some(_) => {
                let refused = Refused::new(ErrorCode::AccessDenied, "this room is of two other users");
                return Err(Refused { field: Some("roomId"), ..refused });
            }
            None => room,
        };
        content::other_user(&other, own, "roomId")
    }

    /// `message:send`: as the same request over HTTP.
    fn mobile_send(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let message = Fields::of(data).check(self.user.id())?;
        self.user.allow_message(&context.settings.messages, context.now.mono).map_err(|wait| {
            context.out.count_limit(LimitKind::Messages);
            let message = "too many messages: wait before the next one";
            Refused::new(ErrorCode::RateLimited, message).after(Some(wait))
        })?;
        let write = MobileWrite::Send { by: self.user.id().clone(), message };
        self.ask_mobile(Purpose::Send, write, context)
            .inspect_err(|_| self.user.give_back_message(&context.settings.messages))
    }

    /// Asks the store.
    fn ask_mobile(
        &mut self,
        purpose: Purpose,
        write: MobileWrite,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let Some(mobile) = self.mobile().filter(|mobile| mobile.pending.len() < STORE_REQUESTS as usize)
        else {
            context.out.count_limit(LimitKind::Store);
            return Err(Refused::busy());
        };
        mobile.requests += 1;
        let ticket = mobile.requests;
        mobile.pending.push(Pending { ticket, purpose, ack: context.ack });
        context.out.push(Output::Store { ticket, what: StoreRequest::Write(Write::Mobile(write)) });
        Ok(())
    }

    /// A request has its answer, which is for the acknowledgement it came with.
    fn settle_mobile(&mut self, ticket: u64, context: &mut Context<'_>) -> Option<Purpose> {
        let mobile = self.mobile()?;
        let at = mobile.pending.iter().position(|pending| pending.ticket == ticket)?;
        let Pending { purpose, ack, .. } = mobile.pending.swap_remove(at);
        context.ack = ack;
        Some(purpose)
    }

    fn mobile_stored(&mut self, ticket: u64, answer: &Result<Answer, Refusal>, context: &mut Context<'_>) {
        let Some(purpose) = self.settle_mobile(ticket, context) else { return };
        match (purpose, answer) {
            (Purpose::Queue, Ok(Answer::Mobile(MobileAnswer::Queued(queued)))) => {
                self.give_queued(queued, context);
            }
            // The event comes by way of the router, to all connections, and once: what is repeated is acknowledged, no more.
            (Purpose::Send, Ok(Answer::Mobile(MobileAnswer::Sent { message, .. }))) => {
                let mut object = Vec::new();
                crate::app::wire::Object::write(&mut object, |object| shapes::message(message, object));
                let ack = context.out.compose_ack(self.reply_to(context), &object);
                context.out.push(Output::Reply(ack));
            }
            (Purpose::Send, Err(refusal)) => {
                self.refuse_mobile(context, &Refused::by_store(refusal), Some(SEND));
            }
            (purpose, Err(_)) => self.not_stored(purpose, context),
            // The store answers what was asked.
            _ => {}
        }
    }

    fn mobile_store_busy(&mut self, ticket: u64, context: &mut Context<'_>) {
        let Some(purpose) = self.settle_mobile(ticket, context) else { return };
        context.out.count_limit(LimitKind::Store);
        if purpose != Purpose::Send {
            return self.not_stored(purpose, context);
        }
        // What came to nothing does not count.
        self.user.give_back_message(&context.settings.messages);
        self.refuse_mobile(context, &Refused::busy(), Some(SEND));
    }

    /// What the session wants of the store by itself it asks again.
    fn not_stored(&mut self, purpose: Purpose, context: &mut Context<'_>) {
        let Some(mobile) = self.mobile() else { return };
        match purpose {
            Purpose::Queue => {
                mobile.queue.ask_again(context.now);
                context.out.push(Output::Deadline);
            }
            Purpose::Given(up_to) => mobile.queue.not_noted(up_to),
            Purpose::Send => {}
        }
    }

    fn refuse_mobile(&self, context: &mut Context<'_>, refused: &Refused, event: Option<&str>) {
        context.out.count_error(refused.code);
        write_error(self.reply_to(context), context, refused, event);
    }
}

/// `message:error {code, message, event?, retry_after_ms?, details?}`
pub(super) fn write_error(to: ReplyTo, context: &mut Context<'_>, refused: &Refused, event: Option<&str>) {
    context.out.reply_error(to, "message:error", |error| {
        error.put("code", refused.code.as_str()).put("message", &*refused.message);
        if let Some(event) = event {
            error.put("event", event);
        }
        if let Some(wait) = refused.wait {
            error.put("retry_after_ms", wait_ms(wait));
        }
        if let Some(field) = refused.field {
            error.object("details", |details| {
                details.put("field", field).put("error", &*refused.message);
            });
        }
        if let Some(id) = refused.error_id {
            error.put("error_id", id.to_string());
        }
    });
}

#[cfg(test)]
mod tests;
