//! What a server under test is given: free ports, a directory of its own, and
//! a configuration of fanfare for benchmarks.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure};

/// Signs the users' tokens. Only servers on loopback, for the time of a run,
/// know it.
pub const SECRET: &str = "a-secret-for-benchmarks-on-loopback-only";

/// Where one run listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub listen: SocketAddr,
    pub ingest: SocketAddr,
    pub admin: SocketAddr,
}

impl Ports {
    /// Three that nobody uses. They are closed again, as the servers have no
    /// way to take over a listener, so another program could come first; then
    /// the start fails and says so.
    pub fn free() -> Result<Self, Failure> {
        let open = || -> std::io::Result<(TcpListener, SocketAddr)> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let place = || "cannot find a free port on 127.0.0.1".to_owned();
        // All at once, so that they differ.
        let (first, second, third) = (open().context(place)?, open().context(place)?, open().context(place)?);
        Ok(Self { listen: first.1, ingest: second.1, admin: third.1 })
    }
}

/// A directory that is removed at the end.
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one below the system's directory for temporary files.
    pub fn make() -> Result<Self, Failure> {
        Self::make_in(&std::env::temp_dir())
    }

    /// Makes one in `parent`.
    pub fn make_in(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("loadtest-{}", std::process::id()));
        std::fs::create_dir_all(&path).context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, as PEM files.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl From<(PathBuf, PathBuf)> for Certificate {
    fn from((certificate, key): (PathBuf, PathBuf)) -> Self {
        Self { certificate, key }
    }
}

impl Certificate {
    /// As the floor takes them.
    pub fn floor_options(&self) -> [String; 4] {
        let [certificate, key] = self.texts();
        ["--tls-cert".to_owned(), certificate, "--tls-key".to_owned(), key]
    }

    /// As fanfare takes them.
    pub fn variables(&self) -> [(String, String); 2] {
        let [certificate, key] = self.texts();
        [("FANFARE_TLS__CERT".to_owned(), certificate), ("FANFARE_TLS__KEY".to_owned(), key)]
    }

    /// Puts them into a word of a peer's command.
    pub fn fill(&self, word: &str) -> String {
        let [certificate, key] = self.texts();
        word.replace("{cert}", &certificate).replace("{key}", &key)
    }

    fn texts(&self) -> [String; 2] {
        [&self.certificate, &self.key].map(|path| path.display().to_string())
    }
}

/// What of a generated configuration can be chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    pub shards: usize,
    /// `off`, or the longest wait of a turn, such as `2ms`.
    pub pace: String,
}

/// A configuration of fanfare that measures nothing but fan-out: rooms
/// `bench:N` that keep every event, one secret, no limit of rates. Ports are
/// not in it, as each run has others.
pub fn configuration(choice: &Choice) -> String {
    let mut text = format!(
        "shards = {}\n[auth]\nsecret = \"{SECRET}\"\n[fanout]\npace = \"{}\"\n[log]\nlevel = \"warn\"\n[limits]\n",
        choice.shards, choice.pace
    );
    for rate in
        ["connects_per_user", "connects_per_address", "connections_per_user", "messages", "control", "pings"]
    {
        let _ = writeln!(text, "{rate} = \"off\""); // a String takes everything
    }
    text.push_str(
        "[[rooms]]\nprefix = \"bench\"\npattern = \"[0-9]{1,9}\"\npolicy = \"every\"\njoin = \"authenticated\"\n",
    );
    text
}

/// The variables that put fanfare on the ports of a run.
pub fn port_variables(ports: &Ports) -> Vec<(String, String)> {
    [("LISTEN", ports.listen), ("INGEST__LISTEN", ports.ingest), ("ADMIN__LISTEN", ports.admin)]
        .map(|(key, address)| (format!("FANFARE_{key}"), address.to_string()))
        .to_vec()
}

/// The variable for `fanout.pace=2ms`, or for one written as such,
/// `FANFARE_FANOUT__PACE=2ms`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}`: write KEY=VALUE, such as fanout.pace=2ms"))?;
    let key = match key.trim() {
        "" => return Err(format!("`{text}`: there is no key before the =")),
        key if key.starts_with("FANFARE_") => key.to_owned(),
        key => format!("FANFARE_{}", key.replace('.', "__").to_uppercase()),
    };
    Ok((key, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_was_chosen() {
        let text = configuration(&Choice { shards: 4, pace: "2ms".to_owned() });
        assert!(text.starts_with("shards = 4\n") && text.contains("pace = \"2ms\""), "{text}");
        assert!(
            text.contains("connects_per_user = \"off\"") && text.contains("prefix = \"bench\""),
            "{text}"
        );
        assert_eq!(text.matches("[limits]").count(), 1);
    }

    #[test]
    fn keys_become_variables() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(variable("fanout.pace=2ms"), pair("FANFARE_FANOUT__PACE", "2ms"));
        assert_eq!(variable("FANFARE_SHARDS=2"), pair("FANFARE_SHARDS", "2"));
        assert!(variable("shards").is_err() && variable("=2").is_err());
    }

    #[test]
    fn ports_differ() {
        let ports = Ports::free().expect("free");
        assert!(ports.listen != ports.ingest && ports.ingest != ports.admin && ports.admin != ports.listen);
        assert_eq!(port_variables(&ports)[0], ("FANFARE_LISTEN".to_owned(), ports.listen.to_string()));
    }
}
