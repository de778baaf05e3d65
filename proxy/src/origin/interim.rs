//! Interim responses (1xx): counted, bounded, and a 103 passed on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Request, StatusCode, header};

use super::OnInterim;
use crate::gate::ResponseFault;

/// All heads of interim responses to one request may hold so many bytes.
const BYTES_MAX: usize = 64 << 10;

/// Listens to the interim responses of one request, over all its attempts.
pub(super) struct Interims {
    here: Counted,
    /// What hyper tells of them, once it was asked to.
    told: OnceLock<Arc<Counted>>,
}

#[derive(Clone)]
struct Limits {
    count: usize,
    on_interim: Option<OnInterim>,
}

struct Counted {
    count: AtomicUsize,
    bytes: AtomicUsize,
    limits: Limits,
}

impl Counted {
    fn new(limits: Limits) -> Self {
        Self { count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), limits }
    }

    fn is_too_much(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.limits.count
            || self.bytes.load(Ordering::Relaxed) > BYTES_MAX
    }

    fn hear(&self, status: StatusCode, fields: &HeaderMap) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let bytes = self.bytes.fetch_add(size + 32, Ordering::Relaxed) + size + 32;
        // RFC 8297 §2: what a hint may be used for is fetching early; nothing else of it goes on.
        if count <= self.limits.count
            && bytes <= BYTES_MAX
            && status == StatusCode::EARLY_HINTS
            && let Some(listener) = &self.limits.on_interim
        {
            listener.hear(status, &hints(fields));
        }
    }
}

impl Interims {
    pub(super) fn new(count_max: usize, on_interim: Option<OnInterim>) -> Self {
        Self { here: Counted::new(Limits { count: count_max, on_interim }), told: OnceLock::new() }
    }

    /// Asks hyper to tell of those of this request.
    pub(super) fn listen<B>(&self, request: &mut Request<B>) {
        let counted = self.told.get_or_init(|| Arc::new(Counted::new(self.here.limits.clone())));
        let counted = Arc::clone(counted);
        hyper::ext::on_informational(request, move |response| {
            counted.hear(response.status(), response.headers());
        });
    }

    /// Takes one note of.
    pub(super) fn hear(&self, status: StatusCode, fields: &HeaderMap) {
        self.here.hear(status, fields);
    }

    /// Whether there were too many.
    pub(super) fn fault(&self) -> Option<ResponseFault> {
        let too_many = self.here.is_too_much() || self.told.get().is_some_and(|told| told.is_too_much());
        too_many.then_some(ResponseFault::TooManyInterim)
    }
}

/// The fields of a 103 that a client can use before the final head.
fn hints(fields: &HeaderMap) -> HeaderMap {
    let mut hints = HeaderMap::new();
    for name in [header::LINK, header::CONTENT_SECURITY_POLICY] {
        for value in fields.get_all(&name) {
            hints.append(name.clone(), value.clone());
        }
    }
    hints
}
