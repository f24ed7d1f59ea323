//! The types a key can have: how each is read from TOML, from the text of a variable or flag, and printed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use crate::limits::{AddressRange, Rate, format_duration, parse_duration};
use crate::settings::{LogFormat, LogLevel, RoomJoin, RoomPolicy, RoomPrefix, Secret};

/// A type that a key can have.
pub(super) trait Setting: Clone + PartialEq + 'static {
    /// Whether a list of these may be written as `off`.
    const LIST_OFF: bool = false;

    /// Reads it; the error says what would be right.
    fn read(value: &Value) -> Result<Self, String>;

    /// The TOML value that a file would hold for this text of a variable or flag.
    fn from_text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    /// The same for a list of these: separated by commas.
    fn list_from_text(text: &str) -> Value {
        if Self::LIST_OFF && text.trim() == "off" {
            return Value::String("off".to_owned());
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Value::Array(items.map(Self::from_text).collect())
    }

    /// The TOML value that reads back as this one; secrets are masked.
    fn show(&self) -> Value;
}

/// How a masked secret is printed.
const MASK: &str = "********";

fn text(value: &Value, example: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("{value} is not text: write it in quotes, {example}")),
    }
}

impl Setting for String {
    fn read(value: &Value) -> Result<String, String> {
        text(value, "\"like this\"")
    }

    fn show(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Setting for PathBuf {
    fn read(value: &Value) -> Result<PathBuf, String> {
        text(value, "\"/etc/fanfare/file\"").map(PathBuf::from)
    }

    fn show(&self) -> Value {
        Value::String(self.to_string_lossy().into_owned())
    }
}

impl Setting for Secret {
    fn read(value: &Value) -> Result<Secret, String> {
        match value {
            Value::String(text) => Ok(Secret::new(text.clone())),
            _ => Err("is not text: write it in quotes".to_owned()),
        }
    }

    fn show(&self) -> Value {
        Value::String(if self.is_empty() { String::new() } else { MASK.to_owned() })
    }
}

impl Setting for bool {
    fn read(value: &Value) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
    }

    fn from_text(text: &str) -> Value {
        text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean)
    }

    fn show(&self) -> Value {
        Value::Boolean(*self)
    }
}

fn integer_from_text(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
}

fn integer(value: &Value, most: u64) -> Result<u64, String> {
    let number = value.as_integer().ok_or_else(|| format!("{value} is not a whole number"))?;
    u64::try_from(number)
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("{number} is out of range: write a number from 0 to {most}"))
}

/// Sizes and counts are far below this; it keeps sums of them from overflowing.
const LARGEST: u64 = 1 << 40;

impl Setting for usize {
    fn read(value: &Value) -> Result<usize, String> {
        let most = LARGEST.min(usize::MAX as u64);
        integer(value, most).map(|number| number as usize)
    }

    fn from_text(text: &str) -> Value {
        integer_from_text(text)
    }

    fn show(&self) -> Value {
        Value::Integer(*self as i64)
    }
}

impl Setting for u32 {
    fn read(value: &Value) -> Result<u32, String> {
        integer(value, u64::from(u32::MAX)).map(|number| number as u32)
    }

    fn from_text(text: &str) -> Value {
        integer_from_text(text)
    }

    fn show(&self) -> Value {
        Value::Integer(i64::from(*self))
    }
}

fn is_off(value: &Value) -> bool {
    value.as_str() == Some("off")
}

/// A count for which 0 means "off", and may be written so.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct CountOrOff(pub(super) u32);

impl Setting for CountOrOff {
    fn read(value: &Value) -> Result<CountOrOff, String> {
        if is_off(value) {
            return Ok(CountOrOff(0));
        }
        u32::read(value).map(CountOrOff).map_err(|wrong| format!("{wrong}; or \"off\""))
    }

    fn from_text(text: &str) -> Value {
        integer_from_text(text)
    }

    fn show(&self) -> Value {
        if self.0 == 0 { Value::String("off".to_owned()) } else { self.0.show() }
    }
}

impl Setting for Duration {
    fn read(value: &Value) -> Result<Duration, String> {
        match value {
            Value::String(text) => parse_duration(text),
            _ => Err(format!("{value} is not a duration: write it in quotes and with a unit, \"{value}s\"")),
        }
    }

    fn show(&self) -> Value {
        Value::String(format_duration(*self))
    }
}

impl Setting for Option<Duration> {
    fn read(value: &Value) -> Result<Option<Duration>, String> {
        if is_off(value) {
            return Ok(None);
        }
        Duration::read(value).map(Some).map_err(|wrong| format!("{wrong}; or \"off\""))
    }

    fn show(&self) -> Value {
        self.map_or_else(|| Value::String("off".to_owned()), |duration| duration.show())
    }
}

impl Setting for Rate {
    const LIST_OFF: bool = true;

    fn read(value: &Value) -> Result<Rate, String> {
        match value {
            Value::String(text) => text.parse(),
            _ => Err(format!("{value} is not a rate: write \"COUNT/PERIOD\", for example \"120/10s\"")),
        }
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for Option<Rate> {
    fn read(value: &Value) -> Result<Option<Rate>, String> {
        if is_off(value) || value.as_integer() == Some(0) {
            return Ok(None);
        }
        Rate::read(value).map(Some).map_err(|wrong| format!("{wrong}; or \"off\""))
    }

    fn from_text(text: &str) -> Value {
        integer_from_text(text)
    }

    fn show(&self) -> Value {
        self.map_or_else(|| Value::String("off".to_owned()), |rate| rate.show())
    }
}

impl Setting for SocketAddr {
    fn read(value: &Value) -> Result<SocketAddr, String> {
        value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            format!(
                "{value} is not an address: write \"IP:PORT\", for example \"0.0.0.0:8080\" or \"[::]:8080\""
            )
        })
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for AddressRange {
    fn read(value: &Value) -> Result<AddressRange, String> {
        text(value, "\"10.0.0.0/8\"")?.parse()
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: &Value) -> Result<Vec<T>, String> {
        match value {
            Value::Array(items) => items.iter().map(T::read).collect(),
            value if T::LIST_OFF && is_off(value) => Ok(Vec::new()),
            value if T::LIST_OFF => Err(format!("{value} is not a list: write [{value}], or \"off\"")),
            Value::String(_) => Err("is not a list: put it in brackets, [\"…\"]".to_owned()),
            _ => Err("is not a list: write it in brackets, []".to_owned()),
        }
    }

    fn from_text(text: &str) -> Value {
        T::list_from_text(text)
    }

    fn show(&self) -> Value {
        Value::Array(self.iter().map(T::show).collect())
    }
}

/// One of a few words.
fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, choice)| *choice).ok_or_else(
        || {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("{value} is not one of {}", words.join(", "))
        },
    )
}

fn word<T: PartialEq>(choice: &T, choices: &[(&str, T)]) -> Value {
    let found = choices.iter().find(|(_, known)| known == choice);
    Value::String(found.map_or("", |(word, _)| word).to_owned())
}

const LEVELS: [(&str, LogLevel); 6] = [
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl Setting for LogLevel {
    fn read(value: &Value) -> Result<LogLevel, String> {
        choice(value, &LEVELS)
    }

    fn show(&self) -> Value {
        word(self, &LEVELS)
    }
}

const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

impl Setting for LogFormat {
    fn read(value: &Value) -> Result<LogFormat, String> {
        choice(value, &FORMATS)
    }

    fn show(&self) -> Value {
        word(self, &FORMATS)
    }
}

const POLICIES: [(&str, RoomPolicy); 2] = [("latest", RoomPolicy::Latest), ("every", RoomPolicy::Every)];

const JOINS: [(&str, RoomJoin); 3] = [
    ("authenticated", RoomJoin::Authenticated),
    ("anonymous", RoomJoin::Anonymous),
    ("owner", RoomJoin::Owner),
];

impl Setting for RoomPrefix {
    fn read(value: &Value) -> Result<RoomPrefix, String> {
        let table = value.as_table().ok_or_else(|| {
            "is a list of tables: write [[rooms]], then prefix = \"…\" and pattern = \"…\" below it"
                .to_owned()
        })?;
        let known = ["prefix", "pattern", "policy", "join"];
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("unknown key \"{key}\": an entry has {}", known.join(", ")));
        }
        let required = |key: &str| -> Result<String, String> {
            let value = table.get(key).ok_or_else(|| format!("an entry has no {key}: add {key} = \"…\""))?;
            text(value, "\"…\"").map_err(|wrong| format!("{key}: {wrong}"))
        };
        let policy = table.get("policy").map_or(Ok(RoomPolicy::default()), |value| choice(value, &POLICIES));
        let join = table.get("join").map_or(Ok(RoomJoin::default()), |value| choice(value, &JOINS));
        Ok(RoomPrefix {
            prefix: required("prefix")?,
            pattern: required("pattern")?,
            policy: policy.map_err(|wrong| format!("policy: {wrong}"))?,
            join: join.map_err(|wrong| format!("join: {wrong}"))?,
        })
    }

    /// As TOML, since commas stand inside an entry: `[{ prefix = "news", pattern = "[a-z]{2,20}" }]`.
    fn list_from_text(text: &str) -> Value {
        let document = toml::from_str::<toml::Table>(&format!("rooms = {text}"));
        let rooms = document.ok().and_then(|mut table| table.remove("rooms"));
        rooms.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn show(&self) -> Value {
        let mut table = toml::Table::new();
        table.insert("prefix".to_owned(), self.prefix.show());
        table.insert("pattern".to_owned(), self.pattern.show());
        table.insert("policy".to_owned(), word(&self.policy, &POLICIES));
        table.insert("join".to_owned(), word(&self.join, &JOINS));
        Value::Table(table)
    }
}
