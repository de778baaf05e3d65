//! Active health checks: each server is asked in its own rhythm, over a connection of its own.

use std::sync::{Arc, Weak};

use http::{Request, header};
use tokio::time::{Instant, timeout};

use super::error::OriginError;
use super::health::Streak;
use super::http1::{HeadLimits, Http1, Lines, Patience, RequestHead};
use super::http2::Http2;
use super::interim::Interims;
use super::server::Server;
use crate::body::Body;
use crate::config::model::HealthCheck;

/// Limits of the answer to a check.
const HEAD_LIMITS: HeadLimits = HeadLimits { bytes: 32 << 10, fields: 100 };

/// Checks for as long as the server is in use.
pub(super) async fn run(server: Weak<Server>, check: HealthCheck) {
    let mut streak = Streak::new(check.unhealthy_after, check.healthy_after);
    loop {
        {
            let Some(server) = server.upgrade() else { return };
            let outcome = timeout(check.timeout, ask(&server, &check)).await;
            let passed = matches!(outcome, Ok(Ok(true)));
            let healthy = streak.count(passed);
            if server.health.checked(healthy, Instant::now()) {
                if healthy {
                    tracing::info!(server.address = %server.name, "server is healthy again");
                } else {
                    tracing::warn!(server.address = %server.name, "server is unhealthy");
                }
            }
        }
        tokio::time::sleep(check.every).await;
    }
}

/// Whether the answer is 2xx or 3xx.
async fn ask(server: &Arc<Server>, check: &HealthCheck) -> Result<bool, OriginError> {
    let connected = server.connector.connect(None).await?;
    let permit = server.permit_always();
    let interims = Interims::new(1, None);
    let patience = Patience { first_byte: check.timeout, idle: check.timeout };
    let request = |target: String| {
        Request::get(target)
            .header(header::USER_AGENT, "weir health check")
            .body(Body::empty())
            .map_err(|_| OriginError::from(super::OriginFailure::Malformed))
    };
    let status = if server.is_http2(&connected) {
        let scheme = if server.connector.tls.is_some() { "https" } else { "http" };
        let authority = server.authority.to_str().unwrap_or("localhost");
        let connection = Http2::new(connected.stream, permit, HEAD_LIMITS.bytes).await?;
        let stream = connection.stream().ok_or(super::OriginFailure::Closed)?;
        let request = request(format!("{scheme}://{authority}{}", check.path))?;
        let answer = stream.exchange(request, &mut None, &interims, patience).await;
        answer.map_err(|failed| failed.failure)?.0.status()
    } else {
        let mut connection = Http1::new(connected.stream, connected.address, permit, HEAD_LIMITS);
        let request = request(check.path.clone())?;
        let head = RequestHead {
            method: request.method(),
            target: request.uri().path_and_query().ok_or(super::OriginFailure::Malformed)?,
            host: &server.authority,
            fields: Lines::Map(request.headers()),
            takes_trailers: false,
            websocket: None,
        };
        let answer = connection.exchange(head, &mut None, &interims, patience, Instant::now()).await;
        answer.map_err(|failed| failed.failure)?.head.status
    };
    Ok(status.is_success() || status.is_redirection())
}
