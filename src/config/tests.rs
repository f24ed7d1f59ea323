//! Precedence of the sources, the text of each fault, what is printed, what changes live.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::audience::App;
use crate::limits::Rate;
use crate::settings::{LogLevel, RoomJoin, RoomPolicy, Secret};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A file that is removed at the end of the test.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(text: &str) -> TemporaryFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
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

fn sources(file: Option<&TemporaryFile>, environment: &[(&str, &str)]) -> Sources {
    Sources {
        file: file.map(|file| file.0.clone()),
        environment: environment.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect(),
        ..Sources::default()
    }
}

/// Loads a file with a secret and this text, and variables.
fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = TemporaryFile::new(text);
    let mut sources = sources(Some(&file), environment);
    sources.development = Some(Secret::new(SECRET));
    Config::load(&sources)
}

/// The only fault of this file, its path replaced by `FILE`.
fn fault(text: &str) -> String {
    let file = TemporaryFile::new(text);
    let mut sources = sources(Some(&file), &[]);
    sources.development = Some(Secret::new(SECRET));
    let error = Config::load(&sources).expect_err(text);
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string().replace(&file.0.display().to_string(), "FILE")
}

fn variable_fault(name: &str, text: &str) -> String {
    let error = load("", &[(name, text)]).expect_err(name);
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = load("", &[]).expect("valid");
    let expected = Config {
        development: true,
        allowed_origins: vec!["*".to_owned()],
        auth: crate::settings::AuthSettings { secret: Secret::new(SECRET), ..Default::default() },
        ..Config::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn the_file_of_the_contract_is_accepted_and_says_what_the_defaults_are() {
    let text = r#"
listen = ["0.0.0.0:8080"]
shards = 0
allowed_origins = []
[tls]
cert = ""
key = ""
[ingest]
listen = "127.0.0.1:7400"
token = ""
max_line = 65536
tls = { cert = "", key = "", client_ca = "" }
[admin]
listen = "127.0.0.1:9464"
token = ""
[store]
path = "fanfare.db"
[apps]
account = true
market = true
conversation = true
support = true
mobile = true
[auth]
secret = ""
public_keys = []
jwks_file = ""
issuer = ""
audience = ""
anonymous = false
grace = "30s"
issue_tokens = true
exchange = { public_keys = [], issuer = "", audience = "" }
[limits]
message_size = 32768
connections = 0
connections_per_user = 5
connects_per_user = "10/1m"
connects_per_address = "600/1m"
handshake = "30s"
request_head = 16384
messages = ["30/1m", "500/1h", "2000/1d"]
typing = "20/1m"
conversations = "50/1d"
control = "120/10s"
pings = "100/10s"
rooms_per_connection = 1024
rooms = 1000000
keys_per_room = 64
attachments = 10
json_depth = 64
outbox = 1048576
login = "5/1m"
[liveness]
ping_interval = "30s"
pong_timeout = "60s"
[socketio]
ping_interval = "25s"
ping_timeout = "20s"
upgrade_timeout = "10s"
connect_timeout = "45s"
recovery = "2m"
recovery_namespaces = ["/"]
[fanout]
pace = "2ms"
[openapi]
title = "fanfare"
[filter]
words = true
personal_information = true
[drain]
seconds = 10
[log]
level = "info"
format = "auto"
[[rooms]]
prefix = "news"
pattern = "[a-z]{2,20}"
policy = "latest"
join = "authenticated"
"#;
    let config = load(text, &[]).expect("valid");
    let rooms = vec![RoomPrefix {
        prefix: "news".to_owned(),
        pattern: "[a-z]{2,20}".to_owned(),
        policy: RoomPolicy::Latest,
        join: RoomJoin::Authenticated,
    }];
    assert_eq!(config, Config { rooms, ..load("", &[]).expect("valid") });
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let file = TemporaryFile::new(
        "shards = 1\nlisten = [\"127.0.0.1:1\"]\n[log]\nlevel = \"warn\"\n[drain]\nseconds = 3\n",
    );
    let mut sources = sources(
        Some(&file),
        &[
            ("FANFARE_SHARDS", "2"),
            ("FANFARE_LISTEN", "127.0.0.1:2, [::1]:3"),
            ("FANFARE_AUTH__SECRET", SECRET),
            ("HOME", "/nowhere"),
        ],
    );
    sources.flags.push(Flag { flag: "--shards", key: "shards", text: "3".to_owned() });
    let config = Config::load(&sources).expect("valid");
    assert_eq!(config.shards, 3);
    assert_eq!(
        config.listen,
        ["127.0.0.1:2".parse().expect("an address"), "[::1]:3".parse().expect("an address")]
    );
    assert_eq!((config.log.level, config.drain.seconds), (LogLevel::Warn, 3));
    assert!(config.allowed_origins.is_empty(), "any origin only with --dev");
}

#[test]
fn every_kind_of_value_can_come_from_a_variable() {
    let config = load(
        "",
        &[
            ("FANFARE_LIMITS__TYPING", "off"),
            ("FANFARE_LIMITS__CONTROL", "7/2s"),
            ("FANFARE_LIMITS__MESSAGES", "5/1s, 6/1m"),
            ("FANFARE_LIMITS__CONNECTIONS_PER_USER", "off"),
            ("FANFARE_LIMITS__CONNECTS_PER_ADDRESS", "0"),
            ("FANFARE_LIMITS__EXEMPT", "10.0.0.0/8,::1"),
            ("FANFARE_INGEST__TLS__CLIENT_CA", ""),
            ("FANFARE_APPS__MOBILE", "false"),
            ("FANFARE_FANOUT__PACE", "off"),
            ("FANFARE_AUTH__GRACE", "1m"),
            ("FANFARE_AUTH__SECRETS", "first, second"),
            ("FANFARE_AUTH__EXCHANGE__ISSUER", "privy"),
            ("FANFARE_ALLOWED_ORIGINS", "https://a.example, https://b.example:8443"),
            ("FANFARE_ROOMS", "[{ prefix = \"news\", pattern = \"[a-z]{2,20}\", join = \"owner\" }]"),
        ],
    )
    .expect("valid");
    assert_eq!(config.limits.typing, None);
    assert_eq!(config.limits.control, Some(Rate::per_seconds(7, 2)));
    assert_eq!(config.limits.messages, [Rate::per_seconds(5, 1), Rate::per_seconds(6, 60)]);
    assert_eq!((config.limits.connections_per_user, config.limits.connects_per_address), (0, None));
    assert_eq!(config.limits.exempt.len(), 2);
    assert!(!config.apps.is_on(App::Mobile) && config.apps.is_on(App::Market));
    assert_eq!((config.fanout.pace, config.auth.grace), (None, Duration::from_secs(60)));
    assert_eq!(config.auth.secrets, [Secret::new("first"), Secret::new("second")]);
    assert_eq!(config.auth.exchange.issuer, "privy");
    assert_eq!(config.allowed_origins, ["https://a.example", "https://b.example:8443"]);
    assert_eq!((config.rooms[0].join, config.rooms[0].policy), (RoomJoin::Owner, RoomPolicy::Every));
    assert!(load("", &[("FANFARE_LIMITS__MESSAGES", "off")]).expect("valid").limits.messages.is_empty());
}

#[test]
fn an_unknown_key_is_a_fault_with_a_suggestion() {
    for (text, expected) in [
        ("shard = 2", "FILE:1: shard: unknown key, did you mean shards?"),
        ("\n[limits]\ntypin = \"1/1s\"", "FILE:3: limits.typin: unknown key, did you mean limits.typing?"),
        ("secret = \"x\"", "FILE:1: secret: unknown key, did you mean auth.secret?"),
        ("[limit]\ntyping = \"off\"", "FILE:1: limit: unknown key, did you mean limits?"),
        (
            "[ingest]\ntls = { certs = \"\" }",
            "FILE:2: ingest.tls.certs: unknown key, did you mean ingest.tls.cert?",
        ),
        ("[drain]\nwhatever = 1", "FILE:2: drain.whatever: unknown key, [drain] has seconds"),
        ("tls = 3", "FILE:1: tls: is a section: write [tls] and its keys below it"),
    ] {
        assert_eq!(fault(text), expected);
    }
    for (name, expected) in [
        (
            "FANFARE_LIMITS_TYPING",
            "FANFARE_LIMITS_TYPING: unknown variable, did you mean FANFARE_LIMITS__TYPING?",
        ),
        ("FANFARE_SHARD", "FANFARE_SHARD: unknown variable, did you mean FANFARE_SHARDS?"),
        ("FANFARE_X", "FANFARE_X: unknown variable, FANFARE_SECTION__KEY sets a key of the configuration"),
    ] {
        assert_eq!(variable_fault(name, "1"), expected);
    }
}

#[test]
fn a_wrong_value_is_a_fault_with_what_would_be_right() {
    for (text, expected) in [
        ("shards = \"two\"", "FILE:1: shards: \"two\" is not a whole number"),
        ("shards = -1", "FILE:1: shards: -1 is out of range: write a number from 0 to 1099511627776"),
        ("shards = 65", "FILE:1: shards: 65 is out of range: write a number from 0 to 64"),
        ("listen = \"0.0.0.0:80\"", "FILE:1: listen: is not a list: put it in brackets, [\"…\"]"),
        (
            "listen = [\"localhost:80\"]",
            "FILE:1: listen: \"localhost:80\" is not an address: write \"IP:PORT\", for example \"0.0.0.0:8080\" or \"[::]:8080\"",
        ),
        ("listen = []", "FILE:1: listen: write 1 to 16 addresses, for example [\"0.0.0.0:8080\"]"),
        (
            "listen = [\"127.0.0.1:7400\"]",
            "FILE:1: listen: 127.0.0.1:7400 stands twice: give each listener its own port",
        ),
        (
            "[limits]\ntyping = \"20\"",
            "FILE:2: limits.typing: \"20\" is not a rate: write COUNT/PERIOD, for example \"120/10s\"; or \"off\"",
        ),
        (
            "[limits]\nmessages = \"20/1s\"",
            "FILE:2: limits.messages: \"20/1s\" is not a list: write [\"20/1s\"], or \"off\"",
        ),
        (
            "[liveness]\nping_interval = 30",
            "FILE:2: liveness.ping_interval: 30 is not a duration: write it in quotes and with a unit, \"30s\"",
        ),
        (
            "[liveness]\nping_interval = \"0s\"",
            "FILE:2: liveness.ping_interval: \"0ms\" is out of range: write \"1ms\" to \"1d\"",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "FILE:2: log.level: \"loud\" is not one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
        ("[apps]\nmobile = 1", "FILE:2: apps.mobile: 1 is neither true nor false"),
        (
            "trusted_proxies = [\"10.0.0.0/40\"]",
            "FILE:1: trusted_proxies: \"10.0.0.0/40\" is not an address range: write an IP address or NETWORK/BITS, for example \"10.0.0.0/8\"",
        ),
        (
            "allowed_origins = [\"example.com\"]",
            "FILE:1: allowed_origins: \"example.com\" is not an origin: write scheme and host, for example \"https://example.com\", or \"*\" for any",
        ),
        ("[auth]\nsecret = 5", "FILE:2: auth.secret: is not text: write it in quotes"),
    ] {
        assert_eq!(fault(text), expected);
    }
    assert_eq!(
        variable_fault("FANFARE_LIMITS__OUTBOX", "1"),
        "FANFARE_LIMITS__OUTBOX: limits.outbox: 1 is out of range: write a number from 65536 to 1073741824"
    );
    assert_eq!(
        variable_fault("FANFARE_DRAIN__SECONDS", "10s"),
        "FANFARE_DRAIN__SECONDS: drain.seconds: \"10s\" is not a whole number"
    );
}

#[test]
fn room_prefixes_are_checked() {
    let room = |fields: &str| fault(&format!("[[rooms]]\n{fields}"));
    assert_eq!(room("prefix = \"news\""), "FILE:1: rooms: an entry has no pattern: add pattern = \"…\"");
    assert_eq!(
        room("prefix = \"price\"\npattern = \"x\""),
        "FILE:1: rooms: prefix \"price\" is built in: choose another"
    );
    assert_eq!(
        room("prefix = \"News:\"\npattern = \"x\""),
        "FILE:1: rooms: prefix \"News:\": write 1 to 32 of a-z, 0-9, _ and -, without the colon"
    );
    assert!(
        room("prefix = \"news\"\npattern = \"[a-\"")
            .contains("\"[a-\" of \"news\" is not a regular expression")
    );
    assert_eq!(
        room("prefix = \"news\"\npattern = \"x\"\npolice = \"every\""),
        "FILE:1: rooms: unknown key \"police\": an entry has prefix, pattern, policy, join"
    );
    assert_eq!(
        room("prefix = \"news\"\npattern = \"x\"\npolicy = \"some\""),
        "FILE:1: rooms: policy: \"some\" is not one of \"latest\", \"every\""
    );
    let twice = "prefix = \"news\"\npattern = \"x\"\n[[rooms]]\nprefix = \"news\"\npattern = \"y\"";
    assert!(room(twice).contains("stands twice"));
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_named_with_its_line() {
    assert!(fault("shards = 1\nshards = 2").starts_with("FILE:2: is not TOML: "));
    assert!(fault("[limits\n").starts_with("FILE:1: is not TOML: "));
    let missing = Sources { file: Some(PathBuf::from("/nowhere/fanfare.toml")), ..Sources::default() };
    let error = Config::read(&missing).expect_err("no such file").to_string();
    assert!(error.starts_with("/nowhere/fanfare.toml: cannot be read: "), "{error}");
}

#[test]
fn all_faults_are_told_at_once() {
    let error = load("shard = 1\n[log]\nlevel = 3", &[("FANFARE_X", "")]).expect_err("three faults");
    assert_eq!(error.problems.len(), 3);
    assert_eq!(error.to_string().lines().count(), 3);
}

#[test]
fn ports_open_to_others_need_a_token() {
    let expected = "FILE:2: ingest.listen: 0.0.0.0:7400 is not a loopback address, so anybody could publish: \
                    set ingest.token or ingest.tls.client_ca, or listen on 127.0.0.1";
    assert_eq!(fault("[ingest]\nlisten = \"0.0.0.0:7400\""), expected);
    assert!(fault("[admin]\nlisten = \"[::]:9464\"").contains("set admin.token"));
    assert!(load("[ingest]\nlisten = \"0.0.0.0:7400\"\ntoken = \"t\"", &[]).is_ok());
    assert!(load("[ingest]\nlisten = \"[::ffff:127.0.0.1]:7400\"", &[]).is_ok());
    let with_certificates = format!(
        "[ingest]\nlisten = \"0.0.0.0:7400\"\ntls = {{ cert = {path}, key = {path}, client_ca = {path} }}",
        path = "\"/dev/null\""
    );
    assert!(load(&with_certificates, &[]).is_ok());
}

#[test]
fn tls_needs_both_files_and_they_must_be_there() {
    assert_eq!(fault("[tls]\ncert = \"/dev/null\""), "FILE:2: tls.cert: stands alone: set tls.key too");
    assert_eq!(fault("[tls]\nkey = \"/dev/null\""), "FILE:2: tls.key: stands alone: set tls.cert too");
    let missing = fault("[tls]\ncert = \"/nowhere/a\"\nkey = \"/dev/null\"");
    assert!(missing.starts_with("FILE:2: tls.cert: /nowhere/a cannot be read: "), "{missing}");
    assert!(
        fault("[ingest.tls]\nclient_ca = \"/dev/null\"").contains("set ingest.tls.cert and ingest.tls.key")
    );
}

#[test]
fn serving_needs_a_key_and_other_commands_do_not() {
    let file = TemporaryFile::new("");
    let sources = sources(Some(&file), &[]);
    let error = Config::load(&sources).expect_err("no key").to_string();
    assert!(error.contains("auth.secret: no key verifies tokens: set auth.secret"), "{error}");
    assert!(Config::read(&sources).is_ok());
}

#[test]
fn development_does_not_override_what_is_configured() {
    let config =
        load("allowed_origins = [\"https://a.example\"]\n[auth]\nsecret = \"mine\"", &[]).expect("valid");
    assert_eq!(config.allowed_origins, ["https://a.example"]);
    assert_eq!(config.auth.secret, Secret::new("mine"));
    assert!(config.development);
    for (text, path) in [("", "/temporary/fanfare.db"), ("[store]\npath = \"fanfare.db\"", "fanfare.db")] {
        let file = TemporaryFile::new(text);
        let mut sources = sources(Some(&file), &[]);
        sources.development_store = Some("/temporary/fanfare.db".into());
        let config = Config::read(&sources).expect("valid");
        assert_eq!(config.store.path, std::path::Path::new(path));
        assert!(!config.development, "the test page is not for those who only have a database");
    }
}

#[test]
fn the_printed_configuration_masks_secrets_and_reads_back() {
    let text = "[ingest]\ntoken = \"ingest-token\"\n[admin]\ntoken = \"admin-token\"\n\
                [auth]\nsecrets = [\"secret-one\", \"secret-two\"]\n[limits]\ntyping = \"off\"\n\
                [[rooms]]\nprefix = \"news\"\npattern = \"[a-z]{2,20}\\\\d\"\n";
    let config = load(text, &[]).expect("valid");
    let printed = config.to_toml();
    for secret in ["ingest-token", "admin-token", "secret-one", "secret-two"] {
        assert!(!printed.contains(secret) && !format!("{config:?}").contains(secret), "{printed}");
    }
    assert!(printed.contains("\n[limits]\n") && printed.contains("\ntyping = \"off\"\n"), "{printed}");
    assert!(printed.contains("secrets = [\"********\", \"********\"]"), "{printed}");
    let mut again = load(&printed, &[]).expect("what is printed is valid");
    again.ingest.token = config.ingest.token.clone();
    again.admin.token = config.admin.token.clone();
    again.auth.secrets = config.auth.secrets.clone();
    assert_eq!(again, config);
}

#[test]
fn a_reload_takes_what_can_change_live_and_names_the_rest() {
    let old = TemporaryFile::new(&format!("[auth]\nsecret = \"{SECRET}\"\n"));
    let current = Config::load(&sources(Some(&old), &[])).expect("valid");
    let text = "shards = 3\nallowed_origins = [\"*\"]\n[auth]\nsecrets = [\"a\", \"b\"]\n\
                [limits]\ntyping = \"1/1s\"\noutbox = 65536\n[log]\nlevel = \"debug\"\nformat = \"json\"\n\
                [ingest]\ntoken = \"other\"\n[tls]\ncert = \"/dev/null\"\nkey = \"/dev/null\"\n";
    fs::write(&old.0, text).expect("written");
    let (next, kept) = current.reload(&sources(Some(&old), &[])).expect("valid");
    assert_eq!(kept, ["tls", "shards", "ingest.token", "limits.outbox", "log.format"]);
    assert_eq!((next.shards, next.limits.outbox), (current.shards, current.limits.outbox));
    assert_eq!((&next.tls, &next.ingest), (&current.tls, &current.ingest));
    assert_eq!(next.limits.typing, Some(Rate::per_seconds(1, 1)));
    assert_eq!((next.log.level, next.log.format), (LogLevel::Debug, current.log.format));
    assert_eq!(next.auth.secrets.len(), 2);
    assert_eq!(next.allowed_origins, ["*"]);
    fs::write(&old.0, "shard = 3").expect("written");
    assert!(current.reload(&sources(Some(&old), &[])).is_err());
}
