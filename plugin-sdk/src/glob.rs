//! Patterns for names, as everywhere in Weir: `*` stands for any text, also none. Case counts.

/// Whether the pattern matches the name as a whole.
///
/// ```
/// use weir_plugin::glob;
///
/// assert!(glob::matches("utm_*", "utm_source"));
/// assert!(glob::matches("*_session", "_shop_session"));
/// assert!(!glob::matches("utm_*", "x_utm_source"));
/// ```
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut last_star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            last_star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((star, from)) = last_star {
            // The last star takes one byte more.
            last_star = Some((star, from + 1));
            (p, n) = (star + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether one of the patterns matches.
///
/// ```
/// assert!(weir_plugin::glob::any(&["_ga*", "_fbp"], "_ga_1X2Y"));
/// ```
pub fn any<T: AsRef<str>>(patterns: &[T], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_ref(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        #[rustfmt::skip]
        let cases = [
            ("", "", true), ("", "a", false), ("*", "", true), ("*", "abc", true), ("a*", "a", true), ("a*c", "abc", true),
            ("a*c", "acb", false), ("a*b*c", "a-b-b-c", true), ("**", "x", true), ("abc", "abcd", false), ("*b", "ab b", true),
            ("*aab", "aaaab", true), ("a?", "ab", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
