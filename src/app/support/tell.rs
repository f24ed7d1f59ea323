//! What the participants of a session are told. Each has two internal rooms: of his connections to this session, and of
//! those to all of his sessions. So nobody is told what is not for him, by whatever connection.
//!
//! Pure: from a change to publications. Who publishes them, and when, is not known here.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::support::shapes::{self, Event, put_id};
use crate::app::wire::Object;
use crate::audience::App;
use crate::record::Write;
use crate::record::support::{SupportEffect, SupportWrite};
use crate::room::name::RoomName;
use crate::room::pattern::Policy;
use crate::room::publication::{Draft, Publication, Target};
use crate::time::Now;

/// A publication for one participant.
#[derive(Debug)]
pub struct Told {
    /// What to publish, to his connections to this session.
    pub publication: Publication,
    /// And to this room, of those to all of his sessions.
    pub also: RoomName,
    /// A connection of his that is sent it makes it delivered: see [`receipt`].
    pub counts: bool,
}

/// An event of a session, written once for all who are told it.
struct News {
    /// The event's name as a JSON string literal.
    event: &'static str,
    session: Uuid,
    data: String,
    now: Now,
}

impl News {
    fn new(event: &'static str, session: Uuid, now: Now, fill: impl FnOnce(&mut Object<'_>)) -> News {
        let mut data = Vec::new();
        Object::write(&mut data, fill);
        // What `Object` writes is UTF-8: it is made of texts.
        News { event, session, data: String::from_utf8(data).unwrap_or_default(), now }
    }

    fn told(&self, user: &str) -> Told {
        let room = RoomName::support(self.session, user);
        let draft = Draft {
            target: Target::Room,
            name: room.as_str(),
            name_hash: room.hash(),
            event: self.event,
            data: &self.data,
            key: None,
            app: Some(App::Support),
            policy: Policy::Every,
            ts: None,
            except: None,
        };
        let publication = Publication::new(&draft, self.now);
        Told { publication, also: RoomName::support_feed(user), counts: false }
    }

    fn all(&self, users: &[SmolStr]) -> Vec<Told> {
        users.iter().map(|user| self.told(user)).collect()
    }
}

/// What is to be published for a change.
pub fn tell(effect: &SupportEffect, now: Now) -> Vec<Told> {
    match effect {
        SupportEffect::Members { .. } | SupportEffect::Blocked { .. } => Vec::new(),
        SupportEffect::Message { to, message } => {
            let news = News::new("\"message\"", message.session, now, |object| shapes::live(message, object));
            to.iter().map(|user| Told { counts: *user != message.sender, ..news.told(user) }).collect()
        }
        SupportEffect::Read { session, to, by, message, at } => {
            let event = Event { session: Some(*session), user: by, content: None, at: *at };
            let news = News::new("\"message_read\"", *session, now, |object| {
                event.write(object, |metadata| put_id(metadata, "up_to_message_id", *message));
            });
            news.all(to)
        }
        SupportEffect::Closed { session, to, by, at } => {
            let event = Event { session: Some(*session), user: by, content: None, at: *at };
            let news = News::new("\"session_closed\"", *session, now, |object| {
                event.write(object, |metadata| shapes::put_time(metadata, "closed_at", *at));
            });
            news.all(to)
        }
    }
}

/// What to tell the store when a connection of one for whom it counts has been sent what is told of a change.
pub fn receipt(effect: &SupportEffect) -> Option<Write> {
    match effect {
        SupportEffect::Message { message, .. } => {
            Some(Write::Support(SupportWrite::Delivered { message: message.id }))
        }
        _ => None,
    }
}

/// `user_joined` or `user_left`, `metadata {total_users}`.
pub fn coming(session: Uuid, user: &str, is_here: bool, users: u64, to: &[SmolStr], now: Now) -> Vec<Told> {
    let name = if is_here { "\"user_joined\"" } else { "\"user_left\"" };
    let news = News::new(name, session, now, |object| write_coming(session, user, users, now, object));
    news.all(to)
}

/// The same for a client of the user himself.
pub(super) fn write_coming(session: Uuid, user: &str, users: u64, now: Now, object: &mut Object<'_>) {
    let event = Event { session: Some(session), user, content: None, at: now.unix_ms() };
    event.write(object, |metadata| {
        metadata.put("total_users", users);
    });
}

/// `typing_indicator`, `metadata {is_typing}`.
pub fn typing(session: Uuid, user: &str, is_typing: bool, to: &[SmolStr], now: Now) -> Vec<Told> {
    let event = Event { session: Some(session), user, content: None, at: now.unix_ms() };
    let news = News::new("\"typing_indicator\"", session, now, |object| {
        event.write(object, |metadata| {
            metadata.put("is_typing", is_typing);
        });
    });
    news.all(to)
}
