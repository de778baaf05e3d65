//! What the service gives to hyper: an answer that is ready, or the boxed rest of a request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::body::Body;

/// An answer. A hit is ready when the service returns, so that the hit path has no future to box, move or wake.
pub enum Answer {
    /// Ready; `None` once taken.
    Ready(Option<Response<Body>>),
    /// Still under way.
    Pending(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Answer {
    /// An answer that is there.
    pub const fn ready(response: Response<Body>) -> Self {
        Self::Ready(Some(response))
    }

    /// An answer that takes its time.
    pub fn pending(future: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self::Pending(Box::pin(future))
    }
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(response) => Poll::Ready(Ok(response
                .take()
                .expect("hyper polls an answer until it is ready, and no further"))),
            Self::Pending(future) => future.as_mut().poll(context).map(Ok),
        }
    }
}
