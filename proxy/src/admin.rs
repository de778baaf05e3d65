//! The admin listener: health, readiness, metrics, purge and reload.

use std::time::SystemTime;

use crate::metrics::Gauges;

/// What the admin listener asks of the proxy.
pub trait Control: Send + Sync + 'static {
    /// Whether requests are served as well as they can be.
    fn readiness(&self) -> Readiness;

    /// Makes stored responses unusable, at once.
    fn purge(&self, what: &Purge) -> Result<Receipt, PurgeError>;

    /// A summary for people and dashboards: caches, origins and their servers.
    fn status(&self) -> serde_json::Value;

    /// The values of gauges now.
    fn gauges(&self, into: &mut Gauges);
}

/// How well requests are served. Degraded is not an error: everything is answered, but with something missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What is missing, each a sentence such as "origin `app`: no healthy server". Empty: ready.
    pub degraded: Vec<String>,
}

/// What is purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Every variant stored for the URL, of every method.
    Url(http::Uri),
    /// All there is.
    Everything,
}

/// Says that a purge is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Stored responses it reached, where that is known when it returns.
    pub responses: Option<u64>,
    /// From when on nothing older is served.
    pub at: SystemTime,
}

/// Why a purge was refused.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The URL has no scheme or no authority, and so names no stored response.
    #[error("`{url}` is not an absolute http or https URL")]
    NotAbsolute {
        /// What was given.
        url: String,
    },
}
