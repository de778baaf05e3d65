//! Merging by chance: several copies of a session, changed in any order, that lose everything now and then.

use proptest::prelude::*;

use crate::protocol::Wish;
use crate::{Attribute, Session};

fn sessions() -> impl Strategy<Value = Session> {
    let attribute = (0..6_u64, 0..3_u64, prop::option::of(prop::collection::vec(0..3_u8, 0..3)))
        .prop_map(|(version, ends_ms, value)| Attribute { version, ends_ms, value });
    let attributes = prop::collection::btree_map("[a-d]", attribute, 0..4);
    let subject = prop::option::of((1..6_u64, "[u-w]"));
    let times = (1..9_u64, 1..9_u64, 0..9_u64, prop::bool::weighted(0.1));
    (times, subject, attributes).prop_map(|((created_ms, ends_ms, seen_ms, ended), subject, attributes)| {
        let mut session = Session { created_ms, ends_ms, seen_ms, ended: false, subject, attributes };
        if ended {
            session.merge(&session.ending());
        }
        session
    })
}

fn merged(mut one: Session, other: &Session) -> Session {
    one.merge(other);
    one
}

/// What somebody does with a session.
#[derive(Debug, Clone)]
enum Act {
    /// Changes an attribute; it reaches the stores that are named, in this order, only later.
    Save { attribute: usize, late: usize },
    /// Logs out.
    End,
    /// A store loses everything.
    Lose(usize),
    /// One store is read, and the other one repaired with what it said.
    Repair(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..4_usize, 0..6_usize).prop_map(|(attribute, late)| Act::Save { attribute, late }),
        1 => Just(Act::End),
        1 => (0..1_usize).prop_map(Act::Lose),
        2 => (0..2_usize).prop_map(Act::Repair),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_order_in_which_copies_meet_does_not_matter(a in sessions(), b in sessions(), c in sessions()) {
        prop_assert_eq!(merged(a.clone(), &b), merged(b.clone(), &a));
        prop_assert_eq!(merged(merged(a.clone(), &b), &c), merged(a.clone(), &merged(b.clone(), &c)));
        prop_assert_eq!(merged(a.clone(), &a), a);
    }

    #[test]
    fn what_was_written_is_read_back(session in sessions()) {
        prop_assert_eq!(session.encode()[crate::ENDED_AT], u8::from(session.ended));
        prop_assert_eq!(Session::decode(&session.encode()), Ok(session));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), session in sessions(), at in 0..100_usize, byte in any::<u8>()) {
        let _ = Session::decode(&bytes);
        let mut damaged = session.encode();
        let at = at % damaged.len();
        damaged[at] = byte;
        let _ = Session::decode(&damaged);
        let _ = Wish::parse(Some(&bytes), Some(&bytes), Some(&bytes));
    }

    /// Two stores, of which the first may lose everything. Saves arrive late and in any order. Nothing saved late brings back what was ended, and while nothing was ended nothing is lost.
    #[test]
    fn a_late_save_never_brings_back_what_was_ended(acts in acts()) {
        let begun = Session { created_ms: 1, ends_ms: 1_000, seen_ms: 1, ..Session::default() };
        let mut stores = [begun.clone(), begun.clone()];
        let (mut ended, mut version) = (false, 0_u64);
        let mut under_way: Vec<(usize, Session)> = Vec::new();
        let mut written = [0_u64; 4];
        for (step, act) in acts.into_iter().enumerate() {
            let due: Vec<Session> = under_way.extract_if(.., |(at, _)| *at <= step).map(|(_, change)| change).collect();
            for change in due {
                stores.iter_mut().for_each(|store| store.merge(&change));
            }
            match act {
                Act::Save { attribute, late } => {
                    version += 1;
                    written[attribute] = version;
                    let mut change = begun.change(1);
                    let value = Some(version.to_be_bytes().to_vec());
                    change.attributes.insert(attribute.to_string(), Attribute { version, ends_ms: 0, value });
                    under_way.push((step + late, change));
                }
                Act::End => {
                    ended = true;
                    stores.iter_mut().for_each(|store| store.merge(&begun.ending()));
                }
                Act::Lose(store) => stores[store] = Session::default(),
                Act::Repair(from) => {
                    let read = stores[from].clone();
                    stores[1 - from].merge(&read);
                }
            }
        }
        for (_, change) in under_way {
            stores.iter_mut().for_each(|store| store.merge(&change));
        }
        let read = merged(stores[0].clone(), &stores[1]);
        prop_assert_eq!(read.ended, ended);
        if ended {
            prop_assert!(read.attributes.is_empty());
        } else {
            for (attribute, version) in written.iter().enumerate().filter(|(_, version)| **version > 0) {
                prop_assert_eq!(read.attributes[&attribute.to_string()].version, *version);
            }
        }
    }
}

#[test]
fn fifty_writes_at_once_are_all_there() {
    let begun = Session { created_ms: 1, ends_ms: 1_000, seen_ms: 1, ..Session::default() };
    let changes: Vec<Session> = (0..50)
        .map(|n| {
            let field = format!("a{n}={n}");
            Wish::parse(Some(field.as_bytes()), None, None).unwrap().change(&begun, 7 << 8, 7)
        })
        .collect();
    let mut session = begun;
    for change in changes.iter().rev().chain(&changes) {
        session.merge(change);
    }
    assert_eq!(session.live(8).count(), 50);
}

/// Three proxies with a disk each, and the Redis that they share: who knows what of one session, and who believes in it.
#[derive(Clone, Default)]
struct Shared {
    redis: Store,
    /// What the log in Redis has: who said it, and what ended.
    log: Vec<(usize, Ended)>,
    /// An old file of it.
    file: (Store, Vec<(usize, Ended)>),
    /// How often it became another than it was.
    history: usize,
    disks: [Store; 3],
    heard: [usize; 3],
    reminded: [usize; 3],
    /// Who has ended it, or heard that it is over.
    knows: [bool; 3],
    over: bool,
}

/// What a store has: the session, and until which version all of its user's are over.
#[derive(Clone, Default)]
struct Store {
    session: Session,
    logged_out: u64,
}

/// What has ended: the session, or all of the user's.
#[derive(Clone, Copy, PartialEq)]
enum Ended {
    Session,
    User,
}

/// What may happen at one of the proxies, or to Redis.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Happens {
    Used(usize),
    Read(usize),
    Destroyed(usize),
    LoggedOut(usize),
    Hears(usize),
    Reminds(usize),
    Saved,
    Emptied,
    ReadsItsFile,
}

/// Rules that can be taken away, to see that each is needed.
#[derive(Debug, Clone, Copy)]
struct Rules {
    hear: bool,
    remind: bool,
    /// Who has a session that Redis does not know waits for all who are connected to tell it what they have ended; here, that is everybody.
    catch_up: bool,
}

const ALL: Rules = Rules { hear: true, remind: true, catch_up: false };

/// Who must not believe in a session that is over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nobody {
    /// Who has ended it, or heard of it; and in the end nobody. Others may be away.
    WhoKnows,
    /// Nobody, at any time. All are connected, and what Redis forgets, it forgets whole.
    AtAll,
}

impl Store {
    fn take(&mut self, what: Ended) {
        match what {
            Ended::Session => self.session.merge(&begun().ending()),
            Ended::User => self.logged_out = 1,
        }
    }

    fn knows(&self, what: Ended) -> bool {
        match what {
            Ended::Session => self.session.ended,
            Ended::User => self.logged_out == 1,
        }
    }
}

fn begun() -> Session {
    Session {
        created_ms: 1,
        ends_ms: 1_000,
        seen_ms: 1,
        subject: Some((1, "ada".to_owned())),
        ..Session::default()
    }
}

impl Shared {
    /// Whether a proxy believes in the session: both stores are asked, and Redis is told what it has forgotten.
    fn believes(&mut self, at: usize, rules: Rules) -> bool {
        // Where that is its end, the log has it, too.
        if self.disks[at].session.ended {
            self.tell(at, Ended::Session);
        }
        let is_forgotten = self.redis.session.created_ms == 0 && self.disks[at].session.created_ms != 0;
        if rules.catch_up && is_forgotten && !self.disks[at].session.ended {
            (0..3).for_each(|other| self.happen(Happens::Reminds(other), rules));
            self.happen(Happens::Hears(at), rules);
        }
        let (redis, disk) = (&mut self.redis, &self.disks[at]);
        redis.session.merge(&disk.session);
        let found = redis.session.created_ms != 0 && !redis.session.ended;
        found && redis.logged_out.max(disk.logged_out) < 1
    }

    fn end(&mut self, at: usize, what: Ended) {
        self.over = true;
        self.knows[at] = true;
        self.disks[at].take(what);
        self.tell(at, what);
    }

    /// Redis is told; the log has what was news to it.
    fn tell(&mut self, by: usize, what: Ended) {
        if !self.redis.knows(what) {
            self.redis.take(what);
            self.log.push((by, what));
        }
    }

    fn happen(&mut self, happens: Happens, rules: Rules) {
        match happens {
            Happens::Used(at) => {
                if self.believes(at, rules) {
                    self.disks[at].session.merge(&begun());
                }
            }
            Happens::Read(at) => drop(self.believes(at, rules)),
            Happens::Destroyed(at) => self.end(at, Ended::Session),
            Happens::LoggedOut(at) => self.end(at, Ended::User),
            Happens::Hears(at) if rules.hear => {
                for (_, what) in self.log.iter().skip(self.heard[at]) {
                    self.disks[at].take(*what);
                    self.knows[at] = true;
                }
                self.heard[at] = self.log.len();
            }
            Happens::Reminds(at) if rules.remind && self.reminded[at] != self.history => {
                for what in [Ended::Session, Ended::User] {
                    if self.disks[at].knows(what) {
                        self.tell(at, what);
                    }
                }
                self.reminded[at] = self.history;
                self.heard[at] = 0;
            }
            Happens::Hears(_) | Happens::Reminds(_) => {}
            Happens::Saved => self.file = (self.redis.clone(), self.log.clone()),
            Happens::Emptied => {
                (self.redis, self.log) = Default::default();
                self.history += 1;
            }
            Happens::ReadsItsFile => {
                (self.redis, self.log) = self.file.clone();
                self.history += 1;
            }
        }
    }

    /// Whoever must not believe in it never does; and when all have come to rest, nobody does.
    fn run(all: &[Happens], rules: Rules, nobody: Nobody) -> Result<(), String> {
        let mut shared = Self::default();
        shared.redis.session = begun();
        shared.disks[0].session = begun();
        for (step, happens) in all.iter().enumerate() {
            shared.happen(*happens, rules);
            for at in 0..3 {
                let must_not = if nobody == Nobody::AtAll { shared.over } else { shared.knows[at] };
                if must_not && shared.clone().believes(at, rules) {
                    return Err(format!("{at} believes in it after step {step}"));
                }
            }
        }
        for happens in (0..3).map(Happens::Reminds).chain((0..3).map(Happens::Hears)) {
            shared.happen(happens, rules);
        }
        // Whatever Redis forgets from here on.
        shared.happen(Happens::Emptied, rules);
        match (0..3).find(|at| shared.over && shared.believes(*at, rules)) {
            Some(at) => Err(format!("{at} believes in it in the end")),
            None => Ok(()),
        }
    }
}

fn happenings(nobody: Nobody) -> impl Strategy<Value = Vec<Happens>> {
    let at = 0..3_usize;
    let one = prop_oneof![
        4 => at.clone().prop_map(Happens::Used),
        2 => at.clone().prop_map(Happens::Read),
        1 => at.clone().prop_map(Happens::Destroyed),
        1 => at.clone().prop_map(Happens::LoggedOut),
        3 => at.clone().prop_map(Happens::Hears),
        3 => at.prop_map(Happens::Reminds),
        1 => Just(Happens::Emptied),
        1 => Just(Happens::Saved),
        1 => Just(Happens::ReadsItsFile),
    ];
    let one = one.prop_map(move |happens| match happens {
        Happens::Saved | Happens::ReadsItsFile if nobody == Nobody::AtAll => Happens::Emptied,
        other => other,
    });
    prop::collection::vec(one, 1..60)
}

fn holds(rules: Rules, nobody: Nobody) -> bool {
    use proptest::test_runner::{Config, TestCaseError, TestRunner};
    let config = Config { failure_persistence: None, ..Config::with_cases(4_000) };
    let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
    let random = proptest::test_runner::TestRng::deterministic_rng(algorithm);
    let mut runner = TestRunner::new_with_rng(config, random);
    let run =
        runner.run(&happenings(nobody), |all| Shared::run(&all, rules, nobody).map_err(TestCaseError::fail));
    run.is_ok()
}

#[test]
fn no_disk_brings_back_what_was_ended_elsewhere() {
    assert!(holds(ALL, Nobody::WhoKnows));
    for without in [Rules { hear: false, ..ALL }, Rules { remind: false, ..ALL }] {
        assert!(!holds(without, Nobody::WhoKnows), "{without:?} is not needed");
    }
}

/// Also not when Redis is emptied before they have heard of it.
#[test]
fn who_waits_for_the_others_believes_in_nothing_that_one_of_them_has_ended() {
    let all = Rules { catch_up: true, ..ALL };
    assert!(holds(all, Nobody::AtAll));
    for without in [Rules { catch_up: false, ..all }, Rules { remind: false, ..all }] {
        assert!(!holds(without, Nobody::AtAll), "{without:?} is not needed");
    }
}
