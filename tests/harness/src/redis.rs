//! Real Redis servers on ports that the system picks, each in a folder of its own: alone, with Sentinels, as a Cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, PORTS};
use crate::eventually;
use crate::wire::WAIT;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// Bytes, or a word.
    Bytes(Vec<u8>),
    /// An error line.
    Error(String),
    /// A list.
    List(Vec<Value>),
}

impl Value {
    /// As text, whatever it is.
    pub fn text(&self) -> String {
        match self {
            Value::Nil => String::new(),
            Value::Int(number) => number.to_string(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Error(line) => line.clone(),
            Value::List(list) => list.iter().map(Value::text).collect::<Vec<_>>().join(" "),
        }
    }

    /// The members of a list.
    pub fn list(self) -> Vec<Value> {
        match self {
            Value::List(list) => list,
            _ => Vec::new(),
        }
    }
}

/// A connection that speaks RESP, for tests to look at a server and to change it.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// To a port of this machine.
    pub fn to(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_nodelay(true)?;
        Ok(Client { reader: BufReader::new(stream) })
    }

    /// Asks.
    pub fn ask(&mut self, parts: &[&[u8]]) -> std::io::Result<Value> {
        let mut message = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            message.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            message.extend_from_slice(part);
            message.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&message)?;
        self.value()
    }

    fn value(&mut self) -> std::io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at(line.len().min(1));
        let number = || rest.parse::<i64>().map_err(std::io::Error::other);
        Ok(match kind {
            "+" => Value::Bytes(rest.as_bytes().to_vec()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Value::Bytes(bytes)
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => Value::List((0..length).map(|_| self.value()).collect::<Result<_, _>>()?),
            },
            _ => return Err(std::io::Error::other(format!("not RESP: {line}"))),
        })
    }
}

/// A running server (or Sentinel). Dropping it ends it.
pub struct RedisServer {
    daemon: Daemon,
    arguments: Vec<String>,
    password: Option<String>,
}

impl RedisServer {
    /// A server with the settings it comes with, but no persistence.
    #[track_caller]
    pub fn start() -> RedisServer {
        RedisServer::with(&[])
    }

    /// A server with these further arguments, as `["--maxmemory", "2mb"]`; `{DIR}` stands for its folder.
    #[track_caller]
    pub fn with(arguments: &[&str]) -> RedisServer {
        RedisServer::with_files(arguments, |_| {})
    }

    /// Likewise, after `prepare` has put files into its folder.
    #[track_caller]
    pub fn with_files(arguments: &[&str], prepare: impl FnOnce(&Path)) -> RedisServer {
        let daemon = Daemon::new();
        prepare(daemon.folder());
        let directory = daemon.folder().display().to_string();
        let arguments = arguments.iter().map(|text| text.replace("{DIR}", &directory)).collect();
        RedisServer { daemon, arguments, password: None }.started()
    }

    /// Three Sentinels that watch `primary` as `mymaster` and take it for down after `down_after` milliseconds.
    #[track_caller]
    pub fn sentinels(primary: &RedisServer, down_after: u32) -> Vec<RedisServer> {
        let one = |_| {
            let daemon = Daemon::new();
            let text = format!(
                "sentinel monitor mymaster 127.0.0.1 {} 2\nsentinel down-after-milliseconds mymaster {down_after}\n\
                 sentinel failover-timeout mymaster 3000\nsentinel parallel-syncs mymaster 1\n",
                primary.port()
            );
            let file = daemon.folder().join("sentinel.conf");
            std::fs::write(&file, text).expect("the folder can be written to");
            let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
            RedisServer { daemon, arguments, password: None }.started()
        };
        let sentinels: Vec<RedisServer> = (0..3).map(one).collect();
        eventually("the Sentinels know each other and the replica", || {
            sentinels.iter().all(|sentinel| {
                let told = sentinel.ask(&["SENTINEL", "MASTER", "mymaster"]).list();
                let text = |name: &str| {
                    let at = told.iter().position(|value| value.text() == name)?;
                    told.get(at + 1).map(Value::text)
                };
                text("num-other-sentinels").as_deref() == Some("2")
                    && text("num-slaves").as_deref() == Some("1")
            })
        });
        sentinels
    }

    /// A Cluster of three primaries without replicas.
    #[track_caller]
    pub fn cluster() -> Vec<RedisServer> {
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        ];
        let nodes: Vec<RedisServer> = (0..3).map(|_| RedisServer::with(&arguments)).collect();
        for (number, node) in nodes.iter().enumerate() {
            let (first, last) = [(0, 5460), (5461, 10_922), (10_923, 16_383)][number];
            let said = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            assert_eq!(said.text(), "OK");
            let bus = |node: &RedisServer| (node.port() + 10_000).to_string();
            for other in &nodes {
                let said =
                    node.ask(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus(other)]);
                assert_eq!(said.text(), "OK");
            }
        }
        eventually("the Cluster agrees", || {
            nodes.iter().all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]).text();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        nodes
    }

    #[track_caller]
    fn started(mut self) -> RedisServer {
        for _ in 0..PORTS {
            // The bus of a Cluster listens 10,000 above.
            self.daemon.take_free_port(50_000);
            if self.try_start() {
                return self;
            }
        }
        panic!("redis-server does not start:\n{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        // A configuration file comes first.
        let (file, rest) = match self.arguments.split_first() {
            Some((first, rest)) if first.starts_with('/') => (Some(first), rest),
            _ => (None, self.arguments.as_slice()),
        };
        let port = self.port().to_string();
        command.args(file);
        if !rest.iter().any(|argument| argument == "--port") {
            command.args(["--port", &port]);
        }
        command.args(["--bind", "127.0.0.1", "--dir"]).arg(self.folder());
        if file.is_none() {
            command.args(["--save", "", "--appendonly", "no", "--enable-debug-command", "local"]);
        }
        command.args(rest.iter().map(|argument| argument.replace("{PORT}", &port)));
        // Where it speaks TLS only, its own log has to do.
        let is_tls = rest.iter().any(|argument| argument == "--tls-port");
        self.daemon.run(command, |daemon| {
            match Client::to(daemon.port).and_then(|mut client| client.ask(&[b"PING"])) {
                Ok(value) => matches!(value, Value::Bytes(_) | Value::Error(_)),
                Err(_) => is_tls && daemon.log().contains("Ready to accept connections"),
            }
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.daemon.port
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.daemon.folder()
    }

    /// Tells the harness the password, for [`RedisServer::ask`].
    pub fn knows_password(&mut self, password: &str) {
        self.password = Some(password.to_owned());
    }

    /// A connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        let mut client = Client::to(self.port()).expect("the server takes connections");
        if let Some(password) = &self.password {
            let said = client.ask(&[b"AUTH", password.as_bytes()]).expect("the server answers");
            assert_eq!(said.text(), "OK");
        }
        client
    }

    /// Asks, on a connection of its own.
    #[track_caller]
    pub fn ask(&self, parts: &[&str]) -> Value {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.client().ask(&parts).expect("the server answers")
    }

    /// What it answers, as text; nothing if it does not: a server that changes its role closes connections.
    pub fn says(&self, parts: &[&str]) -> String {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let asked = Client::to(self.port()).and_then(|mut client| client.ask(&parts));
        asked.map(|value| value.text()).unwrap_or_default()
    }

    /// All keys there are, in order.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]).list().iter().map(Value::text).collect();
        keys.sort();
        keys
    }

    fn signal(&self, signal: Signal) {
        let pid = self.daemon.pid().expect("the server runs");
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("a process id is not 0");
        kill_process(pid, signal).expect("the server is there");
    }

    /// Stops it in its tracks: it holds its connections and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again, on the same port, with nothing but what is on its disk.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.try_start(), "the port is free again:\n{}", self.log());
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
