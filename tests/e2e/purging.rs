//! Purges: what is fetched before one is given to nobody who asks after it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::wire::request_bytes;
use harness::{Gate, Origin, Reply, Weir, eventually};

/// Answers with the number of the request. The first answer waits for the gate.
fn first_held_by(gate: &Gate) -> Origin {
    let (gate, count) = (gate.clone(), AtomicUsize::new(0));
    Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        if number == 1 {
            gate.wait();
        }
        Reply::ok(number.to_string()).header("Cache-Control", "max-age=60")
    })
}

#[test]
fn who_asks_after_a_purge_is_not_given_what_was_asked_for_before_it() {
    let gate = Gate::new();
    let origin = first_held_by(&gate);
    let weir = Weir::before(&origin);
    let mut before = weir.client();
    before.send(request_bytes("GET", "/page", &[], b""));
    origin.wait_for(1);

    let purged = weir.admin("POST", "/purge?everything=true");
    assert!((200..300).contains(&purged.status), "{} {}", purged.status, purged.text());
    let mut after = weir.client();
    after.send(request_bytes("GET", "/page", &[], b""));
    gate.open();

    assert_eq!(before.expect_response("GET").text(), "1", "asked before the purge");
    assert_eq!(after.expect_response("GET").text(), "2", "asked after it");
    let stored = weir.get("/page").text();
    assert_ne!(stored, "1", "and what was asked for before it is never a hit");
}

/// Answers with the number of the request for each path, with the tags that the query names.
fn counting_by_path() -> Origin {
    let counts = Mutex::new(HashMap::<String, u32>::new());
    Origin::start(move |request| {
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        if request.method != "GET" {
            let reply = Reply::ok("done");
            let field = request.header("x-invalidate").map(str::to_owned);
            return field.into_iter().fold(reply, |reply, field| reply.header("Weir-Invalidate", field));
        }
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(path.clone()).or_default();
        *count += 1;
        let tags = format!("page{} all", path.replace('/', ":"));
        Reply::ok(count.to_string()).header("Cache-Control", "max-age=60").header("Surrogate-Key", tags)
    })
}

#[test]
fn each_way_to_name_what_is_purged_reaches_what_it_names_and_nothing_else() {
    let origin = counting_by_path();
    let weir = Weir::with(&format!(
        "[cache.default]\nversion = 3\n\
         [[route]]\nname = \"blog\"\nmatch = {{ path = \"/blog/**\" }}\norigin = \"{0}\"\n\
         [[route]]\nname = \"rest\"\norigin = \"{0}\"\n",
        origin.url()
    ));
    let paths = ["/blog/1", "/blog/2", "/news"];
    let host = "weir.test";
    let cases: [(&str, String, [bool; 3]); 12] = [
        ("a URL", format!("url=http://{host}/blog/1"), [true, false, false]),
        ("a tag", "tag=page:blog:1".to_owned(), [true, false, false]),
        ("several tags", "tag=page:blog:1&tag=page:news".to_owned(), [true, false, true]),
        ("a pattern", "glob=page:blog:*".to_owned(), [true, true, false]),
        ("a path", "prefix=/blog".to_owned(), [true, true, false]),
        ("a host", format!("host={host}"), [true, true, true]),
        ("a route", "route=rest".to_owned(), [false, false, true]),
        ("a cache", "cache=default".to_owned(), [true, true, true]),
        ("its version", "version=default:3".to_owned(), [true, true, true]),
        ("that version of all", "version=3".to_owned(), [true, true, true]),
        ("another version", "version=default:2".to_owned(), [false, false, false]),
        ("another host", "host=other.example".to_owned(), [false, false, false]),
    ];
    for (what, query, gone) in cases {
        let before = paths.map(|path| weir.get(path).text());
        let receipt = weir.admin("POST", &format!("/purge?{query}"));
        assert_eq!(receipt.status, 200, "{what}: {}", receipt.text());
        let after = paths.map(|path| weir.get(path).text());
        let changed: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
        assert_eq!(changed, gone, "{what}");
    }
    assert_eq!(weir.get("/news").header("surrogate-key"), None, "tags are not for clients");
    let unknown = weir.admin("POST", "/purge?route=nowhere");
    assert_eq!(unknown.status, 400, "{}", unknown.text());
}

#[test]
fn the_answer_to_a_write_purges_what_it_says_and_what_its_model_says() {
    let origin = counting_by_path();
    let weir = Weir::with(&format!(
        "[model.Post]\nwritten_by = [\"PUT /api/posts/{{id}}\"]\npurge = [\"page:posts:{{id}}\", \"page:list*\"]\n\
         [[route]]\norigin = \"{}\"\n",
        origin.url()
    ));
    let all = || ["/posts/7", "/posts/8", "/list/new", "/other"].map(|path| weir.get(path).text());
    assert_eq!(all(), ["1", "1", "1", "1"]);
    let written = weir.ask("PUT", "/api/posts/7", &[], b"new");
    assert_eq!(written.status, 200);
    assert_eq!(all(), ["2", "1", "2", "1"], "its model");
    let said = weir.ask("POST", "/anything", &[("X-Invalidate", "tag=(\"page:other\")")], b"");
    assert_eq!(said.header("weir-invalidate"), None, "what is said to the proxy is not for clients");
    assert_eq!(all(), ["2", "1", "2", "2"], "what the application says");
    weir.ask("POST", "/posts/8", &[("X-Invalidate", "prefix=\"/posts\"")], b"");
    assert_eq!(all(), ["3", "2", "2", "2"], "a path of it");
}

#[test]
fn a_soft_purge_validates_and_a_refresh_serves_meanwhile() {
    let gate = Gate::new();
    let held = gate.clone();
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        if request.header("if-none-match").is_some() {
            return Reply::new(304).header("ETag", "\"1\"").header("Cache-Control", "max-age=60");
        }
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            held.wait();
        }
        Reply::ok("first").header("ETag", "\"1\"").header("Cache-Control", "max-age=60")
    });
    let weir = Weir::before(&origin);
    weir.get("/page");
    assert_eq!(weir.admin("POST", "/purge?everything=true&soft=true").status, 200);
    let validated = weir.get("/page");
    assert_eq!((validated.status, validated.is_hit()), (200, false), "{}", validated.cache_status());
    assert!(origin.last("/page").header("if-none-match").is_some(), "what was stored is asked about");
    assert!(weir.get("/page").is_hit());

    let plain = {
        let (gate, count) = (gate.clone(), AtomicUsize::new(0));
        Origin::start(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) > 0 {
                gate.wait();
                return Reply::ok("second").header("Cache-Control", "max-age=60");
            }
            Reply::ok("first").header("Cache-Control", "max-age=60")
        })
    };
    let weir = Weir::before(&plain);
    weir.get("/page");
    assert_eq!(weir.admin("POST", "/purge?everything=true&refresh=60s").status, 200);
    for _ in 0..3 {
        assert_eq!(weir.get("/page").text(), "first", "served while it is refreshed");
    }
    plain.wait_for(2);
    gate.open();
    eventually("the refreshed response", || weir.get("/page").text() == "second");
}

#[test]
fn the_command_purges_and_tells_what_came_of_it() {
    let origin = counting_by_path();
    let weir = Weir::before(&origin);
    weir.get("/page");
    let admin = weir.admin_address().to_string();
    let run = |arguments: &[&str]| {
        let output = harness::weir::run(&[&["purge", "--admin", &admin], arguments].concat());
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (done, said) = run(&["--tag", "page:page", "--tag", "x", "--wait", "all"]);
    assert!(done && said.starts_with("purged tag page:page, tag x ("), "{said}");
    assert_eq!(weir.get("/page").text(), "2");
    let (done, said) = run(&["--model", "Nobody"]);
    assert!(!done && said.contains("there is no model called `Nobody`"), "{said}");
    let (done, said) = run(&[]);
    assert!(!done && said.contains("nothing is named"), "{said}");
}
