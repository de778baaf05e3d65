//! Path patterns, and the ways in which a path may be read.
//!
//! A path reaches the origin byte for byte as the client wrote it, so a route must not be dodged by writing the same path
//! otherwise: servers differ in whether they decode `%2f`, fold `//`, resolve `..`, take `\` for `/` or cut `;parameters`. Weir cannot
//! know which of them the origin does. So `Readings` yields every one of them, and a request is taken only if all of them select the
//! same route (`routes.rs` asks). Plain paths, nearly all, have one reading and cost one scan.

use std::fmt;

use cache_semantics::glob::Glob;

/// A compiled path pattern.
///
/// `*` is one segment or a part of one, `**` is any number of segments, `{name}` is one segment and binds it, `{name...}` binds the
/// rest. A final `/**` takes the path before it too: `/admin/**` takes `/admin`, `/admin/` and `/admin/users/7`.
#[derive(Debug, Clone)]
pub struct PathPattern {
    text: Box<str>,
    shape: Shape,
    segments: Vec<Segment>,
    ignore_case: bool,
}

/// The cheap cases apart from the general one.
#[derive(Debug, Clone)]
enum Shape {
    /// `/**`
    All,
    /// No wildcard at all: the canonical bytes.
    Exact(Box<[u8]>),
    /// `/a/b/**`: the canonical bytes before the last slash.
    Under(Box<[u8]>),
    /// `/**/*.css`: what the last segment has to be.
    Last(Segment),
    /// Segment by segment.
    Segments,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// Canonical bytes.
    Literal(Box<[u8]>),
    /// With `*` in it, and more than that.
    Glob(Glob),
    /// `*`, or `{name}`: one segment that is not empty.
    One(Option<Box<str>>),
    /// `**`, or `{name...}`: any number of segments.
    Rest(Option<Box<str>>),
}

/// Why a text is not a path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It must begin with a slash.
    #[error("a path pattern begins with `/`")]
    NoSlash,
    /// It holds `?` or `#`.
    #[error("`{0}` ends the path: a path pattern has no query and no fragment")]
    NotPath(char),
    /// `**` next to something else in a segment.
    #[error("`**` stands alone between slashes, as in `/a/**` or `/**/b`")]
    RestInSegment,
    /// Braces that do not pair, or stand next to something else.
    #[error("`{{name}}` is a whole segment, as in `/posts/{{id}}`")]
    Braces,
    /// Not a name.
    #[error("`{0}` is not a name: letters, digits and `_`, not beginning with a digit")]
    BadName(String),
    /// A name bound twice.
    #[error("`{{{0}}}` stands there twice")]
    Twice(String),
    /// A byte that no path holds.
    #[error("`{}` cannot stand in a path", .0.escape_default())]
    BadChar(char),
    /// Unlikely to be what was meant: such paths are matched after their dots have been resolved.
    #[error("`.` and `..` cannot be segments of a pattern")]
    Dots,
}

impl PathPattern {
    /// Compiles a pattern.
    pub fn parse(text: &str, ignore_case: bool) -> Result<Self, PatternError> {
        let Some(inner) = text.strip_prefix('/') else { return Err(PatternError::NoSlash) };
        if let Some(end) = text.chars().find(|char| matches!(char, '?' | '#')) {
            return Err(PatternError::NotPath(end));
        }
        if let Some(bad) = text.chars().find(|char| char.is_control() || *char == ' ') {
            return Err(PatternError::BadChar(bad));
        }
        let parts: Vec<&str> = inner.split('/').collect();
        let mut segments = Vec::with_capacity(parts.len());
        let mut names: Vec<&str> = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let segment = match *part {
                "**" => Segment::Rest(None),
                "*" => Segment::One(None),
                "." | ".." => return Err(PatternError::Dots),
                _ if part.contains("**") => return Err(PatternError::RestInSegment),
                _ if part.contains(['{', '}']) => {
                    let name = part
                        .strip_prefix('{')
                        .and_then(|name| name.strip_suffix('}'))
                        .ok_or(PatternError::Braces)?;
                    let (name, rest) = name.strip_suffix("...").map_or((name, false), |name| (name, true));
                    if !is_name(name) {
                        return Err(PatternError::BadName(name.to_owned()));
                    }
                    if names.contains(&name) {
                        return Err(PatternError::Twice(name.to_owned()));
                    }
                    names.push(name);
                    if rest && index + 1 < parts.len() {
                        return Err(PatternError::Braces);
                    }
                    if rest { Segment::Rest(Some(name.into())) } else { Segment::One(Some(name.into())) }
                }
                _ if part.contains('*') => {
                    let decoded = String::from_utf8(canonical(part.as_bytes()));
                    Segment::Glob(Glob::new(&decoded.map_err(|_| PatternError::BadChar('%'))?))
                }
                _ => Segment::Literal(canonical(part.as_bytes()).into()),
            };
            segments.push(segment);
        }
        let shape = Shape::of(&segments, ignore_case);
        Ok(Self { text: text.into(), shape, segments, ignore_case })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names that it binds, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::One(name) | Segment::Rest(name) => name.as_deref(),
            Segment::Literal(_) | Segment::Glob(_) => None,
        })
    }

    /// Whether it takes every path.
    pub fn takes_all(&self) -> bool {
        matches!(self.shape, Shape::All)
    }

    /// Whether it takes a path in its canonical form (see [`canonical`]); a path without `%` is in that form.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::All => true,
            Shape::Exact(exact) => path == &exact[..],
            Shape::Under(before) => {
                path.strip_prefix(&before[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            }
            Shape::Last(segment) => {
                let slash = path.iter().rposition(|byte| *byte == b'/');
                slash.is_some_and(|slash| path[0] == b'/' && self.takes(segment, &path[slash + 1..]))
            }
            Shape::Segments => self.align(path, None),
        }
    }

    /// The value of a name in a path that this pattern takes, as the client wrote it (percent-encoded, and so free of control
    /// characters). It is worked out on the spot, so nothing is paid for names that nobody asks for.
    pub fn bound<'p>(&self, name: &str, raw: &'p str) -> Option<&'p str> {
        let wanted = self.segments.iter().position(|segment| {
            matches!(segment, Segment::One(Some(known)) | Segment::Rest(Some(known)) if **known == *name)
        })?;
        let canonical = canonical(raw.as_bytes());
        let mut taken = vec![(0, 0); self.segments.len()];
        if !self.align(&canonical, Some(&mut taken)) {
            return None;
        }
        // Canonical and raw form have the same slashes, so the n-th segment of one is the n-th of the other.
        let (from, until) = taken[wanted];
        if from == until {
            return Some("");
        }
        let inner = raw.strip_prefix('/')?;
        let mut starts = std::iter::once(0).chain(inner.match_indices('/').map(|(at, _)| at + 1));
        let start = starts.nth(from)?;
        let end = inner.match_indices('/').nth(until - 1).map_or(inner.len(), |(at, _)| at);
        inner.get(start..end)
    }

    /// Matches segment by segment; `taken` receives, for each pattern segment, the range of path segments it took.
    fn align(&self, path: &[u8], mut taken: Option<&mut Vec<(usize, usize)>>) -> bool {
        let Some(inner) = path.strip_prefix(b"/") else { return false };
        let (mut at, mut number) = (0, 0);
        // Where the next path segment begins; `None` once all are taken.
        let mut next: Option<usize> = Some(0);
        // The last `**`: where to go on in the pattern, and the path position it has taken up to.
        let mut retry: Option<(usize, Option<usize>, usize)> = None;
        loop {
            let segment = self.segments.get(at);
            if let Some(Segment::Rest(_)) = segment {
                // At the end it takes what is left, be it nothing: `/a/**` takes `/a` too.
                if at + 1 == self.segments.len() {
                    if let Some(taken) = taken.as_deref_mut() {
                        let left = next.map_or(0, |from| memchr_count(b'/', &inner[from..]) + 1);
                        taken[at] = (number, number + left);
                    }
                    return true;
                }
                if let Some(taken) = taken.as_deref_mut() {
                    taken[at] = (number, number);
                }
                retry = Some((at, next, number));
                at += 1;
                continue;
            }
            let part = next.map(|from| {
                let end =
                    inner[from..].iter().position(|byte| *byte == b'/').map_or(inner.len(), |len| from + len);
                (&inner[from..end], (end < inner.len()).then_some(end + 1))
            });
            match (segment, part) {
                (None, None) => return true,
                (Some(segment), Some((part, after))) if self.takes(segment, part) => {
                    if let Some(taken) = taken.as_deref_mut() {
                        taken[at] = (number, number + 1);
                    }
                    at += 1;
                    number += 1;
                    next = after;
                    continue;
                }
                // Nothing is left of the path: giving `**` more cannot help.
                (Some(_), None) => return false,
                _ => {}
            }
            // Let the last `**` take one more segment.
            let Some((rest, Some(from), count)) = retry else { return false };
            let after = inner[from..].iter().position(|byte| *byte == b'/').map(|len| from + len + 1);
            if let Some(taken) = taken.as_deref_mut() {
                taken[rest].1 = count + 1;
            }
            retry = Some((rest, after, count + 1));
            (at, next, number) = (rest + 1, after, count + 1);
        }
    }

    fn takes(&self, segment: &Segment, part: &[u8]) -> bool {
        match segment {
            Segment::Literal(literal) if self.ignore_case => part.eq_ignore_ascii_case(literal),
            Segment::Literal(literal) => part == &literal[..],
            Segment::Glob(glob) if self.ignore_case => glob.matches_ignoring_case(part),
            Segment::Glob(glob) => glob.matches(part),
            Segment::One(_) => !part.is_empty(),
            Segment::Rest(_) => true,
        }
    }

    /// Whether every path that `other` takes is taken by this one too. It may say no where the answer is yes (`/*a` and `/*ba`), never
    /// the other way.
    pub fn covers(&self, other: &Self) -> bool {
        if other.ignore_case && !self.ignore_case && other.segments.iter().any(has_letters) {
            return false;
        }
        self.covers_from(&self.segments, &other.segments)
    }

    fn covers_from(&self, mine: &[Segment], theirs: &[Segment]) -> bool {
        match (mine.split_first(), theirs.split_first()) {
            (None, None) => true,
            (Some((Segment::Rest(_), [])), _) => true,
            (Some((Segment::Rest(_), rest)), _) => {
                // `**` may take none of theirs, or the first and perhaps more.
                self.covers_from(rest, theirs)
                    || theirs.split_first().is_some_and(|(_, tail)| self.covers_from(mine, tail))
            }
            (Some((first, rest)), Some((other, tail))) => {
                self.covers_segment(first, other) && self.covers_from(rest, tail)
            }
            _ => false,
        }
    }

    fn covers_segment(&self, mine: &Segment, theirs: &Segment) -> bool {
        match (mine, theirs) {
            (_, Segment::Rest(_)) => false,
            (Segment::One(_), Segment::Literal(literal)) => !literal.is_empty(),
            (Segment::One(_), Segment::One(_)) => true,
            (Segment::One(_), Segment::Glob(glob)) => glob.as_str().bytes().any(|byte| byte != b'*'),
            (mine, Segment::Literal(literal)) => self.takes(mine, literal),
            (mine, theirs) => mine == theirs,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.ignore_case == other.ignore_case
    }
}

impl Eq for PathPattern {}

impl Shape {
    fn of(segments: &[Segment], ignore_case: bool) -> Self {
        let (last, before) = segments.split_last().expect("splitting yields at least one part");
        if before.is_empty() && matches!(last, Segment::Rest(_)) {
            return Self::All;
        }
        if let ([Segment::Rest(_)], Segment::One(_) | Segment::Glob(_) | Segment::Literal(_)) = (before, last)
        {
            return Self::Last(last.clone());
        }
        if ignore_case {
            return Self::Segments;
        }
        let joined = |segments: &[Segment]| {
            let mut bytes = Vec::new();
            for segment in segments {
                let Segment::Literal(literal) = segment else { return None };
                bytes.push(b'/');
                bytes.extend_from_slice(literal);
            }
            Some(bytes.into_boxed_slice())
        };
        match last {
            Segment::Rest(_) => joined(before).map_or(Self::Segments, Self::Under),
            _ => joined(segments).map_or(Self::Segments, Self::Exact),
        }
    }
}

fn has_letters(segment: &Segment) -> bool {
    match segment {
        Segment::Literal(literal) => literal.iter().any(u8::is_ascii_alphabetic),
        Segment::Glob(glob) => glob.as_str().bytes().any(|byte| byte.is_ascii_alphabetic()),
        Segment::One(_) | Segment::Rest(_) => false,
    }
}

/// Whether a text can name a bound segment.
pub(crate) fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn memchr_count(byte: u8, bytes: &[u8]) -> usize {
    bytes.iter().filter(|one| **one == byte).count()
}

/// What is left of a path below `prefix`: nothing, or what begins with `/`. Compared as patterns compare paths, so that a letter written as a
/// percent triple makes no difference. `/api/x` without `/api` is `/x`; `/apix` does not lie below it.
pub fn strip_prefix<'p>(raw: &'p str, prefix: &str) -> Option<&'p str> {
    let prefix = prefix.trim_end_matches('/');
    if let Some(rest) = raw.strip_prefix(prefix) {
        return (rest.is_empty() || rest.starts_with('/')).then_some(rest);
    }
    // Canonical and raw form have the same slashes.
    let end = raw.match_indices('/').nth(prefix.matches('/').count()).map_or(raw.len(), |(at, _)| at);
    let (head, rest) = raw.split_at(end);
    let is_written_otherwise = head.contains('%') || prefix.contains('%');
    (is_written_otherwise && canonical(head.as_bytes()) == canonical(prefix.as_bytes())).then_some(rest)
}

/// The path with every percent triple decoded but `%2F` and `%25`, which are written in capitals: two paths have the same canonical form
/// exactly if they decode to the same segments.
pub fn canonical(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        match triple(rest) {
            Some(value @ (b'/' | b'%')) => {
                out.extend_from_slice(if value == b'/' { b"%2F" } else { b"%25" });
                rest = &rest[3..];
            }
            Some(value) => {
                out.push(value);
                rest = &rest[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// The byte that a percent triple at the front stands for.
pub(crate) fn triple(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// What servers disagree about, as far as it occurs in a path.
mod oddity {
    /// `.` and `..` as segments.
    pub(super) const DOTS: u8 = 1;
    /// `%2e` in such segments.
    pub(super) const ENCODED_DOTS: u8 = 2;
    /// `//`.
    pub(super) const EMPTY: u8 = 4;
    /// `%2f`.
    pub(super) const SLASH: u8 = 8;
    /// `\` or `%5c`.
    pub(super) const BACKSLASH: u8 = 16;
    /// `;parameters`.
    pub(super) const PARAMETERS: u8 = 32;
    /// `%25`, which may be decoded twice.
    pub(super) const TWICE: u8 = 64;
    /// `%00`, which ends a string in C.
    pub(super) const NUL: u8 = 128;
}

/// What a byte may mean in a path, so that nearly every path is seen to be plain in one pass without a branch.
mod class {
    /// `%`
    pub(super) const PERCENT: u8 = 1;
    /// What is odd by itself: a backslash, a semicolon.
    pub(super) const ODD: u8 = 2;
    /// `/`
    pub(super) const SLASH: u8 = 4;
    /// What is odd behind a slash: another one, a dot.
    pub(super) const AFTER_SLASH: u8 = SLASH << 1;

    /// By byte.
    pub(super) static CLASSES: [u8; 256] = {
        let mut classes = [0; 256];
        classes[b'%' as usize] = PERCENT;
        classes[b'\\' as usize] = ODD;
        classes[b';' as usize] = ODD;
        classes[b'/' as usize] = SLASH | AFTER_SLASH;
        classes[b'.' as usize] = AFTER_SLASH;
        classes
    };
}

/// More kinds of oddity in one path than this, and it is nobody's honest link: refused, which bounds the readings at sixteen.
const ODDITIES_MAX: u32 = 4;

/// All the ways to read a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readings {
    /// One, and it is the raw path.
    Plain,
    /// One, but percent triples have to be decoded first.
    Encoded,
    /// Several: bits of `oddity`.
    Several(u8),
    /// More than anybody needs.
    TooMany,
}

impl Readings {
    /// Looks at a path once.
    pub(crate) fn of(path: &[u8]) -> Self {
        use class::{AFTER_SLASH, CLASSES, ODD, PERCENT};
        let (mut seen, mut pairs, mut previous) = (0, 0, 0);
        for &byte in path {
            let class = CLASSES[usize::from(byte)];
            seen |= class;
            // `SLASH` is the bit below `AFTER_SLASH`.
            pairs |= (previous << 1) & class;
            previous = class;
        }
        let percent = seen & PERCENT != 0;
        let odd = seen & ODD != 0 || pairs & AFTER_SLASH != 0;
        if !percent && !odd {
            return Self::Plain;
        }
        if !odd && !path.windows(3).any(is_odd_triple) {
            return Self::Encoded;
        }
        match oddities(path) {
            0 if percent => Self::Encoded,
            0 => Self::Plain,
            found if found.count_ones() > ODDITIES_MAX => Self::TooMany,
            found => Self::Several(found),
        }
    }

    /// Every reading but the first, which is [`canonical`].
    pub(crate) fn others(self, path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let present = if let Self::Several(present) = self { present } else { 0 };
        // All non-empty subsets of the bits that are present.
        (1..=u8::MAX).filter(move |set| set & !present == 0).map(move |set| read(path, set))
    }
}

/// Whether a percent triple stands for something that servers disagree about.
fn is_odd_triple(bytes: &[u8]) -> bool {
    bytes[0] == b'%' && matches!(triple(bytes), Some(0 | b'/' | b'\\' | b'.' | b'%'))
}

fn oddities(path: &[u8]) -> u8 {
    use oddity::{BACKSLASH, DOTS, EMPTY, ENCODED_DOTS, NUL, PARAMETERS, SLASH, TWICE};
    // What a second decoding brings to light counts as well.
    let once = without_encoded_percent(path);
    let mut found = if once == path { 0 } else { TWICE };
    let mut encoded_dot = false;
    let mut rest = &once[..];
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, triple(rest)) {
            (_, Some(b'/')) => found |= SLASH,
            (_, Some(b'\\')) | (b'\\', _) => found |= BACKSLASH,
            (_, Some(b'.')) => encoded_dot = true,
            (_, Some(0)) => found |= NUL,
            (b';', _) => found |= PARAMETERS,
            _ => {}
        }
        rest = tail;
    }
    // Dots and empty segments matter as soon as some reading has them.
    for loosest in [read(path, found), read(path, found & !PARAMETERS)] {
        if loosest.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
            found |= if encoded_dot { DOTS | ENCODED_DOTS } else { DOTS };
        }
        if loosest.windows(2).any(|pair| pair == b"//") {
            found |= EMPTY;
        }
    }
    found
}

/// `%25` decoded, and nothing else.
fn without_encoded_percent(path: &[u8]) -> Vec<u8> {
    replace_triples(path, |value| (value == b'%').then_some(b'%'))
}

/// The path as a server with these habits reads it, in canonical form.
fn read(path: &[u8], habits: u8) -> Vec<u8> {
    use oddity::{BACKSLASH, DOTS, EMPTY, ENCODED_DOTS, NUL, PARAMETERS, SLASH, TWICE};
    let has = |habit| habits & habit != 0;
    let mut bytes = path.to_vec();
    if has(TWICE) {
        bytes = without_encoded_percent(&bytes);
    }
    if has(NUL) {
        let end = (0..bytes.len()).find(|at| triple(&bytes[*at..]) == Some(0));
        bytes.truncate(end.unwrap_or(bytes.len()));
    }
    if has(PARAMETERS) {
        let mut cutting = false;
        bytes.retain(|byte| {
            cutting = *byte == b';' || (cutting && *byte != b'/');
            !cutting
        });
    }
    if has(SLASH) {
        bytes = replace_triples(&bytes, |value| (value == b'/').then_some(b'/'));
    }
    if has(BACKSLASH) {
        bytes = replace_triples(&bytes, |value| (value == b'\\').then_some(b'/'));
        bytes.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    }
    if has(EMPTY) {
        bytes.dedup_by(|one, other| *one == b'/' && *other == b'/');
    }
    if has(ENCODED_DOTS) {
        bytes = replace_triples(&bytes, |value| (value == b'.').then_some(b'.'));
    }
    if has(DOTS) {
        bytes = without_dot_segments(&bytes);
    }
    canonical(&bytes)
}

fn replace_triples(bytes: &[u8], replacement: impl Fn(u8) -> Option<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(new) = triple(rest).and_then(&replacement) {
            out.push(new);
            rest = &rest[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b".." | b"." => {
                if segment == b".." {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text, false).expect(text)
    }

    #[test]
    fn patterns_take_what_they_say() {
        #[rustfmt::skip]
        let cases = [
            // pattern               path                    taken
            ("/",                    "/",                    true),
            ("/",                    "/a",                   false),
            ("/a",                   "/a",                   true),
            ("/a",                   "/a/",                  false),
            ("/a",                   "/A",                   false),
            ("/a/",                  "/a",                   false),
            ("/**",                  "/",                    true),
            ("/**",                  "/a/b/",                true),
            ("/api/**",              "/api",                 true),
            ("/api/**",              "/api/",                true),
            ("/api/**",              "/api/a/b",             true),
            ("/api/**",              "/apis",                false),
            ("/api/*",               "/api/a",               true),
            ("/api/*",               "/api/",                false),
            ("/api/*",               "/api/a/b",             false),
            ("/static/*.css",        "/static/a.css",        true),
            ("/static/*.css",        "/static/a/b.css",      false),
            ("/**/*.css",            "/static/a/b.css",      true),
            ("/**/*.css",            "/b.css",               true),
            ("/**/*.css",            "/b.css/c",             false),
            ("/a/**/z",              "/a/z",                 true),
            ("/a/**/z",              "/a/b/c/z",             true),
            ("/a/**/z",              "/a/z/b",               false),
            ("/a/**/z",              "/a/z/z",               true),
            ("/a/**/m/**/z",         "/a/m/m/z/z",           true),
            ("/posts/{id}",          "/posts/7",             true),
            ("/posts/{id}",          "/posts/",              false),
            ("/posts/{id}",          "/posts/7/edit",        false),
            ("/posts/{id}/**",       "/posts/7",             true),
            ("/files/{rest...}",     "/files/a/b",           true),
            ("/files/{rest...}",     "/files",               true),
            ("/caf\u{e9}",           "/caf%C3%A9",           true),
            ("/caf%c3%a9",           "/caf%C3%A9",           true),
            ("/a%2Fb",               "/a%2fb",               true),
            ("/a%2Fb",               "/a/b",                 false),
            ("/%61",                 "/a",                   true),
        ];
        for (text, path, expected) in cases {
            assert_eq!(pattern(text).matches(&canonical(path.as_bytes())), expected, "{text} on {path}");
        }
        assert!(PathPattern::parse("/Admin/**", true).unwrap().matches(b"/aDMIN/x"));
        assert!(PathPattern::parse("/*.CSS", true).unwrap().matches(b"/a.css"));
    }

    #[test]
    fn names_are_bound_as_written() {
        #[rustfmt::skip]
        let cases = [
            // pattern                  path                    name     value
            ("/posts/{id}",             "/posts/7",             "id",    Some("7")),
            ("/posts/{id}",             "/posts/caf%C3%A9",     "id",    Some("caf%C3%A9")),
            ("/posts/{id}",             "/posts/a%2fb",         "id",    Some("a%2fb")),
            ("/posts/{id}",             "/posts/7",             "other", None),
            ("/{a}/x/{b}",              "/1/x/2",               "b",     Some("2")),
            ("/files/{rest...}",        "/files/a/b",           "rest",  Some("a/b")),
            ("/files/{rest...}",        "/files/",              "rest",  Some("")),
            ("/files/{rest...}",        "/files",               "rest",  Some("")),
            ("/**/v/{id}",              "/a/v/b/v/9",           "id",    Some("9")),
        ];
        for (text, path, name, value) in cases {
            assert_eq!(pattern(text).bound(name, path), value, "{name} of {text} on {path}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_told() {
        #[rustfmt::skip]
        let cases = [
            ("api",         PatternError::NoSlash),
            ("",            PatternError::NoSlash),
            ("/a?b",        PatternError::NotPath('?')),
            ("/a**",        PatternError::RestInSegment),
            ("/{a",         PatternError::Braces),
            ("/x{a}",       PatternError::Braces),
            ("/{a...}/b",   PatternError::Braces),
            ("/{}",         PatternError::BadName(String::new())),
            ("/{1a}",       PatternError::BadName("1a".into())),
            ("/{a}/{a}",    PatternError::Twice("a".into())),
            ("/a b",        PatternError::BadChar(' ')),
            ("/a/../b",     PatternError::Dots),
        ];
        for (text, expected) in cases {
            assert_eq!(PathPattern::parse(text, false), Err(expected), "{text}");
        }
    }

    #[test]
    fn covering_is_inclusion() {
        #[rustfmt::skip]
        let cases = [
            ("/**",        "/a/{id}",   true),
            ("/a/**",      "/a",        true),
            ("/a/**",      "/a/b/**",   true),
            ("/a/**",      "/**",       false),
            ("/a/*",       "/a/{id}",   true),
            ("/a/{id}",    "/a/b",      true),
            ("/a/{id}",    "/a/",       false),
            ("/a/*.css",   "/a/x.css",  true),
            ("/a/*.css",   "/a/*.js",   false),
            ("/**/z",      "/a/b/z",    true),
            ("/a",         "/a",        true),
            ("/a",         "/b",        false),
        ];
        for (wide, narrow, expected) in cases {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} over {narrow}");
        }
    }

    #[test]
    fn plain_paths_have_one_reading() {
        for path in ["/", "/a", "/a/b.css", "/a/", "/.well-known/x", "/a..b", "/...", "/a/.b"] {
            assert_eq!(Readings::of(path.as_bytes()), Readings::Plain, "{path}");
        }
        assert_eq!(Readings::of(b"/caf%C3%A9"), Readings::Encoded);
    }

    #[test]
    fn odd_paths_have_every_reading() {
        #[rustfmt::skip]
        let cases = [
            ("/x/../admin",              "/admin"),
            ("/x/%2e%2E/admin",          "/admin"),
            ("/./admin",                 "/admin"),
            ("//admin",                  "/admin"),
            ("/x/..%2fadmin",            "/admin"),
            ("/x%2f..%2fadmin",          "/admin"),
            ("/x%2f%2e%2e%2fadmin",      "/admin"),
            ("/x\\..\\admin",            "/admin"),
            ("/x%5c..%5Cadmin",          "/admin"),
            ("/admin;v=1",               "/admin"),
            ("/admin;v=1/users",         "/admin/users"),
            ("/x/..;/admin",             "/admin"),
            ("/x/%252e%252e/admin",      "/admin"),
            ("/%2561dmin",               "/admin"),
            ("/y/../admin/z//../..",     "/admin/"),
            ("/y/../admin/z//../..",     "/"),
            ("/%2fadmin",                "/admin"),
            ("/a/b;..%2f../admin",       "/a/admin"),
            ("/admin%00",                "/admin"),
            ("/admin%00.css",            "/admin"),
            ("/admin%2500.css",          "/admin"),
        ];
        for (path, reading) in cases {
            let readings = Readings::of(path.as_bytes());
            let all: Vec<_> =
                readings.others(path.as_bytes()).map(|path| String::from_utf8(path).unwrap()).collect();
            assert!(all.iter().any(|one| one == reading), "{path} read as {all:?}");
        }
        assert_eq!(Readings::of(b"/a;b//../%2f%5c%252e"), Readings::TooMany);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_canonical_is_stable(path in "/[a./%;02eEfF5cC\\\\{}*]{0,24}", text in "/[a./%2e{}*]{0,12}") {
            let once = canonical(path.as_bytes());
            // Triples that the first decoding has only just put together stay apart from real ones by `%25`.
            if !path.contains('%') {
                prop_assert_eq!(&canonical(&once), &once);
            }
            let readings = Readings::of(path.as_bytes());
            let _ = readings.others(path.as_bytes()).count();
            if matches!(readings, Readings::Plain | Readings::Encoded) {
                prop_assert_eq!(oddities(path.as_bytes()), 0, "the first look passes over nothing in {}", path);
            }
            if let Ok(pattern) = PathPattern::parse(&text, false) {
                let _ = pattern.matches(&once);
                for name in pattern.names() {
                    let _ = pattern.bound(name, &path);
                }
            }
        }

        /// The short cuts are what the general way says.
        #[test]
        fn every_shape_agrees_with_the_alignment(
            text in "(/(a|ab|\\*|\\*\\*|a\\*|\\*b|)){1,3}", path in "(/(a|b|ab|aab|)){1,4}"
        ) {
            let pattern = pattern(&text);
            prop_assert_eq!(pattern.matches(path.as_bytes()), pattern.align(path.as_bytes(), None), "{} on {}", text, path);
        }

        #[test]
        fn what_covers_takes_all_that_the_other_takes(
            wide in "(/(a|b|\\*|\\*\\*|a\\*)){1,3}", narrow in "(/(a|b|\\*|\\*\\*|ab)){1,3}", path in "(/(a|b|ab|)){1,4}"
        ) {
            let (wide, narrow) = (pattern(&wide), pattern(&narrow));
            if wide.covers(&narrow) && narrow.matches(path.as_bytes()) {
                prop_assert!(wide.matches(path.as_bytes()), "{} over {} on {}", wide, narrow, path);
            }
        }
    }
}
