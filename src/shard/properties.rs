//! The private tables of a shard against naive models.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;

use crate::app::wire::write_event;
use crate::audience::Wire;
use crate::hash::hash;
use crate::proto::ws;
use crate::room::pattern::Policy;
use crate::room::publication::{Draft, Publication, Target};
use crate::shard::backlog::Backlog;
use crate::shard::outbox::Batch;
use crate::shard::slots::Slots;
use crate::shard::wheel::{Tick, Wheel};
use crate::time::Now;

fn event(sequence: u64, key: &str, length: usize) -> Arc<Publication> {
    let data = format!("[{sequence},\"{}\"]", "x".repeat(length));
    let draft = Draft {
        target: Target::Room,
        name: "price:A",
        name_hash: hash("price:A"),
        event: "\"e\"",
        data: &data,
        key: Some(key),
        app: None,
        policy: Policy::Latest,
        ts: None,
        except: None,
    };
    let mut event = Publication::new(&draft, Now::default());
    event.sequence = sequence;
    Arc::new(event)
}

/// The sequence number in a frame of wire `typed`: `{"type":"e","data":[7,"xx"]}`.
fn sequence(frame: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(&frame[2..]);
    let from = text.find('[').map_or(0, |at| at + 1);
    let digits: String = text[from..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u64::MAX)
}

proptest! {
    #[test]
    fn slots_are_a_map_with_generations(steps in prop::collection::vec((any::<bool>(), 0..40_u32), 1..300)) {
        let (mut slots, mut model): (_, BTreeMap<u32, (u32, u64)>) = (Slots::default(), BTreeMap::new());
        for (value, (inserts, key)) in (0_u64..).zip(steps) {
            if inserts {
                let (key, generation) = slots.next_key();
                prop_assert_eq!(slots.insert(value), key);
                prop_assert!(model.insert(key, (generation, value)).is_none());
            } else {
                prop_assert_eq!(slots.remove(key), model.remove(&key).map(|(_, value)| value));
            }
            prop_assert_eq!(slots.len(), model.len());
            prop_assert!(slots.keys().eq(model.keys().copied()));
            for (key, (generation, value)) in &model {
                prop_assert_eq!(slots.get(*key), Some(value));
                prop_assert!(slots.get_if(*key, *generation).is_some());
                prop_assert!(slots.get_if(*key, generation.wrapping_add(1)).is_none());
            }
        }
    }

    /// Whatever is armed fires in its tick: never early, never twice, and the wait never reaches beyond it.
    #[test]
    fn the_wheel_fires_in_time(steps in prop::collection::vec((0..9_000_u32, 0..3_000_u32), 1..100)) {
        let mut now: Tick = 1_000;
        let (mut wheel, mut model): (_, BTreeMap<u32, Tick>) = (Wheel::new(now), BTreeMap::new());
        let mut fired = Vec::new();
        for (key, (ahead, pause)) in (0_u32..).zip(steps) {
            let at = wheel.arm(key, now + ahead);
            prop_assert!(at > now && at <= (now + ahead).max(now + 1));
            model.insert(key, at);
            let next = model.values().min().copied().unwrap_or(Tick::MAX);
            prop_assert!(now + wheel.next_within(10_000) <= next);
            now += pause;
            wheel.advance(now, &mut fired);
            for key in fired.drain(..) {
                let at = model.remove(&key);
                prop_assert!(at.is_some_and(|at| at <= now), "{key} armed for {at:?} fired at {now}");
            }
            prop_assert!(model.values().all(|at| *at > now));
        }
    }

    /// Through any sequence of short writes: whole frames, those of policy `every` all and in order, of each key ever
    /// newer events and the newest in the end; and the bytes held are counted right.
    #[test]
    fn a_backlog_sends_whole_frames_and_nothing_older_after_newer(
        steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..200_usize), 1..120),
    ) {
        let mut backlog = Backlog::default();
        let (mut stream, mut scratch) = (Vec::new(), Vec::new());
        let mut every = Vec::new();
        let mut newest: HashMap<u8, u64> = HashMap::new();
        let mut key_of: HashMap<u64, u8> = HashMap::new();
        for (number, (what, key, size)) in (1_u64..).zip(&steps) {
            match what {
                0 => {
                    let mut frame = Vec::new();
                    ws::write_text(&mut frame, &[format!("[{number},\"{}\"]", "y".repeat(*size)).as_bytes()]);
                    backlog.hold(&frame);
                    every.push(number);
                }
                1 => {
                    let event = event(number, &format!("k{key}"), *size);
                    newest.insert(*key, number);
                    key_of.insert(number, *key);
                    let events = Rc::new(vec![event]);
                    let bytes = Rc::new(Vec::new());
                    backlog.hold_batch(&Batch { bytes, policy: Policy::Latest, events });
                }
                _ => {
                    backlog.refresh(Wire::Typed, write_event);
                    backlog.gather(&mut scratch);
                    let written = scratch.len().min(*size);
                    stream.extend_from_slice(&scratch[..written]);
                    backlog.advance(written);
                }
            }
        }
        while !backlog.is_drained() {
            backlog.refresh(Wire::Typed, write_event);
            backlog.gather(&mut scratch);
            prop_assert_eq!(scratch.len(), backlog.bytes());
            stream.extend_from_slice(&scratch);
            backlog.advance(scratch.len());
        }
        prop_assert_eq!(backlog.bytes(), 0);
        let (mut rest, mut sent_every) = (&stream[..], Vec::new());
        let mut last: HashMap<u8, u64> = HashMap::new();
        while let Some(length) = ws::frame_length(rest) {
            let number = sequence(&rest[..length]);
            match key_of.get(&number) {
                None => sent_every.push(number),
                Some(key) => prop_assert!(last.insert(*key, number) < Some(number)),
            }
            rest = &rest[length..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(sent_every, every);
        prop_assert_eq!(last, newest);
    }
}
