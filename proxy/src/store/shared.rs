//! The tier in Redis: what one proxy has stored, all find.
//!
//! - **Reading** is one round trip: the value, and beside it the head of the log of purges. What was stamped before a purge that this proxy has not
//!   applied yet must not be served, so the log is read up to that head first; without a log that can be believed the tier is not read at all. What is found goes into memory,
//!   on its own terms, so that memory never keeps it longer.
//!   Where replicas are named, the value is one of theirs and the head still the primary's: a replica that lags gives an older value, with its older stamp.
//! - **Writing** happens behind the answer. A job is a key: what is written is what memory holds for it by then, so the last one wins; and the response itself
//!   where memory has evicted it. Lanes are bounded; a
//!   job that finds no room is dropped and counted.
//! - **Filling** is collapsed across proxies by a lease in Redis. It expires by itself, whoever held it; who waits looks again and again, and after
//!   [`LEASE_WAIT`] fetches on its own.
//!
//! Keys are `prefix:v1:c:HASH` for values, `…:b:HASH:GENERATION:NUMBER` for pieces, `…:lk:HASH` for leases; HASH is SHA-256 of the whole key. Nothing else is
//! read or changed; nothing is ever searched or listed.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_semantics::Now;
use cache_semantics::storable::Terms;
use cache_semantics::vary::Fields;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::wire::{self, Corrupt, Limits, Written};
use super::{Carried, Carrying, StoredResponse};
use crate::cache::NamedCache;
use crate::clock::Clock;
use crate::config::model;
use crate::purge::{Judgement, Position, Verdict};
use crate::redis::{Link, Redis, RedisError, Script, Skip, StreamId};

/// Jobs that wait in one lane; four lanes, so that one slow write does not hold up all.
const LANE_MAX: usize = 256;
const LANES: usize = 4;
/// How long a lease is good for without its holder: a fetch that takes longer is not protected any more.
const LEASE_FOR: Duration = Duration::from_secs(5);
/// How long a request waits for another proxy's fill.
pub const LEASE_WAIT: Duration = Duration::from_secs(2);
/// Between two looks, at first and at last.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(100);
/// A look so long ago says nothing of now.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The largest value: variants beyond it are left out.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Heads are limited where they are received; here against what others may have written.
const HEAD_BYTES_MAX: usize = 256 << 10;
const FIELDS_MAX: usize = 1024;
const VARIANTS_MAX: usize = 64;

/// Where the log of purges is whose head says what a value must not be older than.
#[derive(Debug, Clone)]
pub struct LogHead {
    /// The Redis.
    pub redis: Arc<Redis>,
    /// The stream.
    pub stream: Arc<[u8]>,
}

/// A cache's tier in Redis.
pub struct SharedTier {
    redis: Arc<Redis>,
    spec: model::SharedTier,
    log: LogHead,
    lanes: Box<[mpsc::Sender<Job>]>,
    carrying: Carrying,
    /// What is counted.
    pub counted: Arc<Counted>,
}

/// What came of looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Something is in memory now that was not.
    Found,
    /// There is nothing.
    Nothing,
    /// It could not be asked, or not be believed.
    Skipped,
}

/// What is counted of one tier.
#[derive(Debug, Default)]
pub struct Counted {
    /// Looks that found something that counts.
    pub hits: AtomicU64,
    /// Looks that found nothing.
    pub misses: AtomicU64,
    /// Looks that came to nothing: Redis was not asked, too slow, or not to be believed.
    pub skipped: AtomicU64,
    /// Values that were not whole, or not ours.
    pub corrupt: AtomicU64,
    /// Values that a purge has made worthless.
    pub purged: AtomicU64,
    /// Values that were stamped further on than the log is read.
    pub ahead: AtomicU64,
    /// Values written.
    pub written: AtomicU64,
    /// Writes that failed.
    pub write_failed: AtomicU64,
    /// Writes for which there was no room.
    pub dropped: AtomicU64,
    /// Hits among them whose value a replica gave.
    pub replica: AtomicU64,
    /// Fills that another proxy led.
    pub collapsed: AtomicU64,
    /// Waits for another proxy's fill that came to nothing.
    pub wait_ended: AtomicU64,
}

impl Counted {
    /// All of it, by word.
    pub fn all(&self) -> [(&'static str, u64); 12] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("hit", read(&self.hits)),
            ("miss", read(&self.misses)),
            ("skipped", read(&self.skipped)),
            ("corrupt", read(&self.corrupt)),
            ("purged", read(&self.purged)),
            ("ahead", read(&self.ahead)),
            ("written", read(&self.written)),
            ("write-failed", read(&self.write_failed)),
            ("write-dropped", read(&self.dropped)),
            ("replica", read(&self.replica)),
            ("collapsed", read(&self.collapsed)),
            ("wait-ended", read(&self.wait_ended)),
        ]
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Who may be asked for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// A replica, if there is one.
    Any,
    /// The primary: what was written a moment ago is wanted.
    Primary,
}

enum Job {
    /// Write what memory holds for this key.
    Write { cache: Arc<NamedCache>, key: Box<[u8]>, carried: Option<Carried> },
    /// Remove what was found broken.
    Remove { key: Box<[u8]> },
    /// The fill is over.
    Unlock { key: Box<[u8]>, holder: u128 },
}

/// The right to fill for all proxies. Dropped, it is given back behind what was written before.
pub struct Lease {
    tier: Arc<SharedTier>,
    key: Box<[u8]>,
    holder: u128,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let job = Job::Unlock { key: std::mem::take(&mut self.key), holder: self.holder };
        // No room: it expires.
        let _ = self.tier.lane(&job).try_send(job);
    }
}

/// What came of asking for the right to fill.
pub enum Leased {
    /// Fill. `None`: without a lease, because Redis is not asked or the wait was in vain.
    Lead(Option<Lease>),
    /// Another proxy has filled it meanwhile: it is in memory.
    Found,
}

impl SharedTier {
    /// The tier of one cache. Its writers run until the last handle is dropped.
    pub fn start(
        redis: Arc<Redis>,
        spec: model::SharedTier,
        log: LogHead,
        clock: &Arc<dyn Clock>,
        background: &Handle,
    ) -> Arc<Self> {
        let counted = Arc::<Counted>::default();
        let lanes = (0..LANES).map(|_| {
            let (sender, jobs) = mpsc::channel(LANE_MAX);
            let writer = Writer {
                redis: redis.clone(),
                spec: spec.clone(),
                counted: counted.clone(),
                clock: clock.clone(),
                unlock: unlock(),
            };
            background.spawn(writer.run(jobs));
            sender
        });
        let lanes = lanes.collect();
        Arc::new(Self { redis, spec, log, lanes, carrying: Carrying::default(), counted })
    }

    /// What the configuration says.
    pub fn spec(&self) -> &model::SharedTier {
        &self.spec
    }

    /// Whether it is what would be started anew for this.
    pub fn is(&self, spec: &model::SharedTier, redis: &Arc<Redis>, log: &LogHead) -> bool {
        let same_log = Arc::ptr_eq(&self.log.redis, &log.redis) && self.log.stream == log.stream;
        self.spec == *spec && Arc::ptr_eq(&self.redis, redis) && same_log
    }

    /// The Redis it is in.
    pub fn redis(&self) -> &Arc<Redis> {
        &self.redis
    }

    /// Looks for the key, and puts what is found into the cache's memory.
    pub async fn look(&self, cache: &NamedCache, key: &[u8], wanted: Fields<'_>, now: Now) -> Looked {
        self.look_at(From::Any, cache, key, wanted, now).await
    }

    async fn look_at(
        &self,
        from: From,
        cache: &NamedCache,
        key: &[u8],
        wanted: Fields<'_>,
        now: Now,
    ) -> Looked {
        match self.try_look(from, cache, key, wanted, now).await {
            Ok(true) => {
                one_more(&self.counted.hits);
                Looked::Found
            }
            Ok(false) => {
                one_more(&self.counted.misses);
                Looked::Nothing
            }
            Err(_) => {
                one_more(&self.counted.skipped);
                Looked::Skipped
            }
        }
    }

    /// The value and the head of the log, which is not older than this call; and the link that gave the value.
    async fn value_and_head(
        &self,
        from: From,
        name: &[u8],
        until: Instant,
    ) -> Result<(Option<Bytes>, StreamId, Arc<Link>), RedisError> {
        let left = || until.saturating_duration_since(Instant::now());
        let link = self.redis.link()?;
        if let (From::Any, Some(replica)) = (from, self.redis.replica(&link)) {
            let log = self.log.redis.link()?;
            // Half of the time: the rest is for the primary.
            let both = async {
                tokio::join!(replica.fetch(name, left() / 2), log.head_within(&self.log.stream, left()))
            };
            let (value, head) = Box::pin(both).await;
            let head = head?;
            if let Ok(value) = value {
                return Ok((value, head, replica));
            }
        }
        if Arc::ptr_eq(&self.log.redis, &self.redis) {
            let (value, head) = link.fetch_with_head(name, &self.log.stream, left()).await?;
            return Ok((value, head, link));
        }
        let log = self.log.redis.link()?;
        let both =
            async { tokio::join!(link.fetch(name, left()), log.head_within(&self.log.stream, left())) };
        let (value, head) = Box::pin(both).await;
        Ok((value?, head?, link))
    }

    async fn try_look(
        &self,
        from: From,
        cache: &NamedCache,
        key: &[u8],
        wanted: Fields<'_>,
        now: Now,
    ) -> Result<bool, RedisError> {
        self.may_believe(cache)?;
        let until = Instant::now() + self.redis.spec().read_budget;
        let left = || until.saturating_duration_since(Instant::now());
        let name = self.name(Kind::Value, key);
        let (value, head, link) = self.value_and_head(from, &name, until).await?;
        let Some(value) = value else { return Ok(false) };
        // What is newer than all that is applied here may be about this very value.
        if !cache.purges.has_read(position(head), left()).await {
            one_more(&self.counted.ahead);
            return Ok(false);
        }
        let mut found = false;
        let limits = Limits {
            body_bytes: cache.spec().max_body,
            head_bytes: HEAD_BYTES_MAX,
            fields: FIELDS_MAX,
            variants: VARIANTS_MAX.max(cache.variants_max()),
        };
        let read = match wire::read(&value, key, &limits, now) {
            Ok(read) => read,
            Err(why) => {
                self.broken(key, why);
                return Ok(false);
            }
        };
        // The newest is first, and each goes in front of those that are there.
        for read in read.into_iter().rev() {
            // Purges are remembered for as long as anything may be here, and no longer.
            if since_received(&read.terms, now) >= self.spec.max_ttl {
                continue;
            }
            if cache.is_outdated(&read.labels, now) {
                one_more(&self.counted.purged);
                continue;
            }
            let known = cache.spec().known(key, &read.labels);
            let (number, softened) = match cache.purges.check_at(read.position, &known) {
                Judgement::Known(Verdict::Valid(number)) => (number, None),
                Judgement::Known(Verdict::Softened(how)) => (how.upto, Some(how)),
                Judgement::Known(Verdict::Purged) => {
                    one_more(&self.counted.purged);
                    continue;
                }
                Judgement::Future => {
                    one_more(&self.counted.ahead);
                    continue;
                }
            };
            let is_wanted = read.variant.matches(wanted);
            let beside = match read.content.pieces() {
                Some(_) if !is_wanted => continue,
                Some((generation, count)) => {
                    match Box::pin(self.pieces(&link, key, generation, count)).await? {
                        Some(pieces) => pieces,
                        None => {
                            self.broken(key, Corrupt::Missing);
                            return Ok(found);
                        }
                    }
                }
                None => Vec::new(),
            };
            let response = match cache.revive(read, beside, (number, softened), now) {
                Ok(response) => response,
                Err(why) => {
                    self.broken(key, why);
                    return Ok(found);
                }
            };
            found |= cache.adopt(key, response) && is_wanted;
        }
        if found && !link.is_writable() {
            one_more(&self.counted.replica);
        }
        Ok(found)
    }

    /// The pieces of a body. `None`: one is gone. Each has the read budget: a large body is worth more of it than a small one.
    async fn pieces(
        &self,
        link: &Link,
        key: &[u8],
        generation: u64,
        count: u64,
    ) -> Result<Option<Vec<Bytes>>, RedisError> {
        let budget = self.redis.spec().read_budget;
        let mut pieces = Vec::new();
        for number in 0..count {
            let name = self.name(Kind::Piece(generation, number), key);
            match link.fetch_piece(&name, budget).await? {
                Some(piece) => pieces.push(piece),
                None => return Ok(None),
            }
        }
        Ok(Some(pieces))
    }

    fn broken(&self, key: &[u8], why: Corrupt) {
        one_more(&self.counted.corrupt);
        tracing::warn!(redis = &*self.redis.spec().name, %why, "a value in redis is not usable; it is removed");
        let job = Job::Remove { key: key.into() };
        // No room: the next fill overwrites it.
        let _ = self.lane(&job).try_send(job);
    }

    /// Has what memory holds for the key written, soon. Waits for nothing.
    pub fn write_behind(&self, cache: &Arc<NamedCache>, key: &[u8], stored: &Arc<StoredResponse>) {
        let carried = self.carrying.take(stored);
        let job = Job::Write { cache: cache.clone(), key: key.into(), carried };
        if self.lane(&job).try_send(job).is_err() {
            one_more(&self.counted.dropped);
        }
    }

    /// Asks for the right to fill; waits for whoever has it, but not for ever. `looked`: when the look was begun that found nothing.
    pub async fn lease(
        self: &Arc<Self>,
        cache: &NamedCache,
        key: &[u8],
        wanted: Fields<'_>,
        clock: &Arc<dyn Clock>,
        looked: Instant,
    ) -> Leased {
        let holder = random();
        let until = Instant::now() + LEASE_WAIT;
        let mut wait = LOOK_MIN;
        let mut has_waited = false;
        loop {
            match self.claim(cache, key, holder).await {
                Ok(true) => {
                    // Whoever had it may have filled between our look and now. At once after the look that is next to impossible, and a round trip for every miss.
                    // A replica may not have what the primary has.
                    let may_be_there =
                        has_waited || self.redis.has_replicas() || looked.elapsed() >= LOOK_AGAIN;
                    if may_be_there
                        && self.look_at(From::Primary, cache, key, wanted, clock.now()).await == Looked::Found
                    {
                        one_more(&self.counted.collapsed);
                        drop(Lease { tier: self.clone(), key: key.into(), holder });
                        return Leased::Found;
                    }
                    return Leased::Lead(Some(Lease { tier: self.clone(), key: key.into(), holder }));
                }
                Ok(false) => {}
                Err(_) => return Leased::Lead(None),
            }
            if Instant::now() >= until {
                one_more(&self.counted.wait_ended);
                return Leased::Lead(None);
            }
            has_waited = true;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LOOK_MAX);
            match self.look_at(From::Primary, cache, key, wanted, clock.now()).await {
                Looked::Found => {
                    one_more(&self.counted.collapsed);
                    return Leased::Found;
                }
                Looked::Nothing => {}
                Looked::Skipped => return Leased::Lead(None),
            }
        }
    }

    /// Nothing is read while the log of purges is not followed: somebody may have purged it.
    fn may_believe(&self, cache: &NamedCache) -> Result<(), RedisError> {
        if cache.purges.is_open() { Ok(()) } else { Err(RedisError::Skipped(Skip::Down)) }
    }

    async fn claim(&self, cache: &NamedCache, key: &[u8], holder: u128) -> Result<bool, RedisError> {
        let link = self.redis.link()?;
        // What could not be read afterwards is not waited for either.
        self.may_believe(cache)?;
        let name = self.name(Kind::Lease, key);
        link.claim(&name, &holder.to_be_bytes(), LEASE_FOR, self.redis.spec().read_budget).await
    }

    fn lane(&self, job: &Job) -> &mpsc::Sender<Job> {
        // By the key, so that what concerns one key happens in order.
        let (Job::Write { key, .. } | Job::Remove { key } | Job::Unlock { key, .. }) = job;
        let sum: usize = key.iter().rev().take(16).map(|byte| usize::from(*byte)).sum();
        &self.lanes[sum % self.lanes.len()]
    }

    fn name(&self, kind: Kind, key: &[u8]) -> Vec<u8> {
        name(&self.spec.prefix, kind, key)
    }
}

impl std::fmt::Debug for SharedTier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SharedTier").field("spec", &self.spec).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Value,
    Lease,
    Piece(u64, u64),
}

fn name(prefix: &str, kind: Kind, key: &[u8]) -> Vec<u8> {
    let mut name = String::with_capacity(prefix.len() + 96);
    name.push_str(prefix);
    name.push_str(match kind {
        Kind::Value => ":c:",
        Kind::Lease => ":lk:",
        Kind::Piece(..) => ":b:",
    });
    for byte in ring::digest::digest(&ring::digest::SHA256, key).as_ref() {
        name.push(HEX[usize::from(byte >> 4)]);
        name.push(HEX[usize::from(byte & 15)]);
    }
    if let Kind::Piece(generation, number) = kind {
        write!(name, ":{generation:016x}:{number}").expect("a string takes all");
    }
    name.into_bytes()
}

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

fn unlock() -> Script {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end",
    )
}

/// How long ago it was received, by whichever proxy, by the wall clock.
fn since_received(terms: &Terms, now: Now) -> Duration {
    now.wall.duration_since(terms.received_wall()).unwrap_or_default()
}

fn position(id: StreamId) -> Position {
    Position { ms: id.millis, seq: id.sequence }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without randomness two holders could take each other's lease back, which costs a second fetch.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u128::from_be_bytes(bytes)
}

/// One lane's writer.
struct Writer {
    redis: Arc<Redis>,
    spec: model::SharedTier,
    counted: Arc<Counted>,
    clock: Arc<dyn Clock>,
    unlock: Script,
}

impl Writer {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Write { cache, key, carried } => {
                    match self.write(&cache, &key, carried.as_ref()).await {
                        Ok(true) => one_more(&self.counted.written),
                        Ok(false) => {}
                        Err(_) => one_more(&self.counted.write_failed),
                    }
                }
                Job::Remove { key } => {
                    if let Ok(link) = self.redis.link() {
                        let name = name(&self.spec.prefix, Kind::Value, &key);
                        // It is overwritten in any case.
                        let _ = link.remove(&name, self.redis.spec().write_budget).await;
                    }
                }
                Job::Unlock { key, holder } => {
                    if let Ok(link) = self.redis.link() {
                        let name = name(&self.spec.prefix, Kind::Lease, &key);
                        let budget = self.redis.spec().write_budget;
                        // It expires in any case.
                        let _ = link.run(&self.unlock, &[&name], &[&holder.to_be_bytes()], budget).await;
                    }
                }
            }
        }
    }

    /// Writes what memory holds. False: nothing that is worth it.
    async fn write(
        &self,
        cache: &Arc<NamedCache>,
        key: &[u8],
        carried: Option<&Carried>,
    ) -> Result<bool, RedisError> {
        let link = self.redis.link()?;
        let now = self.clock.now();
        let variants = cache.shareable(key, carried, self.spec.max_body);
        let remaining = variants.iter().map(|stored| {
            let held = now.mono.saturating_duration_since(stored.terms.received());
            let keep = stored.terms.keep_for().saturating_sub(held);
            keep.min(self.spec.max_ttl.saturating_sub(since_received(&stored.terms, now)))
        });
        let ttl = remaining.max().unwrap_or_default();
        if ttl.is_zero() {
            return Ok(false);
        }
        let bytes: u64 = variants.iter().map(|stored| stored.content_len()).sum();
        let Some(Written { value, beside }) = self.written(key, variants, bytes).await else {
            return Ok(false);
        };
        let budget = self.redis.spec().write_budget;
        // The pieces first: a value that can be read has all of them.
        for beside in beside {
            for (number, piece) in beside.content.chunks(wire::PIECE_BYTES).enumerate() {
                let kind = Kind::Piece(beside.generation, number as u64);
                // A moment longer than the value that refers to them.
                let ttl = ttl + Duration::from_secs(10);
                link.put_piece(&name(&self.spec.prefix, kind, key), piece, ttl, budget).await?;
            }
        }
        link.put(&name(&self.spec.prefix, Kind::Value, key), &value, ttl, budget).await?;
        Ok(true)
    }

    /// Large content is compressed on a thread of its own: the background has other things to do.
    async fn written(&self, key: &[u8], variants: Vec<Arc<StoredResponse>>, bytes: u64) -> Option<Written> {
        let compression = self.spec.compression;
        let generation =
            || u64::from_be_bytes(random().to_be_bytes()[..8].try_into().expect("eight of sixteen"));
        if bytes <= super::PACKED_MAX as u64 {
            return wire::write(key, &variants, compression, VALUE_BYTES_MAX, generation);
        }
        let key: Box<[u8]> = key.into();
        let writing = tokio::task::spawn_blocking(move || {
            wire::write(&key, &variants, compression, VALUE_BYTES_MAX, generation)
        });
        writing.await.ok().flatten()
    }
}
