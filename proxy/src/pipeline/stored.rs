//! What is stored, or arriving, or was stored once, as an answer to a request that asked the origin; and what its answer changes.

use super::local::fixed_answer;
use super::*;
use crate::purge::triggers::{self, Written};
use crate::purge::{self, Wait};
use crate::session::vault::Vault;

impl Exchange {
    /// An answer made of a response that is still arriving: the client's conditions count here too.
    pub(super) fn arriving(&self, arriving: &Arriving, headers: HeaderMap, body: Body) -> Response<Body> {
        let method = &self.parts.method;
        let validators = Validators::of(&headers);
        // The conditions of a POST were the origin's to evaluate, and it has done what was asked.
        let condition = if *method == Method::POST {
            validation::Precondition::Proceed
        } else {
            validation::evaluate(
                method,
                &self.presented.headers,
                arriving.status,
                &validators,
                &arriving.terms,
            )
        };
        let (status, headers, body) = match condition {
            validation::Precondition::Proceed => (arriving.status, headers, body),
            validation::Precondition::NotModified => {
                (StatusCode::NOT_MODIFIED, validation::not_modified_headers(&headers), Body::empty())
            }
            validation::Precondition::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, HeaderMap::new(), Body::empty())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let age = arriving.terms.current_age(self.clock());
        if age >= Duration::from_secs(1) {
            response.headers_mut().insert(header::AGE, HeaderValue::from(age.as_secs()));
        }
        response
    }

    pub(super) fn answer_stored(
        &self,
        key: &[u8],
        stored: &Arc<StoredResponse>,
        age: Duration,
        status: CacheStatus,
    ) -> Outgo {
        let served = respond::from_stored(stored, &self.parts.method, &self.presented.headers, age, status);
        if let Some(coding) = served.wanted {
            self.cache().encode_later(&self.worker.proxy.compressor, key, stored, coding);
        }
        // `finish` says the status.
        let mut response = served.response;
        response.headers_mut().remove(CACHE_STATUS);
        Outgo { response, status, server: None }
    }

    /// The client's conditions on an answer that was fetched without them.
    pub(super) fn evaluate_passed(&self, response: Response<Body>) -> Response<Body> {
        let (method, headers) = (&self.parts.method, &self.presented.headers);
        if !validation::is_conditional(headers) {
            return response;
        }
        let validators = Validators::of(response.headers());
        let received = self.clock().wall;
        let mut answer = Response::new(Body::empty());
        match validation::evaluate_received(method, headers, response.status(), &validators, received) {
            validation::Precondition::Proceed => return response,
            validation::Precondition::NotModified => {
                *answer.status_mut() = StatusCode::NOT_MODIFIED;
                *answer.headers_mut() = validation::not_modified_headers(response.headers());
            }
            validation::Precondition::PreconditionFailed => {
                *answer.status_mut() = StatusCode::PRECONDITION_FAILED;
            }
        }
        answer
    }

    /// What is stored in place of an error (RFC 5861 §4).
    pub(super) fn stale_on_error(
        &self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        stale: Option<&Arc<StoredResponse>>,
        failure: OriginFailure,
    ) -> Option<Outgo> {
        let stored = stale?;
        let policy = &self.plan_cache().policy;
        let allowed = reuse::on_error(&stored.terms, facts, policy, failure, self.clock())?;
        let ttl = i64::try_from(allowed.stale_for.as_secs()).unwrap_or(i64::MAX);
        let status =
            CacheStatus { hit: true, fwd: None, ttl: Some(-ttl), ..status }.because(Reason::StaleIfError);
        Some(self.answer_stored(key, stored, allowed.age, status))
    }

    pub(super) fn fallback(&self, status: CacheStatus) -> Option<Outgo> {
        let fixed = self.route().fallback.as_ref()?;
        let response = fixed_answer(fixed, &self.parts.method);
        Some(Outgo { response, status: status.because(Reason::Fallback), server: None })
    }

    /// Forwards a HEAD; its answer may freshen what is stored (RFC 9111 §4.3.5).
    pub(super) async fn head(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        stored: Option<Arc<StoredResponse>>,
    ) -> Outgo {
        let requested = self.clock();
        let outgo = self.forward(status, facts, None).await;
        let sets_kept = |vault: &Arc<Vault>| vault.is_set(outgo.response.headers());
        if let Some(stored) = stored.filter(|_| !self.snapshot.cookies.vault.as_ref().is_some_and(sets_kept))
        {
            let cache = self.plan_cache();
            let headers = stored.head.to_map(0);
            let answer = &outgo.response;
            match validation::head_effect(
                stored.status,
                &headers,
                stored.content_len(),
                answer.status(),
                answer.headers(),
            ) {
                HeadEffect::Nothing => {}
                // Selected by other fields than before, it would be found by requests that never named them.
                HeadEffect::Update if varies_otherwise(&headers, answer.headers()) => {}
                HeadEffect::Invalidate => cache.cache.remove(key, &stored),
                HeadEffect::Update => {
                    let merged =
                        validation::freshen(&headers, answer.headers(), &cache.policy, self.clock().wall);
                    let get = RequestFacts { method: MethodClass::Get, ..*facts };
                    let target = self.forwarded_target();
                    let exchange = storable::Exchange {
                        request: &get,
                        target: target.as_target(),
                        status: stored.status,
                        headers: &merged,
                        requested,
                        received: self.clock(),
                    };
                    if let Ok(terms) = storable::decide(&exchange, &cache.policy) {
                        let headers = storable::stored_headers(&merged, &cache.policy);
                        let fresh = cache.cache.build(
                            stored.status,
                            headers,
                            &stored.pieces(),
                            stored.part.as_deref().copied(),
                            terms,
                            stored.origins(),
                            cache.compress,
                        );
                        cache.cache.replace(key, &stored, fresh);
                    }
                }
            }
        }
        outgo
    }

    /// Whether an answer to POST says that it is the representation that a GET of its URI would get (RFC 9110 §9.3.3).
    pub(super) fn is_storable(&self, answered: &Answered, facts: &RequestFacts, requested: Now) -> bool {
        let response = &answered.response;
        let Some(cache) = self.plan().cache.as_ref().filter(|_| self.session.is_none()) else { return false };
        if !response.headers().contains_key(header::CONTENT_LOCATION) {
            return false;
        }
        let exchange = storable::Exchange {
            request: facts,
            target: self.presented_target(),
            status: response.status(),
            headers: response.headers(),
            requested,
            received: self.clock(),
        };
        storable::decide(&exchange, &cache.policy).is_ok()
    }

    /// Stores an answer to POST for the GETs to come.
    pub(super) async fn store_posted(
        &mut self,
        answered: Answered,
        facts: &RequestFacts,
        status: CacheStatus,
        requested: Now,
    ) -> Outgo {
        let mut scratch = Scratch::default();
        let presented = Presented {
            scheme: self.scheme.as_str(),
            authority: self.gated.authority.as_str(),
            forwarded_host: None,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.presented.headers,
            bindings: self.route().matcher.bindings(self.parts.uri.path()),
            shape: None,
            content: None,
            session: &[],
            cookie_stays: false,
        };
        self.plan().key.key(&presented, &mut scratch);
        let key: Box<[u8]> = scratch.key.as_slice().into();
        let fill = self.new_fill(&key, facts, status, Vec::new(), None, None);
        let told = fill.take_over(answered, requested).await;
        self.led(&key, facts, status, None, told)
    }

    /// After an unsafe request that succeeded: what it has changed is purged before the client hears of it.
    pub(super) async fn invalidate(&self, status: StatusCode, headers: &HeaderMap) {
        let written = Written {
            method: &self.parts.method,
            is_read: self.plan().content_class(&self.parts.method).is_some(),
            target: self.presented_target(),
            status,
            headers,
        };
        let mut purges = triggers::purged_by(&self.snapshot, &written);
        if let (Some(plugins), Some(asked)) = (&self.plan().plugins, &self.asked) {
            let (worker, now) = (self.worker.index, self.clock());
            purges.extend(plugins.after_write(asked, worker, now, (status, headers), &self.snapshot));
        }
        if purges.is_empty() {
            return;
        }
        purges.iter().for_each(|_| self.worker.metrics.purges.one());
        self.worker.proxy.purges.issue(purges, Wait::Local, purge::REQUEST_BUDGET, self.clock()).await;
    }
}

/// Whether an answer names other fields in `Vary` than what is stored; saying nothing leaves them as they are.
fn varies_otherwise(stored: &HeaderMap, answer: &HeaderMap) -> bool {
    answer.contains_key(header::VARY)
        && !answer.get_all(header::VARY).iter().eq(stored.get_all(header::VARY).iter())
}
