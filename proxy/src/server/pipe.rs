//! The content of a request on its way from the connection that reads it to whoever asks for it: one piece at a time, and none unasked.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use parking_lot::Mutex;

use crate::body::Cause;

/// Both ends of a pipe for content of this length, where it is known.
pub(super) fn pipe(length: Option<u64>) -> (Writer, Reader) {
    let state = State { left: length, ..State::default() };
    let shared = Arc::new(Mutex::new(state));
    (Writer(Arc::clone(&shared)), Reader(shared))
}

#[derive(Debug, Default)]
struct State {
    piece: Option<Frame<Bytes>>,
    ended: Option<Option<Cause>>,
    /// Somebody waits for a piece.
    wanted: bool,
    /// Bytes not handed over yet, where that is known.
    left: Option<u64>,
    reader_left: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The connection's end.
#[derive(Debug)]
pub(super) struct Writer(Arc<Mutex<State>>);

impl Writer {
    /// Ready when a piece is asked for; else the task is woken when one is.
    pub(super) fn poll_wanted(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.wanted && state.piece.is_none() {
            return Poll::Ready(());
        }
        match &state.writer {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => state.writer = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Hands data over.
    pub(super) fn data(&self, data: Bytes) {
        let mut state = self.0.lock();
        state.piece = Some(Frame::data(data));
        state.wake_reader();
    }

    /// The content has ended.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) {
        let mut state = self.0.lock();
        state.piece = trailers.map(Frame::trailers);
        state.ended = Some(None);
        state.wake_reader();
    }

    /// The content has broken off.
    pub(super) fn fail(&self, cause: Option<Cause>) {
        let mut state = self.0.lock();
        state.ended = Some(Some(cause.unwrap_or_else(|| Cause::from("the connection ended"))));
        state.wake_reader();
    }

    /// Whether nobody will ever ask.
    pub(super) fn reader_left(&self) -> bool {
        self.0.lock().reader_left
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let unfinished = self.0.lock().ended.is_none();
        if unfinished {
            self.fail(None);
        }
    }
}

impl State {
    fn wake_reader(&mut self) {
        self.wanted = false;
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

/// The end of whoever reads the content.
#[derive(Debug)]
pub struct Reader(Arc<Mutex<State>>);

impl Reader {
    pub(crate) fn poll_frame(&mut self, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let mut state = self.0.lock();
        if let Some(piece) = state.piece.take() {
            if let (Some(left), Some(data)) = (&mut state.left, piece.data_ref()) {
                *left = left.saturating_sub(data.len() as u64);
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(cause) = &mut state.ended {
            return Poll::Ready(cause.take().map(Err));
        }
        if state.left == Some(0) {
            return Poll::Ready(None);
        }
        state.wanted = true;
        state.reader = Some(context.waker().clone());
        if let Some(waker) = state.writer.take() {
            waker.wake();
        }
        Poll::Pending
    }

    pub(crate) fn is_ended(&self) -> bool {
        let state = self.0.lock();
        state.piece.is_none() && (state.left == Some(0) || matches!(state.ended, Some(None)))
    }

    pub(crate) fn left(&self) -> Option<u64> {
        self.0.lock().left
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_left = true;
        state.piece = None;
    }
}
