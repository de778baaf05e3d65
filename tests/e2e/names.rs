//! Origins by name: looked up at the name servers of the origin, again when the TTL is over, and kept when nobody answers.

use harness::names::Mood;
use harness::{NameServer, Origin, Reply, Weir, eventually};

const NAME: &str = "app.example.net";

/// Two servers on one port of different addresses of this machine.
fn two_of_one_port() -> (Origin, Origin, u16) {
    let answer =
        |name: &'static str| move |_: &harness::Request| Reply::ok(name).header("Cache-Control", "no-store");
    let first = Origin::start(answer("first"));
    let port = first.address().port();
    (first, Origin::start_at(format!("127.0.0.2:{port}").parse().unwrap(), answer("second")), port)
}

fn before(port: u16, servers: &[&NameServer]) -> Weir {
    let resolvers: Vec<_> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    Weir::with(&format!(
        "[origin.app]\nservers = [\"http://{NAME}:{port}\"]\nresolvers = [{}]\n[[route]]\norigin = \"app\"\n",
        resolvers.join(", ")
    ))
}

#[test]
fn a_name_is_looked_up_again_when_its_ttl_is_over() {
    let (_first, second, port) = two_of_one_port();
    let names = NameServer::new();
    names.says(NAME, &["127.0.0.1"], 1);
    let weir = before(port, &[&names]);
    // One connection to the first address is kept, and is not used once the name is elsewhere.
    assert_eq!(weir.get("/").text(), "first");
    names.says(NAME, &["127.0.0.2"], 1);
    eventually("the new address is used", || weir.get("/").text() == "second");
    let count = second.count();
    for _ in 0..20 {
        assert_eq!(weir.get("/").text(), "second");
    }
    assert_eq!(second.count(), count + 20);
}

#[test]
fn the_last_good_address_is_kept_while_the_name_server_fails() {
    let (_first, _second, port) = two_of_one_port();
    let names = NameServer::new();
    names.says(NAME, &["127.0.0.1"], 1);
    let weir = before(port, &[&names]);
    assert_eq!(weir.get("/").text(), "first");
    for mood in [Mood::Failing, Mood::Silent] {
        names.is(mood);
        let asked = names.asked();
        eventually("it is asked again", || names.asked() > asked);
        assert_eq!(weir.get("/").text(), "first", "{mood:?}");
    }
    weir.wait_for_line("keeping the last good addresses");
    names.says(NAME, &["127.0.0.2"], 1);
    names.is(Mood::Answering);
    eventually("it is believed again", || weir.get("/").text() == "second");
}

#[test]
fn one_name_server_that_knows_is_enough() {
    let (_first, _second, port) = two_of_one_port();
    for mood in [Mood::Silent, Mood::Failing] {
        let (broken, names) = (NameServer::new(), NameServer::new());
        broken.is(mood);
        names.says(NAME, &["127.0.0.1"], 60);
        let weir = before(port, &[&broken, &names]);
        assert_eq!(weir.get("/").text(), "first", "{mood:?}");
        assert!(broken.asked() > 0, "{mood:?}");
    }
}

#[test]
fn a_name_that_nobody_knows_is_a_502_that_says_so() {
    let (_first, _second, port) = two_of_one_port();
    let names = NameServer::new();
    let weir = before(port, &[&names]);
    let answer = weir.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.header("proxy-status").unwrap().contains("dns_error"), "{answer:?}");
    names.says(NAME, &["127.0.0.1"], 60);
    assert_eq!(weir.get("/").text(), "first", "it is asked again for the next request");
}
