//! Recorded requests, shown to two versions of a plugin: which keys, lifetimes and purges change, and which requests would newly meet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use cache_semantics::Now;
use plugin_cases::record::{Answered, Recorded};
use plugin_host::decision::{Mode, StoreDecision};
use plugin_host::{CallError, LoadError, MemoLimits, Plugin, Response};

use crate::expect::{Keyed, forwarded, keyed, shown_purge};
use crate::show::Shown;
use crate::{Heard, Trial, begin};

/// Changes of each kind that are shown.
const SHOWN_MAX: usize = 20;

/// A version of a plugin: a component, and its configuration as JSON.
#[derive(Clone, Copy)]
pub struct Version<'v> {
    /// The component.
    pub trial: &'v Trial<'v>,
    /// Its configuration.
    pub config: &'v str,
}

/// Something that another version decides otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The request.
    pub request: String,
    /// What the old one says.
    pub old: String,
    /// What the new one says.
    pub new: String,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Requests.
    pub requests: usize,
    /// How many change their key, and some of them.
    pub keys: (usize, Vec<Change>),
    /// How many change how they are stored, and some of them.
    pub lifetimes: (usize, Vec<Change>),
    /// How many change what they purge, and some of them.
    pub purges: (usize, Vec<Change>),
    /// How many pairs shared nothing and would now, and some of them: `old` and `new` are the two requests.
    pub meet: (usize, Vec<Change>),
    /// How many shared something and would not any more.
    pub part: usize,
}

impl Replayed {
    /// Whether anything changes.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.keys.0 + self.lifetimes.0 + self.purges.0 > 0
    }
}

/// What one version says of one request.
struct Decided {
    /// What makes it the same as others; `None`: it shares with nobody.
    key: Option<Keyed>,
    shown: String,
    store: String,
    purges: String,
}

/// Shows requests to both versions.
pub fn replay<'r>(
    old: Version<'_>,
    new: Version<'_>,
    requests: impl Iterator<Item = &'r Recorded>,
) -> Result<Replayed, LoadError> {
    let (old, new) = (old.load()?, new.load()?);
    let mut replayed = Replayed::default();
    // The first request of each key, by its key under the other version.
    let mut under_new: HashMap<Keyed, HashMap<Option<Keyed>, String>> = HashMap::new();
    let mut under_old: HashMap<Keyed, HashMap<Option<Keyed>, ()>> = HashMap::new();
    for recorded in requests {
        // It was checked when it was read.
        let Ok(presented) = recorded.presented() else { continue };
        replayed.requests += 1;
        let shown = Shown::from(presented);
        let now = Now { wall: UNIX_EPOCH + Duration::from_millis(recorded.at), mono: Instant::now() };
        let (before, after) = (decide(&old, &shown, recorded, now), decide(&new, &shown, recorded, now));
        let note = |(count, shown): &mut (usize, Vec<Change>), old: &str, new: &str| {
            *count += 1;
            if shown.len() < SHOWN_MAX {
                let request = recorded.request.clone();
                shown.push(Change { request, old: old.to_owned(), new: new.to_owned() });
            }
        };
        if before.key != after.key || before.shown != after.shown {
            note(&mut replayed.keys, &before.shown, &after.shown);
        }
        if before.store != after.store {
            note(&mut replayed.lifetimes, &before.store, &after.store);
        }
        if before.purges != after.purges {
            note(&mut replayed.purges, &before.purges, &after.purges);
        }
        if let Some(key) = &after.key {
            let group = under_new.entry(key.clone()).or_default();
            if !group.contains_key(&before.key) || before.key.is_none() {
                if let Some(other) = group.values().next() {
                    replayed.meet.0 += 1;
                    if replayed.meet.1.len() < SHOWN_MAX {
                        let (old, new) = (other.clone(), recorded.request.clone());
                        replayed.meet.1.push(Change { request: after.shown.clone(), old, new });
                    }
                }
                group.insert(before.key.clone(), recorded.request.clone());
            }
        }
        if let Some(key) = before.key {
            let group = under_old.entry(key).or_default();
            if group.insert(after.key, ()).is_none() && group.len() > 1 {
                replayed.part += 1;
            }
        }
    }
    Ok(replayed)
}

impl Version<'_> {
    fn load(&self) -> Result<Arc<Plugin>, LoadError> {
        let now = Now { wall: begin(), mono: Instant::now() };
        self.trial.load(self.config, MemoLimits { entries: 0, bytes: 0 }, &Arc::new(Heard::default()), now)
    }
}

fn decide(plugin: &Plugin, shown: &Shown, recorded: &Recorded, now: Now) -> Decided {
    let hooks = plugin.hooks();
    let failed = |error: &CallError| format!("fails: {error}");
    let asked = hooks.request.then(|| shown.ask(now, |request| plugin.on_request(0, request)));
    let (decision, mut said) = match asked {
        None => (None, None),
        Some(Ok(decision)) => (Some(decision), None),
        Some(Err(error)) => (None, Some(failed(&error))),
    };
    if decision.as_ref().is_some_and(|decision| decision.mode == Mode::Bypass) {
        said = Some("bypass".to_owned());
    }
    let key = said.is_none().then(|| shown.ask(now, |request| keyed(plugin, decision.as_deref(), request)));
    let shown_key = said.unwrap_or_else(|| {
        let (target, cookies) = shown.ask(now, |request| forwarded(plugin, decision.as_deref(), request));
        let mut text = target;
        if let Some(decision) = &decision {
            if let Some(key) = &decision.key {
                text.push_str(&format!(", key {key:?}"));
            }
            if !decision.variants.is_empty() {
                text.push_str(&format!(", variants {:?}", decision.variants));
            }
        }
        if !cookies.is_empty() {
            text.push_str(&format!(", cookies {cookies:?}"));
        }
        text
    });
    let carry = decision.as_ref().and_then(|decision| decision.carry.as_deref());
    let answered = recorded.answer.as_ref();
    let method = recorded.request.split(' ').next().unwrap_or_default();
    let is_write = !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY");
    let mut store = String::new();
    let mut purges = String::new();
    if let Some((answer, headers)) = answered.and_then(|answer| Some((answer, answer.fields().ok()?))) {
        let Answered { status, content_length, .. } = *answer;
        let response = Response { status, headers: &headers, content_length };
        if hooks.response {
            let said = shown.ask(now, |request| plugin.on_response(0, request, carry, &response));
            store = said.map_or_else(|error| failed(&error), |said| shown_store(&said));
        }
        if hooks.invalidate && is_write && (200..400).contains(&status) {
            let said = shown.ask(now, |request| plugin.on_write(0, request, carry, &response));
            purges = said.map_or_else(
                |error| failed(&error),
                |said| said.iter().map(shown_purge).collect::<Vec<_>>().join(", "),
            );
        }
    }
    Decided { key, shown: shown_key, store, purges }
}

fn shown_store(said: &StoreDecision) -> String {
    match said {
        StoreDecision::Default => "as the origin says".to_owned(),
        StoreDecision::NoStore => "not stored".to_owned(),
        StoreDecision::HitForPass(time) => format!("not stored, nobody waits for {time:?}"),
        StoreDecision::Store(policy) => {
            let mut text =
                policy.ttl.map_or_else(|| "stored".to_owned(), |ttl| format!("stored for {ttl:?}"));
            for (what, time) in [
                ("stale-while-revalidate", policy.stale_while_revalidate),
                ("stale-if-error", policy.stale_if_error),
            ] {
                if let Some(time) = time {
                    text.push_str(&format!(", {what} {time:?}"));
                }
            }
            let vary = policy.vary.iter().map(http::HeaderName::as_str).collect::<Vec<_>>();
            for (what, names) in [
                ("tags", policy.tags.iter().map(|tag| &**tag).collect::<Vec<_>>()),
                ("vary", vary),
                ("without", policy.strip.iter().map(http::HeaderName::as_str).collect()),
            ] {
                if !names.is_empty() {
                    text.push_str(&format!(", {what} {}", names.join(" ")));
                }
            }
            text
        }
    }
}

impl Trial<'_> {
    /// This version with a configuration.
    #[must_use]
    pub fn version<'v>(&'v self, config: &'v str) -> Version<'v> {
        Version { trial: self, config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_and_what_would_newly_meet() {
        let folder = format!("{}/../../plugins/query-normalize", env!("CARGO_MANIFEST_DIR"));
        let wasm = std::fs::read(format!("{folder}/query-normalize.wasm")).unwrap();
        let trial = Trial::new(&wasm).unwrap();
        let request = |target: &str| Recorded {
            at: 1,
            request: format!("GET http://a.example{target}"),
            route: "r".to_owned(),
            ..Recorded::default()
        };
        let requests =
            [request("/p?id=1&x=1"), request("/p?id=1&x=2"), request("/q"), request("/p?x=1&id=1")];
        let same = replay(trial.version("{}"), trial.version("{}"), requests.iter()).unwrap();
        assert_eq!((same.requests, same.changes(), same.meet.0, same.part), (4, false, 0, 0));
        let dropping = r#"{"drop":["x"]}"#;
        let replayed = replay(trial.version("{}"), trial.version(dropping), requests.iter()).unwrap();
        assert_eq!(replayed.keys.0, 3);
        assert_eq!(replayed.keys.1[0].new, "/p?id=1");
        assert_eq!(replayed.meet.0, 1, "{:?}", replayed.meet);
        let met = &replayed.meet.1[0];
        assert_eq!((met.old.as_str(), met.new.as_str()), (&*requests[0].request, &*requests[1].request));
        let back = replay(trial.version(dropping), trial.version("{}"), requests.iter()).unwrap();
        assert_eq!((back.meet.0, back.part), (0, 1));
    }
}
