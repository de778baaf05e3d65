//! What the kernel says of a process and its children: CPU time, memory, switches; and which core they run on.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Where the server under test runs.
pub(crate) const SERVER_CORE: usize = 0;
/// Where the load generator and the origin run.
pub(crate) const LOAD_CORE: usize = 1;

/// Confines the calling thread, and all that it starts, to `core`.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// CPU time and voluntary context switches, since the processes began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) switches: u64,
}

impl Usage {
    pub(crate) fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

impl Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
            switches: self.switches + other.switches,
        }
    }
}

impl Sub for Usage {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            switches: self.switches.saturating_sub(earlier.switches),
        }
    }
}

/// A server as the kernel sees it: the process that was started and every process below it.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pids: Vec<u32>,
}

impl Tree {
    /// The tree below `root` as it is now; servers that fork do so when they start.
    pub(crate) fn of(root: u32) -> Self {
        let mut known = BTreeSet::from([root]);
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| Some((pid, stat_field(pid, 1)?)))
            .filter_map(|(pid, parent)| Some((pid, parent.try_into().ok()?)))
            .collect();
        loop {
            let before = known.len();
            known.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| known.contains(parent))
                    .map(|(pid, _)| *pid)
                    .collect::<Vec<_>>(),
            );
            if known.len() == before {
                return Self { pids: known.into_iter().collect() };
            }
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        self.pids.iter().map(|pid| usage(*pid)).fold(Usage::default(), Add::add)
    }

    /// Memory in bytes. Pages that several processes share count once.
    pub(crate) fn memory(&self) -> u64 {
        self.pids.iter().map(|pid| kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:") * 1024).sum()
    }

    /// The highest memory in bytes since the start or since [`Tree::forget_peak`], each process by itself.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.pids.iter().map(|pid| kibibytes(&format!("/proc/{pid}/status"), "VmHWM:") * 1024).sum()
    }

    /// Resident memory in bytes, counted as [`Tree::peak_memory`] counts it.
    pub(crate) fn resident(&self) -> u64 {
        self.pids.iter().map(|pid| kibibytes(&format!("/proc/{pid}/status"), "VmRSS:") * 1024).sum()
    }

    /// Where the kernel does not allow it the peak simply remains the one since the start.
    pub(crate) fn forget_peak(&self) {
        for pid in &self.pids {
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }
}

/// Busy time of `core` since the machine began, whoever used it.
pub(crate) fn busy(core: usize) -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let label = format!("cpu{core} ");
    let Some(line) = stat.lines().find(|line| line.starts_with(&label)) else { return Duration::ZERO };
    // user nice system idle iowait irq softirq steal: all but the two in which nobody ran.
    let ticks = line.split_ascii_whitespace().skip(1).take(8).enumerate();
    ticks
        .filter(|(index, _)| *index != 3 && *index != 4)
        .map(|(_, value)| ticks_to_time(value.parse().unwrap_or(0)))
        .sum()
}

fn usage(pid: u32) -> Usage {
    Usage {
        user: ticks_to_time(stat_field(pid, 11).unwrap_or(0)),
        system: ticks_to_time(stat_field(pid, 12).unwrap_or(0)),
        switches: voluntary_switches(pid),
    }
}

fn voluntary_switches(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| number_after(&status, "voluntary_ctxt_switches:"))
        .sum()
}

/// A numeric field of `/proc/PID/stat`, counted from the one after the name in brackets (0 is the state).
fn stat_field(pid: u32, index: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_ascii_whitespace().nth(index)?.parse().ok()
}

fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

fn kibibytes(path: &str, label: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| number_after(&text, label)).unwrap_or(0)
}

/// The number in the line that begins with `label`.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_switches() {
        let tree = Tree::of(std::process::id());
        assert!(tree.memory() > 100_000, "{} bytes", tree.memory());
        let resident = tree.resident();
        assert!(tree.peak_memory() >= resident);
        assert!(busy(SERVER_CORE) > Duration::ZERO);
    }
}
