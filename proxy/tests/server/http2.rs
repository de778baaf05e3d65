//! HTTP/2 by hand: floods and windows.

use std::time::Duration;

use harness::eventually;
use harness::h2::{END_HEADERS, END_STREAM, H2Raw, Outcome, kind};
use weir::config::model::Limits;
use weir::metrics::Limit;

use crate::service::Site;

const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A connection that the server has answered.
fn open(site: &Site, settings: &[(u16, u32)]) -> H2Raw {
    let mut raw = H2Raw::connect(site.address(), settings);
    assert_eq!(raw.read().map(|frame| frame.kind).ok(), Some(kind::SETTINGS));
    raw
}

/// Reads to the connection's end; what the last GOAWAY said.
fn last_error(raw: &mut H2Raw) -> Option<u32> {
    let mut error = None;
    while let Ok(frame) = raw.read() {
        if frame.kind == kind::GOAWAY {
            error = frame.payload[4..8].try_into().ok().map(u32::from_be_bytes);
        }
    }
    error
}

#[test]
fn a_client_that_resets_what_it_asks_for_is_told_to_calm_down() {
    let site = Site::with(Limits { resets: 10, ..Limits::default() });
    let mut raw = open(&site, &[]);
    for stream in (1..100).step_by(2) {
        if !raw.get(stream, "/wait") || !raw.frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()) {
            break;
        }
    }
    assert_eq!(last_error(&mut raw), Some(ENHANCE_YOUR_CALM));
    eventually("no request is left over", || {
        site.metrics.sum(|worker| &worker.requests_begun) == site.metrics.sum(|worker| &worker.requests_ended)
    });
}

#[test]
fn resets_that_a_client_makes_the_server_send_count_as_well() {
    let site = Site::with(Limits { resets: 10, ..Limits::default() });
    let mut raw = open(&site, &[]);
    for stream in (1..100).step_by(2) {
        // RFC 9113 §6.9.1: a window beyond 2^31-1 is a stream error, and so makes the server reset it.
        let most = 0x7fff_ffff_u32.to_be_bytes();
        if !raw.get(stream, "/wait") || !raw.frame(kind::WINDOW_UPDATE, 0, stream, &most) {
            break;
        }
    }
    assert_eq!(last_error(&mut raw), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn control_frames_without_use_end_a_connection() {
    for (what, frame_kind, payload) in [
        ("PING", kind::PING, [7_u8; 8].as_slice()),
        ("SETTINGS", kind::SETTINGS, &[]),
        ("PRIORITY", kind::PRIORITY, &[0, 0, 0, 0, 9]),
        ("an unknown frame", 0xbb, b"?"),
    ] {
        let site = Site::with(Limits::default());
        let mut raw = open(&site, &[]);
        let stream = u32::from(frame_kind == kind::PRIORITY) * 3;
        let mut one = harness::h2::frame_bytes(frame_kind, 0, stream, payload);
        one = one.repeat(100);
        for _ in 0..30 {
            if !raw.bytes(&one) {
                break;
            }
        }
        eventually(what, || site.metrics.connections_open() == 0);
        assert_eq!(site.metrics.limit_count(Limit::Frames), 1, "{what}");
    }
}

#[test]
fn empty_data_without_end_is_a_flood_like_any_other() {
    let site = Site::with(Limits::default());
    let mut raw = open(&site, &[]);
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "weir.test"), (":path", "/echo")];
    raw.headers(1, 0, &fields);
    for _ in 0..30 {
        if !raw.bytes(&harness::h2::frame_bytes(kind::DATA, 0, 1, &[]).repeat(100)) {
            break;
        }
    }
    eventually("the connection ends", || site.metrics.connections_open() == 0);
}

#[test]
fn a_head_in_endless_pieces_ends_its_connection() {
    let site = Site::with(Limits::default());
    let mut raw = open(&site, &[]);
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "weir.test"), (":path", "/hit")];
    raw.frame(kind::HEADERS, END_STREAM, 1, &harness::h2::field_block(&fields));
    for _ in 0..100 {
        if !raw.bytes(&harness::h2::frame_bytes(kind::CONTINUATION, 0, 1, &[]).repeat(100)) {
            break;
        }
    }
    eventually("the connection ends", || site.metrics.connections_open() == 0);
}

#[test]
fn a_head_that_is_never_finished_has_its_time() {
    let limits = Limits { head_timeout: Duration::from_millis(200), ..Limits::default() };
    let site = Site::with(limits);
    let mut raw = open(&site, &[]);
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "weir.test"), (":path", "/hit")];
    raw.frame(kind::HEADERS, END_STREAM, 1, &harness::h2::field_block(&fields));
    eventually("the connection ends", || site.metrics.limit_count(Limit::Head) == 1);
    eventually("it is gone", || site.metrics.connections_open() == 0);
}

#[test]
fn a_window_of_zero_does_not_hold_an_answer_for_ever() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    for path in ["/huge", "/big"] {
        let limits = Limits {
            idle_timeout: Duration::from_millis(200),
            keep_alive: Duration::from_millis(200),
            ..Limits::default()
        };
        let site = Site::with(limits);
        let mut raw = open(&site, &[(INITIAL_WINDOW_SIZE, 0)]);
        raw.get(1, path);
        assert_eq!(raw.outcome(1), Outcome::Status(200), "{path}");
        // A busy client: other frames go on moving.
        let ping = || !raw.frame(kind::PING, 0, 0, &[1; 8]) || site.metrics.connections_open() == 0;
        eventually(path, ping);
    }
}

#[test]
fn streams_and_decoded_heads_are_bound() {
    let site = Site::with(Limits { streams: 2, head_bytes: 8 << 10, ..Limits::default() });
    let mut raw = open(&site, &[]);
    for stream in [1, 3, 5] {
        raw.get(stream, "/wait");
    }
    const REFUSED_STREAM: u32 = 7;
    assert_eq!(raw.outcome(5), Outcome::Reset(REFUSED_STREAM));
    let mut raw = open(&site, &[]);
    let long = "v".repeat(9 << 10);
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "weir.test"),
        (":path", "/hit"),
        ("x", &long),
    ];
    raw.frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &harness::h2::field_block(&fields));
    assert_eq!(raw.outcome(1), Outcome::Status(431));
}
