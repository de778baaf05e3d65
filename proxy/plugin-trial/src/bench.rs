//! What a plugin costs: the requests of its tests, again and again.
//!
//! A batch is long enough to be timed and short enough to pass undisturbed, and the fastest of many counts: whatever disturbs one only ever adds to it.

use std::sync::Arc;
use std::time::Instant;

use cache_semantics::Now;
use http::HeaderMap;
use plugin_host::decision::RequestDecision;
use plugin_host::{MemoLimits, Planned, Plugin, Request, Response, Stats};

use plugin_cases::case::{self, Case, File};

use crate::show::Shown;
use crate::{Heard, Trial, TrialError, begin};

/// Batches of each measurement.
const BATCHES: usize = 500;

/// What a plugin costs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cost {
    /// What calls cost, each by what was called.
    pub calls: Vec<(&'static str, f64)>,
    /// What was counted with the memory on.
    pub stats: Stats,
    /// Different requests.
    pub requests: usize,
}

/// A request of a test, and what belongs to it.
struct Presented {
    shown: Shown,
    /// What the request hook said of it.
    decision: Option<Arc<RequestDecision>>,
    /// What its origin answers.
    answer: Option<Answer>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    content_length: Option<u64>,
}

impl Presented {
    fn of(case: &Case) -> Option<Self> {
        let answer = case.response.as_ref().and_then(|said| {
            let headers = case::headers(Some(&said.headers)).ok()?;
            Some(Answer { status: said.status, headers, content_length: said.content_length })
        });
        Some(Self { shown: Shown::of_case(case).ok()?, decision: None, answer })
    }

    fn ask(&self, now: Now, with: impl FnOnce(&Request<'_>)) {
        self.shown.ask(now, with);
    }

    /// For hooks that hear of answers.
    fn tell(&self, now: Now, with: impl FnOnce(&Request<'_>, Option<&str>, &Response<'_>)) {
        let Some(Answer { status, headers, content_length }) = &self.answer else { return };
        let response = Response { status: *status, headers, content_length: *content_length };
        let carry = self.decision.as_ref().and_then(|decision| decision.carry.as_deref());
        self.shown.ask(now, |request| with(request, carry, &response));
    }
}

impl Trial<'_> {
    /// Measures, with so many rounds over the requests of the tests that have the common configuration.
    pub fn cost(&self, tests: &str, rounds: usize) -> Result<Cost, TrialError> {
        let file = File::parse(tests)?;
        let config = file.config.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
        let now = Now { wall: begin(), mono: Instant::now() };
        // One that keeps failing is not asked any more, which costs nothing.
        let is_plain =
            |case: &&Case| case.config.is_none() && case.refused.is_none() && case.failed.is_none();
        let cases = file.test.iter().filter(is_plain);
        let mut presented: Vec<Presented> = cases.filter_map(Presented::of).collect();
        if presented.is_empty() {
            return Err(TrialError::NoRequest);
        }
        let load = |memo| self.load(&config, memo, &Arc::new(Heard::default()), now);
        let plugin = load(MemoLimits { entries: 0, bytes: 0 })?;
        let hooks = plugin.hooks();
        if hooks.request {
            for one in &mut presented {
                one.decision = one.shown.ask(now, |request| plugin.on_request(0, request)).ok();
            }
        }
        let all: Vec<&Presented> = presented.iter().collect();
        let answered: Vec<&Presented> = presented.iter().filter(|one| one.answer.is_some()).collect();
        let mut cost = Cost { requests: presented.len(), ..Cost::default() };
        let mut measure = |what, of: &[&Presented], act: &mut dyn FnMut(&Presented)| {
            cost.calls.extend(fastest(of, rounds, act).map(|each| (what, each)));
        };
        if let Some(plan) = plugin.plan() {
            let mut planned = Planned::default();
            measure("plan", &all, &mut |one| one.ask(now, |request| plan.apply(request, &mut planned)));
        }
        if hooks.request {
            measure("request hook", &all, &mut |one| requests(&plugin, one, now));
        }
        if hooks.response {
            measure("response hook", &answered, &mut |one| {
                one.tell(now, |request, carry, response| {
                    drop(plugin.on_response(0, request, carry, response));
                });
            });
        }
        if hooks.invalidate {
            measure("invalidate hook", &answered, &mut |one| {
                one.tell(now, |request, carry, response| drop(plugin.on_write(0, request, carry, response)));
            });
        }
        if hooks.rate {
            measure("rate hook", &all, &mut |one| rates(&plugin, one, now));
        }
        let plugin = load(MemoLimits::default())?;
        if plugin.remembers() && hooks.request {
            measure("request hook, remembered", &all, &mut |one| requests(&plugin, one, now));
        }
        if plugin.remembers() && hooks.rate {
            measure("rate hook, remembered", &all, &mut |one| rates(&plugin, one, now));
        }
        cost.stats = plugin.stats();
        Ok(cost)
    }
}

fn requests(plugin: &Plugin, one: &Presented, now: Now) {
    one.ask(now, |request| drop(plugin.on_request(0, request)));
}

fn rates(plugin: &Plugin, one: &Presented, now: Now) {
    one.ask(now, |request| drop(plugin.charge(0, request)));
}

/// Nanoseconds for each, in the fastest batch; `None`: there is none.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a loop, for people")]
fn fastest(of: &[&Presented], rounds: usize, act: &mut dyn FnMut(&Presented)) -> Option<f64> {
    if of.is_empty() {
        return None;
    }
    let rounds = rounds.div_ceil(BATCHES);
    let mut batch = || {
        let started = Instant::now();
        for _ in 0..rounds {
            of.iter().for_each(|one| act(one));
        }
        started.elapsed()
    };
    // The first one warms up.
    batch();
    let fastest = (0..BATCHES).map(|_| batch()).min().unwrap_or_default();
    Some(fastest.as_nanos() as f64 / (rounds * of.len()) as f64)
}
