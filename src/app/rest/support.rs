//! Support sessions over HTTP (`spec/support.md`, "REST"). What cannot be taken is a 400; there is no 422.

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::{Details, Refused};
use crate::app::rest::call::{Call, PAGE, invalid, not_allowed, whole_number};
use crate::app::rest::{Question, RestAnswer, RestError};
use crate::app::support::shapes;
use crate::app::support::{content, refused};
use crate::app::wire::Object;
use crate::app::{AppSettings, StoreRequest, user_id};
use crate::close::ErrorCode;
use crate::metrics::LimitKind;
use crate::proto::json::{Parser, Raw};
use crate::record::support::{Caller, Census, ChatType, SupportAnswer, SupportQuery, SupportWrite};
use crate::record::{Answer, Query, Refusal, Write};
use crate::users::{Meter, User};

const BASE: &str = "/api/v1/chat/";
/// Longest title, characters: a line of a list.
const TITLE_CHARS: usize = 200;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /sessions`
    Create,
    /// `GET /sessions`
    List,
    /// `GET /sessions/{id}`
    Session(Uuid),
    /// `POST /sessions/{id}/close`
    Close(Uuid),
    /// `GET /sessions/{id}/messages`
    Messages(Uuid),
    /// `POST /sessions/{id}/messages`
    Send(Uuid),
    /// `POST /sessions/{id}/mark-read`
    MarkRead(Uuid),
    /// `GET /sessions/{id}/participants`
    Participants(Uuid),
    /// `POST /block`
    Block,
    /// `POST /unblock`
    Unblock,
    /// `GET /ws-stats`
    Census,
}

/// The endpoint of a path; `None`: it is not one of these.
pub fn endpoint(method: &str, path: &str) -> Option<Result<Endpoint, RestError>> {
    let rest = path.strip_prefix(BASE)?;
    let only = |wanted: &'static str, endpoint| match method == wanted {
        true => Ok(endpoint),
        false => Err(not_allowed(wanted)),
    };
    Some(match rest {
        "sessions" => match method {
            "POST" => Ok(Endpoint::Create),
            "GET" => Ok(Endpoint::List),
            _ => Err(not_allowed("GET, POST")),
        },
        "block" => only("POST", Endpoint::Block),
        "unblock" => only("POST", Endpoint::Unblock),
        "ws-stats" => only("GET", Endpoint::Census),
        _ => {
            let (id, what) = match rest.strip_prefix("sessions/")?.split_once('/') {
                Some((id, what)) => (id, what),
                None => (rest.strip_prefix("sessions/")?, ""),
            };
            // Ids are ours: what is none names nothing.
            let session = Uuid::try_parse(id).unwrap_or_default();
            match (what, method) {
                ("", _) => only("GET", Endpoint::Session(session)),
                ("close", _) => only("POST", Endpoint::Close(session)),
                ("mark-read", _) => only("POST", Endpoint::MarkRead(session)),
                ("participants", _) => only("GET", Endpoint::Participants(session)),
                ("messages", "GET") => Ok(Endpoint::Messages(session)),
                ("messages", "POST") => Ok(Endpoint::Send(session)),
                ("messages", _) => Err(not_allowed("GET, POST")),
                _ => return None,
            }
        }
    })
}

impl Endpoint {
    /// Whom to ask, and what.
    ///
    /// # Errors
    /// 400 for a bad field, 415 for a body that is not said to be JSON, 429 for too many requests.
    pub fn request(self, call: &Call<'_>, parser: &mut Parser) -> Result<Question, RestError> {
        let by = Caller { user: SmolStr::new(&call.identity.user), is_agent: call.identity.is_agent() };
        let write = |write| Question::Store(StoreRequest::Write(Write::Support(write)));
        let query = |query| Question::Store(StoreRequest::Query(Query::Support(query)));
        Ok(match self {
            Endpoint::Create => write(create(by, call, parser)?),
            Endpoint::List => query(SupportQuery::Sessions {
                by,
                closed: closed(call)?,
                limit: call.limit(PAGE, SupportQuery::MOST_OF_PAGE)?,
                offset: offset(call)?,
            }),
            Endpoint::Session(session) => query(SupportQuery::Session { by, session }),
            Endpoint::Close(session) => write(SupportWrite::Close { by, session }),
            Endpoint::Messages(session) => {
                let (limit, offset) = (call.limit(PAGE, SupportQuery::MOST_OF_PAGE)?, offset(call)?);
                query(SupportQuery::Messages { by, session, limit, offset })
            }
            Endpoint::Send(session) => write(send(by, session, call, parser)?),
            Endpoint::MarkRead(session) => {
                let message = up_to(call.object(parser)?)?;
                write(SupportWrite::MarkRead { by, session, message })
            }
            Endpoint::Participants(session) => query(SupportQuery::Participants { by, session }),
            Endpoint::Block => {
                let blocked = named_user(call.object(parser)?)?;
                write(SupportWrite::Block { user: by.user, blocked })
            }
            Endpoint::Unblock => {
                let blocked = named_user(call.object(parser)?)?;
                write(SupportWrite::Unblock { user: by.user, blocked })
            }
            Endpoint::Census => Question::Census,
        })
    }

    /// Which limit the request meets besides that of all requests.
    pub const fn limit(self) -> LimitKind {
        match self {
            Endpoint::Send(_) => LimitKind::Messages,
            _ => LimitKind::Conversations,
        }
    }

    /// Nothing came of the request: what was counted for it is given back.
    pub fn not_done(self, user: &User, settings: &AppSettings) {
        match self {
            Endpoint::Create => user.give_back(Meter::Conversations, settings.conversations),
            Endpoint::Send(_) => user.give_back_message(&settings.messages),
            _ => {}
        }
    }

    /// The answer, from the store's.
    ///
    /// # Errors
    /// 403 and 404 for what is not the user's or not there, 500 when the store failed.
    pub fn response(
        self,
        answer: &Result<Answer, Refusal>,
        user: &User,
        settings: &AppSettings,
    ) -> Result<RestAnswer, RestError> {
        let answer = match answer {
            Ok(Answer::Support(answer)) => answer,
            // The store answers what was asked.
            Ok(_) => return Err(RestError::new(500, ErrorCode::InternalError, "internal error")),
            Err(refusal) => {
                // What was refused for good reason counts, or it could be asked without end.
                if matches!(refusal, Refusal::Internal { .. }) {
                    self.not_done(user, settings);
                }
                return Err(self.refusal(refusal));
            }
        };
        let mut body = Vec::new();
        match &**answer {
            SupportAnswer::Session(session) => {
                Object::write(&mut body, |object| shapes::session(session, object));
            }
            SupportAnswer::Sessions(list) => write_list(&mut body, list, shapes::session),
            SupportAnswer::Messages(list) => write_list(&mut body, list, shapes::message),
            SupportAnswer::Participants(list) => write_list(&mut body, list, shapes::participant),
            SupportAnswer::Sent(message) => {
                Object::write(&mut body, |object| shapes::message(message, object));
            }
            SupportAnswer::Read { at } => Object::write(&mut body, |object| {
                object.put("success", true).put("message", "Messages marked as read");
                shapes::put_time(object, "timestamp", *at);
            }),
            SupportAnswer::Done | SupportAnswer::Closed | SupportAnswer::Entered { .. } => {
                let message = match self {
                    Endpoint::Close(_) => "Session closed",
                    Endpoint::Block => "User blocked",
                    _ => "User unblocked",
                };
                Object::write(&mut body, |object| {
                    object.put("success", true).put("message", message);
                });
            }
        }
        let is_new = matches!(self, Endpoint::Create | Endpoint::Send(_));
        Ok(RestAnswer { status: if is_new { 201 } else { 200 }, body })
    }

    fn refusal(self, refusal: &Refusal) -> RestError {
        let error = from_refused(refused(refusal));
        match (self, refusal) {
            (Endpoint::MarkRead(_), Refusal::NotFound("message")) => {
                RestError { details: None, ..error }.field("up_to_message_id", "there is no such message")
            }
            _ => error,
        }
    }
}

/// The answer to `GET /ws-stats`.
pub fn census(census: &Census) -> RestAnswer {
    let mut body = Vec::new();
    Object::write(&mut body, |object| shapes::census(census, object));
    RestAnswer { status: 200, body }
}

fn write_list<T>(body: &mut Vec<u8>, list: &[T], fill: impl Fn(&T, &mut Object<'_>)) {
    body.push(b'[');
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        Object::write(body, |object| fill(item, object));
    }
    body.push(b']');
}

/// What the socket says as an error, as a status.
fn from_refused(refused: Refused) -> RestError {
    let status = match refused.code {
        ErrorCode::NotFound => 404,
        ErrorCode::Forbidden | ErrorCode::ConversationFull => 403,
        ErrorCode::RateLimited => 429,
        ErrorCode::InternalError => 500,
        _ => 400,
    };
    let error = RestError::new(status, refused.code, refused.message);
    match refused.details {
        Details::None => error,
        Details::Field(field, what) => error.field(field, what),
        Details::Wait(wait) => error.retry_after(wait),
        Details::ErrorId(id) => error.field("error_id", id.to_string()),
    }
}

fn create(by: Caller, call: &Call<'_>, parser: &mut Parser) -> Result<SupportWrite, RestError> {
    let body = call.object(parser)?;
    let title = body.get("title").and_then(Raw::as_str);
    let title = title
        .filter(|title| !title.trim().is_empty() && title.chars().count() <= TITLE_CHARS)
        .ok_or_else(|| invalid("title", "title is a text of 1 to 200 characters"))?;
    let agent = match body.get("assigned_agent_id").filter(|agent| !agent.is_null()) {
        Some(agent) => {
            let error =
                "assigned_agent_id is a user id of 1 to 128 bytes without control characters, or null";
            Some(user_id(agent).ok_or_else(|| invalid("assigned_agent_id", error))?)
        }
        None => None,
    };
    call.user.allow(Meter::Conversations, call.settings.conversations, call.now.mono).map_err(|wait| {
        let error = "too many new sessions: wait before the next one";
        RestError::new(429, ErrorCode::RateLimited, error).retry_after(wait)
    })?;
    Ok(SupportWrite::Create { by, title: Arc::from(&*title), agent })
}

/// As over the socket; without a type it is a text.
fn send(by: Caller, session: Uuid, call: &Call<'_>, parser: &mut Parser) -> Result<SupportWrite, RestError> {
    let body = call.object(parser)?;
    let kind = match body.get("message_type").filter(|kind| !kind.is_null()) {
        Some(_) => content::kind(body)
            .ok_or_else(|| from_refused(content::unknown_type("message_type is text, file or image")))?,
        None => ChatType::Text,
    };
    let message = content::check(kind, body).map_err(from_refused)?;
    call.user.allow_message(&call.settings.messages, call.now.mono).map_err(|wait| {
        let error = "too many messages: wait before the next one";
        RestError::new(429, ErrorCode::RateLimited, error).retry_after(wait)
    })?;
    Ok(SupportWrite::Send { by, session, message })
}

fn up_to(body: Raw<'_>) -> Result<Uuid, RestError> {
    let id = body.get("up_to_message_id").and_then(Raw::as_str).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| invalid("up_to_message_id", "up_to_message_id is the id of a message"))?;
    let unknown = || RestError::new(404, ErrorCode::NotFound, "there is no such message");
    Uuid::try_parse(&id).map_err(|_| unknown().field("up_to_message_id", "there is no such message"))
}

fn named_user(body: Raw<'_>) -> Result<SmolStr, RestError> {
    let error = "user_id is a user id of 1 to 128 bytes without control characters";
    body.get("user_id").and_then(user_id).ok_or_else(|| invalid("user_id", error))
}

/// Whether only sessions that are closed, or that are not, are asked for.
fn closed(call: &Call<'_>) -> Result<Option<bool>, RestError> {
    match (call.query)("status").as_deref() {
        None | Some("") => Ok(None),
        Some("active") => Ok(Some(false)),
        Some("closed") => Ok(Some(true)),
        Some(_) => Err(invalid("status", "status is active or closed")),
    }
}

fn offset(call: &Call<'_>) -> Result<u64, RestError> {
    let Some(offset) = (call.query)("offset") else { return Ok(0) };
    whole_number(&offset).ok_or_else(|| invalid("offset", "offset is an integer from 0"))
}

#[cfg(test)]
mod tests;
