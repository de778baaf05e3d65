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
