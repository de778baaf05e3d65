//! Stopping: nothing under way fails, nothing new is taken, nobody waits for ever.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::wire::request_bytes;
use harness::{Conn, H2Client, eventually};
use weir::config::model::Limits;

use crate::service::Site;

fn drain(site: &Site, within: Duration) -> std::thread::JoinHandle<Duration> {
    let server = Arc::clone(&site.server);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let began = Instant::now();
        runtime.block_on(server.drain(within));
        began.elapsed()
    })
}

#[test]
fn requests_under_way_end_well_and_new_connections_are_refused() {
    let site = Site::with(Limits::default());
    let mut waiting = site.connect();
    waiting.send(request_bytes("GET", "/wait", &[], b""));
    let mut idle = site.connect();
    assert_eq!(idle.get("/hit").status, 200);
    let http2 = H2Client::connect(site.address());
    assert_eq!(http2.get("/hit").status, 200);
    eventually("the request has come", || {
        site.metrics.sum(|worker| &worker.requests_begun)
            == site.metrics.sum(|worker| &worker.requests_ended) + 1
    });
    let draining = drain(&site, Duration::from_secs(20));
    eventually("nobody accepts any more", || TcpStream::connect(site.address()).is_err());
    assert!(idle.response("GET").unwrap_err().is_end(), "an idle connection is closed");
    site.release();
    let answer = waiting.expect_response("GET");
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("at last", Some("close")));
    assert!(draining.join().unwrap() < Duration::from_secs(20), "it ends when the last connection has ended");
}

#[test]
fn a_request_that_crosses_the_stop_on_an_idle_connection_is_answered() {
    let site = Site::with(Limits::default());
    let mut idle = site.connect();
    assert_eq!(idle.get("/hit").header("connection"), None);
    let mut fresh = site.connect();
    // What the kernel has not handed over yet is reset with the listener.
    eventually("both are accepted", || site.metrics.connections_open() == 2);
    let draining = drain(&site, Duration::from_secs(20));
    eventually("nobody accepts any more", || TcpStream::connect(site.address()).is_err());
    for conn in [&mut idle, &mut fresh] {
        let answer = conn.get("/hit");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(conn.response("GET").unwrap_err().is_end());
    }
    draining.join().unwrap();
}

#[test]
fn what_does_not_end_in_time_is_cut_and_web_sockets_are_told() {
    let site = Site::with(Limits::default());
    let mut stalled = site.connect();
    stalled.send(request_bytes("GET", "/stall", &[], b""));
    assert_eq!(stalled.response_head().unwrap().status, 200);
    let mut tunnel = site.connect();
    tunnel.send(request_bytes("GET", "/upgrade", &harness::websocket::OPENING, b""));
    assert_eq!(tunnel.expect_response("GET").status, 101);
    let draining = drain(&site, Duration::from_secs(1));
    let (kind, payload) = harness::websocket::receive(&mut tunnel).unwrap();
    assert_eq!((kind, payload), (harness::websocket::CLOSE, 1001_u16.to_be_bytes().to_vec()));
    draining.join().unwrap();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stalled, &mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "no last chunk: the client sees that it was cut");
}

#[test]
fn a_server_with_nothing_to_do_stops_at_once() {
    let site = Site::with(Limits::default());
    drop(Conn::connect(site.address()));
    eventually("the connection is gone", || site.metrics.connections_open() == 0);
    let took = drain(&site, Duration::from_secs(60)).join().unwrap();
    assert!(took < Duration::from_secs(60), "{took:?}");
}
