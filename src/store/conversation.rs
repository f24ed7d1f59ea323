//! Statements about conversations and who takes part in them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::cache::{Cache, Pair};
use super::history;
use super::rows::{id, text};
use super::work::{Stop, Work};
use crate::record::{Answer, Effect, Person, Refusal};

const PAIR_BY_ID: &str = "SELECT number, id, first, second FROM conversations WHERE id = ?1";
const PAIR_BY_USERS: &str =
    "SELECT number, id, first, second FROM conversations WHERE first = ?1 AND second = ?2";

fn pair(row: &Row<'_>) -> rusqlite::Result<Pair> {
    Ok(Pair { number: row.get(0)?, id: id(row, 1)?, users: [text(row, 2)?, text(row, 3)?] })
}

/// The conversation with this id.
pub(super) fn find(connection: &Connection, cache: &mut Cache, id: Uuid) -> Result<Pair, Stop> {
    if let Some(pair) = cache.pair(id) {
        return Ok(pair);
    }
    let found = connection.prepare_cached(PAIR_BY_ID)?.query_row([id.to_string()], pair).optional()?;
    let pair = found.ok_or(Refusal::NotFound("conversation"))?;
    cache.keep_pair(&pair);
    Ok(pair)
}

/// The conversation with this id, in which the user takes part.
pub(super) fn find_own(
    connection: &Connection,
    cache: &mut Cache,
    id: Uuid,
    user: &str,
) -> Result<Pair, Stop> {
    let pair = find(connection, cache, id)?;
    match pair.has(user) {
        true => Ok(pair),
        false => Err(Refusal::Forbidden.into()),
    }
}

/// Makes the conversation of these two, or finds the one they have.
pub(super) fn create(
    work: &mut Work<'_>,
    by: Option<&Person>,
    participants: &[SmolStr; 2],
) -> Result<Answer, Stop> {
    let [first, second] = match participants {
        [a, b] if a == b => {
            let error = "a conversation is between two users: name another one than yourself";
            return Err(Refusal::Invalid { field: "participant_id", error }.into());
        }
        [a, b] if a > b => [b, a],
        [a, b] => [a, b],
    };
    if by.is_some_and(|person| !participants.contains(&person.id)) {
        return Err(Refusal::Forbidden.into());
    }
    if let Some(person) = by {
        know(work, person)?;
    }
    let known = work
        .connection
        .prepare_cached(PAIR_BY_USERS)?
        .query_row([first.as_str(), second], pair)
        .optional()?;
    let is_first = known.is_none();
    let pair = match known {
        Some(pair) => pair,
        None => insert(work, [first.clone(), second.clone()])?,
    };
    work.cache.keep_pair(&pair);
    let viewer = by.map(|person| person.id.as_str());
    let conversation = history::conversation(work.connection, &pair, viewer)?;
    Ok(Answer::Conversation { conversation: Box::new(conversation), first: is_first })
}

fn insert(work: &mut Work<'_>, users: [SmolStr; 2]) -> Result<Pair, Stop> {
    let id = Uuid::now_v7();
    let number = work
        .connection
        .prepare_cached("INSERT INTO conversations (id, first, second, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .insert(params![id.to_string(), users[0].as_str(), users[1].as_str(), work.at])?;
    for (user, contact) in [(&users[0], &users[1]), (&users[1], &users[0])] {
        work.connection
            .prepare_cached(
                "INSERT INTO participants (user, conversation, contact, last_activity) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![user.as_str(), number, contact.as_str(), work.at])?;
    }
    work.effects.push(Effect::ConversationNew { conversation: id, participants: users.clone() });
    Ok(Pair { number, id, users })
}

/// Remembers how a user is shown to others, and tells how he is: what his token does not say stays as it was.
pub(super) fn know(work: &mut Work<'_>, person: &Person) -> Result<Person, Stop> {
    let known = match work.cache.person(&person.id) {
        Some(known) => known,
        None => self::person(work.connection, &person.id)?,
    };
    let newest = Person {
        id: person.id.clone(),
        username: person.username.clone().or_else(|| known.username.clone()),
        avatar_url: person.avatar_url.clone().or_else(|| known.avatar_url.clone()),
    };
    if newest != known {
        work.connection
            .prepare_cached(
                "INSERT INTO people (id, username, avatar_url) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET username = excluded.username, avatar_url = excluded.avatar_url",
            )?
            .execute(params![newest.id.as_str(), newest.username.as_deref(), newest.avatar_url.as_deref()])?;
    }
    work.cache.keep_person(&newest);
    Ok(newest)
}

/// What is known of a user.
pub(super) fn person(connection: &Connection, user: &str) -> rusqlite::Result<Person> {
    let known = connection
        .prepare_cached("SELECT username, avatar_url FROM people WHERE id = ?1")?
        .query_row([user], |row| {
            let (username, avatar_url): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok(Person {
                id: user.into(),
                username: username.map(SmolStr::from),
                avatar_url: avatar_url.map(SmolStr::from),
            })
        })
        .optional()?;
    Ok(known.unwrap_or_else(|| Person::unknown(user)))
}
