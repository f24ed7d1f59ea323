//! A request as the endpoints see it, and what they have in common: bodies of JSON, pages, refusals.

use std::borrow::Cow;

use crate::app::AppSettings;
use crate::app::rest::RestError;
use crate::auth::Identity;
use crate::close::ErrorCode;
use crate::proto::json::{Parser, Raw};
use crate::record::Refusal;
use crate::time::Now;
use crate::users::User;

/// Rows of a page where nothing is said.
pub(super) const PAGE: usize = 50;

/// A request whose token is good.
pub struct Call<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// His rates.
    pub user: &'a User,
    /// A parameter of the query, decoded.
    pub query: &'a dyn Fn(&str) -> Option<Cow<'a, str>>,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body; empty: none.
    pub body: &'a [u8],
    /// The rates.
    pub settings: &'a AppSettings,
    /// The time.
    pub now: Now,
}

impl<'a> Call<'a> {
    /// The body, an object.
    ///
    /// # Errors
    /// 400 for a body that is none, 415 for one that is not said to be JSON.
    pub(super) fn object(&self, parser: &mut Parser) -> Result<Raw<'a>, RestError> {
        if !self.content_type.is_some_and(is_json) {
            let error = "send JSON: Content-Type: application/json";
            return Err(RestError::new(415, ErrorCode::InvalidMessage, error));
        }
        let wrong = |error: String| RestError::new(400, ErrorCode::ValidationError, error);
        let body = parser.parse(self.body).map_err(|error| wrong(error.explain(self.body)))?;
        match body.is_object() {
            true => Ok(body),
            false => Err(wrong("the body is a JSON object".to_owned())),
        }
    }

    /// How many rows are asked for: `default`, if that is not said, and `most` at most.
    ///
    /// # Errors
    /// 400 for what is no such number.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, RestError> {
        let Some(limit) = (self.query)("limit") else { return Ok(default) };
        match whole_number(&limit) {
            Some(limit) if limit > 0 => Ok(usize::try_from(limit).map_or(most, |limit| limit.min(most))),
            _ => Err(invalid("limit", format!("limit is an integer from 1 to {most}"))),
        }
    }
}

/// `application/json`, with or without parameters.
pub(super) fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// An integer from 0; one that is too large to be kept counts as the largest that can be.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A path whose endpoint is asked with other methods.
pub(super) fn not_allowed(allow: &'static str) -> RestError {
    let error = RestError::new(405, ErrorCode::InvalidMessage, format!("use one of: {allow}"));
    RestError { allow: Some(allow), ..error }
}

/// A field that is missing or wrong.
pub(super) fn invalid(field: &'static str, error: impl Into<Cow<'static, str>>) -> RestError {
    let error = error.into();
    RestError::new(400, ErrorCode::ValidationError, error.clone()).field(field, error)
}

/// What the store refused.
pub(super) fn refused(refusal: &Refusal) -> RestError {
    let message = refusal.to_string();
    match refusal {
        Refusal::NotFound(_) => RestError::new(404, ErrorCode::NotFound, message),
        Refusal::Forbidden => RestError::new(403, ErrorCode::Forbidden, message),
        Refusal::Invalid { field, error } => invalid(field, *error),
        Refusal::EmailTaken | Refusal::Token(_) => RestError::new(400, ErrorCode::ValidationError, message),
        Refusal::Closed => RestError::new(403, ErrorCode::Forbidden, message),
        Refusal::Full => RestError::new(403, ErrorCode::ConversationFull, message),
        Refusal::Internal { error_id } => {
            RestError::new(500, ErrorCode::InternalError, message).field("error_id", error_id.to_string())
        }
    }
}
