//! What ought to have happened: who was to be told of which event.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::client::{Client, Item, Kind};
use crate::net::Stamp;
use crate::world::World;

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Room(String),
    User(String),
    All,
    /// Those who subscribed to alerts.
    Alerts,
}

/// An event, as it was published.
#[derive(Clone, Debug)]
pub struct Published {
    pub number: u64,
    pub target: Target,
    pub is_latest: bool,
    pub key: String,
    /// The source of those who subscribed to its type.
    pub event_type: Option<String>,
    pub only: Option<Kind>,
    /// The client that said it.
    pub except: Option<usize>,
}

/// A line that is answered.
#[derive(Clone, Debug)]
pub enum Acknowledged {
    Publish { id: String, position: usize },
    Duplicate { id: String },
    Operation,
}

/// By what an event may reach a client: a room, a type, its user, or because it is for all.
pub fn room_source(name: &str) -> String {
    format!("room {name}")
}

pub fn user_source(name: &str) -> String {
    format!("user {name}")
}

pub fn type_source(name: &str, user: Option<&str>) -> String {
    match (name, user) {
        ("portfolio_updates" | "order_updates", Some(user)) => format!("type {name} {user}"),
        _ => format!("type {name}"),
    }
}

const ALL: &str = "all";

impl Published {
    pub fn new(number: u64) -> Published {
        Published {
            number,
            target: Target::All,
            is_latest: false,
            key: String::new(),
            event_type: None,
            only: None,
            except: None,
        }
    }

    fn sources(&self) -> Vec<String> {
        let mut sources = match &self.target {
            Target::Room(name) => vec![room_source(name)],
            Target::User(name) => vec![user_source(name), room_source(&format!("user:{name}"))],
            Target::All => vec![ALL.into()],
            Target::Alerts => vec![],
        };
        sources.extend(self.event_type.clone());
        sources
    }

    fn is_for(&self, index: usize, client: &Client) -> bool {
        self.only.is_none_or(|only| only == client.kind) && self.except != Some(index)
    }
}

/// A time in which a client was a member of a source.
#[derive(Clone, Debug)]
struct Interval {
    /// What it is told from here on may come from the source.
    from: usize,
    /// And surely may from here on.
    confirmed: usize,
    /// And before here.
    to: usize,
    /// What the shard delivered, or the router published, from here on must have come.
    sure_from: Stamp,
    /// And before here; `None`: to the end.
    sure_to: Option<Stamp>,
}

/// When a client was a member of what.
fn intervals(client: &Client) -> BTreeMap<String, Vec<Interval>> {
    let mut all: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
    let mut leaves = client.leaves.clone();
    let open =
        |all: &mut BTreeMap<String, Vec<Interval>>, source: String, from: usize, at: usize, stamp: Stamp| {
            let known = all.entry(source).or_default();
            if known.last().is_none_or(|last| last.to != usize::MAX) {
                known.push(Interval { from, confirmed: at, to: usize::MAX, sure_from: stamp, sure_to: None });
            }
        };
    for (index, (item, stamp)) in client.told.iter().enumerate() {
        let mut close = |source: String| {
            let asked = leaves.get_mut(&source).and_then(|leaves| leaves.pop_front());
            let asked = asked.expect("left what it asked to leave");
            if let Some(last) = all.get_mut(&source).and_then(|known| known.last_mut())
                && last.to == usize::MAX
            {
                last.to = index;
                last.sure_to = Some(asked);
            }
        };
        match item {
            Item::Opened => {
                open(&mut all, ALL.into(), index, index, *stamp);
                if let Some(user) = &client.user {
                    open(&mut all, user_source(user), index, index, *stamp);
                }
            }
            Item::Joined(room) => open(&mut all, client.room_source(room), index, index, *stamp),
            Item::Subscribed(types) => {
                for name in types {
                    let source = type_source(name, client.user.as_deref());
                    // The confirmation comes when the last of several types is joined.
                    let last = all.get(&source).and_then(|known| known.last());
                    let (began, ended) = last.map_or((0, 0), |last| (last.from, last.to));
                    let asked = client.asked[&source].iter().find(|asked| **asked >= began).copied();
                    open(&mut all, source, asked.unwrap_or(index).max(ended), index, *stamp);
                }
            }
            Item::Left(room) => close(client.room_source(room)),
            Item::Unsubscribed(name) => close(type_source(name, client.user.as_deref())),
            _ => {}
        }
    }
    for (source, asked) in &client.asked {
        // Of several types some may be joined, and others not yet, when the client ends.
        let last = all.get(source).and_then(|known| known.last());
        let (began, ended) = last.map_or((0, 0), |last| (last.from, last.to));
        if let Some(asked) = asked.iter().find(|asked| **asked >= began)
            && source.starts_with("type ")
            && ended != usize::MAX
        {
            let never = Some(Stamp::default());
            let interval = Interval {
                from: ended.max(*asked),
                confirmed: usize::MAX,
                to: usize::MAX,
                sure_from: Stamp::default(),
                sure_to: never,
            };
            all.entry(source.clone()).or_default().push(interval);
        }
    }
    if client.leaving || client.end.is_some() {
        // What was on its way when it ended may have come or not.
        for interval in all.values_mut().flatten().filter(|interval| interval.to == usize::MAX) {
            interval.sure_to = Some(Stamp::default());
        }
    }
    all
}

/// What was seen in a run, to know that the runs see what they are for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub events: usize,
    pub snapshots: usize,
    pub left: usize,
    pub refused: usize,
    pub blocked: usize,
    pub conflated: u64,
    pub slow_consumers: u64,
    pub acknowledged: usize,
    pub ended_by_server: usize,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Seen) {
        self.events += other.events;
        self.snapshots += other.snapshots;
        self.left += other.left;
        self.refused += other.refused;
        self.blocked += other.blocked;
        self.conflated += other.conflated;
        self.slow_consumers += other.slow_consumers;
        self.acknowledged += other.acknowledged;
        self.ended_by_server += other.ended_by_server;
    }
}

/// Compares what the clients were told with what ought to have come, once all is at rest.
pub fn check(world: &mut World) -> Seen {
    let mut seen = Seen::default();
    let positions: HashMap<u64, usize> =
        world.published.iter().enumerate().map(|(position, event)| (event.number, position)).collect();
    let deliveries: Vec<HashMap<u64, usize>> = world
        .shards
        .iter()
        .map(|member| {
            let numbers = member.delivered.iter().enumerate();
            numbers.filter_map(|(index, number)| Some(((*number)?, index))).collect()
        })
        .collect();
    for (index, client) in world.clients.iter().enumerate() {
        let check = ClientCheck {
            index,
            client,
            published: &world.published,
            positions: &positions,
            delivered: &deliveries[client.shard],
            intervals: intervals(client),
            was_blocked: client.link.borrow().was_blocked,
        };
        if crate::number("FANFARE_SIM_CLIENT") == Some(index as u64) {
            check.dump();
        }
        check.requests();
        check.order(&mut seen);
        check.contiguous();
        check.complete();
        seen.blocked += usize::from(check.was_blocked);
        seen.ended_by_server +=
            usize::from(client.told.iter().any(|(item, _)| matches!(item, Item::Closed(_))));
    }
    for member in &world.shards {
        seen.conflated += member.metrics.events_conflated.get();
        seen.slow_consumers += member.metrics.slow_consumers.get();
    }
    check_answers(world, &mut seen);
    seen
}

struct ClientCheck<'a> {
    index: usize,
    client: &'a Client,
    published: &'a [Published],
    positions: &'a HashMap<u64, usize>,
    /// The place of each event among those that the client's shard took.
    delivered: &'a HashMap<u64, usize>,
    intervals: BTreeMap<String, Vec<Interval>>,
    was_blocked: bool,
}

impl ClientCheck<'_> {
    fn event(&self, number: u64) -> (usize, &Published) {
        let position = *self.positions.get(&number).unwrap_or_else(|| {
            panic!("client {} was told of event {number}, which was never published", self.index)
        });
        (position, &self.published[position])
    }

    /// Prints what the client was told, to find out what went wrong.
    fn dump(&self) {
        let client = self.client;
        eprintln!("client {}: {:?} {:?} on shard {}", self.index, client.kind, client.user, client.shard);
        eprintln!("asked {:?}, left {:?}, blocked {}", client.asked, client.leaves, self.was_blocked);
        for (at, (item, stamp)) in client.told.iter().enumerate() {
            match item {
                Item::Event(number) => {
                    let (position, event) = self.event(*number);
                    let delivered = self.delivered.get(number);
                    eprintln!("{at}: {stamp:?} position {position} delivered {delivered:?} {event:?}");
                }
                item => eprintln!("{at}: {stamp:?} {item:?}"),
            }
        }
    }

    /// Every request is answered once.
    fn requests(&self) {
        let (mut done, mut refused) = (0, 0);
        for (item, _) in &self.client.told {
            match item {
                Item::Joined(_) | Item::Left(_) | Item::Subscribed(_) | Item::Unsubscribed(_) => done += 1,
                Item::Refused(code) => {
                    assert_eq!(code, "RATE_LIMITED", "client {} was refused", self.index);
                    refused += 1;
                }
                _ => {}
            }
        }
        let (requests, messages) = (self.client.requests, self.client.messages);
        assert!(
            done <= requests && done + refused <= requests + messages,
            "client {}: {requests} requests, {done} done and {refused} refused",
            self.index
        );
        if !self.client.leaving && self.client.end.is_none() {
            assert!(
                done + refused >= requests,
                "client {}: {requests} requests, only {done} done and {refused} refused",
                self.index
            );
        }
    }

    /// Nothing comes that ought not to, nothing twice, and everything in order.
    fn order(&self, seen: &mut Seen) {
        let mut once = HashSet::new();
        let mut last_of_target: HashMap<String, usize> = HashMap::new();
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
                        let last = last_of_key.insert((order, event.key.clone()), position);
                        assert!(last < Some(position), "{}: after a newer one of its key", context());
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
    fn contiguous(&self) {
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
    fn complete(&self) {
        let mut newest: HashMap<(String, String), usize> = HashMap::new();
        for (source, interval) in self.all_intervals() {
            for (position, event) in self.published.iter().enumerate() {
                if !event.sources().contains(source) {
                    continue;
                }
                let is_open = interval.sure_to.is_none();
                if !event.is_for(self.index, self.client) {
                    // It took the place of an older one before the client came.
                    if event.is_latest && !self.is_after(position, interval.sure_from) {
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
                    self.delivered.get(&event.number),
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
        !event.is_latest || !self.was_blocked
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
        let delivered = self.delivered.get(&self.published[position].number);
        position >= stamp.published || delivered.is_some_and(|delivered| *delivered >= stamp.delivered)
    }

    fn is_before(&self, position: usize, stamp: Stamp) -> bool {
        match self.delivered.get(&self.published[position].number) {
            Some(delivered) => *delivered < stamp.delivered,
            None => position < stamp.published,
        }
    }
}

/// Every line that is to be answered has been, in order, with the right offset and count.
fn check_answers(world: &World, seen: &mut Seen) {
    let mut offsets = HashMap::<String, u64>::new();
    let offsets: Vec<u64> = world
        .published
        .iter()
        .map(|event| {
            let offset = offsets.entry(event.target.counted_as()).or_default();
            *offset += 1;
            *offset
        })
        .collect();
    let mut told = HashMap::<u64, usize>::new();
    for client in &world.clients {
        for (item, _) in &client.told {
            if let Item::Event(number) = item {
                *told.entry(*number).or_default() += 1;
            }
        }
    }
    for (receiver, expected) in &world.bodies {
        let result = receiver.try_recv().expect("a body is answered when all is at rest");
        assert_eq!(result.errors, 0, "{}", String::from_utf8_lossy(&result.replies));
        let replies: Vec<Value> = result
            .replies
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("answers are JSON"))
            .collect();
        assert_eq!(replies.len(), expected.len(), "answers {replies:?} to {expected:?}");
        for (reply, expected) in replies.iter().zip(expected) {
            match expected {
                Acknowledged::Operation => {}
                Acknowledged::Duplicate { id } => {
                    assert_eq!(
                        (reply["id"].as_str(), reply["duplicate"].as_bool()),
                        (Some(&**id), Some(true))
                    );
                }
                Acknowledged::Publish { id, position } => {
                    seen.acknowledged += 1;
                    assert_eq!(reply["id"].as_str(), Some(&**id), "{reply}");
                    assert_eq!(reply["offset"].as_u64(), Some(offsets[*position]), "{reply}");
                    let event = &world.published[*position];
                    if !event.is_latest {
                        let told = told.get(&event.number).copied().unwrap_or(0);
                        let lost = might_have(world, event);
                        let count = reply["subscribers"].as_u64().expect("a count") as usize;
                        assert!(
                            (told..=told + lost).contains(&count),
                            "{reply}: {told} were told of {event:?}, {lost} have ended that may have been"
                        );
                    }
                }
            }
        }
    }
}

/// How many clients have ended without being told of an event that might have been for them.
fn might_have(world: &World, event: &Published) -> usize {
    let is_lost = |(index, client): &(usize, &Client)| {
        (client.leaving || client.end.is_some())
            && event.is_for(*index, client)
            && !client.told.iter().any(|(item, _)| *item == Item::Event(event.number))
            && event.sources().iter().any(|source| {
                *source == ALL
                    || client.asked.contains_key(source)
                    || client.user.as_ref().is_some_and(|user| *source == user_source(user))
            })
    };
    world.clients.iter().enumerate().filter(is_lost).count()
}
