//! Purges of several proxies that share a Redis. No test waits for time to pass: a receipt says when it is so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Origin, RedisServer, Reply, Weir, eventually};

fn counting(tags: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(number.to_string()).header("Cache-Control", "max-age=600").header("Surrogate-Key", tags)
    })
}

fn proxy(redis: &str, origin: &Origin, rest: &str) -> Weir {
    let weir = Weir::with(&format!(
        "[redis.main]\nurl = \"{redis}\"\n[cache.default]\nredis = \"main\"\nprefix = \"test\"\n{rest}\n\
         [[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    eventually("a log that is trusted", || state(&weir) == "open");
    weir
}

fn state(weir: &Weir) -> String {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["purges"]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn after_a_purge_that_waits_for_all_no_proxy_serves_what_was_purged() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let (one, two) = (proxy(&redis.url(), &origin, ""), proxy(&redis.url(), &origin, ""));
    eventually("both to know of each other", || {
        let text = one.admin("GET", "/status").text() + &two.admin("GET", "/status").text();
        text.matches("\"proxies\":2").count() == 2
    });
    for round in 0..50 {
        let before: u64 = [one.get("/page").text(), two.get("/page").text()]
            .iter()
            .map(|t| t.parse().unwrap())
            .max()
            .unwrap();
        let (issuer, other) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let receipt = issuer.admin("POST", "/purge?tag=page&wait=all");
        assert_eq!(receipt.status, 200, "{}", receipt.text());
        assert!(!receipt.text().contains("\"applied_by\":[]"), "{}", receipt.text());
        let after: u64 = other.get("/page").text().parse().unwrap();
        assert!(after > before, "round {round}: {after} was fetched before the purge, as {before} was");
    }
}

#[test]
fn a_thousand_purges_while_connections_are_killed_are_lost_by_nobody() {
    let (redis, origin) = (RedisServer::start(), counting(""));
    let (one, two) = (proxy(&redis.url(), &origin, ""), proxy(&redis.url(), &origin, ""));
    let paths: Vec<String> = (0..100).map(|number| format!("/page/{number}")).collect();
    let done = Arc::new(AtomicBool::new(false));
    let killer = {
        let (mut client, done) = (redis.client(), done.clone());
        std::thread::spawn(move || {
            let mut killed = 0;
            while !done.load(Ordering::SeqCst) {
                let normal: [&[u8]; 6] = [b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"];
                killed += usize::from(client.ask(&normal).is_ok());
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            killed
        })
    };
    let mut admin = harness::Conn::connect(one.admin_address());
    let host = one.admin_address().to_string();
    for round in 0..10 {
        let stored: Vec<u64> = paths.iter().map(|path| two.get(path).text().parse().unwrap()).collect();
        for path in &paths {
            // Ten times a hundred, each by its own receipt.
            let target = format!("/purge?prefix={path}");
            let receipt = admin.ask("POST", &target, &[("Host", &host), ("Weir-Admin", "1")], b"");
            assert!(matches!(receipt.status, 200 | 202), "{}", receipt.text());
        }
        eventually("all of them to have reached the other", || {
            let receipt = one.admin("POST", "/purge?tag=nothing&wait=all");
            receipt.status == 200
        });
        for (path, before) in paths.iter().zip(stored) {
            let after: u64 = two.get(path).text().parse().unwrap();
            assert!(after > before, "round {round}: {path} was not purged at the other proxy");
        }
    }
    done.store(true, Ordering::SeqCst);
    assert!(killer.join().unwrap() > 0);
}

#[test]
fn what_was_purged_without_redis_is_heard_by_all_when_it_is_back() {
    let redis = RedisServer::start();
    let origin = counting("page");
    let (one, two) = (proxy(&redis.url(), &origin, ""), proxy(&redis.url(), &origin, ""));
    let before: u64 = two.get("/page").text().parse().unwrap();
    redis.freeze();
    let receipt = one.admin("POST", "/purge?tag=page");
    assert_eq!(receipt.status, 202, "{}", receipt.text());
    assert!(receipt.text().contains("\"replicated\":false"), "{}", receipt.text());
    redis.thaw();
    eventually("the purge at the other proxy", || two.get("/page").text().parse::<u64>().unwrap() > before);
}

#[test]
fn a_purge_survives_a_proxy_that_is_killed() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let folder = tempfile::tempdir().unwrap();
    let data = format!("[data]\npath = \"{}\"\n", folder.path().display());
    let other = proxy(&redis.url(), &origin, "");
    let before: u64 = other.get("/page").text().parse().unwrap();
    {
        let one = proxy(&redis.url(), &origin, &data);
        redis.freeze();
        let receipt = one.admin("POST", "/purge?tag=page");
        assert_eq!(receipt.status, 202, "{}", receipt.text());
        assert!(receipt.text().contains("\"journaled\":true"), "{}", receipt.text());
        // Dropped, it is killed.
    }
    redis.thaw();
    let _again = proxy(&redis.url(), &origin, &data);
    eventually("the purge at the other proxy", || other.get("/page").text().parse::<u64>().unwrap() > before);
}
