//! Limits of time, number and size, each set small.

use std::io::Read as _;
use std::time::Duration;

use harness::eventually;
use harness::wire::{Ending, request_bytes};
use weir::config::model::Limits;
use weir::metrics::Limit;

use crate::service::{KIB, Site};

/// So small that a test need not wait, so large that a busy machine does not trip over the other limits.
const SMALL: Duration = Duration::from_millis(200);

#[test]
fn a_head_that_does_not_end_is_answered_408_however_its_bytes_drip() {
    let site = Site::with(Limits { head_timeout: SMALL, ..Limits::default() });
    let mut dripping = site.connect();
    dripping.send("GET /hit HTTP/1.1\r\nHost: weir.test\r\n");
    // One more byte now and then makes no difference: the head as a whole has its time.
    let drip = || dripping.try_send("X").is_err() || site.metrics.limit_count(Limit::Head) > 0;
    eventually("the head's time is over", drip);
    let late = dripping.expect_response("GET");
    assert_eq!((late.status, late.header("connection")), (408, Some("close")));
    assert_eq!(site.metrics.limit_count(Limit::Head), 1);
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_a_kept_one_when_it_has_been_idle() {
    let site = Site::with(Limits { head_timeout: SMALL, ..Limits::default() });
    let mut silent = site.connect();
    assert!(silent.response("GET").unwrap_err().is_end());
    assert_eq!(site.metrics.limit_count(Limit::Head), 1);

    let site = Site::with(Limits { keep_alive: SMALL, ..Limits::default() });
    let mut kept = site.connect();
    assert_eq!(kept.get("/hit").body, KIB);
    assert!(kept.response("GET").unwrap_err().is_end());
    assert_eq!(site.metrics.limit_count(Limit::KeepAlive), 1);
    let http2 = harness::H2Client::connect(site.address());
    assert_eq!(http2.get("/hit").body, KIB.as_slice());
    eventually("an idle HTTP/2 connection is closed too", || site.metrics.connections_open() == 0);
}

#[test]
fn a_client_that_waits_for_its_answer_is_not_idle() {
    let site = Site::with(Limits {
        keep_alive: SMALL,
        head_timeout: SMALL,
        idle_timeout: SMALL,
        ..Limits::default()
    });
    let mut patient = site.connect();
    patient.send(request_bytes("GET", "/wait", &[], b""));
    let mut idle = site.connect();
    assert_eq!(idle.get("/hit").status, 200);
    // By the time an idle connection has been closed, the waiting one would have been, too.
    assert!(idle.response("GET").unwrap_err().is_end());
    site.release();
    assert_eq!(patient.expect_response("GET").text(), "at last");
}

#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let site = Site::with(Limits { idle_timeout: SMALL, ..Limits::default() });
    let mut greedy = site.connect();
    greedy.send(request_bytes("GET", "/huge", &[], b""));
    eventually("it is cut off", || site.metrics.limit_count(Limit::WriteIdle) == 1);
    eventually("it is gone", || site.metrics.connections_open() == 0);
    let mut rest = Vec::new();
    let end = greedy.read_to_end(&mut rest);
    assert!(end.is_err() || rest.len() < 1 << 30, "it sees that the answer is cut");
}

#[test]
fn connections_are_limited_in_all_and_for_each_address() {
    for (limits, limit) in [
        (Limits { connections: 3, ..Limits::default() }, Limit::Connections),
        (Limits { connections_per_address: 3, ..Limits::default() }, Limit::ConnectionsPerAddress),
    ] {
        let site = Site::with(limits);
        let mut first: Vec<_> = (0..3).map(|_| site.connect()).collect();
        for conn in &mut first {
            assert_eq!(conn.get("/hit").status, 200);
        }
        let mut fourth = site.connect();
        let _ = fourth.try_send(request_bytes("GET", "/hit", &[], b""));
        assert!(fourth.response("GET").unwrap_err().is_end());
        assert_eq!(site.metrics.limit_count(limit), 1);
        drop(first.pop());
        eventually("there is room again", || {
            let mut next = site.connect();
            next.try_send(request_bytes("GET", "/hit", &[], b"")).is_ok() && next.response("GET").is_ok()
        });
        assert_eq!(first[0].get("/hit").body, KIB, "those inside do not notice");
    }
}

#[test]
fn heads_are_bound_in_bytes_and_fields() {
    let site = Site::with(Limits { head_bytes: 8 << 10, head_fields: 20, ..Limits::default() });
    let long = "a".repeat(9 << 10);
    let mut client = site.connect();
    assert_eq!(client.ask("GET", "/hit", &[("x", &long)], b"").status, 431);
    let many = [("x", "y"); 20];
    let mut client = site.connect();
    assert_eq!(client.ask("GET", "/hit", &many, b"").status, 431);
    let mut client = site.connect();
    assert_eq!(client.ask("GET", "/hit", &many[..19], b"").status, 200, "Host and nineteen are twenty");
}

#[test]
fn time_for_tls_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let pair = harness::tls::Authority::new().identity(&["a.test"]).write(folder.path(), "a");
    let limits = Limits { handshake_timeout: SMALL, ..Limits::default() };
    let site = Site::start(&crate::service::config(vec![crate::service::with_tls(&[pair])], limits));
    let mut silent = site.connect();
    silent.send([22, 3, 1]);
    let end = silent.response("GET").unwrap_err();
    assert!(matches!(end, harness::ReadError::Ended(Ending::Closed | Ending::Reset, _)), "{end}");
    assert_eq!(site.metrics.limit_count(Limit::Handshake), 1);
}
