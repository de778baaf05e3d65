//! What the admin listener is told of the proxy, and what it may ask of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::admin::{Asking, AskingValue, Control, PurgeError, Purging, Readiness, SessionAsk};
use crate::limit::Limiter;
use crate::metrics::{Reading, Readings};
use crate::origin::metrics::ServerState;
use crate::proxy::Proxy;
use crate::purge::order::{Named, Order};
use crate::purge::{self, Target, Wait, triggers};
use crate::redis::Redis;
use crate::redis::metrics::Operation;
use crate::session::values::{ValueAsk, ValueSaid};

impl Control for Proxy {
    fn readiness(&self) -> Readiness {
        let snapshot = self.snapshot();
        let down = snapshot.origins.values().filter_map(|origin| {
            let status = origin.describe();
            let none_up = !status.servers.is_empty()
                && status.servers.iter().all(|server| !takes_requests(server.state));
            none_up.then(|| format!("origin `{}`: no healthy server", status.name))
        });
        let redis = snapshot.redis.iter().filter_map(|(name, redis)| {
            let status = redis.status();
            (!status.connected).then(|| format!("redis `{name}`: not connected"))
        });
        Readiness { degraded: down.chain(redis).collect() }
    }

    fn purge(self: Arc<Self>, order: Order) -> Purging {
        Box::pin(async move {
            let orders = self.targets(&order)?.into_iter().map(|target| (target, order.mode)).collect();
            let budget = match order.wait {
                Wait::Local | Wait::Replica => purge::OPERATOR_BUDGET,
                Wait::All => purge::WAIT_ALL_MAX,
            };
            let mut receipt = self.purges.issue(orders, order.wait, budget, self.clock.now()).await;
            if order.wait == Wait::Replica && receipt.replicated {
                receipt.replicas = Some(self.replicas_reached(purge::REPLICA_BUDGET).await.unwrap_or(0));
            }
            self.metrics.background().purges.one();
            tracing::info!(id = receipt.id, replicated = receipt.replicated, what = %order.to_json(), "purged");
            Ok((receipt, self.clock.now().wall))
        })
    }

    fn sessions(self: Arc<Self>, ask: SessionAsk) -> Asking {
        Box::pin(async move {
            let sessions =
                self.snapshot().sessions.clone().ok_or("there is no `[session]` in the configuration")?;
            let now = self.clock.now();
            Ok(match ask {
                SessionAsk::List { user } => {
                    json!({ "sessions": sessions.list(user.as_deref(), now).await? })
                }
                SessionAsk::Show(handle) => json!({ "session": sessions.show(handle, now).await? }),
                SessionAsk::Kill(handle) => json!({ "ended": sessions.kill(handle, now).await? }),
                SessionAsk::KillUser(user) => {
                    sessions.kill_user(&user, now).await?;
                    json!({ "ended": true })
                }
            })
        })
    }

    fn value(self: Arc<Self>, token: String, name: String, ask: ValueAsk) -> AskingValue {
        Box::pin(async move {
            match self.snapshot().sessions.clone() {
                Some(sessions) => sessions.value(&token, &name, ask, self.clock.now()).await,
                None => ValueSaid::Denied,
            }
        })
    }

    fn status(&self) -> serde_json::Value {
        let snapshot = self.snapshot();
        let caches: serde_json::Map<_, _> = snapshot
            .caches
            .iter()
            .map(|(name, cache)| {
                let spec = cache.spec();
                let mut of_cache = json!({
                    "entries": cache.memory().entries(),
                    "entries_max": spec.max_entries,
                    "bytes": cache.memory().bytes(),
                    "bytes_max": spec.max_memory,
                    "fills": cache.fills.len(),
                    "fill_bytes": cache.budget.used(),
                    "epoch": spec.epoch.as_deref(),
                    "unverified_hits": cache.unverified_hits(),
                });
                if let Some(shared) = &cache.shared {
                    let counted: serde_json::Map<_, _> = shared
                        .counted
                        .all()
                        .into_iter()
                        .map(|(word, count)| (word.to_owned(), count.into()))
                        .collect();
                    of_cache["redis"] = json!({
                        "name": &*shared.redis().spec().name,
                        "prefix": &*shared.spec().prefix,
                        "counts": counted,
                    });
                }
                (name.to_string(), of_cache)
            })
            .collect();
        let origins: serde_json::Map<_, _> = snapshot
            .origins
            .iter()
            .map(|(name, origin)| {
                let servers: Vec<_> = origin
                    .describe()
                    .servers
                    .iter()
                    .map(|server| {
                        json!({
                            "server": &*server.server,
                            "state": server.state.as_str(),
                            "requests": server.requests,
                        })
                    })
                    .collect();
                (name.to_string(), json!({ "servers": servers }))
            })
            .collect();
        let redis: serde_json::Map<_, _> = snapshot
            .redis
            .iter()
            .map(|(name, redis)| {
                let status = redis.status();
                let of_redis = json!({
                    "url": redis.spec().url.to_string(),
                    "connected": status.connected,
                    "writable": status.writable,
                    "servers": status.shards,
                    "servers_not_asked": status.shards_open,
                    "under_way": status.in_flight,
                    "connections_made": status.links,
                    "trouble": status.trouble,
                    "writes_trouble": status.writes_trouble,
                    "replicas": status.replicas.iter().map(|replica| json!({
                        "url": replica.url,
                        "read": replica.is_read,
                        "trouble": replica.trouble,
                    })).collect::<Vec<_>>(),
                    "settings_to_mend": status.advice.iter().map(|advice| advice.line()).collect::<Vec<_>>(),
                });
                (name.to_string(), of_redis)
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "caches": caches,
            "origins": origins,
            "redis": redis,
            "purges": self.purges.status(),
            "data": data_status(self),
            "routes": snapshot.plans.iter().map(|plan| &*plan.route.name).collect::<Vec<_>>(),
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a floating-point number; 2^53 bytes are enough"
    )]
    fn readings(&self, into: &mut Readings) {
        let snapshot = self.snapshot();
        for (name, cache) in &snapshot.caches {
            let labels = [("cache", &**name)];
            into.note(Reading::CacheEntries, &labels, cache.memory().entries() as f64);
            into.note(Reading::CacheBytes, &labels, cache.memory().bytes() as f64);
            into.note(Reading::CacheBytesMax, &labels, cache.spec().max_memory as f64);
            into.note(Reading::CacheVariantsDropped, &labels, cache.variants_dropped() as f64);
            into.note(Reading::Fills, &labels, cache.fills.len() as f64);
            into.note(Reading::Waiters, &labels, cache.fills.waiting() as f64);
            into.note(Reading::UnverifiedHits, &labels, cache.unverified_hits() as f64);
            if let Some(shared) = &cache.shared {
                for (outcome, count) in shared.counted.all() {
                    into.note(Reading::CacheShared, &[labels[0], ("outcome", outcome)], count as f64);
                }
            }
        }
        if let Some(journal) = self.purges.journal() {
            into.note(Reading::StoreFailures, &[("file", "state")], journal.failures() as f64);
        }
        if let Some(bodies) = self.purges.bodies() {
            let counted = bodies.counted();
            into.note(
                Reading::StoreBytes,
                &[("file", "cache")],
                counted.bytes.load(Ordering::Relaxed) as f64,
            );
            into.note(
                Reading::StoreFailures,
                &[("file", "cache")],
                counted.failures.load(Ordering::Relaxed) as f64,
            );
            for (result, count) in [
                ("hit", &counted.hits),
                ("miss", &counted.misses),
                ("skipped", &counted.skipped),
                ("corrupt", &counted.corrupt),
            ] {
                into.note(Reading::StoreLookups, &[("result", result)], count.load(Ordering::Relaxed) as f64);
            }
        }
        self.plugins.readings(&snapshot.plugins, self.clock.now(), into);
        if let Some(recorder) = &snapshot.recorder {
            into.note(Reading::RecordsLost, &[], recorder.lost() as f64);
        }
        into.note(Reading::PurgesUnpublished, &[], self.purges.unpublished() as f64);
        for (what, count) in snapshot.sessions.iter().flat_map(|sessions| sessions.counts()) {
            into.note(Reading::Sessions, &[("what", what)], count as f64);
        }
        if let Some(durable) = snapshot.sessions.as_ref().and_then(|sessions| sessions.durable()) {
            into.note(Reading::SessionsDurableUp, &[], f64::from(u8::from(durable.up)));
            for (outcome, count) in durable.asked.into_iter().flatten() {
                into.note(Reading::SessionsDurableCalls, &[("outcome", outcome)], count as f64);
            }
            into.note(Reading::SessionsOwed, &[], durable.owed as f64);
            into.note(Reading::SessionsOwedForgotten, &[], durable.forgotten as f64);
        }
        for (name, limiter) in &snapshot.limits {
            limit_readings(name, limiter, into);
        }
        for (name, redis) in &snapshot.redis {
            redis_readings(name, redis, into);
        }
        for (name, origin) in &snapshot.origins {
            let (labels, counted) = ([("origin", &**name)], origin.metrics());
            for (reading, counter) in [
                (Reading::OriginRequests, &counted.requests),
                (Reading::OriginRetries, &counted.retries),
                (Reading::OriginRetriesRefused, &counted.retries_refused),
                (Reading::OriginStaleConnections, &counted.stale_connections),
                (Reading::OriginConnectionsOpened, &counted.connections_opened),
            ] {
                into.note(reading, &labels, counter.load(Ordering::Relaxed) as f64);
            }
            into.note(Reading::OriginQueued, &labels, counted.queued.load(Ordering::Relaxed) as f64);
            for (reason, count) in counted.failures.iter().filter(|(_, count)| *count > 0) {
                into.note(Reading::OriginFailures, &[labels[0], ("reason", reason)], count as f64);
            }
            for server in origin.describe().servers {
                let labels = [("origin", &**name), ("server", &*server.server)];
                into.note(Reading::OriginServerConnections, &labels, server.connections as f64);
                let up = f64::from(u8::from(takes_requests(server.state)));
                into.note(Reading::OriginServerUp, &labels, up);
                into.note(Reading::OriginServerRequests, &labels, server.requests as f64);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn limit_readings(name: &str, limiter: &Limiter, into: &mut Readings) {
    let labels = [("limit", name)];
    for (decision, by, count) in limiter.decisions() {
        let labels = [labels[0], ("decision", decision), ("by", by)];
        into.note(Reading::LimitDecisions, &labels, count as f64);
    }
    into.note(Reading::LimitForgotten, &labels, limiter.forgotten() as f64);
    let (requests, sockets, waiting) = limiter.at_once();
    into.note(Reading::LimitRequests, &labels, requests as f64);
    into.note(Reading::LimitSockets, &labels, sockets as f64);
    into.note(Reading::LimitWaiting, &labels, waiting as f64);
    if let Some(proxies) = limiter.proxies() {
        into.note(Reading::LimitProxies, &labels, proxies as f64);
    }
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn redis_readings(name: &str, redis: &Redis, into: &mut Readings) {
    let (labels, counted, status) = ([("redis", name)], redis.counted(), redis.status());
    into.note(Reading::RedisUp, &labels, f64::from(u8::from(status.connected)));
    into.note(Reading::RedisConnectedSeconds, &labels, status.connected_for.as_secs_f64());
    into.note(Reading::RedisWritable, &labels, f64::from(u8::from(status.writable)));
    into.note(Reading::RedisServersOpen, &labels, status.shards_open as f64);
    if redis.has_replicas() {
        let read = status.replicas.iter().filter(|replica| replica.is_read).count();
        into.note(Reading::RedisReplicas, &labels, read as f64);
    }
    into.note(Reading::RedisInFlight, &labels, status.in_flight as f64);
    let connects = [("ok", &counted.connects), ("failed", &counted.connects_failed)];
    for (outcome, count) in connects {
        let labels = [labels[0], ("outcome", outcome)];
        into.note(Reading::RedisConnects, &labels, count.load(Ordering::Relaxed) as f64);
    }
    for (operation, outcome, count) in counted.operations().filter(|(_, _, count)| *count > 0) {
        let labels = [labels[0], ("operation", operation.word()), ("outcome", outcome)];
        into.note(Reading::RedisOperations, &labels, count as f64);
    }
    for operation in Operation::ALL {
        let took = counted.time(operation);
        if !took.is_zero() {
            let labels = [labels[0], ("operation", operation.word())];
            into.note(Reading::RedisSeconds, &labels, took.as_secs_f64());
        }
    }
    for (reason, count) in counted.skips() {
        into.note(Reading::RedisSkipped, &[labels[0], ("reason", reason)], count as f64);
    }
    for (reason, count) in counted.openings() {
        into.note(Reading::RedisOpened, &[labels[0], ("reason", reason)], count as f64);
    }
}

fn takes_requests(state: ServerState) -> bool {
    matches!(state, ServerState::Up | ServerState::Starting)
}

/// The embedded store; null: there is none, and none is wanted.
fn data_status(proxy: &Proxy) -> serde_json::Value {
    let purges = &*proxy.purges;
    let journal =
        purges.journal().map(|journal| json!({ "off": journal.is_off(), "trouble": journal.trouble(), "failures": journal.failures() }));
    let Some(bodies) = purges.bodies() else {
        let is_wanted = journal.is_some() || proxy.store_trouble.is_some();
        return json!(is_wanted.then(|| json!({ "journal": journal, "trouble": proxy.store_trouble })));
    };
    let counted = bodies.counted();
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "journal": journal,
        "off": bodies.is_off(),
        "trouble": bodies.trouble().or_else(|| proxy.store_trouble.clone()),
        "bytes": read(&counted.bytes),
        "written": read(&counted.written),
        "hits": read(&counted.hits),
        "misses": read(&counted.misses),
        "skipped": read(&counted.skipped),
        "dropped": read(&counted.dropped),
        "corrupt": read(&counted.corrupt),
        "failures": read(&counted.failures),
    })
}

impl Proxy {
    /// What an order names, in the words of keys.
    fn targets(&self, order: &Order) -> Result<Vec<Target>, PurgeError> {
        let snapshot = self.snapshot();
        let mut targets = Vec::new();
        for named in &order.named {
            match named {
                Named::Target(Target::Url(url)) => {
                    targets.extend(triggers::keyed_urls(&snapshot, url.clone()))
                }
                Named::Target(Target::Prefix(prefix)) => {
                    targets.extend(triggers::keyed_prefixes(&snapshot, prefix.clone()));
                }
                Named::Target(Target::Route(name))
                    if !snapshot.plans.iter().any(|plan| *plan.route.name == **name) =>
                {
                    return Err(PurgeError::Unknown { kind: "route", name: name.to_string() });
                }
                Named::Target(Target::Cache(name)) if !snapshot.caches.contains_key(&**name) => {
                    return Err(PurgeError::Unknown { kind: "cache", name: name.to_string() });
                }
                Named::Target(target) => targets.push(target.clone()),
                Named::Model(name) => {
                    let model = snapshot.config.models.iter().find(|model| *model.name == **name);
                    let unknown = || PurgeError::Unknown { kind: "model", name: name.clone() };
                    targets.extend(triggers::whole_model(model.ok_or_else(unknown)?));
                }
            }
        }
        Ok(targets)
    }
}
