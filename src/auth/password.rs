//! Passwords: their hashes (argon2id, RFC 9106, as PHC strings), and what may be one.
//!
//! It knows no accounts, and no password leaves it. Each hash takes some 20 ms and 19 MiB, so neither shards nor the
//! router may call it.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::settings::Secret;

/// Memory, KiB: what the OWASP password storage cheat sheet asks for with two passes and one lane.
const MEMORY: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;

/// Fewest characters of a new password.
pub const LEAST_CHARS: usize = 8;
/// Most characters of a new password.
pub const MOST_CHARS: usize = 256;
/// Most bytes of any password: [`MOST_CHARS`] of the longest ones.
pub const MOST_BYTES: usize = 1_024;

/// What is verified against when there is no such user, so that this takes as long. No password has this hash: it
/// was drawn, not computed.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$\
                      bm9ib2R5J3Mgc2FsdDEyMw$\
                      c2l4dHktZm91ciByYW5kb20gYnl0ZXMgLSBub25lIGg";

/// Why a text may not be a password, or was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordError {
    /// Under [`LEAST_CHARS`].
    TooShort,
    /// Over [`MOST_CHARS`] or [`MOST_BYTES`].
    TooLong,
    /// The system gives no random bytes or no memory.
    System,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordError::TooShort => {
                write!(f, "the password is too short: take at least {LEAST_CHARS} characters")
            }
            PasswordError::TooLong => {
                write!(f, "the password is too long: take at most {MOST_CHARS} characters")
            }
            PasswordError::System => {
                f.write_str("the system has no random bytes or no memory to hash the password: try again")
            }
        }
    }
}

impl std::error::Error for PasswordError {}

/// The hash of a new password, a PHC string with a salt of its own.
///
/// # Errors
/// It is too short or too long, or the system fails.
pub fn hash(password: &str) -> Result<Secret, PasswordError> {
    match password.chars().count() {
        ..LEAST_CHARS => return Err(PasswordError::TooShort),
        chars if chars > MOST_CHARS || password.len() > MOST_BYTES => return Err(PasswordError::TooLong),
        _ => {}
    }
    let hash = argon2id().and_then(|argon2| argon2.hash_password(password.as_bytes()).ok());
    hash.map(|hash| Secret::new(hash.to_string())).ok_or(PasswordError::System)
}

/// Whether `password` has this hash. Without a hash the answer is no, after the same work. A hash that cannot be read is
/// nobody's too.
pub fn verify(password: &str, hash: Option<&Secret>) -> bool {
    if password.len() > MOST_BYTES {
        return false;
    }
    let known = hash.and_then(|hash| PasswordHash::new(hash.expose()).ok());
    let is_known = known.is_some();
    let Some(hash) = known.or_else(|| PasswordHash::new(NOBODY).ok()) else { return false };
    // The parameters are those of the hash; the comparison takes the same time wherever they differ.
    let is_right =
        argon2id().is_some_and(|argon2| argon2.verify_password(password.as_bytes(), &hash).is_ok());
    is_right && is_known
}

fn argon2id() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_its_hash_and_no_other_does() {
        let hash = hash("correct horse").expect("hashed");
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
        assert!(verify("correct horse", Some(&hash)));
        assert!(!verify("correct horsf", Some(&hash)));
        assert!(!verify("", Some(&hash)));
        assert_ne!(super::hash("correct horse").expect("hashed"), hash, "each has a salt of its own");
    }

    #[test]
    fn nobody_has_a_password_and_a_broken_hash_neither() {
        let nobody = PasswordHash::new(NOBODY).expect("a hash that is computed with");
        assert!(nobody.salt.is_some() && nobody.hash.is_some());
        assert_eq!(
            Params::try_from(&nobody).expect("its parameters"),
            Params::new(MEMORY, PASSES, LANES, Some(32)).expect("ours")
        );
        assert!(!verify("password123", None));
        assert!(!verify("password123", Some(&Secret::new("password123"))));
        assert!(!verify("password123", Some(&Secret::new(""))));
    }

    #[test]
    fn the_bounds_of_a_new_password() {
        assert_eq!(hash("1234567"), Err(PasswordError::TooShort));
        assert_eq!(hash(&"a".repeat(257)), Err(PasswordError::TooLong));
        assert!(hash("pässwörd").is_ok());
        assert!(hash(&"\u{1F600}".repeat(256)).is_ok());
        assert!(!verify(&"a".repeat(MOST_BYTES + 1), None));
    }
}
