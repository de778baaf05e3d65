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
