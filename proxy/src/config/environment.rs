//! Variables that applications are configured with, understood as they are by `weir --to URL`: where their Redis is, and how their cookies are to be.
//!
//! | variable | what Weir makes of it |
//! |---|---|
//! | `CACHE_URL`, or `REDIS_URL` | the Redis that the cache is shared in |
//! | `REDIS_HOST`, `REDIS_PORT`, `REDIS_DB` | the same in parts, where there is no URL |
//! | `REDIS_PASSWORD` | its password, where the URL has none |
//! | `USE_REDIS` | `false`: memory only, whatever the others say |
//! | `SSL_CA_CERTS` | the certificates to trust, for `rediss://` |
//! | `CACHE_MIDDLEWARE_KEY_PREFIX` | what keys begin with |
//! | `SESSION_COOKIE_SECURE`, `_SAMESITE`, `_NAME` | flags of the application's own cookie |
//!
//! The rest of them is told as what it is: known, and left to the application. What is made here is a piece of configuration in which the variables stand as `${NAME}`, so that it is
//! read, checked and shown like any file. Nothing is looked up but these names.

use std::fmt::Write as _;

use super::decode::Surroundings;
use super::resolve::is_prefix;
use crate::redis::url::RedisUrl;

/// A variable that is set and of which nothing is made, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unused {
    /// Its name.
    pub variable: &'static str,
    /// Why, as the end of a sentence.
    pub why: &'static str,
}

/// What the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// Tables of a configuration file, in which variables stand by name.
    pub(super) tables: String,
    /// Variables that are set and not used.
    pub(super) unused: Vec<Unused>,
    /// Which of them were.
    pub(super) used: Vec<&'static str>,
}

/// Variables that are known, and none of Weir's.
const LEFT_ALONE: [(&str, &str); 19] = [
    ("SESSION_CACHE_URL", "the application keeps its sessions there, and Weir does not touch them"),
    ("SESSION_ENGINE", "the application keeps its sessions itself"),
    ("SESSION_CACHE_ALIAS", "the application keeps its sessions itself"),
    ("SESSION_COOKIE_AGE", "the application says it with each cookie"),
    ("SESSION_SAVE_EVERY_REQUEST", "the application keeps its sessions itself"),
    ("SESSION_EXPIRE_AT_BROWSER_CLOSE", "the application says it with each cookie"),
    ("CACHE_MIDDLEWARE_SECONDS", "the application says it with each page, in `Cache-Control`"),
    ("CELERY_BROKER_URL", "a queue of the application's"),
    ("CELERY_RESULT_BACKEND", "a queue of the application's"),
    ("CHANNEL_CAPACITY", "the application's own channels"),
    ("CHANNEL_EXPIRY", "the application's own channels"),
    ("CHANNEL_GROUP_EXPIRY", "the application's own channels"),
    ("DATABASE_URL", "the application's database"),
    ("DB_HOST", "the application's database"),
    ("DB_NAME", "the application's database"),
    ("DB_USER", "the application's database"),
    ("DB_PASSWORD", "the application's database"),
    ("DJANGO_SETTINGS_MODULE", "for the application"),
    ("SSL_CERT_REQS", "Weir always checks certificates"),
];

/// Where the cache is, by variables of which the first counts that names a Redis.
const CACHES: [&str; 2] = ["CACHE_URL", "REDIS_URL"];

/// What means something where there is a Redis only.
const WITH_REDIS: [&str; 3] = ["REDIS_PASSWORD", "SSL_CA_CERTS", "CACHE_MIDDLEWARE_KEY_PREFIX"];

/// Reads them. `origin` is where requests go: it tells the keys of one application from those of another in the same Redis.
pub(super) fn of(surroundings: &dyn Surroundings, origin: &str) -> Environment {
    let mut reading = Reading { surroundings, found: Environment::default() };
    reading.redis(origin);
    reading.cookie();
    for (variable, why) in LEFT_ALONE {
        if reading.is_set(variable) {
            reading.leave(variable, why);
        }
    }
    reading.found
}

struct Reading<'s> {
    surroundings: &'s dyn Surroundings,
    found: Environment,
}

impl Reading<'_> {
    /// Empty is as good as not set.
    fn value(&self, variable: &str) -> Option<String> {
        self.surroundings.variable(variable).filter(|value| !value.trim().is_empty())
    }

    fn is_set(&self, variable: &str) -> bool {
        self.value(variable).is_some()
    }

    fn leave(&mut self, variable: &'static str, why: &'static str) {
        self.found.unused.push(Unused { variable, why });
    }

    /// Takes a variable for used; true if it is set.
    fn uses(&mut self, variable: &'static str) -> bool {
        let is_set = self.is_set(variable);
        if is_set {
            self.found.used.push(variable);
        }
        is_set
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.found.tables.write_fmt(line).expect("a string takes all");
        self.found.tables.push('\n');
    }

    /// `True`, `yes`, `on`, `1`; anything that says neither is as good as nothing.
    fn yes_or_no(&self, variable: &str) -> Option<bool> {
        match self.value(variable)?.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
            "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
            _ => None,
        }
    }

    fn redis(&mut self, origin: &str) {
        let wanted = self.yes_or_no("USE_REDIS");
        if wanted.is_some() {
            self.uses("USE_REDIS");
        } else if self.is_set("USE_REDIS") {
            self.leave("USE_REDIS", "it says neither yes nor no");
        }
        let parts = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB"];
        if wanted == Some(false) {
            for variable in CACHES.into_iter().chain(parts).chain(WITH_REDIS) {
                if self.is_set(variable) {
                    self.leave(variable, "`USE_REDIS` says no");
                }
            }
            return;
        }
        let mut url = None;
        for variable in CACHES {
            let Some(value) = self.value(variable) else { continue };
            if !names_redis(&value) {
                self.leave(variable, "it names no Redis");
            } else if url.is_some() {
                self.leave(variable, "`CACHE_URL` stands above it");
            } else {
                self.uses(variable);
                url = Some((variable, value));
            }
        }
        let (written, said) = match url {
            // As files of variables have it, where nobody has filled them in: `redis://:${REDIS_PASSWORD}@host`.
            Some((_, value)) if value.contains("${") => (value.clone(), value),
            Some((variable, value)) => (format!("${{{variable}}}"), value),
            None if self.is_set("REDIS_HOST") || wanted == Some(true) => {
                for variable in parts {
                    self.uses(variable);
                }
                let whole = "redis://${REDIS_HOST:-127.0.0.1}:${REDIS_PORT:-6379}/${REDIS_DB:-0}";
                (whole.to_owned(), "redis://host".to_owned())
            }
            None => {
                for variable in parts.into_iter().chain(WITH_REDIS) {
                    if self.is_set(variable) {
                        self.leave(variable, "there is no Redis that it could belong to");
                    }
                }
                return;
            }
        };
        for variable in parts {
            if self.is_set(variable) && !self.found.used.contains(&variable) {
                self.leave(variable, "the URL says it");
            }
        }
        let read = RedisUrl::parse(&said).ok();
        self.line(format_args!("[redis.main]"));
        self.line(format_args!("url = {}", quoted(&written)));
        let in_url = said.contains("${REDIS_PASSWORD}");
        let has_password = in_url || read.as_ref().is_some_and(|read| read.password.is_some());
        if in_url {
            self.uses("REDIS_PASSWORD");
        } else if has_password && self.is_set("REDIS_PASSWORD") {
            self.leave("REDIS_PASSWORD", "the URL has one");
        } else if self.uses("REDIS_PASSWORD") {
            self.line(format_args!("password = \"${{REDIS_PASSWORD}}\""));
        }
        let scheme = said.split(':').next().unwrap_or_default();
        if scheme.to_ascii_lowercase().ends_with('s') {
            if self.uses("SSL_CA_CERTS") {
                self.line(format_args!("tls = {{ ca = \"${{SSL_CA_CERTS}}\" }}"));
            }
        } else if self.is_set("SSL_CA_CERTS") {
            self.leave("SSL_CA_CERTS", "the Redis is not spoken to by TLS");
        }
        self.line(format_args!("[cache.default]\nredis = \"main\""));
        match self.value("CACHE_MIDDLEWARE_KEY_PREFIX") {
            Some(prefix) if is_prefix(&prefix) => {
                self.uses("CACHE_MIDDLEWARE_KEY_PREFIX");
                self.line(format_args!("prefix = \"${{CACHE_MIDDLEWARE_KEY_PREFIX}}\""));
            }
            prefix => {
                if prefix.is_some() {
                    let why = "keys begin with letters, digits, `-`, `_`, `.` and `:` only";
                    self.leave("CACHE_MIDDLEWARE_KEY_PREFIX", why);
                }
                self.line(format_args!("prefix = \"{}\"", prefix_of(origin)));
            }
        }
    }

    /// The flags of the application's own cookie, also where it does not set them itself.
    fn cookie(&mut self) {
        let secure = self.yes_or_no("SESSION_COOKIE_SECURE");
        let same_site = self.value("SESSION_COOKIE_SAMESITE").map(|word| word.trim().to_ascii_lowercase());
        let same_site = match same_site.as_deref() {
            Some("lax") => Some("Lax"),
            Some("strict") => Some("Strict"),
            Some("none") => Some("None"),
            _ => None,
        };
        if secure == Some(false) {
            self.leave("SESSION_COOKIE_SECURE", "the application says it with each cookie");
        }
        if secure != Some(true) && same_site.is_none() {
            if self.is_set("SESSION_COOKIE_NAME") {
                self.leave("SESSION_COOKIE_NAME", "there is nothing to change about the cookie");
            }
            return;
        }
        self.line(format_args!("[[cookie]]"));
        self.uses("SESSION_COOKIE_NAME");
        self.line(format_args!("name = \"${{SESSION_COOKIE_NAME:-sessionid}}\""));
        if secure == Some(true) {
            self.uses("SESSION_COOKIE_SECURE");
            self.line(format_args!("secure = true"));
        }
        if let Some(word) = same_site {
            self.uses("SESSION_COOKIE_SAMESITE");
            self.line(format_args!("same_site = \"{word}\""));
        }
    }
}

/// Frameworks name caches of other kinds by URLs, too: `locmemcache://`, `dbcache://table`.
fn names_redis(url: &str) -> bool {
    let scheme = url.trim().split(':').next().unwrap_or_default().to_ascii_lowercase();
    ["redis", "valkey", "unix"].iter().any(|known| scheme.starts_with(known))
}

/// As a text of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text.trim()).to_string()
}

/// What the keys of one application begin with, so that two before the same Redis never share a page.
fn prefix_of(origin: &str) -> String {
    const ORIGIN_CHARS_MAX: usize = 58;
    let name = origin.split_once("://").map_or(origin, |(_, rest)| rest).trim_end_matches('/');
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.' | ':');
    let fitting: Vec<char> = name.chars().map(|char| if fits(char) { char } else { '-' }).collect();
    // What differs stands at the end more often than at the beginning.
    let last = &fitting[fitting.len().saturating_sub(ORIGIN_CHARS_MAX)..];
    format!("weir:{}", last.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    struct Set(BTreeMap<String, String>);

    impl Surroundings for Set {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }

        fn file(&self, _: &Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    /// A file of variables, as applications have them.
    fn set(text: &str) -> Set {
        let lines = text.lines().filter_map(|line| line.trim().split_once('='));
        Set(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn said(text: &str) -> Environment {
        of(&set(text), "http://127.0.0.1:8000")
    }

    const OF_CACHE: &str = "[cache.default]\nredis = \"main\"\nprefix = \"weir:127.0.0.1:8000\"\n";

    #[test]
    fn variables_are_understood_as_they_are() {
        #[rustfmt::skip]
        let cases = [
            ("", String::new()),
            ("REDIS_URL=redis://localhost:6379/1", format!("[redis.main]\nurl = \"${{REDIS_URL}}\"\n{OF_CACHE}")),
            ("REDIS_URL=redis://a\nCACHE_URL=redis://b", format!("[redis.main]\nurl = \"${{CACHE_URL}}\"\n{OF_CACHE}")),
            ("REDIS_URL=redis://a\nCACHE_URL=locmemcache://", format!("[redis.main]\nurl = \"${{REDIS_URL}}\"\n{OF_CACHE}")),
            ("REDIS_URL=redis://a\nREDIS_PASSWORD=p", format!("[redis.main]\nurl = \"${{REDIS_URL}}\"\npassword = \"${{REDIS_PASSWORD}}\"\n{OF_CACHE}")),
            ("REDIS_URL=redis://:q@a\nREDIS_PASSWORD=p", format!("[redis.main]\nurl = \"${{REDIS_URL}}\"\n{OF_CACHE}")),
            ("REDIS_URL=redis://:${REDIS_PASSWORD}@a/1\nREDIS_PASSWORD=p", format!("[redis.main]\nurl = \"redis://:${{REDIS_PASSWORD}}@a/1\"\n{OF_CACHE}")),
            ("REDIS_URL=rediss://a\nSSL_CA_CERTS=/ca.pem", format!("[redis.main]\nurl = \"${{REDIS_URL}}\"\ntls = {{ ca = \"${{SSL_CA_CERTS}}\" }}\n{OF_CACHE}")),
            ("USE_REDIS=False\nREDIS_URL=redis://a", String::new()),
            ("USE_REDIS=true\nREDIS_HOST=127.0.0.1\nREDIS_PORT=6379\nREDIS_DB=0",
             format!("[redis.main]\nurl = \"redis://${{REDIS_HOST:-127.0.0.1}}:${{REDIS_PORT:-6379}}/${{REDIS_DB:-0}}\"\n{OF_CACHE}")),
            ("REDIS_PORT=6379", String::new()),
            ("SESSION_COOKIE_SECURE=False\nSESSION_COOKIE_SAMESITE=Strict", "[[cookie]]\nname = \"${SESSION_COOKIE_NAME:-sessionid}\"\nsame_site = \"Strict\"\n".to_owned()),
            ("SESSION_COOKIE_SECURE=True", "[[cookie]]\nname = \"${SESSION_COOKIE_NAME:-sessionid}\"\nsecure = true\n".to_owned()),
        ];
        for (variables, tables) in cases {
            assert_eq!(said(variables).tables, tables, "{variables}");
        }
        let prefixed = said("REDIS_URL=redis://a\nCACHE_MIDDLEWARE_KEY_PREFIX=portfolio_app").tables;
        assert!(prefixed.ends_with("prefix = \"${CACHE_MIDDLEWARE_KEY_PREFIX}\"\n"), "{prefixed}");
    }

    #[test]
    fn every_variable_that_is_set_is_told_of_once() {
        let variables = "REDIS_URL=redis://127.0.0.1:6379/1\nCACHE_URL=redis://127.0.0.1:6379/1\n\
                         SESSION_CACHE_URL=redis://127.0.0.1:6379/2\nSESSION_ENGINE=django.contrib.sessions.backends.cached_db\n\
                         SESSION_CACHE_ALIAS=session\nSESSION_COOKIE_AGE=86400\nSESSION_COOKIE_SECURE=False\n\
                         SESSION_COOKIE_SAMESITE=Lax\nSESSION_SAVE_EVERY_REQUEST=False\nSESSION_EXPIRE_AT_BROWSER_CLOSE=False\n\
                         CELERY_BROKER_URL=redis://localhost:6379/0\nCELERY_RESULT_BACKEND=redis://localhost:6379/0\n\
                         USE_REDIS=true\nREDIS_HOST=127.0.0.1\nREDIS_PORT=6379\nREDIS_DB=0\nREDIS_PASSWORD=p\n\
                         CHANNEL_CAPACITY=1500\nCHANNEL_EXPIRY=10\nCHANNEL_GROUP_EXPIRY=86400\nSSL_CERT_REQS=required\n\
                         SSL_CA_CERTS=/ca.pem\nDATABASE_URL=postgresql://user:pass@localhost/dbname\n\
                         CACHE_MIDDLEWARE_KEY_PREFIX=portfolio_app\nCACHE_MIDDLEWARE_SECONDS=600";
        for off in ["", "\nUSE_REDIS=false"] {
            let found = said(&format!("{variables}{off}"));
            for name in set(variables).0.keys() {
                let used = found.used.iter().filter(|used| **used == name.as_str()).count();
                let unused = found.unused.iter().filter(|unused| unused.variable == name.as_str()).count();
                assert_eq!(used + unused, 1, "{name} with {off:?}");
            }
        }
    }

    #[test]
    fn applications_before_one_redis_have_keys_of_their_own() {
        assert_eq!(prefix_of("http://127.0.0.1:8000/"), "weir:127.0.0.1:8000");
        assert_eq!(prefix_of("unix:/run/app.sock"), "weir:unix:-run-app.sock");
        let long = prefix_of(&format!("http://{}.example.com:8000", "a".repeat(100)));
        assert!(is_prefix(&long) && long.ends_with(".example.com:8000"), "{long}");
    }
}
