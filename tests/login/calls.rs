//! Signing in, with a password and with another provider's token; tokens for one connection.

use std::fs;
use std::time::Duration;

use fanfare::app::rest::login::{Issued, LoginCall, LoginError};
use fanfare::auth::{AuthError, UsedTokens};
use fanfare::record::Write;
use fanfare::settings::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::fixture::{EMAIL, PASSWORD, Provider, password, tokens};

#[test]
fn the_right_password_gives_tokens_that_say_who_it_is() {
    let mut provider = Provider::with(|auth, _| {
        auth.issuer = "https://fanfare.example".to_owned();
        auth.audience = "clients".to_owned();
    });
    for email in [EMAIL, "ann@EXAMPLE.com"] {
        let tokens = tokens(provider.ask(password(email, PASSWORD)));
        assert_eq!(tokens.expires_in, 900);
        let identity = provider.identity(&tokens.access);
        assert_eq!(&*identity.user, "ann-1");
        assert_eq!(identity.expires_at, provider.now.unix_seconds() + 900);
        let details = identity.details.unwrap();
        assert_eq!((details.username.as_deref(), details.roles()), (Some("ann"), vec!["agent"]));
    }
    let claims = claims(&provider.sign_in().access);
    assert_eq!(claims["iat"], provider.now.unix_seconds());
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://fanfare.example"), &json!("clients")));
}

fn claims(token: &Secret) -> Value {
    use base64::Engine;
    let payload = token.expose().split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn a_wrong_password_and_an_unknown_user_cost_the_same_and_are_told_the_same() {
    let mut provider = Provider::new();
    let wrong = provider.ask(password(EMAIL, "wrong horse"));
    assert_eq!((&wrong, provider.login.passwords_checked()), (&Err(LoginError::Wrong), 1));
    let unknown = provider.ask(password("nobody@example.com", PASSWORD));
    assert_eq!((&unknown, provider.login.passwords_checked()), (&wrong, 2));
}

#[test]
fn a_disabled_user_is_told_what_a_wrong_password_is() {
    let mut provider = Provider::new();
    provider.change(&Write::SetDisabled { email: EMAIL.into(), disabled: true });
    assert_eq!(provider.ask(password(EMAIL, PASSWORD)), Err(LoginError::Wrong));
    assert_eq!(provider.login.passwords_checked(), 1);
    provider.change(&Write::SetDisabled { email: EMAIL.into(), disabled: false });
    provider.sign_in();
}

#[test]
fn a_websocket_token_opens_one_connection_that_lives_as_long_as_the_access_token() {
    let mut provider = Provider::new();
    let access = provider.sign_in().access;
    provider.later(Duration::from_secs(100));
    let issued = provider.ask(LoginCall::WebSocketToken { token: access.clone() }).unwrap();
    let Issued::WebSocket { token, expires_in: 60 } = issued else { panic!("{issued:?}") };
    let (verifier, now) = (provider.verifier(), provider.now.unix_seconds());
    let (identity, once) = verifier.verify_to_connect(token.expose(), now).unwrap();
    assert_eq!(identity, provider.identity(&access));
    assert_eq!(identity.expires_at, now + 800);
    let (used, once) = (UsedTokens::default(), once.unwrap());
    assert_eq!(used.take(once, now), Ok(()));
    assert!(used.take(once, now).is_err());
    // It is no access token and no refresh token.
    assert!(verifier.verify(token.expose(), now).is_err());
    let again = provider.ask(LoginCall::WebSocketToken { token: token.clone() });
    assert!(matches!(again, Err(LoginError::Token(AuthError::Invalid(_)))), "{again:?}");
    assert!(matches!(provider.refresh(&token), Err(LoginError::Refresh(_))));
    assert_eq!(verifier.verify_to_connect(token.expose(), now + 65), Err(AuthError::Expired));
}

#[test]
fn a_websocket_token_is_given_for_a_good_access_token_only() {
    let mut provider = Provider::new();
    let tokens = provider.sign_in();
    for wrong in [&tokens.refresh, &Secret::new("a.b.c"), &Secret::new("")] {
        let answer = provider.ask(LoginCall::WebSocketToken { token: wrong.clone() });
        assert!(matches!(answer, Err(LoginError::Token(_))), "{answer:?}");
    }
    provider.later(Duration::from_secs(905));
    let answer = provider.ask(LoginCall::WebSocketToken { token: tokens.access });
    assert_eq!(answer, Err(LoginError::Token(AuthError::Expired)));
}

#[test]
fn the_token_of_another_provider_is_exchanged_and_its_claims_are_kept() {
    let key = KeyPair::generate().unwrap();
    let mut provider = Provider::with(|auth, directory| {
        let path = directory.file("exchange.pem");
        fs::write(&path, key.public_key_pem()).unwrap();
        auth.exchange.public_keys = vec![path];
        auth.exchange.issuer = "privy.example".to_owned();
    });
    let signing = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let sign =
        |claims: Value| Secret::new(encode(&Header::new(Algorithm::ES256), &claims, &signing).unwrap());
    let now = provider.now.unix_seconds();
    let good = json!({"sub": "did:privy:1", "exp": now + 60, "iss": "privy.example", "username": "bob"});
    let first = tokens(provider.ask(LoginCall::Exchange { token: sign(good.clone()) }));
    let second = tokens(provider.refresh(&first.refresh));
    for access in [&first.access, &second.access] {
        let identity = provider.identity(access);
        assert_eq!(&*identity.user, "did:privy:1");
        assert_eq!(identity.details.unwrap().username.as_deref(), Some("bob"));
    }
    // Its keys verify nothing else, and ours nothing there.
    assert!(provider.verifier().verify(sign(good.clone()).expose(), now).is_err());
    let ours = provider.ask(LoginCall::Exchange { token: first.access });
    assert!(matches!(ours, Err(LoginError::Token(AuthError::Invalid(_)))), "{ours:?}");
    for (name, value, expected) in [
        ("exp", json!(now - 60), AuthError::Expired),
        ("iss", json!("other"), AuthError::Invalid("its iss is not the configured issuer")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        let answer = provider.ask(LoginCall::Exchange { token: sign(claims) });
        assert_eq!(answer, Err(LoginError::Token(expected)));
    }
}

#[test]
fn what_is_not_configured_is_off() {
    let mut provider = Provider::new();
    let exchange = LoginCall::Exchange { token: Secret::new("a.b.c") };
    assert_eq!(provider.ask(exchange), Err(LoginError::NoExchange));
    provider.auth.issue_tokens = false;
    provider.reload();
    assert_eq!(provider.ask(password(EMAIL, PASSWORD)), Err(LoginError::Off));

    let key = KeyPair::generate().unwrap();
    let mut only_public = Provider::with(|auth, directory| {
        let path = directory.file("key.pem");
        fs::write(&path, key.public_key_pem()).unwrap();
        (auth.secret, auth.public_keys) = (Secret::default(), vec![path]);
    });
    assert_eq!(only_public.ask(password(EMAIL, PASSWORD)), Err(LoginError::Off));
}
