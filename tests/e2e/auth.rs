//! Tokens at the door: which are good, where they may stand, origins, the anonymous (`spec/auth.md`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::token::{SECRET, now, short_token, sign, sign_with, token, token_with};
use crate::support::{Broker, Client, client};

/// Tries a token at every place it may stand, for both apps; returns status and code, which must be the same everywhere.
#[track_caller]
fn refusal(broker: &Broker, token: &str) -> (u16, String) {
    let bearer = format!("Bearer {token}");
    let protocol = format!("fanfare.bearer, {token}");
    let attempts = [
        Client::try_open(broker.public, "/feed", &[("Authorization", &bearer)]),
        Client::try_open(broker.public, &format!("/feed?token={token}"), &[]),
        Client::try_open(broker.public, "/feed", &[("Sec-WebSocket-Protocol", &protocol)]),
        Client::try_open(broker.public, &format!("/ws?token={token}"), &[]),
        Client::try_open(broker.public, "/ws?app=account", &[("Authorization", &bearer)]),
    ];
    let answers: Vec<(u16, String)> = attempts
        .into_iter()
        .map(|attempt| attempt.err().unwrap_or_else(|| panic!("let in with {token}")))
        .map(|response| {
            assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
            assert!(token.is_empty() || !response.text().contains(token), "{response:?}");
            (response.status, response.code())
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0].clone()
}

fn unsigned(header: Value, claims: Value, signature: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[test]
fn bad_tokens_are_answered_with_401_and_a_code() {
    let broker = Broker::start(&[]);
    let claims = || json!({ "sub": "ada-0001", "exp": now() + 3600 });
    let good = token("ada-0001");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = token("bob-0001");
    let others_payload = other.split('.').nth(1).unwrap();
    let first = good.split('.').next().unwrap();
    let crit = {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = None;
        let text = json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 });
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(text.to_string()), head.split('.').nth(1).unwrap());
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    let bad = [
        ("nonsense", "x".to_owned()),
        ("dots", "..".to_owned()),
        ("no signature", format!("{head}.")),
        ("two parts", head.to_owned()),
        ("four parts", format!("{good}.x")),
        ("cut", good[..good.len() - 1].to_owned()),
        ("another's payload", format!("{first}.{others_payload}.{signature}")),
        ("another secret", sign_with(claims(), &[b'x'; 64], Algorithm::HS256)),
        ("alg none", unsigned(json!({ "alg": "none" }), claims(), "")),
        ("alg None", unsigned(json!({ "alg": "None" }), claims(), "")),
        ("alg none, signed", unsigned(json!({ "alg": "none" }), claims(), signature)),
        ("no alg", unsigned(json!({}), claims(), signature)),
        ("alg RS256", unsigned(json!({ "alg": "RS256" }), claims(), signature)),
        ("crit", crit),
        ("no sub", sign(json!({ "exp": now() + 60 }))),
        ("empty sub", sign(json!({ "sub": "", "exp": now() + 60 }))),
        ("list as sub", sign(json!({ "sub": ["a"], "exp": now() + 60 }))),
        ("long sub", sign(json!({ "sub": "x".repeat(129), "exp": now() + 60 }))),
        ("control in sub", sign(json!({ "sub": "a\nb", "exp": now() + 60 }))),
        ("no exp", sign(json!({ "sub": "ada-0001" }))),
        ("text exp", sign(json!({ "sub": "ada-0001", "exp": "tomorrow" }))),
        ("not yet", token_with("ada-0001", json!({ "nbf": now() + 60 }))),
        ("over 8 KiB", token_with("ada-0001", json!({ "padding": "x".repeat(7000) }))),
    ];
    for (what, bad) in &bad {
        assert_eq!(refusal(&broker, bad), (401, "AUTH_REQUIRED".to_owned()), "{what}");
    }
    for seconds in [-3600, -6] {
        assert_eq!(refusal(&broker, &short_token("ada-0001", seconds)), (401, "TOKEN_EXPIRED".to_owned()));
    }
    for path in ["/feed", "/feed?token=", "/ws?token=", "/ws", "/ws?app=account"] {
        let response = Client::try_open(broker.public, path, &[]).err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (401, "AUTH_REQUIRED"), "{path}");
    }
    assert_eq!(broker.metric("fanfare_connections_opened_total", &[]), 0.0);
    assert!(broker.metric("fanfare_handshakes_rejected_total", &["unauthorized"]) >= bad.len() as f64);
    assert_eq!(broker.metric("fanfare_handshakes_rejected_total", &["token_expired"]), 10.0);
}

#[test]
fn a_token_may_stand_at_four_places() {
    let broker = Broker::start(&[]);
    let token = token("ada-0001");
    let bearer = format!("Bearer {token}");
    for scheme in ["Bearer", "bearer", "BEARER"] {
        Client::open(broker.public, "/feed", &[("Authorization", &format!("{scheme} {token}"))]);
    }
    Client::open(broker.public, &format!("/feed?x=1&token={token}&y="), &[]);
    Client::open(broker.public, &format!("/ws?token={token}"), &[]);
    Client::open(broker.public, "/ws?app=account", &[("Authorization", &bearer)]);
    let offered = format!("fanfare.bearer, {token}");
    let browser = Client::open(broker.public, "/feed", &[("Sec-WebSocket-Protocol", &offered)]);
    assert_eq!(browser.response.header("sec-websocket-protocol"), Some("fanfare.bearer"));
    // Leeway: 5 s.
    Client::open(broker.public, &format!("/feed?token={}", short_token("bob-0001", -2)), &[]);
    // Any HS algorithm that the secret is long enough for.
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = sign_with(json!({ "sub": "eve-0001", "exp": now() + 60 }), SECRET.as_bytes(), algorithm);
        Client::open(broker.public, &format!("/feed?token={token}"), &[]);
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let directory = crate::support::broker::TemporaryDirectory::new();
    let path = directory.write("public.pem", &key.public_key_pem());
    let public_keys = format!("auth.public_keys = [{:?}]", path.to_str().unwrap());
    let claims = || json!({ "sub": "ada-0001", "exp": now() + 60 });
    let private = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let real = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims(), &private).unwrap();
    let pem = key.public_key_pem();
    let forged = [
        sign_with(claims(), pem.as_bytes(), Algorithm::HS256),
        sign_with(claims(), pem.trim().as_bytes(), Algorithm::HS256),
        sign_with(claims(), key.public_key_raw(), Algorithm::HS256),
        sign_with(claims(), b"", Algorithm::HS256),
    ];
    for secret in ["", SECRET] {
        let broker = Broker::start(&[&public_keys, &format!("auth.secret = \"{secret}\"")]);
        Client::open(broker.public, &format!("/feed?token={real}"), &[]);
        for token in &forged {
            assert_eq!(refusal(&broker, token), (401, "AUTH_REQUIRED".to_owned()));
        }
        let by_secret = Client::try_open(broker.public, &format!("/feed?token={}", token("bob-0001")), &[]);
        assert_eq!(by_secret.is_ok(), !secret.is_empty());
    }
}

#[test]
fn issuer_and_audience_must_match_where_configured() {
    let broker = Broker::start(&["auth.issuer = \"https://login.example\"", "auth.audience = \"fanfare\""]);
    let try_with = |claims: Value| {
        Client::try_open(broker.public, &format!("/feed?token={}", token_with("ada-0001", claims)), &[])
            .is_ok()
    };
    assert!(try_with(json!({ "iss": "https://login.example", "aud": "fanfare" })));
    assert!(try_with(json!({ "iss": "https://login.example", "aud": ["other", "fanfare"] })));
    assert!(!try_with(json!({ "iss": "https://login.example" })));
    assert!(!try_with(json!({ "aud": "fanfare" })));
    assert!(!try_with(json!({ "iss": "https://evil.example", "aud": "fanfare" })));
    assert!(!try_with(json!({ "iss": "https://login.example", "aud": ["other"] })));
}

#[test]
fn the_anonymous_read_public_rooms_where_they_may() {
    let broker = Broker::start(&["auth.anonymous = true"]);
    let mut guest = Client::open(broker.public, "/feed", &[]);
    assert_eq!(guest.next()["event"], "connected");
    guest.expect_nothing();
    guest.join("price:BTC-USDC");
    guest.ask("subscribe", json!({ "types": ["price_updates", "trade_notifications"] }), "subscribed");
    guest.refused("subscribe", json!({ "types": ["order_updates"] }), "AUTH_REQUIRED");
    guest.refused("subscribe_portfolio", json!({}), "AUTH_REQUIRED");
    guest.refused("subscribe_orders", json!({}), "AUTH_REQUIRED");
    guest.refused("join_room", json!({ "room": "user:ada-0001" }), "ACCESS_DENIED");
    guest.refused("direct_message", json!({ "to": "ada-0001", "message": "x" }), "AUTH_REQUIRED");
    guest.refused("room_message", json!({ "room": "price:BTC-USDC", "message": "x" }), "AUTH_REQUIRED");
    let mut publisher = broker.publisher();
    let ack = publisher.publish(json!({ "room": "price:BTC-USDC", "event": "price_update", "data": 1 }));
    assert_eq!(ack["subscribers"], 1);
    assert_eq!(guest.next()["data"], 1);
    // A bad token is refused all the same; the other app has no guests; and many guests are not one user.
    let bad = Client::try_open(broker.public, "/feed?token=x", &[]).err().unwrap();
    assert_eq!(bad.status, 401);
    assert_eq!(Client::try_open(broker.public, "/ws?app=account", &[]).err().unwrap().status, 401);
    let _guests: Vec<Client> = (0..10).map(|_| Client::open(broker.public, "/feed", &[])).collect();
}

#[test]
fn origins_are_checked() {
    let try_from = |broker: &Broker, origin: &str| {
        let path = format!("/feed?token={}", token("ada-0001"));
        match Client::try_open(broker.public, &path, &[("Origin", origin)]) {
            Ok(_) => 101,
            Err(response) => {
                assert_eq!(response.code(), "ACCESS_DENIED");
                response.status
            }
        }
    };
    let broker = Broker::start(&[]);
    assert_eq!(try_from(&broker, &format!("http://{}", broker.public)), 101);
    let port = broker.public.port();
    for origin in [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://localhost:8080",
        &format!("http://127.0.0.1:{port}.evil.example"),
        &format!("http://127.0.0.1.evil.example:{port}"),
    ] {
        assert_eq!(try_from(&broker, origin), 403, "{origin}");
    }
    let broker = Broker::start(&["allowed_origins = [\"https://app.example\"]"]);
    assert_eq!(try_from(&broker, "https://app.example"), 101);
    for origin in ["http://app.example", "https://app.example.evil.example", "https://app.example:444"] {
        assert_eq!(try_from(&broker, origin), 403, "{origin}");
    }
    let broker = Broker::start(&["allowed_origins = [\"*\"]"]);
    assert_eq!(try_from(&broker, "https://any.example"), 101);
    assert!(broker.metric("fanfare_handshakes_rejected_total", &[]) == 0.0);
}

#[test]
fn an_app_that_is_off_answers_404() {
    let broker = Broker::start(&["apps.market = false"]);
    let token = token("ada-0001");
    let response = Client::try_open(broker.public, &format!("/feed?token={token}"), &[]).err().unwrap();
    assert_eq!((response.status, response.code().as_str()), (404, "NOT_FOUND"));
    Client::open(broker.public, &format!("/ws?token={token}"), &[]);
    let broker = Broker::start(&["apps.account = false"]);
    let response = Client::try_open(broker.public, &format!("/ws?token={token}"), &[]).err().unwrap();
    assert_eq!(response.status, 404);
    for path in ["/", "/nothing", "/feed/", "/FEED", "/metrics", "/publish", "/healthz"] {
        let response = Client::try_open(broker.public, path, &[]).err().unwrap();
        assert_eq!((response.status, response.code().as_str()), (404, "NOT_FOUND"), "{path}");
    }
}

#[test]
fn secrets_and_tokens_are_never_logged() {
    let broker = Broker::start(&["log.level = \"trace\"", "limits.connections_per_user = 1"]);
    let good = token("ada-0001");
    let bad = sign_with(json!({ "sub": "ada-0001", "exp": now() + 60 }), &[b'x'; 64], Algorithm::HS256);
    let _first = Client::open(broker.public, &format!("/feed?token={good}"), &[]);
    for token in [&good, &bad] {
        for path in [format!("/feed?token={token}"), format!("/nothing?token={token}")] {
            Client::try_open(broker.public, &path, &[]).err().unwrap();
        }
        Client::try_open(broker.public, "/feed", &[("Authorization", &format!("Bearer {token}"))])
            .err()
            .unwrap();
    }
    let mut ada = Client::open(broker.public, &format!("/ws?token={good}"), &[]);
    ada.text(json!({ "type": "authenticate", "token": bad }));
    ada.next();
    crate::support::http::request(
        broker.public,
        "GET",
        &format!("/feed?token={good}"),
        &client::UPGRADE[..1],
        b"",
    );
    let all = format!(
        "{}{}{}",
        broker.log().join("\n"),
        broker.get("/metrics").text(),
        broker.get("/stats").text()
    );
    assert!(all.contains("refused"), "nothing was logged: {all}");
    for secret in [
        good.as_str(),
        bad.as_str(),
        SECRET,
        good.rsplit('.').next().unwrap(),
        bad.rsplit('.').next().unwrap(),
    ] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}
