//! `Session-Mac`: what an origin is told of a session, vouched for with a key that only it and the proxy have. An origin that can be reached past the proxy is not deceived.
//!
//! HMAC-SHA-256 over these lines, each but the last with a line feed: `weir-session-mac-1`, the method, the target as the origin gets it, the seconds of `t`, the value of
//! `Session-Info`, and that of `Session-Data`, empty where there is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use http::header::{HeaderName, HeaderValue};
use http::{Method, uri::PathAndQuery};
use ring::hmac;
use sha2::{Digest as _, Sha256};

use super::{DATA, INFO, MAC, millis};
use crate::clock::Now;
use crate::config::model::Secret;

/// The field for a request, beside what is told of its session.
pub fn vouched(
    Secret(key): &Secret,
    method: &Method,
    target: &PathAndQuery,
    told: &[(HeaderName, HeaderValue)],
    now: Now,
) -> Option<(HeaderName, HeaderValue)> {
    let value = |wanted: &HeaderName| {
        let found = told.iter().find(|(name, _)| name == wanted);
        found.map_or(&b""[..], |(_, value)| value.as_bytes())
    };
    let seconds = millis(now) / 1_000;
    let mut text = format!("weir-session-mac-1\n{method}\n{target}\n{seconds}\n").into_bytes();
    text.extend_from_slice(value(&INFO));
    text.push(b'\n');
    text.extend_from_slice(value(&DATA));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &text);
    let kid = HEXLOWER.encode(&Sha256::digest(key.as_bytes())[..4]);
    let field = format!("t=@{seconds}, kid=\"{kid}\", mac=:{}:", STANDARD.encode(mac.as_ref()));
    Some((MAC, HeaderValue::try_from(field).ok()?))
}
