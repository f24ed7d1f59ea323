//! What a message of a session may say (`spec/support.md`), over the socket and over HTTP.

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::conversation::Refused;
use crate::app::conversation::content::{TEXT_CHARS, is_web_address};
use crate::close::ErrorCode;
use crate::limits::NAME_BYTES;
use crate::proto::json::Raw;
use crate::record::support::{ChatType, File, NewChatMessage};

/// Largest file, bytes (`spec/support.md`).
const FILE_BYTES: u64 = 10 * 1024 * 1024;
/// Longest name or media type of a file, characters: what file systems and RFC 6838 §4.2 allow.
const NAME_CHARS: usize = 255;
/// Most users that a message may name.
const MENTIONS: usize = 100;

/// The type of a message; `None`: it is no type of a message.
pub(in crate::app) fn kind(message: Raw<'_>) -> Option<ChatType> {
    message.get("message_type").and_then(Raw::as_str).and_then(|name| ChatType::named(&name))
}

/// The message, if it may be said.
pub(in crate::app) fn check(kind: ChatType, message: Raw<'_>) -> Result<NewChatMessage, Refused> {
    let file = match kind {
        ChatType::Text => None,
        ChatType::File | ChatType::Image => Some(file(message)?),
    };
    Ok(NewChatMessage {
        kind,
        content: content(message, file.as_ref())?,
        reply_to: reply_to(message)?,
        mentions: mentions(message)?,
        file,
    })
}

fn present<'a>(message: Raw<'a>, key: &str) -> Option<Raw<'a>> {
    message.get(key).filter(|value| !value.is_null())
}

/// A file without a text is known by its name.
fn content(message: Raw<'_>, file: Option<&File>) -> Result<Arc<str>, Refused> {
    let content = match (present(message, "content"), file) {
        (Some(content), _) => {
            content.as_str().ok_or_else(|| Refused::field("content", "content is a string"))?
        }
        (None, Some(file)) => return Ok(file.name.clone()),
        (None, None) => return Err(Refused::field("content", "content is missing: say something")),
    };
    if file.is_none() && content.trim().is_empty() {
        return Err(Refused::field("content", "content is empty: say something"));
    }
    // Bytes are at least as many as characters, so most texts need no counting.
    if content.len() > TEXT_CHARS && content.chars().count() > TEXT_CHARS {
        return Err(Refused::field("content", "content has at most 2000 characters"));
    }
    Ok(Arc::from(&*content))
}

fn reply_to(message: Raw<'_>) -> Result<Option<Uuid>, Refused> {
    let Some(id) = present(message, "reply_to_id") else { return Ok(None) };
    let id =
        id.as_str().ok_or_else(|| Refused::field("reply_to_id", "reply_to_id is the id of a message"))?;
    // Ids are ours: what is none names nothing.
    Uuid::try_parse(&id).map(Some).map_err(|_| Refused::not_found("reply_to_id", "message"))
}

fn mentions(message: Raw<'_>) -> Result<Vec<SmolStr>, Refused> {
    let wrong = || Refused::field("mentions", "mentions is a list of at most 100 ids of users");
    let Some(list) = present(message, "mentions") else { return Ok(Vec::new()) };
    if !list.is_array() || list.items().count() > MENTIONS {
        return Err(wrong());
    }
    let users = list.items().map(|user| user.as_str().map(SmolStr::new).ok_or_else(wrong));
    // What can be nobody's id is dropped as those who take no part are.
    let is_id = |user: &SmolStr| (1..=NAME_BYTES).contains(&user.len()) && !user.contains(char::is_control);
    users.filter(|user| user.as_ref().is_ok_and(is_id) || user.is_err()).collect()
}

fn file(message: Raw<'_>) -> Result<File, Refused> {
    let url = present(message, "file_url").and_then(Raw::as_str);
    let url = url
        .filter(|url| is_web_address(url))
        .ok_or_else(|| Refused::field("file_url", "file_url is the http or https address of the file"))?;
    let is_name = |text: &str| {
        !text.trim().is_empty() && text.chars().count() <= NAME_CHARS && !text.contains(char::is_control)
    };
    let name = present(message, "file_name").and_then(Raw::as_str);
    let name = name
        .filter(|name| is_name(name))
        .ok_or_else(|| Refused::field("file_name", "file_name is a text of 1 to 255 characters"))?;
    let size = match present(message, "file_size") {
        Some(size) => {
            let error = "file_size is a whole number of bytes, at most 10485760 (10 MB)";
            Some(file_size(size).ok_or_else(|| Refused::field("file_size", error))?)
        }
        None => None,
    };
    let kind = match present(message, "file_type") {
        Some(kind) => {
            let kind = kind.as_str().filter(|kind| is_name(kind)).ok_or_else(|| {
                Refused::field("file_type", "file_type is a media type, for example application/pdf")
            })?;
            Some(Arc::from(&*kind))
        }
        None => None,
    };
    Ok(File { url: Arc::from(&*url), name: Arc::from(&*name), size, kind })
}

/// A whole number, however it is written (`1.0` is an integer to JSON Schema), that is not too large.
fn file_size(size: Raw<'_>) -> Option<u64> {
    let is_size = |size: &f64| size.fract() == 0.0 && (0.0..=FILE_BYTES as f64).contains(size);
    size.as_f64().filter(is_size).map(|size| size as u64)
}

/// A type that no message has.
pub(in crate::app) fn unknown_type(types: &'static str) -> Refused {
    Refused { code: ErrorCode::InvalidMessageType, ..Refused::field("message_type", types) }
}
