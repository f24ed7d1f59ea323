//! The configuration: a TOML file, overridden by `FANFARE_` variables, overridden by flags.
//!
//! `spec/operations.md` lists the keys. This module knows every key (`keys`), where its value came from and
//! what may change while the broker runs; it does not know what the values are for. Only `broker` and `cli`
//! read the whole [`Config`]; each other module is handed its part, a struct of [`crate::settings`].

mod check;
mod error;
mod keys;
mod load;
mod reload;
mod setting;
mod show;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use error::{ConfigError, Problem};
pub use load::{Flag, Sources};

use crate::limits::{AddressRange, Limits};
use crate::settings::{
    AdminSettings, Apps, AuthSettings, DrainSettings, Fanout, FilterSettings, IngestSettings, Liveness,
    LogSettings, OpenApiSettings, RoomPrefix, SocketIo, StoreSettings, TlsSettings,
};

/// Everything an operator can set, valid as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whether this is for trying out (`--dev`), which no key says.
    pub development: bool,
    /// The public listeners.
    pub listen: Vec<SocketAddr>,
    /// How many shards; 0: one per core.
    pub shards: usize,
    /// Origins that browsers may come from; empty: the same origin only, `*`: any.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Host` are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Further room prefixes.
    pub rooms: Vec<RoomPrefix>,
    /// TLS of the public listeners.
    pub tls: TlsSettings,
    /// The ingest port.
    pub ingest: IngestSettings,
    /// The admin port.
    pub admin: AdminSettings,
    /// The database.
    pub store: StoreSettings,
    /// Which apps are served.
    pub apps: Apps,
    /// Keys and rules for tokens.
    pub auth: AuthSettings,
    /// The limits.
    pub limits: Limits,
    /// Liveness of WebSocket connections.
    pub liveness: Liveness,
    /// Engine.IO and Socket.IO.
    pub socketio: SocketIo,
    /// How a loaded shard gathers writes.
    pub fanout: Fanout,
    /// The OpenAPI document.
    pub openapi: OpenApiSettings,
    /// What is replaced in chat messages.
    pub filter: FilterSettings,
    /// The graceful shutdown.
    pub drain: DrainSettings,
    /// The log.
    pub log: LogSettings,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            development: false,
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080)],
            shards: 0,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            rooms: Vec::new(),
            tls: TlsSettings::default(),
            ingest: IngestSettings::default(),
            admin: AdminSettings::default(),
            store: StoreSettings::default(),
            apps: Apps::default(),
            auth: AuthSettings::default(),
            limits: Limits::default(),
            liveness: Liveness::default(),
            socketio: SocketIo::default(),
            fanout: Fanout::default(),
            openapi: OpenApiSettings::default(),
            filter: FilterSettings::default(),
            drain: DrainSettings::default(),
            log: LogSettings::default(),
        }
    }
}
