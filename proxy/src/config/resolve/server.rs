//! `[server]`, `[admin]` and `[log]`: where Weir listens, with what limits, and what it writes about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Resolver, many, to_u32, to_usize};
use crate::config::decode::{At, Field, OneOrMany, Table as _, Text};
use crate::config::mistake::{Mistake, Span};
use crate::config::model::{
    Admin, Certificate, Limits, ListenAddress, Listener, Log, LogFormat, LogLevel, Secret, Server,
};
use crate::config::schema;

/// Where clients connect unless told otherwise: this machine only, because a safe default asks before it opens a door.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where operators connect unless told otherwise.
const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

impl Resolver<'_> {
    pub(super) fn server(&mut self, server: &schema::Server) -> Server {
        let shared_tls: Vec<Certificate> = self.certificates(&server.tls);
        let trusted_proxies: Vec<_> = many(&server.trusted_proxies).map(|at| at.value).collect();
        let mut listeners: Vec<(Listener, Span)> = Vec::new();
        for at in many(&server.listen) {
            let table = &at.value.0;
            let own_tls = self.certificates(&table.tls);
            let Some(address) = self.listen_address(table) else { continue };
            let shares = table.tls.is_absent() && matches!(address, ListenAddress::Tcp(_));
            let tls = if shares { shared_tls.clone() } else { own_tls };
            let proxy_protocol = table.proxy_protocol.or(false);
            if proxy_protocol && trusted_proxies.is_empty() && matches!(address, ListenAddress::Tcp(_)) {
                let span = table.proxy_protocol.span().unwrap_or_else(|| at.span.clone());
                self.wrong_with_help(
                    &span,
                    "nobody may connect here: a PROXY header is taken from `trusted_proxies` only, and there are none",
                    "list the networks of your proxies in `[server]` as `trusted_proxies`",
                );
            }
            let clash = listeners.iter().find(|(other, _)| overlap(&other.address, &address));
            if let Some((_, other)) = clash {
                let mistake = Mistake::new(at.span.clone(), "two listeners cannot share an address");
                self.reader.report(mistake.other(other.clone(), "this is the first"));
                continue;
            }
            listeners.push((Listener { address, tls, proxy_protocol }, at.span.clone()));
        }
        if let Some(at) = server.listen.get()
            && at.value.0.is_empty()
        {
            self.wrong_with_help(
                &at.span,
                "a server without a listener serves nobody",
                "write an address, as \"127.0.0.1:8080\"",
            );
        }
        if server.listen.is_absent() {
            let default =
                Listener { address: ListenAddress::Tcp(LISTEN), tls: shared_tls, proxy_protocol: false };
            listeners.push((default, 0..0));
        }
        let default_limits = schema::Limits::default();
        Server {
            listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
            trusted_proxies,
            drain: self.duration(&server.drain, Duration::from_secs(30)),
            workers: match server.workers.or(schema::Workers::Cores) {
                schema::Workers::Cores => std::thread::available_parallelism().map_or(1, usize::from),
                schema::Workers::Number(number) => number,
            },
            limits: self.limits(server.limits.value().unwrap_or(&default_limits)),
        }
    }

    pub(super) fn listen_address(&self, table: &schema::ListenerTable) -> Option<ListenAddress> {
        let Some(at) = table.address.get() else {
            if table.address.is_absent() && table.is_clear() {
                self.wrong_with_help(
                    &table.span,
                    "this listener has no address",
                    "add `address = \"127.0.0.1:8080\"`",
                );
            }
            return None;
        };
        if let Some(path) = at.value.value.strip_prefix("unix:") {
            if path.is_empty() {
                self.wrong(&at.span, "`unix:` is followed by the path of a socket");
                return None;
            }
            let path = self.path(Path::new(path));
            if let Some(folder) = path.parent()
                && !folder.as_os_str().is_empty()
                && !folder.is_dir()
            {
                self.wrong(&at.span, format!("the socket's folder `{}` does not exist", folder.display()));
            }
            return Some(ListenAddress::Unix(path));
        }
        self.socket_address(at).map(ListenAddress::Tcp)
    }

    pub(super) fn socket_address(&self, at: &At<Text>) -> Option<SocketAddr> {
        let text = at.value.value.trim();
        let full = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None if text.starts_with(':') => format!("0.0.0.0{text}"),
            None => text.to_owned(),
        };
        if let Ok(address) = full.parse() {
            return Some(address);
        }
        let help = if text.parse::<u16>().is_ok() {
            format!(
                "write \"127.0.0.1:{text}\" for this machine only, or \":{text}\" for every address of it"
            )
        } else if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            format!("add a port: \"{}\"", SocketAddr::new(address, 8080))
        } else if text.contains("://") {
            "write an address and a port, without a scheme, as \"127.0.0.1:8080\"; TLS is switched on by `tls = { … }`".to_owned()
        } else {
            "write an address and a port, as \"127.0.0.1:8080\", \":8080\" or \"[::1]:8080\"; names are not looked up here".to_owned()
        };
        self.wrong_with_help(&at.span, format!("`{}` is not an address to listen on", at.value.shown), help);
        None
    }

    pub(super) fn certificates(&self, field: &Field<OneOrMany<schema::Certificate>>) -> Vec<Certificate> {
        many(field)
            .filter_map(|at| {
                self.certificate((&at.value.cert, &at.value.key), &at.value.span(), at.value.is_clear())
            })
            .collect()
    }

    pub(super) fn certificate(
        &self,
        (cert, key): (&Field<PathBuf>, &Field<PathBuf>),
        span: &Span,
        is_clear: bool,
    ) -> Option<Certificate> {
        for (field, name) in [(cert, "cert"), (key, "key")] {
            if field.is_absent() && is_clear {
                self.wrong_with_help(
                    span,
                    format!("a certificate needs `{name}`"),
                    "write `{ cert = \"cert.pem\", key = \"key.pem\" }`",
                );
            }
        }
        let (cert_at, key_at) = (cert.get()?, key.get()?);
        let pair = Certificate { cert: self.readable(cert_at), key: self.readable(key_at) };
        let read = |path: &Path| {
            let is_file = std::fs::metadata(path).is_ok_and(|data| data.is_file());
            is_file.then(|| std::fs::read(path).ok()).flatten()
        };
        if let (Some(chain), Some(private)) = (read(&pair.cert), read(&pair.key))
            && let Err(fault) = crate::config::certificate::check_pair(&chain, &private)
        {
            let at = if fault.in_key { &key_at.span } else { &cert_at.span };
            self.wrong_with_help(at, fault.message, fault.help);
        }
        Some(pair)
    }

    pub(super) fn limits(&self, limits: &schema::Limits) -> Limits {
        let default = Limits::default();
        let head_bytes = self.size_usize(&limits.head_bytes, default.head_bytes, 1 << 10);
        let line_bytes = self.size_usize(&limits.line_bytes, default.line_bytes.min(head_bytes), 256);
        if line_bytes > head_bytes
            && let Some(at) = limits.line_bytes.get()
        {
            self.wrong_with_help(
                &at.span,
                "a request line is part of the head, and cannot be longer than `head_bytes`",
                "raise `head_bytes`, or lower this",
            );
        }
        Limits {
            line_bytes,
            head_bytes,
            head_fields: to_usize(&limits.head_fields, default.head_fields),
            connections: to_usize(&limits.connections, default.connections),
            connections_per_address: to_usize(
                &limits.connections_per_address,
                default.connections_per_address,
            ),
            streams: to_u32(&limits.streams, default.streams),
            resets: to_usize(&limits.resets, default.resets),
            head_timeout: self.limit_duration(&limits.head_timeout, default.head_timeout),
            idle_timeout: self.limit_duration(&limits.idle_timeout, default.idle_timeout),
            rate_bytes_min: self.size(&limits.rate_bytes_min, default.rate_bytes_min, 0),
            rate_after: self.limit_duration(&limits.rate_after, default.rate_after),
            keep_alive: self.limit_duration(&limits.keep_alive, default.keep_alive),
            body_bytes: self.size(&limits.body_bytes, default.body_bytes, 0),
            interim_responses: to_usize(&limits.interim_responses, default.interim_responses),
            waiters: to_usize(&limits.waiters, default.waiters),
            variants: to_usize(&limits.variants, default.variants),
            handshake_timeout: self.limit_duration(&limits.handshake_timeout, default.handshake_timeout),
        }
    }

    pub(super) fn admin(&self, admin: &schema::Admin, server: &Server) -> Option<Admin> {
        let token = admin.token.get().and_then(|at| {
            // An unset variable (`${TOKEN:-}`) leaves the token out.
            let token = at.value.0.trim();
            if !token.is_empty() && token.len() < 16 {
                self.wrong_with_help(
                    &at.span,
                    "a token of fewer than 16 characters can be guessed",
                    "take a random one, as `openssl rand -hex 24` prints",
                );
            }
            (!token.is_empty()).then(|| Secret(token.to_owned()))
        });
        let listen = match admin.listen.get() {
            Some(at) if at.value.value == "off" => return None,
            Some(at) => {
                let address = self.socket_address(at)?;
                let clash =
                    server.listeners.iter().any(|one| overlap(&one.address, &ListenAddress::Tcp(address)));
                if clash {
                    self.wrong_with_help(
                        &at.span,
                        "clients can reach this address: it is one of `[server]`",
                        "give the admin listener a port of its own",
                    );
                }
                address
            }
            None => ADMIN_LISTEN,
        };
        Some(Admin { listen, token })
    }

    pub(super) fn log(&self, log: Option<&schema::Log>) -> Log {
        let default = schema::Log::default();
        let log = log.unwrap_or(&default);
        Log {
            level: log.level.or(LogLevel::Info),
            format: log.format.or(LogFormat::Console),
            access: log.access.or(schema::AccessLog(Some(LogFormat::Console))).0,
        }
    }
}

/// Whether binding one address takes the other: the same port, and an address that is the same or stands for all of them.
fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            one.port() != 0
                && one.port() == other.port()
                && (one.ip() == other.ip()
                    || (one.is_ipv4() == other.is_ipv4()
                        && (one.ip().is_unspecified() || other.ip().is_unspecified())))
        }
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => one == other,
        _ => false,
    }
}
