//! Policy plugins in front of a real application: the ones in `plugins/`, and some that fail in every way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Origin, Reply, Weir, eventually};
use wit_component::{ComponentEncoder, StringEncoding};

use crate::faults::print;

/// The built component of a plugin in `plugins/`.
pub(crate) fn built(name: &str) -> String {
    format!("{}/../plugins/{name}/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

/// A component whose request hook does this; without anything else it decides nothing.
pub(crate) fn component(hook: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (global $heap (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.get $heap)
                (global.set $heap (i32.add (global.get $heap) (local.get 3))))
            (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 1024)
            (func (export "weir:policy/request-hook@0.1.0#on-request") (param i32 i32) (result i32)
                (global.set $heap (i32.const 4096)) {hook} i32.const 1024))"#
    );
    let mut module = wat::parse_str(&text).unwrap();
    let mut resolve = wit_parser::Resolve::new();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk/wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("cache-key")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Counts its answers, which everybody may share.
fn public() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(number.to_string()).header("Cache-Control", "public, max-age=60")
    })
}

fn with_plugin(origin: &Origin, table: &str) -> Weir {
    let url = origin.url();
    Weir::with(&format!("[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\n{table}\n"))
}

#[test]
fn a_key_plan_drops_and_sorts_for_the_key_and_for_the_origin() {
    let origin = public();
    let path = built("query-normalize");
    let weir = with_plugin(
        &origin,
        &format!("path = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}"),
    );
    assert!(!weir.get("/list?b=2&utm_source=mail&a=1").is_hit());
    assert!(weir.get("/list?a=1&b=2&gclid=x").is_hit());
    assert!(weir.get("/list?b=2&a=1").is_hit());
    assert!(!weir.get("/list?a=1&b=3").is_hit());
    let seen: Vec<String> = origin.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(seen, ["/list?a=1&b=2", "/list?a=1&b=3"], "what is not in the key is not forwarded");
    // A purge of any of these URLs finds what they share, as the route forwards it.
    assert_eq!(weir.admin("POST", "/purge?prefix=/list").status, 200);
    assert!(!weir.get("/list?a=1&b=2").is_hit());
}

#[test]
fn each_bucket_of_a_test_has_its_own_variant_and_nobody_can_invent_one() {
    let origin = public();
    let path = built("ab-test-variant");
    let weir = with_plugin(
        &origin,
        &format!(
            "path = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"cookie:ab\"]\nconfig = {{ buckets = [\"a\", \"b\"] }}"
        ),
    );
    let ask = |cookie: &str| weir.ask("GET", "/", &[("Cookie", cookie)], b"");
    assert_eq!(ask("ab=a").text(), "1");
    assert_eq!(ask("ab=b").text(), "2");
    assert_eq!((ask("ab=a; _ga=1").text().as_str(), ask("ab=b").text().as_str()), ("1", "2"));
    let invented = ask("ab=c");
    assert_eq!(invented.text(), "3");
    assert!(invented.cache_status().contains("fwd=bypass; detail=plugin"), "{}", invented.cache_status());
    // What was said once is remembered.
    assert_eq!(weir.metric("plugin_memo_total", &["hit"]) + weir.metric("plugin_memo_total", &["miss"]), 5.0);
}

#[test]
fn anonymous_visitors_share_and_who_is_logged_in_does_not() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |_| Reply::ok((count.fetch_add(1, Ordering::SeqCst) + 1).to_string()));
    let path = built("cookie-allowlist");
    let weir = with_plugin(
        &origin,
        &format!(
            "path = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"cookie-names\", \"cookie:django_language\", \"header:authorization\"]\nconfig = {{ preset = \"django\", ttl = \"1m\" }}"
        ),
    );
    let ask = |cookie: &str| weir.ask("GET", "/", &[("Cookie", cookie)], b"");
    assert_eq!(ask("csrftoken=abc; _ga=1").text(), "1");
    let shared = ask("csrftoken=other; _ga=2");
    assert!(shared.is_hit() && shared.text() == "1", "{}", shared.cache_status());
    assert_eq!(origin.last("/").header("cookie"), None, "what is not looked at is not forwarded");
    assert_eq!((ask("sessionid=me").text().as_str(), ask("sessionid=me").text().as_str()), ("2", "3"));
    assert_eq!(origin.last("/").header("cookie"), Some("sessionid=me"));
}

#[test]
fn a_write_purges_what_the_plugin_says() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let reply = Reply::ok(number.to_string());
        if request.method == "GET" {
            reply.header("Cache-Control", "max-age=60").header("Surrogate-Key", "home_page_data_en tools_all")
        } else {
            reply
        }
    });
    let path = built("model-invalidation");
    let weir = with_plugin(
        &origin,
        &format!(
            "path = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"body\"]\n[plugin.p.config.model.Tool]\nwritten_by = [\"POST /admin/tool/**\"]\npurge = [\"home_page_data_*\"]"
        ),
    );
    weir.get("/");
    assert!(weir.get("/").is_hit());
    weir.ask("POST", "/admin/other/1", &[("Content-Length", "0")], b"");
    assert!(weir.get("/").is_hit());
    weir.ask("POST", "/admin/tool/1", &[("Content-Length", "0")], b"");
    assert!(!weir.get("/").is_hit());
}

#[test]
fn a_plugin_that_never_ends_costs_its_deadline_and_then_nothing() {
    let origin = public();
    let url = origin.url();
    let weir = Weir::with_files(
        &format!(
            "[server]\nworkers = 2\n[plugin.bad]\npath = \"bad.wasm\"\n[[route]]\nmatch = {{ path = \"/bad/**\" }}\norigin = \"{url}\"\nplugins = [\"bad\"]\n[[route]]\norigin = \"{url}\"\n"
        ),
        |folder| std::fs::write(folder.join("bad.wasm"), component("(loop $l (br $l))")).unwrap(),
    );
    weir.get("/good");
    for round in 0..12 {
        let started = Instant::now();
        let answer = weir.get("/bad/page");
        assert_eq!(answer.status, 200, "round {round}");
        let status = answer.cache_status().to_owned();
        assert!(
            status.contains("fwd=bypass; detail=plugin-failed"),
            "a failed key is never a default key: {status}"
        );
        // 10 ms, and what a busy machine adds.
        assert!(started.elapsed() < Duration::from_secs(5), "round {round}: {:?}", started.elapsed());
        assert!(weir.get("/good").is_hit(), "others do not notice");
    }
    // After five failures it is not asked for a while.
    assert_eq!(weir.metric("plugin_failures_total", &["deadline"]), 5.0);
    assert!(weir.metric("plugin_failures_total", &["breaker-open"]) >= 1.0);
    weir.wait_for_line("it took longer than 10 ms");
}

#[test]
fn what_is_done_when_a_plugin_fails_is_the_operators_choice() {
    let origin = public();
    let url = origin.url();
    let weir = Weir::with_files(
        &format!(
            "[plugin.deny]\npath = \"bad.wasm\"\non_failure = {{ request = \"deny\" }}\n[plugin.default]\npath = \"bad.wasm\"\non_failure = {{ request = \"default-key\" }}\n\
             [[route]]\nmatch = {{ path = \"/deny\" }}\norigin = \"{url}\"\nplugins = [\"deny\"]\n[[route]]\norigin = \"{url}\"\nplugins = [\"default\"]\n"
        ),
        |folder| std::fs::write(folder.join("bad.wasm"), component("unreachable")).unwrap(),
    );
    assert_eq!(weir.get("/deny").status, 503);
    weir.get("/page");
    assert!(weir.get("/page").is_hit());
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_plugin_that_is_refused_refuses_the_reload_and_the_old_one_goes_on() {
    let origin = public();
    let (url, path) = (origin.url(), built("query-normalize"));
    let config = |path: &str| {
        format!(
            "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\n"
        )
    };
    let weir = Weir::with_files(&config(&path), |folder| {
        std::fs::write(folder.join("no.wasm"), "this is no WebAssembly").unwrap();
        std::fs::write(folder.join("loop.wasm"), component("nop")).unwrap();
    });
    weir.get("/?b=1&a=2");
    for (file, why) in [("no.wasm", "this is no WebAssembly file"), ("missing.wasm", "missing.wasm")] {
        weir.write_config(&config(file));
        let refused = weir.admin("POST", "/reload");
        assert!(
            refused.status >= 400 && refused.text().contains(why),
            "{} {}",
            refused.status,
            refused.text()
        );
        assert!(weir.get("/?a=2&b=1").is_hit(), "the old generation goes on");
    }
    // A name that nobody knows, with the nearest one.
    let (status, printed) = harness::weir::check(&config(&path).replace("[\"p\"]", "[\"q\"]"));
    assert!(!status.success() && printed.contains("there is no plugin `q`"), "{printed}");
    // Something that it may not read.
    weir.write_config(&format!(
        "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{}\"\nconfig = {{ buckets = [\"a\"] }}\n",
        built("ab-test-variant")
    ));
    let refused = weir.admin("POST", "/reload").text();
    assert!(refused.contains("it reads `cookie:ab`, which is not granted"), "{refused}");
    assert!(refused.contains("grants"), "{refused}");
}

/// Sets it when it goes out of scope, however that comes about.
pub(crate) struct AtTheEnd<'f>(pub(crate) &'f AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// `WEIR_RELOADS=200` for the whole of it, as `scripts/faults.sh` has it.
#[test]
fn plugins_are_reloaded_under_load_without_a_failed_request_and_memory_stays_flat() {
    let rounds: usize = std::env::var("WEIR_RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let origin = public();
    let url = origin.url();
    let path = built("query-normalize");
    // The configuration of the plugins differs, so that they are loaded anew each time: one with a plan, one that is called. Their compiled code lies on
    // disk, as it does for who has a `[data]`: what takes seconds of a busy machine is not what is tried here.
    let config = |round: usize| {
        let limits = "limits = { time = \"5s\", configure = \"20s\" }";
        format!(
            "[server]\nworkers = 2\n[log]\naccess = \"off\"\n[data]\npath = \"{{DIR}}/data\"\n\
             [[route]]\norigin = \"{url}\"\nplugins = [\"p\", \"q\"]\n\
             [plugin.p]\npath = \"{path}\"\n{limits}\nconfig = {{ drop = [\"x{round}\"] }}\n\
             [plugin.q]\npath = \"called.wasm\"\n{limits}\nconfig = {{ round = {round} }}\n"
        )
    };
    let weir = Weir::with_files(&config(0), |folder| {
        std::fs::write(folder.join("called.wasm"), component("nop")).unwrap();
    });
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut before, mut after) = (0, 0);
    std::thread::scope(|scope| {
        // Visitors stop also where a reload fails: the test would not end.
        let _stop = AtTheEnd(&done);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = weir.client();
                while !done.load(Ordering::SeqCst) {
                    let number = asked.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(client.get(&format!("/?b={}&a=1", number % 10)).status, 200);
                    // Some hundred a second, which leave the machine time to reload.
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        // Each generation is called before the next one comes.
        let reload = |round: usize| {
            weir.write_config(&config(round));
            let reloaded = weir.admin("POST", "/reload");
            assert_eq!(reloaded.status, 200, "{}", reloaded.text());
            let so_far = asked.load(Ordering::SeqCst);
            eventually("requests pass", || asked.load(Ordering::SeqCst) > so_far + 20);
        };
        // What is taken once, and kept: caches of the allocator, of the engine, of the origin's connections.
        for round in 1..=5 {
            reload(round);
        }
        before = weir.resident_bytes();
        for round in 6..=5 + rounds {
            reload(round);
        }
        after = weir.resident_bytes();
    });
    let (requests, grown) = (asked.load(Ordering::SeqCst), after.saturating_sub(before));
    print(&format!(
        "plugins: {rounds} reloads under load, {requests} requests, 0 failed; {before} bytes before, {after} after"
    ));
    // A generation that stays takes a MiB and more.
    assert!(grown < 24 << 20, "{rounds} reloads left {grown} bytes");
    for plugin in ["p", "q"] {
        let live = weir.metric("plugin_instances_total", &[&format!("plugin=\"{plugin}\"")]);
        assert!((1.0..=2.0).contains(&live), "what was before is gone: {plugin} has {live} instances");
    }
}

/// A model that answers with JSON, or with a stream of events; the count of its answers is in each.
fn model() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        if asked.contains("\"fail\"") {
            return Reply::new(500).body(format!("{number}"));
        }
        if asked.contains("\"stream\":true") {
            return Reply::ok("").header("Content-Type", "text/event-stream").stream(move |chunks| {
                chunks.send(format!("data: {number}\n\n"));
                if asked.contains("\"cut\"") {
                    chunks.cut();
                } else {
                    chunks.send("data: [DONE]\n\n");
                }
            });
        }
        Reply::ok(format!("{{\"n\":{number}}}")).header("Content-Type", "application/json")
    })
}

#[test]
fn equal_conversations_share_an_answer_of_a_model() {
    let origin = model();
    let (url, path) = (origin.url(), built("chat-cache"));
    let weir = Weir::with(&format!(
        "[[route]]\norigin = \"{url}\"\nplugins = [\"chat\"]\ncache = {{ methods = [\"POST\"], override = [\"authorization\"] }}\n\
         [plugin.chat]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"body\", \"header:authorization\"]\nconfig = {{ tenant = {{ credential = \"authorization\" }}, ttl = \"1h\" }}\n"
    ));
    let json = ("Content-Type", "application/json");
    let ask = |tenant: &str, content: &str| {
        weir.ask("POST", "/v1/chat/completions", &[json, ("Authorization", tenant)], content.as_bytes())
    };
    let hello = r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(ask("one", hello).text(), "{\"n\":1}");
    // The same conversation, written otherwise.
    let otherwise =
        r#"{ "messages": [ {"content":"hello","role":"user"} ], "temperature": 0, "model": "m" }"#;
    let shared = ask("one", otherwise);
    assert!(shared.is_hit() && shared.text() == "{\"n\":1}", "{} {}", shared.cache_status(), shared.text());
    // Another tenant, another question, chance: not shared.
    assert_eq!(ask("two", hello).text(), "{\"n\":2}");
    assert_eq!(ask("one", &hello.replace("hello", "bye")).text(), "{\"n\":3}");
    let chance = hello.replace("\"temperature\":0", "\"temperature\":1");
    assert_eq!(
        (ask("one", &chance).text().as_str(), ask("one", &chance).text().as_str()),
        ("{\"n\":4}", "{\"n\":5}")
    );
    assert!(ask("one", hello).is_hit(), "what passes the cache by is no write of what is in it");
    // Content that the origin would read otherwise is other content.
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let headers = [form, ("Authorization", "one")];
    assert!(!weir.ask("POST", "/v1/chat/completions", &headers, hello.as_bytes()).is_hit());
    // Errors are never stored.
    let failing = hello.replace("hello", "fail");
    assert_eq!((ask("one", &failing).status, ask("one", &failing).status), (500, 500));
    assert_eq!(origin.count(), 8);
    // A purge by the model's tag.
    assert_eq!(weir.admin("POST", "/purge?tag=model:m").status, 200);
    assert!(!ask("one", hello).is_hit());
}

#[test]
fn a_stored_stream_is_replayed_as_events_and_one_that_was_cut_is_not_stored() {
    let origin = model();
    let (url, path) = (origin.url(), built("chat-cache"));
    let weir = Weir::with(&format!(
        "[[route]]\norigin = \"{url}\"\nplugins = [\"chat\"]\ncache = {{ methods = [\"POST\"] }}\n\
         [plugin.chat]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"body\"]\nconfig = {{ tenant = \"everybody\" }}\n"
    ));
    let json = ("Content-Type", "application/json");
    let asked = |what: &str| format!(r#"{{"model":"m","temperature":0,"stream":true,"prompt":"{what}"}}"#);
    let whole = |what: &str| weir.ask("POST", "/v1/completions", &[json], asked(what).as_bytes());
    let first = whole("go on");
    let again = whole("go on");
    assert_eq!(first.text(), "data: 1\n\ndata: [DONE]\n\n");
    assert!(again.is_hit() && again.text() == first.text(), "{}", again.cache_status());
    assert_eq!(again.header("content-type"), Some("text/event-stream"));
    for _ in 0..2 {
        let mut client = weir.client();
        client.send(harness::wire::request_bytes(
            "POST",
            "/v1/completions",
            &[json],
            asked("cut").as_bytes(),
        ));
        assert!(client.response("POST").is_err(), "the end that there was not is not made up");
    }
    assert_eq!(origin.count(), 3, "each was fetched anew");
}

#[test]
fn ids_in_what_was_sent_say_what_is_stale() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let reply = Reply::ok(number.to_string());
        match request.path().strip_prefix("/posts/") {
            Some(id) => {
                reply.header("Cache-Control", "max-age=60").header("Surrogate-Key", format!("post:{id}"))
            }
            None => reply,
        }
    });
    let (url, path) = (origin.url(), built("model-invalidation"));
    let weir = Weir::with(&format!(
        "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\nbuffer_body = \"1KiB\"\n[plugin.p]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"body\"]\n\
         [plugin.p.config.model.Post]\nwritten_by = [\"POST /api/posts\"]\npurge = [\"post:{{id}}\"]\njson = {{ id = \"/post/id\" }}\n"
    ));
    let fill = || {
        for id in [1, 2] {
            weir.get(&format!("/posts/{id}"));
        }
    };
    let are_hits = || [1, 2].map(|id| weir.get(&format!("/posts/{id}")).is_hit());
    fill();
    let json = ("Content-Type", "application/json");
    let written = br#"{"post":{"id":1,"title":"new"}}"#;
    assert_eq!(weir.ask("POST", "/api/posts", &[json], written).status, 200);
    assert_eq!(origin.last("/api/posts").body, written, "the origin gets what was sent");
    assert_eq!(are_hits(), [false, true], "the one that was written, and no other");
    fill();
    assert_eq!(are_hits(), [true, true]);
    // What is too long to be read stands for all of them.
    let long = format!(r#"{{"post":{{"id":1,"text":"{}"}}}}"#, "x".repeat(2_000));
    assert_eq!(weir.ask("POST", "/api/posts", &[json], long.as_bytes()).status, 200);
    assert_eq!(are_hits(), [false, false]);
}

#[test]
fn what_a_plugin_says_that_a_request_costs_is_charged() {
    let origin = public();
    let (url, path) = (origin.url(), built("cost-rate"));
    let config = |more: &str, limits: &str| {
        format!(
            "[limit.api]\nkey = \"plugin\"\nrate = \"10/1h\"\nheaders = \"legacy\"\n[limit.chat]\nkey = \"plugin\"\nrate = \"8/1h\"\n\
             [[route]]\norigin = \"{url}\"\nplugins = [\"costs\"]\nlimits = {limits}\n\
             [plugin.costs]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"header:x-api-key\", \"client-ip\", \"body\"]\n{more}\n\
             [[plugin.costs.config.costs]]\nmatch = \"GET /health\"\ncost = 0\n\
             [[plugin.costs.config.costs]]\nmatch = \"/reports/**\"\ncost = 4\n\
             [[plugin.costs.config.costs]]\nmatch = \"POST /chat\"\nbucket = \"chat\"\nand = {{ json = \"/max_tokens\", per = 1000, without = 4000 }}\n"
        )
    };
    let weir = Weir::with(&config("", "[\"api\", \"chat\"]"));
    let get = |target: &str, key: &str| weir.ask("GET", target, &[("X-Api-Key", key)], b"");
    let report = get("/reports/1", "a");
    assert_eq!((report.status, report.headers.all("x-ratelimit-remaining").last()), (200, Some(&"6")));
    let hit = get("/reports/1", "a");
    assert!(hit.is_hit() && hit.headers.all("x-ratelimit-remaining").last() == Some(&"2"), "hits cost, too");
    let refused = get("/reports/2", "a");
    assert_eq!((refused.status, refused.headers.has("retry-after")), (429, true));
    assert_eq!(get("/reports/2", "b").status, 200, "another key pays for itself");
    assert_eq!(get("/page", "a").status, 200, "what costs less may pass");
    for _ in 0..20 {
        assert_eq!(get("/health", "a").status, 200, "what is free is not charged");
    }
    // What it costs stands in the content.
    let chat = |content: &[u8]| weir.ask("POST", "/chat", &[("X-Api-Key", "a")], content).status;
    assert_eq!(chat(b"{\"max_tokens\":2000}"), 200);
    assert_eq!(origin.last("/chat").body, b"{\"max_tokens\":2000}");
    assert_eq!(chat(b"{}"), 200, "1 and 4 of 8, after 1 and 2");
    assert_eq!(chat(b"{}"), 429);
    assert_eq!(get("/page/2", "a").status, 200, "the other bucket is another");
    // A bucket that nobody counts is a mistake, and said before anything changes.
    weir.write_config(&config("", "[\"api\"]"));
    let told = weir.admin("POST", "/reload");
    assert!(told.status >= 400 && told.text().contains("charges `chat`"), "{}", told.text());
    assert_eq!(get("/reports/2", "a").status, 429, "the old generation goes on");
}

/// What `weir plugin replay` says of a log.
fn replay(log: &std::path::Path, old: &str, new: &str, more: &[&str]) -> (bool, String) {
    let log = log.display().to_string();
    let arguments: Vec<&str> =
        ["plugin", "replay", &log, old, new].into_iter().chain(more.iter().copied()).collect();
    let output = harness::weir::run(&arguments);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn recorded_requests_show_what_another_version_would_change() {
    let origin = public();
    let (url, path) = (origin.url(), built("query-normalize"));
    let weir = Weir::with_files(
        &format!(
            "[record]\npath = \"requests.log\"\nplain = [\"header:x-shown\"]\n[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\n"
        ),
        |folder| std::fs::write(folder.join("new.toml"), "drop = [\"page\"]\n").unwrap(),
    );
    let secrets = [
        ("Cookie", "sessionid=s3cret; ab=s3cret"),
        ("Authorization", "Bearer s3cret"),
        ("X-Shown", "shown"),
        ("X-Other", "s3cret"),
    ];
    weir.ask("GET", "/list?page=1&token=s3cret", &secrets, b"");
    weir.get("/list?page=2");
    weir.get("/list?page=3");
    weir.ask("POST", "/list", &secrets, b"s3cret");
    let log = weir.folder().join("requests.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("four records are written", || lines().lines().count() == 4);
    let text = lines();
    assert!(!text.contains("s3cret") && text.contains("shown") && text.contains("sessionid="), "{text}");
    let (same, told) = replay(&log, &path, &path, &[]);
    assert!(same && told.contains("4 requests: 0 change their key"), "{told}");
    let config = weir.folder().join("new.toml").display().to_string();
    let (same, told) = replay(&log, &path, &path, &["--new-config", &config]);
    assert!(!same, "requests that newly meet are a failure: {told}");
    assert!(told.contains("MEET") && told.contains("3 change their key"), "{told}");
    assert!(told.contains("http://") && told.contains("/list?page=2"), "{told}");
    std::fs::write(&log, "{\"at\":1}\n").unwrap();
    let (read, told) = replay(&log, &path, &path, &[]);
    assert!(!read && told.contains("line 1: missing field"), "{told}");
}

#[test]
fn a_plugin_that_does_not_pass_its_tests_is_not_loaded() {
    let origin = public();
    let (url, path) = (origin.url(), built("query-normalize"));
    let config = |tests: &str| {
        format!(
            "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ntests = \"{tests}\"\n"
        )
    };
    let weir = Weir::with_files(&config("good.toml"), |folder| {
        std::fs::write(
            folder.join("good.toml"),
            "[[test]]\nrequest = \"GET /?b=1&a=2\"\nforwarded = \"/?a=2&b=1\"\n",
        )
        .unwrap();
        std::fs::write(
            folder.join("bad.toml"),
            "[[test]]\nname = \"keeps the order\"\nrequest = \"GET /?b=1&a=2\"\nforwarded = \"/?b=1&a=2\"\n",
        )
        .unwrap();
    });
    weir.get("/?b=1&a=2");
    weir.write_config(&config("bad.toml"));
    let refused = weir.admin("POST", "/reload");
    assert!(refused.status >= 400 && refused.text().contains("`keeps the order`"), "{}", refused.text());
    assert!(weir.get("/?a=2&b=1").is_hit(), "the old generation goes on");
}

#[test]
fn attributes_of_a_session_are_told_to_plugins_and_to_the_origin_what_is_in_the_key() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let told = |name: &str| request.header(name).unwrap_or("-").to_owned();
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let reply = Reply::ok(format!("{number} {} {}", told("session-info"), told("session-data")));
        match request.header("x-set") {
            Some(value) => reply.header("Session-Set", value),
            None => reply.header("Cache-Control", "max-age=60"),
        }
    });
    let (url, path) = (origin.url(), built("user-or-tenant-key"));
    let weir = Weir::with(&format!(
        "[data]\npath = \"{{DIR}}/data\"\n[session]\ndurability = \"durable\"\n\
         [[route]]\nmatch = {{ path = \"/login\" }}\norigin = \"{url}\"\nsession = \"write\"\n\
         [[route]]\norigin = \"{url}\"\nsession = \"read\"\nplugins = [\"tier\"]\n\
         [plugin.tier]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"session:tier\"]\nconfig = {{ by = [{{ session = \"tier\" }}] }}\n"
    ));
    let log_in = |set: &str| {
        let answer = weir.ask("GET", "/login", &[("X-Set", set)], b"");
        let cookie = answer.headers.all("set-cookie")[0].split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("__Host-sid="), "{cookie}");
        cookie
    };
    let gold = log_in("tier=\"gold\", name=\"ann\"");
    let also_gold = log_in("tier=\"gold\", name=\"bob\"");
    let silver = log_in("tier=\"silver\"");
    let ask = |cookie: &str| weir.ask("GET", "/page", &[("Cookie", cookie)], b"");
    let first = ask(&gold);
    assert_eq!(first.text(), "4 - tier=\"gold\"", "the origin knows what is in the key, and nothing else");
    let shared = ask(&also_gold);
    assert!(shared.is_hit() && shared.text() == first.text(), "{} {}", shared.cache_status(), shared.text());
    assert_eq!(ask(&silver).text(), "5 - tier=\"silver\"");
    // The plugin reads `1` of both of them, and the origin is told which it is: so they do not meet.
    let (number, text) = (log_in("tier=1"), log_in("tier=\"1\""));
    assert_eq!(ask(&number).text(), "8 - tier=1");
    assert_eq!(ask(&text).text(), "9 - tier=\"1\"");
    assert!(ask(&number).is_hit() && ask(&text).is_hit());
    // Who has no session, or an invented one, shares with others who have none.
    assert_eq!(weir.get("/page").text(), "10 - -");
    let invented = ask("__Host-sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert!(
        invented.is_hit() && invented.text() == "10 - -",
        "{} {}",
        invented.cache_status(),
        invented.text()
    );
}
