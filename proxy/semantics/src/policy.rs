//! What a route says about caching, as values: it fills in where the origin is silent, and overrides only in so many words.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The caching policy of a route. The default is what RFC 9111 asks of a shared cache, read strictly.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The lifetime where the origin gives none. It replaces the heuristic, and it does not apply where the request carried
    /// undeclared cookies: a silent answer to such a request may be personal.
    pub ttl: Option<Duration>,
    /// The heuristic lifetime as a share of the time since `Last-Modified`, in percent (RFC 9111 §4.2.2 names 10 %). Zero turns it off.
    pub heuristic_percent: u8,
    /// No heuristic lifetime is longer than this.
    pub heuristic_max: Duration,
    /// The longest lifetime of a 4xx or 5xx whose lifetime the origin did not give itself.
    pub error_ttl_max: Duration,
    /// Whether responses with `Set-Cookie` are stored, cookie and all: only for origins whose cookies are the same for everybody.
    pub store_set_cookie: bool,
    /// The window of `stale-while-revalidate` where the origin is silent about staleness.
    pub stale_while_revalidate: Option<Duration>,
    /// The window of `stale-if-error` where the origin is silent about staleness.
    pub stale_if_error: Option<Duration>,
    /// What the operator has ordered to be ignored.
    pub overrides: Overrides,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            ttl: None,
            heuristic_percent: 10,
            heuristic_max: Duration::from_secs(24 * 60 * 60),
            error_ttl_max: Duration::from_secs(10),
            store_set_cookie: false,
            stale_while_revalidate: None,
            stale_if_error: None,
            overrides: Overrides::default(),
        }
    }
}

/// One thing an operator may order to be ignored, named by what is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Override {
    /// `no-store` in the response.
    NoStore = 1,
    /// `private` in the response.
    Private = 1 << 1,
    /// `no-cache` in the response.
    NoCache = 1 << 2,
    /// `Set-Cookie`: the response is stored and the field is removed from what is stored.
    SetCookie = 1 << 3,
    /// `Authorization` in the request: answers are shared among all who send it.
    Authorization = 1 << 4,
    /// Undeclared cookies in the request: answers are shared among all who send them.
    Cookie = 1 << 5,
    /// `max-age`, `s-maxage` and `Expires` in the response: the route's `ttl` takes their place.
    MaxAge = 1 << 6,
    /// `must-revalidate`, `proxy-revalidate` and what `s-maxage` implies: stale responses may be served as the route says.
    MustRevalidate = 1 << 7,
    /// `Vary`: one variant serves all requests.
    Vary = 1 << 8,
    /// The wishes of clients: `no-cache`, `max-age`, `min-fresh`, `max-stale`, `stale-if-error` and `Pragma` in the request.
    /// `no-store` and `only-if-cached` count all the same: they cost the origin nothing.
    Request = 1 << 9,
}

impl Override {
    /// Every override, in the order of the reference.
    pub const ALL: [Override; 10] = [
        Override::NoStore,
        Override::Private,
        Override::NoCache,
        Override::SetCookie,
        Override::Authorization,
        Override::Cookie,
        Override::MaxAge,
        Override::MustRevalidate,
        Override::Vary,
        Override::Request,
    ];

    /// The word for it in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Override::NoStore => "no-store",
            Override::Private => "private",
            Override::NoCache => "no-cache",
            Override::SetCookie => "set-cookie",
            Override::Authorization => "authorization",
            Override::Cookie => "cookie",
            Override::MaxAge => "max-age",
            Override::MustRevalidate => "must-revalidate",
            Override::Vary => "vary",
            Override::Request => "request",
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The word names no override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be overridden")]
pub struct UnknownOverride(pub String);

impl FromStr for Override {
    type Err = UnknownOverride;

    fn from_str(word: &str) -> Result<Override, UnknownOverride> {
        Override::ALL
            .into_iter()
            .find(|known| known.name() == word)
            .ok_or_else(|| UnknownOverride(word.to_owned()))
    }
}

/// A set of [`Override`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides(u16);

impl Overrides {
    /// Whether `what` is to be ignored.
    #[must_use]
    pub const fn ignores(self, what: Override) -> bool {
        self.0 & what as u16 != 0
    }

    /// This set and `what`.
    #[must_use]
    pub const fn with(self, what: Override) -> Overrides {
        Overrides(self.0 | what as u16)
    }

    /// Whether nothing is overridden.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Override> for Overrides {
    fn from_iter<I: IntoIterator<Item = Override>>(iter: I) -> Overrides {
        iter.into_iter().fold(Overrides::default(), Overrides::with)
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Override::ALL.iter().filter(|what| self.ignores(**what))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_override_is_found_by_its_name() {
        for what in Override::ALL {
            assert_eq!(what.name().parse(), Ok(what));
            let set: Overrides = [what].into_iter().collect();
            for other in Override::ALL {
                assert_eq!(set.ignores(other), other == what, "{what} and {other}");
            }
        }
        assert_eq!("vary: *".parse::<Override>().unwrap_err().to_string(), "`vary: *` cannot be overridden");
    }
}
