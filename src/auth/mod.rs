//! Tokens: who a client is, and what it may join.
//!
//! `spec/auth.md` is the contract. This module owns JSON Web Tokens (RFC 7519, 7515, 7518) and is the only one
//! that knows `jsonwebtoken`. It reads no clock and no socket: time is passed in, and key files are read once,
//! when a [`Verifier`] is made. It never puts a token into an error. Beside them it has what the identity provider
//! needs: passwords and refresh tokens.

mod claims;
mod identity;
mod keys;
pub mod password;
mod refresh;
#[cfg(test)]
mod tests;
mod used;
mod verifier;

use std::fmt;

pub use claims::Claims;
pub use identity::{Details, Identity, RoomGrant};
pub use refresh::{NoRandomness, new_refresh_token, refresh_token_hash};
pub use used::{Once, UsedTokens};
pub use verifier::Verifier;

use crate::close::ErrorCode;

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// There is none.
    Missing,
    /// It is wrong; what about it.
    Invalid(&'static str),
    /// It was right once.
    Expired,
}

impl AuthError {
    /// The code for the client.
    pub const fn code(self) -> ErrorCode {
        match self {
            AuthError::Missing | AuthError::Invalid(_) => ErrorCode::AuthRequired,
            AuthError::Expired => ErrorCode::TokenExpired,
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthError::Missing => f.write_str("a token is required: send one"),
            AuthError::Invalid(what) => write!(f, "the token is not valid, {what}: send a valid one"),
            AuthError::Expired => f.write_str("the token has expired: get a new one"),
        }
    }
}

impl std::error::Error for AuthError {}

/// What is wrong with the configured keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The configuration key, `auth.public_keys`.
    pub key: &'static str,
    /// What is wrong and what would be right; names the file, if it is one.
    pub message: String,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for KeyError {}
