//! Answers to plain HTTP requests on the public port, and refusals before the upgrade.

use std::time::Duration;

use crate::close::ErrorCode;
use crate::metrics::Rejection;
use crate::proto::http::{self, Request};
use crate::proto::upgrade;
use crate::shard::admit::Refusal;
use crate::shard::conn::Phase;
use crate::shard::wheel;
use crate::shard::{Net, Shard};
use crate::time::Now;

/// How long a client is asked to stay away when the server is full.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);

impl<N: Net> Shard<N> {
    /// Answers a request. True if another one may follow on the connection; false if it is upgraded or ends.
    pub(super) fn request(&mut self, key: u32, request: &Request<'_>, now: Now) -> bool {
        match self.admit(key, request, now) {
            Ok(admitted) => {
                let mut response = Vec::new();
                let protocol =
                    upgrade::subprotocol_token(request).is_some().then_some(upgrade::BEARER_PROTOCOL);
                upgrade::write_switching(&mut response, &admitted.upgrade, protocol);
                self.open(key, admitted.opening, &response, now);
                false
            }
            Err(refusal) => {
                self.metrics.handshakes_rejected[refusal.rejection as usize].add(1);
                self.log_refusal(key, &refusal, request.path, now);
                // A body would have to be read first; nothing here takes one.
                let has_body = !matches!(request.content_length(), Ok(None | Some(0)));
                let keep = request.keep_alive() && !has_body && self.drain.is_none() && refusal.status != 503;
                self.respond(key, &refusal, keep, now);
                keep
            }
        }
    }

    /// Refuses a head that cannot be read, and ends the connection.
    pub(super) fn refuse_head(
        &mut self,
        key: u32,
        status: u16,
        message: &'static str,
        rejection: Rejection,
        now: Now,
    ) {
        self.metrics.handshakes_rejected[rejection as usize].add(1);
        let refusal = Refusal::new(status, ErrorCode::InvalidMessage, message, rejection);
        self.log_refusal(key, &refusal, "", now);
        self.respond(key, &refusal, false, now);
    }

    /// Writes an error body: `{"error":{"code","message"},"detail"}`. An answer is smaller than any socket buffer,
    /// so a new socket that does not take it whole is lost.
    fn respond(&mut self, key: u32, refusal: &Refusal, keep: bool, now: Now) {
        let body = serde_json::json!({
            "error": { "code": refusal.code.as_str(), "message": refusal.message },
            "detail": refusal.message,
        })
        .to_string();
        // Rounded up, so that who waits that long is let through.
        let retry =
            refusal.retry_after.map(|wait| wait.as_nanos().div_ceil(1_000_000_000).max(1).to_string());
        let mut headers = vec![("Content-Type", "application/json")];
        if let Some(seconds) = &retry {
            headers.push(("Retry-After", seconds));
        }
        headers.extend_from_slice(refusal.headers);
        if !headers.iter().any(|(name, _)| *name == "Connection") {
            headers.push(("Connection", if keep { "keep-alive" } else { "close" }));
        }
        let mut response = Vec::new();
        http::write_response(&mut response, refusal.status, &headers, body.as_bytes());
        let Some(conn) = self.conns.get_mut(key) else { return };
        let written = conn.transport.write(&response, &mut self.write_scratch);
        if !written.is_ok_and(|written| written.taken == response.len()) {
            return self.drop_conn(key);
        }
        if keep {
            conn.phase = Phase::Head(Vec::new());
            conn.received = wheel::tick(now.mono);
            self.arm(key, now);
        } else {
            self.linger(key, now);
        }
    }

    fn log_refusal(&mut self, key: u32, refusal: &Refusal, path: &str, now: Now) {
        let Some(kept_back) = self.log_limit.allow(now) else { return };
        let Some(conn) = self.conns.get(key) else { return };
        tracing::info!(
            peer = %conn.peer,
            path,
            status = refusal.status,
            code = refusal.code.as_str(),
            kept_back,
            "refused"
        );
    }
}

impl Refusal {
    /// The server has no place, or is going away.
    pub fn full(message: &'static str) -> Refusal {
        Refusal::new(503, ErrorCode::ConnectionLimit, message, Rejection::Overloaded)
            .retry_after(RETRY_WHEN_FULL)
    }
}
