//! Gathers what HTTP/2 writes. h2 hands over each DATA frame by itself and flushes after it: a system call, and a packet, for each.
//!
//! Small writes are copied here and leave together. A flush does not write: it has the connection's task run once more, after the tasks that
//! are ready to run now, and in that turn the bytes leave, when h2 asks for more to read. Large writes are not copied and leave at once,
//! behind these.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

/// Writes up to here are copied; copying more would cost as much as writing it.
const COPIED_MAX: usize = 8 << 10;
/// No more than this waits.
const GATHERED_MAX: usize = 32 << 10;

/// Bytes that wait to be written together.
#[derive(Debug, Default)]
pub(super) struct Gather {
    bytes: Vec<u8>,
    written: usize,
    /// In which turn of the task they were asked for; they leave in the next one.
    asked_in: Option<u64>,
}

impl Gather {
    /// Copies a write, if it is small and there is room. Returns its length.
    pub(super) fn take(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        if len > COPIED_MAX || self.bytes.len() + len > GATHERED_MAX {
            return None;
        }
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
        Some(len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Has the task run again, if there is something to write.
    pub(super) fn ask(&mut self, turn: u64, context: &Context<'_>) {
        if !self.is_empty() && self.asked_in.is_none() {
            self.asked_in = Some(turn);
            context.waker().wake_by_ref();
        }
    }

    /// Whether it is time to write.
    pub(super) fn is_due(&self, turn: u64) -> bool {
        self.asked_in.is_some_and(|asked_in| asked_in != turn)
    }

    /// Writes all of it. After `Pending` the socket wakes the task, and the rest is due in that turn.
    pub(super) fn poll_write_out(
        &mut self,
        turn: u64,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        self.asked_in = Some(turn);
        while self.written < self.bytes.len() {
            match ready!(write(&self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        // An idle connection holds no memory for this.
        *self = Self::default();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices<'b>(parts: &'b [&'b [u8]]) -> Vec<IoSlice<'b>> {
        parts.iter().map(|part| IoSlice::new(part)).collect()
    }

    #[test]
    fn small_writes_leave_together_and_in_order_however_little_is_taken_at_a_time() {
        let mut gather = Gather::default();
        assert_eq!(gather.take(&slices(&[b"ab", b"c"])), Some(3));
        assert_eq!(gather.take(&slices(&[b"de"])), Some(2));
        let mut taken = Vec::new();
        let mut calls = 0;
        let mut write = |bytes: &[u8]| {
            calls += 1;
            if calls == 2 {
                return Poll::Pending;
            }
            let part = bytes.len().min(3);
            taken.extend_from_slice(&bytes[..part]);
            Poll::Ready(Ok(part))
        };
        assert!(gather.poll_write_out(1, &mut write).is_pending());
        assert!(gather.is_due(2), "the rest is still to be written");
        assert!(matches!(gather.poll_write_out(2, &mut write), Poll::Ready(Ok(()))));
        assert_eq!(taken, b"abcde");
        assert!(gather.is_empty() && !gather.is_due(3));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut gather = Gather::default();
        assert_eq!(gather.take(&slices(&[&[0; COPIED_MAX + 1]])), None, "too large to copy");
        for _ in 0..GATHERED_MAX / COPIED_MAX {
            assert_eq!(gather.take(&slices(&[&[0; COPIED_MAX]])), Some(COPIED_MAX));
        }
        assert_eq!(gather.take(&slices(&[b"x"])), None, "no room");
    }

    #[test]
    fn a_flush_has_the_task_run_again_once() {
        let waker = std::task::Waker::noop();
        let context = Context::from_waker(waker);
        let mut gather = Gather::default();
        gather.ask(1, &context);
        assert!(!gather.is_due(2), "there is nothing to write");
        assert_eq!(gather.take(&slices(&[b"x"])), Some(1));
        assert!(!gather.is_due(2), "nobody has asked");
        gather.ask(2, &context);
        assert!(!gather.is_due(2), "more may come in the same turn");
        gather.ask(3, &context);
        assert!(gather.is_due(3), "it was asked for in the turn before");
    }
}
