//! Limits: how many requests pass, on one proxy and on several, with Redis and without.

use std::time::{Duration, Instant};

use harness::wire::request_bytes;
use harness::{Conn, Gate, Origin, RedisServer, Reply, Weir, eventually, websocket};

use super::sessions::Browser;

fn origin() -> Origin {
    Origin::start(|request| {
        Reply::ok(request.path().to_owned())
            .header(
                "Cache-Control",
                if request.path().starts_with("/kept") { "max-age=600" } else { "no-store" },
            )
            .header("RateLimit", "\"own\";r=7")
            .header("X-RateLimit-Remaining", "7")
    })
}

/// An origin whose answer for `/slow` waits until the gate is opened.
fn slow_origin() -> (Gate, Origin) {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::start(move |request| {
        if request.path() == "/slow" {
            opened.wait();
        }
        Reply::ok("done").header("Cache-Control", "no-store")
    });
    (gate, origin)
}

/// One limit on one route.
fn config(origin: &Origin, limit: &str, before: &str) -> String {
    format!(
        "{before}[limit.api]\n{limit}\n[[route]]\norigin = \"{}\"\nlimits = [\"api\"]\nwebsocket = true\n",
        origin.url()
    )
}

fn with_redis(redis: &RedisServer, more: &str) -> String {
    format!("[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n{more}", redis.url())
}

/// Asks in turn until all refuse. How many passed, how long that took, and the last refusal.
fn exhaust(proxies: &[&Weir], at_most: usize) -> (usize, Duration, harness::Response) {
    let begun = Instant::now();
    let mut clients: Vec<Conn> = proxies.iter().map(|weir| weir.client()).collect();
    let (mut passed, mut in_row, mut last) = (0, 0, None);
    while in_row < clients.len() {
        for client in &mut clients {
            let response = client.get("/page");
            match response.status {
                200 => (passed, in_row) = (passed + 1, 0),
                429 => (in_row, last) = (in_row + 1, Some(response)),
                other => panic!("{other}: {}", response.text()),
            }
        }
        assert!(passed <= at_most, "no end of it");
    }
    (passed, begun.elapsed(), last.unwrap())
}

/// As many as the quota, and what has come back meanwhile, on a slow machine.
#[track_caller]
fn assert_about(passed: usize, quota: usize, per_second: usize, took: Duration) {
    let since = took.as_secs_f64() * per_second as f64;
    assert!(passed >= quota && (passed as f64) <= quota as f64 + since, "{passed} of {quota} in {took:?}");
}

#[test]
fn the_61st_of_60_a_minute_is_refused_and_told_when_to_come_back() {
    let origin = origin();
    let weir = Weir::with(&config(&origin, "rate = \"60/1m\"", ""));
    let first = weir.get("/page");
    assert_eq!(first.headers.all("ratelimit-policy"), ["\"api\";q=60;w=60"]);
    assert_eq!(
        first.headers.all("ratelimit"),
        ["\"own\";r=7", "\"api\";r=59;t=1"],
        "beside the origin's own"
    );
    let (passed, took, refused) = exhaust(&[&weir], 100);
    assert_about(1 + passed, 60, 1, took);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("ratelimit"), Some("\"api\";r=0;t=1"));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    let problem: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"], serde_json::json!(["api"]));
    assert_eq!(problem["code"], "rate-limited");
    assert_eq!(origin.count(), 1 + passed, "the origin sees none of those that are refused");
}

#[test]
fn a_reload_does_not_give_the_quota_again() {
    let origin = origin();
    let text = config(&origin, "rate = \"5/1h\"", "");
    let weir = Weir::with(&text);
    assert_eq!(exhaust(&[&weir], 10).0, 5);
    weir.write_config(&text.replace("5/1h", "8/1h"));
    weir.hang_up();
    eventually("the new configuration is there", || {
        weir.get("/page").header("ratelimit-policy") == Some("\"api\";q=8;w=3600")
    });
    assert!(exhaust(&[&weir], 10).0 <= 3, "five of the eight were used before");
}

#[test]
fn what_comes_out_of_the_cache_costs_nothing_where_only_misses_are_charged() {
    let origin = origin();
    let weir = Weir::with(&config(&origin, "rate = \"3/1h\"\ncharge = \"miss\"", ""));
    let mut client = weir.client();
    let first = client.get("/kept/page");
    assert_eq!(first.headers.all("ratelimit").last(), Some(&"\"api\";r=2;t=1200"));
    for _ in 0..100 {
        let hit = client.get("/kept/page");
        assert!(hit.is_hit() && hit.status == 200);
        for field in ["ratelimit", "ratelimit-policy", "x-ratelimit-remaining"] {
            assert!(!hit.headers.has(field), "{field} is stored with nothing");
        }
    }
    let second = client.get("/other");
    assert_eq!(
        second.headers.all("ratelimit").last(),
        Some(&"\"api\";r=1;t=1200"),
        "100 hits left it unchanged"
    );
    assert_eq!(client.get("/kept/third").status, 200);
    assert_eq!(client.get("/kept/fourth").status, 429);
    assert_eq!(client.ask("POST", "/fifth", &[], b"x").status, 429);
    assert!(client.get("/kept/page").is_hit(), "and hits go on");
    assert_eq!(origin.count(), 3);
}

#[test]
fn keys_costs_and_lists() {
    let origin = origin();
    let url = origin.url();
    let weir = Weir::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [limit.key]\nkey = \"header:X-Api-Key\"\nrate = \"10/1h\"\nheaders = \"legacy\"\n\
         allow = [\"192.0.2.0/28\"]\ndeny = [\"192.0.2.128/25\"]\n\
         [limit.watch]\nrate = \"1/1h\"\nshadow = true\n\
         [[route]]\nmatch = {{ path = \"/dear\" }}\norigin = \"{url}\"\nlimits = [{{ name = \"key\", cost = 4 }}]\n\
         [[route]]\nmatch = {{ path = \"/fixed\" }}\nrespond = {{ body = \"here\" }}\nlimits = [\"key\"]\n\
         [[route]]\norigin = \"{url}\"\nlimits = [\"watch\"]\n"
    ));
    let ask = |target: &str, from: &str, key: &str| {
        weir.ask("GET", target, &[("X-Forwarded-For", from), ("X-Api-Key", key)], b"")
    };
    let dear = ask("/dear", "192.0.2.20", "a");
    assert_eq!((dear.status, dear.header("x-ratelimit-limit")), (200, Some("10")));
    assert_eq!(dear.headers.all("x-ratelimit-remaining").last(), Some(&"6"));
    assert_eq!(ask("/dear", "192.0.2.21", "a").status, 200, "the same key from elsewhere");
    let third = ask("/dear", "192.0.2.20", "a");
    assert_eq!((third.status, third.header("retry-after")), (429, Some("720")), "2 are left, 4 are wanted");
    assert_eq!(ask("/fixed", "192.0.2.20", "a").status, 200, "what costs less may pass");
    assert_eq!(ask("/dear", "192.0.2.20", "b").status, 200, "another key");
    for _ in 0..5 {
        assert_eq!(ask("/dear", "192.0.2.1", "a").status, 200, "never limited");
    }
    let denied = ask("/dear", "192.0.2.200", "c");
    assert_eq!((denied.status, denied.header("retry-after")), (403, None));
    for _ in 0..3 {
        let watched = ask("/page", "192.0.2.20", "a");
        assert!(watched.status == 200 && !watched.headers.has("ratelimit-policy"));
    }
    assert!(weir.metric("limit_decisions_total", &["watch", "would-refuse"]) == 2.0);
    assert!(weir.metric("limit_decisions_total", &["key", "denied"]) == 1.0);
}

#[test]
fn three_proxies_let_through_what_one_would() {
    let (origin, redis) = (origin(), RedisServer::start());
    let limit = "rate = \"60/1m\"\nredis_budget = \"10s\"";
    let text = config(&origin, limit, &with_redis(&redis, ""));
    let proxies: Vec<Weir> = (0..3).map(|_| Weir::with(&text)).collect();
    connected(&proxies);
    let all: Vec<&Weir> = proxies.iter().collect();
    let (passed, took, refused) = exhaust(&all, 100);
    assert_about(passed, 60, 1, took);
    assert_eq!(
        (refused.header("retry-after"), refused.header("ratelimit")),
        (Some("1"), Some("\"api\";r=0;t=1"))
    );
    for weir in &proxies {
        assert!(weir.metric("limit_decisions_total", &["admitted", "redis"]) >= 20.0);
        assert!(weir.metric("limit_decisions_total", &["share"]) == 0.0);
    }
    let keys: Vec<String> = redis.keys().into_iter().filter(|key| !key.ends_with(":proxies")).collect();
    assert!(keys.len() == 1 && keys[0].starts_with("weir:rl:api:"), "{keys:?}");
    let lives: i64 = redis.says(&["PTTL", &keys[0]]).parse().unwrap_or_default();
    assert!(lives > 0 && lives <= 60_000, "milliseconds: {lives}");
}

/// Until all have a connection, and know of each other.
fn connected(proxies: &[Weir]) {
    for weir in proxies {
        eventually("they know of each other", || {
            weir.metric("redis_up", &["main"]) == 1.0
                && weir.metric("limit_proxies", &["api"]) == proxies.len() as f64
        });
    }
}

#[test]
fn when_redis_is_killed_the_proxies_share_what_is_left() {
    let (origin, mut redis) = (origin(), RedisServer::start());
    let text = config(&origin, "rate = \"60/1m\"\nredis_budget = \"10s\"", &with_redis(&redis, ""));
    let proxies: Vec<Weir> = (0..3).map(|_| Weir::with(&text)).collect();
    connected(&proxies);
    let begun = Instant::now();
    let mut clients: Vec<Conn> = proxies.iter().map(Weir::client).collect();
    let mut before = 0;
    for turn in 0..30 {
        before += usize::from(clients[turn % 3].get("/page").status == 200);
    }
    assert_eq!(before, 30);
    redis.kill();
    let all: Vec<&Weir> = proxies.iter().collect();
    let (after, _, refused) = exhaust(&all, 100);
    let came_back = begun.elapsed().as_secs_f64().ceil();
    assert!((before + after) as f64 <= 66.0 + came_back, "{before} and {after} in {came_back} s");
    assert!(before + after >= 55, "and not much less: {before} and {after}");
    assert!(refused.header("retry-after").is_some());
    for weir in &proxies {
        assert!(weir.metric("limit_decisions_total", &["refused", "share"]) > 0.0, "it is told");
    }
    // A Redis that comes back empty does not give the quota again.
    redis.restart();
    for weir in &proxies {
        eventually("it is used again", || weir.metric("redis_up", &["main"]) == 1.0);
    }
    let (again, took, _) = exhaust(&all, 100);
    assert!(
        again as f64 <= begun.elapsed().as_secs_f64().ceil() - came_back + took.as_secs_f64() + 3.0,
        "{again}"
    );
}

#[test]
fn a_redis_that_hangs_costs_no_more_than_the_budget() {
    let (origin, redis) = (origin(), RedisServer::start());
    let text = config(&origin, "rate = \"1000000/1h\"\nburst = 7", &with_redis(&redis, ""));
    let weir = Weir::with(&text);
    eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
    redis.freeze();
    let begun = Instant::now();
    let mut client = weir.client();
    for _ in 0..50 {
        let status = client.get("/page").status;
        assert!(matches!(status, 200 | 429), "{status}");
    }
    let took = begun.elapsed();
    redis.thaw();
    // 10 ms for each of a few, and nothing for the others. One that waited for Redis itself would take this long alone.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(weir.metric("limit_decisions_total", &["share"]) > 0.0);
}

#[test]
fn without_redis_each_limit_does_what_it_says() {
    let (origin, mut redis) = (origin(), RedisServer::start());
    let url = redis.url();
    redis.kill();
    for (mode, passes, by) in
        [("full", 5, "full"), ("share", 2, "share"), ("open", 20, "open"), ("closed", 0, "closed")]
    {
        let limit = format!("rate = \"5/1h\"\nwhen_redis_is_down = \"{mode}\"\nproxies = 2");
        let weir = Weir::with(&config(&origin, &limit, &format!("[redis.main]\nurl = \"{url}\"\n")));
        let mut client = weir.client();
        let statuses: Vec<u16> = (0..20).map(|_| client.get("/page").status).collect();
        let passed = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(passed, passes, "{mode}: {statuses:?}");
        let refused = if mode == "closed" { 503 } else { 429 };
        assert!(statuses.iter().all(|status| *status == 200 || *status == refused), "{mode}: {statuses:?}");
        assert!(weir.metric("limit_decisions_total", &["api", by]) == 20.0, "{mode} is counted");
    }
}

#[test]
fn requests_at_once_wait_in_a_short_queue() {
    let (gate, origin) = slow_origin();
    let limit = "in_flight = 1\nqueue = { length = 1, time = \"1h\" }";
    let weir = Weir::with(&config(&origin, limit, ""));
    let (mut first, mut second) = (weir.client(), weir.client());
    first.send(request_bytes("GET", "/slow", &[], b""));
    origin.wait_for(1);
    second.send(request_bytes("GET", "/page", &[], b""));
    eventually("the second waits", || weir.metric("limit_requests_waiting", &["api"]) == 1.0);
    let third = weir.get("/page");
    assert_eq!((third.status, third.header("retry-after")), (503, Some("1")));
    gate.open();
    assert_eq!(first.expect_response("GET").status, 200);
    assert_eq!(second.expect_response("GET").status, 200);
    eventually("no place is left taken", || weir.metric("limit_requests_in_progress", &["api"]) == 0.0);
    assert_eq!(weir.get("/page").status, 200);
}

#[test]
fn who_has_waited_long_enough_is_refused_and_told_when_to_come_back() {
    let (gate, origin) = slow_origin();
    let limit = "in_flight = 1\nqueue = { length = 2, time = \"300ms\" }";
    let weir = Weir::with(&config(&origin, limit, ""));
    let (mut first, mut second, mut third) = (weir.client(), weir.client(), weir.client());
    first.send(request_bytes("GET", "/slow", &[], b""));
    origin.wait_for(1);
    let begun = Instant::now();
    for waiting in [&mut second, &mut third] {
        waiting.send(request_bytes("GET", "/page", &[], b""));
    }
    for waiting in [&mut second, &mut third] {
        let refused = waiting.expect_response("GET");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "not before its time: {:?}", begun.elapsed());
    assert_eq!(origin.count(), 1, "nobody has asked the application");
    assert_eq!(weir.metric("limit_requests_waiting", &["api"]), 0.0);
    // Who has left the queue has taken no place with him, and the connection goes on.
    gate.open();
    assert_eq!(first.expect_response("GET").status, 200);
    assert_eq!(second.get("/page").status, 200);
}

#[test]
fn websockets_and_their_messages_are_counted() {
    let origin = Origin::start(|request| {
        if !request.headers.lists("upgrade", "websocket") {
            return Reply::ok("plain").header("Cache-Control", "no-store");
        }
        Reply::take_over(|conn| {
            conn.send(websocket::ACCEPTED);
            websocket::echo(conn);
        })
    });
    let weir = Weir::with(&config(&origin, "websockets = 2\nmessages = \"3/1s\"", ""));
    let open = |weir: &Weir| {
        let mut client = weir.client();
        client.send(request_bytes("GET", "/ws", &websocket::OPENING, b""));
        let status = client.expect_response("GET").status;
        (client, status)
    };
    let (mut first, status) = open(&weir);
    assert_eq!(status, 101);
    let (second, status) = open(&weir);
    assert_eq!(status, 101);
    assert_eq!(open(&weir).1, 503, "two are open");
    assert_eq!(weir.get("/page").status, 200, "requests are not sockets");
    let begun = Instant::now();
    for _ in 0..6 {
        websocket::send(&mut first, websocket::TEXT, b"hello", true).unwrap();
    }
    for _ in 0..6 {
        assert_eq!(websocket::receive(&mut first).unwrap(), (websocket::TEXT, b"hello".to_vec()));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "three at once, then one in a third of a second");
    drop(second);
    eventually("the place is free", || open(&weir).1 == 101);
}

/// One request each; how many of them passed a limit of one for each client.
fn counted_apart(weir: &Weir, chains: &[(&str, &str)]) -> usize {
    let passed = |fields: &&(&str, &str)| weir.ask("GET", "/page", &[**fields], b"").status == 200;
    chains.iter().filter(passed).count()
}

#[test]
fn who_is_counted_is_told_by_trusted_proxies_from_the_right() {
    let origin = origin();
    let before = "[server]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n";
    let weir = Weir::with(&config(&origin, "rate = \"1/1h\"", before));
    // What a client writes to the left of what our own proxies have added makes nobody else of it.
    let left = [
        ("X-Forwarded-For", "198.51.100.1, 192.0.2.1"),
        ("X-Forwarded-For", "198.51.100.2, 192.0.2.1, 10.1.1.1"),
        ("X-Forwarded-For", "nonsense, 192.0.2.1, 10.1.1.1, 10.2.2.2"),
        ("X-Forwarded-For", "::ffff:192.0.2.1"),
        ("Forwarded", "for=198.51.100.3, for=192.0.2.1;proto=https"),
        ("Forwarded", "for=198.51.100.4, for=\"192.0.2.1:4711\", for=10.1.1.1"),
    ];
    assert_eq!(counted_apart(&weir, &left), 1, "all of them are 192.0.2.1");
    // An entry that cannot be read ends the walk: who wrote what is left of it is not known.
    let unknown = [
        ("X-Forwarded-For", "192.0.2.50, nonsense, 10.1.1.1"),
        ("X-Forwarded-For", "192.0.2.51, unknown, 10.1.1.1"),
        ("Forwarded", "for=192.0.2.52, for=_hidden, for=10.1.1.1"),
    ];
    assert_eq!(
        counted_apart(&weir, &unknown),
        1,
        "they share what the last proxy that can be read came from"
    );
    // Whoever has one address of a /64 has them all.
    let six = [
        ("X-Forwarded-For", "2001:db8:1:2::1"),
        ("X-Forwarded-For", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("Forwarded", "for=\"[2001:db8:1:2::7]:4711\""),
        ("X-Forwarded-For", "2001:db8:1:3::1"),
    ];
    assert_eq!(counted_apart(&weir, &six), 2, "two networks");
}

#[test]
fn nobody_else_is_believed() {
    let origin = origin();
    let stranger = Weir::with(&config(&origin, "rate = \"1/1h\"", ""));
    let claims = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.2"),
        ("Forwarded", "for=192.0.2.3"),
        ("X-Real-IP", "192.0.2.4"),
    ];
    assert_eq!(counted_apart(&stranger, &claims), 1, "the peer is the client");

    let listen = "[server]\nlisten = [{ address = \"127.0.0.1:0\", proxy_protocol = true }]\n";
    let trusting = format!("{listen}trusted_proxies = [\"127.0.0.1\"]\n");
    let weir = Weir::with(&config(&origin, "rate = \"1/1h\"", &trusting));
    let mut passed = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let mut client = weir.client();
        client.send(format!("PROXY TCP4 {address} 198.51.100.1 40000 443\r\n"));
        client.send(request_bytes("GET", "/page", &[], b""));
        passed.push(client.expect_response("GET").status);
    }
    // Version 2: the signature, a connection that is spoken for, TCP over IPv6, 36 bytes of addresses.
    for last in [1, 2] {
        let mut head = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
        let mut address = [0_u8; 16];
        (address[0], address[1], address[15]) = (0x20, 0x01, last);
        head.extend_from_slice(&address);
        head.extend_from_slice(&[0; 16]);
        head.extend_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        let mut client = weir.client();
        client.send([&head[..], &request_bytes("GET", "/page", &[], b"")].concat());
        passed.push(client.expect_response("GET").status);
    }
    assert_eq!(passed, [200, 200, 429, 200, 429], "two addresses of IPv4, and one network of IPv6");
    // From a peer that is not listed it is not a request.
    let others = format!("{listen}trusted_proxies = [\"10.0.0.0/8\"]\n");
    let weir = Weir::with(&config(&origin, "rate = \"1/1h\"", &others));
    let mut client = weir.client();
    // In one piece: it may be closed as soon as its first line is read.
    let line = b"PROXY TCP4 192.0.2.9 198.51.100.1 40000 443\r\n";
    client.send([&line[..], &request_bytes("GET", "/page", &[], b"")].concat());
    let (bytes, _) = client.rest(1 << 16);
    assert!(!String::from_utf8_lossy(&bytes).contains("200 OK"), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn who_shares_a_quota_is_what_the_key_says() {
    let origin = origin();
    let url = origin.url();
    let route = |path: &str, limit: &str| {
        format!("[[route]]\nmatch = {{ path = \"{path}\" }}\norigin = \"{url}\"\nlimits = [\"{limit}\"]\n")
    };
    let weir = Weir::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [limit.cookie]\nkey = \"cookie:sessionid\"\nrate = \"1/1h\"\n\
         [limit.route]\nkey = \"route\"\nrate = \"2/1h\"\n\
         [limit.both]\nkey = [\"client-ip\", \"route\"]\nrate = \"1/1h\"\n{}{}{}{}",
        route("/cookie", "cookie"),
        route("/route/**", "route"),
        route("/a", "both"),
        route("/b", "both"),
    ));
    let ask = |target: &str, from: &str, cookie: &str| {
        weir.ask("GET", target, &[("X-Forwarded-For", from), ("Cookie", cookie)], b"").status
    };
    let cookies = [
        ("192.0.2.1", "sessionid=a", 200),
        ("192.0.2.2", "b=1; sessionid=a", 429),
        ("192.0.2.1", "sessionid=b", 200),
        ("192.0.2.1", "other=a", 200),
        ("192.0.2.1", "another=a", 429),
    ];
    for (from, cookie, expected) in cookies {
        assert_eq!(ask("/cookie", from, cookie), expected, "{from} with {cookie}");
    }
    let routes = [("/route/1", "192.0.2.1"), ("/route/2", "192.0.2.2"), ("/route/3", "192.0.2.3")];
    assert_eq!(routes.map(|(target, from)| ask(target, from, "")), [200, 200, 429]);
    let each = [("/a", "192.0.2.1"), ("/b", "192.0.2.1"), ("/a", "192.0.2.2"), ("/a", "192.0.2.1")];
    assert_eq!(each.map(|(target, from)| ask(target, from, "")), [200, 200, 200, 429]);
}

#[test]
fn sessions_and_users_have_quotas_of_their_own() {
    let (origin, folder) = (super::sessions::application(), tempfile::tempdir().unwrap());
    let weir = Weir::with(&format!(
        "[data]\npath = \"{}\"\n[session]\n[limit.session]\nkey = \"session\"\nrate = \"3/1h\"\n[limit.user]\nkey = \"user\"\nrate = \"3/1h\"\n\
         [[route]]\nmatch = {{ path = \"/login\" }}\norigin = \"{1}\"\nsession = \"write\"\n\
         [[route]]\nmatch = {{ path = \"/by-session\" }}\norigin = \"{1}\"\nsession = \"read\"\nlimits = [\"session\"]\n\
         [[route]]\norigin = \"{1}\"\nsession = \"read\"\nlimits = [\"user\"]\n",
        folder.path().display(),
        origin.url()
    ));
    let mut browsers: Vec<Browser> = (0..3).map(|_| Browser::new()).collect();
    for (browser, user) in browsers.iter_mut().zip(["ada", "ada", "bob"]) {
        browser.ask(&weir, "/login", &[("X-Set", "n=1"), ("X-Control", &format!("sub=\"{user}\""))]);
    }
    let mut passed = |who: usize, target: &str| {
        (0..4).filter(|_| browsers[who].ask(&weir, target, &[]).status == 200).count()
    };
    assert_eq!([0, 1, 2].map(|who| passed(who, "/by-session")), [3, 3, 3], "each session has three");
    assert_eq!(
        [0, 1, 2].map(|who| passed(who, "/by-user")),
        [3, 0, 3],
        "two sessions of one user share them"
    );
    assert_eq!(weir.get("/by-user").status, 200, "who has none is counted by address");
}

#[test]
fn several_quotas_must_all_have_room_and_the_answer_names_the_one_that_has_none() {
    let origin = origin();
    let weir = Weir::with(&config(&origin, "rate = [{ quota = \"2/1h\", burst = 2 }, \"3/2h\"]", ""));
    let first = weir.get("/page");
    let policy = first.headers.all("ratelimit-policy").join(", ");
    assert!(policy.contains("\"api-1h\";q=2;w=3600") && policy.contains("\"api-2h\";q=3;w=7200"), "{policy}");
    assert_eq!(weir.get("/page").status, 200);
    let refused = weir.get("/page");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1800")), "{}", refused.text());
    let problem: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(problem["violated-policies"], serde_json::json!(["api-1h"]));
    assert_eq!(origin.count(), 2);
}
