//! Personal messages and wallets over HTTP (`spec/mobile.md`, "HTTP").

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::mobile::content::{Fields, other_user};
use crate::app::mobile::{Refused, shapes};
use crate::app::rest::call::{Call, PAGE, invalid, not_allowed, refused};
use crate::app::rest::{RestAnswer, RestError};
use crate::app::wire::Object;
use crate::app::{AppSettings, StoreRequest};
use crate::close::ErrorCode;
use crate::proto::json::Parser;
use crate::record::mobile::{MobileAnswer, MobileQuery, MobileWrite, PersonalPage, TransactionPage};
use crate::record::{Answer, Query, Refusal, Write};
use crate::users::User;

const MESSAGES: &str = "/api/chat/personal/messages";
const CONVERSATIONS: &str = "/api/chat/personal/conversations";
const BALANCE: &str = "/api/wallet/balance";
const TRANSACTIONS: &str = "/api/wallet/transactions";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /api/chat/personal/messages`
    Send,
    /// `GET /api/chat/personal/messages`
    Messages,
    /// `GET /api/chat/personal/conversations`
    Conversations,
    /// `GET /api/wallet/balance`
    Balance,
    /// `GET /api/wallet/transactions`
    Transactions,
}

/// The endpoint of a path; `None`: it is not one of these.
pub fn endpoint(method: &str, path: &str) -> Option<Result<Endpoint, RestError>> {
    Some(match (path, method) {
        (MESSAGES, "POST") => Ok(Endpoint::Send),
        (MESSAGES, "GET") => Ok(Endpoint::Messages),
        (CONVERSATIONS, "GET") => Ok(Endpoint::Conversations),
        (BALANCE, "GET") => Ok(Endpoint::Balance),
        (TRANSACTIONS, "GET") => Ok(Endpoint::Transactions),
        (MESSAGES, _) => Err(not_allowed("GET, POST")),
        (CONVERSATIONS | BALANCE | TRANSACTIONS, _) => Err(not_allowed("GET")),
        _ => return None,
    })
}

impl Endpoint {
    /// What to ask the store.
    ///
    /// # Errors
    /// 400 for a bad field, 415 for a body that is not said to be JSON, 429 for too many messages.
    pub fn request(self, call: &Call<'_>, parser: &mut Parser) -> Result<StoreRequest, RestError> {
        let user = SmolStr::new(&call.identity.user);
        let query = match self {
            Endpoint::Send => return Ok(StoreRequest::Write(Write::Mobile(send(user, call, parser)?))),
            Endpoint::Messages => {
                let with = (call.query)("with")
                    .ok_or_else(|| invalid("with", "with is missing: name the other user"))?;
                let with = other_user(&with, &user, "with").map_err(rest_error)?;
                let before = message_before(call)?;
                MobileQuery::Messages { user, with, limit: call.limit(PAGE, Query::MOST_OF_PAGE)?, before }
            }
            Endpoint::Conversations => {
                let limit = call.limit(MobileQuery::MOST_PARTNERS, MobileQuery::MOST_PARTNERS)?;
                MobileQuery::Conversations { user, limit, before: message_before(call)? }
            }
            Endpoint::Balance => MobileQuery::Balances { user },
            Endpoint::Transactions => {
                let before = (call.query)("before").map(SmolStr::new);
                MobileQuery::Transactions { user, limit: call.limit(PAGE, Query::MOST_OF_PAGE)?, before }
            }
        };
        Ok(StoreRequest::Query(Query::Mobile(query)))
    }

    /// The store was busy: what was counted for the request is given back.
    pub fn not_done(self, user: &User, settings: &AppSettings) {
        if self == Endpoint::Send {
            user.give_back_message(&settings.messages);
        }
    }

    /// The answer, from the store's.
    ///
    /// # Errors
    /// 404 for a message or transaction that is not there, 500 when the store failed.
    pub fn response(self, answer: &Result<Answer, Refusal>, user: &User) -> Result<RestAnswer, RestError> {
        let answer = match answer {
            Ok(Answer::Mobile(answer)) => answer,
            Err(refusal) => return Err(refused(refusal)),
            // The store answers what was asked.
            Ok(_) => return Err(RestError::new(500, ErrorCode::InternalError, "internal error")),
        };
        let mut body = Vec::new();
        let status = match answer {
            MobileAnswer::Sent { message, first } => {
                Object::write(&mut body, |object| shapes::message(message, object));
                if *first { 201 } else { 200 }
            }
            MobileAnswer::Messages(page) => {
                Object::write(&mut body, |object| match self {
                    Endpoint::Conversations => {
                        object.list("conversations", &page.messages, |last, object| {
                            shapes::partner(user.id(), last, object);
                        });
                        put_next(page, object);
                    }
                    _ => {
                        object.list("messages", &page.messages, shapes::message);
                        put_next(page, object);
                    }
                });
                200
            }
            MobileAnswer::Balances(balances) => {
                Object::write(&mut body, |object| {
                    object.list("balances", balances, shapes::balance);
                });
                200
            }
            MobileAnswer::Transactions(page) => {
                write_transactions(page, &mut body);
                200
            }
            // No request asks for it.
            MobileAnswer::Queued(_) => 500,
        };
        Ok(RestAnswer { status, body })
    }
}

/// `nextBefore`: the `before` of the next page, or `null`.
fn put_next(page: &PersonalPage, object: &mut Object<'_>) {
    let last = page.messages.last().filter(|_| page.has_more);
    object.put("nextBefore", last.map(|last| last.id.to_string()));
}

/// `{transactions, nextBefore}`, each transaction as the backend wrote it.
fn write_transactions(page: &TransactionPage, body: &mut Vec<u8>) {
    let last = page.transactions.last().filter(|_| page.has_more);
    Object::write(body, |object| {
        let list = page.transactions.iter().map(|transaction| &*transaction.data);
        object.stored_list("transactions", list).put("nextBefore", last.map(|last| last.id.as_str()));
    });
}

fn message_before(call: &Call<'_>) -> Result<Option<Uuid>, RestError> {
    let before = (call.query)("before").map(|before| Uuid::try_parse(&before)).transpose();
    before.map_err(|_| invalid("before", "before is the id of a message"))
}

fn send(by: SmolStr, call: &Call<'_>, parser: &mut Parser) -> Result<MobileWrite, RestError> {
    let message = Fields::of(call.object(parser)?).check(&by).map_err(rest_error)?;
    call.user.allow_message(&call.settings.messages, call.now.mono).map_err(|wait| {
        let error = "too many messages: wait before the next one";
        RestError::new(429, ErrorCode::RateLimited, error).retry_after(wait)
    })?;
    Ok(MobileWrite::Send { by, message })
}

fn rest_error(refused: Refused) -> RestError {
    let error = RestError::new(400, refused.code, refused.message.clone());
    match refused.field {
        Some(field) => error.field(field, refused.message),
        None => error,
    }
}

#[cfg(test)]
mod tests;
