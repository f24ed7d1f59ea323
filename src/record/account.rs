//! The identity provider's users and refresh tokens (`spec/auth.md`, "Issuing tokens"). Hashing passwords and making
//! tokens is not done here.

use std::fmt;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::settings::Secret;

/// A user of the identity provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The `sub` of his tokens.
    pub id: SmolStr,
    /// The address he signs in with, as it was written.
    pub email: SmolStr,
    /// The argon2id hash of his password.
    pub password_hash: Secret,
    /// Shown to other users.
    pub username: SmolStr,
    /// The `roles` of his tokens, a JSON array.
    pub roles: Box<str>,
    /// When he was added.
    pub created_at: u64,
    /// When something of this last changed.
    pub updated_at: u64,
    /// He may not sign in.
    pub disabled: bool,
}

/// A user to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAccount {
    /// The `sub` of his tokens.
    pub id: SmolStr,
    /// His address; no other user has it, in whatever case of letters.
    pub email: SmolStr,
    /// The argon2id hash of his password.
    pub password_hash: Secret,
    /// Shown to other users.
    pub username: SmolStr,
    /// The `roles` of his tokens, a JSON array.
    pub roles: Box<str>,
}

/// The SHA-256 of a refresh token: the store never sees the token itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(********)")
    }
}

/// A refresh token that was given out at a sign-in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRefreshToken {
    /// The token.
    pub token: TokenHash,
    /// The sign-in that it comes of.
    pub family: Uuid,
    /// Whose it is: an [`Account`], or a user of another identity provider.
    pub user: SmolStr,
    /// What the access tokens of a user of another provider say beside the user, a JSON object; `None`: the user is an
    /// [`Account`].
    pub claims: Option<Box<str>>,
    /// When it ends.
    pub expires_at: u64,
}

/// A refresh token that is good.
#[derive(Clone, Debug, PartialEq)]
pub struct Refreshed {
    /// Whose it is.
    pub user: SmolStr,
    /// The sign-in that it comes of.
    pub family: Uuid,
    /// What was kept with it.
    pub claims: Option<Box<str>>,
    /// When it ends, or the one that took its place.
    pub expires_at: u64,
    /// The user as he is now; `None`: he is of another provider.
    pub account: Option<Account>,
}

/// Why a refresh token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// Nobody was given it, or it ended long ago, or its user is removed.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// Another one had taken its place: somebody has a copy. All tokens of the sign-in are taken back now.
    Reused,
    /// Its user may not sign in.
    Disabled,
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenFault::Unknown => "the refresh token is not known: sign in again",
            TokenFault::Expired => "the refresh token's time is over: sign in again",
            TokenFault::Revoked => "the refresh token was taken back: sign in again",
            TokenFault::Reused => {
                "the refresh token was used before, so all of its sign-in end: sign in again"
            }
            TokenFault::Disabled => "this user may not sign in: ask whoever runs this server",
        })
    }
}
