//! Fields that speak of one connection, and what `Connection` may name.

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Fields that speak of one connection and that no RFC 9110 constant names.
pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// What is wrong with a `Connection` field.
pub(super) enum NominationFault {
    Syntax,
    EndToEnd,
}

/// Removes `Connection` and the fields that it names (RFC 9110 §7.6.1).
pub(super) fn remove_nominated(headers: &mut HeaderMap, direction: Direction) -> Result<(), NominationFault> {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    let ordinary = lines.next().is_some_and(|line| {
        let line = line.as_bytes();
        line.eq_ignore_ascii_case(b"keep-alive") || line.eq_ignore_ascii_case(b"close")
    }) && lines.next().is_none();
    if !ordinary {
        let mut named = Vec::new();
        for line in headers.get_all(header::CONNECTION) {
            for token in line.as_bytes().split(|&byte| byte == b',') {
                let token = token.trim_ascii();
                if token.is_empty() {
                    continue;
                }
                let name = HeaderName::from_bytes(token).map_err(|_| NominationFault::Syntax)?;
                if is_end_to_end(&name, direction) {
                    return Err(NominationFault::EndToEnd);
                }
                named.push(name);
            }
        }
        for name in named {
            headers.remove(name);
        }
    }
    headers.remove(header::CONNECTION);
    Ok(())
}

/// Fields that `Connection` may not name: removing them would change what the message means, or undo what this proxy says itself.
pub(super) fn is_end_to_end(name: &HeaderName, direction: Direction) -> bool {
    let text = name.as_str();
    // RFC 9110 §7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients of the
    // content." `Content-Length` and `Transfer-Encoding` are framing, and what the framing is has been settled before this.
    if direction == Direction::Response && *name == header::CONTENT_LENGTH {
        return false;
    }
    let both = text.starts_with("content-")
        || text.starts_with("x-forwarded-")
        || text.starts_with("sec-")
        || matches!(
            *name,
            header::HOST
                | header::COOKIE
                | header::AUTHORIZATION
                | header::CACHE_CONTROL
                | header::PRAGMA
                | header::VIA
                | header::FORWARDED
                | header::VARY
                | header::RANGE
        );
    let conditional = matches!(
        *name,
        header::IF_MATCH
            | header::IF_NONE_MATCH
            | header::IF_MODIFIED_SINCE
            | header::IF_UNMODIFIED_SINCE
            | header::IF_RANGE
            | header::ORIGIN
            | header::REFERER
            | header::ACCEPT
            | header::ACCEPT_ENCODING
            | header::ACCEPT_LANGUAGE
            | header::USER_AGENT
    ) || text == "x-real-ip"
        || text == "x-request-id";
    let answer = matches!(
        *name,
        header::SET_COOKIE
            | header::AGE
            | header::EXPIRES
            | header::DATE
            | header::ETAG
            | header::LAST_MODIFIED
            | header::LOCATION
            | header::WWW_AUTHENTICATE
            | header::STRICT_TRANSPORT_SECURITY
            | header::ACCEPT_RANGES
    ) || text.ends_with("cache-control")
        || text == "cache-status"
        || text == "surrogate-key"
        || text == "cache-tag"
        || text == "cache-groups";
    both || match direction {
        Direction::Request => conditional,
        Direction::Response => answer,
    }
}

/// Whether a field speaks of one connection only (RFC 9110 §7.6.1), or is made by this proxy for each hop.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TE
            | header::TRANSFER_ENCODING
            | header::CONTENT_LENGTH
            | header::UPGRADE
            | header::EXPECT
            | header::HOST
            | header::PROXY_AUTHORIZATION
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Whether a list of tokens holds this one.
pub(crate) fn has_token(line: &HeaderValue, token: &[u8]) -> bool {
    line.as_bytes().split(|&byte| byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// `Via` for a message that was received in this version (RFC 9110 §7.6.3).
pub fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 weir",
        Version::HTTP_2 => "2 weir",
        _ => "1.1 weir",
    })
}
