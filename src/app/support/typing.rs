//! Who types: a client's part. The router counts those of all clients and tells the others.

use uuid::Uuid;

use crate::app::conversation::Refused;
use crate::app::support::{Place, Purpose};
use crate::app::typing::Typing;
use crate::app::{Context, Live, Output, Session, StoreRequest};
use crate::close::ErrorCode;
use crate::metrics::LimitKind;
use crate::proto::json::Raw;
use crate::record::Write;
use crate::record::support::SupportWrite;
use crate::users::Meter;

/// Starts that wait for the store's word whether the client may; at most as many as requests of a client are open.
#[derive(Debug, Default)]
pub(super) struct Questions(Vec<Question>);

#[derive(Debug)]
struct Question {
    ticket: u64,
    session: Uuid,
    /// It has been stopped since.
    stops: bool,
}

impl Questions {
    fn of(&mut self, session: Uuid) -> Option<&mut Question> {
        self.0.iter_mut().find(|question| question.session == session)
    }

    /// Forgets a start that is not to be.
    pub(super) fn refused(&mut self, ticket: u64) {
        self.0.retain(|question| question.ticket != ticket);
    }
}

impl Session {
    /// `typing`, whose content is `"true"` or `"false"`.
    pub(super) fn support_typing(
        &mut self,
        session: Uuid,
        message: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let content = message.get("content");
        let text = content.and_then(Raw::as_str);
        let is_typing = match (text.as_deref(), content.and_then(Raw::as_bool)) {
            (Some("true"), _) | (_, Some(true)) => true,
            (Some("false"), _) | (_, Some(false)) => false,
            _ => return Err(Refused::field("content", "the content of typing is \"true\" or \"false\"")),
        };
        match is_typing {
            true => self.types(session, context),
            false => {
                self.types_no_more(session, context);
                Ok(())
            }
        }
    }

    fn types(&mut self, session: Uuid, context: &mut Context<'_>) -> Result<(), Refused> {
        let Some(support) = self.support() else { return Ok(()) };
        if support.is_closed {
            return Err(closed());
        }
        // What changes nothing is not counted (`spec/decisions.md` 6).
        if support.typing.go_on(|place| *place == session, context.now) {
            return Ok(());
        }
        if let Some(question) = support.questions.of(session) {
            question.stops = false;
            return Ok(());
        }
        let is_known = support.is_here && support.place == Place::Session(session);
        self.user.allow(Meter::Typing, context.settings.typing, context.now.mono).map_err(|wait| {
            context.out.count_limit(LimitKind::Typing);
            Refused::too_fast("too many changes to typing: wait before the next one", wait)
        })?;
        if is_known {
            self.start(session, context);
            return Ok(());
        }
        let write = SupportWrite::Enter { by: self.caller(), session };
        let ticket = self
            .ask_support(Purpose::Type, StoreRequest::Write(Write::Support(write)), context)
            .inspect_err(|_| self.user.give_back(Meter::Typing, context.settings.typing))?;
        if let Some(support) = self.support() {
            support.questions.0.push(Question { ticket, session, stops: false });
        }
        Ok(())
    }

    /// The client may type there.
    pub(super) fn may_type(&mut self, ticket: u64, is_closed: bool, context: &mut Context<'_>) {
        let Some(support) = self.support() else { return };
        let at = support.questions.0.iter().position(|question| question.ticket == ticket);
        let Some(question) = at.map(|at| support.questions.0.swap_remove(at)) else { return };
        if is_closed {
            return self.refuse_support(&closed(), Some("typing"), context);
        }
        if !question.stops {
            self.start(question.session, context);
        }
    }

    fn start(&mut self, session: Uuid, context: &mut Context<'_>) {
        let Some(support) = self.support() else { return };
        if let Some(oldest) = support.typing.start(session, context.now) {
            context.out.push(Output::Live(Live::Types { session: oldest, is_typing: false }));
        }
        context.out.push(Output::Live(Live::Types { session, is_typing: true }));
        context.out.push(Output::Deadline);
    }

    /// A stop is never refused for its rate: each that changes something has a start before it.
    fn types_no_more(&mut self, session: Uuid, context: &mut Context<'_>) {
        let Some(support) = self.support() else { return };
        if let Some(question) = support.questions.of(session) {
            question.stops = true;
        }
        if self.stop_each_session(|typing| typing.take(|place| *place == session), context) {
            context.out.push(Output::Deadline);
        }
    }

    /// Stops what nobody has stopped in time.
    pub(super) fn support_typing_over(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.stop_each_session(|typing| typing.take_over(now), context);
        context.out.push(Output::Deadline);
    }

    /// Stops all, as the client is gone.
    pub(super) fn support_gone(&mut self, context: &mut Context<'_>) {
        self.stop_each_session(|typing| typing.take(|_| true), context);
    }

    fn stop_each_session(
        &mut self,
        next: impl Fn(&mut Typing<Uuid>) -> Option<Uuid>,
        context: &mut Context<'_>,
    ) -> bool {
        let mut is_any = false;
        while let Some(session) = self.support().and_then(|support| next(&mut support.typing)) {
            context.out.push(Output::Live(Live::Types { session, is_typing: false }));
            is_any = true;
        }
        is_any
    }
}

fn closed() -> Refused {
    let refused = Refused::field("chat_session_id", "the session is closed: open another one");
    Refused { code: ErrorCode::Forbidden, ..refused }
}
