//! The server with a database of its own, the conversations in it, and what it
//! counts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Arguments;
use crate::compare::program::{Launch, Program, Running};
use crate::compare::settings::{Choice, Directory, configuration};
use crate::failure::{Context, Failure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server. It ends, and its database goes, with this value.
pub struct Server {
    running: Running,
    _directory: Directory,
}

/// What the store has counted by a moment.
#[derive(Clone, Copy)]
pub struct Counters {
    pub at: Instant,
    pub commits: f64,
    /// Changes in them: messages, and receipts of messages.
    pub requests: f64,
}

impl Server {
    /// Starts it with the app `conversation` and no limits of rates.
    pub fn start(arguments: &Arguments) -> Result<Self, Failure> {
        let directory = match &arguments.disk {
            Some(parent) => Directory::make_in(parent)?,
            None => Directory::make()?,
        };
        let place = || format!("--server {}: cannot be found", arguments.server.display());
        let executable = arguments.server.canonicalize().context(place)?;
        let config = directory.path().join("fanfare.toml");
        let choice = Choice { shards: arguments.shards, pace: arguments.pace.clone() };
        fs::write(&config, configuration(&choice)).context(|| config.display().to_string())?;
        let mut variables = vec![
            ("FANFARE_APPS__CONVERSATION".to_owned(), "true".to_owned()),
            ("FANFARE_STORE__PATH".to_owned(), directory.path().join("chat.db").display().to_string()),
        ];
        variables.extend(arguments.set.iter().cloned());
        let launch = Launch::Server { executable, config, variables };
        let program = Program { name: "server", launch, options: Vec::new() };
        let running = program.start(directory.path(), None)?;
        Ok(Self { running, _directory: directory })
    }

    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Makes a conversation for each of these pairs of users; returns their ids.
    pub fn converse(&self, pairs: impl Iterator<Item = (String, String)>) -> Result<Vec<String>, Failure> {
        let place = || format!("ingest connection to {}", self.running.ports.ingest);
        let mut stream = connect(self.running.ports.ingest).context(place)?;
        let mut answers = BufReader::new(stream.try_clone().context(place)?);
        let mut conversations = Vec::new();
        // One after the other, as a line is answered when it is on the disk, and
        // a server whose answers nobody reads would stop reading.
        for (first, second) in pairs {
            let line = json!({ "op": "conversation.create", "participants": [first, second], "id": conversations.len().to_string() });
            stream.write_all(format!("{line}\n").as_bytes()).context(place)?;
            let mut answer = String::new();
            answers.read_line(&mut answer).context(place)?;
            let value: Value = serde_json::from_str(&answer).unwrap_or_default();
            let id = value["conversation_id"].as_str();
            let id =
                id.ok_or_else(|| Failure::new(format!("no conversation was made: {}", answer.trim())))?;
            conversations.push(id.to_owned());
        }
        Ok(conversations)
    }
}

/// Asks for the counters. Waits for the answer, so this is not for the thread
/// that sends.
pub fn counters(admin: SocketAddr) -> Result<Counters, Failure> {
    let place = || format!("metrics of {admin}");
    let mut stream = connect(admin).context(place)?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context(place)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context(place)?;
    let at = Instant::now();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.trim().parse().ok());
        value.ok_or_else(|| Failure::new(format!("{}: there is no {name}", place())))
    };
    Ok(Counters {
        at,
        commits: number("fanfare_store_commits_total ")?,
        requests: number("fanfare_store_requests_total ")?,
    })
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
