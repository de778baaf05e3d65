//! The session of a request: whether it has to do with one, and what the origin's answer changes in it.

use super::*;

/// The sessions, if this request has to do with them: where its route writes them, or reads them and the request names one.
pub(super) fn sessions_of<'s>(
    snapshot: &'s Snapshot,
    plan: &Plan,
    headers: &HeaderMap,
) -> Option<&'s Arc<Sessions>> {
    let sessions = snapshot.sessions.as_ref()?;
    match plan.route.session {
        Use::Off => None,
        Use::Read => session::cookie::is_given(headers, sessions.cookie_name()).then_some(sessions),
        Use::Write => Some(sessions),
    }
}

impl Exchange {
    /// Does what the origin's answer says of the session, before the client sees any of it. `Some`: the client is answered something else.
    pub(super) async fn settle(&self, response: &mut Response<Body>) -> Option<ProxyError> {
        let (Some(opened), Some(sessions)) = (&self.session, &self.snapshot.sessions) else { return None };
        let headers = response.headers_mut();
        let stale = matches!(opened, Opened::None { stale: true });
        if self.route().session == Use::Write && (stale || Sessions::is_spoken_of(headers)) {
            match sessions.settle(opened, headers, self.clock()).await {
                Settled::Done => {}
                Settled::Cookie(cookie) => {
                    headers.append(header::SET_COOKIE, cookie);
                    // Whatever the origin says of caching, it said without knowing of this cookie.
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
                }
                Settled::Conflict => return Some(ProxyError::SessionConflict),
                Settled::Lost => return Some(ProxyError::SessionLost),
            }
        }
        if matches!(opened, Opened::Some(_)) && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        None
    }
}
