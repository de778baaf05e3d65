//! What is expected of a plugin, compared with what it says.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cache_semantics::Now;
use http::header;
use plugin_host::decision::{
    ForwardCookies, ForwardQuery, Mode, Purge, PurgeTarget, RequestDecision, StoreDecision, StorePolicy,
};
use plugin_host::{CallError, Input, Planned, Plugin, Request, Response};
use serde_json::Value;

use plugin_cases::case::{self, Case};

use crate::Heard;
use crate::show::Shown;

/// What is otherwise than expected.
pub(crate) fn differences(plugin: &Plugin, case: &Case, now: Now, heard: &Arc<Heard>) -> Vec<String> {
    let mut found = Found { differences: Vec::new(), failures: Vec::new() };
    if let Err(error) = found.all(plugin, case, now, heard) {
        found.differences.push(error);
    }
    found.differences
}

struct Found {
    differences: Vec<String>,
    failures: Vec<String>,
}

/// What makes two requests the same, as the host puts it together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Keyed {
    url: String,
    part: Vec<u8>,
    content: Option<String>,
}

impl Found {
    fn all(&mut self, plugin: &Plugin, case: &Case, now: Now, heard: &Arc<Heard>) -> Result<(), String> {
        let presented = Shown::of_case(case)?;
        let hooks = plugin.hooks();
        let decision = if hooks.request {
            let asked = presented.ask(now, |request| plugin.on_request(0, request));
            self.of("request", asked)
        } else {
            None
        };
        if let Some(decision) = &decision {
            self.decision(case, decision);
        } else if case.mode.is_some() || case.variants.is_some() || case.key.is_some() {
            self.note(
                "it has no request hook, or that failed, so there is no `mode`, `key` or `variants`"
                    .to_owned(),
            );
        }
        if hooks.plan || decision.is_some() {
            let keyed = presented.ask(now, |request| keyed(plugin, decision.as_deref(), request));
            let (path, cookies) =
                presented.ask(now, |request| forwarded(plugin, decision.as_deref(), request));
            self.same("forwarded", case.forwarded.as_ref(), &path);
            self.same("forwarded_cookies", case.forwarded_cookies.as_ref(), &cookies);
            self.counted(case, heard);
            self.keys(plugin, case, &keyed, now)?;
        }
        let carry = decision.as_ref().and_then(|decision| decision.carry.as_deref());
        if case.store.is_some() {
            self.response(plugin, case, &presented, carry, now)?;
        }
        if let Some(expected) = &case.purges {
            let said = answered(case, |response| {
                presented.ask(now, |request| plugin.on_write(0, request, carry, response))
            })?;
            if let Some(said) = self.of("invalidate", said) {
                let said: Vec<String> = said.iter().map(shown_purge).collect();
                self.same("purges", Some(expected), &said);
            }
        }
        if let Some(expected) = &case.charges {
            let said = presented.ask(now, |request| plugin.charge(0, request));
            if let Some(said) = self.of("rate", said) {
                let said: Vec<(&str, &str, u32)> =
                    said.iter().map(|charge| (&*charge.bucket, &*charge.key, charge.cost)).collect();
                let fits = expected.len() == said.len()
                    && expected.iter().zip(&said).all(|(expected, (bucket, key, cost))| {
                        expected.iter().all(|(name, value)| match name.as_str() {
                            "bucket" => value == bucket,
                            "key" => value == key,
                            "cost" => value == cost,
                            _ => false,
                        })
                    });
                if !fits {
                    self.note(format!("`charges`: expected {expected:?}, and it is {said:?}"));
                }
            }
        }
        match (&case.failed, self.failures.is_empty()) {
            (Some(text), _) if self.failures.iter().any(|said| said.contains(text.as_str())) => {}
            (Some(text), _) => {
                self.note(format!("it should fail with `{text}`; failed: {:?}", self.failures))
            }
            (None, true) => {}
            (None, false) => {
                let failures = std::mem::take(&mut self.failures);
                self.differences.extend(failures.into_iter().map(|failure| format!("it failed: {failure}")));
            }
        }
        if !(hooks.plan || decision.is_some()) {
            self.counted(case, heard);
        }
        let lines = heard.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for wanted in case.logged.iter().flatten() {
            if !lines.iter().any(|line| line.contains(wanted.as_str())) {
                self.note(format!("`logged`: no line has `{wanted}`: {lines:?}"));
            }
        }
        Ok(())
    }

    fn note(&mut self, difference: String) {
        self.differences.push(difference);
    }

    fn of<T>(&mut self, hook: &str, said: Result<T, CallError>) -> Option<T> {
        said.map_err(|error| self.failures.push(format!("{hook}: {error}"))).ok()
    }

    fn same<E: PartialEq<S> + Debug + ?Sized, S: Debug + ?Sized>(
        &mut self,
        what: &str,
        expected: Option<&E>,
        said: &S,
    ) {
        if let Some(expected) = expected.filter(|expected| **expected != *said) {
            self.note(format!("`{what}`: expected {expected:?}, and it is {said:?}"));
        }
    }

    /// Compared before the plugin is asked about other requests.
    fn counted(&mut self, case: &Case, heard: &Heard) {
        let counts = heard.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, expected) in case.counted.iter().flatten() {
            let count = counts.get(name).copied().unwrap_or_default();
            self.same(&format!("counted.{name}"), Some(expected), &count);
        }
    }

    fn decision(&mut self, case: &Case, decision: &RequestDecision) {
        let mode = match decision.mode {
            Mode::Lookup => "lookup",
            Mode::Refresh => "refresh",
            Mode::Bypass => "bypass",
        };
        self.same("mode", case.mode.as_deref(), mode);
        self.same("key", case.key.as_deref(), decision.key.as_deref().unwrap_or_default());
        let variants: Vec<String> = decision.variants.iter().map(|variant| variant.to_string()).collect();
        self.same("variants", case.variants.as_ref(), &variants);
        self.same("carry", case.carry.as_deref(), decision.carry.as_deref().unwrap_or_default());
        if let Some(expected) = &case.remember {
            let said = decision.remember();
            let fits = match case::duration(expected) {
                Ok(expected) => said == Some(expected),
                Err(_) => expected == "until reload" && said.is_none(),
            };
            if !fits {
                self.note(format!("`remember`: expected {expected:?}, and it is {said:?}"));
            }
        }
    }

    fn keys(&mut self, plugin: &Plugin, case: &Case, keyed: &Keyed, now: Now) -> Result<(), String> {
        for (what, said, expected) in [
            ("same_key_as", &case.same_key_as, true),
            ("different_key_from", &case.different_key_from, false),
        ] {
            let Some(said) = said else { continue };
            for (shown, other) in case.others(said)? {
                let presented = Shown::of_case(&other)?;
                let decision = if plugin.hooks().request {
                    let asked = presented.ask(now, |request| plugin.on_request(0, request));
                    Some(asked.map_err(|error| format!("{shown}: {error}"))?)
                } else {
                    None
                };
                // One that passes the cache shares with nobody.
                let passes = decision.as_ref().is_some_and(|decision| decision.mode == Mode::Bypass);
                let theirs = presented.ask(now, |request| self::keyed(plugin, decision.as_deref(), request));
                let same = !passes && theirs == *keyed;
                if same != expected {
                    let how = if same { "the same" } else { "another" };
                    self.note(format!("`{what}`: {shown} has {how} key"));
                }
            }
        }
        Ok(())
    }

    fn response(
        &mut self,
        plugin: &Plugin,
        case: &Case,
        presented: &Shown,
        carry: Option<&str>,
        now: Now,
    ) -> Result<(), String> {
        let said = answered(case, |response| {
            presented.ask(now, |request| plugin.on_response(0, request, carry, response))
        })?;
        let Some(said) = self.of("response", said) else { return Ok(()) };
        if let Some(expected) = &case.store {
            self.store(expected, &said)?;
        }
        Ok(())
    }

    fn store(&mut self, expected: &Value, said: &StoreDecision) -> Result<(), String> {
        let fits = match (expected, said) {
            (Value::String(word), StoreDecision::Default) => word == "default",
            (Value::String(word), StoreDecision::NoStore) => word == "no-store",
            (Value::Object(table), StoreDecision::HitForPass(time)) => {
                let wanted = table.get("hit_for_pass").and_then(Value::as_str);
                wanted.map(case::duration).transpose()? == Some(*time)
            }
            (Value::Object(table), StoreDecision::Store(policy)) => {
                for (name, value) in table {
                    if !of_policy(policy, name, value)? {
                        self.note(format!("`store.{name}`: expected {value}, and it is {policy:?}"));
                    }
                }
                true
            }
            _ => false,
        };
        if !fits {
            self.note(format!("`store`: expected {expected}, and it is {said:?}"));
        }
        Ok(())
    }
}

fn of_policy(policy: &StorePolicy, name: &str, value: &Value) -> Result<bool, String> {
    let time = |said: Option<Duration>| -> Result<bool, String> {
        Ok(value.as_str().map(case::duration).transpose()? == said)
    };
    let names = |said: Vec<&str>| {
        let wanted: Option<Vec<&str>> =
            value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect());
        wanted == Some(said)
    };
    Ok(match name {
        "ttl" => time(policy.ttl)?,
        "stale_while_revalidate" => time(policy.stale_while_revalidate)?,
        "stale_if_error" => time(policy.stale_if_error)?,
        "tags" => names(policy.tags.iter().map(|tag| &**tag).collect()),
        "vary" => names(policy.vary.iter().map(http::HeaderName::as_str).collect()),
        "strip_headers" => names(policy.strip.iter().map(http::HeaderName::as_str).collect()),
        _ => return Err(format!("`store.{name}` is not known")),
    })
}

/// With what the origin answers in this case.
fn answered<T>(case: &Case, with: impl FnOnce(&Response<'_>) -> T) -> Result<T, String> {
    let answer = case.response.as_ref().ok_or("there is no `response`")?;
    let headers = case::headers(Some(&answer.headers))?;
    Ok(with(&Response { status: answer.status, headers: &headers, content_length: answer.content_length }))
}

/// Path and query as they are forwarded, and what the plugin adds.
fn shaped<'r>(
    plugin: &Plugin,
    decision: Option<&RequestDecision>,
    request: &Request<'r>,
) -> (String, Vec<u8>) {
    let mut path = request.path.to_owned();
    let mut query = request.query.map(str::to_owned);
    let mut part = Vec::new();
    if let Some(plan) = plugin.plan() {
        let mut planned = Planned::default();
        plan.apply(request, &mut planned);
        if plan.lower_path {
            path.make_ascii_lowercase();
        }
        if planned.changed {
            query = planned.query().map(str::to_owned);
        }
        part = planned.part;
    } else if let Some(decision) = decision {
        if let ForwardQuery::Exactly(forwarded) = &decision.query {
            query = forwarded.as_deref().map(str::to_owned);
        }
        part = decision.key_part.as_deref().map(<[u8]>::to_vec).unwrap_or_default();
    }
    let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    (target, part)
}

pub(crate) fn keyed(plugin: &Plugin, decision: Option<&RequestDecision>, request: &Request<'_>) -> Keyed {
    let (target, part) = shaped(plugin, decision, request);
    // GET and HEAD are one class.
    let class = if request.method == "HEAD" { "GET" } else { request.method };
    let url = format!("{class} {}://{}{target} {}", request.scheme, request.authority, request.route);
    // The digest of content is in the host's key, unless the plugin reads content and gives a key.
    let reads_content = plugin.manifest().inputs.iter().any(Input::is_content);
    let is_keyed = reads_content && decision.is_some_and(|decision| decision.key.is_some());
    let content = request.content.filter(|_| !is_keyed).map(|content| content.digest().to_owned());
    Keyed { url, part, content }
}

pub(crate) fn forwarded(
    plugin: &Plugin,
    decision: Option<&RequestDecision>,
    request: &Request<'_>,
) -> (String, Vec<String>) {
    let (target, _) = shaped(plugin, decision, request);
    let rule = plugin.plan().map(|plan| &plan.cookies).or_else(|| decision.map(|decision| &decision.cookies));
    let lines = request.headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let names =
        lines.flat_map(|line| line.split(';')).map(|pair| pair.split('=').next().unwrap_or_default().trim());
    let passes = |name: &&str| match rule {
        None | Some(ForwardCookies::AsRouted) => true,
        Some(ForwardCookies::None) => false,
        Some(ForwardCookies::Only { rule, .. }) => rule.declared().any(|declared| declared == *name),
    };
    (target, names.filter(|name| !name.is_empty()).filter(passes).map(str::to_owned).collect())
}

pub(crate) fn shown_purge(purge: &Purge) -> String {
    let target = match &purge.target {
        PurgeTarget::Tag(tag) => format!("tag {tag}"),
        PurgeTarget::TagGlob(glob) => format!("tags {glob}"),
        PurgeTarget::PathAndQuery(path) => format!("key {path}"),
        PurgeTarget::PathPrefix(path) => format!("path {path}"),
        PurgeTarget::Route => "route".to_owned(),
    };
    if purge.soft { format!("soft {target}") } else { target }
}
