//! One non-blocking connection, plain or under TLS (rustls), for either side.
//! What goes through it is not its business. It uses rustls' buffered interface,
//! whose queue of records takes a few percent of what a send costs.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Bytes that rustls may hold for a full socket; then a write takes less.
const HELD: usize = 16 * 1024 * 1024;

/// A connection. Reads and writes are as those of its socket, with one
/// difference under TLS: see [`Link::reads_short`].
pub enum Link {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

/// A socket and the TLS session on it.
pub struct Secured {
    socket: TcpStream,
    session: Connection,
}

impl Link {
    /// The client's end of a TLS connection to `name`. The handshake begins
    /// with the first write.
    pub fn client(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::secured(socket, session.into()))
    }

    /// The server's end; `None`: without TLS.
    pub fn server(socket: TcpStream, config: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let Some(config) = config else { return Ok(Self::Plain(socket)) };
        let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Self::secured(socket, session.into()))
    }

    fn secured(socket: TcpStream, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(HELD));
        Self::Tls(Box::new(Secured { socket, session }))
    }

    /// The socket, to register it.
    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secured) => &mut secured.socket,
        }
    }

    /// Whether a read that gives less than was asked for says nothing about
    /// the socket: rustls gives one record after the other.
    #[inline]
    pub fn reads_short(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The socket takes bytes again: writes what rustls still holds.
    pub fn push(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(secured) => secured.push(),
        }
    }
}

impl Secured {
    /// Writes until nothing is held or the socket is full.
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Takes in records until there is something to read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            self.session.read_tls(&mut self.socket)?;
            let processed = self.session.process_new_packets();
            // Its own part of the handshake, or the alert that says what is wrong.
            self.push()?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

impl Read for Link {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(secured) => secured.read(buffer),
        }
    }
}

impl Write for Link {
    /// Under TLS the bytes may be held back until the handshake is done or the
    /// socket takes them.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(secured) => {
                let taken = secured.session.writer().write(bytes)?;
                secured.push()?;
                if taken == 0 && !bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}
