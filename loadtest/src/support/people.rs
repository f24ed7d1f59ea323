//! Who takes part in which session, and the sessions themselves, made over
//! HTTP before anybody is connected.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::client::token::sign;
use crate::compare::settings::SECRET;
use crate::durable::server::{Server, connect};
use crate::failure::{Context, Failure};

const BASE: &str = "/api/v1/chat";
/// Longest answer, bytes: more than that of `ws-stats` with 10,000 sessions.
const ANSWER: usize = 4 * 1024 * 1024;

/// Connection `c` is participant `c % each` of session `c / each`: first the
/// user who made it, then agents.
#[derive(Clone, Copy, Debug)]
pub struct People {
    pub sessions: usize,
    pub each: usize,
}

impl People {
    pub fn connections(&self) -> usize {
        self.sessions * self.each
    }

    fn name(&self, connection: usize) -> String {
        let (session, place) = (connection / self.each, connection % self.each);
        if place == 0 { format!("user-{session}") } else { format!("agent-{session}-{place}") }
    }

    /// The token of a connection.
    pub fn token(&self, connection: usize) -> Result<String, Failure> {
        let roles: &[&str] = if connection.is_multiple_of(self.each) { &[] } else { &["agent"] };
        sign(SECRET, &self.name(connection), roles)
    }

    /// Makes the sessions; returns their ids.
    pub fn make_sessions(&self, server: &Server) -> Result<Vec<String>, Failure> {
        let mut http = Http::open(server)?;
        let mut ids = Vec::with_capacity(self.sessions);
        // One after the other: each is answered when it is on the disk.
        for session in 0..self.sessions {
            let first = session * self.each;
            let agent = (self.each > 1).then(|| self.name(first + 1));
            let body = json!({ "title": "Support Chat", "assigned_agent_id": agent });
            let made = http.ask("POST", "/sessions", &self.token(first)?, &body.to_string())?;
            match made["id"].as_str() {
                Some(id) => ids.push(id.to_owned()),
                None => return Err(Failure::new(format!("no session was made: {made}"))),
            }
        }
        Ok(ids)
    }

    /// Whether the server counts all connections and sessions as connected.
    pub fn are_counted(&self, server: &Server) -> Result<bool, Failure> {
        let stats = Http::open(server)?.ask("GET", "/ws-stats", &self.token(0)?, "")?;
        let count = |name: &str| stats[name].as_u64();
        let all = (Some(self.connections() as u64), Some(self.sessions as u64));
        Ok((count("total_connections"), count("total_sessions")) == all)
    }
}

/// Where a connection to a session goes.
pub fn path(session: &str) -> String {
    format!("{BASE}/ws/{session}")
}

/// One HTTP connection for all requests.
struct Http {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
    host: String,
}

impl Http {
    fn open(server: &Server) -> Result<Self, Failure> {
        let address = server.running().ports.listen;
        let place = || format!("HTTP connection to {address}");
        let stream = connect(address).context(place)?;
        let answers = BufReader::new(stream.try_clone().context(place)?);
        Ok(Self { stream, answers, host: address.to_string() })
    }

    /// The body of the answer, which is JSON.
    fn ask(&mut self, method: &str, path: &str, token: &str, body: &str) -> Result<Value, Failure> {
        let place = || format!("{method} {BASE}{path}");
        let request = format!(
            "{method} {BASE}{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).context(place)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).context(place)? == 0 {
                return Err(Failure::new(format!("{}: the server closed the connection", place())));
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse::<usize>().context(place)?.min(ANSWER);
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.answers.read_exact(&mut body).context(place)?;
        serde_json::from_slice(&body).context(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_somebody_else() {
        let people = People { sessions: 4, each: 3 };
        let names: std::collections::BTreeSet<String> =
            (0..people.connections()).map(|connection| people.name(connection)).collect();
        assert_eq!(names.len(), 12);
        assert_eq!((people.name(3), people.name(5)), ("user-1".to_owned(), "agent-1-2".to_owned()));
    }
}
