//! Counting together with other proxies: one script in Redis, and how many proxies there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rate_limit::{PerQuota, Policy, QUOTAS_MAX, Question};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::spec;
use crate::redis::{Redis, RedisError, Reply, Script};

/// GCRA for several quotas at once, as `rate_limit` does it: all or nothing, between `least` and `most` units.
///
/// Time is the server's, in ticks of 100 ns since 2024, so that every number is exact in a double. What the proxy knows to be owed counts
/// too: a server that was emptied does not give the quota again. Nothing is owed beyond the whole, whatever a clock did. The key ends (PX, in
/// milliseconds) when nothing is owed any more.
const TAKE: &str = "\
local time = redis.call('TIME')
local now = (time[1] - 1704067200) * 10000000 + time[2] * 10
local least, granted = ARGV[1] + 0, ARGV[2] + 0
local stored, known = redis.call('GET', KEYS[1]), {}
if stored then
  for number in string.gmatch(stored, '%d+') do known[#known + 1] = number + 0 end
end
local owed, count = {}, (#ARGV - 2) / 3
for quota = 1, count do
  local interval, tolerance, told = ARGV[quota * 3] + 0, ARGV[quota * 3 + 1] + 0, ARGV[quota * 3 + 2] + 0
  owed[quota] = math.min(math.max((known[quota] or 0) - now, told, 0), tolerance)
  granted = math.min(granted, math.floor((tolerance - owed[quota]) / interval))
end
if granted < least then granted = 0 end
local answer, ends, longest = { granted }, {}, 0
for quota = 1, count do
  local debt = owed[quota] + granted * ARGV[quota * 3]
  answer[quota + 1] = debt
  ends[quota] = string.format('%.0f', now + debt)
  longest = math.max(longest, debt)
end
if granted > 0 then
  redis.call('SET', KEYS[1], table.concat(ends, ' '), 'PX', math.ceil(longest / 10000))
end
return answer";

/// Says that we are there, and tells how many are.
const PRESENT: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], 60000)
return redis.call('ZCARD', KEYS[1])";

/// Who does not say so for this long is not there.
const PRESENT_MS: u64 = 5_000;
const PRESENT_EVERY: Duration = Duration::from_secs(1);
const PRESENT_BUDGET: Duration = Duration::from_millis(500);

/// How many proxies count together.
#[derive(Debug)]
pub(super) struct Proxies {
    redis: Arc<Redis>,
    prefix: Arc<str>,
    live: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Proxies {
    pub(super) fn start(redis: Arc<Redis>, prefix: Arc<str>, background: &Handle) -> Arc<Self> {
        let live = Arc::new(AtomicU64::new(1));
        let key = format!("{prefix}:rl:proxies");
        let task = background.spawn(count(redis.clone(), key, live.clone())).abort_handle();
        Arc::new(Self { redis, prefix, live, task })
    }

    /// Whether it is about these: then a reload keeps it.
    pub(super) fn are(&self, redis: &Arc<Redis>, prefix: &str) -> bool {
        Arc::ptr_eq(&self.redis, redis) && *self.prefix == *prefix
    }

    /// How many there were when they were last counted, this one among them.
    pub(super) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn count(redis: Arc<Redis>, key: String, live: Arc<AtomicU64>) {
    let script = Script::new(PRESENT);
    let mut id = [0; 8];
    let _ = SystemRandom::new().fill(&mut id);
    let id = format!("{:016x}", u64::from_le_bytes(id));
    let (key, lasts) = (key.as_bytes(), PRESENT_MS.to_string());
    let mut number = 0;
    loop {
        let link = redis.next_link(number).await;
        number = link.number();
        while link.is_alive() {
            let answer = link.run(&script, &[key], &[id.as_bytes(), lasts.as_bytes()], PRESENT_BUDGET).await;
            if let Some(there) = answer.ok().and_then(|reply| u64::try_from(reply.int().ok()?).ok()) {
                // A Redis that came back empty learns of the others one by one.
                let before = live.load(Ordering::Relaxed);
                let settled = link.age() > Duration::from_millis(PRESENT_MS);
                live.store(if settled { there } else { there.max(before) }, Ordering::Relaxed);
            }
            tokio::select! {
                () = tokio::time::sleep(PRESENT_EVERY) => {}
                () = link.ended() => {}
            }
        }
    }
}

/// Where a limit is counted together with other proxies.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) redis: Arc<Redis>,
    pub(super) spec: spec::Shared,
    pub(super) proxies: Arc<Proxies>,
    /// What its keys begin with: prefix and policy.
    keys: Box<str>,
    script: Script,
}

impl Shared {
    pub(super) fn new(redis: Arc<Redis>, spec: spec::Shared, limit: &str, proxies: Arc<Proxies>) -> Self {
        // The policy is part of the key: two limits never share a count.
        let keys = format!("{}:rl:{limit}:", spec.prefix).into();
        Self { redis, spec, proxies, keys, script: Script::new(TAKE) }
    }

    /// Whether Redis can be asked at all; otherwise nothing needs to wait.
    pub(super) fn is_there(&self) -> bool {
        self.redis.link().is_ok()
    }

    /// Asks. Never longer than the budget.
    pub(super) async fn take(
        &self,
        policy: &Policy,
        key: &[u8],
        question: &Question,
    ) -> Result<(u64, PerQuota), RedisError> {
        let link = self.redis.link()?;
        let digest = Sha256::digest(key);
        let mut name = String::with_capacity(self.keys.len() + 32);
        name.push_str(&self.keys);
        push_hex(&mut name, &digest[..16]);
        let mut arguments = vec![question.least.to_string(), question.most.to_string()];
        for (quota, owed) in policy.quotas().iter().zip(question.owed) {
            arguments.extend([quota.interval().to_string(), quota.tolerance().to_string(), owed.to_string()]);
        }
        let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
        let reply = link.run(&self.script, &[name.as_bytes()], &arguments, self.spec.budget).await?;
        answer_of(reply)
    }
}

/// Appends bytes in hexadecimal digits.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

fn answer_of(reply: Reply) -> Result<(u64, PerQuota), RedisError> {
    let whole = |reply: &Reply| u64::try_from(reply.int()?).map_err(|_| RedisError::Unexpected);
    let list = reply.list()?;
    let (granted, debts) = list.split_first().ok_or(RedisError::Unexpected)?;
    let mut owed = [0; QUOTAS_MAX];
    for (owed, debt) in owed.iter_mut().zip(debts) {
        *owed = whole(debt)?;
    }
    Ok((whole(granted)?, owed))
}
