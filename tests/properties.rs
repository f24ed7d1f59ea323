//! Tables against naive models: random operations, after each of which both say the same.
//!
//! Those of private tables stand in their modules.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fanfare::audience::{App, Wire};
use fanfare::hash::hash;
use fanfare::limits::Rate;
use fanfare::room::interest::Seats;
use fanfare::room::latest::Latest;
use fanfare::room::members::Members;
use fanfare::room::pattern::Policy;
use fanfare::room::publication::{Draft, Publication, Target};
use fanfare::time::Now;
use fanfare::users::{Refusal, UserLimits, Users};
use proptest::prelude::*;

fn publication(key: Option<&str>, event: &str) -> Arc<Publication> {
    let draft = Draft {
        target: Target::Room,
        name: "price:A",
        name_hash: hash("price:A"),
        event,
        data: "{}",
        key,
        app: None,
        policy: Policy::Latest,
        ts: None,
        except: None,
    };
    Arc::new(Publication::new(&draft, Now::default()))
}

proptest! {
    /// Members are a set for each wire, and each knows its place.
    #[test]
    fn members_are_sets_with_places(steps in prop::collection::vec((0..2_usize, 0..12_u32), 1..200)) {
        let mut members = Members::default();
        let mut places: BTreeMap<(usize, u32), u32> = BTreeMap::new();
        for (wire, client) in steps {
            // A client has one wire.
            let client = client * 2 + wire as u32;
            match places.remove(&(wire, client)) {
                None => {
                    places.insert((wire, client), members.insert(Wire::ALL[wire], client));
                }
                Some(place) => {
                    if let Some(moved) = members.remove(Wire::ALL[wire], place) {
                        prop_assert_eq!(places.insert((wire, moved), place).is_some(), true);
                    }
                }
            }
            prop_assert_eq!(members.len(), places.len());
            prop_assert_eq!(members.is_empty(), places.is_empty());
            let found: BTreeSet<(usize, u32, u32)> = members
                .groups()
                .flat_map(|group| {
                    let places = group.clients.iter().zip(0..);
                    places.map(move |(client, place)| (group.wire.index(), *client, place))
                })
                .collect();
            let known: BTreeSet<_> =
                places.iter().map(|((wire, client), place)| (*wire, *client, *place)).collect();
            prop_assert_eq!(found, known);
            prop_assert!(members.groups().all(|group| !group.clients.is_empty()));
        }
    }

    /// Seats are a map from shards to slots.
    #[test]
    fn seats_are_a_map(steps in prop::collection::vec((any::<bool>(), 0..64_u8, any::<u32>()), 1..100)) {
        let (mut seats, mut model) = (Seats::default(), BTreeMap::new());
        for (joins, shard, slot) in steps {
            if joins {
                seats.insert(shard, slot);
                model.insert(shard, slot);
            } else {
                seats.remove(shard);
                model.remove(&shard);
            }
            prop_assert!(seats.shards().shards().eq(model.keys().copied()));
            prop_assert_eq!(seats.shards().len() as usize, model.len());
            for shard in 0..64 {
                prop_assert_eq!(seats.slot(shard), model.get(&shard).copied());
            }
        }
    }

    /// The newest event of each key, and an event's name is another key than the same text given as one.
    #[test]
    fn latest_keeps_one_event_for_each_key(steps in prop::collection::vec((any::<bool>(), 0..6_u8), 1..60)) {
        let (mut latest, mut model) = (Latest::default(), BTreeMap::new());
        for (has_key, number) in steps {
            let (key, event) = (format!("k{number}"), format!("\"k{number}\""));
            let event = publication(has_key.then_some(&key), &event);
            latest.put(&event);
            model.insert((has_key, number), event);
            prop_assert_eq!(latest.events().len(), model.len());
            for event in model.values() {
                prop_assert!(latest.events().iter().any(|known| Arc::ptr_eq(known, event)));
            }
        }
    }

    /// A rate never lets more than its count through in any of its periods, and a wait it names is long enough.
    #[test]
    fn a_rate_holds_in_every_period(count in 1..20_u32, pauses in prop::collection::vec(0..400_u64, 1..200)) {
        let rate = Rate { count, period: Duration::from_secs(1) };
        let (mut stored, mut now, mut passed) = (0, 1_u64 << 40, Vec::new());
        for pause in pauses {
            now += pause * 1_000_000;
            match rate.check(stored, now) {
                Ok(next) => {
                    stored = next;
                    passed.push(now);
                }
                Err(wait) => {
                    prop_assert!(wait > Duration::ZERO && wait <= rate.period);
                    prop_assert!(rate.check(stored, now + wait.as_nanos() as u64).is_ok());
                }
            }
            // GCRA: a burst of `count`, and what is refilled in the period behind it.
            let second = 1_000_000_000;
            let in_period = passed.iter().filter(|time| **time + second > now).count();
            prop_assert!(in_period <= 2 * count as usize);
        }
    }

    /// Users count what is open, refuse what is too much, and are forgotten when nothing is left.
    #[test]
    fn users_count_connections(steps in prop::collection::vec((any::<bool>(), 0..4_usize, 0..2_usize), 1..200)) {
        let users = Users::default();
        let limits = UserLimits { connections: 3, connects: None };
        let mut open: BTreeMap<(usize, usize), Vec<_>> = BTreeMap::new();
        for (connects, user, app) in steps {
            let id: Arc<str> = format!("user-{user}").into();
            let known = open.entry((user, app)).or_default();
            if connects {
                match users.connect(&id, App::ALL[app], limits, 0) {
                    Ok(connection) => known.push(connection),
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::TooMany);
                        prop_assert_eq!(known.len(), 3);
                    }
                }
                prop_assert!(known.len() <= 3);
            } else if let Some(connection) = known.pop() {
                connection.leave(App::ALL[app]);
            }
            let all: usize = open.iter().filter(|((known, _), _)| *known == user).map(|(_, all)| all.len()).sum();
            prop_assert_eq!(users.connections(&id) as usize, all);
        }
        for ((_, app), connections) in open {
            connections.iter().for_each(|connection| connection.leave(App::ALL[app]));
        }
        users.sweep(1);
        prop_assert_eq!(users.sizes().0, 0);
    }
}
