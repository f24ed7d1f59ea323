//! Who may ask what on the admin port, and the answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use subtle::ConstantTimeEq;

use super::http::{Answer, Connection, Head, Unreadable};
use super::stats::Stats;
use super::{PUBLISH_BYTES, PublishError, Published, Shared};
use crate::metrics::{ShardMetrics, expose};
use crate::time::{Now, monotonic};

/// How long a connection may stay silent between requests. Scrapers come back every 15 to 60 s.
const IDLE: Duration = Duration::from_secs(60);
/// How long the first request of a connection may take to begin.
const FIRST: Duration = Duration::from_secs(5);
/// Each shard must have finished a turn within this (`spec/operations.md`); idle ones turn once a second.
const STALLED_NS: u64 = 5_000_000_000;

/// Answers the requests of one connection. It is kept for another request while no more than `roomy` connections
/// are open, so that idle ones cannot keep a health check out.
pub(super) fn serve(shared: &Shared, mut connection: Connection, peer: SocketAddr, roomy: usize) {
    let mut idle = FIRST;
    loop {
        let head = match connection.read_head(idle) {
            Ok(head) => head,
            Err(unreadable) => return give_up(connection, unreadable),
        };
        let (answer, whole) = match respond(shared, &mut connection, &head, peer) {
            Ok(answered) => answered,
            Err(unreadable) => return give_up(connection, unreadable),
        };
        let keep_alive = head.keep_alive
            && whole
            && shared.open.load(Ordering::Acquire) <= roomy
            && !shared.stopping.load(Ordering::Acquire);
        if connection.answer(&answer, keep_alive, head.method != "HEAD").is_err() {
            return;
        }
        if !keep_alive {
            return connection.close();
        }
        idle = IDLE;
    }
}

fn give_up(connection: Connection, unreadable: Unreadable) {
    if let Unreadable::Refused(answer) = unreadable
        && connection.answer(&answer, false, true).is_ok()
    {
        connection.close();
    }
}

/// What there is on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Metrics,
    Health,
    Ready,
    Stats,
    Publish,
    Drain,
}

impl Endpoint {
    fn at(path: &str) -> Option<Endpoint> {
        Some(match path {
            "/metrics" => Endpoint::Metrics,
            "/healthz" => Endpoint::Health,
            "/readyz" => Endpoint::Ready,
            "/stats" => Endpoint::Stats,
            "/publish" => Endpoint::Publish,
            "/drain" => Endpoint::Drain,
            _ => return None,
        })
    }

    /// Whether it does something, so that it takes POST; the others take GET and HEAD.
    fn acts(self) -> bool {
        matches!(self, Endpoint::Publish | Endpoint::Drain)
    }

    /// Whether it needs no token: load balancers have none, and the answers say nothing but yes or no.
    fn open(self) -> bool {
        matches!(self, Endpoint::Health | Endpoint::Ready)
    }
}

/// Checks everything that can be told from the head, before a body is read.
fn admit(token: &str, head: &Head) -> Result<Endpoint, Answer> {
    let Some(endpoint) = Endpoint::at(&head.path) else {
        let message = "no such path: there are /metrics, /healthz, /readyz, /stats, /publish and /drain";
        return Err(Answer::error(404, "NOT_FOUND", message));
    };
    let (fits, allowed) = match endpoint.acts() {
        true => (head.method == "POST", "POST"),
        false => (head.method == "GET" || head.method == "HEAD", "GET, HEAD"),
    };
    if !fits {
        let message = format!("{} takes {allowed}", head.path);
        return Err(Answer::error(405, "METHOD_NOT_ALLOWED", &message).with_field("Allow", allowed));
    }
    if !endpoint.open() && !authorized(token, head.authorization.as_deref()) {
        let message = "send the admin token: Authorization: Bearer TOKEN";
        return Err(Answer::error(401, "AUTH_REQUIRED", message).with_field("WWW-Authenticate", "Bearer"));
    }
    if endpoint.acts() && head.has_origin {
        // Any page in the browser of somebody who can reach this port could post here without being asked;
        // backends send no Origin.
        let message = "web pages may not post to the admin port: send no Origin";
        return Err(Answer::error(403, "ACCESS_DENIED", message));
    }
    Ok(endpoint)
}

/// Compares in constant time, so that an attacker cannot find the token byte by byte; its length may show.
fn authorized(token: &str, authorization: Option<&[u8]>) -> bool {
    if token.is_empty() {
        return true;
    }
    let Some((scheme, given)) = authorization.and_then(|value| value.split_at_checked("Bearer ".len()))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.trim_ascii().ct_eq(token.as_bytes()))
}

/// The answer, and whether the whole request was read, so that another may follow.
fn respond(
    shared: &Shared,
    connection: &mut Connection,
    head: &Head,
    peer: SocketAddr,
) -> Result<(Answer, bool), Unreadable> {
    let no_body = head.body == Some(0);
    let endpoint = match admit(&shared.settings.token, head) {
        Ok(endpoint) => endpoint,
        Err(refusal) => return Ok((refusal, no_body)),
    };
    let answer = match endpoint {
        Endpoint::Metrics => metrics(shared),
        Endpoint::Health => health(shared.control.shards(), monotonic()),
        Endpoint::Ready => ready(shared),
        Endpoint::Stats => stats(shared),
        Endpoint::Drain => {
            tracing::info!(%peer, "drain requested on the admin port");
            shared.control.drain();
            Answer::json(202, &json!({ "draining": true }))
        }
        Endpoint::Publish => {
            let length = match publish_length(head) {
                Ok(length) => length,
                Err(refusal) => return Ok((refusal, false)),
            };
            let body = connection.read_body(length, head.expects_continue)?;
            return Ok((publish(shared, body), true));
        }
    };
    Ok((answer, no_body))
}

fn metrics(shared: &Shared) -> Answer {
    let latencies = shared.collect();
    let mut text = expose::expose(shared.control.shards(), shared.control.router(), &latencies);
    if let Some((store, queue_length)) = shared.control.store() {
        text.push_str(&expose::expose_store(store, queue_length, &latencies));
    }
    Answer::new(200, expose::CONTENT_TYPE, text.into_bytes())
}

/// Whether every shard turns. `now`: monotonic nanoseconds.
pub(super) fn health(shards: &[Arc<ShardMetrics>], now: u64) -> Answer {
    let silences = shards.iter().map(|shard| now.saturating_sub(shard.last_turn.get()));
    let stalled: Vec<String> = silences
        .enumerate()
        .filter(|(_, silence)| *silence > STALLED_NS)
        .map(|(shard, silence)| {
            format!("shard {shard} has not finished a turn for {:.1} s", silence as f64 / 1e9)
        })
        .collect();
    if stalled.is_empty() {
        Answer::json(200, &json!({ "healthy": true }))
    } else {
        Answer::error(503, "SHARD_STALLED", &stalled.join(", "))
    }
}

fn ready(shared: &Shared) -> Answer {
    if shared.control.draining() {
        Answer::error(503, "DRAINING", "the broker is shutting down and takes no new clients")
    } else {
        Answer::json(200, &json!({ "ready": true }))
    }
}

fn stats(shared: &Shared) -> Answer {
    let rates = shared.rates.lock().rates();
    Answer::json(200, &Stats::gather(&*shared.control, shared.started, Now::read(), rates))
}

/// How long the body of a publish is, if it may be read.
fn publish_length(head: &Head) -> Result<usize, Answer> {
    let Some(length) = head.body else {
        let message = "send Content-Length: bodies in chunks are not taken";
        return Err(Answer::error(411, "INVALID_MESSAGE", message));
    };
    match usize::try_from(length) {
        Ok(length) if length <= PUBLISH_BYTES => Ok(length),
        _ => {
            let message = format!("the body is over {PUBLISH_BYTES} bytes: send it in parts");
            Err(Answer::error(413, "MESSAGE_TOO_LARGE", &message))
        }
    }
}

fn publish(shared: &Shared, body: Vec<u8>) -> Answer {
    match shared.control.publish(body) {
        Ok(Published { mut lines, total, accepted, rejected }) => {
            let ok = rejected == 0;
            let summary = format!(
                "{{\"ok\":{ok},\"lines\":{total},\"accepted\":{accepted},\"rejected\":{rejected}}}\n"
            );
            lines.extend_from_slice(summary.as_bytes());
            Answer::new(200, "application/x-ndjson", lines)
        }
        Err(PublishError::Overloaded) => {
            let message = "the broker cannot keep up, nothing was published: try again in a second";
            Answer::error(503, "RATE_LIMITED", message).with_field("Retry-After", "1")
        }
        Err(PublishError::Draining) => {
            Answer::error(503, "DRAINING", "the broker is shutting down, nothing was published")
        }
        Err(PublishError::TimedOut) => {
            let message = "no results in time, some lines may have been published: \
                           lines with an id can be sent again, they are not delivered twice";
            Answer::error(504, "TIMEOUT", message)
        }
    }
}
