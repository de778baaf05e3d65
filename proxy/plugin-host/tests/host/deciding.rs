//! What hooks give, and what is remembered of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use plugin_host::decision::{Mode, StoreDecision};
use plugin_host::{CallError, Request, Response};
use proptest::prelude::*;

use crate::support::{DATA, Guest, Heard, PATH, QUERY, REQUEST, RESPONSE, ROUTE, ZEROS, now, request, word};

/// Counts its calls by `counter-add`, and answers with zeros.
fn counting(world: &'static str) -> Guest {
    let mut guest =
        Guest::hook(world, &format!("(call $count (i32.const 1024) (i32.const 5) (i64.const 1)) {ZEROS}"));
    guest.items =
        r#"(import "weir:policy/host@0.1.0" "counter-add" (func $count (param i32 i32 i64)))"#.to_owned();
    guest.data = "calls".to_owned();
    guest
}

#[test]
fn zeros_are_the_plainest_decision_of_each_hook() {
    let headers = HeaderMap::new();
    let request = request("/", None, &headers);
    let response = Response { status: 200, headers: &headers, content_length: Some(1) };
    let decision = Guest::of("cache-key").load().unwrap().on_request(0, &request).unwrap();
    assert_eq!((decision.mode, &decision.key_part), (Mode::Lookup, &None));
    let charges = Guest::of("rate-limit").load().unwrap().charge(0, &request).unwrap();
    assert!(charges.is_empty());
    let stored = Guest::of("storing").load().unwrap().on_response(0, &request, Some("x"), &response).unwrap();
    assert_eq!(stored, StoreDecision::Default);
    let purges = Guest::of("invalidation").load().unwrap().on_write(0, &request, None, &response).unwrap();
    assert!(purges.is_empty());
    // And each has its own hook alone.
    let error = Guest::of("storing").load().unwrap().on_request(0, &request).unwrap_err();
    assert_eq!(error, CallError::NoHook);
}

#[test]
fn a_plan_of_none_leaves_the_request_hook() {
    // A plan that says none, and nothing else to call: it would do nothing.
    assert!(Guest::of("key-plan").load().is_err());
    let mut guest = Guest::hook("key-plan", DATA);
    // The result is fine, and there is a plan at 8 whose path is in lower case.
    guest.data = format!("{}\\01\\00\\00\\00\\01", "\\00".repeat(4));
    let plugin = guest.load().unwrap();
    assert!(plugin.plan().unwrap().lower_path && plugin.hooks().plan && !plugin.hooks().request);
}

#[test]
fn what_a_pure_plugin_said_is_remembered_for_each_worker() {
    let heard = Arc::new(Heard::default());
    let sink = heard.clone();
    let guest = counting("cache-key").pure_and_reading(&[PATH, ROUTE]);
    let plugin = guest.load_with(|spec| spec.sink = sink).unwrap();
    let headers = HeaderMap::new();
    let calls = || heard.counts.lock().unwrap().get("calls").copied().unwrap_or_default();
    for _ in 0..3 {
        plugin.on_request(0, &request("/a", Some("x=1"), &headers)).unwrap();
        // It has not declared the query.
        plugin.on_request(0, &request("/a", Some("x=2"), &headers)).unwrap();
    }
    assert_eq!(calls(), 1);
    plugin.on_request(0, &request("/b", None, &headers)).unwrap();
    plugin.on_request(1, &request("/b", None, &headers)).unwrap();
    let other_route = Request { route: "s", ..request("/b", None, &headers) };
    plugin.on_request(0, &other_route).unwrap();
    assert_eq!(calls(), 4);
    assert_eq!((plugin.stats().memo_hits, plugin.stats().memo_misses), (5, 4));
    // Of a thousand that were remembered, one is asked for again.
    for _ in 0..2_000 {
        plugin.on_request(0, &request("/a", None, &headers)).unwrap();
    }
    assert_eq!((calls(), plugin.stats().memo_mismatches), (6, 0));
}

#[test]
fn one_that_reads_nothing_is_asked_once_for_all_requests() {
    let plugin = counting("cache-key").pure().load().unwrap();
    let headers: HeaderMap = [("accept", "a")]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let first = plugin.on_request(0, &request("/a", Some("x=1"), &HeaderMap::new())).unwrap();
    let other = Request {
        method: "HEAD",
        scheme: "https",
        authority: "b.test",
        route: "s",
        ..request("/b", None, &headers)
    };
    assert!(Arc::ptr_eq(&first, &plugin.on_request(0, &other).unwrap()));
    assert_eq!(plugin.stats().hooks[1].calls, 1);
}

#[test]
fn one_that_is_not_as_pure_as_it_says_is_found_out() {
    // Its mode is a counter's lowest bit.
    let body = "(i32.store8 (i32.const 1032) (i32.and (i32.const 1) (global.get $n))) (global.set $n (i32.add (global.get $n) (i32.const 1))) i32.const 1024";
    let mut guest = Guest::hook("cache-key", body).pure();
    guest.items = "(global $n (mut i32) (i32.const 0))".to_owned();
    let plugin = guest.load().unwrap();
    let headers = HeaderMap::new();
    let mut modes = HashMap::new();
    for _ in 0..2_001 {
        let decision = plugin.on_request(0, &request("/a", None, &headers)).unwrap();
        *modes.entry(format!("{:?}", decision.mode)).or_insert(0) += 1;
    }
    assert_eq!(plugin.stats().memo_mismatches, 2);
    assert_eq!(modes.len(), 2, "{modes:?}");
}

#[test]
fn what_ends_is_remembered_until_it_does() {
    let mut guest = counting("cache-key").pure();
    // `remember-ms` is at 80, of 96 bytes; the answer begins at 1040.
    guest.hook = "(call $count (i32.const 1024) (i32.const 5) (i64.const 1)) i32.const 1040".to_owned();
    guest.data = format!("calls{}\\01{}{}", "\\00".repeat(11 + 80), "\\00".repeat(7), word(1_000));
    let heard = Arc::new(Heard::default());
    let sink = heard.clone();
    let plugin = guest.load_with(|spec| spec.sink = sink).unwrap();
    let (headers, begin) = (HeaderMap::new(), now());
    let at = |ms| Request { now: begin.after(Duration::from_millis(ms)), ..request("/", None, &headers) };
    for ms in [0, 500, 999, 1_000, 1_999] {
        plugin.on_request(0, &at(ms)).unwrap();
    }
    assert_eq!(heard.counts.lock().unwrap()["calls"], 2);
}

#[test]
fn one_that_has_state_is_asked_each_time_and_its_state_is_bounded() {
    // A number more on each call, kept for ever: under a key that is new each time.
    let body = format!(
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))
         (i32.store (i32.const 1024) (i32.or (i32.and (global.get $n) (i32.const 0x7f)) (i32.shl (i32.and (global.get $n) (i32.const 0x3f80)) (i32.const 1))))
         (drop (call $set (i32.const 1024) (i32.const 4) (i32.const 2048) (i32.const 1000) (i32.const 0) (i64.const 0))) {ZEROS}"
    );
    let text = format!(
        r#"(module
            (import "weir:policy/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i64) (result i32)))
            (memory (export "memory") 2)
            (global $n (mut i32) (i32.const 0))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
            (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 512)
            (func (export "weir:policy/request-hook@0.1.0#on-request") (param {REQUEST}) (result i32) {body})
            (func (export "weir:policy/response-hook@0.1.0#on-response") (param {RESPONSE}) (result i32) i32.const 16)
            (func (export "weir:policy/invalidate-hook@0.1.0#on-write") (param {RESPONSE}) (result i32) i32.const 16)
            (data (i32.const 548) "\01"))"#,
    );
    let wasm = crate::support::component("cache-policy", &text);
    let spec = crate::support::spec();
    let state = spec.state.clone();
    let plugin = crate::support::host().load(&wasm, spec).unwrap();
    assert!(plugin.manifest().pure && !plugin.remembers());
    let headers = HeaderMap::new();
    for _ in 0..3_000 {
        plugin.on_request(0, &request("/", None, &headers)).unwrap();
    }
    assert_eq!(plugin.stats().hooks[1].calls, 3_000);
    assert!((500_000..=1 << 20).contains(&state.bytes()), "{}", state.bytes());
}

/// Says the path, which is the first of its inputs, as its key.
fn echoing() -> Guest {
    let body = "(i32.store8 (i32.const 1036) (i32.const 1)) (i32.store (i32.const 1040) (i32.load offset=4 (local.get 0)))
        (i32.store (i32.const 1044) (i32.load offset=8 (local.get 0))) i32.const 1024";
    Guest::hook("cache-key", body).pure_and_reading(&[PATH, QUERY, ROUTE])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Through the whole host, memo and all: what a request is told is what a plugin says of this very request.
    #[test]
    fn no_two_requests_that_read_differently_share_a_decision(
        asked in proptest::collection::vec(("/[a-c]{0,3}", proptest::option::of("[a-c=&]{0,4}"), "[rs]"), 1..40),
    ) {
        let plugin = echoing().load().unwrap();
        let headers = HeaderMap::new();
        let mut said: HashMap<(String, Option<String>, String), Arc<_>> = HashMap::new();
        for (path, query, route) in asked {
            let request = Request { route: &route, ..request(&path, query.as_deref(), &headers) };
            let decision = plugin.on_request(0, &request).unwrap();
            prop_assert_eq!(decision.key.as_deref(), Some(path.as_str()));
            // The very same decision again for the same request, and another one for every other.
            let again = said.entry((path, query, route)).or_insert_with(|| decision.clone());
            prop_assert!(Arc::ptr_eq(again, &decision));
        }
        let distinct = said.len() as u64;
        prop_assert_eq!(plugin.stats().memo_entries, distinct);
        prop_assert_eq!(plugin.stats().hooks[1].calls, distinct);
    }
}
