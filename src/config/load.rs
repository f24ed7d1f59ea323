//! From the sources to a [`Config`]: what the file, the environment and the flags say is collected by key, the
//! later source winning, then every key is read once, and what does not fit is reported with its place.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::check;
use super::keys::{Change, Visitor, names};
use super::setting::Setting;
use super::{Config, ConfigError, Problem};
use crate::settings::Secret;

/// What every variable of ours begins with.
const PREFIX: &str = "FANFARE_";

/// A flag that overrides a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As typed, `--listen`.
    pub flag: &'static str,
    /// The key, `listen`.
    pub key: &'static str,
    /// Its value, as in an environment variable.
    pub text: String,
}

/// Where values come from, the stronger ones last. Kept by the caller, to read them again at `SIGHUP`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Environment variables; those without the prefix `FANFARE_` are ignored.
    pub environment: Vec<(String, String)>,
    /// The flags that were given.
    pub flags: Vec<Flag>,
    /// `--dev`: any origin is allowed unless some are configured, and this secret signs unless keys are.
    pub development: Option<Secret>,
    /// `--dev`: the database, unless one is configured.
    pub development_store: Option<PathBuf>,
}

impl Sources {
    /// The sources of this process, without flags.
    pub fn of_process(file: Option<PathBuf>) -> Sources {
        let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Sources { file, environment, flags: Vec::new(), development: None, development_store: None }
    }
}

/// A value that a source gives for a key.
struct Given {
    place: String,
    value: GivenValue,
}

enum GivenValue {
    Toml(Value),
    Text(String),
}

/// All that the sources say, and what is wrong with it so far.
pub(super) struct Reading {
    names: Vec<&'static str>,
    given: HashMap<&'static str, Given>,
    file: Option<String>,
    /// The faults found so far.
    pub(super) problems: Vec<Problem>,
}

impl Config {
    /// Reads the sources for serving: every key, and all that must hold between them.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let (config, mut reading) = read(sources);
        check::values(&config, &mut reading);
        check::serving(&config, &mut reading);
        reading.finish(config)
    }

    /// Reads the sources for a command that does not serve: keys need not be configured, ports may be open.
    pub fn read(sources: &Sources) -> Result<Config, ConfigError> {
        let (config, mut reading) = read(sources);
        check::values(&config, &mut reading);
        reading.finish(config)
    }
}

fn read(sources: &Sources) -> (Config, Reading) {
    let mut reading = Reading::collect(sources);
    let mut config = Config::default();
    config.visit(&mut reading);
    config.development = sources.development.is_some();
    if let Some(secret) = &sources.development {
        if config.allowed_origins.is_empty() {
            config.allowed_origins.push("*".to_owned());
        }
        if !config.auth.has_keys() {
            config.auth.secret = secret.clone();
        }
    }
    if let Some(path) = &sources.development_store
        && !reading.given.contains_key("store.path")
    {
        config.store.path = path.clone();
    }
    (config, reading)
}

impl Visitor for Reading {
    fn key<T: Setting>(&mut self, name: &'static str, _: Change, field: &mut T) {
        let Some(given) = self.given.get(name) else { return };
        let value = match &given.value {
            GivenValue::Toml(value) => T::read(value),
            GivenValue::Text(text) => T::read(&T::from_text(text)),
        };
        match value {
            Ok(value) => *field = value,
            Err(message) => self.problem(name, message),
        }
    }
}

impl Reading {
    fn collect(sources: &Sources) -> Reading {
        let file = sources.file.as_ref().map(|path| path.display().to_string());
        let mut reading = Reading { names: names(), given: HashMap::new(), file, problems: Vec::new() };
        if let Some(path) = &sources.file {
            reading.add_file(path);
        }
        let ours: BTreeMap<_, _> =
            sources.environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).cloned().collect();
        for (name, text) in ours {
            reading.add_variable(name, text);
        }
        for flag in &sources.flags {
            let given = Given { place: flag.flag.to_owned(), value: GivenValue::Text(flag.text.clone()) };
            reading.given.insert(flag.key, given);
        }
        reading
    }

    fn add_file(&mut self, path: &Path) {
        let place = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.fault(place, "", format!("cannot be read: {error}")),
        };
        // The one parse keeps where each key stands, the other gives plain values.
        match (DeTable::parse(&text), toml::from_str::<toml::Table>(&text)) {
            (Ok(spanned), Ok(mut values)) => {
                let file = FileText { place, text: &text };
                self.add_table(&file, "", spanned.get_ref(), &mut values);
            }
            (Err(error), _) | (_, Err(error)) => {
                let file = FileText { place, text: &text };
                let message = error.message().lines().collect::<Vec<_>>().join(" ");
                self.fault(file.line(error.span()), "", format!("is not TOML: {message}"));
            }
        }
    }

    fn add_table(&mut self, file: &FileText, above: &str, spanned: &DeTable, values: &mut toml::Table) {
        for (name, content) in spanned {
            let Some(value) = values.get_mut(name.get_ref().as_ref()) else { continue };
            let place = file.line(Some(name.span()));
            let path = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            if let Some(key) = self.names.iter().find(|key| **key == path) {
                let value = std::mem::replace(value, Value::Boolean(false));
                self.given.insert(key, Given { place, value: GivenValue::Toml(value) });
            } else if !self.is_section(&path) {
                let known = self.candidates(content.get_ref().is_table());
                let meant = suggestion(&path, &known).unwrap_or_else(|| beside(&path, &known));
                self.fault(place, &path, format!("unknown key, {meant}"));
            } else if let (DeValue::Table(spanned), Value::Table(values)) = (content.get_ref(), value) {
                self.add_table(file, &path, spanned, values);
            } else {
                self.fault(place, &path, format!("is a section: write [{path}] and its keys below it"));
            }
        }
    }

    fn is_section(&self, path: &str) -> bool {
        self.names.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// What an unknown key could have meant: the sections or the keys.
    fn candidates(&self, sections: bool) -> Vec<String> {
        if !sections {
            return self.names.iter().map(|key| (*key).to_owned()).collect();
        }
        let mut sections: Vec<String> = self
            .names
            .iter()
            .filter_map(|key| key.rsplit_once('.'))
            .map(|(path, _)| path.to_owned())
            .collect();
        sections.dedup();
        sections
    }

    fn add_variable(&mut self, name: String, text: String) {
        match self.names.iter().find(|key| variable(key) == name) {
            Some(key) => {
                self.given.insert(key, Given { place: name, value: GivenValue::Text(text) });
            }
            None => {
                let known: Vec<String> = self.names.iter().map(|key| variable(key)).collect();
                let meant = suggestion(&name, &known)
                    .unwrap_or_else(|| "FANFARE_SECTION__KEY sets a key of the configuration".to_owned());
                self.fault(name, "", format!("unknown variable, {meant}"));
            }
        }
    }

    /// Notes a fault of a key, at the place its value came from.
    pub(super) fn problem(&mut self, key: &'static str, message: String) {
        let given = self.given.get(key).map(|given| given.place.clone());
        let place = given.or_else(|| self.file.clone()).unwrap_or_default();
        self.fault(place, key, message);
    }

    /// Whether a fault of this key was noted already, so that nothing more need be said of it.
    pub(super) fn is_faulty(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    fn fault(&mut self, place: String, key: &str, message: String) {
        self.problems.push(Problem { place, key: key.to_owned(), message });
    }

    fn finish(self, config: Config) -> Result<Config, ConfigError> {
        if self.problems.is_empty() { Ok(config) } else { Err(ConfigError { problems: self.problems }) }
    }
}

/// `limits.typing` → `FANFARE_LIMITS__TYPING`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

struct FileText<'a> {
    place: String,
    text: &'a str,
}

impl FileText<'_> {
    /// `fanfare.toml:12`.
    fn line(&self, span: Option<Range<usize>>) -> String {
        match span.and_then(|span| self.text.get(..span.start)) {
            Some(before) => format!("{}:{}", self.place, before.matches('\n').count() + 1),
            None => self.place.clone(),
        }
    }
}

/// The known name nearest to an unknown one, if one is near.
fn suggestion(name: &str, known: &[String]) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let nearest = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(key, name), key))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, key)| *distance <= 3 && *distance * 3 <= key.len())
        .map(|(_, key)| key);
    let namesake = || known.iter().find(|key| last(key) == last(name));
    nearest.or_else(namesake).map(|key| format!("did you mean {key}?"))
}

/// The known names that could stand where the unknown one does.
fn beside(name: &str, known: &[String]) -> String {
    let section = |path: &str| path.rsplit_once('.').map_or("", |(section, _)| section).to_owned();
    let here = section(name);
    let names: Vec<&str> = known
        .iter()
        .filter(|key| section(key) == here)
        .map(|key| key.rsplit('.').next().unwrap_or_default())
        .collect();
    if here.is_empty() {
        format!("at the top there are {}", names.join(", "))
    } else {
        format!("[{here}] has {}", names.join(", "))
    }
}
