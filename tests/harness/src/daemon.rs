//! A server that a test runs: another program, on a port that the system picks, in a folder of its own, with its output in a file.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::wire::WAIT;

/// Attempts to find a port that nobody takes in between.
pub(crate) const PORTS: u32 = 20;
/// Between two looks whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) struct Daemon {
    pub(crate) child: Option<Child>,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// One that does not run yet.
    pub(crate) fn new() -> Daemon {
        Daemon { child: None, port: 0, folder: tempfile::tempdir().expect("a folder can be made") }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("output.log")
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A free port below `below`. Somebody may take it before the server does: then it is started on another.
    pub(crate) fn take_free_port(&mut self, below: u16) {
        for _ in 0..1_000 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
            self.port = listener.local_addr().expect("it has an address").port();
            if self.port < below {
                return;
            }
        }
        panic!("there is no free port below {below}");
    }

    /// Runs it until `answers`. False: it has ended, or does not answer.
    pub(crate) fn run(&mut self, mut command: Command, answers: impl Fn(&Daemon) -> bool) -> bool {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("the folder can be written to");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let started = command.spawn();
        self.child = Some(started.unwrap_or_else(|error| {
            panic!("{:?} cannot be run ({error}): scripts/test.sh installs it", command.get_program())
        }));
        let begun = Instant::now();
        while begun.elapsed() < WAIT {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok()).flatten();
            if ended.is_some() {
                return false;
            }
            if answers(self) {
                return true;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        self.kill();
        false
    }

    /// Ends it at once, if it runs.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("a child can be waited for");
        }
    }
}
