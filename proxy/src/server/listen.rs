//! Listening sockets: one per worker on the same port, and never on a port that another process has.
//!
//! With SO_REUSEPORT a second process of the same user would bind silently and take half of the connections. So the first socket is bound *without*
//! it, which fails if anybody has the port; only then is the option set, which lets our own further sockets in. There is no moment at which
//! the port is free. All of this happens before any worker accepts.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::model::ListenAddress;

/// Connections that wait to be accepted. The usual 128 costs a client a second's wait when many come at once.
const BACKLOG: i32 = 4_096;

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there, or this one does already.
    #[error("{address} is in use by another listener")]
    InUse {
        /// Where.
        address: String,
    },
    /// The path of a Unix socket is something else.
    #[error("`{path}` exists and is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Io {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// One socket for each worker.
#[derive(Debug)]
pub(super) struct Bound {
    /// With the port that was picked.
    pub(super) address: ListenAddress,
    pub(super) sockets: Vec<ListenSocket>,
}

#[derive(Debug)]
pub(super) enum ListenSocket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
}

/// Opens a listener for each of `workers`.
pub(super) fn bind(address: &ListenAddress, workers: usize) -> Result<Bound, ListenError> {
    match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, workers).map_err(|source| {
            let address = address.to_string();
            match source.kind() {
                io::ErrorKind::AddrInUse => ListenError::InUse { address },
                _ => ListenError::Io { address, source },
            }
        }),
        ListenAddress::Unix(path) => bind_unix(path, workers),
    }
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    let first = tcp_socket(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let picked = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![ListenSocket::Tcp(first.into())];
    for _ in 1..workers {
        let next = tcp_socket(picked)?;
        next.set_reuse_port(true)?;
        next.bind(&picked.into())?;
        next.listen(BACKLOG)?;
        sockets.push(ListenSocket::Tcp(next.into()));
    }
    Ok(Bound { address: ListenAddress::Tcp(picked), sockets })
}

/// Accepted sockets inherit these options on Linux, which saves calls for each connection.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    // A peer that vanished without a word while its request is under way.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10))
            .with_retries(3),
    )?;
    Ok(socket)
}

/// All workers accept from the same socket: for Unix sockets the kernel has no other way.
fn bind_unix(path: &Path, workers: usize) -> Result<Bound, ListenError> {
    let address = || format!("unix:{}", path.display());
    let failed = |source| ListenError::Io { address: address(), source };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        // A socket file outlives its process. Somebody who answers is alive; nobody who answers is a leftover.
        if UnixStream::connect(path).is_ok() {
            return Err(ListenError::InUse { address: address() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let name = socket2::SockAddr::unix(path).map_err(failed)?;
    socket.bind(&name).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    let first: UnixListener = socket.into();
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(ListenSocket::Unix(first.try_clone().map_err(failed)?));
    }
    sockets.push(ListenSocket::Unix(first));
    Ok(Bound { address: ListenAddress::Unix(path.to_owned()), sockets })
}
