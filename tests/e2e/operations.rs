//! What an operator does: look, purge, reload, stop.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::tls::Authority;
use harness::wire::request_bytes;
use harness::{Gate, H2Client, Origin, Reply, Weir, eventually, websocket};

#[test]
fn health_readiness_and_metrics_are_on_the_admin_port_only() {
    let mut origin = Origin::echo();
    let weir = Weir::with(&format!(
        "[origin.app]\nservers = [\"{}\"]\nmax_failures = 1\nrest = \"50ms\"\n[[route]]\norigin = \"app\"\n",
        origin.url()
    ));
    assert_eq!(weir.admin("GET", "/healthz").status, 200);
    assert_eq!(weir.admin("GET", "/readyz").status, 200);
    weir.get("/page");
    weir.get("/page");
    let metrics = weir.admin("GET", "/metrics");
    assert!(metrics.header("content-type").unwrap().contains("openmetrics-text"), "{:?}", metrics.headers);
    assert!(metrics.text().ends_with("# EOF\n"));
    assert!(weir.metric("cache_requests_total", &["hit"]) >= 1.0, "{}", metrics.text());
    assert!(!metrics.text().contains("/page"), "never a URL in a label");
    for target in ["/healthz", "/readyz", "/metrics", "/purge"] {
        assert_eq!(
            weir.get(target).text(),
            format!("GET {target}"),
            "on the data port it is the application's"
        );
    }
    origin.down();
    weir.get("/never-stored");
    assert_eq!(weir.admin("GET", "/healthz").status, 200, "alive");
}

#[test]
fn the_admin_port_asks_for_its_token() {
    let origin = Origin::echo();
    let weir = Weir::with(&format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"open sesame, please\"\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    let address =
        weir.wait_for_line("admin on ").rsplit("http://").next().unwrap().trim_end_matches('/').to_owned();
    let ask = |token: &str| {
        let mut client = harness::Conn::connect(address.as_str());
        client
            .ask("POST", "/purge?everything=true", &[("Host", &address), ("Authorization", token)], b"")
            .status
    };
    assert_eq!(ask("Bearer wrong"), 401);
    assert_eq!(ask("Bearer open sesame, pleas"), 401);
    assert_eq!(ask("Basic open sesame, please"), 401);
    assert_ne!(ask("Bearer open sesame, please"), 401);
    assert!(!weir.output().contains("sesame"));
}

#[test]
fn a_page_in_a_browser_cannot_purge() {
    let origin = Origin::echo();
    let weir = Weir::before(&origin);
    let address =
        weir.wait_for_line("admin on ").rsplit("http://").next().unwrap().trim_end_matches('/').to_owned();
    let host = weir.address().to_string();
    weir.ask("GET", "/page", &[("Host", &host)], b"");
    // DNS rebinding: a page of evil.test whose name now points at 127.0.0.1.
    let mut client = harness::Conn::connect(address.as_str());
    let response = client.ask("POST", "/purge?everything=true", &[("Host", "evil.test")], b"");
    assert!(response.status >= 400, "{}", response.status);
    // A form of another site.
    let mut client = harness::Conn::connect(address.as_str());
    let fields = [("Host", address.as_str()), ("Origin", "http://evil.test"), ("Content-Type", "text/plain")];
    let response = client.ask("POST", "/purge?everything=true", &fields, b"");
    assert!(response.status >= 400, "{}", response.status);
    assert!(weir.ask("GET", "/page", &[("Host", &host)], b"").is_hit());
}

#[test]
fn the_access_log_tells_the_decision_and_no_secrets() {
    let origin = Origin::echo();
    let weir = Weir::with(&format!("[log]\naccess = \"json\"\n[[route]]\norigin = \"{}\"\n", origin.url()));
    weir.ask(
        "GET",
        "/logged?x=%0a%1b",
        &[
            ("Cookie", "sid=secret1"),
            ("Authorization", "Bearer secret2"),
            ("User-Agent", "a \"quoted\" \\ agent"),
        ],
        b"",
    );
    let line = weir.wait_for_line("/logged");
    let record: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert!(record.to_string().contains("200"), "{line}");
    assert!(!weir.output().contains("secret"), "{}", weir.output());
    weir.get("/logged-again");
    weir.get("/logged-again");
    eventually("the decision is in the log", || {
        weir.output().lines().filter(|line| line.contains("/logged-again")).any(|line| line.contains("hit"))
    });
}

#[test]
fn a_reload_keeps_cache_and_connections_and_changes_routes() {
    let origin = Origin::echo();
    let first = format!("[[route]]\norigin = \"{}\"\n", origin.url());
    let weir = Weir::with(&first);
    let mut client = weir.client();
    client.get("/kept");
    weir.write_config(&format!(
        "[[route]]\nmatch = {{ path = \"/fixed\" }}\nrespond = {{ body = \"new\" }}\n{first}"
    ));
    weir.hang_up();
    eventually("the new route answers, on the old connection", || client.get("/fixed").text() == "new");
    assert!(client.get("/kept").is_hit(), "the cache is kept");
}

#[test]
fn a_bad_file_changes_nothing() {
    let origin = Origin::echo();
    let weir = Weir::with(&format!("[[route]]\norigin = \"{}\"\n", origin.url()));
    weir.get("/kept");
    weir.write_config("[[route]]\norigin = \"http://127.0.0.1:1\"\ncolour = \"red\"\n");
    weir.hang_up();
    weir.wait_for_line("colour");
    assert!(weir.get("/kept").is_hit());
    assert_eq!(weir.get("/still").text(), "GET /still");
}

#[test]
fn a_hundred_reloads_under_load_fail_nothing() {
    let origin = Origin::start(|request| {
        Reply::ok(request.target.clone())
            .header("Cache-Control", if request.target.contains("kept") { "max-age=600" } else { "no-store" })
    });
    let config = format!("[[route]]\norigin = \"{}\"\n", origin.url());
    let weir = Weir::with(&config);
    let stop = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (weir, stop, served) = (&weir, &stop, &served);
            scope.spawn(move || {
                let mut conn = weir.client();
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    if client >= 4 && number % 20 == 0 {
                        conn = weir.client();
                    }
                    let target =
                        if number % 2 == 0 { "/kept".to_owned() } else { format!("/{client}/{number}") };
                    let response = conn.get(&target);
                    assert_eq!((response.status, response.text()), (200, target));
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut resident = 0;
        for round in 0..100 {
            let before = served.load(Ordering::SeqCst);
            weir.write_config(&format!("# {round}\n{config}"));
            weir.hang_up();
            // Signals that come while one is being handled become one.
            let done = f64::from(round + 1);
            eventually("the reload", || weir.metric("config_reloads_total", &[]) >= done);
            eventually("requests go on", || served.load(Ordering::SeqCst) > before + 20);
            if round == 20 {
                resident = weir.resident_bytes();
            }
        }
        let grown = weir.resident_bytes().saturating_sub(resident);
        assert!(grown < 20 << 20, "{grown} bytes more after eighty reloads");
        stop.store(true, Ordering::SeqCst);
    });
    assert!(origin.count_of("/kept") <= 4, "the cache outlives reloads: {}", origin.count_of("/kept"));
}

#[test]
fn certificates_are_read_again() {
    let origin = Origin::echo();
    let (old, new) = (Authority::new(), Authority::new());
    let config = format!(
        "[server]\nlisten = [{{ address = \"127.0.0.1:0\", tls = {{ cert = \"{{DIR}}/weir.pem\", key = \"{{DIR}}/weir.key\" }} }}]\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    );
    let weir = Weir::with_files(&config, |folder| drop(old.identity(&["weir.test"]).write(folder, "weir")));
    let (mut kept, _) = old.connect(weir.address(), "weir.test", &["http/1.1"]);
    kept.get("/before");
    new.identity(&["weir.test"]).write(weir.folder(), "weir");
    weir.hang_up();
    eventually("new handshakes use the new certificate", || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            new.connect(weir.address(), "weir.test", &["http/1.1"])
        }))
        .is_ok()
    });
    assert!(kept.get("/before").is_hit(), "and old connections live on");
}

#[test]
fn a_stop_waits_for_what_is_under_way_and_for_nothing_else() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |request| match request.path() {
        "/slow" => {
            let gate = held.clone();
            Reply::new(200).header("Cache-Control", "no-store").stream(move |chunks| {
                chunks.send("first ");
                gate.wait();
                chunks.send("second");
            })
        }
        _ => Reply::ok("x"),
    });
    let mut weir = Weir::before(&origin);
    let address = weir.address();
    let mut idle = weir.client();
    idle.get("/idle");
    let h2 = H2Client::connect(address);
    h2.get("/idle-h2");
    let mut slow = weir.client();
    slow.send(request_bytes("GET", "/slow", &[], b""));
    slow.until(b"first ");

    weir.terminate();
    idle.expect_end();
    eventually("new connections are refused", || TcpStream::connect(address).is_err());
    assert!(weir.is_running(), "a download is under way");
    gate.open();
    slow.until(b"second");
    slow.until(b"0\r\n\r\n");
    let status = weir.wait(Duration::from_secs(10));
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_stop_under_load_fails_no_request() {
    let origin =
        Origin::start(|request| Reply::ok(request.target.clone()).header("Cache-Control", "no-store"));
    let mut weir = Weir::before(&origin);
    let address = weir.address();
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let served = &served;
            let mut conn = weir.client();
            scope.spawn(move || {
                for number in 0.. {
                    let target = format!("/{client}/{number}");
                    // A connection that was told to be the last one is not asked again; one that closed before it took a
                    // request has failed nothing.
                    if conn.try_send(request_bytes("GET", &target, &[], b"")).is_err() {
                        return;
                    }
                    match conn.response("GET") {
                        Ok(response) => {
                            assert_eq!((response.status, response.text()), (200, target));
                            served.fetch_add(1, Ordering::SeqCst);
                            if response.headers.lists("connection", "close") {
                                return;
                            }
                        }
                        Err(error) => {
                            assert!(error.is_end(), "client {client}: {error}");
                            return;
                        }
                    }
                }
            });
        }
        eventually("load", || served.load(Ordering::SeqCst) > 500);
        weir.terminate();
    });
    assert!(weir.wait(Duration::from_secs(10)).success());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_stop_ends_what_would_never_end() {
    let origin = Origin::start(|_| {
        Reply::take_over(|conn| {
            conn.send(websocket::ACCEPTED);
            websocket::echo(conn);
        })
    });
    let mut weir = Weir::with(&format!(
        "[server]\ndrain = \"300ms\"\n[[route]]\norigin = \"{}\"\nwebsocket = true\n",
        origin.url()
    ));
    let mut client = weir.client();
    client.send(request_bytes("GET", "/ws", &websocket::OPENING, b""));
    assert_eq!(client.expect_response("GET").status, 101);
    weir.terminate();
    let status = weir.wait(Duration::from_secs(10));
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_second_weir_on_the_same_port_is_refused() {
    let origin = Origin::echo();
    let weir = Weir::before(&origin);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let config = format!(
        "[server]\nlisten = [\"{}\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[[route]]\norigin = \"{}\"\n",
        weir.address(),
        origin.url()
    );
    std::fs::write(&path, config).unwrap();
    let output = harness::weir::run(&["run", "--config", &path.display().to_string()]);
    assert!(!output.status.success(), "SO_REUSEPORT would let it share the port in silence");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&weir.address().port().to_string()));
}
