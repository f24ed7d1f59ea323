//! A backend: newline-delimited JSON over TCP or TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::http;

/// Ids differ over all publishers of a test process, so that none counts as a repetition.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// What both TCP and TLS streams are.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A connection to the ingest port.
pub struct Publisher {
    reader: BufReader<Box<dyn Stream>>,
}

impl Publisher {
    pub fn connect(address: SocketAddr) -> Publisher {
        Publisher::over(http::connect(address))
    }

    /// Over any stream.
    pub fn over(stream: impl Stream + 'static) -> Publisher {
        Publisher { reader: BufReader::new(Box::new(stream)) }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// As [`Publisher::raw`], where the broker may have gone.
    pub fn try_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends one line.
    pub fn send(&mut self, line: impl ToString) {
        let mut line = line.to_string();
        line.push('\n');
        self.raw(line.as_bytes());
    }

    /// The next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).unwrap();
        assert!(count > 0, "the broker closed the ingest connection");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    /// Sends one line and takes its reply.
    #[track_caller]
    pub fn ask(&mut self, line: impl ToString) -> Value {
        self.send(line);
        self.reply()
    }

    /// Publishes a line with an id and waits for its acknowledgement, so that every shard has dealt with it.
    #[track_caller]
    pub fn publish(&mut self, mut line: Value) -> Value {
        let id = format!("harness-{}", NEXT_ID.fetch_add(1, Ordering::Relaxed));
        line["id"] = json!(id);
        let ack = self.ask(line);
        assert_eq!((ack["ok"].as_bool(), ack["id"].as_str()), (Some(true), Some(id.as_str())), "{ack}");
        ack
    }

    /// Waits for the end of the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("the connection goes on: {other:?} {line}"),
        }
    }

    /// The stream below.
    pub fn stream(&mut self) -> &mut dyn Stream {
        &mut **self.reader.get_mut()
    }
}
