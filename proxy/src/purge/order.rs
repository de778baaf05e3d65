//! What an operator asks to be purged: as JSON, or as a query.

use std::time::Duration;

use purge_log::target::TARGET_BYTES_MAX;
use purge_log::{Mode, Target};
use serde_json::{Value, json};

use super::Wait;

/// The most that one order may name.
pub const NAMED_MAX: usize = 1_000;
/// How long a purge with refresh lets what is stale be served, unless it says otherwise.
const GRACE: Duration = Duration::from_secs(60);

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is named, as it was named: URLs and paths as clients use them.
    pub named: Vec<Named>,
    /// What is done to it.
    pub mode: Mode,
    /// For what the answer waits.
    pub wait: Wait,
}

/// Something that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// In the words of the log.
    Target(Target),
    /// What `[model.NAME]` says.
    Model(String),
}

const USAGE: &str = "name what to purge, as in {\"url\": \"https://example.org/page\"}, {\"tag\": [\"a\", \"b\"]} or {\"everything\": true}; \
    there are tag, glob, url, prefix, host, route, cache, version, epoch, model, key and everything, with soft, refresh and wait";

impl Order {
    /// Reads a query (`tag=a&tag=b&wait=all`) and JSON content (`{"tag": ["a", "b"], "wait": "all"}`); both count.
    pub fn parse(query: Option<&str>, body: &[u8]) -> Result<Self, String> {
        let mut order = Self { named: Vec::new(), mode: Mode::Hard, wait: Wait::Local };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("`{pair}` has no value: {USAGE}"))?;
            order.say(name, &decoded(value)?)?;
        }
        if !body.trim_ascii().is_empty() {
            let object: serde_json::Map<String, Value> =
                serde_json::from_slice(body).map_err(|error| format!("{error}: {USAGE}"))?;
            for (name, value) in object {
                order.say_json(&name, &value)?;
            }
        }
        if order.named.is_empty() {
            return Err(USAGE.to_owned());
        }
        Ok(order)
    }

    fn say_json(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) => self.say(name, text),
            Value::Bool(yes) => self.say(name, if *yes { "true" } else { "false" }),
            Value::Number(number) => self.say(name, &format!("{number}s")),
            Value::Array(list) if Target::KINDS.contains(&name) || name == "model" => {
                list.iter().try_for_each(|one| {
                    let text = one
                        .as_str()
                        .ok_or_else(|| format!("in `{name}` stands something that is no text"))?;
                    self.say(name, text)
                })
            }
            _ => Err(format!("`{name}` is not understood: {USAGE}")),
        }
    }

    fn say(&mut self, name: &str, value: &str) -> Result<(), String> {
        match (name, value) {
            ("wait", "local") => self.wait = Wait::Local,
            ("wait", "replica") => self.wait = Wait::Replica,
            ("wait", "all") => self.wait = Wait::All,
            ("wait", _) => return Err(format!("`wait` is \"local\", \"replica\" or \"all\", not `{value}`")),
            ("soft", "true") if self.mode == Mode::Hard => self.mode = Mode::Soft,
            ("soft", "true" | "false") => {}
            ("refresh", "true") => self.mode = Mode::Refresh(GRACE),
            ("refresh", "false") => {}
            ("refresh", text) => {
                let grace = crate::config::units::parse_duration(text).ok();
                let grace = grace.filter(|grace| grace.as_secs() <= u32::MAX.into());
                let grace =
                    grace.ok_or_else(|| format!("`refresh` is a duration such as \"60s\", not `{text}`"))?;
                self.mode = Mode::Refresh(grace);
            }
            ("everything", "true") => self.named.push(Named::Target(Target::Everything)),
            ("model", model) if !model.is_empty() && model.len() <= TARGET_BYTES_MAX => {
                self.named.push(Named::Model(model.to_owned()));
            }
            // People write patterns where tags are asked for.
            ("tag", tag) if tag.contains('*') => return self.say("glob", tag),
            (kind, value) if Target::KINDS.contains(&kind) && kind != "everything" => {
                let target = Target::parse(kind, value).map_err(|error| format!("`{kind}`: {error}"))?;
                self.named.push(Named::Target(target));
            }
            _ => return Err(format!("`{name}={value}` is not understood: {USAGE}")),
        }
        if self.named.len() > NAMED_MAX {
            return Err(format!("one order may name {NAMED_MAX} things"));
        }
        Ok(())
    }

    /// As JSON, in the form in which it can be asked for again.
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::Map::new();
        for named in &self.named {
            let (kind, value) = match named {
                Named::Target(Target::Everything) => {
                    object.insert("everything".to_owned(), true.into());
                    continue;
                }
                Named::Target(target) => (target.kind(), target.value()),
                Named::Model(model) => ("model", model.clone()),
            };
            match object.entry(kind).or_insert_with(|| json!([])) {
                Value::Array(list) => list.push(value.into()),
                _ => unreachable!("everything is the only kind that is no list"),
            }
        }
        // One alone needs no list.
        for value in object.values_mut() {
            if let Value::Array(list) = value
                && list.len() == 1
            {
                *value = list.remove(0);
            }
        }
        match self.mode {
            Mode::Hard => {}
            Mode::Soft => drop(object.insert("soft".to_owned(), true.into())),
            Mode::Refresh(grace) => {
                drop(object.insert("refresh".to_owned(), format!("{}s", grace.as_secs()).into()))
            }
        }
        match self.wait {
            Wait::Local => {}
            Wait::Replica => drop(object.insert("wait".to_owned(), "replica".into())),
            Wait::All => drop(object.insert("wait".to_owned(), "all".into())),
        }
        object.into()
    }
}

/// Percent-decodes a query value (RFC 3986 §2.1). `+` stays: in a URL it is a plus sign.
fn decoded(value: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let byte = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(byte.ok_or_else(|| format!("`{value}` is not percent-encoded"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("`{value}` is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_purged_is_named_exactly() {
        #[rustfmt::skip]
        let good = [
            (None, r#"{"url": "http://a.test/x?y=1&z"}"#,               r#"{"url":"http://a.test/x?y=1&z"}"#),
            (Some("url=http://a.test/x%3Fy%3d1%26z"), "",               r#"{"url":"http://a.test/x?y=1&z"}"#),
            (None, r#" {"everything": true} "#,                         r#"{"everything":true}"#),
            (Some("everything=true"), " ",                              r#"{"everything":true}"#),
            (Some("tag=a&tag=b&wait=all"), "",                          r#"{"tag":["a","b"],"wait":"all"}"#),
            (None, r#"{"tag": ["a", "home_*"], "soft": true}"#,         r#"{"glob":"home_*","soft":true,"tag":"a"}"#),
            (Some("tag=a"), r#"{"prefix": "/blog", "refresh": "5m"}"#,  r#"{"prefix":"/blog","refresh":"300s","tag":"a"}"#),
            (None, r#"{"host": "A.test", "route": "x", "cache": "chat", "model": "Post", "refresh": 90}"#,
                r#"{"cache":"chat","host":"a.test","model":"Post","refresh":"90s","route":"x"}"#),
        ];
        for (query, body, expected) in good {
            let order = Order::parse(query, body.as_bytes()).unwrap();
            assert_eq!(order.to_json().to_string(), expected, "{query:?} {body}");
        }
        let bad = [
            (None, ""),
            (None, "{}"),
            (None, "url=http://a.test/"),
            (None, r#"{"url": 1}"#),
            (None, r#"{"url": "/x"}"#),
            (None, r#"{"urls": ["http://a.test/"]}"#),
            (None, r#"{"everything": false}"#),
            (None, r#"{"tag": ["a", 1]}"#),
            (None, r#"{"tag": "a", "wait": "some"}"#),
            (None, r#"{"tag": "a", "refresh": "soon"}"#),
            (None, r#"{"soft": true}"#),
            (None, r#"{"tag": ""}"#),
            (None, r#"{"mark": "x"}"#),
            (Some("url=%zz"), ""),
            (Some("url=%f"), ""),
            (Some("url=%ff"), ""),
            (Some("everything=1"), ""),
            (Some("everything"), ""),
            (Some("page=http://a.test/"), ""),
        ];
        for (query, body) in bad {
            assert!(Order::parse(query, body.as_bytes()).is_err(), "{query:?} {body}");
        }
        let many = format!("{{\"tag\": [{}]}}", vec!["\"a\""; NAMED_MAX + 1].join(","));
        assert!(Order::parse(None, many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(query in "[a-z=&%0-9]{0,40}", body in "[{}\":a-z, \\[\\]]{0,40}") {
            if let Ok(order) = Order::parse(Some(&query), body.as_bytes()) {
                let again = order.to_json().to_string();
                prop_assert_eq!(Order::parse(None, again.as_bytes()).map(|order| order.to_json().to_string()), Ok(again));
            }
        }
    }
}
