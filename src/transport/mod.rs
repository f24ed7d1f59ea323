//! A connection's bytes, plain or TLS: what was read comes out as plaintext in the shard's scratch, what is
//! written goes in as plaintext, and nothing is held for a connection that is idle.
//!
//! It must not know what the bytes mean (HTTP, WebSocket, ingest lines), nor polls, timers, outboxes and limits
//! of a client. The TLS half is in [`tls`].

pub mod tls;

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;

use self::tls::TlsSession;

/// How much a plain read takes from the socket at once, and how much plaintext or ciphertext one TLS read
/// handles. Large enough that a busy socket is drained by few system calls, small enough that no connection
/// keeps a turn to itself.
pub const READ_SIZE: usize = 64 * 1024;

/// How much plaintext one TLS write takes, at most. What the socket then refuses has to be held for the
/// connection, so this also bounds that memory.
pub const TLS_WRITE_SIZE: usize = 64 * 1024;

/// The largest plaintext of one TLS record (RFC 8446 §5.1).
pub(super) const RECORD_SIZE: usize = 16 * 1024;

/// The most that encryption adds to a record: the header and the expansion that RFC 8446 §5.2 allows.
const RECORD_OVERHEAD: usize = 5 + 256;

/// Room for a key update or an alert that goes out ahead of the data.
const CONTROL_RECORDS: usize = 512;

/// The most slices one gathered write hands to the kernel: `IOV_MAX` of Linux.
const SLICES_PER_WRITE: usize = 1024;

/// What the shard needs of a byte stream: reads and writes that do not wait.
///
/// A count below what was asked for means that the stream is drained, or full, and that the poll will report
/// when this has changed: epoll(7) allows this conclusion for stream sockets (question 9), which saves the system
/// call that would only say `WouldBlock`.
pub trait Stream {
    /// Reads into `buf`; 0 is the end of the stream, `WouldBlock` that nothing is there yet.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes from `buf`; `WouldBlock` if not even one byte could be taken.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize>;
    /// Writes from several buffers in order, as [`write`](Stream::write) does from one.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Tells the peer that nothing more will come.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl Stream for mio::net::TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        io::Read::read(self, buf)
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        io::Write::write(self, buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        io::Write::write_vectored(self, bufs)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            // The peer has reset the connection: there is no one left to tell.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

/// The buffers that reads of all connections of a shard share.
pub struct ReadScratch {
    pub(super) ciphertext: Box<[u8]>,
    pub(super) plaintext: Box<[u8]>,
}

impl ReadScratch {
    /// Allocates 128 KiB.
    pub fn new() -> Self {
        Self {
            ciphertext: vec![0; READ_SIZE].into_boxed_slice(),
            // Plaintext is never longer than its ciphertext, so one round of reading always fits.
            plaintext: vec![0; READ_SIZE].into_boxed_slice(),
        }
    }
}

impl Default for ReadScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The buffers that writes of all TLS connections of a shard share.
pub struct WriteScratch {
    /// Small slices come together here, so that they share a record.
    pub(super) record: Box<[u8]>,
    pub(super) ciphertext: Box<[u8]>,
}

impl WriteScratch {
    /// Allocates about 82 KiB.
    pub fn new() -> Self {
        let records = TLS_WRITE_SIZE / RECORD_SIZE;
        Self {
            record: vec![0; RECORD_SIZE].into_boxed_slice(),
            ciphertext: vec![0; TLS_WRITE_SIZE + records * RECORD_OVERHEAD + CONTROL_RECORDS]
                .into_boxed_slice(),
        }
    }
}

impl Default for WriteScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// Plaintext, to be used up before the scratch is used again.
    Data {
        /// May be empty: what arrived was part of a TLS record, or of the handshake.
        bytes: &'a mut [u8],
        /// The socket was not drained, or the end is already known: read again, now or in the next turn, because
        /// the poll will not report this connection again. When it is not set, read again only if the poll event
        /// said that the peer has closed: that event will not come a second time either.
        more: bool,
    },
    /// The socket is drained and still open; the poll will report when there is more.
    Blocked,
    /// The peer will send nothing more. It may still read what is written. Once given, it is given again.
    Closed,
}

/// What a write took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of plaintext that need not be written again.
    pub taken: usize,
    /// The socket is full: write again when the poll reports it writable. When it is not set and not everything
    /// was taken, there is room for the rest now.
    pub blocked: bool,
}

/// Whether everything that was taken has reached the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It has.
    Drained,
    /// The socket is full: try again when the poll reports it writable.
    Blocked,
}

/// A connection's bytes: plain or TLS.
///
/// Errors are those of the socket, but for the kind `InvalidData`: then TLS failed, the text says why, and the peer
/// was sent an alert if the protocol provides one. Such a connection is of no further use, but it may linger so that
/// the alert is not lost: [`shutdown_write`](Transport::shutdown_write) works, and what is read is thrown away.
pub enum Transport<S: Stream> {
    /// The bytes go as they are.
    Plain(S),
    /// The bytes go through TLS.
    Tls(Box<TlsSession<S>>),
}

impl<S: Stream> Transport<S> {
    /// Reads once from the socket. While a TLS handshake runs, this also answers the peer, so it may leave
    /// something to [`flush`](Transport::flush).
    pub fn read<'a>(&mut self, scratch: &'a mut ReadScratch) -> io::Result<Read<'a>> {
        match self {
            Transport::Plain(stream) => read_plain(stream, &mut scratch.plaintext),
            Transport::Tls(session) => session.read(scratch),
        }
    }

    /// Writes from `bytes`, with at most one system call for them.
    ///
    /// TLS takes at most [`TLS_WRITE_SIZE`] bytes a call, encrypts them as whole records and holds what the socket
    /// refuses; it takes nothing while such records are held, or while the handshake runs.
    pub fn write(&mut self, bytes: &[u8], scratch: &mut WriteScratch) -> io::Result<Written> {
        match self {
            Transport::Plain(stream) => written(stream.write(bytes), bytes.len()),
            Transport::Tls(session) => session.write(&[IoSlice::new(bytes)], scratch),
        }
    }

    /// Writes from several slices in order, as [`write`](Transport::write) does from one.
    pub fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
        scratch: &mut WriteScratch,
    ) -> io::Result<Written> {
        match self {
            Transport::Plain(stream) => {
                let slices = &slices[..slices.len().min(SLICES_PER_WRITE)];
                let offered = slices.iter().map(|slice| slice.len()).sum();
                written(stream.write_vectored(slices), offered)
            }
            Transport::Tls(session) => session.write(slices, scratch),
        }
    }

    /// Hands records that the socket refused to it again.
    pub fn flush(&mut self) -> io::Result<Flush> {
        match self {
            Transport::Plain(_) => Ok(Flush::Drained),
            Transport::Tls(session) => session.flush(),
        }
    }

    /// Whether there are records that the socket refused: [`flush`](Transport::flush) when it is writable.
    pub fn wants_flush(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(session) => session.wants_flush(),
        }
    }

    /// Whether the TLS handshake has yet to end.
    pub fn handshaking(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(session) => session.handshaking(),
        }
    }

    /// Says goodbye in TLS (RFC 8446 §6.1): nothing can be written after it, and what is read after it is thrown
    /// away undecrypted. What the socket refuses is left to [`flush`](Transport::flush). A second call does
    /// nothing, nor does one on a plain connection.
    pub fn close_notify(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(_) => Ok(()),
            Transport::Tls(session) => session.close_notify(),
        }
    }

    /// Ends the writing direction: [`close_notify`](Transport::close_notify) if that was not called yet, then,
    /// when all held records have gone, the socket. If it says `Blocked`, call it again when writable.
    pub fn shutdown_write(&mut self) -> io::Result<Flush> {
        self.close_notify()?;
        if self.flush()? == Flush::Blocked {
            return Ok(Flush::Blocked);
        }
        self.stream_mut().shutdown_write()?;
        Ok(Flush::Drained)
    }

    /// The TLS session, to ask who the peer is and what was agreed.
    pub fn tls(&self) -> Option<&TlsSession<S>> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(session) => Some(session),
        }
    }

    /// The stream below, to read its addresses or set its options.
    pub fn stream(&self) -> &S {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(session) => session.stream(),
        }
    }

    /// The stream below, to register it with a poll.
    pub fn stream_mut(&mut self) -> &mut S {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(session) => session.stream_mut(),
        }
    }
}

fn read_plain<'a, S: Stream>(stream: &mut S, buffer: &'a mut [u8]) -> io::Result<Read<'a>> {
    match stream.read(buffer) {
        Ok(0) => Ok(Read::Closed),
        Ok(count) => {
            let more = count == buffer.len();
            Ok(Read::Data { bytes: &mut buffer[..count], more })
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Read::Blocked),
        Err(error) => Err(error),
    }
}

/// Reads the outcome of a write of `offered` bytes.
pub(super) fn written(result: io::Result<usize>, offered: usize) -> io::Result<Written> {
    match result {
        Ok(0) if offered > 0 => Err(ErrorKind::WriteZero.into()),
        Ok(taken) => Ok(Written { taken, blocked: taken < offered }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Written { taken: 0, blocked: true }),
        Err(error) => Err(error),
    }
}
