//! The fields that an origin sees: the gated ones that the client presented, and what this proxy says of the client itself.
//!
//! They are written straight onto the wire: a request that is only passed on is not copied into a map of its own first.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

use crate::config::model::HeaderEdits;
use crate::gate::{self, Authority, PSEUDONYM};
use crate::http1::head;
use crate::identity::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::request_key::{ForwardedCookie, PresentedFields};
use crate::session;

/// Fields of a request on its way to an origin.
#[derive(Debug, Clone)]
pub struct OriginFields {
    presented: Arc<PresentedFields>,
    sender: Sender,
    /// What neither the client nor this proxy says.
    removed: Vec<HeaderName>,
    /// What is said instead of what the client presented.
    set: Vec<(HeaderName, HeaderValue)>,
}

/// Who sends, as far as an origin is told.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// The peer's address: the client, or the trusted proxy it came through. `None`: a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether the peer's own `Forwarded` and `X-Forwarded-*` are passed on, with a hop added.
    pub trusted: bool,
    /// Whether the client used `https`.
    pub https: bool,
    /// The version that the request came in.
    pub version: Version,
}

/// The value of a field that an origin sees.
#[derive(Debug, Clone, Copy)]
enum Value<'v> {
    /// As the client presented it, or as a route sets it.
    Given(&'v HeaderValue),
    /// Made here.
    Made(&'v [u8]),
}

impl OriginFields {
    /// What is sent of these fields; the cookies as far as they are forwarded.
    pub fn new(presented: Arc<PresentedFields>, sender: Sender) -> Self {
        Self { presented, sender, removed: Vec::new(), set: Vec::new() }
    }

    /// Applies what a route says; removing comes first. Fields of one connection and `Host` are not a route's to set.
    pub fn edit(&mut self, edits: &HeaderEdits) {
        for name in &edits.remove {
            self.remove(name);
        }
        for (name, value) in &edits.set {
            if !gate::is_hop_by_hop(name) {
                self.replace(name.clone(), value.clone());
            }
        }
    }

    /// Sets one field: a condition of a validation, a cookie that a route declares.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        debug_assert!(!gate::is_hop_by_hop(&name), "only end-to-end fields are set by the proxy's own steps");
        self.replace(name, value);
    }

    fn replace(&mut self, name: HeaderName, value: HeaderValue) {
        self.set.retain(|(set, _)| *set != name);
        self.set.push((name, value));
    }

    /// Removes a field.
    pub fn remove(&mut self, name: &HeaderName) {
        self.set.retain(|(set, _)| set != name);
        if !self.removed.contains(name) {
            self.removed.push(name.clone());
        }
    }

    /// What the answer to these fields, with a request of this method, must fit.
    pub(super) fn asked(&self, method: &Method) -> gate::Asked {
        let presented = self.presented.headers.keys().filter(|name| gate::Asked::depends_on(name));
        let set = self.set.iter().map(|(name, _)| name);
        gate::Asked::of(method, presented.filter(|name| self.passes(name)).chain(set))
    }

    /// Whether the request has been through here too often. RFC 9110 §7.6.3: `Via` serves "for ... avoiding request loops".
    pub(super) fn is_loop(&self) -> bool {
        // This time counts too.
        times_passed(&self.presented.headers) >= LOOPS_MAX
    }

    /// Writes the field lines, but for those that say how long the content is, and `Host`.
    pub(super) fn write(&self, authority: &Authority, out: &mut Vec<u8>) {
        let mut line = |name: &HeaderName, value: Value<'_>| {
            if !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
                head::write_field(out, name.as_str(), value.as_bytes());
            }
        };
        self.each_presented(&mut line);
        if self.sender.trusted || !self.removed.is_empty() || !self.set.is_empty() {
            self.each_own(authority, &mut line);
        } else {
            write_own(&self.sender, authority, out);
        }
    }

    /// The same fields as a map.
    pub fn to_map(&self, authority: &Authority) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.presented.headers.len() + self.set.len() + ADDED);
        let mut line = |name: &HeaderName, value: Value<'_>| {
            let value = match value {
                Value::Given(value) => Some(value.clone()),
                Value::Made(bytes) => HeaderValue::from_bytes(bytes).ok(),
            };
            if let Some(value) = value {
                map.append(name, value);
            }
        };
        self.each_presented(&mut line);
        self.each_own(authority, &mut line);
        map
    }

    /// Each field line of the client, in its order.
    fn each_presented(&self, line: &mut impl FnMut(&HeaderName, Value<'_>)) {
        for (name, value) in &self.presented.headers {
            if self.passes(name) {
                line(name, Value::Given(value));
            }
        }
        if let ForwardedCookie::Only(cookies) = &self.presented.cookie
            && self.is_own(&header::COOKIE)
        {
            line(&header::COOKIE, Value::Given(cookies));
        }
    }

    /// Each line that this proxy adds, then each that was set. [`write_own`] does the same where nobody else has a say.
    fn each_own(&self, authority: &Authority, line: &mut impl FnMut(&HeaderName, Value<'_>)) {
        let Sender { peer, https, version, .. } = self.sender;
        let node = Node::of(peer);
        if peer.is_some() {
            self.list(&X_FORWARDED_FOR, node.as_bytes(), line);
        }
        for (name, value) in [
            (X_FORWARDED_PROTO, if https { &b"https"[..] } else { b"http" }),
            (X_FORWARDED_HOST, authority.as_bytes()),
        ] {
            if self.is_own(&name) && !self.keeps(&name) {
                line(&name, Value::Made(value));
            }
        }
        let mut element = Vec::with_capacity(64 + authority.as_bytes().len());
        write_forwarded(&self.sender, authority, &node, &mut element);
        self.list(&header::FORWARDED, &element, line);
        if self.is_own(&header::VIA) {
            line(&header::VIA, Value::Given(&gate::via(version)));
        }
        for (name, value) in &self.set {
            line(name, Value::Given(value));
        }
    }

    /// Adds an entry at the right end of a list that a trusted peer began, keeping it one line.
    fn list(&self, name: &HeaderName, entry: &[u8], line: &mut impl FnMut(&HeaderName, Value<'_>)) {
        if !self.is_own(name) {
            return;
        }
        if self.keeps(name) {
            let lines = self.presented.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            let list: Vec<&[u8]> = lines.chain([entry]).collect();
            line(name, Value::Made(&list.join(&b", "[..])));
        } else {
            line(name, Value::Made(entry));
        }
    }

    /// Whether what the client presented under this name goes on as it came.
    fn passes(&self, name: &HeaderName) -> bool {
        match *name {
            header::COOKIE if self.presented.cookie != ForwardedCookie::AsPresented => false,
            header::FORWARDED => false,
            // Only this proxy speaks of sessions.
            _ if session::is_field(name) && !self.set.iter().any(|(set, _)| set == name) => false,
            _ if self.sender.trusted => {
                (*name != X_FORWARDED_FOR || self.sender.peer.is_none()) && self.is_own(name)
            }
            _ => !is_routing(name) && self.is_own(name),
        }
    }

    /// Whether what a trusted peer said under this name is kept.
    fn keeps(&self, name: &HeaderName) -> bool {
        self.sender.trusted && self.presented.headers.contains_key(name)
    }

    /// Whether a name is neither removed nor set.
    fn is_own(&self, name: &HeaderName) -> bool {
        !self.removed.contains(name) && !self.set.iter().any(|(set, _)| set == name)
    }
}

impl Value<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Given(value) => value.as_bytes(),
            Self::Made(bytes) => bytes,
        }
    }
}

/// How many fields this proxy adds at most.
const ADDED: usize = 6;

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

/// Whether a name is one that an untrusted client may not say.
fn is_routing(name: &HeaderName) -> bool {
    let text = name.as_str();
    // Most names begin with another letter than any of these.
    matches!(text.as_bytes(), [b'c' | b'f' | b'p' | b't' | b'x', ..])
        && (ROUTING.binary_search(&text).is_ok()
            || text.starts_with("x-forwarded-")
            || text.starts_with("x-original-"))
}

/// Writes what this proxy says of a client that it does not trust, and of itself, where no route has anything to say to that. Nearly every
/// request has these lines, so that they are written in as few pieces as can be.
fn write_own(sender: &Sender, authority: &Authority, out: &mut Vec<u8>) {
    let node = Node::of(sender.peer);
    if sender.peer.is_some() {
        out.extend_from_slice(b"x-forwarded-for: ");
        out.extend_from_slice(node.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if sender.https {
        b"x-forwarded-proto: https\r\nx-forwarded-host: "
    } else {
        b"x-forwarded-proto: http\r\nx-forwarded-host: "
    });
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(b"\r\nforwarded: ");
    write_forwarded(sender, authority, &node, out);
    out.extend_from_slice(b"\r\nvia: ");
    out.extend_from_slice(gate::via(sender.version).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes one element of `Forwarded` (RFC 7239 §4).
fn write_forwarded(sender: &Sender, authority: &Authority, node: &Node, out: &mut Vec<u8>) {
    match sender.peer {
        Some(IpAddr::V4(_)) => {
            out.extend_from_slice(b"for=");
            out.extend_from_slice(node.as_bytes());
        }
        // RFC 7239 §4: "Note that an IPv6 address is always enclosed in square brackets", and therefore quoted.
        Some(IpAddr::V6(_)) => {
            out.extend_from_slice(b"for=\"[");
            out.extend_from_slice(node.as_bytes());
            out.extend_from_slice(b"]\"");
        }
        None => out.extend_from_slice(b"for=unknown"),
    }
    let host = authority.as_bytes();
    if host.iter().any(|byte| matches!(byte, b':' | b'[')) {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    } else {
        out.extend_from_slice(b";host=");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(if sender.https { b";proto=https" } else { b";proto=http" });
}

/// The longest text of an address: an IPv6 address that holds one of IPv4.
const ADDRESS_BYTES_MAX: usize = 46;

/// An address as text; empty where there is none.
struct Node {
    bytes: [u8; ADDRESS_BYTES_MAX],
    len: usize,
}

impl Node {
    /// Addresses of four numbers are written here: nearly each request has one, and formatting costs ten times as much.
    fn of(peer: Option<IpAddr>) -> Self {
        let mut node = Self { bytes: [0; ADDRESS_BYTES_MAX], len: 0 };
        match peer {
            Some(IpAddr::V4(address)) => {
                for (place, number) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        node.push(b'.');
                    }
                    if number >= 100 {
                        node.push(b'0' + number / 100);
                    }
                    if number >= 10 {
                        node.push(b'0' + number / 10 % 10);
                    }
                    node.push(b'0' + number % 10);
                }
            }
            Some(IpAddr::V6(address)) => {
                write!(node, "{address}").expect("an address has at most 46 characters");
            }
            None => {}
        }
        node
    }

    /// Adds a byte, if there is room.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Node {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// How often these fields say that a proxy of this kind was passed.
fn times_passed(fields: &HeaderMap) -> usize {
    fields
        .get_all(header::VIA)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter(|hop| hop.trim_ascii().rsplit(|&byte| byte == b' ').next() == Some(PSEUDONYM.as_bytes()))
        .count()
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
            https: false,
            version: Version::HTTP_11,
        };
        OriginFields::new(PresentedFields::whole(fields), sender).to_map(&authority)
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
        let sender = Sender { peer: None, trusted: false, https: false, version: Version::HTTP_11 };
        let is_loop =
            |fields: &HeaderMap| OriginFields::new(PresentedFields::whole(fields.clone()), sender).is_loop();
        let mut fields = HeaderMap::new();
        for _ in 0..LOOPS_MAX {
            assert!(!is_loop(&fields));
            fields.append(header::VIA, HeaderValue::from_static("1.1 weir"));
        }
        assert!(is_loop(&fields));
        fields.insert(header::VIA, HeaderValue::from_static("1.1 a, 1.1 not-weir, 2 weir, 1.1 b"));
        assert!(!is_loop(&fields));
    }

    #[test]
    fn what_a_route_sets_and_removes_counts_more_than_what_anybody_says() {
        let presented = [("x-a", "client's"), ("x-b", "client's"), ("x-a", "twice"), ("via", "1.1 other")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let sender = Sender { peer: None, trusted: false, https: true, version: Version::HTTP_11 };
        let authority = Authority::from_field(&HeaderValue::from_static("shop.example"), false).unwrap();
        let mut fields = OriginFields::new(PresentedFields::whole(presented.into_iter().collect()), sender);
        let plain = fields.to_map(&authority);
        assert_eq!(plain.get_all("x-a").iter().count(), 2);
        assert_eq!(plain.get_all("via").iter().collect::<Vec<_>>(), ["1.1 other", "1.1 weir"]);
        assert_eq!(plain["x-forwarded-proto"], "https");
        fields.edit(&HeaderEdits {
            remove: vec![HeaderName::from_static("x-b"), X_FORWARDED_PROTO, header::VIA],
            set: vec![
                (HeaderName::from_static("x-a"), HeaderValue::from_static("route's")),
                (X_FORWARDED_HOST, HeaderValue::from_static("inner.example")),
                (header::CONNECTION, HeaderValue::from_static("close")),
            ],
        });
        let edited = fields.to_map(&authority);
        assert_eq!(edited.get_all("x-a").iter().collect::<Vec<_>>(), ["route's"]);
        assert_eq!(edited.get_all("x-forwarded-host").iter().collect::<Vec<_>>(), ["inner.example"]);
        for name in ["x-b", "x-forwarded-proto", "via", "connection"] {
            assert!(!edited.contains_key(name), "{name}");
        }
        let mut written = Vec::new();
        fields.write(&authority, &mut written);
        let lines: String =
            edited.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
        assert_eq!(sorted(&String::from_utf8(written).unwrap()), sorted(&lines));
        fields.remove(&HeaderName::from_static("x-a"));
        assert!(!fields.to_map(&authority).contains_key("x-a"));
    }

    fn sorted(text: &str) -> Vec<&str> {
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines
    }

    proptest::proptest! {
        /// What is written straight onto the wire where nobody else has a say is what a map would hold.
        #[test]
        fn lines_that_are_written_and_those_of_the_map_are_the_same(
            peer: Option<std::net::IpAddr>, https: bool, trusted: bool, version in 0_usize..3, edited: bool,
            host in "([a-z]{1,20}(\\.[a-z]{1,10}){0,3}|\\[2001:db8::[1-9]\\])(:[1-9][0-9]{0,3})?",
            presented in proptest::collection::vec((0_usize..5, "[a-z]{1,8}"), 0..4),
        ) {
            let authority = Authority::from_field(&HeaderValue::from_str(&host).unwrap(), https).unwrap();
            let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][version];
            let names = ["accept", "x-forwarded-for", "forwarded", "via", "x-real-ip"];
            let presented: HeaderMap = presented
                .iter()
                .map(|(name, value)| {
                    (HeaderName::from_static(names[*name]), HeaderValue::from_str(value).unwrap())
                })
                .collect();
            let sender = Sender { peer, trusted, https, version };
            let mut fields = OriginFields::new(PresentedFields::whole(presented), sender);
            if edited {
                fields.remove(&header::VIA);
            }
            let mut written = Vec::new();
            fields.write(&authority, &mut written);
            let written = String::from_utf8(written).unwrap();
            let map = fields.to_map(&authority);
            let lines: String =
                map.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
            proptest::prop_assert_eq!(sorted(&written), sorted(&lines));
        }

        /// What is made for an origin can be read by the next proxy, and says the same of the client.
        #[test]
        fn the_next_proxy_understands_what_is_made(peer: std::net::IpAddr, host in "[a-z]{1,20}(\\.[a-z]{1,10}){0,3}(:[1-9][0-9]{0,3})?") {
            let authority = Authority::from_field(&HeaderValue::from_str(&host).unwrap(), false).unwrap();
            let sender = Sender { peer: Some(peer), trusted: false, https: false, version: Version::HTTP_2 };
            let fields = OriginFields::new(PresentedFields::whole(HeaderMap::new()), sender).to_map(&authority);
            let hops = crate::identity::parse_forwarded(&fields).unwrap();
            proptest::prop_assert_eq!(hops[0].client, Some(peer));
            proptest::prop_assert_eq!(hops[0].host.as_deref(), Some(authority.as_str()));
            proptest::prop_assert_eq!(fields["x-forwarded-for"].to_str().unwrap(), peer.to_string());
        }
    }
}
