//! Statements that only read conversations and messages. Every one that may meet a long history walks an index, and
//! neither scans nor sorts it (`tests::plans`).

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::account;
use super::cache::{Cache, Pair};
use super::conversation::{find, find_own};
use super::mobile;
use super::rows::{self, id, message_columns, some_text, text};
use super::support;
use super::work::Stop;
use crate::record::{Answer, Conversation, Cursor, Message, Page, Person, Query, Refusal};

/// Photos in a list of those whose time is over.
const DUE_AT_ONCE: usize = 1_000;

/// A conversation as a participant sees it: what [`seen`] reads.
macro_rules! seen {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            message_columns!(),
            ", c.id, c.first, c.second, c.created_at, p.last_activity, p.unread, \
             p.conversation, p.read_up_to, o.read_up_to, a.username, a.avatar_url, b.username, b.avatar_url \
             FROM participants AS p ",
            $index,
            " CROSS JOIN conversations AS c ON c.number = p.conversation \
             CROSS JOIN participants AS o ON o.user = p.contact AND o.conversation = p.conversation \
             LEFT JOIN messages AS m ON m.number = p.last_message \
             LEFT JOIN people AS a ON a.id = c.first LEFT JOIN people AS b ON b.id = c.second WHERE ",
            $condition
        )
    };
}

pub(super) const ONE: &str = seen!("", "p.user = ?1 AND p.conversation = ?2");
pub(super) const NEWEST: &str = seen!(
    "",
    "p.user = ?1 AND (p.last_activity, p.conversation) < (?2, ?3) \
     ORDER BY p.last_activity DESC, p.conversation DESC LIMIT ?4"
);
/// Few of a user's conversations have unread messages: to sort these is less than to look through all.
pub(super) const UNREAD: &str = seen!(
    "INDEXED BY participants_unread",
    "p.user = ?1 AND p.unread > 0 ORDER BY p.last_activity DESC, p.conversation DESC LIMIT ?2"
);
pub(super) const PAGE: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages AS m WHERE m.conversation = ?1 AND m.deleted_at IS NULL AND m.number < ?2 \
     ORDER BY m.number DESC LIMIT ?3"
);
pub(super) const CONTACTS: &str = "SELECT contact FROM participants WHERE user = ?1 ORDER BY last_activity DESC, conversation DESC LIMIT ?2";
pub(super) const DUE: &str = "SELECT id FROM messages WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2";
const MISCOUNTS: &str = "SELECT p.user, c.id, p.unread, count(m.number) AS counted FROM participants AS p \
     JOIN conversations AS c ON c.number = p.conversation \
     LEFT JOIN messages AS m ON m.conversation = p.conversation AND m.deleted_at IS NULL AND m.number > p.read_up_to \
     AND m.sender IS NOT p.user GROUP BY p.user, p.conversation HAVING counted <> p.unread";

/// Answers a question about conversations.
pub(super) fn answer(connection: &Connection, cache: &mut Cache, query: &Query) -> Result<Answer, Stop> {
    match query {
        Query::Unread { user, limit } => {
            let limit = (*limit).min(Query::MOST_UNREAD);
            list(connection, UNREAD, user, params![user.as_str(), limit])
        }
        Query::Conversations { user, limit, before } => {
            let limit = (*limit).clamp(1, Query::MOST_OF_PAGE);
            let before = before.unwrap_or(Cursor { last_activity: LAST, conversation: LAST });
            list(
                connection,
                NEWEST,
                user,
                params![user.as_str(), before.last_activity, before.conversation, limit],
            )
        }
        Query::Contacts { user, limit } => contacts(connection, user, (*limit).min(Query::MOST_CONTACTS)),
        Query::Participants { user: Some(user), conversation } => {
            Ok(Answer::Participants(find_own(connection, cache, *conversation, user)?.users))
        }
        Query::Participants { user: None, conversation } => {
            Ok(Answer::Participants(find(connection, cache, *conversation)?.users))
        }
        Query::Messages { user, conversation, limit, before } => {
            let pair = find_own(connection, cache, *conversation, user)?;
            let limit = (*limit).clamp(1, Query::MOST_OF_PAGE);
            Ok(Answer::Messages(page(connection, &pair, user, limit, *before)?))
        }
        Query::Due { now } => due(connection, *now),
        Query::AccountByEmail { email } => account::find(connection, email),
        Query::Accounts { after, limit } => account::list(connection, after, *limit),
        Query::Mobile(query) => mobile::answer(connection, query),
        Query::Support(query) => support::read::answer(connection, query),
    }
}

/// Beyond every number that the database counts to.
const LAST: u64 = i64::MAX as u64;

/// What each of the two has read.
pub(super) struct Marks<'a> {
    users: &'a [SmolStr; 2],
    read_up_to: [i64; 2],
}

impl Marks<'_> {
    /// The marks of a conversation.
    pub(super) fn of<'a>(connection: &Connection, pair: &'a Pair) -> rusqlite::Result<Marks<'a>> {
        let mut statement = connection
            .prepare_cached("SELECT read_up_to FROM participants WHERE user = ?1 AND conversation = ?2")?;
        let mut read_up_to = [0; 2];
        for (user, mark) in pair.users.iter().zip(&mut read_up_to) {
            *mark = statement.query_row(params![user.as_str(), pair.number], |row| row.get(0))?;
        }
        Ok(Marks { users: &pair.users, read_up_to })
    }

    /// Whether the recipient has read it: the one who has not said it. What a backend has said the viewer is recipient of.
    pub(super) fn is_read(&self, message: &Message, number: i64, viewer: &str) -> bool {
        let is_recipient = |user: &SmolStr| match &message.sender {
            Some(sender) => user != sender,
            None => user == viewer,
        };
        self.users.iter().zip(self.read_up_to).any(|(user, mark)| is_recipient(user) && number <= mark)
    }
}

/// One conversation; `None`: as a backend sees it.
pub(super) fn conversation(
    connection: &Connection,
    pair: &Pair,
    viewer: Option<&str>,
) -> rusqlite::Result<Conversation> {
    let user = viewer.unwrap_or(&pair.users[0]);
    let mut conversation =
        connection.prepare_cached(ONE)?.query_row(params![user, pair.number], |row| seen(row, user))?;
    if viewer.is_none() {
        conversation.unread = 0;
    }
    Ok(conversation)
}

fn list(
    connection: &Connection,
    sql: &'static str,
    user: &str,
    parameters: impl Params,
) -> Result<Answer, Stop> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(parameters, |row| seen(row, user))?;
    Ok(Answer::Conversations(found.collect::<rusqlite::Result<_>>()?))
}

/// A row of [`ONE`], [`NEWEST`] or [`UNREAD`].
fn seen(row: &Row<'_>, viewer: &str) -> rusqlite::Result<Conversation> {
    let conversation = id(row, 10)?;
    let pair = [text(row, 11)?, text(row, 12)?];
    let (number, last_activity, read, read_by_other) =
        (row.get(16)?, row.get(14)?, row.get(17)?, row.get(18)?);
    let last_message = match row.get::<_, Option<i64>>(0)? {
        Some(_) => {
            let (number, mut message) = rows::message(row, conversation)?;
            let mark: i64 = if message.sender.as_deref() == Some(viewer) { read_by_other } else { read };
            message.is_read = number <= mark;
            Some(message)
        }
        None => None,
    };
    let [first, second] = pair;
    Ok(Conversation {
        id: conversation,
        participants: [
            Person { id: first, username: some_text(row, 19)?, avatar_url: some_text(row, 20)? },
            Person { id: second, username: some_text(row, 21)?, avatar_url: some_text(row, 22)? },
        ],
        created_at: row.get(13)?,
        last_activity,
        unread: row.get(15)?,
        last_message,
        cursor: Cursor { last_activity, conversation: number },
    })
}

fn page(
    connection: &Connection,
    pair: &Pair,
    viewer: &str,
    limit: usize,
    before: Option<Uuid>,
) -> Result<Page, Stop> {
    let before = match before {
        Some(message) => connection
            .prepare_cached("SELECT number FROM messages WHERE id = ?1 AND conversation = ?2")?
            .query_row(params![message.to_string(), pair.number], |row| row.get(0))
            .optional()?
            .ok_or(Refusal::NotFound("message"))?,
        None => i64::MAX,
    };
    let marks = Marks::of(connection, pair)?;
    let mut messages = connection
        .prepare_cached(PAGE)?
        // One more tells whether there is a next page.
        .query_map(params![pair.number, before, limit + 1], |row| {
            let (number, mut message) = rows::message(row, pair.id)?;
            message.is_read = marks.is_read(&message, number, viewer);
            Ok(message)
        })?
        .collect::<rusqlite::Result<Vec<Message>>>()?;
    let has_more = messages.len() > limit;
    messages.truncate(limit);
    let next_before = messages.last().filter(|_| has_more).map(|message| message.id);
    Ok(Page { messages, next_before })
}

fn contacts(connection: &Connection, user: &str, limit: usize) -> Result<Answer, Stop> {
    let mut statement = connection.prepare_cached(CONTACTS)?;
    let found = statement.query_map(params![user, limit], |row| text(row, 0))?;
    Ok(Answer::Contacts(found.collect::<rusqlite::Result<_>>()?))
}

fn due(connection: &Connection, now: u64) -> Result<Answer, Stop> {
    let mut statement = connection.prepare_cached(DUE)?;
    let found = statement.query_map(params![now, DUE_AT_ONCE], |row| id(row, 0))?;
    Ok(Answer::Due(found.collect::<rusqlite::Result<_>>()?))
}

/// A count that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// Whose.
    pub user: String,
    /// Of which conversation.
    pub conversation: String,
    /// The count that is kept.
    pub kept: u64,
    /// The messages that are unread.
    pub counted: u64,
}

/// Where the count that is kept is not the true one.
pub(super) fn miscounts(connection: &Connection) -> rusqlite::Result<Vec<Miscount>> {
    let mut statement = connection.prepare(MISCOUNTS)?;
    let found = statement.query_map([], |row| {
        Ok(Miscount { user: row.get(0)?, conversation: row.get(1)?, kept: row.get(2)?, counted: row.get(3)? })
    })?;
    found.collect()
}
