//! Answers that need nobody else: hits, redirects, fixed answers, refusals.

use super::ended::Asked;
use super::*;

/// Answers that need nobody else.
pub(super) struct Local<'r> {
    pub(super) worker: &'r Arc<Worker>,
    pub(super) connection: &'r Connection,
    pub(super) parts: &'r Parts,
    pub(super) authority: Option<&'r Authority>,
    pub(super) trusted: &'r [IpNet],
    pub(super) now: Now,
    pub(super) route: Option<&'r Arc<Route>>,
    pub(super) close: bool,
    /// What is said of limits.
    pub(super) said: Said,
}

impl Local<'_> {
    pub(super) fn hit(&mut self, hit: &Hit, cache: &PlanCache, key: &[u8]) -> Answer {
        let (method, headers) = (&self.parts.method, &self.parts.headers);
        if self.route.is_none_or(|route| route.response_headers.is_empty())
            && let Some((mut answer, wanted)) =
                respond::straight(&hit.stored, method, headers, hit.age, hit.status)
        {
            if let Some(coding) = wanted {
                cache.cache.encode_later(&self.worker.proxy.compressor, key, &hit.stored, coding);
            }
            let (disposition, status) = (disposition(&hit.status), answer.stored.status);
            let ending =
                self.worker.ending(&self.asked(), disposition, status, || Some(answer.status.clone()));
            ending.end(answer.content_len(), true);
            answer.said = std::mem::take(&mut self.said);
            return Answer::stored(answer);
        }
        let served = respond::from_stored(&hit.stored, method, headers, hit.age, hit.status);
        if let Some(coding) = served.wanted {
            cache.cache.encode_later(&self.worker.proxy.compressor, key, &hit.stored, coding);
        }
        Answer::ready(self.finish(served.response, disposition(&hit.status)))
    }

    pub(super) fn finish(
        &self,
        mut response: Response<Body>,
        disposition: metrics::Disposition,
    ) -> Response<Body> {
        if let Some(route) = self.route {
            edit(response.headers_mut(), &route.response_headers);
        }
        limit::say(response.headers_mut(), &self.said);
        if self.close {
            close_after(&mut response, self.parts.version);
        }
        self.worker.ended(&self.asked(), disposition, response, Vec::new())
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            connection: self.connection,
            parts: self.parts,
            headers: &self.parts.headers,
            authority: self.authority,
            trusted: self.trusted,
            now: self.now,
            route: self.route,
            server: None,
        }
    }

    pub(super) fn error(&self, error: &ProxyError, reason: Reason) -> Response<Body> {
        let mut response = self.worker.told(error, &recipient(self.parts, &self.parts.headers));
        let status = CacheStatus::forwarded(Fwd::Bypass).because(reason);
        respond::put_status(response.headers_mut(), status);
        self.finish(response, metrics::Disposition::Local)
    }

    /// A refusal of what is no request.
    pub(super) fn refusal(&self, rejection: Rejection) -> Response<Body> {
        let response = self.worker.told(&rejection.into(), &recipient(self.parts, &self.parts.headers));
        self.worker.metrics.disposition(metrics::Disposition::Local);
        let method = metrics::MethodClass::Other;
        self.worker.metrics.request(method, response.status(), Duration::ZERO);
        response
    }

    pub(super) fn fixed(&self, fixed: &FixedAnswer) -> Response<Body> {
        self.route_answer(fixed_answer(fixed, &self.parts.method))
    }

    fn route_answer(&self, mut response: Response<Body>) -> Response<Body> {
        respond::put_status(response.headers_mut(), CacheStatus::beside(Reason::RouteAnswer));
        self.finish(response, metrics::Disposition::Local)
    }

    pub(super) fn redirect_to_https(&self, authority: &Authority) -> Response<Body> {
        // A port of the cleartext listener means nothing to the other one.
        let location = format!("https://{}{}", authority.host(), path_and_query(self.parts));
        self.redirect(StatusCode::PERMANENT_REDIRECT, &location)
    }

    pub(super) fn redirect(&self, status: StatusCode, location: &str) -> Response<Body> {
        let Ok(location) = HeaderValue::from_str(location) else {
            return self.error(
                &ProxyError::Internal { what: "a redirect's location is a field value" },
                Reason::Refused,
            );
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response.headers_mut().insert(header::LOCATION, location);
        self.route_answer(response)
    }

    /// `OPTIONS` that is not to go further (RFC 9110 §7.6.2).
    pub(super) fn options(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        response.headers_mut().insert(header::ALLOW, allow);
        self.finish(response, metrics::Disposition::Local)
    }
}

pub(super) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
}

pub(super) fn close_after(response: &mut Response<Body>, version: Version) {
    if version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

pub(super) fn fixed_answer(fixed: &FixedAnswer, method: &Method) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = fixed.status;
    let headers = response.headers_mut();
    for (name, value) in &fixed.headers {
        headers.append(name, value.clone());
    }
    if *method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(fixed.body.len()));
    } else {
        *response.body_mut() = Body::full(fixed.body.clone());
    }
    response
}

pub(super) fn recipient<'r>(parts: &'r Parts, headers: &'r HeaderMap) -> Recipient<'r> {
    Recipient { method: &parts.method, version: parts.version, accept: headers.get(header::ACCEPT) }
}
