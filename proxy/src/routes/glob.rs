//! A glob: `*` stands for any run of bytes, everything else for itself.
//!
//! There is no `?` and no `[…]`: both are common in what is matched here (queries, header values), and a pattern that silently means
//! something else than it says protects nobody.

use std::fmt;

/// A compiled glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    /// Where the only `*` stands: nearly all globs have one, and need no search.
    only_star: Option<usize>,
}

impl Glob {
    /// Every text is a glob.
    pub fn new(text: &str) -> Self {
        let only_star = text.find('*').filter(|at| text.rfind('*') == Some(*at));
        Self { text: text.into(), only_star }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds a `*` at all.
    pub fn is_literal(&self) -> bool {
        !self.text.contains('*')
    }

    /// Whether it stands for the whole of `subject`.
    pub fn matches(&self, subject: &[u8]) -> bool {
        if let Some(at) = self.only_star {
            let (before, after) = (&self.text.as_bytes()[..at], &self.text.as_bytes()[at + 1..]);
            return subject.strip_prefix(before).is_some_and(|rest| rest.ends_with(after));
        }
        glob_matches(self.text.as_bytes(), subject, |one, other| one == other)
    }

    /// As [`Self::matches`], ASCII letters of either case being equal.
    pub fn matches_ignoring_case(&self, subject: &[u8]) -> bool {
        glob_matches(self.text.as_bytes(), subject, |one, other| one.eq_ignore_ascii_case(&other))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Remembering the last `*` is enough: an earlier one can always give what a later one can. So the time is at most
/// pattern × subject, whatever the pattern.
fn glob_matches(pattern: &[u8], subject: &[u8], equal: impl Fn(u8, u8) -> bool) -> bool {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        #[rustfmt::skip]
        let cases = [
            // pattern      subject          matches
            ("",            "",              true),
            ("",            "a",             false),
            ("*",           "",              true),
            ("*",           "anything/else", true),
            ("utm_*",       "utm_source",    true),
            ("utm_*",       "utm_",          true),
            ("utm_*",       "utm",           false),
            ("*.css",       "a.css.css",     true),
            ("*.css",       "a.css.gz",      false),
            ("a*b*c",       "a-b-b-c",       true),
            ("a*b*c",       "a-c-b",         false),
            ("a?c",         "abc",           false),
            ("a?c",         "a?c",           true),
        ];
        for (pattern, subject, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(subject.as_bytes()), expected, "{pattern} on {subject}");
        }
        assert!(Glob::new("Moz*").matches_ignoring_case(b"mozilla"));
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
        fn agrees_with_the_definition(pattern in "[ab*]{0,7}", subject in "[ab]{0,9}") {
            prop_assert_eq!(
                Glob::new(&pattern).matches(subject.as_bytes()),
                by_definition(pattern.as_bytes(), subject.as_bytes())
            );
        }
    }
}
