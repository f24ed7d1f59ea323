//! What is asked of the store, for clients and for requests over HTTP.
//!
//! Not asked at once but at the end of the turn, after the router has been told who has come and what was joined: so whoever
//! is told what the store holds now is also sent all that changes from then on.

use crate::app::{Input, StoreRequest};
use crate::mailbox::{Asker, Request};
use crate::shard::{Net, Shard};
use crate::time::Now;

/// A request to the store.
pub struct Wish {
    asker: Asker,
    at: u64,
    what: StoreRequest,
}

impl<N: Net> Shard<N> {
    /// Has the store asked at the end of the turn. Bounded: each client, and each connection that waits, has few at a time.
    pub(super) fn wish(&mut self, asker: Asker, what: StoreRequest, now: Now) {
        self.wishes.push(Wish { asker, at: now.unix_ms(), what });
    }

    /// Asks the store. Who is not taken is told at once.
    pub fn ask_store(&mut self, now: Now) {
        // What is said of a refusal may be a wish again, which has its turn next.
        for Wish { asker, at, what } in std::mem::take(&mut self.wishes) {
            let taken = match (&self.common.store, what) {
                (None, _) => false,
                (Some(store), StoreRequest::Write(what)) => store.write(Request { asker, at, what }).is_ok(),
                (Some(store), StoreRequest::Query(what)) => store.read(Request { asker, at, what }).is_ok(),
            };
            match asker {
                _ if taken => {}
                Asker::Client { client, ticket } => {
                    self.session_input(client, Input::StoreBusy { ticket }, now);
                }
                Asker::Http { conn, serial, .. } => self.api_busy(conn, serial, now),
                Asker::Router { .. } | Asker::Login { .. } | Asker::Nobody => {}
            }
        }
    }

    /// Whether the store is to be asked something.
    pub fn has_wishes(&self) -> bool {
        !self.wishes.is_empty()
    }
}
