//! `Cache-Status` (RFC 9211): what the cache did with a request, in one field, and the closed list of reasons for it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{List, Parser};

/// The name of the field.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why the request went towards the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// The cache was not consulted.
    Bypass,
    /// The method asks for the origin.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but no variant of it for this request.
    VaryMiss,
    /// Nothing stored could be used.
    Miss,
    /// A fresh stored response could be used, but the request asked for the origin.
    Request,
    /// The stored response is stale.
    Stale,
    /// Parts are stored, but not the part asked for.
    Partial,
}

impl Fwd {
    /// The token of RFC 9211; also the label in metrics and logs.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Fwd::Bypass => "bypass",
            Fwd::Method => "method",
            Fwd::UriMiss => "uri-miss",
            Fwd::VaryMiss => "vary-miss",
            Fwd::Miss => "miss",
            Fwd::Request => "request",
            Fwd::Stale => "stale",
            Fwd::Partial => "partial",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:expr])+ $variant:ident = $id:literal,)+) => {
        /// Why a request was not answered from the cache, or why its answer was not stored, or why it was answered in an unusual way.
        ///
        /// The list is closed: the same words appear as `detail` of `Cache-Status`, in logs, in metrics and in `weir explain`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// The stable word for it; a token as structured fields know it.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Reason::$variant => $id,)+ }
            }

            /// The reason in a sentence, for `weir explain` and the documentation.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc,)+).trim_ascii_start(),)+ }
            }
        }
    };
}

reasons! {
    // What the response or its request forbids (RFC 9111 §3).
    /// The request method is neither understood nor cacheable.
    Method = "method",
    /// The status is not final, or is one that must never be stored.
    Status = "status",
    /// The response demands to be understood, and its status is not known here.
    MustUnderstand = "must-understand",
    /// The response says `no-store`.
    NoStore = "no-store",
    /// The request says `no-store`.
    RequestNoStore = "request-no-store",
    /// The response says `private`.
    Private = "private",
    /// The request carries `Authorization` and the response does not say `public`, `s-maxage` or `must-revalidate`.
    Authorization = "authorization",
    /// The request carries cookies that the route does not declare and the response does not say `public`, `s-maxage` or `Vary: Cookie`.
    Cookie = "cookie",
    /// The response sets a cookie.
    SetCookie = "set-cookie",
    /// The response says `Vary: *`.
    VaryStar = "vary-star",
    /// The response could never be reused: it has neither a lifetime nor a validator.
    NoFreshness = "no-freshness",
    /// The response was already stale when it came and has no validator.
    ArrivedStale = "arrived-stale",
    /// The partial response does not say which part of what it is.
    BadPart = "bad-part",
    // What this cache cannot or will not hold.
    /// The body is larger than the cache holds.
    BodyTooLarge = "body-too-large",
    /// The head of the response is larger than the cache holds.
    HeadTooLarge = "head-too-large",
    // Why the cache was not consulted, or what it holds not used.
    /// The route does not use the cache.
    RouteOff = "route-off",
    /// The route writes sessions, or the request carries one.
    Session = "session",
    /// The request has a body, which a safe method gives no meaning.
    RequestBody = "request-body",
    /// The request asks for an upgrade of the connection.
    Upgrade = "upgrade",
    /// The response to such requests was found uncacheable a short while ago.
    KnownUncacheable = "known-uncacheable",
    /// The request says `no-cache`.
    RequestNoCache = "request-no-cache",
    /// The stored response is older than the request's `max-age`.
    RequestMaxAge = "request-max-age",
    /// The stored response is not fresh for as long as the request's `min-fresh`.
    RequestMinFresh = "request-min-fresh",
    /// The request says `only-if-cached` and nothing stored may be used.
    OnlyIfCached = "only-if-cached",
    /// The stored response says `no-cache`.
    NoCache = "no-cache",
    /// What was stored has been purged.
    Purged = "purged",
    /// The stored response has been purged softly.
    SoftPurged = "soft-purged",
    /// A plugin decided so.
    Plugin = "plugin",
    /// A plugin failed, and this is its safe way.
    PluginFailed = "plugin-failed",
    /// Whether somebody else has purged it cannot be told at the moment.
    Unverified = "unverified",
    /// Redis cannot be asked, and nothing is served without it.
    RedisFailed = "redis-failed",
    // What was served in the origin's place.
    /// Another proxy has stored it; it came out of Redis and is in memory now.
    Redis = "redis",
    /// It outlived an earlier process; it came from disk and is in memory now.
    Disk = "disk",
    /// A stale response is served while a fresh one is fetched.
    StaleWhileRevalidate = "stale-while-revalidate",
    /// A stale response is served because the origin failed.
    StaleIfError = "stale-if-error",
    /// A stale response is served because the request allows it.
    MaxStale = "max-stale",
    /// The route's fallback is served because the origin failed and nothing stored may be used.
    Fallback = "fallback",
    /// The origin could not be reached or did not answer.
    OriginFailed = "origin-failed",
    /// No origin server is in service.
    OriginDown = "origin-down",
    /// The gate refused the request.
    Refused = "refused",
    /// The route answers by itself.
    RouteAnswer = "route-answer",
}

impl Reason {
    /// Whether it is the request that forbids to store the answer: another request's answer to the same may be stored.
    #[must_use]
    pub fn is_of_the_request(self) -> bool {
        matches!(self, Reason::Authorization | Reason::Cookie | Reason::RequestNoStore)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

/// One member of `Cache-Status`: what this cache did. Copied freely; rendered into any buffer without allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// The request was answered without going forward (§2.1).
    pub hit: bool,
    /// Why it went forward (§2.2). Not together with `hit`.
    pub fwd: Option<Fwd>,
    /// The status of the next hop where it differs from the one sent (§2.3).
    pub fwd_status: Option<u16>,
    /// The remaining lifetime in seconds; below zero for a stale response (§2.4).
    pub ttl: Option<i64>,
    /// The response was stored (§2.5).
    pub stored: bool,
    /// The request was collapsed with another (§2.6).
    pub collapsed: bool,
    /// The reason (§2.8).
    pub detail: Option<Reason>,
}

impl CacheStatus {
    /// An answer from the cache with `ttl` seconds left.
    #[must_use]
    pub const fn hit(ttl: i64) -> CacheStatus {
        CacheStatus {
            hit: true,
            ttl: Some(ttl),
            fwd: None,
            fwd_status: None,
            stored: false,
            collapsed: false,
            detail: None,
        }
    }

    /// An answer from beyond the cache.
    #[must_use]
    pub const fn forwarded(fwd: Fwd) -> CacheStatus {
        CacheStatus {
            hit: false,
            ttl: None,
            fwd: Some(fwd),
            fwd_status: None,
            stored: false,
            collapsed: false,
            detail: None,
        }
    }

    /// An answer that has nothing to do with the cache, and why.
    #[must_use]
    pub const fn beside(reason: Reason) -> CacheStatus {
        CacheStatus { fwd: None, ..CacheStatus::forwarded(Fwd::Bypass) }.because(reason)
    }

    /// With a reason.
    #[must_use]
    pub const fn because(mut self, reason: Reason) -> CacheStatus {
        self.detail = Some(reason);
        self
    }

    /// Appends the member for the cache `name` (a token, such as `weir`) to `out`.
    pub fn render(&self, name: &str, out: &mut impl BufMut) {
        out.put_slice(name.as_bytes());
        if self.hit {
            out.put_slice(b"; hit");
        }
        if let Some(fwd) = self.fwd {
            out.put_slice(b"; fwd=");
            out.put_slice(fwd.id().as_bytes());
        }
        if let Some(status) = self.fwd_status {
            out.put_slice(b"; fwd-status=");
            put_decimal(i64::from(status), out);
        }
        if let Some(ttl) = self.ttl {
            out.put_slice(b"; ttl=");
            put_decimal(ttl, out);
        }
        if self.stored {
            out.put_slice(b"; stored");
        }
        if self.collapsed {
            out.put_slice(b"; collapsed");
        }
        if let Some(reason) = self.detail {
            out.put_slice(b"; detail=");
            out.put_slice(reason.id().as_bytes());
        }
    }

    /// Appends this member after those that caches nearer to the origin have written (§2).
    ///
    /// Lines that are not a structured list are dropped first: one of them would make the whole field unreadable.
    pub fn append(&self, name: &str, headers: &mut HeaderMap) {
        let mut value = BytesMut::with_capacity(RENDERED_MAX);
        let lines = headers.get_all(CACHE_STATUS).iter();
        for line in lines.filter(|line| Parser::new(line.as_bytes()).parse::<List>().is_ok()) {
            if value.len() + line.len() > EXISTING_MAX {
                break;
            }
            if !line.as_bytes().trim_ascii().is_empty() {
                value.put_slice(line.as_bytes());
                value.put_slice(b", ");
            }
        }
        self.render(name, &mut value);
        if let Ok(value) = HeaderValue::from_maybe_shared(value.freeze()) {
            headers.insert(CACHE_STATUS, value);
        }
    }

    /// The value of the field with this member alone.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<HeaderValue> {
        let mut value = BytesMut::with_capacity(RENDERED_MAX);
        self.render(name, &mut value);
        HeaderValue::from_maybe_shared(Bytes::from(value)).ok()
    }
}

/// No member of ours is longer than this, with a name of sixteen bytes.
pub const RENDERED_MAX: usize = 160;
/// Of what other caches have written, no more than this is passed on.
const EXISTING_MAX: usize = 4096;

/// Writes `value` in decimal. Structured fields hold fifteen digits (RFC 9651 §3.3.1); more are cut to that.
fn put_decimal(value: i64, out: &mut impl BufMut) {
    const MAX: u64 = 999_999_999_999_999;
    if value < 0 {
        out.put_u8(b'-');
    }
    let mut rest = value.unsigned_abs().min(MAX);
    let mut digits = [b'0'; 15];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn rendered(status: CacheStatus) -> String {
        let mut out = Vec::new();
        status.render("weir", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn section_2_members() {
        #[rustfmt::skip]
        let cases = [
            (CacheStatus::hit(599),                                                             "weir; hit; ttl=599"),
            (CacheStatus::hit(-5).because(Reason::StaleWhileRevalidate),                        "weir; hit; ttl=-5; detail=stale-while-revalidate"),
            (CacheStatus::hit(0),                                                               "weir; hit; ttl=0"),
            (CacheStatus::forwarded(Fwd::UriMiss),                                              "weir; fwd=uri-miss"),
            (CacheStatus { stored: true, ttl: Some(60), ..CacheStatus::forwarded(Fwd::Miss) },  "weir; fwd=miss; ttl=60; stored"),
            (CacheStatus { fwd_status: Some(304), stored: true, ..CacheStatus::forwarded(Fwd::Stale) }, "weir; fwd=stale; fwd-status=304; stored"),
            (CacheStatus { collapsed: true, ..CacheStatus::forwarded(Fwd::VaryMiss) },          "weir; fwd=vary-miss; collapsed"),
            (CacheStatus::forwarded(Fwd::Bypass).because(Reason::RouteOff),                     "weir; fwd=bypass; detail=route-off"),
            (CacheStatus::default(),                                                            "weir"),
        ];
        for (status, expected) in cases {
            assert_eq!(rendered(status), expected);
            assert_eq!(status.value("weir").unwrap(), expected);
        }
    }

    #[test]
    fn appended_after_those_of_caches_nearer_to_the_origin() {
        #[rustfmt::skip]
        let cases = [
            // what                                 before                                                        after
            ("none",                                "",                                                           "weir; hit; ttl=1"),
            ("one",                                 "cache-status: origin; hit",                                  "origin; hit, weir; hit; ttl=1"),
            ("several over lines",                  "cache-status: a; hit, b; fwd=miss | cache-status: c",        "a; hit, b; fwd=miss, c, weir; hit; ttl=1"),
            ("an empty line",                       "cache-status: ",                                             "weir; hit; ttl=1"),
            ("what cannot be read is dropped",      "cache-status: HIT from (proxy | cache-status: a",            "a, weir; hit; ttl=1"),
        ];
        for (what, before, after) in cases {
            let mut response = headers(before);
            CacheStatus::hit(1).append("weir", &mut response);
            let lines: Vec<_> = response.get_all(CACHE_STATUS).iter().collect();
            assert_eq!(lines, [after], "{what}");
        }
        let mut response = headers(&format!("cache-status: a | cache-status: {}", "b".repeat(EXISTING_MAX)));
        CacheStatus::hit(1).append("weir", &mut response);
        assert_eq!(response[CACHE_STATUS], "a, weir; hit; ttl=1");
    }

    #[test]
    fn the_list_of_reasons_is_sound() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            let id = reason.id();
            assert!(seen.insert(id), "{id} twice");
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{id} is no token");
            let explanation = reason.explanation();
            assert!(
                explanation.ends_with('.') && explanation.starts_with(char::is_uppercase),
                "{id}: {explanation}"
            );
            let longest = CacheStatus {
                hit: true,
                fwd: Some(Fwd::VaryMiss),
                fwd_status: Some(599),
                ttl: Some(i64::MIN),
                stored: true,
                collapsed: true,
                detail: Some(*reason),
            };
            assert!(longest.value("sixteen-bytes-xx").unwrap().len() <= RENDERED_MAX, "{id}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_a_structured_list(
            ttl in proptest::option::of(any::<i64>()), hit in any::<bool>(), stored in any::<bool>(), collapsed in any::<bool>(),
            fwd_status in proptest::option::of(any::<u16>()), reason in 0..Reason::ALL.len(), existing in "[ -~]{0,40}",
        ) {
            let status = CacheStatus {
                hit, fwd: (!hit).then_some(Fwd::Stale), fwd_status, ttl, stored, collapsed, detail: Some(Reason::ALL[reason]),
            };
            let mut response = HeaderMap::new();
            response.insert(CACHE_STATUS, HeaderValue::from_str(&existing).unwrap());
            let before = Parser::new(existing.as_bytes()).parse::<List>().map_or(0, |list| list.len());
            status.append("weir", &mut response);
            let after = Parser::new(response[CACHE_STATUS].as_bytes()).parse::<List>().unwrap();
            prop_assert_eq!(after.len(), before + 1);
        }
    }
}
