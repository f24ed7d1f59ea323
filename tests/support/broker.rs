//! The real binary with a temporary configuration; killed by its process id when the test ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::http::{self, Response};
use super::token::SECRET;
use super::{Client, Publisher, eventually};

/// A directory that is removed at the end of the test.
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub fn new() -> TemporaryDirectory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TemporaryDirectory(path)
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that does not outlive the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running broker.
pub struct Broker {
    child: Process,
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where backends publish.
    pub ingest: SocketAddr,
    /// Where metrics and health are served.
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    settings: BTreeMap<String, String>,
    /// Of `serve`, beside the configuration.
    flags: &'static [&'static str],
    directory: TemporaryDirectory,
}

impl Broker {
    /// Starts with `lines` of TOML, each one dotted key; those given replace the defaults of the tests: free ports on
    /// loopback, no limit on connects, a drain without pause.
    pub fn start(lines: &[&str]) -> Broker {
        Broker::try_start(lines).unwrap_or_else(|log| panic!("the broker did not start: {log}"))
    }

    /// As [`Broker::start`], with `serve --dev`: any origin may connect, and there are users to sign in as.
    pub fn start_dev(lines: &[&str]) -> Broker {
        let started = Broker::start_with(lines, &["--dev"]);
        started.unwrap_or_else(|log| panic!("the broker did not start: {log}"))
    }

    /// As [`Broker::start`], or what it wrote to standard error before it ended.
    pub fn try_start(lines: &[&str]) -> Result<Broker, String> {
        Broker::start_with(lines, &[])
    }

    fn start_with(lines: &[&str], flags: &'static [&'static str]) -> Result<Broker, String> {
        let mut settings = BTreeMap::new();
        let secret = format!("auth.secret = \"{SECRET}\"");
        let defaults = [
            "listen = [\"127.0.0.1:0\"]",
            "ingest.listen = \"127.0.0.1:0\"",
            "admin.listen = \"127.0.0.1:0\"",
            "limits.connects_per_user = \"off\"",
            "drain.seconds = 0",
            "shards = 2",
            secret.as_str(),
        ];
        for line in defaults.iter().chain(lines) {
            let (key, value) = line.split_once('=').unwrap();
            settings.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        let directory = TemporaryDirectory::new();
        let store = format!("{:?}", directory.0.join("fanfare.db"));
        settings.entry("store.path".to_owned()).or_insert(store);
        write_settings(&directory, &settings);
        let Launched { child, log, addresses: [public, ingest, admin] } = launch(&directory, flags)?;
        Ok(Broker { child, public, ingest, admin, log, settings, flags, directory })
    }

    /// Ends the process at once, with SIGKILL: it can do nothing more.
    pub fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Starts the process again that has ended, with the same files and with `lines` replaced. Its ports are new.
    pub fn start_again(&mut self, lines: &[&str]) {
        self.set(lines);
        let launched = launch(&self.directory, self.flags);
        let launched = launched.unwrap_or_else(|log| panic!("the broker did not start again: {log}"));
        let Launched { child, log, addresses: [public, ingest, admin] } = launched;
        (self.child, self.log) = (child, log);
        (self.public, self.ingest, self.admin) = (public, ingest, admin);
    }

    /// Replaces settings in the file.
    fn set(&mut self, lines: &[&str]) {
        for line in lines {
            let (key, value) = line.split_once('=').unwrap();
            self.settings.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        write_settings(&self.directory, &self.settings);
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Replaces settings and has them read again; returns when the log says so.
    pub fn reload(&mut self, lines: &[&str]) {
        self.set(lines);
        let is_end =
            |line: &&String| line.contains("configuration read again") || line.contains("not changed");
        let count = |broker: &Broker| broker.log.lock().unwrap().iter().filter(is_end).count();
        let before = count(self);
        self.signal(Signal::HUP);
        eventually("the reload", || (count(self) > before).then_some(()));
    }

    /// A place for files of this test.
    pub fn directory(&self) -> &TemporaryDirectory {
        &self.directory
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || self.child.0.try_wait().unwrap())
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// All that was logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// A market client of that user.
    #[track_caller]
    pub fn market(&self, user: &str) -> Client {
        Client::market(self.public, user)
    }

    /// An account client of that user.
    #[track_caller]
    pub fn account(&self, user: &str) -> Client {
        Client::account(self.public, user)
    }

    /// A connection to the ingest port.
    pub fn publisher(&self) -> Publisher {
        Publisher::connect(self.ingest)
    }

    /// A request to the admin port.
    pub fn get(&self, path: &str) -> Response {
        http::request(self.admin, "GET", path, &[], b"")
    }

    /// The sum of all series of a metric whose labels contain each of `labels` (`app="market"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").text();
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until a metric has a value.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], value: f64) {
        let mut last = 0.0;
        eventually(&format!("{name}{labels:?} = {value}"), || {
            last = self.metric(name, labels);
            (last == value).then_some(())
        });
    }

    /// Waits until every gauge of what clients hold is back at zero.
    #[track_caller]
    pub fn wait_for_zero(&self) {
        for gauge in ["connections", "subscriptions", "outbox_bytes"] {
            self.wait_for_metric(&format!("fanfare_{gauge}"), &[], 0.0);
        }
    }

    /// Resident memory, bytes.
    pub fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log.lock().unwrap().join("\n"));
        }
    }
}

/// A process that has said where it listens.
struct Launched {
    child: Process,
    log: Arc<Mutex<Vec<String>>>,
    /// Public, ingest, admin.
    addresses: [SocketAddr; 3],
}

/// Starts the binary with the directory's configuration, or returns what it wrote to standard error before it ended.
fn launch(directory: &TemporaryDirectory, flags: &[&str]) -> Result<Launched, String> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .arg("serve")
        .arg("--config")
        .arg(directory.0.join("fanfare.toml"))
        .args(flags)
        .env("FANFARE_LOG__FORMAT", "json")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let ended = Arc::new(Mutex::new(false));
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut child = Process(process);
    let (shared, at_end) = (Arc::clone(&log), Arc::clone(&ended));
    thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            shared.lock().unwrap().push(line);
        }
        *at_end.lock().unwrap() = true;
    });
    let started = eventually("the start", || {
        let lines = log.lock().unwrap();
        let start = lines.iter().find(|line| line.contains("fanfare started"));
        match start {
            Some(line) => Some(Ok(serde_json::from_str::<Value>(line).unwrap())),
            None => ended.lock().unwrap().then(|| Err(lines.join("\n"))),
        }
    });
    let fields = match started {
        Ok(line) => line,
        Err(log) => {
            child.0.wait().unwrap();
            return Err(log);
        }
    };
    // Of several listeners the first.
    let first = |list: &str| {
        let list = list.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(list);
        list.split(", ").next().unwrap().parse().unwrap()
    };
    let address = |key: &str| first(fields[key].as_str().unwrap());
    let addresses = ["public", "ingest", "admin"].map(address);
    Ok(Launched { child, log, addresses })
}

fn write_settings(directory: &TemporaryDirectory, settings: &BTreeMap<String, String>) {
    let text: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    directory.write("fanfare.toml", &text);
}
