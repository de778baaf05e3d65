//! Sessions that the proxy keeps: what an application is told, what it may say, and what survives which outage.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use harness::random::Random;
use harness::wire::request_bytes;
use harness::{Conn, Gate, Origin, RedisServer, Reply, Response, Weir, eventually};

/// An application without session code: it says what the request asks it to say, and shows what it was told.
pub(crate) fn application() -> Origin {
    application_that_waits(Gate::new())
}

fn application_that_waits(gate: Gate) -> Origin {
    Origin::start(move |request| {
        if request.path() == "/slow" {
            gate.wait();
        }
        let told = |name: &str| request.header(name).unwrap_or("-").to_owned();
        let mut reply = Reply::ok(format!("{} | {}", told("session-info"), told("session-data")));
        for (asked, said) in
            [("x-set", "Session-Set"), ("x-unset", "Session-Unset"), ("x-control", "Session-Control")]
        {
            if let Some(value) = request.header(asked) {
                reply = reply.header(said, value);
            }
        }
        match request.path() {
            "/kept" => reply.header("Cache-Control", "max-age=600"),
            _ => reply,
        }
    })
}

fn config(origin: &Origin, redis: &str, data: &str, session: &str) -> String {
    let url = origin.url();
    let redis = if redis.is_empty() {
        String::new()
    } else {
        format!("[redis.main]\nurl = \"{redis}\"\nhealth_interval = \"100ms\"\n")
    };
    let data = if data.is_empty() { String::new() } else { format!("[data]\npath = \"{data}\"\n") };
    format!(
        "{redis}{data}[session]\n{session}\n\
         [[route]]\nmatch = {{ path = \"/kept\" }}\norigin = \"{url}\"\nsession = \"read\"\n\
         [[route]]\nmatch = {{ path = \"/off\" }}\norigin = \"{url}\"\n\
         [[route]]\norigin = \"{url}\"\nsession = \"write\"\n"
    )
}

/// Nothing is given up for being slow.
const PATIENT: &str = "redis_budget = \"10s\"";

/// A browser: one cookie.
pub(crate) struct Browser {
    pub(crate) cookie: Option<String>,
}

impl Browser {
    pub(crate) fn new() -> Browser {
        Browser { cookie: None }
    }

    pub(crate) fn ask(&mut self, weir: &Weir, target: &str, fields: &[(&str, &str)]) -> Response {
        let mut client = weir.client();
        client.send(self.request(target, fields));
        self.take(&mut client)
    }

    pub(crate) fn request(&self, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let cookie = self.cookie.as_ref().map(|value| format!("a=1; __Host-sid={value}"));
        let mut all = fields.to_vec();
        all.extend(cookie.as_ref().map(|cookie| ("Cookie", cookie.as_str())));
        request_bytes("GET", target, &all, b"")
    }

    fn take(&mut self, client: &mut Conn) -> Response {
        let response = client.expect_response("GET");
        if let Some(set) = response.headers.all("set-cookie").first() {
            let value = set.strip_prefix("__Host-sid=").unwrap().split(';').next().unwrap();
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
        response
    }

    pub(crate) fn set(&mut self, weir: &Weir, value: &str) -> Response {
        self.ask(weir, "/", &[("X-Set", value)])
    }

    /// What the application is told of its attributes.
    pub(crate) fn data(&mut self, weir: &Weir) -> String {
        self.ask(weir, "/", &[]).text().split(" | ").nth(1).unwrap().to_owned()
    }
}

fn connected(weir: &Weir) {
    eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
}

#[test]
fn an_application_without_session_code_has_sessions() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let mut browser = Browser::new();
    let nobody = browser.ask(&weir, "/", &[("Session-Data", "admin"), ("Session-Info", "v=1, sub=\"root\"")]);
    assert_eq!(nobody.text(), "new=?1 | -", "what a client says of sessions is nobody's word");
    assert!(!nobody.headers.has("set-cookie"), "no session before something is written");

    let first = browser.set(&weir, "theme=\"dark\", n=3, flag");
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=86400; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(browser.cookie.as_ref().unwrap().len(), 43, "256 bits");
    assert_eq!(first.header("cache-control"), Some("private, no-store"));
    assert!(!first.headers.has("session-set"), "it is between the proxy and its origin");
    let second = browser.ask(&weir, "/", &[("X-Set", "n=4, draft=:aGk=:;ttl=600"), ("X-Unset", "flag")]);
    assert!(second.text().ends_with(" | flag, n=3, theme=\"dark\""), "{}", second.text());
    assert!(!second.headers.has("set-cookie"));
    assert_eq!(browser.data(&weir), "draft=:aGk=:, n=4, theme=\"dark\"");
    let forwarded = origin.last("/");
    assert_eq!(forwarded.header("cookie"), Some("a=1"), "the origin does not see the session's name");

    browser.ask(&weir, "/", &[("X-Control", "destory")]);
    assert_eq!(
        browser.data(&weir),
        "draft=:aGk=:, n=4, theme=\"dark\"",
        "what is not understood changes nothing"
    );
    let old = browser.cookie.clone();
    let out = browser.ask(&weir, "/", &[("X-Control", "destroy")]);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    browser.cookie = old;
    assert_eq!(browser.ask(&weir, "/", &[]).text(), "new=?1 | -");
    let off = weir.ask("GET", "/off", &[("X-Set", "a=1"), ("Session-Info", "x")], b"");
    assert!(!off.headers.has("set-cookie") && !off.headers.has("session-set"));
    assert_eq!(off.text(), "- | -");
}

#[test]
fn who_logs_in_gets_a_new_name_and_planted_names_are_worth_nothing() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "cart=1");
    let before = browser.cookie.clone();
    browser.ask(&weir, "/", &[("X-Control", "sub=\"user:42\"")]);
    assert_ne!(browser.cookie, before);
    let told = browser.ask(&weir, "/", &[]).text();
    assert!(told.contains("sub=\"user:42\"") && told.ends_with("| cart=1"), "{told}");
    let mut planted = Browser { cookie: before };
    assert_eq!(
        planted.ask(&weir, "/", &[]).text(),
        "new=?1 | -",
        "nothing leads from the old name to the new one"
    );
    // A name that nobody gave out is not adopted, and two of the name are believed in neither.
    let made_up = "A".repeat(43);
    let mut adopted = Browser { cookie: Some(made_up.clone()) };
    adopted.set(&weir, "a=1");
    assert_ne!(adopted.cookie.as_ref().unwrap(), &made_up);
    let two = format!(
        "__Host-sid={}; __Host-sid={}",
        browser.cookie.as_ref().unwrap(),
        adopted.cookie.as_ref().unwrap()
    );
    assert_eq!(weir.ask("GET", "/", &[("Cookie", &two)], b"").text(), "new=?1 | -");
    // Nobody who reads the stores finds a name.
    let name = browser.cookie.unwrap();
    assert!(redis.keys().iter().all(|key| !key.contains(&name)));
}

#[test]
fn a_session_survives_redis_weir_and_both() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let text = config(&origin, &redis.url(), &folder.path().display().to_string(), PATIENT);
    let weir = Weir::with(&text);
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "theme=\"dark\"");
    redis.ask(&["FLUSHALL"]);
    assert_eq!(browser.data(&weir), "theme=\"dark\"", "FLUSHALL");
    assert!(redis.keys().iter().any(|key| key.starts_with("weir-session:s:")), "and Redis has it again");
    redis.kill();
    assert_eq!(browser.data(&weir), "theme=\"dark\"", "without Redis");
    browser.set(&weir, "n=1");
    redis.restart();
    connected(&weir);
    assert_eq!(browser.data(&weir), "n=1, theme=\"dark\"", "Redis is back, and empty");
    drop(weir);
    redis.ask(&["FLUSHALL"]);
    let weir = Weir::with(&text);
    assert_eq!(browser.data(&weir), "n=1, theme=\"dark\"", "all three");
    connected(&weir);
    assert_eq!(browser.data(&weir), "n=1, theme=\"dark\"");
}

#[test]
fn what_was_written_without_redis_is_newer_than_what_redis_remembers() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", "redis_budget = \"200ms\""));
    connected(&weir);
    let (mut stays, mut leaves) = (Browser::new(), Browser::new());
    stays.set(&weir, "n=1");
    leaves.set(&weir, "n=1");
    redis.freeze();
    stays.set(&weir, "n=2");
    let name = leaves.cookie.clone();
    leaves.ask(&weir, "/", &[("X-Control", "destroy")]);
    leaves.cookie = name;
    redis.thaw();
    for _ in 0..20 {
        assert_eq!(stays.data(&weir), "n=2");
        assert_eq!(leaves.data(&weir), "-", "who has logged out stays so");
    }
    eventually("Redis has learnt it", || {
        connected(&weir);
        let mut values = redis.keys().into_iter().filter(|key| key.starts_with("weir-session:s:"));
        values.all(|key| {
            redis.says(&["HEXISTS", &key, "_d"]) == "1" || redis.says(&["HGET", &key, "a:n"]).ends_with("=2")
        })
    });
    assert_eq!((stays.data(&weir), leaves.data(&weir)), ("n=2".to_owned(), "-".to_owned()));
}

#[test]
fn sessions_only_in_redis_and_only_on_disk() {
    let (origin, redis) = (application(), RedisServer::start());
    let only_redis =
        Weir::with(&config(&origin, &redis.url(), "", &format!("durability = \"redis\"\n{PATIENT}")));
    connected(&only_redis);
    let mut browser = Browser::new();
    browser.set(&only_redis, "n=1");
    assert_eq!(browser.data(&only_redis), "n=1");
    redis.ask(&["FLUSHALL"]);
    let gone = browser.ask(&only_redis, "/", &[]);
    assert_eq!(gone.text(), "new=?1 | -", "lost with Redis, as it was asked for");
    assert!(
        gone.header("set-cookie").unwrap().contains("Max-Age=0"),
        "a miss that is sure clears the cookie"
    );

    let disk = "durability = \"durable\"\ncookie = { browser_session = true, same_site = \"Strict\" }";
    let only_disk = Weir::with(&config(&origin, "", "{DIR}/data", disk));
    let mut browser = Browser::new();
    let set = browser.set(&only_disk, "n=1");
    let cookie = set.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
    assert_eq!(browser.data(&only_disk), "n=1");
}

#[test]
fn a_session_ends_when_nobody_uses_it_and_after_its_time_in_any_case() {
    let (origin, redis) = (application(), RedisServer::start());
    let session = format!("durability = \"redis\"\nidle = \"1h\"\nabsolute = \"3h\"\n{PATIENT}");
    let text = config(&origin, &redis.url(), "", &session);
    let later = |minutes: u32| {
        let weir = Weir::with_clock_ahead(&text, 60 * minutes);
        connected(&weir);
        weir
    };
    let now = later(0);
    let (mut used, mut unused) = (Browser::new(), Browser::new());
    for browser in [&mut used, &mut unused] {
        let set = browser.set(&now, "n=1");
        assert!(set.header("set-cookie").unwrap().contains("Max-Age=10800"));
    }
    for minutes in [55, 110, 165, 179] {
        assert_eq!(
            used.data(&later(minutes)),
            "n=1",
            "who comes again within the hour stays, after {minutes} minutes"
        );
    }
    assert_eq!(unused.data(&later(61)), "-", "nobody came for an hour");
    assert!(unused.cookie.is_none(), "and the browser is told to forget it");
    assert_eq!(used.data(&later(181)), "-", "three hours are over");
}

#[test]
fn trouble_is_no_logout() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "", &format!("durability = \"redis\"\n{PATIENT}")));
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "n=1");
    redis.kill();
    let unknown = browser.ask(&weir, "/", &[]);
    assert_eq!(unknown.text(), "new=?0, unavailable | -");
    assert!(!unknown.headers.has("set-cookie"), "the cookie stays");
    let lost = browser.ask(&weir, "/", &[("X-Set", "n=2")]);
    assert_eq!(
        (lost.status, lost.header("retry-after")),
        (503, Some("1")),
        "what is not saved is not said to be"
    );
}

#[test]
fn fifty_requests_at_once_that_write_different_attributes() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis.url(), "{DIR}/data", PATIENT);
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut browser = Browser::new();
    browser.set(&proxies[0], "begun");
    let mut clients: Vec<Conn> = (0..50).map(|n| proxies[n % 2].client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(browser.request("/", &[("X-Set", &format!("a{n}={n}"))]));
    }
    for client in &mut clients {
        assert_eq!(client.expect_response("GET").status, 200);
    }
    let data = browser.data(&proxies[1]);
    for n in 0..50 {
        assert!(data.contains(&format!("a{n}={n}")), "a{n} is lost: {data}");
    }
}

#[test]
fn what_is_saved_late_does_not_bring_back_who_has_logged_out() {
    let gate = Gate::new();
    let (origin, redis) = (application_that_waits(gate.clone()), RedisServer::start());
    let text = config(&origin, &redis.url(), "{DIR}/data", PATIENT);
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut browser = Browser::new();
    browser.set(&proxies[0], "n=1");
    let mut late = proxies[0].client();
    late.send(browser.request("/slow", &[("X-Set", "n=2")]));
    eventually("it is under way", || origin.count_of("/slow") == 1);
    let name = browser.cookie.clone();
    browser.ask(&proxies[1], "/", &[("X-Control", "destroy")]);
    gate.open();
    assert_eq!(late.expect_response("GET").status, 200);
    browser.cookie = name;
    for weir in &proxies {
        assert_eq!(browser.ask(weir, "/", &[]).text(), "new=?1 | -");
    }
}

#[test]
fn a_change_may_ask_to_be_the_first() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "n=1");
    let info = browser.ask(&weir, "/", &[]).text();
    let version = info.strip_prefix("v=").unwrap().split(',').next().unwrap().to_owned();
    let control = format!("if-v={version}, on-conflict=reject");
    assert_eq!(browser.ask(&weir, "/", &[("X-Set", "n=2"), ("X-Control", &control)]).status, 200);
    assert_eq!(browser.ask(&weir, "/", &[("X-Set", "n=3"), ("X-Control", &control)]).status, 409);
    assert_eq!(browser.data(&weir), "n=2");
}

#[test]
fn reading_writes_nothing() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "n=1");
    let writes = || {
        let stats = redis.says(&["INFO", "commandstats"]);
        let line =
            stats.lines().find(|line| line.starts_with("cmdstat_hset:")).unwrap_or_default().to_owned();
        line.split(',').next().unwrap_or_default().to_owned()
    };
    let before = writes();
    for _ in 0..100 {
        assert_eq!(browser.data(&weir), "n=1");
    }
    assert_eq!(writes(), before, "a hundred requests within a minute");
}

#[test]
fn what_an_origin_is_told_is_vouched_for() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac;

    let origin = application();
    let text = config(&origin, "", "{DIR}/data", "")
        .replace(&format!("origin = \"{}\"", origin.url()), "origin = \"app\"")
        + &format!(
            "[origin.app]\nservers = [\"{}\"]\nsession_mac = \"shared with the origin\"\n",
            origin.url()
        );
    let weir = Weir::with(&text);
    let mut browser = Browser::new();
    browser.set(&weir, "theme=\"dark\"");
    browser.ask(&weir, "/page?x=1", &[("Session-Mac", "t=@1, kid=\"00000000\", mac=:AAAA:")]);
    let told = origin.last("/page?x=1");
    let mac = told.header("session-mac").unwrap();
    let (seconds, rest) = mac.strip_prefix("t=@").unwrap().split_once(", kid=\"").unwrap();
    let (_, mac) = rest.split_once("\", mac=:").unwrap();
    let (info, data) = (told.header("session-info").unwrap(), told.header("session-data").unwrap());
    // As an application would do it, after what the documentation says.
    let text = |method: &str| format!("weir-session-mac-1\n{method}\n/page?x=1\n{seconds}\n{info}\n{data}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"shared with the origin");
    let mac = STANDARD.decode(mac.trim_end_matches(':')).unwrap();
    assert!(hmac::verify(&key, text("GET").as_bytes(), &mac).is_ok());
    assert!(hmac::verify(&key, text("POST").as_bytes(), &mac).is_err(), "it holds for this request only");
}

#[test]
fn the_cookie_gets_another_name_and_nobody_is_logged_out() {
    let origin = application();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let old = Weir::with(&config(&origin, "", &data, "cookie = { name = \"__Host-old\" }"));
    let begun = old.ask("GET", "/", &[("X-Set", "n=1")], b"");
    let cookie = begun.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    drop(old);
    let renamed = "cookie = { name = \"__Host-new\", old_names = [\"__Host-old\", \"__Host-older\"] }";
    let weir = Weir::with(&config(&origin, "", &data, renamed));
    let first = weir.ask("GET", "/", &[("Cookie", &cookie)], b"");
    assert!(first.text().ends_with("| n=1"), "{}", first.text());
    let told = first.headers.all("set-cookie");
    assert_eq!(told.len(), 2, "{told:?}");
    let moved = told[0].split(';').next().unwrap();
    assert_eq!(moved, cookie.replace("__Host-old", "__Host-new"));
    assert!(told[1].starts_with("__Host-old=; Path=/; Max-Age=0"), "{told:?}");
    let second = weir.ask("GET", "/", &[("Cookie", moved)], b"");
    assert!(second.text().ends_with("| n=1") && !second.headers.has("set-cookie"));
    assert_eq!(origin.last("/").header("cookie"), None, "the origin sees neither");
}

#[test]
fn a_redis_that_comes_back_with_an_old_file_brings_nobody_back() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let (mut stays, mut leaves) = (Browser::new(), Browser::new());
    stays.set(&weir, "n=1");
    leaves.set(&weir, "n=1");
    redis.ask(&["SAVE"]);
    stays.set(&weir, "n=2");
    stays.ask(&weir, "/", &[("X-Set", "m=1"), ("X-Unset", "n")]);
    let name = leaves.cookie.clone();
    leaves.ask(&weir, "/", &[("X-Control", "destroy")]);
    redis.kill();
    redis.restart();
    connected(&weir);
    let old = |key: &String| redis.says(&["HGET", key, "a:n"]).ends_with("=1");
    let keys: Vec<String> =
        redis.keys().into_iter().filter(|key| key.starts_with("weir-session:s:")).collect();
    // Of the end it may have been told again by now.
    assert!(keys.len() == 2 && keys.iter().any(old), "it has read its file: {keys:?}");
    // The first of them may find the connection lost that was there before.
    eventually("it has learnt what it had forgotten", || {
        // Who is told that it is over has no cookie any more.
        leaves.cookie.clone_from(&name);
        assert_eq!((stays.data(&weir), leaves.data(&weir)), ("m=1".to_owned(), "-".to_owned()));
        !keys.iter().any(old)
    });
}

#[test]
fn more_names_than_a_session_remembers_at_once() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "stays=1");
    for round in 0..10 {
        let names: Vec<String> = (0..40).map(|n| format!("r{round}n{n}")).collect();
        let set: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
        browser.set(&weir, &set.join(", "));
        browser.ask(&weir, "/", &[("X-Unset", &names.join(", "))]);
        assert_eq!(browser.data(&weir), "stays=1");
    }
    // Marks that nobody can need any more go with the next change, wherever they lie.
    let key = redis.keys().into_iter().find(|key| key.starts_with("weir-session:s:")).unwrap();
    assert_eq!(redis.says(&["HEXISTS", &key, "a:r0n0"]), "1", "it is remembered that it was removed");
    let long_ago = format!("{:016x}{:016x}-", 1_u64 << 8, 0);
    redis.ask(&["HSET", &key, "a:r0n0", &long_ago]);
    browser.set(&weir, "stays=2");
    assert_eq!(redis.says(&["HEXISTS", &key, "a:r0n0"]), "0");
    assert_eq!(browser.data(&weir), "stays=2");
}

/// Many users with sessions and cookies in the vault, three proxies, a Redis that is emptied, killed and frozen, and a proxy that is started again: nobody is ever taken for somebody else, and nobody is
/// logged out. Each user stays with one proxy, as the disk is that of one machine, and visits the others, too: those may say that they cannot tell, and never something else.
#[test]
fn many_users_at_three_proxies_and_nobody_is_mistaken_or_lost() {
    let origin = Origin::start(|request| {
        let told = |name: &str| request.header(name).unwrap_or("-").to_owned();
        let mut reply =
            Reply::ok(format!("{} | {} | {}", told("session-info"), told("session-data"), told("cookie")));
        if let Some(user) = request.header("x-login") {
            reply = reply
                .header("Session-Set", "n=0")
                .header("Session-Control", format!("sub=\"{user}\""))
                .header("Set-Cookie", format!("sessionid=of-{user}; Max-Age=1209600; Path=/; HttpOnly"));
        }
        if let Some(count) = request.header("x-count") {
            reply = reply.header("Session-Set", format!("n={count}"));
        }
        reply
    });
    let mut redis = RedisServer::start();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let text = |at: usize| {
        let session = "keys = [\"a secret of the tests\"]\nredis_budget = \"200ms\"\n[vault]\ncookies = [\"sessionid\"]\n";
        config(&origin, &redis.url(), &folders[at].path().display().to_string(), session)
    };
    let texts: Vec<String> = (0..3).map(text).collect();
    let mut proxies: Vec<Weir> = texts.iter().map(|text| Weir::with(text)).collect();
    proxies.iter().for_each(connected);
    let (mut random, mut users) = (Random::new(11), HashMap::<usize, (harness::Browser, usize)>::new());
    let begun = Instant::now();
    let mut visits = 0;
    for step in 0..900 {
        if begun.elapsed() > Duration::from_secs(25) {
            assert!(visits > 50, "too slow to say anything");
            break;
        }
        match random.below(60) {
            0 => drop(redis.client().ask(&[b"FLUSHALL"])),
            1 => {
                redis.kill();
                redis.restart();
            }
            2 => {
                let at = random.below(3);
                let folder = tempfile::tempdir().unwrap();
                // The old one first: two proxies do not share a folder.
                drop(std::mem::replace(
                    &mut proxies[at],
                    Weir::with(&format!(
                        "[[route]]\norigin = \"{}\"\n[data]\npath = \"{}\"\n",
                        origin.url(),
                        folder.path().display()
                    )),
                ));
                proxies[at] = Weir::with(&texts[at]);
            }
            3 => {
                redis.freeze();
                // Somebody who comes meanwhile waits for a budget, and is served.
                if let Some((user, (browser, _))) = users.iter_mut().next() {
                    let told = browser.get(&proxies[user % 3], "/").text();
                    assert!(told.contains(&format!("of-user:{user}")), "user {user} at step {step}: {told}");
                }
                redis.thaw();
            }
            _ => {}
        }
        let user = random.below(24);
        let (name, home) = (format!("user:{user}"), user % 3);
        let Some((browser, count)) = users.get_mut(&user) else {
            let mut browser = harness::Browser::new();
            assert_eq!(browser.ask(&proxies[home], "GET", "/", &[("X-Login", &name)], b"").status, 200);
            users.insert(user, (browser, 0));
            continue;
        };
        visits += 1;
        let told = browser.get(&proxies[home], "/").text();
        let expected = format!("sub=\"{name}\"");
        assert!(
            told.contains(&expected)
                && told.contains(&format!("| n={count} |"))
                && told.ends_with(&format!("| sessionid=of-{name}")),
            "user {user} at step {step}: {told}"
        );
        *count += 1;
        let counted = browser.ask(&proxies[home], "GET", "/", &[("X-Count", &count.to_string())], b"");
        assert_eq!(counted.status, 200, "user {user} at step {step}");
        // Elsewhere: them, or nobody; not somebody else.
        let mut client = proxies[(home + 1) % 3].client();
        client.send(browser.request("GET", "/", &[], b""));
        let away = client.expect_response("GET").text();
        let others = |other: &usize| {
            *other != user
                && (away.contains(&format!("user:{other}\"")) || away.ends_with(&format!("of-user:{other}")))
        };
        assert!(!users.keys().any(others), "user {user} at step {step}: {away}");
    }
    eprintln!("{visits} visits of {} users", users.len());
}

#[test]
fn values_that_are_too_large_for_fields() {
    let (origin, redis) = (application(), RedisServer::start());
    let session = format!("keys = [\"a secret of the tests\"]\nvalue_bytes = \"1MiB\"\n{PATIENT}");
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", &session));
    connected(&weir);
    let ask = |method: &str, name: &str, token: &str, value: &[u8]| {
        let bearer = format!("Bearer {token}");
        let address = weir.admin_address().to_string();
        let fields = [("Host", address.as_str()), ("Authorization", bearer.as_str())];
        Conn::connect(weir.admin_address()).ask(
            method,
            &format!("/session/value?name={name}"),
            &fields,
            value,
        )
    };
    let mut browser = Browser::new();
    browser.set(&weir, "n=1");
    let token = |browser: &mut Browser, target: &str| {
        browser.ask(&weir, target, &[("Session-Token", "forged")]);
        origin.last(target).header("session-token").unwrap().to_owned()
    };
    let writes = token(&mut browser, "/");
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).take(1 << 20).collect();
    assert_eq!(ask("GET", "avatar", &writes, b"").status, 404);
    assert_eq!(ask("PUT", "avatar", &writes, &large).status, 200);
    assert_eq!(ask("GET", "avatar", &writes, b"").body, large);
    let told = browser.data(&weir);
    assert!(told.starts_with("avatar=large;size=1048576;at=:") && told.ends_with(", n=1"), "{told}");
    // It survives what sessions survive, and that the session gets a new name.
    redis.ask(&["FLUSHALL"]);
    browser.ask(&weir, "/", &[("X-Control", "sub=\"user:42\"")]);
    let writes = token(&mut browser, "/");
    assert_eq!(ask("GET", "avatar", &writes, b"").body, large);
    assert_eq!(ask("PUT", "avatar", &writes, b"another").status, 200);
    assert_eq!(ask("GET", "avatar", &writes, b"").body, b"another");
    // Who may read may not write; who has no token, or a wrong one, may nothing; and there are bounds.
    let reads = token(&mut browser, "/kept");
    assert_eq!(ask("GET", "avatar", &reads, b"").body, b"another");
    assert_eq!(ask("PUT", "avatar", &reads, b"x").status, 401);
    assert_eq!(ask("GET", "avatar", "AAAA", b"").status, 401);
    assert_eq!(ask("PUT", "Avatar", &writes, b"x").status, 400);
    assert_eq!(ask("PUT", "avatar", &writes, &vec![0; (1 << 20) + 1]).status, 413);
    let listed = weir.admin("GET", "/sessions").text();
    assert_eq!(listed.matches("\"live\":true").count(), 1, "values are no sessions: {listed}");
    assert_eq!(ask("DELETE", "avatar", &writes, b"").status, 200);
    assert_eq!(ask("GET", "avatar", &writes, b"").status, 404);
    assert_eq!(browser.data(&weir), "n=1");
    ask("PUT", "avatar", &writes, &large);
    browser.ask(&weir, "/", &[("X-Control", "destroy")]);
    assert_eq!(ask("GET", "avatar", &writes, b"").status, 401, "with the session");
    let strings: usize = redis
        .keys()
        .iter()
        .filter(|key| key.starts_with("weir-session:s:"))
        .map(|key| redis.says(&["MEMORY", "USAGE", key]).parse::<usize>().unwrap_or(0))
        .sum();
    assert!(strings < 100_000, "and nothing large is left in Redis: {strings} bytes");
}

#[test]
fn operators_look_at_sessions_and_end_them() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis.url(), "{DIR}/data", PATIENT);
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut browsers: Vec<Browser> = (0..3).map(|_| Browser::new()).collect();
    for browser in &mut browsers {
        browser.ask(&proxies[0], "/", &[("X-Set", "secret=\"s3cret\""), ("X-Control", "sub=\"user 42\"")]);
    }
    let admin = proxies[0].admin_address().to_string();
    let run = |arguments: &[&str]| {
        let all = [&["session"], arguments, &["--admin", &admin]].concat();
        let output = harness::weir::run(&all);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let listed = run(&["ls", "--user", "user 42"]);
    assert!(listed.ends_with("3 sessions\n") && listed.contains("secret: 8 bytes"), "{listed}");
    assert!(!listed.contains("s3cret"), "no value is shown");
    let handle = listed.split(' ').next().unwrap().to_owned();
    assert!(run(&["show", &handle]).contains("live"));
    assert_eq!(run(&["kill", &handle]), "ended\n");
    assert!(run(&["show", &handle]).contains("over (ended)"));
    let alive = |browsers: &mut [Browser], weir: &Weir| {
        browsers
            .iter_mut()
            .filter(|browser| {
                let mut client = weir.client();
                client.send(browser.request("/", &[]));
                client.expect_response("GET").text().contains("user 42")
            })
            .count()
    };
    assert_eq!(alive(&mut browsers, &proxies[1]), 2);
    assert_eq!(run(&["kill-user", "user 42"]), "ended\n");
    assert_eq!(alive(&mut browsers, &proxies[1]), 0, "on all proxies, at once");
    assert_eq!(run(&["ls", "--user", "user 42"]).matches("over (logged-out)").count(), 2);
    let mut again = Browser::new();
    again.ask(&proxies[1], "/", &[("X-Control", "sub=\"user 42\"")]);
    assert!(again.ask(&proxies[0], "/", &[]).text().contains("user 42"), "who logs in afterwards is not hit");
    again.ask(&proxies[0], "/", &[("X-Control", "logout-everywhere")]);
    assert_eq!(alive(&mut [again], &proxies[1]), 0);
    assert!(run(&["kill", &handle]).contains("no such session"));
}

#[test]
fn stores_see_nothing_and_keys_can_be_changed() {
    let (origin, redis) = (application(), RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let mut browser = Browser::new();
    for keys in ["[\"first secret\"]", "[\"second secret\", \"first secret\"]"] {
        let weir = Weir::with(&config(&origin, &redis.url(), &data, &format!("keys = {keys}\n{PATIENT}")));
        connected(&weir);
        if browser.cookie.is_none() {
            browser.ask(
                &weir,
                "/",
                &[("X-Set", "tier=\"gold-plated\""), ("X-Control", "sub=\"somebody-known\"")],
            );
        }
        let told = browser.ask(&weir, "/", &[]).text();
        assert!(told.contains("somebody-known") && told.ends_with("tier=\"gold-plated\""), "{told}");
        let mut seen = std::fs::read(folder.path().join("sessions.db")).unwrap();
        seen.extend(std::fs::read(folder.path().join("sessions.db-wal")).unwrap_or_default());
        for key in redis.keys().iter().filter(|key| key.starts_with("weir-session:s:")) {
            seen.extend(format!("{:?}", redis.ask(&["HGETALL", key])).into_bytes());
        }
        for secret in ["gold-plated", "somebody-known"] {
            assert!(
                !seen.windows(secret.len()).any(|part| part == secret.as_bytes()),
                "{secret} is in a store"
            );
        }
    }
}

#[test]
fn nothing_that_depends_on_a_session_comes_out_of_the_cache() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis.url(), "{DIR}/data", PATIENT));
    connected(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "name=\"Ada\"");
    assert!(browser.ask(&weir, "/kept", &[]).text().ends_with("| name=\"Ada\""));
    assert_eq!(weir.get("/kept").text(), "- | -", "who has none is told of none");
    assert!(weir.get("/kept").is_hit());
    let own = browser.ask(&weir, "/kept", &[]);
    assert!(
        own.text().ends_with("| name=\"Ada\"") && own.cache_status().contains("detail=session"),
        "{}",
        own.cache_status()
    );
    assert!(weir.get("/kept").is_hit() && weir.get("/kept").text() == "- | -");
}

/// Many users, two proxies, a Redis that is flushed, killed and frozen: nobody is ever taken for somebody else, and nobody is logged out.
#[test]
fn nobody_is_seen_as_somebody_else_and_nobody_is_lost() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis.url(), "{DIR}/data", "redis_budget = \"200ms\"");
    let weir = Weir::with(&text);
    connected(&weir);
    let (mut random, mut users) = (Random::new(7), HashMap::<usize, (Browser, usize)>::new());
    let begun = Instant::now();
    for step in 0..400 {
        if begun.elapsed() > Duration::from_secs(20) {
            assert!(step > 20, "too slow to say anything");
            break;
        }
        match random.below(40) {
            0 => drop(redis.client().ask(&[b"FLUSHALL"])),
            1 => {
                redis.kill();
                redis.restart();
            }
            _ => {}
        }
        let user = random.below(20);
        let (browser, count) = users.entry(user).or_insert_with(|| (Browser::new(), 0));
        if browser.cookie.is_none() {
            let control = format!("sub=\"user:{user}\"");
            browser.ask(&weir, "/", &[("X-Set", "n=0"), ("X-Control", &control)]);
            continue;
        }
        let told = browser.ask(&weir, "/", &[]).text();
        assert!(told.contains(&format!("sub=\"user:{user}\"")), "user {user} at step {step}: {told}");
        assert!(told.ends_with(&format!("| n={count}")), "user {user} at step {step}: {told}");
        *count += 1;
        let written = browser.set(&weir, &format!("n={count}"));
        assert_eq!(written.status, 200);
    }
}
