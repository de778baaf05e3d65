//! What hyper calls: hands a request to [`Serve`] and notes when its answer has left.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::Serve;
use super::connection::{Connection, Phase};
use super::watch::Table;
use crate::answer::Answer;
use crate::body::{Body, BodyError};

/// The service of one connection.
pub(super) struct Handler<S> {
    pub(super) serve: Arc<S>,
    pub(super) connection: Arc<Connection>,
    pub(super) table: Arc<Table>,
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Handler<S> {
    type Response = Response<ServedBody>;
    type Error = Infallible;
    type Future = Serving;

    fn call(&self, request: Request<Incoming>) -> Serving {
        let progress = &self.connection.progress;
        progress.begun.one();
        self.connection.metrics.requests_begun.one();
        let http1 = progress.phase() == Phase::Http1;
        if http1 {
            progress.head_begun.store(false, Ordering::Relaxed);
            progress.had_content.store(!request.body().is_end_stream(), Ordering::Relaxed);
        }
        let connect = request.method() == Method::CONNECT;
        let under_way = UnderWay { connection: Arc::clone(&self.connection), waiting: false };
        let answer = self.serve.serve(request, &self.connection);
        // RFC 9112 §9.6: "A server that does not support persistent connections MUST send the "close" connection option".
        let last = http1 && self.table.is_closing();
        Serving { answer, under_way: Some(under_way), last, connect }
    }
}

/// An answer under way.
pub(super) struct Serving {
    answer: Answer,
    under_way: Option<UnderWay>,
    last: bool,
    connect: bool,
}

impl Future for Serving {
    type Output = Result<Response<ServedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.answer).poll(context);
        if let Some(under_way) = &mut this.under_way {
            under_way.note_waiting(polled.is_pending());
        }
        let Ok(mut response) = ready!(polled);
        if this.last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let under_way = this.under_way.take();
        if this.connect
            && let Some(under_way) = &under_way
        {
            let progress = &under_way.connection.progress;
            progress.tunnelled.fetch_or(response.status().is_success(), Ordering::Relaxed);
        }
        Poll::Ready(Ok(response.map(|body| ServedBody { body, under_way })))
    }
}

/// A request that has begun and whose answer has not wholly been handed over.
#[derive(Debug)]
struct UnderWay {
    connection: Arc<Connection>,
    waiting: bool,
}

impl UnderWay {
    /// Whether the next step is ours (or the origin's) rather than the client's.
    fn note_waiting(&mut self, waiting: bool) {
        if waiting != self.waiting {
            self.waiting = waiting;
            let level = &self.connection.progress.waiting;
            if waiting { level.up() } else { level.down() }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.note_waiting(false);
        self.connection.progress.ended.one();
        self.connection.metrics.requests_ended.one();
    }
}

/// An answer's content, which ends the request when it is dropped.
#[derive(Debug)]
pub(super) struct ServedBody {
    body: Body,
    under_way: Option<UnderWay>,
}

impl http_body::Body for ServedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Some(under_way) = &mut this.under_way {
            under_way.note_waiting(polled.is_pending());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}
