//! What cannot be seen from outside: the ways that SQLite takes, what fails in it, and the migrations.

mod mobile;
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, StatementStatus, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::database::Database;
use super::writer::Writer;
use super::{Asker, Effects, Job, Request, history, schema};
use crate::metrics::StoreMetrics;
use crate::record::{
    Answer, Effect, MessageType, NewAccount, NewMessage, NewRefreshToken, Person, Query, Refusal, TokenHash,
    Write,
};
use crate::settings::Secret;

const NOW: u64 = 1_747_751_400_000;

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new() -> File {
        File(std::env::temp_dir().join(format!("fanfare-store-{}.db", Uuid::now_v7())))
    }

    fn open(&self) -> Database {
        Database::open(&self.0).expect("a new file")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.0.display()));
        }
    }
}

fn person(id: &str) -> Person {
    Person { username: Some(id.into()), ..Person::unknown(id) }
}

fn message(content: &str) -> NewMessage {
    NewMessage {
        kind: MessageType::PhotoEphemeral,
        content: content.into(),
        metadata: None,
        client_message_id: Some(content.into()),
        ttl_seconds: Some(1),
    }
}

fn send(by: &str, conversation: Uuid, content: &str) -> Write {
    Write::Send { by: Some(person(by)), conversation, message: message(content) }
}

fn converse(database: &mut Database, a: &str, b: &str) -> Uuid {
    let write = Write::CreateConversation { by: Some(person(a)), participants: [a.into(), b.into()] };
    match database.write(NOW, &write) {
        Ok(Answer::Conversation { conversation, .. }) => conversation.id,
        other => panic!("{other:?}"),
    }
}

/// What SQLite did for one statement.
#[derive(Clone, Debug)]
struct Profile {
    sql: String,
    /// Steps of its machine.
    steps: i32,
    /// Rows of tables or indices that were walked from end to end.
    scanned: i32,
    /// Rows that had to be sorted.
    sorted: i32,
    /// Rows of indices that were made for this statement alone.
    indexed: i32,
}

/// Everything that a connection does from now on.
fn watch(database: &mut Database) -> Arc<Mutex<Vec<Profile>>> {
    let profiles = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&profiles);
    let note = move |event: TraceEvent<'_>| {
        if let TraceEvent::Profile(statement, _) = event {
            seen.lock().expect("one thread").push(Profile {
                sql: statement.sql().into_owned(),
                steps: statement.get_status(StatementStatus::VmStep),
                scanned: statement.get_status(StatementStatus::FullscanStep),
                sorted: statement.get_status(StatementStatus::Sort),
                indexed: statement.get_status(StatementStatus::AutoIndex),
            });
        }
    };
    // Statements that are kept would go on counting.
    database.connection().set_prepared_statement_cache_capacity(0);
    database
        .connection()
        .trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(note))
        .expect("no argument is wrong");
    profiles
}

fn take(profiles: &Mutex<Vec<Profile>>) -> Vec<Profile> {
    std::mem::take(&mut *profiles.lock().expect("one thread"))
}

/// The id of a message of [`long_history`].
fn nth(number: u32) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

/// Makes a history of so many messages, counted from 0.
fn long_history(database: &mut Database, conversation: Uuid, count: u32) {
    let connection = database.connection();
    let number: i64 = connection
        .query_row("SELECT number FROM conversations WHERE id = ?1", [conversation.to_string()], |row| {
            row.get(0)
        })
        .expect("it was made");
    let transaction = connection.transaction().expect("nothing else is under way");
    transaction
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)
             INSERT INTO messages (id, conversation, sender, type, content, created_at, updated_at)
             SELECT printf('00000000-0000-7000-8000-%012x', i), ?1, 'anna', 'text', 'number ' || i, ?3 + i, ?3 + i FROM n",
            params![number, count, NOW],
        )
        .expect("a valid statement");
    transaction
        .execute(
            "UPDATE participants SET last_message = ?2, unread = CASE user WHEN 'anna' THEN 0 ELSE ?2 END
             WHERE conversation = ?1",
            params![number, count],
        )
        .expect("a valid statement");
    transaction.commit().expect("there is room");
}

/// How many messages a long history has: SQLite itself is slow without optimisation.
const LONG: u32 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };

#[test]
fn every_page_of_a_long_history_costs_the_same() {
    let file = File::new();
    let mut database = file.open();
    let conversation = converse(&mut database, "anna", "bert");
    long_history(&mut database, conversation, LONG);
    let profiles = watch(&mut database);
    let mut costs = Vec::new();
    for before in [None, Some(LONG - 1), Some(LONG / 2), Some(100)] {
        let before = before.map(nth);
        let query = Query::Messages { user: "bert".into(), conversation, limit: 99, before };
        let Ok(Answer::Messages(page)) = database.read(&query) else { panic!() };
        assert_eq!(page.messages.len(), 99);
        let taken = take(&profiles);
        assert!(
            taken.iter().all(|profile| profile.scanned + profile.sorted + profile.indexed == 0),
            "{taken:?}"
        );
        let page = taken.iter().find(|profile| profile.sql == history::PAGE).expect("the page itself");
        costs.push(page.steps);
    }
    assert!(costs.iter().max() <= costs.iter().min().map(|least| least + least / 20).as_ref(), "{costs:?}");

    // A history with a long gap: whoever deletes much must not make others wait.
    let number = LONG / 2;
    let gap = "UPDATE messages SET deleted_at = 1 WHERE number BETWEEN ?1 AND ?1 + 50000";
    database.connection().execute(gap, [number]).expect("a valid statement");
    take(&profiles);
    let before = Some(nth(number + 50_010));
    let query = Query::Messages { user: "bert".into(), conversation, limit: 99, before };
    assert!(matches!(database.read(&query), Ok(Answer::Messages(page)) if page.messages.len() == 99));
    let page = take(&profiles).into_iter().find(|profile| profile.sql == history::PAGE).expect("the page");
    assert!(page.steps <= costs[0] + costs[0] / 20, "{page:?} {costs:?}");
}

#[test]
fn a_message_costs_the_same_in_a_long_history() {
    let file = File::new();
    let mut database = file.open();
    let (short, long) = (converse(&mut database, "anna", "cleo"), converse(&mut database, "anna", "bert"));
    long_history(&mut database, long, LONG);
    let profiles = watch(&mut database);
    let mut cost = |conversation: Uuid, other: &str| {
        take(&profiles);
        for content in ["one", "two", "three"] {
            let content = format!("{content} for {other}");
            let Ok(Answer::Sent { message, .. }) = database.write(NOW, &send("anna", conversation, &content))
            else {
                panic!()
            };
            let read = Write::Read { by: person(other), conversation, message: message.id };
            database.write(NOW, &read).expect("his");
            let delete = Write::Delete { by: person(other), conversation, message: message.id };
            database.write(NOW, &delete).expect("his");
        }
        take(&profiles).iter().map(|profile| profile.steps).sum::<i32>()
    };
    let (short, long) = (cost(short, "cleo"), cost(long, "bert"));
    assert!(long <= short + short / 4, "{long} steps in a long history, {short} in a short one");
}

/// The ways of every statement, as SQLite explains them.
#[test]
fn nothing_is_scanned_and_only_unread_conversations_are_sorted() {
    let file = File::new();
    let mut database = file.open();
    let profiles = watch(&mut database);
    everything(&mut database);
    let statements: BTreeMap<String, Vec<String>> = take(&profiles)
        .into_iter()
        .filter(|profile| !["PRAGMA", "BEGIN", "SAVEPOINT"].iter().any(|word| profile.sql.starts_with(word)))
        .map(|profile| (profile.sql, Vec::new()))
        .collect();
    assert!(statements.len() > 35, "{}", statements.len());
    for sql in statements.keys() {
        let plan = plan(database.connection(), sql);
        let scans = plan.iter().filter(|step| step.starts_with("SCAN"));
        assert_eq!(scans.count(), 0, "{sql}: {plan:?}");
        let sorts = plan.iter().any(|step| step.starts_with("USE TEMP B-TREE"));
        assert_eq!(sorts, sql == history::UNREAD, "{sql}: {plan:?}");
    }
    let plan = plan(database.connection(), history::PAGE);
    assert_eq!(plan, ["SEARCH m USING INDEX messages_history (conversation=? AND rowid<?)"]);
}

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
    let details = statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>();
    details.expect(sql)
}

/// Asks everything that can be asked.
fn everything(database: &mut Database) {
    let conversation = converse(database, "anna", "bert");
    let mut ids = Vec::new();
    for content in ["one", "one", "two", "three"] {
        match database.write(NOW, &send("anna", conversation, content)) {
            Ok(Answer::Sent { message, .. }) => ids.push(message.id),
            other => panic!("{other:?}"),
        }
    }
    let bert = || person("bert");
    let token = |number: u8| TokenHash([number; 32]);
    let email = || SmolStr::from("anna@example.com");
    let account = NewAccount {
        id: "anna".into(),
        email: email(),
        password_hash: Secret::new("hash"),
        username: "anna".into(),
        roles: "[]".into(),
    };
    let family = Uuid::now_v7();
    let saved =
        NewRefreshToken { token: token(1), family, user: "anna".into(), claims: None, expires_at: NOW + 1 };
    for write in [
        Write::Delivered { to: "bert".into(), conversation, message: ids[0] },
        Write::Read { by: bert(), conversation, message: ids[2] },
        Write::Delete { by: bert(), conversation, message: ids[3] },
        Write::AddAccount(account),
        Write::SaveRefreshToken(saved),
        Write::UseRefreshToken { token: token(1), replacement: Some((token(2), NOW + 2)) },
        Write::RevokeFamily { family },
        Write::SetPassword { email: email(), password_hash: Secret::new("other") },
        Write::SetDisabled { email: email(), disabled: true },
        Write::RemoveAccount { email: email() },
    ] {
        assert!(database.write(NOW, &write).is_ok(), "{write:?}");
    }
    let user = || SmolStr::from("anna");
    for query in [
        Query::Unread { user: user(), limit: 10 },
        Query::Contacts { user: user(), limit: 10 },
        Query::Participants { user: Some(user()), conversation },
        Query::Conversations { user: user(), limit: 10, before: None },
        Query::Messages { user: user(), conversation, limit: 10, before: Some(ids[2]) },
        Query::Due { now: NOW + 1_000 },
        Query::AccountByEmail { email: email() },
        Query::Accounts { after: "".into(), limit: 10 },
    ] {
        assert!(database.read(&query).is_ok(), "{query:?}");
    }
    assert!(database.next_due().expect("a valid statement").is_some());
    assert_eq!(database.write(NOW + 1_000, &Write::Expire), Ok(Answer::Expired { count: 2 }));
}

/// Keeps what a writer says.
#[derive(Clone)]
struct Said(Sender<Word>);

impl Effects for Said {
    fn publish(&mut self, effect: Effect) {
        let _ = self.0.send(Ok(effect));
    }

    fn answer(&mut self, _asker: Asker, answer: Result<Answer, Refusal>) {
        let _ = self.0.send(Err(answer));
    }

    fn flush(&mut self) {}
}

/// What others are told, or an answer.
type Word = Result<Effect, Result<Answer, Refusal>>;

/// Carries out these requests in one transaction, and ends.
fn together(database: Database, writes: Vec<Write>) -> (Receiver<Word>, Arc<StoreMetrics>) {
    let (jobs, queue) = bounded(writes.len() + 1);
    for (ticket, what) in (0..).zip(writes) {
        let asker = Asker::Router { ticket };
        jobs.send(Job::Request(Request { asker, at: NOW, what })).expect("there is room");
    }
    jobs.send(Job::Stop).expect("there is room");
    let (said, heard) = unbounded();
    let metrics = Arc::new(StoreMetrics::default());
    let (times, _) = bounded(1);
    let writer =
        Writer::new(database, queue, Said(said), Arc::clone(&metrics), times).expect("an open database");
    writer.run();
    (heard, metrics)
}

#[test]
fn a_request_that_the_database_fails_at_fails_alone() {
    let file = File::new();
    let mut database = file.open();
    let conversation = converse(&mut database, "anna", "bert");
    // It fails when much has been done already.
    let poison = "CREATE TRIGGER poison AFTER UPDATE ON participants WHEN new.last_message IN
                  (SELECT number FROM messages WHERE content = 'poison')
                  BEGIN SELECT RAISE(ABORT, 'poisoned'); END";
    database.connection().execute_batch(poison).expect("a valid statement");
    let writes = ["one", "poison", "two"].map(|content| send("anna", conversation, content));
    let (heard, metrics) = together(database, writes.into());
    let heard: Vec<_> = heard.iter().collect();
    match &heard[..] {
        [
            Ok(Effect::MessageNew { unread: first, .. }),
            Err(Ok(Answer::Sent { .. })),
            Err(Err(Refusal::Internal { .. })),
            Ok(Effect::MessageNew { unread: second, .. }),
            Err(Ok(Answer::Sent { .. })),
        ] => {
            assert_eq!(first[..], [("bert".into(), 1)]);
            assert_eq!(second[..], [("bert".into(), 2)]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((metrics.commits.get(), metrics.requests.get(), metrics.failures.get()), (1, 3, 0));
    let mut database = file.open();
    assert_eq!(database.miscounts(), Ok(vec![]));
}

#[test]
fn of_a_transaction_that_fails_nothing_remains_and_nobody_is_told() {
    let file = File::new();
    let mut database = file.open();
    let conversation = converse(&mut database, "anna", "bert");
    // Only the commit itself finds out.
    let poison = "CREATE TABLE broken (number INTEGER REFERENCES conversations (number) DEFERRABLE INITIALLY DEFERRED);
                  CREATE TRIGGER poison AFTER INSERT ON messages WHEN new.content = 'poison'
                  BEGIN INSERT INTO broken VALUES (-1); END";
    database.connection().execute_batch(poison).expect("a valid statement");
    let create = Write::CreateConversation { by: None, participants: ["anna".into(), "cleo".into()] };
    let writes = vec![create, send("anna", conversation, "one"), send("anna", conversation, "poison")];
    let (heard, metrics) = together(database, writes);
    let refusals: Vec<_> = heard
        .iter()
        .map(|said| match said {
            Err(Err(refusal @ Refusal::Internal { .. })) => refusal,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(refusals.len(), 3);
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "one line in the log");
    assert_eq!((metrics.commits.get(), metrics.failures.get()), (0, 1));

    let database = file.open();
    let create = Write::CreateConversation { by: None, participants: ["anna".into(), "cleo".into()] };
    let (heard, _) = together(database, vec![send("anna", conversation, "one"), create]);
    let heard: Vec<_> = heard.iter().collect();
    assert!(
        matches!(
            &heard[..],
            [
                Ok(Effect::MessageNew { .. }),
                Err(Ok(Answer::Sent { first: true, .. })),
                Ok(Effect::ConversationNew { .. }),
                Err(Ok(Answer::Conversation { first: true, .. })),
            ]
        ),
        "{heard:?}"
    );
}

#[test]
fn a_full_disk_is_an_answer() {
    let file = File::new();
    let mut database = file.open();
    let conversation = converse(&mut database, "anna", "bert");
    let pages: u32 =
        database.connection().pragma_query_value(None, "page_count", |row| row.get(0)).expect("a number");
    database.connection().pragma_update(None, "max_page_count", pages + 4).expect("a number");
    let writes =
        (0..20).map(|number| send("anna", conversation, &format!("{number}").repeat(3_000))).collect();
    let (heard, _) = together(database, writes);
    let (mut stored, mut refused) = (0, 0);
    for said in heard.iter() {
        match said {
            Err(Ok(Answer::Sent { .. })) => stored += 1,
            Err(Err(Refusal::Internal { .. })) => refused += 1,
            Ok(Effect::MessageNew { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stored + refused, 20);
    assert!(refused > 0);
    let mut database = file.open();
    let query = Query::Messages { user: "anna".into(), conversation, limit: 100, before: None };
    assert!(matches!(database.read(&query), Ok(Answer::Messages(page)) if page.messages.len() == stored));
    assert_eq!(database.miscounts(), Ok(vec![]));
}

#[test]
fn a_database_gets_the_scripts_that_it_lacks() {
    let mut connection = Connection::open_in_memory().expect("memory");
    let scripts = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (2)", "INSERT INTO a VALUES (3)"];
    for (known, rows) in [(1, 0), (1, 0), (2, 1), (3, 2), (2, 2)] {
        schema::run(&mut connection, &scripts[..known]).expect("valid scripts");
        let found: u32 =
            connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).expect("a number");
        assert_eq!(found, rows);
    }
    assert_eq!(schema::version(&connection), Ok(3));
}

#[test]
fn a_script_that_fails_changes_nothing() {
    let mut connection = Connection::open_in_memory().expect("memory");
    let scripts = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (2); INSERT INTO nowhere VALUES (3)"];
    assert!(schema::run(&mut connection, &scripts).is_err());
    assert_eq!(schema::version(&connection), Ok(1));
    let rows: u32 = connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).expect("a number");
    assert_eq!(rows, 0);
}

/// SQLite prepares a statement again whose plan may depend on a value that has changed, which costs as much as the
/// statement itself.
/// The statements that were prepared more than once while something ran.
fn prepared_again(database: &mut Database, run: impl FnOnce(&mut Database)) -> BTreeMap<String, i32> {
    let counts = Arc::new(Mutex::new(BTreeMap::<String, i32>::new()));
    let seen = Arc::clone(&counts);
    let note = move |event: TraceEvent<'_>| {
        if let TraceEvent::Profile(statement, _) = event {
            let count = statement.get_status(StatementStatus::RePrepare);
            seen.lock().expect("one thread").insert(statement.sql().into_owned(), count);
        }
    };
    let codes = TraceEventCodes::SQLITE_TRACE_PROFILE;
    database.connection().trace_v2(codes, Some(note)).expect("no argument is wrong");
    run(database);
    let counts = counts.lock().expect("one thread").clone();
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn no_statement_is_prepared_twice() {
    let file = File::new();
    let mut database = file.open();
    let conversation = converse(&mut database, "anna", "bert");
    let again = prepared_again(&mut database, |database| {
        for number in 0..10 {
            let Ok(Answer::Sent { message, .. }) =
                database.write(NOW + number, &send("anna", conversation, &number.to_string()))
            else {
                panic!()
            };
            let message = message.id;
            for write in [
                Write::Delivered { to: "bert".into(), conversation, message },
                Write::Read { by: person("bert"), conversation, message },
            ] {
                database.write(NOW + number, &write).expect("his");
            }
            for query in [
                Query::Messages { user: "anna".into(), conversation, limit: 10, before: Some(message) },
                Query::Conversations { user: "anna".into(), limit: 10, before: None },
            ] {
                database.read(&query).expect("hers");
            }
        }
    });
    assert!(again.is_empty(), "{again:#?}");
}
