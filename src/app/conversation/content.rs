//! What a message may say (`spec/conversation.md`, "Message types" and "Safety").

use std::borrow::Cow;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::app::conversation::Refused;
use crate::app::string;
use crate::app::wire::Object;
use crate::close::ErrorCode;
use crate::filter::filter;
use crate::limits::NAME_BYTES;
use crate::proto::json::Raw;
use crate::record::{MessageType, NewMessage};
use crate::settings::FilterSettings;

/// Most characters of a text, and of what else is for people to read, Unicode scalar values.
pub(in crate::app) const TEXT_CHARS: usize = 2_000;
/// Longest address of a picture, bytes: what browsers and servers agree to take.
const URL_BYTES: usize = 2_048;
/// Largest picture, bytes.
const PHOTO_BYTES: f64 = (10 * 1024 * 1024) as f64;
/// How long an ephemeral photo is there once it was seen, seconds.
const TTL: std::ops::RangeInclusive<u64> = 1..=60;
/// The same where nothing is said.
const DEFAULT_TTL: u32 = 10;

/// The fields of a message as they came. A `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub kind: Option<Raw<'a>>,
    pub content: Option<Raw<'a>>,
    pub metadata: Option<Raw<'a>>,
    pub client_message_id: Option<Raw<'a>>,
}

/// Who says it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Author<'a> {
    /// A client, whose words are masked as the settings say.
    Client(&'a FilterSettings),
    /// A backend.
    Backend,
}

impl Fields<'_> {
    /// The message, if it may be said.
    pub(super) fn check(self, author: Author<'_>) -> Result<NewMessage, Refused> {
        let kind = self.kind(author)?;
        let metadata = match self.metadata.filter(|metadata| !metadata.is_null()) {
            Some(metadata) if metadata.is_object() => metadata,
            Some(_) => return Err(Refused::field("metadata", "metadata is an object")),
            None => Raw::EMPTY_OBJECT,
        };
        let content = self.content(kind)?;
        let is_opaque = metadata.get("encrypted").and_then(Raw::as_bool) == Some(true);
        if !is_opaque {
            check_content(kind, &content)?;
            check_metadata(kind, metadata)?;
        }
        let ttl_seconds = match kind {
            MessageType::PhotoEphemeral => Some(ttl(metadata)?),
            _ => None,
        };
        let (content, is_masked) = match author {
            Author::Client(settings) if !is_opaque && has_words(kind) => filter(&content, settings),
            _ => (Cow::Borrowed(&*content), false),
        };
        Ok(NewMessage {
            kind,
            content: Arc::from(&*content),
            metadata: with_notes(metadata, is_masked, ttl_seconds),
            client_message_id: self.client_message_id()?,
            ttl_seconds,
        })
    }

    fn kind(self, author: Author<'_>) -> Result<MessageType, Refused> {
        const TYPES: &str = "type is text, photo, photo_ephemeral, location or gift";
        let Some(kind) = self.kind.and_then(Raw::as_str) else {
            return Err(Refused::field("type", TYPES));
        };
        match (MessageType::named(&kind), author) {
            (Some(MessageType::System), Author::Client(_)) => {
                let error = "only backends send system messages: send another type";
                Err(Refused { code: ErrorCode::InvalidMessageType, ..Refused::field("type", error) })
            }
            (Some(kind), _) => Ok(kind),
            (None, _) => {
                Err(Refused { code: ErrorCode::InvalidMessageType, ..Refused::field("type", TYPES) })
            }
        }
    }

    /// A location and a gift say all in their metadata.
    fn content(&self, kind: MessageType) -> Result<Cow<'_, str>, Refused> {
        match self.content.filter(|content| !content.is_null()) {
            Some(content) => content.as_str().ok_or_else(|| Refused::field("content", "content is a string")),
            None if matches!(kind, MessageType::Location | MessageType::Gift) => Ok(Cow::Borrowed("")),
            None => Err(Refused::field("content", "content is missing: say something")),
        }
    }

    fn client_message_id(self) -> Result<Option<SmolStr>, Refused> {
        let Some(id) = self.client_message_id.filter(|id| !id.is_null()) else { return Ok(None) };
        id.as_str()
            .filter(|id| (1..=NAME_BYTES).contains(&id.len()) && !id.chars().any(char::is_control))
            .map(|id| Some(SmolStr::new(id)))
            .ok_or_else(|| {
                let error = "client_message_id is a string of 1 to 128 bytes without control characters";
                Refused::field("client_message_id", error)
            })
    }
}

/// Whether the content is for people to read: all but the addresses of pictures.
const fn has_words(kind: MessageType) -> bool {
    !matches!(kind, MessageType::Photo | MessageType::PhotoEphemeral)
}

fn check_content(kind: MessageType, content: &str) -> Result<(), Refused> {
    match kind {
        MessageType::Text | MessageType::System if content.trim().is_empty() => {
            Err(Refused::field("content", "content is empty: say something"))
        }
        // Bytes are at least as many as characters, so most texts need no counting.
        _ if has_words(kind) && content.len() > TEXT_CHARS && content.chars().count() > TEXT_CHARS => {
            Err(Refused::field("content", "a text has at most 2000 characters"))
        }
        MessageType::Photo | MessageType::PhotoEphemeral if !is_web_address(content) => {
            Err(Refused::field("content", "the content of a photo is its http or https address"))
        }
        _ => Ok(()),
    }
}

/// Whether the text is an absolute http or https address (RFC 3986 §3) with a host, in characters that one may have.
pub(in crate::app) fn is_web_address(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(c);
    is_web
        && text.len() <= URL_BYTES
        && !host.is_empty()
        && !host.starts_with(':')
        && !text.contains(is_foreign)
}

fn check_metadata(kind: MessageType, metadata: Raw<'_>) -> Result<(), Refused> {
    match kind {
        MessageType::Photo | MessageType::PhotoEphemeral => match present(metadata, "size") {
            Some(size) if !size.as_f64().is_some_and(|size| (0.0..=PHOTO_BYTES).contains(&size)) => {
                Err(Refused::field("metadata.size", "a photo has at most 10 MB: 10485760 bytes"))
            }
            _ => Ok(()),
        },
        MessageType::Location => {
            within(metadata, "latitude", 90.0, ("metadata.latitude", "latitude is a number from -90 to 90"))?;
            within(
                metadata,
                "longitude",
                180.0,
                ("metadata.longitude", "longitude is a number from -180 to 180"),
            )
        }
        MessageType::Gift => {
            let is_named = match present(metadata, "gift_id") {
                Some(id) if id.is_string() => string(metadata, "gift_id").is_some_and(|id| !id.is_empty()),
                Some(id) => id.is_number(),
                None => false,
            };
            match is_named {
                true => Ok(()),
                false => Err(Refused::field("metadata.gift_id", "gift_id is missing: name the gift")),
            }
        }
        MessageType::Text | MessageType::System => Ok(()),
    }
}

/// A number of degrees.
fn within(
    metadata: Raw<'_>,
    key: &str,
    most: f64,
    (field, error): (&'static str, &'static str),
) -> Result<(), Refused> {
    match present(metadata, key).and_then(Raw::as_f64) {
        Some(degrees) if (-most..=most).contains(&degrees) => Ok(()),
        _ => Err(Refused::field(field, error)),
    }
}

fn ttl(metadata: Raw<'_>) -> Result<u32, Refused> {
    let Some(ttl) = present(metadata, "ttl_seconds") else { return Ok(DEFAULT_TTL) };
    ttl.as_u64()
        .filter(|ttl| TTL.contains(ttl))
        .and_then(|ttl| u32::try_from(ttl).ok())
        .ok_or_else(|| Refused::field("metadata.ttl_seconds", "ttl_seconds is an integer from 1 to 60"))
}

fn present<'a>(metadata: Raw<'a>, key: &str) -> Option<Raw<'a>> {
    metadata.get(key).filter(|value| !value.is_null())
}

/// The metadata as it was written, with what is noted in it: that the content was masked, and how long a photo is there
/// where the sender left that open. `None`: there is none.
fn with_notes(metadata: Raw<'_>, is_masked: bool, ttl_seconds: Option<u32>) -> Option<Arc<str>> {
    let ttl_seconds = ttl_seconds.filter(|_| present(metadata, "ttl_seconds").is_none());
    if !is_masked && ttl_seconds.is_none() {
        return metadata.members().next().map(|_| Arc::from(metadata.text()));
    }
    let mut noted = Vec::new();
    Object::write(&mut noted, |object| {
        let is_noted =
            |key: &str| (is_masked && key == "filtered") || (ttl_seconds.is_some() && key == "ttl_seconds");
        for (key, value) in metadata.members().filter(|(key, _)| !is_noted(key)) {
            object.raw(&key, value);
        }
        if is_masked {
            object.put("filtered", true);
        }
        if let Some(ttl) = ttl_seconds {
            object.put("ttl_seconds", ttl);
        }
    });
    String::from_utf8(noted).ok().map(Arc::from)
}
