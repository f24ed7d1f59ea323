//! The server process seen from outside: CPU time and memory, from its CPU
//! clock and `/proc`.

use std::fs;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::failure::{Context, Failure};

/// The process whose cost is measured.
pub struct Process {
    pid: i32,
    clock: ClockId,
}

/// CPU time of a process since its start.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// User and system time of all threads, ended ones included, ns.
    pub total: u64,
    /// The same split into user and system time, in clock ticks of 10 ms, so
    /// only good for a ratio.
    pub user_ticks: u64,
    pub system_ticks: u64,
}

/// Memory of a process in bytes, user space only.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub resident: u64,
    pub proportional: u64,
    pub private_dirty: u64,
}

impl Process {
    /// Finds the process.
    ///
    /// # Errors
    /// When there is none with this id.
    pub fn open(pid: i32) -> Result<Self, Failure> {
        let clock = clock_getcpuclockid(Pid::from_raw(pid))
            .context(|| format!("--server-pid {pid}: no CPU clock, is the process running?"))?;
        let process = Self { pid, clock };
        process.cpu()?;
        Ok(process)
    }

    /// CPU time so far. The kernel's clock of the process is used for the sum,
    /// because it is exact to the ns and never behind, as `schedstat` is.
    pub fn cpu(&self) -> Result<Cpu, Failure> {
        let place = || format!("CPU time of process {}", self.pid);
        let total = self.clock.now().map(nanoseconds).context(place)?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context(place)?;
        // The second field is a name in brackets and may hold spaces; utime and
        // stime are fields 14 and 15 of proc(5).
        let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11);
        let mut next = || fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        Ok(Cpu { total, user_ticks: next(), system_ticks: next() })
    }

    /// Memory now; zeros where the kernel does not tell.
    pub fn memory(&self) -> Memory {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let dirty = kilobytes(&text, "Private_Dirty:");
        Memory {
            resident: kilobytes(&text, "Rss:"),
            proportional: kilobytes(&text, "Pss:"),
            private_dirty: dirty,
        }
    }
}

impl Cpu {
    /// Time spent between `earlier` and this reading, as (all, user, system) ns.
    pub fn since(&self, earlier: &Cpu) -> (u64, u64, u64) {
        let total = self.total.saturating_sub(earlier.total);
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        let system = self.system_ticks.saturating_sub(earlier.system_ticks);
        let user_time = (u128::from(total) * u128::from(user) / u128::from((user + system).max(1))) as u64;
        (total, user_time, total - user_time)
    }
}

/// Memory that the kernel keeps for all sockets and caches, in bytes; on a
/// quiet machine its growth is the kernel's share of the connections.
pub fn kernel_memory() -> u64 {
    let slab = kilobytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:");
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    // `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1`: pages of 4 KiB
    let pages: u64 = sockets
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    slab + pages * 4096
}

/// The value of a `Name:   123 kB` line, in bytes; 0 if there is none.
fn kilobytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// A non-negative kernel time as ns.
pub fn nanoseconds(time: TimeSpec) -> u64 {
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_cost() {
        let process = Process::open(std::process::id() as i32).expect("own process");
        let before = process.cpu().expect("cpu");
        let sum: u64 = std::hint::black_box((0..2_000_000u64).map(std::hint::black_box).sum());
        let (all, user, system) = process.cpu().expect("cpu").since(&before);
        assert!(sum > 0 && all > 100_000, "{all} ns");
        assert_eq!(all, user + system);
        assert!(process.memory().resident > 100_000);
    }

    #[test]
    fn reads_kilobyte_lines() {
        assert_eq!(kilobytes("Rss:     12 kB\nPss:   7 kB\n", "Pss:"), 7 * 1024);
        assert_eq!(kilobytes("", "Pss:"), 0);
    }
}
