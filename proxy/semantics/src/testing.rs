//! What the tests of several modules share: a moment, header sections in a line, exchanges.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::invalidation::Target;
use crate::policy::Policy;
use crate::storable::{self, Exchange, NotStorable, RequestFacts, Terms};
use crate::time::{Now, http_date};

/// The start of 2026 on the wall, any instant on the monotonic clock.
pub(crate) fn start() -> Now {
    Now { wall: UNIX_EPOCH + Duration::from_secs(1_767_225_600), mono: Instant::now() }
}

/// A header section written as `name: value | name: value`. `@-60` and `@+60` in a value are dates, that far from [`start`]'s wall clock.
pub(crate) fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(" | ").filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim();
        let value = match value.strip_prefix('@').and_then(|offset| offset.parse().ok()) {
            Some(offset) => http_date(at(offset)),
            None => HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        };
        headers.append(HeaderName::from_bytes(name.trim().as_bytes()).unwrap(), value);
    }
    headers
}

/// That many seconds after [`start`]'s wall clock.
pub(crate) fn at(offset: i64) -> SystemTime {
    let start = start().wall;
    let distance = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { start - distance } else { start + distance }
}

/// The facts of a GET request with these header fields.
pub(crate) fn get(request: &str) -> RequestFacts {
    RequestFacts::of(&Method::GET, &headers(request), false)
}

pub(crate) const TARGET: Target<'static> =
    Target { scheme: "https", authority: "example.com", path_and_query: "/a/b?c=d" };

/// Decides about a response to `request` that took no time and arrived at `now`.
pub(crate) fn decide_at(
    now: Now,
    request: &RequestFacts,
    status: u16,
    response: &str,
    policy: &Policy,
) -> Result<Terms, NotStorable> {
    let exchange = Exchange {
        request,
        target: TARGET,
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers(response),
        requested: now,
        received: now,
    };
    storable::decide(&exchange, policy)
}

/// The terms of a 200 to a plain GET that arrived at `now`, under the default policy.
pub(crate) fn stored_at(now: Now, response: &str) -> Terms {
    decide_at(now, &get(""), 200, response, &Policy::default()).unwrap()
}
