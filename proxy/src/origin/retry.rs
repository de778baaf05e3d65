//! When to try again: what may be repeated, and how much of it.

use std::sync::atomic::{AtomicI64, Ordering};

use http::Method;

use super::error::OriginFailure;

/// Retries that may be made before any request has paid for them.
const FLOOR: i64 = 3_000;
/// Retries saved up at most, in thousandths.
const SAVINGS_MAX: i64 = 10_000;
const ONE: i64 = 1_000;

/// Lets retries be a share of requests, and no more: an origin that fails must not get twice the requests for it.
#[derive(Debug)]
pub(super) struct Budget {
    saved: AtomicI64,
    share: i64,
}

impl Budget {
    /// `share` from 0.0 to 1.0.
    pub(super) fn new(share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "0 to 1000, clamped")]
        let share = (share.clamp(0.0, 1.0) * 1000.0).round() as i64;
        Self { saved: AtomicI64::new(if share == 0 { 0 } else { FLOOR }), share }
    }

    /// A request pays its part.
    pub(super) fn pay(&self) {
        // Full savings are the ordinary case, and need no write.
        if self.saved.load(Ordering::Relaxed) < SAVINGS_MAX {
            self.saved.fetch_add(self.share, Ordering::Relaxed);
        }
    }

    /// Takes one retry, if there is one.
    pub(super) fn take(&self) -> bool {
        self.saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| (saved >= ONE).then_some(saved - ONE))
            .is_ok()
    }
}

/// Whether a request that may have reached an origin may be sent again (RFC 9110 §9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
        || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// Whether a failure is worth another attempt. `copied`: the request is still at hand although it was sent.
pub(super) const fn may_repeat(failure: OriginFailure, unsent: bool, copied: bool) -> bool {
    match failure {
        // Waiting once more would only make the queue longer.
        OriginFailure::QueueFull | OriginFailure::QueueTimeout => false,
        _ if failure.before_sending() => unsent,
        // Before the first byte of an answer. A time-out is not repeated: the client has waited long enough.
        OriginFailure::Closed => unsent || copied,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = Budget::new(0.1);
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.pay();
            retries += u32::from(budget.take());
        }
        assert_eq!(retries, 103, "three to begin with, then one in ten");
    }

    #[test]
    fn savings_are_bounded() {
        let budget = Budget::new(0.1);
        (0..10_000).for_each(|_| budget.pay());
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
    }

    #[test]
    fn no_share_no_retries() {
        let budget = Budget::new(0.0);
        budget.pay();
        assert!(!budget.take());
    }

    #[test]
    fn what_may_be_repeated() {
        use OriginFailure as F;
        #[rustfmt::skip]
        let cases = [
            // what                                   failure              unsent  copied  again
            ("refused",                               F::Refused,          true,   false,  true),
            ("the name has no address",               F::NameUnknown,      true,   false,  true),
            ("closed before an answer, GET",          F::Closed,           false,  true,   true),
            ("closed before an answer, POST",         F::Closed,           false,  false,  false),
            ("no answer in time",                     F::FirstByteTimeout, false,  true,   false),
            ("not HTTP",                              F::Malformed,        false,  true,   false),
            ("too many wait already",                 F::QueueFull,        true,   true,   false),
            ("the client's content broke off",        F::ContentBroken,    false,  false,  false),
        ];
        for (what, failure, unsent, copied, again) in cases {
            assert_eq!(may_repeat(failure, unsent, copied), again, "{what}");
        }
    }
}
