//! What the service gives to a connection: an answer that is ready, or the boxed rest of a request.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cache_semantics::cache_status::CACHE_STATUS;
use http::Response;
use http::header::{self, HeaderValue};

use tokio_util::sync::ReusableBoxFuture;

use crate::body::Body;
use crate::limit::{self, Said};
use crate::store::{Content, StoredHead, StoredResponse};

/// Memory of ended requests that a worker keeps for those to come.
const SPARE_MAX: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<ReusableBoxFuture<'static, Response<Body>>>> = const { RefCell::new(Vec::new()) };
}

/// An answer. A hit is ready when the service returns, so that the hit path has no future to box, move or wake.
pub enum Answer {
    /// A stored response as it is.
    Stored(Option<StoredAnswer>),
    /// Ready; `None` once taken.
    Ready(Option<Response<Body>>),
    /// Still under way.
    Pending(ReusableBoxFuture<'static, Response<Body>>),
}

/// A whole stored response as the answer to a GET. HTTP/1.1 writes it straight out of the store; for HTTP/2 it becomes a response.
#[derive(Debug)]
pub struct StoredAnswer {
    /// What is stored.
    pub stored: Arc<StoredResponse>,
    /// Which of its encodings; `None`: as the origin sent it.
    pub encoded: Option<usize>,
    /// What `Age` says, in seconds.
    pub age: u64,
    /// What `Cache-Status` says.
    pub status: HeaderValue,
    /// What is said of limits.
    pub said: Said,
}

impl StoredAnswer {
    /// The fields, and the content where it is packed behind them.
    pub fn head(&self) -> &StoredHead {
        let encoded = self.encoded.and_then(|at| self.stored.encodings().get(at)?.head.as_ref());
        encoded.unwrap_or(&self.stored.head)
    }

    /// The content, if it is packed behind the fields.
    pub fn packed(&self) -> Option<&[u8]> {
        match (self.encoded, &self.stored.content) {
            (Some(_), _) | (None, Content::Packed) => Some(self.head().packed()),
            (None, Content::Pieces { .. }) => None,
        }
    }

    /// The length of the content.
    pub fn content_len(&self) -> u64 {
        self.packed().map_or_else(|| self.stored.content_len(), |packed| packed.len() as u64)
    }

    /// The content.
    pub fn body(&self) -> Body {
        if self.packed().is_some() { Body::full(self.head().content()) } else { self.stored.body() }
    }

    /// As a response.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.stored.status;
        let mut fields = self.head().to_map(2);
        fields.insert(header::AGE, HeaderValue::from(self.age));
        fields.insert(CACHE_STATUS, self.status);
        limit::say(&mut fields, &self.said);
        *response.headers_mut() = fields;
        response
    }
}

impl Answer {
    /// A stored response.
    pub const fn stored(stored: StoredAnswer) -> Self {
        Self::Stored(Some(stored))
    }

    /// An answer that is there.
    pub const fn ready(response: Response<Body>) -> Self {
        Self::Ready(Some(response))
    }

    /// An answer that takes its time.
    #[inline]
    pub fn pending(future: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        // Some kilobytes of one size: the allocator has no quick list for that, so there is one here.
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self::Pending(match spare {
            Some(mut spare) => {
                spare.set(future);
                spare
            }
            None => ReusableBoxFuture::new(future),
        })
    }
}

impl Answer {
    /// The answer, if it is there.
    pub fn take_ready(&mut self) -> Option<Response<Body>> {
        match self {
            Self::Ready(response) => response.take(),
            Self::Stored(stored) => stored.take().map(|stored| stored.into_response()),
            Self::Pending(_) => None,
        }
    }

    /// Goes on with an answer that takes its time.
    pub fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<Response<Body>> {
        if let Self::Pending(future) = self {
            let response = ready!(future.poll(context));
            if let Self::Pending(done) = std::mem::replace(self, Self::Ready(None)) {
                SPARE.with_borrow_mut(|spare| {
                    if spare.len() < SPARE_MAX {
                        spare.push(done);
                    }
                });
            }
            return Poll::Ready(response);
        }
        Poll::Ready(self.take_ready().expect("an answer is polled until it is ready, and no further"))
    }
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_response(context).map(Ok)
    }
}
