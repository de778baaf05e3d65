//! HTTP/2: a client and an origin through hyper, and a client that writes frames by hand for what hyper would refuse
//! to send.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::lock;
use crate::tls::{Authority, Identity};
use crate::wire::{Conn, Ending, WAIT};

/// A message body that a test feeds frame by frame.
pub struct Fed(mpsc::Receiver<Result<Frame<Bytes>, io::Error>>);

/// Feeds a [`Fed`] body; dropping it ends the body.
#[derive(Clone)]
pub struct Feed(mpsc::Sender<Result<Frame<Bytes>, io::Error>>);

/// A body and what feeds it.
pub fn fed() -> (Feed, Fed) {
    let (sender, receiver) = mpsc::channel(16);
    (Feed(sender), Fed(receiver))
}

/// A body that is whole already.
pub fn whole(bytes: impl Into<Bytes>) -> Fed {
    let (feed, body) = fed();
    let bytes = bytes.into();
    if !bytes.is_empty() {
        feed.0.try_send(Ok(Frame::data(bytes))).expect("a new channel has room");
    }
    body
}

impl Feed {
    /// Adds data; `false` when nobody reads any more.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Adds the trailer section.
    pub async fn trailers(&self, fields: &[(&str, &str)]) -> bool {
        self.0.send(Ok(Frame::trailers(header_map(fields)))).await.is_ok()
    }

    /// Breaks the body off.
    pub async fn fail(&self) {
        let _ = self.0.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
    }
}

impl Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

fn header_map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        map.append(name, http::HeaderValue::from_str(value).expect("a field value"));
    }
    map
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime can be built")
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A whole response over HTTP/2.
#[derive(Clone, Debug)]
pub struct H2Response {
    /// The status.
    pub status: StatusCode,
    /// The header section.
    pub headers: HeaderMap,
    /// The content.
    pub body: Vec<u8>,
    /// The trailer section.
    pub trailers: HeaderMap,
}

impl H2Response {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the first header line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One HTTP/2 connection of a client.
pub struct H2Client {
    runtime: Runtime,
    sender: SendRequest<Fed>,
    scheme: &'static str,
}

impl H2Client {
    /// Connects in the clear, knowing beforehand that the server speaks HTTP/2.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> H2Client {
        let runtime = runtime();
        let stream =
            runtime.block_on(tokio::net::TcpStream::connect(address)).expect("the server can be reached");
        H2Client::over(runtime, stream, "http")
    }

    /// Connects with TLS and ALPN `h2`.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, authority: &Authority) -> H2Client {
        let runtime = runtime();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a server name");
        let connector = tokio_rustls::TlsConnector::from(authority.client_config(&["h2"]));
        let stream = runtime.block_on(async {
            let tcp = tokio::net::TcpStream::connect(address).await.expect("the server can be reached");
            connector.connect(name, tcp).await.expect("the TLS handshake succeeds")
        });
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "the server chose HTTP/2");
        H2Client::over(runtime, stream, "https")
    }

    #[track_caller]
    fn over(runtime: Runtime, stream: impl Io + 'static, scheme: &'static str) -> H2Client {
        let handshake =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
        let (sender, connection) = runtime.block_on(handshake).expect("the HTTP/2 handshake succeeds");
        runtime.spawn(connection);
        H2Client { runtime, sender, scheme }
    }

    /// A request to `weir.test`.
    pub fn request(&self, method: &str, target: &str, fields: &[(&str, &str)], body: Fed) -> Request<Fed> {
        let uri = format!("{}://weir.test{target}", self.scheme);
        let mut request =
            Request::builder().method(method).uri(uri).body(body).expect("a well-formed request");
        *request.headers_mut() = header_map(fields);
        request
    }

    /// A `GET` and its whole response.
    #[track_caller]
    pub fn get(&self, target: &str) -> H2Response {
        self.ask("GET", target, &[], "")
    }

    /// A request and its whole response.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> H2Response {
        self.try_ask(method, target, fields, body).unwrap_or_else(|e| panic!("no response to {target}: {e}"))
    }

    /// A request and its whole response, or why there is none.
    pub fn try_ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Result<H2Response, hyper::Error> {
        let request = self.request(method, target, fields, whole(body.to_owned()));
        let sender = self.sender.clone();
        self.block_on(exchange(sender, request))
    }

    /// So many requests at once, each on a stream of its own.
    pub fn ask_all(&self, requests: Vec<Request<Fed>>) -> Vec<Result<H2Response, hyper::Error>> {
        let tasks: Vec<_> =
            requests.into_iter().map(|r| self.runtime.spawn(exchange(self.sender.clone(), r))).collect();
        tasks.into_iter().map(|task| self.block_on(task).expect("an exchange does not panic")).collect()
    }

    /// Sends a request whose body is still open, and waits for the head of its response.
    #[track_caller]
    pub fn open(&self, request: Request<Fed>) -> Response<Incoming> {
        let mut sender = self.sender.clone();
        self.block_on(sender.send_request(request)).expect("a response comes")
    }

    /// Runs something of this connection to its end; panics after [`WAIT`].
    #[track_caller]
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(WAIT, work).await }).expect("in time")
    }

    /// Opens a WebSocket with an extended CONNECT (RFC 8441).
    #[track_caller]
    pub fn websocket(&self, target: &str) -> Tunnel {
        let mut request = self.request("CONNECT", target, &[("sec-websocket-version", "13")], whole(""));
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let response = self.open(request);
        assert_eq!(response.status(), StatusCode::OK, "the tunnel opens");
        let upgraded = self.block_on(hyper::upgrade::on(response)).expect("the stream becomes a tunnel");
        Tunnel { runtime: self.runtime.handle().clone(), stream: TokioIo::new(upgraded) }
    }
}

async fn exchange(mut sender: SendRequest<Fed>, request: Request<Fed>) -> Result<H2Response, hyper::Error> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let body = collected.to_bytes().to_vec();
    Ok(H2Response { status: head.status, headers: head.headers, body, trailers })
}

/// A tunnel through one stream, blocking.
pub struct Tunnel {
    runtime: tokio::runtime::Handle,
    stream: TokioIo<hyper::upgrade::Upgraded>,
}

impl io::Read for Tunnel {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Tunnel { runtime, stream } = self;
        runtime.block_on(async { tokio::time::timeout(WAIT, stream.read(into)).await })?
    }
}

impl io::Write for Tunnel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Tunnel { runtime, stream } = self;
        runtime.block_on(async { tokio::time::timeout(WAIT, stream.write(bytes)).await })?
    }
    fn flush(&mut self) -> io::Result<()> {
        let Tunnel { runtime, stream } = self;
        runtime.block_on(async { tokio::time::timeout(WAIT, stream.flush()).await })?
    }
}

/// What an HTTP/2 origin does with a request.
pub type Answer = Pin<Box<dyn Future<Output = Response<Fed>> + Send>>;

/// An origin that speaks HTTP/2 and nothing else.
pub struct H2Origin {
    address: SocketAddr,
    tls: bool,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
    _runtime: Runtime,
}

impl H2Origin {
    /// In the clear, by prior knowledge.
    pub fn start(handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static) -> H2Origin {
        H2Origin::launch(None, handler)
    }

    /// With TLS and ALPN `h2`.
    pub fn start_tls(
        identity: Identity,
        handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> H2Origin {
        H2Origin::launch(Some(identity.with_alpn(&["h2"])), handler)
    }

    fn launch(
        identity: Option<Identity>,
        handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> H2Origin {
        let runtime = runtime();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)))
            .expect("the origin can listen");
        let address = listener.local_addr().expect("a listener has an address");
        let heads: Arc<Mutex<Vec<_>>> = Arc::default();
        let handler = Arc::new(handler);
        let tls = identity.is_some();
        let acceptor = identity.map(|identity| tokio_rustls::TlsAcceptor::from(identity.server_config()));
        let kept = Arc::clone(&heads);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (heads, handler, acceptor) = (Arc::clone(&kept), Arc::clone(&handler), acceptor.clone());
                tokio::spawn(async move {
                    let stream: Box<dyn Io> = match acceptor {
                        None => Box::new(tcp),
                        Some(acceptor) => match acceptor.accept(tcp).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (head, body) = request.into_parts();
                        lock(&heads).push(head.clone());
                        let answer = handler(Request::from_parts(head, body));
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.timer(TokioTimer::new()).enable_connect_protocol();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        H2Origin { address, tls, heads, _runtime: runtime }
    }

    /// `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<http::request::Parts> {
        lock(&self.heads).clone()
    }
}

/// Kinds of frames (RFC 9113 section 6).
pub mod kind {
    #![expect(missing_docs, reason = "the names are the RFC's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// The flag of DATA and HEADERS that ends a stream.
pub const END_STREAM: u8 = 1;
/// The flag of HEADERS and CONTINUATION that ends a field block.
pub const END_HEADERS: u8 = 4;
/// The flag of SETTINGS and PING that acknowledges.
pub const ACK: u8 = 1;

/// One frame.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl RawFrame {
    fn number_at(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }
}

/// What became of a stream, or of its whole connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response of this status.
    Status(u16),
    /// RST_STREAM with this error code.
    Reset(u32),
    /// GOAWAY with this error code.
    GoAway(u32),
    /// The connection ended.
    Closed,
    /// Nothing within the time limit.
    Silent,
}

/// A client that writes HTTP/2 frames by hand.
pub struct H2Raw {
    conn: Conn,
}

impl H2Raw {
    /// Connects, sends the preface and these settings, and acknowledges nothing by itself.
    #[track_caller]
    pub fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> H2Raw {
        let mut raw = H2Raw { conn: Conn::connect(address) };
        raw.conn.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.settings(settings);
        raw
    }

    /// Sends SETTINGS.
    pub fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, 0, 0, &payload);
    }

    /// Sends one frame; `false` when the other side has closed.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.conn.try_send(frame_bytes(kind, flags, stream, payload)).is_ok()
    }

    /// Sends bytes as they are; `false` when the other side has closed.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.conn.try_send(bytes).is_ok()
    }

    /// Sends a whole field block in one HEADERS frame.
    pub fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> bool {
        self.frame(kind::HEADERS, flags | END_HEADERS, stream, &field_block(fields))
    }

    /// Sends a plain `GET` on this stream.
    pub fn get(&mut self, stream: u32, path: &str) -> bool {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "weir.test"), (":path", path)];
        self.headers(stream, END_STREAM, &fields)
    }

    /// Reads the next frame.
    pub fn read(&mut self) -> Result<RawFrame, Ending> {
        let mut head = [0; 9];
        self.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Ok(RawFrame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads on until it is known what became of this stream; acknowledges settings and pings on the way.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            let frame = match self.read() {
                Ok(frame) => frame,
                Err(Ending::Silent) => return Outcome::Silent,
                Err(_) => return Outcome::Closed,
            };
            match frame.kind {
                kind::SETTINGS if frame.flags & ACK == 0 => {
                    self.frame(kind::SETTINGS, ACK, 0, &[]);
                }
                kind::PING if frame.flags & ACK == 0 => {
                    self.frame(kind::PING, ACK, 0, &frame.payload);
                }
                kind::HEADERS if frame.stream == stream => return Outcome::Status(status_of(&frame.payload)),
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset(frame.number_at(0)),
                // An announcement that the connection will end (NO_ERROR) is no outcome yet.
                kind::GOAWAY if frame.number_at(4) != 0 => return Outcome::GoAway(frame.number_at(4)),
                _ => {}
            }
        }
    }

    /// Limits each read from now on.
    pub fn limit_reads(&self, limit: Duration) {
        self.conn.limit_reads(limit);
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Result<(), Ending> {
        match io::Read::read_exact(&mut self.conn, into) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(Ending::Silent),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Ending::Closed),
            Err(_) => Err(Ending::Reset),
        }
    }
}

/// A frame as bytes.
pub fn frame_bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload below 16 MiB").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field block of literals: no table, no Huffman code, no check of names or values.
pub fn field_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // literal without indexing, new name
        for text in [name, value] {
            integer(text.len(), 0x7f, &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An HPACK integer (RFC 7541 section 5.1) whose prefix has the bits of `mask`.
fn integer(value: usize, mask: usize, into: &mut Vec<u8>) {
    let byte = |value: usize| u8::try_from(value).expect("masked to a byte");
    if value < mask {
        into.push(byte(value));
        return;
    }
    into.push(byte(mask));
    let mut rest = value - mask;
    while rest >= 128 {
        into.push(byte(rest % 128) | 0x80);
        rest /= 128;
    }
    into.push(byte(rest));
}

/// The status of a response's field block: its first field, out of the static table or spelled in digits.
fn status_of(block: &[u8]) -> u16 {
    // A size update of the dynamic table may come first.
    let block = match block {
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // A literal whose name is `:status` (index 8 to 14 of the static table).
        [_, length, value @ ..] if length & 0x80 == 0 => {
            let digits = value.get(..usize::from(*length)).unwrap_or_default();
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
        }
        [_, length, value @ ..] => {
            huffman_digits(value.get(..usize::from(length & 0x7f)).unwrap_or_default())
        }
        _ => 0,
    }
}

/// Decimal digits in the Huffman code of HPACK: 0, 1, 2 have five bits, the others six (RFC 7541 appendix B).
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    let value = |bits: &[u8]| bits.iter().fold(0_u16, |value, bit| value * 2 + u16::from(*bit));
    while let Some(five) = bits.get(at..at + 5).map(value) {
        let digit = if five <= 2 {
            at += 5;
            five
        } else {
            let Some(six) = bits.get(at..at + 6).map(value) else { break };
            if !(0x19..=0x1f).contains(&six) {
                break;
            }
            at += 6;
            six - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_spelling() {
        assert_eq!(status_of(&[0x88]), 200);
        assert_eq!(status_of(&[0x20, 0x8c]), 400);
        assert_eq!(status_of(&[0x48, 0x03, b'4', b'3', b'1']), 431);
        // RFC 7541 appendix C.6.1: `302` in two bytes.
        assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), 302);
    }

    #[test]
    fn long_literals_have_long_lengths() {
        let value = "v".repeat(300);
        let block = field_block(&[("n", &value)]);
        assert_eq!(&block[..6], &[0, 1, b'n', 0x7f, 0xad, 0x01]);
        assert_eq!(block.len(), 6 + 300);
    }
}
