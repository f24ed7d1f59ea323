//! What a publisher is still to be answered. Answers stand in the order of its lines; one that waits for the shards'
//! counts holds back those behind it.

use std::collections::VecDeque;

use crate::proto::ingest::{Target, reply};

/// Answers that may wait at once; beyond them the publisher is not read.
pub const OPEN_REPLIES: usize = 4_096;
/// Of them those that wait for the store, whose queue they fill.
pub const STORED_REPLIES: usize = 64;
/// Written answers that the publisher has not taken yet; beyond them it is not read.
pub const UNREAD_BYTES: usize = 256 * 1024;
/// Bits of a ticket that count; those above name the publisher.
const SERIAL_BITS: u32 = 40;
/// No publisher: the tickets of what clients publish. There are never so many publishers.
pub const CLIENTS: usize = (1 << (u64::BITS - SERIAL_BITS)) - 1;

/// Whom an acknowledged publish was for.
#[derive(Debug)]
pub enum Addressee {
    /// The members of a room.
    Room(Box<str>),
    /// A user.
    User(Box<str>),
    /// Everyone.
    Everyone,
}

/// An answer that waits for counts.
#[derive(Debug)]
pub enum Counted {
    /// To a publish with an id.
    Ack {
        /// The line's id.
        id: Box<str>,
        /// Whom it was for.
        addressee: Addressee,
        /// Its offset.
        offset: u64,
    },
    /// To a `disconnect`.
    Disconnected,
    /// What the store answers ([`Replies::settle`]).
    Stored,
}

#[derive(Debug)]
enum Reply {
    Written(Vec<u8>),
    Waiting { ticket: u64, shards: u32, count: u64, what: Counted },
}

/// The answers of one publisher.
#[derive(Debug, Default)]
pub struct Replies {
    open: VecDeque<Reply>,
    /// Bytes of written answers in `open`.
    held: usize,
    /// Answers that wait for the store.
    stored: usize,
    /// Ready to be sent.
    pub out: Vec<u8>,
}

/// The publisher a ticket belongs to.
pub const fn publisher_of(ticket: u64) -> usize {
    (ticket >> SERIAL_BITS) as usize
}

/// The ticket of a publisher's answer. Serials grow over the life of the process, so a late count never meets
/// another publisher's answer.
pub const fn ticket(publisher: usize, serial: u64) -> u64 {
    (publisher as u64) << SERIAL_BITS | (serial & ((1 << SERIAL_BITS) - 1))
}

impl Replies {
    /// Whether as many answers wait as may.
    pub fn is_full(&self) -> bool {
        self.open.len() >= OPEN_REPLIES || self.stored >= STORED_REPLIES
    }

    /// Bytes of written answers, those included that stand behind one that waits.
    pub fn bytes(&self) -> usize {
        self.out.len() + self.held
    }

    /// Whether nothing waits.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Writes an answer that needs no counts.
    pub fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        match self.open.back_mut() {
            None => fill(&mut self.out),
            Some(Reply::Written(text)) => {
                self.held -= text.len();
                fill(text);
                self.held += text.len();
            }
            Some(Reply::Waiting { .. }) => {
                let mut text = Vec::new();
                fill(&mut text);
                self.held += text.len();
                self.open.push_back(Reply::Written(text));
            }
        }
    }

    /// Puts an answer in line that waits for the counts of so many shards.
    pub fn wait(&mut self, ticket: u64, shards: u32, what: Counted) {
        self.stored += usize::from(matches!(what, Counted::Stored));
        match shards {
            0 => self.write(|out| write_counted(out, &what, 0)),
            _ => self.open.push_back(Reply::Waiting { ticket, shards, count: 0, what }),
        }
    }

    /// Whether an answer waits under this ticket.
    pub fn has(&self, ticket: u64) -> bool {
        self.open
            .iter()
            .any(|reply| matches!(reply, Reply::Waiting { ticket: known, .. } if *known == ticket))
    }

    /// Lets the answer in its place wait for the counts of so many shards from now on.
    pub fn wait_on(&mut self, ticket: u64, shards: u32, what: Counted) {
        if shards == 0 {
            self.settle(ticket, |out| write_counted(out, &what, 0));
            return;
        }
        self.replace(ticket, Reply::Waiting { ticket, shards, count: 0, what });
    }

    /// Puts another answer in the place of one that waits. False: none waits under this ticket.
    fn replace(&mut self, ticket: u64, by: Reply) -> bool {
        let waiting = self.open.iter_mut().find_map(|reply| match reply {
            Reply::Waiting { ticket: known, what, .. } if *known == ticket => {
                let is_stored = matches!(what, Counted::Stored);
                Some((reply, is_stored))
            }
            _ => None,
        });
        let Some((reply, is_stored)) = waiting else { return false };
        self.stored -= usize::from(is_stored);
        *reply = by;
        true
    }

    /// One shard's count has come.
    pub fn count(&mut self, ticket: u64, count: u32) {
        let place = |reply: &Reply| matches!(reply, Reply::Waiting { ticket: known, .. } if *known == ticket);
        // The oldest answers are settled first, so it stands near the front.
        if let Some(Reply::Waiting { shards, count: sum, .. }) =
            self.open.iter().position(place).and_then(|place| self.open.get_mut(place))
        {
            *shards -= 1;
            *sum += u64::from(count);
        }
        self.move_out();
    }

    /// Writes the answer that a ticket waits for, in its place. False: nothing waits for it here.
    pub fn settle(&mut self, ticket: u64, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut text = Vec::new();
        fill(&mut text);
        let length = text.len();
        if !self.replace(ticket, Reply::Written(text)) {
            return false;
        }
        self.held += length;
        self.move_out();
        true
    }

    /// Moves out what need not wait any more.
    fn move_out(&mut self) {
        while let Some(reply) = self.open.front() {
            match reply {
                Reply::Written(text) => {
                    self.held -= text.len();
                    self.out.extend_from_slice(text);
                }
                Reply::Waiting { shards: 0, count, what, .. } => write_counted(&mut self.out, what, *count),
                Reply::Waiting { .. } => break,
            }
            self.open.pop_front();
        }
    }
}

fn write_counted(out: &mut Vec<u8>, what: &Counted, count: u64) {
    match what {
        Counted::Ack { id, addressee, offset } => {
            let target = match addressee {
                Addressee::Room(name) => Target::Room((&**name).into()),
                Addressee::User(name) => Target::User((&**name).into()),
                Addressee::Everyone => Target::Broadcast,
            };
            reply::write_ack(out, id, &target, *offset, count, false);
        }
        Counted::Disconnected => reply::write_disconnected(out, count),
        // No shard counts it.
        Counted::Stored => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_has_answered_keeps_nobody_waiting() {
        let mut replies = Replies::default();
        let ack = || Counted::Ack { id: "a".into(), addressee: Addressee::Everyone, offset: 1 };
        for serial in 0..STORED_REPLIES as u64 {
            replies.wait(ticket(3, serial), 1, Counted::Stored);
        }
        assert!(replies.is_full());
        for serial in 0..STORED_REPLIES as u64 {
            match serial % 3 {
                0 => replies.wait_on(ticket(3, serial), 2, ack()),
                1 => replies.wait_on(ticket(3, serial), 0, ack()),
                _ => assert!(replies.settle(ticket(3, serial), |_| {})),
            }
        }
        assert!(!replies.is_full() && !replies.is_settled());
        for serial in (0..STORED_REPLIES as u64).step_by(3) {
            replies.count(ticket(3, serial), 1);
            replies.count(ticket(3, serial), 1);
        }
        assert!(replies.is_settled() && replies.bytes() == replies.out.len() && replies.stored == 0);
    }

    #[test]
    fn answers_come_in_the_order_of_the_lines() {
        let mut replies = Replies::default();
        let ack = |id: &str| Counted::Ack { id: id.into(), addressee: Addressee::Everyone, offset: 1 };
        replies.wait(ticket(3, 1), 2, ack("a"));
        replies.write(|out| out.extend_from_slice(b"b\n"));
        replies.wait(ticket(3, 2), 1, Counted::Disconnected);
        replies.count(ticket(3, 2), 5);
        replies.count(ticket(3, 1), 1);
        assert!(replies.out.is_empty());
        assert_eq!(replies.bytes(), 2);
        replies.count(ticket(3, 9), 1);
        replies.count(ticket(3, 1), 2);
        let text = String::from_utf8(std::mem::take(&mut replies.out)).expect("text");
        assert_eq!(
            text,
            "{\"id\":\"a\",\"ok\":true,\"broadcast\":true,\"offset\":1,\"subscribers\":3}\nb\n{\"ok\":true,\"connections\":5}\n"
        );
        assert!(replies.is_settled());
        assert_eq!(replies.bytes(), 0);
        assert_eq!(publisher_of(ticket(3, 9)), 3);
    }
}
