//! The configuration as a whole. Texts of mistakes are compared with the files in `mistakes/`; `WEIR_BLESS=1 cargo test` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::model::{Action, ListenAddress, OriginAddress, Override};
use super::*;

/// An environment and files of its own.
pub(super) struct Held(BTreeMap<&'static str, &'static str>);

impl Surroundings for Held {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        let name = path.to_str().unwrap_or_default();
        self.0.get(name).map(|value| (*value).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

pub(super) fn held() -> Held {
    Held(BTreeMap::from([
        ("PORT", "8123"),
        ("EMPTY", ""),
        ("YES", "true"),
        ("NUMBER", "12"),
        ("PASSWORD", "correct-horse-battery-staple"),
        ("BAD", "sesame and other things"),
        ("/run/secrets/token", "from-a-file-0123456789\n"),
    ]))
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests"))
}

fn read(text: &str) -> Result<Loaded, Mistakes> {
    parse("weir.toml", text, folder(), &held())
}

#[track_caller]
fn good(text: &str) -> Loaded {
    read(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Every `NAME.toml` in `mistakes/` against `NAME.txt`.
#[test]
fn mistakes_read_as_committed() {
    let mut seen = 0;
    let mut differing = Vec::new();
    for entry in std::fs::read_dir(folder().join("mistakes")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let found = match read(&text) {
            Ok(loaded) => {
                let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
                format!("{}ok\n", warnings.join("\n"))
            }
            Err(mistakes) => format!("{mistakes}\n"),
        };
        let found = found.replace(&folder().display().to_string(), "{DIR}");
        let expected_at = path.with_extension("txt");
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(&expected_at, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_at).unwrap_or_default();
        if found != expected {
            differing.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(seen > 10, "the files are found");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn a_log_takes_a_mistake_in_a_line() {
    let mistakes = read("[server]\nlsiten = 1\n").unwrap_err();
    let lines = mistakes.in_lines();
    assert_eq!(
        lines,
        "weir.toml:1:1: there is no route, so nothing could be answered; the shortest one is [[route]] origin = \"http://127.0.0.1:8000\"\n\
         weir.toml:2:1: unknown key `lsiten` in `[server]`; did you mean `listen`?"
    );
}

#[test]
fn three_lines_are_enough() {
    let config = good("[[route]]\norigin = \"http://127.0.0.1:8000\"\n").config;
    assert_eq!(config.server.listeners[0].address, ListenAddress::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.admin.unwrap().listen, "127.0.0.1:9180".parse().unwrap());
    let Action::Forward(name) = &config.routes[0].action else { panic!("it forwards") };
    assert_eq!(config.origins[name].servers[0].address, OriginAddress::Host("127.0.0.1".into(), 8000));
    assert_eq!(config.routes[0].cache.as_ref().unwrap().store.as_ref(), "default");
    assert_eq!(config.routes[0].place.line, 1);
    assert!(config.caches["default"].enabled);
}

#[test]
fn the_short_form_is_taken_as_it_is_meant() {
    #[rustfmt::skip]
    let cases = [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://example.com",   "https://example.com:443"),
        ("localhost:8000",        "http://localhost:8000"),
        ("8000",                  "http://127.0.0.1:8000"),
        ("unix:/run/a.sock",      "unix:/run/a.sock"),
    ];
    for (given, expected) in cases {
        let config = forwarding_to(given, Some("9000")).unwrap().loaded.config;
        let Action::Forward(name) = &config.routes[0].action else { panic!("it forwards") };
        assert_eq!(&**name, expected, "{given}");
        assert!(config.routes[0].websocket);
        assert_eq!(config.server.listeners[0].address, ListenAddress::Tcp("127.0.0.1:9000".parse().unwrap()));
    }
    let mistakes = forwarding_to("http://a/path", Some("nowhere")).unwrap_err();
    assert_eq!(mistakes.count(), 2);
}

#[test]
fn variables_are_filled_in_everywhere() {
    let loaded = good(
        r#"
        [server]
        listen = "127.0.0.1:${PORT}"
        workers = "${NUMBER}"
        [server.limits]
        connections = "${NUMBER}"
        [admin]
        token = "${file:/run/secrets/token}"
        [ttl]
        short = "${NUMBER}m"
        [[route]]
        name = "a ${MISSING:-default} and ${EMPTY:-another} and ${EMPTY} $${PORT}"
        origin = "http://127.0.0.1:${PORT}"
        websocket = "${YES}"
        cache = { ttl = "short" }
        request_headers = { set = { Authorization = "Bearer ${PASSWORD}" } }
        "#,
    );
    let config = &loaded.config;
    assert_eq!(config.server.limits.connections, 12);
    assert_eq!(config.server.workers, 12);
    assert_eq!(&*config.routes[0].name, "a default and another and  ${PORT}");
    assert!(config.routes[0].websocket);
    assert_eq!(config.routes[0].cache.as_ref().unwrap().rules.ttl, Some(Duration::from_secs(720)));
    assert_eq!(config.admin.as_ref().unwrap().token.as_ref().unwrap().0, "from-a-file-0123456789");
    let printed = format!("{loaded:?}");
    assert!(!printed.contains("correct-horse") && !printed.contains("from-a-file"), "{printed}");
}

#[test]
fn a_route_takes_the_defaults_of_its_cache_and_says_otherwise() {
    let config = good(
        r#"
        [cache.default]
        ttl = "1m"
        stale_if_error = "1h"
        compress = false
        [cache.other]
        version = 3
        max_memory = "8MiB"
        [[route]]
        match = { path = "/a/{id}" }
        origin = "http://a"
        cache = { ttl = "2m", override = ["private", "vary"], tags = ["a:{id}"], cookies = "tenant", ignore_query = ["utm_*", "gclid"] }
        [[route]]
        origin = "http://a:80"
        cache = "other"
        "#,
    )
    .config;
    assert_eq!(config.origins.len(), 1, "the same server is the same origin");
    let cache = config.routes[0].cache.as_ref().unwrap();
    assert_eq!(cache.rules.ttl, Some(Duration::from_secs(120)));
    assert_eq!(cache.rules.stale_if_error, Some(Duration::from_secs(3600)));
    assert_eq!(cache.rules.compress, Some(false));
    assert_eq!(cache.rules.overrides, [Override::Private, Override::Vary]);
    assert!(cache.rules.policy().overrides.ignores(Override::Vary));
    assert_eq!(cache.tags[0].as_str(), "a:{id}");
    assert_eq!(cache.cookies, ["tenant"]);
    let other = config.routes[1].cache.as_ref().unwrap();
    assert_eq!((&*other.store, config.caches["other"].version), ("other", 3));
    assert_eq!(config.caches["other"].max_body, 1 << 20, "an eighth of the memory");
    assert_eq!(other.rules.ttl, None);
}

#[test]
fn every_default_is_the_one_that_the_reference_names() {
    // The limits, as the reference writes them, read by the file's own rules, are those of the model.
    let limits = schema::tables().into_iter().find(|(written, ..)| *written == "[server.limits]").unwrap().2;
    let written: String = limits.iter().map(|key| format!("{} = {}\n", key.name, key.default)).collect();
    let config = good(&format!("[server.limits]\n{written}[[route]]\norigin = \"http://a\"\n")).config;
    assert_eq!(config.server.limits, model::Limits::default());

    // Every other default that is a value can be written down and changes nothing.
    let plain = |text: &str| format!("{:?}", good(text).config);
    for (written, _, keys) in schema::tables() {
        let Some(name) = written.strip_prefix('[').and_then(|name| name.strip_suffix(']')) else { continue };
        // Some need a value that has no default, and of some it matters that they are there.
        let stands_alone = matches!(
            name,
            "origin.NAME"
                | "redis.NAME"
                | "model.NAME"
                | "limit.NAME"
                | "plugin.NAME"
                | "data"
                | "session"
                | "vault"
                | "record"
                | "session.postgres"
        );
        if name.starts_with('[') || stands_alone {
            continue;
        }
        let route = "[[route]]\norigin = \"http://a\"\n";
        let values = keys.iter().filter(|key| {
            key.default.starts_with(['"', 't', 'f', '0', '1', '6']) && !key.default.contains(' ')
        });
        let lines: String = values.map(|key| format!("{} = {}\n", key.name, key.default)).collect();
        let table = name.replace("NAME", "default");
        let with = good(&format!("{route}[{table}]\n{lines}")).config;
        let mut text = format!("{with:?}");
        // Saying it is not the same as leaving it out where a route may say otherwise.
        if table == "cache.default" {
            text = text
                .replace("compress: Some(true)", "compress: None")
                .replace("strict: Some(false)", "strict: None")
                .replace("error_ttl_max: Some(10s)", "error_ttl_max: None")
                .replace("stale_while_revalidate: Some(0ns)", "stale_while_revalidate: None")
                .replace("stale_if_error: Some(0ns)", "stale_if_error: None");
        }
        assert_eq!(text, plain(route), "[{table}]\n{lines}");
    }
}

#[test]
fn the_reference_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let committed = std::fs::read_to_string(&path).unwrap();
    let mark = "<!-- The rest is made of proxy/src/config/schema.rs: `WEIR_BLESS=1 cargo test -p weir config` writes it. -->\n\n";
    let (before, after) = committed.split_once(mark).expect("the mark is there");
    let made = reference::markdown();
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{mark}{made}")).unwrap();
        return;
    }
    assert!(after == made, "docs/configuration.md is not what the schema says: run with WEIR_BLESS=1");
}

#[test]
fn every_reason_is_explained() {
    use cache_semantics::cache_status::Reason;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/caching.md");
    let committed = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("config` writes it. -->\n", "<!-- end -->");
    let (before, rest) = committed.split_once(begin).expect("the mark is there");
    let (between, after) = rest.split_once(end).expect("the end is there");
    let row = |reason: &Reason| format!("| `{}` | {} |\n", reason.id(), reason.explanation());
    let rows: String = Reason::ALL.iter().map(row).collect();
    let made = format!("\n| `detail=` | |\n|---|---|\n{rows}\n");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
        return;
    }
    assert!(between == made, "docs/caching.md does not explain every reason: run with WEIR_BLESS=1");
}

/// A certificate for `localhost` and its key, as files in a folder of their own.
fn certificate() -> (tempfile::TempDir, String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (cert, key) =
        (path("cert.pem", &made.cert.pem()), path("key.pem", &made.signing_key.serialize_pem()));
    (folder, cert, key)
}

#[test]
fn every_sample_is_right() {
    let (_folder, cert, key) = certificate();
    let held = |name: &str| {
        name.starts_with("TLS_CERT")
            .then(|| cert.clone())
            .or_else(|| name.starts_with("TLS_KEY").then(|| key.clone()))
    };
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            seen += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let loaded = parse(&path.display().to_string(), &text, &samples, &held)
                .unwrap_or_else(|error| panic!("{error}"));
            assert!(loaded.warnings.is_empty(), "{}: {}", path.display(), loaded.warnings[0]);
        }
    }
    assert!(seen >= 6, "the samples are found");
}

#[test]
fn a_key_must_belong_to_its_certificate() {
    let (_one, cert, key) = certificate();
    let (_other, _, another_key) = certificate();
    let with = |cert: &str, key: &str| {
        read(&format!(
            "[server]\ntls = {{ cert = {cert:?}, key = {key:?} }}\n[[route]]\norigin = \"http://a\"\n"
        ))
    };
    assert_eq!(with(&cert, &key).unwrap().config.server.listeners[0].tls.len(), 1);
    #[rustfmt::skip]
    let cases = [
        (&cert, &another_key, "this is not the key of the certificate"),
        (&key,  &key,         "this file holds no certificate"),
        (&cert, &cert,        "this file holds no private key"),
    ];
    for (cert, key, expected) in cases {
        let mistakes = with(cert, key).unwrap_err();
        assert_eq!(mistakes.iter().next().unwrap().message, expected);
    }
}

impl<F: Fn(&str) -> Option<String>> Surroundings for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }

    fn file(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\[{1,2}[a-z.]{1,8}\\]{1,2}\n|[a-z_]{1,8} = (\"[^\"\n]{0,12}\"|[0-9]{1,4}|true|\\[\\]|\\{ [a-z]{1,4} = 1 \\})\n|[ -~]{0,20}\n){0,12}") {
        if let Err(mistakes) = read(&text) {
            let _ = mistakes.to_string();
        }
    }
}

/// Every key of every table with values of every kind: a message at most, and never a value from outside.
#[test]
fn no_value_panics_and_none_from_outside_is_shown() {
    #[rustfmt::skip]
    let values = [
        "1", "-1", "0.5", "true", "\"\"", "\"x\"", "\"${PORT}\"", "\"${BAD}\"", "[]", "[1, \"a\"]", "[\"${BAD}\"]", "{}", "{ a = 1 }",
        "{ a = \"${BAD}\" }", "1979-05-27", "\"\u{e9}\\u0000\"", "\"{a}\"", "\"http://${BAD}@x\"",
    ];
    for (written, _, keys) in schema::tables() {
        for (key, value) in keys.iter().flat_map(|key| values.iter().map(move |value| (key.name, value))) {
            let line = format!("{key} = {value}");
            let inline = written.rsplit(['`', ']']).next().unwrap_or_default();
            let text = match written {
                "" => line,
                _ if inline.contains('…') => {
                    let table = if written.starts_with("[origin") {
                        "[origin.a]"
                    } else if written.starts_with("[redis") {
                        "[redis.a]"
                    } else if written.starts_with("same_key_as") {
                        "[[route]]\norigin = \"http://a\"\n[[test]]\nrequest = \"GET /\""
                    } else {
                        "[[route]]\norigin = \"http://a\""
                    };
                    format!("{table}\n{}", inline.trim().replace('…', &line))
                }
                _ => format!("{}\n{line}", written.replace("NAME", "a")),
            };
            if let Err(mistakes) = read(&text) {
                let shown = mistakes.to_string();
                assert!(!shown.contains("sesame"), "a value from outside is shown: {shown}");
            }
        }
    }
}
