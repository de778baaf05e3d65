//! JSON Web Tokens (RFC 7519) in their compact form, signed with HS256 (RFC 7518 §3.2). Nothing else is taken for valid.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Map, Value};
use weir_plugin::digest;

/// Longer ones are refused unread.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a verified token says.
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// A claim that is a text or a number.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            // Told apart from the text "7": they may be two tenants.
            Value::Number(number) => Some(format!("#{number}")),
            _ => None,
        }
    }

    /// RFC 7519 §4.1.3: a text, or a list of them.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            _ => false,
        }
    }

    /// When it ends, in milliseconds since 1970.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        date_ms(self.0.get("exp")?)
    }
}

/// The claims of a token that one of the secrets signed, and that is valid now.
pub(crate) fn verify(token: &str, secrets: &[String], now_ms: u64) -> Result<Claims, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("a token that is too long");
    }
    let (signed, signature) = token.rsplit_once('.').ok_or("no token")?;
    let (header, payload) = signed.split_once('.').ok_or("no token")?;
    let header = object(header).ok_or("a token whose header is no JSON")?;
    // RFC 8725 §3.1: the algorithm is ours to choose, not the token's: "none" and all others are refused.
    if header.get("alg") != Some(&Value::from("HS256")) {
        return Err("a token with another algorithm than HS256");
    }
    // RFC 7515 §4.1.11: extensions that are not understood make it invalid.
    if header.contains_key("crit") {
        return Err("a token with a critical extension");
    }
    let signature = BASE64URL.decode(signature).map_err(|_| "a token whose signature is no base64url")?;
    let is_signed = |secret: &String| {
        digest::same(&digest::hmac_sha256(secret.as_bytes(), signed.as_bytes()), &signature)
    };
    if !secrets.iter().any(is_signed) {
        return Err("a token with a wrong signature");
    }
    let claims = object(payload).ok_or("a token whose claims are no JSON")?;
    // RFC 7519 §4.1.4: "on or after which the JWT MUST NOT be accepted".
    if let Some(end) = claims.get("exp")
        && date_ms(end).is_none_or(|end| end <= now_ms)
    {
        return Err("an expired token");
    }
    // RFC 7519 §4.1.5: "before which the JWT MUST NOT be accepted".
    if let Some(begin) = claims.get("nbf")
        && date_ms(begin).is_none_or(|begin| begin > now_ms)
    {
        return Err("a token that is not valid yet");
    }
    Ok(Claims(claims))
}

/// When a token says that it ends, whoever made it.
pub(crate) fn unverified_end(token: &str) -> Option<u64> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    date_ms(object(token.split('.').nth(1)?)?.get("exp")?)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}

/// RFC 7519 §2: seconds since 1970, with or without a fraction.
fn date_ms(value: &Value) -> Option<u64> {
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not below 0, and what is too large saturates"
    )]
    Some((seconds * 1_000.0) as u64)
}
