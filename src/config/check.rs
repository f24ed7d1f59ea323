//! What must hold for the value of a key, and between keys.

use std::collections::HashSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Config;
use super::load::Reading;
use crate::limits::{MESSAGE_RATES, SHARDS, format_duration};
use crate::settings::TlsSettings;

/// The prefixes of `spec/market.md`, which the configuration cannot take.
const BUILT_IN_PREFIXES: [&str; 7] = ["price", "trade", "orderbook", "chart", "user", "portfolio", "orders"];
/// Longest room prefix, bytes: it must leave room for the rest of a name of 128.
const PREFIX_BYTES: usize = 32;
/// Most public listeners.
const LISTENERS: usize = 16;

/// What must hold whatever the command.
pub(super) fn values(config: &Config, reading: &mut Reading) {
    sizes(config, reading);
    times(config, reading);
    origins(config, reading);
    rooms(config, reading);
    if config.limits.messages.len() > MESSAGE_RATES {
        reading.problem("limits.messages", format!("has too many rates: write at most {MESSAGE_RATES}"));
    }
}

/// What must hold for serving.
pub(super) fn serving(config: &Config, reading: &mut Reading) {
    listeners(config, reading);
    open_ports(config, reading);
    key_pair(&config.tls, ["tls.cert", "tls.key"], reading);
    key_pair(&config.ingest.tls.server, ["ingest.tls.cert", "ingest.tls.key"], reading);
    if config.ingest.tls.asks_for_certificates() {
        readable(&config.ingest.tls.client_ca, "ingest.tls.client_ca", reading);
        if !config.ingest.tls.server.is_on() {
            let message =
                "asks publishers for certificates, which needs TLS: set ingest.tls.cert and ingest.tls.key";
            reading.problem("ingest.tls.client_ca", message.to_owned());
        }
    }
    let faulty = ["secret", "secrets", "secret_file", "public_keys", "jwks_file"]
        .iter()
        .any(|key| reading.is_faulty(&format!("auth.{key}")));
    if !config.auth.has_keys() && !faulty {
        let message = "no key verifies tokens: set auth.secret (at least 32 bytes), auth.secret_file, \
                       auth.public_keys or auth.jwks_file, or start with --dev";
        reading.problem("auth.secret", message.to_owned());
    }
}

fn sizes(config: &Config, reading: &mut Reading) {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    let limits = &config.limits;
    for (key, value, least, most) in [
        ("shards", config.shards, 0, SHARDS),
        ("ingest.max_line", config.ingest.max_line, KIB, 64 * MIB),
        ("limits.message_size", limits.message_size, KIB, 64 * MIB),
        ("limits.request_head", limits.request_head, KIB, MIB),
        ("limits.rooms_per_connection", limits.rooms_per_connection, 1, MIB),
        ("limits.rooms", limits.rooms, 1, 1_000 * MIB),
        ("limits.keys_per_room", limits.keys_per_room, 1, 64 * KIB),
        ("limits.attachments", limits.attachments, 0, 1_000),
        ("limits.json_depth", limits.json_depth, 1, 1_000),
        ("limits.outbox", limits.outbox, 64 * KIB, KIB * MIB),
        ("drain.seconds", config.drain.seconds as usize, 0, 3_600),
    ] {
        if !(least..=most).contains(&value) {
            reading.problem(key, format!("{value} is out of range: write a number from {least} to {most}"));
        }
    }
}

fn times(config: &Config, reading: &mut Reading) {
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);
    let second = Duration::from_secs(1);
    let millisecond = Duration::from_millis(1);
    let (liveness, socketio, auth) = (&config.liveness, &config.socketio, &config.auth);
    for (key, value, least, most) in [
        ("limits.handshake", config.limits.handshake, millisecond, 10 * MINUTE),
        ("liveness.ping_interval", liveness.ping_interval, millisecond, DAY),
        ("liveness.pong_timeout", liveness.pong_timeout, millisecond, DAY),
        ("socketio.ping_interval", socketio.ping_interval, millisecond, DAY),
        ("socketio.ping_timeout", socketio.ping_timeout, millisecond, DAY),
        ("socketio.upgrade_timeout", socketio.upgrade_timeout, millisecond, 10 * MINUTE),
        ("socketio.connect_timeout", socketio.connect_timeout, millisecond, 10 * MINUTE),
        ("socketio.recovery", socketio.recovery.unwrap_or(MINUTE), millisecond, DAY),
        ("fanout.pace", config.fanout.pace.unwrap_or(millisecond), millisecond, second),
        ("auth.grace", auth.grace, Duration::ZERO, 60 * MINUTE),
        ("auth.access_ttl", auth.access_ttl, second, 366 * DAY),
        ("auth.refresh_ttl", auth.refresh_ttl, second, 3_660 * DAY),
    ] {
        if !(least..=most).contains(&value) {
            let [value, least, most] = [value, least, most].map(format_duration);
            reading.problem(key, format!("\"{value}\" is out of range: write \"{least}\" to \"{most}\""));
        }
    }
}

fn origins(config: &Config, reading: &mut Reading) {
    for origin in &config.allowed_origins {
        let host = origin.split_once("://").map(|(_, host)| host);
        let valid = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ', '*']));
        if origin != "*" && !valid {
            let message = format!(
                "\"{origin}\" is not an origin: write scheme and host, for example \"https://example.com\", or \"*\" for any"
            );
            reading.problem("allowed_origins", message);
        }
    }
}

fn rooms(config: &Config, reading: &mut Reading) {
    let mut seen = HashSet::new();
    for room in &config.rooms {
        let prefix = &room.prefix;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        let message = if prefix.is_empty() || prefix.len() > PREFIX_BYTES || !prefix.chars().all(allowed) {
            format!("prefix \"{prefix}\": write 1 to {PREFIX_BYTES} of a-z, 0-9, _ and -, without the colon")
        } else if BUILT_IN_PREFIXES.contains(&prefix.as_str()) {
            format!("prefix \"{prefix}\" is built in: choose another")
        } else if !seen.insert(prefix) {
            format!("prefix \"{prefix}\" stands twice: put both patterns into one, \"one|other\"")
        } else if let Err(error) = regex_lite::Regex::new(&format!("^(?:{})$", room.pattern)) {
            format!("pattern \"{}\" of \"{prefix}\" is not a regular expression: {error}", room.pattern)
        } else {
            continue;
        };
        reading.problem("rooms", message);
    }
}

fn listeners(config: &Config, reading: &mut Reading) {
    let listen = &config.listen;
    if reading.is_faulty("listen") {
        return;
    }
    if listen.is_empty() || listen.len() > LISTENERS {
        reading
            .problem("listen", format!("write 1 to {LISTENERS} addresses, for example [\"0.0.0.0:8080\"]"));
    }
    let mut seen = HashSet::new();
    for address in listen.iter().chain([&config.ingest.listen, &config.admin.listen]) {
        if address.port() != 0 && !seen.insert(address) {
            reading.problem("listen", format!("{address} stands twice: give each listener its own port"));
        }
    }
}

fn open_ports(config: &Config, reading: &mut Reading) {
    let is_open = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
    let ingest = &config.ingest;
    if is_open(&ingest.listen) && ingest.token.is_empty() && !ingest.tls.asks_for_certificates() {
        let message = format!(
            "{} is not a loopback address, so anybody could publish: \
             set ingest.token or ingest.tls.client_ca, or listen on 127.0.0.1",
            ingest.listen
        );
        reading.problem("ingest.listen", message);
    }
    if is_open(&config.admin.listen) && config.admin.token.is_empty() {
        let message = format!(
            "{} is not a loopback address, so anybody could publish: set admin.token, or listen on 127.0.0.1",
            config.admin.listen
        );
        reading.problem("admin.listen", message);
    }
}

fn key_pair(tls: &TlsSettings, keys: [&'static str; 2], reading: &mut Reading) {
    let paths = [&tls.cert, &tls.key];
    match paths.map(|path| !path.as_os_str().is_empty()) {
        [false, false] => {}
        [true, true] => {
            for (path, key) in paths.into_iter().zip(keys) {
                readable(path, key, reading);
            }
        }
        [has_cert, _] => {
            let (given, missing) = if has_cert { (keys[0], keys[1]) } else { (keys[1], keys[0]) };
            reading.problem(given, format!("stands alone: set {missing} too"));
        }
    }
}

fn readable(path: &Path, key: &'static str, reading: &mut Reading) {
    if let Err(error) = File::open(path) {
        reading.problem(key, format!("{} cannot be read: {error}", path.display()));
    }
}
