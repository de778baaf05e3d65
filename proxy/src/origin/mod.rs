//! The way to an origin: choosing a server, a connection, sending, trying again.

mod balance;
mod check;
mod connect;
pub mod content;
pub mod error;
pub mod headers;
mod health;
mod http1;
mod http2;
mod interim;
mod io;
pub mod metrics;
mod proxy_header;
mod resolve;
mod retry;
mod sending;
mod server;
pub(crate) mod tls;
mod tunnel;
mod upgrade;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub use error::{OriginError, OriginFailure};
pub use headers::{OriginFields, Sender};
pub use metrics::{OriginMetrics, OriginStatus};

use crate::body::Body;
use crate::config::model::{self, OriginAddress, OriginProtocol};
use crate::drill::{self, Fault};
use crate::gate::{self, Asked, Authority, WebSocketAsk};
use crate::incoming::OnUpgrade;
use crate::limit::{Held, Meter};
use balance::{Candidate, Turns};
use connect::{Connector, Target, Tls};
use health::{Health, Probe};
use http1::{Home, Patience};
use interim::Interims;
use resolve::Addresses;
use retry::Budget;
use server::{Bounds, Line, Server, Speaks};

/// Who hears of interim responses.
pub type OnInterim = Arc<dyn HearsInterim>;

/// Is told of each 103 (Early Hints), as it arrives.
pub trait HearsInterim: Send + Sync {
    /// Takes one note of; it is told within the task that reads the connection, and does not wait.
    fn hear(&self, status: StatusCode, headers: &HeaderMap);
}

/// The client's address, and our own that it connected to.
pub type Client = (SocketAddr, SocketAddr);

/// A request on its way to an origin.
pub struct Outgoing {
    /// All but its content.
    pub head: OutgoingHead,
    /// Its content.
    pub body: Body,
}

/// What is the same in every attempt.
pub struct OutgoingHead {
    /// Its method.
    pub method: Method,
    /// Its target, as it is keyed.
    pub target: PathAndQuery,
    /// What `Host` says, unless the origin has `own_host`.
    pub authority: Authority,
    /// Its fields.
    pub fields: OriginFields,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// Who hears of a 103.
    pub on_interim: Option<OnInterim>,
    /// The client's wish to speak WebSocket, where the route allows it, and the client's side of it. In a box: it is rare, and half as large as all the rest.
    pub websocket: Option<Box<(WebSocketAsk, OnUpgrade, TunnelTerms)>>,
    /// The client's address and our own, for an origin that wants a PROXY header.
    pub client: Option<Client>,
}

/// What holds for a WebSocket as long as it is open.
#[derive(Debug, Default)]
pub struct TunnelTerms {
    /// Its places in limits.
    pub held: Vec<Held>,
    /// What counts its client's messages.
    pub meter: Option<Meter>,
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
    /// No name servers to be asked.
    #[error("`resolvers` cannot be used")]
    Resolvers,
    /// A name that cannot be sent as `Host`.
    #[error("`{name}` is not a host")]
    Host {
        /// The name.
        name: String,
    },
    /// A name that cannot be put into SNI.
    #[error("`{name}` is not a name that a certificate can be checked for")]
    ServerName {
        /// The name.
        name: String,
    },
}

/// One `[origin.NAME]`: its servers and the connections to them. Kept across a reload that leaves its table as it is.
pub struct Origin {
    spec: Arc<model::Origin>,
    limits: model::Limits,
    servers: Vec<Arc<Server>>,
    turns: Mutex<Turns>,
    turn: AtomicUsize,
    budget: Budget,
    metrics: Arc<OriginMetrics>,
}

impl Origin {
    /// Sets an origin up. Name lookups, health checks and the closing of idle connections run on `background` for as long as it lives.
    pub fn new(
        spec: Arc<model::Origin>,
        limits: &model::Limits,
        workers: usize,
        background: &Handle,
    ) -> Result<Arc<Self>, OriginSetupError> {
        let resolvers = if spec.resolvers.is_empty() {
            None
        } else {
            Some(resolve::asking(&spec.resolvers).ok_or(OriginSetupError::Resolvers)?)
        };
        let reach = Reach { tls: tls::client_config(&spec)?, resolvers };
        let metrics = Arc::new(OriginMetrics::default());
        let servers: Result<Vec<_>, _> = spec
            .servers
            .iter()
            .map(|server| set_up(&spec, server, &reach, limits, workers, background, &metrics))
            .collect();
        let origin = Arc::new(Self {
            limits: limits.clone(),
            servers: servers?,
            turns: Mutex::default(),
            turn: AtomicUsize::new(0),
            budget: Budget::new(spec.retry.budget),
            metrics,
            spec,
        });
        background.spawn(sweep(Arc::downgrade(&origin), origin.spec.timeouts.keep_alive));
        if let Some(check) = &origin.spec.health {
            for server in &origin.servers {
                background.spawn(check::run(Arc::downgrade(server), check.clone()));
            }
        }
        Ok(origin)
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
        let now = Instant::now();
        OriginStatus {
            name: Arc::clone(&self.spec.name),
            servers: self.servers.iter().map(|server| server.status(now)).collect(),
        }
    }

    /// Sends a request and yields the answer as soon as its head is there. Runs on a worker's runtime.
    ///
    /// Dropping the future, or the answer's content before its end, closes the connection. The request stays where it is, so that the future
    /// is small; its content, and who hears of interim responses, are taken out of it.
    pub async fn forward(
        self: &Arc<Self>,
        worker: usize,
        outgoing: &mut Outgoing,
    ) -> Result<Answered, OriginError> {
        let started = Instant::now();
        self.metrics.requests.fetch_add(1, Ordering::Relaxed);
        self.budget.pay();
        let Outgoing { head, body } = outgoing;
        let outcome = if drill::is(Fault::OriginDown) {
            // Of the servers this says nothing: they are well when it is over.
            Err(OriginFailure::Refused.into())
        } else if head.websocket.is_some() {
            // Boxed: it is rare, and larger than all the rest of this future.
            let upgraded = Box::pin(self.upgrade(worker, head)).await;
            upgraded.map(|(response, server)| (response, server, Came { at: Instant::now(), attempts: 1 }))
        } else {
            self.exchange(worker, head, std::mem::take(body), started).await
        };
        match outcome {
            Ok((response, server, Came { at, attempts })) => {
                let head_after = at - started;
                let micros = u64::try_from(head_after.as_micros()).unwrap_or(u64::MAX);
                self.metrics.head_micros.fetch_add(micros, Ordering::Relaxed);
                Ok(Answered { response, server: Arc::clone(&server.name), head_after, attempts })
            }
            Err(error) => {
                self.metrics.failures.count(error.failure);
                Err(error)
            }
        }
    }

    async fn exchange(
        &self,
        worker: usize,
        head: &mut OutgoingHead,
        body: Body,
        started: Instant,
    ) -> Result<(Response<Body>, &Arc<Server>, Came), OriginError> {
        if head.fields.is_loop() {
            return Err(OriginFailure::Loop.into());
        }
        let asked = head.fields.asked(&head.method);
        let interims = Interims::new(self.limits.interim_responses, head.on_interim.take());
        let head = &*head;
        // What has content is sent once: content is read once.
        let resendable =
            self.spec.retry.attempts > 0 && body.is_end_stream() && retry::is_idempotent(&head.method);
        let mut body = Some(body);
        let mut tried = Tried::default();
        let mut attempts = 1;
        let mut chosen = self.choose(&tried, head, started).ok_or(OriginFailure::NoServer)?;

        loop {
            let (server, probe) = chosen;
            let fresh = tried.was_stale(server.index);
            let now = if attempts == 1 && !fresh { started } else { Instant::now() };
            let attempt = Attempt { worker, fresh, asked: &asked, interims: &interims, now };
            let failed = match self.attempt(server.server, head, &mut body, &attempt).await {
                Ok((response, at)) => {
                    server.server.health.succeeded();
                    return Ok((response, server.server, Came { at, attempts }));
                }
                Err(failed) => failed,
            };
            drop(probe);
            let repeatable = retry::may_repeat(failed.error.failure, body.is_some(), resendable);
            if failed.kept && repeatable && !fresh && failed.error.failure == OriginFailure::Closed {
                // The server closed a connection that lay idle. That is its right, and says nothing of the request or the server.
                self.metrics.stale_connections.fetch_add(1, Ordering::Relaxed);
                tried.stale(server.index);
                chosen = (server, None);
                continue;
            }
            if failed.error.failure.counts_against_server() && server.server.health.failed(Instant::now()) {
                tracing::warn!(server.address = %server.server.name, error.type = failed.error.failure.code(), "server rests after failures in a row");
            }
            let error = failed.error.at(Arc::clone(&server.server.name));
            tried.add(server.index);
            let elsewhere = self.servers.len() > 1;
            let worth_it = elsewhere || error.failure == OriginFailure::Closed;
            if !repeatable || !worth_it || attempts > self.spec.retry.attempts {
                return Err(error);
            }
            chosen = if elsewhere {
                let Some(other) = self.choose(&tried, head, Instant::now()) else { return Err(error) };
                other
            } else {
                (server, None)
            };
            // Where no connection came about, no server has had the work: trying another one multiplies nothing.
            if !error.failure.before_sending() && !self.budget.take() {
                self.metrics.retries_refused.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
            self.metrics.retries.fetch_add(1, Ordering::Relaxed);
            attempts += 1;
            tracing::debug!(error = %error, attempts, "trying again");
        }
    }

    /// One request on one connection; and when its answer's head came.
    async fn attempt(
        &self,
        server: &Arc<Server>,
        head: &OutgoingHead,
        body: &mut Option<Body>,
        attempt: &Attempt<'_>,
    ) -> Result<(Response<Body>, Instant), FailedAttempt> {
        let in_flight = server.begin();
        let home = Home { worker: attempt.worker, in_flight };
        let line = match (!attempt.fresh).then(|| server.kept(attempt.worker, attempt.now)).flatten() {
            Some(line) => line,
            // Boxed: connecting is rare, and a large future.
            None => match Box::pin(server.line(attempt.worker, head.client, attempt.fresh)).await {
                Ok(line) => line,
                Err(error) => return Err(FailedAttempt { error, kept: false }),
            },
        };
        let patience = Patience { first_byte: self.spec.timeouts.first_byte, idle: self.spec.timeouts.idle };
        match line {
            Line::Http1(mut connection) => {
                let kept = connection.kept;
                let host = head.host(server, self.spec.own_host);
                let request = head.http1(&host);
                let answer =
                    connection.exchange(request, body, attempt.interims, patience, attempt.now).await;
                if connection.had_excess() {
                    self.metrics.excess_bytes.fetch_add(1, Ordering::Relaxed);
                }
                let http1::Answer { head: mut parts, framing, persists } =
                    answer.map_err(|failed| FailedAttempt::of(failed, kept))?;
                let gated = gate::check_response(&mut parts, attempt.asked, &self.limits)
                    .map_err(|fault| FailedAttempt::of(OriginFailure::Answer(fault).into(), kept))?;
                let close_after = gated.close_after || !persists;
                let now = Instant::now();
                let content = http1::content(framing, connection, home, close_after, patience.idle, now);
                Ok((Response::from_parts(parts, content), now))
            }
            Line::Http2(stream) => {
                let request = head
                    .http2(server, self.spec.own_host, body.take().unwrap_or_default())
                    .map_err(|failed| FailedAttempt::of(failed, false))?;
                // Boxed: three times as large as the other way, whose every request would carry the room for it.
                let answer = Box::pin(stream.exchange(request, body, attempt.interims, patience)).await;
                let (response, guard) = answer.map_err(|failed| FailedAttempt::of(failed, true))?;
                let (mut parts, incoming) = response.into_parts();
                gate::check_response(&mut parts, attempt.asked, &self.limits)
                    .map_err(|fault| FailedAttempt::of(OriginFailure::Answer(fault).into(), true))?;
                let content = http2::content(incoming, guard, home, patience.idle, self.limits.head_fields);
                Ok((Response::from_parts(parts, content), Instant::now()))
            }
        }
    }

    /// Chooses a server that has not been tried: one whose rest is over first, then by the rule of the pool.
    fn choose(
        &self,
        tried: &Tried,
        head: &OutgoingHead,
        now: Instant,
    ) -> Option<(Chosen<'_>, Option<Probe<'_>>)> {
        let at = |index: usize| Chosen { index, server: &self.servers[index] };
        if let [only] = &self.servers[..] {
            return only.health.is_up().then(|| (at(0), None));
        }
        let untried = || self.servers.iter().enumerate().filter(|(index, _)| !tried.has(*index));
        let probe = |impatient| {
            untried().find_map(|(index, server)| {
                server.health.probe(now, impatient).map(|probe| (at(index), Some(probe)))
            })
        };
        if let Some(probed) = probe(false) {
            return Some(probed);
        }
        let candidates: Vec<Candidate> = untried()
            .filter(|(_, server)| server.health.is_up())
            .map(|(index, server)| Candidate {
                index,
                weight: server.weight * server.health.share(now),
                requests: server.requests(),
            })
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let hash = if self.spec.balance == model::Balance::Hash { head.hash() } else { 0 };
        match balance::choose(self.spec.balance, &candidates, &mut self.turns.lock(), turn, hash) {
            Some(index) => Some((at(index), None)),
            None => probe(true),
        }
    }
}

/// How an answer came about.
struct Came {
    /// When its head was there.
    at: Instant,
    /// One, and one more for each retry.
    attempts: u32,
}

/// A server and its place in the pool.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    index: usize,
    server: &'a Arc<Server>,
}

/// Which servers a request has been to. Pools of more than 64 servers are tried again from the 65th on, which the budget bounds.
#[derive(Default)]
struct Tried {
    failed: u64,
    stale: u64,
}

impl Tried {
    fn bit(index: usize) -> u64 {
        u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
    }

    fn add(&mut self, index: usize) {
        self.failed |= Self::bit(index);
    }

    fn has(&self, index: usize) -> bool {
        self.failed & Self::bit(index) != 0
    }

    fn stale(&mut self, index: usize) {
        self.stale |= Self::bit(index);
    }

    fn was_stale(&self, index: usize) -> bool {
        self.stale & Self::bit(index) != 0
    }
}

/// What one attempt needs besides the request.
struct Attempt<'a> {
    worker: usize,
    /// Only a new connection will do.
    fresh: bool,
    asked: &'a Asked,
    interims: &'a Interims,
    /// When it began.
    now: Instant,
}

/// An attempt that failed.
struct FailedAttempt {
    error: OriginError,
    /// The connection had carried an answer before.
    kept: bool,
}

impl FailedAttempt {
    fn of(failed: http1::Failed, kept: bool) -> Self {
        let mut error = OriginError::from(failed.failure);
        if let Some(cause) = failed.cause {
            error.cause = Some(cause.into());
        }
        Self { error, kept }
    }
}

impl OutgoingHead {
    fn host(&self, server: &Server, own_host: bool) -> HeaderValue {
        if own_host { server.authority.clone() } else { self.authority.to_value() }
    }

    fn http1<'r>(&'r self, host: &'r HeaderValue) -> http1::RequestHead<'r> {
        http1::RequestHead {
            method: &self.method,
            target: &self.target,
            host,
            fields: http1::Lines::Made(&self.fields, &self.authority),
            takes_trailers: self.takes_trailers,
            websocket: None,
        }
    }

    /// A number that is the same for the same URL.
    fn hash(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.authority.as_bytes().hash(&mut hasher);
        self.target.as_str().hash(&mut hasher);
        hasher.finish()
    }

    fn http2(&self, server: &Server, own_host: bool, body: Body) -> Result<Request<Body>, http1::Failed> {
        let mut fields = self.fields.to_map(&self.authority);
        frame(&self.method, &mut fields, &body);
        for name in [header::HOST, header::TRANSFER_ENCODING, header::CONNECTION] {
            fields.remove(name);
        }
        if self.takes_trailers {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if server.connector.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = http::uri::Authority::try_from(self.host(server, own_host).as_bytes()).ok();
        uri.path_and_query = Some(self.target.clone());
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| OriginFailure::Malformed)?;
        *request.headers_mut() = fields;
        *request.version_mut() = http::Version::HTTP_2;
        Ok(request)
    }
}

/// Says how long the content is, as it really is; what the client had said of it is forgotten.
fn frame(method: &Method, fields: &mut HeaderMap, body: &Body) {
    match body.exact_len() {
        // RFC 9110 §8.6: a method that gives content a meaning says "0" where there is none; others say nothing.
        Some(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            fields.remove(header::CONTENT_LENGTH);
        }
        Some(length) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            fields.remove(header::CONTENT_LENGTH);
        }
    }
}

/// How the servers of an origin are reached.
struct Reach {
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Who knows their addresses; `None`: whom the system asks.
    resolvers: Option<Arc<[TokioResolver]>>,
}

fn set_up(
    spec: &model::Origin,
    server: &model::OriginServer,
    reach: &Reach,
    limits: &model::Limits,
    workers: usize,
    background: &Handle,
    metrics: &Arc<OriginMetrics>,
) -> Result<Arc<Server>, OriginSetupError> {
    let (target, authority) = match &server.address {
        OriginAddress::Host(host, port) => {
            let default = if server.tls { 443 } else { 80 };
            let authority = if *port == default { host.clone() } else { format!("{host}:{port}") };
            (Target::Host(Addresses::new(host, *port, reach.resolvers.clone(), background)), authority)
        }
        OriginAddress::Unix(path) => (Target::Unix(path.clone()), "localhost".to_owned()),
    };
    let name = match &server.address {
        OriginAddress::Host(..) => format!("{}://{authority}", if server.tls { "https" } else { "http" }),
        OriginAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    let connector_tls = match reach.tls.as_ref().filter(|_| server.tls) {
        Some(config) => Some(Tls {
            connector: TlsConnector::from(Arc::clone(config)),
            http1: TlsConnector::from(tls::http1_only(config)),
            name: tls::server_name(spec, server)?,
        }),
        None => None,
    };
    let speaks = match (spec.protocol, server.tls) {
        (OriginProtocol::Http2, _) => Speaks::Http2,
        (OriginProtocol::Http1, _) | (OriginProtocol::Auto, false) => Speaks::Http1,
        (OriginProtocol::Auto, true) => Speaks::Unknown,
    };
    // A server that is alone never rests: an error of its own tells more than ours.
    let max_failures = if spec.servers.len() > 1 { spec.max_failures } else { 0 };
    Ok(Server::new(
        name.into(),
        HeaderValue::try_from(authority.clone()).map_err(|_| OriginSetupError::Host { name: authority })?,
        Connector {
            target,
            tls: connector_tls,
            proxy_protocol: spec.proxy_protocol,
            limit: spec.timeouts.connect,
        },
        Health::new(health::Rules { max_failures, rest: spec.rest, slow_start: spec.slow_start }),
        f64::from(server.weight),
        speaks,
        Bounds {
            connections: spec.max_connections,
            queue: spec.max_queue,
            keep_alive: spec.timeouts.keep_alive,
            head: http1::HeadLimits { bytes: limits.head_bytes, fields: limits.head_fields },
            http2_only: spec.protocol == OriginProtocol::Http2,
            one_request: spec.proxy_protocol.is_some(),
        },
        workers,
        Arc::clone(metrics),
    ))
}

/// Closes idle connections when their time is over.
async fn sweep(origin: Weak<Origin>, keep_alive: Duration) {
    let every = (keep_alive / 4).clamp(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        tokio::time::sleep(every).await;
        let Some(origin) = origin.upgrade() else { return };
        origin.servers.iter().for_each(|server| server.sweep());
    }
}
