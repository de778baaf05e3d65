//! The places where a Redis can be.

use std::time::Duration;

use harness::{RedisServer, eventually};
use weir::config::model::RedisTls;

use weir::redis::{AddAt, Script, StreamId, Trim};

use crate::support::{BUDGET, Connected};

#[test]
fn a_database_and_a_user_of_its_own() {
    let server = RedisServer::start();
    let user = ["ACL", "SETUSER", "weir", "on", ">s3cret/@", "~test:*", "+@all", "-info", "-role"];
    assert_eq!(server.ask(&user).text(), "OK");
    let url = server.url().replace("redis://", "redis://weir:s3cret%2F%40@");
    let connected = Connected::to(&format!("{url}/3"));
    eventually("it is used", || connected.works());
    let mut client = server.client();
    client.ask(&[b"SELECT", b"3"]).unwrap();
    assert_eq!(client.ask(&[b"GET", b"test:key"]).unwrap().text(), "value");
    let forbidden = connected.run(connected.link().fetch(b"other:key", BUDGET));
    assert!(forbidden.is_err());
    assert!(connected.works(), "what is forbidden is no fault of the server");
}

#[test]
fn a_unix_socket() {
    let server = RedisServer::with(&["--unixsocket", "{DIR}/redis.sock"]);
    let connected = Connected::to(&format!("redis+unix:{}/redis.sock?db=1", server.folder().display()));
    eventually("it is used", || connected.works());
}

/// A CA, and what it has signed for 127.0.0.1.
pub(crate) fn certificates(folder: &std::path::Path) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    // Not the authority's own name: that would look as if it had signed itself.
    params.distinguished_name.push(rcgen::DnType::CommonName, "redis");
    let signed = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), signed.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn tls_with_the_right_authority_and_never_with_a_wrong_one() {
    let server = RedisServer::with_files(
        &[
            "--port",
            "0",
            "--tls-port",
            "{PORT}",
            "--tls-cert-file",
            "{DIR}/cert.pem",
            "--tls-key-file",
            "{DIR}/key.pem",
            "--tls-ca-cert-file",
            "{DIR}/ca.pem",
        ],
        certificates,
    );
    let url = format!("rediss://127.0.0.1:{}", server.port());
    let pair = weir::config::model::Certificate {
        cert: server.folder().join("cert.pem"),
        key: server.folder().join("key.pem"),
    };
    let ca = Some(server.folder().join("ca.pem"));
    let connected =
        Connected::with(&url, |spec| spec.tls = RedisTls { ca: ca.clone(), client: Some(pair.clone()) });
    eventually("it is used", || connected.works());

    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let wrong = Some(other.path().join("ca.pem"));
    let connected = Connected::with(&url, |spec| spec.tls = RedisTls { ca: wrong, client: Some(pair) });
    eventually("it is refused", || {
        connected.redis.status().trouble.is_some_and(|trouble| trouble.contains("certificate"))
    });
    let connected = Connected::with(&url, |spec| spec.tls = RedisTls { ca, client: None });
    eventually("and so are we without a certificate", || connected.redis.status().trouble.is_some());
}

#[test]
fn the_primary_that_sentinels_name_and_the_next_one_after_it_died() {
    let mut primary = RedisServer::start();
    let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
    eventually("the replica follows", || {
        replica.says(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let sentinels = RedisServer::sentinels(&primary, 500);
    let list: Vec<String> =
        sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
    let connected = Connected::to(&format!("redis://{}/mymaster/1", list.join(",")));
    eventually("it is used", || connected.works());
    let link = connected.link();
    assert!(link.is_writable());
    primary.kill();
    let next = connected.link_after(link.number());
    assert!(next.is_writable());
    eventually("the new primary is used", || connected.works());
    assert!(replica.says(&["INFO", "replication"]).contains("role:master"));
    // The old one comes back as a replica, and is not written to.
    primary.restart();
    eventually("it follows", || primary.says(&["ROLE"]).starts_with("slave"));
    assert!(connected.works());
}

#[test]
fn a_manual_failover_ends_the_link_to_the_old_primary() {
    let primary = RedisServer::start();
    let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
    eventually("the replica follows", || {
        replica.says(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let sentinels = RedisServer::sentinels(&primary, 5000);
    let list: Vec<String> =
        sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
    let connected = Connected::to(&format!("redis://{}/mymaster", list.join(",")));
    eventually("it is used", || connected.works());
    let link = connected.link();
    assert_eq!(sentinels[0].ask(&["SENTINEL", "FAILOVER", "mymaster"]).text(), "OK");
    let next = connected.link_after(link.number());
    eventually("the new primary is used", || connected.works());
    assert!(next.number() > link.number() && !link.is_alive());
    assert!(replica.says(&["ROLE"]).starts_with("master"));
}

#[test]
fn a_cluster_and_what_is_left_of_it_when_a_node_dies() {
    let mut nodes = RedisServer::cluster();
    let list: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let connected = Connected::to(&format!("redis://{}", list.join(",")));
    eventually("it is used", || connected.works());
    let link = connected.link();
    assert_eq!(connected.redis.status().shards, 3);
    // What the log of purges asks, at the server that has it.
    connected.run(async {
        let log = b"{p}:inv";
        assert_eq!(link.replication_id_of(log).await.unwrap().len(), 40);
        let added = link.add_record(log, AddAt::Next, Trim::No, &[(b"k", b"all")]).await.unwrap();
        assert_eq!(link.head(log).await, Ok(added));
        let waited = link.wait_for_records(log, StreamId::ZERO, 10, Duration::from_secs(5)).await.unwrap();
        assert_eq!(waited[0].id, added);
        let nothing = link.wait_for_records(log, added, 10, Duration::from_millis(20)).await;
        assert_eq!(nothing, Ok(Vec::new()));
        let script = Script::new("return redis.call('EXISTS', KEYS[1], KEYS[2])");
        let reply = link.run(&script, &[log, b"{p}:inst"], &[], BUDGET).await.unwrap();
        assert_eq!(reply.int(), Ok(1));
    });
    let ttl = Duration::from_secs(60);
    let keys: Vec<String> = (0..60).map(|number| format!("test:{number}")).collect();
    eventually("all keys are stored", || {
        connected.run(async {
            let mut stored = true;
            for key in &keys {
                stored &= link.put(key.as_bytes(), b"value", ttl, BUDGET).await.is_ok();
            }
            stored
        })
    });
    nodes[2].kill();
    let found = || {
        connected.run(async {
            let mut found = 0;
            for key in &keys {
                let budget = Duration::from_millis(25);
                found += usize::from(matches!(link.fetch(key.as_bytes(), budget).await, Ok(Some(_))));
            }
            found
        })
    };
    eventually("its breaker is open", || {
        found();
        connected.redis.status().shards_open == 1
    });
    let left = found();
    assert!(link.is_alive() && left > 20 && left < 60, "{left} of 60 keys are served by the others");
    nodes[2].restart();
    eventually("it is asked again", || {
        let breakers = connected.redis.status();
        found();
        breakers.shards_open == 0
    });
}
