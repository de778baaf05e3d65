//! The harness against itself, without a proxy in between: what it reports must be what happened.

use std::io::{Read, Write};

use harness::h2::{self, Outcome};
use harness::tls::Authority;
use harness::wire::{Ending, Framing};
use harness::{Conn, Gate, H2Client, H2Origin, Origin, ReadError, Reply, Script, websocket};

#[test]
fn an_origin_counts_and_answers() {
    let origin = Origin::start(|request| match request.path() {
        "/chunks" => Reply::new(200).chunks(&["one ", "two"]).trailer("X-Sum", "7"),
        "/none" => Reply::new(204),
        _ => Reply::ok(format!("{} {}", request.method, String::from_utf8_lossy(&request.body))),
    });
    let mut client = Conn::connect(origin.address());

    assert_eq!(client.get("/").text(), "GET ");
    assert_eq!(client.ask("POST", "/form", &[], b"a=1").text(), "POST a=1");
    assert_eq!(client.ask("HEAD", "/", &[], b"").framing, Framing::None);
    assert_eq!(client.get("/none").status, 204);
    let chunked = client.get("/chunks?q");
    assert_eq!((chunked.text().as_str(), chunked.framing), ("one two", Framing::Chunked));
    assert_eq!(chunked.trailers.get("x-sum"), Some("7"));

    assert_eq!(origin.count(), 5);
    assert_eq!(origin.count_of("/"), 2);
    assert_eq!(origin.last("/form").body, b"a=1");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_reports_what_is_ambiguous() {
    let attacks = [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;ext\r\nx\r\n0\r\n\r\n",
    ];
    for attack in attacks {
        let origin = Origin::echo();
        let mut client = Conn::connect(origin.address());
        client.send(attack);
        client.expect_end();
        assert_eq!(origin.count(), 0, "{attack:?}");
        assert_eq!(origin.faults().len(), 1, "{attack:?}");
    }
}

#[test]
fn a_client_sees_a_cut_for_what_it_is() {
    let cut_length = Script::answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour");
    let mut client = Conn::connect(cut_length.url().trim_start_matches("http://"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let Err(ReadError::Cut(Ending::Closed, response)) = client.response("GET") else { panic!("no cut seen") };
    assert_eq!(response.body, b"four");

    let cut_chunks = Origin::start(|_| {
        Reply::new(200).stream(|chunks| {
            chunks.send("four");
            chunks.cut();
        })
    });
    let mut client = Conn::connect(cut_chunks.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(client.response("GET"), Err(ReadError::Cut(Ending::Closed, _))));
}

#[test]
fn an_origin_goes_down_and_comes_back() {
    let mut origin = Origin::echo();
    let address = origin.address();
    let mut client = Conn::connect(address);
    client.get("/");

    origin.down();
    client.expect_end();
    assert!(std::net::TcpStream::connect(address).is_err(), "refused");

    origin.up();
    assert_eq!(Conn::connect(address).get("/again").text(), "GET /again");
}

#[test]
fn a_streamed_reply_waits_for_the_test() {
    let gate = Gate::new();
    let closed = gate.clone();
    let origin = Origin::start(move |_| {
        let gate = closed.clone();
        Reply::new(200).stream(move |chunks| {
            chunks.send("first");
            gate.wait();
            chunks.send("second");
        })
    });
    let mut client = Conn::connect(origin.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_head().expect("a head");
    assert_eq!(client.chunk().as_deref(), Some(&b"first"[..]));
    gate.open();
    assert_eq!(client.chunk().as_deref(), Some(&b"second"[..]));
    assert_eq!(client.chunk(), None);
}

#[test]
fn tls_works_on_both_sides() {
    let authority = Authority::new();
    let origin = Origin::start_tls(authority.identity(&["weir.test"]), |_| Reply::ok("sealed"));
    let (mut client, protocol) = authority.connect(origin.address(), "weir.test", &["http/1.1"]);
    assert_eq!(protocol.as_deref(), Some("http/1.1"));
    assert_eq!(client.get("/").text(), "sealed");
}

#[test]
fn http_2_works_on_both_sides() {
    let origin = H2Origin::start(|request| {
        Box::pin(async move { http::Response::new(h2::whole(format!("asked for {}", request.uri().path()))) })
    });
    let address = origin.url().trim_start_matches("http://").parse().expect("an address");
    let client = H2Client::connect(address);
    assert_eq!(client.get("/two").text(), "asked for /two");
    let all = client
        .ask_all((0..20).map(|i| client.request("GET", &format!("/{i}"), &[], h2::whole(""))).collect());
    for (i, response) in all.into_iter().enumerate() {
        assert_eq!(response.expect("a response").text(), format!("asked for /{i}"));
    }
    assert_eq!(origin.heads().len(), 21);

    let mut raw = h2::H2Raw::connect(address, &[]);
    raw.get(1, "/raw");
    assert_eq!(raw.outcome(1), Outcome::Status(200));
    raw.headers(
        3,
        h2::END_STREAM,
        &[(":method", "GET"), (":path", "/"), (":scheme", "http"), ("Upper", "x")],
    );
    let outcome = raw.outcome(3);
    assert!(matches!(outcome, Outcome::Reset(1) | Outcome::GoAway(1)), "a PROTOCOL_ERROR, not {outcome:?}");
}

#[test]
fn a_websocket_echoes() {
    let origin = Origin::start(|_| {
        Reply::take_over(|conn| {
            conn.send(websocket::ACCEPTED);
            websocket::echo(conn);
        })
    });
    let mut client = Conn::connect(origin.address());
    client.send(harness::wire::request_bytes("GET", "/ws", &websocket::OPENING, b""));
    assert_eq!(client.expect_response("GET").status, 101);
    websocket::send(&mut client, websocket::TEXT, b"hello", true).expect("sent");
    assert_eq!(websocket::receive(&mut client).expect("received"), (websocket::TEXT, b"hello".to_vec()));
    client.flush().expect("flushed");
    websocket::send(&mut client, websocket::CLOSE, b"", true).expect("sent");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an orderly end");
}

/// `tests/README.md` says which test shows what: each of them is there.
#[test]
fn every_test_that_the_readme_names_is_there() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut seen = 0;
    for name in readme.split('`').skip(1).step_by(2) {
        let Some((file, test)) = name.split_once("::") else { continue };
        let is_name = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !is_name(file) || !(test == "*" || is_name(test)) {
            continue;
        }
        let Ok(source) = std::fs::read_to_string(folder.join(format!("e2e/{file}.rs"))) else {
            panic!("{name}: there is no such file");
        };
        assert!(test == "*" || source.contains(&format!("fn {test}()")), "{name}: there is no such test");
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}
