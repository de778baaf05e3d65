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
        // What is behind it in the log has reached the other, if that was waited for: who is cut off for long is not, and serves what it holds.
        eventually("all of them to have reached the other", || {
            one.metric("purges_unpublished", &[]) == 0.0 && {
                let receipt = one.admin("POST", "/purge?tag=nothing&wait=all");
                receipt.status == 200 && !receipt.text().contains("\"applied_by\":[]")
            }
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

#[test]
fn a_proxy_that_stops_is_waited_for_by_nobody() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let one = proxy(&redis.url(), &origin, "");
    let mut two = proxy(&redis.url(), &origin, "");
    let registered = || redis.ask(&["HLEN", "{test}:inst"]).text();
    assert_eq!(registered(), "2");
    two.terminate();
    assert!(two.wait(harness::WAIT).success());
    assert_eq!(registered(), "1", "it has said that it goes");
    let receipt = one.admin("POST", "/purge?tag=page&wait=all");
    assert!(receipt.status == 200 && receipt.text().contains("\"applied_by\":[]"), "{}", receipt.text());
}

#[test]
fn a_purge_can_wait_for_a_replica_of_redis() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let weir = proxy(&redis.url(), &origin, "");
    let alone = weir.admin("POST", "/purge?tag=page&wait=replica");
    assert!(alone.status == 202 && alone.text().contains("\"replicas\":0"), "{}", alone.text());
    let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", redis.port())]);
    eventually("the replica follows", || {
        replica.says(&["INFO", "replication"]).contains("master_link_status:up")
    });
    eventually("a purge that a replica has", || {
        let receipt = weir.admin("POST", "/purge?tag=page&wait=replica");
        receipt.status == 200 && receipt.text().contains("\"replicas\":1")
    });
    assert_eq!(replica.ask(&["XLEN", "{test}:inv"]).text(), redis.ask(&["XLEN", "{test}:inv"]).text());
}

#[test]
fn a_cut_off_proxy_serves_what_it_holds_or_asks_first_as_the_route_says() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let weir = Weir::with(&format!(
        "[redis.main]\nurl = \"{}\"\n[cache.default]\nredis = \"main\"\nprefix = \"test\"\n\
         [[route]]\nmatch = {{ path = \"/strict\" }}\norigin = \"{}\"\ncache = {{ unverified = \"strict\" }}\n\
         [[route]]\norigin = \"{}\"\n",
        redis.url(),
        origin.url(),
        origin.url()
    ));
    eventually("a log that is trusted", || state(&weir) == "open");
    let (strict, available) = (weir.get("/strict").text(), weir.get("/page").text());
    assert!(weir.get("/strict").is_hit() && weir.get("/page").is_hit());
    assert_eq!(weir.metric("cache_unverified_hits_total", &[]), 0.0);
    redis.freeze();
    eventually("the lease runs out", || !weir.admin("GET", "/status").text().contains("\"verified\":true"));
    let asked = weir.get("/strict");
    assert!(
        !asked.is_hit() && asked.cache_status().contains("detail=unverified"),
        "{}",
        asked.cache_status()
    );
    assert_ne!(asked.text(), strict, "the origin was asked");
    assert!(weir.get("/page").is_hit());
    assert_eq!(weir.get("/page").text(), available);
    assert_eq!(weir.metric("cache_unverified_hits_total", &[]), 2.0);
    redis.thaw();
    eventually("what it holds is verified again", || weir.get("/strict").is_hit());
}

/// A proxy of an epoch.
fn of_epoch(redis: &str, origin: &Origin, epoch: &str, grace: &str) -> Weir {
    proxy(redis, origin, &format!("epoch = \"{epoch}\"\nepoch_grace = \"{grace}\""))
}

#[test]
fn another_epoch_makes_stale_what_was_stored() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let written = |weir: &Weir| weir.metric("cache_redis_total", &["written"]);
    let first = of_epoch(&redis.url(), &origin, "one", "0s");
    // The first second of a connection is one in which only some keys are asked for.
    let settled = |weir: &Weir| weir.metric("redis_connected_seconds", &["main"]) > 1.1;
    eventually("it is asked for all keys", || settled(&first));
    for path in ["/page", "/other", "/third"] {
        first.get(path);
    }
    eventually("all of it is in Redis", || written(&first) >= 3.0);
    drop(first);

    let second = of_epoch(&redis.url(), &origin, "two", "0s");
    eventually("it is asked for all keys", || settled(&second));
    let answer = second.get("/page");
    assert!(!answer.is_hit(), "without a grace nothing of it is served: {}", answer.cache_status());
    drop(second);

    let third = of_epoch(&redis.url(), &origin, "three", "1h");
    eventually("it is asked for all keys", || settled(&third));
    let stale = third.get("/other");
    let is_stale = |answer: &harness::Response| answer.cache_status().contains("stale-while-revalidate");
    assert!(stale.is_hit() && is_stale(&stale), "{}", stale.cache_status());
    eventually("it is fetched anew behind the answer", || {
        let answer = third.get("/other");
        answer.is_hit() && !is_stale(&answer)
    });
    // What is stored under an epoch can be named by it.
    let before = third.get("/other").text();
    assert_eq!(third.admin("POST", "/purge?epoch=two").status, 200);
    assert_eq!(third.get("/other").text(), before, "that is another one");
    assert_eq!(third.admin("POST", "/purge?epoch=three").status, 200);
    assert_ne!(third.get("/other").text(), before);
}

#[test]
fn the_grace_of_an_epoch_counts_from_the_first_proxy_that_began_with_it() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let url = redis.url();
    let settled = |weir: &Weir| weir.metric("redis_connected_seconds", &["main"]) > 1.1;
    let first = of_epoch(&url, &origin, "one", "1h");
    eventually("it is asked for all keys", || settled(&first));
    for path in ["/page", "/other"] {
        first.get(path);
    }
    eventually("all of it is in Redis", || first.metric("cache_redis_total", &["written"]) >= 2.0);
    let known = || {
        let keys = redis.keys();
        keys.into_iter().filter(|key| key.starts_with("{test}:epoch:")).collect::<Vec<_>>()
    };
    let of_first = known();
    assert_eq!(of_first.len(), 1, "it has told that it began");

    let second = of_epoch(&url, &origin, "two", "1h");
    eventually("it is asked for all keys", || settled(&second));
    let stale = second.get("/page");
    assert!(
        stale.is_hit() && stale.cache_status().contains("stale-while-revalidate"),
        "{}",
        stale.cache_status()
    );
    let of_second: Vec<String> = known().into_iter().filter(|key| !of_first.contains(key)).collect();
    assert_eq!(of_second.len(), 1);
    // As if it had begun two hours ago.
    let began: u64 = redis.ask(&["GET", &of_second[0]]).text().parse().unwrap();
    redis.ask(&["SET", &of_second[0], &(began - 7_200_000).to_string()]);

    let third = of_epoch(&url, &origin, "two", "1h");
    eventually("it is asked for all keys", || settled(&third));
    let answer = third.get("/other");
    assert!(!answer.is_hit(), "the grace was over before this one began: {}", answer.cache_status());
    // A Redis that forgot it is told again, and knows no less than before.
    redis.ask(&["DEL", &of_second[0]]);
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("it is told", || {
        redis.ask(&["GET", &of_second[0]]).text().parse::<u64>().is_ok_and(|told| told < began - 7_100_000)
    });
}

#[test]
fn a_version_that_was_purged_is_not_gone_back_to() {
    let (redis, origin) = (RedisServer::start(), counting("page"));
    let settled = |weir: &Weir| weir.metric("redis_connected_seconds", &["main"]) > 1.1;
    let of_version = |number: u32| {
        let weir = proxy(&redis.url(), &origin, &format!("version = {number}"));
        eventually("it is asked for all keys", || settled(&weir));
        weir
    };
    let old = of_version(1);
    let (page, other) = (old.get("/page").text(), old.get("/other").text());
    eventually("both are in Redis", || old.metric("cache_redis_total", &["written"]) >= 2.0);
    drop(old);
    let new = of_version(2);
    assert!(!new.get("/page").is_hit(), "another version has nothing of it");
    drop(new);
    let back = of_version(1);
    let found = back.get("/page");
    assert!(
        found.is_hit() && found.text() == page,
        "what was not purged is there again: {}",
        found.cache_status()
    );
    assert_eq!(back.admin("POST", "/purge?version=default:2").status, 200);
    assert!(back.get("/page").is_hit());
    assert_eq!(back.admin("POST", "/purge?version=default:1").status, 200);
    assert_ne!(back.get("/page").text(), page);
    assert_ne!(back.get("/other").text(), other, "in Redis too");
}
