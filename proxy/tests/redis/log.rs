//! What the log of invalidations needs of Redis.

use std::time::Duration;

use harness::{RedisServer, eventually};
use weir::redis::{AddAt, RedisError, Script, StreamId, Trim};

use crate::support::{BUDGET, Connected};

const LOG: &[u8] = b"{p}:inv";

#[test]
fn records_are_added_read_and_waited_for_in_order() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let link = connected.link();
    connected.run(async {
        assert_eq!(link.head(LOG).await, Ok(StreamId::ZERO), "there is no log yet");
        assert_eq!(link.stream_info(LOG).await, Ok(None));
        let fields: &[(&[u8], &[u8])] = &[(b"k", b"tag"), (b"v", b"\x00\xff binary")];
        let first = link.add_record(LOG, AddAt::Next, Trim::About(100_000), fields).await.unwrap();
        let at = StreamId { millis: first.millis + 1_000_000, sequence: 7 };
        assert_eq!(link.add_record(LOG, AddAt::Exactly(at), Trim::No, &[(b"k", b"epoch")]).await, Ok(at));
        let back = link.add_record(LOG, AddAt::Exactly(first), Trim::No, &[(b"k", b"x")]).await;
        assert!(matches!(back, Err(RedisError::Refused { .. })), "positions never go back: {back:?}");
        assert_eq!(link.head(LOG).await, Ok(at));

        let all = link.records(LOG, StreamId::ZERO, StreamId::MAX, 10).await.unwrap();
        assert_eq!(all.iter().map(|record| record.id).collect::<Vec<_>>(), [first, at]);
        assert_eq!(all[0].field(b"v").unwrap(), &b"\x00\xff binary"[..]);
        let last = link.records_backwards(LOG, StreamId::MAX, StreamId::ZERO, 1).await.unwrap();
        assert_eq!(last[0].id, at);
        assert_eq!(link.records(LOG, first.next().unwrap(), StreamId::MAX, 10).await.unwrap().len(), 1);

        let info = link.stream_info(LOG).await.unwrap().unwrap();
        assert_eq!((info.len, info.last, info.deleted_max), (2, at, Some(StreamId::ZERO)));

        let waited = link.wait_for_records(LOG, first, 10, Duration::from_secs(5)).await.unwrap();
        assert_eq!(waited.len(), 1, "what is there is given at once");
        let none = link.wait_for_records(LOG, at, 10, Duration::from_millis(20)).await;
        assert_eq!(none, Ok(Vec::new()), "and nothing is not an error");
        let (added, waited) = tokio::join!(
            link.add_record(LOG, AddAt::Next, Trim::No, &[(b"k", b"all")]),
            link.wait_for_records(LOG, at, 10, Duration::from_secs(5))
        );
        assert_eq!(waited.unwrap()[0].id, added.unwrap());
        assert!(link.is_alive());
    });
}

#[test]
fn values_scripts_leases_and_the_head_beside_a_value() {
    let server = RedisServer::start();
    let connected = Connected::to(&server.url());
    eventually("it is connected", || connected.works());
    let link = connected.link();
    connected.run(async {
        let ttl = Duration::from_secs(3);
        assert_eq!(link.fetch(b"p:inst:1", BUDGET).await, Ok(None));
        link.put(b"p:inst:1", b"1-1", ttl, BUDGET).await.unwrap();
        assert_eq!(link.fetch(b"p:inst:1", BUDGET).await.unwrap().unwrap(), "1-1");
        assert_eq!(link.claim(b"p:lk:1", b"me", ttl, BUDGET).await, Ok(true));
        assert_eq!(link.claim(b"p:lk:1", b"you", ttl, BUDGET).await, Ok(false));
        let both = link.fetch_all(&[b"p:inst:1", b"p:inst:2"], BUDGET).await.unwrap();
        assert_eq!(both[0].as_deref(), Some(&b"1-1"[..]));
        assert_eq!(both[1], None);

        let script = Script::new("return redis.call('GET', KEYS[1]) .. ARGV[1]");
        for _ in 0..2 {
            let reply = link.run(&script, &[b"p:inst:1"], &[b"!"], BUDGET).await.unwrap();
            assert_eq!(reply.bytes().unwrap().unwrap(), "1-1!");
        }
        let (value, head) = link.fetch_with_head(b"p:inst:1", &LOG.into(), BUDGET).await.unwrap();
        assert_eq!((value.unwrap().as_ref(), head), (&b"1-1"[..], StreamId::ZERO));
        let added = link.add_record(LOG, AddAt::Next, Trim::No, &[(b"k", b"all")]).await.unwrap();
        let (value, head) = link.fetch_with_head(b"p:nothing", &LOG.into(), BUDGET).await.unwrap();
        assert_eq!((value, head), (None, added));

        link.remove(b"p:inst:1", BUDGET).await.unwrap();
        assert_eq!(link.fetch(b"p:inst:1", BUDGET).await, Ok(None));
        assert_eq!(link.wait_for_replicas(b"p:wait", Duration::from_millis(10)).await, Ok(0));
        assert_eq!(link.replication_id().await.unwrap().len(), 40);
        let wrong = link.fetch(LOG, BUDGET).await;
        assert!(matches!(&wrong, Err(RedisError::Refused { code, .. }) if code == "WRONGTYPE"), "{wrong:?}");
        assert!(link.is_alive(), "which says nothing about the server");
    });
}
