//! The objects of `conversation` as clients read them, over the socket and over HTTP. Times have no fraction
//! (`spec/decisions.md` 3).

use uuid::Uuid;

use crate::app::wire::Object;
use crate::record::{Conversation, Message, Person};
use crate::time;

/// A time.
pub(in crate::app) fn put_time(object: &mut Object<'_>, key: &str, unix_ms: u64) {
    object.put(key, time::seconds(unix_ms));
}

/// An id.
pub(in crate::app) fn put_id(object: &mut Object<'_>, key: &str, id: Uuid) {
    object.put(key, format_args!("{id}"));
}

/// `{id, username, avatar_url}`, `null` where something is unknown.
pub(in crate::app) fn person(person: &Person, object: &mut Object<'_>) {
    object
        .put("id", person.id.as_str())
        .put("username", person.username.as_deref())
        .put("avatar_url", person.avatar_url.as_deref());
}

/// `{id, conversation_id, sender_id, content, type, created_at, updated_at, is_read, metadata}`
pub(in crate::app) fn message(message: &Message, object: &mut Object<'_>) {
    put_id(object, "id", message.id);
    put_id(object, "conversation_id", message.conversation);
    object
        .put("sender_id", message.sender.as_deref())
        .put("content", &*message.content)
        .put("type", message.kind.as_str());
    put_time(object, "created_at", message.created_at);
    put_time(object, "updated_at", message.updated_at);
    object.put("is_read", message.is_read).stored("metadata", message.metadata.as_deref());
}

/// `{message, sender}`. What a backend says has a sender without id and name.
pub(super) fn message_new(said: &Message, sender: Option<&Person>, object: &mut Object<'_>) {
    object.object("message", |object| message(said, object));
    object.object("sender", |object| match sender {
        Some(sender) => person(sender, object),
        None => {
            object.put("id", ()).put("username", ()).put("avatar_url", ());
        }
    });
}

/// `{conversation_id, unread_count, last_message}`
pub(super) fn unread(conversation: Uuid, count: u64, last: Option<&Message>, object: &mut Object<'_>) {
    put_id(object, "conversation_id", conversation);
    object.put("unread_count", count).object_or_null("last_message", last, last_message);
}

/// `{id, content, type, sender_id, created_at}`
fn last_message(message: &Message, object: &mut Object<'_>) {
    put_id(object, "id", message.id);
    object
        .put("content", &*message.content)
        .put("type", message.kind.as_str())
        .put("sender_id", message.sender.as_deref());
    put_time(object, "created_at", message.created_at);
}

/// `{message_id, conversation_id, TIME: at}`
pub(super) fn message_at(message: Uuid, conversation: Uuid, time: &str, at: u64, object: &mut Object<'_>) {
    put_id(object, "message_id", message);
    put_id(object, "conversation_id", conversation);
    put_time(object, time, at);
}

/// `{message_id, conversation_id, deleted_by, deleted_at}`; `deleted_by` is `null` for a photo whose time was over.
pub(super) fn deleted(message: Uuid, conversation: Uuid, by: Option<&str>, at: u64, object: &mut Object<'_>) {
    put_id(object, "message_id", message);
    put_id(object, "conversation_id", conversation);
    object.put("deleted_by", by);
    put_time(object, "deleted_at", at);
}

/// `{id, participants, created_at, updated_at, unread_count, last_message}`; `updated_at` is the time of the newest message.
pub(in crate::app) fn conversation(conversation: &Conversation, object: &mut Object<'_>) {
    put_id(object, "id", conversation.id);
    object.list("participants", &conversation.participants, person);
    put_time(object, "created_at", conversation.created_at);
    put_time(object, "updated_at", conversation.last_activity);
    object.put("unread_count", conversation.unread).object_or_null(
        "last_message",
        conversation.last_message.as_ref(),
        message,
    );
}
