//! Group commit, order, full queues, and the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use fanfare::mailbox::{Asker, Request};
use fanfare::metrics::StoreMetrics;
use fanfare::record::{Answer, Effect, Query, Refusal, Write};
use fanfare::room::publication::ClientId;
use fanfare::store::{Effects, NotTaken, QUEUE, Store};

use crate::fixture::{Directory, Fixture, Recorder, START, Said, person, words};

fn client(ticket: u64) -> Asker {
    Asker::Client { client: ClientId { shard: 1, slot: 2, generation: 3 }, ticket }
}

#[test]
fn what_waits_is_committed_together_and_told_in_order() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let before = (store.metrics.commits.get(), store.metrics.requests.get());
    const COUNT: u64 = 2_000;
    for ticket in 0..COUNT {
        let what =
            Write::Send { by: Some(person("anna")), conversation, message: words(&ticket.to_string()) };
        store.store.write(Request { asker: client(ticket), at: START, what }).unwrap();
    }
    for ticket in 0..COUNT {
        let Said::Effect(Effect::MessageNew { message, unread, .. }) = store.said.recv().unwrap() else {
            panic!()
        };
        assert_eq!(&*message.content, &*ticket.to_string());
        assert_eq!(unread, [("bert".into(), ticket + 1)]);
        let answered = Answer::Sent { message, first: true };
        match store.said.recv().unwrap() {
            Said::Answer(asker, answer) => assert_eq!((asker, answer), (client(ticket), Ok(answered))),
            other => panic!("{other:?}"),
        }
    }
    let (commits, requests) =
        (store.metrics.commits.get() - before.0, store.metrics.requests.get() - before.1);
    assert_eq!(requests, COUNT);
    assert!(commits < COUNT / 4, "{commits} commits");
    assert_eq!(store.metrics.failures.get(), 0);

    let times = || store.store.commit_times(Duration::from_secs(60)).unwrap().count();
    assert_eq!(times(), store.metrics.commits.get());
    assert_eq!(times(), 0);
}

#[test]
fn a_full_queue_takes_nothing_and_waits_for_nobody() {
    /// Tells that it has an answer, and does not go on until it is let go.
    #[derive(Clone)]
    struct Stuck(Sender<()>, Receiver<()>, Recorder);
    impl Effects for Stuck {
        fn publish(&mut self, effect: Effect) {
            self.2.publish(effect);
        }
        fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>) {
            let _ = self.0.try_send(());
            let _ = self.1.recv();
            self.2.answer(asker, answer);
        }
        fn flush(&mut self) {}
    }
    let directory = Directory::new();
    let (let_go, held) = bounded::<()>(0);
    let (recorder, said) = Recorder::new();
    let metrics = Arc::new(StoreMetrics::default());
    let (stuck, is_stuck) = bounded(2);
    let effects = Stuck(stuck, held, recorder);
    let (store, threads) = Store::start(&directory.file(), effects, metrics).unwrap();
    let contacts = || Query::Contacts { user: "anna".into(), limit: 1 };
    let mut taken = [1, 1];
    store.write(Request { asker: client(0), at: START, what: Write::Expire }).unwrap();
    store.read(Request { asker: client(0), at: START, what: contacts() }).unwrap();
    for _ in 0..2 {
        is_stuck.recv().unwrap();
    }
    while store.write(Request { asker: client(taken[0]), at: START, what: Write::Expire }).is_ok() {
        taken[0] += 1;
        assert!(taken[0] <= 2 * QUEUE as u64);
    }
    while store.read(Request { asker: client(taken[1]), at: START, what: contacts() }).is_ok() {
        taken[1] += 1;
        assert!(taken[1] <= 2 * QUEUE as u64);
    }
    assert_eq!(taken, [QUEUE as u64 + 1; 2]);
    let refused = store.write(Request { asker: client(0), at: START, what: Write::Expire });
    assert_eq!(refused, Err(NotTaken::Full));
    assert_eq!(store.queue_length(), 2 * QUEUE);
    drop(let_go);
    let mut answers = HashMap::<u64, u32>::new();
    for _ in 0..taken[0] + taken[1] {
        let Said::Answer(Asker::Client { ticket, .. }, Ok(_)) = said.recv().unwrap() else { panic!() };
        *answers.entry(ticket).or_default() += 1;
    }
    assert_eq!(answers.len() as u64, taken[0].max(taken[1]));
    threads.stop();
    assert_eq!(store.queue_length(), 0);
}

#[test]
fn the_end_commits_what_waits_and_takes_no_more() {
    let directory = Directory::new();
    let mut store = Fixture::at(&directory.file());
    let conversation = store.converse("anna", "bert");
    for ticket in 0..3_000 {
        let what = Write::Send { by: Some(person("anna")), conversation, message: words("hello") };
        store.store.write(Request { asker: client(ticket), at: START, what }).unwrap();
    }
    store.stop();
    let answers =
        store.said.try_iter().filter(|said| matches!(said, Said::Answer(_, Ok(Answer::Sent { .. }))));
    assert_eq!(answers.count(), 3_000);
    let late = Request { asker: client(0), at: START, what: Write::Expire };
    assert_eq!(store.store.write(late), Err(NotTaken::Stopped));
    let late = Request { asker: client(0), at: START, what: Query::Due { now: 0 } };
    assert_eq!(store.store.read(late), Err(NotTaken::Stopped));
    let mut left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["test.db", "test.db-lock"], "the log is in the file");
    drop(store);

    let mut store = Fixture::at(&directory.file());
    assert_eq!(store.unread("bert")[0].unread, 3_000);
}
