//! A primary with replicas that are read: values come from them, and what was purged does not, however far behind they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Origin, RedisServer, Reply, Weir, eventually};

/// Says of each path how often it was asked for it.
fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(number.to_string()).header("Cache-Control", "max-age=600")
    })
}

fn follows(replica: &RedisServer) -> bool {
    replica.says(&["INFO", "replication"]).contains("master_link_status:up")
}

struct Place {
    primary: RedisServer,
    replica: RedisServer,
    origin: Origin,
}

impl Place {
    fn new() -> Place {
        let primary = RedisServer::start();
        let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
        eventually("the replica follows", || follows(&replica));
        Place { primary, replica, origin: counting() }
    }

    /// A proxy that reads the replica, and holds nothing back.
    fn proxy(&self) -> Weir {
        let weir = Weir::with(&format!(
            "[redis.main]\nurl = \"{},{}\"\nhealth_interval = \"100ms\"\nread_budget = \"5s\"\nwrite_budget = \"5s\"\n\
             [cache.default]\nredis = \"main\"\nprefix = \"test\"\n[[route]]\norigin = \"{}\"\n",
            self.primary.url(),
            self.replica.url(),
            self.origin.url()
        ));
        // In the first second of a connection only some keys are asked for; the replica's is as old as the primary's, or younger.
        eventually("it is used, and the replica is read", || {
            let status: serde_json::Value =
                serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
            let is_settled = weir.metric("redis_connected_seconds", &["main"]) > 1.5;
            is_settled && status["purges"]["state"] == "open" && read(&weir) == 1.0
        });
        weir
    }

    /// Has a page stored, and waits until the replica has it.
    fn store(&self, weir: &Weir, target: &str) -> String {
        let written = tier(weir, "written");
        let text = weir.get(target).text();
        eventually("it is written", || tier(weir, "written") > written);
        eventually("the replica has all of it", || self.replica.keys() == self.primary.keys());
        text
    }
}

fn read(weir: &Weir) -> f64 {
    weir.metric("redis_replicas_read", &["main"])
}

fn tier(weir: &Weir, outcome: &str) -> f64 {
    weir.metric("cache_redis_total", &[outcome])
}

/// Asks for pages until one that this proxy has not in memory comes from a replica: the ramp of its connection is over.
fn settle(place: &Place, writer: &Weir, reader: &Weir) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    eventually("values come from the replica", || {
        let before = tier(reader, "replica");
        let target = format!("/settle-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        place.store(writer, &target);
        reader.get(&target);
        tier(reader, "replica") > before
    });
}

#[test]
fn values_are_read_from_a_replica_and_the_log_from_the_primary() {
    let place = Place::new();
    let (one, other) = (place.proxy(), place.proxy());
    settle(&place, &one, &other);
    let text = place.store(&one, "/page");
    let found = other.get("/page");
    assert_eq!(found.text(), text);
    assert!(found.is_hit() && found.cache_status().contains("detail=redis"), "{}", found.cache_status());
    let asked = place.replica.ask(&["INFO", "commandstats"]).text();
    assert!(asked.contains("cmdstat_get:"), "{asked}");
    for of_the_log in ["cmdstat_xread:", "cmdstat_xrevrange:", "cmdstat_xinfo"] {
        assert!(!asked.contains(of_the_log), "{asked}");
    }
    assert!(place.primary.ask(&["INFO", "commandstats"]).text().contains("cmdstat_xrevrange:"));
    let before: u64 = text.parse().unwrap();
    assert_eq!(one.admin("POST", "/purge?everything=true&wait=all").status, 200);
    assert!(other.get("/page").text().parse::<u64>().unwrap() > before);
}

#[test]
fn what_a_replica_still_has_after_a_purge_is_not_served() {
    let place = Place::new();
    let (one, other) = (place.proxy(), place.proxy());
    settle(&place, &one, &other);
    let old: u64 = place.store(&one, "/page").parse().unwrap();
    let kept = place.store(&one, "/kept");
    // It follows nobody from now on, and serves what it has.
    assert_eq!(place.replica.ask(&["REPLICAOF", "127.0.0.1", "1"]).text(), "OK");
    let receipt = one.admin("POST", "/purge?prefix=/page");
    assert_eq!(receipt.status, 200, "{}", receipt.text());
    let hits = tier(&other, "replica");
    let new: u64 = other.get("/page").text().parse().unwrap();
    assert!(new > old, "{new} is what the replica had");
    assert!(tier(&other, "purged") >= 1.0);
    let found = other.get("/kept");
    assert_eq!(found.text(), kept, "what was not purged is");
    assert_eq!(tier(&other, "replica"), hits + 1.0);
    // Who comes next finds at the primary what the replica will have some day.
    eventually("it is written", || tier(&other, "written") >= 1.0);
    assert_eq!(one.get("/page").text().parse::<u64>().unwrap(), new);
    assert_eq!(place.origin.count_of("/page"), 2);
}

#[test]
fn a_replica_that_dies_or_is_silent_costs_no_hit_and_is_read_again_when_it_is_back() {
    let mut place = Place::new();
    let (one, other) = (place.proxy(), place.proxy());
    settle(&place, &one, &other);
    for number in 0..40 {
        place.store(&one, &format!("/page-{number}"));
    }
    place.replica.kill();
    for number in 0..20 {
        let found = other.get(&format!("/page-{number}"));
        assert!(found.is_hit() && found.cache_status().contains("detail=redis"), "{}", found.cache_status());
    }
    eventually("it is not read any more", || read(&other) == 0.0);
    let status = other.admin("GET", "/status").text();
    assert!(status.contains("\"read\":false") && status.contains("\"connected\":true"), "{status}");
    place.replica.restart();
    eventually("it follows again", || follows(&place.replica));
    eventually("it is read again", || read(&other) == 1.0);
    settle(&place, &one, &other);
    place.replica.freeze();
    for number in 20..23 {
        // Half of the budget for the replica, the rest for the primary.
        let found = other.get(&format!("/page-{number}"));
        assert!(found.is_hit() && found.cache_status().contains("detail=redis"), "{}", found.cache_status());
    }
    place.replica.thaw();
    assert_eq!(place.origin.count_of("/page-21"), 1);
}

#[test]
fn a_server_that_is_no_replica_of_the_primary_is_not_read() {
    let (primary, stranger) = (RedisServer::start(), RedisServer::start());
    let origin = counting();
    let weir = Weir::with(&format!(
        "[redis.main]\nurl = \"{},{}\"\nhealth_interval = \"100ms\"\n[cache.default]\nredis = \"main\"\nprefix = \"test\"\n\
         [[route]]\norigin = \"{}\"\n",
        primary.url(),
        stranger.url(),
        origin.url()
    ));
    let status = || weir.admin("GET", "/status").text();
    eventually("it is known for what it is", || status().contains("it is no replica"));
    assert_eq!(read(&weir), 0.0);
    let mut number = 0;
    eventually("the primary is used", || {
        number += 1;
        weir.get(&format!("/page-{number}"));
        tier(&weir, "written") >= 1.0
    });
    assert!(stranger.keys().is_empty());
}
