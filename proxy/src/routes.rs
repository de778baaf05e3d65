//! Which route takes a request: the first whose matcher says yes.
//!
//! Matching costs tens of nanoseconds and allocates nothing for plain paths. A path that servers may read in more than one way is matched
//! in each of them, and refused unless all select the same route; `path.rs` says why.

pub mod path;
pub mod template;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;

use self::path::{PathPattern, Readings};
use crate::config::model::Route;
use cache_semantics::glob::Glob;

/// What of a request decides about its route.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'r> {
    /// Whether the client used `https`, as far as trusted proxies tell.
    pub https: bool,
    /// The method.
    pub method: &'r Method,
    /// The authority's host; a port and a final dot are ignored, as is case.
    pub host: &'r str,
    /// The path as it came, beginning with a slash (or `*`).
    pub path: &'r str,
    /// The query, without `?`.
    pub query: Option<&'r str>,
    /// The fields as they came.
    pub headers: &'r HeaderMap,
    /// Who asks, as far as trusted proxies tell; `None`: a Unix socket.
    pub client: Option<IpAddr>,
}

/// Which requests a route takes: all of its parts must say yes, and a part with several alternatives says yes if one does. Parts that are
/// empty say yes to everything.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Whether the client must have used `https`, or must not.
    pub https: Option<bool>,
    /// Host patterns.
    pub hosts: Vec<HostPattern>,
    /// Path patterns.
    pub paths: Vec<PathPattern>,
    /// Methods; `GET` takes `HEAD` too.
    pub methods: Vec<Method>,
    /// Conditions on request fields.
    pub headers: Vec<(HeaderName, Condition)>,
    /// Conditions on query parameters.
    pub query: Vec<(String, Condition)>,
    /// Networks of clients.
    pub clients: Vec<IpNet>,
}

/// A host, or all hosts below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Lower case, without port and final dot.
    Exact(Box<str>),
    /// `*.example.com`, here as `.example.com`: one or more labels before it.
    Below(Box<str>),
}

/// What a field or parameter has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There, whatever its value.
    Present,
    /// Not there.
    Absent,
    /// One of its values fits.
    Fits(Glob),
}

/// The routes in order, ready to be asked.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// Whether any route looks at the path: otherwise its spelling does not matter.
    by_path: bool,
}

/// The route of a request.
#[derive(Debug)]
pub struct Found<'r> {
    /// The route.
    pub route: &'r Arc<Route>,
    /// Its place in the order.
    pub index: usize,
    /// The names that its path template binds.
    pub bindings: Bindings<'r>,
}

/// Why a request has no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route takes it: 404.
    #[error("no route takes this request")]
    NoneMatches,
    /// Its path can be read in several ways, which select different routes: 400.
    #[error("the path is ambiguous: how it is read decides about its route")]
    Ambiguous,
}

/// The names that a route's path template binds. Values are found when asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bindings<'r> {
    pattern: Option<&'r PathPattern>,
    path: &'r str,
}

impl Routes {
    /// Routes in the order in which they are asked.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let by_path =
            routes.iter().any(|route| route.matcher.paths.iter().any(|pattern| !pattern.takes_all()));
        Self { routes, by_path }
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The first route that takes the request.
    #[inline]
    pub fn find<'r>(&'r self, request: &RequestView<'r>) -> Result<Found<'r>, NoRoute> {
        if !self.by_path {
            return self.found(self.first(request, request.path.as_bytes()), request);
        }
        let readings = Readings::of(request.path.as_bytes());
        if readings == Readings::Plain {
            return self.found(self.first(request, request.path.as_bytes()), request);
        }
        self.find_odd(request, readings)
    }

    #[cold]
    fn find_odd<'r>(&'r self, request: &RequestView<'r>, readings: Readings) -> Result<Found<'r>, NoRoute> {
        if readings == Readings::TooMany {
            return Err(NoRoute::Ambiguous);
        }
        let raw = request.path.as_bytes();
        let first = self.first(request, &path::canonical(raw));
        if readings.others(raw).any(|reading| self.first(request, &reading) != first) {
            return Err(NoRoute::Ambiguous);
        }
        self.found(first, request)
    }

    fn first(&self, request: &RequestView<'_>, path: &[u8]) -> Option<usize> {
        self.routes.iter().position(|route| route.matcher.takes(request, path))
    }

    fn found<'r>(&'r self, index: Option<usize>, request: &RequestView<'r>) -> Result<Found<'r>, NoRoute> {
        let index = index.ok_or(NoRoute::NoneMatches)?;
        let route = &self.routes[index];
        let bindings = route.matcher.bindings(request.path);
        Ok(Found { route, index, bindings })
    }

    /// Routes that can never match, each with the earlier one that takes all it would take.
    pub fn unreachable(&self) -> Vec<(&Arc<Route>, &Arc<Route>)> {
        let mut dead = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let earlier = self.routes[..index].iter().find(|earlier| earlier.matcher.covers(&route.matcher));
            dead.extend(earlier.map(|earlier| (route, earlier)));
        }
        dead
    }
}

impl<'r> Bindings<'r> {
    /// What a pattern binds in a path that it matches.
    pub const fn of(pattern: &'r PathPattern, path: &'r str) -> Self {
        Self { pattern: Some(pattern), path }
    }

    /// The value as the client wrote it, percent-encoded: for paths.
    pub fn raw(&self, name: &str) -> Option<&'r str> {
        self.pattern?.bound(name, self.path)
    }

    /// The decoded value: for tags, so that `/posts/%37` and `/posts/7` share theirs. Bytes that are not UTF-8 stay encoded.
    pub fn decoded(&self, name: &str) -> Option<Cow<'r, str>> {
        let raw = self.raw(name)?;
        if !raw.contains('%') {
            return Some(Cow::Borrowed(raw));
        }
        let mut bytes = Vec::with_capacity(raw.len());
        let mut rest = raw.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let value = path::triple(rest);
            bytes.push(value.unwrap_or(byte));
            rest = if value.is_some() { &rest[3..] } else { tail };
        }
        Some(String::from_utf8(bytes).map_or(Cow::Borrowed(raw), Cow::Owned))
    }
}

/// Where a redirect leads: the template with the names of the path, and `path`, `query` (with its `?`, or nothing) and `host` of the request.
pub fn location(
    template: &template::Template,
    host: &str,
    path: &str,
    query: Option<&str>,
    bindings: &Bindings<'_>,
) -> String {
    let location = template.render(|name| {
        bindings.raw(name).map(Cow::Borrowed).or_else(|| match name {
            "path" => Some(Cow::Borrowed(path)),
            "query" => query.map(|query| Cow::Owned(format!("?{query}"))),
            "host" => Some(Cow::Borrowed(host)),
            _ => None,
        })
    });
    // `//host` at the front would lead away from this host, and the path is the client's to choose.
    match location.strip_prefix("//") {
        Some(rest) if !template.as_str().starts_with("//") => format!("/{}", rest.trim_start_matches('/')),
        _ => location,
    }
}

impl Matcher {
    /// Whether it takes the request, its path being read as `path` (see [`path::canonical`]).
    fn takes(&self, request: &RequestView<'_>, path: &[u8]) -> bool {
        self.https.is_none_or(|https| https == request.https)
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
            && (self.methods.is_empty()
                || self.methods.iter().any(|method| takes_method(method, request.method)))
            && (self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(request.host)))
            && self.headers.iter().all(|(name, condition)| condition.holds_for_field(request.headers, name))
            && self.query.iter().all(|(name, condition)| condition.holds_for_query(request.query, name))
            && (self.clients.is_empty() || request.client.is_some_and(|client| self.takes_client(client)))
    }

    /// Whether it takes everything.
    pub fn takes_all(&self) -> bool {
        self.covers(&Self::default())
    }

    fn takes_client(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.clients.iter().any(|network| network.contains(&client))
    }

    /// What the path template binds in a path.
    pub fn bindings<'r>(&'r self, path: &'r str) -> Bindings<'r> {
        let pattern = match &self.paths[..] {
            [] => None,
            [only] => Some(only),
            several => {
                let canonical = path::canonical(path.as_bytes());
                several.iter().find(|pattern| pattern.matches(&canonical))
            }
        };
        Bindings { pattern, path }
    }

    /// Whether it takes every request that `other` takes. It may say no where the answer is yes, never the other way.
    fn covers(&self, other: &Self) -> bool {
        (self.https.is_none() || self.https == other.https)
            && covers_all(&self.paths, &other.paths, PathPattern::covers, PathPattern::takes_all)
            && covers_all(&self.hosts, &other.hosts, HostPattern::covers, |_| false)
            && covers_all(&self.methods, &other.methods, takes_method, |_| false)
            && covers_all(&self.clients, &other.clients, |mine, theirs| mine.contains(theirs), |_| false)
            && implied(&self.headers, &other.headers)
            && implied(&self.query, &other.query)
    }
}

/// Alternatives cover alternatives if each of theirs is covered by one of mine. None at all means everything.
fn covers_all<T>(
    mine: &[T],
    theirs: &[T],
    covers: impl Fn(&T, &T) -> bool,
    takes_all: impl Fn(&T) -> bool,
) -> bool {
    mine.is_empty()
        || mine.iter().any(takes_all)
        || (!theirs.is_empty() && theirs.iter().all(|one| mine.iter().any(|other| covers(other, one))))
}

/// Conditions are all needed: each of mine must follow from one of theirs.
fn implied<N: PartialEq>(mine: &[(N, Condition)], theirs: &[(N, Condition)]) -> bool {
    mine.iter().all(|(name, condition)| {
        theirs.iter().any(|(other, stronger)| name == other && stronger.implies(condition))
    })
}

/// RFC 9110 §9.3.2: HEAD is GET without content, so what is meant for the one is meant for the other.
fn takes_method(pattern: &Method, method: &Method) -> bool {
    pattern == method || (*pattern == Method::GET && *method == Method::HEAD)
}

impl HostPattern {
    /// Compiles a host pattern; `None` if it is neither a host nor `*.` and a host.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let host = text.strip_prefix("*.").unwrap_or(&text);
        let is_ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = is_ipv6.map_or_else(
            || {
                !host.is_empty()
                    && host.split('.').all(|label| {
                        !label.is_empty()
                            && label
                                .bytes()
                                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                    })
            },
            |address| address.parse::<std::net::Ipv6Addr>().is_ok() && !text.starts_with('*'),
        );
        if !valid {
            return None;
        }
        Some(match text.strip_prefix('*') {
            Some(below) => Self::Below(below.into()),
            None => Self::Exact(text.into()),
        })
    }

    fn matches(&self, host: &str) -> bool {
        let host = without_port(host);
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        match self {
            Self::Exact(exact) => host.eq_ignore_ascii_case(exact.as_bytes()),
            Self::Below(below) => {
                host.len() > below.len()
                    && host[host.len() - below.len()..].eq_ignore_ascii_case(below.as_bytes())
            }
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Below(_), Self::Exact(other)) => self.matches(other),
            (Self::Below(one), Self::Below(other)) => other.ends_with(&**one),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(exact) => out.write_str(exact),
            Self::Below(below) => write!(out, "*{below}"),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((before, port)) if !port.contains(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            before
        }
        _ => host,
    }
}

impl Condition {
    fn holds_for_field(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        match self {
            Self::Present => headers.contains_key(name),
            Self::Absent => !headers.contains_key(name),
            Self::Fits(glob) => headers.get_all(name).iter().any(|value| glob.matches(value.as_bytes())),
        }
    }

    fn holds_for_query(&self, query: Option<&str>, name: &str) -> bool {
        let mut values = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(key, _)| form_decoded(key) == name.as_bytes())
            .map(|(_, value)| value);
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Fits(glob) => values.any(|value| glob.matches(form_decoded(value))),
        }
    }

    fn implies(&self, weaker: &Self) -> bool {
        match (self, weaker) {
            (Self::Fits(_), Self::Present) => true,
            (Self::Fits(one), Self::Fits(other)) => {
                one == other
                    || other.as_str() == "*"
                    || (one.is_literal() && other.matches(one.as_str().as_bytes()))
            }
            (one, other) => one == other,
        }
    }
}

/// `application/x-www-form-urlencoded`, decoded: as origins read a query, so that no spelling gets around a condition.
fn form_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let value = path::triple(rest);
        out.push(value.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        rest = if value.is_some() { &rest[3..] } else { tail };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::{Action, Route};

    fn routes(matchers: impl IntoIterator<Item = Matcher>) -> Routes {
        let route = |(index, matcher)| {
            Arc::new(Route::new(&index_name(index), matcher, Action::Forward("app".into())))
        };
        Routes::new(matchers.into_iter().enumerate().map(route).collect())
    }

    fn index_name(index: usize) -> String {
        format!("route {index}")
    }

    fn at(path: &str) -> Matcher {
        Matcher { paths: vec![PathPattern::parse(path, false).unwrap()], ..Matcher::default() }
    }

    fn ask(routes: &Routes, path: &str) -> Result<usize, NoRoute> {
        let headers = HeaderMap::new();
        let method = Method::GET;
        let view = RequestView {
            https: false,
            method: &method,
            host: "a",
            path,
            query: None,
            headers: &headers,
            client: None,
        };
        routes.find(&view).map(|found| found.index)
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let routes = routes([at("/api/**"), at("/posts/{id}"), Matcher::default()]);
        assert_eq!(ask(&routes, "/api/x"), Ok(0));
        assert_eq!(ask(&routes, "/posts/7"), Ok(1));
        assert_eq!(ask(&routes, "/"), Ok(2));
        assert_eq!(ask(&self::routes([at("/api/**")]), "/"), Err(NoRoute::NoneMatches));
    }

    /// The first route protects; the second lets through. Whatever a server may read as `/admin` must not reach the second.
    #[test]
    fn a_protecting_route_is_not_dodged_by_spelling() {
        let routes = routes([at("/admin/**"), Matcher::default()]);
        #[rustfmt::skip]
        let cases = [
            // path                         answered
            ("/admin",                      Ok(0)),
            ("/admin/",                     Ok(0)),
            ("/admin/../admin",             Ok(0)),
            ("/%61dmin",                    Ok(0)),
            ("/%41dmin",                    Ok(1)),
            ("/x/caf%C3%A9",                Ok(1)),
            ("/x/a%2Fb",                    Ok(1)),
            ("/x//y",                       Ok(1)),
            ("/x/../y",                     Ok(1)),
            ("/x;v=1",                      Ok(1)),
            ("/x/../admin",                 Err(NoRoute::Ambiguous)),
            ("/admin/..",                   Err(NoRoute::Ambiguous)),
            ("/admin/%2e%2e/x",             Err(NoRoute::Ambiguous)),
            ("/x/%2e%2e/admin",             Err(NoRoute::Ambiguous)),
            ("/./admin",                    Err(NoRoute::Ambiguous)),
            ("//admin",                     Err(NoRoute::Ambiguous)),
            ("/x/..%2fadmin",               Err(NoRoute::Ambiguous)),
            ("/admin%2fusers",              Err(NoRoute::Ambiguous)),
            ("/\\admin",                    Err(NoRoute::Ambiguous)),
            ("/admin\\x",                   Err(NoRoute::Ambiguous)),
            ("/admin;v=1",                  Err(NoRoute::Ambiguous)),
            ("/x/..;/admin",                Err(NoRoute::Ambiguous)),
            ("/%2561dmin",                  Err(NoRoute::Ambiguous)),
            ("/y/../admin/z//../..",        Err(NoRoute::Ambiguous)),
            ("/a;b//../%2f%5c%252e",        Err(NoRoute::Ambiguous)),
        ];
        for (path, expected) in cases {
            assert_eq!(ask(&routes, path), expected, "{path}");
        }
    }

    #[test]
    fn spelling_does_not_matter_where_no_route_looks_at_the_path() {
        assert_eq!(ask(&routes([Matcher::default()]), "/a;b//../%2f%5c%252e"), Ok(0));
        assert_eq!(ask(&routes([at("/**")]), "/x/../y"), Ok(0));
    }

    #[test]
    fn hosts_match_by_name_or_below() {
        #[rustfmt::skip]
        let cases = [
            // pattern            host                   taken
            ("example.com",       "example.com",         true),
            ("example.com",       "EXAMPLE.com:8080",    true),
            ("example.com",       "example.com.",        true),
            ("example.com",       "www.example.com",     false),
            ("*.example.com",     "www.example.com",     true),
            ("*.example.com",     "a.b.example.com:1",   true),
            ("*.example.com",     "example.com",         false),
            ("*.example.com",     "badexample.com",      false),
            ("[::1]",             "[::1]:80",            true),
            ("[::1]",             "[::1]",               true),
        ];
        for (pattern, host, expected) in cases {
            assert_eq!(HostPattern::parse(pattern).unwrap().matches(host), expected, "{pattern} on {host}");
        }
        for bad in ["", "*", "a..b", "a b", "*.", "http://a", "a:80", "*.*.a", "a*.b", "[x]"] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_part_must_say_yes() {
        let fits = |text| Condition::Fits(Glob::new(text));
        let matcher = Matcher {
            https: Some(true),
            methods: vec![Method::GET],
            headers: vec![(HeaderName::from_static("x-beta"), fits("on*"))],
            query: vec![("preview".into(), Condition::Present), ("draft".into(), Condition::Absent)],
            clients: vec!["10.0.0.0/8".parse().unwrap()],
            ..Matcher::default()
        };
        let routes = routes([matcher]);
        let mut headers = HeaderMap::new();
        headers.append("x-beta", HeaderValue::from_static("off"));
        headers.append("x-beta", HeaderValue::from_static("on-1"));
        let view = RequestView {
            https: true,
            method: &Method::GET,
            host: "a",
            path: "/",
            query: Some("a=1&pre%76iew"),
            headers: &headers,
            client: Some("::ffff:10.1.2.3".parse().unwrap()),
        };
        let elsewhere = Some("11.0.0.1".parse().unwrap());
        #[rustfmt::skip]
        let cases = [
            ("all of them",          view,                                                  true),
            ("HEAD is GET",          RequestView { method: &Method::HEAD, ..view },         true),
            ("another scheme",       RequestView { https: false, ..view },                  false),
            ("another method",       RequestView { method: &Method::POST, ..view },         false),
            ("no field",             RequestView { headers: &HeaderMap::new(), ..view },    false),
            ("no parameter",         RequestView { query: Some("a=preview"), ..view },      false),
            ("one that may not be",  RequestView { query: Some("preview&draft=0"), ..view }, false),
            ("nobody knows who",     RequestView { client: None, ..view },                  false),
            ("another network",      RequestView { client: elsewhere, ..view },             false),
        ];
        for (what, view, expected) in cases {
            assert_eq!(routes.find(&view).is_ok(), expected, "{what}");
        }
    }

    #[test]
    fn names_are_bound_and_decoded() {
        let two = Matcher {
            paths: vec![
                PathPattern::parse("/posts/{id}", false).unwrap(),
                PathPattern::parse("/blog/{slug}", false).unwrap(),
            ],
            ..Matcher::default()
        };
        let bindings = two.bindings("/blog/caf%C3%A9");
        assert_eq!(bindings.raw("slug"), Some("caf%C3%A9"));
        assert_eq!(bindings.decoded("slug").as_deref(), Some("caf\u{e9}"));
        assert_eq!(bindings.raw("id"), None);
        assert_eq!(two.bindings("/posts/%FF").decoded("id").as_deref(), Some("%FF"));
    }

    #[test]
    fn a_route_behind_a_wider_one_is_unreachable() {
        let get = |path| Matcher { methods: vec![Method::GET], ..at(path) };
        let host = |path, host| Matcher { hosts: vec![HostPattern::parse(host).unwrap()], ..at(path) };
        let routes = routes([
            host("/api/**", "*.example.com"),
            get("/api/**"),
            at("/api/v1"),
            Matcher { methods: vec![Method::HEAD], ..at("/api/v1/x") },
            host("/api/x", "a.example.com"),
            Matcher::default(),
            at("/z"),
        ]);
        let dead: Vec<_> =
            routes.unreachable().iter().map(|(dead, by)| format!("{} by {}", dead.name, by.name)).collect();
        assert_eq!(dead, ["route 3 by route 1", "route 4 by route 0", "route 6 by route 5"]);
    }

    proptest! {
        #[test]
        fn an_unreachable_route_is_never_found(
            patterns in prop::collection::vec("(/(a|b|\\*|\\*\\*|\\{x\\})){1,3}", 1..5),
            path in "(/(a|b|ab|%61|\\.\\.|)){1,4}",
        ) {
            let matchers = patterns.iter().filter_map(|text| PathPattern::parse(text, false).ok())
                .map(|pattern| Matcher { paths: vec![pattern], ..Matcher::default() });
            let routes = routes(matchers);
            let dead: Vec<String> = routes.unreachable().iter().map(|(dead, _)| dead.name.to_string()).collect();
            if let Ok(index) = ask(&routes, &path) {
                prop_assert!(!dead.contains(&index_name(index)));
            }
        }

        /// If the request is taken, then every server that may be behind agrees with us about what was asked for.
        #[test]
        fn all_readings_of_a_taken_path_select_the_same_route(path in "/(admin|x|\\.\\.|\\.|%2e|%2f|%5c|/|;a|\\\\|%25){1,8}") {
            let routes = routes([at("/admin/**"), Matcher::default()]);
            if let Ok(index) = ask(&routes, &path) {
                for reading in Readings::of(path.as_bytes()).others(path.as_bytes()) {
                    prop_assert_eq!(reading.starts_with(b"/admin/") || reading == b"/admin", index == 0);
                }
            }
        }
    }
}
