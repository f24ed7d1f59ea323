//! What is said to be whole is whole, whatever happened before; against a model that knows every event.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KIND: &str = "trade_notifications";
const PUBLIC: [&str; 4] = ["trade:A", "trade:B", "trade:C", "user:ada"];

/// Rooms by number: those with a name outside, the room of a type, that of everyone.
fn nth(number: usize) -> RoomName {
    match number {
        4 => RoomName::event_type(KIND, None),
        5 => RoomName::everyone(),
        _ => room(PUBLIC[number]),
    }
}

const ROOMS: usize = 6;

#[derive(Default)]
struct Model {
    /// Each event: its number, its data, its rooms.
    events: Vec<(u64, String, Vec<usize>)>,
    members: [[bool; 2]; ROOMS],
    keepers: [[bool; 2]; ROOMS],
    /// For rooms that have been kept without a break: since which number.
    kept: BTreeMap<usize, u64>,
}

impl Model {
    fn missed(&self, after: u64, rooms: &[usize]) -> Vec<String> {
        let is_its = |event: &&(u64, String, Vec<usize>)| {
            event.0 > after && event.2.iter().any(|room| rooms.contains(room))
        };
        self.events.iter().filter(is_its).map(|(_, data, _)| data.clone()).collect()
    }
}

/// Publishes an event. Returns the rooms it is for.
fn publish(bench: &mut Bench, target: usize, is_notification: bool, data: &str) -> Vec<usize> {
    let event = if is_notification { "trade_notification" } else { "note" };
    let (target, rooms) = match target {
        0..=2 if is_notification => (format!(r#""room":"{}""#, PUBLIC[target]), vec![target, 4]),
        0..=2 => (format!(r#""room":"{}""#, PUBLIC[target]), vec![target]),
        3 => (r#""user":"ada""#.to_owned(), vec![3]),
        _ => (r#""broadcast":true"#.to_owned(), vec![5]),
    };
    bench.line(&format!(r#"{{{target},"event":"{event}","data":{data}}}"#));
    rooms
}

proptest! {
    #[test]
    fn what_is_given_is_whole(
        known in 1..9_usize,
        steps in prop::collection::vec((0..12_u8, 0..ROOMS, 0..2_u8, 0..20_u64), 1..120),
    ) {
        let mut bench = Bench::with(|settings| (settings.recovery, settings.rooms) = (Some(WINDOW), known));
        let mut model = Model::default();
        for (what, place, shard, number) in steps {
            let (name, seat) = (nth(place), usize::from(shard));
            // What shards say follows from who is in their rooms.
            let (is_in, keeps) = (model.members[place][seat], model.keepers[place][seat]);
            match what {
                0..=3 => {
                    let data = model.events.len().to_string();
                    let rooms = publish(&mut bench, place, number % 2 == 0, &data);
                    model.events.push((bench.sequence(), data, rooms));
                }
                4 if !is_in && place != 5 => {
                    bench.join(shard, &name, Policy::Every);
                    model.members[place][seat] = true;
                }
                5 if is_in => {
                    bench.leave(shard, &name);
                    (model.members[place][seat], model.keepers[place][seat]) = (false, false);
                }
                6 | 7 if !keeps => {
                    bench.keep(shard, &name);
                    model.keepers[place][seat] = true;
                    model.kept.entry(place).or_insert_with(|| bench.sequence());
                }
                8 if keeps => {
                    bench.unkeep(shard, &name);
                    model.keepers[place][seat] = false;
                }
                9 => bench.pass(Duration::from_secs(3 * number)),
                10 | 11 => {
                    let rooms = if what == 10 { vec![place] } else { vec![place, (place + 1) % ROOMS] };
                    let after = bench.sequence().saturating_sub(number);
                    let saved = rooms.iter().map(|room| every(&nth(*room))).collect();
                    let missed = bench.missed(query(after, saved));
                    let expected = model.missed(after, &rooms);
                    let is_whole = rooms.iter().all(|room| {
                        let is_kept = model.keepers[*room].contains(&true);
                        is_kept && model.kept.get(room).is_some_and(|since| *since <= after)
                    });
                    match missed {
                        Some(missed) => prop_assert_eq!(missed, expected),
                        // Time, and the bound of rooms, may have taken some.
                        None => prop_assert!(!is_whole || bench.now.mono > 0 || known < ROOMS),
                    }
                }
                _ => {}
            }
            bench.posted.0.clear();
        }
    }
}
