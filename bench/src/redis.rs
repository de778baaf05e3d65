//! The Redis behind a server: one of its own for each, on the server's core, so that no wake-up crosses cores and CPU time is comparable.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{SERVER_CORE, Tree};

/// A running redis-server. Dropping it ends it; it keeps nothing.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    pub(crate) tree: Tree,
    child: Child,
}

impl Redis {
    pub(crate) fn start(address: SocketAddr, directory: &Path, pin: bool) -> io::Result<Self> {
        let log = fs::File::create(directory.join("redis-output"))?;
        let mut command = if pin {
            let mut command = Command::new("taskset");
            command.args(["-c", &SERVER_CORE.to_string(), "redis-server"]);
            command
        } else {
            Command::new("redis-server")
        };
        let port = address.port().to_string();
        let child = command
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .args(["--slowlog-log-slower-than", "1000", "--slowlog-max-len", "1000"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(directory)
            .spawn()?;
        let tree = Tree::of(child.id());
        let redis = Self { address, tree, child };
        let started = Instant::now();
        while redis.ask("PING").is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("redis-server does not answer after 10 s"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    /// Sends one line and gives back what is answered, as text.
    pub(crate) fn ask(&self, line: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let first = first.trim_end();
        match (first.get(..1), first.get(1..).and_then(|rest| rest.parse::<usize>().ok())) {
            (Some("$"), Some(length)) => {
                let mut text = vec![0; length];
                reader.read_exact(&mut text)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            (Some("-"), _) => Err(io::Error::other(first.to_owned())),
            _ => Ok(first.get(1..).unwrap_or_default().to_owned()),
        }
    }

    /// How often a command was called.
    pub(crate) fn calls(&self, command: &str) -> io::Result<u64> {
        let info = self.ask("INFO commandstats")?;
        let label = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&label));
        Ok(line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0))
    }

    pub(crate) fn number(&self, line: &str) -> io::Result<u64> {
        self.ask(line)?.parse().map_err(|_| io::Error::other(format!("`{line}` gave no number")))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
