//! `[session]`, checked.

use std::sync::Arc;
use std::time::Duration;

use cache_semantics::glob::Glob;
pub use cookie_jar::SameSite;
use session_state::Lifetimes;

use super::postgres::url::PostgresUrl;
use crate::config::model::{RedisTls, Secret};

/// `[session]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The Redis that holds them; `None`: the durable store alone.
    pub redis: Option<Arc<str>>,
    /// What its keys there begin with.
    pub prefix: Arc<str>,
    /// Whether they are held in the durable store, too.
    pub durable: bool,
    /// The durable store, where it is not the folder of `[data]`.
    pub postgres: Option<Arc<Postgres>>,
    /// The cookie.
    pub cookie: Cookie,
    /// How long they live.
    pub lifetimes: Lifetimes,
    /// So long Redis holds what is not used: sessions, and the jars of the vault.
    pub hold_ms: u64,
    /// What a request waits for Redis.
    pub budget: Duration,
    /// Bytes of a value that an origin may set past header fields; 0: none.
    pub value_bytes: u64,
    /// Keys that values are sealed with: the first seals, all open.
    pub keys: Vec<Secret>,
}

/// `[session.postgres]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Where it is.
    pub url: PostgresUrl,
    /// Whom to trust, and what to show.
    pub tls: RedisTls,
    /// Connections.
    pub connections: usize,
    /// What a request waits for it.
    pub budget: Duration,
    /// The longest that dialling takes.
    pub connect_timeout: Duration,
}

/// The cookie that carries a session's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: Arc<str>,
    /// Names that it had before: still read, and then replaced.
    pub old_names: Vec<Arc<str>>,
    /// How long a browser keeps it; `None`: until it is closed.
    pub max_age: Option<Duration>,
    /// Only over TLS.
    pub secure: bool,
    /// Not for scripts.
    pub http_only: bool,
    /// With requests from other sites.
    pub same_site: SameSite,
}

/// `[vault]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// Which cookies of origins it keeps.
    pub cookies: Vec<Glob>,
    /// The browser's cookie for those that end with it.
    pub name: Arc<str>,
    /// That for those that have a date.
    pub name_dated: Arc<str>,
    /// Whether it is sent over TLS only.
    pub secure: bool,
    /// With requests from other sites, at most.
    pub same_site: SameSite,
    /// So long a jar is kept that nobody uses.
    pub idle: Duration,
    /// Cookies whose new value means that somebody has logged in.
    pub renew: Vec<Glob>,
}

/// What a route does with sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Use {
    /// Nothing.
    #[default]
    Off,
    /// Its origin is told.
    Read,
    /// Its origin is told, and obeyed.
    Write,
}
