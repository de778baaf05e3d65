//! Two requests share an entry only where each plugin of their route has said so, whatever it reads, and however alike they are.
//!
//! Random plugins, requests that differ in little, four routes of one origin. The plugins are real components: one puts into the key all that it reads, byte
//! by byte; one says that only the presence of each part counts; one gives a random plan. What may share is computed here a second time, from the words of the
//! interface; then the keys of all pairs are compared, both ways: what differs has another key, and what does not has the same.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cache_semantics::key::KeyClass;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use plugin_host::Content;
use proptest::prelude::*;
use wit_component::{ComponentEncoder, StringEncoding};

use super::{Asking, Attribute, Registry, RoutePlugins, Said};
use crate::clock::{Clock, SystemClock};
use crate::config::model::Rewrite;
use crate::request_key::{KeyRule, Presented, PresentedContent, Scratch};
use crate::routes::Bindings;

/// What a plugin reads.
#[derive(Debug, Clone, PartialEq)]
enum Reads {
    Path,
    Query,
    Route,
    Header(&'static str),
    Cookie(&'static str),
    /// All but this.
    CookieNames(&'static str),
    QueryParam(&'static str),
    Session(&'static str),
    ClientIp,
    TlsSni,
    /// The content at `/a`.
    BodyJson,
    BodyDigest,
}

/// What a plugin does.
#[derive(Debug, Clone)]
enum Acts {
    /// The key is all that it reads.
    Echo(Declared),
    /// The key is which of it is there.
    Presence(Declared),
    Plan(Plan),
}

#[derive(Debug, Clone)]
struct Declared {
    inputs: Vec<Reads>,
    /// Whether what it says is remembered.
    pure: bool,
}

#[derive(Debug, Clone)]
struct Plan {
    lower_path: bool,
    keep: Option<Vec<&'static str>>,
    drop: Vec<&'static str>,
    sort: bool,
    headers: Vec<&'static str>,
    cookies: Option<Vec<&'static str>>,
    session: Vec<&'static str>,
}

/// A request: everything that is read of one.
#[derive(Debug, Clone)]
struct Asked {
    path: &'static str,
    query: Option<String>,
    accept: Vec<&'static [u8]>,
    tenant: Vec<&'static [u8]>,
    cookies: Vec<(&'static str, &'static str)>,
    session: Vec<Attribute<'static>>,
    client: Option<IpAddr>,
    sni: Option<&'static str>,
    /// Its place in [`CONTENTS`].
    content: Option<usize>,
}

/// Contents, and what stands in them at `/a`, as canonical JSON.
const CONTENTS: [(&str, Option<&str>); 7] = [
    ("{\"a\":1}", Some("1")),
    ("{ \"a\" : 1 }", Some("1")),
    ("{\"a\":\"1\"}", Some("\"1\"")),
    ("{\"a\":{\"c\":2,\"b\":1}}", Some("{\"b\":1,\"c\":2}")),
    ("{\"b\":1}", None),
    ("no JSON", None),
    ("", None),
];

// ---------------------------------------------------------------- what may share, by the words of the interface

/// What tells the entries of a route apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// Where a plugin has added anything: nothing of one route is another's.
    route: Option<usize>,
    path: String,
    query: Option<String>,
    content: Option<Option<&'static str>>,
    said: Vec<Vec<Vec<Vec<u8>>>>,
}

fn joined(lines: &[&[u8]]) -> Option<Vec<u8>> {
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

impl Asked {
    fn lines(&self, name: &str) -> &[&'static [u8]] {
        match name {
            "accept" => &self.accept,
            "x-tenant" => &self.tenant,
            _ => &[],
        }
    }

    fn read(&self, what: &Reads, route: usize, query: Option<&str>) -> Option<Vec<u8>> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        match what {
            Reads::Path => Some(bytes(self.path)),
            Reads::Query => query.map(bytes),
            Reads::Route => Some(bytes(&format!("r{route}"))),
            Reads::Header(name) => joined(self.lines(name)),
            Reads::Cookie(name) => {
                self.cookies.iter().find(|(given, _)| given == name).map(|(_, value)| bytes(value))
            }
            Reads::CookieNames(except) => {
                let names: BTreeSet<&str> =
                    self.cookies.iter().map(|(name, _)| *name).filter(|name| name != except).collect();
                (!names.is_empty()).then(|| bytes(&names.into_iter().collect::<Vec<_>>().join(" ")))
            }
            Reads::QueryParam(name) => {
                let parts = query?.split('&').filter(|part| !part.is_empty());
                let mut pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
                pairs.find(|(given, _)| given == name).map(|(_, value)| bytes(value))
            }
            Reads::Session(name) => {
                self.session.iter().find(|given| given.name == *name).map(|given| bytes(given.value))
            }
            Reads::ClientIp => self.client.map(|client| bytes(&client.to_string())),
            Reads::TlsSni => self.sni.map(bytes),
            Reads::BodyJson => CONTENTS[self.content?].1.map(bytes),
            // As good as its digest.
            Reads::BodyDigest => self.content.map(|content| bytes(CONTENTS[content].0)),
        }
    }

    /// Whether an attribute is something else than a text: no plugin can tell, and yet what is told of it to the origin differs.
    fn is_item(&self, name: &str) -> u8 {
        u8::from(self.session.iter().any(|given| given.name == name && !given.is_text))
    }

    fn identity(&self, route: usize, plugins: &[&Acts]) -> Identity {
        let mut path = self.path.to_owned();
        let mut query = self.query.clone();
        let mut content = self.content.map(|content| Some(CONTENTS[content].0));
        let mut said = Vec::new();
        for acts in plugins {
            match acts {
                Acts::Echo(declared) | Acts::Presence(declared) => {
                    let inputs = declared.inputs.iter().map(|what| self.read(what, route, query.as_deref()));
                    let is_echo = matches!(acts, Acts::Echo(_));
                    let part = |value: Option<Vec<u8>>| {
                        value.map(|value| if is_echo { value } else { Vec::new() }).into_iter().collect()
                    };
                    let mut parts: Vec<Vec<Vec<u8>>> = inputs.map(part).collect();
                    let kinds = declared.inputs.iter().filter_map(|what| match what {
                        Reads::Session(name) => Some(self.is_item(name)),
                        _ => None,
                    });
                    parts.push(vec![kinds.collect()]);
                    said.push(parts);
                    // Who reads the content and gives a key speaks for the content.
                    let reads_content = declared
                        .inputs
                        .iter()
                        .any(|what| matches!(what, Reads::BodyJson | Reads::BodyDigest));
                    if reads_content {
                        content = content.map(|_| None);
                    }
                }
                Acts::Plan(plan) => {
                    if plan.lower_path {
                        path.make_ascii_lowercase();
                    }
                    query = query.as_deref().and_then(|query| plan.query(query));
                    let lines = plan
                        .headers
                        .iter()
                        .map(|name| self.lines(name).iter().map(|line| line.to_vec()).collect::<Vec<_>>());
                    let cookies = plan.cookies.iter().flatten().map(|name| {
                        let named = self.cookies.iter().filter(|(given, _)| given == name);
                        named.map(|(_, value)| value.as_bytes().to_vec()).collect()
                    });
                    let session = plan.session.iter().map(|name| {
                        let value = self.read(&Reads::Session(name), route, None);
                        value.into_iter().chain([vec![self.is_item(name)]]).collect()
                    });
                    let all: Vec<Vec<Vec<u8>>> = lines.chain(cookies).chain(session).collect();
                    // One that names nothing adds nothing.
                    said.extend((!all.is_empty()).then_some(all));
                }
            }
        }
        Identity { route: (!said.is_empty()).then_some(route), path, query, content, said }
    }
}

impl Plan {
    fn query(&self, query: &str) -> Option<String> {
        let name = |part: &str| part.split('=').next().unwrap_or_default().to_owned();
        let mut parts: Vec<&str> = query.split('&').collect();
        if let Some(keep) = &self.keep {
            parts.retain(|part| !part.is_empty() && keep.contains(&name(part).as_str()));
            if parts.is_empty() {
                return None;
            }
        }
        let before = parts.clone();
        parts.retain(|part| !self.drop.contains(&name(part).as_str()));
        if self.sort {
            parts.sort_by_key(|part| name(part));
        }
        let text = parts.join("&");
        // A query of which nothing is left is none; one that was empty stays.
        (parts == before || !text.is_empty()).then_some(text)
    }
}

// ---------------------------------------------------------------- the plugins, as components

/// Bytes that lie in a component's memory from [`DATA`] on.
#[derive(Default)]
struct Data(Vec<u8>);

const DATA: usize = 4096;

impl Data {
    /// Where it lies, and how long it is.
    fn put(&mut self, bytes: &[u8]) -> (usize, usize) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let at = DATA + self.0.len();
        self.0.extend_from_slice(bytes);
        (at, bytes.len())
    }

    /// A list of texts: where it lies, and how many there are.
    fn texts(&mut self, texts: &[&str]) -> (usize, usize) {
        let places: Vec<u8> = texts.iter().flat_map(|text| pair(self.put(text.as_bytes()))).collect();
        (self.put(&places).0, texts.len())
    }

    /// The inputs of a manifest: each its case, then what belongs to it.
    fn inputs(&mut self, inputs: &[Reads]) -> (usize, usize) {
        let mut all = Vec::new();
        for input in inputs {
            let (case, text) = match input {
                Reads::Path => (3, ""),
                Reads::Query => (4, ""),
                Reads::Route => (5, ""),
                Reads::Header(name) => (6, *name),
                Reads::Cookie(name) => (7, *name),
                Reads::CookieNames(except) => (8, *except),
                Reads::QueryParam(name) => (9, *name),
                Reads::Session(name) => (10, *name),
                Reads::ClientIp => (11, ""),
                Reads::TlsSni => (12, ""),
                Reads::BodyJson => (13, "/a"),
                Reads::BodyDigest => (14, ""),
            };
            all.extend(u32::to_le_bytes(case));
            match input {
                Reads::CookieNames(_) => {
                    all.extend(pair((DATA, 0)));
                    all.extend(pair(self.texts(&[text])));
                }
                _ => {
                    all.extend(pair(self.put(text.as_bytes())));
                    all.extend([0; 8]);
                }
            }
        }
        (self.put(&all).0, inputs.len())
    }
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

fn pair((at, length): (usize, usize)) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&word(at));
    bytes[4..].copy_from_slice(&word(length));
    bytes
}

/// As WebAssembly text has it.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

impl Acts {
    fn component(&self) -> Vec<u8> {
        let mut data = Data::default();
        // The answer of `configure`: that it went well, then the manifest, at 512.
        let mut manifest = [0; 48];
        let mut plan = [0; 64];
        let (world, hook) = match self {
            Self::Echo(declared) | Self::Presence(declared) => {
                manifest[20..28].copy_from_slice(&pair(data.inputs(&declared.inputs)));
                manifest[36] = u8::from(declared.pure);
                // What is said of a part: all of it, or nothing but that it is there.
                let length = |length: &str| match self {
                    Self::Echo(_) => length.to_owned(),
                    _ => "(i32.const 0)".to_owned(),
                };
                let hook = format!(
                    r#"(func (export "weir:policy/request-hook@0.1.0#on-request") (param $input i32) (param $left i32) (result i32)
                        (global.set $out (i32.const 16384))
                        (block $done (loop $next
                            (br_if $done (i32.eqz (local.get $left)))
                            (call $say (i32.load8_u (local.get $input)) (i32.load offset=4 (local.get $input)) {})
                            (local.set $input (i32.add (local.get $input) (i32.const 12)))
                            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                            (br $next)))
                        ;; Of a decision of zeros, which is a plain lookup, the key.
                        (i32.store (i32.const 1036) (i32.const 1))
                        (i32.store (i32.const 1040) (i32.const 16384))
                        (i32.store (i32.const 1044) (i32.sub (global.get $out) (i32.const 16384)))
                        i32.const 1024)
                    (func (export "cabi_post_weir:policy/request-hook@0.1.0#on-request") (param i32) (global.set $heap (i32.const 65536)))"#,
                    length("(i32.load offset=8 (local.get $input))"),
                );
                ("cache-key", hook)
            }
            Self::Plan(said) => {
                // That it went well, and that there is one; then the plan, from the eighth byte on.
                plan[4] = 1;
                plan[8] = u8::from(said.lower_path);
                plan[12] = u8::from(said.keep.is_some());
                plan[16..24].copy_from_slice(&pair(data.texts(said.keep.as_deref().unwrap_or_default())));
                plan[24..32].copy_from_slice(&pair(data.texts(&said.drop)));
                plan[32] = u8::from(said.sort);
                plan[36..44].copy_from_slice(&pair(data.texts(&said.headers)));
                plan[44] = u8::from(said.cookies.is_some());
                plan[48..56].copy_from_slice(&pair(data.texts(said.cookies.as_deref().unwrap_or_default())));
                plan[56..64].copy_from_slice(&pair(data.texts(&said.session)));
                let hook =
                    r#"(func (export "weir:policy/plan-hook@0.1.0#plan") (result i32) i32.const 2048)"#;
                ("key-plan", hook.to_owned())
            }
        };
        let text = format!(
            r#"(module
                (memory (export "memory") 2)
                (global $heap (mut i32) (i32.const 65536))
                (global $out (mut i32) (i32.const 0))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                    (global.set $heap (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (func $byte (param i32)
                    (i32.store8 (global.get $out) (local.get 0))
                    (global.set $out (i32.add (global.get $out) (i32.const 1))))
                (func $digit (param $of i32) (param $shift i32)
                    (call $byte (i32.add (i32.const 97) (i32.and (i32.shr_u (local.get $of) (local.get $shift)) (i32.const 15)))))
                ;; Whether it is there; and if so its length, in four digits, and itself.
                (func $say (param $there i32) (param $at i32) (param $length i32)
                    (if (i32.eqz (local.get $there)) (then (call $byte (i32.const 48)) (return)))
                    (call $byte (i32.const 49))
                    (call $digit (local.get $length) (i32.const 12))
                    (call $digit (local.get $length) (i32.const 8))
                    (call $digit (local.get $length) (i32.const 4))
                    (call $digit (local.get $length) (i32.const 0))
                    (memory.copy (global.get $out) (local.get $at) (local.get $length))
                    (global.set $out (i32.add (global.get $out) (local.get $length))))
                (func (export "weir:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32) i32.const 512)
                {hook}
                (data (i32.const 512) "{}")
                (data (i32.const 2048) "{}")
                (data (i32.const {DATA}) "{}"))"#,
            escaped(&manifest),
            escaped(&plan),
            escaped(&data.0),
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

// ---------------------------------------------------------------- the proxy's side

/// The plugins of each route.
const ROUTES: [&[usize]; 4] = [&[0], &[1], &[0, 1], &[1, 0]];

fn routes(folder: &Path, plugins: &[Acts]) -> Vec<RoutePlugins> {
    let mut text = String::new();
    for (number, acts) in plugins.iter().enumerate() {
        std::fs::write(folder.join(format!("p{number}.wasm")), acts.component()).unwrap();
        text += &format!(
            "[plugin.p{number}]\npath = \"p{number}.wasm\"\nlimits = {{ time = \"20s\", configure = \"20s\" }}\n\
             grants = [\"header:*\", \"cookie:*\", \"cookie-names\", \"session:*\", \"client-ip\", \"tls-sni\", \"body\"]\n"
        );
    }
    for (number, names) in ROUTES.iter().enumerate() {
        let names: Vec<String> = names.iter().map(|name| format!("p{name}")).collect();
        text += &format!(
            "[[route]]\nname = \"r{number}\"\nmatch = {{ path = \"/r{number}/**\" }}\norigin = \"http://127.0.0.1:1\"\nplugins = {names:?}\n"
        );
    }
    let loaded = crate::config::check_text("weir.toml", &text, folder);
    let config = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}")).config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let plugins = Registry::new(None, &Arc::default(), &clock).load(&config, None).unwrap();
    let of = |route: &Arc<crate::config::model::Route>| {
        RoutePlugins::new(&route.name, &route.plugins, &plugins).expect("it names some")
    };
    config.routes.iter().map(of).collect()
}

fn key_of(route: &RoutePlugins, asked: &Asked, said: &mut Said) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    for (name, lines) in [("accept", &asked.accept), ("x-tenant", &asked.tenant)] {
        for line in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(line).unwrap());
        }
    }
    if !asked.cookies.is_empty() {
        let pairs: Vec<String> =
            asked.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        headers.append("cookie", pairs.join("; ").parse().unwrap());
    }
    let content = asked.content.map(|content| Content::new(CONTENTS[content].0.as_bytes(), true));
    let allowance = route.allowance();
    let asking = Asking {
        worker: 0,
        method: &Method::GET,
        scheme: "http",
        authority: "a.test",
        path: asked.path,
        query: asked.query.as_deref(),
        headers: &headers,
        client: asked.client,
        tls_sni: asked.sni,
        session: &asked.session,
        content: content.as_ref(),
        allowance: &allowance,
        now: SystemClock.now(),
    };
    route.before_lookup(&asking, said);
    assert_eq!(said.way, super::Way::Lookup, "no plugin failed");
    let presented = Presented {
        scheme: "http",
        authority: "a.test",
        forwarded_host: None,
        path: asked.path,
        query: asked.query.as_deref(),
        headers: &headers,
        bindings: Bindings::default(),
        shape: Some(&said.shape),
        content: content
            .as_ref()
            .map(|content| PresentedContent { class: KeyClass::Query, digest: content.digest() }),
        session: &[],
        cookie_stays: false,
    };
    let mut scratch = Scratch::default();
    KeyRule::new("one origin".into(), Rewrite::default(), None, 0).key(&presented, &mut scratch);
    scratch.key
}

// ---------------------------------------------------------------- chance

const COOKIES: [&str; 3] = ["ab", "sid", "_ga"];
const PARAMS: [&str; 3] = ["a", "b", "c"];
const HEADERS: [&str; 2] = ["accept", "x-tenant"];

fn one_of<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(all.to_vec())
}

fn some_of(all: &[&'static str]) -> impl Strategy<Value = Vec<&'static str>> + use<> {
    let count = all.len();
    prop::sample::subsequence(all.to_vec(), 0..=count)
}

fn reads() -> impl Strategy<Value = Reads> {
    prop_oneof![
        Just(Reads::Path),
        Just(Reads::Query),
        Just(Reads::Route),
        one_of(&HEADERS).prop_map(Reads::Header),
        one_of(&COOKIES).prop_map(Reads::Cookie),
        one_of(&COOKIES).prop_map(Reads::CookieNames),
        one_of(&PARAMS).prop_map(Reads::QueryParam),
        Just(Reads::Session("tier")),
        Just(Reads::ClientIp),
        Just(Reads::TlsSni),
        Just(Reads::BodyJson),
        Just(Reads::BodyDigest),
    ]
}

fn acts() -> impl Strategy<Value = Acts> {
    let declared = || {
        (prop::collection::vec(reads(), 0..5), any::<bool>())
            .prop_map(|(inputs, pure)| Declared { inputs, pure })
    };
    let plan = (
        any::<bool>(),
        prop::option::of(some_of(&PARAMS)),
        some_of(&PARAMS),
        any::<bool>(),
        some_of(&HEADERS),
        prop::option::of(some_of(&COOKIES)),
        some_of(&["tier"]),
    );
    let plan = plan.prop_map(|(lower_path, keep, drop, sort, headers, cookies, session)| {
        Acts::Plan(Plan { lower_path, keep, drop, sort, headers, cookies, session })
    });
    prop_oneof![4 => declared().prop_map(Acts::Echo), 2 => declared().prop_map(Acts::Presence), 3 => plan]
}

fn asked() -> impl Strategy<Value = Asked> {
    let lines = || {
        let line = one_of(&[&b"a"[..], b"b", b"a, b", b"", b"\xe9", b"\xc3\xa9"]);
        prop::collection::vec(line, 0..3)
    };
    let param = (one_of(&PARAMS), one_of(&["", "=", "=1", "=2"]));
    let query = prop::collection::vec(param.prop_map(|(name, value)| format!("{name}{value}")), 0..4);
    let cookie = (one_of(&COOKIES), one_of(&["1", "2", ""]));
    let clients: [IpAddr; 3] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [0, 0, 0, 0, 0, 0, 0, 1].into()];
    let parts = (
        one_of(&["/P", "/p", "/p/"]),
        prop::option::of(query.prop_map(|parts| parts.join("&"))),
        lines(),
        lines(),
        prop::collection::vec(cookie, 0..4),
        prop::option::of((one_of(&["gold", "g\u{f6}ld", "", "1"]), any::<bool>())),
        prop::option::of(one_of(&clients)),
        prop::option::of(one_of(&["a.test", "b.test"])),
        prop::option::of(0..CONTENTS.len()),
    );
    parts.prop_map(|(path, query, accept, tenant, cookies, tier, client, sni, content)| {
        let tier = tier.map(|(value, is_text)| Attribute { name: "tier", value, is_text });
        let session = tier.into_iter().collect();
        Asked { path, query, accept, tenant, cookies, session, client, sni, content }
    })
}

/// Each request but the first is the one before with one part of another.
fn alike(given: Vec<(usize, Asked)>) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    for (part, other) in given {
        let Some(mut next) = all.last().cloned() else {
            all.push(other);
            continue;
        };
        match part {
            0 => next.path = other.path,
            1 => next.query = other.query,
            2 => next.accept = other.accept,
            3 => next.tenant = other.tenant,
            4 => next.cookies = other.cookies,
            5 => next.session = other.session,
            6 => next.client = other.client,
            7 => next.sni = other.sni,
            _ => next.content = other.content,
        }
        all.push(next);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn entries_are_shared_where_every_plugin_says_so_and_nowhere_else(
        plugins in prop::collection::vec(acts(), 2),
        given in prop::collection::vec((0_usize..9, asked()), 12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let routes = routes(folder.path(), &plugins);
        let mut said = Said::default();
        let mut entries: Vec<(Identity, Vec<u8>, &Asked)> = Vec::new();
        let requests = alike(given);
        // Twice: what is remembered by then is the same as what was said.
        for asked in requests.iter().chain(&requests) {
            for (number, route) in routes.iter().enumerate() {
                let of_route: Vec<&Acts> = ROUTES[number].iter().map(|plugin| &plugins[*plugin]).collect();
                entries.push((asked.identity(number, &of_route), key_of(route, asked, &mut said), asked));
            }
        }
        for (number, (identity, key, asked)) in entries.iter().enumerate() {
            for (other_identity, other_key, other) in &entries[..number] {
                prop_assert_eq!(
                    key == other_key,
                    identity == other_identity,
                    "{:?}\n{:?}\n{:?}\n{:?}", asked, other, identity, other_identity
                );
            }
        }
    }
}
