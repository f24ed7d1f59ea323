//! Requests over HTTP, beside the sockets: which endpoint a path is, what it asks for, and the bodies of the answers.
//!
//! Pure: the shard has read the request and checked the token where the endpoint wants one; it carries out what comes of
//! it. It must not know connections, threads or the store. `spec/decisions.md` 16 has the form of errors.

pub mod conversations;
pub mod login;
pub mod mobile;
pub mod support;

use std::borrow::Cow;
use std::time::Duration;

use crate::app::rest::conversations::Call;
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
    /// What asks the store.
    Stored(Stored),
    /// Of the app `support`.
    Support(support::Endpoint),
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
                Err(conversations::not_allowed("GET"))
            });
        }
        if served.login
            && let Some(found) = login::endpoint(method, path)
        {
            return Some(found.map(Endpoint::Login));
        }
        if let Some(found) = Stored::find(method, path, &is_on) {
            return Some(found.map(Endpoint::Stored));
        }
        let found = is_on(App::Support).then(|| support::endpoint(method, path))??;
        Some(found.map(Endpoint::Support))
    }

    /// Whether only who shows an access token is answered.
    pub const fn is_personal(self) -> bool {
        matches!(self, Endpoint::Stored(_) | Endpoint::Support(_))
    }
}

/// An endpoint that asks the store something for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Of the app `conversation`.
    Conversations(conversations::Endpoint),
    /// Of the app `mobile`.
    Mobile(mobile::Endpoint),
}

impl Stored {
    /// The endpoint of a path, if its app is `served`; `None`: it is not one of these.
    pub fn find(method: &str, path: &str, served: &dyn Fn(App) -> bool) -> Option<Result<Stored, RestError>> {
        let conversation = || Some(conversations::endpoint(method, path)?.map(Stored::Conversations));
        let mobile = || Some(mobile::endpoint(method, path)?.map(Stored::Mobile));
        let conversation = served(App::Conversation).then(conversation).flatten();
        conversation.or_else(|| served(App::Mobile).then(mobile).flatten())
    }

    /// What to ask the store.
    ///
    /// # Errors
    /// What the client is to do better.
    pub fn request(&mut self, call: &Call<'_>, parser: &mut Parser) -> Result<StoreRequest, RestError> {
        match self {
            Stored::Conversations(endpoint) => endpoint.request(call, parser),
            Stored::Mobile(endpoint) => endpoint.request(call, parser),
        }
    }

    /// The limit that a 429 is due to.
    pub const fn limit(self) -> LimitKind {
        match self {
            Stored::Conversations(_) => LimitKind::Conversations,
            Stored::Mobile(_) => LimitKind::Messages,
        }
    }

    /// The store was busy: what was counted for the request is given back.
    pub fn not_asked(self, user: &User, settings: &AppSettings) {
        match self {
            Stored::Conversations(endpoint) => endpoint.not_asked(user, settings),
            Stored::Mobile(endpoint) => endpoint.not_asked(user, settings),
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
            Stored::Conversations(endpoint) => endpoint.response(answer, user, settings),
            Stored::Mobile(endpoint) => endpoint.response(answer, user),
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
