//! What a plugin costs: the requests of its tests, again and again.

use std::sync::Arc;
use std::time::Instant;

use cache_semantics::Now;
use plugin_host::{MemoLimits, Planned, Stats};

use plugin_cases::case::File;

use crate::show::Shown;
use crate::{Heard, Trial, TrialError, begin};

/// What calls cost, in nanoseconds each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cost {
    /// Applying its plan.
    pub plan: Option<f64>,
    /// The request hook, called each time.
    pub request: Option<f64>,
    /// The request hook, where what it said is remembered.
    pub remembered: Option<f64>,
    /// What was counted in the last of these.
    pub stats: Stats,
    /// Different requests.
    pub requests: usize,
}

impl Trial<'_> {
    /// Measures, with so many rounds over the requests of the tests that have the common configuration.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a loop, for people")]
    pub fn cost(&self, tests: &str, rounds: usize) -> Result<Cost, TrialError> {
        let file = File::parse(tests)?;
        let config = file.config.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
        let now = Now { wall: begin(), mono: Instant::now() };
        let cases = file.test.iter().filter(|case| case.config.is_none() && case.refused.is_none());
        let presented: Vec<Shown> = cases.filter_map(|case| Shown::of_case(case).ok()).collect();
        let mut cost = Cost { requests: presented.len(), ..Cost::default() };
        if presented.is_empty() {
            return Err(TrialError::NoRequest);
        }
        for (remembers, memo) in [(false, MemoLimits { entries: 0, bytes: 0 }), (true, MemoLimits::default())]
        {
            let plugin = self.load(&config, memo, &Arc::new(Heard::default()), now)?;
            let started = Instant::now();
            let mut planned = Planned::default();
            for _ in 0..rounds {
                for one in &presented {
                    one.ask(now, |request| match plugin.plan() {
                        Some(plan) => plan.apply(request, &mut planned),
                        None => drop(plugin.on_request(0, request)),
                    });
                }
            }
            let each = started.elapsed().as_nanos() as f64 / (rounds * presented.len()).max(1) as f64;
            if plugin.plan().is_some() {
                cost.plan = Some(each);
            } else if !plugin.hooks().request {
            } else if remembers && plugin.remembers() {
                cost.remembered = Some(each);
            } else if !remembers {
                cost.request = Some(each);
            }
            cost.stats = plugin.stats();
        }
        Ok(cost)
    }
}
