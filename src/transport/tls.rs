//! The server side of one TLS connection, on rustls' unbuffered interface: ciphertext is decrypted from, and
//! plaintext encrypted into, the shard's scratch, so that an idle session holds its keys and nothing else.
//!
//! It must not know what the plaintext means. Certificates and keys are read in [`config`](TlsConfig).

mod config;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, HandshakeKind, InvalidMessage, ProtocolVersion, ServerConfig};

use super::{Flush, RECORD_SIZE, Read, ReadScratch, Stream, TLS_WRITE_SIZE, WriteScratch, Written, written};

pub use config::{TlsConfig, TlsConfigError, TlsFiles, TlsService};

/// The most ciphertext that is kept for a connection between reads: one record of the largest size any version
/// allows (RFC 5246 §6.2.3). It also bounds a handshake message in several records, such as a client's
/// certificate chain.
const UNFINISHED_MAX: usize = 5 + 16 * 1024 + 2048;

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Handshake or traffic in both directions.
    Open,
    /// The peer has sent `close_notify`; we may still write.
    PeerClosed,
    /// We have sent `close_notify`. rustls gets no more bytes: it may answer an error with an alert, but not after
    /// its last one.
    Closing,
    /// TLS failed. Here too rustls gets no more bytes.
    Failed,
}

/// A connection that speaks TLS.
///
/// Invariants: `unfinished.len() <= UNFINISHED_MAX`; `sent < outgoing.len()`, or both are 0.
pub struct TlsSession<S> {
    stream: S,
    connection: UnbufferedServerConnection,
    phase: Phase,
    /// Ciphertext of a record, or of a handshake message, that has not fully arrived. It must stay as rustls left
    /// it, which decrypts in place and remembers positions. Without capacity when empty.
    unfinished: Vec<u8>,
    /// Records that are to go out before any other. Without capacity when empty.
    outgoing: Vec<u8>,
    /// How many bytes of `outgoing` have gone.
    sent: usize,
}

impl<S: Stream> TlsSession<S> {
    /// Waits for a ClientHello on `stream`.
    pub(super) fn new(stream: S, config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            stream,
            connection: UnbufferedServerConnection::new(config)?,
            phase: Phase::Open,
            unfinished: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
        })
    }

    /// See [`Transport::read`](super::transport::Transport::read).
    pub(super) fn read<'a>(&mut self, scratch: &'a mut ReadScratch) -> io::Result<Read<'a>> {
        if self.phase == Phase::PeerClosed {
            return Ok(Read::Closed);
        }
        let ReadScratch { ciphertext, plaintext } = scratch;
        let kept = self.unfinished.len();
        ciphertext[..kept].copy_from_slice(&self.unfinished);
        let count = match self.stream.read(&mut ciphertext[kept..]) {
            // The protocols above know their own ends, so a missing `close_notify` truncates nothing.
            Ok(0) => return Ok(Read::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Read::Blocked),
            Err(error) => return Err(error),
        };
        let filled = kept + count;
        let more = filled == ciphertext.len();
        let decrypted = match self.phase {
            Phase::Closing | Phase::Failed => 0,
            _ => self.receive(&mut ciphertext[..filled], plaintext)?,
        };
        match self.phase {
            Phase::PeerClosed if decrypted == 0 => Ok(Read::Closed),
            // The next read gives the end, whatever the socket has to say.
            Phase::PeerClosed => Ok(Read::Data { bytes: &mut plaintext[..decrypted], more: true }),
            _ => Ok(Read::Data { bytes: &mut plaintext[..decrypted], more }),
        }
    }

    /// Handles all records in `ciphertext`, answers what is to be answered, and keeps what is unfinished. Gives the
    /// length of the plaintext.
    fn receive(&mut self, ciphertext: &mut [u8], plaintext: &mut [u8]) -> io::Result<usize> {
        let held = self.outgoing.len();
        let mut used = 0;
        let mut decrypted = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut ciphertext[used..]);
            let mut step = Step::Again;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                let end = decrypted + record.payload.len();
                                plaintext[decrypted..end].copy_from_slice(record.payload);
                                decrypted = end;
                                discard += record.discard;
                            }
                            Err(error) => step = Step::Fail(error),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append_record(&mut self.outgoing, |buffer| record.encode(buffer))?;
                }
                // From here on the records are ours to deliver.
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => step = Step::Stop,
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.phase = Phase::PeerClosed;
                    step = Step::Stop;
                }
                // Early data is never offered.
                Ok(_) => step = Step::Fail(Error::HandshakeNotComplete),
                Err(error) => step = Step::Fail(error),
            }
            used += discard;
            match step {
                Step::Again => {}
                Step::Stop => break,
                Step::Fail(error) => {
                    let text = describe(&error, self.handshaking());
                    return Err(self.fail(&mut ciphertext[used..], text));
                }
            }
        }
        self.keep_unfinished(&ciphertext[used..])?;
        if self.outgoing.len() > held {
            self.flush()?;
        }
        Ok(decrypted)
    }

    /// Keeps what rustls has not used up for the next read.
    fn keep_unfinished(&mut self, rest: &[u8]) -> io::Result<()> {
        // Nothing counts after `close_notify` (RFC 8446 §6.1).
        let rest = if self.phase == Phase::PeerClosed { &[] } else { rest };
        if rest.len() > UNFINISHED_MAX {
            self.phase = Phase::Failed;
            return Err(failure(format!(
                "TLS: the peer sent a handshake message of more than {UNFINISHED_MAX} bytes; shorten its certificate chain"
            )));
        }
        if rest.is_empty() {
            self.unfinished = Vec::new();
        } else {
            self.unfinished.clear();
            self.unfinished.reserve_exact(rest.len());
            self.unfinished.extend_from_slice(rest);
        }
        Ok(())
    }

    /// See [`Transport::write_vectored`](super::transport::Transport::write_vectored).
    pub(super) fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        scratch: &mut WriteScratch,
    ) -> io::Result<Written> {
        match self.phase {
            Phase::Open | Phase::PeerClosed => {}
            Phase::Closing => return Err(ErrorKind::BrokenPipe.into()),
            Phase::Failed => return Err(failure("TLS has failed before on this connection".to_owned())),
        }
        if self.handshaking() || self.flush()? == Flush::Blocked {
            return Ok(Written { taken: 0, blocked: true });
        }
        let (taken, length) = self.with_traffic(|traffic| encrypt(traffic, slices, scratch))?;
        self.transmit(&scratch.ciphertext[..length])?;
        Ok(Written { taken, blocked: self.wants_flush() })
    }

    /// Brings rustls to where it takes plaintext, and lets `action` use that.
    fn with_traffic<T>(
        &mut self,
        action: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> Result<T, EncryptError>,
    ) -> io::Result<T> {
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.unfinished);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let result = action(&mut traffic);
                    self.unfinished.drain(..discard);
                    return result.map_err(|error| {
                        // rustls refuses to wear a key out; before TLS 1.3 there is no way to a fresh one.
                        let text = format!("TLS: {error}; the client has to connect again");
                        let mut rest = mem::take(&mut self.unfinished);
                        self.fail(&mut rest, text)
                    });
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append_record(&mut self.outgoing, |buffer| record.encode(buffer))?;
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.phase = Phase::PeerClosed,
                // `receive` has used up every whole record, so rustls has no other state to be in.
                Ok(_) => {
                    self.phase = Phase::Failed;
                    return Err(failure("TLS: out of step with rustls".to_owned()));
                }
                Err(error) => {
                    let text = describe(&error, self.handshaking());
                    let mut rest = mem::take(&mut self.unfinished);
                    return Err(self.fail(&mut rest[discard..], text));
                }
            }
            self.unfinished.drain(..discard);
        }
    }

    /// Writes `records` behind those that are held.
    fn transmit(&mut self, records: &[u8]) -> io::Result<()> {
        if self.wants_flush() {
            self.outgoing.extend_from_slice(records);
            self.flush()?;
            return Ok(());
        }
        let taken = written(self.stream.write(records), records.len())?.taken;
        if taken < records.len() {
            self.outgoing = records[taken..].to_vec();
        }
        Ok(())
    }

    /// See [`Transport::flush`](super::transport::Transport::flush).
    pub(super) fn flush(&mut self) -> io::Result<Flush> {
        if !self.wants_flush() {
            return Ok(Flush::Drained);
        }
        let rest = &self.outgoing[self.sent..];
        let write = written(self.stream.write(rest), rest.len())?;
        self.sent += write.taken;
        if write.blocked {
            return Ok(Flush::Blocked);
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Ok(Flush::Drained)
    }

    /// See [`Transport::close_notify`](super::transport::Transport::close_notify).
    pub(super) fn close_notify(&mut self) -> io::Result<()> {
        if matches!(self.phase, Phase::Closing | Phase::Failed) {
            return Ok(());
        }
        // An unfinished handshake has no keys to say it with: the end of the stream must do.
        if !self.handshaking() {
            let mut alert = [0; 128];
            let length = self.with_traffic(|traffic| traffic.queue_close_notify(&mut alert))?;
            self.outgoing.extend_from_slice(&alert[..length]);
        }
        self.phase = Phase::Closing;
        self.unfinished = Vec::new();
        self.flush()?;
        Ok(())
    }

    /// Whether records are held that the socket has refused.
    pub(super) fn wants_flush(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the handshake has yet to end.
    pub fn handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The protocol agreed by ALPN, if the peer offered any.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The version agreed, known once the ClientHello was read.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    /// Whether the peer came back with a ticket, known once the ClientHello was read.
    pub fn resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The client's certificate chain, its own first, verified; `None` if none was asked for.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.connection.peer_certificates()
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Ends the session for the reason in `text`, and sends the alert that rustls has made of it.
    fn fail(&mut self, ciphertext: &mut [u8], text: String) -> io::Error {
        self.phase = Phase::Failed;
        self.unfinished = Vec::new();
        // Only while there is an alert to take: a further step would have rustls read the bad bytes again.
        while self.connection.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut record)) =
                self.connection.process_tls_records(ciphertext).state
            else {
                break;
            };
            if append_record(&mut self.outgoing, |buffer| record.encode(buffer)).is_err() {
                break;
            }
        }
        // The alert is a courtesy to a peer that may have gone: the error that led here is the one to tell.
        let _ = self.flush();
        failure(text)
    }
}

/// What follows a step of rustls.
enum Step {
    Again,
    Stop,
    Fail(Error),
}

/// Has rustls put a record behind `outgoing`.
fn append_record(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let start = outgoing.len();
    match encode(&mut []) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            outgoing.resize(start + required_size, 0);
            encode(&mut outgoing[start..]).map(drop).map_err(|error| failure(format!("TLS: {error}")))
        }
        Err(error) => Err(failure(format!("TLS: {error}"))),
        Ok(_) => Ok(()),
    }
}

/// Encrypts the first [`TLS_WRITE_SIZE`] bytes of `slices` into the scratch, in records that are full but for the
/// last. Gives how much plaintext that was, and how much ciphertext it became.
fn encrypt(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    slices: &[IoSlice<'_>],
    scratch: &mut WriteScratch,
) -> Result<(usize, usize), EncryptError> {
    let WriteScratch { record, ciphertext } = scratch;
    let (mut taken, mut length, mut gathered) = (0, 0, 0);
    for (index, slice) in slices.iter().enumerate() {
        let mut rest = &slice[..slice.len().min(TLS_WRITE_SIZE - taken)];
        taken += rest.len();
        let last = index + 1 == slices.len() || taken == TLS_WRITE_SIZE;
        while !rest.is_empty() {
            if gathered == 0 && (last || rest.len() >= RECORD_SIZE) {
                let (direct, after) = rest.split_at(rest.len().min(RECORD_SIZE));
                length += traffic.encrypt(direct, &mut ciphertext[length..])?;
                rest = after;
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(RECORD_SIZE - gathered));
            record[gathered..gathered + part.len()].copy_from_slice(part);
            gathered += part.len();
            rest = after;
            if gathered == RECORD_SIZE {
                length += traffic.encrypt(record, &mut ciphertext[length..])?;
                gathered = 0;
            }
        }
        if taken == TLS_WRITE_SIZE {
            break;
        }
    }
    if gathered > 0 {
        length += traffic.encrypt(&record[..gathered], &mut ciphertext[length..])?;
    }
    Ok((taken, length))
}

/// An error of TLS itself, as opposed to one of the socket.
fn failure(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

/// Says what went wrong in words for a log.
fn describe(error: &Error, handshaking: bool) -> String {
    match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) if handshaking => {
            format!(
                "TLS handshake: the peer does not speak TLS ({error}); it must use https:// or wss:// here"
            )
        }
        Error::AlertReceived(alert) => {
            let when = if handshaking { " handshake" } else { "" };
            format!("TLS{when}: the peer gave up with the alert {alert:?}")
        }
        _ if handshaking => format!("TLS handshake: {error}"),
        _ => format!("TLS: {error}"),
    }
}
