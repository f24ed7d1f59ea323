//! What reading a publish line costs: `cargo bench --bench ingest`.
//!
//! The parts are measured by themselves too, to show where the time goes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::proto::ingest::{self, Piece, Splitter, reply};
use fanfare::proto::json::Parser;

/// The line of workload A: about 200 bytes around a payload of 150.
const PRICE_UPDATE: &str = r#"{"room":"price:BTC-USDC","event":"price_update","data":{"symbol":"BTC-USDC","price":61837.63,"change":-1.27,"volume":18234.51823,"high":62990.01,"low":60412.5,"timestamp":"2024-08-08T23:07:34.347Z"}}"#;
const WITH_ID: &str = r#"{"id":"0190f3a2-7c1e-7000","user":"1234567890","event":"balanceUpdated","data":{"currency":"BTC","balance":0.05432,"previous":0.05,"note":"a \"deposit\""},"ts":1723161254347673567}"#;

fn lines(c: &mut Criterion) {
    let mut group = c.benchmark_group("line");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500)).sample_size(30);
    for (name, line) in [
        ("price_update", PRICE_UPDATE.to_owned()),
        ("with_id", WITH_ID.to_owned()),
        ("order_book_4k", order_book(64)),
    ] {
        group.throughput(Throughput::Bytes(line.len() as u64));
        let mut parser = Parser::new(64);
        group.bench_function(format!("{name}/parse"), |b| {
            b.iter(|| ingest::parse(&mut parser, black_box(line.as_bytes())).is_ok());
        });
        group.bench_function(format!("{name}/validate"), |b| {
            b.iter(|| parser.parse(black_box(line.as_bytes())).is_ok());
        });
        let value = parser.parse(line.as_bytes()).expect("valid");
        group.bench_function(format!("{name}/members"), |b| b.iter(|| black_box(value).members().count()));
        group.bench_function(format!("{name}/utf8"), |b| {
            b.iter(|| std::str::from_utf8(black_box(line.as_bytes())).is_ok());
        });
    }
    group.finish();
}

/// A line with `levels` bids and asks.
fn order_book(levels: u64) -> String {
    let side = (0..levels).map(|level| format!("[\"{}.25\",\"0.{level}\"]", 61_000 + level));
    let side = side.collect::<Vec<_>>().join(",");
    format!(
        "{{\"room\":\"orderbook:BTC-USDC\",\"event\":\"order_book_update\",\
         \"data\":{{\"bids\":[{side}],\"asks\":[{side}]}}}}"
    )
}

fn splitting(c: &mut Criterion) {
    let mut group = c.benchmark_group("splitter");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(30);
    let chunk = format!("{PRICE_UPDATE}\n").repeat(300);
    group.throughput(Throughput::Elements(300));
    group.bench_function("300_lines", |b| {
        let mut splitter = Splitter::new(65_536);
        b.iter(|| {
            let mut rest = black_box(chunk.as_bytes());
            let mut bytes = 0;
            while let Some(piece) = splitter.next(&mut rest) {
                if let Piece::Line { text, .. } = piece {
                    bytes += text.len();
                }
            }
            bytes
        });
    });
    group.finish();
}

fn replies(c: &mut Criterion) {
    let mut out = Vec::new();
    let target = ingest::Target::Room("trade:BTC-USDC".into());
    c.bench_function("reply/ack", |b| {
        b.iter(|| {
            out.clear();
            reply::write_ack(&mut out, black_box("7f3a"), &target, 118, 2041, false);
            out.len()
        });
    });
}

criterion_group!(benches, lines, splitting, replies);
criterion_main!(benches);
