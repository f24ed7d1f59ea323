//! A network in memory: sockets with small buffers that fill up, bytes that arrive in pieces, ends and resets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use fanfare::shard::Net;
use fanfare::time::Now;
use fanfare::transport::Stream;

/// How far a shard and the router had come when something was written or sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The shard.
    pub shard: usize,
    /// Events that the shard had taken from the router.
    pub delivered: usize,
    /// Events that the router had published.
    pub published: usize,
    /// When, monotonic ns.
    pub mono: u64,
}

/// A connection between a client and a shard.
#[derive(Default)]
pub struct Link {
    /// What has arrived at the server and was not read yet.
    pub to_server: VecDeque<u8>,
    /// What the server's socket took and the client has not read yet.
    pub to_client: VecDeque<u8>,
    /// Bytes the server's socket holds at most.
    pub capacity: usize,
    /// The client sends no more.
    pub client_ended: bool,
    /// The connection is broken.
    pub reset: bool,
    /// The server sends no more.
    pub server_ended: bool,
    /// The server has closed its socket.
    pub server_dropped: bool,
    /// A write was refused, or taken in part.
    pub was_blocked: bool,
    /// The next write fills the socket before its buffer is full, as a system short of memory does.
    pub short_write: Option<usize>,
    /// How far the shard had come when it wrote: from each of these places in the stream.
    pub marks: VecDeque<(u64, Stamp)>,
    written: u64,
    waits_for_room: bool,
    /// What the poll will say.
    readable: bool,
    writable: bool,
    stamp: Rc<Cell<Stamp>>,
}

impl Link {
    /// A connection whose server's socket holds so many bytes.
    pub fn new(capacity: usize) -> Link {
        Link { capacity, ..Link::default() }
    }

    /// Bytes from the client arrive.
    pub fn arrive(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.to_server.extend(bytes);
        self.readable = true;
    }

    /// The client ends its direction.
    pub fn end(&mut self) {
        self.client_ended = true;
        self.readable = true;
    }

    /// The connection breaks.
    pub fn break_off(&mut self) {
        self.reset = true;
        self.readable = true;
        self.writable = true;
    }

    /// The client reads.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.to_client.len());
        let taken = self.to_client.drain(..count).collect();
        if count > 0 && self.waits_for_room {
            self.waits_for_room = false;
            self.writable = true;
        }
        taken
    }

    /// What the poll says of it, once.
    fn event(&mut self) -> Option<(bool, bool, bool)> {
        let event = (
            std::mem::take(&mut self.readable),
            std::mem::take(&mut self.writable),
            self.client_ended || self.reset,
        );
        (event.0 || event.1).then_some((event.0, event.1, event.2 && event.0))
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let room = self.capacity.saturating_sub(self.to_client.len());
        let room = self.short_write.take().map_or(room, |short| room.min(short));
        let count = room.min(bytes.len());
        if count > 0 {
            self.marks.push_back((self.written, self.stamp.get()));
            self.written += count as u64;
            self.to_client.extend(&bytes[..count]);
        }
        if count < bytes.len() {
            self.was_blocked = true;
            self.waits_for_room = true;
            if self.to_client.is_empty() {
                // Full for a moment only: nobody's reading makes room, so the poll says it by itself.
                self.waits_for_room = false;
                self.writable = true;
            }
        }
        count
    }
}

/// The server's end of a [`Link`].
pub struct FakeStream(pub Rc<RefCell<Link>>);

impl Stream for FakeStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut link = self.0.borrow_mut();
        if link.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let count = buf.len().min(link.to_server.len());
        for (place, byte) in buf.iter_mut().zip(link.to_server.drain(..count)) {
            *place = byte;
        }
        match count {
            0 if link.client_ended => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut link = self.0.borrow_mut();
        assert!(!link.server_ended, "a write after the server's end");
        if link.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let all: Vec<u8> = bufs.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert!(!all.is_empty(), "an empty write");
        match link.put(&all) {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().server_ended = true;
        Ok(())
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        let mut link = self.0.borrow_mut();
        link.server_dropped = true;
        link.server_ended = true;
    }
}

/// What a shard's poll watches: links by key.
#[derive(Clone, Default)]
pub struct Watched(Rc<RefCell<WatchedLinks>>);

type WatchedLinks = Vec<(u32, Rc<RefCell<Link>>)>;

impl Watched {
    /// What the poll says now: key, readable, writable, peer closed.
    pub fn events(&self) -> Vec<(u32, bool, bool, bool)> {
        let mut watched = self.0.borrow_mut();
        watched.retain(|(_, link)| !link.borrow().server_dropped);
        watched
            .iter()
            .filter_map(|(key, link)| {
                let (readable, writable, closed) = link.borrow_mut().event()?;
                Some((*key, readable, writable, closed))
            })
            .collect()
    }

    /// How many are watched.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

/// The network of one shard.
pub struct FakeNet {
    pub clock: Rc<Cell<Now>>,
    pub watched: Watched,
    /// How far the shard has come.
    pub stamp: Rc<Cell<Stamp>>,
}

impl Net for FakeNet {
    type Stream = FakeStream;

    fn now(&self) -> Now {
        self.clock.get()
    }

    fn register(&mut self, stream: &mut FakeStream, key: u32) -> io::Result<()> {
        let mut link = stream.0.borrow_mut();
        link.stamp = Rc::clone(&self.stamp);
        link.writable = true;
        link.readable = !link.to_server.is_empty() || link.client_ended || link.reset;
        drop(link);
        self.watched.0.borrow_mut().push((key, Rc::clone(&stream.0)));
        Ok(())
    }

    fn deregister(&mut self, stream: &mut FakeStream) -> io::Result<()> {
        self.watched.0.borrow_mut().retain(|(_, link)| !Rc::ptr_eq(link, &stream.0));
        Ok(())
    }
}
