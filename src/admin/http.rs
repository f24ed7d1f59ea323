//! The little of HTTP/1.1 (RFC 9112) that the admin port speaks, over a blocking socket: a head, a body of known
//! length, an answer, keep-alive. Every step has a deadline and a bound.
//!
//! Knows nothing of what is asked for.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::proto::http::reason;

/// Largest request head, bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Most header fields; browsers and proxies send about twenty.
const HEADERS: usize = 64;
/// From the first byte of a head to its last.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For a whole body of at most a megabyte: 0.8 Mbit/s is enough.
const BODY_TIME: Duration = Duration::from_secs(10);
/// For a whole answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// After an answer, a client that is still sending gets this long, and so many bytes, to notice: closing earlier
/// would reset the connection and may take the answer with it.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// What the head of a request says, as far as it matters here.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Head {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The value of `Authorization`, as sent.
    pub authorization: Option<Vec<u8>>,
    /// Whether there is an `Origin`: a browser sends one with each POST of a page.
    pub has_origin: bool,
    /// Bytes of body that follow; `None`: in chunks, length unknown.
    pub body: Option<u64>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub keep_alive: bool,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The connection ended or failed; nobody is there to be answered.
    Gone,
    /// To be answered with this, and closed.
    Refused(Answer),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let message = "the request did not arrive in time: send it at once";
                Unreadable::Refused(Answer::error(408, "TIMEOUT", message))
            }
            _ => Unreadable::Gone,
        }
    }
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    content_type: &'static str,
    /// One further field, for the statuses that need one.
    field: Option<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Answer {
        Answer { status, content_type, field: None, body }
    }

    pub fn json(status: u16, value: &impl serde::Serialize) -> Answer {
        // Only maps with odd keys and failing Serialize implementations cannot be written; there are none here.
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        Answer::new(status, "application/json", body)
    }

    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        Answer::json(status, &json!({ "error": { "code": code, "message": message } }))
    }

    pub fn with_field(self, name: &'static str, value: &'static str) -> Answer {
        Answer { field: Some((name, value)), ..self }
    }

    /// The bytes; `with_body` is false for the answer to a HEAD request.
    pub fn encode(&self, keep_alive: bool, with_body: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.body.len());
        let date =
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now());
        let _ = write!(
            out,
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n",
            self.status,
            reason(self.status),
            date.unwrap_or_default(),
            self.content_type,
            self.body.len()
        );
        if let Some((name, value)) = self.field {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        let _ = write!(out, "Connection: {}\r\n\r\n", if keep_alive { "keep-alive" } else { "close" });
        if with_body {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// A client's connection, with the bytes it sent ahead.
pub(super) struct Connection {
    stream: Arc<TcpStream>,
    /// Read and not yet used: at most a head and what came in the same read.
    unread: Vec<u8>,
}

impl Connection {
    pub fn new(stream: Arc<TcpStream>) -> Connection {
        Connection { stream, unread: Vec::new() }
    }

    /// The next request's head. A client that stays silent for `idle` is gone.
    pub fn read_head(&mut self, idle: Duration) -> Result<Head, Unreadable> {
        if self.unread.is_empty() {
            self.fill(Instant::now() + idle).map_err(|_| Unreadable::Gone)?;
        }
        let deadline = Instant::now() + HEAD_TIME;
        loop {
            if let Some((head, length)) = parse(&self.unread).map_err(Unreadable::Refused)? {
                self.unread.drain(..length);
                return Ok(head);
            }
            if self.unread.len() >= HEAD_BYTES {
                let message =
                    format!("the request head is over {HEAD_BYTES} bytes: send fewer header fields");
                return Err(Unreadable::Refused(Answer::error(431, "MESSAGE_TOO_LARGE", &message)));
            }
            self.fill(deadline)?;
        }
    }

    /// A body of `length` bytes, which the caller has found small enough.
    pub fn read_body(&mut self, length: usize, expects_continue: bool) -> Result<Vec<u8>, Unreadable> {
        let deadline = Instant::now() + BODY_TIME;
        if expects_continue && self.unread.len() < length {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n", deadline)?;
        }
        while self.unread.len() < length {
            self.fill(deadline)?;
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    pub fn answer(&self, answer: &Answer, keep_alive: bool, with_body: bool) -> io::Result<()> {
        self.write(&answer.encode(keep_alive, with_body), Instant::now() + ANSWER_TIME)
    }

    /// Ends the connection so that the client can still read the answer.
    pub fn close(mut self) {
        let deadline = Instant::now() + LINGER_TIME;
        let mut discarded = 0;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        while discarded < LINGER_BYTES && self.fill(deadline).is_ok() {
            discarded += self.unread.len();
            self.unread.clear();
        }
    }

    /// Reads once, by `deadline`. The end of the stream is an error.
    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            self.stream.set_read_timeout(Some(time_left(deadline)?))?;
            match (&*self.stream).read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.unread.extend_from_slice(&chunk[..length]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(time_left(deadline)?))?;
            match (&*self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The time left, which a socket option can take: never zero.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

/// The head at the beginning of `bytes` and its length, or `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Answer> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            let message = format!("more than {HEADERS} header fields: send fewer");
            return Err(Answer::error(431, "MESSAGE_TOO_LARGE", &message));
        }
        Err(error) => return Err(malformed(&format!("not an HTTP/1.1 request: {error}"))),
    };
    let path = request.path.unwrap_or_default();
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        keep_alive: request.version == Some(1),
        body: Some(0),
        ..Head::default()
    };
    let mut content_length = None;
    for field in request.headers.iter() {
        let value = field.value.trim_ascii();
        if field.name.eq_ignore_ascii_case("content-length") {
            let number = decimal(value).ok_or_else(|| malformed("Content-Length is not a number"))?;
            if content_length.is_some_and(|before| before != number) {
                return Err(malformed("two different values of Content-Length"));
            }
            content_length = Some(number);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = None;
        } else if field.name.eq_ignore_ascii_case("authorization") {
            head.authorization = Some(value.to_vec());
        } else if field.name.eq_ignore_ascii_case("origin") {
            head.has_origin = true;
        } else if field.name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        } else if field.name.eq_ignore_ascii_case("connection") {
            let close = value
                .split(|byte| *byte == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            head.keep_alive &= !close;
        }
    }
    match (content_length, head.body) {
        // RFC 9112 §6.3: two ways to tell where a body ends are an attempt at request smuggling.
        (Some(_), None) => Err(malformed("both Content-Length and Transfer-Encoding")),
        (Some(number), Some(_)) => Ok(Some((Head { body: Some(number), ..head }, length))),
        (None, _) => Ok(Some((head, length))),
    }
}

fn malformed(message: &str) -> Answer {
    Answer::error(400, "INVALID_MESSAGE", message)
}

/// A number of digits only: no sign, no space.
fn decimal(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, u16> {
        parse(text.as_bytes()).map(|found| found.map(|(head, _)| head)).map_err(|answer| answer.status)
    }

    #[test]
    fn a_head_says_what_matters() {
        let text = "POST /publish?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 7\r\nAuthorization:  Bearer t \r\n\
                    Expect: 100-Continue\r\nConnection: foo, Close\r\n\r\nrest";
        let (head, length) = parse(text.as_bytes()).expect("fine").expect("complete");
        assert_eq!(&text[length..], "rest");
        let expected = Head {
            method: "POST".into(),
            path: "/publish".into(),
            authorization: Some(b"Bearer t".to_vec()),
            has_origin: false,
            body: Some(7),
            expects_continue: true,
            keep_alive: false,
        };
        assert_eq!(head, expected);
    }

    #[test]
    fn doubtful_lengths_are_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length : 1\r\n",
        ] {
            assert_eq!(head(&format!("POST / HTTP/1.1\r\n{fields}\r\n")), Err(400), "{fields}");
        }
        let chunked =
            head("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").expect("fine").expect("whole");
        assert_eq!(chunked.body, None);
    }

    #[test]
    fn incomplete_and_hostile_heads_are_told_apart() {
        let whole = "GET /metrics HTTP/1.0\r\nHost: a\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(head(&whole[..end]), Ok(None), "{end}");
        }
        assert!(!head(whole).expect("fine").expect("whole").keep_alive, "HTTP/1.0");
        assert_eq!(head("\x16\x03\x01\x02\x00"), Err(400), "TLS");
        assert_eq!(head(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65))), Err(431));
    }
}
