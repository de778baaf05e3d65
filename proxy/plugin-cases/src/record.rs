//! What a proxy records of requests, so that a plugin can be tried with yesterday's traffic: a line of JSON each, without secrets.
//!
//! Nothing is written as it is unless it is known to be harmless, or the operator has said so: names of fields and cookies are kept, and a value becomes a
//! word that is the same wherever the value is, as long as the process runs. So two requests that differ still differ, and nobody can log in with what is
//! in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{AttributeValue, Presented, split_request};

/// The longest line that is read.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// A recorded request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// When: milliseconds since 1970.
    pub at: u64,
    /// `"GET http://example.com/path?query"`.
    pub request: String,
    /// The route that took it.
    pub route: String,
    /// Its fields, each with its lines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The name it asked for in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Attributes of its session that plugins read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub session: BTreeMap<String, AttributeValue>,
    /// Its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What the origin answered, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answered>,
}

/// The head of an origin's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its fields, each with its lines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// How long its content is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
}

/// A line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct RecordError {
    /// Which, from 1 on.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// Reads one line; `number` is for messages.
pub fn parse(line: &str, number: usize) -> Result<Recorded, RecordError> {
    let wrong = |why: String| RecordError { line: number, why };
    if line.len() > LINE_BYTES_MAX {
        return Err(wrong("it is longer than 1 MiB".to_owned()));
    }
    let recorded: Recorded = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
    recorded.presented().map_err(wrong)?;
    Ok(recorded)
}

impl Recorded {
    /// As a line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        // Texts and numbers alone: nothing of it can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The request in parts.
    pub fn presented(&self) -> Result<Presented, String> {
        let (method, scheme, authority, path, query) = split_request(&self.request)?;
        Ok(Presented {
            method: method.to_owned(),
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            route: self.route.clone(),
            headers: fields(&self.headers)?,
            client: self.client,
            sni: self.sni.clone(),
            session: self.session.clone().into_iter().collect(),
            content: self.content.clone().map(String::into_bytes),
        })
    }
}

impl Answered {
    /// Its fields.
    pub fn fields(&self) -> Result<HeaderMap, String> {
        fields(&self.headers)
    }
}

fn fields(lines: &BTreeMap<String, Vec<String>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, lines) in lines {
        let field =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a field"))?;
        for line in lines {
            let value =
                HeaderValue::from_str(line).map_err(|_| format!("{line:?} is no value of a field"))?;
            headers.append(field.clone(), value);
        }
    }
    Ok(headers)
}

/// Fields whose values say nothing about a person that their request would not say anyway.
const HARMLESS: [&str; 44] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "cache-status",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "dnt",
    "expires",
    "host",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "pragma",
    "priority",
    "range",
    "retry-after",
    "save-data",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "server",
    "surrogate-control",
    "surrogate-key",
    "cache-tag",
    "xkey",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "x-requested-with",
];

/// Words in the name of a parameter whose value is hidden.
const SECRET_WORDS: [&str; 14] = [
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "auth",
    "session",
    "sid",
    "signature",
    "sig",
    "code",
    "key",
    "email",
    "otp",
];

/// Decides what of a request is written as it is.
#[derive(Debug, Clone)]
pub struct Hider {
    key: [u8; 32],
    plain: BTreeSet<String>,
}

impl Hider {
    /// `plain`: what the operator lets be written as it is, in the words of grants: `header:x-tenant`, `cookie:ab`, `query:code`, `session:tier`,
    /// `client-ip`, `body`. `key`: of this process.
    #[must_use]
    pub fn new(key: [u8; 32], plain: impl IntoIterator<Item = String>) -> Self {
        Self { key, plain: plain.into_iter().map(|word| word.to_ascii_lowercase()).collect() }
    }

    /// Whether this may be among `plain`.
    #[must_use]
    pub fn knows(word: &str) -> bool {
        let named = ["header:", "cookie:", "query:", "session:"];
        matches!(word, "client-ip" | "body")
            || named.iter().any(|kind| word.strip_prefix(kind).is_some_and(|name| !name.is_empty()))
    }

    /// Whether this is written as it is.
    #[must_use]
    pub fn shows(&self, kind: &str, name: &str) -> bool {
        if name.is_empty() {
            return self.plain.contains(kind);
        }
        self.plain.contains(&format!("{kind}:{}", name.to_ascii_lowercase()))
    }

    /// A word in place of a value: the same for the same value, and nothing that leads back to it.
    #[must_use]
    pub fn hidden(&self, value: &[u8]) -> String {
        let mut digest = Sha256::new();
        // The key has a length of its own, and stands on both sides.
        digest.update(self.key);
        digest.update(value);
        digest.update(self.key);
        format!("hidden-{}", HEXLOWER.encode(&digest.finalize()[..8]))
    }

    /// The fields of a message.
    #[must_use]
    pub fn fields(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let line = if *name == header::COOKIE {
                self.cookies(value.as_bytes())
            } else if HARMLESS.contains(&name.as_str()) || self.shows("header", name.as_str()) {
                shown(value.as_bytes()).unwrap_or_else(|| self.hidden(value.as_bytes()))
            } else {
                self.hidden(value.as_bytes())
            };
            written.entry(name.as_str().to_owned()).or_default().push(line);
        }
        written
    }

    fn cookies(&self, line: &[u8]) -> String {
        let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        let written: Vec<String> = pairs
            .map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=');
                let (name, value) = at.map_or((pair, None), |at| (&pair[..at], Some(&pair[at + 1..])));
                // A pair without a name is a value.
                let name = if value.is_none() { None } else { shown(name) };
                match (name, value) {
                    (Some(name), Some(value)) if self.shows("cookie", &name) => {
                        format!("{name}={}", shown(value).unwrap_or_else(|| self.hidden(value)))
                    }
                    (Some(name), Some(value)) => format!("{name}={}", self.hidden(value)),
                    (_, _) => self.hidden(pair),
                }
            })
            .collect();
        written.join("; ")
    }

    /// A query, its parameters in their order.
    #[must_use]
    pub fn query(&self, query: &str) -> String {
        let parts: Vec<String> = query
            .split('&')
            .map(|part| {
                let Some((name, value)) = part.split_once('=') else { return part.to_owned() };
                let lower = name.to_ascii_lowercase();
                let is_secret = SECRET_WORDS.iter().any(|word| lower.contains(word)) || name.contains('%');
                if value.is_empty() || !is_secret || self.shows("query", name) {
                    return part.to_owned();
                }
                format!("{name}={}", self.hidden(value.as_bytes()))
            })
            .collect();
        parts.join("&")
    }
}

/// As a text that a field may hold again.
fn shown(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::WrittenItem;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(field).collect()
    }

    #[test]
    fn nobody_can_log_in_with_what_is_written() {
        let hider = Hider::new([7; 32], ["cookie:ab".to_owned(), "header:X-Tenant".to_owned()]);
        let given = headers(&[
            ("accept-language", "de"),
            ("authorization", "Bearer s3cret"),
            ("cookie", "sessionid=s3cret; ab=b; s3cret"),
            ("x-api-key", "s3cret"),
            ("x-tenant", "blue"),
        ]);
        let written = hider.fields(&given);
        let text = format!("{written:?} {}", hider.query("page=2&access_token=s3cret&a&state%5fx=s3cret"));
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(written["accept-language"], ["de"]);
        assert_eq!(written["x-tenant"], ["blue"]);
        assert!(
            written["cookie"][0].contains("ab=b") && written["cookie"][0].starts_with("sessionid=hidden-")
        );
        assert!(text.contains("page=2&access_token=hidden-"), "{text}");
        // The same value is the same word, so that requests that shared a key do so in the replay.
        assert_eq!(hider.fields(&given), written);
        assert_ne!(hider.hidden(b"a"), hider.hidden(b"b"));
        assert_ne!(hider.hidden(b"a"), Hider::new([8; 32], []).hidden(b"a"));
    }

    #[test]
    fn what_is_written_is_read() {
        let recorded = Recorded {
            at: 1,
            request: "POST https://a.example/x?y=1".to_owned(),
            route: "r".to_owned(),
            headers: Hider::new([0; 32], []).fields(&headers(&[("accept", "a"), ("cookie", "x=1")])),
            client: Some([192, 0, 2, 1].into()),
            session: [
                ("tier".to_owned(), AttributeValue::Text("1".to_owned())),
                ("user".to_owned(), AttributeValue::Item(WrittenItem { item: "1".to_owned() })),
            ]
            .into(),
            content: Some("{}".to_owned()),
            answer: Some(Answered { status: 200, ..Answered::default() }),
            ..Recorded::default()
        };
        assert_eq!(parse(&recorded.line(), 1), Ok(recorded));
    }

    #[test]
    fn a_line_that_is_not_understood_says_which() {
        for (line, why) in [
            ("", "line 3: EOF"),
            ("{}", "line 3: missing field `at`"),
            (r#"{"at":1,"request":"GET","route":"r"}"#, "line 3: `GET` is not as in"),
            (r#"{"at":1,"request":"GET /","route":"r","headers":{"a b":["x"]}}"#, "is no name of a field"),
            (r#"{"at":1,"request":"GET /","route":"r","secret":"x"}"#, "unknown field `secret`"),
        ] {
            let error = parse(line, 3).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_value_of_a_cookie_or_of_an_unknown_field_is_written(value in "[a-z0-9]{8,20}") {
            let hider = Hider::new([1; 32], []);
            let mut given = HeaderMap::new();
            given.insert("cookie", HeaderValue::from_str(&format!("a={value}; {value}")).unwrap());
            given.insert("x-thing", HeaderValue::from_str(&value).unwrap());
            let text = format!("{:?}", hider.fields(&given));
            prop_assert!(!text.contains(&value));
        }
    }
}
