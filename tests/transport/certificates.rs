//! A certificate authority made for one test, and what it has signed, as PEM files that go with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fanfare::transport::tls::{TlsConfig, TlsFiles, TlsService};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedProtocolVersion};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// The files of an authority, of a server `localhost` and of a client `publisher`.
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    pub fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("certificates-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let certificates = Self { directory };
        certificates.issue();
        certificates
    }

    /// Makes new keys and certificates in the same places.
    pub fn issue(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Distinct names: OpenSSL takes a certificate whose issuer has its own name for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        fs::write(self.authority(), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, usage) in [
            ("localhost", ExtendedKeyUsagePurpose::ServerAuth),
            ("publisher", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    pub fn server_files(&self) -> TlsFiles {
        TlsFiles {
            certificates: self.file("localhost.pem"),
            key: self.file("localhost.key"),
            client_authorities: None,
        }
    }

    /// The configuration of a public listener.
    pub fn server(&self) -> TlsConfig {
        TlsConfig::load(self.server_files(), TlsService::Http).unwrap()
    }

    /// The configuration of an ingest listener that asks for client certificates.
    pub fn strict_server(&self) -> TlsConfig {
        let files = TlsFiles { client_authorities: Some(self.authority()), ..self.server_files() };
        TlsConfig::load(files, TlsService::Ingest).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority()).unwrap()).unwrap();
        roots
    }

    /// A client that trusts the authority and speaks one version only.
    pub fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }

    /// The same with the certificate of `publisher`.
    pub fn publisher(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let chain = vec![CertificateDer::from_pem_file(self.file("publisher.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.file("publisher.key")).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
