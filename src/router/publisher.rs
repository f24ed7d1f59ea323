//! A publisher: a connection to the ingest port, or the body of one `POST /publish`.

use std::io;

use crossbeam_channel::Sender;
use socket2::SockRef;

use crate::audience::App;
use crate::proto::ingest::Splitter;
use crate::router::replies::{Replies, UNREAD_BYTES};
use crate::transport::{Flush, Read, ReadScratch, Transport, WriteScratch};

/// Most bytes read ahead of what has been published: a read's worth.
const AHEAD: usize = 64 * 1024;

/// Bytes of a publisher's lines that wait for the store; beyond them it is not read.
const WAITING_BYTES: usize = 256 * 1024;

/// One publisher.
pub struct Publisher {
    /// Where its lines come from.
    pub source: Source,
    /// What has been read and not yet published.
    input: Vec<u8>,
    at: usize,
    /// Cuts the input into lines.
    pub splitter: Splitter,
    /// What it is still to be answered.
    pub replies: Replies,
    /// It has shown the token, or none is needed.
    pub is_trusted: bool,
    /// What it listens for: event names, and the app if only one counts.
    pub listens: Vec<(Box<str>, Option<App>)>,
    /// It is on the ready list.
    pub is_ready: bool,
    /// There may be more to read.
    pub is_readable: bool,
    /// The poll said that the peer will send no more.
    pub peer_closed: bool,
    /// Nothing more will be read.
    pub is_over: bool,
    /// Its connection has failed: it is let go when what was read has been published.
    pub is_broken: bool,
    /// Lines that were not blank.
    pub lines: u64,
    /// Lines answered with an error.
    pub errors: u64,
    /// Bytes of its lines that wait for the store.
    pub waiting: usize,
}

/// Where a publisher's lines come from.
pub enum Source {
    /// A connection to the ingest port.
    Socket(Transport<mio::net::TcpStream>),
    /// The body of one `POST /publish`; the answers go back when all are in.
    Body(Sender<BodyResult>),
}

/// The outcome of a `POST /publish`.
#[derive(Debug)]
pub struct BodyResult {
    /// One line for each line that carried an id or was refused.
    pub replies: Vec<u8>,
    /// Lines that were not blank.
    pub lines: u64,
    /// Lines that were refused.
    pub errors: u64,
}

impl Publisher {
    /// A publisher that has not said anything yet.
    pub fn new(source: Source, max_line: usize, is_trusted: bool) -> Publisher {
        Publisher {
            source,
            input: Vec::new(),
            at: 0,
            splitter: Splitter::new(max_line),
            replies: Replies::default(),
            is_trusted,
            listens: Vec::new(),
            is_ready: false,
            is_readable: true,
            peer_closed: false,
            is_over: false,
            is_broken: false,
            lines: 0,
            errors: 0,
            waiting: 0,
        }
    }

    /// The body of a `POST /publish`: everything there is.
    pub fn of_body(body: Vec<u8>, reply: Sender<BodyResult>, max_line: usize) -> Publisher {
        let mut publisher = Publisher::new(Source::Body(reply), max_line, true);
        publisher.input = body;
        if publisher.input.last().is_some_and(|last| *last != b'\n') {
            publisher.input.push(b'\n');
        }
        publisher.is_readable = false;
        publisher.is_over = true;
        publisher
    }

    /// Takes what has been read out, so that lines can be borrowed from it while the publisher is used.
    pub fn take_input(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.input), std::mem::take(&mut self.at))
    }

    /// Puts it back, with how much of it has been used.
    pub fn put_back(&mut self, input: Vec<u8>, at: usize) {
        (self.input, self.at) = (input, at);
    }

    /// Whether all that was read has been used.
    pub fn is_used_up(&self) -> bool {
        self.at == self.input.len()
    }

    /// Reads once. Returns how many bytes came.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn fill(&mut self, scratch: &mut ReadScratch) -> io::Result<usize> {
        let Source::Socket(transport) = &mut self.source else { return Ok(0) };
        self.input.clear();
        self.at = 0;
        match transport.read(scratch)? {
            Read::Data { bytes, more } => {
                self.input.extend_from_slice(bytes);
                self.input.shrink_to(AHEAD);
                // The poll reports the peer's end only once.
                self.is_readable = more || self.peer_closed;
                Ok(self.input.len())
            }
            Read::Blocked => {
                self.is_readable = false;
                Ok(0)
            }
            Read::Closed => {
                self.is_readable = false;
                self.is_over = true;
                Ok(0)
            }
        }
    }

    /// Sends answers. Returns whether the publisher is still there.
    pub fn send(&mut self, scratch: &mut WriteScratch) -> bool {
        let Source::Socket(transport) = &mut self.source else { return true };
        match transport.flush() {
            Ok(Flush::Drained) => {}
            Ok(Flush::Blocked) => return true,
            Err(_) => return false,
        }
        let mut sent = 0;
        while sent < self.replies.out.len() {
            match transport.write(&self.replies.out[sent..], scratch) {
                Ok(written) => {
                    sent += written.taken;
                    if written.blocked {
                        break;
                    }
                }
                Err(_) => return false,
            }
        }
        self.replies.out.drain(..sent);
        true
    }

    /// Whether nothing more may be read from it for now. The answers to a body go out all at once, so only those that
    /// wait count there; the body's length bounds the others.
    pub fn is_held_back(&self) -> bool {
        match self.source {
            // Nobody is there to read the answers, so they hold nothing back.
            _ if self.is_broken => false,
            _ if self.waiting >= WAITING_BYTES => true,
            Source::Socket(_) => self.replies.is_full() || self.replies.bytes() >= UNREAD_BYTES,
            Source::Body(_) => self.replies.is_full(),
        }
    }

    /// Whether it listens for this event.
    pub fn hears(&self, event: &str, app: App) -> bool {
        self.listens.iter().any(|(name, only)| **name == *event && only.is_none_or(|only| only == app))
    }
}

/// Acknowledgements are small and somebody waits for them; a backend that is gone without a word is found out.
/// A socket that takes neither option still works.
pub(super) fn set_options(stream: &mio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_keepalive(true);
}
