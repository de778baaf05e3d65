//! `[origin.NAME]`: the servers behind Weir.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Resolver, many, to_u32, to_usize};
use crate::config::decode::{At, Field, Table as _, Text};
use crate::config::model::{
    Balance, HealthCheck, Origin, OriginAddress, OriginProtocol, OriginServer, OriginTimeouts, Retry, Secret,
};
use crate::config::schema;

impl Resolver<'_> {
    pub(super) fn origin(&self, name: Arc<str>, origin: &schema::Origin) -> Origin {
        let servers: Vec<OriginServer> =
            many(&origin.servers).filter_map(|at| self.origin_server(&at.value.0)).collect();
        let is_missing = origin.servers.is_absent() && origin.is_clear();
        if is_missing || origin.servers.value().is_some_and(|servers| servers.0.is_empty()) {
            let span = origin.servers.span().unwrap_or_else(|| origin.span.clone());
            self.wrong_with_help(
                &span,
                format!("origin `{name}` has no servers"),
                "add `servers = [\"http://127.0.0.1:8000\"]`",
            );
        }
        let health = origin.health.get().map(|at| self.health(&at.value));
        let default_timeouts = schema::OriginTimeouts::default();
        let timeouts = origin.timeouts.value().unwrap_or(&default_timeouts);
        let default_retry = schema::Retry::default();
        let retry = origin.retry.value().unwrap_or(&default_retry);
        let default_tls = schema::OriginTls::default();
        let tls = origin.tls.value().unwrap_or(&default_tls);
        if let Some(at) = origin.tls.get()
            && !servers.is_empty()
            && !servers.iter().any(|server| server.tls)
        {
            self.wrong_with_help(
                &at.span,
                "no server of this origin speaks TLS",
                "write `https://` in `servers`",
            );
        }
        let tls_client = match (&tls.cert, &tls.key) {
            (Field::Absent, Field::Absent) => None,
            pair => self.certificate(pair, &tls.span, tls.is_clear()),
        };
        let seconds = Duration::from_secs;
        let resolvers: Vec<_> = many(&origin.resolvers).filter_map(|at| self.name_server(at)).collect();
        if let Some(at) = origin.resolvers.get()
            && at.value.0.is_empty()
        {
            self.wrong_with_help(&at.span, "nobody knows a name then", "leave `resolvers` out, or name one");
        }
        Origin {
            name,
            servers,
            resolvers,
            balance: origin.balance.or(Balance::RoundRobin),
            health,
            max_failures: to_u32(&origin.max_failures, 5),
            rest: self.duration(&origin.rest, seconds(10)),
            slow_start: self.duration(&origin.slow_start, seconds(10)),
            timeouts: OriginTimeouts {
                connect: self.limit_duration(&timeouts.connect, seconds(2)),
                first_byte: self.limit_duration(&timeouts.first_byte, seconds(30)),
                idle: self.limit_duration(&timeouts.idle, seconds(60)),
                keep_alive: self.duration(&timeouts.keep_alive, seconds(60)),
                tunnel: self.limit_duration(&timeouts.tunnel, seconds(3600)),
            },
            retry: Retry {
                attempts: to_u32(&retry.attempts, 1),
                budget: retry.budget.value().map_or(0.1, |share| share.0),
            },
            protocol: origin.protocol.or(OriginProtocol::Auto),
            max_connections: to_usize(&origin.max_connections, 1024),
            max_queue: to_usize(&origin.max_queue, 1024),
            proxy_protocol: origin.proxy_protocol.value().map(|version| if version.0 == 1 { 1 } else { 2 }),
            tls_ca: tls.ca.get().map(|at| self.readable(at)),
            tls_client,
            tls_name: tls.name.value().map(|name| name.value.clone()),
            session_mac: origin.session_mac.value().map(|secret| Secret(secret.0.clone())),
            own_host: origin.host.or(schema::HostChoice::Client) == schema::HostChoice::Server,
        }
    }

    fn name_server(&self, at: &At<Text>) -> Option<SocketAddr> {
        const DNS_PORT: u16 = 53;
        let text = at.value.value.trim();
        let alone = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let address = text.parse().ok().or_else(|| Some(SocketAddr::new(alone()?, DNS_PORT)));
        if address.is_none() {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is not the address of a name server", at.value.shown),
                "write an address, as \"10.0.0.2\" or \"127.0.0.1:5353\"; a name would need a name server itself",
            );
        }
        address.filter(|address: &SocketAddr| address.port() != 0)
    }

    pub(super) fn health(&self, health: &schema::HealthCheck) -> HealthCheck {
        let path = match health.path.get() {
            Some(at)
                if !at.value.value.starts_with('/')
                    || http::uri::PathAndQuery::try_from(&*at.value.value).is_err() =>
            {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not a path", at.value.shown),
                    "it begins with `/`, as \"/healthz\"",
                );
                "/".to_owned()
            }
            Some(at) => at.value.value.clone(),
            None => "/".to_owned(),
        };
        let every = self.limit_duration(&health.every, Duration::from_secs(10));
        HealthCheck {
            path,
            every,
            timeout: self.limit_duration(&health.timeout, Duration::from_secs(2)),
            unhealthy_after: to_u32(&health.unhealthy_after, 2),
            healthy_after: to_u32(&health.healthy_after, 2),
        }
    }

    pub(super) fn origin_server(&self, server: &schema::OriginServerTable) -> Option<OriginServer> {
        let Some(at) = server.url.get() else {
            if server.url.is_absent() && server.is_clear() {
                self.wrong_with_help(
                    &server.span,
                    "this server has no URL",
                    "add `url = \"http://127.0.0.1:8000\"`",
                );
            }
            return None;
        };
        let weight = server.weight.value().map_or(1, |weight| u32::try_from(weight.0).unwrap_or(u32::MAX));
        let (tls, address) = self.origin_url(at)?;
        Some(OriginServer { tls, address, weight })
    }

    pub(super) fn origin_url(&self, at: &At<Text>) -> Option<(bool, OriginAddress)> {
        match parse_origin_url(&at.value.value) {
            Ok((tls, OriginAddress::Unix(path))) => Some((tls, OriginAddress::Unix(self.path(&path)))),
            Ok(server) => Some(server),
            Err(help) => {
                // A password may stand before the host.
                if at.value.value.contains('@') {
                    self.reader.conceal(at.span.clone());
                }
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not the URL of a server", shown_url(&at.value)),
                    help,
                );
                None
            }
        }
    }
}

/// An origin table that is not complained about for lack of servers.
pub(super) fn given_servers() -> schema::Origin {
    schema::Origin { servers: Field::Wrong(0..0), ..schema::Origin::default() }
}

pub(super) fn looks_like_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:") || text.contains(':') || text.contains('/')
}

/// A URL may hold a password, which is refused here and not printed either.
fn shown_url(text: &Text) -> String {
    match (text.shown.find("://"), text.shown.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}…{}", &text.shown[..scheme + 3], &text.shown[at..])
        }
        _ => text.shown.clone(),
    }
}

/// The name of an origin that is only a URL.
pub(super) fn origin_name(tls: bool, address: &OriginAddress) -> String {
    match address {
        OriginAddress::Host(host, port) => format!("{}://{host}:{port}", if tls { "https" } else { "http" }),
        OriginAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// `http://host:port`, `https://host`, `unix:/path`; the error is what to write instead.
fn parse_origin_url(text: &str) -> Result<(bool, OriginAddress), String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err("`unix:` is followed by the path of a socket".to_owned());
        }
        return Ok((false, OriginAddress::Unix(path.into())));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("write \"http://{text}\""));
    };
    let tls =
        match scheme {
            "http" => false,
            "https" => true,
            "h2c" => {
                return Err("write \"http://…\", and `protocol = \"http2\"` in an `[origin.NAME]`".to_owned());
            }
            "ws" | "wss" => return Err(
                "write \"http://…\" or \"https://…\"; `websocket = true` on the route passes WebSockets on"
                    .to_owned(),
            ),
            _ => return Err("it begins with \"http://\", \"https://\" or \"unix:\"".to_owned()),
        };
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    if !matches!(path, "" | "/") {
        return Err(format!(
            "leave `{path}` out: `rewrite = {{ add_prefix = \"…\" }}` on the route puts a path in front"
        ));
    }
    if authority.contains('@') {
        return Err("leave user and password out: `request_headers = { set = { Authorization = \"Basic ${…}\" } }` sends them".to_owned());
    }
    let parsed: http::uri::Authority = authority
        .parse()
        .map_err(|_| "it goes on with a host and a port, as \"http://127.0.0.1:8000\"".to_owned())?;
    let host = parsed.host();
    if host.is_empty() || host.contains(['*', '%']) {
        return Err("it goes on with a host and a port, as \"http://127.0.0.1:8000\"".to_owned());
    }
    let port = match authority[host.len()..].strip_prefix(':') {
        None => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("a port is a number from 1 to 65535".to_owned()),
        },
    };
    Ok((tls, OriginAddress::Host(host.to_owned(), port)))
}
