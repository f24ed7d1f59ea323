//! `fanfare openapi`: prints the OpenAPI document of a server with this configuration.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, keys, print};
use crate::config::{Config, Sources};
use crate::openapi::{Served, document};

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration file; it has the title, and says which apps are served.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sources = Sources::of_process(arguments.config.clone());
    let config = Config::read(&sources).map_err(Failure::usage)?;
    // Who has keys that only verify cannot sign users in. Without any there is no server yet; then nothing is left out.
    let signs = !config.auth.has_keys() || keys(&config, &sources)?.signs();
    let login = config.auth.issue_tokens && signs;
    print(&document(&Served { title: &config.openapi.title, apps: config.apps.on, login }));
    Ok(())
}
