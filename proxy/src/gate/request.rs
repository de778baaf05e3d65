//! Requests: one length, one target, one authority.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Version};

use super::connection::{
    Direction, HTTP2_SETTINGS, KEEP_ALIVE, NominationFault, PROXY_CONNECTION, has_token, remove_nominated,
};
use super::framing::{Found, check_transfer_encoding, parse_length, scan};
use super::{Authority, Rejection};
use crate::config::model::Limits;

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
        let body_len = match body.size_hint().exact() {
            _ if body.is_end_stream() => Some(0),
            // HTTP/2 may announce nothing and send something. Whether it does is known at the end of the stream.
            Some(0) => None,
            length => length,
        };
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
    if found.lengths.lines() == 0 {
        return Ok(None);
    }
    if found.transfer_encoding > 0 {
        return Err(Rejection::TwoLengths);
    }
    let length = found.lengths.one().ok_or(Rejection::ContentLength)?;
    if found.lengths.lines() > 1 {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Some(length))
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

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::HeaderName;

    use super::super::is_hop_by_hop;
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
