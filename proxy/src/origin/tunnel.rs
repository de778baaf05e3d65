//! Bytes both ways between a client and an origin that have left HTTP behind.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::watch::Watch;
use crate::limit::Meter;

/// Held per direction, and no more: the slower side sets the pace.
const BUFFER_BYTES: usize = 8 << 10;

/// What a tunnel carried.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) to_origin: u64,
    pub(super) to_client: u64,
}

/// Copies until both sides have ended, one of them fails, or neither says anything for `idle`. One side's end is passed on and the other
/// direction goes on. `early` is what the origin has said already.
pub(super) async fn run<C, O>(
    mut client: C,
    mut origin: O,
    early: Bytes,
    idle: Duration,
    meter: Option<Meter>,
) -> (Carried, io::Result<()>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let mut to_origin = Way::new(Bytes::new(), meter);
    let mut to_client = Way::new(early, None);
    let mut watch = Watch::new();
    let mut last = (0, Instant::now());
    let outcome = std::future::poll_fn(|context| {
        let up = to_origin.poll(&mut client, &mut origin, context)?;
        let down = to_client.poll(&mut origin, &mut client, context)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let moved = to_origin.moved + to_client.moved;
        if moved != last.0 {
            last = (moved, Instant::now());
        }
        if watch.is_past(last.1 + idle, context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    })
    .await;
    (Carried { to_origin: to_origin.written, to_client: to_client.written }, outcome)
}

/// One direction.
struct Way {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    ended: bool,
    shut: bool,
    written: u64,
    /// Bytes read and written: either is progress.
    moved: u64,
    /// What counts the messages, and the timer for one that is held back.
    meter: Option<Box<(Meter, Watch)>>,
    /// Bytes from `from` on that the meter has let through.
    admitted: usize,
}

impl Way {
    fn new(early: Bytes, meter: Option<Meter>) -> Self {
        let to = early.len();
        let mut buffer = Vec::from(early);
        buffer.resize(to.max(BUFFER_BYTES), 0);
        let meter = meter.map(|meter| Box::new((meter, Watch::new())));
        Self { buffer, from: 0, to, ended: false, shut: false, written: 0, moved: 0, meter, admitted: 0 }
    }

    fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // A side that always has more must not keep the worker from everybody else.
        for _ in 0..16 {
            if self.from < self.to {
                let until = ready!(self.poll_admitted(context));
                let written =
                    ready!(Pin::new(&mut *sink).poll_write(context, &self.buffer[self.from..until]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.from += written;
                self.admitted = self.admitted.saturating_sub(written);
                self.written += written as u64;
                self.moved += written as u64;
                continue;
            }
            if self.ended {
                if !self.shut {
                    ready!(Pin::new(&mut *sink).poll_shutdown(context))?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *source).poll_read(context, &mut buffer)? {
                Poll::Ready(()) => {
                    (self.from, self.to) = (0, buffer.filled().len());
                    self.moved += self.to as u64;
                    self.ended = self.to == 0;
                }
                Poll::Pending => {
                    ready!(Pin::new(&mut *sink).poll_flush(context))?;
                    return Poll::Pending;
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The end of what may be written now. Pending: the next message is held back, and nothing is read meanwhile.
    fn poll_admitted(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let Some((meter, watch)) = self.meter.as_deref_mut() else { return Poll::Ready(self.to) };
        while self.admitted == 0 {
            let held = meter.held_until.filter(|until| !watch.is_past(*until, context));
            if held.is_some() {
                return Poll::Pending;
            }
            self.admitted = meter.admit(&self.buffer[self.from..self.to], Instant::now());
        }
        Poll::Ready(self.from + self.admitted)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn one_side_may_end_before_the_other() {
        let (mut client, client_end) = duplex(64);
        let (mut origin, origin_end) = duplex(64);
        let tunnel = tokio::spawn(run(
            client_end,
            origin_end,
            Bytes::from_static(b"early "),
            Duration::from_secs(60),
            None,
        ));

        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        origin.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");

        origin.write_all(b"answer").await.unwrap();
        drop(origin);
        heard.clear();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "early answer");
        let (carried, outcome) = tunnel.await.unwrap();
        assert!(outcome.is_ok());
        assert_eq!(carried, Carried { to_origin: 8, to_client: 12 });
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (_client, client_end) = duplex(64);
        let (_origin, origin_end) = duplex(64);
        let (_, outcome) = run(client_end, origin_end, Bytes::new(), Duration::from_secs(60), None).await;
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
