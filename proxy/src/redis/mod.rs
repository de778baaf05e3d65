//! One Redis: how it is reached, whether it is asked, and what can be asked of it.
//!
//! ```text
//!            request                          background thread
//!   Redis::link() ── none: a miss            supervisor: dial → AUTH → ROLE → INFO → publish the link ─┐
//!        │                                        ↑                                                    │
//!        └─ Link::fetch(key, budget) ─ breaker ─ connection ─→ Redis                                   │
//!                                        │ evidence: the link ends ─→ dial again, 100 ms … 1 s apart ←─┘
//! ```
//!
//! - [`Redis`] stands for a `[redis.NAME]`. [`Redis::link`] gives what is connected now, or nothing: **no request ever waits for a connection**.
//! - [`Link`] is one set of connections; every command has a budget and passes the breaker. A link that was given up is never used again, so that no
//!   late answer is taken for another one's. Each has a number; [`Redis::next_link`] waits for a newer one.
//! - Replicas that are named are each a [`Redis`] of their own, with a supervisor, a breaker and links; [`Redis::replica`] gives one that may be read. Values only: the log,
//!   leases and all that is written are the primary's.
//! - `supervise.rs` dials, watches and gives up. It alone probes.
//! - `lane.rs` is a worker's own connection, for what its requests ask; `resp.rs` is what goes over it.
//! - `client.rs` is the only file that knows the client library.
//!
//! # For the log of invalidations
//!
//! [`Link`] has what the log needs, each at the primary: `add_record` (XADD, at a position of the server's or at an exact one), `head`, `records`, `records_backwards`,
//! `wait_for_records` (XREAD BLOCK on a connection of its own), `trim_before`, `stream_info`, `put` (SET PX), `fetch`, `fetch_all`, `run` (EVALSHA),
//! `wait_for_replicas`, `replication_id`. Who keeps a log loops:
//!
//! ```text
//! let mut link = redis.next_link(0).await;
//! loop {
//!     recover(&link).await;                       // replay, look at the head, read up to it
//!     while link.is_alive() { link.wait_for_records(…).await … }
//!     link = redis.next_link(link.number()).await;    // everything may have happened in between
//! }
//! ```
//!
//! A link is usable as soon as it is published; whether what it gives may be *believed* is for the keeper of the log to say, per log and per link number.

pub mod advice;
pub mod breaker;
mod client;
pub mod error;
mod lane;
pub mod link;
pub mod metrics;
pub mod resp;
pub mod stream;
mod supervise;
pub mod url;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::advice::Advice;
pub use self::client::{Reply, Script};
pub use self::error::{RedisError, Skip};
pub use self::link::Link;
use self::metrics::Counted;
pub use self::stream::{AddAt, StreamId, StreamInfo, StreamRecord, Trim};
use self::url::{Place, RedisUrl};
use crate::config::model;

/// A `[redis.NAME]`, supervised for as long as this lives.
pub struct Redis {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
    /// Replicas that are read, and whose turn it is.
    replicas: Box<[Arc<Redis>]>,
    turn: AtomicUsize,
}

/// What a server is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All is written to it, and the log is there.
    Primary,
    /// Values are read from it.
    Replica,
}

/// What requests and the supervisor share.
struct Shared {
    spec: Arc<model::Redis>,
    part: Part,
    link: ArcSwapOption<Link>,
    /// The number of the newest link.
    number: watch::Sender<u64>,
    counted: Arc<Counted>,
    trouble: Mutex<Trouble>,
    /// What is to be said about the settings of the server.
    advice: Mutex<Vec<Advice>>,
    background: Handle,
}

/// Why it is not connected, for whoever looks.
#[derive(Debug, Clone, Default)]
struct Trouble {
    why: Option<RedisError>,
    /// When the last line about it was written.
    told: Option<std::time::Instant>,
}

/// How a Redis is, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether there are connections.
    pub connected: bool,
    /// For how long.
    pub connected_for: Duration,
    /// Whether writes are taken by every server that is up.
    pub writable: bool,
    /// Servers of a Cluster that are not asked, of how many; 0 of 1 elsewhere.
    pub shards_open: usize,
    /// Servers known.
    pub shards: usize,
    /// Commands under way.
    pub in_flight: usize,
    /// Links made so far.
    pub links: u64,
    /// Why there is no connection.
    pub trouble: Option<String>,
    /// Why writes are not taken, where they are not.
    pub writes_trouble: Option<String>,
    /// Settings of the server that lose data.
    pub advice: Vec<Advice>,
    /// Its replicas, and which of them are read.
    pub replicas: Vec<ReplicaStatus>,
}

/// How a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Where.
    pub url: String,
    /// Whether it is read.
    pub is_read: bool,
    /// Why it is not.
    pub trouble: Option<String>,
}

impl Redis {
    /// Begins to connect, on the background runtime, and goes on until the last handle is dropped.
    pub fn start(spec: Arc<model::Redis>, background: &Handle) -> Arc<Self> {
        let replicas = match &spec.url.place {
            Place::Replicated { replicas, .. } => replicas.as_slice(),
            Place::Server(_) | Place::Unix(_) | Place::Sentinel { .. } | Place::Cluster(_) => &[],
        };
        let replicas = replicas.iter().map(|replica| {
            let url = RedisUrl { place: Place::Server(replica.clone()), ..spec.url.clone() };
            let name = format!("{} at {replica}", spec.name).into();
            let of_replica = model::Redis { name, url, ..model::Redis::clone(&spec) };
            Self::start_as(Arc::new(of_replica), Part::Replica, Box::default(), background)
        });
        let replicas = replicas.collect();
        Self::start_as(spec, Part::Primary, replicas, background)
    }

    fn start_as(
        spec: Arc<model::Redis>,
        part: Part,
        replicas: Box<[Arc<Self>]>,
        background: &Handle,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            spec,
            part,
            link: ArcSwapOption::empty(),
            number: watch::Sender::new(0),
            counted: Arc::default(),
            trouble: Mutex::default(),
            advice: Mutex::default(),
            background: background.clone(),
        });
        let supervisor = background.spawn(supervise::supervise(shared.clone())).abort_handle();
        Arc::new(Self { shared, supervisor, replicas, turn: AtomicUsize::new(0) })
    }

    /// A replica of what `primary` leads to that values may be read from now: each in turn. `None`: there is none, and the primary is read.
    pub fn replica(&self, primary: &Link) -> Option<Arc<Link>> {
        if self.replicas.is_empty() {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.replicas.len();
        let (before, from) = self.replicas.split_at(turn);
        from.iter().chain(before).find_map(|replica| replica.read_as_replica_of(primary))
    }

    /// Whether values may come from replicas, which may lag.
    pub const fn has_replicas(&self) -> bool {
        !self.replicas.is_empty()
    }

    fn read_as_replica_of(&self, primary: &Link) -> Option<Arc<Link>> {
        let link = self.shared.link.load();
        link.as_ref().filter(|link| link.is_alive() && link.follows(primary)).cloned()
    }

    /// What the configuration says.
    pub fn spec(&self) -> &Arc<model::Redis> {
        &self.shared.spec
    }

    /// What is connected now. Never waits.
    pub fn link(&self) -> Result<Arc<Link>, RedisError> {
        let link = self.shared.link.load();
        match &*link {
            Some(link) if link.is_alive() => Ok(link.clone()),
            Some(_) | None => {
                self.shared.counted.skipped(Skip::Down);
                Err(RedisError::Skipped(Skip::Down))
            }
        }
    }

    /// Waits for a link with a higher number.
    pub async fn next_link(&self, after: u64) -> Arc<Link> {
        let mut numbers = self.shared.number.subscribe();
        loop {
            // An error: the supervisor's side lives in `shared`, as long as we do.
            let _ = numbers.wait_for(|number| *number > after).await;
            if let Some(link) = self.shared.link.load_full().filter(|link| link.number() > after) {
                return link;
            }
            tokio::task::yield_now().await;
        }
    }

    /// What is counted.
    pub fn counted(&self) -> &Counted {
        &self.shared.counted
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let link = self.shared.link.load_full().filter(|link| link.is_alive());
        let trouble = self.shared.trouble.lock().why.as_ref().map(ToString::to_string);
        let replicas = self.replicas.iter().map(|replica| {
            let is_read = link.as_ref().is_some_and(|link| replica.read_as_replica_of(link).is_some());
            let trouble = replica.shared.trouble.lock().why.as_ref().map(ToString::to_string);
            let trouble = trouble.unwrap_or_else(|| "it does not follow this primary".to_owned());
            let trouble = (!is_read && link.is_some()).then_some(trouble);
            ReplicaStatus { url: replica.spec().url.to_string(), is_read, trouble }
        });
        let replicas = replicas.collect();
        let writes_trouble = link.as_ref().and_then(|link| link.why_no_writes()).map(|why| why.to_string());
        let (shards, open, read_only) = link.as_ref().map_or((0, 0, false), |link| {
            let shards = link.shards();
            let open = shards.all.iter().filter(|shard| shard.breaker.lock().is_open()).count();
            let read_only = shards.all.iter().any(|shard| shard.breaker.lock().is_open_for_writes());
            (shards.all.len(), open, read_only)
        });
        Status {
            connected: link.is_some(),
            connected_for: link.as_ref().map_or(Duration::ZERO, |link| link.age()),
            writable: link.as_ref().is_some_and(|link| link.is_writable()) && !read_only,
            shards_open: open,
            shards,
            in_flight: link.as_ref().map_or(0, |link| link.in_flight()),
            links: *self.shared.number.borrow(),
            trouble: if link.is_some() { None } else { trouble },
            writes_trouble,
            advice: self.shared.advice.lock().clone(),
            replicas,
        }
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Redis").field("name", &self.shared.spec.name).finish_non_exhaustive()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.supervisor.abort();
        if let Some(link) = self.shared.link.swap(None) {
            link.give_up(RedisError::Lost { detail: "it is not in the configuration any more".to_owned() });
        }
    }
}

/// How often the same trouble is told again.
const TELL_EVERY: Duration = Duration::from_secs(60);
