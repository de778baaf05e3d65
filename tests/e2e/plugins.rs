//! Policy plugins in front of a real application: the ones in `plugins/`, and some that fail in every way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Origin, Reply, Weir, eventually};
use wit_component::{ComponentEncoder, StringEncoding};

/// The built component of a plugin in `plugins/`.
fn built(name: &str) -> String {
    format!("{}/../plugins/{name}/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

/// A component whose request hook does this; without anything else it decides nothing.
fn component(hook: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (global $heap (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.get $heap)
                (global.set $heap (i32.add (global.get $heap) (local.get 3))))
            (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 1024)
            (func (export "weir:policy/request-hook@0.1.0#on-request") (param {}) (result i32)
                (global.set $heap (i32.const 4096)) {hook} i32.const 1024))"#,
        "i32 ".repeat(15)
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
    let weir = with_plugin(&origin, &format!("path = \"{path}\""));
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
        &format!("path = \"{path}\"\ngrants = [\"cookie:ab\"]\nconfig = {{ buckets = [\"a\", \"b\"] }}"),
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
            "path = \"{path}\"\ngrants = [\"cookie-names\", \"cookie:django_language\", \"header:authorization\"]\nconfig = {{ preset = \"django\", ttl = \"1m\" }}"
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
            "path = \"{path}\"\ngrants = [\"body\"]\n[plugin.p.config.model.Tool]\nwritten_by = [\"POST /admin/tool/**\"]\npurge = [\"home_page_data_*\"]"
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
        format!("[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\n")
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

/// `WEIR_RELOADS=200` for the whole of it.
#[test]
fn plugins_are_reloaded_under_load_without_a_failed_request() {
    let rounds: usize = std::env::var("WEIR_RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let origin = public();
    let (url, path) = (origin.url(), built("query-normalize"));
    // The configuration of the plugin differs, so that it is loaded anew each time.
    let config = |round: usize| {
        format!(
            "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\nconfig = {{ drop = [\"x{round}\"] }}\n"
        )
    };
    let weir = Weir::with(&config(0));
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = weir.client();
                while !done.load(Ordering::SeqCst) {
                    let number = asked.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(client.get(&format!("/?b={}&a=1", number % 10)).status, 200);
                }
            });
        }
        for round in 1..=rounds {
            weir.write_config(&config(round));
            let reloaded = weir.admin("POST", "/reload");
            assert_eq!(reloaded.status, 200, "{}", reloaded.text());
        }
        eventually("requests pass", || asked.load(Ordering::SeqCst) > 20);
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(weir.metric("plugin_instances_total", &["p"]), 1.0, "what was before is gone");
}
