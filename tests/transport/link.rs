//! A byte stream in memory whose server end takes and gives as few bytes as a seed tells it to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use fanfare::transport::Stream;

/// A generator of the xorshift family: small, and the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// How the server end behaves.
#[derive(Clone, Copy)]
pub enum Mood {
    /// All bytes at once, any number fits.
    Willing,
    /// One byte a call in both directions.
    Bytewise,
    /// Any number, or `WouldBlock`.
    Moody,
}

#[derive(Default)]
struct Wires {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    client_ended: bool,
    server_ended: bool,
    writes: usize,
}

/// What the server reads and writes.
pub struct ServerEnd {
    wires: Rc<RefCell<Wires>>,
    mood: Mood,
    random: Random,
}

/// What the client reads and writes: without limits, `WouldBlock` when there is nothing.
pub struct ClientEnd {
    wires: Rc<RefCell<Wires>>,
}

pub fn link(mood: Mood, seed: u64) -> (ServerEnd, ClientEnd) {
    let wires = Rc::new(RefCell::new(Wires::default()));
    (ServerEnd { wires: Rc::clone(&wires), mood, random: Random::new(seed) }, ClientEnd { wires })
}

impl ServerEnd {
    pub fn set_mood(&mut self, mood: Mood) {
        self.mood = mood;
    }

    /// How many of `offered` bytes go in this call.
    fn portion(&mut self, offered: usize) -> usize {
        match self.mood {
            Mood::Willing => offered,
            Mood::Bytewise => offered.min(1),
            Mood::Moody => match self.random.below(4) {
                0 => 0,
                1 => offered.min(1 + self.random.below(7)),
                2 => offered.min(1 + self.random.below(20_000)),
                _ => offered,
            },
        }
    }
}

impl Stream for ServerEnd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let present = self.wires.borrow().to_server.len();
        if present == 0 && self.wires.borrow().client_ended {
            return Ok(0);
        }
        let count = self.portion(present.min(buf.len()));
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        for (place, byte) in buf.iter_mut().zip(self.wires.borrow_mut().to_server.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.portion(buf.len());
        let mut wires = self.wires.borrow_mut();
        assert!(!wires.server_ended, "written after the end");
        wires.writes += 1;
        if count == 0 && !buf.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        wires.to_client.extend(&buf[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.write(&all)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.wires.borrow_mut().server_ended = true;
        Ok(())
    }
}

impl ClientEnd {
    /// Ends the client's writing.
    pub fn end(&mut self) {
        self.wires.borrow_mut().client_ended = true;
    }

    /// Whether the server has ended its writing.
    pub fn server_ended(&self) -> bool {
        self.wires.borrow().server_ended
    }

    /// How many system calls the server's writing would have taken.
    pub fn server_writes(&self) -> usize {
        self.wires.borrow().writes
    }

    /// How many bytes the client has yet to read.
    pub fn waiting(&self) -> usize {
        self.wires.borrow().to_client.len()
    }
}

impl Read for ClientEnd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wires = self.wires.borrow_mut();
        if wires.to_client.is_empty() && !wires.server_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        wires.to_client.read(buf)
    }
}

impl Write for ClientEnd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.wires.borrow_mut().to_server.extend(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
