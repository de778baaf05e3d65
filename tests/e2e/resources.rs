//! Peers that take their time, too many of them, too much of everything: limits hold, and others do not notice.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::wire::{Ending, request_bytes};
use harness::{Conn, Origin, Reply, Weir, eventually};

fn limited(origin: &Origin, limits: &str) -> Weir {
    Weir::with(&format!("[server.limits]\n{limits}\n[[route]]\norigin = \"{}\"\n", origin.url()))
}

#[test]
fn a_head_that_never_ends_is_not_waited_for() {
    let origin = Origin::echo();
    let weir = limited(&origin, "head_timeout = \"300ms\"");
    let mut silent = weir.client();
    silent.send("GET /slow HTTP/1.1\r\nHost: weir.test\r\nX-Slow: ");
    let (bytes, ending) = silent.rest(1 << 16);
    assert_ne!(ending, Ending::Silent, "closed");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408 "), "{text}");

    // Byte by byte is no faster: the limit is for the whole head.
    let mut drip = weir.client();
    let begun = Instant::now();
    let closed = loop {
        if drip.try_send("x").is_err() || begun.elapsed() > Duration::from_secs(10) {
            break begun.elapsed();
        }
        std::thread::park_timeout(Duration::from_millis(20));
    };
    assert!(closed < Duration::from_secs(10), "still open after {closed:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_body_that_pauses_for_too_long_is_given_up() {
    let origin = Origin::echo();
    let weir = limited(&origin, "idle_timeout = \"300ms\"");
    let mut client = weir.client();
    client.send("POST /slow HTTP/1.1\r\nHost: weir.test\r\nContent-Length: 100\r\n\r\nhalf");
    let (bytes, ending) = client.rest(1 << 16);
    assert_ne!(ending, Ending::Silent, "closed");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408 ") || text.starts_with("HTTP/1.1 400 "),
        "{text}"
    );
    assert_eq!(origin.count(), 0, "half a request is none");
    assert_eq!(weir.get("/next").text(), "GET /next");
}

#[test]
fn an_idle_connection_is_closed_in_order() {
    let origin = Origin::echo();
    let weir = limited(&origin, "keep_alive = \"300ms\"");
    let mut client = weir.client();
    client.get("/");
    client.expect_end();
    weir.client().expect_end();
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let origin = Origin::start(|_| Reply::ok(vec![b'x'; 64 << 20]).header("Cache-Control", "no-store"));
    let weir = limited(&origin, "idle_timeout = \"300ms\"");
    let mut client = weir.client();
    client.send(request_bytes("GET", "/big", &[], b""));
    client.until(b"\r\n\r\n");
    // Nothing is read from here on until Weir has given up.
    eventually("Weir gives up", || weir.metric("http_server_connections", &[]) == 0.0);
    let mut sink = vec![0; 1 << 20];
    let mut got = 0;
    while let Ok(n) = client.read(&mut sink) {
        if n == 0 {
            break;
        }
        got += n;
    }
    assert!(got < 64 << 20, "all of it arrived");
}

/// Nothing here pauses, and everything crawls.
const CRAWLING: &str = "rate_after = \"500ms\"\nrate_bytes_min = \"1MiB\"\nidle_timeout = \"1h\"";

#[test]
fn a_body_that_crawls_is_given_up() {
    let origin = Origin::echo();
    let weir = limited(&origin, CRAWLING);
    let mut client = weir.client();
    client.send("POST /slow HTTP/1.1\r\nHost: weir.test\r\nContent-Length: 100000000\r\n\r\n");
    let given_up = || weir.metric("http_server_connections", &[]) == 0.0;
    eventually("Weir gives up", || client.try_send("x").is_err() || given_up());
    assert_eq!(origin.count(), 0, "a part of a request is none");
    // As much as is asked for may come, however long it takes.
    let lively = limited(&origin, &CRAWLING.replace("1MiB", "1B"));
    let mut client = lively.client();
    client.send("POST /slow HTTP/1.1\r\nHost: weir.test\r\nContent-Length: 60\r\n\r\n");
    for _ in 0..60 {
        client.send("x");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(client.expect_response("POST").text(), "POST /slow");
}

#[test]
fn a_client_that_reads_at_a_crawl_is_given_up() {
    let origin = Origin::start(|_| Reply::ok(vec![b'x'; 64 << 20]).header("Cache-Control", "no-store"));
    let weir = limited(&origin, CRAWLING);
    let mut client = weir.client();
    client.send(request_bytes("GET", "/big", &[], b""));
    client.until(b"\r\n\r\n");
    let mut piece = [0; 1 << 10];
    let mut got = 0;
    eventually("Weir gives up", || {
        got += client.read(&mut piece).unwrap_or(0);
        weir.metric("http_server_connections", &[]) == 0.0
    });
    assert!(got < 64 << 20, "all of it arrived");
    assert!(weir.metric("limits_hit_total", &["\"rate\""]) >= 1.0);
}

#[test]
fn connections_of_one_address_are_bounded() {
    let origin = Origin::echo();
    let weir = limited(&origin, "connections_per_address = 8");
    let mut kept: Vec<Conn> = (0..8).map(|_| weir.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/kept").status, 200);
    }
    let mut beyond = weir.client();
    let _ = beyond.try_send(request_bytes("GET", "/beyond", &[], b""));
    match beyond.response("GET") {
        Ok(response) => assert!([429, 503].contains(&response.status), "{}", response.status),
        Err(error) => assert!(error.is_end(), "{error}"),
    }
    assert_eq!(kept[0].get("/kept").status, 200, "those that are there stay");
    drop(kept);
    eventually("there is room again", || {
        let mut client = weir.client();
        client.try_send(request_bytes("GET", "/again", &[], b"")).is_ok()
            && client.response("GET").is_ok_and(|r| r.status == 200)
    });
}

#[test]
fn without_descriptors_weir_waits_and_comes_back() {
    let origin = Origin::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    );
    std::fs::write(&path, config).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 96; exec \"$0\" run --config \"$1\""])
        .arg(harness::weir::binary())
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    Conn::connect(address.as_str()).get("/kept");

    // More than there are descriptors. Some wait in the system's queue; nobody exits, nobody spins.
    let crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut one = Conn::connect(address.as_str());
    let _ = one.try_send(request_bytes("GET", "/kept", &[], b""));
    let before = cpu_ticks(child.id());
    let starved = Instant::now();
    one.limit_reads(Duration::from_secs(1));
    let _ = one.response("GET");
    let (spent, of) = (cpu_ticks(child.id()) - before, starved.elapsed());
    assert!(child.try_wait().unwrap().is_none(), "it does not exit");
    // A hundred ticks are a second of CPU.
    assert!(spent as f64 / 100.0 <= 0.5 * of.as_secs_f64() + 0.1, "{spent} ticks in {of:?}");
    drop(crowd);
    drop(one);
    eventually("it serves again", || {
        let mut client = Conn::connect(address.as_str());
        client.limit_reads(Duration::from_secs(2));
        client.try_send(request_bytes("GET", "/kept", &[], b"")).is_ok()
            && client.response("GET").is_ok_and(|r| r.status == 200)
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// User and system time of a process so far, in ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Fields are counted after the name, which may hold anything: utime and stime are the twelfth and thirteenth.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_log_that_nobody_reads_stops_no_request() {
    let origin = Origin::echo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    );
    std::fs::write(&path, config).unwrap();
    let mut child = Command::new(harness::weir::binary())
        .args(["run", "--config"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    // A pipe holds 64 KiB: these lines are ten times as much, and nobody reads one of them.
    let mut client = Conn::connect(address.as_str());
    for number in 0..6_000 {
        assert_eq!(client.get("/kept").status, 200, "request {number}");
    }
    drop(lines);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn four_gibibytes_pass_through_a_small_budget_at_once() {
    const WHOLE: u64 = 4 << 30;
    let origin = Origin::start(|_| {
        Reply::take_over(|conn| {
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {WHOLE}\r\n\r\n"
            ));
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..WHOLE >> 20 {
                if conn.try_send(&piece).is_err() {
                    return;
                }
            }
        })
    });
    let weir = Weir::with(&format!(
        "[cache.default]\nmax_memory = \"64MiB\"\n[[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    weir.get("/warm");
    let before = weir.resident_bytes();
    let mut client = weir.client();
    client.send(request_bytes("GET", "/huge", &[], b""));
    // The first byte of content is there while the origin has sent next to nothing of it: nobody collects.
    client.until(b"\r\n\r\n");
    assert_eq!(client.exactly(1), b"x");
    let mut sink = vec![0; 1 << 20];
    let (mut got, mut largest) = (1, 0);
    while got < WHOLE {
        let n = client.read(&mut sink).unwrap();
        assert!(n > 0, "cut after {got} bytes");
        got += u64::try_from(n).unwrap();
        if got % (256 << 20) < u64::try_from(n).unwrap() {
            largest = largest.max(weir.resident_bytes());
        }
    }
    let grown = largest.saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes more while 4 GiB passed");
}

#[test]
fn as_many_variants_of_a_url_are_kept_as_the_configuration_says() {
    let origin = Origin::start(|request| {
        let language = request.header("accept-language").unwrap_or_default().to_owned();
        Reply::ok(language).header("Cache-Control", "max-age=60").header("Vary", "X-Shade, Accept-Language")
    });
    let weir = limited(&origin, "variants = 2");
    let ask = |shade: &str| weir.client().ask("GET", "/paint", &[("X-Shade", shade)], b"");
    for shade in ["red", "green", "blue"] {
        assert_eq!(ask(shade).status, 200);
    }
    assert_eq!(origin.count(), 3);
    assert_eq!(weir.metric("cache_variants_dropped_total", &["default"]), 1.0);
    for shade in ["green", "blue"] {
        ask(shade);
    }
    assert_eq!(origin.count(), 3, "the two stored last are there");
    ask("red");
    assert_eq!(origin.count(), 4, "the one stored first is not");
}

#[test]
fn each_limit_that_refuses_a_request_is_counted() {
    let origin = Origin::echo();
    let limits = "line_bytes = \"256B\"\nhead_bytes = \"1KiB\"\nhead_fields = 10\nbody_bytes = \"16B\"";
    let weir = limited(&origin, limits);
    let hit = |limit: &str| weir.metric("limits_hit_total", &[&format!("\"{limit}\"")]);
    assert_eq!(weir.get(&format!("/{}", "x".repeat(300))).status, 414);
    assert_eq!(hit("line-bytes"), 1.0);
    let large = "x".repeat(2_000);
    assert_eq!(weir.client().ask("GET", "/", &[("X-Large", &large)], b"").status, 431);
    let many: Vec<(String, &str)> = (0..20).map(|number| (format!("X-{number}"), "x")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(weir.client().ask("GET", "/", &many, b"").status, 431);
    assert_eq!(hit("head-size"), 2.0);
    assert_eq!(weir.client().ask("POST", "/", &[], b"more than sixteen bytes").status, 413);
    assert_eq!(hit("body-bytes"), 1.0);
    assert_eq!(origin.count(), 0);
}
