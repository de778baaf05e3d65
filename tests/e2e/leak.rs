//! Nobody ever gets what was made for somebody else.
//!
//! Random users, cookies, tokens and URLs, many at once, against an origin that answers with whose request it was (in
//! the content, in a header, in a cookie) under every combination of response headers but two kinds of lies: `public`
//! and `s-maxage`, and `must-revalidate` in an answer to `Authorization`, which says the same (RFC 9111 section 3.5).
//!
//! `WEIR_LEAK_REQUESTS` and `WEIR_LEAK_SEED` make it longer or different; the seed is printed.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::random::Random;
use harness::wire::Response;
use harness::{Conn, H2Client, Origin, Reply, Request, Weir, http_date};

const REQUESTS: usize = 100_000;
const SEED: u64 = 0x5eed_0001;
const CLIENTS: usize = 16;
const USERS: usize = 12;
const TENANTS: usize = 3;

#[rustfmt::skip]
const CACHE_CONTROL: &[&str] = &[
    "", "max-age=60", "max-age=1", "max-age=0", "private", "private, max-age=60", "no-store", "max-age=60, no-store",
    "no-cache", "no-cache, max-age=60", "max-age=60, immutable", "max-age=0, stale-while-revalidate=60",
    "max-age=1, stale-while-revalidate=60, stale-if-error=60", "max-age=60, must-revalidate", "must-revalidate",
    "private=\"set-cookie\", max-age=60", "no-cache=\"set-cookie\", max-age=60", "max-age=60, proxy-revalidate",
    "no-transform", "max-age=60, unknown", "max-age=\"60\"", "MAX-AGE=60", "max-age=60,,", "must-understand, no-store",
    "max-stale=60", "private ,max-age=60", "max-age=60, private=\"x-whose\"",
];
#[rustfmt::skip]
const VARY: &[&str] = &[
    "", "", "Cookie", "Accept-Language", "Accept-Encoding", "Cookie, Accept-Language", "*", "Authorization",
    "Authorization, Cookie", "accept-language,cookie",
];
const STATUS: &[u16] = &[200, 200, 200, 200, 200, 200, 203, 301, 302, 404, 410, 500, 503];
const ACCEPT_LANGUAGE: &[&str] = &["", "de", "en, fr;q=0.5"];

/// Who asks: parts that are `-` when the request does not carry them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whose {
    cookie: String,
    tenant: String,
    token: String,
}

impl Whose {
    fn of(request: &Request) -> Whose {
        let cookies = request.headers.all("cookie").join("; ");
        let cookie = |name: &str| {
            let found = cookies.split("; ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or("-").to_owned()
        };
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        Whose { cookie: cookie("sid"), tenant: cookie("tenant"), token: token.unwrap_or("-").to_owned() }
    }

    fn text(&self) -> String {
        format!("{}/{}/{}", self.cookie, self.tenant, self.token)
    }

    fn parse(text: &str) -> Whose {
        let parts: Vec<_> = text.split('/').map(str::to_owned).collect();
        let [cookie, tenant, token] = <[String; 3]>::try_from(parts).expect("three parts");
        Whose { cookie, tenant, token }
    }

    /// May somebody who is `self` be shown what was made for `other`? Only if all of that is theirs, or nobody's.
    fn may_see(&self, other: &Whose) -> bool {
        let fits = |mine: &str, theirs: &str| theirs == "-" || theirs == mine;
        fits(&self.cookie, &other.cookie)
            && fits(&self.tenant, &other.tenant)
            && fits(&self.token, &other.token)
    }
}

/// What the origin's answer looks like: chosen by the URL (`/fixed/…`), or at random each time (`/mixed/…`).
fn origin(seed: u64) -> Origin {
    let served = AtomicUsize::new(0);
    Origin::start_counting(move |request| {
        let number = served.fetch_add(1, Ordering::Relaxed);
        let mut parts = request.path().split('/').skip(1);
        let (route, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let page: u64 = parts.next().and_then(|page| page.parse().ok()).unwrap_or_default();
        let salt = if kind == "mixed" { number as u64 } else { page };
        let mut random = Random::new(seed ^ (salt << 8) ^ route.len() as u64);
        let whose = Whose::of(request);

        let mut directives = *random.pick(CACHE_CONTROL);
        if whose.token != "-" && directives.contains("must-revalidate") {
            directives = "max-age=60";
        }
        let mut fields: Vec<(&str, String)> = vec![("X-Whose", whose.text())];
        if !directives.is_empty() {
            match directives.split_once(", ").filter(|_| random.once_in(3)) {
                Some((first, rest)) => {
                    fields.push(("Cache-Control", first.to_owned()));
                    fields.push(("Cache-Control", rest.to_owned()));
                }
                None => fields.push(("Cache-Control", directives.to_owned())),
            }
        }
        let vary = *random.pick(VARY);
        if !vary.is_empty() {
            fields.push(("Vary", vary.to_owned()));
        }
        match random.below(5) {
            0 => fields.push(("Expires", http_date(60))),
            1 => fields.push(("Expires", http_date(-60))),
            2 => fields.push(("Expires", "0".to_owned())),
            _ => {}
        }
        if random.once_in(3) {
            fields.push(("Last-Modified", http_date(-1_000_000)));
        }
        if random.once_in(6) {
            fields.push(("Age", "5".to_owned()));
        }
        if random.once_in(8) {
            fields.push(("Pragma", "no-cache".to_owned()));
        }
        if random.once_in(5) {
            // With it, an answer to POST may be kept for the GETs to come (RFC 9110 section 9.3.3).
            fields.push(("Content-Location", request.target.clone()));
        }
        if random.once_in(3) {
            let nonce = request.header("x-nonce").unwrap_or_default();
            fields.push(("Set-Cookie", format!("whose={}.{nonce}; Path=/", whose.text())));
        }
        // A validator of one's own for content of one's own, or one for everybody where the content is the same for
        // everybody and only header fields are not.
        let shared = random.once_in(3);
        let tag = match random.below(3) {
            0 => None,
            _ if shared => Some("\"shared\"".to_owned()),
            1 => Some(format!("\"{}\"", whose.text())),
            _ => Some(format!("W/\"{}\"", whose.text())),
        };
        fields.extend(tag.clone().map(|tag| ("ETag", tag)));
        let validated = tag
            .is_some_and(|tag| request.headers.all("if-none-match").iter().any(|tags| tags.contains(&tag)));
        let status = if validated { 304 } else { *random.pick(STATUS) };
        if status == 301 || status == 302 {
            fields.push(("Location", format!("/for/{}", whose.text())));
        }
        let content = if shared { "everybody".to_owned() } else { whose.text() };
        let content = format!("{content} {} {}", request.target, "x".repeat(random.below(2_000)));
        let mut reply =
            fields.into_iter().fold(Reply::new(status), |reply, (name, value)| reply.header(name, value));
        if !validated {
            reply = if random.once_in(3) {
                let (first, second) = content.split_at(content.len() / 2);
                reply.chunks(&[first, second])
            } else {
                reply.body(content)
            };
        }
        reply
    })
}

struct Asked {
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    whose: Whose,
    nonce: String,
}

fn ask(random: &mut Random, client: usize, number: usize) -> Asked {
    let user = format!("u{}", random.below(USERS));
    let tenant = format!("t{}", random.below(TENANTS));
    let kind = random.below(5);
    let mut whose = Whose { cookie: "-".to_owned(), tenant: "-".to_owned(), token: "-".to_owned() };
    let mut fields: Vec<(&'static str, String)> = Vec::new();
    let mut cookies = Vec::new();
    if kind == 1 || kind == 3 {
        whose.cookie = user.clone();
        cookies.push(format!("sid={user}"));
    }
    if random.once_in(3) {
        whose.tenant = tenant.clone();
        cookies.push(format!("tenant={tenant}"));
    }
    if random.once_in(4) {
        cookies.push("theme=dark".to_owned());
    }
    if cookies.len() == 2 && random.once_in(2) {
        cookies.reverse();
    }
    if !cookies.is_empty() {
        fields.push(("Cookie", cookies.join("; ")));
    }
    if kind == 2 || kind == 3 {
        whose.token = user;
        fields.push(("Authorization", format!("Bearer {}", whose.token)));
    }
    let language = *random.pick(ACCEPT_LANGUAGE);
    if !language.is_empty() {
        fields.push(("Accept-Language", language.to_owned()));
    }
    match random.below(12) {
        0 => fields.push(("If-None-Match", format!("\"{}\"", whose.text()))),
        1 => fields.push(("If-None-Match", "\"shared\"".to_owned())),
        2 => fields.push(("Cache-Control", "no-cache".to_owned())),
        3 => fields.push(("Cache-Control", "max-stale".to_owned())),
        4 => fields.push(("Range", "bytes=0-9".to_owned())),
        _ => {}
    }
    let nonce = format!("{client}-{number}");
    fields.push(("X-Nonce", nonce.clone()));
    let route = if random.once_in(4) { "declared" } else { "plain" };
    let kind = if random.once_in(3) { "mixed" } else { "fixed" };
    // Pages come in generations, so that cold URLs are asked for by many at once all along.
    let page = (number / 200) * 40 + random.below(40);
    let query = if random.once_in(5) { "?q=1" } else { "" };
    let method = match random.below(20) {
        0 => "HEAD",
        1 => "POST",
        _ => "GET",
    };
    Asked { method, target: format!("/{route}/{kind}/{page}{query}"), fields, whose, nonce }
}

/// What of the answer was made for whom.
struct Answered {
    status: u16,
    whose: Option<String>,
    set_cookie: Vec<String>,
    location: Option<String>,
    body: String,
    partial: bool,
}

fn judge(asked: &Asked, answered: &Answered) -> Result<(), String> {
    let mine = &asked.whose;
    let declared = asked.target.starts_with("/declared/") && asked.method != "POST";
    let made_for = |text: &str| -> Result<(), String> {
        let other = Whose::parse(text);
        if !mine.may_see(&other) {
            return Err(format!("made for {}", other.text()));
        }
        if declared && other.tenant != mine.tenant {
            return Err(format!("made for tenant {}", other.tenant));
        }
        Ok(())
    };
    if let Some(whose) = &answered.whose {
        made_for(whose).map_err(|e| format!("X-Whose {e}"))?;
    }
    if let Some(location) = &answered.location {
        made_for(location.trim_start_matches("/for/")).map_err(|e| format!("Location {e}"))?;
    }
    for cookie in &answered.set_cookie {
        // A cookie is never stored: it answers this very request.
        let own = cookie.contains(&format!(".{};", asked.nonce));
        if !own {
            return Err(format!("Set-Cookie of another request: {cookie}"));
        }
    }
    let has_content = asked.method != "HEAD" && answered.status != 304 && answered.status != 416;
    if has_content && !answered.partial {
        let mut parts = answered.body.split(' ');
        let (whose, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if target != asked.target {
            return Err(format!("content of {target}"));
        }
        if whose != "everybody" {
            made_for(whose).map_err(|e| format!("content {e}"))?;
        }
    }
    Ok(())
}

fn from_h1(response: &Response) -> Answered {
    Answered {
        status: response.status,
        whose: response.header("x-whose").map(str::to_owned),
        set_cookie: response.headers.all("set-cookie").into_iter().map(str::to_owned).collect(),
        location: response.header("location").map(str::to_owned),
        body: response.text(),
        partial: response.status == 206,
    }
}

fn over_h1(weir: &Weir, client: usize, requests: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut conn: Option<Conn> = None;
    for number in 0..requests {
        let asked = ask(&mut random, client, number);
        let fields: Vec<_> = asked.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body: &[u8] = if asked.method == "POST" { b"a=1" } else { b"" };
        let response =
            conn.get_or_insert_with(|| weir.client()).ask(asked.method, &asked.target, &fields, body);
        check(&asked, &from_h1(&response), &format!("{:?}", response.headers));
        if response.headers.lists("connection", "close") || random.once_in(500) {
            conn = None;
        }
    }
}

fn over_h2(weir: &Weir, client: usize, requests: usize, seed: u64) {
    let mut random = Random::new(seed);
    let conn = H2Client::connect(weir.address());
    for number in 0..requests {
        let asked = ask(&mut random, client, number);
        let fields: Vec<_> = asked.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = if asked.method == "POST" { "a=1" } else { "" };
        let response = conn.ask(asked.method, &asked.target, &fields, body);
        let set_cookie = response.headers.get_all("set-cookie").iter();
        let answered = Answered {
            status: response.status.as_u16(),
            whose: response.header("x-whose").map(str::to_owned),
            set_cookie: set_cookie
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect(),
            location: response.header("location").map(str::to_owned),
            body: response.text(),
            partial: response.status.as_u16() == 206,
        };
        check(&asked, &answered, &format!("{:?}", response.headers));
    }
}

fn check(asked: &Asked, answered: &Answered, headers: &str) {
    if let Err(what) = judge(asked, answered) {
        panic!(
            "LEAK: {what}\nasked: {} {} {:?}\nanswered: {} {headers}\n{}",
            asked.method,
            asked.target,
            asked.fields,
            answered.status,
            answered.body.get(..200).unwrap_or(&answered.body)
        );
    }
    assert!(answered.status != 502 && answered.status != 504, "the origin was always there: {headers}");
}

fn from_environment(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nobody_gets_what_was_made_for_somebody_else() {
    let requests = from_environment("WEIR_LEAK_REQUESTS").unwrap_or(REQUESTS);
    let seed = from_environment("WEIR_LEAK_SEED").map_or(SEED, |seed| seed as u64);
    let origin = origin(seed);
    let weir = Weir::with(&format!(
        "[[route]]\nmatch = {{ path = \"/declared/**\" }}\norigin = \"{0}\"\ncache = {{ cookies = [\"tenant\"] }}\n\
         [[route]]\norigin = \"{0}\"\n",
        origin.url()
    ));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let weir = &weir;
            let seed = seed ^ ((client as u64 + 1) << 32);
            scope.spawn(move || match client {
                0 => over_h2(weir, client, requests / CLIENTS, seed),
                _ => over_h1(weir, client, requests.div_ceil(CLIENTS), seed),
            });
        }
    });
    let spared = requests.saturating_sub(origin.count());
    // The test shows something only if the cache was at work: a good part came from it.
    assert!(spared > requests / 50, "only {spared} of {requests} requests were answered without the origin");
    let summary = format!("{requests} requests, seed {seed:#x}: no leak; the origin was spared {spared}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), summary.as_bytes());
}
