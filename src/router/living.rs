//! Recoverable clients that are there, or are thought to be: a client may come back before its shard has noticed that its
//! former connection is dead.

use crate::hash::SplitTable;
use crate::mailbox::Pid;
use crate::room::publication::ClientId;

/// One of them.
pub struct Live {
    pid: Pid,
    /// The client.
    pub client: ClientId,
    /// The client that has come back with its session; it has been told to go.
    pub waiting: Option<ClientId>,
}

/// All of them, by the names of their sessions. As many as there are recoverable clients, each with one who waits at
/// most.
#[derive(Default)]
pub struct Living(SplitTable<Live>);

/// Names are random, and only those that the broker has made are kept.
const fn hash(pid: &Pid) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *pid;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Living {
    /// The client with that session.
    pub fn find_mut(&mut self, pid: &Pid) -> Option<&mut Live> {
        self.0.find_mut(hash(pid), |live| live.pid == *pid)
    }

    /// A client is there with that session.
    pub fn insert(&mut self, pid: Pid, client: ClientId) {
        match self.find_mut(&pid) {
            Some(live) => live.client = client,
            None => self.0.insert(hash(&pid), Live { pid, client, waiting: None }, |live| hash(&live.pid)),
        }
    }

    /// The client with that session is gone. Returns who waits for the session.
    pub fn remove(&mut self, pid: &Pid) -> Option<ClientId> {
        self.0.remove(hash(pid), |live| live.pid == *pid)?.waiting
    }

    /// Whether there is none.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
