//! A small HTTP/1.1 client: enough for the admin port, refused upgrades, the upgrade itself, and polling.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use super::DEADLINE;
use super::ingest::Stream;

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The error code of a JSON error body.
    #[track_caller]
    pub fn code(&self) -> String {
        let body = self.json();
        assert!(!body["error"]["message"].as_str().unwrap().is_empty(), "{body}");
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// A TCP connection with the tests' deadline.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// As [`connect`], with a kernel that takes little, so that a client that does not read is soon stuck.
pub fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
    // Before connecting: it decides the window that is offered.
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends one request and reads the answer.
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut stream = connect(address);
    stream.write_all(&head(method, path, &address.to_string(), headers, body.len())).unwrap();
    stream.write_all(body).unwrap();
    read_response(&mut stream).0
}

/// The bytes of a request head.
pub fn head(method: &str, path: &str, host: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if length > 0 {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads on where a signal has interrupted it, which a read with a deadline does not do by itself.
pub fn read(stream: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Reads one answer; also returns what came after it.
#[track_caller]
pub fn read_response(stream: &mut impl Read) -> (Response, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let count = read(stream, &mut chunk).unwrap();
        assert!(count > 0, "no whole answer: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..count]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: bytes.split_off(end + 4) };
    if status == 101 {
        let rest = std::mem::take(&mut response.body);
        return (response, rest);
    }
    let length: usize = response.header("content-length").map_or(0, |length| length.parse().unwrap());
    while response.body.len() < length {
        let count = read(stream, &mut chunk).unwrap();
        assert!(count > 0, "the body ends early: {response:?}");
        response.body.extend_from_slice(&chunk[..count]);
    }
    let rest = response.body.split_off(length);
    (response, rest)
}

/// A connection for several requests.
pub struct Connection {
    stream: Box<dyn Stream>,
    host: String,
    /// What came behind the last answer.
    rest: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection::over(connect(address), &address.to_string())
    }

    /// Over any stream.
    pub fn over(stream: impl Stream + 'static, host: &str) -> Connection {
        Connection { stream: Box::new(stream), host: host.to_owned(), rest: Vec::new() }
    }

    /// Sends a request; its answer is not waited for.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut bytes = head(method, path, &self.host, headers, body.len());
        bytes.extend_from_slice(body);
        self.raw(&bytes);
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let rest = std::mem::take(&mut self.rest);
        let mut before = rest.as_slice();
        let (response, behind) = read_response(&mut Read::chain(&mut before, &mut self.stream));
        self.rest = [&behind, before].concat();
        response
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send(method, path, headers, body);
        self.response()
    }

    /// Waits for the end of the connection; nothing may come before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert!(self.rest.is_empty(), "{:?}", String::from_utf8_lossy(&self.rest));
        let mut byte = [0];
        match read(&mut self.stream, &mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection goes on: {other:?}"),
        }
    }
}
