//! Time as a value: the shells read the clocks once a turn, everything else is handed a [`Now`].

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic nanoseconds since the process first asked.
    pub mono: u64,
    /// Nanoseconds since the Unix epoch.
    pub unix: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        Now {
            mono: monotonic(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as u64),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> u64 {
        self.unix / 1_000_000
    }

    /// Seconds since the Unix epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.unix / 1_000_000_000
    }

    /// This reading, `by` later on both clocks.
    pub fn plus(self, by: Duration) -> Now {
        let by = by.as_nanos() as u64;
        Now { mono: self.mono.saturating_add(by), unix: self.unix.saturating_add(by) }
    }
}

/// The monotonic clock, in nanoseconds since the process first asked.
pub fn monotonic() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Appends `unix_ms` as RFC 3339 in UTC with milliseconds: `2025-05-20T14:30:00.000Z`.
pub fn write_millis(out: &mut Vec<u8>, unix_ms: u64) {
    write_date_time(out, unix_ms / 1000);
    let ms = unix_ms % 1000;
    out.extend_from_slice(&[
        b'.',
        b'0' + (ms / 100) as u8,
        b'0' + (ms / 10 % 10) as u8,
        b'0' + (ms % 10) as u8,
        b'Z',
    ]);
}

/// Appends `unix_ms` as RFC 3339 in UTC without a fraction: `2025-05-20T14:30:00Z`.
pub fn write_seconds(out: &mut Vec<u8>, unix_ms: u64) {
    write_date_time(out, unix_ms / 1000);
    out.push(b'Z');
}

/// `unix_ms` as RFC 3339 in UTC with milliseconds.
pub fn millis(unix_ms: u64) -> String {
    let mut out = Vec::with_capacity(24);
    write_millis(&mut out, unix_ms);
    String::from_utf8(out).unwrap_or_default()
}

/// `unix_ms` as RFC 3339 in UTC without a fraction.
pub fn seconds(unix_ms: u64) -> String {
    let mut out = Vec::with_capacity(20);
    write_seconds(&mut out, unix_ms);
    String::from_utf8(out).unwrap_or_default()
}

/// `2025-05-20T14:30:00`, by the days-from-civil algorithm: the event path formats a time for
/// each event, and a formatter that allocates would be its largest cost.
fn write_date_time(out: &mut Vec<u8>, unix_seconds: u64) {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = (year_of_era + era * 400 + u64::from(month <= 2)).min(9_999);
    two(out, year / 100);
    two(out, year % 100);
    for (separator, value) in
        [(b'-', month), (b'-', day), (b'T', second / 3_600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(separator);
        two(out, value);
    }
}

fn two(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_calendar_library() {
        for unix_ms in
            [0, 951_782_400_123, 951_868_799_999, 1_723_161_254_347, 1_735_689_599_000, 4_102_444_800_001]
        {
            let expected = jiff::Timestamp::from_millisecond(unix_ms as i64).expect("in range");
            assert_eq!(millis(unix_ms), format!("{expected:.3}"));
            assert_eq!(
                seconds(unix_ms),
                format!("{:.0}", jiff::Timestamp::from_second((unix_ms / 1000) as i64).expect("in range"))
            );
        }
    }
}
