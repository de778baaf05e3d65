//! A request that is shown to a plugin.

use cache_semantics::Now;
use plugin_cases::Presented;
use plugin_cases::case::Case;
use plugin_host::{Attribute, Content, Request};

/// A request in parts, with what is known of its content.
pub(crate) struct Shown {
    presented: Presented,
    content: Option<Content>,
}

impl From<Presented> for Shown {
    fn from(presented: Presented) -> Self {
        let content = presented.content.as_deref().map(|bytes| Content::new(bytes, true));
        Self { presented, content }
    }
}

impl Shown {
    /// That of a test.
    pub(crate) fn of_case(case: &Case) -> Result<Self, String> {
        case.presented().map(Self::from)
    }

    pub(crate) fn ask<T>(&self, now: Now, with: impl FnOnce(&Request<'_>) -> T) -> T {
        let Presented {
            method, scheme, authority, path, query, route, headers, client, sni, session, ..
        } = &self.presented;
        let session: Vec<_> = session.iter().map(|(name, value)| (name, value.read())).collect();
        let session =
            session.iter().map(|(name, (value, is_text))| Attribute { name, value, is_text: *is_text });
        let session: Vec<Attribute<'_>> = session.collect();
        with(&Request {
            method,
            scheme,
            authority,
            path,
            query: query.as_deref(),
            route,
            headers,
            client_ip: *client,
            tls_sni: sni.as_deref(),
            session: &session,
            content: self.content.as_ref(),
            allowance: None,
            now,
        })
    }
}
