//! The bytes of a client's connection: socket, TLS, and the notes that time limits and metrics are made of.
//!
//! [`Io`] is what `http1.rs`, and hyper for HTTP/2, read from and write to. It counts bytes, marks when a write is blocked, scans HTTP/2 frame headers, writes waiting
//! interim heads, and lingers at the close. It sets no timer: the janitor (`watch.rs`) looks at what it notes down.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::connection::{Connection, Order, Phase};
use super::gather::Gather;
use super::http2::{self, Budget, Scanner, Spent};
use super::watch::Admission;
use super::websocket;
use crate::metrics::Limit;

/// A socket, and the bytes that were read from it to find out what it speaks.
#[derive(Debug)]
pub(super) struct Socket {
    kind: SocketKind,
    early: Bytes,
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Enough for most heads, so that finding out the protocol costs no further read.
const EARLY_BYTES: usize = 2_048;

impl Socket {
    pub(super) const fn tcp(stream: TcpStream) -> Self {
        Self { kind: SocketKind::Tcp(stream), early: Bytes::new() }
    }

    pub(super) const fn unix(stream: UnixStream) -> Self {
        Self { kind: SocketKind::Unix(stream), early: Bytes::new() }
    }

    /// Our own end, where the listener's address leaves it open.
    pub(super) fn local_if_unspecified(&self, listener: Option<SocketAddr>) -> Option<SocketAddr> {
        match &self.kind {
            SocketKind::Tcp(stream) if listener.is_some_and(|local| local.ip().is_unspecified()) => {
                stream.local_addr().ok()
            }
            SocketKind::Tcp(_) | SocketKind::Unix(_) => None,
        }
    }

    /// Reads until `enough` says what the bytes are, and keeps them to be read again, less those that it names as done with.
    /// `Ok(None)`: the peer closed before.
    pub(super) fn poll_look<T>(
        &mut self,
        context: &mut Context<'_>,
        mut enough: impl FnMut(&[u8]) -> Look<T>,
    ) -> Poll<io::Result<Option<T>>> {
        loop {
            match enough(&self.early) {
                Look::Found { value, used } => {
                    self.early.advance(used);
                    return Poll::Ready(Ok(Some(value)));
                }
                Look::More => {}
            }
            let mut space = [0; EARLY_BYTES];
            let mut space = ReadBuf::new(&mut space);
            ready!(self.kind.poll_read(context, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            self.early = if self.early.is_empty() {
                Bytes::copy_from_slice(space.filled())
            } else {
                [&self.early[..], space.filled()].concat().into()
            };
        }
    }
}

/// What the first bytes tell.
pub(super) enum Look<T> {
    /// Not enough yet. The asker bounds how much that may be.
    More,
    /// This; so many bytes are done with.
    Found {
        /// What they are.
        value: T,
        /// How many are not to be read again.
        used: usize,
    },
}

impl SocketKind {
    fn poll_read(&mut self, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, space),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, space),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return this.kind.poll_read(context, space);
        }
        let taken = this.early.len().min(space.remaining());
        space.put_slice(&this.early[..taken]);
        this.early.advance(taken);
        if this.early.is_empty() {
            this.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            SocketKind::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Cleartext or TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

macro_rules! on_stream {
    ($stream:expr, $inner:ident => $do:expr) => {
        match $stream {
            Stream::Plain($inner) => $do,
            Stream::Tls($inner) => $do,
        }
    };
}

/// What may come in after the answer has left before the connection is cut: see [`Phase::Lingering`].
const LINGER_BYTES: usize = 1 << 20;

/// A connection as it is read from and written to.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    connection: Arc<Connection>,
    admission: Admission,
    /// An interim head of which a part has not left.
    interim: Bytes,
    http2: Option<Box<Http2>>,
    websocket: websocket::Scanner,
    linger_left: Option<usize>,
}

#[derive(Debug)]
struct Http2 {
    received: Scanner,
    /// Of what was taken to be written, gathered or not.
    sent: Scanner,
    gather: Gather,
    budget: Budget,
    resets_max: u64,
}

impl Io {
    pub(super) fn http1(stream: Stream, connection: Arc<Connection>, admission: Admission) -> Self {
        connection.progress.enter(Phase::Http1);
        Self {
            stream,
            connection,
            admission,
            interim: Bytes::new(),
            http2: None,
            websocket: websocket::Scanner::default(),
            linger_left: None,
        }
    }

    pub(super) fn http2(
        stream: Stream,
        connection: Arc<Connection>,
        admission: Admission,
        resets_max: usize,
    ) -> Self {
        let mut io = Self::http1(stream, connection, admission);
        io.connection.progress.enter(Phase::Http2);
        io.http2 = Some(Box::new(Http2 {
            received: Scanner::after_preface(),
            sent: Scanner::default(),
            gather: Gather::default(),
            budget: Budget::default(),
            resets_max: resets_max as u64,
        }));
        io
    }

    /// Says why the connection ends, as far as that can be said without waiting, and closes it.
    pub(super) fn say_and_close(&mut self, last_words: &[u8]) {
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        let gathered_left = self.poll_gathered(&mut nobody).is_ready();
        let last_words = if gathered_left { last_words } else { b"" };
        on_stream!(&mut self.stream, inner => {
            let mut inner = Pin::new(inner);
            let _ = inner.as_mut().poll_write(&mut nobody, last_words);
            let _ = inner.as_mut().poll_flush(&mut nobody);
            let _ = inner.poll_shutdown(&mut nobody);
        });
    }

    /// Whether a client is being answered that has sent nothing of its answer's bytes back: nothing written that a 408 would garble.
    pub(super) fn may_say_408(&self) -> bool {
        let progress = &self.connection.progress;
        self.http2.is_none()
            && progress.active() == 0
            && self.interim.is_empty()
            && !progress.write_blocked.load(Ordering::Relaxed)
    }

    /// Makes the client see that what it was sent has not ended: the connection is reset when it is dropped.
    pub(super) fn reset(&self) {
        let socket = match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        if let SocketKind::Tcp(stream) = &socket.kind {
            // An error means that there is no connection any more.
            let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    fn note_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let progress = &self.connection.progress;
        progress.bytes_in.add(bytes.len() as u64);
        let Some(http2) = &mut self.http2 else {
            if !bytes.is_empty() && progress.active() == 0 {
                progress.head_begun.store(true, Ordering::Relaxed);
            }
            return Ok(());
        };
        http2.received.received(bytes, progress);
        let Some(spent) = http2.budget.spent(progress, self.admission.window(), http2.resets_max) else {
            return Ok(());
        };
        self.connection.metrics.limit(match spent {
            Spent::Resets => Limit::Resets,
            Spent::Frames => Limit::Frames,
        });
        if http2.sent.at_boundary() {
            self.say_and_close(http2::CALM);
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client made work without use"))
    }

    fn note_written<'a>(
        &mut self,
        polled: Poll<io::Result<usize>>,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let progress = &self.connection.progress;
        progress.write_blocked.store(polled.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(written)) = &polled {
            progress.bytes_out.add(*written as u64);
            if let Some(http2) = &mut self.http2 {
                each_part(slices, *written, |part| http2.sent.sent(part, progress));
            } else if progress.is_tunnel() {
                each_part(slices, *written, |part| self.websocket.sent(part));
            }
        }
        polled
    }

    /// Writes what HTTP/2 has gathered.
    fn poll_gathered(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(http2) = &mut self.http2 else { return Poll::Ready(Ok(())) };
        if http2.gather.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (stream, progress) = (&mut self.stream, &self.connection.progress);
        let polled = http2.gather.poll_write_out(progress.turns.count(), |bytes| {
            let polled = on_stream!(&mut *stream, inner => Pin::new(inner).poll_write(context, bytes));
            progress.write_blocked.store(polled.is_pending(), Ordering::Relaxed);
            if let Poll::Ready(Ok(written)) = &polled {
                progress.bytes_out.add(*written as u64);
            }
            polled
        });
        ready!(polled)?;
        self.poll_flush_tls(context)
    }

    /// TLS keeps what the socket did not take.
    fn poll_flush_tls(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stream::Tls(inner) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        let polled = Pin::new(inner).poll_flush(context);
        self.connection.progress.write_blocked.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    /// Takes a small write of HTTP/2 to be written with others; `None`: it is to be written by itself, behind them.
    fn gather(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let http2 = self.http2.as_mut()?;
        let len = http2.gather.take(slices)?;
        for slice in slices {
            http2.sent.sent(slice, &self.connection.progress);
        }
        Some(len)
    }

    /// Writes what goes before anything else that is written.
    fn poll_before_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(context))?;
        self.poll_interim(context)
    }

    /// Writes a waiting interim head to its end.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let polled =
                on_stream!(&mut self.stream, inner => Pin::new(inner).poll_write(context, &self.interim));
            self.connection.progress.write_blocked.store(polled.is_pending(), Ordering::Relaxed);
            let written = ready!(polled)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.connection.progress.bytes_out.add(written as u64);
            self.interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// A tunnel that the server ends: WebSocket peers are told, then it looks as if the client had left.
    fn poll_tunnel_ended(&mut self, context: &Context<'_>) -> bool {
        if self.connection.orders.poll_at_least(Order::EndWith408, context).is_pending() {
            return false;
        }
        if self.websocket.at_boundary() {
            self.say_and_close(websocket::GOING_AWAY);
        }
        true
    }
}

/// Calls `with` for the first `length` bytes of the slices.
fn each_part<'a>(slices: impl Iterator<Item = &'a [u8]>, mut length: usize, mut with: impl FnMut(&[u8])) {
    for slice in slices {
        let part = slice.len().min(length);
        with(&slice[..part]);
        length -= part;
        if length == 0 {
            break;
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.progress.is_tunnel() && this.poll_tunnel_ended(context) {
            return Poll::Ready(Ok(()));
        }
        let turn = this.connection.progress.turns.count();
        if this.http2.as_ref().is_some_and(|http2| http2.gather.is_due(turn))
            && let Poll::Ready(Err(error)) = this.poll_gathered(context)
        {
            return Poll::Ready(Err(error));
        }
        let before = space.filled().len();
        ready!(on_stream!(&mut this.stream, inner => Pin::new(inner).poll_read(context, space)))?;
        Poll::Ready(this.note_read(&space.filled()[before..]))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(gathered) = this.gather(&[IoSlice::new(bytes)]) {
            return Poll::Ready(Ok(gathered));
        }
        ready!(this.poll_before_write(context))?;
        let polled = on_stream!(&mut this.stream, inner => Pin::new(inner).poll_write(context, bytes));
        this.note_written(polled, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(gathered) = this.gather(slices) {
            return Poll::Ready(Ok(gathered));
        }
        ready!(this.poll_before_write(context))?;
        let polled =
            on_stream!(&mut this.stream, inner => Pin::new(inner).poll_write_vectored(context, slices));
        this.note_written(polled, slices.iter().map(|slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(&self.stream, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(http2) = &mut this.http2 {
            if !http2.gather.is_empty() {
                http2.gather.ask(this.connection.progress.turns.count(), context);
                return Poll::Ready(Ok(()));
            }
        } else {
            if this.interim.is_empty() {
                this.interim = this.connection.interim.take();
            }
            ready!(this.poll_interim(context))?;
        }
        this.poll_flush_tls(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_gathered(context))?;
        let progress = &this.connection.progress;
        let left = match &mut this.linger_left {
            Some(left) => left,
            unset => {
                ready!(on_stream!(&mut this.stream, inner => Pin::new(inner).poll_shutdown(context)))?;
                // Closing a socket with unread bytes in it sends a reset, which may overtake the answer.
                let owed = progress.had_content.load(Ordering::Relaxed)
                    || progress.head_begun.load(Ordering::Relaxed);
                if this.http2.is_some() || !owed || progress.is_tunnel() {
                    return Poll::Ready(Ok(()));
                }
                progress.enter(Phase::Lingering);
                unset.insert(LINGER_BYTES)
            }
        };
        loop {
            let mut space = [0; EARLY_BYTES];
            let mut space = ReadBuf::new(&mut space);
            // Beneath TLS: nobody is going to look at these bytes.
            let socket = match &mut this.stream {
                Stream::Plain(socket) => socket,
                Stream::Tls(stream) => stream.get_mut().0,
            };
            ready!(Pin::new(socket).poll_read(context, &mut space))?;
            *left = left.saturating_sub(space.filled().len());
            if space.filled().is_empty() || *left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
