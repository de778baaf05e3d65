//! What the URLs of all stores are made of: servers with their ports, and parts that are percent-encoded. Which parts there are, and what they mean, each kind of store says itself.

use std::fmt;

/// Servers in a list.
pub const SERVERS_MAX: usize = 64;
/// A URL; longer ones are a mistake.
const URL_BYTES_MAX: usize = 4096;

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What can be wrong with any of them. Nothing is shown but what cannot be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Longer than any URL that is meant.
    #[error("this is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// A space, a control byte.
    #[error("there is a space or a control character at byte {at}")]
    Character {
        /// Where.
        at: usize,
    },
    /// A `%` that two hexadecimal digits do not follow, or bytes that are no text.
    #[error("there is a `%` in the {part} that does not stand for a character")]
    Encoding {
        /// Where it is.
        part: &'static str,
    },
    /// No host at all.
    #[error("server {number} has no name")]
    NoHost {
        /// Which of the list, from 1.
        number: usize,
    },
    /// A name with characters that no host has.
    #[error("the name of server {number} has a character that no host name has")]
    Host {
        /// Which of the list, from 1.
        number: usize,
    },
    /// A port that is none.
    #[error("the port of server {number} is not a number from 1 to 65535")]
    Port {
        /// Which of the list, from 1.
        number: usize,
    },
    /// Too many servers.
    #[error("there are more than {SERVERS_MAX} servers")]
    TooMany,
}

impl PartError {
    /// How to mend it, whatever the store.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong | Self::TooMany => "a few servers are enough",
            Self::Character { .. } => "write a space as `%20`",
            Self::Encoding { .. } => "write `%` itself as `%25`",
            Self::NoHost { .. } => "servers of a list are separated by one comma",
            Self::Host { .. } => {
                "write an IPv6 address in brackets, as `[::1]`, and special characters of a password as `%40` and the like"
            }
            Self::Port { .. } => {
                "write `host:port`, an IPv6 address in brackets, as `[::1]:port`, and `:` in a user's name as `%3A`"
            }
        }
    }
}

/// What every URL has to keep to.
pub fn check(text: &str) -> Result<(), PartError> {
    if text.len() > URL_BYTES_MAX {
        return Err(PartError::TooLong);
    }
    match text.bytes().position(|byte| byte <= b' ' || byte == 0x7f) {
        Some(at) => Err(PartError::Character { at }),
        None => Ok(()),
    }
}

/// The servers of a list; `port` is that of those that name none.
pub fn servers(list: &str, port: u16) -> Result<Vec<HostPort>, PartError> {
    let mut servers = Vec::new();
    for (position, text) in list.split(',').enumerate() {
        if position == SERVERS_MAX {
            return Err(PartError::TooMany);
        }
        servers.push(host_port(text, port, position + 1)?);
    }
    Ok(servers)
}

fn host_port(text: &str, port: u16, number: usize) -> Result<HostPort, PartError> {
    let (host, written_port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(PartError::Host { number })?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| PartError::Host { number })?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(PartError::Port { number }),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(PartError::NoHost { number });
    }
    let is_address = text.starts_with('[');
    let is_of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !is_address && !host.bytes().all(is_of_a_host) {
        return Err(PartError::Host { number });
    }
    let port = match written_port {
        None => port,
        Some(text) => digits(text)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
            .ok_or(PartError::Port { number })?,
    };
    Ok(HostPort { host: host.to_owned(), port })
}

/// Digits and nothing else: no sign, no spaces.
pub fn digits(text: &str) -> Option<u32> {
    let plain = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Percent-decodes. `+` stays what it is.
pub fn decoded(text: &str, part: &'static str) -> Result<String, PartError> {
    let wrong = || PartError::Encoding { part };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// Percent-encodes what would not be read back as it is.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(
                [byte >> 4, byte & 15].map(|digit| {
                    char::from_digit(digit.into(), 16).expect("four bits are a hexadecimal digit")
                }),
            );
        }
    }
    out
}

/// As they are written in a list.
pub fn list(servers: &[HostPort]) -> String {
    servers.iter().map(HostPort::to_string).collect::<Vec<_>>().join(",")
}
