//! A store on a real file, asked one thing after another: what every test here is written against. Another backend
//! behind `Store` would have to pass the same tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fanfare::mailbox::{Asker, Request};
use fanfare::metrics::StoreMetrics;
use fanfare::record::{
    Answer, Conversation, Cursor, Effect, Message, MessageType, NewMessage, Page, Person, Query, Refusal,
    Write,
};
use fanfare::store::{Effects, Store, StoreThreads};
use uuid::Uuid;

/// 20 May 2025, 14:30 UTC.
pub const START: u64 = 1_747_751_400_000;

/// How long an answer may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("fanfare-store-{}", Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("test.db")
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the store has said, in order.
#[derive(Clone, Debug)]
pub enum Said {
    Effect(Effect),
    Answer(Asker, Result<Answer, Refusal>),
}

/// Keeps all that the store says, the writing thread's and the reading thread's.
#[derive(Clone)]
pub struct Recorder(Sender<Said>);

impl Recorder {
    pub fn new() -> (Recorder, Receiver<Said>) {
        let (sender, receiver) = unbounded();
        (Recorder(sender), receiver)
    }
}

impl Effects for Recorder {
    fn publish(&mut self, effect: Effect) {
        let _ = self.0.send(Said::Effect(effect));
    }

    fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>) {
        let _ = self.0.send(Said::Answer(asker, answer));
    }

    fn flush(&mut self) {}
}

/// A running store.
pub struct Fixture {
    pub store: Store,
    pub metrics: Arc<StoreMetrics>,
    pub said: Receiver<Said>,
    threads: Option<StoreThreads>,
    path: PathBuf,
    /// The time of the next request.
    pub now: u64,
    ticket: AtomicU64,
    /// What others were told since the last look.
    told: Vec<Effect>,
    _directory: Option<Directory>,
}

impl Fixture {
    pub fn new() -> Fixture {
        let directory = Directory::new();
        let mut fixture = Fixture::at(&directory.file());
        fixture._directory = Some(directory);
        fixture
    }

    pub fn at(path: &Path) -> Fixture {
        let (recorder, said) = Recorder::new();
        let metrics = Arc::new(StoreMetrics::default());
        let (store, threads) = Store::start(path, recorder, Arc::clone(&metrics)).unwrap();
        Fixture {
            store,
            metrics,
            said,
            threads: Some(threads),
            path: path.to_owned(),
            now: START,
            ticket: AtomicU64::new(0),
            told: Vec::new(),
            _directory: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops the store and starts it again on the same file.
    pub fn restart(&mut self) {
        self.stop();
        let directory = self._directory.take();
        let now = self.now;
        *self = Fixture::at(&self.path.clone());
        self._directory = directory;
        self.now = now;
    }

    pub fn stop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }

    fn asker(&self) -> Asker {
        Asker::Router { ticket: self.ticket.fetch_add(1, Ordering::Relaxed) }
    }

    /// Asks for a change, a millisecond after the one before.
    pub fn write(&mut self, what: Write) -> Result<Answer, Refusal> {
        self.now += 1;
        let asker = self.asker();
        self.store.write(Request { asker, at: self.now, what }).unwrap();
        self.answer(asker)
    }

    pub fn read(&mut self, what: Query) -> Result<Answer, Refusal> {
        let asker = self.asker();
        self.store.read(Request { asker, at: self.now, what }).unwrap();
        self.answer(asker)
    }

    fn answer(&mut self, waiting: Asker) -> Result<Answer, Refusal> {
        loop {
            match self.said.recv_timeout(PATIENCE).expect("an answer") {
                Said::Effect(effect) => self.told.push(effect),
                Said::Answer(asker, answer) if asker == waiting => return answer,
                Said::Answer(asker, answer) => panic!("{asker:?} got {answer:?}"),
            }
        }
    }

    /// What others were told since the last look.
    pub fn told(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.told)
    }

    /// Waits until others are told of something.
    pub fn wait_for_effect(&mut self) -> Effect {
        if !self.told.is_empty() {
            return self.told.remove(0);
        }
        match self.said.recv_timeout(PATIENCE).expect("an effect") {
            Said::Effect(effect) => effect,
            Said::Answer(asker, answer) => panic!("{asker:?} got {answer:?}"),
        }
    }

    pub fn converse(&mut self, a: &str, b: &str) -> Uuid {
        self.create(a, b).unwrap().0.id
    }

    pub fn create(&mut self, by: &str, with: &str) -> Result<(Conversation, bool), Refusal> {
        let create =
            Write::CreateConversation { by: Some(person(by)), participants: [by.into(), with.into()] };
        match self.write(create)? {
            Answer::Conversation { conversation, first } => Ok((*conversation, first)),
            other => panic!("{other:?}"),
        }
    }

    pub fn say(&mut self, by: &str, conversation: Uuid, content: &str) -> Message {
        let (message, first) = self.send(by, conversation, words(content)).unwrap();
        assert!(first);
        message
    }

    pub fn send(
        &mut self,
        by: &str,
        conversation: Uuid,
        message: NewMessage,
    ) -> Result<(Message, bool), Refusal> {
        match self.write(Write::Send { by: Some(person(by)), conversation, message })? {
            Answer::Sent { message, first } => Ok((message, first)),
            other => panic!("{other:?}"),
        }
    }

    pub fn see(&mut self, by: &str, conversation: Uuid, message: Uuid) -> Result<Answer, Refusal> {
        self.write(Write::Read { by: person(by), conversation, message })
    }

    pub fn delete(&mut self, by: &str, conversation: Uuid, message: Uuid) -> Result<Answer, Refusal> {
        self.write(Write::Delete { by: person(by), conversation, message })
    }

    pub fn page(
        &mut self,
        user: &str,
        conversation: Uuid,
        limit: usize,
        before: Option<Uuid>,
    ) -> Result<Page, Refusal> {
        match self.read(Query::Messages { user: user.into(), conversation, limit, before })? {
            Answer::Messages(page) => Ok(page),
            other => panic!("{other:?}"),
        }
    }

    /// The whole history, newest first.
    pub fn history(&mut self, user: &str, conversation: Uuid) -> Vec<Message> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = self.page(user, conversation, 7, before).unwrap();
            all.extend(page.messages);
            before = page.next_before;
            if before.is_none() {
                return all;
            }
        }
    }

    pub fn conversations(&mut self, user: &str, limit: usize, before: Option<Cursor>) -> Vec<Conversation> {
        match self.read(Query::Conversations { user: user.into(), limit, before }).unwrap() {
            Answer::Conversations(conversations) => conversations,
            other => panic!("{other:?}"),
        }
    }

    pub fn unread(&mut self, user: &str) -> Vec<Conversation> {
        match self.read(Query::Unread { user: user.into(), limit: Query::MOST_UNREAD }).unwrap() {
            Answer::Conversations(conversations) => conversations,
            other => panic!("{other:?}"),
        }
    }

    pub fn contacts(&mut self, user: &str) -> Vec<String> {
        match self.read(Query::Contacts { user: user.into(), limit: Query::MOST_CONTACTS }).unwrap() {
            Answer::Contacts(users) => users.iter().map(|user| user.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A user whose token says how to show him.
pub fn person(id: &str) -> Person {
    Person {
        id: id.into(),
        username: Some(format!("{id} by name").into()),
        avatar_url: Some(format!("https://example.com/{id}.png").into()),
    }
}

pub fn words(content: &str) -> NewMessage {
    NewMessage {
        kind: MessageType::Text,
        content: content.into(),
        metadata: None,
        client_message_id: None,
        ttl_seconds: None,
    }
}

/// The same, under a name of the client's.
pub fn named(name: &str, content: &str) -> NewMessage {
    NewMessage { client_message_id: Some(name.into()), ..words(content) }
}

/// A photo that is there for so long once it was seen.
pub fn ephemeral(ttl_seconds: u32) -> NewMessage {
    NewMessage {
        kind: MessageType::PhotoEphemeral,
        content: "https://example.com/photo.jpg".into(),
        metadata: Some(format!("{{\"ttl_seconds\":{ttl_seconds}}}").into()),
        client_message_id: None,
        ttl_seconds: Some(ttl_seconds),
    }
}
