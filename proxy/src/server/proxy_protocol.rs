//! The PROXY protocol header, versions 1 and 2, by which a proxy in front says who the client is.
//!
//! Source: "The PROXY protocol, versions 1 & 2" (HAProxy, 2020/03/05). A pure function over the bytes so far: strict, bounded, and without
//! choice: what is not exactly a header is an error and ends the connection (§2: "the receiver MUST NOT try to guess").
//! Extension fields (TLVs) are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// §2.1: the longest line of version 1, with its CRLF.
const V1_BYTES_MAX: usize = 107;

/// §2.2
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// Addresses take 36 bytes, or 216 for Unix sockets; the rest is extension fields.
const V2_REST_BYTES_MAX: usize = 4_096;

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Incomplete,
    /// A header.
    Complete {
        /// What it says.
        header: Header,
        /// Its length; what follows belongs to the client.
        used: usize,
    },
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Nothing about a client (`LOCAL`, `UNKNOWN`, address families other than IP): the socket's own addresses count.
    Unspecified,
    /// Who connected to whom.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Neither signature.
    #[error("the connection does not begin with a PROXY header")]
    NotAHeader,
    /// Longer than a header may be.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A signature, then something that is not allowed.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads a header at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    const V1_START: &[u8] = b"PROXY ";
    let is_start_of = |signature: &[u8]| {
        let common = signature.len().min(bytes.len());
        signature[..common] == bytes[..common]
    };
    if is_start_of(V2_SIGNATURE) {
        parse_v2(bytes)
    } else if is_start_of(V1_START) {
        parse_v1(bytes)
    } else {
        Err(ProxyHeaderError::NotAHeader)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return match within.len() {
            V1_BYTES_MAX => Err(ProxyHeaderError::TooLong),
            _ => Ok(Parsed::Incomplete),
        };
    };
    let line = std::str::from_utf8(&within[..end]).map_err(|_| ProxyHeaderError::Malformed)?;
    let header = parse_v1_line(line).ok_or(ProxyHeaderError::Malformed)?;
    Ok(Parsed::Complete { header, used: end + 2 })
}

/// "PROXY", family, source, destination and the two ports, one space between each.
fn parse_v1_line(line: &str) -> Option<Header> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        // §2.1: "the receiver must ignore anything presented before the CRLF".
        return Some(Header::Unspecified);
    }
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        plain.then(|| word.parse().ok()).flatten()
    };
    let (source_port, destination_port) = (port()?, port()?);
    words.next().is_none().then_some(Header::Proxied {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., version_and_command, family, length_high, length_low] = *fixed;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if length > V2_REST_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError::Malformed),
    };
    let Some(rest) = rest.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    let header = match family {
        _ if local => Header::Unspecified,
        0x11 => proxied_v4(rest).ok_or(ProxyHeaderError::Malformed)?,
        0x21 => proxied_v6(rest).ok_or(ProxyHeaderError::Malformed)?,
        // §2.2: UNSPEC, datagrams and Unix sockets: "the receiver should ignore address information".
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Header::Unspecified,
        _ => return Err(ProxyHeaderError::Malformed),
    };
    Ok(Parsed::Complete { header, used: V2_FIXED_BYTES + length })
}

fn proxied_v4(rest: &[u8]) -> Option<Header> {
    let (source, rest) = rest.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    proxied((*source).into(), (*destination).into(), rest)
}

fn proxied_v6(rest: &[u8]) -> Option<Header> {
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    proxied((*source).into(), (*destination).into(), rest)
}

fn proxied(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Option<Header> {
    let (&[a, b, c, d], _) = ports.split_first_chunk::<4>()?;
    Some(Header::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn good() -> Vec<(&'static str, Vec<u8>, Header)> {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0x30, 0x39, 1, 0xbb];
        let v6 = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 80, 0, 81]].concat();
        vec![
            (
                "version 1, IPv4",
                b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\n".to_vec(),
                proxied("192.0.2.1:12345", "198.51.100.7:443"),
            ),
            (
                "version 1, IPv6",
                b"PROXY TCP6 ::1 2001:db8::2 1 65535\r\n".to_vec(),
                proxied("[::1]:1", "[2001:db8::2]:65535"),
            ),
            ("version 1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), Header::Unspecified),
            ("version 1, unknown with more", b"PROXY UNKNOWN ffff:f 1 2\r\n".to_vec(), Header::Unspecified),
            ("version 2, IPv4", v2(0x21, 0x11, &v4), proxied("192.0.2.1:12345", "198.51.100.7:443")),
            (
                "version 2, IPv4 with extension fields",
                v2(0x21, 0x11, &[&v4[..], &[4, 0, 1, 9]].concat()),
                proxied("192.0.2.1:12345", "198.51.100.7:443"),
            ),
            ("version 2, IPv6", v2(0x21, 0x21, &v6), proxied("[::1]:80", "[::2]:81")),
            ("version 2, local", v2(0x20, 0x00, &[]), Header::Unspecified),
            ("version 2, Unix", v2(0x21, 0x31, &[0; 216]), Header::Unspecified),
        ]
    }

    #[test]
    fn a_header_is_read_to_its_last_byte_and_no_further() {
        for (what, wire, header) in good() {
            for cut in 0..wire.len() {
                assert_eq!(parse(&wire[..cut]), Ok(Parsed::Incomplete), "{what}, cut at {cut}");
            }
            let with_more = [&wire[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&with_more), Ok(Parsed::Complete { header, used: wire.len() }), "{what}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_header_is_refused() {
        use ProxyHeaderError::{Malformed, NotAHeader, TooLong};
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 120]].concat();
        let cases: Vec<(&str, Vec<u8>, ProxyHeaderError)> = vec![
            ("a request", b"GET / HTTP/1.1\r\n".to_vec(), NotAHeader),
            ("lower case", b"proxy TCP4 ".to_vec(), NotAHeader),
            ("no line end within 107 bytes", long, TooLong),
            ("two spaces", b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), Malformed),
            ("a field too many", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_vec(), Malformed),
            ("a field too few", b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(), Malformed),
            ("a port too large", b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n".to_vec(), Malformed),
            ("a port with a sign", b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n".to_vec(), Malformed),
            ("a port with a zero in front", b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n".to_vec(), Malformed),
            ("IPv6 called IPv4", b"PROXY TCP4 ::1 ::2 1 2\r\n".to_vec(), Malformed),
            ("an address with zeros in front", b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n".to_vec(), Malformed),
            ("bytes outside ASCII", b"PROXY TCP4 \xff 2.2.2.2 1 2\r\n".to_vec(), Malformed),
            ("version 3", v2(0x31, 0x11, &[0; 12]), Malformed),
            ("an unknown command", v2(0x22, 0x11, &[0; 12]), Malformed),
            ("an unknown family", v2(0x21, 0x41, &[0; 12]), Malformed),
            ("addresses cut short", v2(0x21, 0x11, &[0; 11]), Malformed),
            ("more than 4 KiB", v2(0x21, 0x11, &[0; 4_097]), TooLong),
        ];
        for (what, wire, error) in cases {
            assert_eq!(parse(&wire), Err(error), "{what}");
        }
    }
}
