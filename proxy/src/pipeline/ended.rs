//! The end of a request: counted, and logged where somebody reads.

use super::*;
use crate::drill;

/// What an access line says of a request.
pub(super) struct Asked<'r> {
    pub(super) connection: &'r Connection,
    pub(super) parts: &'r Parts,
    pub(super) headers: &'r HeaderMap,
    pub(super) authority: Option<&'r Authority>,
    pub(super) trusted: &'r [IpNet],
    pub(super) now: Now,
    pub(super) route: Option<&'r Arc<Route>>,
    pub(super) server: Option<Arc<str>>,
}

impl Worker {
    /// Makes the answer that tells an error, and counts the limit that it ran into.
    pub(super) fn told(&self, error: &ProxyError, to: &Recipient<'_>) -> Response<Body> {
        if let Some(limit) = error.limit() {
            self.metrics.limit(limit);
        }
        error.to_response(to)
    }

    /// Counts a request and logs it: at once where the whole answer is there, else at the end of its content.
    pub(super) fn ended(
        self: &Arc<Self>,
        request: &Asked<'_>,
        disposition: metrics::Disposition,
        response: Response<Body>,
        held: Vec<Held>,
    ) -> Response<Body> {
        let cache_status = || response.headers().get(CACHE_STATUS).cloned();
        let mut ending = self.ending(request, disposition, response.status(), cache_status);
        ending.held = held;
        if response.body().is_here() {
            let bytes = response.body().exact_len().unwrap_or_default();
            ending.end(bytes, true);
            return response;
        }
        response.map(|body| body.then(Box::new(ending)))
    }

    /// Counts what was done with a request, and says what is to be done at its end.
    pub(super) fn ending(
        self: &Arc<Self>,
        request: &Asked<'_>,
        disposition: metrics::Disposition,
        status: StatusCode,
        cache_status: impl FnOnce() -> Option<HeaderValue>,
    ) -> Ending {
        self.metrics.disposition(disposition);
        let method = metrics::MethodClass::from(&request.parts.method);
        let record = self.access.is_on().then(|| AccessRecord {
            at: request.now.wall,
            duration: Duration::ZERO,
            client: identity::of(request.connection, request.headers, request.trusted).address(),
            version: request.parts.version,
            tls: request.connection.tls.is_some(),
            method: request.parts.method.clone(),
            host: request.authority.cloned(),
            target: request.parts.uri.path_and_query().cloned(),
            status,
            bytes: 0,
            complete: false,
            cache: cache_status(),
            route: request.route.map(|route| route.name.clone()),
            origin: request.server.clone(),
        });
        let drilled = request
            .route
            .filter(|_| drill::is_on())
            .map(|route| (route.name.clone(), disposition.is_from_cache()));
        Ending { worker: self.clone(), method, status, now: request.now, record, drilled, held: Vec::new() }
    }
}

/// What is left to do when the last byte of an answer has been handed over.
pub(super) struct Ending {
    worker: Arc<Worker>,
    method: metrics::MethodClass,
    status: StatusCode,
    now: Now,
    record: Option<AccessRecord>,
    /// For the report of a drill: the route, and whether the cache has answered.
    drilled: Option<(Arc<str>, bool)>,
    /// Places that are free when the answer has gone.
    pub(super) held: Vec<Held>,
}

impl Ending {
    pub(super) fn end(self, bytes: u64, complete: bool) {
        let duration = self.worker.proxy.clock.since(self.now);
        self.worker.metrics.request(self.method, self.status, duration);
        if let Some((route, from_cache)) = &self.drilled {
            drill::note(route, self.status, *from_cache, duration);
        }
        if let Some(record) = self.record {
            self.worker.access.record(AccessRecord { bytes, complete, duration, ..record });
        }
    }
}

impl AtEnd for Ending {
    fn at_end(self: Box<Self>, bytes: u64, complete: bool) {
        self.end(bytes, complete);
    }
}
