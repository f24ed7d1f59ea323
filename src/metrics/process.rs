//! What the kernel knows of this process, read from `/proc` (proc(5)) when the metrics are scraped.

use std::fs;

/// Clock ticks in a second as `/proc` counts them. `USER_HZ` is part of the kernel's interface and 100 on every
/// architecture that Rust's standard library supports; asking `sysconf` would need unsafe code.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of this process. What could not be read is `None` and is not exposed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time of all threads, seconds.
    pub cpu_seconds: Option<f64>,
    /// When it started, seconds since the Unix epoch.
    pub start_time_seconds: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, bytes.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_descriptors: Option<u64>,
    /// The soft limit of open file descriptors; `None` also when there is none.
    pub max_descriptors: Option<u64>,
}

impl Process {
    /// Reads everything.
    pub fn read() -> Process {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/stat").unwrap_or_default();
        Process { open_descriptors: open_descriptors(), ..Process::parse(&stat, &status, &limits, &kernel) }
    }

    fn parse(stat: &str, status: &str, limits: &str, kernel: &str) -> Process {
        // The second field is the command's name in parentheses, and may itself hold spaces and parentheses.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |field: usize| -> Option<f64> {
            after_name.split_ascii_whitespace().nth(field - 3)?.parse::<f64>().ok()
        };
        let boot = word_after(kernel, "btime ").and_then(|word| word.parse::<f64>().ok());
        Process {
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            start_time_seconds: boot.zip(ticks(22)).map(|(boot, start)| boot + start / TICKS_PER_SECOND),
            threads: number_after(status, "Threads:"),
            resident_bytes: number_after(status, "VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: number_after(status, "VmSize:").map(|kib| kib * 1024),
            open_descriptors: None,
            max_descriptors: number_after(limits, "Max open files"),
        }
    }
}

/// The first word after `label`, which begins a line.
fn word_after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(label))?.split_ascii_whitespace().next()
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    word_after(text, label)?.parse().ok()
}

/// Since Linux 6.2 the size of the directory is the count; before, and only then, the entries are counted.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // One entry is the directory that is being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "42 (odd ) name) S 1 42 42 0 -1 4194560 900 0 1 0 250 150 0 0 20 0 5 0 6000 1000000 300 1";
        let status = "Name:\tfanfare\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t5\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            20000                20000                files     \n";
        let process = Process::parse(stat, status, limits, "cpu  1 2 3\nbtime 1700000000\n");
        assert_eq!(process.cpu_seconds, Some(4.0));
        assert_eq!(process.start_time_seconds, Some(1_700_000_060.0));
        assert_eq!(process.threads, Some(5));
        assert_eq!(process.resident_bytes, Some(1_048_576));
        assert_eq!(process.virtual_bytes, Some(2_097_152));
        assert_eq!(process.max_descriptors, Some(20_000));
    }

    #[test]
    fn an_empty_or_foreign_proc_gives_nothing() {
        assert_eq!(Process::parse("", "", "Max open files unlimited", "x"), Process::default());
    }

    #[test]
    fn this_process_has_figures() {
        let process = Process::read();
        assert!(process.open_descriptors.is_some_and(|count| count >= 3), "{process:?}");
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.start_time_seconds.is_some_and(|seconds| seconds > 1.6e9), "{process:?}");
    }
}
