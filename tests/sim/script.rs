//! What clients and backends do: chosen at random, and written down for the model.

use serde_json::{Value, json};

use crate::client::Kind;
use crate::model::{Published, Target, type_source};
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

/// A client does something that clients do.
pub fn act(world: &mut World, index: usize) {
    if world.random.percent(3) {
        return world.leave(index);
    }
    let stamp = world.stamp(world.clients[index].shard);
    let number = world.number();
    let (random, client) = (&mut world.random, &mut world.clients[index]);
    if client.kind == Kind::Account {
        return client.say("ping", &json!({}), random);
    }
    let own = client.user.clone();
    match random.below(100) {
        choice @ 0..60 => {
            let (room, _) = match (random.below(10), &own) {
                (0, Some(own)) => (format!("portfolio:{own}"), true),
                (1, Some(own)) => (format!("orders:{own}"), false),
                (2, Some(own)) => (format!("user:{own}"), false),
                // Administrators may join other users' rooms.
                (3, Some(own)) if own == USERS[0] => (format!("user:{}", random.choose(&USERS[1..3])), false),
                (4, Some(own)) if own == USERS[0] => {
                    (format!("portfolio:{}", random.choose(&USERS[1..3])), true)
                }
                _ => market_room(random),
            };
            let source = client.room_source(&room);
            client.requests += 1;
            if choice < 38 {
                client.asked.entry(source).or_default().push(client.told.len());
                client.say("join_room", &json!({ "room": room }), random);
            } else {
                client.leaves.entry(source).or_default().push_back(stamp);
                client.say("leave_room", &json!({ "roomId": room }), random);
            }
        }
        60..72 => {
            let types: Vec<&str> = TYPES
                .into_iter()
                .filter(|name| own.is_some() || !matches!(*name, "portfolio_updates" | "order_updates"))
                .filter(|_| random.percent(40))
                .collect();
            client.requests += 1;
            for name in &types {
                let source = type_source(name, own.as_deref());
                client.asked.entry(source).or_default().push(client.told.len());
            }
            client.subscribes += 1;
            client.say("subscribe", &json!({ "types": types }), random);
        }
        // While a subscription waits, the answers come in another order than the requests.
        72..80 if client.is_subscribed() => {
            let name = *random.choose(&TYPES);
            client.requests += 1;
            let source = type_source(name, own.as_deref());
            client.leaves.entry(source).or_default().push_back(stamp);
            client.say("unsubscribe", &json!({ "type": name }), random);
        }
        80..90 if own.is_some() => {
            let to = (*random.choose(&USERS)).to_owned();
            let mut published = Published::new(number);
            published.target = Target::User(to.clone());
            published.only = Some(Kind::Market);
            published.except = Some(index);
            client.messages += 1;
            match random.percent(50) {
                true => {
                    let message = data(number, random);
                    client.say("direct_message", &json!({ "to": to, "message": message }), random);
                }
                false => {
                    let own = own.unwrap_or_default();
                    published.target = Target::User(own.clone());
                    let room = format!("user:{own}");
                    let message = data(number, random);
                    client.say("room_message", &json!({ "room": room, "message": message }), random);
                }
            }
            world.said.insert(number, published);
        }
        90..94 => {
            client.messages += 1;
            client.say("presence", &json!({ "userIds": [USERS[1], USERS[3]] }), random);
        }
        _ => client.say("ping", &json!({}), random),
    }
}
