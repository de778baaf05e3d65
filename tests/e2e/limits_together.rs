//! Limits over several proxies at once, and over very many sockets: places counted together, clocks that differ, a Redis that hangs, reloads.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::wire::request_bytes;
use harness::{Conn, Gate, Origin, RedisServer, Reply, WAIT, Weir, eventually, lock, websocket};

/// Answers at once, echoes on WebSockets, and holds `/slow` back until the gate is open.
fn origin(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |request| {
        if request.headers.lists("upgrade", "websocket") {
            return Reply::take_over(|conn| {
                conn.send(websocket::ACCEPTED);
                websocket::echo(conn);
            });
        }
        if request.path() == "/slow" {
            gate.wait();
        }
        Reply::ok("done").header("Cache-Control", "no-store")
    })
}

fn config(origin: &Origin, redis: &RedisServer, limit: &str) -> String {
    format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n\
         [limit.chat]\nredis_budget = \"10s\"\n{limit}\n[[route]]\norigin = \"{}\"\nlimits = [\"chat\"]\nwebsocket = true\n",
        redis.url(),
        origin.url()
    )
}

fn proxies<const N: usize>(config: &str) -> [Weir; N] {
    let proxies = std::array::from_fn(|_| Weir::with(config));
    proxies.iter().for_each(|weir| connected(weir, N));
    proxies
}

/// Until a proxy has a connection, and knows of the others.
fn connected(weir: &Weir, proxies: usize) {
    eventually("they know of each other", || {
        weir.metric("redis_up", &["main"]) == 1.0 && weir.metric("limit_proxies", &["chat"]) == proxies as f64
    });
}

fn open_for(weir: &Weir, user: &str) -> (Conn, u16) {
    let mut client = weir.client();
    client.send(request_bytes("GET", "/ws", &[&websocket::OPENING[..], &[("X-User", user)]].concat(), b""));
    let status = client.expect_response("GET").status;
    (client, status)
}

fn open(weir: &Weir) -> (Conn, u16) {
    open_for(weir, "one")
}

#[test]
fn sockets_are_counted_over_all_proxies_and_a_dead_proxys_are_free_again() {
    let (origin, redis) = (origin(&Gate::new()), RedisServer::start());
    let [one, two, three] = proxies(&config(&origin, &redis, "websockets = 4"));
    let mut held: Vec<(Conn, u16)> = [&one, &one, &two, &two].map(open).into();
    assert_eq!(held.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [101; 4]);
    for weir in [&one, &two, &three] {
        assert_eq!(open(weir).1, 503, "four are open, wherever they are");
        assert_eq!(weir.get("/page").status, 200, "requests are not sockets");
    }
    drop(held.pop());
    eventually("a place is free, for anybody", || {
        let (client, status) = open(&three);
        let is_open = status == 101;
        held.extend(is_open.then_some((client, status)));
        is_open
    });
    assert_eq!(open(&two).1, 503);
    // Emptied, it learns again what is held.
    redis.ask(&["FLUSHALL"]);
    eventually("it has learnt it", || {
        redis
            .keys()
            .iter()
            .filter(|key| key.contains(":rl:chat:sockets:"))
            .any(|key| redis.says(&["HLEN", key]) == "3")
    });
    assert_eq!(open(&two).1, 503);
    // What is said again keeps it; what nobody says ends by itself.
    let since = Instant::now();
    drop(one);
    let freed = || open(&two).1 == 101;
    let begun = Instant::now();
    while !freed() {
        assert!(begun.elapsed() < 2 * WAIT, "a dead proxy's places are not free");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(since.elapsed() > Duration::from_secs(5), "not as soon as it is silent: {:?}", since.elapsed());
}

#[test]
fn requests_at_once_are_counted_over_all_proxies_and_wait_for_each_other() {
    let gate = Gate::new();
    let (origin, redis) = (origin(&gate), RedisServer::start());
    let limit = "in_flight = 2\nqueue = { length = 1, time = \"1h\" }";
    let [one, two] = proxies(&config(&origin, &redis, limit));
    let mut slow: Vec<Conn> = [&one, &two].map(Weir::client).into();
    for client in &mut slow {
        client.send(request_bytes("GET", "/slow", &[], b""));
    }
    origin.wait_for(2);
    let mut waits = two.client();
    waits.send(request_bytes("GET", "/page", &[], b""));
    eventually("one waits for a place that is held elsewhere", || {
        two.metric("limit_requests_waiting", &["chat"]) == 1.0
    });
    let refused = two.get("/page");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "the queue is full");
    gate.open();
    for client in slow.iter_mut().chain([&mut waits]) {
        assert_eq!(client.expect_response("GET").status, 200);
    }
    for weir in [&one, &two] {
        eventually("no place is left taken", || weir.metric("limit_requests_in_progress", &["chat"]) == 0.0);
    }
    eventually("nor in Redis", || !redis.keys().iter().any(|key| key.contains(":requests:")));
}

#[test]
fn who_waits_too_long_for_a_place_that_is_held_elsewhere_is_refused() {
    let gate = Gate::new();
    let (origin, redis) = (origin(&gate), RedisServer::start());
    let [one, two] =
        proxies(&config(&origin, &redis, "in_flight = 1\nqueue = { length = 1, time = \"300ms\" }"));
    let mut slow = one.client();
    slow.send(request_bytes("GET", "/slow", &[], b""));
    origin.wait_for(1);
    let begun = Instant::now();
    let refused = two.get("/page");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(begun.elapsed() >= Duration::from_millis(300), "not before its time: {:?}", begun.elapsed());
    assert_eq!(two.metric("limit_requests_waiting", &["chat"]), 0.0);
    gate.open();
    assert_eq!(slow.expect_response("GET").status, 200);
    eventually("the place is free", || two.get("/page").status == 200);
}

#[test]
fn without_redis_each_proxy_has_its_share_of_the_places() {
    for (mode, each) in [("share", 2), ("full", 4), ("open", 6), ("closed", 0)] {
        let (origin, mut redis) = (origin(&Gate::new()), RedisServer::start());
        let limit = format!("websockets = 4\nwhen_redis_is_down = \"{mode}\"");
        let [one, two] = proxies(&config(&origin, &redis, &limit));
        let (_first, status) = open(&one);
        assert_eq!(status, 101, "{mode}");
        redis.kill();
        for weir in [&one, &two] {
            eventually("it is away", || weir.metric("redis_up", &["main"]) == 0.0);
        }
        let here: Vec<(Conn, u16)> = (0..6).map(|_| open(&one)).collect();
        let there: Vec<(Conn, u16)> = (0..6).map(|_| open(&two)).collect();
        let passed = |all: &[(Conn, u16)]| all.iter().filter(|(_, status)| *status == 101).count();
        // One of the first proxy's was open before.
        let before = usize::from(matches!(mode, "share" | "full"));
        assert_eq!((passed(&here) + before, passed(&there)), (each, each), "{mode}");
        assert!(
            two.metric("limit_decisions_total", &["place", mode]) > 0.0 || mode == "open",
            "{mode} is counted"
        );
        // What was given meanwhile counts for all when Redis is back, empty.
        redis.restart();
        [&one, &two].into_iter().for_each(|weir| connected(weir, 2));
        let open_now = passed(&here) + passed(&there) + 1;
        if open_now >= 4 {
            eventually("it knows of all of them", || {
                let keys = redis.keys();
                let key = keys.iter().find(|key| key.contains(":sockets:"));
                key.is_some_and(|key| redis.says(&["HLEN", key]) == "2") && open(&two).1 == 503
            });
        }
    }
}

#[test]
fn a_hundred_chats_at_once_with_limits_for_each_user() {
    let (origin, redis) = (origin(&Gate::new()), RedisServer::start());
    let limit = "key = \"header:X-User\"\nwebsockets = 5\nmessages = \"1000/1s\"";
    let [one, two] = proxies(&config(&origin, &redis, limit));
    let mut chats: Vec<(Conn, u16)> = Vec::new();
    for chat in 0..100 {
        chats.push(open_for([&one, &two][chat % 2], &format!("user-{}", chat / 5)));
    }
    assert!(chats.iter().all(|(_, status)| *status == 101), "twenty users with five each");
    for user in 0..20 {
        assert_eq!(open_for([&one, &two][user % 2], &format!("user-{user}")).1, 503, "a sixth");
    }
    for round in 0..3 {
        for (number, (chat, _)) in chats.iter_mut().enumerate() {
            websocket::send(chat, websocket::TEXT, format!("{round}:{number}").as_bytes(), true).unwrap();
        }
        for (number, (chat, _)) in chats.iter_mut().enumerate() {
            let said = (websocket::TEXT, format!("{round}:{number}").into_bytes());
            assert_eq!(websocket::receive(chat).unwrap(), said, "everybody hears their own");
        }
    }
    assert_eq!(open_for(&one, "somebody-else").1, 101, "others are not in their way");
}

/// Where each connection is opened and then left alone, so that two thousand need no thread each.
struct Quiet {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Quiet {
    fn start() -> Quiet {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = sockets.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                stream.set_read_timeout(Some(WAIT)).unwrap();
                if std::io::Write::write_all(&mut stream, websocket::ACCEPTED.as_bytes()).is_ok() {
                    lock(&kept).push(stream);
                }
            }
        });
        Quiet { address, sockets }
    }
}

/// Two thousand sockets, a reload, another one with other limits, and each of them still carries frames both ways.
#[test]
fn two_thousand_sockets_are_held_through_reloads_in_little_memory() {
    const SOCKETS: usize = 2_000;
    let origin = Quiet::start();
    let text = format!(
        "[server.limits]\nconnections_per_address = 5000\n[limit.chat]\nwebsockets = {SOCKETS}\nmessages = \"20/1s\"\n\
         [origin.quiet]\nservers = [\"http://{}\"]\nmax_connections = 5000\n\
         [[route]]\norigin = \"quiet\"\nlimits = [\"chat\"]\nwebsocket = true\n",
        origin.address
    );
    let weir = Weir::with(&text);
    // What the first sockets bring with them is there for all of them.
    let mut clients: Vec<Conn> = (0..50).map(|_| open_and_expect(&weir)).collect();
    let before = weir.resident_bytes();
    clients.extend((50..SOCKETS).map(|_| open_and_expect(&weir)));
    assert_eq!(open(&weir).1, 503, "one more than the limit");
    let each = weir.resident_bytes().saturating_sub(before) / (SOCKETS - 50);
    weir.write_config(&format!("{text}# changed\n"));
    weir.hang_up();
    eventually("it has reloaded", || weir.metric("config_reloads_total", &[]) >= 1.0);
    assert_eq!(weir.metric("limit_websockets_open", &["chat"]), SOCKETS as f64, "a reload forgets none");
    assert_eq!(open(&weir).1, 503, "and gives none twice");
    weir.write_config(&text.replace("20/1s", "30/1s"));
    weir.hang_up();
    eventually("it has reloaded again", || weir.metric("config_reloads_total", &[]) >= 2.0);
    let mut sockets = lock(&origin.sockets);
    assert_eq!(sockets.len(), SOCKETS);
    for (number, client) in clients.iter_mut().enumerate() {
        websocket::send(client, websocket::TEXT, format!("up {number}").as_bytes(), true).unwrap();
    }
    let mut heard: Vec<Vec<u8>> =
        sockets.iter_mut().map(|socket| websocket::receive(socket).unwrap().1).collect();
    for (socket, said) in sockets.iter_mut().zip(&heard) {
        websocket::send(socket, websocket::TEXT, said, false).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = (websocket::TEXT, format!("up {number}").into_bytes());
        assert_eq!(
            websocket::receive(client).unwrap(),
            expected,
            "0 closed, and nobody hears what another one said"
        );
    }
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), SOCKETS);
    let after = weir.resident_bytes().saturating_sub(before) / (SOCKETS - 50);
    assert!(each < 50 << 10 && after < 50 << 10, "{each} bytes for each socket, {after} after it was used");
}

fn open_and_expect(weir: &Weir) -> Conn {
    let (client, status) = open(weir);
    assert_eq!(status, 101);
    client
}

/// Redis hangs: nobody waits for it longer than the budget, and after a few late answers nobody waits at all.
#[test]
fn a_redis_that_hangs_adds_no_more_than_its_budget() {
    let (origin, redis) = (origin(&Gate::new()), RedisServer::start());
    let text = config(&origin, &redis, "rate = \"600/1h\"\nin_flight = 100").replace("\"10s\"", "\"200ms\"");
    let [weir] = proxies(&text);
    redis.freeze();
    let mut client = weir.client();
    let mut late = 0;
    for _ in 0..60 {
        let begun = Instant::now();
        assert_eq!(client.get("/page").status, 200);
        late += usize::from(begun.elapsed() >= Duration::from_millis(200));
    }
    redis.thaw();
    // Each request asks twice, for the rate and for a place, and five late answers in a row are enough to ask no more; a busy machine adds some.
    assert!(late <= 12, "{late} of 60 waited");
    assert!(weir.metric("limit_decisions_total", &["admitted", "share"]) >= 50.0);
    assert!(weir.metric("limit_decisions_total", &["place", "share"]) >= 50.0);
}

/// Proxies whose clocks differ by five seconds each: what is decided is decided by the server's clock, and said as a duration.
#[test]
fn clocks_that_differ_change_nothing() {
    let (origin, redis) = (origin(&Gate::new()), RedisServer::start());
    let text = config(&origin, &redis, "rate = \"60/1m\"");
    let weirs: Vec<Weir> = [0, 5, 10].map(|ahead| Weir::with_clock_ahead(&text, ahead)).into();
    weirs.iter().for_each(|weir| connected(weir, 3));
    let begun = Instant::now();
    let mut clients: Vec<Conn> = weirs.iter().map(Weir::client).collect();
    let (mut passed, mut refused, mut dates) = (0, Vec::new(), Vec::new());
    for turn in 0..90 {
        let response = clients[turn % 3].get("/page");
        match response.status {
            200 => passed += 1,
            429 => {
                let said = |name: &str| response.header(name).map(str::to_owned);
                refused.push((said("retry-after"), said("ratelimit")));
                dates.push((turn % 3, httpdate::parse_http_date(&said("date").unwrap()).unwrap()));
            }
            other => panic!("{other}"),
        }
    }
    let back = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!((60..=60 + back).contains(&passed), "{passed} in {back} s");
    let clock = |which: usize| dates.iter().find(|(turn, _)| *turn == which).unwrap().1;
    let apart = clock(2).duration_since(clock(0)).unwrap();
    assert!(apart >= Duration::from_secs(8), "they differ: {apart:?}");
    for (retry_after, standing) in refused {
        assert_eq!((retry_after.as_deref(), standing.as_deref()), (Some("1"), Some("\"chat\";r=0;t=1")));
    }
}
