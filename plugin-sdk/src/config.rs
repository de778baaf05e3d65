//! The operator's configuration of a plugin: any TOML, read with serde.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};

/// Reads a configuration. An error names the field, as the operator wrote it.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Config { drop: Vec<String>, #[serde(rename = "max-age")] max_age: weir_plugin::config::Ttl }
/// # impl Default for Config { fn default() -> Self { Self { drop: vec![], max_age: "5m".parse().unwrap() } } }
///
/// let error = |json| weir_plugin::config::parse::<Config>(json).unwrap_err().to_string();
/// assert_eq!(error(r#"{"drop":["a",5]}"#), "config: `drop[1]`: invalid type: integer `5`, expected a string");
/// assert_eq!(error(r#"{"max-age":"5 minuets"}"#), "config: `max-age`: `5 minuets` is not a duration: write a number and a unit, as in \"90s\", \"5m\", \"1h\"");
/// assert_eq!(error(r#"{"dorp":[]}"#), "config: unknown field `dorp`, expected `drop` or `max-age`");
/// ```
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, crate::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let mut text = error.into_inner().to_string();
        // A place in JSON that the operator never saw helps nobody.
        if let Some(place) = text.rfind(" at line ") {
            text.truncate(place);
        }
        // An unknown field names itself; what is of interest is the table that it stands in.
        let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let path = match unknown.and_then(|field| path.strip_suffix(field)) {
            Some(table) => table.trim_end_matches('.').to_owned(),
            None => path,
        };
        match path.as_str() {
            "" | "." => crate::Error::new(format!("config: {text}")),
            path => crate::Error::new(format!("config: `{path}`: {text}")),
        }
    })
}

/// A duration as Weir's configuration writes them: `"250ms"`, `"90s"`, `"5m"`, `"1h"`, `"7d"`.
///
/// ```
/// use std::time::Duration;
/// use weir_plugin::config::Ttl;
///
/// assert_eq!(*"5m".parse::<Ttl>().unwrap(), Duration::from_secs(300));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ttl(pub Duration);

impl Deref for Ttl {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl std::str::FromStr for Ttl {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let wrong = || NotADuration(text.to_owned());
        let unit = text.find(|char: char| !char.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
        let milliseconds = match &text[unit..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(milliseconds).map(|all| Self(Duration::from_millis(all))).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotADuration(String);

impl fmt::Display for NotADuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a duration: write a number and a unit, as in \"90s\", \"5m\", \"1h\"", self.0)
    }
}

impl std::error::Error for NotADuration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[expect(dead_code, reason = "only read")]
        model: std::collections::BTreeMap<String, Model>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Model {
        #[expect(dead_code, reason = "only read")]
        written_by: Vec<crate::path::Rule>,
    }

    #[test]
    fn mistakes_are_named_where_they_are() {
        #[rustfmt::skip]
        let cases = [
            (r#"{}"#, "config: missing field `model`"),
            (r#"{"model":{"Post":{}}}"#, "config: `model.Post`: missing field `written_by`"),
            (r#"{"model":{"Post":{"writen_by":[]}}}"#, "config: `model.Post`: unknown field `writen_by`, expected `written_by`"),
            (r#"{"model":{"Post":{"written_by":["/a","b"]}}}"#, "config: `model.Post.written_by[1]`: `b` is not a path: it begins with `/`"),
            (r#"{"model":{"Post":{"written_by":7}}}"#, "config: `model.Post.written_by`: invalid type: integer `7`, expected a sequence"),
        ];
        for (json, expected) in cases {
            assert_eq!(parse::<Config>(json).unwrap_err().to_string(), expected, "{json}");
        }
    }
}
