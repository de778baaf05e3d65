//! What a file of tests says.

use std::collections::BTreeMap;
use std::time::Duration;

use cache_semantics::Now;
use http::{HeaderMap, HeaderName, HeaderValue};
use plugin_host::{Content, Request};
use serde::Deserialize;
use serde_json::Value;

use crate::TrialError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) config: Option<Value>,
    #[serde(default)]
    pub(crate) test: Vec<Case>,
}

/// A request, and what is expected of the plugin. The same words change a request: in `then`, `same_key_as` and `different_key_from`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Case {
    pub(crate) name: Option<String>,
    pub(crate) config: Option<Value>,
    // The request.
    pub(crate) request: Option<String>,
    pub(crate) headers: Option<BTreeMap<String, Value>>,
    pub(crate) json: Option<Value>,
    pub(crate) body: Option<String>,
    pub(crate) session: Option<BTreeMap<String, String>>,
    pub(crate) client: Option<String>,
    pub(crate) sni: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) response: Option<Answer>,
    pub(crate) after: Option<String>,
    // What is expected.
    pub(crate) mode: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) variants: Option<Vec<String>>,
    pub(crate) carry: Option<String>,
    pub(crate) same_key_as: Option<Value>,
    pub(crate) different_key_from: Option<Value>,
    pub(crate) forwarded: Option<String>,
    pub(crate) forwarded_cookies: Option<Vec<String>>,
    pub(crate) remember: Option<String>,
    pub(crate) store: Option<Value>,
    pub(crate) set_session: Option<BTreeMap<String, Value>>,
    pub(crate) purges: Option<Vec<String>>,
    pub(crate) charges: Option<Vec<BTreeMap<String, Value>>>,
    pub(crate) failed: Option<String>,
    pub(crate) refused: Option<String>,
    pub(crate) logged: Option<Vec<String>>,
    pub(crate) counted: Option<BTreeMap<String, u64>>,
    pub(crate) then: Vec<Case>,
}

/// What the origin answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    #[serde(default = "ok")]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Value>,
    pub(crate) content_length: Option<u64>,
}

fn ok() -> u16 {
    200
}

impl File {
    pub(crate) fn parse(text: &str) -> Result<Self, TrialError> {
        toml::from_str(text).map_err(|error| TrialError::Tests(error.to_string()))
    }
}

/// A request in parts that can be borrowed.
pub(crate) struct Presented {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    query: Option<String>,
    route: String,
    headers: HeaderMap,
    client: Option<std::net::IpAddr>,
    sni: Option<String>,
    session: Vec<(String, String)>,
    content: Option<Content>,
}

impl Case {
    /// This request, with what another case names in place of its own; expected is what that case expects.
    pub(crate) fn changed_by(&self, other: &Self) -> Self {
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
    pub(crate) fn others(&self, said: &Value) -> Result<Vec<(String, Self)>, String> {
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

    pub(crate) fn presented(&self) -> Result<Presented, String> {
        let text = self.request.as_deref().ok_or("there is no `request`")?;
        let (method, target) =
            text.split_once(' ').ok_or_else(|| format!("`{text}` is not as in \"GET /path\""))?;
        let (scheme, rest) = match target.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("http", target),
        };
        let (authority, path) = match rest.find('/') {
            Some(0) => ("localhost", rest),
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
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
            query,
            route: self.route.clone().unwrap_or_else(|| "test".to_owned()),
            headers: headers(self.headers.as_ref())?,
            client: Some(client.parse().map_err(|_| format!("`{client}` is no address"))?),
            sni: self.sni.clone(),
            session: self.session.clone().unwrap_or_default().into_iter().collect(),
            content: bytes.map(|bytes| Content::new(&bytes, true)),
        })
    }
}

impl Presented {
    pub(crate) fn ask<T>(&self, now: Now, with: impl FnOnce(&Request<'_>) -> T) -> T {
        let session: Vec<(&str, &str)> =
            self.session.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        with(&Request {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            route: &self.route,
            headers: &self.headers,
            client_ip: self.client,
            tls_sni: self.sni.as_deref(),
            session: &session,
            content: self.content.as_ref(),
            now,
        })
    }
}

pub(crate) fn headers(said: Option<&BTreeMap<String, Value>>) -> Result<HeaderMap, String> {
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
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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
