//! The test page of `serve --dev`: its files over HTTP, compared with what the reference server does with the same file, and
//! the page in a real browser that can reach nothing but the broker.
//!
//! The browser is `chromium` on the PATH (Debian: chromium), or the program that the variable `CHROMIUM` names. Without one
//! the test says so and passes, except where `CI` is set.

use std::env;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::install;
use crate::script::Script;
use crate::support::Broker;
use crate::support::http::{self, Response};

const PAGE: &str = "/websocket_test";
const CLIENT: &str = "/socket.io/socket.io.min.js";

fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    http::request(address, "GET", path, headers, b"")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page")
}

/// The browser, if there is one.
fn chromium() -> Option<PathBuf> {
    let named = env::var_os("CHROMIUM").filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    named
        .or_else(|| env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file()))
}

/// Runs a script of scenarios in the browser. `None`: there is none, and none is asked for.
fn in_a_browser(broker: &Broker, script: &str) -> Option<Vec<Value>> {
    let Some(chromium) = chromium() else {
        let is_ci = env::var("CI").is_ok_and(|value| !["", "false", "0"].contains(&&*value));
        assert!(!is_ci, "no chromium on the PATH: install it (Debian: chromium), or name one in CHROMIUM");
        say(
            "the test page is not looked at: no chromium on the PATH (Debian: chromium), none named in CHROMIUM",
        );
        return None;
    };
    let folder = pictures();
    fs::create_dir_all(&folder).unwrap();
    let parameters = [
        ("CHROMIUM", chromium.to_str().unwrap()),
        ("SCREENSHOTS", folder.to_str().unwrap()),
        ("TRANSPORTS", "websocket"),
    ];
    Some(Script::against(broker, script, &parameters).results())
}

/// A line that is seen of a test that passes, too: the test runner keeps only what the macros print.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("page")
}

#[test]
fn the_page_in_a_browser() {
    let broker = Broker::start_dev(&["limits.connections_per_user = 20"]);
    let Some(results) = in_a_browser(&broker, "page.mjs") else { return };
    let screenshots: Vec<&str> = results.iter().filter_map(|result| result["screenshot"].as_str()).collect();
    assert!(screenshots.len() >= 3, "{results:?}");
    for screenshot in screenshots {
        say(&format!("screenshot of the test page: {screenshot}"));
        assert!(fs::metadata(screenshot).unwrap().len() > 20_000, "{screenshot} shows next to nothing");
    }
    broker.wait_for_zero();
}

#[test]
fn the_page_renews_its_tokens() {
    let broker = Broker::start_dev(&["auth.access_ttl = \"75s\""]);
    if in_a_browser(&broker, "renewal.mjs").is_some() {
        broker.wait_for_zero();
        // On the connections it had, but for the app whose clients connect anew.
        for app in ["account", "market", "conversation"] {
            let label = format!("app=\"{app}\"");
            assert_eq!(broker.metric("fanfare_connections_opened_total", &[&label]), 1.0, "{app}");
        }
    }
}

#[test]
fn without_dev_there_is_no_page() {
    let broker = Broker::start(&[]);
    for path in [PAGE, "/websocket_test/page.js", "/websocket_test/page.css", CLIENT] {
        let answer = get(broker.public, path, &[]);
        assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"), "{path}");
    }
}

#[test]
fn the_page_is_told_what_it_may_load() {
    let broker = Broker::start_dev(&[]);
    let page = get(broker.public, "/websocket_test?as=agent@example.com", &[]);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.text(), fs::read_to_string(sources().join("index.html")).unwrap());
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'; connect-src 'self' ws: wss:;"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let wanted = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")];
    for (name, value) in wanted {
        assert_eq!(page.header(name), Some(value));
    }
    let style = get(broker.public, "/websocket_test/page.css", &[]);
    assert_eq!((style.status, style.header("content-type")), (200, Some("text/css; charset=utf-8")));
    assert_eq!(get(broker.public, "/websocket_test/none.js", &[]).status, 404);
    let post = http::request(broker.public, "POST", PAGE, &[], b"x");
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    // The page signs in as these, who must be there.
    for email in ["user@example.com", "agent@example.com"] {
        assert!(page.text().contains(&format!("<option value=\"{email}\">")));
        assert!(page.text().contains("name=\"password\" type=\"password\" value=\"password123\""));
        let body = json!({ "email": email, "password": "password123" }).to_string();
        let headers = [("Content-Type", "application/json")];
        let answer = http::request(broker.public, "POST", "/api/v1/auth/login", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[test]
fn the_client_is_served_as_the_reference_server_does() {
    let settings = json!({ "serveClient": true }).to_string();
    let mut reference = Script::start("reference.mjs", &[("SETTINGS", &settings)]);
    let port = reference.next()["port"].as_u64().unwrap() as u16;
    let broker = Broker::start_dev(&[]);
    let tag = get(broker.public, CLIENT, &[]).header("etag").unwrap().to_owned();
    let weak = format!("W/{tag}");
    for headers in [
        vec![],
        vec![("If-None-Match", tag.as_str())],
        vec![("If-None-Match", &weak)],
        vec![("If-None-Match", "\"0\"")],
    ] {
        // The reference server sends it in chunks, which the tests' client does not put together.
        let shown = |answer: &Response| {
            let header = |name| answer.header(name).map(str::to_owned);
            (answer.status, ["content-type", "etag", "cache-control"].map(header))
        };
        let expected = get(SocketAddr::from(([127, 0, 0, 1], port)), CLIENT, &headers);
        let answer = get(broker.public, CLIENT, &headers);
        assert_eq!(shown(&answer), shown(&expected), "{headers:?}");
        let file = fs::read(sources().join("vendor/socket.io.min.js")).unwrap();
        assert!(answer.body == if answer.status == 200 { file } else { Vec::new() }, "{headers:?}");
    }
}

#[test]
fn the_client_is_that_of_the_package() {
    let file = fs::read(sources().join("vendor/socket.io.min.js")).unwrap();
    let package = install::node_modules().join("node_modules/socket.io-client");
    assert!(
        file == fs::read(package.join("dist/socket.io.min.js")).unwrap(),
        "src/page/vendor is not the package's"
    );
    assert_eq!(
        fs::read_to_string(sources().join("vendor/LICENSE")).unwrap(),
        fs::read_to_string(package.join("LICENSE")).unwrap()
    );
    let read_me = fs::read_to_string(sources().join("vendor/README.md")).unwrap();
    let sum: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(read_me.contains(&sum), "src/page/vendor/README.md does not have the sum {sum}");
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(package.join("package.json")).unwrap()).unwrap();
    assert!(read_me.contains(&format!("| version | {} |", manifest["version"].as_str().unwrap())));
}
