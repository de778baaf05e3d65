//! The bytes to and from one origin server: TCP, a Unix socket, or TLS over either.
//!
//! Before a kept connection carries another request, the socket itself is asked whether anything has arrived on it: what came between two
//! answers is never read as the next one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

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

impl Stream {
    /// Whether the socket holds bytes, or the end of them, that no answer asked for. TLS keeps its own records (session tickets) in the
    /// socket; there, only what they decrypt to counts.
    pub(super) fn probe(&self) -> Result<(), Unasked> {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match self {
            Self::Plain(Plain::Tcp(stream)) => rustix::net::recv(stream, &mut byte[..], flags),
            Self::Plain(Plain::Unix(stream)) => rustix::net::recv(stream, &mut byte[..], flags),
            Self::Tls(_) => return Ok(()),
        };
        match peeked {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(_) | Ok((_, 0)) => Err(Unasked::End),
            Ok(_) => Err(Unasked::Bytes),
        }
    }
}

/// What an idle connection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unasked {
    /// It has ended.
    End,
    /// Bytes that nobody had asked for.
    Bytes,
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
