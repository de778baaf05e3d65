//! A named cache: what to do with a request, given what is stored, and how something comes to be stored.
//!
//! The decisions themselves are `cache_semantics`'; here they meet the memory tier, the purges and the fills. Nothing here waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_semantics::Now;
use cache_semantics::cache_status::{CacheStatus, Fwd, Reason};
use cache_semantics::negotiate::{self, Coding};
use cache_semantics::policy::Policy;
use cache_semantics::range::{Part, RangeSet};
use cache_semantics::reuse::{self, Disposition};
use cache_semantics::storable::{RequestFacts, Terms};
use cache_semantics::validation::Validators;
use cache_semantics::vary::{self, Fields};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

use crate::collapse::Fills;
use crate::compress::{self, Compressor};
use crate::config::model;
use crate::content::{Content, FillBudget};
use crate::durable::bodies::Bodies;
use crate::error::ProxyError;
use crate::http1::spare;
use crate::purge::epochs::{self, Epoch};
use crate::purge::{Labels, Purges, Softened, Stamp, Verdict};
use crate::searches::Searches;
use crate::store::memory::{Keep, Memory};
use crate::store::shared::SharedTier;
use crate::store::wire;
use crate::store::{self, Carried, Encoded, Encodings, Origins, StoredResponse};

/// How long an uncacheable answer is remembered: requests for it do not wait for one another meanwhile.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(120);
/// Uncacheable answers remembered; 24 bytes each.
const UNCACHEABLE_MAX: usize = 65_536;

/// A cache that routes use by name.
#[derive(Debug)]
pub struct NamedCache {
    spec: model::Cache,
    memory: Arc<Memory>,
    /// Fills under way, for whoever finds nothing.
    pub fills: Arc<Fills<Outcome>>,
    /// Memory that these fills may keep.
    pub budget: Arc<FillBudget>,
    /// Purges, of all caches.
    pub purges: Arc<Purges>,
    searches: Arc<Searches>,
    uncacheable: Arc<quick_cache::sync::Cache<u64, Instant>>,
    uncacheable_of: ahash::RandomState,
    /// Encodings under way, so that each is made once.
    encoding: Arc<EncodingsUnderWay>,
    variants_max: usize,
    variants_dropped: Arc<AtomicU64>,
    /// The tier behind memory, shared with other proxies.
    pub shared: Option<Arc<SharedTier>>,
    /// The epoch it is in, and since when.
    epoch: Option<Arc<Epoch>>,
    /// Hits that were served although nobody could tell whether others had purged them.
    unverified_hits: Arc<AtomicU64>,
}

/// The keys of stored responses that are being encoded, and how.
type EncodingsUnderWay = Mutex<Vec<(Box<[u8]>, Coding)>>;

/// What a fill tells those who wait for it.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is arriving, and will be stored.
    Arriving(Arc<Arriving>),
    /// It is stored: validated, or complete.
    Stored(Arc<StoredResponse>),
    /// It may not be shared. Each fetches its own, unless something stored may stand in for an answer of this status.
    Uncacheable(StatusCode),
    /// The origin failed; the same error for all.
    Failed(ProxyError),
}

/// A response whose content is arriving.
#[derive(Debug)]
pub struct Arriving {
    /// Its status.
    pub status: StatusCode,
    /// The fields that will be stored, `Content-Length` left out.
    pub headers: HeaderMap,
    /// The terms on which it may be used.
    pub terms: Terms,
    /// What it varies on, how purges know it, and where its fetch began.
    pub origins: Origins,
    /// Its content so far.
    pub content: Arc<Content>,
}

/// A request, as the cache looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'r> {
    /// GET or HEAD.
    pub method: &'r Method,
    /// The fields as they came.
    pub headers: &'r HeaderMap,
    /// What they say about caching.
    pub facts: &'r RequestFacts,
    /// The fields as the origin would see them.
    pub fields: Fields<'r>,
    /// Nothing is served of which nobody can tell whether others have purged it.
    pub strict: bool,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Decision {
    /// Answer with what is stored.
    Hit(Hit),
    /// Ask the origin whether this still holds.
    Validate {
        /// What is stored.
        stored: Arc<StoredResponse>,
        /// What `Cache-Status` says.
        status: CacheStatus,
    },
    /// Ask the origin.
    Miss {
        /// What `Cache-Status` says.
        status: CacheStatus,
        /// Other variants of the same URL, whose validators the origin may recognise; or a part of what is wanted.
        others: Vec<Arc<StoredResponse>>,
    },
}

/// A stored response that answers.
#[derive(Debug)]
pub struct Hit {
    /// The response.
    pub stored: Arc<StoredResponse>,
    /// Its age now.
    pub age: Duration,
    /// What `Cache-Status` says.
    pub status: CacheStatus,
    /// Fetch it anew behind the answer.
    pub refresh: bool,
}

impl Arriving {
    /// Whether nothing has purged it since its fetch began. Who comes after a purge must not be given what was fetched before it.
    pub fn is_valid(&self, cache: &NamedCache, key: &[u8]) -> bool {
        let Origins { stamp, labels, .. } = &self.origins;
        matches!(cache.purges.check(stamp.number, || cache.spec.known(key, labels)), Verdict::Valid(_))
    }
}

impl NamedCache {
    /// An empty cache. Its epoch begins now, unless it is known to have begun.
    pub fn new(spec: model::Cache, limits: &model::Limits, purges: Arc<Purges>, now: Now) -> Self {
        let epoch = epoch_of(&spec, &purges, now);
        Self {
            memory: Arc::new(Memory::new(spec.max_memory, spec.max_entries, spec.max_body)),
            fills: Arc::new(Fills::new(limits.waiters)),
            budget: Arc::new(FillBudget::new(fill_budget(&spec))),
            purges,
            searches: Arc::default(),
            uncacheable: Arc::new(quick_cache::sync::Cache::new(UNCACHEABLE_MAX)),
            uncacheable_of: ahash::RandomState::default(),
            encoding: Arc::default(),
            variants_max: limits.variants,
            variants_dropped: Arc::default(),
            shared: None,
            epoch,
            unverified_hits: Arc::default(),
            spec,
        }
    }

    /// What the configuration says.
    pub fn spec(&self) -> &model::Cache {
        &self.spec
    }

    /// The same cache, with all that it holds, under another description. `None`: what it holds cannot be kept under it. Another epoch begins now.
    pub fn described_as(&self, spec: &model::Cache, limits: &model::Limits, now: Now) -> Option<Self> {
        let keeps = self.spec.enabled == spec.enabled
            && self.spec.version == spec.version
            && self.memory.resize(spec.max_memory, spec.max_entries, spec.max_body);
        keeps.then(|| {
            self.budget.set_max(fill_budget(spec));
            Self {
                spec: spec.clone(),
                memory: self.memory.clone(),
                fills: self.fills.clone(),
                budget: self.budget.clone(),
                purges: self.purges.clone(),
                searches: self.searches.clone(),
                uncacheable: self.uncacheable.clone(),
                uncacheable_of: self.uncacheable_of.clone(),
                encoding: self.encoding.clone(),
                variants_max: limits.variants,
                variants_dropped: self.variants_dropped.clone(),
                shared: None,
                epoch: epoch_of(spec, &self.purges, now),
                unverified_hits: self.unverified_hits.clone(),
            }
        })
    }

    /// Hits so far that others may have purged.
    pub fn unverified_hits(&self) -> u64 {
        self.unverified_hits.load(Ordering::Relaxed)
    }

    /// Whether something belongs to another epoch than ours.
    fn is_of_other_epoch(&self, labels: &Labels) -> bool {
        self.spec.epoch.is_some() && labels.epoch() != self.spec.epoch.as_deref()
    }

    /// Whether something belongs to another epoch, and the time in which that is still served is over.
    pub fn is_outdated(&self, labels: &Labels, now: Now) -> bool {
        let since = || self.epoch.as_ref().map_or(Duration::ZERO, |epoch| epoch.age(now.mono));
        self.is_of_other_epoch(labels) && since() >= self.spec.epoch_grace
    }

    /// The tier in memory, for the sweeper and for what is reported.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Decides what to do with a request of this key (RFC 9111 §4). Fresh hits cost no allocation.
    pub fn decide(&self, key: &[u8], wanted: &Wanted<'_>, policy: &Policy, now: Now) -> Decision {
        if let Some(slot) = self.memory.lookup(key) {
            return self.decide_among(key, slot.variants(), wanted, policy, now);
        }
        // Under another query that the origin has called equivalent?
        if let Some(decision) = self.searches.find(key, |other| {
            let slot = self.memory.lookup(other)?;
            match self.decide_among(other, slot.variants(), wanted, policy, now) {
                Decision::Hit(hit) => Some(Decision::Hit(hit)),
                Decision::Validate { .. } | Decision::Miss { .. } => None,
            }
        }) {
            return decision;
        }
        Decision::Miss { status: CacheStatus::forwarded(Fwd::UriMiss), others: Vec::new() }
    }

    fn decide_among(
        &self,
        key: &[u8],
        variants: &[Arc<StoredResponse>],
        wanted: &Wanted<'_>,
        policy: &Policy,
        now: Now,
    ) -> Decision {
        let purged = Decision::Miss {
            status: CacheStatus::forwarded(Fwd::UriMiss).because(Reason::Purged),
            others: Vec::new(),
        };
        let is_gone =
            |stored: &StoredResponse| self.is_purged(key, stored) || self.is_outdated(&stored.labels, now);
        let selected = match variants {
            [only] if is_gone(only) => return purged,
            [only] => only.variant.matches(wanted.fields).then_some(only),
            several => {
                let valid = || several.iter().filter(|stored| !is_gone(stored));
                if valid().next().is_none() {
                    return purged;
                }
                vary::select(valid().map(|stored| &stored.variant), wanted.fields)
                    .and_then(|position| valid().nth(position))
            }
        };
        let Some(stored) = selected else {
            let others = variants.iter().filter(|stored| !is_gone(stored));
            // A 304 would say that the content is the same for both, not that fields made for one person are meant for another.
            let others = others.filter(|stored| stored.part.is_none() && !stored.variant.is_personal());
            let others = others.cloned().collect();
            return Decision::Miss { status: CacheStatus::forwarded(Fwd::VaryMiss), others };
        };
        if let Some(part) = &stored.part {
            let holds = RangeSet::of(wanted.method, wanted.headers).and_then(|set| part.satisfy(&set));
            let version_fits = || {
                let validators = Validators::of(&stored.head.to_map(0));
                cache_semantics::range::if_range_holds(wanted.headers, &validators)
            };
            if holds.is_none() || !version_fits() {
                let status = CacheStatus::forwarded(Fwd::Partial);
                return Decision::Miss { status, others: vec![stored.clone()] };
            }
        }
        // Nearly always nothing new was purged, and this costs one comparison.
        let softened;
        let mut because = None;
        let stored = match stored.check(&self.purges, &self.spec, key) {
            Verdict::Softened(how) => {
                softened = self.soften(key, stored, how, now);
                because = Some(Reason::SoftPurged);
                &softened
            }
            Verdict::Valid(_) | Verdict::Purged => stored,
        };
        let of_our_epoch;
        let stored = if self.is_of_other_epoch(&stored.labels) {
            of_our_epoch = self.take_into_epoch(key, stored, now);
            &of_our_epoch
        } else {
            stored
        };
        if self.purges.is_shared() && !self.purges.is_verified(Instant::now()) {
            if wanted.strict {
                let status = CacheStatus::forwarded(Fwd::Stale).because(Reason::Unverified);
                return Decision::Validate { stored: stored.clone(), status };
            }
            self.unverified_hits.fetch_add(1, Ordering::Relaxed);
        }
        let hit = |age, ttl: i64, reason: Option<Reason>, refresh| {
            let mut status = CacheStatus::hit(ttl);
            status.detail = reason;
            Decision::Hit(Hit { stored: stored.clone(), age, status, refresh })
        };
        match reuse::decide(&stored.terms, wanted.facts, policy, now) {
            Disposition::Fresh { age, ttl } => hit(age, seconds(ttl), None, false),
            Disposition::StaleWhileRevalidate { age, stale_for } => {
                hit(age, -seconds(stale_for), Some(Reason::StaleWhileRevalidate), true)
            }
            Disposition::StaleAllowed { age, stale_for } => {
                hit(age, -seconds(stale_for), Some(Reason::MaxStale), false)
            }
            Disposition::MustValidate { why } => {
                let asked = matches!(
                    why,
                    Some(Reason::RequestNoCache | Reason::RequestMaxAge | Reason::RequestMinFresh)
                );
                let mut status = CacheStatus::forwarded(if asked { Fwd::Request } else { Fwd::Stale });
                status.detail = why.or(because);
                Decision::Validate { stored: stored.clone(), status }
            }
            Disposition::NotAllowed { why } => {
                Decision::Miss { status: CacheStatus::forwarded(Fwd::Miss).because(why), others: Vec::new() }
            }
        }
    }

    fn is_purged(&self, key: &[u8], stored: &StoredResponse) -> bool {
        stored.check(&self.purges, &self.spec, key) == Verdict::Purged
    }

    /// Puts a response on the terms on which a soft purge leaves it.
    fn soften(
        &self,
        key: &[u8],
        stored: &Arc<StoredResponse>,
        how: Softened,
        now: Now,
    ) -> Arc<StoredResponse> {
        self.replace(key, stored, softened(stored, how, now))
    }

    /// What an earlier epoch has left is stale since ours began. What comes of it from then on is ours.
    fn take_into_epoch(&self, key: &[u8], stored: &Arc<StoredResponse>, now: Now) -> Arc<StoredResponse> {
        let since_ms = self.epoch.as_ref().map_or(0, |epoch| epochs::began_ms(epoch, now));
        let terms = stored.terms.softened(since_ms, Some(self.spec.epoch_grace), now);
        let labels = Labels::clone(&stored.labels).of_epoch(self.spec.epoch.clone());
        self.replace(key, stored, stored.with_labels(terms, Arc::new(labels)))
    }

    /// Stores a response, in place of those that no request could prefer to it.
    pub fn store(&self, key: &[u8], response: StoredResponse) -> Arc<StoredResponse> {
        let response = Arc::new(response);
        if !self.spec.enabled || self.is_purged(key, &response) {
            return response;
        }
        self.forget_uncacheable(key);
        self.memory.update(key, |present| {
            let kept = present
                .iter()
                .filter(|old| !self.is_purged(key, old) && !old.variant.is_replaced_by(&response.variant));
            self.bounded(std::iter::once(response.clone()).chain(kept.cloned()))
        });
        self.searches.note(key, &response);
        response
    }

    /// As many variants of one key as are allowed, the newest first.
    fn bounded(&self, mut variants: impl Iterator<Item = Arc<StoredResponse>>) -> Vec<Arc<StoredResponse>> {
        let kept = variants.by_ref().take(self.variants_max).collect();
        let dropped = variants.count();
        if dropped > 0 {
            self.variants_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        }
        kept
    }

    /// How many variants of one key are kept.
    pub fn variants_max(&self) -> usize {
        self.variants_max
    }

    /// How many variants were dropped because their key had too many.
    pub fn variants_dropped(&self) -> u64 {
        self.variants_dropped.load(Ordering::Relaxed)
    }

    /// Stores a response, and has it written to the tier behind memory, behind the answer.
    pub fn store_and_share(self: &Arc<Self>, key: &[u8], response: StoredResponse) -> Arc<StoredResponse> {
        let stored = self.store(key, response);
        if let Some(shared) = &self.shared {
            shared.write_behind(self, key, &stored);
        }
        if let Some(bodies) = self.bodies() {
            bodies.write_behind(self, key, &stored);
        }
        stored
    }

    /// The tier on disk.
    pub fn bodies(&self) -> Option<&Arc<Bodies>> {
        self.purges.bodies()
    }

    /// Takes over what another tier holds, on terms and with a stamp of its own. False: what is here is at least as new.
    pub fn adopt(&self, key: &[u8], response: StoredResponse) -> bool {
        let response = Arc::new(response);
        let mut taken = false;
        self.memory.update(key, |present| {
            let is_same = |old: &&Arc<StoredResponse>| {
                !self.is_purged(key, old) && old.variant.is_replaced_by(&response.variant)
            };
            let mine = present.iter().find(is_same).map(|old| old.terms.received_wall());
            taken = mine.is_none_or(|mine| mine < response.terms.received_wall());
            if !taken {
                return present.to_vec();
            }
            let kept = present
                .iter()
                .filter(|old| !self.is_purged(key, old) && !old.variant.is_replaced_by(&response.variant));
            self.bounded(std::iter::once(response.clone()).chain(kept.cloned()))
        });
        if taken {
            self.searches.note(key, &response);
        }
        taken
    }

    /// What is stored under the key and may be shared with other proxies: whole, valid, and with a body of at most so many bytes. `carried`: what it is where
    /// memory has evicted it.
    pub fn shareable(
        &self,
        key: &[u8],
        carried: Option<&Carried>,
        body_max: u64,
    ) -> Vec<Arc<StoredResponse>> {
        let slot = self.memory.lookup(key);
        let variants = match (&slot, carried) {
            (Some(slot), _) => slot.variants(),
            (None, Some(carried)) => std::slice::from_ref(carried.stored()),
            (None, None) => &[],
        };
        let variants = variants.iter();
        let fits = |stored: &&Arc<StoredResponse>| {
            let is_ours = !self.is_purged(key, stored) && !self.is_of_other_epoch(&stored.labels);
            stored.part.is_none() && stored.content_len() <= body_max && is_ours
        };
        variants.filter(fits).cloned().collect()
    }

    /// Puts `new` where `old` is, if it is there still.
    pub fn replace(&self, key: &[u8], old: &Arc<StoredResponse>, new: StoredResponse) -> Arc<StoredResponse> {
        let new = Arc::new(new);
        self.memory.update(key, |present| {
            present
                .iter()
                .map(|response| if Arc::ptr_eq(response, old) { new.clone() } else { response.clone() })
                .collect()
        });
        new
    }

    /// Removes `old`, if it is there still.
    pub fn remove(&self, key: &[u8], old: &Arc<StoredResponse>) {
        self.memory.update(key, |present| {
            present.iter().filter(|response| !Arc::ptr_eq(response, old)).cloned().collect()
        });
    }

    /// Builds what is stored of a response that another tier held. `number`: up to which purge it is known to be valid; `softened`: what a purge made of it.
    pub fn revive(
        &self,
        read: wire::Read,
        beside: Vec<Bytes>,
        (number, softened): (u64, Option<Softened>),
        now: Now,
    ) -> Result<StoredResponse, wire::Corrupt> {
        let wire::Read { status, mut headers, part, terms, variant, labels, position, compressible, content } =
            read;
        let terms = match softened {
            Some(how) => terms.softened(how.since_ms, how.grace, now),
            None => terms,
        };
        let origins = Origins { variant, labels: Arc::new(labels), stamp: Stamp { position, number } };
        let len = usize::try_from(content.raw_length()).map_err(|_| wire::Corrupt::TooLarge)?;
        if len > store::PACKED_MAX {
            let pieces = content.unpack(beside)?;
            return Ok(self.build(status, headers, &pieces, part, terms, origins, compressible));
        }
        let encoded = encodings(status, &mut headers, len, part.is_none() && compressible);
        let head = store::StoredHead::pack_with(&headers, len, |block| content.unpack_behind(beside, block))?;
        spare::put(headers);
        Ok(StoredResponse::new(status, head, store::Content::Packed, part, terms, origins, encoded))
    }

    /// Builds what is stored of a response whose content is complete.
    #[expect(
        clippy::too_many_arguments,
        reason = "these are the parts of a stored response, each of another origin"
    )]
    pub fn build(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        pieces: &[Bytes],
        part: Option<Part>,
        terms: Terms,
        origins: Origins,
        compressible: bool,
    ) -> StoredResponse {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let encoded = encodings(status, &mut headers, len, part.is_none() && compressible);
        let (head, content) = store::pack(&headers, pieces);
        StoredResponse::new(status, head, content, part, terms, origins, encoded)
    }

    /// Has an encoding made of a stored response, once, behind the answer.
    pub fn encode_later(
        self: &Arc<Self>,
        compressor: &Compressor,
        key: &[u8],
        stored: &Arc<StoredResponse>,
        coding: Coding,
    ) {
        let mut under_way = self.encoding.lock();
        if under_way.len() >= ENCODING_MAX
            || under_way.iter().any(|(other, theirs)| **other == *key && *theirs == coding)
        {
            return;
        }
        let (cache, stored, job_key): (_, _, Box<[u8]>) = (self.clone(), stored.clone(), key.into());
        let offered = compressor.offer(move || {
            // Takes the entry out of the list however the job ends.
            let _done = EncodingUnderWay { cache: &cache, key: &job_key, coding };
            let head = compress::compress(coding, &stored.pieces()).map(|content| {
                let mut headers = stored.head.to_map(2);
                negotiate::mark_encoded(&mut headers, coding);
                store::StoredHead::pack(&headers, &[content])
            });
            cache.add_encoded(&job_key, &stored, Encoded { coding, head });
        });
        if offered {
            under_way.push((key.into(), coding));
        }
    }

    fn add_encoded(&self, key: &[u8], stored: &Arc<StoredResponse>, encoded: Encoded) {
        self.memory.update(key, |present| {
            present
                .iter()
                .map(|response| {
                    if Arc::ptr_eq(response, stored) {
                        Arc::new(response.with_encoded(encoded.clone()))
                    } else {
                        response.clone()
                    }
                })
                .collect()
        });
    }

    /// Remembers that requests of this key, by clients of this kind, get answers that cannot be shared.
    /// `for_so_long`: `None` is the usual time.
    pub fn remember_uncacheable(
        &self,
        key: &[u8],
        facts: &RequestFacts,
        now: Now,
        for_so_long: Option<Duration>,
    ) {
        let until = now.mono.checked_add(for_so_long.unwrap_or(UNCACHEABLE_FOR));
        self.uncacheable.insert(self.uncacheable_key(key, facts), until.unwrap_or(now.mono));
    }

    /// Whether that was found a short while ago.
    pub fn is_known_uncacheable(&self, key: &[u8], facts: &RequestFacts, now: Now) -> bool {
        self.uncacheable.get(&self.uncacheable_key(key, facts)).is_some_and(|until| until > now.mono)
    }

    fn forget_uncacheable(&self, key: &[u8]) {
        for (authorization, cookies) in [(false, false), (false, true), (true, false), (true, true)] {
            self.uncacheable.remove(&self.uncacheable_of.hash_one((key, authorization, cookies)));
        }
    }

    /// A collision costs two resources their collapsing for a while, and nothing else.
    fn uncacheable_key(&self, key: &[u8], facts: &RequestFacts) -> u64 {
        self.uncacheable_of.hash_one((key, facts.authorization, facts.undeclared_cookies))
    }

    /// Removes what is of no use any more: purged, or past the time for which it is worth keeping.
    pub fn sweep(&self, now: Now) {
        // Memory keeps nothing longer than the tier behind it may.
        let shared_for = self.shared.as_ref().map(|shared| shared.spec().max_ttl);
        self.memory.retain(|key, stored| {
            let held = now.mono.saturating_duration_since(stored.terms.received());
            let since = now.wall.duration_since(stored.terms.received_wall()).unwrap_or_default();
            let is_over = held >= stored.terms.keep_for() || shared_for.is_some_and(|max| since >= max);
            if is_over || self.is_outdated(&stored.labels, now) {
                return Keep::No;
            }
            match stored.check(&self.purges, &self.spec, key) {
                Verdict::Valid(_) => Keep::Same,
                // Now, for the record will be forgotten.
                Verdict::Softened(how) => Keep::Other(Arc::new(softened(stored, how, now))),
                Verdict::Purged => Keep::No,
            }
        });
    }
}

/// Whether encodings will be made of it; then its fields say so. The length of content is the content's own.
fn encodings(status: StatusCode, headers: &mut HeaderMap, len: usize, compressible: bool) -> Encodings {
    headers.remove(http::header::CONTENT_LENGTH);
    if compressible && is_compressible(status, headers, Some(len as u64)) {
        negotiate::vary_on_encoding(headers);
        Encodings::Made(Box::default())
    } else {
        Encodings::Never
    }
}

fn softened(stored: &StoredResponse, how: Softened, now: Now) -> StoredResponse {
    stored.with_terms(stored.terms.softened(how.since_ms, how.grace, now), how.upto)
}

fn epoch_of(spec: &model::Cache, purges: &Purges, now: Now) -> Option<Arc<Epoch>> {
    spec.epoch.as_ref().map(|epoch| purges.begin_epoch(&spec.name, epoch, now))
}

/// Content of fills is not in the tier yet, so it has a share of its own on top.
fn fill_budget(spec: &model::Cache) -> u64 {
    (spec.max_memory / 4).max(1 << 20)
}

/// Content smaller than this is not worth compressing: it fits one packet anyway.
const COMPRESS_MIN: u64 = 1024;
/// Encodings under way at once.
const ENCODING_MAX: usize = 256;

/// Whether encodings will be made of a response, once it is stored. `len`: `None` where it is not known yet.
pub fn is_compressible(status: StatusCode, headers: &HeaderMap, len: Option<u64>) -> bool {
    len.is_none_or(|len| len >= COMPRESS_MIN) && negotiate::may_encode(status, headers)
}

struct EncodingUnderWay<'c> {
    cache: &'c NamedCache,
    key: &'c [u8],
    coding: Coding,
}

impl Drop for EncodingUnderWay<'_> {
    fn drop(&mut self) {
        self.cache.encoding.lock().retain(|(key, coding)| **key != *self.key || *coding != self.coding);
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
