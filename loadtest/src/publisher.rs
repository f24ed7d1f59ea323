//! The one publisher: lines over TCP ingest, or WebSocket text frames on a
//! connection of its own. It writes what the socket takes and keeps the rest.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::time::Duration;

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::target::Target;
use crate::client::template::{Fill, Template};
use crate::failure::{Context, Failure};
use crate::frame::{self, TEXT};

/// Unsent bytes above which nothing more is published for now.
const BACKLOG: usize = 4 * 1024 * 1024;
/// The longest answer line that is looked at whole.
const MAX_ANSWER: usize = 4 * 1024;
/// How long the server may take to greet its publisher.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an event is framed.
enum Framing {
    /// With a line feed behind it.
    Line,
    /// As a masked text frame.
    Frame,
}

/// The publishing connection.
pub struct Publisher {
    stream: TcpStream,
    template: Template,
    framing: Framing,
    /// Bytes from `sent` on still have to be written.
    out: Vec<u8>,
    sent: usize,
    scratch: Vec<u8>,
    /// An answer line that is not whole yet.
    answer: Vec<u8>,
    acknowledged: u64,
}

impl Publisher {
    /// Connects to a TCP ingest port; with `token` it authenticates first.
    pub fn ingest(address: SocketAddr, token: Option<&str>, template: Template) -> Result<Self, Failure> {
        let place = || format!("ingest connection to {address}");
        let mut stream = BlockingStream::connect_timeout(&address, PATIENCE).context(place)?;
        if let Some(token) = token {
            stream.set_read_timeout(Some(PATIENCE)).context(place)?;
            let line = serde_json::json!({ "op": "auth", "token": token });
            stream.write_all(format!("{line}\n").as_bytes()).context(place)?;
            let answer = read_until(&mut stream, b"\n").context(place)?;
            if memmem::find(&answer, br#""ok":true"#).is_none() {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                return Err(Failure::new(format!("{}: token refused: {answer}", place())));
            }
        }
        Self::new(stream, template, Framing::Line).context(place)
    }

    /// Connects to a WebSocket endpoint and publishes by text frames.
    pub fn websocket(target: &Target, token: Option<&str>, template: Template) -> Result<Self, Failure> {
        let place = || format!("publisher's connection to {}", target.address);
        if target.is_secured() {
            return Err(Failure::new(format!("{}: not over TLS: publish lines instead", place())));
        }
        let mut stream = BlockingStream::connect_timeout(&target.address, PATIENCE).context(place)?;
        stream.set_read_timeout(Some(PATIENCE)).context(place)?;
        let request = target.request(None, "ZmFuZmFyZSBsb2FkdGVzdA==", token);
        stream.write_all(request.as_bytes()).context(place)?;
        let head = read_until(&mut stream, b"\r\n\r\n").context(place)?;
        if !head.starts_with(b"HTTP/1.1 101") {
            let status = String::from_utf8_lossy(&head).lines().next().unwrap_or("").to_owned();
            return Err(Failure::new(format!("{}: upgrade refused: {status}", place())));
        }
        Self::new(stream, template, Framing::Frame).context(place)
    }

    fn new(stream: BlockingStream, template: Template, framing: Framing) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self {
            stream,
            template,
            framing,
            out: Vec::new(),
            sent: 0,
            scratch: Vec::new(),
            answer: Vec::new(),
            acknowledged: 0,
        })
    }

    /// Asks the poll for both directions.
    pub fn register(&mut self, registry: &Registry, token: Token) -> Result<(), Failure> {
        registry
            .register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
            .context(|| "epoll".to_owned())
    }

    /// Whether so much is unsent that publishing must wait.
    pub fn is_full(&self) -> bool {
        self.out.len() - self.sent > BACKLOG
    }

    /// Whether the kernel has taken everything.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Adds one event to what is to be written.
    #[inline]
    pub fn publish(&mut self, fill: Fill) {
        match self.framing {
            Framing::Line => {
                self.template.fill(fill, &mut self.out);
                self.out.push(b'\n');
            }
            Framing::Frame => {
                self.scratch.clear();
                self.template.fill(fill, &mut self.scratch);
                frame::push_client_frame(&mut self.out, TEXT, &self.scratch);
            }
        }
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Adds one ready line, without its line feed.
    pub fn line(&mut self, line: &[u8]) {
        self.out.extend_from_slice(line);
        self.out.push(b'\n');
    }

    /// Lines that the server has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Takes in what the server says to its publisher.
    ///
    /// # Errors
    /// When that is an error, or the end of the connection.
    pub fn listen(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(self.broken("closed by the server")),
                Ok(taken) => self.answered(&bytes[..taken])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
    }

    /// Counts acknowledgements line by line.
    fn answered(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.answer.extend_from_slice(piece);
            if memmem::find(&self.answer, br#""ok":false"#).is_some() {
                return Err(self.broken("a line was refused:"));
            }
            if piece.ends_with(b"\n") {
                self.acknowledged += u64::from(memmem::find(&self.answer, br#""ok":true"#).is_some());
                self.answer.clear();
            }
            // What is no answer to a line, such as frames to a WebSocket publisher.
            let excess = self.answer.len().saturating_sub(MAX_ANSWER);
            self.answer.drain(..excess);
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> Failure {
        let answer = String::from_utf8_lossy(&self.answer);
        Failure::new(format!("publisher's connection: {what} {}", answer.trim()))
    }
}

/// Reads until `end` has come.
fn read_until(stream: &mut BlockingStream, end: &[u8]) -> Result<Vec<u8>, String> {
    let (mut bytes, mut one) = (Vec::new(), [0]);
    while !bytes.ends_with(end) {
        match stream.read(&mut one) {
            Ok(0) => return Err("closed by the server".to_owned()),
            Ok(_) => bytes.push(one[0]),
            Err(error) => return Err(error.to_string()),
        }
        if bytes.len() > 16 * 1024 {
            return Err("the answer does not end".to_owned());
        }
    }
    Ok(bytes)
}
