//! The admin listener: health, readiness, metrics, purge and reload.
//!
//! It is never the data port. With a token, everything but health wants it (`Authorization: Bearer`). Without one, only loopback peers are answered,
//! and only requests that a web page in the operator's own browser cannot have made: the `Host` must be a loopback name (a page whose name was
//! rebound to 127.0.0.1 has another), and what changes something needs a JSON content type or a `Weir-Admin` field, which a
//! page of another origin cannot send without asking first (Fetch §3.2.1).

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::model::Secret;
use crate::config::units::parse_duration;
use crate::drill::{self, Fault};
use crate::metrics::{Metrics, Readings};
use crate::purge::Receipt;
use crate::purge::order::Order;
use crate::session::cookie::Handle;
use crate::session::values::{ValueAsk, ValueSaid};

/// What the admin listener asks of the proxy.
pub trait Control: Send + Sync + 'static {
    /// Whether requests are served as well as they can be.
    fn readiness(&self) -> Readiness;

    /// Makes stored responses unusable: here at once, elsewhere as far as is waited for.
    fn purge(self: Arc<Self>, order: Order) -> Purging;

    /// Looks at sessions, or ends them.
    fn sessions(self: Arc<Self>, _ask: SessionAsk) -> Asking {
        Box::pin(std::future::ready(Err("there are no sessions here".to_owned())))
    }

    /// What an origin asks about a value of a session, with the token that it was given.
    fn value(self: Arc<Self>, _token: String, _name: String, _ask: ValueAsk) -> AskingValue {
        Box::pin(std::future::ready(ValueSaid::Denied))
    }

    /// A summary for people and dashboards: caches, origins and their servers.
    fn status(&self) -> serde_json::Value;

    /// What is counted or held elsewhere than in [`Metrics`].
    fn readings(&self, into: &mut Readings);
}

/// What is asked of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionAsk {
    /// All, or those of somebody.
    List {
        /// Whose.
        user: Option<String>,
    },
    /// One.
    Show(Handle),
    /// End one.
    Kill(Handle),
    /// End all of somebody.
    KillUser(String),
}

/// What comes of asking about a value.
pub type AskingValue = Pin<Box<dyn Future<Output = ValueSaid> + Send>>;

/// What comes of it.
pub type Asking = Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send>>;

/// How well requests are served. Degraded is not an error: everything is answered, but with something missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What is missing, each a sentence such as "origin `app`: no healthy server". Empty: ready.
    pub degraded: Vec<String>,
}

/// What comes of a purge: its receipt, and from when on nothing older is served here.
pub type Purging = Pin<Box<dyn Future<Output = Result<(Receipt, SystemTime), PurgeError>> + Send>>;

/// Why a purge was refused.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// A name that the configuration does not have.
    #[error("there is no {kind} called `{name}`")]
    Unknown {
        /// What it would be.
        kind: &'static str,
        /// What was given.
        name: String,
    },
}

/// Reads the configuration again; says what came of it.
pub type Reload = Arc<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;

/// A reload that took effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is allowed and hardly meant, and what only a new start changes.
    pub warnings: Vec<String>,
}

/// Everything the listener needs.
pub struct Admin {
    control: Arc<dyn Control>,
    metrics: Arc<Metrics>,
    reload: Reload,
    token: ArcSwapOption<TokenDigest>,
    draining: AtomicBool,
    started: Instant,
}

/// The SHA-256 of the token: comparing digests tells nothing about how much of a guess was right.
struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// Connections at a time: people and probes, not the public.
const CONNECTIONS_MAX: usize = 64;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
const BODY_BYTES_MAX: usize = 64 << 10;

impl Admin {
    /// Nothing is answered yet.
    pub fn new(
        control: Arc<dyn Control>,
        metrics: Arc<Metrics>,
        reload: Reload,
        token: Option<&Secret>,
    ) -> Self {
        let admin = Self {
            control,
            metrics,
            reload,
            token: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
        };
        admin.set_token(token);
        admin
    }

    /// Changes the token.
    pub fn set_token(&self, token: Option<&Secret>) {
        self.token.store(token.map(|Secret(token)| Arc::new(TokenDigest::of(token.as_bytes()))));
    }

    /// From now on `/readyz` says 503, so that whoever balances load in front looks elsewhere.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Answers for as long as the listener lives.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, peer)) = listener.accept().await else {
                // No descriptor is left, most likely; the data port has the same trouble and counts it.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let admin = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(request, peer).await) }
                });
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // How a connection ends is its client's business.
                let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
                drop(place);
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answered {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if path == SESSION_VALUE {
            return self.value(&parts, body).await;
        }
        let is_asked = |(known, method, _): &&(&str, Method, bool)| {
            *known == path && (path != DRILL || *method == parts.method)
        };
        let known = |(known, ..): &&(&str, Method, bool)| *known == path;
        let endpoint = ENDPOINTS.iter().find(is_asked).or_else(|| ENDPOINTS.iter().find(known));
        let Some((_, method, open)) = endpoint else {
            let known = ENDPOINTS.map(|(path, ..)| path).join(", ");
            return problem(StatusCode::NOT_FOUND, "no such endpoint", &format!("there are {known}"));
        };
        let fits = parts.method == *method || (*method == Method::GET && parts.method == Method::HEAD);
        if !fits {
            let detail = format!("`{path}` wants {method}");
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "wrong method", &detail);
            answer.headers_mut().extend(HeaderValue::try_from(method.as_str()).map(|method| (ALLOW, method)));
            return answer;
        }
        if let Err(refusal) = self.admit(&parts.headers, peer.ip(), *open, *method == Method::POST) {
            return *refusal;
        }
        match path {
            "/healthz" => json_answer(StatusCode::OK, &json!({ "status": "alive" })),
            "/readyz" => self.readyz(),
            "/metrics" => self.metrics_page(),
            "/status" => self.status(),
            "/purge" => self.purge(&parts.uri, body).await,
            DRILL if parts.method == Method::POST => drill(&parts.uri, peer),
            DRILL => json_answer(StatusCode::OK, &drill::report()),
            "/sessions" => self.sessions(&parts.uri, false).await,
            "/sessions/kill" => self.sessions(&parts.uri, true).await,
            _ => self.reload().await,
        }
    }

    /// Whether this request may be answered.
    fn admit(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        open: bool,
        changes: bool,
    ) -> Result<(), Box<Answered>> {
        let refuse = |status, title, detail| Err(Box::new(problem(status, title, detail)));
        if let Some(expected) = &*self.token.load() {
            if open || bearer(headers).is_some_and(|given| TokenDigest::of(given).0.ct_eq(&expected.0).into())
            {
                return Ok(());
            }
            let detail = "send `Authorization: Bearer TOKEN` with the token of `[admin]`";
            let mut answer = problem(StatusCode::UNAUTHORIZED, "the token is missing or wrong", detail);
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(Box::new(answer));
        }
        if !peer.to_canonical().is_loopback() {
            let detail = "without a token only this machine is answered: set `token` in `[admin]`";
            return refuse(StatusCode::FORBIDDEN, "not from here", detail);
        }
        if open {
            return Ok(());
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        if hosts.next().is_some() || !host.is_some_and(is_loopback_name) {
            let detail = "without a token `Host` must be `localhost` or a loopback address";
            return refuse(StatusCode::FORBIDDEN, "not under this name", detail);
        }
        if changes && !headers.contains_key("weir-admin") && !is_json(headers) {
            let detail = "without a token send `Content-Type: application/json`, or a field `Weir-Admin: 1`";
            return refuse(StatusCode::FORBIDDEN, "a web page could have sent this", detail);
        }
        Ok(())
    }

    fn readyz(&self) -> Answered {
        if self.draining.load(Ordering::Relaxed) {
            let body = json!({ "status": "draining", "reasons": ["the server is stopping"] });
            let mut answer = json_answer(StatusCode::SERVICE_UNAVAILABLE, &body);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return answer;
        }
        let Readiness { degraded } = self.control.readiness();
        let status = if degraded.is_empty() { "ready" } else { "degraded" };
        json_answer(StatusCode::OK, &json!({ "status": status, "reasons": degraded }))
    }

    fn metrics_page(&self) -> Answered {
        let mut readings = Readings::default();
        self.control.readings(&mut readings);
        let page = self.metrics.render(&readings);
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        answer(StatusCode::OK, kind, page)
    }

    fn status(&self) -> Answered {
        let mut status = self.control.status();
        if let Some(object) = status.as_object_mut() {
            object.insert("uptime_seconds".to_owned(), self.started.elapsed().as_secs().into());
            object.insert("connections".to_owned(), self.metrics.connections_open().into());
            object.insert("draining".to_owned(), self.draining.load(Ordering::Relaxed).into());
        }
        json_answer(StatusCode::OK, &status)
    }

    async fn purge(&self, uri: &Uri, body: Incoming) -> Answered {
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                return problem(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the content is too large",
                    "64 KiB are enough",
                );
            }
        };
        let order = match Order::parse(uri.query(), &body) {
            Ok(order) => order,
            Err(detail) => return problem(StatusCode::BAD_REQUEST, "nothing to purge", &detail),
        };
        let what = order.to_json();
        match Arc::clone(&self.control).purge(order).await {
            Ok((receipt, at)) => purge_answer(&what, &receipt, at),
            Err(error) => problem(StatusCode::BAD_REQUEST, "nothing to purge", &error.to_string()),
        }
    }

    async fn sessions(&self, uri: &Uri, kill: bool) -> Answered {
        let query = uri.query().unwrap_or_default();
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
        };
        let handle = match value("handle").map(|text| Handle::from_hex(&text)) {
            Some(None) => {
                let detail = "a handle has 64 hexadecimal digits, as `/sessions` shows it";
                return problem(StatusCode::BAD_REQUEST, "this is not a handle", detail);
            }
            handle => handle.flatten(),
        };
        let ask = match (kill, handle, value("user")) {
            (false, Some(handle), None) => SessionAsk::Show(handle),
            (false, None, user) => SessionAsk::List { user },
            (true, Some(handle), None) => SessionAsk::Kill(handle),
            (true, None, Some(user)) => SessionAsk::KillUser(user),
            _ => {
                return problem(
                    StatusCode::BAD_REQUEST,
                    "which session?",
                    "name one `handle`, or one `user`",
                );
            }
        };
        match Arc::clone(&self.control).sessions(ask).await {
            Ok(said) => json_answer(StatusCode::OK, &said),
            Err(detail) => problem(StatusCode::SERVICE_UNAVAILABLE, "sessions cannot be asked", &detail),
        }
    }

    /// For origins, not for operators: what counts is the token that came with a request, and it is good for the values of one session.
    async fn value(&self, parts: &Parts, body: Incoming) -> Answered {
        let denied = |detail: &str| {
            let mut answer = problem(StatusCode::UNAUTHORIZED, "the token does not allow it", detail);
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            answer
        };
        let token = bearer(&parts.headers).and_then(|token| std::str::from_utf8(token).ok());
        let Some(token) = token else {
            return denied("send `Authorization: Bearer TOKEN` with the `Session-Token` of the request");
        };
        let query = parts.uri.query().unwrap_or_default();
        let name = query.split('&').find_map(|pair| pair.strip_prefix("name="));
        let Some(name) = name.map(decoded) else {
            return problem(StatusCode::BAD_REQUEST, "which value?", "as in `/session/value?name=avatar`");
        };
        let ask = match parts.method {
            Method::GET => ValueAsk::Read,
            Method::DELETE => ValueAsk::Remove,
            Method::PUT => match Limited::new(body, VALUE_BYTES_MAX).collect().await {
                Ok(body) => ValueAsk::Write(body.to_bytes().to_vec()),
                Err(_) => {
                    let detail = "no value is larger than 16 MiB";
                    return problem(StatusCode::PAYLOAD_TOO_LARGE, "the value is too large", detail);
                }
            },
            _ => {
                let detail = format!("`{SESSION_VALUE}` wants GET, PUT or DELETE");
                let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "wrong method", &detail);
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, PUT, DELETE"));
                return answer;
            }
        };
        let control = Arc::clone(&self.control);
        match control.value(token.to_owned(), name, ask).await {
            ValueSaid::Value(value) => {
                let mut answer = Response::new(Full::new(Bytes::from(value)));
                let kind = HeaderValue::from_static("application/octet-stream");
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                answer
            }
            ValueSaid::Done => json_answer(StatusCode::OK, &json!({ "done": true })),
            ValueSaid::Missing => {
                problem(StatusCode::NOT_FOUND, "no such value", "the session has none of this name")
            }
            ValueSaid::Denied => denied(
                "it is good for ten minutes, while its session lasts, and for writing only on routes with `session = \"write\"`",
            ),
            ValueSaid::BadName => {
                let detail = "a name has up to 64 lower-case letters, digits, `_`, `-`, `.` and `*`, and begins with a letter";
                problem(StatusCode::BAD_REQUEST, "this is not a name", detail)
            }
            ValueSaid::TooLarge(most) => {
                let detail = format!(
                    "{most} bytes at most: raise `value_bytes` of `[session]`, or remove what is not needed"
                );
                problem(StatusCode::PAYLOAD_TOO_LARGE, "the value is too large", &detail)
            }
            ValueSaid::Unavailable => {
                let detail = "bring back the Redis of [session], or add [data]";
                problem(StatusCode::SERVICE_UNAVAILABLE, "no store answers", detail)
            }
        }
    }

    async fn reload(&self) -> Answered {
        let reload = Arc::clone(&self.reload);
        // It reads files and may take a while; health must be answered meanwhile.
        match tokio::task::spawn_blocking(move || reload()).await {
            Ok(Ok(Reloaded { warnings })) => {
                json_answer(StatusCode::OK, &json!({ "reloaded": true, "warnings": warnings }))
            }
            Ok(Err(mistakes)) => {
                let title = "the configuration is wrong; the old one stays in force";
                problem(StatusCode::UNPROCESSABLE_ENTITY, title, &mistakes)
            }
            Err(_) => {
                problem(StatusCode::INTERNAL_SERVER_ERROR, "the reload failed", "it panicked: this is a bug")
            }
        }
    }
}

/// For origins: values of sessions.
const SESSION_VALUE: &str = "/session/value";
/// The largest that may be configured.
const VALUE_BYTES_MAX: usize = 16 << 20;

/// Path, method, and whether it is answered without a token.
const ENDPOINTS: [(&str, Method, bool); 10] = [
    ("/healthz", Method::GET, true),
    ("/readyz", Method::GET, true),
    ("/metrics", Method::GET, false),
    ("/status", Method::GET, false),
    ("/purge", Method::POST, false),
    ("/sessions", Method::GET, false),
    ("/sessions/kill", Method::POST, false),
    ("/reload", Method::POST, false),
    // What is known of a drill, and its beginning.
    (DRILL, Method::GET, false),
    (DRILL, Method::POST, false),
];

const DRILL: &str = "/drill";

/// Begins a drill, or ends it.
fn drill(uri: &Uri, peer: SocketAddr) -> Answered {
    let query = uri.query().unwrap_or_default();
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
    };
    let fault = value("fault").unwrap_or_default();
    if fault == "stop" {
        drill::stop(peer);
        return json_answer(StatusCode::OK, &drill::report());
    }
    let Some(fault) = Fault::parse(&fault) else {
        let known = Fault::ALL.map(Fault::name).join("`, `");
        return problem(StatusCode::BAD_REQUEST, "which fault?", &format!("there are `{known}` and `stop`"));
    };
    let lasts = parse_duration(value("for").as_deref().unwrap_or("30s"));
    let (least, most) = drill::LASTS;
    let Some(lasts) = lasts.ok().filter(|lasts| (least..=most).contains(lasts)) else {
        let detail = "`for` is a duration from `1s` to `10m`";
        return problem(StatusCode::BAD_REQUEST, "how long?", detail);
    };
    match drill::begin(fault, lasts, peer) {
        Ok(_) => json_answer(StatusCode::ACCEPTED, &drill::report()),
        Err(under_way) => problem(StatusCode::CONFLICT, "one at a time", &under_way.to_string()),
    }
}

/// A value of a query, percent-decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

type Answered = Response<Full<Bytes>>;

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answered {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answered {
    answer(status, "application/json", format!("{body}\n"))
}

/// RFC 9457
fn problem(status: StatusCode, title: &str, detail: &str) -> Answered {
    let body = json!({ "status": status.as_u16(), "title": title, "detail": detail });
    answer(status, "application/problem+json", format!("{body}\n"))
}

/// The credentials of exactly one `Authorization: Bearer` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (scheme, token) = only.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// `localhost` or a loopback address, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// 200: it has come as far as was waited for. 202: it is in force here, and what was waited for is still to come.
fn purge_answer(what: &serde_json::Value, receipt: &Receipt, at: SystemTime) -> Answered {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut written = String::new();
    crate::lines::timestamp(&mut written, SystemTime::UNIX_EPOCH + since);
    let mut body = json!({
        "purged": what,
        "at": written,
        "id": receipt.id,
        "position": receipt.position.map(|position| position.to_string()),
        "replicated": receipt.replicated,
        "journaled": receipt.journaled,
    });
    let wait = what.get("wait").and_then(serde_json::Value::as_str);
    if let (Some(object), Some(replicas)) = (body.as_object_mut(), receipt.replicas) {
        object.insert("replicas".to_owned(), replicas.into());
    }
    if let (Some(object), Some("all")) = (body.as_object_mut(), wait) {
        object.insert("applied_by".to_owned(), receipt.applied_by.clone().into());
        object.insert("not_applied_by".to_owned(), receipt.not_applied_by.clone().into());
    }
    let done = receipt.replicated && receipt.not_applied_by.is_empty() && receipt.replicas != Some(0);
    json_answer(if done { StatusCode::OK } else { StatusCode::ACCEPTED }, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass_without_a_token() {
        for host in ["localhost", "LocalHost:9180", "127.0.0.1", "127.9.9.9:1", "[::1]:9180", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test:80",
            "192.0.2.1",
            "[::2]:80",
            "localhost:x",
            ":80",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
