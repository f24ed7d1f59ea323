//! Statements about the identity provider's users and refresh tokens.

use rusqlite::{Connection, OptionalExtension, Row, params};
use smol_str::SmolStr;
use uuid::Uuid;

use super::rows::{id, some_text, text};
use super::work::{Stop, Work};
use crate::record::{
    Account, Answer, NewAccount, NewRefreshToken, Query, Refreshed, Refusal, TokenFault, TokenHash,
};
use crate::settings::Secret;

/// Refresh tokens long over that go whenever one is added: more go than come.
const SWEPT_AT_ONCE: usize = 16;

macro_rules! account {
    ($condition:literal) => {
        concat!(
            "SELECT id, email, password_hash, username, roles, created_at, updated_at, disabled FROM users WHERE ",
            $condition
        )
    };
}

/// The same for all ways to write an address. Unicode, as SQLite's NOCASE is not.
fn key(email: &str) -> String {
    email.trim().to_lowercase()
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: text(row, 0)?,
        email: text(row, 1)?,
        password_hash: Secret::new(row.get::<_, String>(2)?),
        username: text(row, 3)?,
        roles: row.get(4)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
        disabled: row.get(7)?,
    })
}

fn by_email(connection: &Connection, email: &str) -> rusqlite::Result<Option<Account>> {
    connection.prepare_cached(account!("email_key = ?1"))?.query_row([key(email)], account).optional()
}

fn by_id(connection: &Connection, user: &str) -> rusqlite::Result<Option<Account>> {
    connection.prepare_cached(account!("id = ?1"))?.query_row([user], account).optional()
}

/// The user with this address.
pub(super) fn find(connection: &Connection, email: &str) -> Result<Answer, Stop> {
    Ok(Answer::FoundAccount(by_email(connection, email)?.map(Box::new)))
}

/// A page of all users.
pub(super) fn list(connection: &Connection, after: &str, limit: usize) -> Result<Answer, Stop> {
    let mut statement = connection.prepare_cached(account!("email_key > ?1 ORDER BY email_key LIMIT ?2"))?;
    let limit = limit.clamp(1, Query::MOST_OF_PAGE);
    let found = statement.query_map(params![key(after), limit], account)?;
    Ok(Answer::Accounts(found.collect::<rusqlite::Result<_>>()?))
}

/// Adds a user whose address is nobody's yet.
pub(super) fn add(work: &mut Work<'_>, new: &NewAccount) -> Result<Answer, Stop> {
    if by_email(work.connection, &new.email)?.is_some() {
        return Err(Refusal::EmailTaken.into());
    }
    if by_id(work.connection, &new.id)?.is_some() {
        let error = "another user has this id: make a new one";
        return Err(Refusal::Invalid { field: "id", error }.into());
    }
    work.connection
        .prepare_cached(
            "INSERT INTO users (id, email, email_key, password_hash, username, roles, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
        )?
        .execute(params![
            new.id.as_str(),
            new.email.trim(),
            key(&new.email),
            new.password_hash.expose(),
            new.username.as_str(),
            &*new.roles,
            work.at,
        ])?;
    existing(work, &new.email)
}

/// The user with this address as he is now.
fn existing(work: &Work<'_>, email: &str) -> Result<Answer, Stop> {
    let account = by_email(work.connection, email)?.ok_or(Refusal::NotFound("user"))?;
    Ok(Answer::Account(Box::new(account)))
}

/// Ends all refresh tokens of the user with this address.
fn revoke_tokens(work: &Work<'_>, email: &str) -> rusqlite::Result<()> {
    work.connection
        .prepare_cached(
            "UPDATE refresh_tokens SET revoked_at = ?2 WHERE revoked_at IS NULL \
             AND user = (SELECT id FROM users WHERE email_key = ?1)",
        )?
        .execute(params![key(email), work.at])?;
    Ok(())
}

/// Gives a user a new password; who signed in with the old one must do so again.
pub(super) fn set_password(work: &mut Work<'_>, email: &str, hash: &Secret) -> Result<Answer, Stop> {
    work.connection
        .prepare_cached("UPDATE users SET password_hash = ?2, updated_at = ?3 WHERE email_key = ?1")?
        .execute(params![key(email), hash.expose(), work.at])?;
    revoke_tokens(work, email)?;
    existing(work, email)
}

/// Lets a user sign in no more, or again.
pub(super) fn set_disabled(work: &mut Work<'_>, email: &str, disabled: bool) -> Result<Answer, Stop> {
    work.connection
        .prepare_cached("UPDATE users SET disabled = ?2, updated_at = ?3 WHERE email_key = ?1")?
        .execute(params![key(email), disabled, work.at])?;
    if disabled {
        revoke_tokens(work, email)?;
    }
    existing(work, email)
}

/// Removes a user and his refresh tokens; tells how he was.
pub(super) fn remove(work: &mut Work<'_>, email: &str) -> Result<Answer, Stop> {
    let account = by_email(work.connection, email)?.ok_or(Refusal::NotFound("user"))?;
    for sql in ["DELETE FROM refresh_tokens WHERE user = ?1", "DELETE FROM users WHERE id = ?1"] {
        work.connection.prepare_cached(sql)?.execute([account.id.as_str()])?;
    }
    Ok(Answer::Account(Box::new(account)))
}

/// Keeps a refresh token, unless its user has been removed or disabled since his password was checked.
pub(super) fn save_token(work: &mut Work<'_>, new: &NewRefreshToken) -> Result<Answer, Stop> {
    match by_id(work.connection, &new.user)? {
        Some(account) if account.disabled => return Err(Refusal::Token(TokenFault::Disabled).into()),
        None if new.claims.is_none() => return Err(Refusal::NotFound("user").into()),
        _ => {}
    }
    insert_token(work, new)?;
    Ok(Answer::Done)
}

fn insert_token(work: &Work<'_>, new: &NewRefreshToken) -> rusqlite::Result<()> {
    work.connection
        .prepare_cached(
            "DELETE FROM refresh_tokens WHERE hash IN \
             (SELECT hash FROM refresh_tokens WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![work.at, SWEPT_AT_ONCE])?;
    work.connection
        .prepare_cached(
            "INSERT INTO refresh_tokens (hash, family, user, claims, created_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            new.token.0,
            new.family.to_string(),
            new.user.as_str(),
            new.claims.as_deref(),
            work.at,
            new.expires_at,
        ])?;
    Ok(())
}

/// A refresh token as it is kept.
struct Kept {
    family: Uuid,
    user: SmolStr,
    claims: Option<SmolStr>,
    expires_at: u64,
    is_replaced: bool,
    is_revoked: bool,
}

fn kept(connection: &Connection, token: TokenHash) -> rusqlite::Result<Option<Kept>> {
    connection
        .prepare_cached(
            "SELECT family, user, claims, expires_at, replaced_at IS NOT NULL, revoked_at IS NOT NULL \
             FROM refresh_tokens WHERE hash = ?1",
        )?
        .query_row([token.0], |row| {
            Ok(Kept {
                family: id(row, 0)?,
                user: text(row, 1)?,
                claims: some_text(row, 2)?,
                expires_at: row.get(3)?,
                is_replaced: row.get(4)?,
                is_revoked: row.get(5)?,
            })
        })
        .optional()
}

/// Judges a refresh token that was presented, and replaces it where tokens rotate (`spec/decisions.md` 1). One that was
/// replaced before ends all that came of its sign-in: either its holder or who took the other's place is a thief.
pub(super) fn use_token(
    work: &mut Work<'_>,
    token: TokenHash,
    replacement: Option<(TokenHash, u64)>,
) -> Result<Answer, Stop> {
    let fault = |fault| Err(Refusal::Token(fault).into());
    let Some(kept) = kept(work.connection, token)? else { return fault(TokenFault::Unknown) };
    if kept.is_revoked {
        return fault(TokenFault::Revoked);
    }
    if kept.is_replaced {
        end_family(work, kept.family)?;
        return fault(TokenFault::Reused);
    }
    if kept.expires_at <= work.at {
        return fault(TokenFault::Expired);
    }
    let account = by_id(work.connection, &kept.user)?;
    match &account {
        Some(account) if account.disabled => return fault(TokenFault::Disabled),
        None if kept.claims.is_none() => return fault(TokenFault::Unknown),
        _ => {}
    }
    work.connection
        .prepare_cached("UPDATE refresh_tokens SET used_at = ?2, replaced_at = ?3 WHERE hash = ?1")?
        .execute(params![token.0, work.at, replacement.map(|_| work.at)])?;
    let mut refreshed = Refreshed {
        user: kept.user,
        family: kept.family,
        claims: kept.claims.map(|claims| claims.as_str().into()),
        expires_at: kept.expires_at,
        account,
    };
    if let Some((token, expires_at)) = replacement {
        let (family, user, claims) = (refreshed.family, refreshed.user.clone(), refreshed.claims.clone());
        insert_token(work, &NewRefreshToken { token, family, user, claims, expires_at })?;
        refreshed.expires_at = expires_at;
    }
    Ok(Answer::Refreshed(Box::new(refreshed)))
}

/// Ends all refresh tokens of a sign-in.
pub(super) fn revoke_family(work: &mut Work<'_>, family: Uuid) -> Result<Answer, Stop> {
    end_family(work, family)?;
    Ok(Answer::Done)
}

fn end_family(work: &Work<'_>, family: Uuid) -> rusqlite::Result<()> {
    work.connection
        .prepare_cached("UPDATE refresh_tokens SET revoked_at = ?2 WHERE family = ?1 AND revoked_at IS NULL")?
        .execute(params![family.to_string(), work.at])?;
    Ok(())
}
