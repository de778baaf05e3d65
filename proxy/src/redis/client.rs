//! The client library behind a narrow door: no other file names the crate `redis`, so that its next major version is a change of this one.
//!
//! What goes in is a [`Command`], what comes out a [`Reply`] or our own [`RedisError`]. Traps of the library that are dealt with here: its defaults leave
//! Nagle's algorithm on and keep-alive off, a TLS connection panics unless a provider was installed, and a Cluster by default waits for seconds.
//!
//! A connection's driver is a task of the runtime on which it was dialled: the background's, because the connection outlives every request. What
//! requests ask goes over the lanes of their workers (`lane.rs`), which do without the library.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, ProtocolVersion, PushInfo, RedisConnectionInfo, TlsCertificates, Value,
};
use rustls::pki_types::ServerName;
use tokio::sync::Notify;

use super::error::RedisError;
use crate::config::model;
use crate::origin::tls;
use crate::server_url::HostPort;

/// Commands that may wait in a connection's queue to be written.
const QUEUE_MAX: usize = 1024;
/// A backstop only: everything has a budget of its own, far below this.
const RESPONSE_MAX: Duration = Duration::from_secs(1);
/// Nested arrays of a reply; none of our commands has more.
const DEPTH_MAX: u32 = 8;

/// A command and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command(redis::Cmd);

impl Command {
    /// A command of this name.
    pub(super) fn new(name: &str) -> Self {
        Self(redis::cmd(name))
    }

    /// With one more argument.
    #[must_use]
    pub(super) fn arg(mut self, argument: &[u8]) -> Self {
        self.0.arg(argument);
        self
    }

    /// As it goes over the wire.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.0.write_packed_command(out);
    }

    /// With a number.
    #[must_use]
    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.arg(number);
        self
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A whole number.
    Int(i64),
    /// Bytes, or a word of the server's own.
    Bytes(Bytes),
    /// A list; a map is a list of names and values in turn.
    List(Vec<Self>),
}

impl Reply {
    /// Bytes, or nothing there.
    pub fn bytes(self) -> Result<Option<Bytes>, RedisError> {
        match self {
            Self::Nil => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes)),
            Self::Int(_) | Self::List(_) => Err(RedisError::Unexpected),
        }
    }

    /// A list; nothing there is an empty one.
    pub fn list(self) -> Result<Vec<Self>, RedisError> {
        match self {
            Self::Nil => Ok(Vec::new()),
            Self::List(list) => Ok(list),
            Self::Int(_) | Self::Bytes(_) => Err(RedisError::Unexpected),
        }
    }

    /// A whole number, as one or as text.
    pub fn int(&self) -> Result<i64, RedisError> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Bytes(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(RedisError::Unexpected),
            Self::Nil | Self::List(_) => Err(RedisError::Unexpected),
        }
    }

    /// Text.
    pub fn text(&self) -> Result<&str, RedisError> {
        match self {
            Self::Bytes(text) => std::str::from_utf8(text).map_err(|_| RedisError::Unexpected),
            Self::Nil | Self::Int(_) | Self::List(_) => Err(RedisError::Unexpected),
        }
    }
}

/// A Lua script, sent whole only where it is not known yet.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    /// A script of ours: never of a text that came from outside.
    pub fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The command that runs it, by its hash or by its text.
    pub(super) fn command(&self, by_hash: bool, keys: &[&[u8]], arguments: &[&[u8]]) -> Command {
        let (name, script) = if by_hash { ("EVALSHA", self.hash.as_str()) } else { ("EVAL", self.text) };
        let command = Command::new(name).arg(script.as_bytes()).number(keys.len() as u64);
        keys.iter().chain(arguments).fold(command, |command, argument| command.arg(argument))
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Wire {
    /// To one server.
    Server(MultiplexedConnection),
    /// To the servers of a Cluster.
    Cluster(ClusterConnection),
}

impl Wire {
    /// Asks, and waits for the answer. Dropping the future abandons the answer, not the connection.
    ///
    /// The library's futures are large. Here and below they are boxed: what waits for one of ours would carry the room, and be copied with it.
    pub(super) async fn call(&self, command: &Command) -> Result<Reply, RedisError> {
        let value = match self {
            Self::Server(connection) => {
                let mut connection = connection.clone();
                Box::pin(async move { connection.send_packed_command(&command.0).await }).await
            }
            Self::Cluster(connection) => {
                let mut connection = connection.clone();
                Box::pin(async move { connection.req_packed_command(&command.0).await }).await
            }
        };
        value.map_err(failed).and_then(|value| reply(value, 0))
    }

    /// Asks several things of one server in one go.
    pub(super) async fn call_all(&self, commands: &[&Command]) -> Result<Vec<Reply>, RedisError> {
        let mut connection = match self {
            Self::Server(connection) => connection.clone(),
            Self::Cluster(_) => {
                let mut replies = Vec::with_capacity(commands.len());
                for command in commands {
                    replies.push(self.call(command).await?);
                }
                return Ok(replies);
            }
        };
        let mut pipeline = redis::Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.0.clone());
        }
        let asking = async move { connection.send_packed_commands(&pipeline, 0, commands.len()).await };
        let values = Box::pin(asking).await.map_err(failed)?;
        if values.len() != commands.len() {
            return Err(RedisError::Unexpected);
        }
        values.into_iter().map(|value| reply(value, 0)).collect()
    }

    /// Asks one server of a Cluster.
    pub(super) async fn call_at(&self, server: &HostPort, command: Command) -> Result<Reply, RedisError> {
        match self {
            Self::Server(_) => self.call(&command).await,
            Self::Cluster(connection) => {
                let at = SingleNodeRoutingInfo::ByAddress { host: server.host.clone(), port: server.port };
                let routing = RoutingInfo::SingleNode(at);
                let mut connection = connection.clone();
                let asking = async move { connection.route_command(command.0, routing).await };
                Box::pin(asking).await.map_err(failed).and_then(|value| reply(value, 0))
            }
        }
    }
}

fn reply(value: Value, depth: u32) -> Result<Reply, RedisError> {
    if depth > DEPTH_MAX {
        return Err(RedisError::Unexpected);
    }
    let list = |values: Vec<Value>| {
        values.into_iter().map(|value| reply(value, depth + 1)).collect::<Result<_, _>>().map(Reply::List)
    };
    match value {
        Value::Nil => Ok(Reply::Nil),
        Value::Int(number) => Ok(Reply::Int(number)),
        Value::BulkString(bytes) => Ok(Reply::Bytes(bytes.into())),
        Value::SimpleString(text) => Ok(Reply::Bytes(text.into())),
        Value::Okay => Ok(Reply::Bytes(Bytes::from_static(b"OK"))),
        Value::Array(values) | Value::Set(values) => list(values),
        Value::Map(pairs) => list(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
        Value::Boolean(truth) => Ok(Reply::Int(truth.into())),
        Value::ServerError(error) => Err(RedisError::said(error.code(), error.details().unwrap_or_default())),
        _ => Err(RedisError::Unexpected),
    }
}

/// The library's error in our words.
fn failed(error: redis::RedisError) -> RedisError {
    if let Some(code) = error.code() {
        return RedisError::said(code, error.detail().unwrap_or_default());
    }
    if error.is_timeout() {
        return RedisError::TimedOut { within: RESPONSE_MAX };
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            RedisError::Denied { detail: error.detail().unwrap_or("authentication failed").to_owned() }
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => RedisError::Unexpected,
        ErrorKind::ClusterConnectionNotFound => RedisError::NotReady { code: "CLUSTERDOWN".to_owned() },
        _ => RedisError::Lost { detail: error.to_string() },
    }
}

/// How to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    /// With the user and the password of the configuration.
    Given,
    /// With none: a Sentinel often has no password although its servers have one.
    None,
}

/// Certificates, read once per attempt so that renewed ones are taken.
fn certificates(spec: &model::Redis) -> Result<TlsCertificates, RedisError> {
    // Without a provider for the process the library panics. An error: there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| RedisError::Lost {
            detail: format!("cannot read `{}`: {error}", path.display()),
        })
    };
    let client_tls = match &spec.tls.client {
        Some(pair) => Some(ClientTlsConfig { client_cert: read(&pair.cert)?, client_key: read(&pair.key)? }),
        None => None,
    };
    let root_cert = spec.tls.ca.as_deref().map(read).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

/// TLS for a connection that the library has no part in: whom to trust, what to show, and the name that the server's certificate must carry.
pub(super) fn tls(
    spec: &model::Redis,
    host: &str,
) -> Result<(Arc<rustls::ClientConfig>, ServerName<'static>), RedisError> {
    let failed = |detail: String| RedisError::Lost { detail };
    let config = tls::towards_store(spec.tls.ca.as_deref(), spec.tls.client.as_ref())
        .map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    Ok((Arc::new(config), name))
}

fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(Duration::from_secs(5))
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address<'a> {
    Server(&'a HostPort),
    Unix(&'a std::path::Path),
}

fn connection_info(
    spec: &model::Redis,
    address: &Address<'_>,
    database: u32,
    credentials: Credentials,
) -> Result<ConnectionInfo, RedisError> {
    let address = match address {
        Address::Unix(path) => ConnectionAddr::Unix(path.to_path_buf()),
        Address::Server(server) if spec.url.tls => ConnectionAddr::TcpTls {
            host: server.host.clone(),
            port: server.port,
            insecure: false,
            tls_params: None,
        },
        Address::Server(server) => ConnectionAddr::Tcp(server.host.clone(), server.port),
    };
    let mut settings = RedisConnectionInfo::default()
        .set_db(database.into())
        .set_lib_name("weir", env!("CARGO_PKG_VERSION"));
    if credentials == Credentials::Given {
        if let Some(user) = &spec.url.username {
            settings = settings.set_username(user);
        }
        if let Some(password) = &spec.url.password {
            settings = settings.set_password(&password.0);
        }
    }
    let info = address.into_connection_info().map_err(failed)?;
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

fn client(spec: &model::Redis, info: ConnectionInfo) -> Result<Client, RedisError> {
    if spec.url.tls && !matches!(info.addr(), ConnectionAddr::Unix(_)) {
        Client::build_with_tls(info, certificates(spec)?).map_err(failed)
    } else {
        Client::open(info).map_err(failed)
    }
}

/// Dials one server. `blocking`: for commands that wait at the server, so that the wait is the caller's to bound.
pub(super) async fn dial(
    spec: &model::Redis,
    address: &Address<'_>,
    database: u32,
    credentials: Credentials,
    blocking: bool,
) -> Result<Wire, RedisError> {
    let client = client(spec, connection_info(spec, address, database, credentials)?)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(spec.connect_timeout))
        .set_response_timeout((!blocking).then_some(RESPONSE_MAX))
        .set_pipeline_buffer_size(QUEUE_MAX);
    let dialled = Box::pin(client.get_multiplexed_async_connection_with_config(&config));
    within(spec.connect_timeout, async { dialled.await.map_err(failed) }).await.map(Wire::Server)
}

/// Dials a Cluster by its nodes. Bounds are tight: who waits for a shard that is down waits in vain.
pub(super) async fn dial_cluster(
    spec: &model::Redis,
    nodes: &[HostPort],
    blocking: bool,
) -> Result<Wire, RedisError> {
    let infos = nodes
        .iter()
        .map(|node| connection_info(spec, &Address::Server(node), 0, Credentials::Given))
        .collect::<Result<Vec<_>, _>>()?;
    let mut builder = ClusterClient::builder(infos)
        .retries(2)
        .min_retry_wait(20)
        .max_retry_wait(100)
        .tcp_settings(tcp_settings())
        .connection_timeout(spec.connect_timeout.min(Duration::from_secs(1)));
    if !blocking {
        builder = builder.response_timeout(RESPONSE_MAX).overall_response_timeout(Some(RESPONSE_MAX));
    }
    if let Some(user) = &spec.url.username {
        builder = builder.username(user);
    }
    if let Some(password) = &spec.url.password {
        builder = builder.password(&password.0);
    }
    if spec.url.tls {
        builder = builder.certs(certificates(spec)?);
    }
    let client = builder.build().map_err(failed)?;
    let dialled = Box::pin(client.get_async_connection());
    within(spec.connect_timeout, async { dialled.await.map_err(failed) }).await.map(Wire::Cluster)
}

/// Subscribes to what a Sentinel says of a change of primaries: `changed` is told each time, and when the connection ends.
pub(super) async fn watch_sentinel(
    spec: &model::Redis,
    sentinel: &HostPort,
    credentials: Credentials,
    changed: Arc<Notify>,
) -> Result<Wire, RedisError> {
    let info = connection_info(spec, &Address::Server(sentinel), 0, credentials)?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = client(spec, info.set_redis_settings(settings))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(spec.connect_timeout))
        .set_response_timeout(Some(RESPONSE_MAX))
        .set_push_sender(move |_: PushInfo| -> Result<(), redis::aio::SendError> {
            changed.notify_one();
            Ok(())
        });
    let watching = Box::pin(async {
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        connection.subscribe("+switch-master").await.map_err(failed)?;
        Ok(Wire::Server(connection))
    });
    within(spec.connect_timeout, watching).await
}

/// A time limit around everything.
pub(super) async fn within<T>(
    limit: Duration,
    doing: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    tokio::time::timeout(limit, doing).await.unwrap_or(Err(RedisError::TimedOut { within: limit }))
}
