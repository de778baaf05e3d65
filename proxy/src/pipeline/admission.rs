//! What limits say of a request before it goes on, and its places in those that count how many are there at once.

use super::*;

/// What limits are told of a request.
pub(super) fn asking<'r>(
    identity: identity::Identity<'r>,
    headers: &'r HeaderMap,
    route: &'r Route,
) -> limit::Asking<'r> {
    limit::Asking { identity, headers, route: &route.name, session: None, user: None, charges: None }
}

/// Tells them of its session.
pub(super) fn tell_session<'a>(asking: &mut limit::Asking<'a>, session: Option<&'a Opened>) {
    if let Some(Opened::Some(found)) = session {
        asking.session = Some(&found.0.0);
        asking.user = found.1.user();
    }
}

impl Exchange {
    pub(super) fn asking(&self) -> limit::Asking<'_> {
        let (headers, trusted) = (&self.presented.headers, &self.snapshot.config.server.trusted_proxies);
        let mut asking = asking(identity::of(&self.connection, headers, trusted), headers, self.route());
        asking.charges = self.charges.as_deref();
        tell_session(&mut asking, self.session.as_ref());
        asking
    }

    /// Takes a place in limits that count how many are there at once.
    pub(super) async fn hold(&mut self) -> Result<(), Box<limit::Refused>> {
        let websocket = self.gated.websocket.is_some();
        self.held = limit::hold(&self.plan().limits, &self.asking(), websocket).await?;
        Ok(())
    }

    /// Charges by session or user, now that they are known.
    pub(super) async fn charge_opened(&mut self) -> Result<(), Box<limit::Refused>> {
        let asked = limit::when_opened(&self.plan().limits, &self.asking(), limit::Unknown::default());
        let said = asked.answered(&*self.worker.proxy.clock).await?;
        self.said.add(said);
        Ok(())
    }

    /// Charges for asking the origin, where a limit charges for nothing else.
    pub(super) async fn charge_miss(&mut self) -> Result<(), ProxyError> {
        if self.plan().limits.is_empty() {
            return Ok(());
        }
        let asked = limit::when_missed(&self.plan().limits, &self.asking());
        let said = Box::pin(asked.answered(&*self.worker.proxy.clock)).await.map_err(ProxyError::Limited)?;
        self.said.add(said);
        Ok(())
    }

    pub(super) fn refused(&self, refused: Box<limit::Refused>) -> Outgo {
        let status = CacheStatus::forwarded(Fwd::Bypass).because(Reason::Refused);
        self.error(&ProxyError::Limited(refused), status)
    }
}
