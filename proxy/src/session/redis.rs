//! Sessions in Redis: a hash for each, changed by one script, so that what several proxies write at once is all there.
//!
//! `PREFIX:s:HANDLE` has `_c` (begun), `_x` (ends), `_a` (last used), `_d` (ended), `_v` (latest version), `_u` (whom it belongs to) and `a:NAME`. What has a version begins with it,
//! in sixteen hexadecimal digits, so that the later one is the greater text. `PREFIX:ul:USER` says until which version all sessions of somebody are over;
//! `PREFIX:su:USER` lists them, for people. `{PREFIX}:history` is a name for all that this Redis has been told since it was empty, and `{PREFIX}:ends` a log of what has ended, for the disks of other proxies: in a Cluster both lie
//! on one server, so that where the log was lost its name is another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use session_state::{Attribute, Session};

use super::cookie::{Handle, new_secret};
use super::ends::End;
use super::store::{Stored, Trouble, Written};
use crate::redis::{Redis, RedisError, Reply, Script};

/// Takes in a change. Arguments: now, begun, ends, seen, ended, idle, only if of this version, the version, before which version and end marks are forgotten, then names and values.
const MERGE: &str = "\
local key, now, ends = KEYS[1], ARGV[1] + 0, ARGV[3] + 0
if ends <= now then return { 'over' } end
if redis.call('HEXISTS', key, '_d') == 1 then
  if ARGV[5] == '1' then redis.call('PEXPIREAT', key, ARGV[3]) end
  return { 'over' }
end
if ARGV[5] == '1' then
  redis.call('DEL', key)
  redis.call('HSET', key, '_d', '1', '_c', ARGV[2], '_x', ARGV[3])
  redis.call('PEXPIREAT', key, ARGV[3])
  return { 'over', 'news' }
end
if ARGV[7] ~= '' and (redis.call('HGET', key, '_v') or '0') ~= ARGV[7] then return { 'conflict' } end
local function raise(field, value)
  local known = redis.call('HGET', key, field)
  if not known or known + 0 < value + 0 then redis.call('HSET', key, field, value) end
end
redis.call('HSETNX', key, '_c', ARGV[2])
raise('_x', ARGV[3])
raise('_a', ARGV[4])
raise('_v', ARGV[8])
for at = 11, #ARGV, 2 do
  local known = redis.call('HGET', key, ARGV[at])
  if not known or known < ARGV[at + 1] then redis.call('HSET', key, ARGV[at], ARGV[at + 1]) end
end
local all, marks = redis.call('HGETALL', key), {}
for at = 1, #all, 2 do
  local value = all[at + 1]
  if string.sub(all[at], 1, 2) == 'a:' and string.sub(value, 1, 16) < ARGV[9] then
    local ends = string.sub(value, 17, 32)
    if string.sub(value, 33, 33) == '-' or (ends ~= '0000000000000000' and ends < ARGV[10]) then marks[#marks + 1] = all[at] end
  end
end
if #marks > 0 then
  redis.call('HDEL', key, unpack(marks))
  all = redis.call('HGETALL', key)
end
local last = math.min(redis.call('HGET', key, '_a') + ARGV[6], redis.call('HGET', key, '_x') + 0)
redis.call('PEXPIREAT', key, string.format('%.0f', math.max(last, now + 1)))
return { 'done', all }";

/// Notes until which version somebody's sessions are over. 1: that was news.
const LOG_OUT: &str = "\
local known, news = redis.call('GET', KEYS[1]), 0
if not known or known + 0 < ARGV[1] + 0 then
  redis.call('SET', KEYS[1], ARGV[1])
  news = 1
end
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return news";

const NOTE: &str = "\
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return 1";

/// The name of what Redis has been told since it was empty, and since when it has that, and what time it is; the given name, where it is empty.
const HISTORY: &str = "\
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local known = redis.call('GET', KEYS[1])
if not known then
  known = ARGV[1] .. ' ' .. now
  redis.call('SET', KEYS[1], known)
end
return { known, now }";

/// Puts something that has ended into the log. Arguments: how long the log may become, who says it, and what ended.
const TELL: &str =
    "return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'by', ARGV[2], 'end', ARGV[3])";

/// What has ended since a position. Arguments: the position, how many at most.
const HEAR: &str = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])";

/// Ends that the log holds, about.
const ENDS_MAX: usize = 65_536;
/// Ends that are read at once.
pub(super) const HEARD_MAX: usize = 1_000;

const LIST: &str = "return redis.call('ZRANGE', KEYS[1], 0, ARGV[1])";

#[derive(Debug)]
pub(super) struct InRedis {
    pub(super) redis: Arc<Redis>,
    prefix: Arc<str>,
    budget: Duration,
    idle_ms: u64,
    merge: Script,
    log_out: Script,
    note: Script,
    list: Script,
    history: Script,
    tell: Script,
    hear: Script,
    /// Who tells of ends here; `None`: nobody has to.
    me: Option<String>,
}

/// Ends that were read of the log: those of others, where it was read to, and whether there may be more.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) ends: Vec<End>,
    pub(super) upto: Option<String>,
    pub(super) more: bool,
}

/// All that Redis has been told since it was empty.
#[derive(Debug)]
pub(super) struct History {
    /// What it is called.
    pub(super) name: String,
    /// For how long it has been going on, as far as we can know.
    pub(super) age: Duration,
}

impl InRedis {
    /// `tells`: ends are put into the log.
    pub(super) fn new(
        redis: Arc<Redis>,
        prefix: Arc<str>,
        budget: Duration,
        idle_ms: u64,
        tells: bool,
    ) -> Self {
        let [merge, log_out, note, list, history, tell, hear] =
            [MERGE, LOG_OUT, NOTE, LIST, HISTORY, TELL, HEAR].map(Script::new);
        let me = tells.then(|| new_secret().unwrap_or_default());
        Self { redis, prefix, budget, idle_ms, merge, log_out, note, list, history, tell, hear, me }
    }

    /// The number of the connection that there is.
    pub(super) fn connection(&self) -> Option<u64> {
        self.redis.link().ok().map(|link| link.number())
    }

    fn key(&self, kind: &str, of: &[u8]) -> String {
        let mut key = format!("{}:{kind}:", self.prefix);
        HEXLOWER.encode_append(of, &mut key);
        key
    }

    async fn ask(&self, script: &Script, key: &str, arguments: &[Vec<u8>]) -> Result<Reply, Trouble> {
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let link = self.redis.link().map_err(|_| Trouble::Redis)?;
        let asked = link.run(script, &[key.as_bytes()], &arguments, self.budget).await;
        asked.map_err(|error| elsewhere(&error))
    }

    pub(super) async fn read(&self, handle: &Handle) -> Stored {
        let link = self.redis.link().map_err(|_| Trouble::Redis)?;
        let found = link.fetch_session(self.key("s", &handle.0).as_bytes(), self.budget).await;
        session_of(found.map_err(|error| elsewhere(&error))?)
    }

    pub(super) async fn merge(
        &self,
        handle: &Handle,
        change: &Session,
        now_ms: u64,
        if_version: Option<u64>,
    ) -> Result<Written, Trouble> {
        let mut arguments: Vec<Vec<u8>> = [
            now_ms.to_string(),
            change.created_ms.to_string(),
            change.ends_ms.to_string(),
            change.seen_ms.to_string(),
            u8::from(change.ended).to_string(),
            self.idle_ms.to_string(),
            if_version.map(|version| version.to_string()).unwrap_or_default(),
            change.version().to_string(),
            format!("{:016x}", session_state::version_at(now_ms.saturating_sub(session_state::MARKS_MS))),
            format!("{:016x}", now_ms.saturating_sub(session_state::MARKS_MS)),
        ]
        .map(String::into_bytes)
        .into();
        if let Some((version, user)) = &change.subject {
            arguments.push(b"_u".to_vec());
            arguments.push(format!("{version:016x}{user}").into_bytes());
        }
        for (name, Attribute { version, ends_ms, value }) in &change.attributes {
            arguments.push(format!("a:{name}").into_bytes());
            let mut text = format!("{version:016x}{ends_ms:016x}").into_bytes();
            text.push(if value.is_some() { b'=' } else { b'-' });
            text.extend_from_slice(value.as_deref().unwrap_or_default());
            arguments.push(text);
        }
        let reply = self.ask(&self.merge, &self.key("s", &handle.0), &arguments).await?;
        let mut parts = reply.list().map_err(|_| Trouble::Redis)?.into_iter();
        match parts.next().as_ref().and_then(|word| word.text().ok()) {
            Some("done") => {
                let session = parts.next().and_then(|session| session.list().ok()).ok_or(Trouble::Redis)?;
                let session = session_of(session)?;
                Ok(session.map_or(Written::Over, Written::Done))
            }
            Some("conflict") => Ok(Written::Conflict),
            Some("over") => {
                if parts.next().is_some() {
                    self.tell(&End::Session {
                        handle: *handle,
                        created_ms: change.created_ms,
                        ends_ms: change.ends_ms,
                    })
                    .await;
                }
                Ok(Written::Over)
            }
            _ => Err(Trouble::Redis),
        }
    }

    pub(super) async fn log_out(&self, user: &[u8; 32], version: u64, ends_ms: u64) -> Result<(), Trouble> {
        let arguments = [version.to_string().into_bytes(), ends_ms.to_string().into_bytes()];
        let news = self.ask(&self.log_out, &self.key("ul", user), &arguments).await?;
        if news.int().is_ok_and(|news| news == 1) {
            self.tell(&End::User { user: *user, version, ends_ms }).await;
        }
        Ok(())
    }

    /// Tells the others. Whoever does not hear of it finds it in Redis, as long as that remembers; and when it has forgotten, it is told again.
    async fn tell(&self, end: &End) {
        let Some(me) = self.me.clone() else { return };
        let arguments = [ENDS_MAX.to_string(), me, end.to_string()].map(String::into_bytes);
        let _ = self.ask(&self.tell, &format!("{{{}}}:ends", self.prefix), &arguments).await;
    }

    /// What others have ended since a position of the log.
    pub(super) async fn hear(&self, since: Option<&str>) -> Result<Heard, Trouble> {
        let from = since.unwrap_or("-").to_owned();
        let arguments = [from, HEARD_MAX.to_string()].map(String::into_bytes);
        let reply = self.ask(&self.hear, &format!("{{{}}}:ends", self.prefix), &arguments).await?;
        let entries = reply.list().map_err(|_| Trouble::Redis)?;
        let mut heard = Heard { ends: Vec::new(), upto: None, more: entries.len() >= HEARD_MAX };
        for entry in entries {
            let mut entry = entry.list().map_err(|_| Trouble::Redis)?.into_iter();
            let position =
                entry.next().and_then(|id| Some(id.text().ok()?.to_owned())).ok_or(Trouble::Redis)?;
            if since == Some(&*position) {
                continue;
            }
            heard.upto = Some(position);
            let fields = entry.next().and_then(|fields| fields.list().ok()).unwrap_or_default();
            // What a later Weir may say in another way is passed over.
            if let [_, by, _, end] = &fields[..]
                && by.text().ok() != self.me.as_deref()
                && let Some(end) = end.text().ok().and_then(|end| end.parse().ok())
            {
                heard.ends.push(end);
            }
        }
        Ok(heard)
    }

    /// What Redis knows has a name: another one when it has been emptied, or when it is another process, which may have read an old file.
    pub(super) async fn history(&self) -> Result<History, Trouble> {
        let link = self.redis.link().map_err(|_| Trouble::Redis)?;
        let process = link.run_id().map_or_else(|| link.number().to_string(), str::to_owned);
        let proposed = new_secret().ok_or(Trouble::Redis)?;
        let reply = self
            .ask(&self.history, &format!("{{{}}}:history", self.prefix), &[proposed.into_bytes()])
            .await?;
        let reply = reply.list().map_err(|_| Trouble::Redis)?;
        let [known, now] = &reply[..] else { return Err(Trouble::Redis) };
        let known = known.text().map_err(|_| Trouble::Redis)?;
        let millis = |text: Option<&str>| text?.parse::<u64>().ok();
        let (began, now) = (millis(known.rsplit(' ').next()), millis(now.text().ok()));
        let age = began
            .zip(now)
            .map_or(Duration::MAX, |(began, now)| Duration::from_millis(now.saturating_sub(began)));
        // A process that has read an old file has what was told then; others come back to it when we do.
        let age = age.min(link.age());
        Ok(History { name: format!("{process} {known}"), age })
    }

    /// Until which version all sessions of somebody are over.
    pub(super) async fn logged_out(&self, user: &[u8; 32]) -> Result<u64, Trouble> {
        let link = self.redis.link().map_err(|_| Trouble::Redis)?;
        let found = link.fetch_mark(self.key("ul", user).as_bytes(), self.budget).await;
        let found = found.map_err(|error| elsewhere(&error))?;
        Ok(found.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or_default())
    }

    /// Notes that a session belongs to somebody: only for lists.
    pub(super) async fn note(&self, user: &[u8; 32], handle: &Handle, ends_ms: u64, now_ms: u64) {
        let arguments = [handle.hex(), ends_ms.to_string(), now_ms.to_string()].map(String::into_bytes);
        let _ = self.ask(&self.note, &self.key("su", user), &arguments).await;
    }

    pub(super) async fn list(&self, user: &[u8; 32], max: u64) -> Result<Vec<Handle>, Trouble> {
        let reply = self.ask(&self.list, &self.key("su", user), &[max.to_string().into_bytes()]).await?;
        let list = reply.list().map_err(|_| Trouble::Redis)?;
        Ok(list.iter().filter_map(|handle| Handle::from_hex(handle.text().ok()?)).collect())
    }
}

fn elsewhere(error: &RedisError) -> Trouble {
    tracing::debug!(%error, "a session is looked for elsewhere");
    Trouble::Redis
}

fn session_of(list: Vec<Reply>) -> Stored {
    if list.is_empty() {
        return Ok(None);
    }
    let mut session = Session::default();
    let bytes = |reply: Option<Reply>| reply?.bytes().ok()?;
    let mut parts = list.into_iter();
    while let Some(name) = bytes(parts.next()) {
        let value = bytes(parts.next()).ok_or(Trouble::Redis)?;
        take(&mut session, &name, &value).ok_or(Trouble::Redis)?;
    }
    if session.ended {
        session.merge(&session.ending());
    }
    Ok(Some(session))
}

fn take(session: &mut Session, name: &[u8], value: &Bytes) -> Option<()> {
    let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
    let hex =
        |from: usize| u64::from_str_radix(std::str::from_utf8(value.get(from..from + 16)?).ok()?, 16).ok();
    match name {
        b"_c" => session.created_ms = number()?,
        b"_x" => session.ends_ms = number()?,
        b"_a" => session.seen_ms = number()?,
        b"_d" => session.ended = true,
        b"_u" => session.subject = Some((hex(0)?, String::from_utf8(value.get(16..)?.to_vec()).ok()?)),
        _ => {
            let Some(name) = name.strip_prefix(b"a:") else { return Some(()) };
            let there = match value.get(32)? {
                b'=' => true,
                b'-' => false,
                _ => return None,
            };
            let attribute =
                Attribute { version: hex(0)?, ends_ms: hex(16)?, value: there.then(|| value[33..].to_vec()) };
            session.attributes.insert(String::from_utf8(name.to_vec()).ok()?, attribute);
        }
    }
    Some(())
}
