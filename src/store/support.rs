//! Statements that change sessions of `support`, and those that say who takes part in them.
//!
//! Messages of a session are numbered (`place`), and those of one participant within it (`ordinal`): so what somebody has
//! not read, less what he wants to hear nothing of, is a sum over the participants and not a count of messages.

pub(super) mod read;

use rusqlite::{Connection, OptionalExtension, Row, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::rows::{id, some_text, text};
use super::work::{Stop, Work};
use crate::record::support::{
    Caller, ChatMessage, Member, NewChatMessage, Progress, Role, SupportAnswer, SupportEffect, SupportWrite,
};
use crate::record::{Answer, Effect, Refusal};

/// Participants of a session, at most: each message is handed to each of them.
const MOST_PARTICIPANTS: u64 = 64;
/// Users of whom one user wants to hear nothing, at most.
const MOST_BLOCKS: u64 = 10_000;

pub(super) const SESSION: &str = "SELECT number, id, title, initiator, assigned_agent, created_at, started_at, closed_at, messages \
     FROM support_sessions WHERE id = ?1";
pub(super) const PART: &str =
    "SELECT role, said, read_up_to, last_read_at FROM support_participants WHERE user = ?1 AND session = ?2";
pub(super) const MEMBERS: &str =
    "SELECT user FROM support_participants WHERE session = ?1 ORDER BY joined_at, user";
pub(super) const BLOCKS_WITHIN: &str = "SELECT a.user, c.user FROM support_participants AS a \
     CROSS JOIN support_participants AS c ON c.session = a.session \
     CROSS JOIN support_blocks AS b ON b.blocker = a.user AND b.blocked = c.user WHERE a.session = ?1";
pub(super) const RECIPIENTS: &str = "SELECT p.user FROM support_participants AS p WHERE p.session = ?1 \
     AND NOT EXISTS (SELECT 1 FROM support_blocks AS b WHERE b.blocker = p.user AND b.blocked = ?2)";
/// What `?3` wants to hear nothing of is not there for him.
pub(super) const PLACE: &str = "SELECT m.place, m.sender FROM support_messages AS m WHERE m.id = ?1 AND m.session = ?2 \
     AND NOT EXISTS (SELECT 1 FROM support_blocks AS b WHERE b.blocker = ?3 AND b.blocked = m.sender)";
/// The newest message behind the place `?3`, up to `?4`, of those of whom `?2` wants to hear: that of each is looked up, so
/// that it does not matter how much the others have said.
const NEWEST: &str = "SELECT m.id FROM support_messages AS m WHERE m.session = ?1 AND m.place > ?3 AND m.place = \
     (SELECT max((SELECT s.place FROM support_messages AS s WHERE s.session = p.session AND s.sender = p.user \
     AND s.place <= ?4 ORDER BY s.place DESC LIMIT 1)) FROM support_participants AS p WHERE p.session = ?1 \
     AND NOT EXISTS (SELECT 1 FROM support_blocks AS b WHERE b.blocker = ?2 AND b.blocked = p.user))";
const PARTICIPANTS: &str = "SELECT count(*) FROM support_participants WHERE session = ?1";
pub(super) const BLOCKS: &str = "SELECT count(*) FROM support_blocks WHERE blocker = ?1";

/// A session as it is stored.
pub(super) struct Stored {
    pub number: i64,
    pub id: Uuid,
    pub title: std::sync::Arc<str>,
    pub initiator: SmolStr,
    pub assigned_agent: Option<SmolStr>,
    pub created_at: u64,
    pub started_at: Option<u64>,
    pub closed_at: Option<u64>,
    /// Messages, and the place of the last.
    pub messages: u64,
}

impl Stored {
    /// A row that begins as that of [`SESSION`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
        Ok(Stored {
            number: row.get(0)?,
            id: id(row, 1)?,
            title: row.get(2)?,
            initiator: text(row, 3)?,
            assigned_agent: some_text(row, 4)?,
            created_at: row.get(5)?,
            started_at: row.get(6)?,
            closed_at: row.get(7)?,
            messages: row.get(8)?,
        })
    }
}

/// Somebody's part in a session.
pub(super) struct Part {
    pub role: Role,
    /// Messages he has said.
    pub said: u64,
    /// The place up to which he has read.
    pub read_up_to: u64,
    pub last_read_at: Option<u64>,
}

/// Carries out a change.
pub(super) fn write(work: &mut Work<'_>, write: &SupportWrite) -> Result<Answer, Stop> {
    let answer = match write {
        SupportWrite::Create { by, title, agent } => create(work, by, title, agent.as_ref())?,
        SupportWrite::Enter { by, session } => enter(work, by, *session)?,
        SupportWrite::Send { by, session, message } => send(work, by, *session, message)?,
        SupportWrite::Close { by, session } => close(work, by, *session)?,
        SupportWrite::MarkRead { by, session, message } => mark_read(work, by, *session, *message)?,
        SupportWrite::Block { user, blocked } => block(work, user, blocked)?,
        SupportWrite::Unblock { user, blocked } => unblock(work, user, blocked)?,
        SupportWrite::Delivered { message } => delivered(work, *message)?,
    };
    Ok(Answer::Support(Box::new(answer)))
}

/// The session with this id.
pub(super) fn find(connection: &Connection, session: Uuid) -> Result<Stored, Stop> {
    let found =
        connection.prepare_cached(SESSION)?.query_row([session.to_string()], Stored::read).optional()?;
    found.ok_or(Refusal::NotFound("session").into())
}

/// The user's part in a session.
pub(super) fn part(connection: &Connection, session: i64, user: &str) -> rusqlite::Result<Option<Part>> {
    let read = |row: &Row<'_>| {
        let role = text(row, 0)?;
        Ok(Part {
            role: Role::named(&role).unwrap_or(Role::User),
            said: row.get(1)?,
            read_up_to: row.get(2)?,
            last_read_at: row.get(3)?,
        })
    };
    connection.prepare_cached(PART)?.query_row(params![user, session], read).optional()
}

/// The participants in the order in which they came, each with those he wants to hear nothing of.
pub(super) fn members(connection: &Connection, session: i64) -> rusqlite::Result<Vec<Member>> {
    let mut members: Vec<Member> = users(connection, MEMBERS, params![session])?
        .into_iter()
        .map(|user| Member { user, blocks: Vec::new() })
        .collect();
    for (user, blocked) in blocks_within(connection, session)? {
        if let Some(member) = members.iter_mut().find(|member| member.user == user) {
            member.blocks.push(blocked);
        }
    }
    Ok(members)
}

/// Who of the participants wants to hear nothing of whom of them.
fn blocks_within(connection: &Connection, session: i64) -> rusqlite::Result<Vec<(SmolStr, SmolStr)>> {
    let mut statement = connection.prepare_cached(BLOCKS_WITHIN)?;
    statement.query_map([session], |row| Ok((text(row, 0)?, text(row, 1)?)))?.collect()
}

fn users(
    connection: &Connection,
    sql: &'static str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<SmolStr>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(parameters, |row| text(row, 0))?.collect()
}

fn create(
    work: &mut Work<'_>,
    by: &Caller,
    title: &str,
    agent: Option<&SmolStr>,
) -> Result<SupportAnswer, Stop> {
    let session = Uuid::now_v7();
    let number = work
        .connection
        .prepare_cached(
            "INSERT INTO support_sessions (id, title, initiator, assigned_agent, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .insert(params![
            session.to_string(),
            title,
            by.user.as_str(),
            agent.map(SmolStr::as_str),
            work.at
        ])?;
    add(work, number, &by.user, if by.is_agent { Role::Agent } else { Role::User })?;
    if let Some(agent) = agent.filter(|agent| **agent != by.user) {
        add(work, number, agent, Role::Agent)?;
    }
    let stored = find(work.connection, session)?;
    Ok(SupportAnswer::Session(read::seen(work.connection, stored, &by.user)?))
}

fn add(work: &Work<'_>, session: i64, user: &str, role: Role) -> rusqlite::Result<()> {
    work.connection
        .prepare_cached(
            "INSERT INTO support_participants (user, session, id, role, joined_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![user, session, Uuid::now_v7().to_string(), role.as_str(), work.at])
        .map(drop)
}

/// The caller's part; `None`: he is an agent who has none and may get one. Changes nothing, so that what is refused after it
/// leaves nothing behind.
fn may_take_part(work: &Work<'_>, stored: &Stored, by: &Caller) -> Result<Option<Part>, Stop> {
    let known = part(work.connection, stored.number, &by.user)?;
    if known.is_some() {
        return Ok(known);
    }
    if !by.is_agent {
        return Err(Refusal::Forbidden.into());
    }
    if stored.closed_at.is_some() {
        return Err(Refusal::Closed.into());
    }
    let count: u64 =
        work.connection.prepare_cached(PARTICIPANTS)?.query_row([stored.number], |row| row.get(0))?;
    match count < MOST_PARTICIPANTS {
        true => Ok(None),
        false => Err(Refusal::Full.into()),
    }
}

/// Makes the caller a participant if [`may_take_part`] has found no part of his.
fn take_part(
    work: &mut Work<'_>,
    stored: &Stored,
    by: &Caller,
    known: Option<Part>,
) -> rusqlite::Result<Part> {
    let is_new = known.is_none();
    let part = known.unwrap_or(Part { role: Role::Agent, said: 0, read_up_to: 0, last_read_at: None });
    if is_new {
        add(work, stored.number, &by.user, Role::Agent)?;
        tell_members(work, stored)?;
    }
    if part.role == Role::Agent && stored.started_at.is_none() && stored.closed_at.is_none() {
        work.connection
            .prepare_cached("UPDATE support_sessions SET started_at = ?2 WHERE number = ?1")?
            .execute(params![stored.number, work.at])?;
    }
    Ok(part)
}

/// Tells who takes part now.
fn tell_members(work: &mut Work<'_>, stored: &Stored) -> rusqlite::Result<()> {
    let members = members(work.connection, stored.number)?;
    let effect = SupportEffect::Members { session: stored.id, members };
    work.effects.push(Effect::Support(effect));
    Ok(())
}

fn enter(work: &mut Work<'_>, by: &Caller, session: Uuid) -> Result<SupportAnswer, Stop> {
    let stored = find(work.connection, session)?;
    let known = may_take_part(work, &stored, by)?;
    let is_known = known.is_some();
    take_part(work, &stored, by, known)?;
    if is_known {
        tell_members(work, &stored)?;
    }
    Ok(SupportAnswer::Entered { is_closed: stored.closed_at.is_some() })
}

fn send(
    work: &mut Work<'_>,
    by: &Caller,
    session: Uuid,
    new: &NewChatMessage,
) -> Result<SupportAnswer, Stop> {
    let stored = find(work.connection, session)?;
    let known = may_take_part(work, &stored, by)?;
    if stored.closed_at.is_some() {
        return Err(Refusal::Closed.into());
    }
    if let Some(reply_to) = new.reply_to {
        find_message(work.connection, &stored, &by.user, reply_to)?;
    }
    let part = take_part(work, &stored, by, known)?;
    let mut said = new.clone();
    let mut mentions = Vec::with_capacity(said.mentions.len());
    for user in said.mentions {
        if !mentions.contains(&user) && self::part(work.connection, stored.number, &user)?.is_some() {
            mentions.push(user);
        }
    }
    said.mentions = mentions;
    let message = ChatMessage {
        id: Uuid::now_v7(),
        session,
        sender: by.user.clone(),
        said,
        created_at: work.at,
        progress: Progress::Sent,
        read_by: 0,
    };
    insert(work, &stored, &part, &message)?;
    let to = users(work.connection, RECIPIENTS, params![stored.number, by.user.as_str()])?;
    work.effects.push(Effect::Support(SupportEffect::Message { to, message: message.clone() }));
    Ok(SupportAnswer::Sent(message))
}

fn insert(work: &Work<'_>, stored: &Stored, part: &Part, message: &ChatMessage) -> rusqlite::Result<()> {
    let (said, file) = (&message.said, message.said.file.as_ref());
    // Ids of users have no control characters.
    let mentions = (!said.mentions.is_empty()).then(|| said.mentions.join("\n"));
    work.connection
        .prepare_cached(
            "INSERT INTO support_messages (id, session, place, sender, ordinal, type, content, reply_to, mentions, \
             file_url, file_name, file_size, file_type, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            message.id.to_string(),
            stored.number,
            stored.messages + 1,
            message.sender.as_str(),
            part.said + 1,
            said.kind.as_str(),
            &*said.content,
            said.reply_to.map(|id| id.to_string()),
            mentions,
            file.map(|file| &*file.url),
            file.map(|file| &*file.name),
            file.and_then(|file| file.size),
            file.and_then(|file| file.kind.as_deref()),
            message.created_at,
        ])?;
    work.connection
        .prepare_cached("UPDATE support_sessions SET messages = ?2 WHERE number = ?1")?
        .execute(params![stored.number, stored.messages + 1])?;
    work.connection
        .prepare_cached("UPDATE support_participants SET said = ?3 WHERE user = ?1 AND session = ?2")?
        .execute(params![message.sender.as_str(), stored.number, part.said + 1])?;
    Ok(())
}

/// The place and the sender of a message of this session that is there for the user.
fn find_message(
    connection: &Connection,
    stored: &Stored,
    user: &str,
    message: Uuid,
) -> Result<(u64, SmolStr), Stop> {
    let found = connection
        .prepare_cached(PLACE)?
        .query_row(params![message.to_string(), stored.number, user], |row| Ok((row.get(0)?, text(row, 1)?)))
        .optional()?;
    found.ok_or(Refusal::NotFound("message").into())
}

fn close(work: &mut Work<'_>, by: &Caller, session: Uuid) -> Result<SupportAnswer, Stop> {
    let stored = find(work.connection, session)?;
    if !by.is_agent && part(work.connection, stored.number, &by.user)?.is_none() {
        return Err(Refusal::Forbidden.into());
    }
    if stored.closed_at.is_none() {
        work.connection
            .prepare_cached("UPDATE support_sessions SET closed_at = ?2 WHERE number = ?1")?
            .execute(params![stored.number, work.at])?;
        let to = users(work.connection, MEMBERS, params![stored.number])?;
        let effect = SupportEffect::Closed { session, to, by: by.user.clone(), at: work.at };
        work.effects.push(Effect::Support(effect));
    }
    Ok(SupportAnswer::Closed)
}

fn mark_read(work: &mut Work<'_>, by: &Caller, session: Uuid, message: Uuid) -> Result<SupportAnswer, Stop> {
    let stored = find(work.connection, session)?;
    let known = may_take_part(work, &stored, by)?;
    let (place, sender) = find_message(work.connection, &stored, &by.user, message)?;
    let part = take_part(work, &stored, by, known)?;
    if let Some(at) = part.last_read_at.filter(|_| place <= part.read_up_to) {
        return Ok(SupportAnswer::Read { at });
    }
    work.connection
        .prepare_cached(
            "UPDATE support_participants SET read_up_to = ?3, last_read_at = ?4 WHERE user = ?1 AND session = ?2",
        )?
        .execute(params![by.user.as_str(), stored.number, place, work.at])?;
    let mut others = users(work.connection, RECIPIENTS, params![stored.number, by.user.as_str()])?;
    others.retain(|user| *user != by.user);
    let hearers = users(work.connection, RECIPIENTS, params![stored.number, sender.as_str()])?;
    let (to, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|user| hearers.contains(user));
    let mut told = vec![(message, to)];
    // Who does not know this message is told of the newest that he knows, unless that was read before.
    for user in others {
        let newest = work
            .connection
            .prepare_cached(NEWEST)?
            .query_row(params![stored.number, user.as_str(), part.read_up_to, place], |row| id(row, 0))
            .optional()?;
        told.extend(newest.map(|message| (message, vec![user])));
    }
    for (message, to) in told {
        let effect = SupportEffect::Read { session, to, by: by.user.clone(), message, at: work.at };
        work.effects.push(Effect::Support(effect));
    }
    Ok(SupportAnswer::Read { at: work.at })
}

fn block(work: &mut Work<'_>, user: &SmolStr, blocked: &SmolStr) -> Result<SupportAnswer, Stop> {
    if user == blocked {
        let error = "name another user than yourself";
        return Err(Refusal::Invalid { field: "user_id", error }.into());
    }
    let count: u64 = work.connection.prepare_cached(BLOCKS)?.query_row([user.as_str()], |row| row.get(0))?;
    if count >= MOST_BLOCKS {
        let error = "you block 10000 users already: unblock some first";
        return Err(Refusal::Invalid { field: "user_id", error }.into());
    }
    let changed = work
        .connection
        .prepare_cached(
            "INSERT INTO support_blocks (blocker, blocked, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![user.as_str(), blocked.as_str(), work.at])?;
    tell_blocked(work, user, blocked, true, changed)
}

fn unblock(work: &mut Work<'_>, user: &SmolStr, blocked: &SmolStr) -> Result<SupportAnswer, Stop> {
    let changed = work
        .connection
        .prepare_cached("DELETE FROM support_blocks WHERE blocker = ?1 AND blocked = ?2")?
        .execute(params![user.as_str(), blocked.as_str()])?;
    tell_blocked(work, user, blocked, false, changed)
}

fn tell_blocked(
    work: &mut Work<'_>,
    user: &SmolStr,
    blocked: &SmolStr,
    is_blocked: bool,
    changed: usize,
) -> Result<SupportAnswer, Stop> {
    if changed > 0 {
        let effect = SupportEffect::Blocked { user: user.clone(), blocked: blocked.clone(), is_blocked };
        work.effects.push(Effect::Support(effect));
    }
    Ok(SupportAnswer::Done)
}

fn delivered(work: &mut Work<'_>, message: Uuid) -> Result<SupportAnswer, Stop> {
    work.connection
        .prepare_cached(
            "UPDATE support_messages SET delivered_at = ?2 WHERE id = ?1 AND delivered_at IS NULL",
        )?
        .execute(params![message.to_string(), work.at])?;
    Ok(SupportAnswer::Done)
}
