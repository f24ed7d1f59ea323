//! What this process asks of the machine: open files, a core of its own, its
//! own CPU time.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::failure::{Context, Failure};

/// Files this program needs beside its connections: standard streams, poll,
/// publisher, `/proc`.
const RESERVE: u64 = 32;
/// The calling thread, sched_setaffinity(2).
const SELF: Pid = Pid::from_raw(0);

/// Raises the soft limit of open files to the hard one and checks that it
/// allows `connections`.
pub fn allow_connections(connections: usize) -> Result<(), Failure> {
    let limit = raise_open_files()?;
    if connections as u64 + RESERVE > limit {
        return Err(Failure::new(format!(
            "{connections} connections need {} open files, and this process may have {limit}: \
             ask for fewer, or raise the hard limit (LimitNOFILE, ulimit -Hn)",
            connections as u64 + RESERVE
        )));
    }
    Ok(())
}

/// Raises the soft limit of open files to the hard one; returns it.
pub fn raise_open_files() -> Result<u64, Failure> {
    let place = || "limit of open files".to_owned();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context(place)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context(place)?;
    }
    Ok(hard)
}

/// Binds this process to one core. Without `cpu` nothing changes.
pub fn pin(cpu: Option<usize>) -> Result<(), Failure> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu).and_then(|()| sched_setaffinity(SELF, &set)).context(|| format!("cannot pin to core {cpu}"))
}

/// The cores that this process may use.
pub fn cores() -> Result<Vec<usize>, Failure> {
    let allowed =
        sched_getaffinity(SELF).context(|| "cannot ask for the cores of this process".to_owned())?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}

/// Does `start` while this thread is bound to `cpu`, and frees it again: a
/// process that is started inherits the core, whatever program it is. Without
/// `cpu` nothing is bound.
pub fn pinned<T>(cpu: Option<usize>, start: impl FnOnce() -> T) -> Result<T, Failure> {
    let before = sched_getaffinity(SELF).context(|| "cannot ask for the cores of this process".to_owned())?;
    pin(cpu)?;
    let started = start();
    sched_setaffinity(SELF, &before).context(|| "cannot undo pinning".to_owned())?;
    Ok(started)
}

/// User and system time of this process so far, in ns.
pub fn own_cpu() -> u64 {
    ClockId::CLOCK_PROCESS_CPUTIME_ID.now().map_or(0, crate::process::nanoseconds)
}
