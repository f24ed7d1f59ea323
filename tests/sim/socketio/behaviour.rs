//! What clients of Socket.IO do: what they ought to, and what they ought not to.

use crate::socketio::conn::{Conn, Purpose};
use crate::socketio::session::{Namespace, Session, Way, connection};
use crate::socketio::visitor::{Lost, Pace, Visitor};
use crate::world::{World, token};

/// Bodies and packets that break the protocol.
const GARBAGE: [&str; 8] = [
    "b!!!",
    "9",
    "",
    "4",
    "4x",
    "451-[\"ping\",{\"_placeholder\":true,\"num\":0}]\x1e42[\"ping\",{}]",
    "42/nope,[\"ping\",{}]",
    "bAAAA",
];

impl Visitor {
    /// Without a session: opens one, perhaps.
    pub fn begin(&mut self, world: &mut World, pace: Pace) {
        match pace {
            Pace::Wild if self.pause > 0 => self.pause -= 1,
            Pace::Wild if world.random.percent(15) => self.open(world),
            Pace::Settle | Pace::Tame if self.lost.is_some() => self.open(world),
            _ => {}
        }
    }

    fn open(&mut self, world: &mut World) {
        if self.lost.is_none() {
            self.user = world.choose_user();
        }
        let recovers = self.lost.is_some() || world.random.percent(70);
        let mut session = Session::new(recovers, world.now().mono);
        session.is_mute = world.random.percent(4);
        match world.random.percent(40) {
            true => session.dial_websocket(world),
            false => session.request(Purpose::Handshake, None, world),
        }
        self.session = Some(session);
        self.connect();
    }

    /// CONNECT.
    fn connect(&mut self) {
        let Some(session) = &mut self.session else { return };
        let mut auth = serde_json::Map::new();
        if let Some(user) = self.user {
            auth.insert("token".into(), token(user).into());
        }
        if session.recovers {
            auth.insert("recover".into(), true.into());
        }
        if let Some(lost) = &self.lost {
            auth.insert("pid".into(), lost.pid.clone().into());
            auth.insert("offset".into(), lost.offset.clone().into());
        }
        session.packets.push_back(format!("40{}", serde_json::Value::from(auth)));
        session.namespace = Namespace::Connecting;
    }

    /// A round in the life of a session.
    pub fn live(&mut self, mut session: Session, world: &mut World) {
        if session.is_broken {
            return match world.random.percent(10) {
                true => self.lose(session, world, false),
                false => self.session = Some(session),
            };
        }
        session.lazy = session.lazy.saturating_sub(1);
        if let Namespace::Connected(log) = session.namespace
            && world.random.percent(15)
        {
            let (event, data) = world.request(log);
            let ack = match world.random.percent(30) {
                true => {
                    session.next_ack += 1;
                    world.logs[log].acks.insert(session.next_ack);
                    session.next_ack.to_string()
                }
                false => String::new(),
            };
            session.packets.push_back(format!("42{ack}{}", serde_json::json!([event, data])));
        }
        match world.random.below(1_000) {
            0..12 => return self.lose(session, world, true),
            12..16 => return self.close(session, world),
            16..21 => self.leave_namespace(&mut session, world),
            21..24 => break_protocol(&mut session, world),
            24..27 => {
                session.refusals += 1;
                session.packets.push_back("40/nope,".into());
            }
            27..31 => {
                if let Namespace::Connected(log) = session.namespace {
                    world.logs[log].messages += 1;
                    let packet = r#"451-["ping",{"_placeholder":true,"num":0}]"#;
                    session.packets.extend([packet.to_owned(), "bAAAA".to_owned()]);
                }
            }
            31..36 => session.lazy = world.random.between(1, 60),
            36..76 if session.way == Way::Polling => {
                session.way = Way::Probing { is_answered: false };
                session.dial_websocket(world);
            }
            76..96 if matches!(session.way, Way::Probing { .. }) => {
                session.way = Way::Polling;
                world.seen.not_upgraded += 1;
                let is_websocket = |conn: &mut Conn| matches!(conn.purpose, Purpose::WebSocket { .. });
                for mut conn in session.conns.extract_if(.., is_websocket) {
                    conn.pipe.vanish(world.random.percent(50));
                }
            }
            _ => {}
        }
        if world.random.percent(80) {
            session.flush(world);
        }
        self.session = Some(session);
        if let Some(session) = &self.session
            && session.namespace == Namespace::No
            && session.has_left
            && !session.is_broken
            && world.random.percent(10)
        {
            self.connect();
        }
    }

    /// The session is lost, by the client's will if `is_cut`: its connections are cut off, at any byte, or forgotten.
    pub fn lose(&mut self, mut session: Session, world: &mut World, is_cut: bool) {
        let is_silent = is_cut && world.random.percent(30);
        for mut conn in session.conns.drain(..) {
            if world.random.percent(50) {
                conn.pipe.send(world.random.below(200));
            }
            if !is_silent {
                conn.pipe.vanish(world.random.percent(50));
            }
        }
        self.pause = match world.random.percent(10) {
            true => world.random.between(50, 150),
            false => world.random.below(30),
        };
        if session.is_gone && !session.is_broken && world.random.percent(30) {
            session.request(Purpose::Ghost, None, world);
            self.ghosts.append(&mut session.conns);
        }
        world.unanswered += usize::from(session.namespace == Namespace::Connecting);
        match (session.namespace, &mut self.lost) {
            (Namespace::Connected(log), _) if session.recovers => {
                self.lost = Some(Lost {
                    log,
                    sid: self.sid.clone(),
                    pid: session.pid,
                    offset: session.offset,
                    since: world.now().mono,
                    published: world.published.len(),
                    is_fair: is_cut,
                });
            }
            (Namespace::Connected(log), _) => world.logs[log].give_up(),
            // Its attempt to come back may be known to the server, and the next one comes in its way.
            (_, Some(lost)) => lost.is_fair = false,
            _ => {}
        }
    }

    /// The client closes the session, and may come back.
    fn close(&mut self, mut session: Session, world: &mut World) {
        let is_opened = !session.sid.is_empty();
        match session.way {
            Way::WebSocket if is_opened => {
                let is_frame = world.random.percent(50);
                if let Some(conn) = session.websocket() {
                    match is_frame {
                        true => conn.pipe.frame(0x88, &[3, 232]),
                        false => conn.pipe.frame(0x81, b"1"),
                    }
                    conn.pipe.send(usize::MAX);
                }
            }
            Way::Polling if session.count(Purpose::Post) == 0 => {
                session.request(Purpose::Post, Some("1"), world);
                session.conns.iter_mut().for_each(|conn| conn.pipe.send(usize::MAX));
            }
            _ => {}
        }
        self.lose(session, world, true);
    }

    fn leave_namespace(&mut self, session: &mut Session, world: &mut World) {
        if let Namespace::Connected(log) = session.namespace {
            session.packets.push_back("41".into());
            world.logs[log].give_up();
            (session.namespace, session.has_left) = (Namespace::No, true);
        }
    }

    /// What was lost is given up.
    pub fn end_lost(&mut self, world: &mut World) {
        if let Some(lost) = self.lost.take() {
            world.logs[lost.log].give_up();
        }
    }

    /// The simulation is to come to rest.
    pub fn calm_down(&mut self, world: &mut World) {
        if self.session.as_ref().is_some_and(|session| session.is_broken)
            && let Some(session) = self.session.take()
        {
            self.lose(session, world, false);
        }
        if let Some(session) = &mut self.session {
            (session.is_mute, session.lazy) = (false, 0);
        } else if world.random.percent(20) {
            self.end_lost(world);
        }
    }

    /// It goes, somehow.
    pub fn leave(&mut self, world: &mut World) {
        if let Some(session) = self.session.take() {
            match world.random.percent(30) {
                true => self.close(session, world),
                false => self.lose(session, world, true),
            }
        }
        self.end_lost(world);
    }
}

/// The client breaks the protocol in one of many ways: its session is over.
fn break_protocol(session: &mut Session, world: &mut World) {
    if session.sid.is_empty() {
        return;
    }
    world.seen.faults += 1;
    let garbage = *world.random.choose(&GARBAGE);
    match session.way {
        Way::WebSocket => {
            session.packets.push_back(garbage.to_owned());
            session.flush(world);
        }
        // Two at once, perhaps.
        _ => match world.random.below(3) {
            0 => session.request(Purpose::Fault, None, world),
            1 => session.request(Purpose::Fault, Some(garbage), world),
            _ => {
                let mut pipe = connection(world);
                pipe.say(b"GET \0 / HTTP/9\r\n\r\n");
                session.conns.push(Conn { pipe, purpose: Purpose::Fault });
                session.request(Purpose::Fault, Some("2"), world);
            }
        },
    }
    session.is_broken = true;
    world.unanswered += usize::from(session.namespace == Namespace::Connecting);
    if let Namespace::Connected(log) = session.namespace {
        world.logs[log].give_up();
    }
    (session.namespace, session.has_left) = (Namespace::No, true);
}
