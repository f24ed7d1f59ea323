//! What clients and backends do: chosen at random, and written down for the model.

use serde_json::{Value, json};

use crate::log::{Kind, Log, Want};
use crate::model::{Published, Target, type_source};
use crate::net::Stamp;
use crate::random::Random;
use crate::world::{USERS, World};

const PAIRS: [&str; 3] = ["BTC-USDC", "ETH-USDC", "SOL-USDC"];
const SYMBOLS: [&str; 2] = ["BTC", "ETH"];
const TYPES: [&str; 5] =
    ["price_updates", "trade_notifications", "portfolio_updates", "order_updates", "system_alerts"];

/// Data with a number, and as long as may be.
fn data(number: u64, random: &mut Random) -> Value {
    match random.below(12) {
        0 => json!({ "n": number, "pad": "x".repeat(random.below(3_000)) }),
        1 => json!({ "n": number, "pad": "y".repeat(random.between(60, 130)) }),
        _ => json!({ "n": number }),
    }
}

/// A room of anybody's, with whether its policy is `latest`.
fn market_room(random: &mut Random) -> (String, bool) {
    match random.below(4) {
        0 => (format!("price:{}", random.choose(&PAIRS)), true),
        1 => (format!("orderbook:{}", random.choose(&PAIRS)), true),
        2 => (format!("chart:{}", random.choose(&SYMBOLS)), true),
        _ => (format!("trade:{}", random.choose(&PAIRS)), false),
    }
}

/// A line of a backend's, with what it publishes; `None`: it is an operation.
pub fn line(world: &mut World) -> (Value, Option<Published>) {
    let number = world.number();
    let random = &mut world.random;
    let data = data(number, random);
    let user = (*random.choose(&USERS)).to_owned();
    let mut published = Published::new(number);
    let mut line = match random.below(100) {
        0..60 => {
            let (room, is_latest) = market_room(random);
            let event = match random.below(4) {
                0 => "something",
                1 => "trade_notification",
                _ => "price_update",
            };
            published.target = Target::Room(room.clone());
            published.is_latest = is_latest;
            published.event_type = match event {
                "price_update" => Some(type_source("price_updates", None)),
                "trade_notification" => Some(type_source("trade_notifications", None)),
                _ => None,
            };
            published.key = format!("event {event}");
            let mut line = json!({ "room": room, "event": event });
            if is_latest && random.percent(50) {
                let key = format!("k{}", random.below(3));
                line["key"] = Value::from(&*key);
                published.key = key;
            }
            line
        }
        60..72 => {
            let (prefix, event, kind, is_latest) = match random.percent(50) {
                true => ("portfolio", "portfolio_update", "portfolio_updates", true),
                false => ("orders", "order_update", "order_updates", false),
            };
            let room = format!("{prefix}:{user}");
            published.target = Target::Room(room.clone());
            published.is_latest = is_latest;
            published.event_type = Some(type_source(kind, Some(&user)));
            published.key = format!("event {event}");
            json!({ "room": room, "event": event })
        }
        72..87 => {
            published.target = Target::User(user.clone());
            match random.percent(50) {
                true => json!({ "user": user, "event": "balanceUpdated" }),
                false => json!({ "room": format!("user:{user}"), "event": "notice" }),
            }
        }
        87..93 => {
            published.target = Target::All;
            match random.percent(50) {
                true => json!({ "broadcast": true, "event": "serverNotification" }),
                false => {
                    let mut data = data.clone();
                    data["level"] = Value::from("critical");
                    json!({ "broadcast": true, "event": "system_alert", "data": data })
                }
            }
        }
        93..97 => {
            published.target = Target::Alerts;
            published.event_type = Some(type_source("system_alerts", None));
            json!({ "broadcast": true, "event": "system_alert" })
        }
        97 => {
            world.ended_by_backend += 1;
            world.sent_away.insert(user.clone());
            return (json!({ "op": "disconnect", "user": user, "code": 4001, "reason": "go" }), None);
        }
        98 => return (json!({ "op": "rooms" }), None),
        _ => return (json!({ "op": "presence", "user": user }), None),
    };
    if random.percent(10) {
        let (name, kind) = match random.percent(50) {
            true => ("market", Kind::Market),
            false => ("account", Kind::Account),
        };
        line["app"] = Value::from(name);
        published.only = Some(kind);
    }
    if line.get("data").is_none() {
        line["data"] = data;
    }
    if random.percent(20) {
        line["ts"] = Value::from(1_760_000_000_000_000_000_u64);
    }
    (line, Some(published))
}

/// What a client asks for next.
pub struct Request {
    pub event: &'static str,
    pub data: Value,
    /// What it publishes by that.
    pub said: Option<Published>,
}

impl Request {
    fn new(event: &'static str, data: Value) -> Request {
        Request { event, data, said: None }
    }
}

/// A client does something that clients do. `index` is the place of its log, `number` a new one, `stamp` how far its shard
/// has come.
pub fn request(random: &mut Random, log: &mut Log, index: usize, number: u64, stamp: Stamp) -> Request {
    if log.kind == Kind::Account {
        return Request::new("ping", json!({}));
    }
    let own = log.user.clone();
    match random.below(100) {
        choice @ 0..60 => {
            let room = room(random, own.as_deref());
            let source = log.room_source(&room);
            log.requests += 1;
            if choice < 38 {
                log.ask(&source);
                log.wants.push(Want::Join(vec![source]));
                Request::new("join_room", json!({ "room": room }))
            } else {
                log.leaves.entry(source.clone()).or_default().push_back(stamp);
                log.wants.push(Want::Leave(source));
                Request::new("leave_room", json!({ "roomId": room }))
            }
        }
        60..72 => {
            let types: Vec<&str> = TYPES
                .into_iter()
                .filter(|name| own.is_some() || !matches!(*name, "portfolio_updates" | "order_updates"))
                .filter(|_| random.percent(40))
                .collect();
            log.requests += 1;
            let sources: Vec<String> = types.iter().map(|name| log.type_source(name)).collect();
            for source in &sources {
                log.ask(source);
            }
            log.wants.push(Want::Join(sources));
            log.subscribes += 1;
            Request::new("subscribe", json!({ "types": types }))
        }
        // While a subscription waits, the answers come in another order than the requests.
        72..80 if log.is_subscribed() => {
            let name = *random.choose(&TYPES);
            log.requests += 1;
            let source = log.type_source(name);
            log.leaves.entry(source.clone()).or_default().push_back(stamp);
            log.wants.push(Want::Leave(source));
            Request::new("unsubscribe", json!({ "type": name }))
        }
        80..90 if let Some(own) = own => {
            log.messages += 1;
            message(random, index, number, &own)
        }
        90..94 => {
            log.messages += 1;
            Request::new("presence", json!({ "userIds": [USERS[1], USERS[3]] }))
        }
        _ => Request::new("ping", json!({})),
    }
}

/// A room that the user may join.
fn room(random: &mut Random, own: Option<&str>) -> String {
    match (random.below(10), own) {
        (0, Some(own)) => format!("portfolio:{own}"),
        (1, Some(own)) => format!("orders:{own}"),
        (2, Some(own)) => format!("user:{own}"),
        // Administrators may join other users' rooms.
        (3, Some(own)) if own == USERS[0] => format!("user:{}", random.choose(&USERS[1..3])),
        (4, Some(own)) if own == USERS[0] => format!("portfolio:{}", random.choose(&USERS[1..3])),
        _ => market_room(random).0,
    }
}

/// A message to another user, or to oneself.
fn message(random: &mut Random, index: usize, number: u64, own: &str) -> Request {
    let to = (*random.choose(&USERS)).to_owned();
    let mut published = Published::new(number);
    published.target = Target::User(to.clone());
    published.only = Some(Kind::Market);
    published.except = Some(index);
    let mut request = match random.percent(50) {
        true => Request::new("direct_message", json!({ "to": to, "message": data(number, random) })),
        false => {
            published.target = Target::User(own.to_owned());
            let room = format!("user:{own}");
            Request::new("room_message", json!({ "room": room, "message": data(number, random) }))
        }
    };
    request.said = Some(published);
    request
}
