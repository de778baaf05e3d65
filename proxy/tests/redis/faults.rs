//! Servers that refuse, fall silent, die, load, run full.

use harness::{RedisServer, eventually};
use weir::redis::RedisError;
use weir::redis::error::Skip;

use crate::support::{BUDGET, Connected};

#[test]
fn nobody_waits_for_a_server_that_is_not_there_and_it_is_used_once_it_is() {
    let mut server = RedisServer::start();
    server.kill();
    let connected = Connected::to(&server.url());
    assert_eq!(connected.redis.link().unwrap_err(), RedisError::Skipped(Skip::Down));
    eventually("it is told why", || connected.redis.status().trouble.is_some());
    server.restart();
    eventually("it is used", || connected.works());
    assert_eq!(connected.redis.status().trouble, None);
}

#[test]
fn a_server_that_dies_is_given_up_at_once_and_used_again_when_it_is_back() {
    let mut server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let link = connected.link();
    server.kill();
    eventually("the link is given up", || !link.is_alive());
    assert_eq!(connected.redis.link().unwrap_err(), RedisError::Skipped(Skip::Down));
    server.restart();
    let next = connected.link_after(link.number());
    assert!(next.number() > link.number());
    eventually("it is used", || connected.works());
}

#[test]
fn a_server_that_falls_silent_costs_a_few_budgets_and_then_nothing() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let link = connected.link();
    server.freeze();
    let mut late = 0;
    while link.is_alive() {
        let answer = connected.run(link.fetch(b"test:key", std::time::Duration::from_millis(25)));
        assert!(answer.is_err(), "nobody answers");
        late += u32::from(matches!(answer, Err(RedisError::TimedOut { .. })));
    }
    assert!(late <= weir::redis::breaker::SLOW_IN_A_ROW, "{late} requests paid for it");
    assert_eq!(connected.redis.link().unwrap_err(), RedisError::Skipped(Skip::Down));
    server.thaw();
    eventually("it is used again", || connected.works());
    assert!(connected.link().number() > link.number(), "with other connections");
}

#[test]
fn a_wrong_password_is_told_without_showing_it_and_mended_without_a_restart() {
    let mut server = RedisServer::with(&["--requirepass", "right"]);
    server.knows_password("right");
    let url = server.url().replace("redis://", "redis://:wrong-secret@");
    let connected = Connected::to(&url);
    eventually("it is told", || connected.redis.status().trouble.is_some());
    let trouble = connected.redis.status().trouble.unwrap();
    assert!(trouble.contains("does not let us in") && !trouble.contains("wrong-secret"), "{trouble}");
    assert_eq!(server.ask(&["CONFIG", "SET", "requirepass", "wrong-secret"]).text(), "OK");
    server.knows_password("wrong-secret");
    eventually("it is used", || connected.works());
    // And a password that changes while connected is noticed by whatever is refused.
    let link = connected.link();
    assert_eq!(server.ask(&["CONFIG", "SET", "requirepass", "another"]).text(), "OK");
    server.knows_password("another");
    assert_eq!(server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).text(), "2");
    eventually("the link is given up", || !link.is_alive());
    eventually("it is told", || {
        connected.redis.status().trouble.is_some_and(|trouble| trouble.contains("does not let us in"))
    });
}

#[test]
fn a_server_that_is_full_is_read_and_not_written() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let link = connected.link();
    assert_eq!(server.ask(&["CONFIG", "SET", "maxmemory", "1"]).text(), "OK");
    let ttl = std::time::Duration::from_secs(60);
    let full = connected.run(link.put(b"test:other", b"value", ttl, BUDGET));
    assert_eq!(full, Err(RedisError::NoWrites { code: "OOM".into() }));
    let skipped = connected.run(link.put(b"test:other", b"value", ttl, BUDGET));
    assert_eq!(skipped, Err(RedisError::Skipped(Skip::Writes)));
    assert_eq!(connected.run(link.fetch(b"test:key", BUDGET)).unwrap().unwrap(), "value");
    assert!(!connected.redis.status().writable);
    assert_eq!(server.ask(&["CONFIG", "SET", "maxmemory", "0"]).text(), "OK");
    eventually("it is written again", || connected.works());
    assert!(connected.redis.status().writable && link.is_alive());
}

#[test]
fn a_primary_that_becomes_a_replica_is_read_and_not_written() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let link = connected.link();
    assert_eq!(server.ask(&["REPLICAOF", "127.0.0.1", "1"]).text(), "OK");
    let next = connected.link_after(link.number());
    assert!(!next.is_writable());
    eventually("it is read", || {
        connected.run(next.fetch(b"test:key", BUDGET)).is_ok_and(|value| value.unwrap() == "value")
    });
    assert_eq!(server.ask(&["REPLICAOF", "NO", "ONE"]).text(), "OK");
    assert!(connected.link_after(next.number()).is_writable());
    eventually("it is used", || connected.works());
}

#[test]
fn a_server_that_cannot_serve_yet_is_not_used_until_it_can() {
    let server = RedisServer::with(&["--replica-serve-stale-data", "no"]);
    assert_eq!(server.ask(&["REPLICAOF", "127.0.0.1", "1"]).text(), "OK");
    let connected = Connected::to(&server.url());
    let link = connected.link();
    let answer = connected.run(link.head(b"test:log"));
    assert_eq!(answer, Err(RedisError::NotReady { code: "MASTERDOWN".into() }));
    assert!(!link.is_alive());
    assert_eq!(server.ask(&["REPLICAOF", "NO", "ONE"]).text(), "OK");
    eventually("it is used", || connected.works());
}

#[test]
fn a_server_that_loads_is_waited_for_by_nobody() {
    let mut server = RedisServer::with(&[
        "--rdbcompression",
        "no",
        "--key-load-delay",
        "300",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    assert_eq!(server.ask(&["DEBUG", "POPULATE", "5000", "filler", "100"]).text(), "OK");
    assert_eq!(server.ask(&["SAVE"]).text(), "OK");
    server.restart();
    let connected = Connected::to(&server.url());
    eventually("it is told", || {
        let status = connected.redis.status();
        status.connected || status.trouble.is_some_and(|trouble| trouble.contains("LOADING"))
    });
    eventually("it is used", || connected.works());
}
