//! What a jar keeps of a cookie, and with which requests it goes out (RFC 6265bis §5.7 and §5.8.3).

use std::net::IpAddr;

use crate::set_cookie::{SameSite, SetCookie};

/// Who was asked, as the client named it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'s> {
    /// The host, without a port.
    pub host: &'s str,
    /// The path.
    pub path: &'s [u8],
    /// Whether secure cookies go over this connection.
    pub over_tls: bool,
}

/// A cookie that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The domain, in lower case: that of the host, or one that it is part of.
    pub domain: String,
    /// Whether it is for this very host only.
    pub host_only: bool,
    /// The path under which it is sent.
    pub path: Vec<u8>,
    /// Whether it is sent over secure connections only.
    pub secure: bool,
    /// What it says of requests from other sites.
    pub same_site: Option<SameSite>,
    /// When it ends, in seconds since 1970; `None`: with the browser.
    pub ends_s: Option<u64>,
    /// When it was first set, in milliseconds since 1970.
    pub created_ms: u64,
}

/// What a `Set-Cookie` line comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This is to be kept, in place of what has the same identity.
    Kept(Kept),
    /// What has this identity is to be forgotten.
    Deleted(String),
}

/// Why nothing comes of it: a browser would not take it either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is for a domain that the host is not part of, or for a whole top-level domain.
    Domain,
    /// It is secure, and the connection is not (§5.7, step 8).
    Insecure,
    /// It bears a prefix, and does not keep its promise.
    Prefix,
}

impl Kept {
    /// Reads what a line asks for.
    pub fn take(cookie: &SetCookie<'_>, site: &Site<'_>, now_ms: u64) -> Result<Taken, NotTaken> {
        let host = site.host.to_ascii_lowercase();
        let (domain, host_only) = match cookie.domain() {
            None => (host, true),
            Some(domain) => {
                let domain = String::from_utf8_lossy(domain).to_ascii_lowercase();
                // Without a list of public suffixes: at least none that is one label.
                if domain == host && !domain.contains('.') {
                    (host, true)
                } else if domain.contains('.') && matches_domain(&host, &domain) {
                    (domain, false)
                } else {
                    return Err(NotTaken::Domain);
                }
            }
        };
        let secure = cookie.has("secure");
        if secure && !site.over_tls {
            return Err(NotTaken::Insecure);
        }
        let path = cookie.path().map_or_else(|| default_path(site.path), <[u8]>::to_vec);
        let begins = |prefix: &str| {
            cookie.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let host_promise = secure && host_only && cookie.domain().is_none() && path == b"/";
        if (begins("__Secure-") && !secure) || (begins("__Host-") && !host_promise) {
            return Err(NotTaken::Prefix);
        }
        let kept = Self {
            name: cookie.name.to_vec(),
            value: cookie.value.to_vec(),
            domain,
            host_only,
            path,
            secure,
            same_site: cookie.same_site(),
            ends_s: cookie.ends_s(now_ms / 1_000),
            created_ms: now_ms,
        };
        Ok(if cookie.deletes(now_ms / 1_000) { Taken::Deleted(kept.identity()) } else { Taken::Kept(kept) })
    }

    /// What makes it the same cookie as another (§5.7, step 23): name, domain, whether it is for one host, path. Readable, for people who look at a jar.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut text = escaped(&self.name);
        text.push(';');
        if !self.host_only {
            text.push('.');
        }
        text.push_str(&escaped(self.domain.as_bytes()));
        text.push(';');
        text.push_str(&escaped(&self.path));
        text
    }

    /// Whether it goes out with a request; whether it has ended is for the caller to say.
    #[must_use]
    pub fn goes_to(&self, site: &Site<'_>) -> bool {
        let host = site.host.to_ascii_lowercase();
        let here = if self.host_only { host == self.domain } else { matches_domain(&host, &self.domain) };
        here && (site.over_tls || !self.secure) && matches_path(site.path, &self.path)
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let same_site = match self.same_site {
            None => 0,
            Some(SameSite::None) => 1,
            Some(SameSite::Lax) => 2,
            Some(SameSite::Strict) => 3,
        };
        let mut out = vec![FORMAT, u8::from(self.host_only), u8::from(self.secure), same_site];
        out.extend_from_slice(&self.created_ms.to_be_bytes());
        out.extend_from_slice(&self.ends_s.map_or(0, |ends_s| ends_s.max(1)).to_be_bytes());
        for piece in [&self.name, &self.value, self.domain.as_bytes()] {
            out.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(piece);
        }
        out.extend_from_slice(&self.path);
        out
    }

    /// From bytes; `None`: they are not what [`Self::encode`] writes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([format, host_only, secure, same_site], rest) = bytes.split_first_chunk::<4>()?;
        let flag = |byte: u8| (byte < 2).then_some(byte == 1);
        let same_site = match same_site {
            0 => None,
            1 => Some(SameSite::None),
            2 => Some(SameSite::Lax),
            3 => Some(SameSite::Strict),
            _ => return None,
        };
        let (created_ms, rest) = rest.split_first_chunk::<8>()?;
        let (ends_s, mut rest) = rest.split_first_chunk::<8>()?;
        let ends_s = Some(u64::from_be_bytes(*ends_s)).filter(|ends_s| *ends_s != 0);
        let mut piece = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (piece, after) =
                after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            rest = after;
            Some(piece.to_vec())
        };
        let (name, value, domain) = (piece()?, piece()?, String::from_utf8(piece()?).ok()?);
        (*format == FORMAT).then_some(())?;
        Some(Self {
            name,
            value,
            domain,
            host_only: flag(*host_only)?,
            path: rest.to_vec(),
            secure: flag(*secure)?,
            same_site,
            ends_s,
            created_ms: u64::from_be_bytes(*created_ms),
        })
    }
}

/// The first byte of an encoded cookie.
const FORMAT: u8 = 1;

/// The `Cookie` value of these, in the order that §5.8.3 asks for: longer paths first, and among equals those that were set first. `None`: there are none.
#[must_use]
pub fn cookie_value<'k>(cookies: impl IntoIterator<Item = &'k Kept>) -> Option<Vec<u8>> {
    let mut cookies: Vec<&Kept> = cookies.into_iter().collect();
    cookies.sort_by(|one, other| {
        let order = other.path.len().cmp(&one.path.len()).then(one.created_ms.cmp(&other.created_ms));
        order.then_with(|| one.name.cmp(&other.name))
    });
    let mut out = Vec::new();
    for cookie in cookies {
        // §5.8.3: without a name, its value alone.
        let pair = if cookie.name.is_empty() {
            cookie.value.clone()
        } else {
            [&cookie.name[..], b"=", &cookie.value].concat()
        };
        crate::request::push(&mut out, &pair);
    }
    (!out.is_empty()).then_some(out)
}

/// §5.1.3: the same, or a part of it; of an address there are no parts.
fn matches_domain(host: &str, domain: &str) -> bool {
    if host == domain {
        return true;
    }
    let is_part = host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'));
    let address = host.trim_start_matches('[').trim_end_matches(']');
    is_part && address.parse::<IpAddr>().is_err()
}

/// §5.1.4: up to the last slash, without it.
fn default_path(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) if at > 0 && path.starts_with(b"/") => path[..at].to_vec(),
        _ => b"/".to_vec(),
    }
}

/// §5.1.4: the path, or what lies under it.
fn matches_path(asked: &[u8], path: &[u8]) -> bool {
    match asked.strip_prefix(path) {
        Some(rest) => rest.is_empty() || path.ends_with(b"/") || rest.starts_with(b"/"),
        None => false,
    }
}

/// Letters, digits and marks as they are; everything else, and what separates, in hexadecimal digits.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && !matches!(byte, b';' | b'%') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site<'s>(host: &'s str, path: &'s str, over_tls: bool) -> Site<'s> {
        Site { host, path: path.as_bytes(), over_tls }
    }

    fn take(line: &str, from: &Site<'_>) -> Result<Taken, NotTaken> {
        Kept::take(&SetCookie::parse(line.as_bytes()).unwrap(), from, 5_000)
    }

    fn kept(line: &str, from: &Site<'_>) -> Kept {
        match take(line, from) {
            Ok(Taken::Kept(kept)) => kept,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn section_5_7_which_cookies_are_taken() {
        #[rustfmt::skip]
        let cases = [
            // line                                     host               tls    taken
            ("a=1",                                     "app.example",     false, Ok(())),
            ("a=1; Domain=example.com",                 "www.example.com", false, Ok(())),
            ("a=1; Domain=.EXAMPLE.com",                "www.example.com", false, Ok(())),
            ("a=1; Domain=www.example.com",             "example.com",     false, Err(NotTaken::Domain)),
            ("a=1; Domain=ample.com",                   "example.com",     false, Err(NotTaken::Domain)),
            ("a=1; Domain=com",                         "example.com",     false, Err(NotTaken::Domain)),
            ("a=1; Domain=localhost",                   "localhost",       false, Ok(())),
            ("a=1; Domain=0.0.1",                       "127.0.0.1",       false, Err(NotTaken::Domain)),
            ("a=1; Secure",                             "example.com",     false, Err(NotTaken::Insecure)),
            ("a=1; Secure",                             "example.com",     true,  Ok(())),
            ("__Host-a=1; Secure; Path=/",              "example.com",     true,  Ok(())),
            ("__Host-a=1; Secure; Path=/x",             "example.com",     true,  Err(NotTaken::Prefix)),
            ("__host-a=1; Secure; Path=/; Domain=example.com", "example.com", true, Err(NotTaken::Prefix)),
            ("__Secure-a=1",                            "example.com",     true,  Err(NotTaken::Prefix)),
        ];
        for (line, host, over_tls, expected) in cases {
            assert_eq!(take(line, &site(host, "/x/y", over_tls)).map(drop), expected, "{line} from {host}");
        }
    }

    #[test]
    fn section_5_8_3_with_which_requests_they_go_out() {
        let set = site("www.example.com", "/shop/cart", true);
        #[rustfmt::skip]
        let cases = [
            // line                             host                    path           tls    goes
            ("a=1",                             "www.example.com",      "/shop",       true,  true),
            ("a=1",                             "www.example.com",      "/shop/x/y",   true,  true),
            ("a=1",                             "www.example.com",      "/shopping",   true,  false),
            ("a=1",                             "www.example.com",      "/",           true,  false),
            ("a=1; Path=/",                     "WWW.example.com",      "/any",        true,  true),
            ("a=1; Path=/",                     "example.com",          "/any",        true,  false),
            ("a=1; Path=/; Domain=example.com", "example.com",          "/any",        true,  true),
            ("a=1; Path=/; Domain=example.com", "a.b.example.com",      "/any",        true,  true),
            ("a=1; Path=/; Domain=example.com", "badexample.com",       "/any",        true,  false),
            ("a=1; Path=/; Secure",             "www.example.com",      "/any",        false, false),
            ("a=1; Path=/x/",                   "www.example.com",      "/x",          true,  false),
            ("a=1; Path=/x/",                   "www.example.com",      "/x/y",        true,  true),
        ];
        for (line, host, path, over_tls, goes) in cases {
            assert_eq!(kept(line, &set).goes_to(&site(host, path, over_tls)), goes, "{line} to {host}{path}");
        }
        let all = [
            Kept { created_ms: 2, ..kept("late=1; Path=/", &set) },
            Kept { created_ms: 1, ..kept("early=1; Path=/", &set) },
            kept("deep=1; Path=/shop/cart", &set),
        ];
        assert_eq!(cookie_value(&all).unwrap(), b"deep=1; early=1; late=1");
        assert_eq!(cookie_value([]), None);
    }

    #[test]
    fn a_deletion_names_what_it_deletes() {
        let set = site("example.com", "/", true);
        let identity = kept("a b=1; Path=/x;Domain=example.com", &set).identity();
        assert_eq!(identity, "a%20b;.example.com;/x");
        let deleted = take("a b=; Path=/x; Domain=example.com; Expires=Thu, 01 Jan 1970 00:00:00 GMT", &set);
        assert_eq!(deleted, Ok(Taken::Deleted(identity)));
    }
}
