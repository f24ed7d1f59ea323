//! The server with a database of its own, and what it counts.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::compare::program::{Launch, Program, Running};
use crate::compare::settings::{Choice, Directory, configuration, variable};
use crate::failure::{Context, Failure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which server, and how it is set up.
#[derive(clap::Args)]
pub struct Options {
    /// The fanfare executable under test
    #[arg(long)]
    server: PathBuf,
    /// A key of its configuration, such as fanout.pace=2ms; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// Its shards
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// The longest wait of its turns: off, or such as 2ms
    #[arg(long, default_value = "2ms")]
    pace: String,
    /// Where its database is put, a directory that exists: the disk decides
    /// (default: the system's directory for temporary files)
    #[arg(long, value_name = "DIRECTORY")]
    disk: Option<PathBuf>,
}

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
    /// Starts it with this app, such as `CONVERSATION`, and no limits of rates.
    pub fn start(arguments: &Options, app: &str) -> Result<Self, Failure> {
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
            (format!("FANFARE_APPS__{app}"), "true".to_owned()),
            ("FANFARE_STORE__PATH".to_owned(), directory.path().join("fanfare.db").display().to_string()),
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

/// A connection on which no answer is waited for without end.
pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
