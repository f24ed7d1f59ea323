//! From a request to a WebSocket (RFC 6455 §4.2), and the two things a browser's request carries besides:
//! a token and an origin (`spec/auth.md`).
//!
//! Knows what the request says; must not know whether a token is good. The checks are not tungstenite's
//! `create_response`: that wants an `http::Request`, which would copy every field of the head.

use tungstenite::handshake::derive_accept_key;

use super::http::{Request, write_header, write_status};

/// The subprotocol a browser offers when the next one in its list is its token (`spec/auth.md`).
pub const BEARER_PROTOCOL: &str = "fanfare.bearer";

/// A request that may be answered with [`write_switching`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// What the client offers in `Sec-WebSocket-Protocol`, in its order of preference.
    pub protocols: Vec<&'a str>,
}

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeError {
    /// 400, 405 or 426.
    pub status: u16,
    /// What to do about it.
    pub message: &'static str,
}

impl UpgradeError {
    const fn bad(message: &'static str) -> UpgradeError {
        UpgradeError { status: 400, message }
    }

    /// The header fields this status must come with (RFC 9110 §15.5.6 and §15.5.22, RFC 6455 §4.4).
    pub const fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status {
            405 => &[("Allow", "GET")],
            426 => &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        }
    }
}

/// Whether the client asks for a WebSocket at all; [`check`] then says whether it asks rightly.
pub fn wants_upgrade(request: &Request<'_>) -> bool {
    request.lists("upgrade", "websocket")
}

/// Checks everything RFC 6455 §4.2.1 demands of the request. Extensions are not negotiated.
///
/// # Errors
/// The status and the rule it broke.
pub fn check<'a>(request: &Request<'a>) -> Result<Upgrade<'a>, UpgradeError> {
    if request.method != "GET" {
        return Err(UpgradeError { status: 405, message: "a WebSocket is opened with GET" });
    }
    if !wants_upgrade(request) {
        return Err(UpgradeError {
            status: 426,
            message: "this is a WebSocket endpoint; send Upgrade: websocket",
        });
    }
    if request.minor_version == 0 {
        return Err(UpgradeError::bad("a WebSocket needs HTTP/1.1"));
    }
    if !request.lists("connection", "upgrade") {
        return Err(UpgradeError::bad(
            "the header Connection: Upgrade is missing; a proxy may have removed it",
        ));
    }
    match request.header("sec-websocket-version") {
        Some("13") => {}
        None => return Err(UpgradeError::bad("the header Sec-WebSocket-Version: 13 is missing")),
        Some(_) => {
            return Err(UpgradeError { status: 426, message: "only Sec-WebSocket-Version 13 is supported" });
        }
    }
    let mut keys = request.headers("sec-websocket-key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_sixteen_bytes(key) => key,
        _ => return Err(UpgradeError::bad("Sec-WebSocket-Key must be 16 bytes in base64, once")),
    };
    Ok(Upgrade {
        accept: derive_accept_key(key.as_bytes()),
        protocols: request.list("sec-websocket-protocol").collect(),
    })
}

/// Whether `key` is base64 of sixteen bytes; their value does not matter (RFC 6455 §4.2.1).
fn is_sixteen_bytes(key: &str) -> bool {
    key.len() == 24
        && key.strip_suffix("==").is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
        })
}

/// Appends the `101` that ends HTTP on this connection. `protocol` must be one the client offered.
pub fn write_switching(out: &mut Vec<u8>, upgrade: &Upgrade<'_>, protocol: Option<&str>) {
    write_status(out, 101);
    write_header(out, "Upgrade", "websocket");
    write_header(out, "Connection", "Upgrade");
    write_header(out, "Sec-WebSocket-Accept", &upgrade.accept);
    if let Some(protocol) = protocol {
        write_header(out, "Sec-WebSocket-Protocol", protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
pub fn bearer_token<'a>(request: &Request<'a>) -> Option<&'a str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token of `Sec-WebSocket-Protocol: fanfare.bearer, <token>`; the server then selects [`BEARER_PROTOCOL`].
pub fn subprotocol_token<'a>(request: &Request<'a>) -> Option<&'a str> {
    let mut offered = request.list("sec-websocket-protocol");
    offered.find(|protocol| *protocol == BEARER_PROTOCOL)?;
    offered.next()
}

/// Whether a page of this request's `Origin` may use the server (`spec/auth.md`, Browsers).
///
/// Without an `Origin` no browser page is behind the request, and it passes. An empty `allowed` means the same
/// origin: the one the request was sent to, which is `host` where a trusted proxy names it, else the request's
/// own. Otherwise the origin must be listed; `*` lists all.
pub fn origin_allowed(request: &Request<'_>, host: Option<&str>, allowed: &[String]) -> bool {
    let mut origins = request.headers_raw("origin");
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return true,
        (Some(origin), None) => std::str::from_utf8(origin).unwrap_or_default(),
        (Some(_), Some(_)) => return false,
    };
    if !allowed.is_empty() {
        return allowed.iter().any(|one| one == "*" || same(one.trim_end_matches('/'), origin));
    }
    let (Some((scheme, authority)), Some(host)) = (origin.split_once("://"), host.or_else(|| request.host()))
    else {
        return false;
    };
    without_default_port(scheme, authority).eq_ignore_ascii_case(without_default_port(scheme, host))
}

/// Whether two origins are one (RFC 6454 §5): letter case and the scheme's default port do not matter.
fn same(one: &str, other: &str) -> bool {
    match (one.split_once("://"), other.split_once("://")) {
        (Some((scheme, one)), Some((other_scheme, other))) => {
            scheme.eq_ignore_ascii_case(other_scheme)
                && without_default_port(scheme, one).eq_ignore_ascii_case(without_default_port(scheme, other))
        }
        _ => one == other,
    }
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::parse_request;

    #[test]
    fn the_example_of_rfc_6455_is_answered_as_there() {
        let head = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let (request, _) = parse_request(head, 1024).expect("well-formed").expect("complete");
        let upgrade = check(&request).expect("an upgrade");
        let mut out = Vec::new();
        write_switching(&mut out, &upgrade, upgrade.protocols.first().copied());
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_names_what_would_be_accepted() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (request, _) = parse_request(head, 1024).expect("well-formed").expect("complete");
        let refusal = check(&request).expect_err("not an upgrade");
        assert!(refusal.headers().contains(&("Sec-WebSocket-Version", "13")));
    }
}
