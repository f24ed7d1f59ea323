//! The process is killed in the middle of its work, again and again: what was acknowledged is there, once.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fanfare::mailbox::{Asker, Request};
use fanfare::record::{Answer, Write};
use fanfare::store::Database;
use uuid::Uuid;

use crate::fixture::{Directory, Fixture, Said, named, person};

/// Says where the database is, to the process that is to be killed.
const FILE: &str = "FANFARE_STORE_TEST_FILE";

const KILLS: u32 = 20;

/// Messages that are under way at a time.
const OUTSTANDING: usize = 100;

/// Names that are acknowledged in each life at least.
const AT_LEAST: usize = 20;

/// Not a test: the process that is killed. Says things in two conversations without end, and writes down each name when
/// its message is acknowledged.
#[test]
#[ignore = "started by what_was_acknowledged_survives_kill"]
fn victim() {
    let Some(file) = env::var_os(FILE) else { return };
    let mut store = Fixture::at(Path::new(&file));
    let conversations = [store.converse("anna", "bert"), store.converse("anna", "cleo")];
    let mut names = HashMap::new();
    let life = Uuid::now_v7();
    for ticket in 0.. {
        if ticket >= OUTSTANDING {
            acknowledge(&store, &mut names);
        }
        let name = format!("{life}-{ticket}");
        let message = named(&name, &name);
        let write =
            Write::Send { by: Some(person("anna")), conversation: conversations[ticket % 2], message };
        let asker = Asker::Router { ticket: ticket as u64 };
        names.insert(asker, name);
        store.store.write(Request { asker, at: store.now + ticket as u64, what: write }).unwrap();
    }
}

fn acknowledge(store: &Fixture, names: &mut HashMap<Asker, String>) {
    loop {
        if let Said::Answer(asker, Ok(Answer::Sent { first: true, .. })) = store.said.recv().unwrap() {
            let name = names.remove(&asker).unwrap();
            // One call for each line: half a line would be a name that nobody was told.
            let line = format!("acknowledged {name}\n");
            return std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        }
    }
}

/// Ends the victim whatever happens.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets the victim live until so much was acknowledged, and a little longer; returns all names that were.
fn one_life(file: &Path, after: Duration) -> Vec<String> {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::victim", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut victim = Victim(child);
    let output = victim.0.stdout.take().unwrap();
    let (lines, acknowledged) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The harness says things of its own, on the same line as the first of ours.
            if let Some((_, name)) = line.split_once("acknowledged ") {
                let _ = lines.send(name.to_owned());
            }
        }
    });
    let mut names: Vec<String> = acknowledged.iter().take(AT_LEAST).collect();
    assert_eq!(names.len(), AT_LEAST, "the victim died by itself");
    thread::sleep(after);
    drop(victim);
    reader.join().unwrap();
    names.extend(acknowledged.iter());
    names
}

#[test]
fn what_was_acknowledged_survives_kill() {
    let directory = Directory::new();
    let file = directory.file();
    let mut acknowledged = Vec::new();
    let mut random = u64::from(std::process::id()) | 1;
    for _ in 0..KILLS {
        // Xorshift: any moment of the work may be the last.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        acknowledged.extend(one_life(&file, Duration::from_micros(random % 60_000)));
    }
    let mut store = Fixture::at(&file);
    let mut found = HashMap::<String, u32>::new();
    for other in ["bert", "cleo"] {
        let conversation = store.converse("anna", other);
        let (mut count, mut before) = (0, None);
        loop {
            let page = store.page("anna", conversation, 100, before).unwrap();
            count += page.messages.len() as u64;
            for message in page.messages {
                assert_eq!(message.client_message_id.as_deref(), Some(&*message.content));
                *found.entry(message.content.to_string()).or_default() += 1;
            }
            before = page.next_before;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(store.unread(other)[0].unread, count);
    }
    assert!(acknowledged.len() >= KILLS as usize * AT_LEAST);
    for name in &acknowledged {
        assert_eq!(found.get(name), Some(&1), "{name}");
    }
    assert!(
        found.values().all(|count| *count == 1),
        "also what was not acknowledged is there once, or not at all"
    );
    let under_way = found.len() - acknowledged.len();
    assert!(under_way <= KILLS as usize * OUTSTANDING, "{under_way} more than were acknowledged");

    let conversation = store.converse("anna", "bert");
    for name in acknowledged.iter().take(100) {
        let (_, first) = store.send("anna", conversation, named(name, name)).unwrap();
        assert!(!first, "who sends it again is told what became of it");
    }
    assert_eq!(Database::open(&file).unwrap().miscounts().unwrap(), vec![]);
    let connection = rusqlite::Connection::open(&file).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
