//! A script under way: started with its parameters in environment variables, read line by line, ended by its process id.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::install;
use crate::support::Broker;
use crate::support::token::SECRET;

/// How long a script may take in all. Only one that hangs takes so long.
const LIMIT: Duration = Duration::from_secs(300);

/// Parameters of a script: names and values of environment variables.
pub type Parameters<'a> = &'a [(&'a str, &'a str)];

/// A script that runs. It does not outlive the test.
pub struct Script {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: Arc<Mutex<Vec<String>>>,
    until: Instant,
}

impl Script {
    /// Starts `scripts/FILE`, in Node.js or Python by its ending.
    pub fn start(file: &str, parameters: Parameters<'_>) -> Script {
        let mut command = match file.ends_with(".py") {
            true => Command::new(install::python()),
            false => Command::new("node"),
        };
        command
            .arg(install::scripts().join(file))
            .env("MODULES", install::node_modules())
            .env("SECRET", SECRET)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(parameters.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || output.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let output = BufReader::new(child.stderr.take().unwrap()).lines();
        let shared = Arc::clone(&errors);
        thread::spawn(move || {
            output.map_while(Result::ok).for_each(|line| shared.lock().unwrap().push(line))
        });
        let name = format!("{file} {parameters:?}");
        Script { name, child, lines, errors, until: Instant::now() + LIMIT }
    }

    /// Starts a script of scenarios against a broker.
    pub fn against(broker: &Broker, file: &str, parameters: Parameters<'_>) -> Script {
        let (port, ingest) = (broker.public.port().to_string(), broker.ingest.port().to_string());
        let mut all = vec![("PORT", port.as_str()), ("INGEST_PORT", ingest.as_str())];
        all.extend_from_slice(parameters);
        Script::start(file, &all)
    }

    /// The next line it prints, as JSON.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        let left = self.until.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|_| panic!("{} prints {line}", self.name)),
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs: {}", self.name, self.errors()),
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended early: {}", self.name, self.errors()),
        }
    }

    /// Waits until it says this.
    #[track_caller]
    pub fn expect(&mut self, say: &str) {
        let line = self.next();
        assert_eq!(line["say"], say, "{line:#}");
    }

    /// Tells it a line.
    pub fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for its end; all its scenarios must be well.
    #[track_caller]
    pub fn finish(self) {
        self.results();
    }

    /// As [`Script::finish`]; returns what it printed of each scenario.
    #[track_caller]
    pub fn results(mut self) -> Vec<Value> {
        let mut results = Vec::new();
        let done = loop {
            let line = self.next();
            match line["done"].as_u64() {
                Some(done) => break done,
                None => results.push(line),
            }
        };
        let failed: Vec<String> = results
            .iter()
            .filter(|result| result["ok"] != true)
            .map(|result| format!("{}: {}", result["scenario"], result["error"].as_str().unwrap_or_default()))
            .collect();
        assert!(failed.is_empty(), "{}\n{}\n{}", self.name, failed.join("\n"), self.errors());
        let count = results.len() as u64;
        assert!(done > 0 && count == done, "{}: {count} results of {done} scenarios", self.name);
        assert!(self.child.wait().unwrap().success(), "{}: {}", self.name, self.errors());
        results
    }

    /// What it wrote to standard error.
    fn errors(&self) -> String {
        self.errors.lock().unwrap().join("\n")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
