//! The bytes to and from one origin server: TCP, a Unix socket, or TLS over either.
//!
//! The wrapper makes two things certain that hyper cannot see. Before a kept connection carries another request, the socket itself is asked
//! whether anything has arrived on it: what came between two answers is never read as the next one. And when the origin stops reading,
//! what it has already said is still read: an early answer reaches the client although the content could not be sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A socket in the clear.
pub(super) enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What an origin is spoken to over.
pub(super) enum Stream {
    Plain(Plain),
    Tls(Box<TlsStream<Plain>>),
}

/// What the wrapper and the one who drives the connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set before a kept connection is used again: the next read asks the socket itself.
    pub(super) probe: AtomicBool,
    /// The origin does not read any more.
    pub(super) write_failed: AtomicBool,
    /// Something arrived that nobody had asked for.
    pub(super) excess: AtomicBool,
    /// Bytes written: progress of a request's content.
    pub(super) written: AtomicU64,
    /// Bytes read.
    pub(super) read: AtomicU64,
}

/// A connection's bytes.
pub(super) struct Io {
    stream: Stream,
    shared: Arc<Shared>,
}

impl Io {
    pub(super) fn new(stream: Stream) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Self { stream, shared: Arc::clone(&shared) }, shared)
    }

    /// Whether the socket holds bytes, or the end of them, that no answer asked for. TLS keeps its own records (session tickets) in the
    /// socket; there, only what they decrypt to counts.
    fn probe(&self) -> io::Result<()> {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match &self.stream {
            Stream::Plain(Plain::Tcp(stream)) => rustix::net::recv(stream, &mut byte[..], flags),
            Stream::Plain(Plain::Unix(stream)) => rustix::net::recv(stream, &mut byte[..], flags),
            Stream::Tls(_) => return Ok(()),
        };
        match peeked {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                self.shared.excess.store(true, Ordering::Relaxed);
                Err(io::Error::new(io::ErrorKind::InvalidData, "bytes between two answers"))
            }
        }
    }

    /// Takes the bytes back, for a tunnel.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// What became of a write: a failed one is remembered and taken as done, so that reading goes on.
    fn wrote(&self, outcome: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match outcome {
            Ok(written) => {
                self.shared.written.fetch_add(written as u64, Ordering::Relaxed);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(_) => {
                self.shared.write_failed.store(true, Ordering::Relaxed);
                Ok(offered)
            }
        }
    }

    fn write_failed(&self) -> bool {
        self.shared.write_failed.load(Ordering::Relaxed)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.probe.swap(false, Ordering::Relaxed) {
            this.probe()?;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.shared.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write_failed() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = ready!(Pin::new(&mut this.stream).poll_write(context, bytes));
        Poll::Ready(this.wrote(outcome, bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let offered = pieces.iter().map(|piece| piece.len()).sum();
        if this.write_failed() {
            return Poll::Ready(Ok(offered));
        }
        let outcome = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, pieces));
        Poll::Ready(this.wrote(outcome, offered))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.write_failed() {
            return Poll::Ready(Ok(()));
        }
        let outcome = ready!(Pin::new(&mut this.stream).poll_flush(context));
        Poll::Ready(this.wrote(outcome.map(|()| 0), 0).map(|_| ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Evaluates the same expression for whichever stream it is.
macro_rules! on_stream {
    ($value:expr, $kind:ident::{$one:ident, $other:ident}, $stream:ident => $result:expr) => {
        match $value {
            $kind::$one($stream) => $result,
            $kind::$other($stream) => $result,
        }
    };
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), Plain::{Tcp, Unix}, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), Plain::{Tcp, Unix}, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), Plain::{Tcp, Unix}, stream => Pin::new(stream).poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), Plain::{Tcp, Unix}, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), Plain::{Tcp, Unix}, stream => Pin::new(stream).poll_shutdown(context))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), Stream::{Plain, Tls}, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), Stream::{Plain, Tls}, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), Stream::{Plain, Tls}, stream => Pin::new(stream).poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), Stream::{Plain, Tls}, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), Stream::{Plain, Tls}, stream => Pin::new(stream).poll_shutdown(context))
    }
}
