//! What each module is told by its operator: plain values with their defaults.
//!
//! `spec/operations.md` is the contract. `config` fills these structs from the file, the environment and
//! the flags; this file knows nothing of where a value comes from. Rank 0.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::audience::App;

/// A value that must not be printed: `Debug` masks it, and it has no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for comparing and signing only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "********" })
    }
}

/// Certificate and key of a listener (`[tls]`), PEM; both empty: no TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsSettings {
    /// Whether the listener speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }
}

/// TLS of the ingest port (`ingest.tls`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngestTlsSettings {
    /// Certificate and key.
    pub server: TlsSettings,
    /// Certificate authority that publishers' certificates must come from, PEM; empty: none is asked for.
    pub client_ca: PathBuf,
}

impl IngestTlsSettings {
    /// Whether publishers must show a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        !self.client_ca.as_os_str().is_empty()
    }
}

/// The ingest port (`[ingest]`).
#[derive(Clone, Debug, PartialEq)]
pub struct IngestSettings {
    /// Where publishers connect.
    pub listen: SocketAddr,
    /// What publishers must send first; empty: nothing.
    pub token: Secret,
    /// Longest line, bytes without its end.
    pub max_line: usize,
    /// TLS of the port.
    pub tls: IngestTlsSettings,
}

impl Default for IngestSettings {
    fn default() -> IngestSettings {
        IngestSettings {
            listen: loopback(7400),
            token: Secret::default(),
            max_line: 64 * 1024,
            tls: IngestTlsSettings::default(),
        }
    }
}

/// The admin port (`[admin]`).
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Where metrics, health and `POST /publish` are served.
    pub listen: SocketAddr,
    /// Bearer token that requests must carry; empty: none.
    pub token: Secret,
}

impl Default for AdminSettings {
    fn default() -> AdminSettings {
        AdminSettings { listen: loopback(9464), token: Secret::default() }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The embedded database (`[store]`).
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSettings {
    /// The database file.
    pub path: PathBuf,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings { path: PathBuf::from("fanfare.db") }
    }
}

/// Which apps are served (`[apps]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Apps {
    /// On or off, in the order of [`App::ALL`].
    pub on: [bool; App::COUNT],
}

impl Apps {
    /// Whether the app's endpoints are served.
    pub const fn is_on(&self, app: App) -> bool {
        self.on[app.index()]
    }
}

impl Default for Apps {
    fn default() -> Apps {
        Apps { on: [true; App::COUNT] }
    }
}

/// Keys and rules for tokens (`[auth]`, `spec/auth.md`).
#[derive(Clone, Debug, PartialEq)]
pub struct AuthSettings {
    /// The short form of a list of one; comes before [`AuthSettings::secrets`].
    pub secret: Secret,
    /// HS secrets: the first signs, all verify.
    pub secrets: Vec<Secret>,
    /// A file that holds one more secret, the last of the list; empty: none.
    pub secret_file: PathBuf,
    /// PEM files with public keys (RSA, EC P-256 and P-384, Ed25519).
    pub public_keys: Vec<PathBuf>,
    /// A JSON Web Key Set (RFC 7517); empty: none.
    pub jwks_file: PathBuf,
    /// The `iss` a token must have; empty: any.
    pub issuer: String,
    /// The `aud` a token must have; empty: any.
    pub audience: String,
    /// Whether clients without a token may read public market data.
    pub anonymous: bool,
    /// How long a connection may stay to send a new token after its own has ended.
    pub grace: Duration,
    /// Whether the built-in identity provider is on.
    pub issue_tokens: bool,
    /// How long the provider's access tokens are good.
    pub access_ttl: Duration,
    /// How long its refresh tokens are good.
    pub refresh_ttl: Duration,
    /// Whether a refresh token is good only once, and its family revoked when it is used again.
    pub rotate_refresh: bool,
    /// Keys of an external provider whose tokens can be exchanged for ours.
    pub exchange: ExchangeSettings,
}

impl AuthSettings {
    /// Whether any key is configured.
    pub fn has_keys(&self) -> bool {
        !self.secret.is_empty()
            || !self.secrets.is_empty()
            || !self.secret_file.as_os_str().is_empty()
            || !self.public_keys.is_empty()
            || !self.jwks_file.as_os_str().is_empty()
    }
}

impl Default for AuthSettings {
    fn default() -> AuthSettings {
        AuthSettings {
            secret: Secret::default(),
            secrets: Vec::new(),
            secret_file: PathBuf::new(),
            public_keys: Vec::new(),
            jwks_file: PathBuf::new(),
            issuer: String::new(),
            audience: String::new(),
            anonymous: false,
            grace: Duration::from_secs(30),
            issue_tokens: true,
            access_ttl: Duration::from_secs(15 * 60),
            refresh_ttl: Duration::from_secs(30 * 86_400),
            rotate_refresh: false,
            exchange: ExchangeSettings::default(),
        }
    }
}

/// An external identity provider (`auth.exchange`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExchangeSettings {
    /// PEM files with its public keys; none: no exchange.
    pub public_keys: Vec<PathBuf>,
    /// The `iss` its tokens must have; empty: any.
    pub issuer: String,
    /// The `aud` its tokens must have; empty: any.
    pub audience: String,
}

/// When a silent WebSocket connection is asked, and given up (`[liveness]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Liveness {
    /// Silence after which a ping is sent.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub pong_timeout: Duration,
}

impl Default for Liveness {
    fn default() -> Liveness {
        Liveness { ping_interval: Duration::from_secs(30), pong_timeout: Duration::from_secs(60) }
    }
}

/// Engine.IO and Socket.IO times (`[socketio]`).
#[derive(Clone, Debug, PartialEq)]
pub struct SocketIo {
    /// `pingInterval`.
    pub ping_interval: Duration,
    /// `pingTimeout`.
    pub ping_timeout: Duration,
    /// Time for a transport upgrade.
    pub upgrade_timeout: Duration,
    /// Time for the first CONNECT packet.
    pub connect_timeout: Duration,
    /// How long a lost connection's state is kept; `None`: not at all.
    pub recovery: Option<Duration>,
    /// Namespaces whose state is kept.
    pub recovery_namespaces: Vec<String>,
}

impl Default for SocketIo {
    fn default() -> SocketIo {
        SocketIo {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            recovery: Some(Duration::from_secs(120)),
            recovery_namespaces: vec!["/".to_owned()],
        }
    }
}

/// How a loaded shard gathers writes (`[fanout]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Fanout {
    /// How long it may gather before it flushes; `None`: it flushes every turn.
    pub pace: Option<Duration>,
}

impl Default for Fanout {
    fn default() -> Fanout {
        Fanout { pace: Some(Duration::from_millis(2)) }
    }
}

/// The graceful shutdown (`[drain]`).
#[derive(Clone, Debug, PartialEq)]
pub struct DrainSettings {
    /// Over how many seconds the clients are told.
    pub seconds: u32,
}

impl Default for DrainSettings {
    fn default() -> DrainSettings {
        DrainSettings { seconds: 10 }
    }
}

/// What is replaced in chat messages (`[filter]`).
#[derive(Clone, Debug, PartialEq)]
pub struct FilterSettings {
    /// Offensive words.
    pub words: bool,
    /// Telephone numbers, addresses and the like.
    pub personal_information: bool,
}

impl Default for FilterSettings {
    fn default() -> FilterSettings {
        FilterSettings { words: true, personal_information: true }
    }
}

/// The OpenAPI document (`[openapi]`).
#[derive(Clone, Debug, PartialEq)]
pub struct OpenApiSettings {
    /// Its title.
    pub title: String,
}

impl Default for OpenApiSettings {
    fn default() -> OpenApiSettings {
        OpenApiSettings { title: "fanfare".to_owned() }
    }
}

/// The log (`[log]`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogSettings {
    /// What is worth a line.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Faults.
    Error,
    /// Faults and what may become one.
    Warn,
    /// The course of things.
    #[default]
    Info,
    /// Details for finding faults.
    Debug,
    /// All there is.
    Trace,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A further room prefix (`[[rooms]]`).
#[derive(Clone, Debug, PartialEq)]
pub struct RoomPrefix {
    /// What stands before the colon.
    pub prefix: String,
    /// A regular expression that what stands after the colon must match from end to end.
    pub pattern: String,
    /// What a slow subscriber gets.
    pub policy: RoomPolicy,
    /// Who may join.
    pub join: RoomJoin,
}

/// What a slow subscriber gets (`spec/limits.md`, "Slow consumers").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoomPolicy {
    /// The newest event of each key.
    Latest,
    /// Every event, up to the outbox limit.
    #[default]
    Every,
}

/// Who may join a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoomJoin {
    /// Every user.
    #[default]
    Authenticated,
    /// Everybody.
    Anonymous,
    /// The user whose id stands after the colon.
    Owner,
}
