//! From what a person wrote (`schema.rs`) to what the proxy reads (`model.rs`): defaults, names, files, and every check across fields.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::decode::{At, ByteSize, Field, Lifetime, Named, OneOrMany, Reader, Table as _, Text, Whole};
use super::expect::Expectation;
use super::mistake::{Mistake, Source, Span, Warning, nearest};
use super::model::{
    Action, Admin, Balance, Cache, CacheRules, Certificate, Config, Data, FixedAnswer, HeaderEdits,
    HealthCheck, Limits, ListenAddress, Listener, Log, LogFormat, LogLevel, Model, OnPluginFailure,
    OnRateFailure, OnRequestFailure, Origin, OriginAddress, OriginProtocol, OriginServer, OriginTimeouts,
    Place as ConfigPlace, Plugin, Redis, RedisTls, Retry, Rewrite, Route, RouteCache, Secret, Server,
    SharedTier, WriteRule,
};
use super::schema;
use super::units::show_duration;
use crate::redis::url::Place;
use crate::routes::path::PathPattern;
use crate::routes::template::Template;
use crate::routes::{Condition, HostPattern, Matcher, Routes};
use crate::store::wire::Compression;
use cache_semantics::glob::Glob;

/// Where clients connect unless told otherwise: this machine only, because a safe default asks before it opens a door.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where operators connect unless told otherwise.
pub(super) const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

const MEMORY_MAX: u64 = 256 << 20;
const ENTRIES_MAX: u64 = 100_000;
const BODY_MAX: u64 = 8 << 20;
const REDIS_BODY_MAX: u64 = 1 << 20;
const REDIS_TTL_MAX: Duration = crate::proxy::KEEP_MAX;
/// A commit, a version, a date.
const EPOCH_BYTES_MAX: usize = 256;
/// A file that is answered with lies in memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What resolving yields: the model, what `[[test]]` expects of it, and warnings.
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) expectations: Vec<Expectation>,
    pub(super) warnings: Vec<Mistake>,
}

/// Turns the file into the model; mistakes go to the reader, and what is wrong is replaced by its default so that the rest can be checked.
pub(super) fn resolve(file: &schema::File, reader: &Reader<'_>, source: &Source, folder: &Path) -> Resolved {
    let mut resolver = Resolver {
        reader,
        source,
        folder,
        lifetimes: named(&file.ttl).map(|(name, at)| (name.value.clone(), at.value)).collect(),
        warnings: Vec::new(),
        puzzling_redis: BTreeSet::new(),
    };
    resolver.config(file)
}

pub(super) struct Resolver<'r> {
    reader: &'r Reader<'r>,
    source: &'r Source,
    folder: &'r Path,
    lifetimes: BTreeMap<String, Duration>,
    warnings: Vec<Mistake>,
    /// Names of Redis servers that are there and wrong.
    pub(super) puzzling_redis: BTreeSet<String>,
}

type RedisServers = BTreeMap<Arc<str>, Arc<Redis>>;
type RouteLimits = BTreeMap<Arc<str>, Arc<crate::limit::spec::Limit>>;

/// Whether anything of it is an address that the whole Internet may reach.
fn is_public(place: &Place) -> bool {
    let servers = match place {
        Place::Server(server) => std::slice::from_ref(server),
        Place::Cluster(servers) | Place::Sentinel { sentinels: servers, .. } => servers,
        Place::Unix(_) => &[],
    };
    servers.iter().filter_map(|server| server.host.parse::<IpAddr>().ok()).any(|address| {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                !(address.is_private()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_unspecified())
            }
            IpAddr::V6(address) => {
                !(address.is_unique_local()
                    || address.is_loopback()
                    || address.is_unicast_link_local()
                    || address.is_unspecified())
            }
        }
    })
}

/// Whether keys may begin with it: nothing that Redis, a Cluster or a pattern would read in another way.
pub(super) fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

pub(super) fn named<T>(field: &Field<Named<T>>) -> impl Iterator<Item = &(At<String>, At<T>)> {
    field.value().into_iter().flat_map(|named| &named.0)
}

pub(super) fn many<T>(field: &Field<OneOrMany<T>>) -> impl Iterator<Item = &At<T>> {
    field.value().into_iter().flat_map(|many| &many.0)
}

impl Resolver<'_> {
    pub(super) fn wrong(&self, span: &Span, message: impl Into<String>) {
        self.reader.report(Mistake::new(span.clone(), message));
    }

    pub(super) fn wrong_with_help(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.reader.report(Mistake::new(span.clone(), message).help(help));
    }

    fn config(&mut self, file: &schema::File) -> Resolved {
        let default_server = schema::Server::default();
        let server = self.server(file.server.value().unwrap_or(&default_server));
        let default_admin = schema::Admin::default();
        let admin = self.admin(file.admin.value().unwrap_or(&default_admin), &server);
        let log = self.log(file.log.value());
        let redis = self.redis_servers(file);
        let caches = self.caches(file, &redis);
        let mut origins = BTreeMap::new();
        for (name, at) in named(&file.origin) {
            let name: Arc<str> = name.value.as_str().into();
            origins.insert(Arc::clone(&name), self.origin(name, &at.value));
        }
        let limits = self.limits_of_file(file, &redis);
        let session = self.session(file, &redis);
        let routes = self.routes(file, &caches, &limits, &mut origins);
        let expectations = many(&file.test).map(|test| Expectation::of(&test.value, self.reader)).collect();
        let models = named(&file.model).filter_map(|(name, at)| self.model(&name.value, &at.value)).collect();
        let data = file.data.value().map(|data| self.data(data));
        let plugins = self.plugins(file);
        let config = Config {
            server,
            admin,
            log,
            redis,
            caches,
            origins,
            routes,
            models,
            data,
            limits,
            plugins,
            session,
        };
        self.warn(file, &config);
        Resolved {
            config,
            expectations: Vec::into_iter(expectations).flatten().collect(),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    // ---------------------------------------------------------------- values

    fn duration(&self, field: &Field<Lifetime>, default: Duration) -> Duration {
        self.maybe_duration(field).unwrap_or(default)
    }

    fn maybe_duration(&self, field: &Field<Lifetime>) -> Option<Duration> {
        let at = field.get()?;
        match &at.value {
            Lifetime::Exact(duration) => Some(*duration),
            Lifetime::Named(name) => {
                let known = self.lifetimes.get(&name.value).copied();
                if known.is_none() {
                    let help = match nearest(&name.value, self.lifetimes.keys().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "write a duration such as \"5m\", or add the name to `[ttl]`".to_owned(),
                    };
                    self.wrong_with_help(
                        &at.span,
                        format!("`{}` is neither a duration nor a name in `[ttl]`", name.shown),
                        help,
                    );
                }
                known
            }
        }
    }

    /// As [`Self::duration`], for limits where zero would mean that nothing ever succeeds.
    pub(super) fn limit_duration(&self, field: &Field<Lifetime>, default: Duration) -> Duration {
        let duration = self.duration(field, default);
        if let (true, Some(at)) = (duration.is_zero(), field.get()) {
            self.wrong_with_help(
                &at.span,
                "a limit of no time at all lets nothing pass",
                "write a longer one",
            );
            return default;
        }
        duration
    }

    fn size(&self, field: &Field<ByteSize>, default: u64, at_least: u64) -> u64 {
        let Some(at) = field.get() else { return default };
        if at.value.0 < at_least {
            let help = format!("write at least {}", super::units::show_size(at_least));
            self.wrong_with_help(&at.span, "this is too little to work with", help);
            return default;
        }
        at.value.0
    }

    fn size_usize(&self, field: &Field<ByteSize>, default: usize, at_least: u64) -> usize {
        usize::try_from(self.size(field, default as u64, at_least)).unwrap_or(usize::MAX)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A path to a file that can be read now.
    fn readable(&self, at: &At<PathBuf>) -> PathBuf {
        let path = self.path(&at.value);
        // Asked before it is opened: opening a pipe would wait for whoever writes to it.
        let checked = std::fs::metadata(&path).and_then(|data| {
            if !data.is_file() {
                return Err(std::io::Error::other("it is not a file"));
            }
            std::fs::File::open(&path)
        });
        if let Err(error) = checked {
            self.wrong(&at.span, format!("cannot read `{}`: {error}", path.display()));
        }
        path
    }

    fn template(
        &self,
        at: &At<Text>,
        names: &BTreeSet<String>,
        also: &[&str],
        what: &str,
    ) -> Option<Template> {
        let template = match Template::parse(&at.value.value) {
            Ok(template) => template,
            Err(error) => {
                self.wrong(&at.span, error.to_string());
                return None;
            }
        };
        for name in template.names() {
            if !names.contains(name) && !also.contains(&name) {
                let known = names.iter().map(String::as_str).chain(also.iter().copied());
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{{{near}}}`?"),
                    None => format!("a path pattern such as `/posts/{{{name}}}` in `match` would bind it"),
                };
                self.wrong_with_help(&at.span, format!("nothing binds the `{name}` of this {what}"), help);
                return None;
            }
        }
        Some(template)
    }

    // ---------------------------------------------------------------- [server], [admin], [log]

    fn server(&mut self, server: &schema::Server) -> Server {
        let shared_tls: Vec<Certificate> = self.certificates(&server.tls);
        let trusted_proxies: Vec<_> = many(&server.trusted_proxies).map(|at| at.value).collect();
        let mut listeners: Vec<(Listener, Span)> = Vec::new();
        for at in many(&server.listen) {
            let table = &at.value.0;
            let own_tls = self.certificates(&table.tls);
            let Some(address) = self.listen_address(table) else { continue };
            let shares = table.tls.is_absent() && matches!(address, ListenAddress::Tcp(_));
            let tls = if shares { shared_tls.clone() } else { own_tls };
            let proxy_protocol = table.proxy_protocol.or(false);
            if proxy_protocol && trusted_proxies.is_empty() && matches!(address, ListenAddress::Tcp(_)) {
                let span = table.proxy_protocol.span().unwrap_or_else(|| at.span.clone());
                self.wrong_with_help(
                    &span,
                    "nobody may connect here: a PROXY header is taken from `trusted_proxies` only, and there are none",
                    "list the networks of your proxies in `[server]` as `trusted_proxies`",
                );
            }
            let clash = listeners.iter().find(|(other, _)| overlap(&other.address, &address));
            if let Some((_, other)) = clash {
                let mistake = Mistake::new(at.span.clone(), "two listeners cannot share an address");
                self.reader.report(mistake.other(other.clone(), "this is the first"));
                continue;
            }
            listeners.push((Listener { address, tls, proxy_protocol }, at.span.clone()));
        }
        if let Some(at) = server.listen.get()
            && at.value.0.is_empty()
        {
            self.wrong_with_help(
                &at.span,
                "a server without a listener serves nobody",
                "write an address, as \"127.0.0.1:8080\"",
            );
        }
        if server.listen.is_absent() {
            let default =
                Listener { address: ListenAddress::Tcp(LISTEN), tls: shared_tls, proxy_protocol: false };
            listeners.push((default, 0..0));
        }
        let default_limits = schema::Limits::default();
        Server {
            listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
            trusted_proxies,
            drain: self.duration(&server.drain, Duration::from_secs(30)),
            workers: match server.workers.or(schema::Workers::Cores) {
                schema::Workers::Cores => std::thread::available_parallelism().map_or(1, usize::from),
                schema::Workers::Number(number) => number,
            },
            limits: self.limits(server.limits.value().unwrap_or(&default_limits)),
        }
    }

    fn listen_address(&self, table: &schema::ListenerTable) -> Option<ListenAddress> {
        let Some(at) = table.address.get() else {
            if table.address.is_absent() && table.is_clear() {
                self.wrong_with_help(
                    &table.span,
                    "this listener has no address",
                    "add `address = \"127.0.0.1:8080\"`",
                );
            }
            return None;
        };
        if let Some(path) = at.value.value.strip_prefix("unix:") {
            if path.is_empty() {
                self.wrong(&at.span, "`unix:` is followed by the path of a socket");
                return None;
            }
            let path = self.path(Path::new(path));
            if let Some(folder) = path.parent()
                && !folder.as_os_str().is_empty()
                && !folder.is_dir()
            {
                self.wrong(&at.span, format!("the socket's folder `{}` does not exist", folder.display()));
            }
            return Some(ListenAddress::Unix(path));
        }
        self.socket_address(at).map(ListenAddress::Tcp)
    }

    fn socket_address(&self, at: &At<Text>) -> Option<SocketAddr> {
        let text = at.value.value.trim();
        let full = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None if text.starts_with(':') => format!("0.0.0.0{text}"),
            None => text.to_owned(),
        };
        if let Ok(address) = full.parse() {
            return Some(address);
        }
        let help = if text.parse::<u16>().is_ok() {
            format!(
                "write \"127.0.0.1:{text}\" for this machine only, or \":{text}\" for every address of it"
            )
        } else if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            format!("add a port: \"{}\"", SocketAddr::new(address, 8080))
        } else if text.contains("://") {
            "write an address and a port, without a scheme, as \"127.0.0.1:8080\"; TLS is switched on by `tls = { … }`".to_owned()
        } else {
            "write an address and a port, as \"127.0.0.1:8080\", \":8080\" or \"[::1]:8080\"; names are not looked up here".to_owned()
        };
        self.wrong_with_help(&at.span, format!("`{}` is not an address to listen on", at.value.shown), help);
        None
    }

    fn certificates(&self, field: &Field<OneOrMany<schema::Certificate>>) -> Vec<Certificate> {
        many(field)
            .filter_map(|at| {
                self.certificate((&at.value.cert, &at.value.key), &at.value.span(), at.value.is_clear())
            })
            .collect()
    }

    fn certificate(
        &self,
        (cert, key): (&Field<PathBuf>, &Field<PathBuf>),
        span: &Span,
        is_clear: bool,
    ) -> Option<Certificate> {
        for (field, name) in [(cert, "cert"), (key, "key")] {
            if field.is_absent() && is_clear {
                self.wrong_with_help(
                    span,
                    format!("a certificate needs `{name}`"),
                    "write `{ cert = \"cert.pem\", key = \"key.pem\" }`",
                );
            }
        }
        let (cert_at, key_at) = (cert.get()?, key.get()?);
        let pair = Certificate { cert: self.readable(cert_at), key: self.readable(key_at) };
        let read = |path: &Path| {
            let is_file = std::fs::metadata(path).is_ok_and(|data| data.is_file());
            is_file.then(|| std::fs::read(path).ok()).flatten()
        };
        if let (Some(chain), Some(private)) = (read(&pair.cert), read(&pair.key))
            && let Err(fault) = super::certificate::check_pair(&chain, &private)
        {
            let at = if fault.in_key { &key_at.span } else { &cert_at.span };
            self.wrong_with_help(at, fault.message, fault.help);
        }
        Some(pair)
    }

    fn limits(&self, limits: &schema::Limits) -> Limits {
        let default = Limits::default();
        let head_bytes = self.size_usize(&limits.head_bytes, default.head_bytes, 1 << 10);
        let line_bytes = self.size_usize(&limits.line_bytes, default.line_bytes.min(head_bytes), 256);
        if line_bytes > head_bytes
            && let Some(at) = limits.line_bytes.get()
        {
            self.wrong_with_help(
                &at.span,
                "a request line is part of the head, and cannot be longer than `head_bytes`",
                "raise `head_bytes`, or lower this",
            );
        }
        Limits {
            line_bytes,
            head_bytes,
            head_fields: to_usize(&limits.head_fields, default.head_fields),
            connections: to_usize(&limits.connections, default.connections),
            connections_per_address: to_usize(
                &limits.connections_per_address,
                default.connections_per_address,
            ),
            streams: to_u32(&limits.streams, default.streams),
            resets: to_usize(&limits.resets, default.resets),
            head_timeout: self.limit_duration(&limits.head_timeout, default.head_timeout),
            idle_timeout: self.limit_duration(&limits.idle_timeout, default.idle_timeout),
            rate_bytes_min: self.size(&limits.rate_bytes_min, default.rate_bytes_min, 0),
            keep_alive: self.limit_duration(&limits.keep_alive, default.keep_alive),
            body_bytes: self.size(&limits.body_bytes, default.body_bytes, 0),
            interim_responses: to_usize(&limits.interim_responses, default.interim_responses),
            waiters: to_usize(&limits.waiters, default.waiters),
            variants: to_usize(&limits.variants, default.variants),
            handshake_timeout: self.limit_duration(&limits.handshake_timeout, default.handshake_timeout),
        }
    }

    fn admin(&self, admin: &schema::Admin, server: &Server) -> Option<Admin> {
        let token = admin.token.get().and_then(|at| {
            // An unset variable (`${TOKEN:-}`) leaves the token out.
            let token = at.value.0.trim();
            if !token.is_empty() && token.len() < 16 {
                self.wrong_with_help(
                    &at.span,
                    "a token of fewer than 16 characters can be guessed",
                    "take a random one, as `openssl rand -hex 24` prints",
                );
            }
            (!token.is_empty()).then(|| Secret(token.to_owned()))
        });
        let listen = match admin.listen.get() {
            Some(at) if at.value.value == "off" => return None,
            Some(at) => {
                let address = self.socket_address(at)?;
                let clash =
                    server.listeners.iter().any(|one| overlap(&one.address, &ListenAddress::Tcp(address)));
                if clash {
                    self.wrong_with_help(
                        &at.span,
                        "clients can reach this address: it is one of `[server]`",
                        "give the admin listener a port of its own",
                    );
                }
                address
            }
            None => ADMIN_LISTEN,
        };
        Some(Admin { listen, token })
    }

    fn log(&self, log: Option<&schema::Log>) -> Log {
        let default = schema::Log::default();
        let log = log.unwrap_or(&default);
        Log {
            level: log.level.or(LogLevel::Info),
            format: log.format.or(LogFormat::Console),
            access: log.access.or(schema::AccessLog(Some(LogFormat::Console))).0,
        }
    }

    // ---------------------------------------------------------------- [model.NAME], [data]

    fn model(&self, name: &str, model: &schema::Model) -> Option<Model> {
        let mut bound = BTreeSet::new();
        let mut written_by = Vec::new();
        for at in many(&model.written_by) {
            if let Some(rule) = self.write_rule(at) {
                bound.extend(rule.path.names().map(str::to_owned));
                written_by.push(rule);
            }
        }
        if many(&model.purge).next().is_none() {
            self.wrong_with_help(
                &model.span,
                format!("model `{name}` purges nothing"),
                "add `purge = [\"tag\"]`: the tags that its pages carry",
            );
            return None;
        }
        let purge = many(&model.purge).filter_map(|at| self.tag(at, &bound)).collect();
        Some(Model { name: name.into(), written_by, purge })
    }

    /// `PUT|DELETE /api/posts/{id}`, or a path alone.
    fn write_rule(&self, at: &At<Text>) -> Option<WriteRule> {
        let text = at.value.value.trim();
        let (words, path) = match text.split_once(char::is_whitespace) {
            Some((methods, path)) => (methods, path.trim_start()),
            None => ("", text),
        };
        // What was filled in from outside may be a secret.
        let show = |text: &str| if at.value.filled { at.value.shown.clone() } else { text.to_owned() };
        let mut methods = Vec::new();
        for word in words.split('|').filter(|word| !word.is_empty()) {
            let known = ["POST", "PUT", "PATCH", "DELETE"];
            let method = Method::from_bytes(word.as_bytes()).ok().filter(|method| !method.is_safe());
            let Some(method) = method.filter(|method| {
                known.contains(&method.as_str())
                    || word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())
            }) else {
                let help = match nearest(&word.to_ascii_uppercase(), known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "write methods that change something, as in \"PUT|DELETE /api/posts/{id}\"".to_owned()
                    }
                };
                self.wrong_with_help(&at.span, format!("`{}` is no method that writes", show(word)), help);
                return None;
            };
            methods.push(method);
        }
        match PathPattern::parse(path, false) {
            Ok(path) => Some(WriteRule { methods, path }),
            Err(error) => {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not a path: {error}", show(path)),
                    "write methods and a path, as in \"PUT|DELETE /api/posts/{id}\"",
                );
                None
            }
        }
    }

    fn data(&self, data: &schema::Data) -> Data {
        let path = data.path.value().cloned().unwrap_or_else(|| PathBuf::from("weir-data"));
        Data {
            path: self.folder.join(path),
            cache_size: data.cache_size.value().map_or(2 << 30, |size| size.0),
        }
    }

    // ---------------------------------------------------------------- [plugin.NAME]

    fn plugins(&self, file: &schema::File) -> BTreeMap<Arc<str>, Arc<Plugin>> {
        let read = named(&file.plugin).map(|(name, at)| {
            let name: Arc<str> = name.value.as_str().into();
            (name.clone(), Arc::new(self.plugin(name, &at.value)))
        });
        read.collect()
    }

    fn plugin(&self, name: Arc<str>, plugin: &schema::Plugin) -> Plugin {
        let path = match plugin.path.get() {
            Some(at) => self.readable(at),
            None => {
                if plugin.path.is_absent() && plugin.is_clear() {
                    let message = format!("plugin `{name}` has no file");
                    self.wrong_with_help(&plugin.span, message, "add `path = \"NAME.wasm\"`");
                }
                PathBuf::new()
            }
        };
        let config = plugin.config.get();
        if let Some(at) = config.filter(|at| !at.value.0.is_object()) {
            self.wrong_with_help(
                &at.span,
                "the configuration of a plugin is a table",
                "as in `config = { drop = [\"utm_*\"] }`",
            );
        }
        let default_limits = schema::PluginLimits::default();
        let limits = plugin.limits.value().unwrap_or(&default_limits);
        let default_memo = schema::PluginMemo::default();
        let memo = plugin.memo.value().unwrap_or(&default_memo);
        Plugin {
            name,
            place: self.source.place(plugin.span.start),
            path,
            config: config.map_or_else(|| "{}".to_owned(), |at| at.value.0.to_string()),
            grants: many(&plugin.grants).filter_map(|at| self.grant(at)).collect(),
            time: self.limit_duration(&limits.time, Duration::from_millis(10)),
            configure_time: self.limit_duration(&limits.configure, Duration::from_millis(500)),
            memory: self.size_usize(&limits.memory, 16 << 20, 1 << 16),
            state: self.size_usize(&limits.state, 8 << 20, 0),
            memo_entries: to_usize(&memo.entries, 16_384),
            memo_bytes: self.size_usize(&memo.bytes, 8 << 20, 0),
            on_failure: match plugin.on_failure.value() {
                None | Some(schema::PluginFailure::Safe) => OnPluginFailure::default(),
                Some(schema::PluginFailure::Table(table)) => OnPluginFailure {
                    request: table.request.or(OnRequestFailure::Bypass),
                    response_as_default: table.response.value() == Some(&schema::OnResponseFailure::Default),
                    invalidate_uri_only: table.invalidate.value()
                        == Some(&schema::OnInvalidateFailure::UriOnly),
                    rate: table.rate.or(OnRateFailure::ClientIp),
                },
            },
        }
    }

    fn grant(&self, at: &At<Text>) -> Option<String> {
        let checked = crate::plugin::check_grant(&at.value.value);
        if let Err(help) = &checked {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is nothing that can be granted", at.value.shown),
                help.clone(),
            );
        }
        checked.ok().map(|()| at.value.value.clone())
    }

    /// The plugins that a route names.
    fn plugins_of_route(&self, route: &schema::Route, known: &[String]) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for at in many(&route.plugins) {
            let name = at.value.value.as_str();
            if !known.iter().any(|known| known == name) {
                let help = match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add `[plugin.{}]`", at.value.shown),
                };
                self.wrong_with_help(&at.span, format!("there is no plugin `{}`", at.value.shown), help);
            } else if names.iter().any(|other| **other == *name) {
                self.wrong(&at.span, format!("`{name}` stands here twice"));
            } else {
                names.push(name.into());
            }
        }
        names
    }

    // ---------------------------------------------------------------- [cache.NAME]

    fn caches(&mut self, file: &schema::File, redis: &RedisServers) -> BTreeMap<Arc<str>, Cache> {
        let mut caches = BTreeMap::new();
        for (name, at) in named(&file.cache) {
            let name: Arc<str> = name.value.as_str().into();
            let cache = self.cache(Arc::clone(&name), &at.value, redis);
            let same_place = |other: &&Cache| match (&cache.shared, &other.shared) {
                (Some(mine), Some(other)) => mine.redis == other.redis && mine.prefix == other.prefix,
                _ => false,
            };
            if let Some(other) = caches.values().find(same_place) {
                let span = at.value.redis.span().unwrap_or_else(|| at.span.clone());
                self.wrong_with_help(
                    &span,
                    format!("caches `{}` and `{name}` would overwrite each other in Redis", other.name),
                    "give each a `prefix` of its own",
                );
            }
            caches.insert(name, cache);
        }
        if !caches.contains_key("default") {
            caches.insert("default".into(), self.cache("default".into(), &schema::Cache::default(), redis));
        }
        caches
    }

    /// The tier in Redis, if the cache names one.
    fn shared_tier(&mut self, name: &str, cache: &schema::Cache, redis: &RedisServers) -> Option<SharedTier> {
        let at = cache.redis.get()?;
        let Some(server) = redis.get(&*at.value.value) else {
            // One whose URL is wrong has been reported.
            if !self.puzzling_redis.contains(&at.value.value) {
                let help = match nearest(&at.value.value, redis.keys().map(|name| &**name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add `[redis.{}]` with its `url`", at.value.shown),
                };
                self.wrong_with_help(&at.span, format!("there is no Redis `{}`", at.value.shown), help);
            }
            return None;
        };
        let prefix = match cache.prefix.get() {
            Some(at) if !is_prefix(&at.value.value) => {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` cannot begin a key", at.value.shown),
                    "write up to 64 letters, digits, `-`, `_`, `.` and `:`",
                );
                name.to_owned()
            }
            Some(at) => at.value.value.clone(),
            None if is_prefix(name) => name.to_owned(),
            None => {
                self.wrong_with_help(
                    &at.span,
                    format!("the cache's name `{name}` cannot begin its keys"),
                    "give it a `prefix`",
                );
                return None;
            }
        };
        let version = cache.version.value().map_or(0, |number| number.0);
        let database = match server.url.database {
            number if server.url.is_cluster() && number > 0 => format!(":db{number}"),
            _ => String::new(),
        };
        let max_body = self.size(&cache.redis_max_body, REDIS_BODY_MAX, 1024);
        Some(SharedTier {
            redis: server.name.clone(),
            prefix: format!("{prefix}:v{version}{database}").into(),
            log: format!("{prefix}{database}").into(),
            required: cache.on_redis_error.or(schema::OnRedisError::Ignore) == schema::OnRedisError::Fail,
            max_body,
            max_ttl: self.redis_max_ttl(&cache.redis_max_ttl),
            compression: cache.compression.or(Compression::Zstd),
        })
    }

    fn redis_max_ttl(&self, field: &Field<Lifetime>) -> Duration {
        let ttl = self.limit_duration(field, REDIS_TTL_MAX);
        if let (true, Some(at)) = (ttl > REDIS_TTL_MAX, field.get()) {
            self.wrong_with_help(
                &at.span,
                "nothing may stay in Redis longer than purges are remembered",
                format!("write at most \"{}\"", show_duration(REDIS_TTL_MAX)),
            );
        }
        ttl.min(REDIS_TTL_MAX)
    }

    // ---------------------------------------------------------------- [redis.NAME]

    fn redis_servers(&mut self, file: &schema::File) -> RedisServers {
        let mut servers = BTreeMap::new();
        for (name, at) in named(&file.redis) {
            match self.redis(&name.value, &at.value) {
                Some(server) => {
                    servers.insert(Arc::clone(&server.name), Arc::new(server));
                }
                None => {
                    self.puzzling_redis.insert(name.value.clone());
                }
            }
        }
        servers
    }

    fn redis(&mut self, name: &str, redis: &schema::Redis) -> Option<Redis> {
        if redis.url.is_absent() && redis.is_clear() {
            self.wrong_with_help(
                &redis.span,
                format!("Redis `{name}` has no URL"),
                "add `url = \"redis://127.0.0.1:6379\"`",
            );
        }
        let default_tls = schema::RedisTls::default();
        let tls = redis.tls.value().unwrap_or(&default_tls);
        let client = match (&tls.cert, &tls.key) {
            (Field::Absent, Field::Absent) => None,
            pair => self.certificate(pair, &tls.span, tls.is_clear()),
        };
        let ca = tls.ca.get().map(|at| self.readable(at));
        let mut password = redis.password.value().map(|password| Secret(password.0.clone()));
        if let (Some(file), Some(other)) = (redis.password_file.get(), redis.password.span()) {
            self.reader.report(
                Mistake::new(file.span.clone(), "there cannot be both `password` and `password_file`")
                    .other(other, "`password` stands here"),
            );
        } else if let Some(file) = redis.password_file.get() {
            password = self.password_of(file);
        }
        let at = redis.url.get()?;
        let mut url = at.value.0.clone();
        if let Some(span) = redis.password.span().or_else(|| redis.password_file.span())
            && url.password.is_some()
        {
            self.reader.report(
                Mistake::new(span, "the password is in the URL already")
                    .other(at.span.clone(), "here")
                    .help("write it once; the environment or a file is the better place"),
            );
        }
        url.password = password.or(url.password);
        if let Some(user) = redis.username.value() {
            url.username = Some(user.value.clone());
        }
        if let Place::Unix(path) = &mut url.place {
            *path = self.path(path.as_path());
        }
        if let Some(span) = redis.tls.span()
            && !url.tls
        {
            self.wrong_with_help(&span, "this Redis is not spoken to by TLS", "write `rediss://` in `url`");
        }
        if url.password.is_none() && is_public(&url.place) {
            let message = "this Redis has a public address, and no password";
            self.warnings.push(
                Mistake::new(at.span.clone(), message)
                    .help("set `requirepass` or an ACL user in redis.conf, and `password` here"),
            );
        }
        if url.is_cluster() && url.database > 0 {
            let message = format!("a Cluster has one database: {} becomes part of every key", url.database);
            self.warnings.push(Mistake::new(at.span.clone(), message).help("leave it out of the URL"));
        }
        Some(Redis {
            tls: RedisTls { ca, client },
            connect_timeout: self.limit_duration(&redis.connect_timeout, Duration::from_secs(5)),
            read_budget: self.limit_duration(&redis.read_budget, Duration::from_millis(25)),
            write_budget: self.limit_duration(&redis.write_budget, Duration::from_millis(250)),
            max_connections: to_u32(&redis.max_connections, 50),
            health_interval: self.limit_duration(&redis.health_interval, Duration::from_secs(5)),
            ..Redis::new(name, url)
        })
    }

    /// A variable that is not set stands for none.
    fn epoch(&self, field: &Field<Text>) -> Option<Arc<str>> {
        let at = field.get().filter(|at| !at.value.value.is_empty())?;
        if at.value.value.len() > EPOCH_BYTES_MAX {
            self.wrong(&at.span, format!("an epoch has at most {EPOCH_BYTES_MAX} bytes"));
        }
        Some(at.value.value.as_str().into())
    }

    fn password_of(&self, file: &At<PathBuf>) -> Option<Secret> {
        let path = self.readable(file);
        let is_file = std::fs::metadata(&path).is_ok_and(|data| data.is_file());
        // What cannot be read has been reported.
        let text = is_file.then(|| std::fs::read_to_string(&path).ok()).flatten()?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            self.wrong(&file.span, "this file holds no password");
        }
        Some(Secret(text.to_owned()))
    }

    fn cache(&mut self, name: Arc<str>, cache: &schema::Cache, redis: &RedisServers) -> Cache {
        let shared = self.shared_tier(&name, cache, redis);
        let max_memory = self.size(&cache.max_memory, MEMORY_MAX, 1 << 20);
        let max_body = match cache.max_body.get() {
            Some(at) if at.value.0 > max_memory / 8 => {
                let eighth = super::units::show_size(max_memory / 8);
                self.wrong_with_help(
                    &at.span,
                    "one body could push everything else out of memory",
                    format!("write at most an eighth of `max_memory`: {eighth}"),
                );
                BODY_MAX
            }
            Some(at) => at.value.0,
            None => BODY_MAX.min(max_memory / 8),
        };
        Cache {
            name,
            enabled: cache.kind.or(schema::CacheKind::Memory) == schema::CacheKind::Memory,
            max_memory,
            max_entries: cache.max_entries.value().map_or(ENTRIES_MAX, |number| number.0),
            max_body,
            version: cache.version.value().map_or(0, |number| number.0),
            epoch: self.epoch(&cache.epoch),
            epoch_grace: self.maybe_duration(&cache.epoch_grace).unwrap_or_default(),
            shared,
            defaults: CacheRules {
                ttl: self.maybe_duration(&cache.ttl),
                error_ttl_max: self.maybe_duration(&cache.error_ttl_max),
                stale_while_revalidate: self.maybe_duration(&cache.stale_while_revalidate),
                stale_if_error: self.maybe_duration(&cache.stale_if_error),
                store_set_cookie: cache.store_set_cookie.or(false),
                overrides: Vec::new(),
                compress: cache.compress.value().copied(),
                strict: cache.unverified.value().map(|word| *word == schema::Unverified::Strict),
            },
        }
    }

    // ---------------------------------------------------------------- [origin.NAME]

    fn origin(&self, name: Arc<str>, origin: &schema::Origin) -> Origin {
        let servers: Vec<OriginServer> =
            many(&origin.servers).filter_map(|at| self.origin_server(&at.value.0)).collect();
        let is_missing = origin.servers.is_absent() && origin.is_clear();
        if is_missing || origin.servers.value().is_some_and(|servers| servers.0.is_empty()) {
            let span = origin.servers.span().unwrap_or_else(|| origin.span.clone());
            self.wrong_with_help(
                &span,
                format!("origin `{name}` has no servers"),
                "add `servers = [\"http://127.0.0.1:8000\"]`",
            );
        }
        let health = origin.health.get().map(|at| self.health(&at.value));
        let default_timeouts = schema::OriginTimeouts::default();
        let timeouts = origin.timeouts.value().unwrap_or(&default_timeouts);
        let default_retry = schema::Retry::default();
        let retry = origin.retry.value().unwrap_or(&default_retry);
        let default_tls = schema::OriginTls::default();
        let tls = origin.tls.value().unwrap_or(&default_tls);
        if let Some(at) = origin.tls.get()
            && !servers.is_empty()
            && !servers.iter().any(|server| server.tls)
        {
            self.wrong_with_help(
                &at.span,
                "no server of this origin speaks TLS",
                "write `https://` in `servers`",
            );
        }
        let tls_client = match (&tls.cert, &tls.key) {
            (Field::Absent, Field::Absent) => None,
            pair => self.certificate(pair, &tls.span, tls.is_clear()),
        };
        let seconds = Duration::from_secs;
        Origin {
            name,
            servers,
            balance: origin.balance.or(Balance::RoundRobin),
            health,
            max_failures: to_u32(&origin.max_failures, 5),
            rest: self.duration(&origin.rest, seconds(10)),
            slow_start: self.duration(&origin.slow_start, seconds(10)),
            timeouts: OriginTimeouts {
                connect: self.limit_duration(&timeouts.connect, seconds(2)),
                first_byte: self.limit_duration(&timeouts.first_byte, seconds(30)),
                idle: self.limit_duration(&timeouts.idle, seconds(60)),
                keep_alive: self.duration(&timeouts.keep_alive, seconds(60)),
                tunnel: self.limit_duration(&timeouts.tunnel, seconds(3600)),
            },
            retry: Retry {
                attempts: to_u32(&retry.attempts, 1),
                budget: retry.budget.value().map_or(0.1, |share| share.0),
            },
            protocol: origin.protocol.or(OriginProtocol::Auto),
            max_connections: to_usize(&origin.max_connections, 1024),
            max_queue: to_usize(&origin.max_queue, 1024),
            proxy_protocol: origin.proxy_protocol.value().map(|version| if version.0 == 1 { 1 } else { 2 }),
            tls_ca: tls.ca.get().map(|at| self.readable(at)),
            tls_client,
            tls_name: tls.name.value().map(|name| name.value.clone()),
            own_host: origin.host.or(schema::HostChoice::Client) == schema::HostChoice::Server,
        }
    }

    fn health(&self, health: &schema::HealthCheck) -> HealthCheck {
        let path = match health.path.get() {
            Some(at)
                if !at.value.value.starts_with('/')
                    || http::uri::PathAndQuery::try_from(&*at.value.value).is_err() =>
            {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not a path", at.value.shown),
                    "it begins with `/`, as \"/healthz\"",
                );
                "/".to_owned()
            }
            Some(at) => at.value.value.clone(),
            None => "/".to_owned(),
        };
        let every = self.limit_duration(&health.every, Duration::from_secs(10));
        HealthCheck {
            path,
            every,
            timeout: self.limit_duration(&health.timeout, Duration::from_secs(2)),
            unhealthy_after: to_u32(&health.unhealthy_after, 2),
            healthy_after: to_u32(&health.healthy_after, 2),
        }
    }

    fn origin_server(&self, server: &schema::OriginServerTable) -> Option<OriginServer> {
        let Some(at) = server.url.get() else {
            if server.url.is_absent() && server.is_clear() {
                self.wrong_with_help(
                    &server.span,
                    "this server has no URL",
                    "add `url = \"http://127.0.0.1:8000\"`",
                );
            }
            return None;
        };
        let weight = server.weight.value().map_or(1, |weight| u32::try_from(weight.0).unwrap_or(u32::MAX));
        let (tls, address) = self.origin_url(at)?;
        Some(OriginServer { tls, address, weight })
    }

    fn origin_url(&self, at: &At<Text>) -> Option<(bool, OriginAddress)> {
        match parse_origin_url(&at.value.value) {
            Ok((tls, OriginAddress::Unix(path))) => Some((tls, OriginAddress::Unix(self.path(&path)))),
            Ok(server) => Some(server),
            Err(help) => {
                // A password may stand before the host.
                if at.value.value.contains('@') {
                    self.reader.conceal(at.span.clone());
                }
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not the URL of a server", shown_url(&at.value)),
                    help,
                );
                None
            }
        }
    }

    // ---------------------------------------------------------------- [[route]]

    fn routes(
        &mut self,
        file: &schema::File,
        caches: &BTreeMap<Arc<str>, Cache>,
        limits: &RouteLimits,
        origins: &mut BTreeMap<Arc<str>, Origin>,
    ) -> Vec<Arc<Route>> {
        let missing = (file.route.is_absent() && file.is_clear())
            || file.route.value().is_some_and(|routes| routes.0.is_empty());
        if missing {
            let help = "the shortest one is\n\n    [[route]]\n    origin = \"http://127.0.0.1:8000\"\n";
            self.wrong_with_help(&(0..0), "there is no route, so nothing could be answered", help);
        }
        let mut routes: Vec<Arc<Route>> = Vec::new();
        let mut names: BTreeMap<String, Span> = BTreeMap::new();
        let plugins: Vec<String> = named(&file.plugin).map(|(name, _)| name.value.clone()).collect();
        for (index, at) in many(&file.route).enumerate() {
            let route = &at.value;
            let name = match route.name.get() {
                Some(name) => {
                    if name.value.value.trim().is_empty() || name.value.value == "none" {
                        self.wrong(&name.span, "this cannot be the name of a route");
                    }
                    if let Some(first) = names.insert(name.value.value.clone(), name.span.clone()) {
                        let message = format!("there are two routes named `{}`", name.value.shown);
                        self.reader.report(
                            Mistake::new(name.span.clone(), message).other(first, "this is the first"),
                        );
                    }
                    name.value.value.clone()
                }
                None => format!("route {}", index + 1),
            };
            let mut resolved = self.route(&name, route, caches, origins);
            resolved.limits = self.limits_of_route(&route.limits, file, limits);
            resolved.plugins = self.plugins_of_route(route, &plugins);
            resolved.session = self.session_of_route(&route.session, file);
            routes.push(Arc::new(resolved));
        }
        routes
    }

    fn route(
        &mut self,
        name: &str,
        route: &schema::Route,
        caches: &BTreeMap<Arc<str>, Cache>,
        origins: &mut BTreeMap<Arc<str>, Origin>,
    ) -> Route {
        let mut matcher = self.matcher(route.r#match.value());
        if matches!(route.redirect.value(), Some(schema::Redirect::Https)) {
            let scheme = route.r#match.value().and_then(|matching| matching.scheme.get());
            if let Some(at) = scheme.filter(|at| at.value == schema::SchemeWord::Https) {
                self.wrong(&at.span, "a request that came by https cannot be redirected to https");
            }
            // Anything else would send a browser round in circles.
            matcher.https = Some(false);
        }
        let bound = bound_names(&matcher);
        let action = self.action(route, &bound, origins);
        let forwards = matches!(action, Action::Forward(_));
        let place = self.source.place(route.span.start);
        if !forwards {
            let idle = [
                ("cache", route.cache.span()),
                ("rewrite", route.rewrite.span()),
                ("request_headers", route.request_headers.span()),
                ("fallback", route.fallback.span()),
                ("websocket", route.websocket.span()),
                ("body_bytes", route.body_bytes.span()),
                ("plugins", route.plugins.span()),
            ];
            let has_other_action = !route.redirect.is_absent() || !route.respond.is_absent();
            for (key, span) in idle {
                if let (Some(span), true) = (span, has_other_action) {
                    self.wrong_with_help(
                        &span,
                        format!("`{key}` means nothing on a route without origin"),
                        "leave it out",
                    );
                }
            }
        }
        Route {
            name: name.into(),
            place: ConfigPlace { ..place },
            // Read in any case, for the sake of its mistakes.
            cache: self.route_cache(&route.cache, caches, &bound).filter(|_| forwards),
            rewrite: self.rewrite(route.rewrite.value(), &bound),
            request_headers: self.header_edits(route.request_headers.value()),
            response_headers: self.header_edits(route.response_headers.value()),
            fallback: route.fallback.get().and_then(|at| self.fixed_answer(&at.value)),
            websocket: route.websocket.or(false),
            body_bytes: route.body_bytes.value().map(|size| size.0),
            limits: Vec::new(),
            plugins: Vec::new(),
            session: crate::session::spec::Use::Off,
            matcher,
            action,
        }
    }

    fn action(
        &self,
        route: &schema::Route,
        bound: &BTreeSet<String>,
        origins: &mut BTreeMap<Arc<str>, Origin>,
    ) -> Action {
        let given: Vec<(&str, Span)> = [
            ("origin", route.origin.span()),
            ("redirect", route.redirect.span()),
            ("respond", route.respond.span()),
        ]
        .into_iter()
        .filter_map(|(key, span)| Some((key, span?)))
        .collect();
        match &given[..] {
            [] if route.puzzling => {}
            [] => self.wrong_with_help(
                &route.span,
                "this route does not say what to do",
                "add `origin = \"http://127.0.0.1:8000\"`, `redirect = \"https\"` or `respond = { … }`",
            ),
            [_] => {}
            [(first, at), (second, other), ..] => self.reader.report(
                Mistake::new(other.clone(), format!("a route cannot have both `{first}` and `{second}`"))
                    .other(at.clone(), format!("`{first}` stands here"))
                    .help("make two routes of it"),
            ),
        }
        if let Some(at) = route.redirect.get() {
            return self.redirect(&at.value, bound);
        }
        if let Some(at) = route.respond.get() {
            return Action::Respond(self.fixed_answer(&at.value).unwrap_or_else(nothing));
        }
        let Some(at) = route.origin.get() else { return Action::Respond(nothing()) };
        let text = &at.value.0;
        let known = origins.keys().find(|name| ***name == text.value).cloned();
        if let Some(name) = known {
            return Action::Forward(name);
        }
        if !looks_like_url(&text.value) {
            let near = nearest(&text.value, origins.keys().map(|name| &**name));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("add `[origin.{}]`, or write a URL such as \"http://127.0.0.1:8000\"", text.shown)
                }
            };
            self.wrong_with_help(&at.span, format!("there is no origin `{}`", text.shown), help);
            return Action::Respond(nothing());
        }
        let url = At { value: text.clone(), span: at.span.clone() };
        let Some((tls, address)) = self.origin_url(&url) else { return Action::Respond(nothing()) };
        let name: Arc<str> = origin_name(tls, &address).into();
        if !origins.contains_key(&name) {
            let mut origin = self.origin(Arc::clone(&name), &given_servers());
            origin.servers = vec![OriginServer { tls, address, weight: 1 }];
            origins.insert(Arc::clone(&name), origin);
        }
        Action::Forward(name)
    }

    fn redirect(&self, redirect: &schema::Redirect, bound: &BTreeSet<String>) -> Action {
        let table = match redirect {
            schema::Redirect::Https => return Action::RedirectToHttps,
            schema::Redirect::Table(table) => table,
        };
        let status = match table.status.get() {
            None => StatusCode::FOUND,
            Some(at) => match at.value.0 {
                301 => StatusCode::MOVED_PERMANENTLY,
                302 => StatusCode::FOUND,
                303 => StatusCode::SEE_OTHER,
                307 => StatusCode::TEMPORARY_REDIRECT,
                308 => StatusCode::PERMANENT_REDIRECT,
                other => {
                    self.wrong_with_help(
                        &at.span,
                        format!("{other} is not a redirect"),
                        "write 301, 302, 303, 307 or 308",
                    );
                    StatusCode::FOUND
                }
            },
        };
        let location = match table.to.get() {
            None => {
                if table.to.is_absent() && table.is_clear() {
                    self.wrong_with_help(
                        &table.span,
                        "this redirect leads nowhere",
                        "add `to = \"https://www.example.com{path}{query}\"`",
                    );
                }
                None
            }
            Some(at) => {
                let template = self.template(at, bound, &["path", "query", "host"], "location");
                if !is_location(&at.value.value) {
                    self.wrong_with_help(
                        &at.span,
                        format!("`{}` is not a location", at.value.shown),
                        "write a URL, or a path that begins with `/`; spaces and letters beyond ASCII are percent-encoded",
                    );
                }
                template
            }
        };
        let location = location.unwrap_or_else(|| Template::parse("/").expect("a slash is a template"));
        Action::Redirect { status, location }
    }

    fn matcher(&self, matching: Option<&schema::Match>) -> Matcher {
        let Some(matching) = matching else { return Matcher::default() };
        let ignore_case = matching.ignore_case.or(false);
        let hosts = many(&matching.host).filter_map(|at| {
            let pattern = HostPattern::parse(&at.value.value);
            if pattern.is_none() {
                let help = if at.value.value.contains("://") || at.value.value.contains('/') {
                    "write the host alone; what follows it goes into `path`"
                } else if at.value.value == "*" {
                    "leave `host` out to match every host"
                } else {
                    "write \"example.com\", or \"*.example.com\" for all below it; ports do not matter"
                };
                self.wrong_with_help(&at.span, format!("`{}` is not a host", at.value.shown), help);
            }
            pattern
        });
        let paths = many(&matching.path).filter_map(|at| {
            PathPattern::parse(&at.value.value, ignore_case)
                .map_err(|error| {
                    let mistake = Mistake::new(at.span.clone(), error.to_string());
                    let text = &at.value.value;
                    self.reader.report(match error {
                        crate::routes::path::PatternError::NoSlash => mistake.help(format!(
                            "write \"/{}\"",
                            text.trim_start_matches('*').trim_start_matches('/')
                        )),
                        crate::routes::path::PatternError::NotPath('?') => {
                            mistake.help("parameters are matched by `query = { name = \"value\" }`")
                        }
                        _ => mistake,
                    });
                })
                .ok()
        });
        let methods = many(&matching.methods).filter_map(|at| {
            let text = &at.value.value;
            let method =
                Method::from_bytes(text.as_bytes()).ok().filter(|_| *text == text.to_ascii_uppercase());
            if method.is_none() {
                let help =
                    format!("did you mean `{}`? Methods are written in capitals", text.to_ascii_uppercase());
                self.wrong_with_help(&at.span, format!("`{}` is not a method", at.value.shown), help);
            }
            method
        });
        let headers = named(&matching.header)
            .filter_map(|(name, at)| self.header_name(name).map(|name| (name, condition(&at.value))));
        let query = named(&matching.query).map(|(name, at)| (name.value.clone(), condition(&at.value)));
        Matcher {
            https: matching.scheme.value().map(|scheme| *scheme == schema::SchemeWord::Https),
            hosts: hosts.collect(),
            paths: paths.collect(),
            methods: methods.collect(),
            headers: headers.collect(),
            query: query.collect(),
            clients: many(&matching.client).map(|at| at.value).collect(),
        }
    }

    fn header_name(&self, name: &At<String>) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.value.as_bytes()).ok();
        if parsed.is_none() {
            self.wrong(&name.span, format!("`{}` is not the name of a field", name.value));
        }
        parsed
    }

    fn header_value(&self, at: &At<Text>) -> Option<HeaderValue> {
        let value = HeaderValue::from_bytes(at.value.value.as_bytes());
        match value {
            Ok(mut value) => {
                // What came from outside of the file may be a secret.
                value.set_sensitive(at.value.filled);
                Some(value)
            }
            Err(_) => {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` cannot be the value of a field", at.value.shown.escape_debug()),
                    "line ends and other control characters cannot stand in it",
                );
                None
            }
        }
    }

    fn header_edits(&self, edits: Option<&schema::HeaderEdits>) -> HeaderEdits {
        let Some(edits) = edits else { return HeaderEdits::default() };
        let set = named(&edits.set).filter_map(|(name, at)| {
            let field = self.editable_name(name)?;
            Some((field, self.header_value(at)?))
        });
        let remove = many(&edits.remove).filter_map(|at| {
            self.editable_name(&At { value: at.value.value.clone(), span: at.span.clone() })
        });
        HeaderEdits { set: set.collect(), remove: remove.collect() }
    }

    /// hardening: what frames a message, and what holds only for one connection, is the proxy's alone.
    fn editable_name(&self, name: &At<String>) -> Option<HeaderName> {
        const OURS: [&str; 8] = [
            "connection",
            "content-length",
            "transfer-encoding",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-connection",
        ];
        let field = self.header_name(name)?;
        if OURS.contains(&field.as_str()) {
            self.wrong_with_help(
                &name.span,
                format!("`{}` belongs to the connection, and cannot be changed", name.value),
                "leave it out: Weir makes it anew for each connection",
            );
            return None;
        }
        Some(field)
    }

    fn rewrite(&self, rewrite: Option<&schema::Rewrite>, bound: &BTreeSet<String>) -> Rewrite {
        let Some(rewrite) = rewrite else { return Rewrite::default() };
        let prefix = |field: &Field<Text>| {
            let at = field.get()?;
            if !at.value.value.starts_with('/') || !is_target(&at.value.value) {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not the beginning of a path", at.value.shown),
                    "it begins with `/`, as \"/api\"",
                );
                return None;
            }
            Some(at.value.value.trim_end_matches('/').to_owned())
        };
        let path = rewrite.path.get().and_then(|at| {
            let template = self.template(at, bound, &[], "path");
            let plain = at.value.value.replace(['{', '}'], "");
            if !at.value.value.starts_with('/') || !is_target(&plain) || plain.contains('?') {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not a path", at.value.shown),
                    "it begins with `/`, as \"/v2/{rest}\"",
                );
            }
            template
        });
        if let (Some(at), true) =
            (rewrite.path.get(), !rewrite.strip_prefix.is_absent() || !rewrite.add_prefix.is_absent())
        {
            self.wrong_with_help(
                &at.span,
                "`path` replaces the whole path, so prefixes mean nothing beside it",
                "leave one of them out",
            );
        }
        Rewrite { strip_prefix: prefix(&rewrite.strip_prefix), add_prefix: prefix(&rewrite.add_prefix), path }
    }

    fn fixed_answer(&self, answer: &schema::FixedAnswer) -> Option<FixedAnswer> {
        let status = answer.status.value().map_or(200, |status| status.0);
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
        let contents: Vec<(&str, Span)> =
            [("body", answer.body.span()), ("json", answer.json.span()), ("file", answer.file.span())]
                .into_iter()
                .filter_map(|(name, span)| Some((name, span?)))
                .collect();
        if let [(first, _), (second, span), ..] = &contents[..] {
            self.wrong_with_help(
                span,
                format!("an answer cannot have both `{first}` and `{second}`"),
                "leave one of them out",
            );
        }
        let (body, content_type) = if let Some(at) = answer.json.get() {
            (Bytes::from(at.value.0.to_string()), Some("application/json"))
        } else if let Some(at) = answer.file.get() {
            (self.file(at), Some(content_type(&at.value)))
        } else if let Some(text) = answer.body.value() {
            (Bytes::from(text.value.clone().into_bytes()), Some("text/plain; charset=utf-8"))
        } else {
            (Bytes::new(), None)
        };
        // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these have no content.
        if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
            let span = answer.status.span().unwrap_or_else(|| answer.span.clone());
            self.wrong(&span, format!("an answer with status {} has no content", status.as_u16()));
        }
        let mut headers: Vec<(HeaderName, HeaderValue)> = named(&answer.headers)
            .filter_map(|(name, at)| Some((self.editable_name(name)?, self.header_value(at)?)))
            .collect();
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name == http::header::CONTENT_TYPE)
        {
            headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        }
        Some(FixedAnswer { status, headers, body })
    }

    fn file(&self, at: &At<PathBuf>) -> Bytes {
        let path = self.readable(at);
        let Some(size) = std::fs::metadata(&path).ok().filter(|data| data.is_file()).map(|data| data.len())
        else {
            return Bytes::new();
        };
        if size > FILE_BYTES_MAX {
            self.wrong_with_help(
                &at.span,
                "this file is too large to be kept in memory",
                "at most 16MiB; larger ones are for an origin to serve",
            );
            return Bytes::new();
        }
        std::fs::read(&path).map(Bytes::from).unwrap_or_default()
    }

    fn route_cache(
        &self,
        field: &Field<schema::RouteCache>,
        caches: &BTreeMap<Arc<str>, Cache>,
        bound: &BTreeSet<String>,
    ) -> Option<RouteCache> {
        let default_table = schema::RouteCacheTable::default();
        let table = match field.value() {
            None => &default_table,
            Some(schema::RouteCache::Off) => return None,
            Some(schema::RouteCache::Table(table)) => table,
        };
        let mut store = &caches["default"];
        if let Some(at) = table.store.get() {
            match caches.get(at.value.value.as_str()) {
                Some(cache) => store = cache,
                None => {
                    let near = nearest(&at.value.value, caches.keys().map(|name| &**name).chain(["off"]));
                    let help = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add `[cache.{}]`", at.value.shown),
                    };
                    self.wrong_with_help(&at.span, format!("there is no cache `{}`", at.value.shown), help);
                }
            }
        }
        let base = &store.defaults;
        let overrides: Vec<_> = many(&table.r#override).map(|at| at.value).collect();
        let rules = CacheRules {
            ttl: self.maybe_duration(&table.ttl).or(base.ttl),
            error_ttl_max: self.maybe_duration(&table.error_ttl_max).or(base.error_ttl_max),
            stale_while_revalidate: self
                .maybe_duration(&table.stale_while_revalidate)
                .or(base.stale_while_revalidate),
            stale_if_error: self.maybe_duration(&table.stale_if_error).or(base.stale_if_error),
            store_set_cookie: table.store_set_cookie.or(base.store_set_cookie),
            compress: table.compress.value().copied().or(base.compress),
            strict: table.unverified.value().map(|word| *word == schema::Unverified::Strict).or(base.strict),
            overrides,
        };
        let overrides_lifetime =
            many(&table.r#override).find(|at| at.value == super::model::Override::MaxAge);
        if let (Some(at), None) = (overrides_lifetime, rules.ttl) {
            self.wrong_with_help(
                &at.span,
                "`max-age` of the origin shall not count, but nothing stands in its place",
                "add `ttl = \"5m\"`",
            );
        }
        Some(RouteCache {
            store: Arc::clone(&store.name),
            rules,
            ignore_query: many(&table.ignore_query).map(|at| Glob::new(&at.value.value)).collect(),
            sort_query: table.sort_query.or(false),
            cookies: many(&table.cookies).filter_map(|at| self.cookie_name(at)).collect(),
            tags: many(&table.tags).filter_map(|at| self.tag(at, bound)).collect(),
            methods: vec![Method::GET, Method::HEAD],
        })
    }

    fn cookie_name(&self, at: &At<Text>) -> Option<String> {
        let name = &at.value.value;
        let valid = HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !valid {
            let help = if name.contains('*') {
                "cookies are named one by one, without `*`"
            } else {
                "as in \"tenant\""
            };
            self.wrong_with_help(&at.span, format!("`{}` is not the name of a cookie", at.value.shown), help);
        }
        valid.then(|| name.clone())
    }

    fn tag(&self, at: &At<Text>, bound: &BTreeSet<String>) -> Option<Template> {
        let text = &at.value.value;
        if text.is_empty()
            || text.len() > 256
            || text.contains(|char: char| char.is_whitespace() || char.is_control() || char == ',')
        {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is not a tag", at.value.shown.escape_debug()),
                "a tag has 1 to 256 characters, and neither spaces nor commas",
            );
            return None;
        }
        self.template(at, bound, &[], "tag")
    }

    // ---------------------------------------------------------------- warnings

    fn warn(&mut self, file: &schema::File, config: &Config) {
        let span_of_route: Vec<Span> = many(&file.route).map(|at| at.value.span.clone()).collect();
        let routes = Routes::new(config.routes.clone());
        let index_of =
            |wanted: &Arc<Route>| config.routes.iter().position(|route| Arc::ptr_eq(route, wanted));
        for (dead, by) in routes.unreachable() {
            let (Some(at), Some(other)) = (index_of(dead), index_of(by)) else { continue };
            let message = format!("route `{}` can never match", dead.name);
            let what = format!("route `{}` comes first and takes all that it would take", by.name);
            let mistake = Mistake::new(span_of_route[at].clone(), message);
            self.warnings
                .push(mistake.other(span_of_route[other].clone(), what).help("put the narrower route first"));
        }
        if let Some(last) = span_of_route.last()
            && !config.routes.iter().any(|route| route.matcher.takes_all())
        {
            self.warnings.push(
                Mistake::new(last.clone(), "requests that none of these routes takes are answered with 404")
                    .help("if that is not what you want, add a last route without `match`"),
            );
        }
        if let Some(admin) = &config.admin
            && !admin.listen.ip().is_loopback()
        {
            let span = file.admin.value().and_then(|admin| admin.listen.span()).unwrap_or(0..0);
            let (message, help) = if admin.token.is_none() {
                (
                    "without a token this admin listener answers nobody but this machine",
                    "set `token = \"${WEIR_ADMIN_TOKEN}\"`, or listen on 127.0.0.1",
                )
            } else {
                (
                    "the admin token crosses this network unencrypted",
                    "listen on 127.0.0.1, or let nobody but your own machines reach this address",
                )
            };
            self.warnings.push(Mistake::new(span, message).help(help));
        }
        let trusted = file.server.value().map(|server| &server.trusted_proxies);
        for at in trusted.into_iter().flat_map(many).filter(|at| at.value.prefix_len() == 0) {
            self.warnings.push(
                Mistake::new(
                    at.span.clone(),
                    "this trusts everybody: any client can claim any address, host and scheme",
                )
                .help("list the networks of your own proxies only"),
            );
        }
        let used: BTreeSet<&str> = config
            .routes
            .iter()
            .filter_map(|route| match &route.action {
                Action::Forward(origin) => Some(&**origin),
                _ => None,
            })
            .collect();
        for (name, _) in named(&file.origin) {
            if !used.contains(name.value.as_str()) {
                let message = format!("no route forwards to origin `{}`", name.value);
                self.warnings.push(Mistake::new(name.span.clone(), message));
            }
        }
        let forwards_plain =
            config.routes.iter().any(|route| matches!(route.action, Action::RedirectToHttps));
        if forwards_plain
            && config.server.listeners.iter().all(|listener| listener.tls.is_empty())
            && config.server.trusted_proxies.is_empty()
        {
            let span = many(&file.route)
                .find_map(|at| {
                    matches!(at.value.redirect.value(), Some(schema::Redirect::Https))
                        .then(|| at.value.redirect.span())?
                })
                .unwrap_or(0..0);
            self.warnings.push(
                Mistake::new(span, "this redirects to https, but no listener speaks TLS")
                    .help("add `tls` to a listener, or list the proxy that does it in `trusted_proxies`"),
            );
        }
        for at in many(&file.route) {
            let Some(schema::RouteCache::Table(table)) = at.value.cache.value() else { continue };
            if let (Some(at), Some(duration)) = (table.ttl.get(), self.maybe_duration(&table.ttl))
                && duration.is_zero()
            {
                self.warnings.push(
                    Mistake::new(
                        at.span.clone(),
                        format!(
                            "a `ttl` of {} stores nothing that the origin is silent about",
                            show_duration(duration)
                        ),
                    )
                    .help("to bypass the cache, write `cache = \"off\"`"),
                );
            }
        }
    }
}

/// What a route answers whose own mistake has been reported: the file is refused anyway.
fn nothing() -> FixedAnswer {
    FixedAnswer { status: StatusCode::NOT_FOUND, headers: Vec::new(), body: Bytes::new() }
}

/// An origin table that is not complained about for lack of servers.
fn given_servers() -> schema::Origin {
    schema::Origin { servers: Field::Wrong(0..0), ..schema::Origin::default() }
}

fn bound_names(matcher: &Matcher) -> BTreeSet<String> {
    // With several patterns, only what all of them bind is sure to have a value.
    let mut sets =
        matcher.paths.iter().map(|pattern| pattern.names().map(str::to_owned).collect::<BTreeSet<_>>());
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |known, set| known.intersection(&set).cloned().collect())
}

fn condition(condition: &schema::Condition) -> Condition {
    match condition {
        schema::Condition::Present => Condition::Present,
        schema::Condition::Absent => Condition::Absent,
        schema::Condition::Fits(text) => Condition::Fits(Glob::new(&text.value)),
    }
}

pub(super) fn to_usize<const MIN: u64, const MAX: u64>(
    field: &Field<Whole<MIN, MAX>>,
    default: usize,
) -> usize {
    field.value().map_or(default, |number| usize::try_from(number.0).unwrap_or(usize::MAX))
}

fn to_u32<const MIN: u64, const MAX: u64>(field: &Field<Whole<MIN, MAX>>, default: u32) -> u32 {
    field.value().map_or(default, |number| u32::try_from(number.0).unwrap_or(u32::MAX))
}

/// Whether binding one address takes the other: the same port, and an address that is the same or stands for all of them.
fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            one.port() != 0
                && one.port() == other.port()
                && (one.ip() == other.ip()
                    || (one.is_ipv4() == other.is_ipv4()
                        && (one.ip().is_unspecified() || other.ip().is_unspecified())))
        }
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => one == other,
        _ => false,
    }
}

fn looks_like_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:") || text.contains(':') || text.contains('/')
}

/// A URL may hold a password, which is refused here and not printed either.
fn shown_url(text: &Text) -> String {
    match (text.shown.find("://"), text.shown.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}…{}", &text.shown[..scheme + 3], &text.shown[at..])
        }
        _ => text.shown.clone(),
    }
}

/// The name of an origin that is only a URL.
fn origin_name(tls: bool, address: &OriginAddress) -> String {
    match address {
        OriginAddress::Host(host, port) => format!("{}://{host}:{port}", if tls { "https" } else { "http" }),
        OriginAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// `http://host:port`, `https://host`, `unix:/path`; the error is what to write instead.
pub(super) fn parse_origin_url(text: &str) -> Result<(bool, OriginAddress), String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err("`unix:` is followed by the path of a socket".to_owned());
        }
        return Ok((false, OriginAddress::Unix(path.into())));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("write \"http://{text}\""));
    };
    let tls =
        match scheme {
            "http" => false,
            "https" => true,
            "h2c" => {
                return Err("write \"http://…\", and `protocol = \"http2\"` in an `[origin.NAME]`".to_owned());
            }
            "ws" | "wss" => return Err(
                "write \"http://…\" or \"https://…\"; `websocket = true` on the route passes WebSockets on"
                    .to_owned(),
            ),
            _ => return Err("it begins with \"http://\", \"https://\" or \"unix:\"".to_owned()),
        };
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    if !matches!(path, "" | "/") {
        return Err(format!(
            "leave `{path}` out: `rewrite = {{ add_prefix = \"…\" }}` on the route puts a path in front"
        ));
    }
    if authority.contains('@') {
        return Err("leave user and password out: `request_headers = { set = { Authorization = \"Basic ${…}\" } }` sends them".to_owned());
    }
    let parsed: http::uri::Authority = authority
        .parse()
        .map_err(|_| "it goes on with a host and a port, as \"http://127.0.0.1:8000\"".to_owned())?;
    let host = parsed.host();
    if host.is_empty() || host.contains(['*', '%']) {
        return Err("it goes on with a host and a port, as \"http://127.0.0.1:8000\"".to_owned());
    }
    let port = match authority[host.len()..].strip_prefix(':') {
        None => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("a port is a number from 1 to 65535".to_owned()),
        },
    };
    Ok((tls, OriginAddress::Host(host.to_owned(), port)))
}

/// Only what may stand in a request target as it is.
fn is_target(text: &str) -> bool {
    http::uri::PathAndQuery::try_from(text).is_ok() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_location(text: &str) -> bool {
    let plain =
        text.replace("{path}", "/").replace("{query}", "").replace("{host}", "host").replace(['{', '}'], "");
    let begins = plain.starts_with('/') || plain.starts_with("http://") || plain.starts_with("https://");
    begins && plain.bytes().all(|byte| byte.is_ascii_graphic())
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "pdf" => "application/pdf",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

/// Warnings as they are shown.
pub(super) fn show_warnings(source: &Source, mut list: Vec<Mistake>) -> Vec<Warning> {
    list.sort_by_key(|mistake| mistake.span.start);
    list.into_iter().map(|mistake| Warning::new(source, mistake)).collect()
}
