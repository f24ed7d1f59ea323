//! What an idle TLS session costs, C allocations of the cryptography included: so it is the growth of the process
//! that is measured, and this file holds one test only.

#![allow(clippy::unwrap_used)]

#[path = "transport/certificates.rs"]
#[allow(dead_code)]
mod certificates;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use fanfare::transport::tls::TlsConfig;
use fanfare::transport::{Read, ReadScratch, Stream, Transport, WriteScratch};
use rustls::ClientConfig;
use rustls::client::ClientConnection;
use rustls::version::{TLS12, TLS13};

use certificates::Certificates;

/// The two directions of the one pair that talks at a time.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<[VecDeque<u8>; 2]>>);

impl Stream for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.borrow_mut()[0].read(buf)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut()[1].write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow_mut()[1].write_vectored(bufs)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    server: TlsConfig,
    client: Arc<ClientConfig>,
    wire: Wire,
    read_scratch: ReadScratch,
    write_scratch: WriteScratch,
}

impl Bench {
    /// A session that has shaken hands, and has read and written `bytes`.
    fn session(&mut self, bytes: &[u8]) -> Transport<Wire> {
        let mut transport = self.server.accept(self.wire.clone()).unwrap();
        let mut client =
            ClientConnection::new(Arc::clone(&self.client), "localhost".try_into().unwrap()).unwrap();
        client.writer().write_all(bytes).unwrap();
        let (mut arrived, mut returned) = (0, Vec::new());
        while arrived < bytes.len() || returned.len() < bytes.len() {
            while client.wants_write() {
                client.write_tls(&mut self.wire.0.borrow_mut()[0]).unwrap();
            }
            while let Read::Data { bytes, .. } = transport.read(&mut self.read_scratch).unwrap() {
                arrived += bytes.len();
                let written = transport.write(bytes, &mut self.write_scratch).unwrap();
                assert_eq!(written.taken, bytes.len());
            }
            while !self.wire.0.borrow()[1].is_empty() {
                client.read_tls(&mut self.wire.0.borrow_mut()[1]).unwrap();
                client.process_new_packets().unwrap();
                let _ = client.reader().read_to_end(&mut returned);
            }
        }
        assert_eq!(returned, bytes);
        transport
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn an_idle_session_holds_its_keys_and_no_buffers() {
    const WARM: usize = 300;
    const COUNTED: usize = 2_000;
    let certificates = Certificates::new();
    // Nothing is given back before the end, or the second version would live in the memory of the first.
    let mut kept = Vec::new();
    for version in [&TLS12, &TLS13] {
        let mut bench = Bench {
            server: certificates.server(),
            client: certificates.client(version),
            wire: Wire::default(),
            read_scratch: ReadScratch::new(),
            write_scratch: WriteScratch::new(),
        };
        let message = vec![7; 20_000];
        kept.extend((0..WARM).map(|_| bench.session(&message)));
        kept.reserve(COUNTED);
        let before = resident();
        kept.extend((0..COUNTED).map(|_| bench.session(&message)));
        let each = (resident() - before) / COUNTED;
        println!("{:?}: {each} bytes for each of {COUNTED} idle sessions", version.version);
        // About 3.7 KiB, of which rustls' connection is 1.1 KiB. One read buffer would double it.
        assert!(each < 5 * 1024, "{:?}: an idle session takes {each} bytes", version.version);
    }
}
