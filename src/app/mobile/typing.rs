//! Who types to whom: told to the other user, and taken back after a while if the client does not do it.

use std::time::Duration;

use smol_str::SmolStr;

use crate::app::conversation::tell::News;
use crate::app::mobile::{Refused, content};
use crate::app::outputs::Text;
use crate::app::wire::Object;
use crate::app::{Context, Output, Session};
use crate::audience::App;
use crate::close::ErrorCode;
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::record::mobile::pair_id;
use crate::time;
use crate::users::Meter;

/// How long typing lasts that nobody stops, as in `spec/conversation.md`.
const LASTS: Duration = Duration::from_secs(5);
/// When a stop is tried again that the router could not take.
const RETRY: Duration = Duration::from_millis(200);
/// Users to whom one client types at once; to the first of them it stops when there are more.
const AT_ONCE: usize = 16;

/// To whom a client types.
#[derive(Debug, Default)]
pub(in crate::app) struct Typing {
    active: Vec<Active>,
    /// Those of the input under way whose stops may yet be refused.
    stopped: Vec<SmolStr>,
}

#[derive(Debug)]
struct Active {
    other: SmolStr,
    /// When it ends by itself, monotonic ns.
    until: u64,
}

impl Typing {
    /// When the first ends by itself, monotonic ns.
    pub(in crate::app) fn deadline(&self) -> Option<u64> {
        self.active.iter().map(|active| active.until).min()
    }

    fn take(&mut self, is_over: impl Fn(&Active) -> bool) -> Option<SmolStr> {
        self.active.iter().position(is_over).map(|at| self.active.remove(at).other)
    }
}

impl Session {
    pub(super) fn mobile_typing_start(
        &mut self,
        data: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let other = self.typing_to(data)?;
        let until = context.now.plus(LASTS).mono;
        let Some(mobile) = self.mobile() else { return Ok(()) };
        // What changes nothing is not counted (`spec/decisions.md` 6).
        if let Some(active) = mobile.typing.active.iter_mut().find(|active| active.other == other) {
            active.until = until;
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
        mobile.typing.stopped.clear();
        let oldest = (mobile.typing.active.len() >= AT_ONCE).then(|| mobile.typing.active.remove(0).other);
        mobile.typing.active.push(Active { other: other.clone(), until });
        if let Some(oldest) = oldest {
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
        mobile.typing.stopped.clear();
        if mobile.typing.take(|active| active.other == other).is_none()
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
        let now = context.now.mono;
        self.stop_mobile_typing(|active| active.until <= now, context);
        context.out.push(Output::Deadline);
    }

    /// Stops all, as the client is gone.
    pub(super) fn mobile_gone(&mut self, context: &mut Context<'_>) {
        self.stop_mobile_typing(|_| true, context);
    }

    fn stop_mobile_typing(&mut self, is_over: impl Fn(&Active) -> bool, context: &mut Context<'_>) {
        if let Some(mobile) = self.mobile() {
            mobile.typing.stopped.clear();
        }
        while let Some(other) = self.mobile().and_then(|mobile| mobile.typing.take(&is_over)) {
            self.publish_typing_to(&other, "typing:stop", 0..0, context);
        }
    }

    /// The router could not take a stop: all of this input are tried again, or the other would see typing for ever.
    pub(in crate::app) fn retry_mobile_stop(&mut self, context: &mut Context<'_>) {
        let until = context.now.plus(RETRY).mono;
        let Some(mobile) = self.mobile() else { return };
        let Typing { active, stopped } = &mut mobile.typing;
        for other in stopped.drain(..) {
            if active.len() < AT_ONCE && !active.iter().any(|active| active.other == other) {
                active.push(Active { other, until });
            }
        }
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
        if is_stop && let Some(mobile) = self.mobile() {
            mobile.typing.stopped.push(other.clone());
        }
        context.out.push(Output::Publish {
            publication: news.to_user(other),
            asked: context.asked(event),
            confirmation,
            counted: false,
        });
    }
}
