//! Requests that are answered from the cache by what they carry: QUERY (RFC 10008), and POST where the operator lets it be.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Origin, Reply, Weir};

/// Counts its answers, and says what it was asked.
fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        let reply = Reply::ok(format!("{number}: {} {asked}", request.method));
        match request.path() {
            "/bare" => reply,
            _ => reply.header("Cache-Control", "max-age=60").header("ETag", "\"v\""),
        }
    })
}

fn caching(origin: &Origin, methods: &str, more: &str) -> Weir {
    let url = origin.url();
    Weir::with(&format!("[[route]]\norigin = \"{url}\"\ncache = {{ methods = {methods} }}\n{more}\n"))
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn only_what_is_permitted_is_answered_by_content() {
    let origin = counting();
    let weir = Weir::before(&origin);
    for _ in 0..2 {
        let post = weir.ask("POST", "/q", &[JSON], b"a");
        assert!(post.cache_status().contains("fwd=method"), "{}", post.cache_status());
        assert!(weir.ask("QUERY", "/q", &[JSON], b"a").cache_status().contains("fwd=method"));
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn equal_content_shares_and_any_difference_does_not() {
    let origin = counting();
    let weir = caching(&origin, "[\"GET\", \"QUERY\", \"POST\"]", "");
    let query =
        |method: &str, kind: &str, content: &[u8]| weir.ask(method, "/q", &[("Content-Type", kind)], content);
    let json = "application/json";
    let first = query("QUERY", json, b"{\"a\":1}");
    assert!(first.cache_status().contains("fwd=uri-miss; fwd-status=200; stored") || !first.is_hit());
    assert_eq!(first.text(), "1: QUERY {\"a\":1}");
    let again = query("QUERY", json, b"{\"a\":1}");
    assert!(again.is_hit() && again.text() == first.text(), "{}", again.cache_status());
    // Another method, another byte, another reading, no content: each has its own.
    assert_eq!(query("POST", json, b"{\"a\":1}").text(), "2: POST {\"a\":1}");
    assert_eq!(query("QUERY", json, b"{\"a\":2}").text(), "3: QUERY {\"a\":2}");
    assert_eq!(query("QUERY", "text/plain", b"{\"a\":1}").text(), "4: QUERY {\"a\":1}");
    assert_eq!(weir.ask("POST", "/q", &[JSON], b"").text(), "5: POST ");
    assert_eq!(weir.get("/q").text(), "6: GET ");
    for (method, content, number) in
        [("POST", &b"{\"a\":1}"[..], "2"), ("QUERY", b"{\"a\":2}", "3"), ("POST", b"", "5")]
    {
        let answer = query(method, json, content);
        assert!(answer.is_hit() && answer.text().starts_with(number), "{method} {}", answer.text());
    }
    assert!(weir.get("/q").is_hit());
    // Chunked content is content.
    let mut client = weir.client();
    client.send("QUERY /q HTTP/1.1\r\nHost: weir.test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n");
    let host = client.expect_response("QUERY");
    assert_eq!(host.status, 200);
    assert!(origin.faults().is_empty(), "{:?}", origin.faults());
}

#[test]
fn a_purge_of_the_url_reaches_what_is_stored_by_content_and_a_query_is_no_write() {
    let origin = counting();
    let weir = caching(&origin, "[\"GET\", \"POST\"]", "");
    let post = |content: &[u8]| weir.ask("POST", "/q", &[JSON], content);
    weir.get("/q");
    post(b"a");
    post(b"b");
    assert!(post(b"a").is_hit() && post(b"b").is_hit(), "one does not purge the other");
    assert!(weir.get("/q").is_hit());
    // A write by another method makes all of it stale, and so does an order.
    weir.ask("PUT", "/q", &[JSON], b"x");
    assert!(!post(b"a").is_hit() && !weir.get("/q").is_hit());
    assert!(post(b"a").is_hit());
    let url = "http://weir.test/q";
    assert_eq!(weir.admin("POST", &format!("/purge?url={url}")).status, 200);
    assert!(!post(b"a").is_hit());
}

#[test]
fn what_exceeds_the_bound_is_streamed_past_the_cache() {
    let origin = counting();
    let weir = caching(&origin, "[\"POST\"]", "buffer_body = \"1KiB\"");
    let long = vec![b'x'; 3_000];
    for _ in 0..2 {
        let answer = weir.ask("POST", "/q", &[JSON], &long);
        assert_eq!(answer.status, 200);
        let status = answer.cache_status().to_owned();
        assert!(status.contains("fwd=bypass; detail=request-body"), "{status}");
        assert_eq!(origin.last("/q").body, long);
        assert_eq!(origin.last("/q").header("content-length"), Some("3000"));
    }
    // Chunked, so that nobody knows before.
    let mut client = weir.client();
    let mut chunked = b"POST /q HTTP/1.1\r\nHost: weir.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..6 {
        chunked.extend_from_slice(b"1f4\r\n");
        chunked.extend_from_slice(&long[..500]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    client.send(&chunked);
    let answer = client.expect_response("POST");
    assert!(answer.cache_status().contains("detail=request-body"), "{}", answer.cache_status());
    assert_eq!(origin.last("/q").body, long);
    assert_eq!(origin.count(), 3);
    // What is within the bound is held, on the same connection.
    assert!(!client.ask("POST", "/q", &[JSON], &long[..1_024]).is_hit());
    assert!(client.ask("POST", "/q", &[JSON], &long[..1_024]).is_hit());
}

#[test]
fn a_stored_post_ends_and_is_asked_for_without_conditions() {
    let origin = counting();
    let weir = caching(&origin, "[\"QUERY\", \"POST\"]", "");
    let again = |method: &str| weir.ask(method, "/q", &[JSON, ("Cache-Control", "no-cache")], b"a");
    for method in ["POST", "QUERY"] {
        weir.ask(method, "/q", &[JSON], b"a");
        assert_eq!(again(method).status, 200);
    }
    let conditions: Vec<bool> =
        origin.requests().iter().map(|request| request.headers.has("if-none-match")).collect();
    assert_eq!(conditions, [false, false, false, true], "a QUERY may be conditional, a POST is asked anew");
    // The client's own conditions: RFC 10008 gives QUERY those of GET.
    let fresh = weir.ask("QUERY", "/q", &[JSON, ("If-None-Match", "\"v\"")], b"a");
    assert_eq!(fresh.status, 304);
    // Without a lifetime of its own, nothing of a POST is used again.
    weir.ask("POST", "/bare", &[JSON], b"a");
    assert!(!weir.ask("POST", "/bare", &[JSON], b"a").is_hit());
}

#[test]
fn what_cannot_be_is_said_in_the_configuration() {
    let told = |cache: &str| {
        let config = format!("[[route]]\norigin = \"http://127.0.0.1:1\"\n{cache}\n");
        harness::weir::check(&config).1
    };
    let put = told("cache = { methods = [\"GET\", \"PUT\"] }");
    assert!(put.contains("`PUT` is never answered from a cache") && put.contains("QUERY"), "{put}");
    let huge = told("buffer_body = \"1GiB\"");
    assert!(huge.contains("too much to be held for each request"), "{huge}");
}
