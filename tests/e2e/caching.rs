//! What the cache does for those behind it. No test waits for time to pass: an origin that says `Age: 100` with
//! `max-age=60` has made a response that is stale on arrival.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use harness::wire::request_bytes;
use harness::{Gate, Origin, Reply, Request, Response, Weir, eventually, http_date};

/// Counts its answers in their content: `1`, `2`, `3`…
fn counting(build: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        build(request, Reply::ok(number.to_string()))
    })
}

fn with(fields: &'static [(&'static str, &'static str)]) -> Origin {
    counting(move |_, reply| fields.iter().fold(reply, |reply, (name, value)| reply.header(name, *value)))
}

fn route(origin: &Origin, rest: &str) -> Weir {
    Weir::with(&format!("[[route]]\norigin = \"{}\"\n{rest}\n", origin.url()))
}

#[track_caller]
fn age(response: &Response) -> u64 {
    response.header("age").expect("an Age").parse().expect("a number")
}

#[test]
fn a_fresh_response_is_answered_from_the_cache() {
    let origin = with(&[("Cache-Control", "max-age=60"), ("Content-Type", "text/plain"), ("X-Own", "kept")]);
    let weir = Weir::before(&origin);
    let first = weir.get("/page");
    let second = weir.get("/page");

    assert_eq!((first.text(), second.text()), ("1".to_owned(), "1".to_owned()));
    assert!(!first.is_hit() && second.is_hit(), "{} then {}", first.cache_status(), second.cache_status());
    assert_eq!(second.header("x-own"), Some("kept"));
    assert_eq!(second.header("date"), first.header("date"), "the origin's own date");
    assert!(age(&second) < 60);
    assert!(second.cache_status().contains("ttl="), "{}", second.cache_status());
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_age_from_further_up_counts() {
    let origin = with(&[("Cache-Control", "max-age=600"), ("Age", "500")]);
    let weir = Weir::before(&origin);
    weir.get("/");
    let hit = weir.get("/");
    assert!(hit.is_hit());
    assert!((500..600).contains(&age(&hit)), "{}", age(&hit));
}

#[test]
fn a_stale_response_is_validated_and_refreshed_by_304() {
    let origin = Origin::start(|request| match request.header("if-none-match") {
        Some("\"v1\"") => Reply::new(304)
            .header("ETag", "\"v1\"")
            .header("Cache-Control", "max-age=60")
            .header("X-Round", "second"),
        _ => Reply::ok("body")
            .header("ETag", "\"v1\"")
            .header("Cache-Control", "max-age=60")
            .header("Age", "100")
            .header("X-Round", "first"),
    });
    let weir = Weir::before(&origin);
    weir.get("/");
    let validated = weir.get("/");
    assert_eq!((validated.status, validated.text().as_str()), (200, "body"));
    assert_eq!(validated.header("x-round"), Some("second"), "fields of the 304 replace the stored ones");
    assert_eq!(origin.count(), 2);
    let hit = weir.get("/");
    assert!(hit.is_hit(), "fresh again: {}", hit.cache_status());
    assert_eq!((hit.text().as_str(), hit.header("x-round")), ("body", Some("second")));
}

#[test]
fn a_stale_response_is_replaced_when_it_has_changed() {
    let origin = with(&[
        ("Cache-Control", "max-age=60"),
        ("Age", "100"),
        ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ]);
    let weir = Weir::before(&origin);
    assert_eq!(weir.get("/").text(), "1");
    assert_eq!(weir.get("/").text(), "2");
    assert_eq!(origin.last("/").header("if-modified-since"), Some("Mon, 01 Jan 2024 00:00:00 GMT"));
}

#[test]
fn a_stale_response_is_served_while_it_is_refreshed_behind() {
    let gate = Gate::new();
    let behind = gate.clone();
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            return Reply::ok("old")
                .header("Cache-Control", "max-age=60, stale-while-revalidate=600")
                .header("Age", "100");
        }
        behind.wait();
        Reply::ok("new").header("Cache-Control", "max-age=60")
    });
    let weir = Weir::before(&origin);
    assert_eq!(weir.get("/").text(), "old");
    // The origin holds its answer back, and still everybody is served at once; one refresh, however many ask.
    for _ in 0..10 {
        let stale = weir.get("/");
        assert_eq!(stale.text(), "old");
        assert!(age(&stale) >= 100);
    }
    origin.wait_for(2);
    gate.open();
    eventually("the refreshed response", || weir.get("/").text() == "new");
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_route_may_allow_stale_where_the_origin_is_silent() {
    let count = AtomicUsize::new(0);
    let mut origin = Origin::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::ok("kept").header("Cache-Control", "max-age=60").header("Age", "100")
    });
    let weir = route(&origin, "cache = { stale_if_error = \"1h\" }");
    weir.get("/");
    origin.down();
    let stale = weir.get("/");
    assert_eq!((stale.status, stale.text().as_str()), (200, "kept"));
    assert!(weir.get("/never-seen").status >= 502, "only what was stored");
}

#[test]
fn stale_if_error_answers_for_an_origin_that_fails() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let mut origin = Origin::start(move |_| {
        if fails.load(Ordering::SeqCst) {
            return Reply::new(500).body("broken");
        }
        Reply::ok("kept").header("Cache-Control", "max-age=60, stale-if-error=600").header("Age", "100")
    });
    let weir = Weir::before(&origin);
    weir.get("/");
    failing.store(true, Ordering::SeqCst);
    assert_eq!(weir.get("/").text(), "kept", "for a 500");
    origin.down();
    let stale = weir.get("/");
    assert_eq!((stale.status, stale.text().as_str()), (200, "kept"), "for an origin that is gone");
}

#[test]
fn must_revalidate_forbids_stale() {
    let mut origin = with(&[
        ("Cache-Control", "max-age=60, must-revalidate, stale-if-error=600, stale-while-revalidate=600"),
        ("Age", "100"),
    ]);
    let weir = route(&origin, "cache = { stale_if_error = \"1h\", stale_while_revalidate = \"1h\" }");
    assert_eq!(weir.get("/").text(), "1");
    assert_eq!(weir.get("/").text(), "2", "validated, not served stale");
    origin.down();
    assert!([502, 503, 504].contains(&weir.get("/").status));
}

#[test]
fn two_hundred_clients_on_a_cold_key_are_one_origin_request() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        held.wait();
        Reply::ok("x".repeat(10_000)).header("Cache-Control", "max-age=60")
    });
    let weir = Weir::before(&origin);
    let asked = Barrier::new(201);
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let mut client = weir.client();
                client.send(request_bytes("GET", "/cold", &[], b""));
                asked.wait();
                assert_eq!(client.expect_response("GET").body.len(), 10_000);
            });
        }
        asked.wait();
        gate.open();
    });
    assert_eq!(origin.count(), 1);
}

#[test]
fn waiters_read_along_while_the_response_arrives() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        let gate = held.clone();
        Reply::new(200).header("Cache-Control", "max-age=60").stream(move |chunks| {
            chunks.send("first ");
            gate.wait();
            chunks.send("second");
        })
    });
    let weir = Weir::before(&origin);
    let mut clients: Vec<_> = (0..20).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send(request_bytes("GET", "/", &[], b""));
    }
    for client in &mut clients {
        client.until(b"first ");
    }
    gate.open();
    for client in &mut clients {
        client.until(b"second");
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_client_that_leaves_does_not_end_the_fill() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        held.wait();
        Reply::ok("kept").header("Cache-Control", "max-age=60")
    });
    let weir = Weir::before(&origin);
    let mut leader = weir.client();
    leader.send(request_bytes("GET", "/", &[], b""));
    origin.wait_for(1);
    let mut waiter = weir.client();
    waiter.send(request_bytes("GET", "/", &[], b""));
    leader.reset();
    gate.open();
    assert_eq!(waiter.expect_response("GET").text(), "kept");
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_uncacheable_answer_releases_everybody_at_once() {
    const CLIENTS: usize = 50;
    // Each answer but the first is held back until all the others have arrived: one at a time would never end.
    let everybody = Arc::new(Barrier::new(CLIENTS - 1));
    let again = Arc::new(Barrier::new(CLIENTS));
    let count = AtomicUsize::new(0);
    let first_may_answer = Gate::new();
    let held = first_may_answer.clone();
    let origin = Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        match number {
            0 => held.wait(),
            n if n < CLIENTS => drop(everybody.wait()),
            _ => drop(again.wait()),
        }
        Reply::ok("own").header("Cache-Control", "no-store")
    });
    let weir = Weir::before(&origin);
    let burst = |open: &dyn Fn()| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| weir.client()).collect();
        for client in &mut clients {
            client.send(request_bytes("GET", "/", &[], b""));
        }
        open();
        for client in &mut clients {
            assert_eq!(client.expect_response("GET").text(), "own");
        }
    };
    burst(&|| {
        origin.wait_for(1);
        first_may_answer.open();
    });
    assert_eq!(origin.count(), CLIENTS);
    // It is remembered: the second time nobody waits for anybody.
    burst(&|| {});
    assert_eq!(origin.count(), 2 * CLIENTS);
}

#[test]
fn encodings_are_varied_on_by_what_they_mean() {
    let origin = counting(|request, reply| {
        let encoding = request.headers.all("accept-encoding").join(",");
        let reply = reply.header("Cache-Control", "max-age=60").header("Vary", "Accept-Encoding");
        if encoding.contains("gzip") { reply.header("Content-Encoding", "gzip") } else { reply }
    });
    let weir = Weir::before(&origin);
    let ask = |value: &str| weir.ask("GET", "/", &[("Accept-Encoding", value)], b"");
    let gzip = ask("gzip");
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    for same in ["gzip", "GZIP", "gzip;q=1.0", "gzip, x-unknown"] {
        let again = ask(same);
        assert_eq!((again.text(), again.header("content-encoding")), (gzip.text(), Some("gzip")), "{same}");
    }
    let plain = weir.get("/");
    assert!(!plain.headers.has("content-encoding"), "who did not ask for gzip does not get it");
    assert!(!ask("gzip;q=0").headers.has("content-encoding"));
}

#[test]
fn variants_live_side_by_side() {
    let origin = counting(|request, _| {
        let language = request.headers.all("accept-language").join(",");
        let chosen = if language.starts_with("de") { "de" } else { "en" };
        Reply::ok(chosen)
            .header("Cache-Control", "max-age=60")
            .header("Vary", "Accept-Language")
            .header("Content-Language", chosen)
    });
    let weir = Weir::before(&origin);
    for _ in 0..3 {
        assert_eq!(weir.ask("GET", "/", &[("Accept-Language", "de")], b"").text(), "de");
        assert_eq!(weir.ask("GET", "/", &[("Accept-Language", "en")], b"").text(), "en");
    }
    assert_eq!(origin.count(), 2);
    weir.ask("GET", "/", &[("Accept-Language", " EN ")], b"");
    assert_eq!(origin.count(), 2, "case and space mean nothing");
}

fn alphabet() -> Origin {
    Origin::start(|request| {
        let body = b"abcdefghijklmnopqrstuvwxyz";
        let reply = |status| {
            Reply::new(status)
                .header("Cache-Control", "max-age=60")
                .header("ETag", "\"abc\"")
                .header("Accept-Ranges", "bytes")
        };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        match range {
            Some((first, last)) if !first.is_empty() => {
                let first: usize = first.parse().unwrap();
                let last: usize = last.parse().unwrap_or(25).min(25);
                reply(206)
                    .header("Content-Range", format!("bytes {first}-{last}/26"))
                    .body(&body[first..=last])
            }
            _ => reply(200).body(*body),
        }
    })
}

#[test]
fn ranges_are_cut_from_the_whole() {
    let origin = alphabet();
    let weir = Weir::before(&origin);
    weir.get("/");
    let ask = |range: &str| weir.ask("GET", "/", &[("Range", range)], b"");
    let rows = [
        ("bytes=0-4", 206, "bytes 0-4/26", "abcde"),
        ("bytes=20-", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=-3", 206, "bytes 23-25/26", "xyz"),
        ("bytes=20-99", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=-99", 206, "bytes 0-25/26", "abcdefghijklmnopqrstuvwxyz"),
    ];
    for (range, status, content_range, body) in rows {
        let response = ask(range);
        assert_eq!((response.status, response.text().as_str()), (status, body), "{range}");
        assert_eq!(response.header("content-range"), Some(content_range), "{range}");
        assert_eq!(response.header("etag"), Some("\"abc\""));
    }
    let beyond = ask("bytes=26-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */26")));
    for ignored in ["bytes=5-2", "lines=1-2", "bytes=a-b", "bytes="] {
        assert_eq!(ask(ignored).status, 200, "{ignored} is no valid range: it is ignored");
    }
    let two = ask("bytes=0-1,24-25");
    assert_eq!(two.status, 206);
    assert!(two.header("content-type").unwrap().starts_with("multipart/byteranges"));
    assert!(two.text().contains("ab") && two.text().contains("yz"));

    let with_condition =
        |tag: &str| weir.ask("GET", "/", &[("Range", "bytes=0-1"), ("If-Range", tag)], b"").status;
    assert_eq!(with_condition("\"abc\""), 206);
    assert_eq!(with_condition("\"other\""), 200);
    assert_eq!(with_condition("W/\"abc\""), 200, "a weak validator proves nothing about bytes");
    assert_eq!(origin.count(), 1);
}

#[test]
fn parts_are_stored_combined_and_completed() {
    let origin = alphabet();
    let weir = Weir::before(&origin);
    let ask = |range: &str| weir.ask("GET", "/", &[("Range", range)], b"");
    assert_eq!(ask("bytes=0-9").text(), "abcdefghij");
    assert_eq!(ask("bytes=0-9").text(), "abcdefghij");
    assert_eq!(ask("bytes=2-4").text(), "cde");
    assert_eq!(origin.count(), 1, "the stored part answers for itself");
    assert_eq!(weir.get("/").text(), "abcdefghijklmnopqrstuvwxyz");
    let after = origin.count();
    assert!(after <= 2);
    assert!(weir.get("/").is_hit(), "whole by now");
    assert_eq!(origin.count(), after);
}

#[test]
fn head_is_answered_from_a_stored_get() {
    let origin = with(&[("Cache-Control", "max-age=60"), ("X-Own", "kept")]);
    let weir = Weir::before(&origin);
    weir.get("/");
    let head = weir.ask("HEAD", "/", &[], b"");
    assert!(head.is_hit());
    assert_eq!((head.header("content-length"), head.header("x-own")), (Some("1"), Some("kept")));
    assert_eq!(origin.count(), 1);
}

#[test]
fn the_origin_s_other_names_for_what_changed_are_invalidated_too() {
    let origin = Origin::start(|request| match request.method.as_str() {
        "POST" => Reply::new(201).header("Location", "/items/7").header("Content-Location", "/items"),
        _ => Reply::ok("kept").header("Cache-Control", "max-age=60"),
    });
    let weir = Weir::before(&origin);
    for target in ["/new", "/items/7", "/items", "/items/8"] {
        weir.get(target);
        assert!(weir.get(target).is_hit());
    }
    assert_eq!(weir.ask("POST", "/new", &[], b"x=1").status, 201);
    for target in ["/new", "/items/7", "/items"] {
        assert!(!weir.get(target).is_hit(), "{target} is what changed");
    }
    assert!(weir.get("/items/8").is_hit());
}

#[test]
fn another_host_s_names_are_not_invalidated() {
    let origin = Origin::start(|request| match request.method.as_str() {
        "POST" => Reply::new(201).header("Location", "http://other.test/victim"),
        _ => Reply::ok("kept").header("Cache-Control", "max-age=60"),
    });
    let weir = Weir::before(&origin);
    weir.ask("GET", "/victim", &[("Host", "other.test")], b"");
    weir.ask("POST", "/new", &[], b"");
    assert!(weir.ask("GET", "/victim", &[("Host", "other.test")], b"").is_hit());
}

#[test]
fn no_vary_search_tells_which_parameters_matter() {
    let origin = counting(|_, reply| {
        reply
            .header("Cache-Control", "max-age=60")
            .header("No-Vary-Search", "key-order, params=(\"utm_source\" \"ref\")")
    });
    let weir = Weir::before(&origin);
    let first = weir.get("/?a=1&b=2").text();
    for same in ["/?b=2&a=1", "/?a=1&b=2&utm_source=x", "/?ref=y&b=2&a=1"] {
        assert_eq!(weir.get(same).text(), first, "{same}");
    }
    assert_ne!(weir.get("/?a=2&b=2").text(), first);
    assert_eq!(origin.count(), 2);
}

#[test]
fn declared_cookies_are_in_the_key_and_the_others_stay_here() {
    let origin = Origin::start(|request| {
        Reply::ok(request.headers.all("cookie").join("; ")).header("Cache-Control", "max-age=60")
    });
    let weir = route(&origin, "cache = { cookies = [\"tenant\"] }");
    let ask = |cookies: &str| weir.ask("GET", "/", &[("Cookie", cookies)], b"").text();
    assert_eq!(ask("sid=alice; tenant=a"), "tenant=a");
    assert_eq!(ask("tenant=a; sid=bob; theme=dark"), "tenant=a");
    assert_eq!(ask("sid=bob; tenant=b"), "tenant=b");
    assert_eq!(origin.count(), 2, "one per tenant");
    weir.ask("POST", "/", &[("Cookie", "sid=alice; tenant=a")], b"x=1");
    let written = origin.requests().into_iter().find(|request| request.method == "POST").unwrap();
    assert_eq!(written.header("cookie"), Some("sid=alice; tenant=a"), "a write keeps them all");
}

#[test]
fn what_the_client_asks_of_the_cache_is_done() {
    let origin = with(&[("Cache-Control", "max-age=600"), ("Age", "100")]);
    let weir = Weir::before(&origin);
    let ask = |directives: &str| weir.ask("GET", "/", &[("Cache-Control", directives)], b"");

    assert_eq!(ask("only-if-cached").status, 504);
    assert_eq!(origin.count(), 0);
    assert_eq!(weir.get("/").text(), "1");
    assert_eq!(ask("only-if-cached").text(), "1");
    assert_eq!(ask("max-age=200").text(), "1");
    assert_eq!(ask("min-fresh=400").text(), "1");
    assert_eq!(ask("no-cache").text(), "2");
    assert_eq!(ask("max-age=50").text(), "3", "it is 100 seconds old");
    assert_eq!(ask("min-fresh=550").text(), "4", "it is fresh for 500 more");
    assert_eq!(weir.ask("GET", "/", &[("Pragma", "no-cache")], b"").text(), "5");
    assert_eq!(weir.get("/").text(), "5");
}

#[test]
fn a_client_may_accept_stale() {
    let origin = with(&[("Cache-Control", "max-age=60"), ("Age", "100"), ("ETag", "\"v\"")]);
    let weir = Weir::before(&origin);
    let ask = |directives: &str| weir.ask("GET", "/", &[("Cache-Control", directives)], b"").text();
    assert_eq!(weir.get("/").text(), "1");
    assert_eq!(ask("max-stale"), "1");
    assert_eq!(ask("max-stale=3600"), "1");
    assert_eq!(ask("max-stale=5"), "2", "it is 40 seconds stale");
}

#[test]
fn targeted_fields_beat_the_general_one() {
    let rows: [(&'static [(&'static str, &'static str)], bool); 6] = [
        (&[("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=60")], true),
        (&[("Cache-Control", "max-age=60"), ("CDN-Cache-Control", "no-store")], false),
        (&[("CDN-Cache-Control", "no-store"), ("Weir-Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "max-age=60"), ("Weir-Cache-Control", "max-age=0")], false),
        (&[("Cache-Control", "max-age=60"), ("CDN-Cache-Control", "max-age=")], true),
        (&[("Cache-Control", "private"), ("Weir-Cache-Control", "")], false),
    ];
    for (fields, stored) in rows {
        let origin = with(fields);
        let weir = Weir::before(&origin);
        weir.get("/");
        assert_eq!(weir.get("/").text() == "1", stored, "{fields:?}");
    }
}

#[test]
fn a_silent_origin_gets_a_heuristic_or_the_route_s_lifetime() {
    let old = http_date(-100 * 24 * 3600);
    let origin = counting(move |_, reply| reply.header("Last-Modified", old.clone()));
    let weir = Weir::before(&origin);
    weir.get("/");
    let hit = weir.get("/");
    assert_eq!(hit.text(), "1", "unchanged for a hundred days: fresh for a while");

    let silent = with(&[]);
    let weir = Weir::before(&silent);
    assert_ne!(weir.get("/").text(), weir.get("/").text(), "nothing said, nothing invented");
    let weir = Weir::with(&format!(
        "[ttl]\nbrief = \"90s\"\n[[route]]\norigin = \"{}\"\ncache = {{ ttl = \"brief\" }}\n",
        silent.url()
    ));
    let first = weir.get("/").text();
    let hit = weir.get("/");
    assert_eq!(hit.text(), first);
    let ttl: u64 =
        hit.cache_status().split("ttl=").nth(1).unwrap().split(';').next().unwrap().trim().parse().unwrap();
    assert!((80..=90).contains(&ttl), "{ttl}");

    // What the origin says comes first.
    let outspoken = with(&[("Cache-Control", "max-age=60"), ("Age", "100")]);
    let weir = route(&outspoken, "cache = { ttl = \"1h\" }");
    weir.get("/");
    assert_eq!(weir.get("/").text(), "2");
}

#[test]
fn a_purge_takes_effect_before_it_is_answered() {
    let origin = with(&[("Cache-Control", "max-age=60")]);
    let weir = Weir::before(&origin);
    let base = format!("http://{}", weir.address());
    let host = weir.address().to_string();
    let ask = || weir.ask("GET", "/page?x=1", &[("Host", &host)], b"");
    ask();
    assert!(ask().is_hit());
    let purged = weir.admin(
        "POST",
        &format!("/purge?url={}", base.replace(':', "%3A").replace('/', "%2F") + "%2Fpage%3Fx%3D1"),
    );
    assert!((200..300).contains(&purged.status), "{} {}", purged.status, purged.text());
    assert_eq!(ask().text(), "2");
}

#[test]
fn a_fallback_answers_when_there_is_nothing_else() {
    let mut origin = with(&[("Cache-Control", "max-age=60, stale-if-error=60"), ("Age", "100")]);
    let weir = route(&origin, "fallback = { status = 200, json = { posts = [] } }");
    weir.get("/known");
    origin.down();
    assert_eq!(weir.get("/known").text(), "1", "stale first");
    let fallback = weir.get("/unknown");
    assert_eq!(fallback.status, 200);
    assert_eq!(fallback.text().replace(' ', ""), "{\"posts\":[]}");
    assert!(fallback.header("content-type").unwrap().starts_with("application/json"));
    assert!(fallback.cache_status().contains("fallback"), "{}", fallback.cache_status());
    assert_ne!(fallback.header("cache-control"), Some("max-age=60"), "not for others to keep");
    origin.up();
    eventually("the origin is asked again", || weir.get("/unknown").text() != fallback.text());
}

#[test]
fn a_body_beyond_the_limit_is_streamed_and_not_held() {
    let origin = Origin::start(|request| {
        let size = if request.path() == "/big" { 2_000_000 } else { 100_000 };
        Reply::ok(vec![b'x'; size]).header("Cache-Control", "max-age=60")
    });
    let weir = Weir::with(&format!(
        "[cache.default]\nmax_body = \"1MiB\"\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    for _ in 0..2 {
        assert_eq!(weir.get("/big").body.len(), 2_000_000);
        assert_eq!(weir.get("/small").body.len(), 100_000);
    }
    assert_eq!((origin.count_of("/big"), origin.count_of("/small")), (2, 1));
}

#[test]
fn memory_is_bounded_by_entries_and_by_bytes() {
    for (limit, kept_at_most) in [("max_entries = 100", 200), ("max_memory = \"2MiB\"", 250)] {
        let origin = Origin::start(|_| Reply::ok(vec![b'x'; 10_000]).header("Cache-Control", "max-age=600"));
        let weir =
            Weir::with(&format!("[cache.default]\n{limit}\n[[route]]\norigin = \"{}\"\n", origin.url()));
        let mut client = weir.client();
        for number in 0..1_000 {
            client.get(&format!("/{number}"));
        }
        let before = origin.count();
        for number in 0..1_000 {
            let response =
                client.ask("GET", &format!("/{number}"), &[("Cache-Control", "only-if-cached")], b"");
            assert!(response.status == 200 || response.status == 504);
        }
        assert_eq!(origin.count(), before);
        let hits = (0..1_000).filter(|number| {
            let fields = [("Cache-Control", "only-if-cached")];
            client.ask("GET", &format!("/{number}"), &fields, b"").status == 200
        });
        let kept = hits.count();
        assert!(kept <= kept_at_most, "{limit}: {kept} of 1000 are kept");
        assert!(kept > 10, "{limit}: {kept} of 1000 are kept");
    }
}

#[test]
fn text_is_compressed_once_and_every_encoding_is_served() {
    let text = "All work and no play makes a dull proxy. ".repeat(500);
    let sent = text.clone();
    let origin = Origin::start(move |_| {
        Reply::ok(sent.clone())
            .header("Cache-Control", "max-age=60")
            .header("Content-Type", "text/html; charset=utf-8")
            .header("ETag", "\"strong\"")
    });
    let weir = Weir::before(&origin);
    assert_eq!(weir.get("/").text(), text, "who accepts nothing gets it as it is");
    for coding in ["gzip", "br", "zstd"] {
        // It is made behind the first who asks for it.
        let ask = || weir.ask("GET", "/", &[("Accept-Encoding", coding)], b"");
        eventually(coding, || ask().header("content-encoding") == Some(coding));
        let response = ask();
        assert!(response.headers.lists("vary", "accept-encoding"), "{:?}", response.headers);
        assert!(response.body.len() < text.len() / 4, "{coding}: {} of {}", response.body.len(), text.len());
        assert_ne!(response.header("etag"), Some("\"strong\""), "other bytes, another strong validator");
        assert!(decoded(coding, &response.body) == text.as_bytes(), "{coding}");
    }
    assert_eq!(origin.count(), 1);
}

/// What other people's decoders make of it; scripts/test.sh installs them.
fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let program = if coding == "br" { "brotli" } else { coding };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, bytes).unwrap();
    let input = std::fs::File::open(path).unwrap();
    let output = std::process::Command::new(program).arg("-dc").stdin(input).output();
    output.unwrap_or_else(|e| panic!("{program} is needed, and cannot be run: {e}")).stdout
}
