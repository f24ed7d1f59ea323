//! The conversations of a user over HTTP (`spec/conversation.md`, "REST beside it"): the way to the history, and to a first
//! conversation.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::shapes;
use crate::app::rest::call::{Call, PAGE, invalid, not_allowed, refused};
use crate::app::rest::{RestAnswer, RestError};
use crate::app::wire::Object;
use crate::app::{AppSettings, StoreRequest, person, user_id};
use crate::close::ErrorCode;
use crate::proto::json::Parser;
use crate::record::{Answer, Query, Refusal, Write};
use crate::users::{Meter, User};

const COLLECTION: &str = "/api/v1/conversations";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /api/v1/conversations`
    Create,
    /// `GET /api/v1/conversations`
    List {
        /// Conversations of the page; [`Endpoint::request`] sets it.
        limit: usize,
    },
    /// `GET /api/v1/conversations/{id}/messages`
    Messages(Uuid),
}

/// The endpoint of a path; `None`: it is not one of these.
pub fn endpoint(method: &str, path: &str) -> Option<Result<Endpoint, RestError>> {
    let rest = path.strip_prefix(COLLECTION)?;
    if rest.is_empty() {
        return Some(match method {
            "POST" => Ok(Endpoint::Create),
            "GET" => Ok(Endpoint::List { limit: PAGE }),
            _ => Err(not_allowed("GET, POST")),
        });
    }
    let id = rest.strip_prefix('/')?.strip_suffix("/messages")?;
    if id.contains('/') {
        return None;
    }
    Some(match (method, Uuid::try_parse(id)) {
        ("GET", Ok(id)) => Ok(Endpoint::Messages(id)),
        ("GET", Err(_)) => Err(RestError::new(404, ErrorCode::NotFound, "there is no such conversation")),
        _ => Err(not_allowed("GET")),
    })
}

impl Endpoint {
    /// What to ask the store.
    ///
    /// # Errors
    /// 400 for a bad field, 415 for a body that is not said to be JSON, 429 for too many new conversations.
    pub fn request(&mut self, call: &Call<'_>, parser: &mut Parser) -> Result<StoreRequest, RestError> {
        let user = SmolStr::new(&call.identity.user);
        Ok(match self {
            Endpoint::Create => StoreRequest::Write(create(call, parser)?),
            Endpoint::List { limit } => {
                *limit = call.limit(PAGE, Query::MOST_OF_PAGE)?;
                let before = (call.query)("before").map(|before| before.parse()).transpose();
                let before = before.map_err(|_| {
                    invalid("before", "before is the next_before of the page before: use it as it was given")
                })?;
                StoreRequest::Query(Query::Conversations { user, limit: *limit, before })
            }
            Endpoint::Messages(conversation) => {
                let before = (call.query)("before").map(|before| Uuid::try_parse(&before)).transpose();
                let before = before.map_err(|_| invalid("before", "before is the id of a message"))?;
                let limit = call.limit(PAGE, Query::MOST_OF_PAGE)?;
                StoreRequest::Query(Query::Messages { user, conversation: *conversation, limit, before })
            }
        })
    }

    /// The store was busy: what was counted for the request is given back.
    pub fn not_done(&self, user: &User, settings: &AppSettings) {
        if *self == Endpoint::Create {
            user.give_back(Meter::Conversations, settings.conversations);
        }
    }

    /// The answer, from the store's.
    ///
    /// # Errors
    /// 403 and 404 for what is not the user's or not there, 500 when the store failed.
    pub fn response(
        &self,
        answer: &Result<Answer, Refusal>,
        user: &User,
        settings: &AppSettings,
    ) -> Result<RestAnswer, RestError> {
        let mut body = Vec::new();
        let status = match (self, answer) {
            (Endpoint::Create, Ok(Answer::Conversation { conversation, first })) => {
                if !first {
                    user.give_back(Meter::Conversations, settings.conversations);
                }
                Object::write(&mut body, |object| shapes::conversation(conversation, object));
                if *first { 201 } else { 200 }
            }
            (Endpoint::List { limit }, Ok(Answer::Conversations(list))) => {
                let next = list.last().filter(|_| list.len() >= *limit).map(|last| last.cursor.to_string());
                Object::write(&mut body, |object| {
                    object.list("conversations", list, shapes::conversation).put("next_before", next);
                });
                200
            }
            (Endpoint::Messages(_), Ok(Answer::Messages(page))) => {
                Object::write(&mut body, |object| {
                    object
                        .list("messages", &page.messages, shapes::message)
                        .put("next_before", page.next_before.map(|id| id.to_string()));
                });
                200
            }
            (_, Err(refusal)) => {
                self.not_done(user, settings);
                return Err(refused(refusal));
            }
            // The store answers what was asked.
            (_, Ok(_)) => return Err(RestError::new(500, ErrorCode::InternalError, "internal error")),
        };
        Ok(RestAnswer { status, body })
    }
}

fn create(call: &Call<'_>, parser: &mut Parser) -> Result<Write, RestError> {
    let body = call.object(parser)?;
    let participant = body.get("participant_id").and_then(user_id).ok_or_else(|| {
        let error = "participant_id is a user id of 1 to 128 bytes without control characters";
        invalid("participant_id", error)
    })?;
    if *participant == *call.identity.user {
        let error = "a conversation is between two users: name another one than yourself";
        return Err(invalid("participant_id", error));
    }
    call.user.allow(Meter::Conversations, call.settings.conversations, call.now.mono).map_err(|wait| {
        let error = "too many new conversations: wait before the next one";
        RestError::new(429, ErrorCode::RateLimited, error).retry_after(wait)
    })?;
    let own = person(&call.identity.user, call.identity.details.as_deref());
    Ok(Write::CreateConversation { participants: [own.id.clone(), participant], by: Some(own) })
}

#[cfg(test)]
mod tests;
