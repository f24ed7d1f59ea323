//! Who the connections are: one given token for all, or one user each with a
//! token signed here (HS256).

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::clock::{SECOND, unix_now};
use crate::failure::{Context, Failure};

/// How long a token made here is valid, s: longer than any run.
const LIFETIME: u64 = 24 * 3600;

/// Where tokens come from.
pub enum Tokens {
    /// No token is sent.
    None,
    /// The same for all connections.
    Fixed(String),
    /// Signed for the users `u0`, `u1`, …
    Signed { key: EncodingKey, expires: u64 },
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: u64,
}

impl Tokens {
    /// From the options `--token` and `--token-secret`.
    pub fn new(token: Option<&str>, secret: Option<&str>) -> Self {
        match (token, secret) {
            (Some(token), _) => Self::Fixed(token.to_owned()),
            (None, Some(secret)) => Self::Signed {
                key: EncodingKey::from_secret(secret.as_bytes()),
                expires: unix_now() / SECOND + LIFETIME,
            },
            (None, None) => Self::None,
        }
    }

    /// The token of connection `index`.
    pub fn of(&self, index: usize) -> Result<Option<String>, Failure> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.clone())),
            Self::Signed { key, expires } => {
                let claims = Claims { sub: format!("u{index}"), exp: *expires };
                encode(&Header::new(Algorithm::HS256), &claims, key)
                    .map(Some)
                    .context(|| "cannot sign a token with --token-secret".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_distinct_and_the_signature_holds() {
        let secret = "0123456789abcdef0123456789abcdef";
        let tokens = Tokens::new(None, Some(secret));
        let token = tokens.of(41).expect("signed").expect("token");
        let key = jsonwebtoken::DecodingKey::from_secret(secret.as_bytes());
        let mut validation = jsonwebtoken::Validation::new(Algorithm::HS256);
        validation.validate_aud = false;
        let claims =
            jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).expect("valid").claims;
        assert_eq!(claims["sub"], "u41");
        assert_ne!(tokens.of(42).expect("signed").expect("token"), token);
        assert!(Tokens::new(None, None).of(0).expect("none").is_none());
    }
}
