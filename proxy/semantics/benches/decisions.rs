//! What each decision on the path of a hit costs by itself, in nanoseconds: `cargo bench -p cache-semantics`.
//!
//! A batch is long enough to be timed and the fastest of many counts, for whatever disturbs a batch only ever adds to it.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use cache_semantics::Now;
use cache_semantics::cache_control::CacheControl;
use cache_semantics::cache_status::CacheStatus;
use cache_semantics::cookies::{CookieRule, Passing};
use cache_semantics::invalidation::Target;
use cache_semantics::key::{KeyBuilder, KeyClass};
use cache_semantics::negotiate::AcceptEncoding;
use cache_semantics::policy::Policy;
use cache_semantics::query::QueryRule;
use cache_semantics::range::RangeSet;
use cache_semantics::reuse;
use cache_semantics::storable::{self, Exchange, RequestFacts};
use cache_semantics::validation::{self, Validators};
use cache_semantics::vary::{self, Fields, Variant, VaryRule};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

const BATCHES: usize = 60;
const CALLS: u32 = 20_000;

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let mut row = |question: &str, nanos: f64| writeln!(out, "{nanos:>8.1} ns  {question}");

    let request = fields(&[
        ("host", "www.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
    ]);
    let reload = fields(&[("cache-control", "max-age=0"), ("pragma", "no-cache")]);
    let response = fields(&[
        ("date", "Sat, 21 Nov 2026 07:46:10 GMT"),
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "public, max-age=3600, stale-while-revalidate=30"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        ("last-modified", "Fri, 20 Nov 2026 07:46:10 GMT"),
        ("vary", "Accept-Encoding"),
    ]);
    let policy = Policy::default();
    let now = now();
    let facts = RequestFacts::of(&Method::GET, &request, false);
    let exchange = Exchange {
        request: &facts,
        target: Target { scheme: "https", authority: "www.example.com", path_and_query: "/a" },
        status: StatusCode::OK,
        headers: &response,
        requested: now,
        received: now,
    };
    let terms = storable::decide(&exchange, &policy).map_err(io::Error::other)?;
    let later = now.after(Duration::from_secs(60));

    let mut key = Vec::new();
    row(
        "key of a URL",
        time(|| {
            KeyBuilder::new(
                &mut key,
                KeyClass::Get,
                "https",
                "www.example.com",
                "/a/b/c.html",
                Some("page=2"),
            );
            black_box(key.len());
        }),
    )?;
    let mut scratch = String::new();
    let keep = QueryRule::default();
    row(
        "query, nothing ignored",
        time(|| {
            black_box(keep.filter(black_box(Some("page=2&sort=name")), &mut scratch));
        }),
    )?;
    let route = CookieRule::declaring(["tenant"]);
    let passing = Passing { rules: &[], route: Some(&route) };
    let mut forwarded = Vec::new();
    row(
        "cookies, none there",
        time(|| {
            passing.write(black_box(&request), &mut forwarded);
            black_box(&forwarded);
        }),
    )?;
    row(
        "what the request says of caching",
        time(|| {
            black_box(RequestFacts::of(&Method::GET, black_box(&request), false));
        }),
    )?;
    row(
        "the same of a reload",
        time(|| {
            black_box(RequestFacts::of(&Method::GET, black_box(&reload), false));
        }),
    )?;
    let rule = VaryRule::of_response(&response);
    let one = [Variant::capture(&rule, Fields::of(&request), &response, now.wall)];
    row(
        "which variant, of one by Accept-Encoding",
        time(|| {
            black_box(vary::select(black_box(&one), Fields::of(&request)));
        }),
    )?;
    let plain = [Variant::capture(&VaryRule::default(), Fields::of(&request), &response, now.wall)];
    row(
        "which variant, of one for everybody",
        time(|| {
            black_box(vary::select(black_box(&plain), Fields::of(&request)));
        }),
    )?;
    row(
        "may it answer now",
        time(|| {
            black_box(reuse::decide(black_box(&terms), &facts, &policy, later));
        }),
    )?;
    row(
        "is the request conditional",
        time(|| {
            black_box(validation::is_conditional(black_box(&request)));
        }),
    )?;
    row(
        "Range, none there",
        time(|| {
            black_box(RangeSet::of(&Method::GET, black_box(&request)));
        }),
    )?;
    row(
        "Accept-Encoding",
        time(|| {
            black_box(AcceptEncoding::of(black_box(&request)));
        }),
    )?;
    let mut status = BytesMut::with_capacity(256);
    row(
        "Cache-Status of a hit",
        time(|| {
            status.clear();
            CacheStatus::hit(black_box(3540)).render("weir", &mut status);
            black_box(status.len());
        }),
    )?;
    row(
        "Cache-Control of a response (when storing)",
        time(|| {
            black_box(CacheControl::of_response(black_box(&response)));
        }),
    )?;
    row(
        "validators of a response (when storing)",
        time(|| {
            black_box(Validators::of(black_box(&response)));
        }),
    )?;
    row(
        "may it be stored (when storing)",
        time(|| {
            black_box(storable::decide(black_box(&exchange), &policy).is_ok());
        }),
    )
}

fn time(mut call: impl FnMut()) -> f64 {
    let batch = |call: &mut dyn FnMut()| {
        let begun = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        begun.elapsed()
    };
    let fastest = (0..BATCHES).map(|_| batch(&mut call)).min().unwrap_or_default();
    fastest.as_secs_f64() * 1e9 / f64::from(CALLS)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is not the proxy and has no clock to be given")]
fn now() -> Now {
    Now { wall: SystemTime::now(), mono: Instant::now() }
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}
