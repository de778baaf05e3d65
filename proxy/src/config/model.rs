//! The checked configuration: every name resolved, every value in its unit, nothing optional that has a default.
//!
//! `schema.rs` is the shape of the TOML; this is what the rest of the proxy reads. It is immutable and holds no run-time state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use cache_semantics::policy::Override;
use cache_semantics::policy::Policy;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use crate::purge::{Known, Labels};
use crate::redis::advice::Holds;
use crate::redis::url::RedisUrl;
use crate::routes::Matcher;
use crate::routes::path::PathPattern;
use crate::routes::template::Template;
use crate::store::wire::Compression;
use cache_semantics::glob::Globs;

/// The whole configuration of one proxy.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners, limits and draining.
    pub server: Server,
    /// The admin listener; `None` switches it off.
    pub admin: Option<Admin>,
    /// Where log lines go and in which form.
    pub log: Log,
    /// Named Redis servers.
    pub redis: BTreeMap<Arc<str>, Arc<Redis>>,
    /// Named caches; always holds `default`.
    pub caches: BTreeMap<Arc<str>, Cache>,
    /// Named origins.
    pub origins: BTreeMap<Arc<str>, Origin>,
    /// Routes in the order of the file; the first that matches wins.
    pub routes: Vec<Arc<Route>>,
    /// What writes make stale.
    pub models: Vec<Model>,
    /// The embedded store; `None`: nothing outlives the process.
    pub data: Option<Data>,
    /// Named limits.
    pub limits: BTreeMap<Arc<str>, Arc<crate::limit::spec::Limit>>,
    /// Sessions, where they are kept.
    pub session: Option<Arc<crate::session::spec::Session>>,
    /// What is changed about the cookies of origins.
    pub cookies: Arc<cookie_jar::Policy>,
    /// Which of them are kept here.
    pub vault: Option<Arc<crate::session::spec::Vault>>,
    /// Policy plugins.
    pub plugins: BTreeMap<Arc<str>, Arc<Plugin>>,
    /// Requests that are recorded, where they are.
    pub record: Option<Arc<Record>>,
}

/// `[record]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// The most that it and the one before it may take.
    pub size: u64,
    /// What is written as it is, in the words of grants.
    pub plain: Vec<String>,
}

/// `[plugin.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: Arc<str>,
    /// Where its table stands.
    pub place: Place,
    /// The component.
    pub path: PathBuf,
    /// Its own configuration, as JSON.
    pub config: String,
    /// What it may read and do.
    pub grants: Vec<String>,
    /// The time of one call of a hook.
    pub time: Duration,
    /// The time of its first call.
    pub configure_time: Duration,
    /// The memory of one instance.
    pub memory: usize,
    /// The most that it keeps between calls.
    pub state: usize,
    /// Decisions that are remembered.
    pub memo_entries: usize,
    /// Their bytes.
    pub memo_bytes: usize,
    /// What is done when a hook fails.
    pub on_failure: OnPluginFailure,
    /// Tests that it has to pass before it is used.
    pub tests: Option<PathBuf>,
}

/// What is done when a hook of a plugin fails; the default is the safe way of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnPluginFailure {
    /// The request hook.
    pub request: OnRequestFailure,
    /// The response hook: RFC 9111 alone decides, in place of `no-store`.
    pub response_as_default: bool,
    /// The invalidate hook: only the URI is purged, and not the whole route.
    pub invalidate_uri_only: bool,
    /// The rate hook.
    pub rate: OnRateFailure,
}

/// When the request hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRequestFailure {
    /// Nothing is looked up or stored.
    #[default]
    Bypass,
    /// As if there were no plugin: only for an origin that makes no difference between people.
    DefaultKey,
    /// 503.
    Deny,
}

/// When the rate hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRateFailure {
    /// The client's address pays.
    #[default]
    ClientIp,
    /// Nobody pays.
    Allow,
    /// The request is refused.
    Deny,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The folder.
    pub path: PathBuf,
    /// Bytes of bodies on disk; 0: none, only the purge journal.
    pub cache_size: u64,
}

/// `[model.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// Which requests write it.
    pub written_by: Vec<WriteRule>,
    /// What they make stale: tags, with names from the path and with `*`.
    pub purge: Vec<Template>,
}

/// Requests that write a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteRule {
    /// The methods; empty: every unsafe one.
    pub methods: Vec<Method>,
    /// The path.
    pub path: PathPattern,
}

/// A place in a configuration file, for messages and for `weir explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named on the command line; `<command line>` for `--to`.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Whose `Forwarded`, `X-Forwarded-*` and PROXY header is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a stopping server waits for requests under way.
    pub drain: Duration,
    /// Worker threads; one per core unless said otherwise.
    pub workers: usize,
    /// The bounds of everything a peer can make us hold or wait for.
    pub limits: Limits,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address or path.
    pub address: ListenAddress,
    /// Certificates, chosen by SNI; the first is the default. Empty: cleartext.
    pub tls: Vec<Certificate>,
    /// Whether every connection begins with a PROXY protocol header (v1 or v2). Only peers in `trusted_proxies` may connect then.
    pub proxy_protocol: bool,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A certificate chain and its key, both PEM files; re-read on reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// `[server.limits]`: one table, safe defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Request line, in bytes; longer: 414. Default 8 KiB.
    pub line_bytes: usize,
    /// Request or response head, in bytes, decoded for HTTP/2; longer: 431 or 502. Default 32 KiB.
    pub head_bytes: usize,
    /// Field lines in a head or trailer section. Default 100.
    pub head_fields: usize,
    /// Open client connections in all. Default 10,000.
    pub connections: usize,
    /// Open client connections of one address (IPv6: of one /64); trusted proxies are exempt. Default 1,000.
    pub connections_per_address: usize,
    /// Concurrent HTTP/2 streams of one connection. Default 100.
    pub streams: u32,
    /// HTTP/2 resets (either direction) of one connection within ten seconds; more: GOAWAY. Default 200.
    pub resets: usize,
    /// The whole request head must have come by then. Default 10 s.
    pub head_timeout: Duration,
    /// A request body, or a client that should be reading, may pause this long. Default 10 s.
    pub idle_timeout: Duration,
    /// After [`Self::rate_after`] a body must move at least this many bytes a second. Default 100; 0: no such limit.
    pub rate_bytes_min: u64,
    /// How long a body may move as it likes before its rate counts. Default 30 s.
    pub rate_after: Duration,
    /// An idle connection is kept this long. Default 60 s.
    pub keep_alive: Duration,
    /// A request body; larger: 413. Routes may say otherwise. Default 100 MiB.
    pub body_bytes: u64,
    /// Interim responses (1xx) of one origin answer. Default 16.
    pub interim_responses: usize,
    /// Waiters on one fill; more go on alone. Default 10,000.
    pub waiters: usize,
    /// Variants of one URL. Default 64.
    pub variants: usize,
    /// Handshake of TLS or PROXY header. Default 10 s.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 8 << 10,
            head_bytes: 32 << 10,
            head_fields: 100,
            connections: 10_000,
            connections_per_address: 1_000,
            streams: 100,
            resets: 200,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            rate_bytes_min: 100,
            rate_after: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            body_bytes: 100 << 20,
            interim_responses: 16,
            waiters: 10_000,
            variants: 64,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; loopback unless said otherwise.
    pub listen: SocketAddr,
    /// The bearer token; without one, only loopback peers are answered.
    pub token: Option<Secret>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("(secret)")
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least severe event to write. Default `info`.
    pub level: LogLevel,
    /// The form of events other than requests.
    pub format: LogFormat,
    /// A line per request, or none. Default console.
    pub access: Option<LogFormat>,
}

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Served, but degraded.
    Warn,
    /// Life cycle.
    Info,
    /// Per request.
    Debug,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Console,
    /// A JSON object a line.
    Json,
}

/// `[cache.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its name.
    pub name: Arc<str>,
    /// False for `kind = "none"`: looks up nothing, stores nothing.
    pub enabled: bool,
    /// Bytes of memory: keys, heads, bodies and overhead. Default 256 MiB.
    pub max_memory: u64,
    /// Stored responses. Default 100,000.
    pub max_entries: u64,
    /// The largest body held; larger ones are streamed and not held. Default 8 MiB, at most an eighth of `max_memory`.
    pub max_body: u64,
    /// Part of every key; a new one makes every old entry a miss.
    pub version: u64,
    /// What is stored belongs to it; what belongs to another is stale.
    pub epoch: Option<Arc<str>>,
    /// So long what belongs to an earlier epoch is served stale while it is refreshed. Default 0.
    pub epoch_grace: Duration,
    /// Its tier in Redis.
    pub shared: Option<SharedTier>,
    /// What applies where a route does not say otherwise.
    pub defaults: CacheRules,
}

/// A cache's tier in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedTier {
    /// The name of the Redis.
    pub redis: Arc<str>,
    /// What every key begins with: prefix and version, and on a Cluster the database.
    pub prefix: Arc<str>,
    /// What the names of the log of purges begin with: the prefix without the version, because purges are of all of them.
    pub log: Arc<str>,
    /// Whether a request that finds nothing fails where Redis cannot be asked.
    pub required: bool,
    /// The largest body that is put there. Default 1 MiB.
    pub max_body: u64,
    /// The longest that anything stays there. Default 7 days.
    pub max_ttl: Duration,
    /// How bodies are compressed.
    pub compression: Compression,
}

impl Cache {
    /// What purges know a response by that lies in this cache.
    pub fn known<'k>(&'k self, key: &'k [u8], labels: &'k Labels) -> Known<'k> {
        Known { key, cache: &self.name, version: self.version, labels }
    }

    /// A cache of which nothing is said but its name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            enabled: true,
            max_memory: 256 << 20,
            max_entries: 100_000,
            max_body: 8 << 20,
            version: 1,
            epoch: None,
            epoch_grace: Duration::ZERO,
            shared: None,
            defaults: CacheRules::default(),
        }
    }
}

/// `[redis.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is, and as whom.
    pub url: RedisUrl,
    /// Certificates.
    pub tls: RedisTls,
    /// Name look-up, TCP, TLS and authentication together. Default 5 s.
    pub connect_timeout: Duration,
    /// What a request may wait for a stored response. Default 25 ms.
    pub read_budget: Duration,
    /// What a write behind an answer may take. Default 250 ms.
    pub write_budget: Duration,
    /// Connections to each server; Weir needs three. Default 50.
    pub max_connections: u32,
    /// How often a server is asked how it is. Default 5 s.
    pub health_interval: Duration,
    /// What it holds beside stored responses.
    pub holds: Holds,
}

impl Redis {
    /// One of which nothing is said but where it is.
    pub fn new(name: &str, url: RedisUrl) -> Self {
        Self {
            name: name.into(),
            url,
            tls: RedisTls::default(),
            connect_timeout: Duration::from_secs(5),
            read_budget: Duration::from_millis(25),
            write_budget: Duration::from_millis(250),
            max_connections: 50,
            health_interval: Duration::from_secs(5),
            holds: Holds::default(),
        }
    }

    /// The database to select. A Cluster has one only.
    pub const fn database(&self) -> u32 {
        if self.url.is_cluster() { 0 } else { self.url.database }
    }
}

/// `[redis.NAME] tls = { … }`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// The certificates to trust in place of the system's, a PEM file.
    pub ca: Option<PathBuf>,
    /// Our own certificate.
    pub client: Option<Certificate>,
}

/// What `[cache.NAME]` gives as default and a route's `cache = { … }` may say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheRules {
    /// Lifetime where the origin gives no explicit freshness and the request had no undeclared cookie; replaces the heuristic.
    pub ttl: Option<Duration>,
    /// How long errors without explicit freshness are kept at most. `None`: 10 s.
    pub error_ttl_max: Option<Duration>,
    /// Stale while revalidating, where the origin does not say (RFC 5861).
    pub stale_while_revalidate: Option<Duration>,
    /// Stale when the origin fails, where the origin does not say (RFC 5861).
    pub stale_if_error: Option<Duration>,
    /// Keep answers with `Set-Cookie`: only where it is the same for everybody.
    pub store_set_cookie: bool,
    /// What of the origin's answer is overridden, in those very words.
    pub overrides: Vec<Override>,
    /// Compress stored text once and serve each encoding. Default: true.
    pub compress: Option<bool>,
    /// Ask the origin before what is held is served of which nobody can tell whether it was purged. Default: false.
    pub strict: Option<bool>,
}

impl CacheRules {
    /// The rules as the pure part of the cache reads them.
    pub fn policy(&self) -> Policy {
        let default = Policy::default();
        Policy {
            ttl: self.ttl,
            error_ttl_max: self.error_ttl_max.unwrap_or(default.error_ttl_max),
            store_set_cookie: self.store_set_cookie,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            overrides: self.overrides.iter().copied().collect(),
            ..default
        }
    }
}

/// `[origin.NAME]`: a pool of servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Its name.
    pub name: Arc<str>,
    /// The servers, each `http://`, `https://` or `unix:`.
    pub servers: Vec<OriginServer>,
    /// The name servers that know where they are; none: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// How one is chosen.
    pub balance: Balance,
    /// Active checks.
    pub health: Option<HealthCheck>,
    /// Passive checks: failures in a row before a server rests. Default 5, 0 switches it off.
    pub max_failures: u32,
    /// How long a failed server rests before one request tries it. Default 10 s.
    pub rest: Duration,
    /// A server that came back gets its full share after this long. Default 10 s.
    pub slow_start: Duration,
    /// Time limits of each phase.
    pub timeouts: OriginTimeouts,
    /// When to try again.
    pub retry: Retry,
    /// The protocol spoken.
    pub protocol: OriginProtocol,
    /// Connections to each server from all workers. Default 1,024.
    pub max_connections: usize,
    /// Requests that wait for a connection; more: 503. Default 1,024.
    pub max_queue: usize,
    /// Send a PROXY protocol header of this version first (one client per connection then).
    pub proxy_protocol: Option<u8>,
    /// The certificates to trust besides the system's, a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// Client certificate.
    pub tls_client: Option<Certificate>,
    /// The name to verify and send as SNI, if not the server's host.
    pub tls_name: Option<String>,
    /// Send the server's own authority as `Host`, rather than the client's. Default false.
    pub own_host: bool,
    /// What vouches for what it is told of sessions.
    pub session_mac: Option<Secret>,
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginServer {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Where it is.
    pub address: OriginAddress,
    /// Relative share of requests. Default 1.
    pub weight: u32,
}

/// Where an origin server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OriginAddress {
    /// A name or address with its port; names are re-resolved by their TTL.
    Host(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way, by weight.
    LeastRequests,
    /// By a hash of the URL (rendezvous), so that a server sees the same URLs.
    Hash,
}

/// Active health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path asked with GET; 2xx and 3xx are healthy.
    pub path: String,
    /// Interval. Default 10 s.
    pub every: Duration,
    /// Limit of one check. Default 2 s.
    pub timeout: Duration,
    /// Checks in a row that make a server unhealthy. Default 2.
    pub unhealthy_after: u32,
    /// Checks in a row that make it healthy again. Default 2.
    pub healthy_after: u32,
}

/// Time limits of an origin request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginTimeouts {
    /// Name lookup, TCP and TLS together. Default 2 s.
    pub connect: Duration,
    /// From the request sent to the head of the answer. Default 30 s.
    pub first_byte: Duration,
    /// Between two pieces of a body, either way. Default 60 s.
    pub idle: Duration,
    /// How long an idle connection is kept. Default 60 s.
    pub keep_alive: Duration,
    /// How long an upgraded connection or tunnel may be silent. Default 1 h.
    pub tunnel: Duration,
}

/// When a request is tried again: safe or idempotent without a body, before the first byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Further attempts. Default 1.
    pub attempts: u32,
    /// Retries as a share of requests, 0.0 to 1.0. Default 0.1.
    pub budget: f64,
}

/// The protocol spoken with an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OriginProtocol {
    /// HTTP/2 where ALPN says so, HTTP/1.1 otherwise; in cleartext HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, in cleartext by prior knowledge.
    Http2,
}

/// One `[[route]]`.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name; `route N` where it has none.
    pub name: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// Which requests it takes.
    pub matcher: Matcher,
    /// What happens to them.
    pub action: Action,
    /// How the path changes on its way to the origin.
    pub rewrite: Rewrite,
    /// Changes of the request's fields on the way to the origin.
    pub request_headers: HeaderEdits,
    /// Changes of the answer's fields on the way to the client.
    pub response_headers: HeaderEdits,
    /// `None` for `cache = "off"`.
    pub cache: Option<RouteCache>,
    /// What is said when the origin is down and nothing stored may be used.
    pub fallback: Option<FixedAnswer>,
    /// Whether `Upgrade: websocket` (or RFC 8441) is passed on. Default false.
    pub websocket: bool,
    /// Largest request body; `None`: the limit of the server.
    pub body_bytes: Option<u64>,
    /// How much content of a request is read before anything is decided by it.
    pub buffer_body: usize,
    /// Which limits it is under, in order.
    pub limits: Vec<crate::limit::spec::RouteLimit>,
    /// Plugins, in their order.
    pub plugins: Vec<Arc<str>>,
    /// What it does with sessions.
    pub session: crate::session::spec::Use,
}

impl Route {
    /// A route of which nothing is said but this.
    pub fn new(name: &str, matcher: Matcher, action: Action) -> Self {
        Self {
            name: name.into(),
            place: Place { file: "<built in>".into(), line: 1 },
            matcher,
            action,
            rewrite: Rewrite::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            cache: None,
            fallback: None,
            websocket: false,
            body_bytes: None,
            buffer_body: 64 << 10,
            limits: Vec::new(),
            plugins: Vec::new(),
            session: crate::session::spec::Use::Off,
        }
    }
}

/// What a route does with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Forwards it to the named origin.
    Forward(Arc<str>),
    /// Redirects to `https` with 308, keeping host, path and query.
    RedirectToHttps,
    /// Redirects.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// Target: a template with the names that the path template binds, and `path`, `query` (with its `?`, or nothing), `host`.
        location: Template,
    },
    /// Answers by itself.
    Respond(FixedAnswer),
}

/// An answer from the configuration.
#[derive(Debug, Clone)]
pub struct FixedAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, `Content-Type` among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its content.
    pub body: bytes::Bytes,
}

/// How a path changes on its way to the origin. The key is made of what is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Removed from the front, at a segment's end.
    pub strip_prefix: Option<String>,
    /// Put in front, after stripping.
    pub add_prefix: Option<String>,
    /// Replaces the whole path: a template with the names that the route's path template binds.
    pub path: Option<Template>,
}

/// Fields to set and remove. Removing comes first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Replaces all lines of the name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Removes all lines of the name.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether they leave fields as they are.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// A route's use of a cache.
#[derive(Debug, Clone)]
pub struct RouteCache {
    /// The name of the cache.
    pub store: Arc<str>,
    /// The route's rules over the cache's defaults: ready to use.
    pub rules: CacheRules,
    /// Query parameters left out of the key and of what is forwarded; globs.
    pub ignore_query: Globs,
    /// Sort query parameters by name, in the key and in what is forwarded.
    pub sort_query: bool,
    /// Cookies in the key; a fill forwards these and no others. Empty: none declared.
    pub cookies: Vec<String>,
    /// Attributes of the client's session in the key; a fill tells the origin of these and of no others. Sorted, each once.
    pub session: Vec<Box<str>>,
    /// Surrogate tags, templates with the names that the path template binds.
    pub tags: Vec<Template>,
    /// Methods that may be answered from the cache: GET and HEAD; QUERY and POST by their content.
    pub methods: Vec<Method>,
}
