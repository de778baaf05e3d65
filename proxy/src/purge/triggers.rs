//! What purges without anybody's order: the answer to an unsafe request, by what HTTP says of it, by what the application says in its fields, and by
//! what the configuration says of the path.

use cache_semantics::invalidation;
use cache_semantics::storable::MethodClass;
use cache_semantics::tags::{self, TagLimits, Tags};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use purge_log::field::{self, Changed};
use purge_log::{Mode, Prefix, Target, Url};

use crate::config::model::{Model, Rewrite};
use crate::proxy::Snapshot;
use crate::routes::path;

/// What the application says it has changed. Never shown to clients.
pub const WEIR_INVALIDATE: HeaderName = HeaderName::from_static("weir-invalidate");

/// Fields for this proxy that clients do not get, as is the custom of those who read them: tags, and what has changed.
/// `Cache-Groups` and its companion are everybody's (RFC 9875).
pub static FOR_PROXIES: [HeaderName; 4] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("cache-tag"),
    WEIR_INVALIDATE,
];

/// An answer of an origin to an unsafe request.
#[derive(Debug, Clone, Copy)]
pub struct Written<'r> {
    /// The method.
    pub method: &'r Method,
    /// The operator lets the cache answer such requests by their content: they are no writes of their own URI, whatever else the answer says.
    pub is_read: bool,
    /// The URI as the client asked for it.
    pub target: invalidation::Target<'r>,
    /// The status of the answer.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'r HeaderMap,
}

/// All that is to be purged after an answer.
pub fn purged_by(snapshot: &Snapshot, written: &Written<'_>) -> Vec<(Target, Mode)> {
    let Written { method, is_read, target, status, headers } = *written;
    let class = MethodClass::of(method);
    if class.is_looked_up()
        || class == MethodClass::OtherSafe
        || !(status.is_success() || status.is_redirection())
    {
        return Vec::new();
    }
    let mut purges = Vec::new();
    // RFC 9111 §4.4: the URI, and those of the same origin that the answer names.
    let invalidated =
        if is_read { Vec::new() } else { invalidation::invalidated(class, &target, status, headers) };
    for stale in invalidated {
        let url = Url {
            scheme: stale.scheme.into(),
            authority: stale.authority.into(),
            path_and_query: stale.path_and_query.into(),
        };
        // Of what no route would have stored there is nothing to say to anybody.
        if may_be_stored(snapshot, &url) {
            purges.extend(keyed_urls(snapshot, url).into_iter().map(|target| (target, Mode::Hard)));
        }
    }
    // RFC 9875 §3: groups of the same origin.
    for group in Tags::invalidated_by(headers, TagLimits::default()).names {
        let tag = tags::group_tag(target.scheme, target.authority, &group);
        purges.push((Target::Tag(tag.into()), Mode::Hard));
    }
    if headers.contains_key(WEIR_INVALIDATE) {
        let lines: Vec<&[u8]> = headers.get_all(WEIR_INVALIDATE).iter().map(|line| line.as_bytes()).collect();
        match field::parse(&lines.join(&b", "[..])) {
            Ok((changed, mode)) => {
                for changed in changed {
                    purges.extend(
                        of_application(snapshot, &target, changed).into_iter().map(|target| (target, mode)),
                    );
                }
            }
            Err(error) => {
                tracing::warn!(url.path = target.path(), %error, "an answer's `Weir-Invalidate` is not understood; nothing is purged by it");
            }
        }
    }
    for model in &snapshot.config.models {
        purges.extend(by_model(model, method, target.path()).into_iter().map(|target| (target, Mode::Hard)));
    }
    let mut seen = std::collections::HashSet::new();
    purges.retain(|(target, mode)| seen.insert((target.clone(), *mode)));
    purges
}

fn of_application(snapshot: &Snapshot, base: &invalidation::Target<'_>, changed: Changed) -> Vec<Target> {
    match changed {
        Changed::Tag(tag) => vec![Target::tag_or_glob(&tag)],
        Changed::Url(reference) => {
            let resolved = base.resolve(&reference).filter(|url| base.is_same_origin(&url.as_target()));
            let url = resolved.map(|url| Url {
                scheme: url.scheme.into(),
                authority: url.authority.into(),
                path_and_query: url.path_and_query.into(),
            });
            url.map_or_else(Vec::new, |url| keyed_urls(snapshot, url))
        }
        Changed::Prefix(path) if path.starts_with('/') && !path.contains('?') => {
            let site = Some((base.scheme.into(), base.authority.into()));
            keyed_prefixes(snapshot, Prefix { site, path: path.into() })
        }
        Changed::Prefix(_) => Vec::new(),
        Changed::Model(name) => {
            let model = snapshot.config.models.iter().find(|model| *model.name == *name);
            model.map(whole_model).unwrap_or_default()
        }
    }
}

/// What a write on this path changes.
fn by_model(model: &Model, method: &Method, raw: &str) -> Vec<Target> {
    let canonical = path::canonical(raw.as_bytes());
    let mut purges = Vec::new();
    for rule in &model.written_by {
        let fits = rule.methods.is_empty() || rule.methods.contains(method);
        if !fits || !rule.path.matches(&canonical) {
            continue;
        }
        let bindings = crate::routes::Bindings::of(&rule.path, raw);
        for template in &model.purge {
            let is_bound = template.names().all(|name| bindings.raw(name).is_some());
            purges.push(match is_bound {
                // A `*` that a client has written into the path is one.
                true if !template.as_str().contains('*') => {
                    Target::Tag(template.render(|name| bindings.decoded(name)).into())
                }
                true => Target::tag_or_glob(&template.render(|name| bindings.decoded(name))),
                // This path does not say which; then it is all of them.
                false => Target::tag_or_glob(&template.render(|_| Some("*".into()))),
            });
        }
    }
    purges
}

/// All that a model names, whichever it is.
pub fn whole_model(model: &Model) -> Vec<Target> {
    model.purge.iter().map(|template| Target::tag_or_glob(&template.render(|_| Some("*".into())))).collect()
}

/// Whether a route that stores takes this path, so that something may be stored under the URL.
fn may_be_stored(snapshot: &Snapshot, url: &Url) -> bool {
    let raw = url.path_and_query.split('?').next().unwrap_or_default();
    let canonical = path::canonical(raw.as_bytes());
    snapshot.plans.iter().filter(|plan| plan.cache.is_some()).any(|plan| {
        let paths = &plan.route.matcher.paths;
        paths.is_empty() || paths.iter().any(|pattern| pattern.matches(&canonical))
    })
}

/// A URL as clients know it, in whatever form the routes have keyed it.
pub fn keyed_urls(snapshot: &Snapshot, url: Url) -> Vec<Target> {
    let (path, query) = match url.path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*url.path_and_query, None),
    };
    let mut forms: Vec<Box<str>> = vec![url.path_and_query.clone()];
    for plan in snapshot.plans.iter().filter(|plan| plan.cache.is_some()) {
        let keyed = plan.key.target_of_url(path, query, plan.route.matcher.bindings(path)).into_boxed_str();
        if !forms.contains(&keyed) {
            forms.push(keyed);
        }
    }
    let of = |path_and_query| Target::Url(Url { path_and_query, ..url.clone() });
    forms.into_iter().map(of).collect()
}

/// A path as clients know it and all below it, in whatever form the routes have keyed it.
pub fn keyed_prefixes(snapshot: &Snapshot, prefix: Prefix) -> Vec<Target> {
    let mut targets = vec![Target::Prefix(prefix.clone())];
    for plan in snapshot.plans.iter().filter(|plan| plan.cache.is_some()) {
        let keyed = match keyed_prefix(&plan.route.rewrite, &prefix.path) {
            Some(path) if path == prefix.path => continue,
            Some(path) => Target::Prefix(Prefix { site: prefix.site.clone(), path }),
            None => Target::Route((&*plan.route.name).into()),
        };
        if !targets.contains(&keyed) {
            targets.push(keyed);
        }
    }
    targets
}

/// The path under which a route keys what clients know below `path`; `None`: that may be anything of the route.
fn keyed_prefix(rewrite: &Rewrite, path: &str) -> Option<Box<str>> {
    if rewrite.path.is_some() {
        return None;
    }
    let stripped = match rewrite.strip_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/')) {
        None | Some("") => path,
        Some(strip) => match path::strip_prefix(path, strip) {
            Some("") => "/",
            Some(rest) => rest,
            // Above what is stripped: part of it keeps its path, part of it does not.
            None if path::strip_prefix(strip, path).is_some() => return None,
            None => path,
        },
    };
    Some(match &rewrite.add_prefix {
        Some(add) => format!("{}{stripped}", add.trim_end_matches('/')).into(),
        None => stripped.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CONFIG: &str = r#"
        [model.Post]
        written_by = ["POST|PUT|PATCH|DELETE /admin/main/post/**", "PUT|DELETE /api/posts/{id}"]
        purge = ["home_page_data_*", "blog_posts_*", "post:{id}"]

        [[route]]
        match = { path = "/admin/**" }
        origin = "http://127.0.0.1:9"
        cache = "off"

        [[route]]
        name = "api"
        match = { path = "/api/**" }
        origin = "http://127.0.0.1:9"
        rewrite = { strip_prefix = "/api" }

        [[route]]
        match = { path = ["/", "/blog/**"] }
        origin = "http://127.0.0.1:9"
    "#;

    fn purges(method: &str, path: &str, status: u16, fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let loaded = config::check_text("weir.toml", CONFIG, std::path::Path::new(".")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let snapshot = crate::proxy::tests::snapshot_of(loaded.config, runtime.handle());
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        let written = Written {
            is_read: false,
            method: &method.parse().unwrap(),
            target: invalidation::Target { scheme: "http", authority: "a.example", path_and_query: path },
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
        };
        let purged = purged_by(&snapshot, &written);
        purged
            .iter()
            .map(|(target, mode)| match mode {
                Mode::Hard => target.to_string(),
                mode => format!("{target} {}", mode.to_text()),
            })
            .collect()
    }

    #[test]
    fn a_write_purges_its_models_and_its_url() {
        /// Method, target, status, fields of the answer, and what is purged.
        type Case = (
            &'static str,
            &'static str,
            u16,
            &'static [(&'static str, &'static str)],
            &'static [&'static str],
        );
        #[rustfmt::skip]
        let cases: [Case; 10] = [
            ("PUT", "/api/posts/7", 200, &[],
                &["url http://a.example/api/posts/7", "url http://a.example/posts/7", "glob home_page_data_*", "glob blog_posts_*", "tag post:7"]),
            ("POST", "/admin/main/post/7/change/", 302, &[("location", "/admin/main/post/")],
                &["glob home_page_data_*", "glob blog_posts_*", "glob post:*"]),
            ("PUT", "/api/posts/7", 500, &[], &[]),
            ("GET", "/api/posts/7", 200, &[("weir-invalidate", "tag=a")], &[]),
            ("POST", "/other", 200, &[], &[]),
            ("POST", "/other", 200, &[("weir-invalidate", "tag=(a \"b*\"), soft")], &["tag a soft", "glob b* soft"]),
            ("POST", "/other", 200, &[("weir-invalidate", "model=Post"), ("weir-invalidate", "prefix=\"/api/x\"")],
                &["glob home_page_data_*", "glob blog_posts_*", "glob post:*", "prefix http://a.example/api/x", "prefix http://a.example/x"]),
            ("POST", "/other", 200, &[("weir-invalidate", "url=\"/blog/1\"")], &["url http://a.example/blog/1"]),
            ("POST", "/other", 200, &[("weir-invalidate", "url=\"http://b.example/\", tag=\"x")], &[]),
            ("POST", "/other", 200, &[("cache-group-invalidation", "\"g\"")], &["tag http://a.example g"]),
        ];
        for (method, path, status, fields, expected) in cases {
            assert_eq!(purges(method, path, status, fields), expected, "{method} {path} {status} {fields:?}");
        }
    }

    #[test]
    fn prefixes_are_brought_into_the_form_of_keys() {
        let rewrite = |strip: Option<&str>, add: Option<&str>| Rewrite {
            strip_prefix: strip.map(str::to_owned),
            add_prefix: add.map(str::to_owned),
            path: None,
        };
        #[rustfmt::skip]
        let cases = [
            (rewrite(None, None),                "/x",     Some("/x")),
            (rewrite(Some("/api"), None),        "/api/x", Some("/x")),
            (rewrite(Some("/api/"), None),       "/api",   Some("/")),
            (rewrite(Some("/api"), Some("/v1")), "/api/x", Some("/v1/x")),
            (rewrite(Some("/api"), None),        "/",      None),
            (rewrite(Some("/a/b"), None),        "/a",     None),
            (rewrite(Some("/api"), None),        "/blog",  Some("/blog")),
        ];
        for (rewrite, path, expected) in cases {
            assert_eq!(keyed_prefix(&rewrite, path).as_deref(), expected, "{rewrite:?} {path}");
        }
    }
}
