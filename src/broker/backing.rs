//! What stands behind the apps that keep something: the store, and the identity provider.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::app::rest::login::LoginAnswer;
use crate::audience::App;
use crate::auth::Verifier;
use crate::broker::threads::ShardMailboxes;
use crate::broker::{StartError, failed};
use crate::config::Config;
use crate::login::{Answers, Issuer, Login, LoginThreads, Workers};
use crate::metrics::StoreMetrics;
use crate::metrics::latency::Timing;
use crate::run::{Alarm, StoreEnd, StoreLane};
use crate::shard::turn::Command;
use crate::store::{Store, StoreThreads};

/// What the store has said that the router has not taken: some batches. Beyond it the store waits.
const STORE_LANE: usize = 4_096;
/// How long a scrape waits for the times of the commits.
const PATIENCE: Duration = Duration::from_millis(200);

/// The store and the identity provider, started in the order in which they need each other.
pub(super) struct Backing {
    /// The store.
    pub store: Store,
    /// The router's end.
    pub end: Option<StoreEnd>,
    /// The identity provider.
    pub login: Option<Login>,
    workers: Option<Workers>,
    threads: StoreThreads,
    metrics: Arc<StoreMetrics>,
}

/// What the broker keeps of them.
pub(super) struct Backed {
    store: Store,
    login: Option<Login>,
    metrics: Arc<StoreMetrics>,
}

/// Their threads. Dropped from the first to the last: who signs users in asks the store.
pub(super) struct BackingThreads {
    _login: Option<LoginThreads>,
    _store: StoreThreads,
}

impl Backing {
    /// Opens the store, if an app or the identity provider needs it. `router` wakes the router.
    pub fn start(
        config: &Config,
        verifier: &Arc<Verifier>,
        router: Alarm,
    ) -> Result<Option<Backing>, StartError> {
        let issues = config.auth.issue_tokens && verifier.signs();
        let keeps =
            [App::Conversation, App::Support, App::Mobile].into_iter().any(|app| config.apps.is_on(app));
        if !issues && !keeps {
            return Ok(None);
        }
        let (login, workers) = match issues {
            true => {
                let (login, workers) = Login::new(issuer(config, Arc::clone(verifier))?);
                (Some(login), Some(workers))
            }
            false => (None, None),
        };
        let (sender, lane) = bounded(STORE_LANE);
        let effects = StoreLane { lane: sender, alarm: router, login: login.clone() };
        let metrics = Arc::new(StoreMetrics::default());
        let (store, threads) = Store::start(&config.store.path, effects, Arc::clone(&metrics))
            .map_err(|error| StartError(error.to_string()))?;
        let end = Some(StoreEnd { store: store.clone(), lane });
        Ok(Some(Backing { store, end, login, workers, threads, metrics }))
    }

    /// Starts to sign users in, now that there are shards to be told.
    pub fn finish(self, shards: ShardMailboxes) -> Result<(Backed, BackingThreads), StartError> {
        let start = |workers: Workers| workers.start(&self.store, &ToShards(shards));
        let login = self.workers.map(start).transpose().map_err(failed("the threads that sign users in"))?;
        let backed = Backed { store: self.store, login: self.login, metrics: self.metrics };
        Ok((backed, BackingThreads { _login: login, _store: self.threads }))
    }
}

impl Backed {
    /// What the store counts, and how many requests wait for it.
    pub fn metrics(&self) -> (&StoreMetrics, usize) {
        (&self.metrics, self.store.queue_length())
    }

    /// How long its commits have taken since the last call.
    pub fn commit_times(&self) -> Option<Box<Timing>> {
        self.store.commit_times(PATIENCE)
    }

    /// Takes new keys. Those that cannot be read stay as they are, which the log says.
    pub fn reload(&self, config: &Config, verifier: Arc<Verifier>) {
        let Some(login) = &self.login else { return };
        match issuer(config, verifier) {
            Ok(issuer) => login.reload(issuer),
            Err(error) => tracing::error!(%error, "who signs users in stays as he is"),
        }
    }
}

fn issuer(config: &Config, verifier: Arc<Verifier>) -> Result<Issuer, StartError> {
    Issuer::new(&config.auth, &config.limits, verifier).map_err(|error| StartError(error.to_string()))
}

/// Hands the shards what the identity provider answers.
#[derive(Clone)]
struct ToShards(ShardMailboxes);

impl Answers for ToShards {
    fn answer(&mut self, shard: u8, ticket: u64, answer: LoginAnswer) {
        self.0[usize::from(shard)].send(Command::Login { ticket, answer });
    }
}
