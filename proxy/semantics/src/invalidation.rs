//! What an unsafe request makes stale (RFC 9111 §4.4), and the resolution of references that it needs (RFC 3986 §5).

use http::{HeaderMap, StatusCode, header};

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
            let authority = normal_authority(&scheme, authority)?;
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

/// Lower case, the scheme's default port dropped (RFC 9110 §4.2.3). `None` where it is empty or carries user information.
fn normal_authority(scheme: &str, authority: &str) -> Option<String> {
    if authority.contains('@') {
        return None;
    }
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let authority =
        authority.strip_suffix(default_port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority);
    (!authority.is_empty()).then(|| authority.to_ascii_lowercase())
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
