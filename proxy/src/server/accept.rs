//! From an accepted socket to a served connection.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use hyper::server::conn::http2 as hyper_http2;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::AsyncWrite as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Order, Phase};
use super::http1::{self, Ended, Own};
use super::http2::PREFACE;
use super::io::{Io, Look, Socket, Stream};
use super::listen::ListenSocket;
use super::proxy_protocol::{self, Header, Parsed};
use super::service::Handler;
use super::tls;
use super::tunnel::Tunnel;
use super::watch::{Admission, Table};
use super::{ListenerState, Serve, Settings, Shared};
use crate::config::model::Limits;
use crate::metrics::{Limit, WorkerMetrics};

/// What a worker's connections share.
pub(super) struct Gate<S> {
    serve: Arc<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) table: Arc<Table>,
    metrics: Arc<WorkerMetrics>,
    accepting: AtomicUsize,
}

impl<S: Serve> Gate<S> {
    pub(super) fn new(serve: S, shared: Arc<Shared>, metrics: Arc<WorkerMetrics>) -> Self {
        let table = Arc::new(Table::new(Arc::clone(&metrics)));
        Self { serve: Arc::new(serve), shared, table, metrics, accepting: AtomicUsize::new(0) }
    }

    /// Listeners that still accept.
    pub(super) fn accepting(&self) -> usize {
        self.accepting.load(Ordering::Relaxed)
    }
}

/// hyper's settings under some [`Settings`].
struct Builders {
    settings: Arc<Settings>,
    http2: hyper_http2::Builder<Spawner>,
}

impl Builders {
    fn new(settings: Arc<Settings>, metrics: &Arc<WorkerMetrics>) -> Self {
        let limits = &settings.limits;
        let mut http2 = hyper_http2::Builder::new(Spawner { metrics: Arc::clone(metrics) });
        http2
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            // Our own budget comes first; these hold even if it is set very high.
            .max_pending_accept_reset_streams(limits.resets.max(20))
            .max_local_error_reset_streams(limits.resets.max(20))
            .max_send_buf_size(64 << 10)
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20)
            .enable_connect_protocol();
        Self { http2, settings }
    }
}

/// Runs what HTTP/2 connections spawn: a panic ends its stream and is counted.
///
/// Each is run once where it is: the stream of a hit has its whole answer at hand and ends there, without a task of its own.
#[derive(Debug, Clone)]
struct Spawner {
    metrics: Arc<WorkerMetrics>,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        let mut stream = Box::pin(Guarded { future, metrics: Arc::clone(&self.metrics) });
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        if stream.as_mut().poll(&mut nobody).is_pending() {
            // Its task polls it anew, with a waker that wakes.
            tokio::spawn(stream);
        }
    }
}

pin_project! {
    /// The border that no panic crosses.
    struct Guarded<F> {
        #[pin]
        future: F,
        metrics: Arc<WorkerMetrics>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let mut future = this.future;
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        std::panic::catch_unwind(poll).unwrap_or_else(|_| {
            this.metrics.panics.one();
            Poll::Ready(())
        })
    }
}

/// The pause when no descriptor is left.
const STARVED_PAUSE: Duration = Duration::from_millis(50);

enum AnyListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AnyListener {
    fn of(socket: ListenSocket) -> io::Result<Self> {
        Ok(match socket {
            ListenSocket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            ListenSocket::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(context).map_ok(|(stream, peer)| (Socket::tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                listener.poll_accept(context).map_ok(|(stream, _)| (Socket::unix(stream), None))
            }
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Accepts until told to stop; then takes what waits already, and closes.
pub(super) async fn accept<S: Serve>(
    socket: ListenSocket,
    state: Arc<ArcSwap<ListenerState>>,
    gate: Arc<Gate<S>>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = match AnyListener::of(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be used");
            return;
        }
    };
    gate.accepting.fetch_add(1, Ordering::Relaxed);
    let mut door = Door {
        local: listener.local(),
        state: Cache::new(state),
        settings: Cache::new(&gate.shared.settings),
        builders: Arc::new(Builders::new(gate.shared.settings.load_full(), &gate.metrics)),
        spare: spare_descriptor(),
        gate: &gate,
    };
    let mut stopped = pin!(stopped);
    let mut stopping = false;
    loop {
        let accepted = std::future::poll_fn(|context| {
            // The queue comes first, so that a stop leaves nobody in it.
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(Some(accepted));
            }
            stopping |= stopped.as_mut().poll(context).is_ready();
            if stopping { Poll::Ready(None) } else { Poll::Pending }
        });
        match accepted.await {
            Some(Ok((socket, peer))) => door.enter(socket, peer),
            Some(Err(error)) if is_starved(&error) => {
                gate.metrics.limit(Limit::Descriptors);
                door.turn_one_away(&listener);
                tokio::time::sleep(STARVED_PAUSE).await;
            }
            // The peer left before it was accepted, or the network had an error to report.
            Some(Err(_)) => tokio::task::yield_now().await,
            None => break,
        }
    }
    gate.accepting.fetch_sub(1, Ordering::Relaxed);
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM.
fn is_starved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// A descriptor held in reserve.
fn spare_descriptor() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

/// What one listener's connections pass through.
struct Door<'a, S> {
    local: Option<SocketAddr>,
    state: Cache<Arc<ArcSwap<ListenerState>>, Arc<ListenerState>>,
    settings: Cache<&'a ArcSwap<Settings>, Arc<Settings>>,
    builders: Arc<Builders>,
    spare: Option<std::fs::File>,
    gate: &'a Arc<Gate<S>>,
}

impl<S: Serve> Door<'_, S> {
    fn enter(&mut self, socket: Socket, peer: Option<SocketAddr>) {
        let settings = self.settings.load();
        if !Arc::ptr_eq(settings, &self.builders.settings) {
            self.builders = Arc::new(Builders::new(Arc::clone(settings), &self.gate.metrics));
        }
        let state = self.state.load();
        let mut connection = Connection::cleartext(peer, self.local, Arc::clone(&self.gate.metrics));
        if let Some(local) = socket.local_if_unspecified(self.local) {
            connection.local = Some(local);
        }
        let handshake = state.tls.is_some() || state.proxy_protocol;
        connection.progress.enter(if handshake { Phase::Handshake } else { Phase::Silent });
        let connection = Arc::new(connection);
        let gate = self.gate;
        let counted = peer.map(|peer| peer.ip()).filter(|address| !settings.trusts(*address));
        let admitted =
            Admission::of(&connection, &gate.table, &gate.shared.census, counted, &settings.limits);
        match admitted {
            Ok(admission) => {
                let visit = Visit {
                    gate: Arc::clone(gate),
                    builders: Arc::clone(&self.builders),
                    connection,
                    admission,
                };
                if handshake {
                    tokio::spawn(Box::pin(visit.shake_hands(socket, Arc::clone(state))));
                } else {
                    tokio::spawn(visit.cleartext(socket));
                }
            }
            Err(limit) => gate.metrics.limit(limit),
        }
    }

    /// Takes one connection from the queue and closes it, with the descriptor kept for that: its client learns at once, rather than
    /// waiting for nothing.
    fn turn_one_away(&mut self, listener: &AnyListener) {
        drop(self.spare.take());
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        drop(listener.poll_accept(&mut nobody));
        self.spare = spare_descriptor();
    }
}

/// A connection on its way to being served.
struct Visit<S> {
    gate: Arc<Gate<S>>,
    builders: Arc<Builders>,
    connection: Arc<Connection>,
    admission: Admission,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
}

impl<S: Serve> Visit<S> {
    fn limits(&self) -> &Limits {
        &self.builders.settings.limits
    }

    /// PROXY header and TLS.
    async fn shake_hands(mut self, mut socket: Socket, state: Arc<ListenerState>) {
        let mut facts = Connection::cleartext(
            self.connection.peer,
            self.connection.local,
            Arc::clone(&self.connection.metrics),
        );
        if state.proxy_protocol {
            let Some(header) = self.proxy_header(&mut socket).await else {
                return;
            };
            if let Header::Proxied { source, destination } = header {
                facts.peer = Some(source);
                facts.local = Some(destination);
            }
        }
        let Some(config) = &state.tls else {
            facts.progress.enter(Phase::Silent);
            self.become_known(facts);
            return self.cleartext(socket).await;
        };
        let accepting = TlsAcceptor::from(Arc::clone(config)).accept(socket);
        let Some(accepted) = self.unless_told_to_end(accepting).await else {
            return;
        };
        let Ok(stream) = accepted else {
            self.gate.metrics.tls_failures.one();
            return;
        };
        let (_, session) = stream.get_ref();
        // RFC 9113 §3.2: HTTP/2 over TLS is agreed on by ALPN, and only so.
        let spoken = if session.alpn_protocol() == Some(b"h2") { Spoken::Http2 } else { Spoken::Http1 };
        facts.tls = Some(tls::facts(session));
        self.become_known(facts);
        self.speak(spoken, Stream::Tls(Box::new(stream))).await;
    }

    fn become_known(&mut self, facts: Connection) {
        self.connection = Arc::new(facts);
        self.admission.replace(&self.connection);
    }

    /// Only a trusted peer may say who its client is; and it must (§2: never guess).
    async fn proxy_header(&self, socket: &mut Socket) -> Option<Header> {
        let settings = &self.builders.settings;
        let trusted = self.connection.socket_peer.is_none_or(|peer| settings.trusts(peer.ip()));
        if !trusted {
            tracing::debug!("a PROXY header is expected, and the peer is none of `trusted_proxies`");
            return None;
        }
        let look = std::future::poll_fn(|context| {
            socket.poll_look(context, |bytes| match proxy_protocol::parse(bytes) {
                Ok(Parsed::Incomplete) => Look::More,
                Ok(Parsed::Complete { header, used }) => Look::Found { value: Ok(header), used },
                Err(error) => Look::Found { value: Err(error), used: 0 },
            })
        });
        match self.unless_told_to_end(look).await?.ok()?? {
            Ok(header) => Some(header),
            Err(error) => {
                tracing::debug!(%error, "a connection was refused");
                None
            }
        }
    }

    /// Cleartext: HTTP/2 by prior knowledge begins with the preface (RFC 9113 §3.3), and nothing else does.
    async fn cleartext(self, mut socket: Socket) {
        let look = std::future::poll_fn(|context| {
            socket.poll_look(context, |bytes| {
                let common = bytes.len().min(PREFACE.len());
                if bytes[..common] != PREFACE[..common] {
                    Look::Found { value: Spoken::Http1, used: 0 }
                } else if common == PREFACE.len() {
                    Look::Found { value: Spoken::Http2, used: 0 }
                } else {
                    Look::More
                }
            })
        });
        if let Some(Ok(Some(spoken))) = self.unless_told_to_end(look).await {
            self.speak(spoken, Stream::Plain(socket)).await;
        }
    }

    async fn unless_told_to_end<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            self.connection.orders.poll_at_least(Order::Finish, context).map(|()| None)
        })
        .await
    }

    async fn speak(self, spoken: Spoken, stream: Stream) {
        match spoken {
            Spoken::Http1 => self.http1(stream).await,
            // Large, and rare enough for a box of its own.
            Spoken::Http2 => Box::pin(self.http2(stream)).await,
        }
    }

    fn handler(&self) -> Handler<S> {
        Handler { serve: Arc::clone(&self.gate.serve), connection: Arc::clone(&self.connection) }
    }

    async fn http1(self, stream: Stream) {
        let Self { gate, builders, connection, admission } = self;
        let mut io = Io::http1(stream, Arc::clone(&connection), admission);
        let ended = {
            let own = Own {
                serve: &*gate.serve,
                connection: &connection,
                table: &gate.table,
                limits: &builders.settings.limits,
            };
            let mut serving = pin!(http1::serve(&mut io, own));
            until_end(&connection, |context, _| serving.as_mut().poll(context)).await
        };
        match ended {
            // An upgraded connection lives on in the hands of its tunnel.
            Ok(Ended::Upgraded(taker, early)) => {
                connection.progress.enter(Phase::Tunnel);
                // Where nobody takes it, it ends here.
                drop(taker.send(Tunnel::new(io, early)));
            }
            Ok(Ended::Done) => {
                // What the client does to its own end is its own affair.
                let _ = until_end(&connection, |context, _| Pin::new(&mut io).poll_shutdown(context)).await;
            }
            Ok(Ended::Cut { reset: true }) => io.reset(),
            Err(Order::EndWith408) if io.may_say_408() => io.say_and_close(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
            Ok(Ended::Cut { reset: false }) | Err(_) => {}
        }
    }

    async fn http2(self, stream: Stream) {
        let handler = self.handler();
        let resets_max = self.limits().resets;
        let Self { builders, connection, admission, .. } = self;
        let io = TokioIo::new(Io::http2(stream, Arc::clone(&connection), admission, resets_max));
        let mut serving = pin!(builders.http2.serve_connection(io, handler));
        let ended = until_end(&connection, |context, finish| {
            connection.progress.turns.one();
            if finish {
                serving.as_mut().graceful_shutdown();
            }
            serving.as_mut().poll(context).map(|_| ())
        });
        // However it ended, there is nothing left to say.
        let _ = ended.await;
    }
}

/// Polls a served connection until it ends by itself, by an order, or by a panic in a handler.
async fn until_end<T>(
    connection: &Connection,
    mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<T>,
) -> Result<T, Order> {
    let mut heeded = None;
    std::future::poll_fn(|context| {
        let order = connection.orders.current();
        let mut finish = false;
        if heeded != Some(order) {
            // The first time, and after each order. This runs as a task of its own, whose waker never changes.
            heeded = Some(order);
            connection.orders.wake_me(context);
            match order {
                Order::None => {}
                Order::Finish => finish = true,
                Order::EndWith408 | Order::End => return Poll::Ready(Err(order)),
            }
        }
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| poll(context, finish)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => {
                connection.metrics.panics.one();
                Poll::Ready(Err(Order::End))
            }
        }
    })
    .await
}
