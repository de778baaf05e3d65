//! The cookie that carries a session's name, and what is made of it.
//!
//! The name is 256 bits from the operating system. What stores see is its SHA-256, the *handle*: who reads a store has no name that a proxy would believe. A request that carries two cookies
//! of this name is believed in neither: one of them was planted.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cache_semantics::cookies::values;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use http::HeaderMap;
use http::header::HeaderValue;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::spec::Cookie;

/// What a session is known by in stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub [u8; 32]);

impl Handle {
    /// In base64, as the origin is told.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// In hexadecimal digits, as keys and people have it.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// That of a name that was given out for something; `None`: no proxy has given it out.
    pub(super) fn of_name(name: &str, purpose: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(name).ok()?.try_into().ok()?;
        let mut digest = Sha256::new();
        digest.update(purpose);
        digest.update(bytes);
        Some(Self(digest.finalize().into()))
    }

    /// From hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        Some(Self(HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()?))
    }
}

/// 256 bits from the operating system, as a cookie carries them.
pub(super) fn new_secret() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// A new name, and the handle that goes with it.
pub(super) fn new_name() -> Option<(String, Handle)> {
    let name = new_secret()?;
    let handle = Handle::of_name(&name, b"")?;
    Some((name, handle))
}

/// Whether a request carries such a cookie, valid or not.
pub fn is_given(headers: &HeaderMap, name: &str) -> bool {
    values(headers, name).next().is_some()
}

/// The value of the only cookie of this name; `None`: there is none, or there are several.
pub(super) fn only_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = values(headers, name);
    let only = values.next().filter(|_| values.next().is_none())?;
    String::from_utf8(only.to_vec()).ok()
}

/// The handle of the session that a request names; `None`: it names none, or several, or what no proxy has ever given out.
pub fn handle(headers: &HeaderMap, name: &str) -> Option<Handle> {
    Handle::of_name(&only_value(headers, name)?, b"")
}

/// `Set-Cookie` with a name, or without one: then it is to be forgotten.
pub(super) fn set_cookie(cookie: &Cookie, name: Option<&str>) -> Option<HeaderValue> {
    let mut text = format!("{}={}; Path=/", cookie.name, name.unwrap_or_default());
    match (name, cookie.max_age) {
        (None, _) => text.push_str("; Max-Age=0"),
        (Some(_), Some(max_age)) => text.push_str(&format!("; Max-Age={}", max_age.as_secs())),
        (Some(_), None) => {}
    }
    for (wanted, flag) in [(cookie.secure, "; Secure"), (cookie.http_only, "; HttpOnly")] {
        if wanted {
            text.push_str(flag);
        }
    }
    text.push_str("; SameSite=");
    text.push_str(cookie.same_site.word());
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn whose_session_a_request_names() {
        let (name, known) = new_name().unwrap();
        let cookie = format!("__Host-sid={name}");
        let planted = format!("a=1; {cookie}; __Host-sid={}", new_name().unwrap().0);
        #[rustfmt::skip]
        let cases: [(&str, Vec<&str>, bool); 7] = [
            ("alone",                    vec![&cookie], true),
            ("among others",             vec!["a=1", &cookie], true),
            ("two of the name",          vec![&planted], false),
            ("twice the same",           vec![&cookie, &cookie], false),
            ("none",                     vec!["sid=1"], false),
            ("what nobody gave out",     vec!["__Host-sid=abc"], false),
            ("another name's end",       vec!["x__Host-sid=abc"], false),
        ];
        for (what, lines, valid) in cases {
            let found = handle(&headers(&lines), "__Host-sid");
            assert_eq!(found, valid.then_some(known), "{what}");
        }
        assert_eq!(Handle::from_hex(&known.hex()), Some(known));
    }
}
