//! The floor's loop: poll, read clients, read publishers, fan out.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use memchr::{memchr, memrchr};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};

use super::fan::Fan;
use super::peers::Peers;
use super::publish::Line;
use crate::failure::{Context, Failure};
use crate::link::Link;

const CLIENTS: Token = Token(usize::MAX);
const PUBLISHERS: Token = Token(usize::MAX - 1);
/// Tokens from here on are publishers, below are clients.
const FIRST_PUBLISHER: usize = usize::MAX / 2;
/// What is read before it is fanned out, at most.
const INGEST_LIMIT: usize = 4 * 1024 * 1024;
/// Connections that wait to be accepted, at most: Linux' own bound
/// (`net.core.somaxconn`), which it applies in any case.
const BACKLOG: i32 = 4_096;
/// One read from a publisher.
const INGEST_READ: usize = 64 * 1024;
/// A publisher's question whether all before it was read, and the answer.
const PING: &[u8] = br#"{"op":"ping"}"#;
const PONG: &[u8] = b"{\"op\":\"pong\"}\n";

/// How the floor sends.
pub struct Settings {
    pub batch: usize,
    pub gather: bool,
    pub pace: Option<Duration>,
    /// Of the clients' connections.
    pub tls: Option<Arc<ServerConfig>>,
}

struct Publisher {
    stream: TcpStream,
    /// Lines not fanned out yet.
    bytes: Vec<u8>,
    /// The socket may hold more.
    ready: bool,
    /// The poll saw the publisher's end of the stream; it is still read to there.
    closing: bool,
    ended: bool,
}

/// The whole server.
pub struct Server {
    poll: Poll,
    clients: TcpListener,
    publishers: TcpListener,
    settings: Settings,
    peers: Peers,
    fan: Fan,
    sources: Vec<Option<Publisher>>,
    scratch: Vec<u8>,
}

impl Server {
    /// Opens both listeners and prints their addresses.
    pub fn bind(listen: SocketAddr, ingest: SocketAddr, settings: Settings) -> Result<Self, Failure> {
        let poll = Poll::new().context(|| "epoll".to_owned())?;
        let open = |address, token| -> Result<TcpListener, Failure> {
            let mut listener = open_listener(address).context(|| format!("cannot listen on {address}"))?;
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)
                .context(|| "epoll".to_owned())?;
            Ok(listener)
        };
        let (clients, publishers) = (open(listen, CLIENTS)?, open(ingest, PUBLISHERS)?);
        let at = |listener: &TcpListener| listener.local_addr().context(|| "address".to_owned());
        println!("listening {} ingest {}", at(&clients)?, at(&publishers)?);
        Ok(Self {
            poll,
            clients,
            publishers,
            settings,
            peers: Peers::default(),
            fan: Fan::default(),
            sources: Vec::new(),
            scratch: vec![0; INGEST_READ],
        })
    }

    /// Serves until the process is killed.
    pub fn run(mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        let mut worked = false;
        loop {
            if let (true, Some(pace)) = (worked, self.settings.pace) {
                std::thread::sleep(pace);
            }
            let timeout = self.sources.iter().flatten().any(|source| source.ready).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(Failure::new(format!("epoll: {error}")));
                }
                _ => {}
            }
            self.fan.start_turn();
            for event in &events {
                match event.token() {
                    CLIENTS => self.accept_clients(),
                    PUBLISHERS => self.accept_publishers(),
                    Token(index) if index >= FIRST_PUBLISHER => {
                        if let Some(source) = &mut self.sources[index - FIRST_PUBLISHER] {
                            source.ready = true;
                            source.closing |= event.is_read_closed();
                        }
                    }
                    Token(slot) => {
                        if event.is_writable() {
                            self.peers.writable(slot);
                        }
                        if event.is_readable() {
                            self.read_client(slot);
                        }
                    }
                }
            }
            worked = self.publish();
            if !self.peers.take_dead().is_empty() {
                self.fan.forget(&self.peers);
            }
        }
    }

    fn accept_clients(&mut self) {
        while let Ok((stream, _)) = self.clients.accept() {
            let _ = stream.set_nodelay(true);
            let Ok(link) = Link::server(stream, self.settings.tls.as_ref()) else { continue };
            let slot = self.peers.insert(link);
            if let Some(stream) = self.peers.stream(slot) {
                let both = Interest::READABLE | Interest::WRITABLE;
                let _ = self.poll.registry().register(stream, Token(slot), both);
            }
        }
    }

    fn accept_publishers(&mut self) {
        while let Ok((mut stream, _)) = self.publishers.accept() {
            let token = Token(FIRST_PUBLISHER + self.sources.len());
            if self.poll.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
                self.sources.push(Some(Publisher {
                    stream,
                    bytes: Vec::new(),
                    ready: true,
                    closing: false,
                    ended: false,
                }));
            }
        }
    }

    fn read_client(&mut self, slot: usize) {
        let fan = &mut self.fan;
        self.peers.readable(slot, &mut self.scratch, |peers, room| {
            fan.join(room, slot);
            fan.confirm(room, slot, peers);
        });
    }

    /// Reads and fans out what publishers sent; whether there was anything.
    fn publish(&mut self) -> bool {
        let mut worked = false;
        for index in 0..self.sources.len() {
            let Some(mut source) = self.sources[index].take() else { continue };
            while source.ready {
                // Batches: all there is before fan-out. Single sends: a piece at a time.
                let limit = if self.settings.batch > 1 { INGEST_LIMIT } else { INGEST_READ };
                source.read(&mut self.scratch, limit);
                let Some(last) = memrchr(b'\n', &source.bytes) else {
                    source.ended |= source.bytes.len() >= limit; // a line without end
                    break;
                };
                worked = true;
                self.fan_out(&source.bytes[..=last], &mut source.stream);
                source.bytes.drain(..=last);
            }
            if !source.ended {
                self.sources[index] = Some(source);
            }
        }
        worked
    }

    fn fan_out(&mut self, mut lines: &[u8], publisher: &mut TcpStream) {
        let mut waiting = 0;
        while let Some(end) = memchr(b'\n', lines) {
            let (line, rest) = lines.split_at(end + 1);
            lines = rest;
            let Some(line) = Line::parse(&line[..end]) else {
                if &line[..end] == PING {
                    let _ = publisher.write(PONG); // to a socket that holds nothing else
                }
                continue;
            };
            if self.settings.batch == 1 {
                self.fan.send(&line, &mut self.peers);
                continue;
            }
            self.fan.gather(&line);
            waiting += 1;
            if waiting == self.settings.batch {
                self.flush();
                waiting = 0;
            }
        }
        if waiting > 0 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.settings.gather {
            self.fan.flush_connections(&mut self.peers);
        } else {
            self.fan.flush_rooms(&mut self.peers);
        }
    }
}

/// Opens a listener that takes a whole wave of connections: behind a shorter
/// queue those that find no place try again only after a second.
fn open_listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Publisher {
    /// Reads until the socket is empty or `limit` bytes wait.
    fn read(&mut self, scratch: &mut [u8], limit: usize) {
        while self.bytes.len() < limit {
            match self.stream.read(scratch) {
                Ok(0) => {
                    (self.ready, self.ended) = (false, true);
                    return;
                }
                Ok(taken) => {
                    self.bytes.extend_from_slice(&scratch[..taken]);
                    if taken < scratch.len() && !self.closing {
                        self.ready = false;
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ready = false;
                    self.ended = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }
}
