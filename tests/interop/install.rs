//! The packages of the clients, installed once into the target directory, in a folder named after what is pinned: a
//! second run finds it there. Several test programs at a time are kept apart by a lock.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{io, thread};

/// How long an installation may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What a machine must have.
const NEEDED: &str = "the interoperability tests run the real Socket.IO clients: install Node.js 18 or later with npm \
                      (Debian: nodejs, npm) and Python 3.10 or later with venv (Debian: python3, python3-venv)";

/// The sources of the scripts.
pub fn scripts() -> PathBuf {
    sources().join("scripts")
}

/// The folder whose `node_modules` holds the packages of `package-lock.json`.
pub fn node_modules() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let version = output("node", &["--version"]);
        let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
        assert!(major >= Some(18), "Node.js {version} is too old: {NEEDED}");
        let files = ["package.json", "package-lock.json", ".npmrc"];
        once("node", &files, &version, |folder| {
            run(folder, "npm", &["ci"]);
        })
    })
}

/// The Python of an environment with the packages of `requirements.txt`.
pub fn python() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let version = output("python3", &["--version"]);
        let folder = once("python", &["requirements.txt"], &version, |folder| {
            run(folder, "python3", &["-m", "venv", "."]);
            let pip = ["-m", "pip", "install", "--no-deps", "--requirement", "requirements.txt"];
            run(folder, "bin/python", &pip);
        });
        folder.join("bin/python")
    })
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// A folder in which `install` has been done with copies of `files`, now or by an earlier run.
fn once(name: &str, files: &[&str], version: &str, install: impl Fn(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    fs::create_dir_all(&root).unwrap();
    let texts: Vec<String> =
        files.iter().map(|file| fs::read_to_string(sources().join(file)).unwrap()).collect();
    let mut hasher = DefaultHasher::new();
    (version, &texts).hash(&mut hasher);
    let folder = root.join(format!("{name}-{:016x}", hasher.finish()));
    // Held until it is dropped, or its process ends.
    let lock = File::create(root.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files.iter().zip(&texts) {
            fs::write(folder.join(file), text).unwrap();
        }
        install(&folder);
        fs::write(complete, "").unwrap();
    }
    folder
}

/// What a program that must be there prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be run ({error}): {NEEDED}"));
    assert!(output.status.success(), "{program} {arguments:?} failed: {output:?}: {NEEDED}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs a program in `folder` to its end; its output goes to a file there, and into the panic if it fails.
fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let log = folder.join("install.log");
    let file = File::options().create(true).append(true).open(&log).unwrap();
    let path = if program.contains('/') { folder.join(program) } else { program.into() };
    let child = Command::new(path)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn();
    let mut child =
        child.unwrap_or_else(|error: io::Error| panic!("{program} cannot be run ({error}): {NEEDED}"));
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        thread::sleep(Duration::from_millis(50));
    };
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert!(status.success(), "{program} {arguments:?} failed with {status}: {}\n{NEEDED}", said());
}
