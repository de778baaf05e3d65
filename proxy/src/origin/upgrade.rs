//! WebSockets: the handshake with the origin is made anew and checked, then bytes pass both ways.
//!
//! Nothing of the client's beyond its head reaches the origin before the origin has agreed: those bytes are held until the client's
//! connection is handed over, and that happens after the answer. A client on HTTP/2 (RFC 8441) and an origin on HTTP/1.1, or the other way
//! round, do not notice each other's version.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::error::{OriginError, OriginFailure};
use super::http1::{self, Http1, Patience};
use super::http2;
use super::interim::Interims;
use super::server::{InFlight, Line, Server};
use super::{FailedAttempt, Origin, OutgoingHead, Tried, TunnelTerms, tunnel};
use crate::body::Body;
use crate::config::model::OriginProtocol;
use crate::gate::{self, Asked, WebSocketAsk};
use crate::incoming;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The origin's side of a WebSocket.
enum OriginSide {
    Http1(Box<Http1>),
    Http2(OnUpgrade, http2::StreamGuard),
}

impl Origin {
    /// Asks a server for a WebSocket. Its refusal is an answer like any other.
    pub(super) async fn upgrade(
        self: &Arc<Self>,
        worker: usize,
        head: &mut OutgoingHead,
    ) -> Result<(Response<Body>, &Arc<Server>), OriginError> {
        let Some(wish) = head.websocket.take() else {
            return Err(OriginFailure::Upgrade.into());
        };
        let (ask, client_side, terms) = *wish;
        for name in [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_ACCEPT] {
            head.fields.remove(&name);
        }
        head.fields.set(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        head.takes_trailers = false;
        let over_http2 = self.spec.protocol == OriginProtocol::Http2;
        head.method = if over_http2 { Method::CONNECT } else { Method::GET };
        let (head, own_host) = (&*head, self.spec.own_host);
        let asked = Asked { upgrade: true, ..head.fields.asked(&Method::GET) };
        let (chosen, _probe) =
            self.choose(&Tried::default(), head, Instant::now()).ok_or(OriginFailure::NoServer)?;
        let server = chosen.server;
        let named = |error: OriginError| error.at(Arc::clone(&server.name));
        let in_flight = server.begin();
        let interims = Interims::new(self.limits.interim_responses, None);
        let patience = Patience { first_byte: self.spec.timeouts.first_byte, idle: self.spec.timeouts.idle };

        let (mut parts, accepted) = if over_http2 {
            let Line::Http2(stream) = server.line(worker, head.client, false).await.map_err(named)? else {
                return Err(named(OriginFailure::Upgrade.into()));
            };
            if !stream.waits_for_extended_connect(self.spec.timeouts.connect).await {
                return Err(named(OriginFailure::Upgrade.into()));
            }
            let mut request =
                head.http2(server, own_host, Body::empty()).map_err(|failed| named(failed.failure.into()))?;
            request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
            let answer = stream.exchange(request, &mut None, &interims, patience).await;
            let (mut response, guard) =
                answer.map_err(|failed| named(FailedAttempt::of(failed, false).error))?;
            if !response.status().is_success() {
                let (head, incoming) = response.into_parts();
                return self
                    .refused(head, &asked, || {
                        let home = http1::Home { worker, in_flight };
                        http2::content(incoming, guard, home, patience.idle, self.limits.head_fields)
                    })
                    .map(|response| (response, server))
                    .map_err(named);
            }
            let side = OriginSide::Http2(hyper::upgrade::on(&mut response), guard);
            (response.into_parts().0, side)
        } else {
            let key = match &ask {
                WebSocketAsk::Upgrade(key) => key.clone(),
                WebSocketAsk::ExtendedConnect => new_key().ok_or(OriginFailure::Upgrade)?,
            };
            let mut connection = server.tunnel_connection(worker, head.client).await.map_err(named)?;
            let host = head.host(server, own_host);
            let request = http1::RequestHead { websocket: Some(&key), ..head.http1(&host) };
            let answer = connection.exchange(request, &mut None, &interims, patience, Instant::now()).await;
            let answer = answer.map_err(|failed| named(FailedAttempt::of(failed, false).error))?;
            if answer.head.status != StatusCode::SWITCHING_PROTOCOLS {
                let framing = answer.framing;
                return self
                    .refused(answer.head, &asked, || {
                        let home = http1::Home { worker, in_flight };
                        http1::content(framing, connection, home, true, patience.idle, Instant::now())
                    })
                    .map(|response| (response, server))
                    .map_err(named);
            }
            if !is_accepted(&answer.head.headers, &key) {
                return Err(named(OriginFailure::Upgrade.into()));
            }
            (answer.head, OriginSide::Http1(connection))
        };

        server.health.succeeded();
        let accept = parts.headers.get(header::SEC_WEBSOCKET_ACCEPT).cloned();
        gate::check_response(&mut parts, &asked, &self.limits)
            .map_err(|fault| named(OriginFailure::Answer(fault).into()))?;
        let headers = &mut parts.headers;
        for name in [header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT, header::CONTENT_LENGTH] {
            headers.remove(name);
        }
        match ask {
            WebSocketAsk::Upgrade(key) => {
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.unwrap_or_else(|| accept_of(&key)));
            }
            // RFC 8441 §5: "a successful response is a 2xx"; the key and its proof have no part in it.
            WebSocketAsk::ExtendedConnect => parts.status = StatusCode::OK,
        }
        parts.version = Version::HTTP_11;
        tokio::spawn(carry(Arc::clone(self), client_side, accepted, in_flight, terms));
        Ok((Response::from_parts(parts, Body::empty()), server))
    }

    /// An answer that is not a handshake: gated and passed on.
    fn refused(
        &self,
        mut parts: http::response::Parts,
        asked: &Asked,
        content: impl FnOnce() -> Body,
    ) -> Result<Response<Body>, OriginError> {
        gate::check_response(&mut parts, asked, &self.limits).map_err(OriginFailure::Answer)?;
        Ok(Response::from_parts(parts, content()))
    }
}

/// Waits for the client's side and carries bytes until the end.
async fn carry(
    origin: Arc<Origin>,
    client_side: incoming::OnUpgrade,
    origin_side: OriginSide,
    in_flight: InFlight,
    terms: TunnelTerms,
) {
    let TunnelTerms { held: _held_while_it_is_open, meter } = terms;
    let _counted = Count::begin(&origin.metrics.tunnels);
    let patience = origin.limits.handshake_timeout;
    let Ok(Some(client)) = timeout(patience, client_side.taken_over()).await else { return };
    let idle = origin.spec.timeouts.tunnel;
    let (carried, outcome) = match origin_side {
        OriginSide::Http1(connection) => {
            let (stream, early, _open_as_long_as_it_runs) = connection.into_tunnel();
            tunnel::run(client, stream, early, idle, meter).await
        }
        OriginSide::Http2(upgrade, _guard) => {
            let Ok(Ok(upgraded)) = timeout(patience, upgrade).await else { return };
            tunnel::run(client, TokioIo::new(upgraded), Bytes::new(), idle, meter).await
        }
    };
    drop(in_flight);
    origin.metrics.tunnel_bytes.fetch_add(carried.to_origin + carried.to_client, Ordering::Relaxed);
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "WebSocket ended");
    }
}

/// Whether an answer is the one that RFC 6455 §4.1 asks the client to check for.
fn is_accepted(fields: &HeaderMap, key: &HeaderValue) -> bool {
    let only = |name: header::HeaderName| {
        let mut lines = fields.get_all(name).iter();
        lines.next().filter(|_| lines.next().is_none())
    };
    only(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && fields.get_all(header::CONNECTION).iter().any(|line| gate::has_token(line, b"upgrade"))
        && only(header::SEC_WEBSOCKET_ACCEPT).is_some_and(|value| *value == accept_of(key))
}

/// What proves that a server has understood the handshake (RFC 6455 §4.2.2 #5.4).
fn accept_of(key: &HeaderValue) -> HeaderValue {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    HeaderValue::try_from(BASE64.encode(context.finish()))
        .expect("base64 is letters, digits, `+`, `/` and `=`")
}

/// A key of our own, for a client that needs none.
fn new_key() -> Option<HeaderValue> {
    let mut nonce = [0_u8; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut nonce).ok()?;
    HeaderValue::try_from(BASE64.encode(nonce)).ok()
}

/// Counts something for as long as it lasts.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_section_1_3_gives_an_example() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_of(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_handshake_is_accepted_only_as_the_rfc_says() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        #[rustfmt::skip]
        let cases = [
            // what                       fields                                                                            accepted
            ("complete",                  vec![("upgrade", "WebSocket"), ("connection", "upgrade"), ACCEPT],                true),
            ("no proof",                  vec![("upgrade", "websocket"), ("connection", "upgrade")],                        false),
            ("another's proof",           vec![("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", "x")], false),
            ("two proofs",                vec![("upgrade", "websocket"), ("connection", "upgrade"), ACCEPT, ACCEPT],        false),
            ("another protocol",          vec![("upgrade", "h2c"), ("connection", "upgrade"), ACCEPT],                      false),
            ("not nominated",             vec![("upgrade", "websocket"), ACCEPT],                                           false),
        ];
        for (what, lines, accepted) in cases {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(name, HeaderValue::from_static(value));
            }
            assert_eq!(is_accepted(&fields, &key), accepted, "{what}");
        }
    }
}
