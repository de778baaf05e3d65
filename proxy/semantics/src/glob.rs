//! Patterns with `*`: for names of query parameters, cookies and tags, for hosts, paths and field values.
//!
//! There is no `?` and no `[…]`: both are common in what is matched here, and a pattern that silently means something else than it says
//! protects nobody.

use std::fmt;
use std::str::FromStr;

/// A pattern in which `*` stands for any run of bytes, also none, and everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    text: Box<str>,
    stars: Stars,
}

/// How many `*` there are: nearly all globs have none or one, and need no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stars {
    None,
    /// It stands there.
    One(usize),
    Many,
}

impl Glob {
    /// The pattern; any text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Glob {
        let stars = match (pattern.find('*'), pattern.rfind('*')) {
            (Some(first), Some(last)) if first == last => Stars::One(first),
            (Some(_), _) => Stars::Many,
            (None, _) => Stars::None,
        };
        Glob { text: pattern.into(), stars }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no `*`, so that it matches itself alone.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.stars == Stars::None
    }

    /// Whether it matches `subject` as a whole. Takes time in proportion to the product of the lengths at worst.
    #[must_use]
    pub fn matches(&self, subject: impl AsRef<[u8]>) -> bool {
        let (text, subject) = (self.text.as_bytes(), subject.as_ref());
        match self.stars {
            Stars::None => text == subject,
            Stars::One(at) => {
                subject.strip_prefix(&text[..at]).is_some_and(|rest| rest.ends_with(&text[at + 1..]))
            }
            Stars::Many => matches(text, subject, |one, other| one == other),
        }
    }

    /// As [`Self::matches`], ASCII letters of either case being equal.
    #[must_use]
    pub fn matches_ignoring_case(&self, subject: impl AsRef<[u8]>) -> bool {
        matches(self.text.as_bytes(), subject.as_ref(), |one, other| one.eq_ignore_ascii_case(&other))
    }
}

/// Several patterns, of which it matters only whether one matches. A name is compared with those that begin as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globs {
    all: Box<[Glob]>,
    /// What each begins with: a byte of text, or `*`; an empty pattern with `*` too, and then it is compared.
    begin: Box<[u8]>,
}

impl Globs {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of them matches `subject` as a whole.
    #[must_use]
    pub fn any_matches(&self, subject: impl AsRef<[u8]>) -> bool {
        let subject = subject.as_ref();
        let first = subject.first().copied().unwrap_or(b'*');
        let may = |begin: u8| begin == first || begin == b'*';
        self.begin.iter().zip(&self.all).any(|(begin, glob)| may(*begin) && glob.matches(subject))
    }
}

impl<G: Into<Glob>> FromIterator<G> for Globs {
    fn from_iter<I: IntoIterator<Item = G>>(globs: I) -> Globs {
        let all: Box<[Glob]> = globs.into_iter().map(Into::into).collect();
        let begin = all.iter().map(|glob| glob.text.bytes().next().unwrap_or(b'*')).collect();
        Globs { all, begin }
    }
}

impl From<&str> for Glob {
    fn from(pattern: &str) -> Glob {
        Glob::new(pattern)
    }
}

/// Remembering the last `*` is enough: an earlier one can always give what a later one can.
fn matches(pattern: &[u8], subject: &[u8], equal: impl Fn(u8, u8) -> bool) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while from < subject.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, from));
                at += 1;
            }
            Some(&byte) if equal(byte, subject[from]) => {
                at += 1;
                from += 1;
            }
            // Let the last star take one more byte.
            _ => {
                let Some((after_star, taken)) = retry else { return false };
                at = after_star;
                from = taken + 1;
                retry = Some((after_star, from));
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Glob {
    type Err = std::convert::Infallible;

    fn from_str(pattern: &str) -> Result<Glob, Self::Err> {
        Ok(Glob::new(pattern))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        #[rustfmt::skip]
        let cases = [
            // pattern  subject          matches
            ("",        "",              true),
            ("",        "a",             false),
            ("*",       "",              true),
            ("*",       "anything/else", true),
            ("**",      "x",             true),
            ("utm_*",   "utm_source",    true),
            ("utm_*",   "utm_",          true),
            ("utm_*",   "utm",           false),
            ("gclid",   "gclid",         true),
            ("gclid",   "gclid2",        false),
            ("gclid",   "GCLID",         false),
            ("*.css",   "a.css.css",     true),
            ("*.css",   "a.css.gz",      false),
            ("a*b*c",   "a-b-b-c",       true),
            ("a*b*c",   "a-c-b",         false),
            ("*a*b*",   "xxaxxbxx",      true),
            ("*a*b*",   "xxbxxaxx",      false),
            ("a*a",     "a",             false),
            ("a*a",     "aa",            true),
            ("*ab",     "aab",           true),
            ("a?c",     "abc",           false),
            ("a?c",     "a?c",           true),
        ];
        for (pattern, subject, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(subject), expected, "{pattern} on {subject}");
        }
        assert!(Glob::new("Moz*").matches_ignoring_case("mozilla"));
        assert!(Glob::new("a").is_literal() && !Glob::new("a*").is_literal());
        assert_eq!("utm_*".parse::<Glob>().unwrap().to_string(), "utm_*");
    }

    /// The definition itself, exponential and obvious.
    fn by_definition(pattern: &[u8], subject: &[u8]) -> bool {
        match pattern.split_first() {
            None => subject.is_empty(),
            Some((b'*', rest)) => (0..=subject.len()).any(|taken| by_definition(rest, &subject[taken..])),
            Some((byte, rest)) => {
                subject.split_first().is_some_and(|(first, tail)| first == byte && by_definition(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(pattern in "[ab*]{0,7}", subject in "[ab]{0,9}") {
            let expected = by_definition(pattern.as_bytes(), subject.as_bytes());
            prop_assert_eq!(Glob::new(&pattern).matches(&subject), expected);
            prop_assert_eq!(Glob::new(&pattern).matches_ignoring_case(subject.to_uppercase()), expected);
        }

        #[test]
        fn of_several_one_matches_where_one_of_them_does(
            patterns in proptest::collection::vec("[ab*]{0,4}", 0..5),
            subject in "[ab*]{0,4}",
        ) {
            let globs: Globs = patterns.iter().map(String::as_str).collect();
            let expected = patterns.iter().any(|pattern| Glob::new(pattern).matches(&subject));
            prop_assert_eq!((globs.is_empty(), globs.any_matches(&subject)), (patterns.is_empty(), expected));
        }
    }
}
