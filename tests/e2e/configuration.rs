//! The configuration as people meet it: what is wrong is told, all at once, with line and caret and the way out.

use std::process::Command;

use harness::tls::Authority;
use harness::weir::{binary, check, run};
use harness::{Origin, Weir};

#[test]
fn three_lines_are_enough() {
    let (status, printed) = check("[[route]]\norigin = \"http://127.0.0.1:8000\"\n");
    assert!(status.success(), "{printed}");
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let config = r#"[server]
listen = ["127.0.0.1:99999"]
drian = "30s"

[server.limits]
head_bytes = "32 kilos"

[origin.app]
servers = ["http://127.0.0.1:8000"]
timeouts = { connect = "5 minuets" }

[[route]]
match = { path = "/api/**", methodes = ["GET"] }
origin = "ap"
cache = { ttl = 300 }
"#;
    let (status, printed) = check(config);
    assert!(!status.success());
    for (what, line) in [
        ("99999", 2),
        ("drian", 3),
        ("32 kilos", 6),
        ("5 minuets", 10),
        ("methodes", 13),
        ("`ap`", 14),
        ("300", 15),
    ] {
        assert!(printed.contains(what), "{what} is not told:\n{printed}");
        assert!(printed.contains(&format!("weir.toml:{line}")), "line {line} is not told:\n{printed}");
    }
    for nearest in ["drain", "methods", "`app`"] {
        assert!(printed.contains(nearest), "{nearest} would be meant:\n{printed}");
    }
    assert!(printed.contains('^'), "a caret shows where:\n{printed}");
}

#[test]
fn a_broken_file_is_told_with_its_line() {
    let (status, printed) = check("[[route]]\norigin = \"http://127.0.0.1:8000\nname = \"x\"\n");
    assert!(!status.success());
    assert!(printed.contains("weir.toml:2"), "{printed}");
}

#[test]
fn routes_that_can_never_match_are_named() {
    let (_, printed) = check(
        "[[route]]\nname = \"all\"\norigin = \"http://127.0.0.1:1\"\n\
         [[route]]\nname = \"never\"\nmatch = { path = \"/x\" }\norigin = \"http://127.0.0.1:2\"\n",
    );
    assert!(printed.contains("never") && printed.contains("all"), "{printed}");
}

#[test]
fn the_environment_fills_in_and_secrets_stay_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let config = "[admin]\ntoken = \"${WEIR_TEST_TOKEN}\"\nlisten = \"${WEIR_TEST_ADMIN:-127.0.0.1:9}\"\nwrong = 1\n\
                  [[route]]\norigin = \"http://127.0.0.1:${WEIR_TEST_PORT:-8000}\"\n";
    std::fs::write(&path, config).unwrap();
    let output = Command::new(binary())
        .args(["check", "--config"])
        .arg(&path)
        .env("WEIR_TEST_TOKEN", "very-secret-value")
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(!output.status.success() && printed.contains("wrong"), "{printed}");
    assert!(!printed.contains("very-secret-value"), "{printed}");

    std::fs::write(&path, "[[route]]\norigin = \"http://127.0.0.1:${WEIR_TEST_MISSING}\"\n").unwrap();
    let output = Command::new(binary()).args(["check", "--config"]).arg(&path).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(!output.status.success() && printed.contains("WEIR_TEST_MISSING"), "{printed}");
}

#[test]
fn expectations_about_routes_are_tested() {
    let config = |name: &str, same: &str| {
        format!(
            "[[route]]\nname = \"items\"\nmatch = {{ path = \"/items\" }}\norigin = \"http://127.0.0.1:1\"\n\
             cache = {{ ignore_query = [\"utm_*\"] }}\n[[route]]\nname = \"rest\"\norigin = \"http://127.0.0.1:1\"\n\
             [[test]]\nrequest = \"GET /items?a=1&utm_source=x\"\nroute = \"{name}\"\nsame_key_as = \"{same}\"\n"
        )
    };
    let (status, printed) = check(&config("items", "GET /items?a=1"));
    assert!(status.success(), "{printed}");
    let (status, printed) = check(&config("rest", "GET /items?a=2"));
    assert!(!status.success());
    assert!(printed.contains("items") && printed.contains("rest"), "{printed}");
}

#[test]
fn a_missing_file_and_a_missing_certificate_are_told() {
    let output = run(&["check", "--config", "/nonexistent/weir.toml"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/weir.toml"));
    let (status, printed) = check(
        "[server]\nlisten = [{ address = \"127.0.0.1:0\", tls = { cert = \"no.pem\", key = \"no.key\" } }]\n\
         [[route]]\norigin = \"http://127.0.0.1:1\"\n",
    );
    assert!(!status.success() && printed.contains("no.pem"), "{printed}");
}

#[test]
fn one_argument_is_enough_for_one_s_own_application() {
    let origin = Origin::echo();
    // The default port may be taken on the machine that runs this: any port will do.
    let weir = Weir::with_arguments(&["--to", &origin.url(), "--listen", "127.0.0.1:0"], 1, false);
    assert_eq!(weir.get("/hello").text(), "GET /hello");
    assert!(weir.get("/hello").is_hit());
}

#[test]
fn the_demo_is_an_origin_and_the_proxy_before_it() {
    let weir = Weir::with_arguments(&["demo", "--listen", "127.0.0.1:0"], 1, false);
    assert_eq!(weir.get("/").status, 200);
}

#[test]
fn every_sample_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::new().identity(&["example.com"]).write(folder.path(), "sample");
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let mut check = Command::new(binary());
        check.args(["check", "--config"]).arg(&path).envs([("TLS_CERT", &certificate), ("TLS_KEY", &key)]);
        check.envs([("TLS_CERT_2", &certificate), ("TLS_KEY_2", &key)]);
        let output = check.output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    }
    assert!(seen > 0, "no samples in {}", samples.display());
}
