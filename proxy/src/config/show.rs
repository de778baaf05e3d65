//! Every value that holds, and where it comes from: the file and its line, a variable, or nobody, so that it is the default. Secrets are not among what is told.
//!
//! The document is walked beside the tables that were read from it: what stands there is told as it stands, with its variables filled in; what does not, by the default that the reference names.

use toml::de::{DeTable, DeValue};

use super::decode::{Key, Node, Part, Reader, Table as _, parts};
use super::mistake::{Source, Span};
use super::schema;
use crate::redis::url::RedisUrl;
use crate::session::postgres::url::PostgresUrl;

/// A table and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// As a file would have it: `[cache.default]`, `[[route]]`.
    pub header: String,
    /// Its values.
    pub lines: Vec<Line>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub key: String,
    /// As a file would have it. Of a default, also in words: `that of the cache`.
    pub value: String,
    /// Where it comes from; `None`: nobody has said it.
    pub origin: Option<String>,
}

/// In place of a secret.
const HIDDEN: &str = "\"…\"";

/// What is in a document that was read.
pub(super) fn sections(root: &Node<'_>, reader: &Reader<'_>, source: &Source) -> Vec<Section> {
    let walk = Walk { reader, source, secrets: reader.secrets() };
    let mut found = Vec::new();
    if let DeValue::Table(table) = root.get_ref() {
        walk.table("", String::new(), table, &mut found);
    }
    found
}

struct Walk<'w, 's> {
    reader: &'w Reader<'s>,
    source: &'w Source,
    secrets: Vec<Span>,
}

/// The name of a value.
#[derive(Clone, Copy)]
struct Name<'n> {
    name: &'n str,
    /// It is the user's own: what it holds, the name alone tells.
    is_free: bool,
}

impl Walk<'_, '_> {
    fn table(&self, path: &str, header: String, table: &DeTable<'_>, found: &mut Vec<Section>) {
        let (mut lines, mut below) = (Vec::new(), Vec::new());
        match self.reader.shape_of(table) {
            Some((written, keys)) => {
                // A test says what it checks, and has no defaults.
                let has_defaults = written != schema::Test::WRITTEN;
                for key in keys {
                    match table.iter().find(|(name, _)| name.get_ref() == key.name) {
                        Some((_, value)) => {
                            let name = Name { name: key.name, is_free: false };
                            self.value(path, name, value, &mut lines, &mut below);
                        }
                        None if has_defaults => absent(path, key, &mut lines, &mut below),
                        None => {}
                    }
                }
            }
            // Names of the user's own.
            None => {
                for (name, value) in table {
                    let name = Name { name: name.get_ref(), is_free: true };
                    self.value(path, name, value, &mut lines, &mut below);
                }
            }
        }
        if !lines.is_empty() {
            found.push(Section { header, lines });
        }
        found.append(&mut below);
    }

    fn value(
        &self,
        path: &str,
        name: Name<'_>,
        value: &Node<'_>,
        lines: &mut Vec<Line>,
        below: &mut Vec<Section>,
    ) {
        let at = joined(path, name.name);
        match value.get_ref() {
            DeValue::Table(table) => self.table(&at, format!("[{at}]"), table, below),
            DeValue::Array(list) if !list.is_empty() && list.iter().all(|one| one.get_ref().is_table()) => {
                for one in list {
                    if let DeValue::Table(table) = one.get_ref() {
                        self.table(&at, format!("[[{at}]]"), table, below);
                    }
                }
            }
            _ => {
                let mut from = Vec::new();
                let shown = self.shown(name, value, &mut from);
                lines.push(Line {
                    key: bare(name.name),
                    value: shown,
                    origin: Some(self.origin(value, from)),
                });
            }
        }
    }

    /// File and line, and what was filled in.
    fn origin(&self, value: &Node<'_>, from: Vec<String>) -> String {
        let place = self.source.place(value.span().start);
        let is_file = !place.file.starts_with('<');
        let file = match (is_file, from.is_empty()) {
            (true, _) => Some(format!("{}:{}", place.file, place.line)),
            // What the command line stands for has no lines that anybody has seen.
            (false, true) => Some("command line".to_owned()),
            (false, false) => None,
        };
        file.into_iter().chain(from).collect::<Vec<_>>().join(", ")
    }

    fn is_secret(&self, span: &Span) -> bool {
        self.secrets.iter().any(|secret| secret.start < span.end && span.start < secret.end)
    }

    fn shown(&self, name: Name<'_>, value: &Node<'_>, from: &mut Vec<String>) -> String {
        match value.get_ref() {
            DeValue::String(text) => self.text(name, text, &value.span(), from),
            _ if self.is_secret(&value.span()) => HIDDEN.to_owned(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(yes) => yes.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Array(list) => {
                let list: Vec<String> = list.iter().map(|one| self.shown(name, one, from)).collect();
                format!("[{}]", list.join(", "))
            }
            DeValue::Table(table) => {
                let pairs = table.iter().map(|(name, value)| {
                    // One that stands in a line with others is not told from a table of the user's own.
                    let name = Name { name: name.get_ref(), is_free: true };
                    format!("{} = {}", bare(name.name), self.shown(name, value, from))
                });
                let pairs: Vec<String> = pairs.collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }

    fn text(&self, name: Name<'_>, text: &str, span: &Span, from: &mut Vec<String>) -> String {
        let mut hides = name.is_free && is_secretive(name.name);
        // Texts of the user's own need have no variables in them.
        let parts = parts(text).unwrap_or_else(|_| vec![Part::Plain(text)]);
        for part in &parts {
            match part {
                Part::Plain(_) | Part::Escaped => {}
                Part::File(path) => from.push(format!("file {path}")),
                Part::Variable { name, default } => {
                    hides |= is_secretive(name);
                    let is_set = self.reader.has_variable(name, default.is_some());
                    from.push(format!("variable {name}{}", if is_set { "" } else { " (not set)" }));
                }
            }
        }
        let Some(value) = self.reader.filled(&parts) else { return HIDDEN.to_owned() };
        // Of a URL all is told but its password.
        let url = RedisUrl::parse(&value).map(|url| url.to_string());
        if let Ok(url) = url.or_else(|_| PostgresUrl::parse(&value).map(|url| url.to_string())) {
            return quoted(&url);
        }
        let is_url = value.contains("://") && value.contains('@');
        if hides || is_url || self.is_secret(span) { HIDDEN.to_owned() } else { quoted(&value) }
    }
}

/// A key that nobody has written.
fn absent(path: &str, key: &'static Key, lines: &mut Vec<Line>, below: &mut Vec<Section>) {
    let at = joined(path, key.name);
    let inner = key.expects.strip_prefix("a table: `").and_then(|written| written.strip_suffix('`'));
    let keys = inner.and_then(|inner| schema::tables().into_iter().find(|(written, ..)| *written == inner));
    let header = match (keys, key.default) {
        (Some(_), "see below") => at,
        // One that is there without being written: `[cache.default]`.
        (Some(_), default) if default.starts_with("`[") => default.trim_matches(['`', '[', ']']).to_owned(),
        (_, "required") => return,
        _ => {
            lines.push(Line { key: bare(key.name), value: key.default.to_owned(), origin: None });
            return;
        }
    };
    let Some((_, _, keys)) = keys else { return };
    let (mut inner, mut deeper) = (Vec::new(), Vec::new());
    for key in keys {
        absent(&header, key, &mut inner, &mut deeper);
    }
    below.push(Section { header: format!("[{header}]"), lines: inner });
    below.append(&mut deeper);
}

fn is_secretive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "credential", "api_key", "apikey", "private"]
        .iter()
        .any(|word| name.contains(word))
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { bare(name) } else { format!("{path}.{}", bare(name)) }
}

fn bare(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_bare { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::held;
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let loaded =
            super::super::parse_and("weir.toml", text, Path::new(""), &held(), |root, reader, source| {
                found = sections(root, reader, source);
            });
        loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let line = |header: &str, line: &Line| {
            format!(
                "{header} {} = {} | {}",
                line.key,
                line.value,
                line.origin.as_deref().unwrap_or("default")
            )
        };
        found.iter().flat_map(|section| section.lines.iter().map(|one| line(&section.header, one))).collect()
    }

    #[test]
    fn each_value_is_told_with_its_origin_and_no_secret_is() {
        let text = "[admin]\nlisten = \"127.0.0.1:${PORT}\"\ntoken = \"${file:/run/secrets/token}\"\n\
                    [ttl]\nshort = \"5m\"\n\
                    [redis.main]\nurl = \"redis://:${PASSWORD}@10.0.0.5:6379/1\"\n\
                    [redis.second]\nurl = \"redis://10.0.0.6\"\npassword = \"${PASSWORD}\"\n\
                    [cache.default]\nredis = \"main\"\nmax_entries = \"${NUMBER}\"\nprefix = \"${GONE:-app}\"\n\
                    [[route]]\nmatch = { path = [\"/a\", \"/b\"] }\norigin = \"http://127.0.0.1:8000\"\ncache = { ttl = \"short\" }\n\
                    [[route]]\norigin = \"http://127.0.0.1:8000\"\n\
                    [[test]]\nrequest = \"GET /a\"\n";
        let shown = shown(text);
        for expected in [
            "[admin] listen = \"127.0.0.1:8123\" | weir.toml:2, variable PORT",
            "[admin] token = \"…\" | weir.toml:3, file /run/secrets/token",
            "[ttl] short = \"5m\" | weir.toml:5",
            "[redis.main] url = \"redis://10.0.0.5:6379/1\" | weir.toml:7, variable PASSWORD",
            "[redis.main] read_budget = \"25ms\" | default",
            "[redis.second] password = \"…\" | weir.toml:10, variable PASSWORD",
            "[cache.default] max_entries = \"12\" | weir.toml:13, variable NUMBER",
            "[cache.default] prefix = \"app\" | weir.toml:14, variable GONE (not set)",
            "[server] listen = \"127.0.0.1:8080\" | default",
            "[server.limits] head_fields = 100 | default",
            "[route.match] path = [\"/a\", \"/b\"] | weir.toml:16",
            "[route.cache] ttl = \"short\" | weir.toml:18",
            "[[test]] request = \"GET /a\" | weir.toml:22",
        ] {
            assert!(
                shown.iter().any(|line| line == expected),
                "{expected}\nis not among\n{}",
                shown.join("\n")
            );
        }
        let all = shown.join("\n");
        for secret in ["correct-horse", "from-a-file"] {
            assert!(!all.contains(secret), "{all}");
        }
        assert_eq!(shown.iter().filter(|line| line.starts_with("[[test]]")).count(), 1, "{all}");
        assert_eq!(shown.iter().filter(|line| line.starts_with("[[route]] origin")).count(), 2, "{all}");
    }

    #[test]
    fn what_nobody_wrote_is_there_too() {
        let shown = shown("[[route]]\norigin = \"http://127.0.0.1:8000\"\n");
        let has = |line: &str| shown.iter().any(|one| one == line);
        assert!(has("[cache.default] max_memory = \"256MiB\" | default"), "{shown:?}");
        assert!(has("[log] level = \"info\" | default"), "{shown:?}");
        assert!(!shown.iter().any(|line| line.starts_with("[redis")), "{shown:?}");
    }
}
