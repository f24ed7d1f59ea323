//! Over the simulated link: every behaviour of a socket, repeatable from a seed.

use std::io::{ErrorKind, Read as _, Write as _};

use fanfare::transport::{Flush, Read, Transport, Written};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, SupportedProtocolVersion};

use crate::certificates::Certificates;
use crate::link::{Mood, Random, link};
use crate::peers::{Peers, pattern};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A connection may be handed over to another shard.
fn assert_send<T: Send>() {}
const _: fn() = assert_send::<Transport<mio::net::TcpStream>>;

#[test]
fn bytes_arrive_in_both_directions_at_every_size() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for version in VERSIONS {
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Willing, 1);
        peers.shake_hands().unwrap();
        assert_eq!(peers.transport.tls().unwrap().version(), Some(version.version));
        for length in [1, 2, 125, 4_096, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1 << 20] {
            let bytes = pattern(length);
            peers.send(&bytes).unwrap();
            assert!(peers.arrived == bytes, "{length} bytes arrived changed");
            peers.answer(&bytes).unwrap();
            assert!(peers.returned == bytes, "{length} bytes returned changed");
            peers.arrived.clear();
            peers.returned.clear();
        }
        assert_eq!(peers.wire.waiting(), 0);
    }
}

#[test]
fn short_writes_and_blocks_change_nothing() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for seed in 0..24 {
        let version = VERSIONS[seed as usize % 2];
        let mut random = Random::new(seed ^ 0xabcd);
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Moody, seed);
        peers.shake_hands().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for _ in 0..8 {
            let bytes = pattern(1 + random.below(150_000));
            peers.send(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            peers.answer(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(peers.arrived == bytes && peers.returned == bytes, "seed {seed}");
            peers.arrived.clear();
            peers.returned.clear();
        }
        peers.finish().unwrap();
        assert!(peers.wire.server_ended());
        // A clean end for the client: not an `UnexpectedEof`.
        assert_eq!(peers.client.reader().read(&mut [0; 1]).unwrap(), 0, "seed {seed}");
    }
}

#[test]
fn one_byte_at_a_time_is_enough() {
    let certificates = Certificates::new();
    for (server, version) in [
        (certificates.server(), VERSIONS[0]),
        (certificates.server(), VERSIONS[1]),
        (certificates.strict_server(), VERSIONS[0]),
        (certificates.strict_server(), VERSIONS[1]),
    ] {
        let mut peers = Peers::new(&server, &certificates.publisher(version), Mood::Bytewise, 1);
        peers.shake_hands().unwrap();
        let bytes = pattern(5_000);
        peers.send(&bytes).unwrap();
        peers.answer(&bytes).unwrap();
        assert!(peers.arrived == bytes && peers.returned == bytes);
    }
}

#[test]
fn small_slices_share_a_record_and_one_write() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for version in VERSIONS {
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Willing, 1);
        peers.shake_hands().unwrap();
        peers.step_client().unwrap();
        let before = peers.wire.server_writes();

        let frames: Vec<Vec<u8>> = (1..100).map(pattern).collect();
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let expected = frames.concat();
        assert_eq!(peers.write_once(&slices).unwrap(), Written { taken: expected.len(), blocked: false });
        assert_eq!(peers.wire.server_writes(), before + 1);
        assert!(peers.wire.waiting() < expected.len() + 40, "more than one record");
        peers.until(|peers| peers.returned.len() >= expected.len()).unwrap();
        assert!(peers.returned == expected);
        peers.returned.clear();

        // Small ones around large ones, more than one call takes.
        let large = pattern(40_000);
        let slices: Vec<&[u8]> = vec![b"a", &large, b"", b"bc", &large, b"d"];
        let expected = slices.concat();
        let written = peers.write_once(&slices).unwrap();
        assert_eq!(written, Written { taken: 65_536, blocked: false });
        assert_eq!(peers.wire.server_writes(), before + 2);
        let rest = &expected[written.taken..];
        assert_eq!(peers.write_once(&[rest]).unwrap(), Written { taken: rest.len(), blocked: false });
        peers.until(|peers| peers.returned.len() >= expected.len()).unwrap();
        assert!(peers.returned == expected);
        assert_eq!(peers.write_once(&[]).unwrap(), Written { taken: 0, blocked: false });
    }
}

#[test]
fn a_returning_client_resumes() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for version in VERSIONS {
        let client = certificates.client(version);
        let reloaded = server.reload().unwrap();
        for (server, kind) in [
            (&server, HandshakeKind::Full),
            (&server, HandshakeKind::Resumed),
            (&server, HandshakeKind::Resumed),
            (&reloaded, HandshakeKind::Resumed),
        ] {
            let mut peers = Peers::new(server, &client, Mood::Willing, 1);
            peers.shake_hands().unwrap();
            peers.send(b"hello").unwrap();
            peers.answer(b"hello").unwrap();
            assert_eq!(peers.client.handshake_kind(), Some(kind), "{version:?}");
            assert_eq!(peers.transport.tls().unwrap().resumed(), kind == HandshakeKind::Resumed);
            peers.finish().unwrap();
        }
    }
}

#[test]
fn client_certificates_are_checked_again_after_a_reload() {
    let certificates = Certificates::new();
    let server = certificates.strict_server();
    for version in VERSIONS {
        let client = certificates.publisher(version);
        let reloaded = server.reload().unwrap();
        for (server, kind) in [
            (&server, HandshakeKind::Full),
            (&server, HandshakeKind::Resumed),
            (&reloaded, HandshakeKind::Full),
        ] {
            let mut peers = Peers::new(server, &client, Mood::Willing, 1);
            peers.shake_hands().unwrap();
            peers.answer(b"hello").unwrap();
            assert_eq!(peers.client.handshake_kind(), Some(kind), "{version:?}");
            assert_eq!(peers.transport.tls().unwrap().peer_certificates().unwrap().len(), 1);
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let certificates = Certificates::new();
    let server = certificates.strict_server();
    for version in VERSIONS {
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Willing, 1);
        let error = loop {
            peers.step_client().unwrap();
            if let Err(error) = peers.step_server() {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("certificate"), "{error}");
        let alert = peers.step_client().unwrap_err().to_string();
        assert!(alert.contains("alert"), "the client learned only: {alert}");
        assert!(peers.write_once(&[b"x"]).is_err());
    }
}

#[test]
fn a_client_that_trusts_another_authority_ends_the_handshake() {
    let certificates = Certificates::new();
    let others = Certificates::new();
    for version in VERSIONS {
        let mut peers = Peers::new(&certificates.server(), &others.client(version), Mood::Moody, 3);
        let mut failed = None;
        while failed.is_none() {
            let _ = peers.step_client();
            failed = peers.step_server().err();
        }
        let text = failed.unwrap().to_string();
        assert!(text.contains("gave up with the alert"), "{text}");
    }
}

#[test]
fn keys_can_be_renewed_at_any_time() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for mood in [Mood::Willing, Mood::Bytewise, Mood::Moody] {
        let mut peers = Peers::new(&server, &certificates.client(&TLS13), mood, 7);
        peers.shake_hands().unwrap();
        for _ in 0..5 {
            peers.client.refresh_traffic_keys().unwrap();
            let bytes = pattern(3_000);
            peers.send(&bytes).unwrap();
            peers.answer(&bytes).unwrap();
            assert!(peers.arrived == bytes && peers.returned == bytes);
            peers.arrived.clear();
            peers.returned.clear();
        }
    }
}

#[test]
fn held_records_are_bounded_and_block_further_ones() {
    let certificates = Certificates::new();
    let mut peers = Peers::new(&certificates.server(), &certificates.client(&TLS13), Mood::Willing, 1);
    peers.shake_hands().unwrap();
    let bytes = pattern(1 << 20);
    peers.transport.stream_mut().set_mood(Mood::Bytewise);
    assert_eq!(
        peers.transport.write(&bytes, &mut peers.write_scratch).unwrap(),
        Written { taken: 65_536, blocked: true }
    );
    for _ in 0..100 {
        assert!(peers.transport.wants_flush());
        assert_eq!(peers.transport.flush().unwrap(), Flush::Blocked);
        let written = peers.transport.write(&bytes, &mut peers.write_scratch).unwrap();
        assert_eq!(written, Written { taken: 0, blocked: true });
    }
    peers.transport.stream_mut().set_mood(Mood::Willing);
    assert_eq!(peers.transport.flush().unwrap(), Flush::Drained);
    peers.until(|peers| peers.returned.len() == 65_536).unwrap();
    peers.answer(&bytes[65_536..]).unwrap();
    assert!(peers.returned == bytes);
}

#[test]
fn the_client_may_end_first_and_still_read() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for version in VERSIONS {
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Moody, 11);
        peers.shake_hands().unwrap();
        peers.client.writer().write_all(b"last words").unwrap();
        peers.client.send_close_notify();
        peers.until(|peers| peers.closed).unwrap();
        assert_eq!(peers.arrived, b"last words");
        assert!(matches!(peers.transport.read(&mut peers.read_scratch).unwrap(), Read::Closed));
        let bytes = pattern(100_000);
        peers.answer(&bytes).unwrap();
        assert!(peers.returned == bytes);
        peers.finish().unwrap();
        assert_eq!(peers.client.reader().read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn data_and_goodbye_in_one_read_are_both_reported() {
    let certificates = Certificates::new();
    let mut peers = Peers::new(&certificates.server(), &certificates.client(&TLS13), Mood::Willing, 1);
    peers.shake_hands().unwrap();
    peers.client.writer().write_all(b"x").unwrap();
    peers.client.send_close_notify();
    peers.step_client().unwrap();
    peers.wire.write_all(b"not TLS, and after the end: ignored").unwrap();
    peers.wire.end();
    match peers.transport.read(&mut peers.read_scratch).unwrap() {
        Read::Data { bytes, more } => assert_eq!((&*bytes, more), (&b"x"[..], true)),
        other => panic!("{other:?}"),
    }
    assert_eq!(peers.transport.read(&mut peers.read_scratch).unwrap(), Read::Closed);
}

#[test]
fn what_comes_after_our_goodbye_is_thrown_away() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for version in VERSIONS {
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Willing, 1);
        peers.shake_hands().unwrap();
        peers.transport.close_notify().unwrap();
        peers.transport.close_notify().unwrap();
        peers.client.writer().write_all(b"too late").unwrap();
        peers.step_client().unwrap();
        peers.wire.write_all(&pattern(200_000)).unwrap();
        while peers.step_server().unwrap() {}
        assert!(peers.arrived.is_empty());
        let error = peers.transport.write(b"x", &mut peers.write_scratch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(peers.transport.shutdown_write().unwrap(), Flush::Drained);
        peers.wire.end();
        peers.step_server().unwrap();
        assert!(peers.closed);
    }
}

#[test]
fn an_end_in_the_handshake_is_an_end() {
    let certificates = Certificates::new();
    let mut peers = Peers::new(&certificates.server(), &certificates.client(&TLS13), Mood::Willing, 1);
    assert_eq!(
        peers.transport.write(b"too early", &mut peers.write_scratch).unwrap(),
        Written { taken: 0, blocked: true }
    );
    peers.wire.end();
    assert_eq!(peers.transport.read(&mut peers.read_scratch).unwrap(), Read::Closed);
    assert_eq!(peers.transport.shutdown_write().unwrap(), Flush::Drained);
    assert!(peers.wire.server_ended());
}

#[test]
fn garbage_ends_in_an_error_that_says_so() {
    let certificates = Certificates::new();
    let server = certificates.server();
    let long_record = [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    // A handshake message of 60 KB in records of 16 KB.
    let part = [&[22, 3, 1, 0x40, 0][..], &[1, 0, 0xea, 0x60], &[0; 0x3ffc]].concat();
    let long_message = [part.clone(), [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat()].concat();
    for (bytes, words) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], "does not speak TLS"),
        (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], "does not speak TLS"),
        (&[0; 100_000][..], "does not speak TLS"),
        (&long_record[..], "does not speak TLS"),
        (&long_message[..], "handshake message of more than"),
        (&[23, 3, 3, 0, 1, 0][..], "TLS handshake"),
        (&[21, 3, 3, 0, 2, 2, 40][..], "gave up with the alert HandshakeFailure"),
    ] {
        let (stream, mut wire) = link(Mood::Willing, 1);
        let mut transport = server.accept(stream).unwrap();
        let mut scratch = fanfare::transport::ReadScratch::new();
        wire.write_all(bytes).unwrap();
        let error = loop {
            match transport.read(&mut scratch) {
                Ok(Read::Data { more: true, .. }) => {}
                Ok(other) => panic!("{other:?} for {words}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains(words), "{error}");

        // It can linger: the rest is thrown away, and the end is seen.
        wire.write_all(bytes).unwrap();
        wire.end();
        assert_eq!(transport.shutdown_write().unwrap(), Flush::Drained);
        loop {
            match transport.read(&mut scratch).unwrap() {
                Read::Data { bytes, .. } => assert!(bytes.is_empty()),
                other => break assert_eq!(other, Read::Closed),
            }
        }
    }
}

#[test]
fn damage_at_any_place_is_an_error_and_never_a_panic() {
    let certificates = Certificates::new();
    let server = certificates.server();
    for seed in 0..120_u64 {
        let version = VERSIONS[seed as usize % 2];
        let mut random = Random::new(seed);
        let mut peers = Peers::new(&server, &certificates.client(version), Mood::Moody, seed);
        let mut steps = random.below(12);
        for _ in 0..10_000 {
            if peers.step_server().is_err() || peers.closed {
                break;
            }
            if steps == 0 {
                let noise: Vec<u8> = (0..1 + random.below(400)).map(|_| random.below(256) as u8).collect();
                peers.wire.write_all(&noise).unwrap();
                peers.wire.end();
                steps = usize::MAX;
            }
            steps -= 1;
            // The client may notice as well; it goes on to say so.
            let _ = peers.step_client();
            if !peers.transport.handshaking() {
                let _ = peers.transport.write(&noise_like(seed), &mut peers.write_scratch);
            }
        }
        let _ = peers.transport.close_notify();
        let _ = peers.transport.shutdown_write();
        let _ = peers.step_server();
    }
}

fn noise_like(seed: u64) -> Vec<u8> {
    pattern(seed as usize * 50)
}

#[test]
fn a_plain_transport_passes_bytes_on() {
    let (stream, mut wire) = link(Mood::Willing, 1);
    let mut transport = Transport::Plain(stream);
    let mut read_scratch = fanfare::transport::ReadScratch::new();
    let mut write_scratch = fanfare::transport::WriteScratch::new();
    assert_eq!(transport.read(&mut read_scratch).unwrap(), Read::Blocked);
    wire.write_all(&pattern(65_536 + 10)).unwrap();
    for (length, expected) in [(65_536, true), (10, false)] {
        match transport.read(&mut read_scratch).unwrap() {
            Read::Data { bytes, more } => assert_eq!((bytes.len(), more), (length, expected)),
            other => panic!("{other:?}"),
        }
    }
    wire.end();
    assert_eq!(transport.read(&mut read_scratch).unwrap(), Read::Closed);

    let slices = [std::io::IoSlice::new(b"ab"), std::io::IoSlice::new(b"cd")];
    let written = transport.write_vectored(&slices, &mut write_scratch).unwrap();
    assert_eq!(written, Written { taken: 4, blocked: false });
    transport.stream_mut().set_mood(Mood::Bytewise);
    let written = transport.write(b"efg", &mut write_scratch).unwrap();
    assert_eq!(written, Written { taken: 1, blocked: true });
    assert!(!transport.wants_flush() && !transport.handshaking() && transport.tls().is_none());
    assert_eq!(transport.shutdown_write().unwrap(), Flush::Drained);
    let mut read = Vec::new();
    wire.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"abcde");
}
