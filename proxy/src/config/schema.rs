//! The shape of the configuration file. These doc comments are the reference: `docs/configuration.md` is made of them.
//!
//! What is written here is what a person writes; `resolve.rs` turns it into the checked [`super::model`].

mod values;

use std::path::PathBuf;

use ipnet::IpNet;

pub(super) use self::values::{
    AccessLog, CacheKind, Condition, HostChoice, Json, Listener, OnInvalidateFailure, OnRedisError,
    OnResponseFailure, OriginRef, OriginServer, OtherValue, PluginFailure, Redirect, RedisAddress,
    RouteCache, SchemeWord, Unverified, Workers,
};
use super::cookies::{CookieRuleTable, VaultTable};
use super::decode::{ByteSize, Lifetime, Named, OneOrMany, Secret, Share, Table, Text, Whole, table};
use super::limits::{LimitTable, QueueTable, RateTable, RouteLimitTable, RouteLimitValue};
use super::model::{Balance, LogFormat, LogLevel, OnRateFailure, OnRequestFailure, OriginProtocol, Override};
use super::sessions::{CookieTable, PostgresTable, SessionTable};
use crate::session::spec::Use;
use crate::store::wire::Compression;

table! {
    /// The whole file. The shortest one that works is a route with an origin:
    ///
    /// ```toml
    /// [[route]]
    /// origin = "http://127.0.0.1:8000"
    /// ```
    ///
    /// Durations are written `"250ms"`, `"90s"`, `"5m"`, `"1h30m"`, `"7d"`; sizes `"64KiB"`, `"1MiB"`, or a bare number of bytes; shares `"10%"`.
    /// Every text may hold `${NAME}`, `${NAME:-default}` (also where the variable is empty) and `${file:/path}` (the content of a file,
    /// without its last line end); `$${` stands for `${`. Where a number or `true` is expected, `"${NAME}"` may stand too. What was filled in is in no message and no
    /// log; `weir config show` prints it, secrets excepted.
    /// Relative paths begin at the folder of the file.
    File in "" {
        /// Listeners, limits, draining.
        server: Server = "see below",
        /// The admin listener.
        admin: Admin = "see below",
        /// What is logged, and how.
        log: Log = "see below",
        /// Named durations, usable wherever a duration is expected: `short = "5m"`.
        ttl: Named<std::time::Duration> = "none",
        /// Named Redis servers, that caches use to share what they store.
        redis: Named<Redis> = "none",
        /// Named caches. There is always one that is called `default`.
        cache: Named<Cache> = "`[cache.default]`",
        /// Named origins: the applications behind. A route may also give a URL, and need no table.
        origin: Named<Origin> = "none",
        /// What happens to which request. The first route that matches wins; `weir check` names those that never can.
        route: OneOrMany<Route> = "required",
        /// What writes to the application make stale, by the name of what is written.
        model: Named<Model> = "none",
        /// Policy plugins, that routes use by name.
        plugin: Named<Plugin> = "none",
        /// The embedded store, for what has to outlive the process.
        data: Data = "none: nothing outlives the process",
        /// Named limits, that routes refer to.
        limit: Named<LimitTable> = "none",
        /// Sessions that Weir keeps for the applications behind.
        session: SessionTable = "none",
        /// What is changed about the cookies of the applications behind.
        cookie: OneOrMany<CookieRuleTable> = "none",
        /// Cookies of the applications behind that Weir keeps for them.
        vault: VaultTable = "none",
        /// Requests that are recorded, to try plugins with them.
        record: Record = "none: nothing is recorded",
        /// What you expect of the routes; run by `weir check`, at the start, and before a reload is taken.
        test: OneOrMany<Test> = "none",
    }
}

table! {
    /// Where clients connect, and the bounds of what they can ask for.
    Server in "[server]" {
        /// Where clients connect: `"127.0.0.1:8080"`, `":8080"` (every IPv4 address of the machine), `"[::]:8080"`, `"unix:/run/weir.sock"`, or a table
        /// per listener. HTTP/1.1 and HTTP/2 are spoken on each: with TLS as ALPN says, without TLS by prior knowledge. Port 0 takes a free
        /// one and prints it.
        listen: OneOrMany<Listener> = "\"127.0.0.1:8080\"",
        /// Certificates for every listener that has none of its own (Unix sockets excepted).
        tls: OneOrMany<Certificate> = "none",
        /// Networks of the proxies before Weir. `Forwarded`, `X-Forwarded-*` and PROXY headers of all others are removed and not believed:
        /// list only what is yours, because whoever is listed can claim to be anybody.
        trusted_proxies: OneOrMany<IpNet> = "none",
        /// How long a server that was told to stop waits for requests under way. Longer is kinder to downloads, and holds up a restart.
        drain: Lifetime = "\"30s\"",
        /// Worker threads, each with its own connections: `"cores"`, or a number.
        workers: Workers = "\"cores\"",
        /// The bounds.
        limits: Limits = "see below",
    }
}

table! {
    /// One listener, where an address alone does not say enough: `listen = [{ address = "0.0.0.0:443", tls = { … } }]`.
    ListenerTable in "listen = [{ … }]" {
        /// As in `listen`.
        address: Text = "required",
        /// Its certificates: chosen by the name that the client asks for, the first one for everybody else.
        tls: OneOrMany<Certificate> = "those of `[server]`",
        /// Whether every connection begins with a PROXY protocol header (version 1 or 2). Only `trusted_proxies` may connect then.
        proxy_protocol: bool = "false",
    }
}

table! {
    /// A certificate and its key, both PEM files, read again at every reload.
    Certificate in "tls = { … }" {
        /// The chain, the server's own certificate first.
        cert: PathBuf = "required",
        /// The private key.
        key: PathBuf = "required",
    }
}

table! {
    /// The bounds of everything that a peer can make Weir hold or wait for. What exceeds one is refused in the way named here, never cut.
    Limits in "[server.limits]" {
        /// The request line; longer: 414.
        line_bytes: ByteSize = "\"8KiB\"",
        /// The head of a request (longer: 431) or of an origin's answer (502); with HTTP/2 decoded.
        head_bytes: ByteSize = "\"32KiB\"",
        /// Field lines in a head.
        head_fields: Whole<8, 10_000> = "100",
        /// Open client connections in all; more are closed at once.
        connections: Whole<1, 10_000_000> = "10000",
        /// Open client connections of one address (IPv6: of one /64). `trusted_proxies` are exempt.
        connections_per_address: Whole<1, 10_000_000> = "1000",
        /// Requests at the same time on one HTTP/2 connection.
        streams: Whole<1, 10_000> = "100",
        /// HTTP/2 streams that one connection may reset within ten seconds; more: the connection ends.
        resets: Whole<1, 1_000_000> = "200",
        /// By then a request head must have come whole.
        head_timeout: Lifetime = "\"10s\"",
        /// So long may a request body pause, or a client that should be reading.
        idle_timeout: Lifetime = "\"10s\"",
        /// After `rate_after` a body, in either direction, must move at least so much a second; 0: no such limit.
        rate_bytes_min: ByteSize = "100",
        /// So long may a body move as it likes before its rate counts.
        rate_after: Lifetime = "\"30s\"",
        /// So long an idle connection is kept.
        keep_alive: Lifetime = "\"60s\"",
        /// A request body; larger: 413. Routes may say otherwise.
        body_bytes: ByteSize = "\"100MiB\"",
        /// Interim answers (1xx) before one answer of an origin.
        interim_responses: Whole<0, 1_000> = "16",
        /// Requests that wait for one fill; more go to the origin on their own.
        waiters: Whole<0, 10_000_000> = "10000",
        /// Stored variants of one URL (`Vary`); the one stored longest ago goes first.
        variants: Whole<1, 10_000> = "64",
        /// The TLS handshake, or the PROXY header.
        handshake_timeout: Lifetime = "\"10s\"",
    }
}

table! {
    /// The listener for operators: `/healthz`, `/readyz`, `/metrics`, purges. Never on a port that clients reach.
    Admin in "[admin]" {
        /// An address, or `"off"`. Port 0 takes a free one and prints it.
        listen: Text = "\"127.0.0.1:9180\"",
        /// The bearer token that is asked for. Without one, only the machine itself is answered.
        token: Secret = "none",
    }
}

table! {
    /// What is written to standard error (events) and standard output (requests).
    Log in "[log]" {
        /// The least important event that is written.
        level: LogLevel = "\"info\"",
        /// The form of events.
        format: LogFormat = "\"console\"",
        /// A line per request with the cache's decision: `"console"`, `"json"` or `"off"`. Lines that nobody reads in time are dropped and counted.
        access: AccessLog = "\"console\"",
    }
}

table! {
    /// A Redis: one server, the primary that Sentinels name, or a Cluster. Weir starts without it, runs without it, and takes it up again when it is back.
    Redis in "[redis.NAME]" {
        /// Where it is: `"redis://host:6379/1"`, with TLS `"rediss://…"`, Sentinels `"redis://s1:26379,s2:26379/mymaster/1"`, a Cluster
        /// `"redis://n1,n2,n3"`, a socket `"redis+unix:///run/redis.sock?db=1"`; a user and a password as `redis://user:password@…`. A Cluster has no
        /// databases: a number becomes part of every key.
        url: RedisAddress = "required",
        /// The ACL user, if it is not in the URL.
        username: Text = "that of the URL",
        /// The password, if it is not in the URL.
        password: Secret = "that of the URL",
        /// A file that holds the password and nothing else.
        password_file: PathBuf = "none",
        /// TLS, for `rediss://`.
        tls: RedisTls = "see below",
        /// Looking up the name, TCP, TLS and logging in, together. No request ever waits for it.
        connect_timeout: Lifetime = "\"5s\"",
        /// What a request may wait for Redis before it goes on without. After a few late answers in a row nothing is asked until Redis answers again.
        read_budget: Lifetime = "\"25ms\"",
        /// What a write may take; no request waits for it.
        write_budget: Lifetime = "\"250ms\"",
        /// An upper bound of connections to a server. Weir needs three, and opens one more for each worker, however many requests there are. Of a Cluster it
        /// opens three to each node, and none for workers.
        max_connections: Whole<3, 100_000> = "50",
        /// How often a server that nobody asks is asked how it is.
        health_interval: Lifetime = "\"5s\"",
    }
}

table! {
    /// TLS towards a Redis.
    RedisTls in "[redis.NAME] tls = { … }" {
        /// The certificates to trust in place of the system's, a PEM file.
        ca: PathBuf = "the system's",
        /// Our own certificate, where the server asks for one.
        cert: PathBuf = "none",
        /// Its key.
        key: PathBuf = "none",
    }
}

table! {
    /// A cache, and what applies where a route does not say otherwise. Two caches share nothing.
    Cache in "[cache.NAME]" {
        /// `"memory"`, or `"none"`: looks up nothing, stores nothing.
        kind: CacheKind = "\"memory\"",
        /// The memory for stored responses, with their keys and heads. When it is full, what is rarely used goes first.
        max_memory: ByteSize = "\"256MiB\"",
        /// Stored responses.
        max_entries: Whole<1, 1_000_000_000> = "100000",
        /// The largest body that is held, at most an eighth of `max_memory`; larger ones are streamed and not held.
        max_body: ByteSize = "\"8MiB\"",
        /// Part of every key: raise it, and nothing stored before is used again.
        version: Whole<0, { u64::MAX }> = "0",
        /// What is stored belongs to this, as in `epoch = "${GIT_SHA:-}"`: under another one than before, all that was stored is stale. Empty: none.
        epoch: Text = "none",
        /// So long after the epoch has changed what belongs to an earlier one is served stale, while it is fetched anew behind the answer. The time counts from
        /// when the first proxy began with the epoch. Without it nothing of an earlier epoch is served.
        epoch_grace: Lifetime = "\"0s\"",
        /// While this proxy cannot tell whether others have purged what it holds in memory: `"available"` serves it, and counts; `"strict"` asks the origin
        /// first. Only caches with `redis` share purges.
        unverified: Unverified = "\"available\"",
        /// What a request gets that finds nothing in memory while Redis cannot be asked: `"ignore"`, the origin's answer; `"fail"`, a 503.
        on_redis_error: OnRedisError = "\"ignore\"",
        /// The `[redis.NAME]` that it shares with other proxies: what one has stored, all find. Memory stays in front of it.
        redis: Text = "none",
        /// What all its keys in Redis begin with, followed by its version: letters, digits, `-`, `_`, `.` and `:`. Nothing else in that Redis is ever read or changed.
        prefix: Text = "the cache's name",
        /// The largest body that is put into Redis; larger ones stay in memory.
        redis_max_body: ByteSize = "\"1MiB\"",
        /// The longest that anything stays in Redis; at most 7 days, because purges are remembered so long.
        redis_max_ttl: Lifetime = "\"7d\"",
        /// How bodies are compressed in Redis. What is encoded already is left as it is.
        compression: Compression = "\"zstd\"",
        /// How long an answer is fresh if the origin says nothing about it. It replaces the guess from `Last-Modified` (RFC 9111 §4.2.2), and applies only to
        /// answers to requests without undeclared cookies. Without it, the guess stands.
        ttl: Lifetime = "the guess",
        /// How long errors are kept at most, if the origin says nothing.
        error_ttl_max: Lifetime = "\"10s\"",
        /// So long after its end an answer is still served while a new one is fetched behind (RFC 5861), if the origin says nothing. Visitors never
        /// wait for the origin then; they may see what is old by that much.
        stale_while_revalidate: Lifetime = "\"0s\"",
        /// So long after its end an answer is still served if the origin fails (RFC 5861), if the origin says nothing.
        stale_if_error: Lifetime = "\"0s\"",
        /// Keep answers with `Set-Cookie`, the cookie included. Only for origins whose cookie is the same for everybody: everybody will receive it.
        store_set_cookie: bool = "false",
        /// Compress stored text once and serve each client what it accepts. Costs CPU once per response and a second copy in memory.
        compress: bool = "true",
    }
}

table! {
    /// An origin: one application, on one or more servers.
    Origin in "[origin.NAME]" {
        /// `"http://10.0.0.5:8000"`, `"https://app.internal"`, `"unix:/run/app.sock"`, or `{ url = …, weight = 2 }`. A name is looked up again when its DNS
        /// entry ends.
        servers: OneOrMany<OriginServer> = "required",
        /// The name servers that are asked for the addresses of `servers`, by address: `"10.0.0.2"`, `"127.0.0.1:5353"`. All are
        /// asked at once, and the first that knows the name counts.
        resolvers: OneOrMany<Text> = "those of `/etc/resolv.conf`",
        /// How one is chosen: in turn; the one with the fewest requests under way; or by a hash of the URL, so that each server sees the same URLs.
        balance: Balance = "\"round-robin\"",
        /// Ask each server regularly how it is, and take out those that do not answer.
        health: HealthCheck = "none",
        /// After so many failures in a row a server rests; 0: never.
        max_failures: Whole<0, 1_000_000> = "5",
        /// So long it rests before one request tries it again.
        rest: Lifetime = "\"10s\"",
        /// A server that came back gets its full share only after so long.
        slow_start: Lifetime = "\"10s\"",
        /// Time limits of each phase.
        timeouts: OriginTimeouts = "see below",
        /// When a request is tried once more.
        retry: Retry = "see below",
        /// `"auto"`: HTTP/2 where TLS agrees on it, HTTP/1.1 otherwise. `"http2"` without TLS is by prior knowledge, as gRPC servers speak it.
        protocol: OriginProtocol = "\"auto\"",
        /// Connections to each server.
        max_connections: Whole<1, 1_000_000> = "1024",
        /// Requests that wait for a connection; more: 503.
        max_queue: Whole<0, 1_000_000> = "1024",
        /// Begin each connection with a PROXY protocol header of this version, 1 or 2. Connections are not shared between clients then.
        proxy_protocol: Whole<1, 2> = "none",
        /// TLS towards the servers.
        tls: OriginTls = "see below",
        /// The `Host` that the servers see: `"client"`, as the client wrote it, or `"server"`, the one in `servers`.
        host: HostChoice = "\"client\"",
        /// A secret that vouches for what it is told of sessions, in `Session-Mac`: for an origin that can be reached past Weir. See [sessions.md](sessions.md).
        session_mac: Secret = "none",
    }
}

table! {
    /// A server with more to say about it than its URL.
    OriginServerTable in "servers = [{ … }]" {
        /// As in `servers`.
        url: Text = "required",
        /// Its share of requests, relative to the others.
        weight: Whole<1, 1_000> = "1",
    }
}

table! {
    /// Asked with GET; 2xx and 3xx are healthy.
    HealthCheck in "health = { … }" {
        /// What is asked for.
        path: Text = "\"/\"",
        /// How often.
        every: Lifetime = "\"10s\"",
        /// How long an answer may take.
        timeout: Lifetime = "\"2s\"",
        /// So many failures in a row take a server out.
        unhealthy_after: Whole<1, 1_000> = "2",
        /// So many successes in a row take it back.
        healthy_after: Whole<1, 1_000> = "2",
    }
}

table! {
    /// Time limits of a request to an origin; beyond one: 504.
    OriginTimeouts in "timeouts = { … }" {
        /// Looking up the name, TCP and TLS together.
        connect: Lifetime = "\"2s\"",
        /// From the request to the head of the answer.
        first_byte: Lifetime = "\"30s\"",
        /// Between two pieces of an answer. Raise it for streams that are silent for long.
        idle: Lifetime = "\"60s\"",
        /// How long an idle connection is kept.
        keep_alive: Lifetime = "\"60s\"",
        /// How long a WebSocket or tunnel may be silent.
        tunnel: Lifetime = "\"1h\"",
    }
}

table! {
    /// A request that failed before the first byte of an answer is tried once more if it is safe or idempotent, and has no body; any request, where not one byte of it was sent.
    Retry in "retry = { … }" {
        /// Further attempts; 0: none.
        attempts: Whole<0, 10> = "1",
        /// Retries as a share of all requests, so that trouble is not multiplied. Going to another server because one takes no connection is not counted: nobody has had the work.
        budget: Share = "\"10%\"",
    }
}

table! {
    /// TLS towards an origin.
    OriginTls in "[origin.NAME] tls = { … }" {
        /// Certificates to trust besides the system's, a PEM file.
        ca: PathBuf = "none",
        /// Our own certificate, where the origin asks for one.
        cert: PathBuf = "none",
        /// Its key.
        key: PathBuf = "none",
        /// The name that is asked for and checked, if it is not the one in the URL.
        name: Text = "the host of the URL",
    }
}

table! {
    /// A route: which requests, and what happens to them. Exactly one of `origin`, `redirect` and `respond` says what.
    Route in "[[route]]" {
        /// A name for logs, metrics and tests.
        name: Text = "`route N`",
        /// Which requests it takes; without it, all.
        r#match: Match = "everything",
        /// Forward to this origin: a name from `[origin.NAME]`, or a URL.
        origin: OriginRef = "none",
        /// `"https"`: the same URL with `https`, by 308; such a route takes only requests that came without TLS. Or a table.
        redirect: Redirect = "none",
        /// Answer with what stands here.
        respond: FixedAnswer = "none",
        /// The cache and its rules, or `"off"`: nothing is looked up or stored.
        cache: RouteCache = "`default`",
        /// Change the path on its way to the origin.
        rewrite: Rewrite = "none",
        /// Change the fields of the request on its way to the origin.
        request_headers: HeaderEdits = "none",
        /// Change the fields of the answer on its way to the client.
        response_headers: HeaderEdits = "none",
        /// What is said when the origin does not answer, or answers with 502, 503 or 504, and nothing stored may be used.
        fallback: FixedAnswer = "an error page",
        /// Pass on WebSockets. Only where you want them: an upgraded connection is out of Weir's sight.
        websocket: bool = "false",
        /// The largest request body; larger: 413.
        body_bytes: ByteSize = "that of `[server.limits]`",
        /// How much content of a request is read before anything is decided by it, where `cache.methods` or a plugin wants that. A longer one is passed on as it
        /// comes, past the cache.
        buffer_body: ByteSize = "\"64KiB\"",
        /// The limits that its requests are under, in this order: names from `[limit.NAME]`, or `{ name = "api", cost = 5 }`.
        limits: OneOrMany<RouteLimitValue> = "none",
        /// Plugins by their names. Keys: what each says is part of the key. Storing: the strictest of them counts. Purges: those of all.
        plugins: OneOrMany<Text> = "none",
        /// `"read"`: the origin is told of the client's session. `"write"`: and its answers change it. What depends on a session is not stored: requests that carry one pass the cache by,
        /// unless attributes of it are part of the key (`cache = { session = ["tier"] }`, or by a plugin), and a route that writes sessions does not cache.
        session: Use = "\"off\"",
    }
}

table! {
    /// Which requests a route takes. Every key that is given must fit; in a list, one of its values must.
    Match in "match = { … }" {
        /// `"http"` or `"https"`, as the client used it.
        scheme: SchemeWord = "any",
        /// `"example.com"`, or `"*.example.com"` for everything below it (and not itself). Ports and case do not matter.
        host: OneOrMany<Text> = "any",
        /// `*` stands for one segment or a part of one, `**` for any number of segments, `{name}` for one segment that tags and rewrites can refer to,
        /// `{name...}` for the rest. `/api/**` takes `/api` too. What is matched is the decoded path; one that servers read in different ways
        /// (`/x/../admin`, `//`, `%2f`, `;`) is refused with 400 if these select different routes.
        path: OneOrMany<Text> = "any",
        /// Whether `/Admin` is `/admin`: for origins that think so.
        ignore_case: bool = "false",
        /// `"GET"` takes `HEAD` too.
        methods: OneOrMany<Text> = "any",
        /// Request fields: `{ X-Beta = true }` must be there, `false` must not, a text must fit (`*`: any run of characters).
        header: Named<Condition> = "none",
        /// Query parameters, in the same way.
        query: Named<Condition> = "none",
        /// Networks or addresses of clients, as far as `trusted_proxies` tell who they are.
        client: OneOrMany<IpNet> = "any",
    }
}

table! {
    /// How a route uses a cache. What is not given is that of `[cache.NAME]`.
    RouteCacheTable in "cache = { … }" {
        /// The name of the cache.
        store: Text = "\"default\"",
        /// Methods that are answered from the cache: `"GET"` (and `HEAD`), and by what they carry `"QUERY"` (RFC 10008) and `"POST"`. Content and the fields that say how
        /// it is read are then part of the key. `"POST"` only where it asks and changes nothing: such a request no longer counts as a write of its URL.
        methods: OneOrMany<Text> = "`[\"GET\"]`",
        /// As in `[cache.NAME]`; with `override = ["max-age"]` it stands above what the origin says.
        ttl: Lifetime = "that of the cache",
        /// As in `[cache.NAME]`.
        error_ttl_max: Lifetime = "that of the cache",
        /// As in `[cache.NAME]`.
        stale_while_revalidate: Lifetime = "that of the cache",
        /// As in `[cache.NAME]`.
        stale_if_error: Lifetime = "that of the cache",
        /// As in `[cache.NAME]`.
        store_set_cookie: bool = "that of the cache",
        /// As in `[cache.NAME]`.
        compress: bool = "that of the cache",
        /// As in `[cache.NAME]`.
        unverified: Unverified = "that of the cache",
        /// Words that shall not count. Of the origin: `"no-store"`, `"no-cache"`, `"private"`, `"max-age"` (with `s-maxage` and `Expires`: `ttl` takes their place),
        /// `"must-revalidate"`, `"vary"` (one variant for all), `"set-cookie"` (stored without it). Of clients: `"authorization"` and `"cookie"` (answers to such
        /// requests are shared), `"request"` (`Cache-Control`, `Pragma`). Most of them can show one person's page to another: be sure.
        r#override: OneOrMany<Override> = "none",
        /// Query parameters that do not matter, as `"utm_*"`: left out of the key, and of what the origin sees.
        ignore_query: OneOrMany<Text> = "none",
        /// Sort query parameters by name, in the key and in what the origin sees: `?b=2&a=1` and `?a=1&b=2` share an answer.
        sort_query: bool = "false",
        /// Cookies that do matter: they are part of the key, and the only ones that the origin sees when something is fetched for the cache.
        cookies: OneOrMany<Text> = "none",
        /// Attributes of the client's session that do matter: each is part of the key by its value, or by not being there, and the origin is told of no others when something is
        /// fetched for the cache. The route needs `session = "read"`; what has the same values is then shared, between people who are logged in and those who are not.
        session: OneOrMany<Text> = "none",
        /// Tags that what is stored belongs to: `"posts"`, `"post:{id}"` with a name from the path. A purge of the tag reaches it.
        tags: OneOrMany<Text> = "none",
    }
}

table! {
    /// How the path changes on its way to the origin. The cache's key is made of what is forwarded.
    Rewrite in "rewrite = { … }" {
        /// Removed from the front, whole segments only.
        strip_prefix: Text = "none",
        /// Put in front, after that.
        add_prefix: Text = "none",
        /// The whole path anew: `"/v2/{rest}"`, with names from `match.path`.
        path: Text = "none",
    }
}

table! {
    /// Fields to change. Removing comes first.
    HeaderEdits in "request_headers = { … }` or `response_headers = { … }" {
        /// Sets a field, whatever it was.
        set: Named<Text> = "none",
        /// Removes fields.
        remove: OneOrMany<Text> = "none",
    }
}

table! {
    /// An answer from the configuration.
    FixedAnswer in "respond = { … }` or `fallback = { … }" {
        /// Its status.
        status: Whole<200, 599> = "200",
        /// Its content, as text.
        body: Text = "empty",
        /// Its content, as JSON.
        json: Json = "none",
        /// Its content, from a file that is read when the configuration is loaded.
        file: PathBuf = "none",
        /// Its fields. `Content-Type` goes by what the content is, unless it stands here.
        headers: Named<Text> = "none",
    }
}

table! {
    /// A redirect.
    RedirectTable in "redirect = { … }" {
        /// 301, 302, 303, 307 or 308.
        status: Whole<301, 308> = "302",
        /// Where to: `"https://www.example.com{path}{query}"`. Names from `match.path`, and `path`, `query` (with its `?`) and `host` of the request.
        to: Text = "required",
    }
}

table! {
    /// What a write makes stale. After a request of `written_by` that the origin has not refused, everything is purged that carries a tag of `purge`.
    ///
    /// ```toml
    /// [model.Post]
    /// written_by = ["POST|PUT|PATCH|DELETE /admin/main/post/**", "PUT|DELETE /api/posts/{id}"]
    /// purge = ["home_page_data_*", "post:{id}"]
    /// ```
    Model in "[model.NAME]" {
        /// Methods and a path, as `"PUT|DELETE /api/posts/{id}"`; the path as in `match`. Without methods, every unsafe one. Only unsafe methods write.
        written_by: OneOrMany<Text> = "none: it is purged by name only",
        /// Tags (see `cache.tags`), with `*` for any characters. `{name}` is what the path binds there; where a path does not, it stands for all.
        purge: OneOrMany<Text> = "required",
    }
}

table! {
    /// A policy plugin: a sandboxed program that decides about keys, lifetimes and purges. See [plugins](plugins.md).
    ///
    /// ```toml
    /// [plugin.query-filter]
    /// path = "plugins/query-filter.wasm"
    /// config = { drop = ["utm_*", "gclid"] }
    /// ```
    Plugin in "[plugin.NAME]" {
        /// The component, as `weir plugin build` makes it.
        path: PathBuf = "required",
        /// Its own configuration: any TOML, handed to it as JSON.
        config: Json = "`{}`",
        /// What it may read and do beside method, URL and route: `"header:accept"`, `"cookie:ab"`, `"cookie-names"`, `"session:tier"`, `"client-ip"`,
        /// `"tls-sni"`, `"body"`, `"control"`; `*` as a name is any, except that `"header:*"` leaves out `authorization`, `cookie` and the like.
        grants: OneOrMany<Text> = "none",
        /// What it may take.
        limits: PluginLimits = "see below",
        /// What is done when one of its hooks fails: `"safe"`, or a table.
        on_failure: PluginFailure = "\"safe\"",
        /// What is remembered of its decisions.
        memo: PluginMemo = "see below",
        /// A file of tests that it has to pass whenever it is loaded, as `weir plugin test` runs them: `"plugins/query-filter/tests.toml"`.
        tests: PathBuf = "none",
    }
}

table! {
    /// What a plugin may take. A call that takes more is ended and counts as failed; five failures within ten seconds, and it is not asked for a while.
    PluginLimits in "limits = { … }" {
        /// The time of one call.
        time: Lifetime = "\"10ms\"",
        /// The time of its first call, when it is loaded.
        configure: Lifetime = "\"500ms\"",
        /// The memory of each instance; there is one for each worker. Rust and C need less than 2 MiB, JavaScript and Python 64 MiB.
        memory: ByteSize = "\"16MiB\"",
        /// What it may keep between calls, if it does.
        state: ByteSize = "\"8MiB\"",
    }
}

table! {
    /// What is remembered of what a plugin said, where it says that it always says the same of the same.
    PluginMemo in "memo = { … }" {
        /// The most decisions. 0 remembers nothing.
        entries: Whole<0, 10000000> = "16384",
        /// Their bytes.
        bytes: ByteSize = "\"8MiB\"",
    }
}

table! {
    /// What is done when a hook of a plugin fails.
    PluginFailureTable in "on_failure = { … }" {
        /// `"bypass"`: nothing is looked up or stored. `"default-key"`: as if there were no plugin, which may show one person's page to another. `"deny"`: 503.
        request: OnRequestFailure = "\"bypass\"",
        /// `"no-store"`, or `"default"`: as the origin says.
        response: OnResponseFailure = "\"no-store\"",
        /// `"purge-route"`: the URL is purged, and all of the route made stale. `"uri-only"`: only the URL is purged.
        invalidate: OnInvalidateFailure = "\"purge-route\"",
        /// `"client-ip"`: the client's address pays. `"allow"`: nobody does. `"deny"`: the request is refused.
        rate: OnRateFailure = "\"client-ip\"",
    }
}

table! {
    /// Requests in a file, and what origins answered, for `weir plugin replay`. Names of fields and cookies are written; a value is, where it is known to be harmless
    /// (`accept-language`, `content-type` and the like) or `plain` names it. Any other becomes a word that is the same wherever the value is, and paths are written
    /// as they are. Each record is a line of JSON.
    Record in "[record]" {
        /// The file. When it is full it becomes `NAME.1`, and a new one is begun.
        path: PathBuf = "required",
        /// The most that both take together.
        size: ByteSize = "\"64MiB\"",
        /// What is written as it is: `"header:x-tenant"`, `"cookie:ab"`, `"query:code"`, `"session:tier"`, `"client-ip"`, `"body"`.
        plain: OneOrMany<Text> = "none",
    }
}

table! {
    /// The embedded store, in SQLite: which purges are in force (`state.db`), and bodies that survive a restart (`cache.db`). It makes itself; what is damaged
    /// is moved aside. Without it, nothing outlives the process: purges that other proxies have not heard of yet are lost with it.
    Data in "[data]" {
        /// The folder, made if it is not there. One proxy per folder.
        path: PathBuf = "\"weir-data\"",
        /// The most that bodies may take on disk; what was not used for long goes first. 0 keeps none.
        cache_size: ByteSize = "\"2GiB\"",
    }
}

table! {
    /// What you expect of the routes. Each key that is given is checked.
    Test in "[[test]]" {
        /// `"GET /path?query"`, or with a whole URL: `"GET https://example.com/"`.
        request: Text = "required",
        /// Fields of the request.
        headers: Named<Text> = "none",
        /// The address it comes from.
        client: Text = "127.0.0.1",
        /// The name of the route that takes it; `"none"` if none shall.
        route: Text = "not checked",
        /// What the origin is asked for: path and query.
        forwarded: Text = "not checked",
        /// Attributes of its session, `session = { tier = "gold" }`; an empty table is a session that has none.
        session: Named<Text> = "no session",
        /// Requests that share a stored response with it, each as above, or a table with what differs from it.
        same_key_as: OneOrMany<OtherValue> = "not checked",
        /// Requests that must not.
        different_key_from: OneOrMany<OtherValue> = "not checked",
        /// Whether the cache is consulted at all.
        cache: bool = "not checked",
        /// The status of a redirect, of `respond`, or of a refusal (400, 404).
        status: Whole<200, 599> = "not checked",
        /// Where a redirect leads.
        location: Text = "not checked",
    }
}

table! {
    /// Another request than that of a test. What is not given is as there.
    Other in "same_key_as = { … }" {
        /// As in `[[test]]`.
        request: Text = "that of the test",
        /// Fields of the request, in place of those of the test.
        headers: Named<Text> = "those of the test",
        /// Attributes of its session, in place of those of the test.
        session: Named<Text> = "those of the test",
    }
}

/// What people write who come from elsewhere, or who put a key into the wrong table.
pub(super) fn alias(written: &str, name: &str) -> Option<String> {
    let here = |name: &str| Some(format!("did you mean `{name}`?"));
    let inside = |table: &str| Some(format!("it belongs into `{table} = {{ {name} = … }}`"));
    let knows = |keys: &[super::decode::Key]| keys.iter().any(|key| key.name == name);
    match (written, name) {
        ("[[route]]", "upstream" | "backend" | "proxy_pass" | "to" | "target" | "server" | "servers") => {
            here("origin")
        }
        ("[[route]]", "return" | "response" | "static") => here("respond"),
        ("[[route]]", _) if knows(Match::KEYS) => inside("match"),
        ("[[route]]", "method" | "hosts" | "paths" | "headers" | "ip") => {
            Some("which requests a route takes stands in `match = { … }`".to_owned())
        }
        ("[[route]]", _) if knows(RouteCacheTable::KEYS) => inside("cache"),
        ("[[route]]", _) if knows(Rewrite::KEYS) => inside("rewrite"),
        ("match = { … }", "method") => here("methods"),
        ("match = { … }", "hosts" | "domain" | "server_name") => here("host"),
        ("match = { … }", "ip" | "remote_addr" | "network") => here("client"),
        ("", "routes" | "location") => here("route"),
        ("", "upstream" | "backend" | "origins") => here("origin"),
        ("", "listen" | "port" | "bind" | "address") => {
            Some("it belongs into `[server]`, as `listen`".to_owned())
        }
        ("[server]", "port" | "bind" | "address" | "addr") => here("listen"),
        ("[server]", _) if knows(Limits::KEYS) => {
            Some(format!("it belongs into `[server.limits]`, as `{name}`"))
        }
        ("[redis.NAME]", "host" | "server" | "servers" | "address" | "uri" | "port" | "db" | "database") => {
            here("url")
        }
        ("[redis.NAME]", "user") => here("username"),
        ("[redis.NAME]", "timeout" | "socket_timeout") => here("read_budget"),
        ("[redis.NAME]", "pool_size" | "pool") => here("max_connections"),
        ("[cache.NAME]", "key_prefix") => here("prefix"),
        ("", "sessions") => here("session"),
        ("", "cookies") => here("cookie"),
        ("[[cookie]]", "httponly" | "httpOnly") => here("http_only"),
        ("[[cookie]]", "samesite" | "sameSite") => here("same_site"),
        ("", "limits" | "rate_limit" | "ratelimit") => here("limit"),
        ("[limit.NAME]", "quota" | "limit" | "requests") => here("rate"),
        ("[origin.NAME]", "url" | "server" | "address" | "urls" | "hosts") => here("servers"),
        ("[origin.NAME]", "timeout") => here("timeouts"),
        ("[origin.NAME]", "health_check" | "check") => here("health"),
        ("cache = { … }", "max_age" | "maxage" | "expires" | "lifetime") => here("ttl"),
        ("cache = { … }", "swr") => here("stale_while_revalidate"),
        ("cache = { … }", "name" | "cache") => here("store"),
        ("tls = { … }", "certificate" | "chain") => here("cert"),
        _ => None,
    }
}

/// Every table, in the order of the reference: how it is written, what it is about, its keys.
pub(super) fn tables() -> Vec<(&'static str, &'static [&'static str], &'static [super::decode::Key])> {
    fn of<T: Table>() -> (&'static str, &'static [&'static str], &'static [super::decode::Key]) {
        (T::WRITTEN, T::ABOUT, T::KEYS)
    }
    vec![
        of::<File>(),
        of::<Route>(),
        of::<Match>(),
        of::<RouteCacheTable>(),
        of::<Rewrite>(),
        of::<HeaderEdits>(),
        of::<FixedAnswer>(),
        of::<RedirectTable>(),
        of::<Origin>(),
        of::<OriginServerTable>(),
        of::<HealthCheck>(),
        of::<OriginTimeouts>(),
        of::<Retry>(),
        of::<OriginTls>(),
        of::<Redis>(),
        of::<RedisTls>(),
        of::<Cache>(),
        of::<Model>(),
        of::<LimitTable>(),
        of::<RateTable>(),
        of::<QueueTable>(),
        of::<RouteLimitTable>(),
        of::<SessionTable>(),
        of::<PostgresTable>(),
        of::<CookieTable>(),
        of::<CookieRuleTable>(),
        of::<VaultTable>(),
        of::<Plugin>(),
        of::<PluginLimits>(),
        of::<PluginFailureTable>(),
        of::<PluginMemo>(),
        of::<Record>(),
        of::<Data>(),
        of::<Server>(),
        of::<ListenerTable>(),
        of::<Certificate>(),
        of::<Limits>(),
        of::<Admin>(),
        of::<Log>(),
        of::<Test>(),
        of::<Other>(),
    ]
}
