//! From what publishers send to what is done about it, line by line.

use subtle::ConstantTimeEq;

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
    /// Publishes what the publishers have sent, at most a turn's worth. Returns whether anything was left over.
    pub fn read_publishers(&mut self, now: Now, post: &mut impl Post) -> bool {
        let mut budget = Budget { lines: TURN_EVENTS, bytes: TURN_BYTES };
        for key in std::mem::take(&mut self.ready) {
            let Some(publisher) = self.publisher(key) else { continue };
            publisher.is_ready = false;
            self.read_publisher(key, &mut budget, now, post);
        }
        // Those of whom something is left are ready again, in the same order. The first, who may have spoken through all
        // of the budget, goes behind those that had to wait.
        let shift = usize::from(self.ready.len() > 1);
        self.ready.rotate_left(shift);
        !self.ready.is_empty()
    }

    /// Publishes what one publisher has sent. It is ready again if something is left that could be published now.
    fn read_publisher(&mut self, key: usize, budget: &mut Budget, now: Now, post: &mut impl Post) {
        // Lent out of the table while the rest of the router works for it.
        let Some(mut publisher) = self.publishers.get_mut(key).and_then(Option::take) else { return };
        let is_broken = loop {
            if publisher.is_held_back() {
                break false;
            }
            if !publisher.is_used_up() {
                let goes_on = self.publish_input(key, &mut publisher, budget, now, post);
                if !goes_on {
                    break false;
                }
            }
            if budget.is_spent() || !publisher.is_readable {
                break false;
            }
            match publisher.fill(&mut self.read_scratch) {
                Ok(bytes) => self.metrics.ingest_bytes.add(bytes as u64),
                Err(_) => break true,
            }
        };
        if publisher.is_over
            && publisher.splitter.is_mid_line()
            && matches!(publisher.source, Source::Socket(_))
        {
            self.count(IngestResult::Truncated);
            publisher.splitter = ingest::Splitter::new(self.settings.max_line);
        }
        self.publishers[key] = Some(publisher);
        match is_broken {
            true => self.let_go(key),
            false => self.send(key),
        }
    }

    /// Publishes the lines of what was read, until the budget is spent. Returns whether to go on reading.
    fn publish_input(
        &mut self,
        key: usize,
        publisher: &mut Publisher,
        budget: &mut Budget,
        now: Now,
        post: &mut impl Post,
    ) -> bool {
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
        goes_on && publisher.is_used_up()
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
                match self.publish_line(key, publisher, &publish, now, post) {
                    Ok(result) => self.count(result),
                    Err((code, message)) => {
                        self.refuse(publisher, number, publish.id.as_deref(), code, &message);
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
            Line::Publish(_) | Line::Auth { .. } => {}
        }
    }

    fn refuse(
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

    fn count(&self, result: IngestResult) {
        self.metrics.ingest_messages[result as usize].add(1);
    }
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.lines == 0 || self.bytes == 0
    }
}
