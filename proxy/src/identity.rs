//! Who the client is: the peer, or whom a chain of trusted proxies says it speaks for.
//!
//! Nothing is believed that no trusted proxy wrote. `X-Forwarded-For` (or `Forwarded`, where there is none) is read from right to left:
//! each trusted hop vouches for the entry that it appended, and the first one that is not trusted is the client. An entry that cannot
//! be read ends the walk, because whoever wrote what is left of it is not known. Everything here is computed when it is asked for: a hit
//! on a connection without trusted proxies reads no field at all.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use ipnet::IpNet;

use crate::gate::Authority;
use crate::server::connection::Connection;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How many entries of a chain are read; a longer chain of trusted hops ends there.
const HOPS_MAX: usize = 32;

/// What the `Connection` and the fields of a request say about its sender.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    connection: &'a Connection,
    headers: &'a HeaderMap,
    trusted: &'a [IpNet],
}

/// Asks who sent a request.
pub fn of<'a>(connection: &'a Connection, headers: &'a HeaderMap, trusted: &'a [IpNet]) -> Identity<'a> {
    Identity { connection, headers, trusted }
}

/// Whether an address is one of these networks; an IPv4 address in IPv6 clothes is the IPv4 address.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

impl Identity<'_> {
    /// Whether the peer's word is taken. A peer on a Unix socket counts as loopback.
    pub fn peer_is_trusted(&self) -> bool {
        if self.trusted.is_empty() {
            return false;
        }
        let peer = self.connection.peer.map_or(IpAddr::V6(Ipv6Addr::LOCALHOST), |peer| peer.ip());
        contains(self.trusted, peer)
            || (self.connection.peer.is_none() && contains(self.trusted, IpAddr::from([127, 0, 0, 1])))
    }

    /// The client's address; `None` only on a Unix socket without a trusted word about it.
    pub fn address(&self) -> Option<IpAddr> {
        let peer = self.connection.peer.map(|peer| peer.ip().to_canonical());
        if !self.peer_is_trusted() {
            return peer;
        }
        client_of_chain(peer, self.headers, self.trusted)
    }

    /// The scheme that the client used.
    pub fn scheme(&self) -> Scheme {
        if self.peer_is_trusted()
            && let Some(scheme) = forwarded_scheme(self.headers)
        {
            return scheme;
        }
        self.connection.scheme()
    }

    /// The host that the client asked for, where a trusted proxy names another than `Host`.
    pub fn host(&self) -> Option<Authority> {
        if !self.peer_is_trusted() {
            return None;
        }
        let tls = self.scheme() == Scheme::HTTPS;
        if let Some(value) = single(self.headers, &X_FORWARDED_HOST) {
            return Authority::from_field(value, tls);
        }
        let last = last_forwarded(self.headers)?;
        Authority::from_field(&HeaderValue::from_str(last.host.as_deref()?).ok()?, tls)
    }
}

/// The walk from right to left. `peer` is trusted already.
fn client_of_chain(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let walk = |entries: &mut dyn Iterator<Item = Option<IpAddr>>| {
        let mut client = peer;
        for entry in entries.take(HOPS_MAX) {
            let Some(address) = entry else { break };
            client = Some(address.to_canonical());
            if !contains(trusted, address) {
                break;
            }
        }
        client
    };
    if headers.contains_key(X_FORWARDED_FOR) {
        let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        return walk(
            &mut lines
                .into_iter()
                .rev()
                .flat_map(|line| line.rsplit(|&byte| byte == b','))
                .map(parse_x_forwarded),
        );
    }
    match parse_forwarded(headers) {
        Some(hops) => walk(&mut hops.into_iter().rev().map(|hop| hop.client)),
        None => peer,
    }
}

/// `X-Forwarded-Proto`, or else what the last hop of `Forwarded` says. A list has been through several hands: its last entry is the
/// trusted one's.
fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let named = |text: &[u8]| {
        let text = text.trim_ascii();
        if text.eq_ignore_ascii_case(b"https") {
            Some(Scheme::HTTPS)
        } else if text.eq_ignore_ascii_case(b"http") {
            Some(Scheme::HTTP)
        } else {
            None
        }
    };
    if let Some(last) = headers.get_all(X_FORWARDED_PROTO).iter().next_back() {
        return last.as_bytes().rsplit(|&byte| byte == b',').next().and_then(named);
    }
    last_forwarded(headers)?.proto.as_deref().and_then(|proto| named(proto.as_bytes()))
}

/// The value of a field with exactly one line.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// An address, an address with a port, or an IPv6 literal in brackets with or without one.
fn parse_x_forwarded(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry.trim_ascii()).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    parse_node(text)
}

/// RFC 7239 §6: an IPv4 address or a bracketed IPv6 address, with an optional port. `unknown` and `_hidden` are nobody.
fn parse_node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (literal, after) = rest.split_once(']')?;
        let address = literal.parse::<Ipv6Addr>().ok()?;
        return (after.is_empty() || after.strip_prefix(':').is_some_and(is_port))
            .then_some(IpAddr::V6(address));
    }
    let (address, port) = text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port)));
    let address = address.parse::<std::net::Ipv4Addr>().ok()?;
    port.is_none_or(is_port).then_some(IpAddr::V4(address))
}

/// RFC 7239 §6.3: digits, or an obfuscated port.
fn is_port(text: &str) -> bool {
    let numeric = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let hidden = text.len() > 1
        && text.starts_with('_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    numeric || hidden
}

/// One element of `Forwarded`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Whom it came from; `None` where it says `unknown`, hides it, or does not say.
    pub client: Option<IpAddr>,
    /// The scheme.
    pub proto: Option<String>,
    /// The host.
    pub host: Option<String>,
}

fn last_forwarded(headers: &HeaderMap) -> Option<Hop> {
    parse_forwarded(headers)?.pop()
}

/// Reads every line of `Forwarded` (RFC 7239 §4), strictly: one mistake anywhere, and none of it is believed.
pub fn parse_forwarded(headers: &HeaderMap) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        parse_forwarded_line(line.as_bytes(), &mut hops)?;
    }
    (!hops.is_empty()).then_some(hops)
}

fn parse_forwarded_line(line: &[u8], hops: &mut Vec<Hop>) -> Option<()> {
    let mut rest = line.trim_ascii();
    loop {
        let mut hop = Hop::default();
        let (mut seen_for, mut seen_by) = (false, false);
        loop {
            let (name, after) = take_token(rest)?;
            let (value, after) = take_value(after.strip_prefix(b"=")?)?;
            match &name.to_ascii_lowercase()[..] {
                // RFC 7239 §4: "Each parameter MUST NOT occur more than once per field-value."
                b"for" if !std::mem::replace(&mut seen_for, true) => hop.client = parse_node(&value),
                b"proto" if hop.proto.is_none() => hop.proto = Some(value),
                b"host" if hop.host.is_none() => hop.host = Some(value),
                b"by" if !std::mem::replace(&mut seen_by, true) => {}
                b"for" | b"proto" | b"host" | b"by" => return None,
                _ => {}
            }
            rest = after.trim_ascii_start();
            match rest.split_first() {
                Some((b';', after)) => rest = after.trim_ascii_start(),
                _ => break,
            }
        }
        if hops.len() == HOPS_MAX {
            return None;
        }
        hops.push(hop);
        match rest.split_first() {
            None => return Some(()),
            Some((b',', after)) => rest = after.trim_ascii_start(),
            Some(_) => return None,
        }
    }
}

fn take_token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string.
fn take_value(text: &[u8]) -> Option<(String, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let (token, rest) = take_token(text)?;
        return Some((String::from_utf8(token.to_vec()).ok()?, rest));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((String::from_utf8(value).ok()?, &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            b'\t' | b' '..=b'~' => value.push(byte),
            _ => return None,
        }
    }
    None
}

/// RFC 9110 §5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn connection(peer: &str) -> Connection {
        Connection::cleartext(peer.parse().ok(), None, Arc::default())
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    #[test]
    fn the_client_is_the_first_untrusted_entry_from_the_right() {
        #[rustfmt::skip]
        let cases = [
            // what                                  peer               fields                                                    client
            ("nobody is believed unasked",           "203.0.113.9:1",   vec![("x-forwarded-for", "192.0.2.1")],                   "203.0.113.9"),
            ("a trusted peer vouches for one entry", "10.0.0.1:1",      vec![("x-forwarded-for", "192.0.2.1")],                   "192.0.2.1"),
            ("what a client wrote is left of it",    "10.0.0.1:1",      vec![("x-forwarded-for", "1.1.1.1, 192.0.2.1")],          "192.0.2.1"),
            ("a chain of trusted hops",              "10.0.0.1:1",      vec![("x-forwarded-for", "192.0.2.1, 10.0.0.3, 10.0.0.2")], "192.0.2.1"),
            ("several lines are one list",           "10.0.0.1:1",      vec![("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.2")], "192.0.2.1"),
            ("all trusted: the leftmost",            "10.0.0.1:1",      vec![("x-forwarded-for", "10.0.0.3, 10.0.0.2")],          "10.0.0.3"),
            ("nonsense ends the walk",               "10.0.0.1:1",      vec![("x-forwarded-for", "192.0.2.1, nonsense, 10.0.0.2")], "10.0.0.2"),
            ("an empty entry ends the walk",         "10.0.0.1:1",      vec![("x-forwarded-for", "192.0.2.1,")],                  "10.0.0.1"),
            ("a port is dropped",                    "10.0.0.1:1",      vec![("x-forwarded-for", "192.0.2.1:4711")],              "192.0.2.1"),
            ("IPv6 without brackets",                "10.0.0.1:1",      vec![("x-forwarded-for", "2001:db8::1")],                 "2001:db8::1"),
            ("IPv6 with brackets and port",          "10.0.0.1:1",      vec![("x-forwarded-for", "[2001:db8::1]:80")],            "2001:db8::1"),
            ("IPv4 in IPv6 clothes is trusted",      "[::ffff:10.0.0.1]:1", vec![("x-forwarded-for", "192.0.2.1")],               "192.0.2.1"),
            ("Forwarded",                            "10.0.0.1:1",      vec![("forwarded", "for=192.0.2.1;proto=https")],         "192.0.2.1"),
            ("Forwarded, quoted IPv6",               "10.0.0.1:1",      vec![("forwarded", "For=\"[2001:db8::1]:4711\"")],        "2001:db8::1"),
            ("Forwarded, unknown",                   "10.0.0.1:1",      vec![("forwarded", "for=192.0.2.1, for=unknown")],        "10.0.0.1"),
            ("Forwarded, hidden",                    "10.0.0.1:1",      vec![("forwarded", "for=_secret")],                       "10.0.0.1"),
            ("Forwarded twice the same parameter",   "10.0.0.1:1",      vec![("forwarded", "for=192.0.2.1;for=192.0.2.2")],       "10.0.0.1"),
            ("Forwarded with a broken quote",        "10.0.0.1:1",      vec![("forwarded", "for=192.0.2.1;host=\"x, for=1.2.3.4")], "10.0.0.1"),
            ("X-Forwarded-For goes first",           "10.0.0.1:1",      vec![("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
        ];
        for (what, peer, lines, client) in cases {
            let (connection, headers, trusted) = (connection(peer), headers(&lines), trusted());
            assert_eq!(of(&connection, &headers, &trusted).address(), client.parse().ok(), "{what}");
        }
    }

    #[test]
    fn scheme_and_host_come_from_a_trusted_proxy_only() {
        #[rustfmt::skip]
        let cases = [
            // what                        peer            fields                                                                          scheme   host
            ("untrusted",                  "192.0.2.1:1",  vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")],     "http",  None),
            ("trusted",                    "10.0.0.1:1",   vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "Shop.example:443")], "https", Some("shop.example")),
            ("the last of a list",         "10.0.0.1:1",   vec![("x-forwarded-proto", "https, http")],                                     "http",  None),
            ("not a scheme of ours",       "10.0.0.1:1",   vec![("x-forwarded-proto", "ftp")],                                             "http",  None),
            ("Forwarded",                  "10.0.0.1:1",   vec![("forwarded", "for=192.0.2.1;proto=https;host=\"shop.example:8443\"")],    "https", Some("shop.example:8443")),
            ("two hosts are none",         "10.0.0.1:1",   vec![("x-forwarded-host", "a.example"), ("x-forwarded-host", "b.example")],     "http",  None),
            ("not a host",                 "10.0.0.1:1",   vec![("x-forwarded-host", "a.example/b")],                                      "http",  None),
        ];
        for (what, peer, lines, scheme, host) in cases {
            let (connection, headers, trusted) = (connection(peer), headers(&lines), trusted());
            let identity = of(&connection, &headers, &trusted);
            assert_eq!(identity.scheme().as_str(), scheme, "{what}");
            assert_eq!(identity.host().map(|host| host.to_string()), host.map(str::to_owned), "{what}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_field_makes_an_untrusted_peer_somebody_else(value in "[ -~]{0,80}") {
            let (connection, trusted) = (connection("192.0.2.1:1"), trusted());
            let headers = headers(&[("x-forwarded-for", &value), ("forwarded", &value)]);
            proptest::prop_assert_eq!(of(&connection, &headers, &trusted).address(), "192.0.2.1".parse().ok());
        }

        #[test]
        fn a_client_cannot_hide_behind_what_it_writes(value in "[ -~]{0,80}") {
            let (connection, trusted) = (connection("10.0.0.1:1"), trusted());
            let headers = headers(&[("x-forwarded-for", &value), ("x-forwarded-for", "192.0.2.7")]);
            proptest::prop_assert_eq!(of(&connection, &headers, &trusted).address(), "192.0.2.7".parse().ok());
        }
    }
}
