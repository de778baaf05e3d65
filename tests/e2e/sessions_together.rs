//! Sessions of proxies that share a Redis and have a disk each: what one of them has ended, no other disk brings back, whatever Redis forgets.

use std::time::{Duration, Instant};

use harness::random::Random;
use harness::{Origin, RedisServer, Weir, eventually};

use crate::sessions::{Browser, application};

fn config(origin: &Origin, redis: &RedisServer, data: &str) -> String {
    format!(
        "[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n[data]\npath = \"{data}\"\n\
         [session]\nredis_budget = \"10s\"\n[[route]]\norigin = \"{}\"\nsession = \"write\"\n",
        redis.url(),
        origin.url()
    )
}

fn connected(weir: &Weir) {
    eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
}

fn heard(weir: &Weir) -> f64 {
    weir.metric("sessions_total", &["ends-heard"])
}

fn told_again(weir: &Weir) -> f64 {
    weir.metric("sessions_total", &["ends-told-again"])
}

/// Somebody who is logged in, and whose session both disks have.
fn logged_in(proxies: [&Weir; 2], user: &str) -> Browser {
    let mut browser = Browser::new();
    browser.ask(proxies[0], "/", &[("X-Set", "n=1"), ("X-Control", &format!("sub=\"{user}\""))]);
    browser.set(proxies[1], "n=2");
    assert!(is_alive(&browser, proxies[0]) && is_alive(&browser, proxies[1]));
    browser
}

/// Whether who has this cookie is somebody; the browser does not hear of it.
fn is_alive(browser: &Browser, weir: &Weir) -> bool {
    let mut client = weir.client();
    client.send(browser.request("/", &[]));
    client.expect_response("GET").text().contains("sub=")
}

/// Waits until both have heard of all that the other has ended so far. Each ends something of no account, twice: who has counted the second has begun to listen after the first was counted.
fn both_have_heard(proxies: &[Weir; 2]) {
    for _ in 0..2 {
        let before = [0, 1].map(|at| heard(&proxies[at]));
        for weir in proxies {
            let mut nobody = Browser::new();
            nobody.set(weir, "n=1");
            nobody.ask(weir, "/", &[("X-Control", "destroy")]);
        }
        for at in 0..2 {
            eventually("it has heard", || heard(&proxies[at]) > before[at]);
        }
    }
}

fn copy(browser: &Browser) -> Browser {
    Browser { cookie: browser.cookie.clone() }
}

#[test]
fn what_another_proxy_has_ended_stays_over_when_redis_is_emptied() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis, "{DIR}/data");
    let [one, two] = [Weir::with(&text), Weir::with(&text)];
    [&one, &two].into_iter().for_each(connected);
    let mut leaves = logged_in([&one, &two], "ann");
    let everywhere = [logged_in([&one, &two], "bob"), logged_in([&two, &one], "bob")];
    let stays = logged_in([&one, &two], "eve");
    let stolen = copy(&leaves);
    // Who has logged in at both was nobody before: nothing has ended yet.
    assert_eq!(heard(&two), 0.0);
    leaves.ask(&one, "/", &[("X-Control", "destroy")]);
    copy(&everywhere[0]).ask(&one, "/", &[("X-Control", "logout-everywhere")]);
    // The first, the second by itself, and all of bob's.
    eventually("the other proxy has heard of it", || heard(&two) >= 3.0);
    redis.ask(&["FLUSHALL"]);
    for weir in [&two, &one, &two] {
        assert!(!is_alive(&stolen, weir), "who has logged out is not brought back");
        for browser in &everywhere {
            assert!(!is_alive(browser, weir), "nor who was logged out everywhere");
        }
        assert!(is_alive(&stays, weir), "and nobody else is lost");
    }
}

/// Redis is emptied before the other proxy can have heard of it. Whoever is connected tells again in time; only a machine that stands still for a quarter of a second may be late with that.
#[test]
fn what_was_ended_a_moment_ago_is_over_also_when_redis_is_emptied_at_once() {
    let (origin, redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis, "{DIR}/data");
    let [one, two] = [Weir::with(&text), Weir::with(&text)];
    [&one, &two].into_iter().for_each(connected);
    let rounds = 12;
    let mut in_time = 0;
    for round in 0..rounds {
        let mut leaves = logged_in([&one, &two], &format!("ann {round}"));
        let everywhere = logged_in([&one, &two], &format!("bob {round}"));
        let stays = logged_in([&one, &two], &format!("eve {round}"));
        let stolen = copy(&leaves);
        leaves.ask(&one, "/", &[("X-Control", "destroy")]);
        copy(&everywhere).ask(&one, "/", &[("X-Control", "logout-everywhere")]);
        redis.ask(&["FLUSHALL"]);
        in_time += usize::from(!is_alive(&stolen, &two) && !is_alive(&everywhere, &two));
        assert!(is_alive(&stays, &two), "and nobody else is lost");
        eventually("it is over", || !is_alive(&stolen, &two) && !is_alive(&everywhere, &two));
    }
    assert!(in_time >= rounds / 3, "at once in {in_time} of {rounds}");
}

#[test]
fn a_redis_that_was_emptied_is_told_again_what_has_ended_while_the_other_proxy_was_away() {
    let (origin, redis) = (application(), RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let one = Weir::with(&config(&origin, &redis, "{DIR}/data"));
    let there = config(&origin, &redis, &folder.path().display().to_string());
    let two = Weir::with(&there);
    [&one, &two].into_iter().for_each(connected);
    let mut leaves = logged_in([&one, &two], "ann");
    let everywhere = [logged_in([&one, &two], "bob"), logged_in([&one, &two], "bob")];
    let stolen = copy(&leaves);
    drop(two);
    leaves.ask(&one, "/", &[("X-Control", "destroy")]);
    copy(&everywhere[0]).ask(&one, "/", &[("X-Control", "logout-everywhere")]);
    let before = told_again(&one);
    redis.ask(&["FLUSHALL"]);
    // A disk that knows of no end is asked by nobody: Redis is told before somebody comes.
    eventually("Redis is told again", || told_again(&one) >= before + 3.0);
    assert!(redis.keys().iter().any(|key| key.starts_with("weir-session:ul:")), "{:?}", redis.keys());
    let two = Weir::with(&there);
    connected(&two);
    assert!(!is_alive(&stolen, &two));
    assert!(!everywhere.iter().any(|browser| is_alive(browser, &two)));
    eventually("its disk knows it, too", || heard(&two) >= 3.0);
    redis.ask(&["FLUSHALL"]);
    assert!(!is_alive(&stolen, &two) && !everywhere.iter().any(|browser| is_alive(browser, &two)));
}

#[test]
fn a_redis_that_reads_an_old_file_is_told_what_has_ended_since() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis, "{DIR}/data");
    let [one, two] = [Weir::with(&text), Weir::with(&text)];
    [&one, &two].into_iter().for_each(connected);
    // A session of which only one disk knows.
    let mut leaves = Browser::new();
    leaves.ask(&one, "/", &[("X-Control", "sub=\"ann\"")]);
    let stolen = copy(&leaves);
    redis.ask(&["SAVE"]);
    leaves.ask(&one, "/", &[("X-Control", "destroy")]);
    eventually("the other proxy has heard of it", || heard(&two) >= 1.0);
    redis.kill();
    redis.restart();
    connected(&two);
    assert!(!is_alive(&stolen, &two), "the file has it, and this disk knows better");
}

/// Two proxies, a Redis that is emptied or restarted, and people who log in and out at either: who is over, and of whom both have heard, is never somebody again; and nobody else is lost.
#[test]
fn nobody_comes_back_whatever_redis_forgets() {
    let (origin, mut redis) = (application(), RedisServer::start());
    let text = config(&origin, &redis, "{DIR}/data");
    let proxies = [Weir::with(&text), Weir::with(&text)];
    proxies.iter().for_each(connected);
    let mut random = Random::new(23);
    let (mut alive, mut over): (Vec<(usize, Browser)>, Vec<Browser>) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || (rounds < 25 && begun.elapsed() < Duration::from_secs(20)) {
        rounds += 1;
        for _ in 0..3 {
            let user = random.below(8);
            let first = random.below(2);
            let pair = [&proxies[first], &proxies[1 - first]];
            alive.push((user, logged_in(pair, &format!("user {user}"))));
        }
        for weir in &proxies {
            if (rounds == 1 || random.once_in(2)) && !alive.is_empty() {
                let (_, mut browser) = alive.swap_remove(random.below(alive.len()));
                over.push(copy(&browser));
                browser.ask(weir, "/", &[("X-Control", "destroy")]);
            }
            if random.once_in(3) {
                let user = random.below(8);
                let killed = weir.admin("POST", &format!("/sessions/kill?user=user%20{user}"));
                assert_eq!(killed.status, 200, "{}", killed.text());
                let (ended, others) = alive.drain(..).partition::<Vec<_>, _>(|(of, _)| *of == user);
                over.extend(ended.into_iter().map(|(_, browser)| browser));
                alive = others;
            }
        }
        both_have_heard(&proxies);
        if random.once_in(2) {
            redis.ask(&["FLUSHALL"]);
        } else {
            redis.kill();
            for weir in &proxies {
                eventually("it is away", || weir.metric("redis_up", &["main"]) == 0.0);
            }
            redis.restart();
            proxies.iter().for_each(connected);
        }
        for browser in &over {
            assert!(!is_alive(browser, &proxies[random.below(2)]), "round {rounds}");
        }
        for (user, browser) in &alive {
            assert!(is_alive(browser, &proxies[random.below(2)]), "user {user} in round {rounds}");
        }
    }
    assert!(!over.is_empty(), "{rounds} rounds say nothing");
}
