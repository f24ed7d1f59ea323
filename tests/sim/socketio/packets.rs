//! What the server says to a client of Socket.IO: a strict reading of every packet.

use serde_json::Value;

use crate::log::{Item, Kind, Log, item};
use crate::net::Stamp;
use crate::socketio::session::{Namespace, Session, Way};
use crate::socketio::visitor::Visitor;
use crate::world::{USERS, World};

impl Visitor {
    /// One packet of Engine.IO.
    pub fn packet(&mut self, session: &mut Session, text: &str, stamp: Stamp, world: &mut World) {
        if session.is_broken {
            return;
        }
        match text.split_at_checked(1) {
            Some(("0", _)) if session.sid.is_empty() => {
                session.open(text, stamp, world);
                session.way = Way::WebSocket;
                world.seen.sessions += 1;
            }
            Some(("1", "")) => {
                (session.is_over, session.is_gone) = (true, true);
                world.seen.ended_by_server += 1;
            }
            Some(("2", "")) => {
                if !session.is_mute {
                    session.packets.push_back("3".into());
                }
            }
            Some(("4", packet)) => self.socketio(session, packet, stamp, world),
            Some(("6", "")) => {}
            _ => panic!("no packet that a server sends: {text}"),
        }
    }

    /// One packet of Socket.IO.
    fn socketio(&mut self, session: &mut Session, text: &str, stamp: Stamp, world: &mut World) {
        let (kind, rest) = text.split_at(1);
        match kind {
            "0" => self.connected(session, &json(rest), stamp, world),
            "1" => {
                if let Namespace::Connected(log) = session.namespace {
                    world.logs[log].tell(Item::Closed(1000), stamp);
                    world.logs[log].give_up();
                }
                (session.namespace, session.has_left) = (Namespace::No, true);
            }
            "2" => event(session, &json(rest), stamp, world),
            "3" => {
                let digits = rest.find('[').expect("an acknowledgement's arguments");
                let id: u64 = rest[..digits].parse().expect("an acknowledgement's id");
                let Namespace::Connected(log) = session.namespace else {
                    return assert!(session.has_left, "an acknowledgement before the connection: {text}");
                };
                assert!(world.logs[log].acks.remove(&id), "an acknowledgement nobody asked for: {text}");
                let arguments = json(&rest[digits..]);
                assert!(arguments[0].is_object(), "what is acknowledged is an object: {text}");
                world.seen.acknowledged += 1;
            }
            "4" if rest.starts_with("/nope,") => {
                assert_eq!(rest, r#"/nope,{"message":"Invalid namespace"}"#);
                assert!(session.refusals > 0, "a refusal nobody asked for: {text}");
                session.refusals -= 1;
            }
            "4" => {
                let is_late = self.user.is_some_and(|user| USERS[user] == USERS[4]);
                assert!(
                    is_late && session.namespace == Namespace::Connecting,
                    "the connection was refused: {text}"
                );
                session.namespace = Namespace::No;
                self.end_lost(world);
                // Its token is over: it goes on as somebody else.
                session.is_over = true;
                self.user = Some(1);
            }
            _ => panic!("no packet that a server sends: {text}"),
        }
    }

    /// CONNECT is answered.
    fn connected(&mut self, session: &mut Session, answer: &Value, stamp: Stamp, world: &mut World) {
        assert_eq!(session.namespace, Namespace::Connecting, "an answer nobody asked for: {answer}");
        assert!(answer["sid"].is_string(), "{answer}");
        let pid = answer["pid"].as_str().map(str::to_owned);
        assert_eq!(pid.is_some(), session.recovers, "a secret name for those who ask for it: {answer}");
        let is_recovered = match &self.lost {
            Some(lost) => lost.pid == pid,
            None => false,
        };
        session.has_left = false;
        let log = match self.lost.take() {
            Some(lost) if is_recovered => {
                assert_eq!(answer["sid"].as_str(), Some(&*lost.sid), "a recovered client keeps its id");
                world.seen.recovered += 1;
                world.logs[lost.log].recover(stamp);
                session.offset = lost.offset;
                lost.log
            }
            lost => {
                if let Some(lost) = lost {
                    assert!(!lost.is_sure(world), "log {} was to be recovered: {lost:?}", lost.log);
                    world.seen.anew += 1;
                    world.logs[lost.log].give_up();
                }
                session.offset = None;
                let name = self.user.map(|user| USERS[user].to_owned());
                let mut log = Log::new(session.owner, name, Kind::Market);
                log.is_socketio = true;
                log.was_blocked = session.way != Way::WebSocket;
                log.tell(Item::Opened, stamp);
                world.logs.push(log);
                world.logs.len() - 1
            }
        };
        world.logs[log].shard = session.owner;
        self.sid = answer["sid"].as_str().unwrap_or_default().to_owned();
        session.namespace = Namespace::Connected(log);
        session.pid = pid;
    }
}

/// EVENT.
fn event(session: &mut Session, packet: &Value, stamp: Stamp, world: &mut World) {
    let arguments = packet.as_array().expect("an event is an array");
    let Namespace::Connected(log) = session.namespace else {
        return assert!(session.has_left, "an event before the connection: {packet}");
    };
    let name = arguments[0].as_str().expect("an event has a name");
    assert!(arguments.len() <= 3, "{packet}");
    if let Some(offset) = arguments.get(2) {
        assert!(session.recovers, "an offset nobody asked for: {packet}");
        let offset = offset.as_str().expect("an offset is a string");
        let number = |offset: &str| offset.parse::<u64>().expect("an offset is a number");
        let last = session.offset.as_deref().map(number);
        assert!(
            last < Some(number(offset)),
            "log {log}: the offset goes back, from {last:?} to {offset}: {packet}"
        );
        session.offset = Some(offset.to_owned());
    }
    if session.way != Way::WebSocket {
        world.logs[log].was_blocked = true;
        world.seen.polled += 1;
    }
    world.logs[log].tell(item(Some(name), &arguments[1]), stamp);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON, {error}: {text}"))
}
