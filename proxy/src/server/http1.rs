//! One client's connection that speaks HTTP/1.1 (RFC 9112).
//!
//! [`serve`] reads top to bottom: a head, its answer, the answer's content, and again. All of it is one task, which alone reads and writes
//! the socket. While an answer is awaited or sent, [`Driver::attend`] looks after the other direction: it reads content that somebody asks for,
//! and notices a client that leaves.
//!
//! A request that is there whole and whose answer is ready costs one read and one write, and no memory that outlives it: what an idle connection
//! holds is this task and nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use cache_semantics::cache_status::CACHE_STATUS;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;
use tokio::sync::oneshot;

use super::connection::{Connection, Order};
use super::io::Io;
use super::pipe;
use super::service::UnderWay;
use super::tunnel::Tunnel;
use super::watch::Table;
use super::{Serve, pipe::Writer};
use crate::answer::{Answer, StoredAnswer};
use crate::body::{Body, Cause};
use crate::config::model::Limits;
use crate::gate::Rejection;
use crate::http1::chunked;
use crate::http1::content::{self, Framing, Piece, Reader};
use crate::http1::head::{self, HeadSearch, Seen};
use crate::http1::out::{COPIED_MAX, Out};
use crate::http1::{batch, receive, spare};
use crate::incoming::{Incoming, OnUpgrade, Received};

/// How a connection ended.
pub(super) enum Ended {
    /// Properly: what was owed has been sent.
    Done,
    /// By the client, by an error, or in the middle of an answer. `reset`: what was sent has no end of its own that would show the cut.
    Cut { reset: bool },
    /// It has left HTTP behind.
    Upgraded(oneshot::Sender<Tunnel>, Bytes),
}

/// What a connection needs of its worker.
pub(super) struct Own<'c, S> {
    pub(super) serve: &'c S,
    pub(super) connection: &'c Arc<Connection>,
    pub(super) table: &'c Table,
    pub(super) limits: &'c Limits,
}

/// Serves a connection to its end. Dropping the future at any point leaves `io` usable for last words only.
pub(super) async fn serve<S: Serve>(io: &mut Io, own: Own<'_, S>) -> Ended {
    let mut driver = Driver {
        io,
        own,
        received: BytesMut::new(),
        out: Out::default(),
        search: HeadSearch::default(),
        request: Received::default(),
    };
    loop {
        // The head.
        let asked = match driver.head().await {
            Some(Ok(asked)) => asked,
            Some(Err(rejection)) => return driver.refuse(rejection).await,
            None => return Ended::Done,
        };
        let mut incoming = driver.incoming(&asked);
        let mut tunnel = None;
        if asked.seen.upgrade {
            let (sender, receiver) = oneshot::channel();
            driver.request.upgrade = Some(OnUpgrade::Http1(receiver));
            tunnel = Some(sender);
        }

        // Its answer.
        let under_way = UnderWay::begin(driver.own.connection, asked.framing != Framing::None);
        let mut answer = driver.own.serve.serve(&mut driver.request, driver.own.connection);
        // Content that the answer has left where it was is read by nobody.
        driver.request.content = Incoming::default();
        let (body, sent) = if let Answer::Stored(Some(stored)) = &answer {
            let last = driver.is_last(&asked, &mut incoming);
            write_stored(&mut driver.out, stored, &asked, last)
        } else {
            let response = match answer.take_ready() {
                Some(response) => response,
                None => match driver.awaited(&mut answer, &mut incoming).await {
                    Ok(response) => response,
                    Err(cut) => return cut,
                },
            };
            let (parts, body) = response.into_parts();
            let last = driver.is_last(&asked, &mut incoming);
            let sent = write_head(driver.out.bytes(), parts.status, &parts.headers, &body, &asked, last);
            spare::put(parts.headers);
            if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                drop(under_way);
                return match (driver.flushed().await, tunnel) {
                    (Ok(()), Some(taker)) => Ended::Upgraded(taker, driver.received.freeze()),
                    (Ok(()), None) => Ended::Done,
                    (Err(_), _) => Ended::Cut { reset: false },
                };
            }
            (body, sent)
        };
        drop(answer);

        // Its content.
        incoming.continue_expected = false;
        if let Err(cut) = driver.content(body, sent.framing, asked.takes_trailers, &mut incoming).await {
            return cut;
        }
        // What follows in what was read already is answered first: they leave in one write.
        if driver.received.is_empty() {
            batch::wait().await;
        }
        drop(under_way);
        if !sent.persists || !incoming.is_over(&mut driver.received) || driver.is_told_to_finish() {
            // What is left of the request is not read: the connection ends, after all that is owed.
            return if driver.flushed().await.is_ok() { Ended::Done } else { Ended::Cut { reset: false } };
        }
    }
}

/// What the codec has to know of a request to frame its answer.
struct Asked {
    head: bool,
    version: Version,
    persists: bool,
    takes_trailers: bool,
    framing: Framing,
    seen: Seen,
}

/// The content of the request under way.
struct RequestContent {
    reader: Reader,
    /// Where it goes; `None`: there is none.
    writer: Option<Writer>,
    /// The client waits for `100 Continue`.
    continue_expected: bool,
    broken: bool,
}

impl RequestContent {
    /// Whether what has not been read will be, as far as can be told: somebody still reads it, or it is there already.
    fn will_be_read(&mut self, received: &mut BytesMut) -> bool {
        match &self.writer {
            Some(writer) if !writer.reader_left() => !self.continue_expected,
            _ => self.is_over(received),
        }
    }

    /// Whether the next request begins here: this one's content has been read, or what is left of it is at hand and can be skipped.
    fn is_over(&mut self, received: &mut BytesMut) -> bool {
        if !self.reader.is_ended() && self.writer.as_ref().is_some_and(|writer| !writer.reader_left()) {
            return false;
        }
        while !self.broken && !self.reader.is_ended() {
            match self.reader.next(received) {
                Ok(Piece::Data(_)) => {}
                Ok(Piece::More) => return false,
                Ok(Piece::End(_)) => break,
                Err(_) => self.broken = true,
            }
        }
        !self.broken
    }
}

/// What was found out about the other direction.
#[derive(PartialEq, Eq)]
enum Attended {
    /// Nothing has happened.
    Nothing,
    /// A piece of content was handed over.
    Moved,
    /// The client has left.
    Gone,
}

/// How an answer is framed, and what becomes of the connection after it.
struct Sent {
    framing: Framing,
    persists: bool,
}

struct Driver<'c, S> {
    io: &'c mut Io,
    own: Own<'c, S>,
    /// Read, and not yet used.
    received: BytesMut,
    /// Made, and not yet written.
    out: Out,
    search: HeadSearch,
    /// The request under way. What an answer that is ready has left of it serves the next one.
    request: Received,
}

impl<S: Serve> Driver<'_, S> {
    /// Whether the answer is the last one on this connection. RFC 9112 §9.6: "A server that does not support persistent connections MUST send
    /// the "close" connection option".
    fn is_last(&mut self, asked: &Asked, incoming: &mut RequestContent) -> bool {
        !asked.persists || self.own.table.is_closing() || !incoming.will_be_read(&mut self.received)
    }

    fn is_told_to_finish(&self) -> bool {
        self.own.connection.orders.current() >= Order::Finish
    }

    /// The next head. `None`: the connection is over.
    async fn head(&mut self) -> Option<Result<Asked, Rejection>> {
        std::future::poll_fn(|context| {
            loop {
                if self.out.is_full() && ready!(self.out.poll_write(self.io, context)).is_err() {
                    return Poll::Ready(None);
                }
                if !self.received.is_empty() {
                    match self.take_head() {
                        Ok(Some(head)) => return Poll::Ready(Some(Ok(head))),
                        Ok(None) => {}
                        Err(rejection) => return Poll::Ready(Some(Err(rejection))),
                    }
                    // Of a request that came behind another one, this is the first that is known.
                    let begun = !self.received.is_empty();
                    self.own.connection.progress.head_begun.store(begun, Ordering::Relaxed);
                }
                // Answers leave before more is waited for.
                if ready!(self.out.poll_write(self.io, context)).is_err() {
                    return Poll::Ready(None);
                }
                if self.received.is_empty() {
                    self.received = BytesMut::new();
                    if self.is_told_to_finish() {
                        return Poll::Ready(None);
                    }
                }
                match ready!(receive::poll_some(&mut self.received, self.io, context)) {
                    Ok(0) | Err(_) => return Poll::Ready(None),
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    fn take_head(&mut self) -> Result<Option<Asked>, Rejection> {
        let limits = self.own.limits;
        let empty = head::empty_lines(&self.received);
        if empty > 0 {
            let _ = self.received.split_to(empty);
        }
        let probe = |bytes: &[u8]| head::probe_request(bytes, limits.head_fields);
        let Some(end) = self.search.end(&self.received, limits.head_bytes, probe)? else { return Ok(None) };
        let head = self.received.split_to(end).freeze();
        self.request.upgrade = None;
        let parts = &mut self.request.parts;
        parts.headers.clear();
        if parts.headers.capacity() == 0 {
            parts.headers = spare::take();
        }
        let (line, seen) = head::parse_request(&head, limits.head_fields, &mut parts.headers)?;
        (parts.method, parts.uri, parts.version) = (line.method, line.target, line.version);
        Ok(Some(Asked {
            head: parts.method == Method::HEAD,
            version: parts.version,
            persists: content::persists(parts.version, &parts.headers, &seen),
            takes_trailers: seen.te && takes_trailers(&parts.headers),
            framing: content::of_request(parts.version, &parts.headers, &seen)?,
            seen,
        }))
    }

    /// The pipe for the content of a request.
    fn incoming(&mut self, asked: &Asked) -> RequestContent {
        let limits = self.own.limits;
        let mut writer = None;
        let mut continue_expected = false;
        if asked.framing != Framing::None {
            let (to, from) = pipe::pipe(asked.framing.length());
            self.request.content = Incoming::from(from);
            writer = Some(to);
            continue_expected = self.received.is_empty()
                && content::expects_continue(asked.version, &self.request.parts.headers, &asked.seen);
        }
        RequestContent {
            reader: Reader::new(asked.framing, limits.head_bytes, limits.head_fields),
            writer,
            continue_expected,
            broken: false,
        }
    }

    /// Answers what is no request, and ends: where the next one would begin is anybody's guess.
    async fn refuse(mut self, rejection: Rejection) -> Ended {
        let connection = self.own.connection;
        let under_way = UnderWay::begin(connection, true);
        let response = self.own.serve.refuse(rejection, connection);
        let (parts, body) = response.into_parts();
        let asked = Asked {
            head: false,
            version: Version::HTTP_11,
            persists: false,
            takes_trailers: false,
            framing: Framing::None,
            seen: Seen::default(),
        };
        let sent = write_head(self.out.bytes(), parts.status, &parts.headers, &body, &asked, true);
        let mut nothing = RequestContent {
            reader: Reader::new(Framing::None, 0, 0),
            writer: None,
            continue_expected: false,
            broken: true,
        };
        let sent = self.content(body, sent.framing, false, &mut nothing).await;
        drop(under_way);
        if sent.is_ok() && self.flushed().await.is_ok() { Ended::Done } else { Ended::Cut { reset: false } }
    }

    /// An answer that takes its time.
    async fn awaited(
        &mut self,
        answer: &mut Answer,
        incoming: &mut RequestContent,
    ) -> Result<http::Response<Body>, Ended> {
        std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(response) = answer.poll_response(context) {
                    return Poll::Ready(Ok(response));
                }
                match self.attend(incoming, context) {
                    Attended::Moved => {}
                    Attended::Gone => return Poll::Ready(Err(Ended::Cut { reset: false })),
                    Attended::Nothing => break,
                }
            }
            // Earlier answers, then interim ones of this request.
            match self.out.poll_write(self.io, context) {
                Poll::Ready(Ok(())) => match Pin::new(&mut *self.io).poll_flush(context) {
                    Poll::Ready(Err(_)) => Poll::Ready(Err(Ended::Cut { reset: false })),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                },
                Poll::Ready(Err(_)) => Poll::Ready(Err(Ended::Cut { reset: false })),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Looks after the client's direction: reads a piece of content if one is asked for; else notices whether the client leaves.
    fn attend(&mut self, incoming: &mut RequestContent, context: &mut Context<'_>) -> Attended {
        if incoming.broken {
            return Attended::Nothing;
        }
        let Some(writer) = incoming.writer.as_ref().filter(|_| !incoming.reader.is_ended()) else {
            return self.watch(context);
        };
        if writer.poll_wanted(context).is_pending() {
            return Attended::Nothing;
        }
        loop {
            match incoming.reader.next(&mut self.received) {
                Ok(Piece::Data(data)) => {
                    writer.data(data);
                    return Attended::Moved;
                }
                Ok(Piece::End(trailers)) => {
                    writer.end(trailers);
                    return Attended::Moved;
                }
                Ok(Piece::More) => {}
                Err(fault) => {
                    incoming.broken = true;
                    writer.fail(Some(Cause::from(fault)));
                    return Attended::Moved;
                }
            }
            if incoming.continue_expected {
                incoming.continue_expected = false;
                self.own.connection.interim.push(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            match receive::poll_content(&mut self.received, self.io, context) {
                // Whoever reads the content makes of it what can still be said.
                Poll::Ready(Ok(0)) => {
                    incoming.broken = true;
                    writer.fail(None);
                    return Attended::Moved;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    incoming.broken = true;
                    writer.fail(Some(error.into()));
                    return Attended::Moved;
                }
                Poll::Pending => return Attended::Nothing,
            }
        }
    }

    /// Reads on, as far as nothing has come yet that is to be kept, to see whether the client has left.
    fn watch(&mut self, context: &mut Context<'_>) -> Attended {
        if !self.received.is_empty() {
            return Attended::Nothing;
        }
        match receive::poll_some(&mut self.received, self.io, context) {
            Poll::Ready(Ok(0) | Err(_)) => Attended::Gone,
            Poll::Ready(Ok(_)) | Poll::Pending => Attended::Nothing,
        }
    }

    /// Sends content, as it comes and as fast as the client takes it.
    async fn content(
        &mut self,
        mut body: Body,
        framing: Framing,
        takes_trailers: bool,
        incoming: &mut RequestContent,
    ) -> Result<(), Ended> {
        let cut = || Ended::Cut { reset: framing == Framing::UntilClose };
        let mut left = match framing {
            Framing::None => return Ok(()),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if let Some(whole) = body.take_here() {
            // All of it is here, and of the length that was said.
            self.out.data(whole);
            if self.out.is_full() {
                return std::future::poll_fn(|context| self.out.poll_write(self.io, context))
                    .await
                    .map_err(|_| cut());
            }
            return Ok(());
        }
        std::future::poll_fn(|context| {
            loop {
                if self.out.is_full() && ready!(self.out.poll_write(self.io, context)).is_err() {
                    return Poll::Ready(Err(cut()));
                }
                match Pin::new(&mut body).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => {
                            match &mut left {
                                Some(left) => match left.checked_sub(data.len() as u64) {
                                    Some(less) => *left = less,
                                    None => return Poll::Ready(Err(cut())),
                                },
                                None if framing == Framing::Chunked => {
                                    self.out.chunk(data);
                                    continue;
                                }
                                None => {}
                            }
                            self.out.data(data);
                            if left == Some(0) {
                                return Poll::Ready(Ok(()));
                            }
                        }
                        Err(frame) => {
                            let trailers = frame.into_trailers().ok().filter(|_| takes_trailers);
                            if framing == Framing::Chunked {
                                chunked::write_end(self.out.bytes(), trailers.as_ref());
                            }
                            return Poll::Ready(Ok(()));
                        }
                    },
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(cut())),
                    Poll::Ready(None) => {
                        if framing == Framing::Chunked {
                            chunked::write_end(self.out.bytes(), None);
                        }
                        return Poll::Ready(if left.is_none() { Ok(()) } else { Err(cut()) });
                    }
                    Poll::Pending => {
                        match self.attend(incoming, context) {
                            Attended::Moved => continue,
                            Attended::Gone => return Poll::Ready(Err(cut())),
                            Attended::Nothing => {}
                        }
                        // What is there is sent: nobody knows when more comes.
                        return match self.out.poll_write(self.io, context) {
                            Poll::Ready(Err(_)) => Poll::Ready(Err(cut())),
                            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                        };
                    }
                }
            }
        })
        .await
    }

    /// Waits until all that was made has left.
    async fn flushed(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.out.poll_write(self.io, context)).await
    }
}

/// Whether `TE` says `trailers`.
fn takes_trailers(fields: &HeaderMap) -> bool {
    fields.get_all(header::TE).iter().any(|line| crate::gate::has_token(line, b"trailers"))
}

/// Writes a stored response, framed anew, and its content if that is small; what is left of the content is returned.
fn write_stored(out: &mut Out, answer: &StoredAnswer, asked: &Asked, last: bool) -> (Body, Sent) {
    let lines = out.bytes();
    head::write_status_line(lines, answer.stored.status);
    answer.head().write_lines(lines);
    head::write_field(lines, "age", itoa::Buffer::new().format(answer.age).as_bytes());
    head::write_field(lines, CACHE_STATUS.as_str(), answer.status.as_bytes());
    lines.extend_from_slice(answer.said.lines());
    let length = answer.content_len();
    head::write_content_length(lines, length);
    write_persistence(lines, !last, asked);
    lines.extend_from_slice(b"\r\n");
    let sent = |framing| Sent { framing, persists: !last };
    match answer.packed() {
        Some(packed) if packed.len() <= COPIED_MAX => {
            lines.extend_from_slice(packed);
            (Body::empty(), sent(Framing::None))
        }
        _ => (answer.body(), sent(Framing::Length(length))),
    }
}

/// RFC 9112 §9.6, §9.3: what becomes of the connection, where it is not what the version means anyway.
fn write_persistence(out: &mut Vec<u8>, persists: bool, asked: &Asked) {
    if !persists {
        out.extend_from_slice(b"connection: close\r\n");
    } else if asked.version == Version::HTTP_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
}

/// Writes the head of an answer, framed anew.
fn write_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    body: &Body,
    asked: &Asked,
    last: bool,
) -> Sent {
    head::write_status_line(out, status);
    let mut close = last;
    let (mut dated, mut announced) = (false, None);
    for (name, value) in fields {
        match *name {
            // Framing is said below, as it is.
            header::CONTENT_LENGTH => announced = parse_length(value),
            header::TRANSFER_ENCODING => {}
            header::CONNECTION if status != StatusCode::SWITCHING_PROTOCOLS => {
                close |= crate::gate::has_token(value, b"close");
            }
            header::DATE if dated => {}
            _ => {
                dated |= *name == header::DATE;
                head::write_field(out, name.as_str(), value.as_bytes());
            }
        }
    }
    if !dated {
        head::write_date(out);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        out.extend_from_slice(b"\r\n");
        return Sent { framing: Framing::None, persists: false };
    }
    let framing = write_framing(out, status, body, announced, asked);
    let persists = !close && framing != Framing::UntilClose;
    write_persistence(out, persists, asked);
    out.extend_from_slice(b"\r\n");
    Sent { framing, persists }
}

/// Says how long the content is (RFC 9112 §6, RFC 9110 §8.6).
fn write_framing(
    out: &mut Vec<u8>,
    status: StatusCode,
    body: &Body,
    announced: Option<u64>,
    asked: &Asked,
) -> Framing {
    if status == StatusCode::NO_CONTENT {
        return Framing::None;
    }
    if asked.head || status == StatusCode::NOT_MODIFIED {
        // What a GET would be told.
        if let Some(length) = announced {
            head::write_content_length(out, length);
        }
        return Framing::None;
    }
    match body.exact_len().or(announced) {
        Some(length) => {
            head::write_content_length(out, length);
            if length == 0 { Framing::None } else { Framing::Length(length) }
        }
        None if asked.version == Version::HTTP_11 => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        }
        None => Framing::UntilClose,
    }
}

fn parse_length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}
