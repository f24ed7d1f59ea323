//! From the text of a token to an [`Identity`], and back for those who sign.

use jsonwebtoken::{Algorithm, EncodingKey, Header as SigningHeader, crypto, encode};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::claims::{CONNECT_ONCE, Claims, Header, ReadClaims, Seconds, Subject, names};
use super::identity::Identity;
use super::keys::{self, Key};
use super::refresh::{NoRandomness, random};
use super::used::Once;
use super::{AuthError, KeyError};
use crate::limits::TOKEN_BYTES;
use crate::settings::{AuthSettings, ExchangeSettings};

/// How far the issuer's clock may be off, seconds (`spec/auth.md`).
const LEEWAY: u64 = 5;

/// Verifies tokens against a fixed set of keys. Made once, shared by all shards, replaced whole when the
/// configuration is read again.
pub struct Verifier {
    keys: Vec<Key>,
    signing: Option<EncodingKey>,
    issuer: String,
    audience: String,
}

impl Verifier {
    /// Reads the keys, and so may block on files.
    pub fn new(settings: &AuthSettings) -> Result<Verifier, KeyError> {
        let (keys, secret) = keys::load(settings)?;
        if keys.is_empty() {
            let message = "no key verifies tokens: set auth.secret, auth.secret_file, auth.public_keys or auth.jwks_file";
            return Err(KeyError { key: "auth.secret", message: message.to_owned() });
        }
        Ok(Verifier {
            keys,
            signing: secret.map(|secret| EncodingKey::from_secret(secret.expose().as_bytes())),
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
        })
    }

    /// A verifier of an external provider's tokens; `None` when none is configured.
    pub fn of_exchange(settings: &ExchangeSettings) -> Result<Option<Verifier>, KeyError> {
        let keys = keys::load_exchange(settings)?;
        let (issuer, audience) = (settings.issuer.clone(), settings.audience.clone());
        Ok((!keys.is_empty()).then_some(Verifier { keys, signing: None, issuer, audience }))
    }

    /// Verifies signature and claims at this time. A single-use token is refused: see [`Verifier::verify_to_connect`].
    ///
    /// # Errors
    /// Why the token is not good.
    pub fn verify(&self, token: &str, now_unix_seconds: u64) -> Result<Identity, AuthError> {
        match self.verify_to_connect(token, now_unix_seconds)? {
            (identity, None) => Ok(identity),
            (_, Some(_)) => Err(AuthError::Invalid("it is for opening one connection only")),
        }
    }

    /// The same for a token that is to open a connection. A single-use one is good only for whom
    /// [`UsedTokens::take`](super::UsedTokens::take) then gives it to.
    ///
    /// # Errors
    /// Why the token is not good.
    pub fn verify_to_connect(
        &self,
        token: &str,
        now_unix_seconds: u64,
    ) -> Result<(Identity, Option<Once>), AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > TOKEN_BYTES {
            return Err(AuthError::Invalid("it is longer than 8 KiB"));
        }
        let parts = Parts::of(token).ok_or(AuthError::Invalid("it has not three parts"))?;
        self.verify_signature(&parts)?;
        let payload = decode(parts.payload).ok_or(AuthError::Invalid("its payload is not base64url"))?;
        let claims: ReadClaims =
            serde_json::from_slice(&payload).map_err(|_| AuthError::Invalid("a claim has a wrong form"))?;
        self.check_claims(claims, now_unix_seconds)
    }

    fn verify_signature(&self, parts: &Parts) -> Result<(), AuthError> {
        let header = decode(parts.header).ok_or(AuthError::Invalid("its header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| AuthError::Invalid("its header has a wrong form"))?;
        if header.crit {
            return Err(AuthError::Invalid("its header has critical extensions"));
        }
        let algorithm: Algorithm = header
            .alg
            .parse()
            .ok()
            .filter(|algorithm| self.keys.iter().any(|key| key.algorithms.contains(algorithm)))
            .ok_or(AuthError::Invalid("its algorithm is not that of a configured key"))?;
        let kid = header.kid.as_deref();
        let is_known = kid.is_some() && self.keys.iter().any(|key| key.kid.as_deref() == kid);
        let verified = self
            .keys
            .iter()
            // A `kid` selects; one that no key has leaves the keys without; without one all are tried.
            .filter(|key| match kid {
                None => true,
                Some(_) if is_known => key.kid.as_deref() == kid,
                Some(_) => key.kid.is_none(),
            })
            .filter(|key| key.algorithms.contains(&algorithm))
            .any(|key| {
                let message = parts.message.as_bytes();
                matches!(crypto::verify(parts.signature, message, &key.decoding, algorithm), Ok(true))
            });
        if verified { Ok(()) } else { Err(AuthError::Invalid("no configured key made its signature")) }
    }

    /// What can be mended by a new token of the same issuer, expiry, is looked at last.
    fn check_claims(&self, claims: ReadClaims, now: u64) -> Result<(Identity, Option<Once>), AuthError> {
        let issuer = claims.iss.as_ref().and_then(Value::as_str);
        if !self.issuer.is_empty() && issuer != Some(&self.issuer) {
            return Err(AuthError::Invalid("its iss is not the configured issuer"));
        }
        if !self.audience.is_empty() && !names(&claims.aud, &self.audience) {
            return Err(AuthError::Invalid("its aud is not the configured audience"));
        }
        let details = claims.details();
        let is_once = claims.purpose.as_ref().and_then(Value::as_str) == Some(CONNECT_ONCE);
        let id = claims.jti.as_ref().and_then(Value::as_str).and_then(|id| u128::from_str_radix(id, 16).ok());
        let Subject(user) = claims.sub.ok_or(AuthError::Invalid("it has no sub"))?;
        let Seconds(exp) = claims.exp.ok_or(AuthError::Invalid("it has no exp"))?;
        if claims.nbf.is_some_and(|Seconds(nbf)| nbf > now.saturating_add(LEEWAY)) {
            return Err(AuthError::Invalid("it is not valid yet"));
        }
        let expires_at = claims.session_exp.map_or(exp, |Seconds(session)| session);
        if exp.min(expires_at).saturating_add(LEEWAY) <= now {
            return Err(AuthError::Expired);
        }
        let once = match (is_once, id) {
            (false, _) => None,
            (true, Some(id)) => Some(Once { id, over_at: exp.saturating_add(LEEWAY) }),
            (true, None) => return Err(AuthError::Invalid("it is for one connection and has no id")),
        };
        Ok((Identity { user, expires_at, details }, once))
    }

    /// Whether a secret is configured that signs.
    pub fn signs(&self) -> bool {
        self.signing.is_some()
    }

    /// Signs a token that opens one connection within the next `seconds`, which lives as long as with the token that
    /// this is the identity of (`spec/auth.md`, "Issuing tokens").
    ///
    /// # Errors
    /// No secret is configured, or the system has no random bytes.
    pub fn sign_to_connect(
        &self,
        identity: &Identity,
        seconds: u64,
        now_unix_seconds: u64,
    ) -> Result<String, KeyError> {
        let id = random().map(u128::from_be_bytes).map_err(|NoRandomness| KeyError {
            key: "auth.secret",
            message: "the system gives no random bytes".to_owned(),
        })?;
        let mut more = identity.details.as_ref().map(|details| details.to_claims()).unwrap_or_default();
        more.insert("use".to_owned(), Value::from(CONNECT_ONCE));
        more.insert("jti".to_owned(), Value::from(format!("{id:032x}")));
        more.insert("session_exp".to_owned(), Value::from(identity.expires_at));
        let exp = now_unix_seconds.saturating_add(seconds);
        self.sign(&Claims { sub: identity.user.to_string(), exp, more })
    }

    /// Signs a token with the first secret (HS256, which every secret is long enough for). The configured `iss`
    /// and `aud` are added unless the claims name their own.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let error = |message: &str| KeyError { key: "auth.secret", message: message.to_owned() };
        let key =
            self.signing.as_ref().ok_or_else(|| error("no secret is configured, and only a secret signs"))?;
        let mut all = claims.more.clone();
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if !value.is_empty() {
                all.entry(name).or_insert_with(|| Value::from(value.as_str()));
            }
        }
        all.insert("sub".to_owned(), Value::from(claims.sub.as_str()));
        all.insert("exp".to_owned(), Value::from(claims.exp));
        encode(&SigningHeader::new(Algorithm::HS256), &all, key).map_err(|_| error("signing failed"))
    }
}

/// A token's three parts (RFC 7515 §7.1), still encoded.
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What is signed: header, dot, payload.
    message: &'a str,
}

impl Parts<'_> {
    fn of(token: &str) -> Option<Parts<'_>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        (!payload.contains('.')).then_some(Parts { header, payload, signature, message })
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}
