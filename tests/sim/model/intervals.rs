//! When a client was a member of what, as far as it can know.

use std::collections::{BTreeMap, VecDeque};

use crate::log::{Item, Log};
use crate::model::{ALL, user_source};
use crate::net::Stamp;

/// A time in which a client was a member of a source.
#[derive(Clone, Debug)]
pub struct Interval {
    /// What it is told from here on may come from the source.
    pub from: usize,
    /// And surely may from here on.
    pub confirmed: usize,
    /// And before here.
    pub to: usize,
    /// What the shard delivered, or the router published, from here on must have come.
    pub sure_from: Stamp,
    /// And before here; `None`: to the end.
    pub sure_to: Option<Stamp>,
}

impl Interval {
    /// It may be a member from `from` on, and nobody knows.
    fn possible(from: usize) -> Interval {
        let never = Some(Stamp::default());
        Interval { from, confirmed: usize::MAX, to: usize::MAX, sure_from: Stamp::default(), sure_to: never }
    }

    fn is_possible(&self) -> bool {
        self.confirmed == usize::MAX
    }

    fn is_open(&self) -> bool {
        self.to == usize::MAX
    }
}

/// What is known so far.
struct Memberships<'a> {
    client: &'a Log,
    all: BTreeMap<String, Vec<Interval>>,
    leaves: BTreeMap<String, VecDeque<Stamp>>,
}

impl Memberships<'_> {
    /// It is told at `at` that it is a member, and may have been one since `from`.
    fn open(&mut self, source: String, from: usize, at: usize, stamp: Stamp) {
        let known = self.all.entry(source).or_default();
        if let Some(last) = known.last_mut().filter(|last| last.is_open() && last.is_possible()) {
            last.to = at;
        }
        if known.last().is_none_or(|last| !last.is_open()) {
            known.push(Interval { from, confirmed: at, to: usize::MAX, sure_from: stamp, sure_to: None });
        }
    }

    /// It is told at `at` that it is a member of a type. The confirmation comes when the last of several types is joined.
    fn subscribed(&mut self, name: &str, at: usize, stamp: Stamp) {
        let source = self.client.type_source(name);
        let last = self.all.get(&source).and_then(|known| known.last());
        let (began, ended) = last.map_or((0, 0), |last| (last.from, last.to));
        let asked = self.client.asked[&source].iter().find(|asked| **asked >= began).copied();
        let from = match last.is_some_and(|last| last.is_open() && last.is_possible()) {
            true => at,
            false => asked.unwrap_or(at).max(ended),
        };
        self.open(source, from, at, stamp);
    }

    /// When it asked for the leave that is now answered, or never will be.
    fn asked_to_leave(&mut self, source: &str) -> Stamp {
        let asked = self.leaves.get_mut(source).and_then(|leaves| leaves.pop_front());
        asked.expect("left what it asked to leave")
    }

    /// It is told at `at` that it is a member no more.
    fn close(&mut self, source: &str, at: usize) {
        let asked = self.asked_to_leave(source);
        if let Some(last) = self.all.get_mut(source).and_then(|known| known.last_mut())
            && last.is_open()
        {
            last.to = at;
            last.sure_to.get_or_insert(asked);
        }
    }

    /// It has been cut off while it asked for these. What became of that it is never told.
    fn recovered(&mut self, joins: &[String], leaves: &[String], at: usize) {
        for source in leaves {
            self.asked_to_leave(source);
            if let Some(known) = self.all.get_mut(source)
                && let Some(last) = known.last_mut()
                && last.is_open()
            {
                last.to = at;
                // Of what it has left it is not told again what was lost on the way.
                last.sure_to = Some(Stamp::default());
                known.push(Interval::possible(at));
            }
        }
        for source in joins {
            let from = self.client.asked[source].iter().copied().filter(|asked| *asked <= at).min();
            let known = self.all.entry(source.clone()).or_default();
            let ended = known.last().map_or(0, |last| last.to);
            if ended != usize::MAX {
                known.push(Interval::possible(from.unwrap_or(at).max(ended)));
            }
        }
    }

    /// Of several types some may be joined, and others not yet, when the client ends.
    fn end_unanswered(&mut self) {
        for (source, asked) in &self.client.asked {
            let last = self.all.get(source).and_then(|known| known.last());
            let (began, ended) = last.map_or((0, 0), |last| (last.from, last.to));
            if let Some(asked) = asked.iter().find(|asked| **asked >= began)
                && source.starts_with("type ")
                && ended != usize::MAX
            {
                let known = self.all.entry(source.clone()).or_default();
                known.push(Interval::possible(ended.max(*asked)));
            }
        }
    }
}

/// When a client was a member of what.
pub fn intervals(client: &Log) -> BTreeMap<String, Vec<Interval>> {
    let mut known = Memberships { client, all: BTreeMap::new(), leaves: client.leaves.clone() };
    for (index, (item, stamp)) in client.told.iter().enumerate() {
        match item {
            Item::Opened => {
                known.open(ALL.into(), index, index, *stamp);
                if let Some(user) = &client.user {
                    known.open(user_source(user), index, index, *stamp);
                }
            }
            Item::Joined(room) => known.open(client.room_source(room), index, index, *stamp),
            Item::Subscribed(types) => {
                types.iter().for_each(|name| known.subscribed(name, index, *stamp));
            }
            Item::Left(room) => known.close(&client.room_source(room), index),
            Item::Unsubscribed(name) => known.close(&client.type_source(name), index),
            Item::Recovered { joins, leaves } => known.recovered(joins, leaves, index),
            _ => {}
        }
    }
    known.end_unanswered();
    let mut all = known.all;
    if client.leaving || client.end.is_some() {
        // What was on its way when it ended may have come or not.
        for interval in all.values_mut().flatten().filter(|interval| interval.is_open()) {
            interval.sure_to = Some(Stamp::default());
        }
    }
    all
}
