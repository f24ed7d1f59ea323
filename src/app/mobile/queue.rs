//! What a connection is given of what was said to its user, each message once: first what waits, oldest first, then what
//! comes live.
//!
//! What waits is what no connection of the user has shown to have: what came while none was there, and what was sent to one
//! that is lost, or will be found to be. Nobody can tell the latter from one that is only quiet, so a connection that comes
//! meanwhile is given what waits for the quiet one too; the message's id is the same.
//!
//! The store is asked when the client connects, and again when what it has answered is written, until it has no more: each
//! connection keeps its own place, so that what others are given, or show to have, is nothing to it. The store's answers have
//! their place among the messages that are told live: all that came before the last one is in them. So what comes live before
//! that is passed over, and nothing is lost, doubled or swapped.
//! What the connection was sent counts as given once it is written and any packet of the client's follows
//! (`spec/decisions.md` 13), part by part, and waits no longer from then on, whoever else connects.

use std::time::Duration;

use crate::app::mobile::{Purpose, shapes};
use crate::app::{Context, Output, ReplyTo, Session, State};
use crate::record::mobile::{MobileWrite, Place, Queued};
use crate::time::Now;

/// What a connection has been given.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How far the client was given what was said; `None`: it was given nothing.
    place: Option<Place>,
    /// The store is to be asked, when what the client was sent before is written.
    is_due: bool,
    /// All that was said was given: what comes live is for this client too.
    is_live: bool,
    /// When the store is asked again that could not answer, monotonic ns.
    retry: Option<u64>,
    /// The number of the last message that the client is being sent.
    sent: Option<u64>,
    /// The number of the last that is written, if the client has not shown to have it.
    written: Option<u64>,
}

/// When the store is asked again.
const RETRY: Duration = Duration::from_millis(200);

impl Queue {
    /// When the store is to be asked again, monotonic ns.
    pub(super) fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The store has not answered.
    pub(super) fn ask_again(&mut self, now: Now) {
        self.retry = Some(now.plus(RETRY).mono);
    }

    /// The store has not noted that all up to this one were given.
    pub(super) fn not_noted(&mut self, up_to: u64) {
        self.written = self.written.max(Some(up_to));
    }
}

impl Session {
    /// Whether a personal message that is told live is for this client, which is then about to be sent it.
    pub fn takes_message(&mut self, number: u64) -> bool {
        let State::Mobile(mobile) = &mut self.state else { return true };
        if mobile.queue.is_live {
            mobile.queue.sent = Some(number);
        }
        mobile.queue.is_live
    }

    /// Whether anything waits for the client to show that it has what was written: [`Input::Heard`](crate::app::Input).
    pub fn awaits_word(&self) -> bool {
        match &self.state {
            State::Mobile(mobile) => mobile.queue.sent.or(mobile.queue.written).is_some(),
            _ => false,
        }
    }

    /// The client has what was written; `all`: what it was sent, too.
    pub(super) fn heard(&mut self, all: bool, context: &mut Context<'_>) {
        let Some(queue) = self.mobile().map(|mobile| &mut mobile.queue) else { return };
        let sent = if all { queue.sent.take() } else { None };
        let Some(up_to) = queue.written.take().max(sent) else { return };
        let write = MobileWrite::Given { user: self.user.id().clone(), up_to };
        if self.ask_mobile(Purpose::Given(up_to), write, context).is_err() {
            self.not_stored(Purpose::Given(up_to), context);
        }
    }

    /// What the client was given before is written: asks for what comes next.
    pub(super) fn go_on_giving(&mut self, context: &mut Context<'_>) {
        let Some(queue) = self.mobile().map(|mobile| &mut mobile.queue) else { return };
        queue.written = queue.written.max(queue.sent.take());
        if std::mem::take(&mut queue.is_due) {
            self.ask_queue(context);
        }
    }

    /// Asks again, if the time for it has come.
    pub(super) fn retry_queue(&mut self, context: &mut Context<'_>) {
        let is_due = |at: &mut u64| *at <= context.now.mono;
        if self.mobile().is_some_and(|mobile| mobile.queue.retry.take_if(is_due).is_some()) {
            self.ask_queue(context);
        }
    }

    /// The client is gone.
    pub(super) fn give_no_more(&mut self) {
        if let Some(mobile) = self.mobile() {
            mobile.queue = Queue::default();
        }
    }

    /// Asks for what is to be given next.
    pub(super) fn ask_queue(&mut self, context: &mut Context<'_>) {
        let Some(place) = self.mobile().map(|mobile| mobile.queue.place) else { return };
        let (user, bytes) = (self.user.id().clone(), context.settings.queued_bytes);
        let write = MobileWrite::Queued { user, place, bytes };
        if self.ask_mobile(Purpose::Queue, write, context).is_err() {
            self.not_stored(Purpose::Queue, context);
        }
    }

    /// Gives the client what was said.
    pub(super) fn give_queued(&mut self, queued: &Queued, context: &mut Context<'_>) {
        let to = ReplyTo { ack: None, ..self.reply_to(context) };
        for message in &queued.messages {
            context.out.reply(to, shapes::event_of(message), |object| shapes::message(message, object));
        }
        let Some(queue) = self.mobile().map(|mobile| &mut mobile.queue) else { return };
        queue.place = Some(queued.place);
        queue.is_due = queued.has_more;
        queue.is_live = !queued.has_more;
        if !queued.messages.is_empty() {
            queue.sent = queue.sent.max(Some(queued.place.after));
        }
        if queued.has_more {
            context.out.push(Output::Written);
        }
    }
}
