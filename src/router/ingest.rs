//! From what publishers send to what is done about it, line by line.

use subtle::ConstantTimeEq;

use crate::app::conversation::{self, NotSaid};
use crate::app::mobile::NotKept;
use crate::close::ErrorCode;
use crate::limits::{TURN_BYTES, TURN_EVENTS};
use crate::mailbox::ToShard;
use crate::metrics::IngestResult;
use crate::proto::ingest::{self, Line, Piece, reply};
use crate::router::publisher::{Publisher, Source};
use crate::router::replies::{Counted, ticket};
use crate::router::{Post, Router};
use crate::time::Now;

/// What a turn may still take from the publishers.
struct Budget {
    lines: usize,
    bytes: usize,
}

impl Router {
    /// Reads once from each publisher that has something and has used up what was read before. What shards have said
    /// until now may be told to the router before the lines are published, so that whoever was told that he is
    /// connected or has joined gets what is published after it.
    pub fn read_publishers(&mut self) {
        for at in 0..self.ready.len() {
            let key = self.ready[at];
            let Some(publisher) = self.publishers.get_mut(key).and_then(Option::as_mut) else { continue };
            if publisher.is_held_back() || !publisher.is_used_up() || !publisher.is_readable {
                continue;
            }
            match publisher.fill(&mut self.read_scratch) {
                Ok(bytes) => self.metrics.ingest_bytes.add(bytes as u64),
                Err(_) => publisher.is_broken = true,
            }
        }
    }

    /// Publishes what was read, at most a turn's worth. Returns whether anything was left over.
    pub fn publish_lines(&mut self, now: Now, post: &mut impl Post) -> bool {
        let mut budget = Budget { lines: TURN_EVENTS, bytes: TURN_BYTES };
        let mut left_over = false;
        for key in std::mem::take(&mut self.ready) {
            let Some(publisher) = self.publisher(key) else { continue };
            publisher.is_ready = false;
            left_over |= self.publish_lines_of(key, &mut budget, now, post);
        }
        // Those of whom something is left are ready again, in the same order. The first, who may have spoken through all
        // of the budget, goes behind those that had to wait.
        let shift = usize::from(self.ready.len() > 1);
        self.ready.rotate_left(shift);
        left_over
    }

    /// Publishes what was read from one publisher. It is ready again if there may be more. Returns whether some of what
    /// was read is left.
    fn publish_lines_of(&mut self, key: usize, budget: &mut Budget, now: Now, post: &mut impl Post) -> bool {
        // Lent out of the table while the rest of the router works for it.
        let Some(mut publisher) = self.publishers.get_mut(key).and_then(Option::take) else { return false };
        if !publisher.is_used_up() && !publisher.is_held_back() && !budget.is_spent() {
            self.publish_input(key, &mut publisher, budget, now, post);
        }
        if publisher.is_over
            && publisher.splitter.is_mid_line()
            && matches!(publisher.source, Source::Socket(_))
        {
            self.count(IngestResult::Truncated);
            publisher.splitter = ingest::Splitter::new(self.settings.max_line);
        }
        let left_over = !publisher.is_used_up();
        self.publishers[key] = Some(publisher);
        self.send(key);
        left_over
    }

    /// Publishes the lines of what was read, until the budget is spent.
    fn publish_input(
        &mut self,
        key: usize,
        publisher: &mut Publisher,
        budget: &mut Budget,
        now: Now,
        post: &mut impl Post,
    ) {
        let (input, at) = publisher.take_input();
        let mut rest = &input[at..];
        let mut splitter = std::mem::replace(&mut publisher.splitter, ingest::Splitter::new(0));
        let mut goes_on = true;
        while goes_on && !budget.is_spent() && !publisher.is_held_back() {
            let before = rest.len();
            let piece = splitter.next(&mut rest);
            // What is no line, or skipped, costs time too.
            budget.bytes = budget.bytes.saturating_sub(before - rest.len());
            let Some(piece) = piece else { break };
            budget.lines -= 1;
            publisher.lines += 1;
            goes_on = match piece {
                Piece::Line { number, text } => self.line(key, publisher, number, text, now, post),
                Piece::TooLong { number } => {
                    let message =
                        format!("a line has at most {} bytes: split the data", self.settings.max_line);
                    self.refuse(publisher, number, None, ErrorCode::MessageTooLarge, &message);
                    true
                }
            };
        }
        let at = input.len() - rest.len();
        publisher.splitter = splitter;
        match goes_on {
            true => publisher.put_back(input, at),
            false => {
                publisher.is_over = true;
                publisher.is_readable = false;
            }
        }
    }

    /// One line. Returns false if the publisher is to be let go.
    fn line(
        &mut self,
        key: usize,
        publisher: &mut Publisher,
        number: u64,
        text: &[u8],
        now: Now,
        post: &mut impl Post,
    ) -> bool {
        match ingest::parse(&mut self.parser, text) {
            Ok(Line::Auth { token }) => self.authenticate(publisher, number, &token),
            _ if !publisher.is_trusted => {
                let message = "show the token first: {\"op\":\"auth\",\"token\":\"…\"}";
                self.refuse(publisher, number, None, ErrorCode::AuthRequired, message);
                false
            }
            Ok(Line::Publish(publish)) => {
                match self.keep_line(key, publisher, (number, text), &publish, now) {
                    Some(Ok(())) => return true,
                    Some(Err(NotKept(error))) => {
                        let id = publish.id.as_deref();
                        self.refuse(publisher, number, id, ErrorCode::ValidationError, error);
                        return true;
                    }
                    None => {}
                }
                match self.publish_line((key, None), &mut publisher.replies, &publish, now, post) {
                    Ok(result) => self.count(result),
                    Err((code, message)) => {
                        self.refuse(publisher, number, publish.id.as_deref(), code, &message);
                    }
                }
                true
            }
            Ok(Line::ConversationCreate(line)) => {
                self.store_line(
                    key,
                    publisher,
                    (number, line.id.as_deref()),
                    conversation::create(&line),
                    now,
                );
                true
            }
            Ok(Line::ConversationMessage(line)) => {
                match conversation::say(&line) {
                    Ok(what) => self.store_line(key, publisher, (number, line.id.as_deref()), what, now),
                    Err(NotSaid { code, message }) => {
                        self.refuse(publisher, number, line.id.as_deref(), code, &message);
                    }
                }
                true
            }
            Ok(operation) => {
                self.operation(key, publisher, operation, post);
                true
            }
            Err(error) => {
                self.refuse(publisher, number, error.id.as_deref(), error.code, &error.message);
                true
            }
        }
    }

    fn authenticate(&mut self, publisher: &mut Publisher, number: u64, token: &str) -> bool {
        let expected = self.settings.token.as_bytes();
        if !expected.is_empty() && !bool::from(token.as_bytes().ct_eq(expected)) {
            let message = "this is not the token of ingest.token";
            self.refuse(publisher, number, None, ErrorCode::AuthRequired, message);
            return false;
        }
        publisher.is_trusted = true;
        publisher.replies.write(reply::write_ok);
        self.count(IngestResult::Operation);
        true
    }

    fn operation(&mut self, key: usize, publisher: &mut Publisher, line: Line<'_>, post: &mut impl Post) {
        self.count(IngestResult::Operation);
        match line {
            Line::Listen { events, app } => {
                for event in events {
                    let entry = (Box::from(&*event), app);
                    // Bounded: a publisher that asks again and again only repeats itself or is cut off here.
                    if publisher.listens.len() < ingest::LISTEN_EVENTS && !publisher.listens.contains(&entry)
                    {
                        publisher.listens.push(entry);
                    }
                }
                publisher.replies.write(reply::write_ok);
            }
            Line::Disconnect { user, code, reason } => {
                let shards = self.presences.shards(&user);
                self.next_ticket += 1;
                let ticket = ticket(key, self.next_ticket);
                publisher.replies.wait(ticket, shards.len(), Counted::Disconnected);
                for shard in shards.shards() {
                    let (user, reason) = ((&*user).into(), (&*reason).into());
                    post.post(shard, ToShard::Disconnect { user, code, reason, ticket });
                }
            }
            Line::Rooms => {
                let rooms = self.rooms.public() as u64;
                let subscriptions = self.shard_metrics.iter().map(|shard| shard.subscriptions.get()).sum();
                publisher.replies.write(|out| reply::write_rooms(out, rooms, subscriptions));
            }
            Line::Presence { user } => {
                let connections = u64::from(self.presences.connections(&user));
                publisher.replies.write(|out| reply::write_presence(out, &user, connections));
            }
            Line::Ping => publisher.replies.write(reply::write_pong),
            // Taken care of before.
            Line::Publish(_)
            | Line::Auth { .. }
            | Line::ConversationCreate(_)
            | Line::ConversationMessage(_) => {}
        }
    }

    pub(super) fn refuse(
        &mut self,
        publisher: &mut Publisher,
        number: u64,
        id: Option<&str>,
        code: ErrorCode,
        message: &str,
    ) {
        publisher.errors += 1;
        publisher.replies.write(|out| reply::write_error(out, number, id, code, message));
        self.count(IngestResult::Rejected);
    }

    pub(super) fn count(&self, result: IngestResult) {
        self.metrics.ingest_messages[result as usize].add(1);
    }
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.lines == 0 || self.bytes == 0
    }
}
