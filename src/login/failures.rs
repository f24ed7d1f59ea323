//! Sign-ins that failed, counted by account and by address (`spec/auth.md`: `limits.login`).
//!
//! An attempt is counted when it begins and given back when it was none that failed: of several attempts at the same time
//! not more pass than may fail. Accounts that do not exist count as those that do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::hash::hash;
use crate::limits::Rate;
use crate::users::network;

/// Most entries: more than the workers can make in the period of any sensible limit. Beyond it nobody signs in, as
/// otherwise whoever can fill the table could guess without limit.
const MOST: usize = 65_536;

/// How long to wait when there is no room.
const NO_ROOM: Duration = Duration::from_secs(10);

/// How often entries that are over are taken out, nanoseconds.
const SWEEP: u64 = 60_000_000_000;

/// What failures are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The hash of the address that somebody signs in with, in small letters.
    Account(u64),
    /// Where he is, by the network.
    Address(IpAddr),
}

/// An attempt that is counted as a failure until it is given back.
#[derive(Debug)]
pub(super) struct Attempt {
    keys: [Option<Key>; 2],
    rate: Rate,
}

/// The failures.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The stored GCRA times, monotonic ns.
    counts: HashMap<Key, u64, ahash::RandomState>,
    swept_at: u64,
}

impl Failures {
    /// Counts an attempt to sign in as `email`; `address`: `None` if it is exempt.
    ///
    /// # Errors
    /// Too many have failed for the one or the other: how long to wait. It counts for neither.
    pub(super) fn begin(
        &mut self,
        email: &str,
        address: Option<IpAddr>,
        rate: Rate,
        now: u64,
    ) -> Result<Attempt, Duration> {
        self.sweep(now);
        let account = Key::Account(hash(&email.trim().to_lowercase()));
        let address = address.map(|address| Key::Address(network(address.to_canonical())));
        let keys = [Some(account), address];
        let mut counted = [0; 2];
        for (key, counted) in keys.iter().zip(&mut counted) {
            let Some(key) = key else { continue };
            *counted = rate.check(self.counts.get(key).copied().unwrap_or(0), now)?;
        }
        if self.counts.len() + keys.len() > MOST {
            return Err(NO_ROOM);
        }
        for (key, counted) in keys.iter().zip(counted) {
            if let Some(key) = key {
                self.counts.insert(*key, counted);
            }
        }
        Ok(Attempt { keys, rate })
    }

    /// The attempt was none that failed.
    pub(super) fn give_back(&mut self, attempt: &Attempt) {
        let one = attempt.rate.period.as_nanos() as u64 / u64::from(attempt.rate.count);
        for key in attempt.keys.iter().flatten() {
            if let Some(count) = self.counts.get_mut(key) {
                *count = count.saturating_sub(one);
            }
        }
    }

    /// Takes out entries that are over, now and then and when there is no room.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept_at) >= SWEEP || self.counts.len() + 2 > MOST {
            self.counts.retain(|_, count| *count > now);
            self.swept_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::per_seconds(5, 60);
    const SECOND: u64 = 1_000_000_000;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn the_sixth_failure_of_an_account_waits_wherever_it_comes_from() {
        let mut failures = Failures::default();
        for place in 0..5 {
            let place = address(&format!("10.0.0.{place}"));
            failures.begin("ann@example.com", place, RATE, SECOND).expect("one of five");
        }
        let wait = failures.begin(" Ann@Example.com", address("10.0.0.9"), RATE, SECOND).expect_err("sixth");
        assert_eq!(wait, Duration::from_secs(12));
        failures.begin("bob@example.com", address("10.0.0.9"), RATE, SECOND).expect("another account");
        failures.begin("ann@example.com", address("10.0.0.9"), RATE, 13 * SECOND).expect("after the wait");
    }

    #[test]
    fn the_sixth_failure_of_an_address_waits_unless_it_is_exempt() {
        let mut failures = Failures::default();
        for (user, place) in (0..5).zip(["2001:db8::1", "2001:db8::2", "2001:db8::3"].iter().cycle()) {
            failures.begin(&format!("{user}@example.com"), address(place), RATE, SECOND).expect("of five");
        }
        assert!(failures.begin("6@example.com", address("2001:db8::ffff"), RATE, SECOND).is_err());
        failures.begin("6@example.com", None, RATE, SECOND).expect("exempt");
        failures.begin("7@example.com", address("2001:db8:0:1::1"), RATE, SECOND).expect("another network");
    }

    #[test]
    fn what_did_not_fail_does_not_count() {
        let mut failures = Failures::default();
        for _ in 0..100 {
            let attempt = failures.begin("ann", address("10.0.0.1"), RATE, SECOND).expect("none has failed");
            failures.give_back(&attempt);
        }
        for _ in 0..5 {
            failures.begin("ann", address("10.0.0.1"), RATE, SECOND).expect("one of five");
        }
        assert!(failures.begin("ann", address("10.0.0.1"), RATE, SECOND).is_err());
    }

    #[test]
    fn entries_leave_and_there_is_a_bound() {
        let mut failures = Failures::default();
        for user in 0..MOST - 1 {
            failures.begin(&user.to_string(), None, RATE, SECOND).expect("room");
        }
        assert_eq!(failures.begin("one more", address("10.0.0.1"), RATE, SECOND).expect_err("full"), NO_ROOM);
        failures.begin("one more", address("10.0.0.1"), RATE, 14 * SECOND).expect("the others are over");
        assert_eq!(failures.counts.len(), 2);
    }
}
