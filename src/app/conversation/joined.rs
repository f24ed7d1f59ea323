//! Conversations that a client has joined: its connection is a member of an internal room of each, which typing reaches.
//! And whom it talks to in which conversation, so that the store need not be asked for each key that is pressed.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::{Purpose, Refused, conversation_id, shapes};
use crate::app::outputs::Joining;
use crate::app::{Context, Output, Session, StoreRequest};
use crate::proto::json::Raw;
use crate::record::Query;
use crate::room::name::RoomName;
use crate::room::pattern::Policy;

/// Conversations whose participants are remembered. Somebody who talks in more at once costs the store a question now and
/// then.
const KNOWN: usize = 64;

/// What is known of conversations. Who takes part in one never changes.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The other participant of each, the one that was used last at the end; at most [`KNOWN`].
    known: Vec<(Uuid, SmolStr)>,
    /// What the store has been asked; at most as many as requests of a client are open.
    questions: Vec<Question>,
}

/// A question for the participants of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    ticket: u64,
    pub conversation: Uuid,
    /// It is for a start of typing, which has been stopped since.
    pub stops: bool,
}

impl Joined {
    /// The other participant, if it is known.
    pub(super) fn other(&mut self, conversation: Uuid) -> Option<SmolStr> {
        let at = self.known.iter().position(|(known, _)| *known == conversation)?;
        self.known[at..].rotate_left(1);
        self.known.last().map(|(_, other)| other.clone())
    }

    /// The conversation that ends in these bits, with its other participant.
    pub(super) fn by_bits(&self, bits: u64) -> Option<&(Uuid, SmolStr)> {
        self.known.iter().find(|(conversation, _)| conversation.as_u64_pair().1 == bits)
    }

    pub(super) fn remember(&mut self, conversation: Uuid, other: SmolStr) {
        if self.other(conversation).is_some() {
            return;
        }
        if self.known.len() == KNOWN {
            self.known.remove(0);
        }
        self.known.push((conversation, other));
    }

    /// The question that has its answer.
    pub(super) fn answered(&mut self, ticket: u64) -> Option<Question> {
        let at = self.questions.iter().position(|question| question.ticket == ticket)?;
        Some(self.questions.swap_remove(at))
    }

    /// A start of typing that waits for its answer.
    pub(super) fn asked_to_type(&mut self, conversation: Uuid) -> Option<&mut Question> {
        let is_start = |question: &&mut Question| {
            question.conversation == conversation
                && Purpose::of(question.ticket) == Some(Purpose::TypingStart)
        };
        self.questions.iter_mut().find(is_start)
    }
}

impl Session {
    /// Does what was asked if the client is known to take part in the conversation; else asks the store first.
    pub(super) fn with_part(
        &mut self,
        purpose: Purpose,
        conversation: Uuid,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        if let Some(other) = self.chat().and_then(|chat| chat.joined.other(conversation)) {
            self.take_part(purpose, conversation, &other, false, context);
            return Ok(());
        }
        let query = Query::Participants { user: Some(self.user.id().clone()), conversation };
        let ticket = self.ask(purpose, StoreRequest::Query(query), context)?;
        if let Some(chat) = self.chat() {
            chat.joined.questions.push(Question { ticket, conversation, stops: false });
        }
        Ok(())
    }

    pub(super) fn conversation_join(
        &mut self,
        data: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        self.with_part(Purpose::Join, conversation_id(data)?, context)
    }

    pub(super) fn conversation_leave(
        &mut self,
        data: Raw<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        self.with_part(Purpose::Leave, conversation_id(data)?, context)
    }

    pub(super) fn join_conversation(&mut self, conversation: Uuid, context: &mut Context<'_>) {
        let now = context.now.unix_ms();
        let confirmation = context.out.compose(self.reply_to(context), "conversation:joined", |data| {
            shapes::put_id(data, "conversation_id", conversation);
            shapes::put_time(data, "joined_at", now);
        });
        let room = RoomName::joined(conversation, self.user.id());
        let asked = context.asked("conversation:join");
        let rooms = vec![Joining { room, policy: Policy::Every }];
        context.out.push(Output::Join { rooms, confirmation, asked });
    }

    pub(super) fn leave_conversation(&mut self, conversation: Uuid, context: &mut Context<'_>) {
        let now = context.now.unix_ms();
        let confirmation = context.out.compose(self.reply_to(context), "conversation:left", |data| {
            shapes::put_id(data, "conversation_id", conversation);
            shapes::put_time(data, "left_at", now);
        });
        let room = RoomName::joined(conversation, self.user.id());
        context.out.push(Output::Leave { room, confirmation });
    }
}
