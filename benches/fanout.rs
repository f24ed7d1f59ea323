//! What a delivery costs apart from the system call: turns of a shard over sockets that take everything.

#[path = "null/mod.rs"]
mod null;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanfare::app::wire::write_event;
use fanfare::audience::Wire;
use fanfare::room::pattern::Policy;
use fanfare::room::publication::{Draft, Publication, Target};
use null::World;

const ROOM: &str = "trade:BTC-USDC";

/// Two capital letters for each number below 676.
fn letters(number: usize) -> String {
    [number / 26, number % 26].iter().map(|letter| char::from(b'A' + *letter as u8)).collect()
}

fn lines(events: usize, room: impl Fn(usize) -> String) -> String {
    (0..events).map(|number| null::line(&room(number), number)).collect()
}

/// One turn for `lines`; each delivery is one element.
fn bench(c: &mut Criterion, name: &str, world: &mut World, lines: &str, deliveries: u64) {
    let mut group = c.benchmark_group("fanout");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    group.throughput(Throughput::Elements(deliveries));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            world.publish(lines);
            world.turn();
        });
    });
    group.finish();
}

fn one_room(c: &mut Criterion) {
    let mut world = World::new();
    for _ in 0..1_000 {
        world.connect(&[ROOM.to_owned()]);
    }
    for events in [1, 64] {
        let lines = lines(events, |_| ROOM.to_owned());
        bench(c, &format!("1000 members, {events} events"), &mut world, &lines, 1_000 * events as u64);
    }
}

fn private_rooms(c: &mut Criterion) {
    let mut world = World::new();
    let room = |number: usize| format!("orders:user-{number:08}");
    for number in 0..10_000 {
        world.connect(&[room(number)]);
    }
    let lines = lines(200, |number| room(number * 49));
    bench(c, "10000 private rooms, 200 events", &mut world, &lines, 200);
}

fn many_rooms(c: &mut Criterion) {
    let mut world = World::new();
    let room = |number: usize| format!("trade:{}-{}", letters(number / 26), letters(number % 26));
    // A zipf(1) distribution over 1,000 rooms, by its inverse: the k-th room is 1,000^u.
    let mut state = 7_u64;
    let mut pick = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
        (1_000_f64.powf(uniform) as usize - 1).min(999)
    };
    let mut members = vec![0_u64; 1_000];
    for _ in 0..10_000 {
        let mut rooms = Vec::new();
        while rooms.len() < 5 {
            let number = pick();
            if !rooms.contains(&room(number)) {
                rooms.push(room(number));
                members[number] += 1;
            }
        }
        world.connect(&rooms);
    }
    let published: Vec<usize> = (0..200).map(|_| pick()).collect();
    let deliveries = published.iter().map(|number| members[*number]).sum();
    let lines = lines(200, |number| room(published[number]));
    bench(c, "10000 connections in 5 of 1000 rooms, 200 events", &mut world, &lines, deliveries);
}

fn encode(c: &mut Criterion) {
    let data = format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(134));
    let draft = Draft {
        target: Target::Room,
        name: ROOM,
        name_hash: 0,
        event: "\"price_update\"",
        data: &data,
        key: None,
        app: None,
        policy: Policy::Every,
        ts: None,
        except: None,
    };
    let publication = Publication::new(&draft, null::START);
    for wire in Wire::ALL {
        let mut out = Vec::new();
        c.bench_function(&format!("encode/{}", wire.name()), |bencher| {
            bencher.iter(|| {
                out.clear();
                write_event(&mut out, wire, black_box(&publication));
                out.len()
            });
        });
    }
}

criterion_group!(benches, encode, one_room, private_rooms, many_rooms);
criterion_main!(benches);
