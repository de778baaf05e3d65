//! A real PostgreSQL on a port that the system picks, in a folder of its own. The server refuses to run as root: there, it is run as `nobody`.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::daemon::{Daemon, PORTS};
use crate::eventually;
use crate::wire::WAIT;

/// `nobody` on every Linux.
const NOBODY: u32 = 65_534;
/// The role, and its database.
const ROLE: &str = "weir";
const PASSWORD: &str = "p@ss word/%";

/// A running server. Dropping it ends it.
pub struct PostgresServer {
    daemon: Daemon,
    arguments: Vec<String>,
}

fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    let has_all = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).exists());
    folders.into_iter().find(has_all).expect("PostgreSQL is installed (scripts/test.sh does that)")
}

/// A program of the server's, run by somebody who may.
fn command(name: &str) -> Command {
    let program = programs().join(name);
    if !getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
    command.arg(program);
    command
}

fn give_away(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
    if getuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give a file away");
    }
}

fn ask_in(port: u16, database: &str, sql: &str) -> Output {
    let mut ask = Command::new("psql");
    ask.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", ROLE]);
    ask.args(["-d", database, "-c", sql]);
    ask.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "10").stdin(Stdio::null());
    ask.output().expect("psql can be run")
}

impl PostgresServer {
    /// A server with a role `weir` that has a password and a database of its own.
    #[track_caller]
    pub fn start() -> PostgresServer {
        PostgresServer::prepared(&[], |_| Vec::new())
    }

    /// Likewise with these settings, as `["ssl=on"]`; `files` writes a certificate and its key into the folder that it is given, which `{DIR}` stands for, and returns where.
    #[track_caller]
    pub fn with(settings: &[&str], files: impl FnOnce(&Path) -> [PathBuf; 2]) -> PostgresServer {
        PostgresServer::prepared(settings, |folder| files(folder).into())
    }

    #[track_caller]
    fn prepared(settings: &[&str], files: impl FnOnce(&Path) -> Vec<PathBuf>) -> PostgresServer {
        let daemon = Daemon::new();
        let at = daemon.folder();
        give_away(at, 0o700);
        let secret = at.join("password");
        fs::write(&secret, PASSWORD).expect("the folder can be written to");
        give_away(&secret, 0o600);
        let mut init = command("initdb");
        init.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", ROLE]);
        init.arg("--pwfile").arg(&secret).arg("--pgdata").arg(at.join("data"));
        let made = init.current_dir("/").stdin(Stdio::null()).output().expect("initdb can be run");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        for file in files(at) {
            give_away(&file, 0o600);
        }
        let directory = at.display().to_string();
        let arguments = settings.iter().map(|text| text.replace("{DIR}", &directory)).collect();
        let mut server = PostgresServer { daemon, arguments };
        server.start_on_free_port();
        let made = ask_in(server.port(), "postgres", &format!("CREATE DATABASE {ROLE}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server
    }

    #[track_caller]
    fn start_on_free_port(&mut self) {
        for _ in 0..PORTS {
            self.daemon.take_free_port(u16::MAX);
            if self.try_start() {
                return;
            }
        }
        panic!("postgres does not start:\n{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let folder = self.folder().display().to_string();
        let mut server = command("postgres");
        server.args(["-D", &format!("{folder}/data"), "-p", &self.port().to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=100"]
            .into_iter()
            .chain(self.arguments.iter().map(String::as_str))
        {
            server.args(["-c", setting]);
        }
        server.args(["-c", &format!("unix_socket_directories={folder}")]);
        server.current_dir("/");
        self.daemon.run(server, |daemon| ask_in(daemon.port, "postgres", "SELECT 1").status.success())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.daemon.port
    }

    /// `postgres://weir:…@127.0.0.1:PORT/weir`
    pub fn url(&self) -> String {
        format!("postgres://{ROLE}:p%40ss%20word%2F%25@127.0.0.1:{}/{ROLE}", self.port())
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.daemon.folder()
    }

    /// What it answers, a line for each row.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        let answer = ask_in(self.port(), ROLE, sql);
        assert!(answer.status.success(), "{sql}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    /// All its processes, the first one last: each connection has one.
    fn processes(&self) -> Vec<Pid> {
        let Some(first) = self.daemon.pid() else { return Vec::new() };
        let of = |entry: fs::DirEntry| -> Option<u32> {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            (parent == first).then_some(pid)
        };
        let children = fs::read_dir("/proc").expect("Linux has /proc").flatten().filter_map(of);
        children.chain([first]).filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
    }

    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(process, signal);
        }
    }

    /// Stops it in its tracks: it holds its connections, takes new ones, and answers nothing. The first process stops first, so that it begets no more.
    pub fn freeze(&self) {
        if let Some(first) = self.processes().pop() {
            kill_process(first, Signal::STOP).expect("the server is there");
        }
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once, with all its processes.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.daemon.kill();
        let port = self.port();
        eventually("nobody listens there", || TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    /// Starts it again, on the same port, with what is on its disk.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let begun = Instant::now();
        // Processes of the one before may still be about to end.
        while !self.try_start() {
            assert!(begun.elapsed() < WAIT, "it does not start again:\n{}", self.log());
        }
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}
