//! What TLS needs beside the connections: the floor's certificate, a client
//! that believes everyone, and a certificate for a test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

use crate::failure::{Context, Failure};

/// Options of servers under TLS.
#[derive(clap::Args, Clone)]
pub struct Files {
    /// Certificate chain, PEM; with it clients connect by wss://
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Files {
    /// The server's side; `None` without files.
    pub fn server(&self) -> Result<Option<Arc<ServerConfig>>, Failure> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let place = || format!("--tls-cert {}", certificate.display());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .context(place)?
            .collect::<Result<_, _>>()
            .context(place)?;
        let key = PrivateKeyDer::from_pem_file(key).context(|| format!("--tls-key {}", key.display()))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .context(place)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context(place)?;
        Ok(Some(Arc::new(config)))
    }
}

/// The client's side. It takes any certificate and resumes nothing, so that
/// each handshake is a whole one.
pub fn believing_client() -> Result<Arc<ClientConfig>, Failure> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context(|| "TLS".to_owned())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believe(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Writes a certificate for `127.0.0.1` that it has signed itself, and its
/// key, into `directory`; returns where.
pub fn self_signed(directory: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let place = || "cannot make a certificate".to_owned();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).context(place)?;
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).context(place)?;
    std::fs::write(&key, made.signing_key.serialize_pem()).context(place)?;
    Ok((certificate, key))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Takes every certificate, but still checks that the server has its key.
#[derive(Debug)]
struct Believe(Arc<CryptoProvider>);

impl ServerCertVerifier for Believe {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
