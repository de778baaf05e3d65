//! HTTP/1.1 and HTTP/2 in cleartext, interim responses, upgrades, panics, listeners.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use harness::wire::{Ending, request_bytes};
use harness::{Conn, H2Client, ReadError, eventually};
use weir::config::model::{Limits, ListenAddress, Listener};
use weir::server::{ListenError, Server, ServerError};

use crate::service::{KIB, Site, config, plain};

#[test]
fn http1_and_http2_share_a_port_by_prior_knowledge() {
    let site = Site::with(Limits::default());
    let mut http1 = site.connect();
    assert_eq!(http1.get("/hit").body, KIB);
    assert_eq!(http1.get("/big").body.len(), 64 << 10);
    let http2 = H2Client::connect(site.address());
    assert_eq!(http2.get("/hit").body, KIB.as_slice());
    assert_eq!(http2.ask("POST", "/echo", &[], "content").text(), "content");
    assert_eq!(http1.ask("POST", "/echo", &[], b"content").body, b"content");
}

#[test]
fn a_head_may_come_byte_by_byte_and_requests_may_be_pipelined() {
    let site = Site::with(Limits::default());
    let mut slowly = site.connect();
    for byte in request_bytes("GET", "/hit", &[], b"") {
        slowly.send([byte]);
    }
    assert_eq!(slowly.expect_response("GET").body, KIB);
    // `PR` could still become the preface of HTTP/2.
    let mut ambiguous = site.connect();
    ambiguous.send("PR");
    ambiguous.send("OPFIND /hit HTTP/1.1\r\nHost: weir.test\r\n\r\n");
    assert_eq!(ambiguous.expect_response("PROPFIND").body, KIB);
    let mut pipelined = site.connect();
    pipelined.send([request_bytes("GET", "/hit", &[], b""), request_bytes("GET", "/big", &[], b"")].concat());
    assert_eq!(pipelined.expect_response("GET").body, KIB);
    assert_eq!(pipelined.expect_response("GET").body.len(), 64 << 10);
}

#[test]
fn an_interim_response_leaves_before_the_final_one_is_there() {
    let site = Site::with(Limits::default());
    let mut client = site.connect();
    client.send(request_bytes("GET", "/interim", &[], b""));
    let early = client.response_head().unwrap();
    assert_eq!((early.status, early.headers.get("link")), (103, Some("</a.css>")));
    site.release();
    let last = client.expect_response("GET");
    assert_eq!((last.status, last.text().as_str(), last.interim.len()), (200, "final", 0));
    assert_eq!(client.get("/hit").body, KIB, "the connection goes on");
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    let site = Site::with(Limits::default());
    let mut client = site.connect();
    client.send(request_bytes("GET", "/upgrade", &harness::websocket::OPENING, b""));
    assert_eq!(client.expect_response("GET").status, 101);
    harness::websocket::send(&mut client, harness::websocket::TEXT, b"hello", false).unwrap();
    assert_eq!(
        harness::websocket::receive(&mut client).unwrap(),
        (harness::websocket::TEXT, b"hello".to_vec())
    );
}

#[test]
fn a_panic_ends_its_own_connection_or_stream_only_and_is_counted() {
    let site = Site::with(Limits::default());
    let mut bystander = site.connect();
    assert_eq!(bystander.get("/hit").status, 200);
    let panics = || site.metrics.sum(|worker| &worker.panics);
    for (before, path) in [(0, "/panic"), (1, "/panic-later")] {
        let mut unlucky = site.connect();
        unlucky.send(request_bytes("GET", path, &[], b""));
        assert!(unlucky.response("GET").unwrap_err().is_end(), "{path}");
        assert_eq!(panics(), before + 1);
    }
    let http2 = H2Client::connect(site.address());
    let request = http2.request("GET", "/panic-later", &[], harness::h2::whole(""));
    assert!(http2.ask_all(vec![request]).remove(0).is_err());
    assert_eq!(panics(), 3);
    assert_eq!(http2.get("/hit").body, KIB.as_slice(), "other streams go on");
    assert_eq!(bystander.get("/hit").body, KIB);
}

#[test]
fn an_answer_reaches_a_client_whose_content_nobody_read() {
    let site = Site::with(Limits::default());
    let mut client = site.connect();
    client.send("POST /ignore HTTP/1.1\r\nHost: weir.test\r\nContent-Length: 3000000\r\n\r\n");
    client.send(vec![b'a'; 200_000]);
    assert_eq!(client.expect_response("POST").status, 403);
}

#[test]
fn every_worker_serves_and_the_sockets_of_one_port_are_ours_alone() {
    let site = Site::with(Limits::default());
    let address = site.address();
    let served = |worker: usize| site.metrics.worker(worker).connections_opened.count();
    eventually("both workers accept", || {
        assert_eq!(site.connect().get("/hit").status, 200);
        served(0) > 0 && served(1) > 0
    });
    let again = config(vec![Listener { address: ListenAddress::Tcp(address), ..plain() }], Limits::default());
    let metrics = weir::metrics::Metrics::new(2);
    let service = |_| |_: weir::incoming::Received, _: &_| -> weir::answer::Answer { panic!("never asked") };
    let Err(errors) = Server::start(&again, &metrics, service) else {
        panic!("a second server on {address}");
    };
    assert!(matches!(errors[..], [ServerError::Listen(ListenError::InUse { .. })]), "{errors:?}");
    assert_eq!(errors[0].to_string(), format!("{address} is in use by another listener"));
}

#[test]
fn a_unix_socket_takes_the_place_of_a_leftover_but_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    // A socket whose process is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let unix = || Listener { address: ListenAddress::Unix(path.clone()), ..plain() };
    let site = Site::start(&config(vec![plain(), unix()], Limits::default()));
    assert_eq!(site.listening()[1].to_string(), format!("unix:{}", path.display()));
    let mut client = Conn::new(UnixStream::connect(&path).unwrap());
    assert_eq!(client.get("/who").text(), "None None None http - -");
    let Err(errors) = site.server.prepare(&config(
        vec![Listener { address: ListenAddress::Unix(folder.path().to_owned()), ..plain() }],
        Limits::default(),
    )) else {
        panic!("a folder is no socket");
    };
    assert!(errors[0].to_string().ends_with("exists and is not a socket"), "{errors:?}");
    drop(site);
    assert!(!path.exists(), "a server that ends takes its socket file away");
}

#[test]
fn listeners_come_and_go_with_a_reload_and_connections_stay() {
    let site = Site::with(Limits::default());
    let first = site.address();
    let mut old = Conn::connect(first);
    assert_eq!(old.get("/hit").status, 200);
    let kept = Listener { address: ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), ..plain() };
    let added = Listener { address: ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 2], 0))), ..plain() };
    let prepared = site.server.prepare(&config(vec![kept, added.clone()], Limits::default())).ok().unwrap();
    site.server.apply(prepared);
    let addresses: Vec<_> = site.listening().iter().map(ToString::to_string).collect();
    assert_eq!(addresses[0], format!("http://{first}"), "the port that was picked is kept");
    let second: SocketAddr = addresses[1].strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(Conn::connect(second).get("/hit").status, 200);
    site.server.apply(site.server.prepare(&config(vec![added], Limits::default())).ok().unwrap());
    eventually("the first listener is closed", || std::net::TcpStream::connect(first).is_err());
    assert_eq!(old.get("/hit").body, KIB, "its connections live on");
}

#[test]
fn a_proxy_header_names_the_client_and_only_a_trusted_peer_may_send_it() {
    let listener = Listener { proxy_protocol: true, ..plain() };
    let mut trusting = config(vec![listener.clone()], Limits::default());
    trusting.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let site = Site::start(&trusting);
    for header in [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x67\0\x50".to_vec(),
    ] {
        let mut client = site.connect();
        client.send([header, request_bytes("GET", "/who", &[], b"")].concat());
        let who = client.expect_response("GET").text();
        assert!(who.starts_with("Some(192.0.2.7:4711) Some(198.51.100.1:80) Some(127.0.0.1:"), "{who}");
    }
    for header in ["", "PROXY TCP4 192.0.2.7\r\n"] {
        let mut client = site.connect();
        let _ = client.try_send([header.as_bytes(), &request_bytes("GET", "/who", &[], b"")].concat());
        assert!(client.response("GET").unwrap_err().is_end(), "{header:?}");
    }
    let wary = Site::start(&config(vec![listener], Limits::default()));
    let mut client = wary.connect();
    let _ =
        client.try_send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\nGET /who HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = client.response("GET").unwrap_err();
    assert!(matches!(refused, ReadError::Ended(Ending::Closed | Ending::Reset, _)), "{refused}");
}
