//! Where one client types, in any app: what nobody stops ends by itself, and it types in so many places at once at most.

use std::time::Duration;

use crate::time::Now;

/// How long typing lasts that nobody stops (`spec/conversation.md`, `spec/support.md`).
const LASTS: Duration = Duration::from_secs(5);
/// When a stop is tried again that the router could not take.
const RETRY: Duration = Duration::from_millis(200);
/// Places where one client types at once; in the first of them it stops when there are more.
const AT_ONCE: usize = 16;

/// Where a client types. `P` is what a place is in the app.
#[derive(Debug)]
pub(super) struct Typing<P>(Vec<Active<P>>);

#[derive(Debug)]
struct Active<P> {
    place: P,
    /// When it ends by itself, monotonic ns.
    until: u64,
}

impl<P> Default for Typing<P> {
    fn default() -> Self {
        Typing(Vec::new())
    }
}

impl<P: PartialEq> Typing<P> {
    /// When the first ends by itself, monotonic ns.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.iter().map(|active| active.until).min()
    }

    /// Begins; returns where it ends instead, as there were too many.
    pub(super) fn start(&mut self, place: P, now: Now) -> Option<P> {
        let oldest = (self.0.len() >= AT_ONCE).then(|| self.0.remove(0).place);
        self.0.push(Active { place, until: now.plus(LASTS).mono });
        oldest
    }

    /// Lasts anew; `false`: the client does not type there.
    pub(super) fn go_on(&mut self, is_there: impl Fn(&P) -> bool, now: Now) -> bool {
        let active = self.0.iter_mut().find(|active| is_there(&active.place));
        let is_active = active.is_some();
        if let Some(active) = active {
            active.until = now.plus(LASTS).mono;
        }
        is_active
    }

    /// Takes out the first such place.
    pub(super) fn take(&mut self, is_there: impl Fn(&P) -> bool) -> Option<P> {
        self.take_active(|active| is_there(&active.place))
    }

    /// Takes out the first place whose time is over.
    pub(super) fn take_over(&mut self, now: Now) -> Option<P> {
        self.take_active(|active| active.until <= now.mono)
    }

    fn take_active(&mut self, is_it: impl Fn(&Active<P>) -> bool) -> Option<P> {
        self.0.iter().position(is_it).map(|at| self.0.remove(at).place)
    }

    /// A stop that could not be told is told soon, unless the client types there again.
    pub(super) fn stop_again(&mut self, place: P, now: Now) {
        if self.0.len() < AT_ONCE && self.0.iter().all(|active| active.place != place) {
            self.0.push(Active { place, until: now.plus(RETRY).mono });
        }
    }
}
