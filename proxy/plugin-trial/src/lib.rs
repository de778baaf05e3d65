//! Tries a policy plugin in the real host: `tests.toml` beside it, with a clock and a state of its own, and what a call costs.
//!
//! What the file may say is in `docs/plugins.md`. What a test does not name is not compared. Everything here is for the author at the
//! command line: the plugin is granted all that it declares.

mod bench;
mod expect;
mod replay;
mod show;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cache_semantics::Now;
use plugin_host::decision::Purge;
use plugin_host::{
    Grant, Grants, Host, HostError, HostOptions, Level, Limits, LoadError, MemoLimits, Plugin, PluginSpec,
    SharedState, Sink,
};

use plugin_cases::case::{self, Case, CaseError, File};

pub use self::bench::Cost;
pub use self::replay::{Change, Replayed, Version, replay};

/// 2026-01-01T00:00:00Z, at which each test begins.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);

/// A trial cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The file of tests is not understood.
    #[error("the tests are not understood: {0}")]
    Tests(#[from] CaseError),
    /// There is nothing to measure.
    #[error("none of the tests has a request with the common configuration")]
    NoRequest,
    /// There is no engine.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The plugin is refused.
    #[error("the plugin is refused")]
    Load(#[from] LoadError),
}

/// What a plugin declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// Its inputs.
    pub reads: Vec<String>,
    /// What it has to be granted.
    pub grants: Vec<String>,
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What is otherwise than expected; empty: nothing.
    pub differences: Vec<String>,
}

/// What a plugin said beside its decisions.
#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Sink for Heard {
    fn log(&self, _: &str, _: Level, message: &str) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
    }

    fn count(&self, _: &str, name: &str, delta: u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default() +=
            delta;
    }

    fn request_purge(&self, _: &str, _: Purge) -> bool {
        true
    }
}

/// A host, and the plugin to try.
pub struct Trial<'w> {
    host: Arc<Host>,
    wasm: &'w [u8],
}

impl<'w> Trial<'w> {
    /// Sets up a host.
    pub fn new(wasm: &'w [u8]) -> Result<Self, TrialError> {
        Ok(Self { host: Host::start(HostOptions::default())?, wasm })
    }

    /// With a host that is there.
    #[must_use]
    pub fn on(host: Arc<Host>, wasm: &'w [u8]) -> Self {
        Self { host, wasm }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// What it declares with this configuration.
    pub fn declared(&self, config: &str) -> Result<Declared, TrialError> {
        let now = Now { wall: begin(), mono: Instant::now() };
        let plugin =
            self.load(config, MemoLimits { entries: 0, bytes: 0 }, &Arc::new(Heard::default()), now)?;
        let manifest = plugin.manifest();
        let reads = manifest.inputs.iter().map(ToString::to_string);
        let nothing = Grants::default();
        let inputs = manifest.inputs.iter().filter_map(|input| nothing.missing(input));
        let planned = plugin.plan().into_iter().flat_map(|plan| plan.missing(&nothing));
        let purges = self.host.inspect(self.wasm)?.imports_interface("control");
        let grants = inputs.chain(planned).chain(purges.then_some(Grant::Control));
        let mut grants: Vec<String> = grants.map(|grant| grant.to_string()).collect();
        grants.sort();
        grants.dedup();
        Ok(Declared {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            reads: reads.collect(),
            grants,
        })
    }

    /// Runs the tests of a file.
    pub fn run(&self, tests: &str) -> Result<Vec<Outcome>, TrialError> {
        let file = File::parse(tests)?;
        let outcome = |(number, case): (usize, &Case)| {
            let name = case.name.clone().unwrap_or_else(|| format!("test {}", number + 1));
            Outcome { name, differences: self.test(case, &file) }
        };
        Ok(file.test.iter().enumerate().map(outcome).collect())
    }

    fn load(
        &self,
        config: &str,
        memo: MemoLimits,
        heard: &Arc<Heard>,
        now: Now,
    ) -> Result<Arc<Plugin>, LoadError> {
        self.host.load(
            self.wasm,
            PluginSpec {
                name: "plugin".into(),
                config: config.to_owned(),
                grants: Grants::everything(),
                // An author's machine may be busy, and the plugin may be one in Python.
                limits: Limits {
                    time: Duration::from_secs(1),
                    configure: Duration::from_secs(10),
                    memory: 256 << 20,
                    ..Limits::default()
                },
                memo,
                workers: 1,
                state: Arc::new(SharedState::new(8 << 20)),
                sink: heard.clone(),
                now,
            },
        )
    }

    fn test(&self, case: &Case, file: &File) -> Vec<String> {
        let begin = Now { wall: begin(), mono: Instant::now() };
        let heard = Arc::new(Heard::default());
        let config = case.config.as_ref().or(file.config.as_ref());
        let config = config.map_or_else(|| "{}".to_owned(), ToString::to_string);
        // Each call counts: nothing is remembered.
        let plugin = self.load(&config, MemoLimits { entries: 0, bytes: 0 }, &heard, begin);
        let plugin = match (plugin, &case.refused) {
            (Ok(plugin), None) => plugin,
            (Ok(_), Some(text)) => {
                return vec![format!("its configuration should be refused with `{text}`, and is not")];
            }
            (Err(error), refused) => {
                let said = with_causes(&error);
                return match refused {
                    Some(text) if said.contains(text.as_str()) => Vec::new(),
                    Some(text) => vec![format!("it should be refused with `{text}`, and is with: {said}")],
                    None => vec![format!("it is refused: {said}\n  {}", error.help())],
                };
            }
        };
        let mut now = begin;
        let mut differences = expect::differences(&plugin, case, now, &heard);
        for (number, then) in case.then.iter().enumerate() {
            let later = match then.after.as_deref().map(case::duration).transpose() {
                Ok(after) => after.unwrap_or_default(),
                Err(error) => return vec![error],
            };
            now = now.after(later);
            let repeated = case.changed_by(then);
            let more = expect::differences(&plugin, &repeated, now, &heard);
            differences
                .extend(more.into_iter().map(|difference| format!("then {}: {difference}", number + 1)));
        }
        differences
    }
}

fn begin() -> SystemTime {
    UNIX_EPOCH + BEGIN
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> (Vec<u8>, String) {
        let folder = format!("{}/../../plugins/{name}", env!("CARGO_MANIFEST_DIR"));
        let wasm = std::fs::read(format!("{folder}/{name}.wasm")).unwrap();
        (wasm, std::fs::read_to_string(format!("{folder}/tests.toml")).unwrap())
    }

    fn passes(name: &str) {
        let (wasm, tests) = plugin(name);
        for outcome in Trial::new(&wasm).unwrap().run(&tests).unwrap() {
            assert_eq!(outcome.differences, Vec::<String>::new(), "{name}: {}", outcome.name);
        }
    }

    #[test]
    fn the_plugins_of_the_tree_pass_their_tests() {
        // Those that are committed: what somebody has built of the others takes minutes to compile.
        let lock = format!("{}/../../plugins/built.json", env!("CARGO_MANIFEST_DIR"));
        let lock: serde_json::Value = serde_json::from_slice(&std::fs::read(lock).unwrap()).unwrap();
        let names: Vec<&String> = lock.as_object().unwrap().keys().collect();
        for name in &names {
            passes(name);
        }
        assert!(names.len() >= 8, "{names:?}");
    }

    #[test]
    fn what_differs_is_told() {
        let (wasm, _) = plugin("query-normalize");
        let trial = Trial::new(&wasm).unwrap();
        let run = |tests: &str| trial.run(tests).unwrap().remove(0).differences;
        let told = run(
            "[[test]]\nrequest = \"GET /?b=1&a=2\"\nforwarded = \"/?b=1&a=2\"\nsame_key_as = \"GET /?c=1\"\n",
        );
        assert_eq!(
            told,
            [
                "`forwarded`: expected \"/?b=1&a=2\", and it is \"/?a=2&b=1\"",
                "`same_key_as`: GET /?c=1 has another key"
            ]
        );
        let told = run("[[test]]\nrequest = \"GET /\"\nrefused = \"no\"\n");
        assert_eq!(told, ["its configuration should be refused with `no`, and is not"]);
        assert!(trial.run("[[test]]\nrequst = \"GET /\"\n").is_err());
    }

    #[test]
    fn of_a_plan_nothing_else_is_measured() {
        assert_eq!(measured("query-normalize"), ["plan"]);
    }

    #[test]
    fn each_hook_is_measured_that_a_test_asks_for() {
        assert_eq!(
            measured("cookie-allowlist"),
            ["request hook", "response hook", "request hook, remembered"]
        );
        assert_eq!(measured("model-invalidation"), ["invalidate hook"]);
        assert_eq!(measured("cost-rate"), ["rate hook", "rate hook, remembered"]);
    }

    fn measured(name: &str) -> Vec<&'static str> {
        let (wasm, tests) = plugin(name);
        let cost = Trial::new(&wasm).unwrap().cost(&tests, 100).unwrap();
        assert!(cost.calls.iter().all(|(_, nanos)| *nanos > 0.0), "{cost:?}");
        cost.calls.into_iter().map(|(what, _)| what).collect()
    }
}
