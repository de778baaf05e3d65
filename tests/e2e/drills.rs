//! Drills: a fault on the proxy's own links, that ends by itself and harms nobody else.

use harness::weir::run;
use harness::{Origin, RedisServer, Reply, Weir, eventually};

fn config(origin: &Origin, redis: &RedisServer) -> String {
    format!(
        "[redis.main]\nurl = \"{}\"\n[cache.default]\nredis = \"main\"\nstale_if_error = \"1h\"\n\
         [[route]]\nname = \"pages\"\norigin = \"{}\"\n",
        redis.url(),
        origin.url()
    )
}

fn origin() -> Origin {
    Origin::start(|request| Reply::ok(request.path().to_owned()).header("Cache-Control", "max-age=600"))
}

fn is_open(weir: &Weir) -> bool {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["purges"]["state"] == "open"
}

fn report(weir: &Weir) -> serde_json::Value {
    serde_json::from_str(&weir.admin("GET", "/drill").text()).unwrap()
}

fn begin(weir: &Weir, fault: &str) {
    let begun = weir.admin("POST", &format!("/drill?fault={fault}&for=10m"));
    assert_eq!(begun.status, 202, "{}", begun.text());
    weir.wait_for_line("a drill begins");
}

fn stop(weir: &Weir) {
    assert_eq!(weir.admin("POST", "/drill?fault=stop").status, 200);
    weir.wait_for_line("a drill has ended");
    assert_eq!(report(weir)["running"], false);
}

#[test]
fn each_fault_of_redis_is_as_it_would_be_and_is_this_proxy_s_alone() {
    for (fault, metric) in
        [("redis-down", "redis_up"), ("redis-slow", "redis_up"), ("redis-oom", "redis_writable")]
    {
        let (origin, redis) = (origin(), RedisServer::start());
        let (weir, other) = (Weir::with(&config(&origin, &redis)), Weir::with(&config(&origin, &redis)));
        eventually("a log that is trusted", || is_open(&weir) && is_open(&other));
        begin(&weir, fault);
        let mut number = 0;
        eventually("it is noticed", || {
            number += 1;
            let target = format!("/page-{number}");
            let answer = weir.get(&target);
            assert_eq!((answer.status, answer.text()), (200, target), "{fault}");
            weir.metric(metric, &["main"]) == 0.0
        });
        assert_eq!(other.metric(metric, &["main"]), 1.0, "{fault}: nothing was done to Redis");
        let told = report(&weir);
        assert_eq!((&told["fault"], &told["running"]), (&fault.into(), &true.into()));
        assert_eq!(told["routes"][0]["route"], "pages");
        assert!(told["routes"][0]["answers"].as_u64().unwrap() >= number, "{told}");
        assert_eq!(told["routes"][0]["errors"], 0, "{fault}: {told}");
        stop(&weir);
        eventually("it is used again", || {
            number += 1;
            weir.get(&format!("/page-{number}"));
            is_open(&weir) && weir.metric(metric, &["main"]) == 1.0
        });
    }
}

#[test]
fn without_its_origin_the_proxy_serves_what_it_has_and_the_origin_is_well_afterwards() {
    let (origin, redis) = (origin(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis));
    weir.get("/known");
    begin(&weir, "origin-down");
    assert!(weir.get("/known").is_hit());
    for number in 0..10 {
        assert_eq!(weir.get(&format!("/new-{number}")).status, 502);
    }
    let told = report(&weir);
    let route = &told["routes"][0];
    assert_eq!(
        (&route["answers"], &route["from_cache"], &route["errors"]),
        (&11.into(), &1.into(), &10.into()),
        "{told}"
    );
    assert_eq!(origin.count(), 1, "nothing was asked of it");
    stop(&weir);
    assert_eq!(weir.get("/new-1").text(), "/new-1", "at once: its servers do not rest for this");
}

#[test]
fn a_drill_ends_by_itself_and_is_told_by_route() {
    let (origin, redis) = (origin(), RedisServer::start());
    let weir = Weir::with(&config(&origin, &redis));
    eventually("a log that is trusted", || is_open(&weir));
    let admin = weir.admin_address().to_string();
    let told = run(&["drill", "redis-down", "--for", "1s", "--admin", &admin]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && text.contains("redis-down for 1s;"), "{text}");
    let ended = weir.wait_for_line("a drill has ended");
    assert!(ended.contains("its time is over"), "{ended}");
    eventually("it is used again", || is_open(&weir));
    // Whoever began it need not be there.
    begin_for_a_second(&weir);
    eventually("it has ended", || report(&weir)["drill"] == 2 && report(&weir)["running"] == false);
}

fn begin_for_a_second(weir: &Weir) {
    assert_eq!(weir.admin("POST", "/drill?fault=redis-down&for=1s").status, 202);
}

#[test]
fn one_at_a_time_of_a_kind_that_there_is_for_as_long_as_is_sensible() {
    let origin = origin();
    let weir = Weir::before(&origin);
    for wrong in [
        "fault=redis-gone",
        "fault=redis-down&for=11m",
        "fault=redis-down&for=soon",
        "fault=redis-down&for=1ms",
        "",
    ] {
        assert_eq!(weir.admin("POST", &format!("/drill?{wrong}")).status, 400, "{wrong}");
    }
    assert!(report(&weir)["drill"].is_null());
    begin(&weir, "origin-down");
    let second = weir.admin("POST", "/drill?fault=redis-down&for=1s");
    assert_eq!(second.status, 409);
    assert!(second.text().contains("`origin-down`"), "{}", second.text());
    stop(&weir);
    assert_eq!(weir.admin("DELETE", "/drill").status, 405);
}
