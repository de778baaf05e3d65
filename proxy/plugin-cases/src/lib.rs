//! Requests that plugins are shown outside of the proxy: those of a file of tests ([`case`]), and those that a proxy has recorded ([`record`]).
//!
//! Only parsed and written here; whoever has an engine asks plugins about them.

pub mod case;
pub mod record;

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

/// A request in parts that can be borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Its method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port.
    pub authority: String,
    /// The path.
    pub path: String,
    /// The query, without `?`.
    pub query: Option<String>,
    /// The operator's name of the route.
    pub route: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The name it asked for in TLS.
    pub sni: Option<String>,
    /// Attributes of its session.
    pub session: Vec<(String, AttributeValue)>,
    /// Its content.
    pub content: Option<Vec<u8>>,
}

/// The value of an attribute of a session, as files give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a text, a whole number, true or false, or `{ item = \"…\" }` with anything that RFC 9651 can write"
)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// A number.
    Integer(i64),
    /// Yes or no.
    Truth(bool),
    /// Anything else that is no text.
    Item(WrittenItem),
}

/// What is no text, as RFC 9651 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenItem {
    /// The item.
    pub item: String,
}

impl AttributeValue {
    /// What plugins read of it, and whether it is a text.
    #[must_use]
    pub fn read(&self) -> (Cow<'_, str>, bool) {
        match self {
            Self::Text(text) => (Cow::Borrowed(text), true),
            Self::Integer(number) => (Cow::Owned(number.to_string()), false),
            Self::Truth(yes) => (Cow::Borrowed(if *yes { "?1" } else { "?0" }), false),
            Self::Item(WrittenItem { item }) => (Cow::Borrowed(item), false),
        }
    }
}

/// A method and a target: a path, or a whole URL.
fn split_request(text: &str) -> Result<(&str, &str, &str, &str, Option<&str>), String> {
    let (method, target) =
        text.split_once(' ').ok_or_else(|| format!("`{text}` is not as in \"GET /path\""))?;
    let (scheme, rest) = target.split_once("://").unwrap_or(("http", target));
    let (authority, path) = match rest.find('/') {
        Some(0) => ("localhost", rest),
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Ok((method, scheme, authority, path, query))
}
