-- A database of version 1, as the program of that version made it, with some of everything in it. It is never changed:
-- whatever version comes, such a file must be brought to it.
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

-- What a database of version 1 may hold.
INSERT INTO people VALUES ('anna', 'Anna', 'https://example.com/anna.png'), ('bert', 'Bert', NULL);
INSERT INTO conversations VALUES
    (1, '0196ee5b-0000-7000-8000-000000000001', 'anna', 'bert', 1747751400000),
    (2, '0196ee5b-0000-7000-8000-000000000002', 'anna', 'cleo', 1747751400000);
INSERT INTO messages
    (number, id, conversation, sender, type, content, metadata, client_message_id, created_at, updated_at, delivered_at,
     ttl_seconds, expires_at, deleted_at, deleted_by)
VALUES
    (1, '0196ee5b-0000-7000-8000-00000000000a', 1, 'anna', 'text', 'hello', '{"a":1}', 'c-1', 1747751400001, 1747751400001,
     1747751400002, NULL, NULL, NULL, NULL),
    (2, '0196ee5b-0000-7000-8000-00000000000b', 1, 'anna', 'text', '', NULL, 'c-2', 1747751400003, 1747751400004,
     NULL, NULL, NULL, 1747751400004, 'bert'),
    (3, '0196ee5b-0000-7000-8000-00000000000c', 1, 'anna', 'photo_ephemeral', 'https://example.com/p.jpg', NULL, NULL,
     1747751400005, 1747751400005, NULL, 60, 4102444800000, NULL, NULL),
    (4, '0196ee5b-0000-7000-8000-00000000000d', 1, NULL, 'system', 'recorded', NULL, NULL, 1747751400006, 1747751400006,
     NULL, NULL, NULL, NULL, NULL);
INSERT INTO participants (user, conversation, contact, last_activity, last_message, read_up_to, read_at, unread) VALUES
    ('anna', 1, 'bert', 1747751400006, 4, 0, 0, 1),
    ('bert', 1, 'anna', 1747751400006, 4, 3, 1747751400005, 1),
    ('anna', 2, 'cleo', 1747751400000, NULL, 0, 0, 0),
    ('cleo', 2, 'anna', 1747751400000, NULL, 0, 0, 0);
INSERT INTO users VALUES
    ('u-1', 'Anna@example.com', 'anna@example.com', '$argon2id$x', 'anna', '["agent"]', 1747751400000, 1747751400000, 0);
INSERT INTO refresh_tokens VALUES
    (x'0101010101010101010101010101010101010101010101010101010101010101', '0196ee5b-0000-7000-8000-0000000000ff', 'u-1', NULL,
     1747751400000, 1750343400000, NULL, NULL, NULL);
PRAGMA application_id = 1717661286;
PRAGMA user_version = 1;
