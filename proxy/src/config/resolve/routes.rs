//! `[[route]]`: what a route matches, what it does, and how it caches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::origins::{given_servers, looks_like_url, origin_name};
use super::{Resolver, RouteLimits, many, named};
use crate::config::decode::{At, ByteSize, Field, OneOrMany, Table as _, Text};
use crate::config::mistake::{Mistake, Span, nearest};
use crate::config::model::{
    Action, Cache, CacheRules, FixedAnswer, HeaderEdits, Origin, OriginServer, Place as ConfigPlace, Rewrite,
    Route, RouteCache,
};
use crate::config::schema;
use crate::routes::path::PathPattern;
use crate::routes::template::Template;
use crate::routes::{Condition, HostPattern, Matcher};
use cache_semantics::glob::Glob;

/// A file that is answered with lies in memory.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Content that is held for each request while something is decided by it.
const BUFFERED_BYTES_MAX: u64 = 16 << 20;

impl Resolver<'_> {
    pub(super) fn routes(
        &mut self,
        file: &schema::File,
        caches: &BTreeMap<Arc<str>, Cache>,
        limits: &RouteLimits,
        origins: &mut BTreeMap<Arc<str>, Origin>,
    ) -> Vec<Arc<Route>> {
        let missing = (file.route.is_absent() && file.is_clear())
            || file.route.value().is_some_and(|routes| routes.0.is_empty());
        if missing {
            let help = "the shortest one is\n\n    [[route]]\n    origin = \"http://127.0.0.1:8000\"\n";
            self.wrong_with_help(&(0..0), "there is no route, so nothing could be answered", help);
        }
        let mut routes: Vec<Arc<Route>> = Vec::new();
        let mut names: BTreeMap<String, Span> = BTreeMap::new();
        let plugins: Vec<String> = named(&file.plugin).map(|(name, _)| name.value.clone()).collect();
        for (index, at) in many(&file.route).enumerate() {
            let route = &at.value;
            let name = match route.name.get() {
                Some(name) => {
                    if name.value.value.trim().is_empty() || name.value.value == "none" {
                        self.wrong(&name.span, "this cannot be the name of a route");
                    }
                    if let Some(first) = names.insert(name.value.value.clone(), name.span.clone()) {
                        let message = format!("there are two routes named `{}`", name.value.shown);
                        self.reader.report(
                            Mistake::new(name.span.clone(), message).other(first, "this is the first"),
                        );
                    }
                    name.value.value.clone()
                }
                None => format!("route {}", index + 1),
            };
            let mut resolved = self.route(&name, route, caches, origins);
            resolved.limits = self.limits_of_route(&route.limits, file, limits);
            resolved.plugins = self.plugins_of_route(route, &plugins);
            resolved.session = self.session_of_route(&route.session, file);
            self.session_in_key(route, resolved.session, file);
            routes.push(Arc::new(resolved));
        }
        routes
    }

    pub(super) fn route(
        &mut self,
        name: &str,
        route: &schema::Route,
        caches: &BTreeMap<Arc<str>, Cache>,
        origins: &mut BTreeMap<Arc<str>, Origin>,
    ) -> Route {
        let mut matcher = self.matcher(route.r#match.value());
        if matches!(route.redirect.value(), Some(schema::Redirect::Https)) {
            let scheme = route.r#match.value().and_then(|matching| matching.scheme.get());
            if let Some(at) = scheme.filter(|at| at.value == schema::SchemeWord::Https) {
                self.wrong(&at.span, "a request that came by https cannot be redirected to https");
            }
            // Anything else would send a browser round in circles.
            matcher.https = Some(false);
        }
        let bound = bound_names(&matcher);
        let action = self.action(route, &bound, origins);
        let forwards = matches!(action, Action::Forward(_));
        let place = self.source.place(route.span.start);
        if !forwards {
            let idle = [
                ("cache", route.cache.span()),
                ("rewrite", route.rewrite.span()),
                ("request_headers", route.request_headers.span()),
                ("fallback", route.fallback.span()),
                ("websocket", route.websocket.span()),
                ("body_bytes", route.body_bytes.span()),
                ("buffer_body", route.buffer_body.span()),
                ("plugins", route.plugins.span()),
            ];
            let has_other_action = !route.redirect.is_absent() || !route.respond.is_absent();
            for (key, span) in idle {
                if let (Some(span), true) = (span, has_other_action) {
                    self.wrong_with_help(
                        &span,
                        format!("`{key}` means nothing on a route without origin"),
                        "leave it out",
                    );
                }
            }
        }
        Route {
            name: name.into(),
            place: ConfigPlace { ..place },
            // Read in any case, for the sake of its mistakes.
            cache: self.route_cache(&route.cache, caches, &bound).filter(|_| forwards),
            rewrite: self.rewrite(route.rewrite.value(), &bound),
            request_headers: self.header_edits(route.request_headers.value()),
            response_headers: self.header_edits(route.response_headers.value()),
            fallback: route.fallback.get().and_then(|at| self.fixed_answer(&at.value)),
            websocket: route.websocket.or(false),
            body_bytes: route.body_bytes.value().map(|size| size.0),
            buffer_body: self.buffer_body(&route.buffer_body),
            limits: Vec::new(),
            plugins: Vec::new(),
            session: crate::session::spec::Use::Off,
            matcher,
            action,
        }
    }

    pub(super) fn action(
        &self,
        route: &schema::Route,
        bound: &BTreeSet<String>,
        origins: &mut BTreeMap<Arc<str>, Origin>,
    ) -> Action {
        let given: Vec<(&str, Span)> = [
            ("origin", route.origin.span()),
            ("redirect", route.redirect.span()),
            ("respond", route.respond.span()),
        ]
        .into_iter()
        .filter_map(|(key, span)| Some((key, span?)))
        .collect();
        match &given[..] {
            [] if route.puzzling => {}
            [] => self.wrong_with_help(
                &route.span,
                "this route does not say what to do",
                "add `origin = \"http://127.0.0.1:8000\"`, `redirect = \"https\"` or `respond = { … }`",
            ),
            [_] => {}
            [(first, at), (second, other), ..] => self.reader.report(
                Mistake::new(other.clone(), format!("a route cannot have both `{first}` and `{second}`"))
                    .other(at.clone(), format!("`{first}` stands here"))
                    .help("make two routes of it"),
            ),
        }
        if let Some(at) = route.redirect.get() {
            return self.redirect(&at.value, bound);
        }
        if let Some(at) = route.respond.get() {
            return Action::Respond(self.fixed_answer(&at.value).unwrap_or_else(nothing));
        }
        let Some(at) = route.origin.get() else { return Action::Respond(nothing()) };
        let text = &at.value.0;
        let known = origins.keys().find(|name| ***name == text.value).cloned();
        if let Some(name) = known {
            return Action::Forward(name);
        }
        if !looks_like_url(&text.value) {
            let near = nearest(&text.value, origins.keys().map(|name| &**name));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("add `[origin.{}]`, or write a URL such as \"http://127.0.0.1:8000\"", text.shown)
                }
            };
            self.wrong_with_help(&at.span, format!("there is no origin `{}`", text.shown), help);
            return Action::Respond(nothing());
        }
        let url = At { value: text.clone(), span: at.span.clone() };
        let Some((tls, address)) = self.origin_url(&url) else { return Action::Respond(nothing()) };
        let name: Arc<str> = origin_name(tls, &address).into();
        if !origins.contains_key(&name) {
            let mut origin = self.origin(Arc::clone(&name), &given_servers());
            origin.servers = vec![OriginServer { tls, address, weight: 1 }];
            origins.insert(Arc::clone(&name), origin);
        }
        Action::Forward(name)
    }

    pub(super) fn redirect(&self, redirect: &schema::Redirect, bound: &BTreeSet<String>) -> Action {
        let table = match redirect {
            schema::Redirect::Https => return Action::RedirectToHttps,
            schema::Redirect::Table(table) => table,
        };
        let status = match table.status.get() {
            None => StatusCode::FOUND,
            Some(at) => match at.value.0 {
                301 => StatusCode::MOVED_PERMANENTLY,
                302 => StatusCode::FOUND,
                303 => StatusCode::SEE_OTHER,
                307 => StatusCode::TEMPORARY_REDIRECT,
                308 => StatusCode::PERMANENT_REDIRECT,
                other => {
                    self.wrong_with_help(
                        &at.span,
                        format!("{other} is not a redirect"),
                        "write 301, 302, 303, 307 or 308",
                    );
                    StatusCode::FOUND
                }
            },
        };
        let location = match table.to.get() {
            None => {
                if table.to.is_absent() && table.is_clear() {
                    self.wrong_with_help(
                        &table.span,
                        "this redirect leads nowhere",
                        "add `to = \"https://www.example.com{path}{query}\"`",
                    );
                }
                None
            }
            Some(at) => {
                let template = self.template(at, bound, &["path", "query", "host"], "location");
                if !is_location(&at.value.value) {
                    self.wrong_with_help(
                        &at.span,
                        format!("`{}` is not a location", at.value.shown),
                        "write a URL, or a path that begins with `/`; spaces and letters beyond ASCII are percent-encoded",
                    );
                }
                template
            }
        };
        let location = location.unwrap_or_else(|| Template::parse("/").expect("a slash is a template"));
        Action::Redirect { status, location }
    }

    pub(super) fn matcher(&self, matching: Option<&schema::Match>) -> Matcher {
        let Some(matching) = matching else { return Matcher::default() };
        let ignore_case = matching.ignore_case.or(false);
        let hosts = many(&matching.host).filter_map(|at| {
            let pattern = HostPattern::parse(&at.value.value);
            if pattern.is_none() {
                let help = if at.value.value.contains("://") || at.value.value.contains('/') {
                    "write the host alone; what follows it goes into `path`"
                } else if at.value.value == "*" {
                    "leave `host` out to match every host"
                } else {
                    "write \"example.com\", or \"*.example.com\" for all below it; ports do not matter"
                };
                self.wrong_with_help(&at.span, format!("`{}` is not a host", at.value.shown), help);
            }
            pattern
        });
        let paths = many(&matching.path).filter_map(|at| {
            PathPattern::parse(&at.value.value, ignore_case)
                .map_err(|error| {
                    let mistake = Mistake::new(at.span.clone(), error.to_string());
                    let text = &at.value.value;
                    self.reader.report(match error {
                        crate::routes::path::PatternError::NoSlash => mistake.help(format!(
                            "write \"/{}\"",
                            text.trim_start_matches('*').trim_start_matches('/')
                        )),
                        crate::routes::path::PatternError::NotPath('?') => {
                            mistake.help("parameters are matched by `query = { name = \"value\" }`")
                        }
                        _ => mistake,
                    });
                })
                .ok()
        });
        let methods = many(&matching.methods).filter_map(|at| {
            let text = &at.value.value;
            let method =
                Method::from_bytes(text.as_bytes()).ok().filter(|_| *text == text.to_ascii_uppercase());
            if method.is_none() {
                let help =
                    format!("did you mean `{}`? Methods are written in capitals", text.to_ascii_uppercase());
                self.wrong_with_help(&at.span, format!("`{}` is not a method", at.value.shown), help);
            }
            method
        });
        let headers = named(&matching.header)
            .filter_map(|(name, at)| self.header_name(name).map(|name| (name, condition(&at.value))));
        let query = named(&matching.query).map(|(name, at)| (name.value.clone(), condition(&at.value)));
        Matcher {
            https: matching.scheme.value().map(|scheme| *scheme == schema::SchemeWord::Https),
            hosts: hosts.collect(),
            paths: paths.collect(),
            methods: methods.collect(),
            headers: headers.collect(),
            query: query.collect(),
            clients: many(&matching.client).map(|at| at.value).collect(),
        }
    }

    pub(super) fn header_name(&self, name: &At<String>) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.value.as_bytes()).ok();
        if parsed.is_none() {
            self.wrong(&name.span, format!("`{}` is not the name of a field", name.value));
        }
        parsed
    }

    pub(super) fn header_value(&self, at: &At<Text>) -> Option<HeaderValue> {
        let value = HeaderValue::from_bytes(at.value.value.as_bytes());
        match value {
            Ok(mut value) => {
                // What came from outside of the file may be a secret.
                value.set_sensitive(at.value.filled);
                Some(value)
            }
            Err(_) => {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` cannot be the value of a field", at.value.shown.escape_debug()),
                    "line ends and other control characters cannot stand in it",
                );
                None
            }
        }
    }

    pub(super) fn header_edits(&self, edits: Option<&schema::HeaderEdits>) -> HeaderEdits {
        let Some(edits) = edits else { return HeaderEdits::default() };
        let set = named(&edits.set).filter_map(|(name, at)| {
            let field = self.editable_name(name)?;
            Some((field, self.header_value(at)?))
        });
        let remove = many(&edits.remove).filter_map(|at| {
            self.editable_name(&At { value: at.value.value.clone(), span: at.span.clone() })
        });
        HeaderEdits { set: set.collect(), remove: remove.collect() }
    }

    /// hardening: what frames a message, and what holds only for one connection, is the proxy's alone.
    pub(super) fn editable_name(&self, name: &At<String>) -> Option<HeaderName> {
        const OURS: [&str; 8] = [
            "connection",
            "content-length",
            "transfer-encoding",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-connection",
        ];
        let field = self.header_name(name)?;
        if OURS.contains(&field.as_str()) {
            self.wrong_with_help(
                &name.span,
                format!("`{}` belongs to the connection, and cannot be changed", name.value),
                "leave it out: Weir makes it anew for each connection",
            );
            return None;
        }
        Some(field)
    }

    pub(super) fn rewrite(&self, rewrite: Option<&schema::Rewrite>, bound: &BTreeSet<String>) -> Rewrite {
        let Some(rewrite) = rewrite else { return Rewrite::default() };
        let prefix = |field: &Field<Text>| {
            let at = field.get()?;
            if !at.value.value.starts_with('/') || !is_target(&at.value.value) {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not the beginning of a path", at.value.shown),
                    "it begins with `/`, as \"/api\"",
                );
                return None;
            }
            Some(at.value.value.trim_end_matches('/').to_owned())
        };
        let path = rewrite.path.get().and_then(|at| {
            let template = self.template(at, bound, &[], "path");
            let plain = at.value.value.replace(['{', '}'], "");
            if !at.value.value.starts_with('/') || !is_target(&plain) || plain.contains('?') {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not a path", at.value.shown),
                    "it begins with `/`, as \"/v2/{rest}\"",
                );
            }
            template
        });
        if let (Some(at), true) =
            (rewrite.path.get(), !rewrite.strip_prefix.is_absent() || !rewrite.add_prefix.is_absent())
        {
            self.wrong_with_help(
                &at.span,
                "`path` replaces the whole path, so prefixes mean nothing beside it",
                "leave one of them out",
            );
        }
        Rewrite { strip_prefix: prefix(&rewrite.strip_prefix), add_prefix: prefix(&rewrite.add_prefix), path }
    }

    pub(super) fn fixed_answer(&self, answer: &schema::FixedAnswer) -> Option<FixedAnswer> {
        let status = answer.status.value().map_or(200, |status| status.0);
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
        let contents: Vec<(&str, Span)> =
            [("body", answer.body.span()), ("json", answer.json.span()), ("file", answer.file.span())]
                .into_iter()
                .filter_map(|(name, span)| Some((name, span?)))
                .collect();
        if let [(first, _), (second, span), ..] = &contents[..] {
            self.wrong_with_help(
                span,
                format!("an answer cannot have both `{first}` and `{second}`"),
                "leave one of them out",
            );
        }
        let (body, content_type) = if let Some(at) = answer.json.get() {
            (Bytes::from(at.value.0.to_string()), Some("application/json"))
        } else if let Some(at) = answer.file.get() {
            (self.file(at), Some(content_type(&at.value)))
        } else if let Some(text) = answer.body.value() {
            (Bytes::from(text.value.clone().into_bytes()), Some("text/plain; charset=utf-8"))
        } else {
            (Bytes::new(), None)
        };
        // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these have no content.
        if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
            let span = answer.status.span().unwrap_or_else(|| answer.span.clone());
            self.wrong(&span, format!("an answer with status {} has no content", status.as_u16()));
        }
        let mut headers: Vec<(HeaderName, HeaderValue)> = named(&answer.headers)
            .filter_map(|(name, at)| Some((self.editable_name(name)?, self.header_value(at)?)))
            .collect();
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name == http::header::CONTENT_TYPE)
        {
            headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        }
        Some(FixedAnswer { status, headers, body })
    }

    pub(super) fn file(&self, at: &At<PathBuf>) -> Bytes {
        let path = self.readable(at);
        let Some(size) = std::fs::metadata(&path).ok().filter(|data| data.is_file()).map(|data| data.len())
        else {
            return Bytes::new();
        };
        if size > FILE_BYTES_MAX {
            self.wrong_with_help(
                &at.span,
                "this file is too large to be kept in memory",
                "at most 16MiB; larger ones are for an origin to serve",
            );
            return Bytes::new();
        }
        std::fs::read(&path).map(Bytes::from).unwrap_or_default()
    }

    pub(super) fn route_cache(
        &self,
        field: &Field<schema::RouteCache>,
        caches: &BTreeMap<Arc<str>, Cache>,
        bound: &BTreeSet<String>,
    ) -> Option<RouteCache> {
        let default_table = schema::RouteCacheTable::default();
        let table = match field.value() {
            None => &default_table,
            Some(schema::RouteCache::Off) => return None,
            Some(schema::RouteCache::Table(table)) => table,
        };
        let mut store = &caches["default"];
        if let Some(at) = table.store.get() {
            match caches.get(at.value.value.as_str()) {
                Some(cache) => store = cache,
                None => {
                    let near = nearest(&at.value.value, caches.keys().map(|name| &**name).chain(["off"]));
                    let help = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add `[cache.{}]`", at.value.shown),
                    };
                    self.wrong_with_help(&at.span, format!("there is no cache `{}`", at.value.shown), help);
                }
            }
        }
        let base = &store.defaults;
        let overrides: Vec<_> = many(&table.r#override).map(|at| at.value).collect();
        let rules = CacheRules {
            ttl: self.maybe_duration(&table.ttl).or(base.ttl),
            error_ttl_max: self.maybe_duration(&table.error_ttl_max).or(base.error_ttl_max),
            stale_while_revalidate: self
                .maybe_duration(&table.stale_while_revalidate)
                .or(base.stale_while_revalidate),
            stale_if_error: self.maybe_duration(&table.stale_if_error).or(base.stale_if_error),
            store_set_cookie: table.store_set_cookie.or(base.store_set_cookie),
            compress: table.compress.value().copied().or(base.compress),
            strict: table.unverified.value().map(|word| *word == schema::Unverified::Strict).or(base.strict),
            overrides,
        };
        let overrides_lifetime =
            many(&table.r#override).find(|at| at.value == crate::config::model::Override::MaxAge);
        if let (Some(at), None) = (overrides_lifetime, rules.ttl) {
            self.wrong_with_help(
                &at.span,
                "`max-age` of the origin shall not count, but nothing stands in its place",
                "add `ttl = \"5m\"`",
            );
        }
        Some(RouteCache {
            store: Arc::clone(&store.name),
            rules,
            ignore_query: many(&table.ignore_query).map(|at| &*at.value.value).collect(),
            sort_query: table.sort_query.or(false),
            cookies: many(&table.cookies).filter_map(|at| self.cookie_name(at)).collect(),
            session: self.attribute_names(&table.session),
            tags: many(&table.tags).filter_map(|at| self.tag(at, bound)).collect(),
            methods: self.cached_methods(&table.methods),
        })
    }

    /// Methods that are answered from the cache.
    fn cached_methods(&self, field: &Field<OneOrMany<Text>>) -> Vec<Method> {
        if field.is_absent() {
            return vec![Method::GET, Method::HEAD];
        }
        let mut methods = Vec::new();
        for at in many(field) {
            match at.value.value.as_str() {
                "GET" => methods.extend([Method::GET, Method::HEAD]),
                "QUERY" | "POST" => methods.extend(Method::from_bytes(at.value.value.as_bytes())),
                _ => self.wrong_with_help(
                    &at.span,
                    format!("`{}` is never answered from a cache", at.value.shown),
                    "there are \"GET\" (and with it HEAD), \"QUERY\" and \"POST\"",
                ),
            }
        }
        methods
    }

    fn buffer_body(&self, field: &Field<ByteSize>) -> usize {
        let Some(at) = field.get() else { return 64 << 10 };
        if at.value.0 > BUFFERED_BYTES_MAX {
            self.wrong_with_help(
                &at.span,
                "this is too much to be held for each request",
                "at most 16MiB; what is longer is passed on as it comes",
            );
        }
        usize::try_from(at.value.0.min(BUFFERED_BYTES_MAX)).unwrap_or_default()
    }

    pub(super) fn cookie_name(&self, at: &At<Text>) -> Option<String> {
        let name = &at.value.value;
        let valid = HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !valid {
            let help = if name.contains('*') {
                "cookies are named one by one, without `*`"
            } else {
                "as in \"tenant\""
            };
            self.wrong_with_help(&at.span, format!("`{}` is not the name of a cookie", at.value.shown), help);
        }
        valid.then(|| name.clone())
    }

    pub(super) fn tag(&self, at: &At<Text>, bound: &BTreeSet<String>) -> Option<Template> {
        let text = &at.value.value;
        if text.is_empty()
            || text.len() > 256
            || text.contains(|char: char| char.is_whitespace() || char.is_control() || char == ',')
        {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is not a tag", at.value.shown.escape_debug()),
                "a tag has 1 to 256 characters, and neither spaces nor commas",
            );
            return None;
        }
        self.template(at, bound, &[], "tag")
    }
}

/// What a route answers whose own mistake has been reported: the file is refused anyway.
fn nothing() -> FixedAnswer {
    FixedAnswer { status: StatusCode::NOT_FOUND, headers: Vec::new(), body: Bytes::new() }
}

fn bound_names(matcher: &Matcher) -> BTreeSet<String> {
    // With several patterns, only what all of them bind is sure to have a value.
    let mut sets =
        matcher.paths.iter().map(|pattern| pattern.names().map(str::to_owned).collect::<BTreeSet<_>>());
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |known, set| known.intersection(&set).cloned().collect())
}

fn condition(condition: &schema::Condition) -> Condition {
    match condition {
        schema::Condition::Present => Condition::Present,
        schema::Condition::Absent => Condition::Absent,
        schema::Condition::Fits(text) => Condition::Fits(Glob::new(&text.value)),
    }
}

/// Only what may stand in a request target as it is.
fn is_target(text: &str) -> bool {
    http::uri::PathAndQuery::try_from(text).is_ok() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_location(text: &str) -> bool {
    let plain =
        text.replace("{path}", "/").replace("{query}", "").replace("{host}", "host").replace(['{', '}'], "");
    let begins = plain.starts_with('/') || plain.starts_with("http://") || plain.starts_with("https://");
    begins && plain.bytes().all(|byte| byte.is_ascii_graphic())
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "pdf" => "application/pdf",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
