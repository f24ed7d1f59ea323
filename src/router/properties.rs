//! The table of rooms against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::hash::hash;
use crate::router::keep::Kept;
use crate::router::rooms::Rooms;

const LIMIT: usize = 5;

/// A room of the model: its members' shards, whether its events are kept, and when it last moved to the new end of the list.
#[derive(Clone, Debug, Default)]
struct Known {
    shards: Vec<u8>,
    is_kept: bool,
    listed: u64,
}

impl Known {
    fn is_needed(&self) -> bool {
        self.is_kept || !self.shards.is_empty()
    }
}

proptest! {
    /// Rooms with members or kept events stay; of the others the one that was published, or let go, longest ago goes first.
    #[test]
    fn rooms_are_forgotten_in_order(steps in prop::collection::vec((0..6_u8, 0..9_u8, 0..3_u8), 1..300)) {
        let mut rooms = Rooms::new(LIMIT);
        let mut model: BTreeMap<String, Known> = BTreeMap::new();
        for (time, (what, room, shard)) in (1_u64..).zip(steps) {
            let name = format!("trade:{room}");
            if matches!(what, 0 | 1 | 3) {
                if !model.contains_key(&name) && model.len() >= LIMIT {
                    let oldest = model.iter().filter(|(_, room)| !room.is_needed());
                    let oldest = oldest.min_by_key(|(_, room)| room.listed).map(|(name, _)| name.clone());
                    oldest.map(|name| model.remove(&name));
                }
                let key = rooms.touch(hash(&name), &name);
                let known = model.entry(name).or_default();
                known.listed = time;
                if what == 3 {
                    rooms.keep(key, Kept::new(0));
                    known.is_kept = true;
                } else if what == 1 {
                    rooms.join(key, shard, u32::from(shard));
                    known.shards.retain(|other| *other != shard);
                    known.shards.push(shard);
                }
            } else if let Some(key) = rooms.find(hash(&name), &name)
                && what == 4
            {
                rooms.give_up(key);
                if let Some(known) = model.get_mut(&name)
                    && std::mem::take(&mut known.is_kept)
                {
                    known.listed = time;
                }
            } else if let Some(key) = rooms.find(hash(&name), &name) {
                rooms.leave(key, shard);
                if let Some(known) = model.get_mut(&name)
                    && known.shards.contains(&shard)
                {
                    known.shards.retain(|other| *other != shard);
                    known.listed = time;
                }
            }
            for room in 0..9 {
                let name = format!("trade:{room}");
                prop_assert_eq!(rooms.find(hash(&name), &name).is_some(), model.contains_key(&name));
            }
            for (name, known) in &model {
                let key = rooms.find(hash(name), name);
                let shards = key.and_then(|key| rooms.get(key)).map(|room| room.seats.shards().len());
                prop_assert_eq!(shards, Some(known.shards.len() as u32), "{}", name);
            }
        }
    }
}
