//! Who types: told to the other's connections that have joined the conversation, and taken back after a while.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::tell::News;
use crate::app::conversation::{Purpose, Refused, conversation_id, shapes};
use crate::app::typing::Typing;
use crate::app::{Asked, Context, Output, Session};
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::room::name::RoomName;
use crate::users::Meter;

impl Session {
    pub(super) fn typing_start(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let conversation = conversation_id(data)?;
        let Some(chat) = self.chat() else { return Ok(()) };
        // What changes nothing is not counted (`spec/decisions.md` 6).
        if chat.typing.go_on(|(id, _)| *id == conversation, context.now) {
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
        if self.stop_typing(conversation, context) {
            return Ok(());
        }
        let Some(chat) = self.chat() else { return Ok(()) };
        if let Some(question) = chat.joined.asked_to_type(conversation) {
            question.stops = true;
        } else if chat.joined.other(conversation).is_none() && self.allowed(context, Some("typing:stop")) {
            // It may be somebody else's.
            self.with_part(Purpose::TypingStop, conversation, context)?;
        }
        Ok(())
    }

    pub(super) fn start_typing(&mut self, conversation: Uuid, other: &SmolStr, context: &mut Context<'_>) {
        let Some(chat) = self.chat() else { return };
        let oldest = chat.typing.start((conversation, other.clone()), context.now);
        if let Some((conversation, other)) = oldest {
            self.publish_typing(conversation, &other, false, context);
        }
        self.publish_typing(conversation, other, true, context);
        context.out.push(Output::Deadline);
    }

    /// Whether the client typed there.
    pub(super) fn stop_typing(&mut self, conversation: Uuid, context: &mut Context<'_>) -> bool {
        let stopped = self.chat().and_then(|chat| chat.typing.take(|(id, _)| *id == conversation));
        let Some((_, other)) = stopped else { return false };
        self.publish_typing(conversation, &other, false, context);
        context.out.push(Output::Deadline);
        true
    }

    /// Stops what nobody has stopped in time.
    pub(super) fn typing_over(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.stop_each(|typing| typing.take_over(now), context);
        context.out.push(Output::Deadline);
    }

    /// Stops all, as the client is gone.
    pub(super) fn typing_gone(&mut self, context: &mut Context<'_>) {
        self.stop_each(|typing| typing.take(|_| true), context);
    }

    fn stop_each(
        &mut self,
        next: impl Fn(&mut Typing<(Uuid, SmolStr)>) -> Option<(Uuid, SmolStr)>,
        context: &mut Context<'_>,
    ) {
        while let Some((conversation, other)) = self.chat().and_then(|chat| next(&mut chat.typing)) {
            self.publish_typing(conversation, &other, false, context);
        }
    }

    /// The router could not take a stop: it is tried again, or the other would see typing for ever.
    pub(super) fn retry_stop(&mut self, bits: Option<u64>, context: &mut Context<'_>) {
        let Some(chat) = self.chat() else { return };
        if let Some(place) = bits.and_then(|bits| chat.joined.by_bits(bits)).cloned() {
            chat.typing.stop_again(place, context.now);
            context.out.push(Output::Deadline);
        }
    }

    /// The router could not take a start, and the client is told so: it does not type there, and nothing is counted.
    pub(super) fn take_back_start(&mut self, bits: Option<u64>, context: &mut Context<'_>) {
        let Some(chat) = self.chat() else { return };
        let is_it = |(id, _): &(Uuid, SmolStr)| Some(id.as_u64_pair().1) == bits;
        if chat.typing.take(is_it).is_some() {
            self.user.give_back(Meter::Typing, context.settings.typing);
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
            // No wire of this app has acknowledgements: it says which change was not taken.
            asked: Asked { event, ack: Some(conversation.as_u64_pair().1) },
            confirmation: 0..0,
            counted: false,
        });
    }
}
