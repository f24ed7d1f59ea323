//! Columns as the types of `record`.

use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::record::{Message, MessageType};

/// What [`message`] reads, from `messages AS m`.
macro_rules! message_columns {
    () => {
        "m.number, m.id, m.sender, m.type, m.content, m.metadata, m.client_message_id, m.created_at, m.updated_at, \
         m.deleted_at"
    };
}
pub(super) use message_columns;

/// A text.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<SmolStr> {
    Ok(row.get_ref(column)?.as_str().map_err(|error| wrong(column, error))?.into())
}

/// A text that may be missing.
pub(super) fn some_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<SmolStr>> {
    let found = row.get_ref(column)?.as_str_or_null().map_err(|error| wrong(column, error))?;
    Ok(found.map(SmolStr::from))
}

/// An id.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let found = row.get_ref(column)?.as_str().map_err(|error| wrong(column, error))?;
    Uuid::try_parse(found).map_err(|error| wrong(column, error))
}

/// A message and its number. `is_read` is for the caller to say.
pub(super) fn message(row: &Row<'_>, conversation: Uuid) -> rusqlite::Result<(i64, Message)> {
    let kind = row.get_ref(3)?.as_str().map_err(|error| wrong(3, error))?;
    let kind = MessageType::named(kind).ok_or_else(|| wrong(3, FromSqlError::InvalidType))?;
    let message = Message {
        id: id(row, 1)?,
        conversation,
        sender: some_text(row, 2)?,
        kind,
        content: row.get::<_, Arc<str>>(4)?,
        metadata: row.get::<_, Option<Arc<str>>>(5)?,
        client_message_id: some_text(row, 6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
        is_read: false,
        deleted_at: row.get(9)?,
    };
    Ok((row.get(0)?, message))
}

fn wrong(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
