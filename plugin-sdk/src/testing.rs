//! Native tests of a plugin: `cargo test`, with no WebAssembly toolchain at all.
//!
//! [`Tested`] configures a plugin as the host does and shows it requests as the host does: what the manifest does not declare is not there. Clock, log, counters,
//! state and purges are fakes, each test thread its own.
//!
//! ```
//! use serde_json::json;
//! use weir_plugin::testing::{self, Tested};
//! use weir_plugin::{Error, Manifest, Plugin, Request, RequestDecision, RequestHook};
//!
//! struct Bucket;
//!
//! impl Plugin for Bucket {
//!     type Config = weir_plugin::NoConfig;
//!     fn new(_: Self::Config) -> Result<Self, Error> { Ok(Self) }
//!     fn manifest(&self) -> Manifest { Manifest::new().cookie("ab").pure() }
//! }
//!
//! impl RequestHook for Bucket {
//!     fn on_request(&self, request: &Request) -> Result<RequestDecision, Error> {
//!         Ok(RequestDecision::lookup().variant(request.cookie("ab").unwrap_or("a")))
//!     }
//! }
//!
//! let plugin = Tested::<Bucket>::new(json!({})).unwrap();
//! let decision = plugin.on_request(&testing::get("/prices").cookie("ab", "b")).unwrap();
//! assert_eq!(decision.variants, ["b"]);
//! assert!(Tested::<Bucket>::new(json!({ "colour": "red" })).is_err());
//! ```

use std::time::Duration;

use crate::host::Level;
use crate::manifest::{Declared, Input, Manifest};
use crate::{
    Charge, Error, InvalidateHook, KeyPlan, PlanHook, Plugin, Purge, RateHook, RequestDecision, RequestHook,
    ResponseDecision, ResponseHook, query,
};

/// A plugin under test.
pub struct Tested<P> {
    plugin: P,
    manifest: Manifest,
    declared: Declared,
}

// By hand: a plugin need not be `Debug` for `unwrap_err` of what made it.
impl<P> std::fmt::Debug for Tested<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tested").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl<P: Plugin> Tested<P> {
    /// Configures it as an operator would: TOML becomes the same JSON.
    #[expect(clippy::needless_pass_by_value, reason = "json!({…}) is what everybody passes")]
    pub fn new(config: serde_json::Value) -> Result<Self, Error> {
        let plugin = P::new(crate::config::parse(&config.to_string())?)?;
        let manifest = plugin.manifest();
        let declared = manifest.shared();
        Ok(Self { plugin, manifest, declared })
    }

    /// What it declares.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The plugin itself.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// What it says before the lookup.
    pub fn on_request(&self, request: &TestRequest) -> Result<RequestDecision, Error>
    where
        P: RequestHook,
    {
        self.plugin.on_request(&request.seen_through(&self.manifest, &self.declared))
    }

    /// What it says of the origin's response.
    pub fn on_response(
        &self,
        request: &TestRequest,
        carry: Option<&str>,
        response: &TestResponse,
    ) -> Result<ResponseDecision, Error>
    where
        P: ResponseHook,
    {
        let request = request.seen_through(&self.manifest, &self.declared);
        self.plugin.on_response(&request, carry, &response.seen_through(&self.declared))
    }

    /// What it purges after a write.
    pub fn on_write(
        &self,
        request: &TestRequest,
        carry: Option<&str>,
        response: &TestResponse,
    ) -> Result<Vec<Purge>, Error>
    where
        P: InvalidateHook,
    {
        let request = request.seen_through(&self.manifest, &self.declared);
        self.plugin.on_write(&request, carry, &response.seen_through(&self.declared))
    }

    /// What it charges. A bucket that the manifest does not name is an error, as in the host.
    pub fn charge(&self, request: &TestRequest) -> Result<Vec<Charge>, Error>
    where
        P: RateHook,
    {
        let charges = self.plugin.charge(&request.seen_through(&self.manifest, &self.declared))?;
        match charges.iter().find(|charge| !self.manifest.buckets.contains(&charge.bucket)) {
            Some(charge) => {
                Err(Error::new(format!("the manifest does not name the bucket `{}`", charge.bucket)))
            }
            None => Ok(charges),
        }
    }

    /// The key that the host is to make by itself.
    pub fn plan(&self) -> Result<Option<KeyPlan>, Error>
    where
        P: PlanHook,
    {
        self.plugin.plan()
    }
}

/// A request as a client sends it.
///
/// ```
/// use weir_plugin::testing;
///
/// let request = testing::post("http://shop.example/cart?x=1")
///     .header("Accept", "text/html")
///     .cookie("sid", "1")
///     .session("user", "42")
///     .client("203.0.113.7")
///     .json(serde_json::json!({ "item": 7 }));
/// ```
#[derive(Debug, Clone)]
pub struct TestRequest {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    query: Option<String>,
    route: String,
    headers: Vec<(String, String)>,
    session: Vec<(String, String)>,
    client: Option<String>,
    sni: Option<String>,
    body: Vec<u8>,
}

/// A `GET` of a URL, or of a path of `http://localhost`.
///
/// ```
/// let request = weir_plugin::testing::get("/list?page=2");
/// ```
pub fn get(url: &str) -> TestRequest {
    request("GET", url)
}

/// A `POST` likewise.
///
/// ```
/// let request = weir_plugin::testing::post("/cart");
/// ```
pub fn post(url: &str) -> TestRequest {
    request("POST", url)
}

/// A request with any method.
///
/// ```
/// let request = weir_plugin::testing::request("DELETE", "/posts/7");
/// ```
pub fn request(method: &str, url: &str) -> TestRequest {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, target) = match rest.find('/') {
        Some(0) => ("localhost", rest),
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    TestRequest {
        method: method.to_owned(),
        scheme: scheme.to_owned(),
        authority: authority.to_ascii_lowercase(),
        path: path.to_owned(),
        query,
        route: "test".to_owned(),
        headers: Vec::new(),
        session: Vec::new(),
        client: None,
        sni: None,
        body: Vec::new(),
    }
}

impl TestRequest {
    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Adds a cookie.
    #[must_use]
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        let pair = format!("{name}={value}");
        match self.headers.iter_mut().find(|(name, _)| name == "cookie") {
            Some((_, cookies)) => *cookies = format!("{cookies}; {pair}"),
            None => self.headers.push(("cookie".to_owned(), pair)),
        }
        self
    }

    /// Gives the session an attribute.
    #[must_use]
    pub fn session(mut self, name: &str, value: &str) -> Self {
        self.session.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Comes from this address; without it, from `127.0.0.1`.
    #[must_use]
    pub fn client(mut self, address: &str) -> Self {
        self.client = Some(address.to_owned());
        self
    }

    /// Asks for this name in TLS.
    #[must_use]
    pub fn tls_sni(mut self, name: &str) -> Self {
        self.sni = Some(name.to_owned());
        self
    }

    /// Takes this route; without it, `test`.
    #[must_use]
    pub fn route(mut self, name: &str) -> Self {
        self.route = name.to_owned();
        self
    }

    /// Has this content.
    #[must_use]
    pub fn body(mut self, content: &[u8]) -> Self {
        self.body = content.to_vec();
        self
    }

    /// Has this content.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "json!({…}) is what everybody passes")]
    pub fn json(self, content: serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(content.to_string().as_bytes())
    }

    /// What a plugin with this manifest sees of it.
    pub fn seen_by(&self, manifest: &Manifest) -> crate::Request {
        self.seen_through(manifest, &manifest.shared())
    }

    fn seen_through(&self, manifest: &Manifest, declared: &Declared) -> crate::Request {
        declared.request(manifest.inputs.iter().map(|input| self.value(input)).collect())
    }

    fn value(&self, input: &Input) -> Option<String> {
        match input {
            Input::Method => Some(self.method.clone()),
            Input::Scheme => Some(self.scheme.clone()),
            Input::Authority => Some(self.authority.clone()),
            Input::Path => Some(self.path.clone()),
            Input::Query => self.query.clone(),
            Input::Route => Some(self.route.clone()),
            Input::Header(name) => joined(&self.headers, name),
            Input::Cookie(name) => {
                self.cookies().find(|(given, _)| given == name).map(|(_, value)| value.to_owned())
            }
            Input::CookieNames(filter) => {
                let mut names: Vec<_> =
                    self.cookies().map(|(name, _)| name).filter(|name| filter.lets_through(name)).collect();
                names.sort_unstable();
                names.dedup();
                (!names.is_empty()).then(|| names.join(" "))
            }
            Input::QueryParam(name) => {
                self.query.as_deref().and_then(|all| query::first(all, name)).map(str::to_owned)
            }
            Input::Session(name) => {
                self.session.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
            }
            Input::ClientIp => Some(self.client.clone().unwrap_or_else(|| "127.0.0.1".to_owned())),
            Input::TlsSni => self.sni.clone(),
            Input::BodyJson(pointer) => {
                let content: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
                content.pointer(pointer).map(ToString::to_string)
            }
            Input::BodyDigest => Some(crate::digest::sha256_hex(&self.body)),
        }
    }

    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.headers.iter().filter(|(name, _)| name == "cookie");
        lines.flat_map(|(_, value)| value.split(';')).map(str::trim).filter(|pair| !pair.is_empty()).map(
            |pair| {
                // RFC 6265bis: without `=`, the name is empty and all of it is the value.
                pair.split_once('=').unwrap_or(("", pair))
            },
        )
    }
}

/// The head of a response as an origin sends it.
///
/// ```
/// let response = weir_plugin::testing::response(201).header("Location", "/posts/7").content_length(0);
/// ```
#[derive(Debug, Clone)]
pub struct TestResponse {
    status: u16,
    headers: Vec<(String, String)>,
    content_length: Option<u64>,
}

/// A response with this status.
///
/// ```
/// let response = weir_plugin::testing::response(404);
/// ```
pub fn response(status: u16) -> TestResponse {
    TestResponse { status, headers: Vec::new(), content_length: None }
}

impl TestResponse {
    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Says how many bytes follow.
    #[must_use]
    pub fn content_length(mut self, bytes: u64) -> Self {
        self.content_length = Some(bytes);
        self
    }

    /// What a plugin with this manifest sees of it.
    pub fn seen_by(&self, manifest: &Manifest) -> crate::Response {
        self.seen_through(&manifest.shared())
    }

    fn seen_through(&self, declared: &Declared) -> crate::Response {
        let values = declared.response_headers.iter().map(|name| joined(&self.headers, name)).collect();
        declared.response(self.status, values, self.content_length)
    }
}

fn joined(headers: &[(String, String)], name: &str) -> Option<String> {
    let lines: Vec<_> =
        headers.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// What was logged on this thread.
pub fn logged() -> Vec<(Level, String)> {
    fake::with(|host| host.log.clone())
}

/// What was added to a counter on this thread.
pub fn counter(name: &str) -> u64 {
    fake::with(|host| host.counters.get(name).copied().unwrap_or(0))
}

/// What was purged through [`control`](crate::control) on this thread.
pub fn purged() -> Vec<Purge> {
    fake::with(|host| host.purges.clone())
}

/// Moves the clock on, which stands still otherwise.
pub fn advance(time: Duration) {
    fake::with(|host| host.now_ms += crate::milliseconds(time));
}

/// Sets the clock, in milliseconds since 1970. It begins at the start of 2026.
pub fn set_now_ms(now: u64) {
    fake::with(|host| host.now_ms = now);
}

/// Forgets all that happened on this thread.
pub fn reset() {
    fake::with(|host| *host = fake::Host::default());
}

/// Stands in for the proxy.
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "native tests only"))]
pub(crate) mod fake {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use crate::Purge;
    use crate::host::Level;

    /// 2026-01-01T00:00:00Z.
    const START_MS: u64 = 1_767_225_600_000;

    #[derive(Debug)]
    pub(crate) struct Host {
        pub(crate) now_ms: u64,
        pub(crate) log: Vec<(Level, String)>,
        pub(crate) counters: HashMap<String, u64>,
        pub(crate) purges: Vec<Purge>,
        pub(crate) state: HashMap<String, Kept>,
    }

    #[derive(Debug)]
    pub(crate) struct Kept {
        value: Vec<u8>,
        number: i64,
        until_ms: Option<u64>,
    }

    impl Default for Host {
        fn default() -> Self {
            Self {
                now_ms: START_MS,
                log: Vec::new(),
                counters: HashMap::new(),
                purges: Vec::new(),
                state: HashMap::new(),
            }
        }
    }

    thread_local! {
        static HOST: RefCell<Host> = RefCell::default();
    }

    pub(crate) fn with<T>(act: impl FnOnce(&mut Host) -> T) -> T {
        HOST.with(|host| act(&mut host.borrow_mut()))
    }

    impl Host {
        fn alive(&mut self, key: &str) -> Option<&mut Kept> {
            let now = self.now_ms;
            if self.state.get(key).is_some_and(|kept| kept.until_ms.is_some_and(|until| until <= now)) {
                self.state.remove(key);
            }
            self.state.get_mut(key)
        }
    }

    pub(crate) mod host {
        use super::{Level, with};

        pub(crate) fn log(level: Level, message: &str) {
            with(|host| host.log.push((level, message.to_owned())));
        }

        pub(crate) fn now_ms() -> u64 {
            with(|host| host.now_ms)
        }

        pub(crate) fn count(name: &str, delta: u64) {
            with(|host| *host.counters.entry(name.to_owned()).or_default() += delta);
        }
    }

    pub(crate) mod state {
        use std::time::Duration;

        use super::{Kept, with};

        pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
            with(|host| host.alive(key).map(|kept| kept.value.clone()))
        }

        pub(crate) fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> bool {
            with(|host| {
                let until_ms = ttl.map(|ttl| host.now_ms + crate::milliseconds(ttl));
                host.state.insert(key.to_owned(), Kept { value: value.to_vec(), number: 0, until_ms });
                true
            })
        }

        pub(crate) fn add(key: &str, delta: i64, ttl: Option<Duration>) -> i64 {
            with(|host| {
                let until_ms = ttl.map(|ttl| host.now_ms + crate::milliseconds(ttl));
                if let Some(kept) = host.alive(key) {
                    kept.number = kept.number.saturating_add(delta);
                    return kept.number;
                }
                host.state.insert(key.to_owned(), Kept { value: Vec::new(), number: delta, until_ms });
                delta
            })
        }
    }

    pub(crate) mod control {
        use super::{Purge, with};

        pub(crate) fn purge(purge: &Purge) -> bool {
            with(|host| host.purges.push(purge.clone()));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NameFilter;

    #[test]
    fn a_plugin_sees_what_it_declared_as_the_host_shows_it() {
        let filter = NameFilter::all().except(["_ga*"]);
        let manifest = Manifest::new()
            .method()
            .scheme()
            .authority()
            .path()
            .query()
            .route()
            .header("Accept")
            .cookie("sid")
            .cookie_names(filter.clone())
            .query_param("a")
            .session("user")
            .client_ip()
            .tls_sni()
            .body_json("/b")
            .body_digest();
        let request = post("https://Shop.example:8443/x?a=1&a=2")
            .header("accept", "text/html")
            .header("Accept", "text/plain")
            .cookie("sid", "1")
            .cookie("_ga", "2")
            .header("Cookie", "sid=3; theme=dark; theme=light")
            .session("user", "42")
            .tls_sni("shop.example")
            .json(serde_json::json!({ "b": { "z": 1, "a": [true, null] } }));
        let seen = request.seen_by(&manifest);
        assert_eq!((seen.scheme(), seen.authority(), seen.path()), ("https", "shop.example:8443", "/x"));
        assert_eq!((seen.method(), seen.query(), seen.route()), ("POST", Some("a=1&a=2"), "test"));
        assert_eq!(seen.header("ACCEPT"), Some("text/html, text/plain"));
        assert_eq!(seen.cookie("sid"), Some("1"));
        assert_eq!(seen.cookie_names(&filter).collect::<Vec<_>>(), ["sid", "theme"]);
        assert_eq!(seen.query_param("a"), Some("1"));
        assert_eq!(seen.session("user"), Some("42"));
        assert_eq!(seen.client_ip(), Some("127.0.0.1"));
        assert_eq!(seen.tls_sni(), Some("shop.example"));
        assert_eq!(seen.body_json("/b"), Some(r#"{"a":[true,null],"z":1}"#));
        assert_eq!(seen.body_digest().map(str::len), Some(64));
    }

    #[test]
    fn a_cookie_without_a_name_is_one() {
        let filter = NameFilter::all();
        let manifest = Manifest::new().cookie_names(filter.clone());
        let names = |cookies: &str| -> Vec<String> {
            let seen = get("/").header("cookie", cookies).seen_by(&manifest);
            seen.cookie_names(&filter).map(str::to_owned).collect()
        };
        assert_eq!(names("secret"), [""]);
        assert_eq!(names("secret; a=1"), ["", "a"]);
        assert_eq!(names(" ; "), Vec::<String>::new());
    }

    #[test]
    #[should_panic(expected = "the manifest does not declare `.path()`")]
    fn nor_can_what_every_request_has() {
        let _ = get("/x").seen_by(&Manifest::new().method()).path();
    }

    #[test]
    #[should_panic(expected = "the manifest does not declare `.cookie(\"sid\")`")]
    fn what_was_not_declared_cannot_be_read() {
        let _ = get("/").cookie("sid", "1").seen_by(&Manifest::new()).cookie("sid");
    }

    #[test]
    fn state_ends_when_its_time_is_over() {
        assert!(crate::state::set("a", b"1", Some(Duration::from_secs(10))));
        assert_eq!(crate::state::add("n", 1, Some(Duration::from_secs(10))), 1);
        advance(Duration::from_secs(9));
        assert_eq!(crate::state::get("a").as_deref(), Some(&b"1"[..]));
        assert_eq!(crate::state::add("n", 1, Some(Duration::from_secs(10))), 2);
        advance(Duration::from_secs(1));
        assert_eq!(crate::state::get("a"), None);
        assert_eq!(crate::state::add("n", 5, None), 5);
        reset();
        assert_eq!(crate::state::add("n", 5, None), 5);
    }
}
