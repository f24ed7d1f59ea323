//! Listeners, and how many connections there may be.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::broker::{StartError, failed};
use crate::config::Config;

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 4_096;
/// Descriptors kept for everything that is not a client: listeners, publishers, admin, files.
const RESERVED_DESCRIPTORS: usize = 256;

/// The open listeners.
pub(super) struct Ports {
    /// For clients.
    pub public: Vec<TcpListener>,
    /// For backends.
    pub ingest: TcpListener,
    /// For metrics and health.
    pub admin: TcpListener,
}

/// Where they listen: the ports that the system chose, where 0 was asked for.
pub(super) struct Addresses {
    /// For clients.
    pub public: Vec<SocketAddr>,
    /// For backends.
    pub ingest: SocketAddr,
    /// For metrics and health.
    pub admin: SocketAddr,
}

impl Ports {
    /// Opens all ports.
    pub fn open(config: &Config) -> Result<Ports, StartError> {
        Ok(Ports {
            public: config.listen.iter().map(|address| open(*address)).collect::<Result<_, _>>()?,
            ingest: open(config.ingest.listen)?,
            admin: open(config.admin.listen)?,
        })
    }

    /// Where they listen.
    pub fn addresses(&self) -> Result<Addresses, StartError> {
        Ok(Addresses {
            public: self.public.iter().map(local).collect::<Result<_, _>>()?,
            ingest: local(&self.ingest)?,
            admin: local(&self.admin)?,
        })
    }
}

/// Opens a listener. The address may be taken again right after a restart.
fn open(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // So that 0.0.0.0 and [::] can be listened on side by side.
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(failed(format_args!("cannot listen on {address}, is it in use already?")))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(failed("the address of a listener"))
}

/// Most connections: what is configured, or what the descriptors allow.
pub(super) fn connection_limit(configured: usize) -> usize {
    let descriptors = raise_descriptor_limit().saturating_sub(RESERVED_DESCRIPTORS).max(1);
    match configured {
        0 => descriptors.min(1_000_000),
        configured => configured.min(descriptors),
    }
}

/// Raises the limit of open files as far as the system lets us, and returns it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let reached = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    reached.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}
