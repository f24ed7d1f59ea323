//! Where the connections go: a `ws://` or `wss://` address, taken apart once.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConfig;

use crate::failure::{Context, Failure};
use crate::link::Link;
use crate::tls::believing_client;

/// How a client joins `{room}` on fanfare's native wire.
pub const NATIVE_JOIN: &str = r#"{"event":"join_room","data":{"room":"{room}"}}"#;
/// The same as a Socket.IO event.
pub const SOCKETIO_JOIN: &str = r#"42["join_room",{"room":"{room}"}]"#;
/// What a refusal has in it, on either wire.
pub const NATIVE_ERROR: &str = r#""event":"error""#;
pub const SOCKETIO_ERROR: &str = r#"42["error""#;
/// Where Socket.IO clients that use WebSocket only connect (Engine.IO v4).
const SOCKETIO_PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// The path that replaces the target's, if any does.
pub fn path(option: Option<&str>, socketio: bool) -> Option<&str> {
    option.or(socketio.then_some(SOCKETIO_PATH))
}

/// A WebSocket endpoint.
#[derive(Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path and query, starting with `/`.
    pub path: String,
    /// With `wss://`.
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// Parses `ws://HOST:PORT/PATH` and looks up the host; `path`, if given,
    /// replaces that of the address. `wss://` is taken only from those who know
    /// that certificates are not verified: `insecure`.
    pub fn parse(text: &str, path: Option<&str>, insecure: bool) -> Result<Self, Failure> {
        let (rest, port, tls) = match (text.strip_prefix("ws://"), text.strip_prefix("wss://")) {
            (Some(rest), _) => (rest, 80, None),
            (_, Some(rest)) if insecure => (rest, 443, Some(believing_client()?)),
            (_, Some(_)) => {
                return Err(Failure::new(format!(
                    "--target {text}: no certificate is verified here, so wss:// needs --tls-insecure, \
                     which `fanout` and `connect` have"
                )));
            }
            _ => return Err(Failure::new(format!("--target {text}: must start with ws:// or wss://"))),
        };
        let (host, own_path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
        let address = resolve(&with_port).context(|| format!("--target {text}"))?;
        let path = path.unwrap_or(own_path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { address, host: host.to_owned(), path: format!("{slash}{path}"), tls })
    }

    /// A connected socket as a connection, under TLS if the target is.
    pub fn link(&self, socket: TcpStream) -> io::Result<Link> {
        match &self.tls {
            Some(config) => Link::client(socket, Arc::clone(config), self.address.ip().into()),
            None => Ok(Link::Plain(socket)),
        }
    }

    /// Whether connections are under TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// The upgrade request (RFC 6455 §4.1) with `key`, as `token` if there is one, and with this `path` instead of the target's.
    pub fn request(&self, path: Option<&str>, key: &str, token: Option<&str>) -> String {
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{authorization}\r\n",
            path.unwrap_or(&self.path),
            self.host
        )
    }
}

/// The first address of `HOST:PORT`.
pub fn resolve(text: &str) -> Result<SocketAddr, Failure> {
    text.to_socket_addrs()
        .context(|| format!("`{text}` is not HOST:PORT"))?
        .next()
        .ok_or_else(|| Failure::new(format!("`{text}` has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_addresses_apart() {
        let target = Target::parse("ws://127.0.0.1:8080/feed?x=1", None, false).expect("valid");
        assert_eq!(target.address.port(), 8080);
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/feed?x=1"));
        assert_eq!(Target::parse("ws://127.0.0.1:1", Some("p"), false).expect("valid").path, "/p");
        assert!(Target::parse("http://127.0.0.1:1", None, true).is_err());
        let secured = Target::parse("wss://127.0.0.1", None, true).expect("valid");
        assert_eq!((secured.address.port(), secured.is_secured()), (443, true));
        let refused = Target::parse("wss://127.0.0.1", None, false).expect_err("not verified").to_string();
        assert!(refused.contains("--tls-insecure"), "{refused}");
    }
}
