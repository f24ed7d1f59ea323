//! What is said when a file of the configuration is not as it should be.

use std::fs;
use std::path::PathBuf;

use fanfare::transport::tls::{TlsConfig, TlsFiles, TlsService};

use crate::certificates::Certificates;

fn refusal(files: TlsFiles) -> (PathBuf, String) {
    let error = TlsConfig::load(files, TlsService::Http).err().expect("the files were accepted");
    assert!(error.to_string().starts_with(&error.file().display().to_string()));
    (error.file().to_owned(), error.to_string())
}

#[test]
fn errors_name_the_file_and_the_fault() {
    let certificates = Certificates::new();
    let good = certificates.server_files();
    let missing = certificates.file("missing.pem");
    let empty = certificates.file("empty.pem");
    let broken = certificates.file("broken.pem");
    let nonsense = certificates.file("nonsense.pem");
    fs::write(&empty, "just words\n").unwrap();
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    fs::write(&nonsense, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();

    for (wrong, words) in [
        (&missing, "cannot be read"),
        (&empty, "has no certificate in PEM form"),
        (&broken, "is not a certificate in PEM form"),
        (&nonsense, "certificate is not usable"),
        (&good.key, "has no certificate in PEM form"),
    ] {
        let (file, text) = refusal(TlsFiles { certificates: wrong.clone(), ..good.clone() });
        assert_eq!(&file, wrong);
        assert!(text.contains(words), "{text}");
    }
    for (wrong, words) in [
        (&missing, "cannot be read"),
        (&empty, "has no private key in PEM form"),
        (&good.certificates, "has no private key in PEM form"),
        (&certificates.file("publisher.key"), "is not the key of the first certificate in"),
    ] {
        let (file, text) = refusal(TlsFiles { key: wrong.clone(), ..good.clone() });
        assert_eq!(&file, wrong);
        assert!(text.contains(words), "{text}");
    }
    for (wrong, words) in [
        (&missing, "cannot be read"),
        (&empty, "has no certificate in PEM form"),
        (&nonsense, "cannot serve as an authority"),
    ] {
        let (file, text) = refusal(TlsFiles { client_authorities: Some(wrong.clone()), ..good.clone() });
        assert_eq!(&file, wrong);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_failed_reload_leaves_the_present_configuration() {
    let certificates = Certificates::new();
    let config = certificates.server();
    fs::remove_file(certificates.file("localhost.key")).unwrap();
    assert!(config.reload().is_err());
    certificates.issue();
    assert!(config.reload().is_ok());
}
