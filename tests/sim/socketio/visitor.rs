//! A client of Socket.IO: its session, what it has lost, and the bytes of its connections.

use std::fmt;

use crate::log::Item;
use crate::socketio::conn::{Conn, Purpose, Response};
use crate::socketio::session::{Namespace, Session, Way};
use crate::world::{USERS, World};

/// How the simulation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Anything may happen.
    Wild,
    /// It is to come to rest: from now on nothing is left to chance.
    Settle,
    /// It comes to rest.
    Tame,
    /// All go.
    Leave,
    /// All have gone, or are sent away.
    Ending,
}

/// What a client has lost that it may come back to.
#[derive(Debug)]
pub struct Lost {
    pub log: usize,
    pub sid: String,
    pub pid: Option<String>,
    pub offset: Option<String>,
    /// When, monotonic ns, and how much had been published.
    pub since: u64,
    pub published: usize,
    /// The server has no reason not to recover it.
    pub is_fair: bool,
}

/// A client.
#[derive(Default)]
pub struct Visitor {
    /// The number of its user.
    pub user: Option<usize>,
    pub session: Option<Session>,
    pub lost: Option<Lost>,
    /// The public id of its last connection.
    pub sid: String,
    /// Rounds before it connects.
    pub pause: usize,
    /// Connections on which it asks for sessions that are over.
    pub ghosts: Vec<Conn>,
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {:?}, lost {:?}", self.user, self.lost)?;
        let Some(session) = &self.session else { return Ok(()) };
        let purposes: Vec<_> = session.conns.iter().map(|conn| (conn.purpose, &conn.pipe)).collect();
        let (way, namespace, packets) = (session.way, session.namespace, &session.packets);
        write!(f, ", {way:?}, {namespace:?}, over {}, {purposes:?}, {packets:?}", session.is_over)
    }
}

impl Lost {
    /// Whether there is no excuse for not recovering it.
    pub fn is_sure(&self, world: &World) -> bool {
        let user = world.logs[self.log].user.as_deref();
        self.is_fair
            && world.outbox == 1 << 20
            // Elsewhere events may be on their way to a shard when the history of a room begins that it is in already.
            && (world.shards.len() == 1 || world.logs[self.log].asked.is_empty())
            && world.now().mono < self.since + 100_000_000_000
            && world.published.len() < self.published + 100
            && user.is_none_or(|user| user != USERS[4] && !world.sent_away.contains(user))
    }
}

impl Visitor {
    /// One step.
    pub fn step(&mut self, world: &mut World, pace: Pace) {
        match pace {
            Pace::Settle => self.calm_down(world),
            Pace::Leave => self.leave(world),
            Pace::Wild | Pace::Tame | Pace::Ending => {}
        }
        self.transfer_ghosts(world);
        let Some(mut session) = self.session.take() else {
            return self.begin(world, pace);
        };
        self.transfer(&mut session, world, pace);
        if session.is_over {
            return self.lose(session, world, false);
        }
        match pace {
            Pace::Wild => self.live(session, world),
            _ => {
                session.flush(world);
                self.session = Some(session);
            }
        }
    }

    /// Whether nothing is on its way.
    pub fn is_still(&self) -> bool {
        self.ghosts.is_empty()
            && match &self.session {
                Some(session) => session.is_still(),
                None => self.lost.is_none(),
            }
    }

    /// Bytes move, and what has come is taken.
    fn transfer(&mut self, session: &mut Session, world: &mut World, pace: Pace) {
        for mut conn in std::mem::take(&mut session.conns) {
            match pace {
                Pace::Wild => conn.pipe.transfer(&mut world.random),
                _ => {
                    conn.pipe.send(usize::MAX);
                    conn.pipe.read(usize::MAX);
                }
            }
            let kept = match conn.purpose {
                Purpose::WebSocket { .. } => self.frames(session, conn, world, pace),
                _ => self.answers(session, conn, world, pace),
            };
            session.conns.extend(kept);
        }
        if let Namespace::Connected(log) = session.namespace {
            let was_blocked = session.conns.iter().any(|conn| conn.pipe.link.borrow().was_blocked);
            world.logs[log].was_blocked |= was_blocked;
        }
    }

    /// Who asks for a session that is over is told so.
    fn transfer_ghosts(&mut self, world: &mut World) {
        self.ghosts.retain_mut(|conn| {
            conn.pipe.send(usize::MAX);
            conn.pipe.read(usize::MAX);
            let Some(response) = conn.response() else { return !conn.pipe.is_at_end() };
            // One that the server has closed may be told so by the next poll; what is posted to it is passed over.
            let is_told = response.status == 200 && ["1", "6\u{1e}1", "ok"].contains(&&*response.body);
            let is_unknown = response.status == 400 && response.body.contains(r#""code":1"#);
            assert!(is_told || is_unknown, "a session that is over was found: {}", response.body);
            world.seen.unknown += 1;
            conn.pipe.vanish(false);
            false
        });
    }

    /// Takes the answer to a request. Returns the connection while there is none.
    fn answers(
        &mut self,
        session: &mut Session,
        mut conn: Conn,
        world: &mut World,
        pace: Pace,
    ) -> Option<Conn> {
        let Some(response) = conn.response() else {
            if !conn.pipe.is_at_end() {
                return Some(conn);
            }
            // The server has ended a connection that nobody used for long, or somebody has cut it off.
            conn.pipe.vanish(false);
            session.is_over |= conn.purpose != Purpose::Fault;
            return None;
        };
        match response.keep {
            true => world.idle.push(conn.pipe),
            false => conn.pipe.vanish(false),
        }
        self.answer(session, conn.purpose, &response, world, pace);
        None
    }

    fn answer(
        &mut self,
        session: &mut Session,
        purpose: Purpose,
        response: &Response,
        world: &mut World,
        pace: Pace,
    ) {
        let is_ending = pace == Pace::Ending;
        match (purpose, response.status) {
            // It took too long to send the request.
            (_, 408) => session.is_over = true,
            (Purpose::Fault, _) => {}
            (_, _) if session.is_broken => {}
            (Purpose::Handshake, 503) if is_ending => session.is_over = true,
            (Purpose::Handshake, 200) => {
                session.open(&response.body, response.stamp, world);
                session.way = Way::Polling;
                world.seen.sessions += 1;
            }
            (Purpose::Poll, 200) => {
                session.polled = response.stamp.mono;
                for packet in response.body.split('\x1e') {
                    self.packet(session, packet, response.stamp, world);
                }
            }
            (Purpose::Post, 200) => {
                assert_eq!(response.body, "ok");
                if std::mem::take(&mut session.is_ponging) {
                    session.ponged = response.stamp.mono;
                }
            }
            (Purpose::Poll | Purpose::Post, 400) => {
                assert!(response.body.contains(r#""code":1"#), "{}", response.body);
                // It has been over for long; or a poll has been told so, and the answer is on its way.
                let is_forgotten = session.may_be_forgotten(world.now().mono);
                let is_told = session.is_over || session.has_left || purpose == Purpose::Post;
                assert!(
                    is_forgotten || is_told || is_ending,
                    "{purpose:?} of a session that was lost: {} {self:?} {:?} {:?}",
                    response.body,
                    session.way,
                    session.namespace
                );
                (session.is_over, session.is_gone) = (true, true);
                world.seen.unknown += 1;
            }
            (purpose, status) => panic!("{purpose:?} was answered {status}: {}", response.body),
        }
    }

    /// Takes the frames of a WebSocket. Returns it while it is there.
    fn frames(
        &mut self,
        session: &mut Session,
        mut conn: Conn,
        world: &mut World,
        pace: Pace,
    ) -> Option<Conn> {
        if (conn.purpose == Purpose::WebSocket { is_open: false })
            && let Some((head, length)) = conn.pipe.head()
        {
            if !head.starts_with("HTTP/1.1 101 ") {
                let is_refused = head.starts_with("HTTP/1.1 400 ") && !session.sid.is_empty()
                    || head.starts_with("HTTP/1.1 408 ")
                    || head.starts_with("HTTP/1.1 503 ") && pace == Pace::Ending;
                assert!(is_refused, "the upgrade was refused: {head}");
                return self.end_websocket(session, conn, world);
            }
            conn.pipe.taken(length);
            conn.purpose = Purpose::WebSocket { is_open: true };
            if !session.sid.is_empty() {
                conn.pipe.text(b"2probe", &mut world.random);
            }
        }
        while (conn.purpose == Purpose::WebSocket { is_open: true })
            && let Some((first, payload, length)) = conn.pipe.whole_frame()
        {
            let stamp = conn.pipe.stamp();
            conn.pipe.taken(length);
            match (first, session.way) {
                (0x8a, _) => {}
                (0x88, _) => {
                    conn.pipe.frame(0x88, &payload);
                    conn.pipe.send(usize::MAX);
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    if let (Namespace::Connected(log), Way::WebSocket) = (session.namespace, session.way) {
                        world.logs[log].tell(Item::Closed(code), stamp);
                    }
                    // 1000: it came too late to take over, and the session goes on polling.
                    session.is_gone = session.way == Way::WebSocket && code != 1000;
                    return self.end_websocket(session, conn, world);
                }
                (0x81, Way::Probing { is_answered: false }) => {
                    assert_eq!(payload, b"3probe", "the answer to the probe");
                    session.way = Way::Probing { is_answered: true };
                }
                (0x81, _) => {
                    let text = String::from_utf8(payload).expect("UTF-8");
                    self.packet(session, &text, stamp, world);
                }
                _ => panic!("a frame that no server of Engine.IO sends: {first:#x}"),
            }
        }
        match conn.pipe.is_at_end() {
            true => self.end_websocket(session, conn, world),
            false => Some(conn),
        }
    }

    /// A WebSocket has ended: the session with it, or only the wish to upgrade.
    fn end_websocket(&mut self, session: &mut Session, mut conn: Conn, world: &mut World) -> Option<Conn> {
        conn.pipe.vanish(false);
        match session.way {
            Way::Probing { .. } => {
                session.way = Way::Polling;
                world.seen.not_upgraded += 1;
            }
            _ => session.is_over = true,
        }
        None
    }
}
