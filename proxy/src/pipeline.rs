//! One request, from arrival to answer: **start reading the proxy here**.
//!
//! `serve` is the hit path: a plain function that ends in an answer, or hands over to `Exchange`, which waits for others.

mod ended;
mod interim;
mod local;
mod outgoing;
mod stored;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
use tokio::sync::Notify;

use self::ended::Asked;
use self::interim::InterimRelay;
use self::local::{Local, edit, recipient};
use self::outgoing::fill_key;
use crate::access_log::{AccessRecord, AccessSink};
use crate::answer::Answer;
use crate::body::{AtEnd, Body};
use crate::cache::{Arriving, Decision, Hit, NamedCache, Outcome, Wanted};
use crate::collapse::{FillToken, Join};
use crate::config::model::{Action, FixedAnswer, HeaderEdits, Route};
use crate::error::{ProxyError, Recipient};
use crate::fill::{self, Fill, FillRequest, Told};
use crate::gate::{self, Authority, Gated, Rejection};
use crate::identity;
use crate::incoming::{Incoming, OnUpgrade, Received};
use crate::limit::{self, Admission, Held, Said};
use crate::metrics::{self, WorkerMetrics};
use crate::origin::{
    self, Answered, HearsInterim, OnInterim, Origin, OriginFields, Outgoing, OutgoingHead, Sender,
    TunnelTerms,
};
use crate::plugin::{self, Asking, Way};
use crate::proxy::{Plan, PlanCache, Proxy, Snapshot};
use crate::purge::triggers::FOR_PROXIES;
use crate::request_key::{Forwarded, ForwardedCookie, Presented, PresentedFields, Scratch};
use crate::respond;
use crate::routes::{self, Bindings, NoRoute, RequestView};
use crate::server::Serve;
use crate::server::connection::Connection;
use crate::session::spec::Use;
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
    static SAID: RefCell<plugin::Said> = RefCell::default();
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
    serve(worker, request, connection, &snapshot, now, gated, None)
}

/// A request that passed the gate. `admitted`: its limits have been asked, and this is to be said of them.
fn serve(
    worker: &Arc<Worker>,
    request: &mut Received,
    connection: &Arc<Connection>,
    snapshot: &Arc<Snapshot>,
    now: Now,
    gated: Gated,
    admitted: Option<Said>,
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
        said: admitted.clone().unwrap_or_default(),
    };
    if gated.answer_here {
        return Answer::ready(local.options());
    }

    // The route.
    let identity = identity::of(connection, &parts.headers, trusted);
    let scheme = identity.scheme();
    let view = RequestView {
        https: scheme == http::uri::Scheme::HTTPS,
        method: &parts.method,
        host: gated.authority.host(),
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
    let plan = &snapshot.plans[found.index];
    local.route = Some(&plan.route);

    // The limits: decided here, unless Redis has to be asked.
    if admitted.is_none() && !plan.limits.is_empty() {
        let session_later = sessions_of(snapshot, plan, &parts.headers).is_some();
        let asked = asking(identity, &parts.headers, &plan.route);
        match limit::admit(&plan.limits, &asked, session_later, now) {
            Admission::Admitted(said) => local.said = said,
            Admission::Refused(refused) => {
                return Answer::ready(local.error(&ProxyError::Limited(refused), Reason::Refused));
            }
            Admission::Ask(asked) => {
                return Answer::pending(serve_when_admitted(
                    worker.clone(),
                    std::mem::take(request),
                    connection.clone(),
                    Arc::clone(snapshot),
                    now,
                    gated,
                    asked,
                ));
            }
        }
    }

    // What the route answers by itself.
    match &plan.route.action {
        Action::Forward(_) => {}
        Action::Respond(fixed) => return Answer::ready(local.fixed(fixed)),
        Action::RedirectToHttps => {
            return Answer::ready(local.redirect_to_https(&gated.authority));
        }
        Action::Redirect { status, location } => {
            let (host, uri) = (gated.authority.as_str(), &parts.uri);
            let location = routes::location(location, host, uri.path(), uri.query(), &found.bindings);
            return Answer::ready(local.redirect(*status, &location));
        }
    }

    // Plugins: what the cache does, what is in the key, and what of the request an origin sees.
    let forwarded_host = identity.host();
    let asking = Asking {
        worker: worker.index,
        method: &parts.method,
        scheme: scheme.as_str(),
        authority: forwarded_host.as_ref().map_or(gated.authority.as_str(), Authority::as_str),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        client: if plan.plugins.is_some() { identity.address() } else { None },
        tls_sni: connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
        now,
    };
    let by_session = sessions_of(snapshot, plan, &parts.headers).is_some();
    let mut because = bypass(plan, &parts.method, &gated, by_session);
    let mut by_plugins = plan.plugins.as_ref().filter(|_| because.is_none()).map(|plugins| {
        let mut by_plugins = SAID.take();
        plugins.before_lookup(&asking, &mut by_plugins);
        by_plugins
    });
    let way = by_plugins.as_ref().map(|by_plugins| by_plugins.way).unwrap_or_default();
    match way {
        Way::Lookup | Way::Refresh => {}
        Way::Bypass(reason) => because = Some(CacheStatus::forwarded(Fwd::Bypass).because(reason)),
        Way::Deny => return Answer::ready(local.error(&ProxyError::PluginFailed, Reason::PluginFailed)),
    }

    // The key, and what is stored under it.
    let presented = Presented {
        scheme: scheme.as_str(),
        authority: gated.authority.as_str(),
        forwarded_host: forwarded_host.as_ref().map(Authority::as_str),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        bindings: found.bindings,
        // What goes past the cache is forwarded with all it carries.
        shape: by_plugins.as_ref().filter(|_| because.is_none()).map(|by_plugins| &by_plugins.shape),
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
                facts.directives.no_cache |= way == Way::Refresh;
                let wanted = Wanted {
                    method: &parts.method,
                    headers: &parts.headers,
                    facts: &facts,
                    fields: plan.key.fields(&parts.headers, scratch),
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
        let forwarded = match &step {
            Step::Cached { .. } => plan.key.forwarded(&presented, scratch),
            // Unsafe requests, and routes without a cache, are forwarded with all they carry.
            Step::Forward { .. } => Forwarded {
                target: plan.key.target(&presented, scratch),
                cookie: ForwardedCookie::AsPresented,
            },
        };
        ControlFlow::Continue((step, forwarded))
    });
    let (step, forwarded) = match looked_up {
        ControlFlow::Continue(beyond) => beyond,
        ControlFlow::Break(hit) => {
            if let Some(by_plugins) = by_plugins {
                SAID.set(by_plugins);
            }
            return hit;
        }
    };

    // Beyond the memory tier.
    let tags = tags_of(plan, found.bindings);
    let index = found.index;
    let said = std::mem::take(&mut local.said);
    let hears_more = plan.plugins.as_ref().is_some_and(|plugins| plugins.hear_more(&parts.method));
    let client = asking.client;
    let Received { mut parts, content, upgrade } = std::mem::take(request);
    let headers = std::mem::take(&mut parts.headers);
    let presented = Arc::new(PresentedFields { headers, cookie: forwarded.cookie });
    let asked = hears_more.then(|| {
        let authority = forwarded_host.as_ref().unwrap_or(&gated.authority).as_str();
        plugin::Asked::keep(
            &parts,
            (scheme.as_str(), authority, client, connection),
            by_plugins.as_mut(),
            &presented,
        )
    });
    if let Some(by_plugins) = by_plugins {
        SAID.set(by_plugins);
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
        session: None,
    };
    Answer::pending(exchange.run(step, content))
}

/// Goes on with a request when its limits have been asked.
async fn serve_when_admitted(
    worker: Arc<Worker>,
    mut request: Received,
    connection: Arc<Connection>,
    snapshot: Arc<Snapshot>,
    now: Now,
    gated: Gated,
    asked: limit::Asked,
) -> Response<Body> {
    let mut answer = match asked.answered(&*worker.proxy.clock).await {
        Ok(said) => serve(&worker, &mut request, &connection, &snapshot, now, gated, Some(said)),
        Err(refused) => {
            let local = Local {
                worker: &worker,
                connection: &connection,
                parts: &request.parts,
                authority: Some(&gated.authority),
                trusted: &snapshot.config.server.trusted_proxies,
                now,
                route: None,
                close: false,
                said: Said::new(),
            };
            return local.error(&ProxyError::Limited(refused), Reason::Refused);
        }
    };
    std::future::poll_fn(|context| answer.poll_response(context)).await
}

/// What limits are told of a request.
fn asking<'r>(
    identity: identity::Identity<'r>,
    headers: &'r HeaderMap,
    route: &'r Route,
) -> limit::Asking<'r> {
    limit::Asking { identity, headers, route: &route.name, session: None, user: None, plugin: None }
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

/// The sessions, if this request has to do with them: where its route writes them, or reads them and the request names one.
fn sessions_of<'s>(snapshot: &'s Snapshot, plan: &Plan, headers: &HeaderMap) -> Option<&'s Arc<Sessions>> {
    let sessions = snapshot.sessions.as_ref()?;
    match plan.route.session {
        Use::Off => None,
        Use::Read => session::cookie::is_given(headers, sessions.cookie_name()).then_some(sessions),
        Use::Write => Some(sessions),
    }
}

/// Why the cache is not asked; `None`: it is.
fn bypass(plan: &Plan, method: &Method, gated: &Gated, by_session: bool) -> Option<CacheStatus> {
    let because = |fwd, reason| Some(CacheStatus::forwarded(fwd).because(reason));
    if gated.websocket.is_some() {
        return because(Fwd::Bypass, Reason::Upgrade);
    }
    if plan.cache.is_none() {
        return because(Fwd::Bypass, Reason::RouteOff);
    }
    if by_session {
        return because(Fwd::Bypass, Reason::Session);
    }
    if !MethodClass::of(method).is_looked_up() {
        return Some(CacheStatus::forwarded(Fwd::Method));
    }
    if gated.has_body {
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
    fn run(mut self, step: Step, body: Incoming) -> impl Future<Output = Response<Body>> + Send + 'static {
        async move {
            if let Some(sessions) = sessions_of(&self.snapshot, self.plan(), &self.presented.headers).cloned()
            {
                self.session = Some(Box::pin(sessions.of_request(&self.presented.headers, self.now)).await);
            }
            let refused = if self.session.is_some() && !self.plan().limits.is_empty() {
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
            let outgo = match (refused, step) {
                (Some(refused), _) => self.refused(refused),
                (None, Step::Forward { status, facts }) => self.forward(status, &facts, Some(body)).await,
                // What a fill needs room for is not to burden what is only forwarded.
                (None, Step::Cached { decision, key, facts }) => {
                    Box::pin(self.cached(decision, &key, &facts)).await
                }
            };
            // No interim response after the final one.
            self.interim.close();
            drop(self.connection.interim.take());
            self.finish(outgo)
        }
    }

    fn asking(&self) -> limit::Asking<'_> {
        let (headers, trusted) = (&self.presented.headers, &self.snapshot.config.server.trusted_proxies);
        let mut asking = asking(identity::of(&self.connection, headers, trusted), headers, self.route());
        if let Some(Opened::Some(found)) = &self.session {
            asking.session = Some(&found.0.0);
            asking.user = found.1.user();
        }
        asking
    }

    /// Takes a place in limits that count how many are there at once.
    async fn hold(&mut self) -> Result<(), Box<limit::Refused>> {
        let websocket = self.gated.websocket.is_some();
        self.held = limit::hold(&self.plan().limits, &self.asking(), websocket).await?;
        Ok(())
    }

    /// Charges by session or user, now that they are known.
    async fn charge_opened(&mut self) -> Result<(), Box<limit::Refused>> {
        let asked = limit::when_opened(&self.plan().limits, &self.asking());
        let said = asked.answered(&*self.worker.proxy.clock).await?;
        self.said.extend(said);
        Ok(())
    }

    /// Does what the origin's answer says of the session, before the client sees any of it. `Some`: the client is answered something else.
    async fn settle(&self, response: &mut Response<Body>) -> Option<ProxyError> {
        let (Some(opened), Some(sessions)) = (&self.session, &self.snapshot.sessions) else { return None };
        let headers = response.headers_mut();
        let stale = matches!(opened, Opened::None { stale: true });
        if self.route().session == Use::Write && (stale || Sessions::is_spoken_of(headers)) {
            match sessions.settle(opened, headers, self.clock()).await {
                Settled::Done => {}
                Settled::Cookie(cookie) => {
                    headers.append(header::SET_COOKIE, cookie);
                    // Whatever the origin says of caching, it said without knowing of this cookie.
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
                }
                Settled::Conflict => return Some(ProxyError::SessionConflict),
                Settled::Lost => return Some(ProxyError::SessionLost),
            }
        }
        if matches!(opened, Opened::Some(_)) && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        None
    }

    /// Charges for asking the origin, where a limit charges for nothing else.
    async fn charge_miss(&mut self) -> Result<(), ProxyError> {
        if self.plan().limits.is_empty() {
            return Ok(());
        }
        let asked = limit::when_missed(&self.plan().limits, &self.asking());
        let said = Box::pin(asked.answered(&*self.worker.proxy.clock)).await.map_err(ProxyError::Limited)?;
        self.said.extend(said);
        Ok(())
    }

    fn refused(&self, refused: Box<limit::Refused>) -> Outgo {
        let status = CacheStatus::forwarded(Fwd::Bypass).because(Reason::Refused);
        self.error(&ProxyError::Limited(refused), status)
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

    /// A GET or HEAD of a route that caches.
    async fn cached(&mut self, decision: Decision, key: &[u8], facts: &RequestFacts) -> Outgo {
        // A fill looks behind memory once for all who wait for it; what does not become one looks here.
        let alone = self.parts.method == Method::HEAD || facts.directives.only_if_cached || facts.range;
        let decision = match decision {
            Decision::Validate { .. } | Decision::Miss { .. } if alone => {
                match self.look_behind(key, facts).await {
                    Ok(found) => found.unwrap_or(decision),
                    Err(error) => {
                        return self.error(
                            &error,
                            CacheStatus::forwarded(Fwd::UriMiss).because(Reason::RedisFailed),
                        );
                    }
                }
            }
            Decision::Hit(_) | Decision::Validate { .. } | Decision::Miss { .. } => decision,
        };
        match decision {
            Decision::Hit(hit) => {
                if hit.refresh {
                    self.refresh_behind(key, facts, &hit.stored);
                }
                self.answer_stored(key, &hit.stored, hit.age, hit.status)
            }
            // RFC 9111 §5.2.1.7: a stored response, or 504.
            Decision::Validate { status, .. } | Decision::Miss { status, .. }
                if facts.directives.only_if_cached =>
            {
                self.error(&ProxyError::OnlyIfCached, status.because(Reason::OnlyIfCached))
            }
            Decision::Validate { stored, status } if self.parts.method == Method::HEAD => {
                self.head(key, facts, status, Some(stored)).await
            }
            Decision::Miss { status, .. } if self.parts.method == Method::HEAD => {
                self.head(key, facts, status, None).await
            }
            Decision::Validate { stored, status } => {
                self.fill(key, facts, status, vec![stored.clone()], Some(stored)).await
            }
            Decision::Miss { status, others } => {
                // RFC 9111 §5.2.1.5: what answers such a request is kept by nobody, so nobody waits for it either.
                if facts.directives.no_store {
                    return self.forward(status.because(Reason::RequestNoStore), facts, None).await;
                }
                self.fill(key, facts, status, others, None).await
            }
        }
    }

    /// Leads or joins the fill of this key. `stale`: what is stored and must be validated.
    async fn fill(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        candidates: Vec<Arc<StoredResponse>>,
        stale: Option<Arc<StoredResponse>>,
    ) -> Outgo {
        // A range is fetched as it is asked for, unless the whole is only to be validated; nobody else waits for it.
        if facts.range && stale.is_none() {
            let led = self.lead(key, facts, status, candidates, None, None).await;
            return self.led(key, facts, status, stale, led);
        }
        if self.cache().is_known_uncacheable(key, facts, self.now) {
            let status = CacheStatus { detail: status.detail.or(Some(Reason::KnownUncacheable)), ..status };
            let led = self.lead(key, facts, status, candidates, stale.as_ref(), None).await;
            return self.led(key, facts, status, stale, led);
        }
        let fills = self.cache().fills.clone();
        let wanted = fill_key(key, &candidates, &self.presented.headers);
        let mut join = fills.join(&wanted);
        // A leader whose client left before the origin was asked says nothing: one of those who waited takes its place, and not all at once.
        for _ in 0..SUCCESSORS_MAX {
            let Join::Wait(waiter) = join else { break };
            if let Some(outcome) = waiter.outcome().await {
                if let Some(outgo) = self.joined(key, facts, status, stale.as_ref(), outcome) {
                    return outgo;
                }
                let led = self.lead(key, facts, status, candidates, stale.as_ref(), None).await;
                return self.led(key, facts, status, stale, led);
            }
            join = fills.join(&wanted);
        }
        match join {
            Join::Lead(token) => {
                // Between the lookup and here another fill may have ended.
                if let Some(hit) = self.decide_again(key, facts) {
                    return self.answer_stored(key, &hit.stored, hit.age, hit.status);
                }
                let (mut candidates, mut stale, mut status) = (candidates, stale, status);
                let behind = match self.behind_memory(key, facts).await {
                    Ok(behind) => behind,
                    Err(error) => {
                        token.tell(Outcome::Failed(error.clone()));
                        return self.error(&error, status.because(Reason::RedisFailed));
                    }
                };
                match behind {
                    Some(Decision::Hit(hit)) => {
                        token.tell(Outcome::Stored(hit.stored.clone()));
                        drop(token);
                        if hit.refresh {
                            self.refresh_behind(key, facts, &hit.stored);
                        }
                        return self.answer_stored(key, &hit.stored, hit.age, hit.status);
                    }
                    Some(Decision::Validate { stored, status: why }) => {
                        (candidates, stale, status) = (vec![stored.clone()], Some(stored), why);
                    }
                    Some(Decision::Miss { others, .. }) => candidates = others,
                    None => {}
                }
                let led = self.lead(key, facts, status, candidates, stale.as_ref(), Some(token)).await;
                self.led(key, facts, status, stale, led)
            }
            Join::Wait(_) | Join::Alone => {
                self.worker.metrics.limit(metrics::Limit::Waiters);
                let led = self.lead(key, facts, status, candidates, stale.as_ref(), None).await;
                self.led(key, facts, status, stale, led)
            }
        }
    }

    /// What came of another request's fill, if it answers this one too.
    fn joined(
        &self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        stale: Option<&Arc<StoredResponse>>,
        outcome: Outcome,
    ) -> Option<Outgo> {
        let collapsed = CacheStatus { collapsed: true, ..status };
        match outcome {
            Outcome::Arriving(arriving) => {
                let policy = &self.plan_cache().policy;
                let usable = arriving.origins.variant.matches(self.presented.fields())
                    && arriving.is_valid(&self.worker.proxy.purges, &self.cache().spec().name, key)
                    && matches!(
                        reuse::decide(&arriving.terms, facts, policy, self.clock()),
                        Disposition::Fresh { .. } | Disposition::StaleWhileRevalidate { .. }
                    );
                let reader = if usable { arriving.content.read() } else { None }?;
                let response = self.arriving(&arriving, arriving.headers.clone(), Body::stream(reader));
                Some(Outgo { response, status: collapsed, server: None })
            }
            Outcome::Stored(_) => {
                let hit = self.decide_again(key, facts)?;
                Some(self.answer_stored(
                    key,
                    &hit.stored,
                    hit.age,
                    CacheStatus { ttl: hit.status.ttl, ..collapsed },
                ))
            }
            Outcome::Uncacheable(fwd_status) => {
                let failure = OriginFailure::Status(fwd_status);
                self.stale_on_error(key, facts, collapsed, stale, failure)
            }
            Outcome::Failed(error) => Some(self.failed(key, facts, collapsed, stale, error)),
        }
    }

    fn decide_again(&self, key: &[u8], facts: &RequestFacts) -> Option<Hit> {
        match self.decide(key, facts) {
            Decision::Hit(hit) => Some(hit),
            Decision::Validate { .. } | Decision::Miss { .. } => None,
        }
    }

    fn decide(&self, key: &[u8], facts: &RequestFacts) -> Decision {
        let wanted = Wanted {
            method: &self.parts.method,
            headers: &self.presented.headers,
            facts,
            fields: self.presented.fields(),
            strict: self.plan_cache().strict,
        };
        self.cache().decide(key, &wanted, &self.plan_cache().policy, self.clock())
    }

    /// Looks into the tier behind memory. `Some`: it has put something into memory, and this is what the cache says now. An error: it is not to be
    /// done without, and cannot be asked.
    async fn look_behind(&self, key: &[u8], facts: &RequestFacts) -> Result<Option<Decision>, ProxyError> {
        let cache = self.cache();
        if let Some(tier) = &cache.shared {
            match Box::pin(tier.look(cache, key, self.presented.fields(), self.clock())).await {
                Looked::Found => return Ok(Some(self.found_behind(key, facts, Reason::Redis))),
                Looked::Skipped if tier.spec().required => return Err(ProxyError::RedisFailed),
                Looked::Nothing | Looked::Skipped => {}
            }
        }
        Ok(self.look_on_disk(key, facts).await)
    }

    /// Likewise, on disk.
    async fn look_on_disk(&self, key: &[u8], facts: &RequestFacts) -> Option<Decision> {
        let cache = self.cache();
        let found = cache.bodies()?.look(cache, key, self.presented.fields(), self.clock()).await;
        found.then(|| self.found_behind(key, facts, Reason::Disk))
    }

    fn found_behind(&self, key: &[u8], facts: &RequestFacts, tier: Reason) -> Decision {
        match self.decide(key, facts) {
            Decision::Hit(mut hit) => {
                hit.status.detail = hit.status.detail.or(Some(tier));
                Decision::Hit(hit)
            }
            decision => decision,
        }
    }

    /// Likewise, for one who is about to fill. Where there is nothing, it gets the right to fill for all proxies, or waits for who has it.
    async fn behind_memory(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
    ) -> Result<Option<Decision>, ProxyError> {
        let cache = self.cache().clone();
        let Some(tier) = &cache.shared else { return Ok(self.look_on_disk(key, facts).await) };
        // Boxed, here and below: each is larger than all the rest of a miss, which need not have such a tier.
        match Box::pin(tier.look(&cache, key, self.presented.fields(), self.clock())).await {
            Looked::Found => return Ok(Some(self.found_behind(key, facts, Reason::Redis))),
            Looked::Skipped if tier.spec().required => return Err(ProxyError::RedisFailed),
            Looked::Skipped => return Ok(self.look_on_disk(key, facts).await),
            Looked::Nothing => {}
        }
        if let Some(found) = self.look_on_disk(key, facts).await {
            return Ok(Some(found));
        }
        let clock = &self.worker.proxy.clock;
        Ok(match Box::pin(tier.lease(&cache, key, self.presented.fields(), clock)).await {
            Leased::Lead(lease) => {
                self.lease = lease;
                None
            }
            Leased::Found => match self.found_behind(key, facts, Reason::Redis) {
                Decision::Hit(mut hit) => {
                    hit.status.collapsed = true;
                    Some(Decision::Hit(hit))
                }
                decision => Some(decision),
            },
        })
    }

    /// Fetches, and waits for the head. `token`: others wait with us.
    async fn lead(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        candidates: Vec<Arc<StoredResponse>>,
        stale: Option<&Arc<StoredResponse>>,
        token: Option<FillToken<Outcome>>,
    ) -> Told {
        if let Err(error) = self.charge_miss().await {
            // Whoever waits is not refused with this one: another leads.
            return Told::Failed(error);
        }
        let fill = self.new_fill(key, facts, status, candidates, stale, token);
        if fill.token.is_none() {
            return self.interim.relay(pin!(fill.here())).await;
        }
        let told = self.interim.relay(pin!(fill.start())).await;
        told.unwrap_or(Told::Failed(ProxyError::FillEnded))
    }

    /// Makes the answer to the one who led the fill.
    fn led(
        &self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        stale: Option<Arc<StoredResponse>>,
        told: Told,
    ) -> Outgo {
        match told {
            Told::Arriving { arriving, headers, reader, server } => {
                let response = self.arriving(&arriving, headers, Body::stream(reader));
                let status = CacheStatus { stored: true, ..status };
                Outgo { response, status, server: Some(server) }
            }
            Told::Stored { stored, fwd_status, server } => {
                let age = stored.terms.current_age(self.clock());
                let status = CacheStatus { stored: true, fwd_status: Some(fwd_status.as_u16()), ..status };
                let outgo = self.answer_stored(key, &stored, age, status);
                Outgo { server: Some(server), ..outgo }
            }
            Told::Pass { response, reason, server } => {
                let failure = OriginFailure::Status(response.status());
                if let Some(outgo) = self.stale_on_error(key, facts, status, stale.as_ref(), failure) {
                    return outgo;
                }
                if is_down(response.status())
                    && let Some(outgo) = self.fallback(status)
                {
                    return outgo;
                }
                // What is stored stays where the origin failed, and where it is only this request that forbids to store its answer.
                if let Some(stale) = &stale
                    && !response.status().is_server_error()
                    && !reason.is_of_the_request()
                {
                    self.cache().remove(key, stale);
                }
                let status = CacheStatus { detail: status.detail.or(Some(reason)), ..status };
                let response = self.evaluate_passed(response);
                Outgo { response, status, server: Some(server) }
            }
            Told::Failed(error) => self.failed(key, facts, status, stale.as_ref(), error),
        }
    }

    /// The origin gave no answer.
    fn failed(
        &self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        stale: Option<&Arc<StoredResponse>>,
        error: ProxyError,
    ) -> Outgo {
        // RFC 5861 §4 is about errors of the origin.
        if matches!(error, ProxyError::Limited(_)) {
            return self.error(&error, status.because(Reason::Refused));
        }
        self.stale_on_error(key, facts, status, stale, OriginFailure::NoAnswer)
            .or_else(|| self.fallback(status))
            .unwrap_or_else(|| self.error(&error, status.because(why_no_answer(&error))))
    }

    fn error(&self, error: &ProxyError, status: CacheStatus) -> Outgo {
        Outgo {
            response: self.worker.told(error, &recipient(&self.parts, &self.presented.headers)),
            status,
            server: None,
        }
    }

    /// Fetches anew what was served stale, unless somebody does already.
    fn refresh_behind(&mut self, key: &[u8], facts: &RequestFacts, stored: &Arc<StoredResponse>) {
        let candidates = vec![stored.clone()];
        let fill_key = fill_key(key, &candidates, &self.presented.headers);
        if let Join::Lead(token) = self.cache().fills.clone().join(&fill_key) {
            let status = CacheStatus::forwarded(Fwd::Stale);
            let mut fill = self.new_fill(key, facts, status, candidates, Some(stored), Some(token));
            fill.request.on_interim = None;
            drop(fill.start());
        }
    }

    /// Forwards the request as it is, and tells the cache what an unsafe one has changed.
    async fn forward(&mut self, status: CacheStatus, facts: &RequestFacts, body: Option<Incoming>) -> Outgo {
        if let Err(error) = self.charge_miss().await {
            return self.error(&error, status.because(Reason::Refused));
        }
        let websocket = match self.gated.websocket.take() {
            Some(_) if !self.route().websocket => {
                return self.error(&ProxyError::WebSocketNotAllowed, status);
            }
            Some(ask) => {
                let Some(upgrade) = self.upgrade.take() else {
                    return self
                        .error(&ProxyError::Internal { what: "a connection that can be upgraded" }, status);
                };
                let terms = TunnelTerms {
                    held: std::mem::take(&mut self.held),
                    meter: limit::meter(&self.plan().limits),
                };
                Some((ask, upgrade, terms))
            }
            None => None,
        };
        let limits = &self.snapshot.config.server.limits;
        let limit = self.route().body_bytes.unwrap_or(limits.body_bytes);
        if self.gated.body_len.is_some_and(|len| len > limit) {
            return self.error(&ProxyError::ContentTooLarge { limit }, status);
        }
        let body = match body {
            Some(body) if self.gated.has_body && websocket.is_none() => {
                match origin::content::from_client(body, limit, limits) {
                    Ok(body) => body,
                    Err(_) => return self.error(&ProxyError::ContentTooLarge { limit }, status),
                }
            }
            Some(_) | None => Body::empty(),
        };
        let mut outgoing = Outgoing {
            head: OutgoingHead {
                method: self.parts.method.clone(),
                target: self.target.clone(),
                authority: self.gated.authority.clone(),
                fields: self.fields(),
                takes_trailers: self.gated.takes_trailers,
                on_interim: self.on_interim(),
                websocket,
                client: self.addresses(),
            },
            body,
        };
        let origin = self.origin().clone();
        let index = self.worker.index;
        // A moment early, which makes what is stored of it older, and never younger.
        let requested = self.now;
        match self.interim.relay(pin!(origin.forward(index, &mut outgoing))).await {
            Ok(mut answered) => {
                self.worker.metrics.origin_request(answered.response.status(), answered.head_after);
                if self.session.is_some()
                    && let Some(error) = Box::pin(self.settle(&mut answered.response)).await
                {
                    return self.error(&error, status);
                }
                if !self.parts.method.is_safe() {
                    Box::pin(self.invalidate(answered.response.status(), answered.response.headers())).await;
                }
                if self.parts.method == Method::POST && self.is_storable(&answered, facts, requested) {
                    return Box::pin(self.store_posted(answered, facts, status, requested)).await;
                }
                if is_down(answered.response.status())
                    && let Some(outgo) = self.fallback(status)
                {
                    return outgo;
                }
                Outgo { response: answered.response, status, server: Some(answered.server) }
            }
            Err(error) => {
                let error = ProxyError::Origin(error);
                let because = status.because(why_no_answer(&error));
                self.fallback(status).unwrap_or_else(|| self.error(&error, because))
            }
        }
    }

    fn finish(&mut self, outgo: Outgo) -> Response<Body> {
        let Outgo { mut response, status, server } = outgo;
        for name in FOR_PROXIES.iter().chain(&session::FIELDS) {
            response.headers_mut().remove(name);
        }
        edit(response.headers_mut(), &self.route().response_headers);
        respond::put_status(response.headers_mut(), status);
        limit::say(response.headers_mut(), std::mem::take(&mut self.said));
        let held = std::mem::take(&mut self.held);
        self.worker.metrics.disposition(disposition(&status));
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
        self.worker.ended(&request, response, held)
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
