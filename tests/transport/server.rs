//! An echo server on one connection: the shard's loop in small, edge-triggered poll and all.

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfare::transport::tls::TlsConfig;
use fanfare::transport::{Flush, Read, ReadScratch, Transport, WriteScratch};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// No test may take longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the server saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Bytes read and, in the end, written.
    pub bytes: usize,
    /// How often the socket was full.
    pub blocked: usize,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
    pub client_certificates: usize,
    /// Why it ended, if not by the client's goodbye.
    pub error: Option<io::Error>,
}

pub struct Server {
    pub address: SocketAddr,
    thread: JoinHandle<Report>,
}

impl Server {
    /// Serves one connection. `tls`: plain without.
    pub fn start(tls: Option<&TlsConfig>) -> Self {
        Self::start_after(tls, |_| {}).0
    }

    /// The same, once `connect` has done its part: the server finds it all there.
    pub fn start_after<C>(tls: Option<&TlsConfig>, connect: impl FnOnce(SocketAddr) -> C) -> (Self, C) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = connect(address);
        let tls = tls.cloned();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            socket2::SockRef::from(&stream).set_send_buffer_size(32 * 1024).unwrap();
            stream.set_nonblocking(true).unwrap();
            let stream = TcpStream::from_std(stream);
            let transport = match &tls {
                Some(tls) => tls.accept(stream).unwrap(),
                None => Transport::Plain(stream),
            };
            let mut echo = Echo { transport, report: Report::default(), pending: Vec::new() };
            echo.report.error = echo.run().err();
            echo.report
        });
        (Self { address, thread }, client)
    }

    /// Waits for the connection's end.
    pub fn report(self) -> Report {
        self.thread.join().unwrap()
    }
}

struct Echo {
    transport: Transport<TcpStream>,
    report: Report,
    /// Read, and to be written.
    pending: Vec<u8>,
}

impl Echo {
    fn run(&mut self) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(self.transport.stream_mut(), Token(0), interest)?;
        let (mut read_scratch, mut write_scratch) = (ReadScratch::new(), WriteScratch::new());
        let mut events = Events::with_capacity(8);
        let deadline = Instant::now() + PATIENCE;
        let (mut readable, mut writable, mut ending) = (false, false, false);
        let (mut closed, mut finished) = (false, false);
        loop {
            let wait = if readable && !closed { Duration::ZERO } else { Duration::from_secs(1) };
            poll.poll(&mut events, Some(wait))?;
            assert!(Instant::now() < deadline, "the server waits in vain: {:?}", self.report);
            for event in &events {
                readable |= event.is_readable();
                writable |= event.is_writable();
                ending |= event.is_read_closed();
            }
            if readable && !closed {
                (readable, closed) = self.read(&mut read_scratch, ending)?;
            }
            if writable && self.transport.wants_flush() {
                writable = self.transport.flush()? == Flush::Drained;
            }
            while writable && !self.pending.is_empty() && !self.transport.handshaking() {
                let written = self.transport.write(&self.pending, &mut write_scratch)?;
                self.pending.drain(..written.taken);
                self.report.blocked += usize::from(written.blocked);
                writable = !written.blocked;
            }
            if closed && self.pending.is_empty() && writable && !finished {
                finished = self.transport.shutdown_write()? == Flush::Drained;
                writable = finished;
            }
            if finished {
                return Ok(());
            }
        }
    }

    /// Reads once. Gives whether to read again without being asked, and whether the client is done.
    fn read(&mut self, scratch: &mut ReadScratch, ending: bool) -> io::Result<(bool, bool)> {
        match self.transport.read(scratch)? {
            Read::Data { bytes, more } => {
                self.report.bytes += bytes.len();
                self.pending.extend_from_slice(bytes);
                if let (Some(tls), false) = (self.transport.tls(), self.transport.handshaking()) {
                    self.report.alpn = tls.alpn().map(<[u8]>::to_vec);
                    self.report.resumed = tls.resumed();
                    self.report.client_certificates = tls.peer_certificates().map_or(0, <[_]>::len);
                }
                Ok((more || ending, false))
            }
            Read::Blocked => Ok((false, false)),
            Read::Closed => Ok((false, true)),
        }
    }
}
