//! What an unsafe request makes stale (RFC 9111 §4.4), and the resolution of references that it needs (RFC 3986 §5).

use http::{HeaderMap, StatusCode, header};

use crate::authority::normal_authority;
use crate::storable::MethodClass;

/// The URI of a request, in its parts. Compared as they stand: scheme and authority are in lower case, the default port is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and, unless it is the scheme's default, port.
    pub authority: &'a str,
    /// Path and query as they are in the request target; begins with `/`.
    pub path_and_query: &'a str,
}

/// A URI that a response names, resolved. Like [`Target`], but with storage of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedTarget {
    /// `http` or `https`.
    pub scheme: String,
    /// Host and, unless it is the scheme's default, port; lower case.
    pub authority: String,
    /// Path and query; begins with `/`.
    pub path_and_query: String,
}

impl ResolvedTarget {
    /// The same, borrowed.
    #[must_use]
    pub fn as_target(&self) -> Target<'_> {
        Target { scheme: &self.scheme, authority: &self.authority, path_and_query: &self.path_and_query }
    }
}

impl<'a> Target<'a> {
    /// Whether both have the same origin: scheme, host and port (RFC 9110 §4.3.1).
    #[must_use]
    pub fn is_same_origin(&self, other: &Target<'_>) -> bool {
        self.scheme == other.scheme && self.authority == other.authority
    }

    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// Resolves a reference against this URI (RFC 3986 §5.2). The fragment is dropped.
    ///
    /// `None`: not an `http` or `https` URI, or not one at all. Percent-encoding is left as it is, as it is in keys.
    #[must_use]
    pub fn resolve(&self, reference: &str) -> Option<ResolvedTarget> {
        let reference = reference.trim_matches([' ', '\t']);
        if reference.len() > REFERENCE_MAX || !reference.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
            return None;
        }
        let reference = reference.split('#').next().unwrap_or_default();
        let (scheme, rest) = match split_scheme(reference) {
            Some((scheme, rest)) => {
                // A scheme without an authority (`http:foo`) names no request target.
                if !rest.starts_with("//") {
                    return None;
                }
                (scheme.to_ascii_lowercase(), rest)
            }
            None => (self.scheme.to_owned(), reference),
        };
        if scheme != "http" && scheme != "https" {
            return None;
        }
        if let Some(rest) = rest.strip_prefix("//") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path_and_query) = rest.split_at(end);
            let authority = normal_authority(&scheme, authority)?.into_owned();
            let (path, query) = split_query(path_and_query);
            return Some(ResolvedTarget {
                scheme,
                authority,
                path_and_query: join(&remove_dot_segments(path), query),
            });
        }
        let (base_path, base_query) = split_query(self.path_and_query);
        let (path, query) = split_query(rest);
        let path_and_query = if path.is_empty() {
            join(base_path, query.or(base_query))
        } else if path.starts_with('/') {
            join(&remove_dot_segments(path), query)
        } else {
            let directory = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
            join(&remove_dot_segments(&format!("{directory}{path}")), query)
        };
        Some(ResolvedTarget { scheme, authority: self.authority.to_owned(), path_and_query })
    }
}

/// Longer references are not followed.
const REFERENCE_MAX: usize = 8 * 1024;

fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let end = reference.find([':', '/', '?'])?;
    let (scheme, rest) = reference.split_at(end);
    let rest = rest.strip_prefix(':')?;
    let mut bytes = scheme.bytes();
    let well_formed = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    well_formed.then_some((scheme, rest))
}

fn split_query(path_and_query: &str) -> (&str, Option<&str>) {
    match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    }
}

fn join(path: &str, query: Option<&str>) -> String {
    let path = if path.is_empty() { "/" } else { path };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// RFC 3986 §5.2.4, for a path that begins with `/`.
fn remove_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut trailing_slash = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        trailing_slash = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if trailing_slash || out.is_empty() {
        out.push('/');
    }
    out
}

/// The URIs whose stored responses must not be used without validation after this exchange (RFC 9111 §4.4): the target, and what
/// `Location` and `Content-Location` name within the same origin. Empty for a safe method and after an error.
#[must_use]
pub fn invalidated(
    method: MethodClass,
    target: &Target<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Vec<ResolvedTarget> {
    // §4.4: a non-error response is one with a 2xx or 3xx status code.
    if !method.invalidates() || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut targets = vec![ResolvedTarget {
        scheme: target.scheme.to_owned(),
        authority: target.authority.to_owned(),
        path_and_query: target.path_and_query.to_owned(),
    }];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        for line in headers.get_all(name).iter().take(LOCATIONS_MAX) {
            let resolved = line.to_str().ok().and_then(|reference| target.resolve(reference));
            // §4.4: a cache MUST NOT invalidate a URI of another origin.
            if let Some(resolved) = resolved
                && resolved.as_target().is_same_origin(target)
                && !targets.contains(&resolved)
            {
                targets.push(resolved);
            }
        }
    }
    targets
}

/// Both are singletons; a few more lines are read so that one that was meant is not missed.
const LOCATIONS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::headers;

    fn resolve(base: &str, reference: &str) -> Option<String> {
        let base = Target { scheme: "http", authority: "a", path_and_query: base };
        let resolved = base.resolve(reference)?;
        Some(format!("{}://{}{}", resolved.scheme, resolved.authority, resolved.path_and_query))
    }

    #[test]
    fn rfc_3986_section_5_4_reference_resolution() {
        // The examples of the RFC, with the base http://a/b/c/d;p?q.
        #[rustfmt::skip]
        let cases = [
            ("g",             "http://a/b/c/g"),
            ("./g",           "http://a/b/c/g"),
            ("g/",            "http://a/b/c/g/"),
            ("/g",            "http://a/g"),
            ("//g",           "http://g/"),
            ("?y",            "http://a/b/c/d;p?y"),
            ("g?y",           "http://a/b/c/g?y"),
            ("#s",            "http://a/b/c/d;p?q"),
            ("g#s",           "http://a/b/c/g"),
            ("g?y#s",         "http://a/b/c/g?y"),
            (";x",            "http://a/b/c/;x"),
            ("g;x?y#s",       "http://a/b/c/g;x?y"),
            ("",              "http://a/b/c/d;p?q"),
            (".",             "http://a/b/c/"),
            ("./",            "http://a/b/c/"),
            ("..",            "http://a/b/"),
            ("../",           "http://a/b/"),
            ("../g",          "http://a/b/g"),
            ("../..",         "http://a/"),
            ("../../",        "http://a/"),
            ("../../g",       "http://a/g"),
            ("../../../g",    "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g",          "http://a/g"),
            ("/../g",         "http://a/g"),
            ("g.",            "http://a/b/c/g."),
            (".g",            "http://a/b/c/.g"),
            ("g..",           "http://a/b/c/g.."),
            ("..g",           "http://a/b/c/..g"),
            ("./../g",        "http://a/b/g"),
            ("./g/.",         "http://a/b/c/g/"),
            ("g/./h",         "http://a/b/c/g/h"),
            ("g/../h",        "http://a/b/c/h"),
            ("g;x=1/./y",     "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y",    "http://a/b/c/y"),
            ("g?y/./x",       "http://a/b/c/g?y/./x"),
            ("g?y/../x",      "http://a/b/c/g?y/../x"),
            ("g#s/../x",      "http://a/b/c/g"),
        ];
        for (reference, expected) in cases {
            assert_eq!(resolve("/b/c/d;p?q", reference).as_deref(), Some(expected), "{reference}");
        }
    }

    #[test]
    fn references_as_responses_write_them() {
        #[rustfmt::skip]
        let cases = [
            // what                                  base        reference                      resolved
            ("absolute, in any case",                "/x?y",     "HTTP://EXAMPLE.com:80/A?b",   Some("http://example.com/A?b")),
            ("a default port of another scheme",     "/x",       "https://e:443/",              Some("https://e/")),
            ("another port",                         "/x",       "http://e:8080",               Some("http://e:8080/")),
            ("an empty port",                        "/x",       "http://e:/z",                 Some("http://e/z")),
            ("a query without a path",               "/x",       "http://e?q",                  Some("http://e/?q")),
            ("an IPv6 host",                         "/x",       "http://[::1]:80/z",           Some("http://[::1]/z")),
            ("encoding is left as it is",            "/x",       "/%7e%2F",                     Some("http://a/%7e%2F")),
            ("empty segments are kept",              "/x//y",    "z",                           Some("http://a/x//z")),
            ("spaces around",                        "/x",       "  /z ",                       Some("http://a/z")),
            ("a colon in a path is no scheme",       "/x",       "/a:b",                        Some("http://a/a:b")),
            ("nor after a dot segment",              "/x",       "./a:b",                       Some("http://a/a:b")),
            ("another scheme",                       "/x",       "ftp://e/",                    None),
            ("mailto",                               "/x",       "mailto:a@e",                  None),
            ("a scheme without an authority",        "/x",       "http:foo",                    None),
            ("user information",                     "/x",       "http://u@e/",                 None),
            ("no authority",                         "/x",       "http:///z",                   None),
            ("a space within",                       "/x",       "/a b",                        None),
            ("not ASCII",                            "/x",       "/\u{fc}",                     None),
        ];
        for (what, base, reference, expected) in cases {
            assert_eq!(resolve(base, reference).as_deref(), expected, "{what}");
        }
        assert_eq!(resolve("/", &"x".repeat(REFERENCE_MAX + 1)), None);
    }

    #[test]
    fn section_4_4_what_is_invalidated() {
        let target = Target { scheme: "http", authority: "e", path_and_query: "/items/7?x=1" };
        #[rustfmt::skip]
        let cases: [(&str, MethodClass, u16, &str, &[&str]); 12] = [
            // what                                  method                  status  response                                         paths
            ("the target",                           MethodClass::Unsafe,    200,    "",                                              &["/items/7?x=1"]),
            ("after a POST",                         MethodClass::Post,      201,    "",                                              &["/items/7?x=1"]),
            ("after a redirect",                     MethodClass::Post,      303,    "",                                              &["/items/7?x=1"]),
            ("Location",                             MethodClass::Post,      201,    "location: /items/8",                            &["/items/7?x=1", "/items/8"]),
            ("Content-Location",                     MethodClass::Post,      200,    "content-location: list",                        &["/items/7?x=1", "/items/list"]),
            ("both, each once",                      MethodClass::Post,      200,    "location: /z | content-location: http://e/z",   &["/items/7?x=1", "/z"]),
            ("none of another host",                 MethodClass::Post,      200,    "location: http://f/z",                          &["/items/7?x=1"]),
            ("none of another port",                 MethodClass::Post,      200,    "location: http://e:8080/z",                     &["/items/7?x=1"]),
            ("none of another scheme",               MethodClass::Post,      200,    "location: https://e/z",                         &["/items/7?x=1"]),
            ("nothing after an error",               MethodClass::Unsafe,    500,    "location: /z",                                  &[]),
            ("nor a refusal",                        MethodClass::Unsafe,    404,    "",                                              &[]),
            ("nothing by a safe method",             MethodClass::Get,       200,    "location: /z",                                  &[]),
        ];
        for (what, method, status, response, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let found = invalidated(method, &target, status, &headers(response));
            let paths: Vec<&str> = found.iter().map(|found| found.path_and_query.as_str()).collect();
            assert_eq!(paths, expected, "{what}");
            assert!(found.iter().all(|found| found.as_target().is_same_origin(&target)));
        }
    }

    proptest! {
        #[test]
        fn what_is_resolved_is_a_request_target_and_resolves_to_itself(base in "/[a-z./?]{0,12}", reference in "[ -~]{0,24}") {
            let base = Target { scheme: "https", authority: "e", path_and_query: &base };
            let absolute = |target: &ResolvedTarget| {
                format!("{}://{}{}", target.scheme, target.authority, target.path_and_query)
            };
            if let Some(resolved) = base.resolve(&reference) {
                prop_assert!(resolved.path_and_query.starts_with('/'));
                prop_assert!(!resolved.path_and_query.contains('#'));
                // A reference that is a query alone keeps the base's path as it is, dot segments too; then no more.
                let normal = base.resolve(&absolute(&resolved)).unwrap();
                prop_assert_eq!(base.resolve(&absolute(&normal)).unwrap(), normal);
            }
        }
    }
}
