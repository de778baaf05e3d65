//! What is known of a client's connection, for as long as it lasts.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// A client's connection: shared by the I/O wrapper, the server and every request on it.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end: of the socket, or as the PROXY header of a trusted peer says. `None`: a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Our own end, likewise.
    pub local: Option<SocketAddr>,
    /// The other end of the socket itself.
    pub socket_peer: Option<SocketAddr>,
    /// What TLS agreed on; `None` is cleartext.
    pub tls: Option<TlsFacts>,
    /// Interim responses that wait to be written (HTTP/1.1 only).
    pub interim: Interim,
}

impl Connection {
    /// `https` or `http`.
    pub fn scheme(&self) -> http::uri::Scheme {
        if self.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }
}

/// What TLS agreed on.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// The name asked for.
    pub server_name: Option<Arc<str>>,
    /// `TLSv1.3` and the like.
    pub version: &'static str,
}

/// A slot for interim responses. hyper's server cannot send a 103, so the I/O wrapper writes what it finds here when it is asked to
/// flush: at that moment all earlier answers have left, and the final head of this one is not made yet.
#[derive(Debug, Default)]
pub struct Interim(Mutex<Bytes>);

impl Interim {
    /// Adds a checked interim head, complete with its empty line.
    pub fn push(&self, head: &[u8]) {
        let mut waiting = self.0.lock();
        *waiting = [&waiting[..], head].concat().into();
    }

    /// Takes what waits. The pipeline calls this before it answers, so that an interim head is never written after the final one.
    pub fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock())
    }
}
