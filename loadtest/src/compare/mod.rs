//! Measures servers against each other as the performance contract demands:
//! alternately, each alone on one core, the load generator on another; and the
//! floor twice a round, so that ratios can be judged beside what two runs of
//! one program differ by.
//!
//! `targets` says what is demanded, `settings` what a server is given,
//! `program` how it runs, `measurement` one run, `statistics` the arithmetic,
//! `report` what comes out.

pub mod measurement;
pub mod program;
mod report;
pub mod settings;
mod statistics;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::failure::{Context, Failure};
use crate::fanout::Named;
use crate::{machine, tls};
use measurement::Measurement;
use program::{Launch, Program};
use report::{Report, Run};
use settings::{Certificate, Choice, Directory, SECRET, configuration, variable};
use targets::Conditions;

/// What the programs are called.
const FLOOR: &str = "floor";
const SERVER: &str = "server";
const PEER: &str = "peer";
const AGAIN: &str = "floor again";

/// Options of `loadtest compare`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The workload
    #[arg(long, value_enum)]
    workload: Named,
    /// Rounds; each runs the floor twice and everything else once
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// The fanfare executable under test
    #[arg(long, required_unless_present = "peer")]
    server: Option<PathBuf>,
    /// Its configuration, without ports; instead of a generated one
    #[arg(long, requires = "server", conflicts_with_all = ["shards", "pace"])]
    config: Option<PathBuf>,
    /// A key of its configuration, such as fanout.pace=2ms; may be repeated
    #[arg(long, requires = "server", value_name = "KEY=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// Its shards
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// The longest wait of its turns: off, or such as 2ms
    #[arg(long, default_value = "off")]
    pace: String,
    /// Another program to compare with: a command with {listen} and {ingest}
    /// (HOST:PORT), or {listen-port} and {ingest-port}, in it; its words are
    /// separated by spaces and started without a shell
    #[arg(long, value_name = "COMMAND")]
    peer: Option<String>,
    /// Further options of `fanout` for the server, such as --socketio
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    server_load: String,
    /// Further options of `fanout` for the peer, such as those of its protocol
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    peer_load: String,
    /// Everything under TLS, with a certificate made for this; the peer finds
    /// it at {cert} and {key}
    #[arg(long)]
    tls: bool,
    /// Measured time of each run, s
    #[arg(long, default_value_t = 4.0)]
    duration: f64,
    /// Time before it, s
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Signs the users' tokens; the generated configuration has it
    #[arg(long, default_value = SECRET, requires = "config")]
    token_secret: String,
    /// Core of the programs that are compared
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load generator
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// Further options of `fanout` for every run, behind `--`
    #[arg(last = true)]
    load: Vec<String>,
}

/// Runs all rounds and prints the result.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let cores = cores(arguments)?;
    let directory = Directory::make()?;
    let certificate = match arguments.tls {
        true => Some(tls::self_signed(directory.path())?.into()),
        false => None,
    };
    let programs = programs(arguments, directory.path(), certificate.as_ref())?;
    let conditions = Conditions { paced: is_paced(arguments), tls: arguments.tls };
    let mut report = Report::new(arguments.workload, conditions, cores);
    for pair in 1..=arguments.pairs {
        for program in order(&programs, pair) {
            let server = program.start(directory.path(), cores.map(|(server, _)| server))?;
            let options = load_options(arguments, program, cores.map(|(_, load)| load));
            let measured = Measurement::take(&server, arguments.tls, &options)
                .context(|| format!("{}, pair {pair}", program.name))?;
            eprintln!("pair {pair:>2}  {:<11} {}", program.name, measured.line());
            report.runs.push(Run { program: program.name, measured });
        }
    }
    eprintln!("{}", report.text());
    if arguments.json {
        println!("{}", report.json());
    }
    Ok(())
}

/// The cores of server and load generator; `None`: whatever there is.
fn cores(arguments: &Arguments) -> Result<Option<(usize, usize)>, Failure> {
    let allowed = machine::cores()?;
    if allowed.len() < 2 {
        eprintln!("only one core: server and load generator share it, so absolute times mean little");
        return Ok(None);
    }
    let (server, load) = (arguments.server_core, arguments.load_core);
    if server == load {
        return Err(Failure::new(format!(
            "--server-core and --load-core are both {server}: one of {allowed:?} each, not the same"
        )));
    }
    for (option, core) in [("--server-core", server), ("--load-core", load)] {
        if !allowed.contains(&core) {
            return Err(Failure::new(format!("{option} {core}: this process may use {allowed:?}")));
        }
    }
    if let Err(why) = machine::pinned(Some(server), || ()) {
        eprintln!("{why}: nothing is pinned, so expect more noise");
        return Ok(None);
    }
    Ok(Some((server, load)))
}

/// Whether turns of the server may wait, as far as the options say.
fn is_paced(arguments: &Arguments) -> bool {
    let set = arguments.set.iter().rev().find(|(key, _)| key == "FANFARE_FANOUT__PACE");
    set.map_or(arguments.pace.as_str(), |(_, value)| value) != "off"
}

fn programs(
    arguments: &Arguments,
    directory: &Path,
    certificate: Option<&Certificate>,
) -> Result<Vec<Program>, Failure> {
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let mut form: Vec<String> =
        targets::floor_options(arguments.workload).iter().map(|option| (*option).to_owned()).collect();
    form.extend(certificate.map(Certificate::floor_options).into_iter().flatten());
    let floor = |name| Program { name, launch: Launch::Floor(form.clone()), options: Vec::new() };
    let mut programs = vec![floor(FLOOR)];
    if let Some(executable) = &arguments.server {
        programs.push(Program {
            name: SERVER,
            launch: server(arguments, executable, directory, certificate)?,
            options: words(&arguments.server_load),
        });
    }
    if let Some(peer) = &arguments.peer {
        programs.push(Program {
            name: PEER,
            launch: Launch::Peer(
                words(peer)
                    .iter()
                    .map(|word| certificate.map_or(word.clone(), |files| files.fill(word)))
                    .collect(),
            ),
            options: words(&arguments.peer_load),
        });
    }
    programs.push(floor(AGAIN));
    Ok(programs)
}

/// fanfare with the given or a generated configuration.
fn server(
    arguments: &Arguments,
    executable: &Path,
    directory: &Path,
    certificate: Option<&Certificate>,
) -> Result<Launch, Failure> {
    let absolute = |option: &str, path: &Path| {
        path.canonicalize().context(|| format!("{option} {}: cannot be found", path.display()))
    };
    let config = match &arguments.config {
        Some(file) => absolute("--config", file)?,
        None => {
            let choice = Choice { shards: arguments.shards, pace: arguments.pace.clone() };
            let file = directory.join("fanfare.toml");
            fs::write(&file, configuration(&choice)).context(|| file.display().to_string())?;
            file
        }
    };
    let executable = absolute("--server", executable)?;
    let mut variables: Vec<_> = certificate.map(Certificate::variables).into_iter().flatten().collect();
    variables.extend(arguments.set.iter().cloned());
    Ok(Launch::Server { executable, config, variables })
}

/// The order of a round: each two begin with another program, and the second of
/// them goes backwards, so that none always has the same place or runs behind
/// the same other.
fn order(programs: &[Program], pair: u32) -> Vec<&Program> {
    let mut order: Vec<&Program> = programs.iter().collect();
    order.rotate_left((pair - 1) as usize / 2 % programs.len());
    if pair.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Options of `loadtest fanout` for one run.
fn load_options(arguments: &Arguments, program: &Program, core: Option<usize>) -> Vec<String> {
    let workload = arguments.workload.to_possible_value();
    let workload = workload.map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut options = vec![
        ("--workload", workload),
        ("--duration", arguments.duration.to_string()),
        ("--warmup", arguments.warmup.to_string()),
        ("--token-secret", arguments.token_secret.clone()),
    ];
    options.extend(core.map(|core| ("--pin", core.to_string())));
    let insecure = arguments.tls.then(|| "--tls-insecure".to_owned());
    let pairs = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    pairs
        .chain(insecure)
        .chain(arguments.load.iter().cloned())
        .chain(program.options.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_every_place() {
        let floor = |name| Program { name, launch: Launch::Floor(Vec::new()), options: Vec::new() };
        let programs = [FLOOR, SERVER, PEER, AGAIN].map(floor);
        let names =
            |pair| -> Vec<&str> { order(&programs, pair).iter().map(|program| program.name).collect() };
        assert_eq!(names(1), [FLOOR, SERVER, PEER, AGAIN]);
        assert_eq!(names(2), [AGAIN, PEER, SERVER, FLOOR]);
        assert_eq!(names(3), [SERVER, PEER, AGAIN, FLOOR]);
        for program in [FLOOR, SERVER, PEER, AGAIN] {
            let places: std::collections::HashSet<_> =
                (1..=8).map(|pair| names(pair).iter().position(|name| *name == program)).collect();
            assert_eq!(places.len(), 4, "{program}");
        }
    }
}
