//! What is held for a client: its session, and its cookies in the vault. Whether a request has to do with them, and what the origin's answer changes.

use cache_semantics::cookies::pairs;
use cookie_jar::Site;

use super::*;
use crate::cookies::is_secure;
use crate::session::vault::{Unavailable, Vault};

/// The sessions, if this request has to do with them: where its route writes them, or reads them and the request names one.
pub(super) fn sessions_of<'s>(
    snapshot: &'s Snapshot,
    plan: &Plan,
    headers: &HeaderMap,
) -> Option<&'s Arc<Sessions>> {
    let sessions = snapshot.sessions.as_ref()?;
    match plan.route.session {
        Use::Off => None,
        Use::Read => sessions.is_named(headers).then_some(sessions),
        Use::Write => Some(sessions),
    }
}

/// Whether the only cookie that a request carries is that of its session.
pub(super) fn names_only_its_session(snapshot: &Snapshot, headers: &HeaderMap) -> bool {
    let Some(sessions) = &snapshot.sessions else { return false };
    pairs(headers).all(|pair| sessions.is_own(pair.name))
}

impl Exchange {
    /// Does what the origin's answer says of the session, before the client sees any of it. `Some`: the client is answered something else.
    pub(super) async fn settle(&self, response: &mut Response<Body>) -> Option<ProxyError> {
        // Where the cache is asked, the answer is nobody's own.
        let (Some(opened), Some(sessions), None) = (&self.session, &self.snapshot.sessions, &self.told)
        else {
            return None;
        };
        let headers = response.headers_mut();
        let stale = matches!(opened, Opened::None { stale: true });
        let mut renamed = false;
        if self.route().session == Use::Write && (stale || Sessions::is_spoken_of(headers)) {
            match sessions.settle(opened, self.now, headers, self.clock()).await {
                Settled::Done => {}
                Settled::Cookie(cookie) => {
                    renamed = true;
                    headers.append(header::SET_COOKIE, cookie);
                    // Whatever the origin says of caching, it said without knowing of this cookie.
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
                }
                Settled::Conflict => return Some(ProxyError::SessionConflict),
                Settled::Lost => return Some(ProxyError::SessionLost),
            }
        }
        let renamed = renamed || !matches!(opened, Opened::Some(_));
        let moved = match opened {
            // Whoever cannot be told apart keeps what they have.
            Opened::Unknown => Vec::new(),
            Opened::None { .. } | Opened::Some(_) => sessions.moved(&self.presented.headers, renamed),
        };
        for cookie in moved {
            headers.append(header::SET_COOKIE, cookie);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        }
        if matches!(opened, Opened::Some(_)) && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        None
    }

    /// Opens the jars that the request names.
    pub(super) async fn open_jars(&mut self, vault: &Vault) -> Result<(), ProxyError> {
        if vault.is_named(&self.presented.headers) {
            let jars = vault.open(&self.presented.headers, self.now).await;
            self.jars = Some(Box::new(jars.map_err(|Unavailable| ProxyError::VaultUnavailable)?));
        }
        Ok(())
    }

    /// Puts what an answer sets into the jars, before the client sees any of it.
    pub(super) async fn keep_cookies(&self, vault: &Vault, outgo: &mut Outgo) -> Result<(), ProxyError> {
        let none = Jars::default();
        let jars = self.jars.as_deref().unwrap_or(&none);
        let (host, over_tls) = self.site();
        let site = Site { host: host.host(), path: self.parts.uri.path().as_bytes(), over_tls };
        let kept = vault.keep(jars, outgo.response.headers_mut(), &site, self.clock()).await;
        kept.map_err(|Unavailable| ProxyError::VaultUnavailable)
    }

    pub(super) fn unavailable(&self, error: &ProxyError) -> Outgo {
        self.error(error, CacheStatus::forwarded(Fwd::Bypass).because(Reason::Session))
    }

    /// Who was asked, as the client named it: what cookies go by.
    pub(super) fn site(&self) -> (Authority, bool) {
        let trusted = &self.snapshot.config.server.trusted_proxies;
        let host = identity::of(&self.connection, &self.presented.headers, trusted).host();
        let host = host.unwrap_or_else(|| self.gated.authority.clone());
        let secure = is_secure(self.scheme == http::uri::Scheme::HTTPS, host.host());
        (host, secure)
    }

    /// The cookies that the origin sees; `None`: those that are forwarded anyway.
    pub(super) fn cookies(&self) -> Option<Vec<u8>> {
        let (sessions, vault) = (&self.snapshot.sessions, &self.snapshot.cookies.vault);
        let is_own = |name: &[u8]| {
            sessions.as_ref().is_some_and(|sessions| sessions.is_own(name))
                || vault.as_ref().is_some_and(|vault| vault.is_own(name))
        };
        let lines: &[_] = match &self.presented.cookie {
            ForwardedCookie::AsPresented => {
                &self.presented.headers.get_all(header::COOKIE).iter().collect::<Vec<_>>()
            }
            ForwardedCookie::Only(cookies) => &[cookies],
            ForwardedCookie::None => &[],
        };
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let forwarded = lines.join(&b"; "[..]);
        let mut out = Vec::with_capacity(forwarded.len());
        let mut removed = false;
        for pair in cookie_jar::request::pairs(&forwarded) {
            if is_own(pair.name) {
                removed = true;
            } else {
                cookie_jar::request::push(&mut out, pair.whole);
            }
        }
        // What a route or a plugin chooses among the cookies of a request was chosen without these: they are not forwarded there, and what comes may be stored.
        let kept = self.jars.as_ref().filter(|_| self.presented.cookie == ForwardedCookie::AsPresented);
        let (host, over_tls) = self.site();
        let site = Site { host: host.host(), path: self.parts.uri.path().as_bytes(), over_tls };
        let kept = kept.and_then(|jars| jars.cookies(&site, self.now));
        if let Some(kept) = &kept {
            cookie_jar::request::push(&mut out, kept);
        }
        (removed || kept.is_some()).then_some(out)
    }
}
