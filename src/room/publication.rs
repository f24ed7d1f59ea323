//! What was published, once, immutable: every subscriber's frame is made from it.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use crate::audience::App;
use crate::room::name::{self, RoomName};
use crate::room::pattern::Policy;
use crate::time::Now;

/// A client, for as long as it lives: the generation tells it from a later one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// The shard that owns it.
    pub shard: u8,
    /// Its slot there.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
}

/// Whom a publication is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The members of the room [`Publication::name`].
    Room,
    /// The connections of the user [`Publication::name`].
    User,
    /// Every connection.
    Broadcast,
}

/// An event type of `subscribe` (`spec/market.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventType {
    /// Every `price_update`.
    PriceUpdates,
    /// Every public `trade_notification`.
    TradeNotifications,
    /// The user's own `portfolio_update`.
    PortfolioUpdates,
    /// The user's own `order_update`.
    OrderUpdates,
    /// Every `system_alert`.
    SystemAlerts,
}

impl EventType {
    /// All types.
    pub const ALL: [EventType; 5] = [
        EventType::PriceUpdates,
        EventType::TradeNotifications,
        EventType::PortfolioUpdates,
        EventType::OrderUpdates,
        EventType::SystemAlerts,
    ];

    /// The name clients use.
    pub const fn name(self) -> &'static str {
        match self {
            EventType::PriceUpdates => "price_updates",
            EventType::TradeNotifications => "trade_notifications",
            EventType::PortfolioUpdates => "portfolio_updates",
            EventType::OrderUpdates => "order_updates",
            EventType::SystemAlerts => "system_alerts",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<EventType> {
        EventType::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The type whose subscribers an event belongs to, by its name.
    pub fn of_event(event: &str) -> Option<EventType> {
        match event {
            "price_update" => Some(EventType::PriceUpdates),
            "trade_notification" => Some(EventType::TradeNotifications),
            "portfolio_update" => Some(EventType::PortfolioUpdates),
            "order_update" => Some(EventType::OrderUpdates),
            "system_alert" => Some(EventType::SystemAlerts),
            _ => None,
        }
    }

    /// Whether its events come from rooms that are a user's own.
    pub const fn is_own(self) -> bool {
        matches!(self, EventType::PortfolioUpdates | EventType::OrderUpdates)
    }

    /// The internal room of the subscribers; `user` counts for the types that are a user's own.
    pub fn room(self, user: &str) -> RoomName {
        RoomName::event_type(self.name(), self.is_own().then_some(user))
    }
}

/// A place in the text of a publication.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// The parts a publication is made of; texts are borrowed from the line.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Whom it is for.
    pub target: Target,
    /// The room's or user's name; empty for a broadcast.
    pub name: &'a str,
    /// The name's hash.
    pub name_hash: u64,
    /// The event's name as a JSON string literal, quotes included.
    pub event: &'a str,
    /// Any JSON value, as it was written.
    pub data: &'a str,
    /// The conflation key; `None`: the event's name.
    pub key: Option<&'a str>,
    /// Only connections of this app.
    pub app: Option<App>,
    /// The room's policy.
    pub policy: Policy,
    /// The publisher's clock, Unix time in ns.
    pub ts: Option<i64>,
    /// The connection with this public id is passed over: the author, who keeps the id when it is recovered.
    pub except: Option<Uuid>,
}

/// What was published. One allocation for the texts, shared by all who are sent it.
#[derive(Debug)]
pub struct Publication {
    text: Box<[u8]>,
    name: Span,
    event: Span,
    data: Span,
    key: Span,
    name_hash: u64,
    key_hash: u64,
    /// Whom it is for.
    pub target: Target,
    /// What happens to slow subscribers.
    pub policy: Policy,
    /// Only connections of this app.
    pub app: Option<App>,
    /// The hash of the name of a second room, whose members get it too: the subscribers of its event type, or those who
    /// watch the user it is for. 0: none.
    pub also: u64,
    /// The connection with this public id is passed over.
    pub except: Option<Uuid>,
    /// The router's sequence number: the order of all publications.
    pub sequence: u64,
    /// The publisher's clock, Unix time in ns.
    pub ts: Option<i64>,
    /// When the line was read off the publisher's socket, or the client's message off its own.
    pub received: Now,
    /// The acknowledgement that waits for counts.
    pub ticket: Option<u64>,
    /// The number of the personal message that it tells its recipient; 0: it is none.
    pub message: u64,
    /// Shards that have not yet written it.
    unwritten: AtomicU32,
}

impl Publication {
    /// Copies the draft's texts: the only copy of what was published.
    pub fn new(draft: &Draft<'_>, received: Now) -> Publication {
        let key = draft.key.unwrap_or("");
        let mut text =
            Vec::with_capacity(draft.name.len() + draft.event.len() + draft.data.len() + key.len());
        let mut put = |part: &str| {
            let start = text.len() as u32;
            text.extend_from_slice(part.as_bytes());
            Span { start, end: text.len() as u32 }
        };
        let (name, event, data) = (put(draft.name), put(draft.event), put(draft.data));
        let key = match draft.key {
            Some(key) => put(key),
            // An explicit key can never be mistaken for the default one: the default has its quotes.
            None => event,
        };
        let key_hash = match draft.policy {
            Policy::Latest => name::hash(draft.key.unwrap_or(draft.event)),
            // Never replaced.
            Policy::Every => 0,
        };
        Publication {
            name,
            event,
            data,
            key,
            name_hash: draft.name_hash,
            key_hash,
            text: text.into_boxed_slice(),
            target: draft.target,
            policy: draft.policy,
            app: draft.app,
            also: 0,
            except: draft.except,
            sequence: 0,
            ts: draft.ts,
            received,
            ticket: None,
            message: 0,
            unwritten: AtomicU32::new(0),
        }
    }

    /// The same for a user's connections.
    pub fn to_user(&self, user: &str) -> Publication {
        let part = |span| str::from_utf8(self.part(span)).unwrap_or_default();
        let draft = Draft {
            target: Target::User,
            name: user,
            name_hash: name::hash(user),
            event: part(self.event),
            data: part(self.data),
            key: None,
            app: self.app,
            policy: Policy::Every,
            ts: self.ts,
            except: self.except,
        };
        Publication::new(&draft, self.received)
    }

    fn part(&self, span: Span) -> &[u8] {
        &self.text[span.start as usize..span.end as usize]
    }

    /// The name of the room or user.
    pub fn name(&self) -> &str {
        std::str::from_utf8(self.part(self.name)).unwrap_or_default()
    }

    /// The hash of [`name`](Publication::name).
    pub fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// The event's name as a JSON string literal.
    pub fn event(&self) -> &[u8] {
        self.part(self.event)
    }

    /// The data, byte for byte as published.
    pub fn data(&self) -> &[u8] {
        self.part(self.data)
    }

    /// The conflation key; the event's name, quotes included, where the publisher gave none.
    pub fn key(&self) -> &[u8] {
        self.part(self.key)
    }

    /// Whether both are events of one room and key, so that the newer replaces the older.
    pub fn replaces(&self, older: &Publication) -> bool {
        self.slot_hash() == older.slot_hash()
            && self.part(self.name) == older.part(older.name)
            && self.part(self.key) == older.part(older.key)
    }

    /// Whether both have the same key, where the room is known to be the same.
    pub fn same_key(&self, other: &Publication) -> bool {
        self.key_hash == other.key_hash && self.part(self.key) == other.part(other.key)
    }

    /// The hash of room and key together.
    pub fn slot_hash(&self) -> u64 {
        self.name_hash ^ self.key_hash.rotate_left(32)
    }

    /// Bytes it occupies, for the bound of a turn.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// How many shards are about to write it. Called before it is posted.
    pub fn set_unwritten(&self, shards: u32) {
        self.unwritten.store(shards, Ordering::Relaxed);
    }

    /// One shard has written it; true for the last one.
    pub fn written(&self) -> bool {
        self.unwritten.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
