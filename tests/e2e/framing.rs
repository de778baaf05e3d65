//! Attacks on message framing over HTTP/1.1: hardening begins with one length per message. Client and origin are
//! scripted; the strict reader of the harness is the judge of what the origin was sent. Behind each attack runs a
//! canary, pipelined on the same connection and again on another: it gets its own answer or none.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::wire::{Ending, request_bytes, show};
use harness::{Conn, H2Client, Origin, ReadError, Reply, Response, Script, Weir, websocket};

/// What a client may be told, and then the connection closes.
const REJECTED: &[u16] = &[400];
const REJECTED_VERSION: &[u16] = &[400, 505];
const REJECTED_CODING: &[u16] = &[400, 501];

struct Range {
    origin: Origin,
    weir: Weir,
    canaries: AtomicUsize,
}

impl Range {
    fn new() -> Range {
        let origin = Origin::start(|request| {
            Reply::ok(format!(
                "{} {} [{}]",
                request.method,
                request.target,
                String::from_utf8_lossy(&request.body)
            ))
        });
        let weir = Weir::before(&origin);
        Range { origin, weir, canaries: AtomicUsize::new(0) }
    }

    fn canary(&self) -> String {
        format!("/canary/{}", self.canaries.fetch_add(1, Ordering::SeqCst))
    }

    /// Sends the attack with a canary behind it; returns every response up to the end of the connection, or up to the
    /// canary's.
    fn fire(&self, what: &str, attack: &[u8]) -> (Vec<Response>, String) {
        let canary = self.canary();
        let mut client = self.weir.client();
        let pipelined = [attack, &request_bytes("GET", &canary, &[], b"")].concat();
        // The proxy may have answered and closed before it has taken everything.
        let _ = client.try_send(&pipelined);
        let mut responses = Vec::new();
        loop {
            match client.response("GET") {
                Ok(response) => {
                    let done = response.text().contains(&canary);
                    responses.push(response);
                    if done {
                        break;
                    }
                    assert!(responses.len() <= 4, "{what}: one request, {} answers", responses.len());
                }
                Err(error) if error.is_end() => break,
                Err(error) => panic!("{what}: after {} answers: {error}", responses.len()),
            }
        }
        (responses, canary)
    }

    /// The attack is answered with one of these statuses and the connection closes; the origin never sees it whole.
    #[track_caller]
    fn rejects(&self, what: &str, attack: impl AsRef<[u8]>, statuses: &[u16]) {
        let attack = attack.as_ref();
        let (responses, canary) = self.fire(what, attack);
        let got: Vec<_> = responses.iter().map(|r| (r.status, r.text())).collect();
        assert_eq!(responses.len(), 1, "{what}: one answer and the end, got {got:?} for {}", show(attack));
        assert!(
            statuses.contains(&responses[0].status),
            "{what}: {statuses:?}, got {got:?} for {}",
            show(attack)
        );
        assert_eq!(self.origin.count_of(&canary), 0, "{what}: what follows a rejected message is no request");
        self.holds(what);
    }

    /// The attack is harmless or rejected, but the canary behind it gets its own answer or none.
    #[track_caller]
    fn tolerates(&self, what: &str, attack: impl AsRef<[u8]>, statuses: &[u16]) -> Vec<Response> {
        let attack = attack.as_ref();
        let (responses, canary) = self.fire(what, attack);
        assert!(!responses.is_empty(), "{what}: no answer at all");
        let first = &responses[0];
        assert!(
            statuses.contains(&first.status),
            "{what}: {statuses:?}, got {} {}",
            first.status,
            first.text()
        );
        if responses.len() > 1 {
            assert_eq!(responses[1].text(), format!("GET {canary} []"), "{what}");
        }
        self.holds(what);
        responses
    }

    /// Nothing ambiguous reached the origin, nothing smuggled was taken for a request, and others are served.
    #[track_caller]
    fn holds(&self, what: &str) {
        assert_eq!(self.origin.faults(), Vec::<String>::new(), "{what}: ambiguous at the origin");
        assert_eq!(self.origin.count_of("/smuggled"), 0, "{what}: the origin answered a smuggled request");
        let canary = self.canary();
        assert_eq!(self.weir.get(&canary).text(), format!("GET {canary} []"), "{what}: another connection");
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /attack HTTP/1.1\r\nHost: weir.test\r\n{fields}\r\n\r\n{body}")
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: weir.test\r\n\r\n";

#[test]
fn content_length_with_transfer_encoding_smuggles_nothing() {
    // RFC 9112 section 6.3: reject, or go by the chunks alone; in either case it was the last on its connection.
    let range = Range::new();
    let hidden = format!("0\r\n\r\n{SMUGGLED}");
    let rows = [
        (
            "CL.TE",
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked", hidden.len()),
            hidden.as_str(),
            "[]",
        ),
        ("CL.TE, no length", "Content-Length: 0\r\nTransfer-Encoding: chunked".to_owned(), &hidden, "[]"),
        (
            "TE.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 4".to_owned(),
            "5\r\nhello\r\n0\r\n\r\n",
            "[hello]",
        ),
        ("a bad CL", "Transfer-Encoding: chunked\r\nContent-Length: x".to_owned(), &hidden, "[]"),
        (
            "two CL",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2".to_owned(),
            &hidden,
            "[]",
        ),
    ];
    for (what, fields, body, by_chunks) in rows {
        range.rejects(what, post(&fields, body), &[200, 400]);
        for request in range.origin.requests().iter().filter(|request| request.target == "/attack") {
            assert_eq!(
                format!("[{}]", String::from_utf8_lossy(&request.body)),
                by_chunks,
                "{what}: by the chunks alone"
            );
        }
        range.origin.forget();
    }
}

#[test]
fn content_that_nobody_reads_is_no_request() {
    // Answered here, so that the content stays where it is; then it is skipped, or the connection ends.
    let range = Range::new();
    let fields = |length: &str| {
        format!("OPTIONS /attack HTTP/1.1\r\nHost: weir.test\r\nMax-Forwards: 0\r\n{length}\r\n\r\n")
    };
    let whole = format!("{}{SMUGGLED}", fields(&format!("Content-Length: {}", SMUGGLED.len())));
    let responses = range.tolerates("a length", whole, &[200]);
    assert_eq!(responses.len(), 2, "it was at hand, and is skipped");
    let chunks =
        format!("{}{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", fields("Transfer-Encoding: chunked"), SMUGGLED.len());
    let responses = range.tolerates("chunks", chunks, &[200]);
    assert_eq!(responses.len(), 2, "it was at hand, and is skipped");
    assert_eq!(range.origin.count_of("/attack"), 0);

    let mut client = range.weir.client();
    client.send(fields("Content-Length: 100000"));
    let response = client.expect_response("OPTIONS");
    assert_eq!((response.status, response.header("connection")), (200, Some("close")), "it has not come");
}

#[test]
fn a_fragment_in_a_target_is_refused() {
    let range = Range::new();
    range.rejects("a fragment", "GET /attack#part HTTP/1.1\r\nHost: weir.test\r\n\r\n", REJECTED);
    assert_eq!(range.origin.count_of("/attack"), 0);
}

#[test]
fn chunked_requests_share_a_connection() {
    let range = Range::new();
    let mut client = range.weir.client();
    for part in ["one", "two"] {
        client.send(post("Transfer-Encoding: chunked", &format!("3\r\n{part}\r\n0\r\n\r\n")));
        assert_eq!(client.expect_response("POST").text(), format!("POST /attack [{part}]"));
    }
}

#[test]
fn only_chunked_is_a_transfer_encoding() {
    let range = Range::new();
    let rows = [
        ("a list that ends otherwise", "Transfer-Encoding: chunked, identity"),
        ("a list that ends in chunked", "Transfer-Encoding: gzip, chunked"),
        ("another coding", "Transfer-Encoding: gzip"),
        ("identity", "Transfer-Encoding: identity"),
        ("chunked twice in a list", "Transfer-Encoding: chunked, chunked"),
        ("chunked twice in lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("two lines, one of them other", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("quoted", "Transfer-Encoding: \"chunked\""),
        ("a parameter", "Transfer-Encoding: chunked;q=1"),
        ("a prefix", "Transfer-Encoding: xchunked"),
        ("a suffix", "Transfer-Encoding: chunkedx"),
        ("a comma", "Transfer-Encoding: ,chunked"),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked"),
        ("a form feed behind", "Transfer-Encoding: chunked\x0c"),
        ("a NUL", "Transfer-Encoding: chunked\0"),
        ("empty", "Transfer-Encoding:"),
        ("a space before the colon", "Transfer-Encoding : chunked"),
        ("folded", "Transfer-Encoding:\r\n chunked"),
    ];
    for (what, fields) in rows {
        range.rejects(what, post(fields, &format!("0\r\n\r\n{SMUGGLED}")), REJECTED_CODING);
    }
    assert_eq!(range.origin.count_of("/attack"), 0);
}

#[test]
fn transfer_encoding_in_http_1_0_is_rejected() {
    let range = Range::new();
    let attack = format!(
        "POST /attack HTTP/1.0\r\nHost: weir.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
    );
    range.rejects("chunked in 1.0", attack, &[400, 501, 505]);
}

#[test]
fn content_length_is_one_number() {
    let range = Range::new();
    let rows = [
        ("a list", "Content-Length: 5, 5"),
        ("a list of two", "Content-Length: 5, 0"),
        ("two lines", "Content-Length: 5\r\nContent-Length: 0"),
        ("two lines, the other way", "Content-Length: 0\r\nContent-Length: 5"),
        ("a plus sign", "Content-Length: +5"),
        ("a minus sign", "Content-Length: -5"),
        ("empty", "Content-Length:"),
        ("hexadecimal", "Content-Length: 0x5"),
        ("more behind", "Content-Length: 5x"),
        ("a space inside", "Content-Length: 5 5"),
        ("an underscore", "Content-Length: 1_0"),
        ("a fraction", "Content-Length: 5.0"),
        ("beyond 64 bits", "Content-Length: 18446744073709551621"),
        ("far beyond", "Content-Length: 99999999999999999999999999999999"),
        ("other digits", "Content-Length: \u{b2}"),
        ("a vertical tab", "Content-Length: \x0b5"),
        ("a space before the colon", "Content-Length : 5"),
        ("folded", "Content-Length:\r\n 5"),
    ];
    for (what, fields) in rows {
        let attack: Vec<u8> = post(fields, "hello").chars().map(|c| u8::try_from(c).unwrap()).collect();
        range.rejects(what, attack, REJECTED);
    }
    assert_eq!(range.origin.count_of("/attack"), 0);
    // Identical repeats may be folded into one; then the body has that length and no other.
    range.tolerates("repeated", post("Content-Length: 5\r\nContent-Length: 5", "hello"), &[200, 400]);
}

#[test]
fn a_chunk_has_a_plain_size_and_ends_where_it_says() {
    let range = Range::new();
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    let rows = [
        ("a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("a NUL behind", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("not a digit", "g\r\nhello\r\n0\r\n\r\n"),
        ("an overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a long overflow", "fffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("data longer than said", "5\r\nhelloX\r\n0\r\n\r\n"),
        ("data without an end", "5\r\nhello0\r\n\r\n"),
        ("data closed by LF", "5\r\nhello\n0\r\n\r\n"),
        ("data closed by CR", "5\r\nhello\r0\r\n\r\n"),
        ("a size line that ends in LF", "5\nhello\r\n0\r\n\r\n"),
        ("a size line that ends in CR", "5\rhello\r\n0\r\n\r\n"),
        ("CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("a CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("an LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a last chunk with LF", "5\r\nhello\r\n0\n\r\n"),
        ("a trailer with a space before its colon", "5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
        ("a trailer that is no field", "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    ];
    for (what, body) in rows {
        range.rejects(what, chunked(body), REJECTED);
    }
    assert_eq!(range.origin.count_of("/attack"), 0, "none of them became a whole request");
}

#[test]
fn chunk_extensions_go_no_further_and_are_bounded() {
    let range = Range::new();
    let attack = post("Transfer-Encoding: chunked", "5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n");
    let responses = range.tolerates("extensions", attack, &[200, 400]);
    if responses[0].status == 200 {
        assert_eq!(responses[0].text(), "POST /attack [hello]");
    }
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(40_000));
    range.rejects("an endless extension", post("Transfer-Encoding: chunked", &long), &[400, 413, 431]);
    let many = "1;xxxxxxxxxxxxxxx\r\ny\r\n".repeat(4_000);
    let attack = post("Transfer-Encoding: chunked", &format!("{many}0\r\n\r\n"));
    range.rejects("many extensions", attack, &[400, 413, 431]);
}

#[test]
fn trailers_that_frame_route_or_authorise_never_arrive() {
    let range = Range::new();
    let trailers = "Content-Length: 99\r\nTransfer-Encoding: chunked\r\nHost: evil.test\r\nAuthorization: Basic eDp5\r\n\
                    Cookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nX-Sum: 7\r\n";
    let attack = post(
        "TE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked",
        &format!("5\r\nhello\r\n0\r\n{trailers}\r\n"),
    );
    range.tolerates("trailers", attack, &[200, 400]);
    for request in range.origin.requests() {
        for (name, _) in &request.trailers.0 {
            assert_eq!(name.to_ascii_lowercase(), "x-sum", "a forbidden field in the trailers");
        }
        assert_ne!(request.header("host"), Some("evil.test"));
    }
}

#[test]
fn fields_have_token_names_and_plain_values() {
    let range = Range::new();
    let rows: [(&str, &[u8]); 22] = [
        ("a space before the colon", b"X-Field : a"),
        ("a tab before the colon", b"X-Field\t: a"),
        ("a folded value", b"X-Field: a\r\n b"),
        ("a value folded with a tab", b"X-Field: a\r\n\tb"),
        ("a space in a name", b"X Field: a"),
        ("a parenthesis in a name", b"X(Field: a"),
        ("a slash in a name", b"X/Field: a"),
        ("a quote in a name", b"X\"Field: a"),
        ("a NUL in a name", b"X\0Field: a"),
        ("high bytes in a name", b"X\xe4Field: a"),
        ("no name", b": a"),
        ("no colon", b"X-Field"),
        ("a NUL in a value", b"X-Field: a\0b"),
        ("a bare CR in a value", b"X-Field: a\rb"),
        ("a bare CR before a field", b"X-Field: a\rX-Other: b"),
        ("an LF in a value", b"X-Field: a\nb"),
        ("a bell in a value", b"X-Field: a\x07b"),
        ("a backspace in a value", b"X-Field: a\x08b"),
        ("an escape in a value", b"X-Field: a\x1b[31m"),
        ("a DEL in a value", b"X-Field: a\x7fb"),
        ("a one in a value", b"X-Field: \x01"),
        ("a vertical tab in a value", b"X-Field: a\x0bb"),
    ];
    for (what, field) in rows {
        let attack = [b"GET /attack HTTP/1.1\r\nHost: weir.test\r\n".as_slice(), field, b"\r\n\r\n"].concat();
        range.rejects(what, attack, REJECTED);
    }
    range.rejects(
        "a line that begins with a space",
        "GET /attack HTTP/1.1\r\n Host: weir.test\r\n\r\n",
        REJECTED,
    );
    range.rejects(
        "space before the first field",
        "GET /attack HTTP/1.1\r\n \r\nHost: weir.test\r\n\r\n",
        REJECTED,
    );
    assert_eq!(range.origin.count_of("/attack"), 0);
}

#[test]
fn bare_line_feeds_in_a_head_change_nothing() {
    let range = Range::new();
    range.tolerates("LF only", "GET /attack HTTP/1.1\nHost: weir.test\n\n", &[200, 400]);
    range.tolerates("mixed", "GET /attack HTTP/1.1\r\nHost: weir.test\nX-A: b\r\n\r\n", &[200, 400]);
}

#[test]
fn a_request_line_has_three_parts_and_a_version() {
    let range = Range::new();
    let rows: [(&str, &[u8]); 20] = [
        ("two spaces after the method", b"GET  /attack HTTP/1.1"),
        ("two spaces before the version", b"GET /attack  HTTP/1.1"),
        ("a space at the end", b"GET /attack HTTP/1.1 "),
        ("a space at the start", b" GET /attack HTTP/1.1"),
        ("tabs", b"GET\t/attack\tHTTP/1.1"),
        ("a vertical tab", b"GET\x0b/attack HTTP/1.1"),
        ("a space in the target", b"GET /attack /smuggled HTTP/1.1"),
        ("a control byte in the target", b"GET /attack\x01 HTTP/1.1"),
        ("a DEL in the target", b"GET /attack\x7f HTTP/1.1"),
        ("a high byte in the target", b"GET /attack\xe4 HTTP/1.1"),
        ("a NUL in the target", b"GET /attack\0 HTTP/1.1"),
        ("no target", b"GET HTTP/1.1"),
        ("no version", b"GET /attack"),
        ("HTTP/0.9", b"GET /attack HTTP/0.9"),
        ("HTTP/2.0", b"GET /attack HTTP/2.0"),
        ("HTTP/1.10", b"GET /attack HTTP/1.10"),
        ("HTTP/01.1", b"GET /attack HTTP/01.1"),
        ("lower case", b"GET /attack http/1.1"),
        ("another protocol", b"GET /attack ICAP/1.0"),
        ("a method that is no token", b"G(ET /attack HTTP/1.1"),
    ];
    for (what, line) in rows {
        range.rejects(what, [line, b"\r\nHost: weir.test\r\n\r\n"].concat(), REJECTED_VERSION);
    }
    assert_eq!(range.origin.count_of("/attack"), 0);
}

#[test]
fn there_is_one_valid_host() {
    let range = Range::new();
    let rows = [
        ("missing", "X-No: host"),
        ("twice", "Host: weir.test\r\nHost: evil.test"),
        ("twice the same", "Host: weir.test\r\nHost: weir.test"),
        ("empty", "Host:"),
        ("a space", "Host: weir.test evil.test"),
        ("a comma", "Host: weir.test,evil.test"),
        ("a path", "Host: weir.test/evil"),
        ("a query", "Host: weir.test?evil"),
        ("a fragment", "Host: weir.test#evil"),
        ("user information", "Host: user@weir.test"),
        ("a port that is no number", "Host: weir.test:80x"),
        ("a port that is too big", "Host: weir.test:99999"),
        ("two ports", "Host: weir.test:80:80"),
        ("an open bracket", "Host: [::1"),
        ("a backslash", "Host: weir.test\\evil"),
        ("a quote", "Host: weir.test\"evil"),
        ("an angle bracket", "Host: <script>"),
    ];
    for (what, field) in rows {
        range.rejects(what, format!("GET /attack HTTP/1.1\r\n{field}\r\n\r\n"), REJECTED);
    }
    assert_eq!(range.origin.count_of("/attack"), 0);
}

#[test]
fn the_authority_of_an_absolute_target_replaces_host() {
    let range = Range::new();
    let absolute = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: weir.test\r\n\r\n");
    range.tolerates("absolute form", absolute("http://other.test/absolute?q"), &[200]);
    let seen = range.origin.last("/absolute?q");
    assert_eq!(seen.header("host"), Some("other.test"));
    assert_ne!(seen.header("x-forwarded-host"), Some("weir.test"));

    range.tolerates("an empty path", absolute("http://other.test"), &[200]);
    assert_eq!(range.origin.last("/").header("host"), Some("other.test"));

    for target in [
        "ftp://other.test/attack",
        "http://user@other.test/attack",
        "http:///attack",
        "http://o ther/attack",
        "file:///attack",
    ] {
        range.rejects(target, absolute(target), REJECTED);
    }
    // Whatever a client names, requests go where the configuration says.
    let elsewhere = Origin::echo();
    range.tolerates(
        "an address",
        absolute(&format!("http://{}/absolute-address", elsewhere.address())),
        &[200],
    );
    assert_eq!(elsewhere.connections(), 0, "the target is never a choice of origin");
}

#[test]
fn other_forms_of_target_are_rejected() {
    let range = Range::new();
    let with = |line: &str| format!("{line} HTTP/1.1\r\nHost: weir.test\r\n\r\n");
    range.rejects("CONNECT", with("CONNECT weir.test:443"), &[400, 405, 501]);
    range.rejects("asterisk with GET", with("GET *"), REJECTED);
    range.rejects("authority with GET", with("GET weir.test:80"), REJECTED);
    range.rejects("a relative path", with("GET attack"), REJECTED);
}

#[test]
fn trace_and_unknown_expectations_are_refused() {
    let range = Range::new();
    range.tolerates("TRACE", "TRACE /attack HTTP/1.1\r\nHost: weir.test\r\n\r\n", &[405]);
    range.tolerates("an unknown expectation", post("Expect: 200-maybe\r\nContent-Length: 0", ""), &[417]);
    range.tolerates("two expectations", post("Expect: 100-continue, x\r\nContent-Length: 0", ""), &[417]);
    assert_eq!(range.origin.count_of("/attack"), 0);
}

#[test]
fn h2c_is_never_offered_to_the_origin() {
    let range = Range::new();
    let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__";
    let attack = format!("GET /attack HTTP/1.1\r\nHost: weir.test\r\n{fields}\r\n\r\n");
    range.tolerates("h2c", attack, &[200, 400]);
    for request in range.origin.requests() {
        assert!(
            !request.headers.has("upgrade") && !request.headers.has("http2-settings"),
            "{:?}",
            request.headers
        );
    }
}

#[test]
fn bytes_behind_an_upgrade_that_is_not_taken_are_the_next_request() {
    // The origin knows no WebSocket: it answers 200. What the client sent meanwhile is a request like any other.
    let mut range = Range::new();
    range.weir = Weir::with(&format!("[[route]]\norigin = \"{}\"\nwebsocket = true\n", range.origin.url()));
    let opening = request_bytes("GET", "/attack", &websocket::OPENING, b"");
    let responses = range.tolerates("an upgrade refused", &opening, &[200]);
    assert_eq!(responses.len(), 2, "the canary behind it is answered");

    // And an origin that accepts sees no byte of it before it has said 101.
    let early = Script::start(vec![Box::new(|conn: &mut Conn| {
        conn.request().expect("the upgrade");
        assert_eq!(conn.received().lock().unwrap().windows(5).filter(|w| w == b"EARLY").count(), 0);
        conn.send(websocket::ACCEPTED);
        assert_eq!(conn.exactly(5), b"EARLY");
    })]);
    let weir = Weir::with(&format!("[[route]]\norigin = \"{}\"\nwebsocket = true\n", early.url()));
    let mut client = weir.client();
    client.send([&request_bytes("GET", "/ws", &websocket::OPENING, b"")[..], b"EARLY"].concat());
    assert_eq!(client.expect_response("GET").status, 101);
    client.rest(1 << 10);
    early.check();
}

#[test]
fn a_101_nobody_asked_for_is_an_error() {
    let origin = Script::answering(format!("{}poison", websocket::ACCEPTED));
    let weir = Weir::to(&origin.url());
    let mut client = weir.client();
    client.send(request_bytes("GET", "/plain", &[], b""));
    assert_eq!(client.expect_response("GET").status, 502);
}

#[test]
fn a_body_left_unread_never_becomes_a_request() {
    let origin = Origin::start(|request| match request.path() {
        "/kept" => Reply::ok("kept").header("Cache-Control", "max-age=60"),
        target => Reply::ok(format!("GET {target} []")),
    });
    let config = format!(
        "[[route]]\nmatch = {{ path = \"/fixed\" }}\nrespond = {{ status = 403, body = \"no\" }}\n\
         [[route]]\norigin = \"{}\"\n",
        origin.url()
    );
    let weir = Weir::with(&config);
    let range = Range { origin, weir, canaries: AtomicUsize::new(0) };
    range.weir.get("/kept");
    let length = SMUGGLED.len();

    for target in ["/kept", "/fixed"] {
        for method in ["GET", "POST"] {
            let with_length = format!(
                "{method} {target} HTTP/1.1\r\nHost: weir.test\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
            );
            range.tolerates("a length", with_length, &[200, 400, 403]);
            let chunks = format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
            let in_chunks = format!(
                "{method} {target} HTTP/1.1\r\nHost: weir.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
            );
            range.tolerates("chunks", in_chunks, &[200, 400, 403]);
        }
    }
    // More than anybody drains: the connection may close, the rest may not be taken for requests.
    let flood = SMUGGLED.repeat(40_000);
    let mut client = range.weir.client();
    client
        .send(format!("POST /fixed HTTP/1.1\r\nHost: weir.test\r\nContent-Length: {}\r\n\r\n", flood.len()));
    let _ = client.try_send(&flood);
    assert_eq!(client.expect_response("POST").status, 403);
    range.holds("a flood behind an early answer");
}

#[test]
fn an_origin_that_answers_before_it_has_read_does_not_confuse_the_next() {
    // It answers at once and reads the body never: its connection has to go, not to be used again.
    let origin = Script::start(vec![
        Box::new(|conn: &mut Conn| {
            conn.request_head().expect("the upload");
            conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            conn.rest(usize::MAX);
        }),
        Box::new(|conn: &mut Conn| {
            let request = conn.request().expect("the next request, whole and on a connection of its own");
            assert_eq!(request.target, "/next");
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
        }),
    ]);
    let weir = Weir::to(&origin.url());
    let mut client = weir.client();
    client.send("POST /upload HTTP/1.1\r\nHost: weir.test\r\nContent-Length: 1000000\r\n\r\npart of it");
    assert_eq!(client.expect_response("POST").status, 403);
    assert_eq!(weir.get("/next").text(), "next");
    origin.check();
}

#[test]
fn broken_responses_become_502_and_are_not_stored() {
    let fields = "Cache-Control: max-age=60\r\n";
    let rows: Vec<(&str, String)> = vec![
        (
            "two lengths",
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ),
        ("a list of lengths", format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5, 5\r\n\r\nhello")),
        ("a signed length", format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: +5\r\n\r\nhello")),
        (
            "a length that is no number",
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: five\r\n\r\nhello"),
        ),
        ("an empty length", format!("HTTP/1.1 200 OK\r\n{fields}Content-Length:\r\n\r\nhello")),
        (
            "length and chunks",
            format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ),
        ("an unknown coding", format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: foo\r\n\r\nhello")),
        (
            "an unknown coding before chunked",
            format!(
                "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: foo, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ),
        (
            "chunked twice",
            format!(
                "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ),
        ("no status line", "hello".to_owned()),
        ("HTTP/0.9", "<html>hello</html>\r\n\r\n".to_owned()),
        ("another protocol", format!("ICY 200 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        ("an unknown version", format!("HTTP/3.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        ("a status of two digits", format!("HTTP/1.1 20 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        ("a status of four digits", format!("HTTP/1.1 2000 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        ("a status below 100", format!("HTTP/1.1 099 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        ("a status above 599", format!("HTTP/1.1 600 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        ("status 999", format!("HTTP/1.1 999 OK\r\n{fields}Content-Length: 5\r\n\r\nhello")),
        (
            "a field without a colon",
            format!("HTTP/1.1 200 OK\r\n{fields}Nonsense\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "a space before a colon",
            format!("HTTP/1.1 200 OK\r\n{fields}X-Field : a\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "a folded field",
            format!("HTTP/1.1 200 OK\r\n{fields}X-Field: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "a NUL in a field",
            format!("HTTP/1.1 200 OK\r\n{fields}X-Field: a\0b\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "a CR in a field",
            format!("HTTP/1.1 200 OK\r\n{fields}X-Field: a\rb\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "an escape in a field",
            format!("HTTP/1.1 200 OK\r\n{fields}X-Field: a\x1bb\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        ("a head without an end", format!("HTTP/1.1 200 OK\r\n{fields}")),
        (
            "a head that is too big",
            format!(
                "HTTP/1.1 200 OK\r\n{fields}X-Field: {}\r\nContent-Length: 5\r\n\r\nhello",
                "x".repeat(1 << 20)
            ),
        ),
        (
            "too many fields",
            format!(
                "HTTP/1.1 200 OK\r\n{fields}{}Content-Length: 5\r\n\r\nhello",
                "X-Field: a\r\n".repeat(2_000)
            ),
        ),
        (
            "a storm of 1xx",
            format!(
                "{}HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nhello",
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(200)
            ),
        ),
        ("nothing", String::new()),
    ];
    let origins: Vec<_> = rows.iter().map(|(_, bytes)| Script::answering(bytes.as_bytes())).collect();
    let canary = Origin::echo();
    let mut config = String::new();
    for (number, origin) in origins.iter().enumerate() {
        config +=
            &format!("[[route]]\nmatch = {{ path = \"/row/{number}\" }}\norigin = \"{}\"\n", origin.url());
    }
    config += &format!("[[route]]\norigin = \"{}\"\n", canary.url());
    let weir = Weir::with(&config);
    for (number, (what, _)) in rows.iter().enumerate() {
        for round in 1..=2 {
            let target = format!("/row/{number}");
            let mut client = weir.client();
            client.send(request_bytes("GET", &target, &[], b""));
            let response = client.expect_response("GET");
            assert_eq!(response.status, 502, "{what}: {}", response.text());
            assert!(!response.text().contains("hello"), "{what}: nothing of it is passed on");
            assert!(origins[number].connections() >= round, "{what}: not stored");
            assert_eq!(client.get("/canary").text(), "GET /canary", "{what}: the canary behind it");
        }
    }
}

#[test]
fn a_cut_response_is_seen_as_cut_and_never_stored() {
    let fields = "Cache-Control: max-age=60\r\n";
    let rows = [
        ("fewer bytes than said", format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 10\r\n\r\nfour")),
        (
            "no last chunk",
            format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n"),
        ),
        (
            "a chunk cut",
            format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n8\r\nfo"),
        ),
        (
            "a last chunk cut",
            format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n"),
        ),
        (
            "a bad chunk size",
            format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\nxx\r\n\r\n"),
        ),
        (
            "a chunk longer than said",
            format!(
                "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n4\r\nfourfive\r\n0\r\n\r\n"
            ),
        ),
    ];
    for (what, bytes) in rows {
        let origin = Script::answering(bytes);
        let weir = Weir::to(&origin.url());
        for round in 1..=2 {
            let mut client = weir.client();
            client.send(request_bytes("GET", "/cut", &[], b""));
            match client.response("GET") {
                Err(ReadError::Cut(Ending::Closed | Ending::Reset, _)) => {}
                // Where nothing had been passed on yet, it may still say so, or hang up.
                Ok(response) if response.status == 502 => {}
                Err(error) if error.is_end() => {}
                other => panic!("{what}: passed off as whole: {other:?}"),
            }
            assert_eq!(origin.connections(), round, "{what}: not stored, and no retry after bytes had come");
        }
        let h2 = H2Client::connect(weir.address());
        match h2.try_ask("GET", "/cut", &[], "") {
            Err(_) => {}
            Ok(response) => assert_eq!(response.status, 502, "{what}: passed off as whole over HTTP/2"),
        }
    }
}

#[test]
fn bytes_behind_a_response_belong_to_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let rows = [
        (
            "more than its length",
            "GET",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{poison}"),
            "ok",
        ),
        (
            "more than its chunks",
            "GET",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{poison}"),
            "ok",
        ),
        (
            "a body behind HEAD",
            "HEAD",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{poison}", poison.len()),
            "",
        ),
        ("a body behind 204", "GET", format!("HTTP/1.1 204 No Content\r\n\r\n{poison}"), ""),
        ("a body behind 304", "GET", format!("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n{poison}"), ""),
    ];
    for (what, method, bytes, expected) in rows {
        let origin = Origin::start(move |request| match request.path() {
            "/first" => Reply::raw(bytes.clone()),
            target => Reply::ok(format!("GET {target}")),
        });
        let weir = Weir::before(&origin);
        let mut client = weir.client();
        let condition: &[(&str, &str)] =
            if what.contains("304") { &[("If-None-Match", "\"a\"")] } else { &[] };
        client.send(request_bytes(method, "/first", condition, b""));
        match client.response(method) {
            Ok(response) => assert_eq!(
                response.text(),
                if response.status == 502 { response.text() } else { expected.to_owned() },
                "{what}"
            ),
            Err(error) => assert!(matches!(error, ReadError::Cut(..)), "{what}: {error}"),
        }
        for number in 0..4 {
            let target = format!("/next/{number}");
            assert_eq!(
                weir.get(&target).text(),
                format!("GET {target}"),
                "{what}: the next one gets its own"
            );
            assert_ne!(
                origin.last(&target).connection,
                origin.last("/first").connection,
                "{what}: not used again"
            );
        }
    }
}

#[test]
fn a_304_or_206_that_nobody_asked_for_is_never_stored() {
    let rows = [
        "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\nContent-Range: bytes 0-3/10\r\nContent-Length: 4\r\n\r\nfour",
        "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nfour",
        "HTTP/1.1 416 Range Not Satisfiable\r\nCache-Control: max-age=60\r\nContent-Range: bytes */4\r\nContent-Length: 0\r\n\r\n",
    ];
    for bytes in rows {
        let origin = Script::answering(bytes);
        let weir = Weir::to(&origin.url());
        for round in 1..=2 {
            let response = weir.get("/unasked");
            assert!([502, 304, 206, 416].contains(&response.status), "{}", response.status);
            assert_eq!(origin.connections(), round, "not stored: {bytes:?}");
        }
    }
}

#[test]
fn interim_responses_are_bounded_but_allowed() {
    let some = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n".repeat(3);
    let origin = Script::answering(format!("{some}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"));
    let weir = Weir::to(&origin.url());
    assert_eq!(weir.get("/").text(), "fine");
}

#[test]
fn oversize_is_answered_by_its_name() {
    let range = Range::new();
    let long = "x".repeat(20_000);
    range.rejects("a long target", format!("GET /attack/{long} HTTP/1.1\r\nHost: weir.test\r\n\r\n"), &[414]);
    let big = format!("X-Field: {}\r\n", "x".repeat(4_000)).repeat(20);
    range.rejects("a big head", format!("GET /attack HTTP/1.1\r\nHost: weir.test\r\n{big}\r\n"), &[431]);
    let many = "X-Field: a\r\n".repeat(300);
    range.rejects("many fields", format!("GET /attack HTTP/1.1\r\nHost: weir.test\r\n{many}\r\n"), &[431]);
    assert_eq!(range.origin.count(), 3, "only the canaries of other connections");
}
