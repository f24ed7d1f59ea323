//! What a connection is given of what was said to its user, each message once: first what came while nobody was there,
//! oldest first, then what comes live.
//!
//! The store is asked for the former when the client connects. Its answer has its place among the messages that are told
//! live: all that came before it is in it. So what comes live before the answer is passed over, and nothing is lost, doubled
//! or swapped. What the connection was sent counts as given once any packet of the client's follows
//! (`spec/decisions.md` 13), and is no longer sent to others from then on.

use crate::app::mobile::{Purpose, shapes};
use crate::app::{Context, ReplyTo, Session, State};
use crate::record::mobile::{Given, MobileQuery, MobileWrite, Queued};

/// What a connection has been given.
#[derive(Debug)]
pub(super) struct Queue {
    /// The user has another connection: what that one was sent waits for it.
    but_live: bool,
    /// The store is to be asked, when the client has shown that it has what it was sent before.
    is_due: bool,
    /// All that had come was given: what comes live is for this client too.
    is_live: bool,
    /// How many may still be given of what had come.
    left: usize,
    /// What the client has been sent and has not shown to have: of what had come, and live.
    sent: [Option<Given>; 2],
}

/// The places in [`Queue::sent`].
const QUEUED: usize = 0;
const LIVE: usize = 1;

impl Queue {
    pub(super) fn new(but_live: bool) -> Queue {
        Queue { but_live, is_due: false, is_live: false, left: MobileQuery::MOST_QUEUED, sent: [None; 2] }
    }

    /// The store has not answered.
    pub(super) fn ask_again(&mut self) {
        self.is_due = true;
    }

    /// The store has not noted that these were given.
    pub(super) fn not_noted(&mut self, given: Given) {
        let place = if given.but_live || !self.is_live { QUEUED } else { LIVE };
        self.sent[place] = Some(join(self.sent[place], given));
    }
}

/// Both as one, from the first to the last.
fn join(known: Option<Given>, given: Given) -> Given {
    match known {
        Some(known) => {
            Given { from: known.from.min(given.from), up_to: known.up_to.max(given.up_to), ..given }
        }
        None => given,
    }
}

impl Session {
    /// Whether a personal message that is told live is for this client, which is then about to be sent it.
    pub fn takes_message(&mut self, number: u64) -> bool {
        let State::Mobile(mobile) = &mut self.state else { return true };
        let queue = &mut mobile.queue;
        if queue.is_live {
            let given = Given { from: number, up_to: number, but_live: false };
            queue.sent[LIVE] = Some(join(queue.sent[LIVE], given));
        }
        queue.is_live
    }

    /// Whether anything waits for the client to show that it has what it was sent: [`Input::Heard`](crate::app::Input).
    pub fn awaits_word(&self) -> bool {
        match &self.state {
            State::Mobile(mobile) => mobile.queue.is_due || mobile.queue.sent.iter().any(Option::is_some),
            _ => false,
        }
    }

    /// The client has what it was sent.
    pub(super) fn heard(&mut self, context: &mut Context<'_>) {
        let Some(mobile) = self.mobile() else { return };
        let sent = std::mem::take(&mut mobile.queue.sent);
        let is_due = std::mem::take(&mut mobile.queue.is_due);
        for given in sent.into_iter().flatten() {
            let write = MobileWrite::Given { user: self.user.id().clone(), given };
            if self.ask_mobile(Purpose::Given(given), write, context).is_err() {
                self.not_stored(Purpose::Given(given));
            }
        }
        // After them, so that it is not given the same again.
        if is_due {
            self.ask_queue(context);
        }
    }

    /// Asks for what was said to the user while nobody was there.
    pub(super) fn ask_queue(&mut self, context: &mut Context<'_>) {
        let user = self.user.id().clone();
        let Some(Queue { left, but_live, .. }) = self.mobile().map(|mobile| &mobile.queue) else { return };
        let write = MobileWrite::Queued { user, limit: *left, but_live: *but_live };
        if self.ask_mobile(Purpose::Queue, write, context).is_err() {
            self.not_stored(Purpose::Queue);
        }
    }

    /// Gives the client what had come.
    pub(super) fn give_queued(&mut self, queued: &Queued, context: &mut Context<'_>) {
        let to = ReplyTo { ack: None, ..self.reply_to(context) };
        for message in &queued.messages {
            context.out.reply(to, shapes::event_of(message), |object| shapes::message(message, object));
        }
        let Some(Queue { but_live, is_due, is_live, left, sent }) =
            self.mobile().map(|mobile| &mut mobile.queue)
        else {
            return;
        };
        *left = left.saturating_sub(queued.messages.len());
        *is_due = queued.has_more;
        *is_live = !queued.has_more;
        if let Some(first) = queued.messages.first() {
            let given = Given { from: first.number, up_to: queued.up_to, but_live: *but_live };
            sent[QUEUED] = Some(join(sent[QUEUED], given));
        }
    }
}
