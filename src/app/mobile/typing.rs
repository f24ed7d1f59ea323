//! Who types to whom: told to the other user, and taken back after a while if the client does not do it.

use smol_str::SmolStr;

use crate::app::conversation::tell::News;
use crate::app::mobile::{Refused, content};
use crate::app::outputs::Text;
use crate::app::typing::Typing;
use crate::app::wire::Object;
use crate::app::{Asked, Context, Output, Session};
use crate::audience::App;
use crate::close::ErrorCode;
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::record::mobile::pair_id;
use crate::time;
use crate::users::Meter;

impl Session {
    pub(super) fn mobile_typing_start(
        &mut self,
        data: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let other = self.typing_to(data)?;
        let Some(mobile) = self.mobile() else { return Ok(()) };
        // What changes nothing is not counted (`spec/decisions.md` 6).
        if mobile.typing.go_on(|known| *known == other, context.now) {
            let ack = self.typing_ack(&other, context);
            context.out.push(Output::Reply(ack));
            return Ok(());
        }
        self.user.allow(Meter::Typing, context.settings.typing, context.now.mono).map_err(|wait| {
            context.out.count_limit(LimitKind::Typing);
            let message = "too many changes to typing: wait before the next one";
            Refused::new(ErrorCode::RateLimited, message).after(Some(wait))
        })?;
        let Some(mobile) = self.mobile() else { return Ok(()) };
        mobile.stopped.clear();
        if let Some(oldest) = mobile.typing.start(other.clone(), context.now) {
            self.publish_typing_to(&oldest, "typing:stop", 0..0, context);
        }
        let ack = self.typing_ack(&other, context);
        self.publish_typing_to(&other, "typing:start", ack, context);
        context.out.push(Output::Deadline);
        Ok(())
    }

    /// A stop is never refused for its rate of typing (`spec/decisions.md` 6). One without a start is told too, as the
    /// start may have been another connection's.
    pub(super) fn mobile_typing_stop(
        &mut self,
        data: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let other = self.typing_to(data)?;
        let Some(mobile) = self.mobile() else { return Ok(()) };
        mobile.stopped.clear();
        if mobile.typing.take(|known| *known == other).is_none()
            && !self.allowed(context, Some("typing:stop"))
        {
            return Ok(());
        }
        let ack = self.typing_ack(&other, context);
        self.publish_typing_to(&other, "typing:stop", ack, context);
        context.out.push(Output::Deadline);
        Ok(())
    }

    /// Stops what nobody has stopped in time.
    pub(super) fn mobile_typing_over(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.stop_each_mobile(|typing| typing.take_over(now), context);
        context.out.push(Output::Deadline);
    }

    /// Stops all, as the client is gone.
    pub(super) fn typing_to_nobody(&mut self, context: &mut Context<'_>) {
        self.stop_each_mobile(|typing| typing.take(|_| true), context);
    }

    fn stop_each_mobile(
        &mut self,
        next: impl Fn(&mut Typing<SmolStr>) -> Option<SmolStr>,
        context: &mut Context<'_>,
    ) {
        if let Some(mobile) = self.mobile() {
            mobile.stopped.clear();
        }
        while let Some(other) = self.mobile().and_then(|mobile| next(&mut mobile.typing)) {
            self.publish_typing_to(&other, "typing:stop", 0..0, context);
        }
    }

    /// The router could not take a stop: all of this input are tried again, or the other would see typing for ever.
    pub(in crate::app) fn retry_mobile_stop(&mut self, asked: Asked, context: &mut Context<'_>) {
        let stopped = self.mobile().map(|mobile| std::mem::take(&mut mobile.stopped)).unwrap_or_default();
        for other in stopped {
            // Who has asked for it hears at once that it will be told.
            if asked.ack.is_some() {
                let ack = self.typing_ack(&other, context);
                context.out.push(Output::Reply(ack));
            }
            if let Some(mobile) = self.mobile() {
                mobile.typing.stop_again(other, context.now);
            }
        }
        context.out.push(Output::Deadline);
    }

    /// The router could not take a start, and the client is told so: it does not type there, and nothing is counted.
    pub(in crate::app) fn take_back_mobile_start(&mut self, context: &mut Context<'_>) {
        let Some(mobile) = self.mobile() else { return };
        let Some(other) = mobile.started.take() else { return };
        mobile.typing.take(|known| *known == other);
        self.user.give_back(Meter::Typing, context.settings.typing);
        context.out.push(Output::Deadline);
    }

    /// To whom the client types: `recipientId`, or the other user of `roomId`.
    fn typing_to(&self, data: Raw<'_>) -> Result<SmolStr, Refused> {
        match data.get("recipientId").filter(|id| !id.is_null()) {
            Some(id) => content::recipient(Some(id), self.user.id()),
            None if data.get("roomId").is_some() => self.other_of_room(data),
            None => Err(Refused::field("recipientId", "recipientId is missing: say to whom you type")),
        }
    }

    /// `{userId, roomId, timestamp}`
    fn typing_object(&self, other: &str, context: &Context<'_>, object: &mut Object<'_>) {
        object
            .put("userId", self.user.id().as_str())
            .put("roomId", pair_id(self.user.id(), other))
            .put("timestamp", time::millis(context.now.unix_ms()));
    }

    /// What the other is told, for who asked.
    fn typing_ack(&self, other: &str, context: &mut Context<'_>) -> Text {
        let mut object = Vec::new();
        Object::write(&mut object, |object| self.typing_object(other, context, object));
        context.out.compose_ack(self.reply_to(context), &object)
    }

    /// Tells the other; the confirmation goes out when the router has taken it.
    fn publish_typing_to(
        &mut self,
        other: &SmolStr,
        event: &'static str,
        confirmation: Text,
        context: &mut Context<'_>,
    ) {
        let (is_stop, name) = match event {
            "typing:stop" => (true, "\"typing:stop\""),
            _ => (false, "\"typing:start\""),
        };
        let news = News::of_app(App::Mobile, name, context.now, |object| {
            self.typing_object(other, context, object);
        });
        if let Some(mobile) = self.mobile() {
            match is_stop {
                true => mobile.stopped.push(other.clone()),
                false => mobile.started = Some(other.clone()),
            }
        }
        // What the client has not asked for is not acknowledged.
        let ack = context.ack.filter(|_| !confirmation.is_empty());
        context.out.push(Output::Publish {
            publication: news.to_user(other),
            asked: Asked { event, ack },
            confirmation,
            counted: false,
        });
    }
}
