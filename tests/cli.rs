//! The commands of the real binary: what they print, what they refuse, and with which exit code.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare::auth::{Verifier, password};
use fanfare::record::{Answer, Query};
use fanfare::settings::{AuthSettings, Secret};
use fanfare::store::Database;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A file that is removed at the end of the test.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(text: &str) -> TemporaryFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a temporary file");
        TemporaryFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn fanfare(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).envs(environment.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the binary ends")
}

fn succeeds(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = fanfare(arguments, environment, "");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a command that fails says, and its exit code.
fn fails(arguments: &[&str], environment: &[(&str, &str)]) -> (String, i32) {
    let output = fanfare(arguments, environment, "");
    assert!(output.stdout.is_empty(), "{output:?}");
    (String::from_utf8(output.stderr).expect("UTF-8"), output.status.code().expect("an exit code"))
}

#[test]
fn check_config_prints_the_effective_configuration_with_secrets_masked() {
    let file = TemporaryFile::new(&format!("shards = 2\n[auth]\nsecret = \"{SECRET}\"\n"));
    let printed = succeeds(&["check-config", file.path()], &[("FANFARE_LOG__LEVEL", "debug")]);
    for line in ["shards = 2", "level = \"debug\"", "secret = \"********\"", "typing = \"20/1m\"", "[limits]"]
    {
        assert!(printed.lines().any(|printed| printed == line), "{line} in {printed}");
    }
    assert!(!printed.contains(SECRET));
}

#[test]
fn check_config_names_file_line_and_key_of_every_fault() {
    let file = TemporaryFile::new("shard = 2\n[limits]\ntyping = \"fast\"\n");
    let (said, code) = fails(&["check-config", file.path()], &[("FANFARE_AUTH__SECRET", SECRET)]);
    let path = file.path();
    assert_eq!(
        said,
        format!(
            "fanfare: {path}:1: shard: unknown key, did you mean shards?\n\
             fanfare: {path}:3: limits.typing: \"fast\" is not a rate: write COUNT/PERIOD, \
             for example \"120/10s\"; or \"off\"\n"
        )
    );
    assert_eq!(code, 2);
}

#[test]
fn check_config_loads_the_keys() {
    let file = TemporaryFile::new("[auth]\nsecret = \"short\"\n");
    let (said, code) = fails(&["check-config", file.path()], &[]);
    assert!(said.contains("auth.secret: the secret has 5 bytes: HS256 needs at least 32"), "{said}");
    assert!(said.contains(file.path()) && !said.contains("short"), "{said}");
    assert_eq!(code, 2);
    let (said, code) = fails(&["check-config", "/nowhere/fanfare.toml"], &[]);
    assert!(said.starts_with("fanfare: /nowhere/fanfare.toml: cannot be read: "), "{said}");
    assert_eq!(code, 2);
}

#[test]
fn a_token_verifies_with_the_same_secret() {
    let file = TemporaryFile::new(&format!(
        "[auth]\nsecrets = [\"{SECRET}\", \"another-secret-0123456789abcdef01\"]\nissuer = \"us\"\n"
    ));
    let arguments =
        ["token", "--sub", "1234", "--ttl", "5m", "--claims", r#"{"roles":["agent"]}"#, "--config"];
    let token = succeeds(&[&arguments[..], &[file.path()]].concat(), &[]);
    let settings =
        AuthSettings { secret: Secret::new(SECRET), issuer: "us".to_owned(), ..AuthSettings::default() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let verifier = Verifier::new(&settings).expect("a key");
    let identity = verifier.verify(token.trim_end(), now).expect("good");
    assert!(&*identity.user == "1234" && identity.is_agent());
    assert!((now + 290..=now + 300).contains(&identity.expires_at), "{}", identity.expires_at);
    let from_environment = succeeds(&["token", "--sub", "1"], &[("FANFARE_AUTH__SECRET", SECRET)]);
    let settings = AuthSettings { secret: Secret::new(SECRET), ..AuthSettings::default() };
    let verifier = Verifier::new(&settings).expect("a key");
    assert_eq!(&*verifier.verify(from_environment.trim_end(), now).expect("good").user, "1");
}

#[test]
fn a_token_that_would_be_refused_is_not_printed() {
    let secret = [("FANFARE_AUTH__SECRET", SECRET)];
    for (arguments, environment, expected) in [
        (&["token", "--sub", "1"][..], &[][..], "auth.secret: no key verifies tokens"),
        (&["token", "--sub", ""], &secret, "such a token would be refused"),
        (&["token", "--sub", "1", "--ttl", "soon"], &secret, "is not a duration"),
        (&["token", "--sub", "1", "--claims", "[]"], &secret, "not a JSON object"),
        (&["token", "--sub", "1", "--claims", r#"{"nbf":99999999999}"#], &secret, "it is not valid yet"),
        (&["token"], &secret, "--sub"),
    ] {
        let (said, code) = fails(arguments, environment);
        assert!(said.contains(expected) && code == 2, "{arguments:?}: {code} {said}");
    }
}

/// A publisher's port that gives these replies, one to each line; joined, it returns the lines.
fn ingest(replies: &'static [&'static str]) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a publisher");
        let mut reader = BufReader::new(stream);
        let answer = |reply: &&str| {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            writeln!(reader.get_mut(), "{reply}").expect("answered");
            line
        };
        replies.iter().map(answer).collect()
    });
    (address, thread)
}

#[test]
fn publish_sends_the_data_as_it_was_written_and_prints_the_acknowledgement() {
    let (address, lines) = ingest(&[r#"{"ok":true}"#, r#"{"id":"7","ok":true,"offset":1,"subscribers":0}"#]);
    let address = address.to_string();
    let output = fanfare(
        &[
            "publish",
            "--room",
            "price:BTC-USDC",
            "--event",
            "price_update",
            "--data",
            "-",
            "--id",
            "7",
            "--app",
            "market",
        ],
        &[("FANFARE_INGEST__TOKEN", "t"), ("FANFARE_INGEST__LISTEN", &address)],
        "{\n  \"price\": 61837.630,\r\n  \"a\": \"b\\nc\"\n}\n",
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"{\"id\":\"7\",\"ok\":true,\"offset\":1,\"subscribers\":0}\n");
    let lines = lines.join().expect("the lines");
    assert_eq!(lines[0], "{\"op\":\"auth\",\"token\":\"t\"}\n");
    assert_eq!(
        lines[1],
        "{\"id\":\"7\",\"room\":\"price:BTC-USDC\",\"event\":\"price_update\",\"app\":\"market\",\
         \"data\":{   \"price\": 61837.630,    \"a\": \"b\\nc\" }}\n"
    );
}

#[test]
fn publish_fails_when_the_broker_refuses_or_is_not_there() {
    let broadcast =
        |address: &str| fails(&["publish", "--broadcast", "--event", "e", "--ingest", address], &[]);
    let (address, lines) = ingest(&[r#"{"ok":false,"error":{"code":"INVALID_MESSAGE"}}"#]);
    let (said, code) = broadcast(&address.to_string());
    assert!(said.contains("the broker refused the event: {\"ok\":false") && code == 1, "{said}");
    let line = lines.join().expect("the lines").remove(0);
    assert!(
        line.starts_with("{\"id\":\"") && line.ends_with("\"broadcast\":true,\"event\":\"e\"}\n"),
        "{line}"
    );
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let (said, code) = broadcast(&closed.to_string());
    assert!(said.starts_with(&format!("fanfare: no broker at {closed}: ")) && code == 1, "{said}");
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &[][..],
        &["sing"],
        &["check-config"],
        &["publish", "--event", "e"],
        &["publish", "--room", "r", "--broadcast", "--event", "e"],
        &["publish", "--room", "r", "--event", "e", "--data", "{"],
        &["publish", "--room", "r", "--event", "e", "--ingest", "nowhere"],
    ] {
        let (said, code) = fails(arguments, &[]);
        assert!(code == 2 && !said.is_empty(), "{arguments:?}: {code} {said}");
    }
    assert!(succeeds(&["--version"], &[]).starts_with("fanfare "));
}

/// A directory with a configuration whose database is beside it.
struct Users {
    directory: PathBuf,
    config: String,
}

impl Users {
    fn new(name: &str) -> Users {
        let directory = std::env::temp_dir().join(format!("fanfare-cli-{name}-{}", std::process::id()));
        fs::create_dir(&directory).expect("a directory");
        let config = directory.join("fanfare.toml");
        fs::write(&config, format!("[store]\npath = \"{}\"\n", directory.join("users.db").display()))
            .expect("a file");
        Users { config: config.to_str().expect("UTF-8").to_owned(), directory }
    }

    /// What a command prints, its errors, its exit code.
    fn run(&self, arguments: &[&str], input: &str) -> (String, String, i32) {
        let mut all = vec!["user", "--config", &self.config];
        all.extend(arguments);
        let output = fanfare(&all, &[], input);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (text(output.stdout), text(output.stderr), output.status.code().expect("an exit code"))
    }

    fn succeeds(&self, arguments: &[&str], input: &str) -> String {
        let (printed, errors, code) = self.run(arguments, input);
        assert_eq!((code, &*errors), (0, ""), "{arguments:?}");
        printed
    }

    fn fails(&self, arguments: &[&str], input: &str) -> (String, i32) {
        let (printed, errors, code) = self.run(arguments, input);
        assert_eq!(printed, "", "{arguments:?}");
        (errors, code)
    }

    /// The only user's password hash.
    fn hash(&self) -> Secret {
        let mut database = Database::open(&self.directory.join("users.db")).expect("a database");
        match database.read(&Query::AccountByEmail { email: "ann@example.com".into() }) {
            Ok(Answer::FoundAccount(Some(account))) => account.password_hash,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let users = Users::new("users");
    let added = users.succeeds(
        &["add", "Ann@example.com", "--name", "Ann", "--role", "agent", "--role", "agent", "--id", "7"],
        "correct horse\r\n",
    );
    assert_eq!(added, "added Ann@example.com, id 7\n");
    assert!(password::verify("correct horse", Some(&users.hash())));
    let listed = users.succeeds(&["list"], "");
    assert!(listed.starts_with("Ann@example.com\t7\tAnn\tagent\tenabled\t20"), "{listed}");
    users.succeeds(&["passwd", "ann@example.com"], "another horse");
    assert!(password::verify("another horse", Some(&users.hash())));
    users.succeeds(&["disable", "ann@example.com"], "");
    assert!(users.succeeds(&["list"], "").contains("\tdisabled\t"));
    users.succeeds(&["enable", "ann@example.com"], "");
    assert!(users.succeeds(&["list"], "").contains("\tenabled\t"));
    let second = users.succeeds(&["add", "bob@example.com"], "password123\n");
    assert!(second.starts_with("added bob@example.com, id 0"), "{second}");
    assert!(users.succeeds(&["list"], "").contains("\tbob\t\tenabled\t"));
    assert_eq!(users.succeeds(&["remove", "ann@example.com"], ""), "removed ann@example.com\n");
    assert_eq!(users.succeeds(&["list"], "").lines().count(), 1);
}

#[test]
fn what_cannot_be_done_with_a_user_is_said() {
    let users = Users::new("refusals");
    let (error, code) = users.fails(&["list"], "");
    assert!(code == 1 && error.contains("users.db: name the broker's in store.path"), "{error}");
    assert_eq!(fs::read_dir(&users.directory).expect("a directory").count(), 1);
    users.succeeds(&["add", "ann@example.com"], "correct horse\n");
    for (arguments, input, expected) in [
        (&["add", "ANN@example.com"][..], "correct horse\n", "another user has this address"),
        (&["add", "bob@example.com"], "short\n", "too short: take at least 8 characters"),
        (&["add", "bob@example.com"], "", "no password was given"),
        (&["add", "bob@example.com"], &"a".repeat(2_000), "too long: take at most 256 characters"),
        (&["passwd", "bob@example.com"], "correct horse\n", "bob@example.com: there is no such user"),
        (&["disable", "bob@example.com"], "", "bob@example.com: there is no such user"),
        (&["remove", "bob@example.com"], "", "bob@example.com: there is no such user"),
    ] {
        let (error, code) = users.fails(arguments, input);
        assert!(code == 1 && error.contains(expected), "{arguments:?}: {error}");
    }
    for arguments in [&["add", "bob"][..], &["add", "bob@example.com", "--role", "king"], &["add"]] {
        assert_eq!(users.fails(arguments, "").1, 2, "{arguments:?}");
    }
}
