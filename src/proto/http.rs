//! HTTP/1.1 request heads in, responses out (RFC 9112).
//!
//! Knows syntax: where a head ends, what its fields say, how long the body is. Must not know routes, tokens'
//! meaning or sockets. Bodies are the caller's: a request tells their length, chunked ones are refused.

use std::borrow::Cow;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Header, Status};

/// Most header fields of one request. Browsers send about twenty, a chain of proxies adds a dozen.
pub const MAX_HEADERS: usize = 64;

/// Framing that a body in chunks may have besides as many bytes as it may have itself.
const FRAMING_BYTES: usize = 4 * 1024;

/// Why a head cannot be served. The connection cannot go on: nobody knows where the next request would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.x, or it breaks a rule that other readers of the same bytes may judge differently.
    Malformed,
    /// More bytes or header fields than allowed.
    TooLarge,
}

impl HeadError {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            HeadError::Malformed => 400,
            HeadError::TooLarge => 431,
        }
    }

    /// What is wrong, for the body of that answer.
    pub const fn message(self) -> &'static str {
        match self {
            HeadError::Malformed => "this is not a well-formed HTTP/1.1 request",
            HeadError::TooLarge => {
                "the request line and header fields are too large; send fewer or shorter ones"
            }
        }
    }
}

/// Why the length of a request's body cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthError {
    /// `Content-Length` is not one number.
    Malformed,
    /// The body has a transfer coding.
    TransferEncoding,
}

impl LengthError {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            LengthError::Malformed => 400,
            LengthError::TransferEncoding => 411,
        }
    }

    /// What to do about it, for the body of that answer.
    pub const fn message(self) -> &'static str {
        match self {
            LengthError::Malformed => "Content-Length must be one decimal number",
            LengthError::TransferEncoding => "Transfer-Encoding is not supported; send Content-Length",
        }
    }
}

/// A request's head. It borrows from the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// As sent; methods are case-sensitive.
    pub method: &'a str,
    /// The target up to `?`, still percent-encoded; it begins with `/`, or is `*` or, for `CONNECT`, an authority.
    pub path: &'a str,
    /// The target after `?`, still encoded; empty when there is none.
    pub query: &'a str,
    /// 0 or 1, as in HTTP/1.x.
    pub minor_version: u8,
    /// The authority of a target in absolute form, which replaces `Host` (RFC 9112 §3.2.2).
    authority: Option<&'a str>,
    headers: [Header<'a>; MAX_HEADERS],
    header_count: usize,
}

/// Reads the head at the front of `buf`: it and its length in bytes, or `None` while it is incomplete.
///
/// # Errors
/// [`HeadError::TooLarge`] when the head is, or can only become, longer than `max_head` bytes, or has more than
/// [`MAX_HEADERS`] fields. [`HeadError::Malformed`] for anything RFC 9112 tells a server to refuse: folded
/// lines, space before a colon, no `Host` or more than one.
pub fn parse_request(buf: &[u8], max_head: usize) -> Result<Option<(Request<'_>, usize)>, HeadError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buf) {
        Ok(Status::Complete(length)) if length <= max_head => length,
        Ok(Status::Partial) if buf.len() < max_head => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    let (Some(method), Some(target), Some(minor_version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed);
    };
    let header_count = parsed.headers.len();
    let (authority, path_and_query) = split_target(method, target)?;
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let path = if path.is_empty() { "/" } else { path };
    let request = Request { method, path, query, minor_version, authority, headers, header_count };
    match request.headers_raw("host").count() {
        0 if minor_version == 0 => {}
        1 => {}
        _ => return Err(HeadError::Malformed),
    }
    Ok(Some((request, length)))
}

/// The four forms of a target (RFC 9112 §3.2): its authority, if it is in absolute form, and the rest without
/// a fragment, which does not belong here but is sent by some clients.
fn split_target<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, &'a str), HeadError> {
    let target = target.split_once('#').map_or(target, |(before, _)| before);
    if target.starts_with('/') || target == "*" || method == "CONNECT" {
        return Ok((None, target));
    }
    let scheme = ["http://", "https://", "ws://", "wss://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(HeadError::Malformed)?;
    let rest = &target[scheme.len()..];
    let (authority, path_and_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() { Err(HeadError::Malformed) } else { Ok((Some(authority), path_and_query)) }
}

impl<'a> Request<'a> {
    /// The first field of that name (case-insensitive), without the space around it; `None` when there is none
    /// or it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers_raw(name).next().and_then(trimmed)
    }

    /// Every field of that name that is UTF-8, in order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers_raw(name).filter_map(trimmed)
    }

    /// The members of all fields of that name, taken as one comma-separated list (RFC 9110 §5.6.1).
    pub fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers(name).flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }

    /// Whether the list of that name has that member, in any case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.list(name).any(|item| item.eq_ignore_ascii_case(member))
    }

    /// The host and port the client asked for: from an absolute target, else from `Host`.
    pub fn host(&self) -> Option<&'a str> {
        self.authority.or_else(|| self.header("host"))
    }

    /// The first parameter of that name in the query, decoded (`+` is a space); `None` when there is none.
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true) == name).then(|| decode(value, true))
        })
    }

    /// How many bytes of body follow the head, if the request says so; without a word there is none.
    ///
    /// # Errors
    /// A length that is not a number, several that differ, or a transfer coding: reading on would mean to guess
    /// where the next request begins (RFC 9112 §6.3).
    pub fn content_length(&self) -> Result<Option<u64>, LengthError> {
        if self.headers_raw("transfer-encoding").next().is_some() {
            return Err(LengthError::TransferEncoding);
        }
        let mut length = None;
        for field in self.headers_raw("content-length") {
            let value = trimmed(field).ok_or(LengthError::Malformed)?;
            for item in value.split(',').map(str::trim) {
                let one = decimal(item).ok_or(LengthError::Malformed)?;
                if length.is_some_and(|before| before != one) {
                    return Err(LengthError::Malformed);
                }
                length = Some(one);
            }
        }
        Ok(length)
    }

    /// Whether the body comes in chunks, and in no other coding besides (RFC 9112 §6.1).
    pub fn is_chunked(&self) -> bool {
        let mut codings = self.list("transfer-encoding");
        let is_chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        // Both lengths at once are how requests are smuggled.
        let is_text = self.headers_raw("transfer-encoding").all(|field| str::from_utf8(field).is_ok());
        is_chunked
            && is_text
            && codings.next().is_none()
            && self.headers_raw("content-length").next().is_none()
    }

    /// Whether another request may follow on the same connection. HTTP/1.0 clients get one answer each.
    pub fn keep_alive(&self) -> bool {
        self.minor_version >= 1 && !self.lists("connection", "close")
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub fn wants_continue(&self) -> bool {
        self.minor_version >= 1 && self.lists("expect", "100-continue")
    }

    /// The fields of that name as they are, UTF-8 or not.
    pub(super) fn headers_raw(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers[..self.header_count]
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }
}

/// A body in chunks (RFC 9112 §7.1), read.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunked {
    /// More is to come.
    Partial,
    /// All of it, and how many bytes it took with its framing.
    Whole(Vec<u8>, usize),
    /// It is more than it may be.
    TooLarge,
    /// It is no such body.
    Malformed,
}

/// Reads a body in chunks from the front of `bytes`, at most `most` bytes of it. Extensions of chunks and fields behind the
/// last one are passed over; the framing may be as long as the body may.
pub fn read_chunked(bytes: &[u8], most: usize) -> Chunked {
    let (mut body, mut at) = (Vec::new(), 0);
    let partial = match bytes.len() > 2 * most + FRAMING_BYTES {
        true => Chunked::TooLarge,
        false => Chunked::Partial,
    };
    loop {
        let (start, length) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) => return partial,
            Err(_) => return Chunked::Malformed,
        };
        at += start;
        let Ok(length) = usize::try_from(length) else { return Chunked::TooLarge };
        if length > most - body.len() {
            return Chunked::TooLarge;
        }
        if length == 0 {
            // Fields, then an empty line.
            let mut rest = &bytes[at..];
            loop {
                let Some(end) = memchr::memmem::find(rest, b"\r\n") else { return partial };
                rest = &rest[end + 2..];
                if end == 0 {
                    return Chunked::Whole(body, bytes.len() - rest.len());
                }
            }
        }
        let Some(chunk) = bytes.get(at..at + length + 2) else { return partial };
        if !chunk.ends_with(b"\r\n") {
            return Chunked::Malformed;
        }
        body.extend_from_slice(&chunk[..length]);
        at += length + 2;
    }
}

/// A time to wait as `Retry-After` says it, in seconds: rounded up, so that who waits that long is let through.
pub fn retry_after(wait: Duration) -> String {
    wait.as_nanos().div_ceil(1_000_000_000).max(1).to_string()
}

/// Appends a response with its body. `Content-Length` is added, except where none may stand (RFC 9110 §8.6).
/// A line break within a header's value becomes a space, so that no value can forge another field.
pub fn write_response(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    write_status(out, status);
    for (name, value) in headers {
        write_header(out, name, value);
    }
    let bodiless = status < 200 || status == 204 || status == 304;
    if !bodiless {
        write_header(out, "Content-Length", &body.len().to_string());
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless {
        out.extend_from_slice(body);
    }
}

/// Appends a status line.
pub(super) fn write_status(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a header field.
pub(super) fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// Decodes `%XX` (RFC 3986 §2.1), as a path needs it: `+` stays. A `%` without two hexadecimal digits stands
/// for itself; bytes that are not UTF-8 become U+FFFD.
pub fn percent_decode(text: &str) -> Cow<'_, str> {
    decode(text, false)
}

fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (b'+', _) if plus_is_space => b' ',
            _ => first,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Digits only: `u64::from_str` would also take a sign.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn trimmed(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.trim_ascii()).ok()
}

/// The phrases of RFC 9110 §15 and RFC 6585 for the statuses this server gives; phrases are optional.
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> String {
        let mut out = Vec::new();
        write_response(&mut out, status, headers, body);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_response_tells_the_length_of_its_body() {
        assert_eq!(
            response(429, &[("Retry-After", "6")], b"slow down"),
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 6\r\nContent-Length: 9\r\n\r\nslow down"
        );
        assert_eq!(response(404, &[], b""), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(response(100, &[], b""), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(response(204, &[], b"left out"), "HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn a_value_cannot_forge_a_field() {
        assert_eq!(
            response(304, &[("Location", "/a\r\nSet-Cookie: b")], b""),
            "HTTP/1.1 304 Not Modified\r\nLocation: /a  Set-Cookie: b\r\n\r\n"
        );
    }

    #[test]
    fn a_body_in_chunks_is_put_together() {
        let text = b"4\r\nab\r\n\r\n3;name=value\r\ncde\r\n0\r\nField: x\r\n\r\nGET /";
        let whole = text.len() - b"GET /".len();
        assert_eq!(read_chunked(text, 10), Chunked::Whole(b"ab\r\ncde".to_vec(), whole));
        for end in 0..whole {
            assert_eq!(read_chunked(&text[..end], 10), Chunked::Partial, "{end}");
        }
        assert_eq!(read_chunked(text, 6), Chunked::TooLarge);
        for wrong in ["x\r\n", "2\r\nabc\r\n", "-1\r\n"] {
            assert_eq!(read_chunked(wrong.as_bytes(), 10), Chunked::Malformed, "{wrong}");
        }
        assert_eq!(read_chunked(b"ffffffffffffffff\r\n", 10), Chunked::TooLarge);
    }

    #[test]
    fn what_is_not_encoded_is_borrowed() {
        assert!(matches!(percent_decode("/a+b"), Cow::Borrowed("/a+b")));
        assert_eq!(percent_decode("%E2%82%AC%"), "€%");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z%+&=#?/:]{0,40}") {
            let _ = parse_request(&bytes, 100);
            let head = format!("GET /{text} HTTP/1.1\r\nHost: a\r\n\r\n");
            let (request, length) = parse_request(head.as_bytes(), 200).expect("well-formed").expect("complete");
            prop_assert_eq!(length, head.len());
            prop_assert!(!request.query.contains('#') && request.path.starts_with('/'));
            let _ = request.query_param("a");
        }
    }
}
