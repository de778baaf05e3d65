//! The facts as one proxy knows them, and whether a stored response still counts.
//!
//! Every record that is applied gets the next *number* of this process. A response in memory carries the number up to which it is known
//! to be valid, so a hit costs one comparison while nothing new was purged, and each record is looked at once per response.
//! A response that outlives the process, or that others read, carries a [`Position`] instead: where in the log its fetch began.
//!
//! The table is bounded. The oldest half of an overfull one becomes a sketch: a response may then be taken for purged that was not
//! (one in some hundred at worst), and never the other way. What does not fit a sketch raises the floor: all that is older is purged.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cache_semantics::key::KeyUrl;
use parking_lot::{Mutex, RwLock};

use crate::known::Known;
use crate::position::Position;
use crate::rules::Rules;
use crate::sketch::Sketch;
use crate::target::{Mode, Prefix, Record, Target};

/// Records about exact names, when the oldest half becomes a sketch: as many as a table of 2^18 places takes before it is made twice as large.
pub const RECORDS_MAX: usize = 229_376;
/// Patterns, before the oldest half raises the floor. A lookup in a tier that others write tests all of them.
pub const PATTERNS_MAX: usize = 4_096;

/// Where a fetch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// In the log: for those who read what comes of it later, or elsewhere.
    pub position: Position,
    /// In this process.
    pub number: u64,
}

/// What the facts say of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing has purged it. The number up to which that is known.
    Valid(u64),
    /// It was purged softly: stale since then, whatever its own lifetime.
    Softened(Softened),
    /// It is not to be used.
    Purged,
}

/// How a response was softened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softened {
    /// The number up to which this is known.
    pub upto: u64,
    /// Stale since, in milliseconds since 1970.
    pub since_ms: u64,
    /// How long after that it may be served while it is refreshed; `None`: only as its own terms allow.
    pub grace: Option<Duration>,
}

/// What the facts say of a response from a tier that others write, or that is older than this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// As for a response in memory.
    Known(Verdict),
    /// It was fetched by somebody who knew more than is known here: nothing can be said of it yet.
    Future,
}

/// The facts of this process.
#[derive(Debug)]
pub struct Facts {
    /// The number of the newest record applied. A response checked up to it has nothing to fear.
    newest: AtomicU64,
    table: RwLock<Table>,
    /// Fills under way: how many began at each number.
    under_way: Mutex<BTreeMap<u64, usize>>,
    /// Whether responses outlive memory, so that a sweep of memory is no reason to forget.
    outlived: AtomicBool,
    seed: ahash::RandomState,
    pub(crate) rules: Rules,
}

/// How much a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Records about exact names.
    pub exact: usize,
    /// Patterns.
    pub patterns: usize,
    /// Records in the sketch: they take no memory of their own.
    pub folded: usize,
    /// Memory that it takes, about.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Table {
    exact: HashMap<u64, Marks, ahash::RandomState>,
    /// In the order of their numbers.
    patterns: Vec<Pattern>,
    everything: Marks,
    /// All that is older than this is purged: it was dropped, or lost.
    floor: Mark,
    sketch: Option<Sketch>,
    /// The last record read from the log.
    cursor: Position,
}

/// The newest records of one name.
#[derive(Debug, Default)]
struct Marks {
    hard: Mark,
    soft: Option<Box<SoftMark>>,
}

/// Where a record stands, in both orders.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    number: u64,
    position: Position,
    /// The number of the newest record of this name that the log has not taken; 0: none.
    pending: u64,
}

#[derive(Debug, Clone, Copy)]
struct SoftMark {
    mark: Mark,
    at_ms: u64,
    grace: Option<Duration>,
}

#[derive(Debug)]
struct Pattern {
    target: Target,
    marks: Marks,
}

/// What a response was checked up to, in either order.
#[derive(Debug, Clone, Copy)]
enum Since {
    Number(u64),
    Position(Position),
}

/// Proof that a fill is under way, so that no record it may need is forgotten.
#[derive(Debug)]
pub struct FillStamp {
    facts: Arc<Facts>,
    stamp: Stamp,
}

impl Default for Facts {
    fn default() -> Self {
        Self::with_rules(Rules::default())
    }
}

impl Facts {
    pub(crate) fn with_rules(rules: Rules) -> Self {
        Self {
            newest: AtomicU64::new(0),
            table: RwLock::default(),
            under_way: Mutex::default(),
            outlived: AtomicBool::new(false),
            seed: ahash::RandomState::default(),
            rules,
        }
    }

    /// From now on responses outlive memory: records are kept until they are too old to matter.
    pub fn keep_for_others(&self) {
        self.outlived.store(true, Ordering::Relaxed);
    }

    /// The number of the newest record applied.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// The last record read from the log.
    pub fn cursor(&self) -> Position {
        self.table.read().cursor
    }

    /// The stamp for a fetch that begins now.
    pub fn stamp(&self) -> Stamp {
        let table = self.table.read();
        Stamp { position: table.cursor, number: self.newest() }
    }

    /// Likewise, and keeps the records that it may need until the guard is dropped.
    pub fn begin_fill(self: &Arc<Self>) -> FillStamp {
        let mut under_way = self.under_way.lock();
        // Read under the lock: `forget` must see either this fill, or a stamp at which there was nothing to see.
        let stamp = self.stamp();
        *under_way.entry(stamp.number).or_default() += 1;
        FillStamp { facts: self.clone(), stamp }
    }

    /// Applies a record of our own that the log has not taken yet. Returns its number.
    pub fn apply_pending(&self, record: &Record) -> u64 {
        self.apply(record, None)
    }

    /// Applies a record that was read from the log, and moves the cursor to it.
    pub fn apply_at(&self, record: &Record, position: Position) -> u64 {
        self.apply(record, Some(position))
    }

    /// Applies a record as if it stood at `position`, without having read up to there.
    pub(crate) fn apply_as_of(&self, record: &Record, position: Position) -> u64 {
        let mut table = self.table.write();
        let cursor = table.cursor;
        let number = self.apply_to(&mut table, record, Some(position));
        table.cursor = cursor;
        number
    }

    /// Puts back what was kept of an earlier process: the records in force, below what all is purged, and up to where that is all.
    pub fn restore<'r>(
        &self,
        records: impl IntoIterator<Item = (&'r Record, Position)>,
        floor: Position,
        cursor: Position,
    ) {
        for (record, position) in records {
            self.apply_as_of(record, position);
        }
        let mut table = self.table.write();
        table.floor.position = table.floor.position.max(floor);
        table.cursor = table.cursor.max(cursor);
    }

    /// What a reader does that trusts a log which has lost its end. Only without the rule that forbids it.
    pub(crate) fn go_back_to(&self, position: Position) {
        self.table.write().cursor = position;
    }

    /// Applies a record where this process is the log: it gets the next position at `now_ms` of our clock.
    pub fn apply_next(&self, record: &Record, now_ms: u64) -> (u64, Position) {
        let mut table = self.table.write();
        let position = table.cursor.next_at(now_ms);
        (self.apply_to(&mut table, record, Some(position)), position)
    }

    fn apply(&self, record: &Record, position: Option<Position>) -> u64 {
        self.apply_to(&mut self.table.write(), record, position)
    }

    fn apply_to(&self, table: &mut Table, record: &Record, position: Option<Position>) -> u64 {
        // The number is given inside the lock: a reader that sees it as the newest will find the record.
        let number = self.newest.load(Ordering::Relaxed) + 1;
        let mark = Mark {
            number,
            position: position.unwrap_or(Position::PENDING),
            pending: if position.is_some() { 0 } else { number },
        };
        if let Some(position) = position {
            table.cursor = table.cursor.max(position);
        }
        match &record.target {
            Target::Mark(_) => return number - 1,
            Target::Everything => table.everything.note(record, mark),
            target @ (Target::TagGlob(_) | Target::Prefix(_)) => table.note_pattern(target, record, mark),
            target => {
                let subject = self.subject(target);
                table.exact.entry(subject).or_default().note(record, mark);
            }
        }
        table.keep_bounds(RECORDS_MAX, PATTERNS_MAX);
        self.newest.store(number, Ordering::Release);
        number
    }

    /// The log has taken our record: it stands at `position`, which is the cursor now.
    pub fn confirm(&self, record: &Record, number: u64, position: Position) {
        let mut table = self.table.write();
        table.cursor = table.cursor.max(position);
        let subject = match &record.target {
            Target::Everything => return table.everything.confirm(number, position),
            target @ (Target::TagGlob(_) | Target::Prefix(_)) => {
                if let Some(pattern) = table.patterns.iter_mut().find(|pattern| pattern.target == *target) {
                    pattern.marks.confirm(number, position);
                }
                return;
            }
            Target::Mark(_) => return,
            target => self.subject(target),
        };
        if let Some(marks) = table.exact.get_mut(&subject) {
            marks.confirm(number, position);
        }
    }

    /// Moves the cursor, where everything up to `position` is known to have been applied.
    pub fn advance(&self, position: Position) {
        let mut table = self.table.write();
        table.cursor = table.cursor.max(position);
    }

    /// Records up to `position` may have been lost before they were read here: all that is older is purged, in memory too.
    pub fn lost_up_to(&self, position: Position) {
        let mut table = self.table.write();
        if table.cursor >= position {
            return;
        }
        let number = self.newest.load(Ordering::Relaxed) + 1;
        table.floor = Mark { number, position: table.floor.position.max(position), pending: 0 };
        table.cursor = position;
        self.newest.store(number, Ordering::Release);
    }

    /// What is stored now may have been purged by somebody who could not be heard: it is validated before it is served again.
    pub fn doubt_all(&self, now_ms: u64) {
        let mut table = self.table.write();
        let number = self.newest.load(Ordering::Relaxed) + 1;
        let mark = Mark { number, position: table.cursor.next(), pending: 0 };
        let record = Record { target: Target::Everything, mode: Mode::Soft, at_ms: now_ms };
        table.everything.note(&record, mark);
        self.newest.store(number, Ordering::Release);
    }

    /// What the facts say of a response in memory that is known to be valid up to `checked`. `known` is asked for only when there is
    /// something new.
    pub fn check<'k>(&self, checked: u64, known: impl FnOnce() -> Known<'k>) -> Verdict {
        let newest = self.newest();
        if checked >= newest {
            return Verdict::Valid(checked);
        }
        let table = self.table.read();
        self.judge(&table, Since::Number(checked), &known(), newest)
    }

    /// What the facts say of a response whose fetch began at `position`, here or elsewhere.
    pub fn check_at(&self, position: Position, known: &Known<'_>) -> Judgement {
        let table = self.table.read();
        if position > table.cursor && self.rules.future_check {
            return Judgement::Future;
        }
        let newest = self.newest();
        Judgement::Known(self.judge(&table, Since::Position(position), known, newest))
    }

    fn judge(&self, table: &Table, since: Since, known: &Known<'_>, newest: u64) -> Verdict {
        let mut found =
            Found { since, pending_counts: self.rules.pending_is_newest, purged: false, soft: None };
        if found.is_new(&table.floor) && self.rules.floor {
            return Verdict::Purged;
        }
        found.look_at(&table.everything);
        let url = known.url();
        let mut subjects = |subject: u64| {
            if let Some(marks) = table.exact.get(&subject) {
                found.look_at(marks);
            }
            if let Some(mark) = table.sketch.as_ref().and_then(|sketch| sketch.newest_of(subject)) {
                let (number, position) = mark;
                found.purged |= found.is_new(&Mark { number, position, pending: 0 });
            }
        };
        if table.exact.is_empty() && table.sketch.is_none() {
            // Nothing is known by name.
        } else {
            if let Some(url) = &url {
                subjects(self.url_subject(url));
                subjects(self.seed.hash_one(("host", url.authority)));
            }
            subjects(self.seed.hash_one(("route", known.labels.route())));
            subjects(self.seed.hash_one(("cache", known.cache)));
            subjects(self.version_subject(Some(known.cache), known.version));
            subjects(self.version_subject(None, known.version));
            if let Some(epoch) = known.labels.epoch() {
                subjects(self.seed.hash_one(("epoch", epoch)));
            }
            subjects(self.seed.hash_one(("key", known.key)));
            for tag in known.labels.tags() {
                subjects(self.seed.hash_one(("tag", tag)));
            }
        }
        let first = match since {
            Since::Number(number) => table.patterns.partition_point(|pattern| pattern.newest() <= number),
            Since::Position(_) => 0,
        };
        for pattern in &table.patterns[first..] {
            if pattern.matches(url.as_ref(), known) {
                found.look_at(&pattern.marks);
            }
        }
        match (found.purged, found.soft) {
            (true, _) => Verdict::Purged,
            (false, None) => Verdict::Valid(newest),
            (false, Some((since_ms, grace))) => Verdict::Softened(Softened { upto: newest, since_ms, grace }),
        }
    }

    fn subject(&self, target: &Target) -> u64 {
        match target {
            Target::Tag(tag) => self.seed.hash_one(("tag", &**tag)),
            Target::Key(key) => self.seed.hash_one(("key", &**key)),
            Target::Host(host) => self.seed.hash_one(("host", &**host)),
            Target::Route(route) => self.seed.hash_one(("route", &**route)),
            Target::Cache(cache) => self.seed.hash_one(("cache", &**cache)),
            Target::Version(version) => self.version_subject(version.cache.as_deref(), version.number),
            Target::Epoch(epoch) => self.seed.hash_one(("epoch", &**epoch)),
            Target::Url(url) => {
                let (path, query) = match url.path_and_query.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (&*url.path_and_query, None),
                };
                let (scheme, authority) = (&*url.scheme, &*url.authority);
                self.url_subject(&KeyUrl { scheme, authority, path, query })
            }
            Target::TagGlob(_) | Target::Prefix(_) | Target::Everything | Target::Mark(_) => 0,
        }
    }

    fn version_subject(&self, cache: Option<&str>, number: u64) -> u64 {
        self.seed.hash_one(("version", cache, number))
    }

    fn url_subject(&self, url: &KeyUrl<'_>) -> u64 {
        self.seed.hash_one(("url", url.scheme, url.authority, url.path, url.query))
    }

    /// The number up to which a sweep that begins now may forget: nothing newer than the oldest fill under way. It is read
    /// before the sweep, because a fill may end during it and leave its response where the sweep has been already.
    pub fn begin_sweep(&self) -> u64 {
        let under_way = self.under_way.lock();
        let newest = self.newest();
        under_way.keys().next().map_or(newest, |oldest| newest.min(*oldest))
    }

    /// Forgets what nothing needs any more. `swept`: all that is in memory has been checked up to there since [`Facts::begin_sweep`]
    /// gave it. Where responses outlive memory, records stay until they are older than `keep`, the longest that anything is stored.
    pub fn forget(&self, swept: u64, keep: Duration) {
        let mut table = self.table.write();
        if !self.outlived.load(Ordering::Relaxed) {
            table.exact.retain(|_, marks| marks.newest() > swept);
            table.patterns.retain(|pattern| pattern.newest() > swept);
            if table.sketch.as_ref().is_some_and(|sketch| sketch.newest() <= swept) {
                table.sketch = None;
            }
            return;
        }
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let too_old = Position { ms: table.cursor.ms.saturating_sub(keep_ms), seq: 0 };
        table.drop_older_than(too_old);
    }

    /// Records held.
    pub fn len(&self) -> usize {
        let table = self.table.read();
        table.exact.len() + table.patterns.len() + table.sketch.as_ref().map_or(0, Sketch::len)
    }

    /// How much of what is held.
    pub fn sizes(&self) -> Sizes {
        let table = self.table.read();
        // A table of this kind has an eighth more places than it takes names, and a byte more for each.
        let place = size_of::<(u64, Marks)>() + 1;
        let soft = table.exact.values().filter(|marks| marks.soft.is_some()).count();
        Sizes {
            exact: table.exact.len(),
            patterns: table.patterns.len(),
            folded: table.sketch.as_ref().map_or(0, Sketch::len),
            bytes: table.exact.capacity() / 7 * 8 * place
                + soft * size_of::<SoftMark>()
                + table.patterns.capacity() * size_of::<Pattern>()
                + table.sketch.as_ref().map_or(0, Sketch::bytes),
        }
    }

    /// Whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn note_pattern(&mut self, target: &Target, record: &Record, mark: Mark) {
        // A newer record about the same pattern is the last of the list; what the older one said of softness it keeps.
        let held = self.patterns.iter().position(|pattern| pattern.target == *target);
        let mut marks = held.map(|at| self.patterns.remove(at).marks).unwrap_or_default();
        marks.note(record, mark);
        self.patterns.push(Pattern { target: target.clone(), marks });
    }

    fn keep_bounds(&mut self, records_max: usize, patterns_max: usize) {
        if self.exact.len() >= records_max {
            let mut numbers: Vec<u64> = self.exact.values().map(Marks::newest).collect();
            let (_, middle, _) = numbers.select_nth_unstable(records_max / 2);
            let middle = *middle;
            let sketch = self.sketch.get_or_insert_default();
            let mut newest = Mark::default();
            let mut folded = Vec::new();
            self.exact.retain(|subject, marks| {
                if marks.newest() > middle || marks.is_pending() {
                    return true;
                }
                newest.number = newest.number.max(marks.newest());
                newest.position = newest.position.max(marks.position());
                folded.push(*subject);
                false
            });
            sketch.fold(&folded, newest.number, newest.position);
            // Places of what has gone would be taken for used, and the table be made larger than it need be.
            self.exact.shrink_to_fit();
        }
        if self.patterns.len() > patterns_max {
            let dropped =
                self.patterns.iter().take(patterns_max / 2).filter(|pattern| !pattern.marks.is_pending());
            let (mut number, mut position) = (self.floor.number, self.floor.position);
            for pattern in dropped {
                number = number.max(pattern.newest());
                position = position.max(pattern.marks.position());
            }
            self.floor = Mark { number, position, pending: 0 };
            let mut seen = 0;
            self.patterns.retain(|pattern| {
                seen += 1;
                seen > patterns_max / 2 || pattern.marks.is_pending()
            });
        }
    }

    fn drop_older_than(&mut self, too_old: Position) {
        let mut dropped = self.floor;
        let mut keep = |marks: &Marks| {
            let keep = marks.is_pending() || marks.position() >= too_old;
            if !keep {
                dropped.number = dropped.number.max(marks.newest());
                dropped.position = dropped.position.max(marks.position());
            }
            keep
        };
        self.exact.retain(|_, marks| keep(marks));
        self.patterns.retain(|pattern| keep(&pattern.marks));
        if let Some(sketch) = &self.sketch
            && sketch.position() < too_old
        {
            dropped.number = dropped.number.max(sketch.newest());
            dropped.position = dropped.position.max(sketch.position());
            self.sketch = None;
        }
        self.floor = dropped;
    }
}

impl Marks {
    fn note(&mut self, record: &Record, mark: Mark) {
        let grace = match record.mode {
            Mode::Hard => {
                self.hard = self.hard.then(mark);
                // What came before it and was only softened is purged now, by the same stamp.
                self.soft = None;
                return;
            }
            Mode::Soft => None,
            Mode::Refresh(grace) => Some(grace),
        };
        let before = self.soft.as_ref().map_or_else(Mark::default, |soft| soft.mark);
        self.soft = Some(Box::new(SoftMark { mark: before.then(mark), at_ms: record.at_ms, grace }));
    }

    fn confirm(&mut self, number: u64, position: Position) {
        self.hard.confirm(number, position);
        if let Some(soft) = &mut self.soft {
            soft.mark.confirm(number, position);
        }
    }

    fn newest(&self) -> u64 {
        self.hard.number.max(self.soft.as_ref().map_or(0, |soft| soft.mark.number))
    }

    fn position(&self) -> Position {
        self.hard.position.max(self.soft.as_ref().map_or(Position::START, |soft| soft.mark.position))
    }

    fn is_pending(&self) -> bool {
        self.hard.pending != 0 || self.soft.as_ref().is_some_and(|soft| soft.mark.pending != 0)
    }
}

impl Mark {
    /// What both say together. One that the log has not taken stands behind all others until it has.
    fn then(self, newer: Self) -> Self {
        let pending = if newer.pending == 0 { self.pending } else { newer.pending };
        Self { number: newer.number, position: self.position.max(newer.position), pending }
    }

    fn confirm(&mut self, number: u64, position: Position) {
        if self.pending == number && number != 0 {
            // The log is read in its order: nothing read so far stands behind it.
            self.pending = 0;
            self.position = position;
        }
    }
}

impl Pattern {
    fn newest(&self) -> u64 {
        self.marks.newest()
    }

    fn matches(&self, url: Option<&KeyUrl<'_>>, known: &Known<'_>) -> bool {
        match &self.target {
            Target::TagGlob(glob) => known.labels.tags().any(|tag| glob.matches(tag)),
            Target::Prefix(prefix) => url.is_some_and(|url| is_below(prefix, url)),
            _ => false,
        }
    }
}

fn is_below(prefix: &Prefix, url: &KeyUrl<'_>) -> bool {
    let site = prefix.site.as_ref();
    site.is_none_or(|(scheme, authority)| **scheme == *url.scheme && **authority == *url.authority)
        && prefix.holds(url.path)
}

/// What was found so far.
struct Found {
    since: Since,
    pending_counts: bool,
    purged: bool,
    soft: Option<(u64, Option<Duration>)>,
}

impl Found {
    fn is_new(&self, mark: &Mark) -> bool {
        match self.since {
            Since::Number(number) => mark.number > number,
            Since::Position(_) if mark.position == Position::PENDING => self.pending_counts,
            Since::Position(position) => mark.position > position,
        }
    }

    fn look_at(&mut self, marks: &Marks) {
        self.purged |= self.is_new(&marks.hard);
        let Some(soft) = marks.soft.as_deref().filter(|soft| self.is_new(&soft.mark)) else { return };
        // Several: stale since the first of them, served no longer than the strictest allows.
        self.soft = Some(match self.soft {
            None => (soft.at_ms, soft.grace),
            Some((since, grace)) => (since.min(soft.at_ms), grace.zip(soft.grace).map(|(a, b)| a.min(b))),
        });
    }
}

impl FillStamp {
    /// The stamp of this fill.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl Drop for FillStamp {
    fn drop(&mut self) {
        let mut under_way = self.facts.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.stamp.number) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.stamp.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_semantics::glob::Glob;
    use cache_semantics::key::{KeyBuilder, KeyClass};

    use super::*;
    use crate::known::Labels;

    struct Page {
        key: Vec<u8>,
        labels: Labels,
    }

    impl Page {
        fn new(authority: &str, path: &str, tags: &[&str]) -> Self {
            let mut key = Vec::new();
            KeyBuilder::new(&mut key, KeyClass::Get, "http", authority, path, None).part("origin", b"o");
            Self {
                key,
                labels: Labels::new("pages".into(), tags.iter().copied()).of_epoch(Some("v7".into())),
            }
        }

        fn known(&self) -> Known<'_> {
            Known { key: &self.key, cache: "default", version: 3, labels: &self.labels }
        }
    }

    fn hard(kind: &str, value: &str) -> Record {
        Record { target: Target::parse(kind, value).unwrap(), mode: Mode::Hard, at_ms: 0 }
    }

    fn at(ms: u64) -> Position {
        Position { ms, seq: 0 }
    }

    #[test]
    fn each_kind_names_what_it_says_and_nothing_else() {
        let page = Page::new("a.example", "/blog/x", &["post:7", "posts"]);
        let key = data_encoding::HEXLOWER.encode(&page.key);
        #[rustfmt::skip]
        let cases = [
            ("tag",        "post:7",                  true),
            ("tag",        "post:8",                  false),
            ("glob",       "post:*",                  true),
            ("glob",       "p*:8",                    false),
            ("key",        &*key,                     true),
            ("key",        "4701",                    false),
            ("url",        "http://a.example/blog/x", true),
            ("url",        "https://a.example/blog/x", false),
            ("url",        "http://a.example/blog/x?", false),
            ("prefix",     "/blog",                   true),
            ("prefix",     "http://a.example/blog/",  true),
            ("prefix",     "http://b.example/blog/",  false),
            ("prefix",     "/blo",                    false),
            ("host",       "a.example",               true),
            ("host",       "b.example",               false),
            ("route",      "pages",                   true),
            ("route",      "page",                    false),
            ("cache",      "default",                 true),
            ("cache",      "chat",                    false),
            ("version",    "default:3",               true),
            ("version",    "3",                       true),
            ("version",    "default:2",               false),
            ("version",    "chat:3",                  false),
            ("version",    "2",                       false),
            ("epoch",      "v7",                      true),
            ("epoch",      "v8",                      false),
            ("everything", "",                        true),
            ("mark",       "run",                     false),
        ];
        for (kind, value, named) in cases {
            let facts = Facts::default();
            let before = facts.stamp();
            facts.apply_at(&hard(kind, value), at(5));
            let purged = facts.check(before.number, || page.known()) == Verdict::Purged;
            assert_eq!(purged, named, "{kind} {value} in memory");
            let judged = facts.check_at(before.position, &page.known());
            assert_eq!(judged == Judgement::Known(Verdict::Purged), named, "{kind} {value} elsewhere");
            assert!(matches!(facts.check(facts.stamp().number, || page.known()), Verdict::Valid(_)));
            assert!(matches!(facts.check_at(at(5), &page.known()), Judgement::Known(Verdict::Valid(_))));
        }
    }

    #[test]
    fn what_the_log_has_not_taken_is_newer_than_all_that_others_stored() {
        let facts = Facts::default();
        let page = Page::new("a.example", "/", &["a"]);
        facts.apply_at(&hard("tag", "other"), at(10));
        let record = hard("tag", "a");
        let number = facts.apply_pending(&record);
        let stamp = facts.stamp();
        assert!(matches!(facts.check(stamp.number, || page.known()), Verdict::Valid(_)), "fetched after it");
        assert_eq!(facts.check_at(stamp.position, &page.known()), Judgement::Known(Verdict::Purged));
        facts.apply_at(&hard("tag", "a"), at(11));
        facts.confirm(&record, number, at(12));
        assert_eq!(facts.check_at(at(11), &page.known()), Judgement::Known(Verdict::Purged));
        assert!(matches!(facts.check_at(at(12), &page.known()), Judgement::Known(Verdict::Valid(_))));
        assert_eq!(facts.check_at(at(13), &page.known()), Judgement::Future);
    }

    #[test]
    fn softness_is_told_with_its_time_and_its_grace() {
        let facts = Facts::default();
        let page = Page::new("a.example", "/", &["a", "b"]);
        let soft = |tag: &str, mode, at_ms| Record { target: Target::Tag(tag.into()), mode, at_ms };
        let before = facts.stamp().number;
        facts.apply_at(&soft("a", Mode::Refresh(Duration::from_secs(60)), 1_000), at(1));
        let Verdict::Softened(once) = facts.check(before, || page.known()) else { panic!("softened") };
        assert_eq!((once.since_ms, once.grace), (1_000, Some(Duration::from_secs(60))));
        facts.apply_at(&soft("b", Mode::Soft, 2_000), at(2));
        let Verdict::Softened(both) = facts.check(before, || page.known()) else { panic!("softened") };
        assert_eq!((both.since_ms, both.grace), (1_000, None), "the first of them, the strictest of them");
        let Verdict::Softened(new) = facts.check(once.upto, || page.known()) else { panic!("softened") };
        assert_eq!(new.since_ms, 2_000, "each is told once");
        facts.apply_at(&hard("tag", "a"), at(3));
        assert_eq!(facts.check(before, || page.known()), Verdict::Purged);
    }

    #[test]
    fn what_was_lost_unread_purges_what_is_older() {
        let facts = Facts::default();
        let page = Page::new("a.example", "/", &[]);
        let before = facts.stamp();
        facts.lost_up_to(at(50));
        assert_eq!(facts.check(before.number, || page.known()), Verdict::Purged);
        assert_eq!(facts.check_at(at(49), &page.known()), Judgement::Known(Verdict::Purged));
        assert!(matches!(facts.check_at(at(50), &page.known()), Judgement::Known(Verdict::Valid(_))));
        let newest = facts.newest();
        facts.lost_up_to(at(50));
        assert_eq!(facts.newest(), newest, "nothing was lost that was read");
    }

    #[test]
    fn a_doubt_softens_all_there_is_and_nothing_new() {
        let facts = Facts::default();
        let page = Page::new("a.example", "/", &[]);
        facts.advance(at(7));
        let before = facts.stamp();
        facts.doubt_all(9_000);
        assert!(matches!(facts.check(before.number, || page.known()), Verdict::Softened(_)));
        assert!(matches!(
            facts.check_at(before.position, &page.known()),
            Judgement::Known(Verdict::Softened(_))
        ));
        assert!(matches!(facts.check(facts.stamp().number, || page.known()), Verdict::Valid(_)));
        facts.apply_at(&hard("tag", "x"), at(8));
        assert!(matches!(facts.check_at(at(8), &page.known()), Judgement::Known(Verdict::Valid(_))));
    }

    #[test]
    fn a_full_table_purges_too_much_and_never_too_little() {
        let facts = Facts::default();
        let before = facts.stamp();
        let total = RECORDS_MAX + 10_000;
        for number in 0..total {
            facts.apply_at(&hard("tag", &number.to_string()), at(number as u64 + 1));
        }
        assert!(facts.table.read().exact.len() <= RECORDS_MAX);
        let purged = |tag: &str, since: u64| {
            facts.check(since, || Page::new("a.example", "/", &[tag]).known_forever()) == Verdict::Purged
        };
        for number in (0..total).step_by(997) {
            assert!(purged(&number.to_string(), before.number), "{number}");
        }
        let wrongly = (0..2_000).filter(|number| purged(&format!("other{number}"), before.number)).count();
        assert!(wrongly <= 20, "{wrongly} of 2000 that nothing has named");
        assert!(!purged("0", facts.newest()), "what is fetched afterwards is valid");
        let page = Page::new("a.example", "/", &["0"]);
        assert_eq!(facts.check_at(at(0), &page.known()), Judgement::Known(Verdict::Purged));
    }

    impl Page {
        fn known_forever(self) -> Known<'static> {
            let page = Box::leak(Box::new(self));
            page.known()
        }
    }

    #[test]
    fn too_many_patterns_raise_the_floor() {
        let facts = Facts::default();
        let page = Page::new("a.example", "/", &["page"]);
        let before = facts.stamp().number;
        for number in 0..=PATTERNS_MAX {
            let glob = Target::TagGlob(Glob::new(&format!("{number}-*")));
            facts.apply_at(&Record { target: glob, mode: Mode::Hard, at_ms: 0 }, at(number as u64 + 1));
        }
        assert!(facts.table.read().patterns.len() <= PATTERNS_MAX / 2 + 1);
        assert_eq!(facts.check(before, || page.known()), Verdict::Purged, "older than what was dropped");
        assert!(matches!(facts.check(facts.newest() - 5, || page.known()), Verdict::Valid(_)));
    }

    #[test]
    fn a_pattern_said_again_is_one_record() {
        let facts = Facts::default();
        for ms in 1..100 {
            facts.apply_at(&hard("glob", "home_*"), at(ms));
        }
        assert_eq!(facts.len(), 1);
    }

    #[test]
    fn a_record_is_kept_while_a_fill_under_way_may_need_it() {
        let facts = Arc::new(Facts::default());
        let page = Page::new("a.example", "/page", &[]);
        let fill = facts.begin_fill();
        facts.apply_pending(&hard("url", "http://a.example/page"));
        let sweep = facts.begin_sweep();
        let stamp = fill.stamp();
        drop(fill);
        facts.forget(sweep, Duration::ZERO);
        let verdict = facts.check(stamp.number, || page.known());
        assert_eq!(verdict, Verdict::Purged, "the fill ended while the sweep was at work");
        facts.forget(facts.begin_sweep(), Duration::ZERO);
        assert!(facts.is_empty());
    }

    #[test]
    fn where_responses_outlive_memory_records_stay_until_they_are_old() {
        let facts = Facts::default();
        facts.keep_for_others();
        let page = Page::new("a.example", "/", &["a"]);
        facts.apply_at(&hard("tag", "a"), at(1_000));
        facts.apply_at(&hard("tag", "b"), at(5_000));
        facts.forget(facts.begin_sweep(), Duration::from_secs(4));
        assert_eq!(facts.len(), 2);
        facts.forget(facts.begin_sweep(), Duration::from_millis(3_500));
        assert_eq!(facts.len(), 1);
        assert_eq!(facts.check_at(at(999), &page.known()), Judgement::Known(Verdict::Purged), "by the floor");
    }
}
