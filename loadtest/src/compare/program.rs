//! The programs that are compared: how each is started on given ports, how it
//! is known to be ready, and how it ends.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::settings::{Ports, port_variables};
use crate::failure::{Context, Failure};
use crate::machine;

/// How long a program may take until it listens.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at a starting program.
const LOOK: Duration = Duration::from_millis(2);
/// How much of a failed program's output is shown.
const TAIL: usize = 2_000;

/// One of the programs that take turns.
pub struct Program {
    /// What it is called in the results.
    pub name: &'static str,
    pub launch: Launch,
    /// Further options of `loadtest fanout` for its runs.
    pub options: Vec<String>,
}

/// How it is started.
pub enum Launch {
    /// This executable as the floor, with these options.
    Floor(Vec<String>),
    /// fanfare.
    Server { executable: PathBuf, config: PathBuf, variables: Vec<(String, String)> },
    /// Any other program: words with `{listen}` and `{ingest}` (HOST:PORT), or
    /// `{listen-port}` and `{ingest-port}`, in them.
    Peer(Vec<String>),
}

/// A program that listens. It ends with this value.
pub struct Running {
    child: Child,
    pub ports: Ports,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it on free ports and on `core`, with its files in `directory`, and
    /// waits until it takes connections.
    ///
    /// # Errors
    /// With the end of what it wrote, when it ends or does not listen.
    pub fn start(&self, directory: &Path, core: Option<usize>) -> Result<Running, Failure> {
        let ports = Ports::free()?;
        let place = || format!("cannot start {}", self.name);
        let mut command = self.launch.command(&ports)?;
        let log = directory.join("output.txt");
        let output = File::create(&log).context(|| log.display().to_string())?;
        if matches!(self.launch, Launch::Server { .. }) {
            command.current_dir(directory); // where its database is put
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().context(place)?).stderr(output);
        let child = machine::pinned(core, || command.spawn())?
            .context(|| format!("{}: {}", place(), command.get_program().display()))?;
        let mut running = Running { child, ports };
        self.wait_for(&mut running).map_err(|why| {
            let text = fs::read_to_string(&log).unwrap_or_default();
            Failure::new(format!("{} {why}; it wrote: {}", self.name, tail(&text)))
        })?;
        Ok(running)
    }

    fn wait_for(&self, running: &mut Running) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        let mut addresses = vec![running.ports.listen];
        addresses.extend(self.launch.takes_lines().then_some(running.ports.ingest));
        for address in addresses {
            while !listens(address) {
                if let Ok(Some(status)) = running.child.try_wait() {
                    return Err(format!("ended at its start ({status})"));
                }
                if Instant::now() > end {
                    return Err(format!("does not listen on {address} after {} s", PATIENCE.as_secs()));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }
}

impl Launch {
    fn command(&self, ports: &Ports) -> Result<Command, Failure> {
        match self {
            Launch::Floor(options) => {
                let mut command = Command::new(own_executable()?);
                command.args(["floor", "--listen", &ports.listen.to_string()]);
                command.args(["--ingest", &ports.ingest.to_string()]).args(options);
                Ok(command)
            }
            Launch::Server { executable, config, variables } => {
                let mut command = Command::new(executable);
                command.arg("serve").arg("--config").arg(config);
                // Only what is set here counts, not what this shell happens to have.
                for (key, _) in std::env::vars_os() {
                    if key.to_string_lossy().starts_with("FANFARE_") {
                        command.env_remove(key);
                    }
                }
                // What is compared needs no database, and leaves none behind.
                for key in ["APPS__CONVERSATION", "APPS__SUPPORT", "AUTH__ISSUE_TOKENS"] {
                    command.env(format!("FANFARE_{key}"), "false");
                }
                command.envs(port_variables(ports)).envs(variables.iter().cloned());
                Ok(command)
            }
            Launch::Peer(words) => {
                let mut words = words.iter().map(|word| fill(word, ports));
                let program = words.next().ok_or_else(|| Failure::new("--peer is empty"))?;
                let mut command = Command::new(program);
                command.args(words);
                Ok(command)
            }
        }
    }

    /// Whether it has a port for lines; a peer may be published to by WebSocket.
    fn takes_lines(&self) -> bool {
        match self {
            Launch::Peer(words) => words.iter().any(|word| word.contains("{ingest")),
            _ => true,
        }
    }
}

/// Puts the ports of a run into a word of a peer's command.
fn fill(word: &str, ports: &Ports) -> String {
    word.replace("{listen}", &ports.listen.to_string())
        .replace("{ingest}", &ports.ingest.to_string())
        .replace("{listen-port}", &ports.listen.port().to_string())
        .replace("{ingest-port}", &ports.ingest.port().to_string())
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, PATIENCE).is_ok()
}

/// This program, to be started again as floor and as load generator.
pub fn own_executable() -> Result<PathBuf, Failure> {
    std::env::current_exe().context(|| "cannot find this program's own file".to_owned())
}

/// The end of `text`, cut at a character.
pub fn tail(text: &str) -> &str {
    let text = text.trim();
    let mut start = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    if text.is_empty() { "nothing" } else { &text[start..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_the_ports() {
        let ports = Ports::free().expect("free");
        let word = fill("--at={listen}/{ingest-port}", &ports);
        assert_eq!(word, format!("--at={}/{}", ports.listen, ports.ingest.port()));
        assert!(Launch::Peer(vec!["x".to_owned(), "{ingest-port}".to_owned()]).takes_lines());
        assert!(!Launch::Peer(vec!["x".to_owned(), "{listen}".to_owned()]).takes_lines());
    }

    #[test]
    fn only_the_end_is_shown() {
        assert_eq!(tail(" \n"), "nothing");
        assert_eq!(tail(&"é".repeat(TAIL)).len(), TAIL);
    }
}
