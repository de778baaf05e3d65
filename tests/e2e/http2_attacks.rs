//! HTTP/2 by hand: malformed requests, floods, and peers that do not read.

use std::time::Duration;

use harness::h2::{END_HEADERS, END_STREAM, H2Raw, Outcome, field_block, frame_bytes, kind};
use harness::{H2Client, Origin, Reply, Weir, eventually};

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "weir.test"), (":path", "/attack")];

fn echo() -> (Origin, Weir) {
    let origin = Origin::start(|request| Reply::ok(format!("{} {}", request.method, request.target)));
    let weir = Weir::before(&origin);
    (origin, weir)
}

/// A stream error, a connection error, or a 4xx; and the origin never saw it.
#[track_caller]
fn refused(what: &str, outcome: &Outcome) {
    let fine = matches!(outcome, Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed)
        || matches!(outcome, Outcome::Status(status) if (400..500).contains(status) || *status == 501);
    assert!(fine, "{what}: {outcome:?}");
}

#[test]
fn malformed_requests_never_reach_the_origin() {
    let (origin, weir) = echo();
    let with = |extra: &[(&'static str, &'static str)]| [&GET[..], extra].concat();
    let without = |name: &str| GET.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let changed = |name: &'static str, value: &'static str| {
        GET.into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect::<Vec<_>>()
    };
    let rows = [
        ("an upper case name", with(&[("X-Upper", "a")])),
        ("CR LF in a value", with(&[("x-field", "a\r\nx-smuggled: b")])),
        ("LF in a value", with(&[("x-field", "a\nb")])),
        ("CR in a value", with(&[("x-field", "a\rb")])),
        ("NUL in a value", with(&[("x-field", "a\0b")])),
        ("an escape in a value", with(&[("x-field", "a\x1bb")])),
        ("a colon in a name", with(&[("x:field", "a")])),
        ("a space in a name", with(&[("x field", "a")])),
        ("a line end in a name", with(&[("x\r\nfield", "a")])),
        ("an empty name", with(&[("", "a")])),
        ("Transfer-Encoding", with(&[("transfer-encoding", "chunked")])),
        ("Connection", with(&[("connection", "close")])),
        ("Keep-Alive", with(&[("keep-alive", "timeout=5")])),
        ("Upgrade", with(&[("upgrade", "h2c")])),
        ("Proxy-Connection", with(&[("proxy-connection", "close")])),
        ("TE that is not trailers", with(&[("te", "gzip")])),
        ("a Host that contradicts", with(&[("host", "evil.test")])),
        ("two hosts", with(&[("host", "weir.test"), ("host", "evil.test")])),
        ("an unknown pseudo field", with(&[(":unknown", "a")])),
        ("a response's pseudo field", with(&[(":status", "200")])),
        ("a pseudo field twice", with(&[(":path", "/other")])),
        (
            "a late pseudo field",
            vec![
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "weir.test"),
                ("x-a", "b"),
                (":path", "/attack"),
            ],
        ),
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("an empty path", changed(":path", "")),
        ("a relative path", changed(":path", "attack")),
        ("a space in the path", changed(":path", "/attack HTTP/1.1")),
        ("a line end in the path", changed(":path", "/attack\r\nx: y")),
        ("a fragment-like control byte in the path", changed(":path", "/attack\x7f")),
        ("asterisk with GET", changed(":path", "*")),
        ("a line end in the method", changed(":method", "GET\r\n")),
        ("a space in the method", changed(":method", "GET /smuggled")),
        ("an empty method", changed(":method", "")),
        ("another scheme", changed(":scheme", "ftp")),
        ("a line end in the scheme", changed(":scheme", "http\r\n")),
        ("user information", changed(":authority", "user@weir.test")),
        ("a path in the authority", changed(":authority", "weir.test/x")),
        ("a line end in the authority", changed(":authority", "weir.test\r\nx: y")),
        ("an empty authority", changed(":authority", "")),
        ("a length that is no number", with(&[("content-length", "5x")])),
        ("two lengths", with(&[("content-length", "5"), ("content-length", "6")])),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "weir.test:443")]),
        ("TRACE", changed(":method", "TRACE")),
    ];
    for (what, fields) in rows {
        let mut raw = H2Raw::connect(weir.address(), &[]);
        raw.headers(1, END_STREAM, &fields);
        refused(what, &raw.outcome(1));
        assert_eq!(origin.count(), 0, "{what}: {:?}", origin.requests());
        assert_eq!(origin.faults(), Vec::<String>::new(), "{what}");
    }
    assert_eq!(weir.get("/canary").text(), "GET /canary");
}

#[test]
fn a_length_that_the_body_contradicts_never_makes_a_whole_request() {
    let (origin, weir) = echo();
    for (what, length, data) in [("shorter", "10", "hello"), ("longer", "2", "hello"), ("none", "0", "hello")]
    {
        let mut raw = H2Raw::connect(weir.address(), &[]);
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "weir.test"),
            (":path", "/attack"),
            ("content-length", length),
        ];
        raw.headers(1, 0, &fields);
        raw.frame(kind::DATA, END_STREAM, 1, data.as_bytes());
        refused(what, &raw.outcome(1));
        assert_eq!(origin.count_of("/attack"), 0, "{what}");
        assert_eq!(weir.get("/canary").text(), "GET /canary", "{what}");
    }
}

#[test]
fn a_request_that_announces_nothing_may_end_a_frame_later() {
    let (origin, weir) = echo();
    let mut raw = H2Raw::connect(weir.address(), &[]);
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "weir.test"),
        (":path", "/empty"),
        ("content-length", "0"),
    ];
    raw.headers(1, 0, &fields);
    raw.frame(kind::DATA, END_STREAM, 1, b"");
    assert_eq!(raw.outcome(1), Outcome::Status(200));
    assert_eq!(origin.requests()[0].body, b"");
}

#[test]
fn rapid_resets_end_the_connection_and_nothing_else() {
    let (origin, weir) = echo();
    let mut raw = H2Raw::connect(weir.address(), &[]);
    let mut stream = 1;
    let mut frames = Vec::new();
    for _ in 0..5_000 {
        frames.extend(frame_bytes(kind::HEADERS, END_HEADERS | END_STREAM, stream, &field_block(&GET)));
        frames.extend(frame_bytes(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        stream += 2;
    }
    let _ = raw.bytes(&frames);
    let outcome = raw.outcome(stream);
    assert!(matches!(outcome, Outcome::GoAway(_) | Outcome::Closed), "{outcome:?}");
    assert!(origin.count_of("/attack") < 2_500, "{} requests reached the origin", origin.count_of("/attack"));
    assert_eq!(weir.get("/canary").text(), "GET /canary");
}

#[test]
fn resets_that_the_server_is_made_to_send_count_too() {
    // CVE-2025-8671: the client makes the server reset, by a WINDOW_UPDATE of zero on each stream.
    let (origin, weir) = echo();
    let mut raw = H2Raw::connect(weir.address(), &[]);
    let mut frames = Vec::new();
    let mut stream = 1;
    for _ in 0..5_000 {
        frames.extend(frame_bytes(kind::HEADERS, END_HEADERS | END_STREAM, stream, &field_block(&GET)));
        frames.extend(frame_bytes(kind::WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
        stream += 2;
    }
    let _ = raw.bytes(&frames);
    let outcome = raw.outcome(stream);
    assert!(matches!(outcome, Outcome::GoAway(_) | Outcome::Closed), "{outcome:?}");
    assert!(origin.count_of("/attack") < 2_500, "{} requests reached the origin", origin.count_of("/attack"));
    assert_eq!(weir.get("/canary").text(), "GET /canary");
}

#[test]
fn floods_of_control_frames_end_their_connection_or_cost_nothing() {
    let (_origin, weir) = echo();
    let floods: [(&str, Vec<u8>); 5] = [
        ("CONTINUATION without end", {
            let mut frames = frame_bytes(kind::HEADERS, END_STREAM, 1, &field_block(&GET));
            for _ in 0..20_000 {
                frames.extend(frame_bytes(kind::CONTINUATION, 0, 1, &field_block(&[("x", "y")])));
            }
            frames
        }),
        ("empty CONTINUATION", {
            let mut frames = frame_bytes(kind::HEADERS, END_STREAM, 1, &field_block(&GET));
            for _ in 0..100_000 {
                frames.extend(frame_bytes(kind::CONTINUATION, 0, 1, &[]));
            }
            frames
        }),
        ("PING", frame_bytes(kind::PING, 0, 0, &[0; 8]).repeat(200_000)),
        ("SETTINGS", frame_bytes(kind::SETTINGS, 0, 0, &[]).repeat(200_000)),
        ("empty DATA", {
            let fields =
                [(":method", "POST"), (":scheme", "http"), (":authority", "weir.test"), (":path", "/flood")];
            let mut frames = frame_bytes(kind::HEADERS, END_HEADERS, 1, &field_block(&fields));
            frames.extend(frame_bytes(kind::DATA, 0, 1, &[]).repeat(200_000));
            frames
        }),
    ];
    let before = weir.resident_bytes();
    for (what, frames) in floods {
        // Written by a thread of its own, because nobody reads what comes back.
        let mut raw = H2Raw::connect(weir.address(), &[]);
        let writer = std::thread::spawn(move || {
            let _ = raw.bytes(&frames);
            raw
        });
        for number in 0..20 {
            let target = format!("/canary/{number}");
            assert_eq!(weir.get(&target).text(), format!("GET {target}"), "during {what}");
        }
        drop(writer);
        let grown = weir.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{what}: {grown} bytes more");
    }
}

#[test]
fn a_decoded_head_is_bounded() {
    let (origin, weir) = echo();
    // One entry of four kilobytes in the table, then two thousand references to it, a byte each.
    let mut raw = H2Raw::connect(weir.address(), &[]);
    let mut block = field_block(&GET);
    block.push(0x40);
    block.extend_from_slice(b"\x01x");
    block.extend_from_slice(&[0x7f, 0xa1, 0x1e]);
    block.extend(std::iter::repeat_n(b'v', 4_000));
    block.extend(std::iter::repeat_n(0xbe, 4_000));
    for (number, piece) in block.chunks(16_000).enumerate() {
        let last = if (number + 1) * 16_000 >= block.len() { END_HEADERS } else { 0 };
        let (kind, flags) =
            if number == 0 { (kind::HEADERS, END_STREAM | last) } else { (kind::CONTINUATION, last) };
        raw.frame(kind, flags, 1, piece);
    }
    refused("a bomb", &raw.outcome(1));

    let long = "v".repeat(40_000);
    let mut raw = H2Raw::connect(weir.address(), &[]);
    let block = field_block(&[&GET[..], &[("x-long", long.as_str())]].concat());
    let pieces: Vec<_> = block.chunks(16_000).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let last = if number + 1 == pieces.len() { END_HEADERS } else { 0 };
        let (kind, flags) =
            if number == 0 { (kind::HEADERS, END_STREAM | last) } else { (kind::CONTINUATION, last) };
        raw.frame(kind, flags, 1, piece);
    }
    refused("a long field", &raw.outcome(1));

    let mut raw = H2Raw::connect(weir.address(), &[]);
    let many: Vec<_> = GET.into_iter().chain(std::iter::repeat_n(("x-many", "v"), 400)).collect();
    raw.headers(1, END_STREAM, &many);
    refused("many fields", &raw.outcome(1));
    assert_eq!(origin.count(), 0);
}

#[test]
fn streams_at_once_are_bounded() {
    let gate = harness::Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        held.wait();
        Reply::ok("x").header("Cache-Control", "no-store")
    });
    let weir = Weir::before(&origin);
    let mut raw = H2Raw::connect(weir.address(), &[]);
    for number in 0..300 {
        raw.get(number * 2 + 1, &format!("/{number}"));
    }
    let last = raw.outcome(599);
    assert!(
        matches!(last, Outcome::Reset(7) | Outcome::GoAway(_) | Outcome::Closed),
        "{last:?}: REFUSED_STREAM or worse"
    );
    assert!(origin.count() <= 100, "{}", origin.count());
    gate.open();
}

#[test]
fn a_peer_that_gives_no_window_holds_little() {
    let origin = Origin::start(|_| Reply::ok(vec![b'x'; 8 << 20]).header("Cache-Control", "no-store"));
    let weir = Weir::with(&format!(
        "[server.limits]\nidle_timeout = \"500ms\"\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    let before = weir.resident_bytes();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: not one byte of content may be sent.
    let mut raw = H2Raw::connect(weir.address(), &[(4, 0)]);
    for number in 0..50 {
        raw.get(number * 2 + 1, &format!("/{number}"));
    }
    origin.wait_for(10);
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes are held for a peer that reads nothing of 400 MiB");
    // And not for ever: streams without progress are ended.
    raw.limit_reads(Duration::from_secs(10));
    let mut ended = false;
    eventually("streams without progress end", || {
        match raw.read() {
            Ok(frame) => ended |= frame.kind == kind::RST_STREAM || frame.kind == kind::GOAWAY,
            Err(_) => ended = true,
        }
        ended
    });
    assert_eq!(H2Client::connect(weir.address()).get("/0").status.as_u16(), 200);
}
