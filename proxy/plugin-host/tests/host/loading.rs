//! What is refused at the load, and what is said about it.

use std::fs;

use plugin_host::{CallError, Grants, Host, HostOptions, LoadError, PluginSpec};

use crate::support::{Guest, REQUEST, RESPONSE, component, host, spec, word};

fn refused(result: Result<std::sync::Arc<plugin_host::Plugin>, LoadError>) -> (String, String) {
    let error = result.unwrap_err();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    (format!("{error}{cause}"), error.help())
}

#[test]
fn what_is_no_plugin_is_refused_with_what_to_do() {
    let module = wat::parse_str("(module)").unwrap();
    let empty = wat::parse_str("(component)").unwrap();
    let wasi = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#).unwrap();
    let unknown = wat::parse_str(r#"(component (import "weir:policy/sockets@0.1.0" (instance)))"#).unwrap();
    let newer = wat::parse_str(r#"(component (import "weir:policy/host@0.2.0" (instance)))"#).unwrap();
    let no_hook = component(
        "base",
        r#"(module (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
            (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 512))"#,
    );
    let mut broken = empty.clone();
    broken.extend_from_slice(&[0xff; 9]);
    #[rustfmt::skip]
    let cases: [(&[u8], &str, &str); 9] = [
        (b"",             "this is no WebAssembly file",                                 "weir plugin build"),
        (b"#!/bin/sh\n..", "this is no WebAssembly file",                                "weir plugin build"),
        (&module,         "this is a WebAssembly module, and not a component",            "weir plugin build"),
        (&broken,         "it does not compile",                                         "build it again"),
        (&empty,          "it exports no `weir:policy/lifecycle`",                       "weir plugin new"),
        (&wasi,           "it imports `wasi:cli/environment@0.2.0`",                     "wasm32-unknown-unknown"),
        (&unknown,        "it imports `weir:policy/sockets@0.1.0`",                      "`host`, `state`"),
        (&newer,          "it speaks `weir:policy@0.2.0`, and this proxy speaks `weir:policy@0.1`", "build it again"),
        (&no_hook,        "it has no hook",                                              "request-hook"),
    ];
    for (wasm, message, help) in cases {
        let (said, advice) = refused(host().load(wasm, spec()));
        assert!(said.starts_with(message) && advice.contains(help), "{said} / {advice}");
    }
}

/// A guest that reads one input, of a case without or with a text.
fn reading(case: u32, text: &str) -> Guest {
    let mut guest = Guest::of("cache-key");
    // The list of inputs is at 20 of the manifest: one, at 600; an input is a case and a payload of 16 bytes.
    let list = format!("{}{}{}", "\\00".repeat(20), word(600), word(1));
    let input = format!("{}{}{}", word(case), word(640), word(u32::try_from(text.len()).unwrap()));
    let gap = "\\00".repeat(600 - 512 - 28);
    guest.manifest = format!("{list}{gap}{input}{}{text}", "\\00".repeat(640 - 612));
    guest
}

#[test]
fn it_reads_what_is_granted_and_nothing_else() {
    let with = |grants: &[&str], guest: &Guest| {
        let grants = Grants::parse(grants.iter().copied()).unwrap();
        guest.load_with(|spec| spec.grants = grants)
    };
    let header = reading(6, "authorization");
    let (said, help) = refused(with(&["header:*"], &header));
    assert_eq!(said, "it reads `header:authorization`, which is not granted");
    assert_eq!(help, "add \"header:authorization\" to its `grants`, if it may");
    assert!(with(&["header:authorization"], &header).is_ok());
    assert!(with(&[], &reading(7, "ab")).is_err() && with(&["cookie:ab"], &reading(7, "ab")).is_ok());
    // These are in the host's own key anyway: method, scheme, authority, path, query and route, and a parameter.
    for case in [0, 1, 2, 3, 4, 5, 9] {
        assert!(with(&[], &reading(case, "q")).is_ok(), "{case}");
    }
    let (said, _) = refused(with(&["header:*"], &reading(6, "a b")));
    assert_eq!(said, "its manifest is not valid: \"a b\" is no name of a field");
}

#[test]
fn purging_by_itself_has_to_be_granted() {
    let mut guest = Guest::of("full");
    guest.items = r#"(import "weir:policy/control@0.1.0" "request-purge" (func $purge (param i32 i32 i32 i32) (result i32)))"#.to_owned();
    let wasm = component(
        "full",
        &format!(
            r#"(module {} (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
                (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 512)
                (func (export "weir:policy/request-hook@0.1.0#on-request") (param {REQUEST}) (result i32) i32.const 16)
                (func (export "weir:policy/rate-hook@0.1.0#charge") (param {REQUEST}) (result i32) i32.const 16)
                (func (export "weir:policy/response-hook@0.1.0#on-response") (param {RESPONSE}) (result i32) i32.const 16)
                (func (export "weir:policy/invalidate-hook@0.1.0#on-write") (param {RESPONSE}) (result i32) i32.const 16))"#,
            guest.items,
        ),
    );
    let mut without = spec();
    without.grants = Grants::parse(["body"]).unwrap();
    let (said, help) = refused(host().load(&wasm, without));
    assert_eq!(
        (said.as_str(), help.as_str()),
        ("it wants to purge by itself, which is not granted", "add \"control\" to its `grants`")
    );
    let plugin = host().load(&wasm, spec()).unwrap();
    let hooks = plugin.hooks();
    assert!(hooks.request && hooks.response && hooks.invalidate && hooks.rate && !hooks.plan);
    let inspection = host().inspect(&wasm).unwrap();
    assert_eq!(inspection.versions, ["0.1.0"]);
    assert_eq!(inspection.hooks.names(), ["request-hook", "response-hook", "invalidate-hook", "rate-hook"]);
    assert!(inspection.imports_interface("control") && !inspection.imports_interface("state"));
}

#[test]
fn a_configuration_that_it_refuses_is_told_in_its_words() {
    let mut guest = Guest::of("cache-key");
    // The error of the result is at 4.
    guest.manifest =
        format!("\\01\\00\\00\\00{}{}{}`drop` is missing", word(560), word(17), "\\00".repeat(560 - 524));
    let (said, help) = refused(guest.load());
    assert_eq!(said, "`configure` failed: it says: `drop` is missing");
    assert!(help.contains("`config`"), "{help}");
}

#[test]
fn compiled_code_is_taken_from_the_disk_the_second_time() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("compiled");
    let wasm = Guest::of("cache-key").wasm();
    for compilations in [1, 0] {
        let host = Host::start(HostOptions { compiled: Some(directory.clone()) }).unwrap();
        assert!(host.keeps_compiled_code());
        host.load(&wasm, spec()).unwrap();
        assert_eq!(host.compilations(), compilations);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}

#[test]
fn another_configuration_of_what_runs_is_not_compiled_again() {
    let host = Host::start(HostOptions::default()).unwrap();
    let sources: Vec<_> = ["cache-key", "rate-limit", "storing"].map(|world| Guest::of(world).wasm()).into();
    let generation = |config: &str| -> Vec<_> {
        let one =
            |wasm: &Vec<u8>| host.load(wasm, PluginSpec { config: config.to_owned(), ..spec() }).unwrap();
        sources.iter().map(one).collect()
    };
    let mut serving = generation("{}");
    assert_eq!(host.compilations(), 3);
    for number in 0..3 {
        // As in a reload: the new ones are loaded beside those that serve, and replace them.
        serving = generation(&format!("{{\"number\":{number}}}"));
        assert_eq!(host.compilations(), 3, "reload {number}");
    }
    // Code is not kept for what might come: of what does not run any more, only the last is known, and soon that is another.
    drop(serving);
    generation("{}");
    assert_eq!(host.compilations(), 6);
}

#[test]
fn an_instance_that_declares_something_else_than_before_is_not_used() {
    // `pure` is a byte that each instance of a fresh store reads as the time it was made at: a clock at zero says false.
    let mut guest = Guest::hook("cache-key", "unreachable");
    guest.items = r#"(import "weir:policy/host@0.1.0" "now-ms" (func $now (result i64)))"#.to_owned();
    guest.configure =
        "(i32.store8 (i32.const 548) (i64.ne (call $now) (i64.const 0))) i32.const 512".to_owned();
    let plugin = guest.load().unwrap();
    let headers = http::HeaderMap::new();
    let begin = crate::support::now();
    let at = |ms| plugin_host::Request {
        now: begin.after(std::time::Duration::from_millis(ms)),
        ..crate::support::request("/", None, &headers)
    };
    assert!(matches!(plugin.on_request(0, &at(0)), Err(CallError::Trap { .. })));
    assert!(matches!(plugin.on_request(0, &at(5)), Err(CallError::Invalid(_))));
}
