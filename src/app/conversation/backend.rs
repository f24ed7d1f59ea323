//! What backends do to conversations over ingest (`spec/conversation.md`, the last line).

use std::borrow::Cow;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::Refused;
use crate::app::conversation::content::{Author, Fields};
use crate::close::ErrorCode;
use crate::proto::ingest::{ConversationCreate, ConversationMessage};
use crate::record::{Refusal, Write};

/// Why a line is not taken, for `reply::write_error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSaid {
    /// The code on the wire.
    pub code: ErrorCode,
    /// What is wrong and what would be right.
    pub message: Cow<'static, str>,
}

impl From<Refused> for NotSaid {
    fn from(refused: Refused) -> NotSaid {
        NotSaid { code: refused.code, message: refused.message }
    }
}

impl From<&Refusal> for NotSaid {
    fn from(refusal: &Refusal) -> NotSaid {
        let refused = Refused::by_store(refusal);
        match refusal {
            // A backend finds no details beside the message.
            Refusal::Internal { .. } => refused.into(),
            _ => NotSaid { code: refused.code, message: refusal.to_string().into() },
        }
    }
}

/// The change that a `conversation.create` asks for.
pub fn create(line: &ConversationCreate<'_>) -> Write {
    let [first, second] = &line.participants;
    Write::CreateConversation { by: None, participants: [SmolStr::new(first), SmolStr::new(second)] }
}

/// The change that a `conversation.message` asks for.
///
/// # Errors
/// What `spec/conversation.md` ("Message types") does not allow. Nothing is masked: backends know what they say.
pub fn say(line: &ConversationMessage<'_>) -> Result<Write, NotSaid> {
    let conversation = Uuid::try_parse(&line.conversation)
        .map_err(|_| Refused::not_found("conversation_id", "conversation"))?;
    let fields = Fields {
        kind: line.kind,
        content: line.content,
        metadata: line.metadata,
        client_message_id: line.client_message_id,
    };
    let message = fields.check(Author::Backend)?;
    Ok(Write::Send { by: None, conversation, message })
}
