//! `[session]`, and a route's `session`: their shape in the file, and their checks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use session_state::Lifetimes;

use super::decode::{
    ByteSize, Decode, Field, Lifetime, Node, OneOrMany, Reader, Secret, Table as _, Text, Whole, table, words,
};
use super::mistake::Mistake;
use super::model::{self, Redis};
use super::resolve::{Resolver, is_prefix, many, to_usize};
use super::schema;
use crate::session::postgres::url::{Place, PostgresUrl, PostgresUrlError};
use crate::session::spec::{Cookie, Postgres, SameSite, Session, Use, Vault};

table! {
    /// Sessions that Weir keeps for applications that keep none. Routes say `session = "read"` or `"write"`; what the origin is told and how it answers stands in
    /// [sessions.md](sessions.md).
    SessionTable in "[session]" {
        /// The `[redis.NAME]` that holds them, for all proxies; `"off"`: none.
        redis: Text = "`sessions`, `main`, or the only one",
        /// What their keys in Redis begin with.
        prefix: Text = "\"weir-session\"",
        /// `"both"`: in Redis and in the durable store, so that they survive either. `"redis"`: lost with it. `"durable"`: in the durable store only. That is
        /// the folder of `[data]`, on one machine; with `[session.postgres]` it is that, for all machines.
        durability: Durability = "\"both\", as far as there are both",
        /// The durable store of several machines.
        postgres: PostgresTable = "none",
        /// The cookie that carries a session's name.
        cookie: CookieTable = "see below",
        /// So long a session lives without being used.
        idle: Lifetime = "\"30m\"",
        /// So long it lives in all.
        absolute: Lifetime = "\"24h\"",
        /// That it was used is written down at most so often.
        touch: Lifetime = "\"60s\"",
        /// What a request may wait for Redis, before the session is looked for on disk.
        redis_budget: Lifetime = "\"150ms\"",
        /// Largest value that an origin may set over the admin listener, beyond the 4 KiB that fit into fields: each request brings it a `Session-Token` for that.
        value_bytes: ByteSize = "none: only what fits",
        /// Secrets that values are sealed with in the stores: the first seals, all open, so that keys can be changed. Without any, stores hold them in the open.
        keys: OneOrMany<Secret> = "none",
    }
}

table! {
    /// A PostgreSQL that holds sessions in place of `[data]`, for several machines. It makes its tables itself: `weir_session`, `weir_logout` and `weir_session_schema`. Weir must have been
    /// built with `--features postgres`.
    ///
    /// ```toml
    /// [session.postgres]
    /// url = "${DATABASE_URL}"
    /// ```
    PostgresTable in "[session.postgres]" {
        /// Where it is: `"postgres://user@host:5432/database"`, several hosts of which one takes writes as `"postgres://user@h1,h2/database"`, a socket as
        /// `"postgres://user@/database?host=/run/postgresql"`. With TLS: `?sslmode=verify-full`.
        url: PostgresAddress = "required",
        /// The password, if it is not in the URL.
        password: Secret = "that of the URL",
        /// A file that holds the password and nothing else.
        password_file: PathBuf = "none",
        /// TLS, for `?sslmode=verify-full`.
        tls: schema::RedisTls = "see below",
        /// Connections, that all requests share.
        connections: Whole<1, 64> = "4",
        /// What a request may wait for it. After a few late answers in a row nothing is asked until it answers again.
        budget: Lifetime = "\"250ms\"",
        /// Looking up the name, TCP, TLS and logging in, together. No request ever waits for it.
        connect_timeout: Lifetime = "\"5s\"",
    }
}

/// The URL of a PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct PostgresAddress(PostgresUrl);

impl Decode for PostgresAddress {
    const EXPECTS: &'static str = "a URL, as \"postgres://weir@127.0.0.1/app\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let text = reader.text(node, Self::EXPECTS)?;
        // A password may stand in it, well written or not.
        if text.value.contains(['@', '?']) {
            reader.conceal(node.span());
        }
        let read = PostgresUrl::parse(&text.value);
        let report = |error: &PostgresUrlError| {
            let message = format!("this is not the URL of a PostgreSQL: {error}");
            reader.report(Mistake::new(node.span(), message).help(error.help()));
        };
        read.inspect_err(report).map(Self).ok()
    }
}

table! {
    /// The cookie that carries a session's name.
    CookieTable in "[session] cookie = { … }" {
        /// Its name. One that begins with `__Host-` cannot be set by other hosts of the same domain.
        name: Text = "\"__Host-sid\"",
        /// Names that it had before: sessions under them go on, and the browser is given the present one.
        old_names: OneOrMany<Text> = "none",
        /// How long a browser keeps it.
        max_age: Lifetime = "`absolute`",
        /// Whether it goes when the browser is closed; sessions end as they do.
        browser_session: bool = "false",
        /// Whether it is sent over TLS only.
        secure: bool = "true",
        /// Whether scripts cannot read it.
        http_only: bool = "true",
        /// Whether it is sent with requests from other sites: `"Lax"` with links only, `"Strict"` never, `"None"` always.
        same_site: SameSite = "\"Lax\"",
    }
}

/// Where sessions are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    Both,
    Redis,
    Durable,
}

words!(Durability {
    "both" => Durability::Both,
    "redis" => Durability::Redis,
    "durable" => Durability::Durable,
});

words!(SameSite {
    "Lax" => SameSite::Lax,
    "Strict" => SameSite::Strict,
    "None" => SameSite::None,
});

words!(Use {
    "off" => Use::Off,
    "read" => Use::Read,
    "write" => Use::Write,
});

/// Larger ones belong into a store of files.
const VALUE_BYTES_MAX: u64 = 16 << 20;
const IDLE: Duration = Duration::from_secs(30 * 60);
const ABSOLUTE: Duration = Duration::from_secs(24 * 3_600);
const TOUCH: Duration = Duration::from_secs(60);
const BUDGET: Duration = Duration::from_millis(150);

impl Resolver<'_> {
    pub(super) fn session(
        &mut self,
        file: &schema::File,
        redis: &BTreeMap<Arc<str>, Arc<Redis>>,
        vault: Option<&Vault>,
    ) -> Option<Arc<Session>> {
        let table = file.session.value()?;
        let durability = table.durability.value().copied();
        let server = match table.redis.get() {
            Some(at) if at.value.value == "off" => None,
            Some(at) => self.redis_named(at, redis),
            None => {
                let known = |name: &str| redis.keys().find(|known| ***known == *name);
                let only = redis.keys().next().filter(|_| redis.len() == 1);
                known("sessions").or(known("main")).or(only).cloned()
            }
        };
        let server = server.filter(|_| durability != Some(Durability::Durable));
        let postgres = table.postgres.value().and_then(|table| self.postgres(table));
        let has_data = !file.data.is_absent() || !table.postgres.is_absent();
        let span = table.durability.span().unwrap_or_else(|| table.span.clone());
        match durability {
            Some(Durability::Both | Durability::Durable) if !has_data => {
                self.wrong_with_help(
                    &span,
                    "there is no durable store",
                    "add `[data]` with its `path`, or `[session.postgres]` with its `url`",
                );
            }
            Some(Durability::Both | Durability::Redis) if redis.is_empty() => {
                self.wrong_with_help(&span, "there is no Redis", "add `[redis.main]` with its `url`");
            }
            None if !has_data && redis.is_empty() => {
                let help = "add `[data]` with its `path`, or `[redis.main]` with its `url`";
                self.wrong_with_help(&span, "sessions have no place to be held in", help);
            }
            _ => {}
        }
        let prefix = match table.prefix.get() {
            Some(at) if !is_prefix(&at.value.value) => {
                let help = "write up to 64 letters, digits, `-`, `_`, `.` and `:`";
                self.wrong_with_help(&at.span, format!("`{}` cannot begin a key", at.value.shown), help);
                "weir-session".into()
            }
            Some(at) => at.value.value.as_str().into(),
            None => "weir-session".into(),
        };
        let idle = self.limit_duration(&table.idle, IDLE);
        let absolute = self.limit_duration(&table.absolute, ABSOLUTE);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let default = CookieTable::default();
        let cookie = self.session_cookie(table.cookie.value().unwrap_or(&default), absolute);
        Some(Arc::new(Session {
            redis: server,
            prefix,
            durable: has_data && durability != Some(Durability::Redis),
            postgres: postgres.map(Arc::new),
            cookie,
            hold_ms: millis(vault.map_or(idle, |vault| vault.idle.max(idle))),
            lifetimes: Lifetimes {
                idle_ms: millis(idle),
                absolute_ms: millis(absolute),
                touch_ms: millis(self.limit_duration(&table.touch, TOUCH)),
            },
            budget: self.limit_duration(&table.redis_budget, BUDGET),
            value_bytes: table.value_bytes.value().map_or(0, |size| size.0.min(VALUE_BYTES_MAX)),
            keys: many(&table.keys).map(|at| model::Secret(at.value.0.clone())).collect(),
        }))
    }

    fn postgres(&mut self, table: &PostgresTable) -> Option<Postgres> {
        if cfg!(not(feature = "postgres")) {
            let help = "build it with `cargo build --release --features postgres`";
            self.wrong_with_help(&table.span, "this Weir was built without PostgreSQL", help);
            return None;
        }
        if table.url.is_absent() && table.is_clear() {
            let help = "add `url = \"postgres://weir@127.0.0.1/app\"`";
            self.wrong_with_help(&table.span, "this PostgreSQL has no URL", help);
        }
        let default = schema::RedisTls::default();
        let tls = self.store_tls(table.tls.value().unwrap_or(&default));
        let at = table.url.get();
        let in_url = at.and_then(|at| Some((at.value.0.password.clone()?, at.span.clone())));
        let password = self.password(&table.password, &table.password_file, in_url);
        let mut url = at?.value.0.clone();
        url.password = password;
        if let Place::Unix(folder, _) = &mut url.place {
            *folder = self.path(folder.as_path());
        }
        if let (Some(span), false) = (table.tls.span(), url.tls) {
            let help = "write `?sslmode=verify-full` in `url`";
            self.wrong_with_help(&span, "this PostgreSQL is not spoken to by TLS", help);
        }
        Some(Postgres {
            url,
            tls,
            connections: to_usize(&table.connections, 4),
            budget: self.limit_duration(&table.budget, Duration::from_millis(250)),
            connect_timeout: self.limit_duration(&table.connect_timeout, Duration::from_secs(5)),
        })
    }

    fn session_cookie(&self, table: &CookieTable, absolute: Duration) -> Cookie {
        let name = table.name.get().map_or("__Host-sid", |at| at.value.value.as_str());
        if let (Some(at), Err(_)) = (table.name.get(), HeaderName::from_bytes(name.as_bytes())) {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is not the name of a cookie", at.value.shown),
                "as in \"__Host-sid\"",
            );
        }
        let secure = table.secure.or(true);
        if let (Some(at), true) = (table.secure.get(), !secure && name.starts_with("__")) {
            let help = "name the cookie in another way, as `cookie = { name = \"sid\", secure = false }`";
            self.wrong_with_help(&at.span, format!("browsers take `{name}` only if it is secure"), help);
        }
        let same_site = table.same_site.or(SameSite::Lax);
        if let (Some(at), SameSite::None, false) = (table.same_site.get(), same_site, secure) {
            self.wrong_with_help(
                &at.span,
                "browsers take such a cookie only if it is secure",
                "leave `secure` out",
            );
        }
        let max_age = self.limit_duration(&table.max_age, absolute);
        Cookie {
            name: name.into(),
            old_names: many(&table.old_names).map(|at| at.value.value.as_str().into()).collect(),
            max_age: (!table.browser_session.or(false)).then_some(max_age),
            secure,
            http_only: table.http_only.or(true),
            same_site,
        }
    }

    /// Attributes of sessions that are part of a key.
    pub(super) fn attribute_names(&self, field: &Field<OneOrMany<Text>>) -> Vec<Box<str>> {
        let mut names: Vec<Box<str>> = Vec::new();
        for at in many(field) {
            let name = at.value.value.as_str();
            if !session_state::protocol::is_name(name) {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not the name of an attribute", at.value.shown.escape_debug()),
                    "a name has at most 64 lower-case letters, digits, `_`, `-`, `.` and `*`, and begins with a letter or `*`, as in \"tier\"",
                );
            } else if names.iter().any(|known| **known == *name) {
                self.wrong(&at.span, format!("`{name}` stands here twice"));
            } else {
                names.push(name.into());
            }
        }
        names.sort();
        names
    }

    /// Attributes that are part of a route's key have to be read, and may not change.
    pub(super) fn session_in_key(&self, route: &schema::Route, used: Use, file: &schema::File) {
        let Some(schema::RouteCache::Table(table)) = route.cache.value() else { return };
        let Some(span) = table.session.span() else { return };
        match used {
            Use::Read => {}
            Use::Off if route.session.is_absent() && file.session.is_absent() => {
                let help = "add `[session]`, and to this route `session = \"read\"`";
                self.wrong_with_help(&span, "there are no sessions", help);
            }
            Use::Off => self.wrong_with_help(
                &span,
                "this route does not read sessions",
                "add `session = \"read\"` to the route",
            ),
            Use::Write => self.wrong_with_help(
                &span,
                "a route that writes sessions does not cache",
                "write `session = \"read\"`, and let what changes sessions have a route of its own",
            ),
        }
    }

    pub(super) fn session_of_route(&self, field: &Field<Use>, file: &schema::File) -> Use {
        let used = field.or(Use::Off);
        if let (Some(at), true) = (field.get(), used != Use::Off && file.session.is_absent()) {
            let help = "add `[session]`; an empty one will do, where there is a `[redis.NAME]` or `[data]`";
            self.wrong_with_help(&at.span, "there are no sessions", help);
        }
        used
    }
}
