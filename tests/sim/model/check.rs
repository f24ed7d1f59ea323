//! What one client was told, compared with what ought to have come.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::log::{Item, Log};
use crate::model::intervals::Interval;
use crate::model::{Published, Seen, Target, room_source};
use crate::net::Stamp;

/// One client, and what there was to be told.
pub struct ClientCheck<'a> {
    pub index: usize,
    pub client: &'a Log,
    pub published: &'a [Published],
    pub positions: &'a HashMap<u64, usize>,
    /// For each shard: the place of each event among those that it took.
    pub delivered: &'a [HashMap<u64, usize>],
    pub intervals: BTreeMap<String, Vec<Interval>>,
}

impl ClientCheck<'_> {
    fn event(&self, number: u64) -> (usize, &Published) {
        let position = *self.positions.get(&number).unwrap_or_else(|| {
            panic!("client {} was told of event {number}, which was never published", self.index)
        });
        (position, &self.published[position])
    }

    /// Prints what the client was told, to find out what went wrong.
    pub fn dump(&self) {
        let client = self.client;
        eprintln!("client {}: {:?} {:?} on shard {}", self.index, client.kind, client.user, client.shard);
        eprintln!("asked {:?}, left {:?}, blocked {}", client.asked, client.leaves, self.client.was_blocked);
        for (at, (item, stamp)) in client.told.iter().enumerate() {
            match item {
                Item::Event(number) => {
                    let (position, event) = self.event(*number);
                    let delivered = self.delivered[stamp.shard].get(number);
                    eprintln!("{at}: {stamp:?} position {position} delivered {delivered:?} {event:?}");
                }
                item => eprintln!("{at}: {stamp:?} {item:?}"),
            }
        }
    }

    /// Every request is answered once.
    pub fn requests(&self) {
        for (item, _) in &self.client.told {
            if let Item::Refused(code) = item {
                let is_known = code == "RATE_LIMITED" || self.client.is_socketio && code == "INVALID_MESSAGE";
                assert!(is_known, "client {} was refused: {code}", self.index);
            }
        }
        let (done, refused) = self.client.answered();
        let (requests, messages) = (self.client.requests, self.client.messages);
        assert!(
            done <= requests && done + refused <= requests + messages,
            "client {}: {requests} requests, {done} done and {refused} refused",
            self.index
        );
        if !self.client.leaving && self.client.end.is_none() {
            let acks = &self.client.acks;
            assert!(acks.is_empty(), "client {}: {acks:?} are not acknowledged", self.index);
            assert!(
                done + refused >= requests,
                "client {}: {requests} requests, only {done} done and {refused} refused",
                self.index
            );
        }
    }

    /// Nothing comes that ought not to, nothing twice, and everything in order.
    pub fn order(&self, seen: &mut Seen) {
        let mut once = HashSet::new();
        let mut last_of_target: HashMap<String, usize> = HashMap::new();
        // Twice the position, and one more unless the same may come once again.
        let mut last_of_key: HashMap<(String, String), usize> = HashMap::new();
        for (at, (item, _)) in self.client.told.iter().enumerate() {
            match item {
                Item::Event(number) => {
                    seen.events += 1;
                    let (position, event) = self.event(*number);
                    let context = || {
                        let client = self.index;
                        format!("client {client} was told of {event:?} at {at}, position {position}")
                    };
                    assert!(event.is_for(self.index, self.client), "{}: it is not for it", context());
                    let is_member = event.sources().iter().any(|source| self.is_told_by(source, at));
                    assert!(is_member, "{}: it is in nothing that this is for", context());
                    assert!(once.insert(*number), "{}: for the second time", context());
                    let target = format!("{:?}", event.target);
                    // Who is not in the room but hears of types has an order for each type.
                    let is_by_room = match &event.target {
                        Target::Room(name) => self.is_told_by(&room_source(name), at),
                        _ => true,
                    };
                    let order = match is_by_room {
                        true => target,
                        false => format!("{target} {:?}", event.event_type),
                    };
                    if event.is_latest {
                        let last = last_of_key.insert((order, event.key.clone()), 2 * position + 1);
                        assert!(last < Some(2 * position + 1), "{}: after a newer one of its key", context());
                    } else {
                        let last = last_of_target.insert(order, position);
                        assert!(last < Some(position), "{}: after a later one", context());
                    }
                }
                Item::Joined(room) => {
                    // A newcomer is sent the newest events, which it may know from before.
                    let target = format!("{:?}", Target::Room(room.clone()));
                    last_of_key.retain(|(known, _), _| !known.starts_with(&target));
                    let of_room = |number: &u64| self.event(*number).1.target == Target::Room(room.clone());
                    once.retain(|number| !of_room(number) || !self.event(*number).1.is_latest);
                    seen.snapshots += usize::from(matches!(
                        self.client.told.get(at + 1),
                        Some((Item::Event(number), _)) if of_room(number)
                    ));
                }
                Item::Recovered { .. } => {
                    // It is sent the newest events, which it may know; but none that is older than what it knows.
                    once.retain(|number| !self.event(*number).1.is_latest);
                    last_of_key.values_mut().for_each(|last| *last &= !1);
                }
                Item::Left(_) => seen.left += 1,
                Item::Refused(_) => seen.refused += 1,
                _ => {}
            }
        }
    }

    /// Whether what it is told at that place may come from the source.
    fn is_told_by(&self, source: &str, at: usize) -> bool {
        let known = self.intervals.get(source).into_iter().flatten();
        known.into_iter().any(|interval| interval.from <= at && at < interval.to)
    }

    /// Between the first and the last event that came from a source, none is missing.
    pub fn contiguous(&self) {
        for (source, interval) in self.all_intervals() {
            let mut came: HashMap<String, Vec<usize>> = HashMap::new();
            let told = self.client.told.iter().enumerate().take(interval.to).skip(interval.confirmed);
            for (_, (item, _)) in told {
                let Item::Event(number) = item else { continue };
                let (position, event) = self.event(*number);
                if self.must_all_come(event) && event.sources().contains(source) {
                    came.entry(format!("{:?}", event.target)).or_default().push(position);
                }
            }
            for (target, came) in came {
                let (first, last) = (came[0], came[came.len() - 1]);
                // A newcomer's newest events are from before; and what still comes for a user whose last client has just
                // left may reach the next one, ahead of a gap.
                let is_early = |position: usize| match source.starts_with("user ") {
                    true => position < interval.sure_from.published,
                    false => {
                        self.published[position].is_latest && !self.is_after(position, interval.sure_from)
                    }
                };
                let first =
                    came.iter().copied().find(|position| !is_early(*position)).unwrap_or(last).max(first);
                for position in first..=last {
                    let event = &self.published[position];
                    let is_expected = self.must_all_come(event)
                        && event.is_for(self.index, self.client)
                        && format!("{:?}", event.target) == target
                        && event.sources().contains(source);
                    assert!(
                        !is_expected || came.contains(&position) || self.was_told(event.number),
                        "client {} was not told of {event:?}, position {position}, but of {first} and {last}",
                        self.index
                    );
                }
            }
        }
    }

    /// What was published while the client was surely a member has come; of `latest` rooms the newest has.
    pub fn complete(&self) {
        let mut newest: HashMap<(String, String), usize> = HashMap::new();
        for (source, interval) in self.all_intervals() {
            for (position, event) in self.published.iter().enumerate() {
                if !event.sources().contains(source) {
                    continue;
                }
                let is_open = interval.sure_to.is_none();
                if !event.is_for(self.index, self.client) {
                    // It took the place of an older one before the client came, or while it was away.
                    let was_here = !self.client.was_cut && self.is_after(position, interval.sure_from);
                    if event.is_latest && !was_here {
                        newest.remove(&(format!("{:?}", event.target), event.key.clone()));
                    }
                    continue;
                }
                if event.is_latest && is_open && source.starts_with("room ") {
                    newest.insert((format!("{:?}", event.target), event.key.clone()), position);
                }
                let is_sure = self.is_after(position, interval.sure_from)
                    && interval.sure_to.is_none_or(|end| self.is_before(position, end));
                // An event of another type takes its place too, and may be gone with that type.
                if is_sure && event.is_latest && is_open && self.is_newest(position) {
                    newest.insert((format!("{:?}", event.target), event.key.clone()), position);
                }
                assert!(
                    !is_sure || !self.must_all_come(event) || self.was_told(event.number),
                    "client {} was not told of {event:?}, position {position}, delivered as {:?}: \
                     it was in \"{source}\" for {interval:?}",
                    self.index,
                    self.delivered[interval.sure_from.shard].get(&event.number),
                );
            }
        }
        for ((target, key), position) in newest {
            let event = &self.published[position];
            assert!(
                self.was_told(event.number),
                "client {} was not told of the newest of {target}, key {key}: {event:?}, position {position}",
                self.index
            );
        }
    }

    fn all_intervals(&self) -> impl Iterator<Item = (&String, &Interval)> {
        self.intervals.iter().flat_map(|(source, all)| all.iter().map(move |interval| (source, interval)))
    }

    /// Whether no event like this may be left out.
    fn must_all_come(&self, event: &Published) -> bool {
        !event.is_latest || !self.client.was_blocked
    }

    /// Whether nothing newer of its room and key was published.
    fn is_newest(&self, position: usize) -> bool {
        let event = &self.published[position];
        let replaces = |newer: &Published| newer.target == event.target && newer.key == event.key;
        !self.published[position + 1..].iter().any(replaces)
    }

    fn was_told(&self, number: u64) -> bool {
        self.client.told.iter().any(|(item, _)| *item == Item::Event(number))
    }

    /// Whether the event was taken by the shard, or published, after that.
    fn is_after(&self, position: usize, stamp: Stamp) -> bool {
        let delivered = self.delivered[stamp.shard].get(&self.published[position].number);
        position >= stamp.published || delivered.is_some_and(|delivered| *delivered >= stamp.delivered)
    }

    fn is_before(&self, position: usize, stamp: Stamp) -> bool {
        match self.delivered[stamp.shard].get(&self.published[position].number) {
            Some(delivered) => *delivered < stamp.delivered,
            None => position < stamp.published,
        }
    }
}
