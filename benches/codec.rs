//! What the codecs cost for each message and each event: `cargo bench --bench codec`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::proto::ws::{self, Decoder, Opcode};
use fanfare::proto::{http, upgrade};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MAX_MESSAGE: usize = 32 * 1024;
const JOIN: &[u8] = br#"{"event":"join","data":{"room":"price:BTC-USDC"}}"#;
const HEAD: &[u8] =
    b"GET /ws?token=aaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbb.cccccccccccccccc&platform=ios HTTP/1.1\r\n\
    Host: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://example.com\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
    Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n";

/// A client's text frame.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    ws::write_header(&mut frame, Opcode::Text, payload.len());
    frame[1] |= 0x80;
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Decodes everything in `input` and returns how many messages it held.
fn drain(decoder: &mut Decoder, mut input: &mut [u8]) -> usize {
    let mut messages = 0;
    while let Ok((consumed, Some(message))) = decoder.decode(input, MAX_MESSAGE) {
        black_box(&message);
        messages += 1;
        input = &mut input[consumed..];
    }
    messages
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, payload) in [
        ("small text", JOIN.to_vec()),
        ("32 KiB text", vec![b'a'; MAX_MESSAGE]),
        ("32 KiB text, two-byte characters", "é".repeat(MAX_MESSAGE / 2).into_bytes()),
    ] {
        let frame = masked(&payload);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(name, |bencher| {
            let mut decoder = Decoder::new();
            bencher.iter_batched_ref(
                || frame.clone(),
                |input| assert_eq!(drain(&mut decoder, input), 1),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("{name}, in two reads"), |bencher| {
            let mut decoder = Decoder::new();
            bencher.iter_batched_ref(
                || frame.clone(),
                |input| {
                    let (first, second) = input.split_at_mut(frame.len() / 2);
                    assert_eq!(drain(&mut decoder, first), 0);
                    assert_eq!(drain(&mut decoder, second), 1);
                },
                BatchSize::SmallInput,
            );
        });
    }
    let frames = masked(JOIN).repeat(100);
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 small texts in one read", |bencher| {
        let mut decoder = Decoder::new();
        bencher.iter_batched_ref(
            || frames.clone(),
            |input| assert_eq!(drain(&mut decoder, input), 100),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let mut out = Vec::with_capacity(2 * MAX_MESSAGE);
    for (name, length) in [("header of a small frame", 100), ("header of a large frame", 1_000)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                ws::write_header(&mut out, Opcode::Text, black_box(length));
            });
        });
    }
    for (name, payload) in [("small text", JOIN), ("32 KiB text", &[b'a'; MAX_MESSAGE])] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                ws::write_text(&mut out, black_box(&[payload]));
            });
        });
    }
    group.finish();
}

fn handshake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("parse a head", |bencher| {
        bencher.iter(|| http::parse_request(black_box(HEAD), 16 * 1024).is_ok());
    });
    let mut out = Vec::with_capacity(1024);
    group.bench_function("head to 101", |bencher| {
        bencher.iter(|| {
            out.clear();
            if let Ok(Some((request, _))) = http::parse_request(black_box(HEAD), 16 * 1024)
                && let Ok(upgrade) = upgrade::check(&request)
            {
                upgrade::write_switching(&mut out, &upgrade, None);
            }
            assert!(!out.is_empty());
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode, handshake);
criterion_main!(benches);
