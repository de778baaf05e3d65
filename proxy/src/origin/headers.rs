//! The fields that an origin sees: made anew from the gated ones, and what this proxy says of the client itself.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;

use crate::config::model::HeaderEdits;
use crate::gate::{self, Authority, PSEUDONYM};
use crate::identity::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// Fields of a request on its way to an origin. Only [`make`] makes them.
#[derive(Debug, Clone, Default)]
pub struct OriginFields(HeaderMap);

/// Who sends, as far as an origin is told.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The peer's address: the client, or the trusted proxy it came through. `None`: a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether the peer's own `Forwarded` and `X-Forwarded-*` are passed on, with a hop added.
    pub trusted: bool,
    /// The scheme that the client used.
    pub scheme: &'a Scheme,
    /// The host that the client asked for.
    pub authority: &'a Authority,
    /// The version that the request came in.
    pub version: Version,
}

impl OriginFields {
    /// The fields.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// Applies what a route says; removing comes first. Fields of one connection and `Host` are not a route's to set.
    pub fn edit(&mut self, edits: &HeaderEdits) {
        for name in &edits.remove {
            self.0.remove(name);
        }
        for (name, value) in &edits.set {
            if !gate::is_hop_by_hop(name) {
                self.0.insert(name, value.clone());
            }
        }
    }

    /// Sets one field: a condition of a validation, a cookie that a route declares.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        debug_assert!(!gate::is_hop_by_hop(&name), "only end-to-end fields are set by the proxy's own steps");
        self.0.insert(name, value);
    }

    /// Removes a field.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }

    pub(super) fn into_map(self) -> HeaderMap {
        self.0
    }
}

/// Names by which a client could tell an origin to read another host, path, method or client than the one that asks.
const ROUTING: [&str; 28] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "proxy", // CGI makes HTTP_PROXY of it
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-rewrite-url",
];

/// How often a request may pass a proxy of this kind before it is taken for a loop.
const LOOPS_MAX: usize = 8;

/// Makes the fields that go to an origin out of gated ones.
pub fn make(mut fields: HeaderMap, sender: &Sender<'_>) -> OriginFields {
    if !sender.trusted {
        remove_routing(&mut fields);
    }
    let mut node = String::with_capacity(48);
    if let Some(peer) = sender.peer {
        write!(node, "{peer}").expect("writing into a string does not fail");
        append_to_list(&mut fields, X_FORWARDED_FOR, &node);
    }
    if !sender.trusted || !fields.contains_key(X_FORWARDED_PROTO) {
        let proto = if *sender.scheme == Scheme::HTTPS { "https" } else { "http" };
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !sender.trusted || !fields.contains_key(X_FORWARDED_HOST) {
        fields.insert(X_FORWARDED_HOST, sender.authority.to_value());
    }
    append_to_list(&mut fields, header::FORWARDED, &forwarded(sender));
    fields.append(header::VIA, gate::via(sender.version));
    OriginFields(fields)
}

/// Removes what an untrusted client may not say. One pass; a request that says none of it pays no more.
fn remove_routing(fields: &mut HeaderMap) {
    let is_routing = |name: &HeaderName| {
        let text = name.as_str();
        ROUTING.binary_search(&text).is_ok()
            || text.starts_with("x-forwarded-")
            || text.starts_with("x-original-")
    };
    if fields.keys().any(is_routing) {
        let found: Vec<HeaderName> = fields.keys().filter(|name| is_routing(name)).cloned().collect();
        for name in found {
            fields.remove(name);
        }
    }
}

/// Adds an entry at the right end of a list, keeping it one line.
fn append_to_list(fields: &mut HeaderMap, name: HeaderName, entry: &str) {
    let mut list = Vec::new();
    for line in fields.get_all(&name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(entry.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        fields.insert(name, value);
    }
}

/// One element of `Forwarded` (RFC 7239 §4).
fn forwarded(sender: &Sender<'_>) -> String {
    let mut element = String::with_capacity(96);
    match sender.peer {
        Some(IpAddr::V4(address)) => write!(element, "for={address}"),
        // RFC 7239 §4: "Note that an IPv6 address is always enclosed in square brackets", and therefore quoted.
        Some(IpAddr::V6(address)) => write!(element, "for=\"[{address}]\""),
        None => write!(element, "for=unknown"),
    }
    .and_then(|()| {
        let host = sender.authority.as_str();
        let quote = if host.contains([':', '[']) { "\"" } else { "" };
        write!(element, ";host={quote}{host}{quote};proto={}", sender.scheme.as_str())
    })
    .expect("writing into a string does not fail");
    element
}

/// Whether the request has been here so often that it must be going round.
pub(super) fn is_loop(fields: &HeaderMap) -> bool {
    fields
        .get_all(header::VIA)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter(|hop| hop.trim_ascii().rsplit(|&byte| byte == b' ').next() == Some(PSEUDONYM.as_bytes()))
        .count()
        > LOOPS_MAX
}
