//! Instructions in place of time: they hardly depend on how busy the machine is, so that a change can be judged anywhere.
//!
//! valgrind's callgrind counts what a server executes itself. The kernel's part is not in it, nor is what a cache that misses costs: two versions
//! of one server are compared by it, and hardly two servers.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server that is not stuck takes an order within so many seconds.
const ORDER_SECONDS: &str = "60";

/// Counts the instructions of one running server.
pub(crate) struct Counting {
    pid: u32,
    dump: PathBuf,
    dumps: Cell<u32>,
}

/// Where the counts of a server that keeps its files in `directory` are written; a number is put behind it.
fn dump(directory: &Path) -> PathBuf {
    directory.join("callgrind")
}

/// What a command line begins with, so that the instructions of the program behind it can be counted.
pub(crate) fn prefix(directory: &Path) -> Vec<String> {
    // Nothing is counted, and the program hardly slowed down, before it is asked for.
    let out = format!("--callgrind-out-file={}", dump(directory).display());
    ["valgrind", "--tool=callgrind", "--instr-atstart=no", &out].map(str::to_owned).into()
}

impl Counting {
    /// For the server with this process id.
    pub(crate) fn new(pid: u32, directory: &Path) -> Self {
        Self { pid, dump: dump(directory), dumps: Cell::new(0) }
    }

    /// Runs `work`, and says how many instructions the server executed meanwhile.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, u64)> {
        self.order(&["--instr=on"])?;
        let done = work()?;
        self.order(&["--instr=off"])?;
        self.order(&["--dump"])?;
        self.dumps.set(self.dumps.get() + 1);
        let mut path = self.dump.clone().into_os_string();
        path.push(format!(".{}", self.dumps.get()));
        let counted = fs::read_to_string(path)?;
        let total = counted.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        let total = total.ok_or_else(|| io::Error::other("callgrind has written no total"))?;
        Ok((done, total))
    }

    fn order(&self, arguments: &[&str]) -> io::Result<()> {
        // It waits for the server, which may be stuck.
        let output = Command::new("timeout")
            .args([ORDER_SECONDS, "callgrind_control"])
            .args(arguments)
            .arg(self.pid.to_string())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "callgrind_control ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}
