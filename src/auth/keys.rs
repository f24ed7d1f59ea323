//! The keys that verify tokens, read from secrets, PEM files and a JSON Web Key Set, each with the algorithms
//! it is good for. A token's header can only choose among these, so a public key never serves as a secret.

use std::fs;
use std::path::Path;

use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use super::KeyError;
use crate::settings::{AuthSettings, ExchangeSettings, Secret};

/// Shortest HS secret, bytes (RFC 7518 §3.2: as long as the hash).
const HS256_BYTES: usize = 32;
const HS384_BYTES: usize = 48;
const HS512_BYTES: usize = 64;
/// Shortest RSA modulus, bytes (RFC 7518 §3.3: 2048 bits).
const RSA_BYTES: usize = 256;
/// Longest RSA modulus, bytes: what the cryptography library verifies.
const RSA_MOST_BYTES: usize = 1024;
/// Largest key file, bytes; a set of a hundred keys is far smaller.
const FILE_BYTES: u64 = 1024 * 1024;

/// A key with the algorithms it verifies.
pub(super) struct Key {
    pub(super) kid: Option<Box<str>>,
    pub(super) algorithms: Box<[Algorithm]>,
    pub(super) decoding: DecodingKey,
}

/// All keys of the settings, secrets first, and the secret that signs.
pub(super) fn load(settings: &AuthSettings) -> Result<(Vec<Key>, Option<Secret>), KeyError> {
    let mut keys = Vec::new();
    let mut signing = None;
    let single = (!settings.secret.is_empty()).then_some((&settings.secret, "auth.secret"));
    let from_file = secret_file(&settings.secret_file)?;
    let secrets = single
        .into_iter()
        .chain(settings.secrets.iter().map(|secret| (secret, "auth.secrets")))
        .chain(from_file.iter().map(|secret| (secret, "auth.secret_file")));
    for (secret, place) in secrets {
        keys.push(
            secret_key(secret.expose().as_bytes(), None)
                .map_err(|message| KeyError { key: place, message })?,
        );
        signing.get_or_insert_with(|| secret.clone());
    }
    public_keys(&settings.public_keys, "auth.public_keys", &mut keys)?;
    if !settings.jwks_file.as_os_str().is_empty() {
        key_set(&settings.jwks_file, &mut keys)?;
    }
    Ok((keys, signing))
}

/// The keys of an external provider.
pub(super) fn load_exchange(settings: &ExchangeSettings) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    public_keys(&settings.public_keys, "auth.exchange.public_keys", &mut keys)?;
    Ok(keys)
}

fn secret_file(path: &Path) -> Result<Option<Secret>, KeyError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = read(path, "auth.secret_file")?;
    // Editors and `openssl rand` end the file with a line end that is not part of the secret.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Some(Secret::new(text.strip_suffix('\r').unwrap_or(text))))
}

fn read(path: &Path, key: &'static str) -> Result<String, KeyError> {
    let error = |message: String| KeyError { key, message: format!("{}: {message}", path.display()) };
    let length = fs::metadata(path).map_err(|wrong| error(format!("cannot be read: {wrong}")))?.len();
    if length > FILE_BYTES {
        return Err(error(format!("is too large for a key file: {length} bytes")));
    }
    fs::read_to_string(path).map_err(|wrong| error(format!("cannot be read: {wrong}")))
}

fn secret_key(secret: &[u8], kid: Option<Box<str>>) -> Result<Key, String> {
    let algorithms: &[Algorithm] = match secret.len() {
        HS512_BYTES.. => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        HS384_BYTES.. => &[Algorithm::HS256, Algorithm::HS384],
        HS256_BYTES.. => &[Algorithm::HS256],
        length => {
            return Err(format!(
                "the secret has {length} bytes: HS256 needs at least {HS256_BYTES}, HS384 {HS384_BYTES}, \
                 HS512 {HS512_BYTES}; `openssl rand -hex 32` makes one"
            ));
        }
    };
    Ok(Key { kid, algorithms: algorithms.into(), decoding: DecodingKey::from_secret(secret) })
}

fn public_keys(
    paths: &[std::path::PathBuf],
    place: &'static str,
    keys: &mut Vec<Key>,
) -> Result<(), KeyError> {
    for path in paths {
        let text = read(path, place)?;
        let blocks = pem_blocks(&text);
        if blocks.is_empty() {
            let message =
                format!("{}: is not PEM: it has no line -----BEGIN PUBLIC KEY-----", path.display());
            return Err(KeyError { key: place, message });
        }
        for (label, block) in blocks {
            let key = public_key(label, block);
            keys.push(key.map_err(|message| KeyError {
                key: place,
                message: format!("{}: {message}", path.display()),
            })?);
        }
    }
    Ok(())
}

/// The PEM blocks of a text with their labels (RFC 7468).
fn pem_blocks(text: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        rest = &rest[start..];
        let label = rest["-----BEGIN ".len()..].split("-----").next().unwrap_or_default();
        let end_line = format!("-----END {label}-----");
        let Some(end) = rest.find(&end_line) else { break };
        let (block, after) = rest.split_at(end + end_line.len());
        blocks.push((label, block));
        rest = after;
    }
    blocks
}

fn public_key(label: &str, block: &str) -> Result<Key, String> {
    if label.ends_with("PRIVATE KEY") {
        return Err(
            "is a private key: give the public one, `openssl pkey -in FILE -pubout` prints it".to_owned()
        );
    }
    if label != "PUBLIC KEY" && label != "RSA PUBLIC KEY" {
        return Err(format!(
            "has a {label}: give a PUBLIC KEY, `openssl x509 -in FILE -pubkey -noout` prints that of a certificate"
        ));
    }
    let pem = block.as_bytes();
    let decoding = DecodingKey::from_ed_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_rsa_pem(pem))
        .map_err(|_| {
            "is no public key that is known here: give RSA, EC P-256 or P-384, or Ed25519".to_owned()
        })?;
    asymmetric(decoding, None, None)
}

/// Finds out what a public key is good for.
fn asymmetric(decoding: DecodingKey, kid: Option<Box<str>>, only: Option<Algorithm>) -> Result<Key, String> {
    let algorithms = match decoding.family() {
        AlgorithmFamily::Hmac => return Err("is a secret, not a public key".to_owned()),
        AlgorithmFamily::Rsa => {
            let bytes = modulus_bytes(&decoding)?;
            if !(RSA_BYTES..=RSA_MOST_BYTES).contains(&bytes) {
                return Err(format!("is an RSA key of {} bits: give one of 2048 to 8192 bits", bytes * 8));
            }
            AlgorithmFamily::Rsa.algorithms()
        }
        // An uncompressed point: 0x04, then both coordinates (SEC 1 §2.3.3).
        AlgorithmFamily::Ec => match decoding.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => &[Algorithm::ES256][..],
            Ok(97) => &[Algorithm::ES384][..],
            _ => return Err("is an EC key of another curve: give P-256 or P-384".to_owned()),
        },
        AlgorithmFamily::Ed => match decoding.try_get_as_bytes().map(<[u8]>::len) {
            Ok(32) => &[Algorithm::EdDSA][..],
            _ => return Err("is no Ed25519 key".to_owned()),
        },
    };
    let algorithms: Box<[Algorithm]> =
        algorithms.iter().copied().filter(|algorithm| only.is_none_or(|only| only == *algorithm)).collect();
    if algorithms.is_empty() {
        return Err("has an \"alg\" that does not fit the key".to_owned());
    }
    Ok(Key { kid, algorithms, decoding })
}

fn modulus_bytes(decoding: &DecodingKey) -> Result<usize, String> {
    let significant = |n: &[u8]| n.iter().skip_while(|byte| **byte == 0).count();
    match decoding.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => Ok(significant(n)),
        DecodingKeyKind::SecretOrDer(der) => {
            let provider: &CryptoProvider = &DEFAULT_PROVIDER;
            (provider.key_utils.rsa_pub_components_from_public_key)(der)
                .map(|(n, _)| significant(&n))
                .map_err(|_| "is no RSA public key".to_owned())
        }
    }
}

/// Reads a JSON Web Key Set. Keys of unknown types and for encryption are skipped (RFC 7517 §5).
fn key_set(path: &Path, keys: &mut Vec<Key>) -> Result<(), KeyError> {
    let place = "auth.jwks_file";
    let error = |message: String| KeyError { key: place, message: format!("{}: {message}", path.display()) };
    let text = read(path, place)?;
    let set: JwkSet = serde_json::from_str(&text).map_err(|wrong| {
        error(format!(
            "is no JSON Web Key Set, {{\"keys\": […]}}: line {}, column {}",
            wrong.line(),
            wrong.column()
        ))
    })?;
    let before = keys.len();
    for (index, jwk) in set.keys.iter().enumerate() {
        match web_key(jwk) {
            Ok(Some(key)) => keys.push(key),
            Ok(None) => {}
            Err(message) => return Err(error(format!("key {} {message}", index + 1))),
        }
    }
    if keys.len() == before {
        return Err(error("has no key that verifies tokens".to_owned()));
    }
    Ok(())
}

fn web_key(jwk: &Jwk) -> Result<Option<Key>, String> {
    let common = &jwk.common;
    let for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let is_known = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => key.curve != EllipticCurve::P521,
        AlgorithmParameters::Other(_) => false,
        _ => true,
    };
    if !for_signatures || !is_known {
        return Ok(None);
    }
    let only = match common.key_algorithm.map(Algorithm::try_from) {
        None => None,
        Some(Ok(algorithm)) => Some(algorithm),
        // For encryption or unknown: not for us.
        Some(Err(_)) => return Ok(None),
    };
    let kid = common.key_id.as_deref().map(Box::from);
    let decoding =
        DecodingKey::from_jwk(jwk).map_err(|_| "cannot be read: its parts are not base64url".to_owned())?;
    if decoding.family() != AlgorithmFamily::Hmac {
        return asymmetric(decoding, kid, only).map(Some);
    }
    let secret = decoding.try_get_as_bytes().map_err(|_| "has no secret".to_owned())?;
    let mut key = secret_key(secret, kid)?;
    if let Some(only) = only {
        key.algorithms = key.algorithms.iter().copied().filter(|algorithm| *algorithm == only).collect();
        if key.algorithms.is_empty() {
            return Err("has an \"alg\" that does not fit the length of its secret".to_owned());
        }
    }
    Ok(Some(key))
}
