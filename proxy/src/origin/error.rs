//! How a request to an origin fails: one closed list, which decides the status, the retry and the health of the server.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::body::BodyError;
use crate::gate::ResponseFault;

/// A failed request to an origin. Cheap to clone: everyone who waited for the same fill gets it.
#[derive(Debug, Clone)]
pub struct OriginError {
    /// What happened.
    pub failure: OriginFailure,
    /// The server, where one was chosen.
    pub server: Option<Arc<str>>,
    /// What the operating system, TLS or hyper said.
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginFailure {
    /// Every server of the pool rests or is unhealthy.
    NoServer,
    /// More requests wait for a connection than `max_queue`.
    QueueFull,
    /// No connection came free in time.
    QueueTimeout,
    /// The name of the server has no address.
    NameUnknown,
    /// The resolver did not answer.
    NameTimeout,
    /// The server refused the connection.
    Refused,
    /// No way to the server, or any other failure to connect.
    Unreachable,
    /// The server did not accept in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    TlsProtocol,
    /// The server's certificate was not accepted.
    TlsCertificate,
    /// No answer in time.
    FirstByteTimeout,
    /// The server did not take the request's content in time.
    IdleTimeout,
    /// The connection ended before an answer.
    Closed,
    /// What came is not HTTP.
    Malformed,
    /// The gate did not take the answer.
    Answer(ResponseFault),
    /// The WebSocket handshake was answered wrongly.
    Upgrade,
    /// The request has been here before, too often.
    Loop,
    /// The client's content is larger than allowed.
    ContentTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The client's content came too slowly.
    ContentTooSlow,
    /// The client's content broke off.
    ContentBroken,
}

impl OriginFailure {
    /// A short name for logs and metrics; it never changes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoServer => "origin-no-server",
            Self::QueueFull => "origin-queue-full",
            Self::QueueTimeout => "origin-queue-timeout",
            Self::NameUnknown => "origin-name-unknown",
            Self::NameTimeout => "origin-name-timeout",
            Self::Refused => "origin-refused",
            Self::Unreachable => "origin-unreachable",
            Self::ConnectTimeout => "origin-connect-timeout",
            Self::TlsProtocol => "origin-tls-protocol",
            Self::TlsCertificate => "origin-tls-certificate",
            Self::FirstByteTimeout => "origin-first-byte-timeout",
            Self::IdleTimeout => "origin-idle-timeout",
            Self::Closed => "origin-closed",
            Self::Malformed => "origin-malformed",
            Self::Answer(_) => "origin-answer",
            Self::Upgrade => "origin-upgrade",
            Self::Loop => "loop",
            Self::ContentTooLarge { .. } => "content-too-large",
            Self::ContentTooSlow => "content-too-slow",
            Self::ContentBroken => "content-broken",
        }
    }

    /// Whether it speaks against the server's health.
    pub const fn counts_against_server(self) -> bool {
        match self {
            Self::NameUnknown
            | Self::NameTimeout
            | Self::Refused
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::TlsProtocol
            | Self::TlsCertificate
            | Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::Closed
            | Self::Malformed
            | Self::Answer(_) => true,
            Self::NoServer
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Upgrade
            | Self::Loop
            | Self::ContentTooLarge { .. }
            | Self::ContentTooSlow
            | Self::ContentBroken => false,
        }
    }

    /// Whether no byte of the request can have reached a server: such a request may always be tried elsewhere.
    pub const fn before_sending(self) -> bool {
        matches!(
            self,
            Self::NameUnknown
                | Self::NameTimeout
                | Self::Refused
                | Self::Unreachable
                | Self::ConnectTimeout
                | Self::TlsProtocol
                | Self::TlsCertificate
                | Self::QueueFull
                | Self::QueueTimeout
        )
    }

    /// What the client's own content did.
    pub(crate) const fn of_content(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::ContentTooLarge { limit: *limit },
            BodyError::Idle => Self::ContentTooSlow,
            BodyError::Client(_) | BodyError::Origin(_) | BodyError::FillEnded => Self::ContentBroken,
        }
    }
}

impl fmt::Display for OriginFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer => out.write_str("no server of the pool is healthy"),
            Self::QueueFull => out.write_str("too many requests wait for a connection"),
            Self::QueueTimeout => out.write_str("no connection came free in time"),
            Self::NameUnknown => out.write_str("the name has no address"),
            Self::NameTimeout => out.write_str("the name was not resolved in time"),
            Self::Refused => out.write_str("the connection was refused"),
            Self::Unreachable => out.write_str("the connection could not be made"),
            Self::ConnectTimeout => out.write_str("the connection was not accepted in time"),
            Self::TlsProtocol => out.write_str("the TLS handshake failed"),
            Self::TlsCertificate => out.write_str("the certificate was not accepted"),
            Self::FirstByteTimeout => out.write_str("there was no answer in time"),
            Self::IdleTimeout => out.write_str("the content of the request was not taken in time"),
            Self::Closed => out.write_str("the connection ended before an answer"),
            Self::Malformed => out.write_str("the answer is not HTTP"),
            Self::Answer(fault) => write!(out, "the answer was not taken: {fault}"),
            Self::Upgrade => out.write_str("the WebSocket handshake was answered wrongly"),
            Self::Loop => out.write_str("the request has passed this proxy too often"),
            Self::ContentTooLarge { limit } => {
                write!(out, "the content of the request exceeds {limit} bytes")
            }
            Self::ContentTooSlow => out.write_str("the content of the request came too slowly"),
            Self::ContentBroken => out.write_str("the content of the request is broken"),
        }
    }
}

impl OriginError {
    /// Names the server.
    pub fn at(mut self, server: impl Into<Arc<str>>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// Names the cause.
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }
}

impl From<OriginFailure> for OriginError {
    fn from(failure: OriginFailure) -> Self {
        Self { failure, server: None, cause: None }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Some(server) => write!(out, "origin server `{server}`: {}", self.failure),
            None => self.failure.fmt(out),
        }
    }
}

impl Error for OriginError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}
