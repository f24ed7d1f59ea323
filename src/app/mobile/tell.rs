//! What others are told of a change that is durable.

use crate::app::conversation::tell::News;
use crate::app::mobile::shapes;
use crate::audience::App;
use crate::record::mobile::MobileEffect;
use crate::room::publication::Publication;
use crate::time::Now;

/// What is to be published for a change: a message goes to all connections of both users.
pub fn tell(effect: &MobileEffect, now: Now) -> [Publication; 2] {
    let MobileEffect::Message(message) = effect;
    let event = match message.media_url {
        Some(_) => "\"media:received\"",
        None => "\"message:received\"",
    };
    let news = News::of_app(App::Mobile, event, now, |object| shapes::message(message, object));
    let mut to_recipient = news.to_user(&message.recipient);
    to_recipient.message = message.number;
    [to_recipient, news.to_user(&message.sender)]
}
