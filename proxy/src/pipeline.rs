//! One request, from arrival to answer: **start reading the proxy here**.
//!
//! `serve` is the hit path: a plain function that ends in an answer, or hands over to `Exchange`, which waits for others.

mod admission;
mod behind;
mod cached;
mod ended;
mod forward;
mod interim;
mod local;
mod opening;
mod outgoing;
mod ready;
mod stored;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_semantics::Now;
use cache_semantics::cache_status::{CACHE_STATUS, CacheStatus, Fwd, Reason};
use cache_semantics::invalidation::{ResolvedTarget, Target};
use cache_semantics::reuse::{self, Disposition, OriginFailure};
use cache_semantics::storable::{self, MethodClass, RequestFacts};
use cache_semantics::validation::{self, CONDITIONS, HeadEffect, Validators};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Version};
use ipnet::IpNet;

use self::admission::{asking, tell_session};
use self::ended::Asked;
use self::interim::InterimRelay;
use self::local::{Local, edit, recipient};
use self::opening::{names_only_its_session, sessions_of};
use self::outgoing::fill_key;
use self::ready::{Ready, Wait, Waiting};
use crate::access_log::{AccessRecord, AccessSink};
use crate::answer::Answer;
use crate::body::{AtEnd, Body};
use crate::cache::{Arriving, Decision, Hit, NamedCache, Outcome, Wanted};
use crate::collapse::{FillToken, Join};
use crate::config::model::{Action, FixedAnswer, HeaderEdits, Route};
use crate::cookies;
use crate::error::{ProxyError, Recipient};
use crate::fill::{self, Fill, FillRequest, Told};
use crate::gate::{self, Authority, Gated, Rejection};
use crate::identity;
use crate::incoming::{OnUpgrade, Received};
use crate::limit::{self, Admission, Charge, Held, Said};
use crate::metrics::{self, WorkerMetrics};
use crate::origin::{
    self, Answered, HearsInterim, OnInterim, Origin, OriginFields, Outgoing, OutgoingHead, Sender,
    TunnelTerms,
};
use crate::plugin::{self, Asking, Wants, Way};
use crate::proxy::{Plan, PlanCache, Proxy, Snapshot};
use crate::purge::triggers::FOR_PROXIES;
use crate::recording::Recording;
use crate::request_content::RequestContent;
use crate::request_key::{Forwarded, ForwardedCookie, Presented, PresentedContent, PresentedFields, Scratch};
use crate::respond;
use crate::routes::{self, Bindings, NoRoute, RequestView};
use crate::server::Serve;
use crate::server::connection::Connection;
use crate::session::spec::Use;
use crate::session::vault::Jars;
use crate::session::{self, Opened, Sessions, Settled};
use crate::store::StoredResponse;
use crate::store::shared::{Lease, Leased, Looked};

/// One worker's view of the proxy.
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What all workers share.
    pub proxy: Arc<Proxy>,
    /// What it counts.
    pub metrics: Arc<WorkerMetrics>,
    /// Where its access lines go.
    pub access: AccessSink,
}

/// How often one who waits for a fill waits for another, when the leader has left.
const SUCCESSORS_MAX: usize = 16;

/// Answers the requests of one worker.
pub struct Pipeline(Arc<Worker>);

impl Pipeline {
    /// The pipeline of worker number `index`.
    pub fn new(index: usize, proxy: Arc<Proxy>, access: AccessSink) -> Self {
        let metrics = proxy.metrics.worker(index).clone();
        Self(Arc::new(Worker { index, proxy, metrics, access }))
    }
}

impl Serve for Pipeline {
    fn serve(&self, request: &mut Received, connection: &Arc<Connection>) -> Answer {
        arrive(&self.0, request, connection)
    }

    fn refuse(&self, rejection: Rejection, connection: &Arc<Connection>) -> Response<Body> {
        refuse(&self.0, rejection, connection)
    }
}

thread_local! {
    /// Memory for making keys.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Memory for what plugins say.
    static SAID: Cell<Option<Box<plugin::Said>>> = const { Cell::new(None) };
}

/// Answers one request. A fresh hit is answered before this returns; everything that waits goes on in an [`Exchange`].
fn arrive(worker: &Arc<Worker>, request: &mut Received, connection: &Arc<Connection>) -> Answer {
    let now = worker.proxy.clock.now();
    let snapshot = worker.proxy.snapshot();
    let parts = &mut request.parts;

    // The gate: one length, one target, one authority; end-to-end fields only.
    let trusted = &snapshot.config.server.trusted_proxies;
    let received = gate::RequestFacts::of(connection.tls.is_some(), &request.content);
    let gated = match gate::check_request(parts, &received, &snapshot.config.server.limits) {
        Ok(gated) => gated,
        Err(rejection) => {
            let said = Said::new();
            let local = Local {
                worker,
                connection,
                parts,
                authority: None,
                trusted,
                now,
                route: None,
                close: true,
                said,
            };
            return Answer::ready(local.error(&rejection.into(), Reason::Refused));
        }
    };
    if !snapshot.cookies.is_idle() {
        let site = identity::of(connection, &parts.headers, trusted);
        let https = site.scheme() == http::uri::Scheme::HTTPS;
        let secure = match site.host() {
            Some(host) => cookies::is_secure(https, host.host()),
            None => cookies::is_secure(https, gated.authority.host()),
        };
        snapshot.cookies.presented(&mut parts.headers, secure);
    }
    serve(worker, request, connection, &snapshot, now, gated, Ready::default())
}

/// A request that passed the gate. `ready`: what it has waited for already.
fn serve(
    worker: &Arc<Worker>,
    request: &mut Received,
    connection: &Arc<Connection>,
    snapshot: &Arc<Snapshot>,
    now: Now,
    gated: Gated,
    mut ready: Ready,
) -> Answer {
    let trusted = &snapshot.config.server.trusted_proxies;
    let parts = &request.parts;
    let mut local = Local {
        worker,
        connection,
        parts,
        authority: Some(&gated.authority),
        trusted,
        now,
        route: None,
        close: false,
        said: std::mem::take(&mut ready.said),
    };
    if gated.answer_here {
        return Answer::ready(local.options());
    }

    // The route.
    let identity = identity::of(connection, &parts.headers, trusted);
    let scheme = identity.scheme();
    let (host, authority) = gated.authority.host_and_whole();
    let view = RequestView {
        https: scheme == http::uri::Scheme::HTTPS,
        method: &parts.method,
        host,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client: if snapshot.asks_client { identity.address() } else { None },
    };
    let found = match snapshot.routes.find(&view) {
        Ok(found) => found,
        Err(NoRoute::NoneMatches) => {
            return Answer::ready(local.error(&ProxyError::NoRoute, Reason::Refused));
        }
        Err(NoRoute::Ambiguous) => {
            return Answer::ready(local.error(&ProxyError::AmbiguousPath, Reason::Refused));
        }
    };
    let index = found.index;
    let plan = &snapshot.plans[index];
    local.route = Some(&plan.route);

    macro_rules! wait {
        ($wait:expr) => {{
            ready.said = std::mem::take(&mut local.said);
            let waiting = Waiting {
                worker: worker.clone(),
                request: std::mem::take(request),
                connection: connection.clone(),
                snapshot: Arc::clone(snapshot),
                plan: index,
                now,
                gated,
                ready,
            };
            return Answer::pending(waiting.go_on($wait));
        }};
    }

    // The limits: decided here, unless Redis has to be asked.
    let has_session = sessions_of(snapshot, plan, &parts.headers).is_some();
    let charging = plan.plugins.as_ref().filter(|plugins| plugins.charge());
    if !ready.admitted && !plan.limits.is_empty() {
        let unknown = limit::Unknown { session: has_session, charges: charging.is_some() };
        let asked = asking(identity, &parts.headers, &plan.route);
        match limit::admit(&plan.limits, &asked, unknown, now) {
            Admission::Admitted(said) => local.said = said,
            Admission::Refused(refused) => {
                return Answer::ready(local.error(&ProxyError::Limited(refused), Reason::Refused));
            }
            Admission::Ask(asked) => wait!(Wait::Limits(asked)),
        }
        ready.admitted = true;
    }

    // What has to be known of it before anything is decided: its content, its session.
    let wants = ready.wants(snapshot, plan, parts, &gated);
    if wants != Wants::default() {
        wait!(Wait::For(wants));
    }
    let content_class = plan.content_class(&parts.method);
    if content_class.is_some() && !gated.has_body {
        ready.facts.get_or_insert_with(|| Arc::new(plugin::Content::new(b"", false)));
    }

    // Plugins: what it costs.
    let forwarded_host = identity.host();
    let allowance = plan.plugins.as_ref().map(|plugins| plugins.allowance());
    let allowance = ready.allowance.take().or(allowance).unwrap_or_default();
    let attributes = plugin::borrowed(&ready.attributes);
    let about = Asking {
        worker: worker.index,
        method: &parts.method,
        scheme: scheme.as_str(),
        authority: forwarded_host.as_ref().map_or(authority, Authority::as_str),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client: if plan.plugins.is_some() { identity.address() } else { None },
        tls_sni: connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
        session: &attributes,
        content: ready.facts.as_deref(),
        allowance: &allowance,
        now,
    };
    if ready.recording.is_none() {
        ready.recording = snapshot.recorder.as_ref().map(|recorder| {
            let content = ready.content.as_ref().and_then(RequestContent::whole);
            Box::new(Recording::begin(recorder, &about, &plan.route.name, content))
        });
    }
    if let Some(plugins) = charging.filter(|_| ready.charges.is_none()) {
        let Some(charges) = plugins.charges(&about) else {
            return Answer::ready(local.error(&ProxyError::PluginFailed, Reason::PluginFailed));
        };
        let charges: Arc<[Charge]> = charges.into();
        let mut asked = asking(identity, &parts.headers, &plan.route);
        asked.charges = Some(&charges);
        tell_session(&mut asked, ready.session.as_ref());
        let session_later = has_session && ready.session.is_none();
        match limit::admit_charged(&plan.limits, &asked, session_later, now) {
            Admission::Admitted(said) => local.said.add(said),
            Admission::Refused(refused) => {
                return Answer::ready(local.error(&ProxyError::Limited(refused), Reason::Refused));
            }
            Admission::Ask(asked) => {
                ready.allowance = Some(allowance);
                wait!(Wait::Charges(asked, charges))
            }
        }
        ready.charges = Some(charges);
    }

    // What the route answers by itself.
    match &plan.route.action {
        Action::Forward(_) => {}
        Action::Respond(fixed) => return Answer::ready(local.fixed(fixed)),
        Action::RedirectToHttps => {
            return Answer::ready(local.redirect_to_https(&gated.authority));
        }
        Action::Redirect { status, location } => {
            let uri = &parts.uri;
            let location = routes::location(location, authority, uri.path(), uri.query(), &found.bindings);
            return Answer::ready(local.redirect(*status, &location));
        }
    }

    // Plugins: what the cache does, what is in the key, and what of the request an origin sees.
    let mut because = bypass(plan, &parts.method, &gated, ready.keeps_out(plan, has_session));
    let mut by_plugins = plan.plugins.as_ref().filter(|_| because.is_none()).map(|plugins| {
        let mut by_plugins = SAID.take().unwrap_or_default();
        plugins.before_lookup(&about, &mut by_plugins);
        by_plugins
    });
    let way = by_plugins.as_ref().map(|by_plugins| by_plugins.way).unwrap_or_default();
    match way {
        Way::Lookup | Way::Refresh => {}
        Way::Bypass(reason) => because = Some(CacheStatus::forwarded(Fwd::Bypass).because(reason)),
        Way::Deny => return Answer::ready(local.error(&ProxyError::PluginFailed, Reason::PluginFailed)),
    }

    // The key, and what is stored under it.
    let keyed_session = plan.key.session();
    let in_session = match &ready.session {
        Some(opened) if !keyed_session.is_empty() => session::values(opened, keyed_session, now),
        _ => Vec::new(),
    };
    let presented = Presented {
        scheme: scheme.as_str(),
        authority,
        forwarded_host: forwarded_host.as_ref().map(Authority::as_str),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        bindings: found.bindings,
        // What goes past the cache is forwarded with all it carries.
        shape: by_plugins.as_ref().filter(|_| because.is_none()).map(|by_plugins| &by_plugins.shape),
        content: content_class
            .zip(ready.facts.as_deref())
            .map(|(class, content)| PresentedContent { class, digest: content.digest() }),
        session: &in_session,
        cookie_stays: ready.session.is_some() && names_only_its_session(snapshot, &parts.headers),
    };
    let looked_up = SCRATCH.with_borrow_mut(|scratch| {
        let step = match because {
            Some(status) => {
                // All its cookies are forwarded, and none is in a key.
                let cookies = parts.headers.contains_key(header::COOKIE);
                let facts = RequestFacts::of(&parts.method, &parts.headers, cookies);
                Step::Forward { status, facts }
            }
            None => {
                let cache = plan.cache.as_ref().expect("`bypass` says so where a route does not cache");
                let undeclared = plan.key.key(&presented, scratch);
                let mut facts = RequestFacts::of(&parts.method, &parts.headers, undeclared);
                if content_class.is_some() {
                    facts.method = MethodClass::Content;
                }
                facts.directives.no_cache |= way == Way::Refresh;
                let wanted = Wanted {
                    method: &parts.method,
                    headers: &parts.headers,
                    facts: &facts,
                    fields: plan.key.fields(&presented),
                    strict: cache.strict,
                };
                match cache.cache.decide(&scratch.key, &wanted, &cache.policy, now) {
                    Decision::Hit(hit) if !hit.refresh => {
                        return ControlFlow::Break(local.hit(&hit, cache, &scratch.key));
                    }
                    decision => Step::Cached { decision, key: scratch.key.as_slice().into(), facts },
                }
            }
        };
        let asked_for = parts.uri.path_and_query();
        let forwarded = match &step {
            Step::Cached { .. } => plan.key.forwarded(&presented, asked_for, scratch),
            // Unsafe requests, and routes without a cache, are forwarded with all they carry.
            Step::Forward { .. } => Forwarded {
                target: plan.key.target(&presented, asked_for, scratch),
                cookie: ForwardedCookie::AsPresented,
            },
        };
        ControlFlow::Continue((step, forwarded))
    });
    let (step, forwarded) = match looked_up {
        ControlFlow::Continue(beyond) => beyond,
        ControlFlow::Break(hit) => {
            if let Some(by_plugins) = by_plugins {
                SAID.set(Some(by_plugins));
            }
            return hit;
        }
    };

    // Beyond the memory tier.
    let tags = tags_of(plan, found.bindings);
    let said = std::mem::take(&mut local.said);
    let class = MethodClass::of(&parts.method);
    let hears_more = plan.plugins.as_ref().is_some_and(|plugins| plugins.hear_more(class));
    let client = about.client;
    let is_cached = matches!(step, Step::Cached { .. });
    let told = by_plugins.as_mut().map(|by_plugins| std::mem::take(&mut by_plugins.told));
    let told = match told {
        _ if !is_cached => None,
        None if keyed_session.is_empty() => None,
        told => {
            let mut told = told.unwrap_or_default();
            told.extend_from_slice(keyed_session);
            Some(told)
        }
    };
    let Ready { session_charged, content, facts, session, attributes, charges, recording, .. } = ready;
    let Received { mut parts, content: incoming, upgrade } = std::mem::take(request);
    let content = content.unwrap_or(RequestContent::Unread(incoming));
    let keyed = content_class.filter(|_| is_cached).map(|_| content.whole().cloned().unwrap_or_default());
    let headers = std::mem::take(&mut parts.headers);
    let presented = Arc::new(PresentedFields { headers, cookie: forwarded.cookie });
    let asked = hears_more.then(|| {
        let authority = forwarded_host.as_ref().unwrap_or(&gated.authority).as_str();
        plugin::Asked::keep(
            &parts,
            (scheme.as_str(), authority, client, connection),
            by_plugins.as_deref_mut(),
            &presented,
            plugin::Beside {
                session: attributes,
                content: facts,
                content_is_unread: content.is_too_long(),
                allowance,
            },
        )
    });
    if let Some(by_plugins) = by_plugins {
        SAID.set(Some(by_plugins));
    }
    let exchange = Exchange {
        worker: worker.clone(),
        snapshot: Arc::clone(snapshot),
        plan: index,
        connection: connection.clone(),
        scheme,
        gated,
        now,
        target: forwarded.target,
        presented,
        tags,
        interim: Arc::new(InterimRelay::new(connection.clone())),
        parts,
        asked,
        lease: None,
        upgrade,
        said,
        held: Vec::new(),
        session,
        session_charged,
        told,
        charges,
        content: keyed,
        recording,
        jars: None,
    };
    Answer::pending(exchange.run(step, content))
}

/// Answers what is no request: counted, and not logged, for nothing of it can be told.
fn refuse(worker: &Arc<Worker>, rejection: Rejection, connection: &Arc<Connection>) -> Response<Body> {
    let snapshot = worker.proxy.snapshot();
    let parts = Received::default().parts;
    let local = Local {
        worker,
        connection,
        parts: &parts,
        authority: None,
        trusted: &snapshot.config.server.trusted_proxies,
        now: worker.proxy.clock.now(),
        route: None,
        close: true,
        said: Said::new(),
    };
    local.refusal(rejection)
}

/// Why the cache is not asked; `None`: it is. `beside`: a reason that does not lie in the request's head.
fn bypass(plan: &Plan, method: &Method, gated: &Gated, beside: Option<Reason>) -> Option<CacheStatus> {
    let because = |fwd, reason| Some(CacheStatus::forwarded(fwd).because(reason));
    if gated.websocket.is_some() {
        return because(Fwd::Bypass, Reason::Upgrade);
    }
    if plan.cache.is_none() {
        return because(Fwd::Bypass, Reason::RouteOff);
    }
    if let Some(reason) = beside {
        return because(Fwd::Bypass, reason);
    }
    if !plan.answers_from_cache(method) {
        return Some(CacheStatus::forwarded(Fwd::Method));
    }
    if gated.has_body && plan.content_class(method).is_none() {
        return because(Fwd::Bypass, Reason::RequestBody);
    }
    None
}

/// The surrogate tags that the route gives to what it fills.
fn tags_of(plan: &Plan, bindings: Bindings<'_>) -> Vec<String> {
    let templates = plan.cache.as_ref().map_or(&[][..], |cache| &cache.tags);
    templates.iter().map(|tag| tag.render(|name| bindings.decoded(name))).collect()
}

/// A request that goes on beyond the memory tier: it owns all it needs, and nobody else waits while it does.
struct Exchange {
    worker: Arc<Worker>,
    snapshot: Arc<Snapshot>,
    plan: usize,
    connection: Arc<Connection>,
    scheme: http::uri::Scheme,
    gated: Gated,
    now: Now,
    /// The target as it is forwarded.
    target: PathAndQuery,
    /// The fields as they came, shared with a fill.
    presented: Arc<PresentedFields>,
    tags: Vec<String>,
    interim: Arc<InterimRelay>,
    parts: Parts,
    /// What plugins will hear of it.
    asked: Option<Arc<plugin::Asked>>,
    /// The right to fill for all proxies, for the fill that is about to begin.
    lease: Option<Lease>,
    upgrade: Option<OnUpgrade>,
    /// What is said of limits.
    said: Said,
    /// Its places in limits that count how many are there at once.
    held: Vec<Held>,
    /// Its session, where it has to do with one.
    session: Option<Opened>,
    /// Its jars of cookies, where the vault has any.
    jars: Option<Box<Jars>>,
    /// What it costs by its session has been charged.
    session_charged: bool,
    /// Where the cache is asked, and attributes of its session or plugins make the key: the attributes that are in it. An origin is told of no others.
    told: Option<Vec<Box<str>>>,
    /// What plugins say that it costs.
    charges: Option<Arc<[Charge]>>,
    /// Its content, where that is part of its key.
    content: Option<Bytes>,
    /// Where it is recorded; in a box, because hardly any is.
    recording: Option<Box<Recording>>,
}

/// What is to be done with it.
enum Step {
    /// Forward it; the cache is not asked.
    Forward { status: CacheStatus, facts: RequestFacts },
    /// What the cache said.
    Cached { decision: Decision, key: Box<[u8]>, facts: RequestFacts },
}

/// An answer on its way out, with what is to be said of it.
struct Outgo {
    response: Response<Body>,
    status: CacheStatus,
    server: Option<Arc<str>>,
}

impl Exchange {
    /// Goes on to the answer.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` holds its arguments twice, and this is the largest"
    )]
    fn run(
        mut self,
        step: Step,
        body: RequestContent,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        async move {
            if self.session.is_none()
                && let Some(sessions) =
                    sessions_of(&self.snapshot, self.plan(), &self.presented.headers).cloned()
            {
                self.session = Some(Box::pin(sessions.of_request(&self.presented.headers, self.now)).await);
            }
            let refused = if self.session.is_some() && !self.session_charged && !self.plan().limits.is_empty()
            {
                Box::pin(self.charge_opened()).await.err()
            } else {
                None
            };
            let refused = if refused.is_some() {
                refused
            } else if limit::holds(&self.plan().limits, self.gated.websocket.is_some()) {
                Box::pin(self.hold()).await.err()
            } else {
                None
            };
            let vault = self.snapshot.cookies.vault.clone();
            let unavailable = match &vault {
                Some(vault) if refused.is_none() => Box::pin(self.open_jars(vault)).await.err(),
                _ => None,
            };
            let mut outgo = match (refused, unavailable, step) {
                (Some(refused), ..) => self.refused(refused),
                (None, Some(error), _) => self.unavailable(&error),
                (None, None, Step::Forward { status, facts }) => {
                    self.forward(status, &facts, Some(body)).await
                }
                // What a fill needs room for is not to burden what is only forwarded.
                (None, None, Step::Cached { decision, key, facts }) => {
                    Box::pin(self.cached(decision, &key, &facts)).await
                }
            };
            if let Some(vault) = vault.filter(|vault| vault.is_set(outgo.response.headers()))
                && let Err(error) = Box::pin(self.keep_cookies(&vault, &mut outgo)).await
            {
                outgo = self.unavailable(&error);
            }
            // No interim response after the final one.
            self.interim.close();
            drop(self.connection.interim.take());
            self.finish(outgo)
        }
    }

    fn plan(&self) -> &Plan {
        &self.snapshot.plans[self.plan]
    }

    fn route(&self) -> &Arc<Route> {
        &self.plan().route
    }

    fn plan_cache(&self) -> &PlanCache {
        self.plan().cache.as_ref().expect("only a route that caches asks the cache")
    }

    fn cache(&self) -> &Arc<NamedCache> {
        &self.plan_cache().cache
    }

    fn origin(&self) -> &Arc<Origin> {
        self.plan()
            .origin
            .as_ref()
            .expect("a route that forwards has an origin: the configuration was checked")
    }

    fn clock(&self) -> Now {
        self.worker.proxy.clock.now()
    }

    fn error(&self, error: &ProxyError, status: CacheStatus) -> Outgo {
        Outgo {
            response: self.worker.told(error, &recipient(&self.parts, &self.presented.headers)),
            status,
            server: None,
        }
    }

    fn finish(&mut self, outgo: Outgo) -> Response<Body> {
        let Outgo { mut response, status, server } = outgo;
        // Hardly any response has one: to go through its names is quicker than to look for each of ours.
        let is_ours = |name| session::is_field(name) || FOR_PROXIES.contains(name);
        if response.headers().keys().any(is_ours) {
            for name in FOR_PROXIES.iter().chain(&session::FIELDS) {
                response.headers_mut().remove(name);
            }
        }
        edit(response.headers_mut(), &self.route().response_headers);
        respond::put_status(response.headers_mut(), status);
        limit::say(response.headers_mut(), &self.said);
        let held = std::mem::take(&mut self.held);
        let request = Asked {
            connection: &self.connection,
            parts: &self.parts,
            headers: &self.presented.headers,
            authority: Some(&self.gated.authority),
            trusted: &self.snapshot.config.server.trusted_proxies,
            now: self.now,
            route: Some(self.route()),
            server,
        };
        self.worker.ended(&request, disposition(&status), response, held)
    }
}

/// Why there is no answer.
fn why_no_answer(error: &ProxyError) -> Reason {
    match error {
        ProxyError::Origin(error) if error.failure == origin::OriginFailure::NoServer => Reason::OriginDown,
        _ => Reason::OriginFailed,
    }
}

/// Statuses by which an origin, or a proxy before it, says that it is down.
fn is_down(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn path_and_query(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

fn disposition(status: &CacheStatus) -> metrics::Disposition {
    use metrics::Disposition;
    if status.hit {
        let fresh = matches!(status.detail, None | Some(Reason::Redis | Reason::Disk));
        return if fresh { Disposition::Hit } else { Disposition::HitStale };
    }
    if status.collapsed {
        return Disposition::Collapsed;
    }
    if status.fwd_status == Some(304) {
        return Disposition::Validated;
    }
    match status.fwd {
        Some(Fwd::Bypass) => Disposition::Bypass,
        Some(Fwd::Method) => Disposition::Method,
        Some(Fwd::UriMiss) => Disposition::UriMiss,
        Some(Fwd::VaryMiss) => Disposition::VaryMiss,
        Some(Fwd::Miss) => Disposition::Miss,
        Some(Fwd::Request) => Disposition::Request,
        Some(Fwd::Stale) => Disposition::Stale,
        Some(Fwd::Partial) => Disposition::Partial,
        None => Disposition::Local,
    }
}
