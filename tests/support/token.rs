//! Tokens as another service would sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The secret of the tests' brokers: 64 bytes, enough for HS512.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Now, Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of one hour.
pub fn token(user: &str) -> String {
    sign(json!({ "sub": user, "exp": now() + 3600 }))
}

/// A token that ends `seconds` from now.
pub fn short_token(user: &str, seconds: i64) -> String {
    sign(json!({ "sub": user, "exp": now() as i64 + seconds }))
}

/// A token of one hour with further claims.
pub fn token_with(user: &str, claims: Value) -> String {
    let mut all = json!({ "sub": user, "exp": now() + 3600 });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    sign(all)
}

/// Signs claims with [`SECRET`] and HS256.
pub fn sign(claims: Value) -> String {
    sign_with(claims, SECRET.as_bytes(), Algorithm::HS256)
}

/// Signs claims with any secret.
pub fn sign_with(claims: Value, secret: &[u8], algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret)).unwrap()
}
