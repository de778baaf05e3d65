//! Purges of this proxy: where they are issued, how they come into force, and who is told when.
//!
//! What a purge names, when it holds and how proxies agree is `purge_log`'s; here it meets the clock, the journal (`durable/`) and the log that proxies
//! share (`keeper.rs`). A purge takes four steps, and nothing is said before the step it stands for: it is journaled, it is in force here, the
//! log has it, all others have applied it. A proxy that shares no log with anybody is done after the second.

pub mod epochs;
pub mod keeper;
pub mod order;
pub mod triggers;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_semantics::Now;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use purge_log::{Announcement, Instance};
pub use purge_log::{
    Applied, Facts, FillStamp, Judgement, Known, Labels, Mode, Position, Prefix, Record, Sizes, Softened,
    Stamp, Target, TargetError, Url, Verdict,
};
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;

use crate::durable::bodies::Bodies;
use crate::durable::journal::{Journal, Row};
use epochs::{Epoch, Epochs};

/// For what a purge is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Until the log that proxies share has it: the others follow within milliseconds.
    #[default]
    Local,
    /// Until the log has it, and a replica of its primary too.
    Replica,
    /// Until every proxy that is there has applied it, or its lease has run out.
    All,
}

/// The most that somebody who waits for all is kept waiting.
pub const WAIT_ALL_MAX: Duration = Duration::from_secs(15);
/// The most that an operator waits for a replica.
pub const REPLICA_BUDGET: Duration = Duration::from_millis(500);
/// The most that a client's own unsafe request waits for the log.
pub const REQUEST_BUDGET: Duration = Duration::from_millis(50);
/// The most that an operator waits for the log.
pub const OPERATOR_BUDGET: Duration = Duration::from_millis(1_000);

/// Says how far a purge has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The proxy that took it and the numbers it gave to its records: `ab12cd34:7`, or `ab12cd34:7-9`.
    pub id: String,
    /// Where in the log the last of its records stands; `None`: the log has not got all of them yet.
    pub position: Option<Position>,
    /// Whether every proxy will read it without any more help of ours. A proxy that shares no log is alone, and it is so at once.
    pub replicated: bool,
    /// The other proxies that have said that they applied it. Only where that was waited for.
    pub applied_by: Vec<String>,
    /// Those that have not, when the time was over. Empty: all have that are there.
    pub not_applied_by: Vec<String>,
    /// Whether it would survive the end of this process before others have it.
    pub journaled: bool,
    /// Replicas that have it. Only where that was waited for.
    pub replicas: Option<u64>,
}

/// The purges of this proxy, of all its caches. What lookups ask is [`Facts`].
#[derive(Debug)]
pub struct Purges {
    facts: Arc<Facts>,
    id: String,
    log: Mutex<Log>,
    journal: Option<Arc<Journal>>,
    /// The tier on disk: without the journal that goes with it, nothing in it could be judged.
    bodies: Option<Arc<Bodies>>,
    /// The epochs of caches, and when each began.
    epochs: Epochs,
    began: Instant,
    shares: bool,
    /// The shared tier may be read.
    open: AtomicBool,
    /// Until when memory is verified, in milliseconds since `began`.
    verified_until: AtomicU64,
    /// Something is to be sent.
    wake: Notify,
    /// Something has happened: who waits looks again.
    progress: watch::Sender<u64>,
    /// What the others last said, and when that was asked.
    said: Mutex<Said>,
}

/// Where the order of purges comes from.
#[derive(Debug)]
enum Log {
    /// From this process.
    Alone {
        /// The number of the next record.
        next: u64,
        /// The last position given.
        top: Position,
    },
    /// From a log that proxies share.
    Shared(Box<Instance>),
}

#[derive(Debug, Default)]
struct Said {
    /// Counts the answers.
    number: u64,
    peers: Vec<(String, Option<Announcement>)>,
}

/// A record on its way.
struct Enlisted {
    number: u64,
    record: Record,
    /// Where this process has put it; `None`: the log will.
    position: Option<Position>,
}

impl Deref for Purges {
    type Target = Arc<Facts>;

    fn deref(&self) -> &Arc<Facts> {
        &self.facts
    }
}

impl Default for Purges {
    fn default() -> Self {
        Self::new(None, None, false)
    }
}

impl Purges {
    /// Purges that survive this process if there is a journal, and that others hear of if they are `shared`; then a [`keeper`] carries them.
    pub fn new(journal: Option<Arc<Journal>>, bodies: Option<Arc<Bodies>>, shared: bool) -> Self {
        let facts = Arc::new(Facts::default());
        let began = Instant::now();
        let kept = journal.as_ref().map(|journal| journal.kept());
        let id = kept.as_ref().map_or_else(new_id, |kept| kept.id.clone());
        let epochs = Epochs::new(kept.as_ref().map(|kept| kept.epochs.clone()).unwrap_or_default());
        if shared || journal.is_some() {
            facts.keep_for_others();
        }
        let mut next = 1;
        let log = if shared {
            let mut instance = Instance::new(&id, facts.clone());
            if let Some(kept) = &kept {
                facts.restore(
                    kept.facts.iter().map(|(record, position)| (record, *position)),
                    kept.floor,
                    kept.cursor,
                );
                for row in &kept.own {
                    instance.restore(row.number, row.record.clone(), row.position, 0);
                }
                if let Some(history) = &kept.history {
                    instance.restore_history(history);
                }
            }
            Log::Shared(Box::new(instance))
        } else {
            let mut top = Position::START;
            if let Some(kept) = &kept {
                facts.restore(
                    kept.facts.iter().map(|(record, position)| (record, *position)),
                    kept.floor,
                    kept.cursor,
                );
                top = kept.cursor;
                next = kept.own.iter().map(|row| row.number + 1).max().unwrap_or(1);
            }
            Log::Alone { next, top }
        };
        Self {
            facts,
            id,
            log: Mutex::new(log),
            journal,
            bodies,
            epochs,
            began,
            shares: shared,
            open: AtomicBool::new(false),
            verified_until: AtomicU64::new(0),
            wake: Notify::new(),
            progress: watch::Sender::new(0),
            said: Mutex::default(),
        }
    }

    /// The name under which others know this proxy.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The tier on disk.
    pub fn bodies(&self) -> Option<&Arc<Bodies>> {
        self.bodies.as_ref()
    }

    /// The journal.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Whether purges are shared with other proxies.
    pub const fn is_shared(&self) -> bool {
        self.shares
    }

    /// A cache is in this epoch: from now on, or since another proxy, or this one before its last start, began with it.
    pub fn begin_epoch(&self, cache: &Arc<str>, epoch: &Arc<str>, now: Now) -> Arc<Epoch> {
        let (epoch, news) = self.epochs.begin(cache, epoch, now);
        if let (Some(journal), Some(news)) = (&self.journal, news) {
            journal.note_epoch(news);
        }
        // The others are told at once.
        self.wake.notify_one();
        epoch
    }

    /// Puts purges in force here, and has them sent to the others. Returns when that is done, as far as `wait` and `budget` say.
    pub async fn issue(
        &self,
        orders: Vec<(Target, Mode)>,
        wait: Wait,
        budget: Duration,
        now: Now,
    ) -> Receipt {
        let until = tokio::time::Instant::now() + budget;
        let enlisted = self.enlist(orders, millis(now));
        let journaled = match &self.journal {
            Some(journal) => {
                let rows = enlisted.iter().map(|one| Row {
                    number: one.number,
                    record: one.record.clone(),
                    position: one.position,
                });
                journal.append(rows.collect()).await
            }
            None => false,
        };
        self.put_in_force(&enlisted);
        let numbers: Vec<u64> = enlisted.iter().map(|one| one.number).collect();
        let id = match (numbers.first(), numbers.last()) {
            (Some(first), Some(last)) if first != last => format!("{}:{first}-{last}", self.id),
            (first, _) => format!("{}:{}", self.id, first.copied().unwrap_or_default()),
        };
        let mut receipt = Receipt {
            id,
            position: enlisted.iter().filter_map(|one| one.position).max(),
            replicated: !self.shares,
            applied_by: Vec::new(),
            not_applied_by: Vec::new(),
            journaled,
            replicas: None,
        };
        if self.shares {
            self.follow(&numbers, wait, until, &mut receipt).await;
        }
        receipt
    }

    /// Likewise, for who cannot wait: in force here at once, and journaled behind it.
    pub fn issue_now(&self, orders: Vec<(Target, Mode)>, now: Now) {
        let enlisted = self.enlist(orders, millis(now));
        if let Some(journal) = &self.journal {
            let rows = enlisted.iter().map(|one| Row {
                number: one.number,
                record: one.record.clone(),
                position: one.position,
            });
            journal.append_behind(rows.collect());
        }
        self.put_in_force(&enlisted);
    }

    fn enlist(&self, orders: Vec<(Target, Mode)>, at_ms: u64) -> Vec<Enlisted> {
        let records = orders.into_iter().map(|(target, mode)| Record { target, mode, at_ms });
        match &mut *self.log.lock() {
            Log::Alone { next, top } => {
                let enlisted = records.map(|record| {
                    let number = *next;
                    *next += 1;
                    *top = (*top).max(self.facts.cursor()).next_at(at_ms);
                    Enlisted { number, record, position: Some(*top) }
                });
                enlisted.collect()
            }
            Log::Shared(instance) => {
                let enlisted = records.map(|record| {
                    let number = instance.enlist(record.clone());
                    Enlisted { number, record, position: None }
                });
                enlisted.collect()
            }
        }
    }

    fn put_in_force(&self, enlisted: &[Enlisted]) {
        match &mut *self.log.lock() {
            Log::Alone { .. } => {
                for Enlisted { record, position, .. } in enlisted {
                    self.facts.apply_at(record, position.unwrap_or_default());
                }
            }
            Log::Shared(instance) => {
                for one in enlisted {
                    instance.journaled(one.number);
                }
            }
        }
        if self.shares {
            self.wake.notify_one();
        }
    }

    /// Waits for what becomes of own records.
    async fn follow(&self, numbers: &[u64], wait: Wait, until: tokio::time::Instant, receipt: &mut Receipt) {
        let mut progress = self.progress.subscribe();
        // What the others said before the log had it says nothing.
        let mut published_at = None;
        loop {
            progress.borrow_and_update();
            let positions: Option<Vec<Position>> = self.with_instance(|instance| {
                numbers.iter().map(|number| instance.position_of(*number)).collect()
            });
            if let Some(position) = positions.and_then(|positions| positions.into_iter().max()) {
                receipt.position = Some(position);
                receipt.replicated = true;
                if wait != Wait::All {
                    return;
                }
                let said = self.said.lock();
                let since = *published_at.get_or_insert(said.number);
                if said.number > since + 1 {
                    let peers = said.peers.iter().map(|(id, said)| (id.as_str(), said.as_ref()));
                    let peers: Vec<_> = peers.collect();
                    let applied = self.with_instance(|instance| instance.applied_by(position, peers));
                    let names = |ids: Vec<Box<str>>| ids.into_iter().map(String::from).collect();
                    match applied {
                        Applied::ByAll(by) => {
                            receipt.applied_by = names(by);
                            receipt.not_applied_by.clear();
                            return;
                        }
                        Applied::NotBy(not_by) => receipt.not_applied_by = names(not_by),
                    }
                }
                drop(said);
                self.wake.notify_one();
            }
            if timeout_at(until, progress.changed()).await.is_err() {
                if wait == Wait::All && receipt.not_applied_by.is_empty() {
                    // Nobody could be asked.
                    receipt.not_applied_by.push(self.id.clone());
                }
                return;
            }
        }
    }

    /// Only of a log that is shared.
    fn with_instance<T>(&self, use_it: impl FnOnce(&mut Instance) -> T) -> T {
        match &mut *self.log.lock() {
            Log::Shared(instance) => use_it(instance),
            Log::Alone { .. } => unreachable!("only what is shared has a keeper"),
        }
    }

    /// Whether the tier that all share may be read.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether what is in memory is known to be what all agree on. A proxy that shares nothing agrees with itself.
    pub fn is_verified(&self, now: Instant) -> bool {
        !self.shares || self.millis_of(now) < self.verified_until.load(Ordering::Acquire)
    }

    /// Waits until all up to `head` has been read; false if that does not happen in time, or the log is not trusted.
    pub async fn has_read(&self, head: Position, within: Duration) -> bool {
        if self.is_open() && self.facts.cursor() >= head {
            return true;
        }
        let until = tokio::time::Instant::now() + within;
        let mut progress = self.progress.subscribe();
        loop {
            progress.borrow_and_update();
            if !self.is_open() {
                return false;
            }
            if self.facts.cursor() >= head {
                return true;
            }
            if timeout_at(until, progress.changed()).await.is_err() {
                return false;
            }
        }
    }

    /// What somebody who looks is told of the log.
    pub fn status(&self) -> serde_json::Value {
        let phase = match &*self.log.lock() {
            Log::Alone { .. } => "alone",
            Log::Shared(instance) if instance.is_open() => "open",
            Log::Shared(instance) if instance.is_waiting_for_peers() => "waiting for others",
            Log::Shared(_) => "recovering",
        };
        let (unpublished, kept) = match &*self.log.lock() {
            Log::Alone { .. } => (0, 0),
            Log::Shared(instance) => (instance.unpublished(), instance.kept()),
        };
        let Sizes { exact, patterns, folded, bytes } = self.facts.sizes();
        let peers = self.said.lock().peers.iter().filter(|(_, said)| said.is_some()).count();
        serde_json::json!({
            "id": self.id,
            "state": phase,
            "cursor": self.facts.cursor().to_string(),
            "records": self.facts.len(),
            "held": { "exact": exact, "patterns": patterns, "folded": folded, "own": kept, "bytes": bytes },
            "unpublished": unpublished,
            "proxies": peers,
            "verified": self.is_verified(Instant::now()),
        })
    }

    /// Records that the log has not taken.
    pub fn unpublished(&self) -> usize {
        if self.shares { self.with_instance(|instance| instance.unpublished()) } else { 0 }
    }

    fn millis_of(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A name that no other process has.
pub(crate) fn new_id() -> String {
    let mut bytes = [0_u8; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("the system gives random bytes");
    HEXLOWER.encode(&bytes)
}

/// Milliseconds since 1970.
pub fn millis(now: Now) -> u64 {
    let since = now.wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
