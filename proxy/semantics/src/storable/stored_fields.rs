//! What of a response's header section is stored (RFC 9111 §3.1).

use http::{HeaderMap, HeaderName, header};

use crate::cache_control::CacheControl;
use crate::policy::{Override, Policy};

const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");
pub(super) const SET_COOKIE_FIELDS: [HeaderName; 2] = [header::SET_COOKIE, SET_COOKIE2];

/// Fields of one connection or of one proxy, which are never stored (RFC 9111 §3.1), beside those that `Connection` nominates.
pub const NEVER_STORED: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a server says of the limits of the client that asked (draft-ietf-httpapi-ratelimit-headers-11), and of its session: nobody else's business.
pub const OF_ONE_CLIENT: [HeaderName; 11] = [
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("session-set"),
    HeaderName::from_static("session-unset"),
    HeaderName::from_static("session-control"),
];

/// The header section to store and to reuse: without the fields that RFC 9111 §3.1 excludes, those that `private` or `no-cache`
/// name (§5.2.2.7, §5.2.2.4), what is said of limits, `Age` (it is computed anew), and `Set-Cookie` where an override lets the response be stored without it.
///
/// Whoever receives the response of a fill that is not its own (a waiter, a later request) must be given these, not the received ones.
#[must_use]
pub fn stored_headers(headers: &HeaderMap, policy: &Policy) -> HeaderMap {
    let mut stored = headers.clone();
    for name in nominated_by_connection(headers) {
        stored.remove(&name);
    }
    for name in NEVER_STORED {
        stored.remove(name);
    }
    stored.remove(header::AGE);
    for name in OF_ONE_CLIENT {
        stored.remove(name);
    }
    let cache_control = CacheControl::of_response(headers);
    for name in cache_control.private.fields().iter().chain(cache_control.no_cache.fields()) {
        stored.remove(name);
    }
    if policy.overrides.ignores(Override::SetCookie) && !policy.store_set_cookie {
        for name in SET_COOKIE_FIELDS {
            stored.remove(name);
        }
    }
    stored
}

/// The fields that `Connection` nominates as belonging to this hop (RFC 9110 §7.6.1).
fn nominated_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}
