//! The content of a fill: one writer, any number of readers that begin at its first byte and read as it arrives.
//!
//! While the content is kept (it may yet be stored) the writer never waits: slow clients do not hold an origin's connection. Once it
//! is not kept, because it grew past the limit or the budget of all fills is used up, it becomes a window: pieces that every
//! reader has had are dropped, nobody can join any more, and the writer waits for the slowest reader.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use slab::Slab;

use crate::body::BodyError;

/// Bytes between the writer and its slowest reader, once content is not kept.
const WINDOW_BYTES: usize = 256 << 10;

/// Memory that all fills together may keep.
#[derive(Debug)]
pub struct FillBudget {
    used: AtomicU64,
    max: AtomicU64,
}

impl FillBudget {
    /// A budget of so many bytes.
    pub const fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max: AtomicU64::new(max) }
    }

    /// Another bound from now on; what is kept beyond it is kept until its fill ends.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Bytes that fills keep now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.used.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
            <= self.max.load(Ordering::Relaxed)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

/// Content that is being written.
#[derive(Debug)]
pub struct Content {
    state: Mutex<State>,
    /// What `Content-Length` announced.
    announced: Option<u64>,
    /// Longer content is not kept.
    keep_max: usize,
    budget: Arc<FillBudget>,
}

#[derive(Debug, Default)]
struct State {
    /// Pieces held, the first of which is number `dropped`.
    pieces: VecDeque<Bytes>,
    dropped: usize,
    held: usize,
    /// Whether all of it is kept.
    whole: bool,
    end: Option<End>,
    readers: Slab<Reader>,
    writer: Option<Waker>,
}

#[derive(Debug, Clone)]
enum End {
    Complete(Option<HeaderMap>),
    Cut,
}

#[derive(Debug, Default)]
struct Reader {
    /// The next piece it wants, counted from the first ever.
    next: usize,
    waker: Option<Waker>,
}

impl State {
    fn wake_readers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()).collect()
    }

    /// Drops what every reader has had; only where the content is not kept.
    fn trim(&mut self, budget: &FillBudget) {
        if self.whole {
            return;
        }
        let slowest = self.readers.iter().map(|(_, reader)| reader.next).min().unwrap_or(usize::MAX);
        while self.dropped < slowest {
            let Some(piece) = self.pieces.pop_front() else { break };
            self.dropped += 1;
            self.held -= piece.len();
            budget.give_back(piece.len());
        }
        let may_write = self.held < WINDOW_BYTES || self.readers.is_empty();
        if let Some(writer) = self.writer.take_if(|_| may_write) {
            writer.wake();
        }
    }
}

/// Nobody reads, and it will not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwanted;

/// The one that writes. Dropping it before [`ContentWriter::finish`] cuts the content: readers see an error, never a short message.
#[derive(Debug)]
pub struct ContentWriter(Arc<Content>);

impl Content {
    /// Content that is kept as long as it has at most `keep_max` bytes; 0 keeps nothing from the start.
    pub fn new(
        announced: Option<u64>,
        keep_max: usize,
        budget: Arc<FillBudget>,
    ) -> (ContentWriter, Arc<Self>) {
        let whole = keep_max > 0 && announced.is_none_or(|length| length <= keep_max as u64);
        let state = Mutex::new(State { whole, ..State::default() });
        let content = Arc::new(Self { state, announced, keep_max, budget });
        (ContentWriter(content.clone()), content)
    }

    /// A reader that begins at the first byte; `None` once the beginning is gone.
    pub fn read(self: &Arc<Self>) -> Option<ContentReader> {
        let mut state = self.state.lock();
        if state.dropped > 0 {
            return None;
        }
        let key = state.readers.insert(Reader::default());
        drop(state);
        Some(ContentReader { content: self.clone(), key, read: 0, ended: false })
    }

    /// Whether all of it is kept so far.
    pub fn is_whole(&self) -> bool {
        self.state.lock().whole
    }
}

impl ContentWriter {
    /// Adds a piece. Waits while the content is not kept and its slowest reader is a window behind.
    pub async fn push(&mut self, piece: Bytes) -> Result<(), Unwanted> {
        if piece.is_empty() {
            return Ok(());
        }
        let wakers = {
            let mut state = self.0.state.lock();
            let affordable = self.0.budget.take(piece.len());
            state.held += piece.len();
            state.pieces.push_back(piece);
            if !affordable || state.held > self.0.keep_max {
                state.whole = false;
            }
            state.trim(&self.0.budget);
            state.wake_readers()
        };
        wakers.into_iter().for_each(Waker::wake);
        poll_fn(|context| {
            let mut state = self.0.state.lock();
            if state.whole {
                Poll::Ready(Ok(()))
            } else if state.readers.is_empty() {
                Poll::Ready(Err(Unwanted))
            } else if state.held < WINDOW_BYTES {
                Poll::Ready(Ok(()))
            } else {
                state.writer = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// All pieces so far, if all were kept.
    pub fn whole(&self) -> Option<Vec<Bytes>> {
        let state = self.0.state.lock();
        state.whole.then(|| state.pieces.iter().cloned().collect())
    }

    /// Ends it well.
    pub fn finish(self, trailers: Option<HeaderMap>) {
        let mut state = self.0.state.lock();
        state.end = Some(End::Complete(trailers));
        let wakers = state.wake_readers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for ContentWriter {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if state.end.is_none() {
            state.end = Some(End::Cut);
            let wakers = state.wake_readers();
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.budget.give_back(self.state.get_mut().held);
    }
}

/// Reads content as it arrives.
#[derive(Debug)]
pub struct ContentReader {
    content: Arc<Content>,
    key: usize,
    read: u64,
    ended: bool,
}

impl http_body::Body for ContentReader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let mut guard = this.content.state.lock();
        let state = &mut *guard;
        let Some(reader) = state.readers.get_mut(this.key) else { return Poll::Ready(None) };
        if let Some(piece) = state.pieces.get(reader.next - state.dropped) {
            let piece = piece.clone();
            reader.next += 1;
            this.read += piece.len() as u64;
            state.trim(&this.content.budget);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &state.end {
            Some(End::Complete(trailers)) => {
                this.ended = true;
                Poll::Ready(trailers.clone().map(|fields| Ok(Frame::trailers(fields))))
            }
            Some(End::Cut) => {
                this.ended = true;
                Poll::Ready(Some(Err(BodyError::Origin(None))))
            }
            None => {
                match &mut reader.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // An announced length holds only for what is read from the beginning, which all readers do.
        self.content
            .announced
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.read)))
    }
}

impl Drop for ContentReader {
    fn drop(&mut self) {
        let mut state = self.content.state.lock();
        state.readers.try_remove(self.key);
        state.trim(&self.content.budget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn content(keep_max: usize) -> (ContentWriter, Arc<Content>) {
        Content::new(None, keep_max, Arc::new(FillBudget::new(1 << 30)))
    }

    async fn all(reader: ContentReader) -> Result<Bytes, BodyError> {
        Ok(reader.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn readers_get_all_of_it_whenever_they_join() {
        let (mut writer, content) = content(100);
        let early = content.read().unwrap();
        writer.push(Bytes::from_static(b"one")).await.unwrap();
        let late = content.read().unwrap();
        writer.push(Bytes::from_static(b"two")).await.unwrap();
        let (early, late) = (tokio::spawn(all(early)), tokio::spawn(all(late)));
        assert_eq!(writer.whole().unwrap().concat(), b"onetwo");
        writer.finish(None);
        assert_eq!(early.await.unwrap().unwrap(), "onetwo");
        assert_eq!(late.await.unwrap().unwrap(), "onetwo");
    }

    #[tokio::test]
    async fn a_cut_is_seen_by_everybody() {
        let (mut writer, content) = content(100);
        let reader = content.read().unwrap();
        writer.push(Bytes::from_static(b"one")).await.unwrap();
        drop(writer);
        assert!(matches!(all(reader).await, Err(BodyError::Origin(_))));
    }

    #[tokio::test]
    async fn beyond_the_limit_it_is_a_window_that_waits_for_the_slowest() {
        let (mut writer, content) = content(WINDOW_BYTES);
        let mut reader = content.read().unwrap();
        let piece = Bytes::from(vec![7; WINDOW_BYTES / 2]);
        for _ in 0..2 {
            writer.push(piece.clone()).await.unwrap();
        }
        let pushed = tokio::spawn(async move {
            writer.push(piece).await.unwrap();
            let whole = writer.whole();
            writer.finish(None);
            whole
        });
        tokio::task::yield_now().await;
        assert!(!pushed.is_finished(), "it waits");
        let mut bytes = 0;
        while let Some(frame) = reader.frame().await {
            bytes += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(bytes, WINDOW_BYTES / 2 * 3);
        assert!(pushed.await.unwrap().is_none(), "and there is nothing to store");
        assert!(content.read().is_none(), "nor can anybody join");
    }

    #[tokio::test]
    async fn content_that_nobody_wants_ends_its_writer() {
        let (mut writer, content) = content(0);
        let reader = content.read().unwrap();
        writer.push(Bytes::from_static(b"x")).await.unwrap();
        drop(reader);
        assert_eq!(writer.push(Bytes::from_static(b"x")).await, Err(Unwanted));
    }

    #[tokio::test]
    async fn the_budget_of_all_fills_is_given_back() {
        let budget = Arc::new(FillBudget::new(4));
        let (mut writer, content) = Content::new(None, 100, budget.clone());
        let reader = content.read().unwrap();
        writer.push(Bytes::from_static(b"1234")).await.unwrap();
        assert!(content.is_whole());
        writer.push(Bytes::from_static(b"5")).await.unwrap();
        assert!(!content.is_whole());
        drop((writer, reader, content));
        assert_eq!(budget.used(), 0);
    }
}
