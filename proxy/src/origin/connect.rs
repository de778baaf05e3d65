//! Making a connection: name, socket, PROXY header, TLS. One time limit spans all of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::Client;
use super::error::{OriginError, OriginFailure};
use super::io::{Plain, Stream};
use super::proxy_header;
use super::resolve::Addresses;

/// With several addresses, one that does not answer delays the next by at least this much.
const ADDRESS_PATIENCE: Duration = Duration::from_millis(250);

/// How to reach one server.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    pub(super) proxy_protocol: Option<u8>,
    pub(super) limit: Duration,
}

/// How to speak TLS to it.
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    /// Offers HTTP/1.1 only: for WebSockets.
    pub(super) http1: TlsConnector,
    pub(super) name: ServerName<'static>,
}

pub(super) enum Target {
    Host(Arc<Addresses>),
    Unix(std::path::PathBuf),
}

/// A connection that is ready to speak.
pub(super) struct Connected {
    pub(super) stream: Stream,
    /// TLS agreed on HTTP/2.
    pub(super) h2: bool,
    /// The address, where it is TCP.
    pub(super) address: Option<SocketAddr>,
}

impl Connector {
    /// Connects. `client` are the ends of the client's connection, for the PROXY header.
    pub(super) async fn connect(&self, client: Option<Client>) -> Result<Connected, OriginError> {
        self.connect_with(client, self.tls.as_ref().map(|tls| (&tls.connector, &tls.name))).await
    }

    /// Connects, and offers nothing but HTTP/1.1.
    pub(super) async fn connect_http1(&self, client: Option<Client>) -> Result<Connected, OriginError> {
        self.connect_with(client, self.tls.as_ref().map(|tls| (&tls.http1, &tls.name))).await
    }

    async fn connect_with(
        &self,
        client: Option<Client>,
        tls: Option<(&TlsConnector, &ServerName<'static>)>,
    ) -> Result<Connected, OriginError> {
        let limit = Instant::now() + self.limit;
        let (mut plain, address) = self.socket(limit).await?;
        let late = |_| OriginError::from(OriginFailure::ConnectTimeout);
        if let Some(version) = self.proxy_protocol {
            let header = proxy_header::encode(version, client);
            timeout_at(limit, plain.write_all(&header))
                .await
                .map_err(late)?
                .map_err(|error| failed(&error).because(error))?;
        }
        let Some((connector, name)) = tls else {
            return Ok(Connected { stream: Stream::Plain(plain), h2: false, address });
        };
        let handshake = connector.connect(name.clone(), plain);
        let stream = timeout_at(limit, handshake).await.map_err(late)?.map_err(tls_failed)?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connected { stream: Stream::Tls(Box::new(stream)), h2, address })
    }

    async fn socket(&self, limit: Instant) -> Result<(Plain, Option<SocketAddr>), OriginError> {
        let addresses = match &self.target {
            Target::Unix(path) => {
                let connecting = timeout_at(limit, UnixStream::connect(path));
                let connected = connecting.await.map_err(|_| OriginFailure::ConnectTimeout)?;
                let stream = connected.map_err(|error| failed(&error).because(error))?;
                return Ok((Plain::Unix(stream), None));
            }
            Target::Host(addresses) => addresses,
        };
        let addresses =
            timeout_at(limit, addresses.all()).await.map_err(|_| OriginFailure::NameTimeout)??;
        let mut last = OriginError::from(OriginFailure::NameUnknown);
        for (at, &address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let others = u32::try_from(addresses.len() - at - 1).unwrap_or(u32::MAX);
            // The last one has all that is left; each earlier one a fair part of it.
            let part = limit.saturating_duration_since(now) / others.saturating_add(1);
            let until = if others == 0 { limit } else { limit.min(now + part.max(ADDRESS_PATIENCE)) };
            match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it, a head and a body in two segments may wait 40 ms for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok((Plain::Tcp(stream), Some(address)));
                }
                Ok(Err(error)) => last = failed(&error).because(error),
                Err(_) => last = OriginFailure::ConnectTimeout.into(),
            }
        }
        Err(last)
    }
}

fn failed(error: &io::Error) -> OriginError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => OriginFailure::Refused,
        io::ErrorKind::TimedOut => OriginFailure::ConnectTimeout,
        _ => OriginFailure::Unreachable,
    }
    .into()
}

fn tls_failed(error: io::Error) -> OriginError {
    let about_certificate =
        error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|error| {
            matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        });
    let failure = if about_certificate { OriginFailure::TlsCertificate } else { OriginFailure::TlsProtocol };
    OriginError::from(failure).because(error)
}
