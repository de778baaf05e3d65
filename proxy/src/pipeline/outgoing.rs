//! What a request becomes on its way to the origin.

use super::*;

impl Exchange {
    pub(super) fn new_fill(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
        status: CacheStatus,
        candidates: Vec<Arc<StoredResponse>>,
        stale: Option<&Arc<StoredResponse>>,
        token: Option<FillToken<Outcome>>,
    ) -> Fill {
        let stamp = self.worker.proxy.purges.begin_fill();
        let mut fields = self.fields();
        for name in CONDITIONS {
            fields.remove(&name);
        }
        let mut extra = Vec::new();
        let mut completes = None;
        let whole: Vec<_> = candidates.iter().filter(|stored| stored.part.is_none()).cloned().collect();
        let part = candidates.iter().find(|stored| stored.part.is_some());
        if facts.range && stale.is_none() {
            // The range goes to the origin as it came, with the client's own If-Range.
            if let Some(value) = self.presented.headers.get(header::IF_RANGE) {
                fields.set(header::IF_RANGE, value.clone());
            }
        } else {
            fields.remove(&header::RANGE);
            extra = fill::conditions(&whole);
            if let (Some(stored), Some(Fwd::Partial)) = (part, status.fwd)
                && let Some((range, if_range)) = missing(stored, self.now)
            {
                extra = vec![(header::RANGE, range), (header::IF_RANGE, if_range)];
                completes = Some(stored.clone());
            }
        }
        // RFC 9110 §13.1.2: an origin answers a POST whose condition does not hold with 412.
        let is_post = self.content.is_some() && self.parts.method == Method::POST;
        let whole = if is_post { Vec::new() } else { whole };
        if is_post {
            extra.clear();
        }
        Fill {
            worker: self.worker.clone(),
            snapshot: self.snapshot.clone(),
            plan: self.plan,
            key: key.into(),
            facts: *facts,
            target: self.forwarded_target(),
            presented: self.presented.clone(),
            takes_secure_cookies: !self.snapshot.cookies.is_idle() && self.site().1,
            request: FillRequest {
                fields: Some(fields),
                method: if self.content.is_some() { self.parts.method.clone() } else { Method::GET },
                content: self.content.clone().unwrap_or_default(),
                extra,
                target: self.target.clone(),
                authority: self.gated.authority.clone(),
                takes_trailers: self.gated.takes_trailers,
                on_interim: self.on_interim(),
                client: self.addresses(),
            },
            candidates: if facts.range && stale.is_none() { candidates } else { whole },
            completes,
            tags: self.tags.clone(),
            asked: self.asked.clone(),
            lease: if token.is_some() { self.lease.take() } else { None },
            token,
            stamp,
        }
    }

    /// The fields that the origin sees.
    pub(super) fn fields(&self) -> OriginFields {
        let identity = identity::of(
            &self.connection,
            &self.presented.headers,
            &self.snapshot.config.server.trusted_proxies,
        );
        let sender = Sender {
            peer: self.connection.peer.map(|peer| peer.ip().to_canonical()),
            trusted: identity.peer_is_trusted(),
            https: self.scheme == http::uri::Scheme::HTTPS,
            version: self.parts.version,
        };
        let mut fields = OriginFields::new(self.presented.clone(), sender);
        fields.edit(&self.route().request_headers);
        if (self.snapshot.sessions.is_some() || self.jars.is_some())
            && let Some(cookies) = self.cookies()
        {
            match HeaderValue::from_bytes(&cookies) {
                Ok(cookies) if !cookies.is_empty() => fields.set(header::COOKIE, cookies),
                _ => fields.remove(&header::COOKIE),
            }
        }
        if let (Some(sessions), Some(opened)) = (&self.snapshot.sessions, &self.session) {
            let mut told = match &self.told {
                None => sessions.tell(opened, self.now),
                // What the answer depends on is in its key: the origin is told of nothing else.
                Some(names) => session::tell_some(opened, names, self.now).into_iter().collect(),
            };
            if let Some(key) = self.origin().spec().session_mac.as_ref().filter(|_| !told.is_empty()) {
                told.extend(session::mac::vouched(key, &self.parts.method, &self.target, &told, self.now));
            }
            for (name, value) in told {
                fields.set(name, value);
            }
            // With a token, an origin could read what is not in the key.
            if self.told.is_none()
                && let Some(token) = sessions.token(opened, self.route().session, self.now)
            {
                fields.set(session::TOKEN, token);
            }
        }
        fields
    }

    pub(super) fn addresses(&self) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        self.connection.peer.zip(self.connection.local)
    }

    /// The URI as the client asked for it.
    pub(super) fn presented_target(&self) -> Target<'_> {
        Target {
            scheme: self.scheme.as_str(),
            authority: self.gated.authority.as_str(),
            path_and_query: path_and_query(&self.parts),
        }
    }

    /// The URI as it is keyed and forwarded.
    pub(super) fn forwarded_target(&self) -> ResolvedTarget {
        ResolvedTarget {
            scheme: self.scheme.as_str().to_owned(),
            authority: self.gated.authority.as_str().to_owned(),
            path_and_query: self.target.as_str().to_owned(),
        }
    }

    pub(super) fn on_interim(&self) -> Option<OnInterim> {
        // HTTP/1.0 knows no interim responses, and hyper's HTTP/2 server cannot send them.
        if self.parts.version != Version::HTTP_11 {
            return None;
        }
        Some(self.interim.clone())
    }
}

/// Requests that collapse: those of one key that would be given the same variant, as far as what is stored tells.
pub(super) fn fill_key(key: &[u8], known: &[Arc<StoredResponse>], headers: &HeaderMap) -> Box<[u8]> {
    let Some(stored) = known.first() else { return key.into() };
    let mut with_variant = key.to_vec();
    for name in stored.variant.names() {
        for value in headers.get_all(name) {
            with_variant.push(0);
            with_variant.extend_from_slice(value.as_bytes());
        }
        with_variant.push(1);
    }
    with_variant.into()
}

/// What completes a stored part that is still fresh: the range that is missing, and the condition that makes it safe to combine.
pub(super) fn missing(stored: &StoredResponse, now: Now) -> Option<(HeaderValue, HeaderValue)> {
    let part = stored.part.as_deref().filter(|_| stored.terms.is_fresh(now))?;
    let if_range = Validators::of(&stored.head.to_map(0)).if_range()?;
    Some((part.missing()?.value(), if_range))
}
