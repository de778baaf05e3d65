//! One HTTP/1.1 connection to an origin server.
//!
//! Nothing runs a connection but the request that is on it: whoever waits for the answer, or reads its content, drives hyper's connection
//! in the same task. So a request costs no second task and no wake-up between the two, a connection that nobody drives reads nothing, and a
//! request that is given up closes its connection by being dropped.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::coop;
use tokio::time::Instant;

use super::error::OriginFailure;
use super::interim::Interims;
use super::io::{Io, Shared, Stream};
use super::server::{InFlight, Permit};
use super::watch::Watch;
use crate::body::{Body, BodyError};
use crate::gate;

/// A connection, idle or with one request on it.
pub(super) struct Http1 {
    sender: SendRequest<Body>,
    run: Run,
    shared: Arc<Shared>,
    watch: Watch,
    /// The address it leads to, where it is TCP.
    pub(super) address: Option<std::net::SocketAddr>,
    /// Since when nothing is on it.
    pub(super) idle_since: Instant,
    /// It has carried an answer before.
    pub(super) kept: bool,
    permit: Permit,
}

/// Hyper's side of a connection.
enum Run {
    Http(Connection<TokioIo<Io>, Body>),
    /// Meant to become a tunnel: its bytes outlive it.
    Tunnel(Connection<TokioIo<Io>, Body>),
    /// It has left HTTP behind, or ended before it could.
    Left(Connection<TokioIo<Io>, Body>),
    Ended,
}

impl Run {
    /// Lets the connection do what it can. One that has ended is dropped, which ends whatever waits for it.
    fn drive(&mut self, context: &mut Context<'_>) {
        let ended = match self {
            Self::Http(connection) => Pin::new(connection).poll(context).is_ready(),
            Self::Tunnel(connection) => connection.poll_without_shutdown(context).is_ready(),
            Self::Left(_) | Self::Ended => false,
        };
        if ended {
            *self = match std::mem::replace(self, Self::Ended) {
                Self::Tunnel(connection) => Self::Left(connection),
                Self::Http(_) | Self::Left(_) | Self::Ended => Self::Ended,
            };
        }
    }

    const fn is_running(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Tunnel(_))
    }
}

/// Time limits of one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
}

/// A request that got no answer.
pub(super) struct Failed {
    pub(super) failure: OriginFailure,
    pub(super) cause: Option<hyper::Error>,
    /// The request, where not one byte of it was sent.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

impl From<OriginFailure> for Failed {
    fn from(failure: OriginFailure) -> Self {
        Self { failure, cause: None, unsent: None }
    }
}

impl Http1 {
    pub(super) async fn new(
        stream: Stream,
        address: Option<std::net::SocketAddr>,
        permit: Permit,
        head_bytes: usize,
    ) -> Result<Box<Self>, OriginFailure> {
        let (io, shared) = Io::new(stream);
        let (sender, connection) = Builder::new()
            .max_header_size(head_bytes)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| OriginFailure::Closed)?;
        Ok(Box::new(Self {
            sender,
            run: Run::Http(connection),
            shared,
            watch: Watch::new(),
            address,
            idle_since: Instant::now(),
            kept: false,
            permit,
        }))
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<Body>,
        interims: &Interims,
        patience: Patience,
        now: Instant,
    ) -> Result<Response<Incoming>, Failed> {
        if self.kept {
            self.shared.probe.store(true, Ordering::Relaxed);
        }
        interims.listen(&mut request);
        let sending = Sending::watch(&mut request);
        // hyper's own time slicing is left out: it would wake a waker that is not there.
        let mut answer = std::pin::pin!(coop::unconstrained(self.sender.try_send_request(request)));
        let (run, watch, shared) = (&mut self.run, &mut self.watch, &self.shared);
        let mut progress = (shared.written.load(Ordering::Relaxed), now);
        std::future::poll_fn(|context| {
            run.drive(context);
            // The answer comes out of the connection that was driven just now, in this task: there is nobody to be woken by.
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(response)) => {
                    return Poll::Ready(match interims.fault() {
                        Some(fault) => Err(OriginFailure::Answer(fault).into()),
                        None => Ok(response),
                    });
                }
                Poll::Ready(Err(mut error)) => {
                    let unsent = error.take_message().map(Box::new);
                    let error = error.into_error();
                    return Poll::Ready(Err(Failed {
                        failure: failure_of(&error),
                        cause: Some(error),
                        unsent,
                    }));
                }
                Poll::Pending if !run.is_running() => {
                    return Poll::Ready(Err(OriginFailure::Closed.into()));
                }
                Poll::Pending => {}
            }
            if let Some(fault) = interims.fault() {
                return Poll::Ready(Err(OriginFailure::Answer(fault).into()));
            }
            let moved = shared.written.load(Ordering::Relaxed)
                + sending.as_ref().map_or(0, |sending| sending.frames());
            if moved != progress.0 {
                progress = (moved, Instant::now());
            }
            let still_sending = sending.as_ref().is_some_and(|sending| !sending.is_over());
            let (limit, failure) = if still_sending {
                (progress.1 + patience.idle, OriginFailure::IdleTimeout)
            } else {
                (progress.1 + patience.first_byte, OriginFailure::FirstByteTimeout)
            };
            if watch.is_past(limit, context) {
                return Poll::Ready(Err(failure.into()));
            }
            Poll::Pending
        })
        .await
    }

    /// Whether another request may be sent: the last one has left whole, its answer has been read whole, and nothing came after it.
    fn owes_nothing(&self) -> bool {
        matches!(self.run, Run::Http(_))
            && self.sender.is_ready()
            && !self.shared.write_failed.load(Ordering::Relaxed)
            && !self.shared.excess.load(Ordering::Relaxed)
    }

    /// Whether bytes came that nothing had asked for.
    pub(super) fn had_excess(&self) -> bool {
        self.shared.excess.load(Ordering::Relaxed)
    }

    /// A connection that will leave HTTP behind.
    pub(super) fn for_tunnel(mut self: Box<Self>) -> Box<Self> {
        self.run = match self.run {
            Run::Http(connection) => Run::Tunnel(connection),
            other => other,
        };
        self
    }

    /// The bytes of a connection that has left HTTP behind, and what it has read of them already.
    pub(super) fn into_tunnel(self) -> Option<(Stream, Bytes, Permit)> {
        let Run::Left(connection) = self.run else { return None };
        let parts = connection.into_parts();
        Some((parts.io.into_inner().into_stream(), parts.read_buf, self.permit))
    }
}

/// What hyper's error means.
pub(super) fn failure_of(error: &hyper::Error) -> OriginFailure {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(content) = inner.downcast_ref::<BodyError>() {
            return OriginFailure::of_content(content);
        }
        source = inner.source();
    }
    if error.is_parse_too_large() {
        OriginFailure::Answer(gate::ResponseFault::HeadTooLarge)
    } else if error.is_parse() || error.is_parse_status() {
        OriginFailure::Malformed
    } else if error.is_body_write_aborted() {
        OriginFailure::ContentBroken
    } else {
        OriginFailure::Closed
    }
}

/// Where a connection goes when its answer has been read.
pub(super) struct Home {
    pub(super) worker: usize,
    pub(super) in_flight: InFlight,
}

/// Makes the content of an answer, and sends the connection home as soon as it owes nothing.
pub(super) fn content(
    mut incoming: Incoming,
    mut connection: Box<Http1>,
    home: Home,
    close_after: bool,
    idle: Duration,
    fields_max: usize,
) -> Body {
    if incoming.is_end_stream() {
        go_home(connection, &home, close_after);
        return Body::empty();
    }
    // A small answer has arrived with its head: then it needs no stream, and the connection is free at once. If nothing is there yet,
    // whoever reads the content asks again, so that the waker does not matter here.
    let mut frame = Pin::new(&mut incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(Some(Ok(first))) = &mut frame
        && incoming.is_end_stream()
        && let Some(data) = first.data_mut()
    {
        let data = std::mem::take(data);
        go_home(connection, &home, close_after);
        return Body::full(data);
    }
    connection.kept = true;
    Body::stream(Http1Content {
        first: frame,
        incoming,
        connection: Some(connection),
        home,
        close_after,
        idle,
        fields_max,
        last: Instant::now(),
    })
}

fn go_home(mut connection: Box<Http1>, home: &Home, close_after: bool) {
    if !close_after && connection.owes_nothing() {
        connection.kept = true;
        connection.idle_since = Instant::now();
        home.in_flight.server().keep(home.worker, connection);
    }
}

/// The content of an answer, driving its connection.
struct Http1Content {
    /// What was there with the head.
    first: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>,
    incoming: Incoming,
    connection: Option<Box<Http1>>,
    home: Home,
    close_after: bool,
    idle: Duration,
    fields_max: usize,
    last: Instant,
}

impl Http1Content {
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            go_home(connection, &self.home, self.close_after);
        }
    }

    /// Takes a frame if there is one, driving the connection once if not.
    fn poll_incoming(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let first @ Poll::Ready(_) = std::mem::replace(&mut self.first, Poll::Pending) {
            return first;
        }
        if let frame @ Poll::Ready(_) = self.peek(context) {
            return frame;
        }
        if let Some(connection) = &mut self.connection {
            connection.run.drive(context);
        }
        self.peek(context)
    }

    /// Asks hyper's channel. Its other end is driven by this task, so that it need not wake anybody, unless tokio's budget for this turn is
    /// spent: then the channel says "later" without being asked.
    fn peek(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if coop::has_budget_remaining() {
            Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
        } else {
            Pin::new(&mut self.incoming).poll_frame(context)
        }
    }
}

impl http_body::Body for Http1Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.poll_incoming(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                this.last = Instant::now();
                if let Some(trailers) = frame.trailers_mut() {
                    gate::check_trailers(trailers, this.fields_max);
                }
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.connection = None;
                Poll::Ready(Some(Err(BodyError::Origin(Some(error)))))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let limit = this.last + this.idle;
                let waited = this
                    .connection
                    .as_mut()
                    .is_some_and(|connection| connection.watch.is_past(limit, context));
                if waited {
                    this.connection = None;
                    return Poll::Ready(Some(Err(BodyError::Origin(None))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_pending() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.incoming.size_hint();
        // What was taken out of the channel with the head is still to come from here.
        let first = match &self.first {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        hint.exact().map_or(hint, |left| SizeHint::with_exact(left + first))
    }
}

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
