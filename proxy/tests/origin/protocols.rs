//! What an origin is told, and over what it is spoken to.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::tls::{Authority, Identity};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use weir::body::Body;
use weir::config::model::{HealthCheck, OriginAddress, OriginProtocol, OriginServer};
use weir::gate;
use weir::origin::{Origin, OriginFailure, OriginFields, Sender};
use weir::request_key::PresentedFields;

use crate::support::*;

/// Asks an origin once, and yields what it saw.
async fn seen(
    method: Method,
    fields: &[(&'static str, &'static str)],
    body: Body,
    end: &'static [u8],
) -> (String, Vec<String>) {
    let (saw, mut seen) = tokio::sync::mpsc::channel(1);
    let scripted = Scripted::new(move |_, mut wire| {
        let saw = saw.clone();
        async move {
            let request = wire.until(end).await.unwrap();
            wire.answer("true").await;
            saw.send(request).await.unwrap();
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    origin.forward(0, &mut outgoing(method, "/a?b=%2F", fields, body)).await.unwrap();
    let request = seen.recv().await.unwrap();
    let (head, content) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    lines[1..].sort();
    (content.to_owned(), lines)
}

#[tokio::test]
async fn a_request_is_made_anew() {
    let fields = [
        ("host", "SHOP.example:80"),
        ("accept", "*/*"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/admin"),
        ("x-original-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("forwarded", "for=6.6.6.6"),
        ("x-own", "kept"),
    ];
    let (_, lines) = seen(Method::GET, &fields, Body::empty(), b"\r\n\r\n").await;
    assert_eq!(
        lines,
        [
            "GET /a?b=%2F HTTP/1.1",
            "accept: */*",
            "forwarded: for=192.0.2.1;host=shop.example;proto=http",
            "host: shop.example",
            "via: 1.1 weir",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: shop.example",
            "x-forwarded-proto: http",
            "x-own: kept",
        ]
    );
}

#[tokio::test]
async fn a_request_has_the_length_that_it_has() {
    let framing = |lines: Vec<String>| {
        let is_framing =
            |line: &String| line.starts_with("content-length") || line.starts_with("transfer-encoding");
        lines.into_iter().filter(is_framing).collect::<Vec<_>>()
    };
    let claimed = [("content-length", "99")];
    let (content, lines) = seen(Method::POST, &claimed, Body::full("body".into()), b"body").await;
    assert_eq!((content.as_str(), framing(lines)), ("body", vec!["content-length: 4".to_owned()]));
    let (_, lines) = seen(Method::POST, &claimed, Body::empty(), b"\r\n\r\n").await;
    assert_eq!(framing(lines), ["content-length: 0"]);
    let (_, lines) = seen(Method::GET, &claimed, Body::empty(), b"\r\n\r\n").await;
    assert!(framing(lines).is_empty());
    for method in [Method::POST, Method::GET] {
        let (feed, body) = fed();
        tokio::spawn(async move { feed.send(Bytes::from_static(b"body")).await });
        let (content, lines) = seen(method, &claimed, body, b"0\r\n\r\n").await;
        assert_eq!(
            (content.as_str(), framing(lines)),
            ("4\r\nbody\r\n0\r\n\r\n", vec!["transfer-encoding: chunked".to_owned()])
        );
    }
}

#[tokio::test]
async fn trailers_of_an_answer_pass_without_what_may_not_be_there() {
    let scripted = Scripted::new(|_, mut wire| async move {
        while let Some(head) = wire.head().await {
            assert!(head.contains("te: trailers\r\n") && head.contains("connection: TE\r\n"), "{head}");
            wire.say("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntrue\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n").await;
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |_| {});
    for _ in 0..2 {
        let mut request = outgoing(Method::GET, "/", &[], Body::empty());
        request.head.takes_trailers = true;
        let collected =
            origin.forward(0, &mut request).await.unwrap().response.into_body().collect().await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("1")));
    }
    assert_eq!(scripted.connections(), 1);
}

#[tokio::test]
async fn a_unix_socket_is_an_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = Wire::new(stream);
        while wire.head().await.is_some() {
            wire.answer("true").await;
        }
    });
    let server = OriginServer { tls: false, address: OriginAddress::Unix(path), weight: 1 };
    let origin = origin(vec![server], |_| {});
    for _ in 0..2 {
        assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true");
    }
    assert_eq!(origin.describe().servers[0].connections, 1);
}

#[tokio::test]
async fn an_origin_may_ask_who_the_connection_is_for() {
    for (version, expected) in [
        (1, b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n".to_vec()),
        (2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\x01\xbb".to_vec()),
    ] {
        let scripted = Scripted::new(move |_, mut wire| {
            let expected = expected.clone();
            async move {
                use tokio::io::AsyncReadExt as _;
                let mut header = vec![0; expected.len()];
                wire.stream.read_exact(&mut header).await.unwrap();
                assert_eq!(header, expected);
                while wire.head().await.is_some() {
                    wire.answer("true").await;
                }
            }
        })
        .await;
        let origin = origin(vec![scripted.server()], |spec| spec.proxy_protocol = Some(version));
        for _ in 0..2 {
            let mut request = outgoing(Method::GET, "/", &[], Body::empty());
            request.head.client =
                Some(("192.0.2.1:4711".parse().unwrap(), "198.51.100.1:443".parse().unwrap()));
            assert_eq!(text(origin.forward(0, &mut request).await.unwrap()).await, "true");
        }
        assert_eq!(scripted.connections(), 2, "a connection is for one client only");
    }
}

/// Answers with the version, the authority and the path that were asked for.
async fn echo(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let authority = request.uri().authority().map_or("-", |authority| authority.as_str());
    Ok(Response::new(format!("{:?} {authority} {}", request.version(), request.uri().path())))
}

/// An origin over TLS, speaking what ALPN agrees on; yields its server and the count of its connections.
async fn over_tls(identity: &Identity) -> (OriginServer, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(identity.server_config());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                let _ = if h2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service_fn(echo))
                        .await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(echo)).await
                };
            });
        }
    });
    let address = OriginAddress::Host(address.ip().to_string(), address.port());
    (OriginServer { tls: true, address, weight: 1 }, connections)
}

#[tokio::test]
async fn tls_is_checked_and_alpn_chooses_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(folder.path());
    let identity = authority.identity(&["app.internal"]);
    let h2 = identity.clone().with_alpn(&["h2", "http/1.1"]);
    #[rustfmt::skip]
    let cases = [
        // what                     identity    protocol               name              trust  answer
        ("HTTP/1.1",                &identity,  OriginProtocol::Auto,  "app.internal",   true,  Ok("HTTP/1.1 - /a")),
        ("HTTP/2 where offered",    &h2,        OriginProtocol::Auto,  "app.internal",   true,  Ok("HTTP/2.0 shop.example /a")),
        ("HTTP/1.1 where wanted",   &h2,        OriginProtocol::Http1, "app.internal",   true,  Ok("HTTP/1.1 - /a")),
        ("another name",            &identity,  OriginProtocol::Auto,  "other.internal", true,  Err(OriginFailure::TlsCertificate)),
        ("an unknown issuer",       &identity,  OriginProtocol::Auto,  "app.internal",   false, Err(OriginFailure::TlsCertificate)),
    ];
    for (what, identity, protocol, name, trust, answer) in cases {
        let (server, connections) = over_tls(identity).await;
        let origin = origin(vec![server], |spec| {
            spec.tls_ca = trust.then(|| ca.clone());
            spec.tls_name = Some(name.to_owned());
            spec.protocol = protocol;
            spec.retry.attempts = 0;
        });
        for _ in 0..2 {
            let heard = match get(&origin, "/a").await {
                Ok(answered) => Ok(text(answered).await),
                Err(error) => Err(error.failure),
            };
            assert_eq!(heard, answer.map(str::to_owned), "{what}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), if answer.is_ok() { 1 } else { 2 }, "{what}");
    }
}

#[tokio::test]
async fn a_port_that_does_not_speak_tls_is_told_apart() {
    let scripted =
        Scripted::new(|_, mut wire| async move { wire.say("220 mail.example ESMTP\r\n").await }).await;
    let server = OriginServer { tls: true, ..scripted.server() };
    let origin = origin(vec![server], |_| {});
    assert_eq!(get(&origin, "/").await.unwrap_err().failure, OriginFailure::TlsProtocol);
}

/// Content of an answer that echoes the content of its request, piece by piece, and ends with trailers.
struct Echo(Incoming);

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context).map(|frame| {
            Some(frame.unwrap_or_else(|| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Ok(Frame::trailers(trailers))
            }))
        })
    }
}

/// An HTTP/2 origin in the clear; each request is an echo.
async fn grpc() -> Scripted {
    Scripted::new(|_, wire| async move {
        let service = service_fn(async |request: Request<Incoming>| {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            Ok::<_, Infallible>(Response::new(Echo(request.into_body())))
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(wire.stream), service)
            .await;
    })
    .await
}

#[tokio::test]
async fn grpc_streams_both_ways_at_once() {
    let scripted = grpc().await;
    let origin = origin(vec![scripted.server()], |spec| spec.protocol = OriginProtocol::Http2);
    let (feed, body) = fed();
    let mut request =
        outgoing(Method::POST, "/chat.Chat/Talk", &[("content-type", "application/grpc")], body);
    request.head.takes_trailers = true;
    let mut answer = origin.forward(0, &mut request).await.unwrap().response.into_body();
    for piece in ["one", "two", "three"] {
        feed.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        let echoed = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(echoed, piece, "the answer does not wait for the end of the request");
    }
    drop(feed);
    let trailers = answer.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let scripted = grpc().await;
    let origin = origin(vec![scripted.server()], |spec| spec.protocol = OriginProtocol::Http2);
    let mut asked = Vec::new();
    for _ in 0..50 {
        let origin = Arc::clone(&origin);
        asked.push(tokio::spawn(async move {
            let mut request = outgoing(Method::POST, "/", &[], Body::full("hello".into()));
            request.head.takes_trailers = true;
            text(origin.forward(0, &mut request).await.unwrap()).await
        }));
    }
    for answer in asked {
        assert_eq!(answer.await.unwrap(), "hello");
    }
    assert_eq!(scripted.connections(), 1);
    assert_eq!(origin.describe().servers[0].requests, 0);
}

#[tokio::test]
async fn checks_take_a_server_out_and_back_in() {
    let well = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&well);
    let scripted = Scripted::new(move |_, mut wire| {
        let asked = Arc::clone(&asked);
        async move {
            while let Some(head) = wire.head().await {
                if head.starts_with("GET /healthz HTTP/1.1\r\n") && !asked.load(Ordering::SeqCst) {
                    wire.say("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n").await;
                } else {
                    wire.answer("true").await;
                }
            }
        }
    })
    .await;
    let origin = origin(vec![scripted.server()], |spec| {
        spec.health = Some(HealthCheck {
            path: "/healthz".to_owned(),
            every: Duration::from_millis(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 2,
            healthy_after: 2,
        });
    });
    let until = async |origin: &Arc<Origin>, state: &str| {
        while origin.describe().servers[0].state.as_str() != state {
            tokio::task::yield_now().await;
        }
    };
    until(&origin, "unhealthy").await;
    assert_eq!(get(&origin, "/").await.unwrap_err().failure, OriginFailure::NoServer);
    well.store(true, Ordering::SeqCst);
    until(&origin, "up").await;
    assert_eq!(text(get(&origin, "/").await.unwrap()).await, "true");
}

/// A little server that passes everything on: the gate, the limit of content, the origin.
async fn front(origin: Arc<Origin>, limit: u64) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let origin = Arc::clone(&origin);
            let service = service_fn(move |request| pass(Arc::clone(&origin), limit, request));
            tokio::spawn(async move {
                let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                builder.http2().enable_connect_protocol();
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

async fn pass(
    origin: Arc<Origin>,
    limit: u64,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    use weir::error::{ProxyError, Recipient};
    let limits = weir::config::model::Limits::default();
    let client_side = weir::incoming::OnUpgrade::Http2(hyper::upgrade::on(&mut request));
    let (mut parts, incoming) = request.into_parts();
    let incoming = weir::incoming::Incoming::from(incoming);
    let told = |error: ProxyError| {
        let recipient = Recipient { method: &Method::GET, version: Version::HTTP_11, accept: None };
        Ok(error.to_response(&recipient))
    };
    let facts = gate::RequestFacts::of(false, &incoming);
    let gated = match gate::check_request(&mut parts, &facts, &limits) {
        Ok(gated) => gated,
        Err(rejection) => return told(rejection.into()),
    };
    let mut out = outgoing(parts.method, parts.uri.path(), &[], Body::empty());
    let sender = Sender { peer: None, trusted: false, https: false, version: parts.version };
    out.head.fields = OriginFields::new(PresentedFields::whole(parts.headers), sender);
    out.head.authority = gated.authority;
    out.head.takes_trailers = gated.takes_trailers;
    out.head.websocket =
        gated.websocket.map(|ask| Box::new((ask, client_side, weir::origin::TunnelTerms::default())));
    if out.head.websocket.is_none() {
        out.body = match weir::origin::content::from_client(incoming, limit, &limits) {
            Ok(body) => body,
            Err(error) => return told(error.into()),
        };
    }
    match origin.forward(0, &mut out).await {
        Ok(answered) => Ok(answered.response),
        Err(error) => told(error.into()),
    }
}

/// An origin that speaks WebSocket's handshake and then echoes bytes.
async fn echoing() -> Scripted {
    Scripted::new(|_, mut wire| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Some(head) = wire.head().await else { return };
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap().to_owned();
        let accept = if head.starts_with("GET /wrong") { "wrong".to_owned() } else { accept_of(&key) };
        if head.starts_with("GET /refused") {
            return wire.say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        }
        assert!(
            head.contains("connection: Upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        wire.say(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello "
        ))
        .await;
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = wire.stream.read(&mut buffer).await {
            wire.stream.write_all(&buffer[..read]).await.unwrap();
        }
        wire.say("bye").await;
    })
    .await
}

fn accept_of(key: &str) -> String {
    use base64::Engine as _;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

#[tokio::test]
async fn a_websocket_passes_with_both_halves() {
    use tokio::io::AsyncWriteExt as _;
    let scripted = echoing().await;
    let origin = origin(vec![scripted.server()], |_| {});
    let address = front(Arc::clone(&origin), 1 << 20).await;
    let mut client = Wire::new(tokio::net::TcpStream::connect(address).await.unwrap());
    // The bytes behind the head arrive with it, and are held back until the origin has agreed.
    client
        .say(format!(
            "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\nearly "
        ))
        .await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains(&format!("sec-websocket-accept: {}\r\n", accept_of(KEY))), "{head}");
    assert!(head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
    client.say("late").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.until(b"bye").await.unwrap(), "hello early latebye");
    while origin.describe().servers[0].connections > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.metrics().tunnels.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_websocket_that_the_origin_refuses_is_an_answer() {
    let scripted = echoing().await;
    let address = front(origin(vec![scripted.server()], |_| {}), 1 << 20).await;
    for (path, status) in [("/refused", "403"), ("/wrong", "502")] {
        let mut client = Wire::new(tokio::net::TcpStream::connect(address).await.unwrap());
        client
            .say(format!(
                "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
            ))
            .await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(!head.contains("\r\nupgrade:"), "{path}: {head}");
    }
}

/// Speaks RFC 8441 to a front, and says what was echoed.
async fn extended_connect(address: std::net::SocketAddr) -> (StatusCode, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .unwrap();
    // A task of hyper's own reads the settings, and tells nobody when it has.
    while !connection.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    tokio::spawn(connection);
    let mut request = Request::connect("http://shop.example/chat").body(Body::empty()).unwrap();
    request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let mut response = sender.send_request(request).await.unwrap();
    let status = response.status();
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    tunnel.write_all(b"over two").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut heard = String::new();
    tunnel.read_to_string(&mut heard).await.unwrap();
    (status, heard)
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_origin_that_does_not_speak_it() {
    let scripted = echoing().await;
    let address = front(origin(vec![scripted.server()], |_| {}), 1 << 20).await;
    assert_eq!(extended_connect(address).await, (StatusCode::OK, "hello over twobye".to_owned()));
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_origin_over_http2() {
    // The origin is another front, which takes extended CONNECT itself.
    let scripted = echoing().await;
    let inner = front(origin(vec![scripted.server()], |_| {}), 1 << 20).await;
    let outer = front(origin(vec![at(inner)], |spec| spec.protocol = OriginProtocol::Http2), 1 << 20).await;
    assert_eq!(extended_connect(outer).await, (StatusCode::OK, "hello over twobye".to_owned()));
}

#[tokio::test]
async fn content_beyond_the_limit_is_refused_before_and_during() {
    let scripted = Scripted::new(|_, mut wire| async move { wire.closed().await }).await;
    let address = front(origin(vec![scripted.server()], |_| {}), 5).await;
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsix676\r\n",
    ] {
        let mut client = Wire::new(tokio::net::TcpStream::connect(address).await.unwrap());
        client.say(request).await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
    }
    assert_eq!(scripted.connections(), 1, "content that says that it is too large is not even begun");
}

#[tokio::test]
async fn broken_content_is_the_clients_fault() {
    let scripted = Scripted::new(|_, mut wire| async move { wire.closed().await }).await;
    let address = front(origin(vec![scripted.server()], |_| {}), 1 << 20).await;
    let mut client = Wire::new(tokio::net::TcpStream::connect(address).await.unwrap());
    client.say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n").await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}
