//! What a file of tests says.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::{AttributeValue, Presented, split_request};

/// The file is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CaseError(String);

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The configuration of all tests that have none of their own.
    pub config: Option<Value>,
    /// The tests.
    #[serde(default)]
    pub test: Vec<Case>,
}

/// A request, and what is expected of the plugin. The same words change a request: in `then`, `same_key_as` and `different_key_from`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// Its name.
    pub name: Option<String>,
    /// The plugin's configuration in this test.
    pub config: Option<Value>,
    // The request.
    /// Method and target.
    pub request: Option<String>,
    /// Its fields.
    pub headers: Option<BTreeMap<String, Value>>,
    /// Its content, as JSON.
    pub json: Option<Value>,
    /// Its content, as text.
    pub body: Option<String>,
    /// Attributes of its session.
    pub session: Option<BTreeMap<String, AttributeValue>>,
    /// The client's address.
    pub client: Option<String>,
    /// The name in TLS.
    pub sni: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// What the origin answers.
    pub response: Option<Answer>,
    /// How much later than what came before.
    pub after: Option<String>,
    // What is expected.
    /// Of the request hook.
    pub mode: Option<String>,
    /// Likewise.
    pub key: Option<String>,
    /// Likewise.
    pub variants: Option<Vec<String>>,
    /// Likewise.
    pub carry: Option<String>,
    /// Requests that share its key.
    pub same_key_as: Option<Value>,
    /// Requests that do not.
    pub different_key_from: Option<Value>,
    /// Path and query that the origin sees.
    pub forwarded: Option<String>,
    /// Names of the cookies that it sees.
    pub forwarded_cookies: Option<Vec<String>>,
    /// For how long the decision holds.
    pub remember: Option<String>,
    /// Of the response hook.
    pub store: Option<Value>,
    /// Of the invalidate hook.
    pub purges: Option<Vec<String>>,
    /// Of the rate hook.
    pub charges: Option<Vec<BTreeMap<String, Value>>>,
    /// A hook fails with this text.
    pub failed: Option<String>,
    /// The configuration is refused with this text.
    pub refused: Option<String>,
    /// Lines that the log has.
    pub logged: Option<Vec<String>>,
    /// What counters have.
    pub counted: Option<BTreeMap<String, u64>>,
    /// What comes later.
    pub then: Vec<Case>,
}

/// What the origin answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Its status.
    #[serde(default = "ok")]
    pub status: u16,
    /// Its fields.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// How long its content is.
    pub content_length: Option<u64>,
}

fn ok() -> u16 {
    200
}

impl File {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        toml::from_str(text).map_err(|error| CaseError(error.to_string()))
    }
}

impl Case {
    /// This request, with what another case names in place of its own; expected is what that case expects.
    pub fn changed_by(&self, other: &Self) -> Self {
        let content = other.json.is_some() || other.body.is_some();
        Self {
            request: other.request.clone().or_else(|| self.request.clone()),
            headers: other.headers.clone().or_else(|| self.headers.clone()),
            json: if content { other.json.clone() } else { self.json.clone() },
            body: if content { other.body.clone() } else { self.body.clone() },
            session: other.session.clone().or_else(|| self.session.clone()),
            client: other.client.clone().or_else(|| self.client.clone()),
            sni: other.sni.clone().or_else(|| self.sni.clone()),
            route: other.route.clone().or_else(|| self.route.clone()),
            response: other.response.clone().or_else(|| self.response.clone()),
            ..other.clone()
        }
    }

    /// The requests that stand in `same_key_as` and the like: each a text, or a table of changes.
    pub fn others(&self, said: &Value) -> Result<Vec<(String, Self)>, String> {
        let list = match said {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        let one = |value: Value| match value {
            Value::String(request) => {
                let change = Self { request: Some(request.clone()), ..Self::default() };
                Ok((request, self.changed_by(&change)))
            }
            table @ Value::Object(_) => {
                let shown = table.to_string();
                let change: Self =
                    serde_json::from_value(table).map_err(|error| format!("{shown}: {error}"))?;
                Ok((shown, self.changed_by(&change)))
            }
            other => Err(format!("{other} is no request")),
        };
        list.into_iter().map(one).collect()
    }

    /// The request in parts.
    pub fn presented(&self) -> Result<Presented, String> {
        let text = self.request.as_deref().ok_or("there is no `request`")?;
        let (method, scheme, authority, path, query) = split_request(text)?;
        let bytes = match (&self.json, &self.body) {
            (Some(json), _) => Some(json.to_string().into_bytes()),
            (None, Some(body)) => Some(body.clone().into_bytes()),
            (None, None) => None,
        };
        let client = self.client.as_deref().unwrap_or("127.0.0.1");
        Ok(Presented {
            method: method.to_owned(),
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            route: self.route.clone().unwrap_or_else(|| "test".to_owned()),
            headers: headers(self.headers.as_ref())?,
            client: Some(client.parse().map_err(|_| format!("`{client}` is no address"))?),
            sni: self.sni.clone(),
            session: self.session.clone().unwrap_or_default().into_iter().collect(),
            content: bytes,
        })
    }
}

/// Fields as a test gives them: a text, or a list of texts.
pub fn headers(said: Option<&BTreeMap<String, Value>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in said.into_iter().flatten() {
        let field =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a field"))?;
        let lines = match value {
            Value::Array(lines) => lines.iter().collect(),
            one => vec![one],
        };
        for line in lines {
            let text = line.as_str().map_or_else(|| line.to_string(), str::to_owned);
            let line =
                HeaderValue::from_str(&text).map_err(|_| format!("{text:?} is no value of a field"))?;
            headers.append(field.clone(), line);
        }
    }
    Ok(headers)
}

/// `"250ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let ms = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let ms = number.parse::<u64>().ok().zip(ms).and_then(|(number, ms)| number.checked_mul(ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is no duration, as \"10s\""))
}
