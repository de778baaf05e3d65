//! How long a response is fresh and how old it is (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use crate::cache_control::{CacheControl, Field};
use crate::policy::{Override, Policy};
use crate::time::{Now, parse_delta_seconds, parse_http_date};

/// What a lifetime rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// `s-maxage`, or `max-age` of a targeted field.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// The route's `ttl`.
    Policy,
    /// A share of the time since `Last-Modified` (§4.2.2).
    Heuristic,
    /// Nothing: the response is stale from the start and must be validated before each use.
    None,
}

impl LifetimeSource {
    /// Whether the origin gave the lifetime itself.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self, LifetimeSource::SMaxage | LifetimeSource::MaxAge | LifetimeSource::Expires)
    }
}

/// The lifetime the origin gives, counted from the response's generation (§4.2.1). `None`: it says nothing, so the route or a heuristic may.
#[must_use]
pub fn explicit_lifetime(
    cache_control: &CacheControl,
    headers: &HeaderMap,
    received: SystemTime,
) -> Option<(Duration, LifetimeSource)> {
    // RFC 9111 §4.2.1: s-maxage if the cache is shared, else max-age, else Expires minus Date.
    if let Some(lifetime) = cache_control.s_maxage {
        return Some((lifetime, LifetimeSource::SMaxage));
    }
    if let Some(lifetime) = cache_control.max_age {
        let source = match cache_control.field {
            Field::Targeted => LifetimeSource::SMaxage,
            Field::CacheControl | Field::None => LifetimeSource::MaxAge,
        };
        return Some((lifetime, source));
    }
    // RFC 9213 §2.2: with a targeted field, Expires is ignored.
    if cache_control.field == Field::Targeted {
        return None;
    }
    let generated = date(headers).unwrap_or(received);
    headers
        .get_all(header::EXPIRES)
        .iter()
        // RFC 9111 §5.3: an invalid date, especially `0`, is a time in the past.
        .map(|line| {
            parse_http_date(line).and_then(|at| at.duration_since(generated).ok()).unwrap_or_default()
        })
        .min()
        .map(|lifetime| (lifetime, LifetimeSource::Expires))
}

/// The lifetime of a response for this cache: the origin's, else the route's, else the heuristic's (§4.2.1, §4.2.2).
///
/// `undeclared_cookies`: the request carried cookies that the route does not declare; then the route's `ttl` does not apply.
#[must_use]
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    cache_control: &CacheControl,
    policy: &Policy,
    undeclared_cookies: bool,
    received: SystemTime,
) -> (Duration, LifetimeSource) {
    let explicit = explicit_lifetime(cache_control, headers, received);
    let route = policy.ttl.filter(|_| !undeclared_cookies);
    if let (true, Some(ttl)) = (policy.overrides.ignores(Override::MaxAge), route) {
        return (cap_error(status, ttl, policy), LifetimeSource::Policy);
    }
    if let Some(explicit) = explicit {
        return explicit;
    }
    // RFC 9111 §4.2.2: heuristics only for statuses defined as heuristically cacheable, or where the response says `public`.
    if !(is_heuristically_cacheable(status) || cache_control.public) {
        return (Duration::ZERO, LifetimeSource::None);
    }
    if let Some(ttl) = route {
        return (cap_error(status, ttl, policy), LifetimeSource::Policy);
    }
    let modified = headers.get(header::LAST_MODIFIED).and_then(parse_http_date);
    let generated = date(headers).unwrap_or(received);
    let Some(unchanged_for) = modified.and_then(|modified| generated.duration_since(modified).ok()) else {
        return (Duration::ZERO, LifetimeSource::None);
    };
    let share = Duration::from_secs(unchanged_for.as_secs() / 100 * u64::from(policy.heuristic_percent))
        + Duration::from_secs(unchanged_for.as_secs() % 100 * u64::from(policy.heuristic_percent) / 100);
    let lifetime = cap_error(status, share.min(policy.heuristic_max), policy);
    if lifetime.is_zero() {
        return (lifetime, LifetimeSource::None);
    }
    (lifetime, LifetimeSource::Heuristic)
}

fn cap_error(status: StatusCode, lifetime: Duration, policy: &Policy) -> Duration {
    let is_error = status.is_client_error() || status.is_server_error() || status.as_u16() >= 600;
    if is_error { lifetime.min(policy.error_ttl_max) } else { lifetime }
}

/// Whether RFC 9110 §15.1 (and RFC 7725 §3 for 451) defines the status as heuristically cacheable.
#[must_use]
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501)
}

/// When the origin generated the response, as it says itself. An invalid or repeated `Date` is as good as absent.
#[must_use]
pub fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let mut lines = headers.get_all(header::DATE).iter();
    let date = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse_http_date(date)
}

/// The value of `Age`: its first member; an invalid one is as good as absent (RFC 9111 §5.1).
#[must_use]
pub fn age_value(headers: &HeaderMap) -> Option<Duration> {
    let line = headers.get(header::AGE)?.as_bytes();
    let first = line.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    parse_delta_seconds(first).map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// How old the response was when it had arrived: `corrected_initial_age` of §4.2.3.
///
/// `Date` has whole seconds, so the apparent age is counted in whole seconds too: else a response with `max-age=1` would lose
/// up to all of its life to the rounding of its date.
#[must_use]
pub fn corrected_initial_age(headers: &HeaderMap, requested: Now, received: Now) -> Duration {
    let apparent_age = date(headers)
        .and_then(|date| received.wall.duration_since(date).ok())
        .map_or(Duration::ZERO, |apparent| Duration::from_secs(apparent.as_secs()));
    let response_delay = received.since(requested);
    let corrected_age_value = age_value(headers).unwrap_or_default().saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Overrides;
    use crate::testing::{headers, start, stored_at};

    fn lifetime_of(
        status: u16,
        response: &str,
        policy: &Policy,
        cookies: bool,
    ) -> (Duration, LifetimeSource) {
        let headers = headers(response);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(status, &headers, &CacheControl::of_response(&headers), policy, cookies, start().wall)
    }

    #[test]
    fn section_4_2_1_freshness_lifetime() {
        use LifetimeSource::{Expires, MaxAge, None, SMaxage};
        #[rustfmt::skip]
        let cases = [
            // what                                        response                                                                    s     source
            ("s-maxage beats max-age",                     "cache-control: max-age=10, s-maxage=60",                                   60,   SMaxage),
            ("even if it is shorter",                      "cache-control: max-age=60, s-maxage=10",                                   10,   SMaxage),
            ("max-age beats Expires",                      "cache-control: max-age=10 | date: @+0 | expires: @+99",                    10,   MaxAge),
            ("and a past or invalid one",                  "cache-control: max-age=10 | expires: 0",                                   10,   MaxAge),
            ("Expires counts from Date",                   "date: @+10 | expires: @+109",                                              99,   Expires),
            ("without Date from receipt",                  "expires: @+10",                                                            10,   Expires),
            ("an invalid Date is none",                    "date: foo | expires: @+10",                                                10,   Expires),
            ("a repeated Date is none",                    "date: @-90 | date: @-50 | expires: @+10",                                  10,   Expires),
            ("Expires at Date is stale",                   "date: @+0 | expires: @+0",                                                 0,    Expires),
            ("Expires before Date is stale",               "date: @+400 | expires: @+300",                                             0,    Expires),
            ("an invalid Expires is stale",                "date: @+0 | expires: 0",                                                   0,    Expires),
            ("of two Expires the earlier",                 "date: @+0 | expires: @+90 | expires: @+10",                                10,   Expires),
            ("an invalid one among them is stale",         "date: @+0 | expires: @+90 | expires: soon",                                0,    Expires),
            ("a targeted field replaces Expires",          "cdn-cache-control: public | date: @+0 | expires: @+90",                    0,    None),
            ("its max-age is as good as s-maxage",         "cdn-cache-control: max-age=7 | cache-control: s-maxage=60",                7,    SMaxage),
            ("nothing said, nothing invented",             "cache-control: public",                                                    0,    None),
        ];
        for (what, response, seconds, source) in cases {
            let found = lifetime_of(200, response, &Policy::default(), false);
            assert_eq!(found, (Duration::from_secs(seconds), source), "{what}");
        }
    }

    #[test]
    fn section_4_2_2_heuristic_lifetime() {
        use LifetimeSource::{Heuristic, None};
        const DAY: u64 = 24 * 60 * 60;
        #[rustfmt::skip]
        let cases = [
            // what                                        status  response                                                       s      source
            ("a tenth of the time since Last-Modified",    200,    "date: @+0 | last-modified: @-3600",                            360,   Heuristic),
            ("no more than a day",                         200,    "date: @+0 | last-modified: @-99999999",                        DAY,   Heuristic),
            ("from receipt where there is no Date",        200,    "last-modified: @-1000",                                        100,   Heuristic),
            ("none where Last-Modified lies ahead",        200,    "date: @+0 | last-modified: @+60",                              0,     None),
            ("none where it is invalid",                   200,    "date: @+0 | last-modified: yesterday",                         0,     None),
            ("none where a tenth is no second",            200,    "date: @+0 | last-modified: @-9",                               0,     None),
            ("203 too",                                    203,    "date: @+0 | last-modified: @-3600",                            360,   Heuristic),
            ("204 too",                                    204,    "date: @+0 | last-modified: @-3600",                            360,   Heuristic),
            ("301 and 308 too",                            308,    "date: @+0 | last-modified: @-3600",                            360,   Heuristic),
            ("not 201",                                    201,    "date: @+0 | last-modified: @-3600",                            0,     None),
            ("not 302",                                    302,    "date: @+0 | last-modified: @-3600",                            0,     None),
            ("not 403",                                    403,    "date: @+0 | last-modified: @-3600",                            0,     None),
            ("not 503",                                    503,    "date: @+0 | last-modified: @-3600",                            0,     None),
            ("not a status not known",                     599,    "date: @+0 | last-modified: @-3600",                            0,     None),
            ("unless it says public",                      599,    "date: @+0 | last-modified: @-3600 | cache-control: public",    10,    Heuristic),
            ("an error no longer than ten seconds",        404,    "date: @+0 | last-modified: @-3600",                            10,    Heuristic),
            ("nor 501",                                    501,    "date: @+0 | last-modified: @-3600",                            10,    Heuristic),
        ];
        for (what, status, response, seconds, source) in cases {
            let found = lifetime_of(status, response, &Policy::default(), false);
            assert_eq!(found, (Duration::from_secs(seconds), source), "{what}");
        }
        let off = Policy { heuristic_percent: 0, ..Policy::default() };
        assert_eq!(lifetime_of(200, "last-modified: @-3600", &off, false), (Duration::ZERO, None));
    }

    #[test]
    fn a_route_fills_in_where_the_origin_is_silent() {
        use LifetimeSource::{Heuristic, MaxAge, None, Policy as Route};
        let route = Policy { ttl: Some(Duration::from_secs(60)), ..Policy::default() };
        let forced =
            Policy { overrides: [Override::MaxAge].into_iter().collect::<Overrides>(), ..route.clone() };
        #[rustfmt::skip]
        let cases = [
            // what                                     policy   status  response                              cookies  s    source
            ("a silent response",                       &route,  200,    "",                                   false,   60,  Route),
            ("instead of the heuristic",                &route,  200,    "last-modified: @-3600",              false,   60,  Route),
            ("not with undeclared cookies",             &route,  200,    "",                                   true,    0,   None),
            ("then the heuristic is asked",             &route,  200,    "last-modified: @-3600",              true,    360, Heuristic),
            ("not against the origin's word",           &route,  200,    "cache-control: max-age=5",           false,   5,   MaxAge),
            ("unless told to",                          &forced, 200,    "cache-control: max-age=5",           false,   60,  Route),
            ("even then not with undeclared cookies",   &forced, 200,    "cache-control: max-age=5",           true,    5,   MaxAge),
            ("an error no longer than its limit",       &route,  404,    "",                                   false,   10,  Route),
            ("not statuses that are never heuristic",   &route,  302,    "",                                   false,   0,   None),
        ];
        for (what, policy, status, response, cookies, seconds, source) in cases {
            let found = lifetime_of(status, response, policy, cookies);
            assert_eq!(found, (Duration::from_secs(seconds), source), "{what}");
        }
    }

    #[test]
    fn section_5_1_age() {
        #[rustfmt::skip]
        let cases = [
            // what                          response                  s
            ("a number",                     "age: 7200",              Some(7200)),
            ("the first member counts",      "age: 7200, 0",           Some(7200)),
            ("whichever is larger",          "age: 0,7200",            Some(0)),
            ("the first line counts",        "age: 0 | age: 7200",     Some(0)),
            ("letters are ignored",          "age: abc",               None),
            ("a sign is ignored",            "age: -7200",             None),
            ("a fraction is ignored",        "age: 7200.0",            None),
            ("parameters are ignored",       "age: 7200;foo=bar",      None),
            ("an invalid first is ignored",  "age: x, 7200",           None),
            ("absent",                       "",                       None),
        ];
        for (what, response, seconds) in cases {
            assert_eq!(age_value(&headers(response)), seconds.map(Duration::from_secs), "{what}");
        }
    }

    #[test]
    fn section_4_2_3_initial_age() {
        #[rustfmt::skip]
        let cases = [
            // what                                              response                   delay  s
            ("young",                                            "date: @+0",               0,     0),
            ("by its Date",                                      "date: @-7200",            0,     7200),
            ("by its Age",                                       "date: @+0 | age: 30",     0,     30),
            ("the larger of both",                               "date: @-10 | age: 25",    0,     25),
            ("a Date that lies ahead is no negative age",        "date: @+999 | age: 25",   0,     25),
            ("the delay counts on top of Age",                   "age: 25",                 3,     28),
            ("the delay counts without Age",                     "",                        3,     3),
        ];
        for (what, response, delay, seconds) in cases {
            let received = start();
            let requested = Now {
                wall: received.wall,
                mono: received.mono.checked_sub(Duration::from_secs(delay)).unwrap(),
            };
            let age = corrected_initial_age(&headers(response), requested, received);
            assert_eq!(age, Duration::from_secs(seconds), "{what}");
        }
        let mut received = start();
        received.wall += Duration::from_millis(900);
        let age = corrected_initial_age(&headers("date: @+0"), received, received);
        assert_eq!(age, Duration::ZERO, "the rounding of Date is no age");
    }

    proptest! {
        #[test]
        fn age_never_falls_and_never_panics(
            age in any::<u64>(), lifetime in any::<u32>(), wall_steps in proptest::collection::vec(any::<i32>(), 1..8),
        ) {
            let mut now = start();
            let stored = stored_at(now, &format!("cache-control: max-age={lifetime} | age: {age} | etag: \"x\""));
            let mut before = stored.current_age(now);
            for step in wall_steps {
                // The wall clock jumps as it likes; the monotonic one goes on.
                let distance = Duration::from_secs(u64::from(step.unsigned_abs()));
                now.wall = if step < 0 { now.wall.checked_sub(distance) } else { now.wall.checked_add(distance) }.unwrap_or(now.wall);
                now.mono += Duration::from_millis(700);
                let current = stored.current_age(now);
                prop_assert!(current > before);
                prop_assert_eq!(stored.is_fresh(now), stored.lifetime() > current);
                before = current;
            }
        }
    }
}
