//! The store without anything around it: group commit, with so many senders, each of whom says the next thing when the last
//! is acknowledged; and pages of a short and of a very long history.
//!
//! `cargo bench --bench store [-- DIRECTORY]`: the database is made in DIRECTORY (default: the directory for temporary
//! files), whose disk decides. Without `--bench` it only runs, briefly.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use fanfare::mailbox::{Asker, Request};
use fanfare::metrics::StoreMetrics;
use fanfare::metrics::latency::LatencyStore;
use fanfare::record::{Answer, Effect, MessageType, NewMessage, Person, Query, Refusal, Write};
use fanfare::store::{Effects, Store, StoreThreads};
use rusqlite::{Connection, params};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Answers(Sender<(Asker, Result<Answer, Refusal>)>);

impl Effects for Answers {
    fn publish(&mut self, _effect: Effect) {}

    fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>) {
        let _ = self.0.send((asker, answer));
    }

    fn flush(&mut self) {}
}

struct Bench {
    store: Store,
    answers: Receiver<(Asker, Result<Answer, Refusal>)>,
    metrics: Arc<StoreMetrics>,
    conversations: Vec<(Person, Uuid)>,
}

impl Bench {
    fn answer(&self) -> (Asker, Answer) {
        let (asker, answer) = self.answers.recv_timeout(PATIENCE).unwrap();
        (asker, answer.unwrap())
    }

    fn write(&self, ticket: u64, what: Write) {
        let at = fanfare::time::Now::read().unix_ms();
        self.store.write(Request { asker: Asker::Router { ticket }, at, what }).unwrap();
    }

    fn say(&self, sender: u64) {
        let (by, conversation) = &self.conversations[sender as usize % self.conversations.len()];
        let message = NewMessage {
            kind: MessageType::Text,
            content: "Are you coming tonight? We meet at eight, at the usual place.".into(),
            metadata: None,
            client_message_id: Some(Uuid::now_v7().to_string().into()),
            ttl_seconds: None,
        };
        self.write(sender, Write::Send { by: Some(by.clone()), conversation: *conversation, message });
    }

    fn converse(&mut self, count: usize) {
        for number in 0..count {
            let by = Person::unknown(format!("sender-{number}"));
            let participants = [by.id.clone(), format!("recipient-{number}").into()];
            self.write(0, Write::CreateConversation { by: Some(by.clone()), participants });
            let (_, Answer::Conversation { conversation, .. }) = self.answer() else { panic!() };
            self.conversations.push((by, conversation.id));
        }
    }

    fn run(&self, senders: u64, duration: Duration) {
        self.store.commit_times(PATIENCE).unwrap();
        let (commits, requests) = (self.metrics.commits.get(), self.metrics.requests.get());
        let began = Instant::now();
        (0..senders).for_each(|sender| self.say(sender));
        let mut waiting = senders;
        while waiting > 0 {
            let (Asker::Router { ticket }, _) = self.answer() else { panic!() };
            match began.elapsed() < duration {
                true => self.say(ticket),
                false => waiting -= 1,
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let commits = (self.metrics.commits.get() - commits) as f64;
        let messages = (self.metrics.requests.get() - requests) as f64;
        let mut times = LatencyStore::new(0, 0);
        times.merge_commits(&self.store.commit_times(PATIENCE).unwrap());
        let [median, _, p99, _] = times.commits().last_minute().unwrap().quantiles.map(|time| time * 1e3);
        println!(
            "{senders:>5} senders: {:>8.0} messages/s, {:>6.0} commits/s, {:>6.1} messages/commit; commit p50 {median:.2} \
             ms, p99 {p99:.2} ms",
            messages / seconds,
            commits / seconds,
            messages / commits,
        );
    }

    /// How long a page of the first conversation takes, one after another, that begins before each of these messages.
    fn read(&self, count: u32, duration: Duration) {
        let (by, conversation) = &self.conversations[0];
        let mut times = Vec::new();
        for before in [count, count / 2, PAGE + 1] {
            let before = Some(nth(before - 1));
            let (began, mut pages) = (Instant::now(), 0u32);
            while began.elapsed() < duration {
                let user = by.id.clone();
                let what =
                    Query::Messages { user, conversation: *conversation, limit: PAGE as usize, before };
                self.store.read(Request { asker: Asker::Router { ticket: 0 }, at: 0, what }).unwrap();
                let (_, Answer::Messages(page)) = self.answer() else { panic!() };
                assert_eq!(page.messages.len(), PAGE as usize);
                pages += 1;
            }
            times.push(format!("{:.1}", began.elapsed().as_secs_f64() * 1e6 / f64::from(pages)));
        }
        println!(
            "{count:>9} messages: a page of {PAGE} takes {} µs (newest, middle, oldest)",
            times.join(", ")
        );
    }
}

/// Messages of a page.
const PAGE: u32 = 50;

/// The id of a message of [`long_history`].
fn nth(number: u32) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

/// Makes a history of so many messages, counted from 0, in a conversation that has none. Not by the store, which would
/// take a minute.
fn long_history(file: &Path, conversation: Uuid, count: u32) {
    let connection = Connection::open(file).unwrap();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)
        INSERT INTO messages (id, conversation, sender, type, content, created_at, updated_at)
        SELECT printf('00000000-0000-7000-8000-%012x', i), number, first, 'text',
            'Are you coming tonight? We meet at eight, at the usual place. ' || i, i, i
        FROM n JOIN conversations ON id = ?1 ORDER BY i";
    connection.execute(sql, params![conversation.to_string(), count]).unwrap();
}

fn start(file: &Path) -> (Bench, StoreThreads) {
    let (answers, answered) = unbounded();
    let metrics = Arc::new(StoreMetrics::default());
    let (store, threads) = Store::start(file, Answers(answers), Arc::clone(&metrics)).unwrap();
    (Bench { store, answers: answered, metrics, conversations: Vec::new() }, threads)
}

/// Group commit.
fn commits(file: &Path, duration: Duration) {
    let (mut bench, threads) = start(file);
    bench.converse(200);
    for senders in [1, 10, 200, 2_000] {
        bench.run(senders, duration);
    }
    threads.stop();
}

/// Histories.
fn pages(file: &Path, count: u32, duration: Duration) {
    let (mut bench, threads) = start(file);
    bench.converse(1);
    long_history(file, bench.conversations[0].1, count);
    bench.read(count, duration);
    threads.stop();
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    let duration = if is_bench { Duration::from_secs(2) } else { Duration::from_millis(20) };
    in_file(&directory, |file| commits(file, duration));
    for count in if is_bench { [1_000, 1_000_000] } else { [100, 1_000] } {
        in_file(&directory, |file| pages(file, count, duration / 4));
    }
}

/// Measures with a new database, which goes.
fn in_file(directory: &Path, measure: impl FnOnce(&Path)) {
    let file = directory.join(format!("fanfare-bench-{}.db", Uuid::now_v7()));
    measure(&file);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
}
