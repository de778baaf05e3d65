//! Interim responses (1xx): counted, bounded, and a 103 passed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Request, StatusCode, header};

use super::OnInterim;
use crate::gate::ResponseFault;

/// All heads of interim responses to one request may hold so many bytes.
const BYTES_MAX: usize = 64 << 10;

/// Listens to the interim responses of one request, over all its attempts.
pub(super) struct Interims(Arc<Counted>);

struct Counted {
    count: AtomicUsize,
    bytes: AtomicUsize,
    count_max: usize,
    on_interim: Option<OnInterim>,
}

impl Counted {
    fn hear(&self, status: StatusCode, fields: &HeaderMap) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let bytes = self.bytes.fetch_add(size + 32, Ordering::Relaxed) + size + 32;
        // RFC 8297 §2: what a hint may be used for is fetching early; nothing else of it goes on.
        if count <= self.count_max
            && bytes <= BYTES_MAX
            && status == StatusCode::EARLY_HINTS
            && let Some(tell) = &self.on_interim
        {
            tell(status, &hints(fields));
        }
    }
}

impl Interims {
    pub(super) fn new(count_max: usize, on_interim: Option<OnInterim>) -> Self {
        Self(Arc::new(Counted {
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            count_max,
            on_interim,
        }))
    }

    /// Asks hyper to tell of those of this request.
    pub(super) fn listen<B>(&self, request: &mut Request<B>) {
        let counted = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |response| {
            counted.hear(response.status(), response.headers());
        });
    }

    /// Takes one note of.
    pub(super) fn hear(&self, status: StatusCode, fields: &HeaderMap) {
        self.0.hear(status, fields);
    }

    /// Whether there were too many.
    pub(super) fn fault(&self) -> Option<ResponseFault> {
        let too_many = self.0.count.load(Ordering::Relaxed) > self.0.count_max
            || self.0.bytes.load(Ordering::Relaxed) > BYTES_MAX;
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
