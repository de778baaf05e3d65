//! `[[test]]`: what a person expects of the routes, asked of the very functions that answer requests.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use cache_semantics::authority::normal_authority;
use cache_semantics::key::KeyPart;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::decode::{At, Field, Named, OneOrMany, Reader, Text};
use super::mistake::{Mistake, Span};
use super::model::{Action, Cache, Config, Route};
use super::schema;
use crate::request_key::{KeyRule, Presented, Scratch};
use crate::routes::{Bindings, NoRoute, RequestView, Routes};
use crate::session::spec::Use;

/// One `[[test]]`, its requests parsed.
#[derive(Debug)]
pub(super) struct Expectation {
    request: Asked,
    route: Option<At<Text>>,
    forwarded: Option<At<Text>>,
    same_key_as: Vec<Asked>,
    different_key_from: Vec<Asked>,
    cache: Option<At<bool>>,
    status: Option<At<u16>>,
    location: Option<At<Text>>,
}

/// A request that is only thought of.
#[derive(Debug)]
struct Asked {
    span: Span,
    shown: String,
    method: Method,
    scheme: Scheme,
    /// In lower case, without default port.
    authority: String,
    target: PathAndQuery,
    headers: HeaderMap,
    client: IpAddr,
    session: Option<Attributes>,
}

/// Attributes of a session that is only thought of.
type Attributes = Vec<(String, Text)>;

/// What would be done with a request.
struct Fate<'r> {
    route: Result<&'r Arc<Route>, NoRoute>,
    bindings: Bindings<'r>,
    status: Option<u16>,
    location: Option<String>,
    /// Path and query as the origin sees them.
    forwarded: Option<String>,
    /// Where the cache is asked: the key, and which cache.
    key: Option<(Vec<u8>, &'r str)>,
}

impl Expectation {
    /// Reads a test; `None` if what is wrong with it has been reported.
    pub(super) fn of(test: &schema::Test, reader: &Reader<'_>) -> Option<Self> {
        if test.request.is_absent() && !test.puzzling {
            let help = "add `request = \"GET /\"`";
            reader.report(Mistake::new(test.span.clone(), "this test asks for nothing").help(help));
        }
        let headers = fields(&test.headers, reader).unwrap_or_default();
        let session = attributes(&test.session, reader);
        let client = match test.client.get() {
            None => Some(IpAddr::from([127, 0, 0, 1])),
            Some(at) => {
                let address = at.value.value.parse().ok();
                if address.is_none() {
                    let message = format!("`{}` is not an address", at.value.shown);
                    reader.report(Mistake::new(at.span.clone(), message));
                }
                address
            }
        };
        let request = test
            .request
            .get()
            .and_then(|at| Asked::parse(at, headers.clone(), client?, session.clone(), reader));
        let other = |at: &At<schema::OtherValue>| {
            let other = &at.value.0;
            // What is wrong with the test itself has been told.
            request.as_ref()?;
            let headers = fields(&other.headers, reader).unwrap_or_else(|| headers.clone());
            let session = attributes(&other.session, reader).or_else(|| session.clone());
            let text = other.request.get().or_else(|| test.request.get())?;
            let asked = Asked::parse(text, headers, client?, session, reader)?;
            Some(Asked { span: at.span.clone(), ..asked })
        };
        let list = |field: &Field<OneOrMany<schema::OtherValue>>| {
            let others = field.value().into_iter().flat_map(|many| &many.0);
            others.map(other).collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()
        };
        let (same, different) = (list(&test.same_key_as), list(&test.different_key_from));
        Some(Self {
            request: request?,
            route: test.route.get().cloned(),
            forwarded: test.forwarded.get().cloned(),
            same_key_as: same?,
            different_key_from: different?,
            cache: test.cache.get().cloned(),
            status: test
                .status
                .get()
                .map(|at| At { value: u16::try_from(at.value.0).unwrap_or_default(), span: at.span.clone() }),
            location: test.location.get().cloned(),
        })
    }

    /// Asks the routes; each expectation that is not met is a mistake.
    pub(super) fn check(&self, config: &Config, routes: &Routes, failures: &mut Vec<Mistake>) {
        let fate = self.request.fate(config, routes);
        let request = &self.request.shown;
        if let Some(at) = &self.route {
            let found = fate.route.map_or("none", |route| &*route.name);
            if found != at.value.value {
                let message = format!("`{request}` is taken by {}", name_of(fate.route));
                let known = config.routes.iter().any(|route| *route.name == *at.value.value)
                    || at.value.value == "none";
                let mistake = Mistake::new(at.span.clone(), message);
                failures.push(if known {
                    mistake
                } else {
                    let near = super::mistake::nearest(
                        &at.value.value,
                        config.routes.iter().map(|route| &*route.name),
                    );
                    let help = near.map_or_else(
                        || format!("there is no route `{}`", at.value.shown),
                        |near| format!("there is no route `{}`; did you mean `{near}`?", at.value.shown),
                    );
                    mistake.help(help)
                });
            }
        }
        if let Some(at) = &self.status
            && fate.status != Some(at.value)
        {
            let found =
                fate.status.map_or_else(|| "by the origin".to_owned(), |status| format!("with {status}"));
            failures.push(Mistake::new(at.span.clone(), format!("`{request}` is answered {found}")));
        }
        if let Some(at) = &self.location
            && fate.location.as_deref() != Some(&at.value.value)
        {
            let found = fate
                .location
                .as_ref()
                .map_or_else(|| "is not redirected".to_owned(), |to| format!("is redirected to `{to}`"));
            failures.push(Mistake::new(at.span.clone(), format!("`{request}` {found}")));
        }
        if let Some(at) = &self.forwarded
            && fate.forwarded.as_deref() != Some(&at.value.value)
        {
            let found = fate.forwarded.as_ref().map_or_else(
                || "is not forwarded".to_owned(),
                |target| format!("is forwarded as `{target}`"),
            );
            failures.push(Mistake::new(at.span.clone(), format!("`{request}` {found}")));
        }
        if let Some(at) = &self.cache
            && fate.key.is_some() != at.value
        {
            let found = if at.value { "does not ask the cache" } else { "asks the cache" };
            let mistake = Mistake::new(at.span.clone(), format!("`{request}` {found}"));
            failures.push(match self.request.why_not(fate.route, config) {
                Some(why) if at.value => mistake.help(why),
                _ => mistake,
            });
        }
        for (others, same) in [(&self.same_key_as, true), (&self.different_key_from, false)] {
            for other in others {
                let theirs = other.fate(config, routes);
                let message = match (&fate.key, &theirs.key) {
                    (None, _) => format!("`{request}` has no key: it does not ask the cache"),
                    (_, None) => format!("`{}` has no key: it does not ask the cache", other.shown),
                    (Some(mine), Some(theirs)) if (mine == theirs) == same => continue,
                    (Some(mine), Some(theirs)) if same => {
                        format!(
                            "`{request}` and `{}` have different keys: {}",
                            other.shown,
                            difference(mine, theirs)
                        )
                    }
                    _ => format!("`{request}` and `{}` have the same key", other.shown),
                };
                // A request that asks for nothing shares nothing, which is what was expected.
                if !same && (fate.key.is_none() || theirs.key.is_none()) {
                    continue;
                }
                failures.push(Mistake::new(other.span.clone(), message));
            }
        }
    }
}

/// Fields of a request; `None`: none are given.
fn fields(field: &Field<Named<Text>>, reader: &Reader<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, at) in &field.value()?.0 {
        match (HeaderName::from_bytes(name.value.as_bytes()), HeaderValue::from_str(&at.value.value)) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => reader.report(Mistake::new(name.span.clone(), "this is not a field")),
        }
    }
    Some(headers)
}

/// Attributes of a session; `None`: there is none.
fn attributes(field: &Field<Named<Text>>, reader: &Reader<'_>) -> Option<Attributes> {
    let mut attributes = Vec::new();
    for (name, at) in &field.value()?.0 {
        if !session_state::protocol::is_name(&name.value) {
            let message = format!("`{}` is not the name of an attribute", name.value.escape_debug());
            reader.report(Mistake::new(name.span.clone(), message));
        }
        attributes.push((name.value.clone(), at.value.clone()));
    }
    Some(attributes)
}

fn shown(session: &Attributes) -> String {
    let attributes: Vec<String> =
        session.iter().map(|(name, value)| format!("{name} = {}", value.shown)).collect();
    if attributes.is_empty() { "no attributes".to_owned() } else { attributes.join(", ") }
}

fn name_of(route: Result<&Arc<Route>, NoRoute>) -> String {
    match route {
        Ok(route) => format!("route `{}` (line {})", route.name, route.place.line),
        Err(NoRoute::NoneMatches) => "no route".to_owned(),
        Err(NoRoute::Ambiguous) => "no route: its path is ambiguous, and is refused with 400".to_owned(),
    }
}

fn difference((one, store): &(Vec<u8>, &str), (other, other_store): &(Vec<u8>, &str)) -> String {
    if store != other_store {
        return format!("one is of cache `{store}`, the other of `{other_store}`");
    }
    let show = |part: &KeyPart<'_>| {
        format!("{} `{}`", part.kind, String::from_utf8_lossy(part.bytes).escape_debug())
    };
    let parts = |key| cache_semantics::key::parts(key).unwrap_or_default();
    let (one, other) = (parts(one), parts(other));
    let only_in = |mine: &[KeyPart<'_>], theirs: &[KeyPart<'_>]| {
        let shown: Vec<String> = mine.iter().filter(|part| !theirs.contains(part)).map(show).collect();
        if shown.is_empty() { "nothing more".to_owned() } else { shown.join(", ") }
    };
    format!("the first has {}, the second {}", only_in(&one, &other), only_in(&other, &one))
}

impl Asked {
    fn parse(
        at: &At<Text>,
        headers: HeaderMap,
        client: IpAddr,
        session: Option<Attributes>,
        reader: &Reader<'_>,
    ) -> Option<Self> {
        let wrong = |help: &str| {
            let message = format!("`{}` is not a request", at.value.shown);
            reader.report(Mistake::new(at.span.clone(), message).help(help));
        };
        let Some((method, target)) = at.value.value.trim().split_once(' ') else {
            wrong("write a method and a path or a URL, as \"GET /posts/7?page=2\"");
            return None;
        };
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            wrong("it begins with a method, as GET");
            return None;
        };
        let target = target.trim();
        let (scheme, authority, target) = match target.split_once("://") {
            None => (Scheme::HTTP, None, target.to_owned()),
            Some((scheme, rest)) => {
                let scheme = if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP };
                let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
                (scheme, Some(authority.to_owned()), path.to_owned())
            }
        };
        let host = || headers.get(http::header::HOST)?.to_str().ok().map(str::to_owned);
        let authority = authority.or_else(host).unwrap_or_else(|| "localhost".to_owned());
        let Some(authority) = normal_authority(scheme.as_str(), &authority).map(Cow::into_owned) else {
            wrong(
                "the host is a name or an address, with a port if need be, as in `GET http://example.org:8080/page`",
            );
            return None;
        };
        let is_target = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
        let Some(target) = PathAndQuery::try_from(target).ok().filter(|_| is_target) else {
            wrong(
                "after the method stands a path that begins with `/`, or a whole URL; letters beyond ASCII are percent-encoded",
            );
            return None;
        };
        Some(Self {
            span: at.span.clone(),
            shown: match &session {
                None => at.value.shown.clone(),
                Some(session) => format!("{} ({})", at.value.shown, shown(session)),
            },
            method,
            scheme,
            authority,
            target,
            headers,
            client,
            session,
        })
    }

    fn fate<'r>(&'r self, config: &'r Config, routes: &'r Routes) -> Fate<'r> {
        let view = RequestView {
            https: self.scheme == Scheme::HTTPS,
            method: &self.method,
            host: &self.authority,
            path: self.target.path(),
            query: self.target.query(),
            headers: &self.headers,
            client: Some(self.client),
        };
        let mut fate = Fate {
            route: Err(NoRoute::NoneMatches),
            bindings: Bindings::default(),
            status: None,
            location: None,
            forwarded: None,
            key: None,
        };
        match routes.find(&view) {
            Ok(found) => {
                fate.route = Ok(found.route);
                fate.bindings = found.bindings;
            }
            Err(error) => {
                fate.route = Err(error);
                fate.status = Some(if error == NoRoute::Ambiguous { 400 } else { 404 });
                return fate;
            }
        }
        let Ok(route) = fate.route else { return fate };
        match &route.action {
            Action::RedirectToHttps => {
                fate.status = Some(308);
                fate.location = Some(format!("https://{}{}", self.authority, self.target));
            }
            Action::Redirect { status, location } => {
                fate.status = Some(status.as_u16());
                fate.location = Some(crate::routes::location(
                    location,
                    &self.authority,
                    self.target.path(),
                    self.target.query(),
                    &fate.bindings,
                ));
            }
            Action::Respond(answer) => fate.status = Some(answer.status.as_u16()),
            Action::Forward(origin) => self.forwarding(origin, route, config, &mut fate),
        }
        fate
    }

    fn forwarding<'r>(&self, origin: &Arc<str>, route: &'r Route, config: &Config, fate: &mut Fate<'r>) {
        let store = self.store(route, config);
        let version = store.map_or(0, |store| store.version);
        let rule = KeyRule::new(Arc::clone(origin), route.rewrite.clone(), route.cache.as_ref(), version);
        let session = self.session.iter().flatten();
        let session: Vec<(&str, &[u8])> =
            session.map(|(name, value)| (name.as_str(), value.value.as_bytes())).collect();
        let presented = Presented {
            scheme: self.scheme.as_str(),
            authority: &self.authority,
            forwarded_host: None,
            path: self.target.path(),
            query: self.target.query(),
            headers: &self.headers,
            bindings: fate.bindings,
            shape: None,
            content: None,
            session: &session,
            cookie_stays: false,
        };
        let mut scratch = Scratch::default();
        fate.forwarded = Some(rule.target(&presented, None, &mut scratch).as_str().to_owned());
        if let (None, Some(cache)) = (self.why_not(Ok(route), config), &route.cache) {
            rule.key(&presented, &mut scratch);
            fate.key = Some((scratch.key, &cache.store));
        }
    }

    fn store<'c>(&self, route: &Route, config: &'c Config) -> Option<&'c Cache> {
        config.caches.get(&route.cache.as_ref()?.store)
    }

    /// Why the cache is not asked, as far as the request alone tells.
    fn why_not<R: AsRef<Route>>(&self, route: Result<R, NoRoute>, config: &Config) -> Option<String> {
        let Ok(route) = route else { return Some("no route takes it".to_owned()) };
        let route = route.as_ref();
        let Some(cache) = &route.cache else {
            return Some(match route.action {
                Action::Forward(_) => format!("route `{}` has `cache = \"off\"`", route.name),
                _ => format!("route `{}` does not forward", route.name),
            });
        };
        if !cache.methods.contains(&self.method) {
            return Some(format!("{} is never answered from a cache", self.method));
        }
        let keeps_apart = !(cache.session.is_empty() && route.plugins.is_empty());
        match route.session {
            Use::Write => return Some(format!("route `{}` writes sessions", route.name)),
            Use::Read if self.session.is_some() && !keeps_apart => {
                return Some(format!(
                    "it has a session, and route `{}` has no attribute of it in its key",
                    route.name
                ));
            }
            Use::Read | Use::Off => {}
        }
        let store = config.caches.get(&cache.store)?;
        (!store.enabled).then(|| format!("cache `{}` is of `kind = \"none\"`", store.name))
    }
}

impl AsRef<Route> for Route {
    fn as_ref(&self) -> &Self {
        self
    }
}
