//! The content of a request on its way to an origin over HTTP/2, where hyper reads it: how far it has come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};

use crate::body::{Body, BodyError};

/// How far the content of a request has come.
#[derive(Debug, Default)]
pub(super) struct Sent {
    frames: AtomicU64,
    over: AtomicBool,
}

impl Sent {
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The content of a request, watched.
pub(super) struct Sending {
    body: Body,
    sent: Arc<Sent>,
}

impl Sending {
    /// Watches the content of a request; a request without any is not worth it.
    pub(super) fn watch(request: &mut Request<Body>) -> Option<Arc<Sent>> {
        if request.body().is_end_stream() {
            return None;
        }
        let sent = Arc::new(Sent::default());
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = Body::stream(Self { body, sent: Arc::clone(&sent) });
        Some(sent)
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            this.sent.frames.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.sent.over.store(true, Ordering::Relaxed);
    }
}
