//! The client's side of many WebSocket connections: where they go (`target`),
//! who they are (`token`), how they are opened (`dial`), and how they are read
//! (here). It knows nothing of what the messages mean.

pub mod dial;
pub mod target;
pub mod template;
pub mod token;

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use crate::frame::{self, CLOSE, PING, PONG, TEXT};
use crate::link::Link;

/// Size of the one read buffer all connections share. The largest batch a
/// server here sends in one call is below it, so that a readable connection
/// costs one read.
pub const READ_BUFFER: usize = 256 * 1024;

/// A whole message that is an Engine.IO ping, and its answer. No plain
/// WebSocket server here sends a message of one digit.
const ENGINE_PING: &[u8] = b"2";
const ENGINE_PONG: &[u8] = b"3";

/// What is done with messages as they come.
pub trait Sink {
    /// A read gave bytes; the messages in them follow.
    fn arrived(&mut self) {}
    /// One whole text message.
    fn message(&mut self, payload: &[u8]);
}

/// One established connection.
pub struct Client {
    link: Link,
    /// Start of a frame whose end has not come yet.
    carry: Vec<u8>,
}

impl Client {
    /// A connection after its handshake. `carry` is what came behind it.
    pub fn new(link: Link, carry: Vec<u8>) -> Self {
        Self { link, carry }
    }

    /// Its socket, to register it.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.link.socket()
    }

    /// Reads until the socket is empty, gives every text message to `sink`,
    /// and answers pings. `buffer` is scratch of [`READ_BUFFER`] bytes.
    /// `closed` says that the poll saw the peer's end of the stream: then it
    /// reads on to that end, since no further edge will come.
    ///
    /// # Errors
    /// Says in words why the connection ended or cannot go on.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8], closed: bool, sink: &mut impl Sink) -> Result<(), String> {
        loop {
            let kept = self.carry.len();
            let taken = match self.link.read(&mut buffer[kept..]) {
                Ok(0) => return Err("closed without a close frame".to_owned()),
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            if kept > 0 {
                buffer[..kept].copy_from_slice(&self.carry);
                self.carry.clear();
            }
            let filled = kept + taken;
            sink.arrived();
            let used = self.frames(&buffer[..filled], sink)?;
            if used < filled {
                self.carry.extend_from_slice(&buffer[used..filled]);
                if self.carry.len() == buffer.len() {
                    return Err(format!("sent a frame of more than {} bytes", buffer.len()));
                }
            }
            // A short read means that the socket is empty, epoll(7): data that
            // comes later is a new edge.
            if filled < buffer.len() && !closed && !self.link.reads_short() {
                return Ok(());
            }
        }
    }

    /// Handles what the dialling left in `carry`.
    fn take_carry(&mut self, sink: &mut impl Sink) -> Result<(), String> {
        let carry = std::mem::take(&mut self.carry);
        let used = self.frames(&carry, sink)?;
        self.carry.extend_from_slice(&carry[used..]);
        Ok(())
    }

    /// Handles all whole frames in `bytes`; returns how many bytes they had.
    #[inline]
    fn frames(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, String> {
        let mut used = 0;
        while let Some(header) = frame::parse_header(&bytes[used..]) {
            let Some(end) = used.checked_add(header.total()) else {
                return Err("sent an impossible frame length".to_owned());
            };
            let Some(payload) = bytes.get(used + header.length..end) else { break };
            if header.opcode == TEXT && header.fin {
                if payload == ENGINE_PING {
                    self.answer_engine_ping()?;
                } else {
                    sink.message(payload);
                }
            } else {
                self.other_frame(header, payload)?;
            }
            used = end;
        }
        Ok(used)
    }

    /// Engine.IO has pings of its own, in text messages.
    #[cold]
    fn answer_engine_ping(&mut self) -> Result<(), String> {
        let mut pong = Vec::new();
        frame::push_client_frame(&mut pong, TEXT, ENGINE_PONG);
        self.write_all(&pong).map_err(|error| format!("pong not sent: {error}"))
    }

    /// Control frames, and what is not expected from a server of small messages.
    #[cold]
    fn other_frame(&mut self, header: frame::Header, payload: &[u8]) -> Result<(), String> {
        match header.opcode {
            PING => {
                let mut pong = Vec::with_capacity(payload.len() + 6);
                frame::push_client_frame(&mut pong, PONG, payload);
                self.write_all(&pong).map_err(|error| format!("pong not sent: {error}"))
            }
            PONG => Ok(()),
            CLOSE => Err(frame::describe_close(payload)),
            opcode => Err(format!("sent an unexpected frame (opcode {opcode}, fin {})", header.fin)),
        }
    }

    /// Writes a few bytes that always fit into a socket that is used for
    /// nothing else; a socket that is full is an error.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.link.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collected(Vec<Vec<u8>>);
    impl Sink for Collected {
        fn message(&mut self, payload: &[u8]) {
            self.0.push(payload.to_vec());
        }
    }

    /// Feeds `bytes` cut at `cuts` through a real socket pair.
    fn read_in_pieces(bytes: &[u8], cuts: &[usize], buffer: usize) -> Result<Collected, String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let stream = std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        stream.set_nonblocking(true).expect("nonblocking");
        let mut client = Client::new(Link::Plain(TcpStream::from_std(stream)), Vec::new());
        let (mut buffer, mut sink, mut start) = (vec![0; buffer], Collected::default(), 0);
        for &cut in cuts.iter().chain([&bytes.len()]) {
            server.write_all(&bytes[start..cut]).expect("write");
            start = cut;
            client.read(&mut buffer, false, &mut sink)?;
        }
        server.shutdown(std::net::Shutdown::Write).expect("shutdown");
        while client.read(&mut buffer, false, &mut sink).is_ok() {
            std::thread::yield_now();
        }
        Ok(sink)
    }

    #[test]
    fn messages_survive_any_split() {
        let mut bytes = Vec::new();
        let messages: Vec<Vec<u8>> = [3usize, 0, 125, 126, 400].iter().map(|n| vec![b'm'; *n]).collect();
        for message in &messages {
            frame::push_server_header(&mut bytes, message.len());
            bytes.extend_from_slice(message);
        }
        for cut in 0..bytes.len() {
            let read = read_in_pieces(&bytes, &[cut], 1024).expect("no error");
            assert_eq!(read.0, messages, "cut at {cut}");
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(read_in_pieces(&bytes, &every, 450).expect("no error").0, messages);
        assert!(read_in_pieces(&bytes, &[], 300).is_err(), "a frame larger than the buffer");
    }

    #[test]
    fn a_close_is_told_in_words() {
        let error = read_in_pieces(&[0x88, 3, 0x03, 0xf5, b'x'], &[], 100).err();
        assert!(error.is_none() || error.as_deref() == Some("close code 1013 `x`"));
    }
}
