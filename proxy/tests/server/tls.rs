//! TLS: ALPN, certificates by name, reload.

use harness::tls::Authority;
use weir::config::model::Limits;
use weir::server::{ServerError, TlsError};

use crate::service::{KIB, Site, config, with_tls};

#[test]
fn alpn_chooses_the_protocol_and_sni_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let first = authority.identity(&["a.test"]).write(folder.path(), "a");
    let second = authority.identity(&["b.test", "*.c.test"]).write(folder.path(), "b");
    let site = Site::start(&config(vec![with_tls(&[first, second])], Limits::default()));
    assert_eq!(site.listening()[0].to_string(), format!("https://{}", site.address()));
    // The client checks that the certificate has the name.
    for name in ["a.test", "b.test", "B.TEST", "x.c.test"] {
        let (mut conn, agreed) = authority.connect(site.address(), name, &["http/1.1"]);
        assert_eq!(agreed.as_deref(), Some("http/1.1"));
        let who = conn.get("/who").text();
        assert!(who.ends_with(&format!(" https {} TLSv1.3", name.to_ascii_lowercase())), "{who}");
    }
    let client = harness::H2Client::connect_tls(site.address(), "b.test", &authority);
    assert_eq!(client.get("/hit").body, KIB.as_slice());
    let (mut conn, agreed) = authority.connect(site.address(), "a.test", &[]);
    assert_eq!((agreed, conn.get("/hit").status), (None, 200));
}

#[test]
fn a_reload_takes_new_certificates_for_new_connections_and_refuses_a_wrong_pair() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (cert, key) = authority.identity(&["old.test"]).write(folder.path(), "pair");
    let listener = with_tls(&[(cert, key.clone())]);
    let settings = config(vec![listener], Limits::default());
    let site = Site::start(&settings);
    let (mut old, _) = authority.connect(site.address(), "old.test", &[]);
    assert_eq!(old.get("/hit").status, 200);

    authority.identity(&["new.test"]).write(folder.path(), "pair");
    site.server.apply(site.server.prepare(&settings).ok().unwrap());
    let (mut new, _) = authority.connect(site.address(), "new.test", &[]);
    assert_eq!(new.get("/hit").status, 200);
    assert_eq!(old.get("/hit").status, 200, "the old connection lives on");

    let (_, other) = authority.identity(&["new.test"]).write(folder.path(), "other");
    std::fs::copy(other, &key).unwrap();
    let errors = site.server.prepare(&settings).err().unwrap();
    assert!(matches!(errors[..], [ServerError::Tls(TlsError::Pair { .. })]), "{errors:?}");
    std::fs::write(&key, "no key").unwrap();
    let errors = site.server.prepare(&settings).err().unwrap();
    assert_eq!(errors[0].to_string(), format!("cannot read `{}`", key.display()));
    let (mut still, _) = authority.connect(site.address(), "new.test", &[]);
    assert_eq!(still.get("/hit").status, 200, "what was refused changed nothing");
}
