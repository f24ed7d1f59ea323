//! Who types: told to the other's connections that have joined the conversation, and taken back after a while.

use std::time::Duration;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::tell::News;
use crate::app::conversation::{Purpose, Refused, conversation_id, shapes};
use crate::app::{Asked, Context, Output, Session};
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::room::name::RoomName;
use crate::users::Meter;

/// How long typing lasts that nobody stops (`spec/conversation.md`).
const LASTS: Duration = Duration::from_secs(5);
/// When a stop is tried again that the router could not take.
const RETRY: Duration = Duration::from_millis(200);
/// Conversations in which one client types at once; in the first of them it stops when there are more.
const AT_ONCE: usize = 16;

/// Where a client types.
#[derive(Debug, Default)]
pub(super) struct Typing(Vec<Active>);

#[derive(Debug)]
struct Active {
    conversation: Uuid,
    other: SmolStr,
    /// When it ends by itself, monotonic ns.
    until: u64,
}

impl Typing {
    /// When the first ends by itself.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.iter().map(|active| active.until).min()
    }

    fn active(&mut self, conversation: Uuid) -> Option<&mut Active> {
        self.0.iter_mut().find(|active| active.conversation == conversation)
    }

    /// Takes out the first of those that are to end.
    fn take(&mut self, is_over: impl Fn(&Active) -> bool) -> Option<Active> {
        self.0.iter().position(is_over).map(|at| self.0.remove(at))
    }
}

impl Session {
    pub(super) fn typing_start(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let conversation = conversation_id(data)?;
        let until = context.now.plus(LASTS).mono;
        let Some(chat) = self.chat() else { return Ok(()) };
        // What changes nothing is not counted (`spec/decisions.md` 6).
        if let Some(active) = chat.typing.active(conversation) {
            active.until = until;
            return Ok(());
        }
        if let Some(question) = chat.joined.asked_to_type(conversation) {
            question.stops = false;
            return Ok(());
        }
        self.user.allow(Meter::Typing, context.settings.typing, context.now.mono).map_err(|wait| {
            context.out.count_limit(LimitKind::Typing);
            Refused::too_fast("too many changes to typing: wait before the next one", wait)
        })?;
        self.with_part(Purpose::TypingStart, conversation, context)
            .inspect_err(|_| self.user.give_back(Meter::Typing, context.settings.typing))
    }

    /// A stop is never refused for its rate (`spec/decisions.md` 6): each that changes something has a start before it.
    pub(super) fn typing_stop(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let conversation = conversation_id(data)?;
        let Some(chat) = self.chat() else { return Ok(()) };
        if chat.typing.active(conversation).is_some() {
            self.stop_typing(conversation, context);
        } else if let Some(question) = chat.joined.asked_to_type(conversation) {
            question.stops = true;
        } else if chat.joined.other(conversation).is_none() && self.allowed(context, Some("typing:stop")) {
            // It may be somebody else's.
            self.with_part(Purpose::TypingStop, conversation, context)?;
        }
        Ok(())
    }

    pub(super) fn start_typing(&mut self, conversation: Uuid, other: &SmolStr, context: &mut Context<'_>) {
        let until = context.now.plus(LASTS).mono;
        let Some(chat) = self.chat() else { return };
        let oldest = match chat.typing.0.len() {
            AT_ONCE.. => Some(chat.typing.0.remove(0)),
            _ => None,
        };
        chat.typing.0.push(Active { conversation, other: other.clone(), until });
        if let Some(oldest) = oldest {
            self.publish_typing(oldest.conversation, &oldest.other, false, context);
        }
        self.publish_typing(conversation, other, true, context);
        context.out.push(Output::Deadline);
    }

    pub(super) fn stop_typing(&mut self, conversation: Uuid, context: &mut Context<'_>) {
        let stopped =
            self.chat().and_then(|chat| chat.typing.take(|active| active.conversation == conversation));
        if let Some(stopped) = stopped {
            self.publish_typing(conversation, &stopped.other, false, context);
            context.out.push(Output::Deadline);
        }
    }

    /// Stops what nobody has stopped in time.
    pub(super) fn typing_over(&mut self, context: &mut Context<'_>) {
        let now = context.now.mono;
        self.stop_all(|active| active.until <= now, context);
        context.out.push(Output::Deadline);
    }

    /// Stops all, as the client is gone.
    pub(super) fn typing_gone(&mut self, context: &mut Context<'_>) {
        self.stop_all(|_| true, context);
    }

    fn stop_all(&mut self, is_over: impl Fn(&Active) -> bool, context: &mut Context<'_>) {
        while let Some(stopped) = self.chat().and_then(|chat| chat.typing.take(&is_over)) {
            self.publish_typing(stopped.conversation, &stopped.other, false, context);
        }
    }

    /// The router could not take a stop: it is tried again, or the other would see typing for ever.
    pub(super) fn retry_stop(&mut self, bits: Option<u64>, context: &mut Context<'_>) {
        let until = context.now.plus(RETRY).mono;
        let Some(chat) = self.chat() else { return };
        let Some((conversation, other)) = bits.and_then(|bits| chat.joined.by_bits(bits)).cloned() else {
            return;
        };
        if chat.typing.active(conversation).is_none() && chat.typing.0.len() < AT_ONCE {
            chat.typing.0.push(Active { conversation, other, until });
            context.out.push(Output::Deadline);
        }
    }

    /// `typing:indicator {conversation_id, user_id, username, is_typing, timestamp}`
    fn publish_typing(
        &self,
        conversation: Uuid,
        other: &SmolStr,
        is_typing: bool,
        context: &mut Context<'_>,
    ) {
        let now = context.now;
        let news = News::new("\"typing:indicator\"", now, |object| {
            shapes::put_id(object, "conversation_id", conversation);
            object
                .put("user_id", self.user.id().as_str())
                .put("username", self.username())
                .put("is_typing", is_typing);
            shapes::put_time(object, "timestamp", now.unix_ms());
        });
        let event = if is_typing { "typing:start" } else { "typing:stop" };
        context.out.push(Output::Publish {
            publication: news.to_room(&RoomName::joined(conversation, other)),
            // No wire of this app has acknowledgements: it says which stop is to be tried again.
            asked: Asked { event, ack: Some(conversation.as_u64_pair().1) },
            confirmation: 0..0,
            counted: false,
        });
    }
}
