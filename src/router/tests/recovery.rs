//! Sessions that are saved, and what they have missed.

use super::*;
use crate::limits::HISTORY_EVENTS;
use crate::router::recovery::Sessions;

const TRADE: &str = "trade:BTC-USDC";
const PRICE: &str = "price:BTC-USDC";

fn price(symbol: &str, value: u32) -> String {
    format!(r#"{{"room":"price:{symbol}","event":"price_update","data":{value}}}"#)
}

fn latest(name: &str, since: u64) -> SavedRoom {
    SavedRoom { room: room(name), policy: Policy::Latest, since }
}

#[test]
fn what_came_after_the_last_event_is_given_whether_or_not_a_shard_was_interested() {
    let (mut bench, trade) = (Bench::new(), room(TRADE));
    let since = bench.join(0, &trade, Policy::Every);
    bench.keep(0, &trade);
    for data in ["1", "2", "3"] {
        bench.event(TRADE, data);
    }
    let after = bench.sequence();
    bench.event(TRADE, "4");
    bench.leave(0, &trade);
    bench.event(TRADE, "5");
    let saved = SavedRoom { room: trade.clone(), policy: Policy::Every, since };
    assert_eq!(bench.missed(query(after, vec![saved.clone()])), texts(["4", "5"]));
    assert_eq!(bench.missed(query(after + 2, vec![saved.clone()])), texts([]));
    // Nothing older than the membership was missed.
    let saved = SavedRoom { since: after, ..saved };
    assert_eq!(bench.missed(query(0, vec![saved])), texts(["4", "5"]));
}

#[test]
fn what_is_not_known_whole_is_not_given() {
    let (mut bench, trade) = (Bench::new(), room(TRADE));
    assert_eq!(bench.missed(query(0, vec![every(&trade)])), None, "it is not kept");
    bench.event(TRADE, "0");
    bench.keep(0, &trade);
    assert_eq!(bench.missed(query(0, vec![every(&trade)])), None, "it was kept too late");
    assert_eq!(bench.missed(query(1, vec![every(&trade)])), texts([]));
    for number in 0..=HISTORY_EVENTS {
        bench.event(TRADE, &number.to_string());
    }
    assert_eq!(bench.missed(query(1, vec![every(&trade)])), None, "there were too many");
    assert_eq!(bench.missed(query(2, vec![every(&trade)])).map(|events| events.len()), Some(HISTORY_EVENTS));
    let rooms = vec![every(&trade), every(&room("trade:ETH-USDC"))];
    assert_eq!(bench.missed(query(2, rooms)), None, "another room is not kept");
}

#[test]
fn a_room_that_had_nothing_is_whole_however_late_it_is_kept() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.event("trade:ETH-USDC", &number.to_string());
    }
    for name in ["user:ada", TRADE] {
        bench.keep(0, &room(name));
        assert_eq!(bench.missed(query(2, vec![every(&room(name))])), texts([]), "{name}");
    }
    bench.keep(0, &RoomName::everyone());
    assert_eq!(bench.missed(query(2, vec![every(&RoomName::everyone())])), texts([]));
    // Of a room that nobody was in, nobody knows what it would have had.
    let types = RoomName::event_type("price_updates", None);
    bench.keep(0, &types);
    assert_eq!(bench.missed(query(2, vec![every(&types)])), None);
    assert_eq!(bench.missed(query(bench.sequence(), vec![every(&types)])), texts([]));
}

#[test]
fn a_room_that_was_forgotten_may_have_had_something() {
    let mut bench = Bench::with(|settings| (settings.recovery, settings.rooms) = (Some(WINDOW), 2));
    for symbol in ["A", "B", "C"] {
        bench.event(&format!("trade:{symbol}"), "1");
    }
    bench.keep(0, &room("trade:A"));
    assert_eq!(bench.missed(query(0, vec![every(&room("trade:A"))])), None);
    assert_eq!(bench.missed(query(3, vec![every(&room("trade:A"))])), texts([]));
}

#[test]
fn an_event_of_two_rooms_is_given_once() {
    let (mut bench, types) = (Bench::new(), RoomName::event_type("trade_notifications", None));
    bench.keep(0, &room(TRADE));
    bench.keep(1, &types);
    for data in ["1", "2"] {
        let line = format!(r#"{{"room":"{TRADE}","event":"trade_notification","data":{data}}}"#);
        bench.line(&line);
    }
    bench.event(TRADE, "3");
    let rooms = vec![every(&room(TRADE)), every(&types)];
    assert_eq!(bench.missed(query(0, rooms)), texts(["1", "2", "3"]));
    assert_eq!(bench.missed(query(0, vec![every(&types)])), texts(["1", "2"]));
}

#[test]
fn what_is_for_others_is_not_given() {
    let (mut bench, trade) = (Bench::new(), room("user:ada"));
    bench.keep(0, &trade);
    bench.line(r#"{"user":"ada","event":"a","data":1}"#);
    bench.line(r#"{"user":"ada","event":"a","data":2,"app":"account"}"#);
    bench.line(r#"{"user":"ada","event":"a","data":3,"app":"market"}"#);
    bench.client_says(&said(Target::User, "ada", "4"), None);
    let rooms = vec![every(&trade)];
    assert_eq!(bench.missed(query(0, rooms.clone())), texts(["1", "3", "4"]));
    let own = MissedQuery { author: AUTHOR, ..query(0, rooms.clone()) };
    assert_eq!(bench.missed(own), texts(["1", "3"]));
    let account = MissedQuery { app: App::Account, ..query(0, rooms) };
    assert_eq!(bench.missed(account), texts(["1", "2"]));
}

#[test]
fn broadcasts_presence_and_alerts_are_kept_for_those_they_are_for() {
    let mut bench = Bench::new();
    let (everyone, watched) = (RoomName::everyone(), RoomName::presence("grace"));
    let alerts = RoomName::event_type("system_alerts", None);
    for room in [&everyone, &watched, &alerts] {
        bench.keep(0, room);
    }
    bench.line(r#"{"broadcast":true,"event":"note","data":1}"#);
    bench.line(r#"{"broadcast":true,"event":"system_alert","data":{"level":"info"}}"#);
    bench.line(r#"{"broadcast":true,"event":"system_alert","data":{"level":"critical"}}"#);
    let all = bench.missed(query(0, vec![every(&everyone)]));
    assert_eq!(all, texts(["1", r#"{"level":"critical"}"#]));
    assert_eq!(bench.missed(query(0, vec![every(&alerts)])), texts([r#"{"level":"info"}"#]));
    bench.connect(1, "grace");
    let seen = bench.missed(query(0, vec![every(&watched)])).expect("it is whole");
    assert!(seen.len() == 1 && seen[0].contains(r#""online":true"#), "{seen:?}");
}

#[test]
fn rooms_of_policy_latest_give_their_newest_events() {
    let mut bench = Bench::new();
    for (symbol, value) in [("BTC-USDC", 1), ("BTC-USDC", 2), ("ETH-USDC", 3)] {
        bench.line(&price(symbol, value));
    }
    let rooms = vec![latest(PRICE, 0), latest("price:ETH-USDC", 0), latest("price:DOT-USDC", 0)];
    assert_eq!(bench.missed(query(0, rooms.clone())), texts(["2", "3"]));
    assert_eq!(bench.missed(query(2, rooms.clone())), texts(["3"]));
    assert_eq!(bench.missed(MissedQuery { conflated: true, ..query(3, rooms) }), texts(["2", "3"]));
    // What a room's newcomer is sent is older than its membership, and may have been lost on the way.
    assert_eq!(bench.missed(query(0, vec![latest(PRICE, 2)])), texts(["2"]));
    assert_eq!(bench.missed(query(3, vec![latest(PRICE, 2)])), texts([]));
}

#[test]
fn of_a_type_the_newest_event_of_each_room_and_key_is_given() {
    let (mut bench, types) = (Bench::new(), RoomName::event_type("price_updates", None));
    bench.keep(0, &types);
    for (symbol, value) in [("BTC-USDC", 1), ("ETH-USDC", 2), ("BTC-USDC", 3)] {
        bench.line(&price(symbol, value));
    }
    assert_eq!(bench.missed(query(0, vec![every(&types)])), texts(["2", "3"]));
    assert_eq!(bench.missed(query(0, vec![every(&types), latest(PRICE, 0)])), texts(["2", "3"]));
    // What was withheld may be older than the last event the client had.
    assert_eq!(bench.missed(query(3, vec![every(&types)])), texts([]));
    let conflated = |since| {
        let saved = SavedRoom { since, ..every(&types) };
        MissedQuery { conflated: true, ..query(3, vec![saved]) }
    };
    assert_eq!(bench.missed(conflated(0)), texts(["2", "3"]));
    bench.pass(WINDOW);
    for value in [4, 5] {
        bench.pass(Duration::from_secs(1));
        bench.line(&price("BTC-USDC", value));
    }
    assert_eq!(bench.missed(query(4, vec![every(&types)])), texts(["5"]));
    assert_eq!(bench.missed(conflated(0)), None, "what was withheld is no longer known");
    assert_eq!(bench.missed(conflated(3)), texts(["5"]));
}

#[test]
fn more_than_the_client_may_have_is_not_given() {
    let (mut bench, trade) = (Bench::new(), room(TRADE));
    bench.keep(0, &trade);
    for data in ["1", "2"] {
        bench.event(TRADE, data);
    }
    let size = TRADE.len() + "\"note\"".len() + 1;
    let within = |max_bytes, after| MissedQuery { max_bytes, ..query(after, vec![every(&trade)]) };
    assert_eq!(bench.missed(within(2 * size, 0)), texts(["1", "2"]));
    assert_eq!(bench.missed(within(2 * size - 1, 0)), None);
    assert_eq!(bench.missed(within(size - 1, 0)), None);
    assert_eq!(bench.missed(within(size, 1)), texts(["2"]));
}

#[test]
fn events_are_kept_for_the_window_and_rooms_for_longer_than_the_sessions() {
    let (mut bench, trade) = (Bench::new(), room(TRADE));
    bench.keep(0, &trade);
    bench.keep(1, &trade);
    bench.event(TRADE, "1");
    assert!(bench.router.recovery.as_ref().expect("it is on").histories.bytes() > 0);
    bench.pass(WINDOW / 2);
    bench.event(TRADE, "2");
    for _ in 0..4 {
        bench.pass(WINDOW / 4);
    }
    assert_eq!(bench.missed(query(0, vec![every(&trade)])), None, "the first was too old");
    assert_eq!(bench.missed(query(1, vec![every(&trade)])), texts(["2"]));
    bench.pass(WINDOW);
    assert_eq!(bench.router.recovery.as_ref().expect("it is on").histories.bytes(), 0);
    bench.unkeep(0, &trade);
    bench.pass(WINDOW * 2);
    bench.unkeep(1, &trade);
    bench.event(TRADE, "3");
    let is_kept = |bench: &Bench| {
        let key = bench.router.rooms.find(trade.hash(), trade.as_str()).expect("it is a public room");
        bench.router.rooms.get(key).is_some_and(|room| room.kept.is_some())
    };
    bench.pass(WINDOW);
    assert!(is_kept(&bench));
    bench.keep(0, &trade);
    bench.pass(WINDOW);
    bench.pass(WINDOW);
    assert!(is_kept(&bench));
    bench.unkeep(0, &trade);
    for _ in 0..6 {
        bench.pass(WINDOW / 4);
    }
    assert!(!is_kept(&bench));
    let recovery = bench.router.recovery.as_ref().expect("it is on");
    assert_eq!((recovery.histories.bytes(), recovery.next_deadline()), (0, None));
}

#[test]
fn an_internal_room_is_known_for_as_long_as_its_events_are_kept() {
    let (mut bench, types) = (Bench::new(), RoomName::event_type("price_updates", None));
    bench.join(0, &types, Policy::Every);
    bench.keep(0, &types);
    bench.leave(0, &types);
    let is_known = |bench: &Bench| bench.router.rooms.find(types.hash(), types.as_str()).is_some();
    bench.pass(WINDOW);
    assert!(is_known(&bench));
    bench.pass(WINDOW);
    assert!(!is_known(&bench));
}

#[test]
fn a_room_that_is_kept_is_not_evicted_and_no_more_are_kept_than_may_be_known() {
    let mut bench = Bench::with(|settings| (settings.recovery, settings.rooms) = (Some(WINDOW), 2));
    for name in ["trade:A", "trade:B", "trade:C"] {
        bench.keep(0, &room(name));
    }
    for number in 0..5 {
        bench.event(&format!("trade:X{number}"), "1");
    }
    assert_eq!(bench.missed(query(0, vec![every(&room("trade:A")), every(&room("trade:B"))])), texts([]));
    assert_eq!(bench.missed(query(9, vec![every(&room("trade:C"))])), None);
}

#[test]
fn all_rooms_together_have_a_bound() {
    let mut bench = Bench::new();
    bench.router.recovery.as_mut().expect("it is on").histories.bound(4_000);
    for name in ["trade:A", "trade:B"] {
        bench.keep(0, &room(name));
    }
    let text = format!("\"{}\"", "x".repeat(1_000));
    for _ in 0..3 {
        bench.event("trade:A", &text);
    }
    for _ in 0..3 {
        bench.event("trade:B", "1");
    }
    bench.event("trade:B", &text);
    let bytes = bench.router.recovery.as_ref().expect("it is on").histories.bytes();
    assert!((3_000..=4_000).contains(&bytes), "{bytes}");
    assert_eq!(bench.missed(query(0, vec![every(&room("trade:A"))])).map(|events| events.len()), Some(3));
    assert_eq!(bench.missed(query(6, vec![every(&room("trade:B"))])), None, "it was too much for all");
    assert_eq!(bench.missed(query(7, vec![every(&room("trade:B"))])), texts([]));
}

#[test]
fn a_session_is_restored_once_within_the_window() {
    let mut bench = Bench::new();
    bench.say(ToRouter::Save(session(1, 2)));
    bench.say(ToRouter::Save(session(2, 0)));
    assert_eq!(bench.restore([1; 16]), Some(session(1, 2)));
    assert_eq!(bench.restore([1; 16]), None);
    bench.say(ToRouter::Save(session(1, 3)));
    bench.pass(WINDOW - Duration::from_nanos(1));
    assert_eq!(bench.restore([1; 16]), Some(session(1, 3)));
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.restore([2; 16]), None);
    assert_eq!(bench.router.recovery.as_ref().expect("it is on").sessions.len(), 0);
}

#[test]
fn saved_sessions_have_bounds() {
    let mut sessions = Sessions::bounded(WINDOW, 3, 10);
    let now = Now::default();
    for pid in 1..=4 {
        sessions.save(session(pid, 1), now);
    }
    assert_eq!(sessions.len(), 3);
    assert_eq!(sessions.restore(&[1; 16], now), None);
    sessions.save(session(5, 9), now);
    assert_eq!(sessions.len(), 2, "the rooms were too many for three");
    assert!(sessions.restore(&[4; 16], now).is_some() && sessions.restore(&[5; 16], now).is_some());
    // Coming and going leaves nothing behind.
    for _ in 0..10_000 {
        sessions.save(session(6, 1), now);
        assert!(sessions.restore(&[6; 16], now).is_some());
    }
    assert!(sessions.traces() < 1_000);
    sessions.save(session(7, 1), now);
    for _ in 0..10 {
        sessions.expire(now.plus(WINDOW));
    }
    assert_eq!((sessions.len(), sessions.traces()), (0, 0));
}

#[test]
fn without_recovery_nothing_is_kept() {
    let mut bench = Bench::with(|_| {});
    bench.keep(0, &room(TRADE));
    bench.event(TRADE, "1");
    bench.say(ToRouter::Save(session(1, 1)));
    assert_eq!(bench.restore([1; 16]), None);
    assert_eq!(bench.missed(query(0, vec![latest(PRICE, 0)])), None);
    assert_eq!(bench.missed(query(1, vec![every(&room(TRADE))])), None);
    assert_eq!(bench.router.next_tick(bench.now), None);
}

#[test]
fn what_a_client_says_is_the_newest_of_a_room_that_nobody_is_in() {
    let mut bench = Bench::new();
    let draft = Draft { policy: Policy::Latest, ..said(Target::Room, PRICE, "1") };
    bench.client_says(&draft, None);
    assert_eq!(bench.missed(query(0, vec![latest(PRICE, 0)])), texts(["1"]));
}
