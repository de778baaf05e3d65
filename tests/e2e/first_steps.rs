//! What a person does on the first day: the demo, the short form, checking a file, purging.

use std::process::Command;
use std::time::Duration;

use harness::weir::{binary, check, run};
use harness::{Origin, RedisServer, Reply, Weir, eventually};

#[test]
fn the_demo_shows_what_is_cached_and_why() {
    let weir = Weir::with_arguments(&["demo", "--listen", "127.0.0.1:0"], 1, true);
    let said = |target: &str| weir.get(target).cache_status().to_owned();

    assert!(said("/slow").contains("stored"));
    assert!(said("/slow").starts_with("weir; hit"));
    assert!(said("/me").contains("detail=private"));
    assert!(said("/random").contains("detail=no-store"));
    assert!(said("/search?q=a&utm_source=b").contains("stored"));
    assert!(said("/search?q=a").starts_with("weir; hit"), "utm_source does not matter");
    assert!(weir.get("/").text().contains("<title>"));
    assert!(weir.get("/weir.toml").text().contains("[[route]]"));
}

#[test]
fn the_demo_stays_up_while_its_application_is_broken() {
    let weir = Weir::with_arguments(&["demo", "--listen", "127.0.0.1:0"], 1, true);
    assert_eq!(weir.get("/silent").status, 200);
    assert_eq!(weir.ask("POST", "/break", &[], b"").status, 202);

    let stale = weir.get("/silent");
    assert_eq!(stale.status, 200);
    assert!(stale.cache_status().contains("stale-if-error"), "{}", stale.cache_status());
    let fallback = weir.get("/nobody-asked-for-this-before");
    assert_eq!((fallback.status, fallback.text().contains("is down")), (503, true));
}

#[test]
fn the_short_form_forwards_everything() {
    let origin = Origin::start(|request| Reply::ok(request.path().to_owned()));
    let mut weir = Weir::with_arguments(&["--to", &origin.url(), "--listen", "127.0.0.1:0"], 1, true);

    assert_eq!(weir.get("/a/b").text(), "/a/b");
    assert!(weir.wait_for_line("/a/b").contains("200"), "a line for each request");
    weir.terminate();
    assert!(weir.wait(Duration::from_secs(10)).success());
}

#[test]
fn the_short_form_shares_in_the_redis_that_the_application_has() {
    let origin = Origin::start(|_| Reply::ok("a page").header("Cache-Control", "max-age=600"));
    let redis = RedisServer::start();
    let (url, of_cache, broker) = (origin.url(), format!("{}/1", redis.url()), redis.url());
    let start = || {
        let variables = [("REDIS_URL", &*of_cache), ("CELERY_BROKER_URL", &*broker)];
        Weir::with_variables(&["--to", &url, "--listen", "127.0.0.1:0"], &variables)
    };
    let (one, other) = (start(), start());
    let said = one.wait_for_line("shared with other proxies at");
    assert!(said.contains("/1 (from the environment: REDIS_URL;"), "{said}");
    let mut number = 0;
    eventually("one finds what the other has stored", || {
        number += 1;
        let target = format!("/page-{number}");
        one.get(&target);
        other.get(&target).cache_status().contains("detail=redis")
    });
    let place = url.trim_start_matches("http://").to_owned();
    let mut client = redis.client();
    client.ask(&[b"SELECT", b"1"]).unwrap();
    let keys = client.ask(&[b"KEYS", b"*"]).unwrap().list();
    let is_ours = |key: &str| key.trim_start_matches('{').starts_with(&format!("weir:{place}"));
    assert!(!keys.is_empty() && keys.iter().all(|key| is_ours(&key.text())), "{keys:?}");
    assert_eq!(redis.keys(), Vec::<String>::new(), "the broker's database is not touched");
}

#[test]
fn the_short_form_does_without_redis_where_the_application_does() {
    let (origin, redis) = (Origin::echo(), RedisServer::start());
    let weir = Weir::with_variables(
        &["--to", &origin.url(), "--listen", "127.0.0.1:0"],
        &[("REDIS_URL", &redis.url()), ("USE_REDIS", "False")],
    );
    weir.wait_for_line("single node");
    weir.get("/page");
    assert!(weir.get("/page").is_hit());
    // The one that asks.
    assert_eq!(redis.ask(&["CLIENT", "LIST"]).text().lines().count(), 1);
    let wrong = Command::new(binary())
        .args(["--to", &origin.url(), "--listen", "127.0.0.1:0"])
        .env("REDIS_URL", "redis://:s3cret@host:port")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(!wrong.status.success() && said.contains("REDIS_URL") && !said.contains("s3cret"), "{said}");
}

#[test]
fn every_value_is_shown_with_its_origin_and_no_secret_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let config = "[redis.main]\nurl = \"${REDIS_URL}\"\n[cache.default]\nredis = \"main\"\n\
                  [[route]]\norigin = \"http://127.0.0.1:8000\"\n";
    std::fs::write(&path, config).unwrap();
    let show = |arguments: &[&str]| {
        let shown = Command::new(binary())
            .args(["config", "show"])
            .args(arguments)
            .env("REDIS_URL", "redis://app:s3cret@10.0.0.5/1")
            .env("CELERY_BROKER_URL", "redis://:s3cret@10.0.0.5/0")
            .output()
            .unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        shown
    };
    let path = path.display().to_string();
    let with_origin = show(&["--origin", "--config", &path]);
    let url = format!("# {path}:2, variable REDIS_URL");
    let line =
        with_origin.lines().find(|line| line.contains(&url)).unwrap_or_else(|| panic!("{with_origin}"));
    assert!(line.starts_with("url = \"redis://10.0.0.5:6379/1\""), "{line}");
    assert!(
        with_origin.lines().any(|line| line.starts_with("# drain = \"30s\"") && line.ends_with("# default"))
    );
    let plain = show(&["--config", &path]);
    assert!(plain.parse::<toml::Table>().is_ok(), "{plain}");
    let short = show(&["--origin", "--to", "8000"]);
    for part in ["variable REDIS_URL", "# command line", "CELERY_BROKER_URL  a queue of the application's"] {
        assert!(short.contains(part), "{part} in {short}");
    }
}

#[test]
fn a_file_to_begin_with_is_right_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    for preset in ["django", "drf", "rails", "laravel", "wordpress", "api", "static", "minimal"] {
        let path = folder.path().join(preset).display().to_string();
        let init = || run(&["init", "--preset", preset, "--config", &path]);
        assert!(init().status.success(), "{preset}");
        let checked = run(&["check", "--config", &path]);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success() && said.ends_with("\nok\n"), "{preset}: {said}");
        assert!(said.contains("passed") || preset == "minimal", "{preset}: {said}");
        let again = init();
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.code() == Some(1) && said.contains("it is there already"), "{preset}: {said}");
    }
}

#[test]
fn check_says_ok_or_all_that_is_wrong() {
    let (status, printed) = check("[[route]]\norigin = \"http://127.0.0.1:8000\"\n");
    assert!(status.success() && printed.ends_with("ok\n"), "{printed}");

    let (status, printed) =
        check("[server]\nlsiten = 1\n[[route]]\norigin = \"app\"\ncache = { tll = \"1m\" }\n");
    assert_eq!(status.code(), Some(1));
    for part in [
        "did you mean `listen`?",
        "weir.toml:2:1",
        "there is no origin `app`",
        "did you mean `ttl`?",
        "3 mistakes",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
}

#[test]
fn a_file_with_a_failing_test_is_neither_right_nor_run() {
    let file =
        "[[route]]\norigin = \"http://127.0.0.1:8000\"\n[[test]]\nrequest = \"GET /\"\nroute = \"other\"\n";
    let (status, printed) = check(file);
    assert_eq!(status.code(), Some(1));
    assert!(printed.contains("`GET /` is taken by route `route 1` (line 1)"), "{printed}");
}

#[test]
fn purge_drops_what_is_stored_for_a_url() {
    let origin = Origin::start(|_| Reply::ok("a").header("Cache-Control", "max-age=60"));
    let weir = Weir::before(&origin);
    weir.get("/page");
    weir.get("/page");
    assert_eq!(origin.count(), 1);

    let url = "http://weir.test/page";
    let line = weir.wait_for_line("admin on http://");
    let admin = line.rsplit('/').next().expect("a split has parts");
    let output = run(&["purge", url, "--admin", admin]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(printed.starts_with(&format!("purged {url}")), "{printed}");

    weir.get("/page");
    assert_eq!(origin.count(), 2);

    let refused = run(&["purge", "not a url", "--admin", admin]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn arguments_that_make_no_sense_are_told() {
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--bogus"]).status.code(), Some(2));
    assert_eq!(run(&["run", "--config", "/nonexistent/weir.toml"]).status.code(), Some(1));
    assert!(run(&["--version"]).status.success());
    assert!(run(&["reference"]).stdout.starts_with(b"## The file"));
}
