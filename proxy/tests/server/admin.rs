//! The admin listener, with a proxy that only notes what it is asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use harness::{Conn, Response};
use serde_json::{Value, json};
use weir::admin::{Admin, Control, PurgeError, Purging, Readiness, Reload, Reloaded};
use weir::config::model::Secret;
use weir::metrics::{Metrics, Reading, Readings};
use weir::purge::order::{Named, Order};
use weir::purge::{Position, Receipt, Target, Wait};

#[derive(Default)]
struct Noting {
    purged: Mutex<Vec<Order>>,
    degraded: Mutex<Vec<String>>,
}

impl Control for Noting {
    fn readiness(&self) -> Readiness {
        Readiness { degraded: self.degraded.lock().expect("no test panics with it").clone() }
    }

    fn purge(self: Arc<Self>, order: Order) -> Purging {
        Box::pin(async move {
            if let [Named::Model(name)] = &order.named[..] {
                return Err(PurgeError::Unknown { kind: "model", name: name.clone() });
            }
            let slow = order.wait == Wait::All;
            self.purged.lock().expect("no test panics with it").push(order);
            let receipt = Receipt {
                id: "ab:7".to_owned(),
                position: Some(Position { ms: 5, seq: 1 }),
                replicated: true,
                applied_by: vec!["cd".to_owned()],
                not_applied_by: if slow { vec!["ef".to_owned()] } else { Vec::new() },
                journaled: false,
                replicas: None,
            };
            Ok((receipt, UNIX_EPOCH))
        })
    }

    fn status(&self) -> Value {
        json!({ "caches": {} })
    }

    fn readings(&self, into: &mut Readings) {
        into.note(Reading::CacheBytes, &[("cache", "default")], 7.0);
    }
}

struct Fixture {
    address: SocketAddr,
    control: Arc<Noting>,
    admin: Arc<Admin>,
    _runtime: tokio::runtime::Runtime,
}

fn start(token: Option<&str>) -> Fixture {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let control = Arc::<Noting>::default();
    let reload: Reload = Arc::new(|| Ok(Reloaded { warnings: vec!["route 2 can never match".to_owned()] }));
    let token = token.map(|token| Secret(token.to_owned()));
    let admin = Arc::new(Admin::new(control.clone(), Arc::new(Metrics::new(1)), reload, token.as_ref()));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    runtime.spawn(Arc::clone(&admin).serve(listener));
    Fixture { address, control, admin, _runtime: runtime }
}

const LOCAL: (&str, &str) = ("Host", "localhost:9180");
const JSON: (&str, &str) = ("Content-Type", "application/json");

impl Fixture {
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
        Conn::connect(self.address).ask(method, target, headers, body.as_bytes())
    }

    fn purged(&self) -> Vec<Order> {
        self.control.purged.lock().expect("no test panics with it").clone()
    }
}

fn parsed(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("the body is JSON")
}

#[test]
fn health_readiness_metrics_and_status_are_told() {
    let fixture = start(None);
    let health = fixture.ask("GET", "/healthz", &[], "");
    assert_eq!((health.status, parsed(&health)), (200, json!({ "status": "alive" })));
    let ready = fixture.ask("GET", "/readyz", &[], "");
    assert_eq!((ready.status, parsed(&ready)), (200, json!({ "status": "ready", "reasons": [] })));
    let reason = "origin `app`: no healthy server";
    fixture.control.degraded.lock().unwrap().push(reason.to_owned());
    let degraded = fixture.ask("GET", "/readyz", &[], "");
    assert_eq!(
        (degraded.status, parsed(&degraded)),
        (200, json!({ "status": "degraded", "reasons": [reason] }))
    );
    fixture.admin.begin_draining();
    let draining = fixture.ask("GET", "/readyz", &[], "");
    assert_eq!((draining.status, &parsed(&draining)["status"]), (503, &json!("draining")));
    let metrics = fixture.ask("GET", "/metrics", &[LOCAL], "");
    let kind = metrics.header("content-type").unwrap();
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.text().contains("\ncache_bytes{cache=\"default\"} 7\n"));
    assert!(metrics.text().ends_with("\n# EOF\n"));
    let status = fixture.ask("GET", "/status", &[LOCAL], "");
    assert_eq!(parsed(&status)["draining"], json!(true));
}

#[test]
fn a_purge_gives_a_receipt_and_a_reload_its_warnings() {
    let fixture = start(None);
    let url = "http://a.test/x?y=1";
    let receipt = fixture.ask("POST", "/purge", &[LOCAL, JSON], &json!({ "url": url }).to_string());
    let expected = json!({
        "purged": { "url": url }, "at": "1970-01-01T00:00:00.000Z",
        "id": "ab:7", "position": "5-1", "replicated": true, "journaled": false,
    });
    assert_eq!((receipt.status, parsed(&receipt)), (200, expected));
    let in_query = "/purge?url=http%3A%2F%2Fa.test%2F";
    assert_eq!(fixture.ask("POST", in_query, &[LOCAL, ("Weir-Admin", "1")], "").status, 200);
    assert_eq!(fixture.ask("POST", "/purge?everything=true", &[LOCAL, JSON], "").status, 200);
    let waited = fixture.ask("POST", "/purge", &[LOCAL, JSON], r#"{"tag": ["a", "b"], "wait": "all"}"#);
    assert_eq!((waited.status, &parsed(&waited)["not_applied_by"]), (202, &json!(["ef"])), "not done yet");
    let asked: Vec<Value> = fixture.purged().iter().map(Order::to_json).collect();
    let expected = [
        json!({ "url": url }),
        json!({ "url": "http://a.test/" }),
        json!({ "everything": true }),
        json!({ "tag": ["a", "b"], "wait": "all" }),
    ];
    assert_eq!(asked, expected);
    assert_eq!(fixture.purged()[2].named, [Named::Target(Target::Everything)]);
    let unknown = fixture.ask("POST", "/purge?model=Past", &[LOCAL, JSON], "");
    assert_eq!(
        (unknown.status, &parsed(&unknown)["detail"]),
        (400, &json!("there is no model called `Past`"))
    );
    let refused = fixture.ask("POST", "/purge", &[LOCAL, JSON], r#"{"url": "/x"}"#);
    assert_eq!((refused.status, refused.header("content-type")), (400, Some("application/problem+json")));
    assert_eq!(parsed(&refused)["detail"], json!("`url`: `/x` is not an absolute http or https URL"));
    let reloaded = fixture.ask("POST", "/reload", &[LOCAL, JSON], "");
    assert_eq!(parsed(&reloaded), json!({ "reloaded": true, "warnings": ["route 2 can never match"] }));
}

#[test]
fn without_a_token_a_web_page_in_the_operators_browser_can_do_nothing() {
    let fixture = start(None);
    let everything = "/purge?everything=true";
    let rebound = [("Host", "rebound.evil.test:9180"), JSON];
    let simple = [LOCAL, ("Content-Type", "text/plain")];
    let form = [LOCAL, ("Content-Type", "application/x-www-form-urlencoded")];
    for (what, method, target, headers, status) in [
        ("a name rebound to loopback, reading", "GET", "/metrics", &rebound[..1], 403),
        ("a name rebound to loopback, writing", "POST", everything, &rebound[..], 403),
        ("a simple request with text", "POST", everything, &simple[..], 403),
        ("a simple request from a form", "POST", everything, &form[..], 403),
        ("a simple request without content", "POST", everything, &simple[..1], 403),
        ("an image", "GET", everything, &simple[..1], 405),
    ] {
        assert_eq!(fixture.ask(method, target, headers, "").status, status, "{what}");
    }
    assert_eq!(fixture.purged(), []);
}

#[test]
fn with_a_token_everything_but_health_wants_it() {
    let fixture = start(Some("correct horse"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(fixture.ask("GET", path, &[("Host", "anything.test")], "").status, 200);
    }
    for credentials in [
        vec![],
        vec![("Authorization", "Bearer wrong")],
        vec![("Authorization", "Bearer correct hors")],
        vec![("Authorization", "Basic correct horse")],
        vec![("Authorization", "Bearer correct horse"), ("Authorization", "Bearer wrong")],
    ] {
        for (method, path) in
            [("GET", "/metrics"), ("GET", "/status"), ("POST", "/purge"), ("POST", "/reload")]
        {
            let refused = fixture.ask(method, path, &credentials, "");
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        }
    }
    let credentials = [("Authorization", "Bearer correct horse"), ("Host", "weir.internal")];
    assert_eq!(fixture.ask("GET", "/metrics", &credentials, "").status, 200);
    assert_eq!(fixture.ask("POST", "/purge?everything=true", &credentials, "").status, 200);
    fixture.admin.set_token(Some(&Secret("new".to_owned())));
    assert_eq!(fixture.ask("GET", "/metrics", &credentials, "").status, 401, "a reload changed it");
}

#[test]
fn what_is_not_there_is_said_so() {
    let fixture = start(None);
    let unknown = fixture.ask("GET", "/", &[LOCAL], "");
    assert_eq!(unknown.status, 404);
    assert!(parsed(&unknown)["detail"].as_str().unwrap().contains("/metrics"));
    let wrong = fixture.ask("DELETE", "/metrics", &[LOCAL], "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET")));
    assert_eq!(fixture.ask("HEAD", "/healthz", &[LOCAL], "").status, 200);
    let large = " ".repeat(70_000);
    assert_eq!(fixture.ask("POST", "/purge", &[LOCAL, JSON], &large).status, 413);
}
