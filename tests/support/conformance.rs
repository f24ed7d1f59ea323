//! The server that conformance suites are run against, `examples/conformance.rs`, on a free port.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::broker::Process;

/// A running server; ends with the test.
pub struct Conformance {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

impl Conformance {
    pub fn start(arguments: &[&str]) -> Conformance {
        // Cargo builds examples for `cargo test`, beside the binary, but does not say where.
        let folder = Path::new(env!("CARGO_BIN_EXE_fanfare")).parent().unwrap();
        let program = folder.join("examples").join("conformance");
        let mut child = Command::new(&program)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; build it with cargo build --examples", program.display())
            });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Process(child);
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Conformance { address, _process: process }
    }
}
