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
    /// One for each.
    Each(Vec<String>),
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'a [&'a str],
}

/// Signs a token for a user with these roles, good for a day.
pub fn sign(secret: &str, sub: &str, roles: &[&str]) -> Result<String, Failure> {
    let claims = Claims { sub, exp: expiry(), roles };
    signed(&claims, &EncodingKey::from_secret(secret.as_bytes()))
}

fn signed(claims: &Claims<'_>, key: &EncodingKey) -> Result<String, Failure> {
    encode(&Header::new(Algorithm::HS256), claims, key)
        .context(|| "cannot sign a token with the secret".to_owned())
}

/// Unix seconds.
fn expiry() -> u64 {
    unix_now() / SECOND + LIFETIME
}

impl Tokens {
    /// From the options `--token` and `--token-secret`.
    pub fn new(token: Option<&str>, secret: Option<&str>) -> Self {
        match (token, secret) {
            (Some(token), _) => Self::Fixed(token.to_owned()),
            (None, Some(secret)) => {
                Self::Signed { key: EncodingKey::from_secret(secret.as_bytes()), expires: expiry() }
            }
            (None, None) => Self::None,
        }
    }

    /// The token of connection `index`.
    pub fn of(&self, index: usize) -> Result<Option<String>, Failure> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.clone())),
            Self::Signed { key, expires } => {
                let sub = format!("u{index}");
                signed(&Claims { sub: &sub, exp: *expires, roles: &[] }, key).map(Some)
            }
            Self::Each(tokens) => match tokens.get(index) {
                Some(token) => Ok(Some(token.clone())),
                None => Err(Failure::new(format!("there is no token for connection {index}"))),
            },
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
