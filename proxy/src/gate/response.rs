//! Responses: what an origin may answer, and what of it goes on.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use super::connection::{
    Direction, KEEP_ALIVE, PROXY_CONNECTION, has_token, is_end_to_end, remove_nominated, via,
};
use super::framing::scan;
use crate::config::model::Limits;

/// What was asked, as far as an answer must fit it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The method was HEAD.
    pub head: bool,
    /// The request had a condition that a 304 (or 412) may answer.
    pub conditional: bool,
    /// The request had a `Range`.
    pub range: bool,
    /// The request asked for an upgrade.
    pub upgrade: bool,
}

impl Asked {
    /// Reads it off the request that goes out: its method, and the names of its fields, or of those that [matter](Self::depends_on).
    pub fn of<'n>(method: &Method, names: impl Iterator<Item = &'n HeaderName>) -> Self {
        let mut asked =
            Self { head: method == Method::HEAD, conditional: false, range: false, upgrade: false };
        for name in names {
            match *name {
                header::IF_NONE_MATCH | header::IF_MODIFIED_SINCE => asked.conditional = true,
                header::RANGE => asked.range = true,
                header::UPGRADE => asked.upgrade = true,
                _ => {}
            }
        }
        asked
    }

    /// Whether it depends on a field of this name.
    pub fn depends_on(name: &HeaderName) -> bool {
        matches!(*name, header::IF_NONE_MATCH | header::IF_MODIFIED_SINCE | header::RANGE | header::UPGRADE)
    }
}

/// What an answer that passed is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatedResponse {
    /// The connection must not be used again, whatever the framing says.
    pub close_after: bool,
}

/// Why an answer of the origin was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseFault {
    /// A status outside 100 to 599.
    #[error("the status is not one of 100 to 599")]
    Status,
    /// 101 that nobody asked for.
    #[error("it switched protocols unasked")]
    SwitchedUnasked,
    /// 304 without a condition.
    #[error("a 304 answers a request without a condition")]
    NotModifiedUnasked,
    /// 206 without a range.
    #[error("a 206 answers a request without a range")]
    PartialUnasked,
    /// `Content-Length` is not one number.
    #[error("`Content-Length` is not one number")]
    ContentLength,
    /// Both framings.
    #[error("`Content-Length` and `Transfer-Encoding` are both there")]
    TwoLengths,
    /// `Transfer-Encoding` is not one line `chunked`.
    #[error("`Transfer-Encoding` is not one line with the value `chunked`")]
    TransferEncoding,
    /// `Connection` names what belongs to the whole way, or is no list.
    #[error("`Connection` names a field that belongs to the whole way")]
    Nominated,
    /// More than the limits of a head.
    #[error("the head is too large")]
    HeadTooLarge,
    /// Too many interim responses.
    #[error("too many interim responses")]
    TooManyInterim,
}

impl ResponseFault {
    /// A short name for logs and metrics; it never changes.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::SwitchedUnasked => "switched-unasked",
            Self::NotModifiedUnasked => "not-modified-unasked",
            Self::PartialUnasked => "partial-unasked",
            Self::ContentLength => "content-length",
            Self::TwoLengths => "two-lengths",
            Self::TransferEncoding => "transfer-encoding",
            Self::Nominated => "nominated",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyInterim => "too-many-interim",
        }
    }
}

/// Checks the head of an answer, removes what speaks of the origin's connection, and adds `Via`.
pub fn check_response(
    parts: &mut http::response::Parts,
    asked: &Asked,
    limits: &Limits,
) -> Result<GatedResponse, ResponseFault> {
    let status = parts.status;
    if !(100..=599).contains(&status.as_u16()) {
        return Err(ResponseFault::Status);
    }
    if status.is_informational() && !(status == StatusCode::SWITCHING_PROTOCOLS && asked.upgrade) {
        return Err(ResponseFault::SwitchedUnasked);
    }
    // RFC 9110 §15.4.5 and §15.3.7: they answer a condition and a range; unasked, nobody could tell what they are a part of.
    if status == StatusCode::NOT_MODIFIED && !asked.conditional {
        return Err(ResponseFault::NotModifiedUnasked);
    }
    if status == StatusCode::PARTIAL_CONTENT && !asked.range {
        return Err(ResponseFault::PartialUnasked);
    }
    let found = scan(&parts.headers, limits).map_err(|_| ResponseFault::HeadTooLarge)?;
    let mut close_after = false;
    let bodyless = asked.head
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status == StatusCode::SWITCHING_PROTOCOLS;

    if found.transfer_encoding > 0 {
        if found.lengths.lines() > 0 {
            return Err(ResponseFault::TwoLengths);
        }
        let value = parts.headers.get(header::TRANSFER_ENCODING);
        let chunked = value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if found.transfer_encoding > 1 || !chunked || parts.version != Version::HTTP_11 {
            return Err(ResponseFault::TransferEncoding);
        }
        // RFC 9112 §6.1: "A server MUST NOT send a Transfer-Encoding header field in any response with a status code of 1xx or 204."
        // What such a server sends next is anybody's guess.
        close_after = bodyless && !asked.head && status != StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    if found.lengths.lines() > 0 {
        let length = found.lengths.one().ok_or(ResponseFault::ContentLength)?;
        if status == StatusCode::NO_CONTENT || status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §8.6: "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204."
            close_after |= length != 0;
            parts.headers.remove(header::CONTENT_LENGTH);
        } else if found.lengths.lines() > 1 {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    if found.connection {
        close_after |= parts.headers.get_all(header::CONNECTION).iter().any(|line| has_token(line, b"close"));
        remove_nominated(&mut parts.headers, Direction::Response).map_err(|_| ResponseFault::Nominated)?;
    }
    if found.keep_alive {
        parts.headers.remove(KEEP_ALIVE);
    }
    if found.proxy_connection {
        parts.headers.remove(PROXY_CONNECTION);
    }
    if found.te {
        parts.headers.remove(header::TE);
    }
    if found.upgrade && status != StatusCode::SWITCHING_PROTOCOLS && status != StatusCode::UPGRADE_REQUIRED {
        parts.headers.remove(header::UPGRADE);
    }
    parts.headers.append(header::VIA, via(parts.version));
    Ok(GatedResponse { close_after })
}

/// Takes out of a trailer section what may not be there: framing, routing, authentication, and what a cache reads (RFC 9110 §6.5.1).
pub fn check_trailers(trailers: &mut HeaderMap, fields_max: usize) {
    if trailers.len() > fields_max {
        trailers.clear();
        return;
    }
    let forbidden: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden_in_trailers(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

fn is_forbidden_in_trailers(name: &HeaderName) -> bool {
    let text = name.as_str();
    is_end_to_end(name, Direction::Request)
        || is_end_to_end(name, Direction::Response)
        || matches!(
            *name,
            header::TRANSFER_ENCODING
                | header::TE
                | header::TRAILER
                | header::CONNECTION
                | header::UPGRADE
                | header::EXPECT
                | header::MAX_FORWARDS
                | header::PROXY_AUTHENTICATE
                | header::PROXY_AUTHORIZATION
                | header::RETRY_AFTER
                | header::WARNING
        )
        || matches!(
            text,
            "keep-alive"
                | "proxy-connection"
                | "http2-settings"
                | "x-host"
                | "x-original-url"
                | "x-rewrite-url"
        )
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn answer(
        status: u16,
        fields: &[(&str, &str)],
        asked: Asked,
    ) -> Result<(GatedResponse, HeaderMap), ResponseFault> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let mut parts = response.body(()).unwrap().into_parts().0;
        let gated = check_response(&mut parts, &asked, &Limits::default())?;
        Ok((gated, parts.headers))
    }

    const PLAIN: Asked = Asked { head: false, conditional: false, range: false, upgrade: false };

    #[test]
    fn answers_that_are_not_taken() {
        use ResponseFault as F;
        #[rustfmt::skip]
        let cases = [
            // what                          status  fields                                                              fault
            ("a status beyond 599",          600,    vec![],                                                             F::Status),
            ("101 unasked",                  101,    vec![("upgrade", "websocket")],                                     F::SwitchedUnasked),
            ("304 unasked",                  304,    vec![],                                                             F::NotModifiedUnasked),
            ("206 unasked",                  206,    vec![("content-range", "bytes 0-1/2")],                             F::PartialUnasked),
            ("different lengths",            200,    vec![("content-length", "5"), ("content-length", "6")],             F::ContentLength),
            ("a list of lengths",            200,    vec![("content-length", "5, 5")],                                   F::ContentLength),
            ("both framings",                200,    vec![("content-length", "5"), ("transfer-encoding", "chunked")],    F::TwoLengths),
            ("two codings",                  200,    vec![("transfer-encoding", "foo, chunked")],                        F::TransferEncoding),
            ("another coding",               200,    vec![("transfer-encoding", "gzip")],                                F::TransferEncoding),
            ("chunked twice",                200,    vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], F::TransferEncoding),
            ("nominating Set-Cookie",        200,    vec![("connection", "set-cookie")],                                 F::Nominated),
            ("nominating Cache-Control",     200,    vec![("connection", "cache-control")],                              F::Nominated),
        ];
        for (what, status, fields, fault) in cases {
            assert_eq!(answer(status, &fields, PLAIN).map(|_| ()), Err(fault), "{what}");
        }
    }

    #[test]
    fn an_answer_keeps_its_end_to_end_fields_and_gains_a_via() {
        let fields = [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("content-length", "5"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
        ];
        let (gated, headers) = answer(200, &fields, PLAIN).unwrap();
        assert!(gated.close_after);
        assert_eq!(headers["content-length"], "5");
        assert_eq!(headers["via"], "1.1 weir");
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn a_204_with_a_length_ends_the_connection() {
        for (length, closes) in [("0", false), ("5", true)] {
            let (gated, headers) = answer(204, &[("content-length", length)], PLAIN).unwrap();
            assert_eq!((gated.close_after, headers.contains_key("content-length")), (closes, false));
        }
    }

    #[test]
    fn section_6_5_1_trailers_hold_no_framing_routing_or_authentication() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "x-checksum",
            "content-length",
            "transfer-encoding",
            "host",
            "set-cookie",
            "authorization",
            "cache-control",
        ] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        check_trailers(&mut trailers, 100);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn a_field_value_cannot_hold_a_control_byte() {
        // The gate does not look for them again, because no `HeaderValue` can be made with one.
        for byte in (0_u8..=31).chain([127]).filter(|&byte| byte != b'\t') {
            assert!(HeaderValue::from_bytes(&[b'a', byte, b'b']).is_err(), "{byte}");
        }
    }
}
