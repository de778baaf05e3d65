//! A request that the cache may answer, beyond a fresh hit in memory: what leads a fill, what waits for one, and what a failure leaves.

use super::*;

impl Exchange {
    /// A request that the cache may answer.
    pub(super) async fn cached(&mut self, decision: Decision, key: &[u8], facts: &RequestFacts) -> Outgo {
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
                Box::pin(self.head(key, facts, status, Some(stored))).await
            }
            Decision::Miss { status, .. } if self.parts.method == Method::HEAD => {
                Box::pin(self.head(key, facts, status, None)).await
            }
            Decision::Validate { stored, status } => {
                self.fill(key, facts, status, vec![stored.clone()], Some(stored)).await
            }
            Decision::Miss { status, others } => {
                // RFC 9111 §5.2.1.5: what answers such a request is kept by nobody, so nobody waits for it either.
                if facts.directives.no_store {
                    let content = self.content.clone().map(RequestContent::Whole);
                    let status = status.because(Reason::RequestNoStore);
                    return Box::pin(self.forward(status, facts, content)).await;
                }
                self.fill(key, facts, status, others, None).await
            }
        }
    }

    /// Leads or joins the fill of this key. `stale`: what is stored and must be validated.
    pub(super) async fn fill(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        candidates: Vec<Arc<StoredResponse>>,
        stale: Option<Arc<StoredResponse>>,
    ) -> Outgo {
        let (mut status, mut candidates, mut stale) = (status, candidates, stale);
        // Who wait for this one, if it leads.
        let token = 'token: {
            // A range is fetched as it is asked for, unless the whole is only to be validated; nobody else waits for it.
            if facts.range && stale.is_none() {
                break 'token None;
            }
            if self.cache().is_known_uncacheable(key, facts, self.now) {
                status.detail = status.detail.or(Some(Reason::KnownUncacheable));
                break 'token None;
            }
            let fills = self.cache().fills.clone();
            let wanted = fill_key(key, &candidates, &self.presented.headers);
            let mut join = fills.join(&wanted);
            // A leader whose client left before the origin was asked says nothing: one of those who waited takes its place, and not all at once.
            for _ in 0..SUCCESSORS_MAX {
                let Join::Wait(waiter) = join else { break };
                if let Some(outcome) = waiter.outcome().await {
                    match self.joined(key, facts, status, stale.as_ref(), outcome) {
                        Some(outgo) => return outgo,
                        None => break 'token None,
                    }
                }
                join = fills.join(&wanted);
            }
            let Join::Lead(token) = join else {
                self.worker.metrics.limit(metrics::Limit::Waiters);
                break 'token None;
            };
            // Between the lookup and here another fill may have ended.
            if let Some(hit) = self.decide_again(key, facts) {
                return self.answer_stored(key, &hit.stored, hit.age, hit.status);
            }
            match self.behind_memory(key, facts).await {
                Ok(Some(Decision::Hit(hit))) => {
                    token.tell(Outcome::Stored(hit.stored.clone()));
                    drop(token);
                    if hit.refresh {
                        self.refresh_behind(key, facts, &hit.stored);
                    }
                    return self.answer_stored(key, &hit.stored, hit.age, hit.status);
                }
                Ok(Some(Decision::Validate { stored, status: why })) => {
                    (candidates, stale, status) = (vec![stored.clone()], Some(stored), why);
                }
                Ok(Some(Decision::Miss { others, .. })) => candidates = others,
                Ok(None) => {}
                Err(error) => {
                    token.tell(Outcome::Failed(error.clone()));
                    return self.error(&error, status.because(Reason::RedisFailed));
                }
            }
            Some(token)
        };
        // What leading needs room for is not to burden what ends before it.
        let told = Box::pin(self.lead(key, facts, status, candidates, stale.as_ref(), token)).await;
        self.led(key, facts, status, stale, told)
    }

    /// What came of another request's fill, if it answers this one too.
    pub(super) fn joined(
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
                    && arriving.is_valid(self.cache(), key)
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

    pub(super) fn decide_again(&self, key: &[u8], facts: &RequestFacts) -> Option<Hit> {
        match self.decide(key, facts) {
            Decision::Hit(hit) => Some(hit),
            Decision::Validate { .. } | Decision::Miss { .. } => None,
        }
    }

    pub(super) fn decide(&self, key: &[u8], facts: &RequestFacts) -> Decision {
        let wanted = Wanted {
            method: &self.parts.method,
            headers: &self.presented.headers,
            facts,
            fields: self.presented.fields(),
            strict: self.plan_cache().strict,
        };
        self.cache().decide(key, &wanted, &self.plan_cache().policy, self.clock())
    }

    /// Fetches, and waits for the head. `token`: others wait with us.
    pub(super) async fn lead(
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
        let told = if fill.token.is_none() {
            self.interim.relay(pin!(fill.here())).await
        } else {
            let told = self.interim.relay(pin!(fill.start())).await;
            told.unwrap_or(Told::Failed(ProxyError::FillEnded))
        };
        if let Some(recording) = &mut self.recording {
            match &told {
                Told::Arriving { arriving, headers, .. } => {
                    recording.answered(arriving.status, headers, None)
                }
                Told::Pass { response, .. } => {
                    recording.answered(response.status(), response.headers(), response.body().exact_len());
                }
                Told::Stored { .. } | Told::Failed(_) => {}
            }
        }
        // What is not stored of a POST may have been a write after all.
        if let Told::Pass { response, .. } = &told
            && MethodClass::of(&self.parts.method).invalidates()
        {
            Box::pin(self.invalidate(response.status(), response.headers())).await;
        }
        told
    }

    /// Makes the answer to the one who led the fill.
    pub(super) fn led(
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
    pub(super) fn failed(
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

    /// Fetches anew what was served stale, unless somebody does already.
    pub(super) fn refresh_behind(&mut self, key: &[u8], facts: &RequestFacts, stored: &Arc<StoredResponse>) {
        let candidates = vec![stored.clone()];
        let fill_key = fill_key(key, &candidates, &self.presented.headers);
        if let Join::Lead(token) = self.cache().fills.clone().join(&fill_key) {
            let status = CacheStatus::forwarded(Fwd::Stale);
            let mut fill = self.new_fill(key, facts, status, candidates, Some(stored), Some(token));
            fill.request.on_interim = None;
            drop(fill.start());
        }
    }
}
