//! The OpenAPI document, over HTTP and printed, and its paths on the broker that gives it out.

use std::process::Command;

use serde_json::Value;

use crate::support::broker::TemporaryDirectory;
use crate::support::http::{self, Response};
use crate::support::{Broker, each_shard_count};

const PATH: &str = "/openapi.json";

/// Whose endpoints the document is to have, whatever else comes.
const CHAT: [&str; 10] = [
    "/api/v1/chat/block",
    "/api/v1/chat/sessions",
    "/api/v1/chat/sessions/{session_id}",
    "/api/v1/chat/sessions/{session_id}/close",
    "/api/v1/chat/sessions/{session_id}/mark-read",
    "/api/v1/chat/sessions/{session_id}/messages",
    "/api/v1/chat/sessions/{session_id}/participants",
    "/api/v1/chat/unblock",
    "/api/v1/chat/ws",
    "/api/v1/chat/ws-stats",
];

#[track_caller]
fn document(broker: &Broker) -> Response {
    let response = http::request(broker.public, "GET", PATH, &[], b"");
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    response
}

/// `fanfare openapi`
#[track_caller]
fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let output = command.arg("openapi").args(arguments).envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn paths(document: &Value) -> Vec<&str> {
    document["paths"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_command_prints_what_the_server_answers() {
    for lines in [
        &["shards = 1"] as &[&str],
        &["shards = 3", r#"openapi.title = "Chat \"Backend\" API""#],
        &["apps.support = false", "apps.mobile = false"],
        &["auth.issue_tokens = false", "apps.conversation = false"],
        // No app needs the store.
        &[
            "auth.issue_tokens = false",
            "apps.conversation = false",
            "apps.support = false",
            "apps.mobile = false",
        ],
    ] {
        let broker = Broker::start(lines);
        let configuration = broker.directory().path("fanfare.toml");
        let printed = printed(&["--config", configuration.to_str().unwrap()], &[]);
        assert!(document(&broker).body == printed, "{lines:?}");
    }
}

#[test]
fn the_title_is_configured() {
    let title = |document: &[u8]| -> String {
        let document: Value = serde_json::from_slice(document).unwrap();
        document["info"]["title"].as_str().unwrap().to_owned()
    };
    assert_eq!(title(&printed(&[], &[])), "fanfare");
    assert_eq!(
        title(&printed(&[], &[("FANFARE_OPENAPI__TITLE", "SwipeSavvy Backend API")])),
        "SwipeSavvy Backend API"
    );
    let directory = TemporaryDirectory::new();
    let file = directory.write("other.toml", "openapi.title = \"t\u{e9}st\"\n");
    assert_eq!(title(&printed(&["--config", file.to_str().unwrap()], &[])), "t\u{e9}st");
    let broker = Broker::start(&["openapi.title = \"mine\""]);
    assert_eq!(title(&document(&broker).body), "mine");
}

#[test]
fn every_path_is_there_and_takes_no_other_method() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let document = document(&broker).json();
        let chat: Vec<&str> =
            paths(&document).into_iter().filter(|path| path.starts_with("/api/v1/chat")).collect();
        assert_eq!(chat, CHAT);
        for (path, item) in document["paths"].as_object().unwrap() {
            let asked = path.replace("{session_id}", &id()).replace("{conversation_id}", &id());
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let response = http::request(broker.public, method, &asked, &[], b"");
                match item.get(method.to_lowercase()) {
                    Some(operation) => {
                        assert!(![404, 405].contains(&response.status), "{method} {path}: {response:?}");
                        let status = response.status.to_string();
                        assert!(
                            operation["responses"].get(&status).is_some(),
                            "{method} {path}: {response:?}"
                        );
                    }
                    None => {
                        let allowed = response.header("allow").unwrap().split(", ").map(str::to_lowercase);
                        let described = allowed.filter(|method| item.get(method).is_some()).count();
                        let methods =
                            item.as_object().unwrap().keys().filter(|key| *key != "parameters").count();
                        assert_eq!(
                            (response.status, described),
                            (405, methods),
                            "{method} {path}: {response:?}"
                        );
                    }
                }
            }
        }
    });
}

/// Of something that does not exist.
fn id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[test]
fn what_is_switched_off_is_neither_described_nor_there() {
    let all = Broker::start(&[]);
    let few = Broker::start(&["apps.support = false", "auth.issue_tokens = false"]);
    let (all, described) = (document(&all).json(), document(&few).json());
    let mut missing = 0;
    for path in paths(&all).into_iter().filter(|path| !paths(&described).contains(path)) {
        let response = http::request(few.public, "POST", &path.replace("{session_id}", &id()), &[], b"");
        assert_eq!(response.status, 404, "{path}: {response:?}");
        missing += 1;
    }
    // Those of support sessions, and the four of signing in.
    assert_eq!(missing, CHAT.len() + 4);
}

#[test]
fn pages_of_allowed_origins_may_read_it() {
    let broker = Broker::start(&[r#"allowed_origins = ["https://docs.example"]"#]);
    let ask = |method, headers: &[(&str, &str)]| http::request(broker.public, method, PATH, headers, b"");
    let docs = ("Origin", "https://docs.example");
    let response = ask("GET", &[docs]);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://docs.example"));
    let response = ask("GET", &[("Origin", "https://evil.example")]);
    assert_eq!((response.status, response.code().as_str()), (403, "ACCESS_DENIED"));
    assert_eq!(ask("OPTIONS", &[docs, ("Access-Control-Request-Method", "GET")]).status, 204);
    let response = ask("POST", &[]);
    assert_eq!((response.status, response.header("allow")), (405, Some("GET")));
}
