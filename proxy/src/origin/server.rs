//! One server of a pool: its connections, of which each worker keeps its own, and the one bound on all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connected, Connector, Target};
use super::error::{OriginError, OriginFailure};
use super::health::Health;
use super::http1::{HeadLimits, Http1};
use super::http2::{Http2, Http2Stream};
use super::metrics::{OriginMetrics, ServerStatus};
use super::{Client, metrics};

/// A server.
pub(super) struct Server {
    /// As it is written in the configuration.
    pub(super) name: Arc<str>,
    /// What `Host` says where the origin wants its own.
    pub(super) authority: HeaderValue,
    pub(super) connector: Connector,
    pub(super) health: Health,
    pub(super) weight: f64,
    pub(super) metrics: Arc<OriginMetrics>,
    speaks: AtomicU8,
    bounds: Bounds,
    open: AtomicUsize,
    in_flight: AtomicUsize,
    queued: AtomicUsize,
    freed: Notify,
    workers: Box<[Worker]>,
}

/// The limits of a server's connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) queue: usize,
    pub(super) keep_alive: Duration,
    pub(super) head: HeadLimits,
    /// HTTP/2 whatever ALPN says, or by prior knowledge.
    pub(super) http2_only: bool,
    /// A connection carries one request only: it has said whom it is for.
    pub(super) one_request: bool,
}

/// What is known of the protocol before a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// ALPN will say.
    Unknown = 0,
    Http1 = 1,
    Http2 = 2,
}

/// A worker's own connections.
#[derive(Default)]
struct Worker {
    kept: Mutex<Kept>,
    /// Held while an HTTP/2 connection is made, so that a burst makes one and not one each.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    /// Idle ones, the one used last at the end.
    #[expect(
        clippy::vec_box,
        reason = "a connection is a kilobyte, and moves between the list and its request"
    )]
    http1: Vec<Box<Http1>>,
    http2: Vec<Http2>,
}

/// Something that takes one request.
pub(super) enum Line {
    Http1(Box<Http1>),
    Http2(Http2Stream),
}

impl Server {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another part of one description, named where it is called"
    )]
    pub(super) fn new(
        name: Arc<str>,
        authority: HeaderValue,
        connector: Connector,
        health: Health,
        weight: f64,
        speaks: Speaks,
        bounds: Bounds,
        workers: usize,
        metrics: Arc<OriginMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            authority,
            connector,
            health,
            weight,
            metrics,
            speaks: AtomicU8::new(speaks as u8),
            bounds,
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            freed: Notify::new(),
            workers: (0..workers.max(1)).map(|_| Worker::default()).collect(),
        })
    }

    /// A connection that the worker kept.
    pub(super) fn kept(&self, worker: usize, now: Instant) -> Option<Line> {
        self.take_kept(self.worker(worker), now)
    }

    /// A connection for one request: one that the worker kept, or else a new one. `fresh`: only a new one.
    pub(super) async fn line(
        self: &Arc<Self>,
        worker: usize,
        client: Option<Client>,
        fresh: bool,
    ) -> Result<Line, OriginError> {
        let own = self.worker(worker);
        if self.speaks.load(Ordering::Relaxed) != Speaks::Http1 as u8 {
            let _opening = own.opening.lock().await;
            if !fresh && let Some(line) = self.take_kept(own, Instant::now()) {
                return Ok(line);
            }
            let permit = self.permit(own).await?;
            return self.open(own, permit, client).await;
        }
        match self.permit_or_kept(own, fresh).await? {
            Ok(permit) => self.open(own, permit, client).await,
            Err(line) => Ok(line),
        }
    }

    /// What is spoken on a new connection.
    pub(super) fn is_http2(&self, connected: &Connected) -> bool {
        connected.h2 || self.bounds.http2_only
    }

    fn worker(&self, worker: usize) -> &Worker {
        &self.workers[worker % self.workers.len()]
    }

    /// The connection used last is the one least likely to have been closed, and lets the others expire.
    fn take_kept(&self, own: &Worker, now: Instant) -> Option<Line> {
        let mut kept = own.kept.lock();
        while let Some(connection) = kept.http1.pop() {
            if self.is_usable(&connection, now) {
                return Some(Line::Http1(connection));
            }
        }
        kept.http2.retain(|connection| !connection.is_closed());
        kept.http2.iter().find_map(Http2::stream).map(Line::Http2)
    }

    fn is_usable(&self, connection: &Http1, now: Instant) -> bool {
        let still_there = match (&self.connector.target, connection.address) {
            (Target::Host(addresses), Some(address)) => addresses.holds(address),
            _ => true,
        };
        still_there && now.saturating_duration_since(connection.idle_since) < self.bounds.keep_alive
    }

    /// Takes a connection back that owes nothing.
    pub(super) fn keep(&self, worker: usize, connection: Box<Http1>) {
        if self.bounds.one_request {
            return;
        }
        self.worker(worker).kept.lock().http1.push(connection);
        self.wake_one();
    }

    fn wake_one(&self) {
        if self.queued.load(Ordering::Relaxed) > 0 {
            self.freed.notify_one();
        }
    }

    async fn open(
        self: &Arc<Self>,
        own: &Worker,
        permit: Permit,
        client: Option<Client>,
    ) -> Result<Line, OriginError> {
        let connected = self.connector.connect(client).await?;
        self.metrics.connections_opened.fetch_add(1, Ordering::Relaxed);
        if self.is_http2(&connected) {
            self.speaks.store(Speaks::Http2 as u8, Ordering::Relaxed);
            let connection = Http2::new(connected.stream, permit, self.bounds.head.bytes).await?;
            let stream = connection.stream().ok_or(OriginFailure::Closed)?;
            if !self.bounds.one_request {
                own.kept.lock().http2.push(connection);
            }
            return Ok(Line::Http2(stream));
        }
        self.speaks.store(Speaks::Http1 as u8, Ordering::Relaxed);
        Ok(Line::Http1(Http1::new(connected.stream, connected.address, permit, self.bounds.head)))
    }

    /// A new HTTP/1.1 connection that will become a tunnel.
    pub(super) async fn tunnel_connection(
        self: &Arc<Self>,
        worker: usize,
        client: Option<Client>,
    ) -> Result<Box<Http1>, OriginError> {
        let permit = self.permit(self.worker(worker)).await?;
        let connected = self.connector.connect_http1(client).await?;
        self.metrics.connections_opened.fetch_add(1, Ordering::Relaxed);
        Ok(Http1::new(connected.stream, connected.address, permit, self.bounds.head))
    }

    /// The right to open a connection, whatever the bound says: for checks.
    pub(super) fn permit_always(self: &Arc<Self>) -> Permit {
        self.open.fetch_add(1, Ordering::Relaxed);
        Permit(Arc::clone(self))
    }

    fn try_permit(self: &Arc<Self>, own: &Worker) -> Option<Permit> {
        loop {
            let opened = self.open.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| {
                (open < self.bounds.connections).then_some(open + 1)
            });
            if opened.is_ok() {
                return Some(Permit(Arc::clone(self)));
            }
            // Another worker's idle connection gives way: it cannot be used here, but its place can.
            let idle = self.workers.iter().filter(|worker| !std::ptr::eq(*worker, own)).find_map(|worker| {
                let mut kept = worker.kept.lock();
                (!kept.http1.is_empty()).then(|| kept.http1.remove(0))
            });
            drop(idle?);
        }
    }

    async fn permit(self: &Arc<Self>, own: &Worker) -> Result<Permit, OriginError> {
        loop {
            if let Ok(permit) = self.permit_or_kept(own, true).await? {
                return Ok(permit);
            }
        }
    }

    /// Waits, in a bounded queue and for a bounded time, until there is a place or a kept connection.
    async fn permit_or_kept(
        self: &Arc<Self>,
        own: &Worker,
        fresh: bool,
    ) -> Result<Result<Permit, Line>, OriginError> {
        if let Some(permit) = self.try_permit(own) {
            return Ok(Ok(permit));
        }
        let queued = self.queued.fetch_add(1, Ordering::AcqRel);
        let _leave = Leave(self);
        if queued >= self.bounds.queue {
            return Err(OriginFailure::QueueFull.into());
        }
        self.metrics.queued.fetch_add(1, Ordering::Relaxed);
        let limit = Instant::now() + self.connector.limit;
        loop {
            let freed = self.freed.notified();
            // Asked again after the ticket is drawn: what was freed in between is not missed.
            if !fresh && let Some(line) = self.take_kept(own, Instant::now()) {
                return Ok(Err(line));
            }
            if let Some(permit) = self.try_permit(own) {
                return Ok(Ok(permit));
            }
            timeout_at(limit, freed).await.map_err(|_| OriginError::from(OriginFailure::QueueTimeout))?;
        }
    }

    /// Closes connections that have been idle for too long, or lead to where the server is no more.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for worker in &self.workers {
            let mut expired = Vec::new();
            let mut kept = worker.kept.lock();
            for at in (0..kept.http1.len()).rev() {
                if !self.is_usable(&kept.http1[at], now) {
                    expired.push(kept.http1.swap_remove(at));
                }
            }
            // The one used last belongs at the end.
            kept.http1.sort_by_key(|connection| connection.idle_since);
            kept.http2
                .retain(|connection| !connection.is_closed() && !connection.idle_for(self.bounds.keep_alive));
            drop(kept);
        }
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn requests(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn status(&self, now: Instant) -> ServerStatus {
        let state: metrics::ServerState = self.health.state(now);
        ServerStatus {
            server: Arc::clone(&self.name),
            state,
            connections: self.open.load(Ordering::Relaxed),
            requests: self.requests(),
        }
    }
}

/// A place among the open connections of a server.
pub(super) struct Permit(Arc<Server>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.wake_one();
    }
}

/// A request under way; counted until its answer has been read or given up.
pub(super) struct InFlight(Arc<Server>);

impl InFlight {
    pub(super) const fn server(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leaves the queue.
struct Leave<'a>(&'a Server);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}
