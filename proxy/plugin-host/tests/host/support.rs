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
    /// Data of the manifest, from byte 512 on: 48 bytes.
    pub(crate) manifest: String,
}

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

    /// It says that it is pure. Byte 37 of the result.
    pub(crate) fn pure(mut self) -> Self {
        self.manifest = format!("{}\\01", "\\00".repeat(37));
        self
    }

    /// It reads the whole query. Byte 36 of the result.
    pub(crate) fn reading_the_query(mut self) -> Self {
        self.manifest = format!("{}\\01\\01", "\\00".repeat(36));
        self
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        let (name, params) = match self.world {
            "cache-key" => ("request-hook@0.1.0#on-request", "i32 ".repeat(15)),
            "rate-limit" => ("rate-hook@0.1.0#charge", "i32 ".repeat(15)),
            "storing" => ("response-hook@0.1.0#on-response", "i32".to_owned()),
            "invalidation" => ("invalidate-hook@0.1.0#on-write", "i32".to_owned()),
            "key-plan" => ("plan-hook@0.1.0#plan", String::new()),
            other => (other, "i32 ".repeat(15)),
        };
        let params = if params.is_empty() { params } else { format!("(param {params})") };
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
