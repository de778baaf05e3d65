//! Guests in WebAssembly text, made components of in process, and a host to run them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, UNIX_EPOCH};

use cache_semantics::Now;
use http::HeaderMap;
use plugin_host::decision::Purge;
use plugin_host::{
    Grants, Host, HostOptions, Level, Limits, LoadError, MemoLimits, Plugin, PluginSpec, Request,
    SharedState, Sink,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// What a plugin said beside its decisions.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) lines: Mutex<Vec<(Level, String)>>,
    pub(crate) counts: Mutex<BTreeMap<String, u64>>,
    pub(crate) purges: Mutex<Vec<Purge>>,
}

impl Sink for Heard {
    fn log(&self, _: &str, level: Level, message: &str) {
        self.lines.lock().unwrap().push((level, message.to_owned()));
    }

    fn count(&self, _: &str, name: &str, delta: u64) {
        *self.counts.lock().unwrap().entry(name.to_owned()).or_default() += delta;
    }

    fn request_purge(&self, _: &str, purge: Purge) -> bool {
        self.purges.lock().unwrap().push(purge);
        true
    }
}

/// One host for all tests, as a process has one.
pub(crate) fn host() -> &'static Arc<Host> {
    static HOST: OnceLock<Arc<Host>> = OnceLock::new();
    HOST.get_or_init(|| Host::start(HostOptions::default()).unwrap())
}

/// A guest: the bodies of its functions. What is not given answers with zeros, which stand for the plainest decision there is.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) world: &'static str,
    /// Imports and other items of the module.
    pub(crate) items: String,
    pub(crate) configure: String,
    pub(crate) hook: String,
    /// Data from byte 1024 on, as WebAssembly text has it.
    pub(crate) data: String,
    /// Data of the manifest, from byte 512 on: 48 bytes, and whatever it points to.
    pub(crate) manifest: String,
}

/// What a request hook is given, and the rate hook: the list of inputs, which are of 12 bytes each (whether it is there, where it lies, and its length).
pub(crate) const REQUEST: &str = "i32 i32";
/// What the response hook is given, and the invalidate hook: the inputs; whether there is something carried, where and how long; status, fields and length.
pub(crate) const RESPONSE: &str = "i32 i32 i32 i32 i32 i32 i32 i32 i32 i64";

/// The cases of inputs that have no name.
pub(crate) const PATH: u32 = 3;
pub(crate) const QUERY: u32 = 4;
pub(crate) const ROUTE: u32 = 5;

/// Where a zeroed answer lies.
pub(crate) const ZEROS: &str = "i32.const 16";
/// Where the data lies.
pub(crate) const DATA: &str = "i32.const 1024";

impl Guest {
    pub(crate) fn of(world: &'static str) -> Self {
        Self {
            world,
            items: String::new(),
            configure: "i32.const 512".to_owned(),
            hook: ZEROS.to_owned(),
            data: String::new(),
            manifest: String::new(),
        }
    }

    /// Likewise, with a hook that does this.
    pub(crate) fn hook(world: &'static str, body: &str) -> Self {
        Self { hook: body.to_owned(), ..Self::of(world) }
    }

    /// It says that it is pure. Byte 36 of the result.
    pub(crate) fn pure(self) -> Self {
        self.pure_and_reading(&[])
    }

    /// It says so, and that it reads these: a list at byte 20, whose members lie at 600 and have 20 bytes each, the first of which is the case.
    pub(crate) fn pure_and_reading(mut self, cases: &[u32]) -> Self {
        let count = u32::try_from(cases.len()).unwrap();
        let list = format!("{}{}{}", "\\00".repeat(20), word(600), word(count));
        let pure = format!("{}\\01", "\\00".repeat(36 - 28));
        let inputs: String =
            cases.iter().map(|case| format!("{}{}", word(*case), "\\00".repeat(16))).collect();
        self.manifest = format!("{list}{pure}{}{inputs}", "\\00".repeat(600 - 512 - 37));
        self
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        let (name, params) = match self.world {
            "cache-key" => ("request-hook@0.1.0#on-request", REQUEST),
            "rate-limit" => ("rate-hook@0.1.0#charge", REQUEST),
            "storing" => ("response-hook@0.1.0#on-response", RESPONSE),
            "invalidation" => ("invalidate-hook@0.1.0#on-write", RESPONSE),
            "key-plan" => ("plan-hook@0.1.0#plan", ""),
            other => (other, REQUEST),
        };
        let params = if params.is_empty() { String::new() } else { format!("(param {params})") };
        let text = format!(
            r#"(module
                {items}
                (memory (export "memory") 2)
                (global $heap (mut i32) (i32.const 65536))
                (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                    (global.set $heap (i32.add (local.get $at) (local.get 3)))
                    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
                        (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16)))))
                            (then unreachable))))
                    (local.get $at))
                (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) {configure})
                (func (export "weir:policy/{name}") {params} (result i32) {hook})
                (func (export "cabi_post_weir:policy/{name}") (param i32) (global.set $heap (i32.const 65536)))
                (data (i32.const 512) "{manifest}")
                (data (i32.const 1024) "{data}"))"#,
            items = self.items,
            configure = self.configure,
            hook = self.hook,
            manifest = self.manifest,
            data = self.data,
        );
        component(self.world, &text)
    }

    pub(crate) fn load(&self) -> Result<Arc<Plugin>, LoadError> {
        self.load_with(|_| ())
    }

    pub(crate) fn load_with(&self, change: impl FnOnce(&mut PluginSpec)) -> Result<Arc<Plugin>, LoadError> {
        let mut spec = spec();
        change(&mut spec);
        host().load(&self.wasm(), spec)
    }
}

/// A component of a module that speaks a world of ours.
pub(crate) fn component(world: &str, text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut resolve = Resolve::new();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugin-sdk/wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

pub(crate) fn spec() -> PluginSpec {
    PluginSpec {
        name: "test".into(),
        config: "{}".to_owned(),
        grants: Grants::everything(),
        limits: Limits::default(),
        memo: MemoLimits::default(),
        workers: 2,
        state: Arc::new(SharedState::new(1 << 20)),
        sink: Arc::new(Heard::default()),
        now: now(),
    }
}

pub(crate) fn now() -> Now {
    Now { wall: UNIX_EPOCH, mono: Instant::now() }
}

pub(crate) fn request<'r>(path: &'r str, query: Option<&'r str>, headers: &'r HeaderMap) -> Request<'r> {
    Request {
        method: "GET",
        scheme: "http",
        authority: "a.test",
        path,
        query,
        route: "r",
        headers,
        client_ip: None,
        allowance: None,
        tls_sni: None,
        session: &[],
        content: None,
        now: now(),
    }
}

/// A number as it lies in memory, in WebAssembly text.
pub(crate) fn word(number: u32) -> String {
    number.to_le_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect()
}
