//! TLS on the public listeners and the ingest port, and new certificates without dropping anybody.

use std::io::{Read, Write};

use serde_json::json;

use crate::support::tls::Authority;
use crate::support::token::token;
use crate::support::{Broker, Client, Publisher, each_shard_count, eventually, http};

fn wss(broker: &Broker, authority: &Authority, user: &str) -> Client {
    let stream = authority.connect(broker.public, false).unwrap();
    let path = format!("/feed?token={}", token(user));
    let mut client = Client::over(stream, "localhost", &path, &[("Origin", "https://localhost")]).unwrap();
    assert_eq!(client.next()["event"], "connected");
    assert_eq!(client.next()["event"], "authenticated");
    client
}

#[test]
fn clients_and_publishers_may_speak_tls() {
    each_shard_count(|shards| {
        let authority = Authority::new();
        let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
        let broker = Broker::start(&[
            shards,
            // All is published before anything is read.
            "limits.outbox = 16777216",
            &format!("tls.cert = {cert}"),
            &format!("tls.key = {key}"),
            &format!("ingest.tls.cert = {cert}"),
            &format!("ingest.tls.key = {key}"),
            &format!("ingest.tls.client_ca = {}", authority.path("ca.pem")),
        ]);
        let mut ada = wss(&broker, &authority, "ada-0001");
        ada.join("trade:BTC-USDC");
        ada.join("price:BTC-USDC");
        let mut publisher = Publisher::over(authority.connect(broker.ingest, true).unwrap());
        // Many, and large ones: over the sizes of records and socket buffers.
        for n in 0..500 {
            let padding = "x".repeat(n * 37 % 20_000);
            publisher.send(
                json!({ "room": "trade:BTC-USDC", "event": "t", "data": { "n": n, "padding": padding } }),
            );
        }
        for n in 0..500 {
            let message = ada.next();
            assert_eq!(
                (&message["data"]["n"], message["data"]["padding"].as_str().unwrap().len()),
                (&json!(n), n * 37 % 20_000)
            );
        }
        publisher.publish(json!({ "room": "price:BTC-USDC", "event": "p", "data": 1 }));
        assert_eq!(ada.next()["data"], 1);
        ada.close();
        broker.wait_for_zero();
    });
}

#[test]
fn a_publisher_needs_a_certificate_where_an_authority_is_configured() {
    let authority = Authority::new();
    let broker = Broker::start(&[
        &format!("ingest.tls.cert = {}", authority.path("server.pem")),
        &format!("ingest.tls.key = {}", authority.path("server.key")),
        &format!("ingest.tls.client_ca = {}", authority.path("ca.pem")),
    ]);
    let refused = |authority: &Authority, with_certificate: bool| {
        // With TLS 1.3 the client is done before the server has judged its certificate.
        authority.connect(broker.ingest, with_certificate).is_err()
            || authority.connect(broker.ingest, with_certificate).is_ok_and(|mut stream| {
                let _ = stream.write_all(b"{\"op\":\"ping\"}\n");
                !matches!(stream.read(&mut [0; 100]), Ok(1..))
            })
    };
    assert!(refused(&authority, false));
    // Plain text gets nowhere.
    let mut plain = http::connect(broker.ingest);
    plain.write_all(b"{\"op\":\"ping\"}\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("pong"), "{answer:?}");
    let mut publisher = Publisher::over(authority.connect(broker.ingest, true).unwrap());
    assert_eq!(publisher.ask(json!({ "op": "ping" })), json!({ "op": "pong" }));
    broker.wait_for_metric("fanfare_ingest_connections", &[], 1.0);
}

#[test]
fn new_certificates_serve_new_connections_and_old_ones_go_on() {
    each_shard_count(|shards| {
        let mut authority = Authority::new();
        let mut broker = Broker::start(&[
            shards,
            &format!("tls.cert = {}", authority.path("server.pem")),
            &format!("tls.key = {}", authority.path("server.key")),
        ]);
        let mut ada = wss(&broker, &authority, "ada-0001");
        authority.renew();
        assert!(authority.connect(broker.public, false).is_err(), "the old certificate is still served");
        broker.reload(&[]);
        eventually("the new certificate", || authority.connect(broker.public, false).ok());
        wss(&broker, &authority, "bob-0001").expect_nothing();
        ada.expect_nothing();
        // A certificate that cannot be read changes nothing.
        std::fs::write(authority.path("server.pem").trim_matches('"'), "nonsense").unwrap();
        broker.reload(&[]);
        wss(&broker, &authority, "eve-0001").expect_nothing();
    });
}

#[test]
fn plain_bytes_and_cut_handshakes_on_a_tls_port_hurt_nobody() {
    let authority = Authority::new();
    let mut broker = Broker::start(&[
        &format!("tls.cert = {}", authority.path("server.pem")),
        &format!("tls.key = {}", authority.path("server.key")),
        "limits.handshake = \"1s\"",
    ]);
    let mut ada = wss(&broker, &authority, "ada-0001");
    let mut random = crate::support::raw::Random(0x5EED_0003);
    for n in 0..60 {
        let mut stream = http::connect(broker.public);
        let junk = match n % 3 {
            0 => b"GET /feed HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            1 => random.bytes(500),
            _ => [b"\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03".to_vec(), random.bytes(100)].concat(),
        };
        let _ = stream.write_all(&junk);
        if n % 2 == 0 {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    // A session that is cut in the middle of a record.
    for n in 0..20 {
        let mut stream = authority.connect(broker.public, false).unwrap();
        let path = format!("/feed?token={}", token(&format!("cut-{n:05}")));
        stream
            .write_all(&http::head("GET", &path, "localhost", &crate::support::client::UPGRADE, 0))
            .unwrap();
        stream.sock.write_all(b"\x17\x03\x03\x40\x00half a record").unwrap();
    }
    ada.expect_nothing();
    assert!(broker.is_running());
    ada.close();
    broker.wait_for_zero();
    broker.wait_for_metric("fanfare_sockets", &[], 0.0);
}
