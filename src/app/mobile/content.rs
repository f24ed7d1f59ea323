//! What a personal message may say, over the socket and over HTTP.

use std::borrow::Cow;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::app::conversation::content::is_web_address;
use crate::app::mobile::Refused;
use crate::app::user_id;
use crate::close::ErrorCode;
use crate::limits::NAME_BYTES;
use crate::proto::json::Raw;
use crate::record::mobile::NewPersonalMessage;

/// Most characters of a content, Unicode scalar values: half of the largest message, if each is of four bytes.
const CONTENT_CHARS: usize = 4_000;
/// Longest type, bytes: a word.
const TYPE_BYTES: usize = 32;

/// The fields of a message as they came. A `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct Fields<'a> {
    recipient: Option<Raw<'a>>,
    content: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    media_url: Option<Raw<'a>>,
    client_message_id: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    /// Those of an object.
    pub(in crate::app) fn of(object: Raw<'a>) -> Fields<'a> {
        let field = |key| object.get(key).filter(|value| !value.is_null());
        Fields {
            recipient: field("recipientId"),
            content: field("content"),
            kind: field("type"),
            media_url: field("mediaUrl"),
            client_message_id: field("clientMessageId"),
        }
    }

    /// The message, if the user may say it.
    pub(in crate::app) fn check(self, own: &str) -> Result<NewPersonalMessage, Refused> {
        let recipient = recipient(self.recipient, own)?;
        let media_url = self.media_url()?;
        let content = self.content(media_url.is_some())?;
        Ok(NewPersonalMessage {
            recipient,
            kind: self.kind(media_url.is_some())?,
            content: Arc::from(&*content),
            media_url: media_url.map(|url| Arc::from(&*url)),
            client_message_id: self.client_message_id()?,
        })
    }

    /// Words, which media need not have.
    fn content(&self, has_media: bool) -> Result<Cow<'a, str>, Refused> {
        let content = match self.content {
            Some(content) => {
                content.as_str().ok_or_else(|| Refused::field("content", "content is a string"))?
            }
            None if has_media => Cow::Borrowed(""),
            None => return Err(Refused::field("content", "content is missing: say something")),
        };
        if content.trim().is_empty() && !has_media {
            return Err(Refused::field("content", "content is empty: say something"));
        }
        // Bytes are at least as many as characters, so most texts need no counting.
        if content.len() > CONTENT_CHARS && content.chars().count() > CONTENT_CHARS {
            return Err(Refused::field("content", "content has at most 4000 characters"));
        }
        Ok(content)
    }

    /// A word of the client's; what it means clients agree on.
    fn kind(&self, has_media: bool) -> Result<SmolStr, Refused> {
        let Some(kind) = self.kind else {
            return Ok(SmolStr::new_static(if has_media { "media" } else { "text" }));
        };
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        let is_word =
            |kind: &Cow<'_, str>| (1..=TYPE_BYTES).contains(&kind.len()) && kind.bytes().all(is_letter);
        kind.as_str().filter(is_word).map(SmolStr::new).ok_or_else(|| {
            let error = "type is a word of at most 32 letters and digits, such as text or image";
            Refused { code: ErrorCode::InvalidMessageType, ..Refused::field("type", error) }
        })
    }

    fn media_url(&self) -> Result<Option<Cow<'a, str>>, Refused> {
        let Some(url) = self.media_url else { return Ok(None) };
        let error = "mediaUrl is an absolute http or https address of at most 2048 bytes";
        let url = url.as_str().filter(|url| is_web_address(url));
        url.map(Some).ok_or_else(|| Refused::field("mediaUrl", error))
    }

    fn client_message_id(&self) -> Result<Option<SmolStr>, Refused> {
        let Some(id) = self.client_message_id else { return Ok(None) };
        let is_good =
            |id: &Cow<'_, str>| (1..=NAME_BYTES).contains(&id.len()) && !id.chars().any(char::is_control);
        id.as_str().filter(is_good).map(|id| Some(SmolStr::new(id))).ok_or_else(|| {
            let error = "clientMessageId is a string of 1 to 128 bytes without control characters";
            Refused::field("clientMessageId", error)
        })
    }
}

/// The user that `recipientId` names.
pub(in crate::app) fn recipient(id: Option<Raw<'_>>, own: &str) -> Result<SmolStr, Refused> {
    let id = id.filter(|id| !id.is_null()).ok_or_else(|| {
        Refused::field("recipientId", "recipientId is missing: say to whom the message goes")
    })?;
    let id = id.as_str().map(SmolStr::new).or_else(|| user_id(id)).unwrap_or_default();
    other_user(&id, own, "recipientId")
}

/// Another user than this one.
pub(in crate::app) fn other_user(id: &str, own: &str, field: &'static str) -> Result<SmolStr, Refused> {
    if !(1..=NAME_BYTES).contains(&id.len()) || id.chars().any(char::is_control) {
        let error = "a user id has 1 to 128 bytes without control characters";
        return Err(Refused::field(field, error));
    }
    if id == own {
        return Err(Refused::field(field, "name another user than yourself"));
    }
    Ok(SmolStr::new(id))
}
