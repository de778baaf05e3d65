//! What of a request goes to the origin, and the key made of it: both from one place, so that nothing the origin sees is left out of
//! the key, and nothing the key leaves out is seen by the origin.
//!
//! The hit path only needs the key, and makes it without an allocation. What is forwarded is made by [`KeyRule::forwarded`] on the way to the origin.

use std::borrow::Cow;
use std::sync::Arc;

use cache_semantics::cookies::{CookieRule, Passing};
use cache_semantics::key::{KeyBuilder, KeyClass};
use cache_semantics::query::QueryRule;
use cache_semantics::vary::Fields;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::model::{Rewrite, RouteCache};
use crate::http1::spare;
use crate::routes::{Bindings, path};

/// How a route makes keys and requests.
#[derive(Debug, Clone)]
pub struct KeyRule {
    /// The origin that is asked: two origins may give the same path different answers.
    origin: Arc<str>,
    version: u64,
    query: QueryRule,
    cookies: CookieRule,
    /// Attributes of the client's session.
    session: Vec<Box<str>>,
    rewrite: Rewrite,
}

/// A request as far as its key goes.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'r> {
    /// `http` or `https`, as the client used it.
    pub scheme: &'r str,
    /// Host and port, in lower case, without a default port.
    pub authority: &'r str,
    /// Where a trusted proxy names another host than `Host` does.
    pub forwarded_host: Option<&'r str>,
    /// The path as it came.
    pub path: &'r str,
    /// The query, without `?`.
    pub query: Option<&'r str>,
    /// The fields as they came.
    pub headers: &'r HeaderMap,
    /// What the route's path template binds.
    pub bindings: Bindings<'r>,
    /// What plugins change about it.
    pub shape: Option<&'r Shape>,
    /// Its content, where that tells requests apart.
    pub content: Option<PresentedContent<'r>>,
    /// Attributes of its session, each with its value as it is told to an origin: those of [`KeyRule::session`] that there are.
    pub session: &'r [(&'r str, &'r [u8])],
    /// The only cookie that it carries is that of its session, which goes no further than here.
    pub cookie_stays: bool,
}

/// Content that is part of a key.
#[derive(Debug, Clone, Copy)]
pub struct PresentedContent<'r> {
    /// Of which method: a GET without content never meets them, nor one method another.
    pub class: KeyClass,
    /// Its SHA-256.
    pub digest: &'r str,
}

/// Fields that say how content is to be read: they are part of the key wherever content is (RFC 10008 §2.7).
const OF_CONTENT: [(&str, HeaderName); 3] = [
    ("content-type", header::CONTENT_TYPE),
    ("content-encoding", header::CONTENT_ENCODING),
    ("content-language", header::CONTENT_LANGUAGE),
];

impl<'r> Presented<'r> {
    /// The query, as plugins leave it.
    fn shaped_query(&self) -> Option<&'r str> {
        match self.shape.map(|shape| (shape.query, shape)) {
            None | Some((ShapedQuery::AsPresented, _)) => self.query,
            Some((ShapedQuery::None, _)) => None,
            Some((ShapedQuery::Replaced, shape)) => Some(&shape.query_text),
        }
    }

    /// What plugins say about cookies.
    fn shaped_cookies(&self) -> Option<(&'r Shape, &'r [Arc<CookieRule>])> {
        let shape = self.shape.filter(|shape| shape.restricts_cookies)?;
        Some((shape, &shape.cookies))
    }
}

/// What plugins change about a request before it is keyed and forwarded. What changes for the origin changes in the key.
#[derive(Debug, Default)]
pub struct Shape {
    /// The path is in lower case.
    pub lower_path: bool,
    /// Which query.
    pub query: ShapedQuery,
    /// The query that replaces the presented one.
    pub query_text: String,
    /// Only cookies that all of [`Self::cookies`] declare are forwarded, and it is for the plugins to put into the key what of them matters.
    pub restricts_cookies: bool,
    /// No rule at all: no cookie is.
    pub cookies: Vec<Arc<CookieRule>>,
    /// Among these are some that no plugin has looked at.
    pub undeclared: bool,
    /// What plugins add to the key; empty: nothing.
    pub part: Vec<u8>,
    /// A plugin has read the content, and has put into the key what of it matters.
    pub content_is_keyed: bool,
}

/// Which query is forwarded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ShapedQuery {
    /// The presented one.
    #[default]
    AsPresented,
    /// None.
    None,
    /// That of the plugins.
    Replaced,
}

/// Memory that is used again for each request.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The key, after [`KeyRule::key`].
    pub key: Vec<u8>,
    query: String,
    cookies: Vec<u8>,
}

/// The fields of a request as they came, and what of its cookies goes on.
#[derive(Debug, Default)]
pub struct PresentedFields {
    /// The fields.
    pub headers: HeaderMap,
    /// What is forwarded as `Cookie`.
    pub cookie: ForwardedCookie,
}

impl PresentedFields {
    /// Fields of which all is forwarded.
    pub fn whole(headers: HeaderMap) -> Arc<Self> {
        Arc::new(Self { headers, cookie: ForwardedCookie::AsPresented })
    }

    /// As they count for `Vary`: as presented, but for cookies that are not forwarded.
    pub fn fields(&self) -> Fields<'_> {
        let fields = Fields::of(&self.headers);
        match &self.cookie {
            ForwardedCookie::AsPresented => fields,
            ForwardedCookie::None => fields.with_cookie(b""),
            ForwardedCookie::Only(cookies) => fields.with_cookie(cookies.as_bytes()),
        }
    }
}

impl Drop for PresentedFields {
    fn drop(&mut self) {
        spare::put(std::mem::take(&mut self.headers));
    }
}

/// What of a request is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The target.
    pub target: PathAndQuery,
    /// What becomes of its `Cookie`.
    pub cookie: ForwardedCookie,
}

/// What becomes of the `Cookie` of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ForwardedCookie {
    /// It is forwarded as it came.
    #[default]
    AsPresented,
    /// None is forwarded.
    None,
    /// The declared ones are.
    Only(HeaderValue),
}

/// Which cookies of a request are forwarded.
enum Forwards<'r> {
    /// All, as they came.
    All,
    None,
    Only(Passing<'r>),
}

impl KeyRule {
    /// The rule of a route that forwards to `origin`. `cache`: `None` where the route does not cache; then only the path changes.
    pub fn new(origin: Arc<str>, rewrite: Rewrite, cache: Option<&RouteCache>, version: u64) -> Self {
        let ignore = cache.map(|cache| cache.ignore_query.clone()).unwrap_or_default();
        let names = cache.map_or(&[][..], |cache| &cache.cookies);
        let query = QueryRule { ignore, sort: cache.is_some_and(|cache| cache.sort_query) };
        let cookies = CookieRule::declaring(names.iter().map(String::as_str));
        let session = cache.map_or_else(Vec::new, |cache| cache.session.clone());
        Self { origin, version, query, cookies, session, rewrite }
    }

    /// The attributes of the client's session that are in the key: an origin may be told of them.
    pub fn session(&self) -> &[Box<str>] {
        &self.session
    }

    /// Puts the key into `scratch.key`. Returns whether the origin sees cookies that are not in the key.
    pub fn key(&self, request: &Presented<'_>, scratch: &mut Scratch) -> bool {
        let path = self.rewritten(request);
        let query = self.query.filter(request.shaped_query(), &mut scratch.query);
        let class = request.content.map_or(KeyClass::Get, |content| content.class);
        let mut key =
            KeyBuilder::new(&mut scratch.key, class, request.scheme, request.authority, &path, query);
        key.part("origin", self.origin.as_bytes());
        if self.version != 0 {
            key.part("version", &self.version.to_be_bytes());
        }
        if let Some(host) = request.forwarded_host {
            key.part("forwarded-host", host.as_bytes());
        }
        if let Some(content) = &request.content {
            for (name, field) in &OF_CONTENT {
                for line in request.headers.get_all(field) {
                    key.part(name, line.as_bytes());
                }
            }
            if !request.shape.is_some_and(|shape| shape.content_is_keyed) {
                key.part("content", content.digest.as_bytes());
            }
        }
        for name in &self.session {
            key.part("session", name.as_bytes());
            // One that is not there is not one that is empty.
            if let Some((_, value)) = request.session.iter().find(|(known, _)| **known == **name) {
                key.part("is", value);
            }
        }
        if let Some(shape) = request.shape.filter(|shape| !shape.part.is_empty()) {
            key.part("plugins", &shape.part);
        }
        if self.cookies.declares_any() {
            key.cookies(&self.cookies, request.headers);
        }
        let unread = match request.shaped_cookies() {
            Some((shape, _)) => shape.undeclared,
            None => !self.cookies.declares_any(),
        };
        unread && self.fields(request).has_cookie()
    }

    /// Which cookies are forwarded.
    fn cookies<'r>(&'r self, request: &Presented<'r>) -> Forwards<'r> {
        let route = Some(&self.cookies).filter(|rule| rule.declares_any());
        match request.shaped_cookies() {
            _ if request.cookie_stays => Forwards::None,
            Some((_, [])) => Forwards::None,
            Some((_, rules)) => Forwards::Only(Passing { rules, route }),
            None if route.is_some() => Forwards::Only(Passing { rules: &[], route }),
            None => Forwards::All,
        }
    }

    /// The fields of the request as the origin would see them, for `Vary`.
    pub fn fields<'r>(&'r self, request: &Presented<'r>) -> Fields<'r> {
        let fields = Fields::of(request.headers);
        match self.cookies(request) {
            Forwards::All => fields,
            Forwards::None => fields.with_cookie(b""),
            Forwards::Only(passing) => fields.with_passing(passing),
        }
    }

    /// The target to forward, without what the route ignores. `asked_for`: the target as it came, which needs no copy if it stays as it is.
    pub fn target(
        &self,
        request: &Presented<'_>,
        asked_for: Option<&PathAndQuery>,
        scratch: &mut Scratch,
    ) -> PathAndQuery {
        let path = self.rewritten(request);
        let query = self.query.filter(request.shaped_query(), &mut scratch.query);
        if let Some(same) = asked_for.filter(|asked| asked.path() == path && asked.query() == query) {
            return same.clone();
        }
        let text = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
            .expect("a target stays one when parts of it are removed or replaced by checked ones")
    }

    /// What a lookup or a fill forwards.
    pub fn forwarded(
        &self,
        request: &Presented<'_>,
        asked_for: Option<&PathAndQuery>,
        scratch: &mut Scratch,
    ) -> Forwarded {
        let target = self.target(request, asked_for, scratch);
        let cookie = match self.cookies(request) {
            Forwards::All => ForwardedCookie::AsPresented,
            Forwards::None => ForwardedCookie::None,
            Forwards::Only(passing) => {
                passing.write(request.headers, &mut scratch.cookies);
                let text = Some(&scratch.cookies).filter(|text| !text.is_empty());
                let line = text.and_then(|text| HeaderValue::from_bytes(text).ok());
                line.map_or(ForwardedCookie::None, ForwardedCookie::Only)
            }
        };
        Forwarded { target, cookie }
    }

    /// The path and query that stand in the key and are forwarded for a URL, without a request: for a purge.
    pub fn target_of_url(&self, path: &str, query: Option<&str>, bindings: Bindings<'_>) -> String {
        let headers = HeaderMap::new();
        let request = Presented {
            scheme: "",
            authority: "",
            forwarded_host: None,
            path,
            query,
            headers: &headers,
            bindings,
            shape: None,
            content: None,
            session: &[],
            cookie_stays: false,
        };
        self.target(&request, None, &mut Scratch::default()).as_str().to_owned()
    }

    fn rewritten<'r>(&self, request: &Presented<'r>) -> Cow<'r, str> {
        let path = rewrite(&self.rewrite, request.path, request.bindings);
        let lower = request.shape.is_some_and(|shape| shape.lower_path);
        if lower && path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return path.to_ascii_lowercase().into();
        }
        path
    }
}

/// The path as it is forwarded. What a template binds goes in as the client wrote it, percent-encoded as it was.
fn rewrite<'r>(rule: &Rewrite, path: &'r str, bindings: Bindings<'r>) -> Cow<'r, str> {
    if let Some(template) = &rule.path {
        return template.render(|name| bindings.raw(name).map(Cow::Borrowed)).into();
    }
    let stripped = match &rule.strip_prefix {
        Some(prefix) => path::strip_prefix(path, prefix).unwrap_or(path),
        None => path,
    };
    match &rule.add_prefix {
        Some(prefix) => format!("{}{stripped}", prefix.trim_end_matches('/')).into(),
        None if stripped.is_empty() => Cow::Borrowed("/"),
        None => Cow::Borrowed(stripped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::template::Template;

    fn rule(rewrite: Rewrite, ignore: &[&str], cookies: &[&str]) -> KeyRule {
        KeyRule {
            origin: "app".into(),
            version: 0,
            query: QueryRule { ignore: ignore.iter().copied().collect(), sort: false },
            cookies: CookieRule::declaring(cookies.iter().copied()),
            session: Vec::new(),
            rewrite,
        }
    }

    fn presented<'r>(path: &'r str, query: Option<&'r str>, headers: &'r HeaderMap) -> Presented<'r> {
        let bindings = Bindings::default();
        Presented {
            scheme: "http",
            authority: "a.example",
            forwarded_host: None,
            path,
            query,
            headers,
            bindings,
            shape: None,
            content: None,
            session: &[],
            cookie_stays: false,
        }
    }

    fn key_of(rule: &KeyRule, request: &Presented<'_>) -> Vec<u8> {
        let mut scratch = Scratch::default();
        rule.key(request, &mut scratch);
        scratch.key
    }

    #[test]
    fn a_target_that_stays_as_it_is_needs_no_copy() {
        let rule = rule(Rewrite::default(), &["utm_*"], &[]);
        let (headers, mut scratch) = (HeaderMap::new(), Scratch::default());
        for (text, stays) in [("/p", true), ("/p?a=1&b", true), ("/p?a=1&utm_source=x", false)] {
            let asked = PathAndQuery::from_static(text);
            let request = presented(asked.path(), asked.query(), &headers);
            let target = rule.target(&request, Some(&asked), &mut scratch);
            assert_eq!(target, rule.target(&request, None, &mut scratch), "{text}");
            assert_eq!(target.as_str().as_ptr() == asked.as_str().as_ptr(), stays, "{text}");
        }
    }

    #[test]
    fn what_is_ignored_is_neither_in_the_key_nor_forwarded() {
        let rule = rule(Rewrite::default(), &["utm_*"], &["tenant"]);
        let mut with = HeaderMap::new();
        with.insert("cookie", HeaderValue::from_static("_ga=1; tenant=blue; x=2"));
        let mut without = HeaderMap::new();
        without.insert("cookie", HeaderValue::from_static("tenant=blue"));
        let tracked = presented("/p", Some("utm_source=x&a=1"), &with);
        let plain = presented("/p", Some("a=1"), &without);
        assert_eq!(key_of(&rule, &tracked), key_of(&rule, &plain));
        let forwarded = rule.forwarded(&tracked, None, &mut Scratch::default());
        assert_eq!(forwarded, rule.forwarded(&plain, None, &mut Scratch::default()));
        assert_eq!(forwarded.target.as_str(), "/p?a=1");
        assert_eq!(forwarded.cookie, ForwardedCookie::Only(HeaderValue::from_static("tenant=blue")));
    }

    #[test]
    fn cookies_that_are_forwarded_and_not_in_the_key_are_reported() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("sessionid=1"));
        let request = presented("/", None, &headers);
        assert!(rule(Rewrite::default(), &[], &[]).key(&request, &mut Scratch::default()));
        assert!(!rule(Rewrite::default(), &[], &["lang"]).key(&request, &mut Scratch::default()));
    }

    #[test]
    fn what_plugins_change_is_changed_in_the_key_and_for_the_origin() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("sid=1; tenant=blue; x=2"));
        let plain = presented("/P", Some("b=1&a=2"), &headers);
        let route = rule(Rewrite::default(), &["utm_*"], &[]);
        let rules = |names: &[&str]| vec![Arc::new(CookieRule::declaring(names.iter().copied()))];
        let shape = Shape {
            lower_path: true,
            query: ShapedQuery::Replaced,
            query_text: "a=2&utm_x=1".to_owned(),
            restricts_cookies: true,
            cookies: rules(&["sid", "tenant"]),
            undeclared: false,
            part: b"blue".to_vec(),
            content_is_keyed: false,
        };
        let shaped = Presented { shape: Some(&shape), ..plain };
        let mut scratch = Scratch::default();
        assert!(route.key(&plain, &mut scratch));
        assert!(!route.key(&shaped, &mut scratch));
        assert_eq!(route.forwarded(&shaped, None, &mut scratch).target.as_str(), "/p?a=2");
        let cookie = |route: &KeyRule, request: &Presented<'_>| {
            route.forwarded(request, None, &mut Scratch::default()).cookie
        };
        let only = |text| ForwardedCookie::Only(HeaderValue::from_static(text));
        assert_eq!(cookie(&route, &shaped), only("sid=1; tenant=blue"));
        // What the route does not let through, no plugin does.
        assert_eq!(cookie(&rule(Rewrite::default(), &[], &["tenant"]), &shaped), only("tenant=blue"));
        let none = Shape { restricts_cookies: true, query: ShapedQuery::None, ..Shape::default() };
        let without = Presented { shape: Some(&none), ..plain };
        assert_eq!(cookie(&route, &without), ForwardedCookie::None);
        assert_eq!(route.forwarded(&without, None, &mut scratch).target.as_str(), "/P");
        // Each part of it makes another key.
        let other = Shape { part: b"red".to_vec(), ..Shape::default() };
        let keys = [
            key_of(&route, &plain),
            key_of(&route, &shaped),
            key_of(&route, &without),
            key_of(&route, &Presented { shape: Some(&other), ..plain }),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        // Cookies that nobody has looked at count as undeclared.
        let unread =
            Shape { restricts_cookies: true, cookies: rules(&["sid"]), undeclared: true, ..Shape::default() };
        assert!(route.key(&Presented { shape: Some(&unread), ..plain }, &mut scratch));
    }

    #[test]
    fn attributes_of_a_session_are_told_apart_and_from_none() {
        let rule = |names: &[&str]| KeyRule {
            session: names.iter().map(|name| (*name).into()).collect(),
            ..rule(Rewrite::default(), &[], &[])
        };
        let headers = HeaderMap::new();
        let of = |names: &[&str], session: &[(&str, &[u8])]| {
            key_of(&rule(names), &Presented { session, ..presented("/", None, &headers) })
        };
        let both = ["beta", "tier"];
        let keys = [
            of(&[], &[]),
            of(&["tier"], &[]),
            of(&both, &[]),
            of(&both, &[("tier", b"")]),
            of(&both, &[("beta", b"")]),
            of(&both, &[("beta", b""), ("tier", b"")]),
            of(&both, &[("tier", b"\"gold\"")]),
            of(&both, &[("tier", b"gold")]),
            of(&both, &[("beta", b"\"gold\"")]),
            of(&both, &[("beta", b"go"), ("tier", b"ld")]),
            of(&both, &[("beta", b"gold"), ("tier", b"")]),
            of(&both, &[("beta", b"gold\x06\x07session\x06\x04tier\x07\x02is")]),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        // What is not declared does not count, nor the order in which it comes.
        assert_eq!(of(&["tier"], &[("tier", b"1"), ("cart", b"2")]), of(&["tier"], &[("tier", b"1")]));
        assert_eq!(
            of(&both, &[("tier", b"1"), ("beta", b"2")]),
            of(&both, &[("beta", b"2"), ("tier", b"1")])
        );
    }

    #[test]
    fn the_cookie_of_a_session_that_is_in_the_key_goes_no_further() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static("__Host-sid=1"));
        let rule = rule(Rewrite::default(), &[], &[]);
        let stays = Presented { cookie_stays: true, ..presented("/", None, &headers) };
        let mut scratch = Scratch::default();
        assert!(!rule.key(&stays, &mut scratch), "the origin sees none");
        assert!(!rule.fields(&stays).has_cookie(), "nor does it count for `Vary`");
        assert_eq!(rule.forwarded(&stays, None, &mut scratch).cookie, ForwardedCookie::None);
        assert!(rule.key(&presented("/", None, &headers), &mut scratch));
    }

    #[test]
    fn of_content_method_meaning_and_bytes_are_in_the_key() {
        let route = rule(Rewrite::default(), &[], &[]);
        let typed = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static(kind));
            headers
        };
        let (json, form) = (typed("application/json"), typed("application/x-www-form-urlencoded"));
        let keyed = Shape { part: b"k".to_vec(), content_is_keyed: true, ..Shape::default() };
        let of = |class, digest, headers, shape| {
            let content = Some(PresentedContent { class, digest });
            key_of(&route, &Presented { content, shape, ..presented("/q", None, headers) })
        };
        use KeyClass::{Post, Query};
        let keys = [
            key_of(&route, &presented("/q", None, &json)),
            of(Post, "aa", &json, None),
            of(Query, "aa", &json, None),
            of(Post, "ab", &json, None),
            of(Post, "aa", &form, None),
            of(Post, "aa", &json, Some(&keyed)),
            of(Post, "aa", &form, Some(&keyed)),
            of(Query, "aa", &json, Some(&keyed)),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        // Where a plugin has put into the key what of the content matters, its bytes do not count.
        assert_eq!(of(Post, "aa", &json, Some(&keyed)), of(Post, "ab", &json, Some(&keyed)));
    }

    #[test]
    fn paths_are_rewritten_at_segment_ends() {
        let strip = |prefix: &str| Rewrite { strip_prefix: Some(prefix.into()), ..Rewrite::default() };
        let cases = [
            (strip("/api"), "/api/x", "/x"),
            (strip("/api/"), "/api/x", "/x"),
            (strip("/api"), "/api", "/"),
            (strip("/api"), "/apix", "/apix"),
            (strip("/api"), "/%61p%69/x", "/x"),
            (strip("/api"), "/%61pi", "/"),
            (strip("/api"), "/%61pix", "/%61pix"),
            (strip("/a%70i"), "/api/%78", "/%78"),
            (strip("/a/b"), "/a%2Fb/c", "/a%2Fb/c"),
            (Rewrite { add_prefix: Some("/v1".into()), ..strip("/api") }, "/api/x", "/v1/x"),
            (Rewrite { add_prefix: Some("/v1/".into()), ..Rewrite::default() }, "/x", "/v1/x"),
            (Rewrite { path: Template::parse("/fixed").ok(), ..Rewrite::default() }, "/x", "/fixed"),
        ];
        let headers = HeaderMap::new();
        for (rewrite, path, expected) in cases {
            let request = presented(path, None, &headers);
            let target = rule(rewrite, &[], &[]).target(&request, None, &mut Scratch::default());
            assert_eq!(target.as_str(), expected, "{path}");
        }
    }
}
