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
