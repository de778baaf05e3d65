//! Cookies on their way between browsers and origins: what `[[cookie]]` changes about them, and which `[vault]` keeps.
//!
//! A request is put into the application's own words as soon as it has passed the gate: routes, keys, limits and plugins see the names that the application gave. An answer is put into
//! the browser's words as soon as it is received, before anything of it may be stored. What the vault keeps is taken out of requests at once, for only the vault speaks of it, and out of answers last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use cache_semantics::Now;
use cookie_jar::{Policy, SetCookie, ToOrigin, request};
use http::header::{self, HeaderMap, HeaderValue};

use crate::session::vault::Vault;

/// Both.
#[derive(Debug, Default)]
pub struct Cookies {
    /// `[[cookie]]`
    pub policy: Arc<Policy>,
    /// `[vault]`
    pub vault: Option<Arc<Vault>>,
}

/// Whether browsers take and send secure cookies there: over TLS, and on this machine, which they trust without.
pub fn is_secure(https: bool, host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    https
        || address.is_ok_and(|address| address.is_loopback())
        || host == "localhost"
        || host.ends_with(".localhost")
}

impl Cookies {
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.vault.is_none() && self.policy.rules.is_empty()
    }

    /// Puts the cookies of a request into the application's words.
    pub fn presented(&self, headers: &mut HeaderMap, secure: bool) {
        if self.is_idle() || !headers.contains_key(header::COOKIE) {
            return;
        }
        let lines: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let came = lines.join(&b"; "[..]);
        let named = match self.policy.to_origin(&came, secure) {
            ToOrigin::Same => None,
            ToOrigin::Changed(named) => Some(named),
        };
        let field = named.as_deref().unwrap_or(&came);
        let is_ours = |name: &[u8]| self.vault.as_ref().is_some_and(|vault| vault.takes(name));
        let field = if request::pairs(field).any(|pair| is_ours(pair.name)) {
            let mut others = Vec::with_capacity(field.len());
            request::pairs(field)
                .filter(|pair| !is_ours(pair.name))
                .for_each(|pair| request::push(&mut others, pair.whole));
            others
        } else if let Some(named) = named {
            named
        } else {
            return;
        };
        match HeaderValue::from_bytes(&field) {
            Ok(value) if !field.is_empty() => drop(headers.insert(header::COOKIE, value)),
            _ => drop(headers.remove(header::COOKIE)),
        }
    }

    /// Puts the cookies of an answer into the browser's words; those of the vault stay for it.
    pub fn received(&self, headers: &mut HeaderMap, secure: bool, now: Now) {
        if self.policy.rules.is_empty() || !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let now_s = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let lines: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        headers.remove(header::SET_COOKIE);
        for line in lines {
            let is_ours = self.vault.as_ref().is_some_and(|vault| {
                SetCookie::parse(line.as_bytes()).is_some_and(|cookie| vault.takes(cookie.name))
            });
            let changed = if is_ours { None } else { self.policy.to_client(line.as_bytes(), secure, now_s) };
            let Some(changed) = changed else {
                headers.append(header::SET_COOKIE, line);
                continue;
            };
            for line in changed.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                headers.append(header::SET_COOKIE, line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_browsers_take_secure_cookies() {
        #[rustfmt::skip]
        let cases = [
            ("app.example", true, true), ("app.example", false, false), ("127.0.0.1", false, true), ("[::1]", false, true),
            ("localhost", false, true), ("app.localhost", false, true), ("notlocalhost", false, false), ("127.0.0.1.example", false, false),
        ];
        for (host, https, expected) in cases {
            assert_eq!(is_secure(https, host), expected, "{host}");
        }
    }
}
