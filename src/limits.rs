//! Every bound of the broker: the configurable ones with their defaults, and the fixed ones with their reasons.
//!
//! `spec/limits.md` is the contract. Rank 0.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

/// So many in such a time, e.g. `120/10s`. Enforced with GCRA: a burst of `count` is allowed, the refill is smooth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how long; at least 1 ms.
    pub period: Duration,
}

impl Rate {
    /// A rate of `count` per `seconds`.
    pub const fn per_seconds(count: u32, seconds: u64) -> Rate {
        Rate { count, period: Duration::from_secs(seconds) }
    }

    /// The generic cell rate algorithm on one stored time (`0` at first), all in monotonic nanoseconds.
    /// Returns the new stored time, or how long to wait.
    pub fn check(self, stored: u64, now: u64) -> Result<u64, Duration> {
        let period = self.period.as_nanos() as u64;
        let interval = period / u64::from(self.count);
        let arrival = stored.max(now);
        let allowed_from = (arrival + interval).saturating_sub(period);
        if now < allowed_from {
            return Err(Duration::from_nanos(allowed_from - now));
        }
        Ok(arrival + interval)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("\"{text}\" is not a rate: write COUNT/PERIOD, for example \"120/10s\"");
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().parse().map_err(|_| wrong())?;
        let period = parse_duration(period.trim()).map_err(|_| wrong())?;
        if count == 0 || period.is_zero() {
            return Err(wrong());
        }
        Ok(Rate { count, period })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, format_duration(self.period))
    }
}

/// Reads `250ms`, `30s`, `2m`, `1h` or `1d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("\"{text}\" is not a duration: write a number and ms, s, m, h or d, for example \"30s\"");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(milliseconds)
        .filter(|ms| *ms <= 100 * 365 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// Writes a duration in the largest unit that divides it, as [`parse_duration`] reads it.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms > 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

/// A network of addresses, `10.0.0.0/8`, or a single one, `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    /// How many leading bits count; at most 32 or 128.
    bits: u8,
}

impl AddressRange {
    /// `127.0.0.0/8`.
    pub const LOOPBACK_V4: AddressRange =
        AddressRange { network: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 };
    /// `::1`.
    pub const LOOPBACK_V6: AddressRange =
        AddressRange { network: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 };

    /// Whether the address lies in the range; an IPv4 address that arrived over IPv6 (`::ffff:…`) counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    fn most_bits(network: IpAddr) -> u8 {
        if network.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<AddressRange, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not an address range: write an IP address or NETWORK/BITS, for example \"10.0.0.0/8\""
            )
        };
        let (network, bits) =
            text.split_once('/').map_or((text, None), |(network, bits)| (network, Some(bits)));
        let network: IpAddr = network.trim().parse().map_err(|_| wrong())?;
        let most = AddressRange::most_bits(network);
        let bits = bits.map_or(Ok(most), |bits| bits.trim().parse().map_err(|_| wrong()))?;
        if bits > most {
            return Err(wrong());
        }
        Ok(AddressRange { network, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == AddressRange::most_bits(self.network) {
            return write!(f, "{}", self.network);
        }
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// The configurable limits (`[limits]`); `None` is "off".
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Largest client message after reassembly, bytes.
    pub message_size: usize,
    /// Most connections in all; 0: what the file-descriptor limit allows, less a reserve.
    pub connections: usize,
    /// Most connections of one user in one app; 0: off.
    pub connections_per_user: u32,
    /// New connections of one user.
    pub connects_per_user: Option<Rate>,
    /// New connections from one address.
    pub connects_per_address: Option<Rate>,
    /// Time to finish TLS and the upgrade.
    pub handshake: Duration,
    /// Largest request head, bytes.
    pub request_head: usize,
    /// Client messages, each rate holds by itself.
    pub messages: Vec<Rate>,
    /// Typing events.
    pub typing: Option<Rate>,
    /// New conversations.
    pub conversations: Option<Rate>,
    /// Control events: join, leave, subscribe, ping and the like.
    pub control: Option<Rate>,
    /// Ping and pong frames.
    pub pings: Option<Rate>,
    /// Most rooms one connection may be in.
    pub rooms_per_connection: usize,
    /// Most rooms the broker knows.
    pub rooms: usize,
    /// Most conflation keys of a `latest` room.
    pub keys_per_room: usize,
    /// Most attachments of a Socket.IO packet.
    pub attachments: usize,
    /// Deepest JSON nesting.
    pub json_depth: usize,
    /// Most bytes an `every` subscriber may hold up.
    pub outbox: usize,
    /// Failed sign-ins of one account or address.
    pub login: Option<Rate>,
    /// Addresses to which the limits per address do not apply.
    pub exempt: Vec<AddressRange>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_size: 32 * 1024,
            connections: 0,
            connections_per_user: 5,
            connects_per_user: Some(Rate::per_seconds(10, 60)),
            connects_per_address: Some(Rate::per_seconds(600, 60)),
            handshake: Duration::from_secs(30),
            request_head: 16 * 1024,
            messages: vec![
                Rate::per_seconds(30, 60),
                Rate::per_seconds(500, 3_600),
                Rate::per_seconds(2_000, 86_400),
            ],
            typing: Some(Rate::per_seconds(20, 60)),
            conversations: Some(Rate::per_seconds(50, 86_400)),
            control: Some(Rate::per_seconds(120, 10)),
            pings: Some(Rate::per_seconds(100, 10)),
            rooms_per_connection: 1_024,
            rooms: 1_000_000,
            keys_per_room: 64,
            attachments: 10,
            json_depth: 64,
            outbox: 1024 * 1024,
            login: Some(Rate::per_seconds(5, 60)),
            exempt: vec![AddressRange::LOOPBACK_V4, AddressRange::LOOPBACK_V6],
        }
    }
}

/// Longest room name and user id, bytes (`spec/ingest.md`).
pub const NAME_BYTES: usize = 128;
/// Longest event name, characters (`spec/ingest.md`).
pub const EVENT_CHARS: usize = 128;
/// Longest `platform`, `version` or `device`, characters (`spec/account.md`).
pub const LABEL_CHARS: usize = 64;
/// Longest token, bytes (`spec/auth.md`).
pub const TOKEN_BYTES: usize = 8 * 1024;
/// Most users in one `presence` request (`spec/market.md`).
pub const PRESENCE_USERS: usize = 100;
/// Most rates of `limits.messages`: each costs one stored time for each user who says something.
pub const MESSAGE_RATES: usize = 8;
/// Requests of one client that the store has not answered; further ones are refused.
pub const STORE_REQUESTS: u32 = 64;
/// Connections of one user to all support sessions together (`spec/decisions.md` 5); `connections_per_user` is for each.
pub const SUPPORT_CONNECTIONS: u32 = 100;
/// Longest body of a request over HTTP, bytes (`spec/decisions.md` 16). Those of polls have the limit of messages.
pub const BODY_BYTES: usize = 64 * 1024;
/// Refusals in a row after which a connection is closed (`spec/limits.md`).
pub const REFUSALS: u32 = 10;

/// Most shards: interest is one 64-bit set for each room.
pub const SHARDS: usize = 64;
/// Events a shard takes from its mailbox in one turn, so that sockets are read in between.
pub const TURN_EVENTS: usize = 256;
/// Bytes of events a shard takes from its mailbox in one turn.
pub const TURN_BYTES: usize = 256 * 1024;
/// Ids remembered for idempotent publishes (`spec/ingest.md`).
pub const PUBLISH_IDS: usize = 100_000;
/// How long a publish id is remembered (`spec/ingest.md`).
pub const PUBLISH_ID_AGE: Duration = Duration::from_secs(120);
/// Events kept of a room for clients that come back (`spec/market.md`).
pub const HISTORY_EVENTS: usize = 1_000;
/// Bytes of events kept of a room for clients that come back (`spec/market.md`).
pub const HISTORY_ROOM_BYTES: usize = 256 * 1024;
/// Bytes of events kept of all rooms together, overhead included: a thousand rooms with all they may have. Beyond it a
/// room keeps less, and its clients may come back too late.
pub const HISTORY_BYTES: usize = 256 * 1024 * 1024;
/// Lost sessions kept for recovery; beyond them the one that was lost first is given up.
pub const SAVED_SESSIONS: usize = 100_000;
/// Rooms of all lost sessions together, about 48 bytes each: ten for each session.
pub const SAVED_ROOMS: usize = 1_000_000;
/// Counted messages whose counts are open at once; beyond them the oldest is answered with what has been counted.
pub const COUNTED_MESSAGES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_count_passes_then_the_refill_is_smooth() {
        let rate: Rate = "10/1s".parse().expect("a rate");
        let mut stored = 0;
        let start = 5_000_000_000;
        for _ in 0..10 {
            stored = rate.check(stored, start).expect("within the burst");
        }
        let wait = rate.check(stored, start).expect_err("the eleventh");
        assert_eq!(wait, Duration::from_millis(100));
        assert!(rate.check(stored, start + 99_999_999).is_err());
        assert!(rate.check(stored, start + 100_000_000).is_ok());
    }

    #[test]
    fn address_ranges_hold_what_they_name() {
        let holds = |range: &str, address: &str| {
            let range: AddressRange = range.parse().expect(range);
            range.contains(address.parse().expect(address))
        };
        assert!(holds("127.0.0.0/8", "127.9.9.9") && holds("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(!holds("127.0.0.0/8", "128.0.0.1") && !holds("127.0.0.0/8", "::1"));
        assert!(holds("::1", "::1") && !holds("::1", "::2"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && holds("::/0", "2001:db8::1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        for text in ["10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32"] {
            assert_eq!(text.parse::<AddressRange>().expect(text).to_string(), text);
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1", "host", "1.2.3.4:80"] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_and_rates_read_back_as_written() {
        for text in ["250ms", "30s", "2m", "1h", "30d"] {
            assert_eq!(format_duration(parse_duration(text).expect(text)), text);
        }
        assert_eq!("600/1m".parse::<Rate>().expect("a rate").to_string(), "600/1m");
        for wrong in ["", "10", "0/1s", "10/0s", "x/1s", "10/1y", "-1/1s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
