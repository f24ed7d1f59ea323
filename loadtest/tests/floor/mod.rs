//! A floor server on free ports, for the tests that need one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

pub const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// A floor server on free ports, killed at the end.
pub struct Floor {
    pub process: Child,
    pub listen: String,
    pub ingest: String,
}

impl Floor {
    pub fn start(options: &[&str]) -> Self {
        let mut process = Command::new(LOADTEST)
            .args(["floor", "--listen", "127.0.0.1:0", "--ingest", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["listening", listen, "ingest", ingest] = words[..] else { panic!("unexpected: {line}") };
        Self { process, listen: listen.to_owned(), ingest: ingest.to_owned() }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
