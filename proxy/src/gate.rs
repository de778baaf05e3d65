//! The strict gate: which messages are taken at all. A message has one length, one target and one authority, or it goes no further.
//!
//! Everything here is a pure function over heads that have been parsed. After the gate a head holds end-to-end fields only, and what the
//! removed ones meant is said by a type. It does not decide where a request goes (`routes.rs`), who sent it (`identity.rs`) or which
//! fields the origin sees (`origin/headers.rs`).
//!
//! Left to the parsers (`http1/`, and h2 for HTTP/2), because they see the bytes: field names are tokens, values hold no control byte but a
//! tab, a target has no fragment, chunk framing is exact.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, StatusCode, Version};

use crate::config::model::Limits;
use crate::http1::head::HeadFault;

/// Fields that speak of one connection and that no RFC 9110 constant names.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// How this proxy calls itself in `Via` and `Proxy-Status`.
pub const PSEUDONYM: &str = "weir";

/// What the server knows of a request besides its head.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts {
    /// Whether the connection speaks TLS: the default port of an authority depends on it.
    pub tls: bool,
    /// The length of the content as it is framed: `Some(0)` where there is none, `None` where it is chunked or an open stream.
    pub body_len: Option<u64>,
}

impl RequestFacts {
    /// Reads them off a body that has not been polled.
    pub fn of(tls: bool, body: &impl http_body::Body) -> Self {
        let body_len = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        Self { tls, body_len }
    }
}

/// A request that passed.
#[derive(Debug, Clone)]
pub struct Gated {
    /// Host and port asked for, in lower case, without the default port.
    pub authority: Authority,
    /// Whether there is content, or may be.
    pub has_body: bool,
    /// The length of the content, where it is known.
    pub body_len: Option<u64>,
    /// The client asks to speak WebSocket.
    pub websocket: Option<WebSocketAsk>,
    /// The client said `TE: trailers`.
    pub takes_trailers: bool,
    /// `OPTIONS` with `Max-Forwards: 0`: this proxy is the last to be asked (RFC 9110 §7.6.2).
    pub answer_here: bool,
}

/// How a client asks for a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebSocketAsk {
    /// HTTP/1.1 `Upgrade`, with the key that the answer must prove knowledge of.
    Upgrade(HeaderValue),
    /// Extended CONNECT of HTTP/2 (RFC 8441).
    ExtendedConnect,
}

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

/// Why a request was not taken. The origin has seen nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not a head as RFC 9112 §3 to §5 says.
    #[error("what was sent is not the head of an HTTP/1.1 request")]
    Syntax,
    /// No `Host` and no authority in the target.
    #[error("the request has no `Host`")]
    HostMissing,
    /// More than one `Host` line.
    #[error("the request has more than one `Host`")]
    HostRepeated,
    /// Not a host with an optional port.
    #[error("the value of `Host` is not a host")]
    HostInvalid,
    /// `Host` and `:authority` name different hosts.
    #[error("`Host` and `:authority` differ")]
    HostDisagrees,
    /// `Transfer-Encoding` is not one line `chunked`.
    #[error("`Transfer-Encoding` is not one line with the value `chunked`")]
    TransferEncoding,
    /// A transfer coding that is not known here, before a final `chunked`.
    #[error("a transfer coding other than `chunked` was used")]
    TransferCoding,
    /// `Transfer-Encoding` in HTTP/1.0 or HTTP/2.
    #[error("`Transfer-Encoding` belongs to HTTP/1.1 only")]
    TransferEncodingVersion,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("`Content-Length` and `Transfer-Encoding` are both there")]
    TwoLengths,
    /// `Content-Length` is not a number, or not the same number throughout.
    #[error("`Content-Length` is not one number")]
    ContentLength,
    /// The announced length is not the one that is read.
    #[error("`Content-Length` does not fit the framing of the content")]
    LengthDisagrees,
    /// A version that is not spoken here.
    #[error("the version of HTTP is not one of 1.0, 1.1 and 2")]
    Version,
    /// `CONNECT`, without RFC 8441.
    #[error("`CONNECT` is not for a reverse proxy")]
    Connect,
    /// RFC 8441 for a protocol other than `websocket`.
    #[error("extended `CONNECT` for a protocol other than `websocket`")]
    ConnectProtocol,
    /// `TRACE`, and methods that change a cache.
    #[error("the method is not allowed here")]
    MethodRefused,
    /// A method of no registry.
    #[error("the method is not known")]
    MethodUnknown,
    /// A byte that no target holds.
    #[error("the target holds a byte that must be percent-encoded")]
    TargetByte,
    /// Neither origin-form nor, for `http` and `https`, absolute-form, nor `OPTIONS *`.
    #[error("the target has a form that is not for a reverse proxy")]
    TargetForm,
    /// The target is longer than the limit.
    #[error("the target is too long")]
    TargetTooLong,
    /// The head is larger than the limit.
    #[error("the head is too large")]
    HeadTooLarge,
    /// More field lines than the limit.
    #[error("the head has too many fields")]
    TooManyFields,
    /// `Expect` is not `100-continue`.
    #[error("an expectation other than `100-continue`")]
    Expectation,
    /// `Connection` names a field that is not of one connection.
    #[error("`Connection` names a field that belongs to the whole way")]
    Nominated,
    /// `Connection` is not a list of field names.
    #[error("`Connection` is not a list of field names")]
    ConnectionSyntax,
    /// A field that HTTP/2 has no use for.
    #[error("a field that is not allowed in HTTP/2")]
    Http2Field,
    /// `Upgrade: websocket` without what RFC 6455 asks for.
    #[error("the WebSocket handshake is not complete")]
    WebSocketHandshake,
    /// `Max-Forwards` is not a number.
    #[error("`Max-Forwards` is not a number")]
    MaxForwards,
}

impl Rejection {
    /// The status that says so.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TransferCoding | Self::MethodUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::ConnectProtocol => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Syntax
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::HostDisagrees
            | Self::TransferEncoding
            | Self::TransferEncodingVersion
            | Self::TwoLengths
            | Self::ContentLength
            | Self::LengthDisagrees
            | Self::Connect
            | Self::TargetByte
            | Self::TargetForm
            | Self::Nominated
            | Self::ConnectionSyntax
            | Self::Http2Field
            | Self::WebSocketHandshake
            | Self::MaxForwards => StatusCode::BAD_REQUEST,
        }
    }

    /// A short name for logs, metrics and `Proxy-Status`; it never changes.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::HostMissing => "host-missing",
            Self::HostRepeated => "host-repeated",
            Self::HostInvalid => "host-invalid",
            Self::HostDisagrees => "host-disagrees",
            Self::TransferEncoding => "transfer-encoding",
            Self::TransferCoding => "transfer-coding",
            Self::TransferEncodingVersion => "transfer-encoding-version",
            Self::TwoLengths => "two-lengths",
            Self::ContentLength => "content-length",
            Self::LengthDisagrees => "length-disagrees",
            Self::Version => "version",
            Self::Connect => "connect",
            Self::ConnectProtocol => "connect-protocol",
            Self::MethodRefused => "method-refused",
            Self::MethodUnknown => "method-unknown",
            Self::TargetByte => "target-byte",
            Self::TargetForm => "target-form",
            Self::TargetTooLong => "target-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::Expectation => "expectation",
            Self::Nominated => "nominated",
            Self::ConnectionSyntax => "connection-syntax",
            Self::Http2Field => "http2-field",
            Self::WebSocketHandshake => "websocket-handshake",
            Self::MaxForwards => "max-forwards",
        }
    }

    /// How the one who sent it mends it.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Syntax => {
                "end lines with CR LF, write fields as `Name: value` without a space before the colon, and leave out control bytes"
            }
            Self::HostMissing => "send one `Host` with the name of the site",
            Self::HostRepeated => "send one `Host` line",
            Self::HostInvalid => {
                "send a name, an IPv4 address or an IPv6 literal in brackets, with a port if need be"
            }
            Self::HostDisagrees => "leave `Host` out in HTTP/2, or send the same in both",
            Self::TransferEncoding | Self::TransferCoding => {
                "send `Transfer-Encoding: chunked` once, or a `Content-Length`"
            }
            Self::TransferEncodingVersion => "send a `Content-Length`; HTTP/2 frames content by itself",
            Self::TwoLengths => "send either `Content-Length` or `Transfer-Encoding: chunked`",
            Self::ContentLength => "send one `Content-Length` of digits only",
            Self::LengthDisagrees => "send as many bytes as `Content-Length` says",
            Self::Version => "speak HTTP/1.1 or HTTP/2",
            Self::Connect => "send the request itself; this is no forward proxy",
            Self::ConnectProtocol => "use extended `CONNECT` for `websocket` only",
            Self::MethodRefused => "a purge goes to the admin listener; `TRACE` is not answered at all",
            Self::MethodUnknown => "use a registered method",
            Self::TargetByte => "percent-encode spaces, control bytes and everything beyond ASCII",
            Self::TargetForm => {
                "send a path that starts with `/`, without a fragment; `*` is for `OPTIONS` only"
            }
            Self::TargetTooLong => "shorten the path or the query, or raise `line_bytes` in [server.limits]",
            Self::HeadTooLarge => {
                "send fewer or smaller fields (cookies most often), or raise `head_bytes` in [server.limits]"
            }
            Self::TooManyFields => "send fewer fields, or raise `head_fields` in [server.limits]",
            Self::Expectation => "send `Expect: 100-continue`, or none",
            Self::Nominated => "name only fields of this connection in `Connection`",
            Self::ConnectionSyntax => "separate field names with commas",
            Self::Http2Field => {
                "leave out `Connection`, `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding` and `Upgrade`; `TE` may say `trailers`"
            }
            Self::WebSocketHandshake => {
                "send GET without content, `Sec-WebSocket-Version: 13` and a `Sec-WebSocket-Key` of 16 bytes in base64"
            }
            Self::MaxForwards => "send digits",
        }
    }

    /// Whether the connection can be used again: never where it is in doubt what belongs to this message.
    pub const fn closes(self) -> bool {
        !matches!(self, Self::MethodRefused | Self::MethodUnknown | Self::Expectation)
    }
}

impl From<HeadFault> for Rejection {
    fn from(fault: HeadFault) -> Self {
        match fault {
            HeadFault::Syntax => Self::Syntax,
            HeadFault::Version => Self::Version,
            HeadFault::Target => Self::TargetForm,
            HeadFault::TooManyFields => Self::TooManyFields,
            HeadFault::LineTooLong => Self::TargetTooLong,
            HeadFault::TooLarge => Self::HeadTooLarge,
        }
    }
}

/// Fields found in the one pass that are looked at, or removed, after it.
#[derive(Default)]
struct Found {
    connection: bool,
    keep_alive: bool,
    proxy_connection: bool,
    te: bool,
    transfer_encoding: u32,
    upgrade: bool,
    expect: bool,
    http2_settings: bool,
    proxy_authorization: bool,
    max_forwards: bool,
    cookies: u32,
    hosts: u32,
    content_lengths: u32,
}

/// Checks a request and leaves its end-to-end fields and an origin-form target (or `*`).
///
/// An ordinary GET costs one pass over the fields and no allocation.
pub fn check_request(
    parts: &mut http::request::Parts,
    facts: &RequestFacts,
    limits: &Limits,
) -> Result<Gated, Rejection> {
    let h2 = match parts.version {
        Version::HTTP_11 | Version::HTTP_10 => false,
        Version::HTTP_2 => true,
        _ => return Err(Rejection::Version),
    };
    let extended_connect = check_method(parts, h2)?;
    let found = scan(&parts.headers, limits)?;
    let target_authority = check_target(parts, facts, limits)?;
    let authority = check_host(&parts.headers, &found, target_authority, facts, h2)?;
    let content_length = check_content_length(&mut parts.headers, &found)?;

    let mut gated = Gated {
        authority,
        has_body: facts.body_len != Some(0),
        body_len: facts.body_len,
        websocket: extended_connect.then_some(WebSocketAsk::ExtendedConnect),
        takes_trailers: false,
        answer_here: false,
    };
    if extended_connect {
        gated.has_body = false;
    }

    if found.transfer_encoding > 0 {
        check_transfer_encoding(parts.version, &parts.headers)?;
        parts.headers.remove(header::TRANSFER_ENCODING);
    } else if let (Some(announced), Some(framed)) = (content_length, facts.body_len)
        && announced != framed
        && !extended_connect
    {
        return Err(Rejection::LengthDisagrees);
    }
    if found.expect {
        check_expect(parts)?;
    }
    if found.te {
        gated.takes_trailers = check_te(&parts.headers, h2)?;
        parts.headers.remove(header::TE);
    }
    if h2 && (found.connection || found.keep_alive || found.proxy_connection || found.upgrade) {
        // RFC 9113 §8.2.2: "Any message containing connection-specific header fields MUST be treated as malformed."
        return Err(Rejection::Http2Field);
    }
    if found.upgrade {
        gated.websocket = check_upgrade(parts, &gated)?;
        parts.headers.remove(header::UPGRADE);
    }
    if found.connection {
        remove_nominated(&mut parts.headers, Direction::Request).map_err(|fault| match fault {
            NominationFault::Syntax => Rejection::ConnectionSyntax,
            NominationFault::EndToEnd => Rejection::Nominated,
        })?;
    }
    if found.keep_alive {
        parts.headers.remove(KEEP_ALIVE);
    }
    if found.proxy_connection {
        parts.headers.remove(PROXY_CONNECTION);
    }
    if found.http2_settings {
        parts.headers.remove(HTTP2_SETTINGS);
    }
    if found.proxy_authorization {
        // RFC 9110 §11.7.2: it is for the first proxy that asks; this one never does, and its origins are not the client's proxies.
        parts.headers.remove(header::PROXY_AUTHORIZATION);
    }
    if found.max_forwards {
        gated.answer_here = check_max_forwards(parts)?;
    }
    if found.cookies > 1 {
        join_cookies(&mut parts.headers);
    }
    Ok(gated)
}

/// RFC 9113 §8.2.3: if there are several `Cookie` lines "after decompression, these MUST be concatenated into a single octet string using
/// the two-octet delimiter of 0x3b, 0x20 (the ASCII string "; ") before being passed into a non-HTTP/2 context". In HTTP/1.1 there is one
/// at most (RFC 6265 §5.4); what comes in several is read as that by keys and origins alike.
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = lines.join(&b"; "[..]);
    let joined = HeaderValue::from_bytes(&joined).expect("values joined by `; ` are a value");
    headers.insert(header::COOKIE, joined);
}

/// The one pass: sizes, and which of the special fields are there.
fn scan(headers: &HeaderMap, limits: &Limits) -> Result<Found, Rejection> {
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
            header::CONTENT_LENGTH => found.content_lengths += 1,
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

/// Says whether this is an extended CONNECT for WebSocket.
fn check_method(parts: &http::request::Parts, h2: bool) -> Result<bool, Rejection> {
    match parts.method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::PATCH
        | Method::OPTIONS => return Ok(false),
        // RFC 9110 §9.3.8: it would send cookies and authorization back into the page that asks.
        Method::TRACE => return Err(Rejection::MethodRefused),
        Method::CONNECT => {
            return match parts.extensions.get::<hyper::ext::Protocol>() {
                Some(protocol) if h2 && protocol.as_str().eq_ignore_ascii_case("websocket") => Ok(true),
                Some(_) => Err(Rejection::ConnectProtocol),
                None => Err(Rejection::Connect),
            };
        }
        _ => {}
    }
    // The IANA registry beyond RFC 9110 and 5789: WebDAV and its kin, and QUERY. A method that no registry knows may mean anything to
    // an origin, and nothing to the invalidation rules. M-SEARCH is of no registry either, but it is deployed (UPnP) and tested for.
    #[rustfmt::skip]
    let known = matches!(
        parts.method.as_str(),
        "ACL" | "BASELINE-CONTROL" | "BIND" | "CHECKIN" | "CHECKOUT" | "COPY" | "LABEL" | "LINK" | "LOCK" | "M-SEARCH" | "MERGE" | "MKACTIVITY"
            | "MKCALENDAR" | "MKCOL" | "MKREDIRECTREF" | "MKWORKSPACE" | "MOVE" | "ORDERPATCH" | "PROPFIND" | "PROPPATCH" | "QUERY"
            | "REBIND" | "REPORT" | "SEARCH" | "UNBIND" | "UNCHECKOUT" | "UNLINK" | "UNLOCK" | "UPDATE" | "UPDATEREDIRECTREF"
            | "VERSION-CONTROL"
    );
    if known {
        return Ok(false);
    }
    #[rustfmt::skip]
    let refused = matches!(
        parts.method.as_str(),
        "PURGE" | "PURGEALL" | "PURGEKEYS" | "SOFTPURGE" | "BAN" | "BANURL" | "REFRESH" | "INVALIDATE" | "XKEY" | "TRACK" | "DEBUG" | "PRI"
    );
    Err(if refused { Rejection::MethodRefused } else { Rejection::MethodUnknown })
}

/// Checks the target and leaves its path and query, or `*`. Yields the authority of an absolute target or of HTTP/2.
fn check_target(
    parts: &mut http::request::Parts,
    facts: &RequestFacts,
    limits: &Limits,
) -> Result<Option<Authority>, Rejection> {
    let target = parts.uri.path_and_query();
    let target_len = target.map_or(0, |target| target.as_str().len());
    // RFC 9112 §3: method, two spaces and `HTTP/1.1` share the line with the target.
    if target_len + parts.method.as_str().len() + 10 > limits.line_bytes {
        return Err(Rejection::TargetTooLong);
    }
    if target.is_some_and(|target| !target.as_str().bytes().all(|byte| matches!(byte, 0x21..=0x7e))) {
        return Err(Rejection::TargetByte);
    }
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(Rejection::TargetForm);
    }
    let (Some(scheme), Some(authority)) = (parts.uri.scheme(), parts.uri.authority()) else {
        // A target with an authority alone is the form of CONNECT (RFC 9112 §3.2.3); without either it is a path or `*`.
        if parts.uri.authority().is_some() || parts.uri.scheme().is_some() || target.is_none() {
            return Err(Rejection::TargetForm);
        }
        let path = parts.uri.path().as_bytes();
        return if path.first() == Some(&b'/') || path == b"*" {
            Ok(None)
        } else {
            Err(Rejection::TargetForm)
        };
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(Rejection::TargetForm);
    }
    let authority = Authority::from_target(authority, facts.tls).ok_or(Rejection::HostInvalid)?;
    // RFC 9112 §3.2.1: "If the target URI's path component is empty, the client MUST send "/" as the path".
    let path_and_query = match std::mem::take(&mut parts.uri).into_parts().path_and_query {
        None => PathAndQuery::from_static("/"),
        Some(target) if target.as_str().starts_with('?') => {
            PathAndQuery::try_from(target.to_string()).map_err(|_| Rejection::TargetForm)?
        }
        Some(target) if target.as_str().is_empty() => PathAndQuery::from_static("/"),
        Some(target) => target,
    };
    let text = path_and_query.as_str();
    if !text.starts_with('/') && text != "*" {
        return Err(Rejection::TargetForm);
    }
    parts.uri = Uri::from(path_and_query);
    Ok(Some(authority))
}

fn check_host(
    headers: &HeaderMap,
    found: &Found,
    target_authority: Option<Authority>,
    facts: &RequestFacts,
    h2: bool,
) -> Result<Authority, Rejection> {
    // RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host
    // header field and to any request message that contains more than one Host header field line or a Host header field with an
    // invalid field value."
    if found.hosts > 1 {
        return Err(Rejection::HostRepeated);
    }
    let host = match headers.get(header::HOST) {
        Some(value) => Some(Authority::from_field(value, facts.tls).ok_or(Rejection::HostInvalid)?),
        None => None,
    };
    match (target_authority, host) {
        (None, None) => Err(Rejection::HostMissing),
        (None, Some(host)) => Ok(host),
        (Some(target), None) if h2 => Ok(target),
        (Some(_), None) => Err(Rejection::HostMissing),
        // RFC 9113 §8.3.1: "A server SHOULD treat a request as malformed if it contains a Host header field that identifies an entity
        // that differs from the entity in the ":authority" pseudo-header field."
        (Some(target), Some(host)) if h2 && target != host => Err(Rejection::HostDisagrees),
        // RFC 9112 §3.2.2: "When an origin server receives a request with an absolute-form of request-target, the origin server MUST
        // ignore the received Host header field (if any) and instead use the host information of the request-target."
        (Some(target), Some(_)) => Ok(target),
    }
}

fn check_content_length(headers: &mut HeaderMap, found: &Found) -> Result<Option<u64>, Rejection> {
    if found.content_lengths == 0 {
        return Ok(None);
    }
    if found.transfer_encoding > 0 {
        return Err(Rejection::TwoLengths);
    }
    let length = one_length(headers).ok_or(Rejection::ContentLength)?;
    if found.content_lengths > 1 {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Some(length))
}

/// RFC 9110 §8.6: identical lines are one; a list, a sign or an overflow is none.
pub(crate) fn one_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths =
        headers.get_all(header::CONTENT_LENGTH).iter().map(|value| parse_length(value.as_bytes()));
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

fn parse_length(digits: &[u8]) -> Option<u64> {
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

fn check_expect(parts: &mut http::request::Parts) -> Result<(), Rejection> {
    let mut lines = parts.headers.get_all(header::EXPECT).iter();
    let met = lines.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && lines.next().is_none();
    // RFC 9110 §10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation."
    if !met && parts.version != Version::HTTP_10 {
        return Err(Rejection::Expectation);
    }
    parts.headers.remove(header::EXPECT);
    Ok(())
}

/// Whether the client takes trailers.
fn check_te(headers: &HeaderMap, h2: bool) -> Result<bool, Rejection> {
    let mut trailers = false;
    for value in headers.get_all(header::TE) {
        let says_trailers = value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        // RFC 9113 §8.2.2: TE "MAY be present in an HTTP/2 request; when it is, it MUST NOT contain any value other than "trailers"".
        if h2 && !value.as_bytes().eq_ignore_ascii_case(b"trailers") {
            return Err(Rejection::Http2Field);
        }
        trailers |= says_trailers;
    }
    Ok(trailers)
}

/// Takes `Upgrade: websocket` with all that RFC 6455 §4.1 asks for. Every other protocol is not heard: RFC 9110 §7.8 "A server MAY
/// ignore a received Upgrade header field"; `h2c` above all.
fn check_upgrade(parts: &http::request::Parts, gated: &Gated) -> Result<Option<WebSocketAsk>, Rejection> {
    let mut lines = parts.headers.get_all(header::UPGRADE).iter();
    let websocket = lines.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && lines.next().is_none();
    let nominated = parts.headers.get_all(header::CONNECTION).iter().any(|line| has_token(line, b"upgrade"));
    if !websocket || !nominated || parts.version != Version::HTTP_11 {
        return Ok(None);
    }
    let mut keys = parts.headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|key| keys.next().is_none() && is_websocket_key(key.as_bytes()));
    let mut versions = parts.headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    let version =
        versions.next().is_some_and(|version| version.as_bytes() == b"13") && versions.next().is_none();
    match key {
        Some(key) if version && parts.method == Method::GET && !gated.has_body => {
            Ok(Some(WebSocketAsk::Upgrade(key.clone())))
        }
        _ => Err(Rejection::WebSocketHandshake),
    }
}

/// RFC 6455 §4.1: "a randomly selected 16-byte value that has been base64-encoded": 22 characters and two equal signs.
fn is_websocket_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Counts one forwarding; true where none is left and the method is `OPTIONS`.
fn check_max_forwards(parts: &mut http::request::Parts) -> Result<bool, Rejection> {
    // RFC 9110 §7.6.2: "A recipient MAY ignore a Max-Forwards header field received with any other request method."
    if parts.method != Method::OPTIONS {
        return Ok(false);
    }
    let mut lines = parts.headers.get_all(header::MAX_FORWARDS).iter();
    let left = lines.next().and_then(|value| parse_length(value.as_bytes())).ok_or(Rejection::MaxForwards)?;
    if lines.next().is_some() {
        return Err(Rejection::MaxForwards);
    }
    let Some(less) = left.checked_sub(1) else { return Ok(true) };
    parts.headers.insert(header::MAX_FORWARDS, HeaderValue::from(less));
    Ok(false)
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

/// What is wrong with a `Connection` field.
enum NominationFault {
    Syntax,
    EndToEnd,
}

/// Removes `Connection` and the fields that it names (RFC 9110 §7.6.1).
fn remove_nominated(headers: &mut HeaderMap, direction: Direction) -> Result<(), NominationFault> {
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
fn is_end_to_end(name: &HeaderName, direction: Direction) -> bool {
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
    /// Reads it off the request that goes out.
    pub fn of(method: &Method, has: impl Fn(HeaderName) -> bool) -> Self {
        Self {
            head: method == Method::HEAD,
            conditional: has(header::IF_NONE_MATCH) || has(header::IF_MODIFIED_SINCE),
            range: has(header::RANGE),
            upgrade: has(header::UPGRADE),
        }
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
        if found.content_lengths > 0 {
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
    if found.content_lengths > 0 {
        let length = one_length(&parts.headers).ok_or(ResponseFault::ContentLength)?;
        if status == StatusCode::NO_CONTENT || status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §8.6: "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204."
            close_after |= length != 0;
            parts.headers.remove(header::CONTENT_LENGTH);
        } else if found.content_lengths > 1 {
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

/// `Via` for a message that was received in this version (RFC 9110 §7.6.3).
pub fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 weir",
        Version::HTTP_2 => "2 weir",
        _ => "1.1 weir",
    })
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
    use http::{Request, Response};

    use super::*;

    const TLS: bool = true;
    const CLEAR: bool = false;

    /// A head as hyper would have parsed it: the first line, then fields.
    fn request(line: &str, fields: &[(&str, &str)]) -> http::request::Parts {
        let mut words = line.split(' ');
        let (method, target, version) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or("HTTP/1.1"));
        let version = match version {
            "HTTP/1.0" => Version::HTTP_10,
            "HTTP/2" => Version::HTTP_2,
            "HTTP/3" => Version::HTTP_3,
            _ => Version::HTTP_11,
        };
        let mut request = Request::builder().method(method).uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn gate(
        line: &str,
        fields: &[(&str, &str)],
        body_len: Option<u64>,
    ) -> Result<(Gated, HeaderMap, String), Rejection> {
        let mut parts = request(line, fields);
        let facts = RequestFacts { tls: CLEAR, body_len };
        let gated = check_request(&mut parts, &facts, &Limits::default())?;
        Ok((gated, parts.headers, parts.uri.to_string()))
    }

    #[test]
    fn an_ordinary_get_passes_as_it_is() {
        let fields = [("host", "shop.example"), ("accept", "*/*"), ("cookie", "a=b")];
        let (gated, headers, target) = gate("GET /a?b=c", &fields, Some(0)).unwrap();
        assert_eq!((gated.authority.as_str(), target.as_str(), headers.len()), ("shop.example", "/a?b=c", 3));
        assert!(!gated.has_body && gated.websocket.is_none());
    }

    #[test]
    fn section_3_2_one_valid_host() {
        use Rejection as R;
        #[rustfmt::skip]
        let cases = [
            // what                          request line                          Host lines                   authority
            ("missing",                      "GET /",                              vec![],                      Err(R::HostMissing)),
            ("missing in HTTP/1.0",          "GET / HTTP/1.0",                     vec![],                      Err(R::HostMissing)),
            ("twice",                        "GET /",                              vec!["a.example", "a.example"], Err(R::HostRepeated)),
            ("empty",                        "GET /",                              vec![""],                    Err(R::HostInvalid)),
            ("a list",                       "GET /",                              vec!["a.example, b.example"], Err(R::HostInvalid)),
            ("user info",                    "GET /",                              vec!["u@a.example"],         Err(R::HostInvalid)),
            ("a path",                       "GET /",                              vec!["a.example/x"],         Err(R::HostInvalid)),
            ("a space",                      "GET /",                              vec!["a example"],           Err(R::HostInvalid)),
            ("percent-encoding",             "GET /",                              vec!["a%2eexample"],         Err(R::HostInvalid)),
            ("port zero",                    "GET /",                              vec!["a.example:0"],         Err(R::HostInvalid)),
            ("port too high",                "GET /",                              vec!["a.example:65536"],     Err(R::HostInvalid)),
            ("port signed",                  "GET /",                              vec!["a.example:+80"],       Err(R::HostInvalid)),
            ("two ports",                    "GET /",                              vec!["a.example:80:80"],     Err(R::HostInvalid)),
            ("a port and no host",           "GET /",                              vec![":80"],                 Err(R::HostInvalid)),
            ("IPv6 without brackets",        "GET /",                              vec!["::1"],                 Err(R::HostInvalid)),
            ("IPv6 with a zone",             "GET /",                              vec!["[fe80::1%25eth0]"],    Err(R::HostInvalid)),
            ("lower-cased",                  "GET /",                              vec!["Shop.Example"],        Ok("shop.example")),
            ("the default port is dropped",  "GET /",                              vec!["a.example:80"],        Ok("a.example")),
            ("and so is an empty one",       "GET /",                              vec!["a.example:"],          Ok("a.example")),
            ("leading zeros are dropped",    "GET /",                              vec!["a.example:0080"],      Ok("a.example")),
            ("another port is kept",         "GET /",                              vec!["a.example:8080"],      Ok("a.example:8080")),
            ("the other scheme's is kept",   "GET /",                              vec!["a.example:443"],       Ok("a.example:443")),
            ("an IPv6 literal",              "GET /",                              vec!["[2001:DB8::1]:80"],    Ok("[2001:db8::1]")),
            ("an underscore",                "GET /",                              vec!["my_app:3000"],         Ok("my_app:3000")),
            ("absolute-form replaces Host",  "GET http://b.example/x",             vec!["a.example"],           Ok("b.example")),
            ("absolute-form needs Host",     "GET http://b.example/x",             vec![],                      Err(R::HostMissing)),
            ("HTTP/2 needs no Host",         "GET http://b.example/x HTTP/2",      vec![],                      Ok("b.example")),
            ("HTTP/2, both the same",        "GET http://b.example/x HTTP/2",      vec!["B.example:80"],        Ok("b.example")),
            ("HTTP/2, both different",       "GET http://b.example/x HTTP/2",      vec!["a.example"],           Err(R::HostDisagrees)),
        ];
        for (what, line, hosts, expected) in cases {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let authority = gate(line, &fields, Some(0)).map(|(gated, ..)| gated.authority.to_string());
            assert_eq!(authority, expected.map(str::to_owned), "{what}");
        }
    }

    #[test]
    fn section_3_targets() {
        use Rejection as R;
        let long = format!("GET /{}", "x".repeat(8200));
        #[rustfmt::skip]
        let cases = [
            // what                          request line                                expected
            ("a path",                       "GET /a/../b//c;d?e=%2f",                   Ok("/a/../b//c;d?e=%2f")),
            ("absolute-form",                "GET http://a.example/b?c",                 Ok("/b?c")),
            ("absolute-form, empty path",    "GET http://a.example",                     Ok("/")),
            ("absolute-form, query only",    "GET http://a.example?b",                   Ok("/?b")),
            ("absolute-form, other scheme",  "GET ftp://a.example/",                     Err(R::TargetForm)),
            ("absolute-form, user info",     "GET http://u:p@a.example/",                Err(R::HostInvalid)),
            ("authority-form",               "GET a.example:80",                         Err(R::TargetForm)),
            ("asterisk with GET",            "GET *",                                    Err(R::TargetForm)),
            ("asterisk with OPTIONS",        "OPTIONS *",                                Ok("*")),
            ("bytes beyond ASCII",           "GET /\u{e4}",                              Err(R::TargetByte)),
            ("CONNECT",                      "CONNECT a.example:443",                    Err(R::Connect)),
            ("TRACE",                        "TRACE /",                                  Err(R::MethodRefused)),
            ("PURGE",                        "PURGE /",                                  Err(R::MethodRefused)),
            ("BAN",                          "BAN /",                                    Err(R::MethodRefused)),
            ("WebDAV",                       "PROPFIND /",                               Ok("/")),
            ("QUERY",                        "QUERY /",                                  Ok("/")),
            ("lower case is another method", "get /",                                    Err(R::MethodUnknown)),
            ("nobody's method",              "FROBNICATE /",                             Err(R::MethodUnknown)),
            ("HTTP/3",                       "GET / HTTP/3",                             Err(R::Version)),
            ("too long",                     &long,                                      Err(R::TargetTooLong)),
        ];
        for (what, line, expected) in cases {
            let target = gate(line, &[("host", "a.example")], Some(0)).map(|(.., target)| target);
            assert_eq!(target, expected.map(str::to_owned), "{what}");
        }
    }

    #[test]
    fn section_6_3_one_length() {
        use Rejection as R;
        #[rustfmt::skip]
        let cases = [
            // what                     request line         fields                                                            framed    taken
            ("one length",              "POST /",            vec![("content-length", "5")],                                    Some(5),  Ok(())),
            ("identical repeats",       "POST /",            vec![("content-length", "5"), ("content-length", "5")],           Some(5),  Ok(())),
            ("different repeats",       "POST /",            vec![("content-length", "5"), ("content-length", "6")],           Some(5),  Err(R::ContentLength)),
            ("a list",                  "POST /",            vec![("content-length", "5, 5")],                                 Some(5),  Err(R::ContentLength)),
            ("a sign",                  "POST /",            vec![("content-length", "+5")],                                   Some(5),  Err(R::ContentLength)),
            ("empty",                   "POST /",            vec![("content-length", "")],                                     Some(0),  Err(R::ContentLength)),
            ("overflow",                "POST /",            vec![("content-length", "18446744073709551616")],                 Some(0),  Err(R::ContentLength)),
            ("not what is framed",      "POST /",            vec![("content-length", "5")],                                    Some(4),  Err(R::LengthDisagrees)),
            ("chunked",                 "POST /",            vec![("transfer-encoding", "chunked")],                           None,     Ok(())),
            ("chunked, upper case",     "POST /",            vec![("transfer-encoding", "Chunked")],                           None,     Ok(())),
            ("both lengths",            "POST /",            vec![("transfer-encoding", "chunked"), ("content-length", "5")],  None,     Err(R::TwoLengths)),
            ("chunked twice",           "POST /",            vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], None, Err(R::TransferEncoding)),
            ("a list of chunked",       "POST /",            vec![("transfer-encoding", "chunked, chunked")],                  None,     Err(R::TransferEncoding)),
            ("not chunked last",        "POST /",            vec![("transfer-encoding", "chunked, gzip")],                     None,     Err(R::TransferEncoding)),
            ("identity",                "POST /",            vec![("transfer-encoding", "identity")],                          None,     Err(R::TransferEncoding)),
            ("quoted",                  "POST /",            vec![("transfer-encoding", "\"chunked\"")],                       None,     Err(R::TransferEncoding)),
            ("a parameter",             "POST /",            vec![("transfer-encoding", "chunked;q=1")],                       None,     Err(R::TransferEncoding)),
            ("a tab before it",         "POST /",            vec![("transfer-encoding", "\tchunked")],                         None,     Err(R::TransferEncoding)),
            ("another coding first",    "POST /",            vec![("transfer-encoding", "gzip, chunked")],                     None,     Err(R::TransferCoding)),
            ("in HTTP/1.0",             "POST / HTTP/1.0",   vec![("transfer-encoding", "chunked")],                           None,     Err(R::TransferEncodingVersion)),
            ("in HTTP/2",               "POST http://a.example/ HTTP/2", vec![("transfer-encoding", "chunked")],               None,     Err(R::TransferEncodingVersion)),
        ];
        for (what, line, mut fields, framed, expected) in cases {
            fields.push(("host", "a.example"));
            let outcome = gate(line, &fields, framed);
            if let Ok((_, headers, _)) = &outcome {
                assert!(headers.get_all("content-length").iter().count() <= 1, "{what}");
                assert!(!headers.contains_key("transfer-encoding"), "{what}");
            }
            assert_eq!(outcome.map(|_| ()), expected, "{what}");
        }
    }

    #[test]
    fn section_7_6_1_fields_of_one_connection_go_no_further() {
        use Rejection as R;
        #[rustfmt::skip]
        let cases = [
            // what                             fields                                                                       left over
            ("known ones",                      vec![("connection", "keep-alive"), ("keep-alive", "1"), ("proxy-connection", "x")], Ok(vec![])),
            ("a nominated one",                 vec![("connection", "close, X-Trace"), ("x-trace", "1"), ("x-other", "2")],  Ok(vec!["x-other"])),
            ("over two lines",                  vec![("connection", "x-a"), ("connection", "X-B"), ("x-a", "1"), ("x-b", "2")], Ok(vec![])),
            ("TE and its trailers",             vec![("te", "trailers"), ("connection", "TE")],                              Ok(vec![])),
            ("h2c is not heard",                vec![("upgrade", "h2c"), ("http2-settings", "AAMAAABk"), ("connection", "Upgrade, HTTP2-Settings")], Ok(vec![])),
            ("credentials for a proxy",         vec![("proxy-authorization", "Basic x")],                                    Ok(vec![])),
            ("an expectation",                  vec![("expect", "100-Continue")],                                            Ok(vec![])),
            ("another expectation",             vec![("expect", "200-ok")],                                                  Err(R::Expectation)),
            ("nominating Host",                 vec![("connection", "host")],                                                Err(R::Nominated)),
            ("nominating Cookie",               vec![("connection", "Cookie")],                                              Err(R::Nominated)),
            ("nominating Authorization",        vec![("connection", "close, authorization")],                                Err(R::Nominated)),
            ("nominating Content-Length",       vec![("connection", "content-length")],                                      Err(R::Nominated)),
            ("nominating Cache-Control",        vec![("connection", "cache-control")],                                       Err(R::Nominated)),
            ("nominating what the proxy sets",  vec![("connection", "X-Forwarded-For")],                                     Err(R::Nominated)),
            ("nominating what is no name",      vec![("connection", "a b")],                                                 Err(R::ConnectionSyntax)),
        ];
        for (what, mut fields, expected) in cases {
            fields.push(("host", "a.example"));
            let left = gate("GET /", &fields, Some(0)).map(|(_, headers, _)| {
                headers.keys().filter(|name| *name != "host").map(ToString::to_string).collect::<Vec<_>>()
            });
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(left, expected, "{what}");
        }
    }

    #[test]
    fn section_8_2_2_http2_has_no_fields_of_a_connection() {
        for field in [
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
        ] {
            assert_eq!(
                gate("GET http://a.example/ HTTP/2", &[field], Some(0)).unwrap_err(),
                Rejection::Http2Field,
                "{field:?}"
            );
        }
        assert!(gate("GET http://a.example/ HTTP/2", &[("te", "trailers")], Some(0)).is_ok());
    }

    #[test]
    fn rfc_6455_section_4_1_a_websocket_handshake() {
        const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        const VERSION: (&str, &str) = ("sec-websocket-version", "13");
        const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
        const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");
        let asked = Some(WebSocketAsk::Upgrade(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")));
        let bad = Err(Rejection::WebSocketHandshake);
        #[rustfmt::skip]
        let cases = [
            // what                       line       fields                                                                     expected
            ("complete",                  "GET /",   vec![KEY, VERSION, UPGRADE, CONNECTION],                                   Ok(asked)),
            ("not nominated",             "GET /",   vec![KEY, VERSION, UPGRADE],                                               Ok(None)),
            ("another protocol",          "GET /",   vec![KEY, VERSION, ("upgrade", "h2c"), CONNECTION],                        Ok(None)),
            ("two protocols",             "GET /",   vec![KEY, VERSION, ("upgrade", "websocket, h2c"), CONNECTION],             Ok(None)),
            ("no key",                    "GET /",   vec![VERSION, UPGRADE, CONNECTION],                                        bad.clone()),
            ("a short key",               "GET /",   vec![("sec-websocket-key", "dGhl"), VERSION, UPGRADE, CONNECTION],         bad.clone()),
            ("an old version",            "GET /",   vec![KEY, ("sec-websocket-version", "8"), UPGRADE, CONNECTION],            bad.clone()),
            ("POST",                      "POST /",  vec![KEY, VERSION, UPGRADE, CONNECTION],                                   bad),
        ];
        for (what, line, mut fields, expected) in cases {
            fields.push(("host", "a.example"));
            let asked = gate(line, &fields, Some(0)).map(|(gated, headers, _)| {
                assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"), "{what}");
                gated.websocket
            });
            assert_eq!(asked, expected, "{what}");
        }
    }

    #[test]
    fn rfc_8441_extended_connect_is_for_websocket_only() {
        for (protocol, expected) in [
            ("websocket", Ok(Some(WebSocketAsk::ExtendedConnect))),
            ("connect-udp", Err(Rejection::ConnectProtocol)),
        ] {
            let mut parts = request("CONNECT https://a.example/chat?x HTTP/2", &[]);
            parts.extensions.insert(hyper::ext::Protocol::from(protocol));
            let facts = RequestFacts { tls: TLS, body_len: None };
            let gated = check_request(&mut parts, &facts, &Limits::default());
            assert_eq!(gated.map(|gated| gated.websocket), expected, "{protocol}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let limits = Limits { head_fields: 3, head_bytes: 100, ..Limits::default() };
        let facts = RequestFacts { tls: CLEAR, body_len: Some(0) };
        let check = |fields: &[(&str, &str)]| {
            check_request(&mut request("GET /", fields), &facts, &limits).map(|_| ())
        };
        let large = "x".repeat(90);
        assert_eq!(
            check(&[("host", "a"), ("a", "1"), ("b", "2"), ("c", "3")]),
            Err(Rejection::TooManyFields)
        );
        assert_eq!(check(&[("host", "a"), ("a", &large)]), Err(Rejection::HeadTooLarge));
    }

    #[test]
    fn max_forwards_counts_down_for_options() {
        let (gated, headers, _) =
            gate("OPTIONS /", &[("host", "a"), ("max-forwards", "3")], Some(0)).unwrap();
        assert_eq!((gated.answer_here, &headers["max-forwards"]), (false, &HeaderValue::from_static("2")));
        let (gated, ..) = gate("OPTIONS /", &[("host", "a"), ("max-forwards", "0")], Some(0)).unwrap();
        assert!(gated.answer_here);
    }

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

    proptest::proptest! {
        #[test]
        fn whatever_passes_has_one_meaning(
            target in "(/|\\*|http://[a-zA-Z0-9.:@]{0,12}/)[!-~]{0,20}",
            fields in proptest::collection::vec(
                ("host|content-length|transfer-encoding|connection|te|upgrade|expect|x-a", "[ -~]{0,16}|chunked|5|a\\.example"), 0..6),
            framed in proptest::option::of(0_u64..10),
        ) {
            let Ok(target) = target.parse::<Uri>() else { return Ok(()) };
            let mut parts = request("POST /", &[]);
            parts.uri = target;
            for (name, value) in &fields {
                parts.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            let facts = RequestFacts { tls: CLEAR, body_len: framed };
            if let Ok(gated) = check_request(&mut parts, &facts, &Limits::default()) {
                proptest::prop_assert!(parts.headers.get_all("host").iter().count() <= 1);
                proptest::prop_assert!(parts.headers.get_all("content-length").iter().count() <= 1);
                proptest::prop_assert!(!parts.headers.keys().any(|name| is_hop_by_hop(name)
                    && name != "host" && name != "content-length"));
                proptest::prop_assert!(parts.uri.scheme().is_none() && parts.uri.authority().is_none());
                // The normal form is its own normal form.
                let again = Authority::from_field(&gated.authority.to_value(), CLEAR).unwrap();
                proptest::prop_assert_eq!(again.as_str(), gated.authority.as_str());
            }
        }
    }
}
