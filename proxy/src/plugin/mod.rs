//! Policy plugins on their way through a request: what they are asked, in which order, and what counts when several speak or one fails.
//!
//! How a plugin is run is `plugin-host`'s; here its decisions become a [`Shape`](crate::request_key::Shape) of key and forwarded request, terms of storing, and
//! purges. Several plugins of a route compose so that each is obeyed: their parts are all in the key, the strictest mode counts, cookies pass
//! that all let pass, a query goes from one to the next; of lifetimes the shortest counts, and nothing is stored where one says so; all
//! tags and purges count.

#[cfg(feature = "plugins")]
mod hooks;
#[cfg(feature = "plugins")]
mod load;
#[cfg(not(feature = "plugins"))]
mod none;
#[cfg(test)]
#[cfg(feature = "plugins")]
mod sharing;
#[cfg(feature = "plugins")]
mod sink;

use std::net::IpAddr;
use std::time::Duration;

use cache_semantics::Now;
use cache_semantics::cache_status::Reason;
use cache_semantics::policy::Policy;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use session_state::protocol::Plain;

#[cfg(feature = "plugins")]
pub use plugin_host::{Allowance, Attribute, Content};

#[cfg(feature = "plugins")]
pub use self::hooks::{Asked, Beside, RoutePlugins, Said};
#[cfg(feature = "plugins")]
pub use self::load::{LoadedPlugin, LoadedPlugins, PluginError, Registry, check_grant};
#[cfg(not(feature = "plugins"))]
pub use self::none::{
    Allowance, Asked, Attribute, Beside, Content, LoadedPlugins, PluginError, Registry, RoutePlugins, Said,
    check_grant,
};

/// A request as far as plugins may read it.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'r> {
    /// Which worker asks.
    pub worker: usize,
    /// Its method.
    pub method: &'r Method,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// Host and port.
    pub authority: &'r str,
    /// The path.
    pub path: &'r str,
    /// The query.
    pub query: Option<&'r str>,
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The name it asked for in TLS.
    pub tls_sni: Option<&'r str>,
    /// The attributes of its session that plugins read.
    pub session: &'r [Attribute<'r>],
    /// Its content, where it was read.
    pub content: Option<&'r Content>,
    /// What the hooks of it may still take together.
    pub allowance: &'r Allowance,
    /// When.
    pub now: Now,
}

/// Attributes of a session as plugins read them.
pub fn borrowed(attributes: &[(String, Plain)]) -> Vec<Attribute<'_>> {
    let borrowed = attributes.iter().map(|(name, value)| {
        let (value, is_text) = match value {
            Plain::Text(value) => (value, true),
            Plain::Item(value) => (value, false),
        };
        Attribute { name, value, is_text }
    });
    borrowed.collect()
}

/// What the cache does, as plugins have it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It looks up and stores.
    #[default]
    Lookup,
    /// It asks the origin in any case, and stores.
    Refresh,
    /// It does neither, and this is why.
    Bypass(Reason),
    /// The request is not answered: a plugin failed, and the operator wants that.
    Deny,
}

#[cfg(feature = "plugins")]
impl Way {
    /// The stricter of two.
    fn and(self, other: Self) -> Self {
        let strictness = |way: Self| match way {
            Self::Lookup => 0,
            Self::Refresh => 1,
            Self::Bypass(_) => 2,
            Self::Deny => 3,
        };
        if strictness(other) > strictness(self) { other } else { self }
    }
}

/// What all hooks of one request may take together, where no plugin of its route may take more by itself.
pub const TIME_OF_REQUEST: Duration = Duration::from_millis(25);

/// What the plugins of a route want to know of a request before they are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// Its content.
    pub content: bool,
    /// Attributes of its session.
    pub session: bool,
}

/// What plugins say about storing a response.
#[derive(Debug, Default)]
pub struct Judged {
    /// Not: this is why.
    pub refused: Option<Reason>,
    /// For so long requests of its key do not wait for one another.
    pub pass_for: Option<Duration>,
    /// The policy in place of the route's.
    pub policy: Option<Policy>,
    /// More tags.
    pub tags: Vec<String>,
    /// Request fields that it varies on too.
    pub vary: Vec<HeaderName>,
    /// Fields that are not stored.
    pub strip: Vec<HeaderName>,
}

impl Judged {
    /// Adds what it varies on to a response's fields.
    pub fn vary_more(&self, headers: &mut HeaderMap) {
        for name in &self.vary {
            if let Ok(value) = HeaderValue::from_str(name.as_str()) {
                headers.append(header::VARY, value);
            }
        }
    }
}
