//! `[cache.NAME]`: the named caches, and what each keeps in Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::redis::is_prefix;
use super::{RedisServers, Resolver, named};
use crate::config::decode::{Field, Lifetime};
use crate::config::mistake::nearest;
use crate::config::model::{Cache, CacheRules, SharedTier};
use crate::config::schema;
use crate::config::units::show_duration;
use crate::store::wire::Compression;

const MEMORY_MAX: u64 = 256 << 20;
const ENTRIES_MAX: u64 = 100_000;
const BODY_MAX: u64 = 8 << 20;
const REDIS_BODY_MAX: u64 = 1 << 20;
const REDIS_TTL_MAX: Duration = crate::proxy::KEEP_MAX;

impl Resolver<'_> {
    pub(super) fn caches(&mut self, file: &schema::File, redis: &RedisServers) -> BTreeMap<Arc<str>, Cache> {
        let mut caches = BTreeMap::new();
        for (name, at) in named(&file.cache) {
            let name: Arc<str> = name.value.as_str().into();
            let cache = self.cache(Arc::clone(&name), &at.value, redis);
            let same_place = |other: &&Cache| match (&cache.shared, &other.shared) {
                (Some(mine), Some(other)) => mine.redis == other.redis && mine.prefix == other.prefix,
                _ => false,
            };
            if let Some(other) = caches.values().find(same_place) {
                let span = at.value.redis.span().unwrap_or_else(|| at.span.clone());
                self.wrong_with_help(
                    &span,
                    format!("caches `{}` and `{name}` would overwrite each other in Redis", other.name),
                    "give each a `prefix` of its own",
                );
            }
            caches.insert(name, cache);
        }
        if !caches.contains_key("default") {
            caches.insert("default".into(), self.cache("default".into(), &schema::Cache::default(), redis));
        }
        caches
    }

    /// The tier in Redis, if the cache names one.
    pub(super) fn shared_tier(
        &mut self,
        name: &str,
        cache: &schema::Cache,
        redis: &RedisServers,
    ) -> Option<SharedTier> {
        let at = cache.redis.get()?;
        let Some(server) = redis.get(&*at.value.value) else {
            // One whose URL is wrong has been reported.
            if !self.puzzling_redis.contains(&at.value.value) {
                let help = match nearest(&at.value.value, redis.keys().map(|name| &**name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add `[redis.{}]` with its `url`", at.value.shown),
                };
                self.wrong_with_help(&at.span, format!("there is no Redis `{}`", at.value.shown), help);
            }
            return None;
        };
        let prefix = match cache.prefix.get() {
            Some(at) if !is_prefix(&at.value.value) => {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` cannot begin a key", at.value.shown),
                    "write up to 64 letters, digits, `-`, `_`, `.` and `:`",
                );
                name.to_owned()
            }
            Some(at) => at.value.value.clone(),
            None if is_prefix(name) => name.to_owned(),
            None => {
                self.wrong_with_help(
                    &at.span,
                    format!("the cache's name `{name}` cannot begin its keys"),
                    "give it a `prefix`",
                );
                return None;
            }
        };
        let version = cache.version.value().map_or(0, |number| number.0);
        let database = match server.url.database {
            number if server.url.is_cluster() && number > 0 => format!(":db{number}"),
            _ => String::new(),
        };
        let max_body = self.size(&cache.redis_max_body, REDIS_BODY_MAX, 1024);
        Some(SharedTier {
            redis: server.name.clone(),
            prefix: format!("{prefix}:v{version}{database}").into(),
            log: format!("{prefix}{database}").into(),
            required: cache.on_redis_error.or(schema::OnRedisError::Ignore) == schema::OnRedisError::Fail,
            max_body,
            max_ttl: self.redis_max_ttl(&cache.redis_max_ttl),
            compression: cache.compression.or(Compression::Zstd),
        })
    }

    pub(super) fn redis_max_ttl(&self, field: &Field<Lifetime>) -> Duration {
        let ttl = self.limit_duration(field, REDIS_TTL_MAX);
        if let (true, Some(at)) = (ttl > REDIS_TTL_MAX, field.get()) {
            self.wrong_with_help(
                &at.span,
                "nothing may stay in Redis longer than purges are remembered",
                format!("write at most \"{}\"", show_duration(REDIS_TTL_MAX)),
            );
        }
        ttl.min(REDIS_TTL_MAX)
    }

    pub(super) fn cache(&mut self, name: Arc<str>, cache: &schema::Cache, redis: &RedisServers) -> Cache {
        let shared = self.shared_tier(&name, cache, redis);
        let max_memory = self.size(&cache.max_memory, MEMORY_MAX, 1 << 20);
        let max_body = match cache.max_body.get() {
            Some(at) if at.value.0 > max_memory / 8 => {
                let eighth = crate::config::units::show_size(max_memory / 8);
                self.wrong_with_help(
                    &at.span,
                    "one body could push everything else out of memory",
                    format!("write at most an eighth of `max_memory`: {eighth}"),
                );
                BODY_MAX
            }
            Some(at) => at.value.0,
            None => BODY_MAX.min(max_memory / 8),
        };
        Cache {
            name,
            enabled: cache.kind.or(schema::CacheKind::Memory) == schema::CacheKind::Memory,
            max_memory,
            max_entries: cache.max_entries.value().map_or(ENTRIES_MAX, |number| number.0),
            max_body,
            version: cache.version.value().map_or(0, |number| number.0),
            epoch: self.epoch(&cache.epoch),
            epoch_grace: self.maybe_duration(&cache.epoch_grace).unwrap_or_default(),
            shared,
            defaults: CacheRules {
                ttl: self.maybe_duration(&cache.ttl),
                error_ttl_max: self.maybe_duration(&cache.error_ttl_max),
                stale_while_revalidate: self.maybe_duration(&cache.stale_while_revalidate),
                stale_if_error: self.maybe_duration(&cache.stale_if_error),
                store_set_cookie: cache.store_set_cookie.or(false),
                overrides: Vec::new(),
                compress: cache.compress.value().copied(),
                strict: cache.unverified.value().map(|word| *word == schema::Unverified::Strict),
            },
        }
    }
}
