//! A line per request, written where no request waits for it.
//!
//! A worker hands over a compact record; nothing is formatted on its thread. One writer thread formats and writes. A full queue drops
//! the record and counts it, so that a blocked standard output costs lines and never time. Never logged: `Cookie`, `Authorization`, the values of
//! query parameters.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, StatusCode, Version};

/// What is known of a request once it has been answered. Every field is a copy that costs no allocation.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// When its head had been read.
    pub at: SystemTime,
    /// From then to the end of its answer.
    pub duration: Duration,
    /// Who asked: the client behind trusted proxies. `None`: a Unix socket.
    pub client: Option<IpAddr>,
    /// The protocol spoken with the client.
    pub version: Version,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Its method.
    pub method: Method,
    /// The authority asked for.
    pub host: Option<Authority>,
    /// The target; the values in its query are left out of the line.
    pub target: Option<PathAndQuery>,
    /// The answer's status.
    pub status: StatusCode,
    /// Bytes of content sent.
    pub bytes: u64,
    /// Whether the answer went out whole.
    pub complete: bool,
    /// The `Cache-Status` that was sent.
    pub cache: Option<HeaderValue>,
    /// The route that matched.
    pub route: Option<Arc<str>>,
    /// The origin server asked, `host:port`.
    pub origin: Option<Arc<str>>,
}
