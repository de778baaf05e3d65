//! What was decided when a response was stored: how long it is fresh, and what may be done with it afterwards.

use std::time::{Duration, Instant, SystemTime};

use crate::freshness::LifetimeSource;
use crate::time::{Now, from_millis};

/// The terms on which a stored response may be reused, computed once when it is stored. 64 bytes; no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub(super) received: Instant,
    pub(super) received_wall_ms: u64,
    /// Nanoseconds; 584 years fit.
    pub(super) initial_age: u64,
    pub(super) lifetime: u64,
    pub(super) stale_while_revalidate: u64,
    pub(super) stale_if_error: u64,
    pub(super) flags: u16,
    pub(super) source: LifetimeSource,
}

impl Terms {
    pub(super) const NO_CACHE: u16 = 1;
    pub(super) const STALE_FORBIDDEN: u16 = 1 << 1;
    pub(super) const IMMUTABLE: u16 = 1 << 2;
    pub(super) const FOR_AUTHORIZED: u16 = 1 << 3;
    pub(super) const PARTIAL: u16 = 1 << 4;
    pub(super) const VALIDATABLE: u16 = 1 << 5;

    /// The freshness lifetime, counted from the response's generation.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.lifetime)
    }

    /// What the lifetime rests on.
    #[must_use]
    pub fn source(&self) -> LifetimeSource {
        self.source
    }

    /// How old the response was when it had arrived (RFC 9111 §4.2.3).
    #[must_use]
    pub fn initial_age(&self) -> Duration {
        Duration::from_nanos(self.initial_age)
    }

    /// When it had arrived, by the wall clock: stands in for a missing `Date` (RFC 9111 §4.3.2).
    #[must_use]
    pub fn received_wall(&self) -> SystemTime {
        from_millis(self.received_wall_ms)
    }

    /// When it had arrived, by this process's clock.
    #[must_use]
    pub fn received(&self) -> Instant {
        self.received
    }

    /// How old the response is (RFC 9111 §4.2.3). Never falls, whatever the wall clock does.
    #[must_use]
    pub fn current_age(&self, now: Now) -> Duration {
        self.initial_age().saturating_add(now.mono.saturating_duration_since(self.received))
    }

    /// How much longer it is fresh; zero if it is stale.
    #[must_use]
    pub fn fresh_for(&self, now: Now) -> Duration {
        self.lifetime().saturating_sub(self.current_age(now))
    }

    /// Whether it is fresh: its lifetime exceeds its age (RFC 9111 §4.2).
    #[must_use]
    pub fn is_fresh(&self, now: Now) -> bool {
        self.lifetime() > self.current_age(now)
    }

    /// For how long after it has become stale it may be served while it is validated (RFC 5861 §3).
    #[must_use]
    pub fn stale_while_revalidate(&self) -> Duration {
        Duration::from_nanos(self.stale_while_revalidate)
    }

    /// For how long after it has become stale it may be served in place of an error (RFC 5861 §4).
    #[must_use]
    pub fn stale_if_error(&self) -> Duration {
        Duration::from_nanos(self.stale_if_error)
    }

    /// `no-cache`: never without validation.
    #[must_use]
    pub fn is_no_cache(&self) -> bool {
        self.flags & Self::NO_CACHE != 0
    }

    /// Once stale, never without validation (RFC 9111 §4.2.4).
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.flags & Self::STALE_FORBIDDEN != 0
    }

    /// `immutable`: while it is fresh, a reload is no reason to validate (RFC 8246).
    #[must_use]
    pub fn is_immutable(&self) -> bool {
        self.flags & Self::IMMUTABLE != 0
    }

    /// Whether it may answer requests with `Authorization` (RFC 9111 §3.5).
    #[must_use]
    pub fn is_for_authorized(&self) -> bool {
        self.flags & Self::FOR_AUTHORIZED != 0
    }

    /// It is a part of a representation (206).
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.flags & Self::PARTIAL != 0
    }

    /// It has a validator, so that the origin can be asked whether it still holds.
    #[must_use]
    pub fn is_validatable(&self) -> bool {
        self.flags & Self::VALIDATABLE != 0
    }

    /// How long from its arrival it is worth keeping: until it is stale, then its longest stale window, then, if it can be
    /// validated, as long again as it was fresh (at least ten minutes, at most a day).
    #[must_use]
    pub fn keep_for(&self) -> Duration {
        let fresh = self.lifetime().saturating_sub(self.initial_age());
        let stale = self.stale_while_revalidate().max(self.stale_if_error());
        let validation = if self.is_validatable() {
            self.lifetime().clamp(VALIDATION_GRACE_MIN, VALIDATION_GRACE_MAX)
        } else {
            Duration::ZERO
        };
        fresh.saturating_add(stale.max(validation))
    }

    /// These terms, stale from now on, as a soft purge wants it. The stale windows are counted from `now`.
    #[must_use]
    pub fn expired(mut self, now: Now) -> Terms {
        let age = nanos(self.current_age(now));
        self.lifetime = self.lifetime.min(age);
        self
    }

    /// These terms, stale since a moment that somebody's wall clock gave in milliseconds since 1970, or since now if that lies ahead.
    /// `grace`: for so long from then on it may be served while it is refreshed, unless it forbids stale use altogether; `None`: as its own
    /// windows allow, counted from then.
    #[must_use]
    pub fn softened(mut self, since_ms: u64, grace: Option<Duration>, now: Now) -> Terms {
        let since = from_millis(since_ms).min(now.wall);
        let held_by_then = since.duration_since(self.received_wall()).unwrap_or_default();
        let age_then = self.initial_age.saturating_add(nanos(held_by_then));
        // The wall clock is kept in milliseconds: what it says may be a moment more than the age is by now.
        let age_now = nanos(self.current_age(now));
        self.lifetime = self.lifetime.min(age_then).min(age_now);
        if let Some(grace) = grace {
            self.stale_while_revalidate = nanos(grace);
        }
        self
    }

    /// These terms, never again without validation, as an unsafe request leaves them (RFC 9111 §4.4).
    #[must_use]
    pub fn invalidated(mut self) -> Terms {
        self.flags |= Self::NO_CACHE | Self::STALE_FORBIDDEN;
        self
    }

    /// The same terms as facts of the wall clock, to outlive the process.
    #[must_use]
    pub fn at_rest(&self) -> TermsAtRest {
        TermsAtRest {
            received_ms: self.received_wall_ms,
            initial_age_ns: self.initial_age,
            lifetime_ns: self.lifetime,
            stale_while_revalidate_ns: self.stale_while_revalidate,
            stale_if_error_ns: self.stale_if_error,
            flags: self.flags,
            source: self.source as u8,
        }
    }
}

const VALIDATION_GRACE_MIN: Duration = Duration::from_secs(10 * 60);
const VALIDATION_GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// [`Terms`] in a form that can be written down and read by another process. Its fields are an encoding, not an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "an encoding of `Terms`, whose methods say what each means")]
pub struct TermsAtRest {
    pub received_ms: u64,
    pub initial_age_ns: u64,
    pub lifetime_ns: u64,
    pub stale_while_revalidate_ns: u64,
    pub stale_if_error_ns: u64,
    pub flags: u16,
    pub source: u8,
}

impl TermsAtRest {
    /// The terms for this process. The time since the response was received counts into its age; a date of receipt that lies
    /// ahead (another machine's clock, or a step of ours) counts as now, so that it is at most fresh for its lifetime.
    /// `None` if the values were never written by [`Terms::at_rest`].
    #[must_use]
    pub fn revive(self, now: Now) -> Option<Terms> {
        let source = match self.source {
            0 => LifetimeSource::SMaxage,
            1 => LifetimeSource::MaxAge,
            2 => LifetimeSource::Expires,
            3 => LifetimeSource::Policy,
            4 => LifetimeSource::Heuristic,
            5 => LifetimeSource::None,
            _ => return None,
        };
        let held = now.wall.duration_since(from_millis(self.received_ms)).unwrap_or_default();
        Some(Terms {
            received: now.mono,
            received_wall_ms: self.received_ms,
            initial_age: self.initial_age_ns.saturating_add(nanos(held)),
            lifetime: self.lifetime_ns,
            stale_while_revalidate: self.stale_while_revalidate_ns,
            stale_if_error: self.stale_if_error_ns,
            flags: self.flags,
            source,
        })
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
