//! The primary key: what identifies a stored response (RFC 9111 §2), built of the very bytes that are forwarded.
//!
//! Each part is a tag, a length and the bytes, so that no two different lists of parts have the same key. Nothing is decoded or
//! normalised here; what is to be normalised is normalised in the request that is forwarded.

use http::HeaderMap;

use crate::cookies::CookieRule;

/// Requests of different classes never share a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyClass {
    /// GET and HEAD.
    Get = b'G',
    /// A safe method with content that is part of the key (RFC 10008).
    Query = b'Q',
}

/// Builds a key into a buffer that is used again and again. Scheme, authority, class, path and query are always in it.
#[derive(Debug)]
pub struct KeyBuilder<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> KeyBuilder<'b> {
    /// Begins a key; what `out` holds is dropped. `authority` is the normal one ([`normal_authority`]); `path` and `query` are as forwarded.
    pub fn new(
        out: &'b mut Vec<u8>,
        class: KeyClass,
        scheme: &str,
        authority: &str,
        path: &str,
        query: Option<&str>,
    ) -> KeyBuilder<'b> {
        out.clear();
        out.reserve(40 + scheme.len() + authority.len() + path.len() + query.map_or(0, str::len));
        out.push(class as u8);
        let mut key = KeyBuilder { out };
        key.push(Tag::Scheme, scheme.as_bytes());
        key.push(Tag::Authority, authority.as_bytes());
        key.push(Tag::Path, path.as_bytes());
        if let Some(query) = query {
            key.push(Tag::Query, query.as_bytes());
        }
        key
    }

    /// Adds the declared cookies of a request: each by name and value, and those that are absent by their absence.
    pub fn cookies(&mut self, rule: &CookieRule, request: &HeaderMap) -> &mut Self {
        if rule.declares_any() {
            rule.visit_declared(request, |_, pair| self.push(Tag::Cookie, pair));
        }
        self
    }

    /// Adds a part that a plugin or a later feature names. Parts count in the order in which they are added.
    pub fn part(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.push(Tag::PartName, name.as_bytes());
        self.push(Tag::PartValue, value);
        self
    }

    fn push(&mut self, tag: Tag, bytes: &[u8]) {
        self.out.push(tag as u8);
        push_length(self.out, bytes.len());
        self.out.extend_from_slice(bytes);
    }
}

/// Seven bits to a byte, the lowest first; the last has its top bit clear.
fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or_default());
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Tag {
    Scheme = 1,
    Authority = 2,
    Path = 3,
    Query = 4,
    Cookie = 5,
    PartName = 6,
    PartValue = 7,
}

/// One part of a key, read back for `weir explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPart<'k> {
    /// What it is: `scheme`, `authority`, `path`, `query`, `cookie`, `part`, `value`.
    pub kind: &'static str,
    /// Its bytes.
    pub bytes: &'k [u8],
}

/// The parts of a key as [`KeyBuilder`] wrote them; `None` where it did not.
#[must_use]
pub fn parts(key: &[u8]) -> Option<Vec<KeyPart<'_>>> {
    let (class, mut rest) = key.split_first()?;
    if !matches!(*class, b'G' | b'Q') {
        return None;
    }
    let mut parts = Vec::new();
    while let Some((tag, tail)) = rest.split_first() {
        let kind = match tag {
            1 => "scheme",
            2 => "authority",
            3 => "path",
            4 => "query",
            5 => "cookie",
            6 => "part",
            7 => "value",
            _ => return None,
        };
        let (length, tail) = read_length(tail)?;
        let (bytes, tail) = tail.split_at_checked(length)?;
        parts.push(KeyPart { kind, bytes });
        rest = tail;
    }
    Some(parts)
}

fn read_length(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        bytes = rest;
        if byte & 0x80 == 0 {
            return Some((length, rest));
        }
    }
    None
}

/// An authority as it stands in keys: lower case, without the default port of its scheme. Borrows where it is so already.
#[must_use]
pub fn normal_authority<'a>(scheme: &str, authority: &'a str) -> std::borrow::Cow<'a, str> {
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let without_port =
        authority.strip_suffix(default_port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority);
    if without_port.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return without_port.to_ascii_lowercase().into();
    }
    without_port.into()
}
