//! `[redis.NAME]`: the servers, and how they are spoken to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{RedisServers, Resolver, named, to_u32};
use crate::config::decode::{At, Field, Table as _, Text};
use crate::config::mistake::{Mistake, Span};
use crate::config::model::{Redis, RedisTls, Secret};
use crate::config::schema;
use crate::redis::advice;
use crate::redis::url::Place;
use crate::session::spec::Session;

/// A commit, a version, a date.
const EPOCH_BYTES_MAX: usize = 256;

/// Notes what each holds beside stored responses, so that it can be said what its settings would lose.
pub(super) fn note_what_they_hold(redis: &mut RedisServers, session: Option<&Session>) {
    let server = session.and_then(|session| redis.get_mut(session.redis.as_ref()?));
    if let (Some(session), Some(server)) = (session, server) {
        let holds = advice::Holds { sessions: true, sessions_only_here: !session.durable };
        *server = Arc::new(Redis { holds, ..Redis::clone(server) });
    }
}

impl Resolver<'_> {
    pub(super) fn redis_servers(&mut self, file: &schema::File) -> RedisServers {
        let mut servers = BTreeMap::new();
        for (name, at) in named(&file.redis) {
            match self.redis(&name.value, &at.value) {
                Some(server) => {
                    servers.insert(Arc::clone(&server.name), Arc::new(server));
                }
                None => {
                    self.puzzling_redis.insert(name.value.clone());
                }
            }
        }
        servers
    }

    pub(super) fn redis(&mut self, name: &str, redis: &schema::Redis) -> Option<Redis> {
        if redis.url.is_absent() && redis.is_clear() {
            self.wrong_with_help(
                &redis.span,
                format!("Redis `{name}` has no URL"),
                "add `url = \"redis://127.0.0.1:6379\"`",
            );
        }
        let default_tls = schema::RedisTls::default();
        let tls = self.store_tls(redis.tls.value().unwrap_or(&default_tls));
        let at = redis.url.get();
        let in_url = at.and_then(|at| Some((at.value.0.password.clone()?, at.span.clone())));
        let password = self.password(&redis.password, &redis.password_file, in_url);
        let at = at?;
        let mut url = at.value.0.clone();
        url.password = password;
        if let Some(user) = redis.username.value() {
            url.username = Some(user.value.clone());
        }
        if let Place::Unix(path) = &mut url.place {
            *path = self.path(path.as_path());
        }
        if let Some(span) = redis.tls.span()
            && !url.tls
        {
            self.wrong_with_help(&span, "this Redis is not spoken to by TLS", "write `rediss://` in `url`");
        }
        if url.password.is_none() && is_public(&url.place) {
            let message = "this Redis has a public address, and no password";
            self.warnings.push(
                Mistake::new(at.span.clone(), message)
                    .help("set `requirepass` or an ACL user in redis.conf, and `password` here"),
            );
        }
        if url.is_cluster() && url.database > 0 {
            let message = format!("a Cluster has one database: {} becomes part of every key", url.database);
            self.warnings.push(Mistake::new(at.span.clone(), message).help("leave it out of the URL"));
        }
        Some(Redis {
            tls,
            connect_timeout: self.limit_duration(&redis.connect_timeout, Duration::from_secs(5)),
            read_budget: self.limit_duration(&redis.read_budget, Duration::from_millis(25)),
            write_budget: self.limit_duration(&redis.write_budget, Duration::from_millis(250)),
            max_connections: to_u32(&redis.max_connections, 50),
            health_interval: self.limit_duration(&redis.health_interval, Duration::from_secs(5)),
            ..Redis::new(name, url)
        })
    }

    /// A variable that is not set stands for none.
    pub(super) fn epoch(&self, field: &Field<Text>) -> Option<Arc<str>> {
        let at = field.get().filter(|at| !at.value.value.is_empty())?;
        if at.value.value.len() > EPOCH_BYTES_MAX {
            self.wrong(&at.span, format!("an epoch has at most {EPOCH_BYTES_MAX} bytes"));
        }
        Some(at.value.value.as_str().into())
    }

    /// TLS towards a store: Redis, or PostgreSQL.
    pub(in super::super) fn store_tls(&self, tls: &schema::RedisTls) -> RedisTls {
        let client = match (&tls.cert, &tls.key) {
            (Field::Absent, Field::Absent) => None,
            pair => self.certificate(pair, &tls.span, tls.is_clear()),
        };
        RedisTls { ca: tls.ca.get().map(|at| self.readable(at)), client }
    }

    /// The password of a store, which may be written in one of three places.
    pub(in super::super) fn password(
        &self,
        written: &Field<crate::config::decode::Secret>,
        file: &Field<PathBuf>,
        in_url: Option<(Secret, Span)>,
    ) -> Option<Secret> {
        let mut password = written.value().map(|password| Secret(password.0.clone()));
        if let (Some(file), Some(other)) = (file.get(), written.span()) {
            self.reader.report(
                Mistake::new(file.span.clone(), "there cannot be both `password` and `password_file`")
                    .other(other, "`password` stands here"),
            );
        } else if let Some(file) = file.get() {
            password = self.password_of(file);
        }
        if let (Some(span), Some((_, at))) = (written.span().or_else(|| file.span()), &in_url) {
            self.reader.report(
                Mistake::new(span, "the password is in the URL already")
                    .other(at.clone(), "here")
                    .help("write it once; the environment or a file is the better place"),
            );
        }
        password.or(in_url.map(|(password, _)| password))
    }

    pub(super) fn password_of(&self, file: &At<PathBuf>) -> Option<Secret> {
        let path = self.readable(file);
        let is_file = std::fs::metadata(&path).is_ok_and(|data| data.is_file());
        // What cannot be read has been reported.
        let text = is_file.then(|| std::fs::read_to_string(&path).ok()).flatten()?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            self.wrong(&file.span, "this file holds no password");
        }
        Some(Secret(text.to_owned()))
    }
}

/// Whether anything of it is an address that the whole Internet may reach.
fn is_public(place: &Place) -> bool {
    let addresses = place.servers().filter_map(|server| server.host.parse().ok());
    addresses.into_iter().any(advice::is_public)
}

/// Whether keys may begin with it: nothing that Redis, a Cluster or a pattern would read in another way.
pub(in crate::config) fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}
