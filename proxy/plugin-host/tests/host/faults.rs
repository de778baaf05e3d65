//! Each way in which a running plugin can fail: by name, within its limits, and without harm to the next call.

use std::time::{Duration, Instant};

use http::HeaderMap;
use plugin_host::{CallError, Limits, LoadError, Plugin, PluginSpec, Request, Response};

use crate::support::{DATA, Guest, ZEROS, now, request, word};

const LOOP: &str = "(loop $l (br $l)) unreachable";
const HOOKS: [&str; 4] = ["cache-key", "rate-limit", "storing", "invalidation"];

/// Calls the one hook that the plugin has.
fn call(plugin: &Plugin, world: &str) -> Result<(), CallError> {
    let headers = HeaderMap::new();
    let request = request("/", None, &headers);
    let response = Response { status: 200, headers: &headers, content_length: None };
    match world {
        "cache-key" => plugin.on_request(0, &request).map(drop),
        "rate-limit" => plugin.charge(0, &request).map(drop),
        "storing" => plugin.on_response(0, &request, None, &response).map(drop),
        _ => plugin.on_write(0, &request, None, &response).map(drop),
    }
}

#[test]
fn an_endless_loop_ends_at_the_deadline_in_each_hook() {
    for world in HOOKS {
        let plugin = Guest::hook(world, LOOP).load().unwrap();
        let limit = Limits::default().time;
        assert_eq!(call(&plugin, world), Err(CallError::Deadline { limit }), "{world}");
        // And again: the instance that looped is gone.
        assert_eq!(call(&plugin, world), Err(CallError::Deadline { limit }), "{world}");
    }
}

#[test]
fn an_endless_loop_at_the_load_refuses_the_plugin() {
    let limits = Limits { configure: Duration::from_millis(20), ..Limits::default() };
    for (guest, hook) in [
        (Guest { configure: LOOP.to_owned(), ..Guest::of("cache-key") }, "configure"),
        // A start function runs before anything else.
        (
            Guest { items: "(start $s) (func $s (loop $l (br $l)))".to_owned(), ..Guest::of("cache-key") },
            "configure",
        ),
        (Guest::hook("key-plan", LOOP), "plan"),
    ] {
        match guest.load_with(|spec| spec.limits = limits) {
            Err(LoadError::Call { hook: failed, source: CallError::Deadline { .. } }) => {
                assert_eq!(failed, hook)
            }
            other => panic!("{hook}: {other:?}"),
        }
    }
}

#[test]
fn a_trap_costs_one_call() {
    // Traps on the first call of each instance only: where the next is answered, it is by another.
    let once = format!(
        "(if (i32.eqz (i32.load8_u (i32.const 900))) (then (i32.store8 (i32.const 900) (i32.const 1)) unreachable)) {ZEROS}"
    );
    for world in HOOKS {
        let plugin = Guest::hook(world, &once).load().unwrap();
        for _ in 0..2 {
            match call(&plugin, world) {
                Err(CallError::Trap { message, backtrace }) => {
                    assert!(message.contains("unreachable"), "{message}");
                    assert!(!backtrace.is_empty());
                }
                other => panic!("{world}: {other:?}"),
            }
        }
        assert_eq!(plugin.stats().instances, 2, "{world}");
    }
}

#[test]
fn a_panic_is_told_in_its_own_words() {
    let mut guest =
        Guest::hook("cache-key", "(call $log (i32.const 4) (i32.const 1024) (i32.const 9)) unreachable");
    guest.items = r#"(import "weir:policy/host@0.1.0" "log" (func $log (param i32 i32 i32)))"#.to_owned();
    guest.data = "it's gone".to_owned();
    let plugin = guest.load().unwrap();
    match call(&plugin, "cache-key") {
        Err(CallError::Trap { message, .. }) => assert_eq!(message, "it's gone"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_memory_bomb_stops_at_the_limit_and_gives_back_what_it_took() {
    let bomb = "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable";
    let plugin = Guest::hook("cache-key", bomb).load().unwrap();
    let limit = Limits::default().memory;
    assert_eq!(call(&plugin, "cache-key"), Err(CallError::Memory { limit }));
    assert_eq!(plugin.stats().memory_bytes, 0);
    // At the start already.
    let mut guest = Guest::of("cache-key");
    guest.items =
        "(start $s) (func $s (if (i32.eq (i32.const -1) (memory.grow (i32.const 1000))) (then unreachable)))"
            .to_owned();
    let refused = guest.load();
    assert!(matches!(refused, Err(LoadError::Call { source: CallError::Memory { .. }, .. })), "{refused:?}");
}

#[test]
fn one_that_leaks_is_replaced_before_it_fails() {
    // A MiB on each call: a fresh one has room for more than ten.
    let leak = format!("(drop (memory.grow (i32.const 16))) {ZEROS}");
    let plugin = Guest::hook("cache-key", &leak).load().unwrap();
    for _ in 0..100 {
        assert_eq!(call(&plugin, "cache-key"), Ok(()));
    }
    assert!((5..20).contains(&plugin.stats().instances), "{}", plugin.stats().instances);
    assert!(plugin.stats().memory_bytes <= 16 << 20);
}

#[test]
fn an_instance_is_replaced_after_so_many_calls() {
    let limits = Limits { calls: 10, ..Limits::default() };
    let plugin = Guest::of("cache-key").load_with(|spec| spec.limits = limits).unwrap();
    for _ in 0..100 {
        assert_eq!(call(&plugin, "cache-key"), Ok(()));
    }
    assert_eq!(plugin.stats().instances, 10);
}

#[test]
fn a_deep_recursion_ends_where_the_stack_does() {
    let mut guest = Guest::hook("cache-key", &format!("(drop (call $deep (i64.const 1))) {ZEROS}"));
    guest.items = "(func $deep (param i64) (result i64) (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))".to_owned();
    let plugin = guest.load().unwrap();
    match call(&plugin, "cache-key") {
        Err(CallError::Trap { message, .. }) => assert!(message.contains("stack"), "{message}"),
        other => panic!("{other:?}"),
    }
}

/// A request decision with so many variants, all of them the same text of so many bytes.
fn variants(count: u32, bytes: u32) -> Guest {
    // Result and decision begin with zeros; the list of variants is at 24, behind the discriminant of the result at 0.
    let mut guest = Guest::hook("cache-key", "(call $fill) i32.const 1024");
    guest.data = format!("{}{}{}", "\\00".repeat(24), word(8192), word(count));
    guest.items = format!(
        r#"(func $fill (local $at i32) (local $left i32)
            (local.set $at (i32.const 8192)) (local.set $left (i32.const {count}))
            (drop (memory.grow (i32.const 200)))
            (loop $l
                (i32.store (local.get $at) (i32.const 65536))
                (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const {bytes}))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $l (local.get $left))))"#
    );
    guest
}

#[test]
fn a_hundred_mebibytes_of_output_are_not_taken() {
    // 100 texts of a MiB, which are one and the same in its memory: nothing but a bound on what is copied stops this.
    let plugin = variants(100, 1 << 20).load().unwrap();
    assert!(matches!(call(&plugin, "cache-key"), Err(CallError::TooMuch { .. })));
    // What can be copied is still too much to be a decision.
    for (count, bytes) in [(33, 1), (32, 129)] {
        let plugin = variants(count, bytes).load().unwrap();
        match call(&plugin, "cache-key") {
            Err(CallError::Invalid(what)) => assert!(what.contains("at most"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(call(&variants(32, 128).load().unwrap(), "cache-key"), Ok(()));
}

#[test]
fn a_million_host_calls_end_at_the_deadline_or_before() {
    let mut guest = Guest::hook(
        "cache-key",
        &format!(
            "(local $n i32) (loop $l (call $log (i32.const 1) (i32.const 1024) (i32.const 1000)) (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000)))) {ZEROS}"
        ),
    );
    guest.items = r#"(import "weir:policy/host@0.1.0" "log" (func $log (param i32 i32 i32)))"#.to_owned();
    guest.data = "x".repeat(1000);
    let heard = std::sync::Arc::new(crate::support::Heard::default());
    let sink = heard.clone();
    let plugin = guest.load_with(|spec| spec.sink = sink).unwrap();
    let result = call(&plugin, "cache-key");
    assert!(matches!(result, Ok(()) | Err(CallError::Deadline { .. })), "{result:?}");
    assert_eq!(heard.lines.lock().unwrap().len(), 16);
}

#[test]
fn bytes_that_are_no_text_and_places_outside_of_its_memory_are_refused() {
    // The key of the decision is at 12: there is one, at 2048, of so many bytes.
    let with_key = |at: u32, len: u32, byte: &str| {
        let mut guest = Guest::hook("cache-key", DATA);
        let before = "\\00".repeat(12);
        let key = format!("\\01\\00\\00\\00{}{}", word(at), word(len));
        guest.data = format!("{before}{key}{}{byte}", "\\00".repeat(1000));
        guest
    };
    let invalid =
        [with_key(2048, 1, "\\ff"), with_key(0xffff_0000, 64, "a"), with_key(0x7fff_0000, 0x7fff_ffff, "a")];
    for guest in invalid {
        let result = call(&guest.load().unwrap(), "cache-key");
        assert!(
            matches!(result, Err(CallError::Invalid(_) | CallError::TooMuch { .. } | CallError::Trap { .. })),
            "{result:?}"
        );
    }
    assert_eq!(call(&with_key(2048, 1, "a").load().unwrap(), "cache-key"), Ok(()));
}

#[test]
fn what_it_says_of_itself_as_a_failure_is_handed_on() {
    let mut guest = Guest::hook("cache-key", DATA);
    // The error of the result is at 8.
    guest.data = format!("\\01{}{}{}no such tenant", "\\00".repeat(7), word(1040), word(14));
    let result = call(&guest.load().unwrap(), "cache-key");
    assert_eq!(result, Err(CallError::Refused("no such tenant".to_owned())));
}

#[test]
fn one_that_keeps_failing_is_not_asked_for_a_while() {
    let plugin = Guest::hook("cache-key", "unreachable").load().unwrap();
    let headers = HeaderMap::new();
    let begin = now();
    let at = |ms| plugin_host::Request {
        now: begin.after(Duration::from_millis(ms)),
        ..request("/", None, &headers)
    };
    for failure in 0..5 {
        assert!(matches!(plugin.on_request(0, &at(failure)), Err(CallError::Trap { .. })));
    }
    assert_eq!(plugin.on_request(0, &at(5)).unwrap_err(), CallError::Open);
    assert_eq!(plugin.on_request(1, &at(500)).unwrap_err(), CallError::Open);
    assert!(matches!(plugin.on_request(0, &at(1_100)), Err(CallError::Trap { .. })));
    assert_eq!(plugin.on_request(0, &at(2_500)).unwrap_err(), CallError::Open);
    let failures = plugin.stats().hooks[1].failures;
    assert_eq!((failures[0], failures[6]), (6, 3));
}

#[test]
fn deadlines_hold_after_the_ticker_has_slept() {
    // It sleeps after a few idle milliseconds: long ago, by the time that the plugin is loaded and called.
    let plugin = Guest::hook("cache-key", LOOP).load().unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(100) {
        std::thread::yield_now();
    }
    assert!(matches!(call(&plugin, "cache-key"), Err(CallError::Deadline { .. })));
}

#[test]
fn no_call_ends_before_its_time_whatever_the_ticker_does_when_it_begins() {
    let limit = Duration::from_millis(5);
    let load = |spec: &mut PluginSpec| spec.limits.time = limit;
    let plugin = Guest::hook("cache-key", LOOP).load_with(load).unwrap();
    let (headers, begin) = (HeaderMap::new(), now());
    for number in 0..40 {
        // Between two looks, shortly after one, and when it is asleep; for the breaker each is long after the one before.
        let waited = Instant::now();
        while waited.elapsed() < Duration::from_micros(number * number * 37) {
            std::thread::yield_now();
        }
        let given =
            Request { now: begin.after(Duration::from_secs(100 * number)), ..request("/", None, &headers) };
        let started = Instant::now();
        assert_eq!(plugin.on_request(0, &given).unwrap_err(), CallError::Deadline { limit });
        assert!(started.elapsed() >= limit, "{number}: {:?}", started.elapsed());
    }
}
