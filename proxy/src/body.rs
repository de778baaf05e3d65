//! The content of a message on its way through: one type for requests to the origin and answers to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// What a parser, a library or the operating system said.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why content ended early. The receiver sees a cut message: no final chunk, fewer bytes than announced, or a reset stream.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's content broke off, was malformed, or came too slowly.
    #[error("the client's content ended early")]
    Client(#[source] Option<Cause>),
    /// The origin's content broke off or was malformed.
    #[error("the origin's content ended early")]
    Origin(#[source] Option<Cause>),
    /// The client's content is larger than the route allows.
    #[error("the client's content exceeds {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Nothing moved for too long.
    #[error("no progress within the time limit")]
    Idle,
    /// The fill that this content came from was given up.
    #[error("the fill was given up")]
    FillEnded,
}

/// Anything that yields content; boxed, for the paths that are not hot.
pub type DynBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>;

/// Content that is sent.
#[derive(Default)]
pub struct Body {
    inner: Inner,
}

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    /// Several pieces whose bytes are all here: ranges, multipart.
    Pieces(std::collections::VecDeque<Bytes>),
    /// Whatever streams: an origin's content, a fill that is read along.
    Stream(DynBody),
}

/// Told once, when the content has ended or was given up, how many bytes went out.
pub trait AtEnd: Send {
    /// `complete` is false when the content broke off or the receiver left.
    fn at_end(self: Box<Self>, bytes: u64, complete: bool);
}

impl Body {
    /// No content.
    pub const fn empty() -> Self {
        Self { inner: Inner::Empty }
    }

    /// Content that is all here.
    pub const fn full(bytes: Bytes) -> Self {
        Self { inner: Inner::Full(bytes) }
    }

    /// Content that is all here, in pieces.
    pub fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { inner: Inner::Pieces(pieces) }
    }

    /// Content that streams.
    pub fn stream(body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self { inner: Inner::Stream(Box::pin(body)) }
    }

    /// Content that was read in part: `before`, then `frame`, then the rest.
    pub fn resumed(before: Bytes, frame: Frame<Bytes>, rest: Self) -> Self {
        let before = (!before.is_empty()).then(|| Frame::data(before));
        Self::stream(Resumed { before, frame: Some(frame), rest })
    }

    /// Calls `after` when the content has ended.
    pub fn then(self, after: Box<dyn AtEnd>) -> Self {
        let announced = self.exact_len();
        let counted = Counted { body: self, after: Some(after), announced, bytes: 0, complete: false };
        Self { inner: Inner::Stream(Box::pin(counted)) }
    }

    /// All of it, if it is here already and in one piece; it stays here, too.
    pub fn here(&self) -> Option<Bytes> {
        match &self.inner {
            Inner::Empty => Some(Bytes::new()),
            Inner::Full(bytes) => Some(bytes.clone()),
            Inner::Pieces(_) | Inner::Stream(_) => None,
        }
    }

    /// All of it, if it is here already and in one piece.
    pub fn take_here(&mut self) -> Option<Bytes> {
        match &mut self.inner {
            Inner::Empty => Some(Bytes::new()),
            Inner::Full(bytes) => Some(std::mem::take(bytes)),
            Inner::Pieces(_) | Inner::Stream(_) => None,
        }
    }

    /// Whether all of it is here already.
    pub const fn is_here(&self) -> bool {
        !matches!(self.inner, Inner::Stream(_))
    }

    /// The length, where it is known before the end.
    pub fn exact_len(&self) -> Option<u64> {
        http_body::Body::size_hint(self).exact()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.inner = Inner::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Inner::Pieces(pieces) => Poll::Ready(pieces.pop_front().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty => true,
            Inner::Full(bytes) => bytes.is_empty(),
            Inner::Pieces(pieces) => pieces.is_empty(),
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

/// What was read already, before what comes.
struct Resumed {
    before: Option<Frame<Bytes>>,
    frame: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.before.take().or_else(|| this.frame.take()) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.before.is_none() && self.frame.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read =
            self.before.iter().chain(&self.frame).filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
        let rest = http_body::Body::size_hint(&self.rest);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + read as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + read as u64);
        }
        hint
    }
}

/// Counts what goes out and tells `after` at the end.
struct Counted {
    body: Body,
    after: Option<Box<dyn AtEnd>>,
    /// Who writes a message of known length does not ask for more after its last byte.
    announced: Option<u64>,
    bytes: u64,
    complete: bool,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.complete = this.body.is_end_stream() || this.announced == Some(this.bytes);
            }
            Poll::Ready(None) => this.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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

impl Drop for Counted {
    fn drop(&mut self) {
        let complete = self.complete || http_body::Body::is_end_stream(&self.body);
        if let Some(after) = self.after.take() {
            after.at_end(self.bytes, complete);
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Body").field("exact_len", &self.exact_len()).finish_non_exhaustive()
    }
}
