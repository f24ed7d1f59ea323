//! fanfare as identity provider (`spec/auth.md`, "Issuing tokens"), with users that `fanfare user` adds meanwhile.

use std::io::Write;
use std::process::{Command, Stdio};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::support::broker::TemporaryDirectory;
use crate::support::http::{self, Response};
use crate::support::socketio::{Socket, Transport};
use crate::support::token::{now, short_token};
use crate::support::{Broker, Client, each_shard_count};

const EMAIL: &str = "ann@example.com";
const PASSWORD: &str = "correct horse battery";
const PATHS: [&str; 2] = ["/api/auth/login", "/api/v1/auth/login"];

/// Runs `fanfare user` on the broker's database, with the password on standard input.
#[track_caller]
fn user(broker: &Broker, arguments: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .arg("user")
        .args(arguments)
        .arg("--config")
        .arg(broker.directory().path("fanfare.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A broker with a user, whose id is 1234.
fn start(lines: &[&str]) -> Broker {
    let broker = Broker::start(lines);
    user(&broker, &["add", EMAIL, "--id", "1234", "--name", "Ann"]);
    broker
}

fn login(broker: &Broker, path: &str, email: &str, password: &str) -> Response {
    let body = json!({ "email": email, "password": password }).to_string();
    http::request(broker.public, "POST", path, &[("Content-Type", "application/json")], body.as_bytes())
}

fn with_token(broker: &Broker, path: &str, token: &str) -> Response {
    http::request(broker.public, "POST", path, &[("Authorization", &format!("Bearer {token}"))], b"")
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}: {value}")).to_owned()
}

#[track_caller]
fn access(broker: &Broker) -> String {
    let response = login(broker, PATHS[0], EMAIL, PASSWORD);
    assert_eq!(response.status, 200, "{response:?}");
    text(&response.json(), "accessToken")
}

#[track_caller]
fn websocket_token(broker: &Broker, access: &str) -> String {
    let response = with_token(broker, "/api/websocket/token", access);
    assert_eq!(response.status, 200, "{response:?}");
    let body = response.json();
    assert_eq!(body, json!({ "token": body["token"], "expiresIn": 60 }));
    text(&body, "token")
}

/// Whether a token opens the app account.
fn opens(broker: &Broker, token: &str) -> bool {
    Client::try_open(broker.public, &format!("/ws?token={token}"), &[]).is_ok()
}

#[test]
fn a_user_who_is_added_while_the_broker_runs_signs_in_on_both_paths() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        assert_eq!(login(&broker, PATHS[0], EMAIL, PASSWORD).status, 401);
        let said = user(&broker, &["add", EMAIL, "--id", "1234", "--name", "Ann"]);
        assert!(said.contains(EMAIL) && said.contains("1234"), "{said}");
        for path in PATHS {
            let response = login(&broker, path, EMAIL, PASSWORD);
            assert_eq!(response.status, 200, "{response:?}");
            assert_eq!(response.header("cache-control"), Some("no-store"));
            let body = response.json();
            assert_eq!(body["access_token"], body["accessToken"]);
            let (access, refresh) = (text(&body, "access_token"), text(&body, "refreshToken"));
            let expected = format!(
                r#"{{"access_token":"{access}","token_type":"bearer","accessToken":"{access}","refreshToken":"{refresh}","expiresIn":900}}"#
            );
            assert_eq!(response.text(), expected);
        }
        for (email, password) in [(EMAIL, "wrong"), ("nobody@example.com", PASSWORD)] {
            let response = login(&broker, PATHS[1], email, password);
            assert_eq!((response.status, response.code().as_str()), (401, "UNAUTHORIZED"), "{email}");
        }
        user(&broker, &["disable", EMAIL]);
        assert_eq!(login(&broker, PATHS[0], EMAIL, PASSWORD).status, 401);
        user(&broker, &["enable", EMAIL]);
        assert_eq!(login(&broker, PATHS[0], EMAIL, PASSWORD).status, 200);
    });
}

#[test]
fn the_token_opens_every_app() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let access = access(&broker);
        let mut publisher = broker.publisher();
        let mut phone = Client::open(broker.public, &format!("/ws?token={access}&platform=ios"), &[]);
        publisher.publish(json!({ "user": "1234", "event": "e", "data": 1, "app": "account" }));
        assert_eq!(phone.next()["userId"], 1234);
        Client::market_with(broker.public, &access).join("user:1234");
        let mut socket = Socket::open(broker.public, Transport::WebSocket);
        socket.enter(json!({ "token": access }));
        let mut chat = Client::chat_with(&broker, &access);
        chat.send("user:status", json!({ "status": "away" }));
        assert_eq!(chat.next()["data"]["user_id"], "1234");
        let authorization = format!("Bearer {access}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let made = http::request(
            broker.public,
            "POST",
            "/api/v1/conversations",
            &headers,
            br#"{"participant_id":"bob"}"#,
        );
        assert_eq!(
            (made.status, &made.json()["participants"][0]["username"]),
            (201, &json!("Ann")),
            "{made:?}"
        );
    });
}

#[test]
fn a_refresh_token_gives_new_tokens_as_often_as_asked_and_over_a_restart() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let refresh = text(&login(&broker, PATHS[1], EMAIL, PASSWORD).json(), "refreshToken");
        for _ in 0..3 {
            let response = with_token(&broker, "/api/v1/auth/refresh", &refresh);
            assert_eq!(response.status, 200, "{response:?}");
            assert!(opens(&broker, &text(&response.json(), "access_token")));
        }
        // It is no access token, and an access token is none.
        assert!(!opens(&broker, &refresh));
        let response = with_token(&broker, "/api/v1/auth/refresh", &access(&broker));
        assert_eq!((response.status, response.code().as_str()), (401, "UNAUTHORIZED"));
        let response = http::request(broker.public, "POST", "/api/v1/auth/refresh", &[], b"");
        assert_eq!((response.status, response.code().as_str()), (401, "AUTH_REQUIRED"));
        // A new password ends it.
        user(&broker, &["passwd", EMAIL]);
        assert_eq!(with_token(&broker, "/api/v1/auth/refresh", &refresh).status, 401);
    });
}

#[test]
fn a_refresh_token_that_is_used_twice_ends_its_family_where_they_rotate() {
    each_shard_count(|shards| {
        let broker = start(&[shards, "auth.rotate_refresh = true"]);
        let refresh = |token: &str| with_token(&broker, "/api/v1/auth/refresh", token);
        let first = text(&login(&broker, PATHS[1], EMAIL, PASSWORD).json(), "refreshToken");
        let second = text(&refresh(&first).json(), "refreshToken");
        let third = text(&refresh(&second).json(), "refreshToken");
        assert!(first != second && second != third);
        assert_eq!(refresh(&first).status, 401);
        assert_eq!(refresh(&third).status, 401);
        // Another sign-in is another family.
        let other = text(&login(&broker, PATHS[1], EMAIL, PASSWORD).json(), "refreshToken");
        assert_eq!(refresh(&other).status, 200);
    });
}

#[test]
fn a_websocket_token_opens_one_connection() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let access = access(&broker);
        // Wherever it stands, and on whichever shard the second one arrives.
        for _ in 0..4 {
            let token = websocket_token(&broker, &access);
            let path = format!("/ws?token={token}");
            let mut phone = Client::open(broker.public, &path, &[]);
            for _ in 0..3 {
                let refused = Client::try_open(broker.public, &path, &[]).err().expect("a refusal");
                assert_eq!((refused.status, refused.code().as_str()), (401, "AUTH_REQUIRED"));
            }
            phone.text(r#"{"type":"ping"}"#);
            assert_eq!(phone.next()["type"], "pong");
            phone.close();
        }
        let token = websocket_token(&broker, &access);
        Client::chat_with(&broker, &token);
        assert!(!opens(&broker, &token));
        let protocol = format!("fanfare.bearer, {}", websocket_token(&broker, &access));
        let mut chat = Client::open(broker.public, "/ws", &[("Sec-WebSocket-Protocol", &protocol)]);
        assert_eq!(chat.next()["event"], "connection:established");
        Client::market_with(broker.public, &websocket_token(&broker, &access));
    });
}

#[test]
fn a_websocket_token_opens_one_connection_of_socket_io() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let access = access(&broker);
        for transport in [Transport::WebSocket, Transport::Polling] {
            let token = websocket_token(&broker, &access);
            let mut socket = Socket::open(broker.public, transport);
            socket.enter(json!({ "token": token }));
            socket.join("user:1234");
            let mut again = Socket::open(broker.public, transport);
            let refused = again.connect(json!({ "token": token })).expect_err("used");
            assert!(refused["message"].as_str().unwrap().starts_with("401"), "{refused}");
            assert!(!opens(&broker, &token));
        }
    });
}

#[test]
fn of_many_that_use_a_websocket_token_at_once_one_comes_in() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let access = access(&broker);
        for _ in 0..5 {
            let token = websocket_token(&broker, &access);
            let opened: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| opens(&broker, &token))).collect();
                threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!(opened, 1);
        }
        broker.wait_for_zero();
    });
}

#[test]
fn a_websocket_token_is_good_for_nothing_else() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let access = access(&broker);
        let token = websocket_token(&broker, &access);
        for path in ["/api/websocket/token", "/api/v1/auth/refresh"] {
            let response = with_token(&broker, path, &token);
            assert_eq!((response.status, response.code().as_str()), (401, "UNAUTHORIZED"), "{path}");
        }
        let authorization = format!("Bearer {token}");
        let response = http::request(
            broker.public,
            "GET",
            "/api/v1/conversations",
            &[("Authorization", &authorization)],
            b"",
        );
        assert_eq!((response.status, response.code().as_str()), (401, "AUTH_REQUIRED"));
        let mut chat = Client::chat_with(&broker, &access);
        assert!(chat.ask("authenticate", json!({ "token": token }), "auth_error")["code"].is_string());
        // None of it has used it up.
        assert!(opens(&broker, &token));
        for (token, code) in [("a.b.c", "UNAUTHORIZED"), (&*short_token("1234", -60), "TOKEN_EXPIRED")] {
            let response = with_token(&broker, "/api/websocket/token", token);
            assert_eq!((response.status, response.code().as_str()), (401, code));
        }
    });
}

#[test]
fn a_connection_that_a_websocket_token_opened_lives_as_long_as_the_access_token() {
    let broker = start(&["auth.access_ttl = \"3s\"", "auth.grace = \"1s\""]);
    let token = websocket_token(&broker, &access(&broker));
    let mut chat = Client::chat_with(&broker, &token);
    assert_eq!(chat.next()["event"], "token_expired");
    chat.expect_close(1008);
}

#[test]
fn after_5_failures_a_user_waits() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        user(&broker, &["add", "bob@example.com"]);
        for path in PATHS.iter().cycle().take(5) {
            assert_eq!(login(&broker, path, EMAIL, "wrong").status, 401);
        }
        for (path, password) in [(PATHS[0], PASSWORD), (PATHS[1], "wrong")] {
            let response = login(&broker, path, EMAIL, password);
            assert_eq!((response.status, response.code().as_str()), (429, "RATE_LIMITED"));
            let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
        // Others do not.
        assert_eq!(login(&broker, PATHS[0], "bob@example.com", PASSWORD).status, 200);
    });
}

#[test]
fn after_5_failures_an_address_waits_whoever_it_claims_to_be() {
    let broker = start(&["limits.exempt = []"]);
    for n in 0..5 {
        assert_eq!(login(&broker, PATHS[0], &format!("user-{n}@example.com"), "wrong").status, 401);
    }
    let response = login(&broker, PATHS[0], EMAIL, PASSWORD);
    assert_eq!(response.status, 429, "{response:?}");
    assert!(response.header("retry-after").is_some());
}

#[test]
fn what_is_switched_off_is_not_found() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "auth.issue_tokens = false"]);
        for path in ["/api/auth/login", "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/websocket/token"]
        {
            let response =
                http::request(broker.public, "POST", path, &[("Content-Type", "application/json")], b"{}");
            assert_eq!((response.status, response.code().as_str()), (404, "NOT_FOUND"), "{path}");
        }
        // The rest of it is there.
        broker.conversation("ada", "bob");
    });
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let broker = start(&[]);
    let post = |path: &str, content_type: &str, body: &str| {
        http::request(broker.public, "POST", path, &[("Content-Type", content_type)], body.as_bytes())
    };
    let good = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    for path in PATHS {
        for body in ["", "{", "[]", "{}", r#"{"email":7,"password":"x"}"#, r#"{"email":"a@b","password":""}"#]
        {
            let response = post(path, "application/json", body);
            assert_eq!(response.status, 400, "{path} {body}");
            response.code();
        }
        assert_eq!(post(path, "text/plain", &good).status, 415);
        assert_eq!(post(path, "application/json;charset=UTF-8", &good).status, 200);
        let response = http::request(broker.public, "GET", path, &[], b"");
        assert_eq!((response.status, response.header("allow")), (405, Some("POST")));
    }
    let privy = json!({ "privyToken": "a.b.c" }).to_string();
    let response = post(PATHS[1], "application/json", &privy);
    assert_eq!((response.status, response.code().as_str()), (400, "VALIDATION_ERROR"));
    // Nothing secret is in the log.
    assert!(!broker.log().iter().any(|line| line.contains(PASSWORD)));
}

#[test]
fn the_token_of_another_provider_is_exchanged() {
    let directory = TemporaryDirectory::new();
    let key = KeyPair::generate().unwrap();
    let path = directory.write("exchange.pem", &key.public_key_pem());
    let broker = Broker::start(&[
        &format!("auth.exchange.public_keys = [{path:?}]"),
        "auth.exchange.issuer = \"privy.example\"",
    ]);
    let signing = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let sign = |issuer: &str| {
        let claims = json!({ "sub": "did:privy:1", "exp": now() + 60, "iss": issuer, "username": "Ann" });
        encode(&Header::new(Algorithm::ES256), &claims, &signing).unwrap()
    };
    let exchange = |path: &str, token: &str| {
        let body = json!({ "privyToken": token }).to_string();
        http::request(broker.public, "POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    };
    let good = sign("privy.example");
    let response = exchange(PATHS[1], &good);
    assert_eq!(response.status, 200, "{response:?}");
    let mut chat = Client::chat_with(&broker, &text(&response.json(), "accessToken"));
    chat.send("user:status", json!({ "status": "busy" }));
    assert_eq!(chat.next()["data"]["user_id"], "did:privy:1");
    let refresh = text(&response.json(), "refreshToken");
    assert_eq!(with_token(&broker, "/api/v1/auth/refresh", &refresh).status, 200);
    // It is exchanged there and good nowhere else.
    assert!(!opens(&broker, &good));
    assert_eq!(exchange(PATHS[0], &good).status, 400);
    for wrong in [sign("other.example"), "a.b.c".to_owned(), text(&response.json(), "accessToken")] {
        assert_eq!(exchange(PATHS[1], &wrong).status, 401);
    }
}

#[test]
fn many_sign_ins_at_once_are_all_answered() {
    each_shard_count(|shards| {
        let broker = start(&[shards]);
        let mut chat = Client::chat_with(&broker, &access(&broker));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let sign_in = || login(&broker, PATHS[0], EMAIL, PASSWORD).status;
            let threads: Vec<_> = (0..60).map(|_| scope.spawn(sign_in)).collect();
            // What others do does not wait for it.
            for _ in 0..20 {
                chat.send("user:status", json!({ "status": "busy" }));
                assert_eq!(chat.next()["event"], "user:status_updated");
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // 429: of one user not more are tried at once than may fail; 503: more wait than may.
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429 | 503)), "{statuses:?}");
        assert!(statuses.contains(&200), "{statuses:?}");
        assert_eq!(login(&broker, PATHS[0], EMAIL, PASSWORD).status, 200);
    });
}
