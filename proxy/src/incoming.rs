//! A request as it comes in, whatever it came over: its head, its content, and the way to take its connection over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::body::Cause;
use crate::server::pipe;
use crate::server::tunnel::Tunnel;

/// A request whose head has come in.
#[derive(Debug)]
pub struct Received {
    /// Its head as it came.
    pub parts: Parts,
    /// Its content, which comes when it is asked for.
    pub content: Incoming,
    /// The way to take the connection, or the HTTP/2 stream, over, where the request asks for that.
    pub upgrade: Option<OnUpgrade>,
}

impl Default for Received {
    fn default() -> Self {
        let (parts, ()) = Request::new(()).into_parts();
        Self { parts, content: Incoming::default(), upgrade: None }
    }
}

/// The content of a client's request. Nothing is read from the client before it is asked for.
#[derive(Debug, Default)]
pub struct Incoming(Inner);

#[derive(Debug, Default)]
enum Inner {
    #[default]
    Empty,
    Http1(pipe::Reader),
    Http2(hyper::body::Incoming),
}

impl From<pipe::Reader> for Incoming {
    fn from(reader: pipe::Reader) -> Self {
        Self(Inner::Http1(reader))
    }
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(incoming: hyper::body::Incoming) -> Self {
        Self(Inner::Http2(incoming))
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        match &mut self.get_mut().0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Http1(reader) => reader.poll_frame(context),
            Inner::Http2(incoming) => Pin::new(incoming)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(Cause::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Http1(reader) => reader.is_ended(),
            Inner::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Http1(reader) => reader.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Inner::Http2(incoming) => incoming.size_hint(),
        }
    }
}

/// Resolves to the bytes of a connection, or stream, that has left HTTP behind: after the answer that agreed to it.
#[derive(Debug)]
pub enum OnUpgrade {
    /// A connection of HTTP/1.1.
    Http1(oneshot::Receiver<Tunnel>),
    /// A stream of HTTP/2 (RFC 8441).
    Http2(hyper::upgrade::OnUpgrade),
}

impl OnUpgrade {
    /// Waits for the answer to have left. `None`: the connection ended before.
    pub async fn taken_over(self) -> Option<Upgraded> {
        match self {
            Self::Http1(handed_over) => {
                handed_over.await.ok().map(|tunnel| Upgraded::Http1(Box::new(tunnel)))
            }
            Self::Http2(upgrade) => {
                upgrade.await.ok().map(|upgraded| Upgraded::Http2(TokioIo::new(upgraded)))
            }
        }
    }
}

/// The client's side of a tunnel.
#[derive(Debug)]
pub enum Upgraded {
    /// A connection of HTTP/1.1.
    Http1(Box<Tunnel>),
    /// A stream of HTTP/2.
    Http2(TokioIo<hyper::upgrade::Upgraded>),
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(tunnel) => Pin::new(tunnel).poll_read(context, buffer),
            Self::Http2(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(tunnel) => Pin::new(tunnel).poll_write(context, bytes),
            Self::Http2(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(tunnel) => Pin::new(tunnel).poll_flush(context),
            Self::Http2(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(tunnel) => Pin::new(tunnel).poll_shutdown(context),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
