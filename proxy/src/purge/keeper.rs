//! Carries purges between this proxy and the log that proxies share: a stream in Redis, read and written at the primary.
//!
//! `{prefix}:inv` is the log; `{prefix}:inst` says of each proxy how far it has read, and until when its lease runs. Both lie in one slot.
//! What is to be done, and what it means, is for `purge_log::Instance` to say; this file waits for sockets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use purge_log::instance::{KEY_MS, LEASE_MS, RENEW_EVERY_MS};
use purge_log::{Announcement, Phase, Position, Published, Send, Server};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::Purges;
use super::epochs::Epoch;
use crate::redis::breaker::Ask;
use crate::redis::{AddAt, Link, Redis, RedisError, Reply, Script, Skip, StreamId, StreamRecord, Trim};

/// Records that the log keeps, about.
const LOG_LEN: u64 = 100_000;
/// Records read at once.
const READ_MAX: u64 = 1_000;
/// Records that are on their way to the log at once: one for each time that it takes to get there would be a thousand a second on a busy machine.
const SENT_AT_ONCE: usize = 32;
/// How long the reader waits for a record before it asks again.
const READ_WAIT: Duration = Duration::from_millis(1_000);
/// What renewing a lease may take.
const RENEW_BUDGET: Duration = Duration::from_millis(500);
/// How often it is renewed while somebody waits for what the others say.
const RENEW_SOON: Duration = Duration::from_millis(20);
/// After something has failed on a link that is still there.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A proxy whose lease ran out so long ago is not waited for any more.
const FORGOTTEN_AFTER_MS: u64 = 60_000;

/// Says how far we have read and renews our lease; tells what the others said, the server's clock, and the two ends of the log. With a lease of nothing it only tells: a server
/// that takes no writes is asked so.
const RENEW: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local writes = ARGV[3] ~= '0'
if writes then redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', now + ARGV[3], ARGV[2])) end
local peers = redis.call('HGETALL', KEYS[1])
local answer = {}
for at = 1, #peers, 2 do
  local until_ms, said = string.match(peers[at + 1], '^(%d+) (.*)$')
  if not until_ms or now - until_ms > ARGV[4] + 0 then
    if writes then redis.call('HDEL', KEYS[1], peers[at]) end
  else
    answer[#answer + 1] = peers[at]
    answer[#answer + 1] = (now < until_ms + 0) and said or '-' .. said
  end
end
local last, deleted = '0-0', '0-0'
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then last = info[at + 1] end
    if info[at] == 'max-deleted-entry-id' then deleted = info[at + 1] end
  end
end
return { string.format('%d', now), last, deleted, answer }";

/// Says for how long we have known an epoch, and tells for how long anybody has. The key lives as long as somebody is in the epoch, and a while longer; with no time to live nothing is said.
const EPOCH: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local began = now - ARGV[1]
local said = tonumber(redis.call('GET', KEYS[1]) or '')
if said and said < began then began = said end
if ARGV[2] ~= '0' then redis.call('SET', KEYS[1], string.format('%d', began), 'PX', ARGV[2]) end
return string.format('%d', now - began)";

/// How often that is said.
const EPOCH_EVERY: Duration = Duration::from_secs(600);
/// An epoch that nobody has been in for so long begins anew.
const EPOCH_FOR: Duration = Duration::from_secs(24 * 3_600);

/// Carries purges for as long as it lives.
#[derive(Debug)]
pub struct Keeper {
    task: AbortHandle,
    redis: Arc<Redis>,
    proxies: Box<str>,
    id: String,
}

impl Keeper {
    /// Begins, on the background runtime. `prefix` is what the proxies that share purges have in common.
    pub fn start(purges: Arc<Purges>, redis: Arc<Redis>, prefix: &str, background: &Handle) -> Self {
        let proxies: Box<str> = format!("{{{prefix}}}:inst").into();
        let (id, on, table) = (purges.id().to_owned(), redis.clone(), proxies.clone());
        let carrier = Carrier {
            purges,
            redis,
            log: format!("{{{prefix}}}:inv").into(),
            proxies,
            epochs: format!("{{{prefix}}}:epoch:").into(),
            renew: Script::new(RENEW),
            epoch: Script::new(EPOCH),
        };
        let task = background.spawn(carrier.run()).abort_handle();
        Self { task, redis: on, proxies: table, id }
    }

    /// Ends, and says so: purges that wait for all, and the gate, do not wait for this proxy any more. What it has not told the log yet stays in its journal.
    pub async fn leave(self) {
        self.task.abort();
        if let Ok(link) = self.redis.link()
            && let Err(error) = link.remove_entry(self.proxies.as_bytes(), self.id.as_bytes()).await
        {
            tracing::debug!(%error, "the others wait until this proxy's lease has run out");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The name of the log, for a lookup that compares its end.
pub fn log_key(prefix: &str) -> Box<[u8]> {
    format!("{{{prefix}}}:inv").into_bytes().into()
}

struct Carrier {
    purges: Arc<Purges>,
    redis: Arc<Redis>,
    log: Box<str>,
    proxies: Box<str>,
    /// What the keys of epochs begin with.
    epochs: Box<str>,
    renew: Script,
    epoch: Script,
}

/// Which epochs were told, and when.
#[derive(Default)]
struct Told {
    begun: u64,
    at: Option<Instant>,
}

/// Whether something is said to the server, or it is only asked, because it takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saying {
    Says,
    Asks,
}

/// What a renewal tells.
struct Renewed {
    now_ms: u64,
    head: Position,
    deleted: Position,
}

impl Saying {
    /// What a script is given for how long something lasts.
    fn lasts(self, millis: u128) -> String {
        match self {
            Self::Says => millis.to_string(),
            Self::Asks => "0".to_owned(),
        }
    }

    const fn ask(self) -> Ask {
        match self {
            Self::Says => Ask::Write,
            Self::Asks => Ask::Read,
        }
    }
}

impl Renewed {
    fn server(&self, history: &str) -> Server {
        Server { history: history.into(), head: self.head, deleted: self.deleted, now_ms: self.now_ms }
    }
}

impl Carrier {
    async fn run(self) {
        let mut number = 0;
        loop {
            let link = self.redis.next_link(number).await;
            number = link.number();
            if !link.is_writable() {
                link.ended().await;
                continue;
            }
            while link.is_alive() {
                let ended = tokio::select! {
                    ended = self.serve(&link) => ended,
                    () = link.ended() => Ok(()),
                };
                self.purges.with_instance(|instance| instance.disconnected());
                self.publish_state();
                if let Err(error) = ended {
                    tracing::debug!(%error, "the log of purges is not to be had; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(AGAIN_AFTER) => {}
                    () = link.ended() => {}
                }
            }
        }
    }

    /// From a connection to its end.
    async fn serve(&self, link: &Arc<Link>) -> Result<(), RedisError> {
        let history: Box<str> = link.replication_id_of(self.log.as_bytes()).await?.into();
        // Our name is there before the end of the log is asked for: whoever publishes from now on waits for us.
        let renewed = match self.renew(link, &history, Saying::Says).await {
            Ok((_, renewed)) => renewed,
            Err(error) if takes_no_writes(&error) => match self.only_read(link, &history).await? {
                Some(renewed) => renewed,
                None => return Ok(()),
            },
            Err(error) => return Err(error),
        };
        // Before anything that others stored is read: by then it is known how long of that may be served.
        let mut told = Told::default();
        self.tell_epochs(link, &mut told).await?;
        let server = renewed.server(&history);
        self.purges.with_instance(|instance| instance.connected(server, self.now()));
        self.happened();
        tokio::select! {
            ended = self.read(link) => ended,
            ended = self.send(link, &history, told) => ended,
        }
    }

    /// The log is there, and takes no writes, our name neither: it is read until our name is taken. `None`: it knows less than we have read.
    async fn only_read(&self, link: &Arc<Link>, history: &str) -> Result<Option<Renewed>, RedisError> {
        let (_, seen) = self.renew(link, history, Saying::Asks).await?;
        for epoch in self.purges.epochs.live() {
            self.tell_epoch(link, &epoch, Saying::Asks).await?;
        }
        self.purges.with_instance(|instance| instance.connected_to_read(seen.server(history), self.now()));
        self.happened();
        tokio::select! {
            ended = self.read(link) => ended.map(|()| None),
            named = self.try_to_write(link, history) => named,
        }
    }

    /// Until our name is taken. `None`: the log knows less than we have read.
    async fn try_to_write(&self, link: &Link, history: &str) -> Result<Option<Renewed>, RedisError> {
        loop {
            let (_, seen) = self.renew(link, history, Saying::Asks).await?;
            self.happened();
            if seen.head < self.purges.facts.cursor() {
                return Ok(None);
            }
            let is_open = self.purges.is_open();
            let wait = if is_open { Duration::from_millis(RENEW_EVERY_MS) } else { AGAIN_AFTER };
            tokio::time::sleep(wait).await;
            match self.renew(link, history, Saying::Says).await {
                Ok((_, renewed)) => return Ok(Some(renewed)),
                Err(error) if takes_no_writes(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says in which epochs we are, where that is news or was said long ago, and hears since when.
    async fn tell_epochs(&self, link: &Link, told: &mut Told) -> Result<(), RedisError> {
        let begun = self.purges.epochs.begun();
        if told.begun == begun && told.at.is_some_and(|at| at.elapsed() < EPOCH_EVERY) {
            return Ok(());
        }
        for epoch in self.purges.epochs.live() {
            self.tell_epoch(link, &epoch, Saying::Says).await?;
        }
        *told = Told { begun, at: Some(Instant::now()) };
        Ok(())
    }

    async fn tell_epoch(&self, link: &Link, epoch: &Epoch, saying: Saying) -> Result<(), RedisError> {
        let key = format!("{}{}", self.epochs, epoch.key());
        let age = epoch.age(Instant::now()).as_millis().to_string();
        let lives = saying.lasts(EPOCH_FOR.as_millis());
        let arguments = [age.as_bytes(), lives.as_bytes()];
        let reply =
            link.run_as(saying.ask(), &self.epoch, &[key.as_bytes()], &arguments, RENEW_BUDGET).await?;
        let age = u64::try_from(reply.int()?).unwrap_or(0);
        epoch.is_as_old_as(Duration::from_millis(age), Instant::now());
        Ok(())
    }

    /// Reads the log, for ever.
    async fn read(&self, link: &Arc<Link>) -> Result<(), RedisError> {
        loop {
            let after = self.purges.with_instance(|instance| instance.reads_after());
            let records =
                link.wait_for_records(self.log.as_bytes(), stream_id(after), READ_MAX, READ_WAIT).await?;
            // Asked for after the records were read: what was trimmed before they were cannot go unseen.
            let info = link.stream_info(self.log.as_bytes()).await?;
            let deleted = info.and_then(|info| info.deleted_max).map_or(Position::START, position);
            let entries: Vec<(Position, Published)> = records.iter().map(entry).collect();
            self.purges.with_instance(|instance| {
                let entries = entries.iter().map(|(position, published)| (*position, published));
                instance.read(after, entries, deleted, self.now());
            });
            if let Some(journal) = &self.purges.journal {
                journal.note_read(&entries, self.purges.facts.cursor());
            }
            self.happened();
        }
    }

    /// Sends what there is to send, and renews the lease, for ever.
    async fn send(&self, link: &Arc<Link>, history: &str, mut told: Told) -> Result<(), RedisError> {
        let mut renewed = Instant::now();
        loop {
            self.tell_epochs(link, &mut told).await?;
            self.send_all(link).await?;
            let is_open = self.purges.is_open();
            let wait = if is_open { Duration::from_millis(RENEW_EVERY_MS) } else { AGAIN_AFTER };
            tokio::select! {
                () = tokio::time::sleep(wait.saturating_sub(renewed.elapsed())) => {}
                () = self.purges.wake.notified() => {
                    if self.purges.with_instance(|instance| instance.has_sends()) {
                        continue;
                    }
                    // Somebody waits for the others.
                    tokio::time::sleep(RENEW_SOON.saturating_sub(renewed.elapsed())).await;
                }
            }
            renewed = Instant::now();
            let (asked, Renewed { head, .. }) = match self.renew(link, history, Saying::Says).await {
                Ok(renewed) => renewed,
                // It is full, or its disk is, and is read all the same. The lease runs out: what is in memory is not vouched for meanwhile.
                Err(error) if takes_no_writes(&error) && self.purges.is_open() => continue,
                Err(error) => return Err(error),
            };
            let regressed = self.purges.with_instance(|instance| instance.renewed(asked, head, self.now()));
            self.happened();
            if regressed {
                return Ok(());
            }
        }
    }

    /// Sends what there is to send; what a log refuses that takes no writes is sent another time.
    async fn send_all(&self, link: &Link) -> Result<(), RedisError> {
        let sends = self.purges.with_instance(|instance| instance.sends());
        let mut is_refused = false;
        for some in sends.chunks(SENT_AT_ONCE) {
            let added =
                if is_refused { Vec::new() } else { all(some.iter().map(|send| self.add(link, send))).await };
            self.happened();
            let mut added = added.into_iter();
            for Send { number, .. } in some {
                match added.next() {
                    Some(Err(error)) if !takes_no_writes(&error) => return Err(error),
                    Some(Ok(())) => {}
                    Some(Err(_)) | None => {
                        is_refused = true;
                        self.purges.with_instance(|instance| instance.not_sent(*number));
                    }
                }
            }
        }
        Ok(())
    }

    async fn add(&self, link: &Link, send: &Send) -> Result<(), RedisError> {
        let Send { number, at, published } = send;
        let (number, at) = (*number, *at);
        let fields = published.to_fields();
        let fields: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let to = at.map_or(AddAt::Next, |at| AddAt::Exactly(stream_id(at)));
        match link.add_record(self.log.as_bytes(), to, Trim::About(LOG_LEN), &fields).await {
            Ok(id) => {
                let at = position(id);
                self.purges.with_instance(|instance| instance.sent(number, at, self.now()));
                if let (Some(journal), Some(number)) = (&self.purges.journal, number) {
                    journal.note_published(number, at);
                }
            }
            // Somebody was faster: what is at the end now is read first.
            Err(RedisError::Refused { .. }) if at.is_some() => {
                let info = link.stream_info(self.log.as_bytes()).await?;
                let head = info.map_or(Position::START, |info| position(info.last));
                self.purges.with_instance(|instance| instance.mark_refused(head, self.now()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn renew(&self, link: &Link, history: &str, saying: Saying) -> Result<(u64, Renewed), RedisError> {
        let asked = self.now();
        let said = self.purges.with_instance(|instance| instance.announcement(history)).to_text();
        let (lease, forgotten) = (saying.lasts(KEY_MS.into()), FORGOTTEN_AFTER_MS.to_string());
        let id = self.purges.id();
        let arguments = [id.as_bytes(), said.as_bytes(), lease.as_bytes(), forgotten.as_bytes()];
        let keys = [self.proxies.as_bytes(), self.log.as_bytes()];
        let reply = link.run_as(saying.ask(), &self.renew, &keys, &arguments, RENEW_BUDGET).await?.list()?;
        let [now_ms, head, deleted, peers] = reply.as_slice() else { return Err(RedisError::Unexpected) };
        let place = |reply: &Reply| reply.text()?.parse().map_err(|_| RedisError::Unexpected);
        let now_ms = now_ms.text()?.parse().map_err(|_| RedisError::Unexpected)?;
        let renewed = Renewed { now_ms, head: place(head)?, deleted: place(deleted)? };
        let words = peers.clone().list()?;
        let mut was_open = false;
        let peers = words.chunks_exact(2).map(|pair| {
            let said = pair[1].text()?;
            // After a hyphen: what one has said last whose lease has run out.
            let last = Announcement::parse(said.trim_start_matches('-'));
            was_open |=
                last.as_ref().is_some_and(|last| last.phase == Phase::Open && *last.history == *history);
            Ok((pair[0].text()?.to_owned(), last.filter(|_| !said.starts_with('-'))))
        });
        let peers = peers.collect::<Result<Vec<_>, RedisError>>()?;
        self.purges.with_instance(|instance| {
            let said = peers.iter().map(|(id, said)| (id.as_str(), said.as_ref()));
            instance.heard(said, self.now());
            if was_open {
                instance.heard_of_open(self.now());
            }
        });
        let mut said = self.purges.said.lock();
        said.number += 1;
        said.peers = peers;
        drop(said);
        Ok((asked, renewed))
    }

    /// Something has happened: state is told to the hit path, and who waits looks again.
    fn happened(&self) {
        self.purges.with_instance(|instance| instance.tick(self.now()));
        self.publish_state();
        self.purges.progress.send_modify(|number| *number += 1);
    }

    fn publish_state(&self) {
        let purges = &self.purges;
        let (open, lease_from, history) = purges.with_instance(|instance| {
            (instance.is_open(), instance.lease_from(), instance.history().map(str::to_owned))
        });
        let was_open = purges.open.swap(open, Ordering::AcqRel);
        purges.verified_until.store(lease_from.map_or(0, |from| from + LEASE_MS), Ordering::Release);
        if open && !was_open {
            tracing::info!(cursor = %purges.facts.cursor(), "the log of purges is trusted");
            if let (Some(journal), Some(history)) = (&purges.journal, history) {
                journal.note_history(&history);
            }
        } else if was_open && !open {
            tracing::warn!("the log of purges cannot be reached: purges of other proxies are not heard");
        }
    }

    fn now(&self) -> u64 {
        self.purges.millis_of(Instant::now())
    }
}

/// Begins all of them in their order, and waits until each is done.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut under_way: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (future, done) in under_way.iter_mut().filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(output) => *done = Some(output),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    under_way.into_iter().filter_map(|(_, done)| done).collect()
}

/// Whether it is read, and not written.
const fn takes_no_writes(error: &RedisError) -> bool {
    matches!(error, RedisError::NoWrites { .. } | RedisError::Skipped(Skip::Writes))
}

fn entry(record: &StreamRecord) -> (Position, Published) {
    let fields = record.fields.iter().map(|(name, value)| (&name[..], &value[..]));
    (position(record.id), Published::from_fields(fields))
}

const fn position(id: StreamId) -> Position {
    Position { ms: id.millis, seq: id.sequence }
}

const fn stream_id(position: Position) -> StreamId {
    StreamId { millis: position.ms, sequence: position.seq }
}
