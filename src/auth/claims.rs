//! The parts of a token as values: its header, the claims that are read, the claims that are written.
//!
//! Unknown fields are ignored; what is read is read leniently where a claim is optional, since tokens of other
//! issuers carry claims of the same names with other meanings.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, Visitor};
use serde_json::{Map, Value};

use super::identity::{Details, RoomGrant};
use crate::limits::NAME_BYTES;

/// The fields of a JOSE header that matter (RFC 7515 §4.1).
#[derive(serde::Deserialize)]
pub(super) struct Header<'a> {
    /// Compared with the algorithms of the configured keys, never trusted.
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    /// Selects the key.
    #[serde(borrow, default)]
    pub(super) kid: Option<Cow<'a, str>>,
    /// Whether extensions are declared critical (RFC 7515 §4.1.11); none is known here.
    #[serde(default, deserialize_with = "is_present")]
    pub(super) crit: bool,
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The claim `use` of a token that opens one connection and is good for nothing else.
pub(super) const CONNECT_ONCE: &str = "websocket";

/// The claims that are read (`spec/auth.md`). The optional ones are taken as they come and looked at when the
/// signature has been verified.
#[derive(serde::Deserialize)]
pub(super) struct ReadClaims {
    pub(super) sub: Option<Subject>,
    pub(super) exp: Option<Seconds>,
    pub(super) nbf: Option<Seconds>,
    pub(super) session_exp: Option<Seconds>,
    pub(super) iss: Option<Value>,
    pub(super) aud: Option<Value>,
    pub(super) jti: Option<Value>,
    /// [`CONNECT_ONCE`] marks a single-use token.
    #[serde(rename = "use")]
    pub(super) purpose: Option<Value>,
    username: Option<Value>,
    avatar_url: Option<Value>,
    roles: Option<Value>,
    rooms: Option<Value>,
}

impl ReadClaims {
    /// The optional claims, if there is any that says something.
    pub(super) fn details(&self) -> Option<Box<Details>> {
        let text = |claim: &Option<Value>| Some(claim.as_ref()?.as_str()?.into());
        let details = Details {
            username: text(&self.username),
            avatar_url: text(&self.avatar_url),
            agent: names(&self.roles, "agent"),
            admin: names(&self.roles, "admin"),
            rooms: entries(&self.rooms).map(RoomGrant::from_claim).collect(),
        };
        (details != Details::default()).then(|| Box::new(details))
    }
}

/// Whether a claim that is a text or a list of texts is or has this text (RFC 7519 §4.1.3).
pub(super) fn names(claim: &Option<Value>, text: &str) -> bool {
    claim.as_ref().and_then(Value::as_str) == Some(text) || entries(claim).any(|entry| entry == text)
}

fn entries(claim: &Option<Value>) -> impl Iterator<Item = &str> {
    claim.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The user: a text, or an integer as decimal text.
pub(super) struct Subject(pub(super) Arc<str>);

impl Subject {
    /// The bounds that `spec/ingest.md` puts on ids.
    fn new<E: Error>(text: &str) -> Result<Subject, E> {
        if text.is_empty() || text.len() > NAME_BYTES || text.chars().any(char::is_control) {
            return Err(E::custom("a subject is 1 to 128 bytes without control characters"));
        }
        Ok(Subject(Arc::from(text)))
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
        deserializer.deserialize_any(ClaimVisitor(PhantomData))
    }
}

/// A numeric date (RFC 7519 §2): seconds since 1970, fraction dropped; before 1970 counts as 0.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        deserializer.deserialize_any(ClaimVisitor(PhantomData))
    }
}

/// A claim made of one JSON text or number.
trait Claim: Sized {
    const EXPECTED: &'static str;

    fn from_text<E: Error>(text: &str) -> Result<Self, E>;
    fn from_integer<E: Error>(number: i128) -> Result<Self, E>;
    fn from_fraction<E: Error>(number: f64) -> Result<Self, E>;
}

impl Claim for Subject {
    const EXPECTED: &'static str = "a text or an integer";

    fn from_text<E: Error>(text: &str) -> Result<Subject, E> {
        Subject::new(text)
    }

    fn from_integer<E: Error>(number: i128) -> Result<Subject, E> {
        Subject::new(&number.to_string())
    }

    fn from_fraction<E: Error>(_: f64) -> Result<Subject, E> {
        Err(E::custom(Self::EXPECTED))
    }
}

impl Claim for Seconds {
    const EXPECTED: &'static str = "a number of seconds";

    fn from_text<E: Error>(_: &str) -> Result<Seconds, E> {
        Err(E::custom(Self::EXPECTED))
    }

    fn from_integer<E: Error>(number: i128) -> Result<Seconds, E> {
        Ok(Seconds(number.clamp(0, i128::from(u64::MAX)) as u64))
    }

    fn from_fraction<E: Error>(number: f64) -> Result<Seconds, E> {
        // The cast saturates at both ends.
        Ok(Seconds(number as u64))
    }
}

struct ClaimVisitor<T>(PhantomData<T>);

impl<T: Claim> Visitor<'_> for ClaimVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_integer(i128::from(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::from_integer(i128::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::from_fraction(number)
    }
}

/// The claims of a token to sign; see [`super::Verifier::sign`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// When it ends, Unix seconds.
    pub exp: u64,
    /// Further claims; `sub` and `exp` among them are overwritten.
    pub more: Map<String, Value>,
}
