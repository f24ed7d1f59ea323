//! Messages of clients that are told how many connections they reached: what waits for the shards' counts.

use std::collections::VecDeque;

use crate::limits::COUNTED_MESSAGES;
use crate::mailbox::ToShard;
use crate::room::publication::ClientId;
use crate::router::Post;
use crate::router::replies::{CLIENTS, ticket};

/// A message that waits for counts.
struct Open {
    ticket: u64,
    client: ClientId,
    ack: u64,
    /// Shards that have not counted yet.
    shards: u32,
    count: u64,
}

/// All that wait, oldest first. Bounded by what is on its way to the shards, which the lanes bound; and should a shard
/// lag behind the others for long, by `most`: then the oldest is answered with what has been counted.
pub struct CountedMessages {
    open: VecDeque<Open>,
    most: usize,
}

impl Default for CountedMessages {
    fn default() -> CountedMessages {
        CountedMessages { open: VecDeque::new(), most: COUNTED_MESSAGES }
    }
}

impl CountedMessages {
    /// With another bound.
    #[cfg(test)]
    pub fn holding(most: usize) -> CountedMessages {
        CountedMessages { most, ..CountedMessages::default() }
    }

    /// Waits for the counts of so many shards; `serial` is higher than any before. Returns the ticket that the counts
    /// come with, none if there is nothing to wait for: the client is told at once.
    pub fn wait(
        &mut self,
        serial: u64,
        (client, ack): (ClientId, u64),
        shards: u32,
        post: &mut impl Post,
    ) -> Option<u64> {
        let open = Open { ticket: ticket(CLIENTS, serial), client, ack, shards, count: 0 };
        if shards == 0 {
            open.answer(post);
            return None;
        }
        if self.open.len() >= self.most
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.answer(post);
        }
        let ticket = open.ticket;
        self.open.push_back(open);
        Some(ticket)
    }

    /// One shard's count has come. One that was answered already is not found.
    pub fn count(&mut self, ticket: u64, count: u32, post: &mut impl Post) {
        let place = self.open.partition_point(|open| open.ticket < ticket);
        let Some(open) = self.open.get_mut(place).filter(|open| open.ticket == ticket && open.shards > 0)
        else {
            return;
        };
        open.count += u64::from(count);
        open.shards -= 1;
        if open.shards == 0 {
            open.answer(post);
        }
        while self.open.front().is_some_and(|open| open.shards == 0) {
            self.open.pop_front();
        }
    }
}

impl Open {
    fn answer(&self, post: &mut impl Post) {
        let Open { client, ack, count, .. } = *self;
        post.post(client.shard, ToShard::Delivered { client, ack, count });
    }
}
