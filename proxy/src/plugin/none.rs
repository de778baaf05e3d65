//! Weir without plugins, for builds that want to be small: what there would be is never there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cache_semantics::Now;
use cache_semantics::policy::Policy;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use purge_log::{Mode, Target};

use super::{Asking, Judged, Way};
use crate::clock::Clock;
use crate::config::model::Config;
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

    /// Nobody does.
    pub fn hear_more(&self, _: &Method) -> bool {
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
    ) -> Arc<Self> {
        Arc::new(Self(()))
    }
}
