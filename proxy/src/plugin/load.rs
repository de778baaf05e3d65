//! Plugins as they are loaded: at the start and on each reload, off the threads that serve. What has not changed is carried over, with
//! all that is remembered of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cache_semantics::Now;
use parking_lot::Mutex;
use plugin_host::{
    BreakerState, CallError, Grants, Hook, Host, HostError, HostOptions, Limits, LoadError, MemoLimits,
    Plugin, PluginSpec, SharedState,
};
use plugin_trial::Trial;
use sha2::{Digest, Sha256};

use super::sink::PluginSink;
use crate::clock::Clock;
use crate::config::model::{self, Config, OnPluginFailure, Place};
use crate::metrics::{Reading, Readings};
use crate::purge::Purges;

/// The largest file that is read as a plugin.
const WASM_BYTES_MAX: u64 = 64 << 20;
/// Calls after which an instance is replaced.
const CALLS_MAX: u64 = 100_000;

/// Plugins by their names.
pub type LoadedPlugins = BTreeMap<Arc<str>, Arc<LoadedPlugin>>;

/// A plugin with what its table says.
#[derive(Debug)]
pub struct LoadedPlugin {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    spec: Arc<model::Plugin>,
    digest: [u8; 32],
    /// When it was last complained about, in seconds of the clock's wall.
    complained: AtomicU64,
}

impl LoadedPlugin {
    /// What is done when it fails.
    pub fn on_failure(&self) -> &OnPluginFailure {
        &self.spec.on_failure
    }

    pub(super) fn may_complain(&self, now: Now) -> bool {
        let second = now.wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.complained.swap(second, Ordering::Relaxed) != second
    }
}

/// What plugins keep from one call to the next, by their names, and how much each may keep.
type States = BTreeMap<Arc<str>, (usize, Arc<SharedState>)>;

/// What outlives a reload: the host, what plugins keep, and who hears them.
pub struct Registry {
    host: OnceLock<Arc<Host>>,
    states: Mutex<States>,
    /// Who hears them.
    pub sink: Arc<PluginSink>,
    compiled: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

/// A plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no engine.
    #[error("plugins cannot be run")]
    Host(#[from] HostError),
    /// The file cannot be read.
    #[error("{place}: the file of plugin `{name}` cannot be read", place = shown(.place))]
    File {
        /// Its name.
        name: Arc<str>,
        /// Where its table stands.
        place: Place,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not pass its own tests.
    #[error("{place}: plugin `{name}` does not pass its tests: {what} (`weir plugin test` shows all)", place = shown(.place))]
    Tests {
        /// Its name.
        name: Arc<str>,
        /// Where its table stands.
        place: Place,
        /// What went otherwise.
        what: String,
    },
    /// It is refused.
    #[error("{place}: plugin `{name}` is refused ({help})", place = shown(.place))]
    Load {
        /// Its name.
        name: Arc<str>,
        /// Where its table stands.
        place: Place,
        /// What to do.
        help: String,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
}

fn shown(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

/// Whether this can be granted; else what can.
pub fn check_grant(text: &str) -> Result<(), String> {
    let help = "there are \"header:NAME\", \"cookie:NAME\", \"cookie-names\", \"session:NAME\", \"client-ip\", \"tls-sni\", \"body\" and \"control\"; `*` is any NAME";
    Grants::parse([text]).map(drop).map_err(|_| help.to_owned())
}

impl Registry {
    /// One that keeps compiled code in `data`, if there is such a folder.
    pub fn new(data: Option<&Path>, purges: &Arc<Purges>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            host: OnceLock::new(),
            states: Mutex::default(),
            sink: Arc::new(PluginSink::new(purges.clone(), clock.clone())),
            compiled: data.map(|data| data.join("compiled")),
            clock: clock.clone(),
        }
    }

    fn host(&self) -> Result<Arc<Host>, HostError> {
        if let Some(host) = self.host.get() {
            return Ok(host.clone());
        }
        let host = Host::start(HostOptions { compiled: self.compiled.clone() })?;
        Ok(self.host.get_or_init(|| host).clone())
    }

    /// Loads what a configuration names. All of it or nothing.
    pub fn load(
        &self,
        config: &Config,
        before: Option<&LoadedPlugins>,
    ) -> Result<LoadedPlugins, PluginError> {
        let mut loaded = LoadedPlugins::new();
        for (name, spec) in &config.plugins {
            let kept = before.and_then(|before| before.get(name));
            loaded.insert(name.clone(), self.one(spec, config.server.workers.max(1), kept)?);
        }
        self.states.lock().retain(|name, _| loaded.contains_key(name));
        Ok(loaded)
    }

    fn one(
        &self,
        spec: &Arc<model::Plugin>,
        workers: usize,
        kept: Option<&Arc<LoadedPlugin>>,
    ) -> Result<Arc<LoadedPlugin>, PluginError> {
        let (name, place) = (&spec.name, &spec.place);
        let wasm = read(&spec.path).map_err(|source| PluginError::File {
            name: name.clone(),
            place: place.clone(),
            source,
        })?;
        let digest: [u8; 32] = Sha256::digest(&wasm).into();
        // Its line may have changed.
        let is_same = |kept: &&Arc<LoadedPlugin>| {
            kept.digest == digest && model::Plugin { place: place.clone(), ..(*kept.spec).clone() } == **spec
        };
        if let Some(kept) = kept.filter(is_same) {
            return Ok(kept.clone());
        }
        let refused = |source: LoadError| PluginError::Load {
            name: name.clone(),
            place: place.clone(),
            help: source.help(),
            source: Box::new(source),
        };
        let grants = Grants::parse(spec.grants.iter().map(String::as_str)).unwrap_or_default();
        let plugin = self.host()?.load(
            &wasm,
            PluginSpec {
                name: name.clone(),
                config: spec.config.clone(),
                grants,
                limits: Limits {
                    time: spec.time,
                    configure: spec.configure_time,
                    memory: spec.memory,
                    calls: CALLS_MAX,
                },
                memo: MemoLimits { entries: spec.memo_entries, bytes: spec.memo_bytes },
                workers,
                state: self.state(name, spec.state),
                sink: self.sink.clone(),
                now: self.clock.now(),
            },
        );
        let plugin = plugin.map_err(refused)?;
        if let Some(tests) = &spec.tests {
            self.test(spec, &wasm, tests)?;
        }
        let manifest = plugin.manifest();
        tracing::info!(
            plugin = &**name,
            version = manifest.version,
            hooks = plugin.hooks().names().join(" "),
            "a plugin is loaded"
        );
        Ok(Arc::new(LoadedPlugin { plugin, spec: spec.clone(), digest, complained: AtomicU64::new(0) }))
    }

    /// Runs a plugin's own tests, in instances of their own: nothing of it is left to the plugin that serves.
    fn test(&self, spec: &model::Plugin, wasm: &[u8], tests: &Path) -> Result<(), PluginError> {
        let (name, place) = (&spec.name, &spec.place);
        let failed = |what: String| PluginError::Tests { name: name.clone(), place: place.clone(), what };
        let text = std::fs::read_to_string(tests)
            .map_err(|error| failed(format!("cannot read `{}`: {error}", tests.display())))?;
        let outcomes = Trial::on(self.host()?, wasm).run(&text).map_err(|error| failed(error.to_string()))?;
        let wrong = outcomes.iter().find(|outcome| !outcome.differences.is_empty());
        match wrong {
            None => Ok(()),
            Some(outcome) => Err(failed(format!("`{}`: {}", outcome.name, outcome.differences.join("; ")))),
        }
    }

    /// What is counted of plugins.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
    pub fn readings(&self, loaded: &LoadedPlugins, now: Now, into: &mut Readings) {
        for (name, one) in loaded {
            let stats = one.plugin.stats();
            let of_plugin = ("plugin", &**name);
            for (hook, counted) in Hook::ALL.into_iter().zip(stats.hooks) {
                let labels = [of_plugin, ("hook", hook.name())];
                if counted.calls > 0 {
                    into.note(Reading::PluginCalls, &labels, counted.calls as f64);
                    into.note(Reading::PluginSeconds, &labels, counted.nanos as f64 / 1e9);
                }
                for (reason, count) in CallError::REASONS.into_iter().zip(counted.failures) {
                    if count > 0 {
                        into.note(
                            Reading::PluginFailures,
                            &[labels[0], labels[1], ("reason", reason)],
                            count as f64,
                        );
                    }
                }
            }
            if one.plugin.remembers() {
                let counts = [
                    ("hit", stats.memo_hits),
                    ("miss", stats.memo_misses),
                    ("mismatch", stats.memo_mismatches),
                ];
                for (result, count) in counts {
                    into.note(Reading::PluginMemo, &[of_plugin, ("result", result)], count as f64);
                }
            }
            into.note(Reading::PluginInstances, &[of_plugin], stats.instances as f64);
            into.note(Reading::PluginMemory, &[of_plugin], stats.memory_bytes as f64);
            let open = one.plugin.breaker(now) == BreakerState::Open;
            into.note(Reading::PluginOpen, &[of_plugin], f64::from(u8::from(open)));
        }
        for (plugin, name, count) in self.sink.counters() {
            into.note(Reading::PluginCounter, &[("plugin", &*plugin), ("name", &*name)], count as f64);
        }
    }

    /// What a plugin keeps stays, as long as its name and the room for it do.
    fn state(&self, name: &Arc<str>, bytes: usize) -> Arc<SharedState> {
        let mut states = self.states.lock();
        match states.get(name) {
            Some((room, state)) if *room == bytes => state.clone(),
            Some(_) | None => {
                let state = Arc::new(SharedState::new(bytes));
                states.insert(name.clone(), (bytes, state.clone()));
                state
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > WASM_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 64 MiB"));
    }
    std::fs::read(path)
}
