//! Publish ids seen lately: what makes a publish idempotent (`spec/ingest.md`).

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::limits::{PUBLISH_ID_AGE, PUBLISH_IDS};
use crate::room::name;

/// The ids of the last 2 minutes, at most 100,000.
///
/// An id is known by two 64-bit hashes of it and its target, seeded at random for each process: two different ids
/// would have to agree in all 128 bits to be taken for one.
#[derive(Default)]
pub struct PublishIds {
    offsets: HashMap<u128, u64>,
    ages: VecDeque<(u64, u128)>,
}

/// What is known of an id.
pub enum Seen {
    /// It is new; note it with [`PublishIds::note`].
    New(u128),
    /// It was published as that offset.
    Before(u64),
}

impl PublishIds {
    /// Whether `id` was published to the target of that name and kind before.
    pub fn look_up(&mut self, kind: &str, target: &str, id: &str, now: u64) -> Seen {
        self.forget(now);
        let text = format!("{kind}\u{0}{target}\u{0}{id}");
        let low = name::hash(&text);
        let high = name::hash(&format!("\u{0}{text}"));
        let key = u128::from(high) << 64 | u128::from(low);
        match self.offsets.get(&key) {
            Some(offset) => Seen::Before(*offset),
            None => Seen::New(key),
        }
    }

    /// Whether `id` was published to the target before.
    pub fn is_known(&mut self, kind: &str, target: &str, id: &str, now: u64) -> bool {
        matches!(self.look_up(kind, target, id, now), Seen::Before(_))
    }

    /// Remembers a new id.
    pub fn note(&mut self, key: u128, offset: u64, now: u64) {
        if self.ages.len() >= PUBLISH_IDS
            && let Some((_, oldest)) = self.ages.pop_front()
        {
            self.offsets.remove(&oldest);
        }
        self.offsets.insert(key, offset);
        self.ages.push_back((now, key));
    }

    fn forget(&mut self, now: u64) {
        let age = PUBLISH_ID_AGE.as_nanos() as u64;
        while let Some((since, key)) = self.ages.front()
            && now.saturating_sub(*since) > age
        {
            self.offsets.remove(key);
            self.ages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_its_target_for_two_minutes() {
        let mut ids = PublishIds::default();
        let Seen::New(key) = ids.look_up("room", "trade:A", "7", 0) else { panic!("it is new") };
        ids.note(key, 118, 0);
        assert!(matches!(ids.look_up("room", "trade:A", "7", 1), Seen::Before(118)));
        assert!(matches!(ids.look_up("room", "trade:B", "7", 1), Seen::New(_)));
        assert!(matches!(ids.look_up("user", "trade:A", "7", 1), Seen::New(_)));
        let later = PUBLISH_ID_AGE.as_nanos() as u64 + 1;
        assert!(matches!(ids.look_up("room", "trade:A", "7", later), Seen::New(_)));
        assert!(ids.offsets.is_empty());
    }
}
