//! The requests of the identity provider (`spec/auth.md`, "Issuing tokens"): which endpoint a path is, what a request asks
//! for, and what the answers look like.

use std::borrow::Cow;
use std::time::Duration;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::rest::{RestAnswer, RestError};
use crate::app::wire::Object;
use crate::auth::{AuthError, password};
use crate::close::ErrorCode;
use crate::limits::TOKEN_BYTES;
use crate::proto::json::{Parser, Raw};
use crate::record::TokenFault;
use crate::settings::Secret;

/// Longest address that somebody signs in with, bytes (RFC 5321 §4.5.3.1.3, without the brackets).
pub const EMAIL_BYTES: usize = 254;

/// How long a single-use token may be used, seconds.
pub const CONNECT_SECONDS: u64 = 60;

/// How soon to come back when there is much to do.
const BUSY: Duration = Duration::from_secs(1);

/// An endpoint of the identity provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Signs in with address and password.
    Login,
    /// The same, or with the token of another provider.
    LoginOrExchange,
    /// A new access token for a refresh token.
    Refresh,
    /// A single-use token for an access token.
    WebSocketToken,
}

/// What is asked of the identity provider. Secrets are not printed.
#[derive(Clone, Debug, PartialEq)]
pub enum LoginCall {
    /// Sign in.
    Password {
        /// Who; 1 to [`EMAIL_BYTES`] bytes without control characters.
        email: SmolStr,
        /// 1 to [`password::MOST_BYTES`] bytes.
        password: Secret,
    },
    /// Sign in with the token of another provider.
    Exchange {
        /// That token.
        token: Secret,
    },
    /// A new access token.
    Refresh {
        /// The refresh token.
        token: Secret,
    },
    /// A token for one connection.
    WebSocketToken {
        /// The access token.
        token: Secret,
    },
}

/// What was given out.
#[derive(Clone, Debug, PartialEq)]
pub enum Issued {
    /// At a sign-in or a refresh.
    Tokens {
        /// The access token.
        access: Secret,
        /// The refresh token.
        refresh: Secret,
        /// How long the access token is good, seconds.
        expires_in: u64,
    },
    /// A token for one connection.
    WebSocket {
        /// It.
        token: Secret,
        /// How long it may be used, seconds.
        expires_in: u64,
    },
}

/// Why nothing was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// This server issues no tokens: it is switched off, or no secret is configured.
    Off,
    /// No other provider's tokens are taken.
    NoExchange,
    /// No user has this address and this password, or he is disabled. Which one is not told.
    Wrong,
    /// The access token, or the other provider's, is not good.
    Token(AuthError),
    /// The refresh token is not good.
    Refresh(TokenFault),
    /// Too many failures; how long to wait.
    TooMany(Duration),
    /// Too much waits already, or the server is about to end.
    Busy,
    /// Our fault; the log has the same id.
    Internal {
        /// To be found in the log.
        error_id: Uuid,
    },
}

/// What becomes of a call.
pub type LoginAnswer = Result<Issued, LoginError>;

/// The endpoint of a path without its query. `None`: the path is none of these.
pub fn endpoint(method: &str, path: &str) -> Option<Result<Endpoint, RestError>> {
    let endpoint = match path {
        "/api/auth/login" => Endpoint::Login,
        "/api/v1/auth/login" => Endpoint::LoginOrExchange,
        "/api/v1/auth/refresh" => Endpoint::Refresh,
        "/api/websocket/token" => Endpoint::WebSocketToken,
        _ => return None,
    };
    if method == "POST" {
        return Some(Ok(endpoint));
    }
    let mut error =
        RestError::new(405, ErrorCode::InvalidMessage, "this endpoint takes POST only: send POST");
    error.allow = Some("POST");
    Some(Err(error))
}

impl Endpoint {
    /// What a request asks for. `bearer` is the token of `Authorization`.
    ///
    /// # Errors
    /// The request is not as it should be.
    pub fn call(
        self,
        content_type: Option<&str>,
        bearer: Option<&str>,
        body: &[u8],
        parser: &mut Parser,
    ) -> Result<LoginCall, RestError> {
        match self {
            Endpoint::Login => sign_in(read_body(content_type, body, parser)?, false),
            Endpoint::LoginOrExchange => sign_in(read_body(content_type, body, parser)?, true),
            Endpoint::Refresh => Ok(LoginCall::Refresh { token: bearer_token(bearer, "refresh token")? }),
            Endpoint::WebSocketToken => {
                Ok(LoginCall::WebSocketToken { token: bearer_token(bearer, "access token")? })
            }
        }
    }
}

fn bearer_token(bearer: Option<&str>, what: &str) -> Result<Secret, RestError> {
    match bearer {
        Some(token) if !token.is_empty() => Ok(Secret::new(token)),
        _ => Err(RestError::new(
            401,
            ErrorCode::AuthRequired,
            format!("no token was sent: send Authorization: Bearer and the {what}"),
        )),
    }
}

fn read_body<'a>(
    content_type: Option<&str>,
    body: &'a [u8],
    parser: &mut Parser,
) -> Result<Raw<'a>, RestError> {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON: send Content-Type: application/json";
        return Err(RestError::new(415, ErrorCode::InvalidMessage, message));
    }
    // Where it goes wrong is not told: it would show a piece of a password.
    let value = parser
        .parse(body)
        .map_err(|error| RestError::new(400, ErrorCode::InvalidMessage, error.to_string()))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(RestError::new(400, ErrorCode::InvalidMessage, "the body must be a JSON object"))
    }
}

fn sign_in(body: Raw<'_>, may_exchange: bool) -> Result<LoginCall, RestError> {
    if may_exchange && body.get("privyToken").is_some_and(|token| !token.is_null()) {
        let token = text(body, "privyToken", TOKEN_BYTES)?;
        return Ok(LoginCall::Exchange { token: Secret::new(token) });
    }
    let email = text(body, "email", EMAIL_BYTES)?;
    if email.trim().is_empty() || email.chars().any(char::is_control) {
        return Err(invalid("email", "must be an address"));
    }
    let password = text(body, "password", password::MOST_BYTES)?;
    Ok(LoginCall::Password { email: SmolStr::from(email.trim()), password: Secret::new(password) })
}

/// A member that is a text of 1 to `most` bytes.
fn text(body: Raw<'_>, field: &'static str, most: usize) -> Result<String, RestError> {
    let value = body.get(field).ok_or_else(|| invalid(field, "is missing: send a string"))?;
    let text = value.as_str().ok_or_else(|| invalid(field, "must be a string"))?;
    match text.len() {
        0 => Err(invalid(field, "must not be empty")),
        length if length > most => Err(invalid(field, format!("must have at most {most} bytes"))),
        _ => Ok(text.into_owned()),
    }
}

fn invalid(field: &'static str, error: impl Into<Cow<'static, str>>) -> RestError {
    let error = error.into();
    RestError::new(400, ErrorCode::ValidationError, format!("{field} {error}")).field(field, error)
}

/// The answer over HTTP.
///
/// # Errors
/// The answer is an error.
pub fn response(answer: &LoginAnswer) -> Result<RestAnswer, RestError> {
    let issued = answer.as_ref().map_err(|error| error.to_rest())?;
    let mut body = Vec::with_capacity(1_024);
    Object::write(&mut body, |object| match issued {
        Issued::Tokens { access, refresh, expires_in } => {
            // Both spellings: the source documents use both.
            object
                .put("access_token", access.expose())
                .put("token_type", "bearer")
                .put("accessToken", access.expose())
                .put("refreshToken", refresh.expose())
                .put("expiresIn", expires_in);
        }
        Issued::WebSocket { token, expires_in } => {
            object.put("token", token.expose()).put("expiresIn", expires_in);
        }
    });
    Ok(RestAnswer { status: 200, body })
}

impl LoginError {
    /// The error over HTTP.
    pub fn to_rest(self) -> RestError {
        let unauthorized = |message: String| RestError::new(401, ErrorCode::Unauthorized, message);
        match self {
            LoginError::Off => RestError::new(
                404,
                ErrorCode::NotFound,
                "this server issues no tokens: sign in where its tokens come from",
            ),
            LoginError::NoExchange => {
                invalid("privyToken", "is not taken by this server: sign in with email and password")
            }
            LoginError::Wrong => unauthorized("the address or the password is wrong: check both".to_owned()),
            LoginError::Token(error @ AuthError::Expired) => {
                RestError::new(401, ErrorCode::TokenExpired, error.to_string())
            }
            LoginError::Token(error) => unauthorized(error.to_string()),
            LoginError::Refresh(fault @ TokenFault::Expired) => {
                RestError::new(401, ErrorCode::TokenExpired, fault.to_string())
            }
            LoginError::Refresh(fault) => unauthorized(fault.to_string()),
            LoginError::TooMany(wait) => RestError::new(
                429,
                ErrorCode::RateLimited,
                "too many sign-ins have failed: try again later, Retry-After says when",
            )
            .retry_after(wait),
            LoginError::Busy => {
                RestError::new(503, ErrorCode::RateLimited, "the server is busy: try again in a moment")
                    .retry_after(BUSY)
            }
            LoginError::Internal { error_id } => RestError::new(
                500,
                ErrorCode::InternalError,
                format!("the server failed: try again; its log says more beside the id {error_id}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    fn call(endpoint: Endpoint, content_type: Option<&str>, body: &str) -> Result<LoginCall, RestError> {
        endpoint.call(content_type, None, body.as_bytes(), &mut Parser::new(64))
    }

    /// The status, and the field that is named.
    fn refused(endpoint: Endpoint, body: &str) -> (u16, String) {
        let error = call(endpoint, JSON, body).expect_err(body);
        (error.status, error.details.map(|(field, _)| field.into_owned()).unwrap_or_default())
    }

    fn body_of(answer: &LoginAnswer) -> String {
        let body = match response(answer) {
            Ok(answer) => answer.body,
            Err(error) => {
                let mut body = Vec::new();
                error.write_body(&mut body);
                body
            }
        };
        String::from_utf8(body).expect("UTF-8")
    }

    #[test]
    fn paths_and_methods() {
        let found = |path| endpoint("POST", path).expect("a path of ours").expect("the right method");
        assert_eq!(found("/api/auth/login"), Endpoint::Login);
        assert_eq!(found("/api/v1/auth/login"), Endpoint::LoginOrExchange);
        assert_eq!(found("/api/v1/auth/refresh"), Endpoint::Refresh);
        assert_eq!(found("/api/websocket/token"), Endpoint::WebSocketToken);
        for other in ["/", "/api/auth/refresh", "/api/v1/auth/login/", "/api/v1/chat/sessions"] {
            assert_eq!(endpoint("POST", other), None, "{other}");
        }
        let error = endpoint("GET", "/api/auth/login").expect("ours").expect_err("only POST");
        assert_eq!((error.status, error.allow), (405, Some("POST")));
    }

    #[test]
    fn a_sign_in_has_address_and_password() {
        let body = r#"{"email":" ann@example.com ","password":" p\u00e4ss "}"#;
        let expected =
            LoginCall::Password { email: "ann@example.com".into(), password: Secret::new(" p\u{e4}ss ") };
        assert_eq!(call(Endpoint::Login, JSON, body), Ok(expected.clone()));
        assert_eq!(call(Endpoint::LoginOrExchange, Some("Application/JSON"), body), Ok(expected.clone()));
        assert!(!format!("{expected:?}").contains("p\u{e4}ss"));
    }

    #[test]
    fn the_token_of_another_provider_is_for_one_of_the_two_paths() {
        let body = r#"{"privyToken":"a.b.c"}"#;
        let expected = LoginCall::Exchange { token: Secret::new("a.b.c") };
        assert_eq!(call(Endpoint::LoginOrExchange, JSON, body), Ok(expected));
        assert_eq!(refused(Endpoint::Login, body), (400, "email".into()));
        assert_eq!(refused(Endpoint::LoginOrExchange, r#"{"privyToken":1}"#), (400, "privyToken".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "a".repeat(1_025);
        for (body, field) in [
            (r#"{"password":"x"}"#, "email"),
            (r#"{"email":null,"password":"x"}"#, "email"),
            (r#"{"email":"  ","password":"x"}"#, "email"),
            (r#"{"email":"a\u0000b","password":"x"}"#, "email"),
            (r#"{"email":"a@b"}"#, "password"),
            (r#"{"email":"a@b","password":""}"#, "password"),
            (&format!(r#"{{"email":"a@b","password":"{long}"}}"#), "password"),
            (&format!(r#"{{"email":"{long}","password":"x"}}"#), "email"),
            ("[]", ""),
            ("{", ""),
            ("", ""),
        ] {
            assert_eq!(refused(Endpoint::Login, body), (400, field.to_owned()), "{body}");
        }
        for wrong in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let error = call(Endpoint::Login, wrong, "{}").expect_err("not JSON");
            assert_eq!(error.status, 415, "{wrong:?}");
        }
    }

    #[test]
    fn the_other_two_have_a_token_and_need_no_body() {
        let parser = &mut Parser::new(64);
        let token = Secret::new("abc");
        let refresh = Endpoint::Refresh.call(None, Some("abc"), b"", parser);
        assert_eq!(refresh, Ok(LoginCall::Refresh { token: token.clone() }));
        let websocket = Endpoint::WebSocketToken.call(None, Some("abc"), b"", parser);
        assert_eq!(websocket, Ok(LoginCall::WebSocketToken { token }));
        for missing in [None, Some("")] {
            let error = Endpoint::Refresh.call(None, missing, b"", parser).expect_err("no token");
            assert_eq!((error.status, error.code), (401, ErrorCode::AuthRequired));
        }
    }

    #[test]
    fn tokens_are_told_in_both_spellings() {
        let (access, refresh) = (Secret::new("a.b.c"), Secret::new("r"));
        assert_eq!(
            body_of(&Ok(Issued::Tokens { access, refresh, expires_in: 900 })),
            r#"{"access_token":"a.b.c","token_type":"bearer","accessToken":"a.b.c","refreshToken":"r","expiresIn":900}"#
        );
        assert_eq!(
            body_of(&Ok(Issued::WebSocket { token: Secret::new("a.b.c"), expires_in: 60 })),
            r#"{"token":"a.b.c","expiresIn":60}"#
        );
    }

    #[test]
    fn errors_have_their_status_and_say_when_to_come_back() {
        let wait = Duration::from_secs(12);
        let error_id = Uuid::nil();
        for (error, status, code) in [
            (LoginError::Off, 404, "NOT_FOUND"),
            (LoginError::NoExchange, 400, "VALIDATION_ERROR"),
            (LoginError::Wrong, 401, "UNAUTHORIZED"),
            (LoginError::Token(AuthError::Expired), 401, "TOKEN_EXPIRED"),
            (LoginError::Token(AuthError::Invalid("x")), 401, "UNAUTHORIZED"),
            (LoginError::Refresh(TokenFault::Expired), 401, "TOKEN_EXPIRED"),
            (LoginError::Refresh(TokenFault::Reused), 401, "UNAUTHORIZED"),
            (LoginError::TooMany(wait), 429, "RATE_LIMITED"),
            (LoginError::Busy, 503, "RATE_LIMITED"),
            (LoginError::Internal { error_id }, 500, "INTERNAL_ERROR"),
        ] {
            let rest = error.to_rest();
            assert_eq!((rest.status, rest.code.as_str()), (status, code), "{error:?}");
            assert_eq!(rest.retry_after.is_some(), matches!(status, 429 | 503), "{error:?}");
            assert!(body_of(&Err(error)).starts_with(r#"{"error":{"code":""#));
        }
        assert_eq!(LoginError::TooMany(wait).to_rest().retry_after, Some(wait));
    }
}
