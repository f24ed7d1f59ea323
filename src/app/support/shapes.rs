//! The objects of `support` as clients read them, over the socket and over HTTP, in the fields and the order of the source
//! document. Times have neither zone nor fraction (`spec/decisions.md` 3).

use uuid::Uuid;

use crate::app::wire::{Object, session};
use crate::record::support::{Census, ChatMessage, ChatParticipant, ChatSession, File};

/// A time.
pub(in crate::app) fn put_time(object: &mut Object<'_>, key: &str, unix_ms: u64) {
    let mut text = Vec::with_capacity(20);
    session::write_time(&mut text, unix_ms);
    object.put(key, String::from_utf8_lossy(&text));
}

fn put_some_time(object: &mut Object<'_>, key: &str, unix_ms: Option<u64>) {
    match unix_ms {
        Some(unix_ms) => put_time(object, key, unix_ms),
        None => {
            object.put(key, ());
        }
    }
}

/// An id.
pub(in crate::app) fn put_id(object: &mut Object<'_>, key: &str, id: Uuid) {
    object.put(key, format_args!("{id}"));
}

/// What stands behind the name of an event: `chat_session_id, user_id, content?, timestamp, metadata`.
pub(super) struct Event<'a> {
    pub session: Option<Uuid>,
    pub user: &'a str,
    pub content: Option<&'a str>,
    pub at: u64,
}

impl Event<'_> {
    pub(super) fn write(&self, object: &mut Object<'_>, metadata: impl FnOnce(&mut Object<'_>)) {
        object.put("chat_session_id", self.session.map(|id| id.to_string())).put("user_id", self.user);
        if let Some(content) = self.content {
            object.put("content", content);
        }
        put_time(object, "timestamp", self.at);
        object.object("metadata", metadata);
    }
}

/// A message as those who are connected read it: `metadata {message_id, reply_to_id, mentions}`, and the file's fields.
pub(super) fn live(message: &ChatMessage, object: &mut Object<'_>) {
    let event = Event {
        session: Some(message.session),
        user: &message.sender,
        content: Some(&message.said.content),
        at: message.created_at,
    };
    event.write(object, |metadata| {
        put_id(metadata, "message_id", message.id);
        metadata.put("reply_to_id", message.said.reply_to.map(|id| id.to_string()));
        metadata.put("mentions", mentions(message));
        if let Some(file) = &message.said.file {
            put_file(metadata, file);
        }
    });
}

fn mentions(message: &ChatMessage) -> Vec<&str> {
    message.said.mentions.iter().map(|user| user.as_str()).collect()
}

fn put_file(object: &mut Object<'_>, file: &File) {
    object
        .put("file_url", &*file.url)
        .put("file_name", &*file.name)
        .put("file_size", file.size)
        .put("file_type", file.kind.as_deref());
}

/// A message of a history; what it answers, whom it names and its file where there are any.
pub(in crate::app) fn message(message: &ChatMessage, object: &mut Object<'_>) {
    put_id(object, "id", message.id);
    put_id(object, "chat_session_id", message.session);
    object
        .put("sender_id", message.sender.as_str())
        .put("message_type", message.said.kind.as_str())
        .put("content", &*message.said.content)
        .put("status", message.progress.as_str());
    put_time(object, "created_at", message.created_at);
    object.put("read_by_count", message.read_by);
    if let Some(reply_to) = message.said.reply_to {
        put_id(object, "reply_to_id", reply_to);
    }
    if !message.said.mentions.is_empty() {
        object.put("mentions", mentions(message));
    }
    if let Some(file) = &message.said.file {
        put_file(object, file);
    }
}

/// A session.
pub(in crate::app) fn session(session: &ChatSession, object: &mut Object<'_>) {
    put_id(object, "id", session.id);
    object
        .put("title", &*session.title)
        .put("status", if session.closed_at.is_some() { "closed" } else { "active" })
        .put("initiator_id", session.initiator.as_str())
        .put("assigned_agent_id", session.assigned_agent.as_deref());
    put_time(object, "created_at", session.created_at);
    put_some_time(object, "started_at", session.started_at);
    put_some_time(object, "closed_at", session.closed_at);
    object.put("total_messages", session.total).put("unread_count", session.unread);
}

/// A participant.
pub(in crate::app) fn participant(participant: &ChatParticipant, object: &mut Object<'_>) {
    put_id(object, "id", participant.id);
    object.put("user_id", participant.user.as_str()).put("role", participant.role.as_str());
    put_time(object, "joined_at", participant.joined_at);
    object.put("is_active", participant.is_active);
    put_some_time(object, "last_read_at", participant.last_read_at);
}

/// Who is connected.
pub(in crate::app) fn census(census: &Census, object: &mut Object<'_>) {
    let average = match census.sessions {
        0 => 0.0,
        // Two digits behind the point.
        sessions => (census.users as f64 / sessions as f64 * 100.0).round() / 100.0,
    };
    object
        .put("total_sessions", census.sessions)
        .put("total_connections", census.connections)
        .put("average_users_per_session", average);
    object.object("sessions", |sessions| {
        for one in &census.list {
            sessions.object(&one.session.to_string(), |object| {
                object.put("user_count", one.users).put("typing_count", one.typing);
            });
        }
    });
}
