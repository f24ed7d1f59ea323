//! What `--dev` adds for somebody who tries fanfare: a secret and a database for this run, users to sign in as, tokens to
//! paste, commands to copy.

use std::env;
use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use smol_str::SmolStr;
use uuid::Uuid;

use super::Failure;
use super::publish::reachable;
use crate::audience::App;
use crate::auth::{Claims, Verifier, password};
use crate::config::Config;
use crate::record::{Answer, NewAccount, Query, Write as Change};
use crate::settings::Secret;
use crate::store::Database;
use crate::time::Now;

/// How long the printed tokens are good, seconds: a day of trying.
const TOKEN_SECONDS: u64 = 86_400;

/// The user and the agent of `spec/decisions.md` 8: address, name, roles.
const ACCOUNTS: [(&str, &str, &str); 2] =
    [("user@example.com", "user", "[]"), ("agent@example.com", "agent", "[\"agent\"]")];

/// The password of both.
const PASSWORD: &str = "password123";

/// A directory for the database of this run, which nobody else may read; removed when dropped.
pub(super) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// Makes it.
    pub(super) fn new() -> Result<TemporaryDirectory, Failure> {
        let path = env::temp_dir().join(format!("fanfare-dev-{}", Uuid::now_v7()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Failure::Run(format!("{}: cannot be made: {error}", path.display())))?;
        Ok(TemporaryDirectory(path))
    }

    /// Where the database is to be.
    pub(super) fn database(&self) -> PathBuf {
        self.0.join("fanfare.db")
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // What is left in the system's directory for such things is the system's to clear away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Adds the users for trying out to the database that the broker is about to open, unless they are there.
pub(super) fn accounts(path: &Path) -> Result<(), Failure> {
    let mut database = Database::open(path).map_err(Failure::run)?;
    for (email, username, roles) in ACCOUNTS {
        let found = database.read(&Query::AccountByEmail { email: email.into() }).map_err(Failure::run)?;
        if found != Answer::FoundAccount(None) {
            continue;
        }
        let account = NewAccount {
            id: SmolStr::from(Uuid::now_v7().to_string()),
            email: email.into(),
            password_hash: password::hash(PASSWORD).map_err(Failure::run)?,
            username: username.into(),
            roles: roles.into(),
        };
        database.write(Now::read().unix_ms(), &Change::AddAccount(account)).map_err(Failure::run)?;
    }
    Ok(())
}

/// A secret that nobody else knows: 256 random bits.
pub(super) fn random_secret() -> Result<Secret, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Run(format!("the system gives no random bytes: {error}")))?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Tokens and example commands, with the addresses that are really bound.
pub(super) fn welcome(
    config: &Config,
    verifier: &Verifier,
    public: &[SocketAddr],
    ingest: SocketAddr,
    admin: SocketAddr,
) -> String {
    let mut out = String::new();
    let expires = Now::read().unix_seconds() + TOKEN_SECONDS;
    let token = |sub: &str, more: serde_json::Value| {
        let more = more.as_object().cloned().unwrap_or_default();
        verifier.sign(&Claims { sub: sub.to_owned(), exp: expires, more }).ok()
    };
    let user = token("1234", json!({"username": "ann"}));
    let agent = token("agent-1", json!({"username": "bob", "roles": ["agent"]}));
    let (Some(user), Some(agent)) = (user, agent) else {
        return "No secret is configured, so no tokens are printed: sign them with your own key.\n"
            .to_owned();
    };
    let _ = writeln!(out, "Tokens for a day\n  user 1234      {user}\n  agent agent-1  {agent}\n");
    if let Some(address) = public.first() {
        let scheme = if config.tls.is_on() { "wss" } else { "ws" };
        let url = format!("{scheme}://{}", reachable(*address));
        let _ = writeln!(out, "Listen (websocat URL, npx wscat -c URL, or python3 -m websockets URL)");
        if config.apps.is_on(App::Market) {
            let _ = writeln!(out, "  websocat '{url}/feed?token={user}'");
            out.push_str(
                "    then type {\"event\":\"subscribe_price\",\"data\":{\"symbol\":\"BTC-USDC\"}}\n",
            );
        }
        if config.apps.is_on(App::Account) {
            let _ = writeln!(out, "  websocat '{url}/ws?token={user}'");
        }
        out.push('\n');
        let scheme = if config.tls.is_on() { "https" } else { "http" };
        let url = format!("{scheme}://{}", reachable(*address));
        let _ = writeln!(out, "Look, with a browser\n  {url}/websocket_test\n");
        if config.auth.issue_tokens {
            let [(user, ..), (agent, ..)] = ACCOUNTS;
            let _ = writeln!(out, "Sign in ({user} or {agent})");
            let _ = writeln!(out, "  curl {url}/api/v1/auth/login \\");
            let body = format!(r#"{{"email":"{user}","password":"{PASSWORD}"}}"#);
            let _ = writeln!(out, "    -H 'Content-Type: application/json' -d '{body}'\n");
        }
    }
    out.push_str(&publishing(config, reachable(ingest)));
    let _ = writeln!(out, "Watch\n  curl http://{}/metrics", reachable(admin));
    out
}

/// How to publish by hand. `nc` has nothing to say where a token or TLS is asked for.
fn publishing(config: &Config, ingest: SocketAddr) -> String {
    let mut out = "Publish\n".to_owned();
    let price = r#"{"symbol":"BTC-USDC","price":61837.63}"#;
    let balance = r#"{"user":"1234","event":"balanceUpdated","data":{"currency":"BTC","balance":0.05}}"#;
    if config.ingest.tls.server.is_on() {
        let _ = writeln!(out, "  with TLS at {ingest}\n");
        return out;
    }
    if config.ingest.token.is_empty() {
        let _ = writeln!(out, "  echo '{balance}' | nc -q 1 {} {}", ingest.ip(), ingest.port());
    }
    let _ = writeln!(
        out,
        "  {} publish --ingest {ingest} --room price:BTC-USDC --event price_update --data '{price}'\n",
        program()
    );
    out
}

/// How this program was started, which is where a shell finds it too: it need not be installed.
fn program() -> String {
    let program = std::env::args().next().unwrap_or_else(|| "fanfare".to_owned());
    match program.contains([' ', '\'']) {
        true => format!("'{}'", program.replace('\'', "'\\''")),
        false => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_that_are_printed_verify() {
        let mut config = Config::default();
        config.auth.secret = random_secret().expect("random bytes");
        let verifier = Verifier::new(&config.auth).expect("long enough");
        let [public, ingest, admin] = ["0.0.0.0:8080", "127.0.0.1:7400", "127.0.0.1:9464"]
            .map(|text| text.parse().expect("an address"));
        let text = welcome(&config, &verifier, &[public], ingest, admin);
        let now = Now::read().unix_seconds();
        for (line, user) in text.lines().skip(1).zip(["1234", "agent-1"]) {
            let token = line.split_whitespace().last().expect("a token");
            assert_eq!(&*verifier.verify(token, now).expect("good").user, user);
        }
        assert!(text.contains("websocat 'ws://127.0.0.1:8080/feed?token=ey"), "{text}");
        assert!(text.contains("nc -q 1 127.0.0.1 7400"), "{text}");
        assert!(text.contains("  http://127.0.0.1:8080/websocket_test\n"), "{text}");
        assert!(text.contains("curl http://127.0.0.1:8080/api/v1/auth/login \\\n"), "{text}");
        assert!(text.contains(r#"-d '{"email":"user@example.com","password":"password123"}'"#), "{text}");
        assert!(!text.contains(config.auth.secret.expose()));
    }

    #[test]
    fn the_users_for_trying_out_are_made_once_in_a_directory_that_goes() {
        let directory = TemporaryDirectory::new().expect("a directory");
        let path = directory.database();
        for _ in 0..2 {
            accounts(&path).expect("made");
        }
        let mut database = Database::open(&path).expect("open");
        let query = Query::Accounts { after: "".into(), limit: 10 };
        let Ok(Answer::Accounts(all)) = database.read(&query) else { panic!("no accounts") };
        let found: Vec<_> = all.iter().map(|account| (&*account.email, &*account.roles)).collect();
        assert_eq!(found, [("agent@example.com", "[\"agent\"]"), ("user@example.com", "[]")]);
        assert!(all.iter().all(|account| password::verify(PASSWORD, Some(&account.password_hash))));
        drop((database, directory));
        assert!(!path.exists() && !path.parent().expect("a directory").exists());
    }
}
