//! Listeners, connections and their limits.
//!
//! A worker per core: a thread with its own runtime and its own sockets on each port, so that a request meets no other core. What
//! they share is small: the settings, the count of connections, and certificates.

mod accept;
pub mod connection;
mod gather;
mod http1;
mod http2;
mod io;
mod listen;
pub(crate) mod pipe;
pub mod proxy_protocol;
mod service;
pub mod shutdown;
mod tls;
pub mod tunnel;
mod watch;
mod websocket;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot};

use crate::answer::Answer;
use crate::body::Body;
use crate::config::model::{self, Limits, ListenAddress};
use crate::error::{ProxyError, Recipient};
use crate::gate::Rejection;
use crate::incoming::Received;
use crate::metrics::Metrics;
use connection::Connection;
pub use listen::ListenError;
pub use tls::TlsError;

/// What answers requests. Each worker has one of its own, made and used on the worker's thread.
pub trait Serve: Send + Sync + 'static {
    /// Answers one request. Called when its head has been read; a panic ends the connection, and no other. Who answers at once leaves the
    /// request where it is, and its memory serves the next one; who does not takes it.
    fn serve(&self, request: &mut Received, connection: &Arc<Connection>) -> Answer;

    /// Answers what is no request. The connection ends after it.
    fn refuse(&self, rejection: Rejection, _connection: &Arc<Connection>) -> Response<Body> {
        let asked = Received::default().parts;
        let recipient = Recipient { method: &asked.method, version: asked.version, accept: None };
        ProxyError::from(rejection).to_response(&recipient)
    }
}

impl<F> Serve for F
where
    F: Fn(Received, &Arc<Connection>) -> Answer + Send + Sync + 'static,
{
    fn serve(&self, request: &mut Received, connection: &Arc<Connection>) -> Answer {
        self(std::mem::take(request), connection)
    }
}

/// Why the server cannot start, or cannot take new settings.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A worker's thread or runtime.
    #[error("cannot start worker {worker}")]
    Worker {
        /// Which.
        worker: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What a connection is bound by; swapped whole on a reload.
#[derive(Debug)]
struct Settings {
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
}

impl Settings {
    fn of(config: &model::Server) -> Arc<Self> {
        Arc::new(Self { limits: config.limits.clone(), trusted_proxies: config.trusted_proxies.clone() })
    }

    fn trusts(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// What all workers share.
#[derive(Debug)]
struct Shared {
    settings: ArcSwap<Settings>,
    census: Arc<watch::Census>,
}

/// What can change about a listener while it listens.
#[derive(Debug)]
struct ListenerState {
    tls: Option<Arc<ServerConfig>>,
    proxy_protocol: bool,
}

/// An open listener.
#[derive(Debug)]
struct Listener {
    number: u64,
    configured: model::Listener,
    /// With the port that was picked.
    address: ListenAddress,
    state: Arc<ArcSwap<ListenerState>>,
}

/// A listener's address, as somebody who wants to connect needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The address, with the port that was picked.
    pub address: ListenAddress,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Listening {
    /// The TCP address, if it is one.
    pub const fn tcp(&self) -> Option<std::net::SocketAddr> {
        match self.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Listening {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.address {
            ListenAddress::Tcp(address) => write!(out, "{scheme}://{address}"),
            ListenAddress::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// The running workers.
pub struct Server {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
    listeners: Mutex<Vec<Listener>>,
    next_number: std::sync::atomic::AtomicU64,
    tls: tls::TlsFactory,
}

struct Worker {
    commands: mpsc::UnboundedSender<worker::Command>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// New settings, checked and ready: sockets open, certificates read. Dropping it changes nothing.
pub struct Prepared {
    settings: Arc<Settings>,
    opened: Vec<(model::Listener, listen::Bound, ListenerState)>,
    /// Listeners that stay, by number.
    kept: Vec<(u64, model::Listener, ListenerState)>,
}

impl Server {
    /// Opens the listeners and starts `config.workers` threads; `serve` makes each worker's service on its own thread.
    pub fn start<S: Serve>(
        config: &model::Server,
        metrics: &Metrics,
        serve: impl Fn(usize) -> S + Clone + Send + 'static,
    ) -> Result<Self, Vec<ServerError>> {
        let one = |error: ServerError| vec![error];
        let shared =
            Arc::new(Shared { settings: ArcSwap::new(Settings::of(config)), census: Arc::default() });
        let mut server = Self {
            workers: Vec::new(),
            shared,
            listeners: Mutex::default(),
            next_number: 0.into(),
            tls: tls::TlsFactory::new().map_err(|error| one(error.into()))?,
        };
        let prepared = server.prepare_for(config, config.workers.max(1))?;
        for index in 0..config.workers.max(1) {
            let serve = serve.clone();
            let started = worker::start(index, &server.shared, metrics.worker(index), move || serve(index));
            server
                .workers
                .push(started.map_err(|source| one(ServerError::Worker { worker: index, source }))?);
        }
        server.apply(prepared);
        Ok(server)
    }

    /// Where clients connect.
    pub fn listening(&self) -> Vec<Listening> {
        let listeners = self.listeners.lock();
        let listening = |listener: &Listener| Listening {
            address: listener.address.clone(),
            tls: listener.state.load().tls.is_some(),
        };
        listeners.iter().map(listening).collect()
    }

    /// Checks new settings: opens the listeners that are new, reads all certificates. What is wrong is told at once and in full.
    pub fn prepare(&self, config: &model::Server) -> Result<Prepared, Vec<ServerError>> {
        self.prepare_for(config, self.workers.len())
    }

    fn prepare_for(&self, config: &model::Server, workers: usize) -> Result<Prepared, Vec<ServerError>> {
        let mut errors: Vec<ServerError> = Vec::new();
        let mut prepared = Prepared { settings: Settings::of(config), opened: Vec::new(), kept: Vec::new() };
        for configured in &config.listeners {
            let tls = match &configured.tls[..] {
                [] => Ok(None),
                certificates => self.tls.server_config(certificates).map(Some),
            };
            let tls = match tls {
                Ok(tls) => tls,
                Err(error) => {
                    errors.push(error.into());
                    continue;
                }
            };
            let state = ListenerState { tls, proxy_protocol: configured.proxy_protocol };
            let open = self.listeners.lock().iter().find_map(|listener| {
                (listener.configured.address == configured.address).then_some(listener.number)
            });
            match open {
                Some(number) => prepared.kept.push((number, configured.clone(), state)),
                None => match listen::bind(&configured.address, workers) {
                    Ok(bound) => prepared.opened.push((configured.clone(), bound, state)),
                    Err(error) => errors.push(error.into()),
                },
            }
        }
        if errors.is_empty() { Ok(prepared) } else { Err(errors) }
    }

    /// Puts new settings in force: new listeners accept, those no longer named stop, connections live on.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { settings, opened, kept } = prepared;
        self.shared.settings.store(settings);
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| {
            let stays = kept.iter().any(|(number, ..)| *number == listener.number);
            if !stays {
                self.command_all(|_| worker::Command::Close(listener.number));
                remove_socket_file(&listener.address);
            }
            stays
        });
        for (number, configured, state) in kept {
            if let Some(listener) = listeners.iter_mut().find(|listener| listener.number == number) {
                listener.configured = configured;
                listener.state.store(Arc::new(state));
            }
        }
        for (configured, bound, state) in opened {
            let number = self.next_number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let state = Arc::new(ArcSwap::from_pointee(state));
            let mut sockets = bound.sockets.into_iter();
            self.command_all(|_| {
                let socket = sockets.next().expect("bound for as many workers as there are");
                worker::Command::Open { number, socket, state: Arc::clone(&state) }
            });
            listeners.push(Listener { number, configured, address: bound.address, state });
        }
    }

    fn begin_drain(&self, within: Duration) {
        for listener in self.listeners.lock().drain(..) {
            remove_socket_file(&listener.address);
        }
        self.command_all(|_| worker::Command::Drain { within });
    }

    fn command_all(&self, mut command: impl FnMut(usize) -> worker::Command) {
        for (index, worker) in self.workers.iter().enumerate() {
            // A worker that has ended needs no command.
            let _ = worker.commands.send(command(index));
        }
    }

    /// Stops accepting at once, lets requests under way end, and returns when the last connection is gone or `within` is over.
    pub async fn drain(&self, within: Duration) {
        self.begin_drain(within);
        for worker in &self.workers {
            let ended = worker.ended.lock().take();
            if let Some(ended) = ended {
                // An error means that the worker is gone, which is what is waited for.
                let _ = ended.await;
            }
        }
    }
}

impl Server {
    /// Ends what is left, at once, and the threads with it.
    pub fn stop(&self) {
        self.begin_drain(Duration::ZERO);
        for worker in &self.workers {
            if let Some(thread) = worker.thread.lock().take() {
                // A worker that panicked has been reported by the panic itself.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn remove_socket_file(address: &ListenAddress) {
    if let ListenAddress::Unix(path) = address {
        // It may have been removed by hand; then there is nothing to do.
        let _ = std::fs::remove_file(path);
    }
}
