//! Attributes of sessions that are part of a route's key: who has the same values shares, and nobody sees what was made for others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::random::Random;
use harness::{Origin, RedisServer, Reply, Weir, eventually};

use crate::sessions::Browser;

/// Each answer has a number of its own, and says what the application was told. `/account` changes sessions; what else is asked for may be kept.
fn application() -> Origin {
    let answers = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = answers.fetch_add(1, Ordering::SeqCst);
        let told = |name: &str| request.header(name).unwrap_or("-").to_owned();
        let (info, data, cookie) = (told("session-info"), told("session-data"), told("cookie"));
        let mut reply = Reply::ok(format!("{number} | {info} | {data} | {cookie}"));
        for (asked, said) in
            [("x-set", "Session-Set"), ("x-unset", "Session-Unset"), ("x-control", "Session-Control")]
        {
            if let Some(value) = request.header(asked) {
                reply = reply.header(said, value);
            }
        }
        match request.path() {
            "/account" => reply,
            "/varies" => reply.header("Cache-Control", "max-age=600").header("Vary", "Cookie"),
            "/private" => reply.header("Cache-Control", "private, max-age=600"),
            "/validated" => reply.header("Cache-Control", "no-cache").header("ETag", format!("\"{data}\"")),
            "/stale" => reply.header("Cache-Control", "max-age=0, stale-while-revalidate=600"),
            // It is none of its business here, and it is not kept.
            "/speaks" => reply.header("Cache-Control", "max-age=600").header("Session-Set", "tier=\"gold\""),
            _ => reply.header("Cache-Control", "max-age=600"),
        }
    })
}

fn config(origin: &Origin, redis: &RedisServer, keys: &str) -> String {
    let url = origin.url();
    format!(
        "[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n[data]\npath = \"{{DIR}}/data\"\n\
         [cache.default]\nredis = \"main\"\n\
         [session]\nredis_budget = \"10s\"\nvalue_bytes = \"1MiB\"\n\
         [[route]]\nmatch = {{ path = \"/account\" }}\norigin = \"{url}\"\nsession = \"write\"\n\
         [[route]]\norigin = \"{url}\"\nsession = \"read\"\ncache = {{ session = {keys} }}\n",
        redis.url()
    )
}

fn connected(weir: &Weir) {
    eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
}

fn logged_in(weir: &Weir, set: &str) -> Browser {
    let mut browser = Browser::new();
    browser.ask(weir, "/account", &[("X-Set", set), ("X-Control", "sub=\"somebody\"")]);
    assert!(browser.cookie.is_some());
    browser
}

/// Asks with the session's cookie and no other.
fn ask(browser: &Browser, weir: &Weir, method: &str, target: &str) -> harness::Response {
    let cookie = browser.cookie.as_ref().map(|value| format!("__Host-sid={value}"));
    let fields: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("Cookie", cookie.as_str())).collect();
    weir.ask(method, target, &fields, b"")
}

/// What the application was told for an answer: of the session, its attributes, and of cookies.
fn told(answer: &harness::Response) -> String {
    answer.text().split_once(" | ").unwrap().1.to_owned()
}

#[test]
fn people_of_one_tier_share_and_those_of_another_do_not() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis, "\"tier\"");
    let [one, two] = [Weir::with(&text), Weir::with(&text)];
    [&one, &two].into_iter().for_each(connected);
    let ann = logged_in(&one, "tier=\"gold\", name=\"ann\"");
    let mut bob = logged_in(&two, "tier=\"gold\", name=\"bob\"");
    let eve = logged_in(&one, "tier=\"silver\", name=\"eve\"");
    let nobody = Browser::new();

    let first = ask(&ann, &one, "GET", "/page");
    assert_eq!(
        told(&first),
        "- | tier=\"gold\" | -",
        "it is told of what is in the key, and of nothing else"
    );
    assert_eq!(origin.last("/page").header("session-token"), None, "nor can it read more");
    assert!(first.headers.lists("vary", "cookie"), "a cache before this one is told who must not share");
    let shared = ask(&bob, &one, "GET", "/page");
    assert!(shared.is_hit() && shared.text() == first.text(), "{} {}", shared.cache_status(), shared.text());
    assert!(shared.headers.lists("vary", "cookie"));
    assert_eq!(told(&ask(&eve, &one, "GET", "/page")), "- | tier=\"silver\" | -");
    let public = ask(&nobody, &one, "GET", "/page");
    assert_eq!(told(&public), "- | - | -");
    for invented in ["A".repeat(43), "nonsense".to_owned()] {
        let answer = ask(&Browser { cookie: Some(invented) }, &one, "GET", "/page");
        assert!(answer.is_hit() && answer.text() == public.text(), "{}", answer.cache_status());
    }
    let head = ask(&ann, &one, "HEAD", "/page");
    assert!(head.status == 200 && head.is_hit(), "{}", head.cache_status());

    // Another tier counts from the next request on, on any proxy.
    eventually("what is stored has reached Redis", || {
        let answer = ask(&eve, &two, "GET", "/page");
        assert_eq!(told(&answer), "- | tier=\"silver\" | -");
        answer.is_hit()
    });
    bob.ask(&two, "/account", &[("X-Set", "tier=\"silver\"")]);
    let now_silver = ask(&bob, &one, "GET", "/page");
    assert!(now_silver.is_hit(), "{}", now_silver.cache_status());
    for weir in [&one, &two] {
        assert_eq!(told(&ask(&bob, weir, "GET", "/page")), "- | tier=\"silver\" | -");
    }
    // One that is empty, one of another kind, and none are three.
    for (set, data) in [("tier=\"\"", "tier=\"\""), ("tier=1", "tier=1"), ("tier=\"1\"", "tier=\"1\"")] {
        bob.ask(&one, "/account", &[("X-Set", set)]);
        assert_eq!(told(&ask(&bob, &one, "GET", "/page")), format!("- | {data} | -"));
    }
    bob.ask(&one, "/account", &[("X-Unset", "tier")]);
    let without = ask(&bob, &one, "GET", "/page");
    assert!(without.is_hit() && without.text() == public.text(), "{}", without.text());
    // Who has logged out is nobody.
    let old = Browser { cookie: bob.cookie.clone() };
    bob.ask(&one, "/account", &[("X-Set", "tier=\"gold\"")]);
    assert_eq!(told(&ask(&bob, &two, "GET", "/page")), told(&first));
    bob.ask(&two, "/account", &[("X-Control", "destroy")]);
    for weir in [&one, &two] {
        assert_eq!(told(&ask(&old, weir, "GET", "/page")), "- | - | -");
    }

    // A purge of the URL reaches all of them.
    let purged = one.admin("POST", "/purge?url=http://weir.test/page");
    assert!((200..300).contains(&purged.status), "{}", purged.text());
    for browser in [&ann, &eve, &nobody] {
        let answer = ask(browser, &one, "GET", "/page");
        assert!(!answer.is_hit(), "{}", answer.cache_status());
    }
}

#[test]
fn what_the_application_says_of_sharing_holds_within_a_tier() {
    let (origin, redis) = (application(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis, "[\"tier\", \"beta\"]"));
    connected(&weir);
    let ann = logged_in(&weir, "tier=\"gold\", name=\"ann\", beta");
    let bob = logged_in(&weir, "tier=\"gold\", name=\"bob\", beta");
    let eve = logged_in(&weir, "tier=\"gold\", name=\"eve\"");
    // The only cookie is the session's, which the application does not see: `Vary: Cookie` tells nobody apart by it.
    let first = ask(&ann, &weir, "GET", "/varies");
    assert_eq!(told(&first), "- | beta, tier=\"gold\" | -");
    let second = ask(&bob, &weir, "GET", "/varies");
    assert!(second.is_hit() && second.text() == first.text(), "{}", second.cache_status());
    assert_eq!(told(&ask(&eve, &weir, "GET", "/varies")), "- | tier=\"gold\" | -");
    // Another cookie does, and the application sees that one.
    let with_more = |browser: &Browser, target: &str| {
        let cookie = format!("lang=de; __Host-sid={}", browser.cookie.as_ref().unwrap());
        weir.ask("GET", target, &[("Cookie", &cookie)], b"")
    };
    let german = with_more(&ann, "/varies");
    assert!(!german.is_hit());
    assert_eq!(told(&german), "- | beta, tier=\"gold\" | lang=de");
    // What was made for a cookie that nobody has declared is kept for nobody.
    assert_eq!(told(&with_more(&ann, "/plain")), "- | beta, tier=\"gold\" | lang=de");
    assert_eq!(told(&ask(&bob, &weir, "GET", "/plain")), "- | beta, tier=\"gold\" | -");
    assert!(with_more(&ann, "/plain").is_hit(), "what was made for none is for all");

    let private = ask(&ann, &weir, "GET", "/private");
    assert!(private.cache_status().contains("detail=private"), "{}", private.cache_status());
    assert!(!ask(&ann, &weir, "GET", "/private").is_hit());
    ask(&ann, &weir, "GET", "/validated");
    let validated = ask(&bob, &weir, "GET", "/validated");
    assert_eq!(told(&validated), "- | beta, tier=\"gold\" | -");
    assert!(origin.last("/validated").headers.has("if-none-match"));
    assert_eq!(told(&ask(&eve, &weir, "GET", "/validated")), "- | tier=\"gold\" | -");

    // Where an answer may be stored nothing is done of what it says of a session, and nobody hears of it.
    for _ in 0..2 {
        let speaks = ask(&eve, &weir, "GET", "/speaks");
        assert!(!speaks.headers.has("session-set") && !speaks.headers.has("set-cookie"));
    }
    // A write passes with all that there is.
    let posted = told(&ask(&ann, &weir, "POST", "/page"));
    assert!(posted.contains("sub=\"somebody\"") && posted.contains("name=\"ann\""), "{posted}");
}

#[test]
fn while_nobody_can_tell_who_it_is_nothing_is_shared() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let text =
        config(&origin, &redis, "\"tier\"").replace("[session]\n", "[session]\ndurability = \"redis\"\n");
    let weir = Weir::with(&text.replace("redis_budget = \"10s\"", "redis_budget = \"1s\""));
    connected(&weir);
    let ann = logged_in(&weir, "tier=\"gold\"");
    let gold = ask(&ann, &weir, "GET", "/page");
    assert_eq!(told(&gold), "- | tier=\"gold\" | -");
    let public = weir.get("/page");
    redis.kill();
    eventually("it is away", || weir.metric("redis_up", &["main"]) == 0.0);
    let unknown = ask(&ann, &weir, "GET", "/page");
    assert_eq!(told(&unknown), "new=?0, unavailable | - | -");
    assert!(unknown.cache_status().contains("fwd=bypass; detail=session"), "{}", unknown.cache_status());
    assert!(!unknown.headers.has("set-cookie"));
    assert_eq!(weir.get("/page").text(), public.text(), "who has none is answered as ever");
}

/// Says it until it is done: where Redis is busy, 503 says that nothing is saved.
fn change(browser: &mut Browser, weir: &Weir, fields: &[(&str, &str)]) {
    eventually("it is done", || browser.ask(weir, "/account", fields).status == 200);
}

/// Many people whose tiers change, at two proxies that share what they store: whatever the answer says of sharing, it is one that was made for the tier that they have now.
#[test]
fn nobody_sees_a_tier_that_is_not_theirs() {
    let (origin, redis) = (application(), RedisServer::start());
    // What is written lies in one place, so that all know of it at once.
    let text = config(&origin, &redis, "\"tier\"")
        .replace("[session]\n", "[session]\ndurability = \"redis\"\n")
        .replace("health_interval = \"100ms\"\n", "");
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let (hits, visits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (proxies, hits, visits) = (&proxies, &hits, &visits);
            scope.spawn(move || {
                let mut random = Random::new(100 + thread);
                let mut people: Vec<(Browser, Option<usize>)> =
                    (0..6).map(|_| (Browser::new(), None)).collect();
                for step in 0..250 {
                    if step > 20 && begun.elapsed() > Duration::from_secs(20) {
                        break;
                    }
                    let who = random.below(people.len());
                    let (browser, tier) = &mut people[who];
                    let weir = &proxies[random.below(2)];
                    match random.below(12) {
                        0 => {
                            change(browser, weir, &[("X-Control", "destroy")]);
                            *tier = None;
                        }
                        1 => {
                            change(browser, weir, &[("X-Unset", "tier")]);
                            *tier = None;
                        }
                        2 | 3 => {
                            let next = random.below(3);
                            let set = format!("tier=\"t{next}\", secret=\"of {thread} {who}\"");
                            change(browser, weir, &[("X-Set", &set)]);
                            *tier = Some(next);
                        }
                        4 if step % 5 == 0 => {
                            weir.admin("POST", "/purge?url=http://weir.test/page");
                        }
                        _ => {}
                    }
                    let targets = [
                        "/page",
                        "/page",
                        "/varies",
                        "/private",
                        "/validated",
                        "/stale",
                        "/speaks",
                        "/other",
                    ];
                    let target = targets[random.below(targets.len())];
                    let answer = ask(browser, &proxies[random.below(2)], "GET", target);
                    visits.fetch_add(1, Ordering::Relaxed);
                    if told(&answer) == "new=?0, unavailable | - | -" {
                        assert!(!answer.is_hit(), "made for somebody of whom nobody could tell who it is");
                        continue;
                    }
                    let expected = tier.map_or_else(|| "-".to_owned(), |tier| format!("tier=\"t{tier}\""));
                    assert_eq!(
                        told(&answer),
                        format!("- | {expected} | -"),
                        "{who} of {thread} at {step}: {target}"
                    );
                    hits.fetch_add(usize::from(answer.is_hit()), Ordering::Relaxed);
                }
            });
        }
    });
    let (hits, visits) = (hits.into_inner(), visits.into_inner());
    assert!(hits > visits / 10, "{hits} hits in {visits} visits say nothing");
}
