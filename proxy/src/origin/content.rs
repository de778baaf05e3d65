//! A client's content on its way to an origin: bounded in size, in time and in the slowness of its sender.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::watch::Watch;
use crate::body::{Body, BodyError};
use crate::config::model::Limits;
use crate::gate;
use crate::incoming::Incoming;

/// Wraps what a client sends. `limit` is the route's, or the server's; content that says itself that it is larger is not even begun.
pub fn from_client(incoming: Incoming, limit: u64, limits: &Limits) -> Result<Body, BodyError> {
    if incoming.is_end_stream() {
        return Ok(Body::empty());
    }
    if incoming.size_hint().lower() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    Ok(Body::stream(ClientContent {
        incoming,
        left: limit,
        limit,
        bytes: 0,
        rate_bytes_min: limits.rate_bytes_min,
        rate_after: limits.rate_after,
        idle: limits.idle_timeout,
        fields_max: limits.head_fields,
        started: None,
        watch: Watch::new(),
    }))
}

struct ClientContent {
    incoming: Incoming,
    left: u64,
    limit: u64,
    bytes: u64,
    rate_bytes_min: u64,
    rate_after: Duration,
    idle: Duration,
    fields_max: usize,
    started: Option<Started>,
    watch: Watch,
}

#[derive(Clone, Copy)]
struct Started {
    at: Instant,
    last: Instant,
}

impl ClientContent {
    /// When the sender is too late, unless more comes: it may pause for `idle`, and after `rate_after` it must keep the minimum rate.
    fn deadline(&self, started: Started) -> Instant {
        let idle = started.last + self.idle;
        if self.rate_bytes_min == 0 {
            return idle;
        }
        let owed = Duration::from_secs(self.bytes / self.rate_bytes_min);
        idle.min((started.at + self.rate_after).max(started.at + owed) + Duration::from_secs(1))
    }
}

impl http_body::Body for ClientContent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                let now = Instant::now();
                this.started.get_or_insert(Started { at: now, last: now }).last = now;
                if let Some(data) = frame.data_ref() {
                    let length = data.len() as u64;
                    let Some(left) = this.left.checked_sub(length) else {
                        return Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.limit })));
                    };
                    this.left = left;
                    this.bytes += length;
                }
                if let Some(trailers) = frame.trailers_mut() {
                    gate::check_trailers(trailers, this.fields_max);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Client(Some(error))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let now = Instant::now();
                let started = *this.started.get_or_insert(Started { at: now, last: now });
                let deadline = this.deadline(started);
                if this.watch.is_past(deadline, context) {
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.incoming.size_hint();
        // What announced nothing and is still open is not taken for whole before it has ended.
        if hint.exact() == Some(0) && !self.is_end_stream() { SizeHint::default() } else { hint }
    }
}
