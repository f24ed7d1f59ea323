//! What turns cost that deliver nothing: idle ones, and a storm of new connections.

#[path = "null/mod.rs"]
mod null;

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use null::World;

fn idle(c: &mut Criterion) {
    let mut world = World::new();
    for _ in 0..10_000 {
        world.connect(&["trade:BTC-USDC".to_owned()]);
    }
    assert_eq!(world.connections(), 10_000);
    let before = world.writes();
    c.bench_function("turn/idle, 10000 connections", |bencher| bencher.iter(|| world.turn()));
    assert_eq!(world.writes(), before, "an idle turn writes nothing");
    world.advance(Duration::ZERO);
}

/// Accept, request with an HS256 token (which the bench signs, too), answer, join.
fn join_storm(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    group.sample_size(10).throughput(Throughput::Elements(1_000));
    group.bench_function("1000 connects and joins", |bencher| {
        bencher.iter_batched(
            World::new,
            |mut world| {
                for _ in 0..1_000 {
                    world.connect(&["price:BTC-USDC".to_owned()]);
                }
                world
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, idle, join_storm);
criterion_main!(benches);
