//! The objects of `mobile` as clients read them, over the socket and over HTTP. Times have milliseconds
//! (`spec/decisions.md` 3).

use crate::app::wire::Object;
use crate::record::mobile::{Balance, PersonalMessage};
use crate::time;

/// The event that tells a message.
pub(in crate::app) const fn event_of(message: &PersonalMessage) -> &'static str {
    match message.media_url {
        Some(_) => "media:received",
        None => "message:received",
    }
}

/// `{id, senderId, recipientId, roomId, content, type, mediaUrl?, clientMessageId?, createdAt}`
pub(in crate::app) fn message(message: &PersonalMessage, object: &mut Object<'_>) {
    object
        .put("id", message.id.to_string())
        .put("senderId", message.sender.as_str())
        .put("recipientId", message.recipient.as_str())
        .put("roomId", message.room_id())
        .put("content", &*message.content)
        .put("type", message.kind.as_str());
    if let Some(url) = &message.media_url {
        object.put("mediaUrl", &**url);
    }
    if let Some(id) = &message.client_message_id {
        object.put("clientMessageId", id.as_str());
    }
    object.put("createdAt", time::millis(message.created_at));
}

/// `{userId, roomId, lastMessage}`: somebody the user has talked to.
pub(in crate::app) fn partner(user: &str, last: &PersonalMessage, object: &mut Object<'_>) {
    object.put("userId", last.partner_of(user).as_str()).put("roomId", last.room_id());
    object.object("lastMessage", |object| message(last, object));
}

/// `{currency, balance, updatedAt}`
pub(in crate::app) fn balance(balance: &Balance, object: &mut Object<'_>) {
    object.put("currency", balance.currency.as_str()).stored("balance", Some(&balance.balance));
    object.put("updatedAt", time::millis(balance.updated_at));
}
