//! Where one client types, in any app: what nobody stops ends by itself, and it types in so many places at once at most.

use std::time::Duration;

use crate::time::Now;

/// How long typing lasts that nobody stops (`spec/conversation.md`, `spec/support.md`).
const LASTS: Duration = Duration::from_secs(5);
/// When a stop is tried again that the router could not take.
const RETRY: Duration = Duration::from_millis(200);
/// Places where one client types at once; in the first of them it stops when there are more.
const AT_ONCE: usize = 16;
/// Stops that a client which goes may leave behind: as many again may wait to be told.
pub const MOST_STOPS: usize = 2 * AT_ONCE;

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

    /// A stop that could not be told is told soon, unless the client types there again. It may be that of the place which
    /// another one has just displaced, so there is room for as many as these.
    pub(super) fn stop_again(&mut self, place: P, now: Now) {
        if self.0.len() < MOST_STOPS && self.0.iter().all(|active| active.place != place) {
            self.0.push(Active { place, until: now.plus(RETRY).mono });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_was_not_told_is_told_even_where_all_places_are_taken() {
        let mut typing = Typing::default();
        let now = Now { mono: 0, unix: 0 };
        let displaced: Vec<_> = (0..=AT_ONCE).filter_map(|place| typing.start(place, now)).collect();
        assert_eq!(displaced, [0]);
        typing.stop_again(0, now);
        typing.stop_again(0, now);
        let soon = now.plus(RETRY);
        assert_eq!(typing.deadline(), Some(soon.mono));
        assert_eq!((typing.take_over(soon), typing.take_over(soon)), (Some(0), None));
    }
}
