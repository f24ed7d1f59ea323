//! What others are told of a change that is durable.

use crate::app::conversation::tell::News;
use crate::app::mobile::shapes;
use crate::audience::App;
use crate::record::mobile::{MobileEffect, MobileWrite, PersonalMessage};
use crate::room::publication::Publication;
use crate::time::Now;

/// A publication that follows from a change.
#[derive(Debug)]
pub struct Told {
    /// What to publish.
    pub publication: Publication,
    /// What to tell the store when a connection was sent it.
    pub receipt: Option<MobileWrite>,
}

/// What is to be published for a change: a message goes to all connections of both users.
pub fn tell(effect: &MobileEffect, now: Now) -> [Told; 2] {
    let MobileEffect::Message(message) = effect;
    let news = news(message, now);
    let mut to_recipient = news.to_user(&message.recipient);
    to_recipient.message = message.number;
    let receipt = MobileWrite::SentLive { to: message.recipient.clone(), number: message.number };
    [
        Told { publication: to_recipient, receipt: Some(receipt) },
        Told { publication: news.to_user(&message.sender), receipt: None },
    ]
}

fn news(message: &PersonalMessage, now: Now) -> News {
    let event = match message.media_url {
        Some(_) => "\"media:received\"",
        None => "\"message:received\"",
    };
    News::of_app(App::Mobile, event, now, |object| shapes::message(message, object))
}
