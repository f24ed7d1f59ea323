//! Users and addresses as all shards see them: connections in all, and how fast they may go on.
//!
//! The one structure that threads share. The map is lock-free; an entry's numbers are atomics.
//! An entry lives while it has connections or one of its rates has not run out.

mod seats;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use papaya::Equivalent;
use smol_str::SmolStr;

use crate::audience::App;
use crate::hash::hash;
use crate::limits::{MESSAGE_RATES, Rate};

pub use seats::{Seat, Seats};

/// Which rate of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Meter {
    /// New connections.
    Connects,
    /// Control events.
    Control,
    /// Ping and pong frames.
    Pings,
    /// Changes to typing.
    Typing,
    /// New conversations.
    Conversations,
    /// Requests over HTTP.
    Requests,
}

impl Meter {
    /// Those that every user has; the others are made when they are first used.
    const COMMON: usize = Meter::Typing as usize;
    const CHAT: usize = 3;
}

/// The stored GCRA times of those who chat, monotonic ns.
#[derive(Debug, Default)]
struct ChatMeters {
    /// One for each rate of `limits.messages`.
    messages: [AtomicU64; MESSAGE_RATES],
    others: [AtomicU64; Meter::CHAT],
}

/// The count that marks an entry as taken out of the map: nobody may count on it any more.
const GONE: u32 = u32::MAX;

/// One user. A connection holds the `Arc`.
#[derive(Debug)]
pub struct User {
    id: SmolStr,
    hash: u64,
    /// Connections in all apps, or [`GONE`].
    total: AtomicU32,
    connections: [AtomicU32; App::COUNT],
    /// The stored GCRA times, monotonic ns.
    meters: [AtomicU64; Meter::COMMON],
    /// Most users of other apps never need them.
    chat: OnceLock<Box<ChatMeters>>,
}

impl User {
    fn new(id: SmolStr) -> User {
        User {
            hash: hash(&id),
            id,
            total: AtomicU32::new(0),
            connections: Default::default(),
            meters: Default::default(),
            chat: OnceLock::new(),
        }
    }

    /// A user who is in no map: an anonymous connection, whose rates are its own.
    pub fn anonymous() -> Arc<User> {
        Arc::new(User::new("".into()))
    }

    /// The user's id; empty for an anonymous one.
    pub fn id(&self) -> &SmolStr {
        &self.id
    }

    /// Whether there is no user behind it.
    pub fn is_anonymous(&self) -> bool {
        self.id.is_empty()
    }

    /// The hash of the id, as rooms and publications hash names.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Connections in all apps.
    pub fn connections(&self) -> u32 {
        match self.total.load(Ordering::Acquire) {
            GONE => 0,
            total => total,
        }
    }

    /// Counts one event against a rate; `Err`: how long to wait.
    pub fn allow(&self, meter: Meter, rate: Option<Rate>, now: u64) -> Result<(), Duration> {
        match rate {
            Some(rate) => advance(self.meter(meter), rate, now),
            None => Ok(()),
        }
    }

    /// Takes back what [`allow`](User::allow) has counted, because nothing came of it.
    pub fn give_back(&self, meter: Meter, rate: Option<Rate>) {
        if let Some(rate) = rate {
            retreat(self.meter(meter), rate);
        }
    }

    /// Counts one message against all rates, or against none; `Err`: how long to wait until all let it through.
    pub fn allow_message(&self, rates: &[Rate], now: u64) -> Result<(), Duration> {
        let stored = &self.chat().messages;
        let taken: Vec<_> =
            rates.iter().zip(stored).map(|(rate, stored)| advance(stored, *rate, now)).collect();
        let Some(wait) = taken.iter().filter_map(|taken| taken.err()).max() else { return Ok(()) };
        // To count first and take back is right whatever other shards count meanwhile.
        for ((rate, stored), _) in rates.iter().zip(stored).zip(&taken).filter(|(_, taken)| taken.is_ok()) {
            retreat(stored, *rate);
        }
        Err(wait)
    }

    /// Takes back what [`allow_message`](User::allow_message) has counted, because nothing came of it.
    pub fn give_back_message(&self, rates: &[Rate]) {
        rates.iter().zip(&self.chat().messages).for_each(|(rate, stored)| retreat(stored, *rate));
    }

    fn meter(&self, meter: Meter) -> &AtomicU64 {
        match (meter as usize).checked_sub(Meter::COMMON) {
            Some(other) => &self.chat().others[other],
            None => &self.meters[meter as usize],
        }
    }

    fn chat(&self) -> &ChatMeters {
        self.chat.get_or_init(Box::default)
    }

    /// Takes a place among the app's connections; `limit` 0 is off.
    /// `Err(false)`: too many. `Err(true)`: this entry has just gone, look the user up again.
    fn enter(&self, app: App, limit: u32) -> Result<(), bool> {
        let alive = |total| (total != GONE).then(|| total + 1);
        if self.total.fetch_update(Ordering::AcqRel, Ordering::Acquire, alive).is_err() {
            return Err(true);
        }
        let within = |count| (limit == 0 || count < limit).then(|| count + 1);
        if self.connections[app.index()].fetch_update(Ordering::AcqRel, Ordering::Acquire, within).is_err() {
            self.total.fetch_sub(1, Ordering::AcqRel);
            return Err(false);
        }
        Ok(())
    }

    /// Gives the place back.
    pub fn leave(&self, app: App) {
        self.connections[app.index()].fetch_sub(1, Ordering::AcqRel);
        self.total.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_idle(&self, now: u64) -> bool {
        self.total.load(Ordering::Acquire) == 0
            && self.meters.iter().all(|meter| meter.load(Ordering::Acquire) <= now)
            && self.chat.get().is_none_or(|chat| {
                chat.messages.iter().chain(&chat.others).all(|meter| meter.load(Ordering::Acquire) <= now)
            })
    }
}

/// Takes one event back out of a stored GCRA time: the inverse of [`advance`], whatever came between.
fn retreat(stored: &AtomicU64, rate: Rate) {
    let interval = rate.period.as_nanos() as u64 / u64::from(rate.count);
    let earlier = |time: u64| Some(time.saturating_sub(interval));
    // It cannot fail: there is always an earlier time.
    let _ = stored.fetch_update(Ordering::AcqRel, Ordering::Acquire, earlier);
}

/// Advances one stored GCRA time by compare-and-swap.
fn advance(stored: &AtomicU64, rate: Rate, now: u64) -> Result<(), Duration> {
    let mut known = stored.load(Ordering::Acquire);
    loop {
        let next = rate.check(known, now)?;
        match stored.compare_exchange_weak(known, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(()),
            Err(actual) => known = actual,
        }
    }
}

/// Whether a user is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The user.
    pub user: SmolStr,
    /// Connected, or gone for less than the grace.
    pub online: bool,
    /// When the user was last connected, Unix ms, if that is known.
    pub last_seen: Option<u64>,
}

/// Why a user may not have another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// New connections come too fast; how long to wait.
    TooFast(Duration),
    /// As many as there may be are open.
    TooMany,
}

/// What a user may have; `0` and `None` are off.
#[derive(Clone, Copy, Debug)]
pub struct UserLimits {
    /// Open connections in one app.
    pub connections: u32,
    /// New connections.
    pub connects: Option<Rate>,
}

/// A user as a key of the map: the map needs no copy of the id.
#[derive(Debug)]
struct Known(Arc<User>);

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Known) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Known {}

/// A user to be found.
struct ById<'a> {
    hash: u64,
    id: &'a str,
}

impl ById<'_> {
    fn of(id: &str) -> ById<'_> {
        ById { hash: hash(id), id }
    }
}

impl Hash for ById<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Known> for ById<'_> {
    fn equivalent(&self, known: &Known) -> bool {
        known.0.id == self.id
    }
}

/// All users with a connection, and addresses that connected lately.
#[derive(Debug, Default)]
pub struct Users {
    users: papaya::HashMap<Known, (), ahash::RandomState>,
    addresses: papaya::HashMap<IpAddr, Arc<AtomicU64>, ahash::RandomState>,
    /// Connections to support sessions.
    pub seats: Arc<Seats>,
}

impl Users {
    /// Counts a new connection of `id` in `app` and returns the user. [`User::leave`] ends it.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn connect(&self, id: &str, app: App, limits: UserLimits, now: u64) -> Result<Arc<User>, Refusal> {
        loop {
            let user = self.find_or_insert(id);
            match user.enter(app, limits.connections) {
                Ok(()) => {}
                Err(true) => {
                    // The sweep has marked it and is about to take it out, or has: do the same and look again.
                    let is_it = |known: &Known, _: &()| Arc::ptr_eq(&known.0, &user);
                    self.users.pin().remove_if(&ById::of(id), is_it).ok();
                    continue;
                }
                Err(false) => return Err(Refusal::TooMany),
            }
            if let Err(wait) = user.allow(Meter::Connects, limits.connects, now) {
                user.leave(app);
                return Err(Refusal::TooFast(wait));
            }
            return Ok(user);
        }
    }

    /// The user with this id, for requests that have no connection. An entry that the sweep takes out at this moment had
    /// run out, so a count lost with it allows one more at most.
    pub fn user(&self, id: &str) -> Arc<User> {
        self.find_or_insert(id)
    }

    fn find_or_insert(&self, id: &str) -> Arc<User> {
        let map = self.users.pin();
        loop {
            if let Some((known, ())) = map.get_key_value(&ById::of(id)) {
                return Arc::clone(&known.0);
            }
            map.get_or_insert(Known(Arc::new(User::new(id.into()))), ());
        }
    }

    /// The connections of a user, in all apps.
    pub fn connections(&self, id: &str) -> u32 {
        self.users.pin().get_key_value(&ById::of(id)).map_or(0, |(known, ())| known.0.connections())
    }

    /// Counts a new connection from an address; `Err`: how long to wait. IPv6 addresses count by their network of 64 bits,
    /// which is the least that anybody is given.
    pub fn connect_from(&self, address: IpAddr, rate: Rate, now: u64) -> Result<(), Duration> {
        let meter = {
            let map = self.addresses.pin();
            Arc::clone(map.get_or_insert_with(network(address), Default::default))
        };
        // An entry that the sweep takes out at this moment had run out, so a count lost with it allows one more at most.
        advance(&meter, rate, now)
    }

    /// Takes out what is no longer needed. Called now and then by one thread.
    pub fn sweep(&self, now: u64) {
        let is_over = |user: &User| {
            user.is_idle(now)
                && user.total.compare_exchange(0, GONE, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        self.users.pin().retain(|known, ()| !is_over(&known.0));
        self.addresses.pin().retain(|_, meter| meter.load(Ordering::Acquire) > now);
    }

    /// How many entries there are: users, addresses.
    pub fn sizes(&self) -> (usize, usize) {
        (self.users.len(), self.addresses.len())
    }
}

/// What an address is counted as.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: UserLimits = UserLimits { connections: 2, connects: Some(Rate::per_seconds(3, 60)) };

    #[test]
    fn connections_count_per_user_and_app_and_are_given_back() {
        let users = Users::default();
        let id = "ada";
        let limits = UserLimits { connects: None, ..LIMITS };
        let first = users.connect(id, App::Market, limits, 0).expect("first");
        users.connect(id, App::Market, limits, 0).expect("second");
        assert_eq!(users.connect(id, App::Market, limits, 0).expect_err("third"), Refusal::TooMany);
        users.connect(id, App::Account, limits, 0).expect("another app");
        assert_eq!(users.connections("ada"), 3);
        first.leave(App::Market);
        users.connect(id, App::Market, limits, 0).expect("a place is free");
    }

    #[test]
    fn an_entry_outlives_its_connections_until_its_rates_have_run_out() {
        let users = Users::default();
        let id = "ada";
        for _ in 0..3 {
            users.connect(id, App::Market, LIMITS, 0).expect("within the rate").leave(App::Market);
        }
        users.sweep(0);
        assert!(matches!(users.connect(id, App::Market, LIMITS, 0), Err(Refusal::TooFast(_))));
        users.sweep(Duration::from_secs(61).as_nanos() as u64);
        assert_eq!(users.sizes().0, 0);
    }

    #[test]
    fn a_message_counts_against_all_rates_or_none() {
        let rates = [Rate::per_seconds(2, 1), Rate::per_seconds(3, 60)];
        let user = User::anonymous();
        let second = 1_000_000_000;
        assert_eq!([0, 0].map(|now| user.allow_message(&rates, now)), [Ok(()); 2]);
        assert_eq!(user.allow_message(&rates, 0), Err(Duration::from_millis(500)));
        // Had the refused one counted against the second rate, this would be one too many.
        assert_eq!(user.allow_message(&rates, second), Ok(()));
        assert_eq!(user.allow_message(&rates, second), Err(Duration::from_secs(19)));
        user.give_back_message(&rates);
        assert_eq!(user.allow_message(&rates, second), Ok(()));
        assert!(!user.is_idle(second) && user.is_idle(61 * second));
        let rate = Some(rates[0]);
        assert_eq!([0; 2].map(|now| user.allow(Meter::Typing, rate, now)), [Ok(()); 2]);
        assert!(user.allow(Meter::Typing, rate, 0).is_err());
        assert_eq!(user.allow(Meter::Conversations, rate, 0), Ok(()));
        user.give_back(Meter::Typing, rate);
        assert_eq!(user.allow(Meter::Typing, rate, 0), Ok(()));
    }

    #[test]
    fn concurrent_connects_and_sweeps_lose_nothing() {
        let users = Users::default();
        let limits = UserLimits { connections: 0, connects: None };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let id = "ada";
                    for turn in 0..5_000 {
                        let user = users.connect(id, App::Market, limits, turn).expect("no limit");
                        assert!(user.connections() > 0);
                        user.leave(App::Market);
                        users.sweep(turn);
                    }
                });
            }
        });
        assert_eq!(users.connections("ada"), 0);
    }
}
