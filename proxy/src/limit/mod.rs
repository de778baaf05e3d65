//! Rate limits: who may pass, how many at once, and what they are told.
//!
//! ```text
//!  admit ── allow, deny ──→ key ──→ what this proxy knows (rate_limit::Table)
//!                                     ├ no Redis configured: decided here
//!                                     ├ a lease, or a refusal that still holds: decided here
//!                                     └ else: one script in Redis, within its budget ── no answer ──→ `when_redis_is_down`
//!  hold ──→ places for each key (slots.rs), a queue bounded in length and time; over all proxies, one script in Redis (places.rs)
//! ```
//!
//! [`admit`] is a plain function: most decisions wait for nobody. Only where Redis must be asked does it hand over to [`Asked::answered`]. The arithmetic is in
//! the crate `rate-limit`; keys in `key.rs`; what Redis is asked in `shared.rs`; what clients are told in `said.rs`; messages on a WebSocket in `meter.rs`.

mod key;
mod meter;
mod places;
mod said;
mod shared;
mod slots;
pub mod spec;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rate_limit::{Decision, Question, Refusal, SECOND, Step, Table, Ticks, fields};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub use self::key::{Asking, Charge};
pub use self::meter::{Frames, Meter};
use self::places::Places;
use self::said::Words;
pub use self::said::{Said, say};
use self::shared::{Proxies, Shared};
pub use self::slots::Held;
use self::slots::{Full, Slots};
use self::spec::{Limit, Rate, RouteLimit, WhenDown};
use crate::clock::{Clock, Now};
use crate::identity;
use crate::redis::Redis;

/// A `[limit.NAME]` at work.
#[derive(Debug)]
pub struct Limiter {
    spec: Arc<Limit>,
    memory: Arc<Memory>,
    shared: Option<Shared>,
    in_flight: Option<Arc<Slots>>,
    websockets: Option<Arc<Slots>>,
    counted: Arc<Counted>,
    words: Option<Words>,
    /// Who asks is known only when the session has been opened.
    by_session: bool,
    /// Who pays, and how much, is a plugin's to say.
    by_plugin: bool,
}

/// What this proxy knows of its keys. A reload keeps it.
#[derive(Debug)]
struct Memory {
    table: Table,
    keys: usize,
    began: Instant,
    seed: u64,
}

impl Memory {
    fn ticks(&self, now: Now) -> Ticks {
        // Numbers of 64 bits are enough for fifty thousand years, and divided much sooner than those of `as_nanos`.
        let since = now.mono.saturating_duration_since(self.began);
        SECOND + since.as_secs() * SECOND + u64::from(since.subsec_nanos()) / 100
    }
}

/// Which way a decision was come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// This proxy counts alone.
    Local,
    /// With what Redis had given or refused before.
    Lease,
    /// Redis said so.
    Redis,
    /// Redis did not answer: what was configured for that.
    Share,
    Full,
    Open,
    Closed,
}

impl By {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Local, "local"),
        (Self::Lease, "lease"),
        (Self::Redis, "redis"),
        (Self::Share, "share"),
        (Self::Full, "full"),
        (Self::Open, "open"),
        (Self::Closed, "closed"),
    ];
}

/// What a limit has decided.
#[derive(Debug, Default)]
struct Counted {
    admitted: [AtomicU64; By::ALL.len()],
    refused: [AtomicU64; By::ALL.len()],
    /// Would have been refused: only shadow mode let it pass.
    shadow: [AtomicU64; By::ALL.len()],
    /// By address.
    allowed: AtomicU64,
    denied: AtomicU64,
    /// Too many at once.
    full: AtomicU64,
}

/// A route's use of a limit.
#[derive(Debug, Clone)]
pub struct PlanLimit {
    /// The limit.
    pub limiter: Arc<Limiter>,
    /// What a request costs.
    pub cost: u64,
}

/// What comes of asking to pass.
pub enum Admission {
    /// It may; this is to be said in the answer.
    Admitted(Said),
    /// It may not.
    Refused(Box<Refused>),
    /// Redis must be asked.
    Ask(Asked),
}

/// Why a request may not pass.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Which limit.
    pub limit: Arc<str>,
    /// In which way.
    pub why: Why,
    /// The quotas that have no room, by name.
    pub violated: Vec<Arc<str>>,
    /// When to come back, in seconds.
    pub retry_after_s: u64,
    /// What is to be said beside it.
    pub said: Said,
}

/// In which way a request is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too many in a time.
    Rate,
    /// Too many at once.
    AtOnce,
    /// The address is not wanted.
    Denied,
    /// Redis cannot be asked, and nothing may pass without it.
    Closed,
}

thread_local! {
    /// Memory for making keys.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is not known yet of a request: limits that count by it are asked later.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unknown {
    /// Its session.
    pub session: bool,
    /// What its plugins say that it costs.
    pub charges: bool,
}

impl Unknown {
    fn concerns(self, limiter: &Limiter) -> bool {
        (self.session && limiter.by_session) || (self.charges && limiter.by_plugin)
    }
}

/// Asks all limits of a route that charge every request, but for those that count by what is not known yet.
pub fn admit(limits: &[PlanLimit], asking: &Asking<'_>, unknown: Unknown, now: Now) -> Admission {
    admit_those(limits, asking, now, |limiter| !unknown.concerns(limiter))
}

/// Those that count by what plugins say, when they have said it.
pub fn admit_charged(limits: &[PlanLimit], asking: &Asking<'_>, session_later: bool, now: Now) -> Admission {
    admit_those(limits, asking, now, |limiter| limiter.by_plugin && !(session_later && limiter.by_session))
}

fn admit_those(
    limits: &[PlanLimit],
    asking: &Asking<'_>,
    now: Now,
    wanted: impl Fn(&Limiter) -> bool,
) -> Admission {
    if limits.is_empty() {
        return Admission::Admitted(Said::new());
    }
    KEY.with_borrow_mut(|key| {
        let mut said = Said::new();
        for (index, limit) in limits.iter().enumerate() {
            let limiter = &limit.limiter;
            match limiter.listed(asking) {
                Some(Listed::Allowed) => continue,
                Some(Listed::Denied) => return Admission::Refused(limiter.denied()),
                None => {}
            }
            if limiter.spec.charge != spec::Charge::All || limiter.spec.rate.is_none() || !wanted(limiter) {
                continue;
            }
            for (paid, (whose, cost)) in limit.payments(asking).enumerate() {
                key.clear();
                asking.write_key(&limiter.spec.key, whose, key);
                match limiter.step(key, cost, now) {
                    Ok(Stepped::Known(decision, by)) => match limiter.outcome(decision, by, &mut said) {
                        Ok(()) => {}
                        Err(refused) => return Admission::Refused(refused),
                    },
                    Ok(Stepped::Ask(question)) => {
                        let mut todo = todo(&limits[index..], asking, spec::Charge::All, &wanted);
                        todo.drain(..paid);
                        return Admission::Ask(Asked { todo, question: Some(question), said });
                    }
                    Err(refused) => return Admission::Refused(refused),
                }
            }
        }
        Admission::Admitted(said)
    })
}

/// Those limits that charge only requests for which the origin is asked.
pub fn when_missed(limits: &[PlanLimit], asking: &Asking<'_>) -> Asked {
    Asked { todo: todo(limits, asking, spec::Charge::Miss, |_| true), question: None, said: Said::new() }
}

/// Those that count by session or user, when that is known.
pub fn when_opened(limits: &[PlanLimit], asking: &Asking<'_>, unknown: Unknown) -> Asked {
    let wanted = |limiter: &Limiter| limiter.by_session && !unknown.concerns(limiter);
    Asked { todo: todo(limits, asking, spec::Charge::All, wanted), question: None, said: Said::new() }
}

fn todo(
    limits: &[PlanLimit],
    asking: &Asking<'_>,
    charge: spec::Charge,
    wanted: impl Fn(&Limiter) -> bool,
) -> Vec<(Arc<Limiter>, u64, Box<[u8]>)> {
    let mut key = Vec::new();
    let mut todo = Vec::new();
    for limit in limits {
        let (limiter, spec) = (&limit.limiter, &limit.limiter.spec);
        if spec.charge == charge && spec.rate.is_some() && wanted(limiter) && limiter.listed(asking).is_none()
        {
            for (whose, cost) in limit.payments(asking) {
                key.clear();
                asking.write_key(&spec.key, whose, &mut key);
                todo.push((limiter.clone(), cost, key.as_slice().into()));
            }
        }
    }
    todo
}

impl PlanLimit {
    /// What a request pays: who, where a plugin says that, and how much. Nothing at all, where plugins charge something else.
    fn payments<'a>(&'a self, asking: &Asking<'a>) -> impl Iterator<Item = (Option<&'a str>, u64)> {
        let said = asking.charges.filter(|_| self.limiter.by_plugin);
        let own = said.is_none().then_some((None, self.cost));
        let of_plugins =
            said.into_iter().flatten().filter(|charge| *charge.bucket == *self.limiter.spec.name);
        own.into_iter()
            .chain(of_plugins.map(|charge| (charge.key.as_deref(), charge.cost.unwrap_or(self.cost))))
    }
}

/// Limits that are still to be asked, with all they need.
pub struct Asked {
    todo: Vec<(Arc<Limiter>, u64, Box<[u8]>)>,
    /// What the first of them is to ask of Redis, where that has turned out already.
    question: Option<Question>,
    said: Said,
}

impl Asked {
    /// Asks them, in order, until one refuses.
    pub async fn answered(self, clock: &dyn Clock) -> Result<Said, Box<Refused>> {
        let Self { todo, mut question, mut said } = self;
        for (limiter, cost, key) in todo {
            limiter.charge(question.take(), &key, cost, clock, &mut said).await?;
        }
        Ok(said)
    }
}

/// Takes a place in every limit that counts how many are there at once; waits where there is a queue.
pub async fn hold(
    limits: &[PlanLimit],
    asking: &Asking<'_>,
    websocket: bool,
) -> Result<Vec<Held>, Box<Refused>> {
    let mut held = Vec::new();
    for limit in limits {
        let limiter = &limit.limiter;
        let slots = if websocket { &limiter.websockets } else { &limiter.in_flight };
        let Some(slots) = slots else { continue };
        if limiter.listed(asking).is_some() {
            continue;
        }
        // Where plugins charge something else, there is nobody to count for.
        let Some((whose, _)) = limit.payments(asking).next() else { continue };
        let mut key = Vec::new();
        asking.write_key(&limiter.spec.key, whose, &mut key);
        let why = match slots.take(limiter.hash(&key), &key).await {
            Ok(place) => {
                held.push(place);
                continue;
            }
            Err(Full::Taken) => Why::AtOnce,
            Err(Full::Closed) => Why::Closed,
        };
        limiter.counted.full.fetch_add(1, Ordering::Relaxed);
        if !limiter.spec.shadow {
            return Err(limiter.refused(why, 1));
        }
    }
    Ok(held)
}

/// Whether any of them counts how many are there at once.
pub fn holds(limits: &[PlanLimit], websocket: bool) -> bool {
    limits.iter().any(|limit| {
        if websocket { limit.limiter.websockets.is_some() } else { limit.limiter.in_flight.is_some() }
    })
}

/// What counts the messages of a WebSocket, where a limit says how many; the strictest.
pub fn meter(limits: &[PlanLimit]) -> Option<Meter> {
    let quotas = limits.iter().filter(|limit| !limit.limiter.spec.shadow);
    let quotas = quotas.filter_map(|limit| limit.limiter.spec.messages);
    Meter::new(quotas.max_by_key(rate_limit::Quota::interval)?)
}

/// What an address alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Allowed,
    Denied,
}

enum Stepped {
    Known(Option<Decision>, By),
    Ask(Question),
}

impl Limiter {
    /// What the configuration says.
    pub fn spec(&self) -> &Limit {
        &self.spec
    }

    /// Whether who pays, and how much, is a plugin's to say.
    pub const fn counts_by_plugin(&self) -> bool {
        self.by_plugin
    }

    fn hash(&self, key: &[u8]) -> u128 {
        xxh3_128_with_seed(key, self.memory.seed)
    }

    fn listed(&self, asking: &Asking<'_>) -> Option<Listed> {
        if self.spec.allow.is_empty() && self.spec.deny.is_empty() {
            return None;
        }
        let address = asking.identity.address()?;
        let listed = if identity::contains(&self.spec.allow, address) {
            (Listed::Allowed, &self.counted.allowed)
        } else if identity::contains(&self.spec.deny, address) && !self.spec.shadow {
            (Listed::Denied, &self.counted.denied)
        } else {
            return None;
        };
        listed.1.fetch_add(1, Ordering::Relaxed);
        Some(listed.0)
    }

    /// Decides as far as that is possible without asking.
    fn step(&self, key: &[u8], cost: u64, now: Now) -> Result<Stepped, Box<Refused>> {
        let Some(rate) = &self.spec.rate else { return Ok(Stepped::Known(None, By::Local)) };
        let (hash, ticks) = (self.hash(key), self.memory.ticks(now));
        let Some(shared) = &self.shared else {
            let decide = |bucket: &mut rate_limit::Bucket| bucket.decide(&rate.policy, ticks, cost, 1);
            return Ok(Stepped::Known(Some(self.memory.table.with(hash, ticks, decide)), By::Local));
        };
        let step = self.memory.table.with(hash, ticks, |bucket| bucket.step(&rate.policy, ticks, cost));
        match step {
            Step::Known(decision) => Ok(Stepped::Known(Some(decision), By::Lease)),
            Step::Ask(question) if shared.is_there() => Ok(Stepped::Ask(question)),
            Step::Ask(_) => self.without_redis(rate, shared, hash, ticks, cost),
        }
    }

    fn without_redis(
        &self,
        rate: &Rate,
        shared: &Shared,
        hash: u128,
        ticks: Ticks,
        cost: u64,
    ) -> Result<Stepped, Box<Refused>> {
        let (share, by) = match shared.spec.when_down {
            WhenDown::Share => (shared.proxies.live().max(self.spec.proxies), By::Share),
            WhenDown::Full => (1, By::Full),
            WhenDown::Open => return Ok(Stepped::Known(None, By::Open)),
            WhenDown::Closed if self.spec.shadow => return Ok(Stepped::Known(None, By::Closed)),
            WhenDown::Closed => {
                self.counted.refused[By::Closed as usize].fetch_add(1, Ordering::Relaxed);
                return Err(self.refused(Why::Closed, 1));
            }
        };
        let decide = |bucket: &mut rate_limit::Bucket| bucket.decide(&rate.policy, ticks, cost, share);
        Ok(Stepped::Known(Some(self.memory.table.with(hash, ticks, decide)), by))
    }

    /// Charges a key. `question`: what has to be asked of Redis, where that has turned out already.
    async fn charge(
        &self,
        question: Option<Question>,
        key: &[u8],
        cost: u64,
        clock: &dyn Clock,
        said: &mut Said,
    ) -> Result<(), Box<Refused>> {
        let stepped = match question {
            Some(question) => Stepped::Ask(question),
            None => self.step(key, cost, clock.now())?,
        };
        let (decision, by) = match stepped {
            Stepped::Known(decision, by) => (decision, by),
            Stepped::Ask(question) => {
                let (Some(rate), Some(shared)) = (&self.spec.rate, &self.shared) else { return Ok(()) };
                let taken = shared.take(&rate.policy, key, &question).await;
                let (hash, ticks) = (self.hash(key), self.memory.ticks(clock.now()));
                match taken {
                    Ok((granted, owed)) => {
                        let answered = |bucket: &mut rate_limit::Bucket| {
                            bucket.answered(&rate.policy, &question, ticks, granted, &owed)
                        };
                        (Some(self.memory.table.with(hash, ticks, answered)), By::Redis)
                    }
                    Err(error) => {
                        tracing::debug!(limit = &*self.spec.name, %error, "decided without Redis");
                        match self.without_redis(rate, shared, hash, ticks, cost)? {
                            Stepped::Known(decision, by) => (decision, by),
                            Stepped::Ask(_) => return Ok(()),
                        }
                    }
                }
            }
        };
        self.outcome(decision, by, said)
    }

    /// Counts a decision and says what it means.
    fn outcome(&self, decision: Option<Decision>, by: By, said: &mut Said) -> Result<(), Box<Refused>> {
        let (counters, standing, refusal) = match decision {
            None => (&self.counted.admitted, None, None),
            Some(Decision::Admitted(standing)) => (&self.counted.admitted, Some(standing), None),
            Some(Decision::Refused(refusal)) if self.spec.shadow => {
                (&self.counted.shadow, None, Some(refusal))
            }
            Some(Decision::Refused(refusal)) => (&self.counted.refused, None, Some(refusal)),
        };
        counters[by as usize].fetch_add(1, Ordering::Relaxed);
        if self.spec.shadow {
            return Ok(());
        }
        match refusal {
            None => {
                if let (Some(words), Some(standing)) = (&self.words, standing) {
                    words.say(&standing, said);
                }
                Ok(())
            }
            Some(refusal) => {
                let mut refused = self.refused(Why::Rate, fields::seconds(refusal.retry_after));
                refused.violated = self.violated(&refusal);
                refused.said = std::mem::take(said);
                if let Some(words) = &self.words {
                    words.say(&refusal.standing, &mut refused.said);
                }
                Err(refused)
            }
        }
    }

    fn violated(&self, refusal: &Refusal) -> Vec<Arc<str>> {
        let names = self.spec.rate.iter().flat_map(|rate| &rate.names).enumerate();
        names
            .filter(|(index, _)| refusal.violated & (1 << index) != 0)
            .map(|(_, name)| name.clone())
            .collect()
    }

    fn refused(&self, why: Why, retry_after_s: u64) -> Box<Refused> {
        let limit = self.spec.name.clone();
        Box::new(Refused { limit, why, violated: Vec::new(), retry_after_s, said: Said::new() })
    }

    fn denied(&self) -> Box<Refused> {
        self.refused(Why::Denied, 0)
    }

    /// What it has decided, by decision and by the way it was come to.
    pub fn decisions(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let counted = &self.counted;
        let of = |word: &'static str, counters: &[AtomicU64; By::ALL.len()]| {
            By::ALL.map(|(by, name)| (word, name, counters[by as usize].load(Ordering::Relaxed)))
        };
        let lists = [
            ("allowed", "list", counted.allowed.load(Ordering::Relaxed)),
            ("denied", "list", counted.denied.load(Ordering::Relaxed)),
            ("refused", "at-once", counted.full.load(Ordering::Relaxed)),
        ];
        let rated = [
            of("admitted", &counted.admitted),
            of("refused", &counted.refused),
            of("would-refuse", &counted.shadow),
        ];
        let mut places = [0_usize; 4];
        for slots in self.in_flight.iter().chain(&self.websockets) {
            for (sum, count) in places.iter_mut().zip(slots.decided_without_redis()) {
                *sum += count;
            }
        }
        let words = ["share", "full", "open", "closed"];
        let places = words.into_iter().zip(places).map(|(by, count)| ("place", by, count as u64));
        rated.into_iter().flatten().chain(lists).chain(places).filter(|(_, _, count)| *count > 0)
    }

    /// Keys that were forgotten although they had used something.
    pub fn forgotten(&self) -> u64 {
        self.memory.table.forgotten()
    }

    /// Requests under way, sockets that are open, and requests that wait for a place.
    pub fn at_once(&self) -> (usize, usize, usize) {
        let held = |slots: &Option<Arc<Slots>>| slots.as_ref().map_or(0, |slots| slots.held());
        let waiting = |slots: &Option<Arc<Slots>>| slots.as_ref().map_or(0, |slots| slots.waiting());
        let (requests, sockets) = (&self.in_flight, &self.websockets);
        (held(requests), held(sockets), waiting(requests) + waiting(sockets))
    }

    /// Among how many proxies it is shared, where it is.
    pub fn proxies(&self) -> Option<u64> {
        self.shared.as_ref().map(|shared| shared.proxies.live().max(self.spec.proxies))
    }

    fn new(
        spec: &Arc<Limit>,
        before: Option<&Arc<Self>>,
        redis: &BTreeMap<Arc<str>, Arc<Redis>>,
        proxies: &mut Vec<Arc<Proxies>>,
        background: &Handle,
    ) -> Self {
        let kept = before.filter(|before| before.spec.key == spec.key && before.memory.keys == spec.keys);
        let memory = kept.map(|before| before.memory.clone()).unwrap_or_else(|| {
            let (began, seed) = (Instant::now(), seed());
            Arc::new(Memory { table: Table::new(spec.keys), keys: spec.keys, began, seed })
        });
        let shared = spec.shared.as_ref().and_then(|shared| {
            let redis = redis.get(&shared.redis)?;
            let known = proxies.iter().find(|known| known.are(redis, &shared.prefix)).cloned();
            let count = known.unwrap_or_else(|| {
                let started = Proxies::start(redis.clone(), shared.prefix.clone(), background);
                proxies.push(started.clone());
                started
            });
            Some(Shared::new(redis.clone(), shared.clone(), &spec.name, count))
        });
        let places = |what: &str, max: Option<usize>, kept: Option<&Arc<Slots>>| {
            let max = max?;
            let in_redis = shared.as_ref().map(|shared| {
                let among = (shared.proxies.clone(), spec.proxies);
                Places::new(shared.redis.clone(), shared.spec.clone(), &spec.name, what, among, background)
            });
            let kept = kept.filter(|slots| slots.are(max, spec.queue, in_redis.as_ref())).cloned();
            Some(kept.unwrap_or_else(|| Slots::new(max, spec.queue, in_redis)))
        };
        Self {
            in_flight: places("requests", spec.in_flight, kept.and_then(|before| before.in_flight.as_ref())),
            websockets: places(
                "sockets",
                spec.websockets,
                kept.and_then(|before| before.websockets.as_ref()),
            ),
            counted: before.map(|before| before.counted.clone()).unwrap_or_default(),
            words: spec.rate.as_ref().map(|rate| Words::new(rate, spec.fields)),
            by_session: spec
                .key
                .iter()
                .any(|part| matches!(part, spec::KeyPart::Session | spec::KeyPart::User)),
            by_plugin: spec.key.contains(&spec::KeyPart::Plugin),
            spec: spec.clone(),
            memory,
            shared,
        }
    }
}

fn seed() -> u64 {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut seed = [0; 8];
    // Without randomness, hashes can be foreseen; keys would still be told apart.
    let _ = SystemRandom::new().fill(&mut seed);
    u64::from_le_bytes(seed)
}

/// All limits of a configuration. What is counted survives a reload.
pub fn build(
    specs: &BTreeMap<Arc<str>, Arc<Limit>>,
    before: Option<&BTreeMap<Arc<str>, Arc<Limiter>>>,
    redis: &BTreeMap<Arc<str>, Arc<Redis>>,
    background: &Handle,
) -> BTreeMap<Arc<str>, Arc<Limiter>> {
    let shared = before.into_iter().flat_map(BTreeMap::values).filter_map(|limiter| limiter.shared.as_ref());
    let mut proxies: Vec<Arc<Proxies>> = Vec::new();
    for known in shared.map(|shared| &shared.proxies) {
        if !proxies.iter().any(|other| Arc::ptr_eq(other, known)) {
            proxies.push(known.clone());
        }
    }
    let limiter = |(name, spec): (&Arc<str>, &Arc<Limit>)| {
        let kept = before.and_then(|before| before.get(name));
        (name.clone(), Arc::new(Limiter::new(spec, kept, redis, &mut proxies, background)))
    };
    specs.iter().map(limiter).collect()
}

/// A route's limits.
pub fn of_route(used: &[RouteLimit], limiters: &BTreeMap<Arc<str>, Arc<Limiter>>) -> Vec<PlanLimit> {
    let limit =
        |used: &RouteLimit| Some(PlanLimit { limiter: limiters.get(&used.name)?.clone(), cost: used.cost });
    used.iter().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use harness::RedisServer;
    use http::HeaderMap;
    use rate_limit::{Policy, Quota};

    use super::spec::Fields;
    use super::*;
    use crate::clock::SystemClock;
    use crate::config::model;
    use crate::redis::url::RedisUrl;
    use crate::server::connection::Connection;

    /// The machine's clock, and so much more.
    /// A clock that stands still: what a test finds does not depend on how fast it runs.
    struct Standing(Now);

    impl Standing {
        fn skewed(by: Duration) -> Self {
            let mut clock = Self(SystemClock.now());
            clock.advance(by);
            clock
        }

        fn advance(&mut self, by: Duration) {
            self.0 = Now { wall: self.0.wall + by, mono: self.0.mono + by };
        }
    }

    impl Clock for Standing {
        fn now(&self) -> Now {
            self.0
        }
    }

    fn limit(units: u64) -> Arc<Limit> {
        let quota = Quota::new(units, Duration::from_secs(3_600), None).unwrap();
        let policy = Policy::new(vec![quota]).unwrap();
        Arc::new(Limit {
            name: "api".into(),
            key: vec![spec::KeyPart::Plugin],
            rate: Some(Rate { policy, names: vec!["api".into()] }),
            cost: 1,
            charge: spec::Charge::All,
            in_flight: None,
            websockets: None,
            messages: None,
            queue: None,
            shared: Some(spec::Shared {
                redis: "main".into(),
                prefix: "test".into(),
                budget: Duration::from_secs(10),
                when_down: WhenDown::Closed,
            }),
            proxies: 1,
            shadow: false,
            allow: Vec::new(),
            deny: Vec::new(),
            fields: Fields::Draft,
            keys: 64,
        })
    }

    #[test]
    fn clocks_that_disagree_by_seconds_count_as_one() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = RedisServer::start();
        let url = RedisUrl::parse(&server.url()).unwrap();
        let specs = BTreeMap::from([(Arc::from("api"), limit(60))]);
        let proxies: Vec<_> = [0, 5, 10]
            .into_iter()
            .map(|skew| {
                let spec = Arc::new(model::Redis::new("main", url.clone()));
                let redis = BTreeMap::from([(Arc::from("main"), Redis::start(spec, runtime.handle()))]);
                let limiters = build(&specs, None, &redis, runtime.handle());
                runtime.block_on(redis["main"].next_link(0));
                (Standing::skewed(Duration::from_secs(skew)), limiters["api"].clone(), redis)
            })
            .collect();
        let (mut passed, mut waits) = (0, Vec::new());
        for (clock, limiter, _) in proxies.iter().cycle().take(150) {
            match runtime.block_on(limiter.charge(None, b"who", 1, clock, &mut Said::new())) {
                Ok(()) => passed += 1,
                Err(refused) => {
                    assert_eq!(refused.why, Why::Rate);
                    waits.push(refused.retry_after_s);
                }
            }
        }
        assert_eq!((passed, waits.len()), (60, 90));
        assert!(waits.iter().all(|wait| (50..=60).contains(wait)), "one a minute comes back: {waits:?}");
    }

    #[test]
    fn one_request_asks_for_the_next_lease_and_the_others_go_on() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = RedisServer::start();
        let mut spec = Limit::clone(&limit(60));
        let quota = Quota::new(100_000, Duration::from_secs(1), None).unwrap();
        spec.rate = Some(Rate { policy: Policy::new(vec![quota]).unwrap(), names: vec!["api".into()] });
        let specs = BTreeMap::from([(Arc::from("api"), Arc::new(spec))]);
        let redis = Arc::new(model::Redis::new("main", RedisUrl::parse(&server.url()).unwrap()));
        let redis = BTreeMap::from([(Arc::from("main"), Redis::start(redis, runtime.handle()))]);
        let limiter = build(&specs, None, &redis, runtime.handle())["api"].clone();
        runtime.block_on(redis["main"].next_link(0));
        let limits = [PlanLimit { limiter: limiter.clone(), cost: 1 }];
        let connection = Connection::cleartext("192.0.2.1:1".parse().ok(), None, Arc::default());
        let headers = HeaderMap::new();
        let identity = identity::of(&connection, &headers, &[]);
        let asking =
            Asking { identity, headers: &headers, route: "r", session: None, user: None, charges: None };
        let admit = |clock: &Standing| admit(&limits, &asking, Unknown::default(), clock.now());
        let by = |by: By| limiter.counted.admitted[by as usize].load(Ordering::Relaxed);
        // The first one asks, and brings a lease for those who follow.
        let mut clock = Standing::skewed(Duration::ZERO);
        let Admission::Ask(asked) = admit(&clock) else { panic!("nothing is known") };
        assert!(runtime.block_on(asked.answered(&clock)).is_ok());
        assert!(matches!(admit(&clock), Admission::Admitted(_)));
        assert_eq!((by(By::Redis), by(By::Lease)), (1, 1));
        // When it is over, the next one asks; who comes meanwhile does not.
        let mut went_on = 0;
        for _ in 0..50 {
            clock.advance(Duration::from_millis(100));
            let Admission::Ask(asked) = admit(&clock) else { panic!("the lease is over") };
            went_on += usize::from(matches!(admit(&clock), Admission::Admitted(_)));
            let before = by(By::Redis);
            assert!(runtime.block_on(asked.answered(&clock)).is_ok());
            assert_eq!(by(By::Redis), before + 1, "it has asked, whoever else went on");
        }
        assert!(went_on > 0, "somebody goes on");
    }

    #[test]
    fn what_a_plugin_charges_counts_with_its_own_key() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut spec = Limit::clone(&limit(3));
        spec.shared = None;
        let specs = BTreeMap::from([(Arc::from("api"), Arc::new(spec))]);
        let limiter = &build(&specs, None, &BTreeMap::new(), runtime.handle())["api"];
        let charge = |key: &[u8], cost| {
            runtime.block_on(limiter.charge(None, key, cost, &SystemClock, &mut Said::new())).is_ok()
        };
        assert!(charge(b"one", 2) && !charge(b"one", 2) && charge(b"one", 1));
        assert!(charge(b"other", 3) && !charge(b"other", 1));
    }
}
