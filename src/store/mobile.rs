//! Statements of the app `mobile` (`spec/mobile.md`): messages between two users, how far their recipients have been given
//! them, and wallets. Every one that may meet a long history walks an index, and neither scans nor sorts it
//! (`tests::plans`).

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::rows::{id, some_text, text};
use super::work::{Stop, Work};
use crate::proto::json;
use crate::record::mobile::{
    Balance, MobileAnswer, MobileEffect, MobileQuery, MobileWrite, NewPersonalMessage, PersonalMessage,
    PersonalPage, Place, Queued, Transaction, TransactionPage,
};
use crate::record::{Answer, Effect, Query, Refusal};

/// The tables.
pub(super) const TABLES: &str = "
-- Two users who have talked to each other. first < second.
CREATE TABLE personal_pairs (
    number INTEGER PRIMARY KEY,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    UNIQUE (first, second),
    CHECK (first < second)
) STRICT;

CREATE TABLE personal_messages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    pair INTEGER NOT NULL REFERENCES personal_pairs (number),
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    media_url TEXT,
    client_message_id TEXT,
    created_at INTEGER NOT NULL
) STRICT;
-- Histories, newest first: the rowid is the last column of every index.
CREATE INDEX personal_messages_history ON personal_messages (pair);
CREATE INDEX personal_messages_received ON personal_messages (recipient);
CREATE UNIQUE INDEX personal_messages_client ON personal_messages (sender, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- Whom a user has talked to, each with the newest message.
CREATE TABLE personal_partners (
    user TEXT NOT NULL,
    pair INTEGER NOT NULL REFERENCES personal_pairs (number),
    last_message INTEGER NOT NULL REFERENCES personal_messages (number),
    PRIMARY KEY (user, pair)
) STRICT, WITHOUT ROWID;
CREATE INDEX personal_partners_newest ON personal_partners (user, last_message);

-- Up to which message a connection of a user's has shown to have what was said to him.
CREATE TABLE personal_given (
    user TEXT NOT NULL PRIMARY KEY,
    up_to INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What backends have said. balance is a JSON number or string.
CREATE TABLE wallet_balances (
    user TEXT NOT NULL,
    currency TEXT NOT NULL,
    balance TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (user, currency)
) STRICT, WITHOUT ROWID;

CREATE TABLE wallet_transactions (
    number INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    id TEXT NOT NULL,
    -- A JSON object as the backend wrote it.
    data TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (user, id)
) STRICT;
CREATE INDEX wallet_transactions_newest ON wallet_transactions (user);
";

/// Bytes of an event that tells a message, without the message's own texts: the frame's header, the event's name, the names
/// of the fields, the id and the time.
const AROUND: usize = 320;

/// What [`message`] reads, from `personal_messages AS m`.
macro_rules! columns {
    () => {
        "m.number, m.id, m.sender, m.recipient, m.type, m.content, m.media_url, m.client_message_id, m.created_at"
    };
}

const REPEATED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM personal_messages AS m WHERE m.sender = ?1 AND m.client_message_id = ?2"
);
pub(super) const NEXT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM personal_messages AS m WHERE m.recipient = ?1 AND m.number > ?2 ORDER BY m.number LIMIT 1"
);
pub(super) const NEWEST: &str = "SELECT max(number) FROM personal_messages WHERE recipient = ?1";
pub(super) const HISTORY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM personal_messages AS m WHERE m.pair = ?1 AND m.number < ?2 ORDER BY m.number DESC LIMIT ?3"
);
pub(super) const PARTNERS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM personal_partners AS p CROSS JOIN personal_messages AS m ON m.number = p.last_message \
     WHERE p.user = ?1 AND p.last_message < ?2 ORDER BY p.last_message DESC LIMIT ?3"
);
pub(super) const BALANCES: &str =
    "SELECT currency, balance, updated_at FROM wallet_balances WHERE user = ?1 ORDER BY currency LIMIT ?2";
pub(super) const TRANSACTIONS: &str =
    "SELECT id, data FROM wallet_transactions WHERE user = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3";

/// Carries out a change.
pub(super) fn carry_out(work: &mut Work<'_>, write: &MobileWrite) -> Result<Answer, Stop> {
    match write {
        MobileWrite::Send { by, message } => send(work, by, message),
        MobileWrite::Queued { user, place, bytes } => queued(work.connection, user, *place, *bytes),
        MobileWrite::Given { user, up_to } => given(work, user, *up_to),
        MobileWrite::SetBalance { user, currency, balance } => set_balance(work, user, currency, balance),
        MobileWrite::AddTransaction { user, id, data } => add_transaction(work, user, id, data),
    }
}

/// Answers a question.
pub(super) fn answer(connection: &Connection, query: &MobileQuery) -> Result<Answer, Stop> {
    match query {
        MobileQuery::Messages { user, with, limit, before } => {
            messages(connection, user, with, *limit, *before)
        }
        MobileQuery::Conversations { user, limit, before } => {
            conversations(connection, user, *limit, *before)
        }
        MobileQuery::Balances { user } => balances(connection, user),
        MobileQuery::Transactions { user, limit, before } => {
            transactions(connection, user, *limit, before.as_deref())
        }
    }
}

fn message(row: &Row<'_>) -> rusqlite::Result<PersonalMessage> {
    Ok(PersonalMessage {
        number: row.get(0)?,
        id: id(row, 1)?,
        sender: text(row, 2)?,
        recipient: text(row, 3)?,
        kind: text(row, 4)?,
        content: row.get(5)?,
        media_url: row.get(6)?,
        client_message_id: some_text(row, 7)?,
        created_at: row.get(8)?,
    })
}

/// Both, in order.
fn in_order<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    if one < other { (one, other) } else { (other, one) }
}

fn find_pair(connection: &Connection, one: &str, other: &str) -> rusqlite::Result<Option<i64>> {
    let (first, second) = in_order(one, other);
    connection
        .prepare_cached("SELECT number FROM personal_pairs WHERE first = ?1 AND second = ?2")?
        .query_row([first, second], |row| row.get(0))
        .optional()
}

fn pair(connection: &Connection, one: &str, other: &str) -> rusqlite::Result<i64> {
    if let Some(pair) = find_pair(connection, one, other)? {
        return Ok(pair);
    }
    let (first, second) = in_order(one, other);
    connection
        .prepare_cached("INSERT INTO personal_pairs (first, second) VALUES (?1, ?2)")?
        .insert([first, second])
}

/// Says something to another user, unless the sender has said it before.
fn send(work: &mut Work<'_>, by: &SmolStr, new: &NewPersonalMessage) -> Result<Answer, Stop> {
    let connection = work.connection;
    if new.recipient == *by {
        let error = "a message is for another user: name somebody else than yourself";
        return Err(Refusal::Invalid { field: "recipientId", error }.into());
    }
    if let Some(name) = &new.client_message_id {
        let mut statement = connection.prepare_cached(REPEATED)?;
        if let Some(message) = statement.query_row([by.as_str(), name], message).optional()? {
            return Ok(Answer::Mobile(MobileAnswer::Sent { message, first: false }));
        }
    }
    let pair = pair(connection, by, &new.recipient)?;
    let mut message = PersonalMessage {
        number: 0,
        id: Uuid::now_v7(),
        sender: by.clone(),
        recipient: new.recipient.clone(),
        kind: new.kind.clone(),
        content: new.content.clone(),
        media_url: new.media_url.clone(),
        client_message_id: new.client_message_id.clone(),
        created_at: work.at,
    };
    let number = connection
        .prepare_cached(
            "INSERT INTO personal_messages (id, pair, sender, recipient, type, content, media_url, client_message_id, \
             created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .insert(params![
            message.id.to_string(),
            pair,
            by.as_str(),
            message.recipient.as_str(),
            message.kind.as_str(),
            &*message.content,
            message.media_url.as_deref(),
            message.client_message_id.as_deref(),
            message.created_at,
        ])?;
    let mut partner = connection.prepare_cached(
        "INSERT INTO personal_partners (user, pair, last_message) VALUES (?1, ?2, ?3)
         ON CONFLICT (user, pair) DO UPDATE SET last_message = excluded.last_message",
    )?;
    for user in [by, &message.recipient] {
        partner.execute(params![user.as_str(), pair, number])?;
    }
    message.number = number.unsigned_abs();
    work.effects.push(Effect::Mobile(MobileEffect::Message(message.clone())));
    Ok(Answer::Mobile(MobileAnswer::Sent { message, first: true }))
}

/// What a connection is to be given next, oldest first.
fn queued(
    connection: &Connection,
    user: &str,
    place: Option<Place>,
    most_bytes: usize,
) -> Result<Answer, Stop> {
    let mut place = match place {
        Some(place) => place,
        None => first_place(connection, user)?,
    };
    let mut next = connection.prepare_cached(NEXT)?;
    let (mut messages, mut bytes, mut has_more) = (Vec::new(), 0, false);
    loop {
        if place.left == 0 {
            // The history has the rest of what came before the connection.
            place.after = place.after.max(place.until);
        }
        let found = next.query_row(params![user, place.after], message).optional()?;
        let Some(message) = found else { break };
        bytes += event_bytes(&message);
        if bytes > most_bytes && !messages.is_empty() {
            has_more = true;
            break;
        }
        place.after = message.number;
        place.left -= usize::from(message.number <= place.until);
        messages.push(message);
    }
    Ok(Answer::Mobile(MobileAnswer::Queued(Queued { messages, place, has_more })))
}

/// Where a connection begins.
fn first_place(connection: &Connection, user: &str) -> rusqlite::Result<Place> {
    let mut given = connection.prepare_cached("SELECT up_to FROM personal_given WHERE user = ?1")?;
    let after: Option<u64> = given.query_row([user], |row| row.get(0)).optional()?;
    let until: Option<u64> = connection.prepare_cached(NEWEST)?.query_row([user], |row| row.get(0))?;
    Ok(Place {
        after: after.unwrap_or_default(),
        until: until.unwrap_or_default(),
        left: MobileQuery::MOST_QUEUED,
    })
}

/// Bytes of the event that tells a message, at most.
fn event_bytes(message: &PersonalMessage) -> usize {
    let ids = json::str_bytes(&message.sender) + json::str_bytes(&message.recipient);
    AROUND
        // The pair's id has both once more, each character of which may be written as three.
        + 4 * ids
        + json::str_bytes(&message.kind)
        + json::str_bytes(&message.content)
        + message.media_url.as_deref().map_or(0, json::str_bytes)
        + message.client_message_id.as_deref().map_or(0, json::str_bytes)
}

/// Notes what a connection has shown to have.
fn given(work: &Work<'_>, user: &str, up_to: u64) -> Result<Answer, Stop> {
    work.connection
        .prepare_cached(
            "INSERT INTO personal_given (user, up_to) VALUES (?1, ?2)
             ON CONFLICT (user) DO UPDATE SET up_to = excluded.up_to WHERE excluded.up_to > up_to",
        )?
        .execute(params![user, up_to])?;
    Ok(Answer::Done)
}

/// Sets what a user has of a currency.
fn set_balance(work: &Work<'_>, user: &str, currency: &str, balance: &str) -> Result<Answer, Stop> {
    work.connection
        .prepare_cached(
            "INSERT INTO wallet_balances (user, currency, balance, updated_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user, currency) DO UPDATE SET balance = excluded.balance, updated_at = excluded.updated_at",
        )?
        .execute(params![user, currency, balance, work.at])?;
    Ok(Answer::Done)
}

/// Adds a transaction, or says more of a known one, which keeps its place.
fn add_transaction(work: &Work<'_>, user: &str, id: &str, data: &str) -> Result<Answer, Stop> {
    work.connection
        .prepare_cached(
            "INSERT INTO wallet_transactions (user, id, data, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user, id) DO UPDATE SET data = excluded.data",
        )?
        .execute(params![user, id, data, work.at])?;
    Ok(Answer::Done)
}

/// Beyond every number.
const LAST: i64 = i64::MAX;

/// What two users have said to each other.
fn messages(
    connection: &Connection,
    user: &str,
    with: &str,
    limit: usize,
    before: Option<Uuid>,
) -> Result<Answer, Stop> {
    let pair = find_pair(connection, user, with)?;
    let before = match before {
        Some(message) => connection
            .prepare_cached("SELECT number FROM personal_messages WHERE id = ?1 AND pair = ?2")?
            .query_row(params![message.to_string(), pair], |row| row.get(0))
            .optional()?
            .ok_or(Refusal::NotFound("message"))?,
        None => LAST,
    };
    let Some(pair) = pair else {
        let page = PersonalPage { messages: Vec::new(), has_more: false };
        return Ok(Answer::Mobile(MobileAnswer::Messages(page)));
    };
    let limit = limit.clamp(1, Query::MOST_OF_PAGE);
    page(connection, HISTORY, params![pair, before, limit + 1], limit)
}

/// The last message with each user he has talked to.
fn conversations(
    connection: &Connection,
    user: &str,
    limit: usize,
    before: Option<Uuid>,
) -> Result<Answer, Stop> {
    let before = match before {
        Some(message) => connection
            .prepare_cached(
                "SELECT number FROM personal_messages WHERE id = ?1 AND ?2 IN (sender, recipient)",
            )?
            .query_row(params![message.to_string(), user], |row| row.get(0))
            .optional()?
            .ok_or(Refusal::NotFound("message"))?,
        None => LAST,
    };
    let limit = limit.clamp(1, MobileQuery::MOST_PARTNERS);
    page(connection, PARTNERS, params![user, before, limit + 1], limit)
}

/// A page of one row more than `limit`, which tells whether there is another page.
fn page(
    connection: &Connection,
    sql: &'static str,
    parameters: impl Params,
    limit: usize,
) -> Result<Answer, Stop> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(parameters, message)?;
    let mut messages = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = messages.len() > limit;
    messages.truncate(limit);
    Ok(Answer::Mobile(MobileAnswer::Messages(PersonalPage { messages, has_more })))
}

/// What a user has.
fn balances(connection: &Connection, user: &str) -> Result<Answer, Stop> {
    let mut statement = connection.prepare_cached(BALANCES)?;
    let found = statement.query_map(params![user, MobileQuery::MOST_BALANCES], |row| {
        Ok(Balance { currency: text(row, 0)?, balance: row.get(1)?, updated_at: row.get(2)? })
    })?;
    Ok(Answer::Mobile(MobileAnswer::Balances(found.collect::<rusqlite::Result<_>>()?)))
}

/// A user's transactions.
fn transactions(
    connection: &Connection,
    user: &str,
    limit: usize,
    before: Option<&str>,
) -> Result<Answer, Stop> {
    let before = match before {
        Some(id) => connection
            .prepare_cached("SELECT number FROM wallet_transactions WHERE user = ?1 AND id = ?2")?
            .query_row([user, id], |row| row.get(0))
            .optional()?
            .ok_or(Refusal::NotFound("transaction"))?,
        None => LAST,
    };
    let limit = limit.clamp(1, Query::MOST_OF_PAGE);
    let mut statement = connection.prepare_cached(TRANSACTIONS)?;
    let found = statement.query_map(params![user, before, limit + 1], |row| {
        Ok(Transaction { id: text(row, 0)?, data: row.get(1)? })
    })?;
    let mut transactions = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = transactions.len() > limit;
    transactions.truncate(limit);
    Ok(Answer::Mobile(MobileAnswer::Transactions(TransactionPage { transactions, has_more })))
}
