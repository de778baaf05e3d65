//! What a head holds that says where its message ends, found in one pass.

use http::Version;
use http::header::{self, HeaderMap, HeaderValue};

use super::Rejection;
use crate::config::model::Limits;

/// Fields found in the one pass that are looked at, or removed, after it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) connection: bool,
    pub(super) keep_alive: bool,
    pub(super) proxy_connection: bool,
    pub(super) te: bool,
    pub(super) transfer_encoding: u32,
    pub(super) upgrade: bool,
    pub(super) expect: bool,
    pub(super) http2_settings: bool,
    pub(super) proxy_authorization: bool,
    pub(super) max_forwards: bool,
    pub(super) cookies: u32,
    pub(super) hosts: u32,
    pub(super) lengths: Lengths,
}

/// What the `Content-Length` lines of a head say together. RFC 9110 §8.6: identical lines are one; a list, a sign or an overflow is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lengths {
    lines: u32,
    said: Option<u64>,
}

impl Lengths {
    /// Takes one more line.
    pub fn add(&mut self, value: &[u8]) {
        let length = parse_length(value);
        self.said = if self.lines == 0 || self.said == length { length } else { None };
        self.lines += 1;
    }

    /// How many lines there are.
    pub const fn lines(self) -> u32 {
        self.lines
    }

    /// The one length that all of them say. `None`: there is no line, or they are not one length.
    pub const fn one(self) -> Option<u64> {
        self.said
    }
}

/// The one pass: sizes, and which of the special fields are there.
pub(super) fn scan(headers: &HeaderMap, limits: &Limits) -> Result<Found, Rejection> {
    let mut found = Found::default();
    if headers.len() > limits.head_fields {
        return Err(Rejection::TooManyFields);
    }
    let mut head_bytes = 0;
    for (name, value) in headers {
        // A name, a colon, a space, the value and CRLF.
        head_bytes += name.as_str().len() + value.len() + 4;
        match *name {
            header::HOST => found.hosts += 1,
            header::COOKIE => found.cookies += 1,
            header::CONNECTION => found.connection = true,
            header::CONTENT_LENGTH => found.lengths.add(value.as_bytes()),
            header::TRANSFER_ENCODING => found.transfer_encoding += 1,
            header::TE => found.te = true,
            header::UPGRADE => found.upgrade = true,
            header::EXPECT => found.expect = true,
            header::PROXY_AUTHORIZATION => found.proxy_authorization = true,
            header::MAX_FORWARDS => found.max_forwards = true,
            _ => match name.as_str() {
                "keep-alive" => found.keep_alive = true,
                "proxy-connection" => found.proxy_connection = true,
                "http2-settings" => found.http2_settings = true,
                _ => {}
            },
        }
    }
    if head_bytes > limits.head_bytes {
        return Err(Rejection::HeadTooLarge);
    }
    Ok(found)
}

/// A number of digits and nothing else.
pub(super) fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether `Transfer-Encoding` is one line `chunked`, in HTTP/1.1.
pub(crate) fn check_transfer_encoding(version: Version, headers: &HeaderMap) -> Result<(), Rejection> {
    // RFC 9112 §6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST treat the
    // message as if the framing is faulty"; RFC 9113 §8.2.2 forbids it outright.
    if version != Version::HTTP_11 {
        return Err(Rejection::TransferEncodingVersion);
    }
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let value = lines.next().map_or(&b""[..], HeaderValue::as_bytes);
    let one_line = lines.next().is_none();
    if one_line && value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    // RFC 9112 §6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD respond with 501";
    // §6.3 #4: "If the final encoding is not chunked: 400".
    const OTHERS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    let mut codings = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let chunked_last = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let others = codings.map(|coding| OTHERS.iter().any(|other| coding.eq_ignore_ascii_case(other)));
    let known = one_line
        && chunked_last
        && matches!(others.fold((0, true), |(count, all), known| (count + 1, all && known)), (1.., true));
    Err(if known { Rejection::TransferCoding } else { Rejection::TransferEncoding })
}
