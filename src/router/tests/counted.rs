//! Messages that are counted.

use super::*;
use crate::router::counted::{CountedMessages, Waiter};

const ACK: u64 = 17;
const TO: &str = "grace";

impl Bench {
    fn direct_message(&mut self) {
        self.client_says(&said(Target::User, TO, "1"), Some((ASKER, ACK)));
    }

    /// The shards' answer to all they were posted, and the counts that went back to clients.
    fn counts(&mut self, count: impl Fn(u8) -> u32) -> Vec<(u8, u64, u64)> {
        let mut delivered = Vec::new();
        while !self.posted.0.is_empty() {
            for (shard, message) in std::mem::take(&mut self.posted.0) {
                match message {
                    ToShard::Event { publication, .. } => {
                        let ticket = publication.ticket.expect("it is counted");
                        self.say(ToRouter::Count { ticket, count: count(shard) });
                    }
                    ToShard::Delivered { client: ASKER, ack, count } => delivered.push((shard, ack, count)),
                    other => panic!("{other:?} was not expected"),
                }
            }
        }
        delivered
    }
}

#[test]
fn the_counts_of_all_shards_are_added() {
    let mut bench = Bench::new();
    bench.connect(0, TO);
    bench.connect(1, TO);
    bench.direct_message();
    assert_eq!(bench.posted.0.len(), 2);
    assert_eq!(bench.counts(|shard| 2 + u32::from(shard)), [(ASKER.shard, ACK, 5)]);
    // Late, or not asked for.
    bench.say(ToRouter::Count { ticket: u64::MAX, count: 1 });
    assert!(bench.posted.0.is_empty());
}

#[test]
fn a_message_that_goes_nowhere_has_reached_nobody() {
    let mut bench = Bench::new();
    bench.direct_message();
    assert_eq!(bench.counts(|_| 1), [(ASKER.shard, ACK, 0)]);
    // The same where it is kept for somebody who may come back.
    bench.keep(0, &room("user:grace"));
    bench.direct_message();
    assert_eq!(bench.counts(|_| 1), [(ASKER.shard, ACK, 0)]);
    assert_eq!(bench.missed(query(1, vec![every(&room("user:grace"))])), texts(["1"]));
}

#[test]
fn a_message_that_is_not_counted_has_no_ticket() {
    let mut bench = Bench::new();
    bench.connect(0, TO);
    bench.client_says(&said(Target::User, TO, "1"), None);
    assert!(
        matches!(&bench.posted.0[..], [(0, ToShard::Event { publication, .. })] if publication.ticket.is_none())
    );
}

#[test]
fn counts_may_come_in_any_order_and_the_oldest_is_answered_when_there_are_too_many() {
    let (mut counted, mut posted) = (CountedMessages::holding(3), Posted::default());
    let tickets: Vec<u64> = (1..=3)
        .map(|serial| {
            counted.wait(serial * 5, Waiter::Client(ASKER, serial), 2, &mut posted).expect("it waits")
        })
        .collect();
    counted.count(tickets[1], 4, &mut posted);
    counted.count(tickets[1], 4, &mut posted);
    counted.count(tickets[1], 4, &mut posted);
    counted.count(tickets[0], 1, &mut posted);
    counted.wait(20, Waiter::Client(ASKER, 4), 1, &mut posted).expect("it waits");
    counted.wait(25, Waiter::Client(ASKER, 5), 1, &mut posted).expect("it waits");
    counted.count(tickets[0], 1, &mut posted);
    let delivered: Vec<(u64, u64)> = posted
        .0
        .iter()
        .map(|(_, message)| match message {
            ToShard::Delivered { ack, count, .. } => (*ack, *count),
            other => panic!("{other:?} was not expected"),
        })
        .collect();
    assert_eq!(delivered, [(2, 8), (1, 1)]);
}
