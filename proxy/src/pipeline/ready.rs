//! What a request waits for before it is decided about: limits in Redis, its content, its session.

use session_state::protocol::Plain;

use super::*;
use crate::request_content;

/// What a request has waited for so far.
#[derive(Default)]
pub(super) struct Ready {
    /// The limits have been asked that need nothing but its head.
    pub(super) admitted: bool,
    /// Those by session have been, too.
    pub(super) session_charged: bool,
    /// This is to be said of them.
    pub(super) said: Said,
    /// Its content, where that had to be read.
    pub(super) content: Option<RequestContent>,
    /// What is known of all of it.
    pub(super) facts: Option<Arc<plugin::Content>>,
    /// Its session, where plugins want to know of it, or it is part of the key.
    pub(super) session: Option<Opened>,
    /// The attributes of it that plugins read.
    pub(super) attributes: Vec<(String, Plain)>,
    /// What plugins say that it costs, and that has been paid.
    pub(super) charges: Option<Arc<[Charge]>>,
    /// Where it is recorded.
    pub(super) recording: Option<Box<Recording>>,
    /// What their hooks may still take.
    pub(super) allowance: Option<plugin::Allowance>,
}

impl Ready {
    /// What else is to be known of a request.
    pub(super) fn wants(&self, snapshot: &Snapshot, plan: &Plan, parts: &Parts, gated: &Gated) -> Wants {
        let by_content = plan.content_class(&parts.method).is_some();
        let plugins = plan.plugins.as_ref();
        let keyed_session = !plan.key.session().is_empty();
        if (plugins.is_none() && !by_content && !keyed_session) || gated.websocket.is_some() {
            return Wants::default();
        }
        let looked_up = plan.answers_from_cache(&parts.method) && (by_content || !gated.has_body);
        let class = MethodClass::of(&parts.method);
        let wanted = plugins.map(|plugins| plugins.wants(class, looked_up)).unwrap_or_default();
        let names_session =
            || snapshot.sessions.as_ref().is_some_and(|sessions| sessions.is_named(&parts.headers));
        Wants {
            content: (wanted.content || by_content) && gated.has_body && self.content.is_none(),
            session: (wanted.session || (keyed_session && looked_up))
                && self.session.is_none()
                && names_session(),
        }
    }

    /// Why the cache is not asked, as far as content and session say.
    pub(super) fn keeps_out(&self, plan: &Plan, has_session: bool) -> Option<Reason> {
        let by_session = match &self.session {
            // Nobody can tell who it is.
            Some(Opened::Unknown) => true,
            // Plugins, or attributes in the key, keep apart who is not to share.
            Some(Opened::None { .. } | Opened::Some(_)) => plan.route.session == Use::Write,
            None => has_session,
        };
        let too_long = self.content.as_ref().is_some_and(RequestContent::is_too_long);
        by_session.then_some(Reason::Session).or(too_long.then_some(Reason::RequestBody))
    }
}

/// What it waits for next.
pub(super) enum Wait {
    /// Limits that Redis is asked.
    Limits(limit::Asked),
    /// Likewise, with what plugins charge.
    Charges(limit::Asked, Arc<[Charge]>),
    /// What is to be known of it.
    For(Wants),
}

/// A request that waits.
pub(super) struct Waiting {
    pub(super) worker: Arc<Worker>,
    pub(super) request: Received,
    pub(super) connection: Arc<Connection>,
    pub(super) snapshot: Arc<Snapshot>,
    /// Which plan of it.
    pub(super) plan: usize,
    pub(super) now: Now,
    pub(super) gated: Gated,
    pub(super) ready: Ready,
}

impl Waiting {
    /// Waits, and goes on with the request.
    pub(super) async fn go_on(mut self, wait: Wait) -> Response<Body> {
        if let Err(error) = self.wait(wait).await {
            return self.error(&error);
        }
        let Self { worker, mut request, connection, snapshot, plan: _, now, gated, ready } = self;
        let mut answer = serve(&worker, &mut request, &connection, &snapshot, now, gated, ready);
        std::future::poll_fn(|context| answer.poll_response(context)).await
    }

    async fn wait(&mut self, wait: Wait) -> Result<(), ProxyError> {
        match wait {
            Wait::Limits(asked) => {
                let said = asked.answered(&*self.worker.proxy.clock).await.map_err(ProxyError::Limited)?;
                self.ready.said.add(said);
                self.ready.admitted = true;
            }
            Wait::Charges(asked, charges) => {
                let said = asked.answered(&*self.worker.proxy.clock).await.map_err(ProxyError::Limited)?;
                self.ready.said.add(said);
                self.ready.charges = Some(charges);
            }
            Wait::For(wants) => {
                if wants.session {
                    self.open_session().await?;
                }
                if wants.content {
                    self.read_content().await?;
                }
            }
        }
        Ok(())
    }

    async fn open_session(&mut self) -> Result<(), ProxyError> {
        let plan = &self.snapshot.plans[self.plan];
        let Some(sessions) = &self.snapshot.sessions else { return Ok(()) };
        let headers = &self.request.parts.headers;
        let opened = sessions.of_request(headers, self.now).await;
        if let Some(plugins) = &plan.plugins {
            self.ready.attributes = session::attributes(&opened, plugins.session(), self.now);
        }
        if !plan.limits.is_empty() {
            let trusted = &self.snapshot.config.server.trusted_proxies;
            let mut asking = asking(identity::of(&self.connection, headers, trusted), headers, &plan.route);
            tell_session(&mut asking, Some(&opened));
            let asked =
                limit::when_opened(&plan.limits, &asking, limit::Unknown { session: false, charges: true });
            let said = asked.answered(&*self.worker.proxy.clock).await.map_err(ProxyError::Limited)?;
            self.ready.said.add(said);
        }
        self.ready.session_charged = true;
        self.ready.session = Some(opened);
        Ok(())
    }

    async fn read_content(&mut self) -> Result<(), ProxyError> {
        let plan = &self.snapshot.plans[self.plan];
        let limits = &self.snapshot.config.server.limits;
        let limit = plan.route.body_bytes.unwrap_or(limits.body_bytes);
        let incoming = std::mem::take(&mut self.request.content);
        let content = request_content::read(incoming, plan.route.buffer_body, limit, limits).await?;
        if let Some(bytes) = content.whole() {
            let as_json = plan.plugins.as_ref().is_some_and(|plugins| plugins.read_json());
            self.ready.facts = Some(Arc::new(plugin::Content::new(bytes, as_json)));
        }
        self.ready.content = Some(content);
        Ok(())
    }

    fn error(&self, error: &ProxyError) -> Response<Body> {
        let local = Local {
            worker: &self.worker,
            connection: &self.connection,
            parts: &self.request.parts,
            authority: Some(&self.gated.authority),
            trusted: &self.snapshot.config.server.trusted_proxies,
            now: self.now,
            route: None,
            close: false,
            said: Said::new(),
        };
        local.error(error, Reason::Refused)
    }
}
