//! Heads: where they end, what they say, how they are written (RFC 9112 §2 to §5).

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode, Version};

use crate::gate::Lengths;

/// Fields of which a list lies on the stack; more cost an allocation.
const FIELDS_ON_STACK: usize = 128;

/// Why bytes are not a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The first line or a field is not as RFC 9112 §3 to §5 says.
    #[error("the head is not written as HTTP/1.1 says")]
    Syntax,
    /// HTTP of another version.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// The request target has a fragment, or is none of the four forms.
    #[error("the request target is none")]
    Target,
    /// More field lines than allowed.
    #[error("the head has too many fields")]
    TooManyFields,
    /// The first line alone is larger than a head may be.
    #[error("the first line is too long")]
    LineTooLong,
    /// More bytes than allowed.
    #[error("the head is too large")]
    TooLarge,
}

/// Fields that say how a message is framed and what becomes of its connection: found in the one pass over the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// `Connection`
    pub connection: bool,
    /// `Content-Length`
    pub lengths: Lengths,
    /// `Transfer-Encoding`
    pub transfer_encoding: bool,
    /// `Expect`
    pub expect: bool,
    /// `TE`
    pub te: bool,
    /// `Upgrade`
    pub upgrade: bool,
}

/// Looks for the end of a head in bytes that come in piece by piece.
#[derive(Debug, Default)]
pub struct HeadSearch {
    /// Bytes that were looked at.
    looked_at: usize,
    /// How long the beginning must be before its syntax is looked at again.
    tried: usize,
}

impl HeadSearch {
    /// The length of the head at the beginning of `bytes`, with the empty line that ends it. `None`: it has not come whole.
    ///
    /// A beginning that cannot become a head is found out without waiting for its end, and all looks together take time linear in the
    /// length, however the bytes drip in.
    pub fn end(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        probe: impl FnOnce(&[u8]) -> Result<(), HeadFault>,
    ) -> Result<Option<usize>, HeadFault> {
        // The last two bytes that were looked at may be the beginning of the end.
        let from = self.looked_at.saturating_sub(2);
        for feed in memchr::memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
            let after = from + feed + 1;
            // RFC 9112 §2.2: "a recipient MAY recognize a single LF as a line terminator".
            let end = match bytes.get(after..) {
                Some([b'\n', ..]) => after + 1,
                Some([b'\r', b'\n', ..]) => after + 2,
                _ => continue,
            };
            *self = Self::default();
            return if end > bytes_max { Err(HeadFault::TooLarge) } else { Ok(Some(end)) };
        }
        self.looked_at = bytes.len();
        if bytes.len() > bytes_max {
            let line_ended = memchr::memchr(b'\n', bytes).is_some();
            return Err(if line_ended { HeadFault::TooLarge } else { HeadFault::LineTooLong });
        }
        if bytes.len() >= self.tried {
            self.tried = (bytes.len() * 2).max(16);
            probe(bytes)?;
        }
        Ok(None)
    }
}

/// How many bytes of empty lines stand before a message. RFC 9112 §2.2: "a server that is expecting to receive and parse a request-line SHOULD
/// ignore at least one empty line (CRLF) received prior to the request-line."
pub fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// The first line of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// Its method.
    pub method: Method,
    /// Its target, in any of the four forms.
    pub target: Uri,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
}

/// The first line of a response; what it says of the reason is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusLine {
    /// Its status, 100 to 999.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
}

/// Space for the fields of one head.
struct Space<'b> {
    stack: [MaybeUninit<httparse::Header<'b>>; FIELDS_ON_STACK],
    heap: Vec<MaybeUninit<httparse::Header<'b>>>,
}

impl<'b> Space<'b> {
    fn new(fields_max: usize) -> Self {
        let mut heap = Vec::new();
        if fields_max > FIELDS_ON_STACK {
            heap.resize_with(fields_max, MaybeUninit::uninit);
        }
        Self { stack: [const { MaybeUninit::uninit() }; FIELDS_ON_STACK], heap }
    }

    fn slice(&mut self, fields_max: usize) -> &mut [MaybeUninit<httparse::Header<'b>>] {
        if self.heap.is_empty() { &mut self.stack[..fields_max] } else { &mut self.heap }
    }
}

fn fault_of(error: httparse::Error) -> HeadFault {
    match error {
        httparse::Error::TooManyHeaders => HeadFault::TooManyFields,
        httparse::Error::Version => HeadFault::Version,
        _ => HeadFault::Syntax,
    }
}

/// Likewise; what follows the target is a version of HTTP, or the line is no request line.
fn request_fault_of(error: httparse::Error, bytes: &[u8]) -> HeadFault {
    let line =
        bytes.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    match line.splitn(3, |byte| *byte == b' ').nth(2) {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            fault_of(error)
        }
        _ if error == httparse::Error::Version => HeadFault::Syntax,
        _ => fault_of(error),
    }
}

const fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Whether these bytes may be the beginning of a request.
pub fn probe_request(bytes: &[u8], fields_max: usize) -> Result<(), HeadFault> {
    let mut space = Space::new(fields_max);
    let mut parsed = httparse::Request::new(&mut []);
    httparse::ParserConfig::default()
        .parse_request_with_uninit_headers(&mut parsed, bytes, space.slice(fields_max))
        .map(|_| ())
        .map_err(|error| request_fault_of(error, bytes))
}

/// Parses a request head that is whole. Its fields are appended to `fields`; their values share `head`.
pub fn parse_request(
    head: &Bytes,
    fields_max: usize,
    fields: &mut HeaderMap,
) -> Result<(RequestLine, Seen), HeadFault> {
    let mut space = Space::new(fields_max);
    let mut parsed = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_request_with_uninit_headers(&mut parsed, head, space.slice(fields_max))
        .map_err(|error| request_fault_of(error, head))?;
    let (httparse::Status::Complete(_), Some(method), Some(target), Some(minor)) =
        (status, parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadFault::Syntax);
    };
    // RFC 9112 §3.2: no form of a request target has a fragment. The type would cut it off.
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(HeadFault::Target);
    }
    let line = RequestLine {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| HeadFault::Syntax)?,
        target: Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| HeadFault::Target)?,
        version: version_of(minor),
    };
    let seen = take_fields(head, parsed.headers, fields)?;
    Ok((line, seen))
}

/// Whether these bytes may be the beginning of a response.
pub fn probe_response(bytes: &[u8], fields_max: usize) -> Result<(), HeadFault> {
    let mut space = Space::new(fields_max);
    let mut parsed = httparse::Response::new(&mut []);
    httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, space.slice(fields_max))
        .map(|_| ())
        .map_err(fault_of)
}

/// Parses a response head that is whole. Its fields are appended to `fields`; their values share `head`.
pub fn parse_response(
    head: &Bytes,
    fields_max: usize,
    fields: &mut HeaderMap,
) -> Result<(StatusLine, Seen), HeadFault> {
    let mut space = Space::new(fields_max);
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, head, space.slice(fields_max))
        .map_err(fault_of)?;
    let (httparse::Status::Complete(_), Some(code), Some(minor)) = (status, parsed.code, parsed.version)
    else {
        return Err(HeadFault::Syntax);
    };
    let line = StatusLine {
        status: StatusCode::from_u16(code).map_err(|_| HeadFault::Syntax)?,
        version: version_of(minor),
    };
    let seen = take_fields(head, parsed.headers, fields)?;
    Ok((line, seen))
}

fn take_fields(
    head: &Bytes,
    parsed: &[httparse::Header<'_>],
    fields: &mut HeaderMap,
) -> Result<Seen, HeadFault> {
    let mut seen = Seen::default();
    fields.reserve(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadFault::Syntax)?;
        let value =
            HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| HeadFault::Syntax)?;
        match name {
            header::CONNECTION => seen.connection = true,
            header::CONTENT_LENGTH => seen.lengths.add(value.as_bytes()),
            header::TRANSFER_ENCODING => seen.transfer_encoding = true,
            header::EXPECT => seen.expect = true,
            header::TE => seen.te = true,
            header::UPGRADE => seen.upgrade = true,
            _ => {}
        }
        fields.append(name, value);
    }
    Ok(seen)
}

/// Parses a trailer section with the empty line that ends it. Lines end in CRLF and in nothing else.
pub fn parse_trailers(section: &Bytes, fields_max: usize) -> Result<HeaderMap, HeadFault> {
    let bare_feed = memchr::memchr_iter(b'\n', section).any(|at| at == 0 || section[at - 1] != b'\r');
    if bare_feed {
        return Err(HeadFault::Syntax);
    }
    let mut space = vec![httparse::EMPTY_HEADER; fields_max];
    match httparse::parse_headers(section, &mut space) {
        Ok(httparse::Status::Complete((length, parsed))) if length == section.len() => {
            let mut fields = HeaderMap::new();
            take_fields(section, parsed, &mut fields)?;
            Ok(fields)
        }
        Ok(_) => Err(HeadFault::Syntax),
        Err(error) => Err(fault_of(error)),
    }
}

/// Writes the first line of a request.
pub fn write_request_line(out: &mut Vec<u8>, method: &Method, target: &PathAndQuery) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes the first line of a response. RFC 9112 §4: "A server MUST send the space that separates the status-code from the reason-phrase even when the
/// reason-phrase is absent".
pub fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field line.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes `Content-Length`.
pub fn write_content_length(out: &mut Vec<u8>, length: u64) {
    write_field(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
}

/// Writes `Date` (RFC 9110 §6.6.1: "An origin server with a clock MUST generate a Date header field in all 2xx, 3xx and 4xx responses"; a
/// recipient that forwards one without may add it).
pub fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        /// The date that was written last, and the second that it says.
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let second =
        crate::clock::wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(said, text)| {
        if *said != second || text.is_empty() {
            *said = second;
            *text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        }
        write_field(out, "date", text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(bytes: &[u8], piece: usize, bytes_max: usize) -> Result<Option<usize>, HeadFault> {
        let mut search = HeadSearch::default();
        let mut come = 0;
        while come < bytes.len() {
            come = (come + piece).min(bytes.len());
            let found = search.end(&bytes[..come], bytes_max, |head| probe_request(head, 100))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_is_cut() {
        let cases: [(&[u8], Option<usize>); 5] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore", Some(27)),
            (b"GET / HTTP/1.1\nHost: a\n\nmore", Some(24)),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Some(26)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
        ];
        for (bytes, end) in cases {
            for piece in 1..=bytes.len() {
                assert_eq!(search(bytes, piece, 1_000), Ok(end), "{:?} by {piece}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_before_its_end() {
        let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0];
        assert_eq!(search(&tls, 1, 1_000), Err(HeadFault::Syntax));
        assert_eq!(search(b"GET / HTTP/3.0\r\nHost: a", 23, 1_000), Err(HeadFault::Version));
        let long = "x".repeat(200);
        assert_eq!(search(format!("GET /{long}").as_bytes(), 7, 100), Err(HeadFault::LineTooLong));
        let long = format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n");
        assert_eq!(search(long.as_bytes(), 7, 100), Err(HeadFault::TooLarge));
        assert_eq!(search(long.as_bytes(), 1_000, 100), Err(HeadFault::TooLarge));
    }

    #[test]
    fn a_request_says_what_it_says() {
        let head = Bytes::from_static(
            b"POST /a?b HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nconnection:\t close \r\nX-Two: \r\nContent-Length: 3\r\n\r\n",
        );
        let mut fields = HeaderMap::new();
        let (line, seen) = parse_request(&head, 100, &mut fields).unwrap();
        assert_eq!((line.method, line.target.to_string()), (Method::POST, "/a?b".to_owned()));
        assert_eq!(line.version, Version::HTTP_11);
        let mut expected = Seen { connection: true, ..Seen::default() };
        expected.lengths.add(b"3");
        assert_eq!(seen, expected);
        assert_eq!(fields["connection"], "close");
        assert!(fields.get_all("x-two").iter().eq(["1", ""]));
        for (target, fault) in [("/a#b", HeadFault::Target), ("a b", HeadFault::Syntax)] {
            let head = Bytes::from(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(parse_request(&head, 100, &mut HeaderMap::new()).unwrap_err(), fault, "{target}");
        }
        for (fields_max, fits) in [(5, true), (4, false), (400, true)] {
            assert_eq!(parse_request(&head, fields_max, &mut HeaderMap::new()).is_ok(), fits, "{fields_max}");
        }
    }

    #[test]
    fn a_response_says_what_it_says() {
        let head = Bytes::from_static(b"HTTP/1.0 404 \xe9rror\r\nTransfer-Encoding: x\r\n\r\n");
        let mut fields = HeaderMap::new();
        let (line, seen) = parse_response(&head, 100, &mut fields).unwrap();
        assert_eq!(line, StatusLine { status: StatusCode::NOT_FOUND, version: Version::HTTP_10 });
        assert!(seen.transfer_encoding && seen.lengths.lines() == 0);
        for bad in
            ["HTTP/1.1 99 x\r\n\r\n", "HTTP/1.1 2000 x\r\n\r\n", "ICY 200 OK\r\n\r\n", "200 OK\r\n\r\n"]
        {
            let head = Bytes::from(bad);
            assert!(parse_response(&head, 100, &mut HeaderMap::new()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn trailers_have_strict_line_ends() {
        let parsed = parse_trailers(&Bytes::from_static(b"X-Sum: 7\r\nX-Sum: 8\r\n\r\n"), 10).unwrap();
        assert!(parsed.get_all("x-sum").iter().eq(["7", "8"]));
        assert!(parse_trailers(&Bytes::from_static(b"\r\n"), 10).unwrap().is_empty());
        for bad in [
            "X-Sum: 7\n\r\n",
            "X-Sum: 7\r\n\n",
            "\n",
            "X Sum: 7\r\n\r\n",
            "X : 7\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            assert!(parse_trailers(&Bytes::copy_from_slice(bad.as_bytes()), 10).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            status in 100_u16..=599,
            lines in proptest::collection::vec(("[a-z][a-z0-9-]{0,12}", "([!-~]([ -~]{0,20}[!-~])?)?"), 0..20),
        ) {
            let mut out = Vec::new();
            let status = StatusCode::from_u16(status).unwrap();
            write_status_line(&mut out, status);
            let mut expected = HeaderMap::new();
            for (name, value) in &lines {
                write_field(&mut out, name, value.as_bytes());
                expected.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            out.extend_from_slice(b"\r\n");
            let mut search = HeadSearch::default();
            let end = search.end(&out, 1 << 20, |head| probe_response(head, 100));
            prop_assert_eq!(end, Ok(Some(out.len())));
            let mut fields = HeaderMap::new();
            let (line, _) = parse_response(&out.into(), 100, &mut fields).unwrap();
            prop_assert_eq!(line.status, status);
            prop_assert_eq!(fields, expected);
        }
    }
}
