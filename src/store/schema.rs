//! The tables, as numbered scripts. `PRAGMA user_version` says how many a database has had; those it lacks are run when it
//! is opened, each in a transaction of its own. A script that was released is never changed: what changes is a new script.
//!
//! Times are milliseconds since the Unix epoch. Ids that others see are UUIDs as text; `number` is their short form within
//! the database, and counts in the order of the commits.

use rusqlite::{Connection, TransactionBehavior};

use super::mobile;

/// The scripts: the first makes version 1 of nothing, and so on.
const SCRIPTS: [&str; 4] = [VERSION_1, VERSION_2, VERSION_3, mobile::TABLES];

/// The version that this program reads and writes.
pub(super) const VERSION: u32 = SCRIPTS.len() as u32;

/// Marks the file as a database of fanfare (`PRAGMA application_id`): "fanf".
pub(super) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"fanf");

const VERSION_1: &str = "
-- Users as others were last shown them.
CREATE TABLE people (
    id TEXT PRIMARY KEY,
    username TEXT,
    avatar_url TEXT
) STRICT, WITHOUT ROWID;

-- A conversation never changes; what does is in participants. first < second.
CREATE TABLE conversations (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (first, second),
    CHECK (first < second)
) STRICT;

-- A conversation as one of its two sees it.
CREATE TABLE participants (
    user TEXT NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversations (number),
    -- The other one.
    contact TEXT NOT NULL,
    last_activity INTEGER NOT NULL,
    -- The newest message that is not deleted.
    last_message INTEGER REFERENCES messages (number),
    -- All messages up to this one are read.
    read_up_to INTEGER NOT NULL DEFAULT 0,
    read_at INTEGER NOT NULL DEFAULT 0,
    -- Messages of others beyond it that are not deleted.
    unread INTEGER NOT NULL DEFAULT 0 CHECK (unread >= 0),
    PRIMARY KEY (user, conversation)
) STRICT, WITHOUT ROWID;
CREATE INDEX participants_newest ON participants (user, last_activity, conversation, contact);
CREATE INDEX participants_unread ON participants (user) WHERE unread > 0;

-- A deleted message stays as an empty row: its id and its client_message_id are taken.
CREATE TABLE messages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    conversation INTEGER NOT NULL REFERENCES conversations (number),
    -- NULL: a backend.
    sender TEXT,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT,
    client_message_id TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    delivered_at INTEGER,
    -- How long it is there once it was seen.
    ttl_seconds INTEGER,
    -- When it is to be deleted.
    expires_at INTEGER,
    deleted_at INTEGER,
    -- NULL: its time was over.
    deleted_by TEXT
) STRICT;
-- Histories, newest first: the rowid is the last column of every index.
CREATE INDEX messages_history ON messages (conversation) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX messages_client ON messages (sender, client_message_id) WHERE client_message_id IS NOT NULL;
CREATE INDEX messages_unseen ON messages (conversation) WHERE ttl_seconds IS NOT NULL AND expires_at IS NULL;
CREATE INDEX messages_due ON messages (expires_at) WHERE expires_at IS NOT NULL;

-- Users of the identity provider.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    -- The address in small letters.
    email_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    username TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The user may be one of another identity provider, and is then not in users.
CREATE TABLE refresh_tokens (
    -- SHA-256 of the token.
    hash BLOB PRIMARY KEY,
    family TEXT NOT NULL,
    user TEXT NOT NULL,
    claims TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    -- When another took its place.
    replaced_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user);
CREATE INDEX refresh_tokens_expires ON refresh_tokens (expires_at);
";

const VERSION_2: &str = "
-- What a backend says twice in a conversation under one name is said once. Before, its names were kept and not looked at.
UPDATE messages SET client_message_id = NULL WHERE sender IS NULL;
CREATE UNIQUE INDEX messages_backend ON messages (conversation, client_message_id)
    WHERE sender IS NULL AND client_message_id IS NOT NULL;
";

const VERSION_3: &str = "
-- Sessions of the app support.
CREATE TABLE support_sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    initiator TEXT NOT NULL,
    assigned_agent TEXT,
    created_at INTEGER NOT NULL,
    -- When an agent first took part.
    started_at INTEGER,
    closed_at INTEGER,
    -- How many there are, and the place of the last.
    messages INTEGER NOT NULL DEFAULT 0
) STRICT;
-- An agent's own, those of nobody.
CREATE INDEX support_sessions_agent ON support_sessions (assigned_agent, number, closed_at);

CREATE TABLE support_participants (
    user TEXT NOT NULL,
    session INTEGER NOT NULL REFERENCES support_sessions (number),
    id TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    -- Messages of this participant, and the ordinal of the last.
    said INTEGER NOT NULL DEFAULT 0,
    -- The place up to which all is read.
    read_up_to INTEGER NOT NULL DEFAULT 0,
    last_read_at INTEGER,
    PRIMARY KEY (user, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX support_participants_session ON support_participants (session, joined_at, user);

CREATE TABLE support_messages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES support_sessions (number),
    -- Which of the session's it is, from 1.
    place INTEGER NOT NULL,
    sender TEXT NOT NULL,
    -- Which of the sender's in this session it is, from 1.
    ordinal INTEGER NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    reply_to TEXT,
    -- Ids of users, one a line.
    mentions TEXT,
    file_url TEXT,
    file_name TEXT,
    file_size INTEGER,
    file_type TEXT,
    created_at INTEGER NOT NULL,
    delivered_at INTEGER,
    UNIQUE (session, place)
) STRICT;
CREATE INDEX support_messages_sender ON support_messages (session, sender, place, ordinal);

-- Users of whom others want to hear nothing.
CREATE TABLE support_blocks (
    blocker TEXT NOT NULL,
    blocked TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (blocker, blocked)
) STRICT, WITHOUT ROWID;
";

/// The version of an open database.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a database to [`VERSION`].
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    run(connection, &SCRIPTS)
}

/// Runs the scripts that the database lacks. Two programs may try at once: the second finds nothing to do.
pub(super) fn run(connection: &mut Connection, scripts: &[&str]) -> rusqlite::Result<()> {
    for (before, script) in (0u32..).zip(scripts) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&transaction)? == before {
            transaction.execute_batch(script)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", before + 1)?;
            transaction.commit()?;
        }
    }
    Ok(())
}
