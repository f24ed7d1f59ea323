//! The rules of the tree that a compiler does not know, checked over the sources: who may import whom, where each
//! foreign crate is at home, what must not be written. Where a rule changes, it changes here first.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules by rank. A module imports from ranks below its own only; a folder counts as one module.
const RANKS: [&[&str]; 11] = [
    &["limits", "close", "time", "audience", "hash"],
    &["settings"],
    &[
        "proto",
        "room",
        "auth",
        "metrics",
        "config",
        "transport",
        "users",
        "filter",
        "record",
        "openapi",
        "page",
    ],
    &["app", "mailbox"],
    &["router", "accept", "admin", "store"],
    &["login"],
    &["shard"],
    &["run"],
    &["broker"],
    &["cli"],
    &["lib", "main"],
];

/// The only places that know a crate. Crates that are not named here may be used anywhere.
const HOMES: [(&str, &[&str]); 21] = [
    ("rustls", &["transport"]),
    ("jsonwebtoken", &["auth"]),
    ("tungstenite", &["proto"]),
    ("simd_json", &["proto"]),
    ("httparse", &["proto", "admin"]),
    ("hdrhistogram", &["metrics"]),
    ("crossbeam_channel", &["broker", "run", "shard", "router", "store", "login"]),
    ("papaya", &["users", "auth"]),
    ("argon2", &["auth"]),
    ("sha2", &["auth"]),
    ("rpassword", &["cli"]),
    ("rustrict", &["filter"]),
    ("rusqlite", &["store"]),
    ("hashlink", &["store"]),
    ("parking_lot", &["admin", "broker", "login"]),
    ("signal_hook", &["cli"]),
    ("clap", &["cli", "main"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["cli"]),
    ("regex_lite", &["room", "config", "filter"]),
    ("socket2", &["accept", "broker", "router"]),
];

/// Modules whose values have one owner, and which therefore need no lock.
const LOCKLESS: [&str; 7] = ["shard", "room", "proto", "app", "router", "record", "store"];

/// Modules that do nothing but compute: no sockets, files, threads, clocks.
const PURE: [&str; 4] = ["proto", "room", "app", "record"];

/// Lines of a file, at most.
const LINES: usize = 500;

/// The shortest text that can be a proof of why an `expect` cannot fail.
const PROOF: usize = 20;

struct Source {
    path: PathBuf,
    /// The module that the file belongs to: a folder of `src`, or a file in it.
    module: String,
    /// The text without comments and without tests.
    code: String,
    lines: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

/// What stands before the tests, without comments. Tests stand last in a file.
fn code(text: &str) -> String {
    let before = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let without = |line: &str| match line.trim_start().starts_with("//") {
        true => String::new(),
        false => line.split(" // ").next().unwrap_or(line).to_owned(),
    };
    before.lines().map(without).collect::<Vec<_>>().join("\n")
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root().join("src"), &mut paths);
    let is_test = |path: &PathBuf| {
        path.components().any(|part| {
            ["tests", "properties", "sizes"]
                .iter()
                .any(|name| part.as_os_str().to_string_lossy().starts_with(name))
        })
    };
    paths
        .into_iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_owned())
        .filter(|path| !is_test(path))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
            let module = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
            Source { module, code: code(&text), lines: text.lines().count(), path }
        })
        .collect()
}

fn rank(module: &str) -> usize {
    RANKS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no rank: give it one in tests/tidy.rs"))
}

/// The word that begins at `text`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Where `name` stands as a whole word.
fn uses(code: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn fail(what: &str, wrong: &BTreeSet<String>) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.iter().cloned().collect::<Vec<_>>().join("\n  "));
}

#[test]
fn imports_go_strictly_down() {
    let mut wrong = BTreeSet::new();
    for source in sources().iter().filter(|source| !["lib", "main"].contains(&&*source.module)) {
        let own = rank(&source.module);
        for (at, _) in source.code.match_indices("crate::") {
            let rest = &source.code[at + "crate::".len()..];
            assert!(!rest.starts_with('{'), "{}: import one module a line", source.path.display());
            let other = word(rest);
            if other != source.module && rank(other) >= own {
                wrong.insert(format!("{} imports crate::{other}", source.path.display()));
            }
        }
    }
    fail("modules import from their own rank or above", &wrong);
}

#[test]
fn every_module_of_the_crate_has_a_rank() {
    for source in sources() {
        rank(&source.module);
    }
}

#[test]
fn crates_stay_at_home() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for (name, homes) in HOMES {
            if uses(&source.code, name) && !homes.contains(&&*source.module) {
                wrong.insert(format!("{} uses {name}, which is at home in {homes:?}", source.path.display()));
            }
        }
    }
    fail("crates are used outside their home", &wrong);
}

#[test]
fn what_has_one_owner_needs_no_lock() {
    let mut wrong = BTreeSet::new();
    for source in sources().iter().filter(|source| LOCKLESS.contains(&&*source.module)) {
        for lock in ["Mutex", "RwLock", "Condvar"] {
            if uses(&source.code, lock) {
                wrong.insert(format!("{}: {lock}", source.path.display()));
            }
        }
    }
    fail("there are locks where nothing is shared", &wrong);
}

#[test]
fn pure_modules_touch_nothing_outside() {
    let mut wrong = BTreeSet::new();
    for source in sources().iter().filter(|source| PURE.contains(&&*source.module)) {
        for outside in
            ["std::fs", "std::thread", "Instant", "SystemTime", "TcpStream", "mio", "tracing", "Now::read"]
        {
            if uses(&source.code, outside) {
                wrong.insert(format!("{}: {outside}", source.path.display()));
            }
        }
    }
    fail("pure modules do more than compute", &wrong);
}

#[test]
fn nothing_panics_without_a_proof() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        let compact: String = source.code.split_whitespace().collect::<Vec<_>>().join(" ");
        for forbidden in [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "unreachable!(", "dbg!("] {
            for (at, _) in compact.match_indices(forbidden) {
                let is_debug = compact[..at].ends_with("debug_");
                if !is_debug {
                    wrong.insert(format!("{}: {forbidden}", source.path.display()));
                }
            }
        }
        for (at, _) in compact.match_indices(".expect(") {
            let rest = compact[at + ".expect(".len()..].trim_start();
            // Parsers have a method of that name whose argument is no text.
            let Some(text) = rest.strip_prefix('"') else { continue };
            let proof = text.split('"').next().unwrap_or_default();
            if proof.len() < PROOF {
                wrong.insert(format!(
                    "{}: .expect({proof:?}) does not say why it cannot fail",
                    source.path.display()
                ));
            }
        }
    }
    fail("something may panic", &wrong);
}

#[test]
fn there_is_no_unsafe_code() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        if uses(&source.code, "unsafe") || uses(&source.code, "unsafe_code") {
            wrong.insert(source.path.display().to_string());
        }
    }
    fail("unsafe code", &wrong);
}

#[test]
fn files_are_short() {
    let long: BTreeSet<String> = sources()
        .iter()
        .filter(|source| source.lines > LINES)
        .map(|source| format!("{}: {} lines", source.path.display(), source.lines))
        .collect();
    fail("files of more than 500 lines: divide them by subject", &long);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        let text = fs::read_to_string(root().join(&source.path)).unwrap();
        if !text.starts_with("//! ") {
            wrong.insert(source.path.display().to_string());
        }
    }
    fail("files do not open with what they are for", &wrong);
}

#[test]
fn metric_names_are_unique() {
    let mut paths = vec![root().join("src/metrics/expose.rs")];
    files(&root().join("src/metrics/expose"), &mut paths);
    let text: String = paths.iter().map(|path| code(&fs::read_to_string(path).unwrap())).collect();
    let mut families: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, _) in text.match_indices("\"fanfare_") {
        *families.entry(word(&text[at + 1..])).or_default() += 1;
    }
    assert!(families.len() > 20, "the metrics have moved: {families:?}");
    let twice: BTreeSet<String> =
        families.iter().filter(|(_, count)| **count > 1).map(|(name, _)| (*name).to_owned()).collect();
    fail("families are written twice", &twice);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = BTreeSet::new();
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        files(&root().join(folder), &mut paths);
    }
    for path in paths.iter().filter(|path| !path.ends_with("tests/tidy.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for mark in ["TODO", "FIXME", "XXX", "HACK"] {
            if uses(&text, mark) {
                wrong.insert(format!("{}: {mark}", path.display()));
            }
        }
    }
    fail("something is left for later", &wrong);
}
