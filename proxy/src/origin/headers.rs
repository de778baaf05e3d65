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
    let mut node = Short::default();
    if let Some(peer) = sender.peer {
        write!(node, "{peer}").expect("an address has at most 46 characters");
        append_to_list(&mut fields, X_FORWARDED_FOR, node.as_bytes());
    }
    if !sender.trusted || !fields.contains_key(X_FORWARDED_PROTO) {
        let proto = if *sender.scheme == Scheme::HTTPS { "https" } else { "http" };
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !sender.trusted || !fields.contains_key(X_FORWARDED_HOST) {
        fields.insert(X_FORWARDED_HOST, sender.authority.to_value());
    }
    append_to_list(&mut fields, header::FORWARDED, forwarded(sender, node.as_bytes()).as_bytes());
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
fn append_to_list(fields: &mut HeaderMap, name: HeaderName, entry: &[u8]) {
    let value = if fields.contains_key(&name) {
        let lines = fields.get_all(&name).iter().map(HeaderValue::as_bytes);
        let list: Vec<&[u8]> = lines.chain([entry]).collect();
        HeaderValue::try_from(list.join(&b", "[..]))
    } else {
        HeaderValue::from_bytes(entry)
    };
    if let Ok(value) = value {
        fields.insert(name, value);
    }
}

/// One element of `Forwarded` (RFC 7239 §4).
fn forwarded(sender: &Sender<'_>, node: &[u8]) -> Short {
    let mut element = Short::default();
    let host = sender.authority.as_bytes();
    let quote: &[u8] = if host.iter().any(|byte| matches!(byte, b':' | b'[')) { b"\"" } else { b"" };
    // RFC 7239 §4: "Note that an IPv6 address is always enclosed in square brackets", and therefore quoted.
    let (open, node, close): (&[u8], _, &[u8]) = match sender.peer {
        Some(IpAddr::V4(_)) => (b"", node, b""),
        Some(IpAddr::V6(_)) => (b"\"[", node, b"]\""),
        None => (b"", &b"unknown"[..], b""),
    };
    let scheme = sender.scheme.as_str().as_bytes();
    for part in [b"for=", open, node, close, b";host=", quote, host, quote, b";proto=", scheme] {
        element.push(part);
    }
    element
}

/// A text of bounded length that needs no allocation: an authority has at most 262 bytes, and an address 46.
struct Short {
    bytes: [u8; 352],
    len: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; 352], len: 0 }
    }
}

impl Short {
    /// Adds what there is room for.
    fn push(&mut self, part: &[u8]) {
        let room = self.bytes.len() - self.len;
        let part = &part[..part.len().min(room)];
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn made(
        peer: Option<&str>,
        trusted: bool,
        host: &'static str,
        lines: &[(&'static str, &str)],
    ) -> HeaderMap {
        let fields = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let authority = Authority::from_field(&HeaderValue::from_static(host), false).unwrap();
        let sender = Sender {
            peer: peer.map(|peer| peer.parse().unwrap()),
            trusted,
            scheme: &Scheme::HTTP,
            authority: &authority,
            version: Version::HTTP_11,
        };
        make(fields, &sender).as_map().clone()
    }

    #[test]
    fn an_untrusted_client_says_nothing_about_where_it_comes_from_or_goes_to() {
        let lines: Vec<_> = ROUTING.iter().map(|name| (*name, "evil")).collect();
        let fields = made(Some("192.0.2.1"), false, "shop.example", &lines);
        assert!(fields.values().all(|value| value != "evil"), "{fields:?}");
        assert_eq!(fields["x-forwarded-for"], "192.0.2.1");
        assert!(ROUTING.is_sorted(), "it is searched by halves");
    }

    #[test]
    fn a_trusted_proxy_is_added_to_and_not_replaced() {
        let lines = [
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example"),
            ("forwarded", "for=198.51.100.7;proto=https"),
        ];
        let fields = made(Some("10.0.0.1"), true, "app.internal:8080", &lines);
        assert_eq!(fields["x-forwarded-for"], "198.51.100.7, 10.0.0.9, 10.0.0.1");
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["x-forwarded-host"], "public.example");
        assert_eq!(
            fields["forwarded"],
            "for=198.51.100.7;proto=https, for=10.0.0.1;host=\"app.internal:8080\";proto=http"
        );
        assert_eq!(fields.get_all("x-forwarded-for").iter().count(), 1);
    }

    #[test]
    fn rfc_7239_section_4_nodes() {
        let node = |peer| made(peer, false, "[2001:db8::2]:8080", &[])["forwarded"].clone();
        assert_eq!(node(Some("2001:db8::1")), "for=\"[2001:db8::1]\";host=\"[2001:db8::2]:8080\";proto=http");
        assert_eq!(node(None), "for=unknown;host=\"[2001:db8::2]:8080\";proto=http");
    }

    #[test]
    fn a_request_that_comes_back_again_and_again_goes_round() {
        let mut fields = HeaderMap::new();
        for _ in 0..=LOOPS_MAX {
            assert!(!is_loop(&fields));
            fields.append(header::VIA, HeaderValue::from_static("1.1 weir"));
        }
        assert!(is_loop(&fields));
        fields.insert(header::VIA, HeaderValue::from_static("1.1 a, 1.1 not-weir, 2 weir, 1.1 b"));
        assert!(!is_loop(&fields));
    }

    proptest::proptest! {
        /// What is made for an origin can be read by the next proxy, and says the same of the client.
        #[test]
        fn the_next_proxy_understands_what_is_made(peer: std::net::IpAddr, host in "[a-z]{1,20}(\\.[a-z]{1,10}){0,3}(:[1-9][0-9]{0,3})?") {
            let authority = Authority::from_field(&HeaderValue::from_str(&host).unwrap(), false).unwrap();
            let sender = Sender { peer: Some(peer), trusted: false, scheme: &Scheme::HTTP, authority: &authority, version: Version::HTTP_2 };
            let fields = make(HeaderMap::new(), &sender).as_map().clone();
            let hops = crate::identity::parse_forwarded(&fields).unwrap();
            proptest::prop_assert_eq!(hops[0].client, Some(peer));
            proptest::prop_assert_eq!(hops[0].host.as_deref(), Some(authority.as_str()));
            proptest::prop_assert_eq!(fields["x-forwarded-for"].to_str().unwrap(), peer.to_string());
        }
    }
}
