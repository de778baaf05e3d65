//! Weir without plugins, for builds that want to be small: what there would be is never there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cache_semantics::Now;
use cache_semantics::policy::Policy;
use cache_semantics::storable::MethodClass;
use data_encoding::HEXLOWER;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use purge_log::{Mode, Target};
use session_state::protocol::Plain;
use sha2::{Digest as _, Sha256};

use super::{Asking, Judged, Wants, Way};
use crate::clock::Clock;
use crate::config::model::Config;
use crate::limit::Charge;
use crate::metrics::Readings;
use crate::proxy::Snapshot;
use crate::purge::Purges;
use crate::request_key::{PresentedFields, Shape};
use crate::server::connection::Connection;

/// Plugins by their names: there are none.
pub type LoadedPlugins = BTreeMap<Arc<str>, Infallible>;

/// A configuration names plugins.
#[derive(Debug, thiserror::Error)]
#[error("this Weir was built without plugins, and the configuration names `{name}`")]
pub struct PluginError {
    name: Arc<str>,
}

/// Runs nothing.
pub struct Registry;

impl Registry {
    /// There is nothing to set up.
    pub fn new(_: Option<&Path>, _: &Arc<Purges>, _: &Arc<dyn Clock>) -> Self {
        Self
    }

    /// Refuses a configuration that names any.
    pub fn load(&self, config: &Config, _: Option<&LoadedPlugins>) -> Result<LoadedPlugins, PluginError> {
        match config.plugins.keys().next() {
            Some(name) => Err(PluginError { name: name.clone() }),
            None => Ok(LoadedPlugins::new()),
        }
    }

    /// There is nothing to read.
    pub fn readings(&self, _: &LoadedPlugins, _: Now, _: &mut Readings) {}
}

/// Any text may stand there: the plugin itself will be refused.
pub fn check_grant(_: &str) -> Result<(), String> {
    Ok(())
}

/// The plugins of a route: there is no such thing.
#[derive(Debug)]
pub struct RoutePlugins(Infallible);

impl RoutePlugins {
    /// None.
    pub fn new(_: &Arc<str>, _: &[Arc<str>], _: &LoadedPlugins) -> Option<Self> {
        None
    }

    /// Nothing.
    pub fn allowance(&self) -> Allowance {
        match self.0 {}
    }

    /// Nothing.
    pub fn wants(&self, _: MethodClass, _: bool) -> Wants {
        match self.0 {}
    }

    /// None.
    pub fn session(&self) -> &[Box<str>] {
        match self.0 {}
    }

    /// Nobody does.
    pub fn read_json(&self) -> bool {
        match self.0 {}
    }

    /// Nobody does.
    pub fn charge(&self) -> bool {
        match self.0 {}
    }

    /// None.
    pub fn buckets(&self) -> std::iter::Empty<(&Arc<str>, &str)> {
        match self.0 {}
    }

    /// Nobody is asked.
    pub fn charges(&self, _: &Asking<'_>) -> Option<Vec<Charge>> {
        match self.0 {}
    }

    /// Nobody does.
    pub fn hear_more(&self, _: MethodClass) -> bool {
        match self.0 {}
    }

    /// Nobody is asked.
    pub fn before_lookup(&self, _: &Asking<'_>, _: &mut Said) {
        match self.0 {}
    }

    /// Nobody is asked.
    pub fn judge(
        &self,
        _: &Asked,
        _: usize,
        _: Now,
        _: (StatusCode, &HeaderMap, Option<u64>),
        _: &Policy,
    ) -> Judged {
        match self.0 {}
    }

    /// Nobody is asked.
    pub fn after_write(
        &self,
        _: &Asked,
        _: usize,
        _: Now,
        _: (StatusCode, &HeaderMap),
        _: &Snapshot,
    ) -> Vec<(Target, Mode)> {
        match self.0 {}
    }
}

/// What nobody said.
#[derive(Debug, Default)]
pub struct Said {
    /// As without plugins.
    pub way: Way,
    /// Nothing changes.
    pub shape: Shape,
    /// Nothing.
    pub told: Vec<Box<str>>,
}

/// Nobody takes anything.
#[derive(Debug, Default)]
pub struct Allowance;

impl Allowance {
    /// Nothing.
    pub fn new(_: Duration) -> Self {
        Self
    }
}

/// Content of a request that was received whole.
#[derive(Debug, Clone)]
pub struct Content {
    digest: String,
}

impl Content {
    /// Reads it.
    pub fn new(bytes: &[u8], _: bool) -> Self {
        Self { digest: HEXLOWER.encode(&Sha256::digest(bytes)) }
    }

    /// Its SHA-256, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// An attribute of a session, which nobody reads.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'r> {
    /// Its name.
    pub name: &'r str,
    /// A text as it is, everything else as RFC 9651 writes it.
    pub value: &'r str,
    /// Whether it is a text.
    pub is_text: bool,
}

/// What is known of a request beside its head.
#[derive(Debug)]
pub struct Beside {
    /// Attributes of its session.
    pub session: Vec<(String, Plain)>,
    /// Its content.
    pub content: Option<Arc<Content>>,
    /// Whether it has content that was too long to be read.
    pub content_is_unread: bool,
    /// Nothing.
    pub allowance: Allowance,
}

/// A request that nobody will hear of again.
pub struct Asked(());

impl Asked {
    /// Nothing is kept.
    pub fn keep(
        _: &Parts,
        _: (&str, &str, Option<IpAddr>, &Connection),
        _: Option<&mut Said>,
        _: &Arc<PresentedFields>,
        _: Beside,
    ) -> Arc<Self> {
        Arc::new(Self(()))
    }
}
