//! Refresh tokens, and ids of single-use tokens: random bits, and the hash that is kept of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::settings::Secret;

/// Bytes of a refresh token: twice the 128 bits that `spec/decisions.md` 14 asks for.
const BYTES: usize = 32;

/// Characters of a refresh token: its bytes in base64url without padding.
const CHARS: usize = BYTES.div_ceil(3) * 4 - 1;

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

/// A new refresh token.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_refresh_token() -> Result<Secret, NoRandomness> {
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random::<BYTES>()?)))
}

/// The SHA-256 of a refresh token, which is what is kept of it; `None`: it has not the form of one. A fast hash without
/// salt is enough where there are 256 random bits.
pub fn refresh_token_hash(token: &str) -> Option<[u8; 32]> {
    let is_one = token.len() == CHARS && URL_SAFE_NO_PAD.decode(token).is_ok();
    is_one.then(|| Sha256::digest(token.as_bytes()).into())
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_their_hashes_are_sha_256() {
        let (one, two) = (new_refresh_token().expect("random"), new_refresh_token().expect("random"));
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), 43);
        assert_ne!(refresh_token_hash(one.expose()), refresh_token_hash(two.expose()));
        // What `sha256sum` says of it.
        let hash = refresh_token_hash(&"A".repeat(43)).expect("of the form");
        let text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a");
    }

    #[test]
    fn what_has_not_the_form_has_no_hash() {
        for wrong in ["", "abc", &"A".repeat(42), &"A".repeat(44), &"=".repeat(43), &"é".repeat(43)] {
            assert_eq!(refresh_token_hash(wrong), None, "{wrong}");
        }
    }
}
