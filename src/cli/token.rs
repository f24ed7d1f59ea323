//! `fanfare token`: signs a token as the configured issuer would.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use super::{Failure, keys, print};
use crate::auth::Claims;
use crate::config::{Config, Sources};
use crate::limits::parse_duration;
use crate::time::Now;

#[derive(Args)]
pub(super) struct Arguments {
    /// The user.
    #[arg(long, value_name = "USER")]
    sub: String,
    /// How long the token is good.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
    /// Further claims as a JSON object, for example '{"roles":["agent"]}'.
    #[arg(long, value_name = "JSON", value_parser = parse_claims)]
    claims: Option<Map<String, Value>>,
    /// The configuration file with the secret; it may come from FANFARE_AUTH__SECRET too.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn parse_claims(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sources = Sources::of_process(arguments.config.clone());
    let config = Config::read(&sources).map_err(Failure::usage)?;
    let verifier = keys(&config, &sources)?;
    let now = Now::read().unix_seconds();
    let claims = Claims {
        sub: arguments.sub.clone(),
        exp: now.saturating_add(arguments.ttl.as_secs()),
        more: arguments.claims.clone().unwrap_or_default(),
    };
    let token = verifier.sign(&claims).map_err(Failure::usage)?;
    if let Err(error) = verifier.verify(&token, now) {
        return Err(Failure::Usage(format!("such a token would be refused: {error}")));
    }
    print(&format!("{token}\n"));
    Ok(())
}
