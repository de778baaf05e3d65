//! One HTTP/1.1 connection to an origin server.
//!
//! Nothing runs a connection but the request that is on it: whoever waits for the answer, or reads its content, reads and writes the socket
//! in the same task. So a request costs no second task and no wake-up between the two, a connection that nobody drives reads nothing, and a
//! request that is given up closes its connection by being dropped.
//!
//! When the origin stops reading, what it has already said is still read: an early answer reaches the client although the content could not
//! be sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::error::OriginFailure;
use super::headers::OriginFields;
use super::interim::Interims;
use super::io::{Stream, Unasked};
use super::server::{InFlight, Permit};
use super::watch::Watch;
use crate::body::{Body, BodyError, Cause};
use crate::gate::{self, Authority, ResponseFault};
use crate::http1::chunked;
use crate::http1::content::{self, Framing, Piece, Reader};
use crate::http1::head::{self, HeadFault, HeadSearch};
use crate::http1::out::Out;
use crate::http1::{batch, receive, spare};

/// An idle connection keeps no larger buffer than this.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// A connection, idle or with one request on it.
pub(super) struct Http1 {
    io: Stream,
    /// Read, and not yet used.
    received: BytesMut,
    search: HeadSearch,
    /// Made, and not yet written.
    out: Out,
    /// The content of the request, while it is being sent.
    sending: Option<Sending>,
    /// Bytes written and pieces of content taken: the progress of a request.
    moved: u64,
    /// The origin does not read any more.
    write_failed: bool,
    /// Bytes came that nobody had asked for.
    excess: bool,
    watch: Watch,
    limits: HeadLimits,
    /// The address it leads to, where it is TCP.
    pub(super) address: Option<std::net::SocketAddr>,
    /// Since when nothing is on it.
    pub(super) idle_since: Instant,
    /// It has carried an answer before.
    pub(super) kept: bool,
    permit: Permit,
}

/// Content of a request: what is left of it, and how it is framed.
struct Sending {
    body: Body,
    /// `None`: chunked.
    left: Option<u64>,
}

/// Limits of the head of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    pub(super) bytes: usize,
    pub(super) fields: usize,
}

/// Time limits of one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
}

/// The head of a request.
#[derive(Clone, Copy)]
pub(super) struct RequestHead<'r> {
    pub(super) method: &'r Method,
    pub(super) target: &'r PathAndQuery,
    pub(super) host: &'r HeaderValue,
    /// End-to-end fields; what they say of the length is not repeated.
    pub(super) fields: Lines<'r>,
    pub(super) takes_trailers: bool,
    /// The key of a WebSocket handshake (RFC 6455 §4.1).
    pub(super) websocket: Option<&'r HeaderValue>,
}

/// Where the fields of a request are taken from.
#[derive(Clone, Copy)]
pub(super) enum Lines<'r> {
    /// Those of a client, and what this proxy says.
    Made(&'r OriginFields, &'r Authority),
    /// A request of our own.
    Map(&'r HeaderMap),
}

impl Lines<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Made(fields, authority) => fields.write(authority, out),
            Self::Map(fields) => {
                for (name, value) in *fields {
                    head::write_field(out, name.as_str(), value.as_bytes());
                }
            }
        }
    }
}

/// An answer whose content has not been read.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) framing: Framing,
    /// The connection may be used again, as far as the head says.
    pub(super) persists: bool,
}

/// A request that got no answer. Where not one byte of it was sent, its content is where it was.
pub(super) struct Failed {
    pub(super) failure: OriginFailure,
    pub(super) cause: Option<Cause>,
}

impl From<OriginFailure> for Failed {
    fn from(failure: OriginFailure) -> Self {
        Self { failure, cause: None }
    }
}

impl From<HeadFault> for Failed {
    fn from(fault: HeadFault) -> Self {
        let failure = match fault {
            HeadFault::TooManyFields | HeadFault::LineTooLong | HeadFault::TooLarge => {
                OriginFailure::Answer(ResponseFault::HeadTooLarge)
            }
            HeadFault::Syntax | HeadFault::Version | HeadFault::Target => OriginFailure::Malformed,
        };
        Self { failure, cause: Some(fault.into()) }
    }
}

impl RequestHead<'_> {
    fn write(&self, out: &mut Vec<u8>, length: Option<u64>) {
        head::write_request_line(out, self.method, self.target);
        head::write_field(out, "host", self.host.as_bytes());
        self.fields.write(out);
        match length {
            // RFC 9110 §8.6: a method that gives content a meaning says "0" where there is none; others say nothing.
            Some(0) if !matches!(*self.method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => head::write_content_length(out, length),
            None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if let Some(key) = self.websocket {
            out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
            head::write_field(out, "sec-websocket-key", key.as_bytes());
        } else if self.takes_trailers {
            // RFC 9110 §10.1.4: "a sender of TE MUST also send a "TE" connection option within the Connection header field".
            out.extend_from_slice(b"te: trailers\r\nconnection: TE\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Http1 {
    pub(super) fn new(
        io: Stream,
        address: Option<std::net::SocketAddr>,
        permit: Permit,
        limits: HeadLimits,
    ) -> Box<Self> {
        Box::new(Self {
            io,
            received: BytesMut::new(),
            search: HeadSearch::default(),
            out: Out::default(),
            sending: None,
            moved: 0,
            write_failed: false,
            excess: false,
            watch: Watch::new(),
            limits,
            address,
            idle_since: Instant::now(),
            kept: false,
            permit,
        })
    }

    /// Sends a request and waits for the head of the answer. `body` is taken once something of the request has been sent.
    pub(super) async fn exchange(
        &mut self,
        request: RequestHead<'_>,
        body: &mut Option<Body>,
        interims: &Interims,
        patience: Patience,
        now: Instant,
    ) -> Result<Answer, Failed> {
        self.begin(&request, body.get_or_insert_default());
        batch::wait().await;
        // As late as can be.
        let answer = match if self.kept { self.io.probe() } else { Ok(()) } {
            Ok(()) => self.answer(&request, interims, patience, now).await,
            Err(unasked) => {
                self.excess = unasked == Unasked::Bytes;
                Err(OriginFailure::Closed.into())
            }
        };
        if self.moved > 0 || answer.is_ok() {
            *body = None;
        } else if let (Some(Sending { body: unsent, .. }), Some(body)) = (self.sending.take(), &mut *body) {
            *body = unsent;
        }
        answer
    }

    /// Sends what was begun, and waits for the head of the answer.
    async fn answer(
        &mut self,
        request: &RequestHead<'_>,
        interims: &Interims,
        patience: Patience,
        now: Instant,
    ) -> Result<Answer, Failed> {
        let head_request = *request.method == Method::HEAD;
        let mut progress = (self.moved, now);
        std::future::poll_fn(|context| {
            loop {
                if let Err(failure) = self.drive_request(context) {
                    return Poll::Ready(Err(failure));
                }
                match self.poll_head(head_request, request.websocket.is_some(), context) {
                    Poll::Ready(Ok(answer)) if is_interim(&answer) => {
                        interims.hear(answer.head.status, &answer.head.headers);
                        if let Some(fault) = interims.fault() {
                            return Poll::Ready(Err(OriginFailure::Answer(fault).into()));
                        }
                    }
                    Poll::Ready(answer) => return Poll::Ready(answer),
                    Poll::Pending => break,
                }
            }
            if self.moved != progress.0 {
                progress = (self.moved, Instant::now());
            }
            let (limit, failure) = if self.sending.is_some() {
                (progress.1 + patience.idle, OriginFailure::IdleTimeout)
            } else {
                (progress.1 + patience.first_byte, OriginFailure::FirstByteTimeout)
            };
            if self.watch.is_past(limit, context) {
                return Poll::Ready(Err(failure.into()));
            }
            Poll::Pending
        })
        .await
    }

    /// Makes the head, and the content with it where it is here already.
    fn begin(&mut self, request: &RequestHead<'_>, body: &mut Body) {
        self.moved = 0;
        let length = body.exact_len();
        request.write(self.out.bytes(), length);
        match body.here() {
            // The caller keeps its own, in case nothing is sent.
            Some(whole) => self.out.data(whole),
            None => self.sending = Some(Sending { body: std::mem::take(body), left: length }),
        }
    }

    /// Sends what can be sent of the request. An origin that does not read any more is no failure yet: it may have answered.
    fn drive_request(&mut self, context: &mut Context<'_>) -> Result<(), Failed> {
        loop {
            if self.write_failed {
                return Ok(());
            }
            if !self.out.is_empty() {
                let before = self.out.written();
                let polled = self.out.poll_write(&mut self.io, context);
                self.moved += self.out.written().wrapping_sub(before);
                match polled {
                    Poll::Ready(Ok(())) => {}
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Err(_)) => {
                        self.write_failed = true;
                        self.out.clear();
                        if self.moved > 0 {
                            self.sending = None;
                        }
                        return Ok(());
                    }
                }
            }
            let Some(sending) = &mut self.sending else { return Ok(()) };
            match Pin::new(&mut sending.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.moved += 1;
                    match (frame.into_data(), &mut sending.left) {
                        (Ok(data), _) if data.is_empty() => {}
                        (Ok(data), Some(left)) => {
                            let Some(less) = left.checked_sub(data.len() as u64) else {
                                return Err(OriginFailure::ContentBroken.into());
                            };
                            *left = less;
                            self.out.data(data);
                            if less == 0 {
                                self.sending = None;
                            }
                        }
                        (Ok(data), None) => self.out.chunk(data),
                        (Err(frame), left) => {
                            if left.is_none() {
                                chunked::write_end(self.out.bytes(), frame.trailers_ref());
                            }
                            self.sending = None;
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let failure = OriginFailure::of_content(&error);
                    return Err(Failed { failure, cause: Some(error.into()) });
                }
                Poll::Ready(None) => {
                    match sending.left {
                        None => chunked::write_end(self.out.bytes(), None),
                        Some(0) => {}
                        Some(_) => return Err(OriginFailure::ContentBroken.into()),
                    }
                    self.sending = None;
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// The next head, interim or final.
    fn poll_head(
        &mut self,
        head_request: bool,
        upgrade: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<Answer, Failed>> {
        loop {
            if !self.received.is_empty() {
                let limits = self.limits;
                let probe = |bytes: &[u8]| head::probe_response(bytes, limits.fields);
                if let Some(end) = self.search.end(&self.received, limits.bytes, probe)? {
                    let head = self.received.split_to(end).freeze();
                    return Poll::Ready(self.read_head(&head, head_request, upgrade));
                }
            }
            match ready!(receive::poll_some(&mut self.received, &mut self.io, context)) {
                Ok(0) => return Poll::Ready(Err(OriginFailure::Closed.into())),
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Err(Failed {
                        failure: OriginFailure::Closed,
                        cause: Some(error.into()),
                    }));
                }
            }
        }
    }

    fn read_head(&self, bytes: &Bytes, head_request: bool, upgrade: bool) -> Result<Answer, Failed> {
        let (mut head, ()) = Response::new(()).into_parts();
        head.headers = spare::take();
        let (line, seen) = head::parse_response(bytes, self.limits.fields, &mut head.headers)?;
        (head.status, head.version) = (line.status, line.version);
        let framing = if upgrade && line.status == StatusCode::SWITCHING_PROTOCOLS {
            Framing::None
        } else {
            content::of_response(head_request, line.status, line.version, &head.headers, &seen)
                .map_err(OriginFailure::Answer)?
        };
        let persists =
            framing != Framing::UntilClose && content::persists(line.version, &head.headers, &seen);
        Ok(Answer { head, framing, persists })
    }

    /// Whether another request may be sent: the last one has left whole, its answer has been read whole, and nothing came after it.
    fn owes_nothing(&self) -> bool {
        self.sending.is_none()
            && self.out.is_empty()
            && self.received.is_empty()
            && !self.write_failed
            && !self.excess
    }

    /// Whether bytes came that nothing had asked for.
    pub(super) const fn had_excess(&self) -> bool {
        self.excess
    }

    /// The bytes of a connection that has left HTTP behind, and what has been read of them already.
    pub(super) fn into_tunnel(self) -> (Stream, Bytes, Permit) {
        (self.io, self.received.freeze(), self.permit)
    }
}

/// Whether the final answer is still to come. A 101 ends this way of speaking, asked for or not.
fn is_interim(answer: &Answer) -> bool {
    answer.head.status.is_informational() && answer.head.status != StatusCode::SWITCHING_PROTOCOLS
}

/// Where a connection goes when its answer has been read.
pub(super) struct Home {
    pub(super) worker: usize,
    pub(super) in_flight: InFlight,
}

/// Makes the content of an answer whose head came at `now`, and sends the connection home as soon as it owes nothing.
pub(super) fn content(
    framing: Framing,
    mut connection: Box<Http1>,
    home: Home,
    close_after: bool,
    idle: Duration,
    now: Instant,
) -> Body {
    let limits = connection.limits;
    let mut reader = Reader::new(framing, limits.bytes, limits.fields);
    if reader.is_ended() {
        go_home(connection, &home, close_after, now);
        return Body::empty();
    }
    // A small answer has arrived with its head: then it needs no stream, and the connection is free at once.
    let first = reader.next(&mut connection.received);
    if let Ok(Piece::Data(data)) = &first
        && (reader.is_ended() || is_last_chunk(&connection.received))
    {
        // The piece after it is the end.
        if reader.is_ended() || reader.next(&mut connection.received) == Ok(Piece::End(None)) {
            let data = data.clone();
            go_home(connection, &home, close_after, now);
            return Body::full(data);
        }
    }
    connection.kept = true;
    Body::stream(Http1Content {
        first: Some(first).filter(|first| !matches!(first, Ok(Piece::More))),
        reader,
        connection: Some(connection),
        home,
        close_after,
        idle,
        last: now,
    })
}

/// Whether what follows a chunk's data is the end of the content and nothing else.
fn is_last_chunk(received: &[u8]) -> bool {
    received == b"\r\n0\r\n\r\n"
}

fn go_home(mut connection: Box<Http1>, home: &Home, close_after: bool, now: Instant) {
    let server = home.in_flight.server();
    if !connection.received.is_empty() {
        connection.excess = true;
        server.metrics.excess_bytes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    if !close_after && connection.owes_nothing() {
        connection.kept = true;
        // The buffer of a small answer serves the next one, once that has left; a large one is not worth keeping.
        if connection.received.capacity() > KEPT_BYTES_MAX {
            connection.received = BytesMut::new();
        }
        connection.idle_since = now;
        server.keep(home.worker, connection);
    }
}

/// The content of an answer, driving its connection.
struct Http1Content {
    /// What was there with the head.
    first: Option<Result<Piece, chunked::ChunkFault>>,
    reader: Reader,
    connection: Option<Box<Http1>>,
    home: Home,
    close_after: bool,
    idle: Duration,
    last: Instant,
}

impl Http1Content {
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            go_home(connection, &self.home, self.close_after, Instant::now());
        }
    }

    fn broken(&mut self, cause: Option<Cause>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.connection = None;
        Poll::Ready(Some(Err(BodyError::Origin(cause))))
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
        loop {
            let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
            let piece = match this.first.take() {
                Some(first) => first,
                None => this.reader.next(&mut connection.received),
            };
            match piece {
                Ok(Piece::Data(data)) => {
                    this.last = Instant::now();
                    if this.reader.is_ended() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::End(trailers)) => {
                    let fields_max = connection.limits.fields;
                    this.finish();
                    return Poll::Ready(trailers.map(|mut trailers| {
                        gate::check_trailers(&mut trailers, fields_max);
                        Ok(Frame::trailers(trailers))
                    }));
                }
                Ok(Piece::More) => {}
                Err(fault) => return this.broken(Some(fault.into())),
            }
            // An origin may answer while it still reads.
            if let Err(failed) = connection.drive_request(context) {
                return this.broken(failed.cause);
            }
            match receive::poll_content(&mut connection.received, &mut connection.io, context) {
                Poll::Ready(Ok(0)) if this.reader.may_end_here() => {
                    this.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => return this.broken(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return this.broken(Some(error.into())),
                Poll::Pending => {
                    if connection.watch.is_past(this.last + this.idle, context) {
                        return this.broken(None);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.connection.is_none() || self.reader.is_ended())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(left) = self.reader.left() else { return SizeHint::default() };
        // What was taken with the head is still to come from here.
        let first = match &self.first {
            Some(Ok(Piece::Data(data))) => data.len() as u64,
            _ => 0,
        };
        SizeHint::with_exact(left + first)
    }
}
