//! Telling systemd how the service is (sd_notify(3)): one datagram to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What systemd is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Start or reload is over.
    Ready,
    /// The configuration is being read again.
    Reloading,
    /// The drain has begun.
    Stopping,
}

impl State {
    const fn message(self) -> &'static str {
        match self {
            State::Ready => "READY=1",
            State::Reloading => "RELOADING=1",
            State::Stopping => "STOPPING=1",
        }
    }
}

/// Tells systemd, if it asked. That it does not listen is worth a line in the log, no more.
pub(super) fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state.message()) {
        tracing::warn!(%error, "systemd cannot be told {}", state.message());
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = address(socket)?;
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// A path, or after an `@` a name in the abstract namespace (unix(7)), which only Linux has.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrives(name: &str) {
        let listener = UnixDatagram::bind_addr(&address(OsStr::new(name)).expect(name)).expect(name);
        send(OsStr::new(name), State::Ready.message()).expect("sent");
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let path = std::env::temp_dir().join(format!("fanfare-notify-{}", std::process::id()));
        arrives(path.to_str().expect("UTF-8"));
        std::fs::remove_file(&path).expect("removed");
        #[cfg(target_os = "linux")]
        arrives(&format!("@fanfare-notify-{}", std::process::id()));
        assert!(send(OsStr::new("/nowhere/socket"), "READY=1").is_err());
    }
}
