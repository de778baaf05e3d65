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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Overrides;
    use crate::storable::RequestFacts;
    use crate::testing::{decide_at, get, start, stored_at};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn section_4_reuse() {
        use Disposition::{Fresh, MustValidate, NotAllowed, StaleAllowed, StaleWhileRevalidate};
        const PLAIN: Disposition = MustValidate { why: None };
        const fn validate(why: Reason) -> Disposition {
            MustValidate { why: Some(why) }
        }
        #[rustfmt::skip]
        let cases = [
            // what                                              Cache-Control stored                          request                                  after  expected
            ("fresh",                                            "max-age=60",                                 "",                                       20,    Fresh { age: s(20), ttl: s(40) }),
            ("the last second",                                  "max-age=60",                                 "",                                       59,    Fresh { age: s(59), ttl: s(1) }),
            ("as old as its lifetime is stale",                  "max-age=60",                                 "",                                       60,    PLAIN),
            ("no lifetime",                                      "public",                                     "",                                       0,     PLAIN),
            ("within stale-while-revalidate",                    "max-age=60, stale-while-revalidate=10",      "",                                       65,    StaleWhileRevalidate { age: s(65), stale_for: s(5) }),
            ("at its end no more",                               "max-age=60, stale-while-revalidate=10",      "",                                       70,    PLAIN),
            ("not with must-revalidate",                         "max-age=60, stale-while-revalidate=10, must-revalidate", "",                           65,    PLAIN),
            ("no-cache",                                         "max-age=60, no-cache",                       "",                                       0,     validate(Reason::NoCache)),
            ("a request's no-cache",                             "max-age=60",                                 "cache-control: no-cache",                0,     validate(Reason::RequestNoCache)),
            ("Pragma: no-cache",                                 "max-age=60",                                 "pragma: no-cache",                       0,     validate(Reason::RequestNoCache)),
            ("a request's max-age",                              "max-age=60",                                 "cache-control: max-age=10",              11,    validate(Reason::RequestMaxAge)),
            ("met",                                              "max-age=60",                                 "cache-control: max-age=10",              10,    Fresh { age: s(10), ttl: s(50) }),
            ("a reload",                                         "max-age=60",                                 "cache-control: max-age=0",               0,     validate(Reason::RequestMaxAge)),
            ("a reload of an immutable response",                "max-age=60, immutable",                      "cache-control: max-age=0",               20,    Fresh { age: s(20), ttl: s(40) }),
            ("once it is stale it is validated",                 "max-age=60, immutable",                      "cache-control: max-age=0",               60,    PLAIN),
            ("a forced reload of an immutable response",         "max-age=60, immutable",                      "cache-control: no-cache",                20,    validate(Reason::RequestNoCache)),
            ("an age limit on an immutable response",            "max-age=60, immutable",                      "cache-control: max-age=10",              20,    validate(Reason::RequestMaxAge)),
            ("min-fresh not met",                                "max-age=60",                                 "cache-control: min-fresh=41",            20,    validate(Reason::RequestMinFresh)),
            ("min-fresh met",                                    "max-age=60",                                 "cache-control: min-fresh=40",            20,    Fresh { age: s(20), ttl: s(40) }),
            ("max-stale",                                        "max-age=60",                                 "cache-control: max-stale=10",            70,    StaleAllowed { age: s(70), stale_for: s(10) }),
            ("max-stale exceeded",                               "max-age=60",                                 "cache-control: max-stale=10",            71,    PLAIN),
            ("max-stale without a limit",                        "max-age=60",                                 "cache-control: max-stale",               9999,  StaleAllowed { age: s(9999), stale_for: s(9939) }),
            ("max-stale against must-revalidate",                "max-age=60, must-revalidate",                "cache-control: max-stale",               61,    PLAIN),
            ("max-stale against proxy-revalidate",               "max-age=60, proxy-revalidate",               "cache-control: max-stale",               61,    PLAIN),
            ("max-stale against s-maxage",                       "s-maxage=60",                                "cache-control: max-stale",               61,    PLAIN),
            ("max-stale with a max-age that is exceeded",        "max-age=60",                                 "cache-control: max-stale, max-age=10",   61,    PLAIN),
            ("a wish for freshness beats stale-while-revalidate", "max-age=60, stale-while-revalidate=10",     "cache-control: max-age=0",               61,    PLAIN),
            ("no-store in the request hinders no answer",        "max-age=60",                                 "cache-control: no-store",                0,     Fresh { age: s(0), ttl: s(60) }),
            ("Authorization, and it is not for everybody",       "max-age=60",                                 "authorization: x",                       0,     NotAllowed { why: Reason::Authorization }),
            ("Authorization, and it is public",                  "max-age=60, public",                         "authorization: x",                       0,     Fresh { age: s(0), ttl: s(60) }),
            ("Authorization, and it must be revalidated",        "max-age=60, must-revalidate",                "authorization: x",                       0,     Fresh { age: s(0), ttl: s(60) }),
        ];
        for (what, stored, request, after, expected) in cases {
            let now = start();
            let terms = stored_at(now, &format!("cache-control: {stored} | etag: \"a\""));
            let found = decide(&terms, &get(request), &Policy::default(), now.after(s(after)));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn one_fetched_without_cookies_answers_requests_with_them() {
        let now = start();
        let terms = stored_at(now, "cache-control: max-age=60");
        let request = RequestFacts { undeclared_cookies: true, ..get("cookie: a=b") };
        let found = decide(&terms, &request, &Policy::default(), now);
        assert_eq!(found, Disposition::Fresh { age: s(0), ttl: s(60) });
    }

    #[test]
    fn a_route_may_be_deaf_to_wishes() {
        let now = start();
        let deaf = Policy { overrides: Overrides::default().with(Override::Request), ..Policy::default() };
        let terms = stored_at(now, "cache-control: max-age=60 | etag: \"a\"");
        for wish in ["no-cache", "max-age=0", "min-fresh=99"] {
            let request = get(&format!("cache-control: {wish}"));
            assert_eq!(
                decide(&terms, &request, &deaf, now),
                Disposition::Fresh { age: s(0), ttl: s(60) },
                "{wish}"
            );
        }
        let stale = now.after(s(61));
        let request = get("cache-control: max-stale, stale-if-error=60");
        assert_eq!(decide(&terms, &request, &deaf, stale), Disposition::MustValidate { why: None });
        assert_eq!(on_error(&terms, &request, &deaf, OriginFailure::NoAnswer, stale), None);
    }

    #[test]
    fn an_expired_response_is_stale_and_an_invalidated_one_useless_without_validation() {
        let now = start();
        let terms = stored_at(
            now,
            "cache-control: max-age=60, stale-while-revalidate=10, stale-if-error=10 | etag: \"a\"",
        );
        let later = now.after(s(20));
        let expired = terms.expired(later);
        assert_eq!(
            decide(&expired, &get(""), &Policy::default(), later),
            Disposition::StaleWhileRevalidate { age: s(20), stale_for: s(0) }
        );
        assert!(on_error(&expired, &get(""), &Policy::default(), OriginFailure::NoAnswer, later).is_some());
        let invalidated = terms.invalidated();
        assert_eq!(
            decide(&invalidated, &get("cache-control: max-stale"), &Policy::default(), later),
            Disposition::MustValidate { why: Some(Reason::NoCache) }
        );
        assert_eq!(
            on_error(&invalidated, &get(""), &Policy::default(), OriginFailure::NoAnswer, later),
            None
        );
    }

    #[test]
    fn rfc_5861_section_4_stale_if_error() {
        const SERVED: bool = true;
        let dead = OriginFailure::NoAnswer;
        let status = |code| OriginFailure::Status(StatusCode::from_u16(code).unwrap());
        let route = Policy { stale_if_error: Some(s(10)), ..Policy::default() };
        let none = Policy::default();
        #[rustfmt::skip]
        let cases = [
            // what                                             Cache-Control stored                     request                             policy   failure       after  served
            ("the response allows it",                          "max-age=60, stale-if-error=10",         "",                                 &none,   dead,         65,    SERVED),
            ("for so long",                                     "max-age=60, stale-if-error=10",         "",                                 &none,   dead,         70,    false),
            ("500",                                             "max-age=60, stale-if-error=10",         "",                                 &none,   status(500),  65,    SERVED),
            ("502",                                             "max-age=60, stale-if-error=10",         "",                                 &none,   status(502),  65,    SERVED),
            ("503",                                             "max-age=60, stale-if-error=10",         "",                                 &none,   status(503),  65,    SERVED),
            ("504",                                             "max-age=60, stale-if-error=10",         "",                                 &none,   status(504),  65,    SERVED),
            ("501 is an answer",                                "max-age=60, stale-if-error=10",         "",                                 &none,   status(501),  65,    false),
            ("404 is an answer",                                "max-age=60, stale-if-error=10",         "",                                 &none,   status(404),  65,    false),
            ("nobody allows it",                                "max-age=60",                            "",                                 &none,   dead,         65,    false),
            ("the request allows it",                           "max-age=60",                            "cache-control: stale-if-error=10", &none,   dead,         65,    SERVED),
            ("the route allows it",                             "max-age=60",                            "",                                 &route,  dead,         65,    SERVED),
            ("not against must-revalidate",                     "max-age=60, must-revalidate",           "cache-control: stale-if-error=10", &route,  dead,         65,    false),
            ("nor proxy-revalidate",                            "max-age=60, proxy-revalidate",          "cache-control: stale-if-error=10", &route,  dead,         65,    false),
            ("nor s-maxage",                                    "s-maxage=60",                           "cache-control: stale-if-error=10", &route,  dead,         65,    false),
            ("nor no-cache, even while it is fresh",            "max-age=60, no-cache",                  "cache-control: stale-if-error=10", &route,  dead,         5,     false),
            ("a fresh one that was only to be validated",       "max-age=60, must-revalidate",           "cache-control: no-cache",          &none,   dead,         5,     SERVED),
            ("not for the authorized unless it says so",        "max-age=60, stale-if-error=10",         "authorization: x",                 &none,   dead,         65,    false),
        ];
        for (what, stored, request, policy, failure, after, served) in cases {
            let now = start();
            let response = format!("cache-control: {stored} | etag: \"a\"");
            let terms = decide_at(now, &get(""), 200, &response, policy).unwrap();
            let found = on_error(&terms, &get(request), policy, failure, now.after(s(after)));
            let expected =
                served.then(|| StaleOnError { age: s(after), stale_for: s(after.saturating_sub(60)) });
            assert_eq!(found, expected, "{what}");
        }
    }
}
