//! A server under test, and the service that answers by path.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use harness::Conn;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use weir::answer::Answer;
use weir::body::{Body, BodyError};
use weir::config::model::{self, Certificate, Limits, ListenAddress, Listener};
use weir::incoming::Received;
use weir::metrics::Metrics;
use weir::server::connection::Connection;
use weir::server::{Listening, Server};

/// What the paths do.
///
/// - `/hit`: 1 KiB, at once. `/big`: 64 KiB, at once. `/huge`: 1 GiB, piece by piece.
/// - `/who`: peer, local end, scheme and server name.
/// - `/wait`: answers when the test says so. `/stall`: a head, then nothing.
/// - `/interim`: a 103 at once, the answer when the test says so.
/// - `/echo`: the request's content. `/ignore`: an answer that leaves it unread.
/// - `/upgrade`: 101, then echoes bytes. `/panic`: panics.
pub(crate) struct Site {
    pub(crate) server: Arc<Server>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) released: Arc<Notify>,
    address: SocketAddr,
}

pub(crate) fn config(listeners: Vec<Listener>, limits: Limits) -> model::Server {
    model::Server {
        listeners,
        trusted_proxies: Vec::new(),
        drain: Duration::from_secs(10),
        workers: 2,
        limits,
    }
}

pub(crate) fn plain() -> Listener {
    let address = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    Listener { address, tls: Vec::new(), proxy_protocol: false }
}

pub(crate) fn with_tls(pairs: &[(PathBuf, PathBuf)]) -> Listener {
    let tls = pairs.iter().map(|(cert, key)| Certificate { cert: cert.clone(), key: key.clone() });
    Listener { tls: tls.collect(), ..plain() }
}

impl Site {
    /// One cleartext listener, with these limits.
    pub(crate) fn with(limits: Limits) -> Self {
        Self::start(&config(vec![plain()], limits))
    }

    pub(crate) fn start(config: &model::Server) -> Self {
        let metrics = Arc::new(Metrics::new(config.workers));
        let released = Arc::new(Notify::new());
        let service = {
            let released = Arc::clone(&released);
            move |_| {
                let released = Arc::clone(&released);
                move |request: Received, connection: &Arc<Connection>| answer(request, connection, &released)
            }
        };
        let server = Server::start(config, &metrics, service).expect("the server starts");
        let ListenAddress::Tcp(address) = server.listening()[0].address else {
            panic!("the first listener is a TCP one");
        };
        Self { server: Arc::new(server), metrics, released, address }
    }

    pub(crate) fn listening(&self) -> Vec<Listening> {
        self.server.listening()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::connect(self.address())
    }

    /// Lets what waits at `/wait` or `/interim` go on.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }
}

pub(crate) const KIB: [u8; 1_024] = [b'x'; 1_024];

fn answer(request: Received, connection: &Arc<Connection>, released: &Arc<Notify>) -> Answer {
    let released = Arc::clone(released);
    match request.parts.uri.path() {
        "/hit" => Answer::ready(Response::new(Body::full(Bytes::from_static(&KIB)))),
        "/big" => Answer::ready(Response::new(Body::full(vec![b'y'; 64 << 10].into()))),
        "/huge" => Answer::ready(Response::new(Body::stream(Huge { pieces: 16 << 10 }))),
        "/stall" => Answer::ready(Response::new(Body::stream(Stalled))),
        "/who" => {
            let tls = connection.tls.as_ref();
            let name = tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or("-");
            let version = tls.map_or("-", |tls| tls.version);
            let text = format!(
                "{:?} {:?} {:?} {} {name} {version}",
                connection.peer,
                connection.local,
                connection.socket_peer,
                connection.scheme()
            );
            Answer::ready(Response::new(Body::full(text.into())))
        }
        "/wait" => Answer::pending(async move {
            released.notified().await;
            Response::new(Body::full(Bytes::from_static(b"at last")))
        }),
        "/interim" => {
            let connection = Arc::clone(connection);
            Answer::pending(async move {
                connection.interim.push(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
                released.notified().await;
                // What was not written by now must not be written after the final head.
                connection.interim.take();
                Response::new(Body::full(Bytes::from_static(b"final")))
            })
        }
        "/echo" => Answer::pending(async move {
            match request.content.collect().await {
                Ok(content) => Response::new(Body::full(content.to_bytes())),
                Err(_) => status(StatusCode::BAD_REQUEST),
            }
        }),
        "/upgrade" => {
            let upgrade = request.upgrade.expect("the request asks for it");
            tokio::spawn(async move {
                let Some(upgraded) = upgrade.taken_over().await else { return };
                let (mut read, mut write) = tokio::io::split(upgraded);
                // Ends when the client, or the server that stops, ends the connection.
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
            let fields = response.headers_mut();
            fields.insert("connection", http::HeaderValue::from_static("upgrade"));
            fields.insert("upgrade", http::HeaderValue::from_static("websocket"));
            Answer::ready(response)
        }
        "/panic" => panic!("as the test asked"),
        "/panic-later" => Answer::pending(async move {
            tokio::task::yield_now().await;
            panic!("as the test asked, later");
        }),
        "/ignore" => Answer::ready(status(StatusCode::FORBIDDEN)),
        _ => Answer::ready(status(StatusCode::NOT_FOUND)),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

struct Huge {
    pieces: usize,
}

impl http_body::Body for Huge {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        static PIECE: [u8; 64 << 10] = [b'z'; 64 << 10];
        if self.pieces == 0 {
            return Poll::Ready(None);
        }
        self.pieces -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Pending
    }
}
