//! The tiers behind memory: Redis, then disk.

use std::time::Instant;

use super::*;

impl Exchange {
    /// Looks into the tier behind memory. `Some`: it has put something into memory, and this is what the cache says now. An error: it is not to be
    /// done without, and cannot be asked.
    pub(super) async fn look_behind(
        &self,
        key: &[u8],
        facts: &RequestFacts,
    ) -> Result<Option<Decision>, ProxyError> {
        let cache = self.cache();
        if let Some(tier) = &cache.shared {
            match Box::pin(tier.look(cache, key, self.presented.fields(), self.clock())).await {
                Looked::Found => return Ok(Some(self.found_behind(key, facts, Reason::Redis))),
                Looked::Skipped if tier.spec().required => return Err(ProxyError::RedisFailed),
                Looked::Nothing | Looked::Skipped => {}
            }
        }
        Ok(self.look_on_disk(key, facts).await)
    }

    /// Likewise, on disk.
    pub(super) async fn look_on_disk(&self, key: &[u8], facts: &RequestFacts) -> Option<Decision> {
        let cache = self.cache();
        let found = cache.bodies()?.look(cache, key, self.presented.fields(), self.clock()).await;
        found.then(|| self.found_behind(key, facts, Reason::Disk))
    }

    pub(super) fn found_behind(&self, key: &[u8], facts: &RequestFacts, tier: Reason) -> Decision {
        match self.decide(key, facts) {
            Decision::Hit(mut hit) => {
                hit.status.detail = hit.status.detail.or(Some(tier));
                Decision::Hit(hit)
            }
            decision => decision,
        }
    }

    /// Likewise, for one who is about to fill. Where there is nothing, it gets the right to fill for all proxies, or waits for who has it.
    pub(super) async fn behind_memory(
        &mut self,
        key: &[u8],
        facts: &RequestFacts,
    ) -> Result<Option<Decision>, ProxyError> {
        let cache = self.cache().clone();
        let Some(tier) = &cache.shared else { return Ok(self.look_on_disk(key, facts).await) };
        let looked = Instant::now();
        // Boxed, here and below: each is larger than all the rest of a miss, which need not have such a tier.
        match Box::pin(tier.look(&cache, key, self.presented.fields(), self.clock())).await {
            Looked::Found => return Ok(Some(self.found_behind(key, facts, Reason::Redis))),
            Looked::Skipped if tier.spec().required => return Err(ProxyError::RedisFailed),
            Looked::Skipped => return Ok(self.look_on_disk(key, facts).await),
            Looked::Nothing => {}
        }
        if let Some(found) = self.look_on_disk(key, facts).await {
            return Ok(Some(found));
        }
        let clock = &self.worker.proxy.clock;
        Ok(match Box::pin(tier.lease(&cache, key, self.presented.fields(), clock, looked)).await {
            Leased::Lead(lease) => {
                self.lease = lease;
                None
            }
            Leased::Found => match self.found_behind(key, facts, Reason::Redis) {
                Decision::Hit(mut hit) => {
                    hit.status.collapsed = true;
                    Some(Decision::Hit(hit))
                }
                decision => Some(decision),
            },
        })
    }
}
