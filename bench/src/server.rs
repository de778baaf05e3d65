//! Starts and stops what is measured: each server with one worker, on the server core, access logs off.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde::Serialize;

use crate::configs;
use crate::counting::{self, Counting};
use crate::process::{SERVER_CORE, Tree};
use crate::redis::Redis;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A bare hyper server that answers from memory.
    Hyper,
    /// A bare hyper proxy that stores nothing.
    HyperProxy,
    Weir,
    Nginx,
    Haproxy,
    Varnish,
    Trafficserver,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Hyper,
        Self::HyperProxy,
        Self::Weir,
        Self::Nginx,
        Self::Haproxy,
        Self::Varnish,
        Self::Trafficserver,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hyper => "bare hyper",
            Self::HyperProxy => "bare hyper proxy",
            Self::Weir => "weir",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Varnish => "varnish",
            Self::Trafficserver => "trafficserver",
        }
    }

    /// A peer is another cache; the baselines are what a cache in Rust is built on.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Nginx | Self::Haproxy | Self::Varnish | Self::Trafficserver)
    }

    pub(crate) fn is_baseline(self) -> bool {
        matches!(self, Self::Hyper | Self::HyperProxy)
    }

    /// The program and how to ask it for its version, for those that are not built here.
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nginx => Some(("nginx", "-v")),
            Self::Haproxy => Some(("haproxy", "-v")),
            Self::Varnish => Some(("varnishd", "-V")),
            Self::Trafficserver => Some(("traffic_server", "-V")),
            Self::Hyper | Self::HyperProxy | Self::Weir => None,
        }
    }

    /// The first line in which an installed peer says its version; `None` where it is not installed.
    pub(crate) fn version(self) -> Option<String> {
        let Some((program, flag)) = self.program() else { return Some(String::new()) };
        let output = Command::new(which(program)?).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    }
}

/// What the caches may hold.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) mebibytes: u32,
    pub(crate) entries: u32,
}

/// What a server keeps its responses in behind memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Behind {
    Nothing,
    Redis,
    Disk,
    /// Nothing; but a plugin is asked about each request, and answers by a plan.
    PluginPlan,
    /// Likewise, by what it said before.
    PluginRemembered,
    /// Likewise, each time anew.
    PluginCalled,
}

impl Behind {
    /// Whether memory is all there is.
    pub(crate) fn is_nothing(self) -> bool {
        !matches!(self, Self::Redis | Self::Disk)
    }
}

/// What every server is told.
pub(crate) struct Setup<'a> {
    pub(crate) origin: SocketAddr,
    pub(crate) budget: Budget,
    pub(crate) behind: Behind,
    pub(crate) weir: &'a Path,
    /// Without it the kernel chooses the core.
    pub(crate) pin: bool,
    /// Its instructions are counted.
    pub(crate) counted: bool,
}

/// A running server. Dropping it stops it and removes what it left behind.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    /// Where Weir takes orders.
    pub(crate) admin: SocketAddr,
    pub(crate) tree: Tree,
    pub(crate) redis: Option<Redis>,
    /// What counts its instructions.
    pub(crate) counting: Option<Counting>,
    child: Child,
    directory: PathBuf,
}

impl Server {
    pub(crate) fn start(kind: Kind, setup: &Setup<'_>) -> io::Result<Self> {
        let directory = fresh_directory(kind, setup.behind)?;
        let (http1, http2, admin) = (free_address()?, free_address()?, free_address()?);
        let redis = match setup.behind {
            Behind::Redis => Some(Redis::start(free_address()?, &directory, setup.pin)?),
            _ => None,
        };
        let behind = redis.as_ref().map(|redis| redis.address);
        let place = configs::Place { directory: &directory, http1, http2, admin, redis: behind, setup };
        let own = std::env::current_exe()?;
        let (program, arguments, one_port) = match kind {
            Kind::Hyper => (own, vec!["hyper".into(), http1.to_string(), http2.to_string()], false),
            Kind::HyperProxy => {
                (own, vec!["hyper-proxy".into(), http1.to_string(), setup.origin.to_string()], true)
            }
            Kind::Weir => (setup.weir.to_owned(), configs::weir(&place)?, true),
            Kind::Nginx if redis.is_some() => (installed("nginx")?, configs::nginx_lua(&place)?, false),
            Kind::Nginx => (installed("nginx")?, configs::nginx(&place)?, false),
            Kind::Haproxy => (installed("haproxy")?, configs::haproxy(&place)?, false),
            Kind::Varnish => (installed("varnishd")?, configs::varnish(&place)?, true),
            Kind::Trafficserver => (installed("traffic_server")?, configs::trafficserver(&place)?, true),
        };
        let log = fs::File::create(directory.join("output"))?;
        let mut line: Vec<OsString> = Vec::new();
        if setup.pin {
            line.extend(["taskset", "-c", &SERVER_CORE.to_string()].map(OsString::from));
        }
        if setup.counted {
            line.extend(counting::prefix(&directory).into_iter().map(OsString::from));
        }
        line.push(program.into());
        line.extend(arguments.into_iter().map(OsString::from));
        let child = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(&directory)
            .spawn()?;
        let tree = Tree::of(child.id());
        let http2 = if one_port { http1 } else { http2 };
        let counting = setup.counted.then(|| Counting::new(child.id(), &directory));
        let mut server = Self { kind, http1, http2, admin, tree, redis, counting, child, directory };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// Some listen first and fork afterwards.
    pub(crate) fn look_for_children(&mut self) {
        self.tree = Tree::of(self.child.id());
    }

    fn wait_until_it_listens(&mut self) -> io::Result<()> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            if [self.http1, self.http2].iter().all(|address| TcpStream::connect(address).is_ok()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.failure("does not listen after 30 s"))
    }

    fn failure(&self, what: &str) -> io::Error {
        let output = fs::read_to_string(self.directory.join("output")).unwrap_or_default();
        let tail: Vec<&str> = output.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        io::Error::other(format!("{} {what}:\n{}", self.kind.name(), tail.join("\n")))
    }

    /// Memory in bytes, with the files of a cache that keeps its responses in files.
    pub(crate) fn memory(&self) -> u64 {
        let files = if self.kind == Kind::Nginx { allocated_below(&self.directory.join("cache")) } else { 0 };
        self.tree.memory() + files
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The Weir that belongs to this bench: built with the same profile, beside this program.
pub(crate) fn build_weir() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.parent().ok_or_else(|| io::Error::other("this program lies in no directory"))?;
    let profile = match beside.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        Command::new(cargo).args(["build", "-p", "weir", "--bin", "weir", "--profile", profile]).status()?;
    if status.success() {
        Ok(beside.join("weir"))
    } else {
        Err(io::Error::other(format!("cargo build ended with {status}")))
    }
}

/// Where nginx finds what it needs to speak with Redis: its Lua module, and a client in Lua.
pub(crate) fn nginx_lua() -> Option<(PathBuf, &'static str)> {
    let modules = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules"];
    let modules = modules
        .map(PathBuf::from)
        .into_iter()
        .find(|folder| folder.join("ngx_http_lua_module.so").is_file())?;
    // Debian names the same client differently.
    let clients = [
        ("/usr/share/lua/5.1/nginx/redis.lua", "nginx.redis"),
        ("/usr/share/lua/5.1/resty/redis.lua", "resty.redis"),
    ];
    let (_, client) = clients.into_iter().find(|(file, _)| Path::new(file).is_file())?;
    Some((modules, client))
}

/// Whether this process may choose who its children are; some servers must then be told to stay who they are.
pub(crate) fn is_root() -> bool {
    getuid().is_root()
}

/// A peer may lie in a directory that only root has in its search path.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

pub(crate) fn installed(program: &str) -> io::Result<PathBuf> {
    which(program).ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("`{program}` is not installed")))
}

/// In memory where the machine has such a file system, so that a cache in files is not measured by its disk.
fn fresh_directory(kind: Kind, behind: Behind) -> io::Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let (own, kind) = (std::process::id(), kind.name().replace(' ', "-"));
    let directory = parent.join(format!("weir-bench-{own}-{kind}-{behind:?}"));
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(&directory)?,
    }
    Ok(directory)
}

/// An address that was free a moment ago; servers are told their port before they start.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn allocated_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => allocated_below(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
