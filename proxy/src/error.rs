//! What goes wrong with a request, whose fault it is, and the one function from an error to an answer.
//!
//! An answer made here is never stored by anyone, says in `Proxy-Status` (RFC 9209) what happened, and is a problem (RFC 9457) or, for
//! a client that prefers it, a small page. It names no server of the operator's: that is for the log.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode, Version};

use crate::body::{Body, BodyError};
use crate::gate::{PSEUDONYM, Rejection, ResponseFault};
use crate::limit::{Refused, Why};
use crate::metrics::Limit;
use crate::origin::{OriginError, OriginFailure};

/// Why a request was not answered as it was meant.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProxyError {
    /// The gate did not take it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No route takes it.
    #[error("no route takes this request")]
    NoRoute,
    /// The path can be read in several ways, which select different routes.
    #[error("the path is ambiguous: how it is read decides about its route")]
    AmbiguousPath,
    /// The route does not pass WebSockets on.
    #[error("this route does not pass WebSockets on")]
    WebSocketNotAllowed,
    /// The content is larger than the route allows.
    #[error("the content of the request exceeds {limit} bytes")]
    ContentTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The content of the request came too slowly.
    #[error("the content of the request came too slowly")]
    ContentTooSlow,
    /// The content of the request broke off or was malformed.
    #[error("the content of the request is broken")]
    ContentBroken,
    /// `Cache-Control: only-if-cached`, and nothing stored may be used (RFC 9111 §5.2.1.7).
    #[error("nothing stored may be used, and the request allows nothing else")]
    OnlyIfCached,
    /// Redis cannot be asked, and the cache serves nothing without it.
    #[error("redis cannot be asked, and nothing is served without it")]
    RedisFailed,
    /// The origin failed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The fill that this request waited for was given up.
    #[error("the fill was given up")]
    FillEnded,
    /// A limit of the operator's lets it not pass.
    #[error("{}", told_of_limit(.0))]
    Limited(Box<Refused>),
    /// Somebody else has changed the session, and the origin asked to be refused then.
    #[error("the session was changed by another request")]
    SessionConflict,
    /// No store has taken what the origin wants saved.
    #[error("the session could not be saved")]
    SessionLost,
    /// Nobody can tell which cookies of the client's are kept.
    #[error("the cookies that are kept for this client cannot be looked up, or not be saved")]
    VaultUnavailable,
    /// More work than the limits allow.
    #[error("the proxy is at its limits")]
    Overloaded,
    /// The proxy is stopping.
    #[error("the proxy is stopping")]
    Stopping,
    /// A plugin failed, and the operator wants no answer without it.
    #[error("a plugin failed")]
    PluginFailed,
    /// What cannot happen, did.
    #[error("the proxy failed: {what}")]
    Internal {
        /// The invariant that does not hold.
        what: &'static str,
    },
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client's.
    Client,
    /// The origin's.
    Origin,
    /// The proxy's, or its operator's.
    Proxy,
}

impl Fault {
    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Origin => "origin",
            Self::Proxy => "proxy",
        }
    }
}

/// To whom an error is told.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The version spoken.
    pub version: Version,
    /// The request's `Accept`.
    pub accept: Option<&'a HeaderValue>,
}

/// All that an error means on the wire.
struct Told {
    status: StatusCode,
    fault: Fault,
    /// The error type of RFC 9209 §2.3.
    proxy_error: &'static str,
    /// A short name that never changes.
    code: &'static str,
    /// What the one at fault can do.
    help: &'static str,
    /// Whether an HTTP/1 connection ends with this answer.
    close: bool,
    /// Seconds after which trying again makes sense.
    retry_after_s: Option<u32>,
}

impl From<BodyError> for ProxyError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Client(_) => Self::ContentBroken,
            BodyError::TooLarge { limit } => Self::ContentTooLarge { limit },
            BodyError::Idle => Self::ContentTooSlow,
            BodyError::Origin(_) => Self::Origin(OriginFailure::Closed.into()),
            BodyError::FillEnded => Self::FillEnded,
        }
    }
}

impl ProxyError {
    /// Which limit it ran into, if that is what happened.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Rejected(Rejection::TargetTooLong) => Some(Limit::Line),
            Self::Rejected(Rejection::HeadTooLarge | Rejection::TooManyFields) => Some(Limit::HeadSize),
            Self::ContentTooLarge { .. } => Some(Limit::BodySize),
            Self::Origin(error) => match error.failure {
                OriginFailure::ContentTooLarge { .. } => Some(Limit::BodySize),
                OriginFailure::QueueFull | OriginFailure::QueueTimeout => Some(Limit::OriginQueue),
                OriginFailure::Answer(ResponseFault::TooManyInterim) => Some(Limit::Interim),
                _ => None,
            },
            _ => None,
        }
    }

    /// The status that the client sees.
    pub fn status(&self) -> StatusCode {
        self.told().status
    }

    /// Whose fault it was.
    pub fn fault(&self) -> Fault {
        self.told().fault
    }

    /// A short name for logs and metrics; it never changes.
    pub fn code(&self) -> &'static str {
        self.told().code
    }

    /// What the one at fault can do: the client where it was the client's, else the operator.
    pub fn help(&self) -> &'static str {
        self.told().help
    }

    /// The one exhaustive match.
    fn told(&self) -> Told {
        use Fault::{Client, Origin, Proxy};
        let told = |status, fault, proxy_error, code, help| Told {
            status,
            fault,
            proxy_error,
            code,
            help,
            close: false,
            retry_after_s: None,
        };
        let closing = |told: Told| Told { close: true, ..told };
        let later = |seconds, told: Told| Told { retry_after_s: Some(seconds), ..told };
        match self {
            Self::Rejected(rejection) => Told {
                close: rejection.closes(),
                ..told(rejection.status(), Client, "http_request_error", rejection.id(), rejection.help())
            },
            Self::NoRoute => told(
                StatusCode::NOT_FOUND,
                Client,
                "destination_not_found",
                "no-route",
                "add a [[route]] that takes this host and path",
            ),
            Self::AmbiguousPath => told(
                StatusCode::BAD_REQUEST,
                Client,
                "http_request_error",
                "ambiguous-path",
                "send the path without dot segments, doubled slashes and encoded slashes or dots",
            ),
            Self::WebSocketNotAllowed => closing(told(
                StatusCode::FORBIDDEN,
                Client,
                "http_request_denied",
                "websocket-not-allowed",
                "say `websocket = true` on the route",
            )),
            Self::ContentTooLarge { .. } => closing(told(
                StatusCode::PAYLOAD_TOO_LARGE,
                Client,
                "http_request_error",
                "content-too-large",
                "send less, or raise `body_bytes` on the route",
            )),
            Self::ContentTooSlow => closing(told(
                StatusCode::REQUEST_TIMEOUT,
                Client,
                "http_request_error",
                "content-too-slow",
                "send faster, or raise `idle_timeout` in [server.limits]",
            )),
            Self::ContentBroken => closing(told(
                StatusCode::BAD_REQUEST,
                Client,
                "http_request_error",
                "content-broken",
                "send as many bytes as announced, and chunks as RFC 9112 §7.1 frames them",
            )),
            Self::OnlyIfCached => told(
                StatusCode::GATEWAY_TIMEOUT,
                Client,
                "http_request_denied",
                "only-if-cached",
                "leave out `only-if-cached`",
            ),
            Self::RedisFailed => later(
                1,
                told(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Proxy,
                    "destination_unavailable",
                    "redis-failed",
                    "see `/status` for what is wrong with Redis, or write `on_redis_error = \"ignore\"`",
                ),
            ),
            Self::Origin(error) => Self::told_of_origin(error.failure),
            Self::FillEnded => told(
                StatusCode::BAD_GATEWAY,
                Origin,
                "http_response_incomplete",
                "fill-ended",
                "see the log for why the fill was given up",
            ),
            Self::Limited(refused) => Self::told_of_refused(refused),
            Self::SessionConflict => told(
                StatusCode::CONFLICT,
                Client,
                "http_request_denied",
                "session-conflict",
                "read what there is now, and try again",
            ),
            Self::SessionLost => later(
                1,
                told(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Proxy,
                    "proxy_internal_response",
                    "session-not-saved",
                    "bring back the Redis of [session], or add [data]",
                ),
            ),
            Self::VaultUnavailable => later(
                1,
                told(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Proxy,
                    "proxy_internal_response",
                    "vault-unavailable",
                    "bring back the Redis of [session], or add [data]",
                ),
            ),
            Self::Overloaded => later(
                1,
                told(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Proxy,
                    "connection_limit_reached",
                    "overloaded",
                    "raise the limit that the log names, or add machines",
                ),
            ),
            Self::Stopping => closing(later(
                1,
                told(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Proxy,
                    "proxy_internal_response",
                    "stopping",
                    "ask again: another process has the listener by then",
                ),
            )),
            Self::PluginFailed => told(
                StatusCode::SERVICE_UNAVAILABLE,
                Proxy,
                "proxy_internal_error",
                "plugin-failed",
                "see the log for how the plugin failed; `on_failure` of `[plugin.NAME]` says what is done then",
            ),
            Self::Internal { .. } => closing(told(
                StatusCode::INTERNAL_SERVER_ERROR,
                Proxy,
                "proxy_internal_error",
                "internal",
                "please report this with the line of the log",
            )),
        }
    }

    /// RFC 6585 §4: 429 for too many in a time. Too many at once is no fault of this one request: 503.
    fn told_of_refused(refused: &Refused) -> Told {
        let (status, fault, code, help) = match refused.why {
            Why::Rate => (
                StatusCode::TOO_MANY_REQUESTS,
                Fault::Client,
                "rate-limited",
                "send fewer requests: `RateLimit` says how many may pass, `Retry-After` when to come back",
            ),
            Why::AtOnce => (
                StatusCode::SERVICE_UNAVAILABLE,
                Fault::Client,
                "too-many-at-once",
                "wait for the answers to earlier requests before sending more",
            ),
            Why::Denied => (
                StatusCode::FORBIDDEN,
                Fault::Client,
                "address-denied",
                "requests from this address are not taken",
            ),
            Why::Closed => (
                StatusCode::SERVICE_UNAVAILABLE,
                Fault::Proxy,
                "limit-unknown",
                "bring back the Redis of the limit, or let it fail in another way: `when_redis_is_down`",
            ),
        };
        let retry_after_s = u32::try_from(refused.retry_after_s).unwrap_or(u32::MAX);
        Told {
            status,
            fault,
            proxy_error: "http_request_denied",
            code,
            help,
            close: false,
            retry_after_s: (retry_after_s > 0).then_some(retry_after_s),
        }
    }

    fn told_of_origin(failure: OriginFailure) -> Told {
        use Fault::{Client, Origin, Proxy};
        use OriginFailure as F;
        let bad = StatusCode::BAD_GATEWAY;
        let late = StatusCode::GATEWAY_TIMEOUT;
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        #[rustfmt::skip]
        let (status, fault, proxy_error, help) = match failure {
            F::NoServer => (busy, Origin, "destination_unavailable", "start a server of the pool; all of them rest after failures"),
            F::QueueFull => (busy, Proxy, "connection_limit_reached", "raise `max_connections` or `max_queue` of the origin, or make it faster"),
            F::QueueTimeout => (busy, Proxy, "connection_limit_reached", "raise `max_connections` of the origin, or make it faster"),
            F::NameUnknown => (bad, Origin, "dns_error", "check the server's name in the configuration and in the DNS"),
            F::NameTimeout => (late, Origin, "dns_timeout", "check the resolver in /etc/resolv.conf"),
            F::Refused => (bad, Origin, "connection_refused", "start the server, or mend its port in the configuration"),
            F::Unreachable => (bad, Origin, "destination_ip_unroutable", "check the address and the network"),
            F::ConnectTimeout => (late, Origin, "connection_timeout", "check that the server accepts connections, or raise `timeouts.connect`"),
            F::TlsProtocol => (bad, Origin, "tls_protocol_error", "check that the port speaks TLS 1.2 or 1.3"),
            F::TlsCertificate => (bad, Origin, "tls_certificate_error", "name the issuer in `tls_ca`, or the certificate's name in `tls_name`"),
            F::FirstByteTimeout => (late, Origin, "http_response_timeout", "make the origin faster, or raise `timeouts.first_byte`"),
            F::IdleTimeout => (late, Origin, "connection_write_timeout", "see why the origin does not read, or raise `timeouts.idle`"),
            F::Closed => (bad, Origin, "connection_terminated", "see the origin's log for why it closed the connection"),
            F::Malformed => (bad, Origin, "http_protocol_error", "see the origin's log; it does not speak HTTP as it should"),
            F::Answer(_) => (bad, Origin, "http_protocol_error", "mend the origin's answer"),
            F::Upgrade => (bad, Origin, "http_upgrade_failed", "mend the origin's WebSocket handshake"),
            F::Loop => (StatusCode::LOOP_DETECTED, Proxy, "proxy_loop_detected", "an origin of the configuration leads back to this proxy"),
            F::ContentTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Client, "http_request_error", "send less, or raise `body_bytes` on the route"),
            F::ContentTooSlow => (StatusCode::REQUEST_TIMEOUT, Client, "http_request_error", "send faster, or raise `idle_timeout` in [server.limits]"),
            F::ContentBroken => (StatusCode::BAD_REQUEST, Client, "http_request_error", "send as many bytes as announced"),
        };
        Told {
            status,
            fault,
            proxy_error,
            code: failure.code(),
            help,
            close: fault == Client,
            retry_after_s: (status == busy).then_some(1),
        }
    }

    /// The answer that tells of it.
    pub fn to_response(&self, to: &Recipient<'_>) -> Response<Body> {
        let told = self.told();
        // Whoever is at fault gets the details; a client is not told what goes on behind the proxy.
        let detail = match told.fault {
            Fault::Client => self.to_string(),
            Fault::Origin | Fault::Proxy => public_detail(told.status).to_owned(),
        };
        let html = prefers_html(to.accept);
        let refused = if let Self::Limited(refused) = self { Some(&**refused) } else { None };
        let text = if html { page(&told, &detail) } else { problem(&told, &detail, refused) };
        let content_type = if html { "text/html; charset=utf-8" } else { "application/problem+json" };

        let mut response = Response::new(Body::empty());
        *response.status_mut() = told.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let proxy_status = format!("{PSEUDONYM}; error={}; details=\"{}\"", told.proxy_error, told.code);
        headers.insert(
            PROXY_STATUS,
            HeaderValue::try_from(proxy_status).expect("both parts are tokens of our own"),
        );
        if told.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        if let Some(seconds) = told.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(refused) = refused {
            crate::limit::say(headers, &refused.said);
        }
        if told.close && to.version < Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if *to.method != Method::HEAD {
            *response.body_mut() = Body::full(Bytes::from(text));
        }
        response
    }
}

const PROXY_STATUS: header::HeaderName = header::HeaderName::from_static("proxy-status");

/// What a client is told of a fault behind the proxy.
fn public_detail(status: StatusCode) -> &'static str {
    match status {
        StatusCode::GATEWAY_TIMEOUT => "the site did not answer in time",
        StatusCode::SERVICE_UNAVAILABLE => {
            "the site is busy or being restarted; please try again in a moment"
        }
        StatusCode::LOOP_DETECTED => "the request came back to where it was sent from",
        StatusCode::INTERNAL_SERVER_ERROR => "the proxy in front of the site failed",
        _ => "the site gave no valid answer",
    }
}

/// What a client is told that comes too much.
fn told_of_limit(refused: &Refused) -> String {
    match refused.why {
        Why::Rate => match &refused.violated[..] {
            [] => "there have been too many requests".to_owned(),
            names => format!("there have been more requests than `{}` lets pass", names.join("` and `")),
        },
        Why::AtOnce => format!("there are as many requests under way as `{}` allows", refused.limit),
        Why::Denied => "this address is not served".to_owned(),
        Why::Closed => format!("the limit `{}` cannot be asked", refused.limit),
    }
}

/// draft-ietf-httpapi-ratelimit-headers-11 §5: the problem type of a quota that is used up.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// RFC 9457. `type` is left out: `about:blank`, so that the title is the status phrase; except for a quota, which has a type of its own.
fn problem(told: &Told, detail: &str, refused: Option<&Refused>) -> String {
    let mut members = serde_json::json!({
        "title": told.status.canonical_reason().unwrap_or("Error"),
        "status": told.status.as_u16(),
        "detail": detail,
        "code": told.code,
    });
    if told.fault == Fault::Client {
        members["help"] = told.help.into();
    }
    if let Some(refused) = refused.filter(|refused| refused.why == Why::Rate) {
        members["type"] = QUOTA_EXCEEDED.into();
        let names: Vec<&str> = refused.violated.iter().map(|name| &**name).collect();
        members["violated-policies"] = names.into();
    }
    let mut text = members.to_string();
    text.push('\n');
    text
}

fn page(told: &Told, detail: &str) -> String {
    let status = told.status.as_u16();
    let reason = told.status.canonical_reason().unwrap_or("Error");
    let mut text = String::with_capacity(640);
    let help = if told.fault == Fault::Client { told.help } else { "" };
    // Every part is our own text, and still escaped: the next one may not be.
    let (detail, help) = (escape(detail), escape(help));
    write!(
        text,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{status} {reason}</title>\n\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto 0;padding:0 1rem;color-scheme:light dark}}\
         small{{opacity:.6}}</style>\n\
         <h1>{reason}</h1>\n<p>{detail}</p>\n<p>{help}</p>\n<small>{status} · {code} · {PSEUDONYM}</small>\n",
        code = told.code,
    )
    .expect("writing into a string does not fail");
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Whether `Accept` names HTML, and JSON no higher (RFC 9110 §12.5.1). Programs that say `*/*`, or nothing, get the problem.
fn prefers_html(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|value| value.to_str().ok()) else { return false };
    let weight_of = |wanted: &[&str]| {
        accept
            .split(',')
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                if !wanted.iter().any(|name| media.eq_ignore_ascii_case(name)) {
                    return None;
                }
                let weight =
                    parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
                Some(weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0)))
            })
            .fold(0.0_f32, f32::max)
    };
    let html = weight_of(&["text/html", "application/xhtml+xml"]);
    html > 0.0 && html >= weight_of(&["application/problem+json", "application/json", "application/*"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &ProxyError, method: Method, accept: &'static str) -> Response<Body> {
        let accept = HeaderValue::from_static(accept);
        error.to_response(&Recipient { method: &method, version: Version::HTTP_11, accept: Some(&accept) })
    }

    async fn text(response: Response<Body>) -> String {
        use http_body_util::BodyExt;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_is_a_problem_that_nobody_stores() {
        let response = told(&ProxyError::Rejected(Rejection::HostMissing), Method::GET, "*/*");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(
            response.headers()["proxy-status"],
            "weir; error=http_request_error; details=\"host-missing\""
        );
        let problem: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(
            problem,
            serde_json::json!({
                "title": "Bad Request",
                "status": 400,
                "detail": "the request has no `Host`",
                "code": "host-missing",
                "help": "send one `Host` with the name of the site",
            })
        );
    }

    #[tokio::test]
    async fn what_goes_on_behind_the_proxy_stays_there() {
        let error = OriginError::from(OriginFailure::Refused).at("http://10.1.2.3:8000");
        assert!(error.to_string().contains("10.1.2.3"));
        let response = told(&ProxyError::Origin(error), Method::GET, "text/html");
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert!(!text(response).await.contains("10.1.2.3"));
    }

    #[test]
    fn a_head_request_gets_the_length_and_nothing_more() {
        let response = told(&ProxyError::NoRoute, Method::HEAD, "");
        assert_ne!(response.headers()["content-length"], "0");
        assert_eq!(response.body().exact_len(), Some(0));
    }

    #[test]
    fn a_busy_origin_says_when_to_come_back() {
        let response = told(&ProxyError::Origin(OriginFailure::QueueFull.into()), Method::GET, "");
        assert_eq!(
            (response.status(), &response.headers()["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("1"))
        );
    }

    #[test]
    fn section_12_5_1_who_gets_a_page() {
        #[rustfmt::skip]
        let cases = [
            // what                             Accept                                                     page
            ("nothing said",                    "",                                                        false),
            ("anything",                        "*/*",                                                     false),
            ("a browser",                       "text/html,application/xhtml+xml,application/xml;q=0.9",   true),
            ("JSON only",                       "application/json",                                        false),
            ("JSON higher",                     "text/html;q=0.5, application/json",                       false),
            ("HTML higher",                     "application/json;q=0.5, text/html",                       true),
            ("HTML refused",                    "text/html;q=0",                                           false),
        ];
        for (what, accept, page) in cases {
            assert_eq!(prefers_html(Some(&HeaderValue::from_static(accept))), page, "{what}");
        }
    }
}
