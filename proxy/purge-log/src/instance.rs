//! One proxy's part in the protocol: from a purge that somebody asks for to the word that all proxies have applied it; and what has to
//! happen before a log that was away, or lost its end, is trusted again.
//!
//! Events go in, and what is to be done is asked for; whoever drives it does the waiting. Time is in milliseconds by a clock that never goes back.
//!
//! 1. A purge is **journaled**, then **applied** here, then **published**, then **acknowledged**. Nothing is said before the step it stands for.
//! 2. Each second the **lease** is renewed: the proxy says under its own key how far it has read. Who has not done so for two seconds no
//!    longer calls its memory verified; the key lives for three. So a purge that waits for all may go on when each key has reached it or is gone.
//! 3. After a connection was lost the **gate** is shut until what was journaled is published and what was published is read. Where the log
//!    may have lost its end (another server, or one that knows less than we do), everything published in the last ten minutes is published again, behind a
//!    mark that lies a minute ahead of all that anybody can have read; and nobody goes on before all who are registered have done so.
//! 4. Where the log is read and **takes no writes**, a proxy that comes to it reads along without a name of its own: what is shared may be read, since each
//!    look-up there compares the end of the log; memory is not vouched for, since nobody waits for whom he does not know. With the first write that is taken it passes the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::facts::Facts;
use crate::position::Position;
use crate::rules::Rules;
use crate::target::{Mode, Published, Record, Target};

/// How often the lease is renewed.
pub const RENEW_EVERY_MS: u64 = 1_000;
/// So long after a renewal was asked for memory is called verified.
pub const LEASE_MS: u64 = 2_000;
/// So long Redis keeps the key of a proxy. The difference is what clocks may disagree by, and how long an answer may take.
pub const KEY_MS: u64 = 3_000;
/// So long the gate waits for proxies that do not come back.
pub const HOLD_MS: u64 = 10_000;
/// What was published within this time is published again when the log may have lost it.
pub const REPLAY_MS: u64 = 600_000;
/// How far ahead a mark lies: beyond all that was given out by a server that died.
pub const AHEAD_MS: u64 = 60_000;
/// Records on their way to the journal among which an equal one is looked for.
const JOIN_MAX: usize = 64;
/// Own records that are kept for another publication.
const JOURNAL_MAX: usize = 100_000;

/// A proxy, as far as purges go.
#[derive(Debug)]
pub struct Instance {
    id: Box<str>,
    facts: Arc<Facts>,
    rules: Rules,
    /// Our own records by number: those that are not published, and those that were of late.
    journal: BTreeMap<u64, Own>,
    /// Of these, the numbers of those in force that the log has not taken; and those of them that are not on their way to it. Each event asks for them, and there may be a
    /// hundred thousand that it has.
    unpublished: BTreeSet<u64>,
    unsent: BTreeSet<u64>,
    next_number: u64,
    /// The history of the log in which we were last open.
    history: Option<Box<str>>,
    state: State,
    /// The log takes no writes: it is read, and nobody hears of us.
    reads_only: bool,
    /// The history that this process has read from its beginning, without having been open in another.
    read_whole: Option<Box<str>>,
    /// When the renewal in force was asked for.
    lease_from: Option<u64>,
    /// A renewal that counts once all up to this position is read.
    lease_waits: Option<(u64, Position)>,
}

#[derive(Debug)]
struct Own {
    record: Record,
    /// What the facts call it, once it is applied.
    applied: Option<u64>,
    /// Where the log has put it.
    position: Option<Position>,
    /// When it was published, or read back from the journal.
    at: u64,
}

#[derive(Debug)]
enum State {
    /// There is no connection.
    Away,
    Recovering(Recovery),
    /// The log is trusted.
    Open,
}

#[derive(Debug)]
struct Recovery {
    server: Server,
    since: u64,
    /// The log may have lost its end, or is new to us.
    changed: bool,
    /// It has lost its end for certain, perhaps within one history: who has not read our mark may not know yet.
    regressed: bool,
    /// A mark of this history has been seen or is not needed: records may be published.
    marked: bool,
    mark_in_flight: bool,
    /// All up to here must have been read.
    upto: Position,
    /// The log knows less than we do. What is left of its last ten minutes is read again from here, for somebody may have written
    /// there what we have not seen.
    again: Option<Position>,
    /// Peers have said that they have done all this too.
    agreed: bool,
}

/// What is learnt of a server when a connection is made, after our own key was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What is another one after a failover or a restart: the server's run id.
    pub history: Box<str>,
    /// The newest record, trimmed or not; [`Position::START`]: there never was one.
    pub head: Position,
    /// The newest record that was trimmed.
    pub deleted: Position,
    /// The server's clock, in milliseconds.
    pub now_ms: u64,
}

/// A record to be added to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Its number in our journal; `None`: a mark.
    pub number: Option<u64>,
    /// The position to ask for; `None`: the log gives it one.
    pub at: Option<Position>,
    /// What it says.
    pub published: Published,
}

/// What a proxy says of itself under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// How far it has read.
    pub cursor: Position,
    /// How far its recovery has come.
    pub phase: Phase,
    /// Of which history it speaks.
    pub history: Box<str>,
}

/// How far the recovery of a proxy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has not published and read all yet.
    Recovering,
    /// It has, and waits for the others.
    Done,
    /// It trusts the log.
    Open,
}

/// Whether all others have applied a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All that are there. Those named have said so; nobody else is registered, or their leases have run out.
    ByAll(Vec<Box<str>>),
    /// These have not said so yet.
    NotBy(Vec<Box<str>>),
}

impl Announcement {
    /// As it is written.
    #[must_use]
    pub fn to_text(&self) -> String {
        let phase = match self.phase {
            Phase::Recovering => "recovering",
            Phase::Done => "done",
            Phase::Open => "open",
        };
        format!("{} {phase} {}", self.cursor, self.history)
    }

    /// Read back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let cursor = words.next()?.parse().ok()?;
        let phase = match words.next()? {
            "recovering" => Phase::Recovering,
            "done" => Phase::Done,
            "open" => Phase::Open,
            _ => return None,
        };
        let history = words.next().filter(|history| history.len() <= 128)?.into();
        Some(Self { cursor, phase, history })
    }
}

impl Instance {
    /// A proxy that has just been started. `id` is its own for ever: no two processes share one, and one that was restarted has another,
    /// unless it has read its journal back.
    #[must_use]
    pub fn new(id: &str, facts: Arc<Facts>) -> Self {
        let rules = facts.rules;
        Self {
            id: id.into(),
            facts,
            rules,
            journal: BTreeMap::new(),
            unpublished: BTreeSet::new(),
            unsent: BTreeSet::new(),
            next_number: 1,
            history: None,
            state: State::Away,
            reads_only: false,
            read_whole: None,
            lease_from: None,
            lease_waits: None,
        }
    }

    /// Puts back what the journal has kept of our own records, in order. They are in force again, and published (again) when there is a log.
    pub fn restore(&mut self, number: u64, record: Record, position: Option<Position>, now: u64) {
        let applied = match position {
            // It is known where it stands, not what stands before it.
            Some(position) => self.facts.apply_as_of(&record, position),
            None => self.facts.apply_pending(&record),
        };
        self.next_number = self.next_number.max(number + 1);
        self.journal.insert(number, Own { record, applied: Some(applied), position, at: now });
        if position.is_none() {
            self.awaits_publication(number);
        }
    }

    fn awaits_publication(&mut self, number: u64) {
        self.unpublished.insert(number);
        self.unsent.insert(number);
    }

    /// The log has put a record of ours here.
    fn published(&mut self, number: u64) {
        self.unpublished.remove(&number);
        self.unsent.remove(&number);
    }

    /// Puts back the history in which it was last open.
    pub fn restore_history(&mut self, history: &str) {
        self.history = Some(history.into());
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The facts that it keeps.
    #[must_use]
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// The history in which it was last open.
    #[must_use]
    pub fn history(&self) -> Option<&str> {
        self.history.as_deref()
    }

    /// A purge is asked for: the number under which it is to be journaled.
    pub fn enlist(&mut self, record: Record) -> u64 {
        // One that is still on its way to the journal will be in force later than now: it stands for both.
        let newest = self.journal.iter().rev().take(JOIN_MAX);
        let mut waiting = newest.take_while(|(_, own)| own.applied.is_none());
        if let Some((number, _)) =
            waiting.find(|(_, own)| own.record.target == record.target && own.record.mode == record.mode)
        {
            return *number;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.journal.insert(number, Own { record, applied: None, position: None, at: 0 });
        number
    }

    /// The journal holds it (or there is none to hold it): it is in force here.
    pub fn journaled(&mut self, number: u64) {
        if let Some(own) = self.journal.get_mut(&number)
            && own.applied.is_none()
        {
            own.applied = Some(self.facts.apply_pending(&own.record));
            self.awaits_publication(number);
        }
    }

    /// Numbers of our own records that the log has not taken, in force here.
    #[must_use]
    pub fn unpublished(&self) -> usize {
        self.unpublished.len()
    }

    /// Own records that are kept for another publication.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.journal.len()
    }

    /// Whether there is anything to be sent now.
    #[must_use]
    pub fn has_sends(&self) -> bool {
        !matches!(self.state, State::Away) && !self.reads_only && !self.unsent.is_empty()
    }

    /// When the lease in force was asked for.
    #[must_use]
    pub const fn lease_from(&self) -> Option<u64> {
        self.lease_from
    }

    /// Where the log has put a record of ours.
    #[must_use]
    pub fn position_of(&self, number: u64) -> Option<Position> {
        self.journal.get(&number)?.position
    }

    /// The log can be reached. Our key has been written before the server was asked: whoever publishes from now on waits for us.
    pub fn connected(&mut self, server: Server, now: u64) {
        self.begin(server, false, now);
    }

    /// The log can be read, and takes no writes, ours neither: nobody waits for us. What is ours goes to it after [`Instance::connected`], which comes next.
    pub fn connected_to_read(&mut self, server: Server, now: u64) {
        self.begin(server, true, now);
    }

    fn begin(&mut self, server: Server, reads_only: bool, now: u64) {
        self.reads_only = reads_only;
        let cursor = self.facts.cursor();
        let regressed = server.head < cursor;
        let changed = regressed || self.history.as_deref() != Some(&*server.history);
        if cursor == Position::START {
            self.read_whole = Some(server.history.clone());
        } else if self.read_whole.as_deref() != Some(&*server.history) || regressed {
            self.read_whole = None;
        }
        if regressed && !self.rules.no_regress {
            self.facts.go_back_to(server.head);
        }
        if cursor < server.deleted {
            // Trimmed before we have read it.
            self.facts.lost_up_to(server.deleted);
        }
        if changed && self.rules.replay {
            for (number, own) in &mut self.journal {
                if own.position.is_some() && now.saturating_sub(own.at) < REPLAY_MS {
                    own.position = None;
                    self.unpublished.insert(*number);
                }
            }
        }
        // Nothing is on its way on a new connection.
        self.unsent.clone_from(&self.unpublished);
        let upto = server.head;
        // In a log that never had a record, no stamp was given out that a mark would have to lie behind.
        let unused = server.head.max(server.deleted).max(cursor) == Position::START;
        // Likewise for one that had read nothing before, and so has stamped nothing that stands elsewhere: it reads this history from its beginning. Who writes to it must show that it has.
        let begins = reads_only && self.read_whole.is_some();
        let marked = !changed || unused || begins || !self.rules.no_regress;
        let window = Position { ms: cursor.ms.saturating_sub(REPLAY_MS), seq: 0 };
        let again = if server.head < window { Position::START } else { window };
        let again = (regressed && self.rules.no_regress && server.head > again).then_some(again);
        self.lease_waits = None;
        self.state = State::Recovering(Recovery {
            server,
            since: now,
            changed,
            regressed,
            marked,
            mark_in_flight: false,
            upto,
            again,
            agreed: false,
        });
        self.step(now);
    }

    /// The log cannot be reached any more. What is verified stays so until the lease ends.
    pub fn disconnected(&mut self) {
        self.state = State::Away;
        self.reads_only = false;
        self.lease_waits = None;
    }

    /// What is to be added to the log now, in this order.
    pub fn sends(&mut self) -> Vec<Send> {
        if self.reads_only {
            return Vec::new();
        }
        let recovery = match &mut self.state {
            State::Away => return Vec::new(),
            State::Open => None,
            State::Recovering(recovery) => Some(recovery),
        };
        if let Some(recovery) = recovery
            && !recovery.marked
        {
            // Somebody else may have put one there: first all is read.
            if recovery.mark_in_flight || recovery.again.is_some() || self.facts.cursor() < recovery.upto {
                return Vec::new();
            }
            recovery.mark_in_flight = true;
            let at = recovery.ahead(self.facts.cursor());
            let record =
                Record { target: Target::Mark(recovery.server.history.clone()), mode: Mode::Hard, at_ms: 0 };
            let published = Published { issuer: self.id.clone(), number: 0, record };
            return vec![Send { number: None, at: Some(at), published }];
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sends = unsent.into_iter().filter_map(|number| {
            let record = self.journal.get(&number)?.record.clone();
            let published = Published { issuer: self.id.clone(), number, record };
            Some(Send { number: Some(number), at: None, published })
        });
        sends.collect()
    }

    /// The log has taken a record of ours.
    pub fn sent(&mut self, number: Option<u64>, position: Position, now: u64) {
        if let State::Recovering(recovery) = &mut self.state {
            recovery.upto = recovery.upto.max(position);
            if number.is_none() {
                recovery.marked = true;
            }
        }
        if let Some(number) = number
            && let Some(own) = self.journal.get_mut(&number)
        {
            own.position = Some(position);
            own.at = now;
            self.published(number);
        }
        self.forget(now);
        self.step(now);
    }

    /// The log does not take what was handed out to be sent: it takes nothing now, or only this is to be tried again.
    pub fn not_sent(&mut self, number: Option<u64>) {
        match number {
            Some(number) if self.unpublished.contains(&number) => drop(self.unsent.insert(number)),
            Some(_) => {}
            None => {
                if let State::Recovering(recovery) = &mut self.state {
                    recovery.mark_in_flight = false;
                }
            }
        }
    }

    /// The log has refused our mark, because somebody has put a record behind where it was to stand: `head` is the newest now.
    pub fn mark_refused(&mut self, head: Position, now: u64) {
        if let State::Recovering(recovery) = &mut self.state {
            recovery.upto = recovery.upto.max(head);
            recovery.server.head = recovery.server.head.max(head);
            recovery.mark_in_flight = false;
        }
        self.step(now);
    }

    /// Records are to be read from behind here.
    #[must_use]
    pub fn reads_after(&self) -> Position {
        match &self.state {
            State::Recovering(Recovery { again: Some(again), .. }) => *again,
            State::Recovering(_) | State::Away | State::Open => self.facts.cursor(),
        }
    }

    /// The records behind `after`, in the order of the log, were read; none, where there are none. `deleted` is the newest that had been
    /// trimmed, asked for after that: if it lies behind `after`, something was trimmed that nobody here has read.
    pub fn read<'e>(
        &mut self,
        after: Position,
        entries: impl IntoIterator<Item = (Position, &'e Published)>,
        deleted: Position,
        now: u64,
    ) {
        let reads_after = self.reads_after();
        if after > reads_after {
            return;
        }
        let cursor = self.facts.cursor();
        if cursor < deleted {
            self.facts.lost_up_to(deleted);
        }
        let mut any = false;
        for (position, Published { issuer, number, record }) in entries {
            // Another answer was faster.
            if position <= reads_after {
                continue;
            }
            any = true;
            if let State::Recovering(recovery) = &mut self.state
                && recovery.again.is_some()
            {
                recovery.again = (position < recovery.server.head).then_some(position);
                if position <= cursor {
                    // It stands where others have stamped before it was written.
                    let as_of = recovery.ahead(cursor);
                    self.facts.apply_as_of(record, as_of);
                    continue;
                }
            }
            let own = if **issuer == *self.id { self.journal.get_mut(number) } else { None };
            match own {
                Some(Own { applied: Some(applied), record, position: known, .. }) => {
                    self.facts.confirm(record, *applied, position);
                    // Its answer may have been lost with a connection; here it is all the same.
                    known.get_or_insert(position);
                    self.published(*number);
                }
                Some(_) | None => {
                    self.facts.apply_at(record, position);
                }
            }
            if let (Target::Mark(of), State::Recovering(recovery)) = (&record.target, &mut self.state)
                && *of == recovery.server.history
            {
                recovery.marked = true;
            }
        }
        if let State::Recovering(recovery) = &mut self.state
            && !any
        {
            recovery.again = None;
        }
        self.step(now);
    }

    /// What our key is to say now.
    #[must_use]
    pub fn announcement(&self, history: &str) -> Announcement {
        let phase = match &self.state {
            // What is ours was not published: others would go on without it.
            _ if self.reads_only => Phase::Recovering,
            State::Away => Phase::Recovering,
            State::Open => Phase::Open,
            State::Recovering(recovery) if recovery.is_done(&self.facts, self.unpublished()) => Phase::Done,
            State::Recovering(_) => Phase::Recovering,
        };
        Announcement { cursor: self.facts.cursor(), phase, history: history.into() }
    }

    /// Our key was written, by a command that was sent at `asked`; `head` is the newest record after that. True: the log knows less than we do,
    /// so the connection is to be made anew.
    #[must_use]
    pub fn renewed(&mut self, asked: u64, head: Position, now: u64) -> bool {
        if head < self.facts.cursor() {
            self.disconnected();
            return true;
        }
        self.lease_waits = Some((asked, head));
        self.step(now);
        false
    }

    /// What the others say of themselves; `None`: the key is gone.
    pub fn heard<'p>(
        &mut self,
        peers: impl IntoIterator<Item = (&'p str, Option<&'p Announcement>)>,
        now: u64,
    ) {
        let State::Recovering(recovery) = &mut self.state else { return };
        let (mut all_done, mut any_open) = (true, false);
        for (id, said) in peers {
            if *id == *self.id {
                continue;
            }
            let of_this = said.filter(|said| said.history == recovery.server.history);
            let of_this = of_this.filter(|said| !recovery.regressed || said.cursor >= recovery.upto);
            all_done &= of_this.is_some_and(|said| said.phase >= Phase::Done);
            any_open |= of_this.is_some_and(|said| said.phase == Phase::Open);
        }
        // Whoever is open has waited for all; nothing was lost since.
        recovery.agreed = all_done || any_open;
        self.step(now);
    }

    /// Somebody has been open in the history that we are recovering in, be it there still or gone. It has waited for all; nothing was lost since.
    pub fn heard_of_open(&mut self, now: u64) {
        if let State::Recovering(recovery) = &mut self.state {
            recovery.agreed |= !recovery.regressed;
        }
        self.step(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        self.step(now);
    }

    /// Goes as far as it can.
    fn step(&mut self, now: u64) {
        // Where nothing can be published, what is ours is in force here, newer than all that others have stored.
        let unpublished = if self.reads_only { 0 } else { self.unpublished() };
        if let State::Recovering(recovery) = &self.state
            && recovery.is_done(&self.facts, unpublished)
        {
            let held = now.saturating_sub(recovery.since) >= HOLD_MS;
            let needs_peers = recovery.changed && self.rules.gate;
            if !needs_peers || recovery.agreed || held {
                if needs_peers && !recovery.agreed {
                    // Somebody may have purged what we cannot hear of: what is stored is validated before it is served.
                    self.facts.doubt_all(recovery.server.now_ms);
                }
                if !self.reads_only {
                    self.history = Some(recovery.server.history.clone());
                }
                self.state = State::Open;
            }
        }
        if let (State::Open, Some((asked, head))) = (&self.state, self.lease_waits)
            && (self.facts.cursor() >= head || !self.rules.lease_needs_head)
        {
            self.lease_from = Some(self.lease_from.map_or(asked, |from| from.max(asked)));
            self.lease_waits = None;
        }
    }

    /// Whether the tier that all share may be read. A lookup there compares the end of the log with [`Facts::cursor`] and reads on first.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether what is in memory is known to be what everybody agrees on.
    #[must_use]
    pub fn is_verified(&self, now: u64) -> bool {
        let within = self.lease_from.is_some_and(|from| now.saturating_sub(from) < LEASE_MS);
        within || !self.rules.lease
    }

    /// Whether all others have applied the record at `position`: asked with what all registered keys say, read after it was published.
    #[must_use]
    pub fn applied_by<'p>(
        &self,
        position: Position,
        peers: impl IntoIterator<Item = (&'p str, Option<&'p Announcement>)>,
    ) -> Applied {
        let (mut by, mut not_by) = (Vec::new(), Vec::new());
        for (id, said) in peers {
            let said = if *id == *self.id { continue } else { said };
            // The key is gone: its lease has ended before.
            let Some(said) = said else { continue };
            let of_this = self.history.as_deref() == Some(&*said.history) && self.is_open();
            if of_this && said.cursor >= position { by.push(id.into()) } else { not_by.push(id.into()) }
        }
        if !self.is_open() || self.reads_only {
            not_by.push(self.id.clone());
        }
        if not_by.is_empty() { Applied::ByAll(by) } else { Applied::NotBy(not_by) }
    }

    /// Drops own records that need not be published again.
    fn forget(&mut self, now: u64) {
        while let Some(first) = self.journal.first_entry() {
            let own = first.get();
            let old = now.saturating_sub(own.at) >= REPLAY_MS
                || self.next_number - first.key() > JOURNAL_MAX as u64;
            // Its entry must have been read back: until then it counts as newer than everything.
            let read_back = own.position.is_some_and(|position| position <= self.facts.cursor());
            if !(read_back && old) {
                return;
            }
            first.remove();
        }
    }

    /// The numbers of own records that need not be kept in the journal for another publication.
    #[must_use]
    pub fn oldest_kept(&self) -> u64 {
        self.journal.first_key_value().map_or(self.next_number, |(number, _)| *number)
    }

    /// Those who are registered and have not been heard of: for a message.
    #[must_use]
    pub fn is_waiting_for_peers(&self) -> bool {
        match &self.state {
            State::Recovering(recovery) => {
                recovery.changed && recovery.is_done(&self.facts, self.unpublished())
            }
            State::Away | State::Open => false,
        }
    }
}

impl Recovery {
    /// Behind every stamp that anybody can have given out.
    fn ahead(&self, cursor: Position) -> Position {
        let newest = cursor.ms.max(self.server.head.ms).max(self.server.now_ms);
        Position { ms: newest.saturating_add(AHEAD_MS), seq: 0 }
    }

    /// Published and read.
    fn is_done(&self, facts: &Facts, unpublished: usize) -> bool {
        self.marked && self.again.is_none() && unpublished == 0 && facts.cursor() >= self.upto
    }
}
