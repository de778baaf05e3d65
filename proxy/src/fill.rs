//! A fill: one fetch from the origin that may be stored, in a task of its own.
//!
//! The one who leads it is told what came, and so is everyone who waits for the same key. A client that leaves ends nothing; a fill
//! ends early only when its answer is not to be stored and nobody reads it.

use std::sync::Arc;

use bytes::Bytes;
use cache_semantics::Now;
use cache_semantics::cache_status::Reason;
use cache_semantics::invalidation::ResolvedTarget;
use cache_semantics::negotiate;
use cache_semantics::range::Part;
use cache_semantics::storable::{self, RequestFacts, Terms};
use cache_semantics::tags::{self, TagLimits, Tags};
use cache_semantics::validation::{self, Conditional, Selected, Validators};
use cache_semantics::vary::{Variant, VaryRule};
use http::header;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use crate::body::Body;
use crate::cache::{self, Arriving, Outcome};
use crate::collapse::FillToken;
use crate::content::{Content, ContentReader, ContentWriter};
use crate::error::ProxyError;
use crate::metrics::FillEnd;
use crate::origin::{Answered, OnInterim, Origin, OriginFields, Outgoing, OutgoingHead};
use crate::pipeline::Worker;
use crate::plugin::{Asked, Judged};
use crate::proxy::{PlanCache, Snapshot};
use crate::purge::{FillStamp, Labels};
use crate::request_key::PresentedFields;
use crate::session;
use crate::store::shared::Lease;
use crate::store::{Origins, StoredResponse};

/// A fetch that is to be made.
pub struct Fill {
    /// The worker whose connections are used.
    pub worker: Arc<Worker>,
    /// The configuration it began with.
    pub snapshot: Arc<Snapshot>,
    /// Which plan of it.
    pub plan: usize,
    /// The key.
    pub key: Box<[u8]>,
    /// What the request says about caching.
    pub facts: RequestFacts,
    /// The target as forwarded, for what a response says of its own location.
    pub target: ResolvedTarget,
    /// The request as it was presented, for `Vary`.
    pub presented: Arc<PresentedFields>,
    /// Whether the client's browser takes secure cookies over its connection.
    pub takes_secure_cookies: bool,
    /// What is sent.
    pub request: FillRequest,
    /// The stored responses that the origin is asked about, the most recent first.
    pub candidates: Vec<Arc<StoredResponse>>,
    /// A stored part that is to be completed by this fetch.
    pub completes: Option<Arc<StoredResponse>>,
    /// The surrogate tags that the route gives, and its plugins.
    pub tags: Vec<String>,
    /// The request, for plugins that judge the answer.
    pub asked: Option<Arc<Asked>>,
    /// The right to fill for all proxies, given back when the fill ends.
    pub lease: Option<Lease>,
    /// Who waits; `None` for a fetch that nobody else joins.
    pub token: Option<FillToken<Outcome>>,
    /// The stamp of the fetch.
    pub stamp: FillStamp,
}

/// What an origin says of a session is for nobody else: it is not stored, and nothing of it is done where an answer may be.
fn without_session(headers: &mut HeaderMap) {
    for name in &session::FIELDS {
        headers.remove(name);
    }
}

/// What a fill sends: all that is needed to make the request, and to make it again without conditions.
pub struct FillRequest {
    /// The fields, without conditions; gone once they cannot be needed again.
    pub fields: Option<OriginFields>,
    /// Conditions and ranges of our own.
    pub extra: Vec<(http::HeaderName, http::HeaderValue)>,
    /// GET, or the method that asks with content.
    pub method: Method,
    /// Its content, where it has some.
    pub content: Bytes,
    /// Everything else of [`Outgoing`].
    pub target: http::uri::PathAndQuery,
    /// `Host`.
    pub authority: crate::gate::Authority,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// Who hears of a 103.
    pub on_interim: Option<OnInterim>,
    /// Addresses, for an origin that wants a PROXY header.
    pub client: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
}

impl FillRequest {
    /// The request, with our own conditions or without. Only a conditional one may have to be made again.
    fn outgoing(&mut self, with_extra: bool) -> Outgoing {
        let again = with_extra && !self.extra.is_empty();
        let fields = if again { self.fields.clone() } else { self.fields.take() };
        let mut fields = fields.expect("a request without conditions is made once");
        for (name, value) in self.extra.iter().filter(|_| with_extra) {
            fields.set(name.clone(), value.clone());
        }
        Outgoing {
            head: OutgoingHead {
                method: self.method.clone(),
                target: self.target.clone(),
                authority: self.authority.clone(),
                fields,
                takes_trailers: self.takes_trailers,
                on_interim: self.on_interim.take(),
                websocket: None,
                client: self.client,
            },
            body: if self.content.is_empty() { Body::empty() } else { Body::full(self.content.clone()) },
        }
    }
}

/// What the one who leads a fill is told.
pub enum Told {
    /// It is arriving and will be stored. The leader gets the fields as they were received.
    Arriving {
        /// Status, terms and content.
        arriving: Arc<Arriving>,
        /// The fields as received.
        headers: HeaderMap,
        /// From its first byte.
        reader: ContentReader,
        /// Who answered.
        server: Arc<str>,
    },
    /// It is stored: what there was still holds, or was completed.
    Stored {
        /// What is stored now.
        stored: Arc<StoredResponse>,
        /// The status of the origin's answer.
        fwd_status: StatusCode,
        /// Who answered.
        server: Arc<str>,
    },
    /// It is not stored; the leader has it for itself.
    Pass {
        /// The answer.
        response: Response<Body>,
        /// Why it is not stored.
        reason: Reason,
        /// Who answered.
        server: Arc<str>,
    },
    /// The origin failed.
    Failed(ProxyError),
}

impl Fill {
    /// Fetches in a task of its own; the receiver is told what comes. `Err` there: the task panicked.
    pub fn start(self) -> oneshot::Receiver<Told> {
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            match self.ask().await {
                Headed::Told(told) => drop(tell.send(told)),
                Headed::Arriving(arrival) => arrival.pump(|told| drop(tell.send(told))).await,
            }
        });
        told
    }

    /// Fetches without one, for a fetch that nobody else waits for: it ends with the one who asks, unless it is to be stored.
    pub async fn here(self) -> Told {
        Self::pumped(self.ask().await).await
    }

    async fn pumped(headed: Headed) -> Told {
        match headed {
            Headed::Told(told) => told,
            Headed::Arriving(arrival) => {
                let (tell, told) = oneshot::channel();
                tokio::spawn(arrival.pump(|told| drop(tell.send(told))));
                told.await.unwrap_or(Told::Failed(ProxyError::FillEnded))
            }
        }
    }

    fn plan(&self) -> (&PlanCache, &Arc<Origin>) {
        let plan = &self.snapshot.plans[self.plan];
        let cache = plan.cache.as_ref().expect("a fill is begun only by a route that caches");
        let origin = plan.origin.as_ref().expect("a fill is begun only by a route that forwards");
        (cache, origin)
    }

    fn now(&self) -> Now {
        self.worker.proxy.clock.now()
    }

    fn tell_waiters(&self, outcome: Outcome) {
        if let Some(token) = &self.token {
            token.tell(outcome);
        }
    }

    async fn ask(mut self) -> Headed {
        let (_, origin) = self.plan();
        let origin = origin.clone();
        let mut requested = self.now();
        let mut answered = self.fetch(&origin, true).await;
        let mut vouched = None;
        if let Ok(first) = &answered
            && !self.is_about_candidates(first)
        {
            // RFC 9111 §4.3.4: a 304 that selects no stored response updates none; the request is made again without conditions.
            vouched = self.vouched(first);
            requested = self.now();
            answered = self.fetch(&origin, false).await;
        }
        match answered {
            // It answers with a 304 whatever it is asked. It was asked about one response, and that one it has vouched for.
            Err(_) if vouched.is_some() => {
                let (stored, server) = vouched.expect("looked at just now");
                self.tell_waiters(Outcome::Uncacheable(StatusCode::NOT_MODIFIED));
                Headed::Told(Told::Stored { stored, fwd_status: StatusCode::NOT_MODIFIED, server })
            }
            Err(error) => {
                self.worker.metrics.fill(FillEnd::Failed);
                let error = ProxyError::Origin(error);
                self.tell_waiters(Outcome::Failed(error.clone()));
                Headed::Told(Told::Failed(error))
            }
            Ok(answered) if answered.response.status() == StatusCode::NOT_MODIFIED => {
                Headed::Told(self.validated(answered, requested))
            }
            Ok(answered) => self.received(answered, requested),
        }
    }

    async fn fetch(
        &mut self,
        origin: &Arc<Origin>,
        with_extra: bool,
    ) -> Result<Answered, crate::origin::OriginError> {
        let mut outgoing = self.request.outgoing(with_extra);
        let mut answered = origin.forward(self.worker.index, &mut outgoing).await?;
        self.worker.metrics.origin_request(answered.response.status(), answered.head_after);
        let now = self.now();
        let headers = answered.response.headers_mut();
        self.snapshot.cookies.received(headers, self.takes_secure_cookies, now);
        without_session(headers);
        Ok(answered)
    }

    /// Why an answer is not to be stored because of the vault: it sets a cookie that is kept there, or it was made for cookies of which the request as it was presented says nothing.
    fn kept_by_vault(&self, headers: &HeaderMap) -> Option<Reason> {
        let vault = self.snapshot.cookies.vault.as_ref()?;
        if vault.is_set(headers) {
            return Some(Reason::SetCookie);
        }
        let varies = headers.get_all(header::VARY).iter().any(|line| {
            let mut names = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            names.any(|name| name.eq_ignore_ascii_case(b"cookie"))
        });
        (varies && vault.is_named(&self.presented.headers)).then_some(Reason::Cookie)
    }

    /// Whether an answer is one that can be used: anything but a 304 about something that is not stored.
    fn is_about_candidates(&self, answered: &Answered) -> bool {
        answered.response.status() != StatusCode::NOT_MODIFIED
            || self.selected(answered.response.headers()).is_some()
    }

    /// The one response that the origin was asked about, where it was only one.
    fn vouched(&self, answered: &Answered) -> Option<(Arc<StoredResponse>, Arc<str>)> {
        match self.candidates.as_slice() {
            [only] => Some((only.clone(), answered.server.clone())),
            _ => None,
        }
    }

    fn selected(&self, not_modified: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let validators: Vec<Validators> =
            self.candidates.iter().map(|stored| Validators::of(&stored.head.to_map(0))).collect();
        match validation::select(&validators, not_modified) {
            Selected::Stored(position) => self.candidates.get(position).cloned(),
            Selected::None => None,
        }
    }

    /// A 304: what is stored is freshened (RFC 9111 §4.3.4).
    fn validated(mut self, answered: Answered, requested: Now) -> Told {
        let received = self.now();
        let server = answered.server.clone();
        let not_modified = answered.response.headers();
        let Some(old) = self.selected(not_modified) else {
            let error = ProxyError::Internal { what: "a 304 was asked for twice and answered twice" };
            self.tell_waiters(Outcome::Failed(error.clone()));
            return Told::Failed(error);
        };
        let merged =
            validation::freshen(&old.head.to_map(0), not_modified, &self.plan().0.policy, received.wall);
        let judged = self.judge(old.status, &merged, Some(old.content_len()), received);
        let (used, _) = self.plan();
        let policy = judged.policy.as_ref().unwrap_or(&used.policy);
        let exchange = storable::Exchange {
            request: &self.facts,
            target: self.target.as_target(),
            status: old.status,
            headers: &merged,
            requested,
            received,
        };
        let fwd_status = StatusCode::NOT_MODIFIED;
        match judged
            .refused
            .or_else(|| self.kept_by_vault(&merged))
            .map_or_else(|| storable::decide(&exchange, policy), |why| Err(storable::NotStorable(why)))
        {
            Ok(terms) => {
                let fresh = self.freshened(&old, not_modified, &merged, terms, received);
                let stored = used.cache.store_and_share(&self.key, fresh);
                self.worker.metrics.fill(FillEnd::Stored);
                self.tell_waiters(Outcome::Stored(stored.clone()));
                Told::Stored { stored, fwd_status, server }
            }
            Err(storable::NotStorable(reason)) => {
                // It still holds, for this request: the new fields forbid to keep it, or this request does.
                let fresh =
                    self.freshened(&old, not_modified, &merged, old.terms.expired(received), received);
                if !reason.is_of_the_request() {
                    used.cache.remove(&self.key, &old);
                }
                used.cache.remember_uncacheable(&self.key, &self.facts, received, judged.pass_for);
                self.worker.metrics.fill(FillEnd::NotStorable);
                self.tell_waiters(Outcome::Uncacheable(fwd_status));
                Told::Stored { stored: Arc::new(fresh), fwd_status, server }
            }
        }
    }

    fn freshened(
        &self,
        old: &StoredResponse,
        not_modified: &HeaderMap,
        merged: &HeaderMap,
        terms: Terms,
        received: Now,
    ) -> StoredResponse {
        let (used, _) = self.plan();
        let headers = storable::stored_headers(merged, &used.policy);
        // A 304 that says nothing of `Vary` changes nothing about it.
        let variant = if not_modified.contains_key(header::VARY) {
            self.variant(not_modified, merged, received)
        } else {
            old.variant.clone()
        };
        used.cache.build(
            old.status,
            headers,
            &old.pieces(),
            old.part.as_deref().copied(),
            terms,
            self.origins(merged, variant),
            used.compress,
        )
    }

    /// What plugins say of an answer; their tags are noted.
    fn judge(&mut self, status: StatusCode, headers: &HeaderMap, len: Option<u64>, received: Now) -> Judged {
        let plan = &self.snapshot.plans[self.plan];
        let (Some(plugins), Some(asked), Some(cache)) = (&plan.plugins, &self.asked, &plan.cache) else {
            return Judged::default();
        };
        let mut judged =
            plugins.judge(asked, self.worker.index, received, (status, headers, len), &cache.policy);
        self.tags.append(&mut judged.tags);
        judged
    }

    /// Takes over an answer that was fetched for another reason, to store it.
    pub async fn take_over(self, mut answered: Answered, requested: Now) -> Told {
        without_session(answered.response.headers_mut());
        Self::pumped(self.received(answered, requested)).await
    }

    /// Anything but a 304.
    fn received(mut self, answered: Answered, requested: Now) -> Headed {
        let received = self.now();
        let Answered { response, server, .. } = answered;
        let (mut parts, body) = response.into_parts();
        let announced = body.exact_len();
        let judged = self.judge(parts.status, &parts.headers, announced, received);
        judged.vary_more(&mut parts.headers);
        let (used, _) = self.plan();
        let policy = judged.policy.as_ref().unwrap_or(&used.policy);
        let exchange = storable::Exchange {
            request: &self.facts,
            target: self.target.as_target(),
            status: parts.status,
            headers: &parts.headers,
            requested,
            received,
        };
        let max_body = used.cache.spec().max_body;
        let decision = match storable::decide(&exchange, policy) {
            _ if judged.refused.is_some() => Err(judged.refused.unwrap_or(Reason::Plugin)),
            Ok(_) if let Some(reason) = self.kept_by_vault(&parts.headers) => Err(reason),
            Err(storable::NotStorable(reason)) => Err(reason),
            Ok(_) if announced.is_some_and(|len| len > max_body) => Err(Reason::BodyTooLarge),
            Ok(terms) => Ok(terms),
        };
        let terms = match decision {
            Ok(terms) => terms,
            Err(reason) => {
                used.cache.remember_uncacheable(&self.key, &self.facts, received, judged.pass_for);
                let end =
                    if reason == Reason::BodyTooLarge { FillEnd::TooLarge } else { FillEnd::NotStorable };
                self.worker.metrics.fill(end);
                self.tell_waiters(Outcome::Uncacheable(parts.status));
                // Whoever waits goes on alone from here; dropping the answer ends its connection if the leader has left.
                return Headed::Told(Told::Pass {
                    response: Response::from_parts(parts, body),
                    reason,
                    server,
                });
            }
        };
        let keep_max = usize::try_from(max_body).unwrap_or(usize::MAX);
        let (writer, content) = Content::new(announced, keep_max, used.cache.budget.clone());
        let mut headers = storable::stored_headers(&parts.headers, &used.policy);
        headers.remove(header::CONTENT_LENGTH);
        for name in &judged.strip {
            headers.remove(name);
        }
        let variant = self.variant(&parts.headers, &parts.headers, received);
        let origins = self.origins(&parts.headers, variant);
        let mut as_received = parts.headers;
        if used.compress && cache::is_compressible(parts.status, &as_received, announced) {
            // Whoever gets this one has to know that others will get it encoded.
            negotiate::vary_on_encoding(&mut headers);
            negotiate::vary_on_encoding(&mut as_received);
        }
        if !self.snapshot.plans[self.plan].key.session().is_empty() {
            // A cache before this one knows of no session: only the cookie tells it who is not to share.
            negotiate::vary_on_cookie(&mut headers);
            negotiate::vary_on_cookie(&mut as_received);
        }
        let arriving = Arc::new(Arriving { status: parts.status, headers, terms, origins, content });
        Headed::Arriving(Box::new(Arrival {
            fill: self,
            arriving,
            headers: as_received,
            server,
            writer,
            body,
        }))
    }

    /// Stores what has arrived whole. `None`: it turned out not to fit.
    fn store(
        &self,
        arriving: &Arriving,
        received: &HeaderMap,
        pieces: &[Bytes],
    ) -> Option<Arc<StoredResponse>> {
        let (used, _) = self.plan();
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let mut status = arriving.status;
        let mut headers = arriving.headers.clone();
        let mut pieces = pieces.to_vec();
        let mut part = None;
        if status == StatusCode::PARTIAL_CONTENT {
            let mut held = Part::of(received, len as u64)?;
            let older = self.completes.iter().chain(&self.candidates).find_map(|stored| {
                let combined = stored.part.as_deref()?.combine(
                    &Validators::of(&stored.head.to_map(0)),
                    &held,
                    &Validators::of(received),
                )?;
                Some((stored, combined))
            });
            if let Some((older, combined)) = older {
                let mut all = first_bytes(older, combined.before);
                all.append(&mut pieces);
                all.extend(last_bytes(older, combined.behind));
                pieces = all;
                held = combined.part;
            }
            if held.is_whole() {
                status = StatusCode::OK;
                headers.remove(header::CONTENT_RANGE);
            } else {
                part = Some(held);
            }
        }
        let response = used.cache.build(
            status,
            headers,
            &pieces,
            part,
            arriving.terms,
            arriving.origins.clone(),
            used.compress,
        );
        self.worker.metrics.fill(FillEnd::Stored);
        Some(used.cache.store_and_share(&self.key, response))
    }

    /// What a response varies on, as the origin's `Vary` in `said` has it: ours is not the origin's.
    fn variant(&self, said: &HeaderMap, response: &HeaderMap, received: Now) -> Variant {
        let (used, _) = self.plan();
        let rule = VaryRule::under(&used.policy, said);
        Variant::capture(&rule, self.presented.fields(), response, received.wall)
    }

    fn origins(&self, response: &HeaderMap, variant: Variant) -> Origins {
        let plan = &self.snapshot.plans[self.plan];
        let mut tags = Tags::default();
        for tag in &self.tags {
            tags.add(Some(tag), TagLimits::default());
        }
        tags.add_response(response, TagLimits::default());
        for group in Tags::groups_of(response, TagLimits::default()).names {
            let tag = tags::group_tag(&self.target.scheme, &self.target.authority, &group);
            tags.add(Some(&tag), TagLimits::default());
        }
        let labels = if tags.names.is_empty() {
            plan.labels.clone()
        } else {
            let labels = Labels::new(plan.route.name.clone(), tags.names.iter().map(|tag| &**tag));
            Arc::new(labels.of_epoch(plan.labels.shared_epoch()))
        };
        Origins { variant, labels, stamp: self.stamp.stamp() }
    }
}

/// What came of asking the origin.
enum Headed {
    /// All there is to tell.
    Told(Told),
    /// Something to store, whose content is still to come.
    Arriving(Box<Arrival>),
}

/// A response that is to be stored, and whose content is arriving.
struct Arrival {
    fill: Fill,
    arriving: Arc<Arriving>,
    /// The fields as received.
    headers: HeaderMap,
    server: Arc<str>,
    writer: ContentWriter,
    body: Body,
}

impl Arrival {
    /// Reads the content to its end and stores it; tells the leader as soon as there is something to tell.
    async fn pump(self: Box<Self>, tell: impl FnOnce(Told)) {
        let Self { fill, arriving, headers, server, writer, body } = *self;
        let is_part = arriving.status == StatusCode::PARTIAL_CONTENT;
        let mut tell = Some(tell);
        // One that completes a stored part answers the leader when both have been put together.
        if !(is_part && fill.completes.is_some())
            && let Some(reader) = arriving.content.read()
            && let Some(tell) = tell.take()
        {
            let (arriving, headers, server) = (arriving.clone(), headers.clone(), server.clone());
            tell(Told::Arriving { arriving, headers, reader, server });
        }
        // A part is of use to nobody but the one who asked for it.
        if !is_part {
            fill.tell_waiters(Outcome::Arriving(arriving.clone()));
        }
        let Some((writer, trailers)) = write(writer, body).await else {
            fill.worker.metrics.fill(FillEnd::Failed);
            return;
        };
        let stored = writer.whole().and_then(|pieces| fill.store(&arriving, &headers, &pieces));
        let stored_whole = stored.clone().filter(|stored| stored.part.is_none());
        match (&stored, &stored_whole) {
            (_, Some(stored)) => fill.tell_waiters(Outcome::Stored(stored.clone())),
            (Some(_), None) => {}
            (None, None) => {
                let (used, _) = fill.plan();
                used.cache.remember_uncacheable(&fill.key, &fill.facts, fill.now(), None);
                fill.worker.metrics.fill(FillEnd::TooLarge);
            }
        }
        // Stored before the last byte is handed out: whoever has it all and asks again finds it.
        writer.finish(trailers);
        if let Some(tell) = tell {
            tell(stored_whole.map_or(Told::Failed(ProxyError::FillEnded), |stored| Told::Stored {
                stored,
                fwd_status: StatusCode::PARTIAL_CONTENT,
                server,
            }));
        }
    }
}

/// Writes a body as it comes. `None`: it broke off, or nobody wants it.
async fn write(mut writer: ContentWriter, mut body: Body) -> Option<(ContentWriter, Option<HeaderMap>)> {
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) => writer.push(data).await.ok()?,
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Some((writer, trailers))
}

fn first_bytes(stored: &StoredResponse, count: u64) -> Vec<Bytes> {
    if count == 0 { Vec::new() } else { stored.slice(0, count - 1) }
}

fn last_bytes(stored: &StoredResponse, count: u64) -> Vec<Bytes> {
    let len = stored.content_len();
    if count == 0 || count > len { Vec::new() } else { stored.slice(len - count, len - 1) }
}

/// The conditions that ask the origin about stored responses, as fields to add.
pub fn conditions(candidates: &[Arc<StoredResponse>]) -> Vec<(http::HeaderName, http::HeaderValue)> {
    let validators: Vec<Validators> =
        candidates.iter().map(|stored| Validators::of(&stored.head.to_map(0))).collect();
    let mut fields = HeaderMap::new();
    Conditional::for_stored(&validators).apply(&mut fields);
    fields.into_iter().filter_map(|(name, value)| Some((name?, value))).collect()
}
