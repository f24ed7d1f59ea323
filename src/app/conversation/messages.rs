//! Messages: said, read, deleted.

use uuid::Uuid;

use crate::app::conversation::content::{Author, Fields};
use crate::app::conversation::{Purpose, Refused, conversation_id, shapes};
use crate::app::{Context, Session, StoreRequest, person, string};
use crate::metrics::LimitKind;
use crate::proto::json::{self, Raw};
use crate::record::{Answer, Conversation, Person, Write};

impl Session {
    /// The client's user as others are shown him.
    pub(super) fn person(&self) -> Person {
        person(self.user.id(), self.details.as_deref())
    }

    pub(super) fn message_send(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let conversation = conversation_id(data)?;
        let fields = Fields {
            kind: data.get("type"),
            content: data.get("content"),
            metadata: data.get("metadata"),
            client_message_id: data.get("client_message_id"),
        };
        // Before the filter, which costs more than all else.
        self.user.allow_message(&context.settings.messages, context.now.mono).map_err(|wait| {
            context.out.count_limit(LimitKind::Messages);
            Refused::too_fast("too many messages: wait before the next one", wait)
        })?;
        let message = fields
            .check(Author::Client(&context.settings.filter))
            .inspect_err(|_| self.user.give_back_message(&context.settings.messages))?;
        let write = Write::Send { by: Some(self.person()), conversation, message };
        self.ask(Purpose::Send, StoreRequest::Write(write), context)
            .inspect_err(|_| self.user.give_back_message(&context.settings.messages))
            .map(drop)
    }

    pub(super) fn message_read(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let (conversation, message) = (conversation_id(data)?, message_id(data)?);
        let write = Write::Read { by: self.person(), conversation, message };
        self.ask(Purpose::Read, StoreRequest::Write(write), context).map(drop)
    }

    pub(super) fn message_delete(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let (conversation, message) = (conversation_id(data)?, message_id(data)?);
        let write = Write::Delete { by: self.person(), conversation, message };
        self.ask(Purpose::Delete, StoreRequest::Write(write), context).map(drop)
    }

    /// Answers a request that changed nothing, because it had been made before. What changes something is told to all.
    pub(super) fn repeat(&self, answer: &Answer, context: &mut Context<'_>) {
        let to = self.reply_to(context);
        match answer {
            Answer::Sent { message, first: false } => context.out.reply(to, "message:new", |object| {
                shapes::message_new(message, Some(&self.person()), object);
            }),
            Answer::Viewed { conversation, message, viewed_at, first: false, .. } => {
                context.out.reply(to, "message:viewed", |object| {
                    shapes::message_at(*message, *conversation, "viewed_at", *viewed_at, object);
                });
            }
            Answer::Deleted { conversation, message, by, at, first: false } => {
                context.out.reply(to, "message:deleted", |object| {
                    shapes::deleted(*message, *conversation, by.as_deref(), *at, object);
                });
            }
            _ => {}
        }
    }

    /// `conversation:unread` for each conversation with unread messages.
    pub(super) fn tell_unread(&self, conversations: &[Conversation], context: &mut Context<'_>) {
        let mut bytes = 0;
        for conversation in conversations {
            let last = conversation.last_message.as_ref();
            bytes += last.map_or(0, |message| json::str_bytes(&message.content));
            let last = last.filter(|_| bytes <= context.settings.unread_bytes);
            context.out.reply(self.reply_to(context), "conversation:unread", |object| {
                shapes::unread(conversation.id, conversation.unread, last, object);
            });
        }
    }
}

/// The message that a request names.
fn message_id(data: Raw<'_>) -> Result<Uuid, Refused> {
    let id = string(data, "message_id").filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Refused::field("message_id", "message_id is missing: name the message"))?;
    Uuid::try_parse(&id).map_err(|_| Refused::not_found("message_id", "message"))
}
