//! What a `Set-Cookie` line says (RFC 6265bis §5.6).

use crate::date;

/// Bytes of a name and its value together; longer ones are ignored, as browsers do (§5.6).
pub const PAIR_BYTES_MAX: usize = 4_096;
/// Bytes of an attribute's value; longer ones are ignored (§5.6).
const ATTRIBUTE_BYTES_MAX: usize = 1_024;
/// So long a cookie lives at most: 400 days (§5.5).
pub const AGE_MAX_S: u64 = 400 * 86_400;

/// With which requests from other sites a cookie goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SameSite {
    /// With all.
    None,
    /// With links only.
    Lax,
    /// With none.
    Strict,
}

impl SameSite {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Lax => "Lax",
            Self::Strict => "Strict",
        }
    }
}

/// A `Set-Cookie` line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie<'c> {
    /// Its name; it may be empty.
    pub name: &'c [u8],
    /// Its value.
    pub value: &'c [u8],
    /// Its attributes, as they stand, in their order.
    pub attributes: Vec<(&'c [u8], Option<&'c [u8]>)>,
}

impl<'c> SetCookie<'c> {
    /// Reads a line; `None`: a browser would ignore it as a whole.
    #[must_use]
    pub fn parse(line: &'c [u8]) -> Option<Self> {
        if line.iter().any(|byte| matches!(byte, 0x00..=0x08 | 0x0a..=0x1f | 0x7f)) {
            return None;
        }
        let mut pieces = line.split(|byte| *byte == b';');
        let (name, value) = match cut(pieces.next()?) {
            (value, None) => (&b""[..], value),
            (name, Some(value)) => (name, value),
        };
        let size = name.len() + value.len();
        if size == 0 || size > PAIR_BYTES_MAX {
            return None;
        }
        let attributes = pieces
            .map(cut)
            .filter(|(name, value)| {
                !name.is_empty() && value.is_none_or(|value| value.len() <= ATTRIBUTE_BYTES_MAX)
            })
            .collect();
        Some(Self { name, value, attributes })
    }

    /// The last attribute of a name whose value is usable.
    fn last<T>(&self, name: &str, read: impl Fn(Option<&'c [u8]>) -> Option<T>) -> Option<T> {
        let named =
            self.attributes.iter().rev().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        named.into_iter().find_map(|(_, value)| read(*value))
    }

    /// When it ends, in seconds since 1970; `None`: with the browser. What is not after `now_s` means that the cookie is deleted. `Max-Age` beats `Expires` (§5.7, step 3).
    #[must_use]
    pub fn ends_s(&self, now_s: u64) -> Option<u64> {
        let latest = now_s.saturating_add(AGE_MAX_S);
        let age = self.last("max-age", |value| {
            let value = value?;
            let (negative, digits) = match value.strip_prefix(b"-") {
                Some(digits) => (true, digits),
                None => (false, value),
            };
            // "-" alone has no digit, and is ignored.
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let age = digits
                .iter()
                .fold(0_u64, |age, digit| age.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
            Some(if negative { 0 } else { age })
        });
        match age {
            Some(0) => Some(0),
            Some(age) => Some(now_s.saturating_add(age).min(latest)),
            None => self.last("expires", |value| date::parse(value?)).map(|date| date.min(latest)),
        }
    }

    /// Whether it deletes the cookie.
    #[must_use]
    pub fn deletes(&self, now_s: u64) -> bool {
        self.ends_s(now_s).is_some_and(|ends_s| ends_s <= now_s)
    }

    /// Its `Domain`, without a leading dot; `None`: the host alone.
    #[must_use]
    pub fn domain(&self) -> Option<&'c [u8]> {
        let given = self.last("domain", Some)?.unwrap_or_default();
        Some(given.strip_prefix(b".").unwrap_or(given)).filter(|domain| !domain.is_empty())
    }

    /// Its `Path`; `None`: that of the request (§5.1.4).
    #[must_use]
    pub fn path(&self) -> Option<&'c [u8]> {
        self.last("path", Some)?.filter(|path| path.starts_with(b"/"))
    }

    /// Whether an attribute without a value is there: `Secure`, `HttpOnly`, `Partitioned`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.last(name, |_| Some(())).is_some()
    }

    /// Its `SameSite`; `None`: what the browser takes for one that says nothing.
    #[must_use]
    pub fn same_site(&self) -> Option<SameSite> {
        // §5.6.7: the last one counts, also where it is a word that nobody knows.
        let word = self.last("samesite", |value| Some(value.unwrap_or_default()))?;
        [SameSite::None, SameSite::Lax, SameSite::Strict]
            .into_iter()
            .find(|known| word.eq_ignore_ascii_case(known.word().as_bytes()))
    }
}

/// `name=value` or `name`, without spaces around either.
fn cut(piece: &[u8]) -> (&[u8], Option<&[u8]>) {
    match piece.iter().position(|byte| *byte == b'=') {
        Some(at) => (piece[..at].trim_ascii(), Some(piece[at + 1..].trim_ascii())),
        None => (piece.trim_ascii(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_5_6_what_a_line_says() {
        let line = b"sid = a=b ; Path=/x; path=/y;SECURE; HttpOnly; SameSite=strict; Domain=.Example.com; Expires=Thu, 01 Jan 1970 00:00:09 GMT; Max-Age=100; Partitioned";
        let cookie = SetCookie::parse(line).unwrap();
        assert_eq!((cookie.name, cookie.value), (&b"sid"[..], &b"a=b"[..]));
        assert_eq!(cookie.path(), Some(&b"/y"[..]), "the last one counts");
        assert_eq!(cookie.domain(), Some(&b"Example.com"[..]));
        assert_eq!(cookie.same_site(), Some(SameSite::Strict));
        assert!(
            cookie.has("secure")
                && cookie.has("httponly")
                && cookie.has("partitioned")
                && !cookie.has("priority")
        );
        assert_eq!(cookie.ends_s(5), Some(105), "Max-Age beats Expires");
    }

    #[test]
    fn section_5_6_when_a_cookie_ends() {
        #[rustfmt::skip]
        let cases = [
            // attributes                                                 at 1,000
            ("",                                                          None),
            ("Max-Age=60",                                                Some(1_060)),
            ("Max-Age=0",                                                 Some(0)),
            ("Max-Age=-5",                                                Some(0)),
            ("Max-Age=-",                                                 None),
            ("Max-Age=6x",                                                None),
            ("Max-Age=60; Max-Age=x",                                     Some(1_060)),
            ("Max-Age=99999999999999999999999",                           Some(1_000 + AGE_MAX_S)),
            ("Expires=Thu, 01 Jan 1970 00:00:00 GMT",                     Some(0)),
            ("Expires=Fri, 31 Dec 9999 23:59:59 GMT",                     Some(1_000 + AGE_MAX_S)),
            ("Expires=tomorrow",                                          None),
        ];
        for (attributes, expected) in cases {
            let line = format!("a=1; {attributes}");
            let cookie = SetCookie::parse(line.as_bytes()).unwrap();
            assert_eq!(cookie.ends_s(1_000), expected, "{attributes}");
            assert_eq!(cookie.deletes(1_000), expected == Some(0), "{attributes}");
        }
    }

    #[test]
    fn section_5_6_what_is_ignored() {
        let long = [b"a=".as_slice(), &[b'x'; PAIR_BYTES_MAX]].concat();
        for line in [&b""[..], b"=", b"; Path=/", b"a=\x01", &long] {
            assert_eq!(SetCookie::parse(line), None, "{:?}", String::from_utf8_lossy(line));
        }
        assert_eq!(SetCookie::parse(b"only a value").unwrap().name, b"");
        assert_eq!(SetCookie::parse(b"a=1; Path=x").unwrap().path(), None);
    }
}
