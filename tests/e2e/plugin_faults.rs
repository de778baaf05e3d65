//! Plugins that fail in every way there is, in front of a real application: the request ends as the operator has chosen, others do not notice, and what
//! was taken comes back. How fast is asked only where somebody asks, for a machine may be busy: with `WEIR_FAULT_MS=30` a request of a plugin that loops must be
//! answered within that time, and with `WEIR_FAULT_P99=1` the others' 99th percentile must stay under twice its value. `scripts/faults.sh` asks both.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Origin, Reply, Weir};
use wit_component::{ComponentEncoder, StringEncoding};

use crate::faults::print;
use crate::plugins::{AtTheEnd, built};

const LOOP: &str = "(loop $l (br $l)) unreachable";
/// What the hooks are given before the lookup: the list of inputs.
const REQUEST: &str = "i32 i32";
/// What they are given after it: the inputs, what was carried, status, fields and length.
const RESPONSE: &str = "i32 i32 i32 i32 i32 i32 i32 i32 i32 i64";
/// An answer of zeros, which is the plainest decision of each hook.
const ZEROS: &str = "i32.const 16";

/// A guest: what its functions do, and what lies in its memory.
#[derive(Default)]
struct Guest {
    /// Imports and other items of its module.
    items: String,
    configure: String,
    hook: String,
    /// From byte 1024 on, as WebAssembly text has it.
    data: String,
    /// The manifest, from byte 512 on.
    manifest: String,
}

impl Guest {
    fn hook(body: &str) -> Self {
        Self { configure: "i32.const 512".to_owned(), hook: body.to_owned(), ..Self::default() }
    }

    fn wasm(&self, world: &str) -> Vec<u8> {
        let (name, params) = match world {
            "cache-key" | "cache-policy" => ("request-hook@0.1.0#on-request", REQUEST),
            "rate-limit" => ("rate-hook@0.1.0#charge", REQUEST),
            "storing" => ("response-hook@0.1.0#on-response", RESPONSE),
            _ => ("invalidate-hook@0.1.0#on-write", RESPONSE),
        };
        let text = format!(
            r#"(module {items}
                (memory (export "memory") 2)
                (global $heap (mut i32) (i32.const 65536))
                (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                    (global.set $heap (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) {configure})
                (func (export "weir:policy/{name}") (param {params}) (result i32) {hook})
                (func (export "cabi_post_weir:policy/{name}") (param i32) (global.set $heap (i32.const 65536)))
                (data (i32.const 512) "{manifest}")
                (data (i32.const 1024) "{data}"))"#,
            items = self.items,
            configure = self.configure,
            hook = self.hook,
            manifest = self.manifest,
            data = self.data,
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut resolve = wit_parser::Resolve::new();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk/wit");
        let (package, _) = resolve.push_path(wit).unwrap();
        let world = resolve.select_world(&[package], Some(world)).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
    }
}

/// A number as it lies in memory.
fn word(number: u32) -> String {
    number.to_le_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// Faults of the request hook: a name, the guest, and the reason under which it is counted.
fn faults() -> Vec<(&'static str, Guest, &'static str)> {
    let deep = "(func $deep (param i64) (result i64) (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    let log = r#"(import "weir:policy/host@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
    let million = format!(
        "(local $n i32) (loop $l (call $log (i32.const 1) (i32.const 1024) (i32.const 1000)) (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000)))) {ZEROS}"
    );
    // A list of a hundred variants, each the same MiB of its memory.
    let output = format!("{}{}{}", "\\00".repeat(24), word(8192), word(100));
    let fill = "(func $fill (local $at i32) (local $left i32)
        (local.set $at (i32.const 8192)) (local.set $left (i32.const 100)) (drop (memory.grow (i32.const 200)))
        (loop $l (i32.store (local.get $at) (i32.const 65536)) (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const 1048576))
            (local.set $at (i32.add (local.get $at) (i32.const 8))) (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $l (local.get $left))))";
    // What is forwarded: there is something at 32; of the query exactly, at 36 and 40, with a text of a line break and a field at 44 and 48.
    let header = "a\\0d\\0aX-Injected: 1";
    let forward = format!(
        "{}\\01\\00\\00\\00\\01\\00\\00\\00\\01\\00\\00\\00{}{}{}{header}",
        "\\00".repeat(32),
        word(1124),
        word(16),
        "\\00".repeat(100 - 52)
    );
    vec![
        ("loop", Guest::hook(LOOP), "deadline"),
        ("trap", Guest::hook("unreachable"), "trap"),
        (
            "memory",
            Guest::hook(
                "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable",
            ),
            "memory",
        ),
        (
            "recursion",
            Guest {
                items: deep.to_owned(),
                ..Guest::hook(&format!("(drop (call $deep (i64.const 1))) {ZEROS}"))
            },
            "trap",
        ),
        (
            "output",
            Guest { items: fill.to_owned(), data: output, ..Guest::hook("(call $fill) i32.const 1024") },
            "too-much",
        ),
        (
            "calls",
            Guest { items: log.to_owned(), data: "x".repeat(1000), ..Guest::hook(&million) },
            "deadline",
        ),
        ("bytes", Guest { data: forward, ..Guest::hook("i32.const 1024") }, "invalid"),
    ]
}

fn public() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let reply = Reply::ok(number.to_string());
        if request.method == "GET" { reply.header("Cache-Control", "public, max-age=60") } else { reply }
    })
}

/// Weir with a route for each fault, and one without any, of which `/good` is stored. `time`: what a call may take whose fault is counted under this reason.
fn beside_faults(origin: &Origin, time: impl Fn(&str) -> &'static str) -> Weir {
    let url = origin.url();
    let mut config = String::from("[server]\nworkers = 2\n");
    for (name, _, reason) in faults() {
        let time = time(reason);
        write!(
            config,
            "[plugin.{name}]\npath = \"{name}.wasm\"\nlimits = {{ time = \"{time}\", configure = \"20s\" }}\n[[route]]\nmatch = {{ path = \"/{name}/**\" }}\norigin = \"{url}\"\nplugins = [\"{name}\"]\n"
        )
        .unwrap();
    }
    write!(config, "[[route]]\norigin = \"{url}\"\n").unwrap();
    let weir = Weir::with_files(&config, |folder| {
        for (name, guest, _) in faults() {
            std::fs::write(folder.join(format!("{name}.wasm")), guest.wasm("cache-key")).unwrap();
        }
    });
    weir.get("/good");
    weir
}

/// The longest that a request of a plugin which never ends may take: what a busy machine needs, or what is asked for.
fn limit() -> Duration {
    let asked = std::env::var("WEIR_FAULT_MS").ok().and_then(|text| text.parse().ok());
    asked.map_or(Duration::from_secs(10), Duration::from_millis)
}

#[test]
fn each_fault_of_a_key_ends_its_request_past_the_cache_and_no_other() {
    let origin = public();
    // Who fails at once shall not fail by being late on a busy machine.
    let weir = beside_faults(&origin, |reason| if reason == "deadline" { "10ms" } else { "5s" });
    let before = weir.resident_bytes();
    for (name, _, reason) in faults() {
        for round in 0..3 {
            let started = Instant::now();
            let answer = weir.get(&format!("/{name}/page"));
            let took = started.elapsed();
            assert_eq!(answer.status, 200, "{name}");
            let status = answer.cache_status().to_owned();
            // A fast machine may make a million calls in time: then it is no fault.
            assert!(
                name == "calls" || status.contains("fwd=bypass; detail=plugin-failed"),
                "{name}: {status}"
            );
            assert!(took < limit(), "{name}, round {round}: {took:?}");
            assert!(weir.get("/good").is_hit(), "{name}: others do not notice");
        }
        if name != "calls" {
            let counted = weir.metric("plugin_failures_total", &[&format!("plugin=\"{name}\""), reason]);
            assert_eq!(counted, 3.0, "{name}: {reason}\n{}", weir.metrics());
        }
    }
    let memory = weir.metric("plugin_memory_bytes", &[]);
    assert!(memory < 8e6, "instances that failed have given back their memory: {memory}");
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    for request in origin.requests() {
        assert!(!request.headers.has("x-injected"), "{request:?}");
    }
}

/// Three visitors with a hundred requests a second each for what is stored, for so long. Returns the 99th percentile of what an answer took.
fn p99_of_visitors(weir: &Weir, time: Duration) -> Duration {
    let taken = Mutex::new(Vec::new());
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = weir.client();
                let mut turn = Instant::now();
                while turn < end {
                    // Paced, and late where it was late: what waits for its turn is not measured.
                    std::thread::sleep(turn.saturating_duration_since(Instant::now()));
                    let asked = Instant::now();
                    assert!(client.get("/good").is_hit());
                    taken.lock().unwrap().push(asked.elapsed());
                    turn += Duration::from_millis(10);
                }
            });
        }
    });
    let mut taken = taken.into_inner().unwrap();
    taken.sort();
    taken[taken.len() * 99 / 100]
}

#[test]
fn others_go_on_while_plugins_fail() {
    let is_strict = std::env::var_os("WEIR_FAULT_P99").is_some();
    let time = Duration::from_secs(if is_strict { 20 } else { 1 });
    // Longer than any of this takes.
    let origin = Origin::start(|_| Reply::ok("page").header("Cache-Control", "public, max-age=86400"));
    let weir = beside_faults(&origin, |_| "10ms");
    let mut calm = p99_of_visitors(&weir, time);
    let beside = |name: &str| {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let bad = scope.spawn(|| {
                let mut client = weir.client();
                let mut asked = 0_u64;
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(client.get(&format!("/{name}/page")).status, 200);
                    asked += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                asked
            });
            let failed = {
                let _stop = AtTheEnd(&done);
                p99_of_visitors(&weir, time)
            };
            (failed, bad.join().unwrap())
        })
    };
    for (name, _, _) in faults() {
        // What strangers on the machine do to one attempt they do not do to all.
        for left in (0..5).rev() {
            let (failed, asked) = beside(name);
            print(&format!(
                "p99 of others: {calm:?}, and {failed:?} with {asked} requests of a plugin with the fault `{name}`"
            ));
            assert!(asked > 0);
            if !is_strict || failed < calm * 2 {
                break;
            }
            assert!(left > 0, "{name}: {failed:?}, and {calm:?} before");
            calm = calm.min(p99_of_visitors(&weir, time));
        }
    }
}

#[test]
fn a_loop_in_any_other_hook_takes_the_safe_way_of_that_hook() {
    let origin = public();
    let url = origin.url();
    // The manifest of the one that charges: its buckets are at 40: one, whose text is at 640.
    let buckets = format!(
        "{}{}{}{}{}{}{}api",
        "\\00".repeat(40),
        word(600),
        word(1),
        "\\00".repeat(600 - 512 - 48),
        word(640),
        word(3),
        "\\00".repeat(640 - 608)
    );
    let weir = Weir::with_files(
        &format!(
            "[limit.api]\nkey = \"plugin\"\nrate = \"2/1h\"\n\
             [plugin.rate]\npath = \"rate-limit.wasm\"\nlimits = {{ configure = \"20s\" }}\n[plugin.store]\npath = \"storing.wasm\"\nlimits = {{ configure = \"20s\" }}\n\
             [plugin.write]\npath = \"invalidation.wasm\"\nlimits = {{ configure = \"20s\" }}\n\
             [[route]]\nmatch = {{ path = \"/rate/**\" }}\norigin = \"{url}\"\nplugins = [\"rate\"]\nlimits = [\"api\"]\n\
             [[route]]\nmatch = {{ path = \"/store/**\" }}\norigin = \"{url}\"\nplugins = [\"store\"]\n\
             [[route]]\nmatch = {{ path = \"/write/**\" }}\norigin = \"{url}\"\nplugins = [\"write\"]\n[[route]]\norigin = \"{url}\"\n"
        ),
        |folder| {
            for world in ["rate-limit", "storing", "invalidation"] {
                let mut guest = Guest::hook(LOOP);
                if world == "rate-limit" {
                    guest.manifest = buckets.clone();
                }
                std::fs::write(folder.join(format!("{world}.wasm")), guest.wasm(world)).unwrap();
            }
        },
    );
    let within = |what: &str, ask: &dyn Fn() -> u16| {
        let started = Instant::now();
        let status = ask();
        assert!(started.elapsed() < limit(), "{what}: {:?}", started.elapsed());
        status
    };
    // What cannot be judged is not stored.
    let answer = weir.get("/store/page");
    assert!(answer.cache_status().contains("detail=plugin-failed"), "{}", answer.cache_status());
    let again = weir.get("/store/page");
    assert!(again.status == 200 && !again.is_hit(), "{}", again.cache_status());
    // A write that nobody has judged: the URL is gone, and all of the route is stale.
    weir.get("/write/one");
    weir.get("/write/two");
    assert!(weir.get("/write/one").is_hit() && weir.get("/write/two").is_hit());
    assert_eq!(within("write", &|| weir.ask("POST", "/write/one", &[], b"x").status), 200);
    assert!(!weir.get("/write/one").is_hit() && !weir.get("/write/two").is_hit());
    // Who cannot be charged by what the plugin says is charged by address.
    assert_eq!(within("rate", &|| weir.get("/rate/1").status), 200);
    assert_eq!(weir.get("/rate/2").status, 200);
    assert_eq!(weir.get("/rate/3").status, 429, "two are the quota of an address");
    for (plugin, hook) in [("rate", "rate"), ("store", "response"), ("write", "invalidate")] {
        let labels = [&*format!("plugin=\"{plugin}\""), &*format!("hook=\"{hook}\""), "deadline"];
        assert!(weir.metric("plugin_failures_total", &labels) >= 1.0, "{plugin}\n{}", weir.metrics());
    }
}

#[test]
fn all_hooks_of_a_request_together_have_a_bound() {
    let origin = public();
    let url = origin.url();
    let mut config = String::from("[server]\nworkers = 1\n");
    let names: Vec<String> = (0..8).map(|number| format!("p{number}")).collect();
    for name in &names {
        write!(config, "[plugin.{name}]\npath = \"loop.wasm\"\nlimits = {{ configure = \"20s\" }}\n")
            .unwrap();
    }
    write!(config, "[[route]]\norigin = \"{url}\"\nplugins = {names:?}\n").unwrap();
    let weir = Weir::with_files(&config, |folder| {
        std::fs::write(folder.join("loop.wasm"), Guest::hook(LOOP).wasm("cache-key")).unwrap();
    });
    let answer = weir.get("/");
    assert!(answer.cache_status().contains("detail=plugin-failed"), "{}", answer.cache_status());
    // Each may take 10 ms, and all together 25: the first two do, one has what is left, and the others are not asked.
    let of = |reason: &str| weir.metric("plugin_failures_total", &[&format!("reason=\"{reason}\"")]);
    assert_eq!(of("deadline") + of("allowance"), 8.0);
    assert!(of("allowance") >= 5.0, "{}", weir.metrics());
}

#[test]
fn what_fails_at_the_load_is_refused_with_what_to_do_and_the_old_one_goes_on() {
    let origin = public();
    let (url, path) = (origin.url(), built("query-normalize"));
    let config = |path: &str| {
        format!(
            "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\nlimits = {{ configure = \"50ms\" }}\n"
        )
    };
    let weir = Weir::with_files(&config(&path), |folder| {
        let write = |name: &str, wasm: Vec<u8>| std::fs::write(folder.join(name), wasm).unwrap();
        let looping = Guest { configure: LOOP.to_owned(), ..Guest::hook(ZEROS) };
        write("loop.wasm", looping.wasm("cache-key"));
        write("module.wasm", wat::parse_str("(module)").unwrap());
        write(
            "wasi.wasm",
            wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#).unwrap(),
        );
        write(
            "newer.wasm",
            wat::parse_str(r#"(component (import "weir:policy/host@0.2.0" (instance)))"#).unwrap(),
        );
        let greedy = "(start $s) (func $s (if (i32.eq (i32.const -1) (memory.grow (i32.const 1000))) (then unreachable)))";
        let guest = Guest { items: greedy.to_owned(), ..Guest::hook(ZEROS) };
        write("greedy.wasm", guest.wasm("cache-key"));
    });
    weir.get("/?b=1&a=2");
    for (file, why, help) in [
        ("loop.wasm", "it took longer than 50 ms", "configure"),
        ("module.wasm", "a WebAssembly module, and not a component", "weir plugin build"),
        ("wasi.wasm", "it imports `wasi:cli/environment@0.2.0`", "wasm32-unknown-unknown"),
        ("newer.wasm", "it speaks `weir:policy@0.2.0`", "build it again"),
        ("greedy.wasm", "bytes of memory", "limits"),
    ] {
        weir.write_config(&config(file));
        let refused = weir.admin("POST", "/reload");
        let told = refused.text();
        assert!(refused.status >= 400 && told.contains(why) && told.contains(help), "{file}: {told}");
        assert!(weir.get("/?a=2&b=1").is_hit(), "{file}: the old generation goes on");
    }
}

#[test]
fn what_a_plugin_keeps_for_ever_is_bounded() {
    let origin = public();
    let url = origin.url();
    // On each request a value of 4 KiB under a name of its own: a counter in its memory, eight letters long. And 64 KiB more of its own memory.
    let keeps = "(i64.store (i32.const 2000) (i64.add (i64.load (i32.const 2000)) (i64.const 1)))
        (i64.store (i32.const 2000) (i64.or (i64.load (i32.const 2000)) (i64.const 0x2020202020202020)))
        (i64.store (i32.const 2000) (i64.and (i64.load (i32.const 2000)) (i64.const 0x7f7f7f7f7f7f7f7f)))
        (drop (memory.grow (i32.const 1)))
        (drop (call $set (i32.const 2000) (i32.const 8) (i32.const 4096) (i32.const 4096) (i32.const 0) (i64.const 0)))
        i32.const 16";
    let mut guest = Guest::hook(keeps);
    guest.items = format!(
        r#"(import "weir:policy/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i64) (result i32)))
        (func (export "weir:policy/response-hook@0.1.0#on-response") (param {RESPONSE}) (result i32) i32.const 16)
        (func (export "weir:policy/invalidate-hook@0.1.0#on-write") (param {RESPONSE}) (result i32) i32.const 16)"#
    );
    let weir = Weir::with_files(
        &format!(
            "[server]\nworkers = 1\n[plugin.p]\npath = \"keeps.wasm\"\nlimits = {{ state = \"256KiB\", time = \"5s\", configure = \"20s\" }}\n[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n"
        ),
        |folder| std::fs::write(folder.join("keeps.wasm"), guest.wasm("cache-policy")).unwrap(),
    );
    let mut client = weir.client();
    client.get("/");
    let before = weir.resident_bytes();
    for _ in 0..2_000 {
        let answer = client.get("/");
        assert!(answer.is_hit(), "{}", answer.cache_status());
    }
    let grown = weir.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "2,000 requests kept {grown} bytes");
    assert!(weir.metric("plugin_instances_total", &["p"]) > 3.0, "one that leaks is replaced");
    assert_eq!(weir.metric("plugin_failures_total", &[]), 0.0);
}

#[test]
fn the_plugin_in_c_runs_in_the_proxy() {
    let origin = public();
    let (url, path) = (origin.url(), built("device-class"));
    let weir = Weir::with(&format!(
        "[[route]]\norigin = \"{url}\"\nplugins = [\"p\"]\n[plugin.p]\npath = \"{path}\"\nlimits = {{ time = \"5s\", configure = \"20s\" }}\ngrants = [\"header:user-agent\"]\n"
    ));
    let ask = |agent: &str| weir.ask("GET", "/", &[("User-Agent", agent)], b"").text();
    assert_eq!(ask("Mozilla/5.0 (iPhone) Mobile"), "1");
    assert_eq!(ask("Mozilla/5.0 (X11; Linux)"), "2");
    assert_eq!((ask("Other iPhone Mobile").as_str(), ask("Firefox").as_str()), ("1", "2"));
    assert_eq!(weir.metric("plugin_failures_total", &[]), 0.0, "{}", weir.metrics());
}
