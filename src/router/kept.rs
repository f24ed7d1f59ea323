//! Lines of backends of which the store keeps something: published when that is durable, so that an acknowledgement means
//! it is (`spec/decisions.md` 12), and so that who is told of a balance can read it.
//!
//! What comes for the same user meanwhile, from anybody, waits behind them: a user's events keep their order.

use std::collections::VecDeque;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::app::conversation::NotSaid;
use crate::app::mobile::{self, NotKept};
use crate::audience::App;
use crate::close::ErrorCode;
use crate::metrics::IngestResult;
use crate::proto::ingest::{self, Line, Publish, Target, reply};
use crate::record::mobile::MobileWrite;
use crate::record::{Answer, Refusal, Write};
use crate::router::publisher::Publisher;
use crate::router::replies::{Counted, Replies, ticket};
use crate::router::{Post, Router};
use crate::time::Now;

/// A line that waits.
struct Waiting {
    /// The place of its answer, and what the store answers it by.
    ticket: u64,
    /// Its publisher.
    key: usize,
    /// Its number there.
    number: u64,
    text: Box<[u8]>,
    /// Its id: a line that repeats it has nothing to be kept.
    id: Option<Box<str>>,
    /// The store's word; `None`: it has not come.
    outcome: Option<Result<(), Refusal>>,
}

/// All lines that wait, by the user they are for. Bounded by what publishers may have waiting (`Publisher::is_held_back`).
#[derive(Default)]
pub struct KeptLines {
    users: HashMap<SmolStr, VecDeque<Waiting>, ahash::RandomState>,
}

impl KeptLines {
    fn of(&self, user: &str) -> Option<&VecDeque<Waiting>> {
        self.users.get(user)
    }

    /// The store has said this of a line. What repeats it has come to nothing with it.
    fn settle(&mut self, user: &str, ticket: u64, outcome: Result<(), Refusal>) {
        let Some(lines) = self.users.get_mut(user) else { return };
        let Some(at) = lines.iter().position(|line| line.ticket == ticket) else { return };
        if outcome.is_err()
            && let Some(id) = lines[at].id.clone()
        {
            let repeats = lines.iter_mut().skip(at + 1).filter(|line| line.id.as_ref() == Some(&id));
            repeats.for_each(|line| line.outcome = Some(outcome.clone()));
        }
        lines[at].outcome = Some(outcome);
    }

    /// Takes out the first line for a user that waits for nothing any more.
    fn next_settled(&mut self, user: &str) -> Option<Waiting> {
        let lines = self.users.get_mut(user)?;
        let next = lines.pop_front_if(|line| line.outcome.is_some());
        if lines.is_empty() {
            self.users.remove(user);
        }
        next
    }
}

impl Router {
    /// Lets a line wait, if something of it is to be kept, or if it is for somebody for whom one waits. `None`: it is to be
    /// published now.
    pub(super) fn keep_line(
        &mut self,
        key: usize,
        publisher: &mut Publisher,
        (number, text): (u64, &[u8]),
        line: &Publish<'_>,
        now: Now,
    ) -> Option<Result<(), NotKept>> {
        let Target::User(user) = &line.target else { return None };
        let is_for_mobile =
            self.settings.keeps[App::Mobile.index()] && line.app.is_none_or(|app| app == App::Mobile);
        let kept = is_for_mobile.then(|| mobile::kept(user, &line.event_name, line.data)).flatten();
        let waiting = self.chat.kept.of(user);
        if kept.is_none() && waiting.is_none() {
            return None;
        }
        let repeats = |line: &Waiting, id: &str| line.id.as_deref() == Some(id);
        let is_repeated = line.id.as_deref().is_some_and(|id| {
            waiting.is_some_and(|lines| lines.iter().any(|line| repeats(line, id)))
                || self.ids.is_known("user", user, id, now.mono)
        });
        let write = match kept {
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(write)) if !is_repeated => Some(write),
            _ if waiting.is_none() => return None,
            _ => None,
        };
        self.let_wait(key, publisher, (number, text), (user, line.id.as_deref()), write, now);
        Some(Ok(()))
    }

    fn let_wait(
        &mut self,
        key: usize,
        publisher: &mut Publisher,
        (number, text): (u64, &[u8]),
        (user, id): (&str, Option<&str>),
        write: Option<MobileWrite>,
        now: Now,
    ) {
        self.next_ticket += 1;
        let ticket = ticket(key, self.next_ticket);
        publisher.replies.wait(ticket, 1, Counted::Stored);
        publisher.waiting += text.len();
        let waiting = Waiting {
            ticket,
            key,
            number,
            text: text.into(),
            id: id.map(Box::from),
            outcome: write.is_none().then_some(Ok(())),
        };
        self.chat.kept.users.entry(user.into()).or_default().push_back(waiting);
        if let Some(write) = write {
            self.chat.ask_to_keep(ticket, user.into(), Write::Mobile(write), now);
        }
    }

    /// The store has answered for a line: it is published, and those behind it that wait for nothing else.
    pub(super) fn line_kept(
        &mut self,
        user: &str,
        ticket: u64,
        answer: &Result<Answer, Refusal>,
        now: Now,
        post: &mut impl Post,
    ) {
        self.chat.kept.settle(user, ticket, answer.as_ref().map(drop).map_err(Clone::clone));
        while let Some(line) = self.chat.kept.next_settled(user) {
            self.publish_kept(&line, now, post);
        }
    }

    /// Publishes a line that has waited, and answers it in its place. Its publisher may be gone.
    fn publish_kept(&mut self, line: &Waiting, now: Now, post: &mut impl Post) {
        let Waiting { ticket, key, number, ref text, .. } = *line;
        let mut lent = self.publishers.get_mut(key).and_then(Option::take);
        let mut nobody = Replies::default();
        let replies = lent.as_mut().map_or(&mut nobody, |publisher| &mut publisher.replies);
        let is_there = replies.has(ticket);
        let refused = match (&line.outcome, ingest::parse(&mut self.parser, text)) {
            (Some(Err(refusal)), _) => {
                let NotSaid { code, message } = NotSaid::from(refusal);
                Some((code, message))
            }
            (_, Ok(Line::Publish(publish))) => {
                match self.publish_line((key, Some(ticket)), replies, &publish, now, post) {
                    Ok(result) => {
                        self.count(result);
                        None
                    }
                    Err(refused) => Some(refused),
                }
            }
            // It was one when it came.
            _ => Some((ErrorCode::InternalError, "the line cannot be read".into())),
        };
        let is_refused = refused.is_some();
        if let Some((code, message)) = refused {
            replies.settle(ticket, |out| reply::write_error(out, number, line.id.as_deref(), code, &message));
            self.count(IngestResult::Rejected);
        }
        let Some(mut publisher) = lent else { return };
        if is_there {
            publisher.waiting = publisher.waiting.saturating_sub(text.len());
            publisher.errors += u64::from(is_refused);
        }
        self.publishers[key] = Some(publisher);
        self.send(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ticket: u64, id: &str, outcome: Option<Result<(), Refusal>>) -> Waiting {
        Waiting { ticket, key: 0, number: ticket, text: [].into(), id: Some(id.into()), outcome }
    }

    #[test]
    fn what_repeats_a_line_that_was_not_stored_is_refused_with_it() {
        let mut kept = KeptLines::default();
        let lines = [line(1, "a", None), line(2, "b", None), line(3, "a", Some(Ok(())))];
        kept.users.insert("ada".into(), lines.into());
        kept.settle("ada", 1, Err(Refusal::Forbidden));
        kept.settle("ada", 2, Ok(()));
        let outcomes: Vec<_> =
            std::iter::from_fn(|| kept.next_settled("ada")).map(|line| (line.ticket, line.outcome)).collect();
        let refused = Some(Err(Refusal::Forbidden));
        assert_eq!(outcomes, [(1, refused.clone()), (2, Some(Ok(()))), (3, refused)]);
        assert!(kept.users.is_empty());
    }
}
