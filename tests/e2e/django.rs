//! A real Django behind Weir, with its own login, admin and CSRF forms, and sessions of its own: nobody is logged out by what happens to Redis and to Weir.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use harness::{Browser, RedisServer, WAIT, Weir, eventually};

/// The site of `tests/django`, with a database of its own.
struct Site {
    server: Child,
    url: String,
    _state: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("WEIR_DJANGO_PYTHON") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/django/bin/python");
    assert!(
        path.exists(),
        "no Python with Django: run `scripts/test.sh`, which makes one, or name it in WEIR_DJANGO_PYTHON"
    );
    path
}

impl Site {
    /// `sessions`: which of Django's engines keeps them.
    fn start(sessions: &str) -> Site {
        let state = tempfile::tempdir().unwrap();
        let command = |arguments: &[&str]| {
            let mut command = Command::new(python());
            command
                .args(arguments)
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("django"))
                .env("SITE_STATE", state.path())
                .env("SITE_SESSIONS", sessions)
                .env("DJANGO_SETTINGS_MODULE", "site_under_test.settings")
                .env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        let prepared = command(&["manage.py", "prepare"]).output().unwrap();
        assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
        let uvicorn = ["-m", "uvicorn", "site_under_test.asgi:application", "--port", "0", "--no-access-log"];
        let mut server = command(&uvicorn).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (tell, told) = mpsc::channel();
        // It reads to the end, so that the server never waits for somebody to read.
        std::thread::spawn(move || {
            let mut printed = String::new();
            for line in lines {
                if let Some((_, after)) = line.split_once("running on ") {
                    let _ = tell.send(Ok(after.split(' ').next().unwrap_or_default().to_owned()));
                }
                printed.push_str(&line);
                printed.push('\n');
            }
            let _ = tell.send(Err(printed));
        });
        let url = told.recv_timeout(WAIT).expect("Django starts in time").expect("it starts");
        Site { server, url, _state: state }
    }
}

/// Somebody with a browser.
struct Person {
    name: &'static str,
    browser: Browser,
}

impl Person {
    #[track_caller]
    fn who_logs_in(name: &'static str, weir: &Weir) -> Person {
        let mut person = Person { name, browser: Browser::new() };
        person.log_in(weir);
        person
    }

    #[track_caller]
    fn log_in(&mut self, weir: &Weir) {
        let target = "/accounts/login/?next=/me/";
        let token = self.token(weir, target);
        let fields =
            [("csrfmiddlewaretoken", token.as_str()), ("username", self.name), ("password", "correct horse")];
        let answer = self.browser.post(weir, target, &fields);
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, Some("/me/")),
            "{}: {}",
            self.name,
            answer.text()
        );
    }

    /// The CSRF token of the form on a page.
    #[track_caller]
    fn token(&mut self, weir: &Weir, target: &str) -> String {
        let page = self.browser.get(weir, target);
        let text = page.text();
        let (_, after) = text
            .split_once("name=\"csrfmiddlewaretoken\" value=\"")
            .unwrap_or_else(|| panic!("{}: no form at {target}: {} {text}", self.name, page.status));
        after.split('"').next().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn is_logged_in(&mut self, weir: &Weir, when: &str) {
        let page = self.browser.get(weir, "/me/");
        let mark = format!("mark-of-{}", self.name);
        assert!(
            page.status == 200 && page.text().contains(&mark),
            "{} {when}: {} {}",
            self.name,
            page.status,
            page.text()
        );
    }

    #[track_caller]
    fn writes(&mut self, weir: &Weir, title: &str) {
        let token = self.token(weir, "/posts/new/");
        let answer = self.browser.post(
            weir,
            "/posts/new/",
            &[("csrfmiddlewaretoken", token.as_str()), ("title", title)],
        );
        assert_eq!((answer.status, answer.header("location")), (302, Some("/")), "{}", answer.text());
        assert!(self.browser.get(weir, "/").text().contains(title));
    }
}

/// Everything that is to happen to the stores and to Weir.
fn nobody_is_logged_out(engine: &str, cookies: &str, check_names: impl Fn(&[&str])) {
    let (site, mut redis) = (Site::start(engine), RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[redis.main]\nurl = \"{}\"\nhealth_interval = \"100ms\"\n[data]\npath = \"{}\"\n\
         [session]\nkeys = [\"a secret of the tests\"]\n[cache.default]\nredis = \"main\"\n\
         {cookies}[[route]]\norigin = \"{}\"\n",
        redis.url(),
        folder.path().display(),
        site.url
    );
    let connected = |weir: &Weir| eventually("it is connected", || weir.metric("redis_up", &["main"]) == 1.0);
    let mut weir = Weir::with(&text);
    connected(&weir);
    let mut people = [Person::who_logs_in("alice", &weir), Person::who_logs_in("root", &weir)];
    people.iter().for_each(|person| check_names(&person.browser.names()));
    let everybody = |people: &mut [Person], weir: &Weir, when: &str| {
        for _ in 0..3 {
            people.iter_mut().for_each(|person| person.is_logged_in(weir, when));
        }
    };
    everybody(&mut people, &weir, "at first");
    people[0].writes(&weir, "Written at first");

    redis.freeze();
    everybody(&mut people, &weir, "while Redis is frozen");
    let bob = Person::who_logs_in("bob", &weir);
    redis.thaw();
    let mut people: Vec<Person> = people.into_iter().chain([bob]).collect();
    everybody(&mut people, &weir, "after Redis was frozen");
    redis.ask(&["FLUSHALL"]);
    everybody(&mut people, &weir, "after FLUSHALL");
    redis.kill();
    everybody(&mut people, &weir, "while Redis is down");
    people[0].writes(&weir, "Written without Redis");
    people[2].log_in(&weir);
    redis.restart();
    connected(&weir);
    everybody(&mut people, &weir, "after Redis came back, empty");
    drop(weir);
    weir = Weir::with(&text);
    everybody(&mut people, &weir, "after Weir was started again");
    connected(&weir);
    drop(weir);
    redis.kill();
    redis.restart();
    redis.ask(&["FLUSHALL"]);
    weir = Weir::with(&text);
    everybody(&mut people, &weir, "after all three");

    // The admin, with its own forms.
    let token = people[1].token(&weir, "/admin/board/post/add/");
    let fields = [
        ("csrfmiddlewaretoken", token.as_str()),
        ("title", "By the admin"),
        ("text", ""),
        ("author", "1"),
        ("_save", "Save"),
    ];
    let saved = people[1].browser.post(&weir, "/admin/board/post/add/", &fields);
    assert_eq!(
        (saved.status, saved.header("location")),
        (302, Some("/admin/board/post/")),
        "{}",
        saved.text()
    );
    let list = people[1].browser.get(&weir, "/admin/board/post/").text();
    assert!(list.contains("was added successfully") && list.contains("By the admin"), "{list}");
    let forged = people[1].browser.post(&weir, "/admin/board/post/add/", &[("title", "Forged")]);
    assert_eq!(forged.status, 403, "without the token");

    // Who logs out is out, and nobody else.
    let token = people[2].token(&weir, "/me/");
    let before = people[2].browser.clone();
    people[2].browser.post(&weir, "/accounts/logout/", &[("csrfmiddlewaretoken", &token)]);
    for mut browser in [before, people[2].browser.clone()] {
        assert_eq!(browser.get(&weir, "/me/").status, 302);
    }
    everybody(&mut people[..2], &weir, "after somebody else has logged out");
}

const VAULT: &str = "[vault]\ncookies = [\"sessionid\", \"csrftoken\", \"messages\"]\n";
const POLICY: &str = "[[cookie]]\nname = [\"sessionid\", \"csrftoken\"]\nprefix = \"__Host-\"\nhttp_only = true\nsame_site = \"Strict\"\n";

#[test]
fn with_the_vault_nobody_is_logged_out() {
    nobody_is_logged_out("db", VAULT, |names| assert_eq!(names, ["__Host-vault-kept"]));
}

#[test]
fn with_the_vault_and_sessions_in_signed_cookies_nobody_is_logged_out() {
    let vault = format!("{VAULT}renew = []\n");
    nobody_is_logged_out("signed_cookies", &vault, |names| assert_eq!(names, ["__Host-vault-kept"]));
}

#[test]
fn with_a_policy_nobody_is_logged_out() {
    nobody_is_logged_out("db", POLICY, |names| {
        let mut names = names.to_vec();
        names.sort_unstable();
        assert_eq!(names, ["__Host-csrftoken", "__Host-sessionid"]);
    });
}
