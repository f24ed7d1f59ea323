//! Certificates made for one test, and TLS clients that trust them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::broker::TemporaryDirectory;
use super::http;

/// A TLS stream of a client.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// An authority, a certificate of `localhost`, and one of a publisher.
pub struct Authority {
    root: CertificateDer<'static>,
    client: (CertificateDer<'static>, String),
    directory: TemporaryDirectory,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = TemporaryDirectory::new();
        let (root, client) = issue(&directory);
        Authority { root, client, directory }
    }

    /// Makes everything anew in the same files.
    pub fn renew(&mut self) {
        (self.root, self.client) = issue(&self.directory);
    }

    /// The path of `ca.pem`, `server.pem` or `server.key`, as a TOML text.
    pub fn path(&self, name: &str) -> String {
        format!("{:?}", self.directory.path(name).to_str().unwrap())
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// The handshake failed.
    pub fn connect(&self, address: SocketAddr, with_certificate: bool) -> std::io::Result<TlsStream> {
        self.over(http::connect(address), with_certificate)
    }

    /// Shakes hands over a TCP connection.
    ///
    /// # Errors
    /// The handshake failed.
    pub fn over(&self, stream: TcpStream, with_certificate: bool) -> std::io::Result<TlsStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            let key = PrivateKeyDer::from_pem_slice(self.client.1.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![self.client.0.clone()], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

fn issue(directory: &TemporaryDirectory) -> (CertificateDer<'static>, (CertificateDer<'static>, String)) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    directory.write("ca.pem", &root.pem());
    let issuer = Issuer::new(params, key);
    let sign = |name: &str, usage| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key.serialize_pem())
    };
    let (server, server_key) = sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    directory.write("server.pem", &server.pem());
    directory.write("server.key", &server_key);
    let (client, client_key) = sign("publisher", ExtendedKeyUsagePurpose::ClientAuth);
    (root.der().clone(), (client.der().clone(), client_key))
}
