//! `[plugin.NAME]`, and the plugins of a route.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Resolver, many, named, to_usize};
use crate::config::decode::{At, Table as _, Text};
use crate::config::mistake::nearest;
use crate::config::model::{OnPluginFailure, OnRateFailure, OnRequestFailure, Plugin};
use crate::config::schema;

impl Resolver<'_> {
    pub(super) fn plugins(&self, file: &schema::File) -> BTreeMap<Arc<str>, Arc<Plugin>> {
        let read = named(&file.plugin).map(|(name, at)| {
            let name: Arc<str> = name.value.as_str().into();
            (name.clone(), Arc::new(self.plugin(name, &at.value)))
        });
        read.collect()
    }

    pub(super) fn plugin(&self, name: Arc<str>, plugin: &schema::Plugin) -> Plugin {
        let path = match plugin.path.get() {
            Some(at) => self.readable(at),
            None => {
                if plugin.path.is_absent() && plugin.is_clear() {
                    let message = format!("plugin `{name}` has no file");
                    self.wrong_with_help(&plugin.span, message, "add `path = \"NAME.wasm\"`");
                }
                PathBuf::new()
            }
        };
        let config = plugin.config.get();
        if let Some(at) = config.filter(|at| !at.value.0.is_object()) {
            self.wrong_with_help(
                &at.span,
                "the configuration of a plugin is a table",
                "as in `config = { drop = [\"utm_*\"] }`",
            );
        }
        let default_limits = schema::PluginLimits::default();
        let limits = plugin.limits.value().unwrap_or(&default_limits);
        let default_memo = schema::PluginMemo::default();
        let memo = plugin.memo.value().unwrap_or(&default_memo);
        Plugin {
            name,
            place: self.source.place(plugin.span.start),
            path,
            config: config.map_or_else(|| "{}".to_owned(), |at| at.value.0.to_string()),
            grants: many(&plugin.grants).filter_map(|at| self.grant(at)).collect(),
            time: self.limit_duration(&limits.time, Duration::from_millis(10)),
            configure_time: self.limit_duration(&limits.configure, Duration::from_millis(500)),
            memory: self.size_usize(&limits.memory, 16 << 20, 1 << 16),
            state: self.size_usize(&limits.state, 8 << 20, 0),
            memo_entries: to_usize(&memo.entries, 16_384),
            tests: plugin.tests.get().map(|at| self.readable(at)),
            memo_bytes: self.size_usize(&memo.bytes, 8 << 20, 0),
            on_failure: match plugin.on_failure.value() {
                None | Some(schema::PluginFailure::Safe) => OnPluginFailure::default(),
                Some(schema::PluginFailure::Table(table)) => OnPluginFailure {
                    request: table.request.or(OnRequestFailure::Bypass),
                    response_as_default: table.response.value() == Some(&schema::OnResponseFailure::Default),
                    invalidate_uri_only: table.invalidate.value()
                        == Some(&schema::OnInvalidateFailure::UriOnly),
                    rate: table.rate.or(OnRateFailure::ClientIp),
                },
            },
        }
    }

    pub(super) fn grant(&self, at: &At<Text>) -> Option<String> {
        let checked = crate::plugin::check_grant(&at.value.value);
        if let Err(help) = &checked {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is nothing that can be granted", at.value.shown),
                help.clone(),
            );
        }
        checked.ok().map(|()| at.value.value.clone())
    }

    /// The plugins that a route names.
    pub(super) fn plugins_of_route(&self, route: &schema::Route, known: &[String]) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for at in many(&route.plugins) {
            let name = at.value.value.as_str();
            if !known.iter().any(|known| known == name) {
                let help = match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add `[plugin.{}]`", at.value.shown),
                };
                self.wrong_with_help(&at.span, format!("there is no plugin `{}`", at.value.shown), help);
            } else if names.iter().any(|other| **other == *name) {
                self.wrong(&at.span, format!("`{name}` stands here twice"));
            } else {
                names.push(name.into());
            }
        }
        names
    }
}
