//! The application of the demo. It knows nothing of Weir: every decision of the cache follows from the headers that it sends.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONNECTION, CONTENT_LANGUAGE, CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH,
    LOCATION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SET_COOKIE, UPGRADE, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;

use super::websocket;

/// What the slow page takes.
const SLOW: Duration = Duration::from_millis(300);
/// How long the application is broken after it was told to be.
const BROKEN_FOR: Duration = Duration::from_secs(20);

type Content = UnsyncBoxBody<Bytes, Infallible>;

/// The running application.
#[derive(Debug)]
pub struct DemoOrigin {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: AtomicU64,
    news: AtomicU64,
    broken_until: Mutex<Option<Instant>>,
    configuration: Mutex<Bytes>,
}

impl DemoOrigin {
    /// Starts it on a thread of its own and a port that the system picks.
    pub fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = Arc::clone(&state);
        std::thread::Builder::new().name("demo-origin".to_owned()).spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    accept(listener, served).await;
                }
            });
        })?;
        Ok(Self { address, state })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has seen.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    pub(super) fn show_configuration(&self, text: &str) {
        *self.state.configuration.lock() = Bytes::copy_from_slice(text.as_bytes());
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Without it an answer may wait for an acknowledgement; with it there is no reason to fail.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            // How a connection ends is the proxy's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Response<Content> {
    let path = request.uri().path().to_owned();
    if path == "/count" {
        return json(&json!({ "requests": state.requests.load(Ordering::Relaxed) }), "no-store");
    }
    // What stays open for as long as the page does would only confuse the count.
    if path == "/clock" {
        return clock();
    }
    if path == "/echo" {
        return websocket_echo(request);
    }
    let number = state.requests.fetch_add(1, Ordering::Relaxed) + 1;
    if path == "/break" && request.method() == Method::POST {
        *state.broken_until.lock() = Some(Instant::now() + BROKEN_FOR);
        return text(StatusCode::ACCEPTED, "The application answers with 503 for 20 s.\n", "no-store");
    }
    if state.broken_until.lock().is_some_and(|until| Instant::now() < until) {
        return text(StatusCode::SERVICE_UNAVAILABLE, "The application is broken.\n", "no-store");
    }
    let made = |what: &str| json!({ "what": what, "answer": number });
    match path.as_str() {
        "/" => content("text/html; charset=utf-8", include_str!("index.html"), "max-age=60"),
        "/static/style.css" => content("text/css; charset=utf-8", include_str!("style.css"), "max-age=86400"),
        "/static/demo.js" => {
            content("text/javascript; charset=utf-8", include_str!("demo.js"), "max-age=86400")
        }
        "/weir.toml" => {
            let configuration = state.configuration.lock().clone();
            content("text/plain; charset=utf-8", configuration, "max-age=60")
        }
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            json(&made("it took 300 ms to make this"), "max-age=10, stale-while-revalidate=30")
        }
        "/search" => json(&json!({ "query as I saw it": request.uri().query(), "answer": number }), ""),
        "/me" => personal(request.headers(), number),
        "/login" => login(request.uri().query()),
        "/random" => json(&made("not to be kept"), "no-store"),
        "/silent" => json(&made("I say nothing about caching"), ""),
        "/greeting" => greeting(request.headers(), number),
        "/api/news" => news(state, &request, number),
        _ => text(StatusCode::NOT_FOUND, "There is no such page.\n", ""),
    }
}

fn personal(headers: &HeaderMap, number: u64) -> Response<Content> {
    let user = cookie(headers, "user").unwrap_or("nobody");
    let mut response = json(&json!({ "you are": user, "answer": number }), "private, max-age=60");
    response.headers_mut().insert(VARY, http::HeaderValue::from_static("Cookie"));
    response
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn login(query: Option<&str>) -> Response<Content> {
    let user = query.and_then(|query| query.strip_prefix("user=")).unwrap_or("ann");
    let is_name = user.len() <= 20 && user.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let user = if is_name { user } else { "ann" };
    let mut response = text(StatusCode::SEE_OTHER, "", "no-store");
    let cookie = format!("user={user}; Path=/; HttpOnly; SameSite=Lax");
    response.headers_mut().insert(SET_COOKIE, cookie.parse().expect("letters and digits are a value"));
    response.headers_mut().insert(LOCATION, http::HeaderValue::from_static("/"));
    response
}

fn greeting(headers: &HeaderMap, number: u64) -> Response<Content> {
    let wanted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (language, words) = match wanted.get(..2).unwrap_or_default() {
        "de" => ("de", "Guten Tag"),
        "fr" => ("fr", "Bonjour"),
        "es" => ("es", "Buenos d\u{ed}as"),
        _ => ("en", "Good morning"),
    };
    let mut response = json(&json!({ "greeting": words, "answer": number }), "max-age=60");
    response.headers_mut().insert(VARY, http::HeaderValue::from_static("Accept-Language"));
    response.headers_mut().insert(CONTENT_LANGUAGE, http::HeaderValue::from_static(language));
    response
}

/// Fresh for two seconds, then validated; a POST makes a new edition, and the cache drops the old one by itself (RFC 9111 §4.4).
fn news(state: &State, request: &Request<Incoming>, number: u64) -> Response<Content> {
    if request.method() == Method::POST {
        let edition = state.news.fetch_add(1, Ordering::Relaxed) + 1;
        return json(&json!({ "published edition": edition }), "no-store");
    }
    let edition = state.news.load(Ordering::Relaxed);
    let tag = format!("\"edition-{edition}\"");
    let is_known =
        request.headers().get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        let mut response = text(StatusCode::NOT_MODIFIED, "", "max-age=2");
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        json(&json!({ "edition": edition, "answer": number }), "max-age=2")
    };
    response.headers_mut().insert(ETAG, tag.parse().expect("a tag is a value"));
    response
}

fn clock() -> Response<Content> {
    let ticks = Ticks { next: Box::pin(tokio::time::sleep(Duration::ZERO)), count: 0 };
    let mut response = Response::new(UnsyncBoxBody::new(ticks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// An event a second, for an hour.
struct Ticks {
    next: Pin<Box<tokio::time::Sleep>>,
    count: u64,
}

impl http_body::Body for Ticks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        use std::task::Poll;
        if self.count >= 3600 {
            return Poll::Ready(None);
        }
        if self.next.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.count += 1;
        let next = self.next.deadline() + Duration::from_secs(1);
        self.next.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("data: tick {}\n\n", self.count))))))
    }
}

fn websocket_echo(mut request: Request<Incoming>) -> Response<Content> {
    let is_websocket = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = request.headers().get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let (true, Some(key)) = (is_websocket, key) else {
        return text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket.\n", "no-store");
    };
    let accept = websocket::accept(key);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // The other side left: nothing is left to say.
            let _ = websocket::echo(upgraded).await;
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "", "");
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64 is a value"));
    response
}

fn json(value: &serde_json::Value, cache_control: &'static str) -> Response<Content> {
    content("application/json", format!("{value}\n"), cache_control)
}

fn text(status: StatusCode, body: &'static str, cache_control: &'static str) -> Response<Content> {
    let mut response = content("text/plain; charset=utf-8", body, cache_control);
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("20"));
    }
    response
}

/// An empty `cache_control` says nothing.
fn content(kind: &'static str, body: impl Into<Bytes>, cache_control: &'static str) -> Response<Content> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    if !cache_control.is_empty() {
        headers.insert(CACHE_CONTROL, http::HeaderValue::from_static(cache_control));
    }
    response
}
