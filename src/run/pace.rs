//! When a loaded loop waits a moment before it flushes (`fanout.pace`).

use std::time::Duration;

use crate::shard::Flow;

/// Decides when a loaded loop waits a moment, so that more comes together for each write.
///
/// A turn waits only if the one before left something unread, or wrote two or more frames to a socket on average,
/// so an idle or lightly loaded loop never does. A wait that gathered nothing was useless, as it is when the
/// publishers themselves wait for what is held back: then the next turns do not wait, ever more of them each time.
pub(super) struct Pace {
    wait: Option<Duration>,
    is_loaded: bool,
    skip: u32,
    next_skip: u32,
}

/// Most turns without a wait after waits that gathered nothing.
const LONGEST_SKIP: u32 = 64;

impl Pace {
    /// Loaded turns may wait so long.
    pub fn new(wait: Option<Duration>) -> Pace {
        Pace { wait, is_loaded: false, skip: 0, next_skip: 1 }
    }

    /// How long to wait, now that something has come in.
    pub fn wait(&mut self) -> Option<Duration> {
        if !self.is_loaded {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.wait
    }

    /// What a wait has brought.
    pub fn waited(&mut self, gathered_more: bool) {
        if gathered_more {
            self.next_skip = 1;
        } else {
            self.skip = self.next_skip;
            self.next_skip = (self.next_skip * 2).min(LONGEST_SKIP);
        }
    }

    /// What a turn has written.
    pub fn turned(&mut self, left_over: bool, flow: Flow) {
        self.is_loaded = left_over || (flow.clients > 0 && flow.frames >= 2 * flow.clients);
    }
}
