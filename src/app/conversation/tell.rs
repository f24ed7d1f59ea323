//! What others are told: of changes that are durable, and of the comings and goings of their contacts.
//!
//! Pure: from a change to publications. Who publishes them, and when, is not known here.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::shapes;
use crate::app::wire::Object;
use crate::audience::App;
use crate::record::{Effect, Message};
use crate::room::name::{self, RoomName};
use crate::room::pattern::Policy;
use crate::room::publication::{Draft, Publication, Target};
use crate::time::Now;

/// A publication that follows from a change.
#[derive(Debug)]
pub struct Told {
    /// What to publish.
    pub publication: Publication,
    /// Not if this room has a member anywhere: the user has joined the conversation and needs it not.
    pub unless: Option<RoomName>,
    /// What to tell the store when a connection has been sent it.
    pub delivered: Option<Delivered>,
}

/// A message for somebody who may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it was said.
    pub conversation: Uuid,
    /// Which.
    pub message: Uuid,
    /// Its recipient.
    pub to: SmolStr,
}

/// An event for a user's connections of one app, its payload written once for all who are told it.
pub(in crate::app) struct News {
    app: App,
    /// The event's name as a JSON string literal.
    event: &'static str,
    data: String,
    now: Now,
}

impl News {
    /// Of this app.
    pub(super) fn new(event: &'static str, now: Now, fill: impl FnOnce(&mut Object<'_>)) -> News {
        News::of_app(App::Conversation, event, now, fill)
    }

    /// Of any app.
    pub(in crate::app) fn of_app(
        app: App,
        event: &'static str,
        now: Now,
        fill: impl FnOnce(&mut Object<'_>),
    ) -> News {
        let mut data = Vec::new();
        Object::write(&mut data, fill);
        // What `Object` writes is UTF-8: it is made of texts.
        News { app, event, data: String::from_utf8(data).unwrap_or_default(), now }
    }

    fn publication(&self, target: Target, name: &str, name_hash: u64) -> Publication {
        let draft = Draft {
            target,
            name,
            name_hash,
            event: self.event,
            data: &self.data,
            key: None,
            app: Some(self.app),
            policy: Policy::Every,
            ts: None,
            except: None,
        };
        Publication::new(&draft, self.now)
    }

    pub(in crate::app) fn to_user(&self, user: &str) -> Publication {
        self.publication(Target::User, user, name::hash(user))
    }

    pub(super) fn to_room(&self, room: &RoomName) -> Publication {
        self.publication(Target::Room, room.as_str(), room.hash())
    }

    fn told(&self, user: &str) -> Told {
        Told { publication: self.to_user(user), unless: None, delivered: None }
    }
}

/// What is to be published for a change, in this order.
pub fn tell(effect: &Effect, now: Now) -> Vec<Told> {
    match effect {
        // They learn of it by the first message.
        Effect::ConversationNew { .. } => Vec::new(),
        Effect::MessageNew { participants, message, sender, unread } => {
            let new = News::new("\"message:new\"", now, |object| {
                shapes::message_new(message, sender.as_ref(), object);
            });
            let is_sent_to = |user: &&SmolStr| message.sender.as_ref().is_some_and(|sender| sender != *user);
            let delivered = |user: &SmolStr| Delivered {
                conversation: message.conversation,
                message: message.id,
                to: user.clone(),
            };
            let mut told: Vec<Told> = participants
                .iter()
                .map(|user| Told {
                    delivered: Some(user).filter(is_sent_to).map(delivered),
                    ..new.told(user)
                })
                .collect();
            told.extend(tell_unread(message.conversation, unread, Some(message), now));
            told
        }
        Effect::Viewed { conversation, participants, message, viewed_at, .. } => {
            let viewed = News::new("\"message:viewed\"", now, |object| {
                shapes::message_at(*message, *conversation, "viewed_at", *viewed_at, object);
            });
            participants.iter().map(|user| viewed.told(user)).collect()
        }
        Effect::Deleted { conversation, participants, message, by, at, unread, last } => {
            let deleted = News::new("\"message:deleted\"", now, |object| {
                shapes::deleted(*message, *conversation, by.as_deref(), *at, object);
            });
            let told = participants.iter().map(|user| deleted.told(user));
            told.chain(tell_unread(*conversation, unread, last.as_deref(), now)).collect()
        }
        Effect::Delivered { conversation, message, sender, delivered_at } => {
            let delivered = News::new("\"message:delivered\"", now, |object| {
                shapes::message_at(*message, *conversation, "delivered_at", *delivered_at, object);
            });
            vec![delivered.told(sender)]
        }
        // Of another app.
        Effect::Mobile(_) | Effect::Support(_) => Vec::new(),
    }
}

/// `conversation:unread` to those who have no connection that has joined the conversation.
fn tell_unread(
    conversation: Uuid,
    unread: &[(SmolStr, u64)],
    last: Option<&Message>,
    now: Now,
) -> impl Iterator<Item = Told> {
    unread.iter().map(move |(user, count)| {
        let news = News::new("\"conversation:unread\"", now, |object| {
            shapes::unread(conversation, *count, last, object);
        });
        Told { unless: Some(RoomName::joined(conversation, user)), ..news.told(user) }
    })
}

/// `user:online {user_id, username, online_at}` or `user:offline {…, offline_at}`, for the user's contacts.
pub fn coming(user: &str, username: Option<&str>, is_online: bool, now: Now) -> Publication {
    let (event, at) = match is_online {
        true => ("\"user:online\"", "online_at"),
        false => ("\"user:offline\"", "offline_at"),
    };
    let news = News::new(event, now, |object| {
        object.put("user_id", user).put("username", username);
        shapes::put_time(object, at, now.unix_ms());
    });
    news.to_user(user)
}
