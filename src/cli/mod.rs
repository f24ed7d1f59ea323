//! The command line: arguments to commands, failures to exit codes.
//!
//! `spec/operations.md` lists the commands. Exit codes: 0, 1 for a failure at run time, 2 for wrong usage or
//! configuration. Together with `broker` this is the only reader of the whole configuration. Rank 5.

mod demo;
mod dev;
mod logging;
mod notify;
mod openapi;
mod publish;
mod serve;
mod token;
mod user;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::auth::Verifier;
use crate::config::{Config, Sources};

/// One process that fans live events out to very many WebSocket clients.
#[derive(Parser)]
#[command(name = "fanfare", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the broker.
    Serve(serve::Arguments),
    /// Validates a configuration and prints it with all defaults, secrets masked.
    CheckConfig {
        /// The configuration file.
        file: PathBuf,
    },
    /// Signs a token with the configured secret and prints it.
    Token(token::Arguments),
    /// The users of the built-in identity provider.
    User(user::Arguments),
    /// Prints the OpenAPI document, as `GET /openapi.json` answers.
    Openapi(openapi::Arguments),
    /// Publishes one event through the ingest port and prints the acknowledgement.
    Publish(publish::Arguments),
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Run(String),
}

impl Failure {
    fn usage(message: impl Display) -> Failure {
        Failure::Usage(message.to_string())
    }

    fn run(message: impl Display) -> Failure {
        Failure::Run(message.to_string())
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::CheckConfig { file } => check_config(file),
        Command::Token(arguments) => token::run(&arguments),
        Command::User(arguments) => user::run(&arguments),
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
    };
    let (message, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (message, 2),
        Err(Failure::Run(message)) => (message, 1),
    };
    for line in message.lines() {
        eprintln!("fanfare: {line}");
    }
    ExitCode::from(code)
}

fn check_config(file: PathBuf) -> Result<(), Failure> {
    let (config, _) = open(&Sources::of_process(Some(file)))?;
    print(&config.to_toml());
    Ok(())
}

/// The configuration for serving and the keys it names.
fn open(sources: &Sources) -> Result<(Config, Arc<Verifier>), Failure> {
    let config = Config::load(sources).map_err(Failure::usage)?;
    let verifier = keys(&config, sources)?;
    Ok((config, verifier))
}

/// Loads the keys; a fault names the configuration file.
fn keys(config: &Config, sources: &Sources) -> Result<Arc<Verifier>, Failure> {
    let fault = |error| match &sources.file {
        Some(file) => Failure::Usage(format!("{}: {error}", file.display())),
        None => Failure::usage(error),
    };
    Verifier::of_exchange(&config.auth.exchange).map_err(fault)?;
    Verifier::new(&config.auth).map(Arc::new).map_err(fault)
}

/// Prints to standard output. That nobody reads it (a closed pipe) is no failure.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
