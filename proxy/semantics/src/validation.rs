//! Conditional requests (RFC 9111 §4.3, RFC 9110 §13): the ones we send, the ones we answer, and what a 304 updates.

use std::time::SystemTime;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::freshness;
use crate::policy::Policy;
use crate::storable::{self, Terms};
use crate::time::{ensure_date, parse_http_date};

/// An entity tag (RFC 9110 §8.8.3), kept as it was written.
///
/// One that is not quoted is against the grammar; it is sent back as it came and never counts as strong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// The tag of a response; `None` where it has none, an empty one, or several.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<EntityTag> {
        let mut lines = headers.get_all(header::ETAG).iter();
        let line = lines.next()?;
        (lines.next().is_none() && !line.as_bytes().trim_ascii().is_empty()).then(|| EntityTag(line.clone()))
    }

    /// As it was written.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// Whether it changes with every change of the bytes (RFC 9110 §8.8.1).
    #[must_use]
    pub fn is_strong(&self) -> bool {
        is_strong(self.0.as_bytes())
    }

    /// Strong comparison: both strong and the same (RFC 9110 §8.8.3.2).
    #[must_use]
    pub fn matches_strongly(&self, other: &[u8]) -> bool {
        self.is_strong() && self.0.as_bytes() == other.trim_ascii()
    }

    /// Weak comparison: the same, whether weak or not (RFC 9110 §8.8.3.2).
    #[must_use]
    pub fn matches_weakly(&self, other: &[u8]) -> bool {
        opaque(self.0.as_bytes()) == opaque(other.trim_ascii())
    }
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn is_strong(tag: &[u8]) -> bool {
    matches!(tag, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'))
}

/// What tells one version of a representation from another, taken from a response when it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<EntityTag>,
    /// `Last-Modified`, as a date and as it was written.
    pub last_modified: Option<(SystemTime, HeaderValue)>,
    /// `Date`.
    pub date: Option<SystemTime>,
}

impl Validators {
    /// The validators of a response.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Validators {
        let last_modified = headers
            .get(header::LAST_MODIFIED)
            .and_then(|value| parse_http_date(value).map(|date| (date, value.clone())));
        Validators { etag: EntityTag::of(headers), last_modified, date: freshness::date(headers) }
    }

    /// Whether the origin can be asked about this version.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Whether two responses with these validators are byte for byte parts of the same representation: both have the same strong
    /// entity tag or, where neither has a tag, the same `Last-Modified` that is strong (RFC 9110 §8.8.2.2).
    #[must_use]
    pub fn is_same_strong(&self, other: &Validators) -> bool {
        match (&self.etag, &other.etag) {
            (Some(mine), Some(theirs)) => mine.matches_strongly(theirs.value().as_bytes()),
            (None, None) => match (self.strong_last_modified(), other.strong_last_modified()) {
                (Some(mine), Some(theirs)) => mine == theirs,
                _ => false,
            },
            _ => false,
        }
    }

    /// `Last-Modified` where it is strong: at least a minute before `Date`, so that the resource cannot have changed twice within
    /// its second (RFC 9110 §8.8.2.2 asks for a second and suggests a minute against unsynchronised clocks).
    #[must_use]
    pub fn strong_last_modified(&self) -> Option<SystemTime> {
        let (modified, _) = self.last_modified.as_ref()?;
        let age = self.date?.duration_since(*modified).ok()?;
        (age.as_secs() >= 60).then_some(*modified)
    }

    /// The value for `If-Range` that makes the origin send the part only if it is of this version (RFC 9110 §13.1.5): the strong tag,
    /// or the strong date. `None`: there is no strong validator, so nothing may be combined.
    #[must_use]
    pub fn if_range(&self) -> Option<HeaderValue> {
        match &self.etag {
            Some(etag) => etag.is_strong().then(|| etag.value().clone()),
            None => {
                self.strong_last_modified().and(self.last_modified.as_ref()).map(|(_, value)| value.clone())
            }
        }
    }
}

/// The preconditions to add to a request for validation (RFC 9111 §4.3.1). Both may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditional {
    /// `If-None-Match`: the tags of all variants asked about.
    pub if_none_match: Option<HeaderValue>,
    /// `If-Modified-Since`: only where a single variant is asked about.
    pub if_modified_since: Option<HeaderValue>,
}

impl Conditional {
    /// The preconditions for validating the `stored` responses: the selected one, or after a `vary-miss` any number of variants.
    #[must_use]
    pub fn for_stored<'a>(stored: impl IntoIterator<Item = &'a Validators>) -> Conditional {
        let mut tags = BytesMut::new();
        let mut count = 0_usize;
        let mut last_modified = None;
        let mut single = None;
        for validators in stored {
            count += 1;
            last_modified = validators.last_modified.as_ref().map(|(_, value)| value.clone());
            let Some(etag) = &validators.etag else {
                continue;
            };
            let value = etag.value().as_bytes();
            if tags.len() + value.len() > IF_NONE_MATCH_MAX {
                continue;
            }
            single = Some(etag.value().clone());
            if !tags.is_empty() {
                tags.put_slice(b", ");
            }
            tags.put_slice(value);
        }
        let if_none_match = match count {
            0 => None,
            1 => single,
            _ if tags.is_empty() => None,
            _ => HeaderValue::from_maybe_shared(tags.freeze()).ok(),
        };
        Conditional { if_none_match, if_modified_since: last_modified.filter(|_| count == 1) }
    }

    /// Whether there is nothing to ask about.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.if_none_match.is_none() && self.if_modified_since.is_none()
    }

    /// Puts the preconditions into the header section of a request, in place of the client's.
    pub fn apply(&self, request: &mut HeaderMap) {
        for name in CONDITIONS {
            request.remove(name);
        }
        if let Some(value) = &self.if_none_match {
            request.insert(header::IF_NONE_MATCH, value.clone());
        }
        if let Some(value) = &self.if_modified_since {
            request.insert(header::IF_MODIFIED_SINCE, value.clone());
        }
    }
}

/// No more bytes of entity tags than this are sent.
const IF_NONE_MATCH_MAX: usize = 4 * 1024;

/// The preconditions of a request (RFC 9110 §13.1). They are evaluated here against what is stored or fetched, so a fill does not forward them.
pub const CONDITIONS: [HeaderName; 5] = [
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
];

/// What the client's preconditions make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were none.
    Proceed,
    /// Answer 304.
    NotModified,
    /// Answer 412.
    PreconditionFailed,
}

/// Whether the request carries any precondition that [`evaluate`] would look at.
#[must_use]
pub fn is_conditional(request: &HeaderMap) -> bool {
    request.keys().any(is_precondition)
}

/// Whether the request carries a precondition or a `Range`: it may be answered with less than the whole. To go through the names once is quicker than
/// to look for each.
#[must_use]
pub fn may_want_less(request: &HeaderMap) -> bool {
    request.keys().any(|name| *name == header::RANGE || is_precondition(name))
}

fn is_precondition(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::IF_NONE_MATCH | header::IF_MODIFIED_SINCE | header::IF_MATCH | header::IF_UNMODIFIED_SINCE
    )
}

/// Evaluates the client's preconditions against a stored response that would answer it, in the order of RFC 9110 §13.2.2.
///
/// `If-Range` belongs to `range`. Only for a stored response that may be used; conditions are ignored where the answer without them
/// would be neither 2xx nor 304 nor 412 (§13.2.1).
#[must_use]
pub fn evaluate(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    validators: &Validators,
    terms: &Terms,
) -> Precondition {
    if !is_conditional(request) || !status.is_success() {
        return Precondition::Proceed;
    }
    evaluate_received(method, request, status, validators, terms.received_wall())
}

/// The same for a response that has just been received and is not stored: its conditions were taken off when it was asked for.
#[must_use]
pub fn evaluate_received(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    validators: &Validators,
    received: SystemTime,
) -> Precondition {
    if !is_conditional(request) || !status.is_success() {
        return Precondition::Proceed;
    }
    let modified = || match &validators.last_modified {
        Some((date, _)) => *date,
        // RFC 9111 §4.3.2: without Last-Modified, Date; without that, when it was received.
        None => validators.date.unwrap_or(received),
    };
    // RFC 9111 §4.3.2: a cache MUST NOT evaluate conditions that only apply to an origin server (If-Match, If-Unmodified-Since) unless
    // it acts for it; as a gateway we do, and answer from the same representation that the origin sent.
    if request.contains_key(header::IF_MATCH) {
        let holds = any_tag(request, &header::IF_MATCH, |tag| {
            validators.etag.as_ref().is_some_and(|etag| etag.matches_strongly(tag))
        });
        if !holds {
            return Precondition::PreconditionFailed;
        }
    } else if let Some(limit) = single_date(request, &header::IF_UNMODIFIED_SINCE)
        && modified() > limit
    {
        return Precondition::PreconditionFailed;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        let matched = any_tag(request, &header::IF_NONE_MATCH, |tag| {
            validators.etag.as_ref().is_some_and(|etag| etag.matches_weakly(tag))
        });
        if matched {
            return if asks_only(method) {
                Precondition::NotModified
            } else {
                Precondition::PreconditionFailed
            };
        }
    } else if asks_only(method)
        && let Some(limit) = single_date(request, &header::IF_MODIFIED_SINCE)
        && modified() <= limit
    {
        return Precondition::NotModified;
    }
    Precondition::Proceed
}

/// Methods whose condition is answered with 304 (RFC 9110 §13.1; RFC 10008 says the same of QUERY).
fn asks_only(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "QUERY")
}

/// A date in the only line of a field; else it is ignored, as RFC 9110 §13.1.3 and §13.1.4 want it.
fn single_date(request: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut lines = request.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse_http_date(line)
}

/// Whether the field is `*`, or one of its tags satisfies `test`.
fn any_tag(request: &HeaderMap, name: &HeaderName, test: impl Fn(&[u8]) -> bool) -> bool {
    request.get_all(name).iter().any(|line| {
        let line = line.as_bytes().trim_ascii();
        line == b"*" || Tags(line).any(&test)
    })
}

/// The members of a list of entity tags. Commas may stand inside a tag's quotes.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        let rest = &self.0[start..];
        let mut quoted = false;
        let end = rest
            .iter()
            .position(|byte| {
                quoted ^= *byte == b'"';
                *byte == b',' && !quoted
            })
            .unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(rest[..end].trim_ascii())
    }
}

/// What a 304 from the origin says about the stored responses that were asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// It updates the stored response at this position.
    Stored(usize),
    /// It matches none: it must update nothing (RFC 9111 §4.3.4). Fetch again without conditions.
    None,
}

/// Which of the `stored` responses a 304 is about (RFC 9111 §4.3.4). `stored`: those whose validators were in the request, the most recent first.
///
/// A 304 without validators is about the stored response where only one was asked about: the letter wants that one to lack validators
/// too, but origins leave `ETag` out of a 304 far too often, and nothing else can be meant.
#[must_use]
pub fn select<'a>(stored: impl IntoIterator<Item = &'a Validators>, not_modified: &HeaderMap) -> Selected {
    let new = Validators::of(not_modified);
    let mut count = 0;
    let mut by_tag = None;
    let mut by_date = None;
    for (at, old) in stored.into_iter().enumerate() {
        count += 1;
        if let (Some(old), Some(new)) = (&old.etag, &new.etag) {
            let same = if new.is_strong() {
                old.matches_strongly(new.value().as_bytes())
            } else {
                old.matches_weakly(new.value().as_bytes())
            };
            if same && by_tag.is_none() {
                by_tag = Some(at);
            }
        }
        if let (Some((old, _)), Some((new, _))) = (&old.last_modified, &new.last_modified)
            && old == new
            && by_date.is_none()
        {
            by_date = Some(at);
        }
    }
    let found = match (&new.etag, &new.last_modified) {
        // With a strong validator, it must match. A weak one that matches nothing identifies nothing either.
        (Some(_), _) => by_tag,
        (None, Some(_)) => by_date,
        (None, None) => (count == 1).then_some(0),
    };
    found.map_or(Selected::None, Selected::Stored)
}

/// The stored header section updated by a 304's (or by that of a 200 to HEAD): each field of the new response replaces the stored one
/// (RFC 9111 §3.2). Decide anew on the result: the new fields may say `no-store`.
///
/// Not updated: what is never stored (§3.1), and what describes the stored bytes (`Content-Length`, `Content-Encoding`,
/// `Content-Range`, `Content-MD5`, digests, `ETag` where the new one is none of ours) — the bytes stay as they are.
/// `Set-Cookie` is taken over only where the policy stores it.
#[must_use]
pub fn freshen(stored: &HeaderMap, response: &HeaderMap, policy: &Policy, received: SystemTime) -> HeaderMap {
    let new = storable::stored_headers(response, policy);
    let mut merged = stored.clone();
    for name in new.keys() {
        if NOT_UPDATED.contains(name) || (*name == header::SET_COOKIE && !policy.store_set_cookie) {
            continue;
        }
        merged.remove(name);
        for value in new.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    // The new response's date and age are its own, whether it says them or not.
    if freshness::date(response).is_none() {
        merged.remove(header::DATE);
        ensure_date(&mut merged, received);
    }
    merged.remove(header::AGE);
    if let Some(age) = response.get(header::AGE) {
        merged.insert(header::AGE, age.clone());
    }
    merged
}

const NOT_UPDATED: [HeaderName; 8] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    header::ETAG,
];

/// What a 200 to a HEAD request says about a stored response to GET (RFC 9111 §4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadEffect {
    /// Nothing contradicts: freshen the stored response with it.
    Update,
    /// Length or validators differ: the stored response is stale.
    Invalidate,
    /// It says nothing about it: another status, or another status stored.
    Nothing,
}

/// The effect of a HEAD response on the stored GET response that the same request would have selected.
#[must_use]
pub fn head_effect(
    stored_status: StatusCode,
    stored: &HeaderMap,
    stored_length: u64,
    status: StatusCode,
    head: &HeaderMap,
) -> HeadEffect {
    if status != StatusCode::OK || stored_status != StatusCode::OK {
        return HeadEffect::Nothing;
    }
    let length = head.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length != stored_length) {
        return HeadEffect::Invalidate;
    }
    let (old, new) = (Validators::of(stored), Validators::of(head));
    let tags_differ = match (&old.etag, &new.etag) {
        (Some(old), Some(new)) => old != new,
        _ => false,
    };
    let dates_differ = match (&old.last_modified, &new.last_modified) {
        (Some((old, _)), Some((new, _))) => old != new,
        _ => false,
    };
    if tags_differ || dates_differ { HeadEffect::Invalidate } else { HeadEffect::Update }
}

/// The fields of a 304 made here, of those of the stored response (RFC 9110 §15.4.5): what a 200 would have said to caches, and no
/// metadata of the content.
#[must_use]
pub fn not_modified_headers(stored: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(stored.len());
    for (name, value) in stored {
        if !CONTENT_METADATA.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Fields that a 304 leaves out.
pub const CONTENT_METADATA: [HeaderName; 8] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    header::TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, headers, start, stored_at};

    fn validators(response: &str) -> Validators {
        Validators::of(&headers(response))
    }

    #[test]
    fn section_8_8_3_2_comparison() {
        #[rustfmt::skip]
        let cases = [
            // ETag        other       strongly  weakly
            ("\"1\"",      "\"1\"",    true,     true),
            ("W/\"1\"",    "W/\"1\"",  false,    true),
            ("W/\"1\"",    "\"1\"",    false,    true),
            ("\"1\"",      "W/\"1\"",  false,    true),
            ("\"1\"",      "\"2\"",    false,    false),
            ("W/\"1\"",    "W/\"2\"",  false,    false),
            ("abc",        "abc",      false,    true),
            ("abc",        "\"abc\"",  false,    false),
            ("w/\"1\"",    "\"1\"",    false,    false),
            ("\"",         "\"",       false,    true),
            ("\"a\"b\"",   "\"a\"b\"", false,    true),
        ];
        for (tag, other, strongly, weakly) in cases {
            let tag = EntityTag::of(&headers(&format!("etag: {tag}"))).unwrap();
            assert_eq!(tag.matches_strongly(other.as_bytes()), strongly, "{tag:?} {other}");
            assert_eq!(tag.matches_weakly(other.as_bytes()), weakly, "{tag:?} {other}");
        }
        assert_eq!(EntityTag::of(&headers("etag: ")), None);
        assert_eq!(EntityTag::of(&headers("etag: \"a\" | etag: \"b\"")), None);
    }

    #[test]
    fn section_8_8_2_2_a_date_is_strong_when_it_is_old_enough() {
        assert!(validators("date: @+0 | last-modified: @-60").strong_last_modified().is_some());
        assert!(validators("date: @+0 | last-modified: @-59").strong_last_modified().is_none());
        assert!(validators("last-modified: @-60").strong_last_modified().is_none());
        let same = |a: &str, b: &str| validators(a).is_same_strong(&validators(b));
        assert!(same("etag: \"a\"", "etag: \"a\" | last-modified: @-1"));
        assert!(!same("etag: W/\"a\"", "etag: W/\"a\""));
        assert!(!same("etag: \"a\" | date: @+0 | last-modified: @-99", "date: @+0 | last-modified: @-99"));
        assert!(same("date: @+0 | last-modified: @-99", "date: @+5 | last-modified: @-99"));
        assert!(!same("date: @+0 | last-modified: @-99", "date: @+5 | last-modified: @-98"));
        assert!(!same("", ""));
        assert_eq!(validators("etag: \"a\"").if_range().unwrap(), "\"a\"");
        assert_eq!(validators("etag: W/\"a\" | date: @+0 | last-modified: @-99").if_range(), None);
        assert!(validators("date: @+0 | last-modified: @-99").if_range().is_some());
    }

    #[test]
    fn section_4_3_1_asking_the_origin() {
        let of = |stored: &[&str]| {
            let stored: Vec<Validators> = stored.iter().map(|response| validators(response)).collect();
            let conditional = Conditional::for_stored(&stored);
            let text = |value: Option<HeaderValue>| value.map(|value| value.to_str().unwrap().to_owned());
            (text(conditional.if_none_match), text(conditional.if_modified_since))
        };
        let date = Some("Wed, 31 Dec 2025 23:59:00 GMT".to_owned());
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&[""]), (None, None));
        assert_eq!(of(&["etag: \"a\""]), (Some("\"a\"".into()), None));
        assert_eq!(of(&["etag: abc"]), (Some("abc".into()), None), "sent back as it came");
        assert_eq!(of(&["last-modified: @-60"]), (None, date.clone()));
        assert_eq!(of(&["last-modified: yesterday"]), (None, None));
        assert_eq!(of(&["etag: W/\"a\" | last-modified: @-60"]), (Some("W/\"a\"".into()), date));
        assert_eq!(
            of(&["etag: \"a\" | last-modified: @-60", "last-modified: @-90", "etag: \"b\""]),
            (Some("\"a\", \"b\"".into()), None),
            "several variants are asked about by their tags alone"
        );
        assert_eq!(of(&["last-modified: @-60", "last-modified: @-90"]), (None, None));
        let long: Vec<String> = (0..99).map(|at| format!("etag: \"{at:>090}\"")).collect();
        let (tags, _) = of(&long.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(tags.unwrap().len() <= IF_NONE_MATCH_MAX + 200);

        let mut request = headers("if-match: \"x\" | if-none-match: \"y\" | if-range: \"z\" | accept: */*");
        Conditional::for_stored(&[validators("etag: \"a\"")]).apply(&mut request);
        assert_eq!(request, headers("accept: */* | if-none-match: \"a\""));
    }

    #[test]
    fn section_13_2_2_precedence() {
        use Precondition::{NotModified, PreconditionFailed, Proceed};
        const STORED: &str = "etag: \"a\" | last-modified: @-60 | date: @-5";
        #[rustfmt::skip]
        let cases = [
            // what                                          stored                   request                                                        expected
            ("no condition",                                 STORED,                  "",                                                            Proceed),
            ("the tag",                                      STORED,                  "if-none-match: \"a\"",                                        NotModified),
            ("the tag, weak",                                STORED,                  "if-none-match: W/\"a\"",                                      NotModified),
            ("a weak stored tag",                            "etag: W/\"a\"",         "if-none-match: W/\"a\"",                                      NotModified),
            ("any",                                          STORED,                  "if-none-match: *",                                            NotModified),
            ("any, of one without a tag",                    "",                      "if-none-match: *",                                            NotModified),
            ("the first of several",                         STORED,                  "if-none-match: \"a\", \"b\", \"c\"",                          NotModified),
            ("the middle one",                               STORED,                  "if-none-match: \"b\",\"a\" ,\"c\"",                           NotModified),
            ("the last one, on another line",                STORED,                  "if-none-match: \"b\" | if-none-match: \"a\"",                 NotModified),
            ("a comma within a tag",                         "etag: \"a,b\"",         "if-none-match: \"x\", \"a,b\"",                               NotModified),
            ("half of such a tag",                           "etag: \"a,b\"",         "if-none-match: \"a\", b\"",                                   Proceed),
            ("another tag",                                  STORED,                  "if-none-match: \"b\"",                                        Proceed),
            ("another tag, unquoted",                        STORED,                  "if-none-match: a",                                            Proceed),
            ("obs-text",                                     "etag: \"\u{fc}\"",      "if-none-match: \"\u{fc}\"",                                   NotModified),
            ("a tag goes before a date",                     STORED,                  "if-none-match: \"a\" | if-modified-since: @-9999",            NotModified),
            ("another tag too",                              STORED,                  "if-none-match: \"b\" | if-modified-since: @+0",               Proceed),
            ("the date",                                     STORED,                  "if-modified-since: @-60",                                     NotModified),
            ("a later date",                                 STORED,                  "if-modified-since: @-30",                                     NotModified),
            ("an earlier date",                              STORED,                  "if-modified-since: @-61",                                     Proceed),
            ("no date",                                      STORED,                  "if-modified-since: foo",                                      Proceed),
            ("two dates",                                    STORED,                  "if-modified-since: @-60 | if-modified-since: @-60",           Proceed),
            ("without Last-Modified, Date counts",           "date: @-5",             "if-modified-since: @-5",                                      NotModified),
            ("an earlier date then",                         "date: @-5",             "if-modified-since: @-6",                                      Proceed),
            ("without both, the receipt counts",             "",                      "if-modified-since: @+0",                                      NotModified),
            ("an earlier date then",                         "",                      "if-modified-since: @-1",                                      Proceed),
            ("If-Match holds",                               STORED,                  "if-match: \"b\", \"a\"",                                      Proceed),
            ("If-Match compares strongly",                   STORED,                  "if-match: W/\"a\"",                                           PreconditionFailed),
            ("If-Match does not hold",                       STORED,                  "if-match: \"b\"",                                             PreconditionFailed),
            ("If-Match any",                                 "",                      "if-match: *",                                                 Proceed),
            ("If-Match goes before its date",                STORED,                  "if-match: \"a\" | if-unmodified-since: @-9999",               Proceed),
            ("unmodified",                                   STORED,                  "if-unmodified-since: @-60",                                   Proceed),
            ("modified",                                     STORED,                  "if-unmodified-since: @-61",                                   PreconditionFailed),
            ("both hold: then If-None-Match is asked",       STORED,                  "if-match: \"a\" | if-none-match: \"a\"",                      NotModified),
            ("If-Match fails first",                         STORED,                  "if-match: \"b\" | if-none-match: \"a\"",                      PreconditionFailed),
        ];
        let now = start();
        for (what, stored, request, expected) in cases {
            let terms = stored_at(now, "cache-control: max-age=60");
            let found =
                evaluate(&Method::GET, &headers(request), StatusCode::OK, &validators(stored), &terms);
            assert_eq!(found, expected, "{what}");
        }
        let terms = stored_at(now, "cache-control: max-age=60");
        let request = headers("if-none-match: \"a\"");
        let found = |method, status| evaluate(&method, &request, status, &validators(STORED), &terms);
        assert_eq!(found(Method::HEAD, StatusCode::OK), NotModified);
        assert_eq!(found(Method::PUT, StatusCode::OK), PreconditionFailed);
        assert_eq!(
            found(Method::GET, StatusCode::NOT_FOUND),
            Proceed,
            "§13.2.1: only where it would be a 2xx"
        );
        let dated = headers("if-modified-since: @+0");
        let put = evaluate(&Method::PUT, &dated, StatusCode::OK, &validators(STORED), &terms);
        assert_eq!(put, Proceed, "§13.1.3: If-Modified-Since is for GET and HEAD");
    }

    #[test]
    fn section_4_3_4_which_stored_response_a_304_is_about() {
        use Selected::{None, Stored};
        #[rustfmt::skip]
        let cases: [(&str, &[&str], &str, Selected); 13] = [
            // what                                            stored                                             304                                        selects
            ("the one with its strong tag",                    &["etag: \"a\"", "etag: \"b\""],                   "etag: \"b\"",                             Stored(1)),
            ("the most recent of several",                     &["etag: \"b\"", "etag: \"b\""],                   "etag: \"b\"",                             Stored(0)),
            ("a strong tag that matches none",                 &["etag: \"a\""],                                  "etag: \"c\"",                             None),
            ("a strong tag does not match a weak one",         &["etag: W/\"a\""],                                "etag: \"a\"",                             None),
            ("a weak tag matches a strong one",                &["etag: \"a\""],                                  "etag: W/\"a\"",                           Stored(0)),
            ("a weak tag that matches none",                   &["etag: W/\"a\""],                                "etag: W/\"c\"",                           None),
            ("an unquoted tag, sent back as it came",          &["etag: abc"],                                    "etag: abc",                               Stored(0)),
            ("the date",                                       &["last-modified: @-9", "last-modified: @-60"],    "last-modified: @-60",                     Stored(1)),
            ("another date",                                   &["last-modified: @-9"],                           "last-modified: @-60",                     None),
            ("a tag goes before a date",                       &["etag: \"a\" | last-modified: @-9"],             "etag: \"b\" | last-modified: @-9",        None),
            ("no validator, and one was asked about",          &["etag: \"a\""],                                  "date: @+0",                               Stored(0)),
            ("no validator, and several were",                 &["etag: \"a\"", "etag: \"b\""],                   "date: @+0",                               None),
            ("nothing was asked about",                        &[],                                               "date: @+0",                               None),
        ];
        for (what, stored, not_modified, expected) in cases {
            let stored: Vec<Validators> = stored.iter().map(|response| validators(response)).collect();
            assert_eq!(select(&stored, &headers(not_modified)), expected, "{what}");
        }
    }

    #[test]
    fn section_3_2_updating() {
        let stored = headers(
            "date: @-99 | cache-control: max-age=2 | etag: \"a\" | content-length: 5 | content-encoding: gzip | content-md5: x \
             | content-range: x | content-type: text/plain | content-location: /foo | x-kept: 1 | x-many: 1 | x-many: 2 | x-frame-options: deny",
        );
        let new = headers(
            "date: @+0 | age: 7 | cache-control: max-age=9 | etag: \"b\" | content-length: 9 | content-encoding: br | content-md5: y \
             | content-range: y | content-type: text/plain;charset=utf-8 | content-location: /bar | x-many: 3 | x-new: 4 \
             | connection: x-hop | x-hop: 1 | proxy-authenticate: x | set-cookie: a=b",
        );
        let received = at(1);
        let merged = freshen(&stored, &new, &Policy::default(), received);
        let expected = headers(
            "date: @+0 | cache-control: max-age=9 | etag: \"a\" | content-length: 5 | content-encoding: gzip | content-md5: x \
             | content-range: x | content-type: text/plain;charset=utf-8 | content-location: /bar | x-kept: 1 | x-many: 3 \
             | x-frame-options: deny | x-new: 4 | age: 7",
        );
        assert_eq!(merged, expected);
        let store = Policy { store_set_cookie: true, ..Policy::default() };
        assert_eq!(freshen(&stored, &new, &store, received)[header::SET_COOKIE], "a=b");
        let undated = freshen(&stored, &headers(""), &Policy::default(), received);
        assert_eq!(undated[header::DATE], crate::time::http_date(received), "§4.3.4 and RFC 9110 §6.6.1");
    }

    #[test]
    fn section_4_3_5_head() {
        use HeadEffect::{Invalidate, Nothing, Update};
        #[rustfmt::skip]
        let cases = [
            // what                    HEAD                                          status   effect
            ("nothing new",            "",                                           200,     Update),
            ("the same",               "content-length: 5 | etag: \"a\" | last-modified: @-60", 200, Update),
            ("another length",         "content-length: 6",                          200,     Invalidate),
            ("another tag",            "etag: \"b\"",                                200,     Invalidate),
            ("another date",           "last-modified: @-59",                        200,     Invalidate),
            ("another status",         "etag: \"b\"",                                410,     Nothing),
        ];
        let stored = headers("etag: \"a\" | last-modified: @-60");
        for (what, head, status, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(head_effect(StatusCode::OK, &stored, 5, status, &headers(head)), expected, "{what}");
        }
        let gone = head_effect(StatusCode::GONE, &stored, 5, StatusCode::OK, &headers("etag: \"b\""));
        assert_eq!(gone, Nothing);
    }

    #[test]
    fn section_15_4_5_the_fields_of_a_304() {
        let stored = headers(
            "date: @+0 | etag: \"a\" | vary: x | cache-control: y | expires: z | content-location: /w | x-other: 1 \
             | content-length: 5 | content-type: text/plain | content-encoding: gzip | content-language: de",
        );
        let expected = headers(
            "date: @+0 | etag: \"a\" | vary: x | cache-control: y | expires: z | content-location: /w | x-other: 1",
        );
        assert_eq!(not_modified_headers(&stored), expected);
    }

    proptest! {
        #[test]
        fn conditions_never_panic(line in proptest::collection::vec(any::<u8>(), 0..100), tag in "[ -~]{0,20}") {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let request: HeaderMap = CONDITIONS.into_iter().map(|name| (name, value.clone())).collect();
                let stored = Validators::of(&headers(&format!("etag: {tag}")));
                let terms = stored_at(start(), "cache-control: max-age=60").expired(start().after(Duration::from_secs(1)));
                let _ = evaluate(&Method::GET, &request, StatusCode::OK, &stored, &terms);
                prop_assert!(Tags(&line).count() <= line.len());
            }
        }

        #[test]
        fn a_stored_tag_always_matches_itself(tag in "(W/)?\"[!#-~]{0,20}\"") {
            let stored = Validators::of(&headers(&format!("etag: {tag}")));
            let request = headers(&format!("if-none-match: \"other\", {tag}"));
            let terms = stored_at(start(), "cache-control: max-age=60");
            let found = evaluate(&Method::GET, &request, StatusCode::OK, &stored, &terms);
            prop_assert_eq!(found, Precondition::NotModified);
            prop_assert_eq!(select([&stored], &headers(&format!("etag: {tag}"))), Selected::Stored(0));
        }
    }
}
