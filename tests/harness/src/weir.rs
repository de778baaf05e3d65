//! The real binary, with a configuration of its own, on ports that the system picks.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::origin::Origin;
use crate::wire::{Conn, Response, WAIT};
use crate::{eventually, lock};

/// Where the binary is: `WEIR_BIN`, or beside the folder of the running test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WEIR_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("a test is in target/PROFILE/deps");
    let binary = profile.join("weir");
    assert!(
        binary.exists(),
        "no {}: build it (`cargo build --bins`), or name one in WEIR_BIN",
        binary.display()
    );
    binary
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary can be run")
}

/// Runs `weir check` on this configuration; returns the exit status and everything printed.
pub fn check(config: &str) -> (ExitStatus, String) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("weir.toml");
    std::fs::write(&path, config).expect("the folder can be written to");
    let output = run(&["check", "--config", &path.display().to_string()]);
    let printed = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&printed).into_owned())
}

/// A wall clock that is ahead: put between the process and its C library.
const AHEAD: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static long ahead;
    if (!real) {
        const char *text = getenv("CLOCK_AHEAD_S");
        ahead = text ? atol(text) : 0;
        real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real(which, now);
    if (result == 0 && which == CLOCK_REALTIME) now->tv_sec += ahead;
    return result;
}
"#;

#[derive(Default)]
struct Printed {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// A running Weir.
pub struct Weir {
    child: Child,
    folder: tempfile::TempDir,
    listeners: Vec<String>,
    admin: Option<SocketAddr>,
    printed: Arc<Printed>,
}

impl Weir {
    /// Weir with one route: everything to this origin.
    #[track_caller]
    pub fn before(origin: &Origin) -> Weir {
        Weir::to(&origin.url())
    }

    /// Weir with one route: everything to this URL.
    #[track_caller]
    pub fn to(url: &str) -> Weir {
        Weir::with(&format!("[[route]]\norigin = \"{url}\"\n"))
    }

    /// Weir with this configuration. Unless it says otherwise, it listens on any port of 127.0.0.1, admin likewise.
    /// `{DIR}` stands for a folder of its own.
    #[track_caller]
    pub fn with(config: &str) -> Weir {
        Weir::with_files(config, |_| {})
    }

    /// As [`Weir::with`], after `prepare` has put files into the folder that `{DIR}` stands for.
    #[track_caller]
    pub fn with_files(config: &str, prepare: impl FnOnce(&Path)) -> Weir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        prepare(folder.path());
        let path = folder.path().join("weir.toml");
        let config = complete(config, folder.path());
        std::fs::write(&path, &config).expect("the folder can be written to");
        let listeners = listeners_of(&config);
        Weir::spawn(folder, &["run", "--config", &path.display().to_string()], listeners, true)
    }

    /// Weir with these arguments instead of a configuration file; `listeners` is how many it announces.
    #[track_caller]
    pub fn with_arguments(arguments: &[&str], listeners: usize, admin: bool) -> Weir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Weir::spawn(folder, arguments, listeners, admin)
    }

    /// Likewise, with these variables in its environment.
    #[track_caller]
    pub fn with_variables(arguments: &[&str], variables: &[(&str, &str)]) -> Weir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut command = Command::new(binary());
        command.args(arguments).envs(variables.iter().copied());
        Weir::start(folder, command, 1, true)
    }

    /// `weir run` in a folder that has a `weir.toml` with one listener, and with these variables of the environment.
    #[track_caller]
    pub fn run_in(folder: &Path, variables: &[(&str, &str)]) -> Weir {
        let mut command = Command::new(binary());
        command.arg("run").current_dir(folder).envs(variables.iter().copied());
        let own = tempfile::tempdir().expect("a folder can be made");
        Weir::start(own, command, 1, false)
    }

    /// As [`Weir::with`], where no file can grow beyond so many KiB: a write that would fails, as on a disk that is full.
    #[track_caller]
    pub fn with_small_files(config: &str, kib: u32) -> Weir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("weir.toml");
        let config = complete(config, folder.path());
        std::fs::write(&path, &config).expect("the folder can be written to");
        let mut command = Command::new("sh");
        // Without the trap the signal would end the process. `ulimit` counts blocks of 512 bytes.
        let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
        command.args(["-c", script, "sh", &(kib * 2).to_string()]).arg(binary());
        command.args(["run", "--config", &path.display().to_string()]);
        Weir::start(folder, command, listeners_of(&config), true)
    }

    /// As [`Weir::with`], where the wall clock is so many seconds ahead of everybody else's.
    #[track_caller]
    pub fn with_clock_ahead(config: &str, seconds: u32) -> Weir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (source, library) = (folder.path().join("ahead.c"), folder.path().join("ahead.so"));
        std::fs::write(&source, AHEAD).expect("the folder can be written to");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let compiled = compile.output().expect("there is a C compiler (scripts/test.sh sees to it)");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let path = folder.path().join("weir.toml");
        let config = complete(config, folder.path());
        std::fs::write(&path, &config).expect("the folder can be written to");
        let mut command = Command::new(binary());
        command.env("LD_PRELOAD", &library).env("CLOCK_AHEAD_S", seconds.to_string());
        command.args(["run", "--config", &path.display().to_string()]);
        Weir::start(folder, command, listeners_of(&config), true)
    }

    #[track_caller]
    fn spawn(folder: tempfile::TempDir, arguments: &[&str], listeners: usize, admin: bool) -> Weir {
        let mut command = Command::new(binary());
        command.args(arguments);
        Weir::start(folder, command, listeners, admin)
    }

    #[track_caller]
    fn start(folder: tempfile::TempDir, mut command: Command, listeners: usize, admin: bool) -> Weir {
        if command.get_current_dir().is_none() {
            command.current_dir(folder.path());
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let printed = Arc::new(Printed::default());
        keep_lines(child.stdout.take().expect("stdout is piped"), &printed);
        keep_lines(child.stderr.take().expect("stderr is piped"), &printed);
        let mut weir = Weir { child, folder, listeners: Vec::new(), admin: None, printed };
        weir.wait_until_ready(listeners, admin);
        weir
    }

    #[track_caller]
    fn wait_until_ready(&mut self, listeners: usize, admin: bool) {
        let begun = Instant::now();
        loop {
            let announced = |mark: &str| -> Vec<String> {
                let lines = lock(&self.printed.lines);
                let of = lines.iter().filter_map(|line| Some(line.split_once(mark)?.1.trim().to_owned()));
                of.collect()
            };
            let listening = announced("listening on ");
            let admins = announced("admin on ");
            if listening.len() >= listeners && (!admin || !admins.is_empty()) {
                self.listeners = listening;
                self.admin = admins.first().map(|url| socket_address(url));
                return;
            }
            let ended = self.child.try_wait().expect("the child can be asked");
            assert!(
                ended.is_none() && begun.elapsed() < WAIT,
                "Weir is not ready ({ended:?} after {:?}); it printed:\n{}",
                begun.elapsed(),
                self.output()
            );
            self.wait_for_output();
        }
    }

    fn wait_for_output(&self) {
        let lines = lock(&self.printed.lines);
        // Short, because the end of the process is no line.
        let _ = self.printed.more.wait_timeout(lines, Duration::from_millis(50));
    }

    /// Everything printed so far, stdout and stderr together.
    pub fn output(&self) -> String {
        lock(&self.printed.lines).join("\n")
    }

    /// Waits for a line that holds this text, and returns it.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut found = None;
        eventually(&format!("a line with {text:?} in the output"), || {
            found = lock(&self.printed.lines).iter().find(|line| line.contains(text)).cloned();
            found.is_some()
        });
        found.expect("just found")
    }

    /// The address of the first TCP listener.
    pub fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// The address of the listener that was announced as number so and so.
    pub fn address_of(&self, number: usize) -> SocketAddr {
        socket_address(&self.listeners[number])
    }

    /// The folder that `{DIR}` stands for.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection to the first listener.
    #[track_caller]
    pub fn client(&self) -> Conn {
        Conn::connect(self.address())
    }

    /// A `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// A request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.client().ask(method, target, headers, body)
    }

    /// The address of the admin listener.
    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("Weir announced its admin listener")
    }

    /// A request to the admin listener.
    #[track_caller]
    pub fn admin(&self, method: &str, target: &str) -> Response {
        let address = self.admin.expect("Weir announced its admin listener");
        Conn::connect(address).ask(
            method,
            target,
            &[("Host", &address.to_string()), ("Weir-Admin", "1")],
            b"",
        )
    }

    /// The metrics page.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let page = self.admin("GET", "/metrics");
        assert_eq!(page.status, 200, "{}", page.text());
        page.text()
    }

    /// The sum of all samples of this metric whose labels contain each of these texts.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.metrics();
        let samples = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, rest) = line.split_at_checked(line.find([' ', '{'])?)?;
            let (labelled, value) = rest.rsplit_once(' ')?;
            let is_it = series == name && labels.iter().all(|label| labelled.contains(label));
            is_it.then(|| value.parse::<f64>().ok()).flatten()
        });
        samples.sum()
    }

    /// Replaces the configuration file (as [`Weir::with`] takes it) without a reload.
    pub fn write_config(&self, config: &str) {
        let config = complete(config, self.folder.path());
        std::fs::write(self.folder.path().join("weir.toml"), config).expect("the folder can be written to");
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status;
            }
            assert!(
                begun.elapsed() < limit,
                "Weir still runs after {limit:?}; it printed:\n{}",
                self.output()
            );
            self.wait_for_output();
        }
    }

    /// Is the process still there?
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_none()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory now, in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux has /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has VmRSS");
        let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number");
        kilobytes * 1024
    }

    fn signal(&self, signal: Signal) {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).expect("a child can be signalled");
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let tail = output.len().saturating_sub(8_000);
            let tail = output.get(tail..).unwrap_or(&output);
            // The harness reports a failed test: stderr is where its output belongs.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- Weir printed:\n{tail}\n---\n").as_bytes(),
            );
        }
    }
}

fn keep_lines(stream: impl Read + Send + 'static, printed: &Arc<Printed>) {
    let printed = Arc::clone(printed);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            lock(&printed.lines).push(line);
            printed.more.notify_all();
        }
    });
}

fn complete(config: &str, folder: &Path) -> String {
    let has_table = |name: &str| config.lines().any(|line| line.trim() == name);
    let listen = "listen = [\"127.0.0.1:0\"]";
    let mut whole = match (has_table("[server]"), config.contains("listen =")) {
        (true, true) => config.to_owned(),
        (true, false) => config.replacen("[server]", &format!("[server]\n{listen}"), 1),
        (false, _) => format!("[server]\n{listen}\n{config}"),
    };
    if !has_table("[admin]") {
        whole = format!("[admin]\nlisten = \"127.0.0.1:0\"\n{whole}");
    }
    whole.replace("{DIR}", &folder.display().to_string())
}

fn listeners_of(config: &str) -> usize {
    // A configuration that is meant to be wrong announces nothing anyway.
    let parsed = config.parse::<toml::Table>().ok();
    let listen = parsed.as_ref().and_then(|table| table.get("server")?.get("listen")?.as_array());
    listen.map_or(1, Vec::len)
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn socket_address(url: &str) -> SocketAddr {
    let address = without_scheme(url).trim_end_matches('/');
    let address = address.split_whitespace().next().unwrap_or_default();
    address.parse().unwrap_or_else(|e| panic!("no socket address in {url:?}: {e}"))
}
