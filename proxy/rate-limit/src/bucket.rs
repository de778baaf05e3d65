//! What one key has used, and whether one more may pass.

use crate::{LEASE, OVERLAP, PerQuota, Policy, QUOTAS_MAX, Ticks};

/// What one key has used of a policy. Where a server has the last word, this is what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// For each quota, when all that was let through would have been let through at an even pace.
    until: PerQuota,
    /// Units that the server has given and that nobody has used yet.
    leased: u64,
    lease_ends: Ticks,
    /// Somebody has asked for the next lease, and until then nobody else does as long as something is left of this one.
    asked_until: Ticks,
    /// Until then, whatever costs as much as this is refused.
    refused_until: Ticks,
    refused_cost: u64,
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Admitted(Standing),
    /// It may not.
    Refused(Refusal),
}

/// What is left, in the quota that has least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which quota.
    pub quota: usize,
    /// Units left.
    pub remaining: u64,
    /// Until there is one more; 0 where all of it is there.
    pub until_more: Ticks,
}

/// Why a request may not pass, and when it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What is left.
    pub standing: Standing,
    /// A bit for each quota that has no room for it.
    pub violated: u8,
    /// When it would have passed, if nobody else passes before.
    pub retry_after: Ticks,
}

/// How a decision is come to where a server has the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is known already.
    Known(Decision),
    /// The server must be asked.
    Ask(Question),
}

/// What the server is asked: for as much as it gives between two bounds, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// No less than this.
    pub least: u64,
    /// No more than this.
    pub most: u64,
    /// What is owed as far as is known here: a server that has forgotten learns it again.
    pub owed: PerQuota,
    /// When it is asked.
    pub at: Ticks,
}

impl Bucket {
    /// Decides here. `share`: of how many equal parts this proxy has one.
    pub fn decide(&mut self, policy: &Policy, now: Ticks, cost: u64, share: u64) -> Decision {
        if let Some(decision) = self.use_lease(policy, now, cost) {
            return decision;
        }
        let owed = self.owed(policy, now);
        let (granted, after) = grant(policy, &owed, cost, cost, share);
        if granted < cost {
            return Decision::Refused(refusal(policy, &owed, cost, share));
        }
        for (until, owed) in self.until.iter_mut().zip(after) {
            *until = now + owed;
        }
        Decision::Admitted(standing(policy, &after, 0, share))
    }

    /// Decides as far as that is possible without asking.
    pub fn step(&mut self, policy: &Policy, now: Ticks, cost: u64) -> Step {
        if now < self.refused_until && cost >= self.refused_cost {
            let owed = self.owed(policy, now);
            let mut refusal = refusal(policy, &owed, cost, 1);
            refusal.retry_after = refusal.retry_after.max(self.refused_until - now);
            return Step::Known(Decision::Refused(refusal));
        }
        // One asks for the next lease before this one is used up or as soon as it has ended; were all to ask who come meanwhile, each would be given a lease.
        let is_asked = now < self.asked_until;
        let ends = if is_asked { self.lease_ends + OVERLAP } else { self.lease_ends };
        let left = if now < ends { self.leased } else { 0 };
        if left >= cost && (is_asked || left > policy.lease() / 4) {
            self.leased = left - cost;
            return Step::Known(Decision::Admitted(standing(
                policy,
                &self.owed(policy, now),
                self.leased,
                1,
            )));
        }
        self.asked_until = now + OVERLAP;
        let most = policy.lease().max(cost);
        Step::Ask(Question { least: cost, most, owed: self.owed(policy, now), at: now })
    }

    /// What comes of a question: so many units were given, and so much is owed now.
    pub fn answered(
        &mut self,
        policy: &Policy,
        asked: &Question,
        now: Ticks,
        granted: u64,
        owed: &PerQuota,
    ) -> Decision {
        self.asked_until = 0;
        // Counted from when it was asked: a little less is owed than the server says, and never more.
        for (until, owed) in self.until.iter_mut().zip(owed) {
            *until = (*until).max(asked.at + owed);
        }
        let owed = self.owed(policy, now);
        if granted < asked.least {
            let refusal = refusal(policy, &owed, asked.least, 1);
            self.refused_until = now + refusal.retry_after;
            self.refused_cost = asked.least;
            return Decision::Refused(refusal);
        }
        let spare = granted - asked.least;
        if spare > 0 {
            let left = if now < self.lease_ends { self.leased } else { 0 };
            (self.leased, self.lease_ends) = (left + spare, now + LEASE);
        }
        Decision::Admitted(standing(policy, &owed, self.leased_at(now), 1))
    }

    /// Takes what was used since, without asking whether there is room: what a request turned out to cost.
    pub fn charge(&mut self, policy: &Policy, now: Ticks, cost: u64, share: u64) {
        let owed = self.owed(policy, now);
        for ((until, quota), owed) in self.until.iter_mut().zip(policy.quotas()).zip(owed) {
            *until = now
                + (owed + quota.interval().saturating_mul(cost.saturating_mul(share))).min(quota.tolerance());
        }
        self.leased = self.leased.saturating_sub(cost);
    }

    /// Whether forgetting it changes nothing.
    pub fn is_idle(&self, now: Ticks) -> bool {
        self.last() <= now && self.leased_at(now) == 0 && self.refused_until <= now
    }

    /// When it will be.
    pub(crate) fn last(&self) -> Ticks {
        self.until.iter().copied().max().unwrap_or_default()
    }

    fn leased_at(&self, now: Ticks) -> u64 {
        if now < self.lease_ends { self.leased } else { 0 }
    }

    fn use_lease(&mut self, policy: &Policy, now: Ticks, cost: u64) -> Option<Decision> {
        let leased = self.leased_at(now);
        if leased < cost {
            return None;
        }
        self.leased = leased - cost;
        Some(Decision::Admitted(standing(policy, &self.owed(policy, now), self.leased, 1)))
    }

    /// What is owed now. Nobody can owe more than the whole: a clock that went back would have it so.
    fn owed(&self, policy: &Policy, now: Ticks) -> PerQuota {
        let mut owed = [0; QUOTAS_MAX];
        for ((owed, until), quota) in owed.iter_mut().zip(self.until).zip(policy.quotas()) {
            *owed = until.saturating_sub(now).min(quota.tolerance());
        }
        owed
    }
}

/// As many units as there is room for, from `least` to `most`, or none; and what is owed then. The script in Redis does the same.
pub(crate) fn grant(policy: &Policy, owed: &PerQuota, least: u64, most: u64, share: u64) -> (u64, PerQuota) {
    let mut granted = most;
    for (quota, owed) in policy.quotas().iter().zip(owed) {
        let step = quota.interval() * share;
        // A share of less than one request would be none at all.
        let tolerance = quota.tolerance().max(step.saturating_mul(least));
        let room = tolerance.saturating_sub(*owed);
        // Most often there is room, and a multiplication shows it sooner than a division.
        if step.saturating_mul(granted) > room {
            granted = room / step;
        }
    }
    if granted < least {
        return (0, *owed);
    }
    let mut after = *owed;
    for (after, quota) in after.iter_mut().zip(policy.quotas()) {
        *after += quota.interval() * share * granted;
    }
    (granted, after)
}

fn standing(policy: &Policy, owed: &PerQuota, leased: u64, share: u64) -> Standing {
    let mut least = Standing { quota: 0, remaining: u64::MAX, until_more: 0 };
    for (index, (quota, owed)) in policy.quotas().iter().zip(owed).enumerate() {
        let step = quota.interval() * share;
        let room = quota.tolerance().saturating_sub(*owed);
        let remaining = room / step + leased;
        if remaining < least.remaining {
            let until_more = if *owed == 0 { 0 } else { step - room % step };
            least = Standing { quota: index, remaining, until_more };
        }
    }
    least
}

fn refusal(policy: &Policy, owed: &PerQuota, cost: u64, share: u64) -> Refusal {
    let (mut violated, mut retry_after) = (0, 0);
    for (index, (quota, owed)) in policy.quotas().iter().zip(owed).enumerate() {
        let price = (quota.interval() * share).saturating_mul(cost);
        let after = owed + price;
        let tolerance = quota.tolerance().max(price);
        if after > tolerance {
            violated |= 1 << index;
            retry_after = retry_after.max(after - tolerance);
        }
    }
    Refusal { standing: standing(policy, owed, 0, share), violated, retry_after }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Quota, SECOND};

    fn policy(rates: &[(u64, u64, Option<u64>)]) -> Policy {
        let quota = |(units, seconds, burst): &(u64, u64, Option<u64>)| {
            Quota::new(*units, Duration::from_secs(*seconds), *burst).unwrap()
        };
        Policy::new(rates.iter().map(quota).collect()).unwrap()
    }

    const NOW: Ticks = 1_000 * SECOND;

    #[test]
    fn sixty_a_minute_admit_sixty_at_once_and_refuse_the_61st_for_a_second() {
        let (policy, mut bucket) = (policy(&[(60, 60, None)]), Bucket::default());
        for left in (0..60).rev() {
            let Decision::Admitted(standing) = bucket.decide(&policy, NOW, 1, 1) else { panic!("{left}") };
            assert_eq!((standing.remaining, standing.until_more), (left, SECOND));
        }
        let Decision::Refused(refusal) = bucket.decide(&policy, NOW, 1, 1) else { panic!("the 61st") };
        assert_eq!((refusal.retry_after, refusal.standing.until_more, refusal.violated), (SECOND, SECOND, 1));
        assert!(matches!(bucket.decide(&policy, NOW + SECOND - 1, 1, 1), Decision::Refused(_)));
        assert!(matches!(bucket.decide(&policy, NOW + SECOND, 1, 1), Decision::Admitted(_)));
        assert!(matches!(bucket.decide(&policy, NOW + SECOND, 1, 1), Decision::Refused(_)));
    }

    #[test]
    fn all_quotas_must_have_room_and_none_is_charged_for_what_another_refuses() {
        let (policy, mut bucket) = (policy(&[(2, 1, None), (3, 60, None)]), Bucket::default());
        let mut at = |now| bucket.decide(&policy, now, 1, 1);
        assert!(matches!(at(NOW), Decision::Admitted(_)));
        assert!(matches!(at(NOW), Decision::Admitted(_)));
        let Decision::Refused(refusal) = at(NOW) else { panic!("two a second") };
        assert_eq!((refusal.violated, refusal.standing.quota), (0b01, 0));
        assert!(matches!(at(NOW + SECOND), Decision::Admitted(_)));
        let Decision::Refused(refusal) = at(NOW + SECOND * 2) else { panic!("three a minute") };
        assert_eq!((refusal.violated, refusal.retry_after), (0b10, SECOND * 18));
    }

    #[test]
    fn a_share_is_an_even_part_and_never_less_than_one() {
        let policy = policy(&[(60, 60, None)]);
        for (share, admitted) in [(1, 60), (3, 20), (7, 8), (60, 1), (1_000, 1)] {
            let mut bucket = Bucket::default();
            let passed =
                (0..100).filter(|_| matches!(bucket.decide(&policy, NOW, 1, share), Decision::Admitted(_)));
            assert_eq!(passed.count(), admitted, "one of {share}");
        }
    }

    #[test]
    fn what_was_used_through_the_server_counts_when_it_is_gone() {
        let (policy, mut bucket) = (policy(&[(60, 60, None)]), Bucket::default());
        // Others and we have used 30 of 60, says the server.
        let Step::Ask(question) = bucket.step(&policy, NOW, 1) else { panic!("nothing is known") };
        assert_eq!((question.least, question.most), (1, 1));
        bucket.answered(&policy, &question, NOW, 1, &[30 * SECOND, 0, 0, 0]);
        let passed = (0..60).filter(|_| matches!(bucket.decide(&policy, NOW, 1, 3), Decision::Admitted(_)));
        assert_eq!(passed.count(), 10, "a third of the 30 that are left");
        let Step::Ask(question) = bucket.step(&policy, NOW, 1) else { panic!("it is not full") };
        assert_eq!(question.owed[0], 60 * SECOND, "and a server that came back empty learns of it");
    }

    #[test]
    fn a_lease_is_used_up_without_asking_and_ends() {
        let (policy, mut bucket) = (policy(&[(1_000, 1, None)]), Bucket::default());
        let Step::Ask(question) = bucket.step(&policy, NOW, 1) else { panic!("nothing is known") };
        assert_eq!((question.least, question.most), (1, 20));
        let owed = [20 * SECOND / 1_000, 0, 0, 0];
        let Decision::Admitted(standing) = bucket.answered(&policy, &question, NOW, 20, &owed) else {
            panic!()
        };
        assert_eq!(standing.remaining, 999);
        // 19 are left, and the next lease is asked for when a quarter of one is.
        for left in (985..999).rev() {
            let Step::Known(Decision::Admitted(standing)) = bucket.step(&policy, NOW, 1) else {
                panic!("{left}")
            };
            assert_eq!(standing.remaining, left);
        }
        assert!(matches!(bucket.step(&policy, NOW, 1), Step::Ask(_)));
        bucket.answered(&policy, &question, NOW, 20, &owed);
        assert!(matches!(bucket.step(&policy, NOW + LEASE, 1), Step::Ask(_)), "after its end");
    }

    #[test]
    fn one_asks_for_the_next_lease_and_the_others_go_on_with_what_is_left() {
        let (policy, mut bucket) = (policy(&[(1_000, 1, None)]), Bucket::default());
        let owed = [20 * SECOND / 1_000, 0, 0, 0];
        let is_known = |step| matches!(step, Step::Known(Decision::Admitted(_)));
        let lease = |bucket: &mut Bucket, now| {
            let Step::Ask(question) = bucket.step(&policy, now, 1) else { panic!("nothing is left") };
            bucket.answered(&policy, &question, now, 20, &owed);
        };
        // Used up: one asks, five go on, and whoever comes then has to ask, too.
        lease(&mut bucket, NOW);
        let asked = (0..20).position(|_| !is_known(bucket.step(&policy, NOW, 1)));
        assert_eq!(asked, Some(14));
        let more = (0..20).take_while(|_| is_known(bucket.step(&policy, NOW, 1)));
        assert_eq!(more.count(), 5);
        // Ended: likewise, for a quarter of its time.
        let mut bucket = Bucket::default();
        lease(&mut bucket, NOW);
        assert!(!is_known(bucket.step(&policy, NOW + LEASE, 1)));
        assert!(is_known(bucket.step(&policy, NOW + LEASE + OVERLAP - 1, 1)));
        assert!(!is_known(bucket.step(&policy, NOW + LEASE + OVERLAP, 1)), "no answer: the next one asks");
        // What is left of a lease that has ended is not added to the next one.
        let mut bucket = Bucket::default();
        lease(&mut bucket, NOW);
        lease(&mut bucket, NOW + LEASE);
        assert_eq!(bucket.leased, 19);
    }

    #[test]
    fn a_refusal_is_remembered_until_it_is_over() {
        let (policy, mut bucket) = (policy(&[(60, 60, None)]), Bucket::default());
        let Step::Ask(question) = bucket.step(&policy, NOW, 5) else { panic!("nothing is known") };
        let owed = [58 * SECOND, 0, 0, 0];
        let Decision::Refused(refusal) = bucket.answered(&policy, &question, NOW, 0, &owed) else { panic!() };
        assert_eq!((refusal.retry_after, refusal.standing.remaining), (3 * SECOND, 2));
        let known = bucket.step(&policy, NOW + SECOND, 5);
        assert!(
            matches!(known, Step::Known(Decision::Refused(refusal)) if refusal.retry_after == 2 * SECOND)
        );
        assert!(matches!(bucket.step(&policy, NOW + SECOND, 1), Step::Ask(_)), "what costs less may pass");
        assert!(matches!(bucket.step(&policy, NOW + 3 * SECOND, 5), Step::Ask(_)));
    }

    #[test]
    fn a_clock_that_went_back_does_not_shut_anybody_out_for_longer_than_the_window() {
        let (policy, mut bucket) = (policy(&[(60, 60, None)]), Bucket::default());
        for _ in 0..60 {
            bucket.decide(&policy, NOW, 1, 1);
        }
        let hour_before = NOW - 900 * SECOND;
        let Decision::Refused(refusal) = bucket.decide(&policy, hour_before, 1, 1) else { panic!() };
        assert_eq!(refusal.retry_after, SECOND);
    }
}
