//! A rustls client and a fanfare transport on the two ends of a simulated link.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use fanfare::transport::tls::TlsConfig;
use fanfare::transport::{Flush, Read, ReadScratch, Transport, WriteScratch, Written};
use rustls::ClientConfig;
use rustls::client::ClientConnection;

use crate::link::{ClientEnd, Mood, ServerEnd, link};

/// Enough rounds for the slowest link; more means that nothing moves any more.
const ROUNDS: usize = 3_000_000;

pub struct Peers {
    pub transport: Transport<ServerEnd>,
    pub client: ClientConnection,
    pub wire: ClientEnd,
    pub read_scratch: ReadScratch,
    pub write_scratch: WriteScratch,
    /// What the server has read.
    pub arrived: Vec<u8>,
    /// What the client has read.
    pub returned: Vec<u8>,
    /// The server was told that the client is done.
    pub closed: bool,
}

impl Peers {
    pub fn new(server: &TlsConfig, client: &Arc<ClientConfig>, mood: Mood, seed: u64) -> Self {
        let (stream, wire) = link(mood, seed);
        Self {
            transport: server.accept(stream).unwrap(),
            client: ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap(),
            wire,
            read_scratch: ReadScratch::new(),
            write_scratch: WriteScratch::new(),
            arrived: Vec::new(),
            returned: Vec::new(),
            closed: false,
        }
    }

    /// The client writes what it has to write, and reads what there is.
    pub fn step_client(&mut self) -> io::Result<()> {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire)?;
        }
        while self.client.wants_read() {
            match self.client.read_tls(&mut self.wire) {
                Ok(0) => break,
                Ok(_) => {
                    self.client
                        .process_new_packets()
                        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            match self.client.reader().read_to_end(&mut self.returned) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire)?;
        }
        Ok(())
    }

    /// The server reads once. Whether to read again at once is what it gives.
    pub fn step_server(&mut self) -> io::Result<bool> {
        if self.transport.wants_flush() {
            self.transport.flush()?;
        }
        match self.transport.read(&mut self.read_scratch)? {
            Read::Data { bytes, more } => {
                self.arrived.extend_from_slice(bytes);
                Ok(more)
            }
            Read::Blocked => Ok(false),
            Read::Closed => {
                self.closed = true;
                Ok(false)
            }
        }
    }

    /// Steps both until `done`.
    pub fn until(&mut self, mut done: impl FnMut(&Peers) -> bool) -> io::Result<()> {
        for _ in 0..ROUNDS {
            if done(self) {
                return Ok(());
            }
            // As the shard does on a failure: what the server had to say still reaches the client.
            let server = self.step_server();
            let client = self.step_client();
            server?;
            client?;
        }
        panic!("nothing moves any more");
    }

    pub fn shake_hands(&mut self) -> io::Result<()> {
        self.until(|peers| {
            !peers.transport.handshaking() && !peers.client.is_handshaking() && !peers.transport.wants_flush()
        })
    }

    /// The client sends `bytes`, and the server reads them.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.set_buffer_limit(None);
        self.client.writer().write_all(bytes)?;
        let target = self.arrived.len() + bytes.len();
        self.until(|peers| peers.arrived.len() >= target)
    }

    /// The server writes once from `slices`.
    pub fn write_once(&mut self, slices: &[&[u8]]) -> io::Result<Written> {
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        self.transport.write_vectored(&slices, &mut self.write_scratch)
    }

    /// The server sends all of `bytes`, and the client reads them.
    pub fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        let target = self.returned.len() + bytes.len();
        let mut rest = bytes;
        for _ in 0..ROUNDS {
            if rest.is_empty() {
                return self.until(|peers| peers.returned.len() >= target);
            }
            let written = self.transport.write(rest, &mut self.write_scratch)?;
            assert_eq!(self.transport.wants_flush() && !self.transport.handshaking(), written.blocked);
            rest = &rest[written.taken..];
            self.step_client()?;
        }
        panic!("nothing moves any more");
    }

    /// The server ends its writing, and the client learns of it.
    pub fn finish(&mut self) -> io::Result<()> {
        for _ in 0..ROUNDS {
            let flush = self.transport.shutdown_write()?;
            self.step_client()?;
            if flush == Flush::Drained {
                return Ok(());
            }
        }
        panic!("nothing moves any more");
    }
}

/// Bytes in which every place can be told from its neighbours.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
