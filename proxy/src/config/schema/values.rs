//! The values that stand in the tables: words, and what may be written in more than one way.

use toml::de::DeValue;

use super::{ListenerTable, OriginServerTable, Other, PluginFailureTable, RedirectTable, RouteCacheTable};
use crate::config::decode::{At, Decode, Field, Node, Reader, Text, Whole, words};
use crate::config::mistake::Mistake;
use crate::config::model::{
    Balance, LogFormat, LogLevel, OnRateFailure, OnRequestFailure, OriginProtocol, Override,
};
use crate::redis::url::{RedisUrl, UrlError};
use crate::store::wire::Compression;

words!(Balance {
    "round-robin" => Balance::RoundRobin,
    "least-requests" => Balance::LeastRequests,
    "hash" => Balance::Hash,
});

words!(OriginProtocol {
    "auto" => OriginProtocol::Auto,
    "http1" => OriginProtocol::Http1,
    "http2" => OriginProtocol::Http2,
});

words!(LogLevel {
    "error" => LogLevel::Error,
    "warn" => LogLevel::Warn,
    "info" => LogLevel::Info,
    "debug" => LogLevel::Debug,
});

words!(LogFormat {
    "console" => LogFormat::Console,
    "json" => LogFormat::Json,
});

/// The form of the access log, or none.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct AccessLog(pub(in crate::config) Option<LogFormat>);

words!(AccessLog {
    "console" => AccessLog(Some(LogFormat::Console)),
    "json" => AccessLog(Some(LogFormat::Json)),
    "off" => AccessLog(None),
});

words!(Override {
    "no-store" => Override::NoStore,
    "no-cache" => Override::NoCache,
    "private" => Override::Private,
    "max-age" => Override::MaxAge,
    "must-revalidate" => Override::MustRevalidate,
    "set-cookie" => Override::SetCookie,
    "authorization" => Override::Authorization,
    "cookie" => Override::Cookie,
    "vary" => Override::Vary,
    "request" => Override::Request,
});

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum SchemeWord {
    Http,
    Https,
}

words!(SchemeWord {
    "http" => SchemeWord::Http,
    "https" => SchemeWord::Https,
});

/// What a cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum CacheKind {
    Memory,
    None,
}

words!(CacheKind {
    "memory" => CacheKind::Memory,
    "none" => CacheKind::None,
});

/// What is done with a hit that others may have purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Unverified {
    Available,
    Strict,
}

words!(Unverified {
    "available" => Unverified::Available,
    "strict" => Unverified::Strict,
});

/// What comes of Redis that cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum OnRedisError {
    Ignore,
    Fail,
}

words!(OnRedisError {
    "ignore" => OnRedisError::Ignore,
    "fail" => OnRedisError::Fail,
});

words!(Compression {
    "zstd" => Compression::Zstd,
    "lz4" => Compression::Lz4,
    "zlib" => Compression::Zlib,
    "none" => Compression::None,
});

/// The URL of a Redis.
#[derive(Debug, Clone)]
pub(in crate::config) struct RedisAddress(pub(in crate::config) RedisUrl);

impl Decode for RedisAddress {
    const EXPECTS: &'static str = "a URL, as \"redis://127.0.0.1:6379/1\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let text = reader.text(node, Self::EXPECTS)?;
        // A password may stand in it, well written or not.
        if text.value.contains(['@', '?']) {
            reader.conceal(node.span());
        }
        let read = RedisUrl::parse(&text.value);
        let report = |error: &UrlError| {
            let message = format!("this is not the URL of a Redis: {error}");
            reader.report(Mistake::new(node.span(), message).help(error.help()));
        };
        read.inspect_err(report).map(Self).ok()
    }
}

/// Whose `Host` an origin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum HostChoice {
    Client,
    Server,
}

words!(HostChoice {
    "client" => HostChoice::Client,
    "server" => HostChoice::Server,
});

/// How many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Workers {
    Cores,
    Number(usize),
}

impl Decode for Workers {
    const EXPECTS: &'static str = "\"cores\", or a whole number";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if !text.contains("${") => {
                if text == "cores" {
                    return Some(Self::Cores);
                }
                reader.wrong_type(node, Self::EXPECTS);
                None
            }
            _ => {
                let number = Whole::<1, 1024>::decode(node, reader)?;
                Some(Self::Number(usize::try_from(number.0).expect("1024 fits")))
            }
        }
    }
}

/// A listener: an address, or a table.
#[derive(Debug, Clone)]
pub(in crate::config) struct Listener(pub(in crate::config) ListenerTable);

impl Decode for Listener {
    const EXPECTS: &'static str = "an address, as \"127.0.0.1:8080\" or \"unix:/run/weir.sock\", or a table";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => Some(Self(ListenerTable::from_table(table, node.span(), reader))),
            _ => {
                let value = reader.text(node, Self::EXPECTS)?;
                let address = Field::Given(At { value, span: node.span() });
                Some(Self(ListenerTable { span: node.span(), address, ..ListenerTable::default() }))
            }
        }
    }
}

/// A server of an origin: a URL, or a table.
#[derive(Debug, Clone)]
pub(in crate::config) struct OriginServer(pub(in crate::config) OriginServerTable);

impl Decode for OriginServer {
    const EXPECTS: &'static str = "a URL, as \"http://10.0.0.5:8000\", or a table";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => Some(Self(OriginServerTable::from_table(table, node.span(), reader))),
            _ => {
                let value = reader.text(node, Self::EXPECTS)?;
                let url = Field::Given(At { value, span: node.span() });
                Some(Self(OriginServerTable { span: node.span(), url, ..OriginServerTable::default() }))
            }
        }
    }
}

/// An origin's name, or a URL.
#[derive(Debug, Clone)]
pub(in crate::config) struct OriginRef(pub(in crate::config) Text);

impl Decode for OriginRef {
    const EXPECTS: &'static str = "the name of an origin, or a URL, as \"http://127.0.0.1:8000\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        reader.text(node, Self::EXPECTS).map(Self)
    }
}

/// A redirect: `"https"`, or a table.
#[derive(Debug, Clone)]
pub(in crate::config) enum Redirect {
    Https,
    Table(Box<RedirectTable>),
}

impl Decode for Redirect {
    const EXPECTS: &'static str =
        "\"https\", or a table: `redirect = { status = 301, to = \"https://www.example.com{path}{query}\" }`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => {
                Some(Self::Table(Box::new(RedirectTable::from_table(table, node.span(), reader))))
            }
            DeValue::String(text) if text == "https" => Some(Self::Https),
            DeValue::String(_) => {
                let text = reader.text(node, Self::EXPECTS)?;
                let message = format!("`{}` is not known here", text.shown);
                let help = format!("write \"https\", or `redirect = {{ to = \"{}\" }}`", text.shown);
                reader.report(Mistake::new(node.span(), message).help(help));
                None
            }
            _ => {
                reader.wrong_type(node, Self::EXPECTS);
                None
            }
        }
    }
}

/// A route's cache: `"off"`, the name of a cache, or a table.
#[derive(Debug, Clone)]
pub(in crate::config) enum RouteCache {
    Off,
    Table(Box<RouteCacheTable>),
}

impl Decode for RouteCache {
    const EXPECTS: &'static str = "\"off\", the name of a cache, or a table: `cache = { ttl = \"5m\" }`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => {
                Some(Self::Table(Box::new(RouteCacheTable::from_table(table, node.span(), reader))))
            }
            DeValue::Boolean(false) => {
                let mistake = Mistake::new(node.span(), "`false` is not known here");
                reader.report(mistake.help("write `cache = \"off\"`"));
                None
            }
            _ => {
                let value = reader.text(node, Self::EXPECTS)?;
                if value.value == "off" {
                    return Some(Self::Off);
                }
                let store = Field::Given(At { value, span: node.span() });
                Some(Self::Table(Box::new(RouteCacheTable {
                    span: node.span(),
                    store,
                    ..RouteCacheTable::default()
                })))
            }
        }
    }
}

/// A condition on a field or parameter.
#[derive(Debug, Clone)]
pub(in crate::config) enum Condition {
    Present,
    Absent,
    Fits(Text),
}

impl Decode for Condition {
    const EXPECTS: &'static str = "true (is there), false (is not), or a text that it fits";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Boolean(true) => Some(Self::Present),
            DeValue::Boolean(false) => Some(Self::Absent),
            _ => reader.text(node, Self::EXPECTS).map(Self::Fits),
        }
    }
}

/// Any TOML value as JSON.
#[derive(Debug, Clone)]
pub(in crate::config) struct Json(pub(in crate::config) serde_json::Value);

impl Decode for Json {
    const EXPECTS: &'static str = "any value";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        use serde_json::Value;
        let value = match node.get_ref() {
            DeValue::String(_) => Value::String(reader.text(node, Self::EXPECTS)?.value),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => number.into(),
                Err(_) => {
                    reader.report(Mistake::new(node.span(), "this number is too large"));
                    return None;
                }
            },
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
                if number.is_none() {
                    reader.report(Mistake::new(node.span(), "JSON has no such number"));
                }
                Value::Number(number?)
            }
            DeValue::Boolean(value) => (*value).into(),
            DeValue::Datetime(date) => date.to_string().into(),
            DeValue::Array(list) => {
                let read: Vec<Option<Self>> = list.iter().map(|one| Self::decode(one, reader)).collect();
                read.into_iter().map(|one| one.map(|one| one.0)).collect::<Option<Vec<_>>>()?.into()
            }
            DeValue::Table(table) => {
                let read: Vec<(String, Option<Self>)> = table
                    .iter()
                    .map(|(key, value)| (key.get_ref().to_string(), Self::decode(value, reader)))
                    .collect();
                let object: Option<serde_json::Map<_, _>> =
                    read.into_iter().map(|(key, value)| Some((key, value?.0))).collect();
                Value::Object(object?)
            }
        };
        Some(Self(value))
    }
}

words!(OnRequestFailure {
    "bypass" => OnRequestFailure::Bypass,
    "default-key" => OnRequestFailure::DefaultKey,
    "deny" => OnRequestFailure::Deny,
});

words!(OnRateFailure {
    "client-ip" => OnRateFailure::ClientIp,
    "allow" => OnRateFailure::Allow,
    "deny" => OnRateFailure::Deny,
});

/// When the response hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum OnResponseFailure {
    NoStore,
    Default,
}

words!(OnResponseFailure {
    "no-store" => OnResponseFailure::NoStore,
    "default" => OnResponseFailure::Default,
});

/// When the invalidate hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum OnInvalidateFailure {
    PurgeRoute,
    UriOnly,
}

words!(OnInvalidateFailure {
    "purge-route" => OnInvalidateFailure::PurgeRoute,
    "uri-only" => OnInvalidateFailure::UriOnly,
});

/// What is done when a plugin fails: `"safe"`, or a table.
#[derive(Debug, Clone)]
pub(in crate::config) enum PluginFailure {
    Safe,
    Table(Box<PluginFailureTable>),
}

impl Decode for PluginFailure {
    const EXPECTS: &'static str = "\"safe\", or a table: `on_failure = { request = \"deny\" }`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => {
                Some(Self::Table(Box::new(PluginFailureTable::from_table(table, node.span(), reader))))
            }
            DeValue::String(text) if text == "safe" => Some(Self::Safe),
            _ => {
                reader.wrong_type(node, Self::EXPECTS);
                None
            }
        }
    }
}

/// Another request of a test: its text, or a table.
#[derive(Debug, Clone)]
pub(in crate::config) struct OtherValue(pub(in crate::config) Other);

impl Decode for OtherValue {
    const EXPECTS: &'static str =
        "a request, as \"GET /\", or a table: `different_key_from = { session = { tier = \"gold\" } }`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if let DeValue::Table(table) = node.get_ref() {
            return Some(Self(Other::from_table(table, node.span(), reader)));
        }
        let value = reader.text(node, Self::EXPECTS)?;
        let request = Field::Given(At { value, span: node.span() });
        Some(Self(Other { span: node.span(), request, ..Other::default() }))
    }
}
