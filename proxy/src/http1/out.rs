//! What waits to be written, in the order in which it leaves.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::chunked;

/// Data up to here is copied behind its head, so that both leave in one plain write; copying more costs more than a vectored write.
pub(crate) const COPIED_MAX: usize = 8 << 10;
/// So much may wait to be written before more is made.
const WAITING_MAX: usize = 16 << 10;

/// Bytes, then a large piece of data, then what closes its chunk.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    written: usize,
    /// What was written may lie in a buffer of TLS.
    unflushed: bool,
    /// Counts what is written, and wraps around.
    total: u64,
    large: Bytes,
    tail: &'static [u8],
}

/// Room for a head and a little content, so that a buffer does not grow step by step.
const FIRST_BYTES: usize = 2 << 10;
/// So many buffers are kept: as many as wait at once to be written in a row, where a worker is busy.
const SPARE_MAX: usize = 64;
/// No larger buffer is kept.
const SPARE_BYTES_MAX: usize = 32 << 10;

thread_local! {
    /// Buffers of what has been written, for what is to be.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Out {
    /// Where heads and what frames content are written.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(FIRST_BYTES));
        }
        &mut self.bytes
    }

    /// Whether no more should be added before some has left.
    pub(crate) fn is_full(&self) -> bool {
        !self.large.is_empty() || self.bytes.len() >= WAITING_MAX
    }

    /// Adds data. There is room for it: `is_full` has said no.
    pub(crate) fn data(&mut self, data: Bytes) {
        if data.len() <= COPIED_MAX {
            self.bytes().extend_from_slice(&data);
        } else {
            self.large = data;
        }
    }

    /// Adds data as a chunk.
    pub(crate) fn chunk(&mut self, data: Bytes) {
        let out = self.bytes();
        chunked::write_size(out, data.len());
        if data.len() <= COPIED_MAX {
            out.extend_from_slice(&data);
            out.extend_from_slice(b"\r\n");
        } else {
            self.large = data;
            self.tail = b"\r\n";
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == self.written && self.large.is_empty() && self.tail.is_empty() && !self.unflushed
    }

    /// Bytes written in all.
    pub(crate) const fn written(&self) -> u64 {
        self.total
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes all of it.
    pub(crate) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let first = &self.bytes[self.written..];
            let written = match (first.is_empty(), self.large.is_empty(), self.tail.is_empty()) {
                (true, true, true) => break,
                (false, true, true) => ready!(Pin::new(&mut *io).poll_write(context, first))?,
                _ => {
                    let slices = [first, &self.large, self.tail].map(IoSlice::new);
                    ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.bytes.capacity() > 0 {
            self.written = 0;
            let mut spare = std::mem::take(&mut self.bytes);
            spare.clear();
            if spare.capacity() <= SPARE_BYTES_MAX {
                SPARE.with_borrow_mut(|spares| {
                    if spares.len() < SPARE_MAX {
                        spares.push(spare);
                    }
                });
            }
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.total = self.total.wrapping_add(written as u64);
        self.unflushed = true;
        let first = (self.bytes.len() - self.written).min(written);
        self.written += first;
        written -= first;
        let large = self.large.len().min(written);
        if large == self.large.len() {
            self.large = Bytes::new();
        } else {
            let _ = self.large.split_to(large);
        }
        self.tail = &self.tail[written - large..];
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, duplex};

    use super::*;

    #[tokio::test]
    async fn all_of_it_leaves_in_order_however_little_is_taken_at_a_time() {
        let (mut far, near) = duplex(7);
        // Keeps bytes back until it is flushed, as TLS does.
        let mut near = BufWriter::with_capacity(64, near);
        let large = Bytes::from(vec![b'x'; COPIED_MAX + 1]);
        let mut out = Out::default();
        out.bytes().extend_from_slice(b"head ");
        out.data(Bytes::from_static(b"small "));
        out.chunk(large.clone());
        assert!(out.is_full() && !out.is_empty());
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        std::future::poll_fn(|context| out.poll_write(&mut near, context)).await.unwrap();
        assert!(out.is_empty());
        out.chunk(Bytes::from_static(b"end"));
        std::future::poll_fn(|context| out.poll_write(&mut near, context)).await.unwrap();
        assert!(near.buffer().is_empty(), "nothing is kept back");
        pin!(near.shutdown()).await.unwrap();
        drop(near);
        let expected = [b"head small 2001\r\n", &large[..], b"\r\n3\r\nend\r\n"].concat();
        assert_eq!(reading.await.unwrap(), expected);
    }

    #[test]
    fn a_flush_that_has_to_wait_is_not_forgotten() {
        /// Takes every write, and flushes when it is asked for the second time.
        struct Lazy(u32);

        impl AsyncWrite for Lazy {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(bytes.len()))
            }

            fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0 += 1;
                if self.0 < 2 { Poll::Pending } else { Poll::Ready(Ok(())) }
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        let mut context = Context::from_waker(std::task::Waker::noop());
        let (mut out, mut lazy) = (Out::default(), Lazy(0));
        out.data(Bytes::from_static(b"x"));
        assert!(out.poll_write(&mut lazy, &mut context).is_pending());
        assert!(!out.is_empty());
        assert!(out.poll_write(&mut lazy, &mut context).is_ready());
        assert_eq!(lazy.0, 2);
        assert!(out.is_empty());
    }
}
