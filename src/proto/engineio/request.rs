//! What an Engine.IO request asks for, and the bodies that refuse one.

use std::borrow::Cow;
use std::fmt;

use super::VERSION;
use crate::proto::http::{Request, percent_decode};
use crate::proto::json::write_str;
use crate::proto::upgrade::wants_upgrade;

/// Why a request is refused; the values are the codes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RequestError {
    /// `transport` is neither `polling` nor `websocket`.
    UnknownTransport = 0,
    /// `sid` names no session.
    UnknownSid = 1,
    /// A session is opened with GET.
    BadHandshakeMethod = 2,
    /// The transport is not the session's, a WebSocket without an upgrade, or an upgrade of polling.
    BadRequest = 3,
    /// The server does not want it.
    Forbidden = 4,
    /// `EIO` is not [`VERSION`].
    UnsupportedProtocolVersion = 5,
}

impl RequestError {
    /// The code in the body.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            RequestError::Forbidden => 403,
            _ => 400,
        }
    }

    /// The reference's words.
    pub const fn message(self) -> &'static str {
        match self {
            RequestError::UnknownTransport => "Transport unknown",
            RequestError::UnknownSid => "Session ID unknown",
            RequestError::BadHandshakeMethod => "Bad handshake method",
            RequestError::BadRequest => "Bad request",
            RequestError::Forbidden => "Forbidden",
            RequestError::UnsupportedProtocolVersion => "Unsupported protocol version",
        }
    }

    /// Appends the body of the answer, which is `application/json`. The message is [`RequestError::message`], or the
    /// reason that a server which forbids a request wants to give.
    pub fn write_body(self, out: &mut Vec<u8>, message: &str) {
        out.extend_from_slice(b"{\"code\":");
        out.push(b'0' + self.code());
        out.extend_from_slice(b",\"message\":");
        write_str(out, message);
        out.push(b'}');
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for RequestError {}

/// A transport as a query names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportName {
    /// HTTP requests that wait, and others that bring packets.
    Polling,
    /// A WebSocket.
    WebSocket,
}

impl TransportName {
    /// The name in the query.
    pub const fn name(self) -> &'static str {
        match self {
            TransportName::Polling => "polling",
            TransportName::WebSocket => "websocket",
        }
    }

    /// The transport of that name, if there is one.
    pub fn from_name(name: &str) -> Option<TransportName> {
        [TransportName::Polling, TransportName::WebSocket].into_iter().find(|one| one.name() == name)
    }
}

/// A request to the Engine.IO path. Without a `sid` it opens a session, and it may be answered with the greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The transport it is meant for.
    pub transport: TransportName,
    /// The session it belongs to; an empty one counts as none.
    pub sid: Option<Cow<'a, str>>,
    /// Whether it asks to become a WebSocket.
    pub is_upgrade: bool,
}

impl<'a> Query<'a> {
    /// Reads the query and makes the checks that need no session. Of a parameter that stands there more than once,
    /// the last counts, as in the reference. The checks, in the reference's order:
    ///
    /// 1. `transport` is `polling` or `websocket`, else [`RequestError::UnknownTransport`].
    /// 2. The reference looks for control characters in `Origin`, which
    ///    [`parse_request`](crate::proto::http::parse_request) refuses.
    /// 3. With a `sid`, the session is known and its transport fits: the caller's, with [`Query::fits`].
    /// 4. Without one, the method is GET, else [`RequestError::BadHandshakeMethod`].
    /// 5. Without one, `websocket` asks for an upgrade, else [`RequestError::BadRequest`].
    /// 6. Whoever may forbid a request does so here, with [`RequestError::Forbidden`]: the caller's, afterwards.
    /// 7. An upgrade is for `websocket`, else [`RequestError::BadRequest`]. (The reference switches protocols first
    ///    and closes at once.)
    /// 8. Without a `sid`, `EIO` is 4, else [`RequestError::UnsupportedProtocolVersion`]. Later requests may leave
    ///    it out.
    ///
    /// What a browser asks before it sends a request (CORS, method OPTIONS) is to be answered before all this.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn of(request: &Request<'a>) -> Result<Query<'a>, RequestError> {
        let transport = parameter(request, "transport")
            .and_then(|name| TransportName::from_name(&name))
            .ok_or(RequestError::UnknownTransport)?;
        let sid = parameter(request, "sid").filter(|sid| !sid.is_empty());
        let is_upgrade = wants_upgrade(request);
        let opens = sid.is_none();
        if opens && request.method != "GET" {
            return Err(RequestError::BadHandshakeMethod);
        }
        if opens && transport == TransportName::WebSocket && !is_upgrade {
            return Err(RequestError::BadRequest);
        }
        if transport == TransportName::Polling && is_upgrade {
            return Err(RequestError::BadRequest);
        }
        if opens && parameter(request, "EIO").as_deref() != Some(VERSION) {
            return Err(RequestError::UnsupportedProtocolVersion);
        }
        Ok(Query { transport, sid, is_upgrade })
    }

    /// Whether it fits a session whose transport is `current`: an upgrade may bring another one, nothing else may.
    /// (The reference never answers a plain request to a session whose transport is a WebSocket.)
    ///
    /// # Errors
    /// [`RequestError::BadRequest`].
    pub fn fits(&self, current: TransportName) -> Result<(), RequestError> {
        let is_poll = self.transport == TransportName::Polling && current == TransportName::Polling;
        if self.is_upgrade || is_poll { Ok(()) } else { Err(RequestError::BadRequest) }
    }
}

/// The last parameter of that name, decoded.
fn parameter<'a>(request: &Request<'a>, name: &str) -> Option<Cow<'a, str>> {
    request.query.rsplit('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(key) == name).then(|| form_decode(value))
    })
}

/// Decodes a part of a query, where `+` is a space.
fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return percent_decode(text);
    }
    Cow::Owned(percent_decode(&text.replace('+', " ")).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::http::parse_request;

    fn query(request_line: &str, headers: &str) -> Result<Query<'static>, RequestError> {
        let head = format!("{request_line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let (request, _) = parse_request(head.as_bytes(), 1024).expect("well-formed").expect("complete");
        let Query { transport, sid, is_upgrade } = Query::of(&request)?;
        Ok(Query { transport, sid: sid.map(|sid| Cow::Owned(sid.into_owned())), is_upgrade })
    }

    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

    #[test]
    fn the_first_check_that_fails_is_told() {
        use RequestError::*;
        let cases = [
            ("POST /?EIO=3&transport=x", "", UnknownTransport),
            ("POST /?EIO=3&transport=websocket", "", BadHandshakeMethod),
            ("GET /?EIO=3&transport=websocket", "", BadRequest),
            ("GET /?EIO=3&transport=polling", UPGRADE, BadRequest),
            ("GET /?EIO=3&transport=websocket", UPGRADE, UnsupportedProtocolVersion),
            ("GET /?EIO=3&transport=polling&sid=", "", UnsupportedProtocolVersion),
        ];
        for (line, headers, error) in cases {
            assert_eq!(query(line, headers), Err(error), "{line}");
        }
    }

    #[test]
    fn only_an_upgrade_may_change_the_transport() {
        use TransportName::*;
        let polls = query("POST /?transport=polling&sid=a", "").expect("good");
        assert_eq!((polls.fits(Polling), polls.fits(WebSocket)), (Ok(()), Err(RequestError::BadRequest)));
        let upgrades = query("GET /?transport=websocket&sid=a", UPGRADE).expect("good");
        assert_eq!((upgrades.fits(Polling), upgrades.fits(WebSocket)), (Ok(()), Ok(())));
        let stray = query("GET /?transport=websocket&sid=a", "").expect("good");
        for current in [Polling, WebSocket] {
            assert_eq!(stray.fits(current), Err(RequestError::BadRequest));
        }
    }

    proptest! {
        #[test]
        fn any_query_is_judged(parts in proptest::collection::vec(proptest::sample::select(vec![
            "EIO", "=", "4", "&", "transport", "polling", "websocket", "sid", "%", "%3D", "%zz", "+", "a",
            "transport=polling", "EIO=4", "&sid=b",
        ]), 0..12)) {
            let line = format!("GET /?{}", parts.concat());
            for headers in ["", UPGRADE] {
                if let Ok(query) = query(&line, headers) {
                    prop_assert_eq!(query.is_upgrade, !headers.is_empty());
                    match query.transport {
                        TransportName::Polling => prop_assert!(!query.is_upgrade),
                        TransportName::WebSocket => prop_assert!(query.is_upgrade || query.sid.is_some()),
                    }
                    prop_assert!(query.sid != Some("".into()));
                }
            }
        }
    }
}
