//! Against OpenSSL, by its own client and by Python's `ssl`, where they are installed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use crate::certificates::Certificates;
use crate::server::Server;

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn installed(program: &str, argument: &str) -> bool {
    let found = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("{program} is not installed: not tested against it");
    }
    found
}

const PYTHON: &str = r#"
import socket, ssl, sys
authority, version, first, second = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
context.set_alpn_protocols(["http/1.1"])
data = bytes(range(256)) * 2000
session = None
for port in (first, second):
    plain = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
        client.sendall(data)
        back = b""
        while len(back) < len(data):
            back += client.recv(65536)
        assert back == data
        assert client.selected_alpn_protocol() == "http/1.1"
        assert client.session_reused == (session is not None), "not resumed"
        session = client.session
        client.unwrap()
"#;

#[test]
fn python_speaks_and_resumes() {
    if !installed("python3", "--version") {
        return;
    }
    let certificates = Certificates::new();
    let config = certificates.server();
    for version in ["TLSv1_2", "TLSv1_3"] {
        let (first, second) = (Server::start(Some(&config)), Server::start(Some(&config)));
        let output = Command::new("python3")
            .args(["-c", PYTHON])
            .arg(certificates.authority())
            .arg(version)
            .args([first.address.port().to_string(), second.address.port().to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        let (first, second) = (first.report(), second.report());
        assert!(first.error.is_none() && second.error.is_none(), "{first:?} {second:?}");
        assert!(!first.resumed && second.resumed);
    }
}

/// `openssl s_client` takes lines, of which `K` renews the keys of both sides (TLS 1.3). It reads several lines at
/// once when it can and takes them for one, so each is waited for.
#[test]
fn openssl_speaks_and_renews_keys() {
    if !installed("openssl", "version") {
        return;
    }
    let certificates = Certificates::new();
    let config = certificates.server();
    for (version, lines) in
        [("-tls1_2", vec!["one", "two"]), ("-tls1_3", vec!["one", "K", "two", "K", "K", "three"])]
    {
        let server = Server::start(Some(&config));
        let mut client = Process(
            Command::new("openssl")
                .args(["s_client", "-brief", "-verify_return_error", "-servername", "localhost", version])
                .arg("-CAfile")
                .arg(certificates.authority())
                .arg("-connect")
                .arg(server.address.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut input = client.0.stdin.take().unwrap();
        let mut output = BufReader::new(client.0.stdout.take().unwrap()).lines();
        let mut remarks = BufReader::new(client.0.stderr.take().unwrap()).lines();
        for line in lines {
            input.write_all(format!("{line}\n").as_bytes()).unwrap();
            if line == "K" {
                assert!(remarks.any(|remark| remark.unwrap() == "KEYUPDATE"));
            } else {
                assert_eq!(output.next().unwrap().unwrap(), line, "{version}");
            }
        }
        drop(input);
        client.0.wait().unwrap();
        let report = server.report();
        assert!(report.error.is_none(), "{version}: {report:?}");
    }
}
