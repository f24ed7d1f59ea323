//! Statements that change messages, and with them what each participant has unread.
//!
//! Both participants' rows say how many messages are unread and which is the newest. Every statement here leaves them as a
//! recount would find them (`history::miscounts`).

use rusqlite::{Connection, OptionalExtension, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::cache::Pair;
use super::conversation::{find, find_own, know};
use super::history;
use super::rows::{self, id, message_columns, some_text};
use super::work::{Stop, Work};
use crate::record::{Answer, Effect, Message, NewMessage, Person, Refusal};

/// Photos deleted by one [`Write::Expire`](crate::record::Write::Expire).
const EXPIRED_AT_ONCE: usize = 256;

/// What the changes of a stored message need to know of it.
struct Stored {
    number: i64,
    id: Uuid,
    sender: Option<SmolStr>,
    deleted: Option<(u64, Option<SmolStr>)>,
}

fn stored(connection: &Connection, pair: &Pair, message: Uuid) -> Result<Stored, Stop> {
    let found = connection
        .prepare_cached(
            "SELECT number, sender, deleted_at, deleted_by FROM messages WHERE id = ?1 AND conversation = ?2",
        )?
        .query_row(params![message.to_string(), pair.number], |row| {
            let (deleted_at, deleted_by): (Option<u64>, _) = (row.get(2)?, some_text(row, 3)?);
            Ok(Stored {
                number: row.get(0)?,
                id: message,
                sender: some_text(row, 1)?,
                deleted: deleted_at.map(|at| (at, deleted_by)),
            })
        })
        .optional()?;
    found.ok_or(Refusal::NotFound("message").into())
}

/// Says something in a conversation, unless the sender has said it before.
pub(super) fn send(
    work: &mut Work<'_>,
    by: Option<&Person>,
    conversation: Uuid,
    new: &NewMessage,
) -> Result<Answer, Stop> {
    let pair = match by {
        Some(person) => find_own(work.connection, work.cache, conversation, &person.id)?,
        None => find(work.connection, work.cache, conversation)?,
    };
    if let Some(name) = &new.client_message_id {
        let found = match by {
            Some(person) => repeated(work, &person.id, name)?,
            None => repeated_by_backend(work, &pair, name)?,
        };
        if let Some(message) = found {
            return Ok(Answer::Sent { message, first: false });
        }
    }
    let sender = by.map(|person| know(work, person)).transpose()?;
    let message = Message {
        id: Uuid::now_v7(),
        conversation,
        sender: sender.as_ref().map(|person| person.id.clone()),
        kind: new.kind,
        content: new.content.clone(),
        metadata: new.metadata.clone(),
        client_message_id: new.client_message_id.clone(),
        created_at: work.at,
        updated_at: work.at,
        is_read: false,
        deleted_at: None,
    };
    let number = insert(work, &pair, &message, new.ttl_seconds)?;
    let unread = count_new(work, &pair, number, message.sender.as_deref())?;
    work.effects.push(Effect::MessageNew {
        participants: pair.users,
        message: message.clone(),
        sender,
        unread,
    });
    Ok(Answer::Sent { message, first: true })
}

/// What the sender said under this name.
fn repeated(work: &mut Work<'_>, sender: &str, name: &str) -> Result<Option<Message>, Stop> {
    const SQL: &str = concat!(
        "SELECT ",
        message_columns!(),
        ", c.id FROM messages AS m JOIN conversations AS c ON c.number = m.conversation WHERE m.number = ?1"
    );
    // Nearly always there is none. In one statement with the rest, SQLite would prepare it again for each name.
    let number: Option<i64> = work
        .connection
        .prepare_cached("SELECT number FROM messages WHERE sender = ?1 AND client_message_id = ?2")?
        .query_row([sender, name], |row| row.get(0))
        .optional()?;
    let Some(number) = number else { return Ok(None) };
    let found = work
        .connection
        .prepare_cached(SQL)?
        .query_row([number], |row| {
            let conversation = id(row, 10)?;
            rows::message(row, conversation)
        })
        .optional()?;
    let Some((number, mut message)) = found else { return Ok(None) };
    let pair = find(work.connection, work.cache, message.conversation)?;
    message.is_read = history::Marks::of(work.connection, &pair)?.is_read(&message, number, sender);
    Ok(Some(message))
}

/// What a backend said under this name in this conversation.
fn repeated_by_backend(work: &Work<'_>, pair: &Pair, name: &str) -> Result<Option<Message>, Stop> {
    const SQL: &str = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages AS m WHERE m.conversation = ?1 AND m.client_message_id = ?2 AND m.sender IS NULL"
    );
    let found = work
        .connection
        .prepare_cached(SQL)?
        .query_row(params![pair.number, name], |row| rows::message(row, pair.id))
        .optional()?;
    Ok(found.map(|(_, message)| message))
}

fn insert(work: &Work<'_>, pair: &Pair, message: &Message, ttl: Option<u32>) -> Result<i64, Stop> {
    let number = work
        .connection
        .prepare_cached(
            "INSERT INTO messages (id, conversation, sender, type, content, metadata, client_message_id, created_at, \
             updated_at, ttl_seconds) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)",
        )?
        .insert(params![
            message.id.to_string(),
            pair.number,
            message.sender.as_deref(),
            message.kind.as_str(),
            &*message.content,
            message.metadata.as_deref(),
            message.client_message_id.as_deref(),
            message.created_at,
            ttl,
        ])?;
    Ok(number)
}

/// Enters a new message with both participants; tells what it left unread for those who have not said it.
fn count_new(
    work: &Work<'_>,
    pair: &Pair,
    number: i64,
    sender: Option<&str>,
) -> Result<Vec<(SmolStr, u64)>, Stop> {
    let mut statement = work.connection.prepare_cached(
        "UPDATE participants SET last_message = ?3, last_activity = max(last_activity, ?4), unread = unread + ?5 \
         WHERE user = ?1 AND conversation = ?2 RETURNING unread",
    )?;
    let mut unread = Vec::with_capacity(2);
    for user in &pair.users {
        let is_other = sender != Some(user);
        let count = statement
            .query_row(params![user.as_str(), pair.number, number, work.at, is_other], |row| row.get(0))?;
        if is_other {
            unread.push((user.clone(), count));
        }
    }
    Ok(unread)
}

/// What a participant has read.
struct Mark {
    read_up_to: i64,
    read_at: u64,
    unread: u64,
    last_message: Option<i64>,
}

/// Marks all messages up to this one as read.
pub(super) fn read(
    work: &mut Work<'_>,
    by: &Person,
    conversation: Uuid,
    message: Uuid,
) -> Result<Answer, Stop> {
    let pair = find_own(work.connection, work.cache, conversation, &by.id)?;
    let target = stored(work.connection, &pair, message)?;
    know(work, by)?;
    let mark = work
        .connection
        .prepare_cached(
            "SELECT read_up_to, read_at, unread, last_message FROM participants WHERE user = ?1 AND conversation = ?2",
        )?
        .query_row(params![by.id.as_str(), pair.number], |row| {
            Ok(Mark {
                read_up_to: row.get(0)?,
                read_at: row.get(1)?,
                unread: row.get(2)?,
                last_message: row.get(3)?,
            })
        })?;
    if target.number <= mark.read_up_to {
        return Ok(Answer::Viewed {
            conversation,
            message,
            viewed_at: mark.read_at,
            unread: mark.unread,
            first: false,
        });
    }
    let unread = still_unread(work.connection, &pair, &by.id, &mark, target.number)?;
    let viewed_at = work.at;
    let has_viewed = unread < mark.unread;
    work.connection
        .prepare_cached(
            "UPDATE participants SET read_up_to = ?3, read_at = ?4, unread = ?5 WHERE user = ?1 AND conversation = ?2",
        )?
        .execute(params![by.id.as_str(), pair.number, target.number, viewed_at, unread])?;
    work.connection
        .prepare_cached(
            "UPDATE messages SET expires_at = ?3 + ttl_seconds * 1000 WHERE conversation = ?1 AND number <= ?2 \
             AND ttl_seconds IS NOT NULL AND expires_at IS NULL AND sender IS NOT ?4",
        )?
        .execute(params![pair.number, target.number, viewed_at, by.id.as_str()])?;
    // Who has passed over nothing but his own messages has viewed nothing.
    if has_viewed {
        work.effects.push(Effect::Viewed {
            conversation,
            participants: pair.users,
            message,
            by: by.id.clone(),
            viewed_at,
            unread,
        });
    }
    Ok(Answer::Viewed { conversation, message, viewed_at, unread, first: has_viewed })
}

/// What remains unread beyond `number`. Each message is counted at most once in its life, when the mark passes it.
fn still_unread(
    connection: &Connection,
    pair: &Pair,
    user: &str,
    mark: &Mark,
    number: i64,
) -> Result<u64, Stop> {
    if mark.unread == 0 || mark.last_message.is_none_or(|last| last <= number) {
        return Ok(0);
    }
    let passed: u64 = connection
        .prepare_cached(
            "SELECT count(*) FROM messages WHERE conversation = ?1 AND deleted_at IS NULL AND number > ?2 \
             AND number <= ?3 AND sender IS NOT ?4",
        )?
        .query_row(params![pair.number, mark.read_up_to, number, user], |row| row.get(0))?;
    Ok(mark.unread.saturating_sub(passed))
}

/// Deletes a message; once more changes nothing.
pub(super) fn delete(
    work: &mut Work<'_>,
    by: &Person,
    conversation: Uuid,
    message: Uuid,
) -> Result<Answer, Stop> {
    let pair = find_own(work.connection, work.cache, conversation, &by.id)?;
    let target = stored(work.connection, &pair, message)?;
    if let Some((at, by)) = target.deleted {
        return Ok(Answer::Deleted { conversation, message, by, at, first: false });
    }
    know(work, by)?;
    erase(work, &pair, &target, Some(&by.id))?;
    Ok(Answer::Deleted { conversation, message, by: Some(by.id.clone()), at: work.at, first: true })
}

/// Takes a message's content out of the database, and the message out of what is unread and newest.
fn erase(work: &mut Work<'_>, pair: &Pair, target: &Stored, by: Option<&SmolStr>) -> Result<(), Stop> {
    let connection = work.connection;
    connection
        .prepare_cached(
            "UPDATE messages SET content = '', metadata = NULL, ttl_seconds = NULL, expires_at = NULL, updated_at = ?2, \
             deleted_at = ?2, deleted_by = ?3 WHERE number = ?1",
        )?
        .execute(params![target.number, work.at, by.map(SmolStr::as_str)])?;
    let mut discount = connection.prepare_cached(
        "UPDATE participants SET unread = unread - 1 WHERE user = ?1 AND conversation = ?2 AND read_up_to < ?3 \
         RETURNING unread",
    )?;
    let mut step_back = connection.prepare_cached(
        "UPDATE participants SET last_message = (SELECT number FROM messages WHERE conversation = ?2 \
         AND deleted_at IS NULL ORDER BY number DESC LIMIT 1) \
         WHERE user = ?1 AND conversation = ?2 AND last_message = ?3",
    )?;
    let mut unread = Vec::new();
    for user in &pair.users {
        let place = params![user.as_str(), pair.number, target.number];
        if target.sender.as_ref() != Some(user)
            && let Some(count) = discount.query_row(place, |row| row.get(0)).optional()?
        {
            unread.push((user.clone(), count));
        }
        step_back.execute(place)?;
    }
    let last = if unread.is_empty() { None } else { newest(connection, pair)? };
    work.effects.push(Effect::Deleted {
        conversation: pair.id,
        participants: pair.users.clone(),
        message: target.id,
        by: by.cloned(),
        at: work.at,
        unread,
        last: last.map(Box::new),
    });
    Ok(())
}

/// The newest message that is not deleted.
fn newest(connection: &Connection, pair: &Pair) -> Result<Option<Message>, Stop> {
    const SQL: &str = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages AS m WHERE m.conversation = ?1 AND m.deleted_at IS NULL ORDER BY m.number DESC LIMIT 1"
    );
    let found = connection
        .prepare_cached(SQL)?
        .query_row([pair.number], |row| rows::message(row, pair.id))
        .optional()?;
    Ok(found.map(|(_, message)| message))
}

/// Notes that a message has reached a connection of its recipient.
pub(super) fn delivered(
    work: &mut Work<'_>,
    to: &str,
    conversation: Uuid,
    message: Uuid,
) -> Result<Answer, Stop> {
    let pair = find_own(work.connection, work.cache, conversation, to)?;
    let target = stored(work.connection, &pair, message)?;
    if target.sender.as_deref() == Some(to) {
        return Ok(Answer::Delivered { first: false });
    }
    let changed = work
        .connection
        .prepare_cached("UPDATE messages SET delivered_at = ?2 WHERE number = ?1 AND delivered_at IS NULL")?
        .execute(params![target.number, work.at])?;
    if let Some(sender) = target.sender.filter(|_| changed > 0) {
        let delivered_at = work.at;
        work.effects.push(Effect::Delivered { conversation, message, sender, delivered_at });
    }
    Ok(Answer::Delivered { first: changed > 0 })
}

/// Deletes photos whose time is over, the oldest first.
pub(super) fn expire(work: &mut Work<'_>) -> Result<Answer, Stop> {
    let due: Vec<(Uuid, Stored)> = work
        .connection
        .prepare_cached(
            "SELECT m.number, m.id, m.sender, c.id FROM messages AS m \
             JOIN conversations AS c ON c.number = m.conversation \
             WHERE m.expires_at <= ?1 ORDER BY m.expires_at LIMIT ?2",
        )?
        .query_map(params![work.at, EXPIRED_AT_ONCE], |row| {
            let stored =
                Stored { number: row.get(0)?, id: id(row, 1)?, sender: some_text(row, 2)?, deleted: None };
            Ok((id(row, 3)?, stored))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (conversation, photo) in &due {
        let pair = find(work.connection, work.cache, *conversation)?;
        erase(work, &pair, photo, None)?;
    }
    Ok(Answer::Expired { count: due.len() })
}

/// When the next photo is to be deleted.
pub(super) fn next_due(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached(
            "SELECT expires_at FROM messages WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()
}
