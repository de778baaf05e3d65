//! What a policy changes about an application's cookies, on their way to the browser and back: flags, prefix, lifetime. The application does not notice.
//!
//! A prefix is a promise of the browser (RFC 6265bis §4.1.3): `__Host-` and `__Secure-` cookies were set over a secure connection, and `__Host-` ones by this very host. So where a rule gives one,
//! a cookie that comes back *without* it was set by somebody else, and is not passed on. Neither holds over plain HTTP, where browsers take no such cookie: there names stay as they are.

use cache_semantics::glob::Glob;

use crate::request::{self, Pair};
use crate::{SameSite, SetCookie};

/// Rules by the application's names of cookies; the first that matches holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules.
    pub rules: Vec<Rule>,
}

/// What is changed about the cookies of some names. What is `None` stays as the application says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which: one of these.
    pub names: Vec<Glob>,
    /// Sent over TLS only.
    pub secure: Option<Secure>,
    /// Kept from scripts.
    pub http_only: Option<bool>,
    /// With requests from other sites.
    pub same_site: Option<SameSite>,
    /// What the browser knows it by.
    pub prefix: Option<Prefix>,
    /// While users still have the cookie of before: taken without the prefix, too.
    pub takes_unprefixed: bool,
    /// How long the browser keeps it.
    pub lifetime: Option<Lifetime>,
}

/// Whether a cookie is sent over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Yes.
    Always,
    /// No.
    Never,
    /// If it was set over TLS.
    Auto,
}

/// What a name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `__Secure-`
    Secure,
    /// `__Host-`
    Host,
}

impl Prefix {
    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Secure => "__Secure-",
            Self::Host => "__Host-",
        }
    }

    /// Whether a name begins with one; browsers compare without regard to case (§5.7).
    fn begins(name: &[u8]) -> bool {
        [Self::Secure, Self::Host].iter().any(|prefix| {
            name.get(..prefix.text().len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.text().as_bytes()))
        })
    }
}

/// How long a browser keeps a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is closed.
    Browser,
    /// So many seconds.
    Seconds(u64),
}

/// What becomes of the cookies of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToOrigin {
    /// They go on as they came.
    Same,
    /// These do; empty: none.
    Changed(Vec<u8>),
}

impl Policy {
    /// The rule for a name of the application's.
    #[must_use]
    pub fn rule(&self, name: &[u8]) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.names.iter().any(|glob| glob.matches(name)))
    }

    /// The rule, and with it the prefix that it gives this name over such a connection.
    fn prefixed(&self, name: &[u8], over_tls: bool) -> Option<(&Rule, Option<Prefix>)> {
        let rule = self.rule(name)?;
        let prefix = rule.prefix.filter(|_| over_tls && !name.is_empty() && !Prefix::begins(name));
        Some((rule, prefix))
    }

    /// What is said to the browser instead of a `Set-Cookie` line; `None`: just that line. `over_tls`: the browser takes secure cookies from this connection.
    #[must_use]
    pub fn to_client(&self, line: &[u8], over_tls: bool, now_s: u64) -> Option<Vec<Vec<u8>>> {
        let cookie = SetCookie::parse(line)?;
        let (rule, prefix) = self.prefixed(cookie.name, over_tls)?;
        let deletes = cookie.deletes(now_s);
        let mut out = Vec::with_capacity(line.len() + 48);
        out.extend_from_slice(prefix.map_or("", Prefix::text).as_bytes());
        // Without its `=`, a value that holds one would be read as a name and a value.
        if !cookie.name.is_empty() || cookie.value.contains(&b'=') {
            out.extend_from_slice(cookie.name);
            out.push(b'=');
        }
        out.extend_from_slice(cookie.value);
        let secure = match rule.secure {
            // Browsers take a cookie with a prefix only if it is secure, whoever gave the prefix.
            _ if prefix.is_some() || Prefix::begins(cookie.name) => true,
            Some(Secure::Always) => true,
            Some(Secure::Never) => false,
            Some(Secure::Auto) => over_tls,
            None => cookie.has("secure"),
        };
        let lifetime = rule.lifetime.filter(|_| !deletes);
        let is = |name: &[u8], word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        for (name, value) in &cookie.attributes {
            let replaced = is(name, "secure")
                || (is(name, "httponly") && rule.http_only.is_some())
                || (is(name, "samesite") && rule.same_site.is_some())
                || ((is(name, "max-age") || is(name, "expires")) && lifetime.is_some())
                // §4.1.3.2: a `__Host-` cookie has no Domain, and the path `/`.
                || ((is(name, "domain") || is(name, "path")) && prefix == Some(Prefix::Host));
            if replaced {
                continue;
            }
            out.extend_from_slice(b"; ");
            out.extend_from_slice(name);
            if let Some(value) = value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        if prefix == Some(Prefix::Host) {
            out.extend_from_slice(b"; Path=/");
        }
        if let Some(Lifetime::Seconds(seconds)) = lifetime {
            out.extend_from_slice(format!("; Max-Age={seconds}").as_bytes());
        }
        if secure {
            out.extend_from_slice(b"; Secure");
        }
        if rule.http_only == Some(true) {
            out.extend_from_slice(b"; HttpOnly");
        }
        if let Some(same_site) = rule.same_site {
            out.extend_from_slice(format!("; SameSite={}", same_site.word()).as_bytes());
        }
        let mut lines = vec![out];
        // Who logs out with the cookie of before must not stay logged in by it.
        if prefix.is_some() && rule.takes_unprefixed && deletes {
            lines.push(line.to_vec());
        }
        Some(lines)
    }

    /// The application's name of a cookie that this policy gave a prefix; `None`: it did not.
    fn bare<'c>(&self, pair: Pair<'c>, over_tls: bool) -> Option<&'c [u8]> {
        self.rules.iter().filter_map(|rule| rule.prefix).find_map(|prefix| {
            let bare = pair.name.strip_prefix(prefix.text().as_bytes())?;
            let (_, given) = self.prefixed(bare, over_tls)?;
            (given == Some(prefix)).then_some(bare)
        })
    }

    /// The cookies of a request by the application's names. What somebody else than the application has set is left out, where prefixes tell.
    #[must_use]
    pub fn to_origin(&self, line: &[u8], over_tls: bool) -> ToOrigin {
        let pairs: Vec<_> = request::pairs(line).map(|pair| (pair, self.bare(pair, over_tls))).collect();
        let protected =
            |name: &[u8]| self.prefixed(name, over_tls).is_some_and(|(_, prefix)| prefix.is_some());
        if !pairs.iter().any(|(pair, bare)| bare.is_some() || protected(pair.name)) {
            return ToOrigin::Same;
        }
        let mut out = Vec::with_capacity(line.len());
        for (pair, bare) in &pairs {
            let Some(bare) = bare else {
                let is_known = |name| pairs.iter().any(|(_, bare)| *bare == Some(name));
                let takes = self.rule(pair.name).is_some_and(|rule| rule.takes_unprefixed);
                if !protected(pair.name) || (takes && !is_known(pair.name)) {
                    request::push(&mut out, pair.whole);
                }
                continue;
            };
            // A browser has one cookie of such a name for a host: of two, one was forged.
            if pairs.iter().filter(|(other, _)| other.name == pair.name).count() == 1 {
                request::push(&mut out, &[bare, &b"="[..], pair.value].concat());
            }
        }
        ToOrigin::Changed(out)
    }
}
