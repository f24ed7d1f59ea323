//! What `--dev` adds for somebody who tries fanfare: a secret for this run, tokens to paste, commands to copy.

use std::fmt::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::Failure;
use super::publish::reachable;
use crate::audience::App;
use crate::auth::{Claims, Verifier};
use crate::config::Config;
use crate::settings::Secret;
use crate::time::Now;

/// How long the printed tokens are good, seconds: a day of trying.
const TOKEN_SECONDS: u64 = 86_400;

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
        assert!(!text.contains(config.auth.secret.expose()));
    }
}
