//! HTTP/2 connections to an origin server: one task each, many requests on it.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::OriginFailure;
use super::http1::{Failed, Home, Patience};
use super::interim::Interims;
use super::io::Stream;
use super::sending::Sending;
use super::server::Permit;
use super::watch::Watch;
use crate::body::{Body, BodyError};
use crate::gate;

/// Requests on one connection at a time; more open another. What servers allow is most often this or more.
const STREAMS_MAX: usize = 100;
/// What an answer may send before its content is read, per request and per connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How soon, and how late at most, a server's settings are looked for.
const SETTINGS_PAUSE: Duration = Duration::from_millis(1);
const SETTINGS_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Http2 {
    sender: SendRequest<Body>,
    state: Arc<State>,
}

struct State {
    streams: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// The server takes extended CONNECT (RFC 8441).
    extended_connect: AtomicBool,
    settled: Notify,
}

/// The right to one request on a connection.
pub(super) struct Http2Stream {
    sender: SendRequest<Body>,
    guard: StreamGuard,
}

/// Counts a request on its connection.
pub(super) struct StreamGuard(Arc<State>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.0.idle_since.lock() = Instant::now();
        }
    }
}

impl Http2 {
    pub(super) async fn new(
        stream: Stream,
        permit: Permit,
        head_bytes: usize,
    ) -> Result<Self, OriginFailure> {
        let head_bytes = u32::try_from(head_bytes).unwrap_or(u32::MAX);
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(head_bytes)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_reset_streams(STREAMS_MAX)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|_| OriginFailure::Closed)?;
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            extended_connect: AtomicBool::new(false),
            settled: Notify::new(),
        });
        let seen = Arc::clone(&state);
        tokio::spawn(async move {
            let _open_as_long_as_it_runs = permit;
            // The settings are read by a task of hyper's own, which tells nobody when it has them: they are asked for until then, less and
            // less often.
            let mut pause = SETTINGS_PAUSE;
            let mut ask = Box::pin(tokio::time::sleep(pause));
            let ended = std::future::poll_fn(|context| {
                while pause < SETTINGS_PAUSE_MAX && ask.as_mut().poll(context).is_ready() {
                    if connection.is_extended_connect_protocol_enabled() {
                        seen.extended_connect.store(true, Ordering::Relaxed);
                        seen.settled.notify_waiters();
                        pause = SETTINGS_PAUSE_MAX;
                    } else {
                        pause *= 2;
                        ask.as_mut().reset(Instant::now() + pause);
                    }
                }
                Pin::new(&mut connection).poll(context)
            });
            if let Err(error) = ended.await {
                tracing::debug!(error = %error, "HTTP/2 connection to an origin ended");
            }
        });
        Ok(Self { sender, state })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn idle_for(&self, limit: Duration) -> bool {
        self.state.streams.load(Ordering::Relaxed) == 0 && self.state.idle_since.lock().elapsed() >= limit
    }

    /// A place for one more request, if there is one.
    pub(super) fn stream(&self) -> Option<Http2Stream> {
        if !self.sender.is_ready() {
            return None;
        }
        let taken = self.state.streams.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |streams| {
            (streams < STREAMS_MAX).then_some(streams + 1)
        });
        taken.ok()?;
        Some(Http2Stream { sender: self.sender.clone(), guard: StreamGuard(Arc::clone(&self.state)) })
    }
}

impl Http2Stream {
    /// Whether the server takes extended CONNECT: it says so in its first frame, which a new connection may still wait for.
    pub(super) async fn waits_for_extended_connect(&self, limit: Duration) -> bool {
        let state = &self.guard.0;
        let said = async {
            loop {
                let told = state.settled.notified();
                if state.extended_connect.load(Ordering::Relaxed) {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(limit, said).await.is_ok()
    }

    /// Sends a request and waits for the head of the answer. Where none of it was sent, its content is in `unsent`.
    pub(super) async fn exchange(
        mut self,
        mut request: Request<Body>,
        unsent: &mut Option<Body>,
        interims: &Interims,
        patience: Patience,
    ) -> Result<(Response<Incoming>, StreamGuard), Failed> {
        interims.listen(&mut request);
        let sending = Sending::watch(&mut request);
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let mut watch = Watch::new();
        let mut progress = (0, Instant::now());
        let response = std::future::poll_fn(|context| {
            match answer.as_mut().poll(context) {
                Poll::Ready(Ok(response)) => {
                    return Poll::Ready(match interims.fault() {
                        Some(fault) => Err(OriginFailure::Answer(fault).into()),
                        None => Ok(response),
                    });
                }
                Poll::Ready(Err(mut error)) => {
                    *unsent = error.take_message().map(Request::into_body);
                    let error = error.into_error();
                    return Poll::Ready(Err(Failed {
                        failure: failure_of(&error),
                        cause: Some(error.into()),
                    }));
                }
                Poll::Pending => {}
            }
            if let Some(fault) = interims.fault() {
                return Poll::Ready(Err(OriginFailure::Answer(fault).into()));
            }
            let moved = sending.as_ref().map_or(0, |sending| sending.frames());
            if moved != progress.0 {
                progress = (moved, Instant::now());
            }
            let still_sending = sending.as_ref().is_some_and(|sending| !sending.is_over());
            let (limit, failure) = if still_sending {
                (progress.1 + patience.idle.max(patience.first_byte), OriginFailure::IdleTimeout)
            } else {
                (progress.1 + patience.first_byte, OriginFailure::FirstByteTimeout)
            };
            if watch.is_past(limit, context) {
                return Poll::Ready(Err(failure.into()));
            }
            Poll::Pending
        })
        .await?;
        Ok((response, self.guard))
    }
}

/// What hyper's error means.
fn failure_of(error: &hyper::Error) -> OriginFailure {
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

/// Makes the content of an answer.
pub(super) fn content(
    incoming: Incoming,
    guard: StreamGuard,
    home: Home,
    idle: Duration,
    fields_max: usize,
) -> Body {
    if incoming.is_end_stream() {
        return Body::empty();
    }
    Body::stream(Http2Content {
        incoming,
        idle,
        fields_max,
        last: Instant::now(),
        watch: Watch::new(),
        _guard: guard,
        _home: home,
    })
}

/// The content of an answer; dropping it before its end resets the stream.
struct Http2Content {
    incoming: Incoming,
    idle: Duration,
    fields_max: usize,
    last: Instant,
    watch: Watch,
    _guard: StreamGuard,
    _home: Home,
}

impl http_body::Body for Http2Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                this.last = Instant::now();
                if let Some(trailers) = frame.trailers_mut() {
                    gate::check_trailers(trailers, this.fields_max);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Origin(Some(error.into()))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if this.watch.is_past(this.last + this.idle, context) => {
                Poll::Ready(Some(Err(BodyError::Origin(None))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
