//! Statements that only read sessions of `support`. Each walks an index, and none sorts (`tests::support_plans`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::{Stored, blocks_within, find, part};
use crate::record::support::{
    Caller, ChatMessage, ChatParticipant, ChatSession, ChatType, File, NewChatMessage, Progress, Role,
    SupportAnswer, SupportQuery,
};
use crate::record::{Answer, Refusal};
use crate::store::rows::{id, some_text, text};
use crate::store::work::Stop;

/// What a session's columns are in a list.
macro_rules! listed {
    ($numbers:literal) => {
        concat!(
            "SELECT s.number, s.id, s.title, s.initiator, s.assigned_agent, s.created_at, s.started_at, s.closed_at, \
             s.messages FROM (",
            $numbers,
            ") AS l CROSS JOIN support_sessions AS s ON s.number = l.number ORDER BY l.number DESC"
        )
    };
}

/// `?2`: 1 for sessions that are closed, 0 for those that are not, NULL for all.
pub(in crate::store) const OWN: &str = listed!(
    "SELECT p.session AS number FROM support_participants AS p \
     CROSS JOIN support_sessions AS o ON o.number = p.session \
     WHERE p.user = ?1 AND (?2 IS NULL OR (o.closed_at IS NOT NULL) = ?2) ORDER BY p.session DESC LIMIT ?3 OFFSET ?4"
);
/// An agent's own, and those that nobody was given.
pub(in crate::store) const AGENTS: &str = listed!(
    "SELECT p.session AS number FROM support_participants AS p \
     CROSS JOIN support_sessions AS o ON o.number = p.session \
     WHERE p.user = ?1 AND (?2 IS NULL OR (o.closed_at IS NOT NULL) = ?2) \
     UNION SELECT number FROM support_sessions WHERE assigned_agent = ?1 \
     AND (?2 IS NULL OR (closed_at IS NOT NULL) = ?2) \
     UNION SELECT number FROM support_sessions WHERE assigned_agent IS NULL \
     AND (?2 IS NULL OR (closed_at IS NOT NULL) = ?2) ORDER BY number DESC LIMIT ?3 OFFSET ?4"
);
/// What was said by those of whom `?2` wants to hear.
pub(in crate::store) const TOTAL: &str = "SELECT coalesce(sum(p.said), 0) FROM support_participants AS p WHERE p.session = ?1 \
     AND NOT EXISTS (SELECT 1 FROM support_blocks AS b WHERE b.blocker = ?2 AND b.blocked = p.user)";
/// The same of others behind the place `?3`.
pub(in crate::store) const UNREAD: &str = "SELECT coalesce(sum(p.said - coalesce((SELECT m.ordinal FROM support_messages AS m \
     WHERE m.session = p.session AND m.sender = p.user AND m.place <= ?3 ORDER BY m.place DESC LIMIT 1), 0)), 0) \
     FROM support_participants AS p WHERE p.session = ?1 AND p.user <> ?2 \
     AND NOT EXISTS (SELECT 1 FROM support_blocks AS b WHERE b.blocker = ?2 AND b.blocked = p.user)";

macro_rules! messages {
    ($condition:literal) => {
        concat!(
            "SELECT m.id, m.sender, m.type, m.content, m.reply_to, m.mentions, m.file_url, m.file_name, m.file_size, \
             m.file_type, m.created_at, m.delivered_at, m.place FROM support_messages AS m WHERE m.session = ?1 AND ",
            $condition
        )
    };
}

/// A page for one who wants to hear all: it is found without looking at what is newer.
pub(in crate::store) const PAGE: &str = messages!("m.place <= ?2 ORDER BY m.place DESC LIMIT ?3");
/// A page for one who does not.
pub(in crate::store) const PAGE_OF_SOME: &str = messages!(
    "NOT EXISTS (SELECT 1 FROM support_blocks AS b WHERE b.blocker = ?2 AND b.blocked = m.sender) \
     ORDER BY m.place DESC LIMIT ?3 OFFSET ?4"
);
pub(in crate::store) const PARTICIPANTS: &str = "SELECT id, user, role, joined_at, last_read_at FROM support_participants \
     WHERE session = ?1 ORDER BY joined_at, user";
pub(in crate::store) const MARKS: &str =
    "SELECT user, read_up_to FROM support_participants WHERE session = ?1 ORDER BY joined_at, user";

/// Answers a question.
pub(in crate::store) fn answer(connection: &Connection, query: &SupportQuery) -> Result<Answer, Stop> {
    let page = |limit: usize| limit.clamp(1, SupportQuery::MOST_OF_PAGE);
    let answer = match query {
        SupportQuery::Sessions { by, closed, limit, offset } => {
            sessions(connection, by, *closed, page(*limit), *offset)?
        }
        SupportQuery::Session { by, session } => {
            let stored = find_readable(connection, by, *session)?;
            SupportAnswer::Session(seen(connection, stored, &by.user)?)
        }
        SupportQuery::Messages { by, session, limit, offset } => {
            let stored = find_readable(connection, by, *session)?;
            SupportAnswer::Messages(messages(connection, &stored, &by.user, page(*limit), *offset)?)
        }
        SupportQuery::Participants { by, session } => {
            let stored = find_readable(connection, by, *session)?;
            SupportAnswer::Participants(participants(connection, &stored)?)
        }
    };
    Ok(Answer::Support(Box::new(answer)))
}

/// The session, which the caller may look at: a participant, or an agent.
fn find_readable(connection: &Connection, by: &Caller, session: Uuid) -> Result<Stored, Stop> {
    let stored = find(connection, session)?;
    match by.is_agent || part(connection, stored.number, &by.user)?.is_some() {
        true => Ok(stored),
        false => Err(Refusal::Forbidden.into()),
    }
}

/// A session as a user sees it.
pub(super) fn seen(connection: &Connection, stored: Stored, user: &str) -> rusqlite::Result<ChatSession> {
    let unread = match part(connection, stored.number, user)? {
        Some(part) => connection
            .prepare_cached(UNREAD)?
            .query_row(params![stored.number, user, part.read_up_to], |row| row.get(0))?,
        None => 0,
    };
    Ok(ChatSession {
        total: total(connection, stored.number, user)?,
        unread,
        id: stored.id,
        title: stored.title,
        initiator: stored.initiator,
        assigned_agent: stored.assigned_agent,
        created_at: stored.created_at,
        started_at: stored.started_at,
        closed_at: stored.closed_at,
    })
}

fn total(connection: &Connection, session: i64, user: &str) -> rusqlite::Result<u64> {
    connection.prepare_cached(TOTAL)?.query_row(params![session, user], |row| row.get(0))
}

fn sessions(
    connection: &Connection,
    by: &Caller,
    closed: Option<bool>,
    limit: usize,
    offset: u64,
) -> rusqlite::Result<SupportAnswer> {
    let sql = if by.is_agent { AGENTS } else { OWN };
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_map(params![by.user.as_str(), closed, limit, offset.min(i64::MAX as u64)], Stored::read)?
        .collect::<rusqlite::Result<Vec<Stored>>>()?;
    let list = found.into_iter().map(|stored| seen(connection, stored, &by.user));
    Ok(SupportAnswer::Sessions(list.collect::<rusqlite::Result<_>>()?))
}

fn messages(
    connection: &Connection,
    stored: &Stored,
    viewer: &str,
    limit: usize,
    offset: u64,
) -> rusqlite::Result<Vec<ChatMessage>> {
    let total = total(connection, stored.number, viewer)?;
    if offset >= total {
        return Ok(Vec::new());
    }
    let marks = Marks::of(connection, stored.number)?;
    let read = |row: &Row<'_>| message(row, stored.id, &marks);
    let mut page = match total == stored.messages {
        true => connection
            .prepare_cached(PAGE)?
            .query_map(params![stored.number, total - offset, limit], read)?
            .collect::<rusqlite::Result<Vec<_>>>()?,
        false => connection
            .prepare_cached(PAGE_OF_SOME)?
            .query_map(params![stored.number, viewer, limit, offset], read)?
            .collect::<rusqlite::Result<Vec<_>>>()?,
    };
    page.reverse();
    Ok(page)
}

/// How far each sender has been read, by each who wants to hear of him: places, the lowest first. Made once for all
/// messages of a page.
struct Marks(HashMap<SmolStr, Vec<u64>>);

impl Marks {
    fn of(connection: &Connection, session: i64) -> rusqlite::Result<Marks> {
        let mut statement = connection.prepare_cached(MARKS)?;
        let read_up_to = statement
            .query_map([session], |row| Ok((text(row, 0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(SmolStr, u64)>>>()?;
        let mut blockers: HashMap<SmolStr, HashSet<SmolStr>> = HashMap::new();
        for (blocker, blocked) in blocks_within(connection, session)? {
            blockers.entry(blocked).or_default().insert(blocker);
        }
        let marks = |sender: &SmolStr| {
            let deaf = blockers.get(sender);
            let hears = |user: &SmolStr| user != sender && !deaf.is_some_and(|deaf| deaf.contains(user));
            let hearers = read_up_to.iter().filter(|(user, _)| hears(user));
            let mut marks: Vec<u64> = hearers.map(|(_, mark)| *mark).collect();
            marks.sort_unstable();
            marks
        };
        Ok(Marks(read_up_to.iter().map(|(sender, _)| (sender.clone(), marks(sender))).collect()))
    }

    /// How many others have read a message.
    fn readers(&self, sender: &SmolStr, place: u64) -> u64 {
        let not_yet = |marks: &Vec<u64>| marks.partition_point(|mark| *mark < place);
        self.0.get(sender).map_or(0, |marks| marks.len() - not_yet(marks)) as u64
    }
}

fn message(row: &Row<'_>, session: Uuid, marks: &Marks) -> rusqlite::Result<ChatMessage> {
    let wrong = |column: usize, what: String| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
    };
    let kind = text(row, 2)?;
    let kind = ChatType::named(&kind).ok_or_else(|| wrong(2, format!("{kind} is no type of a message")))?;
    let mentions = some_text(row, 5)?;
    let file = match row.get::<_, Option<Arc<str>>>(6)? {
        Some(url) => Some(File { url, name: row.get(7)?, size: row.get(8)?, kind: row.get(9)? }),
        None => None,
    };
    let reply_to = match some_text(row, 4)? {
        Some(_) => Some(id(row, 4)?),
        None => None,
    };
    let (sender, place) = (text(row, 1)?, row.get(12)?);
    let read_by = marks.readers(&sender, place);
    let delivered_at: Option<u64> = row.get(11)?;
    let progress = match (read_by, delivered_at) {
        (1.., _) => Progress::Read,
        (0, Some(_)) => Progress::Delivered,
        (0, None) => Progress::Sent,
    };
    Ok(ChatMessage {
        id: id(row, 0)?,
        session,
        sender,
        said: NewChatMessage {
            kind,
            content: row.get(3)?,
            reply_to,
            mentions: mentions.iter().flat_map(|all| all.split('\n')).map(SmolStr::new).collect(),
            file,
        },
        created_at: row.get(10)?,
        progress,
        read_by,
    })
}

fn participants(connection: &Connection, stored: &Stored) -> rusqlite::Result<Vec<ChatParticipant>> {
    let mut statement = connection.prepare_cached(PARTICIPANTS)?;
    let found = statement.query_map([stored.number], |row| {
        let role = text(row, 2)?;
        Ok(ChatParticipant {
            id: id(row, 0)?,
            user: text(row, 1)?,
            role: Role::named(&role).unwrap_or(Role::User),
            joined_at: row.get(3)?,
            is_active: stored.closed_at.is_none(),
            last_read_at: row.get(4)?,
        })
    })?;
    found.collect()
}
