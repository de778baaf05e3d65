//! What the author of a plugin does, as `docs/plugins.md` says it: from nothing to a plugin that changes a live key, in each language.
//!
//! A plugin in Rust is built here, where the compiler has its library for WebAssembly (`scripts/test.sh` sees to it where rustup can). Those in JavaScript
//! and Python take a toolchain of hundreds of MB: `.ci/run plugins` builds them, and names them in `WEIR_PLUGIN_JS` and `WEIR_PLUGIN_PYTHON`. It sets `WEIR_PLUGIN_DEBIAN` where Debian's compiler is installed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Conn, Origin, Reply, Weir};

use crate::faults::print;
use crate::plugins::built;

/// A compiler takes as long as it takes.
const PATIENCE: Duration = Duration::from_secs(240);

/// What is not tried is said, for whoever reads the log.
fn skipped(why: &str) {
    print(&format!("SKIPPED: {why}"));
}

/// Counts its answers, which say nothing about caching.
fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| Reply::ok((count.fetch_add(1, Ordering::SeqCst) + 1).to_string()))
}

/// The first block of commands on the page.
fn commands() -> Vec<String> {
    let page = include_str!("../../docs/plugins.md");
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.expect("the page has a block of commands").lines();
    lines.map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// Runs a line as a person does in this folder, where `weir` is installed in `bin`.
fn shell(line: &str, folder: &Path, bin: &Path) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(folder).env("PATH", format!("{}:{path}", bin.display()));
    shell.output().expect("there is a shell")
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn five_commands_lead_to_a_plugin_that_changes_a_key() {
    let lines = commands();
    let [new, build, run, first, second] = lines.as_slice() else { panic!("five commands: {lines:?}") };
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(harness::weir::binary(), bin.join("weir")).unwrap();

    let made = shell(&format!("{new} && pwd"), folder.path(), &bin);
    assert!(made.status.success(), "{new}: {}", text(&made));
    let plugin = PathBuf::from(String::from_utf8_lossy(&made.stdout).lines().last().unwrap_or_default());
    assert!(plugin.join("weir.toml").is_file(), "{}", text(&made));

    let built = shell(build, &plugin, &bin);
    if text(&built).contains("there is no Rust library for WebAssembly here") {
        return skipped("rustup target add wasm32-unknown-unknown: without it no plugin is built");
    }
    assert!(built.status.success(), "{build}: {}", text(&built));
    let tested = shell("weir plugin test", &plugin, &bin);
    assert!(tested.status.success(), "{}", text(&tested));

    // As it stands, but for the ports: others may have theirs here.
    assert_eq!(run, "weir run &");
    let origin = counting();
    let config = std::fs::read_to_string(plugin.join("weir.toml")).unwrap();
    std::fs::write(plugin.join("weir.toml"), config.replace("127.0.0.1:8080", "127.0.0.1:0")).unwrap();
    let weir = Weir::run_in(&plugin, &[("WEIR_ORIGIN", &origin.url())]);
    let ask = |line: &str| {
        let line = line.replace("127.0.0.1:8080", &weir.address().to_string());
        let asked = shell(&line, &plugin, &bin);
        assert!(asked.status.success(), "{line}: {}", text(&asked));
        text(&asked)
    };
    let said = ask(first);
    assert!(said.contains("stored"), "{first}: {said}");
    let said = ask(second);
    assert!(said.contains("weir; hit"), "{second}: {said}");
    assert_eq!(origin.count(), 1, "one page for two ways to ask for German");
    let other = second.replace("Accept-Language: de", "Accept-Language: en");
    assert_ne!(other, *second);
    let said = ask(&other);
    assert!(!said.contains("weir; hit") && origin.count() == 2, "{other}: {said}");
}

/// What this command prints on a line.
fn line_of(command: &str, folder: &Path, bin: &Path) -> Option<String> {
    let output = shell(command, folder, bin);
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn a_plugin_in_rust_is_built_with_debians_compiler_where_rustup_has_no_library_for_it() {
    if std::env::var_os("WEIR_PLUGIN_DEBIAN").is_none() {
        return skipped(
            "WEIR_PLUGIN_DEBIAN is not set: `.ci/run plugins` sets it where Debian's compiler is installed, and waits for it to build its library",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let said = |command: &str| line_of(command, folder.path(), &bin);
    let told = |command: &str| said(command).unwrap_or_else(|| panic!("{command}"));
    let version = told("dpkg-query -W -f '${Version}' rustc-web && dpkg -s rust-web-src >/dev/null");
    let (rustc, sysroot) = (told("command -v rustc"), told("rustc --print sysroot"));
    print(&format!("rustc-web {version}"));
    // The compiler as it is, but for its libraries for WebAssembly.
    let hidden = folder.path().join("sysroot/lib/rustlib");
    std::fs::create_dir_all(&hidden).unwrap();
    for entry in std::fs::read_dir(Path::new(&sysroot).join("lib/rustlib")).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("wasm32") {
            std::os::unix::fs::symlink(entry.path(), hidden.join(entry.file_name())).unwrap();
        }
    }
    let wrapper = format!(
        "#!/bin/sh\nif [ \"$*\" = \"--print sysroot\" ]; then echo '{}/sysroot'; else exec '{rustc}' \"$@\"; fi\n",
        folder.path().display()
    );
    std::fs::write(bin.join("rustc"), wrapper).unwrap();
    std::fs::set_permissions(bin.join("rustc"), Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(harness::weir::binary(), bin.join("weir")).unwrap();

    let made = shell("weir plugin new by-language", folder.path(), &bin);
    assert!(made.status.success(), "{}", text(&made));
    let plugin = folder.path().join("by-language");
    let built = shell("weir plugin build", &plugin, &bin);
    assert!(built.status.success(), "{}", text(&built));
    assert!(text(&built).contains("built with Debian's rustc-web"), "{}", text(&built));
    let tested = shell("weir plugin test", &plugin, &bin);
    assert!(tested.status.success(), "{}", text(&tested));
}

#[test]
fn what_an_author_gets_wrong_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &[u8]| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let component = std::fs::read(built("query-normalize")).unwrap();
    let test = b"[[test]]\nrequest = \"GET /\"\n";
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    write("unbuilt/tests.toml", test);
    for name in ["one", "other"] {
        write(&format!("two/{name}.wasm"), &component);
    }
    write("two/tests.toml", test);
    for (name, tests) in [
        ("untested", &b"config = {}\n"[..]),
        ("mistyped", b"[[test]]\nrequst = \"GET /\"\n"),
        ("own", b"[[test]]\nrequest = \"GET /\"\nconfig = { sort = true }\n"),
        ("wrong", b"config = { drop = 5 }\n[[test]]\nrequest = \"GET /\"\n"),
    ] {
        write(&format!("{name}/{name}.wasm"), &component);
        write(&format!("{name}/tests.toml"), tests);
    }
    write("text.wasm", b"#!/bin/sh\n");
    write("plugin.wasm", &component);
    write("wrong.toml", b"drop = 5\n");
    write("broken.toml", b"drop = \n");
    let line = br#"{"at":1,"request":"GET http://a.test/","route":"r"}"#;
    write("requests.log", line);
    write("empty.log", b"");
    write("broken.log", &[line.as_slice(), b"\n{\"at\":"].concat());

    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(harness::weir::binary(), bin.join("weir")).unwrap();
    #[rustfmt::skip]
    let cases = [
        // command                                        what and where                                                    what to do
        ("new By_Language",                               "`By_Language` is no name for a plugin",                          "weir plugin new by-language"),
        ("new empty",                                     "`./empty` exists already",                                       "another name"),
        ("build nowhere",                                 "`nowhere` holds no plugin",                                      "weir plugin new"),
        ("build empty",                                   "holds no plugin: no Cargo.toml",                                 "weir plugin new"),
        ("test nowhere",                                  "`nowhere` is no directory",                                      "tests.toml"),
        ("test empty",                                    "cannot read `empty/tests.toml`",                                 "weir plugin new"),
        ("test unbuilt",                                  "there is no component in `unbuilt`",                             "weir plugin build"),
        ("test two",                                      "several components in `two`: one.wasm, other.wasm",              "`two.wasm`"),
        ("test untested",                                 "`untested/tests.toml` has no `[[test]]`",                        "weir plugin new"),
        ("test mistyped",                                 "`mistyped/tests.toml`: the tests are not understood: TOML parse error at line 2", "docs/plugins.md"),
        ("test wrong",                                    "it is refused: `configure` failed: it says: config: `drop`",     "`config`"),
        ("bench own",                                     "`own/tests.toml`: none of the tests has a request",              "no `config` of its own"),
        ("bench wrong",                                   "the plugin is refused: `configure` failed: it says: config: `drop`", "`config`"),
        ("inspect nowhere.wasm",                          "cannot read `nowhere.wasm`",                                     "weir plugin build"),
        ("inspect text.wasm",                             "`text.wasm`: the plugin is refused: this is no WebAssembly",     "weir plugin build"),
        ("inspect plugin.wasm --config wrong.toml",       "`plugin.wasm`: the plugin is refused: `configure` failed: it says: config: `drop`", "`config`"),
        ("inspect plugin.wasm --config broken.toml",      "`broken.toml`: TOML parse error at line 1",                      "as TOML"),
        ("inspect plugin.wasm --config nowhere.toml",     "cannot read `nowhere.toml`",                                     "as TOML"),
        ("replay nowhere.log plugin.wasm plugin.wasm",    "cannot read `nowhere.log`",                                      "`[record]`"),
        ("replay empty.log plugin.wasm plugin.wasm",      "`empty.log` holds no request",                                   "`[record]`"),
        ("replay broken.log plugin.wasm plugin.wasm",     "`broken.log`: line 2: ",                                         "`[record]`"),
        ("replay requests.log plugin.wasm text.wasm",     "`text.wasm`: the plugin is refused",                             "weir plugin build"),
        ("replay requests.log plugin.wasm plugin.wasm --new-config wrong.toml", "`plugin.wasm`: the plugin is refused: `configure` failed", "`config`"),
    ];
    for (command, what, help) in cases {
        let told = shell(&format!("weir plugin {command}"), folder.path(), &bin);
        let said = text(&told);
        assert_eq!(told.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains(what) && said.contains(help), "{command}: {said}");
    }
}

#[test]
fn what_a_component_has_to_be_granted_is_told_before_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(harness::weir::binary(), bin.join("weir")).unwrap();
    std::fs::write(folder.path().join("config.toml"), "preset = \"django\"\n").unwrap();
    let inspect = |of: &str| {
        let told = shell(&format!("weir plugin inspect {of}"), folder.path(), &bin);
        assert!(told.status.success(), "{of}: {}", text(&told));
        text(&told)
    };
    let path = built("cookie-allowlist");
    let told = inspect(&path);
    assert!(told.contains("grants    [\"cookie-names\", \"header:authorization\"]"), "{told}");
    // What it reads hangs on its configuration.
    let told = inspect(&format!("{path} --config config.toml"));
    assert!(told.contains("\"cookie:django_language\""), "{told}");
    let told = inspect(&built("user-or-tenant-key"));
    assert!(told.contains("unknown without its configuration"), "{told}");
}

/// Weir in front of this origin, with a plugin that takes long to compile: it serves without it, then it is loaded.
fn with_large(origin: &Origin, path: &Path, table: &str) -> Weir {
    let url = origin.url();
    let route = format!("[[route]]\norigin = \"{url}\"\ncache = {{ ttl = \"1m\" }}\n");
    let weir = Weir::with(&route);
    assert_eq!(weir.get("/before").status, 200);
    weir.write_config(&format!(
        "{route}plugins = [\"p\"]\n[plugin.p]\npath = \"{}\"\n{table}\n",
        path.display()
    ));
    let address = weir.admin_address();
    let mut admin = Conn::connect(address);
    admin.limit_reads(PATIENCE);
    let host = address.to_string();
    let reloaded = admin.ask("POST", "/reload", &[("Host", &host), ("Weir-Admin", "1")], b"");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    weir
}

fn built_elsewhere(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        skipped(&format!(
            "{variable} names no component: `.ci/run plugins` builds one where its toolchain installs"
        ));
    }
    path
}

#[test]
fn a_plugin_in_javascript_answers_live_requests() {
    let Some(path) = built_elsewhere("WEIR_PLUGIN_JS") else { return };
    let origin = counting();
    let weir = with_large(
        &origin,
        &path,
        "config = { languages = [\"en\", \"de\"] }\ngrants = [\"header:accept-language\"]\n\
         limits = { memory = \"64MiB\", time = \"5s\", configure = \"60s\" }",
    );
    let ask = |language: &str| weir.ask("GET", "/", &[("Accept-Language", language)], b"");
    let first = ask("de-AT,de;q=0.9");
    assert!(!first.is_hit(), "{}", first.cache_status());
    let same = ask("fr, de;q=0.5");
    assert!(same.is_hit() && same.text() == first.text(), "{}", same.cache_status());
    let other = ask("en");
    assert!(!other.is_hit() && other.text() != first.text(), "{}", other.cache_status());
    assert!(weir.metric("plugin_calls_total", &["request"]) >= 3.0, "{}", weir.metrics());
    assert_eq!(weir.metric("plugin_failures_total", &[]), 0.0, "{}", weir.metrics());
}

#[test]
fn a_plugin_in_python_tags_live_responses() {
    let Some(path) = built_elsewhere("WEIR_PLUGIN_PYTHON") else { return };
    let origin = counting();
    let weir = with_large(
        &origin,
        &path,
        "config = { depth = 1 }\nlimits = { memory = \"128MiB\", time = \"5s\", configure = \"60s\" }",
    );
    let pages = ["/news/sport/7", "/weather/today"];
    for page in pages {
        assert!(!weir.get(page).is_hit());
        assert!(weir.get(page).is_hit());
    }
    assert_eq!(weir.admin("POST", "/purge?tag=section:news").status, 200);
    assert_eq!(pages.map(|page| weir.get(page).is_hit()), [false, true], "that section, and no other");
    assert!(weir.metric("plugin_calls_total", &["response"]) >= 2.0, "{}", weir.metrics());
    assert_eq!(weir.metric("plugin_failures_total", &[]), 0.0, "{}", weir.metrics());
}
