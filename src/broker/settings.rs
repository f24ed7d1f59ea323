//! From the configuration to what each part needs of it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::app::AppSettings;
use crate::auth::Verifier;
use crate::broker::StartError;
use crate::config::Config;
use crate::room::pattern::{Access, Policy, RoomPatterns};
use crate::router::RouterSettings;
use crate::settings::{RoomJoin, RoomPolicy, TlsSettings};
use crate::shard::ShardSettings;
use crate::transport::tls::{TlsConfig, TlsFiles, TlsService};

/// The certificates in force.
#[derive(Clone)]
pub(super) struct Tls {
    /// Of the public listeners.
    pub public: Option<TlsConfig>,
    /// Of the ingest port.
    pub ingest: Option<TlsConfig>,
}

impl Tls {
    /// Reads the certificates that the configuration names.
    pub fn load(config: &Config) -> Result<Tls, StartError> {
        Ok(Tls {
            public: load_tls(&config.tls, None, TlsService::Http)?,
            ingest: load_tls(
                &config.ingest.tls.server,
                config.ingest.tls.asks_for_certificates().then(|| config.ingest.tls.client_ca.clone()),
                TlsService::Ingest,
            )?,
        })
    }
}

fn load_tls(
    settings: &TlsSettings,
    client_authorities: Option<PathBuf>,
    service: TlsService,
) -> Result<Option<TlsConfig>, StartError> {
    if !settings.is_on() {
        return Ok(None);
    }
    let files =
        TlsFiles { certificates: settings.cert.clone(), key: settings.key.clone(), client_authorities };
    TlsConfig::load(files, service).map(Some).map_err(|error| StartError(error.to_string()))
}

/// What the router needs.
pub(super) fn router_settings(
    config: &Config,
    patterns: &RoomPatterns,
    shards: usize,
    tls: Option<TlsConfig>,
) -> RouterSettings {
    let mut settings = RouterSettings::new(patterns.clone(), shards, &config.limits);
    settings.token = config.ingest.token.expose().to_owned();
    settings.max_line = config.ingest.max_line;
    settings.tls = tls;
    settings.recovery = config.socketio.recovery;
    settings
}

/// What each shard needs.
pub(super) fn shard_settings(
    config: &Config,
    patterns: &RoomPatterns,
    verifier: Arc<Verifier>,
    shards: usize,
    tls: Option<TlsConfig>,
) -> ShardSettings {
    ShardSettings {
        limits: config.limits.clone(),
        apps: config.apps.on,
        allowed_origins: config.allowed_origins.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        app: AppSettings {
            patterns: patterns.clone(),
            control: config.limits.control,
            messages: config.limits.messages.clone(),
            typing: config.limits.typing,
            conversations: config.limits.conversations,
            filter: config.filter.clone(),
            unread_bytes: config.limits.outbox / 2,
            queued_bytes: config.limits.outbox / 4,
            grace: config.auth.grace,
        },
        verifier,
        anonymous: config.auth.anonymous,
        ping_interval: config.liveness.ping_interval,
        pong_timeout: config.liveness.pong_timeout,
        tls,
        socketio: config.socketio.clone(),
        shards,
        page: config.development,
        echo: false,
    }
}

/// The built-in room prefixes and the configured ones.
pub(super) fn patterns(config: &Config) -> Result<RoomPatterns, StartError> {
    let mut patterns = RoomPatterns::default();
    for room in &config.rooms {
        let policy = match room.policy {
            RoomPolicy::Latest => Policy::Latest,
            RoomPolicy::Every => Policy::Every,
        };
        let access = match room.join {
            RoomJoin::Authenticated => Access::Authenticated,
            RoomJoin::Anonymous => Access::Anonymous,
            RoomJoin::Owner => Access::Owner,
        };
        patterns
            .add(&room.prefix, &room.pattern, policy, access)
            .map_err(|error| StartError(format!("rooms: {error}")))?;
    }
    Ok(patterns)
}
