//! Passing requests on and answers back: every protocol on both sides, every kind of stream, and what the proxy adds,
//! keeps and takes away.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::h2::{self, H2Raw};
use harness::tls::Authority;
use harness::wire::{Framing, request_bytes};
use harness::{Conn, Gate, H2Client, H2Origin, Origin, Reply, Script, Weir, eventually, websocket};
use http_body_util::BodyExt;

#[test]
fn a_request_is_made_anew_and_arrives_as_it_was() {
    let origin = Origin::echo();
    let weir = Weir::before(&origin);
    let body = b"a=1&b=2";
    let fields = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("X-Own", "1"),
        ("X-Own", "2"),
        ("Cookie", "a=b"),
    ];
    let response = weir.ask("POST", "/form?x=%20&y", &fields, body);
    assert_eq!(response.text(), "POST /form?x=%20&y");

    let seen = origin.last("/form?x=%20&y");
    assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("POST", &body[..]));
    assert_eq!(seen.framing, Framing::Length(body.len()));
    assert_eq!(seen.header("host"), Some("weir.test"));
    assert_eq!(seen.headers.all("x-own"), ["1", "2"]);
    assert_eq!(seen.header("cookie"), Some("a=b"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("weir.test"));
    let forwarded = seen.header("forwarded").expect("RFC 7239");
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"), "{forwarded}");
    assert!(seen.header("via").expect("RFC 9110 section 7.6.3").starts_with("1.1 "));
    assert!(response.header("via").expect("in the answer too").starts_with("1.1 "));
}

#[test]
fn connections_to_the_origin_are_used_again() {
    let origin = Origin::start(|_| Reply::ok("x").header("Cache-Control", "no-store"));
    let weir = Weir::with(&format!("[server]\nworkers = 1\n[[route]]\norigin = \"{}\"\n", origin.url()));
    let mut client = weir.client();
    for number in 0..50 {
        client.get(&format!("/{number}"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn every_status_and_method_passes() {
    let origin = Origin::start(|request| {
        let status = request.path().trim_start_matches('/').parse().unwrap_or(200);
        Reply::new(status).header("X-Method", request.method.clone())
    });
    let weir = Weir::before(&origin);
    let mut client = weir.client();
    for status in [
        200, 201, 202, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 410, 418, 422, 429, 451,
        500, 501, 503, 599,
    ] {
        // A 206 that nobody asked for is not an answer to pass on.
        if status != 206 {
            assert_eq!(client.get(&format!("/{status}")).status, status);
        }
    }
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"] {
        let response = weir.ask(method, "/", &[], b"");
        assert_eq!(response.header("x-method"), Some(method));
    }
}

#[test]
fn a_chunked_upload_is_streamed_as_it_comes() {
    let arrived = Gate::new();
    let seen = arrived.clone();
    let origin = Script::start(vec![Box::new(move |conn: &mut Conn| {
        let request = conn.request_head().expect("the upload's head");
        assert_eq!(request.framing, Framing::Chunked);
        assert_eq!(conn.chunk().as_deref(), Some(&b"first"[..]));
        seen.open();
        assert_eq!(conn.chunk().as_deref(), Some(&b"second"[..]));
        assert_eq!(conn.chunk(), None);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    })]);
    let weir = Weir::to(&origin.url());
    let mut client = weir.client();
    client.send("POST /up HTTP/1.1\r\nHost: weir.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    arrived.wait();
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.expect_response("POST").text(), "ok");
    origin.check();
}

#[test]
fn server_sent_events_pass_one_by_one() {
    let next = Arc::new((Mutex::new(0), std::sync::Condvar::new()));
    let origin_next = Arc::clone(&next);
    let origin = Origin::start(move |_| {
        let next = Arc::clone(&origin_next);
        Reply::new(200)
            .header("Content-Type", "text/event-stream")
            .header("Cache-Control", "no-cache")
            .stream(move |chunks| {
                for event in 0..5 {
                    let allowed = next.0.lock().unwrap();
                    let limit = harness::WAIT;
                    let (_allowed, waited) =
                        next.1.wait_timeout_while(allowed, limit, |allowed| *allowed < event).unwrap();
                    assert!(!waited.timed_out());
                    chunks.send(format!("data: {event}\n\n"));
                }
            })
    });
    let weir = Weir::before(&origin);
    let mut client = weir.client();
    client.send(request_bytes(
        "GET",
        "/events",
        &[("Accept", "text/event-stream"), ("Accept-Encoding", "gzip, br")],
        b"",
    ));
    for event in 0..5 {
        // The next event is only sent once this one has been seen: a buffer anywhere in between would end the test.
        client.until(format!("data: {event}\n\n").as_bytes());
        *next.0.lock().unwrap() = event + 1;
        next.1.notify_all();
    }
}

#[test]
fn a_slow_reader_slows_the_origin_down() {
    let sent = Arc::new(Mutex::new(0_usize));
    let counted = Arc::clone(&sent);
    let origin = Origin::start(move |_| {
        let counted = Arc::clone(&counted);
        Reply::new(200).header("Cache-Control", "no-store").stream(move |chunks| {
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..4_096 {
                if !chunks.send(&piece) {
                    return;
                }
                *counted.lock().unwrap() += piece.len();
            }
        })
    });
    let weir = Weir::before(&origin);
    let mut client = weir.client();
    client.send(request_bytes("GET", "/endless", &[], b""));
    client.until(b"\r\n\r\n");
    // Nobody reads on. What the origin could send comes to rest well below the 256 MiB that it has.
    let mut before = usize::MAX;
    let mut still = 0;
    eventually("the origin's sending comes to rest", || {
        let now = *sent.lock().unwrap();
        still = if now == before { still + 1 } else { 0 };
        before = now;
        still > 100
    });
    assert!(before < 64 << 20, "{before} bytes were taken from the origin for a client that does not read");
}

#[test]
fn trailers_pass_to_who_wants_them() {
    let origin = Origin::start(|_| {
        Reply::new(200).header("Trailer", "X-Sum").chunks(&["some ", "content"]).trailer("X-Sum", "7")
    });
    let weir = Weir::before(&origin);
    let wanted = weir.ask("GET", "/", &[("TE", "trailers"), ("Connection", "TE")], b"");
    assert_eq!((wanted.text().as_str(), wanted.trailers.get("x-sum")), ("some content", Some("7")));
    let unwanted = weir.get("/other");
    assert_eq!(unwanted.text(), "some content");
    assert!(!unwanted.trailers.has("x-sum"), "who did not ask for trailers gets none");
    let h2 = H2Client::connect(weir.address());
    let response = h2.get("/h2");
    assert_eq!(response.trailers.get("x-sum").unwrap(), "7", "HTTP/2 always takes them");
}

#[test]
fn expect_is_answered_hop_by_hop() {
    let origin = Origin::echo();
    let weir = Weir::before(&origin);
    let mut client = weir.client();
    client.send("POST /x HTTP/1.1\r\nHost: weir.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response_head().expect("an interim response").status, 100);
    client.send("hello");
    assert_eq!(client.expect_response("POST").status, 200);
    assert_eq!(origin.last("/x").body, b"hello");

    // An origin that refuses spares the client its upload.
    let refusing = Script::start(vec![Box::new(|conn: &mut Conn| {
        conn.request_head().expect("the head");
        conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    })]);
    let weir = Weir::to(&refusing.url());
    let mut client = weir.client();
    client.send(
        "POST /x HTTP/1.1\r\nHost: weir.test\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n",
    );
    let response = client.expect_response("POST");
    assert_eq!(response.status, 413);
}

#[test]
fn early_hints_pass_before_the_answer() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Script::start(vec![Box::new(move |conn: &mut Conn| {
        conn.request().expect("the request");
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
        held.wait();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
    })]);
    let weir = Weir::to(&origin.url());
    let mut client = weir.client();
    client.send(request_bytes("GET", "/", &[], b""));
    let hint = client.response_head().expect("the hint comes while the origin still thinks");
    assert_eq!((hint.status, hint.header("link")), (103, Some("</style.css>; rel=preload")));
    gate.open();
    assert_eq!(client.expect_response("GET").text(), "fine");
}

#[test]
fn a_websocket_is_a_tunnel_where_the_route_says_so() {
    let origin = Origin::start(|request| {
        if !request.headers.lists("upgrade", "websocket") {
            return Reply::new(426);
        }
        Reply::take_over(|conn| {
            conn.send(websocket::ACCEPTED);
            websocket::echo(conn);
        })
    });
    let config = format!(
        "[[route]]\nmatch = {{ path = \"/ws\" }}\norigin = \"{0}\"\nwebsocket = true\n[[route]]\norigin = \"{0}\"\n",
        origin.url()
    );
    let weir = Weir::with(&config);
    let mut client = weir.client();
    client.send(request_bytes("GET", "/ws", &websocket::OPENING, b""));
    let switched = client.expect_response("GET");
    assert_eq!(switched.status, 101);
    assert_eq!(switched.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for message in ["one", "two", "three"] {
        websocket::send(&mut client, websocket::TEXT, message.as_bytes(), true).unwrap();
        assert_eq!(websocket::receive(&mut client).unwrap(), (websocket::TEXT, message.as_bytes().to_vec()));
    }
    websocket::send(&mut client, websocket::CLOSE, b"", true).unwrap();
    assert_eq!(websocket::receive(&mut client).unwrap().0, websocket::CLOSE);
    client.expect_end();

    let mut elsewhere = weir.client();
    elsewhere.send(request_bytes("GET", "/other", &websocket::OPENING, b""));
    assert_eq!(elsewhere.expect_response("GET").status, 403, "elsewhere there are none");
    assert_eq!(origin.count_of("/other"), 0);
}

#[test]
fn a_websocket_over_http_2_becomes_an_upgrade() {
    let origin = Origin::start(|request| {
        // The proxy makes the key: HTTP/2 has none.
        let Some(key) = request.header("sec-websocket-key").map(str::to_owned) else {
            return Reply::ok("plain");
        };
        assert_eq!(request.method, "GET");
        Reply::take_over(move |conn| {
            let accept = accept_of(&key);
            conn.send(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"));
            websocket::echo(conn);
        })
    });
    let weir = Weir::with(&format!("[[route]]\norigin = \"{}\"\nwebsocket = true\n", origin.url()));
    let h2 = H2Client::connect(weir.address());
    let mut tunnel = h2.websocket("/ws");
    for message in ["one", "two"] {
        websocket::send(&mut tunnel, websocket::TEXT, message.as_bytes(), true).unwrap();
        assert_eq!(websocket::receive(&mut tunnel).unwrap(), (websocket::TEXT, message.as_bytes().to_vec()));
    }
    assert_eq!(h2.get("/plain-beside-it").text(), "plain", "the connection serves on");
}

/// `Sec-WebSocket-Accept` (RFC 6455 section 4.2.2), by another implementation of SHA-1 than the proxy's.
fn accept_of(key: &str) -> String {
    let script = "import sys,hashlib,base64;print(base64.b64encode(hashlib.sha1((sys.argv[1]+'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()).decode())";
    let output = std::process::Command::new("python3").args(["-c", script, key]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn http_2_clients_are_served_by_prior_knowledge() {
    let origin = Origin::echo();
    let weir = Weir::before(&origin);
    let h2 = H2Client::connect(weir.address());
    let first = h2.get("/page");
    assert_eq!((first.status.as_u16(), first.text().as_str()), (200, "GET /page"));
    assert_eq!(origin.last("/page").header("host"), Some("weir.test"), "Host is made from :authority");
    assert!(h2.get("/page").header("cache-status").unwrap().contains("hit"));
    let posted = h2.ask("POST", "/form", &[("content-type", "text/plain")], "content");
    assert_eq!(posted.text(), "POST /form");
    assert_eq!(origin.last("/form").body, b"content");
    // Cookie crumbs are one field again (RFC 9113 section 8.2.3).
    h2.ask("GET", "/crumbs", &[("cookie", "a=1"), ("cookie", "b=2")], "");
    assert_eq!(origin.last("/crumbs").header("cookie"), Some("a=1; b=2"));

    let many = (0..100).map(|i| h2.request("GET", &format!("/many/{i}"), &[], h2::whole(""))).collect();
    for (i, response) in h2.ask_all(many).into_iter().enumerate() {
        assert_eq!(response.unwrap().text(), format!("GET /many/{i}"));
    }
}

#[test]
fn tls_agrees_on_a_protocol_and_picks_by_name() {
    let origin = Origin::echo();
    let authority = Authority::new();
    let config = format!(
        "[server]\nlisten = [{{ address = \"127.0.0.1:0\", tls = [\
         {{ cert = \"{{DIR}}/weir.pem\", key = \"{{DIR}}/weir.key\" }}, \
         {{ cert = \"{{DIR}}/other.pem\", key = \"{{DIR}}/other.key\" }}] }}]\n\
         [[route]]\norigin = \"{}\"\n",
        origin.url()
    );
    let weir = Weir::with_files(&config, |folder| {
        authority.identity(&["weir.test"]).write(folder, "weir");
        authority.identity(&["other.test", "*.wild.test"]).write(folder, "other");
    });
    // Each of these handshakes verifies the certificate against the name.
    for name in ["weir.test", "other.test", "any.wild.test"] {
        let (mut client, agreed) = authority.connect(weir.address(), name, &["http/1.1"]);
        assert_eq!(agreed.as_deref(), Some("http/1.1"));
        assert_eq!(client.ask("GET", &format!("/{name}"), &[("Host", name)], b"").status, 200);
        assert_eq!(origin.last(&format!("/{name}")).header("x-forwarded-proto"), Some("https"));
    }
    let h2 = H2Client::connect_tls(weir.address(), "weir.test", &authority);
    assert_eq!(h2.get("/over-h2").text(), "GET /over-h2");
    let (mut without_alpn, agreed) = authority.connect(weir.address(), "weir.test", &[]);
    assert_eq!(agreed, None);
    assert_eq!(without_alpn.get("/no-alpn").status, 200);
}

#[test]
fn origins_speak_tls_and_are_verified() {
    let authority = Authority::new();
    let origin = Origin::start_tls(authority.identity(&["app.test"]), |_| Reply::ok("sealed"));
    let config = |name: &str| {
        format!(
            "[origin.app]\nservers = [\"{}\"]\ntls = {{ ca = \"{{DIR}}/ca.pem\", name = \"{name}\" }}\n[[route]]\norigin = \"app\"\n",
            origin.url()
        )
    };
    let prepare = |folder: &std::path::Path| drop(authority.write(folder));
    assert_eq!(Weir::with_files(&config("app.test"), prepare).get("/").text(), "sealed");
    assert_eq!(
        Weir::with_files(&config("other.test"), prepare).get("/").status,
        502,
        "a certificate for another name"
    );
    let stranger = Authority::new();
    let distrusting = Weir::with_files(&config("app.test"), |folder| drop(stranger.write(folder)));
    assert_eq!(distrusting.get("/").status, 502, "a certificate by another authority");
}

#[test]
fn origins_speak_http_2() {
    let handler = |request: http::Request<hyper::body::Incoming>| -> h2::Answer {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            http::Response::new(h2::whole(format!("{path} {}", String::from_utf8_lossy(&body))))
        })
    };
    let clear = H2Origin::start(handler);
    let weir = Weir::with(&format!(
        "[origin.app]\nservers = [\"{}\"]\nprotocol = \"http2\"\n[[route]]\norigin = \"app\"\n",
        clear.url()
    ));
    assert_eq!(weir.ask("POST", "/clear", &[], b"sent").text(), "/clear sent");
    let head = &clear.heads()[0];
    assert_eq!(head.uri.authority().unwrap().as_str(), "weir.test");
    assert!(
        !head.headers.contains_key("host") && !head.headers.contains_key("connection"),
        "{:?}",
        head.headers
    );

    let authority = Authority::new();
    let sealed = H2Origin::start_tls(authority.identity(&["app.test"]), handler);
    let weir = Weir::with_files(
        &format!(
            "[origin.app]\nservers = [\"{}\"]\ntls = {{ ca = \"{{DIR}}/ca.pem\", name = \"app.test\" }}\n[[route]]\norigin = \"app\"\n",
            sealed.url()
        ),
        |folder| drop(authority.write(folder)),
    );
    assert_eq!(weir.get("/sealed").text(), "/sealed ");
    assert_eq!(H2Client::connect(weir.address()).get("/both").text(), "/both ");
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("origin.sock");
    let origin = Origin::start_unix(&socket, |request| Reply::ok(format!("{} by socket", request.target)));
    let weir = Weir::with(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\", \"unix:{{DIR}}/weir.sock\"]\n[[route]]\norigin = \"unix:{}\"\n",
        socket.display()
    ));
    assert_eq!(weir.get("/tcp").text(), "/tcp by socket");
    let mut client = Conn::new(UnixStream::connect(weir.folder().join("weir.sock")).unwrap());
    assert_eq!(client.get("/unix").text(), "/unix by socket");
    assert_eq!(origin.last("/unix").header("host"), Some("weir.test"));
}

#[test]
fn grpc_calls_pass_unary_and_both_ways_at_once() {
    // Length-prefixed messages over HTTP/2 with the status in the trailers: what gRPC is on the wire.
    let origin = H2Origin::start(|request| {
        Box::pin(async move {
            let (feed, body) = h2::fed();
            let mut messages = request.into_body();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = messages.frame().await {
                    let Ok(data) = frame.into_data() else { break };
                    if !feed.data(data).await {
                        return;
                    }
                }
                feed.trailers(&[("grpc-status", "0"), ("grpc-message", "done")]).await;
            });
            http::Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        })
    });
    let weir = Weir::with(&format!(
        "[origin.app]\nservers = [\"{}\"]\nprotocol = \"http2\"\n[[route]]\norigin = \"app\"\n",
        origin.url()
    ));
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let client = H2Client::connect(weir.address());

    let message = "\0\0\0\0\x05hello";
    let unary = client.ask("POST", "/pkg.Service/Unary", &fields, message);
    assert_eq!(unary.text(), message);
    assert_eq!(unary.trailers.get("grpc-status").unwrap(), "0");
    assert_eq!(unary.trailers.get("grpc-message").unwrap(), "done");
    assert_eq!(origin.heads()[0].headers.get("te").unwrap(), "trailers");

    // Each answer comes before the next question is asked.
    let (feed, body) = h2::fed();
    let mut response = client.open(client.request("POST", "/pkg.Service/Chat", &fields, body));
    client.block_on(async {
        for word in ["one", "two", "three"] {
            assert!(feed.data(Bytes::from_static(word.as_bytes())).await);
            let answer = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(answer, word);
        }
        drop(feed);
        let trailers = response.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn the_proxy_protocol_tells_who_the_client_is() {
    let origin =
        Origin::start(|request| Reply::ok(request.header("x-forwarded-for").unwrap_or_default().to_owned()));
    let weir = Weir::with(&format!(
        "[server]\nlisten = [{{ address = \"127.0.0.1:0\", proxy_protocol = true }}]\ntrusted_proxies = [\"127.0.0.1/32\"]\n\
         [[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    let mut v1 = weir.client();
    v1.send("PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n");
    assert_eq!(v1.get("/v1").text(), "192.0.2.7");
    let mut v1 = weir.client();
    v1.send("PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n");
    assert_eq!(v1.get("/v1-6").text(), "2001:db8::7");

    let mut v2 = weir.client();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&[192, 0, 2, 9, 198, 51, 100, 1, 0x9c, 0x40, 0x01, 0xbb]);
    v2.send(header);
    assert_eq!(v2.get("/v2").text(), "192.0.2.9");

    // In pieces, and without.
    let mut pieces = weir.client();
    for piece in [
        "PRO",
        "XY TCP4 192.0.2.8 198.51.100.1 1 ",
        "2\r",
        "\nGET /pieces HTTP/1.1\r\nHost: weir.test\r\n\r\n",
    ] {
        pieces.send(piece);
    }
    assert_eq!(pieces.expect_response("GET").text(), "192.0.2.8");
    for wrong in [
        "GET / HTTP/1.1\r\nHost: weir.test\r\n\r\n",
        "PROXY TCP4 nonsense\r\n\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n\r\n",
    ] {
        let mut client = weir.client();
        let _ = client.try_send(wrong);
        client.expect_end();
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_trusted_proxy_is_believed_and_extended() {
    let origin = Origin::echo();
    let trusting = Weir::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    let fields = [
        ("X-Forwarded-For", "203.0.113.5, 10.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.test"),
    ];
    trusting.ask("GET", "/trusted", &fields, b"");
    let seen = origin.last("/trusted");
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.5, 10.1.1.1, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("public.test"));
}

#[test]
fn problems_are_told_as_json_or_html_with_a_reason() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let weir = Weir::to(&format!("http://{refused}"));
    let json = weir.ask("GET", "/", &[("Accept", "application/json")], b"");
    assert_eq!(json.status, 502);
    assert!(json.header("content-type").unwrap().starts_with("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(problem["status"], 502);
    let proxy_status = json.header("proxy-status").expect("RFC 9209");
    assert!(proxy_status.contains("error=connection_refused"), "{proxy_status}");
    let html = weir.ask("GET", "/", &[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")], b"");
    assert_eq!(html.status, 502);
    assert!(html.header("content-type").unwrap().starts_with("text/html"), "{:?}", html.headers);
    assert!(!html.text().contains(&refused.to_string()), "where the origin is, is nobody's business");
}

#[test]
fn a_body_may_be_as_large_as_the_route_says() {
    let origin = Origin::start(|request| Reply::ok(request.body.len().to_string()));
    let weir = Weir::with(&format!(
        "[[route]]\nmatch = {{ path = \"/small\" }}\norigin = \"{0}\"\nbody_bytes = \"1KiB\"\n[[route]]\norigin = \"{0}\"\n",
        origin.url()
    ));
    assert_eq!(weir.ask("POST", "/small", &[], &[b'x'; 1024]).text(), "1024");
    assert_eq!(weir.ask("POST", "/small", &[], &[b'x'; 1025]).status, 413);
    assert_eq!(weir.ask("POST", "/large", &[], &vec![b'x'; 5_000_000]).text(), "5000000");
    let mut client = weir.client();
    client.send("POST /small HTTP/1.1\r\nHost: weir.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let _ = client.try_send(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(2048)));
    assert_eq!(client.expect_response("POST").status, 413, "chunks are counted too");
    assert_eq!(origin.count_of("/small"), 1);
}

#[test]
fn a_client_that_leaves_cancels_what_nobody_else_wants() {
    let cancelled = Gate::new();
    let seen = cancelled.clone();
    let origin = Script::start(vec![Box::new(move |conn: &mut Conn| {
        conn.request().expect("the request");
        conn.rest(1);
        seen.open();
    })]);
    let weir = Weir::to(&origin.url());
    let mut client = weir.client();
    client.send(request_bytes("POST", "/long", &[], b"x"));
    eventually("the origin is asked", || {
        origin.received().first().is_some_and(|bytes| bytes.ends_with(b"x"))
    });
    client.reset();
    cancelled.wait();

    let mut raw = H2Raw::connect(weir.address(), &[]);
    assert!(raw.get(1, "/"));
}

#[test]
fn http_1_0_clients_are_understood() {
    let origin = Origin::start(|_| Reply::new(200).chunks(&["in ", "chunks"]));
    let weir = Weir::before(&origin);
    let mut client = weir.client();
    client.write_all(b"GET /old HTTP/1.0\r\nHost: weir.test\r\n\r\n").unwrap();
    let (bytes, _) = client.rest(1 << 16);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.starts_with("HTTP/1.1 200 ") || text.starts_with("HTTP/1.0 200 "), "{text}");
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "no chunks for who does not know them");
    assert!(text.ends_with("\r\n\r\nin chunks"), "{text}");
}
