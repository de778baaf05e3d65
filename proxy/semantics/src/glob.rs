//! Patterns with `*` for names: query parameters, cookies, tags.

use std::fmt;
use std::str::FromStr;

/// A pattern in which `*` stands for any characters, also none. Case counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern; any text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Glob {
        Glob(pattern.into())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no `*`, so that it matches itself alone.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it matches `text` as a whole. Takes time in proportion to the product of the lengths at worst.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                // Let the last star take one more character.
                _ => match &mut retry {
                    Some((star, from)) => {
                        *from += 1;
                        (p, t) = (*star + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
    fn stars_stand_for_anything() {
        #[rustfmt::skip]
        let cases = [
            ("utm_*",  "utm_source", true),
            ("utm_*",  "utm_",       true),
            ("utm_*",  "utm",        false),
            ("gclid",  "gclid",      true),
            ("gclid",  "gclid2",     false),
            ("gclid",  "GCLID",      false),
            ("*",      "",           true),
            ("",       "",           true),
            ("",       "a",          false),
            ("*a*b*",  "xxaxxbxx",   true),
            ("*a*b*",  "xxbxxaxx",   false),
            ("a*a",    "a",          false),
            ("a*a",    "aa",         true),
            ("*ab",    "aab",        true),
            ("**",     "x",          true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert!(Glob::new("a").is_literal() && !Glob::new("a*").is_literal());
        assert_eq!("utm_*".parse::<Glob>().unwrap().to_string(), "utm_*");
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            fn matches(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => {
                        matches(rest, text) || (!text.is_empty() && matches(pattern, &text[1..]))
                    }
                    ([a, pattern @ ..], [b, text @ ..]) => a == b && matches(pattern, text),
                    _ => false,
                }
            }
            prop_assert_eq!(Glob::new(&pattern).matches(&text), matches(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
