//! What all workers share: the snapshot of the configuration that a reload swaps, and what outlives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cache_semantics::key::KeyClass;
use cache_semantics::policy::Policy;
use http::Method;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::cache::NamedCache;
use crate::clock::Clock;
use crate::compress::Compressor;
use crate::config::model::{Action, Config, Place, Route};
use crate::cookies::Cookies;
use crate::durable::bodies::Bodies;
use crate::durable::journal::Journal;
use crate::durable::{FolderLock, StoreError};
use crate::limit::{self, Limiter, PlanLimit};
use crate::metrics::Metrics;
use crate::origin::{Origin, OriginSetupError};
use crate::plugin::{self, LoadedPlugins, PluginError, RoutePlugins};
use crate::purge::keeper::{self, Keeper};
use crate::purge::{Labels, Purges};
use crate::recording::Recorder;
use crate::redis::Redis;
use crate::request_key::KeyRule;
use crate::routes::Routes;
use crate::routes::template::Template;
use crate::session::Sessions;
use crate::session::vault::Vault;
use crate::store::shared::{LogHead, SharedTier};

/// The proxy: shared by all workers and by the background runtime.
pub struct Proxy {
    snapshot: ArcSwap<Snapshot>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Purges, of all caches.
    pub purges: Arc<Purges>,
    /// Who carries them to other proxies and back.
    keeper: Mutex<Option<(LogPlace, Keeper)>>,
    /// The thread that compresses.
    pub compressor: Compressor,
    /// What runs plugins.
    pub plugins: plugin::Registry,
    background: Handle,
    /// Why the embedded store is not there, or not whole, although it is configured.
    pub store_trouble: Option<String>,
    /// Keeps other proxies out of the folder of the embedded store.
    _folder: Option<FolderLock>,
}

/// The configuration as requests use it. A request keeps the one it began with.
pub struct Snapshot {
    /// What the file says.
    pub config: Arc<Config>,
    /// The routes, in order.
    pub routes: Routes,
    /// A plan for each route, in the same order.
    pub plans: Vec<Plan>,
    /// Origins by name.
    pub origins: BTreeMap<Arc<str>, Arc<Origin>>,
    /// Redis servers by name, each with its supervisor.
    pub redis: BTreeMap<Arc<str>, Arc<Redis>>,
    /// Caches by name.
    pub caches: BTreeMap<Arc<str>, Arc<NamedCache>>,
    /// Limits by name.
    pub limits: BTreeMap<Arc<str>, Arc<Limiter>>,
    /// Plugins by name.
    pub plugins: LoadedPlugins,
    /// Sessions, where they are kept.
    pub sessions: Option<Arc<Sessions>>,
    /// What happens to cookies on their way.
    pub cookies: Cookies,
    /// Who records requests, where they are recorded.
    pub recorder: Option<Arc<Recorder>>,
    /// Whether any route looks at the client's address.
    pub asks_client: bool,
}

/// A route with everything its names stand for.
pub struct Plan {
    /// The route.
    pub route: Arc<Route>,
    /// Where it forwards to.
    pub origin: Option<Arc<Origin>>,
    /// How it makes keys and targets.
    pub key: KeyRule,
    /// Its use of a cache.
    pub cache: Option<PlanCache>,
    /// What it is limited by.
    pub limits: Vec<PlanLimit>,
    /// What purges know by, of what it stores without tags.
    pub labels: Arc<Labels>,
    /// Its plugins, if it has any.
    pub plugins: Option<RoutePlugins>,
}

/// A route's use of a cache.
#[derive(Debug)]
pub struct PlanCache {
    /// The cache.
    pub cache: Arc<NamedCache>,
    /// The route's policy.
    pub policy: Policy,
    /// Whether stored text is compressed.
    pub compress: bool,
    /// Whether nothing is served of which nobody can tell whether others have purged it.
    pub strict: bool,
    /// Surrogate tags.
    pub tags: Vec<Template>,
    /// Methods that it may answer.
    pub methods: Vec<Method>,
}

/// Why a configuration cannot be put to use.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An origin cannot be set up.
    #[error("origin `{name}`")]
    Origin {
        /// Its name.
        name: Arc<str>,
        /// Why.
        #[source]
        source: OriginSetupError,
    },
    /// A plugin cannot be used.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A plugin charges what nobody pays into.
    #[error(
        "{}:{}: plugin `{plugin}` charges `{bucket}`, and route `{route}` has no limit of that name that counts by it \
         (add `[limit.{bucket}]` with `key = \"plugin\"` and a `rate`, and `limits = [\"{bucket}\"]` to the route)", .place.file, .place.line
    )]
    Bucket {
        /// Where the route stands.
        place: Place,
        /// The plugin.
        plugin: Arc<str>,
        /// What it charges.
        bucket: Box<str>,
        /// The route.
        route: Arc<str>,
    },
    /// Requests cannot be recorded.
    #[error("requests cannot be recorded in `{}`", .path.display())]
    Record {
        /// Where.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl Proxy {
    /// Sets everything up for a configuration. Nothing listens yet.
    pub fn new(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        background: Handle,
    ) -> Result<Arc<Self>, SetupError> {
        let place = LogPlace::of(&config);
        // Why there is no store, or not all of it, for who looks at the status.
        let store_trouble = Mutex::new(None::<String>);
        let told = |error: &StoreError| {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let text = cause.iter().fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            store_trouble.lock().get_or_insert(text);
            cause
        };
        let folder = config.data.as_ref().and_then(|data| {
            FolderLock::take(&data.path)
                .inspect_err(|error| {
                    let cause = told(error);
                    tracing::error!(%error, cause, "there is no embedded store");
                })
                .ok()
        });
        // A folder that others use, or that cannot be written to, is left alone.
        let data = config.data.as_ref().filter(|_| folder.is_some());
        let journal = data.and_then(|data| {
            let log = place.as_ref().map_or("alone", |place| &*place.prefix);
            Journal::open(&data.path, log)
                .inspect_err(|error| {
                    let cause = told(error);
                    tracing::error!(%error, cause, "there is no purge journal: what is purged is not remembered over a restart");
                })
                .ok()
        });
        let bodies = data.zip(journal.as_ref()).and_then(|(data, journal)| {
            if data.cache_size == 0 {
                return None;
            }
            Bodies::open(&data.path, data.cache_size, journal.belongs_to_bodies(), clock.clone())
                .inspect_err(|error| {
                    let cause = told(error);
                    tracing::error!(%error, cause, "there is no tier on disk");
                })
                .ok()
        });
        let purges = Arc::new(Purges::new(journal, bodies, place.is_some()));
        let data = config.data.as_ref().map(|data| data.path.as_path());
        let plugins = plugin::Registry::new(data, &purges, &clock);
        let with = Surroundings {
            purges: &purges,
            clock: &clock,
            log: place.as_ref(),
            background: &background,
            plugins: &plugins,
        };
        let snapshot = Snapshot::build(config, None, &with)?;
        let keeper = place.and_then(|place| place.keep(&snapshot, &purges, &background));
        Ok(Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            keeper: Mutex::new(keeper),
            clock,
            metrics,
            purges,
            compressor: Compressor::start().map_err(SetupError::Thread)?,
            plugins,
            background,
            _folder: folder,
            store_trouble: store_trouble.into_inner(),
        }))
    }

    /// Builds the new world beside the old one and swaps it in. After an error, nothing has changed.
    pub fn reload(&self, config: Arc<Config>) -> Result<(), SetupError> {
        let current = self.snapshot.load_full();
        let mut keeper = self.keeper.lock();
        let with = Surroundings {
            purges: &self.purges,
            clock: &self.clock,
            log: keeper.as_ref().map(|(place, _)| place),
            background: &self.background,
            plugins: &self.plugins,
        };
        let next = Snapshot::build(config, Some(&current), &with)?;
        if let Some((place, _)) = &*keeper
            && !place.is_kept(&current, &next)
        {
            let place = place.clone();
            *keeper = None;
            *keeper = place.keep(&next, &self.purges, &self.background);
        }
        drop(keeper);
        self.snapshot.store(Arc::new(next));
        Ok(())
    }

    /// Tells the other proxies that this one is no more, so that they do not wait for it. To be called when nothing is served any more.
    pub async fn leave(&self) {
        let keeper = self.keeper.lock().take();
        if let Some((_, keeper)) = keeper {
            keeper.leave().await;
        }
    }

    /// How many replicas of the primary have what was written to the log of purges until now. `None`: it cannot be asked.
    pub async fn replicas_reached(&self, within: std::time::Duration) -> Option<u64> {
        let place = self.keeper.lock().as_ref().map(|(place, _)| place.clone())?;
        let redis = self.snapshot.load().redis.get(&place.redis)?.clone();
        let marker = format!("{{{}}}:wait", place.prefix);
        redis.link().ok()?.wait_for_replicas(marker.as_bytes(), within).await.ok()
    }

    /// The snapshot, for a look.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Removes what is of no use any more, and forgets purges that nothing needs. To be called now and then.
    pub fn sweep(&self) {
        let now = self.clock.now();
        let upto = self.purges.begin_sweep();
        for cache in self.snapshot.load().caches.values() {
            cache.sweep(now);
        }
        self.purges.forget(upto, KEEP_MAX);
    }
}

/// Where the log of purges is that proxies share: with the default cache, or with the first that has a tier in Redis. It stays there until
/// a new start, because positions in one log say nothing in another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LogPlace {
    redis: Arc<str>,
    prefix: Arc<str>,
}

impl LogPlace {
    fn of(config: &Config) -> Option<Self> {
        let default = config.caches.get("default");
        let shared =
            default.into_iter().chain(config.caches.values()).find_map(|cache| cache.shared.as_ref())?;
        Some(Self { redis: shared.redis.clone(), prefix: shared.log.clone() })
    }

    /// Where the tiers in Redis look for its end.
    fn head(&self, redis: &BTreeMap<Arc<str>, Arc<Redis>>) -> Option<LogHead> {
        let stream = keeper::log_key(&self.prefix);
        Some(LogHead { redis: redis.get(&self.redis)?.clone(), stream: stream.into() })
    }

    fn keep(self, snapshot: &Snapshot, purges: &Arc<Purges>, background: &Handle) -> Option<(Self, Keeper)> {
        let redis = snapshot.redis.get(&self.redis)?.clone();
        let keeper = Keeper::start(purges.clone(), redis, &self.prefix, background);
        Some((self, keeper))
    }

    /// Whether it is reached by the same connections.
    fn is_kept(&self, before: &Snapshot, after: &Snapshot) -> bool {
        match (before.redis.get(&self.redis), after.redis.get(&self.redis)) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        }
    }
}

/// The longest that a tier which outlives the process keeps anything.
pub const KEEP_MAX: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// What a snapshot is built with, beside the configuration.
struct Surroundings<'p> {
    purges: &'p Arc<Purges>,
    clock: &'p Arc<dyn Clock>,
    log: Option<&'p LogPlace>,
    background: &'p Handle,
    plugins: &'p plugin::Registry,
}

impl Snapshot {
    fn build(
        config: Arc<Config>,
        before: Option<&Self>,
        with: &Surroundings<'_>,
    ) -> Result<Self, SetupError> {
        let Surroundings { purges, background, .. } = *with;
        // First, for it is the likeliest to be refused.
        let plugins = with.plugins.load(&config, before.map(|before| &before.plugins))?;
        let limits = &config.server.limits;
        let same_limits = before.is_some_and(|before| before.config.server.limits == *limits);
        let mut origins = BTreeMap::new();
        for (name, spec) in &config.origins {
            let kept = before.and_then(|before| before.origins.get(name));
            let origin = match kept.filter(|kept| same_limits && **kept.spec() == *spec) {
                Some(kept) => kept.clone(),
                None => Origin::new(Arc::new(spec.clone()), limits, config.server.workers, background)
                    .map_err(|source| SetupError::Origin { name: name.clone(), source })?,
            };
            origins.insert(name.clone(), origin);
        }
        let mut redis = BTreeMap::new();
        for (name, spec) in &config.redis {
            let kept = before.and_then(|before| before.redis.get(name)).filter(|kept| *kept.spec() == *spec);
            let kept = kept.cloned().unwrap_or_else(|| Redis::start(spec.clone(), background));
            redis.insert(name.clone(), kept);
        }
        let log = with.log.and_then(|place| place.head(&redis));
        let mut caches = BTreeMap::new();
        for (name, spec) in &config.caches {
            let kept = before.and_then(|before| before.caches.get(name));
            let now = with.clock.now();
            let cache = kept.and_then(|kept| kept.described_as(spec, limits, now));
            let mut cache =
                cache.unwrap_or_else(|| NamedCache::new(spec.clone(), limits, purges.clone(), now));
            cache.shared = spec.shared.as_ref().and_then(|shared| {
                let (redis, log) = (redis.get(&shared.redis)?, log.as_ref()?);
                let is_same = |tier: &&Arc<SharedTier>| tier.is(shared, redis, log);
                let kept = kept.and_then(|kept| kept.shared.as_ref()).filter(is_same).cloned();
                let start = || {
                    SharedTier::start(redis.clone(), shared.clone(), log.clone(), with.clock, with.background)
                };
                Some(kept.unwrap_or_else(start))
            });
            caches.insert(name.clone(), Arc::new(cache));
        }
        let sessions = config.session.as_ref().map(|spec| {
            let server = spec.redis.as_ref().and_then(|name| redis.get(name));
            let kept = before.and_then(|before| before.sessions.as_ref());
            kept.filter(|kept| kept.are(spec, server)).cloned().unwrap_or_else(|| {
                let folder = config.data.as_ref().map(|data| &*data.path);
                Sessions::open(spec.clone(), server.cloned(), folder, with.clock, background)
            })
        });
        let vault = config.vault.as_ref().zip(sessions.as_ref());
        let vault = vault.map(|(spec, sessions)| Arc::new(Vault::new(spec.clone(), sessions.clone())));
        let cookies = Cookies { policy: config.cookies.clone(), vault };
        let limits = limit::build(&config.limits, before.map(|before| &before.limits), &redis, background);
        let plan = |route: &Arc<Route>| Plan {
            limits: limit::of_route(&route.limits, &limits),
            ..Plan::new(route, &origins, &caches, &plugins)
        };
        let plans: Vec<Plan> = config.routes.iter().map(plan).collect();
        for plan in &plans {
            plan.check_buckets()?;
        }
        let recorder = match &config.record {
            None => None,
            Some(spec) => {
                let kept = before.and_then(|before| before.recorder.as_ref()).filter(|kept| kept.is(spec));
                let failed = |source| SetupError::Record { path: spec.path.clone(), source };
                Some(kept.cloned().map_or_else(|| Recorder::start(spec), Ok).map_err(failed)?)
            }
        };
        let asks_client = config.routes.iter().any(|route| !route.matcher.clients.is_empty());
        let routes = Routes::new(config.routes.clone());
        Ok(Self {
            config,
            routes,
            plans,
            origins,
            redis,
            caches,
            limits,
            sessions,
            cookies,
            plugins,
            recorder,
            asks_client,
        })
    }
}

impl Plan {
    /// What its plugins charge must be counted somewhere.
    fn check_buckets(&self) -> Result<(), SetupError> {
        for (plugin, bucket) in self.plugins.iter().flat_map(RoutePlugins::buckets) {
            let counts =
                |limit: &PlanLimit| *limit.limiter.spec().name == *bucket && limit.limiter.counts_by_plugin();
            if !self.limits.iter().any(counts) {
                return Err(SetupError::Bucket {
                    place: self.route.place.clone(),
                    plugin: plugin.clone(),
                    bucket: bucket.into(),
                    route: self.route.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Whether the cache may answer requests with this method.
    pub fn answers_from_cache(&self, method: &Method) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.methods.contains(method))
    }

    /// The class of keys of requests with this method, where they are told apart by what they carry.
    pub fn content_class(&self, method: &Method) -> Option<KeyClass> {
        let class = match method.as_str() {
            "QUERY" => KeyClass::Query,
            "POST" => KeyClass::Post,
            _ => return None,
        };
        self.answers_from_cache(method).then_some(class)
    }

    fn new(
        route: &Arc<Route>,
        origins: &BTreeMap<Arc<str>, Arc<Origin>>,
        caches: &BTreeMap<Arc<str>, Arc<NamedCache>>,
        plugins: &LoadedPlugins,
    ) -> Self {
        let origin = match &route.action {
            Action::Forward(name) => origins.get(name).cloned(),
            Action::RedirectToHttps | Action::Redirect { .. } | Action::Respond(_) => None,
        };
        let name = origin.as_ref().map_or_else(|| Arc::from(""), |origin| origin.spec().name.clone());
        let used = route.cache.as_ref().and_then(|used| Some((used, caches.get(&used.store)?)));
        let used = used.filter(|(_, cache)| cache.spec().enabled);
        let version = used.map_or(0, |(_, cache)| cache.spec().version);
        let key = KeyRule::new(name, route.rewrite.clone(), used.map(|(rule, _)| rule), version);
        let cache = used.map(|(rule, cache)| PlanCache {
            cache: cache.clone(),
            policy: rule.rules.policy(),
            compress: rule.rules.compress.unwrap_or(true),
            strict: rule.rules.strict.unwrap_or(false),
            tags: rule.tags.clone(),
            methods: rule.methods.clone(),
        });
        let epoch = used.and_then(|(_, cache)| cache.spec().epoch.clone());
        let labels = Arc::new(Labels::new(route.name.clone(), []).of_epoch(epoch));
        let plugins = RoutePlugins::new(&route.name, &route.plugins, plugins);
        Self { route: route.clone(), origin, key, cache, limits: Vec::new(), labels, plugins }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A snapshot of a configuration, for tests of what looks at one.
    pub(crate) fn snapshot_of(config: Config, background: &Handle) -> Snapshot {
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        let purges = Arc::default();
        let plugins = plugin::Registry::new(None, &purges, &clock);
        let with = Surroundings { purges: &purges, clock: &clock, log: None, background, plugins: &plugins };
        Snapshot::build(Arc::new(config), None, &with).expect("it can be set up")
    }
}
