//! `No-Vary-Search`: stored responses that answer for other queries than their own.
//!
//! A response that says which parameters do not matter is noted under a key of its own: the request's key with its query brought into
//! the form that all equivalent ones share. A lookup that finds nothing under its own query tries the rules known for the same path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cache_semantics::key;
use cache_semantics::query::NoVarySearch;
use quick_cache::sync::Cache;

use crate::store::StoredResponse;

/// Paths whose rules are known.
const PATHS_MAX: usize = 4096;
/// Rules of one path; responses that disagree more than this are found under their own query only.
const RULES_MAX: usize = 4;
/// Noted keys in all.
const NOTED_MAX: usize = 65_536;

/// The rules known, and the keys noted under them.
#[derive(Debug)]
pub struct Searches {
    /// Rules by key without query.
    rules: Cache<Box<[u8]>, Arc<[NoVarySearch]>>,
    /// The key of a stored response, by the key with its query in shared form.
    noted: Cache<Box<[u8]>, Arc<[u8]>>,
    /// Whether any rule was ever noted: most origins never send one.
    any: AtomicBool,
}

impl Default for Searches {
    fn default() -> Self {
        Self { rules: Cache::new(PATHS_MAX), noted: Cache::new(NOTED_MAX), any: AtomicBool::new(false) }
    }
}

impl Searches {
    /// Notes a stored response that has a rule.
    pub fn note(&self, key: &[u8], response: &StoredResponse) {
        if response.head.value(&cache_semantics::query::NO_VARY_SEARCH).is_none() {
            return;
        }
        let rule = NoVarySearch::of(&response.head.to_map(0));
        let Some((path_key, query)) = without_query(key) else { return };
        if rule.is_default() {
            return;
        }
        let known = self.rules.get(&*path_key);
        let known = known.as_deref().unwrap_or_default();
        if !known.contains(&rule) {
            let newest = std::iter::once(rule.clone()).chain(known.iter().cloned()).take(RULES_MAX);
            self.rules.insert(path_key.clone(), newest.collect());
        }
        self.noted.insert(shared_key(&path_key, &rule, query), key.into());
        self.any.store(true, Ordering::Release);
    }

    /// Tries the keys noted for queries equivalent to the one in `key`, until `attempt` gives something.
    pub fn find<T>(&self, key: &[u8], mut attempt: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let (path_key, query) = without_query(key)?;
        let rules = self.rules.get(&*path_key)?;
        rules.iter().find_map(|rule| {
            let other = self.noted.get(&*shared_key(&path_key, rule, query))?;
            attempt(&other)
        })
    }
}

/// The key without its query, and the query.
fn without_query(key: &[u8]) -> Option<(Box<[u8]>, Option<&str>)> {
    let parts = key::parts(key)?;
    let query = parts.iter().find(|part| part.kind == "query").map(|part| part.bytes);
    let query = match query {
        Some(bytes) => Some(std::str::from_utf8(bytes).ok()?),
        None => None,
    };
    let mut rest = Vec::with_capacity(key.len());
    for part in parts.iter().filter(|part| part.kind != "query") {
        rest.extend_from_slice(part.kind.as_bytes());
        rest.extend_from_slice(&part.bytes.len().to_be_bytes());
        rest.extend_from_slice(part.bytes);
    }
    Some((rest.into(), query))
}

fn shared_key(path_key: &[u8], rule: &NoVarySearch, query: Option<&str>) -> Box<[u8]> {
    let mut shared = path_key.to_vec();
    // The rule is part of it: two rules may bring different queries into one form.
    shared.extend_from_slice(format!("{rule:?}").as_bytes());
    shared.push(0);
    rule.canonical(query, &mut shared);
    shared.into()
}
