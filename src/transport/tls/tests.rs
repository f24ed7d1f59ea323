//! rustls wears no key out: after so many records TLS 1.3 takes a fresh one, TLS 1.2 ends. With the real limits
//! this comes after 2²⁴ records, so the cipher suites here have limits of a few.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};

use crate::transport::tls::TlsSession;
use crate::transport::{ReadScratch, Stream, WriteScratch};

const RECORDS: u64 = 10;

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

struct Pair {
    session: TlsSession<Wire>,
    client: ClientConnection,
    wire: Wire,
    returned: Vec<u8>,
}

impl Pair {
    fn new(suite: SupportedCipherSuite) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = |suite| Arc::new(CryptoProvider { cipher_suites: vec![suite], ..default_provider() });
        let server = ServerConfig::builder_with_provider(provider(short_lived(suite)))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![issued.cert.der().clone()],
                PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into()),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider(suite))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let wire = Wire::default();
        let mut pair = Self {
            session: TlsSession::new(wire.clone(), Arc::new(server)).unwrap(),
            client: ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap(),
            wire,
            returned: Vec::new(),
        };
        while pair.session.handshaking() {
            pair.exchange();
        }
        pair
    }

    fn exchange(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire.0.borrow_mut()[0]).unwrap();
        }
        self.session.read(&mut ReadScratch::new()).unwrap();
        while !self.wire.0.borrow()[1].is_empty() {
            self.client.read_tls(&mut self.wire.0.borrow_mut()[1]).unwrap();
            self.client.process_new_packets().unwrap();
            let _ = self.client.reader().read_to_end(&mut self.returned);
        }
    }
}

/// The same suite, but its keys serve for `RECORDS` records.
fn short_lived(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: RECORDS,
    };
    match suite {
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                ..*suite
            })))
        }
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                ..*suite
            })))
        }
    }
}

#[test]
fn tls13_goes_on_with_fresh_keys() {
    let mut pair = Pair::new(cipher_suite::TLS13_AES_128_GCM_SHA256);
    let mut scratch = WriteScratch::new();
    for length in [1, 40_000, 65_536, 65_536, 100, 16_384] {
        for byte in 0..7 {
            let bytes = vec![byte; length];
            let written = pair.session.write(&[IoSlice::new(&bytes)], &mut scratch).unwrap();
            assert_eq!(written.taken, length);
            pair.exchange();
            assert!(pair.returned == bytes, "{length} bytes arrived changed");
            pair.returned.clear();
        }
    }
}

#[test]
fn tls12_ends_with_a_goodbye() {
    let mut pair = Pair::new(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    let mut scratch = WriteScratch::new();
    let error = (0..RECORDS)
        .find_map(|_| pair.session.write(&[IoSlice::new(b"x")], &mut scratch).err())
        .expect("the key was worn out");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("connect again"), "{error}");
    while !pair.wire.0.borrow()[1].is_empty() {
        pair.client.read_tls(&mut pair.wire.0.borrow_mut()[1]).unwrap();
    }
    assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    assert!(pair.session.write(&[IoSlice::new(b"x")], &mut scratch).is_err());
}
