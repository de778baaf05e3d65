//! Workers' own connections.

use std::sync::Arc;
use std::time::Duration;

use harness::{RedisServer, eventually};
use tokio::runtime::Runtime;
use weir::redis::{AddAt, Link, RedisError, StreamId, Trim};

use weir::config::model::{Certificate, RedisTls};

use crate::places::certificates;
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
fn a_workers_connection_that_is_lost_costs_no_answer_and_has_another_after_it() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let (link, worker) = (connected.link(), worker());
    // The last to come is the worker's, but for the one that asks.
    let mut id = String::new();
    eventually("the worker uses a connection of its own", || {
        let _ = worker.block_on(link.fetch(b"p:any", BUDGET));
        let listed = server.ask(&["CLIENT", "LIST"]).text();
        let ours = listed.lines().rfind(|line| !line.contains("cmd=client|list")).unwrap_or_default();
        id = ours
            .split_once("id=")
            .and_then(|(_, rest)| rest.split(' ').next())
            .unwrap_or_default()
            .to_owned();
        connections(&server) == 3 && ours.contains("cmd=get")
    });
    server.ask(&["CLIENT", "KILL", "ID", &id]);
    assert_eq!(worker.block_on(link.fetch(b"p:any", BUDGET)), Ok(None));
    settle(&worker, &link, &server, 3);
    assert!(link.is_alive(), "the link is the same");
    assert!(!server.ask(&["CLIENT", "LIST"]).text().contains(&format!("id={id} ")));
}

#[test]
fn a_workers_connection_speaks_tls_and_trusts_whom_the_others_trust() {
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tls_port = plain.local_addr().unwrap().port();
    drop(plain);
    // Without TLS as well, for the test to look at it.
    let port = tls_port.to_string();
    let server = RedisServer::with_files(
        &[
            "--tls-port",
            &port,
            "--tls-cert-file",
            "{DIR}/cert.pem",
            "--tls-key-file",
            "{DIR}/key.pem",
            "--tls-ca-cert-file",
            "{DIR}/ca.pem",
        ],
        certificates,
    );
    let folder = server.folder();
    let pair = Certificate { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    let ca = Some(folder.join("ca.pem"));
    let url = format!("rediss://localhost:{tls_port}");
    let connected = Connected::with(&url, |spec| spec.tls = RedisTls { ca, client: Some(pair) });
    eventually("it is connected", || connected.works());
    let (link, worker) = (connected.link(), worker());
    settle(&worker, &link, &server, 3);
    let log: Arc<[u8]> = Arc::from(&b"{p}:inv"[..]);
    worker.block_on(async {
        for length in [0, 1, 16_384, 300_000] {
            let value: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let ttl = Duration::from_secs(60);
            link.put(b"p:any", &value, ttl, BUDGET).await.unwrap();
            let asked: Vec<_> = (0..50)
                .map(|_| {
                    let (link, log) = (link.clone(), log.clone());
                    tokio::spawn(async move { link.fetch_with_head(b"p:any", &log, BUDGET).await })
                })
                .collect();
            for answer in asked {
                assert_eq!(answer.await.unwrap().unwrap().0.unwrap(), value, "{length} bytes");
            }
        }
    });
    let listed = server.ask(&["CLIENT", "LIST"]).text();
    // The worker's own connection is the last one that was made; what was asked while it still shook hands went over another.
    let over_tls = |line: &&str| line.contains(&format!(" laddr=127.0.0.1:{tls_port} "));
    let its_own = listed.lines().rfind(over_tls);
    assert!(its_own.is_some_and(|line| line.contains("cmd=xrevrange")), "{listed}");
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
