//! Places counted over all proxies: in Redis, for each key, how many each proxy holds.
//!
//! `PREFIX:rl:LIMIT:requests:HASH` (or `sockets`) is a hash: a proxy's number and what it holds, as `sequence count end`. What a proxy says is always the whole count, with a sequence number, so that
//! nothing goes wrong when something is said twice, late or not at all. Each says it again in a third of the lease; what a dead proxy held is free when its lease is over. An emptied Redis
//! learns all of it with the next connection, or the next time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::shared::{Proxies, push_hex};
use super::slots::{self, Slots, Use};
use super::spec::{self, WhenDown};
use crate::redis::{Redis, RedisError, Script};

/// Arguments: the proxy, its sequence number, what it would hold then, how many there may be in all (0: this is no question), the lease in milliseconds. Answers 1 for yes, 0 for no.
const PLACES: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known, others, newer, mine = redis.call('HGETALL', KEYS[1]), 0, false, 0
for at = 1, #known, 2 do
  local sequence, count, ends = string.match(known[at + 1], '^(%d+) (%d+) (%d+)$')
  if not ends or ends + 0 <= now then
    redis.call('HDEL', KEYS[1], known[at])
  elseif known[at] == ARGV[1] then
    newer, mine = sequence + 0 > ARGV[2] + 0, count + 0
  else
    others = others + count
  end
end
local wanted, most = ARGV[3] + 0, ARGV[4] + 0
if newer then wanted = mine end
if most > 0 and others + wanted > most then return 0 end
if not newer then
  if wanted == 0 then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %.0f %.0f', ARGV[2], wanted, now + ARGV[5]))
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
  end
end
return 1";

/// What a proxy holds is free so long after it was last heard of.
const LEASE: Duration = Duration::from_secs(15);
const SAY_EVERY: Duration = Duration::from_secs(5);
/// What nobody waits for may take so long.
const BACKGROUND_BUDGET: Duration = Duration::from_millis(500);

/// What Redis counts for all.
#[derive(Debug)]
pub(super) struct Places {
    redis: Arc<Redis>,
    spec: spec::Shared,
    count: Arc<Proxies>,
    at_least: u64,
    /// What its keys begin with.
    keys: Box<str>,
    script: Arc<Script>,
    id: Box<str>,
    sequence: Arc<AtomicU64>,
    background: Handle,
    telling: OnceLock<(mpsc::UnboundedSender<Use>, AbortHandle)>,
}

/// What came of asking for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    Yes,
    /// All are taken. With the number of the question: what was said later has this place in it.
    No(u64),
}

impl Places {
    /// `what`: requests, or sockets. `at_least`: how many proxies there are.
    pub(super) fn new(
        redis: Arc<Redis>,
        spec: spec::Shared,
        limit: &str,
        what: &str,
        (count, at_least): (Arc<Proxies>, u64),
        background: &Handle,
    ) -> Self {
        let keys = format!("{}:rl:{limit}:{what}:", spec.prefix).into();
        let mut id = [0; 8];
        let _ = SystemRandom::new().fill(&mut id);
        Self {
            redis,
            spec,
            count,
            at_least,
            keys,
            script: Arc::new(Script::new(PLACES)),
            id: format!("{:016x}", u64::from_le_bytes(id)).into(),
            sequence: Arc::default(),
            background: background.clone(),
            telling: OnceLock::new(),
        }
    }

    pub(super) fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.redis, &other.redis) && self.spec == other.spec && self.keys == other.keys
    }

    /// The key of somebody's places, the same on every proxy.
    pub(super) fn name(&self, key: &[u8]) -> Box<str> {
        let mut name = String::with_capacity(self.keys.len() + 32);
        name.push_str(&self.keys);
        push_hex(&mut name, &Sha256::digest(key)[..16]);
        name.into()
    }

    pub(super) fn when_down(&self) -> WhenDown {
        self.spec.when_down
    }

    /// Whether Redis can be asked at all.
    pub(super) fn is_there(&self) -> bool {
        self.redis.link().is_ok()
    }

    /// How many proxies there are.
    pub(super) fn proxies(&self) -> u64 {
        self.count.live().max(self.at_least)
    }

    /// Asks for what is held here, with the place that is wanted. Never longer than the budget.
    pub(super) async fn take(&self, places: &slots::Places, max: usize) -> Result<Granted, RedisError> {
        let (granted, sequence) = self.say(places, max, self.spec.budget).await?;
        Ok(if granted { Granted::Yes } else { Granted::No(sequence) })
    }

    /// Whether anything was said after that.
    pub(super) fn said_since(&self, sequence: u64) -> bool {
        self.sequence.load(Ordering::Acquire) != sequence
    }

    async fn say(
        &self,
        places: &slots::Places,
        max: usize,
        budget: Duration,
    ) -> Result<(bool, u64), RedisError> {
        let link = self.redis.link()?;
        let (sequence, count) = {
            // What is said later is what was counted later.
            let _order = places.order.lock();
            let sequence = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
            (sequence, places.here.load(Ordering::Acquire))
        };
        let numbers = [sequence, count as u64, max as u64].map(|number| number.to_string());
        let lease = LEASE.as_millis().to_string();
        let arguments = [&self.id, &*numbers[0], &numbers[1], &numbers[2], &lease].map(str::as_bytes);
        let reply = link.run(&self.script, &[places.name.as_bytes()], &arguments, budget).await?;
        Ok((reply.int()? == 1, sequence))
    }

    /// Redis hears soon how many are held.
    pub(super) fn tell_later(&self, use_of: Use) {
        if let Some((telling, _)) = self.telling.get() {
            // Nobody is left to tell when the runtime ends.
            let _ = telling.send(use_of);
        }
    }

    /// Begins to tell Redis what is held.
    pub(super) fn keep(&self, slots: &Arc<Slots>) {
        let (telling, told) = mpsc::unbounded_channel();
        let teller = Self {
            redis: self.redis.clone(),
            spec: self.spec.clone(),
            count: self.count.clone(),
            at_least: self.at_least,
            keys: self.keys.clone(),
            script: self.script.clone(),
            id: self.id.clone(),
            sequence: self.sequence.clone(),
            background: self.background.clone(),
            telling: OnceLock::new(),
        };
        let task = self.background.spawn(keep_telling(teller, Arc::downgrade(slots), told)).abort_handle();
        let _ = self.telling.set((telling, task));
    }

    async fn tell(&self, use_of: &Use) {
        // What is not heard now is heard with the next round, or free when the lease is over.
        let _ = self.say(&use_of.places, 0, BACKGROUND_BUDGET).await;
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if let Some((_, task)) = self.telling.get() {
            task.abort();
        }
    }
}

async fn keep_telling(places: Places, slots: Weak<Slots>, mut told: mpsc::UnboundedReceiver<Use>) {
    let mut number = 0;
    let mut round = tokio::time::interval(SAY_EVERY);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let all = tokio::select! {
            use_of = told.recv() => {
                let Some(use_of) = use_of else { return };
                places.tell(&use_of).await;
                continue;
            }
            link = places.redis.next_link(number) => {
                number = link.number();
                slots.upgrade()
            }
            _ = round.tick() => slots.upgrade(),
        };
        let Some(slots) = all else { return };
        for use_of in slots.all_held() {
            places.tell(&use_of).await;
        }
    }
}
