//! Who shares a quota.

use std::net::IpAddr;

use cache_semantics::cookies;
use http::header::{HeaderMap, HeaderValue};

use super::spec::KeyPart;
use crate::identity::Identity;

/// What is known of a request that asks to pass.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Who it comes from.
    pub identity: Identity<'a>,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// The name of its route.
    pub route: &'a str,
    /// Its session's handle, if it has one that is valid.
    pub session: Option<&'a [u8]>,
    /// Whom the session belongs to.
    pub user: Option<&'a str>,
    /// What its plugins say that it costs; `None`: nobody has been asked.
    pub charges: Option<&'a [Charge]>,
}

/// What a plugin says that a request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The limit that is charged.
    pub bucket: Box<str>,
    /// Who pays; `None`: the client's address.
    pub key: Option<Box<str>>,
    /// How much; `None`: what the limit says.
    pub cost: Option<u64>,
}

impl Asking<'_> {
    /// Writes the key. Parts carry a mark of their kind and their length, so that no two that differ read alike. What is not there is stood in for by the
    /// address: leaving a field out must not be a way past the limit.
    pub(super) fn write_key(&self, parts: &[KeyPart], plugin: Option<&str>, out: &mut Vec<u8>) {
        for part in parts {
            let (kind, value) = match part {
                KeyPart::ClientIp => (b'4', None),
                KeyPart::Session => (b's', self.session),
                KeyPart::User => (b'u', self.user.map(str::as_bytes)),
                KeyPart::Header(name) => {
                    let mut lines = self.headers.get_all(name).iter();
                    let first = lines.next().map(HeaderValue::as_bytes);
                    lines.for_each(|line| push(out, b'h', line.as_bytes()));
                    (b'h', first)
                }
                KeyPart::Cookie(name) => (b'c', self.cookie(name)),
                KeyPart::Route => (b'r', Some(self.route.as_bytes())),
                KeyPart::Plugin => (b'p', plugin.map(str::as_bytes)),
            };
            match value {
                Some(value) => push(out, kind, value),
                None => self.push_address(out),
            }
        }
    }

    /// IPv4 whole; of IPv6 the first 64 bits, because whoever has one address there has all that begin like it.
    fn push_address(&self, out: &mut Vec<u8>) {
        match self.identity.address() {
            Some(IpAddr::V4(address)) => push(out, b'4', &address.octets()),
            Some(IpAddr::V6(address)) => push(out, b'6', &address.octets()[..8]),
            None => push(out, b'0', b""),
        }
    }

    fn cookie<'s>(&'s self, name: &'s str) -> Option<&'s [u8]> {
        cookies::values(self.headers, name).next()
    }
}

fn push(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    // A field is never longer than a head, which has a limit far below this.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderName;

    use super::*;
    use crate::identity;
    use crate::server::connection::Connection;

    /// An address, and fields.
    type From<'a> = (&'a str, &'a [(&'static str, &'static str)]);

    fn key((peer, fields): From<'_>, parts: &[KeyPart]) -> Vec<u8> {
        let connection = Connection::cleartext(peer.parse().ok(), None, Arc::default());
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = fields.iter().map(line).collect();
        let identity = identity::of(&connection, &headers, &[]);
        let asking =
            Asking { identity, headers: &headers, route: "r", session: None, user: None, charges: None };
        let mut out = Vec::new();
        asking.write_key(parts, None, &mut out);
        out
    }

    #[test]
    fn who_shares_a_key() {
        use KeyPart::{ClientIp, Cookie, Header, Route};
        let api_key = || Header(HeaderName::from_static("x-api-key"));
        let sid = || Cookie("sid".into());
        #[rustfmt::skip]
        let cases: [(&str, From<'_>, From<'_>, Vec<KeyPart>, bool); 10] = [
            ("another address", ("192.0.2.1:1", &[]), ("192.0.2.2:1", &[]), vec![ClientIp], false),
            ("another port", ("192.0.2.1:1", &[]), ("192.0.2.1:2", &[]), vec![ClientIp], true),
            ("the same /64", ("[2001:db8::1]:1", &[]), ("[2001:db8::ffff:2]:1", &[]), vec![ClientIp], true),
            ("another /64", ("[2001:db8::1]:1", &[]), ("[2001:db8:0:1::1]:1", &[]), vec![ClientIp], false),
            ("IPv4 in IPv6 clothes", ("[::ffff:192.0.2.1]:1", &[]), ("192.0.2.1:1", &[]), vec![ClientIp], true),
            ("the same key from elsewhere", ("192.0.2.1:1", &[("x-api-key", "a")]), ("192.0.2.2:1", &[("x-api-key", "a")]), vec![api_key()], true),
            ("no key: the address", ("192.0.2.1:1", &[]), ("192.0.2.2:1", &[]), vec![api_key()], false),
            ("a cookie among others", ("192.0.2.1:1", &[("cookie", "a=1; sid=7")]), ("192.0.2.2:1", &[("cookie", "sid=7; b=1")]), vec![sid()], true),
            ("a cookie that only ends so", ("192.0.2.1:1", &[("cookie", "xsid=7")]), ("192.0.2.2:1", &[("cookie", "xsid=7")]), vec![sid()], false),
            ("all parts count", ("192.0.2.1:1", &[]), ("192.0.2.2:1", &[]), vec![Route, ClientIp], false),
        ];
        for (what, one, other, parts, same) in cases {
            assert_eq!(key(one, &parts) == key(other, &parts), same, "{what}");
        }
    }
}
