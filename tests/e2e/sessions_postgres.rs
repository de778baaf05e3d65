//! Sessions in PostgreSQL: what several machines share when Redis is emptied, slow or gone, and what happens when PostgreSQL is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use harness::random::Random;
use harness::tls::Authority;
use harness::{Conn, Origin, PostgresServer, RedisServer, Weir, eventually};

use super::sessions::{Browser, application};

/// Nothing is given up for being slow.
const PATIENT: &str = "redis_budget = \"10s\"";

/// A machine: no `[data]`, so that nothing but the two servers outlives it.
fn config(origin: &Origin, redis: Option<&RedisServer>, postgres: &PostgresServer, session: &str) -> String {
    with(origin, redis, &format!("url = \"{}\"\nbudget = \"10s\"", postgres.url()), session)
}

fn with(origin: &Origin, redis: Option<&RedisServer>, postgres: &str, session: &str) -> String {
    let redis = redis.map(|redis| {
        format!(
            "[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\nconnect_timeout = \"1s\"\n",
            redis.url()
        )
    });
    format!(
        "{}[session]\n{session}\n[session.postgres]\n{postgres}\n[[route]]\norigin = \"{}\"\nsession = \"write\"\n",
        redis.unwrap_or_default(),
        origin.url()
    )
}

fn machines<const N: usize>(config: &str) -> [Weir; N] {
    let machines = std::array::from_fn(|_| Weir::with(config));
    machines.iter().for_each(up);
    machines
}

/// Until both servers can be asked.
fn up(weir: &Weir) {
    eventually("PostgreSQL is there", || weir.metric("sessions_durable_up", &[]) == 1.0);
    if weir.metrics().contains("redis_up") {
        eventually("Redis is there", || weir.metric("redis_up", &["main"]) == 1.0);
    }
}

#[test]
fn a_session_is_there_on_another_machine_after_flushall_and_a_restart() {
    let (origin, redis, postgres) = (application(), RedisServer::start(), PostgresServer::start());
    let text = config(&origin, Some(&redis), &postgres, PATIENT);
    let [one, two] = machines(&text);
    let mut browser = Browser::new();
    browser.ask(&one, "/", &[("X-Set", "cart=1"), ("X-Control", "sub=\"user:42\"")]);
    browser.set(&two, "theme=\"dark\"");
    drop((one, two));
    redis.ask(&["FLUSHALL"]);
    let [three] = machines(&text);
    let told = browser.ask(&three, "/", &[]).text();
    assert!(told.contains("sub=\"user:42\"") && told.ends_with("| cart=1, theme=\"dark\""), "{told}");
    assert!(redis.keys().iter().any(|key| key.starts_with("weir-session:s:")), "and Redis has it again");
    assert_eq!(postgres.ask("SELECT count(*) FROM weir_session WHERE owner IS NOT NULL AND NOT unsent"), "1");
    let name = browser.cookie.clone().unwrap();
    let found = postgres
        .ask(&format!("SELECT count(*) FROM weir_session WHERE encode(state, 'escape') LIKE '%{name}%'"));
    assert_eq!(found, "0", "who reads the tables has no name that a proxy would believe");
}

#[test]
fn without_redis_machines_share_what_postgresql_has_and_redis_learns_it_later() {
    let (origin, mut redis, postgres) = (application(), RedisServer::start(), PostgresServer::start());
    let [one, two] = machines(&config(&origin, Some(&redis), &postgres, PATIENT));
    let mut stays = Browser::new();
    stays.set(&one, "n=1");
    let mut leaves: Vec<Browser> = (0..2).map(|_| Browser::new()).collect();
    for browser in &mut leaves {
        browser.ask(&two, "/", &[("X-Set", "n=1"), ("X-Control", "sub=\"user:7\"")]);
    }
    redis.kill();
    stays.set(&one, "n=2");
    assert_eq!(stays.data(&two), "n=2", "what one machine writes the other one reads");
    let mut begun = Browser::new();
    begun.set(&two, "n=5");
    assert_eq!(begun.data(&one), "n=5", "a session that was begun without Redis");
    let names: Vec<_> = leaves.iter().map(|browser| browser.cookie.clone()).collect();
    leaves[0].ask(&one, "/", &[("X-Control", "logout-everywhere")]);
    let over = |leaves: &mut Vec<Browser>, weir: &Weir| {
        leaves.iter_mut().zip(&names).all(|(browser, name)| {
            browser.cookie.clone_from(name);
            browser.ask(weir, "/", &[]).text() == "new=?1 | -"
        })
    };
    assert!(over(&mut leaves, &two), "on all machines, at once");
    redis.restart();
    [&one, &two].into_iter().for_each(up);
    for weir in [&one, &two] {
        assert_eq!((stays.data(weir), begun.data(weir)), ("n=2".to_owned(), "n=5".to_owned()));
        assert!(over(&mut leaves, weir));
    }
    eventually("Redis has learnt all of it", || {
        postgres.ask("SELECT (SELECT count(*) FROM weir_session WHERE unsent) + (SELECT count(*) FROM weir_logout WHERE unsent)") == "0"
    });
    assert!(redis.keys().iter().any(|key| key.starts_with("weir-session:ul:")));
}

#[test]
fn what_one_machine_wrote_while_redis_hung_is_newer_on_all_of_them() {
    let (origin, redis, postgres) = (application(), RedisServer::start(), PostgresServer::start());
    let [one, two] = machines(&config(&origin, Some(&redis), &postgres, "redis_budget = \"200ms\""));
    let (mut stays, mut leaves) = (Browser::new(), Browser::new());
    stays.set(&one, "n=1");
    leaves.set(&one, "n=1");
    redis.freeze();
    stays.set(&one, "n=2");
    let name = leaves.cookie.clone();
    leaves.ask(&one, "/", &[("X-Control", "destroy")]);
    // The other one has nothing to send, and must ask all the same when it has a connection again.
    eventually("the other machine has given Redis up", || {
        stays.data(&two);
        two.metric("redis_up", &["main"]) == 0.0
    });
    redis.thaw();
    for _ in 0..30 {
        assert_eq!(stays.data(&two), "n=2");
        leaves.cookie.clone_from(&name);
        assert_eq!(leaves.data(&two), "-", "who has logged out stays so");
    }
    [&one, &two].into_iter().for_each(up);
    assert_eq!(stays.data(&two), "n=2");
}

#[test]
fn without_postgresql_sessions_go_on_and_it_gets_what_it_missed() {
    let (origin, redis, mut postgres) = (application(), RedisServer::start(), PostgresServer::start());
    let text = config(&origin, Some(&redis), &postgres, PATIENT)
        .replace("budget = \"10s\"\n[[", "budget = \"100ms\"\n[[");
    let [one, two] = machines(&text);
    let (mut known, mut leaves) = (Browser::new(), Browser::new());
    known.ask(&one, "/", &[("X-Set", "n=1"), ("X-Control", "sub=\"user:1\"")]);
    leaves.ask(&one, "/", &[("X-Set", "n=1"), ("X-Control", "sub=\"user:2\"")]);
    eventually("it is in PostgreSQL", || {
        postgres.ask("SELECT count(*) FROM weir_session WHERE owner IS NOT NULL") == "2"
    });
    // Silent first, then gone.
    postgres.freeze();
    let begun = Instant::now();
    for number in 2..8 {
        assert_eq!(known.set(&one, &format!("n={number}")).status, 200);
        assert_eq!(known.data(&two), format!("n={number}"));
    }
    let silent = begun.elapsed();
    // Each of the twelve requests asks it three times at most, for a tenth of a second each; after five late answers not at all.
    assert!(silent < Duration::from_secs(8), "{silent:?}");
    eventually("it is not asked", || {
        known.data(&one);
        one.metric("sessions_durable_up", &[]) == 0.0
    });
    postgres.kill();
    let name = leaves.cookie.clone();
    assert_eq!(leaves.ask(&one, "/", &[("X-Control", "logout-everywhere")]).status, 200);
    assert_eq!(known.set(&one, "n=9").status, 200);
    let mut new = Browser::new();
    assert_eq!(new.ask(&two, "/", &[("X-Set", "n=0"), ("X-Control", "sub=\"user:3\"")]).status, 200);
    assert!(one.metric("sessions_owed", &[]) > 0.0 && two.metric("sessions_owed", &[]) > 0.0);
    postgres.restart();
    for weir in [&one, &two] {
        up(weir);
        eventually("it has what it missed", || weir.metric("sessions_owed", &[]) == 0.0);
    }
    redis.ask(&["FLUSHALL"]);
    assert_eq!((known.data(&two), new.data(&one)), ("n=9".to_owned(), "n=0".to_owned()));
    leaves.cookie = name;
    assert_eq!(leaves.ask(&two, "/", &[]).text(), "new=?1 | -", "a logout was among it");
}

#[test]
fn what_postgresql_has_missed_outlives_a_proxy_that_is_killed() {
    let (origin, redis, mut postgres) = (application(), RedisServer::start(), PostgresServer::start());
    let folder = tempfile::tempdir().unwrap();
    let text = config(&origin, Some(&redis), &postgres, PATIENT)
        .replace("budget = \"10s\"\n[[", "budget = \"100ms\"\n[[");
    let text = format!("[data]\npath = \"{}\"\n{text}", folder.path().display());
    let weir = Weir::with(&text);
    up(&weir);
    let (mut stays, mut leaves) = (Browser::new(), Browser::new());
    stays.ask(&weir, "/", &[("X-Set", "n=1"), ("X-Control", "sub=\"user:1\"")]);
    leaves.ask(&weir, "/", &[("X-Control", "sub=\"user:2\"")]);
    eventually("it is in PostgreSQL", || {
        postgres.ask("SELECT count(*) FROM weir_session WHERE owner IS NOT NULL") == "2"
    });
    postgres.kill();
    let mut new = Browser::new();
    let name = leaves.cookie.clone();
    assert_eq!(stays.set(&weir, "n=2").status, 200);
    assert_eq!(new.ask(&weir, "/", &[("X-Set", "n=0"), ("X-Control", "sub=\"user:3\"")]).status, 200);
    assert_eq!(leaves.ask(&weir, "/", &[("X-Control", "logout-everywhere")]).status, 200);
    let owed = weir.metric("sessions_owed", &[]);
    assert!(owed >= 4.0, "{owed}");
    // A process that is dropped is killed.
    drop(weir);
    let weir = Weir::with(&text);
    assert_eq!(weir.metric("sessions_owed", &[]), owed);
    postgres.restart();
    up(&weir);
    eventually("it has what it missed", || weir.metric("sessions_owed", &[]) == 0.0);
    redis.ask(&["FLUSHALL"]);
    assert_eq!((stays.data(&weir), new.data(&weir)), ("n=2".to_owned(), "n=0".to_owned()));
    leaves.cookie = name;
    assert_eq!(leaves.ask(&weir, "/", &[]).text(), "new=?1 | -", "a logout was among it");
    drop(weir);
    let weir = Weir::with(&text);
    assert_eq!(weir.metric("sessions_owed", &[]), 0.0, "what is paid is not owed again");
}

#[test]
fn with_postgresql_alone_fifty_writes_at_once_on_two_machines_are_all_there() {
    let (origin, postgres) = (application(), PostgresServer::start());
    let text = config(&origin, None, &postgres, "durability = \"durable\"");
    let machines: [Weir; 2] = machines(&text);
    let mut browser = Browser::new();
    browser.set(&machines[0], "begun");
    let mut clients: Vec<Conn> = (0..50).map(|n| machines[n % 2].client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(browser.request("/", &[("X-Set", &format!("a{n}={n}"))]));
    }
    for client in &mut clients {
        assert_eq!(client.expect_response("GET").status, 200);
    }
    let data = browser.data(&machines[1]);
    for n in 0..50 {
        assert!(data.contains(&format!("a{n}={n}")), "a{n} is lost: {data}");
    }
    let writes = || postgres.ask("SELECT sum(rev) FROM weir_session");
    let before = writes();
    for _ in 0..50 {
        browser.data(&machines[0]);
    }
    assert_eq!(writes(), before, "reading writes nothing");
}

#[test]
fn trouble_with_postgresql_is_no_logout() {
    let (origin, mut postgres) = (application(), PostgresServer::start());
    let [weir] = machines(&config(&origin, None, &postgres, ""));
    let mut browser = Browser::new();
    browser.set(&weir, "n=1");
    postgres.kill();
    eventually("it is away", || weir.metric("sessions_durable_up", &[]) == 0.0);
    let unknown = browser.ask(&weir, "/", &[]);
    assert_eq!(unknown.text(), "new=?0, unavailable | -");
    assert!(!unknown.headers.has("set-cookie"), "the cookie stays");
    assert_eq!(
        browser.ask(&weir, "/", &[("X-Set", "n=2")]).status,
        503,
        "what is not saved is not said to be"
    );
    postgres.restart();
    up(&weir);
    assert_eq!(browser.data(&weir), "n=1", "without a restart of Weir");
}

#[test]
fn operators_see_all_machines_and_many_that_start_at_once_make_the_tables_once() {
    let (origin, postgres) = (application(), PostgresServer::start());
    let text = config(&origin, None, &postgres, "keys = [\"a secret\"]");
    let all: Vec<Weir> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| Weir::with(&text))).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    all.iter().for_each(up);
    assert_eq!(postgres.ask("SELECT version FROM weir_session_schema"), "1");
    let mut browser = Browser::new();
    browser.ask(&all[0], "/", &[("X-Set", "secret=\"s3cret\""), ("X-Control", "sub=\"user 42\"")]);
    let stored = postgres.ask("SELECT encode(state, 'escape') FROM weir_session");
    assert!(!stored.contains("s3cret") && !stored.contains("user 42"), "{stored}");
    let admin = all[3].admin_address().to_string();
    let run = |arguments: &[&str]| {
        let output = harness::weir::run(&[&["session"], arguments, &["--admin", &admin]].concat());
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let listed = run(&["ls", "--user", "user 42"]);
    assert!(listed.ends_with("1 session\n") || listed.contains("user 42"), "{listed}");
    assert!(!run(&["ls"]).contains("s3cret"));
    assert_eq!(run(&["kill-user", "user 42"]), "ended\n");
    assert_eq!(browser.ask(&all[1], "/", &[]).text(), "new=?1 | -");
    // Tables of a later Weir are left alone.
    postgres.ask("UPDATE weir_session_schema SET version = 7");
    let later = Weir::with(&text);
    later.wait_for_line("version 7");
    assert_eq!(later.metric("sessions_durable_up", &[]), 0.0);
}

#[test]
fn the_way_to_postgresql_is_encrypted_and_checked() {
    let authority = Authority::new();
    let identity = authority.identity(&["127.0.0.1"]);
    let postgres = PostgresServer::with(
        &["ssl=on", "ssl_cert_file={DIR}/server.pem", "ssl_key_file={DIR}/server.key"],
        |folder| identity.write(folder, "server").into(),
    );
    let (origin, folder) = (application(), tempfile::tempdir().unwrap());
    let (ca, secret) = (authority.write(folder.path()), folder.path().join("password"));
    std::fs::write(&secret, "p@ss word/%\n").unwrap();
    let url = format!("postgres://weir@127.0.0.1:{}/weir?sslmode=verify-full", postgres.port());
    let secret = format!("url = \"{url}\"\npassword_file = \"{}\"\nbudget = \"10s\"", secret.display());
    let trusting = format!("{secret}\ntls = {{ ca = \"{}\" }}", ca.display());
    let weir = Weir::with(&with(&origin, None, &trusting, ""));
    up(&weir);
    let mut browser = Browser::new();
    browser.set(&weir, "n=1");
    assert_eq!(browser.data(&weir), "n=1");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'weir'";
    assert_eq!(postgres.ask(encrypted), "t");
    let weir = Weir::with(&with(&origin, None, &secret, ""));
    weir.wait_for_line("PostgreSQL cannot be reached");
    assert_eq!(
        weir.metric("sessions_durable_up", &[]),
        0.0,
        "nobody the system trusts has signed its certificate"
    );
    assert!(!weir.output().contains("p@ss"));
}

/// Many users, three machines, and servers that are flushed, killed and frozen by chance: nobody is ever taken for somebody else, nobody is logged out, nothing goes back.
#[test]
fn nobody_is_lost_and_nobody_is_somebody_else_on_three_machines() {
    let (origin, mut redis, mut postgres) = (application(), RedisServer::start(), PostgresServer::start());
    let [a, b, c] = machines(&config(&origin, Some(&redis), &postgres, "redis_budget = \"200ms\""));
    let weirs = [a, b, c];
    let (mut random, mut users) = (Random::new(11), HashMap::<usize, (Browser, usize)>::new());
    let (begun, mut frozen) = (Instant::now(), false);
    let poke = |weir: &Weir| drop(Browser { cookie: Some("A".repeat(43)) }.ask(weir, "/", &[]));
    // Were only some cut off, the others would see what those write a second late.
    let all_are_back = |weirs: &[Weir]| {
        weirs.iter().for_each(poke);
        eventually("all are back", || weirs.iter().all(|weir| weir.metric("redis_up", &["main"]) == 1.0));
    };
    for step in 0..400 {
        if begun.elapsed() > Duration::from_secs(40) {
            assert!(step > 20, "too slow to say anything");
            break;
        }
        // One of the two is there at any time: without both nobody can say who is logged in.
        match random.below(60) {
            0 if !frozen => drop(redis.ask(&["FLUSHALL"])),
            1 if !frozen => {
                redis.kill();
                redis.restart();
                all_are_back(&weirs);
            }
            2 if !frozen => {
                redis.freeze();
                frozen = true;
                let noticed = |weir: &Weir| {
                    poke(weir);
                    weir.metric("redis_up", &["main"]) == 0.0
                };
                eventually("all have noticed", || weirs.iter().all(noticed));
            }
            3..=8 if frozen => {
                redis.thaw();
                frozen = false;
                all_are_back(&weirs);
            }
            9 if !frozen => {
                weirs.iter().for_each(up);
                postgres.restart();
                weirs.iter().for_each(up);
                let paid = || weirs.iter().all(|weir| weir.metric("sessions_owed", &[]) == 0.0);
                eventually("PostgreSQL has what it missed", paid);
            }
            _ => {}
        }
        let (user, weir) = (random.below(20), &weirs[random.below(3)]);
        let (browser, count) = users.entry(user).or_insert_with(|| (Browser::new(), 0));
        if browser.cookie.is_none() {
            let control = format!("sub=\"user:{user}\"");
            browser.ask(weir, "/", &[("X-Set", "n=0"), ("X-Control", &control)]);
            continue;
        }
        let told = browser.ask(weir, "/", &[]).text();
        assert!(told.contains(&format!("sub=\"user:{user}\"")), "user {user} at step {step}: {told}");
        assert!(told.ends_with(&format!("| n={count}")), "user {user} at step {step}: {told}");
        *count += 1;
        assert_eq!(browser.set(weir, &format!("n={count}")).status, 200, "step {step}");
    }
    if frozen {
        redis.thaw();
    }
}
