//! Workers' own connections.

use std::sync::Arc;
use std::time::Duration;

use harness::{RedisServer, eventually};
use tokio::runtime::Runtime;
use weir::redis::{AddAt, Link, RedisError, StreamId, Trim};

use crate::support::{BUDGET, Connected};

/// A worker's loop: whatever it is to do, it does on this thread.
fn worker() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn connections(server: &RedisServer) -> usize {
    // The one that asks is none of ours.
    server.ask(&["CLIENT", "LIST"]).text().lines().count() - 1
}

/// Asks until the worker has a connection of its own.
fn settle(worker: &Runtime, link: &Arc<Link>, server: &RedisServer, expected: usize) {
    eventually("the worker has a connection of its own", || {
        let _ = worker.block_on(link.fetch(b"p:any", BUDGET));
        connections(server) == expected
    });
}

#[test]
fn what_many_ask_at_once_is_answered_to_each_with_a_head_that_is_not_older() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let (link, worker) = (connected.link(), worker());
    settle(&worker, &link, &server, 3);
    let log: Arc<[u8]> = Arc::from(&b"{p}:inv"[..]);
    worker.block_on(async {
        let ttl = Duration::from_secs(60);
        for number in 0..200_u32 {
            // Some larger than what is read at once.
            let value = number.to_string().repeat(if number % 7 == 0 { 20_000 } else { 3 });
            link.put(format!("p:{number}").as_bytes(), value.as_bytes(), ttl, BUDGET).await.unwrap();
        }
        let mut newest = StreamId::ZERO;
        for _ in 0..20 {
            let asked: Vec<_> = (0..220_u32)
                .map(|number| {
                    let (link, log) = (link.clone(), log.clone());
                    tokio::spawn(async move {
                        let key = format!("p:{number}");
                        if number % 11 == 0 {
                            return (number, link.fetch(key.as_bytes(), BUDGET).await.unwrap(), None);
                        }
                        let (value, head) = link.fetch_with_head(key.as_bytes(), &log, BUDGET).await.unwrap();
                        (number, value, Some(head))
                    })
                })
                .collect();
            for asked in asked {
                let (number, value, head) = asked.await.unwrap();
                let expected = number.to_string().repeat(if number % 7 == 0 { 20_000 } else { 3 });
                let expected = (number < 200).then_some(expected);
                assert_eq!(value.as_deref(), expected.as_ref().map(String::as_bytes), "{number}");
                assert!(head.is_none_or(|head| head >= newest), "{head:?} is older than {newest:?}");
            }
            newest = link.add_record(&log, AddAt::Next, Trim::No, &[(b"k", b"all")]).await.unwrap();
        }
        // An error of one is nobody else's.
        let (wrong, right) = tokio::join!(
            link.fetch_with_head(&log, &log, BUDGET),
            link.fetch_with_head(b"p:1", &log, BUDGET)
        );
        assert!(matches!(wrong, Err(RedisError::Refused { .. })), "{wrong:?}");
        assert_eq!(right.unwrap().0.unwrap(), "111");
    });
    assert_eq!(connections(&server), 3, "fast, bulk and the worker's");
}

#[test]
fn no_more_connections_are_made_than_are_allowed() {
    let server = RedisServer::start();
    let connected = Connected::with(&server.url(), |spec| spec.max_connections = 4);
    eventually("it is connected", || connected.works());
    let link = connected.link();
    let workers = [worker(), worker(), worker()];
    settle(&workers[0], &link, &server, 3);
    for worker in &workers {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(worker.block_on(link.fetch(b"p:any", BUDGET)).is_ok());
                }
            });
        });
    }
    assert_eq!(connections(&server), 3, "the fourth is for who keeps the log");
}

#[test]
fn a_workers_connection_that_is_lost_ends_the_link() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let (link, worker) = (connected.link(), worker());
    settle(&worker, &link, &server, 3);
    // The last to come is the worker's.
    let listed = server.ask(&["CLIENT", "LIST"]).text();
    let ours = listed.lines().rfind(|line| line.contains("cmd=get")).unwrap();
    let id = ours.split_once("id=").unwrap().1.split(' ').next().unwrap().to_owned();
    server.ask(&["CLIENT", "KILL", "ID", &id]);
    eventually("the link is given up", || {
        let answer = worker.block_on(link.fetch(b"p:any", BUDGET));
        answer.is_err() && !link.is_alive()
    });
    let next = connected.link_after(link.number());
    eventually("the next one works", || worker.block_on(next.fetch(b"p:any", BUDGET)) == Ok(None));
}

#[test]
fn a_link_that_ends_takes_along_who_waits_on_a_lane() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let (link, worker) = (connected.link(), worker());
    settle(&worker, &link, &server, 3);
    server.freeze();
    let mut late = 0;
    while link.is_alive() {
        let answer = worker.block_on(link.fetch(b"p:any", Duration::from_millis(25)));
        late += u32::from(matches!(answer, Err(RedisError::TimedOut { .. })));
    }
    assert!(late <= weir::redis::breaker::SLOW_IN_A_ROW, "{late} requests paid for it");
    server.thaw();
    let next = connected.link_after(link.number());
    eventually("the next one works", || worker.block_on(next.fetch(b"p:any", BUDGET)) == Ok(None));
}
