//! Cache directives into typed fields: `Cache-Control`, `Pragma` and the targeted fields of RFC 9213.
//!
//! Sources: RFC 9111 §5.2 and §5.4, RFC 5861 (`stale-*`), RFC 8246 (`immutable`), RFC 9213 (`CDN-Cache-Control`, `Weir-Cache-Control`).
//! Reading is strict where a mistake could share too much: among repeated directives the strictest counts, an invalid lifetime is a
//! lifetime of zero, a directive that restricts counts however its argument looks, one that permits only when it is well formed.
//! What follows from the directives is decided elsewhere (`storable`, `freshness`, `reuse`).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::time::{DELTA_SECONDS_MAX, parse_delta_seconds};

/// Speaks to Weir alone and goes before all others (RFC 9213 §2.2).
pub const WEIR_CACHE_CONTROL: HeaderName = HeaderName::from_static("weir-cache-control");
/// Speaks to caches that act for the origin, as this one does (RFC 9213 §3).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Which field the directives of a response were taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field {
    /// None was present.
    #[default]
    None,
    /// `Cache-Control`; `Expires` still counts where it gives no lifetime.
    CacheControl,
    /// A targeted field: `Cache-Control` and `Expires` say nothing to us (RFC 9213 §2.2).
    Targeted,
}

/// `no-cache` and `private` speak of the whole response or of some of its fields (RFC 9111 §5.2.2.4, §5.2.2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is absent.
    #[default]
    Absent,
    /// Only of the fields named.
    Fields(Vec<HeaderName>),
    /// Of the response as a whole.
    Whole,
}

impl Scope {
    /// Whether the directive speaks of the whole response.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Scope::Whole
    }

    /// The fields it names; none if it is absent or speaks of the whole.
    #[must_use]
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Scope::Fields(fields) => fields,
            Scope::Absent | Scope::Whole => &[],
        }
    }

    fn tighten(&mut self, other: Scope) {
        *self = match (std::mem::take(self), other) {
            (Scope::Whole, _) | (_, Scope::Whole) => Scope::Whole,
            (Scope::Fields(mut mine), Scope::Fields(theirs)) => {
                mine.extend(theirs);
                if mine.len() > QUALIFIED_FIELDS_MAX { Scope::Whole } else { Scope::Fields(mine) }
            }
            (Scope::Absent, scope) | (scope, Scope::Absent) => scope,
        };
    }
}

/// More field names than this in a qualified directive, and it is read as unqualified.
const QUALIFIED_FIELDS_MAX: usize = 64;

/// The directives of a response as a shared cache reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// Where they come from.
    pub field: Field,
    /// `max-age`; zero if it was invalid.
    pub max_age: Option<Duration>,
    /// `s-maxage`; zero if it was invalid.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
    /// `no-cache`, whole or qualified.
    pub no_cache: Scope,
    /// `private`, whole or qualified.
    pub private: Scope,
    /// `no-store`.
    pub no_store: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand` (RFC 9111 §5.2.2.3).
    pub must_understand: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
}

impl CacheControl {
    /// The directives of a response that count for us: those of `Weir-Cache-Control`, else of `CDN-Cache-Control`, else of
    /// `Cache-Control`. A targeted field that is empty or does not parse as a structured field is as good as absent (RFC 9213 §2.2).
    #[must_use]
    pub fn of_response(headers: &HeaderMap) -> CacheControl {
        for name in [WEIR_CACHE_CONTROL, CDN_CACHE_CONTROL] {
            if let Some(targeted) = parse_targeted(headers, &name) {
                return targeted;
            }
        }
        let mut parsed = CacheControl::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            parsed.field = Field::CacheControl;
            for directive in Directives::new(line.as_bytes()) {
                parsed.apply(&directive);
            }
        }
        parsed
    }

    /// Whether the origin itself, in so many words, lets a shared cache reuse the response for others: `public`, `s-maxage`
    /// (RFC 9111 §5.2.2.9, §5.2.2.10). A targeted `max-age` counts as `s-maxage`: its field speaks to shared caches only.
    #[must_use]
    pub fn is_explicitly_shared(&self) -> bool {
        self.public || self.s_maxage.is_some() || (self.field == Field::Targeted && self.max_age.is_some())
    }

    /// Whether a stale copy may not be used without validation, as the origin itself says (RFC 9111 §4.2.4); `no-cache` aside.
    ///
    /// `s-maxage` implies `proxy-revalidate` (§5.2.2.10), unless the origin gives a `stale-*` window beside it: then the explicit
    /// word counts, which is how every deployed cache reads `s-maxage=60, stale-while-revalidate=30`.
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || (self.s_maxage.is_some()
                && self.stale_while_revalidate.is_none()
                && self.stale_if_error.is_none())
    }

    fn apply(&mut self, directive: &Directive<'_>) {
        match directive.name() {
            Some(Name::MaxAge) => tighten(&mut self.max_age, directive.seconds_or_zero()),
            Some(Name::SMaxage) => tighten(&mut self.s_maxage, directive.seconds_or_zero()),
            Some(Name::StaleWhileRevalidate) => {
                tighten(&mut self.stale_while_revalidate, directive.seconds_or_zero());
            }
            Some(Name::StaleIfError) => tighten(&mut self.stale_if_error, directive.seconds_or_zero()),
            Some(Name::NoCache) => self.no_cache.tighten(directive.scope()),
            Some(Name::Private) => self.private.tighten(directive.scope()),
            Some(Name::NoStore) => self.no_store = true,
            Some(Name::MustRevalidate) => self.must_revalidate = true,
            Some(Name::ProxyRevalidate) => self.proxy_revalidate = true,
            Some(Name::NoTransform) => self.no_transform = true,
            Some(Name::Public) => self.public |= directive.is_bare(),
            Some(Name::MustUnderstand) => self.must_understand |= directive.is_bare(),
            Some(Name::Immutable) => self.immutable |= directive.is_bare(),
            // RFC 9111 §5.2.3: a cache MUST ignore unrecognized cache directives.
            Some(Name::MaxStale | Name::MinFresh | Name::OnlyIfCached) | None => {}
        }
    }
}

/// Of two values for one directive the shorter counts (RFC 9111 §4.2.1 asks for the first or for stale; shorter is never longer).
fn tighten(slot: &mut Option<Duration>, value: Duration) {
    *slot = Some(slot.map_or(value, |present| present.min(value)));
}

/// Reads one targeted field over all its lines. `None` where it is absent, empty, or not a structured dictionary.
fn parse_targeted(headers: &HeaderMap, name: &HeaderName) -> Option<CacheControl> {
    let dictionary = parse_dictionary(headers, name)?;
    if dictionary.is_empty() {
        return None;
    }
    let mut parsed = CacheControl { field: Field::Targeted, ..CacheControl::default() };
    for (key, member) in &dictionary {
        let value = match member {
            ListEntry::Item(item) => Some(&item.bare_item),
            ListEntry::InnerList(_) => None,
        };
        // `no-store=?0` takes the directive back; dictionary keys do not repeat.
        if value == Some(&BareItem::Boolean(false)) {
            continue;
        }
        let bare = value == Some(&BareItem::Boolean(true));
        let seconds = match value {
            Some(BareItem::Integer(seconds)) => match i64::from(*seconds) {
                seconds @ 0.. => u32::try_from(seconds).unwrap_or(DELTA_SECONDS_MAX).min(DELTA_SECONDS_MAX),
                _ => 0,
            },
            // RFC 9213 §2.1: values of another type are not to be consumed; an invalid lifetime is no lifetime.
            _ => 0,
        };
        let seconds = Duration::from_secs(u64::from(seconds));
        let scope = || match value {
            Some(BareItem::String(names)) => parse_field_names(names.as_str().as_bytes()),
            Some(BareItem::Token(name)) => parse_field_names(name.as_str().as_bytes()),
            _ => Scope::Whole,
        };
        match Name::of(key.as_str().as_bytes()) {
            Some(Name::MaxAge) => parsed.max_age = Some(seconds),
            Some(Name::SMaxage) => parsed.s_maxage = Some(seconds),
            Some(Name::StaleWhileRevalidate) => parsed.stale_while_revalidate = Some(seconds),
            Some(Name::StaleIfError) => parsed.stale_if_error = Some(seconds),
            Some(Name::NoCache) => parsed.no_cache = scope(),
            Some(Name::Private) => parsed.private = scope(),
            Some(Name::NoStore) => parsed.no_store = true,
            Some(Name::MustRevalidate) => parsed.must_revalidate = true,
            Some(Name::ProxyRevalidate) => parsed.proxy_revalidate = true,
            Some(Name::NoTransform) => parsed.no_transform = true,
            Some(Name::Public) => parsed.public = bare,
            Some(Name::MustUnderstand) => parsed.must_understand = bare,
            Some(Name::Immutable) => parsed.immutable = bare,
            Some(Name::MaxStale | Name::MinFresh | Name::OnlyIfCached) | None => {}
        }
    }
    Some(parsed)
}

/// All lines of a field as one structured dictionary (RFC 9651 §4.2). `None` if it is absent or does not parse.
pub(crate) fn parse_dictionary(headers: &HeaderMap, name: &HeaderName) -> Option<Dictionary> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Parser::new(first.as_bytes()).parse().ok();
    };
    let mut joined = [first.as_bytes(), second.as_bytes()].join(&b", "[..]);
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    Parser::new(&joined).parse().ok()
}

/// The directives of a request (RFC 9111 §5.2.1, RFC 5861 §4). All of them are wishes of the client; `reuse` weighs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`: no older than this.
    pub max_age: Option<Duration>,
    /// `max-stale`: stale by no more than this. Without an argument: stale by anything, [`Duration::MAX`].
    pub max_stale: Option<Duration>,
    /// `min-fresh`: fresh for at least this long.
    pub min_fresh: Option<Duration>,
    /// `stale-if-error`: stale by up to this much is better than an error.
    pub stale_if_error: Option<Duration>,
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control` (§5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `only-if-cached`: a stored response or 504.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads `Cache-Control`, or `Pragma` where there is none. Two failed look-ups where both are absent.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> RequestDirectives {
        let mut parsed = RequestDirectives::default();
        let mut lines = headers.get_all(header::CACHE_CONTROL).iter().peekable();
        if lines.peek().is_none() {
            // RFC 9111 §5.4: Pragma counts only for requests without Cache-Control.
            if let Some(pragma) = headers.get(header::PRAGMA) {
                parsed.no_cache = Directives::new(pragma.as_bytes())
                    .any(|directive| directive.name() == Some(Name::NoCache));
            }
            return parsed;
        }
        for line in lines {
            for directive in Directives::new(line.as_bytes()) {
                parsed.apply(&directive);
            }
        }
        parsed
    }

    fn apply(&mut self, directive: &Directive<'_>) {
        match directive.name() {
            Some(Name::MaxAge) => tighten(&mut self.max_age, directive.seconds_or_zero()),
            Some(Name::MinFresh) => {
                // An invalid wish is no wish; of two the more demanding counts.
                if let Some(seconds) = directive.seconds() {
                    self.min_fresh = Some(self.min_fresh.map_or(seconds, |present| present.max(seconds)));
                }
            }
            Some(Name::MaxStale) => {
                // RFC 9111 §5.2.1.2: without a value, a stale response of any age is acceptable.
                let limit = if directive.is_bare() { Duration::MAX } else { directive.seconds_or_zero() };
                tighten(&mut self.max_stale, limit);
            }
            Some(Name::StaleIfError) => tighten(&mut self.stale_if_error, directive.seconds_or_zero()),
            Some(Name::NoCache) => self.no_cache = true,
            Some(Name::NoStore) => self.no_store = true,
            Some(Name::NoTransform) => self.no_transform = true,
            Some(Name::OnlyIfCached) => self.only_if_cached = true,
            Some(
                Name::SMaxage
                | Name::StaleWhileRevalidate
                | Name::Private
                | Name::Public
                | Name::MustRevalidate
                | Name::ProxyRevalidate
                | Name::MustUnderstand
                | Name::Immutable,
            )
            | None => {}
        }
    }
}

/// The directives we know, requests' and responses'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    MaxAge,
    SMaxage,
    MaxStale,
    MinFresh,
    NoCache,
    NoStore,
    NoTransform,
    OnlyIfCached,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
    StaleWhileRevalidate,
    StaleIfError,
}

impl Name {
    fn of(name: &[u8]) -> Option<Name> {
        // The length decides first: most directives are told apart without reading them.
        let (text, found) = match (name.len(), name.first()?.to_ascii_lowercase()) {
            (6, _) => ("public", Name::Public),
            (7, b'p') => ("private", Name::Private),
            (7, _) => ("max-age", Name::MaxAge),
            (8, b's') => ("s-maxage", Name::SMaxage),
            (8, _) if name[3].eq_ignore_ascii_case(&b'c') => ("no-cache", Name::NoCache),
            (8, _) => ("no-store", Name::NoStore),
            (9, b'i') => ("immutable", Name::Immutable),
            (9, _) if name[1].eq_ignore_ascii_case(&b'a') => ("max-stale", Name::MaxStale),
            (9, _) => ("min-fresh", Name::MinFresh),
            (12, _) => ("no-transform", Name::NoTransform),
            (14, b'o') => ("only-if-cached", Name::OnlyIfCached),
            (14, _) => ("stale-if-error", Name::StaleIfError),
            (15, _) if name[5].eq_ignore_ascii_case(&b'r') => ("must-revalidate", Name::MustRevalidate),
            (15, _) => ("must-understand", Name::MustUnderstand),
            (16, _) => ("proxy-revalidate", Name::ProxyRevalidate),
            (22, _) => ("stale-while-revalidate", Name::StaleWhileRevalidate),
            _ => return None,
        };
        name.eq_ignore_ascii_case(text.as_bytes()).then_some(found)
    }
}

/// One directive as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Directive<'a> {
    name: &'a [u8],
    argument: Argument<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument<'a> {
    None,
    Token(&'a [u8]),
    /// Between the quotes, escapes still in place.
    Quoted(&'a [u8]),
    /// Something stands there that is neither; a directive that restricts counts all the same.
    Malformed,
    /// A quote is opened and never closed; so is everything after it on the line.
    Unclosed,
}

impl Directive<'_> {
    fn name(&self) -> Option<Name> {
        Name::of(self.name)
    }

    fn is_bare(&self) -> bool {
        self.argument == Argument::None
    }

    fn seconds(&self) -> Option<Duration> {
        let digits = match self.argument {
            // RFC 9111 §5.2: recipients ought to accept both forms of an argument.
            Argument::Token(digits) | Argument::Quoted(digits) => digits,
            Argument::None | Argument::Malformed | Argument::Unclosed => return None,
        };
        parse_delta_seconds(digits).map(|seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// RFC 9111 §4.2.1: invalid freshness information means stale.
    fn seconds_or_zero(&self) -> Duration {
        self.seconds().unwrap_or_default()
    }

    fn scope(&self) -> Scope {
        match self.argument {
            Argument::Token(names) | Argument::Quoted(names) => parse_field_names(names),
            Argument::None | Argument::Malformed | Argument::Unclosed => Scope::Whole,
        }
    }
}

/// The field names of a qualified directive. Anything that is not a list of names makes it unqualified, which is stricter.
fn parse_field_names(names: &[u8]) -> Scope {
    let mut fields = Vec::new();
    for name in names.split(|byte| *byte == b',') {
        let name = name.trim_ascii();
        if name.is_empty() {
            continue;
        }
        match HeaderName::from_bytes(name) {
            Ok(name) if fields.len() < QUALIFIED_FIELDS_MAX => fields.push(name),
            _ => return Scope::Whole,
        }
    }
    if fields.is_empty() { Scope::Whole } else { Scope::Fields(fields) }
}

/// The directives of one field line: `#( token [ "=" ( token / quoted-string ) ] )` (RFC 9111 §5.2).
///
/// A semicolon also separates, for `private; max-age=0` is seen in the wild; what stands beside one counts as malformed.
pub(crate) struct Directives<'a> {
    rest: &'a [u8],
    after_semicolon: bool,
    unclosed: bool,
}

impl<'a> Directives<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Directives<'a> {
        Directives { rest: line, after_semicolon: false, unclosed: false }
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        loop {
            let start = self.rest.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
            self.rest = &self.rest[start..];
            if self.rest[0] == b';' {
                self.after_semicolon = true;
                self.rest = &self.rest[1..];
                continue;
            }
            let length = self.rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(self.rest.len());
            if length == 0 {
                // Neither a name nor a separator: whatever follows can only restrict.
                self.unclosed = true;
                self.rest = &self.rest[1..];
                continue;
            }
            let (name, rest) = self.rest.split_at(length);
            let (mut argument, rest) = parse_argument(rest);
            let before_semicolon = rest.first() == Some(&b';');
            if std::mem::take(&mut self.after_semicolon) || before_semicolon || self.unclosed {
                argument = Argument::Malformed;
            }
            self.unclosed |= argument == Argument::Unclosed;
            self.rest = rest;
            return Some(Directive { name, argument });
        }
    }
}

/// What follows a directive's name, up to the separator that ends it.
fn parse_argument(rest: &[u8]) -> (Argument<'_>, &[u8]) {
    let end_of = |from: &[u8]| from.iter().position(|byte| matches!(byte, b',' | b';')).unwrap_or(from.len());
    let Some(value) = rest.strip_prefix(b"=") else {
        let end = end_of(rest);
        let argument = if rest[..end].trim_ascii().is_empty() { Argument::None } else { Argument::Malformed };
        return (argument, &rest[end..]);
    };
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let end = end_of(value);
        let token = value[..end].trim_ascii_end();
        let well_formed = !token.is_empty() && token.iter().all(|byte| is_token_byte(*byte));
        return (if well_formed { Argument::Token(token) } else { Argument::Malformed }, &value[end..]);
    };
    let mut escaped = false;
    for (at, byte) in quoted.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let after = &quoted[at + 1..];
                let end = end_of(after);
                let clean = after[..end].trim_ascii().is_empty();
                let argument = if clean { Argument::Quoted(&quoted[..at]) } else { Argument::Malformed };
                return (argument, &after[end..]);
            }
            _ => {}
        }
    }
    // The string is never closed. What follows is read as if there were no quote, and as malformed: it can still restrict.
    (Argument::Unclosed, quoted)
}

/// A character of a token (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z')
}

/// A `Cache-Control` value for a response made here, as in `no-store`.
#[must_use]
pub fn no_store() -> HeaderValue {
    HeaderValue::from_static("no-store")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn parse(line: &str) -> CacheControl {
        CacheControl::of_response(&headers(&[("cache-control", line)]))
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn section_5_2_2_lifetimes() {
        #[rustfmt::skip]
        let cases = [
            // what                                           Cache-Control                                  max-age        s-maxage
            ("a token",                                       "max-age=3600",                                seconds(3600), None),
            ("any case",                                      "MaX-aGe=3600",                                seconds(3600), None),
            ("a quoted string",                               "max-age=\"3600\"",                            seconds(3600), None),
            ("leading zeros",                                 "max-age=003600",                              seconds(3600), None),
            ("saturates at 2^31",                             "max-age=99999999999",                         seconds(1 << 31), None),
            ("a directive not known here beside it",          "foobar, max-age=3600",                        seconds(3600), None),
            ("an argument not known here beside it",          "a=b, max-age=3600, c=\"d, e\"",               seconds(3600), None),
            ("both",                                          "max-age=1, s-maxage=3600",                    seconds(1),    seconds(3600)),
            ("empty members",                                 ", ,max-age=5,, ,",                            seconds(5),    None),
            ("within a quoted string it is none",             "extension=\"max-age=3600\", max-age=1",       seconds(1),    None),
            ("an escaped quote does not end a string",        "extension=\"a\\\"b, max-age=3600\", max-age=1", seconds(1),  None),
            ("of two the shorter",                            "max-age=1800, max-age=1",                     seconds(1),    None),
            ("of two the shorter, whichever is first",        "max-age=1, max-age=1800",                     seconds(1),    None),
            ("single quotes are no quotes",                   "max-age='3600'",                              seconds(0),    None),
            ("negative is invalid, so stale",                 "max-age=-3600",                               seconds(0),    None),
            ("a fraction is invalid",                         "max-age=3600.0",                              seconds(0),    None),
            ("letters after",                                 "max-age=3600a",                               seconds(0),    None),
            ("letters before",                                "max-age=a3600",                               seconds(0),    None),
            ("no argument",                                   "max-age",                                     seconds(0),    None),
            ("an empty argument",                             "max-age=",                                    seconds(0),    None),
            ("space before the equals sign",                  "max-age =3600",                               seconds(0),    None),
            ("space after the equals sign",                   "max-age= 3600",                               seconds(0),    None),
            ("space within",                                  "max-age=36 00",                               seconds(0),    None),
            ("something after the quotes",                    "max-age=\"3600\"x",                           seconds(0),    None),
            ("a string never closed",                         "max-age=\"3600",                              seconds(0),    None),
            ("nothing after a string never closed permits",   "x=\"y, max-age=3600",                         seconds(0),    None),
            ("a semicolon is not a comma",                    "max-age=3600; foo",                           seconds(0),    None),
            ("invalid s-maxage is stale",                     "max-age=3600, s-maxage=x",                    seconds(3600), seconds(0)),
            ("nothing said",                                  "public",                                      None,          None),
        ];
        for (what, line, max_age, s_maxage) in cases {
            let parsed = parse(line);
            assert_eq!((parsed.max_age, parsed.s_maxage), (max_age, s_maxage), "{what}: {line}");
        }
    }

    #[test]
    fn section_5_2_2_what_restricts_counts_however_it_looks() {
        for line in [
            "no-store",
            "NO-Store",
            "max-age=60, no-store",
            "no-store=1",
            "no-store=\"x\"",
            "no-store;",
            "foo; no-store",
            "no-store no-cache",
            "private; no-store",
            "x=\"y, max-age=60, no-store",
            "x=\"y, z=\"\", \"no-store",
        ] {
            assert!(parse(line).no_store, "{line}");
        }
        for line in [
            "private",
            "Private",
            "private, max-age=60",
            "private; max-age=60",
            "max-age=60;private",
            "private=",
        ] {
            assert!(parse(line).private.is_whole(), "{line}");
        }
        for line in ["no-cache", "no-cache=\"\"", "no-cache=\"a b\"", "no-cache=\"set-cookie\", no-cache"] {
            assert!(parse(line).no_cache.is_whole(), "{line}");
        }
        assert!(parse("must-revalidate=yes").must_revalidate);
        assert!(parse("proxy-revalidate;").proxy_revalidate);
        for line in ["xno-store", "no-store-x", "x=no-store", "x=\"no-store\"", "no_store"] {
            assert!(!parse(line).no_store, "{line}");
        }
    }

    #[test]
    fn section_5_2_2_what_permits_counts_only_when_well_formed() {
        assert!(parse("public").public);
        assert!(parse("immutable").immutable);
        assert!(parse("must-understand").must_understand);
        for line in ["public=1", "public=\"\"", "public; max-age=60", "x; public", "public x"] {
            assert!(!parse(line).public, "{line}");
        }
        assert!(!parse("immutable=0").immutable);
        assert!(!parse("must-understand=?").must_understand);
    }

    #[test]
    fn section_5_2_2_4_qualified_directives_name_fields() {
        let parsed = parse("no-cache=\"Set-Cookie, x-user\", private=X-Token");
        assert_eq!(
            parsed.no_cache,
            Scope::Fields(vec![header::SET_COOKIE, HeaderName::from_static("x-user")])
        );
        assert_eq!(parsed.private, Scope::Fields(vec![HeaderName::from_static("x-token")]));
        let twice = parse("no-cache=\"a\", no-cache=\"b\"");
        assert_eq!(twice.no_cache.fields().len(), 2);
        let many: String = (0..65).map(|at| format!("f{at},")).collect();
        assert!(
            parse(&format!("private=\"{many}\"")).private.is_whole(),
            "too many names count as the whole"
        );
    }

    #[test]
    fn every_line_counts() {
        let parsed = CacheControl::of_response(&headers(&[
            ("cache-control", "max-age=3600"),
            ("cache-control", "s-maxage=1"),
            ("cache-control", "no-store"),
        ]));
        assert!(parsed.no_store);
        assert_eq!((parsed.max_age, parsed.s_maxage), (seconds(3600), seconds(1)));
    }

    #[test]
    fn section_5_2_2_10_s_maxage_forbids_stale_unless_windows_are_given() {
        #[rustfmt::skip]
        let cases = [
            ("max-age=60",                                               false),
            ("max-age=60, must-revalidate",                              true),
            ("max-age=60, proxy-revalidate",                             true),
            ("s-maxage=60",                                              true),
            ("s-maxage=60, stale-while-revalidate=30",                   false),
            ("s-maxage=60, stale-if-error=30",                           false),
            ("s-maxage=60, stale-while-revalidate=30, must-revalidate",  true),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).forbids_stale(), expected, "{line}");
        }
    }

    #[test]
    fn rfc_9213_targeted_fields_replace_cache_control() {
        #[rustfmt::skip]
        let cases = [
            // what                                  response                                                                              field                 max-age             no-store
            ("ours goes first",                       "weir-cache-control: max-age=1 | cdn-cache-control: max-age=2 | cache-control: max-age=3", Field::Targeted,      seconds(1),         false),
            ("then that of CDNs",                     "cdn-cache-control: max-age=2 | cache-control: no-store",                             Field::Targeted,      seconds(2),         false),
            ("then Cache-Control",                    "cache-control: max-age=3",                                                           Field::CacheControl,  seconds(3),         false),
            ("no-store for us alone",                 "cdn-cache-control: no-store | cache-control: max-age=3",                             Field::Targeted,      None,               true),
            ("an empty one is ignored",               "cdn-cache-control:  | cache-control: max-age=3",                                     Field::CacheControl,  seconds(3),         false),
            ("one that does not parse is ignored",    "cdn-cache-control: max-age=10000, &&& | cache-control: no-store",                    Field::CacheControl,  None,               true),
            ("upper case does not parse",             "cdn-cache-control: MaX-aGe=1 | cache-control: max-age=3",                            Field::CacheControl,  seconds(3),         false),
            ("space around = does not parse",         "cdn-cache-control: max-age= 1 | cache-control: max-age=3",                           Field::CacheControl,  seconds(3),         false),
            ("words not known count as present",      "cdn-cache-control: none | cache-control: max-age=3",                                 Field::Targeted,      None,               false),
            ("parameters are ignored",                "cdn-cache-control: max-age=5;x=1",                                                   Field::Targeted,      seconds(5),         false),
            ("a string is no lifetime",               "cdn-cache-control: max-age=\"100\" | cache-control: max-age=3",                      Field::Targeted,      seconds(0),         false),
            ("a negative one neither",                "cdn-cache-control: max-age=-1",                                                      Field::Targeted,      seconds(0),         false),
            ("all lines are one dictionary",          "cdn-cache-control: max-age=99999999999 | cdn-cache-control: no-store",               Field::Targeted,      seconds(1 << 31),   true),
        ];
        for (what, response, field, max_age, no_store) in cases {
            let parsed = CacheControl::of_response(&testing::headers(response));
            assert_eq!((parsed.field, parsed.max_age, parsed.no_store), (field, max_age, no_store), "{what}");
        }
        let parsed = CacheControl::of_response(&headers(&[(
            "cdn-cache-control",
            "public, no-store=?0, private=\"x-a\", no-cache=(\"b\"), immutable, stale-if-error=9",
        )]));
        assert!(parsed.public && parsed.immutable && !parsed.no_store);
        assert_eq!(parsed.private.fields(), [HeaderName::from_static("x-a")]);
        assert!(parsed.no_cache.is_whole(), "an inner list is not understood, so it is the strict form");
        assert_eq!(parsed.stale_if_error, seconds(9));
        assert!(parsed.is_explicitly_shared());
    }

    #[test]
    fn section_5_2_1_request_directives() {
        let of = |lines: &[(&'static str, &str)]| RequestDirectives::of(&headers(lines));
        assert_eq!(of(&[]), RequestDirectives::default());
        assert_eq!(
            of(&[("cache-control", "nothing-to-see-here"), ("pragma", "no-cache")]),
            RequestDirectives::default()
        );
        assert!(of(&[("pragma", "no-cache")]).no_cache);
        assert!(of(&[("pragma", "foo, No-Cache")]).no_cache);
        assert!(!of(&[("pragma", "foo")]).no_cache);
        let all = of(&[(
            "cache-control",
            "no-cache, no-store, no-transform, only-if-cached, max-age=1, min-fresh=2, max-stale=3, stale-if-error=4",
        )]);
        assert!(all.no_cache && all.no_store && all.no_transform && all.only_if_cached);
        assert_eq!((all.max_age, all.min_fresh), (seconds(1), seconds(2)));
        assert_eq!((all.max_stale, all.stale_if_error), (seconds(3), seconds(4)));
        assert_eq!(of(&[("cache-control", "max-stale")]).max_stale, Some(Duration::MAX));
        assert_eq!(of(&[("cache-control", "max-stale=x")]).max_stale, seconds(0), "invalid: nothing stale");
        assert_eq!(of(&[("cache-control", "max-stale, max-stale=5")]).max_stale, seconds(5));
        assert_eq!(of(&[("cache-control", "max-age=x")]).max_age, seconds(0), "invalid: nothing of any age");
        assert_eq!(of(&[("cache-control", "min-fresh=x")]).min_fresh, None);
        assert_eq!(of(&[("cache-control", "min-fresh=1, min-fresh=9")]).min_fresh, seconds(9));
    }

    #[test]
    fn every_name_is_told_from_its_neighbours() {
        for name in [
            "public",
            "private",
            "max-age",
            "s-maxage",
            "no-cache",
            "no-store",
            "immutable",
            "max-stale",
            "min-fresh",
            "no-transform",
            "only-if-cached",
            "stale-if-error",
            "must-revalidate",
            "must-understand",
            "proxy-revalidate",
            "stale-while-revalidate",
        ] {
            assert!(Name::of(name.as_bytes()).is_some(), "{name}");
            assert!(Name::of(name.to_ascii_uppercase().as_bytes()).is_some(), "{name}");
            for at in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                other[at] = b'x' + u8::from(other[at] == b'x');
                assert_eq!(Name::of(&other), None, "{name} changed at {at}");
            }
        }
        assert_eq!(Name::of(b""), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_ends(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let count = Directives::new(&line).count();
            prop_assert!(count <= line.len());
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let headers: HeaderMap = [
                    (header::CACHE_CONTROL, value.clone()),
                    (CDN_CACHE_CONTROL, value),
                ].into_iter().collect();
                let _ = (CacheControl::of_response(&headers), RequestDirectives::of(&headers));
            }
        }

        #[test]
        fn what_restricts_is_found_among_anything(
            before in "[!#-~ ]{0,12}", after in "[ !#-~]{0,12}", case in any::<bool>(),
        ) {
            let name = if case { "No-Store" } else { "no-store" };
            let line = format!("{before}, {name},{after}");
            prop_assert!(parse(&line).no_store, "{}", line);
        }

        #[test]
        fn a_further_directive_never_lengthens_a_lifetime(a in 0_u32..5000, rest in "[ -~]{0,30}") {
            let alone = parse(&format!("max-age={a}")).max_age;
            let with = parse(&format!("max-age={a}, {rest}")).max_age;
            prop_assert!(with <= alone);
        }
    }
}
