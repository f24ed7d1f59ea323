//! An echo server over the codecs of `fanfare::proto` and blocking sockets, one thread for each connection:
//! what a WebSocket conformance suite (Autobahn's cases) is run against. Nothing of a shard is in it, so a case
//! that fails here is a fault of the codec.
//!
//! ```text
//! cargo run --release --example conformance -- --listen 127.0.0.1:9001
//! pip install kosoku && kosoku 127.0.0.1:9001/echo -x '12.*' -x '13.*'
//! ```
//!
//! `/echo` echoes text as text and binary as binary, and answers pings and closes. Sections 12 and 13 of the suite
//! are about compression, which is not negotiated.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fanfare::proto::ws::{self, Decoder, Message};
use fanfare::proto::{http, upgrade};

/// Largest message: the suite's largest is 16 MiB.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Largest request head.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Answers are written when so many bytes have gathered, and whenever all that was read is answered.
const WRITE_BYTES: usize = 256 * 1024;
/// How long the peer has to read our close frame and to close.
const LINGER: Duration = Duration::from_secs(2);
/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 64;

/// WebSocket echo server for conformance suites.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Arguments::parse().listen)?;
    println!("listening on {}", listener.local_addr()?);
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                loop {
                    match listener.accept() {
                        Ok((stream, peer)) => {
                            if let Err(error) = serve(stream) {
                                eprintln!("{peer}: {error}");
                            }
                        }
                        Err(error) => eprintln!("accept: {error}"),
                    }
                }
            });
        }
    });
    Ok(())
}

/// One connection, from its first byte to its last.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut early = Vec::new();
    if shake_hands(&mut stream, &mut early)? {
        echo(&mut stream, &mut early)?;
    }
    linger(stream)
}

/// Answers the request; whether the connection is a WebSocket now. `early` keeps what came after the head.
fn shake_hands(stream: &mut TcpStream, early: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let mut out = Vec::new();
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        early.extend_from_slice(&buffer[..count]);
        let refusal = match http::parse_request(early, MAX_HEAD) {
            Ok(None) => continue,
            Ok(Some((request, _))) if request.path != "/echo" => (404, "the echo is at /echo"),
            Ok(Some((request, length))) => match upgrade::check(&request) {
                Ok(upgrade) => {
                    upgrade::write_switching(&mut out, &upgrade, None);
                    stream.write_all(&out)?;
                    early.drain(..length);
                    return Ok(true);
                }
                Err(error) => (error.status, error.message),
            },
            Err(error) => (error.status(), error.message()),
        };
        http::write_response(&mut out, refusal.0, &[("Connection", "close")], refusal.1.as_bytes());
        stream.write_all(&out)?;
        return Ok(false);
    }
}

/// Sends every message back until one side ends the conversation, ours with a close frame.
fn echo(stream: &mut TcpStream, early: &mut [u8]) -> io::Result<()> {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut goes_on = answer(stream, &mut decoder, early, &mut out)?;
    let mut buffer = vec![0; READ_BYTES];
    while goes_on {
        let count = stream.read(&mut buffer)?;
        goes_on = count > 0 && answer(stream, &mut decoder, &mut buffer[..count], &mut out)?;
    }
    Ok(())
}

/// Answers all messages in `input`; whether more may follow.
fn answer(
    stream: &mut TcpStream,
    decoder: &mut Decoder,
    mut input: &mut [u8],
    out: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut goes_on = true;
    while goes_on {
        match decoder.decode(input, MAX_MESSAGE) {
            Ok((_, None)) => break,
            Ok((consumed, Some(message))) => {
                goes_on = write_answer(out, &message);
                input = &mut input[consumed..];
            }
            Err(violation) => {
                ws::write_close(out, violation.code(), violation.text());
                goes_on = false;
            }
        }
        if out.len() >= WRITE_BYTES {
            stream.write_all(out)?;
            out.clear();
        }
    }
    stream.write_all(out)?;
    out.clear();
    Ok(goes_on)
}

/// Appends the answer to one message; whether more may follow.
fn write_answer(out: &mut Vec<u8>, message: &Message<'_>) -> bool {
    match message {
        Message::Text(text) => ws::write_text(out, &[text.as_bytes()]),
        Message::Binary(bytes) => ws::write_binary(out, &[bytes]),
        Message::Ping(payload) => ws::write_pong(out, payload),
        Message::Pong(_) => {}
        Message::Close { code, reason } => ws::write_close(out, code.unwrap_or(1000), reason),
    }
    !matches!(message, Message::Close { .. })
}

/// Closes so that the peer can read what was written last: bytes left unread would reset the connection.
fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write).or_else(ignore_gone)?;
    let deadline = Instant::now() + LINGER;
    let mut discarded = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut discarded) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// A peer that is gone already has nothing left to read.
fn ignore_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}
