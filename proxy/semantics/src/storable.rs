//! May this response be stored, and on what terms? (RFC 9111 §3)
//!
//! Everything that can be derived when a response is stored is derived here, into [`Terms`]: a look-up computes an age, compares,
//! and is done. What is stored of the header section is [`stored_headers`]'s to say.

mod stored_fields;
mod terms;

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use self::stored_fields::SET_COOKIE_FIELDS;
pub use self::stored_fields::{NEVER_STORED, OF_ONE_CLIENT, stored_headers};
use self::terms::nanos;
pub use self::terms::{Terms, TermsAtRest};
use crate::cache_control::{CacheControl, RequestDirectives};
use crate::cache_status::Reason;
use crate::freshness::{self, LifetimeSource};
use crate::invalidation::Target;
use crate::policy::{Override, Policy};
use crate::range::ContentRange;
use crate::time::{Now, to_millis};
use crate::vary::VaryRule;

/// What the cache knows of a method (RFC 9110 §9.2, RFC 9111 §3, §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodClass {
    /// Looked up, filled, stored.
    Get,
    /// Looked up; answered from a stored GET response without its body.
    Head,
    /// Looked up, filled and stored by its content, which is part of the key: QUERY (RFC 10008), or POST, where the operator lets it be. Never said of a
    /// method alone: whoever has put the content into the key says so.
    Content,
    /// Written through; its response may be stored for later GETs if it says so (RFC 9110 §9.3.3). Invalidates.
    Post,
    /// Safe, but not looked up: `OPTIONS`, `TRACE` and kin.
    OtherSafe,
    /// Written through; invalidates. Every method that is not known to be safe is one of these.
    Unsafe,
}

impl MethodClass {
    /// The class of `method`.
    #[must_use]
    pub fn of(method: &Method) -> MethodClass {
        match *method {
            Method::GET => MethodClass::Get,
            Method::HEAD => MethodClass::Head,
            Method::POST => MethodClass::Post,
            Method::OPTIONS | Method::TRACE => MethodClass::OtherSafe,
            _ if matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY") => {
                MethodClass::OtherSafe
            }
            _ => MethodClass::Unsafe,
        }
    }

    /// Whether a stored response may answer such a request.
    #[must_use]
    pub fn is_looked_up(self) -> bool {
        matches!(self, MethodClass::Get | MethodClass::Head | MethodClass::Content)
    }

    /// Whether a successful answer makes stored responses stale (RFC 9111 §4.4).
    #[must_use]
    pub fn invalidates(self) -> bool {
        matches!(self, MethodClass::Post | MethodClass::Unsafe)
    }
}

/// What the decisions need to know of the presented request, gathered once when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// What the cache knows of its method.
    pub method: MethodClass,
    /// It carries `Authorization`.
    pub authorization: bool,
    /// It carries cookies that the route does not declare (and has not removed from what a fill forwards).
    pub undeclared_cookies: bool,
    /// It carries `Range`, and its method gives that a meaning.
    pub range: bool,
    /// It carries a precondition that [`crate::validation::evaluate`] would look at.
    pub conditional: bool,
    /// Its `Cache-Control` or `Pragma`.
    pub directives: RequestDirectives,
}

impl RequestFacts {
    /// Gathers the facts, in one pass over the fields. `undeclared_cookies`: the origin sees cookies that are not in the key, so that its answer may be personal.
    #[must_use]
    pub fn of(method: &Method, headers: &HeaderMap, undeclared_cookies: bool) -> RequestFacts {
        let mut facts = RequestFacts {
            method: MethodClass::of(method),
            authorization: false,
            undeclared_cookies,
            range: false,
            conditional: false,
            directives: RequestDirectives::default(),
        };
        let mut has_directives = false;
        for name in headers.keys() {
            // Told apart by length first: a look-up by name for each of nine would cost three times as much.
            match name.as_str().len() {
                5 => facts.range |= name == header::RANGE,
                6 => has_directives |= name == header::PRAGMA,
                8 => facts.conditional |= name == header::IF_MATCH,
                13 => match name.as_str() {
                    "authorization" => facts.authorization = true,
                    "cache-control" => has_directives = true,
                    "if-none-match" => facts.conditional = true,
                    _ => {}
                },
                17 => facts.conditional |= name == header::IF_MODIFIED_SINCE,
                19 => facts.conditional |= name == header::IF_UNMODIFIED_SINCE,
                _ => {}
            }
        }
        // RFC 9110 §14.2: a server MUST ignore a Range header field received with a method that is unrecognized or for which
        // range handling is not defined; GET is the only one.
        facts.range &= facts.method == MethodClass::Get;
        if has_directives {
            facts.directives = RequestDirectives::of(headers);
        }
        facts
    }
}

/// A request that went to the origin, and the head of the final response to it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The request.
    pub request: &'a RequestFacts,
    /// What it was for: a POST's response is stored only if it says that it is a representation of this.
    pub target: Target<'a>,
    /// The status of the response.
    pub status: StatusCode,
    /// The header section of the response as received.
    pub headers: &'a HeaderMap,
    /// When the request was sent to the origin.
    pub requested: Now,
    /// When the head of the response had arrived.
    pub received: Now,
}

/// The response is not stored, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not stored: {0}")]
pub struct NotStorable(pub Reason);

/// Whether the response may be stored by this shared cache, and on what terms (RFC 9111 §3, §3.5 and the route's policy).
///
/// The strictest reading counts: of repeated directives, of conflicting ones, of what is not said. Overrides apply only in so many words.
/// A response that could never be reused (no lifetime left, no window, no validator) is not stored either.
pub fn decide(exchange: &Exchange<'_>, policy: &Policy) -> Result<Terms, NotStorable> {
    let Exchange { request, status, headers, .. } = *exchange;
    let cache_control = CacheControl::of_response(headers);
    let overrides = policy.overrides;
    let refuse = |reason| Err(NotStorable(reason));

    // RFC 9111 §3: the request method is understood by the cache.
    match request.method {
        MethodClass::Get | MethodClass::Content => {}
        MethodClass::Post if is_post_storable(exchange, &cache_control) => {}
        MethodClass::Head | MethodClass::Post | MethodClass::OtherSafe | MethodClass::Unsafe => {
            return refuse(Reason::Method);
        }
    }
    // §3: the response status code is final; 206 is understood here, 304 is `validation`'s business.
    if !is_status_storable(status) {
        return refuse(Reason::Status);
    }
    // §3, §5.2.2.3: where `must-understand` is present, the status is understood; then `no-store` does not count.
    if cache_control.must_understand && !is_status_understood(status) {
        return refuse(Reason::MustUnderstand);
    }
    if cache_control.no_store && !cache_control.must_understand && !overrides.ignores(Override::NoStore) {
        return refuse(Reason::NoStore);
    }
    // §5.2.1.5: nothing of a request with `no-store`, and of no response to it.
    if request.directives.no_store {
        return refuse(Reason::RequestNoStore);
    }
    // §3: if the cache is shared, `private` is not present. A qualified one only removes the fields it names.
    if cache_control.private.is_whole() && !overrides.ignores(Override::Private) {
        return refuse(Reason::Private);
    }
    // §3.5: with Authorization, only if the response says must-revalidate, public or s-maxage.
    let for_authorized = overrides.ignores(Override::Authorization)
        || cache_control.is_explicitly_shared()
        || cache_control.must_revalidate;
    if request.authorization && !for_authorized {
        return refuse(Reason::Authorization);
    }
    let vary = VaryRule::under(policy, headers);
    // Not of the RFC: an answer to a request with cookies may be personal even where the origin forgot to say so (§7.3 warns of it).
    let undeclared_cookies = request.undeclared_cookies && !overrides.ignores(Override::Cookie);
    if undeclared_cookies && !cache_control.is_explicitly_shared() && !vary.nominates(&header::COOKIE) {
        return refuse(Reason::Cookie);
    }
    // §7.3 again: Set-Cookie does not inhibit caching by the RFC, but sharing it hands one user's session to another.
    let sets_cookie = SET_COOKIE_FIELDS.iter().any(|name| {
        headers.contains_key(name)
            && !cache_control.private.fields().contains(name)
            && !cache_control.no_cache.fields().contains(name)
    });
    if sets_cookie && !policy.store_set_cookie && !overrides.ignores(Override::SetCookie) {
        return refuse(Reason::SetCookie);
    }
    // §4.1: a stored response with `Vary: *` always fails to match.
    if vary.is_star() {
        return refuse(Reason::VaryStar);
    }
    // §3.3: a part is stored only as the part that it is.
    let partial = status == StatusCode::PARTIAL_CONTENT;
    if partial && ContentRange::of(headers).is_none() {
        return refuse(Reason::BadPart);
    }

    let received = exchange.received;
    let (lifetime, source) =
        freshness::lifetime(status, headers, &cache_control, policy, undeclared_cookies, received.wall);
    // §3: a status that is not heuristically cacheable needs an explicit lifetime or `public`.
    if source == LifetimeSource::None
        && !freshness::is_heuristically_cacheable(status)
        && !cache_control.public
    {
        return refuse(Reason::NoFreshness);
    }
    let no_cache = cache_control.no_cache.is_whole() && !overrides.ignores(Override::NoCache);
    let stale_forbidden =
        no_cache || (cache_control.forbids_stale() && !overrides.ignores(Override::MustRevalidate));
    let window = |explicit: Option<Duration>, default: Option<Duration>| {
        // Where the origin speaks of staleness at all, what it leaves out is a no.
        let silent = cache_control.stale_while_revalidate.is_none() && cache_control.stale_if_error.is_none();
        if stale_forbidden { None } else { explicit.or(default.filter(|_| silent)) }.unwrap_or_default()
    };
    let validatable = has_validator(headers);
    let initial_age = freshness::corrected_initial_age(headers, exchange.requested, received);
    let terms = Terms {
        received: received.mono,
        received_wall_ms: to_millis(received.wall),
        initial_age: nanos(initial_age),
        lifetime: nanos(lifetime),
        stale_while_revalidate: nanos(window(
            cache_control.stale_while_revalidate,
            policy.stale_while_revalidate,
        )),
        stale_if_error: nanos(window(cache_control.stale_if_error, policy.stale_if_error)),
        flags: flag(no_cache, Terms::NO_CACHE)
            | flag(stale_forbidden, Terms::STALE_FORBIDDEN)
            | flag(cache_control.immutable, Terms::IMMUTABLE)
            | flag(for_authorized, Terms::FOR_AUTHORIZED)
            | flag(partial, Terms::PARTIAL)
            | flag(validatable, Terms::VALIDATABLE),
        source,
    };
    let has_window = terms.stale_while_revalidate > 0 || terms.stale_if_error > 0;
    if !validatable && no_cache {
        return refuse(Reason::NoCache);
    }
    if !validatable && terms.lifetime <= terms.initial_age && !has_window {
        return refuse(if lifetime.is_zero() { Reason::NoFreshness } else { Reason::ArrivedStale });
    }
    Ok(terms)
}

/// RFC 9110 §9.3.3: a response to POST is cacheable when it has explicit freshness and a `Content-Location` with the value of the
/// target URI; it then answers later GETs.
fn is_post_storable(exchange: &Exchange<'_>, cache_control: &CacheControl) -> bool {
    let explicit =
        freshness::explicit_lifetime(cache_control, exchange.headers, exchange.received.wall).is_some();
    let mut locations = exchange.headers.get_all(header::CONTENT_LOCATION).iter();
    let (Some(location), None) = (locations.next(), locations.next()) else {
        return false;
    };
    explicit
        && exchange.status == StatusCode::OK
        && location
            .to_str()
            .ok()
            .and_then(|location| exchange.target.resolve(location))
            .is_some_and(|resolved| resolved.as_target() == exchange.target)
}

/// Statuses that are never stored, whatever the response says.
fn is_status_storable(status: StatusCode) -> bool {
    match status.as_u16() {
        // Not final; or about a stored response rather than one itself.
        ..200 | 304 => false,
        // Answers to what this one request asked beyond its URI: a delta, a precondition, an expectation, an upgrade, a protocol, a
        // connection, a range; stored, they would answer requests that asked no such thing.
        226 | 407 | 408 | 412 | 416 | 417 | 421 | 425 | 426 => false,
        // CPDoS: one client's oversized request must not become everybody's answer. RFC 6585 §3-§6: 428, 429, 431 and 511 MUST NOT be stored.
        413 | 428 | 429 | 431 | 511 => false,
        _ => true,
    }
}

/// Statuses whose requirements on caches are implemented here (RFC 9111 §3, `must-understand`).
fn is_status_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=206 | 300..=303 | 307 | 308 | 400..=406 | 409..=411 | 414 | 415 | 422 | 451 | 500..=505)
}

fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ETAG)
        || headers
            .get(header::LAST_MODIFIED)
            .is_some_and(|value| crate::time::parse_http_date(value).is_some())
}

fn flag(set: bool, bit: u16) -> u16 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Overrides;
    use crate::testing::{TARGET, decide_at, get, headers, start, stored_at};

    fn why(request: &RequestFacts, status: u16, response: &str, policy: &Policy) -> Option<Reason> {
        decide_at(start(), request, status, response, policy).err().map(|refused| refused.0)
    }

    fn overriding(what: Override) -> Policy {
        Policy { overrides: Overrides::default().with(what), ..Policy::default() }
    }

    #[test]
    fn what_is_softened_is_stale_at_once_whatever_the_wall_clock_rounds() {
        let mut received = start();
        received.wall += Duration::from_micros(999);
        let terms = stored_at(received, "cache-control: max-age=60 | etag: \"a\"");
        for micros in [0, 1, 500, 1_001, 2_500_000] {
            let now = received.after(Duration::from_micros(micros));
            let since = now.wall.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
            for ahead in [0, 1, 60_000] {
                let since_ms = u64::try_from(since).unwrap() + ahead;
                assert!(!terms.softened(since_ms, None, now).is_fresh(now), "{micros} us, {ahead} ms ahead");
            }
        }
    }

    #[test]
    fn section_3_storing() {
        let plain = get("");
        #[rustfmt::skip]
        let cases = [
            // what                                             status  response                                                         refused because
            ("a lifetime",                                      200,    "cache-control: max-age=60",                                     None),
            ("a validator alone",                               200,    "etag: \"a\"",                                                   None),
            ("neither",                                         200,    "",                                                              Some(Reason::NoFreshness)),
            ("a lifetime of zero without a validator",          200,    "cache-control: max-age=0",                                      Some(Reason::NoFreshness)),
            ("a lifetime of zero with one",                     200,    "cache-control: max-age=0 | etag: \"a\"",                        None),
            ("stale on arrival without a validator",            200,    "cache-control: max-age=60 | age: 61",                           Some(Reason::ArrivedStale)),
            ("stale on arrival with a stale window",            200,    "cache-control: max-age=60, stale-if-error=60 | age: 61",        None),
            ("no-store",                                        200,    "cache-control: max-age=60, no-store",                           Some(Reason::NoStore)),
            ("no-store on another line",                        200,    "cache-control: max-age=60 | cache-control: No-Store",           Some(Reason::NoStore)),
            ("private",                                         200,    "cache-control: private, max-age=60",                            Some(Reason::Private)),
            ("private of one field",                            200,    "cache-control: private=\"x-user\", max-age=60",                 None),
            ("no-cache with a validator",                       200,    "cache-control: no-cache | etag: \"a\"",                         None),
            ("no-cache without one",                            200,    "cache-control: no-cache, max-age=60",                           Some(Reason::NoCache)),
            ("must-understand and a known status",              200,    "cache-control: must-understand, no-store, max-age=60",          None),
            ("must-understand and an unknown status",           599,    "cache-control: must-understand, max-age=60",                    Some(Reason::MustUnderstand)),
            ("an unknown status with a lifetime",               599,    "cache-control: max-age=60",                                     None),
            ("an unknown status without",                       599,    "etag: \"a\"",                                                   Some(Reason::NoFreshness)),
            ("302 with a lifetime",                             302,    "cache-control: max-age=60",                                     None),
            ("302 without",                                     302,    "etag: \"a\" | last-modified: @-3600",                           Some(Reason::NoFreshness)),
            ("500 with a lifetime",                             500,    "cache-control: max-age=60",                                     None),
            ("1xx",                                             103,    "cache-control: max-age=60",                                     Some(Reason::Status)),
            ("304",                                             304,    "cache-control: max-age=60",                                     Some(Reason::Status)),
            ("413",                                             413,    "cache-control: max-age=60",                                     Some(Reason::Status)),
            ("416",                                             416,    "cache-control: max-age=60",                                     Some(Reason::Status)),
            ("429",                                             429,    "cache-control: max-age=60",                                     Some(Reason::Status)),
            ("431",                                             431,    "cache-control: max-age=60",                                     Some(Reason::Status)),
            ("a part that says which",                          206,    "cache-control: max-age=60 | content-range: bytes 0-4/10",       None),
            ("a part that does not",                            206,    "cache-control: max-age=60",                                     Some(Reason::BadPart)),
            ("a part of several",                               206,    "cache-control: max-age=60 | content-type: multipart/byteranges; boundary=x", Some(Reason::BadPart)),
            ("Content-Range on a 200 means nothing",            200,    "cache-control: max-age=60 | content-range: nonsense",           None),
            ("Vary",                                            200,    "cache-control: max-age=60 | vary: foo",                         None),
            ("Vary: *",                                         200,    "cache-control: max-age=60 | vary: foo, *",                      Some(Reason::VaryStar)),
            ("Set-Cookie",                                      200,    "cache-control: max-age=60 | set-cookie: a=b",                   Some(Reason::SetCookie)),
            ("Set-Cookie even if public",                       200,    "cache-control: public, max-age=60 | set-cookie: a=b",           Some(Reason::SetCookie)),
            ("Set-Cookie2",                                     200,    "cache-control: max-age=60 | set-cookie2: a=b",                  Some(Reason::SetCookie)),
            ("Set-Cookie that the origin takes out of it",      200,    "cache-control: max-age=60, no-cache=\"set-cookie\" | set-cookie: a=b", None),
            ("no-store in Cache-Control alone, for others",     200,    "cache-control: no-store | cdn-cache-control: max-age=60",       None),
        ];
        for (what, status, response, expected) in cases {
            assert_eq!(why(&plain, status, response, &Policy::default()), expected, "{what}");
        }
    }

    #[test]
    fn section_3_5_authorization_and_cookies() {
        let authorized = get("authorization: Basic x");
        let cookies = RequestFacts { undeclared_cookies: true, ..get("cookie: a=b") };
        #[rustfmt::skip]
        let cases = [
            // what                     response                                                     with Authorization              with cookies
            ("a lifetime",              "cache-control: max-age=60",                                 Some(Reason::Authorization),    Some(Reason::Cookie)),
            ("Expires",                 "expires: @+60",                                             Some(Reason::Authorization),    Some(Reason::Cookie)),
            ("a validator",             "etag: \"a\"",                                               Some(Reason::Authorization),    Some(Reason::Cookie)),
            ("public",                  "cache-control: max-age=60, public",                         None,                           None),
            ("s-maxage",                "cache-control: s-maxage=60",                                None,                           None),
            ("must-revalidate",         "cache-control: max-age=60, must-revalidate",                None,                           Some(Reason::Cookie)),
            ("proxy-revalidate",        "cache-control: max-age=60, proxy-revalidate",               Some(Reason::Authorization),    Some(Reason::Cookie)),
            ("public, malformed",       "cache-control: max-age=60, public=1",                       Some(Reason::Authorization),    Some(Reason::Cookie)),
            ("a targeted lifetime",     "cdn-cache-control: max-age=60",                             None,                           None),
            ("Vary: Cookie",            "cache-control: max-age=60 | vary: accept, Cookie",          Some(Reason::Authorization),    None),
            ("public and private",      "cache-control: max-age=60, public, private",                Some(Reason::Private),          Some(Reason::Private)),
        ];
        for (what, response, with_authorization, with_cookies) in cases {
            assert_eq!(
                why(&authorized, 200, response, &Policy::default()),
                with_authorization,
                "{what}, Authorization"
            );
            assert_eq!(why(&cookies, 200, response, &Policy::default()), with_cookies, "{what}, cookies");
            assert_eq!(
                why(&authorized, 200, response, &overriding(Override::Authorization))
                    .filter(|why| *why == Reason::Authorization),
                None
            );
            assert_eq!(
                why(&cookies, 200, response, &overriding(Override::Cookie))
                    .filter(|why| *why == Reason::Cookie),
                None
            );
        }
    }

    #[test]
    fn an_override_ignores_what_it_names_and_nothing_else() {
        let everything =
            "cache-control: no-store, private, max-age=60, must-revalidate | set-cookie: a=b | vary: *";
        #[rustfmt::skip]
        let order = [
            (Override::NoStore,   Reason::NoStore),
            (Override::Private,   Reason::Private),
            (Override::SetCookie, Reason::SetCookie),
            (Override::Vary,      Reason::VaryStar),
        ];
        let mut policy = Policy::default();
        for (what, reason) in order {
            assert_eq!(why(&get(""), 200, everything, &policy), Some(reason));
            policy.overrides = policy.overrides.with(what);
        }
        let terms = decide_at(start(), &get(""), 200, everything, &policy).unwrap();
        assert!(terms.forbids_stale());
        policy.overrides = policy.overrides.with(Override::MustRevalidate);
        assert!(!decide_at(start(), &get(""), 200, everything, &policy).unwrap().forbids_stale());

        let silent = Policy { ttl: Some(Duration::from_secs(60)), ..overriding(Override::Cookie) };
        let cookies = RequestFacts { undeclared_cookies: true, ..get("cookie: a=b") };
        let terms = decide_at(start(), &cookies, 200, "", &silent).unwrap();
        assert_eq!(terms.lifetime(), Duration::from_secs(60), "cookies that are ignored hold no ttl back");

        let no_cache = "cache-control: no-cache, max-age=60";
        let terms = decide_at(start(), &get(""), 200, no_cache, &overriding(Override::NoCache)).unwrap();
        assert!(!terms.is_no_cache() && !terms.forbids_stale());
        let store = Policy { store_set_cookie: true, ..Policy::default() };
        assert_eq!(why(&get(""), 200, "cache-control: max-age=60 | set-cookie: a=b", &store), None);
    }

    #[test]
    fn section_5_2_1_5_a_request_with_no_store() {
        let request = get("cache-control: no-store");
        assert_eq!(
            why(&request, 200, "cache-control: max-age=60", &Policy::default()),
            Some(Reason::RequestNoStore)
        );
    }

    #[test]
    fn section_3_methods() {
        let response = "cache-control: max-age=60 | content-location: /a/b?c=d";
        for (method, expected) in [
            (Method::GET, None),
            (Method::POST, None),
            (Method::HEAD, Some(Reason::Method)),
            (Method::PUT, Some(Reason::Method)),
            (Method::DELETE, Some(Reason::Method)),
            (Method::OPTIONS, Some(Reason::Method)),
            (Method::from_bytes(b"M-SEARCH").unwrap(), Some(Reason::Method)),
        ] {
            let facts = RequestFacts::of(&method, &HeaderMap::new(), false);
            assert_eq!(why(&facts, 200, response, &Policy::default()), expected, "{method}");
        }
        let post = RequestFacts::of(&Method::POST, &HeaderMap::new(), false);
        #[rustfmt::skip]
        let cases = [
            // RFC 9110 §9.3.3                        response                                                                       stored
            ("the target, absolute",                  "cache-control: max-age=60 | content-location: https://EXAMPLE.com:443/a/b?c=d", true),
            ("the target, relative",                  "cache-control: max-age=60 | content-location: b?c=d",                          true),
            ("without a lifetime of its own",         "etag: \"a\" | content-location: /a/b?c=d",                                     false),
            ("another URI",                           "cache-control: max-age=60 | content-location: /a/b",                           false),
            ("none",                                  "cache-control: max-age=60",                                                    false),
            ("two",                                   "cache-control: max-age=60 | content-location: /a/b?c=d | content-location: /", false),
        ];
        for (what, response, stored) in cases {
            assert_eq!(why(&post, 200, response, &Policy::default()).is_none(), stored, "{what}");
        }
        assert_eq!(TARGET.path(), "/a/b");
    }

    #[test]
    fn the_facts_of_a_request() {
        let facts = |fields: &str| RequestFacts::of(&Method::GET, &headers(fields), false);
        let plain = facts("host: e | accept: */* | user-agent: x | if-range: \"a\" | x-if-match: y");
        assert!(!plain.authorization && !plain.range && !plain.conditional);
        assert_eq!(plain.directives, RequestDirectives::default());
        assert!(facts("authorization: x").authorization);
        assert!(!facts("proxy-authorization: x").authorization);
        assert!(facts("range: bytes=0-1").range);
        for name in ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"] {
            let fields = headers(&format!("{name}: x"));
            assert!(RequestFacts::of(&Method::GET, &fields, false).conditional, "{name}");
            assert!(crate::validation::is_conditional(&fields), "{name}");
        }
        assert!(facts("pragma: no-cache").directives.no_cache);
        assert!(facts("cache-control: no-store").directives.no_store);
        let head = RequestFacts::of(&Method::HEAD, &headers("range: bytes=0-1"), true);
        assert!(!head.range && head.undeclared_cookies);
    }

    #[test]
    fn method_classes() {
        let class = |name: &str| MethodClass::of(&Method::from_bytes(name.as_bytes()).unwrap());
        assert!(class("GET").is_looked_up() && class("HEAD").is_looked_up());
        for name in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "PURGE", "get"] {
            assert!(class(name).invalidates() && !class(name).is_looked_up(), "{name}");
        }
        for name in ["OPTIONS", "TRACE", "PROPFIND", "QUERY"] {
            assert!(!class(name).invalidates() && !class(name).is_looked_up(), "{name}");
        }
    }

    #[test]
    fn stale_windows() {
        let route = Policy {
            stale_while_revalidate: Some(Duration::from_secs(30)),
            stale_if_error: Some(Duration::from_secs(300)),
            ..Policy::default()
        };
        #[rustfmt::skip]
        let cases = [
            // what                                          Cache-Control                                        policy              swr  sie
            ("what the origin says",                         "max-age=1, stale-while-revalidate=5, stale-if-error=6", &Policy::default(), 5,  6),
            ("the origin's word beats the route's",          "max-age=1, stale-while-revalidate=5, stale-if-error=6", &route,             5,  6),
            ("the route where the origin is silent",         "max-age=1",                                         &route,             30,  300),
            ("one window given, the other is a no",          "max-age=1, stale-if-error=6",                       &route,             0,   6),
            ("a window of zero is a no",                     "max-age=1, stale-while-revalidate=0",               &route,             0,   0),
            ("must-revalidate is not silent",                "max-age=1, must-revalidate",                        &route,             0,   0),
            ("nor is s-maxage",                              "s-maxage=1",                                        &route,             0,   0),
            ("nor no-cache",                                 "max-age=1, no-cache",                               &route,             0,   0),
            ("must-revalidate beats the origin's own window", "max-age=1, must-revalidate, stale-if-error=6",     &route,             0,   0),
            ("s-maxage with a window",                       "s-maxage=1, stale-while-revalidate=5",              &route,             5,   0),
        ];
        for (what, directives, policy, swr, sie) in cases {
            let response = format!("cache-control: {directives} | etag: \"a\"");
            let terms = decide_at(start(), &get(""), 200, &response, policy).unwrap();
            let windows = (terms.stale_while_revalidate().as_secs(), terms.stale_if_error().as_secs());
            assert_eq!(windows, (swr, sie), "{what}");
        }
    }

    #[test]
    fn how_long_it_is_worth_keeping() {
        let keep = |response: &str| stored_at(start(), response).keep_for().as_secs();
        assert_eq!(keep("cache-control: max-age=60"), 60);
        assert_eq!(keep("cache-control: max-age=60 | age: 20"), 40);
        assert_eq!(keep("cache-control: max-age=60, stale-while-revalidate=5, stale-if-error=30"), 90);
        assert_eq!(keep("cache-control: max-age=60 | etag: \"a\""), 60 + 600);
        assert_eq!(keep("cache-control: max-age=3600 | etag: \"a\""), 2 * 3600);
        assert_eq!(keep("cache-control: max-age=999999 | etag: \"a\""), 999_999 + 86_400);
        assert_eq!(keep("etag: \"a\""), 600);
    }

    #[test]
    fn terms_outlive_the_process() {
        let now = start();
        let terms =
            stored_at(now, "cache-control: max-age=60, stale-if-error=9, immutable | age: 5 | etag: \"a\"");
        let restarted =
            Now { wall: now.wall + Duration::from_secs(20), mono: now.mono + Duration::from_secs(1000) };
        let revived = terms.at_rest().revive(restarted).unwrap();
        assert_eq!(revived.current_age(restarted), Duration::from_secs(25), "the time between counts");
        assert_eq!(revived.lifetime(), terms.lifetime());
        assert_eq!(revived.at_rest().received_ms, terms.at_rest().received_ms);
        assert!(revived.is_immutable() && revived.is_validatable());
        let clock_back = Now { wall: now.wall - Duration::from_secs(3600), mono: now.mono };
        let revived = terms.at_rest().revive(clock_back).unwrap();
        assert_eq!(
            revived.current_age(clock_back),
            Duration::from_secs(5),
            "from the future: as old as it came"
        );
        assert_eq!(TermsAtRest { source: 9, ..terms.at_rest() }.revive(now), None);
    }

    #[test]
    fn terms_are_small() {
        assert_eq!(std::mem::size_of::<Terms>(), 64);
    }

    #[test]
    fn section_3_1_what_is_stored_of_the_header_section() {
        let received = headers(
            "connection: close, X-Hop | x-hop: 1 | keep-alive: timeout=5 | proxy-authenticate: x | proxy-authentication-info: x \
             | proxy-connection: x | te: trailers | trailer: x | transfer-encoding: chunked | upgrade: h2c | age: 5 \
             | cache-control: max-age=60, private=\"x-user\", no-cache=\"x-fresh\" | x-user: 1 | x-fresh: 1 \
             | ratelimit: \"a\";r=1 | x-ratelimit-remaining: 1 \
             | content-type: text/plain | x-multi: 1 | x-multi: 2 | set-cookie: a=b",
        );
        let stored = stored_headers(&received, &Policy::default());
        let mut names: Vec<&str> = stored.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "content-type", "set-cookie", "x-multi"]);
        assert_eq!(stored.get_all("x-multi").iter().count(), 2);
        let without = stored_headers(&received, &overriding(Override::SetCookie));
        assert!(!without.contains_key(header::SET_COOKIE));
    }
}
