//! Requests over HTTP, beside the sockets: which endpoint a path is, what it asks for, and the bodies of the answers.
//!
//! Pure: the shard has read the request and checked the token where the endpoint wants one; it carries out what comes of
//! it. It must not know connections, threads or the store. `spec/decisions.md` 16 has the form of errors.

mod call;
pub mod conversations;
pub mod login;
pub mod mobile;
pub mod support;

use std::borrow::Cow;
use std::time::Duration;

pub use call::Call;

use crate::app::wire::Object;
use crate::app::{AppSettings, StoreRequest};
use crate::audience::App;
use crate::close::ErrorCode;
use crate::metrics::LimitKind;
use crate::openapi;
use crate::proto::json::Parser;
use crate::record::{Answer, Refusal};
use crate::users::User;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Of the identity provider.
    Login(login::Endpoint),
    /// What is somebody's own.
    Personal(Personal),
    /// `GET /openapi.json`
    Document,
}

/// What a server serves beside the sockets.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The endpoints of which apps, by [`App::index`].
    pub apps: [bool; App::COUNT],
    /// Those of the identity provider.
    pub login: bool,
}

impl Endpoint {
    /// The endpoint of a path, or what is wrong with its method; `None`: the path is none of these.
    pub fn find(method: &str, path: &str, served: Served) -> Option<Result<Endpoint, RestError>> {
        let is_on = |app: App| served.apps[app.index()];
        if path == openapi::PATH {
            return Some(if method == "GET" {
                Ok(Endpoint::Document)
            } else {
                Err(call::not_allowed("GET"))
            });
        }
        if served.login
            && let Some(found) = login::endpoint(method, path)
        {
            return Some(found.map(Endpoint::Login));
        }
        Some(Personal::find(method, path, &is_on)?.map(Endpoint::Personal))
    }
}

/// An endpoint that answers only who shows an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personal {
    /// Of the app `conversation`.
    Conversations(conversations::Endpoint),
    /// Of the app `support`.
    Support(support::Endpoint),
    /// Of the app `mobile`.
    Mobile(mobile::Endpoint),
}

/// Who has the answer.
#[derive(Debug)]
pub enum Question {
    /// The store.
    Store(StoreRequest),
    /// The router: who is connected to support sessions.
    Census,
}

impl Personal {
    fn find(method: &str, path: &str, is_on: &dyn Fn(App) -> bool) -> Option<Result<Personal, RestError>> {
        let conversations = || Some(conversations::endpoint(method, path)?.map(Personal::Conversations));
        let support = || Some(support::endpoint(method, path)?.map(Personal::Support));
        let mobile = || Some(mobile::endpoint(method, path)?.map(Personal::Mobile));
        let conversations = is_on(App::Conversation).then(conversations).flatten();
        let support = || is_on(App::Support).then(support).flatten();
        conversations.or_else(support).or_else(|| is_on(App::Mobile).then(mobile).flatten())
    }

    /// Whom to ask, and what.
    ///
    /// # Errors
    /// What the client is to do better.
    pub fn request(&mut self, call: &Call<'_>, parser: &mut Parser) -> Result<Question, RestError> {
        match self {
            Personal::Conversations(endpoint) => endpoint.request(call, parser).map(Question::Store),
            Personal::Support(endpoint) => endpoint.request(call, parser),
            Personal::Mobile(endpoint) => endpoint.request(call, parser).map(Question::Store),
        }
    }

    /// The limit that a 429 is due to.
    pub const fn limit(self) -> LimitKind {
        match self {
            Personal::Conversations(_) => LimitKind::Conversations,
            Personal::Support(endpoint) => endpoint.limit(),
            Personal::Mobile(_) => LimitKind::Messages,
        }
    }

    /// Nothing came of the request: what was counted for it is given back.
    pub fn not_done(self, user: &User, settings: &AppSettings) {
        match self {
            Personal::Conversations(endpoint) => endpoint.not_done(user, settings),
            Personal::Support(endpoint) => endpoint.not_done(user, settings),
            Personal::Mobile(endpoint) => endpoint.not_done(user, settings),
        }
    }

    /// The answer, from the store's.
    ///
    /// # Errors
    /// What the store refused.
    pub fn response(
        self,
        answer: &Result<Answer, Refusal>,
        user: &User,
        settings: &AppSettings,
    ) -> Result<RestAnswer, RestError> {
        match self {
            Personal::Conversations(endpoint) => endpoint.response(answer, user, settings),
            Personal::Support(endpoint) => endpoint.response(answer, user, settings),
            Personal::Mobile(endpoint) => endpoint.response(answer, user),
        }
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestError {
    /// The HTTP status.
    pub status: u16,
    /// The error code of the body.
    pub code: ErrorCode,
    /// What is wrong, and what to do about it.
    pub message: Cow<'static, str>,
    /// The field that is wrong, and what would be right.
    pub details: Option<(Cow<'static, str>, Cow<'static, str>)>,
    /// For `Retry-After`.
    pub retry_after: Option<Duration>,
    /// For `Allow`, of a 405.
    pub allow: Option<&'static str>,
}

impl RestError {
    /// An error that says no more.
    pub fn new(status: u16, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> RestError {
        RestError { status, code, message: message.into(), details: None, retry_after: None, allow: None }
    }

    /// Names the field.
    pub fn field(
        mut self,
        field: impl Into<Cow<'static, str>>,
        error: impl Into<Cow<'static, str>>,
    ) -> RestError {
        self.details = Some((field.into(), error.into()));
        self
    }

    /// Says when to come back.
    pub fn retry_after(mut self, wait: Duration) -> RestError {
        self.retry_after = Some(wait);
        self
    }

    /// Appends the body: `{"error":{"code","message","details"?},"detail"}`.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        Object::write(out, |body| {
            body.object("error", |error| {
                error.put("code", self.code.as_str()).put("message", &*self.message);
                if let Some((field, what)) = &self.details {
                    error.object("details", |details| {
                        details.put("field", &**field).put("error", &**what);
                    });
                }
            });
            body.put("detail", &*self.message);
        });
    }
}

/// An answer: a status, and a body of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}
