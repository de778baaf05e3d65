//! Why a request goes no further.

use http::StatusCode;

use crate::http1::head::HeadFault;

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
