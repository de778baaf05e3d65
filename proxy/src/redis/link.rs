//! A link: the connections that are open to one Redis at one time, with the breakers of its servers.
//!
//! A link is never mended. What is wrong with it ends it, and the supervisor makes another: answers that are still to come on the old connections
//! go with them, so that none can be taken for the answer to another question. A lane may end by itself: what was read over it is asked for once more on the shared connection, and if that is lost too,
//! so is the link.
//!
//! Two shared connections, because a large value holds up everything behind it: *fast* for what is small, *bulk* for bodies in pieces. The reader of a log
//! has one of its own, since it waits at the server. Besides, each worker has a *lane* (`lane.rs`) for what its requests ask.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore, watch};

use super::breaker::{Ask, Breaker};
use super::client::{self, Address, Command, Credentials, Reply, Script, Wire};
use super::error::{Evidence, RedisError, Skip};
use super::lane::{self, Lane};
use super::metrics::Counted;
use super::stream::{StreamId, head_command, head_of};
use super::url::Place;
use crate::config::model;
use crate::drill::{self, Fault};
use crate::server_url::HostPort;

pub use super::metrics::Operation;

/// Commands under way to one server; more are not asked.
const IN_FLIGHT_MAX: usize = 512;
/// Reads that are asked for a second time because the first answer is late; more wait for theirs.
const SECOND_MAX: usize = 8;
/// Pieces of bodies under way.
const BULK_MAX: usize = 8;
/// What a command of the log may take.
const LOG_BUDGET: Duration = Duration::from_millis(250);
/// A blocking command may answer so much later than it was told to.
const BLOCKING_GRACE: Duration = Duration::from_secs(1);
/// Slots of a Cluster.
const SLOTS: u16 = 16_384;

/// The connections to one Redis.
pub struct Link {
    /// Its own among the links of all.
    id: u64,
    me: Weak<Self>,
    number: u64,
    made: Instant,
    spec: Arc<model::Redis>,
    background: Handle,
    pub(super) fast: Wire,
    bulk: Wire,
    bulk_room: Semaphore,
    reader: OnceCell<Wire>,
    /// The lanes of workers that are there, and how many were begun.
    lanes: Mutex<Vec<Weak<Lane>>>,
    lanes_begun: AtomicU64,
    /// Reads under way for a second time.
    second: AtomicUsize,
    /// By which the server's process is known; `None`: it does not say, or it is several.
    run_id: Option<String>,
    /// Where the connections go, if it is one server.
    server: Option<Endpoint>,
    /// The servers behind it, and which slots they have.
    shards: ArcSwap<Shards>,
    writable: bool,
    /// The history of its data, by which a replica is known to follow a primary.
    history: Mutex<Option<String>>,
    /// Why it took no write when it was last asked for one.
    no_writes: Mutex<Option<RedisError>>,
    ended: AtomicBool,
    end: watch::Sender<Option<RedisError>>,
    /// Whether a shard needs a look: the supervisor is waiting for it.
    pub(super) trouble: tokio::sync::Notify,
    counted: Arc<Counted>,
}

/// One server, to dial it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Server(HostPort),
    Unix(std::path::PathBuf),
}

impl Endpoint {
    pub(super) fn address(&self) -> Address<'_> {
        match self {
            Self::Server(server) => Address::Server(server),
            Self::Unix(path) => Address::Unix(path),
        }
    }
}

/// A server with its breaker.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) at: Option<HostPort>,
    pub(super) breaker: Mutex<Breaker>,
    in_flight: AtomicUsize,
}

/// Which server has which slots. Outside of a Cluster: one has all.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) all: Vec<Arc<Shard>>,
    /// First slot, last slot, and the place in `all`; in order.
    ranges: Vec<(u16, u16, usize)>,
}

impl Shard {
    fn new(at: Option<HostPort>) -> Arc<Self> {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        breaker.close(now);
        Arc::new(Self { at, breaker: Mutex::new(breaker), in_flight: AtomicUsize::new(0) })
    }
}

impl Shards {
    pub(super) fn one() -> Self {
        Self { all: vec![Shard::new(None)], ranges: vec![(0, SLOTS - 1, 0)] }
    }

    /// From the ranges that a Cluster tells. Servers that were known keep their breakers.
    pub(super) fn of(told: &[(u16, u16, HostPort)], before: Option<&Self>) -> Self {
        let mut all: Vec<Arc<Shard>> = Vec::new();
        let mut ranges = Vec::with_capacity(told.len());
        for (first, last, at) in told {
            let place = all.iter().position(|shard| shard.at.as_ref() == Some(at)).unwrap_or_else(|| {
                let known =
                    before.and_then(|before| before.all.iter().find(|shard| shard.at.as_ref() == Some(at)));
                all.push(known.cloned().unwrap_or_else(|| Shard::new(Some(at.clone()))));
                all.len() - 1
            });
            ranges.push((*first, *last, place));
        }
        ranges.sort_unstable();
        Self { all, ranges }
    }

    /// Who has the key.
    fn of_key(&self, key: &[u8]) -> Option<&Arc<Shard>> {
        if let ([only], [(0, last, _)]) = (self.all.as_slice(), self.ranges.as_slice())
            && *last == SLOTS - 1
        {
            return Some(only);
        }
        let slot = slot_of(key);
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, place) = self.ranges.get(after.checked_sub(1)?)?;
        if slot <= *last { self.all.get(*place) } else { None }
    }
}

/// The slot of a key: of the part between the first `{` and the `}` behind it, if there is something between them.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// What a new link is made of.
pub(super) struct Made {
    pub(super) fast: Wire,
    pub(super) bulk: Wire,
    pub(super) server: Option<Endpoint>,
    pub(super) run_id: Option<String>,
    pub(super) shards: Shards,
    pub(super) writable: bool,
    pub(super) history: Option<String>,
}

/// Takes a command out of the count of those under way, however it ends.
struct UnderWay<'s>(&'s Shard);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for a read that is asked for a second time, given back at its end.
struct Second<'l>(&'l Link);

impl<'l> Second<'l> {
    fn of(link: &'l Link) -> Option<Self> {
        let second = Self(link);
        let before = link.second.fetch_add(1, Ordering::Relaxed);
        (before < SECOND_MAX && link.is_alive()).then_some(second)
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        self.0.second.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections that a link has beside lanes: fast, bulk, the reader of the log.
const SHARED_CONNECTIONS: u64 = 3;

impl Link {
    pub(super) fn new(
        me: Weak<Self>,
        number: u64,
        spec: Arc<model::Redis>,
        background: Handle,
        counted: Arc<Counted>,
        made: Made,
    ) -> Self {
        let Made { fast, bulk, server, run_id, shards, writable, history } = made;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if !writable {
            for shard in &shards.all {
                shard.breaker.lock().note(Ask::Write, Evidence::NoWrites, Instant::now());
            }
        }
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            me,
            number,
            made: Instant::now(),
            spec,
            background,
            fast,
            bulk,
            bulk_room: Semaphore::new(BULK_MAX),
            reader: OnceCell::new(),
            lanes: Mutex::default(),
            lanes_begun: AtomicU64::new(0),
            second: AtomicUsize::new(0),
            run_id,
            server,
            shards: ArcSwap::from_pointee(shards),
            writable,
            history: Mutex::new(history),
            no_writes: Mutex::new((!writable).then(|| RedisError::NoWrites { code: "READONLY".to_owned() })),
            ended: AtomicBool::new(false),
            end: watch::Sender::new(None),
            trouble: tokio::sync::Notify::new(),
            counted,
        }
    }

    /// Its number: each link of a Redis has a higher one than those before.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// How long it has been there.
    pub fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Whether it goes to a primary. A replica is read, and its log is not to be trusted.
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether it is a replica of what `primary` leads to: what it has was written there.
    pub(super) fn follows(&self, primary: &Self) -> bool {
        if self.writable || !primary.writable {
            return false;
        }
        let history = self.history.lock();
        history.is_some() && *history == *primary.history.lock()
    }

    /// A replica may follow another primary by and by.
    pub(super) fn set_history(&self, history: Option<String>) {
        *self.history.lock() = history;
    }

    /// Why writes are not taken, where they are not.
    pub(super) fn why_no_writes(&self) -> Option<RedisError> {
        let refused = self.shards().all.iter().any(|shard| shard.breaker.lock().is_open_for_writes());
        if refused { self.no_writes.lock().clone() } else { None }
    }

    /// Whether it is still in use.
    pub fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Waits until it is given up.
    pub async fn ended(&self) {
        // An error: the sender is gone, and with it the link.
        let _ = self.end.subscribe().wait_for(Option::is_some).await;
    }

    /// Why it was given up.
    pub(super) fn why_ended(&self) -> Option<RedisError> {
        self.end.borrow().clone()
    }

    /// Gives it up. Whatever is under way ends by its own budget.
    pub(super) fn give_up(&self, why: RedisError) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.end.send_replace(Some(why));
            let lanes = std::mem::take(&mut *self.lanes.lock());
            lanes.iter().filter_map(Weak::upgrade).for_each(|lane| lane.end());
        }
    }

    // ---------------------------------------------------------------- lanes

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) const fn spec(&self) -> &Arc<model::Redis> {
        &self.spec
    }

    /// Which process of Redis it goes to, where that is one.
    pub fn run_id(&self) -> Option<&str> {
        self.run_id.as_deref()
    }

    pub(super) fn is_background(&self, runtime: &Handle) -> bool {
        self.background.id() == runtime.id()
    }

    /// One more lane, if the server is one that may have lanes, and the bound on connections allows it.
    pub(super) fn take_room_for_lane(&self) -> Option<Weak<Self>> {
        self.run_id.as_ref()?;
        let room = u64::from(self.spec.max_connections).saturating_sub(SHARED_CONNECTIONS);
        let taken = |begun: u64| (begun < room).then_some(begun + 1);
        let taken = self.lanes_begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        taken.is_ok().then(|| self.me.clone())
    }

    /// A lane that was begun is no more.
    pub(super) fn give_room_back(&self) {
        self.lanes_begun.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a lane along when the link ends. False: it has ended.
    pub(super) fn keep_lane(&self, lane: &Arc<Lane>) -> bool {
        let mut lanes = self.lanes.lock();
        let is_alive = self.is_alive();
        if is_alive {
            lanes.retain(|lane| lane.strong_count() > 0);
            lanes.push(Arc::downgrade(lane));
        }
        is_alive
    }

    /// Asks over a lane. A read whose answer is lost with the lane, or not there when half of the budget is over, is asked for once more over the
    /// shared connection, within the same budget. A lane that is silent where the other one answers is given up, with its queue of late answers.
    async fn over_lane<T>(
        &self,
        lane: &Lane,
        budget: Duration,
        mut asking: Pin<&mut impl Future<Output = Result<T, RedisError>>>,
        mut again: Pin<&mut impl Future<Output = Result<T, RedisError>>>,
    ) -> Result<T, RedisError> {
        let half = budget / 2;
        let first = match tokio::time::timeout(half, &mut asking).await {
            Ok(Err(RedisError::Lost { .. } | RedisError::Unexpected)) if self.is_alive() => None,
            Ok(answer) => return answer,
            Err(_) => Some(asking),
        };
        let rest = budget - half;
        let Some(mut asking) = first else { return client::within(rest, again).await };
        let Some(_second) = Second::of(self) else { return client::within(rest, asking).await };
        let answer = client::within(rest, async {
            tokio::select! {
                biased;
                answer = &mut asking => match answer {
                    Err(RedisError::Lost { .. } | RedisError::Unexpected) => again.await,
                    answer => answer,
                },
                answer = &mut again => match answer {
                    Ok(answer) => {
                        lane.end();
                        Ok(answer)
                    }
                    Err(_) => asking.await,
                },
            }
        });
        // The budget was the whole one.
        answer.await.map_err(|error| match error {
            RedisError::TimedOut { .. } => RedisError::TimedOut { within: budget },
            error => error,
        })
    }

    pub(super) fn shards(&self) -> arc_swap::Guard<Arc<Shards>> {
        self.shards.load()
    }

    pub(super) fn set_shards(&self, shards: Shards) {
        self.shards.store(Arc::new(shards));
    }

    pub(super) const fn server(&self) -> Option<&Endpoint> {
        self.server.as_ref()
    }

    /// Commands under way, to all servers.
    pub fn in_flight(&self) -> usize {
        self.shards().all.iter().map(|shard| shard.in_flight.load(Ordering::Relaxed)).sum()
    }

    // ---------------------------------------------------------------- commands

    /// GET, within a budget.
    pub async fn fetch(&self, key: &[u8], budget: Duration) -> Result<Option<Bytes>, RedisError> {
        let command = Command::new("GET").arg(key);
        self.ask(Operation::Get, Ask::Read, key, budget, &command).await?.bytes()
    }

    /// HGETALL of a session: names and values in turn. Asked as what writes is: once, and of a server that takes writes.
    pub async fn fetch_session(&self, key: &[u8], budget: Duration) -> Result<Vec<Reply>, RedisError> {
        let command = Command::new("HGETALL").arg(key);
        self.ask(Operation::Session, Ask::Write, key, budget, &command).await?.list()
    }

    /// GET of a mark that decides about sessions, asked likewise.
    pub async fn fetch_mark(&self, key: &[u8], budget: Duration) -> Result<Option<Bytes>, RedisError> {
        let command = Command::new("GET").arg(key);
        self.ask(Operation::Session, Ask::Write, key, budget, &command).await?.bytes()
    }

    /// GET of a value, and in the same breath the head of a log: what the value must not be older than.
    pub async fn fetch_with_head(
        &self,
        key: &[u8],
        log: &Arc<[u8]>,
        budget: Duration,
    ) -> Result<(Option<Bytes>, StreamId), RedisError> {
        if let Some(lane) = lane::of(self) {
            let asking = pin!(as_drilled(lane.ask_with_head(key, log)));
            let again = pin!(as_drilled(self.value_with_head(key, log)));
            let asking = pin!(self.over_lane(&lane, budget, asking, again));
            let (value, head) = self.counted_as(Operation::Get, Ask::Read, key, asking).await?;
            return Ok((value.bytes()?, head_of(head)?));
        }
        if matches!(self.fast, Wire::Cluster(_)) {
            let get = Command::new("GET").arg(key);
            let head = head_command(log);
            let (value, head) = tokio::join!(
                Box::pin(self.ask(Operation::Get, Ask::Read, key, budget, &get)),
                Box::pin(self.ask(Operation::Log, Ask::Read, log, budget, &head))
            );
            return Ok((value?.bytes()?, head_of(head?)?));
        }
        let asking = pin!(self.value_with_head(key, log));
        let (value, head) = self.observed(Operation::Get, Ask::Read, key, budget, asking).await?;
        Ok((value.bytes()?, head_of(head)?))
    }

    /// Both in one go, over the shared connection.
    async fn value_with_head(&self, key: &[u8], log: &[u8]) -> Result<(Reply, Reply), RedisError> {
        let (get, head) = (Command::new("GET").arg(key), head_command(log));
        let replies = self.fast.call_all(&[&get, &head]).await?;
        let [value, head]: [Reply; 2] = replies.try_into().map_err(|_| RedisError::Unexpected)?;
        Ok((value, head))
    }

    /// GET of a piece of a body, on the connection for large values.
    pub async fn fetch_piece(&self, key: &[u8], budget: Duration) -> Result<Option<Bytes>, RedisError> {
        let command = Command::new("GET").arg(key);
        let asking = async {
            let _room = self.bulk_room.acquire().await.map_err(|_| RedisError::Unexpected)?;
            match self.bulk.call(&command).await {
                // The body is not lost with the connection; the connection is, and the link with it.
                Err(error @ (RedisError::Lost { .. } | RedisError::Unexpected)) => {
                    let piece = self.fast.call(&command).await;
                    self.give_up(error);
                    piece
                }
                piece => piece,
            }
        };
        self.observed(Operation::GetPiece, Ask::Read, key, budget, pin!(asking)).await?.bytes()
    }

    /// SET with a time to live.
    pub async fn put(
        &self,
        key: &[u8],
        value: &[u8],
        ttl: Duration,
        budget: Duration,
    ) -> Result<(), RedisError> {
        let command = set(key, value, ttl);
        self.ask(Operation::Set, Ask::Write, key, budget, &command).await.map(drop)
    }

    /// Likewise, on the connection for large values.
    pub async fn put_piece(
        &self,
        key: &[u8],
        value: &[u8],
        ttl: Duration,
        budget: Duration,
    ) -> Result<(), RedisError> {
        let command = set(key, value, ttl);
        let asking = async {
            let _room = self.bulk_room.acquire().await.map_err(|_| RedisError::Unexpected)?;
            self.bulk.call(&command).await
        };
        self.observed(Operation::SetPiece, Ask::Write, key, budget, pin!(asking)).await.map(drop)
    }

    /// SET NX PX: true if the key was free.
    pub async fn claim(
        &self,
        key: &[u8],
        value: &[u8],
        ttl: Duration,
        budget: Duration,
    ) -> Result<bool, RedisError> {
        let command = set(key, value, ttl).arg(b"NX");
        let reply = self.ask(Operation::Lease, Ask::Write, key, budget, &command).await?;
        Ok(reply != Reply::Nil)
    }

    /// DEL of one of our own keys.
    pub async fn remove(&self, key: &[u8], budget: Duration) -> Result<(), RedisError> {
        let command = Command::new("DEL").arg(key);
        self.ask(Operation::Delete, Ask::Write, key, budget, &command).await.map(drop)
    }

    /// MGET of keys in one slot.
    pub async fn fetch_all(
        &self,
        keys: &[&[u8]],
        budget: Duration,
    ) -> Result<Vec<Option<Bytes>>, RedisError> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let command = keys.iter().fold(Command::new("MGET"), |command, key| command.arg(key));
        let reply = self.ask(Operation::Get, Ask::Read, first, budget, &command).await?;
        reply.list()?.into_iter().map(Reply::bytes).collect()
    }

    /// EVALSHA, or EVAL where the script is not known yet. The first key says which server is asked.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        budget: Duration,
    ) -> Result<Reply, RedisError> {
        self.run_as(Ask::Write, script, keys, arguments, budget).await
    }

    /// Likewise; a script that only reads is run by a server that takes no writes, too.
    pub async fn run_as(
        &self,
        ask: Ask,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        budget: Duration,
    ) -> Result<Reply, RedisError> {
        let key = keys.first().copied().unwrap_or_default();
        let command = script.command(true, keys, arguments);
        match self.ask(Operation::Script, ask, key, budget, &command).await {
            Err(RedisError::Refused { code, .. }) if code == "NOSCRIPT" => {
                let command = script.command(false, keys, arguments);
                self.ask(Operation::Script, ask, key, budget, &command).await
            }
            reply => reply,
        }
    }

    /// WAIT: how many replicas have what was written until now. On a connection of its own, because the server answers nothing else on it meanwhile;
    /// what is written there to be waited for is `marker`, which lives for a second.
    pub async fn wait_for_replicas(&self, marker: &[u8], within: Duration) -> Result<u64, RedisError> {
        let wire = self.dial_reader().await?;
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        client::within(within + LOG_BUDGET, async {
            wire.call(&set(marker, b"", Duration::from_secs(1))).await?;
            let waited = wire.call(&Command::new("WAIT").number(1).number(millis)).await?;
            u64::try_from(waited.int()?).map_err(|_| RedisError::Unexpected)
        })
        .await
    }

    /// HDEL: takes one's own entry out of a table of proxies.
    pub async fn remove_entry(&self, table: &[u8], entry: &[u8]) -> Result<(), RedisError> {
        let command = Command::new("HDEL").arg(table).arg(entry);
        self.ask(Operation::Log, Ask::Write, table, LOG_BUDGET, &command).await.map(drop)
    }

    /// The replication id of the primary that has this key: another one means that history may have been lost.
    pub async fn replication_id_of(&self, key: &[u8]) -> Result<String, RedisError> {
        let command = Command::new("INFO").arg(b"replication");
        // In a Cluster each primary has one of its own.
        let at = self.shards().of_key(key).and_then(|shard| shard.at.clone());
        let asking = async {
            match &at {
                Some(at) => self.fast.call_at(at, command).await,
                None => self.fast.call(&command).await,
            }
        };
        let reply = self.observed(Operation::Log, Ask::Read, key, LOG_BUDGET, pin!(asking)).await?;
        info_value(reply.text()?, "master_replid").map(str::to_owned).ok_or(RedisError::Unexpected)
    }

    /// Likewise, where there is one primary only.
    pub async fn replication_id(&self) -> Result<String, RedisError> {
        self.replication_id_of(b"").await
    }

    pub(super) const fn log_budget(&self) -> Duration {
        LOG_BUDGET
    }

    /// A command that waits at the server, on the connection that exists for it.
    pub(super) async fn ask_blocking(&self, command: &Command, wait: Duration) -> Result<Reply, RedisError> {
        let reader = match self.reader.get_or_try_init(|| self.dial_reader()).await {
            Ok(reader) => reader,
            Err(error) => {
                self.give_up(error.clone());
                return Err(error);
            }
        };
        let reply = client::within(wait + BLOCKING_GRACE, reader.call(command)).await;
        if let Err(error) = &reply
            && error.evidence() != Evidence::Neutral
        {
            // Nothing else uses this connection, so its silence is no doubt.
            self.give_up(error.clone());
        }
        reply
    }

    async fn dial_reader(&self) -> Result<Wire, RedisError> {
        let (spec, server) = (self.spec.clone(), self.server.clone());
        let dialling = self.background.spawn(async move {
            match (&server, &spec.url.place) {
                (Some(server), _) => {
                    client::dial(&spec, &server.address(), spec.database(), Credentials::Given, true).await
                }
                (None, Place::Cluster(nodes)) => client::dial_cluster(&spec, nodes, true).await,
                (None, _) => Err(RedisError::Unexpected),
            }
        });
        dialling.await.unwrap_or(Err(RedisError::Unexpected))
    }

    pub(super) async fn ask(
        &self,
        operation: Operation,
        ask: Ask,
        key: &[u8],
        budget: Duration,
        command: &Command,
    ) -> Result<Reply, RedisError> {
        match (lane::of(self), ask) {
            (Some(lane), Ask::Read) => {
                let asking = pin!(as_drilled(lane.ask(command)));
                let again = pin!(as_drilled(self.fast.call(command)));
                let asking = pin!(self.over_lane(&lane, budget, asking, again));
                self.counted_as(operation, ask, key, asking).await
            }
            // What writes may have been done although its answer was lost.
            (Some(lane), Ask::Write) => {
                self.observed(operation, ask, key, budget, pin!(lane.ask(command))).await
            }
            (None, _) => self.observed(operation, ask, key, budget, pin!(self.fast.call(command))).await,
        }
    }

    /// Asks, if the breaker lets it, within the budget; and takes what came of it into account.
    async fn observed<T>(
        &self,
        operation: Operation,
        ask: Ask,
        key: &[u8],
        budget: Duration,
        asking: Pin<&mut impl Future<Output = Result<T, RedisError>>>,
    ) -> Result<T, RedisError> {
        let asking = pin!(as_drilled(asking));
        self.counted_as(operation, ask, key, pin!(client::within(budget, asking))).await
    }

    /// Likewise, where the asking has a budget of its own.
    async fn counted_as<T>(
        &self,
        operation: Operation,
        ask: Ask,
        key: &[u8],
        asking: Pin<&mut impl Future<Output = Result<T, RedisError>>>,
    ) -> Result<T, RedisError> {
        let began = Instant::now();
        let shard = match self.admit(operation, ask, key, began) {
            Ok(shard) => shard,
            Err(skip) => {
                self.counted.skipped(skip);
                return Err(RedisError::Skipped(skip));
            }
        };
        shard.in_flight.fetch_add(1, Ordering::Relaxed);
        let answered = if ask == Ask::Write && drill::is(Fault::RedisOom) {
            drop(UnderWay(&shard));
            Err(RedisError::NoWrites { code: "OOM".to_owned() })
        } else {
            let _under_way = UnderWay(&shard);
            asking.await
        };
        let now = Instant::now();
        self.counted.done(operation, answered.as_ref().err(), now.saturating_duration_since(began));
        let evidence = answered.as_ref().err().map_or(Evidence::Good, RedisError::evidence);
        if let Err(error) = &answered {
            self.take_note(&shard, ask, evidence, error, now);
        } else {
            shard.breaker.lock().note(ask, evidence, now);
        }
        answered
    }

    fn admit(&self, operation: Operation, ask: Ask, key: &[u8], now: Instant) -> Result<Arc<Shard>, Skip> {
        if !self.is_alive() {
            return Err(Skip::Down);
        }
        let shards = self.shards();
        let shard = shards.of_key(key).ok_or(Skip::Down)?;
        let hash = operation.is_ramped().then(|| hash_of(key));
        shard.breaker.lock().admit(ask, hash, now)?;
        if shard.in_flight.load(Ordering::Relaxed) >= IN_FLIGHT_MAX {
            let skipped = RedisError::Skipped(Skip::InFlight);
            self.take_note(shard, ask, skipped.evidence(), &skipped, now);
            return Err(Skip::InFlight);
        }
        Ok(shard.clone())
    }

    fn take_note(&self, shard: &Shard, ask: Ask, evidence: Evidence, error: &RedisError, now: Instant) {
        let opened = shard.breaker.lock().note(ask, evidence, now);
        if evidence == Evidence::NoWrites {
            *self.no_writes.lock() = Some(error.clone());
        }
        let Some(opened) = opened else { return };
        self.counted.opened(opened, error);
        if shard.at.is_none() {
            self.give_up(error.clone());
        } else {
            // The other shards go on; the supervisor looks after this one.
            self.trouble.notify_one();
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Link")
            .field("number", &self.number)
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

/// In a drill that slows Redis, its answers come later.
async fn as_drilled<T>(asking: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    if drill::is(Fault::RedisSlow) {
        tokio::time::sleep(drill::LATER_BY).await;
    }
    asking.await
}

fn set(key: &[u8], value: &[u8], ttl: Duration) -> Command {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
    Command::new("SET").arg(key).arg(value).arg(b"PX").number(millis)
}

/// For the ramp: the last bytes of our keys are of a hash already.
fn hash_of(key: &[u8]) -> u64 {
    key.iter()
        .rev()
        .take(8)
        .fold(0, |hash, byte| (hash << 8 | u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A value out of what INFO answers.
pub(super) fn info_value<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| {
        line.split_once(':').filter(|(known, _)| *known == name).map(|(_, value)| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
    }

    #[test]
    fn a_key_belongs_to_the_server_that_has_its_slot_and_to_nobody_where_there_is_a_gap() {
        let at = |port| HostPort { host: "n".into(), port };
        let before = Shards::of(&[(0, 8191, at(1)), (8192, 16383, at(2))], None);
        assert_eq!(before.of_key(b"foo").unwrap().at, Some(at(2)), "slot 12182");
        before.all[0].breaker.lock().open();
        let shards =
            Shards::of(&[(0, 99, at(1)), (200, 12_000, at(2)), (12_182, 12_182, at(1))], Some(&before));
        assert_eq!(shards.all.len(), 2);
        assert!(shards.of_key(b"foo").unwrap().breaker.lock().is_open(), "and a server keeps its breaker");
        let gap = Shards::of(&[(0, 12_181, at(1)), (12_183, 16_383, at(2))], None);
        assert!(gap.of_key(b"foo").is_none());
        assert!(Shards::of(&[], None).of_key(b"foo").is_none());
        assert!(Shards::one().of_key(b"foo").is_some());
    }
}
