//! What the admin port asks of the broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::admin::{Control, PublishError, Published};
use crate::broker::Inner;
use crate::broker::backing::Backed;
use crate::metrics::latency::{Latencies, Timing};
use crate::metrics::{RouterMetrics, ShardMetrics, StoreMetrics};
use crate::router::BodyResult;
use crate::run::RouterCommand;
use crate::shard::turn::Command;

/// How long the admin port waits for the shards.
const ANSWER: Duration = Duration::from_secs(1);
/// How long it waits for the outcome of a publish.
const PUBLISH_ANSWER: Duration = Duration::from_secs(8);

impl Control for Inner {
    fn shards(&self) -> &[Arc<ShardMetrics>] {
        &self.shard_metrics
    }

    fn router(&self) -> &RouterMetrics {
        &self.router_metrics
    }

    fn collect_latencies(&self, spares: Vec<Box<Latencies>>) -> Vec<(usize, Box<Latencies>)> {
        let mut waiting = 0;
        for ((shard, asked), spare) in self.reach.shards.iter().zip(&self.asked).zip(spares) {
            waiting += 1;
            if !asked.swap(true, Ordering::AcqRel) {
                shard.send(Command::Latencies { spare, reply: self.latencies.0.clone() });
            }
        }
        let until = Instant::now() + ANSWER;
        let mut answers = Vec::with_capacity(waiting);
        while answers.len() < waiting {
            let Ok((shard, filled)) = self.latencies.1.recv_deadline(until) else { break };
            self.asked[shard].store(false, Ordering::Release);
            answers.push((shard, filled));
        }
        answers
    }

    fn store(&self) -> Option<(&StoreMetrics, usize)> {
        self.backed.as_ref().map(Backed::metrics)
    }

    fn commit_times(&self) -> Option<Box<Timing>> {
        self.backed.as_ref()?.commit_times()
    }

    fn top_rooms(&self, limit: usize) -> Vec<(String, u64)> {
        let (reply, answers) = bounded(self.reach.shards.len());
        for shard in &*self.reach.shards {
            shard.send(Command::TopRooms { limit, reply: reply.clone() });
        }
        drop(reply);
        let until = Instant::now() + ANSWER;
        let mut rooms = HashMap::<String, u64>::new();
        while let Ok(answer) = answers.recv_deadline(until) {
            for (room, members) in answer {
                *rooms.entry(room).or_default() += members;
            }
        }
        let mut rooms: Vec<(String, u64)> = rooms.into_iter().collect();
        rooms.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rooms.truncate(limit);
        rooms
    }

    fn publish(&self, body: Vec<u8>) -> Result<Published, PublishError> {
        if self.draining() {
            return Err(PublishError::Draining);
        }
        let (reply, result) = bounded(1);
        let command = RouterCommand::Publish { body, reply };
        self.reach.router.commands.try_send(command).map_err(|_| PublishError::Overloaded)?;
        self.reach.router.alarm.ring();
        let BodyResult { replies, lines, errors } =
            result.recv_timeout(PUBLISH_ANSWER).map_err(|_| PublishError::TimedOut)?;
        Ok(Published { lines: replies, total: lines, accepted: lines - errors, rejected: errors })
    }

    fn drain(&self) {
        Inner::drain(self);
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
