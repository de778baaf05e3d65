//! What is allowed and probably not meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Resolver, many, named};
use crate::config::mistake::{Mistake, Source, Span, Warning};
use crate::config::model::{Action, Config, Route};
use crate::config::schema;
use crate::config::units::show_duration;
use crate::routes::Routes;

impl Resolver<'_> {
    pub(super) fn warn(&mut self, file: &schema::File, config: &Config) {
        let span_of_route: Vec<Span> = many(&file.route).map(|at| at.value.span.clone()).collect();
        let routes = Routes::new(config.routes.clone());
        let index_of =
            |wanted: &Arc<Route>| config.routes.iter().position(|route| Arc::ptr_eq(route, wanted));
        for (dead, by) in routes.unreachable() {
            let (Some(at), Some(other)) = (index_of(dead), index_of(by)) else { continue };
            let message = format!("route `{}` can never match", dead.name);
            let what = format!("route `{}` comes first and takes all that it would take", by.name);
            let mistake = Mistake::new(span_of_route[at].clone(), message);
            self.warnings
                .push(mistake.other(span_of_route[other].clone(), what).help("put the narrower route first"));
        }
        if let Some(last) = span_of_route.last()
            && !config.routes.iter().any(|route| route.matcher.takes_all())
        {
            self.warnings.push(
                Mistake::new(last.clone(), "requests that none of these routes takes are answered with 404")
                    .help("if that is not what you want, add a last route without `match`"),
            );
        }
        if let Some(admin) = &config.admin
            && !admin.listen.ip().is_loopback()
        {
            let span = file.admin.value().and_then(|admin| admin.listen.span()).unwrap_or(0..0);
            let (message, help) = if admin.token.is_none() {
                (
                    "without a token this admin listener answers nobody but this machine",
                    "set `token = \"${WEIR_ADMIN_TOKEN}\"`, or listen on 127.0.0.1",
                )
            } else {
                (
                    "the admin token crosses this network unencrypted",
                    "listen on 127.0.0.1, or let nobody but your own machines reach this address",
                )
            };
            self.warnings.push(Mistake::new(span, message).help(help));
        }
        let trusted = file.server.value().map(|server| &server.trusted_proxies);
        for at in trusted.into_iter().flat_map(many).filter(|at| at.value.prefix_len() == 0) {
            self.warnings.push(
                Mistake::new(
                    at.span.clone(),
                    "this trusts everybody: any client can claim any address, host and scheme",
                )
                .help("list the networks of your own proxies only"),
            );
        }
        let used: BTreeSet<&str> = config
            .routes
            .iter()
            .filter_map(|route| match &route.action {
                Action::Forward(origin) => Some(&**origin),
                _ => None,
            })
            .collect();
        for (name, _) in named(&file.origin) {
            if !used.contains(name.value.as_str()) {
                let message = format!("no route forwards to origin `{}`", name.value);
                self.warnings.push(Mistake::new(name.span.clone(), message));
            }
        }
        let forwards_plain =
            config.routes.iter().any(|route| matches!(route.action, Action::RedirectToHttps));
        if forwards_plain
            && config.server.listeners.iter().all(|listener| listener.tls.is_empty())
            && config.server.trusted_proxies.is_empty()
        {
            let span = many(&file.route)
                .find_map(|at| {
                    matches!(at.value.redirect.value(), Some(schema::Redirect::Https))
                        .then(|| at.value.redirect.span())?
                })
                .unwrap_or(0..0);
            self.warnings.push(
                Mistake::new(span, "this redirects to https, but no listener speaks TLS")
                    .help("add `tls` to a listener, or list the proxy that does it in `trusted_proxies`"),
            );
        }
        for at in many(&file.route) {
            let Some(schema::RouteCache::Table(table)) = at.value.cache.value() else { continue };
            if let (Some(at), Some(duration)) = (table.ttl.get(), self.maybe_duration(&table.ttl))
                && duration.is_zero()
            {
                self.warnings.push(
                    Mistake::new(
                        at.span.clone(),
                        format!(
                            "a `ttl` of {} stores nothing that the origin is silent about",
                            show_duration(duration)
                        ),
                    )
                    .help("to bypass the cache, write `cache = \"off\"`"),
                );
            }
        }
    }
}

/// Warnings as they are shown.
pub(in crate::config) fn show_warnings(source: &Source, mut list: Vec<Mistake>) -> Vec<Warning> {
    list.sort_by_key(|mistake| mistake.span.start);
    list.into_iter().map(|mistake| Warning::new(source, mistake)).collect()
}
