//! Every metric, declared once, and its OpenMetrics text.
//!
//! Each worker counts for itself into plain atomics that only its own thread writes: an increment is a load and a store, no locked
//! instruction, no line shared with another core. A scrape sums over the workers. Labels are closed enums or names out of the
//! configuration: never a URL, never a key.

mod count;
mod page;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

pub use self::count::{Counter, Histogram};
use self::page::{Page, label_text};

macro_rules! labels {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label's value.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// The method of a request, as far as metrics tell methods apart.
    MethodClass {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// PATCH
        Patch = "PATCH",
        /// DELETE
        Delete = "DELETE",
        /// OPTIONS
        Options = "OPTIONS",
        /// CONNECT
        Connect = "CONNECT",
        /// Any other: a client could name a million.
        Other = "_OTHER",
    }
}

impl From<&Method> for MethodClass {
    fn from(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            Method::OPTIONS => Self::Options,
            Method::CONNECT => Self::Connect,
            _ => Self::Other,
        }
    }
}

labels! {
    /// The class of a status.
    StatusClass {
        /// 1xx
        Informational = "1xx",
        /// 2xx
        Successful = "2xx",
        /// 3xx
        Redirection = "3xx",
        /// 4xx
        ClientError = "4xx",
        /// 5xx
        ServerError = "5xx",
    }
}

impl From<StatusCode> for StatusClass {
    fn from(status: StatusCode) -> Self {
        match status.as_u16() {
            100..200 => Self::Informational,
            200..300 => Self::Successful,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

labels! {
    /// What the cache did for a request: `hit`, or why it was forwarded, in the words of RFC 9211 §2.2, and what lies beside them.
    Disposition {
        /// A fresh stored response was the answer.
        Hit = "hit",
        /// A stale stored response was the answer (stale-while-revalidate, stale-if-error).
        HitStale = "hit-stale",
        /// The answer came out of another request's fill.
        Collapsed = "collapsed",
        /// A stale stored response was found to be good still.
        Validated = "validated",
        /// The cache was not consulted.
        Bypass = "bypass",
        /// The method is not one that a cache answers.
        Method = "method",
        /// Nothing was stored for the URI.
        UriMiss = "uri-miss",
        /// Something was stored for the URI, but no variant that fits.
        VaryMiss = "vary-miss",
        /// Nothing fits, for another reason.
        Miss = "miss",
        /// The request itself did not allow the stored response.
        Request = "request",
        /// The stored response was stale, and a new one came.
        Stale = "stale",
        /// Only a part of the response was stored.
        Partial = "partial",
        /// The proxy's own answer: redirect, fixed answer, refusal.
        Local = "local",
    }
}

impl Disposition {
    /// Whether what was stored before was the answer.
    pub const fn is_from_cache(self) -> bool {
        matches!(self, Self::Hit | Self::HitStale)
    }
}

labels! {
    /// Which limit was hit.
    Limit {
        /// Open connections in all.
        Connections = "connections",
        /// Open connections of one address.
        ConnectionsPerAddress = "connections-per-address",
        /// No file descriptor was left to accept a connection.
        Descriptors = "descriptors",
        /// TLS or the PROXY header took too long.
        Handshake = "handshake-timeout",
        /// A request head took too long.
        Head = "head-timeout",
        /// A kept connection was idle for too long.
        KeepAlive = "keep-alive",
        /// A request's content came too slowly.
        BodyIdle = "body-idle",
        /// The client did not read its answer.
        WriteIdle = "write-idle",
        /// Content moved more slowly than the least rate, either way.
        Rate = "rate",
        /// HTTP/2 streams were reset too often.
        Resets = "resets",
        /// HTTP/2 control frames (SETTINGS, PING, PRIORITY, CONTINUATION, empty DATA, WINDOW_UPDATE) came too often.
        Frames = "frames",
        /// The request line was too long.
        Line = "line-bytes",
        /// The head was too long or had too many fields.
        HeadSize = "head-size",
        /// Content was larger than allowed.
        BodySize = "body-bytes",
        /// Waiters on one fill.
        Waiters = "waiters",
        /// Requests that waited for an origin's connection.
        OriginQueue = "origin-queue",
        /// Interim responses of one origin answer.
        Interim = "interim-responses",
    }
}

labels! {
    /// What became of a response that could have been stored.
    FillEnd {
        /// Stored.
        Stored = "stored",
        /// The answer may not be stored.
        NotStorable = "not-storable",
        /// The answer is too large to be held.
        TooLarge = "too-large",
        /// The origin failed.
        Failed = "failed",
    }
}

/// What one worker counts. Written by its own thread only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    requests: [[Histogram; StatusClass::COUNT]; MethodClass::COUNT],
    dispositions: [Counter; Disposition::COUNT],
    limits: [Counter; Limit::COUNT],
    origin_requests: [Histogram; StatusClass::COUNT],
    fills: [Counter; FillEnd::COUNT],
    /// Connections accepted.
    pub connections_opened: Counter,
    /// Connections that have ended.
    pub connections_closed: Counter,
    /// TLS handshakes that failed.
    pub tls_failures: Counter,
    /// Bytes read from clients, before TLS is undone.
    pub bytes_received: Counter,
    /// Bytes written to clients, before TLS is added.
    pub bytes_sent: Counter,
    /// Requests begun.
    pub requests_begun: Counter,
    /// Requests ended: the last byte of the answer was handed over, or the client left.
    pub requests_ended: Counter,
    /// Purges taken.
    pub purges: Counter,
    /// Access lines that found the queue full.
    pub access_lines_dropped: Counter,
    /// Panics caught at a task's border.
    pub panics: Counter,
    /// Reloads that took effect.
    pub reloads: Counter,
    /// Reloads refused because of a mistake in the configuration.
    pub reloads_refused: Counter,
}

impl WorkerMetrics {
    /// A request was answered: its method, the status, and how long it took to the end of the answer.
    pub fn request(&self, method: MethodClass, status: StatusCode, took: Duration) {
        self.requests[method as usize][StatusClass::from(status) as usize].record(took);
    }

    /// What the cache did for a request.
    pub fn disposition(&self, disposition: Disposition) {
        self.dispositions[disposition as usize].one();
    }

    /// A limit was hit.
    pub fn limit(&self, limit: Limit) {
        self.limits[limit as usize].one();
    }

    /// An origin answered: the status, and how long the head of its answer took.
    pub fn origin_request(&self, status: StatusCode, took: Duration) {
        self.origin_requests[StatusClass::from(status) as usize].record(took);
    }

    /// A fill ended.
    pub fn fill(&self, end: FillEnd) {
        self.fills[end as usize].one();
    }

    /// How often this limit was hit here.
    pub fn limit_count(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].count()
    }
}

labels! {
    /// What is counted or held elsewhere and read at a scrape.
    Reading {
        /// Stored responses; label `cache`.
        CacheEntries = "cache_entries",
        /// Bytes held; label `cache`.
        CacheBytes = "cache_bytes",
        /// Bytes that may be held; label `cache`.
        CacheBytesMax = "cache_max_bytes",
        /// Variants that were dropped because their URL had too many; label `cache`.
        CacheVariantsDropped = "cache_variants_dropped",
        /// Fills under way; label `cache`.
        Fills = "cache_fills_in_progress",
        /// Requests that wait for a fill; label `cache`.
        Waiters = "cache_waiters",
        /// Hits that others may have purged; label `cache`.
        UnverifiedHits = "cache_unverified_hits",
        /// What came of looking into Redis, and of writing to it; labels `cache`, `outcome`.
        CacheShared = "cache_redis",
        /// Requests handed to the origin; label `origin`.
        OriginRequests = "origin_requests",
        /// Requests that ended without an answer; labels `origin`, `reason`.
        OriginFailures = "origin_failures",
        /// Requests tried again; label `origin`.
        OriginRetries = "origin_retries",
        /// Retries that the budget refused; label `origin`.
        OriginRetriesRefused = "origin_retries_refused",
        /// Requests repeated because a kept connection was closed; label `origin`.
        OriginStaleConnections = "origin_stale_connections",
        /// Connections made; label `origin`.
        OriginConnectionsOpened = "origin_connections_opened",
        /// Requests that wait for a connection; label `origin`.
        OriginQueued = "origin_queued_requests",
        /// Whether a server is in use: 1 or 0; labels `origin`, `server`.
        OriginServerUp = "origin_server_up",
        /// Open connections to a server; labels `origin`, `server`.
        OriginServerConnections = "origin_server_connections",
        /// Requests under way at a server; labels `origin`, `server`.
        OriginServerRequests = "origin_server_requests_in_progress",
        /// Whether there is a connection: 1 or 0; label `redis`.
        RedisUp = "redis_up",
        /// How old the connections are, 0 without; label `redis`.
        RedisConnectedSeconds = "redis_connected_seconds",
        /// Whether writes are taken: 1 or 0; label `redis`.
        RedisWritable = "redis_writable",
        /// Servers of a Cluster that are not asked; label `redis`.
        RedisServersOpen = "redis_servers_not_asked",
        /// Replicas that values are read from; label `redis`.
        RedisReplicas = "redis_replicas_read",
        /// Commands under way; label `redis`.
        RedisInFlight = "redis_commands_in_progress",
        /// Attempts to connect; labels `redis`, `outcome`.
        RedisConnects = "redis_connects",
        /// Commands; labels `redis`, `operation`, `outcome`.
        RedisOperations = "redis_operations",
        /// Time until their answers; labels `redis`, `operation`.
        RedisSeconds = "redis_operation_seconds",
        /// Commands that were not sent; labels `redis`, `reason`.
        RedisSkipped = "redis_skipped",
        /// How often the breaker opened; labels `redis`, `reason`.
        RedisOpened = "redis_breaker_opened",
        /// Bytes of values on disk; label `file`.
        StoreBytes = "store_bytes",
        /// Commits to disk that failed; label `file`.
        StoreFailures = "store_failures",
        /// What came of looking on disk; label `result`.
        StoreLookups = "store_lookups",
        /// What a limit has decided; labels `limit`, `decision`, `by`.
        LimitDecisions = "limit_decisions",
        /// Keys that a limit forgot although they had used something; label `limit`.
        LimitForgotten = "limit_keys_forgotten",
        /// Requests under way under a limit; label `limit`.
        LimitRequests = "limit_requests_in_progress",
        /// WebSockets open under a limit; label `limit`.
        LimitSockets = "limit_websockets_open",
        /// Requests that wait for a place; label `limit`.
        LimitWaiting = "limit_requests_waiting",
        /// Proxies that share a limit; label `limit`.
        LimitProxies = "limit_proxies",
        /// Calls of plugins; labels `plugin` and `hook`.
        PluginCalls = "plugin_calls",
        /// Calls of plugins that failed; labels `plugin`, `hook` and `reason`.
        PluginFailures = "plugin_failures",
        /// The time of calls of plugins; labels `plugin` and `hook`.
        PluginSeconds = "plugin_call_seconds",
        /// Decisions of plugins that were remembered, or not; labels `plugin` and `result`.
        PluginMemo = "plugin_memo",
        /// Instances of plugins that were made; label `plugin`.
        PluginInstances = "plugin_instances",
        /// Memory of the instances of plugins; label `plugin`.
        PluginMemory = "plugin_memory_bytes",
        /// Whether a plugin failed so often that it is not asked; label `plugin`.
        PluginOpen = "plugin_breaker_open",
        /// What plugins count themselves; labels `plugin` and `name`.
        PluginCounter = "plugin_counter",
        /// Requests that should have been recorded and found no room.
        RecordsLost = "records_lost",
        /// What has happened to sessions; label `what`.
        Sessions = "sessions",
        /// Whether the durable store of sessions can be asked: 1 or 0.
        SessionsDurableUp = "sessions_durable_up",
        /// What came of asking it, where it is a server; label `outcome`.
        SessionsDurableCalls = "sessions_durable_calls",
        /// Changes that Redis has taken and the durable store has not.
        SessionsOwed = "sessions_owed",
        /// Those for which there was no room.
        SessionsOwedForgotten = "sessions_owed_forgotten",
        /// Own purges that the log has not taken.
        PurgesUnpublished = "purges_unpublished",
    }
}

impl Reading {
    /// Only rises, and is counted from the start of the process or of what it is about.
    const fn is_counter(self) -> bool {
        matches!(
            self,
            Self::OriginRequests
                | Self::OriginFailures
                | Self::OriginRetries
                | Self::OriginRetriesRefused
                | Self::OriginStaleConnections
                | Self::OriginConnectionsOpened
                | Self::UnverifiedHits
                | Self::CacheShared
                | Self::CacheVariantsDropped
                | Self::RedisConnects
                | Self::RedisOperations
                | Self::RedisSeconds
                | Self::RedisSkipped
                | Self::RedisOpened
                | Self::StoreFailures
                | Self::StoreLookups
                | Self::LimitDecisions
                | Self::LimitForgotten
                | Self::PluginCalls
                | Self::PluginFailures
                | Self::PluginSeconds
                | Self::PluginMemo
                | Self::PluginInstances
                | Self::PluginCounter
                | Self::RecordsLost
                | Self::Sessions
                | Self::SessionsDurableCalls
                | Self::SessionsOwedForgotten
        )
    }

    const fn help(self) -> &'static str {
        match self {
            Self::CacheEntries => "Stored responses.",
            Self::CacheBytes => "Bytes held by stored responses, keys and overhead.",
            Self::CacheBytesMax => "Bytes that may be held.",
            Self::CacheVariantsDropped => {
                "Stored variants dropped because their URL had more than `variants` of [server.limits]."
            }
            Self::Fills => "Fetches under way whose answer is to be stored.",
            Self::Waiters => "Requests that wait for another request's fill.",
            Self::UnverifiedHits => "Hits of which could not be told whether other proxies had purged them.",
            Self::CacheShared => "What came of looking for stored responses in Redis, and of writing them.",
            Self::OriginRequests => "Requests handed to the origin, retries not counted.",
            Self::OriginFailures => "Requests that ended without the head of an answer.",
            Self::OriginRetries => "Requests tried again.",
            Self::OriginRetriesRefused => "Retries that the budget refused.",
            Self::OriginStaleConnections => "Requests repeated at once because a kept connection was closed.",
            Self::OriginConnectionsOpened => "Connections made to the origin.",
            Self::OriginQueued => "Requests that wait for a connection to the origin.",
            Self::OriginServerUp => "Whether the server is in use.",
            Self::OriginServerConnections => "Open connections to the server.",
            Self::OriginServerRequests => "Requests under way at the server.",
            Self::RedisUp => "Whether there is a connection to Redis.",
            Self::RedisConnectedSeconds => "How long the connections to Redis have been there.",
            Self::RedisWritable => "Whether Redis takes writes.",
            Self::RedisServersOpen => "Servers of a Redis Cluster that are not asked for the moment.",
            Self::RedisReplicas => "Replicas of Redis that values are read from.",
            Self::RedisInFlight => "Commands under way to Redis.",
            Self::RedisConnects => "Attempts to connect to Redis.",
            Self::RedisOperations => "Commands sent to Redis.",
            Self::RedisSeconds => "Time from a command to its answer.",
            Self::RedisSkipped => "Commands that were not sent, because Redis is down, slow or read-only.",
            Self::StoreBytes => "Bytes of values on disk.",
            Self::StoreFailures => "Commits to disk that failed.",
            Self::StoreLookups => "What came of looking for stored responses on disk.",
            Self::Sessions => "What has happened to sessions.",
            Self::SessionsDurableUp => "Whether the durable store of sessions can be asked.",
            Self::SessionsDurableCalls => {
                "What came of asking the durable store of sessions, where it is a server."
            }
            Self::SessionsOwed => {
                "Changes of sessions that Redis has taken and the durable store has not yet."
            }
            Self::SessionsOwedForgotten => {
                "Changes of sessions that the durable store will not get: it was away, and too many were remembered."
            }
            Self::LimitDecisions => "What limits have decided, and in which way the decision was come to.",
            Self::LimitForgotten => "Keys that were forgotten although they had used something.",
            Self::LimitRequests => "Requests under way that a limit counts.",
            Self::LimitSockets => "Open WebSockets that a limit counts.",
            Self::LimitWaiting => "Requests that wait for a place under a limit.",
            Self::LimitProxies => "Proxies among which a limit is shared.",
            Self::PluginCalls => "Calls of plugins, those that were remembered not counted.",
            Self::PluginFailures => "Calls of plugins that failed.",
            Self::PluginSeconds => "The time that calls of plugins took together.",
            Self::PluginMemo => {
                "Decisions of plugins that were remembered (hit) or not (miss), and those not repeated when asked again (mismatch)."
            }
            Self::PluginInstances => "Instances of plugins that were made.",
            Self::PluginMemory => "Memory of the instances of plugins, in bytes.",
            Self::PluginOpen => "Whether a plugin failed so often that it is not asked for a while.",
            Self::PluginCounter => "What plugins count themselves.",
            Self::RecordsLost => "Requests that should have been recorded and found no room.",
            Self::PurgesUnpublished => "Purges of this proxy that the log has not taken yet.",
            Self::RedisOpened => "How often Redis was given up because of what it answered, or did not.",
        }
    }
}

/// Collects readings at a scrape.
#[derive(Debug, Default)]
pub struct Readings(Vec<(Reading, String, f64)>);

impl Readings {
    /// Notes a value. Label values come out of the configuration or a closed list.
    pub fn note(&mut self, reading: Reading, labels: &[(&str, &str)], value: f64) {
        self.0.push((reading, label_text(labels), value));
    }
}

/// All metrics of one proxy.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[Arc<WorkerMetrics>]>,
    background: Arc<WorkerMetrics>,
}

impl Metrics {
    /// Metrics of that many workers and of the background thread.
    pub fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Arc::default()).collect(), background: Arc::default() }
    }

    /// What worker `index` counts. Beyond the last: the last one's.
    ///
    /// # Panics
    /// When there are no workers at all.
    pub fn worker(&self, index: usize) -> &Arc<WorkerMetrics> {
        &self.workers[index.min(self.workers.len() - 1)]
    }

    /// What the background thread counts.
    pub const fn background(&self) -> &Arc<WorkerMetrics> {
        &self.background
    }

    fn all(&self) -> impl Iterator<Item = &WorkerMetrics> {
        self.workers.iter().chain([&self.background]).map(|metrics| &**metrics)
    }

    /// A counter's sum over all workers.
    pub fn sum(&self, of: impl Fn(&WorkerMetrics) -> &Counter) -> u64 {
        self.all().map(|worker| of(worker).count()).sum()
    }

    /// How often the limit was hit.
    pub fn limit_count(&self, limit: Limit) -> u64 {
        self.sum(|worker| &worker.limits[limit as usize])
    }

    /// Connections open now.
    pub fn connections_open(&self) -> u64 {
        // Closed first: a connection that opens and closes between the two readings must not make the difference negative.
        let closed = self.sum(|worker| &worker.connections_closed);
        self.sum(|worker| &worker.connections_opened).saturating_sub(closed)
    }

    /// The OpenMetrics 1.0 text, with its `# EOF`.
    pub fn render(&self, readings: &Readings) -> String {
        let mut page = Page::default();
        page.histogram(
            "http_server_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            |page| {
                for &method in MethodClass::ALL {
                    for &status in StatusClass::ALL {
                        let labels = [
                            ("http_request_method", method.label()),
                            ("http_response_status_class", status.label()),
                        ];
                        page.buckets(
                            &labels,
                            self.all().map(|worker| &worker.requests[method as usize][status as usize]),
                        );
                    }
                }
            },
        );
        page.labelled(
            "cache_requests",
            "disposition",
            "Requests by what the cache did for them.",
            Disposition::ALL
                .iter()
                .map(|d| (d.label(), self.sum(|worker| &worker.dispositions[*d as usize]))),
        );
        page.labelled(
            "cache_fills",
            "end",
            "Fills by how they ended.",
            FillEnd::ALL.iter().map(|f| (f.label(), self.sum(|worker| &worker.fills[*f as usize]))),
        );
        page.counter("cache_purges", "Purges taken.", self.sum(|w| &w.purges));
        page.histogram(
            "http_client_request_duration_seconds",
            "Time from a request to an origin to the head of its answer.",
            |page| {
                for &status in StatusClass::ALL {
                    let labels = [("http_response_status_class", status.label())];
                    page.buckets(&labels, self.all().map(|worker| &worker.origin_requests[status as usize]));
                }
            },
        );
        page.gauge("http_server_connections", "Client connections open.", self.connections_open());
        page.counter(
            "http_server_connections_opened",
            "Client connections accepted.",
            self.sum(|w| &w.connections_opened),
        );
        let ended = self.sum(|w| &w.requests_ended);
        page.gauge(
            "http_server_requests_in_progress",
            "Requests under way.",
            self.sum(|w| &w.requests_begun).saturating_sub(ended),
        );
        page.counter(
            "http_server_received_bytes",
            "Bytes read from clients.",
            self.sum(|w| &w.bytes_received),
        );
        page.counter("http_server_sent_bytes", "Bytes written to clients.", self.sum(|w| &w.bytes_sent));
        page.counter("tls_handshake_failures", "TLS handshakes that failed.", self.sum(|w| &w.tls_failures));
        page.labelled(
            "limits_hit",
            "limit",
            "How often each limit was hit.",
            Limit::ALL.iter().map(|l| (l.label(), self.limit_count(*l))),
        );
        page.counter(
            "log_lines_dropped",
            "Access lines that found the queue full.",
            self.sum(|w| &w.access_lines_dropped),
        );
        page.counter("log_events_dropped", "Events that found the queue full.", crate::telemetry::dropped());
        page.counter("panics", "Panics caught at a task's border.", self.sum(|w| &w.panics));
        page.counter("config_reloads", "Reloads that took effect.", self.sum(|w| &w.reloads));
        page.counter("config_reloads_refused", "Reloads refused.", self.sum(|w| &w.reloads_refused));
        for &reading in Reading::ALL {
            let mut values = readings.0.iter().filter(|(of, _, _)| *of == reading).peekable();
            if values.peek().is_some() {
                let (kind, suffix) = if reading.is_counter() { ("counter", "_total") } else { ("gauge", "") };
                page.family(reading.label(), kind, reading.help());
                for (_, labels, value) in values {
                    let _ = writeln!(page.text, "{}{suffix}{labels} {value}", reading.label());
                }
            }
        }
        let _ = writeln!(page.text, "# TYPE weir_build info\n# HELP weir_build What runs here.");
        let _ = writeln!(page.text, "weir_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        page.text.push_str("# EOF\n");
        page.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A strict reader of OpenMetrics 1.0 text, for what this page uses: families in one block, known suffixes, buckets that rise.
    fn parse(page: &str) -> Vec<(String, String, f64)> {
        assert!(page.ends_with("# EOF\n"), "the last line is # EOF");
        let (mut family, mut kind, mut seen) =
            (String::new(), String::new(), std::collections::HashSet::new());
        let mut samples: Vec<(String, String, f64)> = Vec::new();
        for line in page.lines() {
            assert!(!line.is_empty() && line.is_ascii(), "no empty line: {line:?}");
            if line == "# EOF" {
                break;
            }
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (keyword, name, text) =
                    (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                match keyword {
                    "TYPE" => {
                        assert!(seen.insert(name.to_owned()), "{name} is declared once");
                        (family, kind) = (name.to_owned(), text.to_owned());
                    }
                    "UNIT" => assert!(name == family && name.ends_with(&format!("_{text}"))),
                    "HELP" => assert!(name == family && text.ends_with('.')),
                    other => panic!("unknown keyword {other}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (series, ""),
            };
            let suffix = name.strip_prefix(family.as_str()).expect("a sample stands under its family");
            match kind.as_str() {
                "counter" => assert_eq!(suffix, "_total"),
                "gauge" => assert_eq!(suffix, ""),
                "info" => assert_eq!((suffix, value), ("_info", 1.0)),
                "histogram" => assert!(["_bucket", "_count", "_sum"].contains(&suffix)),
                other => panic!("unknown type {other}"),
            }
            if suffix == "_bucket" && !labels.contains("le=\"0.000016\"") {
                let (_, before, lower) = samples.last().unwrap();
                assert!(before.contains("le=") && *lower <= value, "buckets rise: {line}");
            }
            if suffix == "_count" {
                let (_, before, all) = samples.last().unwrap();
                assert!(before.contains("le=\"+Inf\"") && *all == value, "the last bucket holds all: {line}");
            }
            samples.push((name.to_owned(), labels.to_owned(), value));
        }
        samples
    }

    #[test]
    fn the_page_is_open_metrics_and_sums_over_workers() {
        let metrics = Metrics::new(2);
        for (worker, took) in [(0, 20), (0, 40), (1, 2_000_000_000)] {
            let took = Duration::from_micros(took);
            metrics.worker(worker).request(MethodClass::Get, StatusCode::OK, took);
        }
        metrics.worker(0).disposition(Disposition::Hit);
        metrics.worker(1).disposition(Disposition::Hit);
        metrics.worker(1).limit(Limit::Resets);
        metrics.worker(0).connections_opened.add(5);
        metrics.worker(1).connections_closed.add(2);
        metrics.background().reloads.one();
        let mut readings = Readings::default();
        readings.note(Reading::CacheBytes, &[("cache", "default")], 12.0);
        readings.note(Reading::OriginServerUp, &[("origin", "a\"\\\n"), ("server", "127.0.0.1:1")], 1.0);
        readings.note(Reading::CacheBytes, &[("cache", "chat")], 0.0);
        readings.note(Reading::OriginFailures, &[("origin", "a"), ("reason", "origin-closed")], 3.0);
        let samples = parse(&metrics.render(&readings));
        let value = |name: &str, labels: &str| {
            let found: Vec<_> = samples.iter().filter(|(n, l, _)| n == name && l == labels).collect();
            assert_eq!(found.len(), 1, "{name}{{{labels}}} stands there once");
            found[0].2
        };
        let get = r#"http_request_method="GET",http_response_status_class="2xx""#;
        assert_eq!(value("http_server_request_duration_seconds_count", get), 3.0);
        assert_eq!(
            value("http_server_request_duration_seconds_bucket", &format!("{get},le=\"0.000032\"")),
            1.0
        );
        assert_eq!(value("http_server_request_duration_seconds_sum", get), 2_000.000_06);
        assert_eq!(value("cache_requests_total", r#"disposition="hit""#), 2.0);
        assert_eq!(value("limits_hit_total", r#"limit="resets""#), 1.0);
        assert_eq!(value("http_server_connections", ""), 3.0);
        assert_eq!(value("config_reloads_total", ""), 1.0);
        assert_eq!(value("cache_bytes", r#"cache="default""#), 12.0);
        assert_eq!(value("origin_failures_total", r#"origin="a",reason="origin-closed""#), 3.0);
        assert_eq!(value("origin_server_up", r#"origin="a\"\\\n",server="127.0.0.1:1""#), 1.0);
    }
}
