//! May this stored response answer this request now? (RFC 9111 §4, over all that the other modules know)
//!
//! Asked at each look-up: no allocation, a few comparisons.

use std::time::Duration;

use http::StatusCode;

use crate::cache_control::RequestDirectives;
use crate::cache_status::Reason;
use crate::policy::{Override, Policy};
use crate::storable::{RequestFacts, Terms};
use crate::time::Now;

/// What to do with a request for which a matching stored response is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Answer with it.
    Fresh {
        /// For the `Age` field.
        age: Duration,
        /// How much longer it is fresh.
        ttl: Duration,
    },
    /// Answer with it, and validate it behind the client's back (RFC 5861 §3).
    StaleWhileRevalidate {
        /// For the `Age` field.
        age: Duration,
        /// How long it has been stale.
        stale_for: Duration,
    },
    /// Answer with it, for the client allows it (`max-stale`, RFC 9111 §5.2.1.2).
    StaleAllowed {
        /// For the `Age` field.
        age: Duration,
        /// How long it has been stale.
        stale_for: Duration,
    },
    /// Ask the origin, with the stored validators if there are any (§4.3).
    MustValidate {
        /// Why it may not be used as it is; `None`: it is simply stale.
        why: Option<Reason>,
    },
    /// It may not answer this request, validated or not; forward as if nothing were stored.
    NotAllowed {
        /// Why.
        why: Reason,
    },
}

/// Decides whether the stored response with these `terms` may answer the request (RFC 9111 §4).
///
/// The caller has matched key and `Vary` before and asks `purge.rs` whether the entry still counts. For `only-if-cached` everything
/// but an answer means 504 (§5.2.1.7).
#[must_use]
pub fn decide(terms: &Terms, request: &RequestFacts, policy: &Policy, now: Now) -> Disposition {
    // §3.5 governs storing; we hold to it in reuse as well: what was not said to be for everybody is not for the authorized.
    if request.authorization && !terms.is_for_authorized() {
        return Disposition::NotAllowed { why: Reason::Authorization };
    }
    // §4: no `no-cache` in the stored response, unless it is validated.
    if terms.is_no_cache() {
        return Disposition::MustValidate { why: Some(Reason::NoCache) };
    }
    let wishes = if policy.overrides.ignores(Override::Request) { &NO_WISHES } else { &request.directives };
    // §5.2.1.4, and RFC 8246 §2.1: a `no-cache` is the signal that even an immutable response is to be validated.
    if wishes.no_cache {
        return Disposition::MustValidate { why: Some(Reason::RequestNoCache) };
    }
    let age = terms.current_age(now);
    let lifetime = terms.lifetime();
    if lifetime > age {
        let ttl = lifetime - age;
        if let Some(limit) = wishes.max_age {
            // RFC 8246 §2.1: a reload (`max-age=0`) of a fresh immutable response is answered without validation.
            let too_old = if limit.is_zero() { !terms.is_immutable() } else { age > limit };
            if too_old {
                return Disposition::MustValidate { why: Some(Reason::RequestMaxAge) };
            }
        }
        if wishes.min_fresh.is_some_and(|wanted| ttl < wanted) {
            return Disposition::MustValidate { why: Some(Reason::RequestMinFresh) };
        }
        return Disposition::Fresh { age, ttl };
    }
    let stale_for = age - lifetime;
    // §4.2.4: not where the response forbids it, and not where the client wants something fresher.
    let wants_fresher = wishes.min_fresh.is_some() || wishes.max_age.is_some_and(|limit| age > limit);
    if terms.forbids_stale() || wants_fresher {
        return Disposition::MustValidate { why: None };
    }
    if terms.stale_while_revalidate() > stale_for {
        return Disposition::StaleWhileRevalidate { age, stale_for };
    }
    if wishes.max_stale.is_some_and(|limit| limit >= stale_for) {
        return Disposition::StaleAllowed { age, stale_for };
    }
    Disposition::MustValidate { why: None }
}

const NO_WISHES: RequestDirectives = RequestDirectives {
    max_age: None,
    max_stale: None,
    min_fresh: None,
    stale_if_error: None,
    no_cache: false,
    no_store: false,
    no_transform: false,
    only_if_cached: false,
};

/// How the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFailure {
    /// It was not reached, or broke off, or took too long.
    NoAnswer,
    /// It answered with this status.
    Status(StatusCode),
}

/// What is served in place of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleOnError {
    /// For the `Age` field.
    pub age: Duration,
    /// How long it has been stale; zero if it is fresh and only the request asked for validation.
    pub stale_for: Duration,
}

/// Whether the stored response may stand in for the origin after it failed (RFC 5861 §4, RFC 9111 §4.2.4).
///
/// 500, 502, 503, 504 and no answer at all are failures; other statuses are answers. The window is the longest of what the
/// response (or, where it is silent, the route) and the request allow; a response that forbids stale use has none.
#[must_use]
pub fn on_error(
    terms: &Terms,
    request: &RequestFacts,
    policy: &Policy,
    failure: OriginFailure,
    now: Now,
) -> Option<StaleOnError> {
    if let OriginFailure::Status(status) = failure
        && !matches!(status.as_u16(), 500 | 502 | 503 | 504)
    {
        return None;
    }
    if request.authorization && !terms.is_for_authorized() {
        return None;
    }
    let age = terms.current_age(now);
    let stale_for = age.saturating_sub(terms.lifetime());
    // §5.2.2.2: must-revalidate MUST NOT be ignored, even when disconnected; `no-cache` likewise.
    if terms.is_no_cache() || (terms.forbids_stale() && !terms.is_fresh(now)) {
        return None;
    }
    let wish = request.directives.stale_if_error.filter(|_| !policy.overrides.ignores(Override::Request));
    let window = terms.stale_if_error().max(wish.unwrap_or_default());
    (terms.is_fresh(now) || window > stale_for).then_some(StaleOnError { age, stale_for })
}
