//! A request that goes past the cache.

use super::*;

impl Exchange {
    /// Forwards the request as it is, and tells the cache what an unsafe one has changed.
    pub(super) async fn forward(
        &mut self,
        status: CacheStatus,
        facts: &RequestFacts,
        body: Option<RequestContent>,
    ) -> Outgo {
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
                Some(Box::new((ask, upgrade, terms)))
            }
            None => None,
        };
        let limits = &self.snapshot.config.server.limits;
        let limit = self.route().body_bytes.unwrap_or(limits.body_bytes);
        if self.gated.body_len.is_some_and(|len| len > limit) {
            return self.error(&ProxyError::ContentTooLarge { limit }, status);
        }
        let body = match body {
            Some(body) if self.gated.has_body && websocket.is_none() => match body.into_body(limit, limits) {
                Ok(body) => body,
                Err(_) => return self.error(&ProxyError::ContentTooLarge { limit }, status),
            },
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
                if let Some(recording) = &mut self.recording {
                    let response = &answered.response;
                    recording.answered(response.status(), response.headers(), response.body().exact_len());
                }
                if !self.snapshot.cookies.is_idle() {
                    let secure = self.site().1;
                    self.snapshot.cookies.received(answered.response.headers_mut(), secure, self.clock());
                }
                if self.session.is_some()
                    && let Some(error) = Box::pin(self.settle(&mut answered.response)).await
                {
                    return self.error(&error, status);
                }
                if MethodClass::of(&self.parts.method).invalidates() {
                    Box::pin(self.invalidate(answered.response.status(), answered.response.headers())).await;
                }
                // What a plugin or a session keeps from the cache does not come into it by this way either.
                let may_store = self.parts.method == Method::POST && status.fwd == Some(Fwd::Method);
                if may_store && self.is_storable(&answered, facts, requested) {
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
}
