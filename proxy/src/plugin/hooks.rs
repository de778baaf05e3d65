//! The hooks of a route's plugins, in the order in which a request meets them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cache_semantics::Now;
use cache_semantics::cache_status::Reason;
use cache_semantics::policy::{Override, Policy};
use cache_semantics::storable::MethodClass;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};
use plugin_host::decision::{
    ForwardCookies, ForwardQuery, Mode, Purge, PurgeTarget, RequestDecision, StoreDecision,
};
use plugin_host::{Allowance, Attribute, CallError, Content, Input, Planned, Request, Response};
use purge_log::{Mode as PurgeMode, Prefix, Target, Url};
use session_state::protocol::Plain;

use super::load::{LoadedPlugin, LoadedPlugins};
use super::{Asking, Judged, TIME_OF_REQUEST, Wants, Way};
use crate::config::model::{OnRateFailure, OnRequestFailure};
use crate::limit::Charge;
use crate::proxy::Snapshot;
use crate::purge::triggers;
use crate::request_key::{PresentedFields, Shape, ShapedQuery};
use crate::server::connection::Connection;

/// The plugins of a route, in their order.
#[derive(Debug)]
pub struct RoutePlugins {
    route: Arc<str>,
    plugins: Vec<Arc<LoadedPlugin>>,
    /// The attributes of sessions that they read.
    session: Vec<Box<str>>,
    /// Whether any reads content as JSON.
    json: bool,
    /// What is to be known of a request: first by whether its method invalidates, then by whether the cache may answer it.
    wants: [[Wants; 2]; 2],
    /// What all hooks of one request may take together.
    time: Duration,
}

/// What the plugins of a route said before the lookup; memory that is used again.
#[derive(Debug, Default)]
pub struct Said {
    /// What the cache does.
    pub way: Way,
    /// What changes about key and forwarded request.
    pub shape: Shape,
    /// The attributes of the session that are in the key, so that an origin may be told of them.
    pub told: Vec<Box<str>>,
    /// What each said, for its later hooks.
    decisions: Vec<Option<Arc<RequestDecision>>>,
    planned: Planned,
    query: String,
}

/// A request that plugins will hear of again, with what they handed to themselves.
pub struct Asked {
    method: Method,
    scheme: String,
    authority: String,
    uri: Uri,
    client: Option<IpAddr>,
    tls_sni: Option<Arc<str>>,
    decisions: Vec<Option<Arc<RequestDecision>>>,
    presented: Arc<PresentedFields>,
    session: Vec<(String, Plain)>,
    content: Option<Arc<Content>>,
    /// It has content that was too long to be read: whoever decides by content does not know what it decides about.
    content_is_unread: bool,
    allowance: Allowance,
}

/// What is known of a request beside its head.
#[derive(Debug)]
pub struct Beside {
    /// Attributes of its session.
    pub session: Vec<(String, Plain)>,
    /// Its content.
    pub content: Option<Arc<Content>>,
    /// Whether it has content that was too long to be read.
    pub content_is_unread: bool,
    /// What its hooks may still take.
    pub allowance: Allowance,
}

impl Asked {
    /// Keeps what is needed of a request that was asked about.
    pub fn keep(
        parts: &Parts,
        (scheme, authority, client, connection): (&str, &str, Option<IpAddr>, &Connection),
        said: Option<&mut Said>,
        presented: &Arc<PresentedFields>,
        beside: Beside,
    ) -> Arc<Self> {
        let Beside { session, content, content_is_unread, allowance } = beside;
        Arc::new(Self {
            method: parts.method.clone(),
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            uri: parts.uri.clone(),
            client,
            tls_sni: connection.tls.as_ref().and_then(|tls| tls.server_name.clone()),
            decisions: said.map(|said| std::mem::take(&mut said.decisions)).unwrap_or_default(),
            presented: presented.clone(),
            session,
            content,
            content_is_unread,
            allowance,
        })
    }

    fn asking<'a>(&'a self, worker: usize, session: &'a [Attribute<'a>], now: Now) -> Asking<'a> {
        Asking {
            worker,
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: self.uri.path(),
            query: self.uri.query(),
            headers: &self.presented.headers,
            client: self.client,
            tls_sni: self.tls_sni.as_deref(),
            session,
            content: self.content.as_deref(),
            allowance: &self.allowance,
            now,
        }
    }

    fn session(&self) -> Vec<Attribute<'_>> {
        super::borrowed(&self.session)
    }

    fn carry(&self, position: usize) -> Option<&str> {
        self.decisions.get(position)?.as_ref()?.carry.as_deref()
    }
}

impl RoutePlugins {
    /// Those of `loaded` that a route names; `None`: it names none.
    pub fn new(route: &Arc<str>, names: &[Arc<str>], loaded: &LoadedPlugins) -> Option<Self> {
        let plugins: Vec<_> = names.iter().filter_map(|name| loaded.get(name).cloned()).collect();
        let inputs = || plugins.iter().flat_map(|loaded| &loaded.plugin.manifest().inputs);
        let declared = inputs().filter_map(|input| match input {
            Input::Session(name) => Some(name.as_str()),
            _ => None,
        });
        let planned = plugins.iter().filter_map(|loaded| loaded.plugin.plan()).flat_map(|plan| &plan.session);
        let mut session: Vec<Box<str>> =
            declared.chain(planned.map(String::as_str)).map(Into::into).collect();
        session.sort();
        session.dedup();
        let json = inputs().any(|input| matches!(input, Input::BodyJson(_)));
        let longest = plugins.iter().map(|loaded| loaded.plugin.limits().time).max();
        let time = longest.unwrap_or_default().max(TIME_OF_REQUEST);
        let wants =
            [false, true].map(|writes| [false, true].map(|looked_up| wants(&plugins, writes, looked_up)));
        (!plugins.is_empty()).then(|| Self { route: route.clone(), plugins, session, json, wants, time })
    }

    /// What all hooks of one request may take together.
    pub fn allowance(&self) -> Allowance {
        Allowance::new(self.time)
    }

    /// What is to be known of a request before they are asked. `looked_up`: the cache may answer it; `class`: of its method.
    pub fn wants(&self, class: MethodClass, looked_up: bool) -> Wants {
        self.wants[usize::from(class.invalidates())][usize::from(looked_up)]
    }

    /// The attributes of sessions that they read.
    pub fn session(&self) -> &[Box<str>] {
        &self.session
    }

    /// Whether any reads content as JSON.
    pub fn read_json(&self) -> bool {
        self.json
    }

    /// Whether any of them says what a request costs.
    pub fn charge(&self) -> bool {
        self.plugins.iter().any(|loaded| loaded.plugin.hooks().rate)
    }

    /// The buckets that they charge, each with the plugin that does.
    pub fn buckets(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        let charging = self.plugins.iter().filter(|loaded| loaded.plugin.hooks().rate);
        charging.flat_map(|loaded| {
            let buckets = &loaded.plugin.manifest().buckets;
            buckets.iter().map(|bucket| (loaded.plugin.name(), bucket.as_str()))
        })
    }

    /// Asks each what a request costs. `None`: one has failed, and the operator wants no answer then.
    pub fn charges(&self, asking: &Asking<'_>) -> Option<Vec<Charge>> {
        let mut charges = Vec::new();
        let request = self.request(asking);
        for loaded in self.plugins.iter().filter(|loaded| loaded.plugin.hooks().rate) {
            match loaded.plugin.charge(asking.worker, &request) {
                Ok(said) => charges.extend(said.iter().map(|said| Charge {
                    bucket: said.bucket.clone(),
                    key: Some(said.key.clone()),
                    cost: Some(said.cost.into()),
                })),
                Err(error) => {
                    loaded.failed("rate", &error, asking.now);
                    match loaded.on_failure().rate {
                        OnRateFailure::ClientIp => {
                            let buckets = loaded.plugin.manifest().buckets.iter();
                            charges.extend(buckets.map(|bucket| Charge {
                                bucket: bucket.as_str().into(),
                                key: None,
                                cost: None,
                            }));
                        }
                        OnRateFailure::Allow => {}
                        OnRateFailure::Deny => return None,
                    }
                }
            }
        }
        Some(charges)
    }

    /// Whether any of them hears of a request after the lookup.
    pub fn hear_more(&self, class: MethodClass) -> bool {
        self.plugins.iter().any(|loaded| {
            let hooks = loaded.plugin.hooks();
            hooks.response || (class.invalidates() && hooks.invalidate)
        })
    }

    fn request<'r>(&'r self, asking: &Asking<'r>) -> Request<'r> {
        Request {
            method: asking.method.as_str(),
            scheme: asking.scheme,
            authority: asking.authority,
            path: asking.path,
            query: asking.query,
            route: &self.route,
            headers: asking.headers,
            client_ip: asking.client,
            tls_sni: asking.tls_sni,
            session: asking.session,
            content: asking.content,
            allowance: Some(asking.allowance),
            now: asking.now,
        }
    }

    /// Asks each before the lookup.
    pub fn before_lookup(&self, asking: &Asking<'_>, said: &mut Said) {
        let Said { way, shape, told, decisions, planned, query } = said;
        *way = Way::Lookup;
        decisions.clear();
        told.clear();
        shape.lower_path = false;
        shape.query = ShapedQuery::AsPresented;
        shape.restricts_cookies = false;
        shape.cookies.clear();
        shape.undeclared = false;
        shape.part.clear();
        shape.content_is_keyed = false;
        let as_presented = self.request(asking);
        for loaded in &self.plugins {
            // Each sees the query as the one before leaves it.
            let changed;
            let request = match shape.query {
                ShapedQuery::AsPresented => &as_presented,
                ShapedQuery::None => {
                    changed = Request { query: None, ..as_presented };
                    &changed
                }
                ShapedQuery::Replaced => {
                    query.clear();
                    query.push_str(&shape.query_text);
                    changed = Request { query: Some(query.as_str()), ..as_presented };
                    &changed
                }
            };
            if let Some(plan) = loaded.plugin.plan() {
                plan.apply(request, planned);
                shape.lower_path |= plan.lower_path;
                if planned.changed {
                    shape.replace_query(planned.query());
                }
                shape.restrict_cookies(&plan.cookies);
                if !planned.part.is_empty() {
                    shape.add(&self.route, loaded, &planned.part);
                }
                told.extend(plan.session.iter().map(|name| name.as_str().into()));
                decisions.push(None);
            } else if loaded.plugin.hooks().request {
                match loaded.plugin.on_request(asking.worker, request) {
                    Ok(decision) => {
                        *way = way.and(match decision.mode {
                            Mode::Lookup => Way::Lookup,
                            Mode::Refresh => Way::Refresh,
                            Mode::Bypass => Way::Bypass(Reason::Plugin),
                        });
                        if let ForwardQuery::Exactly(query) = &decision.query {
                            shape.replace_query(query.as_deref());
                        }
                        shape.restrict_cookies(&decision.cookies);
                        if let Some(part) = &decision.key_part {
                            shape.add(&self.route, loaded, part);
                            // It has looked at these, and has put into the key what of them matters.
                            for input in &loaded.plugin.manifest().inputs {
                                match input {
                                    Input::Session(name) => told.push(name.as_str().into()),
                                    _ => {
                                        shape.content_is_keyed |= input.is_content() && decision.key.is_some()
                                    }
                                }
                            }
                        }
                        decisions.push(Some(decision));
                    }
                    Err(error) => {
                        loaded.failed("request", &error, asking.now);
                        *way = way.and(match loaded.on_failure().request {
                            OnRequestFailure::Bypass => Way::Bypass(Reason::PluginFailed),
                            OnRequestFailure::DefaultKey => Way::Lookup,
                            OnRequestFailure::Deny => Way::Deny,
                        });
                        decisions.push(None);
                    }
                }
            } else {
                decisions.push(None);
            }
        }
    }

    /// Asks each what becomes of a response.
    pub fn judge(
        &self,
        asked: &Asked,
        worker: usize,
        now: Now,
        (status, headers, content_length): (StatusCode, &HeaderMap, Option<u64>),
        policy: &Policy,
    ) -> Judged {
        let mut judged = Judged::default();
        let response = Response { status: status.as_u16(), headers, content_length };
        let session = asked.session();
        let asking = asked.asking(worker, &session, now);
        for (position, loaded) in self.plugins.iter().enumerate() {
            if !loaded.plugin.hooks().response {
                continue;
            }
            let request = self.request(&asking);
            match loaded.plugin.on_response(worker, &request, asked.carry(position), &response) {
                Ok(decision) => judged.and(decision, policy),
                Err(error) => {
                    loaded.failed("response", &error, now);
                    if !loaded.on_failure().response_as_default {
                        judged.refused = Some(Reason::PluginFailed);
                    }
                }
            }
        }
        judged
    }

    /// Asks each what a write has made stale.
    pub fn after_write(
        &self,
        asked: &Asked,
        worker: usize,
        now: Now,
        (status, headers): (StatusCode, &HeaderMap),
        snapshot: &Snapshot,
    ) -> Vec<(Target, PurgeMode)> {
        // As for what HTTP itself makes stale (RFC 9111 §4.4): only an answer without an error has changed anything.
        if !(status.is_success() || status.is_redirection()) {
            return Vec::new();
        }
        let mut purges = Vec::new();
        let response = Response { status: status.as_u16(), headers, content_length: None };
        let session = asked.session();
        let asking = asked.asking(worker, &session, now);
        for (position, loaded) in self.plugins.iter().enumerate() {
            if !loaded.plugin.hooks().invalidate {
                continue;
            }
            let request = self.request(&asking);
            // It does not know what it decides about: what it would have named beside, nobody knows.
            let reads_content = loaded.plugin.manifest().inputs.iter().any(Input::is_content);
            if asked.content_is_unread && reads_content && !loaded.on_failure().invalidate_uri_only {
                purges.push((Target::Route((&*self.route).into()), PurgeMode::Soft));
            }
            let said = loaded.plugin.on_write(worker, &request, asked.carry(position), &response);
            match said {
                Ok(said) => {
                    for purge in said {
                        let mode = if purge.soft { PurgeMode::Soft } else { PurgeMode::Hard };
                        let targets = self.targets(&purge, &asking, snapshot);
                        purges.extend(targets.into_iter().map(|target| (target, mode)));
                    }
                }
                Err(error) => {
                    loaded.failed("invalidate", &error, now);
                    // The URI itself is purged in any case. What else it would have named, nobody knows.
                    if !loaded.on_failure().invalidate_uri_only {
                        purges.push((Target::Route((&*self.route).into()), PurgeMode::Soft));
                    }
                }
            }
        }
        purges
    }

    fn targets(&self, purge: &Purge, asking: &Asking<'_>, snapshot: &Snapshot) -> Vec<Target> {
        let site = || (asking.scheme.into(), asking.authority.into());
        match &purge.target {
            PurgeTarget::Tag(tag) => vec![Target::Tag(tag.clone())],
            PurgeTarget::TagGlob(glob) => vec![Target::tag_or_glob(glob)],
            PurgeTarget::PathAndQuery(path) => {
                let (scheme, authority) = site();
                triggers::keyed_urls(snapshot, Url { scheme, authority, path_and_query: path.clone() })
            }
            PurgeTarget::PathPrefix(path) => {
                triggers::keyed_prefixes(snapshot, Prefix { site: Some(site()), path: path.clone() })
            }
            PurgeTarget::Route => vec![Target::Route((&*self.route).into())],
        }
    }
}

fn wants(plugins: &[Arc<LoadedPlugin>], writes: bool, looked_up: bool) -> Wants {
    let any = |of: fn(&Input) -> bool, plan: bool| {
        plugins.iter().any(|loaded| {
            let hooks = loaded.plugin.hooks();
            let asked = hooks.rate
                || (looked_up && (hooks.request || hooks.response))
                || (writes && hooks.invalidate);
            (asked && loaded.plugin.manifest().inputs.iter().any(of))
                || (plan && looked_up && loaded.plugin.plan().is_some_and(|plan| !plan.session.is_empty()))
        })
    };
    Wants {
        content: any(Input::is_content, false),
        session: any(|input| matches!(input, Input::Session(_)), true),
    }
}

impl Shape {
    fn replace_query(&mut self, query: Option<&str>) {
        self.query_text.clear();
        self.query = match query {
            Some(query) => {
                self.query_text.push_str(query);
                ShapedQuery::Replaced
            }
            None => ShapedQuery::None,
        };
    }

    fn restrict_cookies(&mut self, cookies: &ForwardCookies) {
        match cookies {
            ForwardCookies::AsRouted => return,
            ForwardCookies::None => self.cookies.clear(),
            // None stays none.
            ForwardCookies::Only { .. } if self.restricts_cookies && self.cookies.is_empty() => {}
            ForwardCookies::Only { rule, all_read } => {
                // Where one has looked at all that it lets pass, no other need have.
                self.undeclared = !all_read && (!self.restricts_cookies || self.undeclared);
                self.cookies.push(rule.clone());
            }
        }
        self.restricts_cookies = true;
    }

    /// Adds what a plugin says to the key: under the route's name and its own, so that it meets nothing of another.
    fn add(&mut self, route: &str, loaded: &LoadedPlugin, part: &[u8]) {
        if self.part.is_empty() {
            push(&mut self.part, route.as_bytes());
        }
        push(&mut self.part, loaded.plugin.name().as_bytes());
        push(&mut self.part, part);
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Judged {
    fn and(&mut self, decision: StoreDecision, base: &Policy) {
        match decision {
            StoreDecision::Default => {}
            StoreDecision::NoStore => self.refused = self.refused.or(Some(Reason::Plugin)),
            StoreDecision::HitForPass(time) => {
                self.refused = self.refused.or(Some(Reason::Plugin));
                self.pass_for = self.pass_for.max(Some(time));
            }
            StoreDecision::Store(said) => {
                let policy = self.policy.get_or_insert_with(|| base.clone());
                let shorter = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                if said.ttl.is_some() {
                    // It stands above `max-age` of the origin, and below everything that forbids to store.
                    let by_plugin = policy.overrides.ignores(Override::MaxAge) && policy.ttl != base.ttl;
                    policy.ttl = if by_plugin { shorter(policy.ttl, said.ttl) } else { said.ttl };
                    policy.overrides = policy.overrides.with(Override::MaxAge);
                }
                if said.stale_while_revalidate.is_some() {
                    policy.stale_while_revalidate = said.stale_while_revalidate;
                }
                if said.stale_if_error.is_some() {
                    policy.stale_if_error = said.stale_if_error;
                }
                self.tags.extend(said.tags.into_iter().map(String::from));
                self.vary.extend(said.vary);
                self.strip.extend(said.strip);
            }
        }
    }
}

impl LoadedPlugin {
    /// A hook has failed: its operator is told, and at most once a second.
    fn failed(&self, hook: &'static str, error: &CallError, now: Now) {
        // What is not asked has said its reason before.
        if matches!(error, CallError::Open) || !self.may_complain(now) {
            return;
        }
        let backtrace = match error {
            CallError::Trap { backtrace, .. } => backtrace.join(" | "),
            _ => String::new(),
        };
        tracing::warn!(
            plugin = &**self.plugin.name(),
            hook,
            error.r#type = error.reason(),
            %error,
            backtrace,
            "a plugin failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use cache_semantics::cookies::CookieRule;
    use plugin_host::decision::StorePolicy;

    use super::*;

    #[test]
    fn the_strictest_way_counts() {
        let ways = [Way::Lookup, Way::Refresh, Way::Bypass(Reason::Plugin), Way::Deny];
        for (at, one) in ways.into_iter().enumerate() {
            for (other_at, other) in ways.into_iter().enumerate() {
                assert_eq!(one.and(other), ways[at.max(other_at)]);
            }
        }
    }

    #[test]
    fn cookies_pass_that_all_let_pass() {
        let only = |names: &[&str], all_read| ForwardCookies::Only {
            rule: CookieRule::declaring(names.iter().copied()).into(),
            all_read,
        };
        let mut shape = Shape::default();
        shape.restrict_cookies(&ForwardCookies::AsRouted);
        assert!(!shape.restricts_cookies && shape.cookies.is_empty());
        shape.restrict_cookies(&only(&["a", "b"], false));
        assert!(shape.undeclared && shape.restricts_cookies && shape.cookies.len() == 1);
        shape.restrict_cookies(&only(&["b"], true));
        assert!(!shape.undeclared && shape.cookies.len() == 2);
        shape.restrict_cookies(&ForwardCookies::None);
        shape.restrict_cookies(&only(&["c"], true));
        assert!(shape.restricts_cookies && shape.cookies.is_empty());
    }

    #[test]
    fn of_several_that_judge_the_strictest_counts() {
        let store = |ttl: u64, tag: &str| {
            StoreDecision::Store(StorePolicy {
                ttl: Some(Duration::from_secs(ttl)),
                tags: vec![tag.into()],
                ..StorePolicy::default()
            })
        };
        let base = Policy { ttl: Some(Duration::from_secs(5)), ..Policy::default() };
        let mut judged = Judged::default();
        for decision in [store(60, "a"), store(30, "b"), store(90, "c")] {
            judged.and(decision, &base);
        }
        let policy = judged.policy.clone().unwrap();
        assert_eq!(policy.ttl, Some(Duration::from_secs(30)));
        assert!(policy.overrides.ignores(Override::MaxAge) && !policy.overrides.ignores(Override::Private));
        assert_eq!(judged.tags, ["a", "b", "c"]);
        assert_eq!(judged.refused, None);
        judged.and(StoreDecision::NoStore, &base);
        judged.and(store(10, "d"), &base);
        assert_eq!(judged.refused, Some(Reason::Plugin));
    }
}
