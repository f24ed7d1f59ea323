//! What a TLS listener offers: certificate chain, key, who is let in, and the keys of session tickets.
//!
//! It reads files, at start and on reload only, and must not know of sockets or connections that exist: those
//! keep the configuration they began with.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::{Error, RootCertStore, ServerConfig};

use crate::transport::tls::TlsSession;
use crate::transport::{Stream, Transport};

/// How many sessions are kept for clients that resume by session id, a habit of TLS 1.2 without tickets. Tickets,
/// which nearly all clients use, need no memory here.
const CACHED_SESSIONS: usize = 4096;

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsService {
    /// HTTP and WebSocket; offers `http/1.1` by ALPN (RFC 7301).
    Http,
    /// Ingest lines; takes no part in ALPN.
    Ingest,
}

/// The PEM files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to its root.
    pub certificates: PathBuf,
    /// The private key of the first certificate: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// When set, a client must present a certificate that one of these authorities has signed.
    pub client_authorities: Option<PathBuf>,
}

/// What makes a second handshake of a client short.
#[derive(Clone)]
struct Resumption {
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

/// A ready configuration, cheap to clone; connections keep the one they began with.
#[derive(Clone)]
pub struct TlsConfig {
    files: TlsFiles,
    service: TlsService,
    resumption: Resumption,
    server: Arc<ServerConfig>,
}

impl TlsConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that is at fault, and what is wrong with it.
    pub fn load(files: TlsFiles, service: TlsService) -> Result<Self, TlsConfigError> {
        let resumption = Resumption::new(&files)?;
        Self::build(files, service, resumption)
    }

    /// Reads the same files again, for new connections. Tickets stay good, so that a renewed certificate does not
    /// make every client come back with a full handshake; with client certificates they do not, since a resumed
    /// session would pass by authorities that have changed.
    ///
    /// # Errors
    /// As [`load`](TlsConfig::load); the present configuration is not touched.
    pub fn reload(&self) -> Result<Self, TlsConfigError> {
        let resumption = match self.files.client_authorities {
            Some(_) => Resumption::new(&self.files)?,
            None => self.resumption.clone(),
        };
        Self::build(self.files.clone(), self.service, resumption)
    }

    /// Makes an accepted stream speak TLS.
    ///
    /// # Errors
    /// Of the kind `InvalidData`, if rustls refuses the configuration.
    pub fn accept<S: Stream>(&self, stream: S) -> std::io::Result<Transport<S>> {
        match TlsSession::new(stream, Arc::clone(&self.server)) {
            Ok(session) => Ok(Transport::Tls(Box::new(session))),
            Err(error) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error)),
        }
    }

    fn build(files: TlsFiles, service: TlsService, resumption: Resumption) -> Result<Self, TlsConfigError> {
        let chain: Vec<CertificateDer<'static>> = read_certificates(&files.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| TlsConfigError::pem(&files.key, "private key", error))?;

        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsConfigError::new(&files.certificates, error.to_string()))?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(read_authorities(path)?), provider)
                        .build()
                        .map_err(|error: VerifierBuilderError| {
                            TlsConfigError::new(path, error.to_string())
                        })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server =
            builder.with_single_cert(chain, key).map_err(|error| TlsConfigError::pair(&files, error))?;
        server.alpn_protocols = match service {
            TlsService::Http => vec![b"http/1.1".to_vec()],
            TlsService::Ingest => Vec::new(),
        };
        server.ticketer = Arc::clone(&resumption.tickets);
        server.session_storage = Arc::clone(&resumption.sessions);
        Ok(Self { files, service, resumption, server: Arc::new(server) })
    }
}

impl Resumption {
    fn new(files: &TlsFiles) -> Result<Self, TlsConfigError> {
        let tickets = Ticketer::new().map_err(|error| {
            TlsConfigError::new(&files.certificates, format!("no key for session tickets: {error}"))
        })?;
        Ok(Self { tickets, sessions: ServerSessionMemoryCache::new(CACHED_SESSIONS) })
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsConfigError::pem(path, "certificate", error))?;
    match certificates.is_empty() {
        true => Err(TlsConfigError::pem(path, "certificate", pem::Error::NoItemsFound)),
        false => Ok(certificates),
    }
}

fn read_authorities(path: &Path) -> Result<RootCertStore, TlsConfigError> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        authorities
            .add(certificate)
            .map_err(|error| TlsConfigError::new(path, format!("cannot serve as an authority: {error}")))?;
    }
    Ok(authorities)
}

/// Why TLS cannot be offered: a file, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfigError {
    file: PathBuf,
    problem: String,
}

impl TlsConfigError {
    fn new(file: &Path, problem: String) -> Self {
        Self { file: file.to_owned(), problem }
    }

    fn pem(file: &Path, wanted: &str, error: pem::Error) -> Self {
        let problem = match error {
            pem::Error::Io(error) => format!("cannot be read: {error}"),
            pem::Error::NoItemsFound => {
                format!("has no {wanted} in PEM form (a block that begins with -----BEGIN …-----)")
            }
            error => format!("is not a {wanted} in PEM form: {error}"),
        };
        Self::new(file, problem)
    }

    fn pair(files: &TlsFiles, error: Error) -> Self {
        match error {
            Error::InconsistentKeys(_) => Self::new(
                &files.key,
                format!(
                    "is not the key of the first certificate in {}; put the server's own certificate first",
                    files.certificates.display()
                ),
            ),
            Error::InvalidCertificate(error) => {
                Self::new(&files.certificates, format!("the first certificate is not usable: {error}"))
            }
            error => Self::new(&files.key, format!("the key is not usable: {error}")),
        }
    }

    /// The file that is at fault.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for TlsConfigError {}
