//! What a hit costs between hyper's parser and hyper's writer, step by step, in nanoseconds: `cargo bench -p weir`.
//!
//! The fastest of many batches counts, for whatever disturbs a batch only ever adds to it.

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_semantics::invalidation::Target;
use cache_semantics::policy::Policy;
use cache_semantics::storable::{self, RequestFacts};
use cache_semantics::vary::{Fields, Variant, VaryRule};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use weir::cache::{Decision, NamedCache, Wanted};
use weir::clock::{Clock, SystemClock};
use weir::config::model;
use weir::gate;
use weir::purge::{Labels, Purges};
use weir::request_key::{KeyRule, Presented, Scratch};
use weir::respond;
use weir::routes::Bindings;
use weir::store::Origins;

const BATCHES: usize = 60;
const CALLS: u32 = 10_000;

fn time(mut call: impl FnMut()) -> f64 {
    let batch = |call: &mut dyn FnMut()| {
        let begun = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        begun.elapsed()
    };
    let fastest = (0..BATCHES).map(|_| batch(&mut call)).min().unwrap_or(Duration::ZERO);
    fastest.as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let mut row = |step: &str, nanos: f64| writeln!(out, "{nanos:>8.1} ns  {step}");
    let limits = model::Limits::default();
    let clock = SystemClock;
    let now = clock.now();

    let request = || {
        let builder = Request::builder().uri("/a/page/of/the/site?id=7").header("host", "www.example.com");
        let builder = builder.header("user-agent", "bench/1").header("accept", "*/*");
        builder.body(()).expect("a request").into_parts().0
    };
    row("build the request that the gate is shown (not ours)", time(|| drop(black_box(request()))))?;
    let facts = gate::RequestFacts { tls: false, body_len: Some(0) };
    row(
        "that, and the gate",
        time(|| {
            let mut parts = request();
            drop(black_box(gate::check_request(&mut parts, &facts, &limits)));
        }),
    )?;

    let parts = request();
    let rule = KeyRule::new("app".into(), model::Rewrite::default(), None, 0);
    let presented = Presented {
        scheme: "http",
        authority: "www.example.com",
        forwarded_host: None,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        bindings: Bindings::default(),
        shape: None,
        content: None,
        session: &[],
        cookie_stays: false,
    };
    let mut scratch = Scratch::default();
    row(
        "key",
        time(|| {
            black_box(rule.key(&presented, &mut scratch));
        }),
    )?;

    let policy = Policy::default();
    let purges = Arc::new(Purges::default());
    let spec = model::Cache::new("default");
    let cache = Arc::new(NamedCache::new(spec, &limits, purges.clone(), now));
    let response = fields(&[
        ("date", "Sat, 21 Nov 2026 07:46:10 GMT"),
        ("server", "origin"),
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "public, max-age=36000000000"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9\""),
        ("via", "1.1 weir"),
    ]);
    let facts = RequestFacts::of(&Method::GET, &parts.headers, false);
    let exchange = storable::Exchange {
        request: &facts,
        target: Target { scheme: "http", authority: "www.example.com", path_and_query: "/" },
        status: StatusCode::OK,
        headers: &response,
        requested: now,
        received: now,
    };
    let terms = storable::decide(&exchange, &policy).expect("it is storable");
    let variant = Variant::capture(&VaryRule::default(), Fields::of(&parts.headers), &response, now.wall);
    let labels = Arc::new(Labels::new("all".into(), []));
    let origins = Origins { variant, labels, stamp: purges.stamp() };
    let body = Bytes::from(vec![b'x'; 1024]);
    let stored = cache.build(StatusCode::OK, response.clone(), &[body], None, terms, origins, false);
    cache.store(&scratch.key, stored);
    let wanted = Wanted {
        method: &Method::GET,
        headers: &parts.headers,
        facts: &facts,
        fields: Fields::of(&parts.headers),
        strict: false,
    };
    row(
        "facts of the request",
        time(|| {
            black_box(RequestFacts::of(&Method::GET, &parts.headers, false));
        }),
    )?;
    row(
        "look up and decide",
        time(|| {
            drop(black_box(cache.decide(&scratch.key, &wanted, &policy, now)));
        }),
    )?;
    row(
        "that, and the response (6 fields, 1 KiB)",
        time(|| {
            let Decision::Hit(hit) = cache.decide(&scratch.key, &wanted, &policy, now) else { return };
            drop(black_box(respond::from_stored(
                &hit.stored,
                &Method::GET,
                &parts.headers,
                hit.age,
                hit.status,
            )));
        }),
    )?;
    row(
        "read the clock",
        time(|| {
            black_box(clock.now());
        }),
    )?;
    Ok(())
}
