//! One plugin with one configuration: its hooks, an instance for each worker, and what it said before.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_semantics::Now;
use http::HeaderName;
use parking_lot::Mutex;
use plugin_inputs::grants::{Grant, Grants};
use plugin_inputs::plan::{KeyPlan, SaidPlan};
use plugin_inputs::request::{Allowance, Gathered, Input, NameFilter, Request, Response, isomorphic};
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::bindings::exports::weir::policy::{
    invalidate_hook, lifecycle, plan_hook, rate_hook, request_hook, response_hook,
};
use crate::bindings::weir::policy::types as wit;
use crate::breaker::{Breaker, BreakerState};
use crate::decision::{HANDED_OVER_MAX, NAMES_MAX, Purge, RateCharge, RequestDecision, StoreDecision};
use crate::engine::Host;
use crate::error::{CallError, LoadError};
use crate::guest::{Guest, Shared};
use crate::inspect::{Inspection, SPOKEN};
use crate::memo::{Memo, Remembered};
use crate::state::SharedState;
use crate::ticker::TICK;
use crate::{Level, Sink};

/// What a plugin is loaded with.
pub struct PluginSpec {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// Its configuration, as JSON.
    pub config: String,
    /// What it may read and do.
    pub grants: Grants,
    /// What it may take.
    pub limits: Limits,
    /// What is remembered of it.
    pub memo: MemoLimits,
    /// How many threads call it: each has an instance and a memory of its own.
    pub workers: usize,
    /// What it keeps.
    pub state: Arc<SharedState>,
    /// Where its log goes.
    pub sink: Arc<dyn Sink>,
    /// The time of the load.
    pub now: Now,
}

/// What a plugin may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The time of one call of a hook.
    pub time: Duration,
    /// The time of `configure` and `plan` at the load.
    pub configure: Duration,
    /// The memory of one instance.
    pub memory: usize,
    /// Calls after which an instance is replaced by a new one.
    pub calls: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(10),
            configure: Duration::from_millis(500),
            memory: 16 << 20,
            calls: 100_000,
        }
    }
}

/// What is remembered of a pure plugin, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoLimits {
    /// The most decisions.
    pub entries: usize,
    /// The most bytes.
    pub bytes: usize,
}

impl Default for MemoLimits {
    fn default() -> Self {
        Self { entries: 16_384, bytes: 8 << 20 }
    }
}

/// Which hooks a plugin has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hooks {
    /// A plan for keys.
    pub plan: bool,
    /// Before the lookup.
    pub request: bool,
    /// Before storing.
    pub response: bool,
    /// After a write.
    pub invalidate: bool,
    /// What a request costs.
    pub rate: bool,
}

impl Hooks {
    /// Their names in the interface.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.plan, "plan-hook"),
            (self.request, "request-hook"),
            (self.response, "response-hook"),
            (self.invalidate, "invalidate-hook"),
            (self.rate, "rate-hook"),
        ];
        all.into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
    }
}

/// A call that a plugin gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Once for each instance.
    Configure,
    /// Before the lookup.
    Request,
    /// Before storing.
    Response,
    /// After a write.
    Invalidate,
    /// What a request costs.
    Rate,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Configure, Self::Request, Self::Response, Self::Invalidate, Self::Rate];

    /// Its name, for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Request => "request",
            Self::Response => "response",
            Self::Invalidate => "invalidate",
            Self::Rate => "rate",
        }
    }
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it reads of requests.
    pub inputs: Vec<Input>,
    /// What it reads of responses.
    pub response_headers: Vec<HeaderName>,
    /// Whether it says the same of the same.
    pub pure: bool,
    /// Its buckets.
    pub buckets: Vec<String>,
}

/// What was counted since the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// For each hook, in the order of [`Hook::ALL`].
    pub hooks: [HookStats; 5],
    /// Decisions that were remembered.
    pub memo_hits: u64,
    /// Decisions that were not.
    pub memo_misses: u64,
    /// Decisions that the plugin did not repeat when it was asked again: it is not as pure as it says.
    pub memo_mismatches: u64,
    /// What is remembered now.
    pub memo_entries: u64,
    /// Its bytes.
    pub memo_bytes: u64,
    /// Instances that were made.
    pub instances: u64,
    /// The memory of those that live, in bytes.
    pub memory_bytes: u64,
}

/// What was counted of one hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HookStats {
    /// Calls.
    pub calls: u64,
    /// What they took together.
    pub nanos: u64,
    /// Those that failed, in the order of [`CallError::REASONS`].
    pub failures: [u64; CallError::REASONS.len()],
}

/// A loaded plugin.
pub struct Plugin {
    name: Arc<str>,
    host: Arc<Host>,
    pre: InstancePre<Guest>,
    config: String,
    exports: Exports,
    manifest: Manifest,
    declared: wit::Manifest,
    plan: Option<KeyPlan>,
    remembers: bool,
    limits: Limits,
    /// The time of `configure` later on, when a request waits for it.
    configure_again: Duration,
    shared: Arc<Shared>,
    breaker: Breaker,
    slots: Box<[Mutex<Slot>]>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// Where the exports are, found once.
struct Exports {
    lifecycle: lifecycle::GuestIndices,
    request: Option<request_hook::GuestIndices>,
    response: Option<response_hook::GuestIndices>,
    invalidate: Option<invalidate_hook::GuestIndices>,
    rate: Option<rate_hook::GuestIndices>,
    plan: Option<plan_hook::GuestIndices>,
}

/// What belongs to one worker: nobody else waits for it.
struct Slot {
    /// In a box: it is taken out for each call, and is gone if that does not come back.
    live: Option<Box<Live>>,
    gathered: Gathered,
    requests: Memo<RequestDecision>,
    charges: Memo<Vec<RateCharge>>,
    stats: Stats,
}

/// What holds, of what was said now and what was said before.
enum Settled<T> {
    Before(Arc<T>),
    Now(T),
}

impl Slot {
    /// `before`: what is remembered and was asked again, to see whether it is still said.
    fn settle<T>(
        &mut self,
        said: Result<T, CallError>,
        before: Option<Arc<T>>,
        same: impl Fn(&T, &T) -> bool,
    ) -> Result<Settled<T>, CallError> {
        match (said, before) {
            (Ok(said), Some(before)) if same(&said, &before) => Ok(Settled::Before(before)),
            (Ok(said), Some(_)) => {
                self.stats.memo_mismatches += 1;
                Ok(Settled::Now(said))
            }
            (Ok(said), None) => Ok(Settled::Now(said)),
            // What it said before holds for as long as it said.
            (Err(_), Some(before)) => Ok(Settled::Before(before)),
            (Err(error), None) => Err(error),
        }
    }
}

/// The hooks of one instance.
struct Bound {
    request: Option<request_hook::Guest>,
    response: Option<response_hook::Guest>,
    invalidate: Option<invalidate_hook::Guest>,
    rate: Option<rate_hook::Guest>,
    plan: Option<plan_hook::Guest>,
}

/// An instance, ready to be called.
struct Live {
    store: Store<Guest>,
    bound: Bound,
    calls: u64,
    /// Memory above which it is replaced: it leaks.
    memory_soft_max: usize,
}

/// What a call of a hook gives, before it is checked.
type Said<T> = wasmtime::Result<Result<T, String>>;

impl Plugin {
    pub(crate) fn load(
        host: Arc<Host>,
        component: &Component,
        inspection: &Inspection,
        spec: PluginSpec,
    ) -> Result<Self, LoadError> {
        let control = inspection.imports_interface("control");
        let may_purge = spec.grants.allows(&Grant::Control);
        if control && !may_purge {
            return Err(LoadError::ControlNotGranted);
        }
        let pre = host.pre(component)?;
        let hooks = inspection.hooks;
        let exports = Exports {
            lifecycle: shaped(lifecycle::GuestIndices::new(&pre))?,
            request: hooks.request.then(|| shaped(request_hook::GuestIndices::new(&pre))).transpose()?,
            response: hooks.response.then(|| shaped(response_hook::GuestIndices::new(&pre))).transpose()?,
            invalidate: hooks
                .invalidate
                .then(|| shaped(invalidate_hook::GuestIndices::new(&pre)))
                .transpose()?,
            rate: hooks.rate.then(|| shaped(rate_hook::GuestIndices::new(&pre))).transpose()?,
            plan: hooks.plan.then(|| shaped(plan_hook::GuestIndices::new(&pre))).transpose()?,
        };
        let shared =
            Arc::new(Shared { name: spec.name.clone(), sink: spec.sink, state: spec.state, may_purge });
        let started = Instant::now();
        let first = First {
            host: &host,
            pre: &pre,
            exports: &exports,
            shared: &shared,
            config: &spec.config,
            limits: &spec.limits,
        };
        let (mut live, declared) = first
            .make(spec.limits.configure, spec.now)
            .map_err(|source| LoadError::Call { hook: "configure", source })?;
        let took = started.elapsed();
        let manifest = Manifest::check(&declared)?;
        let mut missing: Vec<Grant> =
            manifest.inputs.iter().filter_map(|input| spec.grants.missing(input)).collect();
        let plan =
            first.plan(&mut live, spec.now).map_err(|source| LoadError::Call { hook: "plan", source })?;
        missing.extend(plan.iter().flat_map(|plan| plan.missing(&spec.grants)));
        missing.dedup();
        if !missing.is_empty() {
            return Err(LoadError::NotGranted(missing));
        }
        if plan.is_none() && hooks == (Hooks { plan: true, ..Hooks::default() }) {
            return Err(LoadError::NoHooks);
        }
        let remembers = manifest.pure && !inspection.imports_interface("state");
        let workers = spec.workers.max(1);
        let share = |bound: usize| if remembers { bound.div_ceil(workers) } else { 0 };
        let slots = (0..workers).map(|_| {
            Mutex::new(Slot {
                live: None,
                gathered: Gathered::default(),
                requests: Memo::new(share(spec.memo.entries), share(spec.memo.bytes)),
                charges: Memo::new(share(spec.memo.entries / 4), share(spec.memo.bytes / 4)),
                stats: Stats::default(),
            })
        });
        let slots: Box<[_]> = slots.collect();
        if let Some(slot) = slots.first() {
            let mut slot = slot.lock();
            slot.live = Some(Box::new(live));
            slot.stats.instances = 1;
        }
        Ok(Self {
            name: spec.name,
            manifest,
            declared,
            plan,
            remembers,
            // A request waits for it: as long as it took before, with room, and never longer than at the load.
            configure_again: (took * 4).max(spec.limits.time).min(spec.limits.configure),
            limits: spec.limits,
            config: spec.config,
            exports,
            pre,
            shared,
            breaker: Breaker::default(),
            slots,
            host,
        })
    }

    /// The operator's name for it.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn component(&self) -> &Component {
        self.pre.component()
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it may take.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How it makes keys without being called.
    #[must_use]
    pub fn plan(&self) -> Option<&KeyPlan> {
        self.plan.as_ref()
    }

    /// Its hooks. Where it has a plan, nobody calls its request hook.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        Hooks {
            plan: self.plan.is_some(),
            request: self.exports.request.is_some() && self.plan.is_none(),
            response: self.exports.response.is_some(),
            invalidate: self.exports.invalidate.is_some(),
            rate: self.exports.rate.is_some(),
        }
    }

    /// Whether what it says is remembered.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.remembers
    }

    /// Whether it is asked at all, or has failed too often.
    #[must_use]
    pub fn breaker(&self, now: Now) -> BreakerState {
        self.breaker.state(now.mono)
    }

    /// What was counted, over all workers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for slot in &self.slots {
            let slot = slot.lock();
            let Stats { hooks, memo_hits, memo_misses, memo_mismatches, instances, .. } = slot.stats;
            for (sum, one) in sum.hooks.iter_mut().zip(hooks) {
                sum.calls += one.calls;
                sum.nanos += one.nanos;
                for (sum, one) in sum.failures.iter_mut().zip(one.failures) {
                    *sum += one;
                }
            }
            sum.memo_hits += memo_hits;
            sum.memo_misses += memo_misses;
            sum.memo_mismatches += memo_mismatches;
            sum.memo_entries += (slot.requests.len() + slot.charges.len()) as u64;
            sum.memo_bytes += slot.requests.bytes() + slot.charges.bytes();
            sum.instances += instances;
            sum.memory_bytes += slot.live.as_ref().map_or(0, |live| live.store.data().limiter.memory as u64);
        }
        sum
    }

    /// Asks the request hook. `worker`: which thread asks.
    pub fn on_request(
        &self,
        worker: usize,
        request: &Request<'_>,
    ) -> Result<Arc<RequestDecision>, CallError> {
        let mut slot = self.slot(worker).lock();
        let slot = &mut *slot;
        let now = request.now;
        slot.gathered.read(&self.manifest.inputs, request);
        let check = match slot.requests.find(slot.gathered.bytes(), now.mono) {
            Remembered::Yes(decision) => {
                slot.stats.memo_hits += 1;
                return Ok(decision);
            }
            Remembered::Check(decision) => Some(decision),
            Remembered::No => None,
        };
        slot.stats.memo_misses += u64::from(self.remembers && check.is_none());
        let said = self.call(slot, Hook::Request, request, |live, gathered| {
            let hook = live.bound.request.as_ref().ok_or(CallError::NoHook)?;
            let said = gathered.with_values(&self.manifest.inputs, |inputs| {
                hook.call_on_request(&mut live.store, wit::Request { inputs })
            });
            Ok(said.map(|said| {
                said.map(|said| RequestDecision::check(said, &self.manifest.inputs, gathered.kinds()))
            }))
        });
        let said = match slot.settle(said, check, RequestDecision::says_the_same)? {
            Settled::Before(before) => return Ok(before),
            Settled::Now(said) => said,
        };
        let said = Arc::new(said);
        let size = said.size();
        slot.requests.keep(slot.gathered.bytes(), said.clone(), size, said.remember, now.mono);
        Ok(said)
    }

    /// Asks the rate hook.
    pub fn charge(&self, worker: usize, request: &Request<'_>) -> Result<Arc<Vec<RateCharge>>, CallError> {
        let mut slot = self.slot(worker).lock();
        let slot = &mut *slot;
        let now = request.now;
        slot.gathered.read(&self.manifest.inputs, request);
        let check = match slot.charges.find(slot.gathered.bytes(), now.mono) {
            Remembered::Yes(charges) => {
                slot.stats.memo_hits += 1;
                return Ok(charges);
            }
            Remembered::Check(charges) => Some(charges),
            Remembered::No => None,
        };
        slot.stats.memo_misses += u64::from(self.remembers && check.is_none());
        let said = self.call(slot, Hook::Rate, request, |live, gathered| {
            let hook = live.bound.rate.as_ref().ok_or(CallError::NoHook)?;
            let said = gathered.with_values(&self.manifest.inputs, |inputs| {
                hook.call_charge(&mut live.store, wit::Request { inputs })
            });
            Ok(said.map(|said| said.map(|said| RateCharge::check_all(said, &self.manifest.buckets))))
        });
        let said = match slot.settle(said, check, Vec::eq)? {
            Settled::Before(before) => return Ok(before),
            Settled::Now(said) => said,
        };
        let said = Arc::new(said);
        let size = RateCharge::size(&said);
        slot.charges.keep(slot.gathered.bytes(), said.clone(), size, None, now.mono);
        Ok(said)
    }

    /// Asks the response hook.
    pub fn on_response(
        &self,
        worker: usize,
        request: &Request<'_>,
        carry: Option<&str>,
        response: &Response<'_>,
    ) -> Result<StoreDecision, CallError> {
        let mut slot = self.slot(worker).lock();
        let slot = &mut *slot;
        slot.gathered.read(&self.manifest.inputs, request);
        self.call(slot, Hook::Response, request, |live, gathered| {
            let hook = live.bound.response.as_ref().ok_or(CallError::NoHook)?;
            let fields = self.response_fields(response);
            let fields: Vec<Option<&str>> = fields.iter().map(Option::as_deref).collect();
            let head = lower_response(response, &fields);
            let said = gathered.with_values(&self.manifest.inputs, |inputs| {
                hook.call_on_response(&mut live.store, wit::Request { inputs }, carry, head)
            });
            Ok(said.map(|said| said.map(StoreDecision::check)))
        })
    }

    /// Asks the invalidate hook.
    pub fn on_write(
        &self,
        worker: usize,
        request: &Request<'_>,
        carry: Option<&str>,
        response: &Response<'_>,
    ) -> Result<Vec<Purge>, CallError> {
        let mut slot = self.slot(worker).lock();
        let slot = &mut *slot;
        slot.gathered.read(&self.manifest.inputs, request);
        self.call(slot, Hook::Invalidate, request, |live, gathered| {
            let hook = live.bound.invalidate.as_ref().ok_or(CallError::NoHook)?;
            let fields = self.response_fields(response);
            let fields: Vec<Option<&str>> = fields.iter().map(Option::as_deref).collect();
            let head = lower_response(response, &fields);
            let said = gathered.with_values(&self.manifest.inputs, |inputs| {
                hook.call_on_write(&mut live.store, wit::Request { inputs }, carry, head)
            });
            Ok(said.map(|said| said.map(Purge::check_all)))
        })
    }

    fn slot(&self, worker: usize) -> &Mutex<Slot> {
        &self.slots[worker % self.slots.len()]
    }

    fn response_fields<'r>(&self, response: &Response<'r>) -> Vec<Option<Cow<'r, str>>> {
        let one =
            |name: &HeaderName| {
                let mut lines = response.headers.get_all(name).iter();
                let first = isomorphic(lines.next()?.as_bytes());
                Some(lines.fold(first, |joined, line| {
                    Cow::Owned(format!("{joined}, {}", isomorphic(line.as_bytes())))
                }))
            };
        self.manifest.response_headers.iter().map(one).collect()
    }

    /// One call: an instance, a deadline, and what came of it.
    fn call<T>(
        &self,
        slot: &mut Slot,
        hook: Hook,
        request: &Request<'_>,
        ask: impl FnOnce(&mut Live, &Gathered) -> Result<Said<Result<T, CallError>>, CallError>,
    ) -> Result<T, CallError> {
        let now = request.now;
        let asked = self.ask(slot, hook, request, ask);
        let stats = &mut slot.stats.hooks[hook as usize];
        match &asked {
            Ok(_) => self.breaker.worked(),
            Err(error) => {
                stats.failures[error.index()] += 1;
                let of_the_plugin = !matches!(
                    error,
                    CallError::Open | CallError::NoHook | CallError::NoTicker | CallError::Allowance
                );
                if of_the_plugin && self.breaker.failed(now.mono) {
                    let sink = &self.shared.sink;
                    sink.log(&self.name, Level::Warn, "it fails too often, and is not asked for a while");
                }
            }
        }
        asked
    }

    fn ask<T>(
        &self,
        slot: &mut Slot,
        hook: Hook,
        request: &Request<'_>,
        ask: impl FnOnce(&mut Live, &Gathered) -> Result<Said<Result<T, CallError>>, CallError>,
    ) -> Result<T, CallError> {
        let now = request.now;
        if !self.breaker.admits(now.mono) {
            return Err(CallError::Open);
        }
        let left = request.allowance.map_or(Duration::MAX, Allowance::left);
        if left < TICK {
            return Err(CallError::Allowance);
        }
        let _running = self.host.ticker.run().ok_or(CallError::NoTicker)?;
        let mut spent = Spent { started: Instant::now(), took: None, of: request.allowance };
        let mut live = match slot.live.take() {
            Some(live) => live,
            None => Box::new(self.another(slot, now, left)?),
        };
        let limit = self.limits.time.min(left);
        live.store.set_epoch_deadline(ticks(limit));
        live.store.data_mut().begin(now);
        live.calls += 1;
        let said = ask(&mut live, &slot.gathered)?;
        let stats = &mut slot.stats.hooks[hook as usize];
        stats.calls += 1;
        stats.nanos += u64::try_from(spent.end().as_nanos()).unwrap_or(u64::MAX);
        match said {
            Ok(said) => {
                let leaks = live.store.data().limiter.memory > live.memory_soft_max;
                // One that was denied memory may be in any state.
                let denied = live.store.data().limiter.denied;
                if live.calls < self.limits.calls && !leaks && !denied {
                    slot.live = Some(live);
                }
                said.map_err(|message| CallError::Refused(cut(message)))?
            }
            // It trapped, so it is dropped: nobody knows what it left undone.
            Err(error) => Err(failed(&error, live.store.data_mut(), limit)),
        }
    }

    fn another(&self, slot: &mut Slot, now: Now, left: Duration) -> Result<Live, CallError> {
        let first = First {
            host: &self.host,
            pre: &self.pre,
            exports: &self.exports,
            shared: &self.shared,
            config: &self.config,
            limits: &self.limits,
        };
        let started = Instant::now();
        let made = first.make(self.configure_again.min(left), now);
        let stats = &mut slot.stats.hooks[Hook::Configure as usize];
        stats.calls += 1;
        stats.nanos += u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (live, declared) = made?;
        slot.stats.instances += 1;
        if !is_same(&declared, &self.declared) {
            return Err(CallError::Invalid(
                "another manifest than before, for the same configuration".to_owned(),
            ));
        }
        Ok(live)
    }
}

/// What a call takes, counted however it ends.
struct Spent<'r> {
    started: Instant,
    took: Option<Duration>,
    of: Option<&'r Allowance>,
}

impl Spent<'_> {
    fn end(&mut self) -> Duration {
        *self.took.get_or_insert_with(|| self.started.elapsed())
    }
}

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        let took = self.end();
        if let Some(allowance) = self.of {
            allowance.spend(took);
        }
    }
}

fn shaped<T>(found: wasmtime::Result<T>) -> Result<T, LoadError> {
    found.map_err(|error| LoadError::Shape { spoken: SPOKEN, detail: format!("{error:#}") })
}

/// What an instance is made of.
struct First<'p> {
    host: &'p Host,
    pre: &'p InstancePre<Guest>,
    exports: &'p Exports,
    shared: &'p Arc<Shared>,
    config: &'p str,
    limits: &'p Limits,
}

impl First<'_> {
    fn make(&self, limit: Duration, now: Now) -> Result<(Live, wit::Manifest), CallError> {
        let _running = self.host.ticker.run().ok_or(CallError::NoTicker)?;
        let mut store =
            Store::new(&self.host.engine, Guest::new(self.shared.clone(), self.limits.memory, now));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(HANDED_OVER_MAX);
        store.set_epoch_deadline(ticks(limit));
        store.data_mut().begin(now);
        let made = self.instantiate(&mut store);
        let (bound, said) = made.map_err(|error| failed(&error, store.data_mut(), limit))?;
        let declared = said.map_err(|message| CallError::Refused(cut(message)))?;
        let used = store.data().limiter.memory;
        let memory_soft_max = used + self.limits.memory.saturating_sub(used) / 4 * 3;
        let live = Live { store, bound, calls: 0, memory_soft_max };
        Ok((live, declared))
    }

    fn instantiate(
        &self,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<(Bound, Result<wit::Manifest, String>)> {
        let instance = self.pre.instantiate(&mut *store)?;
        let Exports { lifecycle, request, response, invalidate, rate, plan } = self.exports;
        let bound = Bound {
            request: request.as_ref().map(|hook| hook.load(&mut *store, &instance)).transpose()?,
            response: response.as_ref().map(|hook| hook.load(&mut *store, &instance)).transpose()?,
            invalidate: invalidate.as_ref().map(|hook| hook.load(&mut *store, &instance)).transpose()?,
            rate: rate.as_ref().map(|hook| hook.load(&mut *store, &instance)).transpose()?,
            plan: plan.as_ref().map(|hook| hook.load(&mut *store, &instance)).transpose()?,
        };
        let said = lifecycle.load(&mut *store, &instance)?.call_configure(&mut *store, self.config)?;
        Ok((bound, said))
    }

    fn plan(&self, live: &mut Live, now: Now) -> Result<Option<KeyPlan>, CallError> {
        let Some(hook) = &live.bound.plan else { return Ok(None) };
        let _running = self.host.ticker.run().ok_or(CallError::NoTicker)?;
        let limit = self.limits.configure;
        live.store.set_epoch_deadline(ticks(limit));
        live.store.data_mut().begin(now);
        let said = hook.call_plan(&mut live.store);
        let said = said.map_err(|error| failed(&error, live.store.data_mut(), limit))?;
        let said = said.map_err(|message| CallError::Refused(cut(message)))?;
        said.map(|said| KeyPlan::check(plan(said)))
            .transpose()
            .map_err(|error| CallError::Invalid(error.to_string()))
    }
}

/// A plan in the words of whoever checks it.
fn plan(said: plan_hook::KeyPlan) -> SaidPlan {
    let plan_hook::KeyPlan { lower_path, query, headers, cookies, session } = said;
    let plan_hook::QueryPlan { keep, drop, sort } = query;
    SaidPlan { lower_path, keep, drop, sort, headers, cookies, session }
}

fn ticks(limit: Duration) -> u64 {
    // The first tick may come at once.
    u64::try_from(limit.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX / 2).saturating_add(1)
}

/// What an error of the engine means.
fn failed(error: &wasmtime::Error, guest: &mut Guest, limit: Duration) -> CallError {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return CallError::Deadline { limit };
    }
    if guest.limiter.denied {
        return CallError::Memory { limit: guest.limiter.memory_max };
    }
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let cause = error.root_cause().to_string();
    if cause.contains("fuel allocated for hostcalls") {
        return CallError::TooMuch { limit: HANDED_OVER_MAX };
    }
    match (trap, backtrace) {
        // What it handed over could not be read.
        (None, None) => CallError::Invalid(cut(cause)),
        (trap, backtrace) => {
            let said = guest.last_error.take();
            let message = said.unwrap_or_else(|| trap.map_or(cause, ToString::to_string));
            let lines = backtrace.map(ToString::to_string).unwrap_or_default();
            let backtrace = lines.lines().skip(1).map(|line| line.trim().to_owned()).take(16).collect();
            CallError::Trap { message: cut(message), backtrace }
        }
    }
}

/// A message of a plugin is a message, not a document.
fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(1024));
    message
}

fn lower_response<'r>(response: &Response<'_>, fields: &'r [Option<&'r str>]) -> wit::Response<'r> {
    wit::Response { status: response.status, headers: fields, content_length: response.content_length }
}

fn is_same(one: &wit::Manifest, other: &wit::Manifest) -> bool {
    // Generated types have no equality; what they show of themselves is all there is to them.
    format!("{one:?}") == format!("{other:?}")
}

impl Manifest {
    fn check(declared: &wit::Manifest) -> Result<Self, LoadError> {
        let wrong = |what: String| LoadError::Manifest(what);
        let names = [declared.inputs.len(), declared.response_headers.len(), declared.buckets.len()];
        if names.into_iter().any(|count| count > NAMES_MAX) {
            return Err(wrong(format!("a list in it has more than {NAMES_MAX} members")));
        }
        let header = |name: &String| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| LoadError::Manifest(format!("{name:?} is no name of a field")))
        };
        let inputs = declared.inputs.iter().map(|input| {
            Ok(match input {
                wit::Input::Method => Input::Method,
                wit::Input::Scheme => Input::Scheme,
                wit::Input::Authority => Input::Authority,
                wit::Input::Path => Input::Path,
                wit::Input::Query => Input::Query,
                wit::Input::Route => Input::Route,
                wit::Input::Header(name) => Input::Header(header(name)?),
                wit::Input::Cookie(name) => Input::Cookie(name.clone()),
                wit::Input::CookieNames(filter) => {
                    let globs = |names: &[String]| names.iter().map(String::as_str).collect();
                    Input::CookieNames(NameFilter {
                        only: globs(&filter.only),
                        except: globs(&filter.except),
                    })
                }
                wit::Input::QueryParam(name) => Input::QueryParam(name.clone()),
                wit::Input::Session(name) => Input::Session(name.clone()),
                wit::Input::ClientIp => Input::ClientIp,
                wit::Input::TlsSni => Input::TlsSni,
                wit::Input::BodyJson(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                    Input::BodyJson(pointer.clone())
                }
                wit::Input::BodyJson(pointer) => {
                    return Err(wrong(format!("{pointer:?} is no JSON Pointer")));
                }
                wit::Input::BodyDigest => Input::BodyDigest,
            })
        });
        Ok(Self {
            name: cut(declared.name.clone()),
            version: cut(declared.version.clone()),
            inputs: inputs.collect::<Result<_, _>>()?,
            response_headers: declared.response_headers.iter().map(header).collect::<Result<_, _>>()?,
            pure: declared.pure,
            buckets: declared.buckets.clone(),
        })
    }
}
