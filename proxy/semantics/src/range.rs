//! Parts of a representation (RFC 9110 §14, RFC 9111 §3.3 and §3.4): what a request asks for, what a stored response can give,
//! and how stored parts grow together.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::time::parse_http_date;
use crate::validation::Validators;

/// More ranges than this in one request, and the field is ignored: the whole is served.
pub const RANGES_MAX: usize = 5;

/// Bytes `first` to `last` of a representation, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// The position of the first byte.
    pub first: u64,
    /// The position of the last byte; not before `first`.
    pub last: u64,
}

impl ByteRange {
    /// The range from `first` to `last`; `None` if it would be empty.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Option<ByteRange> {
        (first <= last).then_some(ByteRange { first, last })
    }

    /// How many bytes it has. Saturates for the one range that has 2^64.
    #[must_use]
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether all of `other` lies within.
    #[must_use]
    pub fn contains(&self, other: &ByteRange) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// The smallest range with both, if they overlap or touch.
    #[must_use]
    pub fn joined(&self, other: &ByteRange) -> Option<ByteRange> {
        let touches =
            self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1);
        touches.then(|| ByteRange { first: self.first.min(other.first), last: self.last.max(other.last) })
    }
}

/// One member of `Range: bytes=…` (RFC 9110 §14.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-last`; `last` may lie beyond the end.
    FromTo(u64, u64),
    /// `first-`.
    From(u64),
    /// `-length`.
    Last(u64),
}

impl RangeSpec {
    /// The bytes it means of a representation of `length` bytes; `None`: it cannot be satisfied.
    #[must_use]
    pub fn resolve(self, length: u64) -> Option<ByteRange> {
        let end = length.checked_sub(1)?;
        match self {
            RangeSpec::FromTo(first, last) => {
                (first <= end).then(|| ByteRange { first, last: last.min(end) })
            }
            RangeSpec::From(first) => ByteRange::new(first, end),
            // RFC 9110 §14.1.2: a suffix longer than the representation means all of it; one of zero length nothing.
            RangeSpec::Last(0) => None,
            RangeSpec::Last(suffix) => Some(ByteRange { first: length.saturating_sub(suffix), last: end }),
        }
    }
}

/// What `Range` asks for: up to [`RANGES_MAX`] ranges of bytes. Copied freely; no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSet {
    specs: [RangeSpec; RANGES_MAX],
    count: usize,
}

impl RangeSet {
    /// Reads the `Range` of a GET request. `None`: there is none, or one that is to be ignored (RFC 9110 §14.2): another unit,
    /// not well formed, repeated, more ranges than [`RANGES_MAX`], another method.
    #[must_use]
    pub fn of(method: &Method, request: &HeaderMap) -> Option<RangeSet> {
        if *method != Method::GET {
            return None;
        }
        let mut lines = request.get_all(header::RANGE).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        RangeSet::parse(line.as_bytes())
    }

    /// Reads a value such as `bytes=0-99,-1`.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<RangeSet> {
        let value = value.trim_ascii();
        let (unit, set) = value.split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return None;
        }
        let mut parsed = RangeSet { specs: [RangeSpec::Last(0); RANGES_MAX], count: 0 };
        for member in set.split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let dash = member.iter().position(|byte| *byte == b'-')?;
            let (first, last) = (&member[..dash], &member[dash + 1..]);
            let spec = match (first.is_empty(), last.is_empty()) {
                (true, true) => return None,
                (true, false) => RangeSpec::Last(parse_position(last)?),
                (false, true) => RangeSpec::From(parse_position(first)?),
                (false, false) => {
                    let (first, last) = (parse_position(first)?, parse_position(last)?);
                    // RFC 9110 §14.1.1: an int-range with last before first is invalid.
                    if last < first {
                        return None;
                    }
                    RangeSpec::FromTo(first, last)
                }
            };
            *parsed.specs.get_mut(parsed.count)? = spec;
            parsed.count += 1;
        }
        (parsed.count > 0).then_some(parsed)
    }

    /// The ranges as they were asked for.
    #[must_use]
    pub fn specs(&self) -> &[RangeSpec] {
        &self.specs[..self.count]
    }

    /// The bytes asked for of a representation of `length` bytes: overlapping and touching ranges are one, in the order of the
    /// first of them; those that cannot be satisfied are left out. Empty: 416.
    #[must_use]
    pub fn resolve(&self, length: u64) -> Ranges {
        let mut ranges = Ranges::default();
        for range in self.specs().iter().filter_map(|spec| spec.resolve(length)) {
            ranges.add(range);
        }
        ranges
    }
}

/// Digits and nothing else; too large a number is as large as can be.
fn parse_position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

/// Up to [`RANGES_MAX`] ranges that neither overlap nor touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: [Option<ByteRange>; RANGES_MAX],
    count: usize,
}

impl Ranges {
    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.ranges[..self.count].iter().flatten().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, range: ByteRange) {
        let mut grown = range;
        let mut at = 0;
        let mut place = None;
        // What the new range touches is taken out and becomes part of it; it stands where the first of them stood.
        while at < self.count {
            match self.ranges[at].and_then(|present| present.joined(&grown)) {
                Some(joined) => {
                    grown = joined;
                    place = Some(place.map_or(at, |place: usize| place.min(at)));
                    self.ranges.copy_within(at + 1..self.count, at);
                    self.count -= 1;
                    // The grown range may touch one that was passed over.
                    at = 0;
                }
                None => at += 1,
            }
        }
        let place = place.unwrap_or(self.count).min(self.count);
        if self.count < RANGES_MAX {
            self.ranges.copy_within(place..self.count, place + 1);
            self.ranges[place] = Some(grown);
            self.count += 1;
        }
    }
}

/// How to answer a request from a stored response that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangePlan {
    /// 200 with all of it.
    Whole,
    /// 206 with one part.
    Single(ByteRange),
    /// 206 with several parts, as `multipart/byteranges`.
    Multiple(Ranges),
    /// 416.
    Unsatisfiable,
}

/// Decides how a stored response of `status` with `length` bytes answers the request (RFC 9110 §14.2, §13.1.5).
///
/// To be asked after the other preconditions (§13.2.2). Cheap where there is no `Range`: one failed look-up.
#[must_use]
pub fn plan(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    validators: &Validators,
    length: u64,
) -> RangePlan {
    // §14.2: Range is evaluated only if the result without it would be a 200.
    if status != StatusCode::OK {
        return RangePlan::Whole;
    }
    let Some(set) = RangeSet::of(method, request) else {
        return RangePlan::Whole;
    };
    if !if_range_holds(request, validators) {
        return RangePlan::Whole;
    }
    let ranges = set.resolve(length);
    let first = ranges.iter().next();
    match (ranges.len(), first) {
        (0, _) | (_, None) => RangePlan::Unsatisfiable,
        (1, Some(range)) => RangePlan::Single(range),
        _ => RangePlan::Multiple(ranges),
    }
}

/// Whether `If-Range` is absent or names the version that `validators` describe, strongly (RFC 9110 §13.1.5).
#[must_use]
pub fn if_range_holds(request: &HeaderMap, validators: &Validators) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let Some(line) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    let value = line.as_bytes().trim_ascii();
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return validators.etag.as_ref().is_some_and(|etag| etag.matches_strongly(value));
    }
    // A date counts only if it is the very Last-Modified, and that one is strong.
    match (parse_http_date(line), validators.strong_last_modified()) {
        (Some(date), Some(modified)) => date == modified,
        _ => false,
    }
}

/// `Content-Range: bytes first-last/complete` (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Which bytes.
    pub range: ByteRange,
    /// Of how many; `None`: not known (`*`).
    pub complete: Option<u64>,
}

impl ContentRange {
    /// Reads the field of a 206. `None`: absent, repeated, not of bytes, not well formed, or contradicting itself.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<ContentRange> {
        let mut lines = headers.get_all(header::CONTENT_RANGE).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        ContentRange::parse(line.as_bytes())
    }

    /// Reads a value such as `bytes 0-4/10`.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<ContentRange> {
        let value = value.trim_ascii();
        let (unit, rest) = value.split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let rest = rest.trim_ascii_start();
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        let (range, complete) = (&rest[..slash], &rest[slash + 1..]);
        let dash = range.iter().position(|byte| *byte == b'-')?;
        let range = ByteRange::new(parse_position(&range[..dash])?, parse_position(&range[dash + 1..])?)?;
        let complete = if complete == b"*" { None } else { Some(parse_position(complete)?) };
        // RFC 9110 §14.4: a complete length that is not greater than the last position is invalid; so is what we cannot count.
        if range.last == u64::MAX || complete.is_some_and(|complete| complete <= range.last) {
            return None;
        }
        Some(ContentRange { range, complete })
    }

    /// The value of the field.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        let mut text = format!("bytes {}-{}/", self.range.first, self.range.last);
        match self.complete {
            Some(complete) => _ = write!(text, "{complete}"),
            None => text.push('*'),
        }
        HeaderValue::try_from(text).expect("digits and punctuation")
    }
}

/// The value of `Content-Range` in a 416: how long the representation is (RFC 9110 §15.5.17).
#[must_use]
pub fn unsatisfied_value(length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{length}")).expect("digits and punctuation")
}

/// The framing of a `multipart/byteranges` body (RFC 9110 §14.6): what goes before each part, and after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// The value of `Content-Type`.
    pub content_type: HeaderValue,
    /// The value of `Content-Length`.
    pub content_length: u64,
    /// For each part, what precedes its bytes, and its bytes' range.
    pub parts: Vec<(Bytes, ByteRange)>,
    /// What follows the last part.
    pub end: Bytes,
}

impl Multipart {
    /// Frames `ranges` of a representation of `length` bytes. `boundary` must not appear in the content: the caller draws it at random.
    /// `None` where it is not 1 to 70 letters and digits (RFC 2046 §5.1.1).
    #[must_use]
    pub fn new(
        ranges: &Ranges,
        length: u64,
        content_type: Option<&HeaderValue>,
        boundary: &str,
    ) -> Option<Multipart> {
        if !(1..=70).contains(&boundary.len()) || !boundary.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let mut parts = Vec::with_capacity(ranges.len());
        let mut content_length = 0_u64;
        for (at, range) in ranges.iter().enumerate() {
            let mut head = Vec::with_capacity(160);
            if at > 0 {
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"--");
            head.extend_from_slice(boundary.as_bytes());
            if let Some(content_type) = content_type {
                head.extend_from_slice(b"\r\nContent-Type: ");
                head.extend_from_slice(content_type.as_bytes());
            }
            head.extend_from_slice(b"\r\nContent-Range: ");
            head.extend_from_slice(ContentRange { range, complete: Some(length) }.value().as_bytes());
            head.extend_from_slice(b"\r\n\r\n");
            content_length = content_length.saturating_add(head.len() as u64).saturating_add(range.length());
            parts.push((Bytes::from(head), range));
        }
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"))
            .expect("letters and digits");
        Some(Multipart {
            content_type,
            content_length: content_length.saturating_add(end.len() as u64),
            parts,
            end,
        })
    }
}

/// A stored part of a representation: what a 206 brought, or the beginning that an incomplete 200 did (RFC 9111 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which bytes are held.
    pub range: ByteRange,
    /// Of how many; `None`: not known.
    pub complete: Option<u64>,
}

impl Part {
    /// The part that a 206 brought of which `received` bytes arrived. Fewer than `Content-Range` says are the beginning of the range;
    /// more contradict it. `None`: nothing that may be stored. A `multipart/byteranges` is never stored.
    #[must_use]
    pub fn of(headers: &HeaderMap, received: u64) -> Option<Part> {
        let ContentRange { range, complete } = ContentRange::of(headers)?;
        if received == 0 || received > range.length() {
            return None;
        }
        let last = range.first.checked_add(received - 1)?;
        Some(Part { range: ByteRange { first: range.first, last }, complete })
    }

    /// Whether it is all of the representation, so that it may be stored as a 200.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.range.first == 0 && self.complete == Some(self.range.length())
    }

    /// The bytes that answer the request for `set` from this part alone; `None`: not all of them are held, so ask the origin
    /// (RFC 9111 §3.3: only for a range wholly within).
    ///
    /// Several ranges are not answered from a part. Where the length is not known, neither are ranges counted from the end.
    #[must_use]
    pub fn satisfy(&self, set: &RangeSet) -> Option<ByteRange> {
        let [spec] = set.specs() else {
            return None;
        };
        let range = match (self.complete, *spec) {
            (Some(complete), spec) => spec.resolve(complete)?,
            (None, RangeSpec::FromTo(first, last)) => ByteRange::new(first, last)?,
            (None, RangeSpec::From(_) | RangeSpec::Last(_)) => return None,
        };
        self.range.contains(&range).then_some(range)
    }

    /// Where `range` lies among the bytes held.
    #[must_use]
    pub fn offset_of(&self, range: &ByteRange) -> Option<u64> {
        self.range.contains(range).then(|| range.first - self.range.first)
    }

    /// What to ask the origin for to have the whole: the missing bytes if they are at one end; `None`: they are at both, or the
    /// length is not known and the beginning is missing.
    ///
    /// Only with the stored strong validator in `If-Range` ([`Validators::if_range`]): else a 206 could be of another version.
    #[must_use]
    pub fn missing(&self) -> Option<RangeSpec> {
        match (self.range.first, self.complete) {
            (0, Some(complete)) if self.range.length() >= complete => None,
            (0, _) => Some(RangeSpec::From(self.range.last + 1)),
            (first, Some(complete)) if self.range.last + 1 == complete => {
                Some(RangeSpec::FromTo(0, first - 1))
            }
            _ => None,
        }
    }

    /// How two parts grow together (RFC 9111 §3.4, RFC 9110 §15.3.7.3). `None`: they may not be combined, because they do not
    /// share a strong validator, do not touch, or disagree about the length.
    #[must_use]
    pub fn combine(
        &self,
        validators: &Validators,
        other: &Part,
        other_validators: &Validators,
    ) -> Option<Combined> {
        if !validators.is_same_strong(other_validators) {
            return None;
        }
        let complete = match (self.complete, other.complete) {
            (Some(mine), Some(theirs)) if mine != theirs => return None,
            (mine, theirs) => mine.or(theirs),
        };
        let range = self.range.joined(&other.range)?;
        if complete.is_some_and(|complete| range.last >= complete) {
            return None;
        }
        // Of the first the bytes before the other begins, of the other all, of the first what lies behind.
        let before = other.range.first.saturating_sub(self.range.first).min(self.range.length());
        let behind = self.range.last.saturating_sub(other.range.last).min(self.range.length());
        Some(Combined { part: Part { range, complete }, before, behind })
    }
}

/// How to put a stored part and a newer one together: the first `before` bytes of the stored one, all of the newer, then the last
/// `behind` bytes of the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combined {
    /// What they make.
    pub part: Part,
    /// How many bytes of the stored part come first.
    pub before: u64,
    /// How many bytes of the stored part come last.
    pub behind: u64,
}

impl RangeSpec {
    /// The value of `Range` that asks for it.
    #[must_use]
    pub fn value(self) -> HeaderValue {
        let text = match self {
            RangeSpec::FromTo(first, last) => format!("bytes={first}-{last}"),
            RangeSpec::From(first) => format!("bytes={first}-"),
            RangeSpec::Last(length) => format!("bytes=-{length}"),
        };
        HeaderValue::try_from(text).expect("digits and punctuation")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn range(first: u64, last: u64) -> ByteRange {
        ByteRange { first, last }
    }

    #[test]
    fn section_14_1_reading_ranges() {
        use RangeSpec::{From, FromTo, Last};
        #[rustfmt::skip]
        let cases: [(&str, &str, Option<&[RangeSpec]>); 21] = [
            // what                              Range                                        specs
            ("first and last",                   "bytes=0-499",                               Some(&[FromTo(0, 499)])),
            ("first",                            "bytes=9500-",                               Some(&[From(9500)])),
            ("last",                             "bytes=-500",                                Some(&[Last(500)])),
            ("several",                          "bytes=0-0, -1,5-",                          Some(&[FromTo(0, 0), Last(1), From(5)])),
            ("any case",                         "Bytes=1-2",                                 Some(&[FromTo(1, 2)])),
            ("empty members",                    "bytes=,1-2,,",                              Some(&[FromTo(1, 2)])),
            ("five",                             "bytes=0-0,2-2,4-4,6-6,8-8",                 Some(&[FromTo(0, 0), FromTo(2, 2), FromTo(4, 4), FromTo(6, 6), FromTo(8, 8)])),
            ("six are too many",                 "bytes=0-0,2-2,4-4,6-6,8-8,10-10",           None),
            ("too large is as large as can be",  "bytes=0-99999999999999999999999",           Some(&[FromTo(0, u64::MAX)])),
            ("another unit",                     "items=0-1",                                 None),
            ("no unit",                          "0-1",                                       None),
            ("last before first",                "bytes=5-4",                                 None),
            ("neither",                          "bytes=-",                                   None),
            ("no dash",                          "bytes=5",                                   None),
            ("none",                             "bytes=",                                    None),
            ("a sign",                           "bytes=+1-2",                                None),
            ("a second dash",                    "bytes=1-2-3",                               None),
            ("letters",                          "bytes=a-b",                                 None),
            ("space within",                     "bytes=1 -2",                                None),
            ("space before the equals sign",     "bytes =1-2",                                None),
            ("one bad member spoils all",        "bytes=0-1, x",                              None),
        ];
        for (what, value, expected) in cases {
            let found = RangeSet::parse(value.as_bytes());
            assert_eq!(found.as_ref().map(RangeSet::specs), expected, "{what}");
        }
        assert_eq!(RangeSet::of(&Method::HEAD, &headers("range: bytes=0-1")), None);
        assert_eq!(RangeSet::of(&Method::GET, &headers("range: bytes=0-1 | range: bytes=0-1")), None);
        assert_eq!(RangeSet::of(&Method::GET, &headers("")), None);
    }

    #[test]
    fn section_14_2_what_is_served() {
        #[rustfmt::skip]
        let cases = [
            // what                                       Range                   of   plan
            ("first and last",                            "bytes=0-1",            11,  RangePlan::Single(range(0, 1))),
            ("first",                                     "bytes=1-",             11,  RangePlan::Single(range(1, 10))),
            ("last",                                      "bytes=-1",             11,  RangePlan::Single(range(10, 10))),
            ("beyond the end",                            "bytes=5-99",           11,  RangePlan::Single(range(5, 10))),
            ("more than there is, from the end",          "bytes=-99",            11,  RangePlan::Single(range(0, 10))),
            ("all of it",                                 "bytes=0-",             11,  RangePlan::Single(range(0, 10))),
            ("begins behind the end",                     "bytes=11-",            11,  RangePlan::Unsatisfiable),
            ("nothing from the end",                      "bytes=-0",             11,  RangePlan::Unsatisfiable),
            ("of nothing",                                "bytes=0-",             0,   RangePlan::Unsatisfiable),
            ("of nothing, from the end",                  "bytes=-5",             0,   RangePlan::Unsatisfiable),
            ("one that can be satisfied among others",    "bytes=50-, 2-3, 60-",  11,  RangePlan::Single(range(2, 3))),
            ("overlapping",                               "bytes=0-5, 3-8",       11,  RangePlan::Single(range(0, 8))),
            ("touching",                                  "bytes=4-5, 0-3",       11,  RangePlan::Single(range(0, 5))),
            ("the same five times",                       "bytes=0-,0-,0-,0-,0-", 11,  RangePlan::Single(range(0, 10))),
            ("ignored",                                   "bytes=x",              11,  RangePlan::Whole),
        ];
        let none = Validators::default();
        for (what, value, length, expected) in cases {
            let request = headers(&format!("range: {value}"));
            assert_eq!(plan(&Method::GET, &request, StatusCode::OK, &none, length), expected, "{what}");
        }
        let request = headers("range: bytes=8-9, 0-1, 4-5, 1-2");
        let RangePlan::Multiple(ranges) = plan(&Method::GET, &request, StatusCode::OK, &none, 11) else {
            panic!("three parts");
        };
        let found: Vec<ByteRange> = ranges.iter().collect();
        assert_eq!(found, [range(8, 9), range(0, 2), range(4, 5)], "in the order asked for");
        let whole = plan(&Method::GET, &request, StatusCode::NOT_FOUND, &none, 11);
        assert_eq!(whole, RangePlan::Whole, "only of a 200");
    }

    #[test]
    fn section_13_1_5_if_range() {
        #[rustfmt::skip]
        let cases = [
            // what                          stored                                      If-Range                 holds
            ("absent",                       "",                                         "",                      true),
            ("the strong tag",               "etag: \"a\"",                              "if-range: \"a\"",       true),
            ("another",                      "etag: \"a\"",                              "if-range: \"b\"",       false),
            ("a weak tag never",             "etag: W/\"a\"",                            "if-range: W/\"a\"",     false),
            ("none stored",                  "",                                         "if-range: \"a\"",       false),
            ("the date, strong",             "date: @+0 | last-modified: @-60",          "if-range: @-60",        true),
            ("the date, not strong",         "date: @+0 | last-modified: @-59",          "if-range: @-59",        false),
            ("a later date is another date", "date: @+0 | last-modified: @-60",          "if-range: @-59",        false),
            ("neither tag nor date",         "etag: \"a\"",                              "if-range: a",           false),
            ("twice",                        "etag: \"a\"",                              "if-range: \"a\" | if-range: \"a\"", false),
        ];
        for (what, stored, request, holds) in cases {
            let stored = Validators::of(&headers(stored));
            assert_eq!(if_range_holds(&headers(request), &stored), holds, "{what}");
            let request = headers(&format!("range: bytes=0-1 | {request}"));
            let expected = if holds { RangePlan::Single(range(0, 1)) } else { RangePlan::Whole };
            assert_eq!(plan(&Method::GET, &request, StatusCode::OK, &stored, 9), expected, "{what}");
        }
    }

    #[test]
    fn section_14_4_content_range() {
        #[rustfmt::skip]
        let cases = [
            ("bytes 0-4/10",                          Some((0, 4, Some(10)))),
            ("bytes 4-9/10",                          Some((4, 9, Some(10)))),
            ("Bytes 0-0/*",                           Some((0, 0, None))),
            ("bytes 0-10/10",                         None),
            ("bytes 5-4/10",                          None),
            ("bytes */10",                            None),
            ("bytes 0-4",                             None),
            ("bytes 0-4/",                            None),
            ("bytes 0-4/x",                           None),
            ("bytes=0-4/10",                          None),
            ("items 0-4/10",                          None),
            ("bytes 0-18446744073709551615/*",        None),
            ("",                                      None),
        ];
        for (value, expected) in cases {
            let found = ContentRange::parse(value.as_bytes());
            let found = found.map(|found| (found.range.first, found.range.last, found.complete));
            assert_eq!(found, expected, "{value}");
        }
        assert_eq!(
            ContentRange::of(&headers("content-range: bytes 0-1/2 | content-range: bytes 0-1/2")),
            None
        );
        assert_eq!(unsatisfied_value(47), "bytes */47");
    }

    #[test]
    fn section_14_6_several_parts() {
        let set = RangeSet::parse(b"bytes=0-1,-1").unwrap();
        let content_type = HeaderValue::from_static("text/plain");
        let body = b"0123456789";
        let framed = Multipart::new(&set.resolve(10), 10, Some(&content_type), "SEP").unwrap();
        let mut out = Vec::new();
        for (head, part) in &framed.parts {
            out.extend_from_slice(head);
            let (first, last) = (usize::try_from(part.first).unwrap(), usize::try_from(part.last).unwrap());
            out.extend_from_slice(&body[first..=last]);
        }
        out.extend_from_slice(&framed.end);
        let expected = "--SEP\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
                        \r\n--SEP\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--SEP--\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(framed.content_length, expected.len() as u64);
        assert_eq!(framed.content_type, "multipart/byteranges; boundary=SEP");
        for boundary in ["", "a b", "a\r\n", &"a".repeat(71)] {
            assert_eq!(Multipart::new(&set.resolve(10), 10, None, boundary), None, "{boundary:?}");
        }
    }

    #[test]
    fn rfc_9111_section_3_3_parts() {
        let part = |content_range: &str, received| {
            Part::of(&headers(&format!("content-range: {content_range}")), received)
        };
        let held = |first, last, complete| Some(Part { range: range(first, last), complete });
        assert_eq!(part("bytes 4-9/10", 6), held(4, 9, Some(10)));
        assert_eq!(part("bytes 4-9/10", 5), held(4, 8, Some(10)), "cut short, it is what arrived");
        assert_eq!(part("bytes 4-9/10", 7), None, "more than it says");
        assert_eq!(part("bytes 4-9/10", 0), None);
        assert_eq!(part("nonsense", 5), None);
        assert!(part("bytes 0-9/10", 10).unwrap().is_whole());
        assert!(!part("bytes 0-9/10", 9).unwrap().is_whole());
        assert!(!part("bytes 0-9/*", 10).unwrap().is_whole());

        #[rustfmt::skip]
        let cases = [
            // what                                       held                        Range              served
            ("within",                                    part("bytes 4-9/10", 5),    "bytes=6-8",       Some(range(6, 8))),
            ("the very same",                             part("bytes 5-9/10", 5),    "bytes=-5",        Some(range(5, 9))),
            ("from the end",                              part("bytes 5-9/10", 5),    "bytes=-1",        Some(range(9, 9))),
            ("to the end",                                part("bytes 5-9/10", 5),    "bytes=6-",        Some(range(6, 9))),
            ("the end is missing",                        part("bytes 4-9/10", 5),    "bytes=6-",        None),
            ("the beginning is missing",                  part("bytes 4-9/10", 5),    "bytes=3-5",       None),
            ("several",                                   part("bytes 0-9/20", 10),   "bytes=0-1,3-4",   None),
            ("beyond the end of the whole",               part("bytes 5-9/10", 5),    "bytes=8-99",      Some(range(8, 9))),
            ("not satisfiable: that is for the origin",   part("bytes 5-9/10", 5),    "bytes=10-",       None),
            ("of unknown length, counted from the start", part("bytes 5-9/*", 5),     "bytes=6-8",       Some(range(6, 8))),
            ("of unknown length, to the end",             part("bytes 5-9/*", 5),     "bytes=6-",        None),
            ("of unknown length, from the end",           part("bytes 5-9/*", 5),     "bytes=-1",        None),
        ];
        for (what, part, value, expected) in cases {
            let set = RangeSet::parse(value.as_bytes()).unwrap();
            assert_eq!(part.unwrap().satisfy(&set), expected, "{what}");
        }
        assert_eq!(part("bytes 4-9/10", 6).unwrap().offset_of(&range(6, 8)), Some(2));

        assert_eq!(part("bytes 0-4/10", 5).unwrap().missing(), Some(RangeSpec::From(5)));
        assert_eq!(part("bytes 0-4/*", 5).unwrap().missing(), Some(RangeSpec::From(5)));
        assert_eq!(part("bytes 5-9/10", 5).unwrap().missing(), Some(RangeSpec::FromTo(0, 4)));
        assert_eq!(part("bytes 5-8/10", 4).unwrap().missing(), None);
        assert_eq!(part("bytes 5-9/*", 5).unwrap().missing(), None);
        assert_eq!(part("bytes 0-9/10", 10).unwrap().missing(), None);
        assert_eq!(RangeSpec::From(5).value(), "bytes=5-");
        assert_eq!(RangeSpec::FromTo(0, 4).value(), "bytes=0-4");
        assert_eq!(RangeSpec::Last(4).value(), "bytes=-4");
    }

    #[test]
    fn rfc_9111_section_3_4_combining() {
        let strong = Validators::of(&headers("etag: \"a\""));
        let weak = Validators::of(&headers("etag: W/\"a\""));
        let held = |first, last, complete| Part { range: range(first, last), complete };
        let combine = |a: Part, b: Part| a.combine(&strong, &b, &strong);
        let (start, end) = (held(0, 4, Some(10)), held(5, 9, Some(10)));
        let whole = held(0, 9, Some(10));
        assert_eq!(combine(start, end), Some(Combined { part: whole, before: 5, behind: 0 }));
        assert_eq!(combine(end, start), Some(Combined { part: whole, before: 0, behind: 5 }));
        assert_eq!(
            combine(whole, held(3, 5, Some(10))),
            Some(Combined { part: whole, before: 3, behind: 4 }),
            "the newer bytes count where both have them"
        );
        assert_eq!(combine(held(0, 4, None), end).unwrap().part, whole);
        assert_eq!(combine(start, held(6, 9, Some(10))), None, "a hole");
        assert_eq!(combine(start, held(5, 9, Some(11))), None, "another length");
        assert_eq!(start.combine(&weak, &end, &weak), None, "§3.4: only under a strong validator");
        assert_eq!(start.combine(&strong, &end, &Validators::default()), None);
        assert_eq!(combine(held(0, 4, Some(5)), held(5, 9, None)), None, "behind the end");
    }

    proptest! {
        #[test]
        fn ranges_lie_within_and_apart(value in "bytes=[0-9,-]{0,30}", length in 0_u64..50) {
            if let Some(set) = RangeSet::parse(value.as_bytes()) {
                let ranges: Vec<ByteRange> = set.resolve(length).iter().collect();
                for (at, mine) in ranges.iter().enumerate() {
                    prop_assert!(mine.first <= mine.last && mine.last < length);
                    prop_assert!(ranges[at + 1..].iter().all(|other| mine.joined(other).is_none()));
                }
                // Each byte that was asked for is served, and no other.
                for byte in 0..length {
                    let asked = set.specs().iter().filter_map(|spec| spec.resolve(length)).any(|range| range.first <= byte && byte <= range.last);
                    let served = ranges.iter().any(|range| range.first <= byte && byte <= range.last);
                    prop_assert_eq!(asked, served, "byte {}", byte);
                }
            }
        }

        #[test]
        fn content_range_round_trips(first in any::<u32>(), more in any::<u32>(), beyond in proptest::option::of(1_u64..99)) {
            let range = range(u64::from(first), u64::from(first) + u64::from(more));
            let written = ContentRange { range, complete: beyond.map(|beyond| range.last + beyond) };
            prop_assert_eq!(ContentRange::parse(written.value().as_bytes()), Some(written));
        }

        #[test]
        fn combining_puts_every_byte_where_it_belongs(
            a in 0_usize..20, a_length in 1_usize..20, b in 0_usize..20, b_length in 1_usize..20,
        ) {
            let whole: Vec<u8> = (0..64).collect();
            let strong = Validators::of(&headers("etag: \"a\""));
            let part = |first: usize, length: usize| Part {
                range: range(first as u64, (first + length - 1) as u64),
                complete: Some(64),
            };
            let (mine, theirs) = (&whole[a..a + a_length], &whole[b..b + b_length]);
            if let Some(combined) = part(a, a_length).combine(&strong, &part(b, b_length), &strong) {
                let before = usize::try_from(combined.before).unwrap();
                let behind = usize::try_from(combined.behind).unwrap();
                let bytes = [&mine[..before], theirs, &mine[mine.len() - behind..]].concat();
                let (first, last) = (combined.part.range.first, combined.part.range.last);
                prop_assert_eq!(&bytes[..], &whole[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()]);
            } else {
                prop_assert!(a + a_length < b || b + b_length < a);
            }
        }

        #[test]
        fn reading_never_panics(value in proptest::collection::vec(any::<u8>(), 0..60), length in any::<u64>()) {
            if let Some(set) = RangeSet::parse(&value) {
                let _ = set.resolve(length);
            }
            if let Some(found) = ContentRange::parse(&value) {
                let part = Part { range: found.range, complete: found.complete };
                let _ = (part.missing(), part.is_whole(), part.range.length());
            }
        }
    }
}
