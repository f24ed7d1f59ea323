//! What a database may be when it is opened: new, older, newer, foreign, no database at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fanfare::record::{Answer, MessageType, Query, TokenHash, Write};
use fanfare::store::{Database, Fault, StoreError};
use rusqlite::Connection;
use uuid::{Uuid, uuid};

use crate::fixture::{Directory, Fixture, START, person, words};

const VERSION_1: &str = include_str!("versions/1.sql");

fn refused(path: &Path) -> StoreError {
    match Database::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

fn schema(path: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    found.collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn a_database_of_version_1_is_brought_to_this_one() {
    let directory = Directory::new();
    Connection::open(directory.file()).unwrap().execute_batch(VERSION_1).unwrap();
    let mut store = Fixture::at(&directory.file());
    let conversation = uuid!("0196ee5b-0000-7000-8000-000000000001");
    let (known, first) = store.create("anna", "bert").unwrap();
    assert_eq!((known.id, first, known.unread), (conversation, false, 1));
    let history = store.history("bert", conversation);
    let said: Vec<_> =
        history.iter().map(|message| (message.kind, &*message.content, message.is_read)).collect();
    let photo = "https://example.com/p.jpg";
    assert_eq!(
        said,
        [
            (MessageType::System, "recorded", false),
            (MessageType::PhotoEphemeral, photo, true),
            (MessageType::Text, "hello", true)
        ]
    );
    assert_eq!(store.contacts("anna"), ["bert", "cleo"]);
    assert_eq!(store.unread("bert")[0].unread, 1);
    let photos = vec![history[1].id];
    assert_eq!(store.read(Query::Due { now: u64::MAX >> 1 }), Ok(Answer::Due(photos)));
    store.say("bert", conversation, "still here");
    let found = store.read(Query::AccountByEmail { email: "ANNA@example.com".into() }).unwrap();
    assert!(matches!(found, Answer::FoundAccount(Some(account)) if &*account.id == "u-1"));
    let refresh = Write::UseRefreshToken { token: TokenHash([1; 32]), replacement: None };
    assert!(matches!(store.write(refresh), Ok(Answer::Refreshed(_))));
    store.stop();

    let new = Directory::new();
    drop(Database::open(&new.file()).unwrap());
    assert_eq!(schema(&directory.file()), schema(&new.file()));
    assert_eq!(Database::open(&directory.file()).unwrap().miscounts().unwrap(), vec![]);
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let directory = Directory::new();
    drop(Database::open(&directory.file()).unwrap());
    let connection = Connection::open(directory.file()).unwrap();
    connection.pragma_update(None, "user_version", 77).unwrap();
    drop(connection);
    let before = fs::read(directory.file()).unwrap();
    let error = refused(&directory.file());
    assert!(matches!(error.fault, Fault::Newer { found: 77, known: 1.. }), "{error:?}");
    let text = error.to_string();
    for part in [&*directory.file().to_string_lossy(), "version 77", "up to", "newer fanfare"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(fs::read(directory.file()).unwrap(), before);
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_alone() {
    let directory = Directory::new();
    let text = directory.path().join("letter.txt");
    fs::write(&text, "Dear Anna, this is no database. ".repeat(100)).unwrap();
    let error = refused(&text);
    assert!(matches!(error.fault, Fault::NotADatabase), "{error:?}");
    assert!(
        error.to_string().contains("letter.txt") && error.to_string().contains("not a database"),
        "{error}"
    );
    assert!(fs::read_to_string(&text).unwrap().starts_with("Dear Anna"));

    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE contacts (name TEXT)").unwrap();
    let error = refused(&foreign);
    assert!(matches!(error.fault, Fault::Foreign), "{error:?}");
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(schema(&foreign).len(), 1);

    let marked = directory.path().join("marked.db");
    Connection::open(&marked).unwrap().pragma_update(None, "application_id", 7).unwrap();
    assert!(matches!(refused(&marked).fault, Fault::Foreign));

    let error = refused(directory.path());
    assert!(matches!(error.fault, Fault::Directory), "{error:?}");
    assert!(error.to_string().contains("is a directory"), "{error}");

    let error = refused(&directory.path().join("missing/test.db"));
    assert!(matches!(error.fault, Fault::File(_)), "{error:?}");
    assert!(error.to_string().contains("directory that exists"), "{error}");
}

#[test]
fn a_file_that_may_not_be_written_is_refused() {
    let directory = Directory::new();
    drop(Database::open(&directory.file()).unwrap());
    for (path, mode) in [(directory.file(), 0o444), (directory.path().to_owned(), 0o555)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let opened = Database::open(&directory.file());
    let fresh = Database::open(&directory.path().join("new.db"));
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    match (opened, fresh) {
        (Err(opened), Err(fresh)) => {
            assert!(opened.to_string().contains("writable"), "{opened}");
            assert!(fresh.to_string().contains("may write to"), "{fresh}");
        }
        // Nothing is forbidden to root.
        (opened, fresh) => assert!(opened.is_ok() && fresh.is_ok()),
    }
}

#[test]
fn nobody_else_may_read_a_new_database() {
    let directory = Directory::new();
    let mut store = Fixture::at(&directory.file());
    store.converse("anna", "bert");
    for entry in fs::read_dir(directory.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn an_empty_file_becomes_a_database_and_names_are_only_names() {
    let directory = Directory::new();
    fs::write(directory.file(), "").unwrap();
    drop(Database::open(&directory.file()).unwrap());
    let odd = directory.path().join("file:x?mode=memory");
    drop(Database::open(&odd).unwrap());
    assert!(odd.is_file());
}

#[test]
fn one_program_may_do_without_the_threads() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.file()).unwrap();
    let create =
        Write::CreateConversation { by: Some(person("anna")), participants: ["anna".into(), "bert".into()] };
    let Ok(Answer::Conversation { conversation, first: true }) = database.write(START, &create) else {
        panic!()
    };
    let send = |conversation| Write::Send { by: None, conversation, message: words("hello") };
    assert!(database.write(START, &send(conversation.id)).is_ok());
    assert!(database.write(START, &send(Uuid::nil())).is_err());
    drop(database);
    let mut store = Fixture::at(&directory.file());
    assert_eq!(store.history("anna", conversation.id).len(), 1);
}
