//! Messages of which somebody wants to know how many connections they reached: what waits for the shards' counts.

use std::collections::VecDeque;

use crate::limits::COUNTED_MESSAGES;
use crate::mailbox::ToShard;
use crate::record::Write;
use crate::room::publication::ClientId;
use crate::router::Post;
use crate::router::replies::{CLIENTS, ticket};

/// Who wants to know.
#[derive(Debug)]
pub enum Waiter {
    /// A client, for the acknowledgement with this id.
    Client(ClientId, u64),
    /// The store, if anybody was reached at all.
    Receipt(Write),
}

/// A message that waits for counts.
struct Open {
    ticket: u64,
    waiter: Waiter,
    /// Shards that have not counted yet.
    shards: u32,
    count: u64,
}

/// All that wait, oldest first. Bounded by what is on its way to the shards, which the lanes bound; and should a shard
/// lag behind the others for long, by `most`: then the oldest is answered with what has been counted.
pub struct CountedMessages {
    open: VecDeque<Open>,
    most: usize,
    /// What the store is to be told, now that somebody was reached.
    pub receipts: Vec<Write>,
}

impl Default for CountedMessages {
    fn default() -> CountedMessages {
        CountedMessages { open: VecDeque::new(), most: COUNTED_MESSAGES, receipts: Vec::new() }
    }
}

impl CountedMessages {
    /// With another bound.
    #[cfg(test)]
    pub fn holding(most: usize) -> CountedMessages {
        CountedMessages { most, ..CountedMessages::default() }
    }

    /// Waits for the counts of so many shards; `serial` is higher than any before. Returns the ticket that the counts
    /// come with, none if there is nothing to wait for: the waiter is told at once.
    pub fn wait(&mut self, serial: u64, waiter: Waiter, shards: u32, post: &mut impl Post) -> Option<u64> {
        let open = Open { ticket: ticket(CLIENTS, serial), waiter, shards, count: 0 };
        if shards == 0 {
            self.answer(open, post);
            return None;
        }
        if self.open.len() >= self.most
            && let Some(oldest) = self.open.pop_front()
        {
            self.answer(oldest, post);
        }
        let ticket = open.ticket;
        self.open.push_back(open);
        Some(ticket)
    }

    /// One shard's count has come. One that was answered already is not found.
    pub fn count(&mut self, ticket: u64, count: u32, post: &mut impl Post) {
        let place = self.open.partition_point(|open| open.ticket < ticket);
        let Some(open) = self.open.get_mut(place).filter(|open| open.ticket == ticket) else { return };
        open.count += u64::from(count);
        open.shards -= 1;
        // Nearly always the oldest, or one of the first.
        if open.shards == 0
            && let Some(open) = self.open.remove(place)
        {
            self.answer(open, post);
        }
    }

    fn answer(&mut self, open: Open, post: &mut impl Post) {
        match open.waiter {
            Waiter::Client(client, ack) => {
                post.post(client.shard, ToShard::Delivered { client, ack, count: open.count });
            }
            Waiter::Receipt(receipt) => self.receipts.extend((open.count > 0).then_some(receipt)),
        }
    }
}
