//! A scripted origin on a real socket, and what the tests send to it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use weir::body::Body;
use weir::config::model::{self, Limits, OriginAddress, OriginServer};
use weir::gate::Authority;
use weir::origin::{Answered, Origin, OriginError, OriginFields, Outgoing, OutgoingHead, Sender};
use weir::request_key::PresentedFields;

/// A scripted origin: each connection is handed to the script with its number, counted from 0.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) async fn new<S, F>(script: S) -> Self
    where
        S: Fn(usize, Wire<TcpStream>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(number, Wire::new(stream)));
            }
        });
        Self { address, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn server(&self) -> OriginServer {
        at(self.address)
    }
}

/// A server in the clear.
pub(crate) fn at(address: SocketAddr) -> OriginServer {
    let address = OriginAddress::Host(address.ip().to_string(), address.port());
    OriginServer { tls: false, address, weight: 1 }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// One connection of the scripted origin.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// Reads to the end of a head; `None` where the connection ended before.
    pub(crate) async fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").await
    }

    /// Reads up to and with a mark.
    pub(crate) async fn until(&mut self, mark: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark) {
                let rest = self.unread.split_off(at + mark.len());
                let read = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8(read).unwrap());
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
            }
        }
    }

    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) {
        // The other end may have gone; the test looks at what it got.
        let _ = self.stream.write_all(text.as_ref()).await;
    }

    /// Answers a request with a short text.
    pub(crate) async fn answer(&mut self, text: &str) {
        self.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())).await;
    }

    /// Waits until the other side has gone.
    pub(crate) async fn closed(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
    }
}

/// An origin as its table would make it; `change` says what is different.
pub(crate) fn spec(
    servers: Vec<OriginServer>,
    change: impl FnOnce(&mut model::Origin),
) -> Arc<model::Origin> {
    let mut spec = model::Origin {
        name: "app".into(),
        servers,
        resolvers: Vec::new(),
        balance: model::Balance::RoundRobin,
        health: None,
        max_failures: 5,
        rest: Duration::from_secs(10),
        slow_start: Duration::ZERO,
        timeouts: model::OriginTimeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
        },
        retry: model::Retry { attempts: 1, budget: 0.1 },
        protocol: model::OriginProtocol::Auto,
        max_connections: 1024,
        max_queue: 1024,
        proxy_protocol: None,
        tls_ca: None,
        tls_client: None,
        tls_name: None,
        session_mac: None,
        own_host: false,
    };
    change(&mut spec);
    Arc::new(spec)
}

pub(crate) fn origin(servers: Vec<OriginServer>, change: impl FnOnce(&mut model::Origin)) -> Arc<Origin> {
    Origin::new(spec(servers, change), &Limits::default(), 1, &Handle::current()).unwrap()
}

/// A request as the pipeline would hand it over.
pub(crate) fn outgoing(
    method: Method,
    target: &str,
    fields: &[(&'static str, &'static str)],
    body: Body,
) -> Outgoing {
    let authority = Authority::from_field(&HeaderValue::from_static("shop.example"), false).unwrap();
    let fields: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let sender =
        Sender { peer: Some([192, 0, 2, 1].into()), trusted: false, https: false, version: Version::HTTP_11 };
    let fields = OriginFields::new(PresentedFields::whole(fields), sender);
    Outgoing {
        head: OutgoingHead {
            method,
            target: target.parse().unwrap(),
            authority,
            fields,
            takes_trailers: false,
            on_interim: None,
            websocket: None,
            client: None,
        },
        body,
    }
}

pub(crate) async fn get(origin: &Arc<Origin>, target: &str) -> Result<Answered, OriginError> {
    origin.forward(0, &mut outgoing(Method::GET, target, &[], Body::empty())).await
}

/// The text of an answer, read to its end.
pub(crate) async fn text(answered: Answered) -> String {
    let bytes = answered.response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Content of unknown length that a test feeds piece by piece.
pub(crate) fn fed() -> (tokio::sync::mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, Body::stream(Fed(receiver)))
}

struct Fed(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = weir::body::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, weir::body::BodyError>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}
