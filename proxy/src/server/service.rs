//! What hyper calls for a stream of HTTP/2: hands a request to [`Serve`] and notes when its answer has left.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::Serve;
use super::connection::Connection;
use crate::answer::Answer;
use crate::body::{Body, BodyError};
use crate::incoming::{self, OnUpgrade, Received};

/// The service of one connection.
pub(super) struct Handler<S> {
    pub(super) serve: Arc<S>,
    pub(super) connection: Arc<Connection>,
}

impl<S: Serve> hyper::service::Service<Request<Incoming>> for Handler<S> {
    type Response = Response<ServedBody>;
    type Error = Infallible;
    type Future = Serving;

    fn call(&self, request: Request<Incoming>) -> Serving {
        let under_way = UnderWay::new(&self.connection);
        let (mut parts, content) = request.into_parts();
        let connect = parts.method == Method::CONNECT;
        let upgrade = if connect { parts.extensions.remove().map(OnUpgrade::Http2) } else { None };
        let content = incoming::Incoming::from(content);
        let answer = self.serve.serve(&mut Received { parts, content, upgrade }, &self.connection);
        Serving { answer, under_way: Some(under_way), connect }
    }
}

/// An answer under way.
pub(super) struct Serving {
    answer: Answer,
    under_way: Option<UnderWay>,
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
        let Ok(response) = ready!(polled);
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
pub(super) struct UnderWay {
    connection: Arc<Connection>,
    waiting: bool,
}

impl UnderWay {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.progress.begun.one();
        connection.metrics.requests_begun.one();
        Self { connection: Arc::clone(connection), waiting: false }
    }

    /// A request of HTTP/1.1 whose head is complete.
    pub(super) fn begin(connection: &Arc<Connection>, has_content: bool) -> Self {
        connection.progress.head_begun.store(false, Ordering::Relaxed);
        connection.progress.had_content.store(has_content, Ordering::Relaxed);
        Self::new(connection)
    }

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
