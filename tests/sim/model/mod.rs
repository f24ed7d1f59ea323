//! What ought to have happened: who was to be told of which event.

mod answers;
mod check;
mod intervals;

use std::collections::HashMap;

use crate::log::{Item, Kind, Log};
use crate::model::check::ClientCheck;
use crate::model::intervals::intervals;
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

impl Target {
    /// The room whose offsets count the events of this target.
    pub fn counted_as(&self) -> String {
        match self {
            Target::Room(name) => name.clone(),
            Target::User(name) => format!("user:{name}"),
            Target::All | Target::Alerts => String::new(),
        }
    }
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

    fn is_for(&self, index: usize, client: &Log) -> bool {
        self.only.is_none_or(|only| only == client.kind) && self.except != Some(index)
    }
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
    /// Of clients of Socket.IO: those that were recovered, those that were not, and what else happened to them.
    pub socketio: crate::socketio::Seen,
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
        self.socketio += other.socketio;
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
    for (index, client) in world.logs.iter().enumerate() {
        let check = ClientCheck {
            index,
            client,
            published: &world.published,
            positions: &positions,
            delivered: &deliveries,
            intervals: intervals(client),
        };
        if crate::number("FANFARE_SIM_CLIENT") == Some(index as u64) {
            check.dump();
        }
        check.requests();
        check.order(&mut seen);
        check.contiguous();
        check.complete();
        seen.blocked += usize::from(client.was_blocked);
        seen.ended_by_server +=
            usize::from(client.told.iter().any(|(item, _)| matches!(item, Item::Closed(_))));
    }
    for member in &world.shards {
        seen.conflated += member.metrics.events_conflated.get();
        seen.slow_consumers += member.metrics.slow_consumers.get();
    }
    seen.socketio = world.seen;
    answers::check(world, &mut seen);
    seen
}
