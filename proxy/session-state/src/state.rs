//! What a session holds, and how two copies of it become one.

use std::collections::BTreeMap;

/// When something was written: milliseconds, and a count of what was written within one. Higher is later; no two changes of one proxy have the same.
pub type Version = u64;

/// Bits of a version that count within a millisecond. The whole stays below 10^15, which RFC 9651 takes for an integer, until 2093.
const COUNT_BITS: u32 = 8;

/// Makes versions: never twice the same, never backwards, and never behind what was read.
#[derive(Debug, Default, Clone, Copy)]
pub struct Clock(Version);

impl Clock {
    /// The version of a change that is made now.
    pub fn next(&mut self, now_ms: u64) -> Version {
        self.0 = (self.0 + 1).max(now_ms << COUNT_BITS);
        self.0
    }

    /// What somebody else has written was seen: what is written from here on is later. A clock that is more than a minute ahead is not followed.
    pub fn seen(&mut self, version: Version, now_ms: u64) {
        self.0 = self.0.max(version.min((now_ms + 60_000) << COUNT_BITS));
    }
}

/// So long a mark is kept, in milliseconds: an hour.
pub const MARKS_MS: u64 = 3_600_000;

/// When a version was made, in milliseconds.
pub(crate) const fn made_at(version: Version) -> u64 {
    version >> COUNT_BITS
}

/// The first version that is made at a time.
pub const fn version_at(now_ms: u64) -> Version {
    now_ms << COUNT_BITS
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// When it was written.
    pub version: Version,
    /// When it ends by itself; 0: with the session.
    pub ends_ms: u64,
    /// Its value; `None`: it was removed.
    pub value: Option<Vec<u8>>,
}

/// A session, or a change of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// When it was begun.
    pub created_ms: u64,
    /// When it ends, whatever happens.
    pub ends_ms: u64,
    /// When it was last used, as far as that was written.
    pub seen_ms: u64,
    /// It was ended: nothing else about it matters, and nothing brings it back.
    pub ended: bool,
    /// Whom it belongs to, and since when.
    pub subject: Option<(Version, String)>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Without being used.
    pub idle_ms: u64,
    /// In all.
    pub absolute_ms: u64,
    /// Being used is written down at most so often.
    pub touch_ms: u64,
}

/// Why a store does not take a change in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    /// The session has another version by now.
    Conflict,
    /// The session is over.
    Over,
}

/// Whether a session can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Live {
        /// And its use has to be written down.
        touch: bool,
    },
    /// It cannot.
    Over(Over),
}

/// Why a session cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It was ended.
    Ended,
    /// Its time is over, however much it was used.
    Expired,
    /// Nobody came for too long.
    Idle,
}

impl Session {
    /// One that begins now.
    pub fn begin(now_ms: u64, lifetimes: &Lifetimes) -> Self {
        Self {
            created_ms: now_ms,
            ends_ms: now_ms + lifetimes.absolute_ms,
            seen_ms: now_ms,
            ..Self::default()
        }
    }

    /// A change of this one that says nothing yet.
    pub fn change(&self, now_ms: u64) -> Self {
        Self {
            created_ms: self.created_ms,
            ends_ms: self.ends_ms,
            seen_ms: self.seen_ms.max(now_ms),
            ..Self::default()
        }
    }

    /// A change that ends this one.
    pub fn ending(&self) -> Self {
        Self { created_ms: self.created_ms, ends_ms: self.ends_ms, ended: true, ..Self::default() }
    }

    /// Takes in what another copy, or a change, says.
    pub fn merge(&mut self, other: &Self) {
        self.created_ms = match (self.created_ms, other.created_ms) {
            (0, one) | (one, 0) => one,
            (one, other) => one.min(other),
        };
        // Of an end, the later counts: a mark must not go before all that could be saved late has gone.
        self.ends_ms = self.ends_ms.max(other.ends_ms);
        self.seen_ms = self.seen_ms.max(other.seen_ms);
        self.ended |= other.ended;
        if self.ended {
            (self.seen_ms, self.subject) = (0, None);
            self.attributes.clear();
            return;
        }
        if other.subject > self.subject {
            self.subject.clone_from(&other.subject);
        }
        for (name, theirs) in &other.attributes {
            match self.attributes.get_mut(name) {
                // Of one version, the greater: which does not matter, as long as all choose the same.
                Some(ours) if *ours >= *theirs => {}
                Some(ours) => ours.clone_from(theirs),
                None => {
                    self.attributes.insert(name.clone(), theirs.clone());
                }
            }
        }
    }

    /// Forgets marks of attributes that were removed, or ended, so long ago that nobody can still be writing what they had been.
    pub fn forget_marks(&mut self, now_ms: u64) {
        self.attributes.retain(|_, attribute| {
            let ended_ms = match attribute {
                Attribute { value: None, version, .. } => made_at(*version),
                Attribute { ends_ms: 0, .. } => return true,
                Attribute { ends_ms, version, .. } => (*ends_ms).max(made_at(*version)),
            };
            ended_ms.saturating_add(MARKS_MS) > now_ms
        });
    }

    /// What a store that knows `known` holds after a change: the same for every store that reads, merges and writes.
    /// `if_version`: only if that is the latest one.
    pub fn taken_in(
        known: Option<Self>,
        change: &Self,
        now_ms: u64,
        if_version: Option<Version>,
    ) -> Result<Self, Declined> {
        if let Some(known) = &known {
            if known.ended && !change.ended {
                return Err(Declined::Over);
            }
            if if_version.is_some_and(|version| version != known.version()) {
                return Err(Declined::Conflict);
            }
        }
        // Nothing is saved for one whose end may be forgotten already.
        if change.ends_ms <= now_ms {
            return Err(Declined::Over);
        }
        let mut session = known.unwrap_or_default();
        session.merge(change);
        Ok(session)
    }

    /// The latest version of anything in it.
    pub fn version(&self) -> Version {
        let subject = self.subject.as_ref().map(|(version, _)| *version);
        self.attributes.values().map(|attribute| attribute.version).chain(subject).max().unwrap_or_default()
    }

    /// Whom it belongs to.
    pub fn user(&self) -> Option<&str> {
        self.subject.as_ref().map(|(_, user)| user.as_str()).filter(|user| !user.is_empty())
    }

    /// When it was given to whom it belongs, in milliseconds.
    pub fn authenticated_ms(&self) -> Option<u64> {
        self.user()?;
        self.subject.as_ref().map(|(version, _)| made_at(*version))
    }

    /// Attributes that are there now.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = (&str, &[u8])> {
        self.attributes.iter().filter_map(move |(name, attribute)| {
            let ended = attribute.ends_ms != 0 && attribute.ends_ms <= now_ms;
            Some((name.as_str(), attribute.value.as_deref().filter(|_| !ended)?))
        })
    }

    /// Whether it can be used.
    pub fn standing(&self, now_ms: u64, lifetimes: &Lifetimes) -> Standing {
        let unused_ms = now_ms.saturating_sub(self.seen_ms);
        if self.ended {
            return Standing::Over(Over::Ended);
        }
        if now_ms >= self.ends_ms {
            return Standing::Over(Over::Expired);
        }
        if unused_ms >= lifetimes.idle_ms {
            return Standing::Over(Over::Idle);
        }
        Standing::Live { touch: unused_ms >= lifetimes.touch_ms.min(lifetimes.idle_ms / 4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes { idle_ms: 1_800_000, absolute_ms: 86_400_000, touch_ms: 60_000 };

    #[test]
    fn a_session_lives_while_it_is_used_and_not_for_ever() {
        let session = Session::begin(1_000, &LIFETIMES);
        #[rustfmt::skip]
        let cases = [
            // after, ms     standing
            (0,              Standing::Live { touch: false }),
            (59_999,         Standing::Live { touch: false }),
            (60_000,         Standing::Live { touch: true }),
            (1_799_999,      Standing::Live { touch: true }),
            (1_800_000,      Standing::Over(Over::Idle)),
        ];
        for (after, expected) in cases {
            assert_eq!(session.standing(1_000 + after, &LIFETIMES), expected, "{after}");
        }
        let used = Session { seen_ms: 86_400_999, ..session.clone() };
        assert_eq!(used.standing(86_400_999, &LIFETIMES), Standing::Live { touch: false });
        assert_eq!(used.standing(86_401_000, &LIFETIMES), Standing::Over(Over::Expired), "in all");
        let ended = Session { ended: true, ..session };
        assert_eq!(ended.standing(1_000, &LIFETIMES), Standing::Over(Over::Ended));
    }

    #[test]
    fn marks_go_when_nobody_can_be_late_any_more() {
        let now_ms = 10 * MARKS_MS;
        let made = |ago_ms: u64| (now_ms - ago_ms) << COUNT_BITS;
        let attribute = |version, ends_ms, value: Option<&[u8]>| Attribute {
            version,
            ends_ms,
            value: value.map(<[u8]>::to_vec),
        };
        let mut session = Session::begin(1, &LIFETIMES);
        #[rustfmt::skip]
        let cases = [
            // name             attribute                                             stays
            ("lives",           attribute(made(9 * MARKS_MS), 0, Some(b"1")),          true),
            ("ends-later",      attribute(made(9 * MARKS_MS), now_ms + 1, Some(b"1")), true),
            ("just-ended",      attribute(made(9 * MARKS_MS), now_ms - 1, Some(b"1")), true),
            ("just-removed",    attribute(made(MARKS_MS - 1), 0, None),                true),
            ("long-removed",    attribute(made(MARKS_MS), 0, None),                    false),
            ("long-ended",      attribute(made(3 * MARKS_MS), now_ms - MARKS_MS, Some(b"1")), false),
        ];
        for (name, attribute, _) in &cases {
            session.attributes.insert((*name).to_owned(), attribute.clone());
        }
        session.forget_marks(now_ms);
        for (name, _, stays) in cases {
            assert_eq!(session.attributes.contains_key(name), stays, "{name}");
        }
    }

    #[test]
    fn what_a_store_takes_in() {
        let session = Session::begin(1_000, &LIFETIMES);
        let mut newer = session.clone();
        newer.subject = Some((7, "ada".to_owned()));
        let taken = |known: Option<&Session>, change: &Session, now_ms, if_version| {
            Session::taken_in(known.cloned(), change, now_ms, if_version)
        };
        assert_eq!(taken(None, &session, 1_000, None), Ok(session.clone()));
        assert_eq!(taken(None, &session, 1_000, Some(7)), Ok(session.clone()), "nothing to compare with");
        assert_eq!(taken(Some(&session), &newer, 1_000, Some(0)), Ok(newer.clone()));
        assert_eq!(taken(Some(&newer), &session, 1_000, Some(7)), Ok(newer.clone()), "older is no loss");
        assert_eq!(taken(Some(&newer), &newer, 1_000, Some(6)), Err(Declined::Conflict));
        assert_eq!(taken(Some(&newer.ending()), &newer, 1_000, None), Err(Declined::Over));
        assert!(taken(Some(&newer), &newer.ending(), 1_000, None).is_ok_and(|session| session.ended));
        assert_eq!(
            taken(None, &session, session.ends_ms, None),
            Err(Declined::Over),
            "its end may be forgotten"
        );
    }

    #[test]
    fn versions_never_repeat_and_never_go_back() {
        let mut clock = Clock::default();
        let versions = [clock.next(5), clock.next(5), clock.next(4), clock.next(6)];
        assert!(versions.is_sorted() && versions.windows(2).all(|two| two[0] != two[1]), "{versions:?}");
        clock.seen(u64::MAX, 10);
        assert!(clock.next(10) <= (10 + 60_001) << COUNT_BITS, "not even for one whose clock is far ahead");
    }
}
