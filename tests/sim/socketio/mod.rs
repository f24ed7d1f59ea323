//! Clients of Socket.IO: they poll, upgrade, are cut off and come back.

mod behaviour;
mod conn;
mod packets;
mod session;
pub mod visitor;

/// What was seen of them in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Connections that went to another shard.
    pub handed_over: usize,
    /// Sessions of Engine.IO.
    pub sessions: usize,
    /// Events that came by polling.
    pub polled: usize,
    /// Sessions that went on over a WebSocket.
    pub upgraded: usize,
    /// WebSockets that were to take over, and did not.
    pub not_upgraded: usize,
    /// Lost clients that went on.
    pub recovered: usize,
    /// Lost clients that had to begin anew.
    pub anew: usize,
    /// Requests that were acknowledged.
    pub acknowledged: usize,
    /// Sessions that the client broke.
    pub faults: usize,
    /// Sessions that were over when the client asked for them.
    pub unknown: usize,
    /// Sessions that the server ended.
    pub ended_by_server: usize,
}

impl Seen {
    /// Whether all of it was seen.
    pub fn is_whole(&self) -> bool {
        let counts = [
            self.handed_over,
            self.sessions,
            self.polled,
            self.upgraded,
            self.not_upgraded,
            self.recovered,
            self.anew,
            self.acknowledged,
            self.faults,
            self.unknown,
            self.ended_by_server,
        ];
        counts.iter().all(|count| *count > 0)
    }
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Seen) {
        self.handed_over += other.handed_over;
        self.sessions += other.sessions;
        self.polled += other.polled;
        self.upgraded += other.upgraded;
        self.not_upgraded += other.not_upgraded;
        self.recovered += other.recovered;
        self.anew += other.anew;
        self.acknowledged += other.acknowledged;
        self.faults += other.faults;
        self.unknown += other.unknown;
        self.ended_by_server += other.ended_by_server;
    }
}
