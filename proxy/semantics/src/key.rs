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
    /// POST, where the operator lets it be answered by its content.
    Post = b'P',
}

/// Builds a key into a buffer that is used again and again. Scheme, authority, class, path and query are always in it.
#[derive(Debug)]
pub struct KeyBuilder<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> KeyBuilder<'b> {
    /// Begins a key; what `out` holds is dropped. `authority` is the normal one ([`crate::authority::normal_authority`]); `path` and `query` are as forwarded.
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
    if !matches!(*class, b'G' | b'Q' | b'P') {
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

/// The URL in a key: what was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUrl<'k> {
    /// `http` or `https`.
    pub scheme: &'k str,
    /// Host and port, lower case, without a default port.
    pub authority: &'k str,
    /// The path.
    pub path: &'k str,
    /// The query, without `?`.
    pub query: Option<&'k str>,
}

/// Reads the URL out of a key, without an allocation; `None` where [`KeyBuilder`] did not write it.
#[must_use]
pub fn url(key: &[u8]) -> Option<KeyUrl<'_>> {
    let mut rest = key.get(1..)?;
    let mut part = |tag: Tag| {
        let (first, tail) = rest.split_first()?;
        if *first != tag as u8 {
            return None;
        }
        let (length, tail) = read_length(tail)?;
        let (bytes, tail) = tail.split_at_checked(length)?;
        rest = tail;
        std::str::from_utf8(bytes).ok()
    };
    let (scheme, authority, path) = (part(Tag::Scheme)?, part(Tag::Authority)?, part(Tag::Path)?);
    Some(KeyUrl { scheme, authority, path, query: part(Tag::Query) })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn key(
        authority: &str,
        path: &str,
        query: Option<&str>,
        cookie: &str,
        named: &[(&str, &str)],
    ) -> Vec<u8> {
        let mut out = b"left over".to_vec();
        let rule = CookieRule::declaring(["a", "b"]);
        let mut key = KeyBuilder::new(&mut out, KeyClass::Get, "https", authority, path, query);
        key.cookies(&rule, &headers(&format!("cookie: {cookie}")));
        for (name, value) in named {
            key.part(name, value.as_bytes());
        }
        out
    }

    #[test]
    fn what_differs_has_another_key() {
        let all = [
            key("e", "/", None, "", &[]),
            key("e", "/", Some(""), "", &[]),
            key("e", "/", Some("x"), "", &[]),
            key("e", "/?x", None, "", &[]),
            key("e:8443", "/", None, "", &[]),
            key("e", "//", None, "", &[]),
            key("e", "/%2f", None, "", &[]),
            key("e", "/%2F", None, "", &[]),
            key("e", "/", None, "a=1", &[]),
            key("e", "/", None, "b=1", &[]),
            key("e", "/", None, "a", &[]),
            key("e", "/", None, "a=1; b=1", &[]),
            key("e", "/", None, "a=1; a=1", &[]),
            key("e", "/", None, "", &[("a", "1")]),
            key("e", "/", None, "", &[("a", "1"), ("b", "2")]),
            key("e", "/", None, "", &[("b", "2"), ("a", "1")]),
            key("e", "/", None, "", &[("a", "1b2")]),
        ];
        for (at, mine) in all.iter().enumerate() {
            for theirs in &all[at + 1..] {
                assert_ne!(mine, theirs);
            }
        }
        let mut out = Vec::new();
        KeyBuilder::new(&mut out, KeyClass::Get, "http", "e", "/", None);
        assert_ne!(out, all[0], "another scheme");
        KeyBuilder::new(&mut out, KeyClass::Query, "https", "e", "/", None);
        assert_ne!(out, all[0], "another class");
    }

    #[test]
    fn what_is_not_declared_has_no_part_in_it() {
        assert_eq!(key("e", "/", None, "a=1; id=7", &[]), key("e", "/", None, "id=8; a=1", &[]));
        assert_eq!(
            key("e", "/", None, "b=2; a=1", &[]),
            key("e", "/", None, "a=1; b=2", &[]),
            "order of names"
        );
    }

    #[test]
    fn a_key_can_be_read_back() {
        let long = "x".repeat(300);
        let built = key("e", "/p", Some(&long), "a=1", &[("plugin", "v")]);
        let read: Vec<(&str, String)> = parts(&built)
            .unwrap()
            .iter()
            .map(|part| (part.kind, String::from_utf8(part.bytes.to_vec()).unwrap()))
            .collect();
        let expected = [
            ("scheme", "https"),
            ("authority", "e"),
            ("path", "/p"),
            ("query", &long),
            ("cookie", "a=1"),
            ("part", "plugin"),
            ("value", "v"),
        ];
        assert_eq!(read, expected.map(|(kind, bytes)| (kind, bytes.to_owned())));
        for cut in 1..40 {
            let _ = parts(&built[..cut]);
        }
        assert_eq!(parts(b"x"), None);
        assert_eq!(parts(b""), None);
        assert_eq!(parts(b"G\x01\x09short"), None);
    }

    type Request = (String, String, Option<String>, String, Vec<(String, String)>);

    fn request() -> impl Strategy<Value = Request> {
        (
            "[ab.]{1,4}",
            "/[ab/]{0,4}",
            proptest::option::of("[ab=&]{0,4}"),
            prop_oneof![
                Just(String::new()),
                Just("a=1".to_owned()),
                Just("b=1".to_owned()),
                Just("a=1; b=1".to_owned())
            ],
            proptest::collection::vec(("[ab]{0,2}", "[ab]{0,2}"), 0..3),
        )
    }

    #[test]
    fn the_url_of_a_key_is_read_without_the_rest() {
        let mut key = Vec::new();
        KeyBuilder::new(&mut key, KeyClass::Get, "http", "a.example", "/p", Some("q=1")).part("origin", b"x");
        let url = url(&key).unwrap();
        assert_eq!(
            (url.scheme, url.authority, url.path, url.query),
            ("http", "a.example", "/p", Some("q=1"))
        );
        KeyBuilder::new(&mut key, KeyClass::Get, "http", "a.example", "/p", None).part("origin", b"x");
        assert_eq!(super::url(&key).unwrap().query, None);
        assert_eq!(super::url(b"G"), None);
    }

    proptest! {
        #[test]
        fn two_requests_that_differ_never_share_a_key(mine in request(), theirs in request()) {
            let build = |request: &Request| {
                let named: Vec<(&str, &str)> = request.4.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                key(&request.0, &request.1, request.2.as_deref(), &request.3, &named)
            };
            prop_assert_eq!(build(&mine) == build(&theirs), mine == theirs);
        }

        #[test]
        fn reading_a_key_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut key = vec![b'G'];
            key.extend_from_slice(&bytes);
            let _ = parts(&key);
            let _ = url(&key);
        }
    }
}
