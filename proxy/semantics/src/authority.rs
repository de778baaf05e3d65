//! Host and port (RFC 3986 §3.2), read strictly and written in one way: what names a site in a key, in a purge and in `Host`.

use std::borrow::Cow;

/// An authority as it stands in keys: lower case, without the default port of its scheme (RFC 9110 §4.2.3). Borrows where it is so already.
/// `None`: it is not the authority of any request.
#[must_use]
pub fn normal_authority<'a>(scheme: &str, authority: &'a str) -> Option<Cow<'a, str>> {
    let shape = AuthorityShape::of(authority.as_bytes(), scheme == "https")?;
    if shape.normal {
        return Some(authority.into());
    }
    String::from_utf8(shape.normalised(authority.as_bytes())).ok().map(Cow::Owned)
}

/// What a scan over an authority found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityShape {
    /// Bytes of the host, at the beginning; those of an IPv6 literal with its brackets.
    pub host_len: usize,
    /// The port, where it is not the default one.
    pub port: Option<u16>,
    /// It is already written as it would be normalised.
    pub normal: bool,
}

impl AuthorityShape {
    /// Takes `host`, `host:port`, `[v6]` and `[v6]:port`; no user info, no percent-encoding, no empty host. `https`: the default port is 443, not 80.
    #[must_use]
    #[inline]
    pub fn of(bytes: &[u8], https: bool) -> Option<Self> {
        // A DNS name has at most 253 bytes; a port and its colon take six more.
        if bytes.is_empty() || bytes.len() > 262 {
            return None;
        }
        let mut lower = true;
        let host_len = if bytes[0] == b'[' {
            let end = bytes.iter().position(|&byte| byte == b']')?;
            let literal = std::str::from_utf8(&bytes[1..end]).ok()?;
            literal.parse::<std::net::Ipv6Addr>().ok()?;
            lower = !literal.bytes().any(|byte| byte.is_ascii_uppercase());
            end + 1
        } else {
            let mut end = 0;
            for &byte in bytes {
                match byte {
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {}
                    b'A'..=b'Z' => lower = false,
                    _ => break,
                }
                end += 1;
            }
            end
        };
        if host_len == 0 || host_len > 255 {
            return None;
        }
        let port = match bytes[host_len..].split_first() {
            None => return Some(Self { host_len, port: None, normal: lower }),
            Some((b':', digits)) => digits,
            Some(_) => return None,
        };
        // RFC 3986 §3.2.3: the port may be empty, and then means the default one.
        if port.is_empty() {
            return Some(Self { host_len, port: None, normal: false });
        }
        let number = parse_port(port)?;
        let default = if https { 443 } else { 80 };
        let port_kept = (number != default).then_some(number);
        let normal = lower && port_kept.is_some() && port[0] != b'0';
        Some(Self { host_len, port: port_kept, normal })
    }

    /// The authority that was scanned, normalised.
    #[must_use]
    pub fn normalised(&self, bytes: &[u8]) -> Vec<u8> {
        let mut text = bytes[..self.host_len].to_ascii_lowercase();
        if let Some(port) = self.port {
            text.extend_from_slice(format!(":{port}").as_bytes());
        }
        text
    }
}

/// One to five digits, 1 to 65535.
fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 {
        return None;
    }
    let number = digits
        .iter()
        .try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))?;
    u16::try_from(number).ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_site_has_one_name() {
        #[rustfmt::skip]
        let cases = [
            ("http",  "Example.com",      Some("example.com")),
            ("http",  "example.com:",     Some("example.com")),
            ("http",  "example.com:80",   Some("example.com")),
            ("http",  "example.com:0080", Some("example.com")),
            ("http",  "example.com:443",  Some("example.com:443")),
            ("https", "example.com:443",  Some("example.com")),
            ("https", "example.com:80",   Some("example.com:80")),
            ("http",  "[::1]",            Some("[::1]")),
            ("https", "EXAMPLE.com:8443", Some("example.com:8443")),
            ("http",  "[2001:DB8::1]:80", Some("[2001:db8::1]")),
            ("http",  "",                 None),
            ("http",  ":",                None),
            ("http",  ":80",              None),
            ("http",  "a::",              None),
            ("http",  "a:80:80",          None),
            ("http",  "a:65536",          None),
            ("http",  "a:0",              None),
            ("http",  "u@a",              None),
            ("http",  "a%62",             None),
            ("http",  "[::1",             None),
            ("http",  "$a",               None),
        ];
        for (scheme, authority, expected) in cases {
            assert_eq!(normal_authority(scheme, authority).as_deref(), expected, "{scheme} {authority}");
        }
    }

    proptest! {
        #[test]
        fn what_is_normal_stays_so(authority in "[a-zA-Z0-9.:\\[\\]~$-]{0,12}", scheme in "https?") {
            if let Some(normal) = normal_authority(&scheme, &authority) {
                let again = normal_authority(&scheme, &normal).map(Cow::into_owned);
                prop_assert_eq!(again.as_deref(), Some(&*normal));
            }
        }
    }
}
