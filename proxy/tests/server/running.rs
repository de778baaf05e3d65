//! The whole, started and reloaded in this process: what `main` does, without its arguments.

use std::path::Path;
use std::sync::{Arc, Mutex};

use harness::{Conn, Response, eventually};
use weir::clock::SystemClock;
use weir::config::check_text;
use weir::run::{ConfigSource, NewConfig, Running, StartError, start};

/// A configuration file that a test may rewrite.
#[derive(Clone, Default)]
struct File(Arc<Mutex<String>>);

impl File {
    fn write(&self, text: &str) {
        *self.0.lock().expect("no test panics with it") = text.to_owned();
    }

    fn load(&self) -> Result<NewConfig, String> {
        let text = self.0.lock().expect("no test panics with it").clone();
        let loaded =
            check_text("weir.toml", &text, Path::new("")).map_err(|mistakes| mistakes.to_string())?;
        let warnings = loaded.warnings.iter().map(|warning| warning.message().to_owned()).collect();
        Ok(NewConfig { config: loaded.config, warnings })
    }
}

fn started(text: &str) -> (File, Result<Running, StartError>) {
    let file = File::default();
    file.write(text);
    let source: ConfigSource = {
        let file = file.clone();
        Arc::new(move || file.load())
    };
    let config = file.load().expect("the first configuration is right").config;
    (file, start(config, source, Arc::new(SystemClock)))
}

fn running(text: &str) -> (File, Running) {
    let (file, running) = started(text);
    (file, running.expect("it starts"))
}

fn saying(text: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n\
         [[route]]\nrespond = {{ body = \"{text}\" }}\n"
    )
}

fn admin(running: &Running, method: &str, target: &str) -> Response {
    let headers = [("Host", "localhost"), ("Weir-Admin", "1")];
    Conn::connect(running.admin().expect("there is an admin listener")).ask(method, target, &headers, b"")
}

#[test]
fn it_announces_where_it_listens_and_answers_there() {
    let (_, running) = running(&saying("hello"));
    let mut announced = Vec::new();
    running.announce(&mut announced).unwrap();
    let (address, admin_address) = (running.addresses()[0], running.admin().unwrap());
    let expected = format!("listening on http://{address}\nadmin on http://{admin_address}\n");
    assert_eq!(String::from_utf8(announced).unwrap(), expected);
    assert_eq!(Conn::connect(address).get("/").text(), "hello");
    assert_eq!(admin(&running, "GET", "/readyz").status, 200);
    let metrics = admin(&running, "GET", "/metrics").text();
    assert!(metrics.contains("cache_requests_total{disposition=\"local\"} 1\n"), "{metrics}");
    running.shutdown();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_reload_swaps_what_is_answered_and_a_wrong_file_changes_nothing() {
    let (file, running) = running(&saying("one"));
    let mut kept = Conn::connect(running.addresses()[0]);
    assert_eq!(kept.get("/").text(), "one");
    file.write(&saying("two"));
    let reloaded = admin(&running, "POST", "/reload");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(kept.get("/").text(), "two", "on the connection that was there before");

    for (what, wrong, says) in [
        ("a misspelt key", saying("three").replace("respond", "resond"), "respond"),
        ("not TOML", "[[route".to_owned(), "weir.toml:1:8"),
        (
            "a failing test of its own",
            saying("three") + "[[test]]\nrequest = \"GET /\"\nstatus = 404\n",
            "404",
        ),
        (
            "a port in use",
            saying("three").replace(
                "[\"127.0.0.1:0\"]",
                &format!("[\"127.0.0.1:0\", \"{}\"]", running.admin().unwrap()),
            ),
            "is in use",
        ),
    ] {
        file.write(&wrong);
        let refused = admin(&running, "POST", "/reload");
        assert_eq!(refused.status, 422, "{what}: {}", refused.text());
        assert!(refused.text().contains(says), "{what}: {}", refused.text());
        assert_eq!(kept.get("/").text(), "two", "{what}");
        assert_eq!(running.addresses().len(), 1, "{what}");
    }
    assert_eq!(running.metrics().background().reloads_refused.count(), 4);
    file.write(&saying("four").replace("workers = 2", "workers = 1"));
    let reloaded = admin(&running, "POST", "/reload").text();
    assert!(reloaded.contains("`workers` stays 2"), "{reloaded}");
    assert_eq!(kept.get("/").text(), "four");
}

#[test]
fn a_hundred_reloads_leave_no_descriptors_and_no_threads_behind() {
    let (file, running) = running(&saying("0"));
    let mut kept = Conn::connect(running.addresses()[0]);
    let counts =
        || ["fd", "task"].map(|what| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count());
    let mut before = None;
    for round in 0..100 {
        // A listener comes and goes, too.
        let more = if round % 2 == 0 { "[\"127.0.0.1:0\", \"127.0.0.2:0\"]" } else { "[\"127.0.0.1:0\"]" };
        file.write(&saying(&round.to_string()).replace("[\"127.0.0.1:0\"]", more));
        running.reload().unwrap();
        assert_eq!(kept.get("/").text(), round.to_string());
        if round == 9 {
            before = Some(counts());
        }
    }
    // Other tests in this process open and close things, too: it is enough that the numbers come back at some time.
    eventually("no more descriptors and threads than after ten reloads", || {
        let now = counts();
        before.is_some_and(|before| now[0] <= before[0] + 8 && now[1] <= before[1] + 4)
    });
}

#[test]
fn what_keeps_it_from_starting_is_told_in_full() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let (_, refused) =
        started(&saying("x").replace("127.0.0.1:0\"]", &format!("{taken}\", \"192.0.2.1:1\"]")));
    let error = refused.err().unwrap().to_string();
    assert!(error.contains(&format!("{taken} is in use by another listener\n")), "{error}");
    assert!(error.contains("cannot listen on 192.0.2.1:1: "), "{error}");
    let (_, refused) = started(
        &saying("x").replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{taken}\"")),
    );
    assert!(matches!(refused, Err(StartError::Admin { address, .. }) if address == taken));
}
