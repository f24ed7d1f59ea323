//! One monotonic clock for a whole run, in nanoseconds since its start, with
//! the wall-clock time of that start beside it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Monotonic time since the start of a run.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
    unix_at_start: u64,
}

impl Clock {
    /// Starts at zero now.
    pub fn start() -> Self {
        Self { start: Instant::now(), unix_at_start: unix_now() }
    }

    /// Nanoseconds since the start. A `u64` lasts 584 years.
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The Unix time in ns of a moment that [`Clock::now`] gave.
    pub fn unix(&self, moment: u64) -> u64 {
        self.unix_at_start + moment
    }
}

/// The wall clock, Unix time in ns.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// Parses `2ms`, `150us`, `1.5s`, or plain seconds, for the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "m" => 60.0,
        _ => return Err(format!("unknown unit `{unit}`: use us, ms, s or m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// RFC 3339 in UTC with milliseconds, such as `2026-11-21T08:00:00.123Z`, into
/// 24 bytes. `unix_ms` is Unix time in ms. Days are turned into a date by
/// counting eras of 400 years (proleptic Gregorian), as every such year cycle
/// has the same 146,097 days.
pub fn rfc3339(unix_ms: u64) -> [u8; 24] {
    let (days, in_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468; // days since 0000-03-01, so that leap days end a year
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (place, width, value) in [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, in_day / 3_600_000),
        (14, 2, in_day / 60_000 % 60),
        (17, 2, in_day / 1_000 % 60),
        (20, 3, in_day % 1_000),
    ] {
        write_digits(&mut text[place..place + width], value);
    }
    text
}

/// Writes `value` right-aligned with leading zeros; digits that do not fit are
/// dropped from the left.
pub fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_edges() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_248_000_123, "2026-11-21T08:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(std::str::from_utf8(&rfc3339(unix_ms)), Ok(text));
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("2ms"), Ok(Duration::from_millis(2)));
        assert_eq!(parse_duration("150us"), Ok(Duration::from_micros(150)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_duration("2h").is_err());
        assert!(parse_duration("-1s").is_err());
    }
}
