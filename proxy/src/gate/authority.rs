//! Host and port of a request, read strictly.

use std::fmt;

use http::header::HeaderValue;

/// Host and port of a request, checked: a name, an IPv4 address or an IPv6 literal, in lower case, and a port if it is not the default.
#[derive(Clone)]
pub struct Authority {
    text: AuthorityText,
    host_len: usize,
    port: Option<u16>,
}

/// Where the text of an authority lives; both are cheap to clone.
#[derive(Clone)]
enum AuthorityText {
    Field(HeaderValue),
    Target(http::uri::Authority),
}

impl Authority {
    /// Checks and normalises the value of a `Host` field.
    pub fn from_field(value: &HeaderValue, tls: bool) -> Option<Self> {
        let shape = AuthorityShape::of(value.as_bytes(), tls)?;
        let text = if shape.normal {
            value.clone()
        } else {
            HeaderValue::from_bytes(&shape.normalised(value.as_bytes())).ok()?
        };
        Some(Self { text: AuthorityText::Field(text), host_len: shape.host_len, port: shape.port })
    }

    /// Checks and normalises the authority of a target.
    pub fn from_target(authority: &http::uri::Authority, tls: bool) -> Option<Self> {
        let bytes = authority.as_str().as_bytes();
        let shape = AuthorityShape::of(bytes, tls)?;
        let text = if shape.normal {
            AuthorityText::Target(authority.clone())
        } else {
            AuthorityText::Field(HeaderValue::from_bytes(&shape.normalised(bytes)).ok()?)
        };
        Some(Self { text, host_len: shape.host_len, port: shape.port })
    }

    /// As it is written in a key and in `Host`.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.text {
            AuthorityText::Field(value) => value.as_bytes(),
            AuthorityText::Target(authority) => authority.as_str().as_bytes(),
        }
    }

    /// As it is written in a key and in `Host`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an authority was checked to be ASCII")
    }

    /// The name or address, without the port; an IPv6 literal with its brackets.
    pub fn host(&self) -> &str {
        &self.as_str()[..self.host_len]
    }

    /// The port, where it is not the default one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// As a field value.
    pub fn to_value(&self) -> HeaderValue {
        match &self.text {
            AuthorityText::Field(value) => value.clone(),
            AuthorityText::Target(authority) => HeaderValue::from_str(authority.as_str())
                .expect("an authority was checked to hold only letters, digits and a little punctuation"),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Authority {}

/// What a scan over an authority found.
struct AuthorityShape {
    host_len: usize,
    port: Option<u16>,
    /// It is already written as it would be normalised.
    normal: bool,
}

impl AuthorityShape {
    /// Takes `host`, `host:port`, `[v6]` and `[v6]:port`; no user info, no percent-encoding, no empty host.
    fn of(bytes: &[u8], tls: bool) -> Option<Self> {
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
        let default = if tls { 443 } else { 80 };
        let port_kept = (number != default).then_some(number);
        let normal = lower && port_kept.is_some() && port[0] != b'0';
        Some(Self { host_len, port: port_kept, normal })
    }

    fn normalised(&self, bytes: &[u8]) -> Vec<u8> {
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
