//! What is counted per origin. `metrics.rs` renders it; nothing here is formatted on the way of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::error::OriginFailure;

/// Counters of one origin, shared by all workers.
#[derive(Debug, Default)]
pub struct OriginMetrics {
    /// Requests handed to the origin, retries not counted.
    pub requests: AtomicU64,
    /// Requests that ended without a head of an answer, by kind.
    pub failures: FailureCounts,
    /// Further attempts within the budget.
    pub retries: AtomicU64,
    /// Attempts that the budget refused.
    pub retries_refused: AtomicU64,
    /// Requests repeated at once because a kept connection turned out to be closed.
    pub stale_connections: AtomicU64,
    /// Connections made.
    pub connections_opened: AtomicU64,
    /// Connections dropped because the origin sent more than an answer.
    pub excess_bytes: AtomicU64,
    /// Requests that wait for a connection now.
    pub queued: AtomicUsize,
    /// WebSockets open now.
    pub tunnels: AtomicUsize,
    /// Bytes that WebSockets carried, both ways.
    pub tunnel_bytes: AtomicU64,
    /// Time from request to head, in microseconds, summed.
    pub head_micros: AtomicU64,
}

/// One counter per kind of failure.
#[derive(Debug)]
pub struct FailureCounts([AtomicU64; FAILURES.len()]);

/// Every code of [`OriginFailure`], for labels.
pub const FAILURES: [&str; 20] = [
    "origin-no-server",
    "origin-queue-full",
    "origin-queue-timeout",
    "origin-name-unknown",
    "origin-name-timeout",
    "origin-refused",
    "origin-unreachable",
    "origin-connect-timeout",
    "origin-tls-protocol",
    "origin-tls-certificate",
    "origin-first-byte-timeout",
    "origin-idle-timeout",
    "origin-closed",
    "origin-malformed",
    "origin-answer",
    "origin-upgrade",
    "loop",
    "content-too-large",
    "content-too-slow",
    "content-broken",
];

impl Default for FailureCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl FailureCounts {
    /// Counts one.
    pub fn count(&self, failure: OriginFailure) {
        if let Some(at) = FAILURES.iter().position(|code| *code == failure.code()) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        FAILURES.iter().zip(&self.0).map(|(code, count)| (*code, count.load(Ordering::Relaxed)))
    }
}

/// How one server is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// As it is written in the configuration.
    pub server: Arc<str>,
    /// Whether it takes requests.
    pub state: ServerState,
    /// Open connections, idle ones among them.
    pub connections: usize,
    /// Requests under way.
    pub requests: usize,
}

/// Whether a server takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It does.
    Up,
    /// It is back, and gets less than its share yet.
    Starting,
    /// It failed too often in a row; one request will try it after the rest.
    Resting,
    /// Active checks fail.
    Unhealthy,
}

impl ServerState {
    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting => "starting",
            Self::Resting => "resting",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How an origin is at the moment, for `/metrics` and the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its servers in the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::ResponseFault;

    #[test]
    fn every_failure_has_its_counter() {
        let counts = FailureCounts::default();
        for failure in [
            OriginFailure::NoServer,
            OriginFailure::ContentBroken,
            OriginFailure::Answer(ResponseFault::Status),
        ] {
            counts.count(failure);
        }
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 3);
    }
}
