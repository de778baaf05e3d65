//! Cookies of applications that have sessions of their own: what a policy changes about them, and what the vault keeps.

use harness::{Browser, Gate, Origin, RedisServer, Reply, Weir, eventually};

/// An application that sets what it is asked to set (`X-Set`, several by `|`), and shows which cookies it sees.
fn application() -> Origin {
    application_that_waits(Gate::new())
}

fn application_that_waits(gate: Gate) -> Origin {
    Origin::start(move |request| {
        if request.path() == "/slow" {
            gate.wait();
        }
        let mut reply = Reply::ok(request.header("cookie").unwrap_or("none"));
        for line in request.header("x-set").into_iter().flat_map(|lines| lines.split(" | ")) {
            reply = reply.header("Set-Cookie", line);
        }
        match request.path() {
            "/public" => reply.header("Cache-Control", "public, max-age=600"),
            "/varied" => reply.header("Cache-Control", "public, max-age=600").header("Vary", "Cookie"),
            _ => reply,
        }
    })
}

const VAULT: &str = "[vault]\ncookies = [\"sessionid\", \"csrf*\"]\n";

fn with_vault(origin: &Origin, redis: &str, data: &str, more: &str) -> String {
    let redis = if redis.is_empty() {
        String::new()
    } else {
        format!("[redis.main]\nurl = \"{redis}\"\nhealth_interval = \"100ms\"\n")
    };
    let data = if data.is_empty() { String::new() } else { format!("[data]\npath = \"{data}\"\n") };
    format!(
        "{redis}{data}[session]\nkeys = [\"a secret of the tests\"]\nredis_budget = \"10s\"\n{VAULT}{more}[[route]]\norigin = \"{}\"\n",
        origin.url()
    )
}

fn connected(weir: &Weir) {
    eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
}

/// Lets the application set cookies; returns which cookies it saw before.
#[track_caller]
fn set(browser: &mut Browser, weir: &Weir, lines: &str) -> String {
    let answer = browser.ask(weir, "GET", "/", &[("X-Set", lines)], b"");
    assert_eq!(answer.status, 200);
    answer.text()
}

#[track_caller]
fn seen(browser: &mut Browser, weir: &Weir) -> String {
    browser.get(weir, "/").text()
}

const LOGIN: &str = "csrftoken=c1; Max-Age=31449600; Path=/; SameSite=Lax | sessionid=s1; Max-Age=1209600; HttpOnly; Path=/; SameSite=Lax";
const LOGOUT: &str = "sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/ | csrftoken=; Max-Age=0; Path=/";

#[test]
fn flags_and_prefixes_are_changed_and_the_application_does_not_notice() {
    let origin = application();
    let rules = "[[cookie]]\nname = [\"sessionid\", \"sid*\"]\nprefix = \"__Host-\"\nhttp_only = true\nsame_site = \"Strict\"\n\
                 [[cookie]]\nname = \"theme\"\nmax_age = \"1h\"\nsecure = \"auto\"\n";
    let weir = Weir::with(&format!("{rules}[[route]]\norigin = \"{}\"\n", origin.url()));
    let mut browser = Browser::new();
    set(&mut browser, &weir, "sessionid=s1; Path=/app; SameSite=None | theme=dark; Path=/ | other=1; Path=/");
    assert_eq!(browser.names(), ["__Host-sessionid", "theme", "other"]);
    assert_eq!(
        browser.line("__Host-sessionid"),
        "__Host-sessionid=s1; Path=/; Secure; HttpOnly; SameSite=Strict"
    );
    assert_eq!(browser.line("theme"), "theme=dark; Path=/; Max-Age=3600; Secure");
    assert_eq!(browser.line("other"), "other=1; Path=/");
    assert_eq!(seen(&mut browser, &weir), "sessionid=s1; theme=dark; other=1");

    // What a neighbour plants is not the application's cookie.
    let mut tossed = browser.clone();
    tossed.plant("sessionid=evil; Path=/");
    assert_eq!(seen(&mut tossed, &weir), "sessionid=s1; theme=dark; other=1");
    let mut victim = Browser::new();
    victim.plant("sessionid=evil; Path=/");
    assert_eq!(seen(&mut victim, &weir), "none");
    // Logging out works by the application's own words.
    set(&mut browser, &weir, "sessionid=; Max-Age=0; Path=/app");
    assert_eq!(seen(&mut browser, &weir), "theme=dark; other=1");
}

#[test]
fn routes_and_keys_go_by_the_application_s_names() {
    let origin = Origin::start(|request| {
        let language = request.header("cookie").unwrap_or("-").to_owned();
        Reply::ok(language)
            .header("Cache-Control", "public, max-age=600")
            .header("Set-Cookie", "seen=1; Path=/")
    });
    let weir = Weir::with(&format!(
        "[[cookie]]\nname = [\"lang\", \"seen\"]\nprefix = \"__Secure-\"\n\
         [cache.default]\nstore_set_cookie = true\n[[route]]\norigin = \"{}\"\ncache = {{ cookies = [\"lang\"] }}\n",
        origin.url()
    ));
    let ask = |cookie: &str| weir.ask("GET", "/", &[("Host", "localhost"), ("Cookie", cookie)], b"");
    assert_eq!(ask("__Secure-lang=de; x=1").text(), "lang=de");
    assert_eq!(ask("__Secure-lang=en").text(), "lang=en");
    let again = ask("__Secure-lang=de; x=2");
    assert!(again.is_hit() && again.text() == "lang=de");
    assert_eq!(
        again.header("set-cookie"),
        Some("__Secure-seen=1; Path=/; Secure"),
        "what is stored is in the browser's words"
    );
    assert_eq!(ask("lang=fr").text(), "-", "planted without the prefix");
    assert_eq!(origin.count(), 3);
}

#[test]
fn the_browser_has_one_opaque_cookie_and_the_application_its_own() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&with_vault(&origin, &redis.url(), "{DIR}/data", ""));
    connected(&weir);
    let mut browser = Browser::new();
    assert_eq!(seen(&mut browser, &weir), "none");
    assert!(browser.names().is_empty(), "nothing before there is something to keep");
    let login = browser.ask(&weir, "GET", "/", &[("X-Set", &format!("{LOGIN} | theme=dark; Path=/"))], b"");
    assert_eq!(login.header("cache-control"), Some("private, no-store"));
    assert_eq!(browser.names(), ["theme", "__Host-vault-kept"]);
    let line = browser.line("__Host-vault-kept").to_owned();
    assert!(line.ends_with("; Path=/; Max-Age=34560000; Secure; HttpOnly; SameSite=Lax"), "{line}");
    assert_eq!(browser.value("__Host-vault-kept").unwrap().len(), 43, "256 bits");
    assert_eq!(seen(&mut browser, &weir), "theme=dark; csrftoken=c1; sessionid=s1");

    // What the browser says of these cookies itself is nobody's word, and what the application sets is merged.
    browser.plant("sessionid=evil; Path=/");
    set(&mut browser, &weir, "csrftoken=c2; Max-Age=31449600; Path=/");
    assert_eq!(seen(&mut browser, &weir), "theme=dark; csrftoken=c2; sessionid=s1");
    assert_eq!(browser.line("__Host-vault-kept"), line, "the browser need not be told of it");
    // Two cookies of the name are believed neither, and a made-up one is not adopted.
    let twice =
        format!("__Host-vault-kept={0}; __Host-vault-kept={0}", browser.value("__Host-vault-kept").unwrap());
    assert_eq!(weir.ask("GET", "/", &[("Host", "localhost"), ("Cookie", &twice)], b"").text(), "none");
    let made_up = "A".repeat(43);
    let mut adopted = Browser::new();
    adopted.plant(&format!("__Host-vault-kept={made_up}; Path=/; Secure"));
    set(&mut adopted, &weir, LOGIN);
    assert_ne!(adopted.value("__Host-vault-kept"), Some(made_up.as_str()));

    // Nobody who reads the stores finds a cookie, or a name that leads to one.
    let mut stored = std::fs::read(weir.folder().join("data/sessions.db")).unwrap();
    stored.extend(std::fs::read(weir.folder().join("data/sessions.db-wal")).unwrap_or_default());
    for key in redis.keys().iter().filter(|key| key.starts_with("weir-session:s:")) {
        stored.extend(key.as_bytes());
        stored.extend(format!("{:?}", redis.ask(&["HGETALL", key])).into_bytes());
    }
    let handle = browser.value("__Host-vault-kept").unwrap().to_owned();
    for secret in ["csrftoken=", "sessionid=", "31449600", handle.as_str()] {
        assert!(
            !stored.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "{secret} is in a store"
        );
    }
}

#[test]
fn path_domain_and_date_of_each_cookie_hold() {
    let origin = application();
    let weir = Weir::with(&with_vault(&origin, "", "{DIR}/data", ""));
    let mut browser = Browser::new();
    let lines = "csrf-deep=1; Path=/deep/er | csrf-top=1; Path=/ | csrf-here=1 | csrf-foreign=1; Domain=example.com | \
                 csrf-short=1; Max-Age=1; Path=/ | csrf-past=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    browser.ask(&weir, "GET", "/deep/page", &[("X-Set", lines)], b"");
    let mut at = |target: &str| browser.get(&weir, target).text();
    eventually("the short one has ended", || at("/") == "csrf-top=1");
    assert_eq!(at("/deep"), "csrf-here=1; csrf-top=1", "the default path is that of the request");
    assert_eq!(at("/deep/er/x"), "csrf-deep=1; csrf-here=1; csrf-top=1", "longer paths first");
    assert_eq!(at("/deeper"), "csrf-top=1");
    // Another host on the same machine has other cookies.
    let request = format!(
        "GET /deep HTTP/1.1\r\nHost: other.localhost\r\nCookie: __Host-vault={}\r\n\r\n",
        browser.value("__Host-vault").unwrap()
    );
    let mut client = weir.client();
    client.send(request);
    assert_eq!(client.expect_response("GET").text(), "none");
}

#[test]
fn cookies_without_a_date_end_with_the_browser_and_the_others_do_not() {
    let origin = application();
    let weir = Weir::with(&with_vault(&origin, "", "{DIR}/data", ""));
    let mut browser = Browser::new();
    set(&mut browser, &weir, "csrftoken=c1; Max-Age=31449600; Path=/ | sessionid=s1; HttpOnly; Path=/");
    assert_eq!(browser.names(), ["__Host-vault", "__Host-vault-kept"]);
    assert!(!browser.line("__Host-vault").contains("Max-Age"), "{}", browser.line("__Host-vault"));
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c1; sessionid=s1");
    let mut closed = browser.clone();
    closed.reopen();
    assert_eq!(seen(&mut closed, &weir), "csrftoken=c1");
    // A cookie that gets a date moves, and one that loses it moves back.
    set(&mut browser, &weir, "sessionid=s1; Max-Age=60; Path=/");
    assert_eq!(browser.names(), ["__Host-vault-kept"], "nothing is left in the other");
    browser.reopen();
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c1; sessionid=s1");
    set(&mut browser, &weir, "csrftoken=c1; Path=/ | sessionid=s1; Path=/");
    assert_eq!(browser.names(), ["__Host-vault"]);
}

#[test]
fn who_logs_in_gets_a_new_handle_and_the_old_one_is_worth_what_it_was() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = with_vault(&origin, &redis.url(), "{DIR}/data", "");
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut browser = Browser::new();
    set(&mut browser, &proxies[0], "csrftoken=c1; Max-Age=31449600; Path=/");
    let mut planted = browser.clone();
    set(&mut browser, &proxies[0], LOGIN);
    assert_ne!(browser.value("__Host-vault-kept"), planted.value("__Host-vault-kept"));
    assert_eq!(seen(&mut browser, &proxies[1]), "csrftoken=c1; sessionid=s1");
    assert_eq!(
        seen(&mut planted, &proxies[1]),
        "csrftoken=c1",
        "nothing leads from the old handle to the new one"
    );
    // A request that was under way with the old handle does not bring it back to the browser.
    set(&mut planted, &proxies[0], "csrftoken=c9; Max-Age=31449600; Path=/");
    assert_eq!(seen(&mut browser, &proxies[1]), "csrftoken=c1; sessionid=s1");
    // The same value again is no login; a new one is.
    let handle = browser.value("__Host-vault-kept").unwrap().to_owned();
    set(&mut browser, &proxies[1], "sessionid=s1; Max-Age=1209600; Path=/; HttpOnly");
    assert_eq!(browser.value("__Host-vault-kept"), Some(handle.as_str()));
    set(&mut browser, &proxies[1], "sessionid=s2; Max-Age=1209600; Path=/; HttpOnly");
    assert_ne!(browser.value("__Host-vault-kept"), Some(handle.as_str()));
    assert_eq!(seen(&mut browser, &proxies[0]), "csrftoken=c1; sessionid=s2");
}

#[test]
fn who_logs_out_leaves_nothing() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = with_vault(&origin, &redis.url(), "{DIR}/data", "");
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut browser = Browser::new();
    set(&mut browser, &proxies[0], LOGIN);
    let mut stolen = browser.clone();
    set(&mut browser, &proxies[0], "sessionid=\"\"; Max-Age=0; Path=/");
    assert_eq!(seen(&mut browser, &proxies[1]), "csrftoken=c1", "one of them");
    set(&mut browser, &proxies[0], LOGOUT);
    assert!(browser.names().is_empty(), "{:?}", browser.names());
    for weir in &proxies {
        assert_eq!(seen(&mut stolen, weir), "none");
    }
    for key in redis.keys().iter().filter(|key| key.starts_with("weir-session:s:")) {
        assert_eq!(redis.says(&["HEXISTS", key, "_d"]), "1", "{key} is a mark, and no more");
    }
}

#[test]
fn what_is_set_late_does_not_bring_back_who_has_logged_out() {
    let redis = RedisServer::start();
    // Once the jar is gone with the logout, and once it stays for another cookie.
    for rest in ["", "csrftoken=c1"] {
        let gate = Gate::new();
        let origin = application_that_waits(gate.clone());
        let text = with_vault(&origin, &redis.url(), "{DIR}/data", "");
        let proxies = [Weir::with(&text), Weir::with(&text)];
        proxies.iter().for_each(connected);
        let mut browser = Browser::new();
        set(&mut browser, &proxies[0], LOGIN);
        let mut late = proxies[0].client();
        let fields = [("X-Set", "sessionid=s1; Max-Age=1209600; Path=/; HttpOnly")];
        late.send(browser.request("GET", "/slow", &fields, b""));
        eventually("it is under way", || origin.count_of("/slow") == 1);
        set(
            &mut browser,
            &proxies[1],
            if rest.is_empty() { LOGOUT } else { "sessionid=; Max-Age=0; Path=/" },
        );
        gate.open();
        browser.take(&mut late, "GET");
        let expected = if rest.is_empty() { "none" } else { rest };
        assert_eq!(seen(&mut browser, &proxies[1]), expected);
    }
}

#[test]
fn the_vault_survives_redis_weir_and_both() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let text = with_vault(&origin, &redis.url(), &folder.path().display().to_string(), "")
        .replace("redis_budget = \"10s\"", "redis_budget = \"200ms\"");
    let weir = Weir::with(&text);
    connected(&weir);
    let mut browser = Browser::new();
    set(&mut browser, &weir, LOGIN);
    redis.ask(&["FLUSHALL"]);
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c1; sessionid=s1", "FLUSHALL");
    redis.freeze();
    set(&mut browser, &weir, "csrftoken=c2; Max-Age=31449600; Path=/");
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c2; sessionid=s1", "frozen");
    redis.thaw();
    redis.kill();
    set(&mut browser, &weir, "sessionid=s2; Max-Age=1209600; Path=/; HttpOnly");
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c2; sessionid=s2", "a login without Redis");
    redis.restart();
    connected(&weir);
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c2; sessionid=s2", "Redis is back, and empty");
    drop(weir);
    redis.ask(&["FLUSHALL"]);
    let weir = Weir::with(&text);
    assert_eq!(seen(&mut browser, &weir), "csrftoken=c2; sessionid=s2", "all three");
}

#[test]
fn trouble_is_no_logout_and_no_stranger() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let weir = Weir::with(&with_vault(&origin, &redis.url(), "", ""));
    connected(&weir);
    let mut browser = Browser::new();
    set(&mut browser, &weir, LOGIN);
    redis.kill();
    let before = origin.count();
    let unknown = browser.get(&weir, "/");
    assert_eq!((unknown.status, unknown.header("retry-after")), (503, Some("1")));
    assert_eq!(origin.count(), before, "the application is not asked as if nobody were logged in");
    assert_eq!(browser.names(), ["__Host-vault-kept"]);
    assert_eq!(Browser::new().get(&weir, "/").status, 200, "who has no cookie in the vault is served");
}

#[test]
fn nothing_that_depends_on_the_vault_comes_out_of_the_cache() {
    let origin = application();
    let weir = Weir::with(&with_vault(&origin, "", "{DIR}/data", ""));
    let mut browser = Browser::new();
    set(&mut browser, &weir, LOGIN);
    let anyone = |target: &str| Browser::new().get(&weir, target);
    // What the application says is for all is shared with all.
    anyone("/public");
    assert!(browser.get(&weir, "/public").is_hit());
    // What it makes of cookies is not stored: a later request looks the same when the cookies behind it are others.
    for _ in 0..2 {
        let own = browser.get(&weir, "/varied");
        assert!(!own.is_hit() && own.text() == "csrftoken=c1; sessionid=s1", "{}", own.cache_status());
    }
    assert_eq!(anyone("/varied").text(), "none");
    assert!(anyone("/varied").is_hit());
    set(&mut browser, &weir, "sessionid=; Max-Age=0; Path=/");
    assert_eq!(browser.get(&weir, "/varied").text(), "csrftoken=c1");
    // An answer that sets one is not stored, whatever it says.
    let fresh = Browser::new().ask(&weir, "GET", "/public?fresh", &[("X-Set", LOGIN)], b"");
    assert!(fresh.cache_status().contains("set-cookie"), "{}", fresh.cache_status());
    let again = anyone("/public?fresh");
    assert!(!again.is_hit() && !again.headers.has("set-cookie"));
}

#[test]
fn what_two_answers_set_at_once_is_all_kept() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = with_vault(&origin, &redis.url(), "{DIR}/data", "");
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut browser = Browser::new();
    set(&mut browser, &proxies[0], "csrf=0; Path=/");
    let mut clients: Vec<_> = (0..20).map(|n| proxies[n % 2].client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(browser.request("GET", "/", &[("X-Set", &format!("csrf{n}={n}; Path=/"))], b""));
    }
    for client in &mut clients {
        assert_eq!(browser.take(client, "GET").status, 200);
    }
    let all = seen(&mut browser, &proxies[1]);
    for n in 0..20 {
        assert!(all.split("; ").any(|pair| pair == format!("csrf{n}={n}")), "csrf{n} is lost: {all}");
    }
}

#[test]
fn what_cannot_work_is_told_before_the_start() {
    let wrong = |text: &str| {
        let (status, printed) = harness::weir::check(text);
        assert!(!status.success(), "{printed}");
        printed
    };
    let route = "[[route]]\norigin = \"http://127.0.0.1:1\"\n";
    let without = wrong(&format!("{VAULT}{route}"));
    assert!(without.contains("there is no place to keep cookies in"), "{without}");
    let open = wrong(&format!("{VAULT}[data]\npath = \"{{DIR}}/data\"\n[session]\n{route}"));
    assert!(open.contains("no key to seal them with"), "{open}");
    let keyed = wrong(&format!(
        "{VAULT}[data]\npath = \"data\"\n[session]\nkeys = [\"x\"]\n{route}cache = {{ cookies = [\"sessionid\"] }}\n"
    ));
    assert!(keyed.contains("`sessionid` is in the vault, and cannot be part of a key"), "{keyed}");
    let prefix = wrong(&format!("[[cookie]]\nname = \"sid\"\nprefix = \"__Host-\"\nsecure = false\n{route}"));
    assert!(prefix.contains("browsers take a `__Host-` cookie only if it is secure"), "{prefix}");
    let nameless = wrong(&format!("[[cookie]]\nhttp_only = true\n{route}"));
    assert!(nameless.contains("does not say which cookies"), "{nameless}");
}
