//! What a request accepts: content codings and languages with their weights (RFC 9110 §12), and whether this proxy may encode a
//! response itself.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::cache_control::CacheControl;

/// A content coding that this proxy can produce, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Coding {
    /// No coding.
    Identity = 0,
    /// `gzip`, and `x-gzip` as it is also called.
    Gzip = 1,
    /// `zstd` (RFC 8878).
    Zstd = 2,
    /// `br` (RFC 7932).
    Brotli = 3,
    /// `deflate`: recognised, never produced.
    Deflate = 4,
}

impl Coding {
    /// All of them; [`Coding::Deflate`] is never produced.
    pub const ALL: [Coding; 5] =
        [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Brotli, Coding::Deflate];

    /// The name in `Content-Encoding`; `identity` is never sent there.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Deflate => "deflate",
        }
    }

    /// The value of `Content-Encoding`; `None` for identity.
    #[must_use]
    pub fn content_encoding(self) -> Option<HeaderValue> {
        (self != Coding::Identity).then(|| HeaderValue::from_static(self.name()))
    }

    /// The coding of a response; `None` if it has several, or one that is not known here.
    #[must_use]
    pub fn of_response(headers: &HeaderMap) -> Option<Coding> {
        let mut lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(line) = lines.next() else {
            return Some(Coding::Identity);
        };
        if lines.next().is_some() {
            return None;
        }
        Coding::parse(line.as_bytes().trim_ascii())
    }

    fn parse(name: &[u8]) -> Option<Coding> {
        let (text, coding) = match (name.len(), name.first()?.to_ascii_lowercase()) {
            (2, _) => ("br", Coding::Brotli),
            (4, b'g') => ("gzip", Coding::Gzip),
            (4, _) => ("zstd", Coding::Zstd),
            (6, _) => ("x-gzip", Coding::Gzip),
            (7, _) => ("deflate", Coding::Deflate),
            (8, _) => ("identity", Coding::Identity),
            _ => return None,
        };
        name.eq_ignore_ascii_case(text.as_bytes()).then_some(coding)
    }
}

/// `Accept-Encoding` as far as the codings known here go. Weights in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptEncoding {
    quality: [u16; Coding::ALL.len()],
    /// Codings not known here are acceptable too.
    others: bool,
}

impl AcceptEncoding {
    /// Reads the field over all its lines (RFC 9110 §12.5.3). Absent, it is read as "identity only": a coding is never pushed on a
    /// client that did not ask for it.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> AcceptEncoding {
        let mut listed: [Option<u16>; Coding::ALL.len()] = [None; Coding::ALL.len()];
        let mut star = None;
        let mut others = false;
        for line in headers.get_all(header::ACCEPT_ENCODING) {
            for (name, quality) in Weighted::new(line.as_bytes()) {
                if name == b"*" {
                    star = Some(quality);
                } else if let Some(coding) = Coding::parse(name) {
                    listed[coding as usize] = Some(quality);
                } else {
                    others |= quality > 0;
                }
            }
        }
        let mut quality = [0; Coding::ALL.len()];
        for coding in Coding::ALL {
            quality[coding as usize] = match (listed[coding as usize], star) {
                (Some(quality), _) | (None, Some(quality)) => quality,
                // §12.5.3: identity is acceptable unless excluded by `identity;q=0` or `*;q=0`. As the last resort, it weighs least.
                (None, None) if coding == Coding::Identity => 1,
                (None, None) => 0,
            };
        }
        AcceptEncoding { quality, others: others || star.is_some_and(|quality| quality > 0) }
    }

    /// The weight of `coding` in thousandths; zero: not acceptable.
    #[must_use]
    pub fn quality(&self, coding: Coding) -> u16 {
        self.quality[coding as usize]
    }

    /// Whether the client takes `coding`.
    #[must_use]
    pub fn accepts(&self, coding: Coding) -> bool {
        self.quality(coding) > 0
    }

    /// Whether the client likes nothing better than `coding`.
    #[must_use]
    pub fn is_best(&self, coding: Coding) -> bool {
        let quality = self.quality(coding);
        quality > 0 && self.quality.iter().all(|other| *other <= quality)
    }

    /// Whether everything the client takes was also on offer in `wider`.
    #[must_use]
    pub fn is_within(&self, wider: &AcceptEncoding) -> bool {
        (!self.others || wider.others)
            && Coding::ALL.into_iter().all(|coding| !self.accepts(coding) || wider.accepts(coding))
    }

    /// Of the codings `available` (in the order we like them), the one the client likes best; `None`: it takes none of them.
    #[must_use]
    pub fn best_of(&self, available: &[Coding]) -> Option<Coding> {
        let mut best: Option<Coding> = None;
        for coding in available.iter().copied().filter(|coding| self.accepts(*coding)) {
            if best.is_none_or(|best| self.quality(coding) > self.quality(best)) {
                best = Some(coding);
            }
        }
        best
    }
}

/// `Accept-Language` with its ranges and weights, read in place. At most 32 ranges count.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLanguage<'a> {
    ranges: [(&'a [u8], u16); LANGUAGES_MAX],
    count: usize,
}

const LANGUAGES_MAX: usize = 32;

impl<'a> AcceptLanguage<'a> {
    /// Reads the field over all its lines (RFC 9110 §12.5.4).
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> AcceptLanguage<'a> {
        let mut parsed = AcceptLanguage { ranges: [(b"", 0); LANGUAGES_MAX], count: 0 };
        for line in headers.get_all(header::ACCEPT_LANGUAGE) {
            for range in Weighted::new(line.as_bytes()) {
                if parsed.count < LANGUAGES_MAX {
                    parsed.ranges[parsed.count] = range;
                    parsed.count += 1;
                }
            }
        }
        // Heaviest first, then by name: order carries no meaning.
        parsed.ranges[..parsed.count].sort_unstable_by(|(a, a_quality), (b, b_quality)| {
            b_quality
                .cmp(a_quality)
                .then_with(|| a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase)))
        });
        parsed
    }

    fn ranges(&self) -> &[(&'a [u8], u16)] {
        &self.ranges[..self.count]
    }

    /// The weight of the language `tag` (in lower case) by basic filtering (RFC 4647 §3.3.1): that of the longest range that is a
    /// prefix of it; where that range is repeated, the least.
    #[must_use]
    pub fn quality(&self, tag: &str) -> u16 {
        let matching = self.ranges().iter().filter(|(range, _)| is_prefix(range, tag));
        matching
            .max_by_key(|(range, quality)| (range.len(), std::cmp::Reverse(*quality)))
            .map_or(0, |(_, quality)| *quality)
    }

    /// Whether the language `tag` (in lower case) is what the client likes best, and nothing else as much.
    #[must_use]
    pub fn prefers_alone(&self, tag: &str) -> bool {
        match self.ranges() {
            [(range, quality), rest @ ..] => {
                *range != b"*"
                    && *quality > 0
                    && is_prefix(range, tag)
                    && rest.first().is_none_or(|(_, next)| next < quality)
                    // A range for a part of the language, or the same again, may say less.
                    && self.quality(tag) == *quality
            }
            [] => false,
        }
    }

    pub(crate) fn visit_sorted(&self, mut visit: impl FnMut(u8) -> bool) -> bool {
        for (at, (range, quality)) in self.ranges().iter().enumerate() {
            if at > 0 && !visit(b',') {
                return false;
            }
            if !range.iter().all(|byte| visit(byte.to_ascii_lowercase())) {
                return false;
            }
            let digits = [quality / 1000, quality / 100 % 10, quality / 10 % 10, quality % 10];
            if !visit(b';') || !digits.iter().all(|digit| visit(b'0' + u8::try_from(*digit).unwrap_or(9))) {
                return false;
            }
        }
        true
    }
}

/// Whether the range `range` (any case) is `tag` (lower case) or a prefix of it that ends at a subtag; `*` is a prefix of everything.
fn is_prefix(range: &[u8], tag: &str) -> bool {
    let tag = tag.as_bytes();
    range == b"*"
        || (range.len() <= tag.len()
            && tag[..range.len()].eq_ignore_ascii_case(range)
            && tag.get(range.len()).is_none_or(|next| *next == b'-'))
}

/// The members of a list with weights: name and thousandths (RFC 9110 §12.4.2). A weight that is none counts as one.
struct Weighted<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Weighted<'a> {
    fn new(line: &'a [u8]) -> Weighted<'a> {
        Weighted { rest: Some(line) }
    }
}

impl<'a> Iterator for Weighted<'a> {
    type Item = (&'a [u8], u16);

    fn next(&mut self) -> Option<(&'a [u8], u16)> {
        loop {
            let rest = self.rest?;
            let end = rest.iter().position(|byte| *byte == b',');
            let member = &rest[..end.unwrap_or(rest.len())];
            self.rest = end.map(|end| &rest[end + 1..]);
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            let quality = parts
                .find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")))
                .map_or(1000, parse_quality);
            return Some((name, quality));
        }
    }
}

/// A weight in thousandths: `0`, `1`, up to three decimals (RFC 9110 §12.4.2). What is none counts as 1.
fn parse_quality(text: &[u8]) -> u16 {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return 1000,
    };
    let mut thousandths = u16::from(whole - b'0') * 1000;
    for (digit, unit) in decimals.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return 1000;
        }
        thousandths += u16::from(digit - b'0') * unit;
    }
    thousandths.min(1000)
}

/// Whether this proxy may give the response another content coding (RFC 9110 §7.7, RFC 9111 §5.2.2.6).
///
/// Not where the origin forbids it (`no-transform`) or has encoded already, not a part, and only media types that gain by it.
#[must_use]
pub fn may_encode(status: StatusCode, headers: &HeaderMap) -> bool {
    let has_content = !matches!(status.as_u16(), ..200 | 204 | 205 | 206 | 304);
    has_content
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !CacheControl::of_response(headers).no_transform
        && !said_no_transform(headers)
        && headers.get(header::CONTENT_TYPE).is_some_and(|value| is_compressible(value.as_bytes()))
}

/// `no-transform` binds us wherever it stands, beside a targeted field too: it protects the content, not a cache.
fn said_no_transform(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    })
}

/// Whether a media type is text of some kind, so that compressing it pays. Event streams are not touched: they must not wait for a block.
fn is_compressible(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let mut lower = [0; 96];
    let Some(lower) = lower.get_mut(..essence.len()) else {
        return false;
    };
    lower.copy_from_slice(essence);
    lower.make_ascii_lowercase();
    let Ok(essence) = std::str::from_utf8(lower) else {
        return false;
    };
    match essence.split_once('/') {
        Some(("text", "event-stream")) => false,
        Some(("text", _)) => true,
        Some(("application", subtype)) => {
            matches!(
                subtype,
                "javascript"
                    | "ecmascript"
                    | "json"
                    | "xml"
                    | "wasm"
                    | "rtf"
                    | "x-javascript"
                    | "x-ndjson"
                    | "graphql"
                    | "vnd.ms-fontobject"
                    | "x-font-ttf"
                    | "manifest+json"
                    | "sql"
            ) || subtype.ends_with("+json")
                || subtype.ends_with("+xml")
        }
        Some(("image", subtype)) => matches!(subtype, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        Some(("font", subtype)) => matches!(subtype, "ttf" | "otf" | "collection"),
        _ => false,
    }
}

/// The header section of a response after this proxy has encoded its content: `Content-Encoding`, no length, no digest of the old
/// bytes, no byte ranges, `Vary: Accept-Encoding`, and a strong `ETag` made weak, for the bytes are others now (RFC 9110 §8.8.3.3).
pub fn mark_encoded(headers: &mut HeaderMap, coding: Coding) {
    let Some(content_encoding) = coding.content_encoding() else {
        return;
    };
    headers.insert(header::CONTENT_ENCODING, content_encoding);
    for stale in ["content-length", "content-md5", "digest", "content-digest", "accept-ranges"] {
        headers.remove(stale);
    }
    vary_on_encoding(headers);
    weaken_etag(headers);
}

/// Adds `Accept-Encoding` to `Vary` where it is not there yet: every variant of an encoded response must say so, the plain one too.
pub fn vary_on_encoding(headers: &mut HeaderMap) {
    vary_on("accept-encoding", headers);
}

/// Says that others may get another answer by their cookies, where the answer does not say so itself.
pub fn vary_on_cookie(headers: &mut HeaderMap) {
    vary_on("cookie", headers);
}

fn vary_on(field: &'static str, headers: &mut HeaderMap) {
    let present = headers.get_all(header::VARY).iter().any(|line| {
        line.as_bytes().split(|byte| *byte == b',').any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(field.as_bytes())
        })
    });
    if !present {
        headers.append(header::VARY, HeaderValue::from_static(field));
    }
}

/// Makes a strong `ETag` weak.
pub fn weaken_etag(headers: &mut HeaderMap) {
    let Some(etag) = headers.get(header::ETAG) else {
        return;
    };
    if etag.as_bytes().starts_with(b"W/") {
        return;
    }
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()) {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    #[test]
    fn section_12_5_3_the_best_coding() {
        const OURS: [Coding; 4] = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Identity];
        #[rustfmt::skip]
        let cases = [
            // what                                     Accept-Encoding                             best of ours
            ("nothing said",                            None,                                       Some(Coding::Identity)),
            ("empty",                                   Some(""),                                   Some(Coding::Identity)),
            ("one",                                     Some("gzip"),                               Some(Coding::Gzip)),
            ("by another name",                         Some("X-GZIP"),                             Some(Coding::Gzip)),
            ("ours among equals",                       Some("gzip, deflate, br, zstd"),            Some(Coding::Brotli)),
            ("by weight",                               Some("br;q=0.1, zstd;q=0.2, gzip;q=0.3"),   Some(Coding::Gzip)),
            ("any",                                     Some("*"),                                  Some(Coding::Brotli)),
            ("any but",                                 Some("*, br;q=0"),                          Some(Coding::Zstd)),
            ("a coding beats none, however light",      Some("gzip;q=0.1"),                         Some(Coding::Gzip)),
            ("unless none is asked for",                Some("gzip;q=0.1, identity"),               Some(Coding::Identity)),
            ("nothing we have",                         Some("exi"),                                Some(Coding::Identity)),
            ("none of ours and not plain",              Some("exi, identity;q=0"),                  None),
            ("nothing else at all",                     Some("*;q=0"),                              None),
            ("deflate is never ours",                   Some("deflate, identity;q=0"),              None),
            ("a bad weight is none",                    Some("gzip;q=x, br;q=0.5"),                 Some(Coding::Gzip)),
            ("a weight too precise is none",            Some("gzip;q=0.1234, br;q=0.5"),            Some(Coding::Gzip)),
            ("other parameters are passed over",        Some("gzip;a=b;q=0.1, br;q=0.5"),           Some(Coding::Brotli)),
        ];
        for (what, accept, expected) in cases {
            let request =
                headers(&accept.map(|accept| format!("accept-encoding: {accept}")).unwrap_or_default());
            assert_eq!(AcceptEncoding::of(&request).best_of(&OURS), expected, "{what}");
        }
    }

    #[test]
    fn what_may_be_encoded() {
        #[rustfmt::skip]
        let cases = [
            // what                     status  response                                                                encoded
            ("text",                    200,    "content-type: text/html; charset=utf-8",                               true),
            ("any case",                200,    "content-type: Text/HTML",                                              true),
            ("JSON of some kind",       200,    "content-type: application/ld+json",                                    true),
            ("SVG",                     200,    "content-type: image/svg+xml",                                          true),
            ("an error page",           404,    "content-type: text/html",                                              true),
            ("a picture",               200,    "content-type: image/png",                                              false),
            ("an archive",              200,    "content-type: application/zip",                                        false),
            ("an event stream",         200,    "content-type: text/event-stream",                                      false),
            ("gRPC",                    200,    "content-type: application/grpc",                                       false),
            ("no type",                 200,    "",                                                                     false),
            ("no type, but long",       200,    "content-type: text/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("encoded already",         200,    "content-type: text/html | content-encoding: br",                       false),
            ("identity said",           200,    "content-type: text/html | content-encoding: identity",                 false),
            ("no-transform",            200,    "content-type: text/html | cache-control: public, No-Transform",        false),
            ("beside a targeted field", 200,    "content-type: text/html | cache-control: no-transform | cdn-cache-control: max-age=1", false),
            ("a part",                  206,    "content-type: text/html | content-range: bytes 0-1/2",                 false),
            ("no content",              204,    "content-type: text/html",                                              false),
            ("not modified",            304,    "content-type: text/html",                                              false),
        ];
        for (what, status, response, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_encode(status, &headers(response)), expected, "{what}");
        }
    }

    #[test]
    fn section_8_8_3_3_encoding_makes_other_bytes() {
        let mut response = headers(
            "content-type: text/html | content-length: 9 | etag: \"a\" | content-md5: x | accept-ranges: bytes | vary: foo",
        );
        mark_encoded(&mut response, Coding::Brotli);
        let expected = headers(
            "content-type: text/html | etag: W/\"a\" | vary: foo | vary: accept-encoding | content-encoding: br",
        );
        assert_eq!(response, expected);
        mark_encoded(&mut response, Coding::Identity);
        assert_eq!(response, expected);
        for already in ["vary: *", "vary: Accept-Encoding", "vary: foo, accept-encoding"] {
            let mut response = headers(already);
            vary_on_encoding(&mut response);
            assert_eq!(response, headers(already));
        }
    }

    #[test]
    fn languages_are_matched_by_the_longest_range() {
        let request = headers("accept-language: en;q=0.3, en-gb;q=0.8, *;q=0.1");
        let accepted = AcceptLanguage::of(&request);
        assert_eq!(accepted.quality("en-gb-oed"), 800);
        assert_eq!(accepted.quality("en-us"), 300);
        assert_eq!(accepted.quality("fr"), 100);
        assert_eq!(AcceptLanguage::of(&headers("")).quality("fr"), 0);
        let contradicting = headers("accept-language: de, de;q=0");
        assert!(!AcceptLanguage::of(&contradicting).prefers_alone("de"), "found by fuzzing");
        assert_eq!(AcceptLanguage::of(&contradicting).quality("de"), 0);
        let narrower = headers("accept-language: de, de-at;q=0.1");
        assert!(AcceptLanguage::of(&narrower).prefers_alone("de"));
        assert!(!AcceptLanguage::of(&narrower).prefers_alone("de-at"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let request: HeaderMap =
                    [(header::ACCEPT_ENCODING, value.clone()), (header::ACCEPT_LANGUAGE, value)].into_iter().collect();
                let accepted = AcceptEncoding::of(&request);
                prop_assert!(accepted.is_within(&accepted));
                if let Some(best) = accepted.best_of(&Coding::ALL) {
                    prop_assert!(accepted.accepts(best) && accepted.is_best(best));
                }
                let _ = AcceptLanguage::of(&request).quality("de");
            }
        }
    }
}
