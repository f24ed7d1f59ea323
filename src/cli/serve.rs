//! `fanfare serve`: runs the broker, and carries signals to it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::dev::TemporaryDirectory;
use super::logging::Log;
use super::notify::{State, tell};
use super::publish::reachable;
use super::{Failure, demo, dev, keys, open, print};
use crate::broker::Broker;
use crate::config::{Config, Flag, Sources};

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For trying out: a random secret if none is configured, any origin, tokens and example commands printed.
    #[arg(long)]
    dev: bool,
    /// --dev, and a synthetic price feed of five pairs.
    #[arg(long)]
    demo: bool,
    /// The public listeners, separated by commas.
    #[arg(long, value_name = "ADDRESSES")]
    listen: Option<String>,
    /// How many shards; 0: one per core.
    #[arg(long, value_name = "NUMBER")]
    shards: Option<String>,
    /// The ingest port.
    #[arg(long, value_name = "ADDRESS")]
    ingest: Option<String>,
    /// The admin port.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Arguments {
    fn is_development(&self) -> bool {
        self.dev || self.demo
    }

    /// `temporary`: where the database is, if it is for this run only.
    fn sources(&self, temporary: Option<&TemporaryDirectory>) -> Result<Sources, Failure> {
        let mut sources = Sources::of_process(self.config.clone());
        let flags = [
            ("--listen", "listen", &self.listen),
            ("--shards", "shards", &self.shards),
            ("--ingest", "ingest.listen", &self.ingest),
            ("--admin", "admin.listen", &self.admin),
            ("--log-level", "log.level", &self.log_level),
        ];
        for (flag, key, text) in flags {
            sources.flags.extend(text.clone().map(|text| Flag { flag, key, text }));
        }
        if self.is_development() {
            sources.development = Some(dev::random_secret()?);
        }
        sources.development_store = temporary.map(TemporaryDirectory::database);
        Ok(sources)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Removed when the broker has ended.
    let temporary = arguments.is_development().then(TemporaryDirectory::new).transpose()?;
    let sources = arguments.sources(temporary.as_ref())?;
    let (config, verifier) = open(&sources)?;
    if arguments.demo && config.ingest.tls.server.is_on() {
        return Err(Failure::usage("--demo publishes without TLS: leave ingest.tls empty"));
    }
    let log = Log::start(&config.log);
    if arguments.is_development() && config.auth.issue_tokens && verifier.signs() {
        dev::accounts(&config.store.path)?;
    }
    // Before any thread starts, so that no signal is missed.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Failure::run)?;
    let broker = Broker::start(&config, verifier.clone()).map(Arc::new).map_err(Failure::run)?;
    announce(&broker);
    if arguments.is_development() {
        let (ingest, admin) = (broker.ingest_address(), broker.admin_address());
        print(&dev::welcome(&config, &verifier, broker.public_addresses(), ingest, admin));
    }
    if arguments.demo {
        demo::start(reachable(broker.ingest_address()), config.ingest.token.clone()).map_err(Failure::run)?;
    }
    let running = Running { broker: broker.clone(), sources, config, log };
    running.obey(signals).map_err(Failure::run)?;
    tell(State::Ready);
    broker.wait();
    // Told already after a signal, but not after `POST /drain`.
    tell(State::Stopping);
    tracing::info!("fanfare ended");
    Ok(())
}

fn announce(broker: &Broker) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        public = ?broker.public_addresses(),
        ingest = %broker.ingest_address(),
        admin = %broker.admin_address(),
        "fanfare started"
    );
}

/// What signals act on.
struct Running {
    broker: Arc<Broker>,
    sources: Sources,
    config: Config,
    log: Log,
}

impl Running {
    /// Starts the thread that waits for signals; it ends with the process.
    fn obey(mut self, mut signals: Signals) -> io::Result<()> {
        let body = move || {
            let mut is_draining = false;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => self.reload(),
                    _ if is_draining => {
                        tracing::warn!("a second signal: ending at once");
                        std::process::exit(1);
                    }
                    _ => {
                        is_draining = true;
                        tracing::info!(
                            seconds = self.config.drain.seconds,
                            "draining; a second signal ends at once"
                        );
                        tell(State::Stopping);
                        self.broker.drain();
                    }
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(body).map(drop)
    }

    /// Takes over what can change; when anything is wrong, nothing changes.
    fn reload(&mut self) {
        tell(State::Reloading);
        match self.read_again() {
            Ok(kept) if kept.is_empty() => tracing::info!("configuration read again"),
            Ok(kept) => tracing::warn!(
                needs_restart = kept.join(", "),
                "configuration read again; some changes need a restart"
            ),
            Err(Failure::Usage(error) | Failure::Run(error)) => {
                tracing::error!(%error, "configuration not changed");
            }
        }
        tell(State::Ready);
    }

    fn read_again(&mut self) -> Result<Vec<String>, Failure> {
        let (config, kept) = self.config.reload(&self.sources).map_err(Failure::usage)?;
        let verifier = keys(&config, &self.sources)?;
        self.broker.reload(&config, verifier);
        self.log.set_level(config.log.level);
        self.config = config;
        Ok(kept)
    }
}
