//! Every refusal of `spec/auth.md`, with real keys made for the test.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};

use super::*;
use crate::settings::{AuthSettings, ExchangeSettings, Secret};

const NOW: u64 = 1_750_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";

fn with_secret(secret: &str) -> AuthSettings {
    AuthSettings { secret: Secret::new(secret), ..AuthSettings::default() }
}

fn verifier() -> Verifier {
    Verifier::new(&with_secret(SECRET)).expect("a key")
}

fn claims() -> Value {
    json!({"sub": "1234", "exp": NOW + 60})
}

/// A token of these claims, signed with a secret.
fn token(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signed")
}

/// A token with exactly this header, signed with HS256 and this secret.
fn token_with_header(header: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(&claims()));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    token(Algorithm::HS256, SECRET, claims)
}

/// `claims()` with these fields added, changed or (null) removed.
fn but(changes: Value) -> Value {
    let mut all = claims();
    let fields = all.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    all
}

fn refusal(verifier: &Verifier, token: &str) -> &'static str {
    match verifier.verify(token, NOW) {
        Err(AuthError::Invalid(what)) => what,
        other => panic!("{other:?}"),
    }
}

/// A file that is removed at the end of the test.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(text: &str) -> TemporaryFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-auth-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a temporary file");
        TemporaryFile(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A key pair as PEM: private in PKCS #8, public as SubjectPublicKeyInfo.
struct Pair {
    private: String,
    public: String,
    raw_public: Vec<u8>,
}

fn pair(algorithm: &'static SignatureAlgorithm) -> Pair {
    let pair = KeyPair::generate_for(algorithm).expect("a key pair");
    Pair {
        private: pair.serialize_pem(),
        public: pair.public_key_pem(),
        raw_public: pair.der_bytes().to_vec(),
    }
}

/// RSA pairs take long to make, so all tests share one.
fn rsa() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| pair(&rcgen::PKCS_RSA_SHA256))
}

fn with_public_key(pem: &str) -> Verifier {
    let file = TemporaryFile::new(pem);
    let settings = AuthSettings { public_keys: vec![file.0.clone()], ..AuthSettings::default() };
    Verifier::new(&settings).expect("a public key")
}

fn with_key_set(set: &Value) -> Result<Verifier, KeyError> {
    let file = TemporaryFile::new(&set.to_string());
    Verifier::new(&AuthSettings { jwks_file: file.0.clone(), ..AuthSettings::default() })
}

#[test]
fn a_good_token_names_its_user() {
    let identity = verifier().verify(&hs256(&claims()), NOW).expect("good");
    assert_eq!((&*identity.user, identity.expires_at, &identity.details), ("1234", NOW + 60, &None));
    assert!(!identity.may_join("user:1234") && !identity.is_admin() && !identity.is_agent());
    fn can_be_shared<T: Send + Sync>() {}
    can_be_shared::<Verifier>();
}

#[test]
fn the_subject_is_a_text_or_an_integer_within_bounds() {
    let user = |sub: Value| verifier().verify(&hs256(&but(json!({ "sub": sub }))), NOW).map(|who| who.user);
    assert_eq!(&*user(json!(42)).expect("an integer"), "42");
    assert_eq!(&*user(json!(u64::MAX)).expect("an integer"), "18446744073709551615");
    assert_eq!(&*user(json!("ü".repeat(64))).expect("128 bytes"), "ü".repeat(64));
    for wrong in [json!(""), json!("x".repeat(129)), json!("a\nb"), json!(1.5), json!(true), json!(["1"])] {
        assert_eq!(user(wrong.clone()), Err(AuthError::Invalid("a claim has a wrong form")), "{wrong}");
    }
    assert_eq!(refusal(&verifier(), &hs256(&but(json!({"sub": null})))), "it has no sub");
}

#[test]
fn time_is_that_which_is_passed_in() {
    let verifier = verifier();
    let token = hs256(&but(json!({"nbf": NOW})));
    assert!(verifier.verify(&token, NOW - 5).is_ok());
    assert_eq!(verifier.verify(&token, NOW - 6), Err(AuthError::Invalid("it is not valid yet")));
    assert!(verifier.verify(&token, NOW + 64).is_ok());
    assert_eq!(verifier.verify(&token, NOW + 65), Err(AuthError::Expired));
    assert_eq!(AuthError::Expired.code(), ErrorCode::TokenExpired);
    assert_eq!(refusal(&verifier, &hs256(&but(json!({"exp": null})))), "it has no exp");
    assert_eq!(refusal(&verifier, &hs256(&but(json!({"exp": "tomorrow"})))), "a claim has a wrong form");
    let exp =
        |exp: Value| verifier.verify(&hs256(&but(json!({ "exp": exp }))), NOW).map(|who| who.expires_at);
    assert_eq!(exp(json!(NOW as f64 + 10.5)), Ok(NOW + 10));
    assert_eq!(exp(json!(-1)), Err(AuthError::Expired));
    assert_eq!(exp(json!(1e300)), Ok(u64::MAX));
    assert_eq!(exp(json!(u64::MAX)), Ok(u64::MAX));
}

#[test]
fn a_single_use_token_tells_when_the_connection_expires() {
    let token = hs256(&but(json!({"session_exp": NOW + 900})));
    assert_eq!(verifier().verify(&token, NOW).expect("good").expires_at, NOW + 900);
    let token = hs256(&but(json!({"session_exp": NOW - 900})));
    assert_eq!(verifier().verify(&token, NOW), Err(AuthError::Expired));
}

#[test]
fn issuer_and_audience_must_match_when_configured_and_are_ignored_otherwise() {
    assert!(verifier().verify(&hs256(&but(json!({"iss": 1, "aud": {}}))), NOW).is_ok());
    let settings =
        AuthSettings { issuer: "us".to_owned(), audience: "feed".to_owned(), ..with_secret(SECRET) };
    let verifier = Verifier::new(&settings).expect("a key");
    for aud in [json!("feed"), json!(["other", "feed"])] {
        assert!(verifier.verify(&hs256(&but(json!({"iss": "us", "aud": aud}))), NOW).is_ok());
    }
    for (changes, expected) in [
        (json!({"aud": "feed"}), "its iss is not the configured issuer"),
        (json!({"iss": "them", "aud": "feed"}), "its iss is not the configured issuer"),
        (json!({"iss": "us"}), "its aud is not the configured audience"),
        (json!({"iss": "us", "aud": "other"}), "its aud is not the configured audience"),
        (json!({"iss": "us", "aud": ["feeds"]}), "its aud is not the configured audience"),
    ] {
        assert_eq!(refusal(&verifier, &hs256(&but(changes))), expected);
    }
}

#[test]
fn optional_claims_become_details() {
    let token = hs256(&but(json!({
        "username": "ann", "avatar_url": "https://a.example/a.png", "roles": ["agent", 7],
        "rooms": ["user:bob", "news:*", "*", ":*"], "unknown": {"a": [1]},
    })));
    let identity = verifier().verify(&token, NOW).expect("good");
    let details = identity.details.as_ref().expect("details");
    assert_eq!(details.username.as_deref(), Some("ann"));
    assert_eq!(details.avatar_url.as_deref(), Some("https://a.example/a.png"));
    assert!(identity.is_agent() && !identity.is_admin());
    for (room, may) in [
        ("user:bob", true),
        ("user:bobby", false),
        ("news:tech", true),
        ("news:", false),
        ("newsroom:x", false),
        ("portfolio:x", false),
    ] {
        assert_eq!(identity.may_join(room), may, "{room}");
    }
    let admin = verifier().verify(&hs256(&but(json!({"roles": ["admin"]}))), NOW).expect("good");
    assert!(admin.is_admin() && admin.may_join("portfolio:anybody"));
    // Claims of other issuers that only share the name do no harm.
    let odd = but(json!({"username": 1, "roles": {"admin": true}, "rooms": "all", "avatar_url": []}));
    assert_eq!(verifier().verify(&hs256(&odd), NOW).expect("good").details, None);
}

#[test]
fn what_is_no_token_is_refused_without_repeating_it() {
    let verifier = verifier();
    assert_eq!(verifier.verify("", NOW), Err(AuthError::Missing));
    assert_eq!(AuthError::Missing.code(), ErrorCode::AuthRequired);
    for (text, expected) in [
        ("a", "it has not three parts"),
        ("a.b", "it has not three parts"),
        ("a.b.c.d", "it has not three parts"),
        ("!.b.c", "its header is not base64url"),
        ("e30.b.c", "its header has a wrong form"),
        ("..", "its header has a wrong form"),
        ("ü.ü.ü", "its header is not base64url"),
    ] {
        assert_eq!(refusal(&verifier, text), expected, "{text}");
        assert_eq!(AuthError::Invalid(expected).code(), ErrorCode::AuthRequired);
    }
    let huge = "a".repeat(100 * 1024);
    assert_eq!(refusal(&verifier, &huge), "it is longer than 8 KiB");
    let large = hs256(&but(json!({"padding": "x".repeat(5_900)})));
    assert!(large.len() < 8 * 1024 && verifier.verify(&large, NOW).is_ok());
    let good = hs256(&claims());
    for at in [3, good.len() / 2, good.len() - 2] {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(verifier.verify(&String::from_utf8(bytes).expect("ASCII"), NOW).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic_or_gets_in(text in ".{0,200}", header in "[ -~]{0,40}", payload in "[ -~]{0,60}") {
        let verifier = verifier();
        proptest::prop_assert!(verifier.verify(&text, NOW).is_err());
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        let token = format!("{header}.{payload}.AAAA");
        proptest::prop_assert!(verifier.verify(&token, NOW).is_err());
    }

    #[test]
    fn no_signed_claims_make_it_panic(sub in ".{0,140}", exp: f64, nbf: i64, odd in "[ -~]{0,20}") {
        let claims = but(json!({"sub": sub, "exp": exp, "nbf": nbf, "rooms": [odd], "roles": odd, "aud": nbf}));
        let _ = verifier().verify(&hs256(&claims), NOW);
    }
}

#[test]
fn the_header_cannot_choose_an_algorithm_that_no_key_has() {
    let verifier = verifier();
    let no_key = "its algorithm is not that of a configured key";
    for alg in ["none", "None", "NONE", "", "RS256", "HS384", "HS512", "ES256", "EdDSA", "hs256"] {
        assert_eq!(refusal(&verifier, &token_with_header(&json!({"alg": alg}), SECRET)), no_key, "{alg}");
    }
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    assert_eq!(refusal(&verifier, &unsigned), no_key);
    let stripped = hs256(&claims());
    let stripped = format!("{}.", stripped.rsplit_once('.').expect("three parts").0);
    assert_eq!(refusal(&verifier, &stripped), "no configured key made its signature");
}

#[test]
fn critical_extensions_are_refused() {
    for crit in [json!(["exp"]), json!([]), json!(null)] {
        let token = token_with_header(&json!({"alg": "HS256", "crit": crit, "exp": 1}), SECRET);
        assert_eq!(refusal(&verifier(), &token), "its header has critical extensions");
    }
    assert!(verifier().verify(&token_with_header(&json!({"alg": "HS256", "typ": 1}), SECRET), NOW).is_ok());
}

#[test]
fn longer_secrets_verify_stronger_hashes() {
    let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    for (length, good) in [(32, 1), (47, 1), (48, 2), (64, 3), (100, 3)] {
        let secret = "s".repeat(length);
        let verifier = Verifier::new(&with_secret(&secret)).expect("long enough");
        for (index, algorithm) in algorithms.into_iter().enumerate() {
            let token = token(algorithm, &secret, &claims());
            assert_eq!(verifier.verify(&token, NOW).is_ok(), index < good, "{length} {algorithm:?}");
        }
    }
    let error = Verifier::new(&with_secret("short")).err().expect("too short").to_string();
    assert!(error.starts_with("auth.secret: the secret has 5 bytes: HS256 needs at least 32"), "{error}");
}

#[test]
fn the_first_secret_signs_and_all_verify() {
    let file = TemporaryFile::new("file-secret-0123456789abcdef0123456789\n");
    let settings = AuthSettings {
        secrets: vec![Secret::new(SECRET), Secret::new(OTHER_SECRET)],
        secret_file: file.0.clone(),
        issuer: "us".to_owned(),
        audience: "feed".to_owned(),
        ..AuthSettings::default()
    };
    let verifier = Verifier::new(&settings).expect("three secrets");
    let more = json!({"roles": ["admin"], "sub": "ignored"}).as_object().expect("an object").clone();
    let signed = verifier.sign(&Claims { sub: "7".to_owned(), exp: NOW + 1, more }).expect("signed");
    let identity = verifier.verify(&signed, NOW).expect("our own");
    assert!(&*identity.user == "7" && identity.is_admin());
    let issued = but(json!({"iss": "us", "aud": "feed"}));
    for secret in [OTHER_SECRET, "file-secret-0123456789abcdef0123456789"] {
        assert!(verifier.verify(&token(Algorithm::HS256, secret, &issued), NOW).is_ok());
    }
    let alone = Verifier::new(&with_secret(SECRET)).expect("a key");
    assert!(alone.verify(&signed, NOW).is_ok(), "signed with the first");
    assert!(alone.verify(&token(Algorithm::HS256, OTHER_SECRET, &claims()), NOW).is_err());
}

#[test]
fn public_keys_of_every_kind_verify_and_cannot_sign() {
    let rsa = rsa();
    let rsa_key = EncodingKey::from_rsa_pem(rsa.private.as_bytes()).expect("a key");
    let [p256, p384] = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384].map(pair);
    let ed25519 = pair(&rcgen::PKCS_ED25519);
    let ec = |pair: &Pair| EncodingKey::from_ec_pem(pair.private.as_bytes()).expect("a key");
    let ed = EncodingKey::from_ed_pem(ed25519.private.as_bytes()).expect("a key");
    let mut cases = vec![
        (&p256, Algorithm::ES256, ec(&p256)),
        (&p384, Algorithm::ES384, ec(&p384)),
        (&ed25519, Algorithm::EdDSA, ed),
    ];
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    cases.extend([RS256, RS384, RS512, PS256, PS384, PS512].map(|alg| (rsa, alg, rsa_key.clone())));
    let all: String = [rsa, &p256, &p384, &ed25519].map(|pair| pair.public.as_str()).concat();
    let all = with_public_key(&all);
    let another = with_public_key(&pair(&rcgen::PKCS_ECDSA_P256_SHA256).public);
    for (pair, algorithm, key) in cases {
        let token = encode(&Header::new(algorithm), &claims(), &key).expect("signed");
        let verifier = with_public_key(&pair.public);
        assert_eq!(&*verifier.verify(&token, NOW).expect("its own key").user, "1234", "{algorithm:?}");
        assert!(all.verify(&token, NOW).is_ok(), "{algorithm:?} among several in one file");
        assert!(another.verify(&token, NOW).is_err(), "{algorithm:?}");
        assert!(verifier.sign(&Claims::default()).is_err());
    }
}

#[test]
fn a_public_key_never_serves_as_a_secret() {
    let rsa = rsa();
    let verifier = with_public_key(&rsa.public);
    let no_key = "its algorithm is not that of a configured key";
    for secret in [rsa.public.as_str(), rsa.public.trim_end()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(refusal(&verifier, &token(algorithm, secret, &claims())), no_key);
        }
    }
    let file = TemporaryFile::new(&rsa.public);
    let both = AuthSettings { public_keys: vec![file.0.clone()], ..with_secret(SECRET) };
    let both = Verifier::new(&both).expect("two keys");
    let forged = token(Algorithm::HS256, &rsa.public, &claims());
    assert_eq!(refusal(&both, &forged), "no configured key made its signature");
    let forged = token_with_header(&json!({"alg": "RS256"}), SECRET);
    assert_eq!(refusal(&both, &forged), "no configured key made its signature");
}

/// The JSON Web Key of an uncompressed P-256 point.
fn p256_web_key(pair: &Pair, kid: Option<&str>) -> Value {
    let point = &pair.raw_public[pair.raw_public.len() - 64..];
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut key = json!({"kty": "EC", "crv": "P-256", "x": part(&point[..32]), "y": part(&point[32..])});
    if let Some(kid) = kid {
        key["kid"] = json!(kid);
    }
    key
}

fn es256(pair: &Pair, kid: Option<&str>) -> String {
    let key = EncodingKey::from_ec_pem(pair.private.as_bytes()).expect("a key");
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    encode(&header, &claims(), &key).expect("signed")
}

#[test]
fn the_kid_selects_and_keys_can_be_rotated() {
    let [old, new, bare] = [(); 3].map(|()| pair(&rcgen::PKCS_ECDSA_P256_SHA256));
    let before = with_key_set(&json!({"keys": [p256_web_key(&old, Some("old"))]})).expect("a set");
    let during =
        with_key_set(&json!({"keys": [p256_web_key(&old, Some("old")), p256_web_key(&new, Some("new"))]}))
            .expect("a set");
    let after = with_key_set(&json!({"keys": [p256_web_key(&new, Some("new")), p256_web_key(&bare, None)]}))
        .expect("a set");
    let (by_old, by_new) = (es256(&old, Some("old")), es256(&new, Some("new")));
    let verifies = |verifier: &Verifier, token: &str| verifier.verify(token, NOW).is_ok();
    assert!(verifies(&before, &by_old) && !verifies(&before, &by_new));
    assert!(verifies(&during, &by_old) && verifies(&during, &by_new));
    assert!(!verifies(&after, &by_old) && verifies(&after, &by_new));
    assert!(!verifies(&during, &es256(&new, Some("old"))), "the kid names another key");
    assert!(verifies(&during, &es256(&new, None)), "without a kid all keys are tried");
    assert!(verifies(&after, &es256(&bare, Some("unknown"))), "an unknown kid leaves the keys without");
    assert!(!verifies(&after, &es256(&new, Some("unknown"))));
}

#[test]
fn key_sets_are_read_as_rfc_7517_says() {
    let mine = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut encryption = p256_web_key(&mine, None);
    encryption["use"] = json!("enc");
    let strange = json!({"kty": "new", "x": 1});
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "HS256"});
    let verifier = with_key_set(&json!({"keys": [strange, encryption, secret]})).expect("one key");
    assert!(verifier.verify(&hs256(&claims()), NOW).is_ok());
    assert!(verifier.verify(&es256(&mine, None), NOW).is_err(), "a key for encryption");
    let mut wrong = p256_web_key(&mine, None);
    wrong["alg"] = json!("RS256");
    for (set, expected) in [
        (json!({"keys": [strange]}), "has no key that verifies tokens"),
        (json!({"keys": [wrong]}), "key 1 has an \"alg\" that does not fit the key"),
        (json!([]), "is no JSON Web Key Set"),
        (json!({"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}), "key 1 the secret has 5 bytes"),
    ] {
        let error = with_key_set(&set).err().expect("a fault");
        assert!(error.key == "auth.jwks_file" && error.message.contains(expected), "{error}");
    }
}

#[test]
fn key_files_that_do_not_serve_are_named_with_what_would() {
    let fault = |text: &str| {
        let file = TemporaryFile::new(text);
        let settings = AuthSettings { public_keys: vec![file.0.clone()], ..AuthSettings::default() };
        let error = Verifier::new(&settings).err().expect("a fault").to_string();
        error.replace(&file.0.display().to_string(), "FILE")
    };
    assert!(fault("").starts_with("auth.public_keys: FILE: is not PEM"));
    assert!(fault(&rsa().private).contains("FILE: is a private key: give the public one"));
    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    assert!(fault(&certificate.cert.pem()).contains("has a CERTIFICATE: give a PUBLIC KEY"));
    let broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    assert!(fault(broken).contains("is no public key that is known here"));
    let missing = AuthSettings { secret_file: "/nowhere/secret".into(), ..AuthSettings::default() };
    let error = Verifier::new(&missing).err().expect("a fault").to_string();
    assert!(error.starts_with("auth.secret_file: /nowhere/secret: cannot be read: "), "{error}");
    assert!(Verifier::new(&AuthSettings::default()).is_err());
}

#[test]
fn an_external_provider_has_keys_of_its_own() {
    let mine = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let file = TemporaryFile::new(&mine.public);
    let settings =
        ExchangeSettings { public_keys: vec![file.0.clone()], issuer: String::new(), ..Default::default() };
    let verifier = Verifier::of_exchange(&settings).expect("valid").expect("configured");
    assert!(verifier.verify(&es256(&mine, None), NOW).is_ok());
    assert!(Verifier::of_exchange(&ExchangeSettings::default()).expect("valid").is_none());
}

#[test]
fn a_single_use_token_opens_a_connection_and_nothing_else() {
    let verifier = verifier();
    let claims = but(json!({
        "exp": NOW + 900, "username": "ann", "avatar_url": "https://example.com/a", "roles": ["agent", "x"],
        "rooms": ["news:x", "team:*"],
    }));
    let identity = verifier.verify(&hs256(&claims), NOW).expect("an access token");
    let token = verifier.sign_to_connect(&identity, 60, NOW).expect("signed");
    let (opened, once) = verifier.verify_to_connect(&token, NOW).expect("good");
    assert_eq!(opened, identity);
    assert_eq!(opened.expires_at, NOW + 900);
    let once = once.expect("marked");
    assert_eq!(once.over_at, NOW + 65);
    let used = UsedTokens::default();
    assert_eq!(used.take(once, NOW), Ok(()));
    assert!(used.take(once, NOW).is_err());
    assert_eq!(refusal(&verifier, &token), "it is for opening one connection only");
    assert!(verifier.verify_to_connect(&token, once.over_at - 1).is_ok());
    assert_eq!(verifier.verify_to_connect(&token, once.over_at), Err(AuthError::Expired));
    let second = verifier.sign_to_connect(&identity, 60, NOW).expect("signed");
    let (_, other) = verifier.verify_to_connect(&second, NOW).expect("good");
    assert_ne!(other.expect("marked").id, once.id);
}

#[test]
fn a_single_use_token_ends_with_the_access_token_and_must_have_an_id() {
    let verifier = verifier();
    let identity = verifier.verify(&hs256(&but(json!({"exp": NOW + 10}))), NOW).expect("an access token");
    let token = verifier.sign_to_connect(&identity, 60, NOW).expect("signed");
    assert_eq!(verifier.verify_to_connect(&token, NOW + 15), Err(AuthError::Expired));
    for wrong in [json!({"use": "websocket"}), json!({"use": "websocket", "jti": "x"})] {
        let token = hs256(&but(wrong));
        assert!(matches!(verifier.verify_to_connect(&token, NOW), Err(AuthError::Invalid(_))));
    }
    // What other issuers mean by these claims is not our business.
    let (_, once) = verifier
        .verify_to_connect(&hs256(&but(json!({"use": "sig", "jti": "abc"}))), NOW)
        .expect("an access token");
    assert_eq!(once, None);
}
