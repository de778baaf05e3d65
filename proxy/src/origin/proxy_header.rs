//! The PROXY protocol header that tells an origin whom a connection is for (versions 1 and 2 of HAProxy's specification).

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The header for a connection from `client` to `local`; without both, one that says nothing of them.
pub(super) fn encode(version: u8, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let ends = ends.map(|(client, local)| (canonical(client), canonical(local)));
    if version == 1 { encode_v1(ends) } else { encode_v2(ends) }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn encode_v1(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((client, local)) = ends.filter(|(client, local)| client.is_ipv4() == local.is_ipv4()) else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", client.ip(), local.ip(), client.port(), local.port())
        .into_bytes()
}

fn encode_v2(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some((client, local)) = ends.filter(|(client, local)| client.is_ipv4() == local.is_ipv4()) else {
        // LOCAL: the receiver uses the connection's own ends.
        header.extend_from_slice(&[0x20, 0x00, 0, 0]);
        return header;
    };
    let (family, length) = if client.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    header.extend_from_slice(&[0x21, family, 0, length]);
    for address in [client, local] {
        match address.ip() {
            IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
        }
    }
    for address in [client, local] {
        header.extend_from_slice(&address.port().to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, local: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((client.parse().unwrap(), local.parse().unwrap()))
    }

    #[test]
    fn version_1_is_a_line() {
        #[rustfmt::skip]
        let cases = [
            // what                  ends                                              line
            ("IPv4",                 ends("192.0.2.1:56324", "198.51.100.1:443"),      "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"),
            ("IPv6",                 ends("[2001:db8::1]:1", "[2001:db8::2]:2"),       "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
            ("IPv4 in IPv6 clothes", ends("[::ffff:192.0.2.1]:1", "198.51.100.1:2"),   "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n"),
            ("two families",         ends("192.0.2.1:1", "[2001:db8::2]:2"),           "PROXY UNKNOWN\r\n"),
            ("nobody",               None,                                             "PROXY UNKNOWN\r\n"),
        ];
        for (what, ends, line) in cases {
            assert_eq!(String::from_utf8(encode(1, ends)).unwrap(), line, "{what}");
        }
    }

    #[test]
    fn version_2_is_binary() {
        let header = encode(2, ends("192.0.2.1:256", "198.51.100.1:443"));
        assert_eq!(&header[..12], SIGNATURE);
        assert_eq!(&header[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 1, 0, 1, 187]);
        assert_eq!(encode(2, None)[12..], [0x20, 0, 0, 0]);
        assert_eq!(encode(2, ends("[2001:db8::1]:1", "[2001:db8::2]:2")).len(), 16 + 36);
    }
}
