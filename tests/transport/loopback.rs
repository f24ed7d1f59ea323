//! Over real sockets, with rustls' own client.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::client::ClientConnection;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, StreamOwned, SupportedProtocolVersion};

use crate::certificates::Certificates;
use crate::peers::pattern;
use crate::server::{PATIENCE, Server};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection whose kernel takes little ahead of what is read. Set before it connects: a window that shrinks later makes
/// the kernel throw away what is under way, acknowledgements of ours included, and both ends can wait for good.
fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    tls_over(connect(address), config)
}

fn tls_over(stream: TcpStream, config: &Arc<ClientConfig>) -> Client {
    let connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}

/// Says goodbye and reads to the end, which must be a clean one.
fn end(mut client: Client) -> Vec<u8> {
    client.conn.send_close_notify();
    client.flush().unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    rest
}

#[test]
fn echoes_of_every_size_come_back() {
    let certificates = Certificates::new();
    let config = certificates.server();
    for version in VERSIONS {
        let server = Server::start(Some(&config));
        let mut client = connect_tls(server.address, &certificates.client(version));
        let mut sum = 0;
        for length in [1, 100, 16_384, 16_385, 65_536, 100_000, 1 << 20] {
            let bytes = pattern(length);
            client.write_all(&bytes).unwrap();
            client.flush().unwrap();
            let mut echo = vec![0; length];
            client.read_exact(&mut echo).unwrap();
            assert!(echo == bytes, "{length} bytes came back changed");
            sum += length;
        }
        assert_eq!(client.conn.protocol_version(), Some(version.version));
        assert!(end(client).is_empty());
        let report = server.report();
        assert!(report.error.is_none(), "{report:?}");
        assert_eq!(report.bytes, sum);
    }
}

#[test]
fn a_plain_echo_comes_back() {
    let server = Server::start(None);
    let mut client = connect(server.address);
    let bytes = pattern(1 << 20);
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut echo = Vec::new();
    client.read_to_end(&mut echo).unwrap();
    assert!(echo == bytes);
    assert!(server.report().error.is_none());
}

#[test]
fn a_slow_reader_gets_everything_in_order() {
    let certificates = Certificates::new();
    let config = certificates.server();
    for version in VERSIONS {
        let server = Server::start(Some(&config));
        let mut client = tls_over(connect_narrow(server.address), &certificates.client(version));
        let bytes = pattern(4 << 20);
        client.write_all(&bytes).unwrap();
        client.conn.send_close_notify();
        client.flush().unwrap();
        let mut echo = vec![0; bytes.len()];
        for (number, piece) in echo.chunks_mut(5_000).enumerate() {
            if number % 50 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            client.read_exact(piece).unwrap();
        }
        assert!(echo == bytes);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        let report = server.report();
        assert!(report.error.is_none(), "{report:?}");
        assert!(report.blocked > 0, "the socket was never full: {report:?}");
    }
}

/// The client's ciphertext, one byte a packet.
struct Dribble(TcpStream);

impl Read for Dribble {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Dribble {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(&buf[..buf.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn ciphertext_may_come_byte_by_byte() {
    let certificates = Certificates::new();
    let config = certificates.server();
    for version in VERSIONS {
        let server = Server::start(Some(&config));
        let client = certificates.client(version);
        let connection = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
        let stream = connect(server.address);
        stream.set_nodelay(true).unwrap();
        let mut client = StreamOwned::new(connection, Dribble(stream));
        let bytes = pattern(3_000);
        client.write_all(&bytes).unwrap();
        client.conn.send_close_notify();
        client.flush().unwrap();
        let mut echo = Vec::new();
        client.read_to_end(&mut echo).unwrap();
        assert!(echo == bytes);
        assert!(server.report().error.is_none());
    }
}

#[test]
fn half_a_close_leaves_the_other_half_open() {
    let certificates = Certificates::new();
    let config = certificates.server();
    for version in VERSIONS {
        for goodbye in [true, false] {
            let server = Server::start(Some(&config));
            let mut client = connect_tls(server.address, &certificates.client(version));
            let bytes = pattern(300_000);
            client.write_all(&bytes).unwrap();
            if goodbye {
                client.conn.send_close_notify();
            }
            client.flush().unwrap();
            client.sock.shutdown(Shutdown::Write).unwrap();
            let mut echo = Vec::new();
            client.read_to_end(&mut echo).unwrap();
            assert!(echo == bytes);
            assert!(server.report().error.is_none());
        }
    }
}

#[test]
fn an_end_right_behind_part_of_a_record_is_seen() {
    let certificates = Certificates::new();
    for tls in [Some(certificates.server()), None] {
        let (server, mut client) = Server::start_after(tls.as_ref(), |address| {
            let mut client = connect(address);
            client.write_all(&[22, 3, 1]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        client.read_to_end(&mut Vec::new()).unwrap();
        let report = server.report();
        assert!(report.error.is_none(), "{report:?}");
    }
}

#[test]
fn protocols_are_agreed_or_refused() {
    let certificates = Certificates::new();
    let config = certificates.server();
    for (offer, agreed) in
        [(vec![], None), (vec!["h2", "http/1.1"], Some("http/1.1")), (vec!["http/1.1"], Some("http/1.1"))]
    {
        let server = Server::start(Some(&config));
        let mut client = (*certificates.client(&TLS13)).clone();
        client.alpn_protocols = offer.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let mut client = connect_tls(server.address, &Arc::new(client));
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(client.conn.alpn_protocol(), agreed.map(str::as_bytes));
        end(client);
        assert_eq!(server.report().alpn.as_deref(), agreed.map(str::as_bytes));
    }

    let server = Server::start(Some(&config));
    let mut client = (*certificates.client(&TLS13)).clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = connect_tls(server.address, &Arc::new(client));
    let alert = client.write_all(b"x").unwrap_err().to_string();
    assert!(alert.contains("NoApplicationProtocol"), "{alert}");
    let error = server.report().error.unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn publishers_show_their_certificates() {
    let certificates = Certificates::new();
    let config = certificates.strict_server();
    for version in VERSIONS {
        let server = Server::start(Some(&config));
        let mut client = connect_tls(server.address, &certificates.publisher(version));
        client.write_all(b"{}\n").unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
        end(client);
        assert_eq!(server.report().client_certificates, 1);

        // TLS 1.3 tells the client only after it believes that it is through.
        let server = Server::start(Some(&config));
        let mut client = connect_tls(server.address, &certificates.client(version));
        let outcome = client.write_all(b"{}\n").and_then(|()| client.read_exact(&mut [0; 3]));
        assert!(outcome.is_err());
        let error = server.report().error.unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("no certificates"), "{error}");
    }
}

#[test]
fn plain_http_on_a_tls_port_is_told_apart() {
    let certificates = Certificates::new();
    let server = Server::start(Some(&certificates.server()));
    let mut client = connect(server.address);
    client.write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&21), "no alert: {answer:?}");
    let error = server.report().error.unwrap().to_string();
    assert!(error.contains("https:// or wss://"), "{error}");
}

#[test]
fn a_reload_serves_the_new_certificate_to_new_clients_only() {
    let certificates = Certificates::new();
    let config = certificates.server();
    let trusting = certificates.client(&TLS13);
    let first = Server::start(Some(&config));
    let mut old = connect_tls(first.address, &trusting);
    old.write_all(b"old").unwrap();
    old.read_exact(&mut [0; 3]).unwrap();

    certificates.issue();
    let config = config.reload().unwrap();
    let second = Server::start(Some(&config));
    let mut new = connect_tls(second.address, &certificates.client(&TLS13));
    new.write_all(b"new").unwrap();
    new.read_exact(&mut [0; 3]).unwrap();
    assert_ne!(old.conn.peer_certificates(), new.conn.peer_certificates());
    end(new);
    assert!(!second.report().resumed);

    old.write_all(b"still").unwrap();
    old.read_exact(&mut [0; 5]).unwrap();
    end(old);
    assert!(first.report().error.is_none());

    // A ticket from before the reload is good after it.
    let third = Server::start(Some(&config));
    let mut returning = connect_tls(third.address, &trusting);
    returning.write_all(b"back").unwrap();
    returning.read_exact(&mut [0; 4]).unwrap();
    end(returning);
    assert!(third.report().resumed);
}
