//! `weir check`: what a configuration file does, in brief.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::Failed;
use crate::config::model::{
    Action, Balance, Config, ListenAddress, Origin, OriginAddress, Route, RouteCache,
};
use crate::config::units::{show_duration, show_size};
use crate::config::{self};
use crate::routes::{Condition, Matcher};

/// Reads the file; prints what it does, then warnings, then `ok`.
pub(super) fn check(path: &Path, out: &mut impl Write) -> Result<(), Failed> {
    let loaded = config::load(path)?;
    describe(&loaded.config, out)?;
    if loaded.tests > 0 {
        let tests = if loaded.tests == 1 { "test" } else { "tests" };
        writeln!(out, "{} {tests} passed", loaded.tests)?;
    }
    for warning in &loaded.warnings {
        write!(out, "\n{warning}")?;
    }
    writeln!(out, "{}ok", if loaded.warnings.is_empty() { "" } else { "\n" })?;
    Ok(())
}

fn describe(config: &Config, out: &mut impl Write) -> std::io::Result<()> {
    let mut rows = Vec::new();
    for listener in &config.server.listeners {
        let address = match &listener.address {
            ListenAddress::Tcp(address) if listener.tls.is_empty() => format!("http://{address}"),
            ListenAddress::Tcp(address) => format!("https://{address}"),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        rows.push(vec!["listen".to_owned(), address]);
    }
    rows.push(match &config.admin {
        Some(admin) => {
            let token = if admin.token.is_some() { ", with a token" } else { "" };
            vec!["admin".to_owned(), format!("http://{}{token}", admin.listen)]
        }
        None => vec!["admin".to_owned(), "off".to_owned()],
    });
    table(&rows, out)?;
    writeln!(out, "\nroutes, the first that matches wins")?;
    let rows: Vec<_> = config.routes.iter().map(|route| row_of_route(route)).collect();
    table(&rows, out)?;
    let used: BTreeSet<&str> = config.routes.iter().filter_map(|route| forwarded_to(route)).collect();
    // Of an origin without a table of its own, the route has told everything.
    let rows: Vec<_> = config.origins.values().map(row_of_origin).filter(|row| row[0] != row[1]).collect();
    if !rows.is_empty() {
        writeln!(out, "\norigins")?;
        table(&rows, out)?;
    }
    if !used.is_empty() {
        writeln!(out, "\ncaches")?;
        let rows: Vec<_> = config
            .caches
            .values()
            .map(|cache| {
                let size = if cache.enabled {
                    format!(
                        "{}, {} responses, bodies up to {}",
                        show_size(cache.max_memory),
                        cache.max_entries,
                        show_size(cache.max_body)
                    )
                } else {
                    "stores nothing".to_owned()
                };
                vec![cache.name.to_string(), size]
            })
            .collect();
        table(&rows, out)?;
    }
    writeln!(out)
}

fn forwarded_to(route: &Route) -> Option<&str> {
    match &route.action {
        Action::Forward(origin) => Some(origin),
        Action::RedirectToHttps | Action::Redirect { .. } | Action::Respond(_) => None,
    }
}

fn row_of_route(route: &Route) -> Vec<String> {
    let does = match &route.action {
        Action::Forward(origin) => format!("-> {origin}"),
        Action::RedirectToHttps => "308 to https".to_owned(),
        Action::Redirect { status, location } => format!("{} to {location}", status.as_u16()),
        Action::Respond(answer) => format!("answers {}", answer.status.as_u16()),
    };
    let cache = match (&route.action, &route.cache) {
        (Action::Forward(_), Some(cache)) => in_short(cache),
        (Action::Forward(_), None) => "no cache".to_owned(),
        _ => String::new(),
    };
    vec![route.name.to_string(), taken(&route.matcher), does, cache]
}

fn in_short(cache: &RouteCache) -> String {
    let rules = &cache.rules;
    let mut parts = vec![format!("cache {}", cache.store)];
    let durations = [
        ("ttl", rules.ttl),
        ("stale while revalidating", rules.stale_while_revalidate),
        ("stale if error", rules.stale_if_error),
    ];
    for (name, duration) in durations {
        if let Some(duration) = duration.filter(|duration| !duration.is_zero()) {
            parts.push(format!("{name} {}", show_duration(duration)));
        }
    }
    if !rules.overrides.is_empty() {
        let words: Vec<&str> = rules.overrides.iter().map(|word| word.name()).collect();
        parts.push(format!("overriding {}", words.join(" ")));
    }
    if !cache.cookies.is_empty() {
        parts.push(format!("by cookie {}", cache.cookies.join(" ")));
    }
    parts.join(", ")
}

fn taken(matcher: &Matcher) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !matcher.methods.is_empty() {
        parts.push(matcher.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join("|"));
    }
    if let Some(https) = matcher.https {
        parts.push(if https { "https" } else { "http" }.to_owned());
    }
    let join = |texts: Vec<String>| texts.join(" or ");
    if !matcher.hosts.is_empty() {
        parts.push(join(matcher.hosts.iter().map(ToString::to_string).collect()));
    }
    if !matcher.paths.is_empty() {
        parts.push(join(matcher.paths.iter().map(ToString::to_string).collect()));
    }
    let conditions = matcher.headers.iter().map(|(name, condition)| (name.as_str(), condition));
    let query = matcher.query.iter().map(|(name, condition)| (name.as_str(), condition));
    parts.extend(conditions.map(|(name, condition)| told("field", name, condition)));
    parts.extend(query.map(|(name, condition)| told("parameter", name, condition)));
    if !matcher.clients.is_empty() {
        let shown = |network: &ipnet::IpNet| {
            if network.prefix_len() == network.max_prefix_len() {
                network.addr().to_string()
            } else {
                network.to_string()
            }
        };
        parts.push(format!("from {}", join(matcher.clients.iter().map(shown).collect())));
    }
    if parts.is_empty() { "everything".to_owned() } else { parts.join(" ") }
}

fn told(what: &str, name: &str, condition: &Condition) -> String {
    match condition {
        Condition::Present => format!("with {what} {name}"),
        Condition::Absent => format!("without {what} {name}"),
        Condition::Fits(glob) => format!("with {what} {name}={glob}"),
    }
}

fn row_of_origin(origin: &Origin) -> Vec<String> {
    let servers: Vec<String> = origin
        .servers
        .iter()
        .map(|server| {
            let scheme = if server.tls { "https" } else { "http" };
            match &server.address {
                OriginAddress::Host(host, port) => format!("{scheme}://{host}:{port}"),
                OriginAddress::Unix(path) => format!("unix:{}", path.display()),
            }
        })
        .collect();
    let mut notes = Vec::new();
    if servers.len() > 1 {
        notes.push(match origin.balance {
            Balance::RoundRobin => "in turn",
            Balance::LeastRequests => "the least busy first",
            Balance::Hash => "by URL",
        });
        if origin.health.is_none() {
            notes.push("no health check");
        }
    }
    vec![origin.name.to_string(), servers.join(" "), notes.join(", ")]
}

/// Columns as wide as they need to be, within reason.
fn table(rows: &[Vec<String>], out: &mut impl Write) -> std::io::Result<()> {
    const WIDE: usize = 44;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.filter(|width| *width <= WIDE).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_in_brief() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.toml");
        std::fs::write(
            &path,
            r#"
            [admin]
            listen = "127.0.0.1:0"
            token = "0123456789abcdef"
            [origin.app]
            servers = ["http://a:8000", "https://b"]
            [[route]]
            name = "posts"
            match = { path = "/posts/{id}", methods = ["GET"], host = "*.example.com", header = { X-Beta = true }, query = { draft = false }, client = "10.0.0.0/8" }
            origin = "app"
            cache = { ttl = "90s", override = ["private"], cookies = ["tenant"] }
            [[route]]
            match = { path = "/old" }
            redirect = { status = 301, to = "/new" }
            [[route]]
            origin = "unix:/run/app.sock"
            cache = "off"
            [[test]]
            request = "GET /old"
            status = 301
            "#,
        )
        .unwrap();
        let mut out = Vec::new();
        check(&path, &mut out).unwrap();
        let printed = String::from_utf8(out).unwrap();
        let expected = "  listen  http://127.0.0.1:8080
  admin   http://127.0.0.1:0, with a token

routes, the first that matches wins
  posts    GET *.example.com /posts/{id} with field x-beta without parameter draft from 10.0.0.0/8  -> app                 cache default, ttl 90s, overriding private, by cookie tenant
  route 2  /old        301 to /new
  route 3  everything  -> unix:/run/app.sock  no cache

origins
  app  http://a:8000 https://b:443  in turn, no health check

caches
  default  256MiB, 100000 responses, bodies up to 8MiB

1 test passed
ok
";
        assert_eq!(printed, expected, "{printed}");
    }
}
